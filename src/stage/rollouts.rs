//! The stage `rollouts`: every contestant of a run plays the same seeds in every environment.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{JobResult, JobSpec, Outcome, Plan, Scope, Stage, Work};
use crate::{
    engine::{
        Needs, SPEC_MALFORMED,
        rollouts::{self as play, Answer, KIND, Spec},
    },
    fault::{Class, Fault},
    gym::{
        env::Environment,
        isolation::Host,
        policy::{self, Backend, BackendChoice, FUSED_VERSION},
        rollouts::Verdict,
    },
    ids::SubmissionId,
    score::outcomes::RolloutEvidence,
    weights::bundle,
};

/// How long the jobs of one run may show no progress.
const PLAN_DEADLINE_MS: u64 = 3_600_000;
/// How often a job may fail by a fault that is not the miner's.
const JOB_RETRIES: u32 = 3;

/// What the profile says of the stage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The environments, by gymnasium's ids.
    pub environments: Vec<Environment>,
    /// Episodes in each.
    pub episodes: u32,
    /// The ONNX backend of record: `embedded` or `onnxruntime`.
    #[serde(default = "embedded")]
    pub backend: String,
}

fn embedded() -> String {
    "embedded".to_owned()
}

impl Options {
    /// Reads and checks a profile's options.
    ///
    /// # Errors
    /// Says in words which option is wrong.
    pub fn parse(options: &Value) -> Result<Self, String> {
        let parsed: Self = serde_json::from_value(options.clone()).map_err(|source| source.to_string())?;
        let unique: std::collections::BTreeSet<&str> = parsed.environments.iter().map(|one| one.id()).collect();
        if parsed.environments.is_empty() || unique.len() != parsed.environments.len() {
            return Err("`environments` names each environment once, and at least one".to_owned());
        }
        if !(1..=10_000).contains(&parsed.episodes) {
            return Err(format!("`episodes` is {}, it must be 1 to 10000", parsed.episodes));
        }
        if !matches!(parsed.backend.as_str(), "embedded" | "onnxruntime") {
            return Err(format!("`backend` is `{}`, it must be `embedded` or `onnxruntime`", parsed.backend));
        }
        Ok(parsed)
    }
}

/// Plans and folds rollouts.
pub struct Rollouts {
    options: Options,
    backend: BackendChoice,
    host: Host,
    /// What the backend says of itself. A process keeps the one it has, so that it is asked once.
    record: OnceCell<bundle::Backend>,
}

impl Rollouts {
    /// The stage with these options; `backend` is the one that `host` plays on.
    #[must_use]
    pub const fn new(options: Options, backend: BackendChoice, host: Host) -> Self {
        Self { options, backend, host, record: OnceCell::const_new() }
    }

    /// The backend of record with its version, as it stands in the evidence of every run.
    async fn backend_of_record(&self) -> Result<&bundle::Backend, Fault> {
        let ask = || async {
            let (backend, host) = (self.backend.clone(), self.host.clone());
            play::compute(move || describe(&backend, &host)).await
        };
        self.record.get_or_try_init(ask).await
    }
}

/// Asks the backend for its version: the embedded one here, a foreign one in a child, as it would be played on. Plain
/// networks are fused whatever the backend, so the version of that arithmetic is part of the record.
fn describe(backend: &BackendChoice, host: &Host) -> Result<bundle::Backend, Fault> {
    let version = match backend {
        BackendChoice::Embedded => Backend::init(backend)?.version().to_owned(),
        // The child ends by itself: it only loads the library and says its name.
        BackendChoice::Onnxruntime(_) => host.describe(backend, &|_steps| Verdict::Go)?.version,
    };
    Ok(bundle::Backend { name: backend.name().to_owned(), version: format!("{version}; fused {FUSED_VERSION}") })
}

#[async_trait]
impl Stage for Rollouts {
    fn scope(&self) -> Scope {
        Scope::Run
    }

    async fn run(&self, work: &Work) -> Outcome {
        let Some((run, seed)) = work.run.as_ref().and_then(|run| run.seed.as_ref().map(|seed| (run, seed))) else {
            return Outcome::Retry(SPEC_MALFORMED.because("rollouts need a run with a seed: set `seed_delay_blocks`"));
        };
        let backend = match self.backend_of_record().await {
            Ok(backend) => backend,
            Err(fault) => return Outcome::Retry(fault),
        };
        let mut jobs = Vec::new();
        for contestant in &work.contestants {
            for environment in &self.options.environments {
                let spec = Spec {
                    environment: environment.id().to_owned(),
                    episodes: self.options.episodes,
                    challenge: work.challenge.clone(),
                    run: run.number,
                    block_hash: seed.hash,
                };
                jobs.push(JobSpec {
                    kind: KIND.to_owned(),
                    contestants: vec![contestant.submission],
                    spec: json!(spec),
                    needs: Needs::ONE_CPU,
                    replicas: 1,
                    quorum: 1,
                    retries: JOB_RETRIES,
                    timeout_ms: timeout_ms(*environment, self.options.episodes),
                });
            }
        }
        Outcome::Jobs(Plan { jobs, deadline_ms: PLAN_DEADLINE_MS, data: json!({ "backend": backend }) })
    }

    fn fold(&self, work: &Work, plan: &Plan, results: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        let run = work.run.as_ref().map_or(0, |run| run.number);
        work.contestants
            .iter()
            .map(|contestant| {
                let own =
                    plan.jobs.iter().zip(results).filter(|(job, _)| job.contestants.contains(&contestant.submission));
                (contestant.submission, outcome_of(run, own))
            })
            .collect()
    }
}

/// Wall time of one job: more than any policy that passed the checks may take.
fn timeout_ms(environment: Environment, episodes: u32) -> u64 {
    policy::wall_ms_max(policy::rows_max(environment, episodes.into()))
}

/// One contestant's outcome: a miner's fault in any environment rejects it, any other fault tries it again, and what
/// it did not submit counts as failed.
fn outcome_of<'a>(run: u64, own: impl Iterator<Item = (&'a JobSpec, &'a JobResult)>) -> Outcome {
    let mut environments = BTreeMap::new();
    let mut trouble: Option<Fault> = None;
    for (job, result) in own {
        let environment = job.spec["environment"].as_str().unwrap_or_default().to_owned();
        match &result.outcome {
            Err(fault) if fault.class == Class::Miner => {
                let mut fault = fault.clone();
                fault.detail = format!("{environment}: {}", fault.detail);
                return Outcome::Reject(fault, Value::Null);
            }
            Err(fault) => trouble = Some(fault.clone()),
            Ok(Value::Null) => {}
            Ok(records) => match serde_json::from_value::<Answer>(records.clone()) {
                Ok(answer) => drop(environments.insert(environment, answer.result)),
                Err(source) => trouble = Some(SPEC_MALFORMED.because(source.to_string())),
            },
        }
    }
    if let Some(fault) = trouble {
        return Outcome::Retry(fault);
    }
    let evidence = RolloutEvidence { run, environments };
    Outcome::Pass(json!(evidence))
}

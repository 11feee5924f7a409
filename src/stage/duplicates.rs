//! The stage `duplicates`: contestants of a run that sent what an earlier one had sent are refused.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{JobResult, JobSpec, Outcome, Plan, Scope, Stage, Work};
use crate::{
    engine::{
        Needs, SPEC_MALFORMED,
        compare::{Answer, KIND, Spec},
    },
    gym::{env::Environment, rollouts::SAMPLE_MAX},
    ids::SubmissionId,
};

/// Wall time of the job: minutes more than a run of a whole subnet takes.
const JOB_TIMEOUT_MS: u64 = 900_000;
/// How often the job may fail by a fault that is not the miner's.
const JOB_RETRIES: u32 = 3;

/// What the profile says of the stage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Observations on which policies are compared, in each environment.
    #[serde(default = "observations")]
    pub observations: usize,
}

const fn observations() -> usize {
    256
}

impl Options {
    /// Reads and checks a profile's options.
    ///
    /// # Errors
    /// Says in words which option is wrong.
    pub fn parse(options: &Value) -> Result<Self, String> {
        let given = if options.is_null() { json!({}) } else { options.clone() };
        let parsed: Self = serde_json::from_value(given).map_err(|source| source.to_string())?;
        if !(32..=SAMPLE_MAX).contains(&parsed.observations) {
            return Err(format!("`observations` is {}, it must be 32 to {SAMPLE_MAX}", parsed.observations));
        }
        Ok(parsed)
    }
}

/// Plans and folds comparisons.
pub struct Duplicates {
    options: Options,
    environments: Vec<Environment>,
}

impl Duplicates {
    /// The stage with these options, for these environments.
    #[must_use]
    pub const fn new(options: Options, environments: Vec<Environment>) -> Self {
        Self { options, environments }
    }
}

#[async_trait]
impl Stage for Duplicates {
    fn scope(&self) -> Scope {
        Scope::Run
    }

    async fn run(&self, work: &Work) -> Outcome {
        let Some((run, seed)) = work.run.as_ref().and_then(|run| run.seed.as_ref().map(|seed| (run, seed))) else {
            return Outcome::Retry(
                SPEC_MALFORMED.because("comparing needs a run with a seed: set `seed_delay_blocks`"),
            );
        };
        let spec = Spec {
            environments: self.environments.iter().map(|environment| environment.id().to_owned()).collect(),
            observations: self.options.observations,
            challenge: work.challenge.clone(),
            run: run.number,
            block_hash: seed.hash,
        };
        let job = JobSpec {
            kind: KIND.to_owned(),
            contestants: work.contestants.iter().map(|contestant| contestant.submission).collect(),
            spec: json!(spec),
            needs: Needs::ONE_CPU,
            replicas: 1,
            quorum: 1,
            retries: JOB_RETRIES,
            timeout_ms: JOB_TIMEOUT_MS,
        };
        Outcome::Jobs(Plan { jobs: vec![job], deadline_ms: 2 * JOB_TIMEOUT_MS, data: Value::Null })
    }

    fn fold(&self, work: &Work, _plan: &Plan, results: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        let everybody = |outcome: &Outcome| {
            work.contestants.iter().map(|contestant| (contestant.submission, outcome.clone())).collect()
        };
        let Some(result) = results.first() else { return BTreeMap::new() };
        let answer: Answer = match &result.outcome {
            // A comparison is nobody's fault alone: whatever failed, it is tried again.
            Err(fault) => {
                let fault = crate::fault::Fault { class: crate::fault::Class::Infra, ..fault.clone() };
                return everybody(&Outcome::Retry(fault));
            }
            Ok(records) => match serde_json::from_value(records.clone()) {
                Ok(answer) => answer,
                Err(source) => return everybody(&Outcome::Retry(SPEC_MALFORMED.because(source.to_string()))),
            },
        };
        let copies: BTreeMap<&str, _> = answer.copies.iter().map(|copy| (copy.copy.as_str(), copy)).collect();
        work.contestants
            .iter()
            .map(|contestant| {
                let outcome = match copies.get(contestant.submission.to_string().as_str()) {
                    Some(copy) => Outcome::Reject(copy.fault()),
                    None => Outcome::Pass(json!({ "observations": answer.observations })),
                };
                (contestant.submission, outcome)
            })
            .collect()
    }
}

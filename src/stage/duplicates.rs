//! The stage `duplicates`: contestants of a run that sent what an earlier one had sent are refused.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{JobResult, JobSpec, Outcome, Plan, Scope, Stage, Work};
use crate::{
    engine::{
        Needs, SPEC_MALFORMED,
        compare::{Answer, EPISODES, KIND, Spec},
    },
    fault::{Class, Fault},
    gym::{env::Environment, policy, rollouts::SAMPLE_MAX},
    ids::SubmissionId,
};

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

    /// Wall time of the job: more than all the contestants may take, one after the other.
    fn timeout_ms(&self, contestants: usize) -> u64 {
        let rows = |environment: &Environment| {
            policy::rows_max(*environment, EPISODES.into()).saturating_add(self.options.observations as u64)
        };
        let each: u64 = self.environments.iter().map(|environment| policy::wall_ms_max(rows(environment))).sum();
        each.saturating_mul(contestants.max(1) as u64)
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
            timeout_ms: self.timeout_ms(work.contestants.len()),
        };
        let deadline_ms = job.timeout_ms.saturating_mul(2);
        Outcome::Jobs(Plan { jobs: vec![job], deadline_ms, data: Value::Null })
    }

    fn fold(&self, work: &Work, _plan: &Plan, results: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        let everybody = |outcome: &Outcome| {
            work.contestants.iter().map(|contestant| (contestant.submission, outcome.clone())).collect()
        };
        let Some(result) = results.first() else { return BTreeMap::new() };
        let answer: Answer = match &result.outcome {
            Err(fault) => return everybody(&Outcome::Retry(nobodys(fault))),
            Ok(records) => match serde_json::from_value(records.clone()) {
                Ok(answer) => answer,
                Err(source) => return everybody(&Outcome::Retry(SPEC_MALFORMED.because(source.to_string()))),
            },
        };
        let copies: BTreeMap<&str, _> = answer.copies.iter().map(|copy| (copy.copy.as_str(), copy)).collect();
        work.contestants
            .iter()
            .map(|contestant| {
                let name = contestant.submission.to_string();
                let outcome = match (copies.get(name.as_str()), answer.faults.get(&name)) {
                    (Some(copy), _) => Outcome::Reject(copy.fault(), json!(copy)),
                    (None, Some(fault)) if fault.class == Class::Miner => Outcome::Reject(fault.clone(), Value::Null),
                    (None, Some(fault)) => Outcome::Retry(fault.clone()),
                    (None, None) => Outcome::Pass(json!({ "observations": answer.observations })),
                };
                (contestant.submission, outcome)
            })
            .collect()
    }
}

/// A comparison as a whole is no miner's fault, whatever failed. Every other class stays what it is: an operator's
/// trouble waits for the operator.
fn nobodys(fault: &Fault) -> Fault {
    match fault.class {
        Class::Miner => Fault { class: Class::Infra, ..fault.clone() },
        _ => fault.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dedup::policy::{CopyVerdict, Kind},
        engine::Contestant,
        fault::Code,
        ids::{Digest, Hotkey, Priority},
    };

    fn work(contestants: i64) -> Work {
        let contestant = |id: i64| Contestant {
            submission: SubmissionId(id),
            hotkey: Hotkey([u8::try_from(id).expect("few"); 32]),
            artifact: Digest::of(&id.to_le_bytes()),
            priority: Priority { block: 1, index: 0 },
            incumbent: false,
        };
        Work {
            challenge: "c".to_owned(),
            stage: "duplicates".to_owned(),
            run: None,
            contestants: (1..=contestants).map(contestant).collect(),
            parts: BTreeMap::new(),
            coldkey: None,
            peers: Vec::new(),
        }
    }

    fn fold(outcome: Result<Value, Fault>, contestants: i64) -> Vec<Outcome> {
        let stage = Duplicates::new(Options { observations: 256 }, vec![Environment::CartPole]);
        let plan = Plan { jobs: Vec::new(), deadline_ms: 1, data: Value::Null };
        stage.fold(&work(contestants), &plan, &[JobResult { outcome }]).into_values().collect()
    }

    #[test]
    fn a_failed_job_is_no_miners_fault_and_keeps_every_other_class() {
        for (given, taken) in [
            (Class::Miner, Class::Infra),
            (Class::Infra, Class::Infra),
            (Class::Provider, Class::Provider),
            (Class::Operator, Class::Operator),
            (Class::Bug, Class::Bug),
        ] {
            let fault = Code::new(given, "some_code", "says", "hint").because("detail");
            for outcome in fold(Err(fault), 2) {
                let Outcome::Retry(fault) = outcome else { panic!("{outcome:?}") };
                assert_eq!((fault.class, fault.code.as_str()), (taken, "some_code"));
            }
        }
    }

    #[test]
    fn each_contestant_has_its_own_answer() {
        let name = |id: i64| SubmissionId(id).to_string();
        let copy = CopyVerdict { copy: name(2), victim: name(1), kind: Kind::SameBytes, environments: BTreeMap::new() };
        let fault = |class| Code::new(class, "some_code", "says", "hint").because("detail");
        let answer = Answer {
            copies: vec![copy],
            observations: BTreeMap::new(),
            faults: BTreeMap::from([(name(3), fault(Class::Infra)), (name(4), fault(Class::Miner))]),
        };
        let outcomes = fold(Ok(json!(answer)), 4);
        assert!(matches!(&outcomes[0], Outcome::Pass(_)), "{outcomes:?}");
        assert!(matches!(&outcomes[1], Outcome::Reject(fault, _) if fault.code == "duplicate_bytes"), "{outcomes:?}");
        assert!(matches!(&outcomes[2], Outcome::Retry(fault) if fault.class == Class::Infra), "{outcomes:?}");
        assert!(matches!(&outcomes[3], Outcome::Reject(fault, _) if fault.code == "some_code"), "{outcomes:?}");
    }

    #[test]
    fn the_job_has_time_for_all_its_contestants() {
        let stage = Duplicates::new(Options { observations: 256 }, Environment::ALL.to_vec());
        assert_eq!(stage.timeout_ms(256), 256 * stage.timeout_ms(1));
        assert_eq!(stage.timeout_ms(0), stage.timeout_ms(1));
    }
}

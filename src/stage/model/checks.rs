//! The stage `checks` of models: what can be seen from outside first, then the whole of it, read once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::{
    Models,
    fetched::{evidence, named, outcome},
};
use crate::{
    ids::SubmissionId,
    stage::{JobResult, Outcome, Plan, Scope, Stage, Work},
};

/// Checks models.
pub struct Checks {
    models: Models,
}

impl Checks {
    /// Checks of these models.
    #[must_use]
    pub const fn new(models: Models) -> Self {
        Self { models }
    }
}

#[async_trait]
impl Stage for Checks {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    async fn run(&self, work: &Work) -> Outcome {
        let Some(contestant) = work.contestants.first() else { return Outcome::Pass(json!(null)) };
        let (repo, digest) = match named(work) {
            Ok(named) => named,
            Err(fault) => return Outcome::Retry(fault),
        };
        // First of all, while there is room for it: without it nobody can be judged.
        if let Err(fault) = self.models.base().await {
            return Outcome::Retry(fault);
        }
        let looked = match self.models.look(repo, digest).await {
            Ok(looked) => looked,
            Err(refused) => return outcome(refused),
        };
        match self.models.print(contestant.artifact, &looked).await {
            Ok(print) => Outcome::Pass(evidence(&looked, &print)),
            Err(mut refused) => {
                refused.steps.splice(0..0, looked.passed.steps);
                outcome(refused)
            }
        }
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        BTreeMap::new()
    }
}

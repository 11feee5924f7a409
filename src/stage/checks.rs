//! The stage `checks`: reads the artifact and refuses what no runtime should ever see.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::{JobResult, Outcome, Plan, Scope, Stage, Work};
use crate::{
    artifact::{
        self, Bundle,
        policy::{self, Wanted},
    },
    fault::{Class, Fault},
    gym::{
        env::{Actions, Environment},
        policy::{BackendChoice, Policy},
    },
    ids::SubmissionId,
    store::Blobs,
};

/// Checks policies.
pub struct Checks {
    blobs: Blobs,
    limits: artifact::Limits,
    environments: Vec<Environment>,
    backend: BackendChoice,
}

impl Checks {
    /// Checks of artifacts in this object store, for these environments.
    #[must_use]
    pub const fn new(
        blobs: Blobs,
        limits: artifact::Limits,
        environments: Vec<Environment>,
        backend: BackendChoice,
    ) -> Self {
        Self { blobs, limits, environments, backend }
    }
}

/// Reads a bundle and proves that every policy in it can be loaded. `waag check` calls exactly this.
///
/// # Errors
/// The first rule that is broken; class `miner`, unless the backend is missing.
pub fn check(
    bytes: &[u8],
    limits: &artifact::Limits,
    environments: &[Environment],
    backend: &BackendChoice,
) -> Result<Bundle, Fault> {
    let bundle = Bundle::read(bytes, limits)?;
    let wanted: Vec<Wanted<'_>> = environments.iter().map(|environment| wanted(*environment)).collect();
    policy::check(&bundle, &wanted)?;
    for (id, model) in &bundle.models {
        if let Some(environment) = Environment::parse(id) {
            Policy::load(&model.plain, environment, backend)?;
        }
    }
    Ok(bundle)
}

fn wanted(environment: Environment) -> Wanted<'static> {
    let actions = match environment.actions() {
        Actions::Discrete(count) => policy::Actions::Discrete(count as u64),
        Actions::Continuous(width) => policy::Actions::Continuous(width as u64),
    };
    Wanted { environment: environment.id(), obs_dim: environment.obs_dim() as u64, actions }
}

#[async_trait]
impl Stage for Checks {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    async fn run(&self, work: &Work) -> Outcome {
        let Some(contestant) = work.contestants.first() else { return Outcome::Pass(json!(null)) };
        let bytes = match self.blobs.get(&contestant.artifact, self.limits.archive_bytes).await {
            Ok(bytes) => bytes,
            Err(source) => return Outcome::Retry(source.fault()),
        };
        let (limits, environments, backend) = (self.limits.clone(), self.environments.clone(), self.backend.clone());
        let checked = tokio::task::spawn_blocking(move || check(&bytes, &limits, &environments, &backend)).await;
        match checked {
            Ok(Ok(bundle)) => Outcome::Pass(evidence(&bundle)),
            Ok(Err(fault)) if fault.class == Class::Miner => Outcome::Reject(fault, json!(null)),
            Ok(Err(fault)) => Outcome::Retry(fault),
            Err(source) => {
                Outcome::Retry(crate::engine::SPEC_MALFORMED.because(format!("the checks ended early: {source}")))
            }
        }
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        BTreeMap::new()
    }
}

fn evidence(bundle: &Bundle) -> serde_json::Value {
    let models: BTreeMap<&str, serde_json::Value> =
        bundle.models.iter().map(|(id, model)| (id.as_str(), json!(model.summary))).collect();
    json!({ "content": bundle.content_digest, "models": models })
}

//! The job kind `rollouts`: one contestant plays the run's episodes in one environment.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{CANCELLED, Contestant, Job, Progress, Records, Task};
use crate::{
    artifact::{self, Bundle},
    fault::{Class, Code, Fault},
    gym::{
        env::Environment,
        isolation::Host,
        policy::{BackendChoice, Policy, Runtime},
        rollouts::{Episode, Request, Verdict},
        seeds,
    },
    ids::Digest,
    score::outcomes::{EnvironmentResult, Successes},
    store::Blobs,
};

/// The name of this kind of job.
pub const KIND: &str = "rollouts";

/// A job's parameters are not what this kind of job takes.
pub const SPEC_MALFORMED: Code = Code::new(
    Class::Bug,
    "job_malformed",
    "the job's parameters are not of its kind",
    "report it with the job's number; no miner is to blame",
);

/// What a job of this kind is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The environment's id.
    pub environment: String,
    /// How many episodes.
    pub episodes: u32,
    /// The challenge's slug, for the seeds.
    pub challenge: String,
    /// The run's number, for the seeds.
    pub run: u64,
    /// The hash of the run's seed block, for the seeds.
    pub block_hash: Digest,
}

/// What it answers; `None` when the artifact has no policy for the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What the ranking reads.
    pub result: EnvironmentResult,
    /// What ran the policy.
    pub runtime: Runtime,
}

/// Plays rollouts on this machine.
#[derive(Clone)]
pub struct Rollouts {
    blobs: Blobs,
    limits: artifact::Limits,
    backend: BackendChoice,
    host: Host,
}

impl Rollouts {
    /// Rollouts of artifacts in this object store, on this backend, played by this host.
    #[must_use]
    pub const fn new(blobs: Blobs, limits: artifact::Limits, backend: BackendChoice, host: Host) -> Self {
        Self { blobs, limits, backend, host }
    }
}

/// Reads a contestant's artifact back from the object store.
pub(super) async fn bundle_of(
    blobs: &Blobs,
    limits: &artifact::Limits,
    contestant: &Contestant,
) -> Result<Bundle, Fault> {
    let bytes = blobs.get(&contestant.artifact, limits.archive_bytes).await.map_err(|source| source.fault())?;
    Bundle::read(&bytes, limits)
}

/// A job's parameters as its kind knows them.
pub(super) fn spec_of<T: serde::de::DeserializeOwned>(job: &Job) -> Result<T, Fault> {
    serde_json::from_value(job.spec.clone()).map_err(|source| SPEC_MALFORMED.because(format!("{}: {source}", job.id)))
}

/// Environments are known to whoever planned the job.
pub(super) fn environment_of(id: &str) -> Result<Environment, Fault> {
    Environment::parse(id).ok_or_else(|| SPEC_MALFORMED.because(format!("environment `{id}`")))
}

/// Runs a computation on a thread of its own, so that the reactor never waits for it.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(source) => Err(SPEC_MALFORMED.because(format!("the computation ended early: {source}"))),
    }
}

#[async_trait]
impl Task for Rollouts {
    async fn run(&self, job: &Job, progress: &Progress, cancel: &CancellationToken) -> Result<Records, Fault> {
        let spec: Spec = spec_of(job)?;
        let environment = environment_of(&spec.environment)?;
        let [contestant] = job.contestants.as_slice() else {
            return Err(SPEC_MALFORMED.because(format!("{} contestants", job.contestants.len())));
        };
        let bundle = bundle_of(&self.blobs, &self.limits, contestant).await?;
        let Some(model) = bundle.models.get(&spec.environment) else { return Ok(Value::Null) };
        let (bytes, backend, host) = (model.plain.clone(), self.backend.clone(), self.host.clone());
        let seeds = seeds::seeds(&spec.challenge, spec.run, environment, spec.episodes, &spec.block_hash);
        let (progress, cancel) = (progress.clone(), cancel.clone());
        let (episodes, runtime) = compute(move || {
            let policy = Policy::load(&bytes, environment, &backend)?;
            play(&host, &policy, &seeds, &progress, &cancel)
        })
        .await?;
        let records = serde_json::to_vec(&episodes).map_err(|source| SPEC_MALFORMED.because(source.to_string()))?;
        let records = self.blobs.put(records).await.map_err(|source| source.fault())?;
        let answer = Answer { result: result_of(&episodes, Some(records))?, runtime };
        serde_json::to_value(answer).map_err(|source| SPEC_MALFORMED.because(source.to_string()))
    }
}

/// Plays one episode for each seed. `waag check` and `waag verify` call exactly this.
///
/// # Errors
/// As [`Host::rollout`].
pub fn play(
    host: &Host,
    policy: &Policy,
    seeds: &[u64],
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(Vec<Episode>, Runtime), Fault> {
    let total = u64::from(policy.environment().steps_max()) * u64::try_from(seeds.len()).unwrap_or(u64::MAX);
    let told = AtomicU64::new(0);
    let watch = |steps: u64| {
        // About a hundred reports a job.
        if steps >= told.load(Ordering::Relaxed) {
            told.store(steps + total / 100, Ordering::Relaxed);
            progress.report(steps, total);
        }
        if cancel.is_cancelled() { Verdict::Cancelled } else { Verdict::Go }
    };
    let request = Request { seeds, threads: 1, sample: None, watch: &watch };
    let played = host.rollout(policy, &request)?;
    if cancel.is_cancelled() {
        return Err(CANCELLED.because("after its last episode"));
    }
    Ok((played.episodes, played.runtime))
}

/// What the ranking needs of these episodes.
///
/// # Errors
/// When there are more than a rule takes.
pub fn result_of(episodes: &[Episode], records: Option<Digest>) -> Result<EnvironmentResult, Fault> {
    let flags: Vec<bool> = episodes.iter().map(|episode| episode.success).collect();
    let successes = Successes::new(&flags).map_err(|source| SPEC_MALFORMED.because(source.to_string()))?;
    let sum: f64 = episodes.iter().map(|episode| episode.return_).sum();
    let mean_return = u32::try_from(episodes.len()).ok().filter(|count| *count > 0).map(|count| sum / f64::from(count));
    Ok(EnvironmentResult { successes, mean_return, records })
}

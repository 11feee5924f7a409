//! The job kind `compare`: all contestants of a run answer the same observations, and copies are found.
//!
//! The observations come from the run's own episodes, chosen by a key that only this appliance knows and by the run's
//! block hash: nobody can train against them, and a copy cannot behave well only where it is looked at.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    Contestant, Job, Progress, Records, Task,
    rollouts::{SPEC_MALFORMED, bundle_of, compute, environment_of, spec_of},
};
use crate::{
    artifact::{self, Bundle, Model, policy::Output},
    dedup::{
        outputs::{Outputs, Reading},
        policy::{self, CopyVerdict, Evidence},
        sketch::WeightSketch,
    },
    fault::{Class, Fault},
    gym::{
        env::{Actions, Environment},
        isolation::Host,
        policy::{BackendChoice, Policy},
        rollouts::{ObservationSample, Request, SAMPLE_MAX, Sampled, Verdict},
        seeds,
    },
    ids::Digest,
    store::Blobs,
};

/// The name of this kind of job.
pub const KIND: &str = "compare";
/// Episodes each contestant plays for observations: the first of the run's own.
pub const EPISODES: u32 = 3;

/// What a job of this kind is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The environments' ids.
    pub environments: Vec<String>,
    /// Observations to compare on, in each environment.
    pub observations: usize,
    /// The challenge's slug, for the seeds.
    pub challenge: String,
    /// The run's number, for the seeds.
    pub run: u64,
    /// The hash of the run's seed block, for the seeds.
    pub block_hash: Digest,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The copies, by the names of their submissions.
    pub copies: Vec<CopyVerdict>,
    /// How many observations were compared, by environment.
    pub observations: BTreeMap<String, usize>,
    /// Contestants that could not be compared, by the names of their submissions, and why. They are nobody's trouble but
    /// their own: the others were compared without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, Fault>,
}

/// Compares on this machine.
#[derive(Clone)]
pub struct Compare {
    blobs: Blobs,
    limits: artifact::Limits,
    backend: BackendChoice,
    host: Host,
    key: [u8; 32],
}

impl Compare {
    /// Comparisons of artifacts in this object store, with this secret key.
    #[must_use]
    pub const fn new(
        blobs: Blobs,
        limits: artifact::Limits,
        backend: BackendChoice,
        host: Host,
        key: [u8; 32],
    ) -> Self {
        Self { blobs, limits, backend, host, key }
    }
}

#[async_trait]
impl Task for Compare {
    async fn run(&self, job: &Job, _progress: &Progress, cancel: &CancellationToken) -> Result<Records, Fault> {
        let spec: Spec = spec_of(job)?;
        let mut bundles = Vec::with_capacity(job.contestants.len());
        let mut faults = BTreeMap::new();
        for contestant in &job.contestants {
            match bundle_of(&self.blobs, &self.limits, contestant).await {
                Ok(bundle) => bundles.push((contestant.clone(), bundle)),
                Err(fault) => drop(faults.insert(contestant.submission.to_string(), fault)),
            }
        }
        // When nothing at all can be read the object store is in trouble, and no contestant.
        if let (true, Some(fault)) = (bundles.is_empty(), faults.values().find(|fault| fault.class != Class::Miner)) {
            return Err(fault.clone());
        }
        let (compare, cancel) = (self.clone(), cancel.clone());
        let answer = compute(move || compare.find(&spec, &bundles, faults, &cancel)).await?;
        serde_json::to_value(answer).map_err(|source| SPEC_MALFORMED.because(source.to_string()))
    }
}

/// How a model's answers are read.
const fn reading(model: &Model, environment: Environment) -> Reading {
    match (model.summary.output, environment.actions()) {
        (Output::Choice, _) => Reading::Choice,
        (Output::Floats { .. }, Actions::Discrete(_)) => Reading::Logits,
        (Output::Floats { .. }, Actions::Continuous(_)) => Reading::Continuous,
    }
}

/// One contestant's policy in one environment.
struct Player {
    /// Its place among the contestants.
    at: usize,
    policy: Policy,
}

/// Keeps a fault that is one contestant's alone. What concerns everybody is passed on: a missing backend, a stop.
fn keep_own(
    faults: &mut BTreeMap<usize, Fault>,
    at: usize,
    fault: Fault,
    cancel: &CancellationToken,
) -> Result<(), Fault> {
    match fault.class {
        // The rollouts will say so, with their own code.
        Class::Miner => Ok(()),
        Class::Infra | Class::Provider if !cancel.is_cancelled() => {
            faults.entry(at).or_insert(fault);
            Ok(())
        }
        _ => Err(fault),
    }
}

impl Compare {
    fn find(
        &self,
        spec: &Spec,
        bundles: &[(Contestant, Bundle)],
        unread: BTreeMap<String, Fault>,
        cancel: &CancellationToken,
    ) -> Result<Answer, Fault> {
        let mut compared: Vec<policy::Contestant> = bundles
            .iter()
            .map(|(contestant, bundle)| policy::Contestant {
                name: contestant.submission.to_string(),
                owner: contestant.hotkey.to_string(),
                bytes: contestant.artifact,
                content: bundle.content_digest,
                models: BTreeMap::new(),
            })
            .collect();
        let mut observed = BTreeMap::new();
        let mut own = BTreeMap::new();
        for id in &spec.environments {
            let environment = environment_of(id)?;
            let players = self.players(environment, bundles)?;
            let observations = self.observations(spec, environment, &players, &mut own, cancel)?;
            observed.insert(id.clone(), observations.len() / environment.obs_dim().max(1));
            for player in &players {
                let Some(model) = bundles[player.at].1.models.get(id) else { continue };
                let answers = self.answers(player, reading(model, environment), &observations, cancel);
                let outputs = match answers {
                    Ok(Some(outputs)) => outputs,
                    Ok(None) => continue,
                    Err(fault) => {
                        keep_own(&mut own, player.at, fault, cancel)?;
                        continue;
                    }
                };
                let evidence = Evidence {
                    content: model.summary.content,
                    weights: Arc::new(WeightSketch::of(model, reading(model, environment))),
                    outputs,
                };
                compared[player.at].models.insert(id.clone(), evidence);
            }
        }
        let mut faults = unread;
        faults.extend(own.into_iter().map(|(at, fault)| (compared[at].name.clone(), fault)));
        Ok(Answer { copies: policy::find_copies(&compared), observations: observed, faults })
    }

    fn players(&self, environment: Environment, bundles: &[(Contestant, Bundle)]) -> Result<Vec<Player>, Fault> {
        let mut players = Vec::new();
        for (at, (_, bundle)) in bundles.iter().enumerate() {
            if let Some(model) = bundle.models.get(environment.id()) {
                match Policy::load(&model.plain, environment, &self.backend) {
                    Ok(policy) => players.push(Player { at, policy }),
                    // The rollouts will say so, with their own code.
                    Err(fault) if fault.class == Class::Miner => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(players)
    }

    /// Observations that the contestants meet in the run's first episodes: of all they meet, those whose keyed rank is
    /// smallest. Every contestant contributes alike.
    fn observations(
        &self,
        spec: &Spec,
        environment: Environment,
        players: &[Player],
        own: &mut BTreeMap<usize, Fault>,
        cancel: &CancellationToken,
    ) -> Result<Vec<f32>, Fault> {
        let seeds = seeds::seeds(&spec.challenge, spec.run, environment, EPISODES, &spec.block_hash);
        let count = spec.observations.min(SAMPLE_MAX);
        let sample = ObservationSample { key: self.key_of(spec, environment), count };
        let watch = |_steps: u64| if cancel.is_cancelled() { Verdict::Cancelled } else { Verdict::Go };
        let mut met: Vec<Vec<Sampled>> = Vec::new();
        for player in players {
            let request = Request { seeds: &seeds, threads: 1, sample: Some(&sample), watch: &watch };
            match self.host.rollout(&player.policy, &request) {
                Ok(played) => met.push(played.sample),
                Err(fault) => keep_own(own, player.at, fault, cancel)?,
            }
        }
        // Shared among those who played: one who cannot must not leave the others with fewer observations.
        let each = count.div_ceil(met.len().max(1));
        let shared = met.into_iter().flat_map(|sample| sample.into_iter().take(each)).take(count);
        Ok(shared.flat_map(|sampled| sampled.observation).collect())
    }

    /// One player's raw answers; `None` when there is nothing to answer.
    fn answers(
        &self,
        player: &Player,
        reading: Reading,
        observations: &[f32],
        cancel: &CancellationToken,
    ) -> Result<Option<Outputs>, Fault> {
        let rows = observations.len() / player.policy.environment().obs_dim().max(1);
        if rows == 0 {
            return Ok(None);
        }
        let watch = |_steps: u64| if cancel.is_cancelled() { Verdict::Cancelled } else { Verdict::Go };
        let values = self.host.outputs(&player.policy, observations, &watch)?;
        Ok(Some(Outputs { reading, width: values.len() / rows, values }))
    }

    /// The key for one run and environment, so that no two runs look at the same moments.
    fn key_of(&self, spec: &Spec, environment: Environment) -> [u8; 32] {
        Sha256::new()
            .chain_update("waag-observations-1")
            .chain_update(self.key)
            .chain_update(spec.block_hash.0)
            .chain_update(spec.run.to_le_bytes())
            .chain_update(environment.id())
            .finalize()
            .into()
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

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
const EPISODES: u32 = 3;

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
        for contestant in &job.contestants {
            bundles.push((contestant.clone(), bundle_of(&self.blobs, &self.limits, contestant).await?));
        }
        let (compare, cancel) = (self.clone(), cancel.clone());
        let answer = compute(move || compare.find(&spec, &bundles, &cancel)).await?;
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

impl Compare {
    fn find(&self, spec: &Spec, bundles: &[(Contestant, Bundle)], cancel: &CancellationToken) -> Result<Answer, Fault> {
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
        for id in &spec.environments {
            let environment = environment_of(id)?;
            let players = self.players(environment, bundles)?;
            let observations = self.observations(spec, environment, &players, cancel)?;
            observed.insert(id.clone(), observations.len() / environment.obs_dim().max(1));
            for player in &players {
                let Some(model) = bundles[player.at].1.models.get(id) else { continue };
                let Some(outputs) = self.answers(player, reading(model, environment), &observations, cancel)? else {
                    continue;
                };
                let evidence = Evidence {
                    content: model.summary.content,
                    weights: Arc::new(WeightSketch::of(model, reading(model, environment))),
                    outputs,
                };
                compared[player.at].models.insert(id.clone(), evidence);
            }
        }
        Ok(Answer { copies: policy::find_copies(&compared), observations: observed })
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
        cancel: &CancellationToken,
    ) -> Result<Vec<f32>, Fault> {
        let seeds = seeds::seeds(&spec.challenge, spec.run, environment, EPISODES, &spec.block_hash);
        let each = spec.observations.div_ceil(players.len().max(1)).min(SAMPLE_MAX);
        let sample = ObservationSample { key: self.key_of(spec, environment), count: each };
        let watch = |_steps: u64| if cancel.is_cancelled() { Verdict::Cancelled } else { Verdict::Go };
        let mut met: Vec<Sampled> = Vec::new();
        for player in players {
            let request = Request { seeds: &seeds, threads: 1, sample: Some(&sample), watch: &watch };
            match self.host.rollout(&player.policy, &request) {
                Ok(played) => met.extend(played.sample),
                Err(fault) if fault.class == Class::Miner => {}
                Err(fault) => return Err(fault),
            }
        }
        met.truncate(spec.observations);
        Ok(met.into_iter().flat_map(|sampled| sampled.observation).collect())
    }

    /// One player's raw answers; `None` when it has none, which the rollouts will say with their own code.
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
        match self.host.outputs(&player.policy, observations, &watch) {
            Ok(values) => Ok(Some(Outputs { reading, width: values.len() / rows, values })),
            Err(fault) if fault.class == Class::Miner => Ok(None),
            Err(fault) => Err(fault),
        }
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

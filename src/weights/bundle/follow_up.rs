//! What a check of the bundle alone leaves open: episodes to play again and facts to ask a chain for.
//!
//! Owns the two lists. Refuses to play or to ask; `waag verify --replay` and `--chain` do.

use serde::Serialize;

use super::{Backend, Bundle, Evidence, Ranked, SeedBlock};
use crate::{
    ids::{Digest, Hotkey, Priority, SubmissionId},
    score::outcomes::{RolloutEvidence, Successes},
    weights::{Limits, Vector},
};

/// One contestant's episodes in one environment, as they were claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// The challenge, from which with run and environment the seeds are derived.
    pub challenge: String,
    /// The run's number.
    pub run: u64,
    /// The block whose hash the seeds are derived from.
    pub seed: Option<SeedBlock>,
    /// What ran the artifact.
    pub backend: Option<Backend>,
    /// The submission.
    pub submission: SubmissionId,
    /// The artifact to play.
    pub artifact: Digest,
    /// The environment.
    pub environment: String,
    /// Which episodes it is said to have solved.
    pub successes: Successes,
}

/// One fact that only a chain can confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum ChainFact {
    /// The chain has this genesis hash.
    Genesis {
        /// The hash.
        hash: Digest,
    },
    /// A finalized block has this hash.
    BlockHash {
        /// The block.
        block: u64,
        /// Its hash.
        hash: Digest,
    },
    /// A hotkey's commitment held this text, and no earlier block's did.
    Commitment {
        /// The hotkey.
        hotkey: Hotkey,
        /// Block and extrinsic.
        at: Priority,
        /// The field's text.
        text: String,
    },
    /// A uid belonged to this hotkey, at this block, since that one.
    Registered {
        /// The block.
        block: u64,
        /// The uid.
        uid: u16,
        /// The hotkey.
        hotkey: Hotkey,
        /// Since when.
        since_block: u64,
    },
    /// The subnet had these limits at this block.
    Limits {
        /// The block.
        block: u64,
        /// The limits.
        limits: Limits,
    },
    /// The validator's weights are this vector.
    Weights {
        /// The vector.
        vector: Vector,
    },
}

/// All episodes of the bundle, by challenge, contestant and environment.
pub(super) fn replays(bundle: &Bundle) -> Vec<Replay> {
    let ranked = bundle.challenges.iter().filter_map(|evidence| Some((evidence, evidence.ranked.as_ref()?)));
    ranked.flat_map(|(evidence, ranked)| replays_of(evidence, ranked)).collect()
}

fn replays_of(evidence: &Evidence, ranked: &Ranked) -> Vec<Replay> {
    let mut replays = Vec::new();
    for entry in &ranked.input.entries {
        // Whatever stage it is from: evidence of rollouts is told by its form.
        for value in entry.evidence.values() {
            let Ok(rollouts) = serde_json::from_value::<RolloutEvidence>(value.clone()) else { continue };
            let run = ranked.run.as_ref().filter(|run| run.number == rollouts.run);
            replays.extend(rollouts.environments.into_iter().map(|(environment, result)| Replay {
                challenge: evidence.challenge.clone(),
                run: rollouts.run,
                seed: run.and_then(|run| run.seed),
                backend: run.and_then(|run| run.backend.clone()),
                submission: entry.submission,
                artifact: entry.artifact,
                environment,
                successes: result.successes,
            }));
        }
    }
    replays
}

/// All facts of the bundle that a chain can confirm.
pub(super) fn chain_facts(bundle: &Bundle) -> Vec<ChainFact> {
    let block = bundle.snapshot.block;
    let mut facts = vec![
        ChainFact::Genesis { hash: bundle.genesis },
        ChainFact::BlockHash { block, hash: bundle.snapshot.hash },
        ChainFact::Limits { block, limits: bundle.limits },
    ];
    facts.extend(bundle.snapshot.neurons.iter().map(|neuron| ChainFact::Registered {
        block,
        uid: neuron.uid,
        hotkey: neuron.hotkey,
        since_block: neuron.since_block,
    }));
    for ranked in bundle.challenges.iter().filter_map(|evidence| evidence.ranked.as_ref()) {
        if let Some(seed) = ranked.run.as_ref().and_then(|run| run.seed) {
            facts.push(ChainFact::BlockHash { block: seed.block, hash: seed.hash });
        }
        for claim in &ranked.contestants {
            let entry = ranked.input.entries.iter().find(|entry| entry.submission == claim.submission);
            if let (Some(entry), Some(row)) = (entry, &claim.ledger) {
                let (at, text) = (row.committed, row.text.clone());
                facts.push(ChainFact::Commitment { hotkey: entry.hotkey, at, text });
            }
        }
    }
    facts.extend(bundle.vector.iter().map(|vector| ChainFact::Weights { vector: vector.clone() }));
    facts
}

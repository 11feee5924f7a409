//! The supervision tree: every task of the process has a name, a kind and an owner here.
//!
//! Owns spawning, what failure and cancellation of a task mean, the drain at shutdown, and the actors: reconcilers
//! that look, act and report, periodically and when nudged. Refuses to decide anything: they call the pipeline.
//! `cli/` starts the tree; rooms that need a task of their own take a [`Tasks`] handle.

mod collector;
mod filler;
mod follower;
mod keeper;
mod ranker;
mod reading;
#[cfg(test)]
mod reading_tests;
mod reconcile;
mod runner;
pub mod snapshots;
mod tasks;
mod weigher;
mod worker;

pub use collector::collect_models;
pub use filler::Filler;
pub use follower::{Error as FollowError, Facts, Follower};
pub use keeper::keep_runs;
pub use ranker::rank;
pub use reading::{Rescanned, rescan};
pub use reconcile::reconcile;
pub use runner::run_stages;
pub use tasks::{Kind, Tasks};
pub use weigher::{Beacon, CODES as WEIGHER_CODES, Error as WeigherError, Ground, Policy as WeightPolicy, Weigher};
pub use worker::{CODES as WORKER_CODES, Workers, run_workers};

use crate::{
    chain::{Metagraph, WeightRules},
    ids::Digest,
    pipeline::ChainSide,
    weights::Limits,
};

/// What the chain contributes to evidence, from what was read of it at one block.
fn side_of(genesis: [u8; 32], metagraph: &Metagraph, rules: &WeightRules, burn_uid: u16) -> ChainSide {
    ChainSide {
        genesis: Digest(genesis),
        netuid: metagraph.netuid,
        snapshot: follower::snapshot_of(metagraph),
        limits: Limits {
            n: rules.n,
            min_allowed: rules.min_allowed,
            max_limit: rules.max_limit,
            version_key: rules.version_key,
        },
        burn_uid,
    }
}

//! The supervision tree: every task of the process has a name, a kind and an owner here.
//!
//! Owns spawning, what failure and cancellation of a task mean, the drain at shutdown, and the actors: reconcilers
//! that look, act and report, periodically and when nudged. Refuses to decide anything: they call the pipeline.
//! `cli/` starts the tree; rooms that need a task of their own take a [`Tasks`] handle.

mod follower;
mod keeper;
mod ranker;
mod reconcile;
mod runner;
mod tasks;
mod weigher;
mod worker;

pub use follower::{Facts, Follower};
pub use keeper::keep_runs;
pub use ranker::rank;
pub use reconcile::reconcile;
pub use runner::run_stages;
pub use tasks::{Kind, Tasks};
pub use weigher::{CODES as WEIGHER_CODES, Policy as WeightPolicy, Weigher};
pub use worker::{CODES as WORKER_CODES, Workers, run_workers};

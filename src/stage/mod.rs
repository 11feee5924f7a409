//! Stages: the named steps of a challenge's pipeline, each a function from contestants to outcomes.
//!
//! Owns the contract of a stage (work in, outcome out, pure fold of job results) and the stages we ship. Refuses to
//! know leases, attempts, retries, events or the next stage: the pipeline owns those and is the only caller.

pub mod catalog;
pub mod checks;
pub mod duplicates;
pub mod model;
pub mod rollouts;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{Contestant, Needs, Records},
    fault::Fault,
    ids::{Digest, Hotkey, Priority, RunId, SubmissionId},
};

/// Whether a stage looks at one submission or at a whole frozen run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One submission at a time, as soon as it arrives at the stage.
    Submission,
    /// All contestants of a run together, once the run is frozen and its seed is known.
    Run,
}

/// The public randomness of a run: the hash of a block that did not exist when the run was frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSeed {
    /// The block's number.
    pub block: u64,
    /// The block's hash, finalized when it was read.
    pub hash: Digest,
}

/// What a stage must know about the run it works for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The run's row.
    pub id: RunId,
    /// The run's number within its challenge, counted from 1. Seeds are derived from this, never from the row.
    pub number: u64,
    /// The run's randomness; `None` for a run whose profile asks for none.
    pub seed: Option<RunSeed>,
}

/// What a stage is asked to work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The challenge's slug.
    pub challenge: String,
    /// The stage's name in the profile.
    pub stage: String,
    /// The run, for stages of scope `Run`.
    pub run: Option<RunFacts>,
    /// One submission, or all contestants of the run that are still in it, in order of priority.
    pub contestants: Vec<Contestant>,
    /// For one submission: what its commitment says, by the names of the profile's pattern. Empty for a sealed one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
    /// For one submission: who owned its hotkey when it committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coldkey: Option<Hotkey>,
    /// For a stage that takes submissions in order: those of its challenge that have passed it, the elders first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

/// Another submission of the challenge, which has passed the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The submission.
    pub submission: SubmissionId,
    /// Who sent it.
    pub hotkey: Hotkey,
    /// Who owned that hotkey when it committed.
    pub coldkey: Hotkey,
    /// The text of its commitment.
    pub field: String,
    /// SHA-256 of its artifact.
    pub artifact: Digest,
    /// When it was first committed.
    pub priority: Priority,
}

/// A peer that turned out to break a rule, seen from the submission at hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exposed {
    /// The peer.
    pub submission: SubmissionId,
    /// What its miner did.
    pub fault: Fault,
    /// What shows it.
    pub evidence: Value,
}

/// One job a stage wants done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The kind of work, a name the engine knows.
    pub kind: String,
    /// Who takes part, a subset of the work's contestants.
    pub contestants: Vec<SubmissionId>,
    /// The kind's own parameters.
    pub spec: Value,
    /// What it takes from the machine.
    pub needs: Needs,
    /// How many different workers must do it.
    pub replicas: u32,
    /// How many of them must return equal records.
    pub quorum: u32,
    /// How often one replica may fail by a fault that is not the miner's before the job is given up.
    pub retries: u32,
    /// Wall time of one replica, in milliseconds.
    pub timeout_ms: u64,
}

/// The jobs of one stage for one piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The jobs, in an order that is a function of the work alone.
    pub jobs: Vec<JobSpec>,
    /// How long they may show no progress, in milliseconds: no replica done, none failed. After it the work is retried.
    /// It is never less than what the longest of them may take with all its retries.
    pub deadline_ms: u64,
    /// Whatever the fold needs besides the records.
    pub data: Value,
}

/// One job's settled result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The records a quorum agreed on, or the fault: `miner` when the contestant's artifact failed in a quorum of
    /// replicas, another class when the retries are spent.
    pub outcome: Result<Records, Fault>,
}

/// What a stage decided about one contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on; the evidence is kept in the verdict.
    Pass(Value),
    /// It goes on, and shows what younger peers are.
    Exposes(Value, Vec<Exposed>),
    /// The miner's fault, with what shows it; final.
    Reject(Fault, Value),
    /// Not the miner's fault; tried again with the class's back-off.
    Retry(Fault),
    /// A person must decide.
    Hold(String),
    /// The work continues in jobs; the stage's fold is called with their results.
    Jobs(Plan),
}

/// One step of a challenge's pipeline.
#[async_trait]
pub trait Stage: Send + Sync {
    /// Whether the stage sees one submission or a run.
    fn scope(&self) -> Scope;

    /// For a stage of scope `Submission` that looks at each with regard to its elders: how long, in milliseconds, one
    /// that has not come so far keeps its youngers waiting. `None` where the order is of no matter.
    fn in_order(&self) -> Option<u64> {
        None
    }

    /// Looks at the work. A stage of scope `Run` answers `Jobs` (or `Retry`); one of scope `Submission` any outcome.
    async fn run(&self, work: &Work) -> Outcome;

    /// Turns the jobs' results into one outcome a contestant of the plan's work. Pure: the same input gives the same
    /// answer on any machine. Never answers `Jobs` or `Exposes`. A contestant that is missing from the answer passes with no
    /// evidence.
    fn fold(&self, work: &Work, plan: &Plan, results: &[JobResult]) -> BTreeMap<SubmissionId, Outcome>;
}

//! Ranking rules: who is paid in one challenge and why.
//!
//! Owns the pure rules and their statistics. Refuses to know stores, chains, clocks or anything that waits: a rule is
//! a function of its input, so that a stranger can run it again. The pipeline and `waag verify` call it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    fault::Fault,
    ids::{Digest, Hotkey, Priority, SubmissionId},
};

/// One contestant as a rule sees it: who, when, and the evidence of each stage it went through in this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The submission.
    pub submission: SubmissionId,
    /// Who is paid if it wins.
    pub hotkey: Hotkey,
    /// SHA-256 of the artifact.
    pub artifact: Digest,
    /// When it was first committed. Earlier wins ties.
    pub priority: Priority,
    /// Whether its hotkey is registered and allowed to be paid at the snapshot.
    pub eligible: bool,
    /// Set when a stage of this run rejected it (a copy, a broken policy): it earns nothing.
    pub fault: Option<Fault>,
    /// The evidence of each stage of this run that it passed, by stage name.
    pub evidence: BTreeMap<String, Value>,
}

/// A service's raw answer, for challenges that are scored elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which service said it.
    pub service: String,
    /// What it said.
    pub body: Value,
    /// Whether it has expired at the snapshot.
    pub expired: bool,
}

/// An operator's recorded approval or refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The submission it is about.
    pub submission: SubmissionId,
    /// Approved or refused.
    pub approved: bool,
}

/// Everything a rule may look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The challenge's slug.
    pub challenge: String,
    /// The run's number within the challenge, counted from 1.
    pub run: u64,
    /// The rule's options, from the profile.
    pub options: Value,
    /// The ranking this one succeeds.
    pub previous: Option<Ranking>,
    /// The contestants, in order of priority.
    pub entries: Vec<Entry>,
    /// Reports of services.
    pub reports: Vec<Report>,
    /// Decisions of the operator.
    pub decisions: Vec<Decision>,
    /// The block of the snapshot against which eligibility was read.
    pub block: u64,
}

/// One paid or unpaid place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Who.
    pub hotkey: Hotkey,
    /// For which submission; `None` when a service reported the share.
    pub submission: Option<SubmissionId>,
    /// Points of the rule's own scale.
    pub points: f64,
    /// Share of the challenge's emission, 0 to 1.
    pub share: f64,
    /// Why, in words.
    pub reason: String,
}

/// A challenge's ranking. Shares sum to at most 1; the rest is `burned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Best first; ties by priority.
    pub rows: Vec<Row>,
    /// The share that nobody won, 0 to 1.
    pub burned: f64,
    /// What the rule must remember for the next run (such as wins that wait for confirmation).
    pub memory: Value,
}

/// A ranking rule.
pub trait Rule: Send + Sync {
    /// The rule's name in profiles.
    fn name(&self) -> &'static str;

    /// Checks the options of a profile before anything runs.
    ///
    /// # Errors
    /// Says in words which option is wrong.
    fn check(&self, options: &Value) -> Result<(), String>;

    /// Ranks. Pure and total: the same input gives the same ranking, bit for bit, on any machine.
    fn rank(&self, input: &Input) -> Ranking;
}

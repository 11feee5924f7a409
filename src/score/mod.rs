//! Ranking rules: who is paid in one challenge and why.
//!
//! Owns the pure rules and their statistics. Refuses to know stores, chains, clocks or anything that waits: a rule is
//! a function of its input, so that a stranger can run it again. The pipeline and `waag verify` call it.

pub mod approved;
pub mod king;
pub mod outcomes;
pub mod reported;
pub mod stats;
pub mod subsets;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
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

/// A success rate with its 95 % confidence interval, for tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Episodes that were solved.
    pub successes: u64,
    /// Episodes that count.
    pub episodes: u64,
    /// Successes over episodes.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
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
    /// What was measured, by environment or task, where the rule has such.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<String, Rate>,
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

/// Every rule that a profile may name.
#[must_use]
pub fn rules() -> Vec<Arc<dyn Rule>> {
    vec![Arc::new(subsets::Subsets), Arc::new(king::King), Arc::new(approved::Approved), Arc::new(reported::Reported)]
}

/// The rule of this name.
#[must_use]
pub fn rule(name: &str) -> Option<Arc<dyn Rule>> {
    rules().into_iter().find(|rule| rule.name() == name)
}

/// A rule's options; absent ones are all defaults.
fn options<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    let given = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value.clone() };
    serde_json::from_value(given).map_err(|source| source.to_string())
}

/// A number in a stage's evidence of one entry: `None` when it is absent, not a number or not finite.
fn number(entry: &Entry, stage: &str, field: &str) -> Option<f64> {
    entry.evidence.get(stage)?.get(field)?.as_f64().filter(|score| score.is_finite())
}

/// Why an entry cannot be paid whatever its score, if so.
fn barred(entry: &Entry, block: u64) -> Option<String> {
    match &entry.fault {
        Some(fault) => Some(format!("rejected: {fault}")),
        None if !entry.eligible => Some(format!("the hotkey is not registered, or may not be paid, at block {block}")),
        None => None,
    }
}

/// An unpaid row of an entry.
fn unpaid(entry: &Entry, points: f64, reason: String) -> Row {
    Row {
        hotkey: entry.hotkey,
        submission: Some(entry.submission),
        points,
        share: 0.0,
        reason,
        results: BTreeMap::new(),
    }
}

/// Ranks by these options. They were checked when the profile was loaded; a ranking that cannot be made pays nobody.
fn ranked<T>(input: &Input, options: Result<T, String>, rank: impl FnOnce(&Input, &T) -> Ranking) -> Ranking {
    match options {
        Ok(options) => rank(input, &options),
        Err(wrong) => nobody(input, &format!("the rule's options are wrong: {wrong}")),
    }
}

/// A ranking that pays nobody and keeps what was remembered.
fn nobody(input: &Input, why: &str) -> Ranking {
    let rows = input.entries.iter().map(|entry| unpaid(entry, 0.0, why.to_owned())).collect();
    let memory = input.previous.as_ref().map_or(Value::Null, |previous| previous.memory.clone());
    Ranking { rows, burned: 1.0, memory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_found_by_its_name_and_takes_no_options() {
        for known in rules() {
            let found = rule(known.name()).expect("registered");
            assert_eq!(found.check(&Value::Null), Ok(()), "{}", found.name());
            assert!(found.check(&serde_json::json!({ "no_such_option": 1 })).is_err(), "{}", found.name());
        }
        assert!(rule("none").is_none());
    }

    #[test]
    fn a_ranking_reads_back_bit_for_bit() {
        let row = Row {
            hotkey: Hotkey([1; 32]),
            submission: Some(SubmissionId(1)),
            points: 0.1 + 0.2,
            share: 1.0 / 3.0,
            reason: "why".to_owned(),
            results: BTreeMap::from([("A".to_owned(), stats::rate(17, 113))]),
        };
        let ranking = Ranking { rows: vec![row], burned: 1.0 - 1.0 / 3.0, memory: Value::Null };
        let text = serde_json::to_string(&ranking).unwrap();
        assert_eq!(serde_json::from_str::<Ranking>(&text).unwrap(), ranking);
    }
}

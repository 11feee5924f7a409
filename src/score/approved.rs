//! The ranking rule `approved`: everything goes to the best submission that the operator has approved.
//!
//! Owns who leads. Refuses to know how a score or a decision came about. The pipeline and `waag verify` call it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, Input, Ranking, Row, Rule, barred, number, options, ranked, unpaid};
use crate::ids::{Digest, Hotkey, SubmissionId};

/// The rule's options in a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The stage whose evidence is read.
    pub stage: String,
    /// The field of the evidence that holds the score.
    pub score: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { stage: "rollouts".to_owned(), score: "score".to_owned() }
    }
}

/// Who leads; remembered for rankings in which it takes no part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leader {
    hotkey: Hotkey,
    submission: SubmissionId,
    artifact: Digest,
    score: f64,
}

/// The rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Approved;

impl Rule for Approved {
    fn name(&self) -> &'static str {
        "approved"
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        options::<Options>(value).map(drop)
    }

    fn rank(&self, input: &Input) -> Ranking {
        ranked(input, options::<Options>(&input.options), rank)
    }
}

/// The operator's last word on a submission, if any.
fn decision(input: &Input, submission: SubmissionId) -> Option<bool> {
    input.decisions.iter().rev().find(|decision| decision.submission == submission).map(|decision| decision.approved)
}

fn rank(input: &Input, options: &Options) -> Ranking {
    let mut entries: Vec<&Entry> = input.entries.iter().collect();
    entries.sort_by_key(|entry| (entry.priority, entry.hotkey, entry.submission));
    let score = |entry: &Entry| number(entry, &options.stage, &options.score);
    let remembered: Option<Leader> = input
        .previous
        .as_ref()
        .and_then(|ranking| serde_json::from_value(ranking.memory.clone()).ok())
        // One that takes part again is judged by its entry; one that is refused since is no leader.
        .filter(|leader: &Leader| entries.iter().all(|entry| entry.submission != leader.submission))
        .filter(|leader| decision(input, leader.submission) != Some(false));
    let mut leader = remembered;
    for entry in &entries {
        let Some(score) = score(entry) else { continue };
        let is_valid = barred(entry, input.block).is_none() && decision(input, entry.submission) == Some(true);
        // Strictly better only: the earlier keeps a tie.
        if is_valid && leader.as_ref().is_none_or(|leader| score > leader.score) {
            let (hotkey, submission, artifact) = (entry.hotkey, entry.submission, entry.artifact);
            leader = Some(Leader { hotkey, submission, artifact, score });
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    if let Some(leader) = &leader {
        rows.push(Row {
            hotkey: leader.hotkey,
            submission: Some(leader.submission),
            points: leader.score,
            share: 1.0,
            reason: "the best that is approved".to_owned(),
            results: std::collections::BTreeMap::new(),
        });
    }
    let leads = leader.as_ref().map(|leader| leader.submission);
    for entry in entries.iter().filter(|entry| Some(entry.submission) != leads) {
        let why = why_not(input, options, leader.as_ref(), entry, score(entry));
        rows.push(unpaid(entry, score(entry).unwrap_or(0.0), why));
    }
    let burned = if leader.is_some() { 0.0 } else { 1.0 };
    let memory = leader
        .map_or(Value::Null, |leader| serde_json::to_value(leader).expect("addresses and finite numbers are JSON"));
    Ranking { rows, burned, memory }
}

fn why_not(input: &Input, options: &Options, leader: Option<&Leader>, entry: &Entry, score: Option<f64>) -> String {
    if let Some(why) = barred(entry, input.block) {
        return why;
    }
    let Some(score) = score else { return format!("has no score in stage `{}`", options.stage) };
    match (decision(input, entry.submission), leader) {
        (Some(false), _) => "refused by the operator".to_owned(),
        (_, Some(leader)) if score <= leader.score => {
            format!("score {score} is not above {} of {}", leader.score, leader.submission)
        }
        _ => "awaits the operator's decision".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ids::Priority, score::Decision};

    fn input(scores: &[(u8, f64)], decisions: &[(i64, bool)], previous: Option<Ranking>) -> Input {
        let entries = scores.iter().map(|(id, score)| Entry {
            submission: SubmissionId((*id).into()),
            hotkey: Hotkey([*id; 32]),
            artifact: Digest([*id; 32]),
            priority: Priority { block: (*id).into(), index: 0 },
            eligible: true,
            fault: None,
            evidence: [("rollouts".to_owned(), json!({ "score": score }))].into(),
        });
        let decisions = decisions
            .iter()
            .map(|(id, approved)| Decision { submission: SubmissionId(*id), approved: *approved })
            .collect();
        Input {
            challenge: "c".to_owned(),
            run: 1,
            options: Value::Null,
            previous,
            entries: entries.collect(),
            reports: Vec::new(),
            decisions,
            block: 9,
        }
    }

    #[test]
    fn nobody_leads_without_approval() {
        let ranking = Approved.rank(&input(&[(1, 0.5), (2, 0.9)], &[], None));
        assert_eq!(ranking.burned, 1.0);
        assert_eq!(ranking.rows[1].reason, "awaits the operator's decision");
    }

    #[test]
    fn the_best_approved_leads_and_ties_stay_with_the_earlier() {
        let ranking = Approved.rank(&input(&[(1, 0.5), (2, 0.9), (3, 0.5)], &[(1, true), (3, true)], None));
        assert_eq!((ranking.rows[0].submission, ranking.rows[0].share), (Some(SubmissionId(1)), 1.0));
        assert_eq!(ranking.burned, 0.0);
        let next = Approved.rank(&input(&[(4, 0.6)], &[(4, false)], Some(ranking.clone())));
        assert_eq!(next.rows[0].submission, Some(SubmissionId(1)), "the leader stays though it takes no part");
        assert_eq!(next.rows[1].reason, "refused by the operator");
        let refused = Approved.rank(&input(&[], &[(1, true), (1, false)], Some(ranking)));
        assert_eq!(refused.burned, 1.0);
    }
}

//! The ranking rule `king`: a reigning submission keeps its place until another exceeds its score by a margin.
//!
//! Owns the chain of the last kings and their shares. Refuses to know how a duel is played: it reads one number from
//! the evidence of a stage. The pipeline and `waag verify` call it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, Input, Ranking, Row, Rule, barred, number, options, ranked, unpaid};
use crate::ids::{Digest, Hotkey, SubmissionId};

/// Kings that are paid at once.
pub const SLOTS_MAX: usize = 16;

/// The rule's options in a profile.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The stage whose evidence is read.
    pub stage: String,
    /// The field of the evidence that holds the score.
    pub score: String,
    /// By how much a challenger's score must exceed the king's.
    pub margin: f64,
    /// The share of the reigning king, of the one before, and so on. A slot that is empty burns.
    pub shares: Vec<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { stage: "duel".to_owned(), score: "score".to_owned(), margin: 0.0, shares: vec![1.0] }
    }
}

impl Options {
    fn parse(value: &Value) -> Result<Self, String> {
        let parsed: Self = options(value)?;
        if !(parsed.margin >= 0.0 && parsed.margin.is_finite()) {
            return Err(format!("margin is {}, and must be a number that is not negative", parsed.margin));
        }
        let sum: f64 = parsed.shares.iter().sum();
        let each = parsed.shares.iter().all(|share| (0.0..=1.0).contains(share));
        if parsed.shares.is_empty() || parsed.shares.len() > SLOTS_MAX || !each || sum > 1.0 + 1e-9 {
            return Err(format!("shares must be 1 to {SLOTS_MAX} numbers from 0 to 1 that sum to at most 1"));
        }
        Ok(parsed)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reign {
    hotkey: Hotkey,
    submission: SubmissionId,
    artifact: Digest,
    score: f64,
}

/// Newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Memory {
    kings: Vec<Reign>,
}

/// The rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct King;

impl Rule for King {
    fn name(&self) -> &'static str {
        "king"
    }

    fn check(&self, options: &Value) -> Result<(), String> {
        Options::parse(options).map(drop)
    }

    fn rank(&self, input: &Input) -> Ranking {
        ranked(input, Options::parse(&input.options), rank)
    }
}

fn rank(input: &Input, options: &Options) -> Ranking {
    let memory = input.previous.as_ref().and_then(|ranking| serde_json::from_value(ranking.memory.clone()).ok());
    let Memory { mut kings } = memory.unwrap_or_default();
    let mut entries: Vec<&Entry> = input.entries.iter().collect();
    entries.sort_by_key(|entry| (entry.priority, entry.hotkey, entry.submission));
    // A king that takes no part keeps its place; one that takes part must still be valid, and has its new score.
    kings.retain_mut(|king| {
        let Some(entry) = entries.iter().find(|entry| entry.submission == king.submission) else { return true };
        if let Some(score) = number(entry, &options.stage, &options.score) {
            king.score = score;
        }
        barred(entry, input.block).is_none() && entry.artifact == king.artifact
    });
    for entry in &entries {
        let is_king = kings.first().is_some_and(|king| king.submission == entry.submission);
        let Some(score) = number(entry, &options.stage, &options.score) else { continue };
        let exceeds = kings.first().is_none_or(|king| score > king.score + options.margin);
        if barred(entry, input.block).is_none() && !is_king && exceeds {
            crown(&mut kings, entry, score, options.shares.len());
        }
    }
    let mut rows: Vec<Row> = kings.iter().zip(&options.shares).enumerate().map(paid).collect();
    let taken: f64 = rows.iter().map(|row| row.share).sum();
    rows.extend(entries.iter().filter(|entry| !kings.iter().any(|king| king.submission == entry.submission)).map(
        |entry| {
            let score = number(entry, &options.stage, &options.score);
            unpaid(entry, score.unwrap_or(0.0), why_not(input, options, kings.first(), entry, score))
        },
    ));
    let memory = serde_json::to_value(Memory { kings }).expect("addresses and finite numbers are JSON");
    Ranking { rows, burned: (1.0 - taken).max(0.0), memory }
}

/// Nobody reigns twice at once: an older reign of the same hotkey or artifact ends.
fn crown(kings: &mut Vec<Reign>, entry: &Entry, score: f64, slots: usize) {
    kings.retain(|king| king.hotkey != entry.hotkey && king.artifact != entry.artifact);
    let reign = Reign { hotkey: entry.hotkey, submission: entry.submission, artifact: entry.artifact, score };
    kings.insert(0, reign);
    kings.truncate(slots);
}

fn paid((slot, (king, share)): (usize, (&Reign, &f64))) -> Row {
    Row {
        hotkey: king.hotkey,
        submission: Some(king.submission),
        points: king.score,
        share: *share,
        reason: if slot == 0 { "reigns".to_owned() } else { format!("reigned, {slot} before the present king") },
        results: std::collections::BTreeMap::new(),
    }
}

fn why_not(input: &Input, options: &Options, king: Option<&Reign>, entry: &Entry, score: Option<f64>) -> String {
    if let Some(why) = barred(entry, input.block) {
        return why;
    }
    match (score, king) {
        (None, _) => format!("has no score in stage `{}`", options.stage),
        (Some(score), Some(king)) => {
            format!(
                "score {score} does not exceed {} of {} by more than {}",
                king.score, king.submission, options.margin
            )
        }
        (Some(_), None) => "nobody reigns".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        fault::{Class, Code},
        ids::Priority,
    };

    fn entry(id: u8, score: f64) -> Entry {
        Entry {
            submission: SubmissionId(id.into()),
            hotkey: Hotkey([id; 32]),
            artifact: Digest([id; 32]),
            priority: Priority { block: id.into(), index: 0 },
            eligible: true,
            fault: None,
            evidence: [("duel".to_owned(), json!({ "score": score }))].into(),
        }
    }

    fn input(previous: Option<Ranking>, entries: Vec<Entry>, options: Value) -> Input {
        Input {
            challenge: "c".to_owned(),
            run: 1,
            options,
            previous,
            entries,
            reports: Vec::new(),
            decisions: Vec::new(),
            block: 9,
        }
    }

    fn shares(ranking: &Ranking) -> Vec<(i64, f64)> {
        ranking.rows.iter().map(|row| (row.submission.unwrap().0, row.share)).collect()
    }

    #[test]
    fn a_king_falls_only_to_more_than_the_margin() {
        let options = json!({ "margin": 0.05, "shares": [0.6, 0.4] });
        let first = King.rank(&input(None, vec![entry(1, 0.5), entry(2, 0.54)], options.clone()));
        assert_eq!(shares(&first), [(1, 0.6), (2, 0.0)]);
        assert_eq!(first.burned, 0.4);
        let second = King.rank(&input(Some(first.clone()), vec![entry(3, 0.55)], options.clone()));
        assert_eq!(shares(&second), [(1, 0.6), (3, 0.0)], "0.55 is not more than 0.5 + 0.05");
        let third = King.rank(&input(Some(second), vec![entry(4, 0.6)], options));
        assert_eq!(shares(&third), [(4, 0.6), (1, 0.4)]);
    }

    #[test]
    fn a_king_that_loses_its_standing_loses_its_place() {
        let first = King.rank(&input(None, vec![entry(1, 0.9)], Value::Null));
        let gone = Entry { eligible: false, ..entry(1, 0.9) };
        let second = King.rank(&input(Some(first.clone()), vec![gone, entry(2, 0.1)], Value::Null));
        assert_eq!(shares(&second), [(2, 1.0), (1, 0.0)]);
        let code = Code::new(Class::Miner, "broken", "broken", "mend it");
        let broken = Entry { fault: Some(code.because("x")), ..entry(1, 0.9) };
        assert_eq!(King.rank(&input(Some(first), vec![broken], Value::Null)).burned, 1.0);
    }

    #[test]
    fn wrong_options_are_named() {
        for wrong in [json!({ "margin": -0.1 }), json!({ "shares": [] }), json!({ "shares": [0.6, 0.5] })] {
            assert!(King.check(&wrong).is_err(), "{wrong}");
        }
    }
}

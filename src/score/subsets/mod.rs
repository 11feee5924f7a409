//! The ranking rule `subsets`: whoever is best on a subset of the environments is paid for that subset.
//!
//! Owns the rule, its options and its words. Refuses to play episodes: it reads the evidence of the rollouts.
//! `assets/handbook/ranking.md` explains it with an example; the pipeline and `waag verify` call it.
//!
//! # The rule
//!
//! 1. **Who takes part.** Every entry that is eligible, has no fault, is the first with its artifact, and has
//!    evidence of this run. All play the same episodes; whatever is missing or went wrong is a failed episode.
//! 2. **Better.** One is better than another on a subset of environments iff the paired one-sided lower bound of the
//!    difference in mean success over the subset exceeds 0 ([`stats`](super::stats)), at level
//!    `alpha / challengers`: challengers are all who take part in this run, but for the first of them.
//! 3. **Candidates.** A subset is won only by one with at least one success in each of its environments.
//! 4. **The holder** of a subset is the candidate who took it last; when nobody did, the earliest candidate by
//!    priority. Ties stay with the holder, so with the earlier.
//! 5. **Taking it.** Candidates are asked in order of priority. Who is better than the holder in this run, and was so
//!    in the run before, takes the subset and is the holder for those asked later. The run before is that of the
//!    previous ranking; the same run ranked twice confirms nothing.
//! 6. **Pay.** The winner of a subset has its points; pay is points over the points of all subsets. What nobody wins
//!    is burned.
//!
//! A subset always has at most one winner, because it is found by one walk. "Better" is the same relation for
//! everybody, so whoever stands above the holder has beaten the holder and nobody is paid for being unbeaten.

mod contest;
mod memory;
mod points;
mod reasons;

pub mod classic;

#[cfg(test)]
mod handbook;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

pub use self::points::Points;
use self::{
    contest::{Contest, Settled, Subset},
    memory::{Key, Memory, Standing},
    reasons::Reasons,
};
use super::{Entry, Input, Ranking, Row, Rule, barred, nobody, options, outcomes::RolloutEvidence, ranked, unpaid};

/// Environments of one challenge: with eight there are 255 subsets.
pub const ENVIRONMENTS_MAX: usize = 8;

/// The rule's options in a profile.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The stage whose evidence is read.
    pub stage: String,
    /// The chance at which, over all challengers of a run, one who is not better would win a subset once.
    pub alpha: f64,
    /// What a subset is worth by its size.
    pub points: Points,
    /// The environments, when points must exist even for one that nobody played; else all that the evidence names.
    pub environments: Option<Vec<String>>,
    /// Whether a win counts only after the next run has repeated it.
    pub confirm: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { stage: "rollouts".to_owned(), alpha: 0.01, points: Points::Linear, environments: None, confirm: true }
    }
}

impl Options {
    /// Reads and checks the options of a profile.
    ///
    /// # Errors
    /// Says in words which option is wrong.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let parsed: Self = options(value)?;
        if !(parsed.alpha > 0.0 && parsed.alpha < 0.5) {
            return Err(format!("alpha is {}, and must lie between 0 and 0.5", parsed.alpha));
        }
        if let Some(named) = &parsed.environments {
            let distinct: BTreeSet<&String> = named.iter().collect();
            if named.is_empty() || named.len() > ENVIRONMENTS_MAX || distinct.len() != named.len() {
                return Err(format!("environments must be 1 to {ENVIRONMENTS_MAX} different names"));
            }
        }
        Ok(parsed)
    }
}

/// The rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subsets;

impl Rule for Subsets {
    fn name(&self) -> &'static str {
        "subsets"
    }

    fn check(&self, options: &Value) -> Result<(), String> {
        Options::parse(options).map(drop)
    }

    fn rank(&self, input: &Input) -> Ranking {
        ranked(input, Options::parse(&input.options), rank)
    }
}

/// Why an entry takes no part, or its evidence.
type Admission = Result<RolloutEvidence, String>;

fn rank(input: &Input, options: &Options) -> Ranking {
    let mut entries: Vec<&Entry> = input.entries.iter().collect();
    entries.sort_by_key(|entry| (entry.priority, entry.hotkey, entry.submission));
    let present = present(&entries);
    let admissions: Vec<Admission> = entries.iter().map(|entry| admit(input, options, entry, &present)).collect();
    let environments = environments(options, &admissions);
    if environments.len() > ENVIRONMENTS_MAX {
        return nobody(input, &format!("the evidence names more than {ENVIRONMENTS_MAX} environments"));
    }
    let admitted = entries.iter().zip(&admissions);
    let players = admitted.filter_map(|(entry, it)| Some((*entry, it.as_ref().ok()?.clone()))).collect();
    let contest = Contest::new(environments, players, options.alpha, options.confirm);

    let memory = Memory::of(input.previous.as_ref());
    let is_fresh = memory.run < input.run;
    let valid: BTreeSet<Key> = present.iter().map(|entry| Key::of(entry)).collect();
    let nothing = Standing::default();
    let settled: Vec<(Subset, Settled)> = (1..1_u16 << contest.environments.len())
        .map(|mask| {
            let subset = Subset(mask);
            let before = memory.subsets.get(&subset.name(&contest.environments)).unwrap_or(&nothing);
            (subset, contest.settle(subset, before, is_fresh, &valid))
        })
        .collect();
    pay(input, options, &contest, &settled, &entries, &admissions)
}

/// All who are valid apart from evidence: eligible, without a fault, and the first with their artifact.
fn present<'a>(entries: &[&'a Entry]) -> Vec<&'a Entry> {
    let mut artifacts = BTreeSet::new();
    let valid = entries.iter().filter(|entry| entry.eligible && entry.fault.is_none());
    valid.filter(|entry| artifacts.insert(entry.artifact)).copied().collect()
}

fn admit(input: &Input, options: &Options, entry: &Entry, present: &[&Entry]) -> Admission {
    if let Some(why) = barred(entry, input.block) {
        return Err(why);
    }
    let same = |other: &&&Entry| other.artifact == entry.artifact && other.submission != entry.submission;
    if let Some(first) = present.iter().find(same) {
        return Err(format!("the same artifact as the earlier {}", reasons::name(first)));
    }
    let Some(evidence) = entry.evidence.get(&options.stage) else {
        return Err(format!("has no evidence of stage `{}`", options.stage));
    };
    let evidence: RolloutEvidence = serde_json::from_value(evidence.clone())
        .map_err(|source| format!("the evidence of stage `{}` cannot be read: {source}", options.stage))?;
    if evidence.run == input.run { Ok(evidence) } else { Err(format!("did not play in run {}", input.run)) }
}

/// The environments by name: those of the profile, else all that anybody's evidence names.
fn environments(options: &Options, admissions: &[Admission]) -> Vec<String> {
    let names: BTreeSet<String> = match &options.environments {
        Some(named) => named.iter().cloned().collect(),
        None => admissions.iter().flatten().flat_map(|evidence| evidence.environments.keys().cloned()).collect(),
    };
    names.into_iter().collect()
}

fn pay(
    input: &Input,
    options: &Options,
    contest: &Contest<'_>,
    settled: &[(Subset, Settled)],
    entries: &[&Entry],
    admissions: &[Admission],
) -> Ranking {
    let mut won = vec![0.0; contest.players.len()];
    let (mut all, mut unwon) = (0.0, 0.0);
    for (subset, settled) in settled {
        // Whole numbers far below 2^53: these sums are exact in any order.
        let worth = options.points.of(subset.size());
        all += worth;
        match settled.winner {
            Some(winner) => won[winner] += worth,
            None => unwon += worth,
        }
    }
    let reasons = Reasons::new(contest, settled, &won, all);
    let mut rows: Vec<Row> = Vec::with_capacity(entries.len());
    let mut player = 0;
    for (entry, admission) in entries.iter().zip(admissions) {
        let mut row = unpaid(entry, 0.0, admission.as_ref().err().cloned().unwrap_or_default());
        if admission.is_ok() {
            row.points = won[player];
            row.share = if all > 0.0 { won[player] / all } else { 0.0 };
            row.reason = reasons.of(player);
            let names = contest.environments.iter().enumerate();
            row.results = names.map(|(at, name)| (name.clone(), contest.rate(player, at))).collect();
            player += 1;
        }
        rows.push(row);
    }
    // Stable: equal points stay in order of priority.
    rows.sort_by(|left, right| right.points.total_cmp(&left.points));
    let burned = if all > 0.0 { unwon / all } else { 1.0 };
    Ranking { rows, burned, memory: remember(input, contest, settled).into_value() }
}

fn remember(input: &Input, contest: &Contest<'_>, settled: &[(Subset, Settled)]) -> Memory {
    let worth_keeping = |standing: &Standing| !standing.ladder.is_empty() || standing.chain.len() > 1;
    let subsets = settled
        .iter()
        .filter(|(_, settled)| worth_keeping(&settled.standing))
        .map(|(subset, settled)| (subset.name(&contest.environments), settled.standing.clone()))
        .collect();
    Memory { run: input.run, subsets }
}

//! Why each contestant is paid what it is paid, in words.
//!
//! Owns the sentences of the `subsets` rule. Refuses to decide anything: it reads what was settled.

use super::contest::{Contest, Settled, Subset};
use crate::score::Entry;

/// Opponents that a reason names one by one; the rest are counted.
const NAMED: usize = 2;

/// How an entry is called in reasons.
pub(super) fn name(entry: &Entry) -> String {
    format!("{} ({})", entry.submission, entry.hotkey.short())
}

/// What is known when reasons are given.
pub(super) struct Reasons<'a> {
    contest: &'a Contest<'a>,
    settled: &'a [(Subset, Settled)],
    won: &'a [f64],
    all: f64,
}

/// How one contestant fared over all subsets.
#[derive(Default)]
struct Tally {
    won: usize,
    waiting: usize,
    /// Better than the holder in this run, but not than one who waits before it.
    behind: usize,
    without_success: usize,
    /// By opponent: subsets on which the opponent is better.
    beaten: Vec<(usize, usize)>,
    /// By opponent: subsets that the opponent holds without being better.
    tied: Vec<(usize, usize)>,
}

impl<'a> Reasons<'a> {
    pub(super) fn new(contest: &'a Contest<'a>, settled: &'a [(Subset, Settled)], won: &'a [f64], all: f64) -> Self {
        Self { contest, settled, won, all }
    }

    /// The reason of one player.
    pub(super) fn of(&self, player: usize) -> String {
        let tally = self.tally(player);
        let of = self.settled.len();
        let mut parts = Vec::new();
        if tally.won > 0 {
            parts.push(format!("wins {} of {of} subsets, {} of {} points", tally.won, self.won[player], self.all));
        }
        if tally.waiting > 0 {
            parts.push(format!("a first win on {} of {of} subsets awaits the next run", tally.waiting));
        }
        if tally.behind > 0 {
            parts.push(format!("better than the holder of {} of {of} subsets, not than those who wait", tally.behind));
        }
        if !tally.beaten.is_empty() {
            parts.push(format!("beaten by {} subsets", self.opponents(&tally.beaten)));
        }
        if !tally.tied.is_empty() {
            parts.push(format!("not shown to be better than {} subsets", self.opponents(&tally.tied)));
        }
        if tally.without_success > 0 {
            parts.push(format!("without a success in some environment of {} subsets", tally.without_success));
        }
        parts.join("; ")
    }

    fn tally(&self, player: usize) -> Tally {
        let mut tally = Tally::default();
        for (subset, settled) in self.settled {
            if settled.winner == Some(player) {
                tally.won += 1;
                continue;
            }
            if !self.contest.is_candidate(*subset, player) {
                tally.without_success += 1;
                continue;
            }
            // With a candidate there is a winner.
            let Some(winner) = settled.winner else { continue };
            if settled.waiting.contains(&player) {
                tally.waiting += 1;
            } else if self.contest.beats(*subset, player, winner) {
                tally.behind += 1;
            } else if self.contest.beats(*subset, winner, player) {
                count(&mut tally.beaten, winner);
            } else {
                count(&mut tally.tied, winner);
            }
        }
        tally
    }

    /// `s3 (5F3sa2) on 12, s4 (5Gx) on 3 and others on 2`, most first, then by priority.
    fn opponents(&self, counts: &[(usize, usize)]) -> String {
        let mut sorted = counts.to_vec();
        sorted.sort_by_key(|(opponent, count)| (std::cmp::Reverse(*count), *opponent));
        let named: Vec<String> = sorted
            .iter()
            .take(NAMED)
            .map(|(opponent, count)| format!("{} on {count}", name(self.contest.players[*opponent].entry)))
            .collect();
        let rest: usize = sorted.iter().skip(NAMED).map(|(_, count)| count).sum();
        let others = if rest > 0 { format!(" and others on {rest}") } else { String::new() };
        format!("{}{others} of {}", named.join(", "), self.settled.len())
    }
}

fn count(counts: &mut Vec<(usize, usize)>, opponent: usize) {
    match counts.iter_mut().find(|(known, _)| *known == opponent) {
        Some((_, count)) => *count += 1,
        None => counts.push((opponent, 1)),
    }
}

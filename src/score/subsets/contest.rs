//! One run's contest over the subsets of environments: who takes part, who beats whom, who holds each subset.
//!
//! Owns the walk that finds a subset's winner. Refuses to pay or to find words; the rule does.

use std::collections::BTreeSet;

use super::memory::{Key, Standing};
use crate::score::{
    Entry, Rate,
    outcomes::{RolloutEvidence, Successes},
    stats,
};

/// A set of environments: bit `i` stands for the `i`th by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subset(pub(super) u16);

impl Subset {
    pub(super) const fn size(self) -> u32 {
        self.0.count_ones()
    }

    fn environments(self) -> impl Iterator<Item = usize> {
        (0..16).filter(move |at| self.0 >> at & 1 == 1)
    }

    /// The names of its environments, joined by `+`.
    pub(super) fn name(self, environments: &[String]) -> String {
        self.environments().map(|at| environments[at].as_str()).collect::<Vec<_>>().join("+")
    }
}

/// One who takes part: eligible, without a fault, the first with its artifact, and with evidence of this run.
#[derive(Debug)]
pub(super) struct Player<'a> {
    pub(super) entry: &'a Entry,
    pub(super) key: Key,
    /// In the order of the environments; an environment without evidence has no success.
    outcomes: Vec<Successes>,
}

/// Everybody who takes part, in order of priority, and the level at which a later one must be better.
#[derive(Debug)]
pub(super) struct Contest<'a> {
    pub(super) environments: Vec<String>,
    pub(super) players: Vec<Player<'a>>,
    /// The most episodes that anybody played in any environment. Whatever is missing counts as failed.
    pub(super) episodes: u64,
    /// The level of every single comparison.
    pub(super) alpha: f64,
    /// Whether a win must be repeated in the next run.
    pub(super) confirm: bool,
}

/// What became of one subset.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settled {
    /// Index of the player who is paid for it.
    pub(super) winner: Option<usize>,
    /// Those who beat the winner, or each other on top of the winner, for the first time.
    pub(super) waiting: Vec<usize>,
    /// What the next run must know.
    pub(super) standing: Standing,
}

impl<'a> Contest<'a> {
    /// `entries` are the valid ones in order of priority, each with its evidence of this run.
    pub(super) fn new(
        environments: Vec<String>,
        entries: Vec<(&'a Entry, RolloutEvidence)>,
        alpha: f64,
        confirm: bool,
    ) -> Self {
        let players: Vec<Player<'a>> = entries
            .into_iter()
            .map(|(entry, mut evidence)| {
                let outcomes = environments
                    .iter()
                    .map(|name| evidence.environments.remove(name).map(|result| result.successes).unwrap_or_default())
                    .collect();
                Player { entry, key: Key::of(entry), outcomes }
            })
            .collect();
        let every_outcome = players.iter().flat_map(|player| &player.outcomes);
        let episodes = every_outcome.map(|outcome| u64::from(outcome.episodes())).max().unwrap_or(0);
        let mut contest = Self { environments, players, episodes, alpha, confirm };
        contest.alpha = alpha / contest.challengers().max(1) as f64;
        contest
    }

    /// Everybody who takes part, but for the first, who has nobody to beat. Whether one had any success does not
    /// matter: the level must not depend on what the episodes showed.
    pub(super) fn challengers(&self) -> usize {
        self.players.len().saturating_sub(1)
    }

    pub(super) fn rate(&self, player: usize, environment: usize) -> Rate {
        stats::rate(u64::from(self.players[player].outcomes[environment].count()), self.episodes)
    }

    /// Whether this player solved at least one episode in each environment of the subset.
    pub(super) fn is_candidate(&self, subset: Subset, player: usize) -> bool {
        subset.environments().all(|at| self.players[player].outcomes[at].count() > 0)
    }

    /// Whether the first player is better than the second on this subset, in this run alone.
    pub(super) fn beats(&self, subset: Subset, first: usize, second: usize) -> bool {
        let (mut wins, mut losses) = (0, 0);
        for at in subset.environments() {
            let (only_first, only_second) =
                self.players[first].outcomes[at].discordant(&self.players[second].outcomes[at]);
            wins += only_first;
            losses += only_second;
        }
        stats::is_better(wins, losses, self.alpha)
    }

    /// Settles one subset. `before` is its standing after the ranking before, `is_fresh` whether this run is a later
    /// one than that ranking's, `present` all who are still valid, with evidence of this run or without.
    pub(super) fn settle(&self, subset: Subset, before: &Standing, is_fresh: bool, present: &BTreeSet<Key>) -> Settled {
        let candidates: Vec<usize> =
            (0..self.players.len()).filter(|player| self.is_candidate(subset, *player)).collect();
        let find = |key: &Key| candidates.iter().copied().find(|player| self.players[*player].key == *key);
        let mut ladder: Vec<Key> = before.ladder.iter().copied().filter(|key| present.contains(key)).collect();
        let holder = ladder.iter().rev().find_map(find).or_else(|| candidates.first().copied());
        let Some(mut holder) = holder else {
            let standing = Standing { ladder, chain: Vec::new() };
            return Settled { winner: None, waiting: Vec::new(), standing };
        };
        let old_holder_is_gone = before.chain.first().is_none_or(|key| find(key).is_none());
        for player in candidates.iter().copied() {
            let is_second = !self.confirm
                || (is_fresh
                    && won_before(
                        &before.chain,
                        self.players[player].key,
                        self.players[holder].key,
                        old_holder_is_gone,
                    ));
            if player != holder && is_second && self.beats(subset, player, holder) {
                promote(&mut ladder, self.players[player].key, self.players[holder].key);
                holder = player;
            }
        }
        let waiting = self.waiting(subset, &candidates, holder);
        let chain = [holder].iter().chain(&waiting).map(|player| self.players[*player].key).collect();
        Settled { winner: Some(holder), waiting, standing: Standing { ladder, chain } }
    }

    /// Those who would take the subset one after the other if a single win were enough.
    fn waiting(&self, subset: Subset, candidates: &[usize], holder: usize) -> Vec<usize> {
        let mut waiting = Vec::new();
        let mut top = holder;
        for player in candidates.iter().copied() {
            if player != top && self.beats(subset, player, top) {
                waiting.push(player);
                top = player;
            }
        }
        waiting
    }
}

/// Whether `challenger` beat `holder` in the run before. One who beat the holder of that run, who is gone, beat
/// whoever holds now: else a holder could escape every second win by leaving its place to another hotkey of its own.
fn won_before(chain: &[Key], challenger: Key, holder: Key, old_holder_is_gone: bool) -> bool {
    let place = |key: Key| chain.iter().position(|link| *link == key);
    match (place(challenger), place(holder)) {
        (Some(challenger), Some(holder)) => challenger > holder,
        (Some(challenger), None) => challenger > 0 && old_holder_is_gone,
        (None, _) => false,
    }
}

/// Puts the challenger directly above the holder it beat: those above the holder, who had no success in some
/// environment this time, were not beaten and keep their place.
fn promote(ladder: &mut Vec<Key>, challenger: Key, holder: Key) {
    ladder.retain(|key| *key != challenger);
    let above = ladder.iter().position(|key| *key == holder).map_or(0, |at| at + 1);
    ladder.insert(above, challenger);
}

//! The worked example of `assets/handbook/ranking.md`: every number in it is computed here.

use serde_json::Value;

use super::{
    tests::{entry, input},
    *,
};
use crate::score::stats;

const TEXT: &str = include_str!("../../../assets/handbook/ranking.md");

/// How often each pattern of success (Ada, Ben, Cy) occurs among 200 episodes: 011, 010, 001, 000, 101, 100, 111, 110.
const CART_POLE: [usize; 8] = [8, 0, 1, 1, 19, 29, 124, 18];
const PENDULUM: [usize; 8] = [109, 16, 17, 18, 5, 10, 21, 4];
const PATTERNS: [[bool; 3]; 8] = [
    [false, true, true],
    [false, true, false],
    [false, false, true],
    [false, false, false],
    [true, false, true],
    [true, false, false],
    [true, true, true],
    [true, true, false],
];

fn flags(counts: [usize; 8], who: usize) -> Vec<bool> {
    PATTERNS.iter().zip(counts).flat_map(|(pattern, count)| vec![pattern[who]; count]).collect()
}

fn contestants(run: u64) -> Vec<Entry> {
    (0..3)
        .map(|who| {
            let outcomes = [flags(CART_POLE, who), flags(PENDULUM, who)];
            entry(u8::try_from(who + 1).expect("three"), run, &outcomes)
        })
        .collect()
}

fn says(line: &str) {
    assert!(TEXT.contains(line), "the handbook lacks `{line}`");
}

#[test]
fn the_tables_are_right() {
    for (name, who) in [("Ada", 0), ("Ben", 1), ("Cy", 2)] {
        let solved = [CART_POLE, PENDULUM].map(|counts| flags(counts, who).iter().filter(|flag| **flag).count());
        says(&format!("| {name} | {} | {} |", solved[0], solved[1]));
    }
    let only = |counts, first: usize, second: usize| {
        let pairs = flags(counts, first).into_iter().zip(flags(counts, second));
        pairs.filter(|(first, second)| *first && !second).count() as u64
    };
    let alpha = Options::default().alpha / 2.0;
    for (who, (name, other, against)) in [(1, ("Ben", "Ada", 0)), (2, ("Cy", "Ada", 0)), (2, ("Cy", "Ben", 1))] {
        for (subset, environments) in
            [("CartPole", &[CART_POLE][..]), ("Pendulum", &[PENDULUM]), ("both", &[CART_POLE, PENDULUM])]
        {
            let wins: u64 = environments.iter().map(|counts| only(*counts, who, against)).sum();
            let losses: u64 = environments.iter().map(|counts| only(*counts, against, who)).sum();
            let episodes = 200 * environments.len() as u64;
            let bound = 100.0 * stats::lower_bound(wins, losses, episodes, alpha);
            let mean = 100.0 * (wins as f64 - losses as f64) / episodes as f64;
            let verdict = if stats::is_better(wins, losses, alpha) { "yes" } else { "no" };
            says(&format!(
                "| {name} over {other} | {subset} | {wins} | {losses} | {mean:+.1} | {bound:+.1} | {verdict} |"
            ));
        }
    }
}

#[test]
fn the_pay_is_right() {
    let first = Subsets.rank(&input(1, None, contestants(1), Value::Null));
    let second = Subsets.rank(&input(2, Some(first.clone()), contestants(2), Value::Null));
    let line = |ranking: &Ranking| {
        let share = |id: i64| {
            let row = ranking.rows.iter().find(|row| row.submission.is_some_and(|submission| submission.0 == id));
            row.map_or(f64::NAN, |row| 100.0 * row.share)
        };
        format!("{} % | {} % | {} % | {} % |", share(1), share(2), share(3), 100.0 * ranking.burned)
    };
    says(&format!("| first run | {}", line(&first)));
    says(&format!("| second run | {}", line(&second)));
}

#[test]
fn the_table_of_margins_is_right() {
    for challengers in [1_u64, 10, 100, 255] {
        let alpha = Options::default().alpha / challengers as f64;
        let needed = |discordant: u64| {
            let wins = (0..=discordant).find(|wins| stats::is_better(*wins, discordant - wins, alpha));
            wins.map_or(f64::NAN, |wins| (2.0 * wins as f64 - discordant as f64) / 200.0 * 100.0)
        };
        says(&format!("| {challengers} | {} | {} | {} |", needed(20), needed(60), needed(100)));
    }
}

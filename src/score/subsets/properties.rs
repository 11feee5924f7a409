//! Properties of the rule over random runs.

use proptest::prelude::*;
use serde_json::json;

use super::{
    tests::{at_once, entry, first, input},
    *,
};
use crate::ids::{Digest, Hotkey, Priority, SubmissionId};

const EPISODES: u32 = 48;
const ENVIRONMENTS: usize = 3;

/// Strengths of each contestant in each environment, of 48, and the luck that decides episodes.
fn field() -> impl Strategy<Value = (Vec<[u32; ENVIRONMENTS]>, u64)> {
    (prop::collection::vec(prop::array::uniform3(0..=EPISODES), 1..6), any::<u64>())
}

/// A small generator, so that a field and a run give the same episodes on every machine.
fn luck(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    u32::try_from(*state >> 33).expect("31 bits")
}

fn play(field: &[[u32; ENVIRONMENTS]], seed: u64, run: u64) -> Vec<Entry> {
    let mut state = seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    field
        .iter()
        .enumerate()
        .map(|(at, strengths)| {
            let outcomes: Vec<Vec<bool>> = strengths
                .iter()
                .map(|strength| (0..EPISODES).map(|_| luck(&mut state) % EPISODES < *strength).collect())
                .collect();
            entry(u8::try_from(at + 1).expect("few"), run, &outcomes)
        })
        .collect()
}

fn share(ranking: &Ranking, hotkeys: impl Fn(&Row) -> bool) -> f64 {
    ranking.rows.iter().filter(|row| hotkeys(row)).map(|row| row.share).sum()
}

/// The same contestant under another hotkey, with other bytes and a later priority.
fn clone_of(original: &Entry, id: u8, block: u64) -> Entry {
    Entry {
        submission: SubmissionId(id.into()),
        hotkey: Hotkey([id; 32]),
        artifact: Digest([id; 32]),
        priority: Priority { block, index: 0 },
        ..original.clone()
    }
}

/// Options under which the level of each comparison is the same however many challengers there are.
fn level(entries: &[Entry]) -> Value {
    let challengers = u32::try_from(entries.len()).expect("few").saturating_sub(1).max(1);
    json!({ "confirm": false, "alpha": 0.02 * f64::from(challengers) })
}

fn is_original(row: &Row, id: u8) -> bool {
    row.hotkey == Hotkey([id; 32])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shares_and_burn_are_all_there_is((field, seed) in field(), confirm in any::<bool>()) {
        let options = json!({ "confirm": confirm, "alpha": 0.2 });
        let mut previous = None;
        for run in 1..=3 {
            let given = input(run, previous, play(&field, seed, run), options.clone());
            let ranking = Subsets.rank(&given);
            prop_assert_eq!(&ranking, &Subsets.rank(&given));
            prop_assert_eq!(ranking.rows.len(), field.len());
            let paid = share(&ranking, |_| true);
            prop_assert!((paid + ranking.burned - 1.0).abs() < 1e-12);
            prop_assert!(ranking.rows.iter().all(|row| row.share >= 0.0 && !row.reason.is_empty()));
            // Each subset has at most one winner: whole points never exceed those there are, 12 in three environments.
            let points: f64 = ranking.rows.iter().map(|row| row.points).sum();
            prop_assert!(points <= 12.0 && points.fract() == 0.0);
            previous = Some(ranking);
        }
    }

    #[test]
    fn the_order_in_which_entries_are_given_changes_nothing((field, seed) in field(), turn in 0_usize..6) {
        let entries = play(&field, seed, 1);
        let mut turned = entries.clone();
        let by = turn % entries.len();
        turned.rotate_left(by);
        let one = Subsets.rank(&input(1, None, entries, at_once()));
        prop_assert_eq!(one, Subsets.rank(&input(1, None, turned, at_once())));
    }

    #[test]
    fn a_copy_of_the_bytes_earns_nothing_and_changes_nobody((field, seed) in field(), of in 0_usize..6) {
        let entries = play(&field, seed, 1);
        let original = &entries[of % entries.len()];
        let copy = Entry { artifact: original.artifact, ..clone_of(original, 99, 50) };
        let mut more = entries.clone();
        more.push(copy);
        let before = Subsets.rank(&input(1, None, entries, at_once()));
        let after = Subsets.rank(&input(1, None, more, at_once()));
        prop_assert_eq!(share(&after, |row| is_original(row, 99)), 0.0);
        let others: Vec<Row> = after.rows.into_iter().filter(|row| !is_original(row, 99)).collect();
        prop_assert_eq!(before.rows, others);
    }

    #[test]
    fn splitting_into_hotkeys_that_play_alike_pays_a_group_no_more(
        (field, seed) in field(), of in 0_usize..6, clones in 1_u8..4, gap in 0_u64..7,
    ) {
        // At the same level for each comparison: what a larger number of challengers does is the test below.
        let entries = play(&field, seed, 1);
        let original = &entries[of % entries.len()];
        let mut more = entries.clone();
        for clone in 0..clones {
            more.push(clone_of(original, 90 + clone, original.priority.block + gap));
        }
        let id = original.hotkey.0[0];
        let alone = share(&Subsets.rank(&input(1, None, entries.clone(), level(&entries))), |row| is_original(row, id));
        let split = share(
            &Subsets.rank(&input(1, None, more.clone(), level(&more))),
            |row| is_original(row, id) || row.hotkey.0[0] >= 90,
        );
        prop_assert!(split <= alone + 1e-12, "{split} > {alone}");
    }

    #[test]
    fn hopeless_contestants_move_nothing_but_the_level((field, seed) in field(), count in 1_u8..4) {
        let entries = play(&field, seed, 1);
        let mut more = entries.clone();
        // Before everybody in priority.
        more.extend((0..count).map(|at| Entry {
            priority: Priority { block: 0, index: at.into() },
            ..entry(90 + at, 1, &[first(0, EPISODES), first(0, EPISODES), first(0, EPISODES)])
        }));
        let levels = (level(&entries), level(&more));
        let before = Subsets.rank(&input(1, None, entries, levels.0));
        let after = Subsets.rank(&input(1, None, more, levels.1));
        let shares = |ranking: &Ranking| -> Vec<(Hotkey, f64)> {
            let others = ranking.rows.iter().filter(|row| row.hotkey.0[0] < 90);
            others.map(|row| (row.hotkey, row.share)).collect()
        };
        prop_assert_eq!((shares(&before), before.burned), (shares(&after), after.burned));
    }
}

/// Many tries: twenty challengers as good as the holder, each with luck of its own, in each of many runs.
#[test]
fn many_equal_challengers_together_win_no_more_often_than_alpha() {
    let field = [[24; ENVIRONMENTS]; 21];
    let mut runs_with_a_win = 0;
    let runs = 300;
    for run in 1..=runs {
        let ranking = Subsets.rank(&input(run, None, play(&field, 1, run), json!({ "alpha": 0.05 })));
        // One subset looked at, {E0}; nothing is remembered, so a chain is a first win of somebody.
        let memory: Memory = serde_json::from_value(ranking.memory).unwrap();
        runs_with_a_win += u32::from(memory.subsets.contains_key("E0"));
    }
    // At 5 % there are at most 15 to be expected; 27 would be three standard deviations more.
    assert!(runs_with_a_win <= 26, "{runs_with_a_win} of {runs}");
}

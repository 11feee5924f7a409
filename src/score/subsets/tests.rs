use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    fault::{Class, Code},
    ids::{Digest, Hotkey, Priority, SubmissionId},
    score::outcomes::{EnvironmentResult, Successes},
};

/// A contestant: its number (which is also its block) and, for each environment, which episodes it solved.
pub(super) fn entry(id: u8, run: u64, outcomes: &[Vec<bool>]) -> Entry {
    let environments = outcomes.iter().enumerate().map(|(at, flags)| {
        let successes = Successes::new(flags).unwrap();
        (format!("E{at}"), EnvironmentResult { successes, mean_return: None, records: None })
    });
    let evidence = RolloutEvidence { run, environments: environments.collect() };
    Entry {
        submission: SubmissionId(id.into()),
        hotkey: Hotkey([id; 32]),
        artifact: Digest([id; 32]),
        priority: Priority { block: id.into(), index: 0 },
        eligible: true,
        fault: None,
        evidence: BTreeMap::from([("rollouts".to_owned(), serde_json::to_value(evidence).unwrap())]),
    }
}

/// `solved` of `episodes`, spread evenly from a start that differs by `shift`.
pub(super) fn spread(solved: u32, episodes: u32, shift: u32) -> Vec<bool> {
    let hit = |i: u32| (i + 1) * solved / episodes - i * solved / episodes == 1;
    (0..episodes).map(|i| hit((i + shift) % episodes)).collect()
}

/// Solves the first `solved` of `episodes`: everything a weaker one solves, a stronger one solves too.
pub(super) fn first(solved: u32, episodes: u32) -> Vec<bool> {
    (0..episodes).map(|i| i < solved).collect()
}

pub(super) fn input(run: u64, previous: Option<Ranking>, entries: Vec<Entry>, options: Value) -> Input {
    Input {
        challenge: "c".to_owned(),
        run,
        options,
        previous,
        entries,
        reports: Vec::new(),
        decisions: Vec::new(),
        block: 100,
    }
}

pub(super) fn at_once() -> Value {
    json!({ "confirm": false })
}

fn row(ranking: &Ranking, id: u8) -> &Row {
    ranking.rows.iter().find(|row| row.submission == Some(SubmissionId(id.into()))).expect("every entry has a row")
}

/// Ranks the same contestants in runs 1 to `runs`.
fn ranked(runs: u64, make: impl Fn(u64) -> Vec<Entry>) -> Ranking {
    let mut previous = None;
    for run in 1..=runs {
        previous = Some(Subsets.rank(&input(run, previous, make(run), Value::Null)));
    }
    previous.expect("at least one run")
}

#[test]
fn the_generalist_gets_what_the_early_specialist_is_not_better_at() {
    // 95 / 40 / 40 before 70 / 70 / 70, of 100 episodes each: the classic rule pays 8 to 4.
    let make = |run| {
        let specialist = [spread(95, 100, 0), spread(40, 100, 0), spread(40, 100, 0)];
        let generalist = [spread(70, 100, 3), spread(70, 100, 3), spread(70, 100, 3)];
        vec![entry(1, run, &specialist), entry(2, run, &generalist)]
    };
    let once = ranked(1, make);
    assert_eq!((row(&once, 1).points, row(&once, 2).points), (12.0, 0.0));
    assert_eq!(
        row(&once, 2).reason,
        format!(
            "a first win on 4 of 7 subsets awaits the next run; beaten by s1 ({short}) on 1 of 7 subsets; not shown \
             to be better than s1 ({short}) on 2 of 7 subsets",
            short = Hotkey([1; 32]).short()
        )
    );
    let twice = ranked(2, make);
    // The later one takes {E1}, {E2}, {E1, E2} and {E0, E1, E2}: 1 + 1 + 2 + 3 points.
    assert_eq!((row(&twice, 1).points, row(&twice, 2).points), (5.0, 7.0));
    assert_eq!(row(&twice, 2).share, 7.0 / 12.0);
    assert_eq!(twice.burned, 0.0);
    assert!(row(&twice, 2).reason.starts_with("wins 4 of 7 subsets, 7 of 12 points"), "{}", row(&twice, 2).reason);
    assert_eq!(twice.rows[0].submission, Some(SubmissionId(2)), "best first");
}

#[test]
fn a_subset_without_a_success_in_each_environment_burns() {
    let entries = vec![entry(1, 1, &[first(100, 100), first(0, 100)]), entry(2, 1, &[first(0, 100), first(0, 100)])];
    let ranking = Subsets.rank(&input(1, None, entries, Value::Null));
    assert_eq!((row(&ranking, 1).points, ranking.burned), (1.0, 0.75));
    assert_eq!(row(&ranking, 2).reason, "without a success in some environment of 3 subsets");
    assert!(row(&ranking, 1).reason.contains("without a success in some environment of 2 subsets"));
}

#[test]
fn one_who_solves_nothing_blocks_nobody() {
    // First in priority, no success: a later one with a single success wins at once.
    let entries = vec![entry(1, 1, &[first(0, 200)]), entry(2, 1, &[first(1, 200)])];
    let ranking = Subsets.rank(&input(1, None, entries, Value::Null));
    assert_eq!((row(&ranking, 2).share, row(&ranking, 1).share), (1.0, 0.0));
}

#[test]
fn nobody_takes_part_nobody_is_paid() {
    let ranking = Subsets.rank(&input(1, None, Vec::new(), Value::Null));
    assert_eq!((ranking.rows.len(), ranking.burned), (0, 1.0));
    let wrong = Subsets.rank(&input(1, None, vec![entry(1, 1, &[first(5, 5)])], json!({ "alpha": 0.7 })));
    assert_eq!(wrong.burned, 1.0);
}

#[test]
fn the_faulted_the_ineligible_and_the_copy_earn_nothing_and_stand_in_nobodys_way() {
    let code = Code::new(Class::Miner, "near_copy", "a copy", "make your own");
    let good = || [first(190, 200)];
    let entries = vec![
        Entry { fault: Some(code.because("of s9")), ..entry(1, 1, &good()) },
        Entry { eligible: false, ..entry(2, 1, &good()) },
        entry(3, 1, &[first(100, 200)]),
        Entry { artifact: Digest([3; 32]), ..entry(4, 1, &good()) },
        entry(5, 7, &good()),
        Entry { evidence: BTreeMap::new(), ..entry(6, 1, &good()) },
        Entry { evidence: BTreeMap::from([("rollouts".to_owned(), json!({ "run": "x" }))]), ..entry(7, 1, &good()) },
    ];
    let ranking = Subsets.rank(&input(1, None, entries, Value::Null));
    let paid: Vec<_> = ranking.rows.iter().filter(|row| row.share > 0.0).map(|row| row.submission).collect();
    assert_eq!(paid, [Some(SubmissionId(3))]);
    for (id, words) in [
        (1, "rejected: near_copy: of s9"),
        (2, "the hotkey is not registered, or may not be paid, at block 100"),
        (4, "the same artifact as the earlier s3"),
        (5, "did not play in run 1"),
        (6, "has no evidence of stage `rollouts`"),
        (7, "the evidence of stage `rollouts` cannot be read"),
    ] {
        assert!(row(&ranking, id).reason.starts_with(words), "{id}: {}", row(&ranking, id).reason);
        assert!(row(&ranking, id).results.is_empty());
    }
}

#[test]
fn a_missing_episode_is_a_failed_one() {
    // 50 of 50 is no better a rate than 100 of 200, and an environment without evidence is 0 of 200.
    let short = entry(2, 1, &[first(50, 50)]);
    let entries = vec![entry(1, 1, &[first(100, 200), first(10, 200)]), short];
    let ranking = Subsets.rank(&input(1, None, entries, at_once()));
    assert_eq!(row(&ranking, 2).share, 0.0);
    assert_eq!(row(&ranking, 2).results["E0"].rate, 0.25);
    assert_eq!(row(&ranking, 2).results["E1"].successes, 0);
    assert_eq!(row(&ranking, 2).results["E1"].episodes, 200);
}

#[test]
fn a_win_must_be_repeated_by_the_same_artifact_in_the_next_run() {
    let make = |run| vec![entry(1, run, &[first(100, 200)]), entry(2, run, &[first(150, 200)])];
    let weak = |run| vec![entry(1, run, &[first(100, 200)]), entry(2, run, &[first(101, 200)])];
    let winner = |ranking: &Ranking| ranking.rows[0].submission.map(|id| id.0);
    let one = ranked(1, make);
    assert_eq!(winner(&one), Some(1));
    let two = Subsets.rank(&input(2, Some(one.clone()), make(2), Value::Null));
    assert_eq!(winner(&two), Some(2));
    // A failed second try starts again.
    let failed = Subsets.rank(&input(2, Some(one.clone()), weak(2), Value::Null));
    let again = Subsets.rank(&input(3, Some(failed.clone()), make(3), Value::Null));
    assert_eq!((winner(&failed), winner(&again)), (Some(1), Some(1)));
    // Ranking the same run twice confirms nothing; the run after it does.
    let same = Subsets.rank(&input(1, Some(one.clone()), make(1), Value::Null));
    assert_eq!(winner(&same), Some(1));
    assert_eq!(winner(&Subsets.rank(&input(2, Some(same), make(2), Value::Null))), Some(2));
    // Another artifact of the same hotkey starts again.
    let mut changed = make(2);
    changed[1].artifact = Digest([99; 32]);
    assert_eq!(winner(&Subsets.rank(&input(2, Some(one), changed, Value::Null))), Some(1));
    // Once taken, the subset stays with the new holder until somebody else wins it twice.
    let kept = Subsets.rank(&input(3, Some(two), weak(3), Value::Null));
    assert_eq!(winner(&kept), Some(2));
}

#[test]
fn two_better_ones_rise_together() {
    // Run 1: 2 is better than 1 and 3 better than 2. Run 2 confirms both, so 3 holds.
    let make = |run| {
        vec![entry(1, run, &[first(60, 200)]), entry(2, run, &[first(120, 200)]), entry(3, run, &[first(180, 200)])]
    };
    let ranking = ranked(2, make);
    assert_eq!(row(&ranking, 3).share, 1.0);
    // When 3 leaves, 2 holds: it was confirmed above 1.
    let mut without = make(3);
    without[2].eligible = false;
    let ranking = Subsets.rank(&input(3, Some(ranking), without, Value::Null));
    assert_eq!(row(&ranking, 2).share, 1.0);
}

#[test]
fn a_holder_does_not_escape_by_leaving_its_place_to_another_hotkey() {
    let make = |run| {
        vec![entry(1, run, &[first(60, 200)]), entry(2, run, &[first(60, 200)]), entry(3, run, &[first(180, 200)])]
    };
    let one = ranked(1, make);
    let mut left = make(2);
    left.remove(0);
    let two = Subsets.rank(&input(2, Some(one), left, Value::Null));
    assert_eq!(row(&two, 3).share, 1.0, "{}", row(&two, 3).reason);
}

#[test]
fn a_newcomer_with_an_older_commitment_takes_nothing_from_a_confirmed_holder() {
    let make = |run| vec![entry(2, run, &[first(60, 200)]), entry(3, run, &[first(120, 200)])];
    let held = ranked(2, make);
    let mut joined = make(3);
    joined.insert(0, entry(1, 3, &[first(120, 200)]));
    let ranking = Subsets.rank(&input(3, Some(held), joined, Value::Null));
    assert_eq!(row(&ranking, 3).share, 1.0);
}

#[test]
fn a_holder_without_success_this_time_keeps_its_place_on_the_ladder() {
    let make = |run| vec![entry(1, run, &[first(1, 200)]), entry(2, run, &[first(60, 200)])];
    let held = ranked(2, make);
    let unlucky = vec![entry(1, 3, &[first(1, 200)]), entry(2, 3, &[first(0, 200)])];
    let third = Subsets.rank(&input(3, Some(held), unlucky, Value::Null));
    assert_eq!((row(&third, 1).share, row(&third, 2).share), (1.0, 0.0));
    let fourth = Subsets.rank(&input(4, Some(third), make(4), Value::Null));
    assert_eq!(row(&fourth, 2).share, 1.0);
}

#[test]
fn more_challengers_ask_for_more() {
    // 8 wins without a loss have a chance of 1/256: enough for one challenger, not for three.
    let alone = vec![entry(1, 1, &[first(100, 200)]), entry(2, 1, &[first(108, 200)])];
    assert_eq!(row(&Subsets.rank(&input(1, None, alone.clone(), at_once())), 2).share, 1.0);
    let mut crowd = alone.clone();
    crowd.extend([entry(3, 1, &[first(5, 200)]), entry(4, 1, &[first(5, 200)])]);
    assert_eq!(row(&Subsets.rank(&input(1, None, crowd, at_once())), 2).share, 0.0);
    // Those without any success count like the others: the level does not depend on what the episodes showed.
    let mut hopeless = alone;
    hopeless.extend([entry(3, 1, &[first(0, 200)]), entry(4, 1, &[first(0, 200)])]);
    assert_eq!(row(&Subsets.rank(&input(1, None, hopeless, at_once())), 2).share, 0.0);
}

#[test]
fn options_are_checked() {
    assert_eq!(Subsets.check(&json!({ "alpha": 0.01, "points": "exponential", "environments": ["A"] })), Ok(()));
    for wrong in [
        json!({ "alpha": 0.0 }),
        json!({ "alpha": 0.5 }),
        json!({ "environments": [] }),
        json!({ "environments": ["A", "A"] }),
        json!({ "environments": (0..9).map(|i| i.to_string()).collect::<Vec<_>>() }),
        json!({ "points": "cubic" }),
        json!({ "epsilon": 1 }),
    ] {
        assert!(Subsets.check(&wrong).is_err(), "{wrong}");
    }
    let many: Vec<Vec<bool>> = (0..9).map(|_| first(5, 5)).collect();
    assert_eq!(Subsets.rank(&input(1, None, vec![entry(1, 1, &many)], Value::Null)).burned, 1.0);
    assert_eq!(Subsets.rank(&input(1, None, vec![entry(1, 1, &many[..8])], Value::Null)).burned, 0.0);
}

#[test]
fn an_environment_of_the_profile_that_nobody_played_burns() {
    let options = json!({ "environments": ["E0", "E1"] });
    let ranking = Subsets.rank(&input(1, None, vec![entry(1, 1, &[first(5, 5)])], options));
    assert_eq!((row(&ranking, 1).share, ranking.burned), (0.25, 0.75));
}

#[test]
fn foreign_memory_counts_as_none() {
    let make = |run| vec![entry(1, run, &[first(100, 200)]), entry(2, run, &[first(150, 200)])];
    for memory in [json!("x"), json!({ "kings": [] }), Value::Null] {
        let previous = Ranking { rows: Vec::new(), burned: 1.0, memory };
        let ranking = Subsets.rank(&input(2, Some(previous), make(2), Value::Null));
        assert_eq!(row(&ranking, 1).share, 1.0);
    }
}

//! Five shapes of competition through one pipeline.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use waag::{
    fault::Class,
    ids::Hotkey,
    pipeline::{Error, life::Status},
    stage::{Exposed, Outcome},
    store::events,
};

use super::world::{BROKEN, NO_DISK, World};

const fn hotkey(miner: u8) -> Hotkey {
    Hotkey([miner; 32])
}

async fn assert_chain_intact(world: &World) {
    let report = world.pipeline.store().db().read(events::verify_chain).await.expect("reads");
    assert!(report.events > 0);
}

#[tokio::test]
async fn a_duel_is_void_when_the_king_changed_and_is_fought_again() {
    let mut world = World::open("duel").await;
    let king = world.submit(1, 1.0).await;
    world.settle().await;
    assert_eq!(world.status(king).await, Status::Ranked);

    // Two challengers at once: both runs are frozen against the same king, so the second fold meets a new one.
    let strong = world.submit(2, 3.0).await;
    let weak = world.submit(3, 2.0).await;
    world.settle().await;
    assert_eq!(world.statuses(&[king, strong, weak]).await, [Status::Lost, Status::Ranked, Status::Lost]);
    assert_eq!(world.shares().await, [(hotkey(2), 1.0)]);
    let story = world.pipeline.story(weak).await.expect("there");
    let happened: Vec<&str> = story.events.iter().map(|event| event.kind.as_str()).collect();
    assert!(happened.contains(&"run_void"), "{happened:?}");
    assert_chain_intact(&world).await;
}

#[tokio::test]
async fn a_king_that_its_elder_exposes_reigns_no_more() {
    let mut world = World::open("duel").await;
    let king = world.submit(1, 3.0).await;
    world.settle().await;
    assert_eq!(world.shares().await, [(hotkey(1), 1.0)]);
    let elder = world.submit(2, 1.0).await;
    let attempt = world.pipeline.claim().await.expect("claims").expect("it waits");
    assert_eq!(attempt.submission.id, elder);
    let exposed =
        Exposed { submission: king, fault: BROKEN.because("a copy"), evidence: serde_json::json!({ "of": elder }) };
    let outcome = Outcome::Exposes(serde_json::Value::Null, vec![exposed]);
    world.pipeline.finish(&attempt, outcome).await.expect("finishes");
    assert_eq!(world.status(king).await, Status::Rejected);
    world.settle().await;
    assert_eq!(world.statuses(&[king, elder]).await, [Status::Rejected, Status::Ranked]);
    assert_eq!(world.shares().await, [(hotkey(2), 1.0)]);
    let verdict = world.pipeline.story(king).await.expect("there").verdicts.pop().expect("one");
    assert_eq!((verdict.outcome.as_str(), &verdict.evidence["of"]), ("reject", &serde_json::json!(elder)));
    assert_chain_intact(&world).await;
}

#[tokio::test]
async fn two_of_three_workers_outvote_a_liar() {
    let mut world = World::open("quorum").await;
    world.script.lock().expect("free").liars.push("w1".to_owned());
    let submission = world.submit(1, 4.0).await;
    world.settle().await;
    assert_eq!(world.status(submission).await, Status::Ranked);
    let story = world.pipeline.story(submission).await.expect("there");
    assert_eq!(story.verdicts.last().expect("judged").evidence, json!({ "score": 4.0 }));
}

#[tokio::test]
async fn workers_that_all_disagree_blame_nobody() {
    let mut world = World::open("quorum").await;
    world.script.lock().expect("free").liars.extend(["w0".to_owned(), "w1".to_owned(), "w2".to_owned()]);
    let submission = world.submit(1, 4.0).await;
    world.rest().await;
    let story = world.pipeline.story(submission).await.expect("there");
    assert_eq!(story.submission.status, Status::Retry);
    let fault = story.submission.fault.expect("a retry has a reason");
    assert_eq!((fault.class, fault.code.as_str()), (Class::Infra, "no_quorum"));

    world.script.lock().expect("free").liars.clear();
    world.settle().await;
    assert_eq!(world.status(submission).await, Status::Ranked);
}

#[tokio::test]
async fn a_worker_never_gets_two_replicas_of_one_job() {
    let mut world = World::open("quorum").await;
    world.submit(1, 4.0).await;
    let attempt = world.pipeline.claim().await.expect("claims").expect("waits");
    let challenge = world.pipeline.challenge("quorum").expect("known").clone();
    world.pipeline.finish(&attempt, waag::stage::Outcome::Pass(json!(null))).await.expect("finishes");
    let attempt = world.pipeline.claim().await.expect("claims").expect("waits");
    let outcome = challenge.steps[1].stage.run(&attempt.work).await;
    world.pipeline.finish(&attempt, outcome).await.expect("finishes");
    let first = world.pipeline.claim_replica("one").await.expect("claims");
    assert!(first.is_some());
    assert_eq!(world.pipeline.claim_replica("one").await.expect("claims"), None);
    assert!(world.pipeline.claim_replica("two").await.expect("claims").is_some());
}

#[tokio::test]
async fn a_frozen_run_compares_many_on_one_seed_and_runs_its_later_rounds() {
    let mut world = World::open("rounds").await;
    let mut ids = Vec::new();
    for miner in 1..=20 {
        ids.push(world.submit(miner, f64::from(miner)).await);
    }
    world.settle().await;
    world.settle().await;
    world.settle().await;
    let statuses = world.statuses(&ids).await;
    assert_eq!(statuses.iter().filter(|status| **status == Status::Lost).count(), 19);
    assert_eq!(statuses[19], Status::Ranked);
    let (runs, jobs): (i64, i64) = world
        .pipeline
        .store()
        .db()
        .read(|conn| {
            let count = |sql: &str| conn.query_row(sql, [], |row| row.get(0));
            Ok::<_, Error>((
                count("SELECT count(*) FROM runs WHERE state = 'ranked'")?,
                count("SELECT count(*) FROM jobs WHERE state = 'done'")?,
            ))
        })
        .await
        .expect("reads");
    // One run with the arrivals and the two rounds that follow it; each contestant has one job and then three.
    assert_eq!((runs, jobs), (3, 3 * 20 * 4));
    assert_chain_intact(&world).await;
}

#[tokio::test]
async fn a_broken_contestant_is_rejected_alone_and_an_infra_fault_only_delays() {
    let mut world = World::open("rounds").await;
    let good = world.submit(1, 1.0).await;
    let broken = world.submit(2, 9.0).await;
    let unlucky = world.submit(3, 2.0).await;
    {
        let mut script = world.script.lock().expect("free");
        script.faults.insert(waag::ids::Digest::of(&[2, 0]), vec![BROKEN.because("bad"); 1]);
        // More failures than one job's replicas may have: the run goes on without it, the next takes it in.
        script.faults.insert(waag::ids::Digest::of(&[3, 0]), vec![NO_DISK.because("full"); 3]);
    }
    for _ in 0..6 {
        world.settle().await;
    }
    assert_eq!(world.statuses(&[good, broken, unlucky]).await, [Status::Lost, Status::Rejected, Status::Ranked]);
    let fault = world.pipeline.story(broken).await.expect("there").submission.fault.expect("has one");
    assert_eq!((fault.class, fault.code.as_str()), (Class::Miner, "broken"));
}

#[tokio::test]
async fn nothing_is_paid_before_a_person_approved_it() {
    let mut world = World::open("approval").await;
    let yes = world.submit(1, 1.0).await;
    let no = world.submit(2, 5.0).await;
    world.settle().await;
    assert_eq!(world.statuses(&[yes, no]).await, [Status::Held, Status::Held]);
    assert_eq!(world.pipeline.ranking("approval").await.expect("reads"), None);

    world.pipeline.decide(no, false, "ada", "smells").await.expect("decides");
    world.pipeline.decide(yes, true, "ada", "fine").await.expect("decides");
    world.settle().await;
    assert_eq!(world.statuses(&[yes, no]).await, [Status::Ranked, Status::Rejected]);
    assert_eq!(world.shares().await, [(hotkey(1), 1.0)]);

    world.pipeline.unapprove(yes, "ada", "on second thought").await.expect("takes back");
    world.settle().await;
    assert_eq!(world.status(yes).await, Status::Held);
    assert_eq!(world.shares().await, []);
}

fn weights(shares: &[(u8, f64)]) -> Value {
    let weights: BTreeMap<String, f64> =
        shares.iter().map(|(miner, share)| (hotkey(*miner).to_string(), *share)).collect();
    json!({ "weights": weights })
}

#[tokio::test]
async fn a_service_reports_shares_and_they_expire() {
    let mut world = World::open("report").await;
    let expires_ms = world.pipeline.clock().now_ms() + 600_000;
    world.pipeline.report("report", "scores", weights(&[(1, 0.25), (2, 0.5)]), expires_ms).await.expect("stored");
    world.settle().await;
    assert_eq!(world.shares().await, [(hotkey(2), 0.5), (hotkey(1), 0.25)]);
    assert_eq!(world.ranking().await.burned, 0.25);

    // The last moment before, and the moment itself.
    world.advance_ms(expires_ms - world.pipeline.clock().now_ms() - 1);
    assert!(!world.step().await, "it is still valid");
    world.advance_ms(1);
    world.rest().await;
    assert_eq!(world.shares().await, []);
    assert_eq!(world.ranking().await.burned, 1.0);
    assert!(!world.step().await, "it expires once");

    let later_ms = world.pipeline.clock().now_ms() + 600_000;
    world.pipeline.report("report", "scores", weights(&[(3, 1.0)]), later_ms).await.expect("stored");
    world.rest().await;
    assert_eq!(world.shares().await, [(hotkey(3), 1.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_a_rule_thinks_is_ranked_next() {
    let mut world = World::open("report").await;
    world.pipeline.report("report", "scores", weights(&[(1, 1.0)]), i64::MAX).await.expect("stored");
    let pipeline = world.pipeline.clone();
    world.script.lock().expect("free").meanwhile = Some(Box::new(move || {
        let report = pipeline.report("report", "scores", weights(&[(2, 1.0)]), i64::MAX);
        tokio::task::block_in_place(|| Handle::current().block_on(report)).expect("stored");
    }));
    world.rest().await;
    assert_eq!(world.shares().await, [(hotkey(2), 1.0)]);
}

#[tokio::test]
async fn a_replacement_takes_its_predecessors_place_only_with_a_verdict() {
    let mut world = World::open("rounds").await;
    let old = world.submit_version(1, 0, 1.0).await;
    for _ in 0..2 {
        world.settle().await;
    }
    assert_eq!(world.status(old).await, Status::Ranked);
    let new = world.submit_version(1, 1, 2.0).await;
    assert_eq!(world.status(old).await, Status::Ranked);
    for _ in 0..2 {
        world.settle().await;
    }
    assert_eq!(world.statuses(&[old, new]).await, [Status::Withdrawn, Status::Ranked]);
}

#[tokio::test]
async fn an_answer_with_an_old_token_changes_nothing() {
    let mut world = World::open("duel").await;
    let submission = world.submit(1, 1.0).await;
    let attempt = world.pipeline.claim().await.expect("claims").expect("waits");
    world.advance_ms(120_000);
    assert_eq!(world.pipeline.sweep(None).await.expect("sweeps").attempts, 1);
    let late =
        world.pipeline.finish(&attempt, Outcome::Reject(BROKEN.because("too late"), serde_json::Value::Null)).await;
    assert!(matches!(late, Err(Error::Stale { .. })), "{late:?}");
    assert_eq!(world.status(submission).await, Status::Retry);
    world.settle().await;
    assert_eq!(world.status(submission).await, Status::Ranked);
}

/// Number, closing block and arrivals of every ranked run.
async fn closings(world: &World) -> Vec<(u64, u64, u32)> {
    let read = world.pipeline.store().db().read(|conn| {
        let mut select =
            conn.prepare("SELECT number, closed_block, arrivals FROM runs WHERE state = 'ranked' ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok::<_, Error>(rows.collect::<Result<_, _>>()?)
    });
    read.await.expect("reads")
}

#[tokio::test]
async fn a_slow_machine_closes_the_same_runs_at_the_same_blocks() {
    let mut found = Vec::new();
    for is_slow in [false, true] {
        let mut world = World::open("rounds").await;
        for block in 1..=40 {
            world.block = block;
            if [1, 5, 12].contains(&block) {
                world.submit(u8::try_from(block).expect("small"), 1.0).await;
            }
            if is_slow && block < 40 {
                // It reads the chain and comes to nothing else.
                world.pipeline.close_runs(block).await.expect("closes");
            } else {
                world.rest().await;
            }
        }
        found.push(closings(&world).await);
    }
    // What is uploaded at a closing block belongs to the next run; two rounds follow the last arrival.
    assert_eq!(found[0], [(1, 5, 1), (2, 10, 1), (3, 15, 1), (4, 20, 0), (5, 25, 0)]);
    assert_eq!(found[1], found[0]);
}

#[tokio::test]
async fn what_a_dead_process_held_is_begun_again_at_once() {
    let mut world = World::open("duel").await;
    let submission = world.submit(1, 1.0).await;
    let attempt = world.pipeline.claim().await.expect("claims").expect("waits");
    let held = world.pipeline.release_held("here").await.expect("releases");
    assert_eq!((held.attempts, held.replicas), (1, 0));
    assert_eq!(world.status(submission).await, Status::Queued);
    let late = world.pipeline.finish(&attempt, waag::stage::Outcome::Pass(json!(null))).await;
    assert!(matches!(late, Err(Error::Stale { .. })), "{late:?}");

    // The stage passes, and its run's job is out when the process dies again.
    let attempt = world.pipeline.claim().await.expect("claims").expect("waits");
    world.pipeline.finish(&attempt, waag::stage::Outcome::Pass(json!(null))).await.expect("finishes");
    world.pipeline.close_runs(world.block).await.expect("closes");
    for due in world.pipeline.unplanned().await.expect("reads") {
        let challenge = world.pipeline.challenge(&world.slug).expect("known");
        let outcome = challenge.steps[due.stage].stage.run(&due.work).await;
        world.pipeline.planned(&due, outcome).await.expect("plans");
    }
    assert!(world.pipeline.claim_replica("here/0").await.expect("claims").is_some());
    assert_eq!(world.pipeline.release_held("her").await.expect("releases").replicas, 0);
    assert_eq!(world.pipeline.release_held("here").await.expect("releases").replicas, 1);
    world.settle().await;
    assert_eq!(world.status(submission).await, Status::Ranked);
}

#[tokio::test]
async fn a_submission_under_which_the_process_always_dies_is_given_up() {
    let mut world = World::open("duel").await;
    let submission = world.submit(1, 1.0).await;
    let mut deaths = 0;
    while let Some(_attempt) = world.pipeline.claim().await.expect("claims") {
        world.pipeline.release_held("here").await.expect("releases");
        deaths += 1;
        assert!(deaths < 1_000, "it is begun again for ever");
    }
    assert!(deaths > 1, "one death is no reason");
    let ended = world.pipeline.story(submission).await.expect("there").submission;
    let fault = ended.fault.expect("it has one");
    assert_eq!((ended.status, fault.class, fault.code.as_str()), (Status::Failed, Class::Infra, "process_died"));
}

#[tokio::test]
async fn what_never_arrives_is_the_miners_and_what_always_fails_is_ours() {
    let mut world = World::open("duel").await;
    let seen = waag::pipeline::Seen {
        challenge: "duel".to_owned(),
        hotkey: hotkey(9),
        coldkey: hotkey(9),
        field: "waag1:duel:never".to_owned(),
        digest: None,
        at: waag::ids::Priority { block: 1, index: 0 },
    };
    let missing = world.pipeline.commitments_seen(vec![seen]).await.expect("taken")[0];
    let doomed = world.submit(1, 1.0).await;
    world
        .script
        .lock()
        .expect("free")
        .faults
        .insert(waag::ids::Digest::of(&[1, 0]), vec![NO_DISK.because("full"); 1_000]);
    for _ in 0..40 {
        world.settle().await;
        world.block += 50;
        world.advance_ms(600_000);
    }
    let missing = world.pipeline.story(missing).await.expect("there").submission;
    let fault = missing.fault.expect("has one");
    assert_eq!(
        (missing.status, fault.class, fault.code.as_str()),
        (Status::Rejected, Class::Miner, "artifact_missing")
    );
    let doomed = world.pipeline.story(doomed).await.expect("there").submission;
    let fault = doomed.fault.expect("has one");
    assert_eq!((doomed.status, fault.class, fault.code.as_str()), (Status::Failed, Class::Infra, "no_disk"));
}

//! Who takes part in a run, and what ends it.

use waag::{
    fault::Class,
    ids::Hotkey,
    pipeline::{Error, life::Status},
};

use super::world::{World, challenge, changed_challenge};

const fn hotkey(miner: u8) -> Hotkey {
    Hotkey([miner; 32])
}

/// The contestants of the newest run.
async fn newest_run(world: &World) -> Vec<i64> {
    let contestants = |conn: &rusqlite::Connection| {
        let mut statement = conn
            .prepare("SELECT submission FROM contestants WHERE run = (SELECT max(id) FROM runs) ORDER BY submission")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok::<_, Error>(rows.collect::<Result<_, _>>()?)
    };
    world.pipeline.store().db().read(contestants).await.expect("reads")
}

#[tokio::test]
async fn newcomers_come_before_those_who_lost() {
    let full = |text: String| text.replace("every_blocks = 5", "every_blocks = 5\ncontestants_max = 3");
    let mut world = World::with(vec![changed_challenge("rounds", full)]).await;
    let mut old = Vec::new();
    for miner in 1..=3 {
        old.push(world.submit(miner, f64::from(10 - miner)).await);
    }
    for _ in 0..3 {
        world.settle().await;
    }
    assert_eq!(world.statuses(&old).await, [Status::Ranked, Status::Lost, Status::Lost]);
    let new = world.submit(4, 1.0).await;
    world.settle().await;
    // The paid one, the new one, and room for one that lost.
    assert_eq!(world.status(new).await, Status::Lost);
    let better = world.submit(5, 20.0).await;
    for _ in 0..3 {
        world.settle().await;
    }
    assert_eq!(world.statuses(&[old[0], better]).await, [Status::Lost, Status::Ranked]);
}

#[tokio::test]
async fn whoever_left_the_subnet_plays_no_more_and_is_not_paid() {
    let mut world = World::open("rounds").await;
    let first = world.submit(1, 9.0).await;
    let second = world.submit(2, 8.0).await;
    let third = world.submit(3, 7.0).await;
    for _ in 0..3 {
        world.settle().await;
    }
    assert_eq!(world.statuses(&[first, second, third]).await, [Status::Ranked, Status::Lost, Status::Lost]);
    world.gone.extend([1, 3]);
    let new = world.submit(4, 1.0).await;
    world.settle().await;
    assert_eq!(newest_run(&world).await, [second.0, new.0]);
    assert_eq!(world.statuses(&[first, second, third]).await, [Status::Lost, Status::Ranked, Status::Lost]);
    assert_eq!(world.shares().await, [(hotkey(2), 1.0)]);
}

#[tokio::test]
async fn a_challenge_that_is_not_served_waits_and_nobody_waits_for_it() {
    let mut world = World::with(vec![challenge("duel"), challenge("rounds")]).await;
    world.slug = "rounds".to_owned();
    let planned = world.submit(1, 1.0).await;
    world.idle = true;
    world.settle().await;
    assert_eq!(world.status(planned).await, Status::Waiting);
    let claimed = world.submit(2, 2.0).await;
    world.pipeline.claim().await.expect("claims").expect("the first stage is due");

    // Both leases and the plan's deadline lapse while the other challenge is served alone.
    world.restart(vec![challenge("duel")]).await;
    world.advance_ms(3_600_000);
    world.idle = false;
    world.slug = "duel".to_owned();
    let other = world.submit(3, 1.0).await;
    world.settle().await;
    assert_eq!(world.status(other).await, Status::Ranked);
    assert_eq!(world.statuses(&[planned, claimed]).await, [Status::Waiting, Status::Running]);

    world.restart(vec![challenge("duel"), challenge("rounds")]).await;
    for _ in 0..4 {
        world.settle().await;
        world.advance_ms(600_000);
    }
    assert_eq!(world.statuses(&[planned, claimed]).await, [Status::Lost, Status::Ranked]);
}

#[tokio::test]
async fn a_profile_that_became_shorter_voids_the_runs_of_its_lost_stages() {
    let mut world = World::open("rounds").await;
    let submission = world.submit(1, 1.0).await;
    world.idle = true;
    world.settle().await;
    assert_eq!(world.status(submission).await, Status::Waiting);
    let shorter = |text: String| {
        let (kept, rest) = text.split_once("[[stage]]\nname = \"first\"").expect("the first run stage");
        let (_, ranking) = rest.split_once("[ranking]").expect("the rule");
        format!("{kept}[ranking]{ranking}")
    };
    world.restart(vec![changed_challenge("rounds", shorter)]).await;
    world.idle = false;
    world.settle().await;
    // It has passed all that is left, and has no score there.
    assert_eq!(world.status(submission).await, Status::Lost);
}

#[tokio::test]
async fn an_unpaid_incumbent_that_cannot_be_tried_keeps_nobody_waiting() {
    let mut world = World::open("rounds").await;
    let paid = world.submit(1, 9.0).await;
    let unpaid = world.submit(2, 8.0).await;
    for _ in 0..4 {
        world.settle().await;
    }
    assert_eq!(world.statuses(&[paid, unpaid]).await, [Status::Ranked, Status::Lost]);
    world.fail(2, 1_000);
    let new = world.submit(3, 10.0).await;
    world.settle().await;
    assert_eq!(world.statuses(&[paid, unpaid, new]).await, [Status::Lost, Status::Lost, Status::Ranked]);
    assert_eq!(world.count("SELECT count(*) FROM runs WHERE state = 'void'").await, 0);
    let left = world.count("SELECT count(*) FROM events WHERE kind = 'contestant_left'").await;
    assert!(left > 0, "the run's story says who left it");
}

#[tokio::test]
async fn a_paid_incumbent_that_cannot_be_tried_voids_the_run() {
    let mut world = World::open("rounds").await;
    let paid = world.submit(1, 9.0).await;
    for _ in 0..4 {
        world.settle().await;
    }
    // All tries of one job, once.
    world.fail(1, 3);
    let new = world.submit(2, 10.0).await;
    for _ in 0..4 {
        world.settle().await;
        world.advance_ms(600_000);
    }
    assert_eq!(world.count("SELECT count(*) FROM runs WHERE state = 'void'").await, 1);
    assert_eq!(world.statuses(&[paid, new]).await, [Status::Lost, Status::Ranked]);
}

#[tokio::test]
async fn a_plan_lasts_as_long_as_its_jobs_progress() {
    let mut world = World::open("rounds").await;
    let mut ids = Vec::new();
    for miner in 1..=4 {
        ids.push(world.submit(miner, f64::from(miner)).await);
    }
    world.idle = true;
    world.settle().await;
    // Four jobs in four times eight minutes, where ten are allowed without progress.
    for _ in 0..4 {
        world.advance_ms(480_000);
        assert!(world.work_once("w0").await);
        world.step().await;
    }
    world.idle = false;
    world.settle().await;
    assert_eq!(world.statuses(&ids).await, [Status::Lost, Status::Lost, Status::Lost, Status::Ranked]);
    assert_eq!(world.count("SELECT count(*) FROM runs WHERE state = 'void'").await, 0);
}

#[tokio::test]
async fn a_plan_is_given_up_when_nothing_moves_but_not_for_our_absence() {
    let mut world = World::open("rounds").await;
    let submission = world.submit(1, 1.0).await;
    world.idle = true;
    world.settle().await;
    world.advance_ms(10_000_000);
    world.restart(vec![challenge("rounds")]).await;
    world.step().await;
    assert_eq!(world.status(submission).await, Status::Waiting);

    world.advance_ms(600_001);
    world.step().await;
    let story = world.pipeline.story(submission).await.expect("there");
    let fault = story.submission.fault.expect("a retry has a reason");
    assert_eq!(
        (story.submission.status, fault.class, fault.code.as_str()),
        (Status::Retry, Class::Infra, "deadline_lapsed")
    );
    assert_eq!(story.events.last().expect("it moved").kind, "deadline_lapsed");
}

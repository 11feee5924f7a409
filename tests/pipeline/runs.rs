//! Who takes part in a run, and what ends it.

use waag::{
    ids::Hotkey,
    pipeline::{Error, life::Status},
};

use super::world::{World, changed_challenge};

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

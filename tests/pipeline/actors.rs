//! The loop of the background actors.

use std::{cell::Cell, convert::Infallible, time::Duration};

use tokio_util::sync::CancellationToken;
use waag::actors::reconcile;

use super::world::World;

#[tokio::test]
async fn a_ring_during_the_act_is_not_missed() {
    // Its clock never wakes anybody: only the bell does.
    let world = World::open("duel").await;
    let (pipeline, token) = (world.pipeline.clone(), CancellationToken::new());
    let acts = Cell::new(0);
    let act = || {
        acts.set(acts.get() + 1);
        match acts.get() {
            1 => pipeline.nudge(),
            _ => token.cancel(),
        }
        async { Ok::<_, Infallible>(false) }
    };
    let looped = reconcile("test", &pipeline, Duration::from_secs(1), &token, act);
    tokio::time::timeout(Duration::from_secs(20), looped).await.expect("it is rung");
    assert_eq!(acts.get(), 2);
}

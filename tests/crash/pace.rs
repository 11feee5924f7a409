//! Blocks as fast as the appliance takes them in: on a slow machine there are fewer of them, and nothing that was
//! signed gets too old because somebody had to wait for the machine.

use std::{convert::Infallible, time::Duration};

use waag::cli::{demo::play::Stage, devnet::Controls};

use super::{BLOCK_MS, appliance::Place, ledger};

/// How far the chain goes ahead of the appliance: what finality needs and a little, far less than an era.
const AHEAD_BLOCKS: u64 = 5;

/// Makes blocks for ever, one every so often. While the appliance or the chain is down, nothing happens on chain.
async fn keep(place: &Place, stage: &Stage, block_ms: u64) -> Infallible {
    let mut controls = None;
    loop {
        if let Ok(head) = stage.chain.best_head().await
            && ledger::followed_to(place).is_none_or(|taken| head.number < taken + AHEAD_BLOCKS)
        {
            controls = match controls.take() {
                None => Controls::connect(&stage.chain_url).await.ok(),
                Some(connected) => make(connected).await,
            };
        }
        stage.clock.sleep(Duration::from_millis(block_ms)).await;
    }
}

async fn make(controls: Controls) -> Option<Controls> {
    controls.new_blocks(1).await.is_ok().then_some(controls)
}

/// Does something while blocks are made.
pub async fn during<T>(place: &Place, stage: &Stage, act: impl Future<Output = T>) -> T {
    at(BLOCK_MS, place, stage, act).await
}

/// The same, as fast as it goes: only blocks are waited for.
pub async fn hurrying<T>(place: &Place, stage: &Stage, act: impl Future<Output = T>) -> T {
    at(1, place, stage, act).await
}

async fn at<T>(block_ms: u64, place: &Place, stage: &Stage, act: impl Future<Output = T>) -> T {
    tokio::select! {
        never = keep(place, stage, block_ms) => match never {},
        done = act => done,
    }
}

//! Blocks as fast as the appliance takes them in: on a slow machine there are fewer of them, and nothing that was
//! signed gets too old because somebody had to wait for the machine.

use std::{convert::Infallible, time::Duration};

use waag::cli::{demo::play::Stage, devnet::Controls};

use super::{BLOCK_MS, appliance::Place, ledger};

/// How far the chain goes ahead of the appliance: what finality needs and a little, far less than an era.
const AHEAD_BLOCKS: u64 = 5;
/// From this height on nobody hurries: a chain that grew through a slow machine's whole evening would be longer than
/// what an appliance that comes late makes up for, and whoever reads it anew comes late.
const HURRIED_BLOCKS: u64 = 4_000;

/// Makes blocks for ever, one every so often. While the appliance or the chain is down, nothing happens on chain.
async fn keep(place: &Place, stage: &Stage, block_ms: u64) -> Infallible {
    let mut controls = None;
    let mut wait_ms = block_ms;
    loop {
        if let Ok(head) = stage.chain.best_head().await
            && ledger::followed_to(place).is_none_or(|taken| head.number < taken + AHEAD_BLOCKS)
        {
            wait_ms = if head.number < HURRIED_BLOCKS { block_ms } else { BLOCK_MS.max(block_ms) };
            controls = match controls.take() {
                None => Controls::connect(&stage.chain_url).await.ok(),
                Some(connected) => make(connected).await,
            };
        }
        stage.clock.sleep(Duration::from_millis(wait_ms)).await;
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

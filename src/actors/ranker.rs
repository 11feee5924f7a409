//! The ranker: ranks what is folded, against the newest snapshot of the chain.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Facts, reconcile};
use crate::pipeline::{Error, Pipeline};

/// How often it looks without being nudged.
const PERIOD: Duration = Duration::from_secs(1);

/// Ranks until the token is cancelled. Without a snapshot nothing is ranked: nobody would be eligible.
pub async fn rank(pipeline: Pipeline, facts: watch::Receiver<Option<Facts>>, token: CancellationToken) {
    reconcile("ranker", &pipeline, PERIOD, &token, || look(&pipeline, &facts)).await;
}

async fn look(pipeline: &Pipeline, facts: &watch::Receiver<Option<Facts>>) -> Result<bool, Error> {
    let Some(snapshot) = facts.borrow().as_ref().map(|facts| facts.snapshot.clone()) else { return Ok(false) };
    let ranked = pipeline.rank(&snapshot).await?;
    for challenge in &ranked {
        info!(challenge, block = snapshot.block, "ranked");
    }
    if !ranked.is_empty() {
        pipeline.nudge();
    }
    Ok(false)
}

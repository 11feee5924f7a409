//! The run keeper: closes, seeds, plans and folds runs as the finalized chain advances.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Facts, reconcile};
use crate::pipeline::{Error, Pipeline};

/// How often it looks without being nudged.
const PERIOD: Duration = Duration::from_secs(1);

/// Keeps plans and folds moving until the token is cancelled. Closing and seeding need the chain and are the
/// follower's part: they are functions of the block, never of when somebody looked.
pub async fn keep_runs(pipeline: Pipeline, facts: watch::Receiver<Option<Facts>>, token: CancellationToken) {
    reconcile("run keeper", &pipeline, PERIOD, &token, || keep(&pipeline, &facts)).await;
}

async fn keep(pipeline: &Pipeline, facts: &watch::Receiver<Option<Facts>>) -> Result<bool, Error> {
    let block = facts.borrow().as_ref().map(|facts| facts.finalized.number);
    pipeline.sweep(block).await?;
    let frozen = pipeline.freeze_closed().await?;
    let due = pipeline.unplanned().await?;
    let planned = due.len();
    for one in due {
        let challenge = pipeline.challenge(&one.work.challenge)?;
        let Some(step) = challenge.step(one.stage) else {
            return Err(Error::Missing { what: format!("stage {} of `{}`", one.stage, challenge.slug) });
        };
        let outcome = step.stage.run(&one.work).await;
        pipeline.planned(&one, outcome).await?;
    }
    let folded = pipeline.fold().await?;
    for (run, how) in &folded {
        info!(%run, ?how, "folded");
    }
    Ok(!frozen.is_empty() || planned > 0 || !folded.is_empty())
}

//! The stage runner: claims submissions for stages of scope `submission` and runs them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span, warn};

use super::reconcile;
use crate::pipeline::{Attempt, Error, Pipeline, points::Point};

/// How often it looks without being nudged.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs stages until the token is cancelled.
pub async fn run_stages(pipeline: Pipeline, token: CancellationToken) {
    reconcile("stage runner", &pipeline, PERIOD, &token, || run_one(&pipeline)).await;
}

async fn run_one(pipeline: &Pipeline) -> Result<bool, Error> {
    let Some(attempt) = pipeline.claim().await? else { return Ok(false) };
    pipeline.reach(Point::AttemptClaimed);
    let span = info_span!("stage", submission = %attempt.submission.id, stage = attempt.work.stage);
    finish(pipeline, &attempt).instrument(span).await?;
    Ok(true)
}

async fn finish(pipeline: &Pipeline, attempt: &Attempt) -> Result<(), Error> {
    let challenge = pipeline.challenge(&attempt.work.challenge)?;
    let Some(step) = challenge.step(attempt.submission.stage) else {
        return Err(Error::Missing { what: format!("stage {}", attempt.submission.stage) });
    };
    let outcome = tokio::select! {
        outcome = step.stage.run(&attempt.work) => outcome,
        () = keep_alive(pipeline, attempt) => return Ok(()),
    };
    pipeline.reach(Point::StageDecided);
    match pipeline.finish(attempt, outcome).await {
        // Somebody withdrew it, or the lease lapsed while the machine slept: the answer is not wanted any more.
        Err(Error::Stale { what }) => warn!(what, "the answer came too late and was not taken"),
        other => drop(other?),
    }
    pipeline.reach(Point::StageRecorded);
    Ok(())
}

/// Beats while the stage runs; returns only when the lease is lost.
async fn keep_alive(pipeline: &Pipeline, attempt: &Attempt) {
    let beat = Duration::from_millis((attempt.lease_ms / 3).max(1));
    loop {
        pipeline.clock().sleep(beat).await;
        if let Err(Error::Stale { what }) = pipeline.heartbeat(attempt).await {
            warn!(what, "the lease is lost; the stage is abandoned");
            return;
        }
    }
}

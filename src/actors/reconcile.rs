//! The loop of every background actor: look, act, wait for the bell or the period, look again.

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::pipeline::Pipeline;

/// The longest wait after repeated failures: long enough to be cheap, short enough that recovery is noticed.
const FAILED_WAIT_MAX: Duration = Duration::from_secs(30);

/// Calls `act` when the bell rings and at least once a period, until the token is cancelled. `act` answers whether it
/// did something, in which case it is called again at once. A failure is logged and tried again with a back-off: a
/// reconciler has no input and is idempotent, so trying again is always right.
pub async fn reconcile<F, E>(
    name: &'static str,
    pipeline: &Pipeline,
    period: Duration,
    token: &CancellationToken,
    mut act: impl FnMut() -> F,
) where
    F: Future<Output = Result<bool, E>>,
    E: std::error::Error,
{
    let mut failures = 0_u32;
    while !token.is_cancelled() {
        // Taken before acting, so that a ring during the act is not missed.
        let bell = pipeline.bell();
        tokio::pin!(bell);
        let wait = match act().await {
            Ok(true) => continue,
            Ok(false) => {
                if failures > 0 {
                    info!(actor = name, failures, "recovered");
                }
                failures = 0;
                period
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let wait = period.saturating_mul(1 << failures.min(8)).min(FAILED_WAIT_MAX);
                warn!(actor = name, failures, error = %chain_of(&error), wait_ms = wait.as_millis(), "failed; trying again");
                wait
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = &mut bell, if failures == 0 => {}
            () = pipeline.clock().sleep(wait) => {}
        }
    }
}

/// An error with its sources, in one line.
pub(super) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

//! Time as a port: the system's clock in production, a hand-driven one in a simulated world.
//!
//! Owns the only raw reads of time and the only raw sleeps. Refuses to know what anybody waits for.
//! Every room that waits takes an `Arc<dyn Clock>`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = i64;

/// A source of time and of waiting.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present time.
    fn now_ms(&self) -> UnixMs;

    /// Waits at least this long.
    async fn sleep(&self, duration: Duration);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock behind the port.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where time is read")]
    fn now_ms(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

//! The one place that spawns: named tasks that are counted, told to stop, and waited for.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, debug, error, info_span};

/// What the end of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Must run as long as the process does: an early end, or an error, shuts the process down.
    Essential,
    /// Comes and goes: a connection, one replica of a job. Its errors are its own.
    Transient,
}

/// A handle on the tree: spawns into it, tells it to stop, waits until it is empty. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Tasks {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that every task of the tree watches.
    #[must_use]
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Starts a transient task.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(
            name,
            async move {
                task.await;
                Ok::<(), String>(())
            },
            Kind::Transient,
        );
    }

    /// Starts a task without which the process makes no sense.
    pub fn spawn_essential<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.start(name, task, Kind::Essential);
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    fn start<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
        kind: Kind,
    ) {
        let tree = self.clone();
        tree.count(name, 1);
        let supervised = async move {
            let outcome = task.await;
            tree.ended(name, kind, outcome.err().map(|failure| failure.to_string()));
        };
        drop(tokio::spawn(self.tracker.track_future(supervised.instrument(info_span!("task", name)))));
    }

    fn ended(&self, name: &'static str, kind: Kind, failure: Option<String>) {
        self.count(name, -1);
        let expected = self.token.is_cancelled() || kind == Kind::Transient;
        match (expected, failure) {
            (true, None) => debug!(name, "task ended"),
            (true, Some(failure)) => debug!(name, failure, "task ended while stopping"),
            (false, failure) => {
                let failure = failure.unwrap_or_else(|| "ended without a reason".to_owned());
                error!(name, failure, "an essential task ended; stopping");
                let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| format!("{name}: {failure}"));
                drop(first);
                self.token.cancel();
            }
        }
    }

    fn count(&self, name: &'static str, change: isize) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(name).or_default();
        *count = count.saturating_add_signed(change);
    }

    /// How many tasks of each name are running now.
    #[must_use]
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (*name, *count)).collect()
    }

    /// Why the tree stopped by itself, when an essential task failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells every task to stop and waits until they have, at most this long.
    ///
    /// Returns the names of the tasks that were still running at the deadline.
    pub async fn drain(&self, deadline: Duration) -> Vec<&'static str> {
        self.token.cancel();
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_elapsed) => self.running().into_keys().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_essential_task_that_fails_stops_the_tree() {
        let tasks = Tasks::new();
        let token = tasks.token().clone();
        tasks.spawn("waits", async move { token.cancelled().await });
        tasks.spawn_essential("fails", async { Err("no disk") });
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, Vec::<&str>::new());
        assert!(tasks.token().is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_will_not_stop_is_named() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        assert_eq!(tasks.drain(Duration::from_millis(10)).await, vec!["stubborn"]);
    }
}

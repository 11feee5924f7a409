//! The pipeline: carries every submission from the door to the ranking, and never loses one.
//!
//! Owns the life table, leases, runs, jobs, replicas, folds, rankings and the outbox, each transition in one
//! transaction with its event. Refuses to know what stages look at, how engines run, or how the chain is spoken to.
//! The actors call it; every call is safe to repeat.

mod admission;
mod challenge;
mod claims;
pub mod collection;
mod decisions;
mod error;
mod folds;
mod hotkeys;
pub mod life;
mod members;
mod outbox;
mod payments;
mod peers;
mod plans;
pub mod points;
mod ranker;
mod reveals;
mod runs;
pub mod scheduler;
mod sightings;
#[cfg(test)]
mod sightings_tests;
mod story;
mod submissions;
mod sweep;
#[cfg(test)]
pub mod testkit;
mod vectors;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rusqlite::params;
use tokio::sync::{Notify, futures::Notified};

pub use admission::{Admitted, Seen, Upload};
pub use challenge::{Challenge, Challenges, IntakePolicy, RetryPolicy, RunPolicy, Step};
pub use claims::Attempt;
pub use error::{
    ARTIFACT_MISSING, BUDGET_SPENT, CODES, DEADLINE_LAPSED, Error, IMPOSSIBLE, LEASE_LAPSED, NO_QUORUM, NOT_APPROVED,
    PROCESS_DIED,
};
pub use folds::Folded;
pub use hotkeys::{Used, used_in};
pub use outbox::Letter;
pub use payments::Payment;
pub use plans::{Claim, REPLICA_LEASE_MS, Taken};
use points::{Point, Points};
pub use ranker::{Registered, Snapshot, Stored, newest as newest_ranking};
pub use reveals::{DroppedWeights, LETTER as REVEAL_LETTER, dropped_weights};
pub use runs::Due;
pub use sightings::{Gap, Sighted, SightedCount, first_of, gaps_of, owner_in};
pub use story::{AttemptLine, Story, VerdictLine};
pub use submissions::{Submission, load as load_submission};
pub use sweep::{Released, Swept};
pub use vectors::{
    ChainSide, Decision, LETTER as WEIGHTS_LETTER, LastVector, Sending, StoredVector, VECTORS_MAX,
    vectors as stored_vectors,
};

use crate::{
    clock::Clock,
    ids::Digest,
    store::{Store, events},
};

/// The pipeline over one store. Cheap to clone; all clones are the same pipeline.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    challenges: Challenges,
    /// Rings when something may have become possible. Carries no data: whoever wakes looks for itself.
    bell: Notify,
    /// Where the rotation over challenges stands.
    rotation: AtomicUsize,
    points: Points,
}

impl Pipeline {
    /// A pipeline that serves these challenges; new ones are written down.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        challenges: Challenges,
        points: Points,
    ) -> Result<Self, Error> {
        let rows: Vec<(String, String, usize)> = challenges
            .values()
            .map(|challenge| (challenge.slug.clone(), challenge.profile_text.clone(), challenge.steps.len()))
            .collect();
        let now_ms = clock.now_ms();
        store
            .db()
            .write("open challenges", move |tx| {
                for (slug, profile, steps) in &rows {
                    let digest = Digest::of(profile.as_bytes()).to_string();
                    let changed = tx.execute(
                        "INSERT INTO challenges (slug, profile, profile_digest, added_ms) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (slug) DO UPDATE SET profile = ?2, profile_digest = ?3
                           WHERE profile_digest <> ?3",
                        params![slug, profile, digest, now_ms],
                    )?;
                    if changed == 1 {
                        events::append(tx, now_ms, "profile", slug, &serde_json::json!({ "digest": digest }))?;
                    }
                    submissions::keep_in_profile(tx, slug, *steps)?;
                }
                plans::forgive_absence(tx, now_ms)?;
                Ok::<_, Error>(())
            })
            .await?;
        let inner = Inner { store, clock, challenges, bell: Notify::new(), rotation: AtomicUsize::new(0), points };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store everything is kept in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The clock everything is stamped by.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// Passes a named moment, or stops there when a crash test armed it.
    pub fn reach(&self, point: Point) {
        self.inner.points.reach(point);
    }

    /// The challenges by slug.
    #[must_use]
    pub fn challenges(&self) -> &Challenges {
        &self.inner.challenges
    }

    /// One challenge.
    ///
    /// # Errors
    /// `Missing` when this pipeline does not serve it.
    pub fn challenge(&self, slug: &str) -> Result<&Arc<Challenge>, Error> {
        self.inner.challenges.get(slug).ok_or_else(|| Error::Missing { what: format!("challenge `{slug}`") })
    }

    /// The slugs of the challenges as a JSON array, for queries over what may be worked on. What belongs to a challenge
    /// that is not served now waits until it is served again, and nobody else waits for it.
    fn served(&self) -> Result<String, Error> {
        Ok(serde_json::to_string(&self.inner.challenges.keys().collect::<Vec<_>>())?)
    }

    /// Rings the bell: whoever waits in [`Self::bell`] looks again.
    pub fn nudge(&self) {
        self.inner.bell.notify_waiters();
    }

    /// The next ring of the bell, from now on: whoever takes this before looking misses none.
    pub fn bell(&self) -> Notified<'_> {
        self.inner.bell.notified()
    }

    /// The challenges' slugs, beginning one further at every call.
    fn rotate_challenges(&self) -> Vec<String> {
        let slugs: Vec<String> = self.inner.challenges.keys().cloned().collect();
        let start = self.inner.rotation.fetch_add(1, Ordering::Relaxed).checked_rem(slugs.len()).unwrap_or(0);
        slugs.iter().cycle().skip(start).take(slugs.len()).cloned().collect()
    }
}

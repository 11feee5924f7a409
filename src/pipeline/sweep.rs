//! The sweeper: nothing stays stuck.
//!
//! Owns the periodic look for lapsed leases, due retries, expired reports and overdue halves, and what a start takes back
//! from the dead process before it. Refuses to decide anything else. It is idempotent: running it twice changes nothing
//! more.

use rusqlite::{Transaction, params};
use serde_json::json;

use super::{
    Error, Pipeline,
    error::ARTIFACT_MISSING,
    life::Event,
    plans, runs,
    submissions::{self, Because, Submission},
};
use crate::clock::UnixMs;

/// What one sweep moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Attempts whose lease lapsed.
    pub attempts: usize,
    /// Replicas whose lease lapsed.
    pub replicas: usize,
    /// Retries that came due.
    pub retries: usize,
    /// Submissions whose other half never came.
    pub overdue: usize,
    /// Challenges with a report that expired since they were ranked.
    pub expired: usize,
}

impl Swept {
    /// Whether anything moved.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// What a start took back from a dead process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Released {
    /// Attempts that were open.
    pub attempts: usize,
    /// Replicas that its workers held.
    pub replicas: usize,
}

impl Pipeline {
    /// Takes back what an earlier process of this data directory still held: every open attempt, for only stage runners
    /// of that process hold them, and the replicas of the workers of this machine's name. To be called before anything
    /// is claimed; the lock on the data directory says that nobody works under the old claims.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release_held(&self, machine: &str) -> Result<Released, Error> {
        let (pipeline, machine) = (self.clone(), machine.to_owned());
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("release what was held", move |tx| {
                Ok(Released {
                    attempts: pipeline.release_attempts(tx, now_ms)?,
                    replicas: plans::release_replicas(tx, &machine)?,
                })
            })
            .await
    }

    /// Looks once. `block` is the finalized head, when it is known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, block: Option<u64>) -> Result<Swept, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        let swept = self
            .store()
            .db()
            .write("sweep", move |tx| {
                Ok::<_, Error>(Swept {
                    attempts: pipeline.sweep_attempts(tx, now_ms)?,
                    replicas: plans::sweep_replicas(tx, now_ms)?,
                    retries: due_retries(tx, now_ms)?,
                    overdue: block.map_or(Ok(0), |block| overdue_halves(tx, now_ms, block))?,
                    expired: expired_reports(tx, now_ms)?,
                })
            })
            .await?;
        if swept.any() {
            self.nudge();
        }
        Ok(swept)
    }
}

fn due_retries(tx: &Transaction<'_>, now_ms: UnixMs) -> Result<usize, Error> {
    let sql =
        format!("SELECT {} FROM submissions WHERE status = 'retry' AND due_ms <= ?1 ORDER BY id", Submission::COLUMNS);
    let due = submissions::select(tx, &sql, params![now_ms])?;
    for submission in &due {
        submissions::apply(tx, now_ms, submission, Event::BackoffDue, Because::default())?;
    }
    Ok(due.len())
}

/// A report that the newest ranking counted may not be paid after its expiry: the challenge is ranked anew.
fn expired_reports(tx: &Transaction<'_>, now_ms: UnixMs) -> Result<usize, Error> {
    let expired: Vec<String> = tx
        .prepare_cached(
            "SELECT DISTINCT reports.challenge FROM reports JOIN challenges ON challenges.slug = reports.challenge
             WHERE reports.id IN (SELECT max(id) FROM reports GROUP BY challenge, service)
               AND challenges.dirty = 0 AND expires_ms <= ?1
               AND expires_ms > (SELECT max(at_ms) FROM rankings WHERE rankings.challenge = reports.challenge)",
        )?
        .query_map([now_ms], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for challenge in &expired {
        runs::mark_dirty(tx, challenge)?;
    }
    Ok(expired.len())
}

fn overdue_halves(tx: &Transaction<'_>, now_ms: UnixMs, block: u64) -> Result<usize, Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE status = 'awaiting' AND due_block < ?1 ORDER BY id",
        Submission::COLUMNS
    );
    let overdue = submissions::select(tx, &sql, params![block])?;
    for submission in &overdue {
        let fault = ARTIFACT_MISSING
            .because(format!("committed in block {}, nothing uploaded by block {block}", submission.committed.block));
        let mut because = Because::fault(&fault);
        because.note = json!({ "block": block });
        submissions::apply(tx, now_ms, submission, Event::DeadlinePassed, because)?;
    }
    Ok(overdue.len())
}

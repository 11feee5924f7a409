//! Submissions: reading their rows and moving them through the life table.
//!
//! Owns the one function that changes a submission's status, with its event in the same transaction. Refuses to know
//! why: callers bring the event. Only the pipeline's other files write through it.

use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Error, RetryPolicy, hotkeys,
    life::{self, Event, Move, Status},
};
use crate::{
    clock::UnixMs,
    engine::Contestant,
    fault::{Class, Fault},
    ids::{Digest, Hotkey, Priority, RunId, SubmissionId},
    store::events,
};

/// One submission as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Submission {
    /// Its row.
    pub id: SubmissionId,
    /// The challenge's slug.
    pub challenge: String,
    /// Who sent it.
    pub hotkey: Hotkey,
    /// Who owned the hotkey when it committed.
    pub coldkey: Hotkey,
    /// The commitment's text.
    pub field: String,
    /// When the commitment was first seen.
    pub committed: Priority,
    /// What orders it among others: the commitment, or the upload when that came too late.
    pub priority: Priority,
    /// SHA-256 of the artifact, once it is here.
    pub artifact: Option<Digest>,
    /// The commitment's salt in hex, once it is revealed.
    pub salt: Option<String>,
    /// The finalized block at which the upload was taken in.
    pub upload_block: Option<u64>,
    /// Index of its stage in the profile.
    pub stage: usize,
    /// Its status.
    pub status: Status,
    /// The reason of the present status, where there is one.
    pub fault: Option<Fault>,
    /// When its retry is due.
    pub due_ms: Option<UnixMs>,
    /// When it was first seen.
    pub created_ms: UnixMs,
    /// When it last moved.
    pub updated_ms: UnixMs,
}

impl Submission {
    pub(super) const COLUMNS: &'static str = "id, challenge, hotkey, field, commit_block, commit_index, \
        priority_block, priority_index, artifact, salt, upload_block, stage, status, fault, due_ms, created_ms, \
        updated_ms, coldkey";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        let status: String = row.get(12)?;
        let fault: Option<String> = row.get(13)?;
        Ok(Self {
            id: SubmissionId(row.get(0)?),
            challenge: row.get(1)?,
            hotkey: parsed("hotkey", row.get(2)?)?,
            field: row.get(3)?,
            committed: Priority { block: row.get(4)?, index: row.get(5)? },
            priority: Priority { block: row.get(6)?, index: row.get(7)? },
            artifact: row.get::<_, Option<String>>(8)?.map(|text| parsed("artifact", text)).transpose()?,
            salt: row.get(9)?,
            upload_block: row.get(10)?,
            stage: row.get(11)?,
            status: Status::parse(&status).ok_or(Error::Foreign { what: "status", value: status })?,
            fault: fault.map(|text| serde_json::from_str(&text)).transpose()?,
            due_ms: row.get(14)?,
            created_ms: row.get(15)?,
            updated_ms: row.get(16)?,
            coldkey: parsed("coldkey", row.get(17)?)?,
        })
    }

    /// The submission as a contestant; `None` while its artifact is not here.
    #[must_use]
    pub fn contestant(&self) -> Option<Contestant> {
        Some(Contestant {
            submission: self.id,
            hotkey: self.hotkey,
            artifact: self.artifact?,
            priority: self.priority,
            incumbent: self.status.is_finished(),
        })
    }
}

/// A stored text as the type it was written from.
pub(super) fn parsed<T: std::str::FromStr>(what: &'static str, text: String) -> Result<T, Error> {
    text.parse().map_err(|_source| Error::Foreign { what, value: text })
}

/// One submission.
///
/// # Errors
/// `Missing` when there is no such row.
pub fn load(conn: &Connection, id: SubmissionId) -> Result<Submission, Error> {
    let sql = format!("SELECT {} FROM submissions WHERE id = ?1", Submission::COLUMNS);
    select(conn, &sql, params![id.0])?.pop().ok_or_else(|| Error::Missing { what: format!("submission {id}") })
}

/// All submissions that a query names; its columns must be [`Submission::COLUMNS`].
pub(super) fn select(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Submission>, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Submission::from_row(row)?);
    }
    Ok(found)
}

/// What goes with a transition.
#[derive(Debug, Clone, Default)]
pub(super) struct Because {
    /// The fault, where one is the reason.
    pub(super) fault: Option<Fault>,
    /// When the retry is due.
    pub(super) due_ms: Option<UnixMs>,
    /// Anything else the story should tell.
    pub(super) note: Value,
}

impl Because {
    pub(super) fn fault(fault: &Fault) -> Self {
        Self { fault: Some(fault.clone()), ..Self::default() }
    }

    pub(super) fn note(note: Value) -> Self {
        Self { note, ..Self::default() }
    }
}

/// Moves a submission: the one place that changes a status.
pub(super) fn apply(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    submission: &Submission,
    on: Event,
    because: Because,
) -> Result<Submission, Error> {
    let transition = life::next(submission.status, on).ok_or(Error::Impossible {
        submission: submission.id,
        from: submission.status,
        on,
    })?;
    let stage = match transition.stage {
        Move::Stay => submission.stage,
        Move::Next => submission.stage + 1,
        Move::First => 0,
    };
    let fault = because.fault.as_ref().map(serde_json::to_string).transpose()?;
    let changed = tx
        .prepare_cached(
            "UPDATE submissions SET status = ?1, stage = ?2, fault = ?3, due_ms = ?4, updated_ms = ?5
             WHERE id = ?6 AND status = ?7 AND stage = ?8",
        )?
        .execute(params![
            transition.to.as_str(),
            stage,
            fault,
            because.due_ms,
            now_ms,
            submission.id.0,
            submission.status.as_str(),
            submission.stage
        ])?;
    if changed != 1 {
        return Err(Error::Stale { what: submission.id.to_string() });
    }
    let mut story = json!({
        "challenge": submission.challenge, "hotkey": submission.hotkey, "from": transition.from.as_str(),
        "to": transition.to.as_str(), "stage": stage,
    });
    if let Some(fault) = &because.fault {
        story["fault"] = serde_json::to_value(fault)?;
    }
    if !because.note.is_null() {
        story["note"] = because.note;
    }
    events::append(tx, now_ms, on.as_str(), &submission.id.to_string(), &story)?;
    if transition.to.is_finished() {
        hotkeys::evaluated(tx, now_ms, submission)?;
    }
    let mut moved = submission.clone();
    moved.status = transition.to;
    moved.stage = stage;
    moved.fault = because.fault;
    moved.due_ms = because.due_ms;
    moved.updated_ms = now_ms;
    Ok(moved)
}

/// Tries again later, or gives up when the stage's budget for this class is spent. The budget is counted per
/// submission, stage and class; it is never shared.
pub(super) fn retry_or_fail(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    submission: &Submission,
    on: Event,
    fault: &Fault,
    policy: &RetryPolicy,
) -> Result<Submission, Error> {
    let (count, allowed) = count_retry(tx, submission, fault, policy)?;
    if count > allowed {
        return apply(tx, now_ms, submission, Event::BudgetSpent, Because::fault(fault));
    }
    let wait_ms = policy.backoff_ms(count, fault.class);
    let because = Because {
        fault: Some(fault.clone()),
        due_ms: Some(now_ms.saturating_add(wait_ms)),
        note: json!({ "retry": count, "of": allowed }),
    };
    apply(tx, now_ms, submission, on, because)
}

/// The same without a wait: what stopped the attempt is over. It counts all the same, so that a submission under which
/// the process dies again and again is given up.
pub(super) fn release_or_fail(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    submission: &Submission,
    fault: &Fault,
    policy: &RetryPolicy,
) -> Result<Submission, Error> {
    let (count, allowed) = count_retry(tx, submission, fault, policy)?;
    if count > allowed {
        return apply(tx, now_ms, submission, Event::BudgetSpent, Because::fault(fault));
    }
    let note = json!({ "retry": count, "of": allowed, "reason": fault.to_string() });
    apply(tx, now_ms, submission, Event::Released, Because::note(note))
}

/// Counts one more try at the submission's stage for a fault of this class. Answers how many there were, and how many
/// may be.
fn count_retry(
    tx: &Transaction<'_>,
    submission: &Submission,
    fault: &Fault,
    policy: &RetryPolicy,
) -> Result<(u32, u32), Error> {
    let count: u32 = tx
        .prepare_cached(
            "INSERT INTO retries (submission, stage, class, count) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT (submission, stage, class) DO UPDATE SET count = count + 1 RETURNING count",
        )?
        .query_row(params![submission.id.0, submission.stage, fault.class.as_str()], |row| row.get(0))?;
    let allowed = match fault.class {
        Class::Provider => policy.provider,
        Class::Bug => policy.bug,
        // An operator's fault waits as long as the operator does: it is retried for ever at the longest back-off.
        Class::Operator => u32::MAX,
        Class::Infra | Class::Miner => policy.infra,
    };
    Ok((count, allowed))
}

/// Puts unfinished submissions that stand behind the end of a profile which has become shorter at its last stage: they
/// have passed what came before it, and must not wait for a stage that never comes.
pub(super) fn keep_in_profile(tx: &Transaction<'_>, challenge: &str, steps: usize) -> Result<usize, Error> {
    Ok(tx.execute(
        "UPDATE submissions SET stage = ?2 WHERE challenge = ?1 AND stage > ?2
           AND status IN ('queued', 'running', 'waiting', 'retry', 'held')",
        params![challenge, steps.saturating_sub(1)],
    )?)
}

/// Records a verdict. Verdicts are never updated; a later one succeeds an earlier.
#[expect(clippy::too_many_arguments, reason = "a verdict's row has this many independent parts")]
pub(super) fn record_verdict(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    submission: SubmissionId,
    run: Option<RunId>,
    stage: (usize, &str),
    outcome: &str,
    fault: Option<&Fault>,
    evidence: &Value,
) -> Result<(), Error> {
    let fault = fault.map(serde_json::to_string).transpose()?;
    tx.prepare_cached(
        "INSERT INTO verdicts (submission, run, stage, stage_name, outcome, fault, evidence, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        submission.0,
        run.map(|run| run.0),
        stage.0,
        stage.1,
        outcome,
        fault,
        serde_json::to_string(evidence)?,
        now_ms
    ])?;
    Ok(())
}

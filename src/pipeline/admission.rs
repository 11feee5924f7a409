//! Admission: how a commitment seen on chain and an uploaded artifact become one submission.
//!
//! Owns the ledger of first sightings, the joining of the two halves, and the recorded refusals. Refuses to check
//! signatures, sizes or seals: the doors in `intake/` did. The chain follower and the server call it.

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::Serialize;
use serde_json::json;

use super::{
    Error, Pipeline, hotkeys,
    life::{Event, Status},
    payments::{self, Payment},
    points::Point,
    runs, sightings,
    submissions::{self, Because, Submission},
};
use crate::{
    fault::Fault,
    ids::{Digest, Hotkey, Priority, SubmissionId},
    store::events,
};

/// A challenge's field in a commitment, seen in a finalized block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The challenge's slug.
    pub challenge: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// Who owns the hotkey.
    pub coldkey: Hotkey,
    /// The field's text.
    pub field: String,
    /// SHA-256 of the content, where the field tells it in the open.
    pub digest: Option<Digest>,
    /// Where it was first seen.
    pub at: Priority,
}

/// An artifact whose seal, signature and size a door has checked, with its bytes in the object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The challenge's slug.
    pub challenge: String,
    /// Who sent it.
    pub hotkey: Hotkey,
    /// The commitment's text that it opens.
    pub field: String,
    /// SHA-256 of the bytes.
    pub artifact: Digest,
    /// How many bytes.
    pub bytes: u64,
    /// The salt that opens the commitment, in hex.
    pub salt: String,
    /// The finalized head when it was taken in.
    pub block: u64,
    /// What was paid for it.
    pub payment: Option<Payment>,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Admitted {
    /// The submission it belongs to.
    pub submission: SubmissionId,
    /// Whether this very artifact had been taken in before.
    pub again: bool,
}

impl Pipeline {
    /// Records fields seen on chain. A field seen before keeps its first block for ever. Returns the new submissions.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn commitments_seen(&self, seen: Vec<Seen>) -> Result<Vec<SubmissionId>, Error> {
        self.commitments_found(seen, 0).await
    }

    /// The same for fields that were found in the state of a later block: nothing could be uploaded for them before, so
    /// their deadline counts from there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn commitments_found(&self, seen: Vec<Seen>, block: u64) -> Result<Vec<SubmissionId>, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("commitments seen", move |tx| {
                let mut new = Vec::new();
                for one in &seen {
                    new.extend(pipeline.commitment_in(tx, now_ms, one, block)?);
                }
                Ok(new)
            })
            .await
    }

    /// Takes one finalized block in: what was committed in it, which runs close at it, and that it was read; all in
    /// one transaction, so that a crash repeats the whole block or nothing of it.
    ///
    /// `is_late` says that the block is of a time at which nothing could be uploaded here: we were away, and the
    /// deadlines of those who wait for an upload are moved by it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn advance(
        &self,
        netuid: u16,
        block: u64,
        hash: Digest,
        seen: Vec<Seen>,
        is_late: bool,
    ) -> Result<(), Error> {
        self.reach(Point::BlockRead);
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("advance", move |tx| {
                for one in &seen {
                    pipeline.commitment_in(tx, now_ms, one, block)?;
                }
                if is_late {
                    tx.prepare_cached(
                        "UPDATE submissions SET due_block = due_block + 1
                         WHERE status = 'awaiting' AND due_block IS NOT NULL",
                    )?
                    .execute([])?;
                }
                for challenge in pipeline.challenges().values() {
                    hotkeys::end_reused(tx, now_ms, challenge)?;
                }
                pipeline.close_runs_in(tx, now_ms, block)?;
                tx.prepare_cached(
                    "INSERT INTO follower (netuid, block, hash) VALUES (?1, ?2, ?3)
                     ON CONFLICT (netuid) DO UPDATE SET block = ?2, hash = ?3",
                )?
                .execute(params![netuid, block, hash.to_string()])?;
                Ok::<_, Error>(())
            })
            .await?;
        self.reach(Point::BlockRecorded);
        self.nudge();
        Ok(())
    }

    fn commitment_in(
        &self,
        tx: &Transaction<'_>,
        now_ms: i64,
        seen: &Seen,
        found: u64,
    ) -> Result<Option<SubmissionId>, Error> {
        let challenge = self.challenge(&seen.challenge)?;
        let first = tx
            .prepare_cached(
                "INSERT INTO ledger (challenge, hotkey, field, block, idx, seen_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (challenge, hotkey, field) DO NOTHING",
            )?
            .execute(params![
                seen.challenge,
                seen.hotkey.to_string(),
                seen.field,
                seen.at.block,
                seen.at.index,
                now_ms
            ])?;
        if first == 0 {
            return Ok(None);
        }
        if let Some(used) = self.used_by(tx, &seen.challenge, &seen.hotkey)? {
            refuse_in(tx, now_ms, &seen.challenge, &seen.hotkey.to_string(), &used.fault())?;
            return Ok(None);
        }
        let at = place_of(tx, seen)?;
        tx.prepare_cached(
            "INSERT INTO submissions (challenge, hotkey, coldkey, field, commit_block, commit_index, priority_block,
               priority_index, status, due_block, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?6, 'awaiting', ?7, ?8, ?8)",
        )?
        .execute(params![
            seen.challenge,
            seen.hotkey.to_string(),
            seen.coldkey.to_string(),
            seen.field,
            at.block,
            at.index,
            at.block.max(found).saturating_add(challenge.intake.artifact_within_blocks),
            now_ms
        ])?;
        let id = SubmissionId(tx.last_insert_rowid());
        let data = serde_json::to_value(Seen { at, ..seen.clone() })?;
        events::append(tx, now_ms, "committed", &id.to_string(), &data)?;
        if let Some(artifact) = seen.digest.filter(|_| challenge.intake.is_fetched) {
            self.matched_by_itself(tx, now_ms, id, artifact)?;
        }
        Ok(Some(id))
    }

    /// A commitment that says where its artifact is needs no other half.
    fn matched_by_itself(
        &self,
        tx: &Transaction<'_>,
        now_ms: i64,
        id: SubmissionId,
        artifact: Digest,
    ) -> Result<(), Error> {
        tx.prepare_cached(
            "UPDATE submissions SET artifact = ?1, upload_block = commit_block, due_block = NULL WHERE id = ?2",
        )?
        .execute(params![artifact.to_string(), id.0])?;
        let submission = submissions::load(tx, id)?;
        submissions::apply(tx, now_ms, &submission, Event::Matched, Because::note(json!({ "artifact": artifact })))?;
        supersede_between(tx, now_ms, &submission)
    }

    /// Joins an artifact to its commitment. The same artifact again changes nothing.
    ///
    /// # Errors
    /// `Missing` when no such commitment was seen; `Impossible` when the submission is past awaiting it; `PaymentUsed`
    /// when its payment is another submission's.
    pub async fn uploaded(&self, upload: Upload) -> Result<Admitted, Error> {
        self.reach(Point::UploadKept);
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        let admitted = self.store().db().write("uploaded", move |tx| pipeline.upload_in(tx, now_ms, &upload)).await?;
        self.reach(Point::UploadRecorded);
        self.nudge();
        Ok(admitted)
    }

    fn upload_in(&self, tx: &Transaction<'_>, now_ms: i64, upload: &Upload) -> Result<Admitted, Error> {
        let submission = find(tx, &upload.challenge, &upload.hotkey, &upload.field)?
            .ok_or_else(|| Error::Missing { what: format!("commitment of {} for this artifact", upload.hotkey) })?;
        let id = submission.id;
        if submission.artifact == Some(upload.artifact) {
            return Ok(Admitted { submission: id, again: true });
        }
        let challenge = self.challenge(&upload.challenge)?;
        // The head that the door saw may be a block old. Whoever takes part in a run was there before it closed, whatever
        // the moment at which we write it down.
        let block = upload.block.max(runs::last_closing(tx, &upload.challenge)?.unwrap_or(0));
        let late = block > submission.committed.block.saturating_add(challenge.intake.reveal_within_blocks);
        // One that was kept back counts from its upload block, behind everything committed in it.
        let priority = if late { Priority { block, index: u32::MAX } } else { submission.committed };
        tx.prepare_cached(
            "UPDATE submissions SET artifact = ?1, artifact_bytes = ?2, salt = ?3, upload_block = ?4,
               priority_block = ?5, priority_index = ?6, due_block = NULL WHERE id = ?7",
        )?
        .execute(params![
            upload.artifact.to_string(),
            upload.bytes,
            upload.salt,
            block,
            priority.block,
            priority.index,
            id.0
        ])?;
        if let Some(payment) = &upload.payment {
            payments::bind(tx, now_ms, payment)?;
        }
        let note = json!({ "artifact": upload.artifact, "bytes": upload.bytes, "block": block, "late": late });
        submissions::apply(tx, now_ms, &submission, Event::Matched, Because::note(note))?;
        supersede_older(tx, now_ms, &submission)?;
        Ok(Admitted { submission: id, again: false })
    }

    /// Rejects a submission whose artifact, opened by its miner, breaks a rule before a byte of it was read. One that
    /// is past awaiting it keeps what it has.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reject_awaiting(&self, id: SubmissionId, fault: &Fault) -> Result<(), Error> {
        let fault = fault.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("reject awaiting", move |tx| {
                let submission = submissions::load(tx, id)?;
                if submission.status == Status::Awaiting {
                    submissions::apply(tx, now_ms, &submission, Event::MinerFault, Because::fault(&fault))?;
                }
                Ok(())
            })
            .await
    }

    /// Records that a door turned somebody away.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refused(&self, challenge: &str, hotkey: &str, fault: &Fault) -> Result<(), Error> {
        // Bounded: these words come from outside.
        let challenge: String = challenge.chars().take(64).collect();
        let hotkey: String = hotkey.chars().take(64).collect();
        let fault = fault.clone();
        let now_ms = self.clock().now_ms();
        self.store().db().write("refused", move |tx| refuse_in(tx, now_ms, &challenge, &hotkey, &fault)).await
    }

    /// How far the chain was read for this subnet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_to(&self, netuid: u16) -> Result<Option<(u64, Digest)>, Error> {
        self.store()
            .db()
            .read(move |conn| {
                let row: Option<(u64, String)> = conn
                    .prepare_cached("SELECT block, hash FROM follower WHERE netuid = ?1")?
                    .query_row([netuid], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                row.map(|(block, hash)| Ok((block, submissions::parsed("hash", hash)?))).transpose()
            })
            .await
    }

    /// The submission of this commitment, if it was seen.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn committed(&self, challenge: &str, hotkey: Hotkey, field: &str) -> Result<Option<Submission>, Error> {
        let (challenge, field) = (challenge.to_owned(), field.to_owned());
        self.store().db().read(move |conn| find(conn, &challenge, &hotkey, &field)).await
    }
}

fn find(
    conn: &rusqlite::Connection,
    challenge: &str,
    hotkey: &Hotkey,
    field: &str,
) -> Result<Option<Submission>, Error> {
    let sql =
        format!("SELECT {} FROM submissions WHERE challenge = ?1 AND hotkey = ?2 AND field = ?3", Submission::COLUMNS);
    Ok(submissions::select(conn, &sql, params![challenge, hotkey.to_string(), field])?.pop())
}

fn refuse_in(tx: &Transaction<'_>, now_ms: i64, challenge: &str, hotkey: &str, fault: &Fault) -> Result<(), Error> {
    let text = serde_json::to_string(fault)?;
    tx.prepare_cached("INSERT INTO refusals (at_ms, challenge, hotkey, fault) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![now_ms, challenge, hotkey, text])?;
    let data = json!({ "challenge": challenge, "fault": fault });
    events::append(tx, now_ms, "refused", hotkey, &data)?;
    Ok(())
}

/// The place of a commitment: where its field was first seen since its hotkey registered, which may be earlier than
/// where it was found now.
fn place_of(tx: &Transaction<'_>, seen: &Seen) -> Result<Priority, Error> {
    let since_block: Option<u64> = tx
        .prepare_cached("SELECT since_block FROM registrations WHERE hotkey = ?1 AND since_block <= ?2")?
        .query_row(params![seen.hotkey.to_string(), seen.at.block], |row| row.get(0))
        .optional()?;
    let Some(since_block) = since_block else { return Ok(seen.at) };
    let first = sightings::first_since(tx, &seen.challenge, &seen.hotkey, &seen.field, since_block)?;
    Ok(first.map_or(seen.at, |first| first.min(seen.at)))
}

/// Of what a hotkey has committed to and nobody has fetched yet, the eldest stays, because it may be what others copied,
/// and the newest, which its owner wants; what is between them is withdrawn. What was found late has its old place.
fn supersede_between(tx: &Transaction<'_>, now_ms: i64, one: &Submission) -> Result<(), Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND hotkey = ?2 AND stage = 0
           AND status IN ('queued', 'retry') ORDER BY commit_block, commit_index, id",
        Submission::COLUMNS
    );
    let waiting = submissions::select(tx, &sql, params![one.challenge, one.hotkey.to_string()])?;
    let Some(newest) = waiting.last().map(|newest| newest.id) else { return Ok(()) };
    for submission in waiting.iter().skip(1).filter(|submission| submission.id != newest) {
        let because = Because::note(json!({ "by": newest }));
        submissions::apply(tx, now_ms, submission, Event::Superseded, because)?;
    }
    Ok(())
}

/// A hotkey's newer artifact withdraws its older submissions that nothing was decided about. One in a run, ranked or
/// lost keeps its place until the newer one has a verdict.
fn supersede_older(tx: &Transaction<'_>, now_ms: i64, newer: &Submission) -> Result<(), Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND hotkey = ?2 AND id < ?3
           AND status IN ('awaiting', 'queued', 'retry', 'held') ORDER BY id",
        Submission::COLUMNS
    );
    let older = submissions::select(tx, &sql, params![newer.challenge, newer.hotkey.to_string(), newer.id.0])?;
    for submission in &older {
        let because = Because::note(json!({ "by": newer.id }));
        submissions::apply(tx, now_ms, submission, Event::Superseded, because)?;
    }
    Ok(())
}

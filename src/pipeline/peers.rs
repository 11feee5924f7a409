//! Peers: submissions of one challenge seen from one another, for stages that take them in the order of commitment.
//!
//! Owns who comes next, who has passed before, and what becomes of a younger one that its elder exposes. Refuses to
//! compare anything: the stage does. Claims call it.

use rusqlite::{Connection, Transaction, params};
use serde_json::json;

use super::{
    Error,
    life::{self, Event},
    runs,
    submissions::{self, Because, Submission},
};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{Priority, SubmissionId},
    stage::{Exposed, Peer},
};

/// The submission that waits for an ordered stage and whose turn it is; `None` when none waits, or when its elders are
/// under way.
///
/// One is looked at at a time. An elder that has not come so far keeps its youngers waiting for `wait_ms` from its own
/// last step on, and no longer: whoever hands in what cannot be fetched would hold everybody up. One that waits for a
/// retry keeps nobody waiting.
pub(super) fn next_in_order(
    tx: &Transaction<'_>,
    challenge: &str,
    stage: usize,
    now_ms: UnixMs,
    wait_ms: u64,
) -> Result<Option<Submission>, Error> {
    let is_busy: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM submissions WHERE challenge = ?1 AND stage = ?2 AND status = 'running')",
        )?
        .query_row(params![challenge, stage], |row| row.get(0))?;
    if is_busy {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND status = 'queued' AND stage = ?2
         ORDER BY priority_block, priority_index, hotkey, id LIMIT 1",
        Submission::COLUMNS
    );
    let Some(next) = submissions::select(tx, &sql, params![challenge, stage])?.pop() else { return Ok(None) };
    let keeps_waiting: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM submissions WHERE challenge = ?1 AND stage < ?2
               AND status IN ('queued', 'running', 'waiting') AND updated_ms > ?3
               AND (priority_block, priority_index, hotkey) < (?4, ?5, ?6))",
        )?
        .query_row(
            params![
                challenge,
                stage,
                now_ms.saturating_sub_unsigned(wait_ms),
                next.priority.block,
                next.priority.index,
                next.hotkey.to_string()
            ],
            |row| row.get(0),
        )?;
    Ok((!keeps_waiting).then_some(next))
}

/// The other submissions of the challenge whose last verdict at this stage let them pass, the elders first.
pub(super) fn passed(conn: &Connection, submission: &Submission, stage: &str) -> Result<Vec<Peer>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT id, hotkey, coldkey, field, artifact, priority_block, priority_index FROM submissions
         WHERE challenge = ?1 AND id <> ?2 AND artifact IS NOT NULL
           AND 'pass' = (SELECT outcome FROM verdicts WHERE submission = submissions.id AND stage_name = ?3
                         ORDER BY id DESC LIMIT 1)
         ORDER BY priority_block, priority_index, hotkey, id",
    )?;
    let mut rows = statement.query(params![submission.challenge, submission.id.0, stage])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Peer {
            submission: SubmissionId(row.get(0)?),
            hotkey: submissions::parsed("hotkey", row.get(1)?)?,
            coldkey: submissions::parsed("coldkey", row.get(2)?)?,
            field: row.get(3)?,
            artifact: submissions::parsed("artifact", row.get(4)?)?,
            priority: Priority { block: row.get(5)?, index: row.get(6)? },
        });
    }
    Ok(found)
}

/// Ends the peers that a submission has exposed, wherever they stand: its elders may come late, and a place that was
/// won by a copy is given back. What is over already stays as it ended, and whoever is at work on one learns at the end
/// that it is not wanted any more.
pub(super) fn reject_exposed(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    elder: &Submission,
    stage: (usize, &str),
    exposed: &[Exposed],
) -> Result<(), Error> {
    for one in exposed {
        let peer = submissions::load(tx, one.submission)?;
        if peer.challenge != elder.challenge || life::next(peer.status, Event::MinerFault).is_none() {
            continue;
        }
        let (fault, evidence) = (&one.fault, &one.evidence);
        submissions::record_verdict(tx, now_ms, peer.id, None, stage, "reject", Some(fault), evidence)?;
        let because = Because { fault: Some(fault.clone()), due_ms: None, note: json!({ "exposed_by": elder.id }) };
        submissions::apply(tx, now_ms, &peer, Event::MinerFault, because)?;
        // A ranking that is being made may have seen it, wherever it stands.
        runs::mark_dirty(tx, &peer.challenge)?;
        judge_again(tx, now_ms, &peer, fault)?;
    }
    Ok(())
}

/// Whoever was rejected for the sake of one that was none's elder is looked at again.
fn judge_again(tx: &Transaction<'_>, now_ms: UnixMs, exposed: &Submission, fault: &Fault) -> Result<(), Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND status = 'rejected' AND id <> ?2
           AND json_extract(fault, '$.code') = ?3
           AND ?4 = (SELECT json_extract(evidence, '$.duplicate_of_submission') FROM verdicts
                     WHERE submission = submissions.id ORDER BY id DESC LIMIT 1)",
        Submission::COLUMNS
    );
    let named = params![exposed.challenge, exposed.id.0, fault.code, exposed.id.to_string()];
    for victim in submissions::select(tx, &sql, named)? {
        tx.execute("DELETE FROM retries WHERE submission = ?1", [victim.id.0])?;
        let because = Because::note(json!({ "elder_exposed": exposed.id }));
        submissions::apply(tx, now_ms, &victim, Event::Rejudged, because)?;
    }
    Ok(())
}

//! Submissions: the list, one of them, and the commitments that an upload may open.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::{Page, Window, fault, parsed, rows};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, Hotkey, Priority, SubmissionId},
    intake::{ChainFacts, Committed, LookUp},
    pipeline::{Challenges, Error, life},
};

/// One submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// Its name.
    pub id: SubmissionId,
    /// The challenge's slug.
    pub challenge: String,
    /// Who sent it.
    pub hotkey: Hotkey,
    /// Who owned the hotkey when it committed.
    pub coldkey: Hotkey,
    /// The hotkey's place in the subnet now; `None` when it is not registered.
    pub uid: Option<u16>,
    /// When the commitment was first seen.
    pub committed: Priority,
    /// What orders it among others.
    pub priority: Priority,
    /// SHA-256 of the artifact, once it is here.
    pub artifact: Option<Digest>,
    /// The artifact's size.
    pub artifact_bytes: Option<u64>,
    /// The finalized block at which the upload was taken in.
    pub upload_block: Option<u64>,
    /// Index of its stage.
    pub stage: usize,
    /// Name of its stage; empty when the profile has no such stage any more.
    pub stage_name: String,
    /// Its status.
    pub status: life::Status,
    /// The reason of the present status, where there is one.
    pub fault: Option<Fault>,
    /// When it was first seen.
    pub created_ms: UnixMs,
    /// When it last moved.
    pub updated_ms: UnixMs,
}

impl Submission {
    const COLUMNS: &'static str = "id, challenge, hotkey, coldkey, commit_block, commit_index, priority_block, \
        priority_index, artifact, artifact_bytes, upload_block, stage, status, fault, created_ms, updated_ms";

    fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        let status: String = row.get(12)?;
        Ok(Self {
            id: SubmissionId(row.get(0)?),
            challenge: row.get(1)?,
            hotkey: parsed("hotkey", row.get(2)?)?,
            coldkey: parsed("coldkey", row.get(3)?)?,
            uid: None,
            committed: Priority { block: row.get(4)?, index: row.get(5)? },
            priority: Priority { block: row.get(6)?, index: row.get(7)? },
            artifact: row.get::<_, Option<String>>(8)?.map(|text| parsed("artifact", text)).transpose()?,
            artifact_bytes: row.get(9)?,
            upload_block: row.get(10)?,
            stage: row.get(11)?,
            stage_name: String::new(),
            status: life::Status::parse(&status).ok_or(Error::Foreign { what: "status", value: status })?,
            fault: fault(row.get(13)?)?,
            created_ms: row.get(14)?,
            updated_ms: row.get(15)?,
        })
    }

    /// Fills in what the database does not hold: the stage's name and the present uid.
    pub(in crate::server) fn complete(&mut self, challenges: &Challenges, facts: Option<&ChainFacts>) {
        let step = challenges.get(&self.challenge).and_then(|challenge| challenge.step(self.stage));
        self.stage_name = step.map(|step| step.name.clone()).unwrap_or_default();
        self.uid = facts.and_then(|facts| facts.registered.get(&self.hotkey)).map(|registration| registration.uid);
    }
}

/// Which submissions are asked for; `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Of this challenge.
    pub challenge: Option<String>,
    /// Of this hotkey.
    pub hotkey: Option<Hotkey>,
    /// With this status.
    pub status: Option<life::Status>,
}

/// A page of submissions, oldest first.
pub(in crate::server) fn submissions(
    conn: &Connection,
    filter: &Filter,
    window: Window,
) -> Result<Page<Submission>, Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE (?1 IS NULL OR challenge = ?1) AND (?2 IS NULL OR hotkey = ?2)
           AND (?3 IS NULL OR status = ?3) AND id > ?4 ORDER BY id LIMIT ?5",
        Submission::COLUMNS
    );
    let found = rows(
        conn,
        &sql,
        params![
            filter.challenge,
            filter.hotkey.map(|hotkey| hotkey.to_string()),
            filter.status.map(life::Status::as_str),
            window.after,
            window.probe()
        ],
        Submission::from_row,
    )?;
    Ok(Page::new(found, window.limit, |submission| submission.id.0))
}

/// One submission.
pub(in crate::server) fn submission(conn: &Connection, id: SubmissionId) -> Result<Submission, Error> {
    let sql = format!("SELECT {} FROM submissions WHERE id = ?1", Submission::COLUMNS);
    let found = rows(conn, &sql, params![id.0], Submission::from_row)?.pop();
    found.ok_or_else(|| Error::Missing { what: format!("submission {id}") })
}

/// The text with which a hotkey committed to this content in the open: one that waits for it first, then the oldest.
pub(in crate::server) fn field_of(
    conn: &Connection,
    challenge: &str,
    hotkey: &Hotkey,
    artifact: &Digest,
) -> Result<Option<String>, Error> {
    let found = rows(
        conn,
        "SELECT field FROM submissions WHERE challenge = ?1 AND hotkey = ?2 AND EXISTS (
           SELECT 1 FROM sightings AS seen WHERE seen.challenge = submissions.challenge
             AND seen.hotkey = submissions.hotkey AND seen.field = submissions.field AND seen.digest = ?3)
         ORDER BY status <> ?4, id LIMIT 1",
        params![challenge, hotkey.to_string(), artifact.to_string(), life::Status::Awaiting.as_str()],
        |row| Ok(row.get(0)?),
    )?;
    Ok(found.into_iter().next())
}

/// What is known of a hotkey's commitments for a challenge, and of the one with this text.
pub(in crate::server) fn look_up(
    conn: &Connection,
    challenge: &str,
    hotkey: &Hotkey,
    field: &str,
) -> Result<LookUp, Error> {
    let hotkey = hotkey.to_string();
    let found = rows(
        conn,
        "SELECT id, commit_block, status, artifact FROM submissions
         WHERE challenge = ?1 AND hotkey = ?2 AND field = ?3",
        params![challenge, hotkey, field],
        |row| {
            Ok(Committed {
                submission: SubmissionId(row.get(0)?),
                block: row.get(1)?,
                awaiting: row.get::<_, String>(2)? == life::Status::Awaiting.as_str(),
                artifact: row.get::<_, Option<String>>(3)?.map(|text| parsed("artifact", text)).transpose()?,
            })
        },
    )?
    .pop();
    let waiting = conn
        .prepare_cached("SELECT count(*) FROM submissions WHERE challenge = ?1 AND hotkey = ?2 AND status = ?3")?
        .query_row(params![challenge, hotkey, life::Status::Awaiting.as_str()], |row| row.get(0))?;
    Ok(LookUp { found, waiting })
}

//! The story of one submission, as `waag why` tells it.
//!
//! Owns the gathering of events, attempts, verdicts and faults into one answer. Refuses to format it. The server and
//! the verbs call it.

use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Error, Pipeline,
    submissions::{self, Submission},
};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{RunId, SubmissionId},
    store::events,
};

/// The most events one story tells: a submission that was retried to the end has about a hundred.
const EVENTS_MAX: u32 = 500;

/// One try at a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptLine {
    /// The attempt's row.
    pub attempt: i64,
    /// Index of the stage.
    pub stage: usize,
    /// When it began.
    pub started_ms: UnixMs,
    /// When it ended, if it has.
    pub ended_ms: Option<UnixMs>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why.
    pub fault: Option<Fault>,
}

/// One stage's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictLine {
    /// The run, for a stage of scope `run`.
    pub run: Option<RunId>,
    /// The stage's name.
    pub stage: String,
    /// `pass`, `reject` or `hold`.
    pub outcome: String,
    /// Why it was rejected.
    pub fault: Option<Fault>,
    /// What it was decided on.
    pub evidence: Value,
    /// When.
    pub at_ms: UnixMs,
}

/// Everything about one submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// Where it stands.
    pub submission: Submission,
    /// What happened to it, oldest first.
    pub events: Vec<events::Event>,
    /// Tries at stages.
    pub attempts: Vec<AttemptLine>,
    /// Decided stages.
    pub verdicts: Vec<VerdictLine>,
    /// Its row in the newest ranking.
    pub place: Option<crate::score::Row>,
}

impl Pipeline {
    /// Tells the whole story of one submission.
    ///
    /// # Errors
    /// `Missing` when there is no such submission.
    pub async fn story(&self, id: SubmissionId) -> Result<Story, Error> {
        self.store()
            .db()
            .read(move |conn| {
                let submission = submissions::load(conn, id)?;
                let place = super::newest_ranking(conn, &submission.challenge)?
                    .and_then(|stored| stored.ranking.rows.into_iter().find(|row| row.submission == Some(id)));
                Ok(Story {
                    events: events::page_of(conn, &id.to_string(), 0, EVENTS_MAX)?,
                    attempts: attempts(conn, id)?,
                    verdicts: verdicts(conn, id)?,
                    place,
                    submission,
                })
            })
            .await
    }
}

fn attempts(conn: &rusqlite::Connection, id: SubmissionId) -> Result<Vec<AttemptLine>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT id, stage, started_ms, ended_ms, outcome, fault FROM attempts WHERE submission = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query(params![id.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let fault: Option<String> = row.get(5)?;
        found.push(AttemptLine {
            attempt: row.get(0)?,
            stage: row.get(1)?,
            started_ms: row.get(2)?,
            ended_ms: row.get(3)?,
            outcome: row.get(4)?,
            fault: fault.map(|text| serde_json::from_str(&text)).transpose()?,
        });
    }
    Ok(found)
}

fn verdicts(conn: &rusqlite::Connection, id: SubmissionId) -> Result<Vec<VerdictLine>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT run, stage_name, outcome, fault, evidence, at_ms FROM verdicts WHERE submission = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query(params![id.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let fault: Option<String> = row.get(3)?;
        let evidence: String = row.get(4)?;
        found.push(VerdictLine {
            run: row.get::<_, Option<i64>>(0)?.map(RunId),
            stage: row.get(1)?,
            outcome: row.get(2)?,
            fault: fault.map(|text| serde_json::from_str(&text)).transpose()?,
            evidence: serde_json::from_str(&evidence)?,
            at_ms: row.get(5)?,
        });
    }
    Ok(found)
}

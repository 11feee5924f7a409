//! Runs: who is compared with whom, and how far that is.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::{Page, Window, fault, parsed, rows};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, Hotkey, JobId, Priority, RunId, SubmissionId},
    pipeline::{Challenges, Error},
};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The challenge's slug.
    pub challenge: String,
    /// Its number within the challenge.
    pub number: u64,
    /// Whether it looks at one submission alone.
    pub single: bool,
    /// `frozen`, `running`, `folded`, `ranked` or `void`.
    pub state: String,
    /// Index of the stage its contestants are at.
    pub stage: usize,
    /// Name of that stage; empty when the profile has no such stage any more.
    pub stage_name: String,
    /// The block at which it closed.
    pub closed_block: u64,
    /// The block whose hash is its seed.
    pub seed_block: Option<u64>,
    /// That block's hash, once it is finalized.
    pub seed_hash: Option<String>,
    /// Why it is void.
    pub void_reason: Option<String>,
    /// How many take part.
    pub contestants: u64,
    /// How many of them were not in the ranking before.
    pub arrivals: u64,
    /// Jobs that are settled.
    pub jobs_done: u64,
    /// Jobs planned so far.
    pub jobs_total: u64,
    /// When it was frozen.
    pub created_ms: UnixMs,
    /// When it ended, if it has.
    pub ended_ms: Option<UnixMs>,
}

impl Run {
    const COLUMNS: &'static str = "id, challenge, number, single, state, stage, closed_block, seed_block, seed_hash, \
        void_reason, arrivals, created_ms, ended_ms, \
        (SELECT count(*) FROM contestants WHERE run = runs.id), \
        (SELECT count(*) FROM plans JOIN jobs ON jobs.plan = plans.id WHERE plans.run = runs.id \
           AND jobs.state IN ('done', 'failed')), \
        (SELECT count(*) FROM plans JOIN jobs ON jobs.plan = plans.id WHERE plans.run = runs.id \
           AND jobs.state <> 'void')";

    fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: RunId(row.get(0)?),
            challenge: row.get(1)?,
            number: row.get(2)?,
            single: row.get(3)?,
            state: row.get(4)?,
            stage: row.get(5)?,
            stage_name: String::new(),
            closed_block: row.get(6)?,
            seed_block: row.get(7)?,
            seed_hash: row.get(8)?,
            void_reason: row.get(9)?,
            arrivals: row.get(10)?,
            created_ms: row.get(11)?,
            ended_ms: row.get(12)?,
            contestants: row.get(13)?,
            jobs_done: row.get(14)?,
            jobs_total: row.get(15)?,
        })
    }

    fn complete(mut self, challenges: &Challenges) -> Self {
        let step = challenges.get(&self.challenge).and_then(|challenge| challenge.step(self.stage));
        self.stage_name = step.map(|step| step.name.clone()).unwrap_or_default();
        self
    }
}

/// A page of runs, newest first.
pub(in crate::server) fn runs(
    conn: &Connection,
    challenges: &Challenges,
    challenge: Option<&str>,
    window: Window,
) -> Result<Page<Run>, Error> {
    let sql = format!(
        "SELECT {} FROM runs WHERE (?1 IS NULL OR challenge = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3",
        Run::COLUMNS
    );
    let found = rows(conn, &sql, params![challenge, window.after, window.probe()], Run::from_row)?;
    let found = found.into_iter().map(|run| run.complete(challenges)).collect();
    Ok(Page::new(found, window.limit, |run: &Run| run.id.0))
}

/// The runs that are not decided yet, oldest first.
pub(super) fn open_runs(conn: &Connection, challenges: &Challenges, limit: u32) -> Result<Vec<Run>, Error> {
    let sql = format!(
        "SELECT {} FROM runs WHERE state IN ('frozen', 'running', 'folded') ORDER BY id LIMIT ?1",
        Run::COLUMNS
    );
    let found = rows(conn, &sql, params![limit], Run::from_row)?;
    Ok(found.into_iter().map(|run| run.complete(challenges)).collect())
}

/// One run with everybody and everything in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDetail {
    /// The run.
    pub run: Run,
    /// Who takes part, in order of priority.
    pub contestants: Vec<Contestant>,
    /// Its jobs, in the order of their plans.
    pub jobs: Vec<Job>,
}

/// Somebody who takes part in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contestant {
    /// The submission.
    pub submission: SubmissionId,
    /// Who sent it.
    pub hotkey: Hotkey,
    /// The artifact it was frozen with.
    pub artifact: Digest,
    /// What orders it among the others.
    pub priority: Priority,
    /// Whether it was in the ranking before.
    pub incumbent: bool,
    /// Why it was rejected in this run.
    pub fault: Option<Fault>,
    /// Whether it left the run undecided.
    pub gone: bool,
}

/// One job of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Index of the stage that planned it.
    pub stage: usize,
    /// Its index in the plan.
    pub position: u32,
    /// `open`, `done`, `failed` or `void`.
    pub state: String,
    /// How many different workers must do it.
    pub replicas: u32,
    /// How many of them have.
    pub replicas_done: u32,
    /// How many are at it.
    pub replicas_leased: u32,
}

/// One run in detail; the jobs beyond `jobs_max` are left out.
pub(in crate::server) fn run(
    conn: &Connection,
    challenges: &Challenges,
    id: RunId,
    jobs_max: u32,
) -> Result<RunDetail, Error> {
    let sql = format!("SELECT {} FROM runs WHERE id = ?1", Run::COLUMNS);
    let run = rows(conn, &sql, params![id.0], Run::from_row)?.pop();
    let run = run.ok_or_else(|| Error::Missing { what: format!("run {id}") })?.complete(challenges);
    let contestants = rows(
        conn,
        "SELECT submission, hotkey, contestants.artifact, contestants.priority_block, contestants.priority_index,
           incumbent, contestants.fault, gone
         FROM contestants JOIN submissions ON submissions.id = contestants.submission WHERE run = ?1
         ORDER BY contestants.priority_block, contestants.priority_index, submission",
        params![id.0],
        |row| {
            Ok(Contestant {
                submission: SubmissionId(row.get(0)?),
                hotkey: parsed("hotkey", row.get(1)?)?,
                artifact: parsed("artifact", row.get(2)?)?,
                priority: Priority { block: row.get(3)?, index: row.get(4)? },
                incumbent: row.get(5)?,
                fault: fault(row.get(6)?)?,
                gone: row.get(7)?,
            })
        },
    )?;
    let jobs = rows(
        conn,
        "SELECT jobs.id, plans.stage, jobs.position, jobs.state, jobs.replicas,
           (SELECT count(*) FROM replicas WHERE job = jobs.id AND state = 'done'),
           (SELECT count(*) FROM replicas WHERE job = jobs.id AND state = 'leased')
         FROM plans JOIN jobs ON jobs.plan = plans.id WHERE plans.run = ?1 ORDER BY jobs.id LIMIT ?2",
        params![id.0, jobs_max],
        |row| {
            Ok(Job {
                id: JobId(row.get(0)?),
                stage: row.get(1)?,
                position: row.get(2)?,
                state: row.get(3)?,
                replicas: row.get(4)?,
                replicas_done: row.get(5)?,
                replicas_leased: row.get(6)?,
            })
        },
    )?;
    Ok(RunDetail { run, contestants, jobs })
}

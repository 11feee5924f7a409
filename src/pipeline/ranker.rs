//! The ranker: when a run is folded, or a decision or report arrived, the challenge is ranked anew.
//!
//! Owns what the rule is shown and what its answer does to the submissions. Refuses to rank: the pure rule does.
//! The ranker actor calls it with a fresh snapshot of the metagraph.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Challenge, Error, Pipeline,
    claims::run_event,
    hotkeys,
    life::{Event, Status},
    points::Point,
    submissions::{self, Because, Submission, parsed},
};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, Hotkey, RunId, SubmissionId},
    score::{Decision, Entry, Input, Ranking, Report},
    store::events,
};

/// One registered hotkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its place in the subnet.
    pub uid: u16,
    /// The block at which it was registered.
    pub since_block: u64,
    /// Who owns it.
    pub coldkey: Hotkey,
}

/// The metagraph as far as ranking needs it, at one finalized block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The block's number.
    pub block: u64,
    /// The block's hash.
    pub hash: Digest,
    /// Who is registered.
    pub registered: BTreeMap<Hotkey, Registered>,
}

/// A stored ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// The challenge's slug.
    pub challenge: String,
    /// Counted within the challenge from 1.
    pub version: i64,
    /// The run it came from; `None` after a decision or a report.
    pub run: Option<RunId>,
    /// The snapshot's block.
    pub block: u64,
    /// What the rule saw.
    pub input: Input,
    /// What it said.
    pub ranking: Ranking,
    /// The text of the profile that it was made under; `None` where it was not kept.
    #[serde(skip)]
    pub profile: Option<String>,
    /// The bundle that proves it, once it is stored.
    pub evidence: Option<Digest>,
    /// When it was made.
    pub at_ms: UnixMs,
}

/// What must be ranked.
struct Due {
    run: Option<RunId>,
    version: i64,
    /// How many changes the input holds that no ranking had seen.
    changes: i64,
    input: Input,
    /// Older submissions of hotkeys whose newer one takes their place.
    replaced: Vec<SubmissionId>,
}

impl Pipeline {
    /// Ranks every challenge that is due. Returns the challenges that have a new ranking.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rank(&self, snapshot: &Snapshot) -> Result<Vec<String>, Error> {
        let mut ranked = Vec::new();
        while let Some(challenge) = self.rank_next(snapshot).await? {
            ranked.push(challenge);
        }
        Ok(ranked)
    }

    /// Ranks one challenge that is due, once. Returns it; `None` when none is due.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rank_next(&self, snapshot: &Snapshot) -> Result<Option<String>, Error> {
        for challenge in self.challenges().values() {
            if self.rank_one(challenge, snapshot).await? {
                return Ok(Some(challenge.slug.clone()));
            }
        }
        Ok(None)
    }

    async fn rank_one(&self, challenge: &Challenge, snapshot: &Snapshot) -> Result<bool, Error> {
        let (reader, snapshot) = (challenge.clone(), snapshot.clone());
        let now_ms = self.clock().now_ms();
        let due: Option<Due> = self.store().db().read(move |conn| find_due(conn, now_ms, &reader, &snapshot)).await?;
        let Some(due) = due else { return Ok(false) };
        // Outside any transaction: a rule may think for a while.
        let ranking = challenge.rule.rank(&due.input);
        self.reach(Point::RankingDecided);
        let challenge = challenge.clone();
        let stored =
            self.store().db().write("store ranking", move |tx| store(tx, now_ms, &challenge, &due, &ranking)).await?;
        self.reach(Point::RankingRecorded);
        Ok(stored)
    }

    /// The newest ranking of a challenge.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ranking(&self, challenge: &str) -> Result<Option<Stored>, Error> {
        let challenge = challenge.to_owned();
        self.store().db().read(move |conn| newest(conn, &challenge)).await
    }

    /// Records a service's raw answer; the challenge is ranked anew.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn report(&self, slug: &str, service: &str, body: Value, expires_ms: UnixMs) -> Result<(), Error> {
        let (slug, service) = (self.challenge(slug)?.slug.clone(), service.to_owned());
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("store report", move |tx| {
                tx.execute(
                    "INSERT INTO reports (challenge, service, body, at_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![slug, service, body.to_string(), now_ms, expires_ms],
                )?;
                events::append(tx, now_ms, "reported", &slug, &json!({ "service": service }))?;
                super::runs::mark_dirty(tx, &slug)
            })
            .await?;
        self.nudge();
        Ok(())
    }
}

/// The newest ranking of a challenge.
///
/// # Errors
/// When the store fails.
pub fn newest(conn: &Connection, challenge: &str) -> Result<Option<Stored>, Error> {
    let row: Option<Row> = conn
        .prepare_cached(
            "SELECT version, run, block, input, ranking, profile, evidence, at_ms FROM rankings WHERE challenge = ?1
             ORDER BY version DESC LIMIT 1",
        )?
        .query_row([challenge], |row| {
            Ok(Row {
                version: row.get(0)?,
                run: row.get(1)?,
                block: row.get(2)?,
                input: row.get(3)?,
                ranking: row.get(4)?,
                profile: row.get(5)?,
                evidence: row.get(6)?,
                at_ms: row.get(7)?,
            })
        })
        .optional()?;
    row.map(|row| {
        Ok(Stored {
            challenge: challenge.to_owned(),
            version: row.version,
            run: row.run.map(RunId),
            block: row.block,
            input: serde_json::from_str(&row.input)?,
            ranking: serde_json::from_str(&row.ranking)?,
            profile: row.profile,
            evidence: row.evidence.map(|text| parsed("evidence", text)).transpose()?,
            at_ms: row.at_ms,
        })
    })
    .transpose()
}

/// A ranking's columns as they are read.
struct Row {
    version: i64,
    run: Option<i64>,
    block: u64,
    input: String,
    ranking: String,
    profile: Option<String>,
    evidence: Option<String>,
    at_ms: UnixMs,
}

fn find_due(
    conn: &Connection,
    now_ms: UnixMs,
    challenge: &Challenge,
    snapshot: &Snapshot,
) -> Result<Option<Due>, Error> {
    let run: Option<(i64, u64)> = conn
        .prepare_cached(
            "SELECT id, number FROM runs WHERE challenge = ?1 AND state = 'folded' AND single = 0
             ORDER BY number LIMIT 1",
        )?
        .query_row([&challenge.slug], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (version, changes): (i64, i64) = conn
        .prepare_cached("SELECT ranking_version, dirty FROM challenges WHERE slug = ?1")?
        .query_row([&challenge.slug], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if run.is_none() && changes == 0 {
        return Ok(None);
    }
    let previous = newest(conn, &challenge.slug)?;
    let number = run.map_or_else(|| previous.as_ref().map_or(0, |stored| stored.input.run), |(_, number)| number);
    let run = run.map(|(id, _)| RunId(id));
    let mut entries = match run {
        Some(run) => {
            let mut entries = entries_of_run(conn, run)?;
            entries.extend(departed(conn, challenge, snapshot, &entries)?);
            entries.sort_by_key(|(submission, _)| (submission.priority, submission.id));
            entries
        }
        None => entries_of_challenge(conn, challenge, snapshot)?,
    };
    if let Some(previous) = &previous {
        entries.extend(fallen(conn, previous, &entries)?);
        entries.sort_by_key(|(submission, _)| (submission.priority, submission.id));
    }
    let replaced = drop_replaced(&mut entries);
    let entries = entries
        .into_iter()
        .map(|(submission, fault)| entry(conn, run, snapshot, &submission, fault))
        .collect::<Result<_, _>>()?;
    let input = Input {
        challenge: challenge.slug.clone(),
        run: number,
        options: challenge.rule_options.clone(),
        previous: previous.map(|stored| stored.ranking),
        entries,
        reports: reports(conn, now_ms, &challenge.slug)?,
        decisions: decisions(conn, &challenge.slug)?,
        block: snapshot.block,
    };
    Ok(Some(Due { run, version, changes, input, replaced }))
}

/// Contestants of the run that were judged, with the fault of those that were rejected in it.
fn entries_of_run(conn: &Connection, run: RunId) -> Result<Vec<(Submission, Option<Fault>)>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT submission, fault FROM contestants WHERE run = ?1 AND (gone = 0 OR fault IS NOT NULL)
         ORDER BY priority_block, priority_index, submission",
    )?;
    let rows: Vec<(i64, Option<String>)> =
        statement.query_map([run.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for (submission, fault) in rows {
        let submission = submissions::load(conn, SubmissionId(submission))?;
        if submission.status != Status::Withdrawn {
            let fault = fault.map(|text| serde_json::from_str(&text)).transpose()?;
            // What has come out about it since its run was folded counts too.
            let fault = fault.or_else(|| rejection(&submission));
            found.push((submission, fault));
        }
    }
    Ok(found)
}

/// Paid submissions that were left out of the run because their registration ended: the rule must see that they may not
/// be paid any more, for it may remember them.
fn departed(
    conn: &Connection,
    challenge: &Challenge,
    snapshot: &Snapshot,
    entries: &[(Submission, Option<Fault>)],
) -> Result<Vec<(Submission, Option<Fault>)>, Error> {
    let mut paid = paid(conn, challenge)?;
    paid.retain(|submission| {
        !is_eligible(snapshot, submission) && !entries.iter().any(|(entry, _)| entry.id == submission.id)
    });
    Ok(paid.into_iter().map(|submission| (submission, None)).collect())
}

/// Submissions of the present ranking that were rejected since it was made: the rule must see that, for it may remember
/// them.
fn fallen(
    conn: &Connection,
    previous: &Stored,
    entries: &[(Submission, Option<Fault>)],
) -> Result<Vec<(Submission, Option<Fault>)>, Error> {
    let known: BTreeSet<SubmissionId> = previous
        .input
        .entries
        .iter()
        .filter(|entry| entry.fault.is_some())
        .map(|entry| entry.submission)
        .chain(entries.iter().map(|(submission, _)| submission.id))
        .collect();
    let mut found = Vec::new();
    for id in previous.ranking.rows.iter().filter_map(|row| row.submission).filter(|id| !known.contains(id)) {
        let submission = submissions::load(conn, id)?;
        if let Some(fault) = rejection(&submission) {
            found.push((submission, Some(fault)));
        }
    }
    Ok(found)
}

/// Why a submission was rejected, if it was.
fn rejection(submission: &Submission) -> Option<Fault> {
    submission.fault.clone().filter(|_| submission.status == Status::Rejected)
}

/// A hotkey that registered after it had committed is another miner, as far as this commitment goes.
fn is_eligible(snapshot: &Snapshot, submission: &Submission) -> bool {
    let registered = snapshot.registered.get(&submission.hotkey);
    registered.is_some_and(|registered| registered.since_block <= submission.committed.block)
}

/// Submissions that the present ranking pays.
fn paid(conn: &Connection, challenge: &Challenge) -> Result<Vec<Submission>, Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND status = 'ranked' ORDER BY id",
        Submission::COLUMNS
    );
    submissions::select(conn, &sql, params![challenge.slug])
}

/// Everybody who passed the last stage, for a challenge that is ranked without a run. Who lost and is not registered any
/// more is left out: nobody could pay him, and there would be more of them for ever.
fn entries_of_challenge(
    conn: &Connection,
    challenge: &Challenge,
    snapshot: &Snapshot,
) -> Result<Vec<(Submission, Option<Fault>)>, Error> {
    let last = challenge.steps.len().saturating_sub(1);
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND (status IN ('ranked', 'lost')
           OR (status = 'waiting' AND stage = ?2 AND NOT EXISTS (
             SELECT 1 FROM contestants JOIN runs ON runs.id = contestants.run
             WHERE contestants.submission = submissions.id AND runs.state IN ('frozen', 'running')
               AND contestants.gone = 0)))
         ORDER BY priority_block, priority_index, id",
        Submission::COLUMNS
    );
    let mut found = submissions::select(conn, &sql, params![challenge.slug, last])?;
    found.retain(|submission| submission.status != Status::Lost || is_eligible(snapshot, submission));
    Ok(found.into_iter().map(|submission| (submission, None)).collect())
}

/// A hotkey is ranked once: its newest submission without a fault takes the place of the older ones. Returns those.
fn drop_replaced(entries: &mut Vec<(Submission, Option<Fault>)>) -> Vec<SubmissionId> {
    let mut newest: BTreeMap<Hotkey, SubmissionId> = BTreeMap::new();
    for (submission, fault) in entries.iter() {
        if fault.is_none() {
            let kept = newest.entry(submission.hotkey).or_insert(submission.id);
            *kept = (*kept).max(submission.id);
        }
    }
    let kept: BTreeSet<SubmissionId> = newest.values().copied().collect();
    let replaced: Vec<SubmissionId> = entries
        .iter()
        .filter(|(submission, fault)| fault.is_none() && !kept.contains(&submission.id))
        .map(|(submission, _)| submission.id)
        .collect();
    entries.retain(|(submission, _)| !replaced.contains(&submission.id));
    replaced
}

fn entry(
    conn: &Connection,
    run: Option<RunId>,
    snapshot: &Snapshot,
    submission: &Submission,
    fault: Option<Fault>,
) -> Result<Entry, Error> {
    // The newest verdict of each stage: in this run where the stage has one, else from before the run.
    let mut statement = conn.prepare_cached(
        "SELECT stage_name, evidence FROM verdicts WHERE submission = ?1 AND outcome = 'pass'
           AND (run IS NULL OR run = ?2 OR ?2 IS NULL) ORDER BY id",
    )?;
    let mut evidence = BTreeMap::new();
    let mut rows = statement.query(params![submission.id.0, run.map(|run| run.0)])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        evidence.insert(row.get(0)?, serde_json::from_str(&text)?);
    }
    Ok(Entry {
        submission: submission.id,
        hotkey: submission.hotkey,
        artifact: submission.artifact.unwrap_or(Digest([0; 32])),
        priority: submission.priority,
        eligible: is_eligible(snapshot, submission),
        fault,
        evidence,
    })
}

/// The newest report of each service.
fn reports(conn: &Connection, now_ms: UnixMs, challenge: &str) -> Result<Vec<Report>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT service, body, expires_ms FROM reports WHERE id IN (
           SELECT max(id) FROM reports WHERE challenge = ?1 GROUP BY service) ORDER BY service",
    )?;
    let mut rows = statement.query([challenge])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body: String = row.get(1)?;
        let expires_ms: UnixMs = row.get(2)?;
        found.push(Report { service: row.get(0)?, body: serde_json::from_str(&body)?, expired: expires_ms <= now_ms });
    }
    Ok(found)
}

/// The newest decision about each submission.
fn decisions(conn: &Connection, challenge: &str) -> Result<Vec<Decision>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT submission, approved FROM decisions WHERE id IN (
           SELECT max(decisions.id) FROM decisions JOIN submissions ON submissions.id = decisions.submission
           WHERE challenge = ?1 GROUP BY submission) ORDER BY submission",
    )?;
    let rows = statement
        .query_map([challenge], |row| Ok(Decision { submission: SubmissionId(row.get(0)?), approved: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Stores a ranking and what it does to its submissions. Answers false when somebody else was faster.
fn store(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    due: &Due,
    ranking: &Ranking,
) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE challenges SET ranking_version = ranking_version + 1, dirty = dirty - ?3
         WHERE slug = ?1 AND ranking_version = ?2",
        params![challenge.slug, due.version, due.changes],
    )?;
    if changed != 1 {
        return Ok(false);
    }
    let version = due.version + 1;
    tx.execute(
        "INSERT INTO rankings (challenge, version, run, block, input, ranking, profile, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            challenge.slug,
            version,
            due.run.map(|run| run.0),
            due.input.block,
            serde_json::to_string(&due.input)?,
            serde_json::to_string(ranking)?,
            challenge.profile_text,
            now_ms
        ],
    )?;
    for entry in due.input.entries.iter().filter(|entry| entry.fault.is_none()) {
        place(tx, now_ms, version, entry, ranking)?;
    }
    for submission in unseen(tx, challenge, due)? {
        let because = Because::note(json!({ "ranking": version, "reason": "took no part in this ranking" }));
        submissions::apply(tx, now_ms, &submission, Event::Lost, because)?;
    }
    for replaced in &due.replaced {
        let submission = submissions::load(tx, *replaced)?;
        let because = Because::note(json!({ "ranking": version, "reason": "a newer submission took its place" }));
        submissions::apply(tx, now_ms, &submission, Event::Superseded, because)?;
    }
    if let Some(run) = due.run {
        tx.execute("UPDATE runs SET state = 'ranked' WHERE id = ?1", [run.0])?;
        run_event(tx, now_ms, "run_ranked", run, &json!({ "ranking": version }))?;
    }
    hotkeys::end_reused(tx, now_ms, challenge)?;
    events::append(tx, now_ms, "ranking", &challenge.slug, &json!({ "version": version, "block": due.input.block }))?;
    Ok(true)
}

/// Submissions that an earlier ranking paid and this one did not see.
fn unseen(tx: &Transaction<'_>, challenge: &Challenge, due: &Due) -> Result<Vec<Submission>, Error> {
    let seen: BTreeSet<SubmissionId> =
        due.input.entries.iter().map(|entry| entry.submission).chain(due.replaced.iter().copied()).collect();
    let mut paid = paid(tx, challenge)?;
    paid.retain(|submission| !seen.contains(&submission.id));
    Ok(paid)
}

fn place(tx: &Transaction<'_>, now_ms: UnixMs, version: i64, entry: &Entry, ranking: &Ranking) -> Result<(), Error> {
    let submission = submissions::load(tx, entry.submission)?;
    let row = ranking.rows.iter().find(|row| row.submission == Some(entry.submission));
    let paid = row.is_some_and(|row| row.share > 0.0);
    let (status, event) = if paid { (Status::Ranked, Event::Ranked) } else { (Status::Lost, Event::Lost) };
    // An incumbent that keeps its status keeps it without an event; one that left since keeps what it has.
    if submission.status == status || submission.status.is_terminal() || submission.status == Status::Held {
        return Ok(());
    }
    let note = json!({
        "ranking": version,
        "share": row.map_or(0.0, |row| row.share),
        "reason": row.map_or("", |row| row.reason.as_str()),
    });
    submissions::apply(tx, now_ms, &submission, event, Because::note(note)).map(drop)
}

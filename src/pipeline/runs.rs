//! Runs: who is compared with whom, on which seeds, and when it is decided.
//!
//! Owns the life of a run: `frozen` (contestants fixed, seeds awaited) → `running` (its stages' jobs are out) →
//! `folded` (every stage decided) → `ranked`, or `void` (nothing decided, nobody to blame). Refuses to know what the
//! stages compare. The run keeper, an actor, calls it for every finalized block.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde_json::json;

use super::{
    Challenge, Error, Pipeline, Step,
    claims::run_event,
    life::{Event, Status},
    members, plans,
    submissions::{self, Because, Submission},
};
use crate::{
    clock::UnixMs,
    config::profile::{Incumbents, Opens},
    engine::Contestant,
    ids::{Digest, Priority, RunId, SubmissionId},
    stage::{Outcome, RunFacts, RunSeed, Work},
};

/// How far behind the finalized chain a run may close: a day of blocks. An appliance that is later than that cannot keep
/// up with its profile, and lets the runs in between go.
const CLOSING_LATE_BLOCKS: u64 = 7_200;

/// A run whose next stage must be planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The run.
    pub run: RunId,
    /// Index of the stage.
    pub stage: usize,
    /// What the stage is asked to look at.
    pub work: Work,
}

impl Pipeline {
    /// Closes what is due at this finalized block: every challenge freezes the contestants that wait for a run.
    /// Returns the new runs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn close_runs(&self, block: u64) -> Result<Vec<RunId>, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store().db().write("close runs", move |tx| pipeline.close_runs_in(tx, now_ms, block)).await
    }

    pub(super) fn close_runs_in(&self, tx: &Transaction<'_>, now_ms: UnixMs, block: u64) -> Result<Vec<RunId>, Error> {
        let mut closed = Vec::new();
        for challenge in self.challenges().values() {
            closed.extend(close_due(tx, now_ms, challenge, block)?);
        }
        Ok(closed)
    }

    /// Closes a run of this challenge now, whatever its profile says: the operator's door.
    ///
    /// # Errors
    /// `Missing` when there is no such challenge.
    pub async fn close_run_now(&self, slug: &str, block: u64) -> Result<Option<RunId>, Error> {
        let challenge = Arc::clone(self.challenge(slug)?);
        let now_ms = self.clock().now_ms();
        let closed = self
            .store()
            .db()
            .write("close run", move |tx| {
                let arrivals = arrivals(tx, &challenge, block.saturating_add(1))?;
                freeze(tx, now_ms, &challenge, block, arrivals)
            })
            .await;
        self.nudge();
        closed
    }

    /// Freezes the runs that closed at an earlier block and had to wait for their contestants.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn freeze_closed(&self) -> Result<Vec<RunId>, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("freeze closed runs", move |tx| {
                let mut frozen = Vec::new();
                for challenge in pipeline.challenges().values() {
                    frozen.extend(freeze_closing(tx, now_ms, challenge)?);
                }
                Ok(frozen)
            })
            .await
    }

    /// The blocks whose hashes frozen runs wait for, up to this finalized block.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn awaited_seeds(&self, finalized: u64) -> Result<Vec<(RunId, u64)>, Error> {
        self.store()
            .db()
            .read(move |conn| {
                let mut statement = conn.prepare_cached(
                    "SELECT id, seed_block FROM runs WHERE state = 'frozen' AND seed_block <= ?1 ORDER BY id",
                )?;
                let rows = statement.query_map([finalized], |row| Ok((RunId(row.get(0)?), row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Gives a frozen run its seed. The hash must be of the finalized block. A run has one seed for ever: a second
    /// call changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn seed_run(&self, run: RunId, seed: RunSeed) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("seed run", move |tx| {
                let changed = tx.execute(
                    "UPDATE runs SET state = 'running', seed_hash = ?1 WHERE id = ?2 AND state = 'frozen'",
                    params![seed.hash.to_string(), run.0],
                )?;
                if changed == 1 {
                    run_event(tx, now_ms, "seeded", run, &json!({ "block": seed.block, "hash": seed.hash }))?;
                }
                Ok::<_, Error>(())
            })
            .await
    }

    /// The runs whose present stage has no plan yet. One whose stage is not in the profile any more is void.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unplanned(&self) -> Result<Vec<Due>, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("find unplanned runs", move |tx| {
                let rows: Vec<(i64, String, usize)> = tx
                    .prepare_cached(
                        "SELECT id, challenge, stage FROM runs WHERE state = 'running' AND NOT EXISTS (
                           SELECT 1 FROM plans WHERE plans.run = runs.id AND plans.stage = runs.stage
                             AND plans.state <> 'void')
                           AND challenge IN (SELECT value FROM json_each(?1)) ORDER BY id",
                    )?
                    .query_map([pipeline.served()?], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                    .collect::<Result<_, _>>()?;
                let mut due = Vec::new();
                for (run, slug, stage) in rows {
                    let (challenge, run) = (pipeline.challenge(&slug)?, RunId(run));
                    let Some(step) = challenge.step(stage) else {
                        super::folds::void_run(tx, now_ms, challenge, run, None, super::folds::STAGE_GONE)?;
                        continue;
                    };
                    due.push(Due { run, stage, work: work_of(tx, challenge, step, run)? });
                }
                Ok(due)
            })
            .await
    }

    /// Takes the stage's answer for a run: a plan is written, anything else voids the run.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn planned(&self, due: &Due, outcome: Outcome) -> Result<(), Error> {
        let (pipeline, due) = (self.clone(), due.clone());
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("plan run", move |tx| {
                let challenge = pipeline.challenge(&due.work.challenge)?;
                match &outcome {
                    Outcome::Jobs(plan) => plans::create(tx, now_ms, challenge, due.run, due.stage, &due.work, plan),
                    Outcome::Retry(fault) | Outcome::Reject(fault, _) => {
                        let fault = super::claims::never_the_miners(fault);
                        super::folds::void_run(tx, now_ms, challenge, due.run, Some(&fault), &fault.to_string())
                    }
                    Outcome::Pass(_) | Outcome::Hold(_) | Outcome::Exposes(..) => {
                        let fault = super::error::IMPOSSIBLE
                            .because(format!("stage `{}` answered for a run without a plan", due.work.stage));
                        super::folds::void_run(tx, now_ms, challenge, due.run, Some(&fault), &fault.to_string())
                    }
                }
            })
            .await?;
        self.nudge();
        Ok(())
    }
}

/// The block of the newest run that closed or is about to. What is uploaded from then on belongs to a later one.
pub(super) fn last_closing(tx: &Transaction<'_>, challenge: &str) -> Result<Option<u64>, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT max(block) FROM (SELECT closed_block AS block FROM runs WHERE challenge = ?1 AND single = 0
               UNION ALL SELECT closing_block FROM challenges WHERE slug = ?1)",
        )?
        .query_row([challenge], |row| row.get(0))?)
}

/// Says that the challenge's ranking must be made anew. Counted, so that a ranking that was being made meanwhile takes
/// away only what it has seen.
pub(super) fn mark_dirty(tx: &Transaction<'_>, challenge: &str) -> Result<(), Error> {
    tx.execute("UPDATE challenges SET dirty = dirty + 1 WHERE slug = ?1", [challenge])?;
    Ok(())
}

fn close_due(tx: &Transaction<'_>, now_ms: UnixMs, challenge: &Challenge, block: u64) -> Result<Vec<RunId>, Error> {
    match challenge.run.opens {
        Opens::Operator => Ok(Vec::new()),
        Opens::Arrival => {
            let mut closed = Vec::new();
            for submission in arrivals(tx, challenge, block.saturating_add(1))? {
                closed.extend(freeze(tx, now_ms, challenge, block, vec![submission])?);
            }
            Ok(closed)
        }
        Opens::Blocks => {
            set_closing(tx, challenge, block)?;
            freeze_closing(tx, now_ms, challenge)
        }
    }
}

/// Decides at which block the next run of a challenge closes, once nothing is under way any more.
fn set_closing(tx: &Transaction<'_>, challenge: &Challenge, block: u64) -> Result<(), Error> {
    let set: Option<u64> =
        tx.query_row("SELECT closing_block FROM challenges WHERE slug = ?1", [&challenge.slug], |row| row.get(0))?;
    if set.is_some() || is_busy(tx, &challenge.slug)? {
        return Ok(());
    }
    if let Some(due) = next_closing(tx, challenge, block)? {
        tx.execute("UPDATE challenges SET closing_block = ?1 WHERE slug = ?2", params![due, challenge.slug])?;
    }
    Ok(())
}

/// The first block that closes a run after the last one, at which anything waited; `None` before it is finalized. It
/// is a function of what was uploaded when, and never of how long the last run took: a run whose block passed while
/// another was under way is made up for, with the contestants and the seeds of that block.
fn next_closing(tx: &Transaction<'_>, challenge: &Challenge, block: u64) -> Result<Option<u64>, Error> {
    let last: Option<u64> = tx
        .prepare_cached("SELECT max(closed_block) FROM runs WHERE challenge = ?1 AND single = 0")?
        .query_row([&challenge.slug], |row| row.get(0))?;
    let after = last.map_or(1, |last| last.saturating_add(1));
    let since = if owes_round(tx, challenge)? {
        Some(after)
    } else {
        oldest_upload(tx, challenge)?.map(|uploaded| uploaded.saturating_add(1))
    };
    let Some(since) = since else { return Ok(None) };
    let every = challenge.run.every_blocks.max(1);
    let due = since.max(after).div_ceil(every).saturating_mul(every);
    let newest = block / every * every;
    if due > newest {
        return Ok(None);
    }
    Ok(Some(if newest - due > CLOSING_LATE_BLOCKS { newest } else { due }))
}

/// The upload block of the oldest that waits for a run, or is on its way there.
fn oldest_upload(tx: &Transaction<'_>, challenge: &Challenge) -> Result<Option<u64>, Error> {
    let mut statement = tx.prepare_cached(
        "SELECT stage, status, upload_block FROM submissions WHERE challenge = ?1 AND status IN ('queued', 'running')
           AND upload_block IS NOT NULL ORDER BY upload_block",
    )?;
    let entry = challenge.run_entries().first().copied().unwrap_or(0);
    let mut rows = statement.query([&challenge.slug])?;
    while let Some(row) = rows.next()? {
        let (stage, status): (usize, String) = (row.get(0)?, row.get(1)?);
        if stage < entry || (status == "queued" && challenge.is_run_stage(stage)) {
            return Ok(Some(row.get(2)?));
        }
    }
    Ok(None)
}

/// Freezes the run of a challenge that closed at a block, as soon as everything uploaded before that block has come
/// through the stages before the run: who takes part must not depend on how fast we are.
fn freeze_closing(tx: &Transaction<'_>, now_ms: UnixMs, challenge: &Challenge) -> Result<Vec<RunId>, Error> {
    let closing: Option<u64> =
        tx.query_row("SELECT closing_block FROM challenges WHERE slug = ?1", [&challenge.slug], |row| row.get(0))?;
    let Some(block) = closing else { return Ok(Vec::new()) };
    if on_their_way(tx, challenge, block)? {
        return Ok(Vec::new());
    }
    tx.execute("UPDATE challenges SET closing_block = NULL WHERE slug = ?1", [&challenge.slug])?;
    let waiting = arrivals(tx, challenge, block)?;
    // Whoever was on the way may have been turned away: then there is no reason for a run at this block.
    if waiting.is_empty() && !owes_round(tx, challenge)? {
        return Ok(Vec::new());
    }
    Ok(freeze(tx, now_ms, challenge, block, waiting)?.into_iter().collect())
}

/// Whether something uploaded before this block is still in a stage before the runs. One that waits for a retry is not
/// waited for: it takes part in the next run.
fn on_their_way(tx: &Transaction<'_>, challenge: &Challenge, before_block: u64) -> Result<bool, Error> {
    let entry = challenge.run_entries().first().copied().unwrap_or(0);
    let found: Option<i64> = tx
        .prepare_cached(
            "SELECT 1 FROM submissions WHERE challenge = ?1 AND stage < ?2 AND status IN ('queued', 'running')
               AND upload_block < ?3 LIMIT 1",
        )?
        .query_row(params![challenge.slug, entry, before_block], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Submissions uploaded before this block that wait to be taken into a run, by priority.
fn arrivals(tx: &Transaction<'_>, challenge: &Challenge, before_block: u64) -> Result<Vec<Submission>, Error> {
    let mut found = Vec::new();
    for entry in challenge.run_entries() {
        let sql = format!(
            "SELECT {} FROM submissions WHERE challenge = ?1 AND status = 'queued' AND stage BETWEEN ?2 AND ?3
               AND upload_block < ?4 ORDER BY priority_block, priority_index, id LIMIT ?5",
            Submission::COLUMNS
        );
        let end = (entry..challenge.steps.len()).take_while(|stage| challenge.is_run_stage(*stage)).last();
        found.extend(submissions::select(
            tx,
            &sql,
            params![challenge.slug, entry, end.unwrap_or(entry), before_block, challenge.run.contestants_max],
        )?);
        // One that left an earlier run half-way begins the next from its first stage.
        for submission in &mut found {
            tx.prepare_cached("UPDATE submissions SET stage = ?1 WHERE id = ?2 AND stage <> ?1")?
                .execute(params![entry, submission.id.0])?;
            submission.stage = entry;
        }
        // Contestants of one run stand at one stage: the earliest entry that has any goes first.
        if !found.is_empty() {
            break;
        }
    }
    Ok(found)
}

fn is_busy(tx: &Transaction<'_>, challenge: &str) -> Result<bool, Error> {
    let busy: Option<i64> = tx
        .prepare_cached(
            "SELECT 1 FROM runs WHERE challenge = ?1 AND single = 0
               AND state IN ('frozen', 'running', 'folded') LIMIT 1",
        )?
        .query_row([challenge], |row| row.get(0))
        .optional()?;
    Ok(busy.is_some())
}

/// Whether runs without arrivals are still due after the last one with arrivals.
fn owes_round(tx: &Transaction<'_>, challenge: &Challenge) -> Result<bool, Error> {
    if challenge.run.rounds_after_arrival == 0 {
        return Ok(false);
    }
    let since: Option<u32> = tx
        .prepare_cached(
            "SELECT (SELECT count(*) FROM runs AS later WHERE later.challenge = runs.challenge
                AND later.single = 0 AND later.state = 'ranked' AND later.number > runs.number)
             FROM runs WHERE challenge = ?1 AND single = 0 AND arrivals > 0 AND state = 'ranked'
             ORDER BY number DESC LIMIT 1",
        )?
        .query_row([&challenge.slug], |row| row.get(0))
        .optional()?;
    Ok(since.is_some_and(|since| since < challenge.run.rounds_after_arrival))
}

/// Finished submissions that play again, as far as their hotkeys are still registered: whoever has left the subnet owns
/// nothing in it any more, and takes no place.
fn incumbents(tx: &Transaction<'_>, challenge: &Challenge) -> Result<Vec<Submission>, Error> {
    let statuses = match challenge.run.incumbents {
        Incumbents::None => return Ok(Vec::new()),
        Incumbents::Ranked => "'ranked'",
        Incumbents::Finished => "'ranked', 'lost'",
    };
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND status IN ({statuses})
         ORDER BY priority_block, priority_index, id",
        Submission::COLUMNS
    );
    let mut found = submissions::select(tx, &sql, params![challenge.slug])?;
    members::keep_registered(tx, &mut found)?;
    Ok(found)
}

/// Fixes the contestants of a new run. Nothing happens when there is nobody to compare.
fn freeze(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    block: u64,
    arrivals: Vec<Submission>,
) -> Result<Option<RunId>, Error> {
    let incumbents = incumbents(tx, challenge)?;
    let stage = arrivals.first().map(|first| first.stage).or_else(|| challenge.run_entries().first().copied());
    let Some(stage) = stage.filter(|_| !arrivals.is_empty() || !incumbents.is_empty()) else {
        return Ok(None);
    };
    let room = usize::try_from(challenge.run.contestants_max).unwrap_or(usize::MAX);
    // The paid defend their place; then whoever is new. One that lost may try again where there is room.
    let (paid, lost): (Vec<_>, Vec<_>) =
        incumbents.into_iter().partition(|submission| submission.status == Status::Ranked);
    let taken: Vec<Submission> = paid.into_iter().chain(arrivals).chain(lost).take(room).collect();
    let new = taken.iter().filter(|submission| !submission.status.is_finished()).count();
    let run = insert_run(tx, now_ms, challenge, block, stage, new, false)?;
    for submission in &taken {
        add_contestant(tx, run, submission)?;
        if !submission.status.is_finished() {
            let because = Because::note(json!({ "run": run, "block": block }));
            submissions::apply(tx, now_ms, submission, Event::Frozen, because)?;
        }
    }
    let data = json!({
        "challenge": challenge.slug, "block": block, "contestants": taken.len(), "arrivals": new,
        "seed_block": block + challenge.run.seed_delay_blocks,
    });
    run_event(tx, now_ms, "run_frozen", run, &data)?;
    Ok(Some(run))
}

fn insert_run(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    block: u64,
    stage: usize,
    arrivals: usize,
    single: bool,
) -> Result<RunId, Error> {
    let seeded = !single && challenge.run.seed_delay_blocks > 0;
    let guard: Option<i64> = (challenge.run.guarded && !single)
        .then(|| {
            tx.query_row("SELECT ranking_version FROM challenges WHERE slug = ?1", [&challenge.slug], |row| row.get(0))
        })
        .transpose()?;
    tx.prepare_cached(
        "INSERT INTO runs (challenge, number, single, state, stage, closed_block, arrivals, seed_block, guard,
           created_ms)
         VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs WHERE challenge = ?1), ?2, ?3, ?4, ?5, ?6, ?7,
           ?8, ?9)",
    )?
    .execute(params![
        challenge.slug,
        single,
        if seeded { "frozen" } else { "running" },
        stage,
        block,
        arrivals,
        seeded.then_some(block + challenge.run.seed_delay_blocks),
        guard,
        now_ms
    ])?;
    Ok(RunId(tx.last_insert_rowid()))
}

fn add_contestant(tx: &Transaction<'_>, run: RunId, submission: &Submission) -> Result<(), Error> {
    let artifact =
        submission.artifact.ok_or_else(|| Error::Missing { what: format!("artifact of {}", submission.id) })?;
    tx.prepare_cached(
        "INSERT INTO contestants (run, submission, artifact, priority_block, priority_index, incumbent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        run.0,
        submission.id.0,
        artifact.to_string(),
        submission.priority.block,
        submission.priority.index,
        submission.status.is_finished()
    ])?;
    Ok(())
}

/// A run of one, for a stage of scope `submission` that planned jobs.
pub(super) fn single(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    submission: &Submission,
    _work: &Work,
) -> Result<RunId, Error> {
    let run = insert_run(tx, now_ms, challenge, submission.committed.block, submission.stage, 1, true)?;
    add_contestant(tx, run, submission)?;
    Ok(run)
}

/// What is known of a run.
pub(super) fn facts(tx: &Transaction<'_>, run: RunId) -> Result<RunFacts, Error> {
    let (number, block, hash): (u64, Option<u64>, Option<String>) = tx
        .prepare_cached("SELECT number, seed_block, seed_hash FROM runs WHERE id = ?1")?
        .query_row([run.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let hash: Option<Digest> = hash.map(|text| submissions::parsed("seed hash", text)).transpose()?;
    Ok(RunFacts { id: run, number, seed: block.zip(hash).map(|(block, hash)| RunSeed { block, hash }) })
}

/// The contestants that are still in the run, by priority.
pub(super) fn contestants(tx: &Transaction<'_>, run: RunId) -> Result<Vec<Contestant>, Error> {
    let mut statement = tx.prepare_cached(
        "SELECT contestants.submission, submissions.hotkey, contestants.artifact, contestants.priority_block,
           contestants.priority_index, contestants.incumbent
         FROM contestants JOIN submissions ON submissions.id = contestants.submission
         WHERE run = ?1 AND contestants.fault IS NULL AND contestants.gone = 0
         ORDER BY contestants.priority_block, contestants.priority_index, contestants.submission",
    )?;
    let mut rows = statement.query([run.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Contestant {
            submission: SubmissionId(row.get(0)?),
            hotkey: submissions::parsed("hotkey", row.get(1)?)?,
            artifact: submissions::parsed("artifact", row.get(2)?)?,
            priority: Priority { block: row.get(3)?, index: row.get(4)? },
            incumbent: row.get(5)?,
        });
    }
    Ok(found)
}

fn work_of(tx: &Transaction<'_>, challenge: &Challenge, step: &Step, run: RunId) -> Result<Work, Error> {
    Ok(Work {
        challenge: challenge.slug.clone(),
        stage: step.name.clone(),
        run: Some(facts(tx, run)?),
        contestants: contestants(tx, run)?,
        parts: BTreeMap::new(),
        coldkey: None,
        peers: Vec::new(),
    })
}

//! Attempts: one try at one stage of scope `submission`, held by a lease.
//!
//! Owns claiming, the heartbeat, and what each outcome of a stage does to its submission. Refuses to know what the
//! stage looked at. The stage runners call it.

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde_json::{Value, json};

use super::{
    Challenge, Error, Pipeline, Step,
    error::{IMPOSSIBLE, LEASE_LAPSED, PROCESS_DIED},
    life::{Event, Status},
    peers, plans, runs, sightings,
    submissions::{self, Because, Submission},
};
use crate::{
    clock::UnixMs,
    engine::Contestant,
    fault::{Class, Fault},
    ids::SubmissionId,
    stage::{Outcome, Scope, Work},
    store::events,
};

/// One try at one stage. Its id is its fencing token: only the holder of the open attempt may finish it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The attempt's row.
    pub id: i64,
    /// The submission as it was claimed.
    pub submission: Submission,
    /// What the stage is asked to look at.
    pub work: Work,
    /// How long the holder may be silent.
    pub lease_ms: u64,
}

impl Pipeline {
    /// Takes the next submission that waits for a stage of scope `submission`; `None` when none waits.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim(&self) -> Result<Option<Attempt>, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store().db().write("claim attempt", move |tx| pipeline.claim_in(tx, now_ms)).await
    }

    fn claim_in(&self, tx: &Transaction<'_>, now_ms: UnixMs) -> Result<Option<Attempt>, Error> {
        for challenge in self.challenges().values() {
            // The furthest first: what is nearly done gives back what it holds, such as its place on the disk.
            for (stage, step) in challenge.steps.iter().enumerate().rev() {
                if step.stage.scope() != Scope::Submission {
                    continue;
                }
                let next = match step.stage.in_order() {
                    None => next_queued(tx, &challenge.slug, stage)?,
                    Some(wait_ms) => peers::next_in_order(tx, &challenge.slug, stage, now_ms, wait_ms)?,
                };
                if let Some(submission) = next {
                    return begin(tx, now_ms, challenge, submission).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Says that the holder is still at it.
    ///
    /// # Errors
    /// `Stale` when the attempt is over.
    pub async fn heartbeat(&self, attempt: &Attempt) -> Result<(), Error> {
        let until_ms = self.clock().now_ms().saturating_add_unsigned(attempt.lease_ms);
        let id = attempt.id;
        self.store()
            .db()
            .write("heartbeat attempt", move |tx| {
                let changed = tx
                    .prepare_cached("UPDATE attempts SET lease_until_ms = ?1 WHERE id = ?2 AND ended_ms IS NULL")?
                    .execute(params![until_ms, id])?;
                if changed == 1 { Ok(()) } else { Err(Error::Stale { what: format!("attempt {id}") }) }
            })
            .await
    }

    /// Records the stage's outcome and moves the submission, in one transaction.
    ///
    /// # Errors
    /// `Stale` when the attempt is over: the outcome is not taken and nothing changes.
    pub async fn finish(&self, attempt: &Attempt, outcome: Outcome) -> Result<Submission, Error> {
        let pipeline = self.clone();
        let attempt = attempt.clone();
        let now_ms = self.clock().now_ms();
        let moved = self
            .store()
            .db()
            .write("finish attempt", move |tx| pipeline.finish_in(tx, now_ms, &attempt, &outcome))
            .await?;
        self.nudge();
        Ok(moved)
    }

    fn finish_in(
        &self,
        tx: &Transaction<'_>,
        now_ms: UnixMs,
        attempt: &Attempt,
        outcome: &Outcome,
    ) -> Result<Submission, Error> {
        let submission = &attempt.submission;
        let challenge = self.challenge(&submission.challenge)?;
        let (word, fault) = describe(outcome);
        close(tx, now_ms, attempt.id, word, fault.as_ref())?;
        let step = challenge.step(submission.stage).ok_or_else(|| missing_stage(submission))?;
        let stage = (submission.stage, step.name.as_str());
        match outcome {
            Outcome::Pass(evidence) => {
                submissions::record_verdict(tx, now_ms, submission.id, None, stage, "pass", None, evidence)?;
                pass(tx, now_ms, challenge, submission)
            }
            Outcome::Exposes(evidence, exposed) => {
                submissions::record_verdict(tx, now_ms, submission.id, None, stage, "pass", None, evidence)?;
                peers::reject_exposed(tx, now_ms, submission, stage, exposed)?;
                pass(tx, now_ms, challenge, submission)
            }
            Outcome::Reject(fault, evidence) if fault.class == Class::Miner => {
                submissions::record_verdict(tx, now_ms, submission.id, None, stage, "reject", Some(fault), evidence)?;
                submissions::apply(tx, now_ms, submission, Event::MinerFault, Because::fault(fault))
            }
            Outcome::Reject(fault, _) | Outcome::Retry(fault) => {
                let fault = never_the_miners(fault);
                submissions::retry_or_fail(tx, now_ms, submission, Event::OtherFault, &fault, &step.retries)
            }
            Outcome::Hold(reason) => {
                let note = json!({ "reason": reason });
                submissions::record_verdict(tx, now_ms, submission.id, None, stage, "hold", None, &note)?;
                submissions::apply(tx, now_ms, submission, Event::NeedsPerson, Because::note(note))
            }
            Outcome::Jobs(plan) => {
                let run = runs::single(tx, now_ms, challenge, submission, &attempt.work)?;
                plans::create(tx, now_ms, challenge, run, submission.stage, &attempt.work, plan)?;
                let note = json!({ "jobs": plan.jobs.len(), "run": run });
                submissions::apply(tx, now_ms, submission, Event::Planned, Because::note(note))
            }
        }
    }

    /// Puts submissions back whose attempt's lease lapsed. Returns how many.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn sweep_attempts(&self, tx: &Transaction<'_>, now_ms: UnixMs) -> Result<usize, Error> {
        let lapsed = open_attempts(tx, Some(now_ms), &self.served()?)?;
        for (attempt, id) in &lapsed {
            let fault = LEASE_LAPSED.because(format!("attempt {attempt} was silent"));
            close(tx, now_ms, *attempt, "lapsed", Some(&fault))?;
            if let Some((submission, step)) = self.still_running(tx, *id)? {
                submissions::retry_or_fail(tx, now_ms, &submission, Event::LeaseLapsed, &fault, &step.retries)?;
            }
        }
        Ok(lapsed.len())
    }

    /// Puts every submission back that an attempt held, because the process of its holder is dead. Returns how many.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn release_attempts(&self, tx: &Transaction<'_>, now_ms: UnixMs) -> Result<usize, Error> {
        let open = open_attempts(tx, None, &self.served()?)?;
        for (attempt, id) in &open {
            let fault = PROCESS_DIED.because(format!("attempt {attempt} was under way"));
            close(tx, now_ms, *attempt, "released", Some(&fault))?;
            if let Some((submission, step)) = self.still_running(tx, *id)? {
                submissions::release_or_fail(tx, now_ms, &submission, &fault, &step.retries)?;
            }
        }
        Ok(open.len())
    }

    /// The submission of an attempt that ended without an outcome. It may have been withdrawn while the attempt held
    /// it: then only the attempt ends.
    fn still_running(&self, tx: &Transaction<'_>, id: SubmissionId) -> Result<Option<(Submission, &Step)>, Error> {
        let submission = submissions::load(tx, id)?;
        if submission.status != Status::Running {
            return Ok(None);
        }
        let step = self.challenge(&submission.challenge)?.step(submission.stage);
        let step = step.ok_or_else(|| missing_stage(&submission))?;
        Ok(Some((submission, step)))
    }
}

/// Attempts of the challenges that are served, without an end, and their submissions: all of them, or those whose lease
/// ended before this moment.
fn open_attempts(
    tx: &Transaction<'_>,
    lapsed_by_ms: Option<UnixMs>,
    served: &str,
) -> Result<Vec<(i64, SubmissionId)>, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT id, submission FROM attempts WHERE ended_ms IS NULL AND (?1 IS NULL OR lease_until_ms < ?1)
               AND (SELECT challenge FROM submissions WHERE submissions.id = attempts.submission)
                 IN (SELECT value FROM json_each(?2)) ORDER BY id",
        )?
        .query_map(params![lapsed_by_ms, served], |row| Ok((row.get(0)?, SubmissionId(row.get(1)?))))?
        .collect::<Result<_, _>>()?)
}

/// A submission stands at a stage that its profile does not have.
pub(super) fn missing_stage(submission: &Submission) -> Error {
    Error::Missing { what: format!("stage {} of challenge `{}`", submission.stage, submission.challenge) }
}

/// Carries a submission that passed to its next stage, or to the ranking.
pub(super) fn pass(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    submission: &Submission,
) -> Result<Submission, Error> {
    if challenge.is_last(submission.stage) {
        runs::mark_dirty(tx, &challenge.slug)?;
        return submissions::apply(tx, now_ms, submission, Event::PassedLast, Because::default());
    }
    submissions::apply(tx, now_ms, submission, Event::Passed, Because::default())
}

/// A stage that rejects for a fault that is not the miner's, or retries for one that is, contradicts itself: that is
/// our bug and never the miner's blame.
pub(super) fn never_the_miners(fault: &Fault) -> Fault {
    if fault.class == Class::Miner {
        return IMPOSSIBLE.because(format!("a retry was asked for a fault of the miner's: {fault}"));
    }
    fault.clone()
}

fn next_queued(tx: &Transaction<'_>, challenge: &str, stage: usize) -> Result<Option<Submission>, Error> {
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND status = 'queued' AND stage = ?2
         ORDER BY priority_block, priority_index, id LIMIT 1",
        Submission::COLUMNS
    );
    Ok(submissions::select(tx, &sql, params![challenge, stage])?.pop())
}

fn begin(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    submission: Submission,
) -> Result<Attempt, Error> {
    let step = challenge.step(submission.stage).ok_or_else(|| missing_stage(&submission))?;
    let contestant: Contestant =
        submission.contestant().ok_or_else(|| Error::Missing { what: format!("artifact of {}", submission.id) })?;
    let peers = match step.stage.in_order() {
        None => Vec::new(),
        Some(_wait_ms) => peers::passed(tx, &submission, &step.name)?,
    };
    let work = Work {
        challenge: challenge.slug.clone(),
        stage: step.name.clone(),
        run: None,
        contestants: vec![contestant],
        parts: sightings::parts_of(tx, &submission)?,
        coldkey: Some(submission.coldkey),
        peers,
    };
    tx.prepare_cached("INSERT INTO attempts (submission, stage, started_ms, lease_until_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![submission.id.0, submission.stage, now_ms, now_ms.saturating_add_unsigned(step.lease_ms)])?;
    let id = tx.last_insert_rowid();
    let because = Because::note(json!({ "attempt": id }));
    let submission = submissions::apply(tx, now_ms, &submission, Event::Claimed, because)?;
    Ok(Attempt { id, submission, work, lease_ms: step.lease_ms })
}

fn close(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    attempt: i64,
    outcome: &str,
    fault: Option<&Fault>,
) -> Result<(), Error> {
    let fault = fault.map(serde_json::to_string).transpose()?;
    let changed = tx
        .prepare_cached(
            "UPDATE attempts SET ended_ms = ?1, outcome = ?2, fault = ?3 WHERE id = ?4 AND ended_ms IS NULL",
        )?
        .execute(params![now_ms, outcome, fault, attempt])?;
    if changed == 1 {
        return Ok(());
    }
    let known: Option<i64> =
        tx.query_row("SELECT id FROM attempts WHERE id = ?1", [attempt], |row| row.get(0)).optional()?;
    let what = format!("attempt {attempt}");
    Err(if known.is_some() { Error::Stale { what } } else { Error::Missing { what } })
}

fn describe(outcome: &Outcome) -> (&'static str, Option<Fault>) {
    match outcome {
        Outcome::Pass(_) | Outcome::Exposes(..) => ("pass", None),
        Outcome::Reject(fault, _) => ("reject", Some(fault.clone())),
        Outcome::Retry(fault) => ("retry", Some(fault.clone())),
        Outcome::Hold(_) => ("hold", None),
        Outcome::Jobs(_) => ("jobs", None),
    }
}

/// Appends an event about a run.
pub(super) fn run_event(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    kind: &str,
    run: crate::ids::RunId,
    data: &Value,
) -> Result<(), Error> {
    events::append(tx, now_ms, kind, &run.to_string(), data)?;
    Ok(())
}

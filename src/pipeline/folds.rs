//! Folds: from a plan's settled jobs to one outcome a contestant, and from there to the next stage.
//!
//! Owns the one transaction in which a run's stage is decided, its guard, and what voids a run. Refuses to judge: the
//! stage's pure fold does. The run keeper calls it.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde_json::{Value, json};

use super::{
    Challenge, Error, Pipeline, Step,
    claims::{missing_stage, never_the_miners, run_event},
    error::DEADLINE_LAPSED,
    life::{Event, Status},
    plans,
    points::Point,
    runs,
    submissions::{self, Because, Submission},
};
use crate::{
    clock::UnixMs,
    engine::Contestant,
    fault::{Class, Fault},
    ids::{RunId, SubmissionId},
    stage::{Outcome, Plan, Work},
};

/// Why a run is void whose profile became shorter.
pub(super) const STAGE_GONE: &str = "the profile does not have the run's stage any more";

/// How a fold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// The run goes on with its next stage.
    NextStage,
    /// Every stage of the run is decided; the ranking is due.
    Finished,
    /// Nothing was decided.
    Void,
}

struct Ready {
    plan_id: i64,
    run: RunId,
    stage: usize,
    work: Work,
    plan: Plan,
}

impl Pipeline {
    /// Folds every plan whose jobs are settled, and voids those that are overdue. Returns what was folded.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fold(&self) -> Result<Vec<(RunId, Folded)>, Error> {
        let mut folded = Vec::new();
        while let Some((run, how)) = self.fold_one().await? {
            self.reach(Point::FoldRecorded);
            folded.push((run, how));
        }
        if !folded.is_empty() {
            self.nudge();
        }
        Ok(folded)
    }

    async fn fold_one(&self) -> Result<Option<(RunId, Folded)>, Error> {
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("fold plan", move |tx| {
                let Some(ready) = next_ready(tx, now_ms, &pipeline.served()?)? else { return Ok(None) };
                let run = ready.run;
                let folded = pipeline.fold_in(tx, now_ms, &ready)?;
                pipeline.reach(Point::FoldDecided);
                Ok(Some((run, folded)))
            })
            .await
    }

    fn fold_in(&self, tx: &Transaction<'_>, now_ms: UnixMs, ready: &Ready) -> Result<Folded, Error> {
        let challenge = self.challenge(&ready.work.challenge)?;
        // Another stage may stand there now: its fold knows nothing of these records.
        let Some(step) = challenge.step(ready.stage).filter(|step| step.name == ready.work.stage) else {
            void_run(tx, now_ms, challenge, ready.run, None, STAGE_GONE)?;
            return Ok(Folded::Void);
        };
        let Some(results) = plans::results(tx, ready.plan_id)? else {
            let fault = DEADLINE_LAPSED.because(format!("no job of {} ended in time", ready.run));
            void_run(tx, now_ms, challenge, ready.run, Some(&fault), "deadline")?;
            return Ok(Folded::Void);
        };
        if let Some(reason) = broken_guard(tx, challenge, ready.run)? {
            void_run(tx, now_ms, challenge, ready.run, None, &reason)?;
            return Ok(Folded::Void);
        }
        let outcomes = step.stage.fold(&ready.work, &ready.plan, &results);
        if let Some(fault) = undecided_incumbent(tx, &ready.work, &outcomes)? {
            void_run(tx, now_ms, challenge, ready.run, Some(&fault), "an incumbent could not be tried")?;
            return Ok(Folded::Void);
        }
        tx.execute("UPDATE plans SET state = 'folded', ended_ms = ?1 WHERE id = ?2", params![now_ms, ready.plan_id])?;
        let stays = ready.work.run.is_some() && challenge.is_run_stage(ready.stage + 1);
        for contestant in &ready.work.contestants {
            let outcome = outcomes.get(&contestant.submission).cloned().unwrap_or(Outcome::Pass(Value::Null));
            Fold { tx, now_ms, challenge, step, run: ready.run, stage: ready.stage, stays }
                .apply(contestant, outcome)?;
        }
        if ready.work.run.is_none() && challenge.is_last(ready.stage) {
            // A run of one is not ranked by itself: it changes what the whole challenge's ranking sees.
            runs::mark_dirty(tx, &challenge.slug)?;
        }
        advance(tx, now_ms, ready, stays)
    }
}

/// Carries the run to its next stage, or to the ranking.
fn advance(tx: &Transaction<'_>, now_ms: UnixMs, ready: &Ready, stays: bool) -> Result<Folded, Error> {
    if stays {
        tx.execute("UPDATE runs SET stage = stage + 1 WHERE id = ?1", [ready.run.0])?;
        run_event(tx, now_ms, "stage_folded", ready.run, &json!({ "stage": ready.work.stage }))?;
        return Ok(Folded::NextStage);
    }
    tx.execute("UPDATE runs SET state = 'folded', ended_ms = ?1 WHERE id = ?2", params![now_ms, ready.run.0])?;
    run_event(tx, now_ms, "run_folded", ready.run, &json!({ "stage": ready.work.stage }))?;
    Ok(Folded::Finished)
}

/// One contestant's outcome on its way into the tables.
struct Fold<'a> {
    tx: &'a Transaction<'a>,
    now_ms: UnixMs,
    challenge: &'a Challenge,
    step: &'a Step,
    run: RunId,
    stage: usize,
    stays: bool,
}

impl Fold<'_> {
    fn apply(&self, contestant: &Contestant, outcome: Outcome) -> Result<(), Error> {
        let submission = submissions::load(self.tx, contestant.submission)?;
        // Only one that still waits here, or an incumbent with its own status, can be moved: one that was withdrawn
        // meanwhile has left.
        let present = if contestant.incumbent {
            submission.status.is_finished()
        } else {
            submission.status == Status::Waiting && submission.stage == self.stage
        };
        if !present {
            return self.leaves(contestant.submission, None);
        }
        let undecided = match &outcome {
            Outcome::Pass(_) => None,
            Outcome::Reject(fault, _) if fault.class == Class::Miner => None,
            Outcome::Reject(fault, _) | Outcome::Retry(fault) => Some(fault.to_string()),
            Outcome::Hold(reason) => Some(reason.clone()),
            Outcome::Jobs(_) | Outcome::Exposes(..) => Some("the stage's fold is none".to_owned()),
        };
        // An incumbent keeps its own status, whatever kept it from being tried.
        if let (true, Some(reason)) = (contestant.incumbent, undecided) {
            let note = json!({ "submission": contestant.submission, "reason": reason });
            run_event(self.tx, self.now_ms, "contestant_left", self.run, &note)?;
            return self.leaves(contestant.submission, None);
        }
        match outcome {
            Outcome::Pass(evidence) => self.pass(contestant, &submission, &evidence),
            Outcome::Reject(fault, evidence) if fault.class == Class::Miner => {
                self.reject(&submission, &fault, &evidence)
            }
            Outcome::Reject(fault, _) | Outcome::Retry(fault) => self.retry(&submission, &never_the_miners(&fault)),
            Outcome::Hold(reason) => {
                self.leaves(submission.id, None)?;
                let note = json!({ "reason": reason });
                self.verdict(&submission, "hold", None, &note)?;
                submissions::apply(self.tx, self.now_ms, &submission, Event::NeedsPerson, Because::note(note)).map(drop)
            }
            Outcome::Jobs(_) | Outcome::Exposes(..) => {
                let fault = super::error::IMPOSSIBLE.because(format!("the fold of `{}` is none", self.step.name));
                self.retry(&submission, &fault)
            }
        }
    }

    /// Something failed that is not the miner's doing.
    fn retry(&self, submission: &Submission, fault: &Fault) -> Result<(), Error> {
        self.leaves(submission.id, None)?;
        let (event, retries) = (Event::OtherFault, &self.step.retries);
        submissions::retry_or_fail(self.tx, self.now_ms, submission, event, fault, retries).map(drop)
    }

    fn pass(&self, contestant: &Contestant, submission: &Submission, evidence: &Value) -> Result<(), Error> {
        self.verdict(submission, "pass", None, evidence)?;
        // Being a contestant never changes an incumbent's status.
        if contestant.incumbent {
            return Ok(());
        }
        if self.stays {
            return submissions::apply(self.tx, self.now_ms, submission, Event::Advanced, Because::default()).map(drop);
        }
        if self.challenge.is_last(self.stage) {
            return submissions::apply(self.tx, self.now_ms, submission, Event::PassedLast, Because::default())
                .map(drop);
        }
        submissions::apply(self.tx, self.now_ms, submission, Event::Passed, Because::default()).map(drop)
    }

    fn reject(&self, submission: &Submission, fault: &Fault, evidence: &Value) -> Result<(), Error> {
        self.verdict(submission, "reject", Some(fault), evidence)?;
        self.leaves(submission.id, Some(fault))?;
        submissions::apply(self.tx, self.now_ms, submission, Event::MinerFault, Because::fault(fault)).map(drop)
    }

    fn verdict(
        &self,
        submission: &Submission,
        outcome: &str,
        fault: Option<&Fault>,
        evidence: &Value,
    ) -> Result<(), Error> {
        let stage = (self.stage, self.step.name.as_str());
        submissions::record_verdict(
            self.tx,
            self.now_ms,
            submission.id,
            Some(self.run),
            stage,
            outcome,
            fault,
            evidence,
        )
    }

    /// The contestant takes no further part in this run.
    fn leaves(&self, submission: SubmissionId, fault: Option<&Fault>) -> Result<(), Error> {
        let fault = fault.map(serde_json::to_string).transpose()?;
        self.tx
            .prepare_cached("UPDATE contestants SET gone = 1, fault = ?1 WHERE run = ?2 AND submission = ?3")?
            .execute(params![fault, self.run.0, submission.0])?;
        Ok(())
    }
}

fn next_ready(tx: &Transaction<'_>, now_ms: UnixMs, served: &str) -> Result<Option<Ready>, Error> {
    let row: Option<(i64, i64, usize, String, String)> = tx
        .prepare_cached(
            "SELECT plans.id, plans.run, plans.stage, plans.work, plans.plan FROM plans
             JOIN runs ON runs.id = plans.run
             WHERE plans.state = 'open' AND (plans.deadline_ms < ?1 OR NOT EXISTS (
                SELECT 1 FROM jobs WHERE jobs.plan = plans.id AND jobs.state = 'open'))
               -- A guard is only worth something when every fold before it has been ranked.
               AND (runs.guard IS NULL OR NOT EXISTS (
                 SELECT 1 FROM runs AS other WHERE other.challenge = runs.challenge AND other.state = 'folded'
                   AND other.single = 0))
               AND runs.challenge IN (SELECT value FROM json_each(?2))
             ORDER BY plans.id LIMIT 1",
        )?
        .query_row(params![now_ms, served], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .optional()?;
    row.map(|(plan_id, run, stage, work, plan)| {
        Ok(Ready {
            plan_id,
            run: RunId(run),
            stage,
            work: serde_json::from_str(&work)?,
            plan: serde_json::from_str(&plan)?,
        })
    })
    .transpose()
}

/// Why the run may not be folded any more, if so: what it was frozen against has changed.
fn broken_guard(tx: &Transaction<'_>, challenge: &Challenge, run: RunId) -> Result<Option<String>, Error> {
    let (guard, present): (Option<i64>, i64) = tx.query_row(
        "SELECT runs.guard, challenges.ranking_version FROM runs
         JOIN challenges ON challenges.slug = runs.challenge WHERE runs.id = ?1 AND challenges.slug = ?2",
        params![run.0, challenge.slug],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(guard
        .filter(|guard| *guard != present)
        .map(|guard| format!("the ranking changed from version {guard} to {present} since the run was frozen")))
}

/// A paid incumbent that could not be tried, for a reason that is not its own, must not lose its place: nothing is
/// decided then. One that is not paid has nothing to lose, and keeps nobody waiting.
fn undecided_incumbent(
    tx: &Transaction<'_>,
    work: &Work,
    outcomes: &BTreeMap<SubmissionId, Outcome>,
) -> Result<Option<Fault>, Error> {
    for contestant in work.contestants.iter().filter(|contestant| contestant.incumbent) {
        let fault = match outcomes.get(&contestant.submission) {
            Some(Outcome::Retry(fault)) => never_the_miners(fault),
            Some(Outcome::Reject(fault, _)) if fault.class != Class::Miner => fault.clone(),
            _ => continue,
        };
        if submissions::load(tx, contestant.submission)?.status == Status::Ranked {
            return Ok(Some(fault));
        }
    }
    Ok(None)
}

/// Ends a run without a decision. Its arrivals are queued again, at once when nothing failed, or with the fault's
/// back-off and budget.
pub(super) fn void_run(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    run: RunId,
    fault: Option<&Fault>,
    reason: &str,
) -> Result<(), Error> {
    let open: Vec<i64> = tx
        .prepare_cached("SELECT id FROM plans WHERE run = ?1 AND state = 'open'")?
        .query_map([run.0], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for plan in open {
        plans::void(tx, now_ms, plan)?;
    }
    for contestant in runs::contestants(tx, run)?.iter().filter(|contestant| !contestant.incumbent) {
        let submission = submissions::load(tx, contestant.submission)?;
        if submission.status != Status::Waiting {
            continue;
        }
        match fault {
            Some(fault) => {
                let on = if fault.code == DEADLINE_LAPSED.name { Event::DeadlineLapsed } else { Event::OtherFault };
                let step = challenge.step(submission.stage).ok_or_else(|| missing_stage(&submission))?;
                submissions::retry_or_fail(tx, now_ms, &submission, on, fault, &step.retries)?;
            }
            None => {
                let because = Because::note(json!({ "run": run, "reason": reason }));
                submissions::apply(tx, now_ms, &submission, Event::RunVoid, because)?;
            }
        }
    }
    tx.execute(
        "UPDATE runs SET state = 'void', void_reason = ?1, ended_ms = ?2 WHERE id = ?3",
        params![reason, now_ms, run.0],
    )?;
    run_event(tx, now_ms, "run_void", run, &json!({ "reason": reason, "fault": fault }))
}

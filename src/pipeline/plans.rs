//! Plans, jobs and replicas: work that leaves the stage and comes back as records.
//!
//! Owns their rows, the claim of a replica with its fencing token, and how replicas settle into a job's result.
//! Refuses to know what the records mean: that is the stage's fold. Workers claim and finish; runs collect.

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde_json::{Value, json};

use super::{
    Challenge, Error, Pipeline,
    error::{LEASE_LAPSED, NO_QUORUM},
};
use crate::{
    clock::UnixMs,
    engine::{Contestant, Job, Records},
    fault::{Class, Fault},
    ids::{Digest, JobId, RunId},
    stage::{JobResult, JobSpec, Plan, Work},
    store::events,
};

/// One claimed replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The replica's row.
    pub replica: i64,
    /// The fencing token: an answer with an older one is not taken.
    pub token: i64,
    /// What to do.
    pub job: Job,
}

/// How a worker's answer was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The replica is done; its job still waits for others.
    Counted,
    /// The replica is done and its job with it.
    Settled,
    /// The fault was not the miner's: the replica will be tried again.
    WillRetry,
}

/// How long a claimed replica may be silent.
pub const REPLICA_LEASE_MS: u64 = 30_000;

/// How much longer than its longest job, tried as often as it may be, a plan waits for a sign of life: the back-offs.
const PATIENCE_MS: u64 = 300_000;

/// How long a plan may show no progress. One job, done again and again, must not end it.
fn patience_ms(plan: &Plan) -> u64 {
    let tries = plan.jobs.iter().map(|job| job.timeout_ms.saturating_mul(u64::from(job.retries) + 1));
    plan.deadline_ms.max(tries.max().unwrap_or(0).saturating_add(PATIENCE_MS))
}

/// A replica of this job ended, one way or the other: its plan has as long as at the beginning. A plan has so many
/// replicas and each so many tries, so that it ends, and how many jobs there are, and who else uses the machine, does
/// not end it earlier.
fn progressed(tx: &Transaction<'_>, now_ms: UnixMs, job: JobId) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE plans SET deadline_ms = max(deadline_ms, ?1 + json_extract(plan, '$.deadline_ms'))
         WHERE id = (SELECT plan FROM jobs WHERE id = ?2) AND state = 'open'",
    )?
    .execute(params![now_ms, job.0])?;
    Ok(())
}

/// Nobody could work while the process was not there: every open plan has as long as at the beginning.
pub(super) fn forgive_absence(tx: &Transaction<'_>, now_ms: UnixMs) -> Result<(), Error> {
    tx.execute(
        "UPDATE plans SET deadline_ms = max(deadline_ms, ?1 + json_extract(plan, '$.deadline_ms'))
         WHERE state = 'open'",
        [now_ms],
    )?;
    Ok(())
}

/// Writes a plan with its jobs and replicas.
pub(super) fn create(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    run: RunId,
    stage: usize,
    work: &Work,
    plan: &Plan,
) -> Result<(), Error> {
    let plan = &Plan { deadline_ms: patience_ms(plan), ..plan.clone() };
    tx.prepare_cached(
        "INSERT INTO plans (run, stage, work, plan, state, deadline_ms, created_ms)
         VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?6)",
    )?
    .execute(params![
        run.0,
        stage,
        serde_json::to_string(work)?,
        serde_json::to_string(plan)?,
        now_ms.saturating_add_unsigned(plan.deadline_ms),
        now_ms
    ])?;
    let id = tx.last_insert_rowid();
    for (position, spec) in plan.jobs.iter().enumerate() {
        create_job(tx, now_ms, challenge, run, id, position, work, spec)?;
    }
    events::append(tx, now_ms, "planned", &run.to_string(), &json!({ "stage": work.stage, "jobs": plan.jobs.len() }))?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "a job's row has this many independent parts")]
fn create_job(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    challenge: &Challenge,
    run: RunId,
    plan: i64,
    position: usize,
    work: &Work,
    spec: &JobSpec,
) -> Result<(), Error> {
    let contestants: Vec<_> = work
        .contestants
        .iter()
        .filter(|contestant| spec.contestants.contains(&contestant.submission))
        .cloned()
        .collect();
    // A plan may ask for a quorum of none by mistake; a job that nobody does settles nothing.
    let replicas = spec.replicas.max(1);
    let quorum = spec.quorum.clamp(1, replicas);
    let owner = owner(tx, &contestants)?;
    let turn = turn(tx, &owner)?;
    let mut job = Job {
        id: JobId(0),
        run,
        stage: work.stage.clone(),
        kind: spec.kind.clone(),
        contestants,
        spec: spec.spec.clone(),
        needs: spec.needs,
        timeout_ms: spec.timeout_ms,
    };
    tx.prepare_cached(
        "INSERT INTO jobs (plan, run, challenge, owner, position, job, replicas, quorum, retries, state, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, '', ?6, ?7, ?8, 'open', ?9)",
    )?
    .execute(params![plan, run.0, challenge.slug, owner, position, replicas, quorum, spec.retries, now_ms])?;
    job.id = JobId(tx.last_insert_rowid());
    tx.prepare_cached("UPDATE jobs SET job = ?1 WHERE id = ?2")?
        .execute(params![serde_json::to_string(&job)?, job.id.0])?;
    for n in 0..replicas {
        tx.prepare_cached("INSERT INTO replicas (job, n, challenge, turn, state) VALUES (?1, ?2, ?3, ?4, 'queued')")?
            .execute(params![job.id.0, n, challenge.slug, turn])?;
    }
    Ok(())
}

/// Whose turn a job takes: the coldkey of its first contestant that is not an incumbent, or nobody's.
fn owner(tx: &Transaction<'_>, contestants: &[Contestant]) -> Result<String, Error> {
    let Some(arrival) = contestants.iter().find(|contestant| !contestant.incumbent) else {
        return Ok(String::new());
    };
    let coldkey = tx
        .prepare_cached("SELECT coldkey FROM submissions WHERE id = ?1")?
        .query_row([arrival.submission.0], |row| row.get(0))
        .optional()?;
    Ok(coldkey.unwrap_or_default())
}

/// How many open jobs of the same owner stand before this one. Ordering by it interleaves owners, so that one
/// coldkey with many submissions does not hold up everybody else.
fn turn(tx: &Transaction<'_>, owner: &str) -> Result<i64, Error> {
    Ok(tx
        .prepare_cached("SELECT count(*) FROM jobs WHERE owner = ?1 AND state = 'open'")?
        .query_row([owner], |row| row.get(0))?)
}

impl Pipeline {
    /// Takes the next replica for this worker: challenges in rotation, then owners, then age. A worker never gets two
    /// replicas of one job.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim_replica(&self, worker: &str) -> Result<Option<Claim>, Error> {
        let order = self.rotate_challenges();
        let worker = worker.to_owned();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("claim replica", move |tx| {
                for challenge in &order {
                    if let Some(claim) = claim_in(tx, now_ms, challenge, &worker)? {
                        return Ok(Some(claim));
                    }
                }
                Ok(None)
            })
            .await
    }

    /// Says that the worker is still at it.
    ///
    /// # Errors
    /// `Stale` when the claim is over.
    pub async fn heartbeat_replica(&self, claim: &Claim) -> Result<(), Error> {
        let until_ms = self.clock().now_ms().saturating_add_unsigned(REPLICA_LEASE_MS);
        let (replica, token) = (claim.replica, claim.token);
        self.store()
            .db()
            .write("heartbeat replica", move |tx| {
                let changed = tx
                    .prepare_cached(
                        "UPDATE replicas SET lease_until_ms = ?1 WHERE id = ?2 AND token = ?3 AND state = 'leased'",
                    )?
                    .execute(params![until_ms, replica, token])?;
                if changed == 1 { Ok(()) } else { Err(Error::Stale { what: format!("replica {replica}") }) }
            })
            .await
    }

    /// Takes a worker's answer.
    ///
    /// # Errors
    /// `Stale` when the claim is over: the answer is not taken and nothing changes.
    pub async fn finish_replica(&self, claim: &Claim, answer: Result<Records, Fault>) -> Result<Taken, Error> {
        let claim = claim.clone();
        let now_ms = self.clock().now_ms();
        let taken = self.store().db().write("finish replica", move |tx| finish_in(tx, now_ms, &claim, &answer)).await?;
        if taken == Taken::Settled {
            self.nudge();
        }
        Ok(taken)
    }

    /// Gives a claim back untouched, as at a shutdown: it does not count as a failure.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release_replica(&self, claim: &Claim) -> Result<(), Error> {
        let (replica, token) = (claim.replica, claim.token);
        self.store()
            .db()
            .write("release replica", move |tx| {
                tx.prepare_cached(
                    "UPDATE replicas SET state = 'queued', worker = NULL, lease_until_ms = NULL
                     WHERE id = ?1 AND token = ?2 AND state = 'leased'",
                )?
                .execute(params![replica, token])?;
                Ok(())
            })
            .await
    }
}

fn claim_in(tx: &Transaction<'_>, now_ms: UnixMs, challenge: &str, worker: &str) -> Result<Option<Claim>, Error> {
    let found: Option<(i64, i64, String)> = tx
        .prepare_cached(
            "UPDATE replicas SET state = 'leased', worker = ?1, token = token + 1, lease_until_ms = ?2
             WHERE id = (
                SELECT candidate.id FROM replicas AS candidate
                WHERE candidate.state = 'queued' AND candidate.challenge = ?3 AND candidate.due_ms <= ?4
                  AND NOT EXISTS (
                    SELECT 1 FROM replicas AS other WHERE other.job = candidate.job AND other.id <> candidate.id
                      AND other.worker = ?1 AND other.state IN ('leased', 'done'))
                ORDER BY candidate.turn, candidate.id LIMIT 1)
             RETURNING id, token, (SELECT job FROM jobs WHERE jobs.id = replicas.job)",
        )?
        .query_row(params![worker, now_ms.saturating_add_unsigned(REPLICA_LEASE_MS), challenge, now_ms], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    found.map(|(replica, token, job)| Ok(Claim { replica, token, job: serde_json::from_str(&job)? })).transpose()
}

fn finish_in(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    claim: &Claim,
    answer: &Result<Records, Fault>,
) -> Result<Taken, Error> {
    match answer {
        Err(fault) if fault.class != Class::Miner => fail_replica(tx, now_ms, claim.replica, claim.token, fault),
        _ => {
            let text = serde_json::to_string(answer)?;
            let digest = agreement(answer)?;
            let changed = tx
                .prepare_cached(
                    "UPDATE replicas SET state = 'done', result = ?1, records_digest = ?2, finished_ms = ?3,
                       lease_until_ms = NULL WHERE id = ?4 AND token = ?5 AND state = 'leased'",
                )?
                .execute(params![text, digest.to_string(), now_ms, claim.replica, claim.token])?;
            if changed != 1 {
                return Err(Error::Stale { what: format!("replica {}", claim.replica) });
            }
            progressed(tx, now_ms, claim.job.id)?;
            settle(tx, now_ms, claim.job.id)
        }
    }
}

/// What a quorum compares: the records themselves, or the code of a miner's fault (its wording may differ).
fn agreement(answer: &Result<Records, Fault>) -> Result<Digest, Error> {
    let text = match answer {
        Ok(records) => serde_json::to_string(&json!({ "records": records }))?,
        Err(fault) => serde_json::to_string(&json!({ "fault": fault.code }))?,
    };
    Ok(Digest::of(text.as_bytes()))
}

/// A replica failed by a fault that is not the miner's: queued again with a back-off, or given up.
fn fail_replica(tx: &Transaction<'_>, now_ms: UnixMs, replica: i64, token: i64, fault: &Fault) -> Result<Taken, Error> {
    let row: Option<(i64, u32, u32, Option<String>)> = tx
        .prepare_cached(
            "SELECT replicas.job, replicas.failures, jobs.retries, replicas.worker FROM replicas
             JOIN jobs ON jobs.id = replicas.job
             WHERE replicas.id = ?1 AND replicas.token = ?2 AND replicas.state = 'leased'",
        )?
        .query_row(params![replica, token], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((job, failures, retries, worker)) = row else {
        return Err(Error::Stale { what: format!("replica {replica}") });
    };
    tx.prepare_cached(
        "INSERT INTO replica_failures (replica, token, worker, fault, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![replica, token, worker, serde_json::to_string(fault)?, now_ms])?;
    progressed(tx, now_ms, JobId(job))?;
    let failures = failures + 1;
    if failures > retries {
        let answer: Result<Records, Fault> = Err(fault.clone());
        tx.prepare_cached(
            "UPDATE replicas SET state = 'failed', failures = ?1, result = ?2, finished_ms = ?3,
               lease_until_ms = NULL WHERE id = ?4",
        )?
        .execute(params![failures, serde_json::to_string(&answer)?, now_ms, replica])?;
        return settle(tx, now_ms, JobId(job));
    }
    // Doubling from one second to about a minute: long enough for a neighbour to recover, short beside a run.
    let wait_ms = 1_000_i64 << failures.saturating_sub(1).min(6);
    tx.prepare_cached(
        "UPDATE replicas SET state = 'queued', failures = ?1, due_ms = ?2, worker = NULL, lease_until_ms = NULL
         WHERE id = ?3",
    )?
    .execute(params![failures, now_ms.saturating_add(wait_ms), replica])?;
    Ok(Taken::WillRetry)
}

/// Looks whether the job's replicas decide it, and closes it when they do.
fn settle(tx: &Transaction<'_>, now_ms: UnixMs, job: JobId) -> Result<Taken, Error> {
    let quorum: Option<u32> = tx
        .prepare_cached("SELECT quorum FROM jobs WHERE id = ?1 AND state = 'open'")?
        .query_row([job.0], |row| row.get(0))
        .optional()?;
    // A replica that finishes after its job was settled is kept, and changes nothing.
    let Some(quorum) = quorum else { return Ok(Taken::Counted) };
    let agreed: Option<(u32, String)> = tx
        .prepare_cached(
            "SELECT count(*), min(result) FROM replicas WHERE job = ?1 AND state = 'done'
             GROUP BY records_digest ORDER BY count(*) DESC, records_digest LIMIT 1",
        )?
        .query_row([job.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let open: u32 = tx
        .prepare_cached("SELECT count(*) FROM replicas WHERE job = ?1 AND state IN ('queued', 'leased')")?
        .query_row([job.0], |row| row.get(0))?;
    let best = agreed.as_ref().map_or(0, |(count, _)| *count);
    let (state, outcome) = match agreed {
        Some((count, result)) if count >= quorum => ("done", serde_json::from_str(&result)?),
        // Whatever is still out could yet reach the quorum.
        _ if best + open >= quorum => return Ok(Taken::Counted),
        _ => ("failed", Err(unsettled(tx, job, best, quorum)?)),
    };
    let result = JobResult { outcome };
    tx.prepare_cached("UPDATE jobs SET state = ?1, result = ?2 WHERE id = ?3 AND state = 'open'")?.execute(params![
        state,
        serde_json::to_string(&result)?,
        job.0
    ])?;
    tx.prepare_cached("UPDATE replicas SET state = 'void' WHERE job = ?1 AND state = 'queued'")?.execute([job.0])?;
    let data = json!({ "state": state, "fault": result.outcome.as_ref().err() });
    events::append(tx, now_ms, "job_settled", &job.to_string(), &data)?;
    Ok(Taken::Settled)
}

/// Why no quorum can be reached: the last fault that was not the miner's, or plain disagreement.
fn unsettled(tx: &Transaction<'_>, job: JobId, best: u32, quorum: u32) -> Result<Fault, Error> {
    let failed: Option<String> = tx
        .prepare_cached("SELECT result FROM replicas WHERE job = ?1 AND state = 'failed' ORDER BY id DESC LIMIT 1")?
        .query_row([job.0], |row| row.get(0))
        .optional()?;
    let fault =
        failed.map(|text| serde_json::from_str::<Result<Value, Fault>>(&text)).transpose()?.and_then(Result::err);
    Ok(fault.unwrap_or_else(|| NO_QUORUM.because(format!("{best} of the {quorum} needed agree on {job}"))))
}

/// Puts replicas back whose lease lapsed; a lapse counts as a failure. Returns how many.
pub(super) fn sweep_replicas(tx: &Transaction<'_>, now_ms: UnixMs) -> Result<usize, Error> {
    let lapsed: Vec<(i64, i64)> = tx
        .prepare_cached("SELECT id, token FROM replicas WHERE state = 'leased' AND lease_until_ms < ?1")?
        .query_map([now_ms], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (replica, token) in &lapsed {
        let fault = LEASE_LAPSED.because(format!("replica {replica} was silent"));
        fail_replica(tx, now_ms, *replica, *token, &fault)?;
    }
    Ok(lapsed.len())
}

/// Puts back what the workers of this machine still held when their process died: their names are taken again, so nobody
/// works under the old claims. Not a failure of the job's; the next claim raises the token. Returns how many.
pub(super) fn release_replicas(tx: &Transaction<'_>, machine: &str) -> Result<usize, Error> {
    let prefix = format!("{machine}/");
    Ok(tx.execute(
        "UPDATE replicas SET state = 'queued', worker = NULL, lease_until_ms = NULL
         WHERE substr(worker, 1, length(?1)) = ?1 AND state = 'leased'",
        [prefix],
    )?)
}

/// The settled results of a plan in its order, or `None` while a job is open.
pub(super) fn results(tx: &Transaction<'_>, plan: i64) -> Result<Option<Vec<JobResult>>, Error> {
    let rows: Vec<(String, Option<String>)> = tx
        .prepare_cached("SELECT state, result FROM jobs WHERE plan = ?1 ORDER BY position")?
        .query_map([plan], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::with_capacity(rows.len());
    for (state, result) in rows {
        match result {
            Some(result) if state != "open" => found.push(serde_json::from_str(&result)?),
            _ => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Ends everything of a plan that is still out.
pub(super) fn void(tx: &Transaction<'_>, now_ms: UnixMs, plan: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE plans SET state = 'void', ended_ms = ?1 WHERE id = ?2 AND state = 'open'",
        params![now_ms, plan],
    )?;
    tx.execute(
        "UPDATE replicas SET state = 'void' WHERE state IN ('queued', 'leased')
           AND job IN (SELECT id FROM jobs WHERE plan = ?1)",
        [plan],
    )?;
    tx.execute("UPDATE jobs SET state = 'void' WHERE plan = ?1 AND state = 'open'", [plan])?;
    Ok(())
}

//! Workers: one a CPU slot, each claims replicas, runs them on the engine and returns records.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span, warn};

use super::{Tasks, reconcile};
use crate::{
    engine::{Engine, Progress, Records},
    fault::{Class, Code, Fault},
    pipeline::{Claim, Error, Pipeline, REPLICA_LEASE_MS, points::Point, scheduler::Scheduler},
};

/// How often a worker looks without being nudged.
const PERIOD: Duration = Duration::from_millis(500);

/// A replica took longer than its job allows.
pub const REPLICA_TIMEOUT: Code = Code::new(
    Class::Infra,
    "replica_timeout",
    "the job took longer on this machine than its wall time allows",
    "give the appliance more CPU, or raise the stage's timeout; it is tried again",
);
/// The machine can never run the job.
pub const TOO_LARGE: Code = Code::new(
    Class::Operator,
    "machine_too_small",
    "the job needs more than this machine has",
    "raise `slots` in the settings if the machine really has it, or lower the stage's needs",
);

/// The codes of this room.
pub const CODES: &[Code] = &[REPLICA_TIMEOUT, TOO_LARGE];

/// What local workers are made of.
#[derive(Clone)]
pub struct Workers {
    /// Where they claim.
    pub pipeline: Pipeline,
    /// Who grants slots.
    pub scheduler: Scheduler,
    /// What runs a job.
    pub engine: Arc<dyn Engine>,
    /// The machine's name, the first half of each worker's identity.
    pub name: String,
}

/// Starts one worker a CPU slot.
pub fn run_workers(workers: &Workers, tasks: &Tasks) {
    for slot in 0..workers.scheduler.slots().cpus {
        let (workers, token) = (workers.clone(), tasks.token().clone());
        let identity = format!("{}/{slot}", workers.name);
        tasks.spawn("worker", async move {
            let pipeline = workers.pipeline.clone();
            reconcile("worker", &pipeline, PERIOD, &token, || work_once(&workers, &identity, &token)).await;
        });
    }
}

async fn work_once(workers: &Workers, identity: &str, token: &CancellationToken) -> Result<bool, Error> {
    let Some(claim) = workers.pipeline.claim_replica(identity).await? else { return Ok(false) };
    workers.pipeline.reach(Point::ReplicaClaimed);
    let span = info_span!("replica", job = %claim.job.id, replica = claim.replica, stage = claim.job.stage);
    work(workers, &claim, token).instrument(span).await?;
    Ok(true)
}

async fn work(workers: &Workers, claim: &Claim, token: &CancellationToken) -> Result<(), Error> {
    let cancel = token.child_token();
    let answer = tokio::select! {
        answer = run(workers, claim, cancel.clone()) => answer,
        () = keep_alive(&workers.pipeline, claim) => {
            cancel.cancel();
            return Ok(());
        }
    };
    // A shutdown is nobody's failure: the claim goes back as it was.
    if token.is_cancelled() && answer.as_ref().is_err_and(|fault| fault.class != Class::Miner) {
        return workers.pipeline.release_replica(claim).await;
    }
    workers.pipeline.reach(Point::ReplicaDone);
    match workers.pipeline.finish_replica(claim, answer).await {
        Err(Error::Stale { what }) => warn!(what, "the answer came too late and was not taken"),
        other => drop(other?),
    }
    workers.pipeline.reach(Point::ReplicaRecorded);
    Ok(())
}

async fn run(workers: &Workers, claim: &Claim, cancel: CancellationToken) -> Result<Records, Fault> {
    let permit =
        workers.scheduler.acquire(claim.job.needs).await.map_err(|source| TOO_LARGE.because(source.to_string()))?;
    let deadline = Duration::from_millis(claim.job.timeout_ms);
    tokio::select! {
        answer = workers.engine.run(&claim.job, permit, Progress::unwatched(), cancel.clone()) => answer,
        () = workers.pipeline.clock().sleep(deadline) => {
            cancel.cancel();
            Err(REPLICA_TIMEOUT.because(format!("stopped after {} ms", claim.job.timeout_ms)))
        }
    }
}

/// Beats while the engine runs; returns only when the lease is lost.
async fn keep_alive(pipeline: &Pipeline, claim: &Claim) {
    loop {
        pipeline.clock().sleep(Duration::from_millis(REPLICA_LEASE_MS / 3)).await;
        if let Err(Error::Stale { what }) = pipeline.heartbeat_replica(claim).await {
            warn!(what, "the lease is lost; the replica is abandoned");
            return;
        }
    }
}

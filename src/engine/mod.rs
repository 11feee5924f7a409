//! Engines: how one replica of one job is run, and what it may use while it runs.
//!
//! Owns the job as an engine sees it, the resources it needs, the permit that grants them, and the engines themselves.
//! Refuses to know leases, quorums, retries or verdicts: an engine returns records and never judges.
//! The pipeline's workers call it.

pub mod compare;
pub mod fingerprint;
mod in_process;
pub mod rollouts;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    fault::{Code, Fault},
    ids::{Digest, Hotkey, JobId, Priority, RunId, SubmissionId},
};

pub use in_process::{CANCELLED, InProcess, Task, UNKNOWN_KIND};
pub use rollouts::SPEC_MALFORMED;

/// The codes of this room.
pub const CODES: &[Code] = &[UNKNOWN_KIND, CANCELLED, SPEC_MALFORMED];

/// What one replica of a job returns: plain data from which a fold re-computes everything.
pub type Records = serde_json::Value;

/// A submission taking part in a run, frozen with the digest it had then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contestant {
    /// The submission.
    pub submission: SubmissionId,
    /// Who sent it.
    pub hotkey: Hotkey,
    /// SHA-256 of the uploaded bytes.
    pub artifact: Digest,
    /// When it was first committed.
    pub priority: Priority,
    /// Whether it was already in the ranking when the run was frozen.
    pub incumbent: bool,
}

/// What a job takes from the machine while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// CPU slots.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// GPUs.
    pub gpus: u32,
    /// Free memory wanted on each GPU, in MiB.
    pub vram_mib: u64,
}

impl Needs {
    /// One CPU slot and a modest amount of memory.
    pub const ONE_CPU: Self = Self { cpus: 1, memory_mib: 256, gpus: 0, vram_mib: 0 };
}

/// One job as an engine sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its row.
    pub id: JobId,
    /// The run it belongs to.
    pub run: RunId,
    /// The stage that planned it.
    pub stage: String,
    /// Which kind of work it is; the engine looks the function up by this name.
    pub kind: String,
    /// Who takes part in this job.
    pub contestants: Vec<Contestant>,
    /// The kind's own parameters.
    pub spec: serde_json::Value,
    /// What it takes from the machine.
    pub needs: Needs,
    /// Wall time after which it is cancelled, in milliseconds.
    pub timeout_ms: u64,
}

/// A grant of slots. Dropping it frees them.
pub struct Permit {
    needs: Needs,
    gpus: Vec<u32>,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Permit {
    /// A permit that calls `release` once when it is dropped. Only the scheduler makes these.
    pub fn new(needs: Needs, gpus: Vec<u32>, release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { needs, gpus, release: Some(Box::new(release)) }
    }

    /// What was granted.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        self.needs
    }

    /// The granted GPU ids.
    #[must_use]
    pub fn gpus(&self) -> &[u32] {
        &self.gpus
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("needs", &self.needs).field("gpus", &self.gpus).finish_non_exhaustive()
    }
}

/// How a running job tells how far it is: steps done of steps in all.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Progress {
    /// Progress that calls this function.
    pub fn new(report: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Progress that nobody watches.
    #[must_use]
    pub fn unwatched() -> Self {
        Self::new(|_done, _total| {})
    }

    /// Says how far the job is.
    pub fn report(&self, done: u64, total: u64) {
        (self.0)(done, total);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Something that runs one replica of a job.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Runs the job to its end. A fault of class `miner` is itself a result; any other is tried again by the pipeline.
    ///
    /// # Errors
    /// Returns the classified fault. A cancelled job returns an `infra` fault.
    async fn run(
        &self,
        job: &Job,
        permit: Permit,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Records, Fault>;
}

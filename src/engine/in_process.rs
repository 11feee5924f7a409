//! The in-process engine: jobs as functions of this program, for work that needs no container.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Engine, Job, Permit, Progress, Records};
use crate::fault::{Class, Code, Fault};

/// No function of this name.
pub const UNKNOWN_KIND: Code = Code::new(
    Class::Operator,
    "job_kind_unknown",
    "this worker cannot run jobs of this kind",
    "update the worker, or take the stage out of the profile",
);
/// The function was told to stop.
pub const CANCELLED: Code =
    Code::new(Class::Infra, "job_cancelled", "the job was stopped before its end", "nothing to do: it is tried again");

/// What the engine does for one kind of job.
#[async_trait]
pub trait Task: Send + Sync {
    /// Runs the job to its end, or until it is cancelled. Long computations run on a blocking thread and look at the
    /// token often.
    ///
    /// # Errors
    /// The classified fault; class `miner` when the artifact is to blame.
    async fn run(&self, job: &Job, progress: &Progress, cancel: &CancellationToken) -> Result<Records, Fault>;
}

/// Functions by the kind of job they do.
#[derive(Clone, Default)]
pub struct InProcess {
    tasks: BTreeMap<String, Arc<dyn Task>>,
}

impl InProcess {
    /// An engine that knows no kind yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same engine, which also does this kind.
    #[must_use]
    pub fn with(mut self, kind: &str, task: Arc<dyn Task>) -> Self {
        self.tasks.insert(kind.to_owned(), task);
        self
    }
}

#[async_trait]
impl Engine for InProcess {
    async fn run(
        &self,
        job: &Job,
        permit: Permit,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Records, Fault> {
        let task = self.tasks.get(&job.kind).ok_or_else(|| UNKNOWN_KIND.because(format!("kind `{}`", job.kind)))?;
        let records = task.run(job, &progress, &cancel).await;
        drop(permit);
        records
    }
}

//! What the pipeline can fail at.

use crate::{
    fault::{Class, Code, Fault},
    ids::SubmissionId,
    intake::PAYMENT_USED,
    pipeline::life::{Event, Status},
    store,
};

/// An invariant of the tables does not hold.
pub const IMPOSSIBLE: Code = Code::new(
    Class::Bug,
    "impossible_transition",
    "the life table has no such transition",
    "report it with the output of `waag why`; the submission keeps its state",
);
/// Too many retries of one stage.
pub const BUDGET_SPENT: Code = Code::new(
    Class::Infra,
    "retries_spent",
    "the retries of this stage are spent",
    "look at the attempts with `waag why`, repair the cause, and let the miner commit and publish again",
);
/// A lease ended without an answer.
pub const LEASE_LAPSED: Code = Code::new(
    Class::Infra,
    "lease_lapsed",
    "the worker did not answer before its lease ended",
    "nothing to do: it is tried again",
);
/// The process that was at work died.
pub const PROCESS_DIED: Code = Code::new(
    Class::Infra,
    "process_died",
    "the process ended while it was at work on this stage",
    "nothing to do: it is begun again at once; if it repeats for one submission, report it",
);
/// A plan's deadline passed.
pub const DEADLINE_LAPSED: Code = Code::new(
    Class::Infra,
    "deadline_lapsed",
    "no job of the stage ended for longer than any may take",
    "look for workers that fail and for a machine in trouble; it is tried again",
);
/// Replicas of one job did not agree.
pub const NO_QUORUM: Code = Code::new(
    Class::Infra,
    "no_quorum",
    "the workers' records do not agree",
    "compare the replicas' records with `waag why`; one of the workers is not like the others",
);
/// The committed artifact never came.
pub const ARTIFACT_MISSING: Code = Code::new(
    Class::Miner,
    "artifact_missing",
    "the commitment's artifact was not uploaded in time",
    "commit again and upload with `waag publish` within the profile's `artifact_within_blocks`",
);
/// A person said no.
pub const NOT_APPROVED: Code =
    Code::new(Class::Miner, "not_approved", "the operator refused it", "the note of the decision says why");

/// The codes of this room.
pub const CODES: &[Code] =
    &[IMPOSSIBLE, BUDGET_SPENT, LEASE_LAPSED, PROCESS_DIED, DEADLINE_LAPSED, NO_QUORUM, ARTIFACT_MISSING, NOT_APPROVED];

/// What the pipeline can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused or failed.
    #[error("the store failed")]
    Store(#[from] store::Error),
    /// A stored document does not parse.
    #[error("a stored document does not parse")]
    Json(#[from] serde_json::Error),
    /// The life table has no such transition.
    #[error("{submission} is {from}: `{on}` cannot happen to it")]
    Impossible {
        /// Which submission.
        submission: SubmissionId,
        /// Its status.
        from: Status,
        /// What was tried.
        on: Event,
    },
    /// The caller's lease is over: its answer is not taken.
    #[error("the lease on {what} is not yours any more")]
    Stale {
        /// Which attempt or replica.
        what: String,
    },
    /// There is no such thing.
    #[error("there is no {what}")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// A payment is another submission's.
    #[error("{by} was paid with this payment")]
    PaymentUsed {
        /// Whose it is.
        by: SubmissionId,
    },
    /// A stored word or number is not one this program writes.
    #[error("the database holds `{value}` as {what}")]
    Foreign {
        /// Which column.
        what: &'static str,
        /// What stands there.
        value: String,
    },
}

impl From<rusqlite::Error> for Error {
    /// The store knows which of SQLite's errors is a full disk, a damaged file or our own mistake.
    fn from(source: rusqlite::Error) -> Self {
        Self::Store(source.into())
    }
}

impl Error {
    /// The failure as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Store(source) => source.fault(),
            Self::PaymentUsed { .. } => PAYMENT_USED.because(self.to_string()),
            Self::Stale { .. } => LEASE_LAPSED.because(self.to_string()),
            _ => IMPOSSIBLE.because(self.to_string()),
        }
    }
}

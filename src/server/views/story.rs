//! The story of one submission, with everything that a person may ask about it.

use serde::{Deserialize, Serialize};

use super::Submission;
use crate::{
    pipeline::{self, AttemptLine, VerdictLine},
    score,
    store::events::Event,
};

/// Everything about one submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Where it stands.
    pub submission: Submission,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
    /// Tries at stages.
    pub attempts: Vec<AttemptLine>,
    /// Decided stages.
    pub verdicts: Vec<VerdictLine>,
    /// Its row in the newest ranking.
    pub place: Option<score::Row>,
}

impl Story {
    /// The pipeline's story about the submission, as it is shown.
    pub(in crate::server) fn new(submission: Submission, story: pipeline::Story) -> Self {
        let pipeline::Story { submission: _, events, attempts, verdicts, place } = story;
        Self { submission, events, attempts, verdicts, place }
    }
}

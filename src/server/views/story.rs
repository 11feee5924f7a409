//! The story of one submission, with everything that a person may ask about it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Event, Submission};
use crate::{clock::UnixMs, fault::Fault, ids::RunId, pipeline, score};

/// Everything about one submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Where it stands.
    pub submission: Submission,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
    /// Tries at stages.
    pub attempts: Vec<Attempt>,
    /// Decided stages.
    pub verdicts: Vec<Verdict>,
    /// Its row in the newest ranking.
    pub place: Option<score::Row>,
}

/// One try at a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub attempt: i64,
    /// Index of the stage.
    pub stage: usize,
    /// When it began.
    pub started_ms: UnixMs,
    /// When it ended, if it has.
    pub ended_ms: Option<UnixMs>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why.
    pub fault: Option<Fault>,
}

/// One stage's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The run, for a stage that compares.
    pub run: Option<RunId>,
    /// The stage's name.
    pub stage: String,
    /// `pass`, `reject` or `hold`.
    pub outcome: String,
    /// Why it was rejected.
    pub fault: Option<Fault>,
    /// What it was decided on.
    pub evidence: Value,
    /// When.
    pub at_ms: UnixMs,
}

impl Story {
    /// The pipeline's story about the submission, as it is shown.
    pub(in crate::server) fn new(submission: Submission, story: pipeline::Story) -> Self {
        let pipeline::Story { submission: _, stage_name: _, events, attempts, verdicts, place } = story;
        Self {
            submission,
            events: events.into_iter().map(Event::from).collect(),
            attempts: attempts.into_iter().map(Attempt::from).collect(),
            verdicts: verdicts.into_iter().map(Verdict::from).collect(),
            place,
        }
    }
}

impl From<pipeline::AttemptLine> for Attempt {
    fn from(line: pipeline::AttemptLine) -> Self {
        let pipeline::AttemptLine { attempt, stage, started_ms, ended_ms, outcome, fault } = line;
        Self { attempt, stage, started_ms, ended_ms, outcome, fault }
    }
}

impl From<pipeline::VerdictLine> for Verdict {
    fn from(line: pipeline::VerdictLine) -> Self {
        let pipeline::VerdictLine { run, stage, outcome, fault, evidence, at_ms } = line;
        Self { run, stage, outcome, fault, evidence, at_ms }
    }
}

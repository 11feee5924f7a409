//! Faults: every failure that can touch a submission, classified once, with a stable code.
//!
//! Owns the five classes, the shape of a code and the recorded fault. Refuses to know any particular code:
//! each room declares its own beside the check that raises it and lists them in its `CODES`.
//! Every room may use it; it imports nothing of ours.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose trouble a failure is. The class decides retry, blame, exit code and wording, so a failure is classified
/// where it is found and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The miner's artifact or act breaks a published rule. Final for the submission; never retried.
    Miner,
    /// Our machine, disk, process or network failed. Retried; never held against the miner.
    Infra,
    /// An outside service we depend on (a chain endpoint, an LLM provider, a registry) failed. Retried.
    Provider,
    /// The appliance is configured or funded wrongly. Waits for the operator; never held against the miner.
    Operator,
    /// An invariant of this program does not hold. Reported loudly; never held against the miner.
    Bug,
}

impl Class {
    /// Whether the pipeline may try again by itself.
    #[must_use]
    pub const fn is_retried(self) -> bool {
        matches!(self, Self::Infra | Self::Provider | Self::Bug)
    }

    /// The word used in records, tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Infra => "infra",
            Self::Provider => "provider",
            Self::Operator => "operator",
            Self::Bug => "bug",
        }
    }

    /// The class of a recorded word; `None` for any other word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Miner, Self::Infra, Self::Provider, Self::Operator, Self::Bug]
            .into_iter()
            .find(|class| class.as_str() == word)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stable code: declared once, as a constant in the room that raises it, with a section of the same name in
/// `assets/handbook/errors/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Lower-case snake case, unique in the program, never renamed.
    pub name: &'static str,
    /// Whose trouble it is.
    pub class: Class,
    /// What happened, in one lower-case line without a final stop.
    pub says: &'static str,
    /// What to do next, in one lower-case line without a final stop.
    pub hint: &'static str,
}

impl Code {
    /// Declares a code. The four values are checked together by the test over all rooms' `CODES`.
    #[must_use]
    pub const fn new(class: Class, name: &'static str, says: &'static str, hint: &'static str) -> Self {
        Self { name, class, says, hint }
    }

    /// A fault with this code and what was seen this time.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Fault {
        Fault { class: self.class, code: self.name.to_owned(), detail: detail.into(), hint: self.hint.to_owned() }
    }
}

/// A classified failure as it is recorded in attempts, verdicts and refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Fault {
    /// Whose trouble it is.
    pub class: Class,
    /// The stable code.
    pub code: String,
    /// What was seen, with the measured value and the limit where there are any.
    pub detail: String,
    /// What to do next.
    #[serde(default)]
    pub hint: String,
}

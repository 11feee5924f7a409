//! Models: repositories of safetensors weights, checked before they are fetched.
//!
//! Owns what a well-formed model is: its reference, its files, the headers of its weights, their index and the
//! configuration. Refuses to know who sent it, what its weights are worth, and how a source is spoken to: that is
//! behind [`Repo`]. The stage `checks` and the miner verbs run the very same [`preflight`].

pub mod architecture;
pub mod cache;
mod check;
pub mod codes;
pub mod disk;
pub mod files;
pub mod index;
pub mod json;
mod local;
mod options;
pub mod reference;
mod repo;
pub mod safetensors;

use serde::Serialize;
use serde_json::{Value, json};

pub use cache::{ModelCache, Pinned, Reserved};
pub use check::{Passed, Refused, Rules, Step, WEIGHTS, Why, preflight};
pub use codes::CODES;
pub use disk::Disk;
pub use local::Folder;
pub use options::{Options, Place};
pub use reference::{Naming, Reference};
pub use repo::{Repo, Trouble};

use crate::fault::{Code, Fault};

/// Characters of what is said about a model: it repeats what miners wrote.
const DETAIL_CHARS_MAX: usize = 2048;
/// Bytes of what is told for programs.
const DETAILS_BYTES_MAX: usize = 64 * 1024;

/// Why a model is refused, with everything that a miner needs to see it for himself.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The stable code.
    pub code: Code,
    /// What was seen, in words.
    pub detail: String,
    /// What was seen, for programs.
    pub details: Value,
}

/// The public record of a rejection, `fault.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultRecord {
    /// Whose trouble it is.
    pub fault_class: &'static str,
    /// The stable code.
    pub fault_code: String,
    /// What was seen, in words.
    pub fault_message: String,
    /// What to do next.
    pub hint: String,
    /// What was seen, for programs.
    pub details: Value,
}

impl Rejection {
    /// A rejection with this code.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>, details: Value) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        let bytes = details.to_string().len();
        let details = if bytes > DETAILS_BYTES_MAX { json!({ "left_out_bytes": bytes }) } else { details };
        Self { code, detail, details }
    }

    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.code.because(self.detail.clone())
    }

    /// The public record.
    #[must_use]
    pub fn record(&self) -> FaultRecord {
        FaultRecord {
            fault_class: self.code.class.as_str(),
            fault_code: self.code.name.to_owned(),
            fault_message: self.detail.clone(),
            hint: self.code.hint.to_owned(),
            details: self.details.clone(),
        }
    }
}

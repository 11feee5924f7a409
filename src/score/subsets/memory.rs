//! What one ranking leaves to the next: who stands above whom in each subset, and which wins wait for a second one.
//!
//! Owns the recorded form, which is part of the evidence. Refuses to decide; only the rule reads and writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ids::{Digest, Hotkey},
    score::{Entry, Ranking},
};

/// Who won something: the hotkey together with the artifact, so that a changed artifact starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) hotkey: Hotkey,
    pub(super) artifact: Digest,
}

impl Key {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { hotkey: entry.hotkey, artifact: entry.artifact }
    }
}

/// One subset's standing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Standing {
    /// Those who took the subset by two wins, the latest last. The last one who still takes part holds it.
    pub(super) ladder: Vec<Key>,
    /// The holder of that run, then each who beat the one before in that run and waits for a second win.
    pub(super) chain: Vec<Key>,
}

/// The rule's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    /// The run in which the chains were seen.
    pub(super) run: u64,
    /// By the subset's name; a subset without ladder and without anybody waiting is left out.
    pub(super) subsets: BTreeMap<String, Standing>,
}

impl Memory {
    /// The memory of the ranking before. One that cannot be read (of another rule, of no rule) is as none: every win
    /// must then be won twice again.
    pub(super) fn of(previous: Option<&Ranking>) -> Self {
        previous.and_then(|ranking| serde_json::from_value(ranking.memory.clone()).ok()).unwrap_or_default()
    }

    pub(super) fn into_value(self) -> Value {
        serde_json::to_value(self).expect("names, addresses and digests are JSON")
    }
}

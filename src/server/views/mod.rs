//! Views: what the server shows, as plain data that the client and the verbs read back.
//!
//! Owns the shapes of the answers and the read-only queries behind them. Refuses to change anything, and to format
//! for people. The routes make them; the client reads the same types.

mod challenges;
mod models;
mod records;
mod runs;
mod status;
mod story;
mod submissions;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

pub use challenges::{Challenge, HowTo};
pub use models::{CorpusEntry, FaultFile};
pub use records::{Ranking, Refusal, Vector};
pub use runs::{Contestant, Job, Run, RunDetail};
pub use status::{ChallengeStatus, Count, Health, SlotStatus, Status, Subnet, WeightsRefused};
pub use story::Story;
pub use submissions::{Filter, Submission};

pub(super) use challenges::challenges;
pub(super) use models::{corpus, fault_file, is_in_corpus};
pub(super) use records::{events, is_evidence, ranking, refusals, vectors};
pub(super) use runs::{run, runs};
pub(super) use status::{Sources, status};
pub(super) use submissions::{field_of, look_up, submission, submissions};

pub use crate::{
    pipeline::{AttemptLine, VerdictLine},
    store::events::Event,
};

use crate::{fault::Fault, ids::SubmissionId, pipeline};

/// What became of an upload that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// The submission it belongs to.
    pub submission: SubmissionId,
    /// Whether this very artifact had been taken in before.
    pub again: bool,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What to pass as `after` for the next page; `None` at the end of the list.
    pub next: Option<i64>,
}

impl<T> Page<T> {
    /// Makes a page of rows that were read with one more than `limit`.
    fn new(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(key) } else { None };
        Self { items: rows, next }
    }
}

/// A page of a list that grows at its end: the rows after `after`, and how many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The last row of the page before; 0 for the first page. Of lists that begin with the newest row, the row that
    /// the page before ended with, and `i64::MAX` for the first page.
    pub after: i64,
    /// The most rows.
    pub limit: u32,
}

impl Window {
    /// One more than asked for, which tells whether there is a next page.
    const fn probe(self) -> u32 {
        self.limit.saturating_add(1)
    }
}

/// A stored text as the type it was written from.
fn parsed<T: std::str::FromStr>(what: &'static str, text: String) -> Result<T, pipeline::Error> {
    text.parse().map_err(|_source| pipeline::Error::Foreign { what, value: text })
}

/// A stored fault, where there is one.
fn fault(text: Option<String>) -> Result<Option<Fault>, pipeline::Error> {
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// All rows of a query.
fn rows<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&rusqlite::Row<'_>) -> Result<T, pipeline::Error>,
) -> Result<Vec<T>, pipeline::Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = Vec::new();
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_there_is_another() {
        let page = |rows: &[i64], limit| Page::new(rows.to_vec(), limit, |row| *row);
        assert_eq!(page(&[1, 2, 3], 2), Page { items: vec![1, 2], next: Some(2) });
        assert_eq!(page(&[1, 2], 2), Page { items: vec![1, 2], next: None });
        assert_eq!(page(&[], 2), Page { items: vec![], next: None });
    }
}

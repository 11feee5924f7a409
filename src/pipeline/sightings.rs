//! Sightings: what was seen on chain for the challenges, and who was first with it.
//!
//! Owns the table of sightings, whose first rows decide every place, and the gaps in what was read. Refuses to read a
//! chain, and to know why a field counts. The chain follower and re-scans write here, admission asks.
//!
//! Whatever the order in which blocks, states and old blocks are read: when all was read that can be read, the first
//! sightings are the same. A later sighting of the same field changes nothing; an earlier one, found in an old block,
//! moves the field's first place there, and with it a submission that no run has taken in.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::Serialize;
use serde_json::json;

use super::{
    Error, Pipeline,
    submissions::{self, Submission},
};
use crate::{
    ids::{Digest, Hotkey, Priority},
    store::events,
};

/// Something on chain that a challenge could read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sighted {
    /// The challenge's slug.
    pub challenge: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// The text, from which its bytes can be had again.
    pub field: String,
    /// Where it stood: `sealed`, `plain` or `revealed`.
    pub source: String,
    /// SHA-256 of the content; `None` while it is sealed.
    pub digest: Option<Digest>,
    /// The parts of the text by name.
    pub parts: BTreeMap<String, String>,
    /// The block and extrinsic; an index of `u32::MAX` says that state did not tell it.
    pub at: Priority,
    /// The block's hash, where it is known.
    pub hash: Option<Digest>,
}

/// What sightings came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SightedCount {
    /// Fields that nobody had seen before.
    pub new: u64,
    /// Fields that turned out to have been there earlier than was known.
    pub earlier: u64,
}

/// Blocks that were not read, both ends with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Gap {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

impl Pipeline {
    /// Records sightings, in one transaction. Those that are known change nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sighted(&self, seen: Vec<Sighted>) -> Result<SightedCount, Error> {
        let mut count = SightedCount::default();
        if seen.is_empty() {
            return Ok(count);
        }
        let pipeline = self.clone();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("sighted", move |tx| {
                for one in &seen {
                    let known = first_of(tx, &one.challenge, &one.hotkey, &one.field)?;
                    if !insert(tx, now_ms, one)? {
                        continue;
                    }
                    count.new += u64::from(known.is_none());
                    count.earlier += u64::from(known.is_some_and(|known| one.at < known));
                    pipeline.moved_earlier(tx, now_ms, one)?;
                }
                Ok(count)
            })
            .await
    }

    /// Moves the submission of a field to an earlier place. One that took part in a run stays where it was: what was
    /// decided about it and others stands.
    fn moved_earlier(&self, tx: &Transaction<'_>, now_ms: i64, seen: &Sighted) -> Result<(), Error> {
        let sql = format!(
            "SELECT {} FROM submissions WHERE challenge = ?1 AND hotkey = ?2 AND field = ?3
               AND status IN ('awaiting', 'queued', 'running', 'retry', 'held')
               AND NOT EXISTS (SELECT 1 FROM contestants WHERE submission = submissions.id)
               AND EXISTS (SELECT 1 FROM registrations WHERE hotkey = ?2 AND since_block <= ?4)",
            Submission::COLUMNS
        );
        let hotkey = seen.hotkey.to_string();
        let found = submissions::select(tx, &sql, params![seen.challenge, hotkey, seen.field, seen.at.block])?;
        for submission in found.iter().filter(|submission| seen.at < submission.committed) {
            let within = self.challenge(&seen.challenge)?.intake.reveal_within_blocks;
            let uploaded = submission.upload_block;
            let late = uploaded.filter(|block| *block > seen.at.block.saturating_add(within));
            let priority = late.map_or(seen.at, |block| Priority { block, index: u32::MAX });
            tx.prepare_cached(
                "UPDATE submissions SET commit_block = ?1, commit_index = ?2, priority_block = ?3, priority_index = ?4
                 WHERE id = ?5",
            )?
            .execute(params![
                seen.at.block,
                seen.at.index,
                priority.block,
                priority.index,
                submission.id.0
            ])?;
            let data = json!({ "from": submission.committed, "to": seen.at });
            events::append(tx, now_ms, "sighted_earlier", &submission.id.to_string(), &data)?;
        }
        Ok(())
    }

    /// Records that a stretch of blocks could not be read. What is known already is not said again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn gap(&self, netuid: u16, from_block: u64, to_block: u64) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("gap", move |tx| {
                let known = gaps_of(tx, netuid)?;
                let united = unite(&known, Gap { from: from_block, to: to_block });
                if united != known {
                    replace_gaps(tx, now_ms, netuid, &united)?;
                    let data = json!({ "from": from_block, "to": to_block });
                    events::append(tx, now_ms, "gap", &netuid.to_string(), &data)?;
                }
                Ok(())
            })
            .await
    }

    /// Records that a stretch of blocks was read after all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn gap_closed(&self, netuid: u16, from_block: u64, to_block: u64) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("gap closed", move |tx| {
                let known = gaps_of(tx, netuid)?;
                let left = subtract(&known, Gap { from: from_block, to: to_block });
                if left != known {
                    replace_gaps(tx, now_ms, netuid, &left)?;
                    let data = json!({ "from": from_block, "to": to_block });
                    events::append(tx, now_ms, "gap_closed", &netuid.to_string(), &data)?;
                }
                Ok(())
            })
            .await
    }

    /// The blocks that were not read, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn gaps(&self, netuid: u16) -> Result<Vec<Gap>, Error> {
        self.store().db().read(move |conn| gaps_of(conn, netuid)).await
    }

    /// Who was first with this content in a challenge: the earliest by block and extrinsic, and among those of one place
    /// the smallest account, as the chain itself orders them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn owner_of(&self, challenge: &str, digest: Digest) -> Result<Option<(Hotkey, Priority)>, Error> {
        let challenge = challenge.to_owned();
        self.store().db().read(move |conn| owner_in(conn, &challenge, &digest)).await
    }
}

/// Answers whether it was not known. Later ones are kept too: a hotkey that registers anew counts from there.
fn insert(tx: &Transaction<'_>, now_ms: i64, seen: &Sighted) -> Result<bool, Error> {
    let inserted = tx
        .prepare_cached(
            "INSERT INTO sightings (challenge, hotkey, field, source, digest, parts, block, idx, hash, seen_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (challenge, hotkey, field, block, idx) DO NOTHING",
        )?
        .execute(params![
            seen.challenge,
            seen.hotkey.to_string(),
            seen.field,
            seen.source,
            seen.digest.map(|digest| digest.to_string()),
            serde_json::to_string(&seen.parts)?,
            seen.at.block,
            seen.at.index,
            seen.hash.map(|hash| hash.to_string()),
            now_ms
        ])?;
    Ok(inserted == 1)
}

/// Where a hotkey's field was first seen.
pub fn first_of(conn: &Connection, challenge: &str, hotkey: &Hotkey, field: &str) -> Result<Option<Priority>, Error> {
    first_since(conn, challenge, hotkey, field, 0)
}

/// The same, in this block or later.
pub(super) fn first_since(
    conn: &Connection,
    challenge: &str,
    hotkey: &Hotkey,
    field: &str,
    since_block: u64,
) -> Result<Option<Priority>, Error> {
    Ok(conn
        .prepare_cached(
            "SELECT block, idx FROM sightings WHERE challenge = ?1 AND hotkey = ?2 AND field = ?3 AND block >= ?4
             ORDER BY block, idx LIMIT 1",
        )?
        .query_row(params![challenge, hotkey.to_string(), field, since_block], |row| {
            Ok(Priority { block: row.get(0)?, index: row.get(1)? })
        })
        .optional()?)
}

/// Who was first with a content.
///
/// # Errors
/// When the store fails.
pub fn owner_in(conn: &Connection, challenge: &str, digest: &Digest) -> Result<Option<(Hotkey, Priority)>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT hotkey, block, idx FROM sightings WHERE challenge = ?1 AND digest = ?2
           AND (block, idx) = (SELECT block, idx FROM sightings WHERE challenge = ?1 AND digest = ?2
                               ORDER BY block, idx LIMIT 1)",
    )?;
    let mut rows = statement.query(params![challenge, digest.to_string()])?;
    let mut owner: Option<(Hotkey, Priority)> = None;
    while let Some(row) = rows.next()? {
        let hotkey: Hotkey = submissions::parsed("hotkey", row.get(0)?)?;
        let at = Priority { block: row.get(1)?, index: row.get(2)? };
        if owner.as_ref().is_none_or(|(first, _)| hotkey < *first) {
            owner = Some((hotkey, at));
        }
    }
    Ok(owner)
}

/// What a submission's commitment says, by the names of the profile's pattern.
pub(super) fn parts_of(conn: &Connection, submission: &Submission) -> Result<BTreeMap<String, String>, Error> {
    let text: Option<String> = conn
        .prepare_cached("SELECT parts FROM sightings WHERE challenge = ?1 AND hotkey = ?2 AND field = ?3 LIMIT 1")?
        .query_row(params![submission.challenge, submission.hotkey.to_string(), submission.field], |row| row.get(0))
        .optional()?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
}

/// The stored gaps, in order.
///
/// # Errors
/// When the store fails.
pub fn gaps_of(conn: &Connection, netuid: u16) -> Result<Vec<Gap>, Error> {
    let mut statement =
        conn.prepare_cached("SELECT from_block, to_block FROM gaps WHERE netuid = ?1 ORDER BY from_block, to_block")?;
    let rows = statement.query_map([netuid], |row| Ok(Gap { from: row.get(0)?, to: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn replace_gaps(tx: &Transaction<'_>, now_ms: i64, netuid: u16, gaps: &[Gap]) -> Result<(), Error> {
    tx.execute("DELETE FROM gaps WHERE netuid = ?1", [netuid])?;
    for gap in gaps {
        tx.execute(
            "INSERT INTO gaps (netuid, from_block, to_block, at_ms) VALUES (?1, ?2, ?3, ?4)",
            params![netuid, gap.from, gap.to, now_ms],
        )?;
    }
    Ok(())
}

/// The gaps with one more, those that touch made one.
fn unite(gaps: &[Gap], more: Gap) -> Vec<Gap> {
    if more.from > more.to {
        return gaps.to_vec();
    }
    let mut all: Vec<Gap> = gaps.iter().copied().chain([more]).collect();
    all.sort_by_key(|gap| (gap.from, gap.to));
    let mut united: Vec<Gap> = Vec::new();
    for gap in all {
        match united.last_mut() {
            Some(last) if gap.from <= last.to.saturating_add(1) => last.to = last.to.max(gap.to),
            _ => united.push(gap),
        }
    }
    united
}

/// The gaps without a stretch that was read.
fn subtract(gaps: &[Gap], read: Gap) -> Vec<Gap> {
    let mut left = Vec::new();
    for gap in gaps {
        if read.from > gap.to || read.to < gap.from {
            left.push(*gap);
            continue;
        }
        if gap.from < read.from {
            left.push(Gap { from: gap.from, to: read.from - 1 });
        }
        if gap.to > read.to {
            left.push(Gap { from: read.to + 1, to: gap.to });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn blocks(gaps: &[Gap]) -> BTreeSet<u64> {
        gaps.iter().flat_map(|gap| gap.from..=gap.to).collect()
    }

    proptest! {
        #[test]
        fn gaps_are_sets_of_blocks(acts in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u64..12), 0..20)) {
            let (mut gaps, mut set) = (Vec::new(), BTreeSet::new());
            for (adds, from, length) in acts {
                let gap = Gap { from, to: from + length };
                if adds {
                    gaps = unite(&gaps, gap);
                    set.extend(gap.from..=gap.to);
                } else {
                    gaps = subtract(&gaps, gap);
                    set.retain(|block| !(gap.from..=gap.to).contains(block));
                }
                prop_assert_eq!(blocks(&gaps), set.clone());
                prop_assert!(gaps.windows(2).all(|pair| pair[0].to < pair[1].from));
            }
        }
    }
}

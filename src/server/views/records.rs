//! What was decided and recorded: rankings, weight vectors, refusals and events.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Page, Window, parsed, rows};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, RunId},
    pipeline::Error,
    score,
    store::events::{self as log, Event},
};

/// One ranking of a challenge. What the rule saw stands in its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The challenge's slug.
    pub challenge: String,
    /// Counted within the challenge from 1.
    pub version: i64,
    /// The run it came from; `None` after a decision or a report.
    pub run: Option<RunId>,
    /// The block of the snapshot it was made at.
    pub block: u64,
    /// What the rule said.
    pub ranking: score::Ranking,
    /// The digest of the bundle that proves it, once it is stored.
    pub evidence: Option<Digest>,
    /// When it was made.
    pub at_ms: UnixMs,
}

/// A ranking of a challenge: the newest, or this version.
pub(in crate::server) fn ranking(
    conn: &Connection,
    challenge: &str,
    version: Option<i64>,
) -> Result<Option<Ranking>, Error> {
    let found = rows(
        conn,
        "SELECT challenge, version, run, block, ranking, evidence, at_ms FROM rankings
         WHERE challenge = ?1 AND (?2 IS NULL OR version = ?2) ORDER BY version DESC LIMIT 1",
        params![challenge, version],
        |row| {
            Ok(Ranking {
                challenge: row.get(0)?,
                version: row.get(1)?,
                run: row.get::<_, Option<i64>>(2)?.map(RunId),
                block: row.get(3)?,
                ranking: serde_json::from_str(&row.get::<_, String>(4)?)?,
                evidence: row.get::<_, Option<String>>(5)?.map(|text| parsed("evidence", text)).transpose()?,
                at_ms: row.get(6)?,
            })
        },
    )?;
    Ok(found.into_iter().next())
}

/// One weight vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    /// Its row.
    pub id: i64,
    /// The subnet.
    pub netuid: u16,
    /// The block of the snapshot it was made at.
    pub block: u64,
    /// The uids.
    pub uids: Vec<u16>,
    /// The weight of each uid, as the chain stores it.
    pub weights: Vec<u16>,
    /// The versions of the rankings it was made from.
    pub rankings: Value,
    /// The digest of its evidence bundle.
    pub evidence: Digest,
    /// `decided`, `committed`, `confirmed`, `dropped`, `failed` or `superseded`.
    pub state: String,
    /// What the chain said, where it matters.
    pub detail: Option<String>,
    /// The block at which it was read back.
    pub confirmed_block: Option<u64>,
    /// When it was decided.
    pub at_ms: UnixMs,
}

/// A page of weight vectors, newest first.
pub(in crate::server) fn vectors(conn: &Connection, window: Window) -> Result<Page<Vector>, Error> {
    let found = rows(
        conn,
        "SELECT id, netuid, block, uids, weights, rankings, evidence, state, detail, confirmed_block, at_ms
         FROM vectors WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
        params![window.after, window.probe()],
        |row| {
            Ok(Vector {
                id: row.get(0)?,
                netuid: row.get(1)?,
                block: row.get(2)?,
                uids: serde_json::from_str(&row.get::<_, String>(3)?)?,
                weights: serde_json::from_str(&row.get::<_, String>(4)?)?,
                rankings: serde_json::from_str(&row.get::<_, String>(5)?)?,
                evidence: parsed("evidence", row.get(6)?)?,
                state: row.get(7)?,
                detail: row.get(8)?,
                confirmed_block: row.get(9)?,
                at_ms: row.get(10)?,
            })
        },
    )?;
    Ok(Page::new(found, window.limit, |vector| vector.id))
}

/// Whether this digest is that of an evidence bundle. Miners' artifacts lie in the same object store and are not for
/// everybody.
pub(in crate::server) fn is_evidence(conn: &Connection, digest: &Digest) -> Result<bool, Error> {
    let found: Option<i64> = conn
        .prepare_cached("SELECT 1 FROM vectors WHERE evidence = ?1 LIMIT 1")?
        .query_row([digest.to_string()], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Something that a door or the chain follower turned away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its row.
    pub id: i64,
    /// When.
    pub at_ms: UnixMs,
    /// The challenge it was for; empty when it named none.
    pub challenge: String,
    /// Who was turned away.
    pub hotkey: String,
    /// Why.
    pub fault: Fault,
}

/// A page of refusals, oldest first.
pub(in crate::server) fn refusals(conn: &Connection, window: Window) -> Result<Page<Refusal>, Error> {
    let found = rows(
        conn,
        "SELECT id, at_ms, challenge, hotkey, fault FROM refusals WHERE id > ?1 ORDER BY id LIMIT ?2",
        params![window.after, window.probe()],
        |row| {
            Ok(Refusal {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                challenge: row.get(2)?,
                hotkey: row.get(3)?,
                fault: serde_json::from_str(&row.get::<_, String>(4)?)?,
            })
        },
    )?;
    Ok(Page::new(found, window.limit, |refusal| refusal.id))
}

/// A page of events, oldest first.
pub(in crate::server) fn events(conn: &Connection, window: Window) -> Result<Page<Event>, Error> {
    let found = log::page(conn, window.after, window.probe())?;
    Ok(Page::new(found, window.limit, |event: &Event| event.seq))
}

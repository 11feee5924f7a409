//! Members: who is registered in the subnet, as far as the making of runs must know it.
//!
//! Owns the copy of the newest metagraph's registrations. Refuses to decide about pay: the ranker is shown a snapshot of
//! its own. The follower writes here before it takes a block in; a run reads it when it is frozen.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};
use serde_json::json;

use super::{Error, Pipeline, Snapshot, submissions::Submission};
use crate::store::events;

/// Where a registered hotkey stands. The uid is `None` in rows from before it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    since_block: u64,
    uid: Option<u16>,
}

impl Pipeline {
    /// Records who is registered, and who took whose place since the last time. Nothing is written when nothing changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn members(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let members: BTreeMap<String, Member> = snapshot
            .registered
            .iter()
            .map(|(hotkey, one)| (hotkey.to_string(), Member { since_block: one.since_block, uid: Some(one.uid) }))
            .collect();
        if self.store().db().read(known).await? == members {
            return Ok(());
        }
        let (block, now_ms) = (snapshot.block, self.clock().now_ms());
        self.store()
            .db()
            .write("record members", move |tx| {
                record_swaps(tx, now_ms, block, &known(tx)?, &members)?;
                tx.execute("DELETE FROM registrations", [])?;
                for (hotkey, member) in &members {
                    tx.prepare_cached("INSERT INTO registrations (hotkey, since_block, uid) VALUES (?1, ?2, ?3)")?
                        .execute(params![hotkey, member.since_block, member.uid])?;
                }
                Ok(())
            })
            .await
    }
}

/// A uid that has another hotkey and still the same block of registration was handed over by a swap. A registration
/// always has a block of its own, so that whoever was replaced by one is not taken for it.
fn record_swaps(
    tx: &Transaction<'_>,
    now_ms: i64,
    block: u64,
    before: &BTreeMap<String, Member>,
    after: &BTreeMap<String, Member>,
) -> Result<(), Error> {
    let places: BTreeMap<u16, (&String, u64)> =
        before.iter().filter_map(|(hotkey, one)| Some((one.uid?, (hotkey, one.since_block)))).collect();
    for (new, member) in after {
        let Some((uid, (old, since_block))) = member.uid.and_then(|uid| Some((uid, *places.get(&uid)?))) else {
            continue;
        };
        if old == new || since_block != member.since_block {
            continue;
        }
        let is_new = tx
            .prepare_cached(
                "INSERT INTO swaps (old, new, uid, since_block, block, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (new, old) DO NOTHING",
            )?
            .execute(params![old, new, uid, since_block, block, now_ms])?;
        if is_new == 1 {
            let data = json!({ "old": old, "uid": uid, "since_block": since_block, "block": block });
            events::append(tx, now_ms, "hotkey_swapped", new, &data)?;
        }
    }
    Ok(())
}

fn known(conn: &Connection) -> Result<BTreeMap<String, Member>, Error> {
    let mut statement = conn.prepare_cached("SELECT hotkey, since_block, uid FROM registrations")?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, Member { since_block: row.get(1)?, uid: row.get(2)? })))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Leaves out the submissions whose registration has ended. It never comes back: whoever registers again does so in a
/// later block than the commitment, which does not count then. Before any metagraph was read nobody is left out.
pub(super) fn keep_registered(conn: &Connection, submissions: &mut Vec<Submission>) -> Result<(), Error> {
    let members = known(conn)?;
    if !members.is_empty() {
        submissions.retain(|submission| {
            members
                .get(&submission.hotkey.to_string())
                .is_some_and(|member| member.since_block <= submission.committed.block)
        });
    }
    Ok(())
}

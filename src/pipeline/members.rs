//! Members: who is registered in the subnet, as far as the making of runs must know it.
//!
//! Owns the copy of the newest metagraph's registrations. Refuses to decide about pay: the ranker is shown a snapshot of
//! its own. The follower writes here before it takes a block in; a run reads it when it is frozen.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{Error, Pipeline, Snapshot, submissions::Submission};

impl Pipeline {
    /// Records who is registered. Nothing is written when nothing changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn members(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let members: BTreeMap<String, u64> =
            snapshot.registered.iter().map(|(hotkey, one)| (hotkey.to_string(), one.since_block)).collect();
        let known = self.store().db().read(known).await?;
        if known == members {
            return Ok(());
        }
        self.store()
            .db()
            .write("record members", move |tx| {
                tx.execute("DELETE FROM registrations", [])?;
                for (hotkey, since_block) in &members {
                    tx.prepare_cached("INSERT INTO registrations (hotkey, since_block) VALUES (?1, ?2)")?
                        .execute(params![hotkey, since_block])?;
                }
                Ok(())
            })
            .await
    }
}

fn known(conn: &Connection) -> Result<BTreeMap<String, u64>, Error> {
    let mut statement = conn.prepare_cached("SELECT hotkey, since_block FROM registrations")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Leaves out the submissions whose registration has ended. It never comes back: whoever registers again does so in a
/// later block than the commitment, which does not count then. Before any metagraph was read nobody is left out.
pub(super) fn keep_registered(conn: &Connection, submissions: &mut Vec<Submission>) -> Result<(), Error> {
    let members = known(conn)?;
    if !members.is_empty() {
        submissions.retain(|submission| {
            members.get(&submission.hotkey.to_string()).is_some_and(|since| *since <= submission.committed.block)
        });
    }
    Ok(())
}

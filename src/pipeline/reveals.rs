//! Vectors that are hidden at first: committed, then revealed or lost.
//!
//! Owns what is recorded between a vector's commit and its end, and the letters that reveal it. Refuses to speak to the
//! chain, as its neighbour `vectors` does. The weight setter, an actor, tells it what the chain holds.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Error, Pipeline, StoredVector, outbox,
    vectors::{note_refusal, stored_vectors},
};
use crate::{fault::Fault, store::events};

/// The kind of letter that reveals weights which were committed by hash.
pub const LETTER: &str = "weights_reveal";

impl Pipeline {
    /// Records that a hidden vector's commit stands in a finalized block, and ends its letter: now it waits for its
    /// reveal.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn vector_committed(&self, letter: i64, vector: i64, block: u64, epoch: u64) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("commit vector", move |tx| {
                tx.execute(
                    "UPDATE vectors SET state = 'committed', commit_block = ?1, commit_epoch = ?2 WHERE id = ?3",
                    params![block, epoch, vector],
                )?;
                Self::end_letter(tx, now_ms, letter, true, "committed")?;
                let data = json!({ "vector": vector, "block": block, "epoch": epoch });
                events::append(tx, now_ms, "weights_committed", &format!("vector {vector}"), &data)?;
                Ok(())
            })
            .await
    }

    /// The vector that is committed and not at its end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn committed_vector(&self) -> Result<Option<StoredVector>, Error> {
        self.store()
            .db()
            .read(|conn| Ok(stored_vectors(conn, "state = 'committed' AND ?1 IS NULL ORDER BY id", None, 1)?.pop()))
            .await
    }

    /// The vector that is under way: decided or committed, and not at its end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_vector(&self) -> Result<Option<StoredVector>, Error> {
        let open = "state IN ('decided', 'committed') AND ?1 IS NULL ORDER BY id";
        self.store().db().read(move |conn| Ok(stored_vectors(conn, open, None, 1)?.pop())).await
    }

    /// Posts the signed extrinsic that reveals a committed vector.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn post_reveal(&self, vector: i64, signed: Vec<u8>, key: String) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("post reveal", move |tx| {
                outbox::post(tx, now_ms, LETTER, &key, &signed, Some(vector))?;
                let data = json!({ "vector": vector, "extrinsic": key });
                events::append(tx, now_ms, "weights_reveal_signed", &format!("vector {vector}"), &data)?;
                Ok(())
            })
            .await
    }

    /// How many extrinsics were signed to reveal this vector.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reveals_of(&self, vector: i64) -> Result<u32, Error> {
        self.store()
            .db()
            .read(move |conn| {
                Ok(conn
                    .prepare_cached("SELECT count(*) FROM outbox WHERE subject = ?1 AND kind = ?2")?
                    .query_row(params![vector, LETTER], |row| row.get(0))?)
            })
            .await
    }

    /// Ends a reveal's letter without effect; its vector stays committed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reveal_failed(&self, letter: i64, vector: i64, fault: &Fault) -> Result<(), Error> {
        let (now_ms, fault) = (self.clock().now_ms(), fault.clone());
        self.store()
            .db()
            .write("fail reveal", move |tx| {
                Self::end_letter(tx, now_ms, letter, false, &fault.to_string())?;
                let data = json!({ "vector": vector, "fault": fault });
                events::append(tx, now_ms, "weights_reveal_failed", &format!("vector {vector}"), &data)?;
                Ok(())
            })
            .await
    }

    /// Ends a hidden vector that was committed and did not come to stand. It is told like a refusal until the next one
    /// is decided, and by [`dropped_weights`] until a later one of its mechanism stands.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn vector_dropped(&self, letter: Option<i64>, vector: &StoredVector, fault: &Fault) -> Result<(), Error> {
        let (now_ms, fault) = (self.clock().now_ms(), fault.clone());
        let (vector, netuid) = (vector.id, vector.netuid);
        self.store()
            .db()
            .write("drop vector", move |tx| {
                tx.execute(
                    "UPDATE vectors SET state = 'dropped', detail = ?1 WHERE id = ?2",
                    params![fault.to_string(), vector],
                )?;
                if let Some(letter) = letter {
                    Self::end_letter(tx, now_ms, letter, false, &fault.to_string())?;
                }
                let data = json!({ "vector": vector, "fault": fault });
                events::append(tx, now_ms, "weights_dropped", &format!("vector {vector}"), &data)?;
                note_refusal(tx, now_ms, netuid, &fault)
            })
            .await
    }
}

/// Hidden weights that came to nothing, with none of their mechanism confirmed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedWeights {
    /// The mechanism.
    pub mechanism: u8,
    /// The last vector that was dropped.
    pub vector: i64,
    /// The block of its decision.
    pub block: u64,
    /// Why, as far as it is known.
    pub detail: String,
    /// How many were dropped since the last that was confirmed.
    pub times: u64,
}

/// What was dropped and not made good since, by mechanism. It needs no book of its own: the vectors say it.
///
/// # Errors
/// When the store fails.
pub fn dropped_weights(conn: &Connection) -> Result<Vec<DroppedWeights>, Error> {
    // The columns beside max(id) are those of its row.
    let mut statement = conn.prepare_cached(
        "SELECT json_extract(sending, '$.mechanism') AS mechanism, max(id), block, coalesce(detail, ''), count(*)
         FROM vectors AS dropped
         WHERE state = 'dropped' AND id > coalesce(
             (SELECT max(id) FROM vectors WHERE state = 'confirmed' AND netuid = dropped.netuid
               AND json_extract(sending, '$.mechanism') = json_extract(dropped.sending, '$.mechanism')), 0)
         GROUP BY netuid, mechanism ORDER BY netuid, mechanism",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(DroppedWeights {
            mechanism: row.get(0)?,
            vector: row.get(1)?,
            block: row.get(2)?,
            detail: row.get(3)?,
            times: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

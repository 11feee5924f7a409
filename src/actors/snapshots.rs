//! What a data directory remembers of the chain: which one it follows, and what was last known of the subnet.
//!
//! Owns both tables. Refuses to trust what it remembers: facts that come from here say so until the chain says the
//! same. The appliance asks at its start, the follower writes.

use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Facts, follower::snapshot_of};
use crate::{
    chain::{BlockRef, Metagraph, WeightRules},
    ids::Digest,
    pipeline::{Error, Pipeline},
};

/// Which chain and which subnet a data directory follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// Hash of the chain's first block.
    pub genesis: Digest,
    /// The subnet.
    pub netuid: u16,
}

/// The facts as they are stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    finalized: BlockRef,
    head: u64,
    metagraph: Metagraph,
    rules: WeightRules,
}

/// The chain and the subnet that this data directory has followed, if it has.
///
/// # Errors
/// When the store fails.
pub async fn pinned(pipeline: &Pipeline) -> Result<Option<Pinned>, Error> {
    let row = pipeline
        .store()
        .db()
        .read(|conn| {
            let row = conn
                .prepare_cached("SELECT genesis, netuid FROM chain_identity")?
                .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))
                .optional()?;
            Ok::<_, Error>(row)
        })
        .await?;
    row.map(|(genesis, netuid)| Ok(Pinned { genesis: digest(genesis)?, netuid })).transpose()
}

/// Pins the data directory to this chain and subnet, unless it is pinned already.
///
/// # Errors
/// When the store fails.
pub async fn pin(pipeline: &Pipeline, wanted: Pinned) -> Result<(), Error> {
    let now_ms = pipeline.clock().now_ms();
    pipeline.store().db().write("pin", move |tx| {
        tx.prepare_cached(
            "INSERT INTO chain_identity (one, genesis, netuid, pinned_ms) VALUES (1, ?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![wanted.genesis.to_string(), wanted.netuid, now_ms])?;
        Ok::<_, Error>(())
    }).await
}

/// What was last known of the subnet on this chain; on any chain, where none is named. Facts of a form that this
/// version does not know are none.
///
/// # Errors
/// When the store fails.
pub async fn restore(pipeline: &Pipeline, netuid: u16, genesis: Option<Digest>) -> Result<Option<Facts>, Error> {
    let row: Option<(String, String, i64)> = pipeline
        .store()
        .db()
        .read(move |conn| {
            let row = conn
                .prepare_cached("SELECT genesis, facts, saved_ms FROM chain_snapshots WHERE netuid = ?1")?
                .query_row([netuid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            Ok::<_, Error>(row)
        })
        .await?;
    let Some((of, facts, saved_ms)) = row else { return Ok(None) };
    let of = digest(of)?;
    if genesis.is_some_and(|genesis| genesis != of) {
        return Ok(None);
    }
    let stored: Stored = match serde_json::from_str(&facts) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::info!(%error, "what was last known of the chain is of another version; it is read anew");
            return Ok(None);
        }
    };
    Ok(Some(Facts {
        netuid,
        genesis: of.0,
        finalized: stored.finalized,
        head: stored.head,
        catching_up: true,
        stored_at_ms: Some(saved_ms),
        snapshot: snapshot_of(&stored.metagraph),
        metagraph: stored.metagraph,
        rules: stored.rules,
    }))
}

/// Remembers these facts in place of what was last known.
///
/// # Errors
/// When the store fails.
pub async fn save(pipeline: &Pipeline, facts: &Facts) -> Result<(), Error> {
    let stored = Stored {
        finalized: facts.finalized,
        head: facts.head,
        metagraph: facts.metagraph.clone(),
        rules: facts.rules.clone(),
    };
    let text = serde_json::to_string(&stored)?;
    let (netuid, genesis, now_ms) = (facts.netuid, Digest(facts.genesis).to_string(), pipeline.clock().now_ms());
    pipeline
        .store()
        .db()
        .write("snapshot", move |tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO chain_snapshots (netuid, genesis, facts, saved_ms) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![netuid, genesis, text, now_ms])?;
            Ok::<_, Error>(())
        })
        .await
}

/// Forgets what was last known: the chain says otherwise.
///
/// # Errors
/// When the store fails.
pub async fn forget(pipeline: &Pipeline, netuid: u16) -> Result<(), Error> {
    pipeline
        .store()
        .db()
        .write("snapshot", move |tx| {
            tx.prepare_cached("DELETE FROM chain_snapshots WHERE netuid = ?1")?.execute([netuid])?;
            Ok::<_, Error>(())
        })
        .await
}

fn digest(text: String) -> Result<Digest, Error> {
    text.parse().map_err(|_not_a_digest| Error::Foreign { what: "genesis hash", value: text })
}

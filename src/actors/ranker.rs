//! The ranker: ranks what is folded, against the newest snapshot of the chain, and keeps the proof of every ranking.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Facts, reconcile, side_of, weigher::vector_of};
use crate::{
    pipeline::{self, Pipeline},
    store,
    weights::bundle,
};

/// How often it looks without being nudged.
const PERIOD: Duration = Duration::from_secs(1);

/// What ranking can fail at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The pipeline.
    #[error("the pipeline failed")]
    Pipeline(#[from] pipeline::Error),
    /// The store.
    #[error("the evidence could not be stored")]
    Store(#[from] store::Error),
    /// The evidence is more than a bundle holds.
    #[error("the evidence cannot be written")]
    Evidence(#[from] bundle::Error),
}

/// Ranks until the token is cancelled. Without a snapshot nothing is ranked: nobody would be eligible.
pub async fn rank(pipeline: Pipeline, facts: watch::Receiver<Option<Facts>>, burn_uid: u16, token: CancellationToken) {
    reconcile("ranker", &pipeline, PERIOD, &token, || look(&pipeline, &facts, burn_uid)).await;
}

/// Proves what was ranked, or ranks one challenge. In this order, so that every ranking is proven before the next one
/// takes its place, whenever the process ends.
pub(super) async fn look(
    pipeline: &Pipeline,
    facts: &watch::Receiver<Option<Facts>>,
    burn_uid: u16,
) -> Result<bool, Error> {
    let Some(facts) = facts.borrow().clone() else { return Ok(false) };
    // What was stored may be old news, or of a chain that is gone: nothing is decided on it.
    if facts.stored_at_ms.is_some() {
        return Ok(false);
    }
    if pipeline.has_unproven_ranking().await? {
        prove(pipeline, &facts, burn_uid).await?;
        return Ok(true);
    }
    let Some(challenge) = pipeline.rank_next(&facts.snapshot).await? else { return Ok(false) };
    info!(challenge, block = facts.snapshot.block, "ranked");
    pipeline.nudge();
    Ok(true)
}

/// Stores the bundle of the present rankings, with the weights that they would give at the snapshot. What is set on
/// chain has a bundle of its own, of the block at which it is signed.
async fn prove(pipeline: &Pipeline, facts: &Facts, burn_uid: u16) -> Result<(), Error> {
    let side = side_of(facts.genesis, &facts.metagraph, &facts.rules, burn_uid);
    let Some((mut bundle, rankings)) = pipeline.evidence(side).await? else { return Ok(()) };
    // The chain's limits may allow none; the ranking is proven all the same.
    bundle.vector = vector_of(&bundle).ok();
    let evidence = pipeline.store().blobs().put(bundle.sealed().to_bytes()?).await?;
    Ok(pipeline.rankings_proven(rankings, evidence).await?)
}

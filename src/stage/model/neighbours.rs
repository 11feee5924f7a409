//! Neighbours: which of many peers are worth a comparison in full, where not all of them fit into memory.
//!
//! Owns one short vector for every model it has met, made from the kept fingerprints when it is first needed and never
//! stored. Refuses to judge. The stage `duplicates` calls it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Prints, codes::FINGERPRINT_FAILED};
use crate::{
    dedup::model::{Fingerprint, Likeness},
    fault::Fault,
    ids::Digest,
    stage::Peer,
};

/// Bytes of the fingerprints that one comparison holds in memory.
const PRINTS_BYTES: usize = 1024 * 1024 * 1024;
/// The fewest peers that are looked at in full, however large their fingerprints are.
const PEERS_MIN: usize = 8;

/// What is known of the peers' likeness to one base.
#[derive(Default)]
pub struct Neighbours {
    kept: Mutex<BTreeMap<Digest, Arc<Likeness>>>,
}

impl Neighbours {
    /// How many fingerprints of this size are held at once.
    #[must_use]
    pub fn room(own: &Fingerprint) -> usize {
        (PRINTS_BYTES / own.held_bytes().max(1)).max(PEERS_MIN)
    }

    /// The peers nearest to a model in what they add to the base, at most so many; and how many have no fingerprint.
    ///
    /// # Errors
    /// When fingerprints cannot be read.
    pub async fn nearest(
        &self,
        prints: &Prints,
        peers: &[Peer],
        own: &Arc<Fingerprint>,
        base: &Arc<Fingerprint>,
        most: usize,
    ) -> Result<(Vec<Peer>, usize), Fault> {
        let own = likeness(Arc::clone(own), Arc::clone(base)).await?;
        let (mut scored, mut unknown) = (Vec::new(), 0);
        for peer in peers {
            match self.of(prints, peer.artifact, base).await? {
                None => unknown += 1,
                Some(likeness) => scored.push((own.to(&likeness), peer)),
            }
        }
        scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let mut nearest: Vec<Peer> = scored.into_iter().take(most).map(|(_, peer)| peer.clone()).collect();
        nearest.sort_by_key(|peer| (peer.priority, peer.hotkey, peer.submission));
        Ok((nearest, unknown))
    }

    async fn of(
        &self,
        prints: &Prints,
        artifact: Digest,
        base: &Arc<Fingerprint>,
    ) -> Result<Option<Arc<Likeness>>, Fault> {
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&artifact).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(print) = prints.get(artifact).await? else { return Ok(None) };
        let made = Arc::new(likeness(Arc::new(print), Arc::clone(base)).await?);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(artifact, Arc::clone(&made));
        Ok(Some(made))
    }
}

async fn likeness(print: Arc<Fingerprint>, base: Arc<Fingerprint>) -> Result<Likeness, Fault> {
    let made = tokio::task::spawn_blocking(move || Likeness::of(&print, &base)).await;
    made.map_err(|source| FINGERPRINT_FAILED.because(format!("the look at a peer ended early: {source}")))
}

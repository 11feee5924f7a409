//! Reading commitments into the pipeline: block by block, from a state, and again from old blocks.
//!
//! Owns the way from what the chain says to what was sighted and what is admitted. Refuses to know which block is next:
//! the follower and the re-scan do.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use serde::Serialize;
use tracing::{info, warn};

use super::follower::{Error, registrations};
use crate::{
    chain::{self, BlockNews, BlockRef, Client, Metagraph, RevealedCommitment, SeenCommitment},
    fault::Fault,
    ids::{Digest, Hotkey},
    intake::{Fact, Forms, read_commitments},
    pipeline::{Gap, Pipeline, Seen, Sighted, SightedCount},
};

/// Blocks of a re-scan that are read together.
const BLOCKS_TOGETHER: usize = 8;
/// Blocks of a re-scan after which what was read is written down: an interruption costs no more.
const BLOCKS_PER_STEP: u64 = 128;

/// What a re-scan did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rescanned {
    /// The first block.
    pub from: u64,
    /// The last block.
    pub to: u64,
    /// How many of them were read.
    pub blocks_read: u64,
    /// Commitments in them, whoever they are for.
    pub commitments: u64,
    /// Commitments that the chain opened in them.
    pub reveals: u64,
    /// What of it was new, and what was known from later only.
    pub sighted: SightedCount,
    /// Submissions that came of what still stands.
    pub submissions: u64,
    /// Hotkeys that are done with because of their history.
    pub history: u64,
    /// Blocks that still nobody can read here.
    pub gaps: Vec<Gap>,
    /// Why an archive could not be asked for them, where one is set.
    pub archive: Option<Fault>,
}

/// Carries what is committed in one subnet into the pipeline.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) netuid: u16,
    pub(super) pipeline: Pipeline,
}

impl Reader {
    fn forms(&self) -> Forms {
        let challenges = self.pipeline.challenges().values();
        challenges.map(|challenge| (challenge.slug.clone(), challenge.intake.form.clone())).collect()
    }

    /// What was committed in one block: what is seen is recorded, what does not count is refused, and what counts is
    /// returned to be admitted with the block.
    pub(super) async fn admit(
        &self,
        block: &BlockRef,
        news: &BlockNews,
        metagraph: &Metagraph,
    ) -> Result<Vec<Seen>, Error> {
        let hashes = BTreeMap::from([(block.number, block.hash)]);
        self.take_in(&news.commitments, &news.reveals, metagraph, &hashes).await
    }

    async fn take_in(
        &self,
        made: &[SeenCommitment],
        reveals: &[RevealedCommitment],
        metagraph: &Metagraph,
        hashes: &BTreeMap<u64, Digest>,
    ) -> Result<Vec<Seen>, Error> {
        let reading = read_commitments(made, reveals, &self.forms(), &registrations(metagraph));
        // Before the submissions, whose places they decide.
        self.pipeline.sighted(reading.facts.into_iter().map(|fact| sighted(fact, hashes)).collect()).await?;
        for refusal in &reading.refusals {
            self.pipeline.refused(&refusal.challenge, &refusal.hotkey.to_string(), &refusal.fault).await?;
        }
        Ok(reading
            .sightings
            .into_iter()
            .map(|one| Seen {
                challenge: one.challenge,
                hotkey: one.hotkey,
                coldkey: one.coldkey,
                field: one.field,
                digest: one.digest,
                at: one.at,
            })
            .collect())
    }

    /// Takes what was committed up to a block from the state after `block`. Within one block state has no order: all of
    /// it stands behind whatever has an index, so that what was made in blocks that can be read is left to these.
    /// Returns how many submissions came of it.
    pub(super) async fn take_state(&self, block: u64, made_by: u64) -> Result<u64, Error> {
        let Some(hash) = self.client.block_hash(block).await? else { return Ok(0) };
        let metagraph = match self.client.metagraph(self.netuid, hash).await {
            Ok(metagraph) => metagraph,
            // The subnet is younger: nobody can have committed in it.
            Err(chain::Error::SubnetMissing { .. }) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let (made, reveals) = self.standing(hash, made_by).await?;
        let hashes = self.hashes_of(&made, &reveals).await?;
        let seen = self.take_in(&made, &reveals, &metagraph, &hashes).await?;
        Ok(self.pipeline.commitments_found(seen, block).await?.len() as u64)
    }

    /// What a state holds that was made up to a block.
    async fn standing(
        &self,
        hash: Digest,
        made_by: u64,
    ) -> Result<(Vec<SeenCommitment>, Vec<RevealedCommitment>), Error> {
        let stored = self.client.commitments(self.netuid, hash).await?;
        let mut reveals = self.client.revealed(self.netuid, hash).await?;
        reveals.retain(|one| one.block <= made_by);
        let made = stored.into_iter().filter(|one| one.block <= made_by).map(|one| SeenCommitment {
            hotkey: one.hotkey,
            block: one.block,
            extrinsic_index: u32::MAX,
            fields: one.fields,
        });
        Ok((made.collect(), reveals))
    }

    /// The hashes of the blocks of what some challenge reads.
    async fn hashes_of(
        &self,
        made: &[SeenCommitment],
        reveals: &[RevealedCommitment],
    ) -> Result<BTreeMap<u64, Digest>, Error> {
        let facts = read_commitments(made, reveals, &self.forms(), &BTreeMap::new()).facts;
        let blocks: BTreeSet<u64> = facts.iter().map(|fact| fact.at.block).collect();
        let mut hashes = BTreeMap::new();
        for block in blocks {
            if let Some(hash) = self.client.block_hash(block).await? {
                hashes.insert(block, hash);
            }
        }
        Ok(hashes)
    }

    /// Reads what happened in one old block. The state may be gone.
    async fn old_block(&self, number: u64) -> Result<(BlockRef, BlockNews), chain::Error> {
        let hash = self.client.block_hash(number).await?;
        let hash = hash.ok_or_else(|| chain::Error::UnknownBlock { block: number.to_string() })?;
        let block = self.client.block(hash).await?;
        Ok((block, self.client.block_news(self.netuid, &block).await?))
    }

    /// The first block from `missing` on whose state can be read; `None` when there is none up to `to`. Whoever has
    /// discarded a state has discarded those before it.
    async fn first_readable(&self, missing: u64, to: u64) -> Result<Option<u64>, chain::Error> {
        if self.is_pruned(to).await? {
            return Ok(None);
        }
        let (mut missing, mut present) = (missing, to);
        while present - missing > 1 {
            let middle = missing + (present - missing) / 2;
            if self.is_pruned(middle).await? { missing = middle } else { present = middle }
        }
        Ok(Some(present))
    }

    async fn is_pruned(&self, number: u64) -> Result<bool, chain::Error> {
        match self.old_block(number).await {
            Ok(_) => Ok(false),
            Err(error) if error.is_state_gone() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads old blocks again, and what still stands now. What cannot be read is a gap. `told` hears how far it is.
    pub(super) async fn rescan(&self, from: u64, to: u64, told: &(dyn Fn(u64) + Sync)) -> Result<Rescanned, Error> {
        let mut done = Rescanned { from, to, ..Rescanned::default() };
        let mut next = from;
        while next <= to {
            let last = next.saturating_add(BLOCKS_PER_STEP - 1).min(to);
            let read_to = self.rescan_step(next, last, &mut done).await?;
            if read_to >= next {
                self.pipeline.gap_closed(self.netuid, next, read_to).await?;
            }
            next = read_to.saturating_add(1);
            if read_to < last {
                let readable = self.first_readable(next, to).await?;
                let end = readable.map_or(to, |first| first - 1);
                warn!(from = next, to = end, "the state of these blocks is gone; an archive endpoint would have it");
                self.pipeline.gap(self.netuid, next, end).await?;
                next = end.saturating_add(1);
            }
            told(next.min(to));
        }
        done.history = self.history().await?;
        let head = self.client.finalized_head().await?;
        done.submissions = self.take_state(head.number, to).await?;
        done.gaps = self.pipeline.gaps(self.netuid).await?;
        done.gaps.retain(|gap| gap.to >= from && gap.from <= to);
        Ok(done)
    }

    /// Reads blocks in order until one cannot be read; returns the last that was, or the one before `from`.
    async fn rescan_step(&self, from: u64, to: u64, done: &mut Rescanned) -> Result<u64, Error> {
        let mut found = Vec::new();
        let mut read_to = from.saturating_sub(1);
        let mut reads = Vec::new();
        for number in from..=to {
            // Boxed by name: the compiler cannot see that a closure's own futures may cross threads.
            let read: futures::future::BoxFuture<'_, _> = Box::pin(self.old_block(number));
            reads.push(read);
        }
        let mut reading = stream::iter(reads).buffered(BLOCKS_TOGETHER);
        while let Some(read) = reading.next().await {
            match read {
                Ok(block) => {
                    read_to = block.0.number;
                    found.push(block);
                }
                Err(error) if error.is_state_gone() => {
                    if matches!(error, chain::Error::Archive { .. }) {
                        done.archive = Some(error.fault());
                    }
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        drop(reading);
        let forms = self.forms();
        let mut facts = Vec::new();
        for (block, news) in &found {
            done.blocks_read += 1;
            done.commitments += news.commitments.len() as u64;
            done.reveals += news.reveals.len() as u64;
            let hashes = BTreeMap::from([(block.number, block.hash)]);
            let reading = read_commitments(&news.commitments, &news.reveals, &forms, &BTreeMap::new());
            facts.extend(reading.facts.into_iter().map(|fact| sighted(fact, &hashes)));
        }
        let count = self.pipeline.sighted(facts).await?;
        done.sighted.new += count.new;
        done.sighted.earlier += count.earlier;
        Ok(read_to)
    }

    /// Lists the hotkeys whose history uses them up, once for each challenge that wants it. Returns how many were new.
    pub(super) async fn history(&self) -> Result<u64, Error> {
        let mut listed = 0;
        for (challenge, up_to) in self.pipeline.unseeded().await? {
            let head = self.client.finalized_head().await?;
            if head.number < up_to {
                continue;
            }
            // The state of that very block tells everybody: entries stay, and only a later commitment hides an earlier.
            let (state, is_whole) = match self.is_pruned(up_to).await? {
                false => (up_to, true),
                true => (self.first_readable(up_to, head.number).await?.unwrap_or(head.number), false),
            };
            let Some(hash) = self.client.block_hash(state).await? else { continue };
            let (made, reveals) = self.standing(hash, up_to).await?;
            let mut first: BTreeMap<Hotkey, u64> = BTreeMap::new();
            let all = made.iter().map(|one| (one.hotkey, one.block));
            for (hotkey, block) in all.chain(reveals.iter().map(|one| (one.hotkey, one.block))) {
                let known = first.entry(hotkey).or_insert(block);
                *known = block.min(*known);
            }
            let count = first.len();
            listed += self.pipeline.seeded(&challenge, up_to, state, first.into_iter().collect(), is_whole).await?;
            if is_whole {
                info!(%challenge, up_to, count, "the hotkeys of this challenge's history are known");
            } else {
                warn!(%challenge, up_to, state, count, "the state of that block is gone: who committed again since is missing; `waag commitments --rescan` with an archive endpoint finds them");
            }
        }
        Ok(listed)
    }
}

/// Reads old blocks again, up to the last one that was taken in.
///
/// # Errors
/// When the chain or the store fails; what was read until then is kept.
pub async fn rescan(
    client: &Client,
    netuid: u16,
    pipeline: &Pipeline,
    from: u64,
    to: u64,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Rescanned, Error> {
    Reader { client: client.clone(), netuid, pipeline: pipeline.clone() }.rescan(from, to, told).await
}

fn sighted(fact: Fact, hashes: &BTreeMap<u64, Digest>) -> Sighted {
    Sighted {
        hash: hashes.get(&fact.at.block).copied(),
        challenge: fact.challenge,
        hotkey: fact.hotkey,
        field: fact.field,
        source: fact.source.as_str().to_owned(),
        digest: fact.digest,
        parts: fact.parts,
        at: fact.at,
    }
}

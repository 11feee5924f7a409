//! The chain follower: carries every finalized block into the pipeline, once and in order.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{reading::Reader, reconcile::chain_of};
use crate::{
    chain::{self, BlockRef, Client, Followed, Metagraph, WeightRules},
    ids::{Digest, Hotkey},
    intake::{ChainFacts, Registration},
    pipeline::{self, Pipeline, Registered, Snapshot},
    stage::RunSeed,
};

/// On the first start, how far back the chain is read block by block; older commitments are taken from state. Every
/// node keeps the state of this many blocks.
const LOOK_BACK_BLOCKS: u64 = 200;
/// The metagraph is read again at least this often, in milliseconds of our clock, besides at every block in which
/// somebody was registered or committed.
const SNAPSHOT_EVERY_MS: i64 = 1_000;
/// Blocks behind the finalized head from which on we are catching up: more than a slow moment, less than an epoch.
const CATCHING_UP_BLOCKS: u64 = 8;
/// First wait after a block could not be taken in.
const RETRY_MS: u64 = 200;
/// Longest such wait.
const RETRY_MS_MAX: u64 = 15_000;

/// What everybody may know of the chain, as of the newest finalized block that was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The subnet.
    pub netuid: u16,
    /// The chain.
    pub genesis: [u8; 32],
    /// The newest finalized block.
    pub finalized: BlockRef,
    /// The newest block, finalized or not; while catching up, the newest finalized one that we know of.
    pub head: u64,
    /// Whether `finalized` is a block of the past: the present ones are still to be taken in.
    pub catching_up: bool,
    /// Who is registered.
    pub snapshot: Snapshot,
    /// The whole metagraph of the snapshot.
    pub metagraph: Metagraph,
    /// The subnet's rules for weights at the snapshot.
    pub rules: WeightRules,
}

/// Why a block could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Chain(#[from] chain::Error),
    /// The pipeline could not take it.
    #[error("the pipeline could not take the block")]
    Pipeline(#[from] pipeline::Error),
}

impl Error {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> crate::fault::Fault {
        match self {
            Self::Chain(source) => source.fault(),
            Self::Pipeline(source) => source.fault(),
        }
    }
}

/// The follower actor.
pub struct Follower {
    client: Client,
    netuid: u16,
    pipeline: Pipeline,
    facts: watch::Sender<Option<Facts>>,
    read_at_ms: i64,
    /// Whether it was said that the subnet is not there, so that it is said once.
    missed: bool,
}

impl Facts {
    /// The part that doors and pages need. `block_ms` is how long a block takes on this chain.
    #[must_use]
    pub fn for_doors(&self, block_ms: u64, seen_ms: i64) -> ChainFacts {
        ChainFacts {
            netuid: self.netuid,
            genesis: Digest(self.genesis),
            head: self.head,
            catching_up: self.catching_up,
            finalized: self.finalized.number,
            finalized_hash: self.finalized.hash,
            tempo: u64::from(self.rules.tempo_blocks),
            next_epoch_block: self.rules.next_epoch_block(),
            block_ms,
            seen_ms,
            registered: registrations(&self.metagraph),
        }
    }
}

impl Follower {
    /// A follower of this subnet, whose facts appear in the channel.
    #[must_use]
    pub const fn new(client: Client, netuid: u16, pipeline: Pipeline, facts: watch::Sender<Option<Facts>>) -> Self {
        Self { client, netuid, pipeline, facts, read_at_ms: i64::MIN, missed: false }
    }

    /// Follows until the token is cancelled. A chain that goes away is waited for, at the beginning as later.
    pub async fn run(mut self, token: CancellationToken) {
        let mut follower = tokio::select! {
            () = token.cancelled() => return,
            begun = self.begin_at_last() => begun,
        };
        loop {
            let followed = tokio::select! {
                () = token.cancelled() => return,
                followed = follower.next() => followed,
            };
            let head = follower.head().unwrap_or_default();
            tokio::select! {
                () = token.cancelled() => return,
                () = self.take(followed, head) => {}
            }
        }
    }

    async fn begin_at_last(&self) -> chain::Follower {
        let mut wait_ms = RETRY_MS;
        loop {
            match self.begin().await {
                Ok(follower) => return follower,
                Err(error) => warn!(error = %chain_of(&error), wait_ms, "the place to begin cannot be found"),
            }
            self.pipeline.clock().sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
        }
    }

    /// Where to begin: after the last block taken in, or far enough back on a first start.
    async fn begin(&self) -> Result<chain::Follower, Error> {
        if let Some((number, hash)) = self.pipeline.read_to(self.netuid).await? {
            let last = BlockRef { number, hash, parent: hash };
            info!(block = number, "following the chain from where it was left");
            return Ok(self.client.follow_finalized(Some(number + 1)).after(&last));
        }
        let head = self.client.finalized_head().await?;
        let from = head.number.saturating_sub(LOOK_BACK_BLOCKS).max(1);
        if from > 1 {
            self.reader().take_state(from - 1, from - 1).await?;
        }
        info!(block = from, "following the chain for the first time");
        Ok(self.client.follow_finalized(Some(from)))
    }

    fn reader(&self) -> Reader {
        Reader { client: self.client.clone(), netuid: self.netuid, pipeline: self.pipeline.clone() }
    }

    /// Takes one thing in, however often it must be tried: a block that is skipped would be lost for ever.
    async fn take(&mut self, followed: Followed, head: u64) {
        match followed {
            Followed::Block(block) => {
                let mut wait_ms = RETRY_MS;
                while let Err(error) = self.take_block(&block, head).await {
                    warn!(block = block.number, error = %chain_of(&error), wait_ms, "a block could not be taken in");
                    self.pipeline.clock().sleep(Duration::from_millis(wait_ms)).await;
                    wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
                }
            }
            Followed::Gap { from, to } => {
                warn!(from, to, "these blocks can no longer be read; commitments made in them keep their block only");
                self.take_gap(from, to).await;
            }
            Followed::Stalled { head } => warn!(?head, "the chain's finalized head does not move"),
            Followed::Diverged { number, expected, found } => {
                error!(number, %expected, %found, "the node's chain is not the one that was followed");
            }
        }
    }

    /// Records the gap and takes what still stands of it, however often that must be tried.
    async fn take_gap(&self, from: u64, to: u64) {
        let mut is_recorded = false;
        let mut wait_ms = RETRY_MS;
        loop {
            let taken = async {
                if !is_recorded {
                    self.pipeline.gap(self.netuid, from, to).await?;
                    is_recorded = true;
                }
                let head = self.client.finalized_head().await?;
                self.reader().take_state(head.number, to).await
            };
            match taken.await {
                Ok(_submissions) => return,
                Err(error) => warn!(from, to, error = %chain_of(&error), wait_ms, "the gap could not be taken in"),
            }
            self.pipeline.clock().sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
        }
    }

    async fn take_block(&mut self, block: &BlockRef, head: u64) -> Result<(), Error> {
        let news = self.client.block_news(self.netuid, block).await?;
        let now_ms = self.pipeline.clock().now_ms();
        let fresh =
            news.registrations || news.is_telling() || now_ms.saturating_sub(self.read_at_ms) >= SNAPSHOT_EVERY_MS;
        let known = self.facts.borrow().as_ref().map(|facts| (facts.metagraph.clone(), facts.rules.clone()));
        let (metagraph, rules) = match known {
            Some(known) if !fresh => known,
            _ => {
                self.read_at_ms = now_ms;
                match self.subnet_at(block).await? {
                    Some(read) => read,
                    None => return self.take_block_without_subnet(block, head).await,
                }
            }
        };
        self.missed = false;
        // Before the block closes a run: whoever has left takes no part. And before commitments, whose places count from
        // the registration on.
        self.pipeline.members(&snapshot_of(&metagraph)).await?;
        let seen = self.reader().admit(block, &news, &metagraph).await?;
        let catching_up = block.number.saturating_add(CATCHING_UP_BLOCKS) < head;
        // Whoever uploads now may have seen blocks that are not final yet.
        let newest = if catching_up { head } else { self.client.best_head().await?.number };
        self.pipeline.advance(self.netuid, block.number, block.hash, seen, catching_up).await?;
        self.seed_runs(block).await?;
        self.facts.send_replace(Some(Facts {
            netuid: self.netuid,
            genesis: self.client.genesis_hash(),
            finalized: *block,
            head: newest.max(head).max(block.number),
            catching_up,
            snapshot: snapshot_of(&metagraph),
            metagraph,
            rules,
        }));
        self.pipeline.nudge();
        Ok(())
    }

    /// Who is in the subnet and its rules after this block; `None` when the chain has no such subnet there.
    async fn subnet_at(&self, block: &BlockRef) -> Result<Option<(Metagraph, WeightRules)>, Error> {
        let read = async {
            let metagraph = self.client.metagraph(self.netuid, block.hash).await?;
            Ok((metagraph, self.client.weight_rules(self.netuid, block.hash).await?))
        };
        match read.await {
            Ok(read) => Ok(Some(read)),
            Err(chain::Error::SubnetMissing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A block before the subnet was made, or after it was dissolved, has nothing for us. It is passed like any other:
    /// who waits for the subnet to appear in it waits for ever.
    async fn take_block_without_subnet(&mut self, block: &BlockRef, head: u64) -> Result<(), Error> {
        // Of the past it is no news: a first start looks back to before a young subnet.
        if block.number >= head && !std::mem::replace(&mut self.missed, true) {
            warn!(netuid = self.netuid, block = block.number, "the chain has no such subnet; waiting for it");
        }
        let catching_up = block.number.saturating_add(CATCHING_UP_BLOCKS) < head;
        self.pipeline.advance(self.netuid, block.number, block.hash, Vec::new(), catching_up).await?;
        self.seed_runs(block).await?;
        // Whoever asks is told that nothing is known, rather than what was.
        self.facts.send_replace(None);
        Ok(())
    }

    async fn seed_runs(&self, block: &BlockRef) -> Result<(), Error> {
        for (run, number) in self.pipeline.awaited_seeds(block.number).await? {
            if let Some(hash) = self.client.block_hash(number).await? {
                self.pipeline.seed_run(run, RunSeed { block: number, hash }).await?;
            }
        }
        Ok(())
    }
}

pub(super) fn registrations(metagraph: &Metagraph) -> BTreeMap<Hotkey, Registration> {
    metagraph
        .neurons
        .iter()
        .map(|neuron| {
            let registration =
                Registration { uid: neuron.uid, since_block: neuron.registered_at, coldkey: neuron.coldkey };
            (neuron.hotkey, registration)
        })
        .collect()
}

pub(super) fn snapshot_of(metagraph: &Metagraph) -> Snapshot {
    let registered: BTreeMap<Hotkey, Registered> = metagraph
        .neurons
        .iter()
        .map(|neuron| {
            let registered = Registered { uid: neuron.uid, since_block: neuron.registered_at, coldkey: neuron.coldkey };
            (neuron.hotkey, registered)
        })
        .collect();
    Snapshot { block: metagraph.block, hash: metagraph.hash, registered }
}

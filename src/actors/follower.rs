//! The chain follower: carries every finalized block into the pipeline, once and in order.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{reading::Reader, reconcile::chain_of, snapshots};
use crate::{
    chain::{self, BlockRef, Client, Followed, Metagraph, Touched, WeightRules},
    fault::Fault,
    ids::{Digest, Hotkey},
    intake::{ChainFacts, ChainTrouble, Registration},
    pipeline::{self, Pipeline, Registered, Snapshot},
    stage::RunSeed,
};

/// On the first start, how far back the chain is read block by block; older commitments are taken from state. Every
/// node keeps the state of this many blocks.
const LOOK_BACK_BLOCKS: u64 = 200;
/// The subnet is looked at again at least this often, in milliseconds of our clock, besides at every block whose events
/// touch it. A look reads what may have changed.
const SNAPSHOT_EVERY_MS: i64 = 1_000;
/// The whole metagraph is read again after this many blocks, whatever the events say: an hour of the real chain.
const WHOLE_EVERY_BLOCKS: u64 = 300;
/// What is known is stored at most this often, in milliseconds of our clock, and at the end.
const STORE_EVERY_MS: i64 = 30_000;
/// How often a block's state must be found discarded before the block counts as lost: a node that is asked twice may
/// be two nodes.
const DISCARDED_TRIES: u32 = 3;
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
    /// When these facts were stored, if they come from the data directory and the chain has not confirmed them yet.
    /// Pages may show them; nothing is decided or signed on them.
    pub stored_at_ms: Option<i64>,
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
    trouble: Option<watch::Sender<Option<ChainTrouble>>>,
    read_at_ms: i64,
    /// The last block at which the whole metagraph was read.
    whole_at: u64,
    stored_at_ms: i64,
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
            catching_up: self.catching_up || self.stored_at_ms.is_some(),
            stored: self.stored_at_ms.is_some(),
            finalized: self.finalized.number,
            finalized_hash: self.finalized.hash,
            tempo: u64::from(self.rules.tempo_blocks),
            next_epoch_block: self.rules.next_epoch_block(),
            block_ms,
            seen_ms: self.stored_at_ms.unwrap_or(seen_ms),
            registered: registrations(&self.metagraph),
        }
    }
}

impl Follower {
    /// A follower of this subnet, whose facts appear in the channel.
    #[must_use]
    pub const fn new(client: Client, netuid: u16, pipeline: Pipeline, facts: watch::Sender<Option<Facts>>) -> Self {
        Self {
            client,
            netuid,
            pipeline,
            facts,
            trouble: None,
            read_at_ms: i64::MIN,
            whole_at: 0,
            stored_at_ms: i64::MIN,
            missed: false,
        }
    }

    /// The same, which tells here what stands between it and the chain.
    #[must_use]
    pub fn telling(mut self, trouble: watch::Sender<Option<ChainTrouble>>) -> Self {
        self.trouble = Some(trouble);
        self
    }

    /// Follows until the token is cancelled. A chain that goes away is waited for, at the beginning as later.
    pub async fn run(mut self, token: CancellationToken) {
        tokio::select! {
            () = token.cancelled() => {}
            () = self.follow() => {}
        }
        // A start after a regular end shows what was known at the end.
        self.store().await;
    }

    async fn follow(&mut self) {
        self.confirm().await;
        let mut follower = self.begin_at_last().await;
        loop {
            let followed = follower.next().await;
            let head = follower.head().unwrap_or_default();
            self.take(followed, head).await;
        }
    }

    /// Compares the facts that were stored with the chain, at their own block.
    async fn confirm(&self) {
        let Some(stored) = self.facts.borrow().clone().filter(|facts| facts.stored_at_ms.is_some()) else { return };
        let block = stored.finalized.number;
        match self.is_confirmed(&stored).await {
            // True, and past: blocks were taken in since it was stored. It is shown until the next one, and nothing is
            // decided on it.
            Ok(true) if !self.is_last(block).await => {
                info!(block, "what was stored of the subnet was so; blocks have been taken in since");
            }
            Ok(true) => {
                info!(block, "what was stored of the subnet is what the chain says");
                self.facts.send_modify(|facts| {
                    if let Some(facts) = facts {
                        facts.stored_at_ms = None;
                    }
                });
            }
            Ok(false) => {
                error!(block, "what was stored of the subnet is not what the chain says; it is thrown away");
                self.facts.send_replace(None);
                if let Err(error) = snapshots::forget(&self.pipeline, self.netuid).await {
                    warn!(error = %chain_of(&error), "it could not be thrown away");
                }
            }
            // Nothing is lost: the first block that is taken in brings present facts.
            Err(error) => info!(block, error = %chain_of(&error), "what was stored of the subnet cannot be confirmed"),
        }
    }

    /// Whether this is the last block that was taken in.
    async fn is_last(&self, block: u64) -> bool {
        matches!(self.pipeline.read_to(self.netuid).await, Ok(Some((last, _))) if last == block)
    }

    async fn is_confirmed(&self, stored: &Facts) -> Result<bool, Error> {
        let hash = stored.metagraph.hash;
        if stored.genesis != self.client.genesis_hash()
            || self.client.block_hash(stored.metagraph.block).await? != Some(hash)
            || self.client.block_hash(stored.finalized.number).await? != Some(stored.finalized.hash)
        {
            return Ok(false);
        }
        let metagraph = self.client.metagraph(self.netuid, hash).await?;
        Ok(metagraph == stored.metagraph)
    }

    /// Stores what is known.
    async fn store(&mut self) {
        let known = self.facts.borrow().clone();
        let Some(facts) = known.filter(|facts| facts.stored_at_ms.is_none()) else { return };
        self.stored_at_ms = self.pipeline.clock().now_ms();
        if let Err(error) = snapshots::save(&self.pipeline, &facts).await {
            warn!(error = %chain_of(&error), "what is known of the subnet could not be stored");
        }
    }

    /// Tells what stands between us and the chain; nothing, for none.
    fn tell(&self, fault: Option<Fault>) {
        let Some(trouble) = &self.trouble else { return };
        let now_ms = self.pipeline.clock().now_ms();
        trouble.send_if_modified(|known| {
            let is_known = known.as_ref().map(|known| &known.fault) == fault.as_ref();
            if !is_known {
                *known = fault.map(|fault| ChainTrouble { fault, since_ms: now_ms });
            }
            !is_known
        });
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
        let trouble = followed.fault();
        match followed {
            Followed::Block(block) => return self.take_for_good(&block, head).await,
            Followed::Gap { from, to } => {
                warn!(from, to, "these blocks can no longer be read; commitments made in them keep their block only");
                self.take_gap(from, to).await;
            }
            Followed::Stalled { head } => warn!(?head, "the chain's finalized head does not move"),
            Followed::Diverged { number, expected, found } => {
                error!(number, %expected, %found, "the node's chain is not the one that was followed");
            }
            Followed::Failing { fault } => warn!(%fault, "the chain cannot be read"),
        }
        if trouble.is_some() {
            self.tell(trouble);
        }
    }

    async fn take_for_good(&mut self, block: &BlockRef, head: u64) {
        let mut wait_ms = RETRY_MS;
        let mut discarded = 0;
        while let Err(error) = self.take_block(block, head).await {
            warn!(block = block.number, error = %chain_of(&error), wait_ms, "a block could not be taken in");
            if let Error::Chain(error) = &error {
                self.tell(Some(error.fault()));
            }
            if matches!(&error, Error::Chain(error) if error.is_state_gone()) {
                discarded += 1;
                if discarded == DISCARDED_TRIES {
                    return self.take_gap(block.number, block.number).await;
                }
            }
            self.pipeline.clock().sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
        }
        // Nothing stands in the way any more, but perhaps of what is missing from before.
        self.tell(self.client.archive_trouble());
        let now_ms = self.pipeline.clock().now_ms();
        if now_ms.saturating_sub(self.stored_at_ms) >= STORE_EVERY_MS {
            self.store().await;
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
        let is_due = news.is_telling() || now_ms.saturating_sub(self.read_at_ms) >= SNAPSHOT_EVERY_MS;
        let known = self.facts.borrow().clone().filter(|facts| facts.stored_at_ms.is_none());
        let known = known.map(|facts| (facts.metagraph, facts.rules));
        let (metagraph, rules) = match known {
            Some(known) if !is_due && news.touched.is_empty() => known,
            known => {
                let Some(read) = self.subnet_at(block, known, &news.touched).await? else {
                    return self.take_block_without_subnet(block, head).await;
                };
                self.read_at_ms = now_ms;
                read
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
            stored_at_ms: None,
            snapshot: snapshot_of(&metagraph),
            metagraph,
            rules,
        }));
        self.pipeline.nudge();
        Ok(())
    }

    /// Who is in the subnet and its rules after this block; `None` when the chain has no such subnet there.
    async fn subnet_at(
        &mut self,
        block: &BlockRef,
        known: Option<(Metagraph, WeightRules)>,
        touched: &Touched,
    ) -> Result<Option<(Metagraph, WeightRules)>, Error> {
        let is_old = block.number.saturating_sub(self.whole_at) >= WHOLE_EVERY_BLOCKS;
        let read = async {
            let rules = self.client.weight_rules(self.netuid, block.hash).await?;
            // An epoch changes everybody.
            let before = known.filter(|(_, before)| !is_old && before.last_epoch_block == rules.last_epoch_block);
            let is_whole = before.is_none();
            let metagraph = match before {
                Some((before, _)) => self.client.metagraph_since(&before, touched, block).await?,
                None => self.client.metagraph(self.netuid, block.hash).await?,
            };
            Ok((metagraph, rules, is_whole))
        };
        match read.await {
            Ok((metagraph, rules, is_whole)) => {
                if is_whole {
                    self.whole_at = block.number;
                }
                Ok(Some((metagraph, rules)))
            }
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

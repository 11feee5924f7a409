//! Following the chain: every finalized block once, in order, whatever happens to the connection.
//!
//! Owns the position and the recovery. Refuses to read what is in the blocks. One follower per process feeds the
//! pipeline.

use std::{collections::VecDeque, time::Duration};

use subxt_rpcs::client::{RpcSubscription, rpc_params};
use tracing::{info, warn};

use super::{
    client::{Batch, BlockRef, Client},
    codes,
    error::Error,
    runtime::{Header, Item},
};
use crate::{fault::Fault, ids::Digest};

/// A head that does not move this long means trouble: five blocks of the real chain.
const STALLED_MS: u64 = 60_000;
/// How often the head is read besides the subscription, which may die without a word.
const POLL_MS: u64 = 12_000;
/// Blocks behind the head whose state every node keeps: below this no search for pruned state is needed.
const STATE_BLOCKS: u64 = 200;
/// Headers that are read together while catching up.
const HEADERS_TOGETHER: u64 = 16;
/// Failures in a row after which they are told: a single one is over before anybody could look.
const FAILURES_TOLD: u32 = 3;
/// First wait after a failure, doubled up to [`BACKOFF_MS_MAX`].
const BACKOFF_MS: u64 = 200;
/// Longest wait after a failure.
const BACKOFF_MS_MAX: u64 = 15_000;

/// What the follower has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The next finalized block.
    Block(BlockRef),
    /// The state of these blocks is gone on the node: what happened in them cannot be read without an archive.
    Gap {
        /// The first block that cannot be read.
        from: u64,
        /// The last block that cannot be read.
        to: u64,
    },
    /// The finalized head has not moved for a while. Said once for each such while.
    Stalled {
        /// The number at which it stands, if one was ever read.
        head: Option<u64>,
    },
    /// The chain cannot be read. Said once for each reason until it can be read again.
    Failing {
        /// Why.
        fault: Fault,
    },
    /// The node's chain does not continue what was followed: another chain with the same genesis, or a node that lost
    /// its state. Repeated until it does.
    Diverged {
        /// The block that does not fit.
        number: u64,
        /// The parent that it should have.
        expected: Digest,
        /// The parent that it has.
        found: Digest,
    },
}

impl Followed {
    /// What stands between us and the chain, where this says that something does.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Block(_) | Self::Gap { .. } => None,
            Self::Failing { fault } => Some(fault.clone()),
            Self::Stalled { head: Some(head) } => Some(codes::STALLED.because(format!("the head stands at {head}"))),
            Self::Stalled { head: None } => Some(codes::STALLED.because("no head was ever read")),
            Self::Diverged { number, expected, found } => {
                Some(codes::DIVERGED.because(format!("block {number} has the parent {found}, not {expected}")))
            }
        }
    }
}

/// A position on the finalized chain. [`Follower::next`] moves it.
pub struct Follower {
    client: Client,
    next: Option<u64>,
    head: Option<u64>,
    last: Option<Digest>,
    subscription: Option<RpcSubscription<Header>>,
    backoff_ms: u64,
    failures: u32,
    told: Option<String>,
    still_since_ms: i64,
    stall_reported: bool,
    probed: bool,
    ready: VecDeque<Followed>,
}

impl Client {
    /// Follows the finalized chain from this block on, or from the present head.
    #[must_use]
    pub fn follow_finalized(&self, from: Option<u64>) -> Follower {
        Follower {
            client: self.clone(),
            next: from,
            head: None,
            last: None,
            subscription: None,
            backoff_ms: BACKOFF_MS,
            failures: 0,
            told: None,
            still_since_ms: self.clock().now_ms(),
            stall_reported: false,
            probed: false,
            ready: VecDeque::new(),
        }
    }
}

impl Follower {
    /// Says which block was followed last, before a restart, so that the first block is checked against it.
    #[must_use]
    pub const fn after(mut self, last: &BlockRef) -> Self {
        self.next = Some(last.number + 1);
        self.last = Some(last.hash);
        self
    }

    /// The newest finalized block known, for showing how far behind the follower is.
    #[must_use]
    pub const fn head(&self) -> Option<u64> {
        self.head
    }

    /// The next thing that happened. Waits as long as it takes; the wait may be dropped and begun again.
    pub async fn next(&mut self) -> Followed {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            let step = match (self.next, self.head) {
                (Some(next), Some(head)) if next <= head => self.step(next, head).await,
                _ => self.wait().await,
            };
            match step {
                Ok(()) => {
                    self.backoff_ms = BACKOFF_MS;
                    self.failures = 0;
                    self.told = None;
                }
                Err(error) => {
                    warn!(%error, backoff_ms = self.backoff_ms, "cannot follow the chain; trying again");
                    self.subscription = None;
                    self.tell(&error);
                    self.pause().await;
                    self.check_stall().await;
                }
            }
        }
    }

    fn tell(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        let fault = error.fault();
        if self.failures >= FAILURES_TOLD && self.told.as_ref() != Some(&fault.code) {
            self.told = Some(fault.code.clone());
            self.ready.push_back(Followed::Failing { fault });
        }
    }

    async fn pause(&mut self) {
        self.client.clock().sleep(Duration::from_millis(self.backoff_ms)).await;
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS_MAX);
    }

    /// Reads the next blocks, which are known to be finalized.
    async fn step(&mut self, next: u64, head: u64) -> Result<(), Error> {
        if !self.probed && head.saturating_sub(next) > STATE_BLOCKS {
            return self.probe(next, head).await;
        }
        // Several at a time while catching up: on a line of 50 ms one by one would be ten blocks a second.
        let last = head.min(next.saturating_add(HEADERS_TOGETHER - 1));
        let blocks = futures::future::try_join_all((next..=last).map(|number| self.client.block_at(number))).await?;
        for block in blocks {
            if let Some(expected) = self.last.filter(|last| *last != block.parent) {
                let (number, found) = (block.number, block.parent);
                self.ready.push_back(Followed::Diverged { number, expected, found });
                self.pause().await;
                break;
            }
            self.last = Some(block.hash);
            self.next = Some(block.number + 1);
            self.ready.push_back(Followed::Block(block));
        }
        Ok(())
    }

    /// Finds the first block from `next` on whose state the node still has, and reports those before it.
    async fn probe(&mut self, next: u64, head: u64) -> Result<(), Error> {
        let (mut missing, mut present) = (None, head);
        if self.has_state(next).await? {
            present = next;
        } else {
            missing = Some(next);
        }
        // Invariant: the state of `missing` is gone, that of `present` is there.
        while let Some(low) = missing.filter(|low| present - low > 1) {
            let middle = low + (present - low) / 2;
            if self.has_state(middle).await? {
                present = middle;
            } else {
                missing = Some(middle);
            }
        }
        if present > next {
            warn!(from = next, to = present - 1, "the node has discarded the state of blocks that were not yet read");
            self.ready.push_back(Followed::Gap { from: next, to: present - 1 });
            self.next = Some(present);
            self.last = None;
        }
        self.probed = true;
        Ok(())
    }

    async fn has_state(&mut self, number: u64) -> Result<bool, Error> {
        let hash = self.client.block_hash(number).await?;
        let hash = hash.ok_or_else(|| Error::UnknownBlock { block: number.to_string() })?;
        match self.read_number(hash).await {
            Ok(()) => Ok(true),
            // Also when an archive that might have it does not answer: nobody waits for that.
            Err(error) if error.is_state_gone() => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn read_number(&mut self, hash: Digest) -> Result<(), Error> {
        let mut batch = Batch::new(&self.client, hash).await?;
        let place = batch.add(Item { pallet: "System", name: "Number" }, ())?;
        let _number: u64 = batch.read(&self.client).await?.need(place)?;
        Ok(())
    }

    /// Waits for the head to move: by the subscription, and by asking now and then.
    async fn wait(&mut self) -> Result<(), Error> {
        let clock = std::sync::Arc::clone(self.client.clock());
        match &mut self.subscription {
            None => {
                let (method, end) = ("chain_subscribeFinalizedHeads", "chain_unsubscribeFinalizedHeads");
                let subscription = self.client.rpc().subscribe(method, rpc_params![], end).await;
                self.subscription = Some(subscription.map_err(|source| Error::from_rpc(method, source))?);
                let head = self.client.finalized_head().await?;
                info!(block = head.number, "following the finalized chain");
                self.moved(head.number);
            }
            Some(subscription) => {
                let news = tokio::select! {
                    news = subscription.next() => Some(news),
                    () = clock.sleep(Duration::from_millis(POLL_MS)) => None,
                };
                match news {
                    Some(Some(Ok(header))) => self.moved(header.number),
                    // An error, so that a node that ends every subscription at once is asked again with a pause.
                    Some(_ended) => return Err(Error::answer("the finalized heads", "the subscription ended")),
                    None => {
                        let head = self.client.finalized_head().await?;
                        self.moved(head.number);
                    }
                }
            }
        }
        self.check_stall().await;
        Ok(())
    }

    fn moved(&mut self, number: u64) {
        if self.head.is_none_or(|head| number > head) {
            self.head = Some(number);
            self.still_since_ms = self.client.clock().now_ms();
            self.stall_reported = false;
        }
        self.next.get_or_insert(number);
    }

    /// A head that stands still may be the endpoint's trouble alone: another one may have a newer head.
    async fn check_stall(&mut self) {
        let still_ms = self.client.clock().now_ms().saturating_sub(self.still_since_ms);
        if u64::try_from(still_ms).unwrap_or_default() < STALLED_MS {
            return;
        }
        if let Some(head) = self.client.find_newer(self.head).await {
            self.subscription = None;
            self.moved(head);
        } else if !self.stall_reported {
            self.stall_reported = true;
            self.ready.push_back(Followed::Stalled { head: self.head });
        }
    }
}

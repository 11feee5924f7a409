//! The pool: extrinsics that wait for a block.
//!
//! Owns which extrinsics wait, in which order, who watches them, and which may not come back soon. Refuses to know
//! whether they are valid: the chain asks the rules. Only the chain uses it.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::mpsc;

use super::{call::Call, extrinsic::Signed, hashing::Hash, limits};

/// What happens to a watched extrinsic, in the words of the RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Waits for an earlier nonce.
    Future,
    /// May go into the next block.
    Ready,
    /// Sent to these peers.
    Broadcast(Vec<String>),
    /// In this block.
    InBlock(Hash),
    /// In this block, which is final.
    Finalized(Hash),
    /// No longer in this block, which is on no branch any more.
    Retracted(Hash),
    /// Replaced by this extrinsic.
    Usurped(Hash),
    /// Thrown out for no fault of its own.
    Dropped,
    /// Cannot become valid any more.
    Invalid,
}

impl Status {
    /// The status as `author_extrinsicUpdate` carries it.
    pub fn json(&self) -> serde_json::Value {
        use super::hashing::hex0x;
        use serde_json::json;
        match self {
            Self::Future => json!("future"),
            Self::Ready => json!("ready"),
            Self::Broadcast(peers) => json!({ "broadcast": peers }),
            Self::InBlock(hash) => json!({ "inBlock": hex0x(hash) }),
            Self::Finalized(hash) => json!({ "finalized": hex0x(hash) }),
            Self::Retracted(hash) => json!({ "retracted": hex0x(hash) }),
            Self::Dropped => json!("dropped"),
            Self::Usurped(hash) => json!({ "usurped": hex0x(hash) }),
            Self::Invalid => json!("invalid"),
        }
    }

    /// Whether nothing follows.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Finalized(_) | Self::Usurped(_) | Self::Dropped | Self::Invalid)
    }
}

/// Statuses of one extrinsic: fewer than this happen unless its blocks are taken back again and again.
const STATUSES: usize = 64;

/// One who is told what happens to an extrinsic.
pub type Watcher = mpsc::Sender<Status>;

/// A waiting extrinsic.
#[derive(Debug)]
pub struct Waiting {
    /// The extrinsic.
    pub signed: Signed,
    /// Its call.
    pub call: Call,
    /// The first block that it must not go into.
    pub death: u32,
    order: u64,
    told_future: bool,
    ready: bool,
    watchers: Vec<Watcher>,
}

/// Why an extrinsic is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It waits already.
    AlreadyImported,
    /// It was thrown out a short while ago.
    Banned,
    /// Another one of the same nonce has as large a tip.
    LowPriority,
    /// No room.
    Full,
}

/// The pool.
#[derive(Debug, Default)]
pub struct Pool {
    accounts: BTreeMap<[u8; 32], BTreeMap<u32, Waiting>>,
    hashes: HashMap<Hash, ([u8; 32], u32)>,
    banned: BTreeMap<Hash, u32>,
    arrivals: u64,
    /// Included extrinsics, by block, until the block is final.
    included: BTreeMap<u32, Vec<(Hash, Waiting)>>,
    /// What watchers are to be told once the block that it comes from is on disk.
    outbox: Vec<(Watcher, Status)>,
}

impl Pool {
    /// How many extrinsics wait.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Refuses what may not enter, before it is looked at more closely.
    pub fn admit(&self, hash: &Hash, block: u32) -> Result<(), Refusal> {
        if self.hashes.contains_key(hash) {
            return Err(Refusal::AlreadyImported);
        }
        if self.banned.get(hash).is_some_and(|until| block < *until) {
            return Err(Refusal::Banned);
        }
        Ok(())
    }

    /// Takes an extrinsic that the rules let pass. `expected` is its signer's count on chain.
    pub fn insert(
        &mut self,
        signed: Signed,
        call: Call,
        death: u32,
        expected: u32,
        watcher: Option<Watcher>,
    ) -> Result<(), Refusal> {
        let (signer, nonce, hash) = (signed.signer, signed.nonce, signed.hash);
        let mine = self.accounts.get(&signer);
        let rival = mine.and_then(|mine| mine.get(&nonce)).map(|waiting| (waiting.signed.tip, waiting.signed.hash));
        match rival {
            Some((tip, _)) if signed.tip <= tip => return Err(Refusal::LowPriority),
            Some((_, old)) => self.drop_one(&old, &Status::Usurped(hash)),
            None if self.len() >= limits::POOL_EXTRINSICS => return Err(Refusal::Full),
            None if mine.map_or(0, BTreeMap::len) >= limits::POOL_EXTRINSICS_PER_ACCOUNT => return Err(Refusal::Full),
            None => {}
        }
        self.arrivals += 1;
        let watchers = watcher.into_iter().collect();
        let waiting = Waiting { signed, call, death, order: self.arrivals, told_future: false, ready: false, watchers };
        self.hashes.insert(hash, (signer, nonce));
        self.accounts.entry(signer).or_default().insert(nonce, waiting);
        self.promote(&signer, expected);
        Ok(())
    }

    /// Tells the watchers of an account's extrinsics which of them are ready now.
    fn promote(&mut self, signer: &[u8; 32], expected: u32) {
        let Some(mine) = self.accounts.get_mut(signer) else { return };
        let mut next = expected;
        for (nonce, waiting) in mine.iter_mut() {
            if *nonce == next {
                next = next.saturating_add(1);
                if !waiting.ready {
                    waiting.ready = true;
                    tell(&mut self.outbox, &waiting.watchers, &Status::Ready);
                    tell(&mut self.outbox, &waiting.watchers, &Status::Broadcast(vec!["devnet".to_owned()]));
                }
            } else if !waiting.ready && !waiting.told_future {
                waiting.told_future = true;
                tell(&mut self.outbox, &waiting.watchers, &Status::Future);
            }
        }
    }

    /// The next free nonce of an account: its count on chain and the unbroken run that is ready after it.
    pub fn next_nonce(&self, signer: &[u8; 32], expected: u32) -> u32 {
        let Some(mine) = self.accounts.get(signer) else { return expected };
        mine.keys().fold(expected, |next, nonce| if *nonce == next { next.saturating_add(1) } else { next })
    }

    /// The waiting extrinsics in the order of their arrival.
    pub fn in_order(&self) -> Vec<&Waiting> {
        let mut all: Vec<_> = self.accounts.values().flat_map(BTreeMap::values).collect();
        all.sort_by_key(|waiting| waiting.order);
        all
    }

    /// Whether any extrinsic may go into the next block.
    pub fn has_ready(&self) -> bool {
        self.accounts.values().flat_map(BTreeMap::values).any(|waiting| waiting.ready)
    }

    /// The bytes of all that wait.
    pub fn pending(&self) -> Vec<Vec<u8>> {
        self.in_order().into_iter().map(|waiting| waiting.signed.bytes.clone()).collect()
    }

    /// An extrinsic went into a block.
    pub fn include(&mut self, hash: &Hash, number: u32, block: &Hash) {
        let Some(waiting) = self.take(hash) else { return };
        tell(&mut self.outbox, &waiting.watchers, &Status::InBlock(*block));
        self.included.entry(number).or_default().push((*block, waiting));
    }

    /// Blocks are taken back: their extrinsics wait again, or are lost.
    pub fn retract(&mut self, first: u32, keep: bool) {
        for (block, waiting) in self.included.split_off(&first).into_values().flatten() {
            tell(&mut self.outbox, &waiting.watchers, &Status::Retracted(block));
            if keep {
                self.hashes.insert(waiting.signed.hash, (waiting.signed.signer, waiting.signed.nonce));
                let mine = self.accounts.entry(waiting.signed.signer).or_default();
                mine.insert(waiting.signed.nonce, Waiting { ready: true, ..waiting });
            } else {
                tell(&mut self.outbox, &waiting.watchers, &Status::Dropped);
            }
        }
    }

    /// Throws an extrinsic out as if it had never come.
    pub fn lose(&mut self, hash: &Hash) {
        self.drop_one(hash, &Status::Dropped);
    }

    /// An extrinsic cannot become valid any more.
    pub fn invalidate(&mut self, hash: &Hash, block: u32) {
        self.drop_one(hash, &Status::Invalid);
        self.banned.retain(|_, until| block < *until);
        if self.banned.len() < limits::BANNED_EXTRINSICS {
            self.banned.insert(*hash, block.saturating_add(limits::BAN_BLOCKS));
        }
    }

    /// A block came: what it made stale or outdated goes, what it made ready is told so.
    pub fn block_made(&mut self, number: u32, finalized: u32, nonce_of: impl Fn(&[u8; 32]) -> u32) {
        let signers: Vec<[u8; 32]> = self.accounts.keys().copied().collect();
        for signer in signers {
            let expected = nonce_of(&signer);
            let mine = self.accounts.get(&signer).into_iter().flatten();
            let gone = mine.filter(|(nonce, waiting)| **nonce < expected || waiting.death <= number.saturating_add(1));
            let gone: Vec<Hash> = gone.map(|(_, waiting)| waiting.signed.hash).collect();
            gone.iter().for_each(|hash| self.invalidate(hash, number));
            self.promote(&signer, expected);
        }
        let still_open = self.included.split_off(&finalized.saturating_add(1));
        for (_, extrinsics) in std::mem::replace(&mut self.included, still_open) {
            for (block, waiting) in extrinsics {
                tell(&mut self.outbox, &waiting.watchers, &Status::Finalized(block));
            }
        }
    }

    /// Tells the watchers what has happened since the last time; nobody who does not listen is waited for.
    pub fn announce(&mut self) {
        for (watcher, status) in self.outbox.drain(..) {
            let _gone = watcher.try_send(status);
        }
    }

    fn drop_one(&mut self, hash: &Hash, status: &Status) {
        if let Some(waiting) = self.take(hash) {
            tell(&mut self.outbox, &waiting.watchers, status);
        }
    }

    fn take(&mut self, hash: &Hash) -> Option<Waiting> {
        let (signer, nonce) = self.hashes.remove(hash)?;
        let mine = self.accounts.get_mut(&signer)?;
        let waiting = mine.remove(&nonce);
        if mine.is_empty() {
            self.accounts.remove(&signer);
        }
        waiting
    }
}

/// A channel for one who watches.
pub fn watch() -> (Watcher, mpsc::Receiver<Status>) {
    mpsc::channel(STATUSES)
}

fn tell(outbox: &mut Vec<(Watcher, Status)>, watchers: &[Watcher], status: &Status) {
    outbox.extend(watchers.iter().map(|watcher| (watcher.clone(), status.clone())));
}

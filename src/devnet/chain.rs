//! The chain: blocks, state, pool and log under one owner.
//!
//! Owns the order of things in a block, what a reader sees at a hash, and that a block is on disk before anybody
//! hears of it. Refuses to know sockets and clocks: it is told the time. Only the node of `devnet/` holds it.

use std::{path::Path, sync::Arc};

use parity_scale_codec::{Compact, Decode as _, Encode as _};

use super::{
    Spec,
    beacon::Own,
    block::{Block, Header, Log as DigestLog, extrinsics_root, timestamp_extrinsic},
    blocks::Blocks,
    call::{self, Call},
    extrinsic::{self, Signed},
    genesis,
    hashing::Hash,
    items::Item,
    limits,
    log::{Log, OpenError, ReplayError},
    pool::{Pool, Refusal, Watcher},
    rules::{Failure, Faults, Origin, Phase, World, balances, drand, epochs},
    runtime::Runtime,
    state::{State, key},
    store::{Changes, Store, decode_changes, encode_changes, root_after},
};

/// How many block hashes `System.BlockHash` keeps: the runtime's constant, checked by a test.
const BLOCK_HASHES: u32 = 2400;
/// Why the pool refuses an extrinsic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not an extrinsic.
    #[error("Extrinsic has invalid format: {0}")]
    Format(#[from] extrinsic::Error),
    /// Not a call that the devnet executes.
    #[error("{0}")]
    Call(#[from] call::Error),
    /// Signature, spec version, genesis or birth block are not this chain's.
    #[error("Transaction has a bad signature")]
    BadProof,
    /// The birth block is too old to be known.
    #[error("Transaction has an ancient birth block")]
    AncientBirthBlock,
    /// The nonce was used.
    #[error("Transaction is outdated")]
    Stale,
    /// The signer cannot pay.
    #[error("Inability to pay some fees (e.g. account balance too low)")]
    Payment,
    /// A rule of the subtensor pallet, by its number.
    #[error("Custom error: {0}")]
    Custom(u8),
    /// The pool itself.
    #[error("the pool does not take it")]
    Pool(Refusal),
}

/// Why a reader cannot read at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// No such block.
    Unknown(Hash),
    /// Its state was forgotten.
    Discarded(Hash),
}

/// What a chain is to be like.
#[derive(Debug, Clone)]
pub struct Config {
    /// Blocks between the best and the last final one.
    pub finality_lag: u32,
    /// Chain time between two blocks.
    pub block_ms: u64,
    /// What the genesis hash and the beacon's key come from.
    pub seed: [u8; 32],
    /// Whether a stored chain keeps its own seed.
    pub keeps_seed: bool,
    /// Blocks whose state stays readable.
    pub state_blocks: u32,
    /// Whether there is a beacon; signing a round takes about as long as everything else in an empty block.
    pub beacon: bool,
}

/// The chain.
#[derive(Debug)]
pub struct Chain {
    /// The runtimes, each with the first block after which it is the state's: one, and another for each upgrade.
    runtimes: Vec<(u32, Arc<Runtime>)>,
    config: Config,
    beacon: Option<Own>,
    store: Store,
    blocks: Blocks,
    pool: Pool,
    log: Option<Log>,
    next_time_ms: Option<u64>,
    /// The block in whose place the next one stands.
    replaced: Option<Hash>,
    /// What is to go wrong in the next blocks.
    faults: Faults,
}

/// A block that is made but not yet part of the chain.
struct Built {
    header: Header,
    body: Vec<Vec<u8>>,
    changes: Changes,
    included: Vec<Hash>,
    invalid: Vec<Hash>,
    faults: Faults,
}

impl Chain {
    /// A chain in memory, at its genesis.
    pub fn new(runtime: Arc<Runtime>, config: Config) -> Self {
        let (block, changes) = genesis::make(&runtime, &config.seed);
        let mut store = Store::keeping(config.state_blocks);
        store.apply(0, &changes);
        // A round for each block: a finer beacon would tell nobody anything more.
        let period_s = u32::try_from(config.block_ms / 1000).unwrap_or(u32::MAX);
        Self {
            runtimes: vec![(0, runtime)],
            beacon: config.beacon.then(|| Own::new(&config.seed, period_s)),
            config,
            store,
            blocks: Blocks::new(block),
            pool: Pool::default(),
            log: None,
            next_time_ms: None,
            replaced: None,
            faults: Faults::default(),
        }
    }

    /// A chain whose blocks are kept in a file; continues where the file ends. Returns the bytes of a torn end.
    pub fn open(runtime: Arc<Runtime>, config: Config, path: &Path) -> Result<(Self, u64), OpenError> {
        let mut replayed: Option<Self> = None;
        let (mut log, cut) = Log::open(path, |record| {
            match &mut replayed {
                None => replayed = Some(Self::stored(&runtime, &config, record)?),
                Some(chain) => chain.replay(record)?,
            }
            Ok(())
        })?;
        let mut chain = match replayed {
            Some(chain) => chain,
            None => {
                let chain = Self::new(runtime, config);
                log.append(&[chain.genesis(), chain.config.seed].concat())?;
                log.sync()?;
                chain
            }
        };
        chain.log = Some(log);
        Ok((chain, cut))
    }

    /// The chain at its genesis whose first record this is: the genesis hash and the seed. Files of the first version
    /// have no seed there: theirs was given, or was zero.
    fn stored(runtime: &Arc<Runtime>, config: &Config, record: &[u8]) -> Result<Self, ReplayError> {
        let (genesis, seed) = record.split_at_checked(Hash::default().len()).ok_or(ReplayError::Genesis)?;
        let seed = match (config.keeps_seed, seed) {
            (true, []) => [0; 32],
            (true, seed) => seed.try_into().map_err(|_wrong_length| ReplayError::Genesis)?,
            (false, _) => config.seed,
        };
        let chain = Self::new(Arc::clone(runtime), Config { seed, ..config.clone() });
        if chain.genesis() == genesis { Ok(chain) } else { Err(ReplayError::Genesis) }
    }

    /// Adds a block from the log.
    fn replay(&mut self, record: &[u8]) -> Result<(), ReplayError> {
        let mut rest = record;
        let broken = ReplayError::Decode(self.best() + 1);
        let header = Header::decode(&mut rest).map_err(|_source| broken.clone())?;
        // A height that was there already begins another branch.
        if let Some(fork) = header.number.checked_sub(1)
            && fork < self.best()
            && fork >= self.finalized()
        {
            self.unlink(fork);
        }
        let number = self.best() + 1;
        let body = Vec::<Vec<u8>>::decode(&mut rest).map_err(|_source| broken.clone())?;
        let changes = decode_changes(&mut rest).filter(|_| rest.is_empty()).ok_or(broken)?;
        let parent = self.blocks.last();
        let follows = header.parent == parent.hash
            && header.number == number
            && header.extrinsics_root == extrinsics_root(&body)
            && header.state_root == root_after(&parent.header.state_root, &changes);
        if !follows {
            return Err(ReplayError::Broken(number));
        }
        self.link(header, body, &changes);
        Ok(())
    }

    /// The runtime of the best block's state, which executes the next block.
    pub fn runtime(&self) -> &Arc<Runtime> {
        self.runtime_of(self.best())
    }

    /// The runtime of the state after a block.
    pub fn runtime_of(&self, number: u32) -> &Arc<Runtime> {
        let later = self.runtimes.iter().rev().find(|(from, _)| *from <= number);
        later.map_or(&self.runtimes[0].1, |(_, runtime)| runtime)
    }

    /// The hash of the first block.
    pub fn genesis(&self) -> Hash {
        self.blocks.genesis()
    }

    /// The height of the best block.
    pub fn best(&self) -> u32 {
        self.blocks.last().header.number
    }

    /// The height of the last final block.
    pub fn finalized(&self) -> u32 {
        self.best().saturating_sub(self.config.finality_lag)
    }

    /// How many blocks the final one lies behind.
    pub const fn finality_lag(&self) -> u32 {
        self.config.finality_lag
    }

    /// The block of a height, unless it is forgotten or to come.
    pub fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number)
    }

    /// The hash of a block of any age.
    pub fn hash_of(&self, number: u32) -> Option<Hash> {
        self.blocks.hash_of(number)
    }

    /// The block with a hash; the best one for none.
    pub fn block_by_hash(&self, hash: Option<&Hash>) -> Option<&Block> {
        match hash {
            None => Some(self.blocks.last()),
            Some(hash) => self.block(self.blocks.number_of(hash)?),
        }
    }

    /// The height at whose end somebody may read the state.
    pub fn readable(&self, hash: Option<&Hash>) -> Result<u32, Unreadable> {
        let Some(hash) = hash else { return Ok(self.best()) };
        match self.blocks.number_of(hash) {
            Some(number) if number >= self.store.oldest() => Ok(number),
            Some(_) => Err(Unreadable::Discarded(*hash)),
            None if self.blocks.was(hash) => Err(Unreadable::Discarded(*hash)),
            None => Err(Unreadable::Unknown(*hash)),
        }
    }

    /// The state after a block.
    pub fn state(&self, number: u32) -> State<'_> {
        State::at(self.runtime_of(number), &self.store, number)
    }

    /// The stored keys and values.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The waiting extrinsics.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether any extrinsic waits that may go into the next block.
    pub fn has_ready(&self) -> bool {
        self.pool.has_ready()
    }

    /// Tells those who watch extrinsics what has happened; after [`sync`](Self::sync).
    pub fn announce(&mut self) {
        self.pool.announce();
    }

    /// The next nonce that an account should sign with.
    pub fn next_nonce(&self, account: &[u8; 32]) -> u32 {
        self.pool.next_nonce(account, balances::account(&self.state(self.best()), account).nonce)
    }

    /// The waiting extrinsics, to throw one out.
    pub const fn pool_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// What is to go wrong in the next blocks.
    pub const fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Sets the time of the next block. Time only goes forward.
    pub fn set_next_time(&mut self, ms: u64) -> Result<(), String> {
        let now: u64 = self.state(self.best()).get(Item::Now, &[]);
        if ms <= now {
            return Err(format!("chain time is {now} ms already"));
        }
        self.next_time_ms = Some(ms);
        Ok(())
    }

    /// Takes an extrinsic into the pool, after every check that does not execute it.
    pub fn submit(&mut self, bytes: &[u8], watcher: Option<Watcher>) -> Result<Hash, Invalid> {
        let signed = Signed::decode(self.runtime(), bytes)?;
        self.pool.admit(&signed.hash, self.best()).map_err(Invalid::Pool)?;
        let call = Call::decode(self.runtime(), &signed.call)?;
        let next = self.best() + 1;
        let mut world = World::new(self.state(self.best()), next);
        self.validate(&mut world, &signed, &call)?;
        let expected = balances::account(&world.state, &signed.signer).nonce;
        let (hash, death) = (signed.hash, signed.era.death(next));
        self.pool.insert(signed, call, death, expected, watcher).map_err(Invalid::Pool)?;
        Ok(hash)
    }

    /// What `TransactionPaymentApi_query_info` says a call costs; `None` for what is not an extrinsic of ours.
    pub fn fee_of(&self, bytes: &[u8]) -> Option<u64> {
        let signed = Signed::decode(self.runtime(), bytes).ok()?;
        let pays = match Call::decode(self.runtime(), &signed.call) {
            Ok(call) => call.pays(),
            // Who asks before submitting is to hear at the submission that there is no such call here.
            Err(call::Error::NotImplemented(_)) => true,
            Err(_) => return None,
        };
        Some(if pays { balances::fee(bytes.len()) } else { 0 })
    }

    /// The checks of the pool, in their order; again before inclusion.
    fn validate(&self, world: &mut World<'_>, signed: &Signed, call: &Call) -> Result<(), Invalid> {
        let genesis = self.genesis();
        let birth = match signed.era {
            extrinsic::Era::Immortal => genesis,
            era => {
                let birth = era.birth(world.block);
                let known = birth < world.block && world.block - birth <= BLOCK_HASHES;
                let block = self.block(birth).filter(|_| known).ok_or(Invalid::AncientBirthBlock)?;
                block.hash
            }
        };
        if !signed.is_genuine(self.runtime(), &genesis, &birth) {
            return Err(Invalid::BadProof);
        }
        let account = balances::account(&world.state, &signed.signer);
        if signed.nonce < account.nonce {
            return Err(Invalid::Stale);
        }
        // Who pays nothing needs no account: hotkeys have none.
        let due = due(signed, call);
        if (call.pays() && account.providers == 0) || due > account.data.free {
            return Err(Invalid::Payment);
        }
        world.guard(&signed.signer, call).map_err(Invalid::Custom)
    }

    /// Makes one block with whatever is ready, and lets `act` change the state before the extrinsics run.
    ///
    /// Nothing happened when it fails. The block is in the log but not yet synchronised: see [`sync`](Self::sync).
    pub fn make<T>(
        &mut self,
        wall_ms: u64,
        act: impl FnOnce(&mut World<'_>) -> Result<T, String>,
    ) -> Result<(Block, T), MakeError> {
        let (built, outcome) = self.build(wall_ms, act).map_err(MakeError::Refused)?;
        if let Some(log) = &mut self.log {
            let mut record = built.header.encode();
            built.body.encode_to(&mut record);
            encode_changes(&built.changes, &mut record);
            log.append(&record).map_err(MakeError::Log)?;
        }
        self.next_time_ms = None;
        self.replaced = None;
        self.faults = built.faults;
        let number = built.header.number;
        let block = self.link(built.header, built.body, &built.changes);
        for hash in &built.included {
            self.pool.include(hash, number, &block.hash);
        }
        for hash in &built.invalid {
            self.pool.invalidate(hash, number);
        }
        let (store, runtime) = (&self.store, Arc::clone(self.runtime()));
        let nonce = |who: &[u8; 32]| balances::account(&State::at(&runtime, store, number), who).nonce;
        let finalized = number.saturating_sub(self.config.finality_lag);
        self.pool.block_made(number, finalized, nonce);
        Ok((block, outcome))
    }

    /// Takes back the last blocks, none of which may be final. Their extrinsics wait again, or are lost.
    pub fn retract(&mut self, depth: u32, keep: bool) -> Result<(), String> {
        let most = self.best() - self.finalized();
        if depth == 0 || depth > most {
            return Err(format!("1 to {most} blocks are not final and can be taken back"));
        }
        let fork = self.best() - depth;
        self.replaced = Some(self.blocks.last().hash);
        self.unlink(fork);
        self.pool.retract(fork + 1, keep);
        Ok(())
    }

    /// Forgets every block after this one.
    fn unlink(&mut self, number: u32) {
        self.blocks.truncate(number);
        self.store.take_back(number);
        self.runtimes.retain(|(from, _)| *from <= number);
    }

    /// Waits until every block made is on disk.
    pub fn sync(&self) -> Result<(), super::log::Error> {
        self.log.as_ref().map_or(Ok(()), Log::sync)
    }

    /// Changes over to the runtime that the state after a block names. A name that nobody knows changes nothing.
    fn follow_upgrade(&mut self, number: u32, changes: &Changes) {
        let key = self.state(number).key(Item::LastRuntimeUpgrade, &[]);
        let Some(Some(value)) = changes.get(&key) else { return };
        let spec = Compact::<u32>::decode(&mut &**value).ok().and_then(|version| Spec::of_version(version.0));
        if let Some(Ok(runtime)) = spec.map(Runtime::of)
            && runtime.version().spec_version != self.runtime_of(number).version().spec_version
        {
            self.runtimes.push((number, Arc::new(runtime)));
        }
    }

    /// Adds a block to the chain.
    fn link(&mut self, header: Header, body: Vec<Vec<u8>>, changes: &Changes) -> Block {
        let number = header.number;
        self.store.apply(number, changes);
        let block = Block { hash: header.hash(), header, body: Some(body.into()) };
        self.blocks.push(block.clone());
        self.follow_upgrade(number, changes);
        block
    }

    fn build<T>(
        &self,
        wall_ms: u64,
        act: impl FnOnce(&mut World<'_>) -> Result<T, String>,
    ) -> Result<(Built, T), String> {
        let parent = self.blocks.last();
        let number = parent.header.number + 1;
        let mut state = self.state(parent.header.number);
        state.begin();
        let mut world = World::new(state, number);
        world.faults = self.faults;
        let now_ms = self.time_of_next(&world.state, wall_ms);
        let slot = now_ms / self.runtime().slot_ms();
        let mut logs = vec![DigestLog::aura(slot)];
        logs.extend(self.replaced.as_ref().map(DigestLog::instead_of));
        initialise(&mut world, parent, slot, &logs);
        epochs::start_block(&mut world);
        if let Some(beacon) = &self.beacon {
            drand::start_block(&mut world, beacon, now_ms);
        }
        let outcome = world.transact(act)?;
        let mut body = vec![timestamp_extrinsic(now_ms)];
        world.phase = Phase::Extrinsic(0);
        world.state.put(Item::Now, &[], &now_ms);
        world.emit_outcome(Ok(()), "Mandatory", false);
        let (included, invalid) = self.apply_ready(&mut world, &mut body);
        let (events, count) = world.encoded_events();
        let events_key = world.state.key(Item::Events, &[]);
        world.state.put_raw(events_key, Some(events.into()));
        world.state.put(Item::EventCount, &[], &count);
        let faults = world.faults;
        let changes = world.state.finish();
        let header = Header {
            parent: parent.hash,
            number,
            state_root: root_after(&parent.header.state_root, &changes),
            extrinsics_root: extrinsics_root(&body),
            logs,
        };
        Ok((Built { header, body, changes, included, invalid, faults }, outcome))
    }

    /// Chain time moves by one step a block, whatever the wall says; only the first block asks the wall.
    fn time_of_next(&self, state: &State<'_>, wall_ms: u64) -> u64 {
        let now: u64 = state.get(Item::Now, &[]);
        let step = self.config.block_ms.max(1);
        let regular = if now == 0 { wall_ms / step * step } else { now.saturating_add(step) };
        self.next_time_ms.unwrap_or(regular).max(now + 1)
    }

    /// Puts the ready extrinsics into the block, each account's in the order of its nonces.
    fn apply_ready(&self, world: &mut World<'_>, body: &mut Vec<Vec<u8>>) -> (Vec<Hash>, Vec<Hash>) {
        let (mut included, mut invalid) = (Vec::new(), Vec::new());
        let mut waiting = self.pool.in_order();
        loop {
            let before = waiting.len();
            let mut later = Vec::new();
            for candidate in waiting {
                let signed = &candidate.signed;
                let full = included.len() >= limits::BLOCK_EXTRINSICS;
                let expected = balances::account(&world.state, &signed.signer).nonce;
                if full || signed.nonce > expected {
                    later.push(candidate);
                } else if self.validate(world, signed, &candidate.call).is_err() {
                    invalid.push(signed.hash);
                } else {
                    world.phase = Phase::Extrinsic(u32::try_from(body.len()).expect("a block is bounded"));
                    apply(world, signed, &candidate.call);
                    body.push(signed.bytes.clone());
                    included.push(signed.hash);
                }
            }
            if later.len() == before || later.is_empty() {
                return (included, invalid);
            }
            waiting = later;
        }
    }
}

/// Why no block was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The act did not want to.
    #[error("{0}")]
    Refused(String),
    /// The log could not be written: the chain must stop.
    #[error(transparent)]
    Log(super::log::Error),
}

/// Fee and tip.
fn due(signed: &Signed, call: &Call) -> u64 {
    let fee = if call.pays() { balances::fee(signed.bytes.len()) } else { 0 };
    fee.saturating_add(signed.tip)
}

/// Executes a valid extrinsic: fee and nonce are gone whatever the call does.
fn apply(world: &mut World<'_>, signed: &Signed, call: &Call) {
    use super::datum::Datum;
    let due = due(signed, call);
    if due > 0 {
        balances::withdraw(world, &signed.signer, due).expect("the fee was found payable");
    }
    balances::count_nonce(world, &signed.signer);
    let outcome = if Faults::take(&mut world.faults.calls) {
        Err(Failure::BadOrigin)
    } else {
        world.dispatch(Origin::Signed(signed.signer), call)
    };
    if due > 0 {
        // Nothing is ever refunded, but the runtime says so.
        let refund = vec![("who", Datum::account(&signed.signer)), ("amount", Datum::Num(0))];
        world.emit("Balances", "Deposit", refund);
        balances::deposit(world, &genesis::author(), due);
    }
    let fields = vec![
        ("who", Datum::account(&signed.signer)),
        ("actual_fee", Datum::Num(due.into())),
        ("tip", Datum::Num(signed.tip.into())),
    ];
    world.emit("TransactionPayment", "TransactionFeePaid", fields);
    world.emit_outcome(outcome, "Normal", call.pays());
}

/// What a block writes before anything else.
fn initialise(world: &mut World<'_>, parent: &Block, slot: u64, logs: &[DigestLog]) {
    let number = world.block;
    let state = &mut world.state;
    state.put(Item::Number, &[], &number);
    state.put(Item::ParentHash, &[], &parent.hash);
    state.put(Item::BlockHash, key![parent.header.number], &parent.hash);
    if let Some(old) = number.checked_sub(BLOCK_HASHES + 1) {
        state.remove(Item::BlockHash, key![old]);
    }
    let digest_key = state.key(Item::Digest, &[]);
    state.put_raw(digest_key, Some(logs.to_vec().encode().into()));
    state.put(Item::CurrentSlot, &[], &slot);
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;

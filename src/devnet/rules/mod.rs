//! What calls do: the chain's rules, each in the order in which the chain checks it.
//!
//! Owns dispatch, roll-back and the events of a block. Refuses to know signatures, nonces and the network. The block
//! builder and the pool of `devnet/` call it. Where a rule is simplified, the file says so at its top.

pub mod admin;
pub mod axons;
pub mod balances;
pub mod commit_reveal;
pub mod commitments;
pub mod drand;
pub mod epochs;
pub mod guards;
pub mod network;
pub mod opening;
pub mod proxy;
pub mod registration;
pub mod stake;
pub mod subnets;
pub mod swap;
pub mod timelock;
pub mod weights;

use parity_scale_codec::{Compact, Encode as _};

use super::{
    call::{Batch, Call},
    datum::Datum,
    state::State,
};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The chain itself, by `Sudo`.
    Root,
    /// An account that signed.
    Signed([u8; 32]),
    /// An account for which a proxy signed that may do no more than this.
    Proxied([u8; 32], proxy::Kind),
}

impl Origin {
    /// The account that calls; the root has none.
    pub const fn account(self) -> Option<[u8; 32]> {
        match self {
            Self::Root => None,
            Self::Signed(account) | Self::Proxied(account, _) => Some(account),
        }
    }

    /// The account that calls, where the root may not.
    pub const fn signer(self) -> Result<[u8; 32], Failure> {
        match self.account() {
            None => Err(Failure::BadOrigin),
            Some(account) => Ok(account),
        }
    }
}

/// Why an included call failed, as `ExtrinsicFailed` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An error of a pallet, by the names of pallet and error.
    Module(&'static str, &'static str),
    /// The caller may not do this.
    BadOrigin,
    /// A transfer that the balances do not allow.
    Token(&'static str),
}

impl Failure {
    /// An error of the subtensor pallet.
    pub const fn subtensor(error: &'static str) -> Self {
        Self::Module("SubtensorModule", error)
    }

    /// The failure as an event carries it.
    pub fn datum(self, world: &World<'_>) -> Datum {
        match self {
            Self::BadOrigin => Datum::unit("BadOrigin"),
            Self::Token(error) => Datum::tuple("Token", vec![Datum::unit(error)]),
            Self::Module(pallet, error) => {
                let found = world.state.runtime().error(pallet, error);
                let (index, error) = found.unwrap_or_else(|| panic!("the runtime has no error {pallet}.{error}"));
                let fields = vec![("index", Datum::Num(index.into())), ("error", Datum::Bytes(vec![error, 0, 0, 0]))];
                Datum::tuple("Module", vec![Datum::Struct(fields)])
            }
        }
    }
}

/// What a call's end is.
pub type Done = Result<(), Failure>;

/// Where in a block an event happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the first extrinsic.
    Initialization,
    /// Within an extrinsic.
    Extrinsic(u32),
}

/// What is to go wrong because a control said so: how many of each are left.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Calls of signed extrinsics that fail.
    pub calls: u32,
    /// Timelocked weights that are dropped.
    pub reveals: u32,
}

impl Faults {
    /// Whether this one goes wrong; counts it if so.
    pub const fn take(left: &mut u32) -> bool {
        let goes_wrong = *left > 0;
        *left = left.saturating_sub(1);
        goes_wrong
    }
}

/// The state of a block in the making, and its events.
#[derive(Debug)]
pub struct World<'a> {
    /// The state.
    pub state: State<'a>,
    /// The height of the block in the making.
    pub block: u32,
    /// Where we are in it.
    pub phase: Phase,
    /// What is still to go wrong.
    pub faults: Faults,
    events: Vec<Vec<u8>>,
}

impl<'a> World<'a> {
    /// A block in the making on top of a state.
    pub const fn new(state: State<'a>, block: u32) -> Self {
        Self { state, block, phase: Phase::Initialization, faults: Faults { calls: 0, reveals: 0 }, events: Vec::new() }
    }

    /// The height as the pallets count.
    pub fn now(&self) -> u64 {
        self.block.into()
    }

    /// Records an event with fields by name.
    pub fn emit(&mut self, pallet: &str, event: &str, fields: Vec<(&'static str, Datum)>) {
        self.record(pallet, Datum::named(event, fields));
    }

    /// Records an event with fields by position.
    pub fn emit_tuple(&mut self, pallet: &str, event: &str, fields: Vec<Datum>) {
        self.record(pallet, Datum::tuple(event, fields));
    }

    fn record(&mut self, pallet: &str, event: Datum) {
        let runtime = self.state.runtime();
        let mut record = match self.phase {
            Phase::Initialization => vec![2],
            Phase::Extrinsic(index) => (0_u8, index).encode(),
        };
        record.extend(runtime.encode(&Datum::tuple(pallet, vec![event]), runtime.event_type()));
        const NO_TOPICS: u8 = 0;
        record.push(NO_TOPICS);
        self.events.push(record);
    }

    /// Does something; takes its changes and events back when it fails.
    pub fn transact<T, E>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let events = self.events.len();
        self.state.begin();
        let done = act(self);
        match &done {
            Ok(_) => self.state.commit(),
            Err(_) => {
                self.state.rollback();
                self.events.truncate(events);
            }
        }
        done
    }

    /// The value of `System.Events` and the number of events.
    pub fn encoded_events(&self) -> (Vec<u8>, u32) {
        let count = u32::try_from(self.events.len()).expect("a block has fewer than 2^32 events");
        let mut bytes = Compact(count).encode();
        self.events.iter().for_each(|event| bytes.extend(event));
        (bytes, count)
    }

    /// The end of an extrinsic as an event.
    pub fn emit_outcome(&mut self, outcome: Done, class: &str, pays: bool) {
        let pays_fee = Datum::unit(if pays { "Yes" } else { "No" });
        let weight = Datum::Struct(vec![
            ("ref_time", Datum::Num(balances::REF_TIME.into())),
            ("proof_size", Datum::Num(balances::PROOF_BYTES.into())),
        ]);
        let info = Datum::Struct(vec![("weight", weight), ("class", Datum::unit(class)), ("pays_fee", pays_fee)]);
        match outcome {
            Ok(()) => self.emit("System", "ExtrinsicSuccess", vec![("dispatch_info", info)]),
            Err(failure) => {
                let error = failure.datum(self);
                self.emit("System", "ExtrinsicFailed", vec![("dispatch_error", error), ("dispatch_info", info)]);
            }
        }
    }

    /// Executes a call. What a failing call did is taken back.
    pub fn dispatch(&mut self, origin: Origin, call: &Call) -> Done {
        match origin {
            Origin::Proxied(_, kind) if !proxy::may(kind, call) => Err(Failure::Module("System", "CallFiltered")),
            _ => self.transact(|world| world.execute(origin, call)),
        }
    }

    fn execute(&mut self, origin: Origin, call: &Call) -> Done {
        let world = self;
        match call {
            Call::SetWeights { netuid, mecid, dests, weights, version_key } => {
                let request =
                    weights::Request { netuid: *netuid, mecid: *mecid, dests, weights, version_key: *version_key };
                weights::set(world, origin.signer()?, &request)
            }
            Call::BatchSetWeights(batch) => weights::batch_set(world, origin.signer()?, batch),
            Call::CommitWeights(commit) => commit_reveal::commit(world, origin.signer()?, commit),
            Call::BatchCommitWeights { netuids, hashes } => {
                commit_reveal::batch_commit(world, origin.signer()?, netuids, hashes)
            }
            Call::RevealWeights(reveal) => commit_reveal::reveal(world, origin.signer()?, reveal),
            Call::BatchRevealWeights(batch) => commit_reveal::batch_reveal(world, origin.signer()?, batch),
            Call::CommitTimelocked(commit) => timelock::commit(world, origin.signer()?, commit),
            Call::BurnedRegister { netuid, hotkey, limit_price } => {
                registration::burned(world, origin.signer()?, *netuid, hotkey, *limit_price)
            }
            Call::ServeAxon(axon) => axons::serve(world, origin.signer()?, axon),
            Call::ServePrometheus(given) => axons::serve_prometheus(world, origin.signer()?, given),
            Call::SetCommitment { netuid, info } => commitments::set(world, origin.signer()?, *netuid, info),
            Call::SetMaxSpace(bytes) => commitments::set_max_space(world, origin, *bytes),
            Call::Transfer { dest, value, keep_alive } => {
                balances::transfer(world, &origin.signer()?, dest, *value, *keep_alive)
            }
            Call::TransferAll { dest, keep_alive } => {
                balances::transfer_all(world, &origin.signer()?, dest, *keep_alive)
            }
            Call::Remark => origin.signer().map(|_anybody| ()),
            Call::Batch { mode, calls } => batch(world, origin, *mode, calls),
            Call::Sudo(inner) => sudo(world, origin.signer()?, inner),
            Call::Admin { setter, netuid, value } => admin::set(world, origin, setter, *netuid, value),
            Call::AddStake(wanted) => stake::add(world, origin.signer()?, wanted),
            Call::RemoveStake(wanted) => stake::remove(world, origin.signer()?, wanted),
            Call::RegisterNetwork { hotkey, identity } => {
                network::register(world, origin.signer()?, hotkey, identity.as_deref())
            }
            Call::StartSubnet { netuid } => network::start(world, origin.signer()?, *netuid),
            Call::SetTempo { netuid, tempo } => network::set_tempo(world, origin.signer()?, *netuid, *tempo),
            Call::TriggerEpoch { netuid } => network::trigger(world, origin.signer()?, *netuid),
            Call::SwapHotkey(given) => swap::swap(world, origin.signer()?, given),
            Call::Proxy { real, kind, call } => proxy::act(world, origin.signer()?, real, *kind, call),
            Call::ChangeProxy { definition, add } => proxy::change(world, &origin.signer()?, *definition, *add),
            Call::RemoveProxies => proxy::remove_all(world, &origin.signer()?),
        }
    }

    /// Executes a call within another one. The checks of the pool come first here too, as errors of the call.
    fn dispatch_inner(&mut self, origin: Origin, call: &Call) -> Done {
        if let Some(signer) = origin.account() {
            guards::check(self, &signer, call).map_err(Failure::subtensor)?;
        }
        self.dispatch(origin, call)
    }

    /// What the pool refuses before a call is tried, as the number behind `Custom error`.
    pub fn guard(&self, signer: &[u8; 32], call: &Call) -> Result<(), u8> {
        guards::check(self, signer, call).map_err(guards::number)
    }
}

/// `Utility.batch`, `batch_all` and `force_batch`.
fn batch(world: &mut World<'_>, origin: Origin, mode: Batch, calls: &[Call]) -> Done {
    let mut failed = false;
    for (index, call) in calls.iter().enumerate() {
        match (world.dispatch_inner(origin, call), mode) {
            (Ok(()), _) => world.emit("Utility", "ItemCompleted", Vec::new()),
            (Err(failure), Batch::All) => return Err(failure),
            (Err(failure), Batch::Force) => {
                failed = true;
                let error = failure.datum(world);
                world.emit("Utility", "ItemFailed", vec![("error", error)]);
            }
            (Err(failure), Batch::Stop) => {
                let error = failure.datum(world);
                let fields = vec![("index", Datum::Num(index as u128)), ("error", error)];
                world.emit("Utility", "BatchInterrupted", fields);
                return Ok(());
            }
        }
    }
    world.emit("Utility", if failed { "BatchCompletedWithErrors" } else { "BatchCompleted" }, Vec::new());
    Ok(())
}

/// `Sudo.sudo`: the one key that may act as the root.
fn sudo(world: &mut World<'_>, signer: [u8; 32], call: &Call) -> Done {
    let key: Option<[u8; 32]> = world.state.find(super::items::Item::SudoKey, &[]);
    if key != Some(signer) {
        return Err(Failure::Module("Sudo", "RequireSudo"));
    }
    let result = match world.dispatch_inner(Origin::Root, call) {
        Ok(()) => Datum::tuple("Ok", vec![Datum::Tuple(Vec::new())]),
        Err(failure) => Datum::tuple("Err", vec![failure.datum(world)]),
    };
    world.emit("Sudo", "Sudid", vec![("sudo_result", result)]);
    Ok(())
}

#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod owner_tests;
#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod tests;

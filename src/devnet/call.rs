//! Calls: which of the runtime's this devnet executes, decoded by the metadata.
//!
//! Owns the list and the refusal of everything else by its name. Refuses to know what a call does. The pool and the
//! rules of `devnet/` use it.

use parity_scale_codec::{Compact, Decode as _};
use scale_decode::DecodeAsType;

use crate::chain::timelock::WEIGHTS_BYTES_MAX;

use super::{
    limits,
    rules::{
        admin::{self, Setter},
        commit_reveal::{BatchReveal, Commit, Reveal, Shown},
        commitments::Info,
        proxy::{Definition, Kind},
        stake,
        swap::Swap,
        timelock, weights,
    },
    runtime::Runtime,
};

/// Why a call is not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A call of the runtime that the devnet does not have.
    #[error("the devnet does not implement the call {0}")]
    NotImplemented(String),
    /// Indices that no call of the runtime has.
    #[error("the runtime has no call {0}.{1}")]
    Unknown(u8, u8),
    /// Arguments that do not decode.
    #[error("the arguments of {0} cannot be decoded")]
    Arguments(String),
    /// More nesting or more calls than allowed.
    #[error("a call nests more than {max} calls deep or batches more than {batch}", max = limits::CALL_DEPTH, batch = limits::BATCH_CALLS)]
    TooDeep,
}

/// How a batch treats a call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Stops, keeping what was done.
    Stop,
    /// Fails as a whole.
    All,
    /// Goes on.
    Force,
}

/// What a neuron says about its server, as `serve_axon` and `serve_axon_tls` have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axon {
    pub netuid: u16,
    pub version: u32,
    pub ip: u128,
    pub port: u16,
    pub ip_type: u8,
    pub protocol: u8,
    pub placeholder1: u8,
    pub placeholder2: u8,
    pub certificate: Option<Vec<u8>>,
}

/// What a neuron says about its measurements, as `serve_prometheus` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prometheus {
    pub netuid: u16,
    pub version: u32,
    pub ip: u128,
    pub port: u16,
    pub ip_type: u8,
}

/// A call that the devnet executes.
#[derive(Debug, Clone)]
#[allow(clippy::enum_variant_names, reason = "one of the calls is named `start_call`")]
pub enum Call {
    SetWeights { netuid: u16, mecid: u8, dests: Vec<u16>, weights: Vec<u16>, version_key: u64 },
    BatchSetWeights(weights::Batch),
    CommitWeights(Commit),
    BatchCommitWeights { netuids: Vec<u16>, hashes: Vec<[u8; 32]> },
    RevealWeights(Reveal),
    BatchRevealWeights(BatchReveal),
    CommitTimelocked(timelock::Commit),
    BurnedRegister { netuid: u16, hotkey: [u8; 32], limit_price: Option<u64> },
    ServeAxon(Axon),
    ServePrometheus(Prometheus),
    SetCommitment { netuid: u16, info: Info },
    SetMaxSpace(u32),
    Transfer { dest: [u8; 32], value: u64, keep_alive: bool },
    TransferAll { dest: [u8; 32], keep_alive: bool },
    AddStake(stake::Wanted),
    RemoveStake(stake::Wanted),
    RegisterNetwork { hotkey: [u8; 32], identity: Option<Vec<u8>> },
    StartSubnet { netuid: u16 },
    SetTempo { netuid: u16, tempo: u16 },
    TriggerEpoch { netuid: u16 },
    SwapHotkey(Swap),
    Proxy { real: [u8; 32], kind: Option<Kind>, call: Box<Call> },
    ChangeProxy { definition: Definition, add: bool },
    RemoveProxies,
    Remark,
    Batch { mode: Batch, calls: Vec<Call> },
    Sudo(Box<Call>),
    Admin { setter: &'static Setter, netuid: u16, value: Vec<u8> },
}

impl Call {
    /// Decodes one call that fills the bytes.
    pub fn decode(runtime: &Runtime, bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let call = Self::take(runtime, &mut rest, 0)?;
        if rest.is_empty() { Ok(call) } else { Err(Error::Arguments("the call, bytes are left".to_owned())) }
    }

    /// Whether the signer pays a fee. Free calls are free also within a batch of nothing else.
    pub fn pays(&self) -> bool {
        match self {
            Self::SetWeights { .. } | Self::BatchSetWeights(_) | Self::CommitTimelocked(_) => false,
            Self::CommitWeights(_) | Self::BatchCommitWeights { .. } => false,
            Self::RevealWeights(_) | Self::BatchRevealWeights(_) => false,
            Self::ServeAxon(_) | Self::ServePrometheus(_) | Self::SetCommitment { .. } | Self::Sudo(_) => false,
            Self::Admin { .. } | Self::SetMaxSpace(_) => false,
            Self::BurnedRegister { .. } | Self::Transfer { .. } | Self::TransferAll { .. } | Self::Remark => true,
            Self::AddStake(_) | Self::RemoveStake(_) | Self::SwapHotkey(_) => true,
            Self::RegisterNetwork { .. } | Self::StartSubnet { .. } => true,
            Self::SetTempo { .. } | Self::TriggerEpoch { .. } => true,
            Self::ChangeProxy { .. } | Self::RemoveProxies => true,
            Self::Proxy { call, .. } => call.pays(),
            Self::Batch { calls, .. } => calls.iter().any(Self::pays),
        }
    }

    fn take(runtime: &Runtime, bytes: &mut &[u8], depth: usize) -> Result<Self, Error> {
        if depth >= limits::CALL_DEPTH {
            return Err(Error::TooDeep);
        }
        let [pallet, call] = <[u8; 2]>::decode(bytes).map_err(|_source| Error::Arguments("a call".to_owned()))?;
        let (pallet_name, variant) = runtime.call(pallet, call).ok_or(Error::Unknown(pallet, call))?;
        let name = format!("{pallet_name}.{}", variant.name);
        let types: Vec<u32> = variant.fields.iter().map(|field| field.ty.id).collect();
        let arguments = &mut Arguments { runtime, bytes, types: types.into_iter(), depth };
        let taken = match (pallet_name, variant.name.as_str()) {
            ("Utility", "batch") => arguments.batch(Batch::Stop)?,
            ("Utility", "batch_all") => arguments.batch(Batch::All)?,
            ("Utility", "force_batch") => arguments.batch(Batch::Force)?,
            ("Sudo", "sudo") => Ok(Self::Sudo(Box::new(Self::take(runtime, arguments.bytes, depth + 1)?))),
            ("Proxy", "proxy") => {
                let real = arguments.next_account();
                let kind = arguments.next::<Option<Kind>>();
                let inner = Box::new(Self::take(runtime, arguments.bytes, depth + 1)?);
                real.and_then(|real| Ok(Self::Proxy { real, kind: kind?, call: inner }))
            }
            ("Proxy", call) => proxies(call, arguments),
            ("SubtensorModule", call) => match weighing(call, arguments) {
                Err(Trouble::NotImplemented) => subtensor(call, arguments),
                taken => taken,
            },
            ("Commitments", call) => commitments(call, arguments),
            ("Balances", call) => balances(call, arguments),
            ("System", "remark") => arguments.next::<Vec<u8>>().map(|_ignored| Self::Remark),
            ("AdminUtils", call) => administration(call, arguments),
            _ => Err(Trouble::NotImplemented),
        };
        taken.map_err(|trouble| match trouble {
            Trouble::NotImplemented => Error::NotImplemented(name),
            Trouble::Arguments => Error::Arguments(name),
        })
    }
}

/// What can go wrong within one call.
enum Trouble {
    NotImplemented,
    Arguments,
}

/// The arguments of one call that are still to be read.
struct Arguments<'r, 'b, 'c> {
    runtime: &'r Runtime,
    bytes: &'b mut &'c [u8],
    types: std::vec::IntoIter<u32>,
    depth: usize,
}

impl Arguments<'_, '_, '_> {
    /// The next argument as its metadata type has it.
    fn next<T: DecodeAsType>(&mut self) -> Result<T, Trouble> {
        let id = self.types.next().ok_or(Trouble::Arguments)?;
        self.runtime.take(self.bytes, id).ok_or(Trouble::Arguments)
    }

    /// The bytes of the next argument.
    fn next_raw(&mut self) -> Result<Vec<u8>, Trouble> {
        let id = self.types.next().ok_or(Trouble::Arguments)?;
        self.runtime.take_raw(self.bytes, id).map(<[u8]>::to_vec).ok_or(Trouble::Arguments)
    }

    /// The next argument, an address, as an account. Only plain accounts exist here.
    fn next_account(&mut self) -> Result<[u8; 32], Trouble> {
        const ID: u8 = 0;
        const ADDRESS_32: u8 = 3;
        let bytes = self.next_raw()?;
        match bytes.split_first() {
            Some((&(ID | ADDRESS_32), account)) => account.try_into().map_err(|_source| Trouble::Arguments),
            _ => Err(Trouble::Arguments),
        }
    }

    /// The calls of a batch.
    fn batch(&mut self, mode: Batch) -> Result<Result<Call, Trouble>, Error> {
        let Ok(Compact(count)) = Compact::<u32>::decode(self.bytes) else { return Ok(Err(Trouble::Arguments)) };
        if count as usize > limits::BATCH_CALLS {
            return Err(Error::TooDeep);
        }
        let mut calls = Vec::new();
        for _ in 0..count {
            calls.push(Call::take(self.runtime, self.bytes, self.depth + 1)?);
        }
        Ok(Ok(Call::Batch { mode, calls }))
    }
}

/// The calls that set weights, now or later.
fn weighing(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    const MECHANISM: &str = "_mechanism_weights";
    const CALLS: [&str; 12] = [
        "set_weights",
        "set_mechanism_weights",
        "commit_weights",
        "commit_mechanism_weights",
        "reveal_weights",
        "reveal_mechanism_weights",
        "commit_timelocked_weights",
        "commit_timelocked_mechanism_weights",
        "commit_crv3_mechanism_weights",
        "batch_set_weights",
        "batch_commit_weights",
        "batch_reveal_weights",
    ];
    if !CALLS.contains(&call) {
        return Err(Trouble::NotImplemented);
    }
    if call.starts_with("batch_") {
        return weighing_in_batches(call, arguments);
    }
    let netuid = arguments.next()?;
    let mecid = if call.ends_with(MECHANISM) { arguments.next()? } else { 0 };
    Ok(match call.split('_').next() {
        Some("set") => {
            let (dests, weights) = (arguments.next()?, arguments.next()?);
            Call::SetWeights { netuid, mecid, dests, weights, version_key: arguments.next()? }
        }
        Some("reveal") => {
            let (uids, values, salt) = (arguments.next()?, arguments.next()?, arguments.next()?);
            let shown = Shown { uids, values, salt, version_key: arguments.next()? };
            Call::RevealWeights(Reveal { netuid, mecid, shown })
        }
        _ if call == "commit_weights" || call == "commit_mechanism_weights" => {
            Call::CommitWeights(Commit { netuid, mecid, hash: arguments.next()? })
        }
        _ => {
            let ciphertext: Vec<u8> = arguments.next()?;
            if ciphertext.len() > WEIGHTS_BYTES_MAX {
                return Err(Trouble::Arguments);
            }
            let round = arguments.next()?;
            let version = if call.contains("crv3") { None } else { Some(arguments.next()?) };
            Call::CommitTimelocked(timelock::Commit { netuid, mecid, ciphertext, round, version })
        }
    })
}

fn weighing_in_batches(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    Ok(match call {
        "batch_set_weights" => {
            let (netuids, rows) = (arguments.next()?, arguments.next()?);
            Call::BatchSetWeights(weights::Batch { netuids, rows, version_keys: arguments.next()? })
        }
        "batch_commit_weights" => Call::BatchCommitWeights { netuids: arguments.next()?, hashes: arguments.next()? },
        _ => {
            let (netuid, uids, values) = (arguments.next()?, arguments.next()?, arguments.next()?);
            let salts = arguments.next()?;
            Call::BatchRevealWeights(BatchReveal { netuid, uids, values, salts, version_keys: arguments.next()? })
        }
    })
}

fn subtensor(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    match call {
        "burned_register" => {
            Ok(Call::BurnedRegister { netuid: arguments.next()?, hotkey: arguments.next()?, limit_price: None })
        }
        "register_limit" => {
            let (netuid, hotkey) = (arguments.next()?, arguments.next()?);
            Ok(Call::BurnedRegister { netuid, hotkey, limit_price: Some(arguments.next()?) })
        }
        "serve_axon" | "serve_axon_tls" => Ok(Call::ServeAxon(Axon {
            netuid: arguments.next()?,
            version: arguments.next()?,
            ip: arguments.next()?,
            port: arguments.next()?,
            ip_type: arguments.next()?,
            protocol: arguments.next()?,
            placeholder1: arguments.next()?,
            placeholder2: arguments.next()?,
            certificate: if call == "serve_axon_tls" { Some(arguments.next()?) } else { None },
        })),
        "serve_prometheus" => Ok(Call::ServePrometheus(Prometheus {
            netuid: arguments.next()?,
            version: arguments.next()?,
            ip: arguments.next()?,
            port: arguments.next()?,
            ip_type: arguments.next()?,
        })),
        "add_stake" | "remove_stake" | "add_stake_limit" | "remove_stake_limit" => {
            let (hotkey, netuid, rao) = (arguments.next()?, arguments.next()?, arguments.next()?);
            let limit = if call.ends_with("_limit") { Some((arguments.next()?, arguments.next()?)) } else { None };
            let wanted = stake::Wanted { hotkey, netuid, rao, limit };
            Ok(if call.starts_with("add") { Call::AddStake(wanted) } else { Call::RemoveStake(wanted) })
        }
        "swap_hotkey" | "swap_hotkey_v2" => Ok(Call::SwapHotkey(Swap {
            old: arguments.next()?,
            new: arguments.next()?,
            netuid: arguments.next()?,
            keep_stake: call == "swap_hotkey_v2" && arguments.next()?,
        })),
        _ => owning(call, arguments),
    }
}

/// What owners do with their subnets.
fn owning(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    match call {
        "register_network" => Ok(Call::RegisterNetwork { hotkey: arguments.next()?, identity: None }),
        "register_network_with_identity" => {
            let hotkey = arguments.next()?;
            // An option: its first byte says whether something follows.
            let identity = arguments.next_raw()?;
            let identity =
                identity.split_first().filter(|(some, _)| **some == 1).map(|(_, identity)| identity.to_vec());
            Ok(Call::RegisterNetwork { hotkey, identity })
        }
        "start_call" => Ok(Call::StartSubnet { netuid: arguments.next()? }),
        "set_tempo" => Ok(Call::SetTempo { netuid: arguments.next()?, tempo: arguments.next()? }),
        "trigger_epoch" => Ok(Call::TriggerEpoch { netuid: arguments.next()? }),
        _ => Err(Trouble::NotImplemented),
    }
}

fn proxies(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    match call {
        "add_proxy" | "remove_proxy" => {
            let delegate = arguments.next_account()?;
            let definition = Definition { delegate, proxy_type: arguments.next()?, delay: arguments.next()? };
            Ok(Call::ChangeProxy { definition, add: call == "add_proxy" })
        }
        "remove_proxies" => Ok(Call::RemoveProxies),
        _ => Err(Trouble::NotImplemented),
    }
}

fn commitments(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    match call {
        "set_commitment" => {
            let netuid = arguments.next()?;
            let info = Info::read(&arguments.next_raw()?).ok_or(Trouble::Arguments)?;
            Ok(Call::SetCommitment { netuid, info })
        }
        "set_max_space" => Ok(Call::SetMaxSpace(arguments.next()?)),
        _ => Err(Trouble::NotImplemented),
    }
}

fn balances(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    match call {
        "transfer_allow_death" | "transfer_keep_alive" => {
            let dest = arguments.next_account()?;
            let keep_alive = call == "transfer_keep_alive";
            Ok(Call::Transfer { dest, value: arguments.next()?, keep_alive })
        }
        "transfer_all" => Ok(Call::TransferAll { dest: arguments.next_account()?, keep_alive: arguments.next()? }),
        _ => Err(Trouble::NotImplemented),
    }
}

fn administration(call: &str, arguments: &mut Arguments<'_, '_, '_>) -> Result<Call, Trouble> {
    let setter = admin::setter(call).ok_or(Trouble::NotImplemented)?;
    let netuid = arguments.next()?;
    Ok(Call::Admin { setter, netuid, value: arguments.next_raw()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(hex_call: &str) -> Result<Call, Error> {
        let runtime = Runtime::embedded().unwrap();
        Call::decode(&runtime, &hex::decode(hex_call.trim_start_matches("0x")).unwrap())
    }

    #[test]
    fn recorded_calls_decode_or_are_refused_by_name() {
        let vectors = crate::devnet::testkit::vectors(439);
        let mut names = Vec::new();
        for recorded in vectors["calls"].as_array().unwrap() {
            names.push(match decode(recorded["data_hex"].as_str().unwrap()) {
                Ok(Call::Transfer { value, keep_alive, .. }) => format!("transfer {value} {keep_alive}"),
                Ok(Call::BurnedRegister { netuid, limit_price: None, .. }) => format!("register {netuid}"),
                Ok(Call::SetWeights { netuid, mecid, dests, weights, version_key }) => {
                    format!("weights {netuid} {mecid} {dests:?} {weights:?} {version_key}")
                }
                Ok(Call::Remark) => "remark".to_owned(),
                Ok(Call::Sudo(inner)) => format!("sudo {inner:?}"),
                Ok(Call::Batch { mode, calls }) => format!("{mode:?} of {}", calls.len()),
                Ok(Call::AddStake(wanted)) => format!("stake {} in {}", wanted.rao, wanted.netuid),
                Ok(Call::RemoveStake(wanted)) => format!("unstake {} of {}", wanted.rao, wanted.netuid),
                Ok(Call::Proxy { kind, call, .. }) => format!("proxy as {kind:?}, pays: {}", call.pays()),
                Ok(other) => panic!("{other:?}"),
                Err(error) => error.to_string(),
            });
        }
        assert_eq!(
            names,
            [
                "transfer 12345 true",
                "transfer 1 false",
                "stake 1000000000 in 1",
                "unstake 5 of 1",
                "register 1",
                "weights 1 0 [0, 1] [100, 200] 0",
                "remark",
                "sudo Remark",
                "Stop of 2",
                "proxy as Some(Transfer), pays: true",
            ]
        );
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels: usize| format!("{}00000400", "0c00".repeat(levels));
        assert!(decode(&format!("{}0000040a", "0c00".repeat(limits::CALL_DEPTH - 1))).is_ok());
        assert_eq!(decode(&nested(limits::CALL_DEPTH)).unwrap_err(), Error::TooDeep);
        assert_eq!(decode(&nested(100_000)).unwrap_err(), Error::TooDeep);
        // A batch may claim any length: it is bounded before anything is reserved.
        assert_eq!(decode("0b00feffffff").unwrap_err(), Error::TooDeep);
    }

    #[test]
    fn hostile_arguments_are_errors() {
        assert_eq!(decode("ff00").unwrap_err(), Error::Unknown(255, 0));
        assert_eq!(decode("07000100").unwrap_err(), Error::Arguments("SubtensorModule.set_weights".to_owned()));
        // Four thousand million weights, of which none follows.
        assert!(matches!(decode("0700010003ffffffff").unwrap_err(), Error::Arguments(_)));
        assert!(matches!(decode("0000040aff").unwrap_err(), Error::Arguments(_)));
    }
}

//! Proxies: accounts that may call for another one.
//!
//! Owns who may act for whom, what each kind of proxy may do, and the deposit for it. Refuses to know what a call
//! does. Dispatch uses it. Not here: announcements with a delay and accounts without a key.

use scale_decode::DecodeAsType;

use super::{Done, Failure, Origin, World, balances};
use crate::devnet::{call::Call, datum::Datum, items::Item, state::key};

/// The most proxies of one account; the runtime's constant, checked by a test.
pub const PROXIES: usize = 20;
/// The deposit for having any; the runtime's constant, checked by a test.
pub const DEPOSIT_BASE_RAO: u64 = 60_000_000;
/// The deposit for each; the runtime's constant, checked by a test.
pub const DEPOSIT_EACH_RAO: u64 = 33_000_000;
/// What a small transfer stays below.
const SMALL_TRANSFER_RAO: u64 = 500_000_000;

macro_rules! kinds {
    ($($kind:ident)*) => {
        /// What a proxy may do, by the runtime's names and in its order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, DecodeAsType)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            fn datum(self) -> Datum {
                Datum::unit(match self { $(Self::$kind => stringify!($kind),)* })
            }
        }
    };
}

kinds! {
    Any Owner NonCritical NonTransfer Senate NonFungible Triumvirate Governance Staking Registration Transfer
    SmallTransfer RootWeights ChildKeys SudoUncheckedSetCode SwapHotkey SubnetLeaseBeneficiary RootClaim
}

impl Kind {
    /// Whether such a proxy may make a call.
    pub fn allows(self, call: &Call) -> bool {
        let transfers = matches!(call, Call::Transfer { .. } | Call::TransferAll { .. });
        let stakes = matches!(call, Call::AddStake(_) | Call::RemoveStake(_));
        let burns = matches!(call, Call::BurnedRegister { limit_price: None, .. });
        match self {
            Self::Any => true,
            Self::NonTransfer => !transfers,
            Self::NonFungible => !transfers && !stakes && !burns && !matches!(call, Call::SwapHotkey { .. }),
            Self::NonCritical => !burns && !matches!(call, Call::Sudo(_)),
            Self::Transfer => transfers,
            Self::SmallTransfer => matches!(call, Call::Transfer { value, .. } if *value < SMALL_TRANSFER_RAO),
            Self::Owner => matches!(call, Call::Admin { setter, .. } if setter.item != Item::SubnetOwnerHotkey),
            Self::Staking => stakes,
            Self::Registration => matches!(call, Call::BurnedRegister { .. }),
            Self::SwapHotkey => matches!(call, Call::SwapHotkey { .. }),
            Self::SubnetLeaseBeneficiary => matches!(call, Call::StartSubnet { .. } | Call::Admin { .. }),
            Self::Senate | Self::Triumvirate | Self::Governance | Self::RootWeights => false,
            Self::ChildKeys | Self::SudoUncheckedSetCode | Self::RootClaim => false,
        }
    }

    fn contains(self, other: Self) -> bool {
        match (self, other) {
            (one, other) if one == other => true,
            (Self::Any, _) => true,
            (Self::NonTransfer, other) => !matches!(other, Self::Any | Self::Transfer | Self::SmallTransfer),
            (Self::Transfer, Self::SmallTransfer) => true,
            _ => false,
        }
    }
}

/// Who may act for an account, and how; in the order in which the chain stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, DecodeAsType)]
pub struct Definition {
    pub delegate: [u8; 32],
    pub proxy_type: Kind,
    pub delay: u32,
}

type Stored = (Vec<Definition>, u64);

fn failed(error: &'static str) -> Failure {
    Failure::Module("Proxy", error)
}

/// `proxy`: makes a call for another account. Whatever the call does, this one succeeds and tells the end in an event.
pub fn act(world: &mut World<'_>, delegate: [u8; 32], real: &[u8; 32], kind: Option<Kind>, call: &Call) -> Done {
    let (proxies, _deposit): Stored = world.state.get(Item::Proxies, key![real]);
    let fits = |one: &&Definition| one.delegate == delegate && kind.is_none_or(|kind| one.proxy_type == kind);
    let found = *proxies.iter().find(fits).ok_or(failed("NotProxy"))?;
    if found.delay != 0 {
        return Err(failed("Unannounced"));
    }
    let result = match world.dispatch_inner(Origin::Proxied(*real, found.proxy_type), call) {
        Ok(()) => Datum::tuple("Ok", vec![Datum::Tuple(Vec::new())]),
        Err(failure) => Datum::tuple("Err", vec![failure.datum(world)]),
    };
    world.emit("Proxy", "ProxyExecuted", vec![("result", result)]);
    Ok(())
}

/// Whether a proxy of this kind may make a call; it may not make a proxy that may more than it does itself.
pub fn may(kind: Kind, call: &Call) -> bool {
    match call {
        Call::ChangeProxy { definition, .. } => kind.contains(definition.proxy_type) && kind.allows(call),
        Call::RemoveProxies => kind == Kind::Any,
        _ => kind.allows(call),
    }
}

/// `add_proxy` and `remove_proxy`.
pub fn change(world: &mut World<'_>, who: &[u8; 32], definition: Definition, add: bool) -> Done {
    if add && definition.delegate == *who {
        return Err(failed("NoSelfProxy"));
    }
    let (mut proxies, deposit): Stored = world.state.get(Item::Proxies, key![who]);
    match (proxies.binary_search(&definition), add) {
        (Ok(_), true) => return Err(failed("Duplicate")),
        (Err(_), false) => return Err(failed("NotFound")),
        (Err(_), true) if proxies.len() >= PROXIES => return Err(failed("TooMany")),
        (Err(at), true) => proxies.insert(at, definition),
        (Ok(at), false) => drop(proxies.remove(at)),
    }
    put(world, who, &proxies, deposit)?;
    let fields = vec![
        ("delegator", Datum::account(who)),
        ("delegatee", Datum::account(&definition.delegate)),
        ("proxy_type", definition.proxy_type.datum()),
        ("delay", Datum::Num(definition.delay.into())),
    ];
    world.emit("Proxy", if add { "ProxyAdded" } else { "ProxyRemoved" }, fields);
    Ok(())
}

/// `remove_proxies`: all of them.
pub fn remove_all(world: &mut World<'_>, who: &[u8; 32]) -> Done {
    let (_, deposit): Stored = world.state.get(Item::Proxies, key![who]);
    put(world, who, &[], deposit)
}

fn put(world: &mut World<'_>, who: &[u8; 32], proxies: &[Definition], before_rao: u64) -> Done {
    let each = DEPOSIT_EACH_RAO * proxies.len() as u64;
    let deposit_rao = if proxies.is_empty() { 0 } else { DEPOSIT_BASE_RAO + each };
    if deposit_rao > before_rao {
        balances::reserve(world, who, deposit_rao - before_rao)?;
    } else {
        balances::unreserve(world, who, before_rao - deposit_rao);
    }
    if proxies.is_empty() {
        world.state.remove(Item::Proxies, key![who]);
        return Ok(());
    }
    let one = |one: &Definition| {
        Datum::Struct(vec![
            ("delegate", Datum::account(&one.delegate)),
            ("proxy_type", one.proxy_type.datum()),
            ("delay", Datum::Num(one.delay.into())),
        ])
    };
    let list = Datum::List(proxies.iter().map(one).collect());
    world.state.put(Item::Proxies, key![who], &Datum::Tuple(vec![list, Datum::Num(deposit_rao.into())]));
    Ok(())
}

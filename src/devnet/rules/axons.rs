//! Axons: where a neuron says that its server listens.
//!
//! Owns `serve_axon` and its checks. Refuses to know whether anybody listens there. Dispatch and the pool use it.

use scale_decode::DecodeAsType;
use scale_encode::EncodeAsType;

use super::{Done, Failure, World};
use crate::devnet::{call::Axon, datum::Datum, items::Item, state::key};

/// An axon as the chain stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DecodeAsType, EncodeAsType)]
struct Stored {
    block: u64,
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
    placeholder1: u8,
    placeholder2: u8,
}

/// What is wrong with an axon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    NotRegistered,
    IpType,
    Ip,
    Port,
    TooSoon,
}

/// Stores an axon.
pub fn serve(world: &mut World<'_>, hotkey: [u8; 32], axon: &Axon) -> Done {
    check(world, &hotkey, axon).map_err(|wrong| {
        Failure::subtensor(match wrong {
            Wrong::NotRegistered => "HotKeyNotRegisteredInNetwork",
            Wrong::IpType => "InvalidIpType",
            Wrong::Ip => "InvalidIpAddress",
            Wrong::Port => "InvalidPort",
            Wrong::TooSoon => "ServingRateLimitExceeded",
        })
    })?;
    let stored = Stored {
        block: world.now(),
        version: axon.version,
        ip: axon.ip,
        port: axon.port,
        ip_type: axon.ip_type,
        protocol: axon.protocol,
        placeholder1: axon.placeholder1,
        placeholder2: axon.placeholder2,
    };
    world.state.put(Item::Axons, key![axon.netuid, &hotkey], &stored);
    let fields = vec![Datum::Num(axon.netuid.into()), Datum::account(&hotkey)];
    world.emit_tuple("SubtensorModule", "AxonServed", fields);
    Ok(())
}

/// What the pool refuses, by the number behind `Custom error`.
pub fn guard(world: &World<'_>, hotkey: &[u8; 32], axon: &Axon) -> Result<(), u8> {
    check(world, hotkey, axon).map_err(|wrong| match wrong {
        Wrong::NotRegistered => 10,
        Wrong::IpType | Wrong::Ip => 11,
        Wrong::TooSoon => 12,
        Wrong::Port => 13,
    })
}

fn check(world: &World<'_>, hotkey: &[u8; 32], axon: &Axon) -> Result<(), Wrong> {
    let state = &world.state;
    if !state.has(Item::Uids, key![axon.netuid, hotkey]) {
        return Err(Wrong::NotRegistered);
    }
    if axon.ip_type != 4 && axon.ip_type != 6 {
        return Err(Wrong::IpType);
    }
    if !is_public(axon.ip, axon.ip_type) {
        return Err(Wrong::Ip);
    }
    if axon.port == 0 {
        return Err(Wrong::Port);
    }
    let limit: u64 = state.get(Item::ServingRateLimit, key![axon.netuid]);
    let last = state.find::<Stored>(Item::Axons, key![axon.netuid, hotkey]).map(|stored| stored.block);
    if last.is_some_and(|last| last != 0 && world.now().saturating_sub(last) < limit) {
        return Err(Wrong::TooSoon);
    }
    Ok(())
}

/// Not zero, not the loopback, not all ones.
fn is_public(ip: u128, ip_type: u8) -> bool {
    const IPV4_LOOPBACK: u128 = 0x7f00_0001;
    const IPV6_LOOPBACK: u128 = 1;
    match ip_type {
        4 => ip != 0 && ip != IPV4_LOOPBACK && ip < u128::from(u32::MAX),
        _ => ip != 0 && ip != IPV6_LOOPBACK && ip != u128::MAX,
    }
}

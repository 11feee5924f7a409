//! Servers: where a neuron says that its axon and its Prometheus listen.
//!
//! Owns `serve_axon`, `serve_axon_tls` and `serve_prometheus` and their checks. Refuses to know whether anybody listens
//! there. Dispatch and the pool use it.

use scale_decode::DecodeAsType;
use scale_encode::EncodeAsType;

use super::{Done, Failure, World};
use crate::devnet::{
    call::{Axon, Prometheus},
    datum::Datum,
    items::Item,
    state::key,
};

/// Bytes of a certificate's public key; one more says the algorithm.
const CERTIFICATE_KEY_BYTES: usize = 64;

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

/// A Prometheus as the chain stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DecodeAsType, EncodeAsType)]
struct StoredPrometheus {
    block: u64,
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
}

/// Stores an axon.
pub fn serve(world: &mut World<'_>, hotkey: [u8; 32], axon: &Axon) -> Done {
    guard(world, &hotkey, axon).map_err(Failure::subtensor)?;
    if let Some((algorithm, key)) = axon.certificate.as_deref().and_then(<[u8]>::split_first)
        && key.len() <= CERTIFICATE_KEY_BYTES
    {
        let certificate = Datum::Struct(vec![
            ("public_key", Datum::Bytes(key.to_vec())),
            ("algorithm", Datum::Num((*algorithm).into())),
        ]);
        world.state.put(Item::NeuronCertificates, key![axon.netuid, &hotkey], &certificate);
    }
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

/// What is wrong with an axon, by the name of the chain's error. An address of zero is allowed: the chain uses it for
/// tests.
pub fn guard(world: &World<'_>, hotkey: &[u8; 32], axon: &Axon) -> Result<(), &'static str> {
    check_registered(world, axon.netuid, hotkey)?;
    check_address(axon.ip, axon.ip_type, true)?;
    let last = world.state.find::<Stored>(Item::Axons, key![axon.netuid, hotkey]).map_or(0, |stored| stored.block);
    check_rate(world, axon.netuid, last)?;
    if axon.port == 0 { Err("InvalidPort") } else { Ok(()) }
}

/// Stores a Prometheus.
pub fn serve_prometheus(world: &mut World<'_>, hotkey: [u8; 32], given: &Prometheus) -> Done {
    guard_prometheus(world, &hotkey, given).map_err(Failure::subtensor)?;
    let Prometheus { netuid, version, ip, port, ip_type } = *given;
    let stored = StoredPrometheus { block: world.now(), version, ip, port, ip_type };
    world.state.put(Item::Prometheus, key![netuid, &hotkey], &stored);
    let fields = vec![Datum::Num(netuid.into()), Datum::account(&hotkey)];
    world.emit_tuple("SubtensorModule", "PrometheusServed", fields);
    Ok(())
}

/// What is wrong with a Prometheus, by the name of the chain's error; the order is not that of axons.
pub fn guard_prometheus(world: &World<'_>, hotkey: &[u8; 32], given: &Prometheus) -> Result<(), &'static str> {
    check_address(given.ip, given.ip_type, false)?;
    check_registered(world, given.netuid, hotkey)?;
    let stored = world.state.find::<StoredPrometheus>(Item::Prometheus, key![given.netuid, hotkey]);
    check_rate(world, given.netuid, stored.map_or(0, |stored| stored.block))?;
    if given.port == 0 { Err("InvalidPort") } else { Ok(()) }
}

fn check_registered(world: &World<'_>, netuid: u16, hotkey: &[u8; 32]) -> Result<(), &'static str> {
    if world.state.has(Item::Uids, key![netuid, hotkey]) { Ok(()) } else { Err("HotKeyNotRegisteredInNetwork") }
}

fn check_address(ip: u128, ip_type: u8, allow_zero: bool) -> Result<(), &'static str> {
    if ip_type != 4 && ip_type != 6 {
        return Err("InvalidIpType");
    }
    if is_reachable(ip, ip_type) && (ip != 0 || allow_zero) { Ok(()) } else { Err("InvalidIpAddress") }
}

fn check_rate(world: &World<'_>, netuid: u16, last: u64) -> Result<(), &'static str> {
    let limit: u64 = world.state.get(Item::ServingRateLimit, key![netuid]);
    if last != 0 && world.now().saturating_sub(last) < limit { Err("ServingRateLimitExceeded") } else { Ok(()) }
}

/// Not the loopback, not all ones or more.
const fn is_reachable(ip: u128, ip_type: u8) -> bool {
    const IPV4_LOOPBACK: u128 = 0x7f00_0001;
    const IPV6_LOOPBACK: u128 = 1;
    match ip_type {
        4 => ip != IPV4_LOOPBACK && ip < u32::MAX as u128,
        _ => ip != IPV6_LOOPBACK && ip != u128::MAX,
    }
}

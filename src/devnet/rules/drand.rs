//! Pulses: the beacon's rounds as the chain knows them.
//!
//! Owns which pulses are stored, who may add one and when old ones go. Refuses to know what is opened with them. Block
//! start, dispatch and the controls use it. Different from the chain: the devnet writes its own beacon's pulses itself
//! at the start of a block, where a real node gets them by unsigned extrinsics of its neighbours; and it keeps fewer.

use scale_decode::DecodeAsType;

use super::World;
use crate::{
    chain::timelock::{self, Beacon},
    devnet::{
        beacon::Own,
        datum::Datum,
        items::Item,
        limits,
        state::{State, key},
    },
};

/// A pulse as the chain stores it, as far as anything is opened with it.
#[derive(Debug, Clone, PartialEq, Eq, DecodeAsType)]
struct Pulse {
    signature: Vec<u8>,
}

/// What the chain says about its beacon, as far as anything depends on it.
#[derive(Debug, Clone, DecodeAsType)]
struct Config {
    public_key: Vec<u8>,
    period: u32,
    genesis_time: u32,
}

/// The signature of a round, if its pulse is stored.
pub fn signature(state: &State<'_>, round: u64) -> Option<Vec<u8>> {
    state.find::<Pulse>(Item::Pulses, key![round]).map(|pulse| pulse.signature)
}

/// The beacon that the chain trusts; `None` when what is stored is not one.
pub fn beacon(state: &State<'_>) -> Option<Beacon> {
    let config: Config = state.get(Item::BeaconConfig, &[]);
    Beacon::new(&config.public_key, config.genesis_time.into(), config.period.into()).ok()
}

/// Publishes the devnet's own beacon in its first block, and in each the rounds that its time has reached.
pub fn start_block(world: &mut World<'_>, own: &Own, now_ms: u64) {
    let now_s = now_ms / 1000;
    if !world.state.has(Item::BeaconConfig, &[]) {
        let config = own.config(now_s);
        world.state.put(Item::BeaconConfig, &[], &config);
        world.emit("Drand", "BeaconConfigChanged", Vec::new());
    }
    let Some(beacon) = beacon(&world.state).filter(|beacon| beacon.key() == own.key()) else { return };
    let stored: u64 = world.state.get(Item::LastStoredRound, &[]);
    let last = beacon.last_round(now_s);
    // After a long jump the rounds that would be forgotten at once are not made at all.
    let first = (stored + 1).max(last.saturating_sub(limits::PULSES_KEPT - 1));
    let last = last.min(first.saturating_add(limits::PULSES_PER_BLOCK - 1));
    let rounds: Vec<u64> = (first..=last).collect();
    let Some(newest) = rounds.last().copied() else { return };
    for round in &rounds {
        // A real pulse that somebody put there is worth more than ours.
        if !world.state.has(Item::Pulses, key![*round]) {
            put(world, *round, &own.sign(*round));
        }
    }
    note(world, newest, first);
    forget(world, newest, limits::PULSES_KEPT);
    world.emit("Drand", "NewPulse", vec![("rounds", Datum::numbers(rounds))]);
}

fn put(world: &mut World<'_>, round: u64, signature: &[u8]) {
    let pulse = Datum::Struct(vec![
        ("round", Datum::Num(round.into())),
        ("randomness", Datum::Bytes(timelock::randomness(signature).to_vec())),
        ("signature", Datum::Bytes(signature.to_vec())),
    ]);
    world.state.put(Item::Pulses, key![round], &pulse);
}

/// Counts new rounds; the first ever is also the oldest.
fn note(world: &mut World<'_>, newest: u64, first: u64) {
    let state = &mut world.state;
    let (last, oldest): (u64, u64) = (state.get(Item::LastStoredRound, &[]), state.get(Item::OldestStoredRound, &[]));
    if last == 0 && oldest == 0 {
        state.put(Item::OldestStoredRound, &[], &first);
    }
    state.put(Item::LastStoredRound, &[], &newest);
}

/// Forgets the oldest pulses, a bounded number at a time.
fn forget(world: &mut World<'_>, newest: u64, kept: u64) {
    let mut oldest: u64 = world.state.get(Item::OldestStoredRound, &[]);
    let before = oldest;
    if oldest == 0 {
        return;
    }
    while (newest + 1).saturating_sub(oldest) > kept && oldest - before < limits::PULSES_PER_BLOCK {
        world.state.remove(Item::Pulses, key![oldest]);
        oldest += 1;
    }
    if oldest != before {
        world.state.put(Item::OldestStoredRound, &[], &oldest);
    }
}

/// Stores a real pulse of quicknet, by a control. It is checked, so it cannot lie; it does not move the last round.
pub fn inject(world: &mut World<'_>, round: u64, signature: &[u8]) -> Result<(), String> {
    if round == 0 || !Beacon::quicknet().verify(round, signature) {
        return Err(format!("this is not quicknet's signature of round {round}"));
    }
    put(world, round, signature);
    world.emit("Drand", "NewPulse", vec![("rounds", Datum::numbers([round]))]);
    Ok(())
}

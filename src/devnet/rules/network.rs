//! What owners do with subnets: make one, start it, set its tempo, ask for an epoch.
//!
//! Owns `register_network`, `start_call`, `set_tempo` and `trigger_epoch` with the chain's checks in its order, and
//! the price of a subnet. Refuses to know what happens in a subnet. Dispatch and the answers use it. Simplified: no
//! rate limits on owners, a full chain refuses instead of dissolving a subnet, the price is burned, and the pool of a
//! new subnet is that of one made by the control.

use super::{Done, Failure, World, balances, registration, subnets};
use crate::devnet::{
    datum::Datum,
    items::Item,
    state::{Part, State, key},
};

/// The shortest tempo that an owner may set; the longest is the one after which an epoch runs in any case.
const TEMPO_LEAST: u16 = 360;
/// The longest tempo that an owner may set.
const TEMPO_MOST: u16 = 50_400;
/// The rate-limit key under which the chain keeps the block of the last new subnet.
const LAST_NETWORK: Part<'static> = Part::U8(2);

fn failed(error: &'static str) -> Failure {
    Failure::subtensor(error)
}

/// What a new subnet costs: twice the last price, falling to the least one.
pub fn cost(state: &State<'_>, now: u64) -> u64 {
    let (last, least): (u64, u64) = (state.get(Item::LastLockCost, &[]), state.get(Item::MinLockCost, &[]));
    let interval: u64 = state.get(Item::LockReductionInterval, &[]);
    let block: u64 = state.get(Item::LastRateLimited, &[LAST_NETWORK]);
    let doubled = last.saturating_mul(if block == 0 { 1 } else { 2 });
    let fallen = last.checked_div(interval).unwrap_or(0).saturating_mul(now.saturating_sub(block));
    doubled.saturating_sub(fallen).max(least)
}

/// `register_network` and `register_network_with_identity`.
pub fn register(world: &mut World<'_>, coldkey: [u8; 32], hotkey: &[u8; 32], identity: Option<&[u8]>) -> Done {
    if world.state.find::<[u8; 32]>(Item::Owner, key![hotkey]).is_some_and(|owner| owner != coldkey) {
        return Err(failed("NonAssociatedColdKey"));
    }
    let limit: u16 = world.state.get(Item::SubnetLimit, &[]);
    if subnets::all(&world.state).len() > usize::from(limit) {
        return Err(failed("SubnetLimitReached"));
    }
    let now = world.now();
    let cost_rao = cost(&world.state, now);
    if balances::free(&world.state, &coldkey) < cost_rao {
        return Err(failed("CannotAffordLockCost"));
    }
    balances::withdraw(world, &coldkey, cost_rao)?;
    balances::burn(world, cost_rao);
    world.state.put(Item::LastLockCost, &[], &cost_rao);
    world.state.put(Item::LastRateLimited, &[LAST_NETWORK], &now);
    let netuid = subnets::free(&world.state).ok_or(failed("SubnetLimitReached"))?;
    subnets::fill(world, netuid, coldkey, *hotkey);
    let state = &mut world.state;
    let tempo: u16 = state.get(Item::Tempo, key![netuid]);
    // Subnets made at once do not all run their epochs at once.
    let stagger = u64::from(netuid) % u64::from(tempo.max(1));
    state.put(Item::LastEpochBlock, key![netuid], &now.saturating_sub(stagger));
    state.put(Item::MaxAllowedUids, key![netuid], &256_u16);
    state.put(Item::MaxAllowedValidators, key![netuid], &64_u16);
    state.put(Item::ImmunityPeriod, key![netuid], &5_000_u16);
    state.put(Item::Yuma3, key![netuid], &true);
    // It has no alpha before its owner starts it.
    state.put(Item::SubtokenEnabled, key![netuid], &false);
    state.remove(Item::FirstEmissionBlock, key![netuid]);
    state.put(Item::SubnetLocked, key![netuid], &cost_rao);
    if let Some(identity) = identity {
        let storage_key = state.key(Item::SubnetIdentity, key![netuid]);
        state.put_raw(storage_key, Some(identity.into()));
        world.emit_tuple("SubtensorModule", "SubnetIdentitySet", vec![Datum::Num(netuid.into())]);
    }
    registration::grant(world, netuid, hotkey, &coldkey)?;
    world.emit_tuple("SubtensorModule", "NetworkAdded", vec![Datum::Num(netuid.into()), Datum::Num(1)]);
    Ok(())
}

/// `start_call`: from the next block on a subnet has its alpha.
pub fn start(world: &mut World<'_>, signer: [u8; 32], netuid: u16) -> Done {
    if !subnets::exists(&world.state, netuid) {
        return Err(failed("SubnetNotExists"));
    }
    check_owner(world, signer, netuid)?;
    if world.state.has(Item::FirstEmissionBlock, key![netuid]) {
        return Err(failed("FirstEmissionBlockNumberAlreadySet"));
    }
    let registered: u64 = world.state.get(Item::NetworkRegisteredAt, key![netuid]);
    let delay: u64 = world.state.get(Item::StartCallDelay, &[]);
    if world.now() < registered.saturating_add(delay) {
        return Err(failed("NeedWaitingMoreBlocksToStarCall"));
    }
    let next = world.now() + 1;
    world.state.put(Item::FirstEmissionBlock, key![netuid], &next);
    world.state.put(Item::SubtokenEnabled, key![netuid], &true);
    let fields = vec![Datum::Num(netuid.into()), Datum::Num(next.into())];
    world.emit_tuple("SubtensorModule", "FirstEmissionBlockNumberSet", fields);
    Ok(())
}

/// `set_tempo`: the time to the next epoch begins anew.
pub fn set_tempo(world: &mut World<'_>, signer: [u8; 32], netuid: u16, tempo: u16) -> Done {
    check_owner(world, signer, netuid)?;
    if !(TEMPO_LEAST..=TEMPO_MOST).contains(&tempo) {
        return Err(failed("TempoOutOfBounds"));
    }
    let pending: u64 = world.state.get(Item::PendingEpochAt, key![netuid]);
    if pending > world.now() || left(world, netuid) < window(world) {
        return Err(failed("AdminActionProhibitedDuringWeightsWindow"));
    }
    let now = world.now();
    world.state.put(Item::Tempo, key![netuid], &tempo);
    world.state.put(Item::LastEpochBlock, key![netuid], &now);
    world.emit_tuple("SubtensorModule", "TempoSet", vec![Datum::Num(netuid.into()), Datum::Num(tempo.into())]);
    Ok(())
}

/// `trigger_epoch`: an epoch as soon as the window in which owners may change nothing has passed.
pub fn trigger(world: &mut World<'_>, signer: [u8; 32], netuid: u16) -> Done {
    check_owner(world, signer, netuid)?;
    if world.state.get(Item::CommitRevealEnabled, key![netuid]) {
        return Err(failed("DynamicTempoBlockedByCommitReveal"));
    }
    if world.state.get::<u64>(Item::PendingEpochAt, key![netuid]) != 0 {
        return Err(failed("EpochTriggerAlreadyPending"));
    }
    if left(world, netuid) < window(world) {
        return Err(failed("AutoEpochAlreadyImminent"));
    }
    let fires_at = world.now() + window(world);
    world.state.put(Item::PendingEpochAt, key![netuid], &fires_at);
    let fields = vec![
        ("netuid", Datum::Num(netuid.into())),
        ("by", Datum::account(&signer)),
        ("fires_at", Datum::Num(fires_at.into())),
    ];
    world.emit("SubtensorModule", "EpochTriggered", fields);
    Ok(())
}

fn check_owner(world: &World<'_>, signer: [u8; 32], netuid: u16) -> Done {
    let owner: Option<[u8; 32]> = world.state.find(Item::SubnetOwner, key![netuid]);
    if owner == Some(signer) { Ok(()) } else { Err(Failure::BadOrigin) }
}

/// Blocks until the next epoch by the tempo.
fn left(world: &World<'_>, netuid: u16) -> u64 {
    let (tempo, last): (u16, u64) =
        (world.state.get(Item::Tempo, key![netuid]), world.state.get(Item::LastEpochBlock, key![netuid]));
    if tempo == 0 { u64::MAX } else { last.saturating_add(tempo.into()).saturating_sub(world.now()) }
}

fn window(world: &World<'_>) -> u64 {
    world.state.get::<u16>(Item::AdminFreezeWindow, &[]).into()
}

//! Swaps: another hotkey takes the place of one.
//!
//! Owns `swap_hotkey` and `swap_hotkey_v2` with the chain's checks in its order. Refuses to know why. Dispatch uses it.
//! Commitments stay with the old hotkey, as on chain. Simplified: no rate limit on transactions of a coldkey.

use super::{Done, Failure, World, balances, stake, subnets};
use crate::devnet::{
    datum::Datum,
    items::Item,
    state::{State, key},
};

/// What a swap in one subnet costs; the runtime's constant, checked by a test.
pub const SUBNET_COST_RAO: u64 = 1_000_000;
/// What a swap in all subnets costs; the runtime's constant, checked by a test.
pub const COST_RAO: u64 = 100_000_000;
/// Blocks between two swaps of a coldkey in one subnet; the runtime's constant, checked by a test.
pub const INTERVAL_BLOCKS: u64 = 7_200;

/// What one call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    pub old: [u8; 32],
    pub new: [u8; 32],
    pub netuid: Option<u16>,
    pub keep_stake: bool,
}

/// Swaps a hotkey in one subnet or in all.
pub fn swap(world: &mut World<'_>, coldkey: [u8; 32], given: &Swap) -> Done {
    let Swap { old, new, netuid, keep_stake } = *given;
    check(world, &coldkey, given)?;
    let netuids = match netuid {
        Some(netuid) => vec![netuid],
        None => subnets::all(&world.state),
    };
    let touched: Vec<u16> = netuids.iter().copied().filter(|netuid| is_member(&world.state, *netuid, &old)).collect();
    let limited = if netuid.is_some() { netuids.clone() } else { touched };
    for netuid in &limited {
        check_interval(world, &coldkey, *netuid, given.netuid.is_some())?;
    }
    let cost_rao = if netuid.is_some() { SUBNET_COST_RAO } else { COST_RAO };
    if balances::free(&world.state, &coldkey) < cost_rao {
        return Err(Failure::subtensor("NotEnoughBalanceToPaySwapHotKey"));
    }
    balances::withdraw(world, &coldkey, cost_rao)?;
    balances::burn(world, cost_rao);
    own(world, &coldkey, given);
    for netuid in netuids {
        move_places(world, netuid, &old, &new);
        if !keep_stake {
            move_stake(world, netuid, &old, &new);
        }
    }
    let now = world.now();
    for netuid in limited {
        world.state.put(Item::LastHotkeySwap, key![netuid, &coldkey], &now);
    }
    let mut fields = vec![
        ("coldkey", Datum::account(&coldkey)),
        ("old_hotkey", Datum::account(&old)),
        ("new_hotkey", Datum::account(&new)),
    ];
    match netuid {
        None => world.emit("SubtensorModule", "HotkeySwapped", fields),
        Some(netuid) => {
            fields.push(("netuid", Datum::Num(netuid.into())));
            world.emit("SubtensorModule", "HotkeySwappedOnSubnet", fields);
        }
    }
    Ok(())
}

fn check(world: &World<'_>, coldkey: &[u8; 32], given: &Swap) -> Done {
    let state = &world.state;
    let owner = |hotkey: &[u8; 32]| state.find::<[u8; 32]>(Item::Owner, key![hotkey]);
    if owner(&given.old) != Some(*coldkey) || owner(&given.new).is_some_and(|owner| owner != *coldkey) {
        return Err(Failure::subtensor("NonAssociatedColdKey"));
    }
    if given.old == given.new {
        return Err(Failure::subtensor("NewHotKeyIsSameWithOld"));
    }
    let netuids = given.netuid.map_or_else(|| subnets::all(state), |netuid| vec![netuid]);
    if netuids.iter().any(|netuid| is_member(state, *netuid, &given.new)) {
        return Err(Failure::subtensor("HotKeyAlreadyRegisteredInSubNet"));
    }
    let touches_root = given.netuid.is_none_or(|netuid| netuid == subnets::ROOT);
    if touches_root && state.get::<u64>(Item::TotalHotkeyAlpha, key![&given.new, subnets::ROOT]) > 0 {
        return Err(Failure::subtensor("NewHotKeyNotCleanForRootSwap"));
    }
    Ok(())
}

fn is_member(state: &State<'_>, netuid: u16, hotkey: &[u8; 32]) -> bool {
    state.has(Item::Uids, key![netuid, hotkey])
}

/// A swap in one subnet counts from the chain's first block, one in all only from an earlier swap.
fn check_interval(world: &World<'_>, coldkey: &[u8; 32], netuid: u16, always: bool) -> Done {
    let last: u64 = world.state.get(Item::LastHotkeySwap, key![netuid, coldkey]);
    if (always || last != 0) && last.saturating_add(INTERVAL_BLOCKS) >= world.now() {
        return Err(Failure::subtensor("HotKeySwapOnSubnetIntervalNotPassed"));
    }
    Ok(())
}

/// The new hotkey is the coldkey's; the old one is not any more when it is swapped everywhere.
fn own(world: &mut World<'_>, coldkey: &[u8; 32], given: &Swap) {
    let state = &mut world.state;
    let mut owned: Vec<[u8; 32]> = state.get(Item::OwnedHotkeys, key![coldkey]);
    if given.netuid.is_none() {
        state.remove(Item::Owner, key![&given.old]);
        owned.retain(|hotkey| *hotkey != given.old);
    }
    if !owned.contains(&given.new) {
        owned.push(given.new);
    }
    state.put(Item::Owner, key![&given.new], coldkey);
    state.put(Item::OwnedHotkeys, key![coldkey], &owned);
}

/// Everything of a neuron that is found by its hotkey, except its commitments.
fn move_places(world: &mut World<'_>, netuid: u16, old: &[u8; 32], new: &[u8; 32]) {
    let state = &mut world.state;
    if let Some(uid) = state.find::<u16>(Item::Uids, key![netuid, old]) {
        state.remove(Item::Uids, key![netuid, old]);
        state.put(Item::Uids, key![netuid, new], &uid);
        state.put(Item::Keys, key![netuid, uid], new);
        state.remove(Item::IsNetworkMember, key![old, netuid]);
        state.put(Item::IsNetworkMember, key![new, netuid], &true);
        for item in [Item::Axons, Item::Prometheus, Item::NeuronCertificates] {
            move_raw(state, state.key(item, key![netuid, old]), state.key(item, key![netuid, new]));
        }
        for index in subnets::indices(state, netuid) {
            let item = Item::WeightCommits;
            move_raw(state, state.key(item, key![index, old]), state.key(item, key![index, new]));
        }
    }
    if subnets::is_owner_hotkey(state, netuid, old) {
        state.put(Item::SubnetOwnerHotkey, key![netuid], new);
    }
}

fn move_raw(state: &mut State<'_>, from: Vec<u8>, to: Vec<u8>) {
    if let Some(value) = state.raw(&from) {
        state.put_raw(from, None);
        state.put_raw(to, Some(value));
    }
}

fn move_stake(world: &mut World<'_>, netuid: u16, old: &[u8; 32], new: &[u8; 32]) {
    let prefix = world.state.prefix(Item::AlphaShare, key![old]);
    let keys = world.state.keys(&prefix);
    // The coldkey lies behind its hash of 16 bytes, the netuid at the end.
    let coldkeys = keys.iter().filter_map(|key| {
        let at_netuid = key.len().checked_sub(2)?;
        let here = key.get(at_netuid..)? == netuid.to_le_bytes();
        here.then(|| key.get(at_netuid - 32..at_netuid)?.try_into().ok()).flatten()
    });
    for coldkey in coldkeys.collect::<Vec<[u8; 32]>>() {
        let moved = stake::of(&world.state, old, &coldkey, netuid);
        let there = stake::of(&world.state, new, &coldkey, netuid);
        stake::set(world, old, &coldkey, netuid, 0);
        stake::set(world, new, &coldkey, netuid, there.saturating_add(moved));
    }
}

//! Registration: its price, its checks, and which uid a newcomer gets.
//!
//! Owns `burned_register` and `register_limit` with the chain's checks in its order, the price curve, and the choice
//! of whom a full subnet replaces. Refuses to know weights. Dispatch and block start use it. Simplified: the burned
//! TAO leaves the issuance instead of being swapped through the subnet's pool.

use super::{Done, Failure, World, balances, subnets};
use crate::devnet::{
    datum::Datum,
    items::Item,
    state::{State, key},
};

/// Registers a hotkey for the present price; checks in the chain's order.
pub fn burned(world: &mut World<'_>, coldkey: [u8; 32], netuid: u16, hotkey: &[u8; 32], limit: Option<u64>) -> Done {
    let state = &world.state;
    let failed = |error| Err(Failure::subtensor(error));
    if netuid == subnets::ROOT {
        return failed("RegistrationNotPermittedOnRootSubnet");
    }
    if !subnets::exists(state, netuid) {
        return failed("SubnetNotExists");
    }
    let price: u64 = state.get(Item::Burn, key![netuid]);
    if limit.is_some_and(|limit| price > limit) {
        return failed("RegistrationPriceLimitExceeded");
    }
    if !state.get::<bool>(Item::RegistrationAllowed, key![netuid]) {
        return failed("SubNetRegistrationDisabled");
    }
    if state.has(Item::Uids, key![netuid, hotkey]) {
        return failed("HotKeyAlreadyRegisteredInSubNet");
    }
    if balances::free(state, &coldkey) < price {
        return failed("NotEnoughBalanceToStake");
    }
    if state.find::<[u8; 32]>(Item::Owner, key![hotkey]).is_some_and(|owner| owner != coldkey) {
        return failed("NonAssociatedColdKey");
    }
    balances::withdraw(world, &coldkey, price)?;
    balances::burn(world, price);
    let recycled: u64 = world.state.get(Item::RaoRecycled, key![netuid]);
    world.state.put(Item::RaoRecycled, key![netuid], &recycled.saturating_add(price));
    grant(world, netuid, hotkey, &coldkey)?;
    raise_price(world, netuid);
    Ok(())
}

/// Gives a hotkey a uid without asking for anything: what remains of a registration once it is paid.
pub fn grant(world: &mut World<'_>, netuid: u16, hotkey: &[u8; 32], coldkey: &[u8; 32]) -> Done {
    associate(world, hotkey, coldkey);
    let size = subnets::size(&world.state, netuid);
    let most: u16 = world.state.get(Item::MaxAllowedUids, key![netuid]);
    if most == 0 {
        return Err(Failure::subtensor("NoNeuronIdAvailable"));
    }
    let uid = if size < most {
        world.state.put(Item::SubnetworkN, key![netuid], &(size + 1));
        size
    } else {
        let Some(uid) = replaceable(world, netuid) else { return Err(Failure::subtensor("NoNeuronIdAvailable")) };
        remove(world, netuid, uid);
        uid
    };
    place(world, netuid, uid, hotkey);
    let this_block: u16 = world.state.get(Item::RegistrationsThisBlock, key![netuid]);
    world.state.put(Item::RegistrationsThisBlock, key![netuid], &this_block.saturating_add(1));
    let fields = vec![Datum::Num(netuid.into()), Datum::Num(uid.into()), Datum::account(hotkey)];
    world.emit_tuple("SubtensorModule", "NeuronRegistered", fields);
    Ok(())
}

/// The first use of a hotkey makes it the coldkey's.
fn associate(world: &mut World<'_>, hotkey: &[u8; 32], coldkey: &[u8; 32]) {
    if world.state.has(Item::Owner, key![hotkey]) {
        return;
    }
    world.state.put(Item::Owner, key![hotkey], coldkey);
    let mut owned: Vec<[u8; 32]> = world.state.get(Item::OwnedHotkeys, key![coldkey]);
    owned.push(*hotkey);
    world.state.put(Item::OwnedHotkeys, key![coldkey], &owned);
}

/// Writes the entries of a new neuron.
fn place(world: &mut World<'_>, netuid: u16, uid: u16, hotkey: &[u8; 32]) {
    let now = world.now();
    let state = &mut world.state;
    state.put(Item::Keys, key![netuid, uid], hotkey);
    state.put(Item::Uids, key![netuid, hotkey], &uid);
    state.put(Item::IsNetworkMember, key![hotkey, netuid], &true);
    state.put(Item::BlockAtRegistration, key![netuid, uid], &now);
    subnets::set_at(state, Item::Active, netuid, uid, true);
    subnets::set_at(state, Item::ValidatorPermit, netuid, uid, false);
    subnets::set_at(state, Item::Emission, netuid, uid, 0_u64);
    for item in [Item::Consensus, Item::Dividends, Item::ValidatorTrust] {
        subnets::set_at(state, item, netuid, uid, 0_u16);
    }
    for index in subnets::indices(state, netuid) {
        subnets::set_at(state, Item::Incentive, index, uid, 0_u16);
        subnets::set_at(state, Item::LastUpdate, index, uid, now);
    }
}

/// Clears what a replaced neuron leaves. Its commitment stays, as on chain.
fn remove(world: &mut World<'_>, netuid: u16, uid: u16) {
    let state = &mut world.state;
    let old: [u8; 32] = state.get(Item::Keys, key![netuid, uid]);
    state.remove(Item::Uids, key![netuid, &old]);
    state.remove(Item::IsNetworkMember, key![&old, netuid]);
    for item in [Item::Axons, Item::Prometheus, Item::NeuronCertificates] {
        state.remove(item, key![netuid, &old]);
    }
    for index in subnets::indices(state, netuid) {
        state.remove(Item::Weights, key![index, uid]);
        state.remove(Item::Bonds, key![index, uid]);
    }
}

/// Whom a full subnet replaces: the lowest emission, then the oldest registration, then the lowest uid; those out of
/// immunity first while enough of them remain, and never an owner's hotkey within its limit.
fn replaceable(world: &World<'_>, netuid: u16) -> Option<u16> {
    let state = &world.state;
    let emission: Vec<u64> = state.get(Item::Emission, key![netuid]);
    let immunity: u16 = state.get(Item::ImmunityPeriod, key![netuid]);
    let spared: u16 = state.get(Item::MinNonImmuneUids, key![netuid]);
    let immortal = immortals(state, netuid);
    let mut mortal = Vec::new();
    let mut immune = Vec::new();
    for (uid, hotkey) in (0_u16..).zip(subnets::hotkeys(state, netuid)) {
        if immortal.contains(&hotkey) {
            continue;
        }
        let registered: u64 = state.get(Item::BlockAtRegistration, key![netuid, uid]);
        let rank = (emission.get(usize::from(uid)).copied().unwrap_or(0), registered, uid);
        let is_immune = world.now().saturating_sub(registered) < u64::from(immunity);
        if is_immune { immune.push(rank) } else { mortal.push(rank) }
    }
    let from_mortal = mortal.len() > usize::from(spared);
    let chosen = if from_mortal { mortal.iter().min() } else { immune.iter().min() };
    chosen.map(|(_, _, uid)| *uid)
}

/// The owner's hotkeys that are never replaced, the owner's chosen one first.
fn immortals(state: &State<'_>, netuid: u16) -> Vec<[u8; 32]> {
    let most: u16 = state.get(Item::ImmuneOwnerUids, key![netuid]);
    let mut immortal = Vec::new();
    immortal.extend(state.find::<[u8; 32]>(Item::SubnetOwnerHotkey, key![netuid]));
    if let Some(owner) = state.find::<[u8; 32]>(Item::SubnetOwner, key![netuid]) {
        let owned: Vec<[u8; 32]> = state.get(Item::OwnedHotkeys, key![&owner]);
        let registered = owned.into_iter().filter(|hotkey| state.has(Item::Uids, key![netuid, hotkey]));
        let others: Vec<_> = registered.filter(|hotkey| !immortal.contains(hotkey)).collect();
        immortal.extend(others);
    }
    immortal.truncate(usize::from(most));
    immortal
}

/// Each registration makes the next one dearer at once.
fn raise_price(world: &mut World<'_>, netuid: u16) {
    let state = &mut world.state;
    let price: u64 = state.get(Item::Burn, key![netuid]);
    let factor: u128 = state.get::<Bits>(Item::BurnIncreaseMult, key![netuid]).bits;
    // The factor has 64 bits of fraction; the product is taken in two halves so that it cannot overflow.
    let whole = u128::from(price).saturating_mul(factor >> 64);
    let fraction = (u128::from(price) * (factor & u128::from(u64::MAX))) >> 64;
    let raised = u64::try_from(whole.saturating_add(fraction)).unwrap_or(u64::MAX);
    let most: u64 = state.get(Item::MaxBurn, key![netuid]);
    let least: u64 = state.get(Item::MinBurn, key![netuid]);
    state.put(Item::Burn, key![netuid], &raised.min(most).max(least));
}

/// A fixed-point number as the metadata has it.
#[derive(Debug, Clone, Copy, scale_decode::DecodeAsType)]
struct Bits {
    bits: u128,
}

/// Each block lets the price fall by a half-life's share, within its bounds, and counts registrations anew.
pub fn start_block(world: &mut World<'_>, netuid: u16) {
    let state = &mut world.state;
    if state.get::<u16>(Item::RegistrationsThisBlock, key![netuid]) != 0 {
        state.put(Item::RegistrationsThisBlock, key![netuid], &0_u16);
    }
    let half_life: u16 = state.get(Item::BurnHalfLife, key![netuid]);
    let price: u64 = state.get(Item::Burn, key![netuid]);
    let least: u64 = state.get(Item::MinBurn, key![netuid]);
    let most: u64 = state.get(Item::MaxBurn, key![netuid]);
    let fallen = decayed(price, half_life).min(most).max(least);
    if fallen != price {
        state.put(Item::Burn, key![netuid], &fallen);
    }
}

/// The price times 2^(-1/half-life), in fixed point with 32 bits of fraction.
fn decayed(price: u64, half_life: u16) -> u64 {
    if half_life == 0 {
        return price;
    }
    const ONE: f64 = 4_294_967_296.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a factor below one times 2^32")]
    let factor = (libm::exp2(-1.0 / f64::from(half_life)) * ONE) as u64;
    u64::try_from((u128::from(price) * u128::from(factor)) >> 32).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_halves_in_its_half_life() {
        let after = (0..360).fold(1_000_000_000, |price, _| decayed(price, 360));
        assert!((499_999_000..=500_000_000).contains(&after), "{after}");
        assert_eq!(decayed(1_000, 1), 500);
        assert_eq!(decayed(u64::MAX, 0), u64::MAX);
    }
}

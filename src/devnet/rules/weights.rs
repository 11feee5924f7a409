//! Weights: who may set them, what is stored.
//!
//! Owns every check of `set_weights` and `set_mechanism_weights` in the chain's order, and the max-upscale in the
//! chain's own fixed point. Refuses to know what the weights mean. Dispatch and the pool use it.

use super::{Done, Failure, World, subnets};
use crate::devnet::{
    datum::Datum,
    items::Item,
    state::{State, key},
};

/// What one call asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub netuid: u16,
    pub mecid: u8,
    pub dests: &'a [u16],
    pub weights: &'a [u16],
    pub version_key: u64,
}

/// `batch_set_weights`: the lists as they came, of any lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub netuids: Vec<u16>,
    pub rows: Vec<Vec<(u16, u16)>>,
    pub version_keys: Vec<u64>,
}

impl Batch {
    /// Whether all lists have one length.
    pub const fn is_even(&self) -> bool {
        self.netuids.len() == self.rows.len() && self.netuids.len() == self.version_keys.len()
    }
}

/// How far apart the storage indices of two mechanisms of a subnet lie.
pub const MECHANISM_STRIDE: u16 = 4096;

/// Where the weights of a mechanism are stored.
pub const fn storage_index(netuid: u16, mecid: u8) -> u16 {
    (mecid as u16).wrapping_mul(MECHANISM_STRIDE).wrapping_add(netuid)
}

/// Sets a row of weights; the numbers are the chain's checks in its order.
pub fn set(world: &mut World<'_>, hotkey: [u8; 32], request: &Request<'_>) -> Done {
    let Request { netuid, mecid, dests, weights, version_key } = *request;
    let state = &world.state;
    let failed = |error| Err(Failure::subtensor(error));
    if netuid == subnets::ROOT {
        return failed("CanNotSetRootNetworkWeights"); // 1
    }
    if dests.len() != weights.len() {
        return failed("WeightVecNotEqualSize"); // 2
    }
    if !subnets::has_mechanism(state, netuid, mecid) {
        return failed("MechanismDoesNotExist"); // 3
    }
    let neurons: u16 = state.get(Item::SubnetworkN, key![netuid]);
    if dests.len() > usize::from(neurons) {
        return failed("UidsLengthExceedUidsInSubNet"); // 4
    }
    let Some(uid) = state.find::<u16>(Item::Uids, key![netuid, &hotkey]) else {
        return failed("HotKeyNotRegisteredInSubNet"); // 5
    };
    let owner = subnets::is_owner_hotkey(state, netuid, &hotkey);
    if !has_stake(state, netuid, &hotkey, owner) {
        return failed("NotEnoughStakeToSetWeights"); // 6
    }
    let wanted_key: u64 = state.get(Item::WeightsVersionKey, key![netuid]);
    if wanted_key != 0 && version_key < wanted_key {
        return failed("IncorrectWeightVersionKey"); // 7
    }
    let index = storage_index(netuid, mecid);
    let commit_reveal: bool = state.get(Item::CommitRevealEnabled, key![netuid]);
    if !commit_reveal && is_too_fast(world, netuid, index, uid) {
        return failed("SettingWeightsTooFast"); // 8
    }
    let lone_self_weight = dests == [uid];
    let permits: Vec<bool> = state.get(Item::ValidatorPermit, key![netuid]);
    let permitted = permits.get(usize::from(uid)).copied().unwrap_or(false);
    if !lone_self_weight && !owner && !permitted {
        return failed("NeuronNoValidatorPermit"); // 9
    }
    let mut sorted = dests.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return failed("DuplicateUids"); // 10
    }
    if dests.iter().any(|dest| *dest >= neurons) {
        return failed("UidVecContainInvalidOne"); // 11
    }
    let least: u16 = state.get(Item::MinAllowedWeights, key![netuid]);
    if !lone_self_weight && dests.len() < usize::from(least.min(neurons)) {
        return failed("WeightVecLengthIsLow"); // 12
    }
    let upscaled = max_upscale(weights); // 13
    let limit: u16 = state.get(Item::MaxWeightsLimit, key![netuid]);
    if !lone_self_weight && exceeds(&upscaled, limit) {
        return failed("MaxWeightExceeded"); // 14
    }
    let row: Vec<(u16, u16)> = dests.iter().copied().zip(upscaled).collect();
    world.state.put(Item::Weights, key![index, uid], &row); // 15
    if !commit_reveal {
        let now = world.now();
        subnets::set_at(&mut world.state, Item::LastUpdate, index, uid, now); // 16
    }
    let fields = vec![Datum::Num(index.into()), Datum::Num(uid.into())];
    world.emit_tuple("SubtensorModule", "WeightsSet", fields);
    Ok(())
}

/// `batch_set_weights`: one row for each subnet; those that fail are named in events.
pub fn batch_set(world: &mut World<'_>, hotkey: [u8; 32], batch: &Batch) -> Done {
    if !batch.is_even() {
        return Err(Failure::subtensor("InputLengthsUnequal"));
    }
    let one = |world: &mut World<'_>, at: usize| {
        let netuid = batch.netuids[at];
        if world.state.get(Item::CommitRevealEnabled, key![netuid]) {
            return Err(Failure::subtensor("CommitRevealEnabled"));
        }
        let (dests, weights): (Vec<u16>, Vec<u16>) = batch.rows[at].iter().copied().unzip();
        let version_key = batch.version_keys[at];
        set(world, hotkey, &Request { netuid, mecid: 0, dests: &dests, weights: &weights, version_key })
    };
    each(world, hotkey, &batch.netuids, one);
    Ok(())
}

/// Does something for each subnet of a batch, keeping what succeeds; the failures are named in events behind it.
pub fn each(
    world: &mut World<'_>,
    hotkey: [u8; 32],
    netuids: &[u16],
    mut one: impl FnMut(&mut World<'_>, usize) -> Done,
) {
    let mut failures = Vec::new();
    for (at, netuid) in netuids.iter().enumerate() {
        if let Err(failure) = world.transact(|world| one(world, at)) {
            failures.push((*netuid, failure));
        }
    }
    if !failures.is_empty() {
        world.emit_tuple("SubtensorModule", "BatchCompletedWithErrors", Vec::new());
    }
    for (netuid, failure) in failures {
        let error = failure.datum(world);
        world.emit_tuple("SubtensorModule", "BatchWeightItemFailed", vec![Datum::Num(netuid.into()), error]);
    }
    let fields = vec![Datum::numbers(netuids.iter().copied()), Datum::account(&hotkey)];
    world.emit_tuple("SubtensorModule", "BatchWeightsCompleted", fields);
}

/// What the pool refuses: too little stake.
pub fn guard_stake(world: &World<'_>, hotkey: &[u8; 32], netuid: u16) -> Result<(), &'static str> {
    let owner = subnets::is_owner_hotkey(&world.state, netuid, hotkey);
    if has_stake(&world.state, netuid, hotkey, owner) { Ok(()) } else { Err("NotEnoughStakeToSetWeights") }
}

/// What the pool refuses about plain weights: too soon, where they are not committed first.
pub fn guard_plain_rate(world: &World<'_>, hotkey: &[u8; 32], netuid: u16, mecid: u8) -> Result<(), &'static str> {
    if world.state.get(Item::CommitRevealEnabled, key![netuid]) {
        return Ok(());
    }
    guard_rate(world, hotkey, netuid, mecid).map_err(|()| "SettingWeightsTooFast")
}

/// What the pool refuses: too soon. It says nothing about unregistered hotkeys.
pub fn guard_rate(world: &World<'_>, hotkey: &[u8; 32], netuid: u16, mecid: u8) -> Result<(), ()> {
    match world.state.find::<u16>(Item::Uids, key![netuid, hotkey]) {
        Some(uid) if is_too_fast(world, netuid, storage_index(netuid, mecid), uid) => Err(()),
        _ => Ok(()),
    }
}

fn has_stake(state: &State<'_>, netuid: u16, hotkey: &[u8; 32], owner: bool) -> bool {
    let threshold: u64 = state.get(Item::StakeThreshold, &[]);
    owner || subnets::stake(state, netuid, hotkey) >= threshold
}

/// Whether the last weights, or the registration, lie too few blocks back. A `LastUpdate` of 0 means never.
pub fn is_too_fast(world: &World<'_>, netuid: u16, index: u16, uid: u16) -> bool {
    let last: Vec<u64> = world.state.get(Item::LastUpdate, key![index]);
    let last = last.get(usize::from(uid)).copied().unwrap_or(0);
    let limit: u64 = world.state.get(Item::WeightsSetRateLimit, key![netuid]);
    last != 0 && world.now().saturating_sub(last) < limit
}

/// Scales so that the largest becomes 65535, in the chain's I32F32: the factor is rounded down to 2^-32 first when
/// the largest exceeds 32768, because 65535 times it no longer fits the integer part.
pub fn max_upscale(weights: &[u16]) -> Vec<u16> {
    const FULL: u64 = u16::MAX as u64;
    let largest = u64::from(weights.iter().copied().max().unwrap_or(0));
    if largest == 0 || largest == FULL {
        return weights.to_vec();
    }
    let scaled = |value: u64| -> u64 {
        // All values are I32F32: 32 bits of fraction.
        let fixed = if largest > 32_768 { value * ((FULL << 32) / largest) } else { ((value * FULL) << 32) / largest };
        // Rounds half away from zero, as the chain's conversion to an integer does.
        (fixed + (1 << 31)) >> 32
    };
    weights.iter().map(|weight| u16::try_from(scaled(u64::from(*weight)).min(FULL)).unwrap_or(u16::MAX)).collect()
}

/// Whether the largest has more than the limit's share of the sum.
fn exceeds(upscaled: &[u16], limit: u16) -> bool {
    if limit == u16::MAX {
        return false;
    }
    let sum: u64 = upscaled.iter().map(|weight| u64::from(*weight)).sum();
    let largest = u64::from(upscaled.iter().copied().max().unwrap_or(0));
    largest * u64::from(u16::MAX) > u64::from(limit) * sum
}

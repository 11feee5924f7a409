//! Subnets: which exist, what they contain, how one comes to be.
//!
//! Owns the vectors with one place per neuron and the creation of a subnet. Refuses to know weights and epochs. The
//! other rules, the answers and the controls use it. Simplified: a hotkey's stake is its alpha in the subnet plus its
//! alpha in the root subnet times `TaoWeight`.

use super::World;
use crate::devnet::{
    datum::Datum,
    items::Item,
    limits,
    rules::weights::storage_index,
    state::{State, key},
};

/// The root subnet, in which nobody mines.
pub const ROOT: u16 = 0;

/// The netuids that exist, ascending.
pub fn all(state: &State<'_>) -> Vec<u16> {
    let prefix = state.runtime().entry(Item::NetworksAdded).prefix;
    let keys = state.keys(&prefix);
    let netuids = keys.iter().filter_map(|key| Some(u16::from_le_bytes(key.get(32..34)?.try_into().ok()?)));
    let mut netuids: Vec<u16> = netuids.filter(|netuid| exists(state, *netuid)).collect();
    netuids.sort_unstable();
    netuids
}

/// Whether a subnet exists.
pub fn exists(state: &State<'_>, netuid: u16) -> bool {
    state.get(Item::NetworksAdded, key![netuid])
}

/// Whether a subnet exists and has this mechanism.
pub fn has_mechanism(state: &State<'_>, netuid: u16, mecid: u8) -> bool {
    exists(state, netuid) && mecid < mechanisms(state, netuid)
}

/// How many mechanisms a subnet has.
pub fn mechanisms(state: &State<'_>, netuid: u16) -> u8 {
    state.get(Item::MechanismCount, key![netuid])
}

/// How many neurons a subnet has.
pub fn size(state: &State<'_>, netuid: u16) -> u16 {
    state.get(Item::SubnetworkN, key![netuid])
}

/// Whether this is the hotkey of the subnet's owner.
pub fn is_owner_hotkey(state: &State<'_>, netuid: u16, hotkey: &[u8; 32]) -> bool {
    state.find::<[u8; 32]>(Item::SubnetOwnerHotkey, key![netuid]).as_ref() == Some(hotkey)
}

/// The stake that counts for permits and weights.
pub fn stake(state: &State<'_>, netuid: u16, hotkey: &[u8; 32]) -> u64 {
    let alpha: u64 = state.get(Item::TotalHotkeyAlpha, key![hotkey, netuid]);
    alpha.saturating_add(root_stake(state, hotkey))
}

/// The part of the stake that comes from the root subnet.
pub fn root_stake(state: &State<'_>, hotkey: &[u8; 32]) -> u64 {
    let root: u64 = state.get(Item::TotalHotkeyAlpha, key![hotkey, ROOT]);
    let weight: u64 = state.get(Item::TaoWeight, &[]);
    u64::try_from(u128::from(root) * u128::from(weight) / u128::from(u64::MAX)).unwrap_or(u64::MAX)
}

/// The hotkeys of a subnet by uid.
pub fn hotkeys(state: &State<'_>, netuid: u16) -> Vec<[u8; 32]> {
    (0..size(state, netuid)).map(|uid| state.get(Item::Keys, key![netuid, uid])).collect()
}

/// Writes one place of a vector that has one per neuron, with zeros where it was too short.
pub fn set_at<T>(state: &mut State<'_>, item: Item, index: u16, uid: u16, value: T)
where
    T: scale_decode::DecodeAsType + scale_encode::EncodeAsType + Default + Clone,
{
    let mut values: Vec<T> = state.get(item, key![index]);
    let at = usize::from(uid);
    if values.len() <= at {
        values.resize(at + 1, T::default());
    }
    values[at] = value;
    state.put(item, key![index], &values);
}

/// What a new subnet is to be like; everything else as the runtime's defaults have it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its number; the lowest free one when absent.
    pub netuid: Option<u16>,
    /// Who owns it.
    pub owner: String,
    /// The owner's hotkey; the owner itself when absent. It is registered as uid 0.
    pub owner_hotkey: Option<String>,
    /// Blocks of an epoch.
    pub tempo: Option<u16>,
    /// Blocks between two weights of one hotkey.
    pub weights_set_rate_limit: Option<u64>,
    /// The fewest entries of a row of weights.
    pub min_allowed_weights: Option<u16>,
    /// The largest share of one weight, of 65535.
    pub max_weights_limit: Option<u16>,
    /// Whether weights are committed first.
    pub commit_reveal: Option<bool>,
    /// Epochs between a commit of weights and its reveal.
    pub reveal_period_epochs: Option<u64>,
    /// Blocks in which a new neuron is not replaced.
    pub immunity_period: Option<u16>,
    /// The most neurons.
    pub max_allowed_uids: Option<u16>,
    /// The first price of a registration, in rao.
    pub burn: Option<u64>,
    /// The least price.
    pub min_burn: Option<u64>,
    /// The highest price.
    pub max_burn: Option<u64>,
    /// How many mechanisms.
    pub mechanisms: Option<u8>,
}

/// What a new subnet allows by itself: with the metadata's default of 1024 nobody could set weights.
const MIN_ALLOWED_WEIGHTS: u16 = 1;

/// Creates a subnet with its owner's hotkey as uid 0.
pub fn create(world: &mut World<'_>, wanted: &Wanted, owner: [u8; 32], owner_hotkey: [u8; 32]) -> Result<u16, String> {
    let existing = all(&world.state);
    if existing.len() >= limits::SUBNETS {
        return Err(format!("there are {} subnets already", existing.len()));
    }
    let netuid = wanted.netuid.or(free(&world.state)).ok_or("no netuid is free")?;
    if netuid == ROOT || netuid >= MAX_NETUID || existing.contains(&netuid) {
        return Err(format!("netuid {netuid} is taken or out of range"));
    }
    let tempo = wanted.tempo.unwrap_or(world.state.get(Item::Tempo, key![netuid]));
    if tempo == 0 {
        return Err("a tempo of 0 would never run an epoch".to_owned());
    }
    fill(world, netuid, owner, owner_hotkey);
    let state = &mut world.state;
    state.put(Item::Tempo, key![netuid], &tempo);
    put_some(state, Item::MinAllowedWeights, netuid, wanted.min_allowed_weights);
    put_some(state, Item::WeightsSetRateLimit, netuid, wanted.weights_set_rate_limit);
    put_some(state, Item::MaxWeightsLimit, netuid, wanted.max_weights_limit);
    put_some(state, Item::CommitRevealEnabled, netuid, wanted.commit_reveal);
    put_some(state, Item::RevealPeriodEpochs, netuid, wanted.reveal_period_epochs.map(|epochs| epochs.clamp(1, 100)));
    put_some(state, Item::ImmunityPeriod, netuid, wanted.immunity_period);
    put_some(state, Item::MaxAllowedUids, netuid, wanted.max_allowed_uids.map(|uids| uids.min(limits::UIDS)));
    put_some(state, Item::MinBurn, netuid, wanted.min_burn);
    put_some(state, Item::MaxBurn, netuid, wanted.max_burn);
    put_some(state, Item::MechanismCount, netuid, wanted.mechanisms.map(|count| count.max(1)));
    put_some(state, Item::Burn, netuid, wanted.burn);
    world.emit_tuple("SubtensorModule", "NetworkAdded", vec![Datum::Num(netuid.into()), Datum::Num(1)]);
    super::registration::grant(world, netuid, &owner_hotkey, &owner).map_err(|failure| format!("{failure:?}"))?;
    Ok(netuid)
}

/// The lowest netuid that no subnet has.
pub fn free(state: &State<'_>) -> Option<u16> {
    let existing = all(state);
    (1..MAX_NETUID).find(|netuid| !existing.contains(netuid))
}

/// Writes what every new subnet has.
pub fn fill(world: &mut World<'_>, netuid: u16, owner: [u8; 32], owner_hotkey: [u8; 32]) {
    let now = world.now();
    let state = &mut world.state;
    let subnets: u16 = state.get(Item::TotalNetworks, &[]);
    let (tempo, price): (u16, u64) = (state.get(Item::Tempo, key![netuid]), state.get(Item::Burn, key![netuid]));
    state.put(Item::NetworksAdded, key![netuid], &true);
    state.put(Item::TotalNetworks, &[], &subnets.saturating_add(1));
    state.put(Item::NetworkRegisteredAt, key![netuid], &now);
    state.put(Item::FirstEmissionBlock, key![netuid], &now);
    state.put(Item::SubnetOwner, key![netuid], &owner);
    state.put(Item::SubnetOwnerHotkey, key![netuid], &owner_hotkey);
    state.put(Item::SubnetMechanism, key![netuid], &1_u16);
    state.put(Item::SubtokenEnabled, key![netuid], &true);
    state.put(Item::Tempo, key![netuid], &tempo);
    state.put(Item::LastEpochBlock, key![netuid], &now);
    state.put(Item::MinAllowedWeights, key![netuid], &MIN_ALLOWED_WEIGHTS);
    state.put(Item::Burn, key![netuid], &price);
    put_pools(state, netuid);
}

/// Netuids lie below the stride of mechanisms, or storage indices would collide.
const MAX_NETUID: u16 = super::weights::MECHANISM_STRIDE;

fn put_some<T: scale_encode::EncodeAsType>(state: &mut State<'_>, item: Item, netuid: u16, value: Option<T>) {
    if let Some(value) = value {
        state.put(item, key![netuid], &value);
    }
}

/// The pools of a new subnet: a price of one, so that tools which divide by it can.
fn put_pools(state: &mut State<'_>, netuid: u16) {
    const POOL_RAO: u64 = 1_000_000_000_000;
    const ALPHA_PER_BLOCK: u64 = 1_000_000_000;
    const ONE_FIXED: u128 = 1 << 32;
    state.put(Item::SubnetTao, key![netuid], &POOL_RAO);
    state.put(Item::SubnetAlphaIn, key![netuid], &POOL_RAO);
    state.put(Item::AlphaOutEmission, key![netuid], &ALPHA_PER_BLOCK);
    state.put(Item::MovingPrice, key![netuid], &Datum::Num(ONE_FIXED));
}

/// Gives or takes a validator's permit, with the stake that keeps it at the next epoch.
pub fn set_permit(
    world: &mut World<'_>,
    netuid: u16,
    hotkey: &[u8; 32],
    permit: bool,
    stake_rao: u64,
) -> Result<(), String> {
    let uid: Option<u16> = world.state.find(Item::Uids, key![netuid, hotkey]);
    let uid = uid.ok_or("the hotkey is not registered in the subnet")?;
    let rao = if permit { stake_rao } else { 0 };
    if let Some(owner) = world.state.find::<[u8; 32]>(Item::Owner, key![hotkey]) {
        super::stake::set(world, hotkey, &owner, netuid, rao);
    }
    set_at(&mut world.state, Item::ValidatorPermit, netuid, uid, permit);
    Ok(())
}

/// The storage indices of all mechanisms of a subnet.
pub fn indices(state: &State<'_>, netuid: u16) -> Vec<u16> {
    (0..mechanisms(state, netuid)).map(|mecid| storage_index(netuid, mecid)).collect()
}

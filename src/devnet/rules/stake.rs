//! Stake: TAO put behind a hotkey, and taken back.
//!
//! Owns `add_stake` and `remove_stake`, with and without a limit, and the shares that coldkeys have in a hotkey's stake. Refuses to know what
//! stake is good for. Dispatch and the controls use it. Simplified: one alpha costs one TAO whatever was swapped
//! before, swapping costs nothing, and shares earn nothing.

use scale_decode::DecodeAsType;

use super::{Done, Failure, World, balances, subnets};
use crate::devnet::{
    datum::Datum,
    items::Item,
    state::{Part, State, key},
};

/// The least that can be staked at once, as the chain has it.
const STAKE_LEAST_RAO: u64 = 2_000_000;

/// What one alpha costs, in rao.
pub const PRICE_RAO: u64 = 1_000_000_000;

/// What a coldkey wants to put behind a hotkey or take back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The hotkey.
    pub hotkey: [u8; 32],
    /// The subnet.
    pub netuid: u16,
    /// How much.
    pub rao: u64,
    /// At which price at worst, in rao, and whether less than all is welcome.
    pub limit: Option<(u64, bool)>,
}

impl Wanted {
    /// The price is the same for any amount: all of it keeps the limit, or nothing does.
    fn check_limit(&self, keeps: impl Fn(u64) -> bool) -> Done {
        match self.limit {
            Some((price_rao, partly)) if !keeps(price_rao) => {
                Err(Failure::subtensor(if partly { "AmountTooLow" } else { "SlippageTooHigh" }))
            }
            _ => Ok(()),
        }
    }
}

/// A floating number of shares: mantissa times ten to the exponent; the exponent is always zero here.
#[derive(Debug, Clone, Copy, DecodeAsType)]
struct Share {
    mantissa: u128,
}

/// What a coldkey has staked with a hotkey.
pub fn of(state: &State<'_>, hotkey: &[u8; 32], coldkey: &[u8; 32], netuid: u16) -> u64 {
    let share: Option<Share> = state.find(Item::AlphaShare, &share_key(hotkey, coldkey, netuid));
    share.map_or(0, |share| u64::try_from(share.mantissa).unwrap_or(u64::MAX))
}

const fn share_key<'a>(hotkey: &'a [u8; 32], coldkey: &'a [u8; 32], netuid: u16) -> [Part<'a>; 3] {
    [Part::Account(hotkey), Part::Account(coldkey), Part::U16(netuid)]
}

fn share(rao: u64) -> Datum {
    Datum::Struct(vec![("mantissa", Datum::Num(rao.into())), ("exponent", Datum::Num(0))])
}

/// Sets what a coldkey has staked with a hotkey, and all sums with it.
pub fn set(world: &mut World<'_>, hotkey: &[u8; 32], coldkey: &[u8; 32], netuid: u16, rao: u64) {
    let before = of(&world.state, hotkey, coldkey, netuid);
    let state = &mut world.state;
    let total: u64 = state.get(Item::TotalHotkeyAlpha, key![hotkey, netuid]);
    let total = total.saturating_sub(before).saturating_add(rao);
    state.put(Item::TotalHotkeyAlpha, key![hotkey, netuid], &total);
    state.put(Item::TotalHotkeyShares, key![hotkey, netuid], &share(total));
    let out: u64 = state.get(Item::SubnetAlphaOut, key![netuid]);
    state.put(Item::SubnetAlphaOut, key![netuid], &out.saturating_sub(before).saturating_add(rao));
    if rao == 0 {
        state.remove(Item::AlphaShare, &share_key(hotkey, coldkey, netuid));
        return;
    }
    state.put(Item::AlphaShare, &share_key(hotkey, coldkey, netuid), &share(rao));
    let mut staking: Vec<[u8; 32]> = state.get(Item::StakingHotkeys, key![coldkey]);
    if !staking.contains(hotkey) {
        staking.push(*hotkey);
        state.put(Item::StakingHotkeys, key![coldkey], &staking);
    }
}

/// `add_stake`, or `add_stake_limit` with its limit.
pub fn add(world: &mut World<'_>, coldkey: [u8; 32], wanted: &Wanted) -> Done {
    let Wanted { hotkey, netuid, rao, .. } = *wanted;
    let state = &world.state;
    if !subnets::exists(state, netuid) {
        return Err(Failure::subtensor("SubnetNotExists"));
    }
    if netuid != subnets::ROOT && !state.get::<bool>(Item::SubtokenEnabled, key![netuid]) {
        return Err(Failure::subtensor("SubtokenDisabled"));
    }
    if rao < STAKE_LEAST_RAO {
        return Err(Failure::subtensor("AmountTooLow"));
    }
    wanted.check_limit(|price_rao| price_rao >= PRICE_RAO)?;
    if balances::free(state, &coldkey) < rao {
        return Err(Failure::subtensor("NotEnoughBalanceToStake"));
    }
    if !state.has(Item::Owner, key![&hotkey]) {
        return Err(Failure::subtensor("HotKeyAccountNotExists"));
    }
    balances::withdraw(world, &coldkey, rao)?;
    let before = of(&world.state, &hotkey, &coldkey, netuid);
    set(world, &hotkey, &coldkey, netuid, before.saturating_add(rao));
    move_pool(world, netuid, |tao| tao.saturating_add(rao));
    emit(world, "StakeAdded", &coldkey, &hotkey, netuid, rao);
    Ok(())
}

/// `remove_stake`, or `remove_stake_limit` with its limit.
pub fn remove(world: &mut World<'_>, coldkey: [u8; 32], wanted: &Wanted) -> Done {
    let Wanted { hotkey, netuid, rao, .. } = *wanted;
    if !subnets::exists(&world.state, netuid) {
        return Err(Failure::subtensor("SubnetNotExists"));
    }
    if rao == 0 {
        return Err(Failure::subtensor("AmountTooLow"));
    }
    let before = of(&world.state, &hotkey, &coldkey, netuid);
    let left = before.checked_sub(rao).ok_or(Failure::subtensor("NotEnoughStakeToWithdraw"))?;
    // All of it may always be taken back.
    if left > 0 && rao < STAKE_LEAST_RAO {
        return Err(Failure::subtensor("AmountTooLow"));
    }
    wanted.check_limit(|price_rao| price_rao <= PRICE_RAO)?;
    if !world.state.has(Item::Owner, key![&hotkey]) {
        return Err(Failure::subtensor("HotKeyAccountNotExists"));
    }
    set(world, &hotkey, &coldkey, netuid, left);
    balances::deposit(world, &coldkey, rao);
    move_pool(world, netuid, |tao| tao.saturating_sub(rao));
    emit(world, "StakeRemoved", &coldkey, &hotkey, netuid, rao);
    Ok(())
}

/// The TAO behind a subnet's alpha, and behind all stake.
fn move_pool(world: &mut World<'_>, netuid: u16, change: impl Fn(u64) -> u64) {
    let (pool, all): (u64, u64) =
        (world.state.get(Item::SubnetTao, key![netuid]), world.state.get(Item::TotalStake, &[]));
    world.state.put(Item::SubnetTao, key![netuid], &change(pool));
    world.state.put(Item::TotalStake, &[], &change(all));
}

fn emit(world: &mut World<'_>, event: &str, coldkey: &[u8; 32], hotkey: &[u8; 32], netuid: u16, rao: u64) {
    const FEE: u128 = 0;
    let fields = vec![
        Datum::account(coldkey),
        Datum::account(hotkey),
        Datum::Num(rao.into()),
        Datum::Num(rao.into()),
        Datum::Num(netuid.into()),
        Datum::Num(FEE),
    ];
    world.emit_tuple("SubtensorModule", event, fields);
}

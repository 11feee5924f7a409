//! Balances: accounts, transfers, fees.
//!
//! Owns who has how much and the existential deposit. Refuses to know what is paid for. The rules and the block
//! builder use it. Simplified: weights are one constant for every call, so a fee grows with the length alone.

use scale_decode::DecodeAsType;
use scale_encode::EncodeAsType;

use super::{Done, Failure, World};
use crate::devnet::{
    datum::Datum,
    items::Item,
    state::{State, key},
};

/// The least that an account may hold; the runtime's own constant, checked by a test.
pub const EXISTENTIAL_DEPOSIT_RAO: u64 = 500;
/// What every call is said to weigh, in picoseconds: that of a recorded transfer.
pub const REF_TIME: u64 = 224_051_000;
/// What every call is said to read, in bytes: that of a recorded transfer.
pub const PROOF_BYTES: u64 = 7_791;
/// The part of a fee that does not depend on the length: with it a transfer costs what a recorded one cost.
const FEE_BASE_RAO: u64 = 22_247;
/// The fee of one byte.
const FEE_RAO_PER_BYTE: u64 = 1_000;

/// An account as `System.Account` stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DecodeAsType, EncodeAsType)]
pub struct Account {
    pub nonce: u32,
    pub consumers: u32,
    pub providers: u32,
    pub sufficients: u32,
    pub data: Data,
}

/// The balances of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DecodeAsType, EncodeAsType)]
pub struct Data {
    pub free: u64,
    pub reserved: u64,
    pub frozen: u64,
    pub flags: u128,
}

/// The account; a zero one when there is none.
pub fn account(state: &State<'_>, who: &[u8; 32]) -> Account {
    state.get(Item::Account, key![who])
}

/// What an account can spend.
pub fn free(state: &State<'_>, who: &[u8; 32]) -> u64 {
    account(state, who).data.free
}

/// The fee of an extrinsic of this many bytes, length prefix included, that carries a paying call.
pub fn fee(extrinsic_bytes: usize) -> u64 {
    FEE_BASE_RAO + FEE_RAO_PER_BYTE * extrinsic_bytes as u64
}

/// Counts one more extrinsic of an account. An account without balance may have a count: hotkeys do.
pub fn count_nonce(world: &mut World<'_>, who: &[u8; 32]) {
    let mut account = account(&world.state, who);
    account.nonce = account.nonce.saturating_add(1);
    world.state.put(Item::Account, key![who], &account);
}

/// Sets what an account has, creating or killing it as the existential deposit demands.
fn set_free(world: &mut World<'_>, who: &[u8; 32], free: u64) {
    let mut account = account(&world.state, who);
    let existed = account.providers > 0;
    account.data.free = free;
    account.providers = u32::from(free > 0);
    world.state.put(Item::Account, key![who], &account);
    match (existed, free > 0) {
        (false, true) => {
            world.emit("System", "NewAccount", vec![("account", Datum::account(who))]);
            let fields = vec![("account", Datum::account(who)), ("free_balance", Datum::Num(free.into()))];
            world.emit("Balances", "Endowed", fields);
        }
        (true, false) => world.emit("System", "KilledAccount", vec![("account", Datum::account(who))]),
        _ => {}
    }
}

/// Gives to an account.
pub fn deposit(world: &mut World<'_>, who: &[u8; 32], rao: u64) {
    let free = free(&world.state, who).saturating_add(rao);
    set_free(world, who, free);
    let fields = vec![("who", Datum::account(who)), ("amount", Datum::Num(rao.into()))];
    world.emit("Balances", "Deposit", fields);
}

/// Takes from an account that has as much.
pub fn withdraw(world: &mut World<'_>, who: &[u8; 32], rao: u64) -> Done {
    let left = free(&world.state, who).checked_sub(rao).ok_or(Failure::Token("FundsUnavailable"))?;
    set_free(world, who, left);
    let fields = vec![("who", Datum::account(who)), ("amount", Datum::Num(rao.into()))];
    world.emit("Balances", "Withdraw", fields);
    Ok(())
}

/// Sets something aside, as a deposit; the account keeps at least the existential deposit.
pub fn reserve(world: &mut World<'_>, who: &[u8; 32], rao: u64) -> Done {
    let mut account = account(&world.state, who);
    let left = account.data.free.checked_sub(rao).filter(|left| *left >= EXISTENTIAL_DEPOSIT_RAO);
    account.data.free = left.ok_or(Failure::Module("Balances", "InsufficientBalance"))?;
    account.data.reserved = account.data.reserved.saturating_add(rao);
    world.state.put(Item::Account, key![who], &account);
    let fields = vec![("who", Datum::account(who)), ("amount", Datum::Num(rao.into()))];
    world.emit("Balances", "Reserved", fields);
    Ok(())
}

/// Gives back what was set aside.
pub fn unreserve(world: &mut World<'_>, who: &[u8; 32], rao: u64) {
    if rao == 0 {
        return;
    }
    let mut account = account(&world.state, who);
    let rao = rao.min(account.data.reserved);
    account.data.reserved -= rao;
    account.data.free = account.data.free.saturating_add(rao);
    world.state.put(Item::Account, key![who], &account);
    let fields = vec![("who", Datum::account(who)), ("amount", Datum::Num(rao.into()))];
    world.emit("Balances", "Unreserved", fields);
}

/// Changes the sum of all balances.
pub fn issue(world: &mut World<'_>, rao: u64) {
    for item in [Item::BalancesIssuance, Item::TotalIssuance] {
        let issued: u64 = world.state.get(item, &[]);
        world.state.put(item, &[], &issued.saturating_add(rao));
    }
}

/// The opposite of [`issue`].
pub fn burn(world: &mut World<'_>, rao: u64) {
    for item in [Item::BalancesIssuance, Item::TotalIssuance] {
        let issued: u64 = world.state.get(item, &[]);
        world.state.put(item, &[], &issued.saturating_sub(rao));
    }
}

/// `transfer_keep_alive` and `transfer_allow_death`.
pub fn transfer(world: &mut World<'_>, from: &[u8; 32], to: &[u8; 32], rao: u64, keep_alive: bool) -> Done {
    let have = free(&world.state, from);
    let left = have.checked_sub(rao).ok_or(Failure::Token("FundsUnavailable"))?;
    if left < EXISTENTIAL_DEPOSIT_RAO && keep_alive {
        return Err(Failure::Token("NotExpendable"));
    }
    if free(&world.state, to).saturating_add(rao) < EXISTENTIAL_DEPOSIT_RAO {
        return Err(Failure::Token("BelowMinimum"));
    }
    if from != to {
        let dust = if left < EXISTENTIAL_DEPOSIT_RAO { left } else { 0 };
        set_free(world, from, left - dust);
        if dust > 0 {
            burn(world, dust);
            let fields = vec![("account", Datum::account(from)), ("amount", Datum::Num(dust.into()))];
            world.emit("Balances", "DustLost", fields);
        }
        let received = free(&world.state, to).saturating_add(rao);
        set_free(world, to, received);
    }
    let fields = vec![("from", Datum::account(from)), ("to", Datum::account(to)), ("amount", Datum::Num(rao.into()))];
    world.emit("Balances", "Transfer", fields);
    Ok(())
}

/// `transfer_all`.
pub fn transfer_all(world: &mut World<'_>, from: &[u8; 32], to: &[u8; 32], keep_alive: bool) -> Done {
    let kept = if keep_alive { EXISTENTIAL_DEPOSIT_RAO } else { 0 };
    let rao = free(&world.state, from).saturating_sub(kept);
    transfer(world, from, to, rao, keep_alive)
}

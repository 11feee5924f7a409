//! Tests of what coldkeys do: proxies, stake, new subnets, swaps.

use subxt_signer::sr25519::dev;

use super::{
    proxy::{Definition, Kind},
    swap::Swap,
    tests::*,
    *,
};
use crate::devnet::{
    chain::Chain,
    items::Item,
    state::key,
    testkit::{act, blocks, call_bytes, chain, events_of, key_of, populated, submit},
};

fn alice() -> [u8; 32] {
    key_of(&dev::alice())
}

fn dave() -> [u8; 32] {
    key_of(&dev::dave())
}

fn change(delegate: [u8; 32], proxy_type: Kind, add: bool) -> Call {
    Call::ChangeProxy { definition: Definition { delegate, proxy_type, delay: 0 }, add }
}

fn by_proxy(real: [u8; 32], kind: Option<Kind>, call: Call) -> Call {
    Call::Proxy { real, kind, call: Box::new(call) }
}

fn transfer(value: u64) -> Call {
    Call::Transfer { dest: [1; 32], value, keep_alive: true }
}

fn free(chain: &Chain, who: &[u8; 32]) -> u64 {
    balances::free(&chain.state(chain.best()), who)
}

#[test]
fn constants_are_the_runtimes() {
    for spec in [439, 461] {
        let runtime = crate::devnet::testkit::runtime(spec);
        let constant = |pallet, name| runtime.constant(pallet, name).unwrap().to_vec();
        assert_eq!(constant("Proxy", "ProxyDepositBase"), proxy::DEPOSIT_BASE_RAO.to_le_bytes());
        assert_eq!(constant("Proxy", "ProxyDepositFactor"), proxy::DEPOSIT_EACH_RAO.to_le_bytes());
        assert_eq!(constant("Proxy", "MaxProxies"), (proxy::PROXIES as u32).to_le_bytes());
        assert_eq!(constant("SubtensorModule", "KeySwapCost"), swap::COST_RAO.to_le_bytes());
        assert_eq!(constant("SubtensorModule", "KeySwapOnSubnetCost"), swap::SUBNET_COST_RAO.to_le_bytes());
    }
    // The later metadata is of a profile for fast blocks, in which this one differs.
    let runtime = crate::devnet::testkit::runtime(439);
    let interval = runtime.constant("SubtensorModule", "HotkeySwapOnSubnetInterval").unwrap();
    assert_eq!(interval, swap::INTERVAL_BLOCKS.to_le_bytes());
}

#[test]
fn a_proxy_calls_for_another_and_only_as_far_as_its_kind_goes() {
    let mut chain = chain();
    let refused = |chain: &Chain, call| error_of(attempt(chain, dave(), &call));
    assert_eq!(refused(&chain, by_proxy(alice(), None, transfer(1_000))), "NotProxy");
    assert_eq!(error_of(attempt(&chain, alice(), &change(alice(), Kind::Any, true))), "NoSelfProxy");
    let before = free(&chain, &alice());
    execute(&mut chain, alice(), &change(dave(), Kind::NonTransfer, true));
    assert_eq!(before - free(&chain, &alice()), proxy::DEPOSIT_BASE_RAO + proxy::DEPOSIT_EACH_RAO);
    assert_eq!(error_of(attempt(&chain, alice(), &change(dave(), Kind::NonTransfer, true))), "Duplicate");
    assert_eq!(refused(&chain, by_proxy(alice(), Some(Kind::Any), transfer(1_000))), "NotProxy");
    // What it may not do fails within: the outer call succeeds and says so.
    execute(&mut chain, dave(), &by_proxy(alice(), None, transfer(1_000)));
    assert_eq!(free(&chain, &[1; 32]), 0);
    let hidden = Call::Batch { mode: crate::devnet::call::Batch::Stop, calls: vec![transfer(1_000)] };
    execute(&mut chain, dave(), &by_proxy(alice(), None, hidden));
    assert_eq!(free(&chain, &[1; 32]), 0);
    execute(&mut chain, dave(), &by_proxy(alice(), None, change([9; 32], Kind::Any, true)));
    execute(&mut chain, alice(), &change(dave(), Kind::Transfer, true));
    execute(&mut chain, dave(), &by_proxy(alice(), Some(Kind::Transfer), transfer(1_000)));
    assert_eq!(free(&chain, &[1; 32]), 1_000);
    for kind in [Kind::NonTransfer, Kind::Transfer] {
        execute(&mut chain, alice(), &change(dave(), kind, false));
    }
    assert_eq!(before - free(&chain, &alice()), 1_000);
    assert_eq!(error_of(attempt(&chain, alice(), &change(dave(), Kind::Transfer, false))), "NotFound");
}

#[test]
fn proxies_go_through_the_pool_and_pay_as_what_they_carry() {
    let mut chain = populated();
    execute(&mut chain, key_of(&dev::bob()), &change(dave(), Kind::Any, true));
    let runtime = std::sync::Arc::clone(chain.runtime());
    let inner = call_bytes(&runtime, "System", "remark", vec![Datum::Bytes(vec![1])]);
    let real = Datum::tuple("Id", vec![Datum::account(&key_of(&dev::bob()))]);
    let fields = vec![real, Datum::option(None), Datum::Encoded(inner)];
    let call = call_bytes(&runtime, "Proxy", "proxy", fields);
    let before = free(&chain, &dave());
    submit(&mut chain, &dev::dave(), &call).unwrap();
    blocks(&mut chain, 1);
    assert!(before > free(&chain, &dave()));
    assert!(events_of(&chain, 1).iter().any(|event| event.contains("ProxyExecuted")));
}

#[test]
fn stake_counts_for_permits_at_the_epoch_and_comes_back() {
    let mut chain = populated();
    let charlie = key_of(&dev::charlie());
    let wanted = |netuid, hotkey, rao| stake::Wanted { hotkey, netuid, rao, limit: None };
    let stake = |netuid, hotkey, rao| Call::AddStake(wanted(netuid, hotkey, rao));
    let unstake = |rao| Call::RemoveStake(wanted(1, charlie, rao));
    let refused = |chain: &Chain, call| error_of(attempt(chain, dave(), &call));
    assert_eq!(refused(&chain, stake(9, charlie, 1)), "SubnetNotExists");
    assert_eq!(refused(&chain, stake(1, [8; 32], 1)), "AmountTooLow");
    assert_eq!(refused(&chain, stake(1, [8; 32], 2_000_000)), "HotKeyAccountNotExists");
    assert_eq!(refused(&chain, stake(1, charlie, 1_999_999)), "AmountTooLow");
    assert_eq!(refused(&chain, stake(1, charlie, u64::MAX)), "NotEnoughBalanceToStake");
    let before = free(&chain, &dave());
    execute(&mut chain, dave(), &stake(1, charlie, 5_000_000_000));
    execute(&mut chain, charlie, &stake(1, charlie, 3_000_000_000));
    assert_eq!(before - free(&chain, &dave()), 5_000_000_000);
    let state = chain.state(chain.best());
    assert_eq!(stake::of(&state, &charlie, &dave(), 1), 5_000_000_000);
    assert_eq!(subnets::stake(&state, 1, &charlie), 8_000_000_000);
    drop(state);
    blocks(&mut chain, 100);
    let permits: Vec<bool> = chain.state(chain.best()).get(Item::ValidatorPermit, key![1_u16]);
    assert_eq!(permits, [true, true, true]);
    assert_eq!(refused(&chain, unstake(5_000_000_001)), "NotEnoughStakeToWithdraw");
    assert_eq!(refused(&chain, unstake(1_999_999)), "AmountTooLow");
    assert_eq!(refused(&chain, unstake(0)), "AmountTooLow");
    execute(&mut chain, dave(), &unstake(5_000_000_000));
    assert_eq!(free(&chain, &dave()), before);
    execute(&mut chain, charlie, &unstake(3_000_000_000));
    blocks(&mut chain, 100);
    let permits: Vec<bool> = chain.state(chain.best()).get(Item::ValidatorPermit, key![1_u16]);
    assert_eq!(permits, [true, true, false]);
}

#[test]
fn stake_with_a_limit_is_moved_at_the_one_price_or_not_at_all() {
    let mut chain = populated();
    let charlie = key_of(&dev::charlie());
    let wanted = |limit| stake::Wanted { hotkey: charlie, netuid: 1, rao: 3_000_000_000, limit: Some(limit) };
    let price = stake::PRICE_RAO;
    for (call, error) in [
        (Call::AddStake(wanted((price - 1, false))), "SlippageTooHigh"),
        (Call::AddStake(wanted((price - 1, true))), "AmountTooLow"),
    ] {
        assert_eq!(error_of(attempt(&chain, dave(), &call)), error);
    }
    execute(&mut chain, dave(), &Call::AddStake(wanted((price, false))));
    let dearer = Call::RemoveStake(wanted((price + 1, false)));
    assert_eq!(error_of(attempt(&chain, dave(), &dearer)), "SlippageTooHigh");
    execute(&mut chain, dave(), &Call::RemoveStake(wanted((price, true))));
    assert_eq!(stake::of(&chain.state(chain.best()), &charlie, &dave(), 1), 0);
}

#[test]
fn a_subnet_is_bought_and_started_and_the_next_one_is_dearer() {
    let mut chain = chain();
    let register = |hotkey| Call::RegisterNetwork { hotkey, identity: None };
    let cost = |chain: &Chain| network::cost(&chain.state(chain.best()), u64::from(chain.best()) + 1);
    let price = cost(&chain);
    assert_eq!(price, 1_000_000_000_000);
    assert_eq!(error_of(attempt(&chain, [7; 32], &register([6; 32]))), "CannotAffordLockCost");
    execute(&mut chain, dave(), &register([6; 32]));
    assert_eq!(free(&chain, &dave()), 1_000_000_000_000_000 - price);
    assert!(cost(&chain) > price + price / 2);
    let state = chain.state(chain.best());
    assert_eq!(subnets::all(&state), [0, 1]);
    assert_eq!(state.get::<u16>(Item::Uids, key![1_u16, &[6; 32]]), 0);
    assert_eq!(state.find::<[u8; 32]>(Item::SubnetOwner, key![1_u16]), Some(dave()));
    drop(state);
    assert_eq!(error_of(attempt(&chain, alice(), &register([6; 32]))), "NonAssociatedColdKey");
    let wanted = stake::Wanted { hotkey: [6; 32], netuid: 1, rao: 5_000_000, limit: None };
    let stake = Call::AddStake(wanted);
    assert_eq!(error_of(attempt(&chain, dave(), &stake)), "SubtokenDisabled");
    assert_eq!(error_of(attempt(&chain, alice(), &Call::StartSubnet { netuid: 1 })), "BadOrigin");
    execute(&mut chain, dave(), &Call::StartSubnet { netuid: 1 });
    let again = attempt(&chain, dave(), &Call::StartSubnet { netuid: 1 });
    assert_eq!(error_of(again), "FirstEmissionBlockNumberAlreadySet");
    attempt(&chain, dave(), &stake).unwrap();
}

#[test]
fn owners_set_the_tempo_and_ask_for_epochs() {
    let mut chain = populated();
    let tempo = |tempo| Call::SetTempo { netuid: 1, tempo };
    let trigger = Call::TriggerEpoch { netuid: 1 };
    assert_eq!(error_of(attempt(&chain, dave(), &tempo(400))), "BadOrigin");
    assert_eq!(error_of(attempt(&chain, alice(), &tempo(359))), "TempoOutOfBounds");
    assert_eq!(error_of(attempt(&chain, alice(), &tempo(50_401))), "TempoOutOfBounds");
    execute(&mut chain, alice(), &tempo(400));
    let set_at = u64::from(chain.best());
    execute(&mut chain, alice(), &trigger);
    assert_eq!(error_of(attempt(&chain, alice(), &trigger)), "EpochTriggerAlreadyPending");
    assert_eq!(error_of(attempt(&chain, alice(), &tempo(500))), "AdminActionProhibitedDuringWeightsWindow");
    let index = |chain: &Chain| chain.state(chain.best()).get::<u64>(Item::SubnetEpochIndex, key![1_u16]);
    let fires_at = u32::try_from(set_at).unwrap() + 11;
    until(&mut chain, fires_at - 1);
    assert_eq!(index(&chain), 0);
    blocks(&mut chain, 1);
    assert_eq!(index(&chain), 1);
    until(&mut chain, fires_at + 391);
    assert_eq!(error_of(attempt(&chain, alice(), &trigger)), "AutoEpochAlreadyImminent");
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &true);
        Ok(())
    });
    assert_eq!(error_of(attempt(&chain, alice(), &trigger)), "DynamicTempoBlockedByCommitReveal");
}

#[test]
fn a_swapped_hotkey_takes_over_everything_but_the_commitment() {
    let mut chain = populated();
    let bob = key_of(&dev::bob());
    let info = commitments::Info::read(&[4, 2, 7]).unwrap();
    execute(&mut chain, bob, &Call::SetCommitment { netuid: 1, info });
    execute(&mut chain, bob, &Call::ServeAxon(axon()));
    let swap = |old, new, netuid| Call::SwapHotkey(Swap { old, new, netuid, keep_stake: false });
    let refused = |chain: &Chain, signer, call| error_of(attempt(chain, signer, &call));
    let charlie = key_of(&dev::charlie());
    assert_eq!(refused(&chain, alice(), swap(bob, [5; 32], None)), "NonAssociatedColdKey");
    assert_eq!(refused(&chain, bob, swap(bob, charlie, None)), "NonAssociatedColdKey");
    assert_eq!(refused(&chain, bob, swap(bob, bob, None)), "NewHotKeyIsSameWithOld");
    assert_eq!(refused(&chain, bob, swap(bob, [5; 32], Some(1))), "HotKeySwapOnSubnetIntervalNotPassed");
    execute(&mut chain, bob, &swap(bob, [5; 32], None));
    let state = chain.state(chain.best());
    assert_eq!(state.get::<u16>(Item::Uids, key![1_u16, &[5; 32]]), 1);
    assert_eq!(state.get::<[u8; 32]>(Item::Keys, key![1_u16, 1_u16]), [5; 32]);
    assert!(state.has(Item::Axons, key![1_u16, &[5; 32]]) && !state.has(Item::Axons, key![1_u16, &bob]));
    assert!(state.has(Item::CommitmentOf, key![1_u16, &bob]));
    assert!(!state.has(Item::CommitmentOf, key![1_u16, &[5; 32]]));
    assert_eq!(subnets::stake(&state, 1, &[5; 32]), 1_000_000_000_000);
    assert_eq!(subnets::stake(&state, 1, &bob), 0);
    assert_eq!(state.find::<[u8; 32]>(Item::Owner, key![&[5; 32]]), Some(bob));
    assert_eq!(state.find::<[u8; 32]>(Item::Owner, key![&bob]), None);
    drop(state);
    let again = refused(&chain, bob, swap([5; 32], [4; 32], None));
    assert_eq!(again, "HotKeySwapOnSubnetIntervalNotPassed");
}

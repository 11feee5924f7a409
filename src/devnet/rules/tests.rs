//! Tests of the rules: every refusal in the chain's order.
//!
//! An attempt that breaks everything is repaired one step at a time; each step must show the next error.

use subxt_signer::sr25519::dev;

use super::*;
use crate::devnet::{
    call::Axon,
    chain::{Chain, Invalid},
    items::Item,
    rules::weights::max_upscale,
    state::key,
    testkit::{act, blocks, call_bytes, chain, key_of, populated, submit},
};

/// What a call would end with in the next block.
pub fn attempt(chain: &Chain, signer: [u8; 32], call: &Call) -> Done {
    let mut state = chain.state(chain.best());
    state.begin();
    World::new(state, chain.best() + 1).dispatch(Origin::Signed(signer), call)
}

/// Executes a call in a block of its own.
pub fn execute(chain: &mut Chain, signer: [u8; 32], call: &Call) {
    act(chain, |world| world.dispatch(Origin::Signed(signer), call).map_err(|failure| format!("{failure:?}")));
}

pub fn error_of(done: Done) -> &'static str {
    match done.unwrap_err() {
        Failure::Module(_, error) | Failure::Token(error) => error,
        Failure::BadOrigin => "BadOrigin",
    }
}

fn weights(netuid: u16, dests: &[u16], weights: &[u16], version_key: u64) -> Call {
    Call::SetWeights { netuid, mecid: 0, dests: dests.to_vec(), weights: weights.to_vec(), version_key }
}

/// Somewhere that anybody may say a server listens.
pub fn axon() -> Axon {
    Axon {
        netuid: 1,
        version: 1,
        ip: 0x0102_0304,
        port: 80,
        ip_type: 4,
        protocol: 0,
        placeholder1: 0,
        placeholder2: 0,
        certificate: None,
    }
}

pub fn set_number(chain: &mut Chain, item: Item, netuid: u16, value: u64) {
    act(chain, |world| {
        world.state.put(item, key![netuid], &value);
        Ok(())
    });
}

pub fn set_threshold(chain: &mut Chain, rao: u64) {
    act(chain, |world| {
        world.state.put(Item::StakeThreshold, &[], &rao);
        Ok(())
    });
}

/// Makes blocks up to a height.
pub fn until(chain: &mut Chain, height: u32) {
    let missing = height - chain.best();
    blocks(chain, missing);
}

pub fn row(chain: &Chain, uid: u16) -> Vec<(u16, u16)> {
    chain.state(chain.best()).get(Item::Weights, key![1_u16, uid])
}

#[test]
fn weights_are_refused_in_the_order_of_the_chain() {
    let mut chain = populated();
    let (charlie, dave) = (key_of(&dev::charlie()), key_of(&dev::dave()));
    set_threshold(&mut chain, u64::MAX);
    for (item, value) in [
        (Item::WeightsVersionKey, 5),
        (Item::WeightsSetRateLimit, 1000),
        (Item::MinAllowedWeights, 3),
        (Item::MaxWeightsLimit, 100),
    ] {
        set_number(&mut chain, item, 1, value);
    }
    let expect = |chain: &Chain, signer, call: Call, error| assert_eq!(error_of(attempt(chain, signer, &call)), error);
    expect(&chain, dave, weights(0, &[7; 5], &[1; 4], 0), "CanNotSetRootNetworkWeights");
    expect(&chain, dave, weights(9, &[7; 5], &[1; 4], 0), "WeightVecNotEqualSize");
    expect(&chain, dave, weights(9, &[7; 5], &[1; 5], 0), "MechanismDoesNotExist");
    let other_mechanism = Call::SetWeights { netuid: 1, mecid: 1, dests: vec![7], weights: vec![1], version_key: 0 };
    expect(&chain, dave, other_mechanism, "MechanismDoesNotExist");
    expect(&chain, dave, weights(1, &[7; 5], &[1; 5], 0), "UidsLengthExceedUidsInSubNet");
    expect(&chain, dave, weights(1, &[7, 7], &[1, 1], 0), "HotKeyNotRegisteredInSubNet");
    expect(&chain, charlie, weights(1, &[7, 7], &[1, 1], 0), "NotEnoughStakeToSetWeights");
    set_threshold(&mut chain, 0);
    expect(&chain, charlie, weights(1, &[7, 7], &[1, 1], 4), "IncorrectWeightVersionKey");
    expect(&chain, charlie, weights(1, &[7, 7], &[1, 1], 5), "SettingWeightsTooFast");
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 0);
    expect(&chain, charlie, weights(1, &[7, 7], &[1, 1], 5), "NeuronNoValidatorPermit");
    act(&mut chain, |world| subnets::set_permit(world, 1, &charlie, true, 1));
    expect(&chain, charlie, weights(1, &[7, 7], &[1, 1], 5), "DuplicateUids");
    expect(&chain, charlie, weights(1, &[7, 0], &[1, 1], 5), "UidVecContainInvalidOne");
    expect(&chain, charlie, weights(1, &[1, 0], &[1, 1], 5), "WeightVecLengthIsLow");
    expect(&chain, charlie, weights(1, &[1, 0, 2], &[1, 1, 1], 5), "MaxWeightExceeded");
    set_number(&mut chain, Item::MaxWeightsLimit, 1, 65_535);
    execute(&mut chain, charlie, &weights(1, &[1, 0, 2], &[10, 5, 0], 5));
    assert_eq!(row(&chain, 2), [(1, 65_535), (0, 32_768), (2, 0)]);
}

#[test]
fn a_lone_self_weight_needs_no_permit_no_length_and_no_limit() {
    let mut chain = populated();
    set_number(&mut chain, Item::MinAllowedWeights, 1, 3);
    set_number(&mut chain, Item::MaxWeightsLimit, 1, 1);
    let charlie = key_of(&dev::charlie());
    execute(&mut chain, charlie, &weights(1, &[2], &[9], 0));
    assert_eq!(row(&chain, 2), [(2, 65_535)]);
    assert_eq!(error_of(attempt(&chain, charlie, &weights(1, &[1], &[9], 0))), "NeuronNoValidatorPermit");
}

#[test]
fn the_rate_limit_counts_from_registration_and_from_the_last_weights() {
    let mut chain = populated();
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 10);
    let bob = key_of(&dev::bob());
    let call = weights(1, &[0], &[1], 0);
    // Registered in block 2: block 12 is the first that may.
    until(&mut chain, 10);
    assert_eq!(error_of(attempt(&chain, bob, &call)), "SettingWeightsTooFast");
    blocks(&mut chain, 1);
    execute(&mut chain, bob, &call);
    assert_eq!(chain.best(), 12);
    blocks(&mut chain, 8);
    assert_eq!(error_of(attempt(&chain, bob, &call)), "SettingWeightsTooFast");
    blocks(&mut chain, 1);
    attempt(&chain, bob, &call).unwrap();
}

#[test]
fn with_commit_reveal_plain_weights_are_stored_but_do_not_count_as_an_update() {
    let mut chain = populated();
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 1000);
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &true);
        Ok(())
    });
    execute(&mut chain, key_of(&dev::bob()), &weights(1, &[0], &[1], 0));
    assert_eq!(row(&chain, 1), [(0, 65_535)]);
    let updates: Vec<u64> = chain.state(chain.best()).get(Item::LastUpdate, key![1_u16]);
    assert_eq!(updates, [1, 2, 3]);
}

#[test]
fn upscaling_rounds_as_the_chains_fixed_point_does() {
    assert_eq!(max_upscale(&[5]), [65_535]);
    assert_eq!(max_upscale(&[0, 0]), [0, 0]);
    assert_eq!(max_upscale(&[1, 2, 4]), [16_384, 32_768, 65_535]);
    assert_eq!(max_upscale(&[65_535, 7]), [65_535, 7]);
    // Above 32768 the factor is cut to 32 bits of fraction before it multiplies.
    for largest in [32_769_u16, 40_000, 60_001, 65_534] {
        let factor = (65_535_u64 << 32) / u64::from(largest);
        let other = 12_345_u16;
        let exact = (u64::from(other) * factor + (1 << 31)) >> 32;
        assert_eq!(max_upscale(&[largest, other])[1], u16::try_from(exact).unwrap());
    }
}

#[test]
fn the_pool_refuses_by_number_what_the_call_would_refuse_by_name() {
    let mut chain = populated();
    let runtime = std::sync::Arc::clone(chain.runtime());
    let fields = || vec![Datum::Num(1), Datum::Num(0), Datum::numbers([0_u8]), Datum::numbers([1_u8]), Datum::Num(0)];
    let call = call_bytes(&runtime, "SubtensorModule", "set_mechanism_weights", fields());
    set_threshold(&mut chain, u64::MAX);
    assert_eq!(submit(&mut chain, &dev::bob(), &call), Err(Invalid::Custom(1)));
    set_threshold(&mut chain, 0);
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 1000);
    assert_eq!(submit(&mut chain, &dev::bob(), &call), Err(Invalid::Custom(6)));
    // About a stranger the pool says nothing; the included call fails.
    submit(&mut chain, &dev::dave(), &call).unwrap();
}

fn register(hotkey: [u8; 32], netuid: u16) -> Call {
    Call::BurnedRegister { netuid, hotkey, limit_price: None }
}

fn price(chain: &Chain) -> u64 {
    chain.state(chain.best()).get(Item::Burn, key![1_u16])
}

#[test]
fn registrations_are_refused_in_the_order_of_the_chain() {
    let mut chain = populated();
    let (bob, poor) = (key_of(&dev::bob()), [9; 32]);
    act(&mut chain, |world| {
        world.state.put(Item::RegistrationAllowed, key![1_u16], &false);
        world.state.put(Item::MaxAllowedUids, key![1_u16], &3_u16);
        world.state.put(Item::ImmuneOwnerUids, key![1_u16], &3_u16);
        world.state.put(Item::OwnedHotkeys, key![&key_of(&dev::alice())], &vec![bob, key_of(&dev::charlie())]);
        // A hotkey that belongs to somebody else.
        world.state.put(Item::Owner, key![&[8; 32]], &[7; 32]);
        Ok(())
    });
    let expect = |chain: &Chain, signer, call: Call, error| assert_eq!(error_of(attempt(chain, signer, &call)), error);
    expect(&chain, poor, register(bob, 0), "RegistrationNotPermittedOnRootSubnet");
    expect(&chain, poor, register(bob, 9), "SubnetNotExists");
    // A limit is looked at before anything about the hotkey.
    let limited = |hotkey, limit| Call::BurnedRegister { netuid: 1, hotkey, limit_price: Some(limit) };
    expect(&chain, poor, limited(bob, price(&chain) / 2), "RegistrationPriceLimitExceeded");
    expect(&chain, poor, limited(bob, u64::MAX), "SubNetRegistrationDisabled");
    expect(&chain, poor, register(bob, 1), "SubNetRegistrationDisabled");
    act(&mut chain, |world| {
        world.state.put(Item::RegistrationAllowed, key![1_u16], &true);
        Ok(())
    });
    expect(&chain, poor, register(bob, 1), "HotKeyAlreadyRegisteredInSubNet");
    expect(&chain, poor, register([8; 32], 1), "NotEnoughBalanceToStake");
    expect(&chain, key_of(&dev::dave()), register([8; 32], 1), "NonAssociatedColdKey");
    expect(&chain, key_of(&dev::dave()), register([6; 32], 1), "NoNeuronIdAvailable");
    expect(&chain, key_of(&dev::dave()), limited([6; 32], u64::MAX), "NoNeuronIdAvailable");
    act(&mut chain, |world| {
        world.state.put(Item::MaxAllowedUids, key![1_u16], &0_u16);
        world.state.put(Item::MinNonImmuneUids, key![1_u16], &0_u16);
        world.state.put(Item::ImmuneOwnerUids, key![1_u16], &0_u16);
        Ok(())
    });
    expect(&chain, key_of(&dev::dave()), register([6; 32], 1), "NoNeuronIdAvailable");
}

#[test]
fn a_registration_costs_the_price_raises_it_and_makes_the_hotkey_the_coldkeys() {
    let mut chain = populated();
    let dave = key_of(&dev::dave());
    let before = balances::free(&chain.state(chain.best()), &dave);
    execute(&mut chain, dave, &register([6; 32], 1));
    let state = chain.state(chain.best());
    let paid = before - balances::free(&state, &dave);
    assert!(paid > 900_000_000 && paid < 1_000_000_000, "{paid}");
    let raised = u64::try_from(u128::from(paid) * 126 / 100).unwrap();
    assert!(price(&chain).abs_diff(raised) <= 1, "{} {raised}", price(&chain));
    assert_eq!(state.get::<u16>(Item::Uids, key![1_u16, &[6; 32]]), 3);
    assert_eq!(state.get::<[u8; 32]>(Item::Keys, key![1_u16, 3_u16]), [6; 32]);
    assert_eq!(state.get::<[u8; 32]>(Item::Owner, key![&[6; 32]]), dave);
    assert_eq!(state.get::<u64>(Item::BlockAtRegistration, key![1_u16, 3_u16]), u64::from(chain.best()));
    let falling = price(&chain);
    blocks(&mut chain, 360);
    assert!(price(&chain).abs_diff(falling / 2) < 1000, "half after a half-life");
}

#[test]
fn a_full_subnet_replaces_the_least_and_oldest_and_forgets_its_server_but_not_its_words() {
    let mut chain = populated();
    let bob = key_of(&dev::bob());
    execute(&mut chain, bob, &Call::SetCommitment { netuid: 1, info: commitments::Info::read(&[4, 2, 7]).unwrap() });
    let axon = axon();
    execute(&mut chain, bob, &Call::ServeAxon(axon));
    act(&mut chain, |world| {
        world.state.put(Item::MaxAllowedUids, key![1_u16], &3_u16);
        world.state.put(Item::MinNonImmuneUids, key![1_u16], &0_u16);
        world.state.put(Item::Emission, key![1_u16], &vec![0_u64, 5, 9]);
        Ok(())
    });
    blocks(&mut chain, 10);
    execute(&mut chain, key_of(&dev::dave()), &register([6; 32], 1));
    let state = chain.state(chain.best());
    // Alice has less but owns the subnet; Bob has less than Charlie.
    assert_eq!(state.get::<u16>(Item::Uids, key![1_u16, &[6; 32]]), 1);
    assert!(!state.has(Item::Uids, key![1_u16, &bob]) && !state.has(Item::Axons, key![1_u16, &bob]));
    assert!(state.has(Item::CommitmentOf, key![1_u16, &bob]));
    assert!(!state.get::<Vec<bool>>(Item::ValidatorPermit, key![1_u16])[1]);
    // The newcomer is immune now, so the next one takes Charlie's place although Charlie has more.
    execute(&mut chain, key_of(&dev::dave()), &register([5; 32], 1));
    assert_eq!(chain.state(chain.best()).get::<u16>(Item::Uids, key![1_u16, &[5; 32]]), 2);
}

#[test]
fn commitments_need_a_registration_and_space() {
    let mut chain = populated();
    let info = |bytes: usize| {
        let mut field = vec![4, u8::try_from(bytes + 1).unwrap()];
        field.extend(vec![1; bytes]);
        commitments::Info::read(&field).unwrap()
    };
    let stranger = Call::SetCommitment { netuid: 1, info: info(3) };
    assert_eq!(error_of(attempt(&chain, key_of(&dev::dave()), &stranger)), "AccountNotAllowedCommit");
    let bob = key_of(&dev::bob());
    blocks(&mut chain, 100);
    // 3100 bytes an epoch, each commitment at least 100: 31 of them.
    for _ in 0..31 {
        execute(&mut chain, bob, &Call::SetCommitment { netuid: 1, info: info(3) });
    }
    assert_eq!(error_of(attempt(&chain, bob, &Call::SetCommitment { netuid: 1, info: info(3) })), "SpaceLimitExceeded");
    attempt(&chain, key_of(&dev::charlie()), &Call::SetCommitment { netuid: 1, info: info(128) }).unwrap();
    blocks(&mut chain, 100);
    execute(&mut chain, bob, &Call::SetCommitment { netuid: 1, info: info(128) });
    assert_eq!(chain.state(chain.best()).get::<u32>(Item::LastCommitment, key![1_u16, &bob]), chain.best());
}

#[test]
fn axons_are_refused_by_name_and_by_number() {
    let mut chain = populated();
    let good = axon();
    let bob = key_of(&dev::bob());
    let with = |change: &dyn Fn(&mut Axon)| {
        let mut axon = good.clone();
        change(&mut axon);
        axon
    };
    let cases = [
        ([1; 32], good.clone(), "HotKeyNotRegisteredInNetwork", 10),
        (bob, with(&|axon| axon.ip_type = 5), "InvalidIpType", 255),
        (bob, with(&|axon| axon.ip = 0x7f00_0001), "InvalidIpAddress", 11),
        (bob, with(&|axon| axon.ip = u32::MAX.into()), "InvalidIpAddress", 11),
        (bob, with(&|axon| (axon.ip, axon.ip_type) = (1, 6)), "InvalidIpAddress", 11),
        (bob, with(&|axon| axon.port = 0), "InvalidPort", 13),
    ];
    for (signer, axon, error, number) in cases {
        let call = Call::ServeAxon(axon);
        assert_eq!(error_of(attempt(&chain, signer, &call)), error);
        let world = World::new(chain.state(chain.best()), chain.best() + 1);
        assert_eq!(world.guard(&signer, &call), Err(number));
    }
    attempt(&chain, bob, &Call::ServeAxon(with(&|axon| axon.ip = 0))).unwrap();
    execute(&mut chain, bob, &Call::ServeAxon(good.clone()));
    assert_eq!(error_of(attempt(&chain, bob, &Call::ServeAxon(good.clone()))), "ServingRateLimitExceeded");
    blocks(&mut chain, 49);
    attempt(&chain, bob, &Call::ServeAxon(good)).unwrap();
}

#[test]
fn a_certificate_and_a_prometheus_are_stored_beside_the_axon() {
    let mut chain = populated();
    let (bob, axon) = (key_of(&dev::bob()), axon());
    let with_certificate = Axon { certificate: Some([&[7][..], &[9; 64]].concat()), ..axon.clone() };
    execute(&mut chain, bob, &Call::ServeAxon(with_certificate));
    let state = chain.state(chain.best());
    let stored = state.raw(&state.key(Item::NeuronCertificates, key![1_u16, &bob])).unwrap();
    // The key behind its compact length, then the algorithm.
    assert_eq!(&stored[..], [&[1, 1][..], &[9; 64], &[7]].concat());
    let prometheus = crate::devnet::call::Prometheus { netuid: 1, version: 1, ip: 0, port: 80, ip_type: 4 };
    let refused = |chain: &Chain, signer, given| error_of(attempt(chain, signer, &Call::ServePrometheus(given)));
    assert_eq!(refused(&chain, [1; 32], prometheus), "InvalidIpAddress");
    let prometheus = crate::devnet::call::Prometheus { ip: 0x0102_0304, ..prometheus };
    assert_eq!(refused(&chain, [1; 32], prometheus), "HotKeyNotRegisteredInNetwork");
    execute(&mut chain, bob, &Call::ServePrometheus(prometheus));
    assert_eq!(refused(&chain, bob, prometheus), "ServingRateLimitExceeded");
    assert!(chain.state(chain.best()).has(Item::Prometheus, key![1_u16, &bob]));
}

#[test]
fn transfers_respect_the_existential_deposit() {
    let chain = chain();
    let alice = key_of(&dev::alice());
    let all = balances::free(&chain.state(0), &alice);
    let transfer =
        |dest, value, keep_alive| error_of(attempt(&chain, alice, &Call::Transfer { dest, value, keep_alive }));
    assert_eq!(transfer([1; 32], all + 1, false), "FundsUnavailable");
    assert_eq!(transfer([1; 32], all - 499, true), "NotExpendable");
    assert_eq!(transfer([1; 32], 499, true), "BelowMinimum");
    for (value, keep_alive) in [(500, true), (all - 500, true), (all, false), (all - 499, false)] {
        attempt(&chain, alice, &Call::Transfer { dest: [1; 32], value, keep_alive }).unwrap();
    }
}

#[test]
fn batches_stop_fail_or_go_on() {
    let mut chain = chain();
    let alice = key_of(&dev::alice());
    let pay = |dest, value| Call::Transfer { dest, value, keep_alive: true };
    let calls = || vec![pay([1; 32], 1_000), pay([2; 32], 1), pay([3; 32], 1_000)];
    let got = |chain: &Chain| [1_u8, 2, 3].map(|byte| balances::free(&chain.state(chain.best()), &[byte; 32]));
    let all = Call::Batch { mode: Batch::All, calls: calls() };
    assert_eq!(error_of(attempt(&chain, alice, &all)), "BelowMinimum");
    execute(&mut chain, alice, &Call::Batch { mode: Batch::Stop, calls: calls() });
    assert_eq!(got(&chain), [1_000, 0, 0]);
    execute(&mut chain, alice, &Call::Batch { mode: Batch::Force, calls: calls() });
    assert_eq!(got(&chain), [2_000, 0, 1_000]);
}

#[test]
fn hyperparameters_are_for_the_root_some_for_the_owner_and_none_for_others() {
    let mut chain = populated();
    let set = |name, value: u64| {
        let setter = admin::setter(name).unwrap();
        let value = chain.runtime().encode(&value, chain.runtime().entry(setter.item).value);
        Call::Admin { setter, netuid: 1, value }
    };
    let tempo = set("sudo_set_tempo", 7);
    let immunity = set("sudo_set_immunity_period", 7);
    let (alice, bob) = (key_of(&dev::alice()), key_of(&dev::bob()));
    assert_eq!(error_of(attempt(&chain, bob, &immunity)), "BadOrigin");
    assert_eq!(error_of(attempt(&chain, alice, &tempo)), "BadOrigin");
    assert_eq!(error_of(attempt(&chain, bob, &Call::Sudo(Box::new(tempo.clone())))), "RequireSudo");
    attempt(&chain, alice, &immunity).unwrap();
    execute(&mut chain, alice, &Call::Sudo(Box::new(tempo)));
    assert_eq!(chain.state(chain.best()).get::<u16>(Item::Tempo, key![1_u16]), 7);
}

#[test]
fn epochs_run_by_state_and_no_more_than_allowed_per_block() {
    let mut chain = populated();
    let wanted = crate::devnet::testkit::wanted();
    for _ in 0..3 {
        act(&mut chain, |world| subnets::create(world, &wanted, [3; 32], [3; 32]));
    }
    let epochs = |chain: &Chain| -> Vec<u64> {
        let state = chain.state(chain.best());
        (1..=4_u16).map(|netuid| state.get(Item::SubnetEpochIndex, key![netuid])).collect()
    };
    // All four are made due in one block; two run, two wait for the next.
    let due = chain.best() + 20;
    for netuid in 1..=4 {
        set_number(&mut chain, Item::PendingEpochAt, netuid, due.into());
    }
    until(&mut chain, due - 1);
    assert_eq!(epochs(&chain), [0, 0, 0, 0]);
    blocks(&mut chain, 1);
    assert_eq!(epochs(&chain), [1, 1, 0, 0]);
    blocks(&mut chain, 1);
    assert_eq!(epochs(&chain), [1, 1, 1, 1]);
    // Subnet 1 ran at `due`; its next regular epoch comes a tempo later, not a tempo and one.
    until(&mut chain, due + 99);
    assert_eq!(epochs(&chain)[0], 1);
    blocks(&mut chain, 1);
    assert_eq!(epochs(&chain)[0], 2);
}

#[test]
fn an_epoch_turns_weights_into_incentive_and_keeps_the_staked_validators_permit() {
    let mut chain = populated();
    execute(&mut chain, key_of(&dev::bob()), &weights(1, &[0, 2], &[1, 3], 0));
    blocks(&mut chain, 100);
    let state = chain.state(chain.best());
    assert_eq!(state.get::<Vec<u16>>(Item::Incentive, key![1_u16]), [16_383, 0, 49_151]);
    assert_eq!(state.get::<Vec<u16>>(Item::Dividends, key![1_u16]), [0, 65_535, 0]);
    // The owner always has a permit, the validator by its stake.
    assert_eq!(state.get::<Vec<bool>>(Item::ValidatorPermit, key![1_u16]), [true, true, false]);
    assert!(state.get::<Vec<u64>>(Item::Emission, key![1_u16]).iter().all(|rao| *rao > 0));
}

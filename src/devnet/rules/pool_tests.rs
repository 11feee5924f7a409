//! Tests of what the pool says before a call is tried, by number, and of epochs that have to wait for others.

use subxt_signer::sr25519::{Keypair, dev};

use super::*;
use crate::devnet::{
    chain::{Chain, Invalid},
    items::Item,
    state::key,
    testkit::{act, blocks, call_bytes, chain, events_of, key_of, populated, submit, wanted},
};

fn numbers(values: &[u128]) -> Datum {
    Datum::numbers(values.iter().copied())
}

/// What the pool says to a call of the subtensor pallet.
fn told(chain: &mut Chain, who: &Keypair, call: &str, fields: Vec<Datum>) -> Result<(), Invalid> {
    let bytes = call_bytes(chain.runtime(), "SubtensorModule", call, fields);
    submit(chain, who, &bytes).map(drop)
}

fn axon(ip: u128, port: u128) -> Vec<Datum> {
    [1, 1, ip, port, 4, 0, 0, 0].map(Datum::Num).to_vec()
}

#[test]
fn the_pool_has_a_number_for_each_of_its_refusals() {
    const IP: u128 = 0x0102_0304;
    let mut chain = populated();
    let (bob, dave) = (dev::bob(), dev::dave());
    assert_eq!(told(&mut chain, &dave, "serve_axon", axon(IP, 80)), Err(Invalid::Custom(10)));
    for ip in [0x7f00_0001, u128::from(u32::MAX)] {
        assert_eq!(told(&mut chain, &bob, "serve_axon", axon(ip, 80)), Err(Invalid::Custom(11)));
    }
    assert_eq!(told(&mut chain, &bob, "serve_axon", axon(IP, 0)), Err(Invalid::Custom(13)));
    assert_eq!(told(&mut chain, &bob, "serve_axon", axon(IP, 80)), Ok(()));
    blocks(&mut chain, 1);
    assert_eq!(told(&mut chain, &bob, "serve_axon", axon(IP, 81)), Err(Invalid::Custom(12)));
    let batch = vec![numbers(&[1]), Datum::List(Vec::new()), numbers(&[0])];
    assert_eq!(told(&mut chain, &bob, "batch_set_weights", batch), Err(Invalid::Custom(18)));
}

#[test]
fn the_pool_has_a_number_for_reveals_and_rounds_that_cannot_be() {
    let mut chain = populated();
    let bob = dev::bob();
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &true);
        world.state.put(Item::LastStoredRound, &[], &5_u64);
        Ok(())
    });
    let sealed = |round| vec![Datum::Num(1), Datum::Bytes(vec![1, 2, 3]), Datum::Num(round), Datum::Num(4)];
    assert_eq!(told(&mut chain, &bob, "commit_timelocked_weights", sealed(4)), Err(Invalid::Custom(15)));
    assert_eq!(told(&mut chain, &bob, "commit_timelocked_weights", sealed(5)), Ok(()));
    let shown = commit_reveal::Shown { uids: vec![0, 1], values: vec![1, 2], salt: vec![3], version_key: 0 };
    let reveal = vec![Datum::Num(1), numbers(&[0, 1]), numbers(&[1, 2]), numbers(&[3]), Datum::Num(0)];
    assert_eq!(told(&mut chain, &bob, "reveal_weights", reveal.clone()), Err(Invalid::Custom(16)));
    let commit = vec![Datum::Num(1), Datum::account(&shown.hash(&key_of(&bob), 1))];
    assert_eq!(told(&mut chain, &bob, "commit_weights", commit), Ok(()));
    blocks(&mut chain, 1);
    assert_eq!(told(&mut chain, &bob, "reveal_weights", reveal), Err(Invalid::Custom(17)));
}

#[test]
fn two_epochs_run_in_a_block_and_the_third_a_block_later() {
    let mut chain = chain();
    for owner in [dev::alice(), dev::bob(), dev::charlie()] {
        act(&mut chain, |world| subnets::create(world, &wanted(), key_of(&owner), key_of(&owner)));
    }
    let begun = chain.best() + 1;
    act(&mut chain, |world| {
        assert_eq!(world.state.get::<u8>(Item::MaxEpochsPerBlock, &[]), 2);
        for netuid in 1..=3_u16 {
            world.state.put(Item::Tempo, key![netuid], &10_u16);
            world.state.put(Item::LastEpochBlock, key![netuid], &u64::from(begun));
        }
        Ok(())
    });
    let epochs = |chain: &Chain| {
        let state = chain.state(chain.best());
        [1, 2, 3].map(|netuid: u16| state.get::<u64>(Item::LastEpochBlock, key![netuid]) - u64::from(begun))
    };
    blocks(&mut chain, 9);
    assert_eq!(epochs(&chain), [0, 0, 0]);
    blocks(&mut chain, 1);
    assert_eq!(epochs(&chain), [10, 10, 0]);
    let pending: u64 = chain.state(chain.best()).get(Item::PendingEpochAt, key![3_u16]);
    assert_eq!(pending, u64::from(chain.best()) + 1);
    blocks(&mut chain, 1);
    assert_eq!(epochs(&chain), [10, 10, 11]);
    let pending: u64 = chain.state(chain.best()).get(Item::PendingEpochAt, key![3_u16]);
    assert_eq!(pending, 0);
    assert!(!events_of(&chain, 0).is_empty());
}

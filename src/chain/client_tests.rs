//! The client against a scripted chain: answers that cannot be right, forks, forgetting, and the life of a call.

use parity_scale_codec::{Compact, Encode as _};
use serde_json::json;

use super::{
    Call, Error, Field, Followed, Found, Keypair, Outcome, Signed,
    client::blake2_256,
    reads::EVENTS,
    runtime::{Item, Runtime},
    scripted::{Changes, Scripted, State, record, record_list},
};
use crate::ids::{Digest, Hotkey};

const ACCOUNT: Item = Item { pallet: "System", name: "Account" };
const COMMITMENT_OF: Item = Item { pallet: "Commitments", name: "CommitmentOf" };

pub(super) fn hotkey(number: u16) -> [u8; 32] {
    let mut bytes = [0xee; 32];
    bytes[..2].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub(super) fn subnet_of(runtime: &Runtime, netuid: u16, count: u16) -> State {
    let mut changes = Changes::new(runtime)
        .subnet("NetworksAdded", (netuid,), true)
        .subnet("SubnetworkN", (netuid,), count)
        .subnet("Active", (netuid,), vec![true; count.into()])
        .subnet("ValidatorPermit", (netuid,), (0..count).map(|uid| uid == 1).collect::<Vec<bool>>())
        .subnet("Incentive", (netuid,), (0..count).collect::<Vec<u16>>())
        .subnet("LastUpdate", (netuid,), (0..count).map(u64::from).collect::<Vec<u64>>());
    for uid in 0..count {
        changes = changes
            .subnet("Keys", (netuid, uid), hotkey(uid))
            .subnet("BlockAtRegistration", (netuid, uid), u64::from(uid) + 5)
            .subnet("Owner", (hotkey(uid),), [9_u8; 32])
            .subnet("TotalHotkeyAlpha", (hotkey(uid), netuid), u64::from(uid) * 3);
    }
    changes.done()
}

#[tokio::test]
async fn a_metagraph_of_any_size_takes_the_same_few_reads() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    chain.grow(subnet_of(&runtime, 1, 3), vec![]);
    chain.grow(subnet_of(&runtime, 2, 256), vec![]);
    let client = chain.client().await;
    let small = client.metagraph(1, chain.head()).await.unwrap();
    assert_eq!((small.neurons.len(), small.block, small.hash), (3, 2, chain.head()));
    let neuron = small.neuron(&Hotkey(hotkey(2))).unwrap();
    assert_eq!((neuron.uid, neuron.registered_at, neuron.last_update, neuron.incentive), (2, 7, 2, 2));
    assert_eq!((neuron.stake, neuron.permit, neuron.active, neuron.coldkey), (6, false, true, Hotkey([9; 32])));
    assert!(small.neurons[1].permit);
    assert_eq!(small.uid_of(&Hotkey([1; 32])), None);

    chain.script().asked.clear();
    let large = client.metagraph(2, chain.head()).await.unwrap();
    assert_eq!(large.neurons.len(), 256);
    assert!(
        large.neurons.iter().enumerate().all(|(uid, neuron)| neuron.hotkey.0 == hotkey(u16::try_from(uid).unwrap()))
    );
    let asked: usize = chain.script().asked.values().sum();
    assert_eq!(asked, 4, "one header and three batches: {:?}", chain.script().asked);

    let missing = client.metagraph(3, chain.head()).await.unwrap_err();
    assert_eq!(missing.code().name, "chain_subnet_missing");
    chain.grow(Changes::new(&runtime).subnet("SubnetworkN", (1_u16,), 4_u16).done(), vec![]);
    assert!(matches!(client.metagraph(1, chain.head()).await, Err(Error::Answer { .. })));
}

#[tokio::test]
async fn answers_that_cannot_be_right_are_refused() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    chain.grow(Changes::new(&runtime).subnet("LastUpdate", (1_u16,), vec![5_u64]).done(), vec![]);
    let client = chain.client().await;
    let head = chain.head();
    assert_eq!(client.last_update(1, 0, head).await.unwrap(), 5);

    let key = format!("0x{}", hex::encode(runtime.key(Item::subnet("LastUpdate"), (1_u16,)).unwrap()));
    let at = format!("0x{head}");
    for wrong in [
        json!([]),
        json!([{"block": at, "changes": []}]),
        json!([{"block": at, "changes": [[key, null], [key, null]]}]),
        json!([{"block": at, "changes": [["0x00", "0x0405000000000000"]]}]),
        json!([{"block": format!("0x{}", "00".repeat(32)), "changes": [[key, null]]}]),
        json!([{"block": at, "changes": [[key, "zz"]]}]),
        json!("nonsense"),
        json!(null),
    ] {
        chain.answer_once("state_queryStorageAt", Ok(wrong.clone()));
        let error = client.last_update(1, 0, head).await.unwrap_err();
        assert_eq!(error.code().name, "chain_answer_invalid", "{wrong}: {error}");
    }
    // A value that does not fit its type is a runtime that we do not know.
    chain.answer_once("state_queryStorageAt", Ok(json!([{"block": at, "changes": [[key, "0xff"]]}])));
    assert_eq!(client.last_update(1, 0, head).await.unwrap_err().code().name, "chain_runtime_unknown");

    let parent = serde_json::to_value(&chain.script().blocks[0].header).unwrap();
    chain.answer_once("chain_getHeader", Ok(parent));
    assert!(matches!(client.block(head).await, Err(Error::Answer { .. })), "a header of another hash");
    assert!(matches!(client.block(Digest([9; 32])).await, Err(Error::UnknownBlock { .. })));
    chain.answer_once("chain_getFinalizedHead", Err((-32000, "too many requests")));
    assert_eq!(client.finalized_head().await.unwrap_err().code().name, "chain_rate_limited");
    chain.answer_once("chain_getFinalizedHead", Err((-32000, "overloaded")));
    assert_eq!(client.finalized_head().await.unwrap_err().code().name, "chain_rpc_refused");
}

fn stored(block: u32, fields: &[Field]) -> Vec<u8> {
    let mut bytes = (0_u64, block, Compact(u32::try_from(fields.len()).unwrap())).encode();
    fields.iter().for_each(|field| bytes.extend(field.encode().unwrap()));
    bytes
}

#[tokio::test]
async fn commitments_are_scanned_in_pages() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    let mut changes = Changes::new(&runtime);
    for number in 0..2500 {
        changes =
            changes.raw(COMMITMENT_OF, (1_u16, hotkey(number)), stored(u32::from(number), &[Field::Raw(vec![1])]));
    }
    changes = changes.raw(COMMITMENT_OF, (2_u16, hotkey(0)), stored(1, &[]));
    chain.grow(changes.done(), vec![]);
    let client = chain.client().await;
    let mut found = client.commitments(1, chain.head()).await.unwrap();
    found.sort_by_key(|commitment| commitment.block);
    assert_eq!(found.len(), 2500);
    assert!(found.iter().zip(0..).all(|(commitment, number)| commitment.hotkey.0 == hotkey(number)));
    assert_eq!(client.commitments(3, chain.head()).await.unwrap(), vec![]);
    let one = client.commitment_of(1, &Hotkey(hotkey(7)), chain.head()).await.unwrap().unwrap();
    assert_eq!((one.block, one.fields.as_slice()), (7, &[Field::Raw(vec![1])][..]));
    assert_eq!(client.commitment_of(1, &Hotkey([1; 32]), chain.head()).await.unwrap(), None);

    // A node that repeats a page, or answers keys of something else, cannot keep or mislead us.
    let prefix = runtime.prefix(COMMITMENT_OF, (1_u16,)).unwrap();
    let key = format!("0x{}{}", hex::encode(&prefix), "ff".repeat(40));
    chain.answer_once("state_getKeysPaged", Ok(json!([key])));
    chain.answer_once("state_getKeysPaged", Ok(json!([key])));
    assert!(matches!(client.commitments(1, chain.head()).await, Err(Error::Answer { .. })));
    chain.answer_once("state_getKeysPaged", Ok(json!(["0x1234"])));
    assert!(matches!(client.commitments(1, chain.head()).await, Err(Error::Answer { .. })));
}

fn committed(netuid: u16, who: [u8; 32]) -> Vec<u8> {
    [&[18, 0][..], &netuid.to_le_bytes(), &who].concat()
}

#[tokio::test]
async fn a_blocks_commitments_are_those_of_its_events() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    let (first, second) = (hotkey(1), hotkey(2));
    let field = |text: &str| Field::Raw(text.as_bytes().to_vec());
    let events = record_list(&[
        record(4, &committed(1, second)),
        record(2, &committed(1, first)),
        record(5, &committed(1, second)),
        record(6, &committed(2, first)),
    ]);
    let changes = Changes::new(&runtime)
        .raw(COMMITMENT_OF, (1_u16, first), stored(1, &[field("a"), field("b")]))
        .raw(COMMITMENT_OF, (1_u16, second), stored(1, &[field("c")]))
        .raw(EVENTS, (), events);
    chain.grow(changes.done(), vec![]);
    chain.grow(Changes::new(&runtime).raw(EVENTS, (), vec![0]).done(), vec![]);
    let client = chain.client().await;
    let at = |number: u64| {
        let client = client.clone();
        async move { client.block(client.block_hash(number).await.unwrap().unwrap()).await.unwrap() }
    };
    let seen = client.block_commitments(1, &at(1).await).await.unwrap();
    let summary: Vec<_> = seen.iter().map(|one| (one.hotkey.0, one.extrinsic_index, one.fields.len())).collect();
    assert_eq!(summary, [(first, 2, 2), (second, 5, 1)]);
    assert!(seen.iter().all(|one| one.block == 1));
    assert_eq!(client.block_commitments(1, &at(2).await).await.unwrap(), vec![]);
    chain.script().state_from = 2;
    let fresh = chain.client().await;
    assert!(matches!(fresh.block_commitments(1, &at(1).await).await, Err(Error::StatePruned { .. })));
}

#[tokio::test]
async fn a_block_that_upgrades_the_runtime_is_read_by_the_old_one() {
    let chain = Scripted::new();
    let old = chain.runtime(439);
    let who = hotkey(1);
    let changes = Changes::new(&old).raw(COMMITMENT_OF, (1_u16, who), stored(1, &[Field::Raw(vec![7])])).raw(
        EVENTS,
        (),
        record_list(&[record(1, &committed(1, who))]),
    );
    chain.grow(changes.done(), vec![]);
    chain.script().blocks[1].spec = 461;
    let client = chain.client().await;
    let block = client.best_head().await.unwrap();
    assert_eq!(client.events_of(&block).await.unwrap().runtime.spec_version, 439);
    assert_eq!(client.runtime_at(block.hash).await.unwrap().spec_version, 461);
    assert_eq!(client.block_commitments(1, &block).await.unwrap().len(), 1);
}

#[tokio::test]
async fn rules_take_the_chains_own_defaults() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    let changes = Changes::new(&runtime)
        .subnet("NetworksAdded", (1_u16,), true)
        .subnet("SubnetworkN", (1_u16,), 5_u16)
        .subnet("CommitRevealWeightsEnabled", (1_u16,), false)
        .subnet("LastEpochBlock", (1_u16,), 1_u64)
        .set(Item { pallet: "System", name: "Number" }, (), 1_u32);
    chain.grow(changes.done(), vec![]);
    let client = chain.client().await;
    let rules = client.weight_rules(1, chain.head()).await.unwrap();
    assert_eq!(
        (rules.n, rules.block, rules.commit_reveal, (rules.mechanisms, rules.has_timelock)),
        (5, 1, false, (1, true))
    );
    assert_eq!((rules.min_allowed, rules.max_limit, rules.rate_limit_blocks, rules.version_key), (1024, 65535, 100, 0));
    assert_eq!((rules.tempo_blocks, rules.burn_rao, rules.next_epoch_block()), (360, 100_000_000, Some(361)));
    assert_eq!(client.burn_cost(1, chain.head()).await.unwrap(), 100_000_000);
    assert_eq!(client.weight_rules(9, chain.head()).await.unwrap_err().code().name, "chain_subnet_missing");
    assert_eq!(client.weights(1, 0, chain.head()).await.unwrap(), vec![]);
    assert_eq!(client.uid_of(1, &Hotkey([1; 32]), chain.head()).await.unwrap(), None);
    assert_eq!(client.balance(&Hotkey([1; 32]), chain.head()).await.unwrap(), 0);
}

#[tokio::test]
async fn another_chain_is_refused() {
    let chain = Scripted::new();
    let rpc = subxt_rpcs::RpcClient::new(chain.clone());
    let clock = std::sync::Arc::new(super::scripted::Jumping::default());
    let error = super::Client::over(rpc, Some([1; 32]), clock).await.unwrap_err();
    assert_eq!(error.code().name, "chain_wrong_network");
}

fn nonce(runtime: &Runtime, key: &Keypair, nonce: u32) -> State {
    let funds = (10_u64, 0_u64, 0_u64, 0_u128);
    Changes::new(runtime).set(ACCOUNT, (key.account().0,), (nonce, 0_u32, 1_u32, 0_u32, funds)).done()
}

/// The state after a block in which extrinsic 1 succeeded, or failed with SettingWeightsTooFast.
fn result(runtime: &Runtime, failed: bool) -> State {
    let info = [4, 4, 0, 0];
    let event: Vec<u8> =
        if failed { [&[0, 1, 3, 7, 29, 0, 0, 0][..], &info].concat() } else { [&[0, 0][..], &info].concat() };
    let ours = record(1, &event);
    let others = record(0, &[&[0, 0][..], &info].concat());
    Changes::new(runtime).raw(EVENTS, (), record_list(&[others, ours])).done()
}

async fn signed(chain: &Scripted) -> (super::Client, Keypair, Signed) {
    let client = chain.client().await;
    let key = Keypair::from_uri("//Alice").unwrap();
    let call = Call::SetCommitment { netuid: 1, fields: vec![] };
    let signed = client.sign(&key, call, None).await.unwrap();
    assert_eq!((signed.nonce, signed.signer), (7, key.account()));
    (client, key, signed)
}

#[tokio::test]
async fn a_call_is_found_in_its_block() {
    for failed in [false, true] {
        let chain = Scripted::new();
        let runtime = chain.runtime(439);
        chain.finalize(3);
        let (client, key, signed) = signed(&chain).await;
        assert_eq!((signed.era_birth, signed.era_death), (3, 35));
        assert_eq!(client.find(&signed).await.unwrap(), Found::NotYet);
        let mut changes = nonce(&runtime, &key, 8);
        changes.extend(result(&runtime, failed));
        let number = chain.grow(changes, vec![vec![1, 2], signed.bytes.clone()]);
        let outcome = if failed { Outcome::Failed { name: "SettingWeightsTooFast".into() } } else { Outcome::Ok };
        for finalized in [false, true] {
            let Found::Included { block, index, finalized: is_final, outcome: found } =
                client.find(&signed).await.unwrap()
            else {
                panic!("not found")
            };
            assert_eq!((block.number, index, is_final, &found), (number, 1, finalized, &outcome));
            chain.finalize(2);
        }
        // Sent again after a restart: the pool refuses it, and the blocks say why.
        chain.answer_once("author_submitExtrinsic", Err((1010, "Invalid Transaction: Transaction is outdated")));
        let waited = client.submit_and_wait(&signed).await;
        match failed {
            false => assert_eq!(waited.unwrap().number, number),
            true => assert_eq!(waited.unwrap_err().code().name, "chain_too_fast"),
        }
    }
}

#[tokio::test]
async fn a_refusal_of_what_is_included_already_is_waited_out() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    chain.finalize(3);
    let (client, key, signed) = signed(&chain).await;
    let mut changes = nonce(&runtime, &key, 8);
    changes.extend(result(&runtime, false));
    let number = chain.grow(changes, vec![vec![1, 2], signed.bytes.clone()]);
    chain.answer_once("author_submitExtrinsic", Err((1010, "Invalid Transaction: Transaction is outdated")));
    let finality = async {
        // Not before the wait has looked once and found it in a block that is not final.
        while !chain.script().asked.contains_key("chain_getBlock") {
            tokio::task::yield_now().await;
        }
        chain.finalize(1);
    };
    let (waited, ()) = tokio::join!(client.submit_and_wait(&signed), finality);
    assert_eq!(waited.unwrap().number, number);
}

#[tokio::test]
async fn a_call_is_dead_only_when_it_can_never_come() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    chain.finalize(1);
    let (client, key, signed) = signed(&chain).await;
    // The last block that could hold it is the one before its death.
    chain.finalize(usize::try_from(signed.era_death).unwrap() - 3);
    assert_eq!(client.find(&signed).await.unwrap(), Found::NotYet);
    chain.finalize(1);
    assert_eq!(client.find(&signed).await.unwrap(), Found::Dead);
    let error = client.submit_and_wait(&signed).await.unwrap_err();
    assert_eq!(error.code().name, "chain_extrinsic_expired");

    // Its nonce was used by another call: dead at once, but only when that is final.
    let (client, _, signed) = self::signed(&chain).await;
    chain.grow(nonce(&runtime, &key, 8), vec![vec![9]]);
    assert_eq!(client.find(&signed).await.unwrap(), Found::NotYet);
    chain.finalize(1);
    assert_eq!(client.find(&signed).await.unwrap(), Found::Dead);
}

#[tokio::test]
async fn an_emptied_account_does_not_make_an_included_call_dead() {
    let chain = Scripted::new();
    let runtime = chain.runtime(439);
    chain.finalize(1);
    let (client, _, signed) = signed(&chain).await;
    let number = chain.grow(result(&runtime, false), vec![vec![0], signed.bytes.clone()]);
    // The account's entry is gone, so that its nonce reads 0.
    chain.finalize(40);
    assert!(matches!(client.find(&signed).await.unwrap(), Found::Included { block, .. } if block.number == number));
}

#[tokio::test]
async fn submitting_twice_is_success_and_a_refusal_has_its_name() {
    let chain = Scripted::new();
    chain.finalize(1);
    let (client, _, signed) = signed(&chain).await;
    client.submit(&signed).await.unwrap();
    assert_eq!(chain.script().submitted, std::slice::from_ref(&signed.bytes));
    assert_eq!(blake2_256(&signed.bytes), signed.hash);
    chain.answer_once("author_submitExtrinsic", Err((1013, "Transaction Already Imported")));
    client.submit(&signed).await.unwrap();
    chain.answer_once("author_submitExtrinsic", Err((1010, "Invalid Transaction: Custom error: 19")));
    let error = client.submit(&signed).await.unwrap_err();
    assert_eq!(error.chain_name(), Some("HotKeyNotRegisteredInSubNet"));
    // Refused and in no block: there is nothing to wait for.
    chain.answer_once("author_submitExtrinsic", Err((1010, "Invalid Transaction: Custom error: 6")));
    assert_eq!(client.submit_and_wait(&signed).await.unwrap_err().code().name, "chain_too_fast");
    chain.answer_once("author_submitExtrinsic", Ok(json!(format!("0x{}", "00".repeat(32)))));
    assert!(matches!(client.submit(&signed).await, Err(Error::Answer { .. })));
}

#[tokio::test]
async fn every_finalized_block_comes_once_and_in_order() {
    let chain = Scripted::new();
    chain.finalize(3);
    let client = chain.client().await;
    let mut follower = client.follow_finalized(Some(1));
    for number in 1..=3 {
        assert!(matches!(follower.next().await, Followed::Block(block) if block.number == number));
    }
    // Several at once, a lost subscription and failed requests lose and repeat nothing.
    chain.finalize(4);
    chain.hang_up();
    chain.answer_once("chain_getBlockHash", Err((-32000, "overloaded")));
    chain.answer_once("chain_getFinalizedHead", Err((-32000, "overloaded")));
    let mut last = None;
    for number in 4..=7 {
        let Followed::Block(block) = follower.next().await else { panic!("not a block") };
        assert_eq!(block.number, number);
        last = Some(block);
    }
    chain.finalize(1);
    let mut later = client.follow_finalized(None).after(&last.unwrap());
    assert!(matches!(later.next().await, Followed::Block(block) if block.number == 8));
    let mut newest = client.follow_finalized(None);
    assert!(matches!(newest.next().await, Followed::Block(block) if block.number == 8));
}

#[tokio::test]
async fn a_gap_in_the_state_is_reported_exactly() {
    let chain = Scripted::new();
    chain.finalize(700);
    for state_from in [1, 2, 137, 499, 698] {
        chain.script().state_from = state_from;
        let mut follower = chain.client().await.follow_finalized(Some(1));
        if state_from > 1 {
            let to = state_from as u64 - 1;
            assert_eq!(follower.next().await, Followed::Gap { from: 1, to });
        }
        assert!(matches!(follower.next().await, Followed::Block(block) if block.number == state_from as u64));
    }
}

#[tokio::test]
async fn a_chain_that_does_not_continue_is_reported() {
    let chain = Scripted::new();
    chain.finalize(5);
    let client = chain.client().await;
    let mut follower = client.follow_finalized(Some(4));
    assert!(matches!(follower.next().await, Followed::Block(block) if block.number == 4));
    let Followed::Block(last) = follower.next().await else { panic!("not a block") };
    // The node forgets its last two blocks and makes others.
    chain.script().blocks.truncate(4);
    for number in 0..3 {
        chain.grow(State::from([(vec![number], vec![1])]), vec![]);
    }
    chain.finalize(0);
    let Followed::Diverged { number, expected, found } = follower.next().await else { panic!("no divergence") };
    assert_eq!((number, expected), (6, last.hash));
    assert_ne!(found, expected);
}

#[tokio::test]
async fn a_head_that_stands_still_is_reported_once() {
    let chain = Scripted::new();
    chain.finalize(1);
    let mut follower = chain.client().await.follow_finalized(None);
    assert!(matches!(follower.next().await, Followed::Block(_)));
    assert_eq!(follower.next().await, Followed::Stalled { head: Some(1) });
    chain.finalize(1);
    assert!(matches!(follower.next().await, Followed::Block(block) if block.number == 2));
}

//! Tests of the chain: blocks, validity, roll-back, persistence.

use subxt_signer::sr25519::dev;

use super::*;
use crate::devnet::{
    extrinsic::sign,
    pool::{self, Status},
    testkit::{
        WALL_MS, act, blocks, call_bytes, chain, config, events_of, key_of, populated, signed, submit, transfer,
        vectors,
    },
};

fn free(chain: &Chain, who: &[u8; 32]) -> u64 {
    balances::free(&chain.state(chain.best()), who)
}

fn nonce(chain: &Chain, pair: &subxt_signer::sr25519::Keypair) -> u32 {
    balances::account(&chain.state(chain.best()), &key_of(pair)).nonce
}

#[test]
fn constants_are_the_runtimes() {
    let runtime = Runtime::embedded().unwrap();
    let constant = |pallet, name| runtime.constant(pallet, name).unwrap().to_vec();
    assert_eq!(constant("System", "BlockHashCount"), BLOCK_HASHES.to_le_bytes());
    assert_eq!(runtime.slot_ms(), 12_000);
    assert_eq!(crate::devnet::testkit::runtime(461).slot_ms(), 250);
    assert_eq!(constant("Balances", "ExistentialDeposit"), balances::EXISTENTIAL_DEPOSIT_RAO.to_le_bytes());
}

#[test]
fn storage_keys_are_the_recorded_ones() {
    let chain = chain();
    let state = chain.state(0);
    let alice = key_of(&dev::alice());
    let keys = [
        state.key(Item::Account, key![&alice]),
        state.key(Item::Events, &[]),
        state.key(Item::Now, &[]),
        state.key(Item::Tempo, key![1_u16]),
        state.key(Item::NetworksAdded, key![3_u16]),
        state.key(Item::Bonds, key![1_u16, 0_u16]),
        state.key(Item::Keys, key![1_u16, 0_u16]),
        state.key(Item::BlocksSinceLastStep, key![7_u16]),
    ];
    let recorded = vectors(439);
    let recorded: Vec<&str> =
        recorded["storage_keys"].as_array().unwrap().iter().map(|key| key["key_hex"].as_str().unwrap()).collect();
    for key in keys {
        let text = super::super::hashing::hex0x(&key);
        assert!(recorded.contains(&&*text), "{text}");
    }
    assert_eq!(recorded.len(), 10);
}

#[test]
fn recorded_values_decode_as_the_rules_read_them() {
    let runtime = Runtime::embedded().unwrap();
    let recorded = vectors(439);
    let mut checked = 0;
    for value in recorded["storage_values"].as_array().unwrap() {
        let key = hex::decode(&value["key_hex"].as_str().unwrap()[2..]).unwrap();
        let raw = value["raw_hex"].as_str().map(|raw| hex::decode(&raw[2..]).unwrap());
        runtime.check_pair(&key, raw.as_deref()).unwrap();
        let Some(raw) = raw else { continue };
        assert!(runtime.check_pair(&key, Some(&[&raw[..], &[0]].concat())).is_err());
        checked += 1;
    }
    assert_eq!(checked, 7);
    let account: balances::Account = runtime
        .decode_value(
            &hex::decode(&recorded["storage_values"][0]["raw_hex"].as_str().unwrap()[2..]).unwrap(),
            runtime.entry(Item::Account).value,
        )
        .unwrap();
    assert_eq!((account.nonce, account.data.free), (2, 999_999_000_000_000));
    assert_eq!(account.data.flags, 1 << 127);
}

#[test]
fn the_recorded_block_of_events_decodes_by_the_same_metadata() {
    let runtime = Runtime::embedded().unwrap();
    let recorded = vectors(439);
    let bytes = hex::decode(&recorded["events"]["raw_hex"].as_str().unwrap()[2..]).unwrap();
    let mut rest = &*bytes;
    runtime.take_raw(&mut rest, runtime.entry(Item::Events).value).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn a_transfer_leaves_the_events_of_a_recorded_one_in_their_order() {
    let mut chain = chain();
    let stranger = subxt_signer::sr25519::Keypair::from_uri(&"//Stranger".parse().unwrap()).unwrap();
    let call = transfer(&chain, &stranger, 1_000_000_000);
    submit(&mut chain, &dev::alice(), &call).unwrap();
    blocks(&mut chain, 1);
    let recorded = vectors(439);
    let names = recorded["receipt"]["triggered_events"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|event| event["event_id"].as_str().unwrap()).collect();
    let events = events_of(&chain, 1);
    assert_eq!(events.len(), names.len(), "{events:?}");
    for (event, name) in events.iter().zip(names) {
        assert!(event.contains(name), "{name} in {event}");
    }
}

#[test]
fn the_same_seed_and_acts_make_the_same_chain_and_another_seed_another() {
    let hashes = |chain: &Chain| (0..=chain.best()).map(|number| chain.hash_of(number)).collect::<Vec<_>>();
    assert_eq!(hashes(&populated()), hashes(&populated()));
    let other = Chain::new(Arc::new(Runtime::embedded().unwrap()), Config { seed: [8; 32], ..config() });
    assert_ne!(other.genesis(), chain().genesis());
}

#[test]
fn chain_time_moves_one_step_a_block_and_only_forward() {
    let mut chain = chain();
    let now = |chain: &Chain| chain.state(chain.best()).get::<u64>(Item::Now, &[]);
    blocks(&mut chain, 1);
    assert_eq!(now(&chain), WALL_MS / 12_000 * 12_000);
    blocks(&mut chain, 2);
    assert_eq!(now(&chain), WALL_MS / 12_000 * 12_000 + 24_000);
    let later = now(&chain) + 1_000_000;
    chain.set_next_time(later).unwrap();
    blocks(&mut chain, 2);
    assert_eq!(now(&chain), later + 12_000);
    assert!(chain.set_next_time(later).is_err());
}

#[test]
fn a_failing_call_is_taken_back_but_its_fee_and_nonce_are_gone() {
    let mut chain = chain();
    let runtime = Arc::clone(chain.runtime());
    let before = free(&chain, &key_of(&dev::bob()));
    let inner = [transfer(&chain, &dev::charlie(), 1_000), transfer(&chain, &dev::charlie(), u64::MAX)];
    let utility = [&[11, 2, 8][..], &inner.concat()].concat();
    assert!(matches!(Call::decode(&runtime, &utility), Ok(Call::Batch { .. })));
    submit(&mut chain, &dev::bob(), &utility).unwrap();
    let charlie = free(&chain, &key_of(&dev::charlie()));
    blocks(&mut chain, 1);
    assert_eq!(free(&chain, &key_of(&dev::charlie())), charlie);
    let lost = before - free(&chain, &key_of(&dev::bob()));
    assert!(lost > 0 && lost < 1_000_000, "{lost}");
    assert_eq!(nonce(&chain, &dev::bob()), 1);
    let events = events_of(&chain, 1);
    assert!(events.last().unwrap().contains("ExtrinsicFailed") && events.last().unwrap().contains("FundsUnavailable"));
    assert!(events.iter().all(|event| !event.contains("Transfer\"")), "{events:?}");
}

#[test]
fn validity_is_checked_in_the_order_of_the_node() {
    let mut chain = chain();
    let call = transfer(&chain, &dev::bob(), 1_000);
    let other = Chain::new(Arc::clone(chain.runtime()), Config { seed: [8; 32], ..config() });
    // Signed for another chain, and with a nonce far behind: the signature comes first.
    let foreign = sign(chain.runtime(), &other.genesis(), &dev::alice(), &call, 0, None);
    assert_eq!(chain.submit(&foreign, None), Err(Invalid::BadProof));
    submit(&mut chain, &dev::alice(), &call).unwrap();
    blocks(&mut chain, 1);
    let stale = signed(&chain, &dev::alice(), &transfer(&chain, &dev::bob(), 999), 0);
    assert_eq!(chain.submit(&stale, None), Err(Invalid::Stale));
    let poor = subxt_signer::sr25519::Keypair::from_uri(&"//Poor".parse().unwrap()).unwrap();
    assert_eq!(submit(&mut chain, &poor, &call), Err(Invalid::Payment));
    let unknown = call_bytes(
        &Arc::clone(chain.runtime()),
        "SubtensorModule",
        "root_register",
        vec![super::super::datum::Datum::account(&[1; 32])],
    );
    let refused = submit(&mut chain, &dev::alice(), &unknown).unwrap_err().to_string();
    assert_eq!(refused, "the devnet does not implement the call SubtensorModule.root_register");
    assert!(matches!(chain.submit(&[1, 2, 3], None), Err(Invalid::Format(_))));
}

#[test]
fn a_mortal_extrinsic_lives_for_its_period_and_not_longer() {
    let mut chain = chain();
    blocks(&mut chain, 10);
    // Period 4, phase 2: valid from 10 to 13.
    let era = 1_u16 | (2 << 4);
    let birth = chain.block(10).unwrap().hash;
    let make = |chain: &Chain, nonce| {
        let call = transfer(chain, &dev::bob(), 1_000);
        sign(chain.runtime(), &chain.genesis(), &dev::alice(), &call, nonce, Some((era, birth)))
    };
    let first = make(&chain, 0);
    chain.submit(&first, None).unwrap();
    blocks(&mut chain, 1);
    assert_eq!(nonce(&chain, &dev::alice()), 1);
    // One with a later nonce waits and dies waiting.
    let (watcher, mut statuses) = pool::watch();
    let waiting = make(&chain, 5);
    chain.submit(&waiting, Some(watcher)).unwrap();
    blocks(&mut chain, 1);
    assert_eq!(chain.pool().len(), 1);
    blocks(&mut chain, 1);
    assert_eq!((chain.best(), chain.pool().len()), (13, 0));
    chain.announce();
    assert_eq!(statuses.try_recv(), Ok(Status::Future));
    assert_eq!(statuses.try_recv(), Ok(Status::Invalid));
    let late = make(&chain, 1);
    // Seen from block 14 it is born in that very block, whose hash nobody has; later on another hash was signed.
    assert_eq!(chain.submit(&late, None), Err(Invalid::AncientBirthBlock));
    blocks(&mut chain, 1);
    assert_eq!(chain.submit(&late, None), Err(Invalid::BadProof));
}

#[test]
fn nonces_wait_for_each_other_and_only_the_unbroken_run_counts() {
    let mut chain = chain();
    let alice = key_of(&dev::alice());
    let pay = |chain: &Chain, nonce| signed(chain, &dev::alice(), &transfer(chain, &dev::bob(), 1_000), nonce);
    let second = pay(&chain, 1);
    chain.submit(&second, None).unwrap();
    assert!(!chain.has_ready());
    assert_eq!(chain.next_nonce(&alice), 0);
    blocks(&mut chain, 1);
    assert_eq!(nonce(&chain, &dev::alice()), 0);
    assert_eq!(chain.submit(&second, None), Err(Invalid::Pool(Refusal::AlreadyImported)));
    let rival = signed(&chain, &dev::alice(), &transfer(&chain, &dev::bob(), 2_000), 1);
    assert_eq!(chain.submit(&rival, None), Err(Invalid::Pool(Refusal::LowPriority)));
    let first = pay(&chain, 0);
    chain.submit(&first, None).unwrap();
    assert_eq!(chain.next_nonce(&alice), 2);
    blocks(&mut chain, 1);
    assert_eq!((nonce(&chain, &dev::alice()), chain.pool().len()), (2, 0));
    assert_eq!(chain.block(2).unwrap().body.as_ref().unwrap().len(), 3);
}

#[test]
fn one_account_cannot_fill_the_pool() {
    let mut chain = chain();
    let call = transfer(&chain, &dev::bob(), 1_000);
    for nonce in 0..=u32::try_from(limits::POOL_EXTRINSICS_PER_ACCOUNT).unwrap() {
        let extrinsic = signed(&chain, &dev::alice(), &call, nonce);
        let room = (nonce as usize) < limits::POOL_EXTRINSICS_PER_ACCOUNT;
        assert_eq!(chain.submit(&extrinsic, None).err(), (!room).then_some(Invalid::Pool(Refusal::Full)));
    }
    blocks(&mut chain, 1);
    assert_eq!(nonce(&chain, &dev::alice()) as usize, limits::POOL_EXTRINSICS_PER_ACCOUNT);
}

#[test]
fn a_watcher_hears_the_whole_story_in_its_order() {
    let mut chain = chain();
    let (watcher, mut statuses) = pool::watch();
    let extrinsic = signed(&chain, &dev::alice(), &transfer(&chain, &dev::bob(), 1_000), 0);
    chain.submit(&extrinsic, Some(watcher)).unwrap();
    blocks(&mut chain, 3);
    chain.announce();
    let block = chain.block(1).unwrap().hash;
    let mut heard = Vec::new();
    while let Ok(status) = statuses.try_recv() {
        heard.push(status);
    }
    let peers = vec!["devnet".to_owned()];
    assert_eq!(heard, [Status::Ready, Status::Broadcast(peers), Status::InBlock(block), Status::Finalized(block)]);
}

#[test]
fn a_hotkey_without_balance_can_do_what_is_free() {
    let mut chain = populated();
    let hotkey = subxt_signer::sr25519::Keypair::from_uri(&"//Hotkey".parse().unwrap()).unwrap();
    let key = key_of(&hotkey);
    act(&mut chain, |world| {
        super::super::rules::registration::grant(world, 1, &key, &[1; 32]).map_err(|failure| format!("{failure:?}"))
    });
    let commit = [&[18, 0][..], &1_u16.to_le_bytes(), &[4, 3, 7, 7]].concat();
    submit(&mut chain, &hotkey, &commit).unwrap();
    blocks(&mut chain, 1);
    assert!(chain.state(chain.best()).has(Item::CommitmentOf, key![1_u16, &key]));
    assert_eq!((nonce(&chain, &hotkey), free(&chain, &key)), (1, 0));
    let paid = events_of(&chain, 1);
    assert!(
        paid.iter().any(|event| event.contains("TransactionFeePaid")) && paid[0].contains("Commitment"),
        "{paid:?}"
    );
}

#[test]
fn a_chain_continues_from_its_file_whatever_was_torn_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain");
    let runtime = Arc::new(Runtime::embedded().unwrap());
    let open = || Chain::open(Arc::clone(&runtime), config(), &path);
    let (mut chain, _) = open().unwrap();
    let call = transfer(&chain, &dev::bob(), 1_000);
    submit(&mut chain, &dev::alice(), &call).unwrap();
    blocks(&mut chain, 5);
    chain.sync().unwrap();
    let story: Vec<Hash> = (0..=5).map(|number| chain.block(number).unwrap().hash).collect();
    let bob = free(&chain, &key_of(&dev::bob()));
    drop(chain);
    let (again, cut) = open().unwrap();
    assert_eq!((again.best(), cut, free(&again, &key_of(&dev::bob()))), (5, 0, bob));
    assert_eq!(again.block_by_hash(Some(&story[1])).unwrap().body.as_ref().unwrap().len(), 2);
    drop(again);
    let whole = std::fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for length in (8..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (mut torn, _) = open().unwrap();
        let best = torn.best();
        assert!((0..=best).all(|number| torn.block(number).unwrap().hash == story[number as usize]));
        blocks(&mut torn, 1);
        torn.sync().unwrap();
        drop(torn);
        assert_eq!(open().unwrap().0.best(), best + 1, "cut at {length}");
        seen.insert(best);
    }
    assert_eq!(seen, (0..=4).collect());
}

#[test]
fn a_file_of_another_chain_or_with_another_past_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain");
    let runtime = Arc::new(Runtime::embedded().unwrap());
    let (mut chain, _) = Chain::open(Arc::clone(&runtime), config(), &path).unwrap();
    blocks(&mut chain, 2);
    chain.sync().unwrap();
    drop(chain);
    let other = Config { seed: [8; 32], ..config() };
    assert!(matches!(Chain::open(Arc::clone(&runtime), other, &path), Err(OpenError::Replay(ReplayError::Genesis))));
    // A well-formed record that is not the next block.
    let (mut log, _) = Log::open(&path, |_record| Ok(())).unwrap();
    log.append(b"something else").unwrap();
    log.sync().unwrap();
    drop(log);
    assert!(matches!(Chain::open(runtime, config(), &path), Err(OpenError::Replay(ReplayError::Decode(3)))));
}

#[test]
fn a_block_whose_act_refuses_was_never_made() {
    let mut chain = chain();
    let refused = chain.make(WALL_MS, |world| {
        world.state.put(Item::StakeThreshold, &[], &9_u64);
        Err::<(), _>("no".to_owned())
    });
    assert!(matches!(refused, Err(MakeError::Refused(reason)) if reason == "no"));
    assert_eq!(chain.best(), 0);
    assert_eq!(chain.state(0).get::<u64>(Item::StakeThreshold, &[]), 0);
}

#[test]
fn the_rules_need_nothing_that_only_one_recorded_runtime_has() {
    let bytes = include_bytes!("../../testdata/chain/subtensor-metadata-v461.scale");
    let runtime = Arc::new(crate::devnet::testkit::runtime(461));
    assert_eq!((runtime.version().spec_version, runtime.v15()), (461, &bytes[..]));
    let mut chain = Chain::new(runtime, config());
    let call = transfer(&chain, &dev::bob(), 1_000);
    submit(&mut chain, &dev::alice(), &call).unwrap();
    blocks(&mut chain, 1);
    assert!(events_of(&chain, 1).last().unwrap().contains("ExtrinsicSuccess"));
}

#[test]
fn the_older_metadata_says_the_same_about_storage() {
    use frame_metadata::{RuntimeMetadata, RuntimeMetadataPrefixed};
    let runtime = Runtime::embedded().unwrap();
    let old = RuntimeMetadataPrefixed::decode(&mut &runtime.v14()[..]).unwrap();
    let RuntimeMetadata::V14(old) = old.1 else { panic!("version 14") };
    let pallet = old.pallets.iter().find(|pallet| pallet.name == "SubtensorModule").unwrap();
    let entries = &pallet.storage.as_ref().unwrap().entries;
    assert!(entries.iter().any(|entry| entry.name == "Uids"));
    let extrinsic = old.types.resolve(old.extrinsic.ty.id).unwrap();
    let parameters: Vec<&str> = extrinsic.type_params.iter().map(|parameter| &*parameter.name).collect();
    assert_eq!(parameters, ["Address", "Call", "Signature", "Extension"]);
}

fn statuses(receiver: &mut tokio::sync::mpsc::Receiver<pool::Status>) -> Vec<String> {
    let mut found = Vec::new();
    while let Ok(status) = receiver.try_recv() {
        found.push(match status.json() {
            serde_json::Value::String(name) => name,
            other => other.as_object().unwrap().keys().next().unwrap().clone(),
        });
    }
    found
}

#[test]
fn a_reorganisation_replaces_blocks_that_are_not_final_and_keeps_their_extrinsics() {
    let mut chain = populated();
    blocks(&mut chain, 5);
    let before = chain.state(chain.best()).get::<u64>(Item::Now, &[]);
    let call = transfer(&chain, &dev::eve(), 1_000_000);
    let extrinsic = signed(&chain, &dev::dave(), &call, 0);
    let (watcher, mut heard) = pool::watch();
    let hash = chain.submit(&extrinsic, Some(watcher)).unwrap();
    blocks(&mut chain, 2);
    let (best, old) = (chain.best(), chain.block_by_hash(None).unwrap().hash);
    assert!(chain.retract(0, true).is_err() && chain.retract(3, true).is_err());
    chain.retract(2, true).unwrap();
    assert_eq!((chain.best(), chain.state(chain.best()).get::<u64>(Item::Now, &[])), (best - 2, before));
    assert_eq!(chain.readable(Some(&old)), Err(Unreadable::Unknown(old)));
    blocks(&mut chain, 3);
    assert_eq!(chain.best(), best + 1);
    let body = chain.block(best - 1).unwrap().body.clone().unwrap();
    assert_eq!(body.last().map(|bytes| crate::devnet::hashing::blake2(bytes)), Some(hash));
    chain.announce();
    let expected = ["ready", "broadcast", "inBlock", "retracted", "inBlock", "finalized"];
    assert_eq!(statuses(&mut heard), expected);
    // Without keeping them, it is as if nobody had sent them.
    let extrinsic = signed(&chain, &dev::dave(), &call, 1);
    let (watcher, mut heard) = pool::watch();
    chain.submit(&extrinsic, Some(watcher)).unwrap();
    blocks(&mut chain, 1);
    chain.retract(1, false).unwrap();
    blocks(&mut chain, 2);
    chain.announce();
    assert_eq!(statuses(&mut heard), ["ready", "broadcast", "inBlock", "retracted", "dropped"]);
    assert_eq!(chain.next_nonce(&key_of(&dev::dave())), 1);
}

#[test]
fn a_replaced_block_is_another_block_even_when_nothing_else_differs() {
    let mut chain = populated();
    blocks(&mut chain, 2);
    let old = chain.block_by_hash(None).unwrap().clone();
    chain.retract(1, true).unwrap();
    blocks(&mut chain, 1);
    let new = chain.block_by_hash(None).unwrap();
    assert_eq!((new.header.number, new.header.parent), (old.header.number, old.header.parent));
    assert_ne!(new.hash, old.hash);
    blocks(&mut chain, 1);
    assert_eq!(chain.block_by_hash(None).unwrap().header.logs.len(), 1);
}

#[test]
fn branches_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain");
    let runtime = Arc::new(Runtime::embedded().unwrap());
    let (mut chain, _) = Chain::open(Arc::clone(&runtime), config(), &path).unwrap();
    blocks(&mut chain, 6);
    chain.retract(2, true).unwrap();
    blocks(&mut chain, 3);
    let (best, hash) = (chain.best(), chain.block_by_hash(None).unwrap().hash);
    drop(chain);
    let (chain, cut) = Chain::open(runtime, config(), &path).unwrap();
    assert_eq!((cut, chain.best(), chain.block_by_hash(None).unwrap().hash), (0, best, hash));
    let world = World::new(chain.state(best), best + 1);
    assert_eq!(chain.state(best).get::<u32>(Item::Number, &[]), best);
    drop(world);
}

#[test]
fn a_call_fails_on_request_and_pays_all_the_same() {
    let mut chain = populated();
    chain.faults_mut().calls = 1;
    let call = transfer(&chain, &dev::eve(), 1_000_000);
    let before = balances::free(&chain.state(chain.best()), &key_of(&dev::eve()));
    submit(&mut chain, &dev::dave(), &call).unwrap();
    submit(&mut chain, &dev::dave(), &call).unwrap();
    blocks(&mut chain, 1);
    assert!(events_of(&chain, 1).iter().any(|event| event.contains("BadOrigin")));
    assert!(events_of(&chain, 2).iter().any(|event| event.contains("ExtrinsicSuccess")));
    let after = balances::free(&chain.state(chain.best()), &key_of(&dev::eve()));
    assert_eq!(after - before, 1_000_000);
}

//! What we encode and decode, against recordings of two real nodes (specs 439 and 461). `counted` goes through the
//! recordings entry by entry and misses none; what stands here goes beyond them.

mod counted;
mod shape;

use parity_scale_codec::{Compact, Encode as _};
use scale_value::{Composite, Value};
use serde_json::Value as Json;
use subxt::{
    config::DefaultExtrinsicParamsBuilder,
    utils::{H256, MultiSignature},
};

use super::{
    Account, Call, Field, Keypair, Outcome,
    client::{BlockRef, blake2_256},
    reads::{EVENTS, committed, decode_commitment},
    runtime::{Item, Runtime, Subtensor},
    scripted::{record, record_list},
    sign::ERA_BLOCKS,
    verify,
};
use crate::ids::{Digest, Hotkey};

struct Recording {
    spec: u32,
    vectors: Json,
    runtime: Runtime,
    /// The same metadata once more, for what the client itself never asks of it.
    metadata: subxt::Metadata,
}

fn recordings() -> Vec<Recording> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        (439, "assets/chain/subtensor-metadata-v439.scale", "testdata/chain/subtensor-vectors-v439.json"),
        (461, "testdata/chain/subtensor-metadata-v461.scale", "testdata/chain/subtensor-vectors-v461.json"),
    ];
    let load = |(spec, metadata, vectors): (u32, &str, &str)| {
        let vectors: Json = serde_json::from_slice(&std::fs::read(root.join(vectors)).unwrap()).unwrap();
        let genesis = digest(&vectors["network"]["genesis_hash"]);
        let transaction_version = u32::try_from(vectors["network"]["transaction_version"].as_u64().unwrap()).unwrap();
        assert_eq!(vectors["network"]["spec_version"], spec);
        let metadata = std::fs::read(root.join(metadata)).unwrap();
        let runtime = Runtime::new(&metadata, genesis, spec, transaction_version).unwrap();
        Recording { spec, vectors, runtime, metadata: subxt::Metadata::decode_from(&metadata).unwrap() }
    };
    files.into_iter().map(load).collect()
}

fn bytes(hex_text: &Json) -> Vec<u8> {
    hex::decode(hex_text.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn digest(hex_text: &Json) -> Digest {
    Digest(bytes(hex_text).try_into().unwrap())
}

fn account(address: &Json) -> Account {
    address.as_str().unwrap().parse().unwrap()
}

fn item(recorded: &Json) -> Item {
    let leaked =
        |name: &str| -> &'static str { Box::leak(recorded[name].as_str().unwrap().to_owned().into_boxed_str()) };
    Item { pallet: leaked("pallet"), name: leaked("storage_function") }
}

fn part(recorded: &Json) -> Value {
    match recorded {
        Json::Number(number) => Value::u128(u128::from(number.as_u64().unwrap())),
        Json::String(text) if text.starts_with("0x") => Value::from_bytes(bytes(recorded)),
        address => Value::from_bytes(account(address).0),
    }
}

fn parts(recorded: &Json) -> Vec<Value> {
    recorded["params"].as_array().unwrap().iter().map(part).collect()
}

/// The hashers of every item that the client reads, written down by hand: a wrong one gives an empty answer, not an
/// error.
#[test]
fn every_item_in_use_has_the_expected_key() {
    use blake2::{Blake2b, Digest as _, digest::consts::U16};

    let who = [0xa5_u8; 32];
    let blake = [Blake2b::<U16>::digest(who).as_slice(), &who].concat();
    let netuid = 0x0102_u16;
    let short = netuid.to_le_bytes().to_vec();
    let uid = 7_u16.to_le_bytes().to_vec();
    let by_netuid = [
        "NetworksAdded",
        "SubnetworkN",
        "Active",
        "ValidatorPermit",
        "Incentive",
        "LastUpdate",
        "MinAllowedWeights",
        "MaxWeightsLimit",
        "WeightsSetRateLimit",
        "WeightsVersionKey",
        "CommitRevealWeightsEnabled",
        "Tempo",
        "LastEpochBlock",
        "PendingEpochAt",
        "BlocksSinceLastStep",
        "SubnetOwnerHotkey",
        "Burn",
    ];
    for Recording { runtime, .. } in recordings() {
        let check = |item: Item, given: Vec<Value>, expected: Vec<u8>| {
            let key = runtime.key(item, given).unwrap();
            assert_eq!(hex::encode(&key[32..]), hex::encode(expected), "{item}");
        };
        let number = |value: u16| Value::u128(u128::from(value));
        let account = || Value::from_bytes(who);
        for name in by_netuid {
            check(Item::subnet(name), vec![number(netuid)], short.clone());
        }
        for name in ["Keys", "BlockAtRegistration", "Weights"] {
            check(Item::subnet(name), vec![number(netuid), number(7)], [&short[..], &uid].concat());
        }
        check(Item::subnet("Uids"), vec![number(netuid), account()], [&short[..], &blake].concat());
        check(Item::subnet("Owner"), vec![account()], blake.clone());
        check(Item::subnet("TotalHotkeyAlpha"), vec![account(), number(netuid)], [&blake[..], &short].concat());
        check(Item::subnet("StakeThreshold"), vec![], vec![]);
        check(Item { pallet: "System", name: "Account" }, vec![account()], blake.clone());
        check(EVENTS, vec![], vec![]);
        // The account's own bytes stand at the end, after eight bytes of hash.
        let key = runtime.key(Item { pallet: "Commitments", name: "CommitmentOf" }, (netuid, who)).unwrap();
        assert_eq!(key.len(), 32 + 2 + 8 + 32);
        assert_eq!((&key[32..34], &key[42..]), (&short[..], &who[..]));
        // The tuple form that the client uses is the same key.
        assert_eq!(
            runtime.key(Item::subnet("Uids"), (netuid, who)).unwrap(),
            runtime.key(Item::subnet("Uids"), vec![number(netuid), account()]).unwrap()
        );
    }
}

#[test]
fn a_missing_item_is_named() {
    for Recording { runtime, spec, .. } in recordings() {
        let error = runtime.key(Item::subnet("Nonsense"), ()).unwrap_err();
        assert_eq!(error.to_string(), format!("runtime {spec} has no SubtensorModule.Nonsense"));
        assert_eq!(error.code().name, "chain_runtime_unknown");
        let error = runtime.key(Item::subnet("Tempo"), ()).unwrap_err();
        assert_eq!(error.code().name, "chain_runtime_unknown");
    }
}

#[test]
fn storage_values_are_the_recorded_ones() {
    for Recording { vectors, runtime, .. } in recordings() {
        let values = vectors["storage_values"].as_array().unwrap();
        assert_eq!(values.len(), 8);
        for recorded in values {
            let raw = recorded["raw_hex"].as_str().map(|_| bytes(&recorded["raw_hex"]));
            let (place, decoded) = (item(recorded), &recorded["decoded"]);
            let raw = raw.as_deref();
            match place.name {
                "Account" => {
                    let state = super::reads::decode_account(&runtime, raw).unwrap();
                    assert_eq!(u64::from(state.nonce), decoded["nonce"].as_u64().unwrap());
                    assert_eq!(state.free_rao, decoded["data"]["free"].as_u64().unwrap());
                }
                "NetworksAdded" => assert_eq!(runtime.value::<bool>(place, raw).unwrap(), decoded.as_bool()),
                "SubnetOwner" => {
                    let owner = runtime.value::<[u8; 32]>(place, raw).unwrap().unwrap();
                    assert_eq!(Hotkey(owner), account(decoded));
                }
                _ => assert_eq!(runtime.value::<u64>(place, raw).unwrap(), decoded.as_u64(), "{place}"),
            }
        }
        let keys =
            vectors["query_maps"].as_array().unwrap().iter().find(|map| map["storage_function"] == "Keys").unwrap();
        for (pair, change) in keys["pairs"].as_array().unwrap().iter().zip(keys["raw_changes"].as_array().unwrap()) {
            let hotkey = runtime.value::<[u8; 32]>(Item::subnet("Keys"), Some(&bytes(&change[1]))).unwrap().unwrap();
            assert_eq!(Hotkey(hotkey), account(&pair[1]));
        }
        let long = [bytes(&values[1]["raw_hex"]), vec![0]].concat();
        assert!(runtime.value::<u64>(Item::subnet("Tempo"), Some(&long)).is_err());
    }
}

fn call_bytes(runtime: &Runtime, call: &Call) -> Vec<u8> {
    runtime.client().tx().call_data(&runtime.payload(call).unwrap()).unwrap()
}

/// The recorded call of this name, as ours.
fn recorded_call(recorded: &Json) -> Option<Call> {
    let params = &recorded["params"];
    let number = |name: &str| params[name].as_u64().unwrap();
    let list = |name: &str| -> Vec<u16> { serde_json::from_value(params[name].clone()).unwrap() };
    let netuid = || u16::try_from(number("netuid")).unwrap();
    match recorded["function"].as_str().unwrap() {
        "transfer_keep_alive" => Some(Call::Transfer { to: account(&params["dest"]), amount_rao: number("value") }),
        "burned_register" => Some(Call::BurnedRegister { netuid: netuid(), hotkey: account(&params["hotkey"]) }),
        "set_weights" => Some(Call::SetWeights {
            netuid: netuid(),
            mechanism: 0,
            uids: list("dests"),
            values: list("weights"),
            version_key: number("version_key"),
        }),
        _ => None,
    }
}

#[test]
fn calls_without_a_recording_follow_the_sheet() {
    let fields = [
        Field::Raw(b"waag1:a:b".to_vec()),
        Field::Sha256([3; 32]),
        Field::TimelockEncrypted { encrypted: vec![1, 2, 3], reveal_round: 1000 },
        Field::BigRaw(vec![7; 200]),
        Field::ResetBondsFlag,
        Field::None,
    ];
    for Recording { runtime, .. } in recordings() {
        for three in fields.chunks(super::FIELDS_MAX) {
            let call = Call::SetCommitment { netuid: 258, fields: three.to_vec() };
            let mut expected = vec![18, 0, 2, 1];
            Compact(u32::try_from(three.len()).unwrap()).encode_to(&mut expected);
            three.iter().for_each(|field| expected.extend(field.encode().unwrap()));
            assert_eq!(hex::encode(call_bytes(&runtime, &call)), hex::encode(expected));
        }
        for length in [0, 1, 127, 128] {
            let field = Field::Raw(vec![9; length]);
            let call = Call::SetCommitment { netuid: 1, fields: vec![field.clone()] };
            assert_eq!(call_bytes(&runtime, &call)[5..], field.encode().unwrap());
        }
        let call =
            Call::SetWeights { netuid: 1, mechanism: 0, uids: vec![0, 1], values: vec![100, 200], version_key: 5 };
        let arguments = (1_u16, 0_u8, vec![0_u16, 1], vec![100_u16, 200], 5_u64).encode();
        assert_eq!(call_bytes(&runtime, &call), [&[7, 119][..], &arguments].concat());
        let (hash, ciphertext) = (Digest([9; 32]), vec![1_u8, 2, 3]);
        let call = Call::CommitWeights { netuid: 1, mechanism: 2, hash };
        let arguments = (1_u16, 2_u8, hash.0).encode();
        assert_eq!(call_bytes(&runtime, &call), [&[7, 115][..], &arguments].concat());
        let arguments = (1_u16, 2_u8, vec![0_u16], vec![7_u16], vec![5_u16, 6], 4_u64).encode();
        let (uids, values, salt) = (vec![0], vec![7], vec![5, 6]);
        let call = Call::RevealWeights { netuid: 1, mechanism: 2, uids, values, salt, version_key: 4 };
        assert_eq!(call_bytes(&runtime, &call), [&[7, 116][..], &arguments].concat());
        let arguments = (1_u16, 2_u8, ciphertext.clone(), 99_u64, 4_u16).encode();
        let call = Call::CommitTimelocked { netuid: 1, mechanism: 2, ciphertext, round: 99, version: 4 };
        assert_eq!(call_bytes(&runtime, &call), [&[7, 118][..], &arguments].concat());
    }
}

#[test]
fn an_unknown_call_is_named() {
    for Recording { runtime, .. } in recordings() {
        assert!(runtime.has_call("SubtensorModule", "set_mechanism_weights"));
        assert!(!runtime.has_call("SubtensorModule", "nonsense") && !runtime.has_call("Nonsense", "set"));
        let too_long = Call::SetCommitment { netuid: 1, fields: vec![Field::Raw(vec![0; 129])] };
        let payload = runtime.payload(&too_long).unwrap();
        assert!(runtime.client().tx().call_data(&payload).is_err());
    }
}

fn transfer(recorded: &Json) -> subxt::tx::DynamicPayload<Composite<()>> {
    let call = bytes(&recorded["call_data_hex"]);
    // transfer_keep_alive to an account, with a compact amount.
    assert_eq!(call[..3], [5, 3, 0]);
    let to = Hotkey(call[3..35].try_into().unwrap());
    let Compact(amount_rao) = <Compact<u64> as parity_scale_codec::Decode>::decode(&mut &call[35..]).unwrap();
    let (pallet, name, arguments) = Call::Transfer { to, amount_rao }.forms().pop().unwrap();
    subxt::tx::dynamic(pallet, name, arguments)
}

fn params(vectors: &Json, recorded: &Json) -> subxt::config::DefaultExtrinsicParams<Subtensor> {
    let builder = DefaultExtrinsicParamsBuilder::<Subtensor>::new().nonce(recorded["nonce"].as_u64().unwrap());
    match recorded["era"].as_object() {
        None => builder.build(),
        Some(era) => {
            let birth = if recorded["era_birth_block_hash"].is_string() {
                digest(&recorded["era_birth_block_hash"])
            } else {
                digest(&vectors["metadata"]["block_hash"])
            };
            let number = |name: &str| era[name].as_u64().unwrap();
            builder.mortal_from_unchecked(number("period"), number("current"), H256(birth.0)).build()
        }
    }
}

#[test]
fn a_signed_call_carries_its_signature_nonce_and_era() {
    let alice = Keypair::from_uri("//Alice").unwrap();
    let birth = BlockRef { number: 1000, hash: Digest([5; 32]), parent: Digest([4; 32]) };
    for Recording { runtime, .. } in recordings() {
        let call = Call::SetCommitment { netuid: 1, fields: vec![Field::BigRaw(vec![1; 300])] };
        let signed = runtime.sign(&alice, &call, 7, &birth).unwrap();
        assert_eq!((signed.nonce, signed.era_birth, signed.era_death), (7, 1000, 1000 + ERA_BLOCKS));
        assert_eq!(signed.hash, blake2_256(&signed.bytes));
        let Compact(length) =
            <Compact<u32> as parity_scale_codec::Decode>::decode(&mut signed.bytes.as_slice()).unwrap();
        let inner = &signed.bytes[signed.bytes.len() - usize::try_from(length).unwrap()..];
        assert_eq!(inner[..2], [0x84, 0x00]);
        assert_eq!(inner[2..34], alice.account().0);
        assert_eq!(inner[34], 1);
        let signature: [u8; 64] = inner[35..99].try_into().unwrap();
        // Era of 32 blocks from block 1000: 1000 mod 32 = 8, so 4 + 16·8; then nonce, tip and mode.
        assert_eq!(inner[99..104], [0x84, 0x00, 7 << 2, 0, 0]);
        let mut payload = inner[104..].to_vec();
        assert_eq!(payload, call_bytes(&runtime, &call));
        payload.extend_from_slice(&inner[99..104]);
        (runtime.spec_version, 1_u32, runtime.client().genesis_hash().unwrap().0, birth.hash.0, 0_u8)
            .encode_to(&mut payload);
        assert!(payload.len() > 256, "the longer form is hashed before it is signed");
        assert!(verify(&alice.account(), &blake2_256(&payload).0, &signature));
        let account = subxt::tx::Signer::<Subtensor>::account_id(&alice);
        assert_eq!(account.0, alice.account().0);
        let again = <Keypair as subxt::tx::Signer<Subtensor>>::sign(&alice, b"x");
        assert!(matches!(again, MultiSignature::Sr25519(signature) if verify(&alice.account(), b"x", &signature)));
    }
}

#[test]
fn events_are_the_recorded_ones() {
    for Recording { vectors, runtime, .. } in recordings() {
        let raw = bytes(&vectors["events"]["raw_hex"]);
        let decoded = vectors["events"]["decoded"].as_array().unwrap();
        let events = runtime.events(raw.clone());
        let mut count = 0;
        for (event, expected) in events.iter().zip(decoded) {
            let event = event.unwrap();
            assert_eq!(event.pallet_name(), expected["module_id"]);
            assert_eq!(event.event_name(), expected["event_id"]);
            count += 1;
        }
        assert_eq!(count, decoded.len());
        let index = u32::try_from(vectors["receipt"]["extrinsic_idx"].as_u64().unwrap()).unwrap();
        assert_eq!(runtime.outcome(raw.clone(), index).unwrap(), Outcome::Ok);
        assert!(runtime.outcome(raw.clone(), 99).is_err());
        assert_eq!(committed(&runtime, 1, raw).unwrap(), vec![]);
    }
}

#[test]
fn a_failed_call_carries_the_chains_own_name() {
    // Weight (two compacts), class, pays fee.
    let dispatch_info = [4, 4, 0, 0];
    let failed = |error: &[u8]| record(3, &[&[0, 1][..], error, &dispatch_info].concat());
    let cases: [(&[u8], &str); 8] = [
        (&[3, 7, 29, 0, 0, 0], "SettingWeightsTooFast"),
        (&[3, 7, 4, 0, 0, 0], "HotKeyNotRegisteredInSubNet"),
        (&[3, 7, 15, 0, 0, 0], "NeuronNoValidatorPermit"),
        (&[3, 7, 21, 0, 0, 0], "HotKeyAlreadyRegisteredInSubNet"),
        (&[3, 18, 1, 0, 0, 0], "AccountNotAllowedCommit"),
        (&[3, 18, 2, 0, 0, 0], "SpaceLimitExceeded"),
        (&[2], "BadOrigin"),
        (&[7, 0], "FundsUnavailable"),
    ];
    for Recording { runtime, .. } in recordings() {
        for (error, name) in cases {
            let outcome = runtime.outcome(record_list(&[failed(error)]), 3).unwrap();
            assert_eq!(outcome, Outcome::Failed { name: name.to_owned() });
        }
    }
}

#[test]
fn commitments_are_found_by_their_events() {
    let made = |pallet_event: [u8; 2], netuid: u16, who: u8, rest: &[u8]| {
        [&pallet_event[..], &netuid.to_le_bytes(), &[who; 32], rest].concat()
    };
    let round = 1000_u64.to_le_bytes();
    for Recording { runtime, .. } in recordings() {
        let events = record_list(&[
            record(1, &made([18, 0], 5, 1, &[])),
            record(2, &made([18, 1], 5, 2, &round)),
            record(3, &made([18, 0], 6, 3, &[])),
            // The same hotkey again, in a batch: its last one stands.
            record(4, &made([18, 0], 5, 1, &[])),
        ]);
        let expected = vec![(Hotkey([2; 32]), 2), (Hotkey([1; 32]), 4)];
        assert_eq!(committed(&runtime, 5, events.clone()).unwrap(), expected);
        assert_eq!(committed(&runtime, 7, events.clone()).unwrap(), vec![]);
        assert!(committed(&runtime, 5, events[..events.len() - 2].to_vec()).is_err());
    }
}

#[test]
fn stored_commitments_are_decoded_field_by_field() {
    let fields = [
        Field::Raw(b"waag1:a:b".to_vec()),
        Field::Raw(vec![]),
        Field::Raw(vec![1]),
        Field::Keccak256([8; 32]),
        Field::TimelockEncrypted { encrypted: vec![1; 500], reveal_round: 77 },
        Field::BigRaw(vec![2; 300]),
        Field::ResetBondsFlag,
        Field::None,
    ];
    for Recording { runtime, spec, .. } in recordings() {
        for three in fields.chunks(super::FIELDS_MAX) {
            let mut stored = (0_u64, 1234_u32, Compact(u32::try_from(three.len()).unwrap())).encode();
            three.iter().for_each(|field| stored.extend(field.encode().unwrap()));
            assert_eq!(decode_commitment(&runtime, Some(&stored)).unwrap(), Some((1234, three.to_vec())));
        }
        // A kind that only 461 knows: read past there, refused by name at 439.
        let mut stored = (0_u64, 1_u32, Compact(2_u32)).encode();
        stored.extend([137, 4, 9]);
        stored.extend(5_u64.to_le_bytes());
        stored.push(1);
        let decoded = decode_commitment(&runtime, Some(&stored));
        if spec == 461 {
            let kept = vec![Field::Other("TimelockRevealFailed".into()), Field::Raw(vec![])];
            assert_eq!(decoded.unwrap(), Some((1, kept)));
        } else {
            assert_eq!(decoded.unwrap_err().code().name, "chain_runtime_unknown");
        }
        assert_eq!(decode_commitment(&runtime, None).unwrap(), None);
    }
}

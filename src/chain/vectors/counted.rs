//! Every entry of both recordings, group by group, with a count: one that nobody looked at fails the test.

use std::collections::BTreeMap;

use parity_scale_codec::{Compact, Decode as _, Encode as _};
use scale_value::{Composite, Value, ValueDef};
use serde_json::Value as Json;
use subxt::{ext::frame_decode, utils::MultiSignature};

use super::{
    Recording, account, blake2_256, bytes, call_bytes, digest, item, params, part, parts, recorded_call, recordings,
    shape::difference, transfer,
};
use crate::{
    chain::{Outcome, runtime::Header},
    ids::Hotkey,
};

/// How many entries each group has: of the recording of 439 and of that of 461.
const GROUPS: [(&str, usize, usize); 16] = [
    ("block", 3, 3),
    ("calls", 10, 10),
    ("constants", 3, 3),
    ("events", 491, 8),
    ("extrinsics", 2, 2),
    ("metadata", 1, 1),
    ("multisig", 3, 3),
    ("network", 4, 4),
    ("payment_info", 2, 2),
    ("query_maps", 4, 4),
    ("receipt", 8, 5),
    ("runtime_calls", 4, 4),
    ("signature_payloads", 2, 2),
    ("ss58", 4, 4),
    ("storage_keys", 10, 10),
    ("storage_values", 8, 8),
];

/// What is not checked, and why.
const SKIPPED: [(&str, &str); 2] =
    [("_source", "where the recording comes from"), ("endpoint", "the address of the node that was recorded")];

/// How many entries of each group were checked.
type Checked = BTreeMap<&'static str, usize>;

#[test]
fn every_recorded_entry_is_checked() {
    for recording in recordings() {
        let mut checked = Checked::new();
        checked.insert("storage_keys", storage_keys(&recording));
        checked.insert("storage_values", storage_values(&recording));
        checked.insert("query_maps", query_maps(&recording));
        checked.insert("calls", calls(&recording));
        checked.insert("signature_payloads", signature_payloads(&recording));
        checked.insert("extrinsics", extrinsics(&recording));
        checked.insert("events", events(&recording));
        checked.insert("block", block(&recording));
        checked.insert("receipt", receipt(&recording));
        checked.insert("runtime_calls", runtime_calls(&recording));
        checked.insert("constants", constants(&recording));
        checked.insert("payment_info", payment_info(&recording));
        checked.insert("ss58", addresses(&recording));
        checked.insert("multisig", multisig(&recording));
        checked.insert("metadata", metadata(&recording));
        checked.insert("network", network(&recording));
        let expected =
            |(name, old, new): (&'static str, usize, usize)| (name, if recording.spec == 439 { old } else { new });
        assert_eq!(checked, GROUPS.into_iter().map(expected).collect::<Checked>(), "{}", recording.spec);
        for name in recording.vectors.as_object().unwrap().keys() {
            let skipped = SKIPPED.iter().any(|(skipped, _why)| skipped == name);
            assert!(skipped != checked.contains_key(name.as_str()), "{name} is neither checked nor skipped, or both");
        }
    }
}

/// Checks each entry of a list; every one of them must say that it was.
fn each(list: &Json, check: impl Fn(&Json)) -> usize {
    let entries = list.as_array().unwrap();
    entries.iter().for_each(check);
    entries.len()
}

fn expect_same(value: &Value, json: &Json) {
    assert_eq!(difference(value, json), None, "{json}");
}

/// Decodes bytes of a type to the last one, and makes sure that encoding the value gives the same bytes.
fn decoded(recording: &Recording, raw: &[u8], id: u32) -> Value {
    let types = recording.metadata.types();
    let mut rest = raw;
    let value = scale_value::scale::decode_as_type(&mut rest, id, types).unwrap();
    assert!(rest.is_empty(), "{} bytes are left of {value}", rest.len());
    let mut again = Vec::new();
    scale_value::scale::encode_as_type(&value, id, types, &mut again).unwrap();
    assert_eq!(hex::encode(again), hex::encode(raw), "{value}");
    value.remove_context()
}

fn storage_keys(recording: &Recording) -> usize {
    each(&recording.vectors["storage_keys"], |recorded| {
        let key = recording.runtime.key(item(recorded), parts(recorded)).unwrap();
        assert_eq!(key, bytes(&recorded["key_hex"]), "{recorded}");
        let place = item(recorded);
        let storage = recording.metadata.pallet_by_name(place.pallet).unwrap().storage().unwrap();
        let id = storage.entry_by_name(place.name).unwrap().value_ty();
        assert_eq!(recorded["value_scale_type"], format!("scale_info::{id}"), "{place}");
    })
}

fn storage_values(recording: &Recording) -> usize {
    each(&recording.vectors["storage_values"], |recorded| {
        let place = item(recorded);
        assert_eq!(recording.runtime.key(place, parts(recorded)).unwrap(), bytes(&recorded["key_hex"]), "{place}");
        let raw = recorded["raw_hex"].as_str().map(|_| bytes(&recorded["raw_hex"]));
        let value: Value = recording.runtime.value(place, raw.as_deref()).unwrap().unwrap();
        expect_same(&value, &recorded["decoded"]);
    })
}

/// Pages of a map: the keys as the chain sorts them, and what they and the values say.
fn query_maps(recording: &Recording) -> usize {
    each(&recording.vectors["query_maps"], |recorded| {
        let place = item(recorded);
        let prefix = recording.runtime.prefix(place, parts(recorded)).unwrap();
        assert_eq!(prefix, bytes(&recorded["prefix_hex"]), "{place}");
        let (keys, changes) = (&recorded["raw_keys"], recorded["raw_changes"].as_array().unwrap());
        let pairs = recorded["pairs"].as_array().unwrap();
        assert_eq!((keys.as_array().unwrap().len(), changes.len()), (pairs.len(), pairs.len()));
        for (at, (pair, change)) in pairs.iter().zip(changes).enumerate() {
            assert_eq!(keys[at], change[0]);
            let all_parts = [parts(recorded), vec![part(&pair[0])]].concat();
            assert_eq!(recording.runtime.key(place, all_parts).unwrap(), bytes(&change[0]), "{place} of {pair}");
            let value: Value = recording.runtime.value(place, Some(&bytes(&change[1]))).unwrap().unwrap();
            expect_same(&value, &pair[1]);
        }
    })
}

/// What a recorded call without parameters of its own says in words, as values.
fn spoken(pallet: &str, name: &str) -> Composite<()> {
    let bob = Hotkey([
        0x8e, 0xaf, 0x04, 0x15, 0x16, 0x87, 0x73, 0x63, 0x26, 0xc9, 0xfe, 0xa1, 0x7e, 0x25, 0xfc, 0x52, 0x87, 0x61,
        0x36, 0x93, 0xc9, 0x12, 0x90, 0x9c, 0xb2, 0x26, 0xaa, 0x47, 0x94, 0xf2, 0x6a, 0x48,
    ]);
    let charlie: Hotkey = "5FLSigC9HGRKVhB9FiEo4Y3koPsNmBmLJbpXg2mp1hXcS59Y".parse().unwrap();
    let alice: Hotkey = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".parse().unwrap();
    let address = |who: Hotkey| Value::unnamed_variant("Id", [Value::from_bytes(who.0)]);
    let call = |pallet: &str, call: Value| Value::unnamed_variant(pallet, [call]);
    let transfer = |who, amount| {
        let fields = [("dest", address(who)), ("value", Value::u128(amount))];
        call("Balances", Value::named_variant("transfer_keep_alive", fields))
    };
    match (pallet, name) {
        ("Sudo", "sudo") => {
            let remark = Value::named_variant("remark", [("remark", Value::from_bytes([0xde, 0xad, 0xbe, 0xef]))]);
            Composite::named([("call", call("System", remark))])
        }
        ("Utility", "batch") => {
            let calls = [transfer(bob, 1), transfer(charlie, 2)];
            Composite::named([("calls", Value::unnamed_composite(calls))])
        }
        ("Proxy", "proxy") => {
            let kind = Value::unnamed_variant("Some", [Value::unnamed_variant("Transfer", [])]);
            Composite::named([("real", address(alice)), ("force_proxy_type", kind), ("call", transfer(bob, 1))])
        }
        _ => panic!("{pallet}.{name} has parameters of its own"),
    }
}

/// A recorded parameter as a value; addresses of calls are variants.
fn argument(name: &str, json: &Json) -> Value {
    match json {
        Json::Array(items) => Value::unnamed_composite(items.iter().map(part)),
        address if name == "dest" => Value::unnamed_variant("Id", [part(address)]),
        plain => part(plain),
    }
}

fn calls(recording: &Recording) -> usize {
    let call_type = recording.metadata.outer_enums().call_enum_ty();
    let ours = std::cell::Cell::new(0);
    let count = each(&recording.vectors["calls"], |recorded| {
        let (pallet, name) = (recorded["module"].as_str().unwrap(), recorded["function"].as_str().unwrap());
        let expected = bytes(&recorded["data_hex"]);
        let arguments = match pallet {
            "Sudo" | "Utility" | "Proxy" => spoken(pallet, name),
            _ => {
                let given = recorded["params"].as_object().unwrap().iter();
                Composite::named(given.map(|(name, json)| (name.clone(), argument(name, json))))
            }
        };
        let encoded = recording.runtime.client().tx().call_data(&subxt::tx::dynamic(pallet, name, arguments)).unwrap();
        assert_eq!(hex::encode(encoded), hex::encode(&expected), "{pallet}.{name}");
        decoded(recording, &expected, call_type);
        let Some(call) = recorded_call(recorded) else { return };
        // The recorded weights are the plain call, which we use only where the newer one is missing.
        let (pallet, name, arguments) = call.forms().pop().unwrap();
        let plain = recording.runtime.client().tx().call_data(&subxt::tx::dynamic(pallet, name, arguments)).unwrap();
        assert_eq!(hex::encode(plain), hex::encode(&expected), "{}", call.name());
        assert!(call_bytes(&recording.runtime, &call).len() >= expected.len());
        ours.set(ours.get() + 1);
    });
    assert_eq!(ours.get(), 3, "the recorded calls that the client makes itself");
    count
}

fn signature_payloads(recording: &Recording) -> usize {
    each(&recording.vectors["signature_payloads"], |recorded| {
        let params = params(&recording.vectors, recorded);
        let tx = recording.runtime.client().tx();
        let call = transfer(recorded);
        let signable = tx.create_v4_signable_offline(&call, params).unwrap();
        assert_eq!(hex::encode(signable.signer_payload().unwrap()), hex::encode(bytes(&recorded["payload_hex"])));
    })
}

fn extrinsics(recording: &Recording) -> usize {
    each(&recording.vectors["extrinsics"], |recorded| {
        let params = params(&recording.vectors, recorded);
        let tx = recording.runtime.client().tx();
        let call = transfer(recorded);
        let mut signable = tx.create_v4_signable_offline(&call, params).unwrap();
        let signer = subxt::utils::AccountId32(bytes(&recorded["public_key_hex"]).try_into().unwrap());
        assert_eq!(Hotkey(signer.0), account(&recorded["address"]));
        let signature = MultiSignature::Sr25519(bytes(&recorded["signature_hex"]).try_into().unwrap());
        let signed = signable.sign_with_account_and_signature(&signer, &signature).unwrap();
        assert_eq!(hex::encode(signed.encoded()), hex::encode(bytes(&recorded["extrinsic_hex"])));
        assert_eq!(blake2_256(signed.encoded()), digest(&recorded["extrinsic_hash"]));
    })
}

/// Phase, names, indices, every field and the topics of each event.
fn events(recording: &Recording) -> usize {
    use subxt::events::Phase;

    let recorded = &recording.vectors["events"];
    assert_eq!(recorded["block_hash"], recording.vectors["block"]["block_hash"]);
    let decoded = recorded["decoded"].as_array().unwrap();
    let events = recording.runtime.events(bytes(&recorded["raw_hex"]));
    let mut count = 0;
    for (event, expected) in events.iter().zip(decoded) {
        let event = event.unwrap();
        let (phase, extrinsic) = match event.phase() {
            Phase::ApplyExtrinsic(index) => ("ApplyExtrinsic", Json::from(index)),
            Phase::Finalization => ("Finalization", Json::Null),
            Phase::Initialization => ("Initialization", Json::Null),
        };
        assert_eq!((&Json::from(phase), &extrinsic), (&expected["phase"], &expected["extrinsic_idx"]));
        assert_eq!(event.pallet_name(), expected["module_id"]);
        assert_eq!(event.event_name(), expected["event_id"]);
        assert_eq!(expected["event_index"], event.pallet_index());
        let index = format!("{:02x}{:02x}", event.pallet_index(), event.event_index());
        assert_eq!(expected["event"]["event_index"], index);
        let fields: Composite<()> = recording.runtime.event_fields(&event).unwrap();
        let fields = Value { value: ValueDef::Composite(fields), context: () };
        match &expected["attributes"] {
            Json::Null => assert!(matches!(&fields.value, ValueDef::Composite(none) if none.is_empty())),
            attributes => expect_same(&fields, attributes),
        }
        assert_eq!(expected["topics"].as_array().unwrap().len(), event.topics().len());
        count += 1;
    }
    assert_eq!((count, events.len() as usize), (decoded.len(), decoded.len()));
    count
}

/// The header's hash, and every extrinsic with its hash, call and signature.
fn block(recording: &Recording) -> usize {
    let recorded = &recording.vectors["block"];
    let raw = &recorded["raw"]["block"];
    let header: Header = serde_json::from_value(raw["header"].clone()).unwrap();
    assert_eq!(blake2_256(&header.encode()), digest(&recorded["block_hash"]));
    let extrinsics = raw["extrinsics"].as_array().unwrap();
    let decoded = recorded["decoded_extrinsics"].as_array().unwrap();
    for (raw, expected) in extrinsics.iter().zip(decoded) {
        extrinsic(recording, &bytes(raw), expected);
    }
    assert_eq!(extrinsics.len(), decoded.len());
    decoded.len()
}

fn extrinsic(recording: &Recording, raw: &[u8], expected: &Json) {
    let types = recording.metadata.types();
    assert_eq!(blake2_256(raw), digest(&expected["extrinsic_hash"]));
    let mut rest = raw;
    let Compact(length) = Compact::<u32>::decode(&mut rest).unwrap();
    assert_eq!(rest.len(), usize::try_from(length).unwrap());
    let parts = frame_decode::extrinsics::decode_extrinsic(&mut &*raw, &recording.metadata, types).unwrap();
    let call = &expected["call"];
    assert_eq!(
        (parts.pallet_name(), parts.call_name()),
        (call["call_module"].as_str().unwrap(), call["call_function"].as_str().unwrap())
    );
    assert_eq!(call["call_index"], format!("0x{:02x}{:02x}", parts.pallet_index(), parts.call_index()));
    assert_eq!(blake2_256(&raw[parts.call_data_range()]), digest(&call["call_hash"]));
    let arguments = call["call_args"].as_array().unwrap();
    assert_eq!(parts.call_data().count(), arguments.len());
    for (argument, expected) in parts.call_data().zip(arguments) {
        assert_eq!(argument.name(), expected["name"]);
        expect_same(&self::decoded(recording, &raw[argument.range()], *argument.ty()), &expected["value"]);
    }
    let Some(signature) = parts.signature_payload() else {
        assert!(expected["address"].is_null(), "a recorded signer of what nobody signed");
        return;
    };
    let address = self::decoded(recording, &raw[signature.address_range()], *signature.address_type());
    expect_same(&address, &expected["address"]);
    let expected_signature = bytes(&expected["signature"]["Sr25519"]);
    assert_eq!(raw[signature.signature_range()], [&[1][..], &expected_signature].concat());
    let extensions = parts.transaction_extension_payload().unwrap();
    let extension = |name: &str| {
        let found = extensions.iter().find(|extension| extension.name() == name).unwrap();
        raw[found.range()].to_vec()
    };
    assert_eq!(hex::encode(extension("CheckMortality")), expected["era"].as_str().unwrap());
    assert_eq!(extension("CheckNonce"), Compact(expected["nonce"].as_u64().unwrap()).encode());
    assert_eq!(extension("ChargeTransactionPayment"), Compact(expected["tip"].as_u64().unwrap()).encode());
    assert_eq!(expected["mode"]["mode"], "Disabled");
    assert_eq!(extension("CheckMetadataHash"), [0]);
}

/// The receipt's events are those of its extrinsic, in their order; its outcome and its fee are read from them.
fn receipt(recording: &Recording) -> usize {
    let recorded = &recording.vectors["receipt"];
    let index = &recorded["extrinsic_idx"];
    let all = recording.vectors["events"]["decoded"].as_array().unwrap();
    let of_extrinsic: Vec<&Json> = all.iter().filter(|event| event["extrinsic_idx"] == *index).collect();
    let triggered = recorded["triggered_events"].as_array().unwrap();
    assert_eq!(of_extrinsic, triggered.iter().collect::<Vec<_>>());
    let paid = triggered.iter().find(|event| event["event_id"] == "TransactionFeePaid").unwrap();
    assert_eq!(paid["attributes"]["actual_fee"], recorded["total_fee_amount"]);
    assert_eq!(recorded["is_success"], true);
    let raw = bytes(&recording.vectors["events"]["raw_hex"]);
    let outcome = recording.runtime.outcome(raw, u32::try_from(index.as_u64().unwrap()).unwrap()).unwrap();
    assert_eq!(outcome, Outcome::Ok);
    triggered.len()
}

/// Arguments and answers of runtime APIs by the types of the metadata.
fn runtime_calls(recording: &Recording) -> usize {
    let types = recording.metadata.types();
    each(&recording.vectors["runtime_calls"], |recorded| {
        let api = recording.metadata.runtime_api_trait_by_name(recorded["api"].as_str().unwrap()).unwrap();
        let method = api.method_by_name(recorded["method"].as_str().unwrap()).unwrap();
        let mut encoded = Vec::new();
        let given = recorded["params"].as_array().unwrap();
        assert_eq!(method.inputs().count(), given.len());
        for (input, given) in method.inputs().zip(given) {
            scale_value::scale::encode_as_type(&part(given), input.id, types, &mut encoded).unwrap();
        }
        assert_eq!(hex::encode(encoded), recorded["encoded_params_hex"].as_str().unwrap().trim_start_matches("0x"));
        let answer = decoded(recording, &bytes(&recorded["raw_hex"]), method.output_ty());
        expect_same(&answer, &recorded["decoded"]);
    })
}

fn constants(recording: &Recording) -> usize {
    each(&recording.vectors["constants"], |recorded| {
        let pallet = recording.metadata.pallet_by_name(recorded["module"].as_str().unwrap()).unwrap();
        let constant = pallet.constant_by_name(recorded["name"].as_str().unwrap()).unwrap();
        expect_same(&decoded(recording, constant.value(), constant.ty()), &recorded["decoded"]);
    })
}

/// The recording has the names of the answer's fields and a weight; the devnet's tests check that its fees are the
/// recorded ones.
fn payment_info(recording: &Recording) -> usize {
    let recorded = recording.vectors["payment_info"].as_object().unwrap();
    let api = recording.metadata.runtime_api_trait_by_name("TransactionPaymentApi").unwrap();
    let output = api.method_by_name("query_info").unwrap().output_ty();
    let fields = |id: u32| match &recording.metadata.types().resolve(id).unwrap().type_def {
        scale_info::TypeDef::Composite(composite) => {
            let named = composite.fields.iter();
            let mut all: Vec<_> = named.map(|field| (field.name.clone().unwrap(), field.ty.id)).collect();
            all.sort();
            all
        }
        other => panic!("{other:?}"),
    };
    let mut checked = 0;
    for (name, expected) in recorded {
        let names: Vec<String> = match name.as_str() {
            "keys" => fields(output).into_iter().map(|(name, _)| name).collect(),
            "weight" => {
                let (_, weight) = fields(output).into_iter().find(|(name, _)| name == "weight").unwrap();
                fields(weight).into_iter().map(|(name, _)| name).collect()
            }
            other => panic!("payment_info.{other}"),
        };
        let expected: Vec<String> = match expected {
            Json::Object(weight) => weight.keys().cloned().collect(),
            list => serde_json::from_value(list.clone()).unwrap(),
        };
        assert_eq!(names, expected);
        checked += 1;
    }
    checked
}

fn addresses(recording: &Recording) -> usize {
    each(&recording.vectors["ss58"], |recorded| {
        let account = account(&recorded["address"]);
        assert_eq!(account.0.to_vec(), bytes(&recorded["public_key_hex"]));
        assert_eq!(account.to_string(), recorded["address"]);
    })
}

/// Accounts without a key of their own: the product makes none, but their hash and their address are made as all are.
fn multisig(recording: &Recording) -> usize {
    each(&recording.vectors["multisig"], |recorded| {
        let mut signatories: Vec<[u8; 32]> =
            recorded["signatories"].as_array().unwrap().iter().map(|address| account(address).0).collect();
        signatories.sort_unstable();
        let threshold = u16::try_from(recorded["threshold"].as_u64().unwrap()).unwrap();
        let account = blake2_256(&(*b"modlpy/utilisuba", signatories, threshold).encode());
        assert_eq!(Hotkey(account.0).to_string(), recorded["ss58_address"]);
    })
}

/// The block at which the metadata was read is the one that the mortal payload was born at.
fn metadata(recording: &Recording) -> usize {
    let recorded = recording.vectors["metadata"].as_object().unwrap();
    let mortal = recording.vectors["signature_payloads"].as_array().unwrap().last().unwrap();
    assert_eq!(recorded["block_hash"], mortal["era_birth_block_hash"]);
    recorded.len()
}

/// What the node said about its network is what the metadata and the payloads have.
fn network(recording: &Recording) -> usize {
    let recorded = recording.vectors["network"].as_object().unwrap();
    let system = recording.metadata.pallet_by_name("System").unwrap();
    let constant = |name: &str| {
        let constant = system.constant_by_name(name).unwrap();
        decoded(recording, constant.value(), constant.ty())
    };
    let version = constant("Version");
    let field = |name: &str| {
        let ValueDef::Composite(Composite::Named(fields)) = &version.value else { panic!("{version}") };
        fields.iter().find(|(field, _)| field == name).unwrap().1.clone()
    };
    let payload = recording.vectors["signature_payloads"][0]["payload_hex"].as_str().unwrap();
    for (name, expected) in recorded {
        match name.as_str() {
            "spec_version" | "transaction_version" => expect_same(&field(name), expected),
            "ss58_format" => expect_same(&constant("SS58Prefix"), expected),
            "genesis_hash" => assert!(payload.contains(expected.as_str().unwrap().trim_start_matches("0x"))),
            other => panic!("network.{other}"),
        }
    }
    recorded.len()
}

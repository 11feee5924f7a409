//! Tests of the runtime APIs: what others recorded, and that every answer is of the metadata's type.

use scale_value::Value;
use subxt_signer::sr25519::dev;

use super::*;
use crate::devnet::testkit::{blocks, call_bytes, chain, chain_with_beacon, key_of, populated, signed, vectors};

/// What is asked of each method that is answered.
fn arguments(method: &str) -> Option<Vec<u8>> {
    let bob = key_of(&dev::bob());
    Some(match method {
        "Core_version" | "Metadata_metadata" | "Metadata_metadata_versions" => Vec::new(),
        "Metadata_metadata_at_version" => 15_u32.encode(),
        "AccountNonceApi_account_nonce" | "StakeInfoRuntimeApi_get_stake_info_for_coldkey" => bob.encode(),
        "StakeInfoRuntimeApi_get_stake_info_for_coldkeys" => vec![bob, [1; 32]].encode(),
        "StakeInfoRuntimeApi_get_stake_info_for_hotkey_coldkey_netuid" => (bob, bob, 1_u16).encode(),
        "StakeInfoRuntimeApi_get_stake_fee" => {
            (Some((bob, 1_u16)), bob, None::<([u8; 32], u16)>, bob, 1_000_000_000_u64).encode()
        }
        "StakeInfoRuntimeApi_get_coldkey_lock" | "StakeInfoRuntimeApi_get_hotkey_conviction" => (bob, 1_u16).encode(),
        "StakeInfoRuntimeApi_get_most_convicted_hotkey_on_subnet" => 1_u16.encode(),
        "SwapRuntimeApi_sim_swap_tao_for_alpha" | "SwapRuntimeApi_sim_swap_alpha_for_tao" => (1_u16, 7_u64).encode(),
        "SwapRuntimeApi_current_alpha_price_all" => Vec::new(),
        "SubnetInfoRuntimeApi_get_subnet_to_prune" | "SubnetInfoRuntimeApi_get_block_emission" => Vec::new(),
        "SubnetInfoRuntimeApi_get_coldkey_auto_stake_hotkey" => (bob, 1_u16).encode(),
        "NeuronInfoRuntimeApi_get_neuron" | "NeuronInfoRuntimeApi_get_neuron_lite" => (1_u16, 1_u16).encode(),
        "SubnetInfoRuntimeApi_get_mechagraph" => (1_u16, 0_u8).encode(),
        "SubnetInfoRuntimeApi_get_selective_metagraph" => (1_u16, (0..80).collect::<Vec<u16>>()).encode(),
        "SubnetInfoRuntimeApi_get_selective_mechagraph" => (1_u16, 0_u8, vec![52_u16, 99]).encode(),
        "SubnetInfoRuntimeApi_get_subnet_account_id" => return None,
        all if all.contains("get_all_") || all.contains("get_subnets_info") => Vec::new(),
        one if one.starts_with("NeuronInfo") || one.starts_with("SubnetInfo") => 1_u16.encode(),
        "SwapRuntimeApi_current_alpha_price" => 1_u16.encode(),
        _ => return None,
    })
}

#[test]
fn every_answer_is_of_the_type_that_the_metadata_promises() {
    let mut chain = populated();
    blocks(&mut chain, 120);
    let runtime = chain.runtime();
    let mut answered = 0;
    for method in runtime.api_methods() {
        let Some(arguments) = arguments(&method) else { continue };
        let answer =
            call(&chain, chain.best(), &method, &arguments).unwrap_or_else(|error| panic!("{method}: {error}"));
        let (_, output) = runtime.api(&method).unwrap();
        let mut rest = &*answer;
        let decoded = scale_value::scale::decode_as_type(&mut rest, output, runtime.types());
        let decoded = decoded.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert!(rest.is_empty(), "{method}: {} bytes are left of {decoded}", rest.len());
        answered += 1;
    }
    assert_eq!(answered, 40);
}

fn decoded(chain: &Chain, method: &str, arguments: &[u8]) -> String {
    let answer = call(chain, chain.best(), method, arguments).unwrap();
    let (_, output) = chain.runtime().api(method).unwrap();
    let value: Value<u32> = scale_value::scale::decode_as_type(&mut &*answer, output, chain.runtime().types()).unwrap();
    value.to_string()
}

#[test]
fn a_metagraph_says_who_is_in_the_subnet() {
    let chain = populated();
    let metagraph = decoded(&chain, "SubnetInfoRuntimeApi_get_metagraph", &1_u16.encode());
    for part in ["num_uids: 3", "validator_permit: (false, true, false)", "block_at_registration: (1, 2, 3)"] {
        assert!(metagraph.contains(part), "{part} in {metagraph}");
    }
    let selected = decoded(&chain, "SubnetInfoRuntimeApi_get_selective_metagraph", &(1_u16, vec![8_u16]).encode());
    assert!(selected.contains("tempo: Some (100)"), "{selected}");
    assert!(selected.contains("hotkeys: None"), "{selected}");
}

#[test]
fn a_swap_gives_what_it_takes() {
    let chain = populated();
    let swapped = decoded(&chain, "SwapRuntimeApi_sim_swap_tao_for_alpha", &(1_u16, 7_u64).encode());
    for part in ["tao_amount: (7)", "alpha_amount: (7)", "tao_fee: (0)"] {
        assert!(swapped.contains(part), "{part} in {swapped}");
    }
}

#[test]
fn every_hyperparameter_has_a_value() {
    let chain = populated();
    let newest = decoded(&chain, "SubnetInfoRuntimeApi_get_subnet_hyperparams_v3", &1_u16.encode());
    assert_eq!(newest.matches("name: ").count(), 33, "{newest}");
    for part in ["U16 (100)", "U32 (13889)", "U64 (1388)", "TaoBalance ((500000))", "U64F64"] {
        assert!(newest.contains(part), "{part} in {newest}");
    }
    let older = decoded(&chain, "SubnetInfoRuntimeApi_get_subnet_hyperparams_v2", &1_u16.encode());
    for part in ["tempo: 100", "activity_cutoff: 1388", "subnet_is_active: true"] {
        assert!(older.contains(part), "{part} in {older}");
    }
}

#[test]
fn unknown_subnets_are_none_and_unknown_methods_are_named() {
    let chain = chain();
    for method in ["get_metagraph", "get_subnet_hyperparams", "get_subnet_hyperparams_v3", "get_dynamic_info"] {
        let answer = call(&chain, 0, &format!("SubnetInfoRuntimeApi_{method}"), &9_u16.encode());
        assert_eq!(answer.unwrap(), [0], "{method}");
    }
    let lite = "NeuronInfoRuntimeApi_get_neurons_lite";
    assert_eq!(call(&chain, 0, lite, &9_u16.encode()).unwrap(), [0]);
    assert_eq!(call(&chain, 0, lite, &[9]), Err(Error::BadInput(lite.to_owned())));
    assert_eq!(call(&chain, 0, lite, &[9, 0, 0]), Err(Error::BadInput(lite.to_owned())));
    let text = call(&chain, 0, "DelegateInfoRuntimeApi_get_delegates", &[]).unwrap_err().to_string();
    assert_eq!(text, "Execution failed: Other: Exported method DelegateInfoRuntimeApi_get_delegates is not found");
    assert!(matches!(call(&chain, 0, &"x".repeat(1 << 20), &[]), Err(Error::NotFound(name)) if name.len() < 200));
}

#[test]
fn recorded_arguments_are_accepted_and_recorded_answers_have_our_types() {
    let chain = populated();
    let vectors = vectors(439);
    let recorded = vectors["runtime_calls"].as_array().unwrap();
    assert_eq!(recorded.len(), 4);
    for recorded in recorded {
        let method = format!("{}_{}", recorded["api"].as_str().unwrap(), recorded["method"].as_str().unwrap());
        let arguments = hex::decode(recorded["encoded_params_hex"].as_str().unwrap().trim_start_matches("0x")).unwrap();
        call(&chain, chain.best(), &method, &arguments).unwrap_or_else(|error| panic!("{method}: {error}"));
    }
}

#[test]
fn the_fee_asked_for_is_the_fee_of_a_recorded_transfer() {
    for spec in [439, 461] {
        let chain = chain_with_beacon(spec);
        let vectors = vectors(spec);
        let transfer = vectors["block"]["raw"]["block"]["extrinsics"][2].as_str().unwrap();
        let mut arguments = hex::decode(&transfer[2..]).unwrap();
        arguments.extend(142_u32.encode());
        let answer = call(&chain, 0, "TransactionPaymentApi_query_info", &arguments).unwrap();
        let fee = u64::from_le_bytes(answer[answer.len() - 8..].try_into().unwrap());
        assert_eq!(fee, vectors["receipt"]["total_fee_amount"].as_u64().unwrap());
        let weight = &vectors["payment_info"]["weight"];
        assert_eq!(
            (&weight["ref_time"], &weight["proof_size"]),
            (&balances::REF_TIME.into(), &balances::PROOF_BYTES.into())
        );
    }
}

#[test]
fn the_fee_of_a_call_that_is_not_there_is_told_and_the_call_is_refused_by_name() {
    let mut chain = chain();
    let children = vec![Datum::account(&[1; 32]), Datum::Num(1), Datum::List(Vec::new())];
    let bytes = call_bytes(chain.runtime(), "SubtensorModule", "set_children", children);
    let extrinsic = signed(&chain, &dev::alice(), &bytes, 0);
    let arguments = [&*extrinsic, &u32::try_from(extrinsic.len()).unwrap().encode()].concat();
    assert!(call(&chain, 0, "TransactionPaymentApi_query_info", &arguments).is_ok());
    let refused = chain.submit(&extrinsic, None).unwrap_err();
    assert_eq!(refused.to_string(), "the devnet does not implement the call SubtensorModule.set_children");
}

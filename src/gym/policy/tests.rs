use std::collections::BTreeMap;

use prost::Message as _;
use serde::Deserialize;

use super::*;
use crate::{
    artifact::onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto},
    fault::Class,
    gym::simd,
};

/// Scores closer than this may be ordered differently by fused program and general backend.
const NEAR_TIE: f32 = 2e-5;

/// What onnxruntime answered, made by `tests/interop/gym/make_policies.py`.
#[derive(Deserialize)]
struct Answers {
    policies: BTreeMap<String, Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    observations: String,
    outputs: String,
    width: usize,
}

fn floats(hexadecimal: &str) -> Vec<f32> {
    hex::decode(hexadecimal).expect("hex").as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub(in crate::gym) fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/testdata/gym/policies/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).expect("a policy")
}

fn recorded(name: &str) -> Recorded {
    let path = format!("{}/testdata/gym/policies/answers.json", env!("CARGO_MANIFEST_DIR"));
    let mut answers: Answers = serde_json::from_slice(&std::fs::read(path).expect("answers")).expect("well formed");
    answers.policies.remove(name).expect("recorded")
}

pub(in crate::gym) fn fused(environment: Environment) -> Policy {
    Policy::load_fused(&file(environment.id()), environment).expect("keeps the contract").expect("is fused")
}

const EMBEDDED: &BackendChoice = &BackendChoice::Embedded;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The first largest of a row and its lead over the second.
fn best(row: &[f32]) -> (usize, f32) {
    let (mut best, mut second) = (0, f32::NEG_INFINITY);
    for (index, score) in row.iter().enumerate().skip(1) {
        if *score > row[best] {
            second = row[best];
            best = index;
        } else {
            second = second.max(*score);
        }
    }
    (best, row[best] - second)
}

#[test]
fn fused_answers_are_onnxruntimes_outside_the_near_tie_band() {
    for environment in Environment::ALL {
        let policy = fused(environment);
        let recorded = recorded(environment.id());
        let outputs = policy.outputs(&floats(&recorded.observations)).expect("runs");
        let expected = floats(&recorded.outputs);
        let width = environment.actions().width();
        for (row, expected) in outputs.chunks(width).zip(expected.chunks(recorded.width)) {
            if recorded.width == width {
                for (got, expected) in row.iter().zip(expected) {
                    assert!(
                        (got - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                        "{environment}: {got} {expected}"
                    );
                }
            } else {
                // The file ends in ArgMax: only the choice was recorded.
                let (choice, lead) = best(row);
                assert!(choice as f32 == expected[0] || lead < NEAR_TIE, "{environment}: {row:?} {expected:?}");
            }
        }
    }
}

#[test]
fn what_pytorchs_exporters_write_is_fused() {
    for name in ["torch-old", "torch-new"] {
        let policy = Policy::load_fused(&file(name), Environment::CartPole).expect("contract").expect("is fused");
        let recorded = recorded(name);
        let outputs = policy.outputs(&floats(&recorded.observations)).expect("runs");
        for (got, expected) in outputs.iter().zip(floats(&recorded.outputs)) {
            assert!((got - expected).abs() <= 1e-6, "{name}: {got} {expected}");
        }
    }
}

#[test]
fn the_embedded_backend_answers_as_onnxruntime() {
    for name in ["CartPole-v1", "Pendulum-v1", "layer-norm", "across-rows"] {
        let environment = Environment::parse(name).unwrap_or(Environment::CartPole);
        let policy = Policy::load_general(&file(name), environment, EMBEDDED, "a test").expect("loads");
        let recorded = recorded(name);
        let outputs = policy.outputs(&floats(&recorded.observations)).expect("runs");
        for (got, expected) in outputs.iter().zip(floats(&recorded.outputs)) {
            assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{name}: {got} {expected}");
        }
    }
}

#[test]
fn an_answer_depends_on_its_own_row_alone() {
    let general = |name: &str| Policy::load_general(&file(name), Environment::CartPole, EMBEDDED, "a test");
    let policies = [
        fused(Environment::CartPole),
        general("CartPole-v1").expect("loads"),
        general("layer-norm").expect("loads"),
        general("across-rows").expect("loads"),
    ];
    let rows = floats(&recorded("CartPole-v1").observations);
    for policy in policies {
        let together = bits(&policy.outputs(&rows).expect("runs"));
        let apart: Vec<u32> = rows.chunks(4).flat_map(|row| bits(&policy.outputs(row).expect("runs"))).collect();
        assert_eq!(together, apart, "{:?}", policy.runtime());
        let turned: Vec<f32> = rows.chunks(4).rev().flatten().copied().collect();
        let turned = bits(&policy.outputs(&turned).expect("runs"));
        assert!(together.chunks(2).eq(turned.chunks(2).rev()), "{:?}", policy.runtime());
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for environment in Environment::ALL {
        let rows = floats(&recorded(environment.id()).observations);
        let mut policy = fused(environment);
        let mut answers = simd::tests::levels().into_iter().map(|wanted| {
            if let Engine::Fused { level, .. } = &mut policy.engine {
                *level = wanted;
            }
            bits(&policy.outputs(&rows).expect("runs"))
        });
        let first = answers.next();
        assert!(answers.all(|other| Some(other) == first), "{environment}");
    }
}

#[test]
fn rows_are_run_together_only_where_they_stay_apart() {
    let rows_of = |name: &str| {
        let policy = Policy::load_general(&file(name), Environment::CartPole, EMBEDDED, "a test").expect("loads");
        let Engine::General { rows, .. } = policy.engine else { panic!("not general") };
        rows
    };
    assert_eq!((rows_of("CartPole-v1"), rows_of("layer-norm"), rows_of("across-rows")), (LANES, LANES, 1));
}

#[test]
fn what_is_not_plain_goes_to_the_backend_with_a_reason() {
    let policy = Policy::load(&file("layer-norm"), Environment::CartPole, EMBEDDED).expect("loads");
    let runtime = policy.runtime().expect("the backend needs nothing");
    assert_eq!(runtime.name, "embedded");
    assert!(runtime.version.contains("tract"), "{runtime:?}");
    assert_eq!(runtime.unfused_because, "a node LayerNormalization");
    assert_eq!(fused(Environment::CartPole).runtime().expect("fused").name, "fused");
}

/// The policy of CartPole, changed.
fn changed(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(file("CartPole-v1").as_slice()).expect("decodes");
    change(&mut model);
    model.encode_to_vec()
}

fn nodes(model: &mut ModelProto) -> &mut Vec<NodeProto> {
    &mut model.graph.as_mut().expect("a graph").node
}

fn weights(model: &mut ModelProto) -> &mut Vec<TensorProto> {
    &mut model.graph.as_mut().expect("a graph").initializer
}

fn code_of(bytes: &[u8]) -> String {
    match Policy::load(bytes, Environment::CartPole, EMBEDDED) {
        Ok(policy) => policy.outputs(&[0.0; 4]).map_or_else(|fault| fault.code, |_outputs| "ok".to_owned()),
        Err(fault) => fault.code,
    }
}

#[test]
fn files_that_break_the_contract_are_miner_faults() {
    assert_eq!(code_of(&changed(|_same| ())), "ok");
    assert_eq!(code_of(b"not a protobuf"), "policy_unreadable");
    assert_eq!(code_of(b""), "policy_unreadable");
    assert_eq!(code_of(&file("Acrobot-v1")), "policy_input");
    assert_eq!(code_of(&file("MountainCar-v0")), "policy_input");
    let no_output = changed(|model| model.graph.as_mut().expect("a graph").output.clear());
    assert_eq!(code_of(&no_output), "policy_output");
    let wide = changed(|model| {
        weights(model)[4].dims[0] = 3;
        weights(model)[4].raw_data = Some(vec![0; 3 * 64 * 4]);
        weights(model)[5].dims[0] = 3;
        weights(model)[5].raw_data = Some(vec![0; 12]);
    });
    assert!(code_of(&wide).starts_with("policy_"), "{}", code_of(&wide));
    for environment in [Environment::Pendulum, Environment::Acrobot] {
        let fault = Policy::load(&file("CartPole-v1"), environment, EMBEDDED).expect_err("another environment");
        assert_eq!(fault.code, "policy_input");
    }
}

/// A file with so many nodes before it.
fn long(name: &str, length: usize) -> Vec<u8> {
    let mut model = ModelProto::decode(file(name).as_slice()).expect("decodes");
    let nodes = nodes(&mut model);
    let first = nodes[0].input[0].clone();
    let link = |at: usize| if at == 0 { first.clone() } else { format!("link {at}") };
    let chain = (0..length).map(|at| NodeProto {
        op_type: Some("Neg".to_owned()),
        input: vec![link(at)],
        output: vec![link(at + 1)],
        ..Default::default()
    });
    let chain: Vec<NodeProto> = chain.collect();
    for input in nodes.iter_mut().flat_map(|node| &mut node.input).filter(|input| **input == first) {
        *input = link(length);
    }
    nodes.splice(0..0, chain);
    model.encode_to_vec()
}

#[test]
fn a_policy_may_cost_the_limit_and_not_more() {
    assert_eq!(check_cost(STEP_COST_MAX), Ok(STEP_COST_MAX));
    assert_eq!(check_cost(STEP_COST_MAX + 1).expect_err("too much").code, "policy_too_costly");
    // Rows that are asked one by one make every node dear.
    let alone = Policy::load_general(&long("across-rows", 150), Environment::CartPole, EMBEDDED, "a test");
    assert!(alone.is_ok_and(|policy| policy.cost() > 150 * 8_192));
    let refused = Policy::load_general(&long("across-rows", 250), Environment::CartPole, EMBEDDED, "a test");
    assert_eq!(refused.expect_err("too many").code, "policy_too_costly");
    let together = Policy::load_general(&long("layer-norm", 2_000), Environment::CartPole, EMBEDDED, "a test");
    assert!(together.is_ok_and(|policy| policy.cost() > 2_000 * 256));
    // 4·64 + 64·64 + 64·2 products and 128 hyperbolic tangents.
    assert_eq!(fused(Environment::CartPole).cost(), 256 + 4096 + 128 + 16 * 128);
}

#[test]
fn odd_graphs_are_refused_without_panic() {
    let damage: Vec<(&str, Vec<u8>)> = vec![
        ("no inputs of a node", changed(|model| nodes(model)[0].input.clear())),
        ("no outputs of a node", changed(|model| nodes(model)[0].output.clear())),
        ("an unknown operator", changed(|model| nodes(model)[1].op_type = Some("Frobnicate".to_owned()))),
        ("a cycle", changed(|model| nodes(model)[0].input[0] = "action".to_owned())),
        ("negative extents", changed(|model| weights(model)[0].dims[0] = -64)),
        ("huge extents", changed(|model| weights(model)[0].dims = vec![i64::MAX, i64::MAX])),
        ("short weights", changed(|model| weights(model)[0].raw_data = Some(vec![1, 2, 3]))),
        ("no weights", changed(|model| weights(model).clear())),
        ("no nodes", changed(|model| nodes(model).clear())),
        (
            "one value named twice",
            changed(|model| {
                let second = nodes(model)[1].clone();
                nodes(model).push(second);
            }),
        ),
        (
            "a strange attribute",
            changed(|model| {
                nodes(model)[0].attribute.push(AttributeProto { name: Some("alpha".to_owned()), ..Default::default() });
            }),
        ),
        ("half a file", file("CartPole-v1")[..9000].to_vec()),
    ];
    for (name, bytes) in damage {
        // The general backend is not asked here: it may crash on these, which `isolation` tests.
        match Policy::load(&bytes, Environment::CartPole, EMBEDDED) {
            Ok(policy) if policy.is_fused() => {
                assert_eq!(policy.outputs(&[0.0; 4]).map(|row| row.len()), Ok(2), "{name}")
            }
            Ok(_general) => {}
            Err(fault) => assert_eq!(fault.class, Class::Miner, "{name}: {fault}"),
        }
    }
}

#[test]
fn any_damaged_byte_is_survived_by_the_translator() {
    let whole = file("layer-norm");
    for position in 0..whole.len() {
        for flip in [1, 0x10, 0x80] {
            let mut bytes = whole.clone();
            bytes[position] ^= flip;
            // The general backend is not asked: what it is given has passed the artifact room's checks.
            if let Ok(Ok(policy)) = Policy::load_fused(&bytes, Environment::CartPole) {
                policy.outputs(&[0.1; 8]).expect("fused programs cannot fail");
            }
        }
    }
}

#[test]
fn a_second_name_for_a_value_does_not_change_it() {
    // observation → Identity → Tanh would overwrite what a later Add still reads.
    let with_skip = changed(|model| {
        let nodes = nodes(model);
        let hidden = nodes[0].output[0].clone();
        let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        };
        nodes[1] = node("Add", &["twice", &hidden], &nodes[1].output[0].clone());
        nodes.insert(1, node("Identity", &[&hidden], "same"));
        nodes.insert(2, node("Tanh", &["same"], "twice"));
    });
    let rows = floats(&recorded("CartPole-v1").observations);
    let fused = Policy::load_fused(&with_skip, Environment::CartPole).expect("contract").expect("fused");
    let general = Policy::load_general(&with_skip, Environment::CartPole, EMBEDDED, "a test").expect("loads");
    let (fused, general) = (fused.outputs(&rows).expect("runs"), general.outputs(&rows).expect("runs"));
    for (fused, general) in fused.iter().zip(&general) {
        assert!((fused - general).abs() < 1e-4, "{fused} {general}");
    }
}

#[test]
fn a_process_has_one_backend() {
    Backend::init(EMBEDDED).expect("needs nothing");
    let other = BackendChoice::Onnxruntime("/nowhere/libonnxruntime.so".into());
    assert_eq!(Backend::init(&other).expect_err("another").code, "onnx_backend_fixed");
    assert_eq!(Backend::current().map(|backend| backend.name()), Some("embedded"));
}

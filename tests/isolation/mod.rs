//! Policies on a backend in a child process, as the program starts it: the hidden verb `play` of the real binary.

use std::{
    ffi::OsString,
    sync::atomic::{AtomicU32, Ordering},
};

use prost::Message as _;
use waag::{
    artifact::onnx::proto::ModelProto,
    fault::Class,
    gym::{
        env::Environment,
        isolation::Host,
        policy::{BackendChoice, Policy},
        rollouts::{self, ObservationSample, Request, Verdict},
    },
};

const WATCH: &(dyn Fn(u64) -> Verdict + Sync) = &|_steps| Verdict::Go;

fn host() -> Host {
    Host { program: env!("CARGO_BIN_EXE_waag").into(), args: vec![OsString::from("play")] }
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/testdata/gym/policies/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).expect("a policy")
}

fn general(name: &str) -> Policy {
    let environment = Environment::parse(name).unwrap_or(Environment::CartPole);
    Policy::load_general(&file(name), environment, &BackendChoice::Embedded, "a test").expect("keeps the contract")
}

#[test]
fn a_child_plays_what_this_process_plays() {
    let seeds: Vec<u64> = (5..25).collect();
    let sample = ObservationSample { key: [3; 32], count: 7 };
    let request = Request { seeds: &seeds, threads: 1, sample: Some(&sample), watch: WATCH };
    for name in ["Pendulum-v1", "layer-norm"] {
        let policy = general(name);
        let here = rollouts::rollout(&policy, &request).expect("plays");
        assert_eq!(host().rollout(&policy, &request).expect("plays"), here, "{name}");
        let observations: Vec<f32> = here.sample.iter().flat_map(|kept| kept.observation.clone()).collect();
        let outputs = host().outputs(&policy, &observations, WATCH).expect("runs");
        assert_eq!(outputs, policy.outputs(&observations).expect("runs"));
    }
}

#[test]
fn fused_policies_need_no_child() {
    let nowhere = Host { program: "/nowhere/at-all".into(), args: Vec::new() };
    let policy = Policy::load_fused(&file("CartPole-v1"), Environment::CartPole).expect("keeps the contract");
    let request = Request { seeds: &[1, 2], threads: 1, sample: None, watch: WATCH };
    assert_eq!(nowhere.rollout(&policy.expect("is fused"), &request).expect("plays").episodes.len(), 2);
    let fault = nowhere.rollout(&general("layer-norm"), &request).expect_err("no child");
    assert_eq!(fault.code, "policy_child_unavailable");
}

#[test]
fn a_policy_that_kills_its_backend_is_its_miners_fault_and_kills_nobody_else() {
    let mut model = ModelProto::decode(file("layer-norm").as_slice()).expect("decodes");
    // The embedded backend panics on an output that no node makes.
    model.graph.as_mut().expect("a graph").node.truncate(2);
    let policy = Policy::load(&model.encode_to_vec(), Environment::CartPole, &BackendChoice::Embedded).expect("loads");
    let request = Request { seeds: &[1], threads: 1, sample: None, watch: WATCH };
    let fault = host().rollout(&policy, &request).expect_err("crashes");
    assert_eq!((fault.class, fault.code.as_str()), (Class::Miner, "policy_crashes_backend"), "{fault}");
}

#[test]
fn the_watch_ends_a_child_that_never_answers() {
    let asked = AtomicU32::new(0);
    let watch = |_steps| if asked.fetch_add(1, Ordering::Relaxed) < 3 { Verdict::Go } else { Verdict::OutOfTime };
    let request = Request { seeds: &[1], threads: 1, sample: None, watch: &watch };
    // It says much and answers nothing.
    let babbler = Host { program: "cat".into(), args: Vec::new() };
    let fault = babbler.rollout(&general("layer-norm"), &request).expect_err("out of time");
    assert_eq!(fault.code, "rollouts_out_of_time");
    assert_eq!(asked.into_inner(), 4);
}

#[test]
fn a_backend_describes_itself_or_says_why_not() {
    let runtime = host().describe(&BackendChoice::Embedded, WATCH).expect("needs nothing");
    assert_eq!(runtime.name, "embedded");
    let missing = BackendChoice::Onnxruntime("/nowhere/libonnxruntime.so".into());
    let fault = host().describe(&missing, WATCH).expect_err("no such library");
    assert_eq!((fault.class, fault.code.as_str()), (Class::Operator, "onnx_backend_unavailable"), "{fault}");
}

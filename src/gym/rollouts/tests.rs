use std::sync::atomic::AtomicBool;

use prost::Message as _;

use super::*;
use crate::{
    artifact::onnx::proto::ModelProto,
    gym::{
        env::Environment,
        policy::{BackendChoice, tests as policies},
    },
};

const WATCH: &(dyn Fn(u64) -> Verdict + Sync) = &|_steps| Verdict::Go;

fn seeds(count: u64) -> Vec<u64> {
    (0..count).map(|seed| seed * 7 + 3).collect()
}

fn request(seeds: &[u64], threads: usize) -> Request<'_> {
    Request { seeds, threads, sample: None, watch: WATCH }
}

#[test]
fn threads_and_batches_do_not_change_records() {
    let sample = ObservationSample { key: [9; 32], count: 50 };
    for environment in Environment::ALL {
        let policy = policies::fused(environment);
        let seeds = seeds(70);
        let play = |seeds: &[u64], threads| {
            rollout(&policy, &Request { sample: Some(&sample), ..request(seeds, threads) }).expect("plays")
        };
        let one = play(&seeds, 1);
        assert_eq!(one, play(&seeds, 3), "{environment}");
        assert_eq!(one.sample.len(), 50);
        let apart: Vec<Episode> = seeds.iter().flat_map(|seed| play(&[*seed], 1).episodes).collect();
        assert_eq!(one.episodes, apart, "{environment}");
        assert!(one.episodes.iter().any(|episode| episode.success), "{environment}");
    }
}

#[test]
fn the_general_backend_plays_what_the_fused_program_plays() {
    let bytes = policies::file("MountainCar-v0");
    let general =
        Policy::load_general(&bytes, Environment::MountainCar, &BackendChoice::Embedded, "a test").expect("loads");
    let seeds = seeds(6);
    let general = rollout(&general, &request(&seeds, 1)).expect("plays");
    assert_eq!(general.runtime.name, "embedded");
    let fused = rollout(&policies::fused(Environment::MountainCar), &request(&seeds, 1)).expect("plays");
    assert_eq!(general.episodes, fused.episodes);
}

#[test]
fn a_sample_is_a_function_of_key_and_play() {
    let policy = policies::fused(Environment::CartPole);
    let seeds = seeds(40);
    let play = |key, count| {
        let sample = ObservationSample { key: [key; 32], count };
        rollout(&policy, &Request { sample: Some(&sample), ..request(&seeds, 2) }).expect("plays").sample
    };
    let hundred = play(1, 100);
    assert_eq!(hundred[..10], play(1, 10));
    assert_ne!(hundred, play(2, 100));
    assert!(play(1, 0).is_empty());
    assert!(hundred.iter().all(|kept| kept.observation.len() == 4 && kept.step < 500));
    // Most of 20 000 observations are not the reset's.
    assert!(hundred.iter().filter(|kept| kept.step > 20).count() > 80);
}

#[test]
fn the_watch_decides_whose_fault_a_stop_is() {
    let policy = policies::fused(Environment::CartPole);
    let seeds = seeds(64);
    for (verdict, class, code) in [
        (Verdict::TooSlow, Class::Miner, "policy_too_slow"),
        (Verdict::OutOfTime, Class::Infra, "rollouts_out_of_time"),
        (Verdict::Cancelled, Class::Infra, "rollouts_cancelled"),
    ] {
        let watch = move |_steps| verdict;
        let fault = rollout(&policy, &Request { watch: &watch, ..request(&seeds, 2) }).expect_err("stopped");
        assert_eq!((fault.class, fault.code.as_str()), (class, code));
    }
}

#[test]
fn the_watch_sees_progress() {
    let policy = policies::fused(Environment::CartPole);
    let seen = AtomicBool::new(false);
    let watch = |steps| {
        seen.fetch_or(steps > 10_000, Ordering::Relaxed);
        Verdict::Go
    };
    rollout(&policy, &Request { watch: &watch, ..request(&seeds(64), 1) }).expect("plays");
    assert!(seen.into_inner());
}

/// The CartPole policy with NaN as the weight that the cart's position meets.
fn poisoned() -> Policy {
    let mut model = ModelProto::decode(policies::file("CartPole-v1").as_slice()).expect("decodes");
    let bias = &mut model.graph.as_mut().expect("a graph").initializer[5];
    bias.raw_data = Some([f32::NAN, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect());
    Policy::load_fused(&model.encode_to_vec(), Environment::CartPole).expect("contract").expect("fused")
}

#[test]
fn no_number_is_the_miners_fault_and_names_the_first_episode() {
    for threads in [1, 3] {
        let fault = rollout(&poisoned(), &request(&seeds(100), threads)).expect_err("not a number");
        assert_eq!((fault.class, fault.code.as_str()), (Class::Miner, "policy_action_not_finite"));
        assert_eq!(fault.detail, "score 0 is not a number (seed 3, step 0)");
    }
}

#[test]
fn limits_hold_at_their_edges() {
    let policy = poisoned();
    let within = vec![1; EPISODES_MAX];
    let refused = rollout(&policy, &request(&within, 1)).expect_err("plays and fails");
    assert_eq!(refused.code, "policy_action_not_finite");
    let beyond = vec![1; EPISODES_MAX + 1];
    assert_eq!(rollout(&policy, &request(&beyond, 1)).expect_err("too many").code, "rollouts_too_large");
    let sample = ObservationSample { key: [0; 32], count: SAMPLE_MAX + 1 };
    let request = Request { sample: Some(&sample), ..request(&[1], 1) };
    assert_eq!(rollout(&policy, &request).expect_err("too many").code, "rollouts_too_large");
}

#[test]
fn nothing_to_play_is_nothing_played() {
    let rollout = rollout(&policies::fused(Environment::Acrobot), &request(&[], 4)).expect("plays");
    assert!(rollout.episodes.is_empty() && rollout.sample.is_empty());
}

use std::ffi::OsString;

use super::*;
use crate::{fault::Class, gym::policy::tests as policies};

/// A child that runs this line instead of the policy.
fn child(line: &str) -> Host {
    Host { program: "/bin/sh".into(), args: ["-c", line].map(OsString::from).to_vec() }
}

fn fault_of(line: &str, cpu_ms_max: u64, watch: &(dyn Fn(u64) -> Verdict + Sync)) -> Fault {
    let bytes = policies::file("layer-norm");
    let ask = Ask::Rollout { seeds: vec![1], threads: 1, sample: None };
    let task = task(Environment::CartPole, &BackendChoice::Embedded, "a test", &bytes, ask);
    match child(line).converse(&task, &bytes, watch, cpu_ms_max) {
        Err(End::Fault(fault)) => fault,
        _other => panic!("a child that says nothing gave an answer"),
    }
}

#[test]
#[cfg(target_os = "linux")]
fn whoever_takes_too_much_processor_time_is_too_slow() {
    let fault = fault_of("while :; do :; done", 200, &|_steps| Verdict::Go);
    assert_eq!((fault.class, fault.code.as_str()), (Class::Miner, "policy_too_slow"), "{fault}");
}

#[test]
fn whoever_only_waits_is_stopped_by_the_clock_and_not_to_blame() {
    let asked = AtomicU64::new(0);
    let watch = |_steps| match asked.fetch_add(1, Ordering::Relaxed) {
        0..10 => Verdict::Go,
        _ => Verdict::OutOfTime,
    };
    let fault = fault_of("exec sleep 60", 200, &watch);
    assert_eq!((fault.class, fault.code.as_str()), (Class::Infra, "rollouts_out_of_time"), "{fault}");
}

#[test]
fn a_budget_grows_with_the_rows_and_fits_into_the_wall_time() {
    let rows = policy::rows_max(Environment::MountainCarContinuous, 200);
    assert_eq!(rows, 232 * 999);
    let budget_ms = policy::cpu_ms_max(rows);
    assert!(budget_ms > 2_000_000, "{budget_ms}");
    assert!(policy::wall_ms_max(rows) > 2 * budget_ms);
}

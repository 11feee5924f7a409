//! How fast rollouts are: steps per second from ONNX bytes to episode records, by the stage's own functions.
//!
//! Owns what is measured and the shape of the report. Refuses to read time: the caller lends a clock. `waag bench
//! rollouts` calls it; `tests/bench/rollouts.sh` sets it beside its rivals.

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{
    env::Environment,
    isolation::Host,
    policy::{BackendChoice, Policy, Runtime},
    rollouts::{EPISODES_MAX, Request, Verdict},
};
use crate::{
    artifact::onnx::proto::{
        AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
        TensorShapeProto, TensorType, TypeProto, TypeValue, ValueInfoProto, attribute, elem,
    },
    fault::Fault,
};

/// Units of each of the two hidden layers of the policies we make ourselves.
const WIDTH: usize = 64;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Environments, each with the ONNX file to play there.
    pub policies: Vec<(Environment, Vec<u8>)>,
    /// Backend for files that are not plain networks.
    pub backend: BackendChoice,
    /// Episodes to play; the seeds are 0, 1, 2, ….
    pub episodes: u32,
    /// Threads to use.
    pub threads: usize,
    /// How often to play them; the fastest counts, as the others were disturbed.
    pub repeats: u32,
}

impl Options {
    /// CartPole and Pendulum with 64×64 tanh policies on one thread.
    #[must_use]
    pub fn standard() -> Self {
        let environments = [Environment::CartPole, Environment::Pendulum];
        Self {
            policies: environments.map(|environment| (environment, network(environment))).to_vec(),
            backend: BackendChoice::Embedded,
            episodes: 2000,
            threads: 1,
            repeats: 5,
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Where.
    pub environment: Environment,
    /// What ran the policy.
    pub runtime: Runtime,
    /// Threads used.
    pub threads: usize,
    /// Episodes played each time.
    pub episodes: u32,
    /// Steps played each time, inference included.
    pub steps: u64,
    /// The fastest time, in nanoseconds.
    pub best_ns: u64,
    /// Steps per second of the fastest time.
    pub steps_per_second: f64,
    /// The mean return, by which a rival can be compared.
    pub mean_return: f64,
}

/// Measures. `now_ns` is any clock that counts nanoseconds.
///
/// # Errors
/// Any fault of loading or playing.
pub fn run(options: &Options, host: &Host, now_ns: &dyn Fn() -> u64) -> Result<Vec<Measured>, Fault> {
    let episodes = options.episodes.clamp(1, u32::try_from(EPISODES_MAX).unwrap_or(u32::MAX));
    let seeds: Vec<u64> = (0..u64::from(episodes)).collect();
    let watch = |_steps| Verdict::Go;
    let request = Request { seeds: &seeds, threads: options.threads, sample: None, watch: &watch };
    let mut report = Vec::new();
    for (environment, bytes) in &options.policies {
        let mut best_ns = u64::MAX;
        let mut last = None;
        for _repeat in 0..options.repeats.max(1) {
            let start_ns = now_ns();
            let policy = Policy::load(bytes, *environment, &options.backend)?;
            let rollout = host.rollout(&policy, &request)?;
            best_ns = best_ns.min(now_ns().saturating_sub(start_ns).max(1));
            last = Some(rollout);
        }
        let Some(rollout) = last else { continue };
        let steps: u64 = rollout.episodes.iter().map(|episode| u64::from(episode.length)).sum();
        let total: f64 = rollout.episodes.iter().map(|episode| episode.return_).sum();
        report.push(Measured {
            environment: *environment,
            runtime: rollout.runtime,
            threads: options.threads.max(1),
            episodes,
            steps,
            best_ns,
            steps_per_second: steps as f64 * 1e9 / best_ns as f64,
            mean_return: total / f64::from(episodes),
        });
    }
    Ok(report)
}

/// A policy of two hidden tanh layers, as PyTorch would export it: unit 0 carries a simple controller where there is
/// one, so that episodes have their full length; the other units do arithmetic that changes little.
#[must_use]
pub fn network(environment: Environment) -> Vec<u8> {
    let controller: &[f32] = match environment {
        Environment::CartPole => &[0.1, 0.3, 3.0, 1.0],
        Environment::Acrobot => &[0.0, 0.0, 0.0, 0.0, -3.0, 0.0],
        Environment::MountainCar | Environment::MountainCarContinuous => &[0.0, 100.0],
        Environment::Pendulum => &[0.0, -2.0, -0.5],
    };
    let head: &[f32] = match environment {
        Environment::CartPole => &[-3.0, 3.0],
        Environment::Acrobot | Environment::MountainCar => &[-3.0, 0.0, 3.0],
        Environment::MountainCarContinuous => &[1.0],
        Environment::Pendulum => &[2.0],
    };
    let (inputs, outputs) = (environment.obs_dim(), environment.actions().width());
    // Rows are outputs, as in `torch.nn.Linear`.
    let first = weights(WIDTH, inputs, 0.3, |row, column| (row == 0).then(|| controller[column]));
    let second = weights(WIDTH, WIDTH, 0.03, |row, column| (row == 0).then_some(if column == 0 { 2.0 } else { 0.0 }));
    let third = weights(outputs, WIDTH, 0.002, |row, column| (column == 0).then(|| head[row]));
    let layers = [(first, WIDTH, inputs), (second, WIDTH, WIDTH), (third, outputs, WIDTH)];
    let mut graph = GraphProto {
        name: Some("policy".to_owned()),
        input: vec![value_info("observation", inputs)],
        output: vec![value_info("action", outputs)],
        ..Default::default()
    };
    let mut value = "observation".to_owned();
    for (index, (weights, rows, columns)) in layers.into_iter().enumerate() {
        let (matrix, bias) = (format!("w{index}"), format!("b{index}"));
        let is_last = index == 2;
        let sum = if is_last { "action".to_owned() } else { format!("sum{index}") };
        graph.initializer.push(tensor(&matrix, vec![rows, columns], weights));
        graph.initializer.push(tensor(&bias, vec![rows], vec![0.0; rows]));
        let transposed = AttributeProto {
            name: Some("transB".to_owned()),
            r#type: Some(attribute::INT),
            i: Some(1),
            ..Default::default()
        };
        graph.node.push(node("Gemm", vec![value, matrix, bias], &sum, vec![transposed]));
        value = sum;
        if !is_last {
            let hidden = format!("hidden{index}");
            graph.node.push(node("Tanh", vec![value], &hidden, Vec::new()));
            value = hidden;
        }
    }
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() }
        .encode_to_vec()
}

/// A matrix of small pseudo-random numbers, except where `fixed` says otherwise.
fn weights(rows: usize, columns: usize, scale: f32, fixed: impl Fn(usize, usize) -> Option<f32>) -> Vec<f32> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * scale
    };
    let positions = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    positions
        .map(|(row, column)| {
            let noise = random();
            fixed(row, column).unwrap_or(noise)
        })
        .collect()
}

fn tensor(name: &str, extents: Vec<usize>, values: Vec<f32>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: extents.into_iter().map(|extent| extent as i64).collect(),
        data_type: Some(elem::FLOAT),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        ..Default::default()
    }
}

fn node(op: &str, input: Vec<String>, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { op_type: Some(op.to_owned()), input, output: vec![output.to_owned()], attribute, ..Default::default() }
}

fn value_info(name: &str, width: usize) -> ValueInfoProto {
    let extents = [DimensionValue::Param("N".to_owned()), DimensionValue::Value(width as i64)];
    let dim = extents.map(|value| Dimension { value: Some(value), denotation: None }).to_vec();
    let tensor = TensorType { elem_type: Some(elem::FLOAT), shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { value: Some(TypeValue::Tensor(tensor)), denotation: None };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn our_networks_are_plain_and_play_full_episodes() {
        let host = Host { program: "/nowhere".into(), args: Vec::new() };
        let time_ns = Cell::new(0);
        let now_ns = || {
            time_ns.set(time_ns.get() + 500);
            time_ns.get()
        };
        let policies = Environment::ALL.map(|environment| (environment, network(environment))).to_vec();
        let options = Options { policies, episodes: 10, repeats: 2, ..Options::standard() };
        let report = run(&options, &host, &now_ns).expect("plays");
        assert_eq!(report.len(), 5);
        for measured in &report {
            assert_eq!((measured.runtime.name.as_str(), measured.best_ns), ("fused", 500));
            assert!((measured.steps_per_second - measured.steps as f64 * 2e6).abs() < 1.0);
        }
        assert_eq!(report[0].mean_return, 500.0);
        assert_eq!(report[4].steps, 2000);
    }
}

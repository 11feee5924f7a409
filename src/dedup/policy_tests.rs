//! Calibration: copies of many kinds are found, honest twins of many kinds are not, over fifty seeds each.

use prost::Message as _;

use super::{super::outputs::Reading, *};
use crate::artifact::{
    Limits, Model,
    onnx::{
        proto::{
            AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
            TensorType, TypeProto, TypeValue, ValueInfoProto, attribute, elem,
        },
        proto::{Dimension, DimensionValue},
    },
};

const SEEDS: u64 = 50;
const ROWS: usize = 128;

/// SplitMix64, so that a failing seed can be named.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn order(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..len).collect();
        for i in (1..len).rev() {
            order.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        order
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Activation {
    Tanh,
    Relu,
}

/// `weights[from][to]`, biases.
type Layer = (Vec<Vec<f64>>, Vec<f64>);

#[derive(Debug, Clone)]
struct Net {
    layers: Vec<Layer>,
    activation: Activation,
}

impl Net {
    /// As PyTorch starts a linear layer.
    fn new(sizes: &[usize], activation: Activation, random: &mut Random) -> Self {
        let layer = |pair: &[usize], random: &mut Random| {
            let bound = (pair[0] as f64).sqrt().recip();
            let mut draw = || (2.0 * random.uniform() - 1.0) * bound;
            let matrix = (0..pair[0]).map(|_| (0..pair[1]).map(|_| draw()).collect()).collect();
            (matrix, (0..pair[1]).map(|_| draw()).collect())
        };
        Self { layers: sizes.windows(2).map(|pair| layer(pair, random)).collect(), activation }
    }

    fn activate(&self, x: f64) -> f64 {
        if self.activation == Activation::Tanh { x.tanh() } else { x.max(0.0) }
    }

    /// Activations of every layer, the input first and the answer last.
    fn trace(&self, input: &[f64]) -> Vec<Vec<f64>> {
        let mut trace = vec![input.to_vec()];
        for (at, (matrix, bias)) in self.layers.iter().enumerate() {
            let mut sums = bias.clone();
            for (x, row) in trace[at].iter().zip(matrix) {
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += x * weight);
            }
            if at + 1 < self.layers.len() {
                sums.iter_mut().for_each(|sum| *sum = self.activate(*sum));
            }
            trace.push(sums);
        }
        trace
    }

    fn answer(&self, input: &[f64]) -> Vec<f64> {
        self.trace(input).pop().expect("an answer")
    }

    /// Plain gradient descent with momentum on the squared error against a teacher, on observations of its own.
    fn train(&mut self, teacher: &dyn Fn(&[f64]) -> Vec<f64>, steps: usize, rate: f64, random: &mut Random) {
        let width = self.layers[0].0.len();
        let data: Vec<Vec<f64>> = (0..64).map(|_| (0..width).map(|_| random.normal()).collect()).collect();
        let wanted: Vec<_> = data.iter().map(|row| teacher(row)).collect();
        let zero = |net: &Self| -> Vec<Layer> {
            net.layers.iter().map(|(m, b)| (vec![vec![0.0; b.len()]; m.len()], vec![0.0; b.len()])).collect()
        };
        let mut speed = zero(self);
        for _ in 0..steps {
            let mut gradient = zero(self);
            for (row, wanted) in data.iter().zip(&wanted) {
                let trace = self.trace(row);
                let answer = trace.last().expect("an answer");
                let mut delta: Vec<f64> = answer.iter().zip(wanted).map(|(a, w)| (a - w) / 64.0).collect();
                for at in (0..self.layers.len()).rev() {
                    for (i, x) in trace[at].iter().enumerate() {
                        gradient[at].0[i].iter_mut().zip(&delta).for_each(|(g, d)| *g += x * d);
                    }
                    gradient[at].1.iter_mut().zip(&delta).for_each(|(g, d)| *g += d);
                    let slope = |x: f64| {
                        if self.activation == Activation::Tanh { 1.0 - x * x } else { f64::from(u8::from(x > 0.0)) }
                    };
                    let back = |(i, x): (usize, &f64)| {
                        let sum: f64 = self.layers[at].0[i].iter().zip(&delta).map(|(w, d)| w * d).sum();
                        sum * slope(*x)
                    };
                    delta = trace[at].iter().enumerate().map(back).collect();
                }
            }
            for ((layer, speed), gradient) in self.layers.iter_mut().zip(&mut speed).zip(&gradient) {
                let step = |w: &mut f64, s: &mut f64, g: &f64| {
                    *s = 0.9 * *s - rate * g;
                    *w += *s;
                };
                for ((w, s), g) in layer.0.iter_mut().zip(&mut speed.0).zip(&gradient.0) {
                    w.iter_mut().zip(s).zip(g).for_each(|((w, s), g)| step(w, s, g));
                }
                layer.1.iter_mut().zip(&mut speed.1).zip(&gradient.1).for_each(|((w, s), g)| step(w, s, g));
            }
        }
    }

    fn each_weight(&mut self, mut change: impl FnMut(&mut f64)) {
        for (matrix, bias) in &mut self.layers {
            matrix.iter_mut().flatten().chain(bias).for_each(&mut change);
        }
    }

    /// Noise of this fraction of each layer's spread on every weight.
    fn with_noise(mut self, fraction: f64, random: &mut Random) -> Self {
        for (matrix, bias) in &mut self.layers {
            let count = matrix.len() * bias.len();
            let spread = (matrix.iter().flatten().map(|w| w * w).sum::<f64>() / count as f64).sqrt();
            matrix.iter_mut().flatten().chain(bias).for_each(|w| *w += fraction * spread * random.normal());
        }
        self
    }

    /// The same function with the neurons of every hidden layer in another order, some with the other sign.
    fn permuted(mut self, random: &mut Random) -> Self {
        for at in 0..self.layers.len() - 1 {
            let size = self.layers[at].1.len();
            let order = random.order(size);
            let odd = self.activation == Activation::Tanh;
            let scale = |random: &mut Random| match (odd, random.uniform() < 0.5) {
                (true, true) => -1.0,
                (true, false) => 1.0,
                (false, _) => 0.5 + random.uniform(),
            };
            let scales: Vec<f64> = (0..size).map(|_| scale(random)).collect();
            let (matrix, bias) = &mut self.layers[at];
            for row in matrix.iter_mut() {
                *row = order.iter().zip(&scales).map(|(from, scale)| row[*from] * scale).collect();
            }
            *bias = order.iter().zip(&scales).map(|(from, scale)| bias[*from] * scale).collect();
            let next = &mut self.layers[at + 1].0;
            *next = order
                .iter()
                .zip(&scales)
                .map(|(from, scale)| next[*from].iter().map(|w| w / scale).collect())
                .collect();
        }
        self
    }

    fn model(&self, style: Style) -> Model {
        let mut file = File::default();
        let mut value = "observation".to_owned();
        for (at, (matrix, bias)) in self.layers.iter().enumerate() {
            value = file.linear(at, &value, matrix, bias, style);
            if at + 1 < self.layers.len() {
                let op = if self.activation == Activation::Tanh { "Tanh" } else { "Relu" };
                value = file.node(op, &[&value], vec![]);
            }
        }
        if style == Style::ArgMax {
            let int = |name: &str, value| attribute_int(name, value);
            value = file.node("ArgMax", &[&value], vec![int("axis", 1), int("keepdims", 0)]);
        }
        let bytes = file.finish(self.layers[0].0.len(), &value);
        Model::read("net.onnx", &bytes, &Limits::default()).expect("a good file")
    }

    fn evidence(&self, style: Style, rows: &[Vec<f64>], reading: Reading) -> Evidence {
        let model = self.model(style);
        let answers: Vec<Vec<f64>> = rows.iter().map(|row| self.answer(row)).collect();
        let width = answers[0].len();
        let values = answers.concat().iter().map(|value| *value as f32).collect();
        let outputs = Outputs { reading, width, values };
        Evidence { content: model.summary.content, weights: Arc::new(WeightSketch::of(&model, reading)), outputs }
    }

    fn logits(&self, rows: &[Vec<f64>]) -> Evidence {
        self.evidence(Style::Gemm, rows, Reading::Logits)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Gemm,
    MatMul,
    ArgMax,
    /// Every linear layer followed by a product with the identity.
    Padded,
}

#[derive(Default)]
struct File {
    graph: GraphProto,
    made: usize,
}

fn attribute_int(name: &str, value: i64) -> AttributeProto {
    let (name, kind) = (Some(name.to_owned()), Some(attribute::INT));
    AttributeProto { name, r#type: kind, i: Some(value), ..AttributeProto::default() }
}

impl File {
    fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.made += 1;
        let output = format!("value{}", self.made);
        let input = inputs.iter().map(|name| (*name).to_owned()).collect();
        let op_type = Some(op.to_owned());
        self.graph.node.push(NodeProto {
            input,
            output: vec![output.clone()],
            op_type,
            attribute,
            ..NodeProto::default()
        });
        output
    }

    fn constant(&mut self, name: String, dims: &[usize], values: &[f64]) -> String {
        let float_data = values.iter().map(|value| *value as f32).collect();
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        let data_type = Some(elem::FLOAT);
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims,
            data_type,
            float_data,
            ..TensorProto::default()
        });
        name
    }

    fn linear(&mut self, at: usize, input: &str, matrix: &[Vec<f64>], bias: &[f64], style: Style) -> String {
        let w = self.constant(format!("w{at}"), &[matrix.len(), bias.len()], &matrix.concat());
        let b = self.constant(format!("b{at}"), &[bias.len()], bias);
        if style == Style::MatMul {
            let product = self.node("MatMul", &[input, &w], vec![]);
            return self.node("Add", &[&b, &product], vec![]);
        }
        let value = self.node("Gemm", &[input, &w, &b], vec![]);
        if style != Style::Padded {
            return value;
        }
        let size = bias.len();
        let unit: Vec<f64> = (0..size * size).map(|i| f64::from(u8::from(i % (size + 1) == 0))).collect();
        let unit = self.constant(format!("unit{at}"), &[size, size], &unit);
        self.node("MatMul", &[&value, &unit], vec![])
    }

    fn finish(mut self, width: usize, output: &str) -> Vec<u8> {
        let dim = |value| Dimension { value: Some(value), denotation: None };
        let shape = vec![dim(DimensionValue::Param("N".to_owned())), dim(DimensionValue::Value(width as i64))];
        let tensor = TensorType { elem_type: Some(elem::FLOAT), shape: Some(TensorShapeProto { dim: shape }) };
        let kind = TypeProto { value: Some(TypeValue::Tensor(tensor)), denotation: None };
        let input = ValueInfoProto { name: Some("observation".to_owned()), r#type: Some(kind), ..Default::default() };
        self.graph.input = vec![input];
        self.graph.output = vec![ValueInfoProto { name: Some(output.to_owned()), ..Default::default() }];
        let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];
        ModelProto { ir_version: Some(8), opset_import, graph: Some(self.graph), ..Default::default() }.encode_to_vec()
    }
}

fn rows(width: usize, random: &mut Random) -> Vec<Vec<f64>> {
    (0..ROWS).map(|_| (0..width).map(|_| random.normal()).collect()).collect()
}

/// A teacher with a sharp best action, as a controller of a pole has.
fn teacher(row: &[f64]) -> Vec<f64> {
    let lean = row.iter().enumerate().map(|(at, x)| x * (1.0 + at as f64) / 3.0).sum::<f64>();
    vec![lean.tanh(), (0.5 * lean).sin()]
}

fn trained(sizes: &[usize], activation: Activation, seed: u64) -> Net {
    let mut random = Random(seed.wrapping_mul(7919) + 1);
    let mut net = Net::new(sizes, activation, &mut random);
    net.train(&teacher, 150, 0.1, &mut random);
    net
}

/// Asserts that no pair is blamed, and says how near the nearest came.
fn assert_all_honest(what: &str, evidence: &[Evidence]) {
    let mut nearest = (f64::INFINITY, f64::INFINITY);
    for (at, later) in evidence.iter().enumerate() {
        for (before, earlier) in evidence[..at].iter().enumerate() {
            let found = compare(earlier, later);
            assert_eq!(found.kind, Kind::Distinct, "{what}: seeds {before} and {at}: {found:?}");
            nearest.0 = nearest.0.min(found.output_distance.unwrap_or(f64::INFINITY));
            let weights = align::align(&earlier.weights, &later.weights, 0.0).filter(|_| at < 12);
            nearest.1 = nearest.1.min(weights.map_or(f64::INFINITY, |aligned| aligned.distance));
        }
    }
    let threshold = WEIGHT_THRESHOLD * share_of_threshold(evidence[0].weights.parameters());
    // Printed when the test fails or is run with --nocapture, and asserted below: the margin is the point.
    let margin = nearest.1 / threshold;
    assert!(
        margin > 2.0,
        "{what}: nearest answers {:.3}, weights {:.3}, threshold {threshold:.5}",
        nearest.0,
        nearest.1
    );
}

fn assert_copy(what: &str, seed: u64, earlier: &Evidence, later: &Evidence) {
    let found = compare(earlier, later);
    assert!(found.kind >= Kind::NearCopy, "{what}, seed {seed}: {found:?}");
}

#[test]
fn networks_that_never_learned_are_not_copies() {
    for activation in [Activation::Tanh, Activation::Relu] {
        let mut random = Random(1);
        let rows = rows(4, &mut random);
        let nets: Vec<_> =
            (0..SEEDS).map(|seed| Net::new(&[4, 64, 64, 2], activation, &mut Random(seed)).logits(&rows)).collect();
        assert_all_honest("random", &nets);
    }
}

#[test]
fn networks_trained_by_one_teacher_are_not_copies() {
    for (sizes, activation) in [
        (&[4, 24, 24, 2][..], Activation::Tanh),
        (&[4, 24, 24, 2], Activation::Relu),
        (&[4, 16, 2], Activation::Tanh),
        (&[2, 64, 2], Activation::Tanh),
    ] {
        let rows = rows(sizes[0], &mut Random(2));
        let nets: Vec<_> = (0..SEEDS).map(|seed| trained(sizes, activation, seed).logits(&rows)).collect();
        assert_all_honest(&format!("taught {sizes:?}"), &nets);
        // They do agree on what to do: that alone must never blame.
        let agree = apart(&nets[0].outputs, &nets[1].outputs).expect("comparable");
        assert!(agree.distance < 0.5, "{sizes:?}: the teacher taught nothing, {agree:?}");
    }
}

#[test]
fn the_smallest_networks_come_near_and_are_not_blamed() {
    let rows = rows(4, &mut Random(3));
    for sizes in [&[4, 2][..], &[4, 4, 2]] {
        let taught = |seed| {
            let mut net = Net::new(sizes, Activation::Tanh, &mut Random(seed));
            // The same observations for all, as if a simulator with a known seed had made them.
            net.train(&teacher, 60, 0.1, &mut Random(77));
            net.logits(&rows)
        };
        let nets: Vec<_> = (0..SEEDS).map(taught).collect();
        let mut nearest = f64::INFINITY;
        for (at, later) in nets.iter().enumerate() {
            for earlier in &nets[..at] {
                let found = compare(earlier, later);
                assert_eq!(found.kind, Kind::Distinct, "{sizes:?}: {found:?}");
                nearest = nearest.min(found.output_distance.expect("comparable"));
            }
        }
        assert!(nearest < 0.1, "{sizes:?}: these should come near one another: {nearest}");
    }
}

#[test]
fn noise_and_order_do_not_hide_a_copy() {
    for seed in 0..SEEDS {
        let mut random = Random(seed + 1000);
        let activation = if seed % 2 == 0 { Activation::Tanh } else { Activation::Relu };
        let net = if seed % 5 == 0 {
            Net::new(&[4, 64, 64, 2], activation, &mut random)
        } else {
            trained(&[4, 24, 24, 2], activation, seed)
        };
        let rows = rows(4, &mut random);
        let original = net.logits(&rows);
        for noise in [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2] {
            let noisy = net.clone().with_noise(noise, &mut random);
            assert_copy(&format!("noise {noise}"), seed, &original, &noisy.logits(&rows));
            let permuted = noisy.permuted(&mut random);
            assert_copy(&format!("permuted, noise {noise}"), seed, &original, &permuted.logits(&rows));
            let mut scaled = permuted;
            let (matrix, bias) = scaled.layers.last_mut().expect("a layer");
            matrix.iter_mut().flatten().chain(bias.iter_mut()).for_each(|weight| *weight *= 3.5);
            bias.iter_mut().for_each(|weight| *weight += 2.0);
            assert_copy(&format!("scaled, noise {noise}"), seed, &original, &scaled.logits(&rows));
        }
    }
}

#[test]
fn other_forms_do_not_hide_a_copy() {
    for seed in 0..SEEDS {
        let mut random = Random(seed + 2000);
        let net = trained(&[4, 24, 24, 2], Activation::Tanh, seed);
        let rows = rows(4, &mut random);
        let original = net.logits(&rows);
        let product = net.evidence(Style::MatMul, &rows, Reading::Logits);
        assert_eq!(compare(&original, &product).kind, Kind::SameContent, "seed {seed}");
        let padded = net.evidence(Style::Padded, &rows, Reading::Logits);
        let found = compare(&original, &padded);
        assert_eq!((found.kind, found.weight_distance), (Kind::NearCopy, None), "seed {seed}");

        let mut halved = net.clone();
        // Eleven bits, as a round trip through float16 leaves.
        halved.each_weight(|weight| *weight = f64::from(f32::from_bits((*weight as f32).to_bits() & 0xffff_e000)));
        assert_copy("half precision", seed, &original, &halved.logits(&rows));

        let noisy = net.clone().with_noise(1e-3, &mut random).permuted(&mut random);
        let mut chooser = noisy.evidence(Style::ArgMax, &rows, Reading::Choice);
        let best = |row: &[f32]| f32::from(u8::from(row[1] > row[0]));
        chooser.outputs.values = chooser.outputs.values.chunks_exact(2).map(best).collect();
        chooser.outputs.width = 1;
        let found = compare(&original, &chooser);
        assert!(found.by_actions);
        assert_eq!(found.kind, Kind::NearCopy, "seed {seed}: {found:?}");
    }
}

#[test]
fn continuous_actions_are_compared_as_they_are() {
    for seed in 0..SEEDS {
        let mut random = Random(seed + 3000);
        let net = trained(&[3, 24, 24, 2], Activation::Relu, seed);
        let rows = rows(3, &mut random);
        let original = net.evidence(Style::Gemm, &rows, Reading::Continuous);
        let noisy = net.clone().with_noise(1e-2, &mut random).permuted(&mut random);
        assert_copy("continuous", seed, &original, &noisy.evidence(Style::Gemm, &rows, Reading::Continuous));
        let other = trained(&[3, 24, 24, 2], Activation::Relu, seed + 500);
        let found = compare(&original, &other.evidence(Style::Gemm, &rows, Reading::Continuous));
        assert_eq!(found.kind, Kind::Distinct, "seed {seed}: {found:?}");
    }
}

fn contestant(name: &str, owner: &str, models: &[(&str, &Evidence)]) -> Contestant {
    let all: Vec<u8> = models.iter().flat_map(|(_, evidence)| evidence.content.0).collect();
    Contestant {
        name: name.to_owned(),
        owner: owner.to_owned(),
        bytes: Digest::of(name.as_bytes()),
        content: Digest::of(&all),
        models: models.iter().map(|(name, evidence)| ((*name).to_owned(), (*evidence).clone())).collect(),
    }
}

#[test]
fn the_earliest_owns_and_an_owner_may_replace() {
    let rows = rows(4, &mut Random(4));
    let net = trained(&[4, 24, 24, 2], Activation::Tanh, 1);
    let (own, other) = (net.logits(&rows), trained(&[4, 24, 24, 2], Activation::Tanh, 2).logits(&rows));
    let noisy = net.clone().with_noise(1e-3, &mut Random(5)).logits(&rows);
    let noisier = net.with_noise(1e-3, &mut Random(6)).logits(&rows);
    let mut bytes = contestant("bytes", "e", &[("A", &own)]);
    bytes.bytes = Digest::of(b"first");
    let contestants = [
        contestant("first", "a", &[("A", &own)]),
        contestant("replacement", "a", &[("A", &noisy)]),
        contestant("honest", "b", &[("A", &other)]),
        contestant("content", "c", &[("A", &own)]),
        contestant("near", "d", &[("A", &noisier), ("B", &other)]),
        bytes,
    ];
    let verdicts = find_copies(&contestants);
    let seen: Vec<_> = verdicts.iter().map(|v| (v.copy.as_str(), v.victim.as_str(), v.code().name)).collect();
    assert_eq!(
        seen,
        [
            ("content", "first", "duplicate_content"),
            ("near", "first", "near_copy"),
            ("bytes", "first", "duplicate_bytes"),
        ]
    );
    let fault = verdicts[1].fault();
    assert_eq!(fault.class, crate::fault::Class::Miner);
    assert!(fault.detail.starts_with("first; A: answers "), "{}", fault.detail);
}

#[test]
fn one_textbook_rule_does_not_make_a_copy_of_a_whole_policy() {
    let rows = rows(4, &mut Random(7));
    let mut rule = Net::new(&[4, 2], Activation::Tanh, &mut Random(8));
    rule.each_weight(|weight| *weight = weight.signum());
    let rule = rule.logits(&rows);
    let own = |seed| trained(&[4, 24, 24, 2], Activation::Tanh, seed).logits(&rows);
    let (one, two) = (own(1), own(2));
    let both = |name: &str, evidence: &Evidence| contestant(name, name, &[("A", &rule), ("B", evidence)]);
    assert_eq!(find_copies(&[both("x", &one), both("y", &two)]), []);
    let alone = contestant("z", "z", &[("A", &rule)]);
    assert_eq!(find_copies(&[both("x", &one), alone]).len(), 1);
}

#[test]
fn thresholds_shrink_with_the_network() {
    assert_eq!(share_of_threshold(512), 1.0);
    assert_eq!(share_of_threshold(100_000), 1.0);
    assert!((share_of_threshold(64) - 1e-4).abs() < 1e-12);
    assert_eq!(share_of_threshold(0), share_of_threshold(64));
    assert!(share_of_threshold(100) < share_of_threshold(200));
}

#[test]
fn a_policy_that_failed_or_never_changes_proves_nothing() {
    let rows = rows(4, &mut Random(9));
    let mut broken = trained(&[4, 24, 24, 2], Activation::Tanh, 1).logits(&rows);
    let whole = broken.clone();
    broken.outputs.values[3] = f32::NAN;
    broken.content = Digest::of(b"other");
    assert_eq!(compare(&whole, &broken).kind, Kind::Distinct);
    let mut constant = whole.clone();
    constant.outputs.values = [0.0, 1.0].repeat(ROWS);
    let other = trained(&[4, 20, 30, 2], Activation::Tanh, 2);
    let mut also_constant = other.logits(&rows);
    also_constant.outputs.values.clone_from(&constant.outputs.values);
    assert_eq!(compare(&constant, &also_constant).kind, Kind::Distinct);
}

#[test]
fn a_large_matrix_in_a_long_chain_stays_within_bounds() {
    let mut file = File::default();
    let size = 900;
    let matrix = vec![vec![0.5; size]; size];
    let narrow = vec![vec![0.25; size]; 4];
    let mut value = file.linear(0, "observation", &narrow, &vec![0.0; size], Style::Gemm);
    value = file.linear(1, &value, &matrix, &vec![0.0; size], Style::Gemm);
    let scalar = file.constant("scalar".to_owned(), &[], &[1.5]);
    for _ in 0..45 {
        value = file.node("Mul", &[&value, &scalar], vec![]);
        value = file.node("Add", &[&scalar, &value], vec![]);
        value = file.node("Mul", &[&value, "b1"], vec![]);
    }
    let bytes = file.finish(4, &value);
    let model = Model::read("chain.onnx", &bytes, &Limits::default()).expect("within the limits");
    let floats: usize =
        model.canon.constants.iter().filter_map(|constant| constant.floats.as_ref().map(Vec::len)).sum();
    assert!(floats < 20_000_000, "{floats} floats were kept");
    let sketch = WeightSketch::of(&model, Reading::Continuous);
    assert_eq!(align::align(&sketch, &sketch, 0.1).expect("one skeleton").distance, 0.0);
}

//! Sketches: a model's weights with the freedom they have.
//!
//! Owns which axes of which weights belong to one layer of neurons, whose order (and scale, and sign where the
//! activation allows it) means nothing. Refuses to compare: `align` does. `dedup::policy` makes one for each model.
//!
//! A layer whose neurons meet anything but linear layers, element-wise operations and normalisations keeps its order:
//! then only unpermuted copies are found there, and none wrongly.

use std::collections::{BTreeMap, BTreeSet};

use super::outputs::Reading;
use crate::artifact::{
    Model,
    onnx::{
        Canon,
        canon::{Arg, Term},
        shape::Dim,
    },
};

/// Rounds of balancing: a few dozen settle networks of any sensible depth.
const BALANCE_ROUNDS: usize = 100;
/// Change of a neuron's scale below which balancing ends: a thousandth of the smallest threshold.
const BALANCE_ENOUGH: f64 = 1e-8;

/// Floats a sketch holds: twice the largest file. A constant that many nodes read counts each time; what is beyond is
/// left out of the comparison, on both sides alike.
const SKETCH_FLOATS: usize = 4 * 1024 * 1024;

/// A layer of neurons.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// How many neurons.
    pub size: usize,
    /// Whether their order is free.
    pub is_free: bool,
    /// Whether a neuron may change its sign with its weights: all its activations are odd functions.
    pub is_odd: bool,
}

/// Weights of one place in the network.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Weights {
    /// A linear layer: `matrix[from][to]` row by row, and the biases.
    Linear {
        /// Group of its inputs.
        from: usize,
        /// Group of its outputs.
        to: usize,
        /// Weights.
        matrix: Vec<f64>,
        /// Biases.
        bias: Vec<f64>,
    },
    /// One number for each neuron of a group.
    Row {
        /// The group.
        group: usize,
        /// The numbers.
        values: Vec<f64>,
    },
    /// Anything else, compared as it stands.
    Plain(Vec<f64>),
}

/// A model as far as copies go.
#[derive(Debug, Clone)]
pub struct WeightSketch {
    /// The network without its weights and without what follows the last linear layer.
    pub(super) skeleton: [u8; 32],
    pub(super) groups: Vec<Group>,
    pub(super) weights: Vec<Weights>,
    /// Index of the last linear layer, whose outputs are the answer.
    pub(super) last: Option<usize>,
    /// Constant floats.
    pub(super) parameters: usize,
    /// The product of all matrices of a plain chain of layers: the same for every order, sign and scale of neurons.
    pub(super) path: Option<Vec<f64>>,
}

impl WeightSketch {
    /// The sketch of a model whose answers are read in this way.
    #[must_use]
    pub fn of(model: &Model, reading: Reading) -> Self {
        let canon = &model.canon;
        let root = without_head(canon, canon.output);
        let mut drawer = Drawer::new(canon);
        let order = order_of(canon, root);
        for at in order {
            drawer.term(at);
        }
        drawer.fix(root);
        let mut sketch = drawer.sketch;
        sketch.skeleton = canon.arg_digest(root, true);
        sketch.last = match root {
            Arg::Term(at, _) => drawer.places.get(&at).copied().filter(|place| *place < sketch.weights.len()),
            _ => None,
        };
        if reading != Reading::Continuous {
            sketch.free_logits();
        }
        sketch.balance();
        sketch.path = sketch.product();
        sketch
    }

    fn product(&self) -> Option<Vec<f64>> {
        let mut path: Option<(usize, Vec<f64>)> = None;
        for weights in &self.weights {
            let Weights::Linear { from, to, matrix, bias } = weights else { return None };
            path = Some(match path {
                None => (*to, matrix.clone()),
                Some((end, product)) if end == *from => {
                    (*to, times(&product, matrix, self.groups[end].size, bias.len()))
                }
                Some(_) => return None,
            });
        }
        path.map(|(_, product)| product)
    }

    /// How many weights there are: the more, the more an agreement proves.
    #[must_use]
    pub const fn parameters(&self) -> usize {
        self.parameters
    }

    /// Frees the last layer of what no action depends on: what is common to a row of logits, and their scale.
    fn free_logits(&mut self) {
        let Some(Weights::Linear { matrix, bias, .. }) = self.last.map(|last| &mut self.weights[last]) else { return };
        let width = bias.len().max(1);
        for row in matrix.chunks_exact_mut(width).chain(bias.chunks_exact_mut(width)) {
            let mean = row.iter().sum::<f64>() / width as f64;
            row.iter_mut().for_each(|value| *value -= mean);
        }
        let norm = matrix.iter().chain(bias.iter()).map(|value| value * value).sum::<f64>().sqrt();
        if norm.is_normal() {
            matrix.iter_mut().chain(bias).for_each(|value| *value /= norm);
        }
    }

    /// Gives every neuron as much weight before it as after it. That takes away the scale that is free where the
    /// activation is homogeneous, and with it the weights of neurons that nothing reads or that nothing feeds. Where
    /// the scale is not free, it changes what is measured, never the answers, which must agree too.
    ///
    /// A layer's balance moves its neighbours', so it is repeated; it settles at one point whatever the scales were.
    fn balance(&mut self) {
        let free: Vec<_> = (0..self.groups.len()).filter(|group| self.is_balanced(*group)).collect();
        for _round in 0..BALANCE_ROUNDS {
            let moved = free.iter().map(|group| self.balance_group(*group)).fold(0.0, f64::max);
            if moved < BALANCE_ENOUGH {
                break;
            }
        }
    }

    /// Balances one layer and says by how much the neuron that changed most did.
    fn balance_group(&mut self, group: usize) -> f64 {
        let size = self.groups[group].size;
        let (mut before, mut after) = (vec![0.0; size], vec![0.0; size]);
        for weights in &self.weights {
            let Weights::Linear { from, to, matrix, bias } = weights else { continue };
            if *to == group {
                matrix.iter().enumerate().for_each(|(at, value)| before[at % size] += value * value);
                bias.iter().enumerate().for_each(|(at, value)| before[at] += value * value);
            }
            if *from == group {
                let columns = (matrix.len() / size).max(1);
                matrix.iter().enumerate().for_each(|(at, value)| after[at / columns] += value * value);
            }
        }
        // Squared norms, so the fourth root of their ratio moves half of it across.
        let scale_of = |(before, after): (&f64, &f64)| {
            let scale = libm::sqrt(libm::sqrt(after / before));
            if scale.is_normal() { (scale, scale.recip()) } else { (0.0, 0.0) }
        };
        let scales: Vec<(f64, f64)> = before.iter().zip(&after).map(scale_of).collect();
        for weights in &mut self.weights {
            let Weights::Linear { from, to, matrix, bias } = weights else { continue };
            if *to == group {
                matrix.iter_mut().enumerate().for_each(|(at, value)| *value *= scales[at % size].0);
                bias.iter_mut().enumerate().for_each(|(at, value)| *value *= scales[at].0);
            }
            if *from == group {
                let columns = (matrix.len() / size).max(1);
                matrix.iter_mut().enumerate().for_each(|(at, value)| *value *= scales[at / columns].1);
            }
        }
        scales.iter().filter(|(scale, _)| *scale > 0.0).map(|(scale, _)| (scale - 1.0).abs()).fold(0.0, f64::max)
    }

    fn is_balanced(&self, group: usize) -> bool {
        let ties = |weights: &Weights| match weights {
            Weights::Linear { from, to, .. } => from == to && *to == group,
            Weights::Row { group: other, .. } => *other == group,
            Weights::Plain(_) => false,
        };
        let reads = |weights: &Weights| matches!(weights, Weights::Linear { from, .. } if *from == group);
        let group = &self.groups[group];
        group.is_free && group.size > 0 && self.weights.iter().any(reads) && !self.weights.iter().any(ties)
    }
}

/// The product of two matrices, `inner` wide and high where they meet.
fn times(left: &[f64], right: &[f64], inner: usize, width: usize) -> Vec<f64> {
    let mut product = vec![0.0; left.len().checked_div(inner).unwrap_or(0) * width];
    for (row, sums) in left.chunks_exact(inner.max(1)).zip(product.chunks_exact_mut(width.max(1))) {
        for (x, column) in row.iter().zip(right.chunks_exact(width.max(1))) {
            sums.iter_mut().zip(column).for_each(|(sum, weight)| *sum += x * weight);
        }
    }
    product
}

fn count(weights: &Weights) -> usize {
    match weights {
        Weights::Linear { matrix, bias, .. } => matrix.len() + bias.len(),
        Weights::Row { values, .. } | Weights::Plain(values) => values.len(),
    }
}

/// Follows the answer back over what only dresses it (a choice, a squashing, a scale) to the last linear layer.
fn without_head(canon: &Canon, output: Arg) -> Arg {
    let mut root = output;
    while let Arg::Term(at, _) = root {
        let term = &canon.terms[at];
        let inner: Vec<_> = term.args.iter().filter(|arg| matches!(arg, Arg::Term(..))).collect();
        match inner[..] {
            [inner] if term.op != "Linear" => root = *inner,
            _ => break,
        }
    }
    // A network whose last linear layer lies behind a fork is taken whole.
    match root {
        Arg::Term(at, _) if canon.terms[at].op == "Linear" => root,
        _ => output,
    }
}

/// The terms that `root` needs, each after those it reads, in an order that does not depend on how the file lists them.
fn order_of(canon: &Canon, root: Arg) -> Vec<usize> {
    let mut order = Vec::new();
    let mut done = BTreeSet::new();
    let mut stack = vec![(root, false)];
    while let Some((arg, is_ready)) = stack.pop() {
        let Arg::Term(at, _) = arg else { continue };
        if is_ready {
            if done.insert(at) {
                order.push(at);
            }
            continue;
        }
        if done.contains(&at) {
            continue;
        }
        stack.push((arg, true));
        stack.extend(sorted_args(canon, &canon.terms[at]).into_iter().rev().map(|arg| (arg, false)));
    }
    order
}

fn sorted_args(canon: &Canon, term: &Term) -> Vec<Arg> {
    let mut args = term.args.clone();
    if Canon::is_commutative(term.op) {
        args.sort_by_key(|arg| canon.arg_digest(*arg, true));
    }
    args
}

struct Drawer<'a> {
    canon: &'a Canon,
    sketch: WeightSketch,
    /// The group of a term's output, where it is a row of neurons.
    groups: BTreeMap<usize, usize>,
    /// The place of a linear term's weights.
    places: BTreeMap<usize, usize>,
    /// Groups that turned out to be one: the index leads to the one that stands for it.
    joined: Vec<usize>,
    input: Option<usize>,
}

impl<'a> Drawer<'a> {
    const fn new(canon: &'a Canon) -> Self {
        let sketch = WeightSketch {
            skeleton: [0; 32],
            groups: Vec::new(),
            weights: Vec::new(),
            last: None,
            parameters: 0,
            path: None,
        };
        Self { canon, sketch, groups: BTreeMap::new(), places: BTreeMap::new(), joined: Vec::new(), input: None }
    }

    fn new_group(&mut self, size: usize, is_free: bool) -> usize {
        self.sketch.groups.push(Group { size, is_free, is_odd: true });
        self.joined.push(self.joined.len());
        self.joined.len() - 1
    }

    fn group_of(&mut self, arg: Arg) -> Option<usize> {
        match arg {
            Arg::Term(at, 0) => self.groups.get(&at).copied(),
            Arg::Input => self.input,
            _ => None,
        }
    }

    /// Whatever reads this argument cares about the order of its neurons.
    fn fix(&mut self, arg: Arg) {
        if let Some(group) = self.group_of(arg) {
            self.sketch.groups[group].is_free = false;
        }
    }

    fn term(&mut self, at: usize) {
        let term = &self.canon.terms[at];
        let args = sorted_args(self.canon, term);
        let [Dim::Batch, Dim::Fixed(width)] = term.shape[..] else { return self.opaque(&args) };
        let width = usize::try_from(width).unwrap_or(0);
        match term.op {
            "Linear" => self.linear(at, &args, width),
            "Relu" | "LeakyRelu" | "Identity" => self.activation(at, &args, false),
            "Tanh" | "Atan" | "Asinh" | "Softsign" | "Erf" | "Sin" | "Sinh" | "Neg" => {
                self.activation(at, &args, true);
            }
            "Sigmoid" | "Elu" | "Selu" | "Celu" | "Gelu" | "Mish" | "Softplus" | "HardSwish" | "HardSigmoid"
            | "Exp" | "Abs" | "Sqrt" | "Cos" | "Clip" | "Softmax" | "LayerNormalization" | "RMSNormalization"
            | "BatchNormalization" | "Add" | "Sub" | "Mul" | "Div" | "PRelu" | "Max" | "Min" => {
                self.element_wise(at, &args, width);
            }
            _ => self.opaque(&args),
        }
    }

    fn keep(&mut self, weights: Weights) {
        self.sketch.parameters += count(&weights);
        if self.sketch.parameters <= SKETCH_FLOATS {
            self.sketch.weights.push(weights);
        }
    }

    fn linear(&mut self, at: usize, args: &[Arg], width: usize) {
        let [input, Arg::Constant(matrix), Arg::Constant(bias)] = *args else { return self.opaque(args) };
        let constants = &self.canon.constants;
        let (Some(matrix), Some(bias)) = (constants[matrix].floats.clone(), constants[bias].floats.clone()) else {
            return self.opaque(args);
        };
        let rows = matrix.len().checked_div(width).unwrap_or(0);
        let from = match self.group_of(input) {
            Some(group) if self.sketch.groups[group].size == rows => group,
            _ => {
                let group = self.new_group(rows, false);
                if input == Arg::Input {
                    self.input = Some(group);
                }
                group
            }
        };
        let to = self.new_group(width, true);
        self.groups.insert(at, to);
        self.places.insert(at, self.sketch.weights.len());
        self.keep(Weights::Linear { from, to, matrix, bias });
    }

    fn activation(&mut self, at: usize, args: &[Arg], is_odd: bool) {
        let Some(group) = args.first().and_then(|arg| self.group_of(*arg)) else { return self.opaque(args) };
        self.groups.insert(at, group);
        let shape = &mut self.sketch.groups[group];
        shape.is_odd &= is_odd;
    }

    /// Every neuron by itself, or all neurons of a layer alike: their order stays free, their sign and scale do not.
    fn element_wise(&mut self, at: usize, args: &[Arg], width: usize) {
        let mut found: Option<usize> = None;
        let mut is_clean = true;
        for arg in args {
            match (*arg, self.group_of(*arg)) {
                (Arg::Missing | Arg::Constant(_), _) => {}
                (_, Some(group)) if self.sketch.groups[group].size == width => match found {
                    None => found = Some(group),
                    Some(first) if first == group => {}
                    Some(first) => is_clean &= self.join(first, group),
                },
                _ => is_clean = false,
            }
        }
        let Some(group) = found.filter(|_| is_clean) else { return self.opaque(args) };
        self.groups.insert(at, group);
        self.sketch.groups[group].is_odd = false;
        for arg in args {
            let Arg::Constant(constant) = *arg else { continue };
            let Some(values) = self.canon.constants[constant].floats.clone() else { continue };
            let weights = if values.len() == width && width > 1 {
                Weights::Row { group, values }
            } else {
                Weights::Plain(values)
            };
            self.keep(weights);
        }
    }

    /// Makes two layers one, as a skip connection does: every mention of the second becomes the first.
    fn join(&mut self, first: usize, second: usize) -> bool {
        if self.sketch.groups[first].size != self.sketch.groups[second].size {
            return false;
        }
        let is_free = self.sketch.groups[first].is_free && self.sketch.groups[second].is_free;
        self.sketch.groups[first].is_free = is_free;
        let rename = |group: &mut usize| {
            if *group == second {
                *group = first;
            }
        };
        self.groups.values_mut().for_each(rename);
        self.input.iter_mut().for_each(rename);
        for weights in &mut self.sketch.weights {
            match weights {
                Weights::Linear { from, to, .. } => {
                    rename(from);
                    rename(to);
                }
                Weights::Row { group, .. } => rename(group),
                Weights::Plain(_) => {}
            }
        }
        true
    }

    /// A term that may care about order: what it reads is fixed, its constants are compared as they stand.
    fn opaque(&mut self, args: &[Arg]) {
        for arg in args {
            self.fix(*arg);
            if let Arg::Constant(at) = *arg
                && let Some(values) = self.canon.constants[at].floats.clone()
            {
                self.keep(Weights::Plain(values));
            }
        }
    }
}

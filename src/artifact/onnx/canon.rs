//! The canonical form of a policy: what it computes, freed of how an exporter wrote it.
//!
//! Owns the rewriting into terms (linear layers in one form, nothing that does nothing) and the content digest over
//! them. Refuses to weigh similarity: `dedup` does, on these terms. `artifact::policy` and `dedup` call it.
//!
//! Two files have one content digest when they differ by names, documentation, metadata, node order, unused parts,
//! `Constant` nodes for initialisers, storage of floats, folded or unfolded transpositions and casts of weights,
//! `Gemm` for `MatMul` and `Add`, or axes written as attribute or input.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::{
    graph::{Attribute, Graph, INPUT_ID, Node, ValueId},
    ops::Rule,
    shape::{Dim, Shapes},
    tensor::Tensor,
};
use crate::ids::Digest;

/// Operators whose inputs may change places.
const COMMUTATIVE: [&str; 10] = ["Add", "And", "Equal", "Max", "Mean", "Min", "Mul", "Or", "Sum", "Xor"];

/// What a term reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// The observation.
    Input,
    /// A constant, by index.
    Constant(usize),
    /// An output of an earlier term, by index of the term and of the output.
    Term(usize, usize),
    /// An input left out.
    Missing,
}

/// A constant in canonical form.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Extents.
    pub dims: Vec<u64>,
    /// The elements, if they are floats of whatever width.
    pub floats: Option<Vec<f64>>,
    /// What it holds, so that a constant read many times is hashed once.
    digest: [u8; 32],
}

impl Constant {
    fn of(tensor: &Tensor) -> Self {
        match tensor.floats() {
            Some(floats) => Self::of_floats(tensor.dims.clone(), floats),
            None => {
                let mut hash = Self::hash(&tensor.dims);
                hash.update(tensor.elem.to_le_bytes());
                hash.update(&tensor.bytes);
                Self { dims: tensor.dims.clone(), floats: None, digest: hash.finalize().into() }
            }
        }
    }

    fn of_floats(dims: Vec<u64>, floats: Vec<f64>) -> Self {
        let mut hash = Self::hash(&dims);
        // Adding zero makes the two zeros one.
        floats.iter().for_each(|value| hash.update((value + 0.0).to_bits().to_le_bytes()));
        Self { dims, floats: Some(floats), digest: hash.finalize().into() }
    }

    fn hash(dims: &[u64]) -> Sha256 {
        let mut hash = Sha256::new_with_prefix(b"constant");
        hash.update((dims.len() as u64).to_le_bytes());
        dims.iter().for_each(|dim| hash.update(dim.to_le_bytes()));
        hash
    }

    /// The constant as one value for each of `width` columns, if it is a scalar or a row.
    fn as_row(&self, width: usize) -> Option<Vec<f64>> {
        let floats = self.floats.as_ref()?;
        let columns = self.dims.last().copied().unwrap_or(1);
        let is_row = floats.len() as u64 == columns;
        match floats.len() {
            1 => Some(vec![floats[0]; width]),
            len if len == width && is_row => Some(floats.clone()),
            _ => None,
        }
    }
}

/// One operation of the canonical form. `Linear` reads the input, a matrix `[in, out]` and a row of `out` biases.
#[derive(Debug, Clone)]
pub struct Term {
    /// The operator; `Linear` stands for `Gemm`, `MatMul` and what follows them.
    pub op: &'static str,
    /// What it reads.
    pub args: Vec<Arg>,
    /// Its attributes, without those that say the default.
    pub attributes: BTreeMap<String, Attribute>,
    /// Shape of its first output.
    pub shape: Vec<Dim>,
    /// What it computes, all the way from the observation.
    pub digest: [u8; 32],
    /// The same without weights: shapes of constants for constants, no float attributes.
    pub skeleton: [u8; 32],
}

/// A policy in canonical form.
#[derive(Debug, Clone)]
pub struct Canon {
    /// Constants, each read by some term.
    pub constants: Vec<Constant>,
    /// Terms, each after those it reads. Some may be of no use any more.
    pub terms: Vec<Term>,
    /// What the policy answers.
    pub output: Arg,
}

impl Canon {
    /// Rewrites a checked graph.
    #[must_use]
    pub fn of(graph: &Graph, shapes: &Shapes) -> Self {
        let empty = Self { constants: Vec::new(), terms: Vec::new(), output: Arg::Input };
        let mut writer =
            Writer { canon: empty, copied_floats: 0, args: BTreeMap::from([(INPUT_ID, Arg::Input)]), graph, shapes };
        for node in &graph.nodes {
            writer.node(node);
        }
        let output = writer.arg(Some(graph.output));
        Self { output, ..writer.canon }
    }

    /// The content digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"waag-onnx-content-1");
        hash.update(self.arg_digest(self.output, false));
        Digest(hash.finalize().into())
    }

    /// What an argument is made of, with or without weights.
    #[must_use]
    pub fn arg_digest(&self, arg: Arg, skeleton: bool) -> [u8; 32] {
        match arg {
            Arg::Input => Sha256::digest(b"input").into(),
            Arg::Missing => Sha256::digest(b"missing").into(),
            Arg::Constant(at) if skeleton => {
                let constant = &self.constants[at];
                let mut hash = Sha256::new_with_prefix(b"shape");
                hash.update([u8::from(constant.floats.is_some())]);
                constant.dims.iter().for_each(|dim| hash.update(dim.to_le_bytes()));
                hash.finalize().into()
            }
            Arg::Constant(at) => self.constants[at].digest,
            Arg::Term(at, output) => {
                let term = &self.terms[at];
                let mut hash = Sha256::new_with_prefix(if skeleton { term.skeleton } else { term.digest });
                hash.update((output as u64).to_le_bytes());
                hash.finalize().into()
            }
        }
    }

    fn add(
        &mut self,
        op: &'static str,
        args: Vec<Arg>,
        attributes: BTreeMap<String, Attribute>,
        shape: Vec<Dim>,
    ) -> Arg {
        let digest = |skeleton: bool| {
            let mut inputs: Vec<_> = args.iter().map(|arg| self.arg_digest(*arg, skeleton)).collect();
            if COMMUTATIVE.contains(&op) {
                inputs.sort_unstable();
            }
            let mut hash = Sha256::new_with_prefix(op);
            hash.update([0]);
            attributes.iter().for_each(|(name, value)| hash_attribute(&mut hash, name, value, skeleton));
            hash.update((inputs.len() as u64).to_le_bytes());
            inputs.iter().for_each(|input| hash.update(input));
            hash.finalize().into()
        };
        let (full, skeleton) = (digest(false), digest(true));
        self.terms.push(Term { op, args, attributes, shape, digest: full, skeleton });
        Arg::Term(self.terms.len() - 1, 0)
    }

    fn constant(&mut self, constant: Constant) -> Arg {
        self.constants.push(constant);
        Arg::Constant(self.constants.len() - 1)
    }

    /// Whether inputs of this operator may change places.
    #[must_use]
    pub fn is_commutative(op: &str) -> bool {
        COMMUTATIVE.contains(&op)
    }
}

fn hash_attribute(hash: &mut Sha256, name: &str, value: &Attribute, skeleton: bool) {
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    match value {
        Attribute::Float(_) | Attribute::Floats(_) if skeleton => hash.update(b"f"),
        Attribute::Float(value) => hash.update(value.to_bits().to_le_bytes()),
        Attribute::Floats(values) => values.iter().for_each(|value| hash.update(value.to_bits().to_le_bytes())),
        Attribute::Int(value) => hash.update(value.to_le_bytes()),
        Attribute::Ints(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
        Attribute::Text(text) => hash.update(text),
        Attribute::Tensor(tensor) => hash.update(Constant::of(tensor).digest),
    }
}

/// Floats that rewriting may copy: ten times the largest file. A chain of a thousand sums after one large matrix would
/// copy it a thousand times; beyond the budget nodes stay as they are.
const COPIED_FLOATS: usize = 16 * 1024 * 1024;

struct Writer<'a> {
    canon: Canon,
    copied_floats: usize,
    args: BTreeMap<ValueId, Arg>,
    graph: &'a Graph,
    shapes: &'a Shapes,
}

impl Writer<'_> {
    fn arg(&mut self, id: Option<ValueId>) -> Arg {
        let Some(id) = id else { return Arg::Missing };
        if let Some(arg) = self.args.get(&id) {
            return *arg;
        }
        let arg = match self.graph.constants.get(&id) {
            Some(tensor) => self.canon.constant(Constant::of(tensor)),
            None => Arg::Missing,
        };
        self.args.insert(id, arg);
        arg
    }

    fn node(&mut self, node: &Node) {
        let args: Vec<_> = node.inputs.iter().map(|id| self.arg(*id)).collect();
        let mut written = self.same(node, &args);
        if written.is_none() && self.affords(&args) {
            written = self.folded(node, &args).or_else(|| self.linear(node, &args));
        }
        let arg = match written {
            Some(arg) => arg,
            None => self.plain(node, args),
        };
        for (at, id) in node.outputs.iter().enumerate() {
            let output = match arg {
                Arg::Term(term, 0) => Arg::Term(term, at),
                other => other,
            };
            self.args.insert(*id, output);
        }
    }

    /// Takes what rewriting this node could copy off the budget.
    fn affords(&mut self, args: &[Arg]) -> bool {
        let size = |arg: &Arg| match arg {
            Arg::Constant(at) => self.canon.constants[*at].floats.as_ref().map_or(0, Vec::len),
            _ => 0,
        };
        let inner = |arg: &Arg| match arg {
            Arg::Term(at, _) => self.canon.terms[*at].args.iter().map(size).sum(),
            other => size(other),
        };
        self.copied_floats += args.iter().map(inner).sum::<usize>();
        self.copied_floats <= COPIED_FLOATS
    }

    fn shape(&self, id: Option<ValueId>) -> Option<&[Dim]> {
        id.and_then(|id| self.shapes.values.get(&id)).map(|value| &value.shape[..])
    }

    /// A node that hands its input on.
    fn same(&self, node: &Node, args: &[Arg]) -> Option<Arg> {
        let (from, to) = (node.inputs[0], Some(node.outputs[0]));
        let keeps_shape = self.shape(from) == self.shape(to);
        let elem = |id: Option<ValueId>| id.and_then(|id| self.shapes.values.get(&id)).map(|value| value.elem);
        let nothing = match node.operator.rule {
            Rule::Dropout => true,
            Rule::Unary => node.op() == "Identity",
            Rule::Reshape | Rule::Flatten | Rule::Squeeze | Rule::Unsqueeze | Rule::Expand | Rule::Slice => keeps_shape,
            Rule::Cast | Rule::CastLike => elem(from) == elem(to),
            Rule::Transpose => match node.attributes.get("perm") {
                Some(Attribute::Ints(perm)) => perm.is_sorted(),
                _ => self.shape(from).is_some_and(|shape| shape.len() <= 1),
            },
            _ => false,
        };
        // A slice that keeps the shape may still run backwards.
        let backwards = node.operator.rule == Rule::Slice && node.inputs.len() > 4;
        (nothing && !backwards).then(|| args[0])
    }

    /// A weight that is only turned or widened is another weight.
    fn folded(&mut self, node: &Node, args: &[Arg]) -> Option<Arg> {
        let Some(Arg::Constant(at)) = args.first().copied() else { return None };
        let constant = &self.canon.constants[at];
        let floats = constant.floats.as_ref()?;
        let to = self.shapes.values.get(&node.outputs[0])?;
        let dims: Vec<u64> = to
            .shape
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(extent) => Some(*extent),
                Dim::Batch => None,
            })
            .collect::<Option<_>>()?;
        let folded = match node.operator.rule {
            Rule::Reshape | Rule::Flatten | Rule::Squeeze | Rule::Unsqueeze => {
                Constant::of_floats(dims, floats.clone())
            }
            Rule::Cast | Rule::CastLike if to.elem == super::proto::elem::FLOAT => {
                #[expect(clippy::cast_possible_truncation, reason = "rounds exactly as the cast in the graph does")]
                let rounded = floats.iter().map(|value| f64::from(*value as f32)).collect();
                Constant::of_floats(dims, rounded)
            }
            Rule::Cast | Rule::CastLike if to.elem == super::proto::elem::DOUBLE => {
                Constant::of_floats(dims, floats.clone())
            }
            Rule::Transpose if constant.dims.len() == 2 => {
                Constant::of_floats(dims, transposed(floats, constant.dims[0], constant.dims[1])?)
            }
            _ => return None,
        };
        Some(self.canon.constant(folded))
    }

    /// `Gemm`, `MatMul`, and arithmetic with a constant row after them.
    fn linear(&mut self, node: &Node, args: &[Arg]) -> Option<Arg> {
        let shape = self.shape(Some(node.outputs[0]))?.to_vec();
        let [.., Dim::Fixed(width)] = shape[..] else { return None };
        let width = usize::try_from(width).ok()?;
        let (input, matrix, rows, bias) = match node.op() {
            "Gemm" => self.gemm(node, args, width)?,
            "MatMul" => {
                let (matrix, rows) = self.matrix(*args.get(1)?, false)?;
                (args[0], matrix, rows, vec![0.0; width])
            }
            "Add" | "Sub" | "Mul" | "Div" => self.after_linear(node.op(), args, width)?,
            _ => return None,
        };
        if matches!(input, Arg::Constant(_)) {
            return None;
        }
        let dims = vec![rows as u64, width as u64];
        let matrix = self.canon.constant(Constant::of_floats(dims, matrix));
        let bias = self.canon.constant(Constant::of_floats(vec![width as u64], bias));
        Some(self.canon.add("Linear", vec![input, matrix, bias], BTreeMap::new(), shape))
    }

    fn gemm(&self, node: &Node, args: &[Arg], width: usize) -> Option<(Arg, Vec<f64>, usize, Vec<f64>)> {
        let float = |name: &str| match node.attributes.get(name) {
            Some(Attribute::Float(value)) => f64::from(*value),
            _ => 1.0,
        };
        let flag = |name: &str| matches!(node.attributes.get(name), Some(Attribute::Int(value)) if *value != 0);
        if flag("transA") {
            return None;
        }
        let (mut matrix, rows) = self.matrix(args[1], flag("transB"))?;
        let mut bias = match args.get(2) {
            None | Some(Arg::Missing) => vec![0.0; width],
            Some(Arg::Constant(at)) => self.canon.constants[*at].as_row(width)?,
            Some(_) => return None,
        };
        matrix.iter_mut().for_each(|value| *value *= float("alpha"));
        bias.iter_mut().for_each(|value| *value *= float("beta"));
        Some((args[0], matrix, rows, bias))
    }

    fn matrix(&self, arg: Arg, turned: bool) -> Option<(Vec<f64>, usize)> {
        let Arg::Constant(at) = arg else { return None };
        let constant = &self.canon.constants[at];
        let ([rows, columns], Some(floats)) = (&constant.dims[..], &constant.floats) else { return None };
        if turned {
            Some((transposed(floats, *rows, *columns)?, usize::try_from(*columns).ok()?))
        } else {
            Some((floats.clone(), usize::try_from(*rows).ok()?))
        }
    }

    fn after_linear(&self, op: &str, args: &[Arg], width: usize) -> Option<(Arg, Vec<f64>, usize, Vec<f64>)> {
        let (term, constant) = match (args.first()?, args.get(1)?) {
            (Arg::Term(term, 0), Arg::Constant(constant)) => (*term, *constant),
            (Arg::Constant(constant), Arg::Term(term, 0)) if op == "Add" || op == "Mul" => (*term, *constant),
            _ => return None,
        };
        let term = self.canon.terms.get(term).filter(|term| term.op == "Linear")?;
        let [input, Arg::Constant(matrix), Arg::Constant(bias)] = term.args[..] else { return None };
        let row = self.canon.constants[constant].as_row(width)?;
        let matrix = &self.canon.constants[matrix];
        let rows = usize::try_from(*matrix.dims.first()?).ok()?;
        let mut matrix = matrix.floats.clone()?;
        let mut bias = self.canon.constants[bias].floats.clone().filter(|bias| bias.len() == width)?;
        for (column, value) in row.iter().enumerate() {
            match op {
                "Add" => bias[column] += value,
                "Sub" => bias[column] -= value,
                "Mul" => bias[column] *= value,
                _ => bias[column] /= value,
            }
        }
        if op == "Mul" || op == "Div" {
            for (at, weight) in matrix.iter_mut().enumerate() {
                let value = row[at % width];
                *weight = if op == "Mul" { *weight * value } else { *weight / value };
            }
        }
        Some((input, matrix, rows, bias))
    }

    fn plain(&mut self, node: &Node, mut args: Vec<Arg>) -> Arg {
        let rank = self.shape(node.inputs[0]).map_or(0, <[Dim]>::len);
        let mut attributes = node.attributes.clone();
        let counted = |axis: i64| if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(0)) } else { axis };
        match node.operator.rule {
            Rule::Softmax => {
                let default = if self.graph.opset >= 13 { -1 } else { 1 };
                let axis = attributes.get("axis").cloned().unwrap_or(Attribute::Int(default));
                if let Attribute::Int(axis) = axis {
                    attributes.insert("axis".to_owned(), Attribute::Int(counted(axis)));
                }
            }
            Rule::Reduce | Rule::Squeeze | Rule::Unsqueeze => {
                let input = node.inputs.get(1).copied().flatten().and_then(|id| self.graph.constants.get(&id));
                if let Some(axes) = input.and_then(|tensor| tensor.ints(super::super::limits::ONNX_PORTS)) {
                    attributes.insert("axes".to_owned(), Attribute::Ints(axes));
                    args.truncate(1);
                }
                if let Some(Attribute::Ints(axes)) = attributes.get_mut("axes") {
                    axes.iter_mut().for_each(|axis| *axis = counted(*axis));
                    axes.sort_unstable();
                }
            }
            _ => {}
        }
        while args.last() == Some(&Arg::Missing) {
            args.pop();
        }
        let shape = self.shape(Some(node.outputs[0])).unwrap_or_default().to_vec();
        self.canon.add(node.op(), args, attributes, shape)
    }
}

fn transposed(floats: &[f64], rows: u64, columns: u64) -> Option<Vec<f64>> {
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    let mut turned = Vec::with_capacity(floats.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| floats[row * columns + column]));
    }
    Some(turned)
}

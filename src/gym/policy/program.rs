//! Plain networks fused into a short program over blocks of rows: the fast path that most policies take.
//!
//! Owns the translation of an ONNX graph into such a program, and running it. Refuses, with the reason in words,
//! whatever it does not know exactly; the general backend runs that. Only this folder calls it.

use std::collections::BTreeMap;

use super::{
    graph::{self, Answer, Batch, Constant, Contract},
    kernel::{self, BLOCK},
};
use crate::{
    artifact::onnx::proto::{GraphProto, NodeProto, elem},
    gym::{
        env::Environment,
        simd::{Lanes, Level},
    },
};

/// Columns of scratch a program may use: 2 MiB, more than any network within the cost limit needs.
const COLUMNS_MAX: usize = 16_384;
/// Steps of a program.
const STEPS_MAX: usize = 256;

/// Some neighbouring columns of the scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    width: usize,
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Abs,
    Clip(f32, f32),
    LeakyRelu(f32),
    Neg,
    Relu,
    Sigmoid,
    Tanh,
}

/// An operation between a column and a constant, or between two columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

impl Operation {
    #[inline(always)]
    fn apply(self, left: f32, right: f32) -> f32 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// `to = from × weights + bias`; `to` starts after `from` and has room for whole blocks.
    Dense { from: Span, to: Span, weights: Vec<f32>, bias: Vec<f32> },
    /// `columns = function(columns)`.
    Map { columns: Span, function: Function },
    /// `columns = columns ∘ values`, or `values ∘ columns`, column by column.
    Scale { columns: Span, operation: Operation, values: Vec<f32>, constant_first: bool },
    /// `to = from`, so that both can go on.
    Copy { from: Span, to: Span },
    /// `right = left ∘ right`; `right` starts after `left` ends.
    Combine { left: Span, right: Span, operation: Operation },
}

/// A network ready to run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Program {
    steps: Vec<Step>,
    columns: usize,
    input: Span,
    output: Span,
    cost: u64,
}

/// What a name in the graph stands for.
#[derive(Debug, Clone)]
enum Value {
    Rows(Span),
    /// The position of the largest of these columns.
    Largest(Span),
    Constant(Constant),
}

struct Translator<'graph> {
    values: BTreeMap<&'graph str, Value>,
    uses: BTreeMap<&'graph str, usize>,
    steps: Vec<Step>,
    columns: usize,
    cost: u64,
    contract: &'graph Contract,
}

type Translation<T> = Result<T, String>;

impl<'graph> Translator<'graph> {
    fn new(graph: &'graph GraphProto, contract: &'graph Contract, width: usize) -> Self {
        let mut uses = BTreeMap::new();
        for name in graph.node.iter().flat_map(|node| &node.input) {
            *uses.entry(name.as_str()).or_insert(0) += 1;
        }
        // The result is read after the last node.
        *uses.entry(contract.output.as_str()).or_insert(0) += 1;
        let constants = graph::initializers(graph).into_iter();
        let mut values: BTreeMap<_, _> = constants.map(|(name, constant)| (name, Value::Constant(constant))).collect();
        values.insert(contract.input.as_str(), Value::Rows(Span { start: 0, width }));
        // The input's own columns are never overwritten: the caller may read them back.
        *uses.entry(contract.input.as_str()).or_insert(0) += 1;
        Self { values, uses, steps: Vec::new(), columns: padded(width), cost: 0, contract }
    }

    fn allocate(&mut self, width: usize) -> Translation<Span> {
        let span = Span { start: self.columns, width };
        self.columns = self.columns.saturating_add(padded(width));
        if self.columns > COLUMNS_MAX { Err("the network is too wide".to_owned()) } else { Ok(span) }
    }

    fn value(&self, node: &'graph NodeProto, index: usize) -> Translation<&Value> {
        let name = node.input.get(index).map(String::as_str).unwrap_or_default();
        self.values.get(name).ok_or_else(|| format!("input {index} of a {} is not known", op(node)))
    }

    fn rows(&self, node: &'graph NodeProto, index: usize) -> Translation<Span> {
        match self.value(node, index)? {
            Value::Rows(span) => Ok(*span),
            _other => Err(format!("a {} has no rows as input {index}", op(node))),
        }
    }

    fn constant(&self, node: &'graph NodeProto, index: usize) -> Option<&Constant> {
        match self.value(node, index) {
            Ok(Value::Constant(constant)) => Some(constant),
            _other => None,
        }
    }

    fn has_input(node: &NodeProto, index: usize) -> bool {
        node.input.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Columns that hold the input's values and may be overwritten: its own if nobody else reads them.
    fn writable(&mut self, node: &'graph NodeProto, index: usize) -> Translation<Span> {
        let from = self.rows(node, index)?;
        let name = node.input[index].as_str();
        if self.uses.get(name) == Some(&1) {
            return Ok(from);
        }
        let to = self.allocate(from.width)?;
        self.steps.push(Step::Copy { from, to });
        Ok(to)
    }

    fn translate(&mut self, node: &'graph NodeProto) -> Translation<()> {
        if !node.domain.as_deref().unwrap_or_default().is_empty() {
            return Err("a node of another domain".to_owned());
        }
        let value = match op(node) {
            "Constant" => self.constant_node(node)?,
            "Transpose" => self.transpose(node)?,
            "Gemm" => self.gemm(node)?,
            "MatMul" => self.matmul(node)?,
            "Add" => self.binary(node, Operation::Add)?,
            "Sub" => self.binary(node, Operation::Sub)?,
            "Mul" => self.binary(node, Operation::Mul)?,
            "Div" => self.binary(node, Operation::Div)?,
            "ArgMax" => self.argmax(node)?,
            "Identity" | "Flatten" | "Reshape" | "Squeeze" | "Cast" | "Dropout" => self.same(node)?,
            _function => self.function(node)?,
        };
        let [output] = node.output.as_slice() else {
            return Err(format!("a {} has several outputs", op(node)));
        };
        if self.steps.len() > STEPS_MAX || self.values.insert(output, value).is_some() {
            return Err("the graph is too long or names a value twice".to_owned());
        }
        Ok(())
    }

    fn constant_node(&self, node: &NodeProto) -> Translation<Value> {
        let read = || match node.attribute.as_slice() {
            [value] => match (value.t.as_ref(), value.f, value.i) {
                (Some(tensor), _, _) => graph::constant(tensor),
                (None, Some(float), None) => Some(Constant::Floats { extents: Vec::new(), values: vec![float] }),
                (None, None, Some(integer)) => Some(Constant::Integers(vec![integer])),
                (None, None, None) if !value.ints.is_empty() => Some(Constant::Integers(value.ints.clone())),
                _other => None,
            },
            _other => None,
        };
        read().map(Value::Constant).ok_or_else(|| "a constant of another type".to_owned())
    }

    fn transpose(&self, node: &'graph NodeProto) -> Translation<Value> {
        let swaps = graph::attribute(node, "perm").is_none_or(|perm| perm.ints == [1, 0]);
        match self.constant(node, 0) {
            Some(Constant::Floats { extents, values }) if swaps && extents.len() == 2 => {
                let (rows, columns) = (extents[0], extents[1]);
                let turned = (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column]));
                Ok(Value::Constant(Constant::Floats { extents: vec![columns, rows], values: turned.collect() }))
            }
            _other => Err("a Transpose of rows".to_owned()),
        }
    }

    /// The weights as `[inputs][outputs]`.
    fn weights(&self, node: &'graph NodeProto, width: usize, transposed: bool) -> Translation<(usize, Vec<f32>)> {
        let Some(Constant::Floats { extents, values }) = self.constant(node, 1) else {
            return Err(format!("the weights of a {} are not constant floats", op(node)));
        };
        let (inputs, outputs) = match (extents.as_slice(), transposed) {
            ([inputs, outputs], false) | ([outputs, inputs], true) => (*inputs, *outputs),
            _other => return Err(format!("the weights of a {} are not a matrix", op(node))),
        };
        if inputs != width || outputs == 0 {
            return Err(format!("the weights of a {} do not fit its input", op(node)));
        }
        if !transposed {
            return Ok((outputs, values.clone()));
        }
        let turned = (0..inputs).flat_map(|input| (0..outputs).map(move |output| values[output * inputs + input]));
        Ok((outputs, turned.collect()))
    }

    fn gemm(&mut self, node: &'graph NodeProto) -> Translation<Value> {
        let plain = graph::integer(node, "transA", 0) == 0
            && graph::float(node, "alpha", 1.0) == 1.0
            && graph::float(node, "beta", 1.0) == 1.0;
        if !plain {
            return Err("a Gemm with factors".to_owned());
        }
        let from = self.rows(node, 0)?;
        let (outputs, weights) = self.weights(node, from.width, graph::integer(node, "transB", 0) != 0)?;
        let bias = if Self::has_input(node, 2) { self.row_constant(node, 2, outputs)? } else { vec![0.0; outputs] };
        self.dense(from, outputs, &weights, bias)
    }

    fn matmul(&mut self, node: &'graph NodeProto) -> Translation<Value> {
        let from = self.rows(node, 0)?;
        let (outputs, weights) = self.weights(node, from.width, false)?;
        self.dense(from, outputs, &weights, vec![0.0; outputs])
    }

    fn dense(&mut self, from: Span, outputs: usize, weights: &[f32], mut bias: Vec<f32>) -> Translation<Value> {
        let to = self.allocate(outputs)?;
        let blocks = outputs.div_ceil(BLOCK);
        bias.resize(blocks * BLOCK, 0.0);
        let weight = |input: usize, output: usize| {
            if output < outputs { weights[input * outputs + output] } else { 0.0 }
        };
        let packed = (0..blocks)
            .flat_map(|block| (0..from.width).map(move |input| (block, input)))
            .flat_map(|(block, input)| (0..BLOCK).map(move |lane| (input, block * BLOCK + lane)))
            .map(|(input, output)| weight(input, output))
            .collect();
        self.cost += (from.width * outputs) as u64;
        self.steps.push(Step::Dense { from, to, weights: packed, bias });
        Ok(Value::Rows(to))
    }

    /// A constant that is the same for every row, spread to this many columns.
    fn row_constant(&self, node: &'graph NodeProto, index: usize, width: usize) -> Translation<Vec<f32>> {
        let Some(Constant::Floats { extents, values }) = self.constant(node, index) else {
            return Err(format!("input {index} of a {} is not constant floats", op(node)));
        };
        let one_row = match extents.as_slice() {
            [] | [_] => true,
            [rows, _columns] => *rows == 1,
            _other => false,
        };
        match values.as_slice() {
            [value] if one_row => Ok(vec![*value; width]),
            _several if one_row && values.len() == width => Ok(values.clone()),
            _other => Err(format!("a constant of a {} does not fit its rows", op(node))),
        }
    }

    fn binary(&mut self, node: &'graph NodeProto, operation: Operation) -> Translation<Value> {
        let constant_first = self.constant(node, 0).is_some();
        if !constant_first && self.constant(node, 1).is_none() {
            return self.combine(node, operation);
        }
        let (rows, constant) = if constant_first { (1, 0) } else { (0, 1) };
        let columns = self.writable(node, rows)?;
        let values = self.row_constant(node, constant, columns.width)?;
        self.cost += columns.width as u64;
        // The bias of a product that was written as MatMul and Add: one rounding either way.
        if let (Operation::Add, Some(Step::Dense { to, bias, .. })) = (operation, self.steps.last_mut())
            && *to == columns
            && bias.iter().all(|bias| *bias == 0.0)
        {
            bias[..values.len()].copy_from_slice(&values);
            return Ok(Value::Rows(columns));
        }
        self.steps.push(Step::Scale { columns, operation, values, constant_first });
        Ok(Value::Rows(columns))
    }

    fn combine(&mut self, node: &'graph NodeProto, operation: Operation) -> Translation<Value> {
        let (first, second) = (self.rows(node, 0)?, self.rows(node, 1)?);
        if first.width != second.width {
            return Err(format!("a {} of rows of different widths", op(node)));
        }
        // The result goes to a fresh copy, which lies behind both operands.
        let to = self.allocate(second.width)?;
        self.steps.push(Step::Copy { from: second, to });
        self.steps.push(Step::Combine { left: first, right: to, operation });
        self.cost += first.width as u64;
        Ok(Value::Rows(to))
    }

    fn function(&mut self, node: &'graph NodeProto) -> Translation<Value> {
        let scalar = |index: usize, default: f32| {
            if !Self::has_input(node, index) {
                return Ok(default);
            }
            self.row_constant(node, index, 1).map(|values| values[0])
        };
        let function = match op(node) {
            "Abs" => Function::Abs,
            "Clip" => Function::Clip(
                scalar(1, graph::float(node, "min", f32::NEG_INFINITY))?,
                scalar(2, graph::float(node, "max", f32::INFINITY))?,
            ),
            "LeakyRelu" => Function::LeakyRelu(graph::float(node, "alpha", 0.01)),
            "Neg" => Function::Neg,
            "Relu" => Function::Relu,
            "Sigmoid" => Function::Sigmoid,
            "Tanh" => Function::Tanh,
            other => return Err(format!("a node {}", other.chars().take(40).collect::<String>())),
        };
        let price = if matches!(function, Function::Sigmoid | Function::Tanh) { 16 } else { 1 };
        let columns = self.writable(node, 0)?;
        self.cost += price * columns.width as u64;
        self.steps.push(Step::Map { columns, function });
        Ok(Value::Rows(columns))
    }

    fn argmax(&self, node: &'graph NodeProto) -> Translation<Value> {
        let last = matches!(graph::integer(node, "axis", 0), -1 | 1);
        if last && graph::integer(node, "select_last_index", 0) == 0 {
            Ok(Value::Largest(self.rows(node, 0)?))
        } else {
            Err("an ArgMax of another kind".to_owned())
        }
    }

    /// Nodes that leave a row as it is.
    fn same(&mut self, node: &'graph NodeProto) -> Translation<Value> {
        let value = match self.value(node, 0)?.clone() {
            // A second name for the same columns must not outlive the first: somebody may overwrite them.
            Value::Rows(_) => Value::Rows(self.writable(node, 0)?),
            other => other,
        };
        let fits = match (op(node), &value) {
            ("Identity", _any) => true,
            ("Squeeze" | "Reshape", Value::Largest(_)) => true,
            ("Cast", Value::Largest(_)) => matches!(graph::integer(node, "to", 0) as i32, elem::INT64 | elem::INT32),
            ("Cast", Value::Rows(_)) => graph::integer(node, "to", 0) as i32 == elem::FLOAT,
            ("Flatten", Value::Rows(_)) => graph::integer(node, "axis", 1) == 1,
            ("Dropout", Value::Rows(_)) => !Self::has_input(node, 2),
            // `[N, 1]` to `[N]`, as the last thing that happens.
            ("Squeeze", Value::Rows(span)) => span.width == 1 && node.output == [self.contract.output.as_str()],
            ("Reshape", Value::Rows(span)) => self.keeps_rows(node, span.width),
            _other => false,
        };
        if fits { Ok(value) } else { Err(format!("a {} that changes the shape or type", op(node))) }
    }

    /// Whether a Reshape leaves `[N, width]` as it is.
    fn keeps_rows(&self, node: &'graph NodeProto, width: usize) -> bool {
        let Some(Constant::Integers(shape)) = self.constant(node, 1) else { return false };
        let [rows, columns] = shape.as_slice() else { return false };
        let same_width = usize::try_from(*columns) == Ok(width);
        match rows {
            0 => graph::integer(node, "allowzero", 0) == 0 && (same_width || *columns == -1),
            -1 => same_width,
            1 => self.contract.batch == Batch::One && (same_width || *columns == -1),
            _other => false,
        }
    }
}

fn op(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap_or_default()
}

/// Columns that hold whole blocks of outputs.
const fn padded(width: usize) -> usize {
    width.div_ceil(BLOCK) * BLOCK
}

impl Program {
    /// Translates a graph, or says in words why it is not a plain network.
    pub(super) fn fuse(graph: &GraphProto, contract: &Contract, environment: Environment) -> Result<Self, String> {
        let width = environment.obs_dim();
        let mut translator = Translator::new(graph, contract, width);
        for node in &graph.node {
            translator.translate(node)?;
        }
        let (output, is_argmax) = match translator.values.get(contract.output.as_str()) {
            Some(Value::Rows(span)) => (*span, false),
            Some(Value::Largest(span)) => (*span, true),
            _other => return Err("the output does not depend on the observation".to_owned()),
        };
        if is_argmax != (contract.answer == Answer::Index) || output.width != environment.actions().width() {
            return Err("the output has another shape than the file says".to_owned());
        }
        let Translator { steps, columns, cost, .. } = translator;
        Ok(Self { steps, columns, input: Span { start: 0, width }, output, cost })
    }

    /// Multiply-adds for one row.
    pub(super) const fn cost(&self) -> u64 {
        self.cost
    }

    /// Columns of the scratch it runs in.
    pub(super) const fn columns(&self) -> usize {
        self.columns
    }

    /// The columns that take observations.
    pub(super) fn inputs<'scratch>(&self, scratch: &'scratch mut [Lanes]) -> &'scratch mut [Lanes] {
        &mut scratch[self.input.start..][..self.input.width]
    }

    /// The columns that hold scores or actions after a run.
    pub(super) fn outputs<'scratch>(&self, scratch: &'scratch [Lanes]) -> &'scratch [Lanes] {
        &scratch[self.output.start..][..self.output.width]
    }

    /// Runs all lanes.
    pub(super) fn run(&self, level: Level, scratch: &mut [Lanes]) {
        assert_eq!(scratch.len(), self.columns, "the scratch belongs to the program");
        for step in &self.steps {
            step.run(level, scratch);
        }
    }
}

impl Step {
    fn run(&self, level: Level, scratch: &mut [Lanes]) {
        match self {
            Self::Dense { from, to, weights, bias } => {
                let (before, after) = scratch.split_at_mut(to.start);
                let (inputs, outputs) = (&before[from.start..][..from.width], &mut after[..padded(to.width)]);
                kernel::dense(level, weights, bias, inputs, outputs);
            }
            Self::Map { columns, function } => {
                function.run(level, &mut scratch[columns.start..][..columns.width]);
            }
            Self::Scale { columns, operation, values, constant_first } => {
                for (column, constant) in scratch[columns.start..][..columns.width].iter_mut().zip(values) {
                    for value in &mut column.0 {
                        let (left, right) = if *constant_first { (*constant, *value) } else { (*value, *constant) };
                        *value = operation.apply(left, right);
                    }
                }
            }
            Self::Copy { from, to } => scratch.copy_within(from.start..from.start + from.width, to.start),
            Self::Combine { left, right, operation } => {
                let (before, after) = scratch.split_at_mut(right.start);
                for (first, second) in before[left.start..][..left.width].iter().zip(after) {
                    for (first, second) in first.0.iter().zip(&mut second.0) {
                        *second = operation.apply(*first, *second);
                    }
                }
            }
        }
    }
}

impl Function {
    fn run(self, level: Level, columns: &mut [Lanes]) {
        match self {
            Self::Abs => kernel::map(columns, f32::abs),
            Self::Clip(low, high) => kernel::map(columns, |value| kernel::clip(value, low, high)),
            Self::LeakyRelu(slope) => kernel::map(columns, |value| if value < 0.0 { slope * value } else { value }),
            Self::Neg => kernel::map(columns, |value| -value),
            Self::Relu => kernel::map(columns, kernel::relu),
            Self::Sigmoid => kernel::map_sigmoid(level, columns),
            Self::Tanh => kernel::map_tanh(level, columns),
        }
    }
}

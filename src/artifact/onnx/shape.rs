//! Shapes, types and cost of every value before anything runs, with the batch as the one unknown.
//!
//! Owns the proof that a policy treats the rows of a batch apart: the batch axis is followed through every node, and an
//! operation that would join, select, count or reorder rows is refused. Refuses to compute floats. Integers that a shape
//! is made of are followed as data, as exporters write `Reshape` and `Expand` that way. `artifact::policy`, `graph` and `canon` use it.

use std::collections::BTreeMap;

use super::{
    graph::{Graph, INPUT_ID, Node, ValueId},
    ops::Rule,
    proto::elem,
    rules,
    tensor::Tensor,
};
use crate::{
    artifact::{codes, limits, limits::Limits},
    fault::{Code, Fault},
};

/// One extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(u64),
    /// The number of observations in the batch.
    Batch,
}

/// An integer that is followed because a shape is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A number.
    Int(i64),
    /// The number of observations in the batch.
    Batch,
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Element type (see [`elem`]).
    pub elem: i32,
    /// Extents; at most one is the batch.
    pub shape: Vec<Dim>,
    /// Its elements, if they are few integers that depend on nothing but the batch's size.
    pub(super) data: Option<Vec<Known>>,
}

impl Value {
    pub(super) const fn of(elem: i32, shape: Vec<Dim>) -> Self {
        Self { elem, shape, data: None }
    }

    pub(super) fn constant(tensor: &Tensor) -> Self {
        let data = tensor.ints(limits::ONNX_FOLLOWED_ELEMENTS).map(|ints| ints.into_iter().map(Known::Int).collect());
        Self { elem: tensor.elem, shape: tensor.dims.iter().copied().map(Dim::Fixed).collect(), data }
    }

    /// Where the batch stands among the axes.
    pub(super) fn batch_axis(&self) -> Option<usize> {
        self.shape.iter().position(|dim| *dim == Dim::Batch)
    }

    /// Elements for one observation; `u64::MAX` beyond all bounds.
    pub(super) fn elements(&self) -> u64 {
        elements(&self.shape)
    }

    /// The elements as plain numbers.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        let int = |known: &Known| match known {
            Known::Int(value) => Some(*value),
            Known::Batch => None,
        };
        self.data.as_ref()?.iter().map(int).collect()
    }

    /// The value as a constant, if it is integers that depend on nothing.
    pub(super) fn known_tensor(&self) -> Option<Tensor> {
        let ints = self.ints().filter(|ints| ints.len() as u64 == self.elements())?;
        let dims = self.shape.iter().map(|dim| match dim {
            Dim::Fixed(extent) => Some(*extent),
            Dim::Batch => None,
        });
        let bytes: Vec<u8> = match self.elem {
            elem::INT64 => ints.iter().flat_map(|int| int.to_le_bytes()).collect(),
            elem::INT32 => {
                let narrow: Option<Vec<_>> = ints.iter().map(|int| i32::try_from(*int).ok()).collect();
                narrow?.iter().flat_map(|int| int.to_le_bytes()).collect()
            }
            elem::BOOL => ints.iter().map(|int| u8::from(*int != 0)).collect(),
            _ => return None,
        };
        Some(Tensor { elem: self.elem, dims: dims.collect::<Option<_>>()?, bytes })
    }

    fn counts_rows(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.contains(&Known::Batch))
    }
}

/// Elements of a shape for one observation.
pub(super) fn elements(shape: &[Dim]) -> u64 {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Batch => 1,
    };
    shape.iter().map(extent).fold(1, u64::saturating_mul)
}

/// A refusal before the node is known: which code and why.
pub(super) type Refusal = (Code, String);

/// What a rule answers: the values a node makes, and its multiply-adds for one observation.
pub(super) type Made = (Vec<Value>, u64);

/// What is known of a graph's values.
#[derive(Debug, Clone)]
pub struct Shapes {
    /// By value; constants, the input and everything a node makes.
    pub values: BTreeMap<ValueId, Value>,
    /// The policy's answer.
    pub output: Value,
    /// What one observation costs, in multiply-adds.
    pub work_per_row: u64,
}

impl Shapes {
    /// Follows the graph.
    ///
    /// # Errors
    /// A miner's fault that names the node, the measured value and the limit.
    pub fn of(graph: &Graph, limits: &Limits) -> Result<Self, Fault> {
        let mut values: BTreeMap<ValueId, Value> =
            graph.constants.iter().map(|(id, tensor)| (*id, Value::constant(tensor))).collect();
        values.insert(INPUT_ID, Value::of(elem::FLOAT, vec![Dim::Batch, Dim::Fixed(graph.obs_dim)]));
        let mut work_per_row = 0_u64;
        let mut totals = Totals::default();
        for (at, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<Option<&Value>> = node.inputs.iter().map(|id| id.and_then(|id| values.get(&id))).collect();
            let named = |(code, why): Refusal| code.because(format!("node {at} of the graph (`{}`): {why}", node.op()));
            let (made, work) = made(node, &inputs, graph).map_err(named)?;
            work_per_row = work_per_row.saturating_add(priced(work, &made));
            if work_per_row > limits.work_per_row {
                let limit = limits.work_per_row;
                let why = format!("{work_per_row} multiply-adds an observation up to here; the limit is {limit}");
                return Err(named((codes::ONNX_WORK, why)));
            }
            for (id, value) in node.outputs.iter().zip(made) {
                totals.add(&value).map_err(named)?;
                values.insert(*id, value);
            }
        }
        let Some(output) = values.get(&graph.output).cloned() else {
            return Err(codes::ONNX_GRAPH.because("nothing makes the output"));
        };
        Ok(Self { values, output, work_per_row })
    }
}

/// The work of a node with its own price and that of what it writes: neither is in its multiply-adds, and both are time.
fn priced(work: u64, made: &[Value]) -> u64 {
    let elements = made.iter().fold(0_u64, |sum, value| sum.saturating_add(value.elements()));
    let writing = elements.saturating_mul(limits::ONNX_ELEMENT_WORK);
    work.saturating_add(limits::ONNX_NODE_WORK).saturating_add(writing)
}

fn made(node: &Node, inputs: &[Option<&Value>], graph: &Graph) -> Result<Made, Refusal> {
    let (mut made, work) = rules::apply(node, inputs, graph)?;
    if made.len() < node.outputs.len() {
        return Err((codes::ONNX_ATTRIBUTE, format!("makes {} values, not {}", made.len(), node.outputs.len())));
    }
    made.truncate(node.outputs.len());
    for value in made.iter_mut().filter(|value| value.elem == elem::INT32) {
        // Followed integers are exact; what a 32-bit type would wrap is no longer known.
        let wraps = |known: &Known| matches!(known, Known::Int(int) if i32::try_from(*int).is_err());
        value.data = value.data.take().filter(|data| !data.iter().any(wraps));
    }
    // A count of rows may become a shape. Anywhere else it would make an action depend on how many are asked at once.
    let is_shape = |at: usize| {
        matches!((node.operator.rule, at), (Rule::Reshape | Rule::Expand, 1) | (Rule::Fill, 0))
            || node.operator.rule == Rule::Shape
    };
    let counted = inputs.iter().enumerate().any(|(at, input)| input.is_some_and(Value::counts_rows) && !is_shape(at));
    if counted && made.iter().any(|value| value.data.is_none()) {
        return Err((codes::ONNX_BATCH, "uses the number of rows as a value".to_owned()));
    }
    Ok((made, work))
}

/// Elements made so far, of values that grow with the batch and of those that do not.
#[derive(Debug, Default)]
struct Totals {
    row: u64,
    shared: u64,
}

impl Totals {
    fn add(&mut self, value: &Value) -> Result<(), Refusal> {
        let rank = value.shape.len();
        if rank > limits::ONNX_RANK {
            return Err((codes::ONNX_SHAPE, format!("{rank} dimensions; the limit is {}", limits::ONNX_RANK)));
        }
        if value.shape.iter().filter(|dim| **dim == Dim::Batch).count() > 1 {
            return Err((codes::ONNX_BATCH, "pairs every row with every other".to_owned()));
        }
        let elements = value.elements();
        if elements == 0 {
            return Err((codes::ONNX_SHAPE, "makes an empty value".to_owned()));
        }
        let (total, most, most_total) = if value.batch_axis().is_some() {
            (&mut self.row, limits::ONNX_ROW_ELEMENTS, limits::ONNX_ROW_TOTAL_ELEMENTS)
        } else {
            (&mut self.shared, limits::ONNX_SHARED_ELEMENTS, limits::ONNX_SHARED_TOTAL_ELEMENTS)
        };
        *total = total.saturating_add(elements);
        if elements > most || *total > most_total {
            let why = format!("{elements} elements, {total} up to here; the limits are {most} and {most_total}");
            return Err((codes::ONNX_WORK, why));
        }
        Ok(())
    }
}

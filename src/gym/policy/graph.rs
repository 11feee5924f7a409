//! What can be read from a policy's ONNX graph without running it: its contract, its constants, whether rows mix.
//!
//! Owns the contract between a policy file and an environment. Refuses to run anything and to judge what the artifact
//! room has already judged (size, operators, external data); on anything unexpected it answers with a fault or "no",
//! never with a panic. Only this folder calls it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::codes;
use crate::{
    artifact::onnx::proto::{
        AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, TensorType, TypeValue,
        ValueInfoProto, elem,
    },
    fault::Fault,
    gym::env::{Actions, Environment},
};

/// How many observations one call may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    /// Any number.
    Any,
    /// The file fixes the first dimension to one.
    One,
}

/// What the output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// One score a choice (the first largest wins), or the action's values.
    Values,
    /// The number of the choice.
    Index,
}

/// How a file is called and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contract {
    pub(super) input: String,
    pub(super) output: String,
    pub(super) batch: Batch,
    pub(super) answer: Answer,
}

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<ModelProto, Fault> {
    let model = ModelProto::decode(bytes).map_err(|source| codes::UNREADABLE.because(source.to_string()))?;
    if model.graph.is_none() { Err(codes::UNREADABLE.because("the file holds no graph")) } else { Ok(model) }
}

/// A name as it may appear in a message: it comes from the miner.
fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(60).collect()
}

fn name_of(value: &ValueInfoProto) -> &str {
    value.name.as_deref().unwrap_or_default()
}

fn tensor_type(value: &ValueInfoProto) -> Option<&TensorType> {
    match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => Some(tensor),
        _other => None,
    }
}

/// The declared extents; `None` where the shape is not given, and for each extent that is a name.
fn extents(tensor: &TensorType) -> Option<Vec<Option<i64>>> {
    let shape = tensor.shape.as_ref()?;
    let extent = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Value(extent)) => Some(*extent),
        _named => None,
    };
    Some(shape.dim.iter().map(|dimension| extent(&dimension.value)).collect())
}

/// Reads the contract: one float input `[N, observation]`, and one output of values or choices.
pub(super) fn contract(graph: &GraphProto, environment: Environment) -> Result<Contract, Fault> {
    let constants: BTreeSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let inputs: Vec<_> = graph.input.iter().filter(|input| !constants.contains(name_of(input))).collect();
    let [input] = inputs.as_slice() else {
        return Err(codes::INPUT.because(format!("the graph has {} inputs, one is wanted", inputs.len())));
    };
    let batch = input_batch(input, environment)?;
    let output = choose_output(&graph.output)?;
    let answer = output_answer(output, environment)?;
    Ok(Contract { input: name_of(input).to_owned(), output: name_of(output).to_owned(), batch, answer })
}

fn input_batch(input: &ValueInfoProto, environment: Environment) -> Result<Batch, Fault> {
    let name = shown(name_of(input));
    let tensor = tensor_type(input).filter(|tensor| tensor.elem_type == Some(elem::FLOAT));
    let Some(tensor) = tensor else {
        return Err(codes::INPUT.because(format!("input `{name}` is not a tensor of 32-bit floats")));
    };
    let wanted = i64::try_from(environment.obs_dim()).unwrap_or(i64::MAX);
    match extents(tensor).as_deref() {
        None => Ok(Batch::Any),
        Some([rows, width]) if width.is_none_or(|width| width == wanted) => match rows {
            None => Ok(Batch::Any),
            Some(1) => Ok(Batch::One),
            Some(rows) => Err(codes::INPUT.because(format!("input `{name}` fixes the batch to {rows}"))),
        },
        Some(given) => {
            let given: Vec<String> =
                given.iter().map(|extent| extent.map_or_else(|| "?".to_owned(), |extent| extent.to_string())).collect();
            Err(codes::INPUT.because(format!(
                "input `{name}` has shape [{}], {environment} has observations [N, {wanted}]",
                given.join(", ")
            )))
        }
    }
}

/// The only output, or the one called `action`, `actions` or `logits`.
fn choose_output(outputs: &[ValueInfoProto]) -> Result<&ValueInfoProto, Fault> {
    if let [output] = outputs {
        return Ok(output);
    }
    ["action", "actions", "logits"]
        .into_iter()
        .find_map(|name| outputs.iter().find(|output| name_of(output) == name))
        .ok_or_else(|| {
            let detail = format!("none of {} outputs is called action, actions or logits", outputs.len());
            codes::OUTPUT.because(detail)
        })
}

fn output_answer(output: &ValueInfoProto, environment: Environment) -> Result<Answer, Fault> {
    let name = shown(name_of(output));
    let Some(tensor) = tensor_type(output) else {
        return Err(codes::OUTPUT.because(format!("output `{name}` is not a tensor")));
    };
    let answer = match (tensor.elem_type, environment.actions()) {
        (Some(elem::FLOAT), _any) => Answer::Values,
        (Some(elem::INT64 | elem::INT32), Actions::Discrete(_)) => Answer::Index,
        _other => {
            let wanted = match environment.actions() {
                Actions::Discrete(_) => "32-bit floats (scores) or integers (choices)",
                Actions::Continuous(_) => "32-bit floats",
            };
            return Err(codes::OUTPUT.because(format!("output `{name}` must be a tensor of {wanted}")));
        }
    };
    let width = i64::try_from(environment.actions().width()).unwrap_or(i64::MAX);
    let fits = match (answer, extents(tensor).as_deref()) {
        (_, None) | (Answer::Index, Some([_] | [_, Some(1) | None])) => true,
        (Answer::Values, Some([_rows, given])) => given.is_none_or(|given| given == width),
        (Answer::Values, Some([_rows])) => matches!(environment.actions(), Actions::Continuous(1)),
        _other => false,
    };
    if fits {
        Ok(answer)
    } else {
        Err(codes::OUTPUT.because(format!("output `{name}` does not have the shape [N, {width}] of {environment}")))
    }
}

/// Numbers that stand in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    Floats { extents: Vec<usize>, values: Vec<f32> },
    Integers(Vec<i64>),
}

/// Reads a float or integer tensor; `None` for anything else and for a length that does not fit the shape.
pub(super) fn constant(tensor: &TensorProto) -> Option<Constant> {
    if !tensor.external_data.is_empty() || tensor.data_location.unwrap_or_default() != 0 {
        return None;
    }
    let extents: Vec<usize> = tensor.dims.iter().map(|extent| usize::try_from(*extent).ok()).collect::<Option<_>>()?;
    let count = extents.iter().try_fold(1_usize, |product, extent| product.checked_mul(*extent))?;
    let raw = tensor.raw_data.as_deref();
    match tensor.data_type? {
        elem::FLOAT => {
            let values = match raw {
                Some(raw) => raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
                None => tensor.float_data.clone(),
            };
            (values.len() == count).then_some(Constant::Floats { extents, values })
        }
        elem::INT64 => {
            let values: Vec<i64> = match raw {
                Some(raw) => raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
                None => tensor.int64_data.clone(),
            };
            (values.len() == count).then_some(Constant::Integers(values))
        }
        _other => None,
    }
}

/// The constants of a graph by name, initializers only.
pub(super) fn initializers(graph: &GraphProto) -> BTreeMap<&str, Constant> {
    let named = |tensor: &'_ TensorProto| constant(tensor);
    graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_deref()?, named(tensor)?))).collect()
}

/// A node's attribute by name.
pub(super) fn attribute<'node>(node: &'node NodeProto, name: &str) -> Option<&'node AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
}

/// An integer attribute, or its default.
pub(super) fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|attribute| attribute.i).unwrap_or(default)
}

/// A float attribute, or its default.
pub(super) fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    attribute(node, name).and_then(|attribute| attribute.f).unwrap_or(default)
}

/// Operators that treat each row of a two-dimensional tensor alone when every other operand is a constant.
const ROW_WISE: &[&str] = &[
    "Abs",
    "Add",
    "Cast",
    "Ceil",
    "Clip",
    "Constant",
    "Cos",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Gemm",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Pow",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];
/// Operators that treat each row alone when they work along the last axis.
const ROW_WISE_ALONG_LAST: &[&str] = &["ArgMax", "LayerNormalization", "LogSoftmax", "Softmax"];

/// Whether many rows may be run at once without one row touching another: every node is one of the lists above, works
/// on rows and constants only, and no constant has more than one row except as the right side of a product. Anything
/// else (reductions, transpositions, reshapes, quantisation over the batch) is run row by row.
pub(super) fn rows_stay_apart(graph: &GraphProto) -> bool {
    let rank_two = |tensor: &TensorProto| {
        let leading = tensor.dims.split_last().map_or(&[][..], |(_last, leading)| leading);
        tensor.dims.len() <= 2 && leading.iter().all(|extent| *extent == 1)
    };
    let constants: BTreeMap<&str, &TensorProto> =
        graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_deref()?, tensor))).collect();
    let is_plain_node = |node: &NodeProto| {
        let op = node.op_type.as_deref().unwrap_or_default();
        let constant = |index: usize| node.input.get(index).and_then(|name| constants.get(name.as_str()));
        let row_operands = node.input.iter().filter(|name| !constants.contains_key(name.as_str())).count();
        match op {
            "MatMul" | "Gemm" => {
                constant(0).is_none()
                    && constant(1).is_some_and(|weights| weights.dims.len() == 2)
                    && integer(node, "transA", 0) == 0
                    && (node.input.len() < 3 || constant(2).is_some_and(|bias| rank_two(bias)))
            }
            _other if ROW_WISE_ALONG_LAST.contains(&op) => {
                row_operands == 1 && matches!(integer(node, "axis", -1), -1 | 1)
            }
            "Constant" => node.attribute.iter().all(|value| value.t.as_ref().is_none_or(rank_two)),
            _other => {
                ROW_WISE.contains(&op)
                    && node.input.iter().all(|name| constants.get(name.as_str()).is_none_or(|tensor| rank_two(tensor)))
            }
        }
    };
    graph.node.iter().all(|node| node.domain.as_deref().unwrap_or_default().is_empty() && is_plain_node(node))
}

/// What a node costs besides its arithmetic, in multiply-adds a row, where a call serves a whole block of rows.
const NODE_OF_BLOCK: u64 = 256;
/// The same where every row is a call of its own.
const NODE_OF_ROW: u64 = 8_192;

/// Multiply-adds of one row at the least: each weight is used once, each node has a price. `together` says whether a
/// call serves a whole block of rows.
pub(super) fn cost_estimate(graph: &GraphProto, together: bool) -> u64 {
    let weights = graph.initializer.iter().map(|tensor| {
        tensor.dims.iter().fold(1_u64, |product, extent| product.saturating_mul(u64::try_from(*extent).unwrap_or(0)))
    });
    let node = if together { NODE_OF_BLOCK } else { NODE_OF_ROW };
    let nodes = node.saturating_mul(graph.node.len() as u64);
    weights.fold(nodes, u64::saturating_add)
}

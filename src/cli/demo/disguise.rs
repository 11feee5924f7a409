//! Disguises: what a copier does to somebody else's policy.
//!
//! Owns small edits of ONNX files that keep a policy playing (almost) the same. Refuses to know who uses them: the
//! demo's cast and the tests that make many casts.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::artifact::onnx::proto::{ModelProto, NodeProto, TensorProto};

/// A small deterministic source of numbers for disguises. Nothing secret depends on it.
#[derive(Debug, Clone)]
pub struct Dice {
    seed: u64,
    rolled: u64,
}

impl Dice {
    /// Dice of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, rolled: 0 }
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.rolled += 1;
        let digest = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.rolled.to_le_bytes());
        digest.finalize().iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }

    /// A number of `0..below`; 0 when `below` is 0.
    pub fn below(&mut self, below: usize) -> usize {
        let rolled = self.roll();
        u64::try_from(below)
            .ok()
            .and_then(|below| rolled.checked_rem(below))
            .map_or(0, |rolled| usize::try_from(rolled).unwrap_or(0))
    }

    /// A number of -1 to 1.
    pub fn signed(&mut self) -> f32 {
        // The upper 24 bits fill a float's mantissa exactly.
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let unit = (self.roll() >> 40) as f32 / (1_u32 << 24) as f32;
        2.0 * unit - 1.0
    }

    /// Mixes a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }
}

/// The elements of a float tensor, wherever they lie; `None` for any other.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if !tensor.float_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    let raw = tensor.raw_data.as_ref().filter(|_| tensor.data_type == Some(1))?;
    Some(raw.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

fn set_floats(tensor: &mut TensorProto, values: &[f32]) {
    tensor.float_data.clear();
    tensor.raw_data = Some(values.iter().flat_map(|value| value.to_le_bytes()).collect());
}

fn edit(model: &[u8], change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    // Only our own embedded files come here.
    let mut parsed = ModelProto::decode(model).unwrap_or_default();
    change(&mut parsed);
    parsed.encode_to_vec()
}

/// Adds noise to every weight, of at most `relative` of the tensor's largest.
#[must_use]
pub fn add_noise(model: &[u8], relative: f32, dice: &mut Dice) -> Vec<u8> {
    edit(model, |model| {
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let Some(mut values) = floats(tensor) else { continue };
            for value in &mut values {
                *value += *value * relative * dice.signed();
            }
            set_floats(tensor, &values);
        }
    })
}

/// Permutes the neurons of every hidden layer: another file, the same function.
#[must_use]
pub fn permute_neurons(model: &[u8], dice: &mut Dice) -> Vec<u8> {
    edit(model, |model| {
        let Some(graph) = model.graph.as_mut() else { return };
        let transposed = graph.node.iter().any(|node| node.op_type.as_deref() == Some("Gemm"));
        for layer in 0..2 {
            let width = graph
                .initializer
                .iter()
                .find(|tensor| tensor.name.as_deref() == Some(&format!("bias{layer}")))
                .and_then(floats)
                .map_or(0, |bias| bias.len());
            let mut order: Vec<usize> = (0..width).collect();
            dice.shuffle(&mut order);
            for tensor in &mut graph.initializer {
                permute(tensor, layer, &order, transposed);
            }
        }
    })
}

/// Applies one hidden layer's order to one tensor: its own bias and the weights on either side.
fn permute(tensor: &mut TensorProto, layer: usize, order: &[usize], transposed: bool) {
    let name = tensor.name.clone().unwrap_or_default();
    let Some(values) = floats(tensor) else { return };
    let width = order.len();
    let moved: Vec<f32> = if name == format!("bias{layer}") {
        order.iter().map(|from| values[*from]).collect()
    } else if name == format!("weight{layer}") {
        reorder(&values, order, if transposed { Side::Rows } else { Side::Columns })
    } else if name == format!("weight{}", layer + 1) {
        reorder(&values, order, if transposed { Side::Columns } else { Side::Rows })
    } else {
        return;
    };
    if width > 0 {
        set_floats(tensor, &moved);
    }
}

#[derive(Clone, Copy)]
enum Side {
    Rows,
    Columns,
}

fn reorder(values: &[f32], order: &[usize], side: Side) -> Vec<f32> {
    let width = order.len().max(1);
    let other = values.len() / width;
    match side {
        Side::Rows => order.iter().flat_map(|row| values[row * other..(row + 1) * other].to_vec()).collect(),
        Side::Columns => values.chunks_exact(width).flat_map(|row| order.iter().map(|from| row[*from])).collect(),
    }
}

/// Writes the same network as another exporter would: other names, other metadata, `Gemm` as `MatMul` and `Add`.
#[must_use]
pub fn re_export(model: &[u8], dice: &mut Dice) -> Vec<u8> {
    edit(model, |model| {
        model.producer_name = Some("another-exporter".to_owned());
        model.producer_version = Some("2".to_owned());
        model.doc_string = Some(format!("exported as {:x}", dice.roll()));
        let Some(graph) = model.graph.as_mut() else { return };
        graph.name = Some(format!("graph_{:x}", dice.roll()));
        split_gemms(graph);
        let ports: Vec<String> = graph.input.iter().chain(&graph.output).filter_map(|port| port.name.clone()).collect();
        let salt = dice.roll();
        let rename = |name: &mut String| {
            if !name.is_empty() && !ports.contains(name) {
                *name = format!("v{:x}_{name}", salt & 0xffff);
            }
        };
        for node in &mut graph.node {
            node.name = Some(format!("n{:x}", dice.roll()));
            node.input.iter_mut().chain(&mut node.output).for_each(rename);
        }
        for tensor in &mut graph.initializer {
            if let Some(name) = tensor.name.as_mut() {
                rename(name);
            }
        }
        dice.shuffle(&mut graph.initializer);
    })
}

/// Writes every `Gemm(x, w, b)` with a transposed weight as `Add(MatMul(x, wᵀ), b)`.
fn split_gemms(graph: &mut crate::artifact::onnx::proto::GraphProto) {
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        let [input, weight, bias] = node.input.as_slice() else {
            nodes.push(node);
            continue;
        };
        if node.op_type.as_deref() != Some("Gemm") {
            nodes.push(node);
            continue;
        }
        if let Some(tensor) = graph.initializer.iter_mut().find(|tensor| tensor.name.as_ref() == Some(weight)) {
            transpose(tensor);
        }
        let product = format!("{}_product", node.output[0]);
        let operation = |name: &str, inputs: &[&String], output: &String| NodeProto {
            op_type: Some(name.to_owned()),
            input: inputs.iter().map(|one| (*one).clone()).collect(),
            output: vec![output.clone()],
            ..NodeProto::default()
        };
        nodes.push(operation("MatMul", &[input, weight], &product));
        nodes.push(operation("Add", &[&product, bias], &node.output[0]));
    }
    graph.node = nodes;
}

fn transpose(tensor: &mut TensorProto) {
    let (Some(values), [rows, columns]) = (floats(tensor), tensor.dims.as_slice()) else { return };
    let (Ok(rows), Ok(columns)) = (usize::try_from(*rows), usize::try_from(*columns)) else { return };
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        for row in 0..rows {
            turned.push(values[row * columns + column]);
        }
    }
    tensor.dims.reverse();
    set_floats(tensor, &turned);
}

/// Moves every weight out of the file, as exporters do by default with large models.
#[must_use]
pub fn externalise(model: &[u8], data_file: &str) -> Vec<u8> {
    use crate::artifact::onnx::proto::{LOCATION_EXTERNAL, StringStringEntryProto};

    edit(model, |model| {
        let mut offset = 0;
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let Some(values) = floats(tensor) else { continue };
            let length = values.len() * 4;
            let entry =
                |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
            tensor.raw_data = None;
            tensor.float_data.clear();
            tensor.data_location = Some(LOCATION_EXTERNAL);
            tensor.external_data = vec![
                entry("location", data_file.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", length.to_string()),
            ];
            offset += length;
        }
    })
}

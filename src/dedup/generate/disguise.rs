//! What copiers do to a model so that it looks like another.
//!
//! Owns the transformations, each of which keeps what the model computes, exactly or nearly. Refuses to know how they
//! are found. The bench and the tests call it.

use super::{Model, Store, Tensor, blend, from_f16, rng::Rng, to_f16};

/// A disguise, or a mixture whose right verdict is "derivative".
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disguise {
    /// The same tensors, stored anew.
    Repack,
    /// One tensor for all experts becomes one for each, or the reverse.
    Layout,
    /// The last bit of this share of elements goes up or down.
    Ulp(f32),
    /// Noise relative to each element.
    Relative(f32),
    /// Noise of this multiple of the tensor's own delta, even over its elements.
    Even(f32),
    /// Eight-bit integers with one scale for each row, and back.
    Int8Rows,
    /// Eight-bit integers with one scale for the tensor, and back.
    Int8,
    /// Eight-bit floats (four bits of exponent) and back.
    Fp8,
    /// Half precision and back.
    Cast,
    /// Half precision, and left so.
    CastF16,
    /// Another order of experts.
    Experts,
    /// Another order of heads, within what grouped queries allow.
    Heads,
    /// Another order of neurons in every feed-forward block.
    Neurons,
    /// Another order of the residual stream.
    Residual,
    /// All four orders.
    AllOrders,
    /// Norm gains multiplied into the matrices that follow.
    Gains,
    /// Up scaled by, down divided by a factor for each neuron.
    UpDown,
    /// Queries scaled by, keys divided by a factor for each head.
    QueryKey,
    /// Values scaled by, outputs divided by a factor for each value.
    ValueOut,
    /// All four scales.
    AllScales,
    /// Values rotated within each head, outputs rotated back.
    Rotate,
    /// An added tensor that nothing reads.
    Dummy,
    /// An added tensor larger than all others together.
    DummyHuge,
    /// All orders, then a last-bit change of a tenth.
    OrdersUlp,
    /// Experts reordered, then relative noise of a thousandth.
    ExpertsNoise,
    /// Rescaled everywhere, a dummy, and relative noise of a thousandth.
    ScalesNoise,
    /// All orders, all scales, rotated, a dummy.
    Everything,
    /// All orders, all scales, then relative noise of a thousandth.
    EverythingNoise,
    /// An added tensor and relative noise of this size.
    DummyNoise(f32),
    /// All orders, then eight-bit integers for each row and back.
    OrdersInt8,
    /// This share of the victim, the rest of the base; above one the victim's change is stretched.
    MergeBase(f32),
    /// This share of the victim, the rest of another model.
    MergeOther(f32),
    /// The victim with an adapter of the copier's own, of this size over the victim's change.
    Adapter(f32),
    /// Each layer has a share of the victim of its own, the rest of the base.
    Layerwise,
    /// Every other layer is the victim's, the rest the base's.
    HalfLayers,
}

impl Disguise {
    /// Every disguise of the calibration.
    pub const ALL: &[Self] = &[
        Self::Repack,
        Self::Layout,
        Self::Ulp(0.01),
        Self::Ulp(0.1),
        Self::Ulp(1.0),
        Self::Relative(1e-4),
        Self::Relative(3e-4),
        Self::Relative(1e-3),
        Self::Relative(3e-3),
        Self::Relative(1e-2),
        Self::Even(0.5),
        Self::Even(1.0),
        Self::Int8Rows,
        Self::Int8,
        Self::Fp8,
        Self::Cast,
        Self::CastF16,
        Self::Experts,
        Self::Heads,
        Self::Neurons,
        Self::Residual,
        Self::AllOrders,
        Self::Gains,
        Self::UpDown,
        Self::QueryKey,
        Self::ValueOut,
        Self::AllScales,
        Self::Rotate,
        Self::Dummy,
        Self::DummyHuge,
        Self::OrdersUlp,
        Self::ExpertsNoise,
        Self::ScalesNoise,
        Self::Everything,
        Self::EverythingNoise,
        Self::DummyNoise(3e-3),
        Self::OrdersInt8,
        Self::MergeBase(0.9),
        Self::MergeBase(0.7),
        Self::MergeBase(0.5),
        Self::MergeBase(1.5),
        Self::MergeOther(0.9),
        Self::MergeOther(0.7),
        Self::MergeOther(0.5),
        Self::Adapter(0.1),
        Self::Adapter(0.3),
        Self::Layerwise,
        Self::HalfLayers,
    ];

    /// Whether the right verdict is "derivative" rather than "copy".
    #[must_use]
    pub const fn is_derivative(self) -> bool {
        matches!(self, Self::MergeBase(_) | Self::MergeOther(_) | Self::Adapter(_) | Self::Layerwise | Self::HalfLayers)
    }

    /// The victim in this disguise.
    #[must_use]
    pub fn apply(self, victim: &Model, base: &Model, other: &Model, rng: &mut Rng) -> Model {
        let mut model = victim.clone();
        match self {
            Self::Repack => {}
            Self::Layout => model = relaid(&model),
            Self::Ulp(share) => ulp(&mut model, share, rng),
            Self::Relative(size) => relative(&mut model, size, rng),
            Self::Even(size) => even(&mut model, base, size, rng),
            Self::Int8Rows => each_row(&mut model, int8),
            Self::Int8 => model.tensors.values_mut().filter(is_matrix).for_each(|tensor| int8(&mut tensor.data)),
            Self::Fp8 => model.tensors.values_mut().filter(is_matrix).for_each(|tensor| fp8(&mut tensor.data)),
            Self::Cast => each(&mut model, |value| from_f16(to_f16(value))),
            Self::CastF16 => model.store = Store::F16,
            Self::Experts => experts(&mut model, rng),
            Self::Heads => heads(&mut model, rng),
            Self::Neurons => neurons(&mut model, rng),
            Self::Residual => residual(&mut model, rng),
            Self::AllOrders => orders(&mut model, rng),
            Self::Gains => gains(&mut model, rng),
            Self::UpDown => up_down(&mut model, rng),
            Self::QueryKey => query_key(&mut model, rng),
            Self::ValueOut => value_out(&mut model, rng),
            Self::AllScales => scales(&mut model, rng),
            Self::Rotate => rotate(&mut model, rng),
            Self::Dummy => dummy(&mut model, 1000, rng),
            Self::DummyHuge => dummy(&mut model, 4_000_000, rng),
            Self::OrdersUlp => {
                orders(&mut model, rng);
                ulp(&mut model, 0.1, rng);
            }
            Self::ExpertsNoise => {
                experts(&mut model, rng);
                relative(&mut model, 1e-3, rng);
            }
            Self::ScalesNoise => {
                scales(&mut model, rng);
                dummy(&mut model, 1000, rng);
                relative(&mut model, 1e-3, rng);
            }
            Self::Everything => {
                orders(&mut model, rng);
                rotate(&mut model, rng);
                scales(&mut model, rng);
                dummy(&mut model, 1000, rng);
            }
            Self::EverythingNoise => {
                orders(&mut model, rng);
                scales(&mut model, rng);
                relative(&mut model, 1e-3, rng);
            }
            Self::DummyNoise(size) => {
                dummy(&mut model, 1000, rng);
                relative(&mut model, size, rng);
            }
            Self::OrdersInt8 => {
                orders(&mut model, rng);
                each_row(&mut model, int8);
            }
            Self::MergeBase(share) => merge(&mut model, base, share),
            Self::MergeOther(share) => merge(&mut model, other, share),
            Self::Adapter(size) => blend::adapter(&mut model, base, size, rng),
            Self::Layerwise => blend::layers(&mut model, base, |_, rng| rng.unit(), rng),
            Self::HalfLayers => blend::layers(&mut model, base, |layer, _| if layer % 2 == 0 { 1.0 } else { 0.0 }, rng),
        }
        model.settle();
        model
    }
}

fn is_matrix(tensor: &&mut Tensor) -> bool {
    tensor.shape.len() > 1
}

fn each(model: &mut Model, change: impl Fn(f32) -> f32) {
    for tensor in model.tensors.values_mut() {
        tensor.data.iter_mut().for_each(|value| *value = change(*value));
    }
}

fn each_row(model: &mut Model, change: fn(&mut [f32])) {
    for tensor in model.tensors.values_mut().filter(is_matrix) {
        let cols = *tensor.shape.last().unwrap_or(&1) as usize;
        tensor.data.chunks_mut(cols.max(1)).for_each(change);
    }
}

fn ulp(model: &mut Model, share: f32, rng: &mut Rng) {
    let step = if model.store == Store::Bf16 { 1 << 16 } else { 1 << 13 };
    for value in model.tensors.values_mut().flat_map(|tensor| &mut tensor.data) {
        if *value != 0.0 && rng.unit() < share {
            let bits = value.to_bits();
            *value = f32::from_bits(if rng.word() & 1 == 0 { bits + step } else { bits - step });
        }
    }
}

fn relative(model: &mut Model, size: f32, rng: &mut Rng) {
    for value in model.tensors.values_mut().flat_map(|tensor| &mut tensor.data) {
        *value *= 1.0 + size * rng.normal();
    }
}

fn even(model: &mut Model, base: &Model, size: f32, rng: &mut Rng) {
    for (name, tensor) in &mut model.tensors {
        let Some(base) = base.tensors.get(name) else { continue };
        let delta = tensor.data.iter().zip(&base.data).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let sigma = size * (delta / tensor.data.len() as f64).sqrt() as f32;
        tensor.data.iter_mut().for_each(|value| *value += sigma * rng.normal());
    }
}

fn int8(values: &mut [f32]) {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    if scale > 0.0 {
        values.iter_mut().for_each(|value| *value = (*value / scale).round() * scale);
    }
}

fn fp8(values: &mut [f32]) {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 448.0;
    if scale == 0.0 {
        return;
    }
    for value in values {
        let scaled = *value / scale;
        // Three bits of fraction; below 2^-6 the steps stay 2^-9 wide.
        let exponent = scaled.abs().max(f32::MIN_POSITIVE).log2().floor().max(-6.0);
        let step = 2f32.powf(exponent - 3.0);
        *value = (scaled / step).round() * step * scale;
    }
}

fn merge(model: &mut Model, other: &Model, share: f32) {
    for (name, tensor) in &mut model.tensors {
        let Some(other) = other.tensors.get(name) else { continue };
        let pairs = tensor.data.iter_mut().zip(&other.data);
        pairs.for_each(|(value, other)| *value = share * *value + (1.0 - share) * other);
    }
}

fn dummy(model: &mut Model, elements: usize, rng: &mut Rng) {
    let data = (0..elements).map(|_| rng.normal()).collect();
    model.tensors.insert("model.spare.weight".into(), Tensor { shape: vec![elements as u64 / 100, 100], data });
}

/// Puts row `order[i]` in place `i`, in rows of `width` elements, within every chunk of `order.len()` rows.
fn take_rows(data: &mut [f32], width: usize, order: &[usize]) {
    for chunk in data.chunks_mut(width * order.len()) {
        let old = chunk.to_vec();
        for (row, from) in chunk.chunks_mut(width).zip(order) {
            row.copy_from_slice(&old[from * width..(from + 1) * width]);
        }
    }
}

fn with(model: &mut Model, name: &str, change: impl FnOnce(&mut Tensor)) {
    if let Some(tensor) = model.tensors.get_mut(name) {
        change(tensor);
    }
}

/// The feed-forward blocks: names of gates, ups and downs with the range of the members' rows in them.
struct Block {
    gate: (String, usize),
    up: (String, usize),
    down: (String, usize),
    width: usize,
}

fn blocks(model: &Model) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (name, tensor) in &model.tensors {
        if let Some(stem) = name.strip_suffix("gate_up_proj") {
            let (width, cols) = (tensor.shape[1] as usize / 2, tensor.shape[2] as usize);
            for member in 0..tensor.shape[0] as usize {
                let at = member * 2 * width * cols;
                let down = (format!("{stem}down_proj"), member * width * cols);
                blocks.push(Block { gate: (name.clone(), at), up: (name.clone(), at + width * cols), down, width });
            }
        } else if let Some(stem) = name.strip_suffix("gate_proj.weight") {
            let name = |role: &str| (format!("{stem}{role}_proj.weight"), 0);
            blocks.push(Block { gate: name("gate"), up: name("up"), down: name("down"), width: tensor.rows() });
        }
    }
    blocks
}

fn neurons(model: &mut Model, rng: &mut Rng) {
    let hidden = model.arch.hidden;
    for block in blocks(model) {
        let order = rng.order(block.width);
        for (name, at) in [&block.gate, &block.up] {
            let end = at + block.width * hidden;
            with(model, name, |tensor| take_rows(&mut tensor.data[*at..end], hidden, &order));
        }
        let (name, at) = &block.down;
        let end = at + block.width * hidden;
        with(model, name, |tensor| take_rows(&mut tensor.data[*at..end], 1, &order));
    }
}

fn up_down(model: &mut Model, rng: &mut Rng) {
    let hidden = model.arch.hidden;
    for block in blocks(model) {
        let scale: Vec<f32> = (0..block.width).map(|_| factor(rng)).collect();
        let (name, at) = &block.up;
        with(model, name, |tensor| {
            for (row, scale) in tensor.data[*at..].chunks_mut(hidden).zip(&scale) {
                row.iter_mut().for_each(|value| *value *= scale);
            }
        });
        let (name, at) = &block.down;
        with(model, name, |tensor| {
            for row in tensor.data[*at..at + block.width * hidden].chunks_mut(block.width) {
                row.iter_mut().zip(&scale).for_each(|(value, scale)| *value /= scale);
            }
        });
    }
}

/// From a half to two, even in its logarithm.
fn factor(rng: &mut Rng) -> f32 {
    (2.0 * rng.unit() - 1.0).exp2()
}

fn experts(model: &mut Model, rng: &mut Rng) {
    for layer in 0..model.arch.layers {
        let stem = format!("model.layers.{layer}.mlp.");
        let router = format!("{stem}gate.weight");
        let Some(count) = model.tensors.get(&router).map(Tensor::rows) else { continue };
        let order = rng.order(count);
        with(model, &router, |tensor| take_rows(&mut tensor.data, tensor.shape[1] as usize, &order));
        for role in ["gate_up_proj", "down_proj"] {
            let width = |tensor: &Tensor| tensor.data.len() / count;
            with(model, &format!("{stem}experts.{role}"), |tensor| {
                let width = width(tensor);
                take_rows(&mut tensor.data, width, &order);
            });
        }
        for role in ["gate_proj", "up_proj", "down_proj"] {
            let name = |member: usize| format!("{stem}experts.{member}.{role}.weight");
            let old: Vec<_> = (0..count).map(|member| model.tensors.get(&name(member)).cloned()).collect();
            for (member, from) in order.iter().enumerate() {
                if let Some(tensor) = &old[*from] {
                    model.tensors.insert(name(member), tensor.clone());
                }
            }
        }
    }
}

/// Orders of elements along queries and along values that reorder whole heads.
fn head_orders(model: &Model, rng: &mut Rng) -> (Vec<usize>, Vec<usize>) {
    let arch = model.arch;
    let group = arch.heads / arch.kv_heads;
    let kv_order = rng.order(arch.kv_heads);
    let (mut queries, mut values) = (Vec::new(), Vec::new());
    for kv in kv_order {
        values.extend((0..arch.head).map(|at| kv * arch.head + at));
        for within in rng.order(group) {
            queries.extend((0..arch.head).map(|at| (kv * group + within) * arch.head + at));
        }
    }
    (queries, values)
}

fn heads(model: &mut Model, rng: &mut Rng) {
    let hidden = model.arch.hidden;
    for layer in 0..model.arch.layers {
        let (queries, values) = head_orders(model, rng);
        let name = |role: &str| format!("model.layers.{layer}.self_attn.{role}_proj.weight");
        with(model, &name("q"), |tensor| take_rows(&mut tensor.data, hidden, &queries));
        with(model, &name("k"), |tensor| take_rows(&mut tensor.data, hidden, &values));
        with(model, &name("v"), |tensor| take_rows(&mut tensor.data, hidden, &values));
        with(model, &name("o"), |tensor| take_rows(&mut tensor.data, 1, &queries));
    }
}

fn residual(model: &mut Model, rng: &mut Rng) {
    let hidden = model.arch.hidden;
    let order = rng.order(hidden);
    for (name, tensor) in &mut model.tensors {
        let is_head_norm = name.contains("q_norm") || name.contains("k_norm");
        let writes = name.contains("o_proj") || name.contains("down_proj");
        if is_head_norm {
            continue;
        }
        if writes {
            let cols = *tensor.shape.last().unwrap_or(&1) as usize;
            take_rows(&mut tensor.data, cols, &order);
        } else {
            take_rows(&mut tensor.data, 1, &order);
        }
    }
}

fn orders(model: &mut Model, rng: &mut Rng) {
    experts(model, rng);
    heads(model, rng);
    neurons(model, rng);
    residual(model, rng);
}

fn gains(model: &mut Model, rng: &mut Rng) {
    for layer in 0..model.arch.layers {
        let stem = format!("model.layers.{layer}.");
        let attention: &[&str] = &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        fold(model, &format!("{stem}input_layernorm.weight"), rng, |name| {
            attention.iter().any(|role| name.strip_prefix(&stem).is_some_and(|name| name.starts_with(role)))
        });
        fold(model, &format!("{stem}post_attention_layernorm.weight"), rng, |name| {
            name.strip_prefix(&stem).is_some_and(|name| name.starts_with("mlp.") && !name.contains("down_proj"))
        });
    }
    fold(model, "model.norm.weight", rng, |name| name == "lm_head.weight");
}

fn fold(model: &mut Model, norm: &str, rng: &mut Rng, reads: impl Fn(&str) -> bool) {
    let hidden = model.arch.hidden;
    let scale: Vec<f32> = (0..hidden).map(|_| factor(rng)).collect();
    with(model, norm, |tensor| tensor.data.iter_mut().zip(&scale).for_each(|(value, scale)| *value /= scale));
    for (name, tensor) in &mut model.tensors {
        if reads(name) {
            for row in tensor.data.chunks_mut(hidden) {
                row.iter_mut().zip(&scale).for_each(|(value, scale)| *value *= scale);
            }
        }
    }
}

fn scale_rows(tensor: &mut Tensor, scale: &[f32]) {
    let cols = tensor.cols();
    for (row, scale) in tensor.data.chunks_mut(cols).zip(scale) {
        row.iter_mut().for_each(|value| *value *= scale);
    }
}

fn query_key(model: &mut Model, rng: &mut Rng) {
    let arch = model.arch;
    for layer in 0..arch.layers {
        let name = |role: &str| format!("model.layers.{layer}.self_attn.{role}");
        if model.tensors.contains_key(&name("q_norm.weight")) {
            // A norm after the projection: the factor goes into the gains of the two norms, pairs of a rotation alike.
            let half: Vec<f32> = (0..arch.head / 2).map(|_| factor(rng)).collect();
            let scale: Vec<f32> = half.iter().chain(&half).copied().collect();
            let invert: Vec<f32> = scale.iter().map(|scale| scale.recip()).collect();
            with(model, &name("q_norm.weight"), |tensor| {
                tensor.data.iter_mut().zip(&scale).for_each(|(value, scale)| *value *= scale);
            });
            with(model, &name("k_norm.weight"), |tensor| {
                tensor.data.iter_mut().zip(&invert).for_each(|(value, scale)| *value *= scale);
            });
            continue;
        }
        let per_head: Vec<f32> = (0..arch.kv_heads).map(|_| factor(rng)).collect();
        let group = arch.heads / arch.kv_heads;
        let queries: Vec<f32> = (0..arch.heads * arch.head).map(|row| per_head[row / arch.head / group]).collect();
        let keys: Vec<f32> = (0..arch.kv_heads * arch.head).map(|row| per_head[row / arch.head].recip()).collect();
        with(model, &name("q_proj.weight"), |tensor| scale_rows(tensor, &queries));
        with(model, &name("k_proj.weight"), |tensor| scale_rows(tensor, &keys));
    }
}

fn value_out(model: &mut Model, rng: &mut Rng) {
    let arch = model.arch;
    let group = arch.heads / arch.kv_heads;
    for layer in 0..arch.layers {
        let name = |role: &str| format!("model.layers.{layer}.self_attn.{role}_proj.weight");
        let scale: Vec<f32> = (0..arch.kv_heads * arch.head).map(|_| factor(rng)).collect();
        with(model, &name("v"), |tensor| scale_rows(tensor, &scale));
        with(model, &name("o"), |tensor| {
            for row in tensor.data.chunks_mut(arch.heads * arch.head) {
                for (at, value) in row.iter_mut().enumerate() {
                    *value /= scale[at / arch.head / group * arch.head + at % arch.head];
                }
            }
        });
    }
}

fn scales(model: &mut Model, rng: &mut Rng) {
    gains(model, rng);
    up_down(model, rng);
    query_key(model, rng);
    value_out(model, rng);
}

/// A random rotation: rows made orthonormal one after another.
fn rotation(size: usize, rng: &mut Rng) -> Vec<Vec<f32>> {
    let mut rows: Vec<Vec<f32>> = Vec::new();
    while rows.len() < size {
        let mut row: Vec<f32> = (0..size).map(|_| rng.normal()).collect();
        for done in rows.iter().chain(rows.iter()) {
            let dot: f32 = row.iter().zip(done).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(done).for_each(|(value, done)| *value -= dot * done);
        }
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
        rows.push(row);
    }
    rows
}

fn rotate(model: &mut Model, rng: &mut Rng) {
    let arch = model.arch;
    let group = arch.heads / arch.kv_heads;
    for layer in 0..arch.layers {
        let name = |role: &str| format!("model.layers.{layer}.self_attn.{role}_proj.weight");
        for kv in 0..arch.kv_heads {
            let turn = rotation(arch.head, rng);
            with(model, &name("v"), |tensor| {
                let cols = tensor.cols();
                let block = &mut tensor.data[kv * arch.head * cols..(kv + 1) * arch.head * cols];
                let old = block.to_vec();
                for (at, value) in block.iter_mut().enumerate() {
                    let (row, col) = (at / cols, at % cols);
                    *value = (0..arch.head).map(|from| turn[row][from] * old[from * cols + col]).sum();
                }
            });
            with(model, &name("o"), |tensor| {
                for row in tensor.data.chunks_mut(arch.heads * arch.head) {
                    for head in kv * group..(kv + 1) * group {
                        let block = &mut row[head * arch.head..(head + 1) * arch.head];
                        let old = block.to_vec();
                        for (at, value) in block.iter_mut().enumerate() {
                            *value = (0..arch.head).map(|from| turn[at][from] * old[from]).sum();
                        }
                    }
                }
            });
        }
    }
}

/// The other layout of experts.
fn relaid(model: &Model) -> Model {
    let mut other = Model { tensors: std::collections::BTreeMap::new(), ..model.clone() };
    for (name, tensor) in &model.tensors {
        let Some((stem, role)) = name.split_once("experts.") else {
            other.tensors.insert(name.clone(), tensor.clone());
            continue;
        };
        let parts: &[&str] = if role == "gate_up_proj" { &["gate_proj", "up_proj"] } else { &["down_proj"] };
        if tensor.shape.len() == 3 {
            let sides = [tensor.shape[1] / parts.len() as u64, tensor.shape[2]];
            let mut pieces = tensor.data.chunks((sides[0] * sides[1]) as usize);
            for member in 0..tensor.shape[0] {
                for part in parts {
                    let data = pieces.next().unwrap_or_default().to_vec();
                    let name = format!("{stem}experts.{member}.{part}.weight");
                    other.tensors.insert(name, Tensor { shape: sides.to_vec(), data });
                }
            }
        } else if role.starts_with("0.gate_proj") {
            let member =
                |number: usize, role: &str| model.tensors.get(&format!("{stem}experts.{number}.{role}_proj.weight"));
            let count = (0..).take_while(|number| member(*number, "gate").is_some()).count();
            let (mut both, mut down) = (Vec::new(), Vec::new());
            for number in 0..count {
                both.extend(["gate", "up"].iter().filter_map(|role| member(number, role)).flat_map(|t| &t.data));
                down.extend(member(number, "down").iter().flat_map(|t| &t.data));
            }
            let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
            let shape = vec![count as u64, 2 * rows, cols];
            other.tensors.insert(format!("{stem}experts.gate_up_proj"), Tensor { shape, data: both });
            let shape = vec![count as u64, cols, rows];
            other.tensors.insert(format!("{stem}experts.down_proj"), Tensor { shape, data: down });
        }
    }
    other
}

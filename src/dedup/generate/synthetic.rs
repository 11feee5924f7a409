//! Small checkpoints made without training, with the statistics that trained ones show.
//!
//! Owns a base of transformer shape and fine-tunes of it. Refuses to be a language model. The bench and the tests call
//! it.
//!
//! What was measured on trained runs and is kept here: a fine-tune's change has many directions of falling weight
//! (together 0.7 to 0.9 of what noise fills in a sketch), elements of nearly even size as adaptive optimisers make
//! them, and, between runs on the same data, a common part that leaves a share of 0.95 in each other; adapters have few
//! directions and uneven elements; parts may be left alone.

use super::{Arch, Model, Store, Tensor, rng::Rng};

/// How a fine-tune was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// What makes the run its own.
    pub seed: u64,
    /// What it was trained on: runs on the same data have a common part.
    pub data: u64,
    /// Share of the common part in the change's energy.
    pub common: f32,
    /// Size of the change relative to the weights.
    pub size: f32,
    /// Directions of an adapter; none for a full fine-tune.
    pub rank: Option<usize>,
    /// Tensors that were trained: those whose name has one of these words, or all.
    pub only: &'static [&'static str],
}

/// Words of the names of adapted matrices.
pub const ATTENTION: &[&str] = &["q_proj", "v_proj"];

/// A base: expert blocks where `experts` is not zero, else dense ones.
#[must_use]
pub fn base(experts: usize, seed: u64) -> Model {
    let arch = Arch { hidden: 64, layers: 2, heads: 4, kv_heads: 2, head: 16 };
    let mut rng = Rng::new(seed);
    let mut model = Model { arch, store: Store::Bf16, tensors: std::collections::BTreeMap::new() };
    let mut put = |name: String, shape: &[usize]| {
        let cols = *shape.last().unwrap_or(&1);
        let count: usize = shape.iter().product();
        let data = if shape.len() == 1 {
            (0..count).map(|_| 1.0 + 0.1 * rng.normal()).collect()
        } else {
            // Trained rows and columns differ in size.
            let columns: Vec<f32> = (0..cols).map(|_| (0.2 * rng.normal()).exp()).collect();
            let mut data = Vec::with_capacity(count);
            for _ in 0..count / cols {
                let row = (0.2 * rng.normal()).exp() / (cols as f32).sqrt();
                data.extend(columns.iter().map(|column| row * column * rng.normal()));
            }
            data
        };
        model.tensors.insert(name, Tensor { shape: shape.iter().map(|side| *side as u64).collect(), data });
    };
    let (hidden, inner, attention, kv) = (arch.hidden, 32, arch.heads * arch.head, arch.kv_heads * arch.head);
    put("model.embed_tokens.weight".into(), &[256, hidden]);
    put("lm_head.weight".into(), &[256, hidden]);
    put("model.norm.weight".into(), &[hidden]);
    for layer in 0..arch.layers {
        let stem = format!("model.layers.{layer}.");
        put(format!("{stem}input_layernorm.weight"), &[hidden]);
        put(format!("{stem}post_attention_layernorm.weight"), &[hidden]);
        put(format!("{stem}self_attn.q_proj.weight"), &[attention, hidden]);
        put(format!("{stem}self_attn.k_proj.weight"), &[kv, hidden]);
        put(format!("{stem}self_attn.v_proj.weight"), &[kv, hidden]);
        put(format!("{stem}self_attn.o_proj.weight"), &[hidden, attention]);
        if experts > 0 {
            put(format!("{stem}mlp.gate.weight"), &[experts, hidden]);
            put(format!("{stem}mlp.experts.gate_up_proj"), &[experts, 2 * inner, hidden]);
            put(format!("{stem}mlp.experts.down_proj"), &[experts, hidden, inner]);
        } else {
            put(format!("{stem}mlp.gate_proj.weight"), &[4 * inner, hidden]);
            put(format!("{stem}mlp.up_proj.weight"), &[4 * inner, hidden]);
            put(format!("{stem}mlp.down_proj.weight"), &[hidden, 4 * inner]);
        }
    }
    model.settle();
    model
}

/// A fine-tune of a model.
#[must_use]
pub fn tune(model: &Model, recipe: &Recipe) -> Model {
    let mut tuned = model.clone();
    for (at, (name, tensor)) in tuned.tensors.iter_mut().enumerate() {
        let is_trained = recipe.only.is_empty() || recipe.only.iter().any(|word| name.contains(word));
        if !is_trained || (recipe.rank.is_some() && tensor.shape.len() < 2) {
            continue;
        }
        let cols = *tensor.shape.last().unwrap_or(&1) as usize;
        let rows = if tensor.shape.len() == 3 { tensor.shape[1] as usize } else { tensor.data.len() / cols };
        for (member, matrix) in tensor.data.chunks_mut(rows * cols).enumerate() {
            let place = (at as u64) << 32 | (member as u64) << 16;
            let own = change(rows, cols, recipe, recipe.seed.wrapping_mul(0x9e37_79b9).wrapping_add(place));
            let common = change(rows, cols, recipe, recipe.data.wrapping_mul(0x85eb_ca6b).wrapping_add(!place));
            let mean = matrix.iter().map(|value| value * value).sum::<f32>() / matrix.len() as f32;
            let size = recipe.size * mean.sqrt();
            let (common_part, own_part) = (recipe.common.sqrt() * size, (1.0 - recipe.common).sqrt() * size);
            for ((value, own), common) in matrix.iter_mut().zip(own).zip(common) {
                *value += common_part * common + own_part * own;
            }
        }
    }
    tuned.settle();
    tuned
}

/// A change of mean square one: directions of falling weight, then, but for adapters, evened out.
fn change(rows: usize, cols: usize, recipe: &Recipe, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    rng.word();
    let rank = recipe.rank.unwrap_or(rows.min(cols).div_ceil(2));
    let mut sum = vec![0.0f32; rows * cols];
    for direction in 0..rank {
        let weight = ((direction + 1) as f32).powf(-0.4);
        let row: Vec<f32> = (0..rows).map(|_| weight * rng.normal()).collect();
        let column: Vec<f32> = (0..cols).map(|_| rng.normal()).collect();
        for (line, row) in sum.chunks_mut(cols).zip(&row) {
            line.iter_mut().zip(&column).for_each(|(value, column)| *value += row * column);
        }
    }
    if recipe.rank.is_none() {
        sum.iter_mut().for_each(|value| *value = value.signum() * value.abs().sqrt());
    }
    let mean = sum.iter().map(|value| value * value).sum::<f32>() / sum.len() as f32;
    sum.iter_mut().for_each(|value| *value /= mean.sqrt());
    sum
}

/// Honest fine-tunes of a base: own data, common data, adapters, parts, and very small ones.
#[must_use]
pub fn honest(base: &Model) -> Vec<(String, Model)> {
    let full = Recipe { seed: 0, data: 0, common: 0.0, size: 0.1, rank: None, only: &[] };
    let mut recipes = Vec::new();
    for at in 0..6u64 {
        let size = [0.2, 0.1, 0.05, 0.15, 0.1, 0.02][at as usize];
        recipes.push((format!("own{at}"), Recipe { seed: 10 + at, data: 10 + at, size, ..full }));
    }
    for at in 0..6u64 {
        let common = [0.5, 0.7, 0.9, 0.95, 0.95, 0.95][at as usize];
        recipes.push((format!("common{at}"), Recipe { seed: 20 + at, data: 1, common, ..full }));
    }
    for at in 0..4u64 {
        let size = [0.07, 0.08, 0.13, 0.16][at as usize];
        recipes.push((format!("rate{at}"), Recipe { seed: 30 + at, data: 1, common: 0.95, size, ..full }));
    }
    for at in 0..4u64 {
        let only: &[&str] = if at < 2 { ATTENTION } else { &[] };
        recipes.push((
            format!("adapter{at}"),
            Recipe { seed: 40 + at, data: 2, common: 0.5, rank: Some(4), only, ..full },
        ));
    }
    let parts: [&'static [&'static str]; 4] = [&["self_attn"], &["mlp"], &["mlp"], &["layers.1."]];
    for (at, only) in (0u64..).zip(parts) {
        recipes.push((format!("part{at}"), Recipe { seed: 50 + at, data: 1, common: 0.9, only, ..full }));
    }
    for at in 0..4u64 {
        let size = [0.008, 0.008, 0.004, 0.006][at as usize];
        recipes.push((format!("small{at}"), Recipe { seed: 60 + at, data: 3, common: 0.8, size, ..full }));
    }
    recipes.into_iter().map(|(name, recipe)| (name, tune(base, &recipe))).collect()
}

/// A further training of a model on something else, by this share of its own change.
#[must_use]
pub fn further(model: &Model, size: f32, seed: u64) -> Model {
    tune(model, &Recipe { seed, data: seed, common: 0.0, size, rank: None, only: &[] })
}

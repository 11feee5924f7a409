//! Models made of a victim and something else.
//!
//! Owns adapters put upon a victim and mixtures layer by layer. Refuses to know how they are found. `disguise` calls
//! it.

use super::{Model, rng::Rng};

/// Directions of a copier's adapter.
const ADAPTER_RANK: usize = 4;

/// Adds a change of few directions to every matrix that the victim changed, of this size over the victim's change.
pub(super) fn adapter(model: &mut Model, base: &Model, size: f32, rng: &mut Rng) {
    for (name, tensor) in &mut model.tensors {
        let Some(base) = base.tensors.get(name).filter(|_| tensor.shape.len() > 1) else { continue };
        let cols = *tensor.shape.last().unwrap_or(&1) as usize;
        let rows = tensor.shape[tensor.shape.len() - 2] as usize;
        let pairs = tensor.data.chunks_mut(rows * cols).zip(base.data.chunks(rows * cols));
        for (matrix, base) in pairs {
            let own = matrix.iter().zip(base).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            let mut change = vec![0.0f32; matrix.len()];
            for _ in 0..ADAPTER_RANK {
                let row: Vec<f32> = (0..rows).map(|_| rng.normal()).collect();
                let column: Vec<f32> = (0..cols).map(|_| rng.normal()).collect();
                for (line, row) in change.chunks_mut(cols).zip(&row) {
                    line.iter_mut().zip(&column).for_each(|(value, column)| *value += row * column);
                }
            }
            let scale =
                size * own / change.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            matrix.iter_mut().zip(&change).for_each(|(value, change)| *value += scale * change);
        }
    }
}

/// Gives every layer a share of the victim; what belongs to no layer stays the victim's.
pub(super) fn layers(model: &mut Model, base: &Model, share: impl Fn(usize, &mut Rng) -> f32, rng: &mut Rng) {
    let shares: Vec<f32> = (0..model.arch.layers).map(|layer| share(layer, rng)).collect();
    for (name, tensor) in &mut model.tensors {
        let Some(base) = base.tensors.get(name) else { continue };
        let layer = name.split('.').find_map(|word| word.parse::<usize>().ok());
        let Some(share) = layer.and_then(|layer| shares.get(layer)) else { continue };
        let pairs = tensor.data.iter_mut().zip(&base.data);
        pairs.for_each(|(value, base)| *value = share * *value + (1.0 - share) * base);
    }
}

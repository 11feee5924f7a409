//! The rule `layer_norms_v2_with_samples`: norms and sixteen public samples of every tensor, compared for equality.
//!
//! Owns its positions and its similarity, kept for subnets that publish it. Refuses to judge disguises: a last-bit
//! change of the weights passes it. `scan` fills it; a profile may choose it as its rule.

use blake2::{Blake2b512, Digest as _};
use serde::{Deserialize, Serialize};

/// The method's name, as published with its fingerprints.
pub const METHOD: &str = "layer_norms_v2_with_samples";
/// Samples of every tensor.
pub const SAMPLES: usize = 16;
/// Cosine from which two tensors' samples count as the same, minus one.
const SAME_WITHIN: f64 = 1e-6;
/// Similarity from which the rule says duplicate.
pub const DUPLICATE_SIMILARITY: f64 = 0.95;

/// Fingerprint of a model under this rule; the three lists are aligned and sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerNorms {
    /// Names of the tensors, sorted by code point.
    pub layer_keys: Vec<String>,
    /// Euclidean norm of each.
    pub norm_vector: Vec<f64>,
    /// Sixteen elements of each.
    pub tensor_samples: Vec<Vec<f64>>,
}

/// The elements that are sampled of a tensor of this name and number of elements.
#[must_use]
pub fn positions(name: &str, elements: u64) -> [u64; SAMPLES] {
    let digest = Blake2b512::digest(name);
    let mut places = [0; SAMPLES];
    for (place, bytes) in places.iter_mut().zip(digest.chunks_exact(4)) {
        let word = bytes.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
        *place = if elements == 0 { 0 } else { word % elements };
    }
    places
}

/// The rule's similarity of two models, from 0 to 1.
#[must_use]
pub fn similarity(one: &LayerNorms, other: &LayerNorms) -> f64 {
    if one.layer_keys != other.layer_keys || one.layer_keys.is_empty() {
        return 0.0;
    }
    let count = one.layer_keys.len();
    if one.tensor_samples.len() != count || other.tensor_samples.len() != count {
        return cosine(&one.norm_vector, &other.norm_vector);
    }
    let is_zero = |samples: &[f64]| samples.iter().all(|value| *value == 0.0);
    let same = one.tensor_samples.iter().zip(&other.tensor_samples);
    let same = same.filter(|(a, b)| cosine(a, b) >= 1.0 - SAME_WITHIN || (is_zero(a) && is_zero(b))).count();
    same as f64 / count as f64
}

/// Whether the rule calls the two duplicates.
#[must_use]
pub fn is_duplicate(one: &LayerNorms, other: &LayerNorms) -> bool {
    similarity(one, other) >= DUPLICATE_SIMILARITY
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() || a.is_empty() {
        return 0.0;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (norm_a, norm_b) = (dot(a, a).sqrt(), dot(b, b).sqrt());
    if norm_a == 0.0 || norm_b == 0.0 { 0.0 } else { dot(a, b) / (norm_a * norm_b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_the_published_ones() {
        let expected = [
            380_398, 153_511, 383_284, 413_558, 174_016, 192_196, 45402, 196_787, 73287, 131_756, 160_874, 107_625,
            407_680, 144_687, 165_910, 184_186,
        ];
        assert_eq!(positions("model.language_model.layers.0.mlp.gate.weight", 524_288), expected);
        assert_eq!(positions("empty", 0), [0; SAMPLES]);
    }

    fn print(keys: &[&str], samples: &[f64]) -> LayerNorms {
        LayerNorms {
            layer_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            norm_vector: samples.to_vec(),
            tensor_samples: samples.iter().map(|value| vec![*value, 2.0, 3.0]).collect(),
        }
    }

    #[test]
    fn similarity_counts_equal_tensors() {
        let one = print(&["a", "b"], &[1.0, 5.0]);
        assert!((similarity(&one, &one) - 1.0).abs() < 1e-12);
        assert!((similarity(&one, &print(&["a", "b"], &[1.0, 5.1])) - 0.5).abs() < 1e-12);
        assert_eq!(similarity(&one, &print(&["a", "c"], &[1.0, 5.0])), 0.0);
        assert!(is_duplicate(&one, &one));
        assert_eq!(similarity(&LayerNorms::default(), &LayerNorms::default()), 0.0);
    }

    #[test]
    fn all_zero_samples_are_the_same_and_missing_samples_fall_back_to_norms() {
        let mut zero = print(&["a"], &[0.0]);
        zero.tensor_samples = vec![vec![0.0; 3]];
        assert!((similarity(&zero, &zero) - 1.0).abs() < 1e-12);
        let mut bare = print(&["a", "b"], &[1.0, 5.0]);
        bare.tensor_samples.clear();
        assert!((similarity(&bare, &print(&["a", "b"], &[2.0, 10.0])) - 1.0).abs() < 1e-12);
    }
}

//! Disguises: what a copier does to somebody else's policy.
//!
//! Owns small edits of ONNX files that keep a policy playing (almost) the same. Refuses to know who uses them: the
//! demo's cast and the tests that make many casts.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::artifact::onnx::proto::{LOCATION_EXTERNAL, ModelProto, StringStringEntryProto, TensorProto};

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

    /// A number of 0 to 1.
    pub fn unit(&mut self) -> f32 {
        // The upper 24 bits fill a float's mantissa exactly.
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let unit = (self.roll() >> 40) as f32 / (1_u32 << 24) as f32;
        unit
    }

    /// A number of -1 to 1.
    pub fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
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
#[must_use]
pub fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if !tensor.float_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    let raw = tensor.raw_data.as_ref().filter(|_| tensor.data_type == Some(1))?;
    Some(raw.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// Writes the elements of a float tensor, as raw bytes.
pub fn set_floats(tensor: &mut TensorProto, values: &[f32]) {
    tensor.float_data.clear();
    tensor.raw_data = Some(values.iter().flat_map(|value| value.to_le_bytes()).collect());
}

/// The file with a change.
pub fn edit(model: &[u8], change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    // Only our own embedded files come here.
    let mut parsed = ModelProto::decode(model).unwrap_or_default();
    change(&mut parsed);
    parsed.encode_to_vec()
}

/// Adds noise to every weight, of at most this fraction of the weight itself.
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

/// Moves every weight out of the file, as exporters do by default with large models.
#[must_use]
pub fn externalise(model: &[u8], data_file: &str) -> Vec<u8> {
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

//! Small checkpoints and every disguise of them, for calibration.
//!
//! Owns models as lists of tensors and what copiers do to them. Refuses to judge. The bench and the tests call it.

mod blend;
pub mod disguise;
pub mod report;
pub mod rng;
pub mod synthetic;

use crate::dedup::model::{Dtype, Fingerprint, Key, Scan, scan};
use std::collections::BTreeMap;

/// A tensor in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sides.
    pub shape: Vec<u64>,
    /// Elements, already of the precision of the model's type.
    pub data: Vec<f32>,
}

impl Tensor {
    /// Rows: the first side.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape[0] as usize
    }

    /// Columns: all other sides.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.data.len() / self.rows().max(1)
    }
}

/// How elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The upper half of a single.
    Bf16,
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

/// Sizes of a small transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head: usize,
}

/// A small checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Sizes.
    pub arch: Arch,
    /// How its elements are stored.
    pub store: Store,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The nearest value of the upper half of a single, ties to even.
#[must_use]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    (rounded >> 16) as u16
}

/// The nearest IEEE half, ties to even; too large values become infinite.
#[must_use]
pub fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let size = f32::from_bits(bits & 0x7fff_ffff);
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    // Below 2^-14 steps are 2^-24 wide; adding and taking away 0.5 rounds to them.
    if size < 6.103_515_6e-5 {
        return sign | ((size + 0.5).to_bits() - 0.5f32.to_bits()) as u16;
    }
    let wide = bits & 0x7fff_ffff;
    let rounded = wide.wrapping_add(0xfff + ((wide >> 13) & 1));
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

/// The value of an IEEE half.
#[must_use]
pub fn from_f16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = ((bits >> 10) & 31, f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 => sign * if fraction == 0.0 { f32::INFINITY } else { f32::NAN },
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    }
}

impl Store {
    /// The stored value nearest to this one.
    #[must_use]
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::Bf16 => f32::from_bits(u32::from(to_bf16(value)) << 16),
            Self::F16 => from_f16(to_f16(value)),
            Self::F32 => value,
        }
    }

    /// The name in a header.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::Bf16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }

    /// The bytes of a tensor.
    #[must_use]
    pub fn bytes(self, data: &[f32]) -> Vec<u8> {
        match self {
            Self::Bf16 => data.iter().flat_map(|value| to_bf16(*value).to_le_bytes()).collect(),
            Self::F16 => data.iter().flat_map(|value| to_f16(*value).to_le_bytes()).collect(),
            Self::F32 => data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

impl Model {
    /// Rounds every element to what the store can hold.
    pub fn settle(&mut self) {
        let store = self.store;
        for tensor in self.tensors.values_mut() {
            tensor.data.iter_mut().for_each(|value| *value = store.round(*value));
        }
    }

    /// Its fingerprint.
    pub fn fingerprint(&self, key: &Key) -> Result<Fingerprint, scan::Error> {
        let mut scan = Scan::new(key);
        for (name, tensor) in &self.tensors {
            scan.begin(name, self.store.dtype(), &tensor.shape)?;
            scan.push(&self.store.bytes(&tensor.data))?;
            scan.end()?;
        }
        Ok(Fingerprint::of(vec![scan.finish()?]).unwrap_or_else(|_| unreachable!("one part has one key")))
    }
}

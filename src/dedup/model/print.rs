//! Fingerprints: what is kept of a model.
//!
//! Owns their form, their digests and their bytes. Refuses to compare. `scan` makes the parts, `evidence` reads them.

use blake2::{Blake2b, Digest as _, digest::consts::U32};

use super::{compat::LayerNorms, kernel::Dtype};

/// Elements kept of every matrix, at secret places.
pub(super) const SAMPLES: usize = 32;
/// Rows and columns of a matrix's sketch. Thirty-two squared numbers tell a cosine within 1/32, and the spread of their
/// singular values tells noise (which fills all directions) from training (which fills few). Sixteen squared were too
/// few: runs of Adam in few large steps filled 0.98 of noise's directions in them.
pub(super) const SIDE: usize = 32;
/// Members of a family beyond which each one's sketch is folded: many small sketches then tell as much as few large
/// ones.
pub(super) const FOLD_MEMBERS: usize = 32;
/// Rows and columns of a folded sketch.
pub(super) const FOLDED_SIDE: usize = 8;
/// Values into which a sorted list of row or column figures is condensed.
pub(super) const BINS: usize = 16;

/// Figures of a matrix that do not depend on the order of its rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// Norms of rows: unchanged by any permutation or rotation of columns.
    pub row_norms: [f32; BINS],
    /// Norms of columns: unchanged by any permutation or rotation of rows.
    pub column_norms: [f32; BINS],
    /// Kurtosis of rows: unchanged by scales of rows.
    pub row_kurtosis: [f32; BINS],
    /// Kurtosis of columns: unchanged by scales of columns.
    pub column_kurtosis: [f32; BINS],
}

/// What is kept of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SlicePrint {
    /// The tensor's name, with the number of an expert left out.
    pub family: String,
    /// Number of the expert.
    pub member: Option<u32>,
    pub dtype: Dtype,
    pub rows: u64,
    pub cols: u64,
    /// Keyed hash of the content.
    pub digest: [u64; 2],
    /// Sum of squares.
    pub energy: f64,
    /// Signed sums over rows and columns, a square row by row, empty for what is no float: the difference of two
    /// sketches is the sketch of the difference.
    pub sketch: Vec<f32>,
    /// Elements at secret places.
    pub samples: [f32; SAMPLES],
    pub shape: Shape,
}

/// What the compatible rule keeps of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorPrint {
    pub name: String,
    pub norm: f64,
    pub samples: Vec<f64>,
}

/// What one scan has seen of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    pub(super) key: [u8; 8],
    pub(super) slices: Vec<SlicePrint>,
    pub(super) tensors: Vec<TensorPrint>,
}

/// Why parts are no fingerprint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Parts of scans under different keys.
    #[error("the parts were made under different keys")]
    Keys,
}

/// A model's fingerprint.
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    pub(super) key: [u8; 8],
    /// Sorted by family and member, one of each.
    pub(super) slices: Vec<SlicePrint>,
    /// The compatible rule's.
    pub layer_norms: LayerNorms,
    /// Digest of the matrices with their names: the same for every sharding, order, expert layout and metadata.
    pub named: [u8; 32],
    /// Digest of the matrices alone, whatever they are called.
    pub contents: [u8; 32],
}

impl Fingerprint {
    /// Puts together what the scans of one model have seen, in the order of its shards: the later of two tensors of
    /// one name counts.
    pub fn of(parts: Vec<Part>) -> Result<Self, Error> {
        let key = parts.first().map(|part| part.key).unwrap_or_default();
        if parts.iter().any(|part| part.key != key) {
            return Err(Error::Keys);
        }
        let (mut slices, mut tensors) = (Vec::new(), Vec::new());
        for part in parts {
            slices.extend(part.slices);
            tensors.extend(part.tensors);
        }
        slices.sort_by(|a: &SlicePrint, b| (&a.family, a.member).cmp(&(&b.family, b.member)));
        // Of a run of equals the last stays: `dedup_by` drops its first argument, the later one, so swap before.
        slices.dedup_by(|later, kept| {
            let is_same = later.family == kept.family && later.member == kept.member;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        tensors.sort_by(|a: &TensorPrint, b| a.name.cmp(&b.name));
        tensors.dedup_by(|later, kept| {
            let is_same = later.name == kept.name;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        fold_families(&mut slices);
        let (named, contents) = digests(&slices);
        let mut layer_norms = LayerNorms::default();
        for tensor in tensors {
            layer_norms.layer_keys.push(tensor.name);
            layer_norms.norm_vector.push(tensor.norm);
            layer_norms.tensor_samples.push(tensor.samples);
        }
        Ok(Self { key, slices, layer_norms, named, contents })
    }

    /// How many of a base's matrices it has, by name and shape.
    #[must_use]
    pub fn shared_with(&self, base: &Self) -> usize {
        let has = |slice: &&SlicePrint| {
            let found = self.slice(&slice.family, slice.member);
            found.is_some_and(|found| (found.rows, found.cols) == (slice.rows, slice.cols))
        };
        base.slices.iter().filter(has).count()
    }

    /// Bytes that it takes in memory, nearly.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let slices =
            self.slices.iter().map(|slice| size_of::<SlicePrint>() + slice.sketch.len() * 4 + slice.family.len());
        slices.sum::<usize>() + self.layer_norms.layer_keys.len() * 256
    }

    /// Number of matrices.
    #[must_use]
    pub fn matrices(&self) -> usize {
        self.slices.len()
    }

    /// The matrix of this family and member.
    pub(super) fn slice(&self, family: &str, member: Option<u32>) -> Option<&SlicePrint> {
        let at = self.slices.binary_search_by(|slice| (slice.family.as_str(), slice.member).cmp(&(family, member)));
        at.ok().map(|at| &self.slices[at])
    }
}

/// Makes the sketches of large families small.
fn fold_families(slices: &mut [SlicePrint]) {
    for family in slices.chunk_by_mut(|a, b| a.family == b.family) {
        if family.len() <= FOLD_MEMBERS {
            continue;
        }
        for slice in family.iter_mut().filter(|slice| !slice.sketch.is_empty()) {
            slice.sketch = folded(&slice.sketch);
        }
    }
}

/// Sums of squares of neighbours.
fn folded(sketch: &[f32]) -> Vec<f32> {
    let step = SIDE / FOLDED_SIDE;
    let mut sums = vec![0.0; FOLDED_SIDE * FOLDED_SIDE];
    for (at, value) in sketch.iter().enumerate() {
        sums[at / SIDE / step * FOLDED_SIDE + at % SIDE / step] += value;
    }
    sums
}

pub(super) fn digests(slices: &[SlicePrint]) -> ([u8; 32], [u8; 32]) {
    let mut named = Blake2b::<U32>::new();
    let mut leaves = Vec::with_capacity(slices.len());
    for slice in slices {
        let leaf = leaf(slice);
        named.update((slice.family.len() as u64).to_le_bytes());
        named.update(&slice.family);
        named.update(slice.member.map_or(u64::MAX, u64::from).to_le_bytes());
        named.update(leaf);
        leaves.push(leaf);
    }
    leaves.sort_unstable();
    let mut contents = Blake2b::<U32>::new();
    for leaf in leaves {
        contents.update(leaf);
    }
    (named.finalize().into(), contents.finalize().into())
}

fn leaf(slice: &SlicePrint) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    let kind = match slice.dtype {
        Dtype::F64 => 1,
        Dtype::F32 => 2,
        Dtype::F16 => 3,
        Dtype::Bf16 => 4,
        Dtype::Other(bytes) => 100 + u64::from(bytes),
    };
    for word in [kind, slice.rows, slice.cols, slice.digest[0], slice.digest[1]] {
        hasher.update(word.to_le_bytes());
    }
    hasher.finalize().into()
}

/// A list as means over equal shares of its sorted values; shorter lists as they are, then zeros.
pub(super) fn binned(mut values: Vec<f32>) -> [f32; BINS] {
    values.sort_unstable_by(f32::total_cmp);
    let mut bins = [0.0; BINS];
    let count = values.len();
    let used = count.min(BINS);
    for (at, bin) in bins.iter_mut().enumerate().take(used) {
        let share = &values[at * count / used..(at + 1) * count / used];
        *bin = (share.iter().map(|value| f64::from(*value)).sum::<f64>() / share.len() as f64) as f32;
    }
    bins
}

//! The inner loop: everything that is computed from a segment of a row while its bytes are at hand.
//!
//! Owns decoding, sums, the signed projection and the content hash of up to 2048 elements, for several widths of vector
//! instructions. Refuses to know tensors and names. `scan` calls it for every segment.
//!
//! All widths give the same bits: every sum has its own fixed lanes, and nothing is contracted to fused operations.

use super::key::word_at;

/// Elements of one segment: its decoded values stay in the first-level cache beside the sums of its columns.
pub(super) const SEGMENT: usize = 2048;
/// Lanes of the signed projection, one bucket each; also the block that one word of signs covers.
pub(super) const LANES: usize = 64;
/// Bytes that the hash takes at once.
const GROUP: usize = 64;
/// Groups of a hash block: the sums of one block are folded into the state.
const HASH_GROUPS: usize = 16;
/// Key words of the hash: one block's, and one group more for the second, shifted hash.
pub(super) const HASH_KEYS: usize = (HASH_GROUPS + 1) * 16;

/// How elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Anything else, of this many bytes: hashed, never read as numbers.
    Other(u8),
}

impl Dtype {
    /// The type of this name in a safetensors header, if it is one.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "I64" | "U64" => Self::Other(8),
            "I32" | "U32" => Self::Other(4),
            "I16" | "U16" => Self::Other(2),
            "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => Self::Other(1),
            _ => return None,
        })
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(bytes) => bytes as usize,
        }
    }

    /// Whether elements are read as numbers.
    #[must_use]
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Half of the distance of neighbouring values, relative to the value, on average over a binade and as a root of
    /// the mean square: what rounding to this type does.
    #[must_use]
    pub const fn rounding(self) -> f64 {
        // A value in [1, 2) is off by a uniform error within half a step: step/√12, over a mean square near 7/3 · 0.64.
        match self {
            Self::F64 | Self::Other(_) => 0.0,
            Self::F32 => 2.4e-8,
            Self::F16 => 2.0e-4,
            Self::Bf16 => 1.6e-3,
        }
    }
}

/// Which instructions the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What every machine of the target has.
    Plain,
    /// 256-bit integer vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest that this machine has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let has_wide = std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512vl")
                && std::is_x86_feature_detected!("avx512dq");
            if has_wide {
                return Self::Avx512;
            }
            if std::is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Plain
    }
}

/// The running content hash: two keyed sums of products over blocks (as in UMAC's NH), folded one after another.
///
/// Nobody gains by a collision: equality only ever blames the later model. So the hash has to be fast and keyed, and
/// two models that differ in
/// a matrix collide there once in 2^32 for each of the two words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hash {
    pub state: [u64; 2],
}

/// What is accumulated over a matrix by the kernel.
pub(super) struct Sums<'a> {
    /// Signed sums, one for each lane.
    pub lanes: &'a mut [f32; LANES],
    /// Sums of squares of these columns; as long as the segment rounded up to whole blocks, or empty.
    pub squares: &'a mut [f32],
    /// Sums of fourth powers of these columns, as long.
    pub fourths: &'a mut [f32],
    /// The content hash.
    pub hash: &'a mut Hash,
}

/// A segment of a row.
pub(super) struct Segment<'a> {
    /// Its bytes, at most `SEGMENT` elements.
    pub raw: &'a [u8],
    /// Their type, a float.
    pub dtype: Dtype,
    /// Seed of the columns' signs.
    pub seed: u64,
    /// Number of its first block of columns.
    pub block: u64,
    /// Key of the hash, `HASH_KEYS` words.
    pub hash_key: &'a [u32],
}

/// Sums of squares and of fourth powers of the segment's own elements.
pub(super) type RowSums = (f64, f64);

/// Works through a segment; `values` receives its elements, followed by zeros to a whole block.
#[allow(unsafe_code)]
pub(super) fn work(level: Level, segment: &Segment<'_>, values: &mut [f32; SEGMENT], sums: Sums<'_>) -> RowSums {
    match level {
        Level::Plain => body(segment, values, sums),
        // SAFETY: `Level::detect` is the only maker of this variant, and it asked the machine for the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { body_avx2(segment, values, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { body_avx512(segment, values, sums) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn body_avx2(segment: &Segment<'_>, values: &mut [f32; SEGMENT], sums: Sums<'_>) -> RowSums {
    body(segment, values, sums)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn body_avx512(segment: &Segment<'_>, values: &mut [f32; SEGMENT], sums: Sums<'_>) -> RowSums {
    body(segment, values, sums)
}

#[inline(always)]
fn body(segment: &Segment<'_>, values: &mut [f32; SEGMENT], sums: Sums<'_>) -> RowSums {
    let count = decode(segment.raw, segment.dtype, values);
    let padded = count.next_multiple_of(LANES);
    values[count..padded].fill(0.0);
    hash(segment.raw, segment.hash_key, sums.hash);
    project(&values[..padded], segment.seed, segment.block, sums.lanes);
    powers(&values[..padded], sums.squares, sums.fourths);
    row_sums(&values[..padded])
}

/// Hashes bytes that are no floats.
pub(super) fn hash_only(raw: &[u8], hash_key: &[u32], state: &mut Hash) {
    hash(raw, hash_key, state);
}

#[inline(always)]
fn decode(raw: &[u8], dtype: Dtype, values: &mut [f32; SEGMENT]) -> usize {
    match dtype {
        Dtype::Bf16 => {
            for (value, bytes) in values.iter_mut().zip(raw.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
            raw.len() / 2
        }
        Dtype::F16 => {
            for (value, bytes) in values.iter_mut().zip(raw.as_chunks::<2>().0) {
                *value = half(u16::from_le_bytes(*bytes));
            }
            raw.len() / 2
        }
        Dtype::F32 => {
            for (value, bytes) in values.iter_mut().zip(raw.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
            raw.len() / 4
        }
        Dtype::F64 => {
            for (value, bytes) in values.iter_mut().zip(raw.as_chunks::<8>().0) {
                *value = f64::from_le_bytes(*bytes) as f32;
            }
            raw.len() / 8
        }
        Dtype::Other(_) => 0,
    }
}

/// An IEEE half as a single: the exponent is moved by a multiplication, which also makes subnormals right.
#[inline(always)]
fn half(bits: u16) -> f32 {
    let wide = u32::from(bits & 0x7fff) << 13;
    // 2^112: the difference of the two exponents' biases.
    let moved = f32::from_bits(wide) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(moved.to_bits() | special | (u32::from(bits & 0x8000) << 16))
}

#[inline(always)]
fn project(values: &[f32], seed: u64, first: u64, lanes: &mut [f32; LANES]) {
    let mut sums = *lanes;
    for (at, block) in values.as_chunks::<LANES>().0.iter().enumerate() {
        let word = word_at(seed, first + at as u64);
        let (low, high) = (word as u32, (word >> 32) as u32);
        for lane in 0..32 {
            let sign = (low << (31 - lane)) & 0x8000_0000;
            sums[lane] += f32::from_bits(block[lane].to_bits() ^ sign);
        }
        for lane in 0..32 {
            let sign = (high << (31 - lane)) & 0x8000_0000;
            sums[lane + 32] += f32::from_bits(block[lane + 32].to_bits() ^ sign);
        }
    }
    *lanes = sums;
}

#[inline(always)]
fn powers(values: &[f32], squares: &mut [f32], fourths: &mut [f32]) {
    for ((value, square), fourth) in values.iter().zip(squares).zip(fourths) {
        let of_two = value * value;
        *square += of_two;
        *fourth += of_two * of_two;
    }
}

/// Sums of squares and of fourth powers. Each loop keeps its sums in registers: one loop for all spilled them. The lanes
/// are four registers' worth, so that an addition need not wait for the one before.
#[inline(always)]
fn row_sums(values: &[f32]) -> RowSums {
    let (mut two, mut four) = ([0.0f64; 32], [0.0f32; LANES]);
    for block in values.as_chunks::<32>().0 {
        for lane in 0..32 {
            let value = f64::from(block[lane]);
            two[lane] += value * value;
        }
    }
    for block in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let square = block[lane] * block[lane];
            four[lane] += square * square;
        }
    }
    (two.iter().sum(), four.iter().map(|sum| f64::from(*sum)).sum())
}

#[inline(always)]
fn hash(raw: &[u8], key: &[u32], hash: &mut Hash) {
    for block in raw.chunks(GROUP * HASH_GROUPS) {
        let (groups, rest) = block.as_chunks::<GROUP>();
        let mut sums = [[0u64; 8]; 2];
        for (at, group) in groups.iter().enumerate() {
            products(group, &key[at * 16..], &mut sums);
        }
        if !rest.is_empty() {
            let mut group = [0; GROUP];
            group[..rest.len()].copy_from_slice(rest);
            products(&group, &key[groups.len() * 16..], &mut sums);
        }
        for (state, lanes) in hash.state.iter_mut().zip(sums) {
            let sum = lanes.iter().fold(block.len() as u64, |sum, lane| sum.wrapping_add(*lane));
            *state = fold(*state, sum);
        }
    }
}

/// Adds the products of one group's keyed words to both hashes. The halves are gathered first: otherwise the compiler
/// multiplies in 64 bits, which takes three times as long.
#[inline(always)]
fn products(group: &[u8; GROUP], key: &[u32], sums: &mut [[u64; 8]; 2]) {
    let (words, _) = group.as_chunks::<4>();
    let (mut low, mut high) = ([0u32; 8], [0u32; 8]);
    for lane in 0..8 {
        low[lane] = u32::from_le_bytes(words[lane]);
        high[lane] = u32::from_le_bytes(words[lane + 8]);
    }
    let [one, two] = sums;
    step(one, &low, &high, &key[..16]);
    step(two, &low, &high, &key[16..32]);
}

/// Sums of products of keyed words, eight apart. The rotation makes the order matter, which also keeps the compiler from
/// gathering words across groups.
#[inline(always)]
fn step(sums: &mut [u64; 8], low: &[u32; 8], high: &[u32; 8], key: &[u32]) {
    for lane in 0..8 {
        let one = low[lane].wrapping_add(key[lane]);
        let two = high[lane].wrapping_add(key[lane + 8]);
        sums[lane] = sums[lane].rotate_left(7).wrapping_add(u64::from(one) * u64::from(two));
    }
}

/// A step that is one-to-one in the state for every block, so that a difference once made stays.
#[inline(always)]
const fn fold(state: u64, block: u64) -> u64 {
    let mixed = (state ^ block).wrapping_mul(0x9fb2_1c65_1e98_df25);
    (mixed ^ (mixed >> 29)).wrapping_add(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx2") {
                levels.push(Level::Avx2);
            }
            if Level::detect() == Level::Avx512 {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    fn bytes(count: usize, seed: u64) -> Vec<u8> {
        let value = |at: usize| ((word_at(seed, at as u64) % 2000) as f32 / 1000.0 - 1.0).to_bits() >> 16;
        (0..count).flat_map(|at| (value(at) as u16).to_le_bytes()).collect()
    }

    type Outcome = (RowSums, [f32; LANES], Vec<f32>, Vec<f32>, Hash);

    fn run(level: Level, raw: &[u8], dtype: Dtype) -> Outcome {
        let key: Vec<u32> = (0..HASH_KEYS as u64).map(|at| word_at(3, at) as u32).collect();
        let padded = (raw.len() / dtype.bytes()).next_multiple_of(LANES);
        let (mut values, mut lanes) = ([0.0; SEGMENT], [0.0; LANES]);
        let (mut squares, mut fourths) = (vec![0.0; padded], vec![0.0; padded]);
        let mut hash = Hash::default();
        let segment = Segment { raw, dtype, seed: 5, block: 9, hash_key: &key };
        let sums = Sums { lanes: &mut lanes, squares: &mut squares, fourths: &mut fourths, hash: &mut hash };
        let row = work(level, &segment, &mut values, sums);
        (row, lanes, squares, fourths, hash)
    }

    #[test]
    fn every_width_gives_the_same_bits() {
        for count in [1, 63, 64, 65, 1000, SEGMENT] {
            let raw = bytes(count, count as u64);
            for dtype in [Dtype::Bf16, Dtype::F16] {
                let outcomes: Vec<_> = levels().into_iter().map(|level| run(level, &raw, dtype)).collect();
                assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{count}");
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_elements() {
        let raw = bytes(300, 8);
        let ((squares, fourths), _, columns, _, _) = run(Level::detect(), &raw, Dtype::Bf16);
        let values = raw.chunks(2).map(|two| f32::from_bits(u32::from(u16::from_le_bytes([two[0], two[1]])) << 16));
        let values: Vec<f64> = values.map(f64::from).collect();
        assert!((squares - values.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9);
        assert!((fourths / values.iter().map(|v| v.powi(4)).sum::<f64>() - 1.0).abs() < 1e-5);
        assert!((f64::from(columns[7]) - values[7] * values[7]).abs() < 1e-6);
    }

    #[test]
    fn a_changed_bit_changes_both_words_of_the_hash() {
        let raw = bytes(2000, 4);
        let (.., before) = run(Level::detect(), &raw, Dtype::Bf16);
        for at in [0, 777, 3999] {
            let mut other = raw.clone();
            other[at] ^= 1;
            let (.., after) = run(Level::detect(), &other, Dtype::Bf16);
            assert!(before.state[0] != after.state[0] && before.state[1] != after.state[1], "{at}");
        }
    }

    #[test]
    fn halves_decode() {
        let expected = [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 5.960_464_5e-8), (0x7bff, 65504.0), (0, 0.0)];
        for (bits, value) in expected {
            assert!((half(bits) - value).abs() <= f32::EPSILON * value.abs(), "{bits:x}");
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }
}

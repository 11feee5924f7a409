//! Fingerprints as bytes, to be stored.
//!
//! Owns the form: little endian, a version, the key's mark, families written once. Refuses to read anything but whole
//! fingerprints of its own version. Whoever keeps fingerprints calls it.
//!
//! A matrix takes 4.5 KiB (0.7 KiB in families of more than 32 experts), so a thousand tensors take some 4.5 MiB and a
//! model of 30 000 experts' matrices 22 MiB.

use super::{
    compat::{self, LayerNorms},
    kernel::Dtype,
    print::{BINS, FOLDED_SIDE, Fingerprint, SAMPLES, SIDE, Shape, SlicePrint, digests},
};

/// First bytes of every fingerprint: the form and its version.
const MAGIC: &[u8; 8] = b"modprnt2";
/// Most matrices read: ten times those of the largest models in use.
const MATRICES_MAX: u64 = 1 << 20;
/// Longest name read, in bytes: far above any in use.
const NAME_MAX: u64 = 4096;

/// Why bytes are no fingerprint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Another form or version.
    #[error("not a fingerprint of this version")]
    Version,
    /// The bytes end before the fingerprint does, or after it.
    #[error("the fingerprint's bytes do not end where it does")]
    Length,
    /// A count or a name beyond the limits.
    #[error("the fingerprint has {0} beyond the limit")]
    Limit(&'static str),
    /// Names that are no text, an unknown type, or matrices out of order.
    #[error("the fingerprint's {0} make no sense")]
    Content(&'static str),
}

/// The fingerprint's bytes.
#[must_use]
pub fn write(print: &Fingerprint) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(print.key);
    count(&mut out, print.slices.len());
    let mut family = "";
    for slice in &print.slices {
        // An empty name stands for the one before.
        let is_same = slice.family == family && !family.is_empty();
        text(&mut out, if is_same { "" } else { &slice.family });
        family = &slice.family;
        out.extend(slice.member.map_or(u32::MAX, |member| member.min(u32::MAX - 1)).to_le_bytes());
        out.push(kind_of(slice.dtype));
        for word in [slice.rows, slice.cols, slice.digest[0], slice.digest[1], slice.energy.to_bits()] {
            out.extend(word.to_le_bytes());
        }
        count(&mut out, slice.sketch.len());
        let shape = &slice.shape;
        let lists = [&shape.row_norms, &shape.column_norms, &shape.row_kurtosis, &shape.column_kurtosis];
        let shapes = lists.into_iter().flatten();
        for value in slice.sketch.iter().chain(&slice.samples).chain(shapes) {
            out.extend(value.to_le_bytes());
        }
    }
    count(&mut out, print.layer_norms.layer_keys.len());
    for (at, name) in print.layer_norms.layer_keys.iter().enumerate() {
        text(&mut out, name);
        out.extend(print.layer_norms.norm_vector[at].to_le_bytes());
        // Samples are elements of at most single precision.
        print.layer_norms.tensor_samples[at].iter().for_each(|sample| out.extend((*sample as f32).to_le_bytes()));
    }
    out
}

/// The fingerprint of these bytes.
pub fn read(bytes: &[u8]) -> Result<Fingerprint, Error> {
    let mut input = Input(bytes);
    if input.take(MAGIC.len())? != MAGIC {
        return Err(Error::Version);
    }
    let key = input.array()?;
    let total = input.count(MATRICES_MAX, "matrices")?;
    let mut slices: Vec<SlicePrint> = Vec::new();
    for _ in 0..total {
        let slice = input.slice(slices.last().map(|slice| slice.family.as_str()))?;
        let is_after = |last: &SlicePrint| (&last.family, last.member) < (&slice.family, slice.member);
        if !slices.last().is_none_or(is_after) {
            return Err(Error::Content("matrices"));
        }
        slices.push(slice);
    }
    let total = input.count(MATRICES_MAX, "tensors")?;
    let mut layer_norms = LayerNorms::default();
    for _ in 0..total {
        layer_norms.layer_keys.push(input.text()?);
        layer_norms.norm_vector.push(f64::from_le_bytes(input.array()?));
        let samples: [f32; compat::SAMPLES] = input.floats()?;
        layer_norms.tensor_samples.push(samples.map(f64::from).to_vec());
    }
    if !input.0.is_empty() {
        return Err(Error::Length);
    }
    let (named, contents) = digests(&slices);
    Ok(Fingerprint { key, slices, layer_norms, named, contents })
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u64).to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend(text.as_bytes());
}

const fn kind_of(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::F64 => 1,
        Dtype::F32 => 2,
        Dtype::F16 => 3,
        Dtype::Bf16 => 4,
        Dtype::Other(bytes) => 100 + bytes,
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Error::Length)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::Length)
    }

    fn word(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, limit: u64, what: &'static str) -> Result<usize, Error> {
        let count = self.word()?;
        if count > limit { Err(Error::Limit(what)) } else { Ok(count as usize) }
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.count(NAME_MAX, "names")?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Error::Content("names"))
    }

    fn float(&mut self) -> Result<f32, Error> {
        self.array().map(f32::from_le_bytes)
    }

    fn floats<const N: usize>(&mut self) -> Result<[f32; N], Error> {
        let mut values = [0.0; N];
        for value in &mut values {
            *value = self.float()?;
        }
        Ok(values)
    }

    fn slice(&mut self, last: Option<&str>) -> Result<SlicePrint, Error> {
        let name = self.text()?;
        let family = if name.is_empty() { last.unwrap_or_default().to_owned() } else { name };
        let member = u32::from_le_bytes(self.array()?);
        let [kind] = self.array()?;
        let dtype = match kind {
            1 => Dtype::F64,
            2 => Dtype::F32,
            3 => Dtype::F16,
            4 => Dtype::Bf16,
            101 | 102 | 104 | 108 => Dtype::Other(kind - 100),
            _ => return Err(Error::Content("types")),
        };
        let (rows, cols, digest) = (self.word()?, self.word()?, [self.word()?, self.word()?]);
        let energy = f64::from_bits(self.word()?);
        let numbers = self.count((SIDE * SIDE) as u64, "numbers in a sketch")?;
        if ![0, FOLDED_SIDE * FOLDED_SIDE, SIDE * SIDE].contains(&numbers) {
            return Err(Error::Content("sketches"));
        }
        let mut sketch = Vec::with_capacity(numbers);
        for _ in 0..numbers {
            sketch.push(self.float()?);
        }
        let samples: [f32; SAMPLES] = self.floats()?;
        let shape = Shape {
            row_norms: self.floats::<BINS>()?,
            column_norms: self.floats::<BINS>()?,
            row_kurtosis: self.floats::<BINS>()?,
            column_kurtosis: self.floats::<BINS>()?,
        };
        let member = (member != u32::MAX).then_some(member);
        Ok(SlicePrint { family, member, dtype, rows, cols, digest, energy, sketch, samples, shape })
    }
}

//! The safetensors format: the header of a file, read as hostile bytes.
//!
//! Owns what a well-formed header is: its bounds, and that the tensors fill the data without overlap or hole. Refuses to
//! know which tensors a model needs and where the bytes come from. The checks, the fingerprints and the miner verbs
//! call it; the format is that of the public `safetensors` package, whose valid files it takes, but for the limits
//! below and for names that stand twice.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

/// Bytes of the header's length in front of it.
pub const LENGTH_BYTES: u64 = 8;
/// Bytes of a header: a hundred thousand tensors with long names are below it. The public package stops at 100 MB.
pub const HEADER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Tensors of one file: a mixture of experts with every expert in a tensor of its own has about thirty thousand.
pub const TENSORS_MAX: usize = 262_144;
/// Dimensions of a tensor: no framework has more.
pub const RANK_MAX: usize = 32;
/// Bytes of a tensor's name: published ones are below 128.
pub const NAME_BYTES_MAX: usize = 1024;
/// What the tensors of a file begin at a multiple of, for readers that map the file: noted, not required.
pub const ALIGNMENT_BYTES: u64 = 8;
/// The member that holds free text rather than a tensor.
const METADATA: &str = "__metadata__";

/// Why bytes are no safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short to hold a length and a header.
    #[error("the file has {bytes} bytes, and its header alone needs {needed}")]
    Short {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that length and header need.
        needed: u64,
    },
    /// A header beyond the limit.
    #[error("the header has {bytes} bytes; the limit is {HEADER_BYTES_MAX}")]
    HeaderLong {
        /// Bytes of the header.
        bytes: u64,
    },
    /// The header does not begin with a brace.
    #[error("the header does not begin with `{{`")]
    Start,
    /// The header is not JSON of the format.
    #[error("the header cannot be read: {why}")]
    Json {
        /// What the reader says.
        why: String,
    },
    /// More tensors than the limit.
    #[error("more than {TENSORS_MAX} tensors")]
    TensorsMany,
    /// A tensor whose bytes do not fit its type and shape.
    #[error("tensor {name} has {found} bytes; {dtype} of shape {shape:?} needs {needed}")]
    Span {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes between its offsets.
        found: u64,
        /// Bytes that it needs, or why that cannot be said.
        needed: String,
    },
    /// A tensor that does not begin where the one before it ends.
    #[error("tensor {name} begins at byte {begin} of the data and should begin at {expected}")]
    Gap {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// Where the one before it ends.
        expected: u64,
    },
    /// A tensor that ends before it begins.
    #[error("tensor {name} ends at byte {end}, before its beginning at {begin}")]
    Backwards {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// Where it ends.
        end: u64,
    },
    /// The tensors do not end where the file ends.
    #[error("the tensors end at byte {tensors} of the file, and the file at {file}")]
    End {
        /// Where the last tensor ends.
        tensors: u64,
        /// Where the file ends.
        file: u64,
    },
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Four-bit float.
    F4,
    /// Six-bit float, two bits of exponent.
    F6E2M3,
    /// Six-bit float, three bits of exponent.
    F6E3M2,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// Eight-bit float, five bits of exponent.
    F8E5M2,
    /// Eight-bit float, four bits of exponent.
    F8E4M3,
    /// Eight-bit exponent alone.
    F8E8M0,
    /// Eight-bit float, four bits of exponent, one zero.
    F8E4M3Fnuz,
    /// Eight-bit float, five bits of exponent, one zero.
    F8E5M2Fnuz,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// Half precision.
    F16,
    /// Brain float: the upper half of single precision.
    BF16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Single precision.
    F32,
    /// Complex of two singles.
    C64,
    /// Double precision.
    F64,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 64-bit integer.
    U64,
}

/// Every type with the name in the file and its bits.
const DTYPES: &[(Dtype, &str, u64)] = &[
    (Dtype::Bool, "BOOL", 8),
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2M3, "F6_E2M3", 6),
    (Dtype::F6E3M2, "F6_E3M2", 6),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5M2, "F8_E5M2", 8),
    (Dtype::F8E4M3, "F8_E4M3", 8),
    (Dtype::F8E8M0, "F8_E8M0", 8),
    (Dtype::F8E4M3Fnuz, "F8_E4M3FNUZ", 8),
    (Dtype::F8E5M2Fnuz, "F8_E5M2FNUZ", 8),
    (Dtype::I16, "I16", 16),
    (Dtype::U16, "U16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::BF16, "BF16", 16),
    (Dtype::I32, "I32", 32),
    (Dtype::U32, "U32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::C64, "C64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::I64, "I64", 64),
    (Dtype::U64, "U64", 64),
];

impl Dtype {
    /// The type with this name in a file.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        DTYPES.iter().find(|(_, text, _)| *text == name).map(|(dtype, _, _)| *dtype)
    }

    fn row(self) -> &'static (Self, &'static str, u64) {
        // Every variant is in the table; a test counts them.
        DTYPES.iter().find(|(dtype, _, _)| *dtype == self).unwrap_or(&DTYPES[0])
    }

    /// Its name in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Bits of one element.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.row().2
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions; none for a single number.
    pub shape: Vec<u64>,
    /// Where its bytes begin, counted from the end of the header.
    pub begin: u64,
    /// Where they end.
    pub end: u64,
}

impl Tensor {
    /// How many elements it has.
    #[must_use]
    pub fn elements(&self) -> u64 {
        // Checked when the header was read.
        self.shape.iter().product()
    }

    /// Bytes of it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.begin
    }
}

/// The header of a file, proved well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes.
    pub tensors: Vec<Tensor>,
    /// Free text.
    pub metadata: BTreeMap<String, String>,
    /// Bytes of the header without its length.
    pub header_bytes: u64,
    /// Whether every tensor begins at a multiple of [`ALIGNMENT_BYTES`] in the file. Only noted.
    pub is_aligned: bool,
}

impl Header {
    /// Bytes of the header of a file of `file_bytes` that begins with these bytes.
    ///
    /// # Errors
    /// When they cannot be the beginning of such a file.
    pub fn length(first: [u8; 8], file_bytes: u64) -> Result<u64, Malformed> {
        let bytes = u64::from_le_bytes(first);
        if bytes > HEADER_BYTES_MAX {
            return Err(Malformed::HeaderLong { bytes });
        }
        let needed = LENGTH_BYTES + bytes.max(2);
        if file_bytes < needed || bytes < 2 {
            return Err(Malformed::Short { bytes: file_bytes, needed });
        }
        Ok(bytes)
    }

    /// Reads the header, given without its length, of a file of `file_bytes`.
    ///
    /// # Errors
    /// The first rule of the format that is broken.
    pub fn parse(json: &[u8], file_bytes: u64) -> Result<Self, Malformed> {
        let header_bytes = json.len() as u64;
        if header_bytes > HEADER_BYTES_MAX {
            return Err(Malformed::HeaderLong { bytes: header_bytes });
        }
        if json.first() != Some(&b'{') {
            return Err(Malformed::Start);
        }
        let members: Members =
            serde_json::from_slice(json).map_err(|source| Malformed::Json { why: source.to_string() })?;
        let mut tensors = Vec::with_capacity(members.tensors.len());
        for (name, entry) in members.tensors {
            tensors.push(entry.checked(name)?);
        }
        if tensors.len() > TENSORS_MAX {
            return Err(Malformed::TensorsMany);
        }
        tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
        check_cover(&tensors, LENGTH_BYTES + header_bytes, file_bytes)?;
        let data = LENGTH_BYTES + header_bytes;
        let is_aligned = tensors.iter().all(|tensor| (data + tensor.begin).is_multiple_of(ALIGNMENT_BYTES));
        Ok(Self { tensors, metadata: members.metadata, header_bytes, is_aligned })
    }

    /// Where the data begins in the file.
    #[must_use]
    pub const fn data_begin(&self) -> u64 {
        LENGTH_BYTES + self.header_bytes
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |last| last.end)
    }
}

/// No overlap, no hole, nothing behind the last tensor.
fn check_cover(tensors: &[Tensor], data_begin: u64, file_bytes: u64) -> Result<(), Malformed> {
    let mut expected = 0;
    for tensor in tensors {
        if tensor.begin != expected {
            return Err(Malformed::Gap { name: tensor.name.clone(), begin: tensor.begin, expected });
        }
        expected = tensor.end;
    }
    let end = data_begin.saturating_add(expected);
    if end != file_bytes { Err(Malformed::End { tensors: end, file: file_bytes }) } else { Ok(()) }
}

/// A tensor as the header names it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl Entry {
    fn checked(self, name: String) -> Result<Tensor, Malformed> {
        let Self { dtype, shape: Shape(shape), data_offsets: (begin, end) } = self;
        let dtype = Dtype::parse(&dtype).ok_or_else(|| Malformed::Json {
            why: format!("tensor {name} is of the unknown type {}", dtype.chars().take(32).collect::<String>()),
        })?;
        if end < begin {
            return Err(Malformed::Backwards { name, begin, end });
        }
        let bits = shape.iter().try_fold(dtype.bits(), |product, size| product.checked_mul(*size));
        let needed = match bits {
            Some(bits) if bits.is_multiple_of(8) => Ok(bits / 8),
            Some(bits) => Err(format!("{bits} bits, no whole number of bytes")),
            None => Err("more than can be counted".to_owned()),
        };
        if needed != Ok(end - begin) {
            let needed = needed.map_or_else(|why| why, |bytes| bytes.to_string());
            return Err(Malformed::Span { name, dtype, shape, found: end - begin, needed });
        }
        Ok(Tensor { name, dtype, shape, begin, end })
    }
}

/// Dimensions, bounded while they are read.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {RANK_MAX} sizes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = list.next_element()? {
                    if sizes.len() == RANK_MAX {
                        return Err(A::Error::custom(format!("more than {RANK_MAX} dimensions")));
                    }
                    sizes.push(size);
                }
                Ok(Shape(sizes))
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

/// The members of the header, none of them twice.
struct Members {
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members { tensors: BTreeMap::new(), metadata: BTreeMap::new() };
                let mut has_metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() > NAME_BYTES_MAX {
                        return Err(A::Error::custom(format!("a name of {} bytes", name.len())));
                    }
                    let is_again = if name == METADATA {
                        members.metadata = map.next_value::<Texts>()?.0;
                        std::mem::replace(&mut has_metadata, true)
                    } else {
                        if members.tensors.len() == TENSORS_MAX {
                            return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
                        }
                        let entry = map.next_value::<Entry>()?;
                        members.tensors.insert(name.clone(), entry).is_some()
                    };
                    if is_again {
                        return Err(A::Error::custom(format!("`{name}` stands twice")));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Free text by name, none of it twice.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, text)) = map.next_entry::<String, String>()? {
                    if texts.insert(name.clone(), text).is_some() {
                        return Err(A::Error::custom(format!("`{name}` stands twice in the metadata")));
                    }
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;

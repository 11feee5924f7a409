//! Commitments as the chain holds them: up to three fields of a hotkey in a subnet.
//!
//! Owns the kinds of field and their limits. Refuses to know what a field means: `sealed` reads ours. Doors and the
//! miner verbs use it.

use parity_scale_codec::{Compact, Decode, Encode};
use scale_value::{Composite, Value, ValueDef};

use super::Account;

/// Fields of one commitment: the chain's own constant.
pub const FIELDS_MAX: usize = 3;
/// Bytes of a raw field.
const RAW_BYTES: usize = 128;
/// Bytes of a big raw field.
const BIG_RAW_BYTES: usize = 512;
/// Bytes of a time-locked field.
const TIMELOCK_BYTES: usize = 1024;

/// A field that the chain would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Longer than its kind allows.
    #[error("a {kind} field holds at most {limit} bytes, not {given}")]
    Long {
        /// The kind of field.
        kind: &'static str,
        /// The chain's limit.
        limit: usize,
        /// What was given.
        given: usize,
    },
    /// A kind that no caller may set.
    #[error("a field of kind {kind} cannot be written")]
    ReadOnly {
        /// The kind of field.
        kind: String,
    },
    /// Bytes that are no field.
    #[error("the bytes are no commitment field")]
    Bytes,
}

/// One field of a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Nothing.
    None,
    /// At most 128 bytes, whose length is part of the kind.
    Raw(Vec<u8>),
    /// A Blake2-256 hash.
    BlakeTwo256([u8; 32]),
    /// A SHA-256 hash.
    Sha256([u8; 32]),
    /// A Keccak-256 hash.
    Keccak256([u8; 32]),
    /// A SHA3-256 hash.
    ShaThree256([u8; 32]),
    /// Text that the chain itself opens when the beacon's round is published.
    TimelockEncrypted {
        /// The ciphertext, at most 1024 bytes.
        encrypted: Vec<u8>,
        /// The beacon's round.
        reveal_round: u64,
    },
    /// Asks the chain to reset the neuron's bonds.
    ResetBondsFlag,
    /// At most 512 bytes with a length prefix.
    BigRaw(Vec<u8>),
    /// A kind that this binary can read past but neither understand nor write, such as a failed time lock.
    Other(String),
}

impl Field {
    /// A text field, in the smaller of the two raw kinds that holds it.
    ///
    /// # Errors
    /// When the text is longer than the chain takes.
    pub fn text(text: &str) -> Result<Self, FieldError> {
        let bytes = text.as_bytes().to_vec();
        match bytes.len() {
            0..=RAW_BYTES => Ok(Self::Raw(bytes)),
            129..=BIG_RAW_BYTES => Ok(Self::BigRaw(bytes)),
            given => Err(FieldError::Long { kind: "BigRaw", limit: BIG_RAW_BYTES, given }),
        }
    }

    /// The field's text, when it is a raw field of valid UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Raw(bytes) | Self::BigRaw(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The field's bytes as they stand in a commitment.
    ///
    /// # Errors
    /// When the field is longer than the chain takes, or of a kind that cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, FieldError> {
        let tagged = |tag: u8, rest: &[u8]| [&[tag], rest].concat();
        Ok(match self {
            Self::None => vec![0],
            Self::Raw(bytes) => {
                bounded("Raw", bytes, RAW_BYTES)?;
                // At most 128, so that the tag fits its byte.
                tagged(1 + u8::try_from(bytes.len()).unwrap_or(u8::MAX - 1), bytes)
            }
            Self::BlakeTwo256(hash) => tagged(130, hash),
            Self::Sha256(hash) => tagged(131, hash),
            Self::Keccak256(hash) => tagged(132, hash),
            Self::ShaThree256(hash) => tagged(133, hash),
            Self::TimelockEncrypted { encrypted, reveal_round } => {
                bounded("TimelockEncrypted", encrypted, TIMELOCK_BYTES)?;
                tagged(134, &(encrypted, reveal_round).encode())
            }
            Self::ResetBondsFlag => vec![135],
            Self::BigRaw(bytes) => {
                bounded("BigRaw", bytes, BIG_RAW_BYTES)?;
                tagged(136, &bytes.encode())
            }
            Self::Other(kind) => return Err(FieldError::ReadOnly { kind: kind.clone() }),
        })
    }

    /// Reads one field from the front of the bytes.
    ///
    /// # Errors
    /// When they are no field, or one that breaks the chain's limits.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, FieldError> {
        let tag = take(bytes, 1)?[0];
        Ok(match tag {
            0 => Self::None,
            1..=129 => Self::Raw(take(bytes, usize::from(tag) - 1)?.to_vec()),
            130 => Self::BlakeTwo256(take_hash(bytes)?),
            131 => Self::Sha256(take_hash(bytes)?),
            132 => Self::Keccak256(take_hash(bytes)?),
            133 => Self::ShaThree256(take_hash(bytes)?),
            134 | 137 => {
                let encrypted = take_long(bytes, TIMELOCK_BYTES)?;
                let reveal_round = u64::decode(bytes).map_err(|_source| FieldError::Bytes)?;
                if tag == 137 {
                    return Ok(Self::Other("TimelockRevealFailed".to_owned()));
                }
                Self::TimelockEncrypted { encrypted, reveal_round }
            }
            135 => Self::ResetBondsFlag,
            136 => Self::BigRaw(take_long(bytes, BIG_RAW_BYTES)?),
            _ => return Err(FieldError::Bytes),
        })
    }

    /// Bytes that the field counts for in the chain's space accounting.
    #[must_use]
    pub const fn space_bytes(&self) -> usize {
        match self {
            Self::None | Self::ResetBondsFlag | Self::Other(_) => 0,
            Self::Raw(bytes) | Self::BigRaw(bytes) => bytes.len(),
            Self::BlakeTwo256(_) | Self::Sha256(_) | Self::Keccak256(_) | Self::ShaThree256(_) => 32,
            Self::TimelockEncrypted { encrypted, .. } => encrypted.len(),
        }
    }

    /// The kind's name, as the chain has it.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Raw(_) => "Raw",
            Self::BlakeTwo256(_) => "BlakeTwo256",
            Self::Sha256(_) => "Sha256",
            Self::Keccak256(_) => "Keccak256",
            Self::ShaThree256(_) => "ShaThree256",
            Self::TimelockEncrypted { .. } => "TimelockEncrypted",
            Self::ResetBondsFlag => "ResetBondsFlag",
            Self::BigRaw(_) => "BigRaw",
            Self::Other(kind) => kind,
        }
    }

    /// What the field holds: bytes, a hash or a ciphertext.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        match self {
            Self::Raw(bytes) | Self::BigRaw(bytes) => bytes,
            Self::BlakeTwo256(hash) | Self::Sha256(hash) | Self::Keccak256(hash) | Self::ShaThree256(hash) => hash,
            Self::TimelockEncrypted { encrypted, .. } => encrypted,
            Self::None | Self::ResetBondsFlag | Self::Other(_) => &[],
        }
    }

    /// The field as a value that the metadata's type encodes.
    pub(super) fn to_value(&self) -> Value {
        let bytes_of = |bytes: &[u8]| [Value::from_bytes(bytes)];
        match self {
            Self::None => Value::unnamed_variant("None", []),
            Self::Raw(bytes) => Value::unnamed_variant(format!("Raw{}", bytes.len()), bytes_of(bytes)),
            Self::BlakeTwo256(hash) => Value::unnamed_variant("BlakeTwo256", bytes_of(hash)),
            Self::Sha256(hash) => Value::unnamed_variant("Sha256", bytes_of(hash)),
            Self::Keccak256(hash) => Value::unnamed_variant("Keccak256", bytes_of(hash)),
            Self::ShaThree256(hash) => Value::unnamed_variant("ShaThree256", bytes_of(hash)),
            Self::TimelockEncrypted { encrypted, reveal_round } => Value::named_variant(
                "TimelockEncrypted",
                [("encrypted", Value::from_bytes(encrypted)), ("reveal_round", Value::u128(u128::from(*reveal_round)))],
            ),
            Self::ResetBondsFlag => Value::unnamed_variant("ResetBondsFlag", []),
            Self::BigRaw(bytes) => Value::unnamed_variant("BigRaw", bytes_of(bytes)),
            Self::Other(kind) => Value::unnamed_variant(kind.clone(), []),
        }
    }

    /// The field behind a value that was decoded by the metadata's type; kinds that are new to us become `Other`.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let ValueDef::Variant(variant) = &value.value else { return None };
        let only = || bytes_of_value(variant.values.values().next()?);
        let hash = || only()?.try_into().ok();
        let name = variant.name.as_str();
        Some(match name {
            "None" => Self::None,
            "BlakeTwo256" => Self::BlakeTwo256(hash()?),
            "Sha256" => Self::Sha256(hash()?),
            "Keccak256" => Self::Keccak256(hash()?),
            "ShaThree256" => Self::ShaThree256(hash()?),
            "ResetBondsFlag" => Self::ResetBondsFlag,
            "BigRaw" => Self::BigRaw(only()?),
            "TimelockEncrypted" => Self::TimelockEncrypted {
                encrypted: only()?,
                reveal_round: variant.values.values().nth(1)?.as_u128()?.try_into().ok()?,
            },
            raw if raw.strip_prefix("Raw").is_some_and(|digits| digits.parse::<u8>().is_ok()) => Self::Raw(only()?),
            other => Self::Other(other.to_owned()),
        })
    }
}

/// The bytes of a decoded value, through any wrappers of a single field.
fn bytes_of_value(value: &Value) -> Option<Vec<u8>> {
    let ValueDef::Composite(composite) = &value.value else { return None };
    let inner: Vec<&Value> = match composite {
        Composite::Unnamed(values) => values.iter().collect(),
        Composite::Named(fields) => fields.iter().map(|(_, field)| field).collect(),
    };
    if let [only] = inner.as_slice()
        && matches!(only.value, ValueDef::Composite(_))
    {
        return bytes_of_value(only);
    }
    inner.iter().map(|byte| byte.as_u128().and_then(|number| u8::try_from(number).ok())).collect()
}

fn bounded(kind: &'static str, bytes: &[u8], limit: usize) -> Result<(), FieldError> {
    if bytes.len() > limit {
        return Err(FieldError::Long { kind, limit, given: bytes.len() });
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], FieldError> {
    let (front, rest) = bytes.split_at_checked(count).ok_or(FieldError::Bytes)?;
    *bytes = rest;
    Ok(front)
}

fn take_hash(bytes: &mut &[u8]) -> Result<[u8; 32], FieldError> {
    take(bytes, 32)?.try_into().map_err(|_source| FieldError::Bytes)
}

fn take_long(bytes: &mut &[u8], limit: usize) -> Result<Vec<u8>, FieldError> {
    let Compact(count) = Compact::<u32>::decode(bytes).map_err(|_source| FieldError::Bytes)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= limit).ok_or(FieldError::Bytes)?;
    Ok(take(bytes, count)?.to_vec())
}

/// A commitment that was made in a certain block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCommitment {
    /// Who committed.
    pub hotkey: Account,
    /// In which block.
    pub block: u64,
    /// By which extrinsic of it: the last one, when the hotkey committed several times in the block.
    pub extrinsic_index: u32,
    /// What stands after the block.
    pub fields: Vec<Field>,
}

/// A commitment as state holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommitment {
    /// Who committed. The entry stays when the hotkey leaves the subnet: join it with the present metagraph.
    pub hotkey: Account,
    /// The block of the last commitment. That a field was there earlier is not visible in state.
    pub block: u64,
    /// The fields.
    pub fields: Vec<Field>,
}

/// A time-locked field that the chain itself has opened. The chain keeps the last ten of a hotkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevealedCommitment {
    /// Who committed. The entry stays when the hotkey leaves the subnet.
    pub hotkey: Account,
    /// The block at whose beginning the chain opened it, before any extrinsic; not the one of the commitment.
    pub block: u64,
    /// What was locked, as it stands in state: with the length that clients write before it.
    pub bytes: Vec<u8>,
}

impl RevealedCommitment {
    /// What was locked, without the length that clients write before it.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        without_length(&self.bytes)
    }
}

/// The bytes without the SCALE compact length before them, when there is one that is right. Public tools write it;
/// bytes that begin otherwise are left whole.
#[must_use]
pub fn without_length(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    match Compact::<u32>::decode(&mut rest) {
        Ok(Compact(count)) if usize::try_from(count).is_ok_and(|count| count == rest.len()) => rest,
        _ => bytes,
    }
}

/// What hexadecimal text begins with.
const HEX_MARK: &str = "0x";

/// Bytes as one text from which they can be had again: UTF-8 as it is, anything else, and text that looks like hex, in
/// hex.
#[must_use]
pub fn lossless_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(HEX_MARK) => text.to_owned(),
        _ => format!("{HEX_MARK}{}", hex::encode(bytes)),
    }
}

/// The texts that a payload may be meant as: its own, and, where that is hex, what the hex stands for. None for bytes
/// that are no text.
#[must_use]
pub fn readings(payload: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(payload) else { return Vec::new() };
    let inner = text.strip_prefix(HEX_MARK).and_then(|digits| hex::decode(digits).ok());
    let inner = inner.and_then(|bytes| String::from_utf8(without_length(&bytes).to_vec()).ok());
    std::iter::once(text.to_owned()).chain(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_before_a_payload_is_taken_off_only_when_it_is_right() {
        let of = |text: &[u8]| text.to_vec().encode();
        for text in [&b"v7|a/b|sha256:00"[..], &[b'x'; 64], &[b'y'; 1000], b"", &[0xff, 0xfe]] {
            assert_eq!(without_length(&of(text)), text);
        }
        for bare in [&b"v7|a/b|c"[..], b"{\"a\":1}", &[4], &[8, 1], &[4, 1, 2], &[0xff; 9]] {
            assert_eq!(without_length(bare), bare, "{bare:?}");
        }
    }

    #[test]
    fn no_payload_is_lost_on_its_way_into_text() {
        for (bytes, text) in [
            (&b"v7|a"[..], "v7|a"),
            ("größe".as_bytes(), "größe"),
            (b"0x00", "0x30783030"),
            (&[0xff, 0xfe], "0xfffe"),
            (b"", ""),
        ] {
            assert_eq!(lossless_text(bytes), text);
        }
        assert_eq!(readings(b"0x763771"), ["0x763771", "v7q"]);
        assert_eq!(readings(b"0x0c763771"), ["0x0c763771", "v7q"], "a length inside the hex");
        assert_eq!(readings(b"0xzz"), ["0xzz"]);
        assert_eq!(readings(&[0xff]), [] as [&str; 0]);
    }

    fn both_ways(field: &Field, expected_hex: &str) {
        let bytes = field.encode().unwrap();
        assert_eq!(hex::encode(&bytes), expected_hex);
        let mut rest = bytes.as_slice();
        assert_eq!(Field::decode(&mut rest), Ok(field.clone()));
        assert!(rest.is_empty());
    }

    #[test]
    fn fields_are_written_as_the_chain_writes_them() {
        both_ways(&Field::None, "00");
        both_ways(&Field::Raw(vec![]), "01");
        both_ways(&Field::Raw(b"abc".to_vec()), "04616263");
        both_ways(&Field::Raw(vec![7; 128]), &format!("81{}", "07".repeat(128)));
        both_ways(&Field::BlakeTwo256([1; 32]), &format!("82{}", "01".repeat(32)));
        both_ways(&Field::Sha256([2; 32]), &format!("83{}", "02".repeat(32)));
        both_ways(&Field::Keccak256([3; 32]), &format!("84{}", "03".repeat(32)));
        both_ways(&Field::ShaThree256([4; 32]), &format!("85{}", "04".repeat(32)));
        both_ways(&Field::TimelockEncrypted { encrypted: vec![9, 9], reveal_round: 258 }, "860809090201000000000000");
        both_ways(&Field::ResetBondsFlag, "87");
        both_ways(&Field::BigRaw(vec![5; 129]), &format!("880502{}", "05".repeat(129)));
    }

    #[test]
    fn limits_hold_at_the_edge() {
        assert!(Field::Raw(vec![0; 129]).encode().is_err());
        assert!(Field::BigRaw(vec![0; 512]).encode().is_ok());
        assert!(Field::BigRaw(vec![0; 513]).encode().is_err());
        assert!(Field::TimelockEncrypted { encrypted: vec![0; 1025], reveal_round: 1 }.encode().is_err());
        assert!(Field::Other("TimelockRevealFailed".into()).encode().is_err());
        assert_eq!(Field::text(&"x".repeat(128)), Ok(Field::Raw(vec![b'x'; 128])));
        assert_eq!(Field::text(&"x".repeat(129)), Ok(Field::BigRaw(vec![b'x'; 129])));
        assert!(Field::text(&"x".repeat(513)).is_err());
    }

    #[test]
    fn hostile_bytes_are_no_field() {
        for bytes in [&[][..], &[2], &[130, 1], &[138], &[255], &[136, 0xfe, 0xff, 0xff, 0xff], &[134, 4, 1, 0]] {
            assert_eq!(Field::decode(&mut &*bytes), Err(FieldError::Bytes), "{bytes:?}");
        }
        let mut failed = [&[137, 4, 1][..], &7_u64.to_le_bytes()].concat();
        assert_eq!(Field::decode(&mut failed.as_slice()), Ok(Field::Other("TimelockRevealFailed".into())));
        failed.truncate(5);
        assert_eq!(Field::decode(&mut failed.as_slice()), Err(FieldError::Bytes));
    }
}

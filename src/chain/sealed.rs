//! Sealed commitments: a field that names a challenge and hides what was committed until the upload reveals it.
//!
//! Owns the text form, its hash and the merging of fields of several challenges. Refuses to know who checks what:
//! doors compare a revealed digest and salt with the hash. Doors and the miner verbs use it.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::{
    Account, codes,
    commitment::{FIELDS_MAX, Field, FieldError},
};
use crate::{fault::Fault, ids::Digest};

/// What every sealed commitment begins with: domain and version.
const TAG: &str = "waag1";
/// Characters of a challenge's slug.
const SLUG_CHARS: usize = 31;
/// Characters of the longest sealed commitment: tag, slug, hash and two colons.
const TEXT_CHARS: usize = TAG.len() + 1 + SLUG_CHARS + 1 + 64;

/// The kind of field that the chain leaves behind when a time lock could not be opened.
const FAILED_LOCK: &str = "TimelockRevealFailed";

/// A challenge's short name: a lower-case letter or digit, then at most 30 of these or hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, SealError> {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let fits = bytes.len() <= SLUG_CHARS
            && bytes.first().is_some_and(|first| is_word(*first))
            && bytes.iter().all(|byte| is_word(*byte) || *byte == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(SealError::Slug) }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A commitment that cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The challenge's name is no slug.
    #[error("a challenge is named by 1 to {SLUG_CHARS} lower-case letters, digits and hyphens")]
    Slug,
    /// The text has another form.
    #[error("the text is not waag1:<challenge>:<64 lower-case hex digits>")]
    Form,
    /// All fields are taken by other challenges.
    #[error("the commitment has {FIELDS_MAX} fields of other challenges already")]
    Full,
    /// An existing field cannot be written again.
    #[error("an existing field of the commitment cannot be kept")]
    Field(#[from] FieldError),
}

impl SealError {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Full => codes::COMMITMENT_FULL.because(self.to_string()),
            Self::Field(source) => codes::COMMITMENT_UNKNOWN.because(format!("{self}: {source}")),
            Self::Slug | Self::Form => codes::COMMITMENT_MALFORMED.because(self.to_string()),
        }
    }
}

/// A sealed commitment: which challenge, and the hash that the upload must open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The challenge.
    pub challenge: Slug,
    /// The hash over chain, subnet, challenge, hotkey, artifact and salt.
    pub hash: Digest,
}

impl Sealed {
    /// Seals an artifact: the hash binds it to this chain, subnet, challenge and hotkey, so that a copied commitment
    /// opens for nobody, and the salt hides the artifact until it is revealed.
    #[must_use]
    pub fn new(
        genesis: &[u8; 32],
        netuid: u16,
        challenge: &Slug,
        hotkey: &Account,
        artifact: &Digest,
        salt: &[u8; 32],
    ) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(TAG);
        hasher.update(genesis);
        hasher.update(netuid.to_le_bytes());
        // A slug has at most 31 bytes, so that its length fits one.
        hasher.update([u8::try_from(challenge.0.len()).unwrap_or(u8::MAX)]);
        hasher.update(challenge.as_str());
        hasher.update(hotkey.0);
        hasher.update(artifact.0);
        hasher.update(salt);
        Self { challenge: challenge.clone(), hash: Digest(hasher.finalize().into()) }
    }

    /// Whether this artifact and salt are what the hotkey sealed.
    #[must_use]
    pub fn is_opened_by(
        &self,
        genesis: &[u8; 32],
        netuid: u16,
        hotkey: &Account,
        artifact: &Digest,
        salt: &[u8; 32],
    ) -> bool {
        Self::new(genesis, netuid, &self.challenge, hotkey, artifact, salt).hash == self.hash
    }

    /// The commitment as a field of the chain.
    #[must_use]
    pub fn field(&self) -> Field {
        Field::Raw(self.to_string().into_bytes())
    }

    /// The sealed commitment in a field, if it is one. Other people's fields are not an error: `None`.
    #[must_use]
    pub fn from_field(field: &Field) -> Option<Self> {
        field.as_text()?.parse().ok()
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TAG}:{}:{}", self.challenge, self.hash)
    }
}

impl FromStr for Sealed {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, SealError> {
        if text.len() > TEXT_CHARS {
            return Err(SealError::Form);
        }
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(TAG), Some(challenge), Some(hash), None) => {
                Ok(Self { challenge: challenge.parse()?, hash: hash.parse().map_err(|_source| SealError::Form)? })
            }
            _ => Err(SealError::Form),
        }
    }
}

/// The fields of the next commitment: the new seal for its challenge, and what the hotkey has committed for others.
///
/// # Errors
/// As [`merge_field`].
pub fn merge_fields(existing: &[Field], new: &Sealed) -> Result<Vec<Field>, SealError> {
    let is_replaced = |field: &Field| Sealed::from_field(field).is_some_and(|old| old.challenge == new.challenge);
    merge_field(existing, &new.field(), &is_replaced)
}

/// The fields of the next commitment: the new one in place of those that it replaces, and whatever else stands there.
/// The order of the kept fields does not change. Fields that are empty, one-time orders to the
/// chain, or marks that only the chain can set are dropped.
///
/// # Errors
/// When all places are taken by others, or one of them cannot be written again and would be lost.
pub fn merge_field(
    existing: &[Field],
    new: &Field,
    is_replaced: &dyn Fn(&Field) -> bool,
) -> Result<Vec<Field>, SealError> {
    let mut merged = Vec::new();
    let mut placed = false;
    for field in existing {
        let replaced = is_replaced(field);
        match field {
            Field::None | Field::ResetBondsFlag => {}
            // A mark that only the chain itself can set; every new commitment removes it, whoever sends it.
            Field::Other(kind) if kind == FAILED_LOCK => {}
            _ if replaced && placed => {}
            _ if replaced => {
                merged.push(new.clone());
                placed = true;
            }
            kept => {
                kept.encode()?;
                merged.push(kept.clone());
            }
        }
    }
    if !placed {
        merged.push(new.clone());
    }
    if merged.len() > FIELDS_MAX {
        return Err(SealError::Full);
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(text: &str) -> Slug {
        text.parse().unwrap()
    }

    fn sample(challenge: &str, salt: u8) -> Sealed {
        let hotkey = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty".parse().unwrap();
        Sealed::new(&[0x11; 32], 7, &slug(challenge), &hotkey, &Digest([0x22; 32]), &[salt; 32])
    }

    /// Computed independently in Python:
    /// ```python
    /// import hashlib
    /// hotkey = bytes.fromhex("8eaf04151687736326c9fea17e25fc5287613693c912909cb226aa4794f26a48")
    /// parts = [b"waag1", b"\x11"*32, (7).to_bytes(2, "little"), bytes([9]), b"gym-small", hotkey, b"\x22"*32, b"\x33"*32]
    /// print(hashlib.sha256(b"".join(parts)).hexdigest())
    /// ```
    #[test]
    fn the_hash_is_the_documented_one() {
        let sealed = sample("gym-small", 0x33);
        assert_eq!(sealed.hash.to_string(), "0871638434028df0bd7214253503f470d93fa37956990d4cdc631dc55685c1fe");
        assert_eq!(sealed.to_string(), format!("waag1:gym-small:{}", sealed.hash));
        assert_eq!(sealed.to_string().parse(), Ok(sealed));
    }

    #[test]
    fn every_input_changes_the_hash() {
        let base = sample("gym-small", 0x33);
        let hotkey: Account = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty".parse().unwrap();
        let make = |genesis: u8, netuid, challenge: &str, hotkey: &Account, artifact: u8, salt: u8| {
            let artifact = Digest([artifact; 32]);
            Sealed::new(&[genesis; 32], netuid, &slug(challenge), hotkey, &artifact, &[salt; 32]).hash
        };
        assert_eq!(make(0x11, 7, "gym-small", &hotkey, 0x22, 0x33), base.hash);
        assert!(base.is_opened_by(&[0x11; 32], 7, &hotkey, &Digest([0x22; 32]), &[0x33; 32]));
        assert!(!base.is_opened_by(&[0x11; 32], 7, &hotkey, &Digest([0x22; 32]), &[0x34; 32]));
        assert_ne!(make(0x12, 7, "gym-small", &hotkey, 0x22, 0x33), base.hash);
        assert_ne!(make(0x11, 8, "gym-small", &hotkey, 0x22, 0x33), base.hash);
        assert_ne!(make(0x11, 7, "gym-smal", &hotkey, 0x22, 0x33), base.hash);
        assert_ne!(make(0x11, 7, "gym-small", &crate::ids::Hotkey([1; 32]), 0x22, 0x33), base.hash);
        assert_ne!(make(0x11, 7, "gym-small", &hotkey, 0x23, 0x33), base.hash);
        assert_ne!(make(0x11, 7, "gym-small", &hotkey, 0x22, 0x34), base.hash);
    }

    #[test]
    fn only_the_exact_form_is_read() {
        let hash = "ab".repeat(32);
        assert!(format!("waag1:a:{hash}").parse::<Sealed>().is_ok());
        assert!(format!("waag1:{}:{hash}", "a".repeat(31)).parse::<Sealed>().is_ok());
        for wrong in [
            format!("waag2:a:{hash}"),
            format!("waag1:{}:{hash}", "a".repeat(32)),
            format!("waag1::{hash}"),
            format!("waag1:-a:{hash}"),
            format!("waag1:A:{hash}"),
            format!("waag1:a_b:{hash}"),
            format!("waag1:a:{}", hash.to_uppercase()),
            format!("waag1:a:{}", &hash[1..]),
            format!("waag1:a:0x{hash}"),
            format!("waag1:a:{hash}:"),
            format!("waag1:a:{hash} "),
            String::new(),
            "x".repeat(100_000),
        ] {
            assert!(wrong.parse::<Sealed>().is_err(), "{wrong}");
        }
        assert_eq!(Sealed::from_field(&Field::Sha256([0; 32])), None);
        assert_eq!(Sealed::from_field(&Field::Raw(vec![0xff, 0xfe])), None);
    }

    #[test]
    fn a_new_field_keeps_the_others() {
        let (first, second, third) = (sample("one", 1), sample("two", 2), sample("three", 3));
        let foreign = Field::Raw(b"somebody's own".to_vec());
        let two = merge_fields(&[first.field(), foreign.clone()], &second).unwrap();
        assert_eq!(two, [first.field(), foreign.clone(), second.field()]);
        assert_eq!(merge_fields(&two, &third), Err(SealError::Full));
        let replaced = merge_fields(&two, &sample("one", 9)).unwrap();
        assert_eq!(replaced, [sample("one", 9).field(), foreign, second.field()]);
        // Leftovers and duplicates make room.
        let cleaned = merge_fields(&[Field::None, first.field(), first.field()], &sample("one", 9)).unwrap();
        assert_eq!(cleaned, [sample("one", 9).field()]);
        assert_eq!(merge_fields(&[], &first), Ok(vec![first.field()]));
        let failed = Field::Other(FAILED_LOCK.into());
        assert_eq!(merge_fields(&[failed], &first), Ok(vec![first.field()]));
        let lost = merge_fields(&[Field::Other("Brand New".into())], &first).unwrap_err();
        assert_eq!(lost.fault().code, "commitment_field_unknown");
    }
}

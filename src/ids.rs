//! Names of things: typed row numbers, content digests, and the port for randomness.
//!
//! Owns how an id is written and read (`s12`, `r3`, `j40`) and where random bytes come from. Refuses to know what
//! the things are. Every room may use it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// An id that is not of the form it should have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {wanted}")]
pub struct ParseError {
    given: String,
    wanted: &'static str,
}

impl ParseError {
    fn new(given: &str, wanted: &'static str) -> Self {
        // Bounded: the text comes from outside and is printed.
        Self { given: given.chars().take(80).collect(), wanted }
    }
}

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let digits = text.strip_prefix($letter).unwrap_or(text);
                let canonical = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                digits
                    .parse()
                    .ok()
                    .filter(|_| canonical)
                    .map(Self)
                    .ok_or_else(|| ParseError::new(text, concat!("an id such as ", $letter, "12")))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }
    };
}

row_id!(
    /// One miner's artifact in one challenge.
    SubmissionId, "s"
);
row_id!(
    /// A frozen set of contestants.
    RunId, "r"
);
row_id!(
    /// The smallest leasable unit of evaluation.
    JobId, "j"
);

/// A SHA-256 content address, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The address of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first twelve hex digits, for tables.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut bytes = [0; 32];
        let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        hex::decode_to_slice(text, &mut bytes)
            .ok()
            .filter(|()| lower)
            .map(|()| Self(bytes))
            .ok_or_else(|| ParseError::new(text, "a SHA-256 digest of 64 lower-case hex digits"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

/// A hotkey: an sr25519 public key that names a miner or validator, written as SS58 (prefix 42).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hotkey(pub [u8; 32]);

impl Hotkey {
    /// The first six characters of the address, for tables.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(6).collect()
    }
}

impl fmt::Display for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", subxt::utils::AccountId32(self.0))
    }
}

impl fmt::Debug for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hotkey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wanted = "an SS58 address";
        if text.len() > crate::limits::SS58_CHARS {
            return Err(ParseError::new(text, wanted));
        }
        subxt::utils::AccountId32::from_str(text)
            .map(|account| Self(account.0))
            .map_err(|_source| ParseError::new(text, wanted))
    }
}

impl From<Hotkey> for String {
    fn from(hotkey: Hotkey) -> Self {
        hotkey.to_string()
    }
}

impl TryFrom<String> for Hotkey {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

/// When a claim was first made on chain. The smaller one is the earlier and owns what both claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Priority {
    /// The block in which it was first seen.
    pub block: u64,
    /// The index of its extrinsic within that block.
    pub index: u32,
}

/// Where random bytes come from: the operating system in production, a seed in a simulated world.
pub trait Entropy: Send + Sync {
    /// Fills the slice with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Random bytes of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness no key or salt is safe, so there is nothing sensible left to do.
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

/// Thirty-two random bytes.
#[must_use]
pub fn random_32(entropy: &dyn Entropy) -> [u8; 32] {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_write() {
        assert_eq!("s12".parse(), Ok(SubmissionId(12)));
        assert_eq!("12".parse(), Ok(SubmissionId(12)));
        for wrong in ["", "s", "r12", "s-1", "s+1", "s1 ", "s99999999999999999999"] {
            assert!(wrong.parse::<SubmissionId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_is_lower_case_hex() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }
}

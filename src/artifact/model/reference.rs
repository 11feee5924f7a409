//! References: which model is meant, as it is committed on chain.
//!
//! Owns the grammar of `repository@digest` and the challenge's pattern for names. Refuses to know where the repository
//! is. Doors, checks and the miner verbs parse with it.

use std::{fmt, str::FromStr};

use regex::Regex;
use serde_json::json;

use super::{Rejection, codes};

/// Characters of a repository's name: what registries take.
const REPO_CHARS_MAX: usize = 255;
/// Bytes that a compiled pattern may take: far more than any name needs.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// A model as it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    repo: String,
    revision: Revision,
}

/// Which state of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revision {
    /// The SHA-256 of an image manifest.
    Sha256([u8; 32]),
    /// A commit of a hub's git repository: 20 or 32 bytes in hex.
    Commit(String),
}

impl Reference {
    /// Reads repository and digest as they stand in a commitment.
    ///
    /// # Errors
    /// [`codes::INVALID_REF`], naming what is wrong.
    pub fn new(repo: &str, digest: &str) -> Result<Self, Rejection> {
        let refused =
            |why: &str| Rejection::new(codes::INVALID_REF, why, json!({"repo": cut(repo), "digest": cut(digest)}));
        if !is_repo(repo) {
            return Err(refused("the repository is not `namespace/name` in lower case"));
        }
        let revision =
            Revision::parse(digest).ok_or_else(|| refused("the digest is not `sha256:` and 64 hex digits"))?;
        Ok(Self { repo: repo.to_owned(), revision })
    }

    /// The repository, `namespace/name`.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// Which state of it.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)
    }
}

impl Revision {
    fn parse(text: &str) -> Option<Self> {
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match text.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && is_hex(digits) => {
                let mut digest = [0; 32];
                for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Self::Sha256(digest))
            }
            None if matches!(text.len(), 40 | 64) && is_hex(text) => Some(Self::Commit(text.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => {
                f.write_str("sha256:")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Commit(digits) => f.write_str(digits),
        }
    }
}

/// `[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._/-]*`, without the parts that a path would climb by.
fn is_repo(text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let is_name = |part: &str, extra: &[u8]| {
        part.bytes().next().is_some_and(is_plain) && part.bytes().all(|byte| is_plain(byte) || extra.contains(&byte))
    };
    text.len() <= REPO_CHARS_MAX
        && text.split_once('/').is_some_and(|(space, name)| is_name(space, b"._-") && is_name(name, b"._/-"))
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// The challenge's pattern for repositories.
#[derive(Debug, Clone)]
pub struct Naming(Regex);

impl FromStr for Naming {
    type Err = String;

    /// A regular expression that the whole name must match.
    fn from_str(pattern: &str) -> Result<Self, String> {
        let whole = format!("^(?:{pattern})$");
        let regex = regex::RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).build();
        // The reader draws a picture over several lines and says on the last one what is wrong.
        regex.map(Self).map_err(|source| source.to_string().lines().last().unwrap_or_default().to_owned())
    }
}

impl Naming {
    /// # Errors
    /// [`codes::REPO_NAMING`] when the name is another.
    pub fn check(&self, reference: &Reference) -> Result<(), Rejection> {
        if self.0.is_match(reference.repo()) {
            return Ok(());
        }
        let why = format!("`{}` does not match", reference.repo());
        Err(Rejection::new(codes::REPO_NAMING, why, json!({"repo": reference.repo(), "pattern": self.0.as_str()})))
    }
}

/// What is repeated of a text that may be anything.
fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_strict() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let reference = Reference::new("alice/model-v1", &digest).unwrap();
        assert_eq!(reference.to_string(), format!("alice/model-v1@{digest}"));
        assert!(Reference::new("a/b/c.d_e-f", &digest).is_ok());
        assert!(Reference::new("a/b", &"0f".repeat(20)).is_ok());
        assert!(Reference::new("a/b", &"0f".repeat(32)).is_ok());
        for repo in
            ["", "a", "/b", "a/", "A/b", "a/B", "-a/b", "a/-b", "a/../b", "a/b/./c", "a//b", "a/b c", "a/b\n", "ä/b"]
        {
            let refused = Reference::new(repo, &digest).unwrap_err();
            assert_eq!(refused.code.name, "invalid_ref", "{repo}");
        }
        assert!(Reference::new(&format!("a/{}", "b".repeat(253)), &digest).is_ok());
        assert!(Reference::new(&format!("a/{}", "b".repeat(254)), &digest).is_err());
        let wrong = ["", "sha256:", &digest.to_uppercase(), &digest[..70], &format!("{digest}0"), &"0".repeat(39)];
        for digest in wrong {
            assert!(Reference::new("a/b", digest).is_err(), "{digest}");
        }
    }

    #[test]
    fn names_match_as_a_whole() {
        let naming: Naming = r"[^/]+/waag-demo-.+".parse().unwrap();
        let of = |repo: &str| Reference::new(repo, &"0".repeat(40)).unwrap();
        assert!(naming.check(&of("alice/waag-demo-1")).is_ok());
        for other in ["alice/waag-demo-", "alice/x-waag-demo-1", "alice/waag-dem0-1"] {
            assert_eq!(naming.check(&of(other)).unwrap_err().code.name, "repo_naming", "{other}");
        }
        assert!("(".parse::<Naming>().is_err());
        assert!("(a{1000}){1000}".parse::<Naming>().is_err());
    }
}

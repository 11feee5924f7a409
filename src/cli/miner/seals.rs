//! The salts of sealed commitments, kept in a file beside the artifact: without its salt a commitment opens for nobody.
//!
//! Owns that file. It is written before anything is sent, readable by its owner alone, and entries are never removed,
//! so that whatever the chain holds can be opened. Only this room uses it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    chain::{Account, PaymentName, Signed, Slug},
    fault::{Class, Code, Fault},
    ids::{Digest, Entropy, random_32},
};

/// What is appended to the artifact's file name.
const SUFFIX: &str = ".waag-salt.json";
/// The one format there is.
const FORMAT: u32 = 1;
/// Bytes of the file: some thousand commitments of one path.
const FILE_BYTES: u64 = 1024 * 1024;

/// The file with the salts cannot be used.
pub const SEALS_UNUSABLE: Code = Code::new(
    Class::Operator,
    "salt_file_unusable",
    "the file that keeps the salt beside the artifact cannot be read or written",
    "mend or move the file; without the salt in it a commitment cannot be opened",
);

/// One commitment's secret and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The chain, by its genesis hash.
    pub genesis: Digest,
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: String,
    /// Who commits.
    pub hotkey: Account,
    /// SHA-256 of the artifact.
    pub artifact: Digest,
    /// The salt in hex.
    pub salt: String,
    /// The signed extrinsic, while it is not known to be final, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// The finalized block that holds the commitment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// The signed transfer that pays for the upload, while it is not known to be final, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paying: Option<String>,
    /// What was paid for the upload. It is good until an upload with it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentName>,
}

impl Seal {
    /// The salt's bytes.
    ///
    /// # Errors
    /// When somebody has edited the file.
    pub fn salt_bytes(&self) -> Result<[u8; 32], Fault> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.salt, &mut bytes)
            .map_err(|source| SEALS_UNUSABLE.because(format!("a salt is not 32 bytes of hex: {source}")))?;
        Ok(bytes)
    }

    /// The extrinsic that was sent and is not known to be final.
    #[must_use]
    pub fn pending(&self) -> Option<Signed> {
        Signed::decode(&hex::decode(self.signed.as_deref()?).ok()?)
    }

    /// The transfer that was sent and is not known to be final.
    #[must_use]
    pub fn pending_payment(&self) -> Option<Signed> {
        Signed::decode(&hex::decode(self.paying.as_deref()?).ok()?)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    seals: Vec<Seal>,
}

/// What a seal is for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The chain.
    pub genesis: &'a [u8; 32],
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: &'a Slug,
    /// Who commits.
    pub hotkey: Account,
    /// SHA-256 of the artifact.
    pub artifact: Digest,
}

impl Subject<'_> {
    fn is_of(&self, seal: &Seal) -> bool {
        seal.genesis.0 == *self.genesis
            && seal.netuid == self.netuid
            && seal.challenge == self.challenge.as_str()
            && seal.hotkey == self.hotkey
            && seal.artifact == self.artifact
    }
}

/// The seals of one artifact's path.
#[derive(Debug)]
pub struct Seals {
    path: PathBuf,
    seals: Vec<Seal>,
}

impl Seals {
    /// The file beside this artifact.
    #[must_use]
    pub fn path_of(artifact: &Path) -> PathBuf {
        let mut name = artifact.as_os_str().to_owned();
        name.push(SUFFIX);
        name.into()
    }

    /// Reads the seals of this artifact's path; none when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read. It is never overwritten then.
    pub fn open(artifact: &Path) -> Result<Self, Fault> {
        let path = Self::path_of(artifact);
        let unusable = |why: String| SEALS_UNUSABLE.because(format!("`{}`: {why}", path.display()));
        let mut text = String::new();
        match fs::File::open(&path) {
            Ok(file) => {
                file.take(FILE_BYTES).read_to_string(&mut text).map_err(|source| unusable(source.to_string()))?
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, seals: Vec::new() });
            }
            Err(source) => return Err(unusable(source.to_string())),
        };
        let content: Content = serde_json::from_str(&text).map_err(|source| unusable(source.to_string()))?;
        if content.format != FORMAT {
            return Err(unusable(format!("format {}; this program reads {FORMAT}", content.format)));
        }
        Ok(Self { path, seals: content.seals })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest seal of this subject.
    #[must_use]
    pub fn find(&self, subject: &Subject<'_>) -> Option<&Seal> {
        self.seals.iter().rev().find(|seal| subject.is_of(seal))
    }

    /// The seal of this subject; a new one is on disk before this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn find_or_make(&mut self, subject: &Subject<'_>, entropy: &dyn Entropy) -> Result<Seal, Fault> {
        match self.find(subject) {
            Some(seal) => Ok(seal.clone()),
            None => self.make(subject, entropy),
        }
    }

    /// A new seal of this subject, whatever others it has; it is on disk before this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn make(&mut self, subject: &Subject<'_>, entropy: &dyn Entropy) -> Result<Seal, Fault> {
        let seal = Seal {
            genesis: Digest(*subject.genesis),
            netuid: subject.netuid,
            challenge: subject.challenge.to_string(),
            hotkey: subject.hotkey,
            artifact: subject.artifact,
            salt: hex::encode(random_32(entropy)),
            signed: None,
            block: None,
            paying: None,
            // Paid for the same artifact and not used up, as far as is known here.
            payment: self.find(subject).and_then(|before| before.payment),
        };
        self.seals.push(seal.clone());
        self.write()?;
        Ok(seal)
    }

    /// Writes down how far a seal is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&mut self, changed: &Seal) -> Result<(), Fault> {
        for seal in self.seals.iter_mut().filter(|seal| seal.salt == changed.salt) {
            seal.clone_from(changed);
        }
        self.write()
    }

    /// Replaces the file in one step, so that a crash leaves the old or the new one.
    fn write(&self) -> Result<(), Fault> {
        let content = Content { format: FORMAT, seals: self.seals.clone() };
        let written = serde_json::to_vec_pretty(&content).map_err(std::io::Error::from).and_then(|text| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(".new");
            let beside = PathBuf::from(name);
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        });
        written.map_err(|source| SEALS_UNUSABLE.because(format!("`{}`: {source}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ids::{Hotkey, SystemEntropy};

    #[test]
    fn a_salt_is_on_disk_before_it_is_used_and_stays_there() {
        let dir = tempfile::tempdir().unwrap();
        let artifact = dir.path().join("policy.tar");
        let challenge: Slug = "gym".parse().unwrap();
        let subject = |artifact| Subject {
            genesis: &[1; 32],
            netuid: 2,
            challenge: &challenge,
            hotkey: Hotkey([3; 32]),
            artifact,
        };
        let first = Seals::open(&artifact).unwrap().find_or_make(&subject(Digest([4; 32])), &SystemEntropy).unwrap();
        let mode = fs::metadata(Seals::path_of(&artifact)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut again = Seals::open(&artifact).unwrap();
        assert_eq!(again.find_or_make(&subject(Digest([4; 32])), &SystemEntropy).unwrap(), first);
        let other = again.find_or_make(&subject(Digest([5; 32])), &SystemEntropy).unwrap();
        assert_ne!(other.salt, first.salt);
        again.keep(&Seal { block: Some(9), ..first.clone() }).unwrap();
        let anew = again.make(&subject(Digest([5; 32])), &SystemEntropy).unwrap();
        assert_ne!(anew.salt, other.salt);
        let other = anew;

        let kept = Seals::open(&artifact).unwrap();
        assert_eq!(kept.find(&subject(Digest([4; 32]))).unwrap().block, Some(9));
        assert_eq!(kept.find(&subject(Digest([5; 32]))), Some(&other));
        assert_eq!(kept.find(&Subject { netuid: 3, ..subject(Digest([5; 32])) }), None);
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let artifact = dir.path().join("policy.tar");
        for text in ["", "{}", r#"{"format":2,"seals":[]}"#, r#"{"format":1,"seals":[{"salt":"x"}]}"#] {
            fs::write(Seals::path_of(&artifact), text).unwrap();
            assert_eq!(Seals::open(&artifact).unwrap_err().code, "salt_file_unusable", "{text}");
            assert_eq!(fs::read_to_string(Seals::path_of(&artifact)).unwrap(), text);
        }
    }
}

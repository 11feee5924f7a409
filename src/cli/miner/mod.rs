//! What a miner does, as functions: register a hotkey, commit to an artifact, publish it.
//!
//! Owns the order of these acts and what must be written down between them, so that each can be begun again after any
//! interruption. Refuses to read settings, to ask questions or to print: the verbs do. The verbs call it, and so does
//! whatever plays miners; there is no other way in.

mod commit;
#[cfg(test)]
mod commit_tests;
mod foreign;
#[cfg(test)]
mod foreign_tests;
mod pay;
mod publish;
mod register;
mod seals;

use std::{fs::File, io::Read as _, path::Path};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use commit::{Commit, Committed, WRITE_LOST, commit, commit_sealed};
pub use foreign::{
    Foreign, LOCK_UNUSABLE, PARTS_WRONG, REVEAL_BLOCKS, Standing, commit_foreign, payload_of, until_opened,
};
pub use pay::Means;
pub use publish::{Publish, Published, is_paid, publish};
pub use register::{Quote, Registered, quote, register};
pub use seals::{SEALS_UNUSABLE, Seal, Seals, Subject};

use crate::{
    fault::{Class, Code, Fault},
    ids::Digest,
};

/// The artifact cannot be read.
pub const ARTIFACT_UNREADABLE: Code = Code::new(
    Class::Operator,
    "artifact_unreadable",
    "the artifact cannot be read",
    "give the path of a file made by `waag pack`",
);

/// The codes of this room.
pub const CODES: &[Code] = &[ARTIFACT_UNREADABLE, PARTS_WRONG, LOCK_UNUSABLE, WRITE_LOST, SEALS_UNUSABLE];

/// How far an act is. Told as it happens, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The artifact passed the checks on this machine.
    Checked,
    /// The salt is on disk.
    Sealed,
    /// A call was signed and is sent now.
    Sent {
        /// The extrinsic's hash.
        extrinsic: Digest,
    },
    /// The call stands in a block that can no longer be replaced.
    Final {
        /// The block.
        block: u64,
    },
    /// Nothing had to be done: it was done before.
    Already {
        /// What.
        what: String,
    },
    /// Bytes are on their way.
    Uploading {
        /// Sent so far.
        sent_bytes: u64,
        /// In all.
        total_bytes: u64,
    },
    /// The appliance asked to come again.
    Waiting {
        /// Its code.
        code: String,
        /// When, in milliseconds.
        after_ms: u64,
    },
    /// The appliance has taken the artifact.
    Accepted {
        /// The submission's id.
        submission: String,
    },
}

/// Who is told the steps.
pub type Watch<'a> = &'a (dyn Fn(&Step) + Send + Sync);

/// Size and SHA-256 of a file, read in pieces.
///
/// # Errors
/// `artifact_unreadable`.
pub fn digest_file(path: &Path) -> Result<(Digest, u64), Fault> {
    let unreadable = |source: std::io::Error| ARTIFACT_UNREADABLE.because(format!("`{}`: {source}", path.display()));
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    let mut bytes = 0_u64;
    loop {
        let read = file.read(&mut piece).map_err(unreadable)?;
        if read == 0 {
            return Ok((Digest(hasher.finalize().into()), bytes));
        }
        bytes += read as u64;
        hasher.update(&piece[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_digested_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let content = vec![7; 200_001];
        std::fs::write(&path, &content).unwrap();
        assert_eq!(digest_file(&path), Ok((Digest::of(&content), 200_001)));
        assert_eq!(digest_file(dir.path()).unwrap_err().code, "artifact_unreadable");
        assert_eq!(digest_file(&dir.path().join("b")).unwrap_err().code, "artifact_unreadable");
    }
}

//! What the checks need of a place where models are: a list of files, and parts of them.
//!
//! Owns the contract and its kinds of failure. Each source implements it; nothing here waits or reads.

use async_trait::async_trait;
use bytes::Bytes;

use super::files::FileEntry;

/// What a source could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no such repository, revision or file. Its miner's trouble.
    #[error("not found: {0}")]
    Missing(String),
    /// What is there is not of the form of a model's repository. Its miner's trouble.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The source answered a range with something else. The source's trouble: it cannot be used.
    #[error("the source ignores ranges: {0}")]
    NoRange(String),
    /// What came is not what its digest says. Nobody's until it is fetched again.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Our disk did not take it. Ours.
    #[error("the disk: {0}")]
    Disk(String),
    /// The operator's settings, or those of the profile, lead where this program may not go. The operator's.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The source knows us not, or not enough: name and password are missing, wrong, or good for something else.
    #[error("not allowed to us: {0}")]
    Denied(String),
    /// The source did not answer, or not usefully.
    #[error("{0}")]
    Failed(String),
}

/// One state of one repository. It does not change while it is looked at: its revision is a digest.
#[async_trait]
pub trait Repo: Send + Sync {
    /// What is shown for it.
    fn uri(&self) -> String;

    /// All of its files.
    ///
    /// # Errors
    /// [`Trouble`]; more than [`FILES_MAX`](super::files::FILES_MAX) files are `Failed` or cut there and refused later.
    async fn list(&self) -> Result<Vec<FileEntry>, Trouble>;

    /// Exactly these bytes of a file: `bytes` of them from `begin` on, fewer only where the file ends.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble>;
}

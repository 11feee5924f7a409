//! What the store can fail at, and the codes under which a person meets it.

use std::{error::Error as StdError, io, path::PathBuf};

use rusqlite::ErrorCode;

use crate::{
    fault::{Class, Code, Fault},
    ids::Digest,
};

/// Another instance works in this data directory.
pub const DATA_DIR_LOCKED: Code = Code::new(
    Class::Operator,
    "data_dir_locked",
    "another instance works in this data directory",
    "stop that process, or choose another directory with `--data-dir`",
);
/// The data directory cannot be made or written.
pub const DATA_DIR_UNWRITABLE: Code = Code::new(
    Class::Operator,
    "data_dir_unwritable",
    "the data directory cannot be written",
    "give this user write access to it, or choose another directory with `--data-dir`",
);
/// No space is left.
pub const DISK_FULL: Code = Code::new(
    Class::Infra,
    "disk_full",
    "the disk is full",
    "free some space; work goes on by itself, nothing is lost",
);
/// The disk or file system failed.
pub const DISK_FAILED: Code = Code::new(
    Class::Infra,
    "disk_failed",
    "the disk answered with an error",
    "look at the system's log; check the disk and the file system",
);
/// The database file is not a healthy SQLite database.
pub const DB_DAMAGED: Code = Code::new(
    Class::Operator,
    "db_damaged",
    "the database file is damaged or not a database",
    "restore a backup; the snapshots taken before migrations lie beside the file",
);
/// The database belongs to another program.
pub const DB_FOREIGN: Code = Code::new(
    Class::Operator,
    "db_foreign",
    "the database was made by another program",
    "choose another data directory",
);
/// The database was written by a newer version.
pub const DB_NEWER: Code = Code::new(
    Class::Operator,
    "db_newer",
    "the database was written by a newer version of this program",
    "run that version or a later one; migrations only go forward",
);
/// A migration that was applied is not the one this program carries.
pub const DB_MIGRATION_ALTERED: Code = Code::new(
    Class::Operator,
    "db_migration_altered",
    "the database was migrated by a different build of this version",
    "run the build that wrote it, or restore the snapshot taken before the migration",
);
/// A statement failed for a reason of ours.
pub const DB_FAILED: Code = Code::new(
    Class::Bug,
    "db_failed",
    "a database statement failed",
    "report it with the log; the transaction was rolled back",
);
/// A thread of the store ended.
pub const STORE_GONE: Code = Code::new(
    Class::Bug,
    "store_gone",
    "a part of the store has stopped",
    "report it with the log and restart; what was committed is safe",
);
/// The event log does not hash to what it says.
pub const EVENT_CHAIN_BROKEN: Code = Code::new(
    Class::Operator,
    "event_chain_broken",
    "the event log was altered outside this program",
    "compare with a backup; events before the named one are intact",
);
/// An event is larger than an event may be.
pub const EVENT_TOO_LARGE: Code =
    Code::new(Class::Bug, "event_too_large", "an event exceeds its limit", "report it with the log");
/// More bytes came than were allowed.
pub const BLOB_TOO_LARGE: Code = Code::new(
    Class::Miner,
    "blob_too_large",
    "the upload is larger than allowed",
    "make it smaller; the limit stands in the challenge's profile",
);
/// The sender broke off.
pub const BLOB_CUT_OFF: Code = Code::new(
    Class::Infra,
    "blob_cut_off",
    "the bytes stopped coming before their end",
    "send it again; nothing was kept",
);
/// The bytes are not there.
pub const BLOB_MISSING: Code = Code::new(
    Class::Infra,
    "blob_missing",
    "no blob has this digest",
    "restore it from a backup, or store the same bytes again",
);
/// The bytes are not those that were stored.
pub const BLOB_DAMAGED: Code = Code::new(
    Class::Infra,
    "blob_damaged",
    "a blob does not hash to its digest",
    "restore it from a backup, or store the same bytes again; check the disk",
);
/// The blob is larger than its reader accepts.
pub const BLOB_OVERSIZE: Code =
    Code::new(Class::Bug, "blob_oversize", "a blob is larger than its reader accepts", "report it with the log");
/// The remote object store does not answer as it should.
pub const BLOBS_UNREACHABLE: Code = Code::new(
    Class::Provider,
    "blobs_unreachable",
    "the object store does not answer as it should",
    "check the `store.s3` settings, the credentials and the network",
);
/// The settings of the remote object store make no sense.
pub const BLOBS_MISCONFIGURED: Code = Code::new(
    Class::Operator,
    "blobs_misconfigured",
    "the object store's settings are not usable",
    "correct the `store.s3` settings",
);
/// The cache failed or was asked for something beyond its limits.
pub const CACHE_FAILED: Code = Code::new(
    Class::Infra,
    "cache_failed",
    "the cache failed",
    "stop, delete the `cache` folder of the data directory, and start again; nothing of value is in it",
);

/// The codes of this room.
pub const CODES: &[Code] = &[
    DATA_DIR_LOCKED,
    DATA_DIR_UNWRITABLE,
    DISK_FULL,
    DISK_FAILED,
    DB_DAMAGED,
    DB_FOREIGN,
    DB_NEWER,
    DB_MIGRATION_ALTERED,
    DB_FAILED,
    STORE_GONE,
    EVENT_CHAIN_BROKEN,
    EVENT_TOO_LARGE,
    BLOB_TOO_LARGE,
    BLOB_CUT_OFF,
    BLOB_MISSING,
    BLOB_DAMAGED,
    BLOB_OVERSIZE,
    BLOBS_UNREACHABLE,
    BLOBS_MISCONFIGURED,
    CACHE_FAILED,
];

/// What the store can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another instance holds the data directory.
    #[error("`{}` is in use by {holder}", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, as far as is known: `process 4711`.
        holder: String,
    },
    /// A file or folder could not be made, read or written.
    #[error("cannot {act} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("the database failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A check of the database found damage.
    #[error("`{}`: {why}", path.display())]
    Unsound {
        /// The database file.
        path: PathBuf,
        /// What SQLite complains of.
        why: String,
    },
    /// The database was made by another program.
    #[error("`{}` has the application id {found:#x}", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// Its application id.
        found: i64,
    },
    /// The database is newer than this program.
    #[error("the database is at version {found}, this program knows {known}")]
    Newer {
        /// The version of the database.
        found: i64,
        /// The newest version of this program.
        known: i64,
    },
    /// A migration that was applied is not the one this program carries.
    #[error("migration {version} of the database differs from this program's")]
    Altered {
        /// Which one.
        version: i64,
    },
    /// A thread of the store ended; the name says which act was under way.
    #[error("the store stopped during `{what}`")]
    Gone {
        /// The act.
        what: &'static str,
    },
    /// The event log was altered.
    #[error("event {seq}: {why}")]
    ChainBroken {
        /// The first event that is wrong.
        seq: i64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An event's names or data are too large.
    #[error("an event has a {what} of {bytes} bytes, the limit is {limit}")]
    EventTooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More bytes came than were allowed.
    #[error("more than {limit} bytes came")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The sender broke off.
    #[error("the bytes stopped coming")]
    CutOff {
        /// What the sender's side said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The bytes are not there.
    #[error("there is no blob {digest}")]
    Missing {
        /// Which blob.
        digest: Digest,
    },
    /// The bytes are not those that were stored.
    #[error("the blob {digest} hashes to {found}")]
    Damaged {
        /// Which blob.
        digest: Digest,
        /// What its bytes hash to.
        found: Digest,
    },
    /// The blob is larger than its reader accepts.
    #[error("the blob {digest} has {bytes} bytes, its reader accepts {limit}")]
    Oversize {
        /// Which blob.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// The reader's limit.
        limit: u64,
    },
    /// The object store failed.
    #[error("the object store failed to {act}: {source}")]
    Object {
        /// What was tried.
        act: &'static str,
        /// Whether it is somebody else's machine.
        is_remote: bool,
        /// What it said.
        source: object_store::Error,
    },
    /// The object store's settings are not usable.
    #[error("the object store's settings are not usable: {source}")]
    ObjectOptions {
        /// What is wrong.
        source: object_store::Error,
    },
    /// The cache failed.
    #[error("the cache failed: {0}")]
    Cache(#[from] sled::Error),
    /// A key, value or window is beyond the cache's limits.
    #[error("a cache {what} of {size} exceeds {limit}")]
    CacheLimit {
        /// Which part.
        what: &'static str,
        /// What was asked for.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// The code under which a person meets this failure.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Locked { .. } => DATA_DIR_LOCKED,
            Self::File { source, .. } => io_code(source, DISK_FAILED),
            Self::Sql(source) => sql_code(source),
            Self::Unsound { .. } => DB_DAMAGED,
            Self::Foreign { .. } => DB_FOREIGN,
            Self::Newer { .. } => DB_NEWER,
            Self::Altered { .. } => DB_MIGRATION_ALTERED,
            Self::Gone { .. } => STORE_GONE,
            Self::ChainBroken { .. } => EVENT_CHAIN_BROKEN,
            Self::EventTooLarge { .. } => EVENT_TOO_LARGE,
            Self::TooLarge { .. } => BLOB_TOO_LARGE,
            Self::CutOff { .. } => BLOB_CUT_OFF,
            Self::Missing { .. } => BLOB_MISSING,
            Self::Damaged { .. } => BLOB_DAMAGED,
            Self::Oversize { .. } => BLOB_OVERSIZE,
            Self::Object { is_remote: true, .. } => BLOBS_UNREACHABLE,
            Self::Object { source, .. } => object_code(source),
            Self::ObjectOptions { .. } => BLOBS_MISCONFIGURED,
            Self::Cache(sled::Error::Io(source)) => io_code(source, CACHE_FAILED),
            Self::Cache(_) | Self::CacheLimit { .. } => CACHE_FAILED,
        }
    }

    /// The failure as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.code().because(self.to_string())
    }
}

fn io_code(source: &io::Error, otherwise: Code) -> Code {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL,
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => DATA_DIR_UNWRITABLE,
        _ => otherwise,
    }
}

fn sql_code(source: &rusqlite::Error) -> Code {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => DISK_FULL,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DB_DAMAGED,
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => DATA_DIR_UNWRITABLE,
        Some(ErrorCode::SystemIoFailure) => DISK_FAILED,
        _ => DB_FAILED,
    }
}

/// A local store fails with an `io::Error` somewhere in the chain of sources.
fn object_code(source: &object_store::Error) -> Code {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(source);
    while let Some(error) = cause {
        // One that only wraps another error has no kind of its own.
        if let Some(found) = error.downcast_ref::<io::Error>().filter(|found| found.kind() != io::ErrorKind::Other) {
            return io_code(found, DISK_FAILED);
        }
        cause = error.source();
    }
    DISK_FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_recognised_wherever_it_shows() {
        use std::io::Write as _;
        // The one device that is always full gives the system's own error.
        let full = || {
            let mut device = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("linux has it");
            device.write_all(b"x").expect_err("it is full")
        };
        let object = || object_store::Error::Generic { store: "local", source: Box::new(full()) };
        // As a writer that is told to finish says it.
        let wrapped = object_store::Error::Generic { store: "blobs", source: Box::new(io::Error::other(object())) };
        let cases = [
            Error::File { act: "write", path: "x".into(), source: full() },
            Error::Object { act: "put", is_remote: false, source: object() },
            Error::Object { act: "finish", is_remote: false, source: wrapped },
            Error::Cache(sled::Error::Io(full())),
        ];
        for case in cases {
            assert_eq!(case.code(), DISK_FULL, "{case}");
        }
    }

    #[test]
    fn a_remote_failure_is_the_providers() {
        let source = object_store::Error::Generic { store: "S3", source: "503".into() };
        assert_eq!(Error::Object { act: "put", is_remote: true, source }.code(), BLOBS_UNREACHABLE);
    }

    #[test]
    fn codes_are_unique() {
        let names: std::collections::BTreeSet<_> = CODES.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), CODES.len());
    }
}

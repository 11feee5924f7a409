//! The data directory: the truth in SQLite, the bytes by their digest, and caches that may be lost.
//!
//! Owns every file below the data directory that is not a key, and the lock that keeps a second instance out.
//! Refuses to know what the rows mean: the rooms above write their own statements.
//! The pipeline, the server and the command line call it.

mod blobs;
mod cache;
mod db;
mod error;
pub mod events;
mod inspect;
mod lock;
mod migrate;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use self::lock::{DirLock, make_private_dir};
pub use self::{
    blobs::{Blobs, BlobsOptions, S3Credentials, S3Options, Stored},
    cache::{Cache, Hit},
    db::Db,
    error::{CODES, Error},
    inspect::{Inspection, inspect, look},
};
use crate::{
    config::{self, settings},
    ids::{self, SystemEntropy},
};

/// Limits of this room on what comes from outside, each with its reason.
pub mod limits {
    /// Bytes of one event's data: a hundred times the largest we write.
    pub const EVENT_DATA_BYTES: usize = 1024 * 1024;
    /// Bytes of an event's kind or subject: names, not texts.
    pub const EVENT_NAME_BYTES: usize = 256;
    /// Transactions that may wait for the writer; more senders wait in line themselves.
    pub const WRITE_QUEUE: usize = 1024;
    /// Milliseconds a connection waits for SQLite's own lock: only a backup tool can hold it.
    pub const BUSY_TIMEOUT_MS: u64 = 5_000;
    /// Bytes of a cache key: longer keys are hashed by the caller.
    pub const CACHE_KEY_BYTES: usize = 512;
    /// Bytes of a cached value: larger ones belong among the blobs.
    pub const CACHE_VALUE_BYTES: usize = 16 * 1024 * 1024;
    /// Hits that one rate-limit window can count: each costs eight bytes.
    pub const WINDOW_HITS: u32 = 4096;
    /// Bytes of memory for the cache: the whole appliance shall stay under 100 MB when idle.
    pub const CACHE_MEMORY_BYTES: u64 = 16 * 1024 * 1024;
    /// Bytes of a blob in S3: a larger object cannot be renamed there in one request.
    pub const S3_BLOB_BYTES: u64 = 5 * 1024 * 1024 * 1024;
}

/// The database, in the data directory.
const DATABASE: &str = "db/waag.sqlite";

/// How much a crash of the whole machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing: every commit and every blob reaches the disk before it is answered.
    #[default]
    Full,
    /// The last moments before a power cut; a killed process still loses nothing.
    Normal,
}

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a power cut may cost.
    pub durability: Durability,
    /// Where the bytes are kept.
    pub blobs: BlobsOptions,
    /// Connections that read at the same time; opened when they are first needed.
    pub read_connections: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::Full, blobs: BlobsOptions::Local, read_connections: 4 }
    }
}

impl Options {
    /// What the settings say; reads the file with the secret key if one is named.
    ///
    /// # Errors
    /// When that file cannot be read or can be read by others.
    pub fn from_settings(settings: &settings::Store) -> Result<Self, config::Error> {
        let durability = match settings.durability {
            settings::Durability::Full => Durability::Full,
            settings::Durability::Normal => Durability::Normal,
        };
        let blobs = match settings.blobs {
            settings::BlobsIn::Local => BlobsOptions::Local,
            settings::BlobsIn::S3 => BlobsOptions::S3(S3Options::from_settings(&settings.s3)?),
        };
        Ok(Self { durability, blobs, read_connections: settings.read_connections })
    }
}

/// An open data directory. Cheap to clone; the lock is given back when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    dir: Arc<PathBuf>,
    db: Db,
    blobs: Blobs,
    cache: Cache,
}

impl Store {
    /// Opens the data directory, making it if it is not there, and brings its database up to date.
    ///
    /// # Errors
    /// When another instance holds it, when it cannot be written, or when what lies in it is damaged or newer than
    /// this program.
    pub async fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let owned = dir.to_owned();
        let Options { durability, blobs, read_connections } = options;
        let opened = tokio::task::spawn_blocking(move || open_files(&owned, durability, read_connections));
        let (db, cache) = opened.await.map_err(|_panicked| Error::Gone { what: "opening the data directory" })??;
        let instance = instance(&db).await?;
        let blobs = Blobs::open(dir, &blobs, durability, &instance).await?;
        Ok(Self { dir: Arc::new(dir.to_owned()), db, blobs, cache })
    }

    /// The truth.
    #[must_use]
    pub const fn db(&self) -> &Db {
        &self.db
    }

    /// The bytes.
    #[must_use]
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// What may be lost.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn open_files(dir: &Path, durability: Durability, read_connections: u32) -> Result<(Db, Cache), Error> {
    let lock = DirLock::take(dir)?;
    let database = dir.join(DATABASE);
    make_private_dir(database.parent().unwrap_or(dir))?;
    let db = Db::open(&database, durability, read_connections, Some(lock))?;
    let cache = Cache::open(&dir.join("cache"))?;
    Ok((db, cache))
}

/// A random name of this data directory, made once: it separates instances that share a bucket.
async fn instance(db: &Db) -> Result<String, Error> {
    let made = hex::encode(&ids::random_32(&SystemEntropy)[..8]);
    db.write("name instance", move |tx| {
        tx.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('instance', ?1)", [made])?;
        Ok(tx.query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get(0))?)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_data_directory_is_private_locked_and_kept() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dir = dir.path().join("data");
        let store = Store::open(&dir, Options::default()).await.expect("a new directory");
        let digest = store.blobs().put("bytes").await.expect("stored");
        let refused = Store::open(&dir, Options::default()).await.err().expect("it is in use");
        assert_eq!(refused.code().name, "data_dir_locked", "{refused}");
        let named = instance(store.db()).await.expect("a name");
        drop(store);

        let store = Store::open(&dir, Options::default()).await.expect("it was given back");
        assert_eq!(store.blobs().get(&digest, 9).await.expect("read"), "bytes");
        assert_eq!(instance(store.db()).await.expect("a name"), named);
        let mut names: Vec<_> = std::fs::read_dir(&dir)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["blobs", "cache", "db", "lock"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&dir).expect("a folder").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn settings_become_options() {
        let load = |text: &str| {
            let sources = config::Sources { file: Some(("waag.toml", text)), ..Default::default() };
            config::load(&sources).expect("they are right").settings.store
        };
        let options = Options::from_settings(&load("")).expect("no file is named");
        assert_eq!((options.durability, options.read_connections), (Durability::Full, 4));
        assert!(matches!(options.blobs, BlobsOptions::Local));

        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("secret");
        let settings = load(&format!(
            "[store]\nblobs = \"s3\"\n[store.s3]\nbucket = \"b\"\naccess_key_id = \"i\"\nsecret_access_key_file = {:?}\n",
            file.display().to_string()
        ));
        let missing = Options::from_settings(&settings).expect_err("there is no file");
        assert_eq!(missing.code().name, "secret_file_unreadable");
        std::fs::write(&file, "s3cret\n").expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("our file");
        }
        let options = Options::from_settings(&settings).expect("it is readable");
        assert!(!format!("{options:?}").contains("s3cret"));
        let BlobsOptions::S3(S3Options { credentials: Some(credentials), .. }) = options.blobs else {
            panic!("the bytes are in S3")
        };
        assert_eq!(credentials.secret_access_key.reveal(), "s3cret");
    }
}

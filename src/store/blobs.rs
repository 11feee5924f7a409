//! The bytes, each kept under the SHA-256 of itself.
//!
//! Owns the layout of the object store: `sha256/ab/abcd…` for what is kept and `tmp/<instance>/` for what is arriving.
//! Refuses to know what the bytes are. A blob is never changed; storing it again repairs a damaged one.

use std::{error::Error as StdError, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, Checksum},
    buffered::BufWriter,
    local::LocalFileSystem,
    path::Path as Key,
    prefix::PrefixStore,
};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tracing::warn;

use super::{Durability, Error, limits, lock::make_private_dir};
use crate::{
    config::{self, Secret, settings},
    ids::{self, Digest, SystemEntropy},
};

/// Where the bytes are kept.
#[derive(Debug, Clone, Default)]
pub enum BlobsOptions {
    /// In the folder `blobs` of the data directory.
    #[default]
    Local,
    /// In a bucket of S3 or of something that speaks like it.
    S3(S3Options),
}

/// A bucket and how to reach it.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Name of the bucket; it must exist.
    pub bucket: String,
    /// Put before every key, so that several instances can share a bucket.
    pub prefix: String,
    /// Region of the bucket.
    pub region: String,
    /// Another address than Amazon's; `http://` is accepted because it is written out.
    pub endpoint: Option<String>,
    /// Key id and secret; without them the machine's own role is asked for.
    pub credentials: Option<S3Credentials>,
}

/// A key of S3.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
}

impl S3Options {
    /// What the settings say.
    ///
    /// # Errors
    /// When the file with the secret key cannot be read or can be read by others.
    pub fn from_settings(settings: &settings::S3) -> Result<Self, config::Error> {
        let credentials = match (&settings.access_key_id, &settings.secret_access_key_file) {
            (Some(id), Some(file)) => {
                Some(S3Credentials { access_key_id: id.clone(), secret_access_key: Secret::read(file)? })
            }
            // The settings were checked: neither comes without the other.
            _ => None,
        };
        Ok(Self {
            bucket: settings.bucket.clone(),
            prefix: settings.prefix.clone(),
            region: settings.region.clone(),
            endpoint: settings.endpoint.clone(),
            credentials,
        })
    }
}

/// What a stream left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The address of the bytes.
    pub digest: Digest,
    /// How many there were.
    pub bytes: u64,
}

/// A handle on the bytes. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Ours alone: what lies in it at the start was left by a crash.
    arriving: Key,
    bytes_max: u64,
    is_remote: bool,
}

impl Blobs {
    /// Opens the object store and removes what a crash left half arrived.
    ///
    /// `instance` names this data directory within a shared bucket.
    pub(super) async fn open(
        dir: &Path,
        options: &BlobsOptions,
        durability: Durability,
        instance: &str,
    ) -> Result<Self, Error> {
        match options {
            BlobsOptions::Local => Self::open_local(&dir.join("blobs"), durability),
            BlobsOptions::S3(options) => Self::open_s3(options, instance).await,
        }
    }

    fn open_local(root: &Path, durability: Durability) -> Result<Self, Error> {
        make_private_dir(root)?;
        let arriving = root.join("tmp");
        // By hand and not through the object store, which does not list its own half-written files.
        match std::fs::remove_dir_all(&arriving) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { act: "empty", path: arriving, source });
            }
            _ => {}
        }
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(|source| Error::ObjectOptions { source })?
            .with_fsync(durability == Durability::Full);
        Ok(Self { store: Arc::new(store), arriving: Key::from("tmp"), bytes_max: u64::MAX, is_remote: false })
    }

    async fn open_s3(options: &S3Options, instance: &str) -> Result<Self, Error> {
        let bucket = build_s3(options).map_err(|source| Error::ObjectOptions { source })?;
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(bucket, options.prefix.as_str()));
        let arriving = Key::from_iter(["tmp", instance]);
        // Also tells at the start, and not at the first upload, that the bucket is out of reach. Parts of unfinished
        // multipart uploads cannot be listed here: a lifecycle rule of the bucket ends them.
        let failed = |source| Error::Object { act: "empty the arrivals of", is_remote: true, source };
        let left: Vec<_> = store.list(Some(&arriving)).try_collect().await.map_err(failed)?;
        for object in left {
            store.delete(&object.location).await.map_err(failed)?;
        }
        Ok(Self { store, arriving, bytes_max: limits::S3_BLOB_BYTES, is_remote: true })
    }

    /// Stores these bytes and returns their address. Storing them again is harmless.
    ///
    /// # Errors
    /// When the object store fails.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Digest, Error> {
        let bytes: Bytes = bytes.into();
        let (digest, bytes) = hash(bytes).await?;
        // The object store writes to one side and renames; nobody sees half of it.
        self.store.put(&key(&digest), PutPayload::from(bytes)).await.map_err(|source| self.failed("put", source))?;
        Ok(digest)
    }

    /// Stores what the stream brings, without holding it in memory. Nothing is kept unless all of it arrived and it
    /// is at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::CutOff`] when the stream fails, or the object store's.
    pub async fn put_stream<E>(
        &self,
        stream: impl Stream<Item = Result<Bytes, E>> + Send,
        limit: u64,
    ) -> Result<Stored, Error>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let name = hex::encode(&ids::random_32(&SystemEntropy)[..16]);
        let arriving = self.arriving.clone().join(name);
        let mut writer = BufWriter::new(Arc::clone(&self.store), arriving.clone());
        let stored = match self.receive(&mut writer, stream, limit.min(self.bytes_max)).await {
            Ok(stored) => stored,
            Err(error) => {
                // The first failure is the one to tell; what cannot be removed now is removed at the next start.
                if let Err(failure) = writer.abort().await {
                    warn!(%failure, "an unfinished blob could not be removed");
                }
                return Err(error);
            }
        };
        if let Err(source) = writer.shutdown().await {
            self.discard(&arriving).await;
            let source = object_store::Error::Generic { store: "blobs", source: Box::new(source) };
            return Err(self.failed("finish", source));
        }
        if let Err(source) = self.store.rename(&arriving, &key(&stored.digest)).await {
            self.discard(&arriving).await;
            return Err(self.failed("rename", source));
        }
        Ok(stored)
    }

    /// Removes what arrived and cannot be kept. A writer that was told to finish cannot be told to abort any more.
    async fn discard(&self, arriving: &Key) {
        match self.store.delete(arriving).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(failure) => warn!(%failure, "an unfinished blob could not be removed"),
        }
    }

    /// The bytes of this address, hashed again on the way out.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Oversize`] beyond `limit`, [`Error::Damaged`], or the object store's.
    pub async fn get(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let found = self.store.get(&key(digest)).await.map_err(|source| self.missing_or_failed(digest, source))?;
        let bytes = found.meta.size;
        if bytes > limit {
            return Err(Error::Oversize { digest: *digest, bytes, limit });
        }
        let bytes = found.bytes().await.map_err(|source| self.missing_or_failed(digest, source))?;
        let (found, bytes) = hash(bytes).await?;
        if found != *digest {
            return Err(Error::Damaged { digest: *digest, found });
        }
        Ok(bytes)
    }

    /// Whether something lies at this address. Its bytes are only checked when they are read.
    ///
    /// # Errors
    /// When the object store fails.
    pub async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        match self.store.head(&key(digest)).await {
            Ok(_meta) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(self.failed("look for", source)),
        }
    }

    async fn receive<E>(
        &self,
        writer: &mut BufWriter,
        stream: impl Stream<Item = Result<Bytes, E>> + Send,
        limit: u64,
    ) -> Result<Stored, Error>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut stream = std::pin::pin!(stream);
        let mut hasher = Sha256::new();
        let mut bytes = 0_u64;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|source| Error::CutOff { source: source.into() })?;
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(Error::TooLarge { limit });
            }
            hasher.update(&chunk);
            writer.put(chunk).await.map_err(|source| self.failed("write", source))?;
        }
        Ok(Stored { digest: Digest(hasher.finalize().into()), bytes })
    }

    fn failed(&self, act: &'static str, source: object_store::Error) -> Error {
        Error::Object { act, is_remote: self.is_remote, source }
    }

    fn missing_or_failed(&self, digest: &Digest, source: object_store::Error) -> Error {
        match source {
            object_store::Error::NotFound { .. } => Error::Missing { digest: *digest },
            source => self.failed("get", source),
        }
    }
}

fn build_s3(options: &S3Options) -> Result<AmazonS3, object_store::Error> {
    // Half a minute of patience: whoever asked is retried by the pipeline anyway.
    let retry = RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&options.bucket)
        .with_region(&options.region)
        .with_retry(retry)
        .with_checksum_algorithm(Checksum::SHA256);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(S3Credentials { access_key_id, secret_access_key }) = &options.credentials {
        builder = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key.reveal());
    }
    builder.build()
}

/// Folders of at most a few thousand entries: the first byte of the digest is a folder.
fn key(digest: &Digest) -> Key {
    let name = digest.to_string();
    Key::from_iter(["sha256", &name[..2], &name])
}

/// Hashing megabytes takes milliseconds, too long for a thread that serves others.
async fn hash(bytes: Bytes) -> Result<(Digest, Bytes), Error> {
    tokio::task::spawn_blocking(move || (Digest::of(&bytes), bytes))
        .await
        .map_err(|_panicked| Error::Gone { what: "hashing" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    async fn local(dir: &Path) -> Blobs {
        Blobs::open(dir, &BlobsOptions::Local, Durability::Full, "x").await.expect("a folder")
    }

    fn chunks(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + use<> {
        let chunks: Vec<_> = bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        futures::stream::iter(chunks)
    }

    /// What every object store must do. `count` lists its objects.
    async fn suite(blobs: &Blobs) {
        let count = async || blobs.store.list(None).try_collect::<Vec<_>>().await.expect("a list").len();
        let start = count().await;
        let digest = blobs.put("hello").await.expect("stored");
        assert_eq!(digest, Digest::of(b"hello"));
        assert_eq!(blobs.put("hello").await.expect("stored again"), digest);
        assert_eq!(blobs.get(&digest, 5).await.expect("read"), "hello");
        assert!(blobs.has(&digest).await.expect("looked"));
        assert_eq!(count().await, start + 1);

        // Beyond the size up to which an object store takes the bytes in one request.
        let large: Vec<u8> = (0..12_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for bytes in [&b""[..], b"hello", b"a stream", &large] {
            let limit = bytes.len() as u64;
            let stored = blobs.put_stream(chunks(bytes, 700_000), limit).await.expect("it fits");
            assert_eq!(stored, Stored { digest: Digest::of(bytes), bytes: limit });
            assert_eq!(blobs.get(&stored.digest, limit).await.expect("read"), bytes);
        }
        assert_eq!(count().await, start + 4);

        // What is refused or breaks off leaves nothing.
        for bytes in [&b"too long by one"[..], &large[1..]] {
            let refused =
                blobs.put_stream(chunks(bytes, 1_000_000), bytes.len() as u64 - 1).await.expect_err("too long");
            assert_eq!(refused.code().name, "blob_too_large", "{refused}");
            assert!(!blobs.has(&Digest::of(bytes)).await.expect("looked"));
            let broken = chunks(bytes, 1_000_000).chain(futures::stream::iter([Err(std::io::Error::other("gone"))]));
            let refused = blobs.put_stream(broken, u64::MAX).await.expect_err("broken off");
            assert_eq!(refused.code().name, "blob_cut_off", "{refused}");
        }
        assert_eq!(count().await, start + 4);

        let missing = Digest::of(b"nobody stored this");
        assert!(!blobs.has(&missing).await.expect("looked"));
        assert_eq!(blobs.get(&missing, 9).await.expect_err("missing").code().name, "blob_missing");
        assert_eq!(blobs.get(&digest, 4).await.expect_err("larger").code().name, "blob_oversize");

        // Bytes that were altered are not handed out, and storing them again repairs them.
        blobs.store.put(&key(&digest), "hellO".into()).await.expect("altered");
        assert_eq!(blobs.get(&digest, 5).await.expect_err("altered").code().name, "blob_damaged");
        blobs.put_stream(chunks(b"hello", 2), 5).await.expect("stored again");
        assert_eq!(blobs.get(&digest, 5).await.expect("read"), "hello");
    }

    #[tokio::test]
    async fn a_folder_keeps_blobs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        suite(&local(dir.path()).await).await;
        let left = std::fs::read_dir(dir.path().join("blobs/tmp")).expect("a folder").count();
        assert_eq!(left, 0, "arrivals are gone");
    }

    /// A local S3 server that ends with the test.
    struct Moto {
        process: std::process::Child,
        endpoint: String,
    }

    impl Drop for Moto {
        fn drop(&mut self) {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }

    impl Moto {
        /// Starts the server of the PyPI package `moto`, or says why it cannot.
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        async fn start() -> Option<Self> {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            let address = free.expect("a free port");
            let process = std::process::Command::new("python3")
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn();
            let Ok(process) = process else {
                eprintln!("SKIPPED: blobs in S3: there is no python3");
                return None;
            };
            let mut moto = Self { process, endpoint: format!("http://{address}") };
            let clock = SystemClock::shared();
            for _ in 0..600 {
                if tokio::net::TcpStream::connect(address).await.is_ok() {
                    return Some(moto);
                }
                if moto.process.try_wait().is_ok_and(|status| status.is_some()) {
                    eprintln!(
                        "SKIPPED: blobs in S3: `python3 -m moto.server` does not run; `pip install 'moto[server]'`"
                    );
                    return None;
                }
                clock.sleep(Duration::from_millis(50)).await;
            }
            panic!("the S3 server did not come up within 30 s");
        }

        fn options(&self, prefix: &str) -> S3Options {
            let secret_access_key = Secret::new("secret".to_owned());
            S3Options {
                bucket: "waag-test".to_owned(),
                prefix: prefix.to_owned(),
                region: "us-east-1".to_owned(),
                endpoint: Some(self.endpoint.clone()),
                credentials: Some(S3Credentials { access_key_id: "id".to_owned(), secret_access_key }),
            }
        }

        async fn open(&self, prefix: &str, instance: &str) -> Result<Blobs, Error> {
            let options = BlobsOptions::S3(self.options(prefix));
            Blobs::open(Path::new("unused"), &options, Durability::Full, instance).await
        }
    }

    #[tokio::test]
    async fn a_bucket_keeps_blobs() {
        let Some(moto) = Moto::start().await else { return };
        // Only the first test of the process can set it; any one will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let refused = moto.open("", "x").await.err().expect("there is no bucket yet");
        assert_eq!(refused.code().name, "blobs_unreachable", "{refused}");
        let bucket = format!("{}/waag-test", moto.endpoint);
        let made = reqwest::Client::new().put(bucket).send().await.expect("an answer");
        assert!(made.status().is_success(), "{made:?}");

        let ours = moto.open("", "ours").await.expect("a bucket");
        suite(&ours).await;
        // A prefix is a place of its own.
        suite(&moto.open("sub/folder", "ours").await.expect("a bucket")).await;

        // What a crash left of our own arrivals goes at the next start; those of another instance stay.
        for name in ["tmp/ours/half", "tmp/theirs/half"] {
            ours.store.put(&Key::from(name), "half".into()).await.expect("stored");
        }
        let ours = moto.open("", "ours").await.expect("a bucket");
        assert!(ours.store.head(&Key::from("tmp/ours/half")).await.is_err());
        assert!(ours.store.head(&Key::from("tmp/theirs/half")).await.is_ok());
        assert_eq!(ours.get(&Digest::of(b"hello"), 5).await.expect("read"), "hello");
    }

    #[tokio::test]
    async fn an_object_store_that_is_away_is_the_providers_fault() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut options = S3Options {
            bucket: "b".to_owned(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            // Nothing listens on the port that is reserved for nothing.
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            credentials: Some(S3Credentials {
                access_key_id: "id".to_owned(),
                secret_access_key: Secret::new("s".to_owned()),
            }),
        };
        let refused = Blobs::open_s3(&options, "x").await.err().expect("nobody is there");
        assert_eq!(refused.code().name, "blobs_unreachable", "{refused}");
        options.bucket = String::new();
        let refused = Blobs::open_s3(&options, "x").await.err().expect("there is no such bucket");
        assert!(["blobs_unreachable", "blobs_misconfigured"].contains(&refused.code().name), "{refused}");
    }

    #[tokio::test]
    async fn a_folder_is_freed_of_what_a_crash_left() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let digest = local(dir.path()).await.put("kept").await.expect("stored");
        let arriving = dir.path().join("blobs/tmp");
        std::fs::create_dir_all(&arriving).expect("a folder");
        // The second name is how the object store calls a file that it is still writing.
        for name in ["half", "half#1"] {
            std::fs::write(arriving.join(name), b"half").expect("written");
        }
        let blobs = local(dir.path()).await;
        assert!(!arriving.exists());
        assert_eq!(blobs.get(&digest, 9).await.expect("read"), "kept");
    }
}

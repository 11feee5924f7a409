//! Pushing: a folder becomes a model in a registry.
//!
//! Owns the order: every file as a blob, then the manifest that names them, whose digest is what a miner commits. A
//! push that is begun again leaves out what is there. Refuses to check the model: the verb that calls it did.
//! Source: the OCI distribution specification 1.1, "push".

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use reqwest::{Method, Response, StatusCode, header::LOCATION};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    download::{Progress, hash},
    http::{Ask, Http, Write},
    oci::TITLE,
    session::{Access, Credentials, Session},
};
use crate::artifact::model::{Reference, Trouble, files::FileEntry};

/// Bytes that are sent at a time: what memory a push holds for each file.
const CHUNK_BYTES: u64 = 16 * 1024 * 1024;
/// Files that are sent at a time.
const FILES_AT_ONCE: usize = 4;
/// How often a part is sent again before the push ends for now.
const TRIES: u32 = 4;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BYTES: &str = "application/octet-stream";
/// What an image's configuration is where there is none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EMPTY_BYTES: &[u8] = b"{}";
/// What kind of thing the manifest describes.
const KIND: &str = "application/vnd.waag.model.v1";

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Repository and digest, as they are committed.
    pub reference: Reference,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that the registry did not have.
    pub sent: u64,
}

/// What has happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes more of it were sent.
    Sent(u64),
    /// It is there as a whole, and was sent now.
    Done,
    /// It was there before.
    Present,
}

/// How far a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushing<'a> {
    /// The file that went on.
    pub file: &'a FileEntry,
    /// How.
    pub moved: Moved,
    /// Bytes of all files that are there.
    pub progress: Progress,
}

/// How far all files are, and who hears of it.
struct Told<'a> {
    done: AtomicU64,
    sent: AtomicU64,
    total: u64,
    watch: &'a (dyn Fn(&Pushing<'_>) + Sync),
}

impl Told<'_> {
    fn tell(&self, file: &FileEntry, moved: Moved) {
        let more = match moved {
            Moved::Sent(bytes) => {
                self.sent.fetch_add(bytes, Ordering::Relaxed);
                bytes
            }
            Moved::Present => file.bytes,
            Moved::Done => 0,
        };
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        (self.watch)(&Pushing { file, moved, progress: Progress { done, total: self.total } });
    }
}

/// Pushes these files of a folder. `watch` hears how far each of them is.
///
/// # Errors
/// [`Trouble`]; begun again, it leaves out what the registry has.
pub async fn push(
    http: Http,
    base: &str,
    repo: &str,
    credentials: Option<Credentials>,
    folder: &Path,
    files: &[FileEntry],
    watch: &(dyn Fn(&Pushing<'_>) + Sync),
) -> Result<Pushed, Trouble> {
    let session = Session::new(http, base, repo, Access::Push, credentials)?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let told = Told { done: AtomicU64::new(0), sent: AtomicU64::new(0), total: bytes, watch };
    let mut pushes: Vec<futures::future::BoxFuture<'_, Result<[u8; 32], Trouble>>> = Vec::new();
    for file in files {
        pushes.push(Box::pin(push_file(&session, folder, file, &told)));
    }
    let digests: Vec<Result<[u8; 32], Trouble>> = stream::iter(pushes).buffered(FILES_AT_ONCE).collect().await;
    let mut layers = Vec::new();
    for (file, digest) in files.iter().zip(digests) {
        let digest = format!("sha256:{}", hex::encode(digest?));
        layers
            .push(json!({"mediaType": BYTES, "digest": digest, "size": file.bytes, "annotations": {TITLE: file.name}}));
    }
    let empty: [u8; 32] = Sha256::digest(EMPTY_BYTES).into();
    if !has_blob(&session, &empty).await? {
        put_blob(&session, &empty, Bytes::from_static(EMPTY_BYTES)).await?;
    }
    let config =
        json!({"mediaType": EMPTY, "digest": format!("sha256:{}", hex::encode(empty)), "size": EMPTY_BYTES.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": KIND, "config": config, "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest).map_err(|source| Trouble::Failed(source.to_string()))?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&manifest)));
    let reference = Reference::new(repo, &digest).map_err(|refused| Trouble::Malformed(refused.detail))?;
    let url = session.at("manifests", &digest)?;
    let write = Write { method: Method::PUT, content_type: MANIFEST, bytes: manifest.into(), part: None };
    session.ask(&url, Ask { write: Some(write), ..Ask::default() }).await?;
    Ok(Pushed { reference, bytes, sent: told.sent.into_inner() })
}

/// Sends one file, unless the registry has it. Answers its digest.
async fn push_file(session: &Session, folder: &Path, file: &FileEntry, told: &Told<'_>) -> Result<[u8; 32], Trouble> {
    let path = folder.join(&file.name);
    let opened = blocking(move || {
        let file = File::open(path)?;
        let digest = hash(&file)?;
        Ok((Arc::new(file), digest))
    });
    let (held, digest) = opened.await?;
    if has_blob(session, &digest).await? {
        told.tell(file, Moved::Present);
        return Ok(digest);
    }
    if file.bytes <= CHUNK_BYTES {
        let bytes = part_of(&held, 0, file.bytes).await?;
        put_blob(session, &digest, bytes).await?;
        told.tell(file, Moved::Sent(file.bytes));
    } else {
        send_parts(session, &digest, &held, file, told).await?;
    }
    told.tell(file, Moved::Done);
    Ok(digest)
}

async fn has_blob(session: &Session, digest: &[u8; 32]) -> Result<bool, Trouble> {
    let url = session.at("blobs", &format!("sha256:{}", hex::encode(digest)))?;
    match session.ask(&url, Ask { head: true, ..Ask::default() }).await {
        Ok(_answer) => Ok(true),
        Err(Trouble::Missing(_what)) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Begins an upload. Answers where it goes on.
async fn begin(session: &Session) -> Result<String, Trouble> {
    let url = session.at("blobs", "uploads/")?;
    let write = Write { method: Method::POST, content_type: BYTES, bytes: Bytes::new(), part: None };
    let answer = session.ask(&url, Ask { write: Some(write), ..Ask::default() }).await?;
    expect(&answer, StatusCode::ACCEPTED)?;
    location(&answer)
}

fn expect(answer: &Response, status: StatusCode) -> Result<(), Trouble> {
    if answer.status() == status {
        Ok(())
    } else {
        Err(Trouble::Failed(format!("{} answered {} in place of {status}", answer.url(), answer.status())))
    }
}

fn location(answer: &Response) -> Result<String, Trouble> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    location.map(str::to_owned).ok_or_else(|| Trouble::Failed(format!("{} names no place to go on", answer.url())))
}

/// A blob in one piece.
async fn put_blob(session: &Session, digest: &[u8; 32], bytes: Bytes) -> Result<(), Trouble> {
    let place = begin(session).await?;
    end(session, &place, digest, bytes).await
}

/// Ends an upload with its last bytes and its digest, which the registry compares.
async fn end(session: &Session, place: &str, digest: &[u8; 32], bytes: Bytes) -> Result<(), Trouble> {
    let mut url = session.join(place)?;
    url.query_pairs_mut().append_pair("digest", &format!("sha256:{}", hex::encode(digest)));
    let write = Write { method: Method::PUT, content_type: BYTES, bytes, part: None };
    let answer = session.ask(&url, Ask { write: Some(write), ..Ask::default() }).await?;
    expect(&answer, StatusCode::CREATED)
}

/// A blob in parts. One that breaks off is sent again; when that is in vain, so is the upload.
async fn send_parts(
    session: &Session,
    digest: &[u8; 32],
    held: &Arc<File>,
    file: &FileEntry,
    told: &Told<'_>,
) -> Result<(), Trouble> {
    let bytes = file.bytes;
    let mut place = begin(session).await?;
    let (mut at, mut tries) = (0, 0);
    while at < bytes {
        let end = (at + CHUNK_BYTES).min(bytes);
        let part = part_of(held, at, end - at).await?;
        let write = Write { method: Method::PATCH, content_type: BYTES, bytes: part, part: Some((at, end - 1)) };
        let answer = session.ask(&session.join(&place)?, Ask { write: Some(write), ..Ask::default() }).await;
        match answer {
            Ok(answer) => {
                expect(&answer, StatusCode::ACCEPTED)?;
                place = location(&answer)?;
                told.tell(file, Moved::Sent(end - at));
                (at, tries) = (end, 0);
            }
            Err(Trouble::Failed(_why)) if tries < TRIES => tries += 1,
            Err(other) => return Err(other),
        }
    }
    self::end(session, &place, digest, Bytes::new()).await
}

async fn part_of(file: &Arc<File>, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
    let file = Arc::clone(file);
    blocking(move || {
        let mut part = vec![0; usize::try_from(bytes).map_err(std::io::Error::other)?];
        file.read_exact_at(&mut part, begin)?;
        Ok(Bytes::from(part))
    })
    .await
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done.map_err(|source| Trouble::Disk(source.to_string())),
        Err(source) => Err(Trouble::Failed(format!("the reader ended early: {source}"))),
    }
}

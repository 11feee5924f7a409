//! Downloads: the files of a model into a folder, in parallel ranges, whole or not at all.
//!
//! Owns the folder while it is filled: parts that came, what is still missing after a break, and the digest of every
//! file before it gets its name. Refuses to know how a source is spoken to. A download that is begun again goes on
//! where it stopped.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use reqwest::Response;
use sha2::{Digest as _, Sha256};

use super::http::told;
use crate::artifact::model::{
    Repo, Trouble, WEIGHTS,
    files::{matches, name_trouble},
};

/// How often a range is asked for again at once, from where it broke off, before the download ends for now.
const TRIES: u32 = 5;
/// Bytes that are hashed at a time.
const HASHED_BYTES: usize = 1024 * 1024;

/// A file that a source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name with its folders.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What they hash to, where the source binds it.
    pub sha256: Option<[u8; 32]>,
}

/// A repository whose files can be fetched whole.
#[async_trait]
pub trait Source: Repo {
    /// All of its files.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn held(&self) -> Result<Vec<Held>, Trouble>;

    /// The bytes of a file from `begin` up to `end`, `end` not included, to be streamed.
    ///
    /// # Errors
    /// [`Trouble`], also when the source answers with anything but these bytes.
    async fn open(&self, name: &str, begin: u64, end: u64) -> Result<Response, Trouble>;
}

/// How a download is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download {
    /// Ranges that are fetched at a time.
    pub at_once: usize,
    /// Bytes of a range.
    pub range_bytes: u64,
    /// Bytes of all files together.
    pub bytes_max: u64,
    /// Whether the digests of weight files are left to the caller, who reads them anyway: what has its name then may
    /// still be something else.
    pub leaves_weights: bool,
}

impl Default for Download {
    fn default() -> Self {
        Self { at_once: 8, range_bytes: 64 * 1024 * 1024, bytes_max: 512 * 1024 * 1024 * 1024, leaves_weights: false }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// A range of a file that is still missing.
struct Range {
    part: Arc<Part>,
    place: u64,
    begin: u64,
    end: u64,
}

/// A file while it is fetched: its bytes so far, and beside them one byte for each range that is whole.
struct Part {
    held: Held,
    bytes: File,
    map: File,
    /// Ranges that are still missing; whoever brings the last one finishes the file.
    missing: AtomicU64,
}

/// Fetches every file into the folder. `watch` hears how far it is. Returns the files with what they must hash to.
///
/// # Errors
/// [`Trouble`]; what came so far stays for the next time, but for a file whose digest is wrong.
pub async fn download(
    source: &dyn Source,
    folder: &Path,
    how: Download,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Held>, Trouble> {
    let files = source.held().await?;
    let total = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    if total > how.bytes_max {
        return Err(Trouble::Malformed(format!("{total} bytes; the limit is {}", how.bytes_max)));
    }
    let done = AtomicU64::new(0);
    let mut ranges = Vec::new();
    for file in &files {
        if let Some(why) = name_trouble(&file.name) {
            return Err(Trouble::Malformed(why));
        }
        let is_left = how.leaves_weights && matches(WEIGHTS, &file.name);
        let expected = file.sha256.filter(|_| !is_left);
        let (missing, here) = begun(folder, Held { sha256: expected, ..file.clone() }, how.range_bytes).await?;
        done.fetch_add(here, Ordering::Relaxed);
        ranges.extend(missing);
    }
    let tell = |bytes: u64| watch(Progress { done: done.fetch_add(bytes, Ordering::Relaxed) + bytes, total });
    tell(0);
    let mut fetches: Vec<futures::future::BoxFuture<'_, Result<(), Trouble>>> = Vec::new();
    for range in ranges {
        fetches.push(Box::pin(fetch(source, folder, range, &tell)));
    }
    let mut fetches = stream::iter(fetches).buffer_unordered(how.at_once.max(1));
    while let Some(ended) = fetches.next().await {
        ended?;
    }
    Ok(files)
}

/// What is missing of a file, and how much of it is here. A file without bytes is finished at once.
async fn begun(folder: &Path, held: Held, range_bytes: u64) -> Result<(Vec<Range>, u64), Trouble> {
    let folder = folder.to_owned();
    blocking(move || {
        let path = folder.join(&held.name);
        if fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() == held.bytes) {
            let bytes = held.bytes;
            return Ok((Vec::new(), bytes));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let open = |path: PathBuf| File::options().read(true).write(true).create(true).truncate(false).open(path);
        let (bytes, map) = (open(beside(&path, "part"))?, open(beside(&path, "part.map"))?);
        let count = held.bytes.div_ceil(range_bytes.max(1));
        let mut whole = vec![0_u8; usize::try_from(count).map_err(io::Error::other)?];
        // Another size or another length of ranges: nothing of it is of use.
        if bytes.metadata()?.len() == held.bytes && map.metadata()?.len() == count {
            map.read_exact_at(&mut whole, 0)?;
        } else {
            bytes.set_len(held.bytes)?;
            map.set_len(0)?;
            map.set_len(count)?;
        }
        let ends = (0..count).map(|place| (place, place * range_bytes, ((place + 1) * range_bytes).min(held.bytes)));
        let missing: Vec<(u64, u64, u64)> =
            ends.zip(&whole).filter(|(_, whole)| **whole != 1).map(|(end, _)| end).collect();
        let here = held.bytes - missing.iter().map(|(_, begin, end)| end - begin).sum::<u64>();
        let missing_count = AtomicU64::new(missing.len() as u64);
        let part = Arc::new(Part { held, bytes, map, missing: missing_count });
        if missing.is_empty() {
            finish(&part, &path)?;
        }
        let range = |(place, begin, end)| Range { part: Arc::clone(&part), place, begin, end };
        Ok((missing.into_iter().map(range).collect(), here))
    })
    .await
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Fetches one range; whoever brings the last one of a file finishes it.
async fn fetch(source: &dyn Source, folder: &Path, range: Range, tell: &(dyn Fn(u64) + Sync)) -> Result<(), Trouble> {
    let (mut at, mut tries) = (range.begin, 0);
    while at < range.end {
        let before = at;
        let broke = stream_into(source, &range, &mut at, tell).await;
        tries = if at > before { 0 } else { tries + 1 };
        match broke {
            Ok(()) if at == range.end => {}
            Ok(()) if tries < TRIES => {}
            Ok(()) => return Err(Trouble::Failed(format!("`{}` breaks off at byte {at}", range.part.held.name))),
            Err(Trouble::Failed(_why)) if tries < TRIES => {}
            Err(trouble) => return Err(trouble),
        }
    }
    let path = folder.join(&range.part.held.name);
    let Range { part, place, .. } = range;
    blocking(move || {
        part.map.write_all_at(&[1], place)?;
        if part.missing.fetch_sub(1, Ordering::AcqRel) == 1 { finish(&part, &path) } else { Ok(()) }
    })
    .await
}

async fn stream_into(
    source: &dyn Source,
    range: &Range,
    at: &mut u64,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<(), Trouble> {
    let answer = source.open(&range.part.held.name, *at, range.end).await?;
    let mut stream = answer.bytes_stream();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|source| Trouble::Failed(told(&source)))?;
        if bytes.len() as u64 > range.end - *at {
            return Err(Trouble::NoRange(format!("`{}`: more bytes than were asked for", range.part.held.name)));
        }
        let (part, begin, count) = (Arc::clone(&range.part), *at, bytes.len() as u64);
        blocking(move || Ok(part.bytes.write_all_at(&bytes, begin)?)).await?;
        *at += count;
        tell(count);
    }
    Ok(())
}

/// Gives a file its name, when it is the one that was committed. One that is not is thrown away.
fn finish(part: &Part, path: &Path) -> Result<(), Broken> {
    part.bytes.sync_data()?;
    if let Some(expected) = part.held.sha256
        && hash(&part.bytes)? != expected
    {
        fs::remove_file(beside(path, "part"))?;
        fs::remove_file(beside(path, "part.map"))?;
        return Err(Broken::Damaged(format!("`{}` is not what its digest says", part.held.name)));
    }
    fs::rename(beside(path, "part"), path)?;
    Ok(fs::remove_file(beside(path, "part.map"))?)
}

pub(super) fn hash(file: &File) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASHED_BYTES];
    let mut file = file;
    io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// What the disk or the digest says.
enum Broken {
    Disk(io::Error),
    Damaged(String),
}

impl From<io::Error> for Broken {
    fn from(source: io::Error) -> Self {
        Self::Disk(source)
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T, Broken> + Send + 'static) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(act).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Broken::Disk(source))) => Err(Trouble::Disk(source.to_string())),
        Ok(Err(Broken::Damaged(what))) => Err(Trouble::Damaged(what)),
        Err(source) => Err(Trouble::Failed(format!("the writer ended early: {source}"))),
    }
}

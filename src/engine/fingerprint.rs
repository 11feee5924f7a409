//! Fingerprints of models on this machine: the one pass over their weight files, on all cores.
//!
//! Owns the threads, the buffers and the order of the parts. Refuses to know what a fingerprint is made of (`dedup`) and
//! what a well-formed model is (`artifact`). The stage `duplicates`, `waag check` and the benches call it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use sha2::{Digest as _, Sha256};

use crate::{
    artifact::model::safetensors::{Header, Malformed, Tensor},
    dedup::model::{Dtype, Fingerprint, Key, Scan, print, scan},
};

/// Bytes that are read at a time: they stay in the second-level cache while everything is computed from them.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of a share of a file that one thread takes, where no digest of the whole file is wanted.
const SHARE_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of a weight file's length and header that are read at first.
const LENGTH: usize = 8;

/// What to scan.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The folder of the model.
    pub folder: &'a Path,
    /// The weight files with their headers, which were checked.
    pub shards: &'a BTreeMap<String, Header>,
    /// The key under which fingerprints are comparable.
    pub key: &'a Key,
    /// Threads to use.
    pub threads: usize,
    /// Whether the SHA-256 of every file is wanted too.
    pub sha256: bool,
}

/// What the pass found.
#[derive(Debug, Clone, PartialEq)]
pub struct Scanned {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// The SHA-256 of each weight file, where it was wanted.
    pub sha256: BTreeMap<String, [u8; 32]>,
}

/// Why there is no fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A weight file is not well formed.
    #[error("`{}` is no safetensors file", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The rule of the format that it breaks.
        source: Malformed,
    },
    /// A file is not what its header said.
    #[error("the weights are not what their headers say")]
    Scan(#[from] scan::Error),
    /// The parts do not fit together.
    #[error("the parts of the fingerprint do not fit together")]
    Parts(#[from] print::Error),
    /// It was told to stop.
    #[error("the pass was stopped")]
    Stopped,
}

/// What one thread takes at a time: tensors that lie one after another in one file.
struct Share<'a> {
    name: &'a str,
    header: &'a Header,
    tensors: &'a [Tensor],
    /// Whether the share is the whole file, header included, for its digest.
    is_file: bool,
}

/// What came of one.
struct Done {
    part: print::Part,
    sha256: Option<[u8; 32]>,
}

/// The headers of all weight files in a folder.
///
/// # Errors
/// When a file cannot be read or is no safetensors file.
pub fn headers(folder: &Path) -> Result<BTreeMap<String, Header>, Error> {
    let unreadable = |source| Error::Read { path: folder.to_owned(), source };
    let mut shards = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            shards.insert(name.to_owned(), header(&path)?);
        }
    }
    Ok(shards)
}

/// The header of a weight file.
///
/// # Errors
/// When it cannot be read or is no safetensors file.
pub fn header(path: &Path) -> Result<Header, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let malformed = |source| Error::Header { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let read = |at: u64, count: usize| {
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    let bytes = file.metadata().map_err(unreadable)?.len();
    let short = Malformed::Short { bytes, needed: LENGTH as u64 + 2 };
    let first = read(0, LENGTH.min(usize::try_from(bytes).unwrap_or(LENGTH))).map_err(unreadable)?;
    let first = *first.first_chunk().ok_or_else(|| malformed(short))?;
    let length = usize::try_from(Header::length(first, bytes).map_err(malformed)?).unwrap_or_default();
    let json = read(LENGTH as u64, length).map_err(unreadable)?;
    Header::parse(&json, bytes).map_err(malformed)
}

/// Reads every weight file once. `watch` hears of bytes as they are done, and answers whether to go on.
///
/// # Errors
/// [`Error`].
pub fn scan(request: &Request<'_>, watch: &(dyn Fn(u64) -> bool + Sync)) -> Result<Scanned, Error> {
    let shares = shares(request);
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let done: Mutex<Vec<Option<Result<Done, Error>>>> = Mutex::new(shares.iter().map(|_| None).collect());
    let go_on = |bytes: u64| {
        if !watch(bytes) {
            stopped.store(true, Ordering::Relaxed);
        }
        !stopped.load(Ordering::Relaxed)
    };
    thread::scope(|threads| {
        for _ in 0..request.threads.clamp(1, shares.len().max(1)) {
            threads.spawn(|| {
                let mut buffer = vec![0; BUFFER_BYTES];
                while let Some((at, share)) = take(&next, &shares) {
                    let ended = read(request, share, &mut buffer, &go_on);
                    if ended.is_err() {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(ended);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    gather(&shares, done)
}

fn take<'s, 'a>(next: &AtomicUsize, shares: &'s [Share<'a>]) -> Option<(usize, &'s Share<'a>)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    shares.get(at).map(|share| (at, share))
}

fn gather(shares: &[Share<'_>], done: Vec<Option<Result<Done, Error>>>) -> Result<Scanned, Error> {
    let (mut parts, mut sha256) = (Vec::new(), BTreeMap::new());
    let mut stopped = false;
    for (share, ended) in shares.iter().zip(done) {
        match ended {
            // The first failure stops the others: it is the one that is told.
            Some(Err(Error::Stopped)) | None => stopped = true,
            Some(Err(other)) => return Err(other),
            Some(Ok(done)) => {
                parts.push(done.part);
                if let Some(digest) = done.sha256 {
                    sha256.insert(share.name.to_owned(), digest);
                }
            }
        }
    }
    if stopped {
        return Err(Error::Stopped);
    }
    Ok(Scanned { fingerprint: Fingerprint::of(parts)?, sha256 })
}

/// Whole files where their digests are wanted; otherwise files are cut between tensors, so that one large file keeps
/// every core busy.
fn shares<'a>(request: &Request<'a>) -> Vec<Share<'a>> {
    let mut shares = Vec::new();
    for (name, header) in request.shards {
        if request.sha256 {
            shares.push(Share { name, header, tensors: &header.tensors, is_file: true });
            continue;
        }
        let mut rest = header.tensors.as_slice();
        while let Some(first) = rest.first() {
            let count = rest.partition_point(|tensor| tensor.end - first.begin <= SHARE_BYTES).max(1);
            let (tensors, after) = rest.split_at(count);
            shares.push(Share { name, header, tensors, is_file: false });
            rest = after;
        }
    }
    shares
}

fn read(
    request: &Request<'_>,
    share: &Share<'_>,
    buffer: &mut [u8],
    go_on: &dyn Fn(u64) -> bool,
) -> Result<Done, Error> {
    let path = request.folder.join(share.name);
    let unreadable = |source| Error::Read { path: path.clone(), source };
    let file = File::open(&path).map_err(unreadable)?;
    let mut scan = Scan::new(request.key);
    let mut hasher = share.is_file.then(Sha256::new);
    let data = share.header.data_begin();
    if let Some(hasher) = &mut hasher {
        // The header belongs to the digest and to nothing else.
        each(&file, 0, data, buffer, |bytes| hasher.update(bytes)).map_err(unreadable)?;
    }
    for tensor in share.tensors {
        match Dtype::of(tensor.dtype.as_str()) {
            Some(dtype) => scan.begin(&tensor.name, dtype, &tensor.shape)?,
            // Types without a number of bytes for each element count by their bytes.
            None => scan.begin(&tensor.name, Dtype::Other(1), &[tensor.bytes()])?,
        }
        let (mut at, end) = (data + tensor.begin, data + tensor.end);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = &mut buffer[..count];
            file.read_exact_at(bytes, at).map_err(unreadable)?;
            scan.push(bytes)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&*bytes);
            }
            at += count as u64;
            if !go_on(count as u64) {
                return Err(Error::Stopped);
            }
        }
        scan.end()?;
    }
    Ok(Done { part: scan.finish()?, sha256: hasher.map(|hasher| hasher.finalize().into()) })
}

/// Hands over the bytes of a file from `begin` to `end`.
fn each(file: &File, begin: u64, end: u64, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut at = begin;
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..count], at)?;
        take(&buffer[..count]);
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;

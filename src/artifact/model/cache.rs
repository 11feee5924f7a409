//! Kept models: whole ones under their digest, others beside them until they are whole.
//!
//! Owns one folder with every model on this machine, who is at work on which, and the order in which a model appears
//! and goes, so that a crash leaves none that looks whole and is not. What is kept holds its bytes of the [`Disk`] as a
//! permit does, and what is to be fetched waits until it has its own. Refuses to know how a model is fetched and which is
//! worth keeping. Stages call it, and the collector.
//!
//! A whole model lies at `<key>`, one that is being fetched at `<key>.partial`, who they are at `<key>.json`, and what
//! is being deleted at `.trash-<key>-<when>`. The key of a model that is named by a digest is that digest; that of a
//! hub's commit is the SHA-256 of `repository@commit`, because a commit binds no bytes outside of its repository.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{
    Disk, Reference, codes,
    disk::Room,
    files::{FILES_MAX, FOLDERS_MAX},
    reference::Revision,
};
use crate::{
    clock::{Clock, UnixMs},
    fault::Fault,
    ids::Digest,
};

/// Where the models are, below the data directory.
pub const FOLDER: &str = "cache/models";
/// The end of the name of a model that is not whole.
const PARTIAL: &str = ".partial";
/// The end of the name of the file that says which model it is.
const ABOUT: &str = ".json";
/// The beginning of the name of what is being deleted.
const TRASH: &str = ".trash-";
/// Bytes of a file that says which model it is: a repository's name and a digest.
const ABOUT_BYTES_MAX: u64 = 4096;
/// Blocks in which file systems count what a file takes.
const BLOCK_BYTES: u64 = 512;

/// What the folder of models can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk did not do what it was asked.
    #[error("cannot {act} {path}")]
    Disk {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Waiting would be for ever.
    #[error("{model} has {bytes} bytes, and models may take {budget_bytes} of the disk")]
    TooLarge {
        /// Which model.
        model: String,
        /// Its bytes.
        bytes: u64,
        /// What all models may take.
        budget_bytes: u64,
    },
    /// The thread at work on the disk ended early.
    #[error("the work on the disk ended early")]
    Ended(#[source] tokio::task::JoinError),
}

impl Error {
    /// The failure as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let why = std::error::Error::source(self).map_or_else(String::new, |source| format!(": {source}"));
        match self {
            Self::TooLarge { .. } => codes::DISK_TOO_SMALL.because(self.to_string()),
            Self::Disk { .. } | Self::Ended(_) => codes::MODEL_UNREADABLE.because(format!("{self}{why}")),
        }
    }
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Disk { act, path: path.to_owned(), source }
}

/// Under which key a model is kept.
#[must_use]
pub fn key_of(reference: &Reference) -> Digest {
    match reference.revision() {
        Revision::Sha256(digest) => Digest(*digest),
        Revision::Commit(_) => Digest::of(reference.to_string().as_bytes()),
    }
}

/// Which model it is: what the name of its folder does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    repo: String,
    revision: String,
}

/// A model as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its key: the digest by which submissions name it.
    pub key: Digest,
    /// Its repository; `None` where the file that says it is lost.
    pub repo: Option<String>,
    /// Its digest or commit as it was committed.
    pub revision: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that they take of the disk: fewer while there are holes.
    pub disk_bytes: u64,
    /// Whether something of it is missing.
    pub is_partial: bool,
    /// Whether somebody is at work on it. Only the process that owns the folder knows.
    pub is_pinned: bool,
    /// When it was last asked for.
    pub used_ms: UnixMs,
}

/// One model in the books.
#[derive(Debug)]
struct Held {
    is_whole: bool,
    /// Whether somebody is filling it.
    is_claimed: bool,
    pins: usize,
    rooms: Vec<Room>,
}

impl Held {
    fn room_bytes(&self) -> u64 {
        self.rooms.iter().map(Room::bytes).sum()
    }

    const fn is_pinned(&self) -> bool {
        self.is_claimed || self.pins > 0
    }
}

/// The models on this machine. Cheap to clone; all clones are the same folder. Only the owner of the data directory may
/// have one.
#[derive(Clone)]
pub struct ModelCache {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    disk: Disk,
    held: Mutex<BTreeMap<Digest, Held>>,
    /// Rings when a model became whole, or was given up, or went.
    changed: Notify,
}

impl fmt::Debug for ModelCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelCache({})", self.shared.root.display())
    }
}

/// A model that was asked for.
#[derive(Debug)]
pub enum Reserved {
    /// It is here already.
    Here(Pinned),
    /// The caller fetches it into this place, where an earlier try may have left parts, and finishes it.
    Place(Place),
}

/// What became of one try.
enum Claimed {
    Now(Reserved),
    /// Somebody is fetching it.
    Busy,
    /// There is no room for it.
    NoRoom,
}

impl ModelCache {
    /// Opens the folder, which need not be there yet, below this data directory. What lies there counts as taken.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>, disk: Disk) -> Result<Self, Error> {
        let root = data_dir.join(FOLDER);
        let mut held = BTreeMap::new();
        let entries = scan(&root)?;
        for entry in entries.iter().filter(|entry| !entry.is_partial) {
            held.insert(entry.key, whole(disk.occupied(entry.bytes)));
        }
        for entry in entries.iter().filter(|entry| entry.is_partial) {
            // Whole and in parts at once: somebody copied it here. The whole one counts, the parts are of no use.
            if held.contains_key(&entry.key) {
                trash(&root, &path_of(&root, &entry.key, true), &entry.key, clock.now_ms())?;
                continue;
            }
            let rooms = vec![disk.occupied(entry.bytes)];
            held.insert(entry.key, Held { is_whole: false, is_claimed: false, pins: 0, rooms });
        }
        let held = Mutex::new(held);
        Ok(Self { shared: Arc::new(Shared { root, clock, disk, held, changed: Notify::new() }) })
    }

    /// The model, if it is here and whole. It stays as long as the answer lives.
    #[must_use]
    pub fn find(&self, reference: &Reference) -> Option<Pinned> {
        let mut held = self.locked();
        self.pinned(&mut held, key_of(reference))
    }

    fn pinned(&self, held: &mut BTreeMap<Digest, Held>, key: Digest) -> Option<Pinned> {
        let path = path_of(&self.shared.root, &key, false);
        let found = held.get_mut(&key).filter(|one| one.is_whole)?;
        if !path.is_dir() {
            // Somebody deleted it by hand.
            if found.pins == 0 {
                held.remove(&key);
            }
            return None;
        }
        found.pins += 1;
        self.touch(&key);
        Some(Pinned { cache: self.clone(), key, path })
    }

    /// The model, or a place for its `bytes`, once there is room. Of several who ask for one model, one gets the place
    /// and the others wait until it is here or was given up. Dropped while it waits, it leaves nothing.
    ///
    /// # Errors
    /// `TooLarge` at once when there can never be room; otherwise when the disk fails.
    pub async fn reserve(&self, reference: &Reference, bytes: u64) -> Result<Reserved, Error> {
        let disk = &self.shared.disk;
        let mut waiting = None;
        loop {
            // Taken before looking, so that nothing is missed in between.
            let (changed, freed) = (self.shared.changed.notified(), disk.freed());
            match self.claim(reference, bytes)? {
                Claimed::Now(reserved) => return Ok(reserved),
                Claimed::Busy => {
                    waiting = None;
                    changed.await;
                }
                Claimed::NoRoom => {
                    let budget_bytes = disk.bytes();
                    if bytes > budget_bytes {
                        return Err(Error::TooLarge { model: reference.to_string(), bytes, budget_bytes });
                    }
                    waiting.get_or_insert_with(|| disk.wait(bytes));
                    disk.want();
                    tokio::select! {
                        () = changed => {}
                        () = freed => {}
                    }
                }
            }
        }
    }

    fn claim(&self, reference: &Reference, bytes: u64) -> Result<Claimed, Error> {
        let (key, root) = (key_of(reference), &self.shared.root);
        let mut held = self.locked();
        if let Some(pinned) = self.pinned(&mut held, key) {
            return Ok(Claimed::Now(Reserved::Here(pinned)));
        }
        let known = held.get(&key);
        if known.is_some_and(Held::is_pinned) {
            return Ok(Claimed::Busy);
        }
        // Its parts have their room already.
        let more_bytes = bytes.saturating_sub(known.map_or(0, Held::room_bytes));
        let Some(room) = self.shared.disk.take(more_bytes) else { return Ok(Claimed::NoRoom) };
        // Who it is stands there before its folder does: no model is without it.
        let about = About { repo: reference.repo().to_owned(), revision: reference.revision().to_string() };
        private_folder(root)?;
        write_about(root, &key, &about)?;
        let path = path_of(root, &key, true);
        private_folder(&path)?;
        let fresh = || Held { is_whole: false, is_claimed: false, pins: 0, rooms: Vec::new() };
        let entry = held.entry(key).or_insert_with(fresh);
        entry.rooms.push(room);
        entry.is_claimed = true;
        drop(held);
        self.touch(&key);
        Ok(Claimed::Now(Reserved::Place(Place { cache: self.clone(), key, path, is_finished: false })))
    }

    /// The disk that it lies on.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// Every model on the disk, with who is in use.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let root = &self.shared.root;
        let mut entries = scan(root)?;
        let mut held = self.locked();
        // What was deleted by hand takes no room any more.
        held.retain(|key, one| one.is_pinned() || path_of(root, key, !one.is_whole).is_dir());
        for entry in &mut entries {
            entry.is_pinned = held.get(&entry.key).is_some_and(Held::is_pinned);
        }
        Ok(entries)
    }

    /// Takes a model away, unless it is in use: from now on nobody finds it, and what is answered still has its bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, key: &Digest, at_ms: UnixMs) -> Result<Option<Trash>, Error> {
        let root = &self.shared.root;
        let mut held = self.locked();
        let is_partial = match held.get(key) {
            Some(known) if known.is_pinned() => return Ok(None),
            Some(known) => !known.is_whole,
            // Copied here while we run.
            None => !path_of(root, key, false).is_dir(),
        };
        let trashed = trash(root, &path_of(root, key, is_partial), key, at_ms)?;
        remove_about(root, key)?;
        let rooms = held.remove(key).map(|gone| gone.rooms).unwrap_or_default();
        drop(held);
        self.shared.changed.notify_waiters();
        Ok(Some(Trash { rooms, ..trashed }))
    }

    /// What a process before this one took away and did not delete to its end.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn left_over(&self) -> Result<Vec<Trash>, Error> {
        let mut left = Vec::new();
        for name in names(&self.shared.root)? {
            let parsed = name.strip_prefix(TRASH).and_then(|rest| rest.split_once('-'));
            let Some((key, at_ms)) = parsed.and_then(|(key, at)| Some((key.parse().ok()?, at.parse().ok()?))) else {
                continue;
            };
            left.push(Trash { key, at_ms, path: self.shared.root.join(&name), rooms: Vec::new() });
        }
        Ok(left)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Digest, Held>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a model was asked for, for the processes after this one. In vain on a full disk, and no harm then.
    fn touch(&self, key: &Digest) {
        let at_ms = u64::try_from(self.shared.clock.now_ms()).unwrap_or(0);
        let at = UNIX_EPOCH + Duration::from_millis(at_ms);
        let about = self.shared.root.join(format!("{key}{ABOUT}"));
        drop(File::options().write(true).open(about).and_then(|file| file.set_modified(at)));
    }
}

/// A whole model that stays as long as this lives.
pub struct Pinned {
    cache: ModelCache,
    key: Digest,
    path: PathBuf,
}

impl Pinned {
    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.key
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({})", self.path.display())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.cache.touch(&self.key);
        let mut held = self.cache.locked();
        if let Some(one) = held.get_mut(&self.key) {
            one.pins = one.pins.saturating_sub(1);
        }
        drop(held);
        self.cache.shared.changed.notify_waiters();
    }
}

/// Where a model is fetched to. Dropped before it is finished, it leaves what came for the next who asks.
pub struct Place {
    cache: ModelCache,
    key: Digest,
    path: PathBuf,
    is_finished: bool,
}

impl Place {
    /// The folder into which the files belong.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.path
    }

    /// The model's key.
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.key
    }

    /// Makes it a model: every file has reached the disk before it gets its name. Once begun this ends, whether the
    /// caller waits or not.
    ///
    /// # Errors
    /// When the disk fails; the parts stay.
    pub async fn finish(self) -> Result<Pinned, Error> {
        tokio::task::spawn_blocking(move || self.finish_blocking()).await.map_err(Error::Ended)?
    }

    fn finish_blocking(mut self) -> Result<Pinned, Error> {
        let root = self.cache.shared.root.clone();
        let path = path_of(&root, &self.key, false);
        sync_tree(&self.path, 0)?;
        fs::rename(&self.path, &path).map_err(failed("rename", &self.path))?;
        sync(&root)?;
        let mut held = self.cache.locked();
        if let Some(one) = held.get_mut(&self.key) {
            one.is_whole = true;
            one.is_claimed = false;
            one.pins += 1;
        }
        drop(held);
        self.is_finished = true;
        self.cache.touch(&self.key);
        self.cache.shared.changed.notify_waiters();
        Ok(Pinned { cache: self.cache.clone(), key: self.key, path })
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.path.display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        self.cache.touch(&self.key);
        if let Some(one) = self.cache.locked().get_mut(&self.key) {
            one.is_claimed = false;
        }
        self.cache.shared.changed.notify_waiters();
    }
}

/// A model that nobody finds any more, with the room that it has until it is deleted.
#[derive(Debug)]
pub struct Trash {
    /// The key that it had.
    pub key: Digest,
    /// When it was taken away.
    pub at_ms: UnixMs,
    path: PathBuf,
    rooms: Vec<Room>,
}

impl Trash {
    /// Deletes it and gives its room back. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When the disk fails; the next look finds it again.
    pub fn delete(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.path).map_err(failed("delete", &self.path))?;
        drop(self.rooms);
        Ok(())
    }
}

fn whole(room: Room) -> Held {
    Held { is_whole: true, is_claimed: false, pins: 0, rooms: vec![room] }
}

fn path_of(root: &Path, key: &Digest, is_partial: bool) -> PathBuf {
    root.join(format!("{key}{}", if is_partial { PARTIAL } else { "" }))
}

/// Takes a folder out of the way under a name that no reader takes for a model.
fn trash(root: &Path, path: &Path, key: &Digest, at_ms: UnixMs) -> Result<Trash, Error> {
    let into = root.join(format!("{TRASH}{key}-{at_ms}"));
    fs::rename(path, &into).map_err(failed("rename", path))?;
    sync(root)?;
    Ok(Trash { key: *key, at_ms, path: into, rooms: Vec::new() })
}

fn write_about(root: &Path, key: &Digest, about: &About) -> Result<(), Error> {
    let path = root.join(format!("{key}{ABOUT}"));
    let beside = root.join(format!("{key}{ABOUT}.new"));
    let text = serde_json::to_vec(about).map_err(io::Error::from).map_err(failed("write", &path))?;
    let write = |mut file: File| file.write_all(&text);
    File::create(&beside).and_then(write).map_err(failed("write", &beside))?;
    fs::rename(&beside, &path).map_err(failed("rename", &beside))
}

fn remove_about(root: &Path, key: &Digest) -> Result<(), Error> {
    let path = root.join(format!("{key}{ABOUT}"));
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path)(source)),
        _ => Ok(()),
    }
}

/// Models may be unpublished: nobody else looks in.
fn private_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))
}

fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("write", path))
}

/// Every file and folder reaches the disk, the innermost first.
fn sync_tree(folder: &Path, depth: usize) -> Result<(), Error> {
    if depth <= FOLDERS_MAX {
        for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
            let path = entry.map_err(failed("read", folder))?.path();
            let about = fs::symlink_metadata(&path).map_err(failed("read", &path))?;
            if about.is_dir() {
                sync_tree(&path, depth + 1)?;
            } else if about.is_file() {
                sync(&path)?;
            }
        }
    }
    sync(folder)
}

/// The names in a folder; none when it is not there.
fn names(root: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("read", root)(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed("read", root))?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Every model in a folder, by key, without knowing who is in use. What is not ours is not looked at.
///
/// # Errors
/// When the folder cannot be read.
pub fn scan(root: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for name in names(root)? {
        let (digits, is_partial) = name.strip_suffix(PARTIAL).map_or((name.as_str(), false), |rest| (rest, true));
        let Ok(key) = digits.parse::<Digest>() else { continue };
        let path = root.join(&name);
        let about_path = root.join(format!("{key}{ABOUT}"));
        let about = read_about(&about_path);
        let dated = if about.is_some() { &about_path } else { &path };
        // It may have gone since it was listed: the owner of the folder deletes while others look.
        let Some(used_ms) = modified_ms(dated).filter(|_| path.is_dir()) else { continue };
        let mut size = Size::default();
        measure(&path, 0, &mut size);
        let (repo, revision) = about.map(|about| (about.repo, about.revision)).unzip();
        let Size { bytes, disk_bytes, .. } = size;
        entries.push(Entry { key, repo, revision, bytes, disk_bytes, is_partial, is_pinned: false, used_ms });
    }
    Ok(entries)
}

fn read_about(path: &Path) -> Option<About> {
    fs::metadata(path).ok().filter(|about| about.len() <= ABOUT_BYTES_MAX)?;
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn modified_ms(path: &Path) -> Option<UnixMs> {
    let at: SystemTime = fs::symlink_metadata(path).ok()?.modified().ok()?;
    UnixMs::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[derive(Default)]
struct Size {
    bytes: u64,
    disk_bytes: u64,
    files: usize,
}

/// Adds up a folder. What has gone while it was read counts nothing.
fn measure(folder: &Path, depth: usize, size: &mut Size) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        // Parts and maps beside every file, at most.
        if size.files > 3 * FILES_MAX {
            return;
        }
        if about.is_dir() && depth < FOLDERS_MAX {
            measure(&entry.path(), depth + 1, size);
        } else if about.is_file() {
            size.files += 1;
            size.bytes = size.bytes.saturating_add(about.len());
            size.disk_bytes = size.disk_bytes.saturating_add(about.blocks().saturating_mul(BLOCK_BYTES));
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

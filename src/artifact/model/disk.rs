//! The disk's bytes for models: a slot as cores and memory are, granted before a byte is fetched.
//!
//! Owns how much is taken, who waits, and the grants: one that is dropped is room freed. Refuses to know which model it
//! is for. The scheduler owns it among its slots, the cache of models asks it.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use super::cache::{self, FOLDER};

/// Without a setting models may take this part of what they have and what is free, in hundredths: the database and its
/// evidence grow on the same disk.
const SHARE_PERCENT: u64 = 80;
/// And never of the last bytes: a full disk stops everything, and `waag doctor` warns below so many.
const RESERVE_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Bytes of the settings' unit.
const MIB: u64 = 1024 * 1024;

/// The disk's bytes for models. Cheap to clone; all clones are the same bytes.
#[derive(Debug, Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: u64,
    used: Mutex<Used>,
    freed: Notify,
    /// Rings when a model needs room. It keeps a ring that nobody heard.
    wanted: Notify,
}

/// What is taken. It may be more than there is: what lay there before a smaller budget was set stays.
#[derive(Debug, Default)]
struct Used {
    taken_bytes: u64,
    waits: Waits,
}

/// Who waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// How many models.
    pub models: u32,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A grant of bytes. Dropping it gives them back.
pub struct Room {
    bytes: u64,
    of: Arc<Shared>,
}

/// Says that a model waits, as long as it lives.
#[derive(Debug)]
pub struct Waiting {
    bytes: u64,
    of: Arc<Shared>,
}

impl Shared {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// So many bytes, all of them free.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let (freed, wanted) = (Notify::new(), Notify::new());
        Self { shared: Arc::new(Shared { bytes, used: Mutex::default(), freed, wanted }) }
    }

    /// How many there are in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// How many are free now.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.shared.bytes.saturating_sub(self.shared.used().taken_bytes)
    }

    /// Bytes, if they are free now.
    #[must_use]
    pub fn take(&self, bytes: u64) -> Option<Room> {
        let mut used = self.shared.used();
        let free = self.shared.bytes.saturating_sub(used.taken_bytes);
        (bytes <= free).then(|| self.room(&mut used, bytes))
    }

    /// Bytes that something takes already, however many there are.
    #[must_use]
    pub fn occupied(&self, bytes: u64) -> Room {
        self.room(&mut self.shared.used(), bytes)
    }

    fn room(&self, used: &mut Used, bytes: u64) -> Room {
        used.taken_bytes = used.taken_bytes.saturating_add(bytes);
        Room { bytes, of: Arc::clone(&self.shared) }
    }

    /// The next time that something is given back, from now on: whoever takes this before looking misses none.
    pub fn freed(&self) -> Notified<'_> {
        self.shared.freed.notified()
    }

    /// Says that a model of so many bytes needs room; it waits as long as the answer lives.
    #[must_use]
    pub fn wait(&self, bytes: u64) -> Waiting {
        let mut used = self.shared.used();
        used.waits.models += 1;
        used.waits.bytes = used.waits.bytes.saturating_add(bytes);
        Waiting { bytes, of: Arc::clone(&self.shared) }
    }

    /// Asks whoever deletes models to look.
    pub fn want(&self) {
        self.shared.wanted.notify_one();
    }

    /// The next time that room is wanted.
    pub fn wanted(&self) -> Notified<'_> {
        self.shared.wanted.notified()
    }

    /// Who waits now.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.shared.used().waits
    }
}

impl Room {
    /// How much it is.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({} bytes)", self.bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut used = self.of.used();
        used.taken_bytes = used.taken_bytes.saturating_sub(self.bytes);
        drop(used);
        self.of.freed.notify_waiters();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut used = self.of.used();
        used.waits.models -= 1;
        used.waits.bytes = used.waits.bytes.saturating_sub(self.bytes);
    }
}

/// How many bytes of the disk models may take: what the operator set in mebibytes, or, where that is 0, a share of what
/// is free and what models have already, with a reserve that stays free.
///
/// # Errors
/// When the folder of models cannot be read.
pub fn budget_bytes(data_dir: &Path, set_mib: u64) -> Result<u64, cache::Error> {
    if set_mib > 0 {
        return Ok(set_mib.saturating_mul(MIB));
    }
    let kept_bytes: u64 = cache::scan(&data_dir.join(FOLDER))?.iter().map(|entry| entry.disk_bytes).sum();
    let there = data_dir.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    // Where the system does not say how much is free, nothing can be promised.
    let free_bytes = rustix::fs::statvfs(there).map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize));
    Ok(share_of(kept_bytes.saturating_add(free_bytes)))
}

const fn share_of(bytes: u64) -> u64 {
    let share = bytes / 100 * SHARE_PERCENT;
    let unreserved = bytes.saturating_sub(RESERVE_BYTES);
    if share < unreserved { share } else { unreserved }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_may_be_more_than_the_budget() {
        let disk = Disk::new(100);
        let there = disk.occupied(70);
        assert!(disk.take(31).is_none());
        let rest = disk.take(30).expect("just fits");
        assert_eq!(disk.free_bytes(), 0);
        let more = disk.occupied(50);
        drop(rest);
        assert!(disk.take(1).is_none(), "20 more than there are, are taken");
        drop(more);
        assert_eq!(disk.free_bytes(), 30);
        drop(there);
        assert_eq!(disk.free_bytes(), disk.bytes());
    }

    #[tokio::test]
    async fn who_waits_is_told_and_hears_of_what_is_freed() {
        let disk = Disk::new(10);
        let room = disk.take(10).expect("all is free");
        let freed = disk.freed();
        let (one, two) = (disk.wait(70), disk.wait(5));
        assert_eq!(disk.waits(), Waits { models: 2, bytes: 75 });
        drop(one);
        assert_eq!(disk.waits(), Waits { models: 1, bytes: 5 });
        disk.want();
        disk.wanted().await;
        drop(room);
        freed.await;
        drop(two);
        assert_eq!(disk.waits(), Waits::default());
    }

    #[test]
    fn without_a_setting_some_of_the_disk_stays_free() {
        let gib = 1 << 30;
        assert_eq!(share_of(5 * gib), 0);
        assert_eq!(share_of(20 * gib), 15 * gib);
        assert_eq!(share_of(1_000 * gib), 1_000 * gib / 100 * 80);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(budget_bytes(dir.path(), 3).unwrap(), 3 << 20);
        assert!(budget_bytes(&dir.path().join("not/there"), 0).unwrap() < u64::MAX / 2);
    }
}

//! Short-lived facts: cached answers, nonces, rate-limit windows.
//!
//! Owns a sled database that may be lost at any time without harm. Refuses to keep anything that matters.
//! Every entry has a time at which it ends, and every write removes a few that have ended.

use std::{fs, path::Path};

use tracing::warn;

use super::{Error, limits, lock::make_private_dir};
use crate::clock::UnixMs;

/// A handle on the cache. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    /// key → end (8 bytes, big-endian) and value.
    entries: sled::Tree,
    /// end and key → nothing; in the order in which entries end.
    ends: sled::Tree,
}

/// What a rate-limit window says to one more hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// It fits; so many more would fit now.
    Allowed {
        /// Hits left in the window.
        left: u32,
    },
    /// The window is full until the oldest hit leaves it.
    Refused {
        /// Milliseconds until then.
        retry_after_ms: u64,
    },
}

/// The folder of models, which lies beside sled's files.
const MODELS: &str = "models";
/// Ended entries that a write removes: more than it adds, so that the cache cannot grow with the ended ones.
const REMOVED_PER_WRITE: usize = 4;

impl Cache {
    /// Opens the cache; one that cannot be opened is replaced by an empty one.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let opening = dir.with_extension("opening");
        // sled may panic on a damaged file. The mark outlives the panic, so the next start begins with an empty cache.
        if opening.exists() {
            warn!("the cache could not be opened last time; starting with an empty one");
            wipe(dir)?;
        }
        let failed = |act| {
            let path = opening.clone();
            move |source| Error::File { act, path, source }
        };
        fs::write(&opening, b"").map_err(failed("write"))?;
        let cache = match Self::open_once(dir) {
            Ok(cache) => cache,
            Err(error) => {
                warn!(%error, "the cache is damaged; starting with an empty one");
                wipe(dir)?;
                Self::open_once(dir)?
            }
        };
        fs::remove_file(&opening).map_err(failed("remove"))?;
        Ok(cache)
    }

    fn open_once(dir: &Path) -> Result<Self, Error> {
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(limits::CACHE_MEMORY_BYTES)
            .mode(sled::Mode::LowSpace)
            .open()?;
        Ok(Self { entries: db.open_tree("entries")?, ends: db.open_tree("ends")? })
    }

    /// The value of a key, unless it has ended.
    ///
    /// # Errors
    /// When sled fails.
    pub fn get(&self, key: &[u8], now_ms: UnixMs) -> Result<Option<Vec<u8>>, Error> {
        let entry = self.entries.get(key)?;
        Ok(entry.and_then(|entry| {
            let (end_ms, value) = split(&entry)?;
            (end_ms > now_ms).then(|| value.to_vec())
        }))
    }

    /// Keeps a value until `end_ms`, in place of what the key had before.
    ///
    /// # Errors
    /// When key or value exceed their limits, or sled fails.
    pub fn put(&self, key: &[u8], value: &[u8], end_ms: UnixMs, now_ms: UnixMs) -> Result<(), Error> {
        check("key", key.len(), limits::CACHE_KEY_BYTES)?;
        check("value", value.len(), limits::CACHE_VALUE_BYTES)?;
        self.entries.insert(key, join(end_ms, value))?;
        self.ends.insert(end_key(end_ms, key), &[])?;
        self.remove_ended(now_ms)
    }

    /// Whether this key was not there yet; it is from now until `end_ms`. Of several callers at once only one is told
    /// `true`: what a nonce needs.
    ///
    /// # Errors
    /// When the key exceeds its limit or sled fails; the caller then treats it as seen.
    pub fn insert_once(&self, key: &[u8], end_ms: UnixMs, now_ms: UnixMs) -> Result<bool, Error> {
        check("key", key.len(), limits::CACHE_KEY_BYTES)?;
        let mut found = self.entries.get(key)?;
        loop {
            let live = found.as_deref().and_then(split).is_some_and(|(end_ms, _value)| end_ms > now_ms);
            if live {
                return Ok(false);
            }
            match self.entries.compare_and_swap(key, found, Some(join(end_ms, &[])))? {
                Ok(()) => break,
                Err(lost) => found = lost.current,
            }
        }
        self.ends.insert(end_key(end_ms, key), &[])?;
        self.remove_ended(now_ms)?;
        Ok(true)
    }

    /// Counts one hit of a key, if fewer than `limit` lie within the last `window_ms`. The window slides, so there is
    /// no boundary at which twice as many pass.
    ///
    /// # Errors
    /// When key or limit exceed their limits, or sled fails.
    pub fn hit(&self, key: &[u8], limit: u32, window_ms: u64, now_ms: UnixMs) -> Result<Hit, Error> {
        check("key", key.len(), limits::CACHE_KEY_BYTES)?;
        check("window", limit as usize, limits::WINDOW_HITS as usize)?;
        let window_ms = i64::try_from(window_ms).unwrap_or(i64::MAX);
        let end_ms = now_ms.saturating_add(window_ms);
        let mut found = self.entries.get(key)?;
        let allowed = loop {
            let mut hits = found.as_deref().and_then(split).map(|(_end, value)| times(value)).unwrap_or_default();
            hits.retain(|hit_ms| hit_ms.saturating_add(window_ms) > now_ms);
            if hits.len() >= limit as usize {
                let oldest_ms = hits.first().copied().unwrap_or(now_ms);
                let wait_ms = oldest_ms.saturating_add(window_ms).saturating_sub(now_ms);
                return Ok(Hit::Refused { retry_after_ms: u64::try_from(wait_ms).unwrap_or(0) });
            }
            hits.push(now_ms);
            let left = limit.saturating_sub(u32::try_from(hits.len()).unwrap_or(u32::MAX));
            let value: Vec<u8> = hits.iter().flat_map(|hit_ms| hit_ms.to_be_bytes()).collect();
            match self.entries.compare_and_swap(key, found, Some(join(end_ms, &value)))? {
                Ok(()) => break Hit::Allowed { left },
                Err(lost) => found = lost.current,
            }
        };
        self.ends.insert(end_key(end_ms, key), &[])?;
        self.remove_ended(now_ms)?;
        Ok(allowed)
    }

    fn remove_ended(&self, now_ms: UnixMs) -> Result<(), Error> {
        for ended in self.ends.range(..end_key(now_ms.saturating_add(1), &[])).take(REMOVED_PER_WRITE) {
            let (end, _nothing) = ended?;
            let Some((_end_ms, key)) = split(&end) else { continue };
            // A key that was written again ends later: only the entry that ended goes.
            let entry = self.entries.get(key)?;
            if entry.as_deref().and_then(split).is_some_and(|(end_ms, _value)| end_ms <= now_ms) {
                drop(self.entries.compare_and_swap(key, entry, None::<&[u8]>)?);
            }
            self.ends.remove(&end)?;
        }
        Ok(())
    }
}

/// Empties the folder, but for what lies beside sled's files in it: models are cheap to lose and dear to fetch again.
fn wipe(dir: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { act: "empty", path, source }
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return make_private_dir(dir),
        Err(source) => return Err(failed(dir)(source)),
    };
    for entry in entries {
        let entry = entry.map_err(failed(dir))?;
        let path = entry.path();
        if entry.file_name() == MODELS {
            continue;
        }
        let is_dir = entry.file_type().map_err(failed(&path))?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path))?;
    }
    Ok(())
}

fn check(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit {
        return Err(Error::CacheLimit { what, size, limit });
    }
    Ok(())
}

fn join(end_ms: UnixMs, value: &[u8]) -> Vec<u8> {
    [&end_ms.to_be_bytes(), value].concat()
}

/// Times before 1970 would sort last as unsigned bytes; a clock that shows them is wrong, and the cache may be lost.
fn end_key(end_ms: UnixMs, key: &[u8]) -> Vec<u8> {
    join(end_ms.max(0), key)
}

fn split(entry: &[u8]) -> Option<(UnixMs, &[u8])> {
    let (end_ms, value) = entry.split_first_chunk::<8>()?;
    Some((UnixMs::from_be_bytes(*end_ms), value))
}

fn times(value: &[u8]) -> Vec<UnixMs> {
    value.as_chunks::<8>().0.iter().map(|bytes| UnixMs::from_be_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::open(&dir.path().join("cache")).expect("a new cache");
        (dir, cache)
    }

    #[test]
    fn a_value_ends_when_it_was_told_to() {
        let (_dir, cache) = cache();
        cache.put(b"k", b"v", 100, 0).expect("kept");
        assert_eq!(cache.get(b"k", 99).expect("read"), Some(b"v".to_vec()));
        assert_eq!(cache.get(b"k", 100).expect("read"), None);
    }

    #[test]
    fn a_nonce_is_new_once() {
        let (_dir, cache) = cache();
        assert!(cache.insert_once(b"n", 100, 0).expect("kept"));
        assert!(!cache.insert_once(b"n", 100, 99).expect("seen"));
        assert!(cache.insert_once(b"n", 200, 100).expect("ended"));
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let (_dir, cache) = cache();
        let first = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| cache.insert_once(b"n", 100, 0).expect("kept"))).collect();
            tries.into_iter().map(|tried| tried.join().expect("no panic")).filter(|new| *new).count()
        });
        assert_eq!(first, 1);
    }

    #[test]
    fn a_window_slides() {
        let (_dir, cache) = cache();
        let hit = |now_ms| cache.hit(b"h", 2, 1_000, now_ms).expect("counted");
        assert_eq!(hit(0), Hit::Allowed { left: 1 });
        assert_eq!(hit(600), Hit::Allowed { left: 0 });
        assert_eq!(hit(999), Hit::Refused { retry_after_ms: 1 });
        assert_eq!(hit(1_000), Hit::Allowed { left: 0 });
        assert_eq!(hit(1_001), Hit::Refused { retry_after_ms: 599 });
    }

    #[test]
    fn what_has_ended_is_removed_by_later_writes() {
        let (_dir, cache) = cache();
        for n in 0..100_u32 {
            cache.put(&n.to_be_bytes(), b"v", 100, 0).expect("kept");
        }
        cache.put(b"again", b"v", 100, 0).expect("kept");
        cache.put(b"again", b"w", 10_000, 0).expect("kept");
        for n in 0..40_u32 {
            cache.put(b"new", &n.to_be_bytes(), 10_000, 200).expect("kept");
        }
        assert_eq!(cache.entries.len(), 2);
        assert_eq!(cache.ends.len(), 2);
        assert_eq!(cache.get(b"again", 200).expect("read"), Some(b"w".to_vec()));
    }

    #[test]
    fn limits_hold_at_the_edge() {
        let (_dir, cache) = cache();
        let key = vec![0; limits::CACHE_KEY_BYTES];
        cache.put(&key, b"", 1, 0).expect("it fits");
        cache.hit(b"h", limits::WINDOW_HITS, 1, 0).expect("it fits");
        let refusals = [
            cache.put(&[key, vec![0]].concat(), b"", 1, 0).expect_err("too long"),
            cache.put(b"k", &vec![0; limits::CACHE_VALUE_BYTES + 1], 1, 0).expect_err("too long"),
            cache.hit(b"h", limits::WINDOW_HITS + 1, 1, 0).expect_err("too many"),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Error::CacheLimit { .. }), "{refusal}");
        }
    }

    #[test]
    fn a_damaged_cache_is_replaced_at_the_next_start_at_the_latest() {
        for (name, garbage) in [("conf", "x".repeat(10)), ("db", "garbage".repeat(100_000)), ("db", "y".repeat(100))] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("cache");
            let cache = Cache::open(&path).expect("a new cache");
            cache.put(b"k", b"v", 100, 0).expect("kept");
            drop(cache);
            fs::write(path.join(name), garbage).expect("written");
            fs::create_dir(path.join(MODELS)).expect("a folder");
            // sled may panic on it; a process that panics is started again.
            let first = std::panic::catch_unwind(|| Cache::open(&path));
            let panicked = first.is_err();
            let cache = first.or_else(|_panic| std::panic::catch_unwind(|| Cache::open(&path)));
            let cache = cache.expect("no second panic").expect("it opens");
            assert!(!panicked || cache.get(b"k", 0).expect("read").is_none(), "{name}");
            cache.put(b"k", b"w", 100, 0).expect("it works");
            assert_eq!(cache.get(b"k", 0).expect("read"), Some(b"w".to_vec()));
            assert!(path.join(MODELS).is_dir(), "the models beside it stay");
        }
    }

    #[test]
    fn a_cache_whose_opening_crashed_is_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("cache");
        let cache = Cache::open(&path).expect("a new cache");
        cache.put(b"k", b"v", 100, 0).expect("kept");
        drop(cache);
        // As a process leaves it that panicked while it opened the cache.
        fs::write(path.with_extension("opening"), b"").expect("written");
        let cache = Cache::open(&path).expect("a new one");
        assert_eq!(cache.get(b"k", 0).expect("read"), None);
    }
}

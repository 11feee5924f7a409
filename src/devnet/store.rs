//! The chain's state: real storage keys with real SCALE values, of the present and of the recent past.
//!
//! Owns the versions of every key and the horizon behind which they are forgotten. Refuses to know what keys mean.
//! Only the chain writes it, one whole block at a time; everybody in `devnet/` may read it at a block.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use super::{hashing::Hash, limits};

/// A stored value.
pub type Value = Arc<[u8]>;
/// What one block changes: a new value, or `None` for a removed key.
pub type Changes = BTreeMap<Vec<u8>, Option<Value>>;

#[derive(Debug)]
struct Version {
    block: u32,
    value: Option<Value>,
}

/// Every readable version of every key.
#[derive(Debug)]
pub struct Store {
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    /// Which keys each block within the horizon changed, so that forgetting costs what writing did.
    changed: VecDeque<(u32, Vec<Vec<u8>>)>,
    oldest: u32,
    /// How many blocks behind the newest the horizon lies.
    keeps: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self::keeping(limits::STATE_BLOCKS)
    }
}

impl Store {
    /// An empty state that keeps this many blocks readable.
    pub const fn keeping(blocks: u32) -> Self {
        Self { keys: BTreeMap::new(), changed: VecDeque::new(), oldest: 0, keeps: blocks }
    }

    /// The oldest block whose state can be read.
    pub const fn oldest(&self) -> u32 {
        self.oldest
    }

    /// The value of a key after a block.
    pub fn read(&self, key: &[u8], block: u32) -> Option<&Value> {
        newest(self.keys.get(key)?, block)
    }

    /// Keys with a prefix and their values after a block, in the order of the keys, beginning after `after`.
    pub fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        block: u32,
    ) -> impl Iterator<Item = (&'a [u8], &'a Value)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.keys
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(move |(key, versions)| Some((&**key, newest(versions, block)?)))
    }

    /// Applies a block's changes and forgets what fell behind the horizon. Blocks come in order.
    pub fn apply(&mut self, block: u32, changes: &Changes) {
        for (key, value) in changes {
            let versions = self.keys.entry(key.clone()).or_default();
            assert!(versions.last().is_none_or(|last| last.block < block), "blocks are applied in order");
            versions.push(Version { block, value: value.clone() });
        }
        self.changed.push_back((block, changes.keys().cloned().collect()));
        self.oldest = self.oldest.max(block.saturating_sub(self.keeps));
        while self.changed.front().is_some_and(|(changed, _)| *changed <= self.oldest) {
            if let Some((_, keys)) = self.changed.pop_front() {
                keys.iter().for_each(|key| self.forget(key));
            }
        }
    }

    /// The keys that a block changed; empty for blocks behind the horizon.
    pub fn changed_in(&self, block: u32) -> &[Vec<u8>] {
        let found = self.changed.binary_search_by_key(&block, |(changed, _)| *changed);
        found.map_or(&[], |at| &self.changed[at].1)
    }

    /// Takes back every block after this one; they must lie within the horizon.
    pub fn take_back(&mut self, block: u32) {
        assert!(block >= self.oldest, "what was forgotten cannot be taken back");
        while self.changed.back().is_some_and(|(changed, _)| *changed > block) {
            let Some((_, keys)) = self.changed.pop_back() else { return };
            for key in keys {
                let Some(versions) = self.keys.get_mut(&key) else { continue };
                versions.retain(|version| version.block <= block);
                if versions.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// Drops the versions of a key that nobody can read any more.
    fn forget(&mut self, key: &[u8]) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let readable = versions.iter().rposition(|version| version.block <= self.oldest);
        if let Some(readable) = readable {
            // A removal that is the oldest readable version says the same as no version at all.
            let removed = usize::from(versions[readable].value.is_none());
            versions.drain(..readable + removed);
        }
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    #[cfg(test)]
    fn versions(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }
}

fn newest(versions: &[Version], block: u32) -> Option<&Value> {
    versions.iter().rev().find(|version| version.block <= block)?.value.as_ref()
}

/// The state root after a block: a hash chain over every change ever made, in the order of the keys. It binds the
/// whole state as a trie root would, at the cost of the change, but offers no proofs.
pub fn root_after(parent: &Hash, changes: &Changes) -> Hash {
    let mut bytes = parent.to_vec();
    encode_changes(changes, &mut bytes);
    super::hashing::blake2(&bytes)
}

/// The one encoding of changes, in the log and under the state root.
pub fn encode_changes(changes: &Changes, out: &mut Vec<u8>) {
    use parity_scale_codec::{Compact, Encode as _};
    Compact(u32::try_from(changes.len()).expect("a block changes fewer than 2^32 keys")).encode_to(out);
    for (key, value) in changes {
        key.encode_to(out);
        value.as_deref().map(<[u8]>::to_vec).encode_to(out);
    }
}

/// Reads changes back; `None` when the bytes do not begin with them.
pub fn decode_changes(bytes: &mut &[u8]) -> Option<Changes> {
    use parity_scale_codec::{Compact, Decode as _};
    let count = Compact::<u32>::decode(bytes).ok()?.0;
    let mut changes = Changes::new();
    for _ in 0..count {
        let key = Vec::<u8>::decode(bytes).ok()?;
        let value = Option::<Vec<u8>>::decode(bytes).ok()?;
        changes.insert(key, value.map(Into::into));
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: Option<&str>) -> Changes {
        Changes::from([(key.as_bytes().to_vec(), value.map(|value| value.as_bytes().into()))])
    }

    #[test]
    fn old_blocks_read_what_they_saw() {
        let mut store = Store::default();
        store.apply(0, &change("a", Some("0")));
        store.apply(1, &change("a", None));
        store.apply(2, &change("a", Some("2")));
        let read = |block| store.read(b"a", block).map(|value| value.to_vec());
        assert_eq!(
            (read(0), read(1), read(2), read(9)),
            (Some(b"0".to_vec()), None, Some(b"2".to_vec()), Some(b"2".to_vec()))
        );
    }

    #[test]
    fn the_horizon_forgets_exactly_what_cannot_be_read() {
        let mut store = Store::default();
        store.apply(0, &change("kept", Some("0")));
        store.apply(1, &change("gone", Some("1")));
        store.apply(2, &change("gone", None));
        for block in 3..=2 + limits::STATE_BLOCKS {
            store.apply(block, &change("hot", Some("x")));
        }
        assert_eq!(store.oldest(), 2);
        assert_eq!(store.read(b"kept", 2).map(|value| &**value), Some(&b"0"[..]));
        assert!(store.read(b"gone", 2).is_none());
        // The removed key has left no trace; the hot one keeps a version for each readable block.
        assert_eq!(store.versions(), 1 + limits::STATE_BLOCKS as usize);
    }

    #[test]
    fn blocks_taken_back_leave_no_trace() {
        let mut store = Store::default();
        store.apply(0, &change("a", Some("0")));
        store.apply(1, &change("a", Some("1")));
        store.apply(2, &change("b", Some("2")));
        store.take_back(0);
        assert_eq!(store.versions(), 1);
        assert_eq!(store.changed_in(1), &[] as &[Vec<u8>]);
        store.apply(1, &change("a", None));
        assert!(store.read(b"a", 9).is_none() && store.read(b"b", 9).is_none());
        assert_eq!(store.read(b"a", 0).map(|value| &**value), Some(&b"0"[..]));
    }

    #[test]
    fn ranges_are_sorted_start_after_a_key_and_stay_within_the_prefix() {
        let mut store = Store::default();
        store.apply(0, &["p1", "p2", "p3", "q"].iter().flat_map(|key| change(key, Some(key))).collect());
        store.apply(1, &change("p2", None));
        let keys = |after: Option<&'static str>, block| {
            let range = store.range(b"p", after.map(str::as_bytes), block);
            range.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(None, 0), ["p1", "p2", "p3"]);
        assert_eq!(keys(Some("p"), 1), ["p1", "p3"]);
        assert_eq!(keys(Some("p1"), 0), ["p2", "p3"]);
        assert_eq!(keys(Some("p3"), 0), Vec::<String>::new());
    }

    #[test]
    fn changes_survive_their_encoding() {
        let mut changes = change("a", Some("1"));
        changes.extend(change("b", None));
        let mut bytes = Vec::new();
        encode_changes(&changes, &mut bytes);
        let mut rest = &*bytes;
        assert_eq!(decode_changes(&mut rest), Some(changes));
        assert!(rest.is_empty());
        assert_eq!(decode_changes(&mut &bytes[..bytes.len() - 1]), None);
    }
}

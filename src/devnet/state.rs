//! Typed access to the state at one block, with changes that can be taken back.
//!
//! Owns the layers of not yet accepted changes and the way from names to keys and from values to bytes, both by the
//! metadata. Refuses to know the rules. The rules and the answers of `devnet/` use it.

use scale_decode::DecodeAsType;
use scale_encode::EncodeAsType;

use super::{
    hashing::append_key,
    items::Item,
    runtime::Runtime,
    store::{Changes, Store, Value},
};

/// One part of a storage key.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A round of the beacon, or an epoch.
    U64(u64),
    /// A block number of `System`.
    U32(u32),
    /// The first byte of an enum without fields.
    U8(u8),
    /// A netuid, a uid or a mechanism's index.
    U16(u16),
    /// An account.
    Account(&'a [u8; 32]),
}

impl From<u16> for Part<'_> {
    fn from(value: u16) -> Self {
        Self::U16(value)
    }
}

impl From<u64> for Part<'_> {
    fn from(value: u64) -> Self {
        Self::U64(value)
    }
}

impl From<u32> for Part<'_> {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl<'a> From<&'a [u8; 32]> for Part<'a> {
    fn from(value: &'a [u8; 32]) -> Self {
        Self::Account(value)
    }
}

/// The parts of a storage key, converted.
macro_rules! key {
    ($($part:expr),* $(,)?) => { &[$($crate::devnet::state::Part::from($part)),*] };
}
pub(crate) use key;

/// The state at a block and the changes on top of it.
#[derive(Debug)]
pub struct State<'a> {
    runtime: &'a Runtime,
    store: &'a Store,
    block: u32,
    layers: Vec<Changes>,
}

impl<'a> State<'a> {
    /// The state after a block.
    pub const fn at(runtime: &'a Runtime, store: &'a Store, block: u32) -> Self {
        Self { runtime, store, block, layers: Vec::new() }
    }

    /// The runtime whose types these are.
    pub const fn runtime(&self) -> &'a Runtime {
        self.runtime
    }

    /// Opens a layer: from here on changes can be taken back.
    pub fn begin(&mut self) {
        self.layers.push(Changes::new());
    }

    /// Takes back everything since the last `begin`.
    pub fn rollback(&mut self) {
        self.layers.pop().expect("a layer was opened");
    }

    /// Keeps everything since the last `begin`.
    pub fn commit(&mut self) {
        let top = self.layers.pop().expect("a layer was opened");
        let below = self.layers.last_mut().expect("the outermost layer is finished, not committed");
        below.extend(top);
    }

    /// The changes of the only layer left.
    pub fn finish(mut self) -> Changes {
        let changes = self.layers.pop().expect("a layer was opened");
        assert!(self.layers.is_empty(), "every inner layer was committed or rolled back");
        changes
    }

    /// The storage key of an item.
    pub fn key(&self, item: Item, parts: &[Part<'_>]) -> Vec<u8> {
        assert_eq!(self.runtime.entry(item).keys.len(), parts.len(), "{item:?} has another number of keys");
        self.prefix(item, parts)
    }

    /// What the storage keys of an item begin with that have these first parts.
    pub fn prefix(&self, item: Item, parts: &[Part<'_>]) -> Vec<u8> {
        let entry = self.runtime.entry(item);
        let mut key = entry.prefix.to_vec();
        for ((hasher, _), part) in entry.keys.iter().zip(parts) {
            match part {
                Part::U16(number) => append_key(hasher, &number.to_le_bytes(), &mut key),
                Part::U8(number) => append_key(hasher, &[*number], &mut key),
                Part::U64(number) => append_key(hasher, &number.to_le_bytes(), &mut key),
                Part::U32(number) => append_key(hasher, &number.to_le_bytes(), &mut key),
                Part::Account(account) => append_key(hasher, *account, &mut key),
            }
        }
        key
    }

    /// The bytes under a key.
    pub fn raw(&self, key: &[u8]) -> Option<Value> {
        for layer in self.layers.iter().rev() {
            if let Some(change) = layer.get(key) {
                return change.clone();
            }
        }
        self.store.read(key, self.block).cloned()
    }

    /// Replaces or removes the bytes under a key.
    pub fn put_raw(&mut self, key: Vec<u8>, value: Option<Value>) {
        let layer = self.layers.last_mut().expect("changes happen within a layer");
        layer.insert(key, value);
    }

    /// The value of an entry, if it is there.
    pub fn find<T: DecodeAsType>(&self, item: Item, parts: &[Part<'_>]) -> Option<T> {
        let bytes = self.raw(&self.key(item, parts))?;
        Some(self.decode(item, &bytes))
    }

    /// The value of an entry, or the metadata's default for it.
    pub fn get<T: DecodeAsType>(&self, item: Item, parts: &[Part<'_>]) -> T {
        if let Some(found) = self.find(item, parts) {
            return found;
        }
        let entry = self.runtime.entry(item);
        let default = entry.default.as_ref().unwrap_or_else(|| panic!("{item:?} has no default"));
        self.decode(item, default)
    }

    /// The value of an entry; an empty one when it is not there, whatever the metadata's default.
    pub fn get_or_default<T: DecodeAsType + Default>(&self, item: Item, parts: &[Part<'_>]) -> T {
        self.find(item, parts).unwrap_or_default()
    }

    /// Whether an entry is there.
    pub fn has(&self, item: Item, parts: &[Part<'_>]) -> bool {
        self.raw(&self.key(item, parts)).is_some()
    }

    /// Writes an entry.
    pub fn put<T: EncodeAsType + ?Sized>(&mut self, item: Item, parts: &[Part<'_>], value: &T) {
        let bytes = self.runtime.encode(value, self.runtime.entry(item).value);
        self.put_raw(self.key(item, parts), Some(bytes.into()));
    }

    /// Removes an entry.
    pub fn remove(&mut self, item: Item, parts: &[Part<'_>]) {
        self.put_raw(self.key(item, parts), None);
    }

    /// The keys with a prefix, sorted, as they are with the changes.
    pub fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let stored = self.store.range(prefix, None, self.block).map(|(key, _)| key.to_vec());
        let mut keys: std::collections::BTreeSet<_> = stored.collect();
        for layer in &self.layers {
            let within = layer.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            for (key, change) in within {
                match change {
                    Some(_) => keys.insert(key.clone()),
                    None => keys.remove(key),
                };
            }
        }
        keys.into_iter().collect()
    }

    fn decode<T: DecodeAsType>(&self, item: Item, bytes: &[u8]) -> T {
        // Values enter the state through the metadata's types only: by `put`, or from outside after `check_pair`.
        let value = self.runtime.decode_value(bytes, self.runtime.entry(item).value);
        value.unwrap_or_else(|| panic!("the value of {item:?} does not have the type that the rules expect"))
    }
}

//! Substrate's hashes, by their Substrate names.
//!
//! Owns the spelling of each hash and of each storage hasher. Refuses to know what is hashed. Only `devnet/` uses it.

use frame_metadata::v14::StorageHasher;
use sp_crypto_hashing::{blake2_128, blake2_256, twox_64, twox_128, twox_256};

/// A block, extrinsic or state hash.
pub type Hash = [u8; 32];

/// blake2b with 32 bytes of output.
pub fn blake2(bytes: &[u8]) -> Hash {
    blake2_256(bytes)
}

/// The 16 bytes that stand for a pallet's or an item's name in a storage key.
pub fn name_hash(name: &str) -> [u8; 16] {
    twox_128(name.as_bytes())
}

/// Appends one key of a map, hashed as the metadata says.
pub fn append_key(hasher: &StorageHasher, key: &[u8], out: &mut Vec<u8>) {
    match hasher {
        StorageHasher::Identity => out.extend_from_slice(key),
        StorageHasher::Blake2_128 => out.extend_from_slice(&blake2_128(key)),
        StorageHasher::Blake2_256 => out.extend_from_slice(&blake2_256(key)),
        StorageHasher::Twox128 => out.extend_from_slice(&twox_128(key)),
        StorageHasher::Twox256 => out.extend_from_slice(&twox_256(key)),
        StorageHasher::Blake2_128Concat => {
            out.extend_from_slice(&blake2_128(key));
            out.extend_from_slice(key);
        }
        StorageHasher::Twox64Concat => {
            out.extend_from_slice(&twox_64(key));
            out.extend_from_slice(key);
        }
    }
}

/// How many bytes the hash before a readable key takes; `None` where the key cannot be read back.
pub fn readable_prefix(hasher: &StorageHasher) -> Option<usize> {
    match hasher {
        StorageHasher::Identity => Some(0),
        StorageHasher::Twox64Concat => Some(8),
        StorageHasher::Blake2_128Concat => Some(16),
        StorageHasher::Blake2_128 | StorageHasher::Blake2_256 | StorageHasher::Twox128 | StorageHasher::Twox256 => None,
    }
}

/// Bytes as JSON-RPC writes them.
pub fn hex0x(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    text.push_str(&hex::encode(bytes));
    text
}

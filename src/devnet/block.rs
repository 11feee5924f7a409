//! Headers, bodies and their hashes, as Substrate writes them.
//!
//! Owns the SCALE form of a header (the block's hash is its blake2-256) and the JSON form of both. Refuses to know
//! what extrinsics do. The chain, the log and the RPC of `devnet/` use it.

use std::sync::Arc;

use parity_scale_codec::{Compact, Decode, Encode};
use serde_json::{Value, json};

use super::hashing::{Hash, blake2, hex0x};

/// The head of a block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// The hash of the block before.
    pub parent: Hash,
    /// The height.
    #[codec(compact)]
    pub number: u32,
    /// See [`root_after`](super::store::root_after): not a trie root.
    pub state_root: Hash,
    /// A hash over the hashes of the extrinsics: not a trie root either.
    pub extrinsics_root: Hash,
    /// Encoded digest items.
    pub logs: Vec<Log>,
}

/// One digest item, already encoded; on the wire without a length of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log(pub Vec<u8>);

impl Encode for Log {
    fn encode_to<T: parity_scale_codec::Output + ?Sized>(&self, out: &mut T) {
        out.write(&self.0);
    }
}

impl Decode for Log {
    /// Reads the one kind of item that this chain writes: an engine's name and bytes.
    fn decode<I: parity_scale_codec::Input>(input: &mut I) -> Result<Self, parity_scale_codec::Error> {
        let kind = u8::decode(input)?;
        if !(4..=6).contains(&kind) {
            return Err("a digest item without an engine".into());
        }
        let (engine, bytes) = <([u8; 4], Vec<u8>)>::decode(input)?;
        Ok(Self((kind, engine, bytes).encode()))
    }
}

impl Log {
    /// The pre-runtime item of Aura: which slot the block was made in.
    pub fn aura(slot: u64) -> Self {
        const PRE_RUNTIME: u8 = 6;
        Self((PRE_RUNTIME, *b"aura", slot.to_le_bytes().to_vec()).encode())
    }
}

impl Log {
    /// Says which block this one stands in the place of, so that it is another block even if nothing else differs.
    pub fn instead_of(retracted: &Hash) -> Self {
        const CONSENSUS: u8 = 4;
        Self((CONSENSUS, *b"dev_", retracted.to_vec()).encode())
    }
}

impl Header {
    /// The block's hash.
    pub fn hash(&self) -> Hash {
        blake2(&self.encode())
    }

    /// The header as JSON-RPC writes it.
    pub fn json(&self) -> Value {
        json!({
            "parentHash": hex0x(&self.parent),
            "number": format!("{:#x}", self.number),
            "stateRoot": hex0x(&self.state_root),
            "extrinsicsRoot": hex0x(&self.extrinsics_root),
            "digest": { "logs": self.logs.iter().map(|log| hex0x(&log.0)).collect::<Vec<_>>() },
        })
    }
}

/// A block of the chain; its body may have been forgotten.
#[derive(Debug, Clone)]
pub struct Block {
    /// The hash of the header.
    pub hash: Hash,
    /// The header.
    pub header: Header,
    /// The extrinsics with their length prefixes, the timestamp first.
    pub body: Option<Arc<[Vec<u8>]>>,
}

impl Block {
    /// The block as `chain_getBlock` answers it; `None` when the body is forgotten.
    pub fn json(&self) -> Option<Value> {
        let body = self.body.as_ref()?;
        let extrinsics: Vec<_> = body.iter().map(|extrinsic| hex0x(extrinsic)).collect();
        Some(json!({
            "block": { "header": self.header.json(), "extrinsics": extrinsics },
            "justifications": null,
        }))
    }
}

/// The root over a body.
pub fn extrinsics_root(body: &[Vec<u8>]) -> Hash {
    let hashes: Vec<u8> = body.iter().flat_map(|extrinsic| blake2(extrinsic)).collect();
    blake2(&hashes)
}

/// Extrinsic 0 of every block: `timestamp.set`, bare.
pub fn timestamp_extrinsic(now_ms: u64) -> Vec<u8> {
    const BARE_V5: u8 = 5;
    const TIMESTAMP_SET: [u8; 2] = [2, 0];
    let mut call = vec![BARE_V5];
    call.extend(TIMESTAMP_SET);
    Compact(now_ms).encode_to(&mut call);
    call.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devnet::testkit::vectors;

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
    }

    fn hash(value: &Value) -> Hash {
        bytes(value).try_into().unwrap()
    }

    #[test]
    fn the_hash_of_a_recorded_header_is_the_recorded_one() {
        for spec in [439, 461] {
            let vectors = vectors(spec);
            let recorded = &vectors["block"]["decoded_header"];
            let header = Header {
                parent: hash(&recorded["parentHash"]),
                number: u32::try_from(recorded["number"].as_u64().unwrap()).unwrap(),
                state_root: hash(&recorded["stateRoot"]),
                extrinsics_root: hash(&recorded["extrinsicsRoot"]),
                logs: recorded["digest"]["logs"].as_array().unwrap().iter().map(|log| Log(bytes(log))).collect(),
            };
            assert_eq!(header.hash(), hash(&recorded["hash"]));
            assert_eq!(Header::decode(&mut &*header.encode()).unwrap(), header);
        }
    }

    #[test]
    fn timestamp_and_slot_are_written_as_recorded() {
        let vectors = vectors(439);
        let first = &vectors["block"]["raw"]["block"]["extrinsics"][0];
        assert_eq!(timestamp_extrinsic(1_784_917_983_975), bytes(first));
        let log = &vectors["block"]["decoded_header"]["digest"]["logs"][0];
        assert_eq!(Log::aura(1_784_917_983_975 / 12_000).0, bytes(log));
    }
}

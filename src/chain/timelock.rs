//! Timelock encryption: what can be read only once a beacon has published a round.
//!
//! Owns the beacon's arithmetic (rounds, times, signatures), the sealing and opening of bytes, and the two plaintexts
//! that the chain opens: weights and commitments. Refuses to know blocks, storage and where a pulse comes from: it is
//! pure, and randomness is handed in. The client seals with it, the devnet verifies and opens with it.
//!
//! The scheme is that of drand's quicknet: BLS12-381 with signatures in G1 and keys in G2. The cryptography is the
//! crate `timelock`; this module checks every length before the crate sees a byte, because it was not written for
//! hostile ones: its decoder reserves what a length claims, and its hashes index by it.

use ark_ec::Group as _;
use ark_serialize::{CanonicalDeserialize as _, CanonicalSerialize as _};
use parity_scale_codec::{Decode, Encode};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use sha2::{Digest as _, Sha256};
use timelock::{
    curves::drand::TinyBLS381,
    ibe::fullident::{Ciphertext, Identity},
    stream_ciphers::{AESGCMStreamCipherProvider, StreamCipherProvider},
    tlock::{EngineBLS, TLECiphertext, tld, tle},
};

type Signature = <TinyBLS381 as EngineBLS>::SignatureGroup;
type Key = <TinyBLS381 as EngineBLS>::PublicKeyGroup;

/// Bytes of a beacon's public key.
pub const KEY_BYTES: usize = 96;
/// Bytes of a beacon's signature of one round.
pub const SIGNATURE_BYTES: usize = 48;
/// How much longer a ciphertext is than its plaintext.
pub const OVERHEAD_BYTES: usize =
    KEY_BYTES + 6 * LENGTH_BYTES + 2 * SHARE_BYTES + TAG_BYTES + NONCE_BYTES + SUITE.len();
/// The longest ciphertext that the chain takes as committed weights.
pub const WEIGHTS_BYTES_MAX: usize = 5000;
/// The longest ciphertext that the chain takes as a field of a commitment.
pub const COMMITMENT_BYTES_MAX: usize = 1024;
/// Blocks that a round for weights lies behind the start of the epoch in which they are revealed: a margin, so that
/// blocks which come faster than expected do not bring the round before its epoch.
pub const MARGIN_BLOCKS: u64 = 3;
/// Blocks without an epoch after which one runs in any case.
pub const STEP_BLOCKS_MAX: u64 = 50_400;

const LENGTH_BYTES: usize = 8;
const SHARE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const SUITE: &[u8] = AESGCMStreamCipherProvider::CIPHER_SUITE;
/// Entries of decoded weights: a row has at most one for each of the 4096 uids that a storage index can tell apart.
const ENTRIES_MAX: usize = 4096;

const QUICKNET_KEY: [u8; KEY_BYTES] = [
    0x83, 0xcf, 0x0f, 0x28, 0x96, 0xad, 0xee, 0x7e, 0xb8, 0xb5, 0xf0, 0x1f, 0xca, 0xd3, 0x91, 0x22, 0x12, 0xc4, 0x37,
    0xe0, 0x07, 0x3e, 0x91, 0x1f, 0xb9, 0x00, 0x22, 0xd3, 0xe7, 0x60, 0x18, 0x3c, 0x8c, 0x4b, 0x45, 0x0b, 0x6a, 0x0a,
    0x6c, 0x3a, 0xc6, 0xa5, 0x77, 0x6a, 0x2d, 0x10, 0x64, 0x51, 0x0d, 0x1f, 0xec, 0x75, 0x8c, 0x92, 0x1c, 0xc2, 0x2b,
    0x0e, 0x17, 0xe6, 0x3a, 0xaf, 0x4b, 0xcb, 0x5e, 0xd6, 0x63, 0x04, 0xde, 0x9c, 0xf8, 0x09, 0xbd, 0x27, 0x4c, 0xa7,
    0x3b, 0xab, 0x4a, 0xf5, 0xa6, 0xe9, 0xc7, 0x6a, 0x4b, 0xc0, 0x9e, 0x76, 0xea, 0xe8, 0x99, 0x1e, 0xf5, 0xec, 0xe4,
    0x5a,
];

/// Why bytes cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A public key that is not a point of the curve's right group.
    #[error("the beacon's public key is not a key")]
    Key,
    /// A beacon that never publishes.
    #[error("the beacon's period is zero")]
    Period,
    /// A signature that is not a point of the curve's right group.
    #[error("the beacon's signature is not a signature")]
    Signature,
    /// Bytes that are not a ciphertext of this scheme.
    #[error("the bytes are not a timelock ciphertext")]
    Ciphertext,
    /// A ciphertext for another round or another beacon, or one that was changed.
    #[error("the signature does not open the ciphertext")]
    Opening,
    /// The cipher refused the plaintext: it is longer than any message can be.
    #[error("the plaintext cannot be sealed")]
    Sealing,
}

/// A beacon: who signs rounds, since when and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon {
    key: [u8; KEY_BYTES],
    genesis_s: u64,
    period_s: u64,
}

impl Beacon {
    /// drand's quicknet, the beacon of the real chains.
    #[must_use]
    pub const fn quicknet() -> Self {
        Self { key: QUICKNET_KEY, genesis_s: 1_692_803_367, period_s: 3 }
    }

    /// A beacon with this public key, whose first round came at `genesis_s` and another one every `period_s`.
    ///
    /// # Errors
    /// When the key is no key, or the period zero.
    pub fn new(key: &[u8], genesis_s: u64, period_s: u64) -> Result<Self, Error> {
        let key: [u8; KEY_BYTES] = key.try_into().map_err(|_source| Error::Key)?;
        let _point = point_of_key(&key)?;
        if period_s == 0 {
            return Err(Error::Period);
        }
        Ok(Self { key, genesis_s, period_s })
    }

    /// The public key's bytes.
    #[must_use]
    pub const fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    /// Unix seconds of the first round.
    #[must_use]
    pub const fn genesis_s(&self) -> u64 {
        self.genesis_s
    }

    /// Seconds between two rounds.
    #[must_use]
    pub const fn period_s(&self) -> u64 {
        self.period_s
    }

    /// The last round published at a time; 0 before the first.
    #[must_use]
    pub const fn last_round(&self, unix_s: u64) -> u64 {
        match unix_s.checked_sub(self.genesis_s) {
            Some(age_s) => age_s / self.period_s + 1,
            None => 0,
        }
    }

    /// When a round is published, in unix seconds; round 1 is the first.
    #[must_use]
    pub const fn published_s(&self, round: u64) -> u64 {
        self.genesis_s.saturating_add(round.saturating_sub(1).saturating_mul(self.period_s))
    }

    /// The round that the public tools choose for something to be opened at a time: the one whose number is the count
    /// of whole periods until then. It is published one period before.
    #[must_use]
    pub const fn round_for(&self, unix_s: u64) -> u64 {
        unix_s.saturating_sub(self.genesis_s) / self.period_s
    }

    /// The round for weights that are committed now and revealed in the epoch beginning at `reveal_block`.
    #[must_use]
    pub const fn round_for_weights(&self, now_ms: u64, block: u64, reveal_block: u64, block_ms: u64) -> u64 {
        let wait_blocks = reveal_block.saturating_add(MARGIN_BLOCKS).saturating_sub(block);
        self.round_for(now_ms.saturating_add(wait_blocks.saturating_mul(block_ms)) / 1000)
    }

    /// The round for a commitment that is to be opened so many blocks from now, as the public tools choose it.
    #[must_use]
    pub const fn round_for_commitment(&self, now_ms: u64, blocks: u64, block_ms: u64) -> u64 {
        self.round_for(now_ms.saturating_add(blocks.saturating_mul(block_ms)) / 1000)
    }

    /// Whether a signature is this beacon's for a round.
    #[must_use]
    pub fn verify(&self, round: u64, signature: &[u8]) -> bool {
        let (Ok(signature), Ok(key)) = (point_of_signature(signature), point_of_key(&self.key)) else { return false };
        let expected = TinyBLS381::pairing(key, identity(round).public::<TinyBLS381>());
        TinyBLS381::pairing(Key::generator(), signature) == expected
    }

    /// Seals bytes until a round. The same `entropy` must never be used twice.
    ///
    /// # Errors
    /// When the plaintext is longer than any message can be.
    pub fn seal(&self, round: u64, plaintext: &[u8], entropy: [u8; 32]) -> Result<Vec<u8>, Error> {
        let mut random = ChaCha20Rng::from_seed(entropy);
        let mut secret = [0; 32];
        random.fill_bytes(&mut secret);
        let key = point_of_key(&self.key)?;
        let sealed = tle::<TinyBLS381, AESGCMStreamCipherProvider, _>(key, secret, plaintext, identity(round), random);
        let mut bytes = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
        sealed.map_err(|_source| Error::Sealing)?.serialize_compressed(&mut bytes).map_err(|_source| Error::Sealing)?;
        Ok(bytes)
    }
}

/// Opens a ciphertext with the signature of its round. Bytes behind the ciphertext are ignored, as the chain does.
///
/// # Errors
/// When either is not what it should be, or they do not belong together.
pub fn open(ciphertext: &[u8], signature: &[u8]) -> Result<Vec<u8>, Error> {
    let signature = point_of_signature(signature)?;
    let sealed = read_ciphertext(ciphertext).ok_or(Error::Ciphertext)?;
    tld::<TinyBLS381, AESGCMStreamCipherProvider>(sealed, signature).map_err(|_source| Error::Opening)
}

/// What a round's signature is worth as randomness.
#[must_use]
pub fn randomness(signature: &[u8]) -> [u8; 32] {
    Sha256::digest(signature).into()
}

/// What is signed for a round.
pub fn identity(round: u64) -> Identity {
    Identity::new(b"", vec![Sha256::digest(round.to_be_bytes()).to_vec()])
}

fn point_of_key(bytes: &[u8; KEY_BYTES]) -> Result<Key, Error> {
    Key::deserialize_compressed(&bytes[..]).map_err(|_source| Error::Key)
}

fn point_of_signature(bytes: &[u8]) -> Result<Signature, Error> {
    if bytes.len() != SIGNATURE_BYTES {
        return Err(Error::Signature);
    }
    Signature::deserialize_compressed(bytes).map_err(|_source| Error::Signature)
}

/// Takes a ciphertext apart, every length checked against what is there.
fn read_ciphertext(bytes: &[u8]) -> Option<TLECiphertext<TinyBLS381>> {
    let mut rest = bytes;
    let u = Key::deserialize_compressed(take(&mut rest, KEY_BYTES)?).ok()?;
    let v = take_counted(&mut rest).filter(|share| share.len() == SHARE_BYTES)?.to_vec();
    let w = take_counted(&mut rest).filter(|share| share.len() == SHARE_BYTES)?.to_vec();
    let body = take_counted(&mut rest)?;
    let cipher_suite = take_counted(&mut rest)?.to_vec();
    let mut inner = body;
    take_counted(&mut inner)?;
    take_counted(&mut inner).filter(|nonce| nonce.len() == NONCE_BYTES)?;
    Some(TLECiphertext { header: Ciphertext { u, v, w }, body: body.to_vec(), cipher_suite })
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

/// Bytes behind their length.
fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest, LENGTH_BYTES)?.try_into().map(u64::from_le_bytes).ok()?;
    take(rest, usize::try_from(length).ok()?)
}

/// Weights as they are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Whose they are; the old form of the plaintext does not say.
    pub hotkey: Option<[u8; 32]>,
    /// The targets.
    pub uids: Vec<u16>,
    /// Their weights.
    pub values: Vec<u16>,
    /// The version of the subnet's software.
    pub version_key: u64,
}

#[derive(Encode, Decode)]
struct WithHotkey {
    hotkey: Vec<u8>,
    uids: Vec<u16>,
    values: Vec<u16>,
    version_key: u64,
}

#[derive(Encode, Decode)]
struct WithoutHotkey {
    uids: Vec<u16>,
    values: Vec<u16>,
    version_key: u64,
}

impl Weights {
    /// The plaintext.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { hotkey, uids, values, version_key } = self.clone();
        match hotkey {
            Some(hotkey) => WithHotkey { hotkey: hotkey.to_vec(), uids, values, version_key }.encode(),
            None => WithoutHotkey { uids, values, version_key }.encode(),
        }
    }

    /// The weights in a plaintext; `None` when it is of neither form. A hotkey of more than 32 bytes counts by its
    /// first 32, one of fewer makes the plaintext one of the old form: so does the chain.
    #[must_use]
    pub fn decode(plaintext: &[u8]) -> Option<Self> {
        let with_hotkey = WithHotkey::decode(&mut &*plaintext).ok().and_then(|decoded| {
            let hotkey = *decoded.hotkey.first_chunk()?;
            let WithHotkey { uids, values, version_key, .. } = decoded;
            Some(Self { hotkey: Some(hotkey), uids, values, version_key })
        });
        let decoded = with_hotkey.or_else(|| {
            let WithoutHotkey { uids, values, version_key } = WithoutHotkey::decode(&mut &*plaintext).ok()?;
            Some(Self { hotkey: None, uids, values, version_key })
        });
        decoded.filter(|weights| weights.uids.len() <= ENTRIES_MAX && weights.values.len() <= ENTRIES_MAX)
    }
}

/// The plaintext of a commitment: the bytes behind their compact length, as the public tools write it.
#[must_use]
pub fn commitment_plaintext(content: &[u8]) -> Vec<u8> {
    content.to_vec().encode()
}

/// The content of a revealed commitment; `None` when the length in front does not fit what follows.
#[must_use]
pub fn commitment_content(plaintext: &[u8]) -> Option<Vec<u8>> {
    let mut rest = plaintext;
    Vec::<u8>::decode(&mut rest).ok().filter(|_content| rest.is_empty())
}

/// When a subnet's epochs run, as the chain keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Blocks between two epochs; 0 runs none.
    pub tempo: u64,
    /// The block of the last one.
    pub last_epoch_block: u64,
    /// The block at which one was asked for; 0 for none.
    pub pending_epoch_at: u64,
    /// How many have run.
    pub epoch_index: u64,
    /// Blocks since the last one that did something.
    pub blocks_since_last_step: u64,
}

impl Schedule {
    /// The first block whose reveals see that the count of epochs has grown by `epochs` over that of a commit in the
    /// block after `block`, the state being that after `block`. `None` when no epoch ever runs, or `epochs` is absurd.
    ///
    /// An epoch that was deferred because too many were due in one block comes later than this says.
    #[must_use]
    pub fn reveal_block(&self, block: u64, epochs: u64) -> Option<u64> {
        const EPOCHS_MAX: u64 = 1_000;
        if self.tempo == 0 || epochs == 0 || epochs > EPOCHS_MAX {
            return None;
        }
        let mut schedule = *self;
        let mut at = block.saturating_add(1);
        // An epoch in the very block of the commit runs before it, so it is not one of those waited for.
        let mut left = if schedule.next(at).0 == at { epochs + 1 } else { epochs };
        loop {
            let (runs, seen) = schedule.next(at);
            left -= 1;
            if left == 0 {
                return Some(seen);
            }
            schedule = Self { last_epoch_block: runs, pending_epoch_at: 0, blocks_since_last_step: 0, ..schedule };
            at = runs.saturating_add(1);
        }
    }

    /// The first block from `block` on in which an epoch runs, and the first whose reveals know of it. They come
    /// first in a block and look ahead by every rule, but for the one against neglect they count a block less.
    fn next(&self, block: u64) -> (u64, u64) {
        let by_tempo = self.last_epoch_block.saturating_add(self.tempo);
        let by_request = if self.pending_epoch_at > 0 { self.pending_epoch_at } else { u64::MAX };
        let by_rule = by_tempo.min(by_request).max(block);
        match STEP_BLOCKS_MAX.checked_sub(self.blocks_since_last_step) {
            None => (block, block),
            Some(left) if block.saturating_add(left) < by_rule => (block + left, block + left + 1),
            Some(_) => (by_rule, by_rule),
        }
    }
}

#[cfg(test)]
#[path = "timelock_tests.rs"]
mod tests;

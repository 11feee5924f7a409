//! The secret key and everything drawn from it.
//!
//! Owns how signs, positions and hash words follow from the key and a name. Refuses to show the key, and to know what
//! the draws are used for. `scan` asks for them.

use blake2::{Blake2b512, Digest as _};

/// Step of the counter-mode generator: the golden ratio in 64 bits, as SplitMix64 has it.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The secret of one fingerprint corpus: without it nobody knows which positions and signs are looked at.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// A key of these bytes, which should come from a good source of randomness and never be published.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A public mark of the key: fingerprints are comparable only when it agrees.
    #[must_use]
    pub fn id(&self) -> [u8; 8] {
        let [first, ..] = self.words("id", "");
        first.to_le_bytes()
    }

    /// Eight words that follow from the key, a purpose and a name.
    pub(super) fn words(&self, purpose: &str, name: &str) -> [u64; 8] {
        let mut hasher = Blake2b512::new();
        hasher.update(self.0);
        hasher.update((purpose.len() as u64).to_le_bytes());
        hasher.update(purpose);
        hasher.update(name);
        let digest = hasher.finalize();
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        }
        words
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The word at a place of a counter-mode stream: SplitMix64 from a secret seed. Cheap enough for one word for every 64
/// elements; the seed is what is secret, and no output is ever shown.
#[inline(always)]
pub(super) const fn word_at(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(STEP));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_names_and_keys_draw_apart() {
        let (one, two) = (Key::new([1; 32]), Key::new([2; 32]));
        assert_eq!(one.words("a", "bc"), one.words("a", "bc"));
        assert_ne!(one.words("a", "bc"), one.words("ab", "c"));
        assert_ne!(one.words("a", "bc"), two.words("a", "bc"));
        assert_ne!(one.id(), two.id());
        assert_eq!(format!("{one:?}"), "Key(secret)");
    }

    #[test]
    fn half_of_the_bits_of_a_stream_are_set() {
        let ones: u32 = (0..4096).map(|place| word_at(7, place).count_ones()).sum();
        // 262144 fair bits: four standard deviations are 1024.
        assert!(ones.abs_diff(131_072) < 1024, "{ones}");
    }
}

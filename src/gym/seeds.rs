//! Seeds of episodes: which starts a run plays, known to nobody before its block.
//!
//! Owns the derivation of an episode's seed from the run and a block hash. Refuses to know where the hash comes from.
//! The rollouts stage and `waag verify` call it.
//!
//! ```text
//! seed = first 8 bytes, big-endian, of SHA-256( text ‖ hash ), modulo 2^31
//! text = "waag-episode-seed-1" ‖ 0x0a ‖ challenge ‖ 0x0a ‖ run ‖ 0x0a ‖ environment ‖ 0x0a ‖ index ‖ 0x0a
//! ```
//!
//! Challenge and environment are their names in UTF-8, without line feeds; run and index are decimal; `hash` is the
//! block's 32 bytes. Every part ends with a line feed, so no two different inputs share an encoding. In Python:
//!
//! ```python
//! import hashlib
//! def seed(challenge, run, environment, index, block_hash):
//!     text = f"waag-episode-seed-1\n{challenge}\n{run}\n{environment}\n{index}\n"
//!     digest = hashlib.sha256(text.encode() + bytes.fromhex(block_hash)).digest()
//!     return int.from_bytes(digest[:8], "big") % 2**31
//! ```
//!
//! Two episodes of a run may share a seed (at 1000 episodes with a chance of about 1 in 4000); both count.

use sha2::{Digest as _, Sha256};

use super::env::Environment;
use crate::ids::Digest;

/// Seeds are below this, so that every tool that takes a signed 32-bit seed can replay them.
pub const SEED_END: u64 = 1 << 31;

/// The seed of one episode of a run.
///
/// # Panics
/// When the challenge's slug contains a line feed; profiles are checked for that long before.
#[must_use]
pub fn seed(challenge: &str, run: u64, environment: Environment, index: u64, block_hash: &Digest) -> u64 {
    assert!(!challenge.contains('\n'), "a slug is one line");
    let text = format!("waag-episode-seed-1\n{challenge}\n{run}\n{environment}\n{index}\n");
    let digest = Sha256::new().chain_update(text).chain_update(block_hash.0).finalize();
    let head = digest.iter().take(8).fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    head % SEED_END
}

/// The seeds of a run's first `episodes` episodes in one environment.
#[must_use]
pub fn seeds(challenge: &str, run: u64, environment: Environment, episodes: u32, block_hash: &Digest) -> Vec<u64> {
    (0..u64::from(episodes)).map(|index| seed(challenge, run, environment, index, block_hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: the Python function of the module's documentation.
    #[test]
    fn seeds_have_known_answers() {
        let hash = Digest(std::array::from_fn(|index| index as u8));
        assert_eq!(seed("quick", 1, Environment::CartPole, 0, &hash), 290_057_378);
        assert_eq!(seed("quick", 12, Environment::MountainCarContinuous, 999, &hash), 536_222_817);
        assert_eq!(seed("another-one", u64::MAX, Environment::Pendulum, 7, &Digest([0xff; 32])), 1_308_986_025);
    }

    #[test]
    fn every_input_changes_the_seed() {
        let hash = Digest([7; 32]);
        let base = seed("a", 1, Environment::CartPole, 1, &hash);
        assert_ne!(base, seed("b", 1, Environment::CartPole, 1, &hash));
        assert_ne!(base, seed("a", 2, Environment::CartPole, 1, &hash));
        assert_ne!(base, seed("a", 1, Environment::Acrobot, 1, &hash));
        assert_ne!(base, seed("a", 1, Environment::CartPole, 2, &hash));
        assert_ne!(base, seed("a", 1, Environment::CartPole, 1, &Digest([8; 32])));
        assert!(seeds("a", 1, Environment::CartPole, 1000, &hash).into_iter().all(|seed| seed < SEED_END));
    }
}

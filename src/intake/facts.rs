//! What doors know of the chain: a small snapshot that the chain follower replaces at every finalized block.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, Hotkey},
};

/// Where a hotkey stands in the subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its place.
    pub uid: u16,
    /// The block of its registration: what it committed before does not count.
    pub since_block: u64,
    /// Who owns it.
    pub coldkey: Hotkey,
}

/// The chain as the doors and the status page see it, at one finalized block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFacts {
    /// The subnet.
    pub netuid: u16,
    /// The chain's genesis hash.
    pub genesis: Digest,
    /// The newest block, finalized or not. What is uploaded now counts from here: whoever uploads may have seen it.
    pub head: u64,
    /// Whether old blocks are still being taken in.
    pub catching_up: bool,
    /// Whether this is what was known when the process before this one ended, and the chain has not confirmed it yet.
    #[serde(default)]
    pub stored: bool,
    /// The newest finalized block.
    pub finalized: u64,
    /// Its hash.
    pub finalized_hash: Digest,
    /// Blocks of one epoch.
    pub tempo: u64,
    /// The block at which the next epoch ends, when the chain says.
    pub next_epoch_block: Option<u64>,
    /// How long a block takes, in milliseconds: how long a miner should wait before trying again.
    pub block_ms: u64,
    /// When the finalized block was read.
    pub seen_ms: UnixMs,
    /// Who is registered at the finalized block.
    pub registered: BTreeMap<Hotkey, Registration>,
}

/// What stands between us and the chain now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainTrouble {
    /// What is wrong.
    pub fault: Fault,
    /// Since when.
    pub since_ms: UnixMs,
}

/// The shortest silence after which the chain counts as out of sight, in milliseconds: five blocks of a real chain.
const SILENCE_MS_MIN: i64 = 60_000;
/// Blocks that a silence must outlast as well.
const SILENCE_BLOCKS: u64 = 5;

impl ChainFacts {
    /// Whether the chain's present block is unknown: old blocks are being taken in, or no new one has come for long.
    /// Nothing may be taken then that counts from its block.
    #[must_use]
    pub fn is_behind(&self, now_ms: UnixMs) -> bool {
        let silence_ms = i64::try_from(self.block_ms.saturating_mul(SILENCE_BLOCKS)).unwrap_or(i64::MAX);
        self.catching_up || now_ms.saturating_sub(self.seen_ms) > silence_ms.max(SILENCE_MS_MIN)
    }

    /// Blocks until the next epoch.
    #[must_use]
    pub fn blocks_to_epoch(&self) -> Option<u64> {
        self.next_epoch_block.map(|block| block.saturating_sub(self.head))
    }

    /// Whole seconds after which a miner whose commitment is not finalized may try again: one block, at least a
    /// second.
    #[must_use]
    pub const fn retry_after_s(&self) -> u64 {
        let seconds = self.block_ms.div_ceil(1000);
        if seconds == 0 { 1 } else { seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_behind_while_it_catches_up_or_is_silent() {
        let facts = |catching_up, block_ms| ChainFacts {
            netuid: 7,
            genesis: Digest([1; 32]),
            head: 12,
            catching_up,
            stored: false,
            finalized: 10,
            finalized_hash: Digest([2; 32]),
            tempo: 360,
            next_epoch_block: Some(40),
            block_ms,
            seen_ms: 1_000,
            registered: BTreeMap::new(),
        };
        assert!(facts(true, 250).is_behind(1_000));
        assert_eq!([61_000, 61_001].map(|now_ms| facts(false, 250).is_behind(now_ms)), [false, true]);
        assert_eq!([101_000, 101_001].map(|now_ms| facts(false, 20_000).is_behind(now_ms)), [false, true]);
        assert_eq!(facts(false, 250).blocks_to_epoch(), Some(28));
    }
}

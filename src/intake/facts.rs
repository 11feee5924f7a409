//! What doors know of the chain: a small snapshot that the chain follower replaces at every finalized block.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
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
    /// The newest block, finalized or not.
    pub head: u64,
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

impl ChainFacts {
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

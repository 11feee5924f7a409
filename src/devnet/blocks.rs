//! The row of blocks: the recent ones whole, of the old ones only their hashes.
//!
//! Owns what is forgotten of a block and when, so that a chain of any length fits into memory. Refuses to know what
//! blocks say. Only the chain uses it.

use std::collections::{HashMap, VecDeque};

use super::{block::Block, hashing::Hash, limits};

/// The blocks of a chain, never none.
#[derive(Debug)]
pub struct Blocks {
    /// The hashes of the blocks whose headers are forgotten, from the first block on.
    old: Vec<Hash>,
    recent: VecDeque<Block>,
    by_hash: HashMap<Hash, u32>,
}

impl Blocks {
    /// A row of one block.
    pub fn new(first: Block) -> Self {
        let by_hash = HashMap::from([(first.hash, first.header.number)]);
        Self { old: Vec::new(), recent: VecDeque::from([first]), by_hash }
    }

    /// The hash of the first block.
    pub fn genesis(&self) -> Hash {
        self.old.first().copied().unwrap_or_else(|| self.recent[0].hash)
    }

    /// The last block.
    pub fn last(&self) -> &Block {
        self.recent.back().expect("a chain has at least its first block")
    }

    /// The block of a height; none for heights to come and for those that are forgotten.
    pub fn get(&self, number: u32) -> Option<&Block> {
        self.recent.get((number as usize).checked_sub(self.old.len())?)
    }

    /// The hash of a block of any age.
    pub fn hash_of(&self, number: u32) -> Option<Hash> {
        self.old.get(number as usize).copied().or_else(|| self.get(number).map(|block| block.hash))
    }

    /// The height of a recent block.
    pub fn number_of(&self, hash: &Hash) -> Option<u32> {
        self.by_hash.get(hash).copied()
    }

    /// Whether a hash is that of a forgotten block. Slow, and rarely asked.
    pub fn was(&self, hash: &Hash) -> bool {
        self.old.contains(hash)
    }

    /// Adds a block, and forgets the body of an older one and all of a still older one but its hash.
    pub fn push(&mut self, block: Block) {
        let number = block.header.number;
        self.by_hash.insert(block.hash, number);
        self.recent.push_back(block);
        if let Some(at) = number.checked_sub(limits::BODY_BLOCKS)
            && let Some(bodiless) = (at as usize).checked_sub(self.old.len()).and_then(|at| self.recent.get_mut(at))
        {
            bodiless.body = None;
        }
        if self.recent.len() > limits::HEADER_BLOCKS as usize {
            let forgotten = self.recent.pop_front().expect("there are more than that");
            self.by_hash.remove(&forgotten.hash);
            self.old.push(forgotten.hash);
        }
    }

    /// Takes back every block after this one, which must be a recent one.
    pub fn truncate(&mut self, number: u32) {
        let kept = (number as usize + 1).checked_sub(self.old.len()).expect("only recent blocks are taken back");
        for block in self.recent.drain(kept..) {
            self.by_hash.remove(&block.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devnet::block::Header;

    fn block(number: u32) -> Block {
        let header =
            Header { parent: [0; 32], number, state_root: [0; 32], extrinsics_root: [0; 32], logs: Vec::new() };
        Block { hash: header.hash(), header, body: Some(Vec::new().into()) }
    }

    #[test]
    fn old_blocks_lose_their_bodies_and_then_all_but_their_hashes() {
        let mut blocks = Blocks::new(block(0));
        for number in 1..=limits::HEADER_BLOCKS {
            blocks.push(block(number));
        }
        let last = limits::HEADER_BLOCKS;
        assert_eq!((blocks.last().header.number, blocks.genesis()), (last, block(0).hash));
        assert_eq!(blocks.get(0).map(|block| block.hash), None);
        assert_eq!(blocks.hash_of(0), Some(block(0).hash));
        assert!(blocks.was(&block(0).hash) && blocks.number_of(&block(0).hash).is_none());
        let whole = |number| blocks.get(number).is_some_and(|block| block.body.is_some());
        assert!(blocks.get(1).is_some() && !whole(last - limits::BODY_BLOCKS));
        assert!(whole(last - limits::BODY_BLOCKS + 1) && whole(last));
        assert_eq!((blocks.hash_of(last + 1), blocks.was(&[9; 32])), (None, false));
        blocks.truncate(last - 2);
        assert_eq!(blocks.last().header.number, last - 2);
        assert_eq!(blocks.number_of(&block(last).hash), None);
    }
}

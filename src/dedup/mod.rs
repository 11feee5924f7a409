//! Copies: which contestants sent what an earlier one had sent.
//!
//! Owns the fingerprints, the distances, the thresholds and the verdicts with both, for policies and for models, and
//! the disguises with which they are calibrated. Refuses to run a model, to read a store, and to decide what becomes of
//! a copy. The duplicates stage, the rankings and the benches call it.

mod align;
pub mod generate;
pub mod model;
pub mod outputs;
mod pattern;
pub mod policy;
pub mod sketch;

use crate::fault::{Class, Code};

/// The same bytes as an earlier contestant's.
pub const DUPLICATE_BYTES: Code = Code::new(
    Class::Miner,
    "duplicate_bytes",
    "the artifact is byte for byte that of an earlier contestant",
    "send a policy of your own; whoever committed first owns it",
);
/// The same content, packed or exported anew.
pub const DUPLICATE_CONTENT: Code = Code::new(
    Class::Miner,
    "duplicate_content",
    "the artifact computes exactly what an earlier contestant's does, from the same weights",
    "send a policy of your own; packing or exporting another's anew changes nothing",
);
/// The same policy but for noise, order of neurons or scale.
pub const NEAR_COPY: Code = Code::new(
    Class::Miner,
    "near_copy",
    "the artifact is an earlier contestant's but for small changes to its weights",
    "train a policy of your own; the verdict shows both distances and their thresholds",
);

/// Every code of this room.
pub const CODES: &[Code] = &[DUPLICATE_BYTES, DUPLICATE_CONTENT, NEAR_COPY];

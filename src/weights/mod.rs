//! From rankings to the vector that is set on chain, and the evidence that lets a stranger do it again.
//!
//! Owns aggregation over challenges, quantisation exactly as the chain does it, and the evidence bundle with its
//! check. Refuses to know stores, chains, clocks or anything that waits. The weight setter, the pipeline and
//! `waag verify` call it.

pub mod aggregate;
pub mod bundle;
pub mod quantise;

use crate::fault::Code;

pub use self::{
    aggregate::{Neuron, Part, aggregate},
    quantise::{Limits, Vector, quantise},
};

/// The codes of this room.
pub const CODES: &[Code] = &[aggregate::WEIGHTS_INPUT_WRONG, quantise::WEIGHTS_UNSETTABLE, bundle::EVIDENCE_UNREADABLE];

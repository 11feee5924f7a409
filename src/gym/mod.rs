//! Rollouts of policies in environments: gymnasium's episodes, played by miners' ONNX files.
//!
//! Owns environments, seeds, the inference of policies and the records of episodes. Refuses to know stores, chains,
//! clocks or ranking: everything here is a function of its arguments and of the machine's C library. The rollouts
//! stage, `waag check`, `waag verify` and the benchmark call it.
//!
//! The way through: [`policy::Policy::load`] reads a file for an [`env::Environment`]; [`seeds::seeds`] says which
//! episodes a run plays; [`isolation::Host::rollout`] plays them.

pub mod bench;
pub mod env;
pub mod isolation;
mod numpy;
pub mod policy;
pub mod rollouts;
pub mod seeds;
mod simd;

use crate::fault::Code;

/// Every code this room raises.
pub const CODES: &[Code] = &[
    policy::codes::UNREADABLE,
    policy::codes::INPUT,
    policy::codes::OUTPUT,
    policy::codes::OUTPUT_SHAPE,
    policy::codes::NOT_FINITE,
    policy::codes::OUT_OF_RANGE,
    policy::codes::TOO_COSTLY,
    policy::codes::TOO_SLOW,
    policy::codes::RUN_FAILED,
    policy::codes::CRASHES,
    policy::codes::BACKEND_UNAVAILABLE,
    policy::codes::BACKEND_FIXED,
    rollouts::OUT_OF_TIME,
    rollouts::CANCELLED,
    rollouts::REQUEST_TOO_LARGE,
    isolation::CHILD_UNAVAILABLE,
    isolation::CHILD_KILLED,
];

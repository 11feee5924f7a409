//! Artifacts: what a miner sends, read as hostile bytes.
//!
//! Owns the archive, its manifest, the ONNX files inside and every check before anything runs. Refuses to run a policy,
//! to know who sent it, or to reach the network. Intake, the stages and the miner verbs call it.

pub mod archive;
pub mod codes;
pub mod limits;
pub mod manifest;
pub mod onnx;
pub mod pack;
pub mod policy;

pub use codes::CODES;
pub use limits::Limits;
pub use policy::{Bundle, Model};

#[cfg(test)]
mod corpus_tests;

//! Artifacts: what a miner sends or names, read as hostile bytes.
//!
//! Owns archives of policies, their manifest and the ONNX files inside, repositories of models, every check before
//! anything runs, and the fetching of what a miner only names. Refuses to run anything or to know who sent it; the
//! network is reached by `fetch` alone. Intake, the stages and the miner verbs call it.

pub mod archive;
pub mod codes;
pub mod fetch;
pub mod limits;
pub mod manifest;
pub mod model;
pub mod onnx;
pub mod pack;
pub mod policy;

pub use codes::CODES;
pub use limits::Limits;
pub use policy::{Bundle, Model};

#[cfg(test)]
mod corpus_tests;

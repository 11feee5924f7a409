//! ONNX files: their wire format, the checks before any runtime sees one, and what can be said of a graph by looking.
//!
//! Owns the reading of an ONNX model as untrusted bytes. Refuses to run anything, to open any other file, or to know
//! environments and submissions. `artifact::policy`, `artifact::pack` and `dedup` call it.
//!
//! The way of a file: `wire` scans the bytes, `proto` decodes them, `sweep` looks everywhere for what is never allowed,
//! `expand` and `graph` make one list of allowed nodes, `shape` follows the batch through it,
//! `canon` says what it computes.

pub mod canon;
mod expand;
pub mod graph;
mod layout;
pub mod ops;
pub mod proto;
mod rules;
pub mod shape;
pub(crate) mod sweep;
pub mod tensor;
pub mod wire;

pub use canon::Canon;
pub use graph::Graph;
pub use shape::Shapes;

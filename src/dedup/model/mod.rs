//! Models: which checkpoints are an earlier one's in disguise.
//!
//! Owns the pass over the tensors, the fingerprints, the comparison and the verdict. Refuses to read files, to fetch,
//! to store and to decide what becomes of a copy. The duplicates stage calls it.

mod aligned;
pub mod bytes;
pub mod compat;
pub mod corpus;
pub mod evidence;
mod index;
mod joint;
mod kernel;
mod key;
mod mixture;
mod names;
pub mod print;
pub mod scan;
pub mod summary;
pub mod verdict;

pub use index::Likeness;
pub use kernel::Dtype;
pub use key::Key;
pub use names::{matrices_of, twice};
pub use print::Fingerprint;
pub use scan::Scan;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod scan_tests;

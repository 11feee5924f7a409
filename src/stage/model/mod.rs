//! The stages of models: `checks`, which looks at one model alone, and `duplicates`, which looks at it among others.
//!
//! Owns what both need: where models come from, where they are put, and their fingerprints. Refuses to know leases and
//! statuses, as every stage does. The catalogue makes the stages; `waag check` runs [`look`], which is their first part.

mod checks;
mod codes;
mod duplicates;
mod fetched;
mod look;
mod neighbours;
mod prints;

pub use checks::Checks;
pub use codes::CODES;
pub use duplicates::{Derivatives, Duplicates, Options, Verdicts};
pub use fetched::{Models, Parts};
pub use look::{Looked, look, preview};
pub use prints::Prints;

#[cfg(test)]
mod tests;

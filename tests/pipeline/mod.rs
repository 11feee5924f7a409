//! The pipeline on a hand-driven clock: five shapes of competition, and what must never happen in any of them.

mod actors;
mod runs;
mod skeletons;
pub mod world;

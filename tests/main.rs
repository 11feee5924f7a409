//! Everything that is tested from outside, in one binary.

#![allow(missing_docs, reason = "tests are read, not looked up")]

mod casts;
mod cli;
mod crash;
mod docs;
mod fetch;
mod fuzz;
mod isolation;
mod models;
mod pipeline;
mod play;
mod troubles;

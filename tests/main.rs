//! Everything that is tested from outside, in one binary.

#![allow(missing_docs, reason = "tests are read, not looked up")]

mod cli;
mod crash;
mod docs;
mod pipeline;
mod play;

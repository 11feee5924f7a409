//! Waag: a subnet's whole incentive pipeline in one binary, from chain to weights.
//!
//! The modules, in reading order: the words everybody uses, the outside world, the rooms that judge, and the pipeline
//! that carries a submission from one to the next. Imports point one way, from the end of this list to its beginning.

pub mod clock;
pub mod fault;
pub mod ids;
pub mod limits;

pub mod config;

pub mod auth;
pub mod chain;
pub mod store;

pub mod artifact;
pub mod dedup;
pub mod engine;
pub mod gym;
pub mod score;
pub mod weights;

pub mod intake;
pub mod stage;

pub mod pipeline;

pub mod actors;

pub mod devnet;
pub mod server;

pub mod cli;

//! The supervision tree: every task of the process has a name, a kind and an owner here.
//!
//! Owns spawning, what failure and cancellation of a task mean, and the drain at shutdown. Refuses to know what the
//! tasks do. `cli/` starts the tree; rooms that need a task of their own take a [`Tasks`] handle.

mod tasks;

pub use tasks::{Kind, Tasks};

//! `waag play`, a hidden verb: the child process in which a foreign ONNX backend runs a policy.

use std::io;

use super::{Outcome, exit::ENDED};
use crate::gym::isolation::serve;

/// The name of the verb.
pub const VERB: &str = "play";

/// Answers one task on standard input and output.
///
/// # Errors
/// When the parent cannot be understood or has gone.
pub fn run() -> Outcome {
    serve(io::stdin(), io::stdout())
        .map_err(|source| ENDED.because(format!("the parent process cannot be understood: {source}")).into())
}

//! The command line, on the real binary.

mod appliance;
mod collect;
mod config;
mod devnet;
mod duplicates;
mod help;
mod json;
mod metagraph;
mod miner;
mod model;
mod on;
mod publish;
mod verify;
mod wallet;
mod weights;
mod world;

use std::{path::Path, process::Output};

use assert_cmd::Command;
use serde_json::Value;

/// What one run said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            exit: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).expect("stdout is text"),
            stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        }
    }

    /// Stdout as the one document that it must be.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: stdout is\n{}", self.stdout))
    }
}

/// The binary in a folder of its own, with nothing of the tester's environment.
pub fn waag(dir: &Path) -> Command {
    let mut command = Command::cargo_bin("waag").expect("the binary is built");
    command.current_dir(dir).env_clear().env("HOME", dir);
    command
}

/// Runs the binary to its end.
pub fn run(dir: &Path, args: &[&str]) -> Said {
    Said::of(waag(dir).args(args).output().expect("it starts"))
}

/// The same with some variables.
pub fn run_with(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Said {
    Said::of(waag(dir).envs(env.iter().copied()).args(args).output().expect("it starts"))
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

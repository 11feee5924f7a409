//! `waag completions`: a script that lets a shell complete this program's verbs and flags.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Outcome, exit::say};

/// Arguments of `waag completions`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag completions bash > /etc/bash_completion.d/waag
  waag completions zsh > \"${fpath[1]}/_waag\"
  waag completions fish > ~/.config/fish/completions/waag.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the verb.
///
/// # Errors
/// Never.
pub fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "waag", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

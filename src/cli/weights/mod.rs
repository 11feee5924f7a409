//! `waag weights`: what a validator's weights are on chain, setting them by hand, and what was set from here.
//!
//! Owns arguments and words. Refuses to know how weights get to the chain: the weight setter of the appliance takes
//! the very same steps.

pub mod history;
mod set;
mod show;

use clap::Subcommand;

use super::{Context, Outcome};
use crate::fault::Code;

/// The codes of these verbs.
pub const CODES: &[Code] = &[set::UNDER_WAY, set::NOT_SET, history::DATABASE_OLDER];

/// Arguments of `waag weights`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag weights show --netuid 12                      the wallet's own hotkey
  waag weights show --netuid 12 --of 5F… --mechanism 1
  waag weights set --netuid 12 --uids 1,2 --weights 0.4,0.6
  waag weights set --resume                          carry on what an earlier run has begun
  waag weights history --json                        what was set from this data directory")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Clone, Subcommand)]
enum Act {
    /// What stands on chain for a validator, and when weights may be set again
    Show(show::Args),
    /// Set weights by hand, as the appliance does it: checked first, hidden where the subnet wants it, read back
    Set(set::Args),
    /// The weights that were set from this data directory, the newest first
    History(history::Args),
}

/// Runs the verb.
///
/// # Errors
/// When the wallet, the chain or the data directory does not allow it.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    match &args.act {
        Act::Show(args) => show::run(context, args).await,
        Act::Set(args) => set::run(context, args).await,
        Act::History(args) => history::run(context, args),
    }
}

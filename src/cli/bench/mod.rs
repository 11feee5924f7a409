//! `waag bench`: how fast this machine does what an appliance does, by the appliance's own functions.

mod devnet;
mod duplicates;
mod fingerprint;
mod follow;
mod jobs;
mod metagraph;
mod preflight;
mod registry;
mod rollouts;

use clap::Subcommand;

use super::{Context, Outcome};

/// Arguments of `waag bench`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench rollouts                          CartPole and Pendulum, a 64x64 network, one thread
  waag bench rollouts --threads 4 --policy CartPole-v1=mine.onnx
  waag bench jobs                              claim and finish no-op jobs through the real store
  waag bench jobs --dir /var/lib/waag          on the disk that matters
  waag bench devnet --blocks 100000            the embedded chain over its socket, and its memory
  waag bench follow --blocks 100000            the chain follower over that chain, and its memory
  waag bench metagraph --subtensor.network finney --netuid 1
  waag bench duplicates                        disguised copies of models: how many are found, who is blamed
  waag bench fingerprint my-model              the pass over a model's weights
  waag bench preflight                         a bad model of 70 GB, refused by its headers")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Steps per second from ONNX bytes to episode records
    Rollouts(rollouts::Args),
    /// No-op jobs per second through the real store, at both durability settings
    Jobs(jobs::Args),
    /// Blocks and signed extrinsics per second of the embedded chain
    Devnet(devnet::Args),
    /// Blocks per second of the chain follower, and the memory of it all
    Follow(follow::Args),
    /// How long it takes to read the metagraph
    Metagraph(metagraph::Args),
    /// Disguised copies of models: how many are found, and whether anybody is blamed wrongly
    Duplicates(duplicates::Args),
    /// Bytes per second of the one pass over a model's weights
    Fingerprint(fingerprint::Args),
    /// How fast a bad model of 70 GB is refused, and how little is read of it
    Preflight(preflight::Args),
}

/// Runs the verb.
///
/// # Errors
/// When what is measured fails.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    match &args.what {
        What::Rollouts(args) => rollouts::run(context, args),
        What::Jobs(args) => jobs::run(context, args).await,
        What::Devnet(args) => devnet::run(context, args).await,
        What::Follow(args) => follow::run(context, args).await,
        What::Metagraph(args) => metagraph::run(context, args).await,
        What::Duplicates(args) => duplicates::run(context, args),
        What::Fingerprint(args) => fingerprint::run(context, args),
        What::Preflight(args) => preflight::run(context, args).await,
    }
}

/// How much memory a process, or `self`, holds, where the system says so: now (`VmRSS`), or at most (`VmHWM`).
fn resident_kib(process: &str, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Nanoseconds since some moment, always forwards.
#[expect(clippy::disallowed_methods, reason = "what is measured here is real time, finer than the clock port tells")]
fn stopwatch() -> impl Fn() -> u64 {
    let start = std::time::Instant::now();
    move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

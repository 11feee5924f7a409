//! `waag bench`: how fast this machine does what an appliance does, by the appliance's own functions.

mod devnet;
mod jobs;
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
  waag bench devnet --blocks 100000            the embedded chain over its socket, and its memory")]
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
    }
}

/// Nanoseconds since some moment, always forwards.
#[expect(clippy::disallowed_methods, reason = "what is measured here is real time, finer than the clock port tells")]
fn stopwatch() -> impl Fn() -> u64 {
    let start = std::time::Instant::now();
    move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

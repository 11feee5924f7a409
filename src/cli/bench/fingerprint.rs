//! `waag bench fingerprint`: the one pass over a model's weight files.

use std::{path::PathBuf, thread};

use serde_json::json;

use super::{Context, Outcome, stopwatch};
use crate::{
    cli::{Failure, exit::answer},
    dedup::model::Key,
    engine::fingerprint::{Error, Request, headers, scan},
    ids::Digest,
};

/// Arguments of `waag bench fingerprint`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench fingerprint my-model
  waag bench fingerprint my-model --sha256 --threads 2 --json   with the SHA-256 of every file, in the same pass")]
pub struct Args {
    /// The folder of the model
    dir: PathBuf,
    /// Compute the SHA-256 of every weight file too
    #[arg(long)]
    sha256: bool,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Runs the verb.
///
/// # Errors
/// When a weight file cannot be read.
pub fn run(context: &Context, args: &Args) -> Outcome {
    Failure::unless_there(&args.dir)?;
    let unreadable = |source: Error| {
        let why = std::error::Error::source(&source).map(ToString::to_string).unwrap_or_default();
        Failure::usage(format!("{source}: {why}"))
    };
    let shards = headers(&args.dir).map_err(unreadable)?;
    let threads = args.threads.map(usize::from).or_else(|| thread::available_parallelism().ok().map(usize::from));
    let threads = threads.unwrap_or(1);
    let key = Key::new([0; 32]);
    let request = Request { folder: &args.dir, shards: &shards, key: &key, threads, sha256: args.sha256 };
    let clock = stopwatch();
    let begun = clock();
    let scanned = scan(&request, &|_bytes| true).map_err(unreadable)?;
    let took_ns = clock().saturating_sub(begun).max(1);
    let bytes: u64 = shards.values().map(|header| header.data_begin() + header.data_bytes()).sum();
    #[expect(clippy::cast_precision_loss, reason = "bytes and nanoseconds of one model are far below 2^53")]
    let gb_per_s = bytes as f64 / took_ns as f64;
    let sha256: Vec<_> =
        scanned.sha256.iter().map(|(name, digest)| json!({"file": name, "sha256": Digest(*digest)})).collect();
    let document = json!({
        "bytes": bytes,
        "files": shards.len(),
        "matrices": scanned.fingerprint.matrices(),
        "threads": threads,
        "gb_per_s": gb_per_s,
        "named": Digest(scanned.fingerprint.named),
        "contents": Digest(scanned.fingerprint.contents),
        "sha256": sha256,
    });
    answer(context.json(), &document, || {
        format!(
            "{bytes} bytes in {} files, {} matrices: {gb_per_s:.2} GB/s on {threads} threads",
            shards.len(),
            scanned.fingerprint.matrices()
        )
    });
    Ok(())
}

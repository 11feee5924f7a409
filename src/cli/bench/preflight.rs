//! `waag bench preflight`: how fast a bad model of 70 GB is refused, and how little is moved for it.

use std::{path::PathBuf, sync::Arc, sync::atomic::Ordering, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::{
    Context, Outcome,
    registry::{Registry, SHARDS},
    stopwatch,
};
use crate::{
    actors::Tasks,
    artifact::{
        fetch::{self, Http, Limits},
        model::{
            Repo, Rules, Trouble,
            files::{FileEntry, FileRules},
            preflight,
            safetensors::{Header, LENGTH_BYTES},
        },
    },
    cli::{
        Failure,
        devnet::stop_signal,
        exit::{answer, table},
    },
};

/// How long the registry may take to end.
const DRAIN: Duration = Duration::from_secs(5);
/// The types that the challenge of the bench takes.
const TAKEN: &[&str] = &["F16", "BF16"];

/// Arguments of `waag bench preflight`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench preflight
  waag bench preflight --latency-ms 200 --json
  waag bench preflight --serve                  the registry alone, for another client

A registry on loopback holds a model of 30 weight files and 70 GB, which are holes but for their headers; one tensor in \
the 29th file is of a type that is not taken. Each request, and each new connection, is answered after the latency; the \
registry wants a token, as public ones do. The production preflight looks at it, and beside it the same headers are \
read one after another on one connection, length and header apart. The last lines are \
`ratio <number> <what against what>`.")]
pub struct Args {
    /// Milliseconds of a way there and back
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    latency_ms: u64,
    /// How often to look; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Look at nothing: leave the registry up for another client, until a signal comes
    #[arg(long, conflicts_with = "repeats")]
    serve: bool,
    /// Where the files with holes are made, and removed afterwards [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// One way of looking.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    /// Of the median look.
    ns: u64,
    /// Of one look: bytes that the registry sent, with the heads of its answers.
    moved_bytes: u64,
    requests: u64,
    connections: u64,
    verdict: String,
}

/// Runs the verb.
///
/// # Errors
/// When the registry cannot be started, or finds nothing wrong.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let name = format!("waag-bench-preflight-{}", std::process::id());
    let folder = args.dir.clone().unwrap_or_else(std::env::temp_dir).join(name);
    std::fs::create_dir_all(&folder).map_err(|source| Failure::file("make", &folder, &source))?;
    let tasks = Tasks::new();
    let latency = Duration::from_millis(args.latency_ms);
    let started = Registry::start(&folder, latency, Arc::clone(&context.clock), &tasks).await;
    let looked = match &started {
        Ok(registry) if args.serve => stay(context, registry).await.map(|()| None),
        Ok(registry) => look(registry, args.repeats).await.map(Some),
        Err(source) => Err(Failure::file("make", &folder, source)),
    };
    drop(tasks.drain(DRAIN).await);
    std::fs::remove_dir_all(&folder).map_err(|source| Failure::file("delete", &folder, &source))?;
    let (Some((ours, theirs)), Ok(registry)) = (looked?, started) else { return Ok(()) };
    print(context, args, &registry, &ours, &theirs);
    Ok(())
}

/// Says where the model is, and leaves it there.
async fn stay(context: &Context, registry: &Registry) -> Outcome {
    let stop = stop_signal()?;
    let (repo, digest) = (registry.reference.repo(), registry.reference.revision().to_string());
    let document = json!({ "url": registry.url, "repo": repo, "digest": digest });
    answer(context.json(), &document, || format!("{} has {}", registry.url, registry.reference));
    stop.await;
    Ok(())
}

async fn look(registry: &Registry, repeats: u32) -> Result<(Measured, Measured), Failure> {
    let rules = Rules {
        files: FileRules {
            required: vec!["config.json".to_owned()],
            required_any: vec!["*.safetensors".to_owned()],
            allowed: vec!["model.safetensors.index.json".to_owned()],
            ..FileRules::default()
        },
        dtypes: TAKEN.iter().map(|name| (*name).to_owned()).collect(),
        architecture: None,
    };
    let ours = measured(registry, repeats, async |source: fetch::Registry| {
        let refused = preflight(&source, &rules, &|_step| ()).await.err();
        Ok(refused.map(|refused| refused.fault().to_string()))
    });
    let ours = ours.await?;
    // The slow way is slow: once is enough.
    Ok((ours, measured(registry, 1, async |source: fetch::Registry| one_after_another(&source).await).await?))
}

async fn measured(
    registry: &Registry,
    repeats: u32,
    mut look: impl AsyncFnMut(fetch::Registry) -> Result<Option<String>, Trouble>,
) -> Result<Measured, Failure> {
    let clock = stopwatch();
    let traffic = &registry.traffic;
    let seen = || {
        let of = |one: &std::sync::atomic::AtomicU64| one.load(Ordering::Relaxed);
        (of(&traffic.sent_bytes), of(&traffic.requests), of(&traffic.connections))
    };
    let mut looks = Vec::new();
    for _ in 0..repeats {
        let (begun_ns, before) = (clock(), seen());
        // A client of its own, with no connection and no token from before.
        let http = Http::new(Limits { allow_private: true, ..Limits::default() }).map_err(unusable)?;
        let source = fetch::Registry::new(http, &registry.url, registry.reference.clone(), None).map_err(unusable)?;
        let verdict = look(source).await.map_err(unusable)?;
        let verdict = verdict.ok_or_else(|| Failure::mismatch("the bad model passed"))?;
        let (ns, after) = (clock() - begun_ns, seen());
        let (moved_bytes, requests, connections) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        looks.push(Measured { ns, moved_bytes, requests, connections, verdict });
    }
    looks.sort_by_key(|look| look.ns);
    Ok(looks.swap_remove(looks.len() / 2))
}

fn unusable(trouble: Trouble) -> Failure {
    Failure::mismatch(format!("the registry of the bench cannot be used: {trouble}"))
}

/// The known way: of one weight file after the other its length, then its header.
async fn one_after_another(source: &fetch::Registry) -> Result<Option<String>, Trouble> {
    let mut files = source.list().await?;
    files.retain(|file| file.name.ends_with(".safetensors"));
    files.sort_by(|one, other| one.name.cmp(&other.name));
    for FileEntry { name, bytes, .. } in &files {
        let malformed = |why: String| Trouble::Malformed(format!("{name}: {why}"));
        let first = source.read(name, 0, LENGTH_BYTES).await?;
        let first = *first.first_chunk().ok_or_else(|| malformed("too short".to_owned()))?;
        let header_bytes = Header::length(first, *bytes).map_err(|why| malformed(why.to_string()))?;
        let json = source.read(name, LENGTH_BYTES, header_bytes).await?;
        let header = Header::parse(&json, *bytes).map_err(|why| malformed(why.to_string()))?;
        if let Some(wrong) = header.tensors.iter().find(|tensor| !TAKEN.contains(&tensor.dtype.as_str())) {
            return Ok(Some(format!("weight_dtype: `{name}` has {}", wrong.dtype)));
        }
    }
    Ok(None)
}

#[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

fn print(context: &Context, args: &Args, registry: &Registry, ours: &Measured, theirs: &Measured) {
    let header_bytes = registry.header_bytes;
    let beyond = |look: &Measured| look.moved_bytes.saturating_sub(header_bytes);
    let (moved, faster) = (ratio(ours.moved_bytes, header_bytes), ratio(theirs.ns, ours.ns));
    let document = json!({
        "model_bytes": registry.model_bytes, "weight_files": SHARDS, "header_bytes": header_bytes,
        "latency_ms": args.latency_ms, "preflight": ours, "beyond_headers_bytes": beyond(ours),
        "one_after_another": theirs, "ratio_moved_to_headers": moved, "ratio_faster": faster,
    });
    answer(context.json(), &document, || {
        let row = |name: &str, look: &Measured| {
            vec![
                name.to_owned(),
                format!("{:.1}", ratio(look.ns, 1_000_000)),
                look.moved_bytes.to_string(),
                beyond(look).to_string(),
                look.requests.to_string(),
                look.connections.to_string(),
            ]
        };
        let rows = [row("preflight", ours), row("one after another", theirs)];
        let columns = &["way", "ms", "bytes moved", "beyond headers", "requests", "connections"];
        format!(
            "{} bytes in {SHARDS} weight files, {header_bytes} bytes of headers, {} ms there and back\n{}\n{}\n\
             ratio {moved:.3} bytes that the preflight moves, against those of the headers alone\n\
             ratio {faster:.1} time of the same headers one after another, against the preflight",
            registry.model_bytes,
            args.latency_ms,
            ours.verdict,
            table(columns, &rows),
        )
    });
}

//! `waag bench follow`: the chain follower over many blocks of a devnet, the memory that both hold meanwhile, and how
//! long a start takes until the subnet is known.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Context, Outcome, resident_kib, stopwatch};
use crate::{
    actors::{Facts, Follower, snapshots},
    chain::{Client, Keypair, Options as ChainOptions},
    cli::{
        Failure,
        devnet::{Controls, stop_signal},
        exit::{ENDED, answer, note, table},
    },
    pipeline::{Challenges, Pipeline, points::Points},
    store::{Durability, Options, Store},
};

/// The subnet.
const NETUID: u16 = 1;
/// Blocks that one request makes: fewer than whose state the node keeps, so that a follower that lags finds them.
const BLOCKS_PER_REQUEST: u32 = 500;
/// Blocks by which finality follows on a devnet.
const FINALITY_LAG: u32 = 2;
/// Looks at the memory over the whole way.
const LOOKS: u32 = 10;

/// Arguments of `waag bench follow`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench follow
  waag bench follow --blocks 100000 --json

The devnet is a process of its own, so that its memory, which grows with the hashes of its blocks, is not taken for \
the follower's.")]
pub struct Args {
    /// Blocks to follow
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    blocks: u32,
    /// Neurons of the subnet
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    neurons: u16,
    /// Where to keep the data directory that is written; it must be new
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The memory of both processes after some blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
struct Look {
    blocks: u32,
    follower_kib: Option<u64>,
    devnet_kib: Option<u64>,
}

/// A devnet in a process of its own, so that its memory is not taken for the follower's. It ends with this value.
struct Devnet {
    child: Child,
    url: String,
}

#[derive(Deserialize)]
struct Announced {
    url: String,
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Either it runs still or it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Devnet {
    fn start() -> Result<Self, Failure> {
        let failed = |source: std::io::Error| Failure::from(ENDED.because(format!("cannot start a devnet: {source}")));
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["devnet", "--manual", "--bare", "--listen", "127.0.0.1:0", "--json", "--log", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take();
        let mut devnet = Self { child, url: String::new() };
        let said = stdout.map(|stdout| serde_json::Deserializer::from_reader(stdout).into_iter::<Announced>().next());
        let said = said.flatten().ok_or_else(|| ENDED.because("the devnet ended without a word"))?;
        devnet.url = said.map_err(|source| ENDED.because(format!("the devnet said something else: {source}")))?.url;
        Ok(devnet)
    }

    fn look(&self, blocks: u32) -> Look {
        let devnet_kib = resident_kib(&self.child.id().to_string(), "VmRSS");
        Look { blocks, follower_kib: resident_kib("self", "VmRSS"), devnet_kib }
    }
}

/// Runs the verb.
///
/// # Errors
/// When the chain or the store fails.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let name = format!("waag-bench-follow-{}", std::process::id());
    let dir = args.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
    if dir.exists() {
        return Err(Failure::usage(format!("`{}` is there already; name a new folder", dir.display())));
    }
    let devnet = Devnet::start()?;
    let controls = prepare(&devnet, args.neurons).await?;
    let client = Client::connect(ChainOptions::new(vec![devnet.url.clone()])).await?;
    let pipeline = open(context, &dir).await?;
    let (facts, seen) = watch::channel(None);
    let token = CancellationToken::new();
    let follower = Follower::new(client, NETUID, pipeline.clone(), facts).run(token.clone());
    let now_ns = stopwatch();
    // Whoever stops this stops the devnet too.
    let stop = stop_signal()?;
    let driven = async {
        let looks = tokio::select! {
            looks = drive(context, args.blocks, &devnet, &controls, &seen) => looks,
            () = stop => Err(ENDED.because("it was told to stop").into()),
        };
        token.cancel();
        looks
    };
    let (looks, ()) = tokio::join!(driven, follower);
    let (looks, ns) = (looks?, now_ns());
    drop((pipeline, seen));
    let usable_ns = restart(context, &dir).await?;
    if args.dir.is_none() {
        std::fs::remove_dir_all(&dir).map_err(|source| Failure::file("remove", &dir, &source))?;
    }
    report(context, args, &looks, ns, usable_ns);
    Ok(())
}

/// A subnet with so many neurons, final.
async fn prepare(devnet: &Devnet, neurons: u16) -> Result<Controls, Failure> {
    let controls = Controls::connect(&devnet.url).await?;
    let owner = Keypair::from_uri("//Alice").map_err(|error| error.fault())?.account();
    let netuid = controls.create_subnet(NETUID, &owner).await?;
    for neuron in 1..neurons {
        let key = Keypair::from_uri(&format!("//neuron{neuron}")).map_err(|error| error.fault())?;
        controls.register(netuid, &key.account(), &owner).await?;
    }
    controls.new_blocks(FINALITY_LAG + 1).await?;
    Ok(controls)
}

/// What a power cut may cost does not matter here, and waiting for the disk is not what is measured.
async fn open(context: &Context, dir: &std::path::Path) -> Result<Pipeline, Failure> {
    let store = Store::open(dir, Options { durability: Durability::Normal, ..Options::default() }).await?;
    Ok(Pipeline::open(store, Arc::clone(&context.clock), Challenges::new(), Points::default()).await?)
}

/// Makes the blocks, never further ahead than their state is kept, and looks at the memory on the way.
async fn drive(
    context: &Context,
    blocks: u32,
    devnet: &Devnet,
    controls: &Controls,
    seen: &watch::Receiver<Option<Facts>>,
) -> Result<Vec<Look>, Failure> {
    let mut seen = seen.clone();
    let first = seen.wait_for(Option::is_some).await.map_err(|_ended| ENDED.because("the follower ended"))?;
    let begun_at = first.as_ref().map(|facts| facts.finalized.number).unwrap_or_default();
    drop(first);
    let mut looks = vec![devnet.look(0)];
    let mut made = 0;
    while made < blocks {
        let now = BLOCKS_PER_REQUEST.min(blocks - made).min(blocks.div_ceil(LOOKS));
        controls.new_blocks(now).await?;
        made += now;
        let wanted = begun_at + u64::from(made.saturating_sub(FINALITY_LAG));
        let reached = seen.wait_for(|facts| facts.as_ref().is_some_and(|facts| facts.finalized.number >= wanted));
        reached.await.map_err(|_ended| ENDED.because("the follower ended"))?;
        if u64::from(made) * u64::from(LOOKS) / u64::from(blocks) >= looks.len() as u64 {
            looks.push(devnet.look(made));
            if !context.json() {
                note(format_args!("{made} blocks of {blocks}"));
            }
        }
    }
    Ok(looks)
}

/// How long a start takes until the subnet is known, in nanoseconds: from an existing data directory, without a chain.
async fn restart(context: &Context, dir: &std::path::Path) -> Result<u64, Failure> {
    let now_ns = stopwatch();
    let pipeline = open(context, dir).await?;
    let restored = snapshots::restore(&pipeline, NETUID, None).await?;
    let usable_ns = now_ns();
    restored.map(|_facts| usable_ns).ok_or_else(|| Failure::mismatch("nothing was stored of the subnet"))
}

fn report(context: &Context, args: &Args, looks: &[Look], ns: u64, usable_ns: u64) {
    #[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
    let (per_second, usable_ms) = (f64::from(args.blocks) * 1e9 / ns.max(1) as f64, usable_ns as f64 / 1e6);
    let document = json!({
        "blocks": args.blocks, "neurons": args.neurons, "ns": ns, "blocks_per_second": per_second, "memory": looks,
        "usable_after_restart_ns": usable_ns,
    });
    answer(context.json(), &document, || {
        let kib = |kib: Option<u64>| kib.map_or_else(|| "unknown".to_owned(), |kib| kib.to_string());
        let rows: Vec<Vec<String>> = looks
            .iter()
            .map(|look| vec![look.blocks.to_string(), kib(look.follower_kib), kib(look.devnet_kib)])
            .collect();
        format!(
            "{}\n{per_second:.0} blocks/s with {} neurons\nafter a restart the subnet is known in {usable_ms:.1} ms",
            table(&["blocks", "follower KiB", "devnet KiB"], &rows),
            args.neurons,
        )
    });
}

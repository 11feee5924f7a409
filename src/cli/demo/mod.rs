//! `waag demo`: real policies from chain to weights, on this machine, shown.
//!
//! Owns the show: it starts exactly what `waag up --dev` starts, lets the cast play against it, watches through the
//! API, and compares what was computed with what stands on chain. Refuses to reach into the appliance; nothing imports
//! it.

pub mod cast;
pub mod disguise;
pub mod play;
pub mod report;
mod view;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use report::Report;

use self::{
    play::{STUCK, Stage},
    view::View,
};
use super::{
    Configured, Context, DemoArgs, Failure, Outcome,
    appliance::{Appliance, Start},
    devnet::stop_signal,
    exit::{note, print_json, say},
};
use crate::{
    chain::{self, Client, Slug},
    config::{Given, profile::EMBEDDED_DEFAULT},
    fault::Fault,
    pipeline::life::Status,
    server::{self, views},
};

/// The demo's subnet.
const NETUID: u16 = 7;
/// Wall milliseconds between two blocks: a hundred times faster than the chain it imitates.
const BLOCK_MS: u64 = 100;
/// Episodes of `--fast`, and of the embedded profile.
const EPISODES: (&str, &str) = ("episodes = 160", "episodes = 200");
/// Blocks let pass so that the commitment without an upload runs out: more than the profile's `artifact_within_blocks`.
const OVERDUE_BLOCKS: u32 = 620;
/// Runs after which every win can have been confirmed.
const RUNS: i64 = 4;

/// Runs the verb.
///
/// # Errors
/// When anything ends otherwise than it deserves.
pub async fn run(context: &Context, args: &DemoArgs) -> Outcome {
    let started_ms = context.clock.now_ms();
    let stop = stop_signal()?;
    let folder = folder(context)?;
    let configured = configured(context, args, &folder)?;
    let appliance = Appliance::start(context, &configured, Start { dev: true, stop_at: None }).await?;
    let view = View::new(context.json());
    view.tell(&format!(
        "an own chain at {} (subtensor spec 439, not Bittensor), the appliance at {}",
        appliance.chain_url,
        appliance.server.url()
    ));
    let shown = async {
        let stage = stage(context, &configured, &appliance, &folder).await?;
        let mut report = show(context, &stage, &view).await?;
        report.elapsed_ms = context.clock.now_ms() - started_ms;
        report.folder.clone_from(&folder);
        report.api = appliance.server.url();
        report.chain = appliance.chain_url.clone();
        Ok::<_, Failure>(report)
    };
    let report = tokio::select! {
        report = shown => report,
        () = stop => Err(Failure::from(STUCK.because("stopped by a signal"))),
    };
    view.finish();
    let report = match report {
        Ok(report) => report,
        Err(failure) => {
            appliance.stop().await?;
            return Err(failure);
        }
    };
    if context.json() {
        print_json(&report);
    } else {
        say(report.table());
        note(report.afterwards(args.keep));
    }
    if args.keep {
        appliance.run_until(stop_signal()?).await?;
    } else {
        appliance.stop().await?;
    }
    report.verdict()
}

/// Plays the cast and waits until everything is decided, set and read back.
async fn show(context: &Context, stage: &Stage, view: &View) -> Result<Report, Failure> {
    let cast = cast::cast();
    let tell = |line: &str| view.tell(line);
    let watching = view.watch(&stage.api, &*context.clock);
    let playing = async {
        let parts = stage.play(&cast, &context.entropy, &tell).await?;
        settle(stage, &tell).await?;
        Ok::<_, Fault>(parts)
    };
    let parts = tokio::select! {
        parts = playing => parts?,
        never = watching => match never {},
    };
    Ok(report::gather(stage, &cast, parts).await?)
}

/// Waits until every submission has ended, every round is ranked, and the weights of the last ranking are read back.
///
/// # Errors
/// When the appliance or the chain cannot be asked, or it never comes to rest.
pub async fn settle(stage: &Stage, tell: play::Tell<'_>) -> Result<(), Fault> {
    let slug = stage.challenge.as_str();
    stage.until(async || Ok(runs_ranked(stage).await? >= 1)).await?;
    tell("first run ranked: nobody displaces an earlier one yet; wins must be repeated on fresh seeds");
    stage.until(async || Ok(runs_ranked(stage).await? >= RUNS)).await?;
    tell("all rounds ranked; two hours of chain time pass, so that the silent one's time is over");
    stage.pass_blocks(OVERDUE_BLOCKS).await?;
    stage
        .until(async || {
            let submissions = stage.api.all_submissions(&views::Filter::default()).await.map_err(|e| e.fault())?;
            let ended = |status: Status| status.is_terminal() || status.is_finished();
            Ok(submissions.iter().all(|submission| ended(submission.status)))
        })
        .await?;
    stage
        .until(async || {
            let status = stage.api.status().await.map_err(|error| error.fault())?;
            let version = status
                .challenges
                .iter()
                .find(|challenge| challenge.slug == slug)
                .and_then(|challenge| challenge.ranking.as_ref())
                .map(|ranking| ranking.version);
            let confirmed = status.vector.filter(|vector| vector.state == "confirmed");
            Ok(confirmed.is_some_and(|vector| vector.rankings[slug].as_i64() == version))
        })
        .await?;
    tell("weights set on chain and read back from finalized state");
    Ok(())
}

async fn runs_ranked(stage: &Stage) -> Result<i64, Fault> {
    let status = stage.api.status().await.map_err(|error| error.fault())?;
    let versions = status.challenges.iter().filter_map(|challenge| challenge.ranking.as_ref());
    Ok(versions.map(|ranking| ranking.version).max().unwrap_or(0))
}

/// Where everything of this demo is kept, afterwards too.
fn folder(context: &Context) -> Result<PathBuf, Failure> {
    let folder = context
        .globals
        .data_dir
        .as_ref()
        .map_or_else(|| std::env::temp_dir().join(format!("waag-demo-{}", context.clock.now_ms())), PathBuf::from);
    std::fs::create_dir_all(&folder)
        .map_err(|source| Failure::usage(format!("cannot create {}: {source}", folder.display())))?;
    Ok(folder)
}

/// The settings of the demo: the embedded profile, an own data directory, any free ports.
fn configured(context: &Context, args: &DemoArgs, folder: &Path) -> Result<Configured, Failure> {
    let profile = profile(args, folder)?;
    let given = |name: &str, key: &str, value: &str| Given::new(name, key, value);
    let flags = [
        given("demo", "data_dir", &folder.join("data").display().to_string()),
        given("demo", "network.netuid", &NETUID.to_string()),
        given("demo", "network.name", "devnet"),
        given("demo", "wallet.path", &folder.join("wallets").display().to_string()),
        given("demo", "wallet.name", "validator"),
        given("demo", "server.listen", "127.0.0.1:0"),
        given("demo", "devnet.listen", "127.0.0.1:0"),
        given("demo", "devnet.block_ms", &BLOCK_MS.to_string()),
        given("demo", "challenges", &profile),
    ];
    context.configured_with(&flags)
}

/// The profile: the embedded one, or a copy of it with fewer episodes.
fn profile(args: &DemoArgs, folder: &Path) -> Result<String, Failure> {
    if !args.fast {
        return Ok(EMBEDDED_DEFAULT.to_owned());
    }
    let text = crate::config::profile::embedded(EMBEDDED_DEFAULT).unwrap_or_default();
    let path = folder.join("fast.toml");
    std::fs::write(&path, text.replace(EPISODES.1, EPISODES.0))
        .map_err(|source| Failure::usage(format!("cannot write {}: {source}", path.display())))?;
    Ok(path.display().to_string())
}

async fn stage(
    context: &Context,
    configured: &Configured,
    appliance: &Appliance,
    folder: &Path,
) -> Result<Stage, Failure> {
    let slug = configured.profiles.first().map(|profile| profile.slug.to_string()).unwrap_or_default();
    let challenge: Slug = slug.parse().map_err(|error: chain::SealError| error.fault())?;
    let options =
        chain::Options { clock: Arc::clone(&context.clock), ..chain::Options::new(vec![appliance.chain_url.clone()]) };
    Ok(Stage {
        netuid: configured.settings().network.netuid,
        challenge,
        chain: Client::connect(options).await.map_err(|error| error.fault())?,
        chain_url: appliance.chain_url.clone(),
        block_ms: configured.settings().devnet.block_ms,
        api: server::Client::new(&appliance.server.url()).map_err(|error| error.fault())?,
        folder: folder.to_owned(),
        clock: Arc::clone(&context.clock),
    })
}

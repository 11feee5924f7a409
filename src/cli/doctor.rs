//! `waag doctor`: looks at everything an appliance needs and says what is wrong, without changing anything.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use serde_json::json;

use super::{
    Configured, Context, Failure, Outcome,
    exit::{UNHEALTHY, answer},
};
use crate::{
    chain::{BlockRef, Client, Options},
    config::settings::Settings,
    fault::Fault,
    gym::{policy::BackendChoice, rollouts::Verdict},
    stage::catalog::BuiltIn,
    store::{self, Inspection},
};

/// Free space below which a warning is due: a year of a small subnet's artifacts.
const SPACE_WARN_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Free space below which nothing should be started.
const SPACE_FAIL_BYTES: u64 = 512 * 1024 * 1024;
/// Difference between our clock and the chain's that is still normal: a few blocks, because a head is always old.
const CLOCK_WARN_MS: u64 = 60_000;
/// Blocks by which an endpoint may be behind another one: a minute.
const BLOCKS_BEHIND_WARN: u64 = 5;
/// How long the foreign backend may take to introduce itself, in milliseconds.
const BACKEND_MS: i64 = 20_000;

/// Arguments of `waag doctor`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag doctor
  waag doctor --config /etc/waag.toml --json

Each line is ok, warn or fail, with a hint. Exit code 1 if any is fail.")]
pub struct Args {}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    health: Health,
    what: &'static str,
    found: String,
    hint: String,
}

impl Line {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { health: Health::Ok, what, found: found.into(), hint: String::new() }
    }

    fn warn(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { health: Health::Warn, what, found: found.into(), hint: hint.into() }
    }

    fn fail(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { health: Health::Fail, what, found: found.into(), hint: hint.into() }
    }

    fn fault(what: &'static str, fault: &Fault) -> Self {
        Self::fail(what, format!("{} ({})", fault.detail, fault.code), fault.hint.clone())
    }
}

/// Runs the verb.
///
/// # Errors
/// When any check fails.
pub async fn run(context: &Context, _args: &Args) -> Outcome {
    let lines = match context.configured() {
        Err(failure) => vec![Line::fault("settings", &failure.fault)],
        Ok(configured) => look(context, &configured).await,
    };
    let failed = lines.iter().filter(|line| line.health == Health::Fail).count();
    answer(context.json(), &json!({ "healthy": failed == 0, "checks": lines }), || in_words(&lines));
    match failed {
        0 => Ok(()),
        1 => Err(Failure::check(UNHEALTHY.because("one check failed")).told()),
        _ => Err(Failure::check(UNHEALTHY.because(format!("{failed} checks failed"))).told()),
    }
}

fn in_words(lines: &[Line]) -> String {
    let mut text = Vec::new();
    for line in lines {
        let health = match line.health {
            Health::Ok => "ok  ",
            Health::Warn => "warn",
            Health::Fail => "fail",
        };
        text.push(format!("{health}  {:<16}{}", line.what, line.found));
        if !line.hint.is_empty() {
            text.push(format!("{:22}→ {}", "", line.hint));
        }
    }
    text.join("\n")
}

async fn look(context: &Context, configured: &Configured) -> Vec<Line> {
    let settings = configured.settings();
    let mut lines = vec![settings_line(configured)];
    lines.extend(configured.profiles.iter().map(|profile| match profile.check(&BuiltIn) {
        Ok(()) => Line::ok("profile", format!("{} ({})", profile.slug, profile.origin())),
        Err(error) => Line::fault("profile", &error.fault()),
    }));
    lines.push(data_dir(&settings.data_dir));
    lines.extend(disk(&settings.data_dir));
    lines.push(database(&settings.data_dir));
    lines.push(onnx(context, settings));
    lines.extend(chain(context, settings).await);
    lines
}

fn settings_line(configured: &Configured) -> Line {
    let words = configured.file.as_ref().map_or_else(
        || "no settings file: defaults, environment and flags".to_owned(),
        |path| path.display().to_string(),
    );
    Line::ok("settings", words)
}

/// The nearest folder that is there: what would be made lies on its disk.
fn nearest(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|folder| !folder.as_os_str().is_empty() && folder.exists());
    found.unwrap_or(Path::new(".")).to_owned()
}

fn data_dir(dir: &Path) -> Line {
    let what = "data directory";
    let folder = nearest(dir);
    match probe(&folder) {
        Err(source) => Line::fail(
            what,
            format!("cannot write in `{}`: {source}", folder.display()),
            "give the user that runs this program the folder, or set `data_dir`",
        ),
        Ok(()) if folder == dir => Line::ok(what, dir.display().to_string()),
        Ok(()) => Line::ok(what, format!("`{}` will be made at the first start", dir.display())),
    }
}

/// Writes a file there and takes it away again.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".waag-doctor-{}", std::process::id()));
    fs::File::create_new(&path)?;
    fs::remove_file(&path)
}

fn disk(dir: &Path) -> Option<Line> {
    let what = "disk";
    let folder = nearest(dir);
    let space = rustix::fs::statvfs(&folder).ok()?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    let found = format!("{} MiB free at `{}`", free_bytes / (1024 * 1024), folder.display());
    Some(match free_bytes {
        0..SPACE_FAIL_BYTES => Line::fail(what, found, "free some space: nothing can be recorded on a full disk"),
        SPACE_FAIL_BYTES..SPACE_WARN_BYTES => {
            Line::warn(what, found, "artifacts and evidence are kept for good; give them more room")
        }
        _ => Line::ok(what, found),
    })
}

/// The truth: whether SQLite finds it sound, and whether the event log hashes to what it says.
fn database(dir: &Path) -> Line {
    let what = "database";
    match store::inspect(dir) {
        Ok(None) => Line::ok(what, "will be made at the first start"),
        Ok(Some(Inspection { is_older, events })) => {
            let head = events.head.short();
            let found = format!("sound; {} events, chained up to {head}", events.events);
            if is_older {
                Line::warn(what, found, "its tables are older than this program; the next start brings them up to date")
            } else {
                Line::ok(what, found)
            }
        }
        Err(error) => Line::fault(what, &error.fault()),
    }
}

fn onnx(context: &Context, settings: &Settings) -> Line {
    let what = "onnx backend";
    let library = settings.onnx.library.clone();
    let choice = library.map_or(BackendChoice::Embedded, BackendChoice::Onnxruntime);
    let start_ms = context.clock.now_ms();
    let watch = |_steps: u64| {
        if context.clock.now_ms() - start_ms > BACKEND_MS { Verdict::OutOfTime } else { Verdict::Go }
    };
    let described = context.host().map_err(|failure| failure.fault).and_then(|host| host.describe(&choice, &watch));
    match (described, choice) {
        (Ok(runtime), BackendChoice::Onnxruntime(path)) => {
            Line::ok(what, format!("{} {} from `{}`", runtime.name, runtime.version, path.display()))
        }
        (Ok(runtime), BackendChoice::Embedded) => {
            Line::ok(what, format!("{} {}; plain networks need none", runtime.name, runtime.version))
        }
        (Err(fault), _) => Line::fault(what, &fault),
    }
}

async fn chain(context: &Context, settings: &Settings) -> Vec<Line> {
    let what = "chain";
    let endpoints = settings.endpoints().join(", ");
    let is_devnet = settings.network.name == "devnet";
    let without = |line| vec![line, clock_alone(context), wallet_file(context, settings).0];
    let client = match context.chain(settings).await {
        Ok(client) => client,
        Err(_failure) if is_devnet => {
            let hint = "it is there while `waag up --dev` or `waag devnet` runs; for a real chain set `network.name`";
            return without(Line::warn(what, format!("no devnet at {endpoints}"), hint));
        }
        Err(failure) => return without(Line::fault(what, &failure.fault)),
    };
    let head = match client.finalized_head().await {
        Ok(head) => head,
        Err(error) => return without(Line::fault(what, &error.fault())),
    };
    let genesis = hex::encode(client.genesis_hash());
    let mut lines = vec![Line::ok(what, format!("{endpoints}, block {}, genesis {}…", head.number, &genesis[..12]))];
    lines.extend(each_endpoint(context, settings, &client, &head).await);
    lines.push(clock(context, &client, &head, is_devnet).await);
    lines.extend(subnet(context, settings, &client, &head).await);
    lines
}

/// Each endpoint alone, where there are several: one that is down, far behind or of another chain is found before it is
/// needed.
async fn each_endpoint(context: &Context, settings: &Settings, client: &Client, newest: &BlockRef) -> Vec<Line> {
    let (nodes, archives) = (settings.endpoints(), settings.archive_endpoints());
    let mut lines = Vec::new();
    let several = nodes.iter().filter(|_| nodes.len() > 1).map(|url| ("endpoint", url));
    for (what, url) in several.chain(archives.iter().map(|url| ("archive", url))) {
        let options = Options {
            request_timeout_ms: settings.network.request_timeout_ms,
            genesis: Some(client.genesis_hash()),
            clock: Arc::clone(&context.clock),
            ..Options::new(vec![url.clone()])
        };
        let head = async { Client::connect(options).await?.finalized_head().await };
        lines.push(match head.await {
            Ok(head) if head.number + BLOCKS_BEHIND_WARN < newest.number => {
                let found = format!("{url}, block {}, {} behind", head.number, newest.number - head.number);
                Line::warn(what, found, "it may still be synchronising; it is used only when the others fail")
            }
            Ok(head) => Line::ok(what, format!("{url}, block {}", head.number)),
            Err(error) => {
                let fault = error.fault();
                Line::warn(what, format!("{} ({})", fault.detail, fault.code), fault.hint)
            }
        });
    }
    lines
}

/// Our clock against the chain's. A devnet counts a time of its own.
async fn clock(context: &Context, client: &Client, head: &BlockRef, is_devnet: bool) -> Line {
    let what = "clock";
    match client.time_ms(head.hash).await {
        Err(error) => Line::fault(what, &error.fault()),
        Ok(chain_ms) => {
            let ours_ms = u64::try_from(context.clock.now_ms()).unwrap_or_default();
            let apart_ms = ours_ms.abs_diff(chain_ms);
            let found = format!("{:.1} s from the time of the newest final block", apart_ms as f64 / 1000.0);
            if is_devnet {
                Line::ok(what, format!("{found}; a devnet counts a time of its own"))
            } else if apart_ms > CLOCK_WARN_MS {
                Line::warn(
                    what,
                    found,
                    "set this machine's clock, by which miners' signatures are judged; or use a node that is up to date",
                )
            } else {
                Line::ok(what, found)
            }
        }
    }
}

/// Our clock, with nothing to compare it with.
fn clock_alone(context: &Context) -> Line {
    let seconds = context.clock.now_ms() / 1000;
    Line::ok("clock", format!("{seconds} s since 1970 by this machine; without a chain there is nothing to compare"))
}

/// The hotkey's file, and its account when it can be read.
fn wallet_file(context: &Context, settings: &Settings) -> (Line, Option<crate::chain::Account>) {
    let what = "wallet";
    let wallet = match context.wallet(settings) {
        Ok(wallet) => wallet,
        Err(failure) => return (Line::fault(what, &failure.fault), None),
    };
    match wallet.validator() {
        Ok(key) => {
            let account = key.account();
            (Line::ok(what, format!("hotkey {account} in `{}`", wallet.hotkey_path().display())), Some(account))
        }
        Err(error) => {
            let fault = error.fault();
            (Line::warn(what, format!("{} ({})", fault.detail, fault.code), fault.hint), None)
        }
    }
}

async fn subnet(context: &Context, settings: &Settings, client: &Client, head: &BlockRef) -> Vec<Line> {
    let what = "subnet";
    let netuid = settings.network.netuid;
    let (rules, metagraph) =
        match (client.weight_rules(netuid, head.hash).await, client.metagraph(netuid, head.hash).await) {
            (Ok(rules), Ok(metagraph)) => (rules, metagraph),
            (Err(error), _) | (_, Err(error)) => {
                return vec![Line::fault(what, &error.fault()), wallet_file(context, settings).0];
            }
        };
    let hidden = if rules.commit_reveal { ", weights are hidden until their reveal" } else { "" };
    let found = format!("{netuid} with {} neurons, tempo {}{hidden}", metagraph.neurons.len(), rules.tempo_blocks);
    let mut lines = vec![Line::ok(what, found)];
    if settings.weights.mechanism >= rules.mechanisms {
        let found = format!("`weights.mechanism` is {} of {}", settings.weights.mechanism, rules.mechanisms);
        lines.push(Line::fail("mechanism", found, "they are counted from 0; correct the setting"));
    }
    let (line, account) = wallet_file(context, settings);
    lines.push(line);
    if let Some(account) = account {
        lines.push(match metagraph.neuron(&account) {
            Some(neuron) if neuron.permit => Line::ok("validator", format!("uid {} with a permit", neuron.uid)),
            Some(neuron) => Line::warn(
                "validator",
                format!("uid {} without a permit", neuron.uid),
                "a miner needs none; to set weights the hotkey needs stake and a permit",
            ),
            None => Line::warn(
                "validator",
                format!("{account} is not registered in subnet {netuid}"),
                "`waag register` does it",
            ),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_looked_for_above() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&dir.path().join("a/b")), dir.path());
        assert_eq!(nearest(Path::new("no-such-folder-here/b")), Path::new("."));
        assert_eq!(data_dir(dir.path()).health, Health::Ok);
        assert!(data_dir(&dir.path().join("a")).found.contains("will be made"));
        assert_eq!(database(dir.path()).health, Health::Ok);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_fails() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(data_dir(&file.join("data")).health, Health::Fail);
        fs::create_dir(dir.path().join("db")).unwrap();
        fs::write(dir.path().join("db/waag.sqlite"), "no database").unwrap();
        let line = database(dir.path());
        assert_eq!((line.health, line.found.contains("db_damaged")), (Health::Fail, true), "{}", line.found);
    }
}

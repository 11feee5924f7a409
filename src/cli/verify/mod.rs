//! `waag verify`: a ranking and its weights recomputed by a stranger, from the evidence alone; on request the episodes
//! played again and the facts asked of a chain.

mod artifacts;
mod chain;
mod replay;

use std::{fs, path::Path};

use serde_json::json;

pub use artifacts::ARTIFACTS_UNREADABLE;

use super::{Context, Failure, Outcome, exit::answer};
use crate::{
    ids::Digest,
    server::client::Client,
    weights::bundle::{BUNDLE_BYTES, Bundle, Check, Finding, verify},
};

/// Arguments of `waag verify`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag verify evidence.json                        hashes, commitments, ranking, weights: offline
  waag verify evidence.json --replay --artifacts waag-data      the episodes too
  waag verify evidence.json --chain ws://127.0.0.1:9944         what a node knows too
  waag verify DIGEST --api https://subnet.example               a bundle of an appliance

The answer lists what was checked and what was not. Exit code 1 if anything is not as recorded.")]
pub struct Args {
    /// The bundle: a file, or its digest to fetch it from the appliance
    bundle: String,
    /// Play the recorded episodes again
    #[arg(long, requires = "artifacts")]
    replay: bool,
    /// Where the artifacts are: a folder (they are found by their digest), or an address under which DIGEST answers
    #[arg(long, value_name = "DIR|URL")]
    artifacts: Option<String>,
    /// Ask this node for commitments, block hashes, registrations and weights
    #[arg(long, value_name = "URL")]
    chain: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When the bundle cannot be read, or anything in it is not as recorded.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let bytes = read(context, &args.bundle).await?;
    let bundle = Bundle::parse(&bytes).map_err(|error| Failure::named_file(error.fault()))?;
    let report = verify(&bundle);
    let mut checks = report.checks.clone();
    checks.extend(match &args.artifacts {
        Some(artifacts) if args.replay => replay::run(context, &bundle, &report.replays, artifacts).await?,
        _ => left_open("episodes", report.replays.len(), "`--replay --artifacts DIR` plays them again"),
    });
    checks.extend(match &args.chain {
        Some(url) => chain::run(context, &bundle, &report.chain_facts, url).await?,
        None => left_open("chain", report.chain_facts.len(), "`--chain URL` asks for them"),
    });
    let count = |finding| checks.iter().filter(|check| check.finding == finding).count();
    let (passed, failed, open) = (count(Finding::Passed), count(Finding::Failed), count(Finding::NotChecked));
    let document = json!({
        "bundle": Digest::of(&bytes),
        "verified": failed == 0,
        "passed": passed,
        "failed": failed,
        "not_checked": open,
        "checks": checks,
    });
    answer(context.json(), &document, || {
        format!("{}\n{passed} passed, {failed} failed, {open} not checked", in_words(&checks))
    });
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::mismatch(format!("{failed} of {} checks found a difference", checks.len())).told())
}

/// The bundle's bytes: a file, or what the appliance has under that digest.
async fn read(context: &Context, named: &str) -> Result<Vec<u8>, Failure> {
    let path = Path::new(named);
    match named.parse::<Digest>() {
        Ok(digest) if !path.exists() => {
            let configured = context.configured()?;
            let api = Client::new(&context.api(configured.settings())).map_err(|error| error.fault())?;
            Ok(api.evidence(&digest).await.map_err(|error| error.fault())?.to_vec())
        }
        _ => {
            let about = Failure::unless_there(path)?;
            if about.len() > BUNDLE_BYTES {
                return Err(Failure::usage(format!("`{named}` has {} bytes, more than {BUNDLE_BYTES}", about.len())));
            }
            fs::read(path).map_err(|source| Failure::file("read", path, &source))
        }
    }
}

/// One line for what nobody asked to check.
fn left_open(subject: &str, count: usize, how: &str) -> Vec<Check> {
    if count == 0 {
        return Vec::new();
    }
    vec![check(subject, Finding::NotChecked, format!("{count} items; {how}"))]
}

fn check(subject: impl Into<String>, finding: Finding, detail: impl Into<String>) -> Check {
    Check { subject: subject.into(), finding, detail: detail.into() }
}

fn in_words(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let mark = match check.finding {
            Finding::Passed => "ok  ",
            Finding::Failed => "FAIL",
            Finding::NotChecked => "open",
        };
        format!("{mark}  {}: {}", check.subject, check.detail)
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}

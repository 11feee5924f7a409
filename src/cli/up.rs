//! `waag up`: serve a subnet.

use std::path::PathBuf;

use serde_json::json;

use super::{
    Context, Failure, Outcome, UpArgs,
    appliance::{Appliance, Start},
    devnet::stop_signal,
    exit::{note, print_json},
};
use crate::{config::Given, pipeline::points::Point};

/// Runs the verb until it is told to stop.
///
/// # Errors
/// When the appliance cannot start, or stops by itself.
pub async fn run(context: &Context, args: &UpArgs) -> Outcome {
    let listen = args.listen.map(|listen| Given::new("--listen", "server.listen", &listen.to_string()));
    let configured = context.configured_with(&listen.into_iter().collect::<Vec<_>>())?;
    let stop = stop_signal()?;
    let start = Start { dev: args.dev, stop_at: args.stop_at.as_deref().map(stop_at).transpose()? };
    let appliance = Appliance::start(context, &configured, start).await?;
    let settings = configured.settings();
    let document = json!({
        "api": appliance.server.url(), "chain": appliance.chain_url, "netuid": settings.network.netuid,
        "data_dir": settings.data_dir, "validator": appliance.validator,
    });
    if context.json() {
        print_json(&document);
    } else {
        note(format_args!("api    {}", appliance.server.url()));
        note(format_args!("chain  {} (subnet {})", appliance.chain_url, settings.network.netuid));
        note(format_args!("data   {}", settings.data_dir.display()));
        if args.dev {
            note("       this chain is your own, not Bittensor; its validator is a key of the data directory");
        }
        note("stop it with Ctrl-C");
    }
    appliance.run_until(stop).await
}

/// `POINT:PASSES:MARKER` of a crash test.
fn stop_at(text: &str) -> Result<(Point, u32, PathBuf), Failure> {
    let mut parts = text.splitn(3, ':');
    let parsed = (|| {
        let point = Point::parse(parts.next()?)?;
        let passes = parts.next()?.parse().ok()?;
        Some((point, passes, PathBuf::from(parts.next()?)))
    })();
    parsed.ok_or_else(|| Failure::usage(format!("`{text}` is not POINT:PASSES:MARKER")))
}

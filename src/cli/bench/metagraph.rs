//! `waag bench metagraph`: how long it takes to connect to a chain and to read a subnet's metagraph from it.

use serde_json::json;

use super::{Context, Outcome, resident_kib, stopwatch};
use crate::cli::exit::{answer, table};

/// Arguments of `waag bench metagraph`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench metagraph --subtensor.network finney --netuid 1
  waag bench metagraph --subtensor.network ws://127.0.0.1:9944 --json")]
pub struct Args {
    /// How often to read it; the fastest counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
}

/// Runs the verb.
///
/// # Errors
/// When the chain cannot be read.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let settings = configured.settings();
    let now_ns = stopwatch();
    let client = context.chain(settings).await?;
    let connected_ns = now_ns();
    let neurons = client.newest_metagraph(settings.network.netuid).await?.neurons.len();
    let first_ns = now_ns();
    let mut fastest_ns = u64::MAX;
    for _ in 0..args.repeats {
        let begun_ns = now_ns();
        client.newest_metagraph(settings.network.netuid).await?;
        fastest_ns = fastest_ns.min(now_ns() - begun_ns);
    }
    let peak_kib = resident_kib("self", "VmHWM");
    let document = json!({
        "neurons": neurons, "connect_ns": connected_ns, "first_ns": first_ns - connected_ns, "again_ns": fastest_ns,
        "peak_kib": peak_kib,
    });
    answer(context.json(), &document, || {
        let row = |what: &str, ns: u64| vec![what.to_owned(), format!("{:.1} ms", to_ms(ns))];
        let mut rows = vec![
            row("connect", connected_ns),
            row("first read", first_ns - connected_ns),
            row("each further read of the newest block", fastest_ns),
        ];
        rows.push(vec!["neurons".to_owned(), neurons.to_string()]);
        rows.push(vec!["peak KiB".to_owned(), peak_kib.map_or_else(|| "unknown".to_owned(), |kib| kib.to_string())]);
        table(&["what", "measured"], &rows)
    });
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
fn to_ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

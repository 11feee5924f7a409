//! `waag status`: the appliance on one screen, and the submissions of one's own hotkey there.

use serde_json::json;

use super::{
    Context, Outcome,
    exit::{answer, table},
    words::bytes_of,
};
use crate::{
    fault::Fault,
    ids::Hotkey,
    pipeline::DroppedWeights,
    server::{
        client::Client,
        views::{Filter, Status, Submission, WeightsRefused},
    },
};

/// Arguments of `waag status`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag status
  waag status --api https://subnet.example --wallet.hotkey h1
  waag status --of 5F…                      the submissions of somebody else
  waag status --all --json")]
pub struct Args {
    /// Show the submissions of this hotkey [default: the one of the wallet]
    #[arg(long, value_name = "SS58", conflicts_with = "all")]
    of: Option<Hotkey>,
    /// Show everybody's submissions
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the appliance does not answer.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let settings = configured.settings();
    let api = Client::new(&context.api(settings)).map_err(|error| error.fault())?;
    let status = api.status().await.map_err(|error| error.fault())?;
    // Whoever has no wallet here looks at the appliance alone.
    let own = || context.wallet(settings).ok()?.hotkey_account();
    let hotkey = if args.all { None } else { args.of.or_else(own) };
    let submissions = if args.all || hotkey.is_some() {
        let filter = Filter { hotkey, ..Filter::default() };
        api.all_submissions(&filter).await.map_err(|error| error.fault())?
    } else {
        Vec::new()
    };
    let document = json!({ "status": status, "hotkey": hotkey, "submissions": submissions });
    answer(context.json(), &document, || {
        let mut text = in_words(&status);
        if args.all || hotkey.is_some() {
            text.push_str("\n\n");
            text.push_str(&submissions_in_words(&submissions, hotkey));
        }
        text
    });
    Ok(())
}

fn in_words(status: &Status) -> String {
    let mut lines = vec![format!("waag {}", status.version)];
    match &status.subnet {
        None => lines.push("the chain has not been read yet".to_owned()),
        Some(subnet) => {
            let epoch = subnet.blocks_to_epoch.map_or_else(String::new, |blocks| format!(", epoch in {blocks} blocks"));
            let (netuid, head, finalized) = (subnet.netuid, subnet.head, subnet.finalized);
            lines.push(format!(
                "subnet {netuid}: block {head}, final {finalized}{epoch}, {} registered{}",
                subnet.registered,
                if subnet.stored { " (as last known, not confirmed by the chain yet)" } else { "" }
            ));
        }
    }
    if let Some(trouble) = &status.chain_trouble {
        let Fault { code, detail, hint, .. } = &trouble.fault;
        lines.push(format!("chain: {code}: {detail}; {hint}"));
    }
    let slots = &status.slots;
    lines.push(format!("slots: {} of {} CPUs free", slots.cpus_free, slots.cpus));
    if slots.disk_bytes_free < slots.disk_bytes {
        let (free, all) = (bytes_of(slots.disk_bytes_free), bytes_of(slots.disk_bytes));
        lines.push(format!("models: {free} of {all} of the disk free"));
    }
    if slots.disk_waiting_models > 0 {
        let (models, bytes) = (slots.disk_waiting_models, bytes_of(slots.disk_waiting_bytes));
        let noun = if models == 1 { "model waits" } else { "models wait" };
        lines.push(format!("{models} {noun} for {bytes} of the disk; `waag collect` says what is kept and why"));
    }
    for challenge in &status.challenges {
        let counts: Vec<String> =
            challenge.submissions.iter().map(|at| format!("{} {} at {}", at.count, at.status, at.stage)).collect();
        let ranking = challenge.ranking.as_ref().map_or_else(
            || "not ranked yet".to_owned(),
            |ranking| format!("ranking {} of block {}", ranking.version, ranking.block),
        );
        let counts = if counts.is_empty() { "nothing yet".to_owned() } else { counts.join(", ") };
        lines.push(format!("challenge {}: {counts}; {ranking}", challenge.slug));
    }
    for run in &status.runs {
        let (done, total) = (run.jobs_done, run.jobs_total);
        lines.push(format!(
            "run {} of {}: {}, {} contestants, {done} of {total} jobs at {}",
            run.number, run.challenge, run.state, run.contestants, run.stage_name
        ));
    }
    for dropped in &status.weights_dropped {
        let DroppedWeights { mechanism, block, detail, times, .. } = dropped;
        lines.push(format!(
            "weights of mechanism {mechanism} came to nothing, {times} times since the last that were confirmed, the last \
             decided at block {block}: {detail}"
        ));
    }
    if let Some(refused) = &status.weights_refused {
        let WeightsRefused { fault, times, .. } = refused;
        lines.push(format!("weights cannot be set, {times} times: {}: {}; {}", fault.code, fault.detail, fault.hint));
    }
    if let Some(vector) = &status.vector {
        let detail = vector.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
        lines.push(format!("weights of block {}: {}{detail}", vector.block, vector.state));
    }
    if status.gap_blocks > 0 {
        let gaps: Vec<String> = status.gaps.iter().map(|gap| format!("{}–{}", gap.from, gap.to)).collect();
        lines.push(format!("{} blocks of the chain could not be read: {}", status.gap_blocks, gaps.join(", ")));
    }
    lines.push(format!("{} refusals, {} events", status.refusals, status.last_event));
    lines.join("\n")
}

fn submissions_in_words(submissions: &[Submission], of: Option<Hotkey>) -> String {
    if submissions.is_empty() {
        return of.map_or_else(|| "no submissions".to_owned(), |hotkey| format!("no submissions of {hotkey}"));
    }
    let rows: Vec<Vec<String>> = submissions
        .iter()
        .map(|one| {
            vec![
                one.id.to_string(),
                one.challenge.clone(),
                one.hotkey.short(),
                one.uid.map_or_else(|| "–".to_owned(), |uid| uid.to_string()),
                one.committed.block.to_string(),
                one.stage_name.clone(),
                one.status.to_string(),
                one.fault.as_ref().map_or_else(String::new, |fault| fault.code.clone()),
            ]
        })
        .collect();
    table(&["id", "challenge", "hotkey", "uid", "committed", "stage", "status", "why"], &rows)
}

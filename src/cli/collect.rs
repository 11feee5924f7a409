//! `waag collect`: which models are kept on this machine, which are not, and why.

use std::{collections::BTreeSet, path::Path};

use serde_json::json;

use super::{
    Configured, Context, Failure, Outcome, appliance,
    exit::{answer, table},
    weights::history::DATABASE_OLDER,
    words::{bytes_of, time_of},
};
use crate::{
    artifact::model::{
        Disk, ModelCache,
        cache::{self, FOLDER},
    },
    fault::{Class, Code},
    pipeline::{
        self,
        collection::{self, Decided, Facts, Keep},
    },
    store::{self, Store},
};

/// The appliance deletes, and nobody else beside it.
pub const APPLIANCE_RUNS: Code = Code::new(
    Class::Operator,
    "collector_is_running",
    "an appliance uses this data directory and deletes models by itself",
    "nothing to do: it looks hourly, and at once when a model needs room; to delete now, stop it first",
);

/// The codes of this room.
pub const CODES: &[Code] = &[APPLIANCE_RUNS];

/// Arguments of `waag collect`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag collect                      what is kept and what would be deleted, beside a running appliance too
  waag collect --json
  waag collect --execute            delete it; the appliance must be stopped

A running appliance does the same by itself, hourly and whenever a model needs room. What is in use is never deleted; \
only the appliance itself knows what that is.")]
pub struct Args {
    /// Delete what is not kept
    #[arg(long)]
    execute: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the data directory cannot be read, or an appliance uses it while something is to be deleted.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let dir = &configured.settings().data_dir;
    let keep = appliance::keep(&configured);
    let decided = if args.execute && dir.join(FOLDER).is_dir() {
        execute(context, &configured, &keep).await?
    } else {
        look(dir, &keep, context.clock.now_ms())?
    };
    let (kept_bytes, deleted_bytes) = decided.iter().fold((0_u64, 0_u64), |(kept, deleted), one| {
        let bytes = one.entry.disk_bytes;
        if one.delete { (kept, deleted.saturating_add(bytes)) } else { (kept.saturating_add(bytes), deleted) }
    });
    let document = json!({
        "data_dir": dir, "executed": args.execute, "models": decided, "kept_bytes": kept_bytes,
        "deleted_bytes": deleted_bytes,
    });
    answer(context.json(), &document, || in_words(&decided, args.execute, kept_bytes, deleted_bytes));
    Ok(())
}

/// What would become of each model.
fn look(dir: &Path, keep: &Keep, now_ms: i64) -> Result<Vec<Decided>, Failure> {
    let entries = cache::scan(&dir.join(FOLDER)).map_err(|error| error.fault())?;
    let keys: BTreeSet<_> = entries.iter().map(|entry| entry.key).collect();
    let facts =
        store::glance(
            dir,
            |conn, is_older| {
                if is_older { Ok::<_, pipeline::Error>(None) } else { Facts::read(conn, &keys).map(Some) }
            },
        )?;
    let facts = match facts {
        None => Facts::default(),
        Some(Some(facts)) => facts,
        Some(None) => return Err(DATABASE_OLDER.because(dir.display().to_string()).into()),
    };
    Ok(Decided::all(entries, &facts, keep, now_ms))
}

/// Deletes, as the owner of the data directory.
async fn execute(context: &Context, configured: &Configured, keep: &Keep) -> Result<Vec<Decided>, Failure> {
    let settings = configured.settings();
    let kept = store::Options::from_settings(&settings.store).map_err(super::context::refused)?;
    let store = match Store::open(&settings.data_dir, kept).await {
        Err(error @ store::Error::Locked { .. }) => return Err(APPLIANCE_RUNS.because(error.to_string()).into()),
        opened => opened?,
    };
    // Nothing is fetched here, so nothing is granted.
    let models = ModelCache::open(&settings.data_dir, std::sync::Arc::clone(&context.clock), Disk::new(0));
    let models = models.map_err(|error| error.fault())?;
    let decided = collection::collect(&models, &store, keep, context.clock.now_ms()).await;
    decided.map_err(|error| error.fault().into())
}

fn in_words(decided: &[Decided], is_executed: bool, kept_bytes: u64, deleted_bytes: u64) -> String {
    if decided.is_empty() {
        return "no models are kept on this machine".to_owned();
    }
    let rows: Vec<Vec<String>> = decided
        .iter()
        .map(|one| {
            let deletes = if is_executed { "deleted" } else { "delete" };
            vec![
                one.entry.key.short(),
                one.entry.repo.clone().unwrap_or_else(|| "–".to_owned()),
                bytes_of(one.entry.disk_bytes),
                time_of(one.entry.used_ms),
                if one.delete { deletes } else { "keep" }.to_owned(),
                one.reason.says().to_owned(),
            ]
        })
        .collect();
    let (kept, deleted) = (bytes_of(kept_bytes), bytes_of(deleted_bytes));
    let end = match (deleted_bytes, is_executed) {
        (0, _) => format!("{kept} are kept"),
        (_, true) => format!("{deleted} were deleted, {kept} are kept"),
        (_, false) => format!("{deleted} would be deleted, {kept} are kept; `--execute` deletes"),
    };
    format!("{}\n{end}", table(&["model", "repository", "on disk", "last used", "what", "why"], &rows))
}

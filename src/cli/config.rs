//! `waag config`: the settings as they are in the end, and where each came from.

use clap::Subcommand;
use serde_json::{Map, Value as Json, json};

use super::{
    Context, Outcome,
    exit::{answer, table},
};
use crate::config::{Shown, Value};

/// Arguments of `waag config`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag config show
  waag config show network             one section
  BT_NETUID=7 waag config show network.netuid

Later layers win: defaults, profiles, waag.toml, BT_* variables, WAAG__SECTION__KEY variables, flags.")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Clone, Subcommand)]
enum Act {
    /// Show every setting, its value and its origin
    #[command(after_help = "\
Examples:
  waag config show
  waag config show server --json")]
    Show {
        /// Only settings that begin with this
        section: Option<String>,
    },
}

/// Runs the verb.
///
/// # Errors
/// The first mistake of any layer, or a section that does not exist.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let Act::Show { section } = &args.act;
    let configured = context.configured()?;
    let shown: Vec<&Shown> = configured.loaded.values.iter().filter(|shown| is_in(section.as_deref(), shown)).collect();
    if let Some(section) = section.as_deref().filter(|_| shown.is_empty()) {
        return Err(super::Failure::usage(format!("no setting begins with `{section}`")));
    }
    let document: Map<String, Json> = shown
        .iter()
        .map(|shown| (shown.key.clone(), json!({ "value": json_of(&shown.value), "origin": shown.origin })))
        .collect();
    answer(context.json(), &document, || {
        let rows: Vec<Vec<String>> =
            shown.iter().map(|shown| vec![shown.key.clone(), shown.value.to_string(), shown.origin.clone()]).collect();
        table(&["setting", "value", "origin"], &rows)
    });
    Ok(())
}

fn is_in(section: Option<&str>, shown: &Shown) -> bool {
    section.is_none_or(|section| {
        shown.key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Whole(number) => json!(number),
        Value::List(items) => json!(items),
    }
}

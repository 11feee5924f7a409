//! Where log lines go: stderr, filtered by `--log`, `RUST_LOG` or the settings.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use super::{Context, Verb};
use crate::config::settings::LogFormat;

/// What a verb that ends by itself logs: only what its user should know. That a node is asked again is not: the verb
/// says what came of it.
const QUIET: &str = "warn,waag::chain::rpc=error";

/// Begins to log. A filter that cannot be read is said and replaced, because a typing mistake must not keep anything
/// from starting.
pub fn start(context: &Context, verb: &Verb) {
    // Only what serves for long follows the settings; a mistake in them is told by the verb itself.
    let serves = matches!(verb, Verb::Up(_) | Verb::Devnet(_));
    let settings = serves.then(|| context.configured().ok()).flatten().map(|it| it.settings().log.clone());
    let said = context.globals.log.clone().or_else(|| context.env.get("RUST_LOG").cloned());
    let level = said.or_else(|| settings.as_ref().map(|log| log.level.clone())).unwrap_or_else(|| QUIET.to_owned());
    let filter = EnvFilter::try_new(&level).unwrap_or_else(|source| {
        super::exit::note(format_args!("warning: the log filter `{level}` is not one ({source}); using `{QUIET}`"));
        EnvFilter::new(QUIET)
    });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if settings.is_some_and(|log| log.format == LogFormat::Json) {
        lines.json().init();
    } else {
        lines.with_ansi(io::stderr().is_terminal()).init();
    }
}

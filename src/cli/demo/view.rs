//! The live view: how far every stage is, the block, and the blocks until the epoch ends.

use std::{convert::Infallible, fmt::Write as _, io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    cli::exit::note,
    clock::Clock,
    server::{Client, views::Status},
};

/// How often the view looks.
const LOOK: Duration = Duration::from_millis(150);

/// A line that changes while things happen, and lines that stay.
pub struct View {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl View {
    /// A view on stderr. A JSON document wants none; without a terminal only the lines that stay are printed.
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_source| ProgressStyle::default_spinner()))
        });
        Self { bar, quiet }
    }

    /// Prints a line that stays.
    pub fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("• {line}")),
            None if self.quiet => {}
            None => note(format_args!("• {line}")),
        }
    }

    /// Shows the status until it is dropped.
    pub async fn watch(&self, api: &Client, clock: &dyn Clock) -> Infallible {
        loop {
            if let (Some(bar), Ok(status)) = (&self.bar, api.status().await) {
                bar.set_message(line(&status));
                bar.tick();
            }
            clock.sleep(LOOK).await;
        }
    }

    /// Takes the changing line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line: the chain, who stands where, the open runs.
fn line(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(subnet) = &status.subnet {
        let _ = write!(text, "block {}", subnet.finalized);
        if let Some(left) = subnet.blocks_to_epoch {
            let _ = write!(text, " (epoch in {left})");
        }
    }
    for challenge in &status.challenges {
        for count in &challenge.submissions {
            let _ = write!(text, " · {} {} {}", count.stage, count.status, count.count);
        }
    }
    for run in &status.runs {
        let _ = write!(text, " · run {} {} {}/{}", run.number, run.state, run.jobs_done, run.jobs_total);
    }
    text
}

//! Progress on stderr: a bar on a terminal, a line a step elsewhere, nothing when the answer is a JSON document.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{exit::note, miner::Step};

/// Tells the steps of a miner's act.
#[must_use]
pub fn teller(json: bool) -> Box<dyn Fn(&Step) + Send + Sync> {
    if json {
        return Box::new(|_step| {});
    }
    let bar = upload_bar();
    Box::new(move |step| match step {
        Step::Uploading { sent_bytes, total_bytes } => {
            bar.set_length(*total_bytes);
            bar.set_position(*sent_bytes);
        }
        other => {
            if !bar.is_finished() && bar.position() > 0 {
                bar.finish_and_clear();
            }
            note(words(other));
        }
    })
}

fn upload_bar() -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("uploading {bar:40} {bytes}/{total_bytes}");
    ProgressBar::with_draw_target(Some(0), target)
        .with_style(style.unwrap_or_else(|_source| ProgressStyle::default_bar()))
}

fn words(step: &Step) -> String {
    match step {
        Step::Checked => "the artifact passes the checks".to_owned(),
        Step::Sealed => "the salt is on disk".to_owned(),
        Step::Sent { extrinsic } => format!("sent extrinsic {}; waiting for finality", extrinsic.short()),
        Step::Final { block } => format!("final in block {block}"),
        Step::Already { what } => format!("nothing to send: {what}"),
        Step::Uploading { sent_bytes, total_bytes } => format!("uploaded {sent_bytes} of {total_bytes} bytes"),
        Step::Waiting { code, after_ms } => format!("the appliance is not ready ({code}); again in {after_ms} ms"),
        Step::Accepted { submission } => format!("taken in as {submission}"),
    }
}

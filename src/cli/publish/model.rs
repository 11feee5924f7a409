//! `waag publish` for models: checked here, pushed to the registry, checked there, and committed to.
//!
//! Owns the order of the steps and what is said of each. Refuses to know any one of them: the checks are those of
//! `waag check`, the commitment is that of `waag commit`. Each step looks first whether it was done before, so that the
//! same line goes on where it was interrupted.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Args;
use crate::{
    artifact::{
        fetch::{Credentials, Moved, Pushed, Pushing, push},
        model::{Folder, Options, Place, Reference, Repo as _, Step as Check, Trouble, codes},
    },
    chain::Slug,
    cli::{
        Context, Failure, Outcome, appliance,
        check::model::{Looked, Reach, What, credentials, http, line, look},
        commit::{challenge, digest_part, foreign},
        exit::{answer, note, print_json, table},
        miner::{self, Committed, Foreign},
    },
    config::{Profile, Settings, profile::Pattern},
    fault::Fault,
};

/// The steps, in their order. The console shows the same ones.
pub const STEPS: &[&str] = &["validate_local", "upload", "check_remote", "registered", "commit"];
/// A digest for looking at a repository's name before there is one.
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Ended {
    Ok,
    Failed,
    Skipped,
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Done {
    name: &'static str,
    ended: Ended,
    detail: String,
}

/// What was done, and how far it came.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Published {
    /// Whether every step that was asked for is done.
    ok: bool,
    /// Repository and digest, as they are committed.
    reference: Option<String>,
    /// The repository.
    repo: String,
    /// The manifest's digest.
    digest: Option<String>,
    /// The text that is committed.
    payload: Option<String>,
    /// Bytes of all files.
    bytes: u64,
    /// Bytes that the registry did not have.
    sent_bytes: u64,
    /// Every step.
    steps: Vec<Done>,
    /// The commitment.
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<Committed>,
    /// Why it went no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
}

/// What is to be published, and how.
struct Publish<'a> {
    context: &'a Context,
    args: &'a Args,
    settings: &'a Settings,
    profile: &'a Profile,
    options: &'a Options,
    credentials: Option<Credentials>,
    challenge: Slug,
    /// The registry's address.
    base: &'a str,
    folder: &'a Path,
    repo: &'a str,
    /// What has been done; a lock, because the watchers of a step may run beside it.
    published: Mutex<Published>,
}

/// Runs the verb.
///
/// # Errors
/// The first step that fails.
pub async fn run(context: &Context, args: &Args, folder: &Path, repo: &str) -> Outcome {
    let about = Failure::unless_there(folder)?;
    if !about.is_dir() {
        return Err(Failure::usage(format!("`{}` is not a folder", folder.display())));
    }
    let configured = context.configured_with(&args.given())?;
    let settings = configured.settings();
    let challenge = challenge(&configured, args.challenge.as_deref())?;
    let profile = configured.profiles.iter().find(|profile| profile.slug.as_str() == challenge.as_str());
    let profile = profile.ok_or_else(|| Failure::usage(format!("the settings serve no challenge `{challenge}`")))?;
    if profile.artifact.kind != "model" {
        let kind = &profile.artifact.kind;
        return Err(Failure::usage(format!("the challenge `{challenge}` takes artifacts of kind `{kind}`")));
    }
    let options = Options::parse(&profile.artifact.options).map_err(Failure::usage)?;
    let base = match &options.source {
        Place::Registry(base) => base,
        Place::Hub(base) => return Err(codes::REGISTRY_NONE.because(format!("they are on the hub {base}")).into()),
        Place::Plain(base) => return Err(codes::REGISTRY_NONE.because(format!("they are below {base}")).into()),
    };
    if profile.intake.pattern.is_none() && !args.skip_commit {
        let why =
            format!("the challenge `{challenge}` has no `pattern` to commit to a model with; use `--skip-commit`");
        return Err(Failure::usage(why));
    }
    let published = Mutex::new(Published { repo: repo.to_owned(), ..Published::default() });
    let credentials = credentials(context, settings)?;
    let options = &options;
    let what =
        Publish { context, args, settings, profile, options, credentials, challenge, base, folder, repo, published };
    what.run().await
}

impl Publish<'_> {
    async fn run(&self) -> Outcome {
        let ended = self.steps().await;
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let detail = if ended.is_ok() { "not asked for" } else { "not reached" };
        for name in STEPS.iter().skip(published.steps.len()).copied() {
            published.steps.push(Done { name, ended: Ended::Skipped, detail: detail.to_owned() });
        }
        match ended {
            Ok(()) => {
                published.ok = true;
                answer(self.context.json(), &published, || in_words(&published));
                Ok(())
            }
            Err(failure) if self.context.json() => {
                published.error = Some(failure.fault.clone());
                print_json(&published);
                Err(failure.told())
            }
            Err(failure) => {
                note(summary(&published));
                Err(failure)
            }
        }
    }

    async fn steps(&self) -> Outcome {
        self.step(STEPS[0], self.validate()).await?;
        let pushed = self.step(STEPS[1], self.upload()).await?;
        let digest = pushed.reference.revision().to_string();
        let payload = self.profile.intake.pattern.as_ref().map(|pattern| self.payload(pattern, &digest)).transpose();
        self.change(|published| {
            published.reference = Some(pushed.reference.to_string());
            published.digest = Some(digest.clone());
            published.payload = payload.clone().ok().flatten();
        });
        self.step(STEPS[2], self.check_remote(&digest)).await?;
        let (Some(payload), Some(pattern)) = (payload?, &self.profile.intake.pattern) else { return Ok(()) };
        if self.args.skip_commit {
            return Ok(());
        }
        let hotkey = self.context.wallet(self.settings)?.hotkey()?;
        let client = self.context.chain(self.settings).await?;
        let what = Foreign {
            netuid: self.settings.network.netuid,
            challenge: &self.challenge,
            hotkey: &hotkey,
            source: self.profile.intake.source,
            pattern,
            payload: &payload,
            beacon: appliance::beacon_of(self.settings, false),
            reveal_blocks: miner::REVEAL_BLOCKS,
            again: self.args.again,
        };
        let registered = async {
            let head = client.finalized_head().await?;
            what.standing(&client, &head).await?;
            Ok(((), format!("{} in subnet {}", hotkey.account(), what.netuid)))
        };
        self.step(STEPS[3], registered).await?;
        let committed = self.step(STEPS[4], self.commit(&client, &what)).await?;
        self.change(|published| published.committed = Some(committed));
        Ok(())
    }

    /// Tells that a step begins and how it ends.
    async fn step<T>(
        &self,
        name: &'static str,
        act: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        if !self.context.json() {
            note(format_args!("[RUN] {name}"));
        }
        let ended = act.await;
        let (ok, detail) = match &ended {
            Ok((_, detail)) => (true, detail.clone()),
            Err(failure) => (false, failure.fault.detail.clone()),
        };
        self.tell(&Check { name, ok, detail: detail.clone() });
        let ended_as = if ok { Ended::Ok } else { Ended::Failed };
        self.change(|published| published.steps.push(Done { name, ended: ended_as, detail }));
        ended.map(|(done, _)| done)
    }

    fn tell(&self, check: &Check) {
        if !self.context.json() {
            note(line(check));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The name, and every rule that can be looked at here.
    async fn validate(&self) -> Result<((), String), Failure> {
        let reference = Reference::new(self.repo, NO_DIGEST).map_err(|refused| refused.fault())?;
        if let Some(naming) = self.options.naming().map_err(Failure::usage)? {
            naming.check(&reference).map_err(|refused| refused.fault())?;
        }
        if let Some(pattern) = &self.profile.intake.pattern {
            // What is missing for the commitment is said before hours of uploading.
            self.payload(pattern, NO_DIGEST)?;
        }
        self.look(What::Path(self.folder)).await
    }

    async fn check_remote(&self, digest: &str) -> Result<((), String), Failure> {
        self.look(What::Published(self.repo, digest)).await
    }

    async fn look(&self, what: What<'_>) -> Result<((), String), Failure> {
        let reach = Reach { options: self.options, settings: self.settings, credentials: self.credentials.as_ref() };
        let watch = |check: &Check| self.tell(check);
        let Looked { uri, ended } = look(&reach, self.profile.artifact.bytes_max, what, &watch).await?;
        let passed = ended.map_err(|refused| refused.fault())?;
        let tensors: usize = passed.shards.values().map(|header| header.tensors.len()).sum();
        Ok(((), format!("{uri}: {} files, {tensors} tensors", passed.files.len())))
    }

    async fn upload(&self) -> Result<(Pushed, String), Failure> {
        let files = Folder::new(self.folder).list().await.map_err(|trouble| told(&trouble))?;
        let http = http(self.settings).map_err(|trouble| told(&trouble))?;
        let bar = bar(self.context.json());
        let watch = |pushing: &Pushing<'_>| {
            bar.set_length(pushing.progress.total);
            bar.set_position(pushing.progress.done);
            let (name, bytes) = (&pushing.file.name, pushing.file.bytes);
            let done = pushing.progress.done;
            let said = match pushing.moved {
                Moved::Sent(_) => return,
                Moved::Done => format!("sent {name}, {bytes} bytes; {done} of {}", pushing.progress.total),
                Moved::Present => format!("there is {name}, {bytes} bytes; {done} of {}", pushing.progress.total),
            };
            if !self.context.json() {
                bar.suspend(|| note(said));
            }
        };
        let credentials = self.credentials.clone();
        let pushed = push(http, self.base, self.repo, credentials, self.folder, &files, &watch).await;
        bar.finish_and_clear();
        let pushed = pushed.map_err(|trouble| told(&trouble))?;
        self.change(|published| (published.bytes, published.sent_bytes) = (pushed.bytes, pushed.sent));
        let detail = format!("{}: {} of {} bytes sent", pushed.reference, pushed.sent, pushed.bytes);
        Ok((pushed, detail))
    }

    fn payload(&self, pattern: &Pattern, digest: &str) -> Result<String, Failure> {
        let mut parts: std::collections::BTreeMap<String, String> = self.args.parts.iter().cloned().collect();
        parts.insert("digest".to_owned(), digest_part(pattern, digest));
        if pattern.names().any(|name| name == "repo") {
            parts.insert("repo".to_owned(), self.repo.to_owned());
        }
        let source = self.profile.intake.source;
        miner::payload_of(&self.challenge, source, pattern, &parts).map_err(Failure::named_file)
    }

    async fn commit(&self, client: &crate::chain::Client, what: &Foreign<'_>) -> Result<(Committed, String), Failure> {
        let committed = foreign(self.context, client, what, self.args.yes).await?;
        let again = if committed.again { ", done before" } else { "" };
        let detail = format!("block {}{again}", committed.block);
        Ok((committed, detail))
    }
}

/// Whose trouble it is that a model cannot be pushed.
fn told(trouble: &Trouble) -> Fault {
    let code = match trouble {
        Trouble::Denied(_) => codes::REGISTRY_DENIED,
        Trouble::Forbidden(_) => codes::FETCH_NOT_ALLOWED,
        Trouble::Disk(_) => codes::MODEL_UNREADABLE,
        _ => codes::UPLOAD_FAILED,
    };
    code.because(trouble.to_string())
}

fn bar(json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    // On anything but a terminal a bar draws nothing by itself.
    let style = ProgressStyle::with_template("uploading {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_source| ProgressStyle::default_bar()))
}

fn summary(published: &Published) -> String {
    let row = |step: &Done| {
        let ended = match step.ended {
            Ended::Ok => "ok",
            Ended::Failed => "failed",
            Ended::Skipped => "–",
        };
        vec![step.name.to_owned(), ended.to_owned(), step.detail.clone()]
    };
    let rows: Vec<Vec<String>> = published.steps.iter().map(row).collect();
    table(&["step", "result", "detail"], &rows)
}

fn in_words(published: &Published) -> String {
    let mut lines = vec![summary(published)];
    lines.extend(published.reference.clone());
    lines.extend(published.payload.clone());
    lines.join("\n")
}

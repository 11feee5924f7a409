//! `waag commit`: a sealed commitment to an artifact, on chain.

use std::path::PathBuf;

use super::{
    Configured, Context, Failure, Outcome,
    exit::answer,
    miner::{self, Commit},
    progress,
};
use crate::chain::Slug;

/// Arguments of `waag commit`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag commit my-policy.tar
  waag commit my-policy.tar --challenge SLUG --wallet.hotkey h1
  waag commit my-policy.tar --again             after `submission_closed`: a new one, with a new place

The commitment hides the artifact behind a random salt, which is kept in my-policy.tar.waag-salt.json: without that \
file the upload cannot open the commitment. Commitments to other challenges are kept. Doing it twice does it once. \
`waag publish` commits by itself; this verb is for committing earlier than uploading.")]
pub struct Args {
    /// The artifact
    artifact: PathBuf,
    /// The challenge [default: the only one of the settings]
    #[arg(long, value_name = "NAME")]
    challenge: Option<String>,
    /// Commit anew although a commitment stands: its submission has ended without the artifact
    #[arg(long)]
    again: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the artifact, the wallet or the chain does not allow it.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    Failure::unless_there(&args.artifact)?;
    let configured = context.configured()?;
    let settings = configured.settings();
    let challenge = challenge(&configured, args.challenge.as_deref())?;
    let profile = configured.profiles.iter().find(|profile| profile.slug.as_str() == challenge.as_str());
    if profile.is_some_and(|profile| profile.intake.pattern.is_some()) {
        return Err(miner::FOREIGN_FORM.because(format!("challenge `{challenge}`")).into());
    }
    let hotkey = context.wallet(settings)?.hotkey()?;
    let client = context.chain(settings).await?;
    let netuid = settings.network.netuid;
    let what = Commit { netuid, challenge: &challenge, hotkey: &hotkey, artifact: &args.artifact, again: args.again };
    let watch = progress::teller(context.json());
    let committed = miner::commit(&client, &what, &context.entropy, &watch).await?;
    answer(context.json(), &committed, || {
        format!(
            "{} committed to {} in challenge {}, block {}\nthe salt is in {}",
            committed.hotkey,
            committed.artifact,
            committed.challenge,
            committed.block,
            committed.salt_file.display()
        )
    });
    Ok(())
}

/// The challenge that was named, or the only one there is.
///
/// # Errors
/// When the name is none, or several challenges are served and none was named.
pub fn challenge(configured: &Configured, named: Option<&str>) -> Result<Slug, Failure> {
    let only = match configured.profiles.as_slice() {
        [profile] => Some(profile.slug.as_str()),
        _ => None,
    };
    let name = named.or(only).ok_or_else(|| {
        let names: Vec<&str> = configured.profiles.iter().map(|profile| profile.slug.as_str()).collect();
        Failure::usage(format!("say which challenge with `--challenge`: {}", names.join(", ")))
    })?;
    name.parse().map_err(|source| Failure::usage(format!("`{name}`: {source}")))
}

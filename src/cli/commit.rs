//! `waag commit`: a commitment on chain, sealed or in the challenge's own form.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Configured, Context, Failure, Outcome, appliance,
    exit::{answer, confirm, note},
    miner::{self, Commit, Committed, Foreign},
    progress,
};
use crate::{
    artifact::model::{Options, Reference},
    chain::{Client, Keypair, Slug},
    config::{
        Profile,
        profile::{Pattern, Source},
    },
    ids::Digest,
};

/// Arguments of `waag commit`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag commit my-policy.tar
  waag commit my-policy.tar --challenge SLUG --wallet.hotkey h1
  waag commit my-policy.tar --again             after `submission_closed`: a new one, with a new place
  waag commit --repo alice/model-1 --digest sha256:…    where the challenge takes models by their digests
  waag commit my-policy.tar --part note=first   where its `pattern` has further parts

The commitment hides the artifact behind a random salt, which is kept in my-policy.tar.waag-salt.json: without that \
file the upload cannot open the commitment. Commitments to other challenges are kept. Doing it twice does it once. \
`waag publish` commits by itself; this verb is for committing earlier than uploading. Where a challenge has a `pattern` \
of its own, the text is made by it, shown, and asked about first; it stands in the open, or behind a time lock that the \
chain opens.")]
pub struct Args {
    /// The artifact
    #[arg(required_unless_present = "repo", conflicts_with_all = ["repo", "digest"])]
    artifact: Option<PathBuf>,
    /// The challenge [default: the only one of the settings]
    #[arg(long, value_name = "NAME")]
    challenge: Option<String>,
    /// The repository of a published model
    #[arg(long, value_name = "NAME", requires = "digest")]
    repo: Option<String>,
    /// The digest of a published model, as `waag publish` printed it
    #[arg(long, value_name = "DIGEST", requires = "repo")]
    digest: Option<String>,
    /// A further part of the challenge's `pattern`; may be repeated
    #[arg(long = "part", value_name = "NAME=VALUE", value_parser = part)]
    parts: Vec<(String, String)>,
    /// Blocks until the chain opens a commitment that is locked
    #[arg(long, value_name = "BLOCKS", default_value_t = miner::REVEAL_BLOCKS)]
    reveal_blocks: u64,
    /// Commit without asking, where it is asked
    #[arg(long, short)]
    yes: bool,
    /// Commit anew although a commitment stands: its submission has ended without the artifact
    #[arg(long)]
    again: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the artifact, the wallet or the chain does not allow it.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    if let Some(artifact) = &args.artifact {
        Failure::unless_there(artifact)?;
    }
    let configured = context.configured()?;
    let settings = configured.settings();
    let challenge = challenge(&configured, args.challenge.as_deref())?;
    let profile = configured.profiles.iter().find(|profile| profile.slug.as_str() == challenge.as_str());
    let own_form = profile.and_then(|profile| Some((profile, profile.intake.pattern.as_ref()?)));
    let committed = match (own_form, &args.artifact) {
        (Some((profile, pattern)), _) => own(context, &configured, args, &challenge, profile, pattern).await?,
        (None, Some(artifact)) => {
            if !args.parts.is_empty() {
                return Err(Failure::usage(format!("commitments of challenge `{challenge}` have no parts")));
            }
            let hotkey = context.wallet(settings)?.hotkey()?;
            let client = context.chain(settings).await?;
            let netuid = settings.network.netuid;
            let what = Commit { netuid, challenge: &challenge, hotkey: &hotkey, artifact, again: args.again };
            let watch = progress::teller(context.json());
            miner::commit(&client, &what, &context.entropy, &watch).await?
        }
        (None, None) => {
            return Err(Failure::usage(format!(
                "commitments of challenge `{challenge}` are sealed: name the artifact"
            )));
        }
    };
    answer(context.json(), &committed, || in_words(&committed));
    Ok(())
}

fn in_words(committed: &Committed) -> String {
    let mut lines = vec![format!(
        "{} committed to {} in challenge {}, block {}",
        committed.hotkey, committed.artifact, committed.challenge, committed.block
    )];
    if let Some(salt_file) = &committed.salt_file {
        lines.push(format!("the salt is in {}", salt_file.display()));
    } else {
        lines.push(committed.field.clone());
    }
    if let Some(round) = committed.opens_round {
        lines.push(format!("the chain opens it with round {round} of its beacon; it counts from then on"));
    }
    lines.join("\n")
}

/// A commitment in the challenge's own form.
async fn own(
    context: &Context,
    configured: &Configured,
    args: &Args,
    challenge: &Slug,
    profile: &Profile,
    pattern: &Pattern,
) -> Result<Committed, Failure> {
    let settings = configured.settings();
    let mut parts: BTreeMap<String, String> = args.parts.iter().cloned().collect();
    match (&args.artifact, &args.repo, &args.digest) {
        (Some(artifact), ..) => {
            let (digest, _bytes) = miner::digest_file(artifact)?;
            parts.insert("digest".to_owned(), pattern.digest_text(digest));
        }
        (None, Some(repo), Some(digest)) => {
            reference(profile, repo, digest)?;
            if pattern.names().any(|name| name == "repo") {
                parts.insert("repo".to_owned(), repo.clone());
            }
            parts.insert("digest".to_owned(), digest_part(pattern, digest));
        }
        _ => return Err(Failure::usage("name the artifact, or `--repo` and `--digest`")),
    }
    let source = profile.intake.source;
    let payload = miner::payload_of(challenge, source, pattern, &parts).map_err(Failure::named_file)?;
    let hotkey = context.wallet(settings)?.hotkey()?;
    let client = context.chain(settings).await?;
    let what = Foreign {
        netuid: settings.network.netuid,
        challenge,
        hotkey: &hotkey,
        source,
        pattern,
        payload: &payload,
        beacon: appliance::beacon_of(settings, false),
        reveal_blocks: args.reveal_blocks,
        again: args.again,
    };
    foreign(context, &client, &what, args.yes).await
}

/// The digest as the pattern writes it; a text that is none is left for the pattern to refuse.
pub(super) fn digest_part(pattern: &Pattern, digest: &str) -> String {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.parse::<Digest>().map_or_else(|_source| digest.to_owned(), |digest| pattern.digest_text(digest))
}

/// Repository and digest, as the operator will read them.
fn reference(profile: &Profile, repo: &str, digest: &str) -> Outcome {
    let reference = Reference::new(repo, digest).map_err(|refused| refused.fault())?;
    if profile.artifact.kind != "model" {
        return Ok(());
    }
    let options = Options::parse(&profile.artifact.options).map_err(Failure::usage)?;
    if let Some(naming) = options.naming().map_err(Failure::usage)? {
        naming.check(&reference).map_err(|refused| refused.fault())?;
    }
    Ok(())
}

/// Commits in the challenge's own form, after showing it and a yes. What stands already is not asked about.
pub(super) async fn foreign(
    context: &Context,
    client: &Client,
    what: &Foreign<'_>,
    yes: bool,
) -> Result<Committed, Failure> {
    let head = client.finalized_head().await?;
    let stands = what.standing(client, &head).await?.is_some();
    if !stands || what.again {
        // Before the question, so that what cannot be done is not asked about.
        let (_field, round) = what.field(client, &*context.clock, &client.best_head().await?).await?;
        if !context.json() {
            note(preview(what, what.hotkey, round));
        }
        if !yes {
            confirm("Proceed?")?;
        }
    }
    let watch = progress::teller(context.json());
    Ok(miner::commit_foreign(client, what, &*context.clock, &watch).await?)
}

fn preview(what: &Foreign<'_>, hotkey: &Keypair, round: Option<u64>) -> String {
    let place = match (what.source, round) {
        (Source::Revealed, Some(round)) => format!("behind a time lock until round {round}"),
        _ => "in the open".to_owned(),
    };
    format!(
        "commitment  {}\n  {place}\n  challenge {} in subnet {}\n  hotkey {}",
        what.payload,
        what.challenge,
        what.netuid,
        hotkey.account()
    )
}

/// `NAME=VALUE`.
pub(super) fn part(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
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

//! `waag publish`: an artifact checked, committed and uploaded; a model pushed to its registry and committed to.

pub mod model;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Context, Failure, Outcome, appliance, commit,
    exit::{answer, confirm, note},
    miner::{self, Commit, Foreign, Means, Publish},
    progress,
    register::tao,
};
use crate::{
    chain::{self, Keypair, PaymentName, Slug, Wallet},
    config::{Given, Profile, profile::Pattern},
    intake::{Fee, payment_missing},
    server::client::Client,
};

/// Arguments of `waag publish`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag publish my-policy.tar
  waag publish my-policy.tar --api https://subnet.example --wallet.name miner --wallet.hotkey h1
  waag publish my-policy.tar --skip-commit      after `waag commit`, upload only
  waag publish my-policy.tar --pay              where an upload costs something: shows how much, asks, pays
  waag publish --path my-model --repo alice/model-1               where the challenge takes models
  waag publish --path my-model --repo alice/model-1 --skip-commit     upload, and commit later

It checks the archive as the operator will, commits to it on chain unless that is done, waits until the commitment is \
final, and uploads it signed by the hotkey. Interrupted at any point, the same line goes on where it was; done twice, \
it does it once. The salt is kept in my-policy.tar.waag-salt.json: keep that file until the upload is taken.

A model is checked as `waag check --path` does, pushed to the challenge's registry, checked there as `waag check --repo` \
does, and committed to after a yes. What the registry has is not sent again, and what stands on chain is not committed \
again. The digest is that of the manifest in the registry.")]
pub struct Args {
    /// The artifact
    #[arg(required_unless_present = "path", conflicts_with = "path")]
    bundle: Option<PathBuf>,
    /// The folder of a model
    #[arg(long, value_name = "DIR", requires = "repo", conflicts_with_all = ["skip_checks", "pay", "payment"])]
    path: Option<PathBuf>,
    /// The repository that the model is pushed to
    #[arg(long, value_name = "NAME", requires = "path")]
    repo: Option<String>,
    /// Name for the registry, in place of `fetch.username`
    #[arg(long, value_name = "NAME", requires = "path")]
    username: Option<String>,
    /// File with the password or token for the registry, in place of `fetch.password_file`
    #[arg(long, value_name = "FILE", requires = "path")]
    registry_password_file: Option<PathBuf>,
    /// The challenge [default: the only one that the appliance serves; for models, of the settings]
    #[arg(long, value_name = "NAME")]
    challenge: Option<String>,
    /// Upload only; the commitment was made before, or of a model is made later
    #[arg(long)]
    skip_commit: bool,
    /// Commit anew although a commitment stands: its submission has ended without the artifact
    #[arg(long, conflicts_with = "skip_commit")]
    again: bool,
    /// Send it without checking it here
    #[arg(long)]
    skip_checks: bool,
    /// Pay what the upload costs with the wallet's coldkey, unless that was done before; it is shown and asked first
    #[arg(long)]
    pay: bool,
    /// Pay, or commit to a model, without asking
    #[arg(long, short)]
    yes: bool,
    /// Upload with a payment that was made otherwise: the block, and the hash of its extrinsic
    #[arg(long, value_name = "BLOCK:HASH", conflicts_with = "pay")]
    payment: Option<PaymentName>,
    /// A further part of the challenge's `pattern`, where it has one; may be repeated
    #[arg(long = "part", value_name = "NAME=VALUE", value_parser = commit::part)]
    parts: Vec<(String, String)>,
    /// How long to come again while the appliance waits for the commitment to be final
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
}

impl Args {
    /// The flags that are settings.
    fn given(&self) -> Vec<Given> {
        let file = self.registry_password_file.as_ref().map(|path| path.display().to_string());
        let given = |name: &str, key: &str, value: Option<&str>| Some(Given::new(name, key, value?));
        [
            given("--username", "fetch.username", self.username.as_deref()),
            given("--registry-password-file", "fetch.password_file", file.as_deref()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Runs the verb.
///
/// # Errors
/// When the artifact breaks a rule, or chain or appliance refuse.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    match (&args.bundle, &args.path, &args.repo) {
        (_, Some(folder), Some(repo)) => model::run(context, args, folder, repo).await,
        (Some(bundle), ..) => policy(context, args, bundle).await,
        _ => Err(Failure::usage("name the artifact, or `--path` and `--repo` of a model")),
    }
}

/// Publishes a policy.
async fn policy(context: &Context, args: &Args, bundle: &Path) -> Outcome {
    Failure::unless_there(bundle)?;
    let configured = context.configured()?;
    let settings = configured.settings();
    let api = Client::new(&context.api(settings)).map_err(|error| error.fault())?;
    // The appliance is asked before anything is paid or committed.
    let (slug, profile) = match served(&api, args.challenge.as_deref()).await? {
        Some(served) => served,
        None => {
            return Err(Failure::usage(format!("say which challenge with `--challenge`; {}", offered(&api).await?)));
        }
    };
    let wallet = context.wallet(settings)?;
    let hotkey = wallet.hotkey()?;
    let chain = context.chain(settings).await?;
    let commit = Commit {
        netuid: settings.network.netuid,
        challenge: &slug,
        hotkey: &hotkey,
        artifact: bundle,
        again: args.again,
    };
    let fee = fee_of(&profile);
    let coldkey = match &fee {
        Some(fee) => payer(context, args, fee, &wallet, &chain, &commit)?,
        None => None,
    };
    let means = match (args.payment, &coldkey) {
        (Some(name), _) => Means::Named(name),
        (None, Some(coldkey)) => Means::Coldkey(coldkey),
        (None, None) => Means::Stored,
    };
    let own = match &profile.intake.pattern {
        Some(pattern) if !args.skip_commit => Some((pattern, payload(args, bundle, &slug, &profile, pattern)?)),
        _ => None,
    };
    let foreign = own.as_ref().map(|(pattern, payload)| Foreign {
        netuid: settings.network.netuid,
        challenge: &slug,
        hotkey: &hotkey,
        source: profile.intake.source,
        pattern,
        payload,
        beacon: appliance::beacon_of(settings, false),
        reveal_blocks: miner::REVEAL_BLOCKS,
        again: args.again,
    });
    let what = Publish {
        commit,
        foreign_form: profile.intake.pattern.is_some(),
        foreign,
        fee,
        means,
        api: &api,
        checks: (!args.skip_checks).then_some(&profile),
        skip_commit: args.skip_commit,
        patience_ms: args.patience.saturating_mul(1000),
    };
    let watch = progress::teller(context.json());
    let published = miner::publish(&chain, &what, &context.entropy, &*context.clock, &watch).await?;
    answer(context.json(), &published, || published.submission.to_string());
    if !context.json() {
        note(format_args!("`waag why {}` tells how it goes", published.submission));
    }
    Ok(())
}

/// The text that the artifact is committed to with, in the challenge's own form.
fn payload(
    args: &Args,
    bundle: &Path,
    challenge: &Slug,
    profile: &Profile,
    pattern: &Pattern,
) -> Result<String, Failure> {
    let (digest, _bytes) = miner::digest_file(bundle)?;
    let mut parts: BTreeMap<String, String> = args.parts.iter().cloned().collect();
    parts.insert("digest".to_owned(), pattern.digest_text(digest));
    miner::payload_of(challenge, profile.intake.source, pattern, &parts).map_err(Failure::named_file)
}

fn fee_of(profile: &Profile) -> Option<Fee> {
    let intake = &profile.intake;
    intake.fee_to.map(|to| Fee { rao: intake.fee_rao, to, within_blocks: intake.fee_within_blocks })
}

/// The coldkey that pays, once its owner has said yes; `None` where nobody pays now. Nothing is committed before.
fn payer(
    context: &Context,
    args: &Args,
    fee: &Fee,
    wallet: &Wallet,
    chain: &chain::Client,
    commit: &Commit<'_>,
) -> Result<Option<Keypair>, Failure> {
    let is_paid = args.payment.is_some() || miner::is_paid(&chain.genesis_hash(), commit)?;
    if is_paid {
        return Ok(None);
    }
    if !args.pay {
        return Err(payment_missing(fee).fault.into());
    }
    let coldkey = wallet.coldkey()?;
    let (amount, to) = (tao(fee.rao), fee.to);
    if !context.json() {
        note(format_args!("the upload costs {amount}, paid by {} to {to}", coldkey.account()));
    }
    if !args.yes {
        confirm(&format!("pay {amount} for this upload?"))?;
    }
    Ok(Some(coldkey))
}

/// The challenge that was named, or the only one that the appliance serves, with the profile by which it judges.
async fn served(api: &Client, named: Option<&str>) -> Result<Option<(Slug, Profile)>, Failure> {
    let challenges = api.challenges().await.map_err(|error| error.fault())?;
    let only = if challenges.len() == 1 { challenges.first() } else { None };
    let found = match named {
        Some(name) => challenges.iter().find(|challenge| challenge.slug == name),
        None => only,
    };
    let Some(challenge) = found else { return Ok(None) };
    let slug = challenge.slug.parse().map_err(|source| Failure::usage(format!("`{}`: {source}", challenge.slug)))?;
    let profile = Profile::parse(&challenge.profile, "the appliance's profile").map_err(super::context::refused)?;
    Ok(Some((slug, profile)))
}

async fn offered(api: &Client) -> Result<String, Failure> {
    let challenges = api.challenges().await.map_err(|error| error.fault())?;
    let names: Vec<&str> = challenges.iter().map(|challenge| challenge.slug.as_str()).collect();
    Ok(format!("the appliance serves {}", names.join(", ")))
}

//! `waag register`: a place in the subnet for a hotkey.

use super::{
    Configured, Context, Failure, Outcome,
    devnet::{Controls, GIFT_RAO},
    exit::{answer, confirm, note},
    miner, progress,
    wallet::{make_coldkey, make_hotkey},
};
use crate::{
    chain::{Keypair, Wallet, WalletError},
    config::settings::Settings,
};

/// The network that is one's own.
const DEVNET: &str = "devnet";
/// What stays in the account for fees and its own existence, in rao.
const FEES_RAO: u64 = 10_000_000;
/// Rao of one unit of the chain's currency.
const RAO: f64 = 1e9;

/// Arguments of `waag register`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag register --wallet.name miner --wallet.hotkey h1 --netuid 12
  waag register --create --yes       on a devnet: make the keys, register

The coldkey pays the subnet's present price; it is shown first, and nothing is paid without a yes. A hotkey that is registered already is left as it is: exit code 0.")]
pub struct Args {
    /// Pay without asking
    #[arg(long, short)]
    yes: bool,
    /// Make the wallet's keys when they are missing, as `waag wallet create` does
    #[arg(long)]
    create: bool,
    /// Keep a coldkey that is made in plain form; on a devnet it is so anyway
    #[arg(long)]
    no_password: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the wallet, the chain or the price does not allow it.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let settings = configured.settings();
    let wallet = context.wallet(settings)?;
    let (coldkey, hotkey) = keys(context, args, settings, &wallet)?;
    let client = context.chain(settings).await?;
    let netuid = settings.network.netuid;
    let quote = miner::quote(&client, netuid, &coldkey.account(), &hotkey.account()).await?;
    if quote.uid.is_none() {
        let (cost, balance) = (tao(quote.cost_rao), tao(quote.balance_rao));
        if !context.json() {
            note(format_args!("subnet {netuid} on {}", named(&configured)));
            note(format_args!("hotkey {} of coldkey {}", quote.hotkey, quote.coldkey));
            note(format_args!("the registration costs {cost} now; the coldkey has {balance}"));
        }
        if !args.yes {
            confirm(&format!("pay {cost} for a place in subnet {netuid}?"))?;
        }
        fund(context, settings, &quote).await?;
    }
    let watch = progress::teller(context.json());
    let registered = miner::register(&client, netuid, &coldkey, &hotkey.account(), &watch).await?;
    answer(context.json(), &registered, || {
        format!("{} has uid {} in subnet {netuid}", registered.hotkey, registered.uid)
    });
    Ok(())
}

/// A devnet's funds are worth nothing, so that whoever has none there is given some.
async fn fund(context: &Context, settings: &Settings, quote: &miner::Quote) -> Outcome {
    let is_enough = quote.balance_rao > quote.cost_rao.saturating_add(FEES_RAO);
    let endpoints = settings.endpoints();
    let (DEVNET, false, Some(url)) = (settings.network.name.as_str(), is_enough, endpoints.first()) else {
        return Ok(());
    };
    if !context.json() {
        note(format_args!("the devnet gives {} to {}", tao(GIFT_RAO), quote.coldkey));
    }
    Controls::connect(url).await?.fund(&quote.coldkey, GIFT_RAO).await?;
    Ok(())
}

/// The keys of the wallet, made when that was asked for.
fn keys(context: &Context, args: &Args, settings: &Settings, wallet: &Wallet) -> Result<(Keypair, Keypair), Failure> {
    let made = |read: Result<Keypair, WalletError>, make: &dyn Fn() -> Result<Keypair, Failure>| match read {
        Err(WalletError::Missing { .. }) if args.create => make(),
        Err(error @ WalletError::Missing { .. }) => {
            let mut fault = error.fault();
            "`--create` makes the missing keys".clone_into(&mut fault.hint);
            Err(fault.into())
        }
        other => Ok(other?),
    };
    // What lies on a devnet is worth nothing, so that nobody has to think of a password for it.
    let is_worthless = settings.network.name == DEVNET && context.globals.password_file.is_none();
    let plain = args.no_password || is_worthless;
    let coldkey = made(wallet.coldkey(), &|| make_coldkey(context, wallet, plain))?;
    let hotkey = made(wallet.hotkey(), &|| make_hotkey(context, wallet))?;
    Ok((coldkey, hotkey))
}

fn named(configured: &Configured) -> &str {
    let settings: &Settings = configured.settings();
    &settings.network.name
}

/// An amount for people.
#[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
pub(super) fn tao(rao: u64) -> String {
    format!("τ{:.4}", rao as f64 / RAO)
}

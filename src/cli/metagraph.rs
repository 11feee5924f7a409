//! `waag metagraph`: who is registered in the subnet, with everything that the chain says of them.

use std::cmp::Reverse;

use clap::ValueEnum;
use serde_json::json;

use super::{
    Context, Failure, Outcome,
    exit::{answer, table},
};
use crate::{
    chain::{BlockRef, Client, Error, Neuron},
    ids::{Digest, Hotkey},
};

/// Arguments of `waag metagraph`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag metagraph
  waag metagraph --subtensor.network finney --netuid 12 --sort incentive
  waag metagraph --at 8600000 --json        an old block; the archive is asked where the node has forgotten it
  waag metagraph --of 5F…                   one neuron, every field")]
pub struct Args {
    /// Number or hash of a block [default: the newest final one]
    #[arg(long, value_name = "BLOCK")]
    at: Option<String>,
    /// Show only this hotkey
    #[arg(long, value_name = "SS58")]
    of: Option<Hotkey>,
    /// What comes first: the lowest uid, the newest registration or update, or the most of anything else
    #[arg(long, value_enum, default_value_t = Sort::Uid)]
    sort: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Uid,
    Stake,
    Incentive,
    Dividends,
    Emission,
    Consensus,
    Trust,
    Updated,
    Registered,
}

/// Runs the verb.
///
/// # Errors
/// When the chain cannot be read, or has no such subnet, block or neuron.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let settings = configured.settings();
    let client = context.chain(settings).await?;
    let netuid = settings.network.netuid;
    let mut metagraph = match args.at.as_deref() {
        Some(at) => client.metagraph(netuid, block(&client, at).await?.hash).await?,
        None => client.newest_metagraph(netuid).await?,
    };
    if let Some(hotkey) = args.of {
        metagraph.neurons.retain(|neuron| neuron.hotkey == hotkey);
        if metagraph.neurons.is_empty() {
            let number = metagraph.block;
            return Err(Failure::usage(format!("{hotkey} is not registered in subnet {netuid} at block {number}")));
        }
    }
    sort(&mut metagraph.neurons, args.sort);
    let document = json!({
        "genesis": Digest(client.genesis_hash()),
        "netuid": metagraph.netuid,
        "block": metagraph.block,
        "hash": metagraph.hash,
        "neurons": metagraph.neurons,
    });
    answer(context.json(), &document, || match (args.of, metagraph.neurons.first()) {
        (Some(_), Some(neuron)) => one_in_words(neuron, metagraph.block),
        _ => {
            let (number, count) = (metagraph.block, metagraph.neurons.len());
            format!("subnet {netuid} at block {number}, {count} neurons\n\n{}", in_words(&metagraph.neurons))
        }
    });
    Ok(())
}

/// The block that is meant.
async fn block(client: &Client, at: &str) -> Result<BlockRef, Failure> {
    if let Ok(number) = at.parse::<u64>() {
        let hash = client.block_hash(number).await?;
        let hash = hash.ok_or_else(|| Error::UnknownBlock { block: number.to_string() })?;
        return Ok(client.block(hash).await?);
    }
    let hash = at.strip_prefix("0x").unwrap_or(at).parse::<Digest>();
    let hash = hash.map_err(|_neither| Failure::usage(format!("`{at}` is neither a block's number nor its hash")))?;
    Ok(client.block(hash).await?)
}

fn sort(neurons: &mut [Neuron], by: Sort) {
    let key = |neuron: &Neuron| match by {
        Sort::Uid => 0,
        Sort::Stake => neuron.stake,
        Sort::Incentive => neuron.incentive.into(),
        Sort::Dividends => neuron.dividends.into(),
        Sort::Emission => neuron.emission,
        Sort::Consensus => neuron.consensus.into(),
        Sort::Trust => neuron.validator_trust.into(),
        Sort::Updated => neuron.last_update,
        Sort::Registered => neuron.registered_at,
    };
    neurons.sort_by_key(|neuron| (Reverse(key(neuron)), neuron.uid));
}

fn in_words(neurons: &[Neuron]) -> String {
    let rows: Vec<Vec<String>> = neurons
        .iter()
        .map(|neuron| {
            vec![
                neuron.uid.to_string(),
                neuron.hotkey.short(),
                neuron.coldkey.short(),
                flags(neuron).to_owned(),
                rao(neuron.stake),
                part(neuron.incentive),
                part(neuron.dividends),
                rao(neuron.emission),
                part(neuron.consensus),
                part(neuron.validator_trust),
                neuron.last_update.to_string(),
                neuron.registered_at.to_string(),
                axon(neuron),
            ]
        })
        .collect();
    let heads = [
        "uid",
        "hotkey",
        "coldkey",
        "",
        "stake",
        "incentive",
        "dividends",
        "emission",
        "consensus",
        "trust",
        "updated",
        "registered",
        "axon",
    ];
    table(&heads, &rows)
}

fn one_in_words(neuron: &Neuron, block: u64) -> String {
    let rows = [
        ("uid", neuron.uid.to_string()),
        ("at block", block.to_string()),
        ("hotkey", neuron.hotkey.to_string()),
        ("coldkey", neuron.coldkey.to_string()),
        ("registered at block", neuron.registered_at.to_string()),
        ("last update at block", neuron.last_update.to_string()),
        ("permit", neuron.permit.to_string()),
        ("active", neuron.active.to_string()),
        ("stake", rao(neuron.stake)),
        ("incentive", part(neuron.incentive)),
        ("dividends", part(neuron.dividends)),
        ("emission", rao(neuron.emission)),
        ("consensus", part(neuron.consensus)),
        ("validator trust", part(neuron.validator_trust)),
        ("axon", axon(neuron)),
    ];
    rows.map(|(what, value)| format!("{what:<22}{value}")).join("\n")
}

/// `P` for a validator's permit, `-` for who set no weights for so long that it counts no more.
const fn flags(neuron: &Neuron) -> &'static str {
    match (neuron.permit, neuron.active) {
        (true, true) => "P",
        (true, false) => "P-",
        (false, true) => "",
        (false, false) => "-",
    }
}

fn axon(neuron: &Neuron) -> String {
    neuron.axon.as_ref().map_or_else(String::new, |axon| std::net::SocketAddr::new(axon.ip, axon.port).to_string())
}

/// An amount in whole coins.
fn rao(amount: u64) -> String {
    format!("{}.{:04}", amount / 1_000_000_000, amount % 1_000_000_000 / 100_000)
}

/// A part of 65535.
fn part(of: u16) -> String {
    format!("{:.4}", f64::from(of) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_parts_are_shown_with_four_digits() {
        assert_eq!(
            (rao(0), rao(1_999_999_999), rao(12_000_100_000)),
            ("0.0000".into(), "1.9999".into(), "12.0001".into())
        );
        assert_eq!((part(0), part(32768), part(u16::MAX)), ("0.0000".into(), "0.5000".into(), "1.0000".into()));
    }
}

//! `waag bench devnet`: blocks and signed extrinsics per second of the embedded chain, over its real socket.

use serde::Serialize;
use serde_json::json;
use subxt_rpcs::{RpcClient, client::rpc_params};

use super::{Context, Outcome, resident_kib, stopwatch};
use crate::{
    actors::Tasks,
    chain::{Call, Client, Found, Keypair, Options as ChainOptions, Signed},
    cli::{
        Failure,
        devnet::{CONTROL_REFUSED, Controls, start},
        exit::{answer, table},
    },
    devnet::{Blocks, Options},
};

/// Who signs: each account may have this many extrinsics waiting, and there are as many accounts as it takes.
const EXTRINSICS_PER_ACCOUNT: u32 = 250;
/// What each of them is given.
const GIFT_RAO: u64 = 1_000_000_000_000;
/// What each extrinsic moves.
const AMOUNT_RAO: u64 = 1_000;
/// How many are signed before the first of them is submitted, where each needs a block.
const SIGNED_AHEAD: usize = 16;
/// Blocks a second of Chopsticks 1.5.1 in instant mode with a runtime of subtensor (spec 218), as measured once. The same
/// on the machine at hand is what `tests/bench/chopsticks.sh` prints.
const CHOPSTICKS_PER_SECOND: f64 = 3.4;
/// Blocks that one request makes.
const BLOCKS_PER_REQUEST: u32 = 1_000;

/// Arguments of `waag bench devnet`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Empty blocks to make on demand
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    blocks: u32,
    /// Signed extrinsics to submit, once one by one and once all together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=8_000))]
    extrinsics: u32,
    /// Neurons of the chain's one subnet
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    neurons: u16,
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    what: &'static str,
    count: u32,
    ns: u64,
    per_second: f64,
}

impl Measured {
    fn new(what: &'static str, count: u32, ns: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
        let per_second = f64::from(count) * 1e9 / ns.max(1) as f64;
        Self { what, count, ns, per_second }
    }
}

/// A chain in memory and those who use it.
struct Bench {
    tasks: Tasks,
    chain: crate::devnet::Handle,
    client: Client,
    controls: Controls,
    rpc: RpcClient,
}

/// Runs the verb.
///
/// # Errors
/// When the chain cannot start, or refuses what is measured.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let bench = Bench::start(context, args).await?;
    let before_kib = resident_kib("self", "VmRSS");
    let mut report = vec![bench.empty_blocks(args.blocks).await?];
    let after_kib = resident_kib("self", "VmRSS");
    let instant = bench.one_by_one(args.extrinsics).await?;
    let ratio = instant.per_second / CHOPSTICKS_PER_SECOND;
    report.push(instant);
    report.extend(bench.all_together(args.extrinsics).await?);
    bench.chain.stop().await;
    bench.tasks.token().cancel();
    let document = json!({
        "devnet": report,
        "resident_kib": { "before_blocks": before_kib, "after_blocks": after_kib },
        "ratio": ratio,
        "ratio_against": CHOPSTICKS_PER_SECOND,
    });
    answer(context.json(), &document, || {
        let mut rows: Vec<Vec<String>> = report
            .iter()
            .map(|one| vec![one.what.to_owned(), one.count.to_string(), format!("{:.0}", one.per_second)])
            .collect();
        let resident = |kib: Option<u64>| kib.map_or_else(|| "unknown".to_owned(), |kib| kib.to_string());
        rows.push(vec!["resident KiB before the empty blocks".to_owned(), resident(before_kib), String::new()]);
        rows.push(vec!["resident KiB after them".to_owned(), resident(after_kib), String::new()]);
        let table = table(&["what", "count", "per second"], &rows);
        format!(
            "{table}\nratio {ratio:.0} instant blocks against the {CHOPSTICKS_PER_SECOND} a second that Chopsticks 1.5.1 \
             was measured at"
        )
    });
    Ok(())
}

impl Bench {
    async fn start(context: &Context, args: &Args) -> Result<Self, Failure> {
        let tasks = Tasks::new();
        let options = Options { blocks: Blocks::Manual, finality_lag: 0, ..Options::default() };
        let chain = start(options, &tasks, context).await?;
        let controls = Controls::connect(&chain.url()).await?;
        let owner = dev("//Alice")?.account();
        let netuid = controls.create_subnet(1, &owner).await?;
        for neuron in 1..args.neurons {
            controls.register(netuid, &dev(&format!("//neuron{neuron}"))?.account(), &owner).await?;
        }
        let client = Client::connect(ChainOptions::new(vec![chain.url()])).await?;
        let rpc = RpcClient::from_url(chain.url()).await;
        let rpc = rpc.map_err(|source| CONTROL_REFUSED.because(source.to_string()))?;
        Ok(Self { tasks, chain, client, controls, rpc })
    }

    /// Blocks with nothing in them but what every block does.
    async fn empty_blocks(&self, blocks: u32) -> Result<Measured, Failure> {
        let now_ns = stopwatch();
        let mut left = blocks;
        while left > 0 {
            let now = left.min(BLOCKS_PER_REQUEST);
            self.controls.new_blocks(now).await?;
            left -= now;
        }
        Ok(Measured::new("empty blocks", blocks, now_ns()))
    }

    /// In instant mode: each extrinsic is in a block before the next one is sent, as one client does it.
    async fn one_by_one(&self, extrinsics: u32) -> Result<Measured, Failure> {
        let mut ns = 0;
        // Each has a block of its own, and a signature lives for so many blocks only. Signing is not what is measured.
        for begin in (0..extrinsics).step_by(SIGNED_AHEAD) {
            let end = extrinsics.min(begin.saturating_add(u32::try_from(SIGNED_AHEAD).unwrap_or(u32::MAX)));
            let signed = self.sign(begin..end, "single").await?;
            self.interval(None).await?;
            let first = self.client.best_head().await?.number;
            let now_ns = stopwatch();
            for (wanted, signed) in (first + 1..).zip(&signed) {
                self.client.submit(signed).await?;
                while self.client.best_head().await?.number < wanted {
                    tokio::task::yield_now().await;
                }
            }
            ns += now_ns();
            self.interval(Some(0)).await?;
        }
        Ok(Measured::new("instant blocks, an extrinsic in each", extrinsics, ns))
    }

    /// All extrinsics into the pool, then into as few blocks as hold them.
    async fn all_together(&self, extrinsics: u32) -> Result<Vec<Measured>, Failure> {
        let signed = self.sign(0..extrinsics, "together").await?;
        let now_ns = stopwatch();
        futures::future::try_join_all(signed.iter().map(|signed| self.client.submit(signed))).await?;
        let accepted_ns = now_ns();
        let last = signed.last().ok_or_else(|| Failure::mismatch("nothing was signed"))?;
        while !matches!(self.client.find(last).await?, Found::Included { .. }) {
            self.controls.new_blocks(1).await?;
        }
        Ok(vec![
            Measured::new("signed extrinsics taken into the pool", extrinsics, accepted_ns),
            Measured::new("signed extrinsics taken and put into blocks", extrinsics, now_ns()),
        ])
    }

    /// Transfers of several accounts, whose nonces begin at 0.
    async fn sign(&self, extrinsics: std::ops::Range<u32>, who: &str) -> Result<Vec<Signed>, Failure> {
        let to = dev("//Alice")?.account();
        let mut signed = Vec::new();
        for at in extrinsics {
            let signer = dev(&format!("//{who}{}", at / EXTRINSICS_PER_ACCOUNT))?;
            let nonce = at % EXTRINSICS_PER_ACCOUNT;
            if nonce == 0 {
                self.controls.fund(&signer.account(), GIFT_RAO).await?;
            }
            let call = Call::Transfer { to, amount_rao: AMOUNT_RAO };
            signed.push(self.client.sign(&signer, call, Some(nonce)).await?);
        }
        Ok(signed)
    }

    async fn interval(&self, ms: Option<u64>) -> Result<(), Failure> {
        let set = self.rpc.request::<serde_json::Value>("dev_setInterval", rpc_params![ms]).await;
        set.map(drop).map_err(|source| CONTROL_REFUSED.because(source.to_string()).into())
    }
}

fn dev(uri: &str) -> Result<Keypair, Failure> {
    Ok(Keypair::from_uri(uri).map_err(|error| error.fault())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_counts_over_seconds() {
        assert!((Measured::new("x", 500, 250_000_000).per_second - 2_000.0).abs() < 1e-9);
        assert!(resident_kib("self", "VmRSS").is_none_or(|kib| kib > 1_000));
        assert!(SIGNED_AHEAD < crate::chain::ERA_BLOCKS as usize);
        assert_ne!(dev("//Alice").unwrap().account(), dev("//Bob").unwrap().account());
    }
}

//! `waag devnet`: the embedded chain alone, and the controls that only such a chain has.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;
use subxt_rpcs::{
    RpcClient,
    client::{RpcParams, rpc_params},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Configured, Context, Failure, Outcome,
    exit::{note, print_json, say},
};
use crate::{
    actors::Tasks,
    chain::{Account, Client, Error, Keypair, Options as ChainOptions},
    config::Given,
    devnet::{self, Blocks, Options},
    fault::{Class, Code, Fault},
    ids::{Digest, Entropy as _},
};

/// How long the tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);
/// The owner and validator when the settings' wallet is not there: a dev account, whose secret everybody knows.
const DEV_URI: &str = "//Alice";
/// Blocks of an epoch of a new subnet: short enough to watch several.
const TEMPO_BLOCKS: u16 = 60;
/// The fewest blocks whose state is kept: as many as an ordinary node of the real chain keeps.
const STATE_BLOCKS_MIN: i64 = 300;
/// The first price of a place, in rao: a thousandth of what a funded account has.
const BURN_RAO: u64 = 1_000_000_000;
/// Blocks after which what was made is final on any devnet: more than the largest usual finality lag.
const FINAL_BLOCKS: u32 = 4;
/// What an account without funds is given: enough for a hundred registrations.
pub const GIFT_RAO: u64 = 1_000_000_000_000;

/// A control of the devnet was refused.
pub const CONTROL_REFUSED: Code = Code::new(
    Class::Operator,
    "devnet_control_refused",
    "the devnet did not do what one of its controls asked for",
    "only a devnet has these controls: look at the network and the endpoint",
);

/// Arguments of `waag devnet`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag devnet                               an own chain with a subnet and a validator, in memory
  waag devnet --state dev.chain             the same, every block on disk, continued at the next start
  waag devnet --listen 127.0.0.1:0 --block-ms 100
  waag devnet --manual --bare               blocks only by the RPC method dev_newBlock, no subnet

It speaks the JSON-RPC of a real node with subtensor's metadata, so that public tools can use it. It is not \
Bittensor: its funds are worth nothing, and its dev_* methods let anybody do anything.")]
pub struct Args {
    /// Where to listen; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Milliseconds between two blocks
    #[arg(long, value_name = "MS", conflicts_with = "manual")]
    block_ms: Option<u64>,
    /// Keep the chain in this file
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Seed of a new chain: its first block's hash and its beacon's key come from it [default: a random one]
    #[arg(long, value_name = "HEX")]
    seed: Option<Digest>,
    /// How many of the newest blocks keep a state that can be read [default: 4096]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u32).range(STATE_BLOCKS_MIN..))]
    state_blocks: Option<u32>,
    /// Make blocks only when dev_newBlock asks
    #[arg(long)]
    manual: bool,
    /// Which recorded runtime it shows: that of spec version 439 or 461
    #[arg(long, value_name = "SPEC", default_value = "439", value_parser = ["439", "461"])]
    metadata: String,
    /// Create neither a subnet nor a validator
    #[arg(long)]
    bare: bool,
}

/// What a devnet has for an appliance to work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ground {
    /// The subnet.
    pub netuid: u16,
    /// Who owns it.
    pub owner: Account,
    /// The hotkey that may set weights.
    pub validator: Account,
}

/// Runs the verb until it is told to stop.
///
/// # Errors
/// When the chain cannot start, or stops by itself.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured_with(&given(args))?;
    let settings = configured.settings();
    let blocks = if args.manual { Blocks::Manual } else { Blocks::Interval { ms: settings.devnet.block_ms } };
    let options = Options {
        listen: settings.devnet.listen,
        blocks,
        finality_lag: u32::try_from(settings.devnet.finality_lag_blocks).unwrap_or(u32::MAX),
        state: args.state.clone(),
        seed: args.seed.map_or_else(|| fresh_seed(context), |seed| seed.0),
        keeps_seed: args.seed.is_none(),
        state_blocks: args.state_blocks.unwrap_or(Options::default().state_blocks),
        spec: if args.metadata == "461" { devnet::Spec::V461 } else { devnet::Spec::V439 },
        ..Options::default()
    };
    // Before the chain is there, so that no signal finds nobody listening.
    let stop = stop_signal()?;
    let tasks = Tasks::new();
    let chain = start(options, &tasks, context).await?;
    let ground = if args.bare { None } else { Some(prepare_for(context, &configured, &chain.url()).await?) };
    announce(context, &chain, ground.as_ref());
    tokio::select! {
        () = stop => {}
        () = tasks.token().cancelled() => {}
    }
    let failure = tasks.failure();
    chain.stop().await;
    tasks.drain(DRAIN).await;
    failure.map_or(Ok(()), |failure| Err(Failure::from(super::exit::ENDED.because(failure)).told()))
}

/// Two chains shall never have the same first block by accident: what is signed for one would be valid on the other.
pub fn fresh_seed(context: &Context) -> [u8; 32] {
    let mut seed = [0; 32];
    context.entropy.fill(&mut seed);
    seed
}

fn given(args: &Args) -> Vec<Given> {
    let listen = args.listen.map(|listen| Given::new("--listen", "devnet.listen", &listen.to_string()));
    let block_ms = args.block_ms.map(|ms| Given::new("--block-ms", "devnet.block_ms", &ms.to_string()));
    listen.into_iter().chain(block_ms).collect()
}

/// Starts a devnet.
///
/// # Errors
/// When it cannot listen or its state cannot be used.
pub async fn start(options: Options, tasks: &Tasks, context: &Context) -> Result<devnet::Handle, Failure> {
    let started = devnet::start(options, tasks, Arc::clone(&context.clock)).await;
    started.map_err(|error| {
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(next) = source {
            detail.push_str(&format!(": {next}"));
            source = next.source();
        }
        error.code().because(detail).into()
    })
}

/// Ends when somebody asks the process to stop.
///
/// # Errors
/// When signals cannot be listened to.
pub fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        let failed = |source: std::io::Error| super::exit::ENDED.because(format!("cannot listen to signals: {source}"));
        signal(kind).map_err(failed)
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The wallet of the settings validates when it is there; otherwise a dev account does.
async fn prepare_for(context: &Context, configured: &Configured, url: &str) -> Result<Ground, Failure> {
    let settings = configured.settings();
    let wallet = context.wallet(settings)?;
    let dev = Keypair::from_uri(DEV_URI).map_err(|error| error.fault())?.account();
    let coldkey = wallet.coldkey_account().unwrap_or(dev);
    let hotkey = wallet.hotkey_account().unwrap_or(dev);
    Ok(prepare(url, settings.network.netuid, &coldkey, &hotkey).await?)
}

/// Makes sure that a devnet has the subnet and that the hotkey is a validator there. What is there stays.
///
/// # Errors
/// When it is no devnet, or does not answer.
pub async fn prepare(url: &str, netuid: u16, owner: &Account, validator: &Account) -> Result<Ground, Fault> {
    let client = Client::connect(ChainOptions::new(vec![url.to_owned()])).await.map_err(|error| error.fault())?;
    let controls = Controls::connect(url).await?;
    let metagraph = async {
        let head = client.best_head().await?;
        client.metagraph(netuid, head.hash).await
    };
    let neuron = match metagraph.await {
        Ok(metagraph) => metagraph.neuron(validator).cloned(),
        Err(Error::SubnetMissing { .. }) => {
            controls.create_subnet(netuid, owner).await?;
            None
        }
        Err(error) => return Err(error.fault()),
    };
    let is_ready = neuron.as_ref().is_some_and(|neuron| neuron.permit);
    if neuron.is_none() && validator != owner {
        controls.register(netuid, validator, owner).await?;
    }
    if !is_ready {
        controls.permit(netuid, validator).await?;
        // Whoever reads finalized state must find it there at once.
        controls.new_blocks(FINAL_BLOCKS).await?;
    }
    Ok(Ground { netuid, owner: *owner, validator: *validator })
}

/// The `dev_*` methods of a devnet.
#[derive(Debug, Clone)]
pub struct Controls {
    rpc: RpcClient,
}

#[derive(Deserialize)]
struct Created {
    netuid: u16,
}

impl Controls {
    /// Connects to the node at this address.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(url: &str) -> Result<Self, Fault> {
        let rpc = RpcClient::from_url(url).await;
        Ok(Self { rpc: rpc.map_err(|source| CONTROL_REFUSED.because(format!("{url}: {source}")))? })
    }

    async fn call<T: serde::de::DeserializeOwned>(&self, method: &str, params: RpcParams) -> Result<T, Fault> {
        let answer = self.rpc.request(method, params).await;
        answer.map_err(|source| CONTROL_REFUSED.because(format!("{method}: {source}")))
    }

    /// Creates a subnet with usable rules; the owner is its uid 0.
    ///
    /// # Errors
    /// When the number is taken.
    pub async fn create_subnet(&self, netuid: u16, owner: &Account) -> Result<u16, Fault> {
        let wanted = json!({
            "netuid": netuid,
            "owner": owner,
            "tempo": TEMPO_BLOCKS,
            "weights_set_rate_limit": 0,
            "commit_reveal": false,
            "burn": BURN_RAO,
            "min_burn": BURN_RAO,
        });
        Ok(self.call::<Created>("dev_createSubnet", rpc_params![wanted]).await?.netuid)
    }

    /// Registers a hotkey for nothing.
    ///
    /// # Errors
    /// When it is registered already.
    pub async fn register(&self, netuid: u16, hotkey: &Account, coldkey: &Account) -> Result<(), Fault> {
        self.call::<serde_json::Value>("dev_register", rpc_params![netuid, hotkey, coldkey]).await.map(drop)
    }

    /// Gives a registered hotkey a validator's permit and the stake for it.
    ///
    /// # Errors
    /// When it is not registered.
    pub async fn permit(&self, netuid: u16, hotkey: &Account) -> Result<(), Fault> {
        self.call::<serde_json::Value>("dev_setPermit", rpc_params![netuid, hotkey, true]).await.map(drop)
    }

    /// Gives an account funds.
    ///
    /// # Errors
    /// When the node is no devnet.
    pub async fn fund(&self, account: &Account, rao: u64) -> Result<(), Fault> {
        self.call::<serde_json::Value>("dev_fund", rpc_params![account, rao]).await.map(drop)
    }

    /// Makes blocks.
    ///
    /// # Errors
    /// When the node is no devnet.
    pub async fn new_blocks(&self, count: u32) -> Result<(), Fault> {
        self.call::<serde_json::Value>("dev_newBlock", rpc_params![count]).await.map(drop)
    }
}

fn announce(context: &Context, chain: &devnet::Handle, ground: Option<&Ground>) {
    let genesis = hex::encode(chain.genesis_hash());
    if context.json() {
        print_json(&json!({ "url": chain.url(), "genesis": genesis, "ground": ground }));
        return;
    }
    say(chain.url());
    note("this is a chain of your own, not Bittensor: its funds are worth nothing");
    note(format_args!("genesis {genesis}"));
    if let Some(ground) = ground {
        note(format_args!("subnet {} of {}, validator {}", ground.netuid, ground.owner, ground.validator));
    }
    note("stop it with Ctrl-C");
}

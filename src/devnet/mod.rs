//! The embedded devnet: a node that speaks the real Substrate JSON-RPC with subtensor's real metadata, checks real
//! signatures and enforces the real rules, on loopback only. It is not Bittensor.
//!
//! Owns the chain it makes and the port it listens on. Refuses to know the appliance: whoever uses it talks to it by
//! RPC. Only `cli/` starts it.

mod api;
mod beacon;
mod block;
mod blocks;
mod call;
mod chain;
mod datum;
mod extrinsic;
mod failures;
mod genesis;
mod hashing;
mod items;
pub mod limits;
mod log;
mod node;
mod pool;
mod rpc;
mod rules;
mod runtime;
mod state;
mod store;
#[cfg(test)]
mod testkit;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::net::TcpListener;

use crate::{
    actors::Tasks,
    clock::Clock,
    fault::{Class, Code},
};

/// When blocks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// One after each span of wall time.
    Interval {
        /// Wall milliseconds between two blocks, at least 1.
        ms: u64,
    },
    /// Only when `dev_newBlock` asks.
    Manual,
    /// As soon as an extrinsic is ready, followed by as many empty ones as it takes to make it final.
    Instant,
}

/// Whose recorded runtime a devnet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spec {
    /// Spec version 439, of the production profile.
    #[default]
    V439,
    /// Spec version 461, of a profile for fast blocks: a slot is 250 ms, a new subnet's tempo 10.
    V461,
}

impl Spec {
    /// The runtime of a spec version, if it was recorded.
    const fn of_version(version: u32) -> Option<Self> {
        match version {
            439 => Some(Self::V439),
            461 => Some(Self::V461),
            _ => None,
        }
    }
}

/// What a devnet is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; must be a loopback address. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// When blocks are made.
    pub blocks: Blocks,
    /// Blocks between the best and the last final one.
    pub finality_lag: u32,
    /// The file that keeps the chain, each block on disk before it is announced; none keeps it in memory.
    pub state: Option<PathBuf>,
    /// What the genesis hash and the beacon's key come from.
    pub seed: [u8; 32],
    /// Whether a stored chain keeps the seed that it was made with, whatever `seed` says; else it must be that one.
    pub keeps_seed: bool,
    /// Blocks whose state stays readable.
    pub state_blocks: u32,
    /// Chain time between two blocks.
    pub chain_block_ms: u64,
    /// Whose runtime it shows.
    pub spec: Spec,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            blocks: Blocks::Interval { ms: 250 },
            finality_lag: 2,
            state: None,
            seed: [0; 32],
            keeps_seed: false,
            state_blocks: limits::STATE_BLOCKS,
            chain_block_ms: 12_000,
            spec: Spec::V439,
        }
    }
}

/// Why a devnet does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The embedded metadata is not what the rules need.
    #[error("loading the embedded runtime")]
    Runtime(#[from] runtime::Error),
    /// The address is not a loopback one.
    #[error("the devnet listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The port cannot be had.
    #[error("listening on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state file cannot be used.
    #[error("opening the devnet's state")]
    Open(#[source] Box<log::OpenError>),
    /// Two methods have one name.
    #[error("registering the devnet's methods")]
    Methods(#[from] jsonrpsee::server::RegisterMethodError),
    /// A block could not be put on disk; the chain has stopped.
    #[error("the devnet has stopped: {0}")]
    Halted(String),
}

const ADDRESS: Code = Code::new(
    Class::Operator,
    "devnet_address",
    "the devnet cannot listen there",
    "give a free port on 127.0.0.1, or port 0 for any",
);
const STATE: Code = Code::new(
    Class::Operator,
    "devnet_state",
    "the devnet's state file cannot be used",
    "give the file of this devnet, with the same seed, that no other process uses; or a new file",
);
const HALTED: Code = Code::new(
    Class::Infra,
    "devnet_halted",
    "a block of the devnet could not be put on disk",
    "free some space or give another file for its state, and start again: it goes on after the last whole block",
);
const BROKEN: Code = Code::new(
    Class::Bug,
    "devnet_broken",
    "the devnet's embedded runtime is not what its rules need",
    "report this with the version of the program",
);

/// Every code of this room.
pub const CODES: &[Code] = &[ADDRESS, STATE, HALTED, BROKEN];

impl Error {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotLoopback(_) | Self::Listen { .. } => ADDRESS,
            Self::Open(_) => STATE,
            Self::Halted(_) => HALTED,
            Self::Runtime(_) | Self::Methods(_) => BROKEN,
        }
    }
}

/// A running devnet. Dropping it leaves the devnet running until its tasks are told to stop.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    genesis: [u8; 32],
    node: Arc<node::Node>,
}

impl Handle {
    /// Where it listens, for WebSocket clients; the same port answers HTTP POST.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The hash of its first block.
    #[must_use]
    pub const fn genesis_hash(&self) -> [u8; 32] {
        self.genesis
    }

    /// Makes no block above this number by itself. For whoever has the chain to itself and must not be outrun by it.
    pub fn hold_at(&self, number: u64) {
        self.node.hold_at(number);
    }

    /// Stops it: no more blocks, every connection is cut. Returns when the state is closed.
    pub async fn stop(self) {
        self.node.stop();
        self.node.stopped().await;
    }
}

/// Starts a devnet. Its tasks belong to `tasks` and end with them.
pub async fn start(options: Options, tasks: &Tasks, clock: Arc<dyn Clock>) -> Result<Handle, Error> {
    if !options.listen.ip().is_loopback() {
        return Err(Error::NotLoopback(options.listen));
    }
    let listen = |source| Error::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let runtime = Arc::new(runtime::Runtime::of(options.spec)?);
    let config = chain::Config {
        finality_lag: options.finality_lag,
        block_ms: options.chain_block_ms,
        seed: options.seed,
        keeps_seed: options.keeps_seed,
        state_blocks: options.state_blocks,
        beacon: true,
    };
    let chain = match &options.state {
        None => chain::Chain::new(runtime, config),
        Some(path) => {
            let opened = chain::Chain::open(runtime, config, path);
            let (chain, cut_bytes) = opened.map_err(|source| Error::Open(Box::new(source)))?;
            if cut_bytes > 0 {
                tracing::warn!(cut_bytes, "the devnet's state had a torn end; it was cut off");
            }
            chain
        }
    };
    let genesis = chain.genesis();
    let node = Arc::new(node::Node::new(chain, options.blocks, clock, tasks.token().child_token()));
    let methods = rpc::methods(&node)?;
    node.spawn(tasks, listener, methods);
    tracing::info!(%address, "devnet listens; it is not Bittensor");
    Ok(Handle { address, genesis, node })
}

#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

//! The chain's troubles, each made by a devnet's controls or by a line that misbehaves: they are noticed, they have a
//! name, and they are got over.

mod archive;
mod changes;
mod endpoints;
mod line;
mod reorg;
mod restart;
mod tls;
mod upgrade;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use subxt_rpcs::{RpcClient, client::RpcParams};
use waag::{
    actors::Tasks,
    chain::{Client, Keypair, Options},
    clock::{Clock, SystemClock, UnixMs},
    devnet::{self, Blocks},
};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Short, because some of these requests are never answered.
pub const TIMEOUT_MS: u64 = 700;
/// The chain time of the first block: the same on each of several nodes, which makes them nodes of one chain.
const FIRST_BLOCK_MS: u64 = 1_700_000_004_000;

/// A clock that jumps to the end of every wait.
#[derive(Default)]
pub struct Jumping(AtomicI64);

impl Jumping {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::default())
    }
}

#[async_trait::async_trait]
impl Clock for Jumping {
    fn now_ms(&self) -> UnixMs {
        self.0.load(Ordering::Relaxed)
    }

    async fn sleep(&self, duration: Duration) {
        self.0.fetch_add(i64::try_from(duration.as_millis()).expect("a short wait"), Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// A node whose blocks come when they are asked for. Nodes of one seed that are told the same have the same blocks.
pub struct Node {
    pub handle: devnet::Handle,
    tasks: Tasks,
}

impl Node {
    pub async fn new(seed: u8) -> Self {
        Self::with(devnet::Options { seed: [seed; 32], ..devnet::Options::default() }).await
    }

    /// A node that keeps the state of so many blocks.
    pub async fn keeping(seed: u8, state_blocks: u32) -> Self {
        Self::with(devnet::Options { seed: [seed; 32], state_blocks, ..devnet::Options::default() }).await
    }

    async fn with(options: devnet::Options) -> Self {
        let options = devnet::Options { blocks: Blocks::Manual, ..options };
        let tasks = Tasks::new();
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.expect("it starts");
        let node = Self { handle, tasks };
        node.control("dev_setTime", json!([FIRST_BLOCK_MS])).await;
        node
    }

    pub fn url(&self) -> String {
        self.handle.url()
    }

    pub async fn control(&self, method: &str, params: Value) -> Value {
        let mut given = RpcParams::new();
        params.as_array().expect("a list").iter().for_each(|param| given.push(param).expect("a value"));
        let rpc = RpcClient::from_insecure_url(self.url()).await.expect("it listens");
        rpc.request(method, given).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn blocks(&self, count: u32) {
        self.control("dev_newBlock", json!([count])).await;
    }

    pub async fn fail(&self, kind: &str, count: u32) {
        self.control("dev_failNext", json!([kind, count])).await;
    }

    /// A subnet of //Alice, without commit-reveal.
    pub async fn subnet(&self) -> u16 {
        let wanted = json!([{ "owner": account("//Alice"), "tempo": 10, "commit_reveal": false }]);
        let made = self.control("dev_createSubnet", wanted).await;
        u16::try_from(made["netuid"].as_u64().expect("a number")).expect("a netuid")
    }

    pub async fn end(self) {
        self.handle.stop().await;
        self.tasks.drain(PATIENCE).await;
    }
}

pub fn account(uri: &str) -> String {
    Keypair::from_uri(uri).expect("a key").account().to_string()
}

/// How the clients of these tests reach these endpoints.
pub fn options(endpoints: &[String]) -> Options {
    Options { request_timeout_ms: TIMEOUT_MS, clock: Jumping::shared(), ..Options::new(endpoints.to_vec()) }
}

pub async fn connect(endpoints: &[String]) -> Client {
    Client::connect(options(endpoints)).await.expect("it connects")
}

/// The end of something that must not last.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it ends soon")
}

//! How often a reader has to wait for the line: requests that do not depend on one another's answers go together.
//!
//! The node here answers nothing before everything that is expected in a flight has been asked, so that a client that
//! would wait in between never gets an answer at all.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use futures::channel::oneshot;
use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
    types::ErrorObjectOwned,
};
use serde_json::Value as Json;

use super::{
    Client, Error, Metagraph, Options,
    client_tests::{hotkey, subnet_of},
    scripted::{Changes, Scripted},
};
use crate::ids::Hotkey;

/// Milliseconds that a request may take, on a slow machine too: a client that waits where it need not fails after a few
/// of these.
const TIMEOUT_MS: u64 = 20_000;

const METHODS: [&str; 8] = [
    "chain_getBlockHash",
    "chain_getFinalizedHead",
    "chain_getHeader",
    "state_getRuntimeVersion",
    "state_getStorageHash",
    "state_call",
    "state_queryStorageAt",
    "state_getKeysPaged",
];

#[derive(Default)]
struct Flights {
    /// How many requests each coming flight has.
    planned: Vec<usize>,
    waiting: Vec<(String, oneshot::Sender<()>)>,
    done: Vec<Vec<String>>,
}

impl Flights {
    fn ask(&mut self, method: &str) -> oneshot::Receiver<()> {
        let (go, wait) = oneshot::channel();
        self.waiting.push((method.to_owned(), go));
        if self.planned.first() == Some(&self.waiting.len()) {
            self.planned.remove(0);
            let mut asked: Vec<String> = Vec::new();
            for (method, go) in self.waiting.drain(..) {
                asked.push(method);
                let _gone = go.send(());
            }
            asked.sort();
            self.done.push(asked);
        }
        wait
    }
}

/// A scripted chain behind a socket that answers in flights.
struct Node {
    chain: Scripted,
    flights: Arc<Mutex<Flights>>,
    url: String,
    _server: ServerHandle,
}

impl Node {
    async fn start() -> Self {
        let (chain, flights) = (Scripted::new(), Arc::<Mutex<Flights>>::default());
        let server = Server::builder().build("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let mut module = RpcModule::new((chain.clone(), Arc::clone(&flights)));
        for method in METHODS {
            module
                .register_async_method(method, move |params, context, _| async move {
                    let params: Vec<Json> = params.parse::<Option<_>>()?.unwrap_or_default();
                    let wait = context.1.lock().unwrap().ask(method);
                    wait.await.map_err(|_| ErrorObjectOwned::owned(1, "nobody waits any more", None::<()>))?;
                    let refused = |error| ErrorObjectOwned::owned(4003, format!("{error}"), None::<()>);
                    context.0.answer(method, &params).map_err(refused)
                })
                .unwrap();
        }
        Self { chain, flights, url, _server: server.start(module) }
    }

    async fn connect(&self, cache: &Path) -> Client {
        let options = Options::new(vec![self.url.clone()]);
        let options = Options { cache: Some(cache.to_owned()), request_timeout_ms: TIMEOUT_MS, ..options };
        Client::connect(options).await.expect("everything of the first flight was asked together")
    }

    fn plan(&self, flights: &[usize]) {
        *self.flights.lock().unwrap() = Flights { planned: flights.to_vec(), ..Flights::default() };
    }

    /// The flights that were flown, each with what was asked in it, in short.
    fn flown(&self) -> Vec<String> {
        let flights = self.flights.lock().unwrap();
        assert!(flights.planned.is_empty() && flights.waiting.is_empty(), "{:?}", flights.waiting);
        let short = |method: &String| {
            let (_, name) = method.split_once('_').unwrap();
            name.trim_start_matches("get").to_owned()
        };
        flights.done.iter().map(|asked| asked.iter().map(short).collect::<Vec<_>>().join(" ")).collect()
    }

    async fn read(&self, cache: &Path, flights: &[usize]) -> Result<(Client, Metagraph), Error> {
        self.plan(flights);
        let client = self.connect(cache).await;
        let metagraph = client.newest_metagraph(1).await?;
        Ok((client, metagraph))
    }
}

const OPENING: &str = "BlockHash FinalizedHead RuntimeVersion StorageHash";
const WARM: &str = "Header RuntimeVersion StorageHash queryStorageAt queryStorageAt queryStorageAt";

#[tokio::test]
async fn a_whole_metagraph_comes_in_two_flights_after_the_first_time() {
    let node = Node::start().await;
    let runtime = node.chain.runtime(439);
    node.chain.grow(subnet_of(&runtime, 1, 256), vec![]);
    node.chain.finalize(1);
    let dir = tempfile::tempdir().unwrap();

    let (_, first) = node.read(dir.path(), &[4, 2, 1, 3, 1]).await.unwrap();
    let cold =
        [OPENING, "RuntimeVersion StorageHash", "call", "Header queryStorageAt queryStorageAt", "queryStorageAt"];
    assert_eq!(node.flown(), cold);
    assert_eq!((first.neurons.len(), first.hash), (256, node.chain.head()));

    let (client, second) = node.read(dir.path(), &[4, 6]).await.unwrap();
    assert_eq!(node.flown(), [OPENING, WARM]);
    assert_eq!(first, second);
    // The genesis hash is asked once for each socket, and metadata not again at all.
    assert_eq!(node.chain.script().asked["chain_getBlockHash"], 2);
    assert_eq!(node.chain.script().asked["state_call"], 1);

    // A running client, at a new block: the head and what hangs from it.
    node.chain.finalize(1);
    node.plan(&[1, 6]);
    let third = client.newest_metagraph(1).await.unwrap();
    assert_eq!(node.flown(), ["FinalizedHead", WARM]);
    assert_eq!((third.block, third.neurons == first.neurons), (first.block + 1, true));
}

#[tokio::test]
async fn whoever_is_new_costs_one_more_flight_and_whoever_left_costs_none() {
    let node = Node::start().await;
    let runtime = node.chain.runtime(439);
    node.chain.grow(subnet_of(&runtime, 1, 8), vec![]);
    node.chain.finalize(1);
    let dir = tempfile::tempdir().unwrap();
    node.read(dir.path(), &[4, 2, 1, 3, 1]).await.unwrap();

    let newcomer = [0xaa; 32];
    let changes = Changes::new(&runtime)
        .subnet("Keys", (1_u16, 3_u16), newcomer)
        .subnet("Owner", (newcomer,), [7_u8; 32])
        .subnet("TotalHotkeyAlpha", (newcomer, 1_u16), 77_u64);
    node.chain.grow(changes.done(), vec![]);
    node.chain.finalize(0);
    let (_, read) = node.read(dir.path(), &[4, 6, 1]).await.unwrap();
    assert_eq!((read.neurons[3].hotkey, read.neurons[3].stake), (Hotkey(newcomer), 77));
    assert_eq!(read.uid_of(&Hotkey(hotkey(3))), None);
    let hotkeys: BTreeSet<Hotkey> = read.neurons.iter().map(|neuron| neuron.hotkey).collect();
    assert_eq!(hotkeys.len(), 8);
    // And the next one knows the newcomer.
    node.read(dir.path(), &[4, 6]).await.unwrap();
}

#[tokio::test]
async fn another_runtime_than_the_likely_one_is_never_read_by_it() {
    let node = Node::start().await;
    let runtime = node.chain.runtime(439);
    node.chain.grow(subnet_of(&runtime, 1, 3), vec![]);
    node.chain.finalize(1);
    let dir = tempfile::tempdir().unwrap();
    let (_, old) = node.read(dir.path(), &[4, 2, 1, 3, 1]).await.unwrap();

    // The newest block upgrades, and is not final: the kept runtime of that block is likely, and wrong.
    node.chain.grow(Default::default(), vec![]);
    let upgraded = node.chain.script().blocks.len() - 1;
    node.chain.script().blocks[upgraded].spec = 461;
    let head = node.chain.head();
    node.plan(&[4, 2, 1, 4]);
    let client = node.connect(dir.path()).await;
    client.metagraph(1, head).await.unwrap();
    assert_eq!(node.flown()[1..3], ["RuntimeVersion StorageHash", "call"], "461 is new");
    let (_, read) = node.read(dir.path(), &[4, 6, 1, 4]).await.unwrap();
    assert_eq!(read, old, "the final block is read by its own runtime");

    // Kept metadata is for the code that the chain names, not for a version that it claims to be.
    node.chain.script().finalized = upgraded;
    node.chain.answer_once("state_getStorageHash", Ok(serde_json::json!(null)));
    node.plan(&[4, 2, 4]);
    let read = node.connect(dir.path()).await.newest_metagraph(1).await.unwrap();
    assert_eq!((read.hash, node.flown()[1].as_str()), (head, "RuntimeVersion StorageHash"));
    let wrong = Ok(serde_json::json!(format!("0x{}", "ab".repeat(32))));
    node.plan(&[4, 6]);
    let client = node.connect(dir.path()).await;
    node.chain.answer_once("state_getStorageHash", wrong);
    let error = client.newest_metagraph(1).await.unwrap_err();
    assert_eq!(error.code().name, "chain_answer_invalid", "{error}");
}

#[tokio::test]
async fn nothing_is_believed_of_another_chain() {
    let node = Node::start().await;
    let dir = tempfile::tempdir().unwrap();
    node.plan(&[4]);
    let options = Options::new(vec![node.url.clone()]);
    let cache = Some(dir.path().join("cache"));
    let options = Options { cache, genesis: Some([1; 32]), request_timeout_ms: TIMEOUT_MS, ..options };
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!(error.code().name, "chain_wrong_network");
    assert_eq!(node.flown(), [OPENING]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is kept of it");
}

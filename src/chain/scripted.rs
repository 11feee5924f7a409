//! A chain that exists only in memory and does exactly what a test tells it: forks, forgetting, wrong answers.
//!
//! Owns blocks, state and the legacy RPC methods that the client uses, over real metadata. Refuses to execute
//! anything: tests plant state and events. It stands where production has a socket.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use parity_scale_codec::{Compact, Encode};
use serde_json::{Value as Json, json, value::RawValue};
use subxt::{ext::frame_decode::storage::IntoEncodableValues, utils::H256};
use subxt_rpcs::{
    Error as RpcError, RpcClient, UserError,
    client::{RawRpcFuture, RawRpcSubscription, RpcClientT},
};

use super::{
    Client,
    client::blake2_256,
    runtime::{Header, Item, Runtime},
};
use crate::{
    clock::{Clock, UnixMs},
    ids::Digest,
};

/// A clock that jumps to the end of every wait.
#[derive(Default)]
pub(super) struct Jumping(AtomicI64);

#[async_trait]
impl Clock for Jumping {
    fn now_ms(&self) -> UnixMs {
        self.0.load(Ordering::Relaxed)
    }

    async fn sleep(&self, duration: Duration) {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// A result, or an error's code and text.
pub(super) type Answer = Result<Json, (i32, &'static str)>;

pub(super) type State = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) struct Block {
    pub(super) header: Header,
    pub(super) hash: Digest,
    pub(super) body: Vec<Vec<u8>>,
    pub(super) state: State,
    /// The runtime after this block.
    pub(super) spec: u32,
}

/// What a test may change at any time.
#[derive(Default)]
pub(super) struct Script {
    /// The best chain, by number.
    pub(super) blocks: Vec<Block>,
    pub(super) finalized: usize,
    /// The state of blocks below this number is gone.
    pub(super) state_from: usize,
    /// Answers that are given once, before any other, by method: a changed result or an error code with its text.
    pub(super) next_answers: HashMap<&'static str, Vec<Answer>>,
    /// How often each method was asked.
    pub(super) asked: HashMap<String, usize>,
    pub(super) submitted: Vec<Vec<u8>>,
    heads: Vec<futures::channel::mpsc::UnboundedSender<Json>>,
}

#[derive(Clone)]
pub(super) struct Scripted {
    script: Arc<Mutex<Script>>,
    metadata: Arc<HashMap<u32, Vec<u8>>>,
}

impl Scripted {
    /// A chain of one block with runtime 439.
    pub(super) fn new() -> Self {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| std::fs::read(root.join(path)).unwrap();
        let metadata = HashMap::from([
            (439, read("assets/chain/subtensor-metadata-v439.scale")),
            (461, read("testdata/chain/subtensor-metadata-v461.scale")),
        ]);
        let chain = Self { script: Arc::default(), metadata: Arc::new(metadata) };
        chain.grow(State::new(), vec![]);
        chain
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        self.client_with(Arc::new(Jumping::default())).await
    }

    pub(super) async fn client_with(&self, clock: Arc<dyn Clock>) -> Client {
        Client::over(RpcClient::new(self.clone()), None, clock).await.unwrap()
    }

    pub(super) fn runtime(&self, spec: u32) -> Runtime {
        Runtime::new(&self.metadata[&spec], self.script().blocks[0].hash, spec, 1).unwrap()
    }

    /// Adds a block with these changes to the state, and returns its number.
    pub(super) fn grow(&self, changes: State, body: Vec<Vec<u8>>) -> u64 {
        let mut script = self.script();
        let number = script.blocks.len();
        let (parent, mut state, spec) = match script.blocks.last() {
            Some(last) => (last.hash, last.state.clone(), last.spec),
            None => (Digest([0; 32]), State::new(), 439),
        };
        // The state's hash makes two blocks of one height differ when their content does.
        state.extend(changes);
        let root = blake2_256(&(&state, &body).encode());
        let header = Header {
            parent_hash: H256(parent.0),
            number: number as u64,
            state_root: H256(root.0),
            extrinsics_root: H256([0; 32]),
            digest: Default::default(),
        };
        let hash = blake2_256(&header.encode());
        script.blocks.push(Block { header, hash, body, state, spec });
        number as u64
    }

    /// Adds empty blocks and finalizes all.
    pub(super) fn finalize(&self, more: usize) {
        for _ in 0..more {
            self.grow(State::new(), vec![]);
        }
        let mut script = self.script();
        script.finalized = script.blocks.len() - 1;
        let head = serde_json::to_value(&script.blocks[script.finalized].header).unwrap();
        script.heads.retain(|listener| listener.unbounded_send(head.clone()).is_ok());
    }

    /// Ends all subscriptions without a word.
    pub(super) fn hang_up(&self) {
        self.script().heads.clear();
    }

    pub(super) fn head(&self) -> Digest {
        self.script().blocks.last().unwrap().hash
    }

    /// Gives a wrong answer, or an error, to the next request of this method.
    pub(super) fn answer_once(&self, method: &'static str, answer: Answer) {
        self.script().next_answers.entry(method).or_default().push(answer);
    }

    fn at<'s>(&self, script: &'s Script, hash: &Json) -> Result<&'s Block, RpcError> {
        let Some(text) = hash.as_str() else { return Ok(script.blocks.last().unwrap()) };
        let wanted = text.trim_start_matches("0x");
        let found = script.blocks.iter().find(|block| block.hash.to_string() == wanted);
        found.ok_or_else(|| user(4003, &format!("Client error: UnknownBlock: Header was not found: {text}")))
    }

    fn state_at<'s>(&self, script: &'s Script, hash: &Json) -> Result<&'s Block, RpcError> {
        let block = self.at(script, hash)?;
        if (block.header.number as usize) < script.state_from {
            let text = format!("Api called for an unknown Block: State already discarded for 0x{}", block.hash);
            return Err(user(4003, &format!("Client error: {text}")));
        }
        Ok(block)
    }

    pub(super) fn answer(&self, method: &str, params: &[Json]) -> Result<Json, RpcError> {
        let mut script = self.script();
        *script.asked.entry(method.to_owned()).or_default() += 1;
        if let Some(planned) = script.next_answers.get_mut(method)
            && !planned.is_empty()
        {
            return planned.remove(0).map_err(|(code, text)| user(code, text));
        }
        let param = |place: usize| params.get(place).cloned().unwrap_or(Json::Null);
        let hash_text = |hash: Digest| json!(format!("0x{hash}"));
        Ok(match method {
            "chain_getBlockHash" => match param(0).as_u64() {
                Some(number) => script.blocks.get(number as usize).map_or(Json::Null, |block| hash_text(block.hash)),
                None => hash_text(script.blocks.last().unwrap().hash),
            },
            "chain_getFinalizedHead" => hash_text(script.blocks[script.finalized].hash),
            "chain_getHeader" => {
                self.at(&script, &param(0)).map_or(Json::Null, |block| serde_json::to_value(&block.header).unwrap())
            }
            "chain_getBlock" => {
                let block = self.at(&script, &param(0))?;
                let body: Vec<String> = block.body.iter().map(|bytes| hex_text(bytes)).collect();
                json!({"block": {"header": block.header, "extrinsics": body}, "justifications": null})
            }
            "state_getRuntimeVersion" => {
                json!({"specVersion": self.state_at(&script, &param(0))?.spec, "transactionVersion": 1})
            }
            "state_getStorageHash" => {
                assert_eq!(param(0), "0x3a636f6465", "the code, whose hash stands for the metadata here");
                let spec = self.state_at(&script, &param(1))?.spec;
                hash_text(blake2_256(&self.metadata[&spec]))
            }
            "state_call" => {
                let spec = self.state_at(&script, &param(2))?.spec;
                assert_eq!(param(0), "Metadata_metadata_at_version");
                json!(hex_text(&Some(&self.metadata[&spec]).encode()))
            }
            "state_queryStorageAt" => {
                let block = self.state_at(&script, &param(1))?;
                let keys: Vec<String> = serde_json::from_value(param(0)).unwrap();
                let value = |key: &String| block.state.get(&from_hex(key)).map(|value| hex_text(value));
                let changes: Vec<_> = keys.iter().map(|key| json!([key, value(key)])).collect();
                json!([{"block": hash_text(block.hash), "changes": changes}])
            }
            "state_getKeysPaged" => {
                let block = self.state_at(&script, &param(3))?;
                let prefix = from_hex(param(0).as_str().unwrap());
                let start = param(2).as_str().map_or_else(Vec::new, from_hex);
                let keys = block.state.keys().filter(|key| key.starts_with(&prefix) && **key > start);
                let page: Vec<String> =
                    keys.take(param(1).as_u64().unwrap() as usize).map(|key| hex_text(key)).collect();
                json!(page)
            }
            "system_accountNextIndex" => json!(7),
            "author_submitExtrinsic" => {
                let bytes = from_hex(param(0).as_str().unwrap());
                let hash = blake2_256(&bytes);
                script.submitted.push(bytes);
                hash_text(hash)
            }
            other => return Err(user(-32601, &format!("Method not found: {other}"))),
        })
    }
}

impl RpcClientT for Scripted {
    fn request_raw<'a>(&'a self, method: &'a str, params: Option<Box<RawValue>>) -> RawRpcFuture<'a, Box<RawValue>> {
        let params: Vec<Json> = params.map_or_else(Vec::new, |raw| serde_json::from_str(raw.get()).unwrap());
        let answer = self.answer(method, &params);
        async move { Ok(serde_json::value::to_raw_value(&answer?).unwrap()) }.boxed()
    }

    fn subscribe_raw<'a>(
        &'a self,
        sub: &'a str,
        _params: Option<Box<RawValue>>,
        _unsub: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        assert_eq!(sub, "chain_subscribeFinalizedHeads");
        let (listener, heads) = futures::channel::mpsc::unbounded();
        let mut script = self.script();
        *script.asked.entry(sub.to_owned()).or_default() += 1;
        script.heads.push(listener);
        drop(script);
        let stream = heads.map(|head| Ok(serde_json::value::to_raw_value(&head).unwrap())).boxed();
        async move { Ok(RawRpcSubscription { stream, id: Some("1".into()) }) }.boxed()
    }
}

fn user(code: i32, message: &str) -> RpcError {
    RpcError::User(UserError { code, message: message.to_owned(), data: None })
}

fn hex_text(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn from_hex(text: &str) -> Vec<u8> {
    hex::decode(text.trim_start_matches("0x")).unwrap()
}

/// Changes to a state, written by item.
pub(super) struct Changes<'r> {
    runtime: &'r Runtime,
    state: State,
}

impl<'r> Changes<'r> {
    pub(super) fn new(runtime: &'r Runtime) -> Self {
        Self { runtime, state: State::new() }
    }

    pub(super) fn set(mut self, item: Item, parts: impl IntoEncodableValues, value: impl Encode) -> Self {
        self.state.insert(self.runtime.key(item, parts).unwrap(), value.encode());
        self
    }

    pub(super) fn raw(mut self, item: Item, parts: impl IntoEncodableValues, value: Vec<u8>) -> Self {
        self.state.insert(self.runtime.key(item, parts).unwrap(), value);
        self
    }

    pub(super) fn subnet(self, name: &'static str, parts: impl IntoEncodableValues, value: impl Encode) -> Self {
        self.set(Item::subnet(name), parts, value)
    }

    pub(super) fn done(self) -> State {
        self.state
    }
}

/// One event record of an extrinsic: phase, event, no topics.
pub(super) fn record(extrinsic: u32, event: &[u8]) -> Vec<u8> {
    [&[0][..], &extrinsic.to_le_bytes(), event, &[0]].concat()
}

/// The value of `System.Events`.
pub(super) fn record_list(records: &[Vec<u8>]) -> Vec<u8> {
    [Compact(u32::try_from(records.len()).unwrap()).encode(), records.concat()].concat()
}

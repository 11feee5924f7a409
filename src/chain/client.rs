//! The client: blocks, and raw reads of many storage entries at one block.
//!
//! Owns the RPC connection, the known runtimes and the checks on what a node answers. `reads` and `sign` build on it
//! what the rest of the program asks for.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use blake2::{Blake2b, Digest as _, digest::consts::U32};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use parity_scale_codec::{Decode, Encode as _};
use scale_decode::DecodeAsType;
use subxt::{config::RpcConfigFor, ext::frame_decode::storage::IntoEncodableValues, utils::H256};
use subxt_rpcs::{LegacyRpcMethods, RpcClient, methods::legacy::RuntimeVersion};

use super::{
    error::Error,
    rpc::{CODE_KEY, Opening, Transport},
    runtime::{Header, Item, Runtime, Subtensor},
    shelf::Shelf,
};
use crate::{
    clock::{Clock, SystemClock},
    fault::Fault,
    ids::{Digest, Hotkey},
};

/// Wait for one request by default: public endpoints answer a large read in one or two seconds.
const REQUEST_TIMEOUT_MS: u64 = 20_000;
/// Storage keys of one request: an answer of 1024 entries stays below a megabyte for what we read, and all of what
/// hangs from the 256 hotkeys of a subnet comes at once.
const KEYS_PER_REQUEST: usize = 1024;
/// Requests of one batch that are under way together.
const REQUESTS_TOGETHER: usize = 4;
/// Storage keys of one page of a list: the most that a node hands out.
const KEYS_PER_PAGE: u32 = 1000;
/// Entries of one list: commitments of a subnet stay in state after their hotkey left, so far more than its 256 uids.
const LIST_ENTRIES_MAX: usize = 65_536;
/// Blocks whose runtime version is remembered: several readers work at the same few heads.
const REMEMBERED_BLOCKS: usize = 256;
/// How long what was asked for on connecting is news: less than a block.
const OPENING_MS: i64 = 5_000;
/// The metadata version that we read.
const METADATA_VERSION: u32 = 15;

/// How to reach a chain.
#[derive(Clone)]
pub struct Options {
    /// WebSocket addresses of nodes of one chain, the preferred one first.
    pub endpoints: Vec<String>,
    /// Addresses of nodes that keep all state, for reads of blocks whose state the others have discarded.
    pub archive: Vec<String>,
    /// How long one request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// The chain's genesis hash, when it is known already; without it the first endpoint's is taken.
    pub genesis: Option<[u8; 32]>,
    /// A folder for what the next process need not ask for again; without it nothing is kept.
    pub cache: Option<PathBuf>,
    /// Waits between tries.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The usual options for these endpoints.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            archive: Vec::new(),
            request_timeout_ms: REQUEST_TIMEOUT_MS,
            genesis: None,
            cache: None,
            clock: SystemClock::shared(),
        }
    }
}

/// A block by number and hash, with its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct BlockRef {
    /// Its height.
    pub number: u64,
    /// Its hash.
    pub hash: Digest,
    /// Its parent's hash.
    pub parent: Digest,
}

/// A connection to one chain. Cheap to clone; all clones share the sockets and what is known of the runtimes.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    methods: LegacyRpcMethods<RpcConfigFor<Subtensor>>,
    rpc: RpcClient,
    /// The sockets below, where there are any.
    transport: Option<Transport>,
    genesis: Digest,
    shelf: Option<Shelf>,
    clock: Arc<dyn Clock>,
    runtimes: Mutex<Runtimes>,
    /// Who was in the subnet that was last read whole.
    members: Mutex<Option<(u16, BTreeSet<Hotkey>)>>,
    /// Held while metadata is loaded, so that ten readers of a new runtime load it once.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Runtimes {
    known: Vec<Arc<Runtime>>,
    at: VecDeque<(Digest, Arc<Runtime>)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.inner.genesis.short())
    }
}

/// The values of some storage entries, in the order of their keys.
type Page = Vec<Option<Vec<u8>>>;

impl Client {
    /// Connects to a chain and checks that it is the expected one.
    ///
    /// # Errors
    /// When no endpoint answers, or it serves another chain.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let transport = Transport::new(
            &options.endpoints,
            &options.archive,
            options.request_timeout_ms,
            options.genesis.map(Digest),
            Arc::clone(&options.clock),
        )?;
        let method = "chain_getBlockHash";
        let genesis = transport.connect().await.map_err(|source| Error::from_rpc(method, source))?;
        let rpc = RpcClient::new(transport.clone());
        let shelf = options.cache.map(Shelf::new);
        Ok(Self::new(rpc, Some(transport), genesis, shelf, options.clock))
    }

    /// The same over any RPC connection, such as a simulated chain in this process.
    ///
    /// # Errors
    /// When the connection does not answer, or serves another chain than `genesis`.
    pub async fn over(rpc: RpcClient, genesis: Option<[u8; 32]>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let methods: LegacyRpcMethods<RpcConfigFor<Subtensor>> = LegacyRpcMethods::new(rpc.clone());
        let found = methods.genesis_hash().await.map_err(|source| Error::from_rpc("chain_getBlockHash", source))?;
        let found = Digest(found.0);
        if let Some(expected) = genesis.map(Digest).filter(|expected| *expected != found) {
            return Err(Error::WrongNetwork { expected, found });
        }
        Ok(Self::new(rpc, None, found, None, clock))
    }

    fn new(
        rpc: RpcClient,
        transport: Option<Transport>,
        genesis: Digest,
        shelf: Option<Shelf>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let methods = LegacyRpcMethods::new(rpc.clone());
        let runtimes = Mutex::new(Runtimes::default());
        let loading = tokio::sync::Mutex::new(());
        let members = Mutex::new(None);
        let inner = Inner { methods, rpc, transport, genesis, shelf, clock, runtimes, members, loading };
        Self { inner: Arc::new(inner) }
    }

    /// The hash of the chain's first block: its identity.
    #[must_use]
    pub fn genesis_hash(&self) -> [u8; 32] {
        self.inner.genesis.0
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub(super) fn methods(&self) -> &LegacyRpcMethods<RpcConfigFor<Subtensor>> {
        &self.inner.methods
    }

    pub(super) fn rpc(&self) -> &RpcClient {
        &self.inner.rpc
    }

    /// The newest block that can no longer be replaced. Facts about registration, permits and commitments are read
    /// here.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn finalized_head(&self) -> Result<BlockRef, Error> {
        self.block(self.finalized_hash().await?).await
    }

    /// The hash of the newest finalized block.
    pub(super) async fn finalized_hash(&self) -> Result<Digest, Error> {
        let method = "chain_getFinalizedHead";
        let hash = self.methods().chain_get_finalized_head().await.map_err(|source| Error::from_rpc(method, source))?;
        Ok(Digest(hash.0))
    }

    /// What the node said when it was connected to, if that was just now and nobody has asked for it yet.
    pub(super) async fn opening(&self) -> Option<Opening> {
        let opening = self.inner.transport.as_ref()?.opening().await?;
        (self.clock().now_ms().saturating_sub(opening.asked_ms) <= OPENING_MS).then_some(opening)
    }

    /// Whether there is an archive to ask.
    #[must_use]
    pub fn has_archive(&self) -> bool {
        self.inner.transport.as_ref().is_some_and(Transport::has_archive)
    }

    /// Why the archive could not be asked when it was last needed; `None` when it could, or was never needed.
    #[must_use]
    pub fn archive_trouble(&self) -> Option<Fault> {
        Some(self.inner.transport.as_ref()?.archive_trouble()?.fault())
    }

    /// Asks the archive for a sign of life, even where it has just given none.
    ///
    /// # Errors
    /// When there is none, or it gives none.
    pub async fn ask_archive(&self) -> Result<(), Error> {
        let method = "chain_getFinalizedHead";
        match &self.inner.transport {
            Some(transport) => transport.ask_archive(method).await.map_err(|source| Error::from_rpc(method, source)),
            None => Err(Error::Endpoint { endpoint: String::new() }),
        }
    }

    /// Changes over to an endpoint whose finalized head is above this one, if there is any; answers that head.
    pub(super) async fn find_newer(&self, than: Option<u64>) -> Option<u64> {
        match &self.inner.transport {
            Some(transport) => transport.find_newer(than).await,
            None => None,
        }
    }

    /// The newest block of all; it may still be replaced.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn best_head(&self) -> Result<BlockRef, Error> {
        let hash = self.hash_of(None).await?.ok_or_else(|| Error::answer("the best block", "there is none"))?;
        self.block(hash).await
    }

    /// The hash of the block with this number on the best chain; `None` when there is none yet.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn block_hash(&self, number: u64) -> Result<Option<Digest>, Error> {
        self.hash_of(Some(number)).await
    }

    async fn hash_of(&self, number: Option<u64>) -> Result<Option<Digest>, Error> {
        let answer = self.methods().chain_get_block_hash(number.map(Into::into)).await;
        let hash = answer.map_err(|source| Error::from_rpc("chain_getBlockHash", source))?;
        Ok(hash.map(|hash| Digest(hash.0)))
    }

    /// Number and parent of the block with this hash. The header must have that hash, whatever the node says.
    ///
    /// # Errors
    /// When the chain cannot be read or does not know the block.
    pub async fn block(&self, hash: Digest) -> Result<BlockRef, Error> {
        let answer = self.methods().chain_get_header(Some(H256(hash.0))).await;
        let header: Header = answer
            .map_err(|source| Error::from_rpc("chain_getHeader", source))?
            .ok_or_else(|| Error::UnknownBlock { block: hash.to_string() })?;
        let found = blake2_256(&header.encode());
        if found != hash {
            return Err(Error::answer(format!("the header of block {hash}"), format!("its hash is {found}")));
        }
        Ok(BlockRef { number: header.number, hash, parent: Digest(header.parent_hash.0) })
    }

    /// The block with this number, which must be there.
    pub(super) async fn block_at(&self, number: u64) -> Result<BlockRef, Error> {
        let hash = self.block_hash(number).await?;
        let hash = hash.ok_or_else(|| Error::UnknownBlock { block: number.to_string() })?;
        let block = self.block(hash).await?;
        if block.number != number {
            return Err(Error::answer(format!("block {number}"), format!("its number is {}", block.number)));
        }
        Ok(block)
    }

    /// The extrinsics of a block, each with its length prefix.
    pub(super) async fn body(&self, hash: Digest) -> Result<Vec<Vec<u8>>, Error> {
        let answer = self.methods().chain_get_block(Some(H256(hash.0))).await;
        let details = answer
            .map_err(|source| Error::from_rpc("chain_getBlock", source))?
            .ok_or_else(|| Error::UnknownBlock { block: hash.to_string() })?;
        Ok(details.block.extrinsics.into_iter().map(|extrinsic| extrinsic.0).collect())
    }

    /// The runtime that the state of this block belongs to, loaded when it is new.
    pub(super) async fn runtime_at(&self, hash: Digest) -> Result<Arc<Runtime>, Error> {
        if let Some(runtime) = self.remembered(hash) {
            return Ok(runtime);
        }
        // Together, where the code's name is going to be needed.
        let is_first = self.inner.shelf.is_some() && self.locked().known.is_empty();
        let code = async { if is_first { self.code_at(hash).await } else { None } };
        let (version, code) = futures::join!(self.methods().state_get_runtime_version(Some(H256(hash.0))), code);
        let version = version.map_err(|source| Error::from_rpc("state_getRuntimeVersion", source))?;
        let _turn = self.inner.loading.lock().await;
        let known = self.locked().known.iter().find(|known| known.spec_version == version.spec_version).cloned();
        let runtime = match known {
            Some(runtime) => runtime,
            None => self.learn(hash, &version, code).await?,
        };
        let mut runtimes = self.locked();
        runtimes.at.push_back((hash, Arc::clone(&runtime)));
        if runtimes.at.len() > REMEMBERED_BLOCKS {
            runtimes.at.pop_front();
        }
        Ok(runtime)
    }

    /// Learns a new runtime: what an earlier process kept of it when the chain names the same code, the chain's own
    /// metadata otherwise.
    async fn learn(&self, at: Digest, version: &RuntimeVersion, code: Option<Digest>) -> Result<Arc<Runtime>, Error> {
        let code = match (&self.inner.shelf, code) {
            (Some(_), None) => self.code_at(at).await,
            (_, code) => code,
        };
        if let Some(runtime) = code.and_then(|code| self.kept_runtime(version, code)) {
            return Ok(runtime);
        }
        let metadata = self.metadata_at(at).await?;
        let (spec, transaction) = (version.spec_version, version.transaction_version);
        let mut runtime = Runtime::new(&metadata, self.inner.genesis, spec, transaction)?;
        if let (Some(shelf), Some(code)) = (&self.inner.shelf, code) {
            shelf.keep_metadata(self.inner.genesis, spec, code, &metadata);
            runtime = runtime.of_code(code);
        }
        let runtime = Arc::new(runtime);
        self.locked().known.push(Arc::clone(&runtime));
        Ok(runtime)
    }

    /// The runtime with this code, if an earlier process kept its metadata.
    fn kept_runtime(&self, version: &RuntimeVersion, code: Digest) -> Option<Arc<Runtime>> {
        let (spec, transaction) = (version.spec_version, version.transaction_version);
        let metadata = self.inner.shelf.as_ref()?.metadata(self.inner.genesis, spec, code)?;
        let runtime = Runtime::new(&metadata, self.inner.genesis, spec, transaction).ok()?;
        let runtime = Arc::new(runtime.of_code(code));
        self.locked().known.push(Arc::clone(&runtime));
        Some(runtime)
    }

    /// The runtime that the newest blocks will have if nothing happens: the one of the last block that was read, or the
    /// one that the node named when it was connected to. What is read with it counts only when that proves right.
    pub(super) fn likely_runtime(&self, opening: Option<&Opening>) -> Option<Arc<Runtime>> {
        if let Some((_, runtime)) = self.locked().at.back() {
            return Some(Arc::clone(runtime));
        }
        let opening = opening?;
        self.kept_runtime(&opening.version, opening.code?)
    }

    /// The hash of the runtime's code in the state of a block; `None` where the node does not say.
    pub(super) async fn code_at(&self, at: Digest) -> Option<Digest> {
        let params = subxt_rpcs::rpc_params![CODE_KEY, H256(at.0)];
        let hash: Option<H256> = self.rpc().request("state_getStorageHash", params).await.ok()?;
        hash.map(|hash| Digest(hash.0))
    }

    /// Who is probably in a subnet: who was when it was last read.
    pub(super) fn members(&self, netuid: u16) -> BTreeSet<Hotkey> {
        let known = self.inner.members.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (known, &self.inner.shelf) {
            (Some((of, members)), _) if of == netuid => members,
            (_, Some(shelf)) => shelf.hotkeys(self.inner.genesis, netuid).into_iter().collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Remembers who is in a subnet. `before` is what was remembered.
    pub(super) fn remember_members(&self, netuid: u16, members: BTreeSet<Hotkey>, before: &BTreeSet<Hotkey>) {
        if let Some(shelf) = self.inner.shelf.as_ref().filter(|_| members != *before) {
            shelf.keep_hotkeys(self.inner.genesis, netuid, members.iter());
        }
        *self.inner.members.lock().unwrap_or_else(PoisonError::into_inner) = Some((netuid, members));
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Runtimes> {
        self.inner.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, hash: Digest) -> Option<Arc<Runtime>> {
        self.locked().at.iter().rev().find(|(at, _)| *at == hash).map(|(_, runtime)| Arc::clone(runtime))
    }

    async fn metadata_at(&self, hash: Digest) -> Result<Vec<u8>, Error> {
        let method = "Metadata_metadata_at_version";
        let bytes = self.runtime_call(method, &METADATA_VERSION.encode(), hash).await?;
        <Option<Vec<u8>>>::decode(&mut bytes.as_slice())
            .map_err(|source| Error::answer("the metadata", source))?
            .ok_or_else(|| Error::Missing { item: format!("metadata of version {METADATA_VERSION}"), spec_version: 0 })
    }

    /// Calls a function of the runtime on the state of a block.
    pub(super) async fn runtime_call(&self, method: &str, arguments: &[u8], at: Digest) -> Result<Vec<u8>, Error> {
        let answer = self.methods().state_call(method, Some(arguments), Some(H256(at.0))).await;
        answer.map_err(|source| Error::from_rpc(method, source))
    }

    /// The values of many storage entries at one block, in the order of their keys.
    pub(super) async fn read_many(&self, keys: &[Vec<u8>], at: Digest) -> Result<Vec<Option<Vec<u8>>>, Error> {
        // Boxed by name: the compiler cannot see that a closure's own futures may cross threads.
        let mut reads: Vec<BoxFuture<'_, Result<Page, Error>>> = Vec::new();
        for page in keys.chunks(KEYS_PER_REQUEST) {
            reads.push(Box::pin(self.read_page(page, at)));
        }
        let pages: Vec<Page> = stream::iter(reads).buffered(REQUESTS_TOGETHER).try_collect().await?;
        Ok(pages.into_iter().flatten().collect())
    }

    async fn read_page(&self, keys: &[Vec<u8>], at: Digest) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let method = "state_queryStorageAt";
        let answer = self.methods().state_query_storage_at(keys.iter().map(Vec::as_slice), Some(H256(at.0))).await;
        let sets = answer.map_err(|source| Error::from_rpc(method, source))?;
        let [set] = <[_; 1]>::try_from(sets).map_err(|sets| {
            Error::answer(format!("{} storage entries", keys.len()), format!("{} blocks answered", sets.len()))
        })?;
        // Every key must be answered for, in order: an entry left out would read as one that does not exist.
        let in_order = set.changes.len() == keys.len()
            && set.changes.iter().zip(keys).all(|((answered, _), asked)| answered.0 == *asked);
        if set.block.0 != at.0 || !in_order {
            return Err(Error::answer(format!("{} storage entries", keys.len()), "other entries were answered"));
        }
        Ok(set.changes.into_iter().map(|(_, value)| value.map(|bytes| bytes.0)).collect())
    }

    /// All storage keys that begin with the prefix at one block.
    pub(super) async fn list_keys(&self, prefix: &[u8], at: Digest) -> Result<Vec<Vec<u8>>, Error> {
        let method = "state_getKeysPaged";
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let start = keys.last().map(Vec::as_slice);
            let page = self.methods().state_get_keys_paged(prefix, KEYS_PER_PAGE, start, Some(H256(at.0))).await;
            let page = page.map_err(|source| Error::from_rpc(method, source))?;
            let is_last = page.is_empty();
            for key in page {
                // Ascending, so that a node that repeats itself cannot keep us here.
                if !key.starts_with(prefix) || keys.last().is_some_and(|last| *last >= key) {
                    return Err(Error::answer("a page of storage keys", "the keys are not in order"));
                }
                keys.push(key);
            }
            if is_last {
                return Ok(keys);
            }
            if keys.len() > LIST_ENTRIES_MAX {
                return Err(Error::answer("a list of storage keys", format!("more than {LIST_ENTRIES_MAX} entries")));
            }
        }
    }
}

/// Several storage entries of one block that are asked for together.
pub(super) struct Batch {
    runtime: Arc<Runtime>,
    at: Digest,
    keys: Vec<Vec<u8>>,
    items: Vec<Item>,
}

/// Where in a batch an entry stands.
#[derive(Clone, Copy)]
pub(super) struct Place(usize);

impl Batch {
    pub(super) async fn new(client: &Client, at: Digest) -> Result<Self, Error> {
        Ok(Self::of(client.runtime_at(at).await?, at))
    }

    /// A batch of a block whose runtime is known.
    pub(super) const fn of(runtime: Arc<Runtime>, at: Digest) -> Self {
        Self { runtime, at, keys: Vec::new(), items: Vec::new() }
    }

    /// Asks for one more entry.
    pub(super) fn add(&mut self, item: Item, parts: impl IntoEncodableValues) -> Result<Place, Error> {
        self.keys.push(self.runtime.key(item, parts)?);
        self.items.push(item);
        Ok(Place(self.items.len() - 1))
    }

    /// Asks for the entry with this key.
    pub(super) fn add_key(&mut self, item: Item, key: Vec<u8>) -> Place {
        self.keys.push(key);
        self.items.push(item);
        Place(self.items.len() - 1)
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Reads them all.
    pub(super) async fn read(self, client: &Client) -> Result<Values, Error> {
        let values = client.read_many(&self.keys, self.at).await?;
        Ok(Values { runtime: self.runtime, items: self.items, values })
    }
}

/// What a batch brought back.
pub(super) struct Values {
    runtime: Arc<Runtime>,
    items: Vec<Item>,
    values: Vec<Option<Vec<u8>>>,
}

impl Values {
    /// The value, or the chain's default for an absent entry, or `None` where there is no default.
    pub(super) fn get<T: DecodeAsType>(&self, place: Place) -> Result<Option<T>, Error> {
        self.runtime.value(self.items[place.0], self.values[place.0].as_deref())
    }

    /// The value of an entry that must have one.
    pub(super) fn need<T: DecodeAsType>(&self, place: Place) -> Result<T, Error> {
        self.get(place)?.ok_or_else(|| Error::answer(self.items[place.0].to_string(), "there is no value"))
    }

    /// The bytes of an entry as they are in state.
    pub(super) fn raw(&self, place: Place) -> Option<&[u8]> {
        self.values[place.0].as_deref()
    }

    /// The runtime of the block.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The value of an entry that is in state, without regard to defaults.
    pub(super) fn stored<T: DecodeAsType>(&self, place: Place) -> Result<Option<T>, Error> {
        if self.values[place.0].is_none() { Ok(None) } else { self.get(place) }
    }
}

/// The chain's hash.
pub(super) fn blake2_256(bytes: &[u8]) -> Digest {
    Digest(Blake2b::<U32>::digest(bytes).into())
}

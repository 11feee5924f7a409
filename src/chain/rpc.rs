//! The connection: several endpoints, one of them in use, each verified before its first answer is believed, and an
//! archive for the state that these have discarded.
//!
//! Owns sockets, time-outs, fail-over and the genesis check. Refuses to know what the requests mean. Only `client`
//! uses it, through subxt's `RpcClientT`, which is also where a simulated chain plugs in.
//!
//! A lost socket is replaced here rather than by a client that reconnects unseen, because a balancer may put us on
//! another chain: every new socket proves its genesis hash before it is used.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use subxt::ext::jsonrpsee::{
    core::client::{Client as Socket, Error as SocketError},
    ws_client::{PingConfig, WsClientBuilder},
};
use subxt_rpcs::{
    Error as RpcError,
    client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT},
    methods::legacy::RuntimeVersion,
};
use tracing::{debug, info, warn};

use super::{
    error::{DISCARDED, Error, INTERNAL, is_rate_limit},
    runtime::Header,
};
use crate::{clock::Clock, ids::Digest};

/// Endpoints of one chain: more than anybody lists by hand.
const ENDPOINTS_MAX: usize = 16;
/// Characters of an endpoint's address.
const ENDPOINT_CHARS: usize = 2048;
/// Bytes of one answer: a metadata answer is below 2 MiB, a page of state below 4 MiB; a larger one is an attack.
const ANSWER_BYTES: u32 = 32 * 1024 * 1024;
/// Bytes of one request: a page of storage keys is below 1 MiB.
const REQUEST_BYTES: u32 = 4 * 1024 * 1024;
/// Requests that one socket carries at a time.
const REQUESTS_AT_ONCE: usize = 64;
/// Unread notifications of one subscription: heads come every 12 s, so a reader this far behind is stuck.
const NOTIFICATIONS_KEPT: usize = 1024;
/// Tries of one request over all endpoints before its failure is reported; the callers repeat on their own terms.
const TRIES: usize = 4;
/// Wait before the second try; doubled for each further one.
const RETRY_MS: u64 = 100;
/// How long an archive that could not be asked is not asked again, in milliseconds.
const ARCHIVE_REST_MS: i64 = 30_000;
/// A socket that is silent this long is asked for a sign of life, so that a half-open one is found.
const PING_MS: u64 = 15_000;

/// Wait before a request is repeated on the only endpoint that refused it because there were too many; doubled too.
const RATE_LIMITED_WAIT_MS: u64 = 1_000;

/// The endpoints and the socket of each. Cheap to clone; all clones share the sockets.
#[derive(Clone)]
pub(super) struct Transport(Arc<Inner>);

struct Inner {
    nodes: Group,
    /// Where reads go whose state the nodes no longer keep; nothing else ever does.
    archive: Group,
    request_timeout_ms: u64,
    /// The one chain that this transport speaks to: given, or learned from the first socket.
    genesis: OnceLock<Digest>,
    /// The archive's last failure, until it answers.
    archive_down: Mutex<Option<Down>>,
    /// Whether the first socket is still to come, which is asked for an [`Opening`].
    is_new: AtomicBool,
    opening: Mutex<Option<BoxFuture<'static, Option<Opening>>>>,
    clock: Arc<dyn Clock>,
}

/// Why an archive cannot be asked, and when that was found.
struct Down {
    at_ms: i64,
    is_foreign: bool,
    detail: String,
}

impl Down {
    fn error(&self) -> Error {
        Error::Archive { is_foreign: self.is_foreign, detail: self.detail.clone() }
    }
}

/// What the first socket is asked in the same breath as for its genesis hash: what nearly everybody needs next. Nobody
/// hears of it unless the genesis hash was right.
#[derive(Debug)]
pub(super) struct Opening {
    /// The newest finalized block.
    pub(super) head: Digest,
    /// The runtime of the newest block.
    pub(super) version: RuntimeVersion,
    /// The hash of that runtime's code, where the node says it.
    pub(super) code: Option<Digest>,
    /// When it was asked for.
    pub(super) asked_ms: i64,
}

/// The storage key of the runtime's code.
pub(super) const CODE_KEY: &str = "0x3a636f6465";

/// Endpoints that stand for one another.
struct Group {
    endpoints: Vec<Endpoint>,
    /// The endpoint in use; it changes only when that one fails.
    current: AtomicUsize,
}

struct Endpoint {
    url: String,
    /// Held for a moment and never while anything is awaited: a request that waited its turn here and is not polled any
    /// more would keep everybody else waiting for ever.
    socket: Mutex<Option<Arc<Socket>>>,
    /// One connects, the others wait for it.
    connecting: tokio::sync::Mutex<()>,
}

impl Endpoint {
    fn slot(&self) -> MutexGuard<'_, Option<Arc<Socket>>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self) -> Option<Arc<Socket>> {
        self.slot().as_ref().filter(|socket| socket.is_connected()).map(Arc::clone)
    }

    /// Forgets a socket that failed.
    fn give_up(&self, failed: &Arc<Socket>) {
        let mut slot = self.slot();
        // Another request may have replaced it meanwhile; a fresh socket is not thrown away for an old failure.
        if slot.as_ref().is_some_and(|socket| Arc::ptr_eq(socket, failed)) {
            *slot = None;
        }
    }
}

impl Group {
    fn new(urls: &[String]) -> Result<Self, Error> {
        if urls.len() > ENDPOINTS_MAX {
            return Err(Error::Endpoint { endpoint: format!("a list of {} endpoints", urls.len()) });
        }
        let mut endpoints = Vec::new();
        for url in urls {
            let is_socket = url.starts_with("ws://") || url.starts_with("wss://");
            if !is_socket || url.len() > ENDPOINT_CHARS || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Error::Endpoint { endpoint: url.chars().take(80).collect() });
            }
            endpoints.push(Endpoint {
                url: url.clone(),
                socket: Mutex::new(None),
                connecting: tokio::sync::Mutex::new(()),
            });
        }
        Ok(Self { endpoints, current: AtomicUsize::new(0) })
    }

    fn names(&self) -> String {
        self.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    fn move_on(&self, place: usize) {
        let next = (place + 1) % self.endpoints.len();
        // Only the first of several requests that failed on the same endpoint moves the pointer.
        let _moved = self.current.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Transport {
    /// A transport over these endpoints, in order of preference. Nothing is connected yet.
    pub(super) fn new(
        endpoints: &[String],
        archive: &[String],
        request_timeout_ms: u64,
        genesis: Option<Digest>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (nodes, archive) = (Group::new(endpoints)?, Group::new(archive)?);
        if nodes.endpoints.is_empty() {
            return Err(Error::Endpoint { endpoint: String::new() });
        }
        let known = OnceLock::new();
        if let Some(genesis) = genesis {
            known.get_or_init(|| genesis);
        }
        let (is_new, opening) = (AtomicBool::new(true), Mutex::new(None));
        let archive_down = Mutex::new(None);
        let genesis = known;
        let inner = Inner { nodes, archive, request_timeout_ms, genesis, archive_down, is_new, opening, clock };
        Ok(Self(Arc::new(inner)))
    }

    pub(super) fn has_archive(&self) -> bool {
        !self.0.archive.endpoints.is_empty()
    }

    /// Why the archive could not be asked, if it has not answered since.
    pub(super) fn archive_trouble(&self) -> Option<Error> {
        self.0.down().as_ref().map(Down::error)
    }

    /// Asks the archive something, even while it rests.
    pub(super) async fn ask_archive(&self, method: &str) -> Result<(), RpcError> {
        if !self.has_archive() {
            return Err(RpcError::Client(Box::new(Error::Endpoint { endpoint: String::new() })));
        }
        *self.0.down() = None;
        self.0.request_archive(method, None).await.map(drop)
    }

    /// Connects to the first endpoint that serves the right chain; answers that chain's genesis hash.
    pub(super) async fn connect(&self) -> Result<Digest, RpcError> {
        let method = "chain_getBlockHash";
        self.0.carry(&self.0.nodes, method, |_socket| async { Ok(()) }.boxed()).await?;
        let unproven = || RpcError::Client(Box::new(Error::answer("the genesis hash", "nobody was asked for it")));
        self.0.genesis.get().copied().ok_or_else(unproven)
    }

    /// What the first socket was asked when it was opened; only once, because it ages.
    pub(super) async fn opening(&self) -> Option<Opening> {
        let asked = self.0.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked?.await
    }

    /// Looks for an endpoint whose finalized head is above this one, and uses it from now on. Answers that head.
    pub(super) async fn find_newer(&self, than: Option<u64>) -> Option<u64> {
        let nodes = &self.0.nodes;
        let stale = nodes.current();
        for place in (1..nodes.endpoints.len()).map(|step| (stale + step) % nodes.endpoints.len()) {
            let url = &nodes.endpoints[place].url;
            match self.0.head_of(nodes, place).await {
                Ok(head) if than.is_none_or(|than| head > than) => {
                    warn!(
                        from = nodes.endpoints[stale].url,
                        to = url,
                        head,
                        "the endpoint's head stands still; another one is used"
                    );
                    nodes.current.store(place, Ordering::Relaxed);
                    return Some(head);
                }
                Ok(head) => info!(url, head, "this endpoint knows no newer head either"),
                Err(error) => info!(url, %error, "this endpoint cannot say what is newest"),
            }
        }
        None
    }
}

impl Inner {
    /// The socket of an endpoint, newly opened and verified when there is none.
    async fn socket(&self, endpoint: &Endpoint) -> Result<Arc<Socket>, RpcError> {
        if let Some(socket) = endpoint.connected() {
            return Ok(socket);
        }
        let _turn = endpoint.connecting.lock().await;
        if let Some(socket) = endpoint.connected() {
            return Ok(socket);
        }
        *endpoint.slot() = None;
        let timeout = Duration::from_millis(self.request_timeout_ms);
        let ping = PingConfig::new()
            .ping_interval(Duration::from_millis(PING_MS))
            .inactive_limit(Duration::from_millis(PING_MS * 2));
        let socket = WsClientBuilder::new()
            .max_request_size(REQUEST_BYTES)
            .max_response_size(ANSWER_BYTES)
            .max_concurrent_requests(REQUESTS_AT_ONCE)
            .max_buffer_capacity_per_subscription(NOTIFICATIONS_KEPT)
            .request_timeout(timeout)
            .connection_timeout(timeout)
            .enable_ws_ping(ping)
            .build(&endpoint.url)
            .await
            .map_err(|source| RpcError::Client(Box::new(source)))?;
        let socket = Arc::new(socket);
        self.verify(&endpoint.url, &socket).await?;
        *endpoint.slot() = Some(Arc::clone(&socket));
        Ok(socket)
    }

    async fn verify(&self, url: &str, socket: &Arc<Socket>) -> Result<(), RpcError> {
        let genesis = ask::<_, String>(socket, "chain_getBlockHash", &[0]);
        // The first to be polled is the first to be sent.
        let (text, opening) = if self.is_new.swap(false, Ordering::Relaxed) {
            match select(genesis.boxed(), open(Arc::clone(socket), self.clock.now_ms()).boxed()).await {
                Either::Left((text, opening)) => (text, Some(opening)),
                Either::Right((opening, genesis)) => (genesis.await, Some(std::future::ready(opening).boxed())),
            }
        } else {
            (genesis.await, None)
        };
        let found: Digest = digest_of(&text?)
            .map_err(|source| RpcError::Client(Box::new(Error::answer("the genesis hash", source))))?;
        let expected = *self.genesis.get_or_init(|| found);
        if expected != found {
            return Err(RpcError::Client(Box::new(Error::WrongNetwork { expected, found })));
        }
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = opening;
        info!(url, genesis = %found.short(), "connected to the chain");
        Ok(())
    }

    /// The number of the newest finalized block of one endpoint.
    async fn head_of(&self, group: &Group, place: usize) -> Result<u64, RpcError> {
        let socket = self.socket(&group.endpoints[place]).await?;
        let hash: String = ask::<[u8; 0], _>(&socket, "chain_getFinalizedHead", &[]).await?;
        let header: Header = ask(&socket, "chain_getHeader", &[hash]).await?;
        Ok(header.number)
    }

    /// Runs one request on the endpoint in use, and on the others when that one fails or is too busy. Every request of
    /// this room may be repeated: reads have no effect, and a transaction that arrives twice is imported once.
    async fn carry<T>(
        &self,
        group: &Group,
        method: &str,
        ask: impl for<'a> Fn(&'a Socket) -> RawRpcFuture<'a, T>,
    ) -> Result<T, RpcError> {
        let is_alone = group.endpoints.len() == 1;
        let (mut wait_ms, mut attempt) = (RETRY_MS, 1);
        loop {
            let place = group.current();
            let endpoint = &group.endpoints[place];
            let failure = match self.socket(endpoint).await {
                Ok(socket) => match ask(&socket).await {
                    Err(error) if is_of_the_socket(&error) => {
                        endpoint.give_up(&socket);
                        error
                    }
                    Err(error) if is_momentary(&error) => error,
                    done => return done,
                },
                Err(error) if is_final(&error) && is_alone => return Err(error),
                Err(error) => error,
            };
            group.move_on(place);
            if attempt >= TRIES.max(group.endpoints.len()) {
                return Err(self.report(group, &endpoint.url, method, failure));
            }
            warn!(url = endpoint.url, method, attempt, error = %failure, "chain request failed; trying again");
            // Another endpoint has not been asked too often yet.
            let patience_ms = if is_alone && is_rate_limited(&failure) { RATE_LIMITED_WAIT_MS / RETRY_MS } else { 1 };
            self.clock.sleep(Duration::from_millis(wait_ms * patience_ms)).await;
            wait_ms *= 2;
            attempt += 1;
        }
    }

    fn down(&self) -> MutexGuard<'_, Option<Down>> {
        self.archive_down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the archive. One that cannot be asked is left alone for a while, so that whoever needs a thousand old
    /// blocks does not wait a thousand times for nothing.
    async fn request_archive(&self, method: &str, params: Option<&RawValue>) -> Result<Box<RawValue>, RpcError> {
        let rests = |down: &&Down| self.clock.now_ms().saturating_sub(down.at_ms) < ARCHIVE_REST_MS;
        if let Some(error) = self.down().as_ref().filter(rests).map(Down::error) {
            return Err(RpcError::Client(Box::new(error)));
        }
        match self.request(&self.archive, method, params).await {
            Err(error) if is_of_the_socket(&error) || is_momentary(&error) => {
                let is_foreign = is_final(&error);
                let detail = Error::from_rpc(method, error).fault().detail;
                let down = Down { at_ms: self.clock.now_ms(), is_foreign, detail };
                let error = down.error();
                *self.down() = Some(down);
                Err(RpcError::Client(Box::new(error)))
            }
            answer => {
                *self.down() = None;
                answer
            }
        }
    }

    /// The failure of the last try, in this room's words.
    fn report(&self, group: &Group, url: &str, method: &str, failure: RpcError) -> RpcError {
        let ours = match failure {
            RpcError::Client(source) if source.is::<Error>() => return RpcError::Client(source),
            RpcError::Client(source) if is_timeout(&*source) => {
                Error::Timeout { method: method.to_owned(), after_ms: self.request_timeout_ms }
            }
            RpcError::Client(source) => match certificate_trouble(&*source) {
                Some(detail) => Error::Certificate { endpoint: url.to_owned(), detail },
                None if is_too_many(&source.to_string()) => {
                    Error::RateLimited { method: method.to_owned(), message: source.to_string() }
                }
                None => Error::Unreachable { endpoints: group.names(), method: method.to_owned(), source },
            },
            other => return other,
        };
        RpcError::Client(Box::new(ours))
    }

    async fn request(&self, group: &Group, method: &str, params: Option<&RawValue>) -> Result<Box<RawValue>, RpcError> {
        // A time-out of our own besides the socket's: a request may also wait for a free place on the socket.
        let limit = Duration::from_millis(self.request_timeout_ms.saturating_mul(2));
        self.carry(group, method, |socket| {
            let (params, method) = (params.map(ToOwned::to_owned), method.to_owned());
            async move {
                match tokio::time::timeout(limit, socket.request_raw(&method, params)).await {
                    Ok(answer) => answer,
                    Err(_elapsed) => Err(RpcError::Client(Box::new(SocketError::RequestTimeout))),
                }
            }
            .boxed()
        })
        .await
    }
}

/// What is worth knowing of a chain at once; `None` when the node would not say.
async fn open(socket: Arc<Socket>, asked_ms: i64) -> Option<Opening> {
    let (head, version, code) = futures::join!(
        ask::<[u8; 0], String>(&socket, "chain_getFinalizedHead", &[]),
        ask::<[u8; 0], RuntimeVersion>(&socket, "state_getRuntimeVersion", &[]),
        ask::<_, Option<String>>(&socket, "state_getStorageHash", &[CODE_KEY]),
    );
    let code = code.ok().flatten().and_then(|text| digest_of(&text).ok());
    Some(Opening { head: digest_of(&head.ok()?).ok()?, version: version.ok()?, code, asked_ms })
}

fn digest_of(text: &str) -> Result<Digest, <Digest as std::str::FromStr>::Err> {
    text.trim_start_matches("0x").parse()
}

/// One request, read as JSON.
async fn ask<P: serde::Serialize, T: serde::de::DeserializeOwned>(
    socket: &Socket,
    method: &str,
    params: &[P],
) -> Result<T, RpcError> {
    let params = serde_json::value::to_raw_value(params).map_err(RpcError::Serialization)?;
    let answer = socket.request_raw(method, Some(params)).await?;
    serde_json::from_str(answer.get()).map_err(RpcError::Deserialization)
}

/// Whether the socket failed, as opposed to the node having answered something unwelcome.
fn is_of_the_socket(error: &RpcError) -> bool {
    matches!(error, RpcError::Client(_) | RpcError::DisconnectedWillReconnect(_))
}

/// Whether the node works and cannot answer just now: another one may.
fn is_momentary(error: &RpcError) -> bool {
    is_rate_limited(error) || matches!(error, RpcError::User(user) if user.code == INTERNAL)
}

fn is_rate_limited(error: &RpcError) -> bool {
    match error {
        RpcError::User(user) => is_rate_limit(user.code, &user.message),
        RpcError::Client(source) => is_too_many(&source.to_string()),
        _ => false,
    }
}

/// Whether a connection was refused because there were too many, as HTTP says it.
fn is_too_many(text: &str) -> bool {
    text.ends_with("status code: 429")
}

/// Whether a read was refused because the node no longer keeps the state of its block.
fn is_discarded(method: &str, error: &RpcError) -> bool {
    // Never what is signed: an archive is for reading.
    method.starts_with("state_")
        && matches!(error, RpcError::User(user) if {
            let data = user.data.as_ref().map(|data| data.get()).unwrap_or_default();
            user.message.contains(DISCARDED) || data.contains(DISCARDED)
        })
}

/// Whether trying again cannot help: the endpoint works and serves another chain.
fn is_final(error: &RpcError) -> bool {
    matches!(error, RpcError::Client(source)
        if matches!(source.downcast_ref::<Error>(), Some(Error::WrongNetwork { .. })))
}

fn is_timeout(source: &(dyn std::error::Error + 'static)) -> bool {
    matches!(source.downcast_ref::<SocketError>(), Some(SocketError::RequestTimeout))
}

/// What is wrong with an endpoint's certificate, if that is why there is no connection.
fn certificate_trouble(source: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(source);
    while let Some(error) = next {
        let text = error.to_string();
        if text.contains("certificate") {
            return Some(text);
        }
        next = error.source();
    }
    None
}

impl RpcClientT for Transport {
    fn request_raw<'a>(&'a self, method: &'a str, params: Option<Box<RawValue>>) -> RawRpcFuture<'a, Box<RawValue>> {
        async move {
            let answer = self.0.request(&self.0.nodes, method, params.as_deref()).await;
            match answer {
                Err(error) if is_discarded(method, &error) && !self.0.archive.endpoints.is_empty() => {
                    debug!(method, "the node no longer keeps that state; asking the archive");
                    self.0.request_archive(method, params.as_deref()).await
                }
                answer => answer,
            }
        }
        .boxed()
    }

    fn subscribe_raw<'a>(
        &'a self,
        sub: &'a str,
        params: Option<Box<RawValue>>,
        unsub: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        async move {
            self.0
                .carry(&self.0.nodes, sub, |socket| {
                    let (params, sub, unsub) = (params.clone(), sub.to_owned(), unsub.to_owned());
                    async move { socket.subscribe_raw(&sub, params, &unsub).await }.boxed()
                })
                .await
        }
        .boxed()
    }
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;

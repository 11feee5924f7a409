//! The connection: several endpoints, one of them in use, each verified before its first answer is believed.
//!
//! Owns sockets, time-outs, fail-over and the genesis check. Refuses to know what the requests mean. Only `client`
//! uses it, through subxt's `RpcClientT`, which is also where a simulated chain plugs in.
//!
//! A lost socket is replaced here rather than by a client that reconnects unseen, because a balancer may put us on
//! another chain: every new socket proves its genesis hash before it is used.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use subxt::ext::jsonrpsee::{
    core::client::{Client as Socket, Error as SocketError},
    ws_client::{PingConfig, WsClientBuilder},
};
use subxt_rpcs::{
    Error as RpcError,
    client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT},
};
use tracing::{info, warn};

use super::error::Error;
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
const TRIES: u32 = 4;
/// Wait before the second try; doubled for each further one.
const RETRY_MS: u64 = 100;
/// A socket that is silent this long is asked for a sign of life, so that a half-open one is found.
const PING_MS: u64 = 15_000;

/// The endpoints and the socket of each.
pub(super) struct Transport {
    endpoints: Vec<Endpoint>,
    /// The endpoint in use; it changes only when that one fails.
    current: AtomicUsize,
    request_timeout_ms: u64,
    /// The one chain that this transport speaks to: given, or learned from the first socket.
    genesis: OnceLock<Digest>,
    clock: Arc<dyn Clock>,
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
}

impl Transport {
    /// A transport over these endpoints, in order of preference. Nothing is connected yet.
    pub(super) fn new(
        endpoints: &[String],
        request_timeout_ms: u64,
        genesis: Option<Digest>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let mut checked = Vec::new();
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(Error::Endpoint { endpoint: format!("a list of {} endpoints", endpoints.len()) });
        }
        for url in endpoints {
            let is_socket = url.starts_with("ws://") || url.starts_with("wss://");
            if !is_socket || url.len() > ENDPOINT_CHARS || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Error::Endpoint { endpoint: url.chars().take(80).collect() });
            }
            checked.push(Endpoint {
                url: url.clone(),
                socket: Mutex::new(None),
                connecting: tokio::sync::Mutex::new(()),
            });
        }
        if checked.is_empty() {
            return Err(Error::Endpoint { endpoint: String::new() });
        }
        let known = OnceLock::new();
        if let Some(genesis) = genesis {
            known.get_or_init(|| genesis);
        }
        Ok(Self { endpoints: checked, current: AtomicUsize::new(0), request_timeout_ms, genesis: known, clock })
    }

    fn names(&self) -> String {
        self.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The socket of an endpoint, newly opened and verified when there is none.
    async fn socket(&self, place: usize) -> Result<Arc<Socket>, RpcError> {
        let endpoint = &self.endpoints[place];
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
        self.verify(&endpoint.url, &socket).await?;
        let socket = Arc::new(socket);
        *endpoint.slot() = Some(Arc::clone(&socket));
        Ok(socket)
    }

    async fn verify(&self, url: &str, socket: &Socket) -> Result<(), RpcError> {
        let params = serde_json::value::to_raw_value(&[0]).map_err(RpcError::Serialization)?;
        let answer = socket.request_raw("chain_getBlockHash", Some(params)).await?;
        let text: String = serde_json::from_str(answer.get()).map_err(RpcError::Deserialization)?;
        let found: Digest = text
            .trim_start_matches("0x")
            .parse()
            .map_err(|source| RpcError::Client(Box::new(Error::answer("the genesis hash", source))))?;
        let expected = *self.genesis.get_or_init(|| found);
        if expected != found {
            return Err(RpcError::Client(Box::new(Error::WrongNetwork { expected, found })));
        }
        info!(url, genesis = %found.short(), "connected to the chain");
        Ok(())
    }

    /// Forgets a socket that failed and moves on to the next endpoint.
    fn give_up(&self, place: usize, failed: &Arc<Socket>) {
        let mut slot = self.endpoints[place].slot();
        // Another request may have replaced it meanwhile; a fresh socket is not thrown away for an old failure.
        if slot.as_ref().is_some_and(|socket| Arc::ptr_eq(socket, failed)) {
            *slot = None;
        }
        drop(slot);
        self.move_on(place);
    }

    fn move_on(&self, place: usize) {
        let next = (place + 1) % self.endpoints.len();
        // Only the first of several requests that failed on the same endpoint moves the pointer.
        let _moved = self.current.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Runs one request on the endpoint in use, and on the others when that one fails. Every request of this room may
    /// be repeated: reads have no effect, and a transaction that arrives twice is imported once.
    async fn carry<T>(
        &self,
        method: &str,
        ask: impl for<'a> Fn(&'a Socket) -> RawRpcFuture<'a, T>,
    ) -> Result<T, RpcError> {
        let mut wait_ms = RETRY_MS;
        let mut attempt = 1;
        loop {
            let place = self.current.load(Ordering::Relaxed);
            let failure = match self.socket(place).await {
                Ok(socket) => match ask(&socket).await {
                    Err(error) if is_of_the_socket(&error) => {
                        self.give_up(place, &socket);
                        error
                    }
                    done => return done,
                },
                Err(error) if is_final(&error) && self.endpoints.len() == 1 => return Err(error),
                Err(error) => {
                    self.move_on(place);
                    error
                }
            };
            if attempt >= TRIES {
                return Err(self.report(method, failure));
            }
            warn!(url = self.endpoints[place].url, method, attempt, error = %failure, "chain request failed; trying again");
            attempt += 1;
            self.clock.sleep(Duration::from_millis(wait_ms)).await;
            wait_ms *= 2;
        }
    }

    /// The failure of the last try, in this room's words.
    fn report(&self, method: &str, failure: RpcError) -> RpcError {
        let ours = match failure {
            RpcError::Client(source) if source.is::<Error>() => return RpcError::Client(source),
            RpcError::Client(source) if is_timeout(&*source) => {
                Error::Timeout { method: method.to_owned(), after_ms: self.request_timeout_ms }
            }
            RpcError::Client(source) => {
                Error::Unreachable { endpoints: self.names(), method: method.to_owned(), source }
            }
            other => return other,
        };
        RpcError::Client(Box::new(ours))
    }
}

/// Whether the socket failed, as opposed to the node having answered something unwelcome.
fn is_of_the_socket(error: &RpcError) -> bool {
    matches!(error, RpcError::Client(_) | RpcError::DisconnectedWillReconnect(_))
}

/// Whether trying again cannot help: the endpoint works and serves another chain.
fn is_final(error: &RpcError) -> bool {
    matches!(error, RpcError::Client(source)
        if matches!(source.downcast_ref::<Error>(), Some(Error::WrongNetwork { .. })))
}

fn is_timeout(source: &(dyn std::error::Error + 'static)) -> bool {
    matches!(source.downcast_ref::<SocketError>(), Some(SocketError::RequestTimeout))
}

impl RpcClientT for Transport {
    fn request_raw<'a>(&'a self, method: &'a str, params: Option<Box<RawValue>>) -> RawRpcFuture<'a, Box<RawValue>> {
        async move {
            // A time-out of our own besides the socket's: a request may also wait for a free place on the socket.
            self.carry(method, |socket| {
                let params = params.clone();
                let method = method.to_owned();
                let limit = Duration::from_millis(self.request_timeout_ms.saturating_mul(2));
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
        .boxed()
    }

    fn subscribe_raw<'a>(
        &'a self,
        sub: &'a str,
        params: Option<Box<RawValue>>,
        unsub: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        async move {
            self.carry(sub, |socket| {
                let (params, sub, unsub) = (params.clone(), sub.to_owned(), unsub.to_owned());
                async move { socket.subscribe_raw(&sub, params, &unsub).await }.boxed()
            })
            .await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn transport(endpoints: &[&str]) -> Result<Transport, Error> {
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        Transport::new(&endpoints, 1_000, None, SystemClock::shared())
    }

    #[test]
    fn only_socket_addresses_are_endpoints() {
        for wrong in ["http://127.0.0.1:1", "", "ws://a b", "ws://a\n", &format!("ws://{}", "a".repeat(ENDPOINT_CHARS))]
        {
            assert_eq!(transport(&[wrong]).err().map(|error| error.code().name), Some("chain_endpoint_invalid"));
        }
        assert!(transport(&[]).is_err());
        assert!(transport(&["ws://a"; ENDPOINTS_MAX]).is_ok() && transport(&["ws://a"; ENDPOINTS_MAX + 1]).is_err());
        assert!(transport(&["ws://127.0.0.1:9944", "wss://archive.example:443"]).is_ok());
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_the_providers_trouble() {
        // Bound and dropped again: nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let transport = transport(&[&format!("ws://127.0.0.1:{port}")]).unwrap();
        let failure = transport.request_raw("chain_getFinalizedHead", None).await.unwrap_err();
        let error = Error::from_rpc("chain_getFinalizedHead", failure);
        assert_eq!(error.code().name, "chain_unreachable", "{error:?}");
        assert!(error.fault().detail.contains(&port.to_string()), "{}", error.fault());
    }

    #[tokio::test]
    async fn an_endpoint_that_never_answers_times_out() {
        // Accepts connections into its backlog and never speaks.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let transport = transport(&[&format!("ws://{}", silent.local_addr().unwrap())]).unwrap();
        let failure = transport.request_raw("chain_getFinalizedHead", None).await.unwrap_err();
        let error = Error::from_rpc("chain_getFinalizedHead", failure);
        assert_eq!(error.fault().class, crate::fault::Class::Provider, "{error:?}");
    }

    /// A node that knows one method besides its genesis hash.
    async fn node(genesis: u8, name: &'static str, address: &str) -> (jsonrpsee::server::ServerHandle, String) {
        let server = jsonrpsee::server::Server::builder().build(address).await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let mut methods = jsonrpsee::RpcModule::new(());
        let hash = format!("0x{}", hex::encode([genesis; 32]));
        methods.register_method("chain_getBlockHash", move |_, (), _| hash.clone()).unwrap();
        methods.register_method("system_name", move |_, (), _| name).unwrap();
        (server.start(methods), url)
    }

    async fn name_of(transport: &Transport) -> Result<String, Error> {
        let answer = transport.request_raw("system_name", None).await;
        let answer = answer.map_err(|source| Error::from_rpc("system_name", source))?;
        Ok(serde_json::from_str(answer.get()).unwrap())
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_replaced_by_the_next() {
        let (first, first_url) = node(1, "first", "127.0.0.1:0").await;
        let (_second, second_url) = node(1, "second", "127.0.0.1:0").await;
        let transport = transport(&[&first_url, &second_url]).unwrap();
        assert_eq!(name_of(&transport).await.unwrap(), "first");
        first.stop().unwrap();
        first.stopped().await;
        assert_eq!(name_of(&transport).await.unwrap(), "second");
        // An RPC error is an answer: it moves nothing.
        let error = transport.request_raw("nonsense", None).await.unwrap_err();
        assert_eq!(Error::from_rpc("nonsense", error).code().name, "chain_rpc_refused");
        assert_eq!(name_of(&transport).await.unwrap(), "second");
    }

    #[tokio::test]
    async fn a_lost_socket_is_replaced_and_verified_again() {
        let (server, url) = node(1, "first", "127.0.0.1:0").await;
        let transport = transport(&[&url]).unwrap();
        assert_eq!(name_of(&transport).await.unwrap(), "first");
        server.stop().unwrap();
        server.stopped().await;
        let address = url.trim_start_matches("ws://").to_owned();
        let (server, _) = node(1, "again", &address).await;
        assert_eq!(name_of(&transport).await.unwrap(), "again");
        server.stop().unwrap();
        server.stopped().await;
        // Another chain came up behind the same address.
        let (_server, _) = node(2, "other", &address).await;
        assert_eq!(name_of(&transport).await.unwrap_err().code().name, "chain_wrong_network");
    }

    #[tokio::test]
    async fn an_endpoint_of_another_chain_is_passed_over() {
        let (_wrong, wrong_url) = node(2, "wrong", "127.0.0.1:0").await;
        let (_right, right_url) = node(1, "right", "127.0.0.1:0").await;
        let endpoints = [wrong_url, right_url];
        let genesis = Some(Digest([1; 32]));
        let transport = Transport::new(&endpoints, 2_000, genesis, SystemClock::shared()).unwrap();
        assert_eq!(name_of(&transport).await.unwrap(), "right");
    }
}

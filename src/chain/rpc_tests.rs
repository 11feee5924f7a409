//! The transport against nodes that fail in every way that one can.

use super::*;
use crate::clock::SystemClock;

fn transport(endpoints: &[&str]) -> Result<Transport, Error> {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    Transport::new(&endpoints, &[], 1_000, None, SystemClock::shared())
}

#[test]
fn only_socket_addresses_are_endpoints() {
    for wrong in ["http://127.0.0.1:1", "", "ws://a b", "ws://a\n", &format!("ws://{}", "a".repeat(ENDPOINT_CHARS))] {
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
    let transport = Transport::new(&endpoints, &[], 2_000, genesis, SystemClock::shared()).unwrap();
    assert_eq!(name_of(&transport).await.unwrap(), "right");
}

#[tokio::test]
async fn an_archive_that_cannot_be_asked_is_left_alone_for_a_while() {
    let serve = async |code: i32, message: &'static str| {
        let server = jsonrpsee::server::Server::builder().build("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let asked = Arc::<AtomicUsize>::default();
        let mut methods = jsonrpsee::RpcModule::new(Arc::clone(&asked));
        let hash = format!("0x{}", hex::encode([1; 32]));
        methods.register_method("chain_getBlockHash", move |_, _, _| hash.clone()).unwrap();
        methods
            .register_method("state_getStorage", move |_, asked, _| -> Result<(), jsonrpsee::types::ErrorObjectOwned> {
                asked.fetch_add(1, Ordering::Relaxed);
                Err(jsonrpsee::types::ErrorObjectOwned::owned(code, message, None::<()>))
            })
            .unwrap();
        (server.start(methods), url, asked)
    };
    let (_node, node, _) = serve(4003, "State already discarded for 0xab").await;
    let (_archive, archive, asked) = serve(INTERNAL, "the disk is on fire").await;
    let clock: Arc<dyn Clock> = Arc::<crate::chain::scripted::Jumping>::default();
    let transport = Transport::new(&[node], &[archive], 2_000, None, Arc::clone(&clock)).unwrap();
    let read = async || {
        let failure = transport.request_raw("state_getStorage", None).await.unwrap_err();
        let error = Error::from_rpc("state_getStorage", failure);
        assert!(matches!(error, Error::Archive { is_foreign: false, .. }), "{error:?}");
        assert!(error.to_string().contains("the disk is on fire"), "{error}");
        asked.load(Ordering::Relaxed)
    };
    assert_eq!(read().await, TRIES);
    assert_eq!(read().await, TRIES, "it is not asked once for each block");
    clock.sleep(Duration::from_millis(ARCHIVE_REST_MS as u64)).await;
    assert_eq!(read().await, 2 * TRIES);
    assert!(transport.archive_trouble().is_some());
}

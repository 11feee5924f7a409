//! The devnet's port against those who mean no good or know no better: many, long, deep, wrong and half.

use std::time::Duration;

use serde_json::json;
use subxt_signer::sr25519::dev;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    limits,
    testkit::{self, call_bytes},
    tests::{PATIENCE, Running},
};

const MIB: usize = 1024 * 1024;

async fn socket(devnet: &Running) -> TcpStream {
    TcpStream::connect(devnet.handle.url().trim_start_matches("ws://")).await.unwrap()
}

/// Sends a request over plain HTTP and reads what comes back, however it ends.
async fn post(devnet: &Running, claimed: usize, body: &[u8]) -> String {
    let mut stream = socket(devnet).await;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {claimed}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let _refused_early = stream.write_all(body).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    let _reset = read.await.expect("an answer, or the end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn call(method: &str, params: &serde_json::Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string().into_bytes()
}

#[tokio::test]
async fn a_thousand_connections_are_served_and_more_are_closed() {
    let devnet = Running::manual().await;
    let upgrade = b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..1000 {
        let mut stream = socket(&devnet).await;
        stream.write_all(upgrade).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        open.push(stream);
    }
    assert!(devnet.call("system_name", json!([])).await.is_string());
    // Up to the limit they are taken, above it they end at once; nobody else suffers.
    for _ in open.len()..limits::CONNECTIONS + 8 {
        open.push(socket(&devnet).await);
    }
    let mut last = open.pop().unwrap();
    let ended = tokio::time::timeout(PATIENCE, last.read(&mut [0; 1])).await.expect("the end of the connection");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(devnet.call("system_name", json!([])).await.is_string());
    drop(open);
    devnet.end().await;
}

#[tokio::test]
async fn half_a_request_keeps_nobody_waiting() {
    let devnet = Running::manual().await;
    let mut halves = Vec::new();
    for part in [&b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: web"[..], b"POST / HTTP/1.1\r\ncontent-length: 50\r\n\r\n{"] {
        for _ in 0..50 {
            let mut stream = socket(&devnet).await;
            stream.write_all(part).await.unwrap();
            halves.push(stream);
        }
    }
    let body = call("system_name", &json!([]));
    assert!(post(&devnet, body.len(), &body).await.contains("Waag"));
    devnet.call("dev_newBlock", json!([3])).await;
    drop(halves);
    devnet.end().await;
}

#[tokio::test]
async fn sixty_four_mib_are_refused_before_they_are_read() {
    let devnet = Running::manual().await;
    let refused = post(&devnet, 64 * MIB, b"{").await;
    assert!(!refused.contains("result"), "{refused:.200}");
    // A frame of that length, of which the first bytes are enough to refuse it.
    let mut stream = socket(&devnet).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").await.unwrap();
    let mut frame = vec![0x81, 0xff];
    frame.extend((64 * MIB as u64).to_be_bytes());
    frame.resize(frame.len() + 4 + MIB, 0);
    for _ in 0..64 {
        // It may be cut in the middle, which is as good.
        if stream.write_all(&frame).await.is_err() {
            break;
        }
        frame = vec![0; MIB];
    }
    assert!(devnet.call("system_name", json!([])).await.is_string());
    devnet.end().await;
}

#[tokio::test]
async fn an_address_of_a_mebibyte_costs_no_time() {
    let devnet = Running::manual().await;
    let long = "5".repeat(MIB);
    for (method, params) in [
        ("account_nextIndex", json!([long])),
        ("system_accountNextIndex", json!([long])),
        ("dev_fund", json!([long, 1])),
        ("dev_register", json!([1, long, long])),
        ("dev_setPermit", json!([1, long, true])),
        ("dev_createSubnet", json!([{ "owner": long }])),
    ] {
        let refused = tokio::time::timeout(Duration::from_secs(20), devnet.try_call(method, params)).await;
        assert!(refused.expect("a quick answer").is_err(), "{method}");
    }
    devnet.end().await;
}

#[tokio::test]
async fn mutated_extrinsics_do_not_get_in_over_http_either() {
    let devnet = Running::manual().await;
    let chain = testkit::chain();
    let remark = call_bytes(chain.runtime(), "System", "remark", vec![super::datum::Datum::Bytes(vec![1, 2, 3])]);
    let genesis = devnet.handle.genesis_hash();
    let good = super::extrinsic::sign(chain.runtime(), &genesis, &dev::alice(), &remark, 0, None);
    let submit = async |bytes: &[u8]| {
        let body = call("author_submitExtrinsic", &json!([super::hashing::hex0x(bytes)]));
        post(&devnet, body.len(), &body).await
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x21;
        let answer = submit(&bad).await;
        assert!(answer.contains("error"), "byte {at} changed: {answer}");
    }
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        assert!(submit(&good[..cut]).await.contains("error"), "cut at {cut}");
    }
    assert!(submit(&good).await.contains("result"));
    devnet.end().await;
}

#[tokio::test]
async fn the_next_index_counts_what_is_ready_and_no_more() {
    let devnet = Running::manual().await;
    let chain = testkit::chain();
    let genesis = devnet.handle.genesis_hash();
    let alice = testkit::key_of(&dev::alice());
    let remark = call_bytes(chain.runtime(), "System", "remark", vec![super::datum::Datum::Bytes(vec![1])]);
    let submit = async |nonce: u32| {
        let signed = super::extrinsic::sign(chain.runtime(), &genesis, &dev::alice(), &remark, nonce, None);
        devnet.call("author_submitExtrinsic", json!([super::hashing::hex0x(&signed)])).await;
    };
    let next = async || devnet.call("account_nextIndex", json!([super::hashing::hex0x(&alice)])).await;
    assert_eq!(next().await, 0);
    submit(0).await;
    submit(1).await;
    assert_eq!(next().await, 2);
    // These wait for the one that is missing.
    submit(3).await;
    submit(4).await;
    assert_eq!(next().await, 2);
    devnet.call("dev_newBlock", json!([1])).await;
    assert_eq!(next().await, 2);
    assert_eq!(devnet.call("author_pendingExtrinsics", json!([])).await.as_array().unwrap().len(), 2);
    submit(2).await;
    assert_eq!(next().await, 5);
    devnet.call("dev_newBlock", json!([1])).await;
    assert_eq!((next().await, devnet.call("author_pendingExtrinsics", json!([])).await), (json!(5), json!([])));
    devnet.end().await;
}

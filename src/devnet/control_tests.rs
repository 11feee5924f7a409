//! The controls over the real socket: forks, failures on request, real pulses.

use std::time::Duration;

use serde_json::{Value as Json, json};
use subxt::rpcs::{RpcClient, client::rpc_params};
use subxt_signer::sr25519::dev;

use super::{
    hashing::hex0x,
    runtime::Runtime,
    testkit::{call_bytes, key_of},
    tests::{PATIENCE, Running},
};

/// Long enough for any answer that is to come, short enough to wait for one that is not.
const SILENCE: Duration = Duration::from_millis(300);

/// A transfer of //Dave's.
fn extrinsic(devnet: &Running, nonce: u32) -> String {
    use super::datum::Datum;
    let runtime = Runtime::embedded().unwrap();
    let to = Datum::tuple("Id", vec![Datum::account(&key_of(&dev::eve()))]);
    let call = call_bytes(&runtime, "Balances", "transfer_keep_alive", vec![to, Datum::Num(1_000)]);
    let genesis = devnet.handle.genesis_hash();
    hex0x(&super::extrinsic::sign(&runtime, &genesis, &dev::dave(), &call, nonce, None))
}

async fn pending(devnet: &Running) -> usize {
    devnet.call("author_pendingExtrinsics", json!([])).await.as_array().unwrap().len()
}

#[tokio::test]
async fn a_fork_is_told_to_those_who_follow_and_leaves_final_blocks_alone() {
    let devnet = Running::manual().await;
    devnet.call("dev_newBlock", json!([5])).await;
    let mut heads = devnet
        .rpc
        .subscribe::<Json>("chain_subscribeNewHeads", rpc_params![], "chain_unsubscribeNewHeads")
        .await
        .unwrap();
    let mut next = async || -> Json {
        let head = tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut heads)).await.expect("a head");
        head.unwrap().unwrap()["number"].clone()
    };
    assert_eq!(next().await, "0x5");
    let (fifth, third) =
        (devnet.call("chain_getBlockHash", json!([5])).await, devnet.call("chain_getBlockHash", json!([3])).await);
    let last = devnet.call("dev_reorg", json!([2])).await;
    assert_eq!([next().await, next().await, next().await], ["0x4", "0x5", "0x6"]);
    assert_eq!(devnet.call("chain_getBlockHash", json!([])).await, last);
    assert_ne!(devnet.call("chain_getBlockHash", json!([5])).await, fifth);
    assert_eq!(devnet.call("chain_getBlockHash", json!([3])).await, third);
    assert_eq!(devnet.call("chain_getHeader", json!([fifth])).await, Json::Null);
    let read = devnet.try_call("state_getStorage", json!(["0x00", fifth])).await;
    assert!(read.unwrap_err().to_string().contains("UnknownBlock"));
    assert!(devnet.try_call("dev_reorg", json!([3])).await.is_err());
    drop(heads);
    devnet.end().await;
}

#[tokio::test]
async fn submissions_fail_in_the_ways_that_are_asked_for() {
    let devnet = Running::manual().await;
    let unknown = devnet.try_call("dev_failNext", json!(["weather"])).await;
    assert!(unknown.unwrap_err().to_string().contains("submit_refused"));
    devnet.call("dev_failNext", json!(["submit_refused"])).await;
    let refused = devnet.try_call("author_submitExtrinsic", json!([extrinsic(&devnet, 0)])).await;
    assert!(refused.unwrap_err().to_string().contains("Invalid Transaction"));
    devnet.call("dev_failNext", json!(["submit_lost"])).await;
    let hash = devnet.call("author_submitExtrinsic", json!([extrinsic(&devnet, 0)])).await;
    assert!(hash.is_string());
    assert_eq!(pending(&devnet).await, 0);
    devnet.call("dev_failNext", json!(["submit_unanswered"])).await;
    let second = RpcClient::from_insecure_url(devnet.handle.url()).await.unwrap();
    let params = rpc_params![extrinsic(&devnet, 0)];
    let cut = tokio::time::timeout(PATIENCE, second.request::<Json>("author_submitExtrinsic", params)).await;
    assert!(cut.expect("the connection ends").is_err());
    let third = RpcClient::from_insecure_url(devnet.handle.url()).await.unwrap();
    let waiting: Json = third.request("author_pendingExtrinsics", rpc_params![]).await.unwrap();
    assert_eq!(waiting.as_array().unwrap().len(), 1);
    drop((second, third));
    devnet.end().await;
}

#[tokio::test]
async fn requests_fail_in_the_ways_that_are_asked_for_and_controls_never_do() {
    let devnet = Running::manual().await;
    for (kind, says) in [("rate_limited", "RPC rate limit exceeded"), ("request_failed", "Internal error")] {
        devnet.call("dev_failNext", json!([kind, 2])).await;
        devnet.call("dev_newBlock", json!([1])).await;
        for _ in 0..2 {
            let refused = devnet.try_call("system_chain", json!([])).await;
            assert!(refused.unwrap_err().to_string().contains(says), "{kind}");
        }
        devnet.call("system_chain", json!([])).await;
    }
    devnet.call("dev_failNext", json!(["state_discarded"])).await;
    devnet.call("state_getRuntimeVersion", json!([])).await;
    let gone = devnet.try_call("state_getStorage", json!(["0x00"])).await;
    assert!(gone.unwrap_err().to_string().contains("State already discarded for"));
    devnet.call("dev_failNext", json!(["request_unanswered"])).await;
    let silent = devnet.rpc.request::<Json>("system_chain", rpc_params![]);
    assert!(tokio::time::timeout(SILENCE, silent).await.is_err());
    devnet.call("system_chain", json!([])).await;
    devnet.call("dev_failNext", json!(["rate_limited", 5])).await;
    devnet.call("dev_failNext", json!(["rate_limited", 0])).await;
    devnet.call("system_chain", json!([])).await;
    devnet.end().await;
}

#[tokio::test]
async fn only_real_pulses_can_be_injected() {
    let recorded: Json = serde_json::from_str(include_str!("../../testdata/chain/timelock.json")).unwrap();
    let signature = recorded["sealed"][0]["signature"].as_str().unwrap();
    let devnet = Running::manual().await;
    assert!(devnet.try_call("dev_injectPulse", json!([1001, signature])).await.is_err());
    assert!(devnet.try_call("dev_injectPulse", json!([0, signature])).await.is_err());
    devnet.call("dev_injectPulse", json!([1000, signature])).await;
    let last = devnet.call("state_getKeysPaged", json!(["0x", 1000])).await;
    let pulses = last.as_array().unwrap().iter().filter(|key| key.as_str().unwrap().ends_with("e803000000000000"));
    assert_eq!(pulses.count(), 1);
    devnet.end().await;
}

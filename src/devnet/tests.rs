//! The devnet over its real socket, with a client that others wrote.

use std::time::Duration;

use serde_json::{Value as Json, json};
use subxt::{
    OnlineClient, PolkadotConfig,
    backend::LegacyBackend,
    dynamic::{self, Value},
    rpcs::{RpcClient, client::RpcParams},
};
use subxt_signer::sr25519::{Keypair, dev};

use super::{Blocks, Error, Handle, Options, start};
use crate::{actors::Tasks, clock::SystemClock};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Running {
    tasks: Tasks,
    pub handle: Handle,
    pub rpc: RpcClient,
}

impl Running {
    pub async fn new(options: Options) -> Self {
        let tasks = Tasks::new();
        let handle = start(options, &tasks, SystemClock::shared()).await.unwrap();
        let rpc = RpcClient::from_insecure_url(handle.url()).await.unwrap();
        Self { tasks, handle, rpc }
    }

    pub async fn manual() -> Self {
        Self::new(Options { blocks: Blocks::Manual, ..Options::default() }).await
    }

    pub async fn try_call(&self, method: &str, params: Json) -> Result<Json, subxt::rpcs::Error> {
        let mut given = RpcParams::new();
        for param in params.as_array().unwrap() {
            given.push(param).unwrap();
        }
        tokio::time::timeout(PATIENCE, self.rpc.request(method, given)).await.expect("an answer")
    }

    pub async fn call(&self, method: &str, params: Json) -> Json {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn client(&self) -> OnlineClient<PolkadotConfig> {
        let backend: LegacyBackend<PolkadotConfig> = LegacyBackend::builder().build(self.rpc.clone());
        OnlineClient::from_backend(std::sync::Arc::new(backend)).await.unwrap()
    }

    pub async fn end(self) {
        let Self { tasks, handle, rpc } = self;
        drop(rpc);
        handle.stop().await;
        assert_eq!(tasks.drain(PATIENCE).await, Vec::<&str>::new());
        assert_eq!(tasks.failure(), None);
    }
}

fn address(pair: &Keypair) -> String {
    pair.public_key().to_account_id().to_string()
}

fn subnet() -> Json {
    json!([{
        "owner": address(&dev::alice()), "tempo": 20, "weights_set_rate_limit": 0, "commit_reveal": false,
        "min_allowed_weights": 1, "burn": 1_000_000_000, "min_burn": 500_000,
    }])
}

async fn submit(
    client: &OnlineClient<PolkadotConfig>,
    pair: &Keypair,
    pallet: &str,
    call: &str,
    fields: Vec<Value>,
) -> Result<(), String> {
    let payload = dynamic::transaction(pallet, call, fields);
    let progress = client.tx().await.unwrap().sign_and_submit_then_watch_default(&payload, pair).await;
    let progress = progress.map_err(|error| format!("{error:?}"))?;
    let ended = tokio::time::timeout(PATIENCE, progress.wait_for_finalized_success()).await.expect("finality");
    ended.map(|_events| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_strangers_client_registers_commits_and_sets_weights() {
    let devnet = Running::new(Options { blocks: Blocks::Interval { ms: 20 }, ..Options::default() }).await;
    let netuid = devnet.call("dev_createSubnet", subnet()).await["netuid"].as_u64().unwrap() as u16;
    assert_eq!(netuid, 1);
    let client = devnet.client().await;
    assert_eq!(client.genesis_hash().0, devnet.handle.genesis_hash());
    let hotkey = dev::charlie();
    let hotkey_value = Value::from_bytes(hotkey.public_key().0);
    let register = vec![Value::u128(netuid.into()), hotkey_value.clone()];
    submit(&client, &dev::bob(), "SubtensorModule", "burned_register", register.clone()).await.unwrap();
    let again = submit(&client, &dev::bob(), "SubtensorModule", "burned_register", register).await;
    assert!(again.unwrap_err().contains("HotKeyAlreadyRegisteredInSubNet"));

    let field = Value::unnamed_variant("Raw5", [Value::from_bytes(b"hello")]);
    let info = Value::named_composite([("fields", Value::unnamed_composite([field]))]);
    submit(&client, &hotkey, "Commitments", "set_commitment", vec![Value::u128(1), info.clone()]).await.unwrap();
    let stranger = submit(&client, &dev::dave(), "Commitments", "set_commitment", vec![Value::u128(1), info]).await;
    assert!(stranger.unwrap_err().contains("AccountNotAllowedCommit"));

    devnet.call("dev_setPermit", json!([netuid, address(&hotkey), true])).await;
    let numbers = |values: [u128; 2]| Value::unnamed_composite(values.map(Value::u128));
    let arguments = vec![Value::u128(1), Value::u128(0), numbers([0, 1]), numbers([1, 3]), Value::u128(0)];
    submit(&client, &hotkey, "SubtensorModule", "set_mechanism_weights", arguments).await.unwrap();

    let at = client.at_current_block().await.unwrap();
    let address = dynamic::storage::<(u16, u16), Vec<(u16, u16)>>("SubtensorModule", "Weights");
    let row = at.storage().fetch(address, (1, 1)).await.unwrap().decode().unwrap();
    assert_eq!(row, [(0, 21_845), (1, 65_535)]);
    let address = dynamic::storage::<(u16, [u8; 32]), Value>("Commitments", "CommitmentOf");
    let stored = at.storage().fetch(address, (1_u16, hotkey.public_key().0)).await.unwrap().decode().unwrap();
    assert!(stored.to_string().contains("Raw5"), "{stored}");
    devnet.end().await;
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let everywhere = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    let refused = start(everywhere, &Tasks::new(), SystemClock::shared()).await;
    assert!(matches!(refused, Err(Error::NotLoopback(_))));
}

#[tokio::test]
async fn a_taken_port_is_an_error_with_a_code() {
    let devnet = Running::manual().await;
    let taken = devnet.handle.url().trim_start_matches("ws://").parse().unwrap();
    let refused = start(Options { listen: taken, ..Options::default() }, &Tasks::new(), SystemClock::shared()).await;
    assert_eq!(refused.unwrap_err().code().name, "devnet_address");
    devnet.end().await;
}

fn hex_of(json: &Json) -> String {
    json.as_str().expect("a string").to_owned()
}

#[tokio::test]
async fn the_list_of_methods_decides_which_paths_clients_take() {
    let devnet = Running::manual().await;
    let listed = devnet.call("rpc_methods", json!([])).await;
    let names: Vec<&str> = listed["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for wanted in [
        "account_nextIndex",
        "author_pendingExtrinsics",
        "author_submitAndWatchExtrinsic",
        "author_submitExtrinsic",
        "author_unwatchExtrinsic",
        "chainSpec_v1_genesisHash",
        "chain_getBlock",
        "chain_getBlockHash",
        "chain_getFinalisedHead",
        "chain_getFinalizedHead",
        "chain_getHead",
        "chain_getHeader",
        "chain_getRuntimeVersion",
        "chain_subscribeAllHeads",
        "chain_subscribeFinalizedHeads",
        "chain_subscribeNewHeads",
        "chain_unsubscribeAllHeads",
        "chain_unsubscribeFinalizedHeads",
        "chain_unsubscribeNewHeads",
        "dev_newBlock",
        "payment_queryInfo",
        "rpc_methods",
        "state_call",
        "state_getKeys",
        "state_getKeysPaged",
        "state_getKeysPagedAt",
        "state_getMetadata",
        "state_getRuntimeVersion",
        "state_getStorage",
        "state_getStorageAt",
        "state_getStorageHash",
        "state_getStorageSize",
        "state_queryStorageAt",
        "state_subscribeRuntimeVersion",
        "state_subscribeStorage",
        "state_unsubscribeRuntimeVersion",
        "state_unsubscribeStorage",
        "system_accountNextIndex",
        "system_chain",
        "system_chainType",
        "system_health",
        "system_name",
        "system_properties",
        "system_version",
    ] {
        assert!(names.contains(&wanted), "{wanted}");
    }
    assert!(!names.iter().any(|name| name.starts_with("chainHead_") || name.starts_with("archive_")));
    devnet.end().await;
}

#[tokio::test]
async fn heads_hashes_and_blocks_are_one_story() {
    let devnet = Running::manual().await;
    let best = devnet.call("dev_newBlock", json!([5])).await;
    assert_eq!(devnet.call("chain_getBlockHash", json!([])).await, best);
    assert_eq!(devnet.call("chain_getBlockHash", json!([5])).await, best);
    assert_eq!(devnet.call("chain_getBlockHash", json!(["0x5"])).await, best);
    assert_eq!(devnet.call("chain_getBlockHash", json!([6])).await, Json::Null);
    assert_eq!(devnet.call("chain_getBlockHash", json!([[5, 6]])).await, json!([best, null]));
    let third = devnet.call("chain_getBlockHash", json!([3])).await;
    assert_eq!(devnet.call("chain_getFinalizedHead", json!([])).await, third);
    let header = devnet.call("chain_getHeader", json!([best])).await;
    assert_eq!(
        (&header["number"], &header["parentHash"]),
        (&json!("0x5"), &devnet.call("chain_getBlockHash", json!([4])).await)
    );
    let block = devnet.call("chain_getBlock", json!([])).await;
    assert_eq!((&block["block"]["header"], block["block"]["extrinsics"].as_array().unwrap().len()), (&header, 1));
    assert_eq!(devnet.call("chain_getHeader", json!([format!("0x{}", "11".repeat(32))])).await, Json::Null);
    devnet.end().await;
}

#[tokio::test]
async fn storage_is_read_with_and_without_prefix_and_at_any_kept_block() {
    let devnet = Running::manual().await;
    // System.Number
    let key = "0x26aa394eea5630e07c48ae0c9558cef702a5c1b19ab7a04f536c519aca4983ac";
    devnet.call("dev_newBlock", json!([3])).await;
    let first = hex_of(&devnet.call("chain_getBlockHash", json!([1])).await);
    assert_eq!(devnet.call("state_getStorage", json!([key])).await, "0x03000000");
    assert_eq!(devnet.call("state_getStorageAt", json!([&key[2..], null])).await, "0x03000000");
    assert_eq!(devnet.call("state_getStorage", json!([key, first])).await, "0x01000000");
    assert_eq!(devnet.call("state_getStorageSize", json!([key])).await, 4);
    assert_eq!(devnet.call("state_getStorage", json!(["0x1234"])).await, Json::Null);
    let asked = devnet.call("state_queryStorageAt", json!([["0x12", key], first])).await;
    assert_eq!(asked, json!([{ "block": first, "changes": [["0x12", null], [key, "0x01000000"]] }]));
    let unknown = devnet.try_call("state_getStorage", json!([key, format!("0x{}", "11".repeat(32))])).await;
    assert!(unknown.unwrap_err().to_string().contains("UnknownBlock"));
    let kept = super::limits::STATE_BLOCKS;
    devnet.call("dev_newBlock", json!([kept - 2])).await;
    assert_eq!(devnet.call("state_getStorage", json!([key, first])).await, "0x01000000");
    devnet.call("dev_newBlock", json!([1])).await;
    let gone = devnet.try_call("state_getStorage", json!([key, first])).await.unwrap_err().to_string();
    assert!(
        gone.contains(&format!("Client error: Api called for an unknown Block: State already discarded for {first}")),
        "{gone}"
    );
    devnet.end().await;
}

#[tokio::test]
async fn keys_come_in_pages_after_an_exclusive_start() {
    let devnet = Running::manual().await;
    // System.Account of the six accounts with money.
    let prefix = "0x26aa394eea5630e07c48ae0c9558cef7b99d880ec681799c0cf30e8886371da9";
    let all = devnet.call("state_getKeys", json!([prefix])).await;
    assert_eq!(all.as_array().unwrap().len(), 6);
    for start in [Json::Null, json!(prefix)] {
        let page = devnet.call("state_getKeysPaged", json!([prefix, 4, start])).await;
        assert_eq!(page.as_array().unwrap(), &all.as_array().unwrap()[..4]);
    }
    let rest = devnet.call("state_getKeysPagedAt", json!([prefix, 100, all[3], null])).await;
    assert_eq!(rest.as_array().unwrap(), &all.as_array().unwrap()[4..]);
    assert!(devnet.try_call("state_getKeysPaged", json!([prefix, 1001])).await.is_err());
    devnet.end().await;
}

#[tokio::test]
async fn subscribers_hear_of_new_final_and_changed_things() {
    let devnet = Running::manual().await;
    let number = "0x26aa394eea5630e07c48ae0c9558cef702a5c1b19ab7a04f536c519aca4983ac";
    let subscribe = async |start: &str, params: Json, end: &str| {
        let mut given = RpcParams::new();
        params.as_array().unwrap().iter().for_each(|param| given.push(param).unwrap());
        devnet.rpc.subscribe::<Json>(start, given, end).await.unwrap()
    };
    let mut best = subscribe("chain_subscribeNewHeads", json!([]), "chain_unsubscribeNewHeads").await;
    let mut last = subscribe("chain_subscribeFinalizedHeads", json!([]), "chain_unsubscribeFinalizedHeads").await;
    let mut storage = subscribe("state_subscribeStorage", json!([[number]]), "state_unsubscribeStorage").await;
    let mut version = subscribe("state_subscribeRuntimeVersion", json!([]), "state_unsubscribeRuntimeVersion").await;
    devnet.call("dev_newBlock", json!([4])).await;
    for height in 0..=4 {
        assert_eq!(best.next().await.unwrap().unwrap()["number"], format!("{height:#x}"));
    }
    for height in 0..=2 {
        assert_eq!(last.next().await.unwrap().unwrap()["number"], format!("{height:#x}"));
    }
    for value in [Json::Null, json!("0x01000000"), json!("0x02000000")] {
        assert_eq!(storage.next().await.unwrap().unwrap()["changes"], json!([[number, value]]));
    }
    assert_eq!(version.next().await.unwrap().unwrap()["specVersion"], 439);
    devnet.end().await;
}

#[tokio::test]
async fn an_instant_chain_makes_what_is_submitted_final_without_being_asked() {
    let devnet = Running::new(Options { blocks: Blocks::Instant, ..Options::default() }).await;
    let client = devnet.client().await;
    let to = Value::unnamed_variant("Id", [Value::from_bytes(dev::bob().public_key().0)]);
    let fields = vec![to, Value::u128(1_000_000)];
    submit(&client, &dev::alice(), "Balances", "transfer_keep_alive", fields).await.unwrap();
    let head = devnet.call("chain_getHeader", json!([])).await;
    assert_eq!(head["number"], "0x3");
    devnet.end().await;
}

#[tokio::test]
async fn controls_change_what_they_say_and_refuse_nonsense() {
    let devnet = Running::manual().await;
    devnet.call("dev_createSubnet", subnet()).await;
    let taken = json!([{ "owner": address(&dev::alice()), "netuid": 1 }]);
    for (method, params, why) in [
        ("dev_createSubnet", taken, "taken"),
        ("dev_createSubnet", json!([{ "owner": "nobody" }]), "account"),
        ("dev_createSubnet", json!([{ "owner": address(&dev::alice()), "tempi": 3 }]), "tempi"),
        ("dev_setHyperparameter", json!([1, "tempi", 3]), "no such hyperparameter"),
        ("dev_setHyperparameter", json!([9, "tempo", 3]), "no subnet 9"),
        ("dev_setHyperparameter", json!([1, "tempo", 70_000]), "does not fit"),
        ("dev_register", json!([9, address(&dev::bob()), address(&dev::bob())]), "no subnet 9"),
        ("dev_register", json!([1, address(&dev::alice()), address(&dev::bob())]), "registered already"),
        ("dev_setPermit", json!([1, address(&dev::bob()), true]), "not registered"),
        ("dev_setStorage", json!(["0x1234", "0x00"]), "32 bytes"),
        ("dev_newBlock", json!([0]), "blocks at once"),
        ("dev_fund", json!(["x".repeat(1 << 20), 1]), "account"),
    ] {
        let refused = devnet.try_call(method, params.clone()).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{method} {params:.80}: {refused}");
    }
    let head = devnet.call("chain_getHeader", json!([])).await;
    assert_eq!(head["number"], "0x1", "what was refused made no block");
    // SubtensorModule.Tempo of subnet 1.
    let key = "0x658faa385070e074c85bf6b568cf05557641384bb339f3758acddfd7053d33170100";
    devnet.call("dev_setHyperparameter", json!([1, "tempo", 99])).await;
    assert_eq!(devnet.call("state_getStorage", json!([key])).await, "0x6300");
    devnet.call("dev_setStorage", json!([key, "0x6400"])).await;
    assert_eq!(devnet.call("state_getStorage", json!([key])).await, "0x6400");
    assert!(devnet.try_call("dev_setStorage", json!([key, "0x640000"])).await.is_err());
    devnet.end().await;
}

#[tokio::test]
async fn cut_connections_end_and_new_ones_work() {
    let devnet = Running::manual().await;
    let cut = devnet.try_call("dev_dropConnections", json!([])).await;
    let again = RpcClient::from_insecure_url(devnet.handle.url()).await.unwrap();
    let name: String = again.request("system_chain", RpcParams::new()).await.unwrap();
    assert!(name.contains("not Bittensor"));
    // The answer may or may not have made it out; the old connection is gone in any case.
    drop(cut);
    assert!(devnet.try_call("system_chain", json!([])).await.is_err());
    devnet.end().await;
}

#[tokio::test]
async fn a_stalled_chain_makes_no_blocks_until_it_is_let_go() {
    let devnet = Running::new(Options { blocks: Blocks::Interval { ms: 1 }, ..Options::default() }).await;
    devnet.call("dev_stall", json!([true])).await;
    // One block may have been on its way.
    devnet.call("dev_newBlock", json!([1])).await;
    let before = devnet.call("chain_getHeader", json!([])).await;
    for _ in 0..50 {
        assert_eq!(devnet.call("chain_getHeader", json!([])).await, before);
    }
    devnet.call("dev_stall", json!([false])).await;
    let moved = async { while devnet.call("chain_getHeader", json!([])).await == before {} };
    tokio::time::timeout(PATIENCE, moved).await.expect("blocks again");
    devnet.end().await;
}

#[tokio::test]
async fn hostile_requests_are_answered_or_cut_and_hurt_nobody_else() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let devnet = Running::manual().await;
    let authority = devnet.handle.url().trim_start_matches("ws://").to_owned();
    let post = async |body: Vec<u8>| {
        let mut stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let _refused_early = stream.write_all(&body).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let call =
        |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    assert!(post(call("system_name", "[]").into_bytes()).await.contains("Waag"));
    assert!(post("[".repeat(100_000).into_bytes()).await.contains("error"));
    assert!(post(call("state_getStorage", &"[".repeat(10_000)).into_bytes()).await.contains("error"));
    for params in ["{}", "[1]", "[\"0xzz\"]", "[null]", "[\"0x00\", \"0x00\"]", "[\"0x00\", 7]", "7"] {
        assert!(post(call("state_getStorage", params).into_bytes()).await.contains("error"), "{params}");
    }
    let batch = |count: usize| format!("[{}]", vec![call("system_name", "[]"); count].join(","));
    assert_eq!(post(batch(10_000).into_bytes()).await.matches("Waag devnet node").count(), 10_000);
    assert!(post(batch(10_001).into_bytes()).await.contains("error"));
    let long = post(vec![b' '; super::limits::REQUEST_BYTES as usize + 1]).await;
    assert!(!long.contains("result"), "{long:.200}");
    // A WebSocket frame that is too long is skipped, not kept.
    let mut stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
    let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut frame = vec![0x81, 0xff];
    let too_long = u64::from(super::limits::REQUEST_BYTES) + 1;
    frame.extend(too_long.to_be_bytes());
    frame.resize(frame.len() + 4 + usize::try_from(too_long).unwrap(), 0);
    stream.write_all(&frame).await.unwrap();
    let mut answer = Vec::new();
    let refused = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&answer).contains("too big") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("an error, or the end of the connection");
    // Sockets that say nothing.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(&authority).await.unwrap());
    }
    assert!(post(call("system_name", "[]").into_bytes()).await.contains("Waag"));
    devnet.end().await;
}

#[tokio::test]
async fn mutated_extrinsics_never_get_in() {
    let devnet = Running::manual().await;
    let client = devnet.client().await;
    let to = Value::unnamed_variant("Id", [Value::from_bytes(dev::bob().public_key().0)]);
    let payload = dynamic::transaction("Balances", "transfer_keep_alive", vec![to, Value::u128(1_000_000)]);
    let mut transactions = client.tx().await.unwrap();
    let signed = transactions.create_signed(&payload, &dev::alice(), Default::default()).await.unwrap();
    let good = signed.encoded().to_vec();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        let refused = devnet.try_call("author_submitExtrinsic", json!([super::hashing::hex0x(&bad)])).await;
        assert!(refused.is_err(), "byte {at} changed");
    }
    assert_eq!(devnet.call("author_pendingExtrinsics", json!([])).await, json!([]));
    let hash = devnet.call("author_submitExtrinsic", json!([super::hashing::hex0x(&good)])).await;
    assert_eq!(hash, super::hashing::hex0x(&signed.hash().0));
    let again = devnet.try_call("author_submitExtrinsic", json!([super::hashing::hex0x(&good)])).await;
    assert!(again.unwrap_err().to_string().contains("1013"));
    devnet.end().await;
}

#[tokio::test]
async fn a_devnet_with_a_file_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { blocks: Blocks::Manual, state: Some(folder.path().join("chain")), ..Options::default() };
    let devnet = Running::new(options()).await;
    let hash = devnet.call("dev_newBlock", json!([7])).await;
    let second = start(options(), &Tasks::new(), SystemClock::shared()).await.unwrap_err();
    assert_eq!(second.code().name, "devnet_state");
    devnet.end().await;
    let devnet = Running::new(options()).await;
    assert_eq!(devnet.call("chain_getBlockHash", json!([7])).await, hash);
    devnet.end().await;
    let other = start(Options { seed: [9; 32], ..options() }, &Tasks::new(), SystemClock::shared()).await.unwrap_err();
    assert_eq!(other.code().name, "devnet_state");
}

#[tokio::test]
async fn each_seed_has_its_own_first_block_and_a_stored_chain_keeps_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let options = |seed: u8, name: &str| Options {
        blocks: Blocks::Manual,
        state: Some(folder.path().join(name)),
        seed: [seed; 32],
        keeps_seed: true,
        ..Options::default()
    };
    let mut genesis = Vec::new();
    for (seed, name) in [(1, "one"), (2, "two"), (3, "one"), (4, "two")] {
        let devnet = Running::new(options(seed, name)).await;
        let config = devnet.call("chain_getBlockHash", json!([0])).await;
        devnet.call("dev_newBlock", json!([2])).await;
        genesis.push(config);
        devnet.end().await;
    }
    assert_ne!(genesis[0], genesis[1]);
    assert_eq!(genesis[..2], genesis[2..]);
    // A seed that is asked for must be the stored one.
    let asked = |seed| Options { keeps_seed: false, ..options(seed, "one") };
    let wrong = start(asked(2), &Tasks::new(), SystemClock::shared()).await.unwrap_err();
    assert_eq!(wrong.code().name, "devnet_state");
    Running::new(asked(1)).await.end().await;
}

//! `waag weights` against a devnet: set by hand, shown, listed.

use std::path::Path;

use serde_json::{Value, json};
use subxt_rpcs::{RpcClient, client::RpcParams, rpc_params};

use super::{Said, devnet::Devnet, folder, run};

/// A devnet whose validator is the wallet's hotkey.
fn ground(dir: &Path) -> Devnet {
    assert_eq!(run(dir, &["wallet", "create", "--no-password"]).exit, 0);
    Devnet::start(dir, &["--block-ms", "50", "--netuid", "7"])
}

fn on(devnet: &Devnet, dir: &Path, args: &[&str]) -> Said {
    run(dir, &[&devnet.flags()[..], &["--netuid", "7", "weights"], args, &["--json"]].concat())
}

fn control(devnet: &Devnet, name: &str, value: &Value) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let rpc = RpcClient::from_url(&devnet.url).await.expect("it answers");
        let mut params = RpcParams::new();
        for one in [json!(7), json!(name), value.clone()] {
            params.push(one).expect("JSON");
        }
        rpc.request::<Value>("dev_setHyperparameter", params).await.expect("there is such a parameter");
        // Decisions are made at finalized blocks.
        rpc.request::<Value>("dev_newBlock", rpc_params![4]).await.expect("a devnet");
    });
}

#[test]
fn weights_by_hand_are_checked_shown_and_read_back() {
    let dir = folder();
    let devnet = ground(dir.path());
    let empty = on(&devnet, dir.path(), &["history"]);
    assert_eq!((empty.exit, &empty.json()["vectors"]), (0, &json!([])));
    let before = on(&devnet, dir.path(), &["show"]).json();
    assert_eq!((&before["weights"], &before["permit"], &before["way"]), (&json!([]), &json!(true), &json!("plain")));

    let unasked = on(&devnet, dir.path(), &["set", "--uids", "0", "--weights", "1"]);
    assert_eq!(unasked.json()["error"]["code"], "not_confirmed");
    let nobody = on(&devnet, dir.path(), &["set", "--uids", "9", "--weights", "1", "--yes"]);
    assert_eq!((nobody.exit, nobody.json()["error"]["code"].as_str()), (2, Some("usage")));
    let uneven = on(&devnet, dir.path(), &["set", "--uids", "0,1", "--weights", "1", "--yes"]);
    assert_eq!(uneven.exit, 2);
    assert_eq!(on(&devnet, dir.path(), &["set", "--resume"]).exit, 2, "there is nothing");

    let set = on(&devnet, dir.path(), &["set", "--uids", "1,0", "--weights", "0.4,0.6", "--yes"]);
    assert_eq!(set.exit, 0, "{}\n{}", set.stdout, set.stderr);
    assert_eq!(set.json()["vector"]["state"], "confirmed");
    let after = on(&devnet, dir.path(), &["show"]).json();
    let row: Vec<(u64, u64)> = after["weights"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["uid"].as_u64().expect("a uid"), entry["weight"].as_u64().expect("a weight")))
        .collect();
    assert_eq!(row, [(0, 65_535), (1, 43_690)]);
    assert!(after["last_update"].as_u64() > before["last_update"].as_u64());
    let listed = on(&devnet, dir.path(), &["history"]).json();
    let one = &listed["vectors"][0];
    assert_eq!((&one["state"], &one["sending"]["way"]), (&json!("confirmed"), &json!("plain")));
    assert_eq!(one["extrinsic"].as_str().map(str::len), Some(64));
    let words = run(dir.path(), &[&devnet.flags()[..], &["--netuid", "7", "weights", "show"]].concat());
    assert!(words.stdout.contains("uid  weight  share") && words.stdout.contains("60.00 %"), "{}", words.stdout);
    let missing = on(&devnet, dir.path(), &["show", "--mechanism", "1"]);
    assert_eq!(missing.exit, 2);
}

#[test]
fn hidden_weights_by_hand_are_followed_to_their_reveal() {
    let dir = folder();
    let devnet = ground(dir.path());
    control(&devnet, "commit_reveal_weights_enabled", &json!(true));
    let sealed = on(&devnet, dir.path(), &["set", "--uids", "0", "--weights", "1", "--yes"]);
    assert_eq!(sealed.exit, 0, "{}\n{}", sealed.stdout, sealed.stderr);
    let committed = &sealed.json()["vector"];
    assert_eq!((&committed["state"], &committed["sending"]["way"]), (&json!("committed"), &json!("timelocked")));
    let shown = on(&devnet, dir.path(), &["show"]).json();
    assert_eq!((&shown["weights"], &shown["way"]), (&json!([]), &json!("timelocked")));
    assert_eq!(shown["open_commits"][0]["block"], committed["commit_block"]);
    let second = on(&devnet, dir.path(), &["set", "--uids", "1", "--weights", "1", "--yes"]);
    assert_eq!((second.exit, second.json()["error"]["code"].as_str()), (4, Some("weights_under_way")));
    let opened = on(&devnet, dir.path(), &["set", "--resume", "--wait"]);
    assert_eq!((opened.exit, &opened.json()["vector"]["state"]), (0, &json!("confirmed")), "{}", opened.stdout);
    let shown = on(&devnet, dir.path(), &["show"]).json();
    assert_eq!((&shown["weights"][0]["uid"], &shown["open_commits"]), (&json!(0), &json!([])));
}

#[test]
fn a_running_appliance_keeps_its_data_directory() {
    let dir = folder();
    let devnet = ground(dir.path());
    let data = dir.path().join("held");
    std::fs::create_dir_all(&data).expect("a folder");
    let lock = std::fs::File::create(data.join("lock")).expect("a file");
    lock.lock().expect("nobody holds it");
    let path = data.to_str().expect("text").to_owned();
    let refused = on(&devnet, dir.path(), &["set", "--uids", "0", "--weights", "1", "--yes", "--data-dir", &path]);
    assert_eq!((refused.exit, refused.json()["error"]["code"].as_str()), (4, Some("data_dir_locked")));
}

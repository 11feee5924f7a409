//! The miner's verbs against a devnet and real policies.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Said, devnet::Devnet, folder, run};

const CAST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cast");

fn on(devnet: &Devnet, dir: &Path, args: &[&str]) -> Said {
    run(dir, &[&devnet.flags()[..], args, &["--json"]].concat())
}

fn pack(dir: &Path, out: &str, files: &[&str]) -> Value {
    let files: Vec<String> = files.iter().map(|pair| pair.replace('@', CAST)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let said = run(dir, &[&["pack", "--out", out, "--json"], &files[..]].concat());
    assert_eq!(said.exit, 0, "{}", said.stdout);
    said.json()
}

#[test]
fn a_key_is_made_registered_once_and_commits_once() {
    let dir = folder();
    let devnet = Devnet::start(dir.path(), &["--block-ms", "50"]);
    let missing = on(&devnet, dir.path(), &["register", "--yes"]);
    assert_eq!((missing.exit, missing.json()["error"]["code"].as_str()), (4, Some("wallet_missing")));
    let unasked = on(&devnet, dir.path(), &["register", "--create"]);
    assert_eq!(unasked.json()["error"]["code"], "not_confirmed", "nobody answers without a terminal");
    let first = on(&devnet, dir.path(), &["register", "--yes"]);
    assert_eq!(first.exit, 0, "{}", first.stdout);
    assert_eq!(first.json()["again"], false);
    let second = on(&devnet, dir.path(), &["register"]);
    assert_eq!((second.exit, &second.json()["again"]), (0, &Value::Bool(true)));
    assert_eq!(second.json()["uid"], first.json()["uid"]);

    let packed = pack(dir.path(), "p.tar", &["CartPole-v1=@/generalist/CartPole-v1.onnx"]);
    let committed = on(&devnet, dir.path(), &["commit", "p.tar"]);
    assert_eq!(committed.exit, 0, "{}", committed.stdout);
    let committed = committed.json();
    assert_eq!(committed["artifact"], packed["digest"]);
    assert!(committed["field"].as_str().expect("text").starts_with("waag1:quickstart:"));
    let again = on(&devnet, dir.path(), &["commit", "p.tar"]).json();
    assert_eq!(
        (&again["again"], &again["field"], &again["block"]),
        (&true.into(), &committed["field"], &committed["block"])
    );

    let salt: Value =
        serde_json::from_slice(&fs::read(dir.path().join("p.tar.waag-salt.json")).expect("kept")).expect("JSON");
    assert_eq!(salt["seals"][0]["block"], committed["block"]);
    assert!(salt["seals"][0].get("signed").is_none(), "nothing is under way any more");

    // It stands there and counts; where it was first seen is known once the blocks were read.
    let listed = |more: &[&str]| on(&devnet, dir.path(), &[&["commitments"], more].concat()).json();
    let rows = listed(&[]);
    assert_eq!(rows["commitments"].as_array().map(Vec::len), Some(1), "{rows}");
    let row = &rows["commitments"][0];
    assert_eq!((&row["content"], &row["challenge"]), (&committed["field"], &Value::from("quickstart")));
    assert_eq!((&row["counts"], &row["uid"], &row["first_seen"]), (&true.into(), &first.json()["uid"], &Value::Null));
    let nobody = listed(&["--of", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "--revealed"]);
    assert_eq!(nobody["commitments"], Value::Array(Vec::new()));
    let rescanned = listed(&["--rescan", "--from", "1"]);
    assert_eq!(
        (&rescanned["sighted"]["new"], &rescanned["gaps"]),
        (&1.into(), &Value::Array(Vec::new())),
        "{rescanned}"
    );
    assert_eq!(rescanned["submissions"], 1);
    let known = listed(&[])["commitments"][0]["first_seen"].clone();
    assert_eq!(known["block"], committed["block"], "{known}");
    assert!(known["index"].as_u64().is_some_and(|index| index < 100), "its extrinsic is known: {known}");
    assert_eq!(listed(&["--rescan"])["error"]["code"], "usage", "there is no gap to begin with");

    // Another challenge's field stands beside it.
    let other = on(&devnet, dir.path(), &["commit", "p.tar", "--challenge", "another"]).json();
    assert_eq!(other["again"], false);
    let kept = on(&devnet, dir.path(), &["commit", "p.tar"]).json();
    assert_eq!((&kept["again"], &kept["field"]), (&true.into(), &committed["field"]));
}

/// A commitment that does not count any more is never made again under the same salt: the ledger would keep its place.
#[test]
fn a_commitment_that_counts_no_more_is_followed_by_a_new_one() {
    let dir = folder();
    let devnet = Devnet::start(dir.path(), &["--block-ms", "50"]);
    assert_eq!(on(&devnet, dir.path(), &["register", "--create", "--yes"]).exit, 0);
    pack(dir.path(), "a.tar", &["CartPole-v1=@/generalist/CartPole-v1.onnx"]);
    pack(dir.path(), "b.tar", &["CartPole-v1=@/specialist/CartPole-v1.onnx"]);
    let commit = |args: &[&str]| on(&devnet, dir.path(), &[&["commit"], args].concat()).json();
    let first = commit(&["a.tar"]);
    // Its submission has ended, says the appliance.
    let anew = commit(&["a.tar", "--again"]);
    assert_eq!(anew["again"], false);
    assert_ne!(anew["field"], first["field"]);
    assert_eq!(commit(&["a.tar"])["field"], anew["field"], "and now that one stands");
    // Another artifact took its place on chain.
    commit(&["b.tar"]);
    let third = commit(&["a.tar"]);
    assert_eq!(third["again"], false);
    assert!(third["field"] != anew["field"] && third["field"] != first["field"], "{third}");
}

#[test]
fn an_unregistered_hotkey_cannot_commit() {
    let dir = folder();
    let devnet = Devnet::start(dir.path(), &["--block-ms", "50"]);
    assert_eq!(on(&devnet, dir.path(), &["register", "--create"]).json()["error"]["code"], "not_confirmed");
    pack(dir.path(), "p.tar", &["CartPole-v1=@/generalist/CartPole-v1.onnx"]);
    let refused = on(&devnet, dir.path(), &["commit", "p.tar"]);
    assert_eq!((refused.exit, refused.json()["error"]["code"].as_str()), (3, Some("chain_commit_not_allowed")));
}

#[test]
fn the_same_files_pack_to_the_same_bytes() {
    let dir = folder();
    let files = ["CartPole-v1=@/specialist/CartPole-v1.onnx", "Pendulum-v1=@/specialist/Pendulum-v1.onnx"];
    let first = pack(dir.path(), "a.tar", &files);
    let second = pack(dir.path(), "b.tar", &[files[1], files[0]]);
    assert_eq!(first["digest"], second["digest"]);
    assert_eq!(fs::read(dir.path().join("a.tar")).unwrap(), fs::read(dir.path().join("b.tar")).unwrap());
}

#[test]
fn a_check_shows_every_episode() {
    let dir = folder();
    pack(
        dir.path(),
        "p.tar",
        &["CartPole-v1=@/generalist/CartPole-v1.onnx", "Pendulum-v1=@/generalist/Pendulum-v1.onnx"],
    );
    let said = run(dir.path(), &["check", "p.tar", "--seeds", "0..19", "--env", "CartPole-v1", "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stdout);
    let found = said.json();
    assert_eq!(found["environments"].as_object().expect("a table").len(), 1);
    let cart_pole = &found["environments"]["CartPole-v1"];
    let episodes = cart_pole["episodes"].as_array().expect("a list");
    assert_eq!(episodes.len(), 20);
    assert_eq!(episodes[7]["seed"], 7);
    for key in ["seed", "return", "length", "success", "outcome"] {
        assert!(!episodes[0][key].is_null(), "{key}");
    }
    assert!(cart_pole["successes"].as_u64().expect("a number") >= 18, "{cart_pole}");
    assert!(found["backend"]["name"].is_string());
    // Any number of threads gives the same.
    let single =
        run(dir.path(), &["check", "p.tar", "--seeds", "0..19", "--env", "CartPole-v1", "--threads", "1", "--json"]);
    assert_eq!(single.json(), found);
}

#[test]
fn a_broken_archive_is_the_miners_fault() {
    let dir = folder();
    fs::write(dir.path().join("p.tar"), b"not a tar").unwrap();
    let said = run(dir.path(), &["check", "p.tar", "--json"]);
    assert_eq!((said.exit, said.json()["error"]["class"].as_str()), (3, Some("miner")));
}

//! Publishing through the real binary: models to a real registry and a devnet, and uploads that cost something.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use waag::chain::{Client, Options};

use super::{Said, devnet::Devnet, folder, model, run, run_with, waag};
use crate::{
    crash::appliance::{Place, Process},
    fetch::{Answer, registry, registry_with, server},
};

/// Looks before a test gives up: each starts a process.
const LOOKS_MAX: u32 = 600;
const SHARDS: usize = 24;
const SHARD_BYTES: usize = 3_000_000;

/// A profile whose models are in this registry and are committed to behind a time lock.
fn profile(dir: &Path, registry: &str) {
    model::profile(dir, registry);
    let text = fs::read_to_string(dir.join("models.toml")).unwrap();
    let text = text.replace("bytes_max = 1_000_000", "bytes_max = 1_000_000_000");
    fs::write(dir.join("models.toml"), text).unwrap();
}

/// A model of many shards with an index.
fn large(dir: &Path) {
    model::model(dir);
    let dir = dir.join("model");
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for shard in 0..SHARDS {
        let (file, name) = (format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1), format!("layers.{shard}.w"));
        let shape = [SHARD_BYTES / 2];
        let header = json!({&name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, SHARD_BYTES]}}).to_string();
        // No two shards are the same blob.
        let data: Vec<u8> = (0..SHARD_BYTES).map(|at| (at % 251 + shard) as u8).collect();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        fs::write(dir.join(&file), bytes).unwrap();
        map.insert(name, file.into());
    }
    fs::write(dir.join("model.safetensors.index.json"), json!({"metadata": {}, "weight_map": map}).to_string())
        .unwrap();
}

fn on(devnet: &Devnet, dir: &Path, args: &[&str]) -> Said {
    run(dir, &[&devnet.flags()[..], args, &["--json"]].concat())
}

fn publish<'a>(repo: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["publish", "--path", "model", "--repo", repo][..], more].concat()
}

fn ended(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let steps = document["steps"].as_array().unwrap_or_else(|| panic!("no steps in {document:#}"));
    steps.iter().map(|step| (text(&step["name"]), text(&step["ended"]))).collect()
}

fn are(words: [&str; 5]) -> Vec<(String, String)> {
    let names = ["validate_local", "upload", "check_remote", "registered", "commit"];
    names.iter().zip(words).map(|(name, word)| ((*name).to_owned(), word.to_owned())).collect()
}

/// How many calls the hotkey has signed in blocks.
async fn calls(devnet: &Devnet, hotkey: &str) -> u32 {
    let client = Client::connect(Options::new(vec![devnet.url.clone()])).await.expect("it answers");
    client.next_nonce(&hotkey.parse().expect("an address")).await.expect("it answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_checked_pushed_checked_there_and_committed_once() {
    let dir = folder();
    let Some(peer) = registry().await else { return };
    model::model(dir.path());
    profile(dir.path(), &peer.url);
    let devnet = Devnet::start(dir.path(), &["--block-ms", "100"]);
    let model = |more: &[&'static str]| on(&devnet, dir.path(), &publish("alice/model-1", more));

    // Everything but the chain, without keys.
    let skipped = model(&["--skip-commit"]);
    let document = skipped.json();
    assert_eq!((skipped.exit, &document["ok"]), (0, &json!(true)), "{}", skipped.stdout);
    assert_eq!(ended(&document), are(["ok", "ok", "ok", "skipped", "skipped"]));
    assert_eq!(document["sent_bytes"], document["bytes"]);
    let digest = document["digest"].as_str().expect("text").to_owned();
    let payload = format!("v7|alice/model-1|{digest}");
    assert_eq!(document["payload"], payload.as_str());
    assert_eq!(document["reference"], format!("alice/model-1@{digest}"));

    // Not registered, then not confirmed: each says what to do, and what was sent is not sent again.
    assert_eq!(on(&devnet, dir.path(), &["register", "--create"]).json()["error"]["code"], "not_confirmed");
    let stranger = model(&["--yes"]);
    let document = stranger.json();
    assert_eq!((stranger.exit, &document["error"]["code"]), (3, &json!("hotkey_unregistered")), "{document:#}");
    assert!(document["error"]["hint"].as_str().expect("text").contains("waag register"));
    assert_eq!((ended(&document), &document["sent_bytes"]), (are(["ok", "ok", "ok", "failed", "skipped"]), &json!(0)));
    let registered = on(&devnet, dir.path(), &["register", "--yes"]).json();
    let hotkey = registered["hotkey"].as_str().expect("an address").to_owned();
    let unasked = model(&[]);
    assert_eq!((unasked.exit, &unasked.json()["error"]["code"]), (4, &json!("not_confirmed")));

    let done = model(&["--yes"]);
    let document = done.json();
    assert_eq!((done.exit, &document["ok"]), (0, &json!(true)), "{document:#}");
    assert_eq!((&document["committed"]["field"], &document["committed"]["again"]), (&json!(payload), &json!(false)));
    assert_eq!(document["digest"], digest.as_str(), "the same files have the same digest");
    // The chain opens it, and our own reader counts it.
    let mut looks = 0;
    let row = loop {
        let listed = on(&devnet, dir.path(), &["commitments", "--revealed"]).json();
        let rows = listed["commitments"].as_array().expect("a list").clone();
        if let Some(row) = rows.into_iter().find(|row| row["content"] == payload.as_str()) {
            break row;
        }
        looks += 1;
        assert!(looks < LOOKS_MAX, "it is never opened: {listed:#}");
    };
    assert_eq!((&row["challenge"], &row["counts"], &row["hotkey"]), (&json!("models"), &json!(true), &json!(hotkey)));

    let words = run(dir.path(), &[&devnet.flags()[..], &publish("alice/model-1", &[])].concat());
    assert_eq!(words.exit, 0, "what stands is not asked about: {}", words.stderr);
    for part in ["[RUN] upload", "[PASS] file_manifest", "[PASS] upload", "there is config.json", "done before"] {
        assert!(words.stderr.contains(part), "`{part}` is missing in {}", words.stderr);
    }
    assert!(words.stdout.ends_with(&format!("\nalice/model-1@{digest}\n{payload}\n")), "{}", words.stdout);
    let by_hand = on(&devnet, dir.path(), &["commit", "--repo", "alice/model-1", "--digest", &digest]).json();
    assert_eq!((&by_hand["again"], &by_hand["field"]), (&json!(true), &json!(payload)));
    assert_eq!(calls(&devnet, &hotkey).await, 1, "it was committed once");

    // What breaks a rule goes nowhere.
    fs::write(dir.path().join("model/evil.py"), "").unwrap();
    let refused = on(&devnet, dir.path(), &publish("alice/model-2", &["--yes"]));
    assert_eq!((refused.exit, ended(&refused.json())[0].1.as_str()), (3, "failed"));
    assert_eq!(refused.json()["error"]["code"], "file_manifest");
    let misnamed = on(&devnet, dir.path(), &publish("alice/other", &["--yes"])).json();
    assert_eq!(misnamed["error"]["code"], "repo_naming");
}

/// Runs until a line of conversation begins so.
fn run_to(devnet: &Devnet, dir: &Path, args: &[&str], begins: &str) -> Child {
    let mut command = Command::new(waag(dir).get_program());
    command.current_dir(dir).env_clear().env("HOME", dir).args(devnet.flags()).args(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    let is_said = lines.any(|line| {
        said.push(line.expect("text"));
        said.last().is_some_and(|line| line.starts_with(begins))
    });
    if !is_said {
        kill(child);
        panic!("it never said `{begins}`: {said:#?}");
    }
    child
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// Runs until a line of conversation begins so, and kills it there.
fn kill_at(devnet: &Devnet, dir: &Path, args: &[&str], begins: &str) {
    kill(run_to(devnet, dir, args, begins));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_it_goes_on_and_commits_once() {
    let dir = folder();
    let Some(peer) = registry().await else { return };
    large(dir.path());
    profile(dir.path(), &peer.url);
    let devnet = Devnet::start(dir.path(), &["--block-ms", "700"]);
    let registered = on(&devnet, dir.path(), &["register", "--create", "--yes"]).json();
    let hotkey = registered["hotkey"].as_str().expect("an address").to_owned();
    let args = publish("alice/model-1", &["--yes"]);

    kill_at(&devnet, dir.path(), &args, "sent model-");
    kill_at(&devnet, dir.path(), &args, "[PASS] upload");
    let resumed = on(&devnet, dir.path(), &publish("alice/model-1", &["--skip-commit"])).json();
    assert_eq!((&resumed["ok"], &resumed["sent_bytes"]), (&json!(true), &json!(0)), "{resumed:#}");
    kill_at(&devnet, dir.path(), &args, "[RUN] commit");
    // The call is with the node, and in no final block yet.
    let child = run_to(&devnet, dir.path(), &args, "sent extrinsic");
    for look in 0.. {
        assert!(look < LOOKS_MAX, "it is never sent");
        if calls(&devnet, &hotkey).await > 0 {
            break;
        }
    }
    kill(child);
    kill_at(&devnet, dir.path(), &args, "[RUN] commit");
    let done = on(&devnet, dir.path(), &args).json();
    assert_eq!((&done["ok"], &done["committed"]["again"]), (&json!(true), &json!(true)), "{done:#}");
    assert_eq!(calls(&devnet, &hotkey).await, 1, "it was committed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_kill_is_not_sent_again() {
    let dir = folder();
    let Some(peer) = registry().await else { return };
    large(dir.path());
    profile(dir.path(), &peer.url);
    let devnet = Devnet::start(dir.path(), &["--manual", "--bare"]);
    let args = publish("alice/model-1", &["--skip-commit"]);
    kill_at(&devnet, dir.path(), &args, "sent model-");
    let resumed = on(&devnet, dir.path(), &args).json();
    let (sent, bytes) = (resumed["sent_bytes"].as_u64().unwrap(), resumed["bytes"].as_u64().unwrap());
    assert!(sent <= bytes - SHARD_BYTES as u64, "{sent} of {bytes}");
    assert!(bytes > (SHARDS * SHARD_BYTES) as u64);
}

/// `secret word`, by bcrypt.
const MINER: &str = "miner:$2b$05$abcdefghijklmnopqrstuu1C7yeI3ZG3Jm.nHdnKkGJg1xTYKP9Oy\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_who_comes_is_told() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = folder();
    fs::write(dir.path().join("htpasswd"), MINER).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", dir.path().join("htpasswd").display());
    let Some(peer) = registry_with(&auth).await else { return };
    model::model(dir.path());
    profile(dir.path(), &peer.url);
    let model = |env: &[(&str, &str)], more: &[&str]| {
        run_with(dir.path(), env, &[&publish("alice/model-1", &["--skip-commit", "--json"])[..], more].concat())
    };
    let refused = |said: Said| {
        let document = said.json();
        assert_eq!((said.exit, &document["error"]["code"]), (4, &json!("registry_denied")), "{document:#}");
        assert_eq!(ended(&document)[1].1, "failed");
        assert!(!said.stdout.contains("wrong word"), "a password is never shown");
    };
    refused(model(&[], &[]));
    let variable = |word| [("WAAG__FETCH__USERNAME", "miner"), ("WAAG_REGISTRY_PASSWORD", word)];
    refused(model(&variable("wrong word"), &[]));
    let without = model(&[], &["--username", "miner"]);
    assert_eq!((without.exit, &without.json()["error"]["code"]), (2, &json!("usage")));

    let file = dir.path().join("token");
    fs::write(&file, "secret word\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let by_file = ["--username", "miner", "--registry-password-file", "token"];
    assert_eq!(model(&[], &by_file).json()["error"]["code"], "secret_file_loose");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let done = model(&[], &by_file);
    assert_eq!((done.exit, &done.json()["ok"]), (0, &json!(true)), "{}", done.stdout);
    let again = model(&variable("secret word"), &[]).json();
    assert_eq!((&again["ok"], &again["sent_bytes"]), (&json!(true), &json!(0)), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_refused_is_the_registrys_doing() {
    let dir = folder();
    // It has every blob, and takes no manifest.
    let address = server(|asked| match asked.method.as_str() {
        "HEAD" => Answer::of(200, ""),
        "PUT" => Answer::of(400, r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#),
        _ => Answer::of(404, ""),
    })
    .await;
    model::model(dir.path());
    profile(dir.path(), &format!("http://{address}"));
    let args = publish("alice/model-1", &["--skip-commit"]);
    let refused = run(dir.path(), &[&args[..], &["--json"]].concat());
    let document = refused.json();
    assert_eq!((refused.exit, &document["error"]["code"]), (5, &json!("model_upload_failed")), "{document:#}");
    assert_eq!(ended(&document), are(["ok", "failed", "skipped", "skipped", "skipped"]));
    let words = run(dir.path(), &args);
    assert!(words.stdout.is_empty() && words.stderr.contains("hint: run it again"), "{}", words.stderr);
    assert!(words.stderr.contains("upload          failed"), "{}", words.stderr);
}

#[test]
fn where_there_is_no_registry_nothing_is_pushed() {
    let dir = folder();
    model::model(dir.path());
    profile(dir.path(), "https://registry.example");
    let text = fs::read_to_string(dir.path().join("models.toml")).unwrap();
    for place in ["hub", "plain"] {
        fs::write(dir.path().join("models.toml"), text.replace("{ registry =", &format!("{{ {place} ="))).unwrap();
        let said = run(dir.path(), &[&publish("alice/model-1", &[])[..], &["--json"]].concat());
        assert_eq!((said.exit, &said.json()["error"]["code"]), (4, &json!("registry_none")), "{}", said.stdout);
    }
    for args in
        [&["publish"][..], &["publish", "--path", "model"], &["publish", "p.tar", "--path", "model", "--repo", "a/b"]]
    {
        assert_eq!(run(dir.path(), args).exit, 2, "{args:?}");
    }
}

const FEE_RAO: u64 = 250_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_paid_for_once_through_the_binary() {
    let dir = folder();
    let place = Place::new(dir.path(), 7, 100);
    let quickstart = include_str!("../../profiles/quickstart.toml");
    let treasury = waag::ids::Hotkey([0x77; 32]);
    let toll = format!("door = \"commitment\"\nfee_rao = {FEE_RAO}\nfee_to = \"{treasury}\"\n");
    place.write(&quickstart.replacen("door = \"commitment\"", &toll, 1));
    let (process, said) = Process::start(&place, &["up", "--dev"]);
    let chain = said["chain"].as_str().expect("an address").to_owned();
    let cast = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cast/generalist/CartPole-v1.onnx");
    let api = place.api();
    let run = |args: &[&str]| {
        let flags = ["--wallet.path", "miners", "--wallet.name", "miner", "--wallet.hotkey", "h1", "--api", &api];
        let network = ["--subtensor.network", "devnet", "--subtensor.chain-endpoint", &chain];
        let output = place.run(&[args, &flags, &network].concat());
        let text = String::from_utf8(output.stdout).expect("text");
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (output.status.code().expect("no signal"), document)
    };
    assert_eq!(run(&["pack", "--out", "p.tar", &format!("CartPole-v1={cast}")]).0, 0);
    assert_eq!(run(&["register", "--create", "--yes"]).0, 0);
    let balance = async || {
        let client = Client::connect(Options::new(vec![chain.clone()])).await.expect("it answers");
        let head = client.finalized_head().await.expect("a head");
        client.balance(&treasury, head.hash).await.expect("a balance")
    };

    // Without a word about paying it says what it costs, and with one it asks first.
    let (exit, unpaid) = run(&["publish", "p.tar"]);
    assert_eq!((exit, &unpaid["error"]["code"]), (3, &json!("payment_missing")), "{unpaid:#}");
    assert!(unpaid["error"]["detail"].as_str().expect("text").contains(&FEE_RAO.to_string()), "{unpaid:#}");
    let (exit, unasked) = run(&["publish", "p.tar", "--pay"]);
    assert_eq!((exit, &unasked["error"]["code"]), (4, &json!("not_confirmed")));
    assert!(unasked["error"]["detail"].as_str().expect("text").contains("τ0.2500"), "the cost is shown: {unasked:#}");
    assert_eq!(balance().await, 0, "nothing was paid");

    let (exit, paid) = run(&["publish", "p.tar", "--pay", "--yes"]);
    assert_eq!((exit, &paid["again"]), (0, &json!(false)), "{paid:#}");
    assert!(paid["payment"].is_string(), "{paid:#}");
    assert_eq!(balance().await, FEE_RAO);
    for args in [&["publish", "p.tar", "--pay", "--yes"][..], &["publish", "p.tar"]] {
        let (exit, again) = run(args);
        assert_eq!(
            (exit, &again["submission"], &again["payment"]),
            (0, &paid["submission"], &paid["payment"]),
            "{again:#}"
        );
    }
    assert_eq!(balance().await, FEE_RAO, "once");
    assert_eq!(process.stop(), Some(0));
}

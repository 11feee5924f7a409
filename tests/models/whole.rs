//! The whole way of models through real processes: published to Debian's registry, committed behind a time lock, taken
//! in by an appliance that is killed meanwhile, and judged.

use std::{fs, path::Path};

use serde_json::{Value, json};
use waag::{
    artifact::{
        fetch::push,
        model::{Folder, Repo as _},
    },
    dedup::generate::disguise::Disguise,
};

use super::{base, disguised, ground, tuned};
use crate::{
    cli::{folder, run},
    crash::appliance::{Place, Process},
    fetch,
};

const NETUID: u16 = 2;
const BLOCK_MS: u64 = 100;
/// Looks before the test gives up: each is a request.
const LOOKS_MAX: u32 = 60_000;

async fn get(place: &Place, path: &str) -> Value {
    let url = format!("{}{path}", place.api());
    let answer = reqwest::get(url).await.expect("it answers");
    answer.json().await.expect("JSON")
}

/// A verb of a miner with a wallet of its own, on the appliance's chain.
fn miner(dir: &Path, name: &str, args: &[&str]) -> Value {
    let common = ["--config", "waag.toml", "--wallet.name", name, "--wallet.path", "miners", "--json"];
    let said = run(dir, &[args, &common[..]].concat());
    assert_eq!(said.exit, 0, "{name} {args:?}: {}{}", said.stdout, said.stderr);
    said.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_go_from_their_folders_to_the_verdict_on_whose_they_are() {
    let Some(peer) = fetch::registry().await else { return };
    let dir = folder();
    let dir = dir.path();
    ground::write(&dir.join("base"), &base(), 1);
    let files = Folder::new(dir.join("base")).list().await.unwrap();
    let pushed = push(fetch::http(), &peer.url, "team/base", None, &dir.join("base"), &files, &|_| ()).await.unwrap();
    let place = Place::new(dir, NETUID, BLOCK_MS);
    let base = ground::base_line(&pushed.reference.revision().to_string());
    place.write(&ground::profile(&format!("registry = \"{}\"", peer.url), &base, "", "revealed"));
    let chain = place.start_ticking_devnet();
    let mut settings = fs::read_to_string(dir.join("waag.toml")).unwrap();
    settings.push_str("[fetch]\naddresses = \"any\"\n");
    fs::write(dir.join("waag.toml"), settings).unwrap();

    let mut process = Process::up(&place, None);
    let mut ids = Vec::new();
    for (name, model) in
        [("alice", tuned(1)), ("bob", tuned(2)), ("carol", disguised(&tuned(1), Disguise::Relative(1e-3)))]
    {
        ground::write(&dir.join(name), &model, 2);
        let repo = format!("{name}/model-1");
        miner(dir, name, &["register", "--create", "--yes"]);
        let published = miner(dir, name, &["publish", "--path", name, "--repo", &repo, "--yes"]);
        assert_eq!(published["ok"], json!(true), "{published:#}");
        ids.push((name, published));
        if name == "bob" {
            // Wherever it is with the first two.
            process.kill();
            process = Process::up(&place, None);
        }
    }
    let mut ended = Vec::new();
    for look in 0.. {
        assert!(look < LOOKS_MAX, "they are never judged: {ended:#?}");
        process.assert_runs();
        let list = get(&place, "/v1/submissions").await;
        ended = list["items"].as_array().expect("a list").clone();
        let is_over = |one: &Value| {
            one["status"] == "rejected" || (one["status"] == "waiting" && one["stage"] == 1) || one["status"] == "lost"
        };
        if ended.len() == 3 && ended.iter().all(is_over) {
            break;
        }
    }
    let hotkeys: Vec<&Value> = ids.iter().map(|(_, published)| &published["committed"]["hotkey"]).collect();
    let of = |hotkey: &Value| ended.iter().find(|one| one["hotkey"] == *hotkey).expect("it was committed").clone();
    for honest in &hotkeys[..2] {
        assert_eq!(of(honest)["fault"], Value::Null, "{ended:#?}");
    }
    let copy = of(hotkeys[2]);
    assert_eq!((&copy["status"], &copy["fault"]["code"]), (&json!("rejected"), &json!("duplicate")), "{copy:#}");
    let id = copy["id"].as_str().expect("an id");
    let fault = get(&place, &format!("/v1/submissions/{id}/fault.json")).await;
    assert_eq!((&fault["fault_code"], &fault["stage"]), (&json!("duplicate"), &json!("duplicates")), "{fault:#}");
    assert_eq!(fault["details"]["duplicate_of_hotkey"], *hotkeys[0], "{fault:#}");
    let honest = of(hotkeys[0])["id"].as_str().expect("an id").to_owned();
    let none = get(&place, &format!("/v1/submissions/{honest}/fault.json")).await;
    assert_eq!(none["title"], "not_found");

    // What is public of fingerprints, an object each, and nothing that is not in the list.
    let corpus = get(&place, "/v1/challenges/models/corpus").await;
    let entries = corpus["items"].as_array().expect("a list");
    assert_eq!(entries.len(), 4, "three and the base: {corpus:#}");
    let object = entries[0]["object"].as_str().expect("a digest");
    assert_eq!(get(&place, &format!("/v1/corpus/{object}")).await["method"], "layer_norms_v2_with_samples");
    let artifact = copy["artifact"].as_str().expect("a digest");
    assert_eq!(get(&place, &format!("/v1/corpus/{artifact}")).await["title"], "not_found");

    let why = run(dir, &["why", id, "--config", "waag.toml"]);
    assert!(why.stdout.contains("duplicate (the miner's)") && why.stdout.contains("alice/model-1"), "{}", why.stdout);
    assert_eq!(process.stop(), Some(0));
    drop(chain);
}

//! Models: a folder and a published repository checked by the same rules, and the rules made from a model.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{Said, folder, run, run_with};
use crate::fetch::{http, registry};

const CONFIG: &str = r#"{"architectures":["Moe"],"model_type":"moe","vocab_size":10,"dropout":0.5}"#;

/// A profile for models in this registry, which fixes what the model of [`model`] has.
pub fn profile(dir: &Path, registry: &str) {
    let spec = run(dir, &["profile", "arch-spec", "model"]);
    assert_eq!(spec.exit, 0, "{}", spec.stderr);
    let text = format!(
        r#"
format = 1
slug = "models"
title = "Models"
share = 1.0
[artifact]
kind = "model"
bytes_max = 1_000_000
[artifact.options]
source = {{ registry = "{registry}" }}
naming = "[^/]+/model-.+"
dtypes = ["F16", "BF16"]
[artifact.options.files]
required = ["config.json"]
required_any = ["*.safetensors"]
allowed = ["README.md", "model.safetensors.index.json"]
forbidden = ["*.py"]
{}
[intake]
door = "commitment"
source = "revealed"
pattern = "v7|{{repo:path}}|{{digest:sha256}}"
[[stage]]
name = "checks"
kind = "checks"
[ranking]
rule = "king"
"#,
        spec.stdout
    );
    fs::write(dir.join("models.toml"), text).unwrap();
    fs::write(dir.join("waag.toml"), "challenges = [\"models.toml\"]\n[fetch]\naddresses = \"any\"\n").unwrap();
}

/// A small good model in the folder `model`.
pub fn model(dir: &Path) {
    let dir = dir.join("model");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), CONFIG).unwrap();
    fs::write(dir.join("model.safetensors"), weights("BF16", 2)).unwrap();
}

fn weights(dtype: &str, bytes: u64) -> Vec<u8> {
    let header = json!({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, bytes]}}).to_string();
    let data = vec![0; bytes as usize];
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn check(dir: &Path) -> (Said, Value) {
    let said = run(dir, &["check", "--path", "model", "--json"]);
    let document = said.json();
    (said, document)
}

#[test]
fn a_folder_is_checked_as_the_operator_will() {
    let dir = folder();
    model(dir.path());
    profile(dir.path(), "https://registry.example");
    let (said, document) = check(dir.path());
    assert_eq!((said.exit, &document["valid"], &document["tensors"]), (0, &json!(true), &json!(1)), "{document}");

    let words = run(dir.path(), &["check", "--path", "model"]);
    assert_eq!((words.exit, words.stdout.as_str()), (0, "VALID\n"));
    assert!(words.stderr.contains("[PASS] architecture"), "{}", words.stderr);

    // Every rejection says what, where and how to mend it.
    fs::write(dir.path().join("model/model.safetensors"), weights("F32", 4)).unwrap();
    let (said, document) = check(dir.path());
    assert_eq!((said.exit, &document["valid"]), (3, &json!(false)));
    assert_eq!(document["fault"]["fault_code"], "weight_dtype");
    assert_eq!(document["fault"]["details"]["dtypes"], json!(["F32"]));
    assert!(document["fault"]["hint"].as_str().unwrap().contains("convert"));
    let words = run(dir.path(), &["check", "--path", "model"]);
    assert_eq!(words.exit, 3);
    assert!(words.stderr.contains("[FAIL] weight_dtype") && words.stderr.contains("hint: convert"), "{}", words.stderr);

    model(dir.path());
    fs::write(dir.path().join("model/config.json"), CONFIG.replace("\"dropout\"", "\"auto_map\"")).unwrap();
    assert_eq!(check(dir.path()).1["fault"]["fault_code"], "architecture");
    fs::write(dir.path().join("model/evil.py"), "").unwrap();
    assert_eq!(check(dir.path()).1["fault"]["fault_code"], "file_manifest");
}

#[test]
fn what_cannot_be_used_is_said() {
    let dir = folder();
    model(dir.path());
    profile(dir.path(), "https://registry.example");
    for args in [
        &["check", "--path", "nowhere"][..],
        &["check", "--repo", "a/b"],
        &["check", "--path", "model", "--repo", "a/b", "--digest", "x"],
        &["check"],
        &["check", "some.tar"],
        &["profile", "arch-spec", "nowhere"],
    ] {
        assert_eq!(run(dir.path(), args).exit, 2, "{args:?}");
    }
    fs::write(
        dir.path().join("models.toml"),
        fs::read_to_string(dir.path().join("models.toml")).unwrap().replace("[^/]+", "("),
    )
    .unwrap();
    let said = run(dir.path(), &["check", "--path", "model"]);
    assert_eq!(said.exit, 2);
    assert!(said.stderr.contains("models.toml:") && said.stderr.contains("naming"), "{}", said.stderr);
}

#[tokio::test]
async fn a_published_model_is_checked_from_outside() {
    let dir = folder();
    model(dir.path());
    let Some(peer) = registry().await else { return };
    profile(dir.path(), &peer.url);
    let path = dir.path().join("model");
    let files = waag::artifact::model::Repo::list(&waag::artifact::model::Folder::new(&path)).await.unwrap();
    let push = |repo: &'static str| waag::artifact::fetch::push(http(), &peer.url, repo, None, &path, &files, &|_| ());
    let digest = push("alice/model-1").await.unwrap().reference.revision().to_string();
    let look = |repo: &str, digest: &str| run(dir.path(), &["check", "--repo", repo, "--digest", digest, "--json"]);
    let said = look("alice/model-1", &digest);
    assert_eq!((said.exit, &said.json()["valid"]), (0, &json!(true)), "{}", said.stdout);
    let code = |said: &Said| said.json()["fault"]["fault_code"].clone();
    let said = look("alice/other", &digest);
    assert_eq!((said.exit, code(&said)), (3, json!("repo_naming")));
    let said = look("Alice/model-1", &digest);
    assert_eq!((said.exit, code(&said)), (3, json!("invalid_ref")));
    let said = look("alice/model-1", &format!("sha256:{}", "0".repeat(64)));
    assert_eq!((said.exit, code(&said)), (3, json!("repo_not_found")));

    // Where private addresses are not allowed, that is the operator's setting and nobody's fault.
    let strict = [("WAAG__FETCH__ADDRESSES", "public")];
    let said = run_with(dir.path(), &strict, &["check", "--repo", "alice/model-1", "--digest", &digest, "--json"]);
    assert_eq!((said.exit, &said.json()["error"]["code"]), (4, &json!("fetch_not_allowed")), "{}", said.stdout);
}

#[test]
fn a_bad_model_of_seventy_gigabytes_is_refused_by_its_headers_alone() {
    let dir = folder();
    let args = ["bench", "preflight", "--latency-ms", "1", "--repeats", "1", "--dir", ".", "--json"];
    let said = run(dir.path(), &args);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    let told = said.json();
    assert!(told["model_bytes"].as_u64().expect("bytes") > 69_000_000_000);
    for way in ["preflight", "one_after_another"] {
        let verdict = told[way]["verdict"].as_str().expect("text");
        assert!(verdict.contains("weight_dtype") && verdict.contains("model-00029-of-00030"), "{verdict}");
    }
    assert!(told["beyond_headers_bytes"].as_u64().expect("bytes") < 2_000_000, "{told}");
    // A challenge, a token, the manifest, and of each weight file its beginning and the rest of its header.
    assert!(told["preflight"]["requests"].as_u64().expect("a number") <= 63, "{told}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "nothing is left behind");
}

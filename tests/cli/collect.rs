//! `waag collect`, on models that lie there.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use waag::store::{self, Options, Store};

use super::{folder, run};

/// A model of so many bytes; one that is not whole was last asked for long ago.
fn model(dir: &Path, letter: char, is_partial: bool) -> String {
    let key = letter.to_string().repeat(64);
    let root = dir.join("waag-data/cache/models");
    let path = root.join(format!("{key}{}", if is_partial { ".partial" } else { "" }));
    fs::create_dir_all(&path).expect("made");
    fs::write(path.join("model.safetensors"), [1; 9000]).expect("written");
    let about = root.join(format!("{key}.json"));
    let text = format!(r#"{{"repo":"alice/{letter}","revision":"sha256:{key}"}}"#);
    fs::write(&about, text).expect("written");
    if is_partial {
        let file = fs::File::options().write(true).open(&about).expect("it is there");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("set");
    }
    key
}

fn events(dir: &Path) -> Vec<String> {
    let read = store::glance(&dir.join("waag-data"), |conn, _is_older| {
        let mut statement = conn.prepare("SELECT subject FROM events WHERE kind = 'model_deleted'")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok::<_, store::Error>(rows.collect::<Result<_, _>>()?)
    });
    read.expect("sound").unwrap_or_default()
}

#[test]
fn models_are_listed_with_reasons_and_deleted_when_told() {
    let dir = folder();
    let said = run(dir.path(), &["collect", "--execute"]);
    assert_eq!((said.exit, said.stdout.trim()), (0, "no models are kept on this machine"), "{}", said.stderr);
    assert!(!dir.path().join("waag-data").exists(), "a look makes nothing");

    let (kept, idle) = (model(dir.path(), 'a', false), model(dir.path(), 'b', true));
    let said = run(dir.path(), &["collect", "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    let models = said.json()["models"].clone();
    let told: Vec<(&str, bool, &str)> = models
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().expect("text");
            (text("key"), one["delete"].as_bool().expect("yes or no"), text("reason"))
        })
        .collect();
    assert_eq!(told, [(kept.as_str(), false, "unknown"), (idle.as_str(), true, "parts_idle")]);
    let parts = dir.path().join(format!("waag-data/cache/models/{idle}.partial"));
    assert!(parts.exists(), "a look deletes nothing");
    let text = run(dir.path(), &["collect"]).stdout;
    for words in ["alice/a", "no submission names it", "would be deleted", "`--execute` deletes"] {
        assert!(text.contains(words), "{words}: {text}");
    }

    let said = run(dir.path(), &["collect", "--execute", "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    assert!(said.json()["deleted_bytes"].as_u64().expect("bytes") >= 9000);
    assert!(!parts.exists());
    assert!(dir.path().join(format!("waag-data/cache/models/{kept}/model.safetensors")).exists());
    assert_eq!(events(dir.path()), [idle]);
}

#[tokio::test]
async fn nobody_deletes_beside_an_appliance() {
    let dir = folder();
    let idle = model(dir.path(), 'b', true);
    let held = Store::open(&dir.path().join("waag-data"), Options::default()).await.expect("a new directory");
    let said = run(dir.path(), &["collect", "--execute"]);
    assert_eq!(said.exit, 4, "{}", said.stdout);
    assert!(said.stderr.contains("collector_is_running"), "{}", said.stderr);
    let said = run(dir.path(), &["collect", "--json"]);
    assert_eq!(said.json()["models"][0]["reason"], "parts_idle", "a look is free");
    drop(held);
    assert_eq!(run(dir.path(), &["collect", "--execute"]).exit, 0);
    assert_eq!(events(dir.path()), [idle]);
}

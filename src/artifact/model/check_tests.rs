use std::{
    fs,
    path::Path,
    sync::{Mutex, atomic::AtomicU64, atomic::Ordering},
};

use async_trait::async_trait;
use serde_json::Value;

use super::*;
use crate::artifact::model::Folder;

/// Writes one weight file with tensors of one element each.
fn weights(dtype: &str, tensors: &[&str]) -> Vec<u8> {
    let bytes = Dtype::parse(dtype).unwrap().bits() / 8;
    let mut members = serde_json::Map::new();
    for (i, name) in tensors.iter().enumerate() {
        let begin = i as u64 * bytes;
        members
            .insert((*name).to_owned(), json!({"dtype": dtype, "shape": [1], "data_offsets": [begin, begin + bytes]}));
    }
    let header = serde_json::to_vec(&members).unwrap();
    let data = vec![0; tensors.len() * bytes as usize];
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn rules() -> Rules {
    serde_json::from_value(json!({
        "files": {
            "required": ["config.json"], "required_any": ["*.safetensors"],
            "allowed": ["model.safetensors.index.json", "README.md"], "forbidden": ["*.py"],
        },
        "dtypes": ["F16", "BF16"],
        "architecture": {"architectures": ["Moe"], "expected": {"vocab_size": 10}, "forbidden_keys": ["auto_map"]},
    }))
    .unwrap()
}

const CONFIG: &str = r#"{"architectures":["Moe"],"vocab_size":10}"#;

/// A good model in two shards.
fn model(folder: &Path) {
    let index: Value = json!({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}});
    fs::write(folder.join("config.json"), CONFIG).unwrap();
    fs::write(folder.join(index::FILE), index.to_string()).unwrap();
    fs::write(folder.join("model-1-of-2.safetensors"), weights("BF16", &["a"])).unwrap();
    fs::write(folder.join("model-2-of-2.safetensors"), weights("F16", &["b"])).unwrap();
}

async fn look(repo: &dyn Repo) -> Result<Passed, Refused> {
    preflight(repo, &rules(), &|_step| ()).await
}

async fn refused_after(change: impl FnOnce(&Path)) -> (String, Vec<&'static str>) {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    change(dir.path());
    let refused = look(&Folder::new(dir.path())).await.unwrap_err();
    assert!(!refused.steps.last().unwrap().ok);
    (refused.fault().code, refused.steps.iter().map(|step| step.name).collect())
}

#[tokio::test]
async fn a_good_model_passes_every_check() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    fs::create_dir(dir.path().join(".cache")).unwrap();
    fs::write(dir.path().join(".cache/left.metadata"), "x").unwrap();
    let heard = Mutex::new(Vec::new());
    let watch = |step: &Step| heard.lock().unwrap().push(step.name);
    let passed = preflight(&Folder::new(dir.path()), &rules(), &watch).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), ["file_manifest", "weight_dtype", "safetensors_index", "architecture"]);
    assert_eq!(passed.shards.len(), 2);
    assert_eq!(passed.files.len(), 4);
}

/// What is done to a good model.
type Change = Box<dyn FnOnce(&Path)>;

#[tokio::test]
async fn checks_fail_in_their_order_with_their_codes() {
    let dtype = |folder: &Path| fs::write(folder.join("model-1-of-2.safetensors"), weights("F32", &["a"])).unwrap();
    let config = |folder: &Path| fs::write(folder.join("config.json"), "{}").unwrap();
    let cases: [(&str, usize, Change); 7] = [
        ("file_manifest", 1, Box::new(|folder: &Path| fs::write(folder.join("x.py"), "").unwrap())),
        (
            "file_manifest",
            1,
            Box::new(|folder: &Path| {
                std::os::unix::fs::symlink("/etc/passwd", folder.join("README.md")).unwrap();
            }),
        ),
        ("weight_dtype", 2, Box::new(dtype)),
        (
            "safetensors_header",
            2,
            Box::new(|folder: &Path| {
                fs::write(folder.join("model-1-of-2.safetensors"), b"short").unwrap();
            }),
        ),
        ("safetensors_index", 3, Box::new(|folder: &Path| fs::remove_file(folder.join(index::FILE)).unwrap())),
        ("architecture", 4, Box::new(config)),
        // The first broken rule is the one that is named.
        (
            "weight_dtype",
            2,
            Box::new(move |folder: &Path| {
                dtype(folder);
                config(folder);
            }),
        ),
    ];
    for (code, count, change) in cases {
        let (found, steps) = refused_after(change).await;
        assert_eq!((found.as_str(), steps.len()), (code, count), "{steps:?}");
    }
    let (code, _) = refused_after(|folder| fs::remove_dir_all(folder).unwrap()).await;
    assert_eq!(code, "repo_not_found");
}

/// A source that answers from a folder, counts, and fails on request.
struct Source {
    folder: Folder,
    reads: AtomicU64,
    trouble: Option<Trouble>,
    short_by: usize,
}

#[async_trait]
impl Repo for Source {
    fn uri(&self) -> String {
        "source".to_owned()
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Trouble> {
        self.folder.list().await
    }

    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let read = self.folder.read(name, begin, bytes).await?;
        Ok(read.slice(..read.len().saturating_sub(self.short_by)))
    }
}

fn source(folder: &Path, trouble: Option<Trouble>, short_by: usize) -> Source {
    Source { folder: Folder::new(folder), reads: AtomicU64::new(0), trouble, short_by }
}

#[tokio::test]
async fn a_sources_trouble_is_never_the_miners() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    for trouble in [
        Trouble::NoRange("200 for a range".to_owned()),
        Trouble::Failed("503".to_owned()),
        Trouble::Damaged("digest".to_owned()),
    ] {
        let refused = look(&source(dir.path(), Some(trouble), 0)).await.unwrap_err();
        assert_eq!((refused.fault().code.as_str(), refused.fault().class.is_retried()), ("preflight_failed", true));
    }
    let refused = look(&source(dir.path(), None, 1)).await.unwrap_err();
    assert_eq!(refused.fault().code, "preflight_failed");
    let missing = look(&source(dir.path(), Some(Trouble::Missing("gone".to_owned())), 0)).await.unwrap_err();
    assert_eq!(missing.fault().code, "incomplete_repo");
}

#[tokio::test]
async fn headers_alone_are_read_of_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    // A shard of 70 GB that holds nothing, and a header longer than the first read.
    let names: Vec<String> = (0..400).map(|i| format!("layer.{i}.with.a.rather.long.name")).collect();
    let mut members = serde_json::Map::new();
    let each = 70_000_000_000_u64 / 400 / 2;
    for (i, name) in names.iter().enumerate() {
        let begin = i as u64 * each * 2;
        let offsets = [begin, begin + each * 2];
        members.insert(name.clone(), json!({"dtype": "BF16", "shape": [each], "data_offsets": offsets}));
    }
    let header = serde_json::to_vec(&members).unwrap();
    assert!(header.len() as u64 > FIRST_BYTES);
    let path = dir.path().join("model-1-of-2.safetensors");
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], &header].concat()).unwrap();
    let end = 8 + header.len() as u64 + 400 * each * 2;
    fs::File::options().write(true).open(&path).unwrap().set_len(end).unwrap();
    let mut map: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!("model-1-of-2.safetensors"))).collect();
    map.insert("b".to_owned(), json!("model-2-of-2.safetensors"));
    fs::write(dir.path().join(index::FILE), json!({"weight_map": map}).to_string()).unwrap();
    let source = source(dir.path(), None, 0);
    let passed = look(&source).await.unwrap();
    assert_eq!(source.reads.load(Ordering::Relaxed), 5);
    let files: u64 = passed.files.iter().filter(|file| file.name.ends_with(".json")).map(|file| file.bytes).sum();
    assert!(passed.read_bytes < header.len() as u64 + 2 * FIRST_BYTES + files, "{}", passed.read_bytes);
}

/// A source whose second weight file never answers, or answers before the first does.
struct Unordered {
    folder: Folder,
    second_is_silent: bool,
    second_was_read: tokio::sync::Notify,
}

#[async_trait]
impl Repo for Unordered {
    fn uri(&self) -> String {
        "source".to_owned()
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Trouble> {
        let mut files = self.folder.list().await?;
        // Whatever order the source has.
        files.reverse();
        Ok(files)
    }

    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
        match name {
            "model-1-of-2.safetensors" if !self.second_is_silent => self.second_was_read.notified().await,
            "model-2-of-2.safetensors" if self.second_is_silent => std::future::pending().await,
            _ => {}
        }
        let read = self.folder.read(name, begin, bytes).await;
        self.second_was_read.notify_one();
        read
    }
}

#[tokio::test]
async fn the_first_wrong_file_is_named_whichever_answers_first() {
    let (wrong_type, cut) = (weights("F32", &["a"]), b"short".to_vec());
    for (first, second, second_is_silent, code) in [
        (&wrong_type, &cut, false, "weight_dtype"),
        (&cut, &wrong_type, false, "safetensors_header"),
        (&weights("BF16", &["a"]), &cut, false, "safetensors_header"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        model(dir.path());
        fs::write(dir.path().join("model-1-of-2.safetensors"), first).unwrap();
        fs::write(dir.path().join("model-2-of-2.safetensors"), second).unwrap();
        let folder = Folder::new(dir.path());
        let source = Unordered { folder, second_is_silent, second_was_read: tokio::sync::Notify::new() };
        let refused = look(&source).await.unwrap_err();
        assert_eq!(refused.fault().code, code);
        let named = if refused.fault().detail.contains("model-1") { 1 } else { 2 };
        assert_eq!(named, if first.starts_with(&wrong_type) || first == &cut { 1 } else { 2 });
    }
}

#[tokio::test]
async fn what_is_behind_the_first_wrong_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    fs::write(dir.path().join("model-1-of-2.safetensors"), b"short").unwrap();
    let folder = Folder::new(dir.path());
    let source = Unordered { folder, second_is_silent: true, second_was_read: tokio::sync::Notify::new() };
    assert_eq!(look(&source).await.unwrap_err().fault().code, "safetensors_header");
}

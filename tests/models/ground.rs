//! Models behind a server on loopback, and a pipeline that takes them in by their commitments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use waag::{
    artifact::{
        fetch::Limits,
        model::{Disk, ModelCache},
    },
    clock::Clock,
    config::profile::Profile,
    dedup::{generate::Model, model::Key},
    gym::isolation::Host,
    ids::{Digest, Hotkey, Priority, SubmissionId},
    pipeline::{Challenge, Pipeline, Seen, Sighted, points::Points},
    score,
    stage::{
        catalog::{self, BuiltIn, Parts},
        model,
    },
    store::{Options, Store},
};

use crate::{
    fetch::{self, Answer},
    pipeline::world::HandClock,
};

/// What a stalled repository sends of an answer: more than the checks read of any file.
const STALLED_BYTES: usize = 20_000;
/// Weight files of every model.
const SHARDS: usize = 2;

/// Where models are, and who takes them in.
pub struct Ground {
    pub pipeline: Pipeline,
    pub clock: Arc<HandClock>,
    /// Repositories that answer 503.
    pub shut: Shared,
    /// Those that send the beginning of what is asked for, and stay on the line.
    pub stalled: Shared,
    /// How often one has.
    pub stalls: Arc<AtomicUsize>,
    pub data: std::path::PathBuf,
    dir: tempfile::TempDir,
}

/// A model that was published.
pub struct Published {
    pub repo: String,
    pub digest: Digest,
}

/// Writes the files of a model, as a repository has them.
pub fn write(dir: &Path, model: &Model, shards: usize) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), r#"{"architectures":["Moe"],"model_type":"moe"}"#).unwrap();
    let mut map = BTreeMap::new();
    for shard in 0..shards {
        let file = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
        let mut members = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, tensor) in model.tensors.iter().enumerate().filter(|(at, _)| at % shards == shard).map(|(_, it)| it)
        {
            let begin = data.len();
            data.extend(model.store.bytes(&tensor.data));
            let offsets = [begin, data.len()];
            members.insert(name.clone(), json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}));
            map.insert(name.clone(), file.clone());
        }
        let header = serde_json::to_vec(&members).unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        fs::write(dir.join(file), bytes).unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
}

/// Makes a folder a repository: its list of digests is what is committed.
pub fn sealed(dir: &Path) -> Digest {
    let mut sums = String::new();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names.iter().filter(|name| *name != "SHA256SUMS") {
        let bytes = fs::read(dir.join(name)).unwrap();
        sums.push_str(&format!("{}  {}\n", hex::encode(Sha256::digest(bytes)), name.display()));
    }
    fs::write(dir.join("SHA256SUMS"), &sums).unwrap();
    Digest::of(sums.as_bytes())
}

impl Ground {
    /// A ground whose profile has these options of `duplicates`, as in a table of TOML, and this base.
    pub async fn open(duplicates: &str, base: Option<&Model>) -> Self {
        Self::with_disk(duplicates, base, 100_000_000).await
    }

    /// The same with so many bytes for models.
    pub async fn with_disk(duplicates: &str, base: Option<&Model>, disk_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("www");
        let shut = Arc::new(Mutex::new(BTreeSet::new()));
        let stalled = Arc::new(Mutex::new(BTreeSet::new()));
        let stalls = Arc::new(AtomicUsize::new(0));
        let url = serve(&root, &shut, &stalled, &stalls).await;
        let base = base.map_or_else(String::new, |base| {
            let folder = root.join("team/base");
            write(&folder, base, 1);
            base_line(&format!("sha256:{}", sealed(&folder)))
        });
        let text = profile(&format!("plain = \"{url}\""), &base, duplicates, "plain");
        let data = dir.path().join("data");
        let store = Store::open(&data, Options::default()).await.unwrap();
        let clock = HandClock::at(1_000_000);
        let challenge = assemble(&text, &store, &clock, &data, disk_bytes);
        let challenges = BTreeMap::from([(challenge.slug.clone(), Arc::new(challenge))]);
        let shared: Arc<dyn Clock> = Arc::<HandClock>::clone(&clock);
        let pipeline = Pipeline::open(store, shared, challenges, Points::default()).await.unwrap();
        Self { pipeline, clock, shut, stalled, stalls, data, dir }
    }

    pub fn folder(&self, repo: &str) -> std::path::PathBuf {
        self.dir.path().join("www").join(repo)
    }

    pub fn publish(&self, repo: &str, model: &Model) -> Published {
        self.publish_in(repo, model, SHARDS)
    }

    /// The same in another number of weight files.
    pub fn publish_in(&self, repo: &str, model: &Model, shards: usize) -> Published {
        let folder = self.folder(repo);
        write(&folder, model, shards);
        Published { repo: repo.to_owned(), digest: sealed(&folder) }
    }

    /// A miner commits to a published model; hotkeys of one ten belong to one coldkey.
    pub async fn commit(&self, miner: u8, block: u64, published: &Published) -> SubmissionId {
        self.commit_of(miner, 200 + miner / 10, block, published).await
    }

    /// The same for a coldkey of its own.
    pub async fn commit_of(&self, miner: u8, owner: u8, block: u64, published: &Published) -> SubmissionId {
        let (hotkey, coldkey) = (Hotkey([miner; 32]), Hotkey([owner; 32]));
        let field = format!("v1|{}|sha256:{}", published.repo, published.digest);
        let at = Priority { block, index: 1 };
        let parts = BTreeMap::from([
            ("repo".to_owned(), published.repo.clone()),
            ("digest".to_owned(), format!("sha256:{}", published.digest)),
        ]);
        let sighted = Sighted {
            challenge: "models".to_owned(),
            hotkey,
            field: field.clone(),
            source: "plain".to_owned(),
            digest: Some(published.digest),
            parts,
            at,
            hash: None,
        };
        self.pipeline.sighted(vec![sighted]).await.unwrap();
        let digest = Some(published.digest);
        let seen = Seen { challenge: "models".to_owned(), hotkey, coldkey, field, digest, at };
        self.pipeline.commitments_seen(vec![seen]).await.unwrap()[0]
    }

    /// Works on the next submission; answers whether one waited.
    pub async fn step(&self) -> bool {
        self.pipeline.sweep(Some(1)).await.unwrap();
        let Some(attempt) = self.pipeline.claim().await.unwrap() else { return false };
        let challenge = self.pipeline.challenge(&attempt.submission.challenge).unwrap();
        let outcome = challenge.steps[attempt.submission.stage].stage.run(&attempt.work).await;
        self.pipeline.finish(&attempt, outcome).await.unwrap();
        true
    }

    /// Works until nothing waits.
    pub async fn rest(&self) {
        for turn in 0.. {
            assert!(turn < 100, "it does not come to rest");
            if !self.step().await {
                return;
            }
        }
    }

    pub fn advance_ms(&self, by: i64) {
        self.clock.advance_ms(by);
    }

    /// Status, code and stage of a submission.
    pub async fn stand(&self, id: SubmissionId) -> (String, String, usize) {
        let submission = self.pipeline.story(id).await.unwrap().submission;
        let code = submission.fault.map(|fault| fault.code).unwrap_or_default();
        (submission.status.to_string(), code, submission.stage)
    }

    /// What the newest verdict was decided on.
    pub async fn evidence(&self, id: SubmissionId) -> Value {
        self.pipeline.story(id).await.unwrap().verdicts.last().map(|line| line.evidence.clone()).unwrap()
    }
}

/// The profile's line for a base with this digest.
pub fn base_line(digest: &str) -> String {
    format!("base = \"team/base@{digest}\"")
}

/// A profile for models of this source, committed where `intake` says.
pub fn profile(source: &str, base: &str, duplicates: &str, intake: &str) -> String {
    format!(
        r#"
format = 1
slug = "models"
title = "Models"
share = 1.0
[artifact]
kind = "model"
bytes_max = 10_000_000
[artifact.options]
source = {{ {source} }}
naming = "[^/]+/model-.+"
dtypes = ["BF16"]
{base}
[artifact.options.files]
required = ["config.json"]
required_any = ["*.safetensors"]
allowed = ["model.safetensors.index.json", "model-*-of-*.safetensors", "SHA256SUMS"]
[intake]
door = "commitment"
source = "{intake}"
pattern = "v1|{{repo:path}}|{{digest:sha256}}"
[[stage]]
name = "checks"
kind = "checks"
retries = {{ infra = 2, provider = 3, backoff_ms_min = 1000, backoff_ms_max = 1000 }}
[[stage]]
name = "duplicates"
kind = "duplicates"
options = {{ {duplicates} }}
[ranking]
rule = "king"
"#
    )
}

fn assemble(text: &str, store: &Store, clock: &Arc<HandClock>, data: &Path, disk_bytes: u64) -> Challenge {
    let profile = Profile::parse(text, "models.toml").unwrap_or_else(|error| panic!("{error}"));
    profile.check(&BuiltIn).unwrap_or_else(|error| panic!("{error}"));
    let shared: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
    let parts = Parts {
        blobs: store.blobs().clone(),
        observation_key: [0; 32],
        host: Host { program: data.to_owned(), args: Vec::new() },
        onnx_library: None,
        models: model::Parts {
            fetch: Limits { allow_private: true, silence_ms: 5_000, ..Limits::default() },
            credentials: None,
            cache: ModelCache::open(data, Arc::<HandClock>::clone(clock) as Arc<dyn Clock>, Disk::new(disk_bytes))
                .unwrap(),
            prints: model::Prints::new(store.clone(), shared, Key::new([7; 32])),
            passes: Arc::new(Semaphore::new(1)),
        },
    };
    let stages = catalog::stages(&profile, &parts).unwrap_or_else(|fault| panic!("{fault}"));
    Challenge::assemble(&profile, stages, score::rule("king").unwrap())
}

type Shared = Arc<Mutex<BTreeSet<String>>>;

fn is_in(repos: &Shared, path: &str) -> bool {
    repos.lock().unwrap().iter().any(|repo| path.starts_with(repo))
}

/// Serves the files below a folder.
async fn serve(root: &Path, shut: &Shared, stalled: &Shared, stalls: &Arc<AtomicUsize>) -> String {
    fetch::with_tls();
    let (root, shut, stalled, stalls) = (root.to_owned(), Arc::clone(shut), Arc::clone(stalled), Arc::clone(stalls));
    let address = fetch::server(move |asked| {
        let path = asked.path.trim_start_matches('/');
        if is_in(&shut, path) {
            return Answer::of(503, "busy");
        }
        let Ok(bytes) = fs::read(root.join(path)) else { return Answer::of(404, "") };
        let answer = Answer::range(&bytes, asked.range);
        if is_in(&stalled, path) && answer.body.len() > STALLED_BYTES && asked.method == "GET" {
            stalls.fetch_add(1, Ordering::SeqCst);
            return Answer { cut: Some(STALLED_BYTES), stalls: true, ..answer };
        }
        answer
    })
    .await;
    format!("http://{address}")
}

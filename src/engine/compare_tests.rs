use super::*;
use crate::{
    artifact::pack::{Words, pack_bytes},
    engine::Needs,
    ids::{Hotkey, JobId, Priority, RunId, SubmissionId},
    store::{Options, Store},
};

const CART_POLE: &str = "CartPole-v1";

/// A policy of one of the recorded files, as a miner packs it.
fn bundle(file: &str) -> Vec<u8> {
    let path = format!("{}/testdata/gym/policies/{file}.onnx", env!("CARGO_MANIFEST_DIR"));
    let files = [(CART_POLE.to_owned(), path.into())];
    pack_bytes(&files, &Words::default(), &artifact::Limits::default()).expect("packs")
}

struct World {
    blobs: Blobs,
    contestants: Vec<Contestant>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&dir.path().join("data"), Options::default()).await.expect("a fresh store");
        Self { blobs: store.blobs().clone(), contestants: Vec::new(), _dir: dir }
    }

    fn joins(&mut self, artifact: Digest) -> String {
        let id = i64::try_from(self.contestants.len()).expect("few") + 1;
        self.contestants.push(Contestant {
            submission: SubmissionId(id),
            hotkey: Hotkey([u8::try_from(id).expect("few"); 32]),
            artifact,
            priority: Priority { block: id.unsigned_abs(), index: 0 },
            incumbent: false,
        });
        SubmissionId(id).to_string()
    }

    async fn sends(&mut self, bytes: Vec<u8>) -> String {
        let digest = self.blobs.put(bytes).await.expect("kept");
        self.joins(digest)
    }

    async fn compare(&self) -> Result<Answer, Fault> {
        // No child can be started: what is not fused cannot be played here.
        let host = Host { program: "/nowhere/at-all".into(), args: Vec::new() };
        let limits = artifact::Limits::default();
        let task = Compare::new(self.blobs.clone(), limits, BackendChoice::Embedded, host, [7; 32]);
        let spec = Spec {
            environments: vec![CART_POLE.to_owned()],
            observations: 64,
            challenge: "c".to_owned(),
            run: 1,
            block_hash: Digest::of(b"block"),
        };
        let job = Job {
            id: JobId(1),
            run: RunId(1),
            stage: "duplicates".to_owned(),
            kind: KIND.to_owned(),
            contestants: self.contestants.clone(),
            spec: serde_json::json!(spec),
            needs: Needs::ONE_CPU,
            timeout_ms: 60_000,
        };
        let records = task.run(&job, &Progress::unwatched(), &CancellationToken::new()).await?;
        Ok(serde_json::from_value(records).expect("its own answer"))
    }
}

#[tokio::test]
async fn one_that_cannot_be_read_or_played_keeps_nobody_from_being_compared() {
    let mut world = World::new().await;
    let missing = world.joins(Digest::of(b"nobody kept this"));
    let owner = world.sends(bundle(CART_POLE)).await;
    let unplayable = world.sends(bundle("layer-norm")).await;
    let refused = world.sends(b"no archive".to_vec()).await;
    let copy = world.joins(world.contestants[1].artifact);
    let answer = world.compare().await.expect("the others are compared");
    let codes: BTreeMap<&str, &str> =
        answer.faults.iter().map(|(name, fault)| (name.as_str(), fault.code.as_str())).collect();
    assert_eq!(codes[missing.as_str()], "blob_missing");
    assert_eq!(codes[unplayable.as_str()], "policy_child_unavailable");
    assert_eq!(answer.faults[&refused].class, Class::Miner);
    assert_eq!(codes.len(), 3, "{codes:?}");
    assert_eq!(answer.observations[CART_POLE], 64);
    let copies: Vec<(&str, &str)> =
        answer.copies.iter().map(|found| (found.copy.as_str(), found.victim.as_str())).collect();
    assert_eq!(copies, [(copy.as_str(), owner.as_str())]);
}

#[tokio::test]
async fn when_nothing_can_be_read_the_job_fails_and_is_tried_again() {
    let mut world = World::new().await;
    world.joins(Digest::of(b"nobody kept this"));
    world.joins(Digest::of(b"nor that"));
    let fault = world.compare().await.expect_err("nothing is there");
    assert_eq!((fault.class, fault.code.as_str()), (Class::Infra, "blob_missing"));
}

//! The weight setter against the embedded devnet, over its real socket, a block at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::{super::Tasks, *};
use crate::{
    actors::follower::snapshot_of,
    chain::{Call, testkit::control},
    clock::SystemClock,
    devnet::{self, Blocks},
    ids::SystemEntropy,
    pipeline::{Challenge, Challenges, IntakePolicy, points::Points, testkit},
    store::{Options, Store},
};

const SLUG: &str = "told";
const PATIENCE: Duration = Duration::from_secs(60);
const FAR_MS: i64 = i64::MAX;
/// Enough to keep the permit at every epoch.
const STAKE_RAO: u64 = 1_000_000_000_000;

fn challenge() -> Challenge {
    let intake = IntakePolicy {
        reveal_within_blocks: 1,
        artifact_within_blocks: 1,
        uploads_per_hour: 1,
        artifact_bytes_max: 1,
        ..IntakePolicy::default()
    };
    testkit::challenge(SLUG, intake)
}

pub(super) fn challenges() -> Challenges {
    Challenges::from([(SLUG.to_owned(), Arc::new(challenge()))])
}

/// A subnet with a validator and two miners, and a pipeline whose ranking pays the first.
pub(super) struct Scene {
    tasks: Tasks,
    handle: devnet::Handle,
    pub(super) client: Client,
    pub(super) pipeline: Pipeline,
    pub(super) netuid: u16,
    pub(super) policy: Policy,
    _dir: tempfile::TempDir,
}

pub(super) fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

impl Scene {
    async fn new() -> Self {
        Self::with(json!({ "tempo": 50, "commit_reveal": false })).await
    }

    /// A subnet of this kind.
    pub(super) async fn with(kind: Json) -> Self {
        Self::on(devnet::Options::default(), kind).await
    }

    /// A subnet of this kind on a chain of this kind.
    pub(super) async fn on(options: devnet::Options, mut kind: Json) -> Self {
        let tasks = Tasks::new();
        let options = devnet::Options { blocks: Blocks::Manual, ..options };
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.unwrap();
        let client = Client::connect(chain::Options::new(vec![handle.url()])).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).await.unwrap();
        let pipeline = Pipeline::open(store, SystemClock::shared(), challenges(), Points::default()).await.unwrap();
        let policy = Policy {
            burn_uid: 0,
            interval_blocks: 1_000_000,
            recheck_ms: 100,
            mechanism: 0,
            version_key: 0,
            hiding: Hiding::Auto,
            beacon: Beacon::Chain,
        };
        let mut scene = Self { tasks, handle, client, pipeline, netuid: 0, policy, _dir: dir };
        kind["owner"] = json!(key("//Alice").account());
        kind["weights_set_rate_limit"] = json!(0);
        kind["min_allowed_weights"] = json!(1);
        scene.netuid =
            u16::try_from(scene.control("dev_createSubnet", json!([kind])).await["netuid"].as_u64().unwrap()).unwrap();
        for name in ["//Bob", "//Charlie", "//Dave"] {
            let account = key(name).account();
            scene.control("dev_register", json!([scene.netuid, account, account])).await;
        }
        scene.control("dev_setPermit", json!([scene.netuid, key("//Bob").account(), true, STAKE_RAO])).await;
        scene.blocks(3).await;
        scene.pay("//Charlie").await;
        scene
    }

    pub(super) async fn control(&self, method: &str, params: Json) -> Json {
        control(&self.handle.url(), method, params).await
    }

    pub(super) async fn set(&self, name: &str, value: impl Into<Json>) {
        self.control("dev_setHyperparameter", json!([self.netuid, name, value.into()])).await;
    }

    pub(super) async fn blocks(&self, count: u32) {
        self.control("dev_newBlock", json!([count])).await;
    }

    /// A new ranking, in which this hotkey earns everything.
    pub(super) async fn pay(&self, name: &str) {
        let body = json!({ "weights": { key(name).account().to_string(): 1.0 } });
        self.pipeline.report(SLUG, "service", body, FAR_MS).await.unwrap();
        let ranked = self.pipeline.rank(&self.facts().await.snapshot).await.unwrap();
        assert_eq!(ranked, [SLUG]);
    }

    /// What a follower at the finalized head knows.
    pub(super) async fn facts(&self) -> Facts {
        let finalized = self.client.finalized_head().await.unwrap();
        let metagraph = self.client.metagraph(self.netuid, finalized.hash).await.unwrap();
        let rules = self.client.weight_rules(self.netuid, finalized.hash).await.unwrap();
        Facts {
            netuid: self.netuid,
            genesis: self.client.genesis_hash(),
            head: finalized.number,
            catching_up: false,
            stored_at_ms: None,
            finalized,
            snapshot: snapshot_of(&metagraph),
            metagraph,
            rules,
        }
    }

    pub(super) fn weigher(&self, name: &str, facts: Option<Facts>) -> Weigher {
        Weigher {
            client: self.client.clone(),
            hotkey: Arc::new(key(name)),
            pipeline: self.pipeline.clone(),
            facts: watch::channel(facts).1,
            policy: self.policy,
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// One look of the validator's weight setter with present facts.
    pub(super) async fn look(&self) -> Result<bool, Error> {
        self.weigher("//Bob", Some(self.facts().await)).look_and_tell().await
    }

    /// Every vector so far: state and reason.
    pub(super) async fn vectors(&self) -> Vec<(String, Option<String>)> {
        let read = |conn: &rusqlite::Connection| {
            let mut statement = conn.prepare("SELECT state, detail FROM vectors ORDER BY id")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            Ok::<_, pipeline::Error>(rows)
        };
        self.pipeline.store().db().read(read).await.unwrap()
    }

    pub(super) async fn states(&self) -> Vec<String> {
        self.vectors().await.into_iter().map(|(state, _)| state).collect()
    }

    /// The code of the refusal that stands.
    pub(super) async fn refused(&self) -> Option<String> {
        let read = |conn: &rusqlite::Connection| {
            let fault: Option<String> = rusqlite::OptionalExtension::optional(conn.query_row(
                "SELECT fault FROM weight_refusals",
                [],
                |row| row.get(0),
            ))?;
            Ok::<_, pipeline::Error>(fault.map(|text| serde_json::from_str::<Fault>(&text).unwrap().code))
        };
        self.pipeline.store().db().read(read).await.unwrap()
    }

    pub(super) async fn set_by_bob(&self) -> BTreeMap<u16, u16> {
        let head = self.client.finalized_head().await.unwrap();
        let uid = self.client.uid_of(self.netuid, &key("//Bob").account(), head.hash).await.unwrap().unwrap();
        self.client
            .weights(storage_index(self.netuid, self.policy.mechanism), uid, head.hash)
            .await
            .unwrap()
            .into_iter()
            .collect()
    }

    pub(super) async fn end(self) {
        let Self { tasks, handle, client, .. } = self;
        drop(client);
        handle.stop().await;
        assert_eq!(tasks.drain(PATIENCE).await, Vec::<&str>::new());
    }
}

/// Charlie is uid 2: the owner is 0, Bob 1.
pub(super) const CHARLIE: u16 = 2;
pub(super) const DAVE: u16 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_confirmed_once_they_are_read_back() {
    let scene = Scene::new().await;
    assert!(scene.look().await.unwrap(), "decided");
    assert!(!scene.look().await.unwrap(), "sent");
    assert_eq!(scene.states().await, ["decided"]);
    scene.blocks(1).await;
    assert!(!scene.look().await.unwrap(), "included, not final");
    scene.blocks(3).await;
    assert!(scene.look().await.unwrap());
    assert_eq!(scene.states().await, ["confirmed"]);
    assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
    assert!(!scene.look().await.unwrap(), "nothing is due");
    scene.pay("//Dave").await;
    scene.set("weights_set_rate_limit", 100).await;
    scene.blocks(3).await;
    assert!(!scene.look().await.unwrap(), "the rate limit holds");
    scene.blocks(100).await;
    assert!(scene.look().await.unwrap(), "and is over");
    assert_eq!(scene.states().await, ["confirmed", "decided"]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_confirms_what_was_set_before_it_knows_the_chain() {
    let scene = Scene::new().await;
    scene.look().await.unwrap();
    scene.look().await.unwrap();
    scene.blocks(4).await;
    // Just started: the follower has told nothing yet.
    assert!(scene.weigher("//Bob", None).look_and_tell().await.unwrap());
    assert_eq!(scene.states().await, ["confirmed"]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pool_refuses_is_not_signed_anew_before_it_is_dead() {
    let scene = Scene::new().await;
    scene.look().await.unwrap();
    scene.set("weights_set_rate_limit", 1000).await;
    for _ in 0..3 {
        let refused = scene.look().await;
        assert!(matches!(refused, Err(Error::Chain(chain::Error::Pool { .. }))), "{refused:?}");
    }
    assert_eq!(scene.states().await, ["decided"]);
    assert!(scene.refused().await.is_some());
    scene.blocks(u32::try_from(chain::ERA_BLOCKS).unwrap() + 2).await;
    assert!(scene.look().await.unwrap());
    let vectors = scene.vectors().await;
    assert!(
        vectors[0].0 == "failed" && vectors[0].1.as_ref().unwrap().contains("weights_extrinsic_dead"),
        "{vectors:?}"
    );
    assert!(!scene.look().await.unwrap(), "the rate limit is read from the chain");
    scene.set("weights_set_rate_limit", 0).await;
    scene.blocks(3).await;
    scene.look().await.unwrap();
    assert_eq!(scene.refused().await, None, "new ones were decided");
    scene.look().await.unwrap();
    scene.blocks(4).await;
    scene.look().await.unwrap();
    assert_eq!(scene.states().await, ["failed", "confirmed"]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_another_program_used_up_ends_the_letter() {
    let scene = Scene::new().await;
    scene.look().await.unwrap();
    let call =
        Call::SetWeights { netuid: scene.netuid, mechanism: 0, uids: vec![DAVE], values: vec![1], version_key: 0 };
    let other = scene.client.sign(&key("//Bob"), call, None).await.unwrap();
    scene.client.submit(&other).await.unwrap();
    scene.blocks(4).await;
    assert!(scene.look().await.unwrap());
    assert_eq!(scene.states().await, ["failed"]);
    scene.look().await.unwrap();
    scene.look().await.unwrap();
    scene.blocks(4).await;
    scene.look().await.unwrap();
    assert_eq!(scene.states().await, ["failed", "confirmed"]);
    assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_do_not_stand_are_set_again() {
    let scene = Scene::new().await;
    scene.look().await.unwrap();
    scene.look().await.unwrap();
    scene.blocks(1).await;
    let call =
        Call::SetWeights { netuid: scene.netuid, mechanism: 0, uids: vec![DAVE], values: vec![1], version_key: 0 };
    let other = scene.client.sign(&key("//Bob"), call, None).await.unwrap();
    scene.client.submit(&other).await.unwrap();
    scene.blocks(4).await;
    assert!(scene.look().await.unwrap());
    let vectors = scene.vectors().await;
    assert!(vectors[0].1.as_ref().is_some_and(|detail| detail.contains("weights_read_back_differs")), "{vectors:?}");
    scene.look().await.unwrap();
    scene.look().await.unwrap();
    scene.blocks(4).await;
    scene.look().await.unwrap();
    assert_eq!(scene.states().await, ["failed", "confirmed"]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_in_its_block_is_told() {
    let scene = Scene::new().await;
    scene.look().await.unwrap();
    // The pool asks for no permit, the call does.
    scene.control("dev_setPermit", json!([scene.netuid, key("//Bob").account(), false, 0])).await;
    assert!(!scene.look().await.unwrap(), "sent");
    scene.blocks(4).await;
    assert!(scene.look().await.unwrap());
    let vectors = scene.vectors().await;
    assert!(vectors[0].0 == "failed" && vectors[0].1.as_ref().unwrap().contains("chain_no_permit"), "{vectors:?}");
    let refused = scene.look().await;
    assert!(matches!(&refused, Err(Error::Refused(fault)) if fault.code == "chain_no_permit"), "{refused:?}");
    assert_eq!(scene.refused().await.as_deref(), Some("chain_no_permit"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_forbids_weights_is_kept_until_it_is_over() {
    let scene = Scene::new().await;
    let facts = scene.facts().await;
    let stranger = scene.weigher("//Eve", Some(facts)).look_and_tell().await;
    assert!(matches!(stranger, Err(Error::Refused(_))), "{stranger:?}");
    assert_eq!(scene.refused().await.as_deref(), Some("validator_unregistered"));
    let permit = |given: bool, stake_rao: u64| json!([scene.netuid, key("//Bob").account(), given, stake_rao]);
    scene.control("dev_setPermit", permit(false, 0)).await;
    scene.blocks(3).await;
    for _ in 0..2 {
        assert!(matches!(scene.look().await, Err(Error::Refused(_))));
    }
    assert_eq!(scene.refused().await.as_deref(), Some("chain_no_permit"));
    let kinds = |conn: &rusqlite::Connection| {
        let sql = "SELECT count(*) FROM events WHERE kind = 'weights_refused'";
        Ok::<_, pipeline::Error>(conn.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    };
    assert_eq!(scene.pipeline.store().db().read(kinds).await.unwrap(), 2, "one event for each reason");
    scene.control("dev_setPermit", permit(true, STAKE_RAO)).await;
    scene.blocks(3).await;
    assert!(scene.look().await.unwrap());
    assert_eq!(scene.refused().await, None);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ranking_is_proven_before_the_next_one() {
    let scene = Scene::new().await;
    let facts = watch::channel(Some(scene.facts().await)).1;
    assert!(scene.pipeline.has_unproven_ranking().await.unwrap());
    while super::super::ranker::look(&scene.pipeline, &facts, 0).await.unwrap() {}
    let first = scene.pipeline.ranking(SLUG).await.unwrap().unwrap();
    let bytes =
        scene.pipeline.store().blobs().get(&first.evidence.expect("proven"), bundle::BUNDLE_BYTES).await.unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert!(bundle::verify(&bundle).is_passed());
    assert_eq!(bundle.vector.unwrap().get(CHARLIE), u16::MAX);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_an_upgrade_is_signed_anew_after_it() {
    let scene = Scene::new().await;
    assert!(scene.look().await.unwrap(), "decided and signed");
    scene.control("dev_upgrade", json!([461])).await;
    let refused = scene.look().await;
    assert!(matches!(refused, Err(Error::Chain(chain::Error::Pool { .. }))), "{refused:?}");
    scene.blocks(u32::try_from(chain::ERA_BLOCKS).unwrap() + 2).await;
    assert!(scene.look().await.unwrap(), "dead");
    assert!(scene.look().await.unwrap(), "decided again");
    assert!(!scene.look().await.unwrap(), "sent");
    scene.blocks(4).await;
    assert!(scene.look().await.unwrap());
    assert_eq!(scene.states().await, ["failed", "confirmed"]);
    scene.end().await;
}

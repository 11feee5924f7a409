//! Reading commitments from the embedded devnet, over its real socket: block by block, from state, and again.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use subxt_rpcs::{RpcClient, client::RpcParams};

use super::{
    Tasks,
    follower::{Error, snapshot_of},
    reading::{Reader, rescan},
};
use crate::{
    chain::{self, BlockRef, Call, Client, Field, Keypair, merge_fields, timelock::Beacon},
    clock::SystemClock,
    config::profile::{Incumbents, Opens, Source},
    devnet::{self, Blocks},
    ids::{Digest, Hotkey, Priority},
    intake::Form,
    pipeline::{Challenge, Challenges, Gap, IntakePolicy, Pipeline, RunPolicy, first_of, points::Points},
    score,
    store::{Options, Store},
};

const PATIENCE: Duration = Duration::from_secs(120);

fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

fn challenge(slug: &str, intake: IntakePolicy) -> (String, Arc<Challenge>) {
    let run = RunPolicy {
        opens: Opens::Operator,
        every_blocks: 1,
        contestants_max: 1,
        incumbents: Incumbents::None,
        seed_delay_blocks: 0,
        rounds_after_arrival: 0,
        guarded: false,
    };
    let challenge = Challenge {
        slug: slug.to_owned(),
        share: 0.1,
        profile_text: format!("slug = \"{slug}\"\n"),
        steps: Vec::new(),
        run,
        intake: IntakePolicy { reveal_within_blocks: 100_000, artifact_within_blocks: 100_000, ..intake },
        rule: score::rule("reported").unwrap(),
        rule_options: json!({}),
    };
    (slug.to_owned(), Arc::new(challenge))
}

fn challenges(one_per_hotkey: bool, ledger_from_block: u64) -> Challenges {
    let form = |source| Form { source, pattern: Some("v7|{repo:path}|{digest:sha256}".parse().unwrap()) };
    let with = |form| IntakePolicy { form, one_per_hotkey, ledger_from_block, ..IntakePolicy::default() };
    Challenges::from([
        challenge("gym", with(Form::default())),
        challenge("models", with(form(Source::Plain))),
        challenge("locked", with(form(Source::Revealed))),
    ])
}

async fn pipeline(dir: &Path, challenges: Challenges) -> Pipeline {
    let store = Store::open(dir, Options::default()).await.unwrap();
    Pipeline::open(store, SystemClock::shared(), challenges, Points::default()).await.unwrap()
}

/// A devnet with a subnet in which //Bob, //Charlie and //Dave are registered, each its own coldkey.
struct Scene {
    tasks: Tasks,
    handle: devnet::Handle,
    client: Client,
    netuid: u16,
}

impl Scene {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let options = devnet::Options { blocks: Blocks::Manual, finality_lag: 0, ..devnet::Options::default() };
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.unwrap();
        let client = Client::connect(chain::Options::new(vec![handle.url()])).await.unwrap();
        let mut scene = Self { tasks, handle, client, netuid: 0 };
        let wanted = json!([{ "owner": key("//Alice").account(), "tempo": 50, "commit_reveal": false }]);
        let made = scene.control("dev_createSubnet", wanted).await;
        scene.netuid = u16::try_from(made["netuid"].as_u64().unwrap()).unwrap();
        for name in ["//Bob", "//Charlie", "//Dave"] {
            let account = key(name).account();
            scene.control("dev_register", json!([scene.netuid, account, account])).await;
        }
        scene
    }

    async fn control(&self, method: &str, params: Json) -> Json {
        let mut given = RpcParams::new();
        params.as_array().unwrap().iter().for_each(|param| given.push(param).unwrap());
        let rpc = RpcClient::from_url(self.handle.url()).await.unwrap();
        rpc.request(method, given).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn blocks(&self, count: u32) {
        // In pieces, so that a busy machine does not outlast the time of one request.
        for first in (0..count).step_by(100) {
            self.control("dev_newBlock", json!([(count - first).min(100)])).await;
        }
    }

    /// Hands a call to the pool; the next block includes it.
    async fn submit(&self, signer: &Keypair, call: Call) {
        let signed = self.client.sign(signer, call, None).await.unwrap();
        self.client.submit(&signed).await.unwrap();
    }

    async fn commit(&self, uri: &str, fields: &[Field]) {
        self.submit(&key(uri), Call::SetCommitment { netuid: self.netuid, fields: fields.to_vec() }).await;
    }

    async fn head(&self) -> BlockRef {
        self.client.finalized_head().await.unwrap()
    }

    async fn at(&self, number: u64) -> BlockRef {
        self.client.block(self.client.block_hash(number).await.unwrap().unwrap()).await.unwrap()
    }

    fn reader(&self, pipeline: &Pipeline) -> Reader {
        Reader { client: self.client.clone(), netuid: self.netuid, pipeline: pipeline.clone() }
    }

    /// What the follower does with a block.
    async fn take_block(&self, pipeline: &Pipeline, number: u64) -> Result<(), Error> {
        let block = self.at(number).await;
        let news = self.client.block_news(self.netuid, &block).await?;
        let metagraph = self.client.metagraph(self.netuid, block.hash).await?;
        pipeline.members(&snapshot_of(&metagraph)).await?;
        let seen = self.reader(pipeline).admit(&block, &news, &metagraph).await?;
        pipeline.advance(self.netuid, block.number, block.hash, seen, false).await?;
        Ok(())
    }

    async fn rescan(&self, pipeline: &Pipeline, from: u64, to: u64) -> super::Rescanned {
        rescan(&self.client, self.netuid, pipeline, from, to, &|_block| {}).await.unwrap()
    }

    async fn end(self) {
        let Self { tasks, handle, client, .. } = self;
        drop(client);
        handle.stop().await;
        assert_eq!(tasks.drain(PATIENCE).await, Vec::<&str>::new());
    }
}

fn text(name: &str, digit: char) -> String {
    format!("v7|{name}|sha256:{}", digit.to_string().repeat(64))
}

async fn first(pipeline: &Pipeline, challenge: &str, uri: &str, field: &str) -> Option<Priority> {
    let (challenge, field, hotkey) = (challenge.to_owned(), field.to_owned(), key(uri).account());
    pipeline.store().db().read(move |conn| first_of(conn, &challenge, &hotkey, &field)).await.unwrap()
}

/// Every first sighting, as text.
async fn table(pipeline: &Pipeline) -> Vec<String> {
    pipeline
        .store()
        .db()
        .read(|conn| {
            let mut select = conn.prepare(
                "SELECT challenge, hotkey, field, source, digest, block, idx, hash FROM first_sightings
                 ORDER BY challenge, hotkey, field",
            )?;
            let rows = select.query_map([], |row| {
                let words = (0..4).map(|column| row.get::<_, String>(column)).collect::<Result<Vec<_>, _>>()?;
                let digest: Option<String> = row.get(4)?;
                let (block, index): (u64, u64) = (row.get(5)?, row.get(6)?);
                let hash: Option<String> = row.get(7)?;
                Ok(format!("{words:?} {digest:?} {block}/{index} {hash:?}"))
            })?;
            Ok::<_, crate::pipeline::Error>(rows.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_block_a_state_and_a_rescan_come_to_the_same_first_sightings() {
    let scene = Scene::new().await;
    let plain = |name: &str, digit| Field::text(&text(name, digit)).unwrap();
    // Two in one block: the extrinsic decides. Then a copy of the first, and re-commits of everything.
    scene.commit("//Bob", &[plain("a/b", 'a')]).await;
    scene.commit("//Charlie", &[plain("c/d", 'a'), Field::Raw(vec![0xff, 0xfe])]).await;
    scene.blocks(1).await;
    let made = scene.head().await.number;
    scene.commit("//Dave", &[plain("e/f", 'a')]).await;
    scene.commit("//Bob", &[plain("long/name", 'b'), Field::BigRaw(vec![b'x'; 300])]).await;
    scene.blocks(3).await;
    scene.commit("//Bob", &[plain("a/b", 'a')]).await;
    scene.blocks(2).await;
    scene.commit("//Charlie", &[plain("c/d", 'a')]).await;
    scene.blocks(1).await;
    let head = scene.head().await.number;

    let dir = tempfile::tempdir().unwrap();
    let whole = pipeline(&dir.path().join("whole"), challenges(false, 0)).await;
    for number in 1..=head {
        scene.take_block(&whole, number).await.unwrap();
    }
    assert_eq!(first(&whole, "models", "//Bob", &text("a/b", 'a')).await.unwrap().block, made);
    let owner = whole.owner_of("models", Digest([0xaa; 32])).await.unwrap().unwrap();
    assert_eq!((owner.0, owner.1.block), (key("//Bob").account(), made));

    // From a state, then a gap, then again from old blocks.
    let late = pipeline(&dir.path().join("late"), challenges(false, 0)).await;
    scene.reader(&late).take_state(head, head).await.unwrap();
    let moved = first(&late, "models", "//Bob", &text("a/b", 'a')).await.unwrap();
    assert!(moved.block > made && moved.index == u32::MAX, "{moved:?}");
    late.gap(scene.netuid, 1, head - 1).await.unwrap();
    scene.take_block(&late, head).await.unwrap();
    let done = scene.rescan(&late, 1, head).await;
    assert_eq!((done.blocks_read, done.commitments, done.gaps), (head, 6, vec![]));
    assert_eq!((done.sighted.earlier, done.sighted.new), (3, 1));
    assert_eq!(table(&late).await, table(&whole).await);
    assert_eq!(late.gaps(scene.netuid).await.unwrap(), []);
    let submission = late.committed("models", key("//Bob").account(), &text("a/b", 'a')).await.unwrap().unwrap();
    assert_eq!(submission.committed.block, made);
    // Again, and again by state: nothing moves.
    let again = scene.rescan(&late, 1, head).await;
    assert_eq!((again.sighted.new, again.sighted.earlier, again.submissions), (0, 0, 0));
    assert_eq!(table(&late).await, table(&whole).await);
    scene.end().await;
}

#[tokio::test]
async fn what_the_chain_opens_is_read_as_it_happens_and_from_state() {
    const ROUND: u64 = 1000;
    const SIGNATURE: &str =
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39";
    let scene = Scene::new().await;
    let lock = |content: &[u8], entropy| {
        let plaintext = crate::chain::timelock::commitment_plaintext(content);
        let encrypted = Beacon::quicknet().seal(ROUND, &plaintext, [entropy; 32]).unwrap();
        Field::TimelockEncrypted { encrypted, reveal_round: ROUND }
    };
    scene.commit("//Bob", &[lock(text("a/b", 'a').as_bytes(), 1), Field::Raw(b"stays".to_vec())]).await;
    scene.commit("//Charlie", &[lock(&[0xff, 0xfe, 0xfd], 2)]).await;
    scene.blocks(1).await;
    let committed = scene.head().await;
    assert_eq!(scene.client.revealed(scene.netuid, committed.hash).await.unwrap(), []);
    scene.control("dev_injectPulse", json!([ROUND, SIGNATURE])).await;
    scene.blocks(2).await;
    let head = scene.head().await;

    let mut all = scene.client.revealed(scene.netuid, head.hash).await.unwrap();
    all.sort_by_key(|revealed| revealed.bytes.len());
    let (raw, opened) = (&all[0], &all[1]);
    assert_eq!((raw.hotkey, raw.payload()), (key("//Charlie").account(), &[0xff, 0xfe, 0xfd][..]));
    assert_eq!((opened.hotkey, opened.payload()), (key("//Bob").account(), text("a/b", 'a').as_bytes()));
    assert!(opened.block > committed.number, "it counts from where it was opened");
    let news = scene.client.block_news(scene.netuid, &scene.at(opened.block).await).await.unwrap();
    let mut reveals = news.reveals.clone();
    reveals.sort_by_key(|revealed| revealed.bytes.len());
    assert_eq!((reveals, news.is_telling()), (all.clone(), true));
    let before = scene.client.block_news(scene.netuid, &committed).await.unwrap();
    assert_eq!((before.reveals.len(), before.commitments.len()), (0, 2));

    let dir = tempfile::tempdir().unwrap();
    let whole = pipeline(&dir.path().join("whole"), challenges(false, 0)).await;
    for number in 1..=head.number {
        scene.take_block(&whole, number).await.unwrap();
    }
    let expected = Priority { block: opened.block, index: 0 };
    assert_eq!(first(&whole, "locked", "//Bob", &text("a/b", 'a')).await, Some(expected));
    let late = pipeline(&dir.path().join("late"), challenges(false, 0)).await;
    assert_eq!(scene.reader(&late).take_state(head.number, head.number).await.unwrap(), 1);
    assert_eq!(table(&late).await, table(&whole).await);
    scene.end().await;
}

#[tokio::test]
async fn blocks_whose_state_is_gone_are_named_as_gaps() {
    let scene = Scene::new().await;
    scene.commit("//Bob", &[Field::text(&text("a/b", 'a')).unwrap()]).await;
    scene.blocks(4_500).await;
    scene.commit("//Charlie", &[Field::text(&text("c/d", 'c')).unwrap()]).await;
    scene.blocks(2).await;
    let (dir, head) = (tempfile::tempdir().unwrap(), scene.head().await.number);
    let pipeline = pipeline(dir.path(), challenges(false, 0)).await;
    let done = scene.rescan(&pipeline, 1, head).await;
    let [gap] = done.gaps[..] else { panic!("{done:?}") };
    assert_eq!(gap.from, 1);
    assert_eq!(done.blocks_read, head - gap.to, "everything that can be read was read");
    assert_eq!(pipeline.gaps(scene.netuid).await.unwrap(), [Gap { from: 1, to: gap.to }]);
    // What still stands is known by its block, without an index.
    let bob = first(&pipeline, "models", "//Bob", &text("a/b", 'a')).await.unwrap();
    assert!(bob.block < gap.to && bob.index == u32::MAX, "{bob:?}");
    let charlie = first(&pipeline, "models", "//Charlie", &text("c/d", 'c')).await.unwrap();
    assert!(charlie.block > gap.to && charlie.index < u32::MAX, "{charlie:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_field_of_another_challenge_stays_when_one_changes() {
    let scene = Scene::new().await;
    let seal = |challenge: &str, salt| {
        let (slug, hotkey) = (challenge.parse().unwrap(), key("//Bob").account());
        chain::Sealed::new(&scene.client.genesis_hash(), scene.netuid, &slug, &hotkey, &Digest([1; 32]), &[salt; 32])
    };
    let lock = Field::TimelockEncrypted { encrypted: vec![7; 300], reveal_round: 1 << 40 };
    scene.commit("//Bob", &[lock.clone(), seal("gym", 1).field()]).await;
    scene.blocks(1).await;
    let stored = |at: Digest| {
        let (client, netuid) = (scene.client.clone(), scene.netuid);
        async move { client.commitment_of(netuid, &key("//Bob").account(), at).await.unwrap().unwrap().fields }
    };
    let fields = merge_fields(&stored(scene.head().await.hash).await, &seal("duel", 2)).unwrap();
    scene.commit("//Bob", &fields).await;
    scene.blocks(1).await;
    let fields = stored(scene.head().await.hash).await;
    assert_eq!(fields, [lock.clone(), seal("gym", 1).field(), seal("duel", 2).field()]);
    assert!(merge_fields(&fields, &seal("third", 3)).is_err(), "three is all there is room for");
    scene.commit("//Bob", &merge_fields(&fields, &seal("gym", 9)).unwrap()).await;
    scene.blocks(1).await;
    assert_eq!(stored(scene.head().await.hash).await, [lock, seal("gym", 9).field(), seal("duel", 2).field()]);
    scene.end().await;
}

fn registered_as(pipeline: &Pipeline, hotkey: Hotkey) -> impl Future<Output = Option<(String, u64)>> {
    let pipeline = pipeline.clone();
    async move { pipeline.used("models", hotkey).await.unwrap().map(|used| (used.source, used.block)) }
}

#[tokio::test]
async fn history_and_swaps_use_hotkeys_up() {
    let scene = Scene::new().await;
    let plain = |name: &str, digit| Field::text(&text(name, digit)).unwrap();
    scene.commit("//Bob", &[Field::Raw(b"anything at all".to_vec())]).await;
    scene.blocks(1).await;
    let history = scene.head().await.number;
    // A later commitment hides Bob's earlier one from every state but the old.
    scene.commit("//Bob", &[plain("a/b", 'a')]).await;
    scene.commit("//Charlie", &[plain("c/d", 'c')]).await;
    scene.blocks(1).await;
    let dir = tempfile::tempdir().unwrap();
    let used_up = pipeline(dir.path(), challenges(true, history)).await;
    assert_eq!(scene.reader(&used_up).history().await.unwrap(), 3, "one for each challenge that asks");
    assert_eq!(scene.reader(&used_up).history().await.unwrap(), 0, "once");
    for number in 1..=scene.head().await.number {
        scene.take_block(&used_up, number).await.unwrap();
    }
    let (bob, charlie) = (key("//Bob"), key("//Charlie"));
    assert_eq!(registered_as(&used_up, bob.account()).await, Some(("history".to_owned(), history)));
    assert_eq!(registered_as(&used_up, charlie.account()).await, None);
    assert_eq!(used_up.committed("models", bob.account(), &text("a/b", 'a')).await.unwrap(), None);
    assert!(used_up.committed("models", charlie.account(), &text("c/d", 'c')).await.unwrap().is_some());
    assert_eq!(refusals(&used_up).await, ["hotkey_reused"]);
    // A restart that reads the same blocks again says nothing twice.
    drop(used_up);
    let used_up = pipeline(dir.path(), challenges(true, history)).await;
    for number in 1..=scene.head().await.number {
        scene.take_block(&used_up, number).await.unwrap();
    }
    assert_eq!(refusals(&used_up).await, ["hotkey_reused"]);

    // Bob's place goes to another key of his, which never registered.
    chain::testkit::swap_hotkey(&scene.client, &bob, bob.account().0, key("//Eve").account().0).await.unwrap();
    scene.blocks(1).await;
    scene.take_block(&used_up, scene.head().await.number).await.unwrap();
    assert_eq!(registered_as(&used_up, key("//Eve").account()).await, Some(("swap".to_owned(), history)));
    scene.commit("//Eve", &[plain("m/n", 'd')]).await;
    scene.blocks(1).await;
    scene.take_block(&used_up, scene.head().await.number).await.unwrap();
    assert_eq!(refusals(&used_up).await, ["hotkey_reused", "hotkey_reused"]);
    scene.end().await;
}

async fn refusals(pipeline: &Pipeline) -> Vec<String> {
    pipeline
        .store()
        .db()
        .read(|conn| {
            let mut select = conn.prepare("SELECT fault ->> 'code' FROM refusals ORDER BY id")?;
            let rows = select.query_map([], |row| row.get(0))?;
            Ok::<_, crate::pipeline::Error>(rows.collect::<Result<Vec<String>, _>>()?)
        })
        .await
        .unwrap()
}

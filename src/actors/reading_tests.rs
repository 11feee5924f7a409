//! Reading commitments from the embedded devnet, over its real socket: block by block, from state, and again.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Filler, Follower, Tasks,
    follower::{Error, snapshot_of},
    reading::{Reader, rescan},
};
use crate::{
    chain::{self, BlockRef, Call, Client, Field, Keypair, merge_fields, testkit::control, timelock::Beacon},
    clock::SystemClock,
    config::profile::Source,
    devnet::{self, Blocks},
    ids::{Digest, Hotkey, Priority},
    intake::Form,
    pipeline::{Challenge, Challenges, Gap, IntakePolicy, Pipeline, first_of, points::Points, testkit},
    store::{Options, Store},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// The chain time of the first block.
const FIRST_BLOCK_MS: u64 = 1_700_000_004_000;

fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

fn challenge(slug: &str, intake: IntakePolicy) -> (String, Arc<Challenge>) {
    let intake = IntakePolicy { reveal_within_blocks: 100_000, artifact_within_blocks: 100_000, ..intake };
    (slug.to_owned(), Arc::new(Challenge { share: 0.1, ..testkit::challenge(slug, intake) }))
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
        Self::keeping(devnet::Options::default().state_blocks).await
    }

    /// The same on a node that keeps the state of so many blocks. All of these have the same blocks, as long as they are
    /// told the same.
    async fn keeping(state_blocks: u32) -> Self {
        let tasks = Tasks::new();
        let usual = devnet::Options::default();
        let options = devnet::Options { blocks: Blocks::Manual, finality_lag: 0, state_blocks, ..usual };
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.unwrap();
        let client = Client::connect(chain::Options::new(vec![handle.url()])).await.unwrap();
        let mut scene = Self { tasks, handle, client, netuid: 0 };
        scene.control("dev_setTime", json!([FIRST_BLOCK_MS])).await;
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
        control(&self.handle.url(), method, params).await
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
    let scene = Scene::keeping(300).await;
    scene.commit("//Bob", &[Field::text(&text("a/b", 'a')).unwrap()]).await;
    scene.blocks(700).await;
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

/// A node that forgets soon, and an archive of the same chain.
struct Twins {
    node: Scene,
    archive: Scene,
}

impl Twins {
    async fn new(state_blocks: u32) -> Self {
        Self { node: Scene::keeping(state_blocks).await, archive: Scene::new().await }
    }

    async fn commit(&self, uri: &str, field: &str) {
        let call = Call::SetCommitment { netuid: self.node.netuid, fields: vec![Field::text(field).unwrap()] };
        let signed = self.node.client.sign(&key(uri), call, None).await.unwrap();
        for one in [&self.node, &self.archive] {
            one.client.submit(&signed).await.unwrap();
            one.blocks(1).await;
        }
    }

    async fn blocks(&self, count: u32) {
        self.node.blocks(count).await;
        self.archive.blocks(count).await;
        assert_eq!(self.node.head().await, self.archive.head().await, "they are one chain");
    }

    /// A client of both.
    async fn client(&self) -> Client {
        let options = chain::Options::new(vec![self.node.handle.url()]);
        Client::connect(chain::Options { archive: vec![self.archive.handle.url()], ..options }).await.unwrap()
    }

    /// From now on the archive fails, or does no more.
    async fn archive_fails(&self, fails: bool) {
        let count = if fails { u32::MAX } else { 0 };
        self.archive.control("dev_failNext", json!(["request_failed", count])).await;
    }

    async fn end(self) {
        self.node.end().await;
        self.archive.end().await;
    }
}

/// A pipeline that has taken in the first block and nothing since.
async fn left_alone(dir: &Path, scene: &Scene) -> Pipeline {
    let pipeline = pipeline(dir, challenges(false, 0)).await;
    let genesis = Digest(scene.client.genesis_hash());
    pipeline.advance(scene.netuid, 0, genesis, Vec::new(), false).await.unwrap();
    pipeline
}

#[tokio::test]
async fn an_archive_that_is_down_holds_nothing_up_and_its_gap_is_filled_when_it_is_back() {
    let twins = Twins::new(40).await;
    let netuid = twins.node.netuid;
    let content = |name: &str| text(name, 'a');
    twins.commit("//Bob", &content("a/b")).await;
    let made = twins.node.head().await.number;
    twins.commit("//Charlie", &content("c/d")).await;
    twins.blocks(230).await;
    // Hides from every newer state that Bob was first.
    twins.commit("//Bob", &content("a/b")).await;
    twins.blocks(5).await;
    let head = twins.node.head().await.number;

    let dir = tempfile::tempdir().unwrap();
    let pipeline = left_alone(dir.path(), &twins.node).await;
    twins.archive_fails(true).await;
    let client = twins.client().await;
    let (facts, mut seen) = watch::channel(None);
    let (trouble, troubled) = watch::channel(None);
    let follower = Follower::new(client.clone(), netuid, pipeline.clone(), facts).telling(trouble);
    let token = CancellationToken::new();
    let at_the_head = async {
        seen.wait_for(|facts| facts.as_ref().is_some_and(|facts| facts.finalized.number == head)).await.unwrap();
        token.cancel();
    };
    let followed = async { futures::join!(follower.run(token.clone()), at_the_head) };
    tokio::time::timeout(PATIENCE, followed).await.expect("the archive holds it back");
    let gap = Gap { from: 1, to: head - 41 };
    assert_eq!(pipeline.gaps(netuid).await.unwrap(), [gap], "what the node has forgotten, and nothing else");
    let told = troubled.borrow().clone().expect("it is told");
    assert_eq!(told.fault.code, "chain_archive_unreachable", "{told:?}");
    let owner = async || pipeline.owner_of("models", Digest([0xaa; 32])).await.unwrap().unwrap();
    assert_eq!(owner().await.0, key("//Charlie").account(), "as far as can be seen now");
    let bob_before = first(&pipeline, "models", "//Bob", &content("a/b")).await.unwrap();

    // Still down: nothing changes. Back: what is found takes its place by its block, however late it is found.
    let filler = Filler { client: client.clone(), netuid, pipeline: pipeline.clone() };
    assert_eq!(filler.fill().await.unwrap_err().fault().code, "chain_archive_unreachable");
    assert_eq!(pipeline.gaps(netuid).await.unwrap(), [gap]);
    twins.archive_fails(false).await;
    assert_eq!(filler.fill().await.unwrap(), 0);
    assert!(client.archive_trouble().is_none() && pipeline.gaps(netuid).await.unwrap().is_empty());
    let bob = first(&pipeline, "models", "//Bob", &content("a/b")).await.unwrap();
    assert!(bob < bob_before && bob.block == made, "{bob:?} {bob_before:?}");
    assert_eq!((owner().await.0, owner().await.1), (key("//Bob").account(), bob));
    // The same as if it had never been down.
    let whole = left_alone(&dir.path().join("whole"), &twins.node).await;
    rescan(&twins.archive.client, netuid, &whole, 1, head, &|_block| {}).await.unwrap();
    assert_eq!(table(&pipeline).await, table(&whole).await);
    assert_eq!(filler.fill().await.unwrap(), 0, "there is nothing left to do");
    twins.end().await;
}

#[tokio::test]
async fn a_rescan_reads_what_it_can_and_says_why_the_rest_is_missing() {
    let twins = Twins::new(40).await;
    let netuid = twins.node.netuid;
    twins.commit("//Bob", &text("a/b", 'a')).await;
    twins.blocks(60).await;
    let head = twins.node.head().await.number;
    let dir = tempfile::tempdir().unwrap();
    let pipeline = left_alone(dir.path(), &twins.node).await;
    let client = twins.client().await;
    twins.archive_fails(true).await;
    let again = async || rescan(&client, netuid, &pipeline, 1, head, &|_block| {}).await.unwrap();
    let done = again().await;
    let gap = Gap { from: 1, to: head - 41 };
    assert_eq!((done.blocks_read, done.commitments, done.gaps), (41, 0, vec![gap]));
    assert_eq!(done.archive.map(|fault| fault.code).as_deref(), Some("chain_archive_unreachable"));
    twins.archive_fails(false).await;
    client.ask_archive().await.unwrap();
    let done = again().await;
    assert_eq!((done.blocks_read, done.commitments, done.gaps, done.archive), (head, 1, vec![], None));
    twins.end().await;
}

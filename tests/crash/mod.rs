//! One pipeline on one chain, killed with `kill -9` and started again until every named point and every kind of
//! unfinished business was met: nothing may be lost and nothing may be repeated.

#![allow(clippy::print_stdout, reason = "the counts of kills are for whoever reads the test's output")]

mod appliance;
mod ledger;
mod refusals;

use std::collections::BTreeMap;

use subxt_rpcs::{RpcClient, client::rpc_params};
use waag::{
    chain::{self, Client, Wallet},
    cli::{
        demo::{
            cast::{Member, cast},
            play::Stage,
        },
        devnet::{Controls, GIFT_RAO},
    },
    clock::SystemClock,
    config::profile::{EMBEDDED_DEFAULT, embedded},
    ids::{Digest, SystemEntropy},
    pipeline::{life::Status, points::Point},
    server::{self, views::Filter},
    store::{Options, Store, events},
    weights::bundle::{self, Bundle},
};

use self::{
    appliance::{Place, Process},
    ledger::{Left, Seen},
};

const NETUID: u16 = 7;
const BLOCK_MS: u64 = 60;
const KILLS: usize = 30;
/// The moments that no point names are drawn from this.
const SEED: u64 = 20_260_401;
/// Most blocks until a kill at no named point: a run of the profile below has some thirty.
const BLOCKS_MAX: u64 = 24;

/// The embedded profile, smaller and with shorter leases: the test waits for some of them to lapse.
fn profile(rounds: u32) -> String {
    let text = embedded(EMBEDDED_DEFAULT).expect("it is embedded");
    let retries = "[stage.retries]\ninfra = 20\nbackoff_ms_min = 50\nbackoff_ms_max = 200\n";
    let small = text
        .replace("episodes = 200", "episodes = 40")
        .replace("every_blocks = 30", "every_blocks = 10")
        .replace("rounds_after_arrival = 3", &format!("rounds_after_arrival = {rounds}"))
        .replace("kind = \"checks\"\n", &format!("kind = \"checks\"\nlease_ms = 1000\n{retries}"))
        .replace("kind = \"duplicates\"\n", &format!("kind = \"duplicates\"\nlease_ms = 1000\n{retries}"));
    assert!(small.contains("episodes = 40") && small.matches("lease_ms").count() == 2, "the profile has changed");
    small
}

/// A folder for an appliance that brings its chain along.
fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS);
    place.write_profile(&profile(3));
    place.write_own();
    (dir, place)
}

fn members() -> Vec<Member> {
    let wanted = ["specialist", "generalist", "later", "parrot"];
    cast().into_iter().filter(|member| wanted.contains(&member.name)).collect()
}

async fn stage(place: &Place, chain_url: &str) -> Stage {
    Stage {
        netuid: NETUID,
        challenge: EMBEDDED_DEFAULT.parse().expect("a slug"),
        chain: Client::connect(chain::Options::new(vec![chain_url.to_owned()])).await.expect("the chain answers"),
        chain_url: chain_url.to_owned(),
        block_ms: BLOCK_MS,
        api: server::Client::new(&place.api()).expect("an address"),
        folder: place.dir.clone(),
        clock: SystemClock::shared(),
    }
}

/// Splitmix: the same moments in every run of the test.
struct Moments(u64);

impl Moments {
    fn blocks(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        1 + (mixed ^ (mixed >> 31)) % BLOCKS_MAX
    }
}

/// Waits until so many blocks were made.
async fn pass(stage: &Stage, blocks: u64) {
    let head = async || stage.chain.best_head().await.map(|head| head.number).map_err(|error| error.fault());
    let until = head().await.expect("the chain answers") + blocks;
    stage.until(async || Ok(head().await? >= until)).await.expect("the chain goes on");
}

/// Kills the pipeline thirty times; answers what each kill left behind.
async fn kill_again_and_again(place: &Place, stage: &Stage) -> Vec<(Option<Point>, Left)> {
    let mut kills = Vec::new();
    for (at, point) in Point::ALL.iter().copied().enumerate() {
        let marker = place.dir.join(format!("marker-{at}"));
        let mut process = Process::up(place, Some((point, &marker)));
        if at == 0 {
            // The first stages of the first uploads are where the first points lie.
            let parts = stage.play(&members(), &SystemEntropy, &|_| {}).await.expect("the cast plays");
            assert!(parts.iter().all(|part| part.submission.is_some()), "{parts:?}");
        }
        let reached = stage.until(async || Ok(marker.exists() || process.has_ended())).await;
        assert!(reached.is_ok() && marker.exists(), "{point} was never reached: {:?}", ledger::left(place));
        process.kill();
        kills.push((Some(point), ledger::left(place)));
    }
    let mut moments = Moments(SEED);
    while kills.len() < KILLS {
        let process = Process::up(place, None);
        pass(stage, moments.blocks()).await;
        process.kill();
        kills.push((None, ledger::left(place)));
    }
    kills
}

/// Lets the pipeline come to rest: no more rounds, everything ranked, the weights of the last ranking read back.
async fn come_to_rest(place: &Place, stage: &Stage) -> Bundle {
    place.write_profile(&profile(0));
    let process = Process::up(place, None);
    let at_rest = stage.until(async || Ok(ledger::is_at_rest(place))).await;
    assert!(at_rest.is_ok(), "it never comes to rest: {:?}", ledger::left(place));
    let status = stage.api.status().await.expect("it answers");
    let vector = status.vector.expect("weights were decided");
    assert_eq!(vector.state, "confirmed");
    let evidence = stage.api.evidence(&vector.evidence).await.expect("it is kept");
    let submissions = stage.api.all_submissions(&Filter::default()).await.expect("it answers");
    assert_eq!(submissions.len(), members().len(), "a submission was lost");
    for submission in &submissions {
        let code = submission.fault.as_ref().map(|fault| fault.code.as_str());
        let deserved = submission.status.is_finished()
            || (submission.status == Status::Rejected && code == Some("duplicate_bytes"));
        assert!(deserved, "{} ended as {} {code:?}", submission.id, submission.status);
    }
    assert_eq!(submissions.iter().filter(|submission| submission.status == Status::Rejected).count(), 1);
    assert_eq!(process.stop(), Some(0));
    Bundle::parse(&evidence).expect("a bundle")
}

/// How often each extrinsic stands in a block.
async fn included(stage: &Stage) -> BTreeMap<String, u32> {
    let rpc = RpcClient::from_url(&stage.chain_url).await.expect("the chain answers");
    let head = stage.chain.best_head().await.expect("the chain answers").number;
    let mut found = BTreeMap::new();
    for number in 1..=head {
        let hash = stage.chain.block_hash(number).await.expect("the chain answers").expect("there is such a block");
        let hash = format!("0x{}", hex::encode(hash.0));
        let block: serde_json::Value = rpc.request("chain_getBlock", rpc_params![hash]).await.expect("it is kept");
        for extrinsic in block["block"]["extrinsics"].as_array().expect("a list") {
            let text = extrinsic.as_str().expect("hex").trim_start_matches("0x");
            let bytes = hex::decode(text).expect("hex");
            *found.entry(Digest(sp_crypto_hashing::blake2_256(&bytes)).to_string()).or_default() += 1;
        }
    }
    found
}

/// No two extrinsics for one ranking unless the first failed, none twice on chain, every confirmed one there.
async fn nothing_was_set_twice(place: &Place, stage: &Stage) {
    let included = included(stage).await;
    let mut by_ranking: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for seen in ledger::vectors(place) {
        let times = included.get(&seen.key).copied().unwrap_or(0);
        match (seen.state.as_str(), seen.letter.as_str()) {
            ("confirmed", "done") => assert_eq!(times, 1, "{seen:?}"),
            ("failed", "dead") => assert!(times <= 1, "{seen:?}"),
            _ => panic!("{seen:?} has no end"),
        }
        by_ranking.entry(seen.rankings.clone()).or_default().push(seen);
    }
    for (ranking, vectors) in by_ranking {
        let standing = vectors.iter().filter(|seen| seen.state != "failed").count();
        assert!(standing <= 1, "{ranking} was set {standing} times: {vectors:?}");
    }
}

/// What stands on chain is what the evidence gives.
async fn the_chain_holds(stage: &Stage, bundle: &Bundle, validator: &chain::Account) {
    assert!(bundle::verify(bundle).is_passed());
    let computed = bundle.vector.clone().expect("it was computed");
    let computed: Vec<(u16, u16)> = computed.uids.into_iter().zip(computed.values).collect();
    let head = stage.chain.finalized_head().await.expect("the chain answers");
    let uid = stage.chain.uid_of(NETUID, validator, head.hash).await.expect("it answers").expect("it is registered");
    let mut stored = stage.chain.weights(NETUID, uid, head.hash).await.expect("it answers");
    stored.sort_unstable();
    assert_eq!(stored, computed);
}

async fn the_events_are_intact(place: &Place) {
    let store = Store::open(&place.data(), Options::default()).await.expect("nobody holds it");
    let report = store.db().read(events::verify_chain).await.expect("the chain is intact");
    assert!(report.events > 0);
}

/// Whether the kills are asked for: they start and kill processes for half a minute, which a busy machine may not
/// bear beside everything else.
fn is_wanted() -> bool {
    let wanted = std::env::var_os("WAAG_CRASH").is_some();
    if !wanted {
        println!("SKIPPED: the crash tests run with WAAG_CRASH=1 cargo test crash");
    }
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_thirty_times_it_loses_nothing_and_repeats_nothing() {
    if !is_wanted() {
        return;
    }
    // Two providers of TLS are linked; the first test that connects chooses.
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut place = Place::new(dir.path(), NETUID, BLOCK_MS);
    let wallet = Wallet::new(&place.wallets(), "owner", "validator").expect("plain names");
    let coldkey = wallet.create_plain_coldkey(&SystemEntropy).expect("it is written").keypair.account();
    let validator = wallet.create_hotkey(&SystemEntropy).expect("it is written").keypair.account();
    place.write_profile(&profile(100));
    let chain = place.start_devnet();
    let stage = stage(&place, &chain.url).await;
    let controls = Controls::connect(&chain.url).await.expect("a devnet");
    controls.fund(&coldkey, GIFT_RAO).await.expect("funds");
    controls.fund(&validator, GIFT_RAO).await.expect("funds");

    println!("seed {SEED}");
    let kills = kill_again_and_again(&place, &stage).await;
    for (point, left) in &kills {
        println!("{:<20} {left:?}", point.map_or("a seeded moment", Point::as_str));
    }
    let count = |kind: fn(&Left) -> bool| kills.iter().filter(|(_, left)| kind(left)).count();
    let counts = (
        count(|left| left.open_attempts > 0),
        count(|left| left.leased_replicas > 0),
        count(|left| left.unsent > 0),
        count(|left| left.not_read_back > 0),
    );
    println!("kills with an open attempt, a leased replica, an unsent letter, unread-back weights: {counts:?}");
    assert!(counts.0 > 0 && counts.1 > 0 && counts.2 > 0 && counts.3 > 0, "{counts:?}");

    let bundle = come_to_rest(&place, &stage).await;
    the_chain_holds(&stage, &bundle, &validator).await;
    nothing_was_set_twice(&place, &stage).await;
    ledger::nothing_was_folded_twice(&place);
    the_events_are_intact(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appliance_and_chain_killed_together_come_back_together() {
    if !is_wanted() {
        return;
    }
    drop(rustls::crypto::ring::default_provider().install_default());
    let (_dir, place) = place();
    let (process, said) = Process::start(&place, &["up", "--dev"]);
    let first = stage(&place, said["chain"].as_str().expect("an address")).await;
    let parts = first.play(&members(), &SystemEntropy, &|_| {}).await.expect("the cast plays");
    assert!(parts.iter().all(|part| part.submission.is_some()), "{parts:?}");
    let (genesis, mut head) = (first.chain.genesis_hash(), 0);
    let mut process = Some(process);
    for _ in 0..2 {
        head = head.max(ledger::followed_to(&place));
        process.take().expect("it runs").kill();
        let (again, said) = Process::start(&place, &["up", "--dev"]);
        process = Some(again);
        let stage = stage(&place, said["chain"].as_str().expect("an address")).await;
        assert_eq!(stage.chain.genesis_hash(), genesis, "it is another chain");
        let now = stage.chain.finalized_head().await.expect("the chain answers").number;
        assert!(now >= head, "finalized {head} before the kill and {now} after it");
        let submissions = stage.api.all_submissions(&Filter::default()).await.expect("it answers");
        assert_eq!(submissions.len(), members().len(), "a submission was lost");
    }
    let at_rest = first.until(async || Ok(ledger::is_at_rest(&place))).await;
    assert!(at_rest.is_ok(), "it never comes to rest: {:?}", ledger::left(&place));
    ledger::nothing_was_folded_twice(&place);
    assert_eq!(process.expect("it runs").stop(), Some(0));
    the_events_are_intact(&place).await;
}

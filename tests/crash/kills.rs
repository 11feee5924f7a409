//! One pipeline on one chain, killed with `kill -9` and started again until every named point and every kind of
//! unfinished business was met; then the same chain once more, without a kill.

use std::collections::{BTreeMap, BTreeSet};

use subxt_rpcs::{RpcClient, client::rpc_params};
use waag::{
    chain,
    cli::{
        demo::{cast::End, play::Stage},
        devnet::Controls,
    },
    ids::Digest,
    pipeline::points::Point,
    server::views::Filter,
    weights::bundle::{self, Bundle},
};

use super::{
    BLOCK_MS, NETUID,
    appliance::{Place, Process},
    ground,
    ledger::{self, Left, Seen},
    miners::{self, Entries},
    pace, profile, replay, the_events_are_intact,
};

const KILLS: usize = 30;
/// The moments that no point names are drawn from this.
const SEED: u64 = 20_260_401;
/// Most blocks until a kill at no named point: a run and its weights take about as many.
const BLOCKS_MAX: u64 = 16;
/// Who enters at which kill, so that every stage has something to do at most of them. Nobody enters where the point
/// stops the door itself, but for the first, whose upload is what the first points are about.
const ENTRIES: [(usize, &str); 9] = [
    (0, "specialist"),
    (2, "broken"),
    (4, "silent"),
    (6, "generalist"),
    (12, "remote"),
    (15, "parrot"),
    (19, "whisper"),
    (22, "mediocre"),
    (26, "later"),
];

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

/// The points that this subnet comes to: its weights are not hidden. The scenes of the weight setter stop at the others.
fn points() -> Vec<Point> {
    Point::ALL.iter().copied().filter(|point| !point.is_of_hidden_weights()).collect()
}

/// Kills the pipeline thirty times; answers what each kill left behind.
async fn kill_again_and_again(place: &Place, stage: &Stage, entries: &Entries) -> Vec<(Option<Point>, Left)> {
    let mut kills = Vec::new();
    let mut moments = Moments(SEED);
    for kill in 0..KILLS {
        let point = points().get(kill).copied();
        let marker = place.dir.join(format!("marker-{kill}"));
        let mut process = Process::up(place, point.map(|point| (point, marker.as_path())));
        entries.come_to(kill);
        let blocks = moments.blocks();
        let until = ledger::followed_to(place).expect("it was started") + blocks;
        let is_reached = || match point {
            // The sender of what the first two points are about is told nothing before the third.
            Some(_) => marker.exists() && (kill < 2 || entries.are_in()),
            None => ledger::followed_to(place).is_some_and(|block| block >= until) && entries.are_in(),
        };
        let waited = stage.until(async || {
            process.assert_runs();
            // On a fast machine everything may be done before its point was reached.
            if point.is_some() && !marker.exists() && ledger::is_idle(place) {
                entries.hurry();
            }
            Ok(is_reached())
        });
        let name = point.map_or("a seeded moment", Point::as_str);
        assert!(waited.await.is_ok(), "{name} was never reached: {:?}", ledger::left(place));
        process.kill();
        kills.push((point, ledger::left(place)));
    }
    entries.come_to(usize::MAX);
    kills
}

/// What the kills met is counted; each kind of unfinished business must have been among it.
fn report(kills: &[(Option<Point>, Left)]) {
    println!("seed {SEED}");
    for (point, left) in kills {
        println!("{:<20} {left:?}", point.map_or("a seeded moment", Point::as_str));
    }
    let met: BTreeSet<Point> = kills.iter().filter_map(|(point, _)| *point).collect();
    assert_eq!(met.len(), points().len(), "a point is missing");
    let count = |kind: fn(&Left) -> bool| kills.iter().filter(|(_, left)| kind(left)).count();
    let counts = (
        count(|left| left.open_attempts > 0),
        count(|left| left.leased_replicas > 0),
        count(|left| left.unsent > 0),
        count(|left| left.not_read_back > 0),
    );
    println!("kills with an open attempt, a leased replica, an unsent letter, unread-back weights: {counts:?}");
    assert!(counts.0 > 0 && counts.1 > 0 && counts.2 > 0 && counts.3 > 0, "{counts:?}");
}

/// Lets the pipeline come to rest: the silent one's time over, everything ranked, the last weights read back.
async fn come_to_rest(place: &Place, stage: &Stage, entries: &Entries) -> Bundle {
    let mut process = Process::up(place, None);
    let waited = stage.until(async || {
        process.assert_runs();
        Ok(ledger::is_at_rest(place))
    });
    assert!(waited.await.is_ok(), "it never comes to rest: {:?}", ledger::left(place));
    let status = stage.api.status().await.expect("it answers");
    let vector = status.vector.expect("weights were decided");
    assert_eq!(vector.state, "confirmed");
    let evidence = stage.api.evidence(&vector.evidence).await.expect("it is kept");
    let submissions = stage.api.all_submissions(&Filter::default()).await.expect("it answers");
    assert_eq!(submissions.len(), ENTRIES.len(), "a submission was lost");
    for miner in entries.miners() {
        let (name, end) = (miner.member.name, miner.member.end);
        let hotkey = miner.hotkey.account();
        let found = submissions.iter().find(|one| one.hotkey == hotkey).expect("everybody committed");
        let code = found.fault.as_ref().map(|fault| fault.code.as_str());
        // Who of the honest is paid depends on the number of episodes; that they finish does not.
        let wanted = if matches!(end, End::Rejected(_)) { end } else { End::Finished };
        let deserved = wanted.is(Some(found.status), found.fault.as_ref());
        assert!(deserved, "{name} ended as {} {code:?}", found.status);
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn killed_thirty_times_it_loses_nothing_and_repeats_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS);
    place.write(&profile());
    let (chain, stage, validator) = ground(&place).await;
    let names = ENTRIES.map(|(_, name)| name);
    let miners = miners::prepare(&stage, &names);
    let controls = Controls::connect(&chain.url).await.expect("a devnet");
    let registered = async {
        futures::future::join_all(miners.iter().map(|miner| miner.register(&stage, &controls))).await;
    };
    pace::during(&place, &stage, registered).await;
    let entries = Entries::new(ENTRIES.iter().map(|(cue, _)| *cue).zip(miners).collect());

    let killed = async { futures::join!(kill_again_and_again(&place, &stage, &entries), entries.play(&stage)).0 };
    let kills = pace::during(&place, &stage, killed).await;
    report(&kills);
    let bundle = pace::hurrying(&place, &stage, come_to_rest(&place, &stage, &entries)).await;
    the_chain_holds(&stage, &bundle, &validator).await;
    nothing_was_set_twice(&place, &stage).await;
    ledger::nothing_was_folded_twice(&place);
    the_events_are_intact(&place).await;

    chain.process.kill();
    replay::gives_the_same(&place).await;
}

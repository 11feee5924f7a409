//! Hidden weights against the embedded devnet: committed, revealed, read back; lost, dropped, and begun again after a
//! stop at any point.

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use serde_json::json;

use super::{
    tests::{CHARLIE, DAVE, Scene, challenges, key},
    *,
};
use crate::{
    chain::{
        testkit::default_entry,
        timelock::{self, OVERHEAD_BYTES, WEIGHTS_BYTES_MAX},
    },
    clock::SystemClock,
    devnet,
    pipeline::points::Points,
};

const TEMPO: u32 = 20;
/// Blocks in which everything that is waited for must have happened: several epochs.
const BLOCKS_MAX: u32 = 10 * TEMPO;

async fn hiding_subnet(hiding: Hiding) -> Scene {
    hidden_on(devnet::Options::default(), hiding).await
}

async fn hidden_on(options: devnet::Options, hiding: Hiding) -> Scene {
    let kind = json!({ "tempo": TEMPO, "commit_reveal": true, "reveal_period_epochs": 1, "mechanisms": 2 });
    let mut scene = Scene::on(options, kind).await;
    scene.policy.hiding = hiding;
    scene
}

impl Scene {
    /// Looks, a block at a time, until the vectors have these states.
    async fn until(&self, wanted: &[&str]) {
        for _ in 0..BLOCKS_MAX {
            while self.look().await.is_ok_and(|again| again) {}
            if self.states().await == wanted {
                return;
            }
            self.blocks(1).await;
        }
        panic!("{:?}, refused: {:?}", self.vectors().await, self.refused().await);
    }

    async fn stored(&self, id: i64) -> StoredVector {
        self.pipeline.vector(Some(id)).await.unwrap().unwrap()
    }

    /// How many extrinsics of the validator are in blocks.
    async fn included(&self) -> u32 {
        self.client.next_nonce(&key("//Bob").account()).await.unwrap()
    }

    /// What the status tells of dropped weights: mechanism, vector, and how often.
    async fn alarms(&self) -> Vec<(u8, i64, u64)> {
        let dropped = self.pipeline.store().db().read(crate::pipeline::dropped_weights).await.unwrap();
        dropped.into_iter().map(|one| (one.mechanism, one.vector, one.times)).collect()
    }

    async fn epoch(&self) -> u64 {
        self.facts().await.rules.epoch_index
    }

    /// Looks, a block at a time, until the weight setter stops at this point.
    async fn stop_at(&self, point: Point) {
        let store = self.pipeline.store().clone();
        let pipeline = Pipeline::open(store, SystemClock::shared(), challenges(), Points::unwinding(point));
        let pipeline = pipeline.await.unwrap();
        for _ in 0..BLOCKS_MAX {
            let weigher = Weigher { pipeline: pipeline.clone(), ..self.weigher("//Bob", Some(self.facts().await)) };
            match AssertUnwindSafe(weigher.look_and_tell()).catch_unwind().await {
                Err(stopped) => {
                    assert_eq!(stopped.downcast_ref::<Point>(), Some(&point));
                    return;
                }
                Ok(Ok(true)) => {}
                Ok(looked) => {
                    looked.unwrap();
                    self.blocks(1).await;
                }
            }
        }
        panic!("{} was never reached: {:?}", point.as_str(), self.vectors().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_weights_are_confirmed_when_the_chain_has_opened_them() {
    let scene = hiding_subnet(Hiding::Auto).await;
    assert!(scene.look().await.unwrap(), "decided");
    let decided = scene.stored(1).await.sending;
    assert_eq!(decided.way, Way::Timelocked);
    assert!(!scene.look().await.unwrap(), "sent");
    scene.until(&["committed"]).await;
    let committed = scene.stored(1).await;
    assert_eq!(scene.set_by_bob().await, BTreeMap::new(), "nothing is to be seen");
    assert!(!scene.look().await.unwrap(), "it waits");
    scene.pay("//Dave").await;
    while scene.epoch().await == committed.commit_epoch.unwrap() {
        assert!(!scene.look().await.unwrap(), "nothing else is decided meanwhile");
        assert_eq!((scene.states().await, scene.set_by_bob().await), (vec!["committed".to_owned()], BTreeMap::new()));
        scene.blocks(1).await;
    }
    for _ in 0..6 {
        if scene.states().await[0] == "confirmed" {
            break;
        }
        scene.look().await.unwrap();
        scene.blocks(1).await;
    }
    assert_eq!(scene.states().await[0], "confirmed", "within the beacon's margin: {:?}", scene.vectors().await);
    assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
    scene.until(&["confirmed", "confirmed"]).await;
    assert_eq!(scene.set_by_bob().await.get(&DAVE), Some(&u16::MAX));
    assert_eq!(scene.included().await, 2, "one extrinsic each");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_hidden_by_hash_are_revealed_in_their_epoch() {
    let scene = hiding_subnet(Hiding::Hash).await;
    scene.until(&["committed"]).await;
    let committed = scene.stored(1).await;
    assert_eq!((committed.sending.way, committed.sending.salt.len()), (Way::Hash, 8));
    while scene.epoch().await == committed.commit_epoch.unwrap() {
        scene.look().await.unwrap();
        assert_eq!(
            scene.pipeline.reveals_of(1).await.unwrap(),
            u32::from(scene.best_epoch().await > committed.commit_epoch.unwrap())
        );
        scene.blocks(1).await;
    }
    scene.until(&["confirmed"]).await;
    assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
    assert_eq!((scene.pipeline.reveals_of(1).await.unwrap(), scene.included().await), (1, 2));
    scene.end().await;
}

impl Scene {
    async fn best_epoch(&self) -> u64 {
        let best = self.client.best_head().await.unwrap();
        self.client.weight_rules(self.netuid, best.hash).await.unwrap().epoch_index
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_drops_without_a_word_is_told_and_set_again_after_the_rate_limit() {
    let scene = hiding_subnet(Hiding::Auto).await;
    let limit = u64::from(2 * TEMPO);
    scene.control("dev_failNext", json!(["reveal_dropped", 1])).await;
    scene.until(&["committed"]).await;
    scene.set("weights_set_rate_limit", limit).await;
    scene.until(&["dropped"]).await;
    let dropped = scene.stored(1).await;
    assert!(dropped.detail.as_ref().unwrap().contains("weights_reveal_dropped"), "{dropped:?}");
    assert_eq!(scene.refused().await.as_deref(), Some("weights_reveal_dropped"), "it is told until the next one");
    assert_eq!(scene.alarms().await, [(0, 1, 1)]);
    assert!(!scene.look().await.unwrap(), "the rate limit holds");
    scene.until(&["dropped", "committed"]).await;
    assert_eq!((scene.refused().await, scene.alarms().await), (None, vec![(0, 1, 1)]), "decided is not confirmed");
    scene.until(&["dropped", "confirmed"]).await;
    let second = scene.stored(2).await;
    let apart = second.commit_block.unwrap() - dropped.commit_block.unwrap();
    assert!(apart > limit, "{apart} blocks apart");
    assert_eq!((scene.refused().await, scene.set_by_bob().await.get(&CHARLIE)), (None, Some(&u16::MAX)));
    assert_eq!(scene.alarms().await, [], "later ones of that mechanism stand");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_reveal_is_our_own_trouble() {
    let scene = hiding_subnet(Hiding::Hash).await;
    scene.until(&["committed"]).await;
    scene.blocks(2 * TEMPO + 3).await;
    assert!(scene.look().await.unwrap());
    let dropped = scene.stored(1).await;
    assert!(
        dropped.state == "dropped" && dropped.detail.as_ref().unwrap().contains("weights_reveal_missed"),
        "{dropped:?}"
    );
    assert_eq!(scene.pipeline.reveals_of(1).await.unwrap(), 0);
    scene.until(&["dropped", "confirmed"]).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reveal_that_fails_or_is_lost_is_signed_again_while_its_epoch_lasts() {
    let scene = hiding_subnet(Hiding::Hash).await;
    scene.until(&["committed"]).await;
    // The next signed extrinsic is the reveal.
    scene.control("dev_failNext", json!(["call_failed", 1])).await;
    scene.until(&["confirmed"]).await;
    assert_eq!((scene.pipeline.reveals_of(1).await.unwrap(), scene.included().await), (2, 3));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reveal_that_never_has_an_effect_is_given_up() {
    let scene = hiding_subnet(Hiding::Hash).await;
    scene.set("tempo", 6 * TEMPO).await;
    scene.blocks(3).await;
    scene.until(&["committed"]).await;
    scene.set("weights_set_rate_limit", 100 * TEMPO).await;
    scene.control("dev_failNext", json!(["call_failed", hidden::REVEALS_MAX])).await;
    scene.until(&["dropped"]).await;
    let dropped = scene.stored(1).await;
    assert!(dropped.detail.as_ref().unwrap().contains("weights_reveal_missed"), "{dropped:?}");
    assert_eq!(scene.pipeline.reveals_of(1).await.unwrap(), hidden::REVEALS_MAX);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_reveal_switched_between_decision_and_send_changes_the_way() {
    let scene = hiding_subnet(Hiding::Auto).await;
    let code = |vector: &StoredVector| vector.detail.as_ref().unwrap().contains("weights_way_changed");
    assert!(scene.look().await.unwrap(), "decided, sealed");
    scene.set("commit_reveal_weights_enabled", false).await;
    scene.blocks(3).await;
    scene.until(&["failed", "confirmed"]).await;
    assert!(code(&scene.stored(1).await));
    assert_eq!(scene.stored(2).await.sending.way, Way::Plain);

    scene.blocks(1).await;
    scene.pay("//Dave").await;
    assert!(scene.look().await.unwrap(), "decided, plain");
    scene.set("commit_reveal_weights_enabled", true).await;
    scene.blocks(3).await;
    scene.until(&["failed", "confirmed", "failed", "confirmed"]).await;
    assert!(code(&scene.stored(3).await));
    assert_eq!(scene.stored(4).await.sending.way, Way::Timelocked);
    assert_eq!((scene.included().await, scene.set_by_bob().await.get(&DAVE)), (2, Some(&u16::MAX)));

    // Plain weights that came into a block where they do not count are not confirmed.
    scene.set("commit_reveal_weights_enabled", false).await;
    scene.blocks(3).await;
    scene.pay("//Charlie").await;
    assert!(scene.look().await.unwrap(), "decided, plain");
    assert!(!scene.look().await.unwrap(), "sent");
    scene.set("commit_reveal_weights_enabled", true).await;
    scene.blocks(3).await;
    assert!(scene.look().await.unwrap());
    assert!(code(&scene.stored(5).await));
    scene.until(&["failed", "confirmed", "failed", "confirmed", "failed", "confirmed"]).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_fork_takes_away_is_sent_again_once() {
    for keep in [false, true] {
        let scene = hiding_subnet(Hiding::Auto).await;
        scene.look().await.unwrap();
        scene.look().await.unwrap();
        scene.blocks(1).await;
        assert!(!scene.look().await.unwrap(), "included, not final");
        scene.control("dev_reorg", json!([1, keep])).await;
        scene.until(&["confirmed"]).await;
        assert_eq!(scene.included().await, 1);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_is_lost_or_unanswered_is_repeated() {
    for kind in ["submit_lost", "submit_unanswered", "submit_refused"] {
        for hiding in [Hiding::Timelocked, Hiding::Hash] {
            let scene = hiding_subnet(hiding).await;
            assert!(scene.look().await.unwrap());
            scene.control("dev_failNext", json!([kind, 1])).await;
            scene.until(&["confirmed"]).await;
            let wanted = if hiding == Hiding::Hash { 2 } else { 1 };
            assert_eq!(scene.included().await, wanted, "{kind}");
            scene.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_key_that_rises_after_the_commit_costs_one_reveal() {
    let scene = hiding_subnet(Hiding::Auto).await;
    scene.until(&["committed"]).await;
    scene.set("weights_version_key", 5).await;
    scene.until(&["dropped", "confirmed"]).await;
    assert_eq!((scene.stored(1).await.sending.version_key, scene.stored(2).await.sending.version_key), (0, 5));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_vector_under_an_old_version_key_is_decided_anew() {
    let mut scene = Scene::with(json!({ "tempo": TEMPO, "commit_reveal": false })).await;
    scene.policy.version_key = 3;
    scene.look().await.unwrap();
    scene.set("weights_version_key", 5).await;
    scene.until(&["failed", "confirmed"]).await;
    let first = scene.stored(1).await;
    assert!(first.detail.as_ref().unwrap().contains("chain_version_key"), "{first:?}");
    assert_eq!((first.sending.version_key, scene.stored(2).await.sending.version_key), (3, 5));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permit_or_stake_nothing_is_committed() {
    let scene = hiding_subnet(Hiding::Auto).await;
    let bob = key("//Bob").account();
    scene.control("dev_setPermit", json!([scene.netuid, bob, false, 0])).await;
    scene.blocks(3).await;
    assert!(scene.look().await.is_err());
    assert_eq!(scene.refused().await.as_deref(), Some("chain_no_permit"));
    scene.control("dev_setPermit", json!([scene.netuid, bob, true, 1_000])).await;
    let threshold = scene.storage_key("StakeThreshold");
    scene.control("dev_setStorage", json!([threshold, "0xe903000000000000"])).await;
    scene.blocks(3).await;
    assert!(scene.look().await.is_err());
    assert_eq!(scene.refused().await.as_deref(), Some("chain_stake_too_low"), "1000 of 1001");
    scene.control("dev_setPermit", json!([scene.netuid, bob, true, 1_001])).await;
    scene.blocks(3).await;
    assert!(scene.look().await.unwrap());
    assert_eq!(scene.states().await, ["decided"]);
    scene.end().await;
}

impl Scene {
    /// The key of a value that the subnet pallet keeps once.
    fn storage_key(&self, name: &str) -> String {
        let part = |text: &str| hex::encode(sp_crypto_hashing::twox_128(text.as_bytes()));
        format!("0x{}{}", part("SubtensorModule"), part(name))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mechanism_has_weights_and_a_rate_limit_of_its_own() {
    for hiding in [Hiding::Timelocked, Hiding::Hash] {
        let mut scene = hiding_subnet(hiding).await;
        scene.until(&["confirmed"]).await;
        scene.policy.mechanism = 1;
        assert_eq!(scene.set_by_bob().await, BTreeMap::new());
        scene.pay("//Dave").await;
        scene.until(&["confirmed", "confirmed"]).await;
        assert_eq!(scene.stored(2).await.sending.mechanism, 1);
        assert_eq!(scene.set_by_bob().await.get(&DAVE), Some(&u16::MAX));
        scene.policy.mechanism = 0;
        assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX), "and leaves the other alone");
        scene.set("commit_reveal_weights_enabled", false).await;
        scene.blocks(3).await;
        scene.policy.mechanism = 1;
        scene.pay("//Charlie").await;
        scene.until(&["confirmed", "confirmed", "confirmed"]).await;
        assert_eq!(scene.stored(3).await.sending.way, Way::Plain);
        assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
        scene.policy.mechanism = 2;
        scene.pay("//Dave").await;
        assert!(scene.look().await.is_err());
        assert_eq!(scene.refused().await.as_deref(), Some("chain_mechanism_missing"));
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_any_point_commits_once_and_loses_no_reveal() {
    let before = [
        Point::VectorDecided,
        Point::VectorRecorded,
        Point::ExtrinsicSent,
        Point::ExtrinsicRecorded,
        Point::CommitFound,
        Point::CommitRecorded,
    ];
    let after = [Point::ReadBack, Point::Confirmed];
    let reveal = [Point::RevealDecided, Point::RevealRecorded];
    for hiding in [Hiding::Timelocked, Hiding::Hash] {
        let is_hash = hiding == Hiding::Hash;
        let points = before.iter().chain(reveal.iter().filter(|_point| is_hash)).chain(&after);
        for point in points {
            let scene = hiding_subnet(hiding).await;
            scene.set("weights_set_rate_limit", 5).await;
            scene.blocks(8).await;
            scene.stop_at(*point).await;
            scene.until(&["confirmed"]).await;
            assert_eq!(scene.included().await, 1 + u32::from(is_hash), "{}", point.as_str());
            assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
            scene.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_drop_is_told_tells_it_once() {
    for point in [Point::DropFound, Point::DropRecorded] {
        let scene = hiding_subnet(Hiding::Auto).await;
        scene.control("dev_failNext", json!(["reveal_dropped", 1])).await;
        scene.stop_at(point).await;
        scene.until(&["dropped", "confirmed"]).await;
        assert_eq!(scene.included().await, 2);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_long_after_the_reveal_finds_what_stands() {
    let scene = hiding_subnet(Hiding::Auto).await;
    scene.look().await.unwrap();
    scene.look().await.unwrap();
    assert_eq!(scene.states().await, ["decided"]);
    scene.blocks(4 * TEMPO).await;
    assert!(scene.weigher("//Bob", None).look_and_tell().await.unwrap());
    assert_eq!(scene.states().await, ["confirmed"]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_by_hand_take_the_same_way() {
    let scene = hiding_subnet(Hiding::Auto).await;
    let weigher = scene.weigher("//Bob", None);
    let ground = weigher.ground(scene.netuid).await.unwrap();
    assert_eq!(ground.way, Way::Timelocked);
    let wrong = Vector { uids: vec![77], values: vec![u16::MAX] };
    assert!(matches!(weigher.set_by_hand(&ground, wrong).await, Err(Error::Refused(_))));
    let vector = Vector { uids: vec![DAVE], values: vec![u16::MAX] };
    let id = weigher.set_by_hand(&ground, vector).await.unwrap();
    for _ in 0..BLOCKS_MAX {
        if weigher.carry_on().await.unwrap().is_none() {
            break;
        }
        scene.blocks(1).await;
    }
    assert_eq!(scene.stored(id).await.state, "confirmed");
    assert_eq!(scene.set_by_bob().await.get(&DAVE), Some(&u16::MAX));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_runtime_takes_every_way_too() {
    for hiding in [Hiding::Timelocked, Hiding::Hash] {
        let options = devnet::Options { spec: devnet::Spec::V461, ..devnet::Options::default() };
        let scene = hidden_on(options, hiding).await;
        scene.until(&["confirmed"]).await;
        assert_eq!(scene.set_by_bob().await.get(&CHARLIE), Some(&u16::MAX));
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reveal_several_epochs_later_is_waited_for() {
    for hiding in [Hiding::Timelocked, Hiding::Hash] {
        let scene = hiding_subnet(hiding).await;
        scene.set("commit_reveal_weights_interval", 3).await;
        scene.blocks(3).await;
        scene.until(&["committed"]).await;
        let committed = scene.stored(1).await;
        scene.until(&["confirmed"]).await;
        assert_eq!(scene.epoch().await, committed.commit_epoch.unwrap() + 3);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_that_is_not_the_chains_is_refused_before_anything_is_sealed() {
    let mut scene = hiding_subnet(Hiding::Auto).await;
    scene.policy.beacon = Beacon::Quicknet;
    assert!(scene.look().await.is_err());
    assert_eq!(scene.refused().await.as_deref(), Some("weights_beacon_differs"));
    assert_eq!((scene.states().await.len(), scene.included().await), (0, 0), "nothing was decided, nothing sent");
    scene.policy.beacon = Beacon::Chain;
    scene.until(&["confirmed"]).await;
    assert_eq!(scene.refused().await, None);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_for_quicknet_goes_by_our_clock_and_is_dropped_without_its_pulse() {
    let mut scene = hiding_subnet(Hiding::Auto).await;
    scene.policy.beacon = Beacon::Quicknet;
    // The chain's own word, where it says nothing else: quicknet.
    let (key, value) = default_entry(&scene.client, "Drand", "BeaconConfig").await;
    scene.control("dev_setStorage", json!([key, value])).await;
    scene.blocks(3).await;
    let now_s = || u64::try_from(scene.pipeline.clock().now_ms()).unwrap() / 1000;
    let before_s = now_s();
    scene.look().await.unwrap();
    let round = scene.stored(1).await.sending.round.unwrap();
    let rounds = |from_s: u64, blocks: u64| timelock::Beacon::quicknet().round_for(from_s + 12 * blocks);
    let most = u64::from(TEMPO) + timelock::MARGIN_BLOCKS + 1;
    assert!((rounds(before_s, timelock::MARGIN_BLOCKS)..=rounds(now_s(), most)).contains(&round), "{round}");
    // Nobody signs it here: the chain waits for the whole epoch, and forgets it.
    scene.until(&["committed"]).await;
    scene.set("weights_set_rate_limit", 20 * TEMPO).await;
    scene.until(&["dropped"]).await;
    let dropped = scene.stored(1).await;
    let due = dropped.commit_epoch.unwrap() + 1;
    assert!(scene.epoch().await > due, "it waited for the epoch {due}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_epochs_nothing_is_hidden() {
    for hiding in [Hiding::Timelocked, Hiding::Hash] {
        let scene = hiding_subnet(hiding).await;
        scene.until(&["committed"]).await;
        scene.set("tempo", 0).await;
        scene.blocks(3).await;
        assert!(scene.look().await.is_err());
        assert_eq!(scene.refused().await.as_deref(), Some("weights_never_revealed"));
        assert_eq!(scene.states().await, ["committed"]);
        scene.set("tempo", TEMPO).await;
        scene.until(&["confirmed"]).await;
        scene.set("tempo", 0).await;
        scene.pay("//Dave").await;
        scene.blocks(3).await;
        assert!(scene.look().await.is_err());
        assert_eq!(scene.refused().await.as_deref(), Some("weights_never_revealed"));
        assert_eq!(scene.states().await, ["confirmed"], "nothing was signed");
        scene.end().await;
    }
}

#[test]
fn the_chain_takes_so_many_sealed_entries_and_no_more() {
    let bytes = |entries: u16| {
        let uids: Vec<u16> = (0..entries).collect();
        let weights = timelock::Weights { hotkey: Some([7; 32]), values: uids.clone(), uids, version_key: u64::MAX };
        weights.encode().len() + OVERHEAD_BYTES
    };
    assert!(bytes(1177) <= WEIGHTS_BYTES_MAX && bytes(1178) > WEIGHTS_BYTES_MAX, "as the handbook says");
}

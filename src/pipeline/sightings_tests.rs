//! Who was first does not depend on the order in which the chain was read.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{
    Challenges, IntakePolicy, Pipeline, Registered, Seen, Sighted, Snapshot, points::Points, sightings::first_of,
    testkit,
};
use crate::{
    clock::SystemClock,
    ids::{Digest, Hotkey, Priority},
    store::{Options, Store},
};

const SLUG: &str = "models";

async fn pipeline(dir: &std::path::Path) -> Pipeline {
    pipeline_with(dir, false).await
}

async fn pipeline_with(dir: &std::path::Path, one_per_hotkey: bool) -> Pipeline {
    let store = Store::open(dir, Options::default()).await.expect("a store");
    let intake = IntakePolicy {
        reveal_within_blocks: 1_000,
        artifact_within_blocks: 1_000,
        one_per_hotkey,
        ..IntakePolicy::default()
    };
    let challenges = Challenges::from([(SLUG.to_owned(), Arc::new(testkit::challenge(SLUG, intake)))]);
    Pipeline::open(store, SystemClock::shared(), challenges, Points::default()).await.expect("a pipeline")
}

/// One commitment: who, with which of a few contents, in which block and extrinsic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    hotkey: u8,
    content: u8,
    at: Priority,
}

impl Made {
    fn sighted(self, at: Priority) -> Sighted {
        Sighted {
            challenge: SLUG.to_owned(),
            hotkey: Hotkey([self.hotkey; 32]),
            field: format!("content {}", self.content),
            source: "plain".to_owned(),
            digest: Some(Digest([self.content; 32])),
            parts: BTreeMap::new(),
            at,
            hash: Some(Digest([1; 32])),
        }
    }
}

/// One way of reading: a block, or the state after one.
#[derive(Debug, Clone, Copy)]
enum Read {
    Block(u64),
    State(u64),
}

const BLOCKS: u64 = 12;

/// A history, and an order of reading in which every block comes at least once.
fn histories() -> impl Strategy<Value = (Vec<Made>, Vec<Read>)> {
    let made = (0_u8..3, 0_u8..3, 1..=BLOCKS, 1_u32..4);
    let reads = prop_oneof![(1..=BLOCKS).prop_map(Read::Block), (1..=BLOCKS).prop_map(Read::State)];
    (prop::collection::vec(made, 1..14), prop::collection::vec(reads, 0..16)).prop_flat_map(|(made, more)| {
        let mut history: Vec<Made> = made
            .into_iter()
            .map(|(hotkey, content, block, index)| Made { hotkey, content, at: Priority { block, index } })
            .collect();
        history.sort_by_key(|made| (made.at, made.hotkey));
        // A hotkey signs one extrinsic at a place, and only its last one of a block is seen there.
        history.dedup_by_key(|made| (made.at.block, made.hotkey));
        let all = (1..=BLOCKS).map(Read::Block).chain(more).collect::<Vec<_>>();
        (Just(history), Just(all).prop_shuffle())
    })
}

/// What reading shows: from a block what was made in it, from a state what each hotkey made last, without its index.
fn shown(history: &[Made], read: Read) -> Vec<(Made, Priority)> {
    match read {
        Read::Block(block) => {
            history.iter().filter(|made| made.at.block == block).map(|made| (*made, made.at)).collect()
        }
        Read::State(block) => {
            let mut last: BTreeMap<u8, Made> = BTreeMap::new();
            for made in history.iter().filter(|made| made.at.block <= block) {
                last.insert(made.hotkey, *made);
            }
            last.values().map(|made| (*made, Priority { block: made.at.block, index: u32::MAX })).collect()
        }
    }
}

async fn check(history: &[Made], order: &[Read]) {
    let dir = tempfile::tempdir().expect("a folder");
    let pipeline = pipeline(dir.path()).await;
    let registered = (0..3).map(|hotkey| {
        let one = Registered { uid: hotkey.into(), since_block: 0, coldkey: Hotkey([9; 32]) };
        (Hotkey([hotkey; 32]), one)
    });
    let snapshot = Snapshot { block: 1, hash: Digest([1; 32]), registered: registered.collect() };
    pipeline.members(&snapshot).await.expect("recorded");
    let mut known: BTreeMap<(u8, u8), Priority> = BTreeMap::new();
    for read in order {
        let seen = shown(history, *read);
        pipeline.sighted(seen.iter().map(|(made, at)| made.sighted(*at)).collect()).await.expect("recorded");
        let admitted = seen.iter().map(|(made, at)| {
            let Sighted { challenge, hotkey, field, .. } = made.sighted(*at);
            Seen { challenge, hotkey, coldkey: Hotkey([9; 32]), field, digest: None, at: *at }
        });
        pipeline.commitments_seen(admitted.collect()).await.expect("recorded");
        for (made, at) in &seen {
            let first = first(&pipeline, made).await;
            assert!(first <= *at, "a sighting is never forgotten");
            let before = known.insert((made.hotkey, made.content), first);
            assert!(before.is_none_or(|before| first <= before), "a first place never moves later");
        }
    }
    let mut owners: BTreeMap<u8, (Priority, u8)> = BTreeMap::new();
    for made in history {
        let truth = history.iter().filter(|one| (one.hotkey, one.content) == (made.hotkey, made.content));
        let truth = truth.map(|one| one.at).min().expect("itself at least");
        assert_eq!(first(&pipeline, made).await, truth, "{made:?}");
        let field = format!("content {}", made.content);
        let submission = pipeline.committed(SLUG, Hotkey([made.hotkey; 32]), &field);
        let submission = submission.await.expect("read").expect("admitted");
        assert_eq!((submission.committed, submission.priority), (truth, truth), "{made:?}");
        let owner = owners.entry(made.content).or_insert((truth, made.hotkey));
        *owner = (*owner).min((truth, made.hotkey));
    }
    for (content, (at, hotkey)) in owners {
        let owner = pipeline.owner_of(SLUG, Digest([content; 32])).await.expect("read");
        assert_eq!(owner, Some((Hotkey([hotkey; 32]), at)));
    }
}

async fn first(pipeline: &Pipeline, made: &Made) -> Priority {
    let (hotkey, field) = (Hotkey([made.hotkey; 32]), format!("content {}", made.content));
    let first = pipeline.store().db().read(move |conn| first_of(conn, SLUG, &hotkey, &field)).await;
    first.expect("read").expect("it was seen")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn the_first_sightings_are_the_same_in_whatever_order_the_chain_is_read((history, order) in histories()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(&history, &order));
    }
}

#[tokio::test]
async fn a_place_that_a_run_has_used_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipeline = pipeline(dir.path()).await;
    let made = Made { hotkey: 1, content: 2, at: Priority { block: 40, index: u32::MAX } };
    let Sighted { challenge, hotkey, field, .. } = made.sighted(made.at);
    let one = Registered { uid: 1, since_block: 30, coldkey: hotkey };
    let snapshot = Snapshot { block: 41, hash: Digest([1; 32]), registered: BTreeMap::from([(hotkey, one)]) };
    pipeline.members(&snapshot).await.expect("recorded");
    pipeline.sighted(vec![made.sighted(made.at)]).await.expect("recorded");
    let seen = Seen { challenge, hotkey, coldkey: hotkey, field: field.clone(), digest: None, at: made.at };
    let id = pipeline.commitments_seen(vec![seen]).await.expect("recorded")[0];
    let place = async || pipeline.committed(SLUG, hotkey, &field).await.expect("read").expect("there").committed;
    // From before the registration: seen, and without effect on what counts.
    let count = pipeline.sighted(vec![made.sighted(Priority { block: 20, index: 1 })]).await.expect("recorded");
    assert_eq!((count.new, count.earlier), (0, 1));
    assert_eq!(place().await, made.at);
    // Found in an archive: the index in its block, and before that another block since the registration.
    let counts = [Priority { block: 40, index: 3 }, Priority { block: 35, index: 7 }];
    for earlier in counts {
        pipeline.sighted(vec![made.sighted(earlier)]).await.expect("recorded");
        assert_eq!(place().await, earlier);
    }
    // What a run was frozen with is what everybody in it was compared by.
    let frozen = pipeline.store().db().write("freeze", move |tx| {
        tx.execute(
            "INSERT INTO runs (challenge, number, state, stage, closed_block, arrivals, created_ms)
             VALUES (?1, 1, 'frozen', 0, 50, 1, 0)",
            [SLUG],
        )?;
        tx.execute(
            "INSERT INTO contestants (run, submission, artifact, priority_block, priority_index, incumbent)
             VALUES (1, ?1, '', 35, 7, 0)",
            [id.0],
        )?;
        Ok::<_, super::Error>(())
    });
    frozen.await.expect("recorded");
    assert_eq!(pipeline.sighted(vec![made.sighted(Priority { block: 31, index: 1 })]).await.expect("recorded").new, 0);
    assert_eq!(place().await, counts[1]);
}

#[tokio::test]
async fn gaps_are_told_once_and_closed_by_reading() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipeline = pipeline(dir.path()).await;
    pipeline.gap(7, 10, 20).await.expect("recorded");
    pipeline.gap(7, 15, 30).await.expect("recorded");
    pipeline.gap(7, 12, 13).await.expect("recorded");
    pipeline.gap(8, 1, 1).await.expect("recorded");
    let of = |gaps: Vec<super::Gap>| gaps.into_iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>();
    assert_eq!(of(pipeline.gaps(7).await.expect("read")), [(10, 30)]);
    pipeline.gap_closed(7, 1, 12).await.expect("recorded");
    pipeline.gap_closed(7, 20, 22).await.expect("recorded");
    assert_eq!(of(pipeline.gaps(7).await.expect("read")), [(13, 19), (23, 30)]);
    pipeline.gap_closed(7, 0, 100).await.expect("recorded");
    assert_eq!(of(pipeline.gaps(7).await.expect("read")), []);
    assert_eq!(of(pipeline.gaps(8).await.expect("read")), [(1, 1)]);
}

/// Who is registered where, since when.
fn members(block: u64, places: &[(u16, u8, u64)]) -> Snapshot {
    let registered = places.iter().map(|(uid, hotkey, since_block)| {
        let one = Registered { uid: *uid, since_block: *since_block, coldkey: Hotkey([9; 32]) };
        (Hotkey([*hotkey; 32]), one)
    });
    Snapshot { block, hash: Digest([1; 32]), registered: registered.collect() }
}

#[tokio::test]
async fn a_swap_hands_on_what_is_used_up_and_a_registration_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipeline = pipeline_with(dir.path(), true).await;
    pipeline.members(&members(50, &[(0, 1, 10), (1, 2, 12)])).await.expect("recorded");
    // Swapped before anybody was listed; a cycle does not keep anybody looking for ever.
    for (block, hotkey) in [(51, 3), (52, 4), (53, 3), (54, 4)] {
        pipeline.members(&members(block, &[(0, hotkey, 10), (1, 2, 12)])).await.expect("recorded");
    }
    let used = async |hotkey: u8| pipeline.used(SLUG, Hotkey([hotkey; 32])).await.expect("read");
    assert_eq!(used(4).await, None);
    let listed = vec![(Hotkey([1; 32]), 20), (Hotkey([2; 32]), 21)];
    assert_eq!(pipeline.seeded(SLUG, 30, 30, listed.clone(), true).await.expect("recorded"), 2);
    assert_eq!(pipeline.seeded(SLUG, 30, 30, listed, true).await.expect("recorded"), 0);
    for hotkey in [3, 4] {
        let found = used(hotkey).await.expect("its place was that of a listed one");
        assert_eq!((found.source.as_str(), found.hotkey, found.block), ("swap", Hotkey([1; 32]), 20));
        assert!(found.fault().detail.contains("block 20"), "{}", found.fault().detail);
    }
    // Uid 1 goes to somebody who registered for it, also after a restart.
    drop(pipeline);
    let pipeline = pipeline_with(dir.path(), true).await;
    pipeline.members(&members(60, &[(0, 4, 10), (1, 5, 60)])).await.expect("recorded");
    assert_eq!(pipeline.used(SLUG, Hotkey([5; 32])).await.expect("read"), None);
    pipeline.members(&members(61, &[(0, 4, 10), (1, 6, 60)])).await.expect("recorded");
    assert_eq!(pipeline.used(SLUG, Hotkey([6; 32])).await.expect("read"), None, "it took an innocent one's place");
    pipeline.members(&members(62, &[(0, 7, 10), (1, 6, 60)])).await.expect("recorded");
    assert_eq!(pipeline.used(SLUG, Hotkey([7; 32])).await.expect("read").map(|used| used.block), Some(20));
}

#[tokio::test]
async fn an_evaluation_uses_its_hotkey_up_and_trouble_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipeline = pipeline_with(dir.path(), true).await;
    pipeline.members(&members(50, &[(0, 1, 0), (1, 2, 0)])).await.expect("recorded");
    let commit = async |hotkey: u8, content: &str, block| {
        let (hotkey, field) = (Hotkey([hotkey; 32]), content.to_owned());
        let at = Priority { block, index: 1 };
        let seen = Seen { challenge: SLUG.to_owned(), hotkey, coldkey: hotkey, field, digest: None, at };
        pipeline.commitments_seen(vec![seen]).await.expect("recorded")
    };
    let first = commit(1, "a", 60).await[0];
    let failed = commit(2, "a", 60).await[0];
    let second = commit(1, "b", 61).await[0];
    // The ranking's own act on the first; our failure on the other.
    let put = |id: crate::ids::SubmissionId, status: &'static str, event: super::life::Event| {
        let store = pipeline.store().clone();
        async move {
            let moved = store.db().write("move", move |tx| {
                tx.execute("UPDATE submissions SET status = ?1 WHERE id = ?2", rusqlite::params![status, id.0])?;
                let submission = super::submissions::load(tx, id)?;
                super::submissions::apply(tx, 7, &submission, event, super::submissions::Because::default())
            });
            moved.await.expect("it moves");
        }
    };
    put(failed, "running", super::life::Event::BudgetSpent).await;
    put(first, "waiting", super::life::Event::Lost).await;
    let used = pipeline.used(SLUG, Hotkey([1; 32])).await.expect("read").expect("it was evaluated");
    assert_eq!((used.source.as_str(), used.submission, used.block), ("evaluated", Some(first), 60));
    assert_eq!(pipeline.used(SLUG, Hotkey([2; 32])).await.expect("read"), None, "our trouble uses nobody up");
    assert_eq!(commit(2, "b", 62).await.len(), 1);
    assert_eq!(commit(1, "c", 62).await, [], "a later commitment is refused");
    // What the hotkey had under way besides ends with the next block.
    pipeline.advance(7, 63, Digest([1; 32]), Vec::new(), false).await.expect("taken in");
    let load =
        async |id| pipeline.store().db().read(move |conn| super::submissions::load(conn, id)).await.expect("read");
    let ended = load(second).await;
    assert_eq!(ended.fault.expect("why").code, "hotkey_reused");
    assert_eq!(load(first).await.status, super::life::Status::Lost);
    put(first, "waiting", super::life::Event::Ranked).await;
    let again = pipeline.used(SLUG, Hotkey([1; 32])).await.expect("read").expect("listed");
    assert_eq!(again, used, "the first reason stays");
}

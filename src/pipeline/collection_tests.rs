use super::*;
use crate::{
    artifact::model::{Disk, Reserved, cache::Place, disk::Waits},
    clock::SystemClock,
    fault::Class,
    store::Options,
};

const NOW_MS: UnixMs = 1_000_000;
const GRACE_MS: u64 = 1_000;
const KEY: Digest = Digest([7; 32]);

fn entry() -> Entry {
    Entry {
        key: KEY,
        repo: Some("alice/m".to_owned()),
        revision: None,
        bytes: 1,
        disk_bytes: 1,
        is_partial: false,
        is_pinned: false,
        used_ms: NOW_MS,
    }
}

/// What decides on one model.
#[derive(Clone)]
struct Case {
    entry: Entry,
    standing: Option<Standing>,
    is_base: bool,
}

impl Case {
    fn reason(&self) -> Reason {
        let facts = Facts(self.standing.map(|standing| (KEY, standing)).into_iter().collect());
        let bases = if self.is_base { BTreeSet::from(["alice/m".to_owned()]) } else { BTreeSet::new() };
        decide(&self.entry, &facts, &Keep { bases, grace_ms: GRACE_MS }, NOW_MS)
    }

    fn standing(&mut self) -> &mut Standing {
        self.standing.as_mut().expect("a submission names it")
    }
}

/// Takes one reason away, so that the next rule is the first that holds.
type Change = fn(&mut Case);

#[test]
fn the_first_rule_that_holds_decides() {
    // Everything at once: it is in use, idle parts of the base, in the ranking, under way, lost and formerly ranked.
    let all = Standing { ranked: true, under_way: true, lost: true, formerly: true, moved_ms: NOW_MS };
    let mut case = Case { entry: entry(), standing: Some(all), is_base: true };
    case.entry.is_pinned = true;
    case.entry.is_partial = true;
    case.entry.used_ms = NOW_MS - 1_000;
    let rows: [(Reason, bool, Change); 11] = [
        (Reason::InUse, false, |case| case.entry.is_pinned = false),
        (Reason::PartsIdle, true, |case| case.entry.used_ms += 1),
        (Reason::PartsRecent, false, |case| case.entry.is_partial = false),
        (Reason::Base, false, |case| case.is_base = false),
        (Reason::Ranked, false, |case| case.standing().ranked = false),
        (Reason::UnderWay, false, |case| case.standing().under_way = false),
        // Recently ended is of those alone that neither lost nor were ranked.
        (Reason::Lost, true, |case| case.standing().lost = false),
        (Reason::Formerly, true, |case| case.standing().formerly = false),
        (Reason::EndedRecently, false, |case| case.standing().moved_ms -= 1_000),
        (Reason::Ended, true, |case| case.standing = None),
        (Reason::Unknown, false, |_| ()),
    ];
    for (expected, is_delete, change) in rows {
        assert_eq!(case.reason(), expected);
        assert_eq!(expected.is_delete(), is_delete, "{expected}");
        change(&mut case);
    }
    let seen: BTreeSet<Reason> = rows.iter().map(|row| row.0).collect();
    assert_eq!(seen.len(), Reason::ALL.len(), "every reason has its row");
}

#[test]
fn the_grace_ends_on_the_millisecond() {
    let mut case = Case { entry: entry(), standing: Some(Standing::default()), is_base: false };
    for (moved_ms, expected) in [(NOW_MS - 999, Reason::EndedRecently), (NOW_MS - 1_000, Reason::Ended)] {
        case.standing().moved_ms = moved_ms;
        assert_eq!(case.reason(), expected);
    }
}

#[test]
fn the_base_is_known_by_its_repository_and_a_model_without_one_is_none() {
    let mut case =
        Case { entry: entry(), standing: Some(Standing { lost: true, ..Standing::default() }), is_base: true };
    assert_eq!(case.reason(), Reason::Base);
    case.entry.repo = None;
    assert_eq!(case.reason(), Reason::Lost);
}

/// A data directory with a disk of a hundred bytes for models.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    disk: Disk,
    models: ModelCache,
}

const KEEP: Keep = Keep { bases: BTreeSet::new(), grace_ms: 1_000 };

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).await.unwrap();
        store
            .db()
            .write("a challenge", |tx| {
                tx.execute(
                    "INSERT INTO challenges (slug, profile, profile_digest, added_ms) VALUES ('c', '', '', 0)",
                    [],
                )?;
                Ok::<_, crate::store::Error>(())
            })
            .await
            .unwrap();
        let disk = Disk::new(100);
        let models = ModelCache::open(dir.path(), SystemClock::shared(), disk.clone()).unwrap();
        Self { dir, store, disk, models }
    }

    /// A submission that names this model.
    async fn submission(&self, id: i64, name: &str, status: &str) {
        let (artifact, status) = (cache::key_of(&reference(name)).to_string(), status.to_owned());
        self.write(
            "INSERT INTO submissions (id, challenge, hotkey, coldkey, field, commit_block, commit_index, priority_block,
               priority_index, artifact, status, created_ms, updated_ms)
             VALUES (?1, 'c', 'h' || ?1, 'k', 'f', 1, 1, 1, 1, ?2, ?3, 0, 500)",
            move |statement| statement.execute(params![id, artifact, status]),
        )
        .await;
    }

    async fn write(
        &self,
        sql: &'static str,
        act: impl FnOnce(&mut rusqlite::Statement<'_>) -> rusqlite::Result<usize> + Send + 'static,
    ) {
        self.store
            .db()
            .write("a row", move |tx| {
                act(&mut tx.prepare(sql)?)?;
                Ok::<_, crate::store::Error>(())
            })
            .await
            .unwrap();
    }

    /// A model of so many bytes that is here.
    async fn keep(&self, name: &str, bytes: usize) {
        let place = self.place(name, bytes as u64).await;
        std::fs::write(place.dir().join("model.safetensors"), vec![1; bytes]).unwrap();
        drop(place.finish().await.unwrap());
    }

    async fn place(&self, name: &str, bytes: u64) -> Place {
        match self.models.reserve(&reference(name), bytes).await.unwrap() {
            Reserved::Place(place) => place,
            Reserved::Here(pinned) => panic!("{pinned:?}"),
        }
    }

    /// The facts of one model.
    async fn standing(&self, name: &str) -> Option<Standing> {
        let key = cache::key_of(&reference(name));
        let read = self.store.db().read(move |conn| Facts::read(conn, &BTreeSet::from([key]))).await;
        read.unwrap().0.get(&key).copied()
    }

    async fn events(&self) -> Vec<(String, String)> {
        let read = |conn: &rusqlite::Connection| {
            let mut statement = conn.prepare("SELECT subject, data FROM events WHERE kind = ?1 ORDER BY seq")?;
            let rows = statement.query_map([DELETED], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, crate::store::Error>(rows.collect::<Result<_, _>>()?)
        };
        self.store.db().read(read).await.unwrap()
    }
}

fn reference(name: &str) -> Reference {
    Reference::new(&format!("alice/{name}"), &format!("sha256:{}", Digest::of(name.as_bytes()))).unwrap()
}

#[tokio::test]
async fn a_model_waits_for_room_until_a_loser_is_deleted() {
    let world = World::new().await;
    world.keep("king", 40).await;
    world.keep("loser", 50).await;
    world.submission(1, "king", "ranked").await;
    world.submission(2, "loser", "running").await;
    assert_eq!(world.disk.free_bytes(), 10);

    let new = reference("new");
    let reserve = world.models.reserve(&new, 60);
    tokio::pin!(reserve);
    assert!(futures::poll!(reserve.as_mut()).is_pending());
    assert_eq!((world.disk.waits().models, world.disk.waits().bytes), (1, 60));
    // The collector was nudged; nothing may go yet.
    world.disk.wanted().await;
    let decided = collect(&world.models, &world.store, &KEEP, 1_000).await.unwrap();
    assert!(decided.iter().all(|one| !one.delete));
    assert!(futures::poll!(reserve.as_mut()).is_pending());

    world.write("UPDATE submissions SET status = 'lost' WHERE id = 2", |one| one.execute([])).await;
    let decided = collect(&world.models, &world.store, &KEEP, 1_000).await.unwrap();
    let gone: Vec<_> = decided.iter().filter(|one| one.delete).map(|one| one.reason).collect();
    assert_eq!(gone, [Reason::Lost]);
    let Reserved::Place(place) = reserve.await.unwrap() else { panic!("nobody fetched it") };
    assert_eq!(world.disk.waits(), Waits::default());
    assert!(world.models.find(&reference("loser")).is_none());
    assert!(world.models.find(&reference("king")).is_some());
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, cache::key_of(&reference("loser")).to_string());
    assert!(events[0].1.contains("\"lost\"") && events[0].1.contains("alice/loser"), "{}", events[0].1);
    drop(place);
}

#[tokio::test]
async fn a_model_that_can_never_fit_is_refused_at_once_as_the_operators_trouble() {
    let world = World::new().await;
    let refused = world.models.reserve(&reference("m"), 101).await.unwrap_err();
    assert_eq!((refused.fault().code.as_str(), refused.fault().class), ("model_larger_than_disk", Class::Operator));
    drop(world.place("m", 100).await);
}

#[tokio::test]
async fn two_who_want_one_model_fetch_it_once() {
    let world = World::new().await;
    let place = world.place("m", 60).await;
    let wanted = reference("m");
    let second = world.models.reserve(&wanted, 60);
    tokio::pin!(second);
    assert!(futures::poll!(second.as_mut()).is_pending());
    assert_eq!(world.disk.waits(), Waits::default(), "it does not wait for the disk");
    let pinned = place.finish().await.unwrap();
    assert!(matches!(second.await.unwrap(), Reserved::Here(_)));
    assert_eq!(world.disk.free_bytes(), 40);
    drop(pinned);
}

#[tokio::test]
async fn what_is_kept_counts_after_a_restart_and_a_deletion_that_was_begun_is_ended_and_told_once() {
    let world = World::new().await;
    world.keep("m", 30).await;
    world.keep("n", 20).await;
    world.submission(1, "m", "lost").await;
    // The process is killed between taking away and deleting.
    let key = cache::key_of(&reference("m"));
    drop(world.models.remove(&key, 2_000).unwrap().unwrap());
    let World { dir, store, models, .. } = world;
    drop(models);

    let disk = Disk::new(100);
    let models = ModelCache::open(dir.path(), SystemClock::shared(), disk.clone()).unwrap();
    assert_eq!(disk.free_bytes(), 80);
    let world = World { dir, store, disk, models };
    for _ in 0..2 {
        let decided = collect(&world.models, &world.store, &KEEP, 3_000).await.unwrap();
        assert_eq!(decided.iter().map(|one| one.reason).collect::<Vec<_>>(), [Reason::Unknown]);
    }
    assert_eq!(world.events().await.len(), 1);
    assert!(std::fs::read_dir(world.dir.path().join(cache::FOLDER)).unwrap().count() == 2, "a model and who it is");
}

#[tokio::test]
async fn facts_follow_submissions_runs_and_rankings() {
    let world = World::new().await;
    assert_eq!(world.standing("m").await, None);
    for (id, status) in ["awaiting", "queued", "running", "waiting", "retry", "held"].into_iter().enumerate() {
        world.submission(10 + id as i64, status, status).await;
        let found = world.standing(status).await.unwrap();
        assert!(found.under_way && !found.ranked && !found.lost, "{status}");
    }
    for (id, status) in ["rejected", "failed", "withdrawn"].into_iter().enumerate() {
        world.submission(20 + id as i64, status, status).await;
        let found = world.standing(status).await.unwrap();
        assert_eq!((found.under_way, found.ranked, found.lost, found.moved_ms), (false, false, false, 500), "{status}");
    }
    world.submission(1, "m", "lost").await;
    assert!(world.standing("m").await.unwrap().lost);

    // An incumbent of an open run, whatever became of it; not of one that is decided.
    world
        .write(
            "INSERT INTO runs (id, challenge, number, state, stage, closed_block, arrivals, created_ms)
             VALUES (1, 'c', 1, 'running', 0, 1, 1, 0)",
            |one| one.execute([]),
        )
        .await;
    world
        .write(
            "INSERT INTO contestants (run, submission, artifact, priority_block, priority_index, incumbent)
             VALUES (1, 1, 'a', 1, 1, 1)",
            |one| one.execute([]),
        )
        .await;
    assert!(world.standing("m").await.unwrap().ranked);
    world.write("UPDATE runs SET state = 'ranked'", |one| one.execute([])).await;
    assert!(!world.standing("m").await.unwrap().ranked);

    // Paid by the newest ranking, and not by one before it.
    let ranking = |version: i64, share: f64| {
        let rows = json!({"rows": [{"hotkey": "h", "share": share, "submission": "s1"}], "burned": 0.0}).to_string();
        world.write(
            "INSERT INTO rankings (challenge, version, block, input, ranking, at_ms) VALUES ('c', ?1, 1, '', ?2, 0)",
            move |one| one.execute(params![version, rows]),
        )
    };
    ranking(1, 0.5).await;
    assert!(world.standing("m").await.unwrap().ranked);
    ranking(2, 0.0).await;
    assert!(!world.standing("m").await.unwrap().ranked);

    // Once ranked, it is a former king.
    world.store.db().write("an event", |tx| events::append(tx, 1, "ranked", "s1", &json!({})).map(drop)).await.unwrap();
    let found = world.standing("m").await.unwrap();
    assert!(found.formerly && !found.lost);
}

#[tokio::test]
async fn a_commitment_names_its_model_before_anything_is_fetched() {
    let world = World::new().await;
    world.submission(1, "m", "awaiting").await;
    world.write("UPDATE submissions SET artifact = NULL", |one| one.execute([])).await;
    assert_eq!(world.standing("m").await, None);
    let digest = cache::key_of(&reference("m")).to_string();
    world
        .write(
            "INSERT INTO sightings (challenge, hotkey, field, source, digest, parts, block, idx, seen_ms)
             VALUES ('c', 'h1', 'f', 'plain', ?1, '{}', 1, 1, 0)",
            move |one| one.execute([digest]),
        )
        .await;
    assert!(world.standing("m").await.unwrap().under_way);

    // A hub's commit is kept under a key of its own, which the commitment's parts tell and its digest does not.
    let commit = "0f".repeat(32);
    let key = cache::key_of(&Reference::new("alice/h", &commit).unwrap());
    let parts = json!({"repo": "alice/h", "digest": commit}).to_string();
    world.submission(2, "h", "lost").await;
    world
        .write(
            "INSERT INTO sightings (challenge, hotkey, field, source, digest, parts, block, idx, seen_ms)
             VALUES ('c', 'h2', 'f', 'plain', ?1, ?2, 1, 2, 0)",
            move |one| one.execute([commit, parts]),
        )
        .await;
    let facts = world.store.db().read(move |conn| Facts::read(conn, &BTreeSet::from([key]))).await.unwrap();
    assert!(facts.0[&key].lost);
}

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::*;

/// A clock that stands where it is put.
#[derive(Default)]
struct Hand(AtomicI64);

#[async_trait]
impl Clock for Hand {
    fn now_ms(&self) -> UnixMs {
        self.0.load(Ordering::SeqCst)
    }

    async fn sleep(&self, _duration: Duration) {
        std::future::pending().await
    }
}

/// A data directory on a disk of ten thousand bytes.
struct World {
    dir: tempfile::TempDir,
    clock: Arc<Hand>,
    disk: Disk,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, clock: Arc::default(), disk: Disk::new(10_000) }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join(FOLDER)
    }

    /// A process that owns the folder: the one before it is gone, and its room with it.
    fn open(&mut self) -> ModelCache {
        self.disk = Disk::new(10_000);
        let clock = Arc::clone(&self.clock);
        ModelCache::open(self.dir.path(), clock, self.disk.clone()).unwrap()
    }

    fn taken(&self) -> u64 {
        self.disk.bytes() - self.disk.free_bytes()
    }
}

async fn place_for(cache: &ModelCache, reference: &Reference, bytes: u64) -> Place {
    match cache.reserve(reference, bytes).await.unwrap() {
        Reserved::Place(place) => place,
        Reserved::Here(pinned) => panic!("{pinned:?}"),
    }
}

fn reference(name: &str) -> Reference {
    let digest = format!("sha256:{}", Digest::of(name.as_bytes()));
    Reference::new(&format!("alice/{name}"), &digest).unwrap()
}

#[tokio::test]
async fn a_model_appears_when_it_is_whole_and_stays_over_a_restart() {
    let mut world = World::new();
    let cache = world.open();
    let model = reference("m");
    assert!(cache.find(&model).is_none());
    assert!(cache.entries().unwrap().is_empty());
    world.clock.0.store(5_000, Ordering::SeqCst);
    let place = place_for(&cache, &model, 100).await;
    assert!(place.dir().ends_with(format!("{}.partial", key_of(&model))));
    fs::create_dir(place.dir().join("sub")).unwrap();
    fs::write(place.dir().join("sub/config.json"), [7; 100]).unwrap();
    assert!(cache.find(&model).is_none(), "it is not whole");
    let pinned = place.finish().await.unwrap();
    assert_eq!(fs::read(pinned.path().join("sub/config.json")).unwrap(), [7; 100]);
    let entry = &cache.entries().unwrap()[0];
    assert_eq!((entry.key, entry.repo.as_deref(), entry.bytes), (key_of(&model), Some("alice/m"), 100));
    assert!(!entry.is_partial && entry.is_pinned && entry.disk_bytes > 0);
    assert_eq!((entry.used_ms, world.taken()), (5_000, 100));
    drop(pinned);
    drop(cache);

    let again = world.open();
    assert_eq!(world.taken(), 100, "what lies there counts");
    world.clock.0.store(9_000, Ordering::SeqCst);
    let found = again.find(&model).expect("it stayed");
    assert_eq!(again.entries().unwrap()[0].used_ms, 9_000);
    assert!(matches!(again.reserve(&model, 1 << 40).await.unwrap(), Reserved::Here(_)), "and needs no room");
    drop(found);
}

#[tokio::test]
async fn a_crash_leaves_parts_that_the_next_one_goes_on_with() {
    let mut world = World::new();
    let cache = world.open();
    let model = reference("m");
    let place = place_for(&cache, &model, 1000).await;
    fs::write(place.dir().join("model.safetensors.part"), [1; 400]).unwrap();
    // Killed: nothing of ours runs any more.
    std::mem::forget(place);

    let again = world.open();
    assert!(again.find(&model).is_none());
    assert!(again.entries().unwrap()[0].is_partial);
    assert_eq!(world.taken(), 400);
    let place = place_for(&again, &model, 1000).await;
    assert_eq!(world.taken(), 1000, "its parts had their room already");
    assert_eq!(fs::read(place.dir().join("model.safetensors.part")).unwrap(), [1; 400]);
    drop(place);
    assert!(!again.entries().unwrap()[0].is_pinned, "it was given up");
    assert_eq!(world.taken(), 1000, "and keeps its room for the next try");
    drop(again);
}

#[tokio::test]
async fn one_fetches_and_the_others_wait_for_it() {
    let mut world = World::new();
    let cache = world.open();
    let model = reference("m");
    let filled = place_for(&cache, &model, 10).await;
    let second = cache.reserve(&model, 10);
    tokio::pin!(second);
    assert!(futures::poll!(second.as_mut()).is_pending());
    // Another model is not in the way, nor is one that is given up.
    drop(place_for(&cache, &reference("other"), 10).await);
    assert!(futures::poll!(second.as_mut()).is_pending());
    let first = filled.finish().await.unwrap();
    assert!(matches!(second.await.unwrap(), Reserved::Here(_)));
    drop(first);

    let third = reference("third");
    let given_up = place_for(&cache, &third, 10).await;
    let next = cache.reserve(&third, 10);
    tokio::pin!(next);
    assert!(futures::poll!(next.as_mut()).is_pending());
    assert_eq!(world.disk.waits().models, 0, "it does not wait for the disk");
    drop(given_up);
    assert!(matches!(next.await.unwrap(), Reserved::Place(_)));
    assert_eq!(world.taken(), 30);
}

#[tokio::test]
async fn without_room_nothing_is_made_and_what_never_fits_is_refused_at_once() {
    let mut world = World::new();
    let cache = world.open();
    let all = world.disk.take(10_000).unwrap();
    let model = reference("m");
    let waits = cache.reserve(&model, 10_000);
    tokio::pin!(waits);
    assert!(futures::poll!(waits.as_mut()).is_pending());
    assert!(!world.root().exists());
    world.disk.wanted().await;
    assert_eq!(world.disk.waits().bytes, 10_000);
    drop(all);
    assert!(matches!(waits.await.unwrap(), Reserved::Place(_)));
    let refused = cache.reserve(&reference("n"), 10_001).await.unwrap_err().fault();
    assert_eq!((refused.code.as_str(), refused.class), ("model_larger_than_disk", crate::fault::Class::Operator));
}

#[tokio::test]
async fn what_is_in_use_is_not_taken_away_and_room_comes_back_with_the_bytes() {
    let mut world = World::new();
    let cache = world.open();
    let model = reference("m");
    let key = key_of(&model);
    let place = place_for(&cache, &model, 10).await;
    assert!(cache.remove(&key, 1).unwrap().is_none(), "it is being fetched");
    fs::write(place.dir().join("config.json"), [0; 10]).unwrap();
    let first = place.finish().await.unwrap();
    let second = cache.find(&model).unwrap();
    drop(first);
    assert!(cache.remove(&key, 1).unwrap().is_none(), "one is still at it");
    drop(second);
    let trash = cache.remove(&key, 77).unwrap().expect("nobody is");
    assert!(cache.find(&model).is_none());
    assert!(cache.entries().unwrap().is_empty());
    assert_eq!(world.taken(), 10, "its bytes are still there");
    trash.delete().unwrap();
    assert_eq!(world.taken(), 0);
    assert!(names(&world.root()).unwrap().is_empty());
}

#[tokio::test]
async fn what_was_not_deleted_to_its_end_is_found_again_and_never_taken_for_a_model() {
    let mut world = World::new();
    let cache = world.open();
    let model = reference("m");
    drop(place_for(&cache, &model, 10).await.finish().await.unwrap());
    let trash = cache.remove(&key_of(&model), 77).unwrap().unwrap();
    drop((trash, cache));

    let again = world.open();
    assert!(again.find(&model).is_none());
    assert!(again.entries().unwrap().is_empty());
    let left = again.left_over().unwrap();
    assert_eq!(left.iter().map(|one| (one.key, one.at_ms)).collect::<Vec<_>>(), [(key_of(&model), 77)]);
    left.into_iter().for_each(|one| one.delete().unwrap());
    assert!(again.left_over().unwrap().is_empty());
}

#[test]
fn holes_take_no_room_of_the_disk_and_foreign_names_are_left_alone() {
    let world = World::new();
    let root = world.root();
    let key = key_of(&reference("m"));
    let folder = root.join(format!("{key}.partial"));
    fs::create_dir_all(&folder).unwrap();
    File::create(folder.join("x.part")).unwrap().set_len(1 << 30).unwrap();
    fs::create_dir(root.join("not-ours")).unwrap();
    fs::write(root.join(format!("{key}.json")), "{").unwrap();
    let entries = scan(&root).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].bytes, entries[0].repo.as_ref()), (1 << 30, None));
    assert!(entries[0].disk_bytes < 1 << 20);
}

#[test]
fn what_was_deleted_by_hand_takes_no_room() {
    let mut world = World::new();
    let key = key_of(&reference("m"));
    fs::create_dir_all(world.root().join(key.to_string())).unwrap();
    fs::write(world.root().join(key.to_string()).join("a"), [0; 9]).unwrap();
    let cache = world.open();
    assert_eq!(world.taken(), 9);
    fs::remove_dir_all(world.root().join(key.to_string())).unwrap();
    assert!(cache.find(&reference("m")).is_none());
    assert!(cache.entries().unwrap().is_empty());
    assert_eq!(world.taken(), 0);
}

#[test]
fn commits_of_two_repositories_are_two_models() {
    let commit = "0f".repeat(20);
    let of = |repo: &str| key_of(&Reference::new(repo, &commit).unwrap());
    assert_ne!(of("a/b"), of("a/c"));
    let digest = format!("sha256:{}", "a1".repeat(32));
    assert_eq!(key_of(&Reference::new("a/b", &digest).unwrap()), Digest([0xa1; 32]));
}

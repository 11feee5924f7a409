//! The same chain once more, without a kill: a fresh appliance that is given nothing but what a miner gave only to the
//! first one must come to the same rankings and the same weights.
//!
//! What is copied is intake's truth: the chain's blocks, the uploaded bytes, when each upload was taken in, and the key
//! by which observations are drawn. Everything else (who committed what and when, checks, runs, seeds, episodes, folds,
//! rankings, weights) is done anew, and at another pace: all of it lies in the past when it begins.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use waag::{
    actors::Follower,
    artifact::{
        fetch::Limits,
        model::{Disk, ModelCache},
    },
    cli::demo::play::Stage,
    clock::SystemClock,
    config::Profile,
    dedup::model::Key,
    gym::isolation::Host,
    ids::Digest,
    pipeline::{Challenge, Pipeline, points::Points},
    score,
    stage::{catalog, model},
    store::{Options, Store},
};

use super::{
    BLOCK_MS, NETUID,
    appliance::{Place, Process},
    ledger, pace, profile, stage,
};

/// Replays the chain of this place, whose processes are gone, and compares.
pub async fn gives_the_same(crashed: &Place) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fresh = Place::new(dir.path(), NETUID, BLOCK_MS);
    fresh.write(&profile());
    copy(&crashed.dir.join("dev.chain"), &fresh.dir.join("dev.chain"));
    copy(&crashed.wallets(), &fresh.wallets());
    copy(&crashed.data().join("blobs"), &fresh.data().join("blobs"));
    copy(&crashed.data().join("keys"), &fresh.data().join("keys"));
    let chain = fresh.start_devnet();
    let stage = stage(&fresh, &chain.url).await;
    take_in(&fresh, &stage, crashed).await;

    let mut process = Process::up(&fresh, None);
    let waited = async {
        let rested = stage.until(async || {
            process.assert_runs();
            Ok(ledger::is_at_rest(&fresh))
        });
        assert!(rested.await.is_ok(), "it never comes to rest: {:?}", ledger::left(&fresh));
    };
    pace::hurrying(&fresh, &stage, waited).await;
    assert_eq!(process.stop(), Some(0));

    assert_eq!(ledger::ends(&fresh), ledger::ends(crashed));
    let (again, first) = (ledger::rankings(&fresh), ledger::rankings(crashed));
    for (again, first) in again.iter().zip(&first) {
        assert_eq!(again, first);
    }
    assert_eq!(again.len(), first.len());
    println!("replayed {} runs without a kill: the same rankings", first.len());
    assert_eq!(ledger::last_vector(&fresh), ledger::last_vector(crashed));
}

/// Follows the copied chain to its end and records the uploads as they were recorded before. Nothing is looked at yet.
async fn take_in(fresh: &Place, stage: &Stage, crashed: &Place) {
    let store = Store::open(fresh.data(), Options::default()).await.expect("it is fresh");
    let challenges = BTreeMap::from([assemble(fresh, &store)]);
    let pipeline = Pipeline::open(store, SystemClock::shared(), challenges, Points::default()).await.expect("it opens");
    let end = stage.chain.finalized_head().await.expect("the chain answers").number;
    // From the first block on: a first start looks back only some way, and takes what is older from state.
    let genesis = Digest(stage.chain.genesis_hash());
    pipeline.advance(NETUID, 0, genesis, Vec::new(), false).await.expect("it is written");
    let (facts, _seen) = watch::channel(None);
    let follower = Follower::new(stage.chain.clone(), NETUID, pipeline.clone(), facts);
    let token = CancellationToken::new();
    let followed = stage.until(async || {
        let read = pipeline.read_to(NETUID).await.map_err(|error| error.fault())?;
        Ok(read.is_some_and(|(block, _hash)| block >= end))
    });
    tokio::select! {
        () = follower.run(token.clone()) => panic!("nobody told it to stop"),
        followed = followed => followed.expect("the chain can be read to its end"),
    }
    for upload in ledger::uploads(crashed) {
        pipeline.uploaded(upload).await.expect("its commitment was seen");
    }
}

/// The challenge as the program assembles it.
fn assemble(place: &Place, store: &Store) -> (String, Arc<Challenge>) {
    let path = place.profile();
    let profile = Profile::load(&path.display().to_string()).expect("it is valid");
    let parts = catalog::Parts {
        blobs: store.blobs().clone(),
        // Stages are not run here.
        observation_key: [0; 32],
        host: Host { program: path, args: Vec::new() },
        onnx_library: None,
        models: model::Parts {
            fetch: Limits::default(),
            credentials: None,
            cache: ModelCache::open(&place.dir, Arc::new(SystemClock), Disk::new(1)).expect("it opens"),
            prints: model::Prints::new(store.clone(), Arc::new(SystemClock), Key::new([0; 32])),
            passes: Arc::new(Semaphore::new(1)),
        },
    };
    let stages = catalog::stages(&profile, &parts).expect("they exist");
    let rule = score::rule(&profile.ranking.rule).expect("it exists");
    let challenge = Challenge::assemble(&profile, stages, rule);
    (challenge.slug.clone(), Arc::new(challenge))
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("it is copied");
        return;
    }
    fs::create_dir_all(to).expect("it is made");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

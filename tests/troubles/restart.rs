//! A start without the chain, and with another one.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waag::{
    actors::{
        Facts, Follower,
        snapshots::{self, Pinned},
    },
    chain::Client,
    clock::{Clock as _, SystemClock},
    ids::Digest,
    pipeline::{Challenges, Pipeline, points::Points},
    store::{Options, Store},
};

use super::{Node, account, connect, soon};

async fn pipeline(dir: &Path) -> Pipeline {
    let store = Store::open(dir, Options::default()).await.expect("a store");
    Pipeline::open(store, SystemClock::shared(), Challenges::new(), Points::default()).await.expect("a pipeline")
}

/// Follows until the facts are what is wanted.
async fn follow(client: Client, pipeline: &Pipeline, known: Option<Facts>, wanted: impl Fn(&Facts) -> bool) -> Facts {
    let (facts, mut seen) = watch::channel(known);
    let token = CancellationToken::new();
    let follower = Follower::new(client, 1, pipeline.clone(), facts).run(token.clone());
    let enough = async {
        let facts = seen.wait_for(|facts| facts.as_ref().is_some_and(&wanted)).await.expect("it follows").clone();
        token.cancel();
        facts.expect("it was looked at")
    };
    let ((), facts) = soon(async { tokio::join!(follower, enough) }).await;
    facts
}

#[tokio::test]
async fn what_was_known_is_there_at_once_and_confirmed_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::new(1).await;
    node.subnet().await;
    node.control("dev_register", json!([1, account("//Bob"), account("//Bob")])).await;
    node.blocks(5).await;
    let first = pipeline(dir.path()).await;
    let client = connect(&[node.url()]).await;
    let known = follow(client.clone(), &first, None, |facts| facts.finalized.number == 5).await;
    assert_eq!((known.metagraph.neurons.len(), known.stored_at_ms), (2, None));
    drop(first);

    // No chain is asked.
    let again = pipeline(dir.path()).await;
    let genesis = Digest(client.genesis_hash());
    assert_eq!(snapshots::restore(&again, 2, None).await.expect("read"), None);
    assert_eq!(snapshots::restore(&again, 1, Some(Digest([9; 32]))).await.expect("read"), None, "another chain's");
    let restored = snapshots::restore(&again, 1, Some(genesis)).await.expect("read").expect("it was stored");
    assert!(restored.stored_at_ms.is_some() && restored.catching_up, "nothing may be signed on it");
    let as_known = Facts { stored_at_ms: None, catching_up: known.catching_up, ..restored.clone() };
    assert_eq!(as_known, known);
    let doors = restored.for_doors(12_000, i64::MAX);
    assert!(doors.stored && doors.is_behind(0) && doors.registered.len() == 2, "shown, and no base for an upload");

    // The chain is there, without a new block: what was stored is confirmed at its own block.
    let confirmed = follow(client.clone(), &again, Some(restored.clone()), |facts| facts.stored_at_ms.is_none()).await;
    assert_eq!(confirmed, Facts { stored_at_ms: None, ..restored.clone() });

    // What the chain never said is thrown away.
    let mut forged = restored.clone();
    forged.metagraph.neurons[1].permit = true;
    node.blocks(1).await;
    let read = follow(client, &again, Some(forged), |facts| facts.stored_at_ms.is_none()).await;
    assert!(!read.metagraph.neurons[1].permit && read.finalized.number == 6, "{read:?}");
    node.end().await;
}

#[tokio::test]
async fn a_data_directory_is_pinned_to_the_first_chain_that_it_follows() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipeline = pipeline(dir.path()).await;
    assert_eq!(snapshots::pinned(&pipeline).await.expect("read"), None);
    let first = Pinned { genesis: Digest([1; 32]), netuid: 7 };
    snapshots::pin(&pipeline, first).await.expect("written");
    snapshots::pin(&pipeline, Pinned { genesis: Digest([2; 32]), netuid: 8 }).await.expect("written");
    assert_eq!(snapshots::pinned(&pipeline).await.expect("read"), Some(first));
}

/// The whole program: it shows what it knows while the chain is away, and refuses another chain.
#[tokio::test]
async fn an_appliance_shows_what_it_knew_and_takes_no_other_chain() {
    use crate::crash::appliance::{Place, Process};
    let dir = tempfile::tempdir().expect("a folder");
    let place = Place::new(dir.path(), 7, 60);
    place.write(&crate::crash::profile());
    let chain = place.start_devnet();
    let api = waag::server::client::Client::new(&place.api()).expect("an address");
    let until = async |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        let looks = async {
            loop {
                // A connection may be of the process before this one.
                if let Ok(status) = api.status().await {
                    let status = serde_json::to_value(status).expect("a document");
                    if wanted(&status) {
                        return status;
                    }
                }
                // Each look is a request, and an address has so many in a minute.
                SystemClock.sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(super::PATIENCE, looks).await.unwrap_or_else(|_late| panic!("never {what}"))
    };
    let process = Process::up(&place, None);
    let first = until("read", &|status| status["subnet"]["stored"] == false).await;
    assert_eq!(first["subnet"]["registered"], 1, "{first:#}");
    assert_eq!((&first["subnet"]["stored"], &first["chain_trouble"]), (&json!(false), &Value::Null));
    assert_eq!(process.stop(), Some(0));
    chain.process.kill();

    let process = Process::up(&place, None);
    let away = until("in trouble", &|status| !status["chain_trouble"].is_null()).await;
    assert_eq!((&away["subnet"]["stored"], &away["subnet"]["registered"]), (&json!(true), &json!(1)), "{away:#}");
    assert_eq!(away["subnet"]["genesis"], first["subnet"]["genesis"]);
    assert_eq!(away["chain_trouble"]["fault"]["code"], "chain_unreachable", "{away:#}");
    let said = String::from_utf8(place.run(&["status"]).stdout).expect("text");
    assert!(said.contains("chain_unreachable"), "{said}");
    let chain = place.start_devnet();
    let back = until("confirmed", &|status| status["subnet"]["stored"] == false).await;
    assert_eq!((&back["subnet"]["genesis"], &back["chain_trouble"]), (&first["subnet"]["genesis"], &Value::Null));
    assert_eq!(process.stop(), Some(0));
    chain.process.kill();

    // A chain that was made anew has a first block of its own.
    std::fs::remove_file(dir.path().join("dev.chain")).expect("it was there");
    let chain = place.start_devnet();
    let process = Process::up(&place, None);
    let other = until("refused", &|status| !status["chain_trouble"].is_null()).await;
    assert_eq!(other["chain_trouble"]["fault"]["code"], "chain_wrong_network", "{other:#}");
    assert_eq!(process.stop(), Some(0));
    let said = place.run(&["up", "--netuid", "8"]);
    let said: Value = serde_json::from_slice(&said.stdout).expect("a document");
    assert_eq!(said["error"]["code"], "appliance_other_chain");
    chain.process.kill();
}

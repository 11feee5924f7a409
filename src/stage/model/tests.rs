use std::sync::Arc;

use super::{Prints, neighbours::Neighbours, prints::Printed};
use crate::{
    clock::SystemClock,
    dedup::{
        generate::{disguise::Disguise, rng::Rng, synthetic},
        model::Key,
    },
    ids::{Digest, Hotkey, Priority, SubmissionId},
    stage::Peer,
    store::{Options, Store},
};

fn peer(at: u8, artifact: Digest) -> Peer {
    Peer {
        submission: SubmissionId(i64::from(at)),
        hotkey: Hotkey([at; 32]),
        coldkey: Hotkey([at; 32]),
        field: String::new(),
        artifact,
        priority: Priority { block: u64::from(at), index: 0 },
    }
}

#[tokio::test]
async fn of_many_peers_the_victim_is_among_the_nearest() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(dir.path(), Options::default()).await.expect("it opens");
    let key = Key::new([7; 32]);
    let prints = Prints::new(store, SystemClock::shared(), key.clone());
    let base = synthetic::base(4, 1);
    let honest = synthetic::honest(&base);
    let mut peers = Vec::new();
    for (at, (name, model)) in (1..).zip(&honest) {
        let print = model.fingerprint(&key).expect("it is finite");
        let artifact = Digest::of(name.as_bytes());
        let printed = Printed { artifact, reference: name, challenge: "c", weights_bytes: 1 };
        prints.keep(printed, &print).await.expect("it is kept");
        peers.push(peer(at, artifact));
    }
    // One that was made under another key, or is gone.
    peers.push(peer(200, Digest([9; 32])));
    let base_print = Arc::new(base.fingerprint(&key).expect("it is finite"));
    let neighbours = Neighbours::default();
    for (victim, disguise) in [(0, Disguise::Relative(1e-3)), (3, Disguise::Dummy), (7, Disguise::Int8Rows)] {
        let copy = disguise.apply(&honest[victim].1, &base, &honest[11].1, &mut Rng::new(5));
        let own = Arc::new(copy.fingerprint(&key).expect("it is finite"));
        let found = neighbours.nearest(&prints, &peers, &own, &base_print, 3).await.expect("they can be read");
        assert_eq!((found.0.len(), found.1), (3, 1));
        assert!(found.0.iter().any(|peer| peer.artifact == peers[victim].artifact), "{disguise:?}");
        assert!(found.0.windows(2).all(|pair| pair[0].priority < pair[1].priority), "the elders come first");
    }
    assert!(Neighbours::room(&base_print) > 1000, "small models are all looked at");
}

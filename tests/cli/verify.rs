//! `waag verify` on bundles of files.

use std::fs;

use waag::{
    config::profile::embedded,
    ids::{Digest, Hotkey},
    weights::{
        Limits, Vector,
        bundle::{Bundle, Evidence, FORMAT, Program, Registration, Snapshot},
    },
};

use super::{folder, run};

/// A subnet of two, whose challenge has not been ranked: everything burns to uid 1.
fn bundle() -> Bundle {
    let neuron = |uid: u16| Registration {
        uid,
        hotkey: Hotkey([u8::try_from(uid).expect("small"); 32]),
        since_block: 1,
        eligible: true,
    };
    Bundle {
        format: FORMAT.to_owned(),
        program: Program { version: "0".to_owned(), libc: "none".to_owned() },
        genesis: Digest([7; 32]),
        netuid: 3,
        snapshot: Snapshot { block: 9, hash: Digest([9; 32]), neurons: vec![neuron(0), neuron(1)] },
        challenges: vec![Evidence {
            challenge: "quickstart".to_owned(),
            share: 1.0,
            profile: embedded("quickstart").expect("it is embedded").to_owned(),
            ranked: None,
        }],
        burn_uid: 1,
        limits: Limits { n: 2, min_allowed: 1, max_limit: u16::MAX, version_key: 0 },
        vector: Some(Vector { uids: vec![1], values: vec![u16::MAX] }),
        hashes: std::collections::BTreeMap::new(),
    }
    .sealed()
}

#[test]
fn an_honest_bundle_passes_and_an_altered_one_does_not() {
    let dir = folder();
    let write = |bundle: &Bundle| {
        fs::write(dir.path().join("b.json"), serde_json::to_vec(bundle).expect("JSON")).expect("written")
    };
    write(&bundle());
    let said = run(dir.path(), &["verify", "b.json", "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stdout);
    let found = said.json();
    assert_eq!((&found["verified"], &found["failed"]), (&true.into(), &0.into()));
    assert!(found["not_checked"].as_u64().expect("a number") > 0, "the chain was not asked, and that is said");
    assert_eq!(found["bundle"], bundle().digest().to_string());

    // The hashes are made anew: the difference is in what follows from the inputs.
    let altered = Bundle { vector: Some(Vector { uids: vec![0], values: vec![u16::MAX] }), ..bundle() }.sealed();
    write(&altered);
    let said = run(dir.path(), &["verify", "b.json", "--json"]);
    assert_eq!((said.exit, &said.json()["verified"]), (1, &false.into()));
    let words = run(dir.path(), &["verify", "b.json"]);
    assert!(words.stdout.contains("FAIL  ") && words.stderr.contains("mismatch"), "{words:?}");
}

#[test]
fn what_is_no_bundle_cannot_be_used() {
    let dir = folder();
    for text in ["", "{}", "[1]"] {
        fs::write(dir.path().join("b.json"), text).expect("written");
        let said = run(dir.path(), &["verify", "b.json", "--json"]);
        assert_eq!((said.exit, said.json()["error"]["code"].as_str()), (2, Some("evidence_unreadable")));
    }
    assert_eq!(run(dir.path(), &["verify", "b.json", "--replay"]).exit, 2, "it needs the artifacts");
}

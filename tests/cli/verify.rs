//! `waag verify` on bundles of files, made here and made by a real run.

use std::{fs, path::Path};

use serde_json::Value;
use waag::{
    config::profile::embedded,
    ids::{Digest, Hotkey},
    weights::{
        Limits, Vector,
        bundle::{Bundle, Evidence, FORMAT, Program, Registration, Snapshot},
    },
};

use super::{Said, devnet::Devnet, folder, run, world::world};

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
    let bytes = fs::read(dir.path().join("b.json")).expect("it is there");
    assert_eq!(found["bundle"], Digest::of(&bytes).to_string());

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

/// What is done to a bundle.
type Change = fn(&mut Value);

/// The evidence of a real run, with something changed; sealed anew when asked for, as a forger would.
fn forged(dir: &Path, sealed: bool, change: Change) -> String {
    let mut bundle: Value =
        serde_json::from_slice(&fs::read(world().evidence()).expect("the evidence is there")).expect("JSON");
    let before = bundle.clone();
    change(&mut bundle);
    assert_ne!(bundle, before, "nothing was changed");
    let bytes = serde_json::to_vec(&bundle).expect("JSON");
    let bytes = if sealed {
        let bundle = Bundle::parse(&bytes).expect("it is still a bundle").sealed();
        serde_json::to_vec(&bundle).expect("JSON")
    } else {
        bytes
    };
    let path = dir.join("forged.json");
    fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

/// The line of a report about this subject.
fn line(said: &Said, subject: &str) -> (String, String) {
    let checks = said.json()["checks"].as_array().expect("a list").clone();
    let found = checks.iter().find(|check| check["subject"].as_str().expect("text").starts_with(subject));
    let found = found.unwrap_or_else(|| panic!("nothing about {subject} in {}", said.stdout));
    let text = |key: &str| found[key].as_str().expect("text").to_owned();
    (text("finding"), text("detail"))
}

fn paid_uid() -> u64 {
    world().member("later")["uid"].as_u64().expect("it is registered")
}

fn flip_an_outcome(bundle: &mut Value) {
    let entries = bundle["challenges"][0]["ranked"]["input"]["entries"].as_array_mut().expect("a list");
    let later = &world().member("later")["submission"];
    let entry = entries.iter_mut().find(|entry| entry["submission"] == *later).expect("it took part");
    let successes = &mut entry["evidence"]["rollouts"]["environments"]["CartPole-v1"]["successes"];
    let (count, bits) = successes.as_str().and_then(|text| text.split_once(':')).expect("a list of outcomes");
    let first = u8::from_str_radix(&bits[..2], 16).expect("hex") ^ 0x80;
    *successes = format!("{count}:{first:02x}{}", &bits[2..]).into();
}

fn change_a_weight(bundle: &mut Value) {
    let at = bundle["vector"]["uids"].as_array().expect("a list").iter().position(|uid| *uid == paid_uid());
    let weight = &mut bundle["vector"]["values"][at.expect("it is paid")];
    *weight = (weight.as_u64().expect("a number") - 1).into();
}

fn change_the_seed(bundle: &mut Value) {
    bundle["challenges"][0]["ranked"]["run"]["seed"]["hash"] = Digest([7; 32]).to_string().into();
}

fn change_the_metagraph(bundle: &mut Value) {
    let neurons = bundle["snapshot"]["neurons"].as_array_mut().expect("a list");
    let row = neurons.iter_mut().find(|neuron| neuron["uid"] == paid_uid()).expect("it is registered");
    row["hotkey"] = Hotkey([7; 32]).to_string().into();
}

fn change_the_profile(bundle: &mut Value) {
    let profile = &mut bundle["challenges"][0]["profile"];
    *profile = profile.as_str().expect("text").replace("alpha = 0.01", "alpha = 0.02").into();
}

#[test]
fn the_evidence_of_a_real_run_follows_from_its_inputs() {
    let (world, dir) = (world(), folder());
    let said = run(dir.path(), &["verify", world.evidence(), "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stdout);
    let found = said.json();
    assert_eq!((&found["verified"], &found["bundle"]), (&true.into(), &world.evidence_digest().into()));
    for subject in ["hashes", "quickstart: options", "quickstart: run", "quickstart: ranking", "weights"] {
        assert_eq!(line(&said, subject).0, "passed", "{subject}");
    }
    for subject in ["episodes", "chain"] {
        assert_eq!(line(&said, subject).0, "not_checked", "{subject}");
    }
    let words = run(dir.path(), &["verify", world.evidence()]);
    assert_eq!((words.exit, words.stderr.as_str()), (0, ""));
    let open: Vec<&str> = words.stdout.lines().filter_map(|line| line.strip_prefix("open  ")).collect();
    let told = ["quickstart: previous ranking", "quickstart: eligibility", "is accused", "episodes", "chain"];
    assert!(open.iter().all(|line| told.iter().any(|subject| line.contains(subject))), "{open:?}");
    assert!(words.stdout.ends_with(&format!("0 failed, {} not checked\n", open.len())), "{}", words.stdout);
}

#[test]
fn every_episode_of_a_real_run_can_be_played_again() {
    let (world, dir) = (world(), folder());
    let data = world.data().display().to_string();
    let said = run(dir.path(), &["verify", world.evidence(), "--replay", "--artifacts", &data, "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stdout);
    let checks = said.json()["checks"].as_array().expect("a list").clone();
    let played: Vec<&Value> =
        checks.iter().filter(|check| check["detail"].as_str().is_some_and(|it| it.contains("as recorded ("))).collect();
    // Three generalists in five environments each, the specialist in two.
    assert_eq!(played.len(), 17, "{}", said.stdout);
    assert!(played.iter().all(|check| check["finding"] == "passed"));
    assert!(!checks.iter().any(|check| check["subject"] == "episodes"), "nothing of them is left open");

    let nothing = run(dir.path(), &["verify", world.evidence(), "--replay", "--artifacts", ".", "--json"]);
    assert_eq!(nothing.exit, 0, "what is not there is no difference");
    let found = nothing.json();
    let missing = found["checks"].as_array().expect("a list").iter().filter(|check| {
        check["finding"] == "not_checked" && check["detail"].as_str().is_some_and(|it| it.ends_with("is not there"))
    });
    assert_eq!(missing.count(), 17, "{}", nothing.stdout);
}

#[test]
fn a_chain_confirms_a_real_run_and_no_other() {
    let (world, dir) = (world(), folder());
    let said = &world.confirmed;
    assert_eq!(said.exit, 0, "{}", said.stdout);
    for subject in ["genesis", "block ", "limits", "commitment of ", "registrations", "weights"] {
        assert_eq!(line(said, &format!("chain {subject}")).0, "passed", "{subject}");
    }
    let open: Vec<Value> = said.json()["checks"].as_array().expect("a list").clone();
    let open = open.iter().filter(|check| check["finding"] == "not_checked").map(|check| check["subject"].as_str());
    let trusted = ["quickstart: previous ranking", "quickstart: eligibility", "episodes"];
    assert!(
        open.flatten().all(|subject| trusted.contains(&subject) || subject.ends_with("is accused")),
        "{}",
        said.stdout
    );

    // Every devnet begins with the same block, and nobody has set weights on this one.
    let other = Devnet::start(dir.path(), &["--block-ms", "50", "--netuid", "7"]);
    let said = run(dir.path(), &["verify", world.evidence(), "--chain", &other.url, "--json"]);
    let none = ("failed".to_owned(), "no validator has set any weights since the snapshot".to_owned());
    assert_eq!((said.exit, line(&said, "chain weights")), (1, none));
}

#[test]
fn a_changed_bundle_is_told_by_the_part_that_was_changed() {
    let dir = folder();
    let changes: [(Change, &str); 5] = [
        (change_a_weight, "vector"),
        (flip_an_outcome, "quickstart/input"),
        (change_the_seed, "quickstart/run"),
        (change_the_metagraph, "snapshot"),
        (change_the_profile, "quickstart/profile"),
    ];
    for (change, part) in changes {
        let forged = forged(dir.path(), false, change);
        let said = run(dir.path(), &["verify", &forged, "--json"]);
        assert_eq!((said.exit, &said.json()["verified"]), (1, &false.into()), "{part}");
        assert_eq!(line(&said, "hashes"), ("failed".to_owned(), format!("differ: all, {part}")));
        let words = run(dir.path(), &["verify", &forged]);
        assert!(words.stdout.contains(&format!("FAIL  hashes: differ: all, {part}\n")), "{}", words.stdout);
        assert!(words.exit == 1 && words.stderr.contains("code: mismatch"), "{}", words.stderr);
    }
}

#[test]
fn a_forger_who_makes_the_hashes_anew_is_told_by_what_follows() {
    let (world, dir) = (world(), folder());
    let changes: [(Change, &str, &str); 4] = [
        (change_a_weight, "weights", " is recorded"),
        (flip_an_outcome, "quickstart: ranking", "are not"),
        (change_the_metagraph, "weights", " is recorded"),
        (change_the_profile, "quickstart: options", "the rule's options are not the profile's"),
    ];
    for (change, subject, detail) in changes {
        let said = run(dir.path(), &["verify", &forged(dir.path(), true, change), "--json"]);
        assert_eq!((said.exit, line(&said, "hashes").0), (1, "passed".to_owned()), "{subject}");
        let found = line(&said, subject);
        assert!(found.0 == "failed" && found.1.contains(detail), "{subject}: {found:?}");
    }
    let weights = run(dir.path(), &["verify", &forged(dir.path(), true, change_a_weight), "--json"]);
    assert!(line(&weights, "weights").1.starts_with(&format!("uid {} has ", paid_uid())), "{}", weights.stdout);

    // Nothing in the bundle follows from the seed alone: the episodes do, and the chain knows it.
    let forged = forged(dir.path(), true, change_the_seed);
    let offline = run(dir.path(), &["verify", &forged, "--json"]);
    assert_eq!(offline.exit, 0, "{}", offline.stdout);
    let data = world.data().display().to_string();
    let said = run(dir.path(), &["verify", &forged, "--replay", "--artifacts", &data, "--json"]);
    assert_eq!(said.exit, 1, "{}", said.stdout);
    assert!(said.stdout.contains("episodes are solved here and not as recorded"), "{}", said.stdout);
    let said = run(dir.path(), &["verify", &forged, "--chain", world.chain(), "--json"]);
    assert_eq!(said.exit, 1, "{}", said.stdout);
    assert!(said.stdout.contains(&format!("recorded is {}", Digest([7; 32]))), "{}", said.stdout);
}

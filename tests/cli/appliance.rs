//! The verbs that look at a running appliance, and a miner that joins one.

use std::path::Path;

use serde_json::Value;

use super::{Said, folder, world::world};

const CAST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cast");
/// Looks at a submission before the test gives up: each starts a process, and a run takes some seconds.
const LOOKS_MAX: u32 = 3_000;

fn ok(said: Said) -> Said {
    assert_eq!((said.exit, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    said
}

#[test]
fn every_list_verb_shows_it_as_one_document_and_in_words() {
    let (world, dir) = (world(), folder());
    let hotkey = world.member("later")["hotkey"].as_str().expect("an address").to_owned();
    let why = world.member("later")["submission"].as_str().expect("an id").to_owned();
    let verbs: [(&[&str], &str, &str); 5] = [
        (&["status"], "/status/challenges/0/slug", "challenge quickstart: "),
        (&["status", "--all"], "/submissions/10/id", "artifact_missing"),
        (&["status", "--of", &hotkey], "/submissions/0/status", "ranked"),
        (&["why", &why], "/place/results/CartPole-v1/episodes", "CartPole-v1: "),
        (&["verify", world.evidence_digest()], "/bundle", "0 failed"),
    ];
    for (args, pointer, words) in verbs {
        let said = ok(world.ask(dir.path(), &[args, &["--json"]].concat()));
        assert!(said.json().pointer(pointer).is_some(), "{args:?} has no {pointer} in {}", said.stdout);
        let said = ok(world.ask(dir.path(), args));
        assert!(said.stdout.contains(words), "`{words}` is missing in {}", said.stdout);
    }
    let missing = world.ask(dir.path(), &["why", "s999", "--json"]);
    assert_eq!((missing.exit, missing.json()["error"]["code"].as_str()), (3, Some("not_found")));
}

#[test]
fn a_story_says_what_was_measured_and_why_it_ended() {
    let (world, dir) = (world(), folder());
    let words = |name: &str| {
        let id = world.member(name)["submission"].as_str().expect("an id");
        ok(world.ask(dir.path(), &["why", id])).stdout
    };
    let later = words("later");
    for part in ["in challenge quickstart", "committed in block ", "verdicts:", " is in the ranking and paid"] {
        assert!(later.contains(part), "`{part}` is missing in {later}");
    }
    for environment in ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"] {
        let lines: Vec<&str> = later.lines().filter(|line| line.contains(&format!("{environment}: "))).collect();
        assert!(lines.iter().any(|line| line.contains(" of 160 episodes solved")), "{environment}: {lines:?}");
        assert!(lines.iter().any(|line| line.contains(" % of 160 episodes, ")), "{environment}: {lines:?}");
    }
    let whisper = words("whisper");
    assert!(whisper.contains("near_copy (the miner's)") && whisper.contains("was rejected"), "{whisper}");
}

#[test]
fn the_doctor_looks_at_the_database_of_a_running_appliance() {
    let (world, dir) = (world(), folder());
    let data = world.data().display().to_string();
    let said = world.ask(dir.path(), &["doctor", "--data-dir", &data, "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stdout);
    let lines = said.json()["checks"].as_array().expect("a list").clone();
    let found = |what: &str| lines.iter().find(|line| line["what"] == what).expect("it was looked at").clone();
    assert_eq!(found("database")["health"], "ok");
    let words = found("database")["found"].as_str().expect("text").to_owned();
    let events = words.strip_prefix("sound; ").and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
    assert!(events.is_some_and(|events: u64| events > 100), "{words}");
}

fn pack(dir: &Path, out: &str, file: &str) {
    let pair = format!("{}={CAST}/{file}", file.rsplit('/').next().expect("a name").trim_end_matches(".onnx"));
    ok(super::run(dir, &["pack", "--out", out, "--json", &pair]));
}

#[test]
fn a_miner_registers_publishes_once_and_reads_its_story() {
    let (world, dir) = (world(), folder());
    let ask = |args: &[&str]| ok(world.ask(dir.path(), &[args, &["--json"]].concat())).json();
    ask(&["register", "--create", "--yes"]);
    pack(dir.path(), "first.tar", "mediocre/CartPole-v1.onnx");
    pack(dir.path(), "second.tar", "mediocre/Pendulum-v1.onnx");
    // The first is committed and never sent: while it waits, the second is committed in its place and published.
    ask(&["commit", "first.tar"]);
    let published = ask(&["publish", "second.tar"]);
    assert_eq!(published["again"], false);
    let again = ask(&["publish", "second.tar"]);
    assert_eq!((&again["again"], &again["submission"]), (&Value::Bool(true), &published["submission"]));
    let id = published["submission"].as_str().expect("an id");

    let mine = ask(&["status"]);
    let mine = mine["submissions"].as_array().expect("a list");
    assert!(mine.iter().any(|one| one["id"] == id && one["artifact"] == published["artifact"]), "{mine:?}");
    let mut looks = 0;
    let story = loop {
        let story = ask(&["why", id]);
        let status = story["submission"]["status"].as_str().expect("a status");
        if ["ranked", "lost", "rejected", "failed"].contains(&status) {
            break story;
        }
        looks += 1;
        assert!(looks < LOOKS_MAX, "it never ends: {story:#}");
    };
    // Those are the weights of another's policy.
    assert_eq!(story["submission"]["status"], "rejected", "{story:#}");
    let code = story["submission"]["fault"]["code"].as_str().expect("a code");
    let words = ok(world.ask(dir.path(), &["why", id])).stdout;
    assert!(words.contains(&format!("{code} (the miner's)")) && words.contains("hint: "), "{words}");

    // The commitment that gave way takes nothing any more, and nobody is kept waiting for it.
    let refused = world.ask(dir.path(), &["publish", "first.tar", "--skip-commit", "--json"]);
    assert_eq!((refused.exit, refused.json()["error"]["code"].as_str()), (3, Some("submission_closed")));
}

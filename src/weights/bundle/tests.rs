use serde_json::{Value, json};

use super::*;
use crate::{
    ids::Priority,
    score::{Entry, Rule as _, subsets::Subsets},
};

const PROFILE: &str = r#"
format = 1
slug = "gym-small"
title = "a test"
share = 0.75
[intake]
door = "commitment"
reveal_within_blocks = 30
[run]
opens = "blocks"
seed_delay_blocks = 3
[[stage]]
name = "rollouts"
kind = "rollouts"
options = { backend = "embedded" }
[ranking]
rule = "subsets"
options = { alpha = 0.02 }
"#;

fn genesis() -> Digest {
    Digest([0x11; 32])
}

/// A contestant with priority `10 * id`; the third uploads late.
fn contestant(id: u8, run: u64, solved: &str) -> (Entry, Claim) {
    let (hotkey, artifact, salt) = (Hotkey([id; 32]), Digest([id + 100; 32]), Digest([id + 200; 32]));
    let committed = Priority { block: u64::from(id) * 10, index: 4 };
    let upload_block = if id == 3 { 80 } else { committed.block + 5 };
    let priority = if id == 3 { Priority { block: 80, index: u32::MAX } } else { committed };
    let sealed = sealed_hash(&genesis(), 7, "gym-small", &hotkey, &artifact, &salt);
    let evidence = json!({ "run": run, "environments": {
        "A-v0": { "successes": solved, "mean_return": 1.5, "records": null } } });
    let submission = SubmissionId(id.into());
    let entry = Entry {
        submission,
        hotkey,
        artifact,
        priority,
        eligible: true,
        fault: None,
        evidence: [("rollouts".to_owned(), evidence)].into(),
    };
    let ledger = LedgerRow { committed, text: format!("waag1:gym-small:{sealed}"), salt, upload_block };
    (entry, Claim { submission, ledger: Some(ledger) })
}

fn contestants(run: u64) -> (Vec<Entry>, Vec<Claim>) {
    // 8, 24 and 32 of 40 episodes.
    [(1, "40:ff00000000"), (2, "40:ffffff0000"), (3, "40:ffffffff00")]
        .into_iter()
        .map(|(id, solved)| contestant(id, run, solved))
        .unzip()
}

fn sample() -> Bundle {
    let input = |run, previous| Input {
        challenge: "gym-small".to_owned(),
        run,
        options: json!({ "alpha": 0.02 }),
        previous,
        entries: contestants(run).0,
        reports: Vec::new(),
        decisions: Vec::new(),
        block: 200,
    };
    let first = Subsets.rank(&input(1, None));
    let input = input(2, Some(first));
    let ranking = Subsets.rank(&input);
    let neurons = (0..6_u8)
        .map(|uid| Registration { uid: uid.into(), hotkey: Hotkey([uid; 32]), since_block: 1, eligible: true })
        .collect();
    let run = RunEvidence {
        number: 2,
        closing_block: 190,
        seed: Some(SeedBlock { block: 193, hash: Digest([9; 32]) }),
        backend: Some(Backend { name: "embedded".to_owned(), version: "0.5".to_owned() }),
    };
    let ranked = Ranked { profile: None, run: Some(run), contestants: contestants(2).1, input, ranking };
    let evidence =
        Evidence { challenge: "gym-small".to_owned(), share: 0.75, profile: PROFILE.to_owned(), ranked: Some(ranked) };
    Bundle {
        format: FORMAT.to_owned(),
        program: Program { version: "0.1.0".to_owned(), libc: "glibc 2.36".to_owned() },
        genesis: genesis(),
        netuid: 7,
        snapshot: Snapshot { block: 200, hash: Digest([8; 32]), neurons },
        challenges: vec![evidence],
        burn_uid: 0,
        limits: Limits { n: 6, min_allowed: 4, max_limit: u16::MAX, version_key: 0 },
        vector: Some(Vector { uids: vec![0, 1, 2, 3], values: vec![21845, 0, 0, 65535] }),
        hashes: BTreeMap::new(),
    }
    .sealed()
}

fn failures(report: &Report) -> Vec<String> {
    let failed = report.checks.iter().filter(|check| check.finding == Finding::Failed);
    failed.map(|check| format!("{}: {}", check.subject, check.detail)).collect()
}

/// The JSON pointers of all leaves.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                leaves(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                leaves(inner, &format!("{at}/{index}"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

/// Another value of the same kind, and as far as possible of the same form.
fn changed(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => json!(if whole > 0 { whole - 1 } else { 1 }),
            None => json!(number.as_f64().map_or(0.25, |float| if float > 0.0 { float / 2.0 } else { 0.25 })),
        },
        Value::String(text) => {
            if let Ok(hotkey) = text.parse::<Hotkey>() {
                let mut bytes = hotkey.0;
                bytes[31] ^= 1;
                return json!(Hotkey(bytes));
            }
            let flip = |last: char| if last == '0' { '1' } else { '0' };
            let mut letters: Vec<char> = text.chars().collect();
            let last = letters.pop();
            letters.push(last.map_or('x', flip));
            json!(letters.into_iter().collect::<String>())
        }
        Value::Null => json!("x"),
        Value::Array(_) | Value::Object(_) => panic!("a leaf is a scalar"),
    }
}

/// Flips the leaf; `None` when the document is then no bundle.
fn tampered(bundle: &Value, pointer: &str) -> Option<Bundle> {
    let mut document = bundle.clone();
    let leaf = document.pointer_mut(pointer).expect("a leaf of this document");
    *leaf = changed(leaf);
    Bundle::parse(&serde_json::to_vec(&document).unwrap()).ok()
}

#[test]
fn an_honest_bundle_passes_and_says_what_it_leaves_open() {
    let bundle = sample();
    let text = serde_json::to_vec_pretty(&bundle).unwrap();
    let read = Bundle::parse(&text).unwrap();
    assert_eq!(read, bundle);
    let report = verify(&read);
    assert_eq!(failures(&report), Vec::<String>::new());
    assert!(report.is_passed());
    let open: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| check.finding == Finding::NotChecked)
        .map(|check| check.subject.as_str())
        .collect();
    assert_eq!(open, ["gym-small: previous ranking"]);
    assert_eq!(report.replays.len(), 3);
    assert_eq!((report.replays[2].run, report.replays[2].successes.count()), (2, 32));
    assert_eq!(report.replays[0].seed.unwrap().block, 193);
    let backend = report.checks.iter().find(|check| check.subject == "gym-small: backend").unwrap();
    assert_eq!((backend.finding, backend.detail.as_str()), (Finding::Passed, "embedded 0.5, on glibc 2.36"));
    // Genesis, two block hashes, limits, six registrations, three commitments, the weights.
    assert_eq!(report.chain_facts.len(), 14);
}

/// Computed independently, in Python, from the documented parts.
#[test]
fn the_sealed_hash_is_the_documented_one() {
    let hotkey: Hotkey = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty".parse().unwrap();
    let hash = sealed_hash(&genesis(), 7, "gym-small", &hotkey, &Digest([0x22; 32]), &Digest([0x33; 32]));
    assert_eq!(hash.to_string(), "0871638434028df0bd7214253503f470d93fa37956990d4cdc631dc55685c1fe");
}

#[test]
fn any_changed_field_is_noticed_by_its_hash() {
    let bundle = serde_json::to_value(sample()).unwrap();
    let mut pointers = Vec::new();
    leaves(&bundle, "", &mut pointers);
    assert!(pointers.len() > 150, "{}", pointers.len());
    for pointer in pointers {
        if let Some(changed) = tampered(&bundle, &pointer) {
            assert!(!verify(&changed).is_passed(), "{pointer}");
        }
    }
}

#[test]
fn whoever_makes_the_hashes_anew_is_noticed_by_the_recomputation() {
    let bundle = serde_json::to_value(sample()).unwrap();
    let mut pointers = Vec::new();
    leaves(&bundle, "", &mut pointers);
    // What pays nobody, and what only a replay or a chain can tell. Each is in the report's lists or taken as given.
    let beyond = [
        "/program/",
        "/snapshot/block",
        "/snapshot/hash",
        "/since_block",
        "/limits/version_key",
        "/limits/n",
        "/limits/max_limit",
        "/limits/min_allowed",
        "/run/seed/hash",
        "/run/backend/version",
        "/input/block",
        "/previous/",
        "/mean_return",
        "/records",
        "/successes",
        "/upload_block",
        // The third uploaded late, so that its commitment's block decides nothing.
        "/contestants/2/ledger/committed",
        "/hashes/",
    ];
    for pointer in pointers {
        let Some(changed) = tampered(&bundle, &pointer) else { continue };
        let is_beyond = beyond.iter().any(|part| pointer.contains(part));
        // The hotkey of somebody who is paid nothing decides nothing about the vector.
        let is_unpaid_neuron = pointer.contains("/snapshot/neurons/") && !pointer.contains("/neurons/3/");
        // Of the profile, this flips the last byte, a line end after all keys.
        let is_profile = pointer.ends_with("/profile");
        if !is_beyond && !is_unpaid_neuron && !is_profile {
            assert!(!verify(&changed.sealed()).is_passed(), "{pointer}");
        }
    }
}

#[test]
fn tampering_by_hand_is_named() {
    let expect = |words: &str, change: &dyn Fn(&mut Bundle)| {
        let mut bundle = sample();
        change(&mut bundle);
        let failed = failures(&verify(&bundle.sealed()));
        assert!(failed.iter().any(|line| line.contains(words)), "{words}: {failed:?}");
    };
    fn ranked(bundle: &mut Bundle) -> &mut Ranked {
        bundle.challenges[0].ranked.as_mut().unwrap()
    }
    expect("uid 3 has 65535, and 65534 is recorded", &|bundle| bundle.vector.as_mut().unwrap().values[3] -= 1);
    expect("there is a vector, and none is recorded", &|bundle| bundle.vector = None);
    expect("has share 0.75, and 0.8 was used", &|bundle| bundle.challenges[0].share = 0.8);
    expect("the rule's options are not the profile's", &|bundle| {
        ranked(bundle).input.options = json!({ "alpha": 0.4 });
    });
    expect("do not open the commitment", &|bundle| ranked(bundle).input.entries[0].artifact = Digest([1; 32]));
    expect("has priority 80/4294967295, its ledger row 30/4", &|bundle| {
        ranked(bundle).contestants[2].ledger.as_mut().unwrap().upload_block = 60;
    });
    expect("marked eligible: true, which the snapshot contradicts", &|bundle| {
        bundle.snapshot.neurons[2].since_block = 21;
    });
    expect("seeds come from block 194", &|bundle| {
        ranked(bundle).run.as_mut().unwrap().seed.as_mut().unwrap().block = 194;
    });
    expect("has no seed", &|bundle| ranked(bundle).run.as_mut().unwrap().seed = None);
    expect("names `embedded`, and `other` is recorded", &|bundle| {
        ranked(bundle).run.as_mut().unwrap().backend.as_mut().unwrap().name = "other".to_owned();
    });
    expect("names `embedded`, and none is recorded", &|bundle| ranked(bundle).run.as_mut().unwrap().backend = None);
    expect("run 3, and run 2 was ranked", &|bundle| ranked(bundle).run.as_mut().unwrap().number = 3);
    expect("are not one for each entry", &|bundle| drop(ranked(bundle).contestants.pop()));
    expect("this program has no rule `other`", &|bundle| {
        bundle.challenges[0].profile = PROFILE.replace("\"subsets\"", "\"other\"");
    });
    // An entry that vanished together with its claim changes the ranking.
    expect("gives", &|bundle| {
        ranked(bundle).input.entries.pop();
        ranked(bundle).contestants.pop();
    });
    // Without the ranking before, no win is a second one.
    expect("gives", &|bundle| ranked(bundle).input.previous = None);
    expect("burn uid 9 is not registered", &|bundle| bundle.burn_uid = 9);
}

#[test]
fn who_was_registered_anew_since_committing_is_paid_nothing() {
    let mut bundle = sample();
    assert!(bundle.weights().unwrap().iter().any(|(uid, _)| *uid == 3));
    // Ranked, then deregistered, then the same hotkey again: the ranking still names it.
    bundle.snapshot.block = 260;
    bundle.snapshot.neurons[3].since_block = 31;
    assert_eq!(bundle.weights().unwrap(), [(0, 1.0)], "its share burns");
    bundle.snapshot.neurons[3].since_block = 30;
    assert!(bundle.weights().unwrap().iter().any(|(uid, _)| *uid == 3), "committed in the block of its registration");
}

#[test]
fn a_ranking_from_before_the_profile_changed_is_checked_by_its_own() {
    let mut bundle = sample();
    bundle.challenges[0].profile = PROFILE.replace("0.02", "0.4").replace("0.75", "0.5");
    bundle.challenges[0].share = 0.5;
    let other_options = failures(&verify(&bundle.clone().sealed()));
    assert!(other_options.iter().any(|line| line.contains("options are not the profile's")), "{other_options:?}");
    bundle.challenges[0].ranked.as_mut().unwrap().profile = Some(PROFILE.to_owned());
    let shares = bundle.weights().unwrap();
    bundle.vector = Some(crate::weights::quantise(&shares, &bundle.limits, bundle.burn_uid).unwrap());
    let sealed = bundle.sealed();
    assert!(sealed.hashes.contains_key("gym-small/ranking profile"));
    assert_eq!(failures(&verify(&sealed)), Vec::<String>::new());
}

#[test]
fn what_is_taken_on_trust_is_said() {
    let mut bundle = sample();
    bundle.snapshot.block = 201;
    let ranked = bundle.challenges[0].ranked.as_mut().unwrap();
    ranked.input.entries[0].eligible = false;
    ranked.input.entries[0].fault = Some(super::EVIDENCE_UNREADABLE.because("a copy of s9"));
    let report = verify(&bundle.sealed());
    let open: Vec<&Check> = report.checks.iter().filter(|check| check.finding == Finding::NotChecked).collect();
    let says = |subject: &str, detail: &str| {
        open.iter().any(|check| check.subject.contains(subject) && check.detail.contains(detail))
    };
    assert!(says("eligibility", "not eligible: s1") && says("s1 is accused", "a copy of s9"), "{open:?}");
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let mut bundle = sample();
    assert_eq!(Bundle::parse(&bundle.to_bytes().unwrap()).unwrap(), bundle);
    bundle.challenges = vec![bundle.challenges[0].clone(); CHALLENGES_MAX + 1];
    assert!(matches!(bundle.to_bytes(), Err(Error::Many { what: "challenges", .. })));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let good = serde_json::to_value(sample()).unwrap();
    let parse = |document: &Value| Bundle::parse(&serde_json::to_vec(document).unwrap());
    let mut newer = good.clone();
    newer["format"] = json!("waag-evidence-2");
    assert!(matches!(parse(&newer), Err(Error::Format(_))));
    let mut extra = good.clone();
    extra["more"] = json!(1);
    assert!(matches!(parse(&extra), Err(Error::Form(_))));
    assert!(matches!(Bundle::parse(b"{"), Err(Error::Form(_))));
    let fault = Bundle::parse(b"{").unwrap_err().fault();
    assert!(fault.code == "evidence_unreadable" && fault.detail.contains("EOF"), "{fault:?}");
}

#[test]
fn limits_hold_at_their_edges() {
    let with = |challenges: usize, commitment: usize| {
        let mut bundle = sample();
        let row = bundle.challenges[0].ranked.as_mut().unwrap().contestants[0].ledger.as_mut().unwrap();
        row.text = "x".repeat(commitment);
        bundle.challenges = vec![bundle.challenges[0].clone(); challenges];
        Bundle::parse(&serde_json::to_vec(&bundle).unwrap())
    };
    assert!(with(CHALLENGES_MAX, COMMITMENT_BYTES).is_ok());
    assert!(matches!(with(CHALLENGES_MAX + 1, 1), Err(Error::Many { what: "challenges", .. })));
    assert!(matches!(with(1, COMMITMENT_BYTES + 1), Err(Error::Many { what: "bytes of commitment", .. })));
    let spaces = vec![b' '; usize::try_from(BUNDLE_BYTES).unwrap() + 1];
    assert!(matches!(Bundle::parse(&spaces), Err(Error::Large { .. })));
    assert!(matches!(Bundle::parse(&spaces[1..]), Err(Error::Form(_))));
}

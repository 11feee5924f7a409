//! Help: every verb's text, the exit codes, the codes of failures.

use std::{env, fs, path::Path};

use super::{folder, run};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/reference.md");

/// Every verb of the help, with its verbs.
fn verbs(dir: &Path) -> Vec<Vec<String>> {
    let listed = run(dir, &["help", "--json"]).json();
    let names: Vec<String> =
        listed["verbs"].as_array().expect("a list").iter().map(|it| it.as_str().expect("text").to_owned()).collect();
    let mut all = vec![Vec::new()];
    for name in names {
        all.push(vec![name.clone()]);
        let nested: &[&str] = match name.as_str() {
            "config" => &["show"],
            "profile" => &["check", "show", "list"],
            "wallet" => &["list", "show", "create", "sign", "verify"],
            "bench" => &["rollouts", "jobs", "follow", "metagraph"],
            _ => &[],
        };
        all.extend(nested.iter().map(|verb| vec![name.clone(), (*verb).to_owned()]));
    }
    all
}

/// `WAAG_UPDATE=1 cargo test cli::help` writes the file anew.
#[test]
fn the_help_texts_are_the_committed_ones() {
    let dir = folder();
    let mut found = String::from("# The command line\n\nEvery help text. A test compares them with the program.\n");
    for verb in verbs(dir.path()) {
        let args: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
        let said = run(dir.path(), &args);
        assert_eq!((said.exit, said.stderr.as_str()), (0, ""), "{verb:?}");
        let title = [vec!["waag".to_owned()], verb].concat().join(" ");
        let lines: Vec<&str> = said.stdout.lines().map(str::trim_end).collect();
        found.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    }
    if env::var_os("WAAG_UPDATE").is_some() {
        fs::write(REFERENCE, &found).expect("the reference is written");
    }
    let committed = fs::read_to_string(REFERENCE).expect("the reference is there");
    assert!(committed == found, "the help texts have changed: WAAG_UPDATE=1 cargo test cli::help");
}

#[test]
fn every_verb_shows_an_example() {
    let dir = folder();
    for verb in verbs(dir.path()).iter().filter(|verb| !verb.is_empty()) {
        let args: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
        let text = run(dir.path(), &args).stdout;
        let (_, examples) = text.split_once("Examples:").unwrap_or_else(|| panic!("{verb:?} shows no example"));
        assert!(examples.contains(&format!("waag {}", verb.join(" "))), "{verb:?}");
        assert!(text.contains("--json"), "{verb:?}");
    }
}

#[test]
fn topics_codes_and_exit_codes_are_explained() {
    let dir = folder();
    let said = run(dir.path(), &["help", "exit-codes"]);
    assert_eq!(said.exit, 0);
    assert!(said.stdout.contains("70   a bug in this program"), "{}", said.stdout);
    let code = run(dir.path(), &["help", "artifact_missing", "--json"]).json();
    assert_eq!(code["code"]["class"], "miner");
    assert!(run(dir.path(), &["help", "publish"]).stdout.contains("--skip-commit"));
    assert!(run(dir.path(), &["help", "life"]).stdout.contains("queued"));
    let unknown = run(dir.path(), &["help", "publsh"]);
    assert_eq!(unknown.exit, 2);
    assert!(unknown.stderr.contains("did you mean `publish`?"), "{}", unknown.stderr);
}

#[test]
fn what_cannot_be_parsed_ends_with_2() {
    let dir = folder();
    for args in [&["publsh"][..], &["why"], &["why", "x9"], &["check", "a", "--seeds", "b"], &["--netuid"], &[]] {
        let said = run(dir.path(), args);
        assert_eq!((said.exit, said.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!said.stderr.is_empty());
    }
}

#[test]
fn shells_get_their_completions() {
    let dir = folder();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(dir.path(), &["completions", shell]);
        assert!(said.exit == 0 && said.stdout.contains("publish"), "{shell}");
    }
}

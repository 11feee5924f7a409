//! `--json`: stdout is one document and nothing else, whatever happens.

use super::{folder, run, run_with};

/// Verbs that need nobody else, and how they end in an empty folder.
const ALONE: &[(&[&str], i32)] = &[
    (&["config", "show"], 0),
    (&["config", "show", "nothing"], 2),
    (&["profile", "list"], 0),
    (&["profile", "show", "quickstart"], 0),
    (&["profile", "check", "no-such.toml"], 2),
    (&["help"], 0),
    (&["help", "codes"], 0),
    (&["help", "exit-codes"], 0),
    (&["help", "life"], 0),
    (&["help", "no-such-topic"], 2),
    (&["doctor"], 0),
    (&["init"], 0),
    (&["init"], 2),
    (&["pack", "CartPole-v1=no-such.onnx"], 2),
    (&["check", "no-such.tar"], 2),
    (&["verify", "no-such.json"], 2),
    (&["register"], 4),
    (&["commit", "no-such.tar"], 2),
    (&["commit", "waag.toml"], 4),
    (&["publish", "no-such.tar"], 2),
    (&["publish", "waag.toml"], 5),
    (&["commitments"], 5),
    (&["commitments", "--from", "3"], 2),
    (&["status"], 5),
    (&["why", "s1"], 5),
    (&["bench", "jobs", "--jobs", "10"], 0),
    (&["why"], 2),
    (&["wallet", "list"], 0),
    (&["wallet", "show"], 4),
    (&["wallet", "create"], 4),
    (&["wallet", "create", "--no-password"], 0),
    (&["wallet", "create", "--no-password"], 4),
    (&["wallet", "show"], 0),
    (&["wallet", "sign", "--message", "it is me"], 0),
    (&["wallet", "verify", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "0x00", "--message", "x"], 2),
];

#[test]
fn stdout_is_one_document() {
    let dir = folder();
    // A port where nobody listens, so that no verb waits.
    let env = [("WAAG__SERVER__LISTEN", "127.0.0.1:9"), ("WAAG__DEVNET__LISTEN", "127.0.0.1:9")];
    for (args, exit) in ALONE {
        let args = [*args, &["--json"]].concat();
        let said = run_with(dir.path(), &env, &args);
        assert_eq!(said.exit, *exit, "{args:?}\n{}\n{}", said.stdout, said.stderr);
        let document = said.json();
        if *exit != 0 {
            assert_eq!(document["exit"], *exit, "{args:?}");
            assert!(document["error"]["code"].is_string(), "{args:?}");
        }
        assert_eq!(said.stderr, "", "{args:?}");
    }
}

#[test]
fn without_json_data_is_on_stdout_and_conversation_on_stderr() {
    let dir = folder();
    let said = run(dir.path(), &["init"]);
    assert_eq!(said.stdout, "waag.toml\n");
    assert!(said.stderr.starts_with("next: "), "{}", said.stderr);
    let failed = run(dir.path(), &["init"]);
    assert_eq!(failed.stdout, "");
    for part in ["error: ", "  code: settings_exist (operator)", "  hint: "] {
        assert!(failed.stderr.contains(part), "`{part}` is missing in\n{}", failed.stderr);
    }
}

#[test]
fn a_failed_check_is_told_in_the_one_document() {
    let dir = folder();
    let said = run(dir.path(), &["--data-dir", "/proc/none", "doctor", "--json"]);
    assert_eq!(said.exit, 1);
    let document = said.json();
    assert_eq!(document["healthy"], false);
    let lines = document["checks"].as_array().expect("a list");
    assert!(lines.iter().any(|line| line["what"] == "data directory" && line["health"] == "fail"));
}

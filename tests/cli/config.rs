//! Settings and profiles: layers, spellings, and mistakes that are named.

use std::fs;

use super::{folder, run, run_with};

fn value(dir: &std::path::Path, env: &[(&str, &str)], flags: &[&str], key: &str) -> (String, String) {
    let args = [flags, &["config", "show", key, "--json"]].concat();
    let shown = run_with(dir, env, &args);
    assert_eq!(shown.exit, 0, "{}", shown.stderr);
    let row = &shown.json()[key];
    (row["value"].to_string().trim_matches('"').to_owned(), row["origin"].as_str().expect("text").to_owned())
}

#[test]
fn every_layer_wins_over_the_one_before_and_is_named() {
    let dir = folder();
    let key = "network.netuid";
    let of = |env: &[(&str, &str)], flags: &[&str]| value(dir.path(), env, flags, key);
    assert_eq!(of(&[], &[]), ("1".into(), "default".into()));
    fs::write(dir.path().join("waag.toml"), "[network]\nnetuid = 2\n").unwrap();
    assert_eq!(of(&[], &[]), ("2".into(), "waag.toml:2:1".into()));
    let bittensor = ("BT_NETUID", "3");
    assert_eq!(of(&[bittensor], &[]), ("3".into(), "BT_NETUID".into()));
    let own = ("WAAG__NETWORK__NETUID", "4");
    assert_eq!(of(&[bittensor, own], &[]), ("4".into(), "WAAG__NETWORK__NETUID".into()));
    assert_eq!(of(&[bittensor, own], &["--netuid", "5"]), ("5".into(), "--netuid".into()));
}

#[test]
fn bittensors_spellings_are_understood() {
    let dir = folder();
    for (flag, variable, key, given) in [
        ("--subtensor.network", "BT_SUBTENSOR_NETWORK", "network.name", "test"),
        ("--subtensor.chain-endpoint", "BT_SUBTENSOR_CHAIN_ENDPOINT", "network.endpoints", "ws://127.0.0.1:9"),
        ("--wallet.name", "BT_WALLET_NAME", "wallet.name", "miner"),
        ("--wallet.hotkey", "BT_WALLET_HOTKEY", "wallet.hotkey", "h1"),
        ("--wallet.path", "BT_WALLET_PATH", "wallet.path", "/tmp/wallets"),
        ("--netuid", "BT_NETUID", "network.netuid", "12"),
    ] {
        let by_flag = value(dir.path(), &[], &[flag, given], key);
        let by_variable = value(dir.path(), &[(variable, given)], &[], key);
        assert!(by_flag.0.contains(given), "{flag}: {by_flag:?}");
        assert_eq!(by_flag.0, by_variable.0);
        assert_eq!((by_flag.1.as_str(), by_variable.1.as_str()), (flag, variable));
    }
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_right_one() {
    let dir = folder();
    fs::write(dir.path().join("waag.toml"), "[network]\nnetuidd = 2\n").unwrap();
    let said = run(dir.path(), &["config", "show"]);
    assert_eq!(said.exit, 2);
    assert!(said.stdout.is_empty());
    for part in ["waag.toml:2:1", "netuidd", "did you mean `netuid`?", "settings_unknown_key", "hint:"] {
        assert!(said.stderr.contains(part), "`{part}` is missing in\n{}", said.stderr);
    }
    let said = run_with(dir.path(), &[("WAAG__NETWORK__NETUIDD", "1")], &["--config", "/dev/null", "config", "show"]);
    assert_eq!(said.exit, 2);
    assert!(said.stderr.contains("WAAG__NETWORK__NETUID"), "{}", said.stderr);
}

#[test]
fn a_settings_file_full_of_garbage_is_a_clear_error() {
    let dir = folder();
    for garbage in [&b"\xff\xfe\x00"[..], b"[[[", b"network = 3", &[b'a'; 2_000_000]] {
        fs::write(dir.path().join("waag.toml"), garbage).unwrap();
        let said = run(dir.path(), &["config", "show", "--json"]);
        assert_eq!(said.exit, 2);
        assert_eq!(said.json()["exit"], 2);
    }
}

#[test]
fn init_writes_a_file_that_changes_nothing_and_never_overwrites() {
    let dir = folder();
    let before = run(dir.path(), &["config", "show", "--json"]).json();
    assert_eq!(run(dir.path(), &["init"]).exit, 0);
    let path = dir.path().join("waag.toml");
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.contains("# netuid = 1"), "{written}");
    assert_eq!(run(dir.path(), &["config", "show", "--json"]).json(), before);
    fs::write(&path, "# mine\n").unwrap();
    let again = run(dir.path(), &["init"]);
    assert_eq!(again.exit, 2);
    assert!(again.stderr.contains("settings_exist"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n");
}

#[test]
fn a_profiles_mistake_is_shown_at_its_line() {
    let dir = folder();
    let text = run(dir.path(), &["profile", "show", "quickstart"]).stdout;
    let file = dir.path().join("mine.toml");
    fs::write(&file, &text).unwrap();
    assert_eq!(run(dir.path(), &["profile", "check", "mine.toml"]).exit, 0);

    let line = text.lines().position(|line| line.starts_with("contestants_max")).expect("the profile has it") + 1;
    fs::write(&file, text.replace("contestants_max", "contestant_max")).unwrap();
    let said = run(dir.path(), &["profile", "check", "mine.toml"]);
    assert_eq!(said.exit, 2);
    for part in [&format!("mine.toml:{line}:"), "did you mean `contestants_max`?", "profile_unknown_key"] {
        assert!(said.stderr.contains(part), "`{part}` is missing in\n{}", said.stderr);
    }

    fs::write(&file, text.replace("kind = \"rollouts\"", "kind = \"rollout\"")).unwrap();
    let said = run(dir.path(), &["profile", "check", "mine.toml"]);
    assert!(said.stderr.contains("did you mean `rollouts`?"), "{}", said.stderr);
}

#[test]
fn profiles_are_listed_and_shown() {
    let dir = folder();
    let list = run(dir.path(), &["profile", "list", "--json"]).json();
    assert_eq!(list["profiles"][0]["slug"], "quickstart");
    assert_eq!(list["profiles"][0]["served"], true);
    let missing = run(dir.path(), &["profile", "show", "quickstat"]);
    assert_eq!(missing.exit, 2);
    assert!(missing.stderr.contains("profile_missing"), "{}", missing.stderr);
}

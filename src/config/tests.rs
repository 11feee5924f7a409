//! The layers, their order, and every mistake that a setting can have.

use std::{collections::BTreeMap, path::Path};

use proptest::prelude::*;

use super::*;

fn from_file(text: &str) -> Result<Loaded, Error> {
    load(&Sources { file: Some(("waag.toml", text)), home: Some(Path::new("/home/op")), ..Sources::default() })
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Loaded, Error> {
    load(&Sources { env: Some(&env(pairs)), ..Sources::default() })
}

#[track_caller]
fn refused(result: Result<Loaded, Error>) -> (&'static str, String) {
    let error = result.expect_err("it has a mistake");
    (error.code().name, error.to_string())
}

#[test]
fn the_defaults_the_keys_and_the_structs_are_one() {
    let loaded = load(&Sources::default()).expect("the defaults are right");
    let shown: Vec<_> = loaded.values.iter().map(|shown| shown.key.as_str()).collect();
    let mut keys: Vec<_> = settings::keys().collect();
    keys.sort_unstable();
    // The structs refuse unknown fields and have no defaults, so they have exactly these keys too.
    assert_eq!(shown, keys);
    assert!(loaded.values.iter().all(|shown| shown.origin == "default"), "{:?}", loaded.values);
    assert_eq!(loaded.settings.challenges, [profile::EMBEDDED_DEFAULT]);
    assert_eq!(loaded.settings.wallet.path, Path::new("~/.bittensor/wallets"));
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let text = profile::embedded(profile::EMBEDDED_DEFAULT).expect("it is embedded");
    let text = format!("{text}\n[settings.weights]\nburn_uid = 1\n[settings.slots]\ncpus = 11\n");
    let profiles = [Profile::parse(&text, "p.toml").expect("it is whole")];
    let file = "[weights]\nburn_uid = 2\n[network]\nnetuid = 2\n";
    let none = BTreeMap::new();
    let bittensor = env(&[("BT_NETUID", "3"), ("HOME", "/root"), ("WAAG_HOME", "x")]);
    let both = env(&[("BT_NETUID", "3"), ("WAAG__NETWORK__NETUID", "4"), ("WAAG__WEIGHTS__BURN_UID", "4")]);
    let flags = [Given::new("--netuid", "network.netuid", "5")];
    let at = |file: Option<(&'static str, &'static str)>, env: &BTreeMap<String, String>, flags: &[Given]| {
        let sources = Sources { profiles: &profiles, file, env: Some(env), flags, home: None };
        let loaded = load(&sources).expect("all is right");
        let burn = (loaded.settings.weights.burn_uid, loaded.origin("weights.burn_uid").to_owned());
        let netuid = (loaded.settings.network.netuid, loaded.origin("network.netuid").to_owned());
        assert_eq!(loaded.settings.slots.cpus, 11);
        (burn, netuid)
    };
    let line = text.lines().position(|line| line == "burn_uid = 1").expect("it is there") + 1;
    let profile = (1, format!("p.toml:{line}:1"));
    assert_eq!(at(None, &none, &[]), (profile.clone(), (1, "default".into())));
    assert_eq!(at(None, &bittensor, &[]), (profile, (3, "BT_NETUID".into())));
    let file = Some(("waag.toml", file));
    assert_eq!(at(file, &none, &[]), ((2, "waag.toml:2:1".into()), (2, "waag.toml:4:1".into())));
    let variable = (4, "WAAG__WEIGHTS__BURN_UID".to_owned());
    assert_eq!(at(file, &both, &[]), (variable.clone(), (4, "WAAG__NETWORK__NETUID".into())));
    assert_eq!(at(file, &both, &flags), (variable, (5, "--netuid".into())));
}

#[test]
fn a_new_settings_file_changes_nothing() {
    let text = init_text();
    let loaded = from_file(&text).expect("it is right");
    assert!(loaded.values.iter().all(|shown| shown.origin == "default"));
    // Every setting stands in it, and works when the mark of the comment is taken away.
    let active: String = text
        .lines()
        .map(|line| {
            let setting = line
                .strip_prefix("# ")
                .filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')));
            format!("{}\n", setting.unwrap_or(line))
        })
        .collect();
    let loaded = from_file(&active).expect("it is right");
    assert!(loaded.values.iter().all(|shown| shown.origin.starts_with("waag.toml:")), "{active}");
    let shown: Vec<_> = loaded.values.iter().map(|shown| shown.value.to_string()).collect();
    let again: Vec<_> = load(&Sources { home: Some(Path::new("/home/op")), ..Sources::default() })
        .expect("the defaults are right")
        .values
        .iter()
        .map(|shown| shown.value.to_string())
        .collect();
    assert_eq!(shown, again);
}

#[test]
fn mistakes_in_the_file_are_named_at_their_line() {
    for (text, code, words) in [
        ("x = [", "settings_syntax", "waag.toml:1:"),
        (
            "\ndata_dirr = \"x\"",
            "settings_unknown_key",
            "waag.toml:2:1: unknown key `data_dirr`; did you mean `data_dir`?",
        ),
        (
            "[network]\nnetuidd = 1",
            "settings_unknown_key",
            "waag.toml:2:1: unknown key `netuidd`; did you mean `netuid`?",
        ),
        (
            "[netwrk]\nnetuid = 1",
            "settings_unknown_key",
            "waag.toml:1:2: unknown key `netwrk`; did you mean `network`?",
        ),
        ("[store.s33]\nbucket = \"x\"", "settings_unknown_key", "did you mean `s3`?"),
        ("[zzzzzzzzz]", "settings_unknown_key", "known are data_dir, challenges, network"),
        (
            "[network]\nname = \"finny\"",
            "settings_invalid",
            "waag.toml:2:1: unknown network `finny`; did you mean `finney`?",
        ),
        ("[network]\nname = \"ws://\"", "settings_invalid", "unknown network"),
        ("[network]\nnetuid = 65536", "settings_invalid", "waag.toml:2:1: 65536 is not within 0 and 65535"),
        ("[network]\nnetuid = -1", "settings_invalid", "-1 is not within"),
        ("[network]\nnetuid = \"1\"", "settings_invalid", "a whole number belongs here"),
        ("[network]\nendpoints = [\"http://x\"]", "settings_invalid", "begins with ws:// or wss://"),
        ("[network]\nendpoints = \"ws://x\"", "settings_invalid", "a list belongs here"),
        ("challenges = [1]", "settings_invalid", "only texts in quotes"),
        ("network = 1", "settings_invalid", "waag.toml:1:1: `network` is a section"),
        ("data_dir = \"\"", "settings_invalid", "a path belongs here"),
        ("data_dir = true", "settings_invalid", "no setting is a boolean"),
        ("[wallet]\nname = \"../other\"", "settings_invalid", "`../other` is not the name of a file or folder"),
        ("[wallet]\nhotkey = \"a/b\"", "settings_invalid", "is not the name"),
        ("[wallet]\nhotkey = \"\"", "settings_invalid", "is not the name"),
        ("[server]\nlisten = \"localhost\"", "settings_invalid", "is not an address and a port"),
        ("[server]\npublic_url = \"example.org\"", "settings_invalid", "begins with http:// or https://"),
        ("[server]\nrequests_per_minute = 1000001", "settings_invalid", "not within 1 and 1000000"),
        ("[store]\ndurability = \"ful\"", "settings_invalid", "unknown word `ful`; did you mean `full`?"),
        ("[store]\nblobs = \"s3\"", "settings_invalid", "waag.toml:2:1: `store.s3.bucket` is needed"),
        ("[store.s3]\naccess_key_id = \"x\"", "settings_invalid", "waag.toml:2:1: `secret_access_key_file` is needed"),
        ("[store.s3]\nsecret_access_key_file = \"x\"", "settings_invalid", "`access_key_id` is needed"),
        ("[devnet]\nblock_ms = 9", "settings_invalid", "9 is not within 10 and 60000"),
    ] {
        let (found, message) = refused(from_file(text));
        assert_eq!(found, code, "{text}: {message}");
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn mistakes_in_variables_and_flags_are_named() {
    for (name, value, code, words) in [
        ("WAAG__NETWORK__NETUIDD", "1", "settings_unknown_key", "did you mean `WAAG__NETWORK__NETUID`?"),
        ("WAAG__ZZZZZZZZZZZZ", "1", "settings_unknown_key", "known are WAAG__DATA_DIR"),
        ("WAAG__NETWORK__NETUID", "one", "settings_invalid", "WAAG__NETWORK__NETUID: `one` is not a whole number"),
        ("BT_NETUID", "65536", "settings_invalid", "BT_NETUID: 65536 is not within 0 and 65535"),
        ("WAAG__DATA_DIR", &"x".repeat(4097), "settings_invalid", "4097 bytes, the limit is 4096"),
        ("WAAG__CHALLENGES", &"x,".repeat(65), "settings_invalid", "65 items, the limit is 64"),
        ("WAAG__DATA_DIR", "~/x", "settings_invalid", "no home directory"),
    ] {
        let (found, message) = refused(from_env(&[(name, value)]));
        assert_eq!(found, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let flag = [Given::new("--set", "network.netuidd", "1")];
    let (code, message) = refused(load(&Sources { flags: &flag, ..Sources::default() }));
    assert_eq!(code, "settings_unknown_key");
    assert!(message.contains("--set: unknown key `network.netuidd`; did you mean `network.netuid`?"), "{message}");
    from_env(&[("WAAG__DATA_DIR", &"x".repeat(4096)), ("WAAG__CHALLENGES", &"x,".repeat(64))]).expect("they fit");
}

#[test]
fn bittensors_spellings_work() {
    let loaded = from_env(&[
        ("BT_NETUID", "26"),
        ("BT_SUBTENSOR_NETWORK", "finney"),
        ("BT_SUBTENSOR_CHAIN_ENDPOINT", "wss://a:1, wss://b:2"),
        ("BT_WALLET_NAME", "owner"),
        ("BT_WALLET_HOTKEY", "validator"),
        ("BT_WALLET_PATH", "/wallets"),
    ])
    .expect("all is right");
    let Settings { network, wallet, .. } = &loaded.settings;
    assert_eq!((network.netuid, network.name.as_str()), (26, "finney"));
    assert_eq!(loaded.settings.endpoints(), ["wss://a:1", "wss://b:2"]);
    assert_eq!((wallet.name.as_str(), wallet.hotkey.as_str()), ("owner", "validator"));
    assert_eq!(wallet.path, Path::new("/wallets"));
    from_env(&[("BT_NETUID", "")]).expect("an empty variable says nothing");
    let older = from_env(&[("BT_NETWORK", "test"), ("BT_CHAIN_ENDPOINT", "wss://a:1")]).expect("the older names");
    assert_eq!(
        (older.settings.network.name.as_str(), older.settings.endpoints()),
        ("test", vec!["wss://a:1".to_owned()])
    );
    let both = from_env(&[("BT_NETWORK", "test"), ("BT_SUBTENSOR_NETWORK", "finney")]).expect("both names");
    assert_eq!(both.settings.network.name, "finney");
    for alias in ALIASES {
        assert!(settings::keys().any(|key| key == alias.key), "{}", alias.key);
    }
}

#[test]
fn networks_have_their_usual_addresses() {
    let endpoints = |name: &str| from_env(&[("BT_SUBTENSOR_NETWORK", name)]).expect(name).settings.endpoints();
    assert_eq!(endpoints("devnet"), ["ws://127.0.0.1:9944"]);
    assert_eq!(endpoints("finney"), ["wss://entrypoint-finney.opentensor.ai:443"]);
    assert_eq!(endpoints("wss://my.node:443"), ["wss://my.node:443"]);
}

/// Else a hotkey would be registered, and paid for, on another chain than the one that was named.
#[test]
fn a_network_that_is_named_is_not_overruled_by_addresses_from_below() {
    let load_with = |flags: &[Given], env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let file = Some(("waag.toml", "[network]\nname = \"test\"\nendpoints = [\"ws://other:1\"]\n"));
        load(&Sources { file, env: Some(&env), flags, ..Sources::default() }).expect("all is right")
    };
    let named = [Given::new("--subtensor.network", "network.name", "finney")];
    let loaded = load_with(&named, &[("BT_SUBTENSOR_CHAIN_ENDPOINT", "ws://third:1")]);
    assert_eq!(loaded.settings.endpoints(), ["wss://entrypoint-finney.opentensor.ai:443"]);
    assert_eq!(loaded.origin("network.endpoints"), "--subtensor.network");
    assert_eq!(load_with(&[], &[]).settings.endpoints(), ["ws://other:1"], "one layer means both");
    let address = [Given::new("--subtensor.chain-endpoint", "network.endpoints", "ws://fourth:1")];
    assert_eq!(load_with(&address, &[]).settings.endpoints(), ["ws://fourth:1"]);
}

#[test]
fn home_is_what_the_caller_says() {
    let loaded = from_file("data_dir = \"~/waag\"").expect("it is right");
    assert_eq!(loaded.settings.data_dir, Path::new("/home/op/waag"));
    assert_eq!(loaded.settings.wallet.path, Path::new("/home/op/.bittensor/wallets"));
}

#[test]
fn profiles_may_not_contradict_each_other() {
    let text = profile::embedded(profile::EMBEDDED_DEFAULT).expect("it is embedded");
    let with = |uid: u16, origin: &str| {
        Profile::parse(&format!("{text}\n[settings.weights]\nburn_uid = {uid}\n"), origin).expect("it is whole")
    };
    load(&Sources { profiles: &[with(1, "a"), with(1, "b")], ..Sources::default() }).expect("they agree");
    let (code, message) = refused(load(&Sources { profiles: &[with(1, "a"), with(2, "b")], ..Sources::default() }));
    assert_eq!(code, "profiles_clash");
    assert!(message.contains("`weights.burn_uid`"), "{message}");
}

#[test]
fn a_file_is_read_up_to_its_limit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("waag.toml");
    let most = usize::try_from(CONFIG_FILE_BYTES).expect("it fits");
    std::fs::write(&path, "#".repeat(most)).expect("written");
    read_text(&path).expect("it fits");
    std::fs::write(&path, "#".repeat(most + 1)).expect("written");
    assert_eq!(read_text(&path).expect_err("too large").code().name, "settings_too_large");
    std::fs::write(&path, [0xff, 0xfe]).expect("written");
    assert_eq!(read_text(&path).expect_err("no text").code().name, "settings_unreadable");
    assert_eq!(read_text(dir.path()).expect_err("a folder").code().name, "settings_unreadable");
}

proptest! {
    /// Whatever stands in a settings file, it is read or refused in words.
    #[test]
    fn any_text_is_read_or_refused(
        cut in any::<prop::sample::Index>(), letters in "[ -~\n]{0,40}", skip in 0..60_usize,
    ) {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/settings.default.toml"));
        let chars: Vec<char> = text.chars().collect();
        let at = cut.index(chars.len());
        let mutated: String =
            chars[..at].iter().copied().chain(letters.chars()).chain(chars.iter().copied().skip(at + skip)).collect();
        if let Err(error) = from_file(&mutated) {
            prop_assert!(matches!(error, Error::Settings { .. }), "{}", error);
        }
    }
}

#[test]
fn each_network_has_its_nodes_its_archive_and_its_first_block() {
    let of = |text: &str| from_file(text).expect("it is right").settings;
    let first = |settings: &Settings| settings.genesis().map(|genesis| genesis.short());
    let finney = of("[network]\nname = \"finney\"\nendpoints = [\"ws://10.0.0.1:9944\"]\n");
    assert_eq!(finney.endpoints(), ["ws://10.0.0.1:9944"]);
    assert_eq!(finney.archive_endpoints(), ["wss://archive.chain.opentensor.ai:443"]);
    assert_eq!(first(&finney).as_deref(), Some("2f0555cc76fc"));
    let archive = of("[network]\nname = \"archive\"\n");
    assert_eq!((archive.archive_endpoints(), first(&archive)), (Vec::new(), first(&finney)));
    let test = of("[network]\nname = \"test\"\narchive_endpoints = [\"wss://a.example\", \"ws://b\"]\n");
    assert_eq!((test.archive_endpoints().len(), first(&test).as_deref()), (2, Some("8f9cf856bf55")));
    for without in ["name = \"finney\"", "name = \"test\"\narchive_endpoints = [\"ws://b\"]"] {
        assert!(of(&format!("[network]\n{without}\narchive = \"none\"\n")).archive_endpoints().is_empty());
    }
    for name in ["devnet", "local", "ws://10.0.0.1:9944"] {
        let other = of(&format!("[network]\nname = \"{name}\"\n"));
        assert_eq!((other.archive_endpoints(), other.genesis()), (Vec::new(), None), "{name}");
    }
    for digits in ["ab".repeat(32), format!("0x{}", "ab".repeat(32))] {
        let pinned = of(&format!("[network]\nname = \"finney\"\ngenesis = \"{digits}\"\n"));
        assert_eq!(first(&pinned).as_deref(), Some("abababababab"));
    }
    for wrong in ["ab".repeat(31), "zz".repeat(32), "ab".repeat(33)] {
        let (code, words) = refused(from_file(&format!("[network]\ngenesis = \"{wrong}\"\n")));
        assert_eq!(code, "settings_invalid");
        assert!(words.contains("is not a hash"), "{words}");
    }
}

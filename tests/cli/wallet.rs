//! `waag wallet`: keys made, shown, used, and never given away.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{folder, run, run_with};

const PASSWORD: &str = "correct horse, bättery";
const WALLETS: &str = ".bittensor/wallets";

/// A wallet `given` whose coldkey is a committed file of the public wallet library.
fn place(dir: &Path, name: &str) {
    let wallet = dir.join(WALLETS).join("given");
    fs::create_dir_all(wallet.join("hotkeys")).unwrap();
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/wallet").join(name)).unwrap();
    fs::write(wallet.join("coldkey"), text).unwrap();
    fs::set_permissions(wallet.join("coldkey"), fs::Permissions::from_mode(0o600)).unwrap();
}

fn password_file(dir: &Path, password: &str) -> String {
    let path = dir.join("password");
    fs::write(&path, format!("{password}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().expect("text").to_owned()
}

#[test]
fn keys_are_made_once_and_shown_without_their_secrets() {
    let dir = folder();
    let names = ["--wallet.name", "owner", "--wallet.hotkey", "validator"];
    let made = run(dir.path(), &[&["wallet", "create", "--no-password", "--json"], &names[..]].concat());
    assert_eq!((made.exit, made.stderr.as_str()), (0, ""));
    let made = made.json()["made"].clone();
    let shown = run(dir.path(), &["wallet", "show", "owner", "--json"]);
    let document = shown.json();
    assert_eq!(shown.exit, 0, "{}", shown.stdout);
    assert_eq!(document["coldkey"]["address"], made[0]["address"]);
    assert_eq!(document["hotkeys"][0]["address"], made[1]["address"]);
    assert_eq!((&document["hotkeys"][0]["proved"], &document["hotkeys"][0]["secret"]), (&true.into(), &"plain".into()));
    let secret = fs::read_to_string(dir.path().join(WALLETS).join("owner/coldkey")).unwrap();
    let secret: serde_json::Value = serde_json::from_str(&secret).unwrap();
    let list = run(dir.path(), &["wallet", "list"]);
    for field in ["secretPhrase", "secretSeed", "privateKey"] {
        let secret = secret[field].as_str().expect("text");
        assert!(!shown.stdout.contains(secret) && !list.stdout.contains(secret), "{field}");
    }
    let again = run(dir.path(), &[&["wallet", "create", "--no-password"], &names[..]].concat());
    assert_eq!(again.exit, 4);
    assert!(again.stderr.contains("wallet_exists"), "{}", again.stderr);
}

#[test]
fn a_coldkey_is_encrypted_unless_that_is_refused_aloud() {
    let dir = folder();
    // Nobody is there to be asked.
    let nobody = run(dir.path(), &["wallet", "create"]);
    assert_eq!(nobody.exit, 4);
    assert!(nobody.stderr.contains("wallet_password_unusable") && nobody.stderr.contains("--password-file"));
    assert!(!dir.path().join(WALLETS).exists(), "nothing was made");
    let file = password_file(dir.path(), PASSWORD);
    assert_eq!(run(dir.path(), &["wallet", "create", "--password-file", &file]).exit, 0);
    let coldkey = dir.path().join(WALLETS).join("default/coldkey");
    assert!(fs::read(&coldkey).unwrap().starts_with(b"$NACL"));
    let shown = run(dir.path(), &["wallet", "show", "--json"]).json();
    assert_eq!((&shown["coldkey"]["secret"], &shown["coldkey"]["proved"]), (&"nacl".into(), &false.into()));
}

#[test]
fn a_hotkey_is_made_beside_a_coldkey_that_is_elsewhere() {
    let dir = folder();
    assert_eq!(run(dir.path(), &["wallet", "create", "--hotkey-only"]).exit, 0);
    let wallet = dir.path().join(WALLETS).join("default");
    assert!(wallet.join("hotkeys/default").exists() && !wallet.join("coldkey").exists());
    assert_eq!(run(dir.path(), &["wallet", "create", "--hotkey-only"]).exit, 4);
}

#[test]
fn passwords_come_from_a_file_or_a_variable() {
    let dir = folder();
    place(dir.path(), "ansible-vault");
    let show = ["wallet", "show", "given", "--unlock", "--json"];
    let address = "5GH2fAGr5MshX7v22KJqSso2qthnSxDLY23e3eA6w3ugkdQB";
    let of = |env: &[(&str, &str)], more: &[&str]| {
        let said = run_with(dir.path(), env, &[&show, more].concat());
        let document = said.json();
        (said.exit, document["coldkey"]["address"].clone(), document["error"]["code"].clone())
    };
    assert_eq!(of(&[], &[]), (4, serde_json::Value::Null, "wallet_encrypted".into()));
    let file = password_file(dir.path(), PASSWORD);
    let opened = (0, address.into(), serde_json::Value::Null);
    assert_eq!(of(&[], &["--password-file", &file]), opened);
    let path = dir.path().join(WALLETS).join("given/coldkey");
    let variable = format!("BT_PW_{}", path.to_str().expect("text").replace(['/', '.'], "_").to_uppercase());
    assert_eq!(of(&[(&variable, PASSWORD)], &[]), opened);
    let wrong = (4, serde_json::Value::Null, "wallet_password_wrong".into());
    assert_eq!(of(&[(&variable, "another")], &[]), wrong);
    let other = password_file(dir.path(), "another");
    assert_eq!(of(&[(&variable, PASSWORD)], &["--password-file", &other]), wrong, "the file counts first");
}

#[test]
fn what_is_wrong_is_told_key_by_key() {
    let dir = folder();
    place(dir.path(), "words-12");
    let hotkeys = dir.path().join(WALLETS).join("given/hotkeys");
    fs::write(hotkeys.join("half"), "{").unwrap();
    fs::copy(dir.path().join(WALLETS).join("given/coldkey"), hotkeys.join("copy")).unwrap();
    fs::set_permissions(hotkeys.join("half"), fs::Permissions::from_mode(0o644)).unwrap();
    let listed = run(dir.path(), &["wallet", "list"]);
    assert_eq!(listed.exit, 0);
    for part in ["(wallet_malformed)", "its mode is 644", "it is the coldkey"] {
        assert!(listed.stdout.contains(part), "{part}: {}", listed.stdout);
    }
    let shown = run(dir.path(), &["wallet", "show", "given"]);
    assert_eq!(shown.exit, 4);
    assert!(shown.stdout.contains("hotkeys/copy") && shown.stderr.contains("wallet_malformed"));
    assert_eq!(run(dir.path(), &["wallet", "show", "nobody"]).exit, 4);
}

#[test]
fn an_appliance_does_not_start_with_a_coldkey() {
    let dir = folder();
    place(dir.path(), "words-12");
    let wallet = dir.path().join(WALLETS).join("given");
    std::os::unix::fs::symlink(wallet.join("coldkey"), wallet.join("hotkeys/default")).unwrap();
    let listen = [("WAAG__SERVER__LISTEN", "127.0.0.1:0"), ("WAAG__DEVNET__LISTEN", "127.0.0.1:0")];
    let up = run_with(dir.path(), &listen, &["up", "--wallet.name", "given"]);
    assert_eq!(up.exit, 4);
    assert!(up.stderr.contains("wallet_is_coldkey"), "{}", up.stderr);
}

#[test]
fn a_signed_text_proves_who_signed() {
    let dir = folder();
    place(dir.path(), "words-12");
    assert_eq!(run(dir.path(), &["wallet", "create", "--hotkey-only", "--wallet.name", "given"]).exit, 0);
    let sign = |more: &[&str]| {
        run(
            dir.path(),
            &[&["wallet", "sign", "--message", "it is me", "--wallet.name", "given", "--json"], more].concat(),
        )
        .json()
    };
    let (hot, cold) = (sign(&[]), sign(&["--coldkey"]));
    assert_ne!(hot["address"], cold["address"]);
    let verify = |signed: &serde_json::Value, message: &str| {
        let text = |key: &str| signed[key].as_str().expect("text").to_owned();
        run(dir.path(), &["wallet", "verify", &text("address"), &text("signature"), "--message", message]).exit
    };
    assert_eq!([verify(&hot, "it is me"), verify(&cold, "it is me"), verify(&hot, "it is you")], [0, 0, 1]);
    let mixed = serde_json::json!({ "address": hot["address"], "signature": cold["signature"] });
    assert_eq!(verify(&mixed, "it is me"), 1);
}

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, sync::Mutex};

use super::{file::FILE_BYTES, *};
use crate::{chain::keypair::verify, fault::Class, ids::SystemEntropy};

/// The password of every encrypted file in `testdata/wallet`.
const PASSWORD: &str = "correct horse, bättery";
const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
const PHRASE: &str = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
const PHRASE_ADDRESS: &str = "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV";

fn wallet() -> (tempfile::TempDir, Wallet) {
    let base = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(base.path(), "default", "miner-1").unwrap();
    fs::create_dir_all(wallet.hotkey_path().parent().unwrap()).unwrap();
    (base, wallet)
}

fn read(content: impl AsRef<[u8]>) -> Result<Keypair, WalletError> {
    let (_base, wallet) = wallet();
    fs::write(wallet.hotkey_path(), content).unwrap();
    wallet.hotkey()
}

fn code(result: Result<impl std::fmt::Debug, WalletError>) -> String {
    result.unwrap_err().fault().code
}

/// A file of `testdata/wallet`: written by the public wallet library, see its README.
fn written(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/wallet").join(name)).unwrap()
}

fn address_of(name: &str) -> String {
    let all: BTreeMap<String, String> = serde_json::from_slice(&written("addresses.json")).unwrap();
    all[name].clone()
}

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.to_owned())).unwrap()
}

fn passwords(texts: &'static [&'static str]) -> Arc<Passwords> {
    Arc::new(move |_path| Ok(texts.iter().map(|text| password(text)).collect()))
}

#[test]
fn plain_files_of_the_reference_wallet_are_read() {
    for name in ["private-key-only", "seed", "seed-as-text", "words-12", "words-24"] {
        let key = read(written(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(key.account().to_string(), address_of(name), "{name}");
        assert!(verify(&key.account(), b"message", &key.sign(b"message")), "{name}");
    }
    assert_eq!(code(read(written("ed25519"))), "wallet_ed25519");
    assert_eq!(code(read(written("address-only"))), "wallet_unsupported");
}

#[test]
fn encrypted_files_of_the_reference_wallet_are_opened() {
    for name in ["nacl", "ansible-vault", "fernet"] {
        let (_base, wallet) = wallet();
        fs::write(wallet.hotkey_path(), written(name)).unwrap();
        assert_eq!(code(wallet.hotkey()), "wallet_encrypted", "{name}");
        let key = wallet.with_passwords(passwords(&[PASSWORD])).hotkey();
        let key = key.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(key.account().to_string(), address_of(name), "{name}");
    }
}

#[test]
fn passwords_are_tried_in_order_and_asked_for_once() {
    let (_base, wallet) = wallet();
    fs::write(wallet.hotkey_path(), written("ansible-vault")).unwrap();
    let with = |texts| wallet.clone().with_passwords(passwords(texts));
    assert!(with(&["wrong", PASSWORD]).hotkey().is_ok());
    assert_eq!(code(with(&["wrong", "wrong too"]).hotkey()), "wallet_password_wrong");
    assert_eq!(code(with(&[]).hotkey()), "wallet_encrypted");

    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let note: Arc<Passwords> = Arc::new(move |path| {
        noted.lock().unwrap().push(path.to_owned());
        Ok(vec![password("wrong")])
    });
    assert!(wallet.clone().with_passwords(note).hotkey().is_err());
    assert_eq!(*asked.lock().unwrap(), [wallet.hotkey_path()]);
}

#[test]
fn every_kind_of_secret_is_read_in_the_references_order() {
    let key = read(format!(r#"{{"secretPhrase":"{PHRASE}","ss58Address":"{PHRASE_ADDRESS}"}}"#)).unwrap();
    assert_eq!(key.account().to_string(), PHRASE_ADDRESS);
    let seed = hex::encode(*seed_of_phrase(PHRASE, "").unwrap());
    let key = read(format!(r#"{{"secretSeed":"0x{seed}","secretPhrase":null,"cryptoType":1}}"#)).unwrap();
    assert_eq!(key.account().to_string(), PHRASE_ADDRESS);
    let private = hex::encode(*Keypair::from_uri("//Alice").unwrap().private_bytes());
    let key = read(format!(r#"{{"ss58Address":"{ALICE}","privateKey":"0x{private}"}}"#)).unwrap();
    assert_eq!(key.account().to_string(), ALICE);
    // The phrase counts where several are given; the address then shows that they differ.
    let both = format!(r#"{{"secretPhrase":"{PHRASE}","privateKey":"0x{private}","ss58Address":"{ALICE}"}}"#);
    assert_eq!(code(read(both)), "wallet_mismatch");
}

#[test]
fn the_address_must_be_the_secrets() {
    for field in ["ss58Address", "publicKey", "accountId"] {
        let wrong = if field == "ss58Address" { ALICE.to_owned() } else { format!("0x{}", "11".repeat(32)) };
        let text = format!(r#"{{"secretPhrase":"{PHRASE}","{field}":"{wrong}"}}"#);
        let fault = read(&text).unwrap_err().fault();
        assert_eq!(fault.code, "wallet_mismatch", "{field}");
        assert!(!fault.detail.contains("bottom"), "no secret in messages");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    for (content, code) in [
        ("$NACLabcdef", "wallet_encrypted"),
        ("$ANSIBLE_VAULT;1.1;AES256\n33", "wallet_encrypted"),
        ("gAAAAABl", "wallet_encrypted"),
        ("", "wallet_malformed"),
        ("[1]", "wallet_malformed"),
        ("{}", "wallet_unsupported"),
        (r#"{"secretSeed":""}"#, "wallet_unsupported"),
        (r#"{"secretSeed":"0x00","cryptoType":0}"#, "wallet_ed25519"),
        (r#"{"secretSeed":"0x00","cryptoType":2}"#, "wallet_unsupported"),
        (r#"{"secretSeed":"0x00"}"#, "wallet_malformed"),
        (r#"{"secretPhrase":"one two three"}"#, "wallet_malformed"),
        (r#"{"privateKey":"0xzz"}"#, "wallet_malformed"),
    ] {
        let fault = read(content).unwrap_err().fault();
        assert_eq!((fault.code.as_str(), fault.class), (code, Class::Operator), "{content}");
    }
    let (_base, wallet) = wallet();
    assert_eq!(code(wallet.hotkey()), "wallet_missing");
    for text in ["$NACLabcdef", "$ANSIBLE_VAULT;1.1;AES256\n33", "gAAAAABl"] {
        fs::write(wallet.hotkey_path(), text).unwrap();
        assert_eq!(code(wallet.clone().with_passwords(passwords(&["x"])).hotkey()), "wallet_malformed", "{text}");
    }
}

#[test]
fn sizes_are_bounded_at_the_edge() {
    let padded = |bytes: u64| {
        let text = format!(r#"{{"secretPhrase":"{PHRASE}"}}"#);
        format!("{text}{}", " ".repeat(usize::try_from(bytes).unwrap() - text.len()))
    };
    assert!(read(padded(FILE_BYTES)).is_ok());
    assert_eq!(code(read(padded(FILE_BYTES + 1))), "wallet_malformed");
    // Base58 is only decoded up to the length of an address.
    let long = format!(r#"{{"ss58Address":"{}"}}"#, "1".repeat(60_000));
    assert!(KeyFile::parse(Path::new("x"), long.as_bytes()).unwrap().account(Path::new("x")).is_err());
    let (_base, wallet) = wallet();
    fs::create_dir(wallet.hotkey_path()).unwrap();
    assert_eq!(code(wallet.hotkey()), "wallet_malformed");
}

#[test]
fn a_new_key_is_private_whole_and_never_overwritten() {
    let (base, wallet) = wallet();
    let hotkey = wallet.create_hotkey(&SystemEntropy).unwrap().keypair;
    let coldkey = wallet.create_plain_coldkey(&SystemEntropy).unwrap().keypair;
    assert_ne!(hotkey.account(), coldkey.account());
    assert_eq!(wallet.hotkey().unwrap().account(), hotkey.account());
    assert_eq!(wallet.coldkey().unwrap().account(), coldkey.account());
    assert_eq!(wallet.hotkey_account(), Some(hotkey.account()));
    assert_eq!(wallet.coldkey_account(), Some(coldkey.account()));
    let mode = fs::metadata(wallet.hotkey_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(wallet.hotkey_path()).unwrap();
    assert_eq!(code(wallet.create_hotkey(&SystemEntropy)), "wallet_exists");
    assert_eq!(fs::read(wallet.hotkey_path()).unwrap(), before);
    let public = fs::read_to_string(base.path().join("default/hotkeys/miner-1pub.txt")).unwrap();
    assert!(public.contains(&hotkey.account().to_string()) && !public.contains("secret"), "{public}");
    // Nothing is left of the making.
    assert_eq!(fs::read_dir(base.path().join("default")).unwrap().count(), 3);
    assert_eq!(fs::read_dir(base.path().join("default/hotkeys")).unwrap().count(), 2);
    // All three forms of the secret in the file are the same key.
    let mut file: KeyFile = serde_json::from_slice(&before).unwrap();
    file.secret_phrase = None;
    assert_eq!(file.keypair(Path::new("x")).unwrap().account(), hotkey.account());
    file.secret_seed = None;
    assert_eq!(file.keypair(Path::new("x")).unwrap().account(), hotkey.account());
}

#[test]
fn a_file_is_never_written_over_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    file::write_new(&path, b"first", &SystemEntropy).unwrap();
    assert_eq!(code(file::write_new(&path, b"second", &SystemEntropy)), "wallet_exists");
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_key_that_is_kept_elsewhere_gets_no_second_secret() {
    let (base, wallet) = wallet();
    fs::write(base.path().join("default/coldkeypub.txt"), written("address-only")).unwrap();
    let made = wallet.create_plain_coldkey(&SystemEntropy);
    assert!(matches!(&made, Err(WalletError::Exists { path }) if path.ends_with("coldkeypub.txt")), "{made:?}");
    assert_eq!(wallet.coldkey_account().unwrap().to_string(), ALICE);
    assert_eq!(code(wallet.coldkey()), "wallet_missing");
}

#[test]
fn a_new_coldkey_is_encrypted_and_opens_with_its_password() {
    let (_base, wallet) = wallet();
    assert_eq!(code(wallet.create_coldkey(&SystemEntropy, &password("short"))), "wallet_password_unusable");
    let made = wallet.create_coldkey(&SystemEntropy, &password(PASSWORD)).unwrap();
    let text = fs::read(wallet.coldkey_path()).unwrap();
    assert!(text.starts_with(b"$NACL"));
    assert_eq!(wallet.coldkey_account(), Some(made.keypair.account()), "told without a password");
    let opened = wallet.with_passwords(passwords(&[PASSWORD])).coldkey().unwrap();
    assert_eq!(opened.account(), made.keypair.account());
    assert_eq!(Keypair::from_phrase(made.phrase.reveal()).unwrap().account(), made.keypair.account());
    let shown = format!("{made:?}");
    assert!(!shown.contains(made.phrase.reveal()) && shown.contains("Phrase(…)"), "{shown}");
}

#[test]
fn no_validator_runs_from_a_coldkey() {
    let (base, wallet) = wallet();
    wallet.create_hotkey(&SystemEntropy).unwrap();
    wallet.create_plain_coldkey(&SystemEntropy).unwrap();
    assert!(wallet.validator().is_ok());
    // A copy of the coldkey among the hotkeys, and a link to it.
    let of = |hotkey| Wallet::new(base.path(), "default", hotkey).unwrap();
    fs::copy(wallet.coldkey_path(), of("copy").hotkey_path()).unwrap();
    assert_eq!(code(of("copy").validator()), "wallet_is_coldkey");
    std::os::unix::fs::symlink(wallet.coldkey_path(), of("link").hotkey_path()).unwrap();
    assert_eq!(code(of("link").validator()), "wallet_is_coldkey");
    // Another wallet's coldkey, of which only the public half is here.
    fs::remove_file(wallet.coldkey_path()).unwrap();
    let other = Wallet::new(base.path(), "other", "miner").unwrap();
    fs::create_dir_all(other.hotkey_path().parent().unwrap()).unwrap();
    fs::copy(of("copy").hotkey_path(), other.hotkey_path()).unwrap();
    assert_eq!(code(other.validator()), "wallet_is_coldkey");
    // A miner signs a single act by hand, and is left alone.
    assert!(other.hotkey().is_ok());
}

#[test]
fn names_stay_inside_the_folder() {
    for wrong in ["", ".", "..", "../x", "a/b", "-x", "a b", "ä", &"x".repeat(NAME_CHARS + 1)] {
        assert!(Wallet::new(Path::new("/w"), wrong, "h").is_err(), "{wrong}");
        assert!(Wallet::new(Path::new("/w"), "w", wrong).is_err(), "{wrong}");
    }
    assert!(Wallet::new(Path::new("/w"), &"x".repeat(NAME_CHARS), "my.key_1").is_ok());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_survey_tells_everything_but_secrets() {
    let (base, wallet) = wallet();
    let hotkeys = wallet.folder().join("hotkeys");
    for folder in [wallet.folder(), &hotkeys] {
        set_mode(folder, 0o700);
    }
    fs::write(wallet.coldkey_path(), written("nacl")).unwrap();
    fs::write(wallet.folder().join("coldkeypub.txt"), format!("0x{}", "22".repeat(32))).unwrap();
    for name in ["words-12", "ed25519", "ansible-vault", "seed"] {
        fs::write(hotkeys.join(name), written(name)).unwrap();
        set_mode(&hotkeys.join(name), if name == "seed" { 0o644 } else { 0o600 });
    }
    fs::write(hotkeys.join("broken"), "{").unwrap();
    fs::write(hotkeys.join("elsewherepub.txt"), written("address-only")).unwrap();
    fs::write(hotkeys.join("seedpub.txt"), written("address-only")).unwrap();
    fs::write(base.path().join("no-folder"), "").unwrap();

    let found = list(base.path()).unwrap();
    assert_eq!(found.len(), 1);
    let coldkey = found[0].coldkey.as_ref().unwrap();
    assert_eq!((coldkey.secret, coldkey.proved), (Secret::Nacl, false));
    assert_eq!(coldkey.address, Some(crate::ids::Hotkey([0x22; 32])));
    let told: Vec<_> = found[0]
        .hotkeys
        .iter()
        .map(|key| {
            let fault = key.fault.as_ref().map(|fault| fault.code.as_str());
            (key.name.as_str(), key.secret, key.proved, key.kind, fault)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("ansible-vault", Secret::AnsibleVault, false, None, None),
            ("broken", Secret::Unknown, false, None, Some("wallet_malformed")),
            ("ed25519", Secret::Plain, false, Some("ed25519"), Some("wallet_ed25519")),
            ("elsewhere", Secret::None, false, None, None),
            ("seed", Secret::Plain, true, Some("sr25519"), Some("wallet_mismatch")),
            ("words-12", Secret::Plain, true, Some("sr25519"), None),
        ]
    );
    let warned: Vec<_> = found[0].hotkeys.iter().filter(|key| !key.warnings.is_empty()).map(|key| &key.name).collect();
    assert_eq!(warned, ["broken", "seed"]);
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("bottom") && !text.contains("a5a5a5"), "{text}");

    let opened = look(wallet.folder(), Some(&*passwords(&[PASSWORD])));
    let vault = opened.hotkeys.iter().find(|key| key.name == "ansible-vault").unwrap();
    assert_eq!((vault.proved, vault.address.unwrap().to_string()), (true, address_of("ansible-vault")));
    assert_eq!(opened.coldkey.unwrap().fault.unwrap().code, "wallet_mismatch", "the public half is another's");
}

#[test]
fn others_who_could_use_or_replace_a_file_are_named() {
    let (_base, wallet) = wallet();
    wallet.create_hotkey(&SystemEntropy).unwrap();
    let path = wallet.hotkey_path();
    let folder = path.parent().unwrap();
    set_mode(folder, 0o755);
    assert!(file::loose_modes(&path).is_empty());
    set_mode(&path, 0o640);
    assert_eq!(file::loose_modes(&path).len(), 1);
    set_mode(folder, 0o775);
    assert_eq!(file::loose_modes(&path).len(), 2);
    set_mode(folder, 0o1777);
    assert_eq!(file::loose_modes(&path).len(), 1);
}

#[test]
fn a_folder_is_shown_up_to_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..=survey::ENTRIES {
        fs::create_dir(dir.path().join(format!("{number:05}"))).unwrap();
    }
    assert_eq!(list(dir.path()).unwrap().len(), survey::ENTRIES);
    fs::remove_dir(dir.path().join("00000")).unwrap();
    let found = list(dir.path()).unwrap();
    assert_eq!((found.len(), found[0].name.as_str()), (survey::ENTRIES, "00001"));
}

//! Wallet files of Bittensor, in plain form: finding, reading, writing.
//!
//! Owns the layout of the folder and the JSON of a key file. Refuses to know where the folder is: the caller gives
//! its path. `cli` calls it at start; nothing else reads keys.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use subxt_signer::bip39::Mnemonic;
use tracing::warn;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Account, codes,
    keypair::{KeyError, Keypair, seed_of_phrase},
};
use crate::{fault::Fault, ids::Entropy};

/// Bytes of a key file: a hundred times the largest that any wallet writes.
const FILE_BYTES: u64 = 64 * 1024;
/// Characters of a wallet's or hotkey's name.
const NAME_CHARS: usize = 64;
/// Random bytes behind a new phrase of twelve words.
const ENTROPY_BYTES: usize = 16;
/// The number by which key files name sr25519.
const SR25519: u8 = 1;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A name that is no plain file name.
    #[error("`{name}` is not a wallet or hotkey name: letters, digits, `.`, `_` and `-`")]
    Name {
        /// The name as it was given, shortened.
        name: String,
    },
    /// There is no such file.
    #[error("there is no key file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file of that name exists.
    #[error("{path} exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file is encrypted.
    #[error("{path} is encrypted ({kind})")]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// The kind of encryption.
        kind: &'static str,
    },
    /// The file is not a key file.
    #[error("{path} is not a key file: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never its content.
        detail: &'static str,
    },
    /// The file's secret is of another kind, or absent.
    #[error("{path} holds no sr25519 secret")]
    Unsupported {
        /// The file.
        path: PathBuf,
    },
    /// The secret cannot be used.
    #[error("the secret in {path} is not usable")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// Secret and address do not belong together.
    #[error("{path} says {stated}, but its secret is that of {derived}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The address in the file.
        stated: String,
        /// The secret's address.
        derived: Account,
    },
}

impl WalletError {
    /// The failure as it is recorded. It never holds any part of a secret.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let code = match self {
            Self::Missing { .. } | Self::Name { .. } => codes::WALLET_MISSING,
            Self::Io { .. } => codes::WALLET_UNREADABLE,
            Self::Exists { .. } => codes::WALLET_EXISTS,
            Self::Encrypted { .. } => codes::WALLET_ENCRYPTED,
            Self::Malformed { .. } | Self::Key { .. } => codes::WALLET_MALFORMED,
            Self::Unsupported { .. } => codes::WALLET_UNSUPPORTED,
            Self::Mismatch { .. } => codes::WALLET_MISMATCH,
        };
        let mut detail = self.to_string();
        if let Some(source) = std::error::Error::source(self) {
            detail.push_str(": ");
            detail.push_str(&source.to_string());
        }
        code.because(detail)
    }
}

/// The content of a key file. Public files hold the public fields alone.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_phrase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_seed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ss58_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crypto_type: Option<u8>,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        for secret in [&mut self.private_key, &mut self.secret_phrase, &mut self.secret_seed] {
            secret.zeroize();
        }
    }
}

/// One wallet and one of its hotkeys, by name. Nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Wallet {
    folder: PathBuf,
    hotkey: String,
}

impl Wallet {
    /// The wallet `name` with its hotkey `hotkey` under `base` (commonly `~/.bittensor/wallets`).
    ///
    /// # Errors
    /// When a name is not a plain file name.
    pub fn new(base: &Path, name: &str, hotkey: &str) -> Result<Self, WalletError> {
        for given in [name, hotkey] {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if given.is_empty()
                || given.len() > NAME_CHARS
                || given.starts_with(['.', '-'])
                || !given.chars().all(is_plain)
            {
                return Err(WalletError::Name { name: given.chars().take(NAME_CHARS).collect() });
            }
        }
        Ok(Self { folder: base.join(name), hotkey: hotkey.to_owned() })
    }

    /// The file of the hotkey.
    #[must_use]
    pub fn hotkey_path(&self) -> PathBuf {
        self.folder.join("hotkeys").join(&self.hotkey)
    }

    /// The file of the coldkey.
    #[must_use]
    pub fn coldkey_path(&self) -> PathBuf {
        self.folder.join("coldkey")
    }

    /// Reads the hotkey.
    ///
    /// # Errors
    /// When the file is missing, encrypted, or not what it says.
    pub fn hotkey(&self) -> Result<Keypair, WalletError> {
        read_keypair(&self.hotkey_path())
    }

    /// Reads the coldkey. Only the miner verbs that pay need it; a validator never does.
    ///
    /// # Errors
    /// When the file is missing, encrypted, or not what it says.
    pub fn coldkey(&self) -> Result<Keypair, WalletError> {
        read_keypair(&self.coldkey_path())
    }

    /// Creates the hotkey with a new phrase, in plain form, readable by the owner alone.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn create_hotkey(&self, entropy: &dyn Entropy) -> Result<Keypair, WalletError> {
        let path = self.hotkey_path();
        let public = path.with_file_name(format!("{}pub.txt", self.hotkey));
        create(&path, &public, entropy)
    }

    /// Creates the coldkey with a new phrase, in plain form, readable by the owner alone. For development and small
    /// sums: the file is as good as the funds.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn create_coldkey(&self, entropy: &dyn Entropy) -> Result<Keypair, WalletError> {
        create(&self.coldkey_path(), &self.folder.join("coldkeypub.txt"), entropy)
    }
}

fn read_keypair(path: &Path) -> Result<Keypair, WalletError> {
    let malformed = |detail| WalletError::Malformed { path: path.to_owned(), detail };
    let text = read_file(path)?;
    let encrypted: &[(&[u8], &'static str)] =
        &[(b"$NACL", "NaCl"), (b"$ANSIBLE_VAULT", "Ansible vault"), (b"gAAAAA", "Fernet")];
    if let Some((_, kind)) = encrypted.iter().find(|(prefix, _)| text.starts_with(prefix)) {
        return Err(WalletError::Encrypted { path: path.to_owned(), kind });
    }
    let file: KeyFile =
        serde_json::from_slice(&text).map_err(|_source| malformed("not a JSON object of key fields"))?;
    if file.crypto_type.is_some_and(|kind| kind != SR25519) {
        return Err(WalletError::Unsupported { path: path.to_owned() });
    }
    let keypair = keypair_of(path, &file)?;
    let derived = keypair.account();
    let stated_hex = file.public_key.as_deref().map(|key| key.trim_start_matches("0x").to_lowercase());
    if let Some(stated) = file.ss58_address.as_deref().filter(|stated| *stated != derived.to_string()) {
        return Err(WalletError::Mismatch { path: path.to_owned(), stated: shortened(stated), derived });
    }
    if let Some(stated) = stated_hex.filter(|stated| *stated != hex::encode(derived.0)) {
        return Err(WalletError::Mismatch { path: path.to_owned(), stated: shortened(&stated), derived });
    }
    Ok(keypair)
}

/// The secret in the reference's order: phrase, else seed, else private key.
fn keypair_of(path: &Path, file: &KeyFile) -> Result<Keypair, WalletError> {
    let of_key = |source| WalletError::Key { path: path.to_owned(), source };
    let given = |secret: &Option<String>| secret.as_ref().filter(|text| !text.is_empty()).cloned().map(Zeroizing::new);
    if let Some(phrase) = given(&file.secret_phrase) {
        return Keypair::from_phrase(&phrase).map_err(of_key);
    }
    if let Some(seed) = given(&file.secret_seed) {
        let mut bytes = Zeroizing::new([0; 32]);
        from_hex(&seed, &mut *bytes).map_err(of_key)?;
        return Keypair::from_seed(&bytes).map_err(of_key);
    }
    if let Some(private) = given(&file.private_key) {
        let mut bytes = Zeroizing::new([0; 64]);
        from_hex(&private, &mut *bytes).map_err(of_key)?;
        return Keypair::from_private(&bytes).map_err(of_key);
    }
    Err(WalletError::Unsupported { path: path.to_owned() })
}

fn from_hex(text: &str, bytes: &mut [u8]) -> Result<(), KeyError> {
    hex::decode_to_slice(text.trim_start_matches("0x"), bytes).map_err(|_source| KeyError::Bytes)
}

fn shortened(text: &str) -> String {
    text.chars().take(70).collect()
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let io = |act, source| WalletError::Io { act, path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(WalletError::Missing { path: path.to_owned() });
        }
        opened => opened.map_err(|source| io("open", source))?,
    };
    let about = file.metadata().map_err(|source| io("read", source))?;
    if !about.is_file() || about.len() > FILE_BYTES {
        return Err(WalletError::Malformed { path: path.to_owned(), detail: "not a small regular file" });
    }
    if about.permissions().mode() & 0o077 != 0 {
        warn!(path = %path.display(), "others may read this key file; set its mode to 600");
    }
    // All room at once, so that no part of a secret is left behind by a growing buffer.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default() + 1));
    file.take(FILE_BYTES).read_to_end(&mut text).map_err(|source| io("read", source))?;
    Ok(text)
}

fn create(path: &Path, public: &Path, entropy: &dyn Entropy) -> Result<Keypair, WalletError> {
    let of_key = |source| WalletError::Key { path: path.to_owned(), source };
    let mut random = Zeroizing::new([0; ENTROPY_BYTES]);
    entropy.fill(&mut *random);
    let mnemonic = Mnemonic::from_entropy(&*random).map_err(|_source| of_key(KeyError::Phrase))?;
    let phrase = Zeroizing::new(mnemonic.to_string());
    let seed = seed_of_phrase(&phrase, "").map_err(of_key)?;
    let keypair = Keypair::from_seed(&seed).map_err(of_key)?;
    let account = keypair.account();
    let public_hex = format!("0x{}", hex::encode(account.0));
    let half = || {
        let mut file = KeyFile::default();
        file.account_id = Some(public_hex.clone());
        file.public_key = Some(public_hex.clone());
        file.ss58_address = Some(account.to_string());
        file.crypto_type = Some(SR25519);
        file
    };
    let mut whole = half();
    whole.private_key = Some(format!("0x{}", hex::encode(*keypair.private_bytes())));
    whole.secret_phrase = Some(phrase.to_string());
    whole.secret_seed = Some(format!("0x{}", hex::encode(*seed)));
    write_file(path, &whole)?;
    if !public.exists() {
        write_file(public, &half())?;
    }
    Ok(keypair)
}

fn write_file(path: &Path, content: &KeyFile) -> Result<(), WalletError> {
    let io = |act, source| WalletError::Io { act, path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| io("make the folder of", source))?;
    let text = serde_json::to_vec(content).map(Zeroizing::new).map_err(|source| io("write", source.into()))?;
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(WalletError::Exists { path: path.to_owned() });
        }
        opened => opened.map_err(|source| io("create", source))?,
    };
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(|source| io("write", source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::Class, ids::SystemEntropy};

    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    const PHRASE: &str = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
    const PHRASE_ADDRESS: &str = "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV";

    fn wallet() -> (tempfile::TempDir, Wallet) {
        let base = tempfile::tempdir().unwrap();
        let wallet = Wallet::new(base.path(), "default", "miner-1").unwrap();
        fs::create_dir_all(wallet.hotkey_path().parent().unwrap()).unwrap();
        (base, wallet)
    }

    fn read(content: &str) -> Result<Keypair, WalletError> {
        let (_base, wallet) = wallet();
        fs::write(wallet.hotkey_path(), content).unwrap();
        wallet.hotkey()
    }

    #[test]
    fn every_kind_of_secret_is_read_in_the_references_order() {
        let key = read(&format!(r#"{{"secretPhrase":"{PHRASE}","ss58Address":"{PHRASE_ADDRESS}"}}"#)).unwrap();
        assert_eq!(key.account().to_string(), PHRASE_ADDRESS);
        let seed = hex::encode(*seed_of_phrase(PHRASE, "").unwrap());
        let key = read(&format!(r#"{{"secretSeed":"0x{seed}","secretPhrase":null,"cryptoType":1}}"#)).unwrap();
        assert_eq!(key.account().to_string(), PHRASE_ADDRESS);
        let private = hex::encode(*Keypair::from_uri("//Alice").unwrap().private_bytes());
        let key = read(&format!(r#"{{"ss58Address":"{ALICE}","privateKey":"0x{private}"}}"#)).unwrap();
        assert_eq!(key.account().to_string(), ALICE);
        // The phrase wins over a private key of somebody else.
        let key = read(&format!(r#"{{"privateKey":"0x{private}","secretPhrase":"{PHRASE}"}}"#)).unwrap();
        assert_eq!(key.account().to_string(), PHRASE_ADDRESS);
    }

    /// Written by `bittensor-wallet` 4.1.1 (PyPI) as an unencrypted hotkey, for this test alone.
    const REFERENCE_FILE: &str = r#"{"ss58Address":"5Ejf7Zb3gEk8iuSwotGXhNjfyxhdYwBrha7u4mYD1yobsTe9","cryptoType":1,
        "secretPhrase":"network column foot buzz mixture occur ball brief detail teach arctic mask",
        "secretSeed":"0x1fa41668bea552a6733db42accd5f5306aaa1341f315918c08e8cec7768bac66",
        "accountId":"0x762dcd9f6231e4c5ee3f407d86433d7e549999915b27464c392999f672d05b59",
        "publicKey":"0x762dcd9f6231e4c5ee3f407d86433d7e549999915b27464c392999f672d05b59",
        "privateKey":"0xa155149b1e298ff4ddd390a0b29662c4276c1f55485ab0eadd247b704763350c8b8b881085e254b137459586ea58ce97be79a8cc58e7ee3c3106990992393059"}"#;

    #[test]
    fn a_file_of_the_reference_wallet_holds_one_key_three_times() {
        let address = "5Ejf7Zb3gEk8iuSwotGXhNjfyxhdYwBrha7u4mYD1yobsTe9";
        assert_eq!(read(REFERENCE_FILE).unwrap().account().to_string(), address);
        for (renamed, other) in [("secretPhrase", "x1"), ("secretSeed", "x2")] {
            let without = REFERENCE_FILE.replace("secretPhrase", "x1").replace(renamed, other);
            assert_eq!(read(&without).unwrap().account().to_string(), address);
        }
        // What we write has the same fields.
        let names = |text: &str| -> std::collections::BTreeSet<String> {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).unwrap().keys().cloned().collect()
        };
        let (_base, wallet) = wallet();
        wallet.create_hotkey(&SystemEntropy).unwrap();
        assert_eq!(names(&fs::read_to_string(wallet.hotkey_path()).unwrap()), names(REFERENCE_FILE));
    }

    #[test]
    fn a_secret_of_another_address_is_refused() {
        let error = read(&format!(r#"{{"secretPhrase":"{PHRASE}","ss58Address":"{ALICE}"}}"#)).unwrap_err();
        assert_eq!(error.fault().code, "wallet_mismatch");
        let error = read(&format!(r#"{{"secretPhrase":"{PHRASE}","publicKey":"0x{}"}}"#, "00".repeat(32))).unwrap_err();
        assert_eq!(error.fault().code, "wallet_mismatch");
        assert!(!error.fault().detail.contains("bottom"));
    }

    #[test]
    fn unusable_files_say_why() {
        for (content, code) in [
            ("$NACLabcdef", "wallet_encrypted"),
            ("$ANSIBLE_VAULT;1.1;AES256\n33", "wallet_encrypted"),
            ("gAAAAABl", "wallet_encrypted"),
            ("", "wallet_malformed"),
            ("[1]", "wallet_malformed"),
            ("{}", "wallet_unsupported"),
            (r#"{"secretSeed":""}"#, "wallet_unsupported"),
            (r#"{"secretSeed":"0x00","cryptoType":0}"#, "wallet_unsupported"),
            (r#"{"secretSeed":"0x00"}"#, "wallet_malformed"),
            (r#"{"secretPhrase":"one two three"}"#, "wallet_malformed"),
            (r#"{"privateKey":"0xzz"}"#, "wallet_malformed"),
        ] {
            let fault = read(content).unwrap_err().fault();
            assert_eq!((fault.code.as_str(), fault.class), (code, Class::Operator), "{content}");
        }
        let large = " ".repeat(usize::try_from(FILE_BYTES).unwrap() + 1);
        assert_eq!(read(&large).unwrap_err().fault().code, "wallet_malformed");
        let (_base, wallet) = wallet();
        assert_eq!(wallet.hotkey().unwrap_err().fault().code, "wallet_missing");
    }

    #[test]
    fn a_new_key_is_private_whole_and_never_overwritten() {
        let (base, wallet) = wallet();
        let hotkey = wallet.create_hotkey(&SystemEntropy).unwrap();
        let coldkey = wallet.create_coldkey(&SystemEntropy).unwrap();
        assert_ne!(hotkey.account(), coldkey.account());
        assert_eq!(wallet.hotkey().unwrap().account(), hotkey.account());
        assert_eq!(wallet.coldkey().unwrap().account(), coldkey.account());
        let mode = fs::metadata(wallet.hotkey_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(wallet.create_hotkey(&SystemEntropy).unwrap_err().fault().code, "wallet_exists");
        let public = fs::read_to_string(base.path().join("default/hotkeys/miner-1pub.txt")).unwrap();
        assert!(public.contains(&hotkey.account().to_string()) && !public.contains("secret"), "{public}");
        // All three forms of the secret in the file are the same key.
        let text = fs::read(wallet.hotkey_path()).unwrap();
        let mut file: KeyFile = serde_json::from_slice(&text).unwrap();
        file.secret_phrase = None;
        assert_eq!(keypair_of(Path::new("x"), &file).unwrap().account(), hotkey.account());
        file.secret_seed = None;
        assert_eq!(keypair_of(Path::new("x"), &file).unwrap().account(), hotkey.account());
    }

    #[test]
    fn names_stay_inside_the_folder() {
        for wrong in ["", ".", "..", "../x", "a/b", "-x", "a b", "ä", &"x".repeat(NAME_CHARS + 1)] {
            assert!(Wallet::new(Path::new("/w"), wrong, "h").is_err(), "{wrong}");
            assert!(Wallet::new(Path::new("/w"), "w", wrong).is_err(), "{wrong}");
        }
        assert!(Wallet::new(Path::new("/w"), &"x".repeat(NAME_CHARS), "my.key_1").is_ok());
    }
}

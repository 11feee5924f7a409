//! One key file: reading its bytes, understanding them, writing a new one.
//!
//! Owns the JSON of a key file, its limits, and that a file is written whole or not at all and never over another.
//! Refuses to know where key files lie. Only the files of this room use it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    WalletError,
    locked::{self, Lock, Refusal},
    password::{Password, Passwords},
};
use crate::{
    chain::{
        Account,
        keypair::{KeyError, Keypair},
    },
    ids::{Entropy, random_32},
};

/// Bytes of a key file: twenty times the largest that any wallet writes.
pub(super) const FILE_BYTES: u64 = 64 * 1024;
/// Bytes that a new file's content stays below, with 24 long words.
const WRITTEN_BYTES: usize = 4096;
/// The number by which key files name sr25519.
pub(super) const SR25519: u8 = 1;
/// The number by which key files name ed25519.
pub(super) const ED25519: u8 = 0;

/// The content of a key file. Public files hold the public fields alone.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret_phrase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret_seed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ss58_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crypto_type: Option<u8>,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        for secret in [&mut self.private_key, &mut self.secret_phrase, &mut self.secret_seed] {
            secret.zeroize();
        }
    }
}

impl KeyFile {
    /// Understands the content of a plain file.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, WalletError> {
        // The first wallets wrote the public half as a bare number.
        if let Some(public) = std::str::from_utf8(text).ok().map(str::trim).filter(|text| text.starts_with("0x")) {
            let mut file = Self::default();
            file.public_key = Some(public.to_owned());
            return Ok(file);
        }
        serde_json::from_slice(text).map_err(|_source| WalletError::malformed(path, "not a JSON object of key fields"))
    }

    /// The file of this key, with the words it was made of.
    pub(super) fn of(keypair: &Keypair, phrase: &str, seed: &[u8; 32]) -> Self {
        let mut file = Self::public_of(&keypair.account());
        let digits = |bytes: &[u8]| Some(format!("0x{}", *Zeroizing::new(hex::encode(bytes))));
        file.private_key = digits(&*keypair.private_bytes());
        file.secret_phrase = Some(phrase.to_owned());
        file.secret_seed = digits(seed);
        file
    }

    /// The public half alone.
    pub(super) fn public_of(account: &Account) -> Self {
        let public_hex = format!("0x{}", hex::encode(account.0));
        let mut file = Self::default();
        file.account_id = Some(public_hex.clone());
        file.public_key = Some(public_hex);
        file.ss58_address = Some(account.to_string());
        file.crypto_type = Some(SR25519);
        file
    }

    /// Whether it holds any secret.
    pub(super) fn has_secret(&self) -> bool {
        [&self.secret_phrase, &self.secret_seed, &self.private_key].iter().any(|secret| given(secret).is_some())
    }

    /// The address that it states, without looking at a secret.
    pub(super) fn account(&self, path: &Path) -> Result<Account, WalletError> {
        let malformed = |detail| WalletError::malformed(path, detail);
        if let Some(address) = self.ss58_address.as_deref() {
            return address.parse().map_err(|_source| malformed("its address is none"));
        }
        let public = self.public_key.as_deref().ok_or_else(|| malformed("it states no address"))?;
        let mut bytes = [0; 32];
        from_hex(public, &mut bytes).map_err(|_source| malformed("its public key is not 32 bytes of hex"))?;
        Ok(crate::ids::Hotkey(bytes))
    }

    /// The key, whose address is the one that the file states.
    pub(super) fn keypair(&self, path: &Path) -> Result<Keypair, WalletError> {
        match self.crypto_type {
            None | Some(SR25519) => {}
            Some(ED25519) => return Err(WalletError::Ed25519 { path: path.to_owned() }),
            Some(_) => return Err(WalletError::Unsupported { path: path.to_owned() }),
        }
        let keypair = self.secret(path)?;
        let derived = keypair.account();
        let (address, public) = (derived.to_string(), hex::encode(derived.0));
        let is_public = |text: &str| text.strip_prefix("0x").unwrap_or(text).eq_ignore_ascii_case(&public);
        let other_address = self.ss58_address.as_ref().filter(|text| **text != address);
        let other_public = [&self.public_key, &self.account_id].into_iter().flatten().find(|text| !is_public(text));
        if let Some(stated) = other_address.or(other_public) {
            let stated = stated.chars().take(70).collect();
            return Err(WalletError::Mismatch { path: path.to_owned(), stated, derived });
        }
        Ok(keypair)
    }

    /// The secret in the reference's order: phrase, else seed, else private key.
    fn secret(&self, path: &Path) -> Result<Keypair, WalletError> {
        let of_key = |source| WalletError::Key { path: path.to_owned(), source };
        if let Some(phrase) = given(&self.secret_phrase) {
            return Keypair::from_phrase(phrase).map_err(of_key);
        }
        if let Some(seed) = given(&self.secret_seed) {
            return Keypair::from_seed(&*seed_bytes(seed).map_err(of_key)?).map_err(of_key);
        }
        if let Some(private) = given(&self.private_key) {
            let mut bytes = Zeroizing::new([0; 64]);
            from_hex(private, &mut *bytes).map_err(of_key)?;
            return Keypair::from_private(&bytes).map_err(of_key);
        }
        Err(WalletError::Unsupported { path: path.to_owned() })
    }
}

fn given(secret: &Option<String>) -> Option<&str> {
    secret.as_deref().filter(|text| !text.is_empty())
}

/// A seed in hex. The reference wallet (4.1.1) writes one whose bytes happen to be UTF-8 as that text, and then
/// cannot read it; its 32 bytes are told from 64 digits by their number.
fn seed_bytes(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    let plain = text.strip_prefix("0x").unwrap_or(text);
    if plain.len() == bytes.len() {
        bytes.copy_from_slice(plain.as_bytes());
    } else {
        from_hex(text, &mut *bytes)?;
    }
    Ok(bytes)
}

fn from_hex(text: &str, bytes: &mut [u8]) -> Result<(), KeyError> {
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), bytes).map_err(|_source| KeyError::Bytes)
}

/// The bytes of a key file.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let io = |act, source| WalletError::Io { act, path: path.to_owned(), source };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let about = match fs::metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(WalletError::Missing { path: path.to_owned() });
        }
        about => about.map_err(|source| io("look at", source))?,
    };
    if !about.is_file() || about.len() > FILE_BYTES {
        return Err(WalletError::malformed(path, "not a small regular file"));
    }
    let file = fs::File::open(path).map_err(|source| io("open", source))?;
    // All room at once, so that no part of a secret is left behind by a growing buffer.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default() + 1));
    file.take(FILE_BYTES).read_to_end(&mut text).map_err(|source| io("read", source))?;
    Ok(text)
}

/// What in the modes of a key file and its folder lets others at it.
pub(super) fn loose_modes(path: &Path) -> Vec<String> {
    let mode_of = |path: &Path| fs::metadata(path).map(|about| about.mode()).unwrap_or_default();
    let folder = path.parent().unwrap_or(path);
    let (file_mode, folder_mode) = (mode_of(path), mode_of(folder));
    let mut found = Vec::new();
    if file_mode & 0o077 != 0 {
        found.push(format!("its mode is {:03o}: others may use it; set it to 600", file_mode & 0o777));
    }
    // With the sticky bit others can add files, but not replace this one.
    if folder_mode & 0o022 != 0 && folder_mode & 0o1000 == 0 {
        found.push(format!("its folder's mode is {:03o}: others may replace it; set it to 700", folder_mode & 0o777));
    }
    found
}

/// The plain content of what `read` gave.
pub(super) fn unlocked(
    path: &Path,
    file: Zeroizing<Vec<u8>>,
    passwords: Option<&Passwords>,
) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let Some(lock) = Lock::of(&file) else {
        return Ok(file);
    };
    let kind = lock.name();
    let candidates = passwords.map(|ask| ask(path)).transpose()?.unwrap_or_default();
    if candidates.is_empty() {
        return Err(WalletError::Encrypted { path: path.to_owned(), kind });
    }
    for password in &candidates {
        match lock.open(&file, password) {
            Ok(content) => return Ok(content),
            Err(Refusal::Password) => {}
            Err(refusal) => return Err(refused(path, refusal)),
        }
    }
    Err(WalletError::WrongPassword { path: path.to_owned(), kind })
}

fn refused(path: &Path, refusal: Refusal) -> WalletError {
    match refusal {
        Refusal::Password => WalletError::malformed(path, "it does not open"),
        Refusal::Form(detail) => WalletError::malformed(path, detail),
        Refusal::Memory => WalletError::Memory { path: path.to_owned(), mib: locked::NACL_MIB },
    }
}

/// The text of a new file: plain, or of the NaCl form with a password.
pub(super) fn text_of(
    path: &Path,
    content: &KeyFile,
    password: Option<&Password>,
    entropy: &dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let io = |source: serde_json::Error| WalletError::Io { act: "write", path: path.to_owned(), source: source.into() };
    let mut plain = Zeroizing::new(Vec::with_capacity(WRITTEN_BYTES));
    serde_json::to_writer(&mut *plain, content).map_err(io)?;
    let Some(password) = password else {
        return Ok(plain);
    };
    password.for_new_key()?;
    locked::seal(&plain, password, entropy).map(Zeroizing::new).map_err(|refusal| refused(path, refusal))
}

/// Makes the file in one step: afterwards it is there whole, or not at all, and never in place of another.
pub(super) fn write_new(path: &Path, text: &[u8], entropy: &dyn Entropy) -> Result<(), WalletError> {
    let io = |act, source| WalletError::Io { act, path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| io("make the folder of", source))?;
    let beside = Beside(folder.join(format!(".{}.new", hex::encode(&random_32(entropy)[..8]))));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside.0)
        .map_err(|source| io("write beside", source))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(|source| io("write", source))?;
    // A second name for the same file, refused by the system when the name is taken.
    match fs::hard_link(&beside.0, path) {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            return Err(WalletError::Exists { path: path.to_owned() });
        }
        linked => linked.map_err(|source| io("create", source))?,
    }
    drop(beside);
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io("keep", source))
}

/// A file under its passing name, which ends with this value.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // What cannot be removed is a second name of the same file with the same mode.
        drop(fs::remove_file(&self.0));
    }
}

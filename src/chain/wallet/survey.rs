//! What lies in a folder of wallets, told without giving away any secret.
//!
//! Owns the names of the files and what is said of each. Refuses to ask for passwords unless they are handed in.
//! `cli` shows it; the files of this room use the names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tracing::warn;

use super::{
    WalletError,
    file::{self, ED25519, KeyFile, SR25519},
    locked::Lock,
    password::Passwords,
};
use crate::{chain::Account, fault::Fault};

/// The file of the coldkey in a wallet's folder.
pub(super) const COLDKEY: &str = "coldkey";
/// The folder of the hotkeys in a wallet's folder.
pub(super) const HOTKEYS: &str = "hotkeys";
/// What the name of a public half ends with.
const PUBLIC: &str = "pub.txt";
/// Entries of one folder that are looked at: ten times what anybody has, and it answers within a second.
pub(super) const ENTRIES: usize = 4096;

/// In which form a key file keeps its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// Readable by whoever reads the file.
    Plain,
    /// Encrypted as Bittensor's present wallets do it.
    Nacl,
    /// Encrypted as older ones did it.
    AnsibleVault,
    /// Encrypted as the first ones did it.
    Fernet,
    /// There is none: only the public half is here.
    None,
    /// The file cannot be read, so that nobody knows.
    Unknown,
}

impl Secret {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Nacl => "NaCl",
            Self::AnsibleVault => "Ansible vault",
            Self::Fernet => "Fernet",
            Self::None => "not here",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Lock> for Secret {
    fn from(lock: Lock) -> Self {
        match lock {
            Lock::Nacl => Self::Nacl,
            Lock::AnsibleVault => Self::AnsibleVault,
            Lock::Fernet => Self::Fernet,
        }
    }
}

/// What is known of one key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// `coldkey`, or the hotkey's name.
    pub name: String,
    /// The file that was looked at: of the secret, or else of the public half.
    pub file: PathBuf,
    /// The address.
    pub address: Option<Account>,
    /// Whether the address was computed from the secret, and not only read.
    pub proved: bool,
    /// The form of the secret.
    pub secret: Secret,
    /// `sr25519` or `ed25519`, where the file says so or was opened.
    pub kind: Option<&'static str>,
    /// What should be otherwise.
    pub warnings: Vec<String>,
    /// Why the key cannot be used.
    pub fault: Option<Fault>,
}

/// A wallet's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalletView {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The coldkey, if any of its files is here.
    pub coldkey: Option<KeyView>,
    /// The hotkeys by name.
    pub hotkeys: Vec<KeyView>,
}

/// Every wallet below the folder, by name.
///
/// # Errors
/// When the folder cannot be read. A wallet that cannot is told as such in its place.
pub fn list(base: &Path) -> Result<Vec<WalletView>, WalletError> {
    let names = shown(base)?;
    Ok(names.iter().map(|name| base.join(name)).filter(|path| path.is_dir()).map(|path| look(&path, None)).collect())
}

/// The wallet in this folder. With passwords, encrypted keys are opened too.
#[must_use]
pub fn look(folder: &Path, passwords: Option<&Passwords>) -> WalletView {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let coldkey = key_view(&folder.join(COLDKEY), passwords);
    let mut hotkeys = Vec::new();
    for name in hotkey_names(&folder.join(HOTKEYS)) {
        hotkeys.extend(key_view(&folder.join(HOTKEYS).join(name), passwords));
    }
    if let Some(address) = coldkey.as_ref().and_then(|key| key.address) {
        for hotkey in hotkeys.iter_mut().filter(|hotkey| hotkey.address == Some(address)) {
            hotkey.warnings.push("it is the coldkey: a validator does not run with it".to_owned());
        }
    }
    WalletView { name, folder: folder.to_owned(), coldkey, hotkeys }
}

/// The public half beside a key file.
pub(super) fn public_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PUBLIC);
    path.with_file_name(name)
}

/// The address that the files of a key state: a plain file itself, or the public half beside it.
pub(super) fn stated(path: &Path) -> Option<Account> {
    let of = |path: &Path| {
        let text = file::read(path).ok()?;
        KeyFile::parse(path, &text).ok()?.account(path).ok()
    };
    of(path).or_else(|| of(&public_path(path)))
}

/// The coldkey below `base` whose file this is, under whichever name.
pub(super) fn coldkey_of_same_file(base: &Path, path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    coldkeys(base).find(|coldkey| fs::canonicalize(coldkey).is_ok_and(|coldkey| coldkey == real))
}

/// The coldkey below `base` with this address.
pub(super) fn coldkey_of_account(base: &Path, account: &Account) -> Option<PathBuf> {
    coldkeys(base).find(|coldkey| stated(coldkey).is_some_and(|address| address == *account))
}

fn coldkeys(base: &Path) -> impl Iterator<Item = PathBuf> {
    let names = entries(base).unwrap_or_default();
    let base = base.to_owned();
    names.into_iter().map(move |name| base.join(name).join(COLDKEY))
}

/// The names that are shown of a folder. That some are left out is said.
fn shown(folder: &Path) -> Result<Vec<String>, WalletError> {
    let mut names = entries(folder)?;
    if names.len() > ENTRIES {
        warn!(folder = %folder.display(), "only {ENTRIES} of its {} entries are looked at", names.len());
        names.truncate(ENTRIES);
    }
    Ok(names)
}

/// The readable names in a folder, sorted. Hidden ones are left out.
fn entries(folder: &Path) -> Result<Vec<String>, WalletError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => WalletError::Missing { path: folder.to_owned() },
        _ => WalletError::Io { act: "list", path: folder.to_owned(), source },
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name().into_string();
        names.extend(name.ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

/// The hotkeys of a wallet: their secrets' files, and public halves whose secret is elsewhere.
fn hotkey_names(folder: &Path) -> Vec<String> {
    let mut names = shown(folder).unwrap_or_default();
    for name in &mut names {
        if let Some(stem) = name.strip_suffix(PUBLIC).filter(|stem| !stem.is_empty()) {
            *name = stem.to_owned();
        }
    }
    names.sort();
    names.dedup();
    names
}

/// What is known of the key with this file; `None` when it has no file at all.
fn key_view(path: &Path, passwords: Option<&Passwords>) -> Option<KeyView> {
    let public = public_path(path);
    let has_secret_file = path.symlink_metadata().is_ok();
    if !has_secret_file && public.symlink_metadata().is_err() {
        return None;
    }
    let mut view = KeyView {
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        file: if has_secret_file { path.to_owned() } else { public.clone() },
        address: None,
        proved: false,
        secret: if has_secret_file { Secret::Unknown } else { Secret::None },
        kind: None,
        warnings: Vec::new(),
        fault: None,
    };
    if has_secret_file {
        view.warnings = file::loose_modes(path);
        view.fault = look_inside(&mut view, path, passwords).err().map(|error| error.fault());
    }
    if public.symlink_metadata().is_ok() {
        let beside = look_beside(&mut view, &public).err().map(|error| error.fault());
        view.fault = view.fault.or(beside);
    }
    Some(view)
}

fn look_inside(view: &mut KeyView, path: &Path, passwords: Option<&Passwords>) -> Result<(), WalletError> {
    let bytes = file::read(path)?;
    if let Some(lock) = Lock::of(&bytes) {
        view.secret = lock.into();
        if passwords.is_none() {
            return Ok(());
        }
    }
    let text = file::unlocked(path, bytes, passwords)?;
    let content = KeyFile::parse(path, &text)?;
    if view.secret == Secret::Unknown {
        view.secret = if content.has_secret() { Secret::Plain } else { Secret::None };
    }
    view.kind = match content.crypto_type.unwrap_or(SR25519) {
        SR25519 => Some("sr25519"),
        ED25519 => Some("ed25519"),
        _ => None,
    };
    view.address = content.account(path).ok();
    view.address = Some(content.keypair(path)?.account());
    view.proved = true;
    Ok(())
}

fn look_beside(view: &mut KeyView, public: &Path) -> Result<(), WalletError> {
    let text = file::read(public)?;
    let stated = KeyFile::parse(public, &text)?.account(public)?;
    match view.address {
        Some(derived) if derived != stated => {
            Err(WalletError::Mismatch { path: public.to_owned(), stated: stated.to_string(), derived })
        }
        _ => {
            view.address = Some(stated);
            Ok(())
        }
    }
}

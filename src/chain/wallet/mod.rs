//! Wallet files of Bittensor: finding, reading, writing.
//!
//! Owns the layout of the folder and every form of a key file. Refuses to know where the folder is and where passwords
//! come from: the caller gives both. `cli` calls it at start; nothing else reads keys.

mod error;
mod file;
mod locked;
mod password;
mod survey;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use subxt_signer::bip39::Mnemonic;
use tracing::warn;
use zeroize::Zeroizing;

pub use error::WalletError;
pub use password::{
    PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN, Password, Passwords, VARIABLE_PREFIX, of_variable, variable_of,
};
pub use survey::{KeyView, Secret, WalletView, list, look};

use self::file::KeyFile;
use super::{
    Account,
    keypair::{KeyError, Keypair, seed_of_phrase},
};
use crate::ids::Entropy;

/// Characters of a wallet's or hotkey's name.
const NAME_CHARS: usize = 64;
/// Random bytes behind a new phrase of twelve words.
const ENTROPY_BYTES: usize = 16;

/// A new key with the words it was made of, which are shown once to whoever owns it.
#[derive(Debug)]
pub struct NewKey {
    /// The key.
    pub keypair: Keypair,
    /// The words.
    pub phrase: Phrase,
}

/// The words of a key. It has no `Display`, its `Debug` shows nothing, and it is overwritten when it is dropped.
pub struct Phrase(Zeroizing<String>);

impl Phrase {
    /// The words, for the one place that shows them.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Phrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Phrase(…)")
    }
}

/// One wallet and one of its hotkeys, by name. Nothing is read before it is asked for.
#[derive(Clone)]
pub struct Wallet {
    base: PathBuf,
    folder: PathBuf,
    hotkey: String,
    passwords: Option<Arc<Passwords>>,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet").field("folder", &self.folder).field("hotkey", &self.hotkey).finish_non_exhaustive()
    }
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
        Ok(Self { base: base.to_owned(), folder: base.join(name), hotkey: hotkey.to_owned(), passwords: None })
    }

    /// The same wallet, whose encrypted files are opened with these passwords.
    #[must_use]
    pub fn with_passwords(self, passwords: Arc<Passwords>) -> Self {
        Self { passwords: Some(passwords), ..self }
    }

    /// The folder of the wallet.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the hotkey.
    #[must_use]
    pub fn hotkey_path(&self) -> PathBuf {
        self.folder.join(survey::HOTKEYS).join(&self.hotkey)
    }

    /// The file of the coldkey.
    #[must_use]
    pub fn coldkey_path(&self) -> PathBuf {
        self.folder.join(survey::COLDKEY)
    }

    /// Reads the hotkey.
    ///
    /// # Errors
    /// When the file is missing, does not open, or is not what it says.
    pub fn hotkey(&self) -> Result<Keypair, WalletError> {
        self.open(&self.hotkey_path())
    }

    /// Reads the hotkey for a process that stays up and signs by itself. A coldkey has no business there: it would
    /// put everything it owns on a machine that strangers talk to.
    ///
    /// # Errors
    /// As [`Wallet::hotkey`], and when the hotkey is the coldkey of a wallet below the same folder.
    pub fn validator(&self) -> Result<Keypair, WalletError> {
        let path = self.hotkey_path();
        let is_coldkey = |coldkey| WalletError::IsColdkey { path: path.clone(), coldkey };
        if let Some(coldkey) = survey::coldkey_of_same_file(&self.base, &path) {
            return Err(is_coldkey(coldkey));
        }
        let keypair = self.hotkey()?;
        match survey::coldkey_of_account(&self.base, &keypair.account()) {
            Some(coldkey) => Err(is_coldkey(coldkey)),
            None => Ok(keypair),
        }
    }

    /// Reads the coldkey. Only the miner verbs that pay need it; a validator never does.
    ///
    /// # Errors
    /// When the file is missing, does not open, or is not what it says.
    pub fn coldkey(&self) -> Result<Keypair, WalletError> {
        self.open(&self.coldkey_path())
    }

    /// The hotkey's address as the files state it. Asks for no password.
    #[must_use]
    pub fn hotkey_account(&self) -> Option<Account> {
        survey::stated(&self.hotkey_path())
    }

    /// The coldkey's address as the files state it. Asks for no password.
    #[must_use]
    pub fn coldkey_account(&self) -> Option<Account> {
        survey::stated(&self.coldkey_path())
    }

    /// Creates the hotkey with a new phrase, in plain form, readable by the owner alone.
    ///
    /// # Errors
    /// When one of its files exists or cannot be written.
    pub fn create_hotkey(&self, entropy: &dyn Entropy) -> Result<NewKey, WalletError> {
        create(&self.hotkey_path(), None, entropy)
    }

    /// Creates the coldkey with a new phrase, encrypted with the password, readable by the owner alone.
    ///
    /// # Errors
    /// When one of its files exists or cannot be written, or the password is too weak.
    pub fn create_coldkey(&self, entropy: &dyn Entropy, password: &Password) -> Result<NewKey, WalletError> {
        create(&self.coldkey_path(), Some(password), entropy)
    }

    /// Creates the coldkey in plain form. For development and small sums: the file is as good as the funds.
    ///
    /// # Errors
    /// When one of its files exists or cannot be written.
    pub fn create_plain_coldkey(&self, entropy: &dyn Entropy) -> Result<NewKey, WalletError> {
        create(&self.coldkey_path(), None, entropy)
    }

    fn open(&self, path: &Path) -> Result<Keypair, WalletError> {
        let bytes = file::read(path)?;
        for loose in file::loose_modes(path) {
            warn!(path = %path.display(), "a key file is not safe: {loose}");
        }
        let text = file::unlocked(path, bytes, self.passwords.as_deref())?;
        KeyFile::parse(path, &text)?.keypair(path)
    }
}

fn create(path: &Path, password: Option<&Password>, entropy: &dyn Entropy) -> Result<NewKey, WalletError> {
    let of_key = |source| WalletError::Key { path: path.to_owned(), source };
    let public = survey::public_path(path);
    // A lone public file belongs to a key that is kept elsewhere; a second secret beside it would contradict it.
    if let Some(taken) = [path, &public].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(WalletError::Exists { path: taken.to_owned() });
    }
    let mut random = Zeroizing::new([0; ENTROPY_BYTES]);
    entropy.fill(&mut *random);
    let mnemonic = Mnemonic::from_entropy(&*random).map_err(|_source| of_key(KeyError::Phrase))?;
    let phrase = Phrase(Zeroizing::new(mnemonic.to_string()));
    let seed = seed_of_phrase(phrase.reveal(), "").map_err(of_key)?;
    let keypair = Keypair::from_seed(&seed).map_err(of_key)?;
    let whole = file::text_of(path, &KeyFile::of(&keypair, phrase.reveal(), &seed), password, entropy)?;
    file::write_new(path, &whole, entropy)?;
    let half = file::text_of(&public, &KeyFile::public_of(&keypair.account()), None, entropy)?;
    file::write_new(&public, &half, entropy)?;
    Ok(NewKey { keypair, phrase })
}

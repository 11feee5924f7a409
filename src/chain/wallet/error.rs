//! What can be wrong with a key file.
//!
//! Owns the words and which code each belongs to. Refuses to hold any part of a secret. Only this room raises them.

use std::path::{Path, PathBuf};

use crate::{
    chain::{Account, codes, keypair::KeyError},
    fault::Fault,
};

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
    /// The file is encrypted, and nobody gave a password.
    #[error("{path} is encrypted ({kind}), and no password was given")]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// The kind of encryption.
        kind: &'static str,
    },
    /// No password that was given opens the file.
    #[error("the password does not open {path} ({kind}), or the file is damaged")]
    WrongPassword {
        /// The file.
        path: PathBuf,
        /// The kind of encryption.
        kind: &'static str,
    },
    /// A password that cannot be used.
    #[error("the password cannot be used: {detail}")]
    Password {
        /// What is wrong; never the password.
        detail: String,
    },
    /// The memory that the form of encryption asks for is not there.
    #[error("{path} needs {mib} MiB of memory to be opened or made, which this machine does not give")]
    Memory {
        /// The file.
        path: PathBuf,
        /// How much.
        mib: u32,
    },
    /// The file is not a key file.
    #[error("{path} is not a key file: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never its content.
        detail: &'static str,
    },
    /// The file holds no secret.
    #[error("{path} holds no sr25519 secret")]
    Unsupported {
        /// The file.
        path: PathBuf,
    },
    /// The file's key is an ed25519 one.
    #[error("{path} holds an ed25519 key, and only sr25519 keys sign here")]
    Ed25519 {
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
    /// The hotkey is somebody's coldkey.
    #[error("the hotkey {path} is the coldkey {coldkey}")]
    IsColdkey {
        /// The file of the hotkey.
        path: PathBuf,
        /// The file of the coldkey.
        coldkey: PathBuf,
    },
}

impl WalletError {
    /// A file that is not what it should be.
    pub(super) fn malformed(path: &Path, detail: &'static str) -> Self {
        Self::Malformed { path: path.to_owned(), detail }
    }

    /// The failure as it is recorded. It never holds any part of a secret.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let code = match self {
            Self::Missing { .. } | Self::Name { .. } => codes::WALLET_MISSING,
            Self::Io { .. } => codes::WALLET_UNREADABLE,
            Self::Exists { .. } => codes::WALLET_EXISTS,
            Self::Encrypted { .. } => codes::WALLET_ENCRYPTED,
            Self::WrongPassword { .. } => codes::WALLET_PASSWORD_WRONG,
            Self::Password { .. } => codes::WALLET_PASSWORD_UNUSABLE,
            Self::Memory { .. } => codes::WALLET_MEMORY,
            Self::Malformed { .. } | Self::Key { .. } => codes::WALLET_MALFORMED,
            Self::Unsupported { .. } => codes::WALLET_UNSUPPORTED,
            Self::Ed25519 { .. } => codes::WALLET_ED25519,
            Self::Mismatch { .. } => codes::WALLET_MISMATCH,
            Self::IsColdkey { .. } => codes::WALLET_IS_COLDKEY,
        };
        let mut detail = self.to_string();
        if let Some(source) = std::error::Error::source(self) {
            detail.push_str(": ");
            detail.push_str(&source.to_string());
        }
        code.because(detail)
    }
}

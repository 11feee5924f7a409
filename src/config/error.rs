//! What configuration can fail at, and the codes under which a person meets it.

use std::{io, path::PathBuf};

use super::Place;
use crate::fault::{Class, Code, Fault};

/// A settings file cannot be read.
pub const SETTINGS_UNREADABLE: Code = Code::new(
    Class::Operator,
    "settings_unreadable",
    "a settings file or profile cannot be read",
    "check the path and the permissions; `waag init` writes a new settings file",
);
/// A settings file or profile is too large.
pub const SETTINGS_TOO_LARGE: Code = Code::new(
    Class::Operator,
    "settings_too_large",
    "a settings file or profile is larger than it may be",
    "check that it is the right file",
);
/// A settings file is no TOML.
pub const SETTINGS_SYNTAX: Code = Code::new(
    Class::Operator,
    "settings_syntax",
    "the settings are not valid TOML",
    "correct the named line; `waag init` writes a file that is valid",
);
/// A setting does not exist.
pub const SETTINGS_UNKNOWN_KEY: Code = Code::new(
    Class::Operator,
    "settings_unknown_key",
    "there is no such setting",
    "`waag config show` lists every setting",
);
/// A setting has a value that it cannot have.
pub const SETTINGS_INVALID: Code = Code::new(
    Class::Operator,
    "settings_invalid",
    "a setting has a value that it cannot have",
    "the comment above the setting in the file that `waag init` writes says what it can be",
);
/// A file with a secret can be read by others.
pub const SECRET_FILE_LOOSE: Code = Code::new(
    Class::Operator,
    "secret_file_loose",
    "a file with a secret can be read by others",
    "take their access away: `chmod 600 FILE`",
);
/// A file with a secret cannot be read.
pub const SECRET_FILE_UNREADABLE: Code = Code::new(
    Class::Operator,
    "secret_file_unreadable",
    "a file with a secret cannot be read or is empty",
    "check the path that the `…_file` setting names",
);
/// A profile is no TOML.
pub const PROFILE_SYNTAX: Code = Code::new(
    Class::Operator,
    "profile_syntax",
    "the profile is not valid TOML",
    "correct the named line; `waag profile check FILE` tries again",
);
/// A profile has a key that does not exist.
pub const PROFILE_UNKNOWN_KEY: Code = Code::new(
    Class::Operator,
    "profile_unknown_key",
    "a profile has a key or word that does not exist",
    "`waag help profile` explains every key",
);
/// A profile has a value that it cannot have.
pub const PROFILE_INVALID: Code = Code::new(
    Class::Operator,
    "profile_invalid",
    "a profile has a value that it cannot have",
    "`waag help profile` explains every key",
);
/// A profile picks a part that does not exist, or gives it options that it does not take.
pub const PROFILE_PART: Code = Code::new(
    Class::Operator,
    "profile_part",
    "a profile picks a part that does not exist, or gives it options that it does not take",
    "`waag help profile` lists the parts and their options",
);
/// There is no profile of this name.
pub const PROFILE_MISSING: Code = Code::new(
    Class::Operator,
    "profile_missing",
    "there is no profile of this name",
    "give the path of a profile file, or one of the embedded names",
);
/// Several profiles cannot be served together.
pub const PROFILES_CLASH: Code = Code::new(
    Class::Operator,
    "profiles_clash",
    "the profiles cannot be served together",
    "give each its own slug, and shares that add up to at most 1",
);

/// The codes of this room.
pub const CODES: &[Code] = &[
    SETTINGS_UNREADABLE,
    SETTINGS_TOO_LARGE,
    SETTINGS_SYNTAX,
    SETTINGS_UNKNOWN_KEY,
    SETTINGS_INVALID,
    SECRET_FILE_LOOSE,
    SECRET_FILE_UNREADABLE,
    PROFILE_SYNTAX,
    PROFILE_UNKNOWN_KEY,
    PROFILE_INVALID,
    PROFILE_PART,
    PROFILE_MISSING,
    PROFILES_CLASH,
];

/// What configuration can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A text is too large.
    #[error("{origin} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// The file, or what else the text is called.
        origin: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A settings file has a mistake.
    #[error("{place}: {what}")]
    Settings {
        /// Which kind of mistake.
        code: Code,
        /// Where: a place in a file, a variable or a flag.
        place: String,
        /// What is wrong, with what was probably meant.
        what: String,
    },
    /// A profile has a mistake.
    #[error("{place}: {what}")]
    Profile {
        /// Which kind of mistake.
        code: Code,
        /// Where.
        place: Place,
        /// What is wrong, with what was probably meant.
        what: String,
    },
    /// There is no profile of this name.
    #[error("there is no profile `{name}`; embedded are {embedded}")]
    ProfileMissing {
        /// What was asked for.
        name: String,
        /// The embedded names.
        embedded: String,
    },
    /// Profiles cannot be served together.
    #[error("{why}")]
    Clash {
        /// Why not.
        why: String,
    },
    /// A file with a secret can be read by others.
    #[error("`{}` has mode {mode:03o}: others can read or write it", path.display())]
    SecretLoose {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file with a secret is empty.
    #[error("`{}` is empty", path.display())]
    SecretEmpty {
        /// Which file.
        path: PathBuf,
    },
    /// A file with a secret cannot be read.
    #[error("cannot read the secret in `{}`: {source}", path.display())]
    SecretUnreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The layers of the settings could not be put together, although each was checked.
    #[error("the settings do not fit together: {0}")]
    Layers(#[from] config::ConfigError),
}

impl Error {
    /// The code under which a person meets this failure.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } => SETTINGS_UNREADABLE,
            Self::TooLarge { .. } => SETTINGS_TOO_LARGE,
            Self::Settings { code, .. } | Self::Profile { code, .. } => *code,
            Self::ProfileMissing { .. } => PROFILE_MISSING,
            Self::Clash { .. } => PROFILES_CLASH,
            Self::SecretLoose { .. } => SECRET_FILE_LOOSE,
            Self::SecretEmpty { .. } | Self::SecretUnreadable { .. } => SECRET_FILE_UNREADABLE,
            Self::Layers(_) => SETTINGS_INVALID,
        }
    }

    /// The failure as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.code().because(self.to_string())
    }
}

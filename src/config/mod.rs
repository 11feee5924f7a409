//! Settings and profiles: what the operator says, checked before anything starts.
//!
//! Owns the schema of both, the order of the layers and where each value came from. Refuses to read the environment,
//! the arguments or the home directory: those are handed in. `cli/` loads them; every room may read the result.

mod bittensor;
mod error;
mod layers;
mod place;
pub mod profile;
mod secret;
pub mod settings;
#[cfg(test)]
mod tests;

use std::{fs::File, io::Read as _, path::Path};

pub use self::{
    bittensor::{ALIASES, Alias},
    error::{CODES, Error},
    layers::{Given, Loaded, Shown, Sources, Value, init_text, load},
    place::Place,
    profile::Profile,
    secret::{SECRET_FILE_BYTES, Secret},
    settings::Settings,
};
use crate::limits::CONFIG_FILE_BYTES;

/// Sections of which a profile may set defaults.
pub const PROFILE_SECTIONS: &[&str] = &["slots", "weights"];

/// The text of a settings file or profile.
///
/// # Errors
/// When it cannot be read or is larger than such a file may be.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let read = File::open(path)
        .and_then(|file| file.take(CONFIG_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(unreadable)? as u64;
    if read > CONFIG_FILE_BYTES {
        let origin = path.display().to_string();
        return Err(Error::TooLarge { origin, bytes: read, limit: CONFIG_FILE_BYTES });
    }
    Ok(text)
}

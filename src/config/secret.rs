//! Values that must not be seen.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::Error;

/// Bytes of a file with a secret: many times the longest key.
pub const SECRET_FILE_BYTES: u64 = 64 * 1024;

/// A secret from a file: it cannot be displayed or serialised, and its memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a secret text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads a secret from a file that only its owner can read. A final line break is not part of it.
    ///
    /// # Errors
    /// When others can read or write the file, or it is unreadable, empty or too large.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::SecretUnreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        check_mode(path, &file.metadata().map_err(unreadable)?)?;
        let mut text = Zeroizing::new(String::new());
        let read = file.take(SECRET_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if read as u64 > SECRET_FILE_BYTES {
            return Err(unreadable(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        let trimmed = text.strip_suffix('\n').unwrap_or(&text);
        let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
        if trimmed.is_empty() {
            return Err(Error::SecretEmpty { path: path.to_owned() });
        }
        Ok(Self::new(trimmed.to_owned()))
    }

    /// The text itself. Every use is a place to look at twice.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(Error::SecretLoose { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _metadata: &Metadata) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("secret");
        std::fs::write(&path, text).expect("written");
        set_mode(&path, 0o600);
        (dir, path)
    }

    fn set_mode(path: &Path, mode: u32) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our file");
        }
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        for text in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let (_dir, path) = file(text);
            let secret = Secret::read(&path).expect("readable");
            assert_eq!(secret.reveal(), "s3cret");
            assert!(!format!("{secret:?}").contains("s3cret"));
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_others_can_read_or_write_is_refused() {
        let (_dir, path) = file("s3cret");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_mode(&path, mode);
            let refusal = Secret::read(&path).expect_err("loose");
            assert_eq!(refusal.code().name, "secret_file_loose");
            assert!(refusal.to_string().contains(&format!("{mode:o}")), "{refusal}");
        }
        set_mode(&path, 0o400);
        Secret::read(&path).expect("tight");
    }

    #[test]
    fn a_secret_that_is_empty_missing_or_huge_is_refused() {
        let most = usize::try_from(SECRET_FILE_BYTES).expect("it fits");
        for text in ["", "\n", &"x".repeat(most + 1)] {
            let (_dir, path) = file(text);
            let refusal = Secret::read(&path).expect_err("unusable");
            assert_eq!(refusal.code().name, "secret_file_unreadable");
        }
        let (_dir, path) = file(&"x".repeat(most));
        Secret::read(&path).expect("it fits");
        let missing = Secret::read(&path.with_extension("gone")).expect_err("missing");
        assert_eq!(missing.code().name, "secret_file_unreadable");
    }
}

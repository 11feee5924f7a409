//! Where passwords of key files come from: a file that is named, a variable, or the terminal.
//!
//! Owns their order and the terminal without echo. Refuses to know what they open. `context` hands them to wallets.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tracing::warn;
use zeroize::{Zeroize as _, Zeroizing};

use crate::chain::{
    WalletError,
    wallet::{PASSWORD_BYTES_MAX, Password, Passwords, VARIABLE_PREFIX, of_variable, variable_of},
};

/// Bytes of a line typed on a terminal: what the system itself keeps of one.
const LINE_BYTES: usize = 4096;

/// What a run was given to find passwords with.
#[derive(Clone)]
pub struct Given {
    file: Option<PathBuf>,
    variables: BTreeMap<String, String>,
}

impl Given {
    /// Keeps the file's name and the reference wallet's variables.
    #[must_use]
    pub fn new(file: Option<PathBuf>, env: &BTreeMap<String, String>) -> Self {
        let own = env.iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX));
        Self { file, variables: own.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// The passwords to try for an existing key file.
    #[must_use]
    pub fn source(self) -> Arc<Passwords> {
        Arc::new(move |path| self.of(path))
    }

    fn of(&self, path: &Path) -> Result<Vec<Password>, WalletError> {
        if let Some(file) = &self.file {
            return Ok(vec![read_file(file)?]);
        }
        // The reference wallet names the path as it was given; a service may rather know the whole one.
        let whole = std::path::absolute(path).unwrap_or_else(|_source| path.to_owned());
        for name in [variable_of(path), variable_of(&whole)] {
            if let Some(value) = self.variables.get(&name) {
                return of_variable(&name, value);
            }
        }
        Ok(ask(&format!("password of {}: ", path.display()))?.into_iter().collect())
    }

    /// The password of a key file that is to be made; `None` when nobody can be asked. A variable does not count: it
    /// may hold a hidden or a plain text, and a new file cannot tell which.
    ///
    /// # Errors
    /// When it cannot be read, or the two answers differ.
    pub fn new_password(&self, path: &Path) -> Result<Option<Password>, WalletError> {
        if let Some(file) = &self.file {
            return read_file(file).map(Some);
        }
        let Some(first) = ask(&format!("new password for {}: ", path.display()))? else {
            return Ok(None);
        };
        first.for_new_key()?;
        match ask("the same again: ")? {
            Some(second) if second.is(&first) => Ok(Some(first)),
            _ => Err(unusable("the two answers differ")),
        }
    }
}

fn unusable(detail: impl Into<String>) -> WalletError {
    WalletError::Password { detail: detail.into() }
}

/// The password in a file, without the line break at its end.
fn read_file(path: &Path) -> Result<Password, WalletError> {
    let failed = |source: io::Error| unusable(format!("cannot read {}: {source}", path.display()));
    let about = std::fs::metadata(path).map_err(failed)?;
    // Below `/dev/fd` and `/run/credentials` a pipe is as good as a file.
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        warn!(path = %path.display(), "others may use the password file; set its mode to 600");
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    // One line break more than a password, and one byte to see that there is too much.
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_BYTES_MAX + 3));
    file.take(PASSWORD_BYTES_MAX as u64 + 3).read_to_string(&mut text).map_err(failed)?;
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).unwrap_or(&text);
    Password::new(Zeroizing::new(line.to_owned()))
}

/// Asks on the terminal without echo; `None` when stdin is no terminal. White space around the answer is dropped, as
/// the reference wallet's prompt does.
fn ask(question: &str) -> Result<Option<Password>, WalletError> {
    let failed = |source: io::Error| unusable(format!("cannot ask for it: {source}"));
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let quiet = Quiet::begin().map_err(failed)?;
    drop(write!(io::stderr().lock(), "{question}"));
    let line = read_line().map_err(failed)?;
    drop(quiet);
    Password::new(Zeroizing::new(line.trim().to_owned())).map(Some)
}

/// Reads a line from the system itself: the standard library's buffer would keep a copy.
fn read_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES));
    let mut byte = [0];
    while line.len() < LINE_BYTES && read_byte(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    byte.zeroize();
    let text = std::str::from_utf8(&line).map_err(|_source| io::Error::other("the answer is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_byte(byte: &mut [u8; 1]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut *byte))?)
}

/// A terminal that shows nothing of what is typed but the end of the line, for as long as this value lives.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone away needs no mending.
        let _mended = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(file: Option<&Path>, variables: &[(&str, &str)]) -> Given {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Given::new(file.map(Path::to_owned), &env)
    }

    fn is(found: &[Password], text: &str) -> bool {
        found.len() == 1 && found[0].is(&Password::new(Zeroizing::new(text.to_owned())).unwrap())
    }

    #[test]
    fn a_file_counts_before_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let variables = [("BT_PW__W_X_COLDKEY", "a variable"), ("OTHER", "unused")];
        for (text, wanted) in [("a file", "a file"), ("a file\n", "a file"), ("a\r\n", "a"), (" a \n\n", " a \n")] {
            std::fs::write(&file, text).unwrap();
            assert!(is(&given(Some(&file), &variables).of(Path::new("/w/x/coldkey")).unwrap(), wanted), "{text:?}");
        }
        let from_variable = given(None, &variables).of(Path::new("/w/x/coldkey")).unwrap();
        assert!(is(&from_variable, "a variable"));
    }

    #[test]
    fn password_files_are_bounded_at_the_edge() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let read = |text: String| {
            std::fs::write(&file, text).unwrap();
            given(Some(&file), &[]).of(Path::new("x")).map_err(|error| error.fault().code)
        };
        assert!(read("x".repeat(PASSWORD_BYTES_MAX) + "\r\n").is_ok());
        for wrong in ["x".repeat(PASSWORD_BYTES_MAX + 1), "x".repeat(1024 * 1024), "\n".to_owned(), String::new()] {
            assert_eq!(read(wrong).unwrap_err(), "wallet_password_unusable");
        }
        assert!(given(Some(Path::new("/no/such/file")), &[]).of(Path::new("x")).is_err());
    }
}

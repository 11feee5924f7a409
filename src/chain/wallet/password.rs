//! Passwords of key files, and the variables in which Bittensor's tools keep them.
//!
//! Owns what may be a password and how a variable is named and read. Refuses to know where passwords come from: `cli`
//! reads files, terminals and the environment. Only this room and `cli` use it.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize as _, Zeroizing};

use super::WalletError;

/// Bytes of a password: ten times the longest that anybody types.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Bytes of a password that protects a new key: what the reference wallet asks for.
pub const PASSWORD_BYTES_MIN: usize = 6;
/// How the reference wallet's variables begin.
pub const VARIABLE_PREFIX: &str = "BT_PW_";

/// A password. It has no `Display`, its `Debug` shows nothing, and it is overwritten when it is dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// The password of this text.
    ///
    /// # Errors
    /// When it is empty or longer than [`PASSWORD_BYTES_MAX`].
    pub fn new(text: Zeroizing<String>) -> Result<Self, WalletError> {
        let unusable = |detail: String| Err(WalletError::Password { detail });
        if text.is_empty() {
            return unusable("it is empty".to_owned());
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return unusable(format!("it has {} bytes, and {PASSWORD_BYTES_MAX} are the most", text.len()));
        }
        Ok(Self(text))
    }

    /// Whether it may protect a new key.
    ///
    /// # Errors
    /// When it is shorter than [`PASSWORD_BYTES_MIN`], or begins or ends with white space: the reference wallet's
    /// prompt drops that, and the file could not be opened there.
    pub fn for_new_key(&self) -> Result<(), WalletError> {
        let unusable = |detail: String| Err(WalletError::Password { detail });
        if self.0.len() < PASSWORD_BYTES_MIN {
            return unusable(format!("it has {} bytes, and {PASSWORD_BYTES_MIN} are the least", self.0.len()));
        }
        if self.0.trim().len() != self.0.len() {
            return unusable("it begins or ends with white space, which other wallets' prompts drop".to_owned());
        }
        Ok(())
    }

    /// Whether both are the same. For the question asked twice; nobody measures how long that takes.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Gives the passwords to be tried for a key file, in order; none when nobody has one.
pub type Passwords = dyn Fn(&Path) -> Result<Vec<Password>, WalletError> + Send + Sync;

/// The variable in which the reference wallet keeps the password of a key file.
#[must_use]
pub fn variable_of(path: &Path) -> String {
    let plain = path.to_string_lossy().replace(['/', '.'], "_");
    format!("{VARIABLE_PREFIX}{}", plain.to_uppercase())
}

/// What a variable may mean: the password as the reference wallet hides it (base64 of its bytes, each combined by
/// exclusive or with the variable's name, repeated), else the text as it stands. Both can be tried without risk,
/// because a key file knows its password.
///
/// # Errors
/// When the value is no password.
pub fn of_variable(name: &str, value: &str) -> Result<Vec<Password>, WalletError> {
    let plain = Password::new(Zeroizing::new(value.to_owned()))?;
    Ok(shown(name, value).into_iter().chain([plain]).collect())
}

fn shown(name: &str, value: &str) -> Option<Password> {
    let mut bytes = Zeroizing::new(STANDARD.decode(value).ok()?);
    for (byte, mask) in bytes.iter_mut().zip(name.bytes().cycle()) {
        *byte ^= mask;
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Password::new(Zeroizing::new(text)).ok(),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLE: &str = "BT_PW__TMP_TMPB4PEVZN5_MY-W_X_COLDKEY";

    fn password(text: &str) -> Result<Password, WalletError> {
        Password::new(Zeroizing::new(text.to_owned()))
    }

    fn texts(value: &str) -> Vec<String> {
        of_variable(VARIABLE, value).unwrap().iter().map(|password| password.0.to_string()).collect()
    }

    #[test]
    fn a_variable_is_named_and_hidden_as_the_reference_wallet_does_it() {
        // Written by bittensor-wallet 4.1.1: `Keyfile(path).save_password_to_env(password)`.
        assert_eq!(variable_of(Path::new("/tmp/tmpb4pevzn5/my-w.x/coldkey")), VARIABLE);
        let hidden = "Mpf7IyQobyYpfZzoIzRiWDErMXqst/M=";
        assert_eq!(texts(hidden), ["pässw0rd-ünd lang €", hidden]);
    }

    #[test]
    fn a_plain_text_in_a_variable_is_tried_as_it_stands() {
        assert_eq!(texts("a plain one"), ["a plain one"]);
        // Base64 by chance, but of no text.
        assert_eq!(texts("////"), ["////"]);
        // Base64 by chance, and of a text: both are tried, the file decides.
        assert_eq!(texts("aGVsbG8="), ["*13<8", "aGVsbG8="]);
    }

    #[test]
    fn passwords_are_bounded_and_never_shown() {
        assert!(password("").is_err());
        assert!(password(&"x".repeat(PASSWORD_BYTES_MAX)).is_ok());
        assert!(password(&"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
        assert!(of_variable("BT_PW_X", "").is_err());
        assert!(password("12345").unwrap().for_new_key().is_err());
        assert!(password("123456").unwrap().for_new_key().is_ok());
        assert!(password("1234567 ").unwrap().for_new_key().is_err());
        assert_eq!(format!("{:?}", password("secret").unwrap()), "Password(…)");
        assert!(
            password("a").unwrap().is(&password("a").unwrap()) && !password("a").unwrap().is(&password("b").unwrap())
        );
    }
}

//! Keys: sr25519 key pairs that can sign and cannot be printed.
//!
//! Owns how a secret becomes a key. Refuses to know where secrets are kept: `wallet` reads files.

use std::num::NonZeroU32;

use ring::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use schnorrkel::{
    ExpansionMode, MiniSecretKey, SecretKey,
    derive::{ChainCode, Derivation as _},
};
use sha2::{Digest as _, Sha256};
use subxt::{
    Config,
    utils::{AccountId32, MultiSignature},
};
use subxt_signer::{DeriveJunction, ExposeSecret as _, SecretUri, bip39::Mnemonic};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Account, codes};
use crate::fault::Fault;

/// The context that every Substrate signature is bound to.
const SIGNING_CONTEXT: &[u8] = b"substrate";
/// What every derived secret begins with: domain and version.
const DERIVING: &[u8] = b"waag-derived-1";
/// Rounds of Substrate's derivation of a seed from the entropy of a phrase.
const PHRASE_ROUNDS: NonZeroU32 = NonZeroU32::new(2048).expect("it is not zero");
/// Characters of a secret text: a 24-word phrase with a password and a path is below 400.
const SECRET_CHARS: usize = 1024;

/// A secret that is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is too long to be a secret.
    #[error("the secret is longer than {SECRET_CHARS} characters")]
    Long,
    /// Not a phrase, seed or path.
    #[error("the text is neither a phrase, nor a seed, nor a development path")]
    Text,
    /// A phrase with a wrong word or check sum.
    #[error("the phrase has a wrong number of words, an unknown word, or a wrong check word")]
    Phrase,
    /// Bytes that are no secret key.
    #[error("the bytes are not an sr25519 secret")]
    Bytes,
}

impl KeyError {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        codes::KEY_INVALID.because(self.to_string())
    }
}

/// An sr25519 key pair. It has no `Display`, its `Debug` shows the address alone, and its secret half is overwritten
/// when it is dropped.
#[derive(Clone)]
pub struct Keypair(schnorrkel::Keypair);

impl Keypair {
    /// The key of a 32-byte seed (`secretSeed` of a wallet file).
    ///
    /// # Errors
    /// When the bytes are no seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let mini = MiniSecretKey::from_bytes(seed).map_err(|_source| KeyError::Bytes)?;
        Ok(Self(mini.expand_to_keypair(ExpansionMode::Ed25519)))
    }

    /// The key of 64 bytes in schnorrkel's own secret form, scalar and nonce (`privateKey` of a wallet file).
    ///
    /// # Errors
    /// When the bytes are no secret key.
    pub fn from_private(bytes: &[u8; 64]) -> Result<Self, KeyError> {
        let secret = SecretKey::from_bytes(bytes).map_err(|_source| KeyError::Bytes)?;
        Ok(Self(secret.to_keypair()))
    }

    /// The key of a phrase (`secretPhrase` of a wallet file), by Substrate's derivation from the phrase's entropy.
    ///
    /// # Errors
    /// When the phrase is not a valid one.
    pub fn from_phrase(phrase: &str) -> Result<Self, KeyError> {
        Self::from_seed(&*seed_of_phrase(phrase, "")?)
    }

    /// The key of a secret URI: a phrase or `0x` seed with an optional path, or a development path such as `//Alice`.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn from_uri(uri: &str) -> Result<Self, KeyError> {
        if uri.len() > SECRET_CHARS {
            return Err(KeyError::Long);
        }
        let parsed: SecretUri = uri.parse().map_err(|_source| KeyError::Text)?;
        let phrase = parsed.phrase.expose_secret();
        let root = match phrase.strip_prefix("0x") {
            Some(digits) => {
                let mut seed = Zeroizing::new([0; 32]);
                hex::decode_to_slice(digits, &mut *seed).map_err(|_source| KeyError::Text)?;
                Self::from_seed(&seed)?
            }
            None => {
                let password = parsed.password.as_ref().map_or("", |secret| secret.expose_secret());
                Self::from_seed(&*seed_of_phrase(phrase, password)?)?
            }
        };
        Ok(parsed.junctions.iter().fold(root, |key, junction| key.derived(junction)))
    }

    fn derived(&self, junction: &DeriveJunction) -> Self {
        let code = ChainCode(*junction.inner());
        let secret = if junction.is_soft() {
            self.0.secret.derived_key_simple(code, []).0
        } else {
            let mini = self.0.secret.hard_derive_mini_secret_key(Some(code), b"").0;
            mini.expand(ExpansionMode::Ed25519)
        };
        Self(secret.to_keypair())
    }

    /// The public half.
    #[must_use]
    pub fn account(&self) -> Account {
        crate::ids::Hotkey(self.0.public.to_bytes())
    }

    /// The signature of these bytes, as the chain and Bittensor's other tools make it.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign_simple(SIGNING_CONTEXT, message).to_bytes()
    }

    /// A secret that only the owner of this key can make, and makes again for the same purpose.
    #[must_use]
    pub fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        // The secret has one length, so that nothing of it can pass for a part of the purpose.
        hasher.update(DERIVING);
        hasher.update(*self.private_bytes());
        hasher.update(purpose);
        hasher.finalize().into()
    }

    /// The secret in schnorrkel's own form, for writing a wallet file.
    pub(super) fn private_bytes(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.secret.to_bytes())
    }
}

impl std::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keypair({})", self.account())
    }
}

impl<T> subxt::tx::Signer<T> for Keypair
where
    T: Config<AccountId = AccountId32, Signature = MultiSignature>,
{
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.account().0)
    }

    fn sign(&self, signer_payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(Self::sign(self, signer_payload))
    }
}

/// The seed of a phrase.
///
/// # Errors
/// When the phrase is not a valid one.
pub(super) fn seed_of_phrase(phrase: &str, password: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    if phrase.len() > SECRET_CHARS || password.len() > SECRET_CHARS {
        return Err(KeyError::Long);
    }
    let mnemonic = Mnemonic::parse_normalized(phrase).map_err(|_source| KeyError::Phrase)?;
    let (mut entropy, length) = mnemonic.to_entropy_array();
    let salt = Zeroizing::new(format!("mnemonic{password}"));
    let mut long = Zeroizing::new([0; 64]);
    derive(PBKDF2_HMAC_SHA512, PHRASE_ROUNDS, salt.as_bytes(), &entropy[..length], &mut *long);
    entropy.zeroize();
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&long[..32]);
    Ok(seed)
}

/// Whether `signature` is the account's signature of these bytes.
#[must_use]
pub fn verify(account: &Account, message: &[u8], signature: &[u8; 64]) -> bool {
    let public = schnorrkel::PublicKey::from_bytes(&account.0);
    let signature = schnorrkel::Signature::from_bytes(signature);
    match (public, signature) {
        (Ok(public), Ok(signature)) => public.verify_simple(SIGNING_CONTEXT, message, &signature).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use subxt_signer::sr25519;

    use super::*;

    #[test]
    fn development_paths_are_the_known_accounts() {
        let alice = Keypair::from_uri("//Alice").unwrap();
        assert_eq!(alice.account().to_string(), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
        let bob = Keypair::from_uri("//Bob").unwrap();
        assert_eq!(bob.account().to_string(), "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty");
    }

    #[test]
    fn every_form_agrees_with_the_reference_signer() {
        let phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
        for uri in [phrase.to_owned(), format!("{phrase}//hard/soft///secret"), format!("0x{}", "5a".repeat(32))] {
            let reference = sr25519::Keypair::from_uri(&uri.parse().unwrap()).unwrap();
            let ours = Keypair::from_uri(&uri).unwrap();
            assert_eq!(ours.account().0, reference.public_key().0, "{uri}");
            let signature = sr25519::Signature(ours.sign(b"message"));
            assert!(sr25519::verify(&signature, b"message", &reference.public_key()));
            assert!(verify(&ours.account(), b"message", &reference.sign(b"message").0));
        }
        assert_eq!(Keypair::from_phrase(phrase).unwrap().account(), Keypair::from_uri(phrase).unwrap().account());
    }

    #[test]
    fn the_private_form_is_schnorrkels_own() {
        let alice = Keypair::from_uri("//Alice").unwrap();
        // What polkadot-js exports for //Alice: the same key in ed25519's expanded form.
        let mut expanded = [0; 64];
        hex::decode_to_slice(
            "98319d4ff8a9508c4bb0cf0b5a78d760a0b2082c02775e6e82370816fedfff48925a225d97aa00682d6a59b95b18780c10d7032336e88f3442b42361f4a66011",
            &mut expanded,
        )
        .unwrap();
        let converted = SecretKey::from_ed25519_bytes(&expanded).unwrap();
        assert_eq!(converted.to_bytes(), *alice.private_bytes());
        assert_eq!(Keypair::from_private(&alice.private_bytes()).unwrap().account(), alice.account());
        // The two forms must never be mistaken for each other.
        assert_ne!(Keypair::from_private(&expanded).ok().map(|key| key.account()), Some(alice.account()));
    }

    #[test]
    fn a_signature_binds_message_and_account() {
        let (alice, bob) = (Keypair::from_uri("//Alice").unwrap(), Keypair::from_uri("//Bob").unwrap());
        let signature = alice.sign(b"one");
        assert!(verify(&alice.account(), b"one", &signature));
        assert!(!verify(&alice.account(), b"two", &signature));
        assert!(!verify(&bob.account(), b"one", &signature));
        assert!(!verify(&alice.account(), b"one", &[0; 64]));
        assert!(!verify(&crate::ids::Hotkey([0xff; 32]), b"one", &signature));
    }

    #[test]
    fn hostile_secrets_are_refused_and_never_printed() {
        assert_eq!(Keypair::from_uri(&"a".repeat(SECRET_CHARS + 1)).unwrap_err(), KeyError::Long);
        assert_eq!(Keypair::from_uri("0xzz").unwrap_err(), KeyError::Text);
        assert_eq!(Keypair::from_phrase("bottom drive").unwrap_err(), KeyError::Phrase);
        assert_eq!(Keypair::from_uri("not a phrase at all").unwrap_err(), KeyError::Phrase);
        assert_eq!(Keypair::from_private(&[0xff; 64]).unwrap_err(), KeyError::Bytes);
        let shown = format!("{:?}", Keypair::from_uri("//Alice").unwrap());
        assert_eq!(shown, "Keypair(5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY)");
    }
}

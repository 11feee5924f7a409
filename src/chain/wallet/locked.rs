//! The encrypted forms of a key file, and how each is opened.
//!
//! Owns the three forms that Bittensor's wallets have written: NaCl, Ansible vault and Fernet. Refuses to know what
//! is inside. Only the files of this room use it; new files are always of the NaCl form.

use std::num::NonZeroU32;

use aes::cipher::{
    BlockDecryptMut as _, KeyIvInit as _, StreamCipher as _,
    block_padding::{Padding as _, Pkcs7},
};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use crypto_secretbox::{AeadInPlace as _, KeyInit as _, Nonce, Tag, XSalsa20Poly1305};
use ring::{
    hmac,
    pbkdf2::{PBKDF2_HMAC_SHA256, derive},
};
use zeroize::Zeroizing;

use super::password::Password;
use crate::ids::Entropy;

const NACL_PREFIX: &[u8] = b"$NACL";
/// One salt for everybody: the reference wallet's, without which its files cannot be opened.
const NACL_SALT: [u8; 16] =
    [0x13, 0x71, 0x83, 0xdf, 0xf1, 0x5a, 0x09, 0xbc, 0x9c, 0x90, 0xb5, 0x51, 0x87, 0x39, 0xe9, 0xb1];
/// libsodium's `MEMLIMIT_SENSITIVE` of Argon2i.
const NACL_KIB: u32 = 512 * 1024;
/// libsodium's `OPSLIMIT_SENSITIVE` of Argon2i.
const NACL_PASSES: u32 = 8;
const NACL_NONCE_BYTES: usize = 24;
const NACL_TAG_BYTES: usize = 16;

const ANSIBLE_PREFIX: &[u8] = b"$ANSIBLE_VAULT";
/// Ansible's rounds of PBKDF2-SHA256.
const ANSIBLE_ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");
/// A block of AES, to which Ansible pads.
const AES_BLOCK_BYTES: usize = 16;

const FERNET_PREFIX: &[u8] = b"gAAAAA";
/// One salt for everybody, of the reference wallet's first versions.
const FERNET_SALT: &[u8] = b"Iguesscyborgslikemyselfhaveatendencytobeparanoidaboutourorigins";
/// The rounds of PBKDF2-SHA256 of those versions.
const FERNET_ROUNDS: NonZeroU32 = NonZeroU32::new(10_000_000).expect("it is not zero");
const FERNET_VERSION: u8 = 0x80;
/// Version and time, which stand before the initial vector.
const FERNET_HEAD_BYTES: usize = 9;
const FERNET_TAG_BYTES: usize = 32;

/// Why an encrypted file does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The password is another, or a byte was changed: no form can tell these apart.
    Password,
    /// The file is not of the form that its beginning says.
    Form(&'static str),
    /// There is no memory for it.
    Memory,
}

/// An encrypted form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Nacl,
    AnsibleVault,
    Fernet,
}

impl Lock {
    /// The form of this file; `None` when it is not encrypted.
    pub(super) fn of(file: &[u8]) -> Option<Self> {
        [(NACL_PREFIX, Self::Nacl), (ANSIBLE_PREFIX, Self::AnsibleVault), (FERNET_PREFIX, Self::Fernet)]
            .into_iter()
            .find_map(|(prefix, lock)| file.starts_with(prefix).then_some(lock))
    }

    /// The form's name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nacl => "NaCl",
            Self::AnsibleVault => "Ansible vault",
            Self::Fernet => "Fernet",
        }
    }

    /// The content of a file of this form.
    pub(super) fn open(self, file: &[u8], password: &Password) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        match self {
            Self::Nacl => open_nacl(file, password),
            Self::AnsibleVault => open_ansible(file, password),
            Self::Fernet => open_fernet(file, password),
        }
    }
}

/// Mebibytes that opening or making a file of the NaCl form takes.
pub(super) const NACL_MIB: u32 = NACL_KIB / 1024;

/// A file of the NaCl form with this content: prefix, nonce, tag, cipher text.
pub(super) fn seal(content: &[u8], password: &Password, entropy: &dyn Entropy) -> Result<Vec<u8>, Refusal> {
    let mut nonce = [0; NACL_NONCE_BYTES];
    entropy.fill(&mut nonce);
    seal_with(content, &*nacl_key(password)?, &nonce)
}

fn seal_with(content: &[u8], key: &[u8; 32], nonce: &[u8; NACL_NONCE_BYTES]) -> Result<Vec<u8>, Refusal> {
    let mut text = Zeroizing::new(content.to_vec());
    let tag = XSalsa20Poly1305::new(key.into())
        .encrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut text)
        .map_err(|_source| Refusal::Form("too long"))?;
    Ok([NACL_PREFIX, nonce, tag.as_slice(), &text].concat())
}

fn open_nacl(file: &[u8], password: &Password) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    // The length is looked at first: the key takes seconds.
    if file.len() < NACL_PREFIX.len() + NACL_NONCE_BYTES + NACL_TAG_BYTES {
        return Err(Refusal::Form("it ends within its nonce or tag"));
    }
    open_nacl_with(file, &*nacl_key(password)?)
}

fn open_nacl_with(file: &[u8], key: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (nonce, rest) = file[NACL_PREFIX.len()..].split_at(NACL_NONCE_BYTES);
    let (tag, text) = rest.split_at(NACL_TAG_BYTES);
    let mut content = Zeroizing::new(text.to_vec());
    XSalsa20Poly1305::new(key.into())
        .decrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut content, Tag::from_slice(tag))
        .map_err(|_source| Refusal::Password)?;
    Ok(content)
}

fn nacl_key(password: &Password) -> Result<Zeroizing<[u8; 32]>, Refusal> {
    let params = Params::new(NACL_KIB, NACL_PASSES, 1, Some(32)).expect("the constants are within Argon2's bounds");
    let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
    memory.try_reserve_exact(params.block_count()).map_err(|_source| Refusal::Memory)?;
    memory.resize(params.block_count(), Block::default());
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2i, Version::V0x13, params)
        .hash_password_into_with_memory(password.bytes(), &NACL_SALT, &mut *key, memory.as_mut_slice())
        .expect("salt, key and memory have the lengths that Argon2 asks for");
    Ok(key)
}

fn open_ansible(file: &[u8], password: &Password) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (salt, tag, mut text) = parts_of_ansible(file)?;
    let mut keys = Zeroizing::new([0; 80]);
    derive(PBKDF2_HMAC_SHA256, ANSIBLE_ROUNDS, &salt, password.bytes(), &mut *keys);
    let (cipher_key, rest) = keys.split_at(32);
    let (tag_key, start) = rest.split_at(32);
    check_tag(tag_key, &text, &tag)?;
    let mut cipher =
        ctr::Ctr128BE::<aes::Aes256>::new_from_slices(cipher_key, start).expect("keys have the cipher's lengths");
    cipher.apply_keystream(&mut text);
    let padded = text.len().checked_sub(AES_BLOCK_BYTES).ok_or(Refusal::Form("it holds nothing"))?;
    let last = aes::Block::from_slice(&text[padded..]);
    let kept = Pkcs7::unpad(last).map_err(|_source| Refusal::Form("it is not padded as it should be"))?.len();
    text.truncate(padded + kept);
    Ok(text)
}

type AnsibleParts = (Vec<u8>, Vec<u8>, Zeroizing<Vec<u8>>);

/// Salt, tag and cipher text. Below a line that names the version stands hex of three lines of hex.
fn parts_of_ansible(file: &[u8]) -> Result<AnsibleParts, Refusal> {
    let form = Refusal::Form;
    let text = std::str::from_utf8(file).map_err(|_source| form("it is not text"))?;
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().trim().split(';').collect();
    // Version 1.2 differs by a label in the first line.
    if !matches!(head.as_slice(), [_, "1.1", "AES256"] | [_, "1.2", "AES256", _]) {
        return Err(form("only Ansible vaults of version 1.1 or 1.2 with AES256 are read"));
    }
    let outer: String = lines.map(str::trim).collect();
    let inner = hex::decode(outer).map_err(|_source| form("its body is not hex"))?;
    let inner = String::from_utf8(inner).map_err(|_source| form("its body is not hex of text"))?;
    let parts: Vec<&str> = inner.split('\n').collect();
    let [salt, tag, cipher_text] = parts.as_slice() else {
        return Err(form("its body has not three parts"));
    };
    let bytes_of = |part: &str| hex::decode(part).map_err(|_source| form("a part of its body is not hex"));
    Ok((bytes_of(salt)?, bytes_of(tag)?, Zeroizing::new(bytes_of(cipher_text)?)))
}

fn open_fernet(file: &[u8], password: &Password) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let token = parts_of_fernet(file)?;
    let mut keys = Zeroizing::new([0; 32]);
    derive(PBKDF2_HMAC_SHA256, FERNET_ROUNDS, FERNET_SALT, password.bytes(), &mut *keys);
    open_fernet_with(&token, &keys)
}

fn open_fernet_with(token: &[u8], keys: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (tag_key, cipher_key) = keys.split_at(16);
    let (signed, tag) = token.split_at(token.len() - FERNET_TAG_BYTES);
    check_tag(tag_key, signed, tag)?;
    let (start, text) = signed[FERNET_HEAD_BYTES..].split_at(AES_BLOCK_BYTES);
    let mut content = Zeroizing::new(text.to_vec());
    let kept = cbc::Decryptor::<aes::Aes128>::new_from_slices(cipher_key, start)
        .expect("keys have the cipher's lengths")
        .decrypt_padded_mut::<Pkcs7>(&mut content)
        .map_err(|_source| Refusal::Form("it is not padded as it should be"))?
        .len();
    content.truncate(kept);
    Ok(content)
}

/// The bytes of the token: version, time, initial vector, whole blocks, tag.
fn parts_of_fernet(file: &[u8]) -> Result<Vec<u8>, Refusal> {
    let token =
        URL_SAFE.decode(file.trim_ascii()).map_err(|_source| Refusal::Form("it is not base64 as URLs have it"))?;
    let around = FERNET_HEAD_BYTES + AES_BLOCK_BYTES + FERNET_TAG_BYTES;
    let text_bytes = token.len().saturating_sub(around);
    if token.first() != Some(&FERNET_VERSION) || text_bytes == 0 || text_bytes % AES_BLOCK_BYTES != 0 {
        return Err(Refusal::Form("it is not a whole Fernet token"));
    }
    Ok(token)
}

/// Compares in constant time.
fn check_tag(key: &[u8], text: &[u8], tag: &[u8]) -> Result<(), Refusal> {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), text, tag).map_err(|_source| Refusal::Password)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const FERNET_FILE: &[u8] = include_bytes!("../../../testdata/wallet/fernet");
    const ANSIBLE_FILE: &[u8] = include_bytes!("../../../testdata/wallet/ansible-vault");
    const NACL_FILE: &[u8] = include_bytes!("../../../testdata/wallet/nacl");

    fn password(text: &str) -> Password {
        Password::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    #[test]
    fn the_form_is_told_by_the_beginning() {
        assert_eq!(Lock::of(NACL_FILE), Some(Lock::Nacl));
        assert_eq!(Lock::of(ANSIBLE_FILE), Some(Lock::AnsibleVault));
        assert_eq!(Lock::of(FERNET_FILE), Some(Lock::Fernet));
        for plain in [&b"{}"[..], b"", b"$NAC", b"gAAAA"] {
            assert_eq!(Lock::of(plain), None);
        }
    }

    #[test]
    fn a_nacl_box_opens_whole_or_not_at_all() {
        let file = seal_with(b"content", &KEY, &[1; NACL_NONCE_BYTES]).unwrap();
        assert_eq!(*open_nacl_with(&file, &KEY).unwrap(), b"content");
        for place in NACL_PREFIX.len()..file.len() {
            let mut changed = file.clone();
            changed[place] ^= 1;
            assert_eq!(open_nacl_with(&changed, &KEY).unwrap_err(), Refusal::Password, "{place}");
        }
        assert_eq!(open_nacl_with(&file, &[8; 32]).unwrap_err(), Refusal::Password);
        let empty = seal_with(b"", &KEY, &[1; NACL_NONCE_BYTES]).unwrap();
        assert_eq!(*open_nacl_with(&empty, &KEY).unwrap(), b"");
        // Too short for its head: refused before any key is computed.
        for length in NACL_PREFIX.len()..empty.len() {
            assert!(matches!(Lock::Nacl.open(&empty[..length], &password("x")), Err(Refusal::Form(_))), "{length}");
        }
    }

    #[test]
    fn a_vault_opens_with_its_password_alone() {
        let content = Lock::AnsibleVault.open(ANSIBLE_FILE, &password("correct horse, bättery")).unwrap();
        assert!(content.starts_with(b"{") && content.ends_with(b"}"));
        assert_eq!(Lock::AnsibleVault.open(ANSIBLE_FILE, &password("wrong")).unwrap_err(), Refusal::Password);
    }

    #[test]
    fn damaged_vaults_are_refused_by_name() {
        let text = String::from_utf8(ANSIBLE_FILE.to_vec()).unwrap();
        let key = password("correct horse, bättery");
        let labelled = text.replacen("1.1;AES256", "1.2;AES256;label", 1);
        assert!(Lock::AnsibleVault.open(labelled.as_bytes(), &key).is_ok());
        for wrong in [
            text.replacen("1.1", "1.0", 1),
            text.replacen("AES256", "AES", 1),
            text.replacen("AES256\n", "AES256\nzz", 1),
            text.replacen("AES256\n", "AES256\n00", 1),
            text.replacen("AES256\n", "AES256\n61", 1),
            text[..text.len() - 3].to_owned(),
            "$ANSIBLE_VAULT;1.1;AES256\n".to_owned(),
            "$ANSIBLE_VAULT".to_owned(),
        ] {
            assert!(matches!(Lock::AnsibleVault.open(wrong.as_bytes(), &key), Err(Refusal::Form(_))), "{wrong}");
        }
        let halves = text[..text.len() - 5].trim_end();
        assert!(Lock::AnsibleVault.open(halves.as_bytes(), &key).is_err());
    }

    #[test]
    fn a_fernet_token_opens_whole_or_not_at_all() {
        let token = parts_of_fernet(FERNET_FILE).unwrap();
        assert_eq!(open_fernet_with(&token, &KEY).unwrap_err(), Refusal::Password);
        for wrong in [&b"gAAAAA"[..], b"gAAAAA==", b"gAAAAA?", &FERNET_FILE[..FERNET_FILE.len() - 4]] {
            assert!(matches!(parts_of_fernet(wrong), Err(Refusal::Form(_))));
        }
    }
}

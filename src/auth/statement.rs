//! What a hotkey signs, and the headers that carry it.
//!
//! Owns the text and the header names. Refuses to judge: `gate` does. Clients sign with it.

use std::{fmt, str::FromStr};

use crate::{
    chain::{Keypair, PaymentName, Slug},
    ids::{Digest, Entropy, Hotkey},
};

/// Names of the headers that carry a signed statement.
pub mod headers {
    /// The hotkey that signs, as SS58.
    pub const HOTKEY: &str = "waag-hotkey";
    /// When it signed, in milliseconds since the Unix epoch.
    pub const TIMESTAMP: &str = "waag-timestamp";
    /// Sixteen random bytes in hex, never used again.
    pub const NONCE: &str = "waag-nonce";
    /// The sr25519 signature, 64 bytes in hex.
    pub const SIGNATURE: &str = "waag-signature";
    /// Uploads: the challenge.
    pub const CHALLENGE: &str = "waag-challenge";
    /// Uploads: SHA-256 of the body.
    pub const ARTIFACT: &str = "waag-artifact";
    /// Uploads: the salt of the commitment, 32 bytes in hex.
    pub const SALT: &str = "waag-salt";
    /// Uploads: bytes of the body.
    pub const SIZE: &str = "waag-size";
    /// Uploads that cost something: the payment, as `BLOCK:HASH`.
    pub const PAYMENT: &str = "waag-payment";
}

/// First line of a signed upload.
const UPLOAD_TAG: &str = "waag-upload-1";
/// First line of any other signed request.
const REQUEST_TAG: &str = "waag-request-1";

/// Sixteen bytes that make a request unlike any other of its hotkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 16]);

impl Nonce {
    /// A new one.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Nonce {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        super::gate::exact_hex(text).map(Self).ok_or(())
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An artifact for a challenge, which opens a sealed commitment.
    Upload {
        /// The challenge.
        challenge: Slug,
        /// SHA-256 of the artifact's bytes.
        artifact: Digest,
        /// The salt that the commitment was sealed with.
        salt: [u8; 32],
        /// The artifact's size.
        size_bytes: u64,
        /// What was paid for it, where the challenge takes a fee.
        payment: Option<PaymentName>,
    },
    /// Any other request.
    Request {
        /// The HTTP method, in capitals.
        method: String,
        /// Path and query as they stand in the request line.
        path: String,
        /// SHA-256 of the body; of nothing when there is none.
        body: Digest,
    },
}

/// A request with all that its signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The chain that it is meant for.
    pub genesis: [u8; 32],
    /// The subnet that it is meant for.
    pub netuid: u16,
    /// Who asks.
    pub hotkey: Hotkey,
    /// When, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Which request of the hotkey it is.
    pub nonce: Nonce,
    /// For what.
    pub subject: Subject,
}

impl Statement {
    /// The text that is signed.
    #[must_use]
    pub fn message(&self) -> String {
        let Self { genesis, netuid, hotkey, timestamp_ms, nonce, subject } = self;
        let tag = match subject {
            Subject::Upload { .. } => UPLOAD_TAG,
            Subject::Request { .. } => REQUEST_TAG,
        };
        let about = match subject {
            Subject::Upload { challenge, artifact, salt, size_bytes, payment } => {
                let salt = hex::encode(salt);
                // Without a payment there is no line: such an upload is signed as it always was.
                let payment = payment.map_or_else(String::new, |payment| format!("\npayment:{payment}"));
                format!("challenge:{challenge}\nartifact:{artifact}\nsalt:{salt}\nsize:{size_bytes}{payment}")
            }
            Subject::Request { method, path, body } => format!("method:{method}\npath:{path}\nbody:{body}"),
        };
        let genesis = hex::encode(genesis);
        format!(
            "{tag}\ngenesis:{genesis}\nnetuid:{netuid}\n{about}\nhotkey:{hotkey}\ntimestamp:{timestamp_ms}\nnonce:{nonce}"
        )
    }

    /// The headers of the signed request. The key must be that of the statement's hotkey; with another one the
    /// headers are refused by whoever verifies them.
    #[must_use]
    pub fn sign(&self, key: &Keypair) -> Vec<(&'static str, String)> {
        let signature = key.sign(self.message().as_bytes());
        let mut signed = vec![
            (headers::HOTKEY, self.hotkey.to_string()),
            (headers::TIMESTAMP, self.timestamp_ms.to_string()),
            (headers::NONCE, self.nonce.to_string()),
            (headers::SIGNATURE, hex::encode(signature)),
        ];
        if let Subject::Upload { challenge, artifact, salt, size_bytes, payment } = &self.subject {
            signed.extend([
                (headers::CHALLENGE, challenge.to_string()),
                (headers::ARTIFACT, artifact.to_string()),
                (headers::SALT, hex::encode(salt)),
                (headers::SIZE, size_bytes.to_string()),
            ]);
            signed.extend(payment.map(|payment| (headers::PAYMENT, payment.to_string())));
        }
        signed
    }
}

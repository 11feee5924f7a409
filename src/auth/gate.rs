//! The checks of a signed request, in the order in which they cost and leak the least.
//!
//! Owns reading headers and saying no. Refuses to know where nonces are kept. Doors and the server call it.

use super::{
    AGE_MS_MAX, BEFORE_START, FUTURE, FUTURE_MS_MAX, HEADER_MALFORMED, HEADER_MISSING, REPLAYED, SIGNATURE_INVALID,
    STALE,
    statement::{Nonce, Statement, Subject, headers},
};
use crate::{
    chain::verify,
    clock::UnixMs,
    fault::{Code, Fault},
    ids::Digest,
};

/// Characters of a signed path with its query.
const PATH_CHARS: usize = 1024;
/// Characters of a method: the longest in use has seven.
const METHOD_CHARS: usize = 10;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A header is missing.
    #[error("header `{name}` is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A header, or another signed part of the request, is not of the form it should have.
    #[error("`{name}` is not {wanted}")]
    Malformed {
        /// Its name.
        name: &'static str,
        /// The form it should have.
        wanted: &'static str,
    },
    /// Signed too long ago.
    #[error("signed {age_ms} ms ago, of {AGE_MS_MAX}")]
    Stale {
        /// How long ago.
        age_ms: i64,
    },
    /// Signed in the future.
    #[error("stamped {ahead_ms} ms ahead, of {FUTURE_MS_MAX}")]
    Future {
        /// How far ahead.
        ahead_ms: i64,
    },
    /// Signed before this process could have remembered it.
    #[error("stamped at {timestamp_ms}, accepted from {accepted_from_ms} on")]
    BeforeStart {
        /// The stamp.
        timestamp_ms: i64,
        /// The first stamp that is accepted.
        accepted_from_ms: i64,
    },
    /// Not the hotkey's signature of this statement.
    #[error("the signature does not fit")]
    Signature,
    /// The nonce was used before.
    #[error("nonce {nonce} was used before")]
    Replayed {
        /// The nonce.
        nonce: Nonce,
    },
    /// The used nonces could not be read or written.
    #[error("the used nonces cannot be looked up: {0}")]
    Memory(Fault),
}

impl Error {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let code: Code = match self {
            Self::Missing { .. } => HEADER_MISSING,
            Self::Malformed { .. } => HEADER_MALFORMED,
            Self::Stale { .. } => STALE,
            Self::Future { .. } => FUTURE,
            Self::BeforeStart { .. } => BEFORE_START,
            Self::Signature => SIGNATURE_INVALID,
            Self::Replayed { .. } => REPLAYED,
            Self::Memory(fault) => return fault.clone(),
        };
        code.because(self.to_string())
    }
}

/// Where used nonces are kept.
pub trait Replay {
    /// Remembers the nonce until `keep_until_ms`, in one step. Returns whether it was new.
    ///
    /// # Errors
    /// When it can be neither read nor written; the request is refused then.
    fn is_new(&self, hotkey: &crate::ids::Hotkey, nonce: &Nonce, keep_until_ms: UnixMs) -> Result<bool, Fault>;
}

/// A statement with its signature, read from a request and not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    statement: Statement,
    signature: [u8; 64],
}

impl Unverified {
    /// What the request claims to be, for refusing cheaply before anything else is looked at.
    #[must_use]
    pub const fn claim(&self) -> &Statement {
        &self.statement
    }
}

/// Verifies signed requests for one subnet of one chain.
#[derive(Debug, Clone)]
pub struct Gate {
    genesis: [u8; 32],
    netuid: u16,
    started_ms: UnixMs,
}

impl Gate {
    /// A gate for this subnet. `started_ms` is when the process began to remember nonces.
    #[must_use]
    pub const fn new(genesis: [u8; 32], netuid: u16, started_ms: UnixMs) -> Self {
        Self { genesis, netuid, started_ms }
    }

    /// Reads a signed upload from a request's headers.
    ///
    /// # Errors
    /// When a header is missing or malformed.
    pub fn read_upload<'h>(&self, header: impl Fn(&str) -> Option<&'h str>) -> Result<Unverified, Error> {
        let challenge = required(&header, headers::CHALLENGE)?
            .parse()
            .map_err(|_source| malformed(headers::CHALLENGE, "the name of a challenge"))?;
        let artifact = parsed_hex(&header, headers::ARTIFACT, "64 lower-case hex digits").map(Digest)?;
        let salt = parsed_hex(&header, headers::SALT, "64 lower-case hex digits")?;
        let size_bytes = decimal(&header, headers::SIZE)?;
        // Any spelling is read; signed is the one that it is written in.
        let payment = header(headers::PAYMENT)
            .map(|text| text.parse().map_err(|_source| malformed(headers::PAYMENT, "a payment as BLOCK:HASH")))
            .transpose()?;
        self.read(&header, Subject::Upload { challenge, artifact, salt, size_bytes, payment })
    }

    /// Reads any other signed request from its headers. Method and path are those of the request itself, `body` is
    /// the digest of the body that was received.
    ///
    /// # Errors
    /// When a header is missing or malformed, or the path cannot have been signed.
    pub fn read_request<'h>(
        &self,
        method: &str,
        path: &str,
        body: Digest,
        header: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Unverified, Error> {
        // A line break in either would let one signed text be read in two ways.
        let is_method = (1..=METHOD_CHARS).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_uppercase());
        if !is_method {
            return Err(malformed("method", "an HTTP method in capitals"));
        }
        let is_path =
            path.starts_with('/') && path.len() <= PATH_CHARS && path.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_path {
            return Err(malformed("path", "a path of printable ASCII"));
        }
        self.read(&header, Subject::Request { method: method.to_owned(), path: path.to_owned(), body })
    }

    fn read<'h>(&self, header: &impl Fn(&str) -> Option<&'h str>, subject: Subject) -> Result<Unverified, Error> {
        let hotkey = required(header, headers::HOTKEY)?
            .parse()
            .map_err(|_source| malformed(headers::HOTKEY, "an SS58 address"))?;
        let timestamp_ms = decimal(header, headers::TIMESTAMP)?;
        let timestamp_ms =
            i64::try_from(timestamp_ms).map_err(|_source| malformed(headers::TIMESTAMP, "a time in milliseconds"))?;
        let nonce = parsed_hex(header, headers::NONCE, "32 lower-case hex digits").map(Nonce)?;
        let signature = parsed_hex(header, headers::SIGNATURE, "128 lower-case hex digits")?;
        let (genesis, netuid) = (self.genesis, self.netuid);
        Ok(Unverified { statement: Statement { genesis, netuid, hotkey, timestamp_ms, nonce, subject }, signature })
    }

    /// Believes the request, or says why not. A nonce is remembered only after the signature has proved whose it is,
    /// so that nobody can use up another's.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn admit(&self, request: Unverified, now_ms: UnixMs, used: &impl Replay) -> Result<Statement, Error> {
        let Unverified { statement, signature } = request;
        self.check_time(statement.timestamp_ms, now_ms)?;
        if !verify(&statement.hotkey, statement.message().as_bytes(), &signature) {
            return Err(Error::Signature);
        }
        let keep_until_ms = statement.timestamp_ms.saturating_add(AGE_MS_MAX);
        match used.is_new(&statement.hotkey, &statement.nonce, keep_until_ms) {
            Ok(true) => Ok(statement),
            Ok(false) => Err(Error::Replayed { nonce: statement.nonce }),
            Err(fault) => Err(Error::Memory(fault)),
        }
    }

    fn check_time(&self, timestamp_ms: UnixMs, now_ms: UnixMs) -> Result<(), Error> {
        let age_ms = now_ms.saturating_sub(timestamp_ms);
        if age_ms > AGE_MS_MAX {
            return Err(Error::Stale { age_ms });
        }
        if age_ms < -FUTURE_MS_MAX {
            return Err(Error::Future { ahead_ms: age_ms.saturating_neg() });
        }
        // Whatever an earlier process accepted was stamped at most the allowed skew after its end, and this process
        // may have lost the memory of it.
        let accepted_from_ms = self.started_ms.saturating_add(FUTURE_MS_MAX);
        if timestamp_ms < accepted_from_ms {
            return Err(Error::BeforeStart { timestamp_ms, accepted_from_ms });
        }
        Ok(())
    }
}

const fn malformed(name: &'static str, wanted: &'static str) -> Error {
    Error::Malformed { name, wanted }
}

fn required<'h>(header: &impl Fn(&str) -> Option<&'h str>, name: &'static str) -> Result<&'h str, Error> {
    header(name).ok_or(Error::Missing { name })
}

fn decimal<'h>(header: &impl Fn(&str) -> Option<&'h str>, name: &'static str) -> Result<u64, Error> {
    let text = required(header, name)?;
    // One spelling only: what is signed is the text, not the number.
    text.parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text)
        .ok_or_else(|| malformed(name, "a plain decimal number"))
}

fn parsed_hex<'h, const N: usize>(
    header: &impl Fn(&str) -> Option<&'h str>,
    name: &'static str,
    wanted: &'static str,
) -> Result<[u8; N], Error> {
    exact_hex(required(header, name)?).ok_or_else(|| malformed(name, wanted))
}

/// Exactly `N` bytes in lower-case hex.
pub(super) fn exact_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    hex::decode_to_slice(text, &mut bytes).ok().filter(|()| is_lower).map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        collections::{HashMap, HashSet},
    };

    use super::*;
    use crate::{chain::Keypair, fault::Class, ids::Hotkey};

    const NOW_MS: i64 = 1_800_000_000_000;

    #[derive(Default)]
    struct Memory(RefCell<HashSet<(Hotkey, [u8; 16])>>);

    impl Replay for Memory {
        fn is_new(&self, hotkey: &Hotkey, nonce: &Nonce, keep_until_ms: UnixMs) -> Result<bool, Fault> {
            assert!(keep_until_ms >= NOW_MS, "kept for as long as the stamp is accepted");
            Ok(self.0.borrow_mut().insert((*hotkey, nonce.0)))
        }
    }

    struct Broken;

    impl Replay for Broken {
        fn is_new(&self, _hotkey: &Hotkey, _nonce: &Nonce, _keep_until_ms: UnixMs) -> Result<bool, Fault> {
            Err(Code::new(Class::Infra, "cache_gone", "the cache is gone", "wait").because("no space"))
        }
    }

    fn gate() -> Gate {
        Gate::new([0x11; 32], 7, NOW_MS - 1_000_000)
    }

    fn statement(timestamp_ms: i64) -> Statement {
        Statement {
            genesis: [0x11; 32],
            netuid: 7,
            hotkey: alice().account(),
            timestamp_ms,
            nonce: Nonce([0xab; 16]),
            subject: Subject::Upload {
                challenge: "gym-small".parse().unwrap(),
                artifact: Digest([0x22; 32]),
                salt: [0x33; 32],
                size_bytes: 12_345,
                payment: None,
            },
        }
    }

    /// The same upload with a payment in the block whose hash ends with these digits.
    fn paid_for(mut statement: Statement, block: &str, digits: &str) -> Statement {
        let block = format!("{:0>64}", block.trim_start_matches("0x"));
        let name = format!("0x{block}:{}", digits.repeat(32)).parse().unwrap();
        if let Subject::Upload { payment, .. } = &mut statement.subject {
            *payment = Some(name);
        }
        statement
    }

    #[test]
    fn a_payment_is_signed_and_read_in_any_spelling() {
        let statement = paid_for(statement(NOW_MS), "17", "ab");
        let mut headers = sent(&statement);
        assert_eq!(outcome(&gate(), &headers, &Memory::default()), Ok(statement.clone()));
        let shouted = headers[headers::PAYMENT].to_uppercase().replace("0X", "0x");
        headers.insert(headers::PAYMENT, shouted);
        assert_eq!(outcome(&gate(), &headers, &Memory::default()), Ok(statement));
        for other in ["17", "17:zz"] {
            headers.insert(headers::PAYMENT, other.to_owned());
            assert!(matches!(outcome(&gate(), &headers, &Memory::default()), Err(Error::Malformed { .. })), "{other}");
        }
        // Whoever takes it away, or puts another one there, breaks the signature.
        headers.insert(headers::PAYMENT, format!("18:{}", "ab".repeat(32)));
        assert_eq!(outcome(&gate(), &headers, &Memory::default()), Err(Error::Signature));
        headers.remove(headers::PAYMENT);
        assert_eq!(outcome(&gate(), &headers, &Memory::default()), Err(Error::Signature));
    }

    fn alice() -> Keypair {
        Keypair::from_uri("//Alice").unwrap()
    }

    fn sent(statement: &Statement) -> HashMap<&'static str, String> {
        statement.sign(&alice()).into_iter().collect()
    }

    fn read(gate: &Gate, sent: &HashMap<&'static str, String>) -> Result<Unverified, Error> {
        gate.read_upload(|name| sent.get(name).map(String::as_str))
    }

    fn outcome(gate: &Gate, sent: &HashMap<&'static str, String>, memory: &impl Replay) -> Result<Statement, Error> {
        gate.admit(read(gate, sent)?, NOW_MS, memory)
    }

    #[test]
    fn the_signed_text_is_the_documented_one() {
        let zeros = "0".repeat(64);
        let expected = format!(
            "waag-upload-1\ngenesis:{}\nnetuid:7\nchallenge:gym-small\nartifact:{}\nsalt:{}\nsize:12345\nhotkey:5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\ntimestamp:1800000000000\nnonce:{}",
            "11".repeat(32),
            "22".repeat(32),
            "33".repeat(32),
            "ab".repeat(16)
        );
        assert_eq!(statement(NOW_MS).message(), expected);
        // A payment is one more line.
        let paid = paid_for(statement(NOW_MS), "0x0017", "aB");
        let line = format!("size:12345\npayment:0x{}17:{}\nhotkey:", "0".repeat(62), "ab".repeat(32));
        assert_eq!(paid.message(), expected.replace("size:12345\nhotkey:", &line));
        let subject = Subject::Request { method: "POST".into(), path: "/v1/x?a=b".into(), body: Digest([0; 32]) };
        let message = Statement { subject, ..statement(NOW_MS) }.message();
        assert!(message.starts_with("waag-request-1\ngenesis:11"));
        assert!(message.contains(&format!("\nnetuid:7\nmethod:POST\npath:/v1/x?a=b\nbody:{zeros}\nhotkey:5Grwva")));
    }

    #[test]
    fn a_proper_request_is_admitted_once() {
        let (gate, memory, sent) = (gate(), Memory::default(), sent(&statement(NOW_MS)));
        assert_eq!(outcome(&gate, &sent, &memory), Ok(statement(NOW_MS)));
        let again = outcome(&gate, &sent, &memory).unwrap_err();
        assert_eq!(again.fault().code, "auth_replayed");
    }

    #[test]
    fn the_window_of_time_is_closed_at_both_ends() {
        let at = |timestamp_ms: i64| {
            outcome(&gate(), &sent(&statement(timestamp_ms)), &Memory::default()).err().map(|error| error.fault().code)
        };
        assert_eq!(at(NOW_MS - AGE_MS_MAX), None);
        assert_eq!(at(NOW_MS - AGE_MS_MAX - 1).as_deref(), Some("auth_stale"));
        assert_eq!(at(NOW_MS + FUTURE_MS_MAX), None);
        assert_eq!(at(NOW_MS + FUTURE_MS_MAX + 1).as_deref(), Some("auth_future"));
        assert_eq!(at(i64::MAX).as_deref(), Some("auth_future"));
        assert_eq!(at(0).as_deref(), Some("auth_stale"));
    }

    #[test]
    fn a_restart_opens_nothing() {
        let restarted = Gate::new([0x11; 32], 7, NOW_MS - 10_000);
        let at = |timestamp_ms: i64| outcome(&restarted, &sent(&statement(timestamp_ms)), &Memory::default());
        // Accepted by the process before, which ended when this one started; its memory is gone.
        let error = at(NOW_MS - 10_000 + FUTURE_MS_MAX - 1).unwrap_err();
        assert_eq!((error.fault().code.as_str(), error.fault().class), ("auth_before_start", Class::Infra));
        assert!(at(NOW_MS - 10_000 + FUTURE_MS_MAX).is_ok());
    }

    #[test]
    fn nothing_that_is_signed_can_be_changed() {
        let good = sent(&statement(NOW_MS));
        let bob = Keypair::from_uri("//Bob").unwrap().account().to_string();
        for (name, other) in [
            (headers::HOTKEY, bob),
            (headers::TIMESTAMP, (NOW_MS + 1).to_string()),
            (headers::NONCE, "ac".repeat(16)),
            (headers::CHALLENGE, "gym-smal".into()),
            (headers::ARTIFACT, "23".repeat(32)),
            (headers::SALT, "34".repeat(32)),
            (headers::SIZE, "12346".into()),
            (headers::SIGNATURE, "00".repeat(64)),
        ] {
            let mut changed = good.clone();
            changed.insert(name, other);
            let memory = Memory::default();
            assert_eq!(outcome(&gate(), &changed, &memory), Err(Error::Signature), "{name}");
            assert!(memory.0.borrow().is_empty(), "a forged request uses up no nonce");
        }
        for gate in [Gate::new([0x12; 32], 7, 0), Gate::new([0x11; 32], 8, 0)] {
            assert_eq!(outcome(&gate, &good, &Memory::default()), Err(Error::Signature));
        }
        // An upload's signature is not one of another request.
        let request = gate()
            .read_request("POST", "/v1/uploads", Digest([0x22; 32]), |name| good.get(name).map(String::as_str))
            .unwrap();
        assert_eq!(gate().admit(request, NOW_MS, &Memory::default()), Err(Error::Signature));
    }

    #[test]
    fn missing_and_malformed_headers_are_named() {
        let good = sent(&statement(NOW_MS));
        for name in good.keys() {
            let mut short = good.clone();
            short.remove(name);
            assert_eq!(read(&gate(), &short), Err(Error::Missing { name }));
            for junk in ["", " ", "x", "+1", "01", "-1", "1 ", &"A".repeat(64), &"1".repeat(100_000)] {
                let mut changed = good.clone();
                changed.insert(name, junk.to_owned());
                // A challenge may be called `x` or `01`: then the signature does not fit.
                let code = outcome(&gate(), &changed, &Memory::default()).unwrap_err().fault().code;
                let fits = *name == headers::CHALLENGE && ["x", "01"].contains(&junk);
                assert_eq!(
                    code,
                    if fits { "auth_signature_invalid" } else { "auth_header_malformed" },
                    "{name} {junk}"
                );
            }
        }
        assert_eq!(read(&gate(), &HashMap::new()).unwrap_err().fault().code, "auth_header_missing");
    }

    #[test]
    fn other_requests_are_signed_with_method_path_and_body() {
        let body = Digest::of(b"{}");
        let subject = Subject::Request { method: "POST".into(), path: "/v1/claims?x=1".into(), body };
        let statement = Statement { subject, ..statement(NOW_MS) };
        let sent = sent(&statement);
        let header = |name: &str| sent.get(name).map(String::as_str);
        let admit = |method: &str, path: &str, body: Digest| {
            gate().admit(gate().read_request(method, path, body, header)?, NOW_MS, &Memory::default())
        };
        assert_eq!(admit("POST", "/v1/claims?x=1", body), Ok(statement.clone()));
        assert_eq!(admit("PUT", "/v1/claims?x=1", body), Err(Error::Signature));
        assert_eq!(admit("POST", "/v1/claims?x=2", body), Err(Error::Signature));
        assert_eq!(admit("POST", "/v1/claims?x=1", Digest::of(b"")), Err(Error::Signature));
        for path in ["", "v1", "/a b", "/a\nbody:x", &format!("/{}", "x".repeat(PATH_CHARS))] {
            assert_eq!(admit("POST", path, body).unwrap_err().fault().code, "auth_header_malformed", "{path}");
        }
        assert!(admit("post", "/", body).is_err() && admit("", "/", body).is_err());
    }

    #[test]
    fn without_a_memory_nothing_is_admitted() {
        let error = outcome(&gate(), &sent(&statement(NOW_MS)), &Broken).unwrap_err();
        assert_eq!(error.fault().class, Class::Infra);
    }
}

//! Signed requests: who asks, for what, when, and that it is asked once.
//!
//! Owns the signing dialect, its headers, the window of time and the order of the checks. Refuses to know who may do
//! what, and where used nonces are kept. Doors and the server verify with it; the miner verbs sign with it.
//!
//! What is signed is plain text, one `name:value` a line in a fixed order and without a final line break, so that any
//! language can produce it. The first line names the dialect, so that a signature made for an upload is nothing else.

mod gate;
mod statement;

pub use gate::{Error, Gate, Replay, Unverified};
pub use statement::{Nonce, Statement, Subject, headers};

use crate::fault::{Class, Code};

/// How far ahead of our clock a request may be stamped: clocks differ by less where they are kept at all.
pub const FUTURE_MS_MAX: i64 = 5_000;
/// How long ago a request may be stamped: time for a slow line to begin an upload, and how long a nonce is kept.
pub const AGE_MS_MAX: i64 = 300_000;

const HEADER_MISSING: Code = Code::new(
    Class::Miner,
    "auth_header_missing",
    "a header of the signature is missing",
    "send every header of the signing dialect; `waag publish` does",
);
const HEADER_MALFORMED: Code = Code::new(
    Class::Miner,
    "auth_header_malformed",
    "a header of the signature is not of the form it should have",
    "write numbers in plain decimal, digests in lower-case hex, hotkeys as SS58",
);
const STALE: Code = Code::new(
    Class::Miner,
    "auth_stale",
    "the request was signed too long ago",
    "sign the request anew and send it within five minutes",
);
const FUTURE: Code = Code::new(
    Class::Miner,
    "auth_future",
    "the request is stamped in the future",
    "set the machine's clock; it may be at most five seconds ahead",
);
const BEFORE_START: Code = Code::new(
    Class::Infra,
    "auth_before_start",
    "the request was signed before this appliance had started",
    "sign the request anew; this is asked for a few seconds after a start",
);
const SIGNATURE_INVALID: Code = Code::new(
    Class::Miner,
    "auth_signature_invalid",
    "the signature is not the hotkey's signature of this request",
    "sign for this network, subnet and challenge with the hotkey that is named in the header",
);
const REPLAYED: Code = Code::new(
    Class::Miner,
    "auth_replayed",
    "a request with this nonce was received already",
    "use a new random nonce for every request",
);

/// Every code of this room.
pub const CODES: &[Code] =
    &[HEADER_MISSING, HEADER_MALFORMED, STALE, FUTURE, BEFORE_START, SIGNATURE_INVALID, REPLAYED];

//! Intake: the doors at which outside facts become submissions, or are turned away with a code.
//!
//! Owns what a commitment must say to count and what an upload must be to be let in, as pure decisions over facts
//! that the caller has gathered. Refuses to read chains, stores or sockets, and to know what happens to a submission
//! afterwards. The chain follower and the server call it and carry its answers to the pipeline.

mod codes;
mod commitments;
mod facts;
mod payment;
mod upload;

pub use codes::{
    BODY_LENGTH, CHAIN_BEHIND, CHAIN_UNREAD, CHALLENGE_UNKNOWN, CODES, COMMITMENT_CHALLENGE_UNKNOWN,
    COMMITMENT_DUPLICATE, COMMITMENT_MALFORMED, COMMITMENT_MISMATCH, COMMITMENT_NOT_FINAL, COMMITMENT_TOO_OLD,
    HOTKEY_REUSED, HOTKEY_UNREGISTERED, LENGTH_REQUIRED, OTHER_ARTIFACT, PAYMENT_MISSING, PAYMENT_OLD, PAYMENT_USED,
    SUBMISSION_CLOSED, UPLOAD_DIGEST, UPLOAD_EMPTY, UPLOAD_TOO_LARGE, UPLOADS_TOO_MANY,
};
pub use commitments::{Fact, Form, Forms, Reading, Refusal, Sighting, read_commitments};
pub use facts::{ChainFacts, Registration};
pub use payment::{Fee, Paid, check_payment, payment_missing, payment_used};
pub use upload::{
    Body, Claim, Committed, Door, LookUp, Opened, Refused, chain_behind, chain_unread, check_declared, check_opening,
    check_rate, check_registered,
};

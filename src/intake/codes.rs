//! The codes that doors say.
//!
//! What the signature of a request can be wrong in has its codes in `auth`.

use crate::fault::{Class, Code};

/// No such challenge.
pub const CHALLENGE_UNKNOWN: Code = Code::new(
    Class::Miner,
    "challenge_unknown",
    "this appliance serves no challenge of that name",
    "see the names at /v1/challenges or with `waag status`",
);
/// The request does not say how long its body is.
pub const LENGTH_REQUIRED: Code = Code::new(
    Class::Miner,
    "upload_length_required",
    "the upload does not say how long it is",
    "send a Content-Length header; chunked uploads are not taken",
);
/// The body is declared empty.
pub const UPLOAD_EMPTY: Code =
    Code::new(Class::Miner, "upload_empty", "the upload has no bytes", "send the artifact as the request's body");
/// The body is larger than the profile allows.
pub const UPLOAD_TOO_LARGE: Code = Code::new(
    Class::Miner,
    "upload_too_large",
    "the artifact is larger than the challenge allows",
    "make it smaller; the limit stands in the challenge's profile",
);
/// The hotkey is not in the subnet.
pub const HOTKEY_UNREGISTERED: Code = Code::new(
    Class::Miner,
    "hotkey_unregistered",
    "the hotkey is not registered in the subnet at the finalized block",
    "register it with `waag register`, wait until that is finalized, then commit and upload",
);
/// The door does not know the chain yet.
pub const CHAIN_UNREAD: Code = Code::new(
    Class::Provider,
    "chain_unread",
    "no finalized block has been read since the start",
    "try again in a moment; `/v1/status` shows the block as soon as there is one",
);
/// The door does not know the chain's present block.
pub const CHAIN_BEHIND: Code = Code::new(
    Class::Provider,
    "chain_behind",
    "the appliance does not see the chain's present block",
    "try again after the time that Retry-After names; your deadline waits for as long",
);
/// Nothing that the upload could open has been seen in a finalized block.
pub const COMMITMENT_NOT_FINAL: Code = Code::new(
    Class::Miner,
    "commitment_not_final",
    "no commitment of this hotkey for this challenge that waits for its artifact has been seen in a finalized block",
    "commit with `waag commit`, or wait a few blocks and send the same upload again",
);
/// The hotkey committed, but to something else.
pub const COMMITMENT_MISMATCH: Code = Code::new(
    Class::Miner,
    "commitment_mismatch",
    "the commitment that waits for its artifact does not open with this artifact and salt",
    "send the bytes and the salt that were committed; after a newer commitment, wait until that is final",
);
/// The commitment is older than the registration.
pub const COMMITMENT_TOO_OLD: Code = Code::new(
    Class::Miner,
    "commitment_before_registration",
    "the commitment is older than the hotkey's registration and does not count",
    "commit again with `waag commit`",
);
/// The commitment has its artifact already, and it is a different one.
pub const OTHER_ARTIFACT: Code = Code::new(
    Class::Miner,
    "commitment_already_opened",
    "another artifact has been taken in for this commitment",
    "commit again for the new artifact",
);
/// The submission of this commitment has ended without an artifact.
pub const SUBMISSION_CLOSED: Code = Code::new(
    Class::Miner,
    "submission_closed",
    "the submission of this commitment has ended and takes no artifact any more",
    "see why with `waag why`, then `waag publish --again`, which makes a new commitment",
);
/// Too many uploads in an hour.
pub const UPLOADS_TOO_MANY: Code = Code::new(
    Class::Miner,
    "uploads_too_many",
    "the hotkey has used up its uploads of this hour",
    "try again after the time that Retry-After names",
);
/// The bytes are not the ones that were announced.
pub const UPLOAD_DIGEST: Code = Code::new(
    Class::Miner,
    "upload_digest_mismatch",
    "the bytes that came do not hash to the announced digest",
    "send the very bytes that were committed; nothing was kept",
);
/// The body ended before or after its announced end.
pub const BODY_LENGTH: Code = Code::new(
    Class::Miner,
    "upload_length_mismatch",
    "the body is not as long as its Content-Length",
    "send it again; nothing was kept",
);

/// A field that begins like a sealed commitment and is none.
pub const COMMITMENT_MALFORMED: Code = Code::new(
    Class::Miner,
    "commitment_unreadable",
    "a field of the commitment begins like a sealed commitment and is none",
    "commit with `waag commit`, which writes waag1:<challenge>:<64 hex digits>",
);
/// A commitment for a challenge that is not served here.
pub const COMMITMENT_CHALLENGE_UNKNOWN: Code = Code::new(
    Class::Miner,
    "commitment_challenge_unknown",
    "the commitment names a challenge that this appliance does not serve",
    "see the names at /v1/challenges, then commit again",
);
/// Two fields of one commitment for the same challenge.
pub const COMMITMENT_DUPLICATE: Code = Code::new(
    Class::Miner,
    "commitment_duplicate",
    "the commitment has a second field for the same challenge, and only the first counts",
    "commit again with one field for each challenge; `waag commit` does",
);

/// The hotkey has had its one evaluation.
pub const HOTKEY_REUSED: Code = Code::new(
    Class::Miner,
    "hotkey_reused",
    "the challenge evaluates one submission of a hotkey, and this hotkey's is used up",
    "register another hotkey and commit with that",
);

/// No payment is named.
pub const PAYMENT_MISSING: Code = Code::new(
    Class::Miner,
    "payment_missing",
    "the challenge takes a fee for an upload, and this one names no payment",
    "`waag publish --pay` shows the amount, asks, pays and uploads; `--payment BLOCK:HASH` names one that was made",
);
/// The payment's block may still be replaced.
pub const PAYMENT_NOT_FINAL: Code = Code::new(
    Class::Miner,
    "payment_not_final",
    "the payment's block is not final yet",
    "send the same upload again after the time that Retry-After names",
);
/// Another block stands where the payment was.
pub const PAYMENT_NOT_CANONICAL: Code = Code::new(
    Class::Miner,
    "payment_not_canonical",
    "the payment's block is not part of the chain: another block stands at its height",
    "look for the payment in the finalized chain and name that block",
);
/// Nothing stands where the payment is said to be.
pub const PAYMENT_NOT_FOUND: Code = Code::new(
    Class::Miner,
    "payment_not_found",
    "there is no such extrinsic where the payment is said to stand",
    "name the block that holds the extrinsic, and the extrinsic's own hash",
);
/// The payment is older than the profile allows.
pub const PAYMENT_OLD: Code = Code::new(
    Class::Miner,
    "payment_too_old",
    "the payment was made too many blocks ago",
    "pay again with `waag publish --pay`; the profile's fee_within_blocks says how long a payment is good",
);
/// The extrinsic failed on chain.
pub const PAYMENT_FAILED: Code = Code::new(
    Class::Miner,
    "payment_failed",
    "the payment's extrinsic was included and failed, so that nothing was paid",
    "see the chain's name for the failure, fund the coldkey, and pay again",
);
/// Somebody else signed.
pub const PAYMENT_SIGNER: Code = Code::new(
    Class::Miner,
    "payment_signer",
    "the payment was not signed by the coldkey that owned the hotkey in that block",
    "pay with the hotkey's own coldkey",
);
/// The funds went to somebody else.
pub const PAYMENT_ELSEWHERE: Code = Code::new(
    Class::Miner,
    "payment_elsewhere",
    "no transfer of the payment's extrinsic goes from the hotkey's coldkey to whom the profile names",
    "pay to the profile's fee_to; `waag publish --pay` does",
);
/// Too little was paid.
pub const PAYMENT_SMALL: Code = Code::new(
    Class::Miner,
    "payment_too_small",
    "the payment is less than the fee",
    "pay at least the profile's fee_rao in one extrinsic",
);
/// A payment pays once.
pub const PAYMENT_USED: Code = Code::new(
    Class::Miner,
    "payment_used",
    "another submission was paid with this payment",
    "pay once for each submission",
);

/// The codes of this room.
pub const CODES: &[Code] = &[
    CHALLENGE_UNKNOWN,
    LENGTH_REQUIRED,
    UPLOAD_EMPTY,
    UPLOAD_TOO_LARGE,
    HOTKEY_UNREGISTERED,
    CHAIN_UNREAD,
    CHAIN_BEHIND,
    COMMITMENT_NOT_FINAL,
    COMMITMENT_MISMATCH,
    COMMITMENT_TOO_OLD,
    OTHER_ARTIFACT,
    SUBMISSION_CLOSED,
    UPLOADS_TOO_MANY,
    UPLOAD_DIGEST,
    BODY_LENGTH,
    COMMITMENT_MALFORMED,
    COMMITMENT_CHALLENGE_UNKNOWN,
    COMMITMENT_DUPLICATE,
    HOTKEY_REUSED,
    PAYMENT_MISSING,
    PAYMENT_NOT_FINAL,
    PAYMENT_NOT_CANONICAL,
    PAYMENT_NOT_FOUND,
    PAYMENT_OLD,
    PAYMENT_FAILED,
    PAYMENT_SIGNER,
    PAYMENT_ELSEWHERE,
    PAYMENT_SMALL,
    PAYMENT_USED,
];

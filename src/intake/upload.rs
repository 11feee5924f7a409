//! The door for uploads: may this artifact come in, and whose is it?
//!
//! The checks are in the order in which they are cheap: the declared length, the signature (in `auth`), the
//! registration and the seal, the rate, and only then the body.

use super::{
    codes::{
        BODY_LENGTH, CHAIN_BEHIND, CHAIN_UNREAD, COMMITMENT_MISMATCH, COMMITMENT_NOT_FINAL, COMMITMENT_TOO_OLD,
        HOTKEY_UNREGISTERED, LENGTH_REQUIRED, OTHER_ARTIFACT, SUBMISSION_CLOSED, UPLOAD_DIGEST, UPLOAD_EMPTY,
        UPLOAD_TOO_LARGE, UPLOADS_TOO_MANY,
    },
    commitments::check_age,
    facts::{ChainFacts, Registration},
};
use crate::{
    chain::{Sealed, Slug},
    fault::{Code, Fault},
    ids::{Digest, Hotkey, SubmissionId},
    store::Hit,
};

/// How a challenge's door behaves, from its profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// Bytes of one artifact.
    pub artifact_bytes_max: u64,
    /// Uploads by one hotkey in an hour.
    pub uploads_per_hour: u32,
}

/// What an authentic request claims about its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The challenge.
    pub challenge: Slug,
    /// Who signed the request.
    pub hotkey: Hotkey,
    /// SHA-256 of the body.
    pub artifact: Digest,
    /// What opens the commitment together with it.
    pub salt: [u8; 32],
}

impl Claim {
    /// The text of the commitment that this claim opens.
    #[must_use]
    pub fn field(&self, facts: &ChainFacts) -> String {
        let Self { challenge, hotkey, artifact, salt } = self;
        Sealed::new(&facts.genesis.0, facts.netuid, challenge, hotkey, artifact, salt).to_string()
    }
}

/// What is known of a hotkey's commitments for a challenge, seen in finalized blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookUp {
    /// The one whose text is the claim's field.
    pub found: Option<Committed>,
    /// How many wait for their artifact.
    pub waiting: u64,
}

/// A commitment seen in a finalized block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its submission.
    pub submission: SubmissionId,
    /// The block in which it was first seen.
    pub block: u64,
    /// Whether the submission still waits for its artifact.
    pub awaiting: bool,
    /// The artifact that was taken in for it.
    pub artifact: Option<Digest>,
}

/// A commitment that the claim opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its submission.
    pub submission: SubmissionId,
    /// Whether this very artifact is here already, so that the body need not be read.
    pub again: bool,
}

/// A door's refusal: the fault, the HTTP status it is said with, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub fault: Fault,
    /// The HTTP status.
    pub status: u16,
    /// Seconds after which the same request may be let in; `None` when waiting alone does not help.
    pub retry_after_s: Option<u64>,
}

impl Refused {
    pub(super) fn new(code: Code, status: u16, detail: impl Into<String>) -> Self {
        Self { fault: code.because(detail), status, retry_after_s: None }
    }

    pub(super) const fn after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// Whether a body of this declared length may come. Returns the length.
///
/// # Errors
/// 411 when no length is declared, 400 when it is zero, 413 when it is above the profile's limit.
pub fn check_declared(door: &Door, declared_bytes: Option<u64>) -> Result<u64, Refused> {
    let limit = door.artifact_bytes_max;
    match declared_bytes {
        None => Err(Refused::new(LENGTH_REQUIRED, 411, "there is no Content-Length")),
        Some(0) => Err(Refused::new(UPLOAD_EMPTY, 400, "Content-Length is 0")),
        Some(bytes) if bytes > limit => {
            Err(Refused::new(UPLOAD_TOO_LARGE, 413, format!("{bytes} bytes, the limit is {limit}")))
        }
        Some(bytes) => Ok(bytes),
    }
}

/// Whether the claiming hotkey may upload at all.
///
/// # Errors
/// 503 while the chain is not read to its present, 403 for a hotkey that is not registered.
pub fn check_registered<'f>(claim: &Claim, facts: &'f ChainFacts) -> Result<&'f Registration, Refused> {
    facts.registered.get(&claim.hotkey).ok_or_else(|| {
        // Who is missing in the past may have come since: that we are late is not the miner's mistake.
        if facts.catching_up {
            return chain_behind(facts);
        }
        let detail = format!("{} in subnet {} at block {}", claim.hotkey, facts.netuid, facts.finalized);
        Refused::new(HOTKEY_UNREGISTERED, 403, detail)
    })
}

/// The refusal of everything while the chain has not been read.
#[must_use]
pub fn chain_unread() -> Refused {
    Refused::new(CHAIN_UNREAD, 503, "the chain follower has not said anything yet").after(1)
}

/// The refusal of everything that counts from its block while the present block is unknown: it would be taken for
/// older than it is, and a block that its sender has seen for one that nobody has.
#[must_use]
pub fn chain_behind(facts: &ChainFacts) -> Refused {
    let detail = format!("at block {}, seen at {} ms", facts.finalized, facts.seen_ms);
    Refused::new(CHAIN_BEHIND, 503, detail).after(facts.retry_after_s())
}

/// Whether the claim opens the commitment that was looked up for it.
///
/// # Errors
/// 403 for a hotkey that is not registered, 409 when nothing opens, or what opens does not count or is closed.
pub fn check_opening(claim: &Claim, facts: &ChainFacts, known: &LookUp) -> Result<Opened, Refused> {
    let registration = check_registered(claim, facts)?;
    let Some(found) = &known.found else { return Err(not_found(claim, facts, known.waiting)) };
    check_age(found.block, registration).map_err(|detail| Refused::new(COMMITMENT_TOO_OLD, 409, detail))?;
    let submission = found.submission;
    match found.artifact {
        Some(artifact) if artifact == claim.artifact => Ok(Opened { submission, again: true }),
        Some(artifact) => Err(Refused::new(OTHER_ARTIFACT, 409, format!("{submission} has the artifact {artifact}"))),
        None if found.awaiting => Ok(Opened { submission, again: false }),
        None => Err(Refused::new(SUBMISSION_CLOSED, 409, submission.to_string())),
    }
}

/// Nothing opens. Where a commitment waits for its artifact, this is not it, and coming again with the same does not
/// help; where none does, the one that this upload opens may be on its way.
fn not_found(claim: &Claim, facts: &ChainFacts, waiting: u64) -> Refused {
    let at = facts.finalized;
    if waiting == 0 {
        let refused = Refused::new(COMMITMENT_NOT_FINAL, 409, format!("nothing waits for it up to block {at}"));
        return refused.after(facts.retry_after_s());
    }
    let detail = format!("looked for {} among {waiting} up to block {at}", claim.field(facts));
    Refused::new(COMMITMENT_MISMATCH, 409, detail)
}

/// Whether one more upload fits into the hour, as the rate-limit window says.
///
/// # Errors
/// 429 when it does not.
pub fn check_rate(door: &Door, hit: Hit) -> Result<(), Refused> {
    match hit {
        Hit::Allowed { .. } => Ok(()),
        Hit::Refused { retry_after_ms } => {
            let detail = format!("{} uploads an hour", door.uploads_per_hour);
            Err(Refused::new(UPLOADS_TOO_MANY, 429, detail).after(retry_after_ms.div_ceil(1000).max(1)))
        }
    }
}

/// What a body turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// SHA-256 of what came.
    pub digest: Digest,
    /// How many bytes came.
    pub bytes: u64,
}

impl Body {
    /// Whether the body is what was announced.
    ///
    /// # Errors
    /// 400 when its length differs, 422 when its digest does.
    pub fn check(self, announced: &Digest, declared_bytes: u64) -> Result<(), Refused> {
        if self.bytes != declared_bytes {
            let detail = format!("{} bytes came, {declared_bytes} were declared", self.bytes);
            return Err(Refused::new(BODY_LENGTH, 400, detail));
        }
        if self.digest != *announced {
            let detail = format!("the bytes hash to {}, announced was {announced}", self.digest);
            return Err(Refused::new(UPLOAD_DIGEST, 422, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{fault::Class, intake::Registration};

    const MINER: Hotkey = Hotkey([1; 32]);
    const DOOR: Door = Door { artifact_bytes_max: 100, uploads_per_hour: 3 };

    fn facts() -> ChainFacts {
        let registration = Registration { uid: 0, since_block: 10, coldkey: Hotkey([9; 32]) };
        ChainFacts {
            netuid: 7,
            genesis: Digest([5; 32]),
            head: 33,
            catching_up: false,
            finalized: 30,
            finalized_hash: Digest([6; 32]),
            tempo: 360,
            next_epoch_block: Some(40),
            block_ms: 12_000,
            seen_ms: 0,
            registered: BTreeMap::from([(MINER, registration)]),
        }
    }

    fn claim() -> Claim {
        let challenge = "gym".parse().expect("a slug");
        Claim { challenge, hotkey: MINER, artifact: Digest([3; 32]), salt: [4; 32] }
    }

    #[test]
    fn whoever_is_missing_in_the_past_may_come_again() {
        let mut late = facts();
        late.registered.clear();
        assert_eq!(refusal(check_registered(&claim(), &late)), code("hotkey_unregistered", 403));
        late.catching_up = true;
        let (code, status, retry_after_s) = refusal(check_registered(&claim(), &late));
        assert_eq!((code.as_str(), status), ("chain_behind", 503));
        assert!(retry_after_s.is_some());
    }

    /// The commitment that `claim` opens, and nothing else.
    fn committed() -> Committed {
        Committed { submission: SubmissionId(1), block: 20, awaiting: true, artifact: None }
    }

    fn known(committed: Committed) -> LookUp {
        LookUp { found: Some(committed), waiting: 1 }
    }

    fn open(committed: Committed) -> Result<Opened, Refused> {
        check_opening(&claim(), &facts(), &known(committed))
    }

    fn refusal<T: std::fmt::Debug>(outcome: Result<T, Refused>) -> (String, u16, Option<u64>) {
        let refused = outcome.expect_err("it is refused");
        (refused.fault.code, refused.status, refused.retry_after_s)
    }

    fn code(name: &str, status: u16) -> (String, u16, Option<u64>) {
        (name.to_owned(), status, None)
    }

    #[test]
    fn the_declared_length_is_checked_at_its_edges() {
        assert_eq!(check_declared(&DOOR, Some(1)), Ok(1));
        assert_eq!(check_declared(&DOOR, Some(100)), Ok(100));
        assert_eq!(refusal(check_declared(&DOOR, Some(101))), code("upload_too_large", 413));
        assert_eq!(refusal(check_declared(&DOOR, Some(0))), code("upload_empty", 400));
        assert_eq!(refusal(check_declared(&DOOR, None)), code("upload_length_required", 411));
    }

    #[test]
    fn what_opens_a_commitment_is_let_in() {
        assert_eq!(open(committed()), Ok(Opened { submission: SubmissionId(1), again: false }));
    }

    #[test]
    fn the_same_artifact_again_is_no_mistake() {
        let here = Committed { artifact: Some(claim().artifact), awaiting: false, ..committed() };
        assert_eq!(open(here), Ok(Opened { submission: SubmissionId(1), again: true }));
    }

    #[test]
    fn nobody_is_judged_before_the_chain_is_known() {
        let refused = chain_unread();
        assert_eq!((refused.fault.class, refused.status, refused.retry_after_s), (Class::Provider, 503, Some(1)));
    }

    #[test]
    fn an_unregistered_hotkey_is_turned_away_whatever_it_committed() {
        let mut facts = facts();
        facts.registered.clear();
        let outcome = check_opening(&claim(), &facts, &known(committed()));
        assert_eq!(refusal(outcome), code("hotkey_unregistered", 403));
    }

    #[test]
    fn only_where_no_commitment_waits_may_the_same_upload_come_again() {
        let outcome = |waiting| refusal(check_opening(&claim(), &facts(), &LookUp { found: None, waiting }));
        assert_eq!(outcome(0), ("commitment_not_final".to_owned(), 409, Some(12)));
        assert_eq!(outcome(1), code("commitment_mismatch", 409));
    }

    #[test]
    fn every_part_of_the_claim_and_the_chain_is_sealed() {
        let base = claim().field(&facts());
        assert!(base.starts_with("waag1:gym:"), "{base}");
        let others = [
            Claim { salt: [0; 32], ..claim() },
            Claim { artifact: Digest([0; 32]), ..claim() },
            Claim { hotkey: Hotkey([8; 32]), ..claim() },
            Claim { challenge: "duel".parse().expect("a slug"), ..claim() },
        ];
        for other in others {
            assert_ne!(other.field(&facts()), base, "{other:?}");
        }
        for facts in [ChainFacts { netuid: 8, ..facts() }, ChainFacts { genesis: Digest([0; 32]), ..facts() }] {
            assert_ne!(claim().field(&facts), base);
        }
    }

    #[test]
    fn a_commitment_from_before_the_registration_does_not_count() {
        let at = |block| open(Committed { block, ..committed() });
        assert!(at(10).is_ok());
        assert_eq!(refusal(at(9)), code("commitment_before_registration", 409));
    }

    #[test]
    fn what_is_over_stays_over() {
        let other = Committed { artifact: Some(Digest([9; 32])), ..committed() };
        assert_eq!(refusal(open(other)), code("commitment_already_opened", 409));
        let closed = Committed { awaiting: false, ..committed() };
        assert_eq!(refusal(open(closed)), code("submission_closed", 409));
    }

    #[test]
    fn a_full_hour_says_when_to_come_back() {
        assert_eq!(check_rate(&DOOR, Hit::Allowed { left: 0 }), Ok(()));
        let refused = refusal(check_rate(&DOOR, Hit::Refused { retry_after_ms: 1_001 }));
        assert_eq!(refused, ("uploads_too_many".to_owned(), 429, Some(2)));
    }

    #[test]
    fn the_body_must_be_what_was_announced() {
        let announced = Digest::of(b"abc");
        let body = |bytes: &[u8]| Body { digest: Digest::of(bytes), bytes: bytes.len() as u64 };
        assert_eq!(body(b"abc").check(&announced, 3), Ok(()));
        assert_eq!(refusal(body(b"abd").check(&announced, 3)), code("upload_digest_mismatch", 422));
        assert_eq!(refusal(body(b"ab").check(&announced, 3)), code("upload_length_mismatch", 400));
        assert_eq!(refusal(body(b"abcd").check(&announced, 3)), code("upload_length_mismatch", 400));
    }
}

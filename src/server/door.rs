//! The door for uploads: a signed request with an artifact as its body.
//!
//! Gathers what the pure checks of `intake` ask for, in their order, and reads the body only when nothing else can
//! refuse it any more. What is refused leaves no bytes behind; refusals of authentic requests are recorded.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{info, warn};

use super::{
    App, layers, limits,
    problem::{CHALLENGE_DIFFERS, Failure, UPLOAD_STALLED},
    views::{self, Uploaded},
};
use crate::{
    auth::{self, Gate, Nonce, Replay, Subject},
    chain::PaymentName,
    clock::{Clock, UnixMs},
    fault::{Class, Fault},
    ids::{Digest, Hotkey, SubmissionId},
    intake::{self, BODY_LENGTH, CHALLENGE_UNKNOWN, ChainFacts, Claim, Door, Fee, Refused, SUBMISSION_CLOSED},
    pipeline::{Challenge, Error, Payment, Upload},
    store::{self, Cache, Hit},
};

/// The window of the rate limits.
const HOUR_MS: u64 = 3_600_000;

/// Takes in an artifact: 201 when it is new, 200 when this very artifact is here already.
pub(super) async fn upload(
    State(app): State<App>,
    slug: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let slug = slug.map(|Path(slug)| slug).unwrap_or_default();
    let admitted = layers::within(&app, admit(&app, &slug, &parts)).await.and_then(|admitted| admitted);
    match admitted {
        Err(failure) => {
            linger(&app, &parts, body);
            failure.into_response()
        }
        Ok(Admitted::Again(submission)) => {
            linger(&app, &parts, body);
            (StatusCode::OK, Json(Uploaded { submission, again: true })).into_response()
        }
        Ok(Admitted::New(ticket)) => match receive_to_the_end(&app, *ticket, body).await {
            Ok(uploaded) => {
                let status = if uploaded.again { StatusCode::OK } else { StatusCode::CREATED };
                (status, Json(uploaded)).into_response()
            }
            Err(failure) => failure.into_response(),
        },
    }
}

/// What may happen next.
enum Admitted {
    /// The artifact is here already.
    Again(SubmissionId),
    /// The body may be read.
    New(Box<Ticket>),
}

/// Everything that is known when the body is read.
struct Ticket {
    claim: Claim,
    field: String,
    bytes: u64,
    payment: Option<Payment>,
    _place: OwnedSemaphorePermit,
}

/// Receives in a task of its own. A sender that goes away ends its connection and with it this future, but not the
/// work: what was half received is removed, and what was received is recorded.
async fn receive_to_the_end(app: &App, ticket: Ticket, body: Body) -> Result<Uploaded, Failure> {
    let (reply, answer) = oneshot::channel();
    let receiver = app.clone();
    app.shared.tasks.spawn("upload", async move {
        // Nobody listens any more when the sender is gone.
        let received = receive(&receiver, &ticket, body).await;
        if let Err(failure) = &received {
            give_back(&receiver, &ticket, failure).await;
        }
        drop(reply.send(received));
    });
    let lost = || Failure::ours(store::Error::Gone { what: "receiving an upload" }.fault());
    answer.await.unwrap_or_else(|_dropped| Err(lost()))
}

/// Every check that needs no body.
async fn admit(app: &App, slug: &str, parts: &Parts) -> Result<Admitted, Failure> {
    let Some(challenge) = app.pipeline().challenges().get(slug) else {
        let slug: String = slug.chars().take(64).collect();
        return Err(Failure::new(CHALLENGE_UNKNOWN, StatusCode::NOT_FOUND, format!("`{slug}`")));
    };
    let door = Door {
        artifact_bytes_max: challenge.intake.artifact_bytes_max,
        uploads_per_hour: challenge.intake.uploads_per_hour,
    };
    let declared = intake::check_declared(&door, declared_bytes(parts));
    let Some(facts) = app.facts() else {
        return Err(declared.err().unwrap_or_else(intake::chain_unread).into());
    };
    let (claim, signed_bytes, named) = match authenticate(app, parts, &facts) {
        Ok(authentic) => authentic,
        // A length that no artifact may have needs no signature to be refused.
        Err(stranger) => return Err(declared.err().map_or(stranger, Failure::from)),
    };
    // Only the signed size ends a submission: anybody on the way can change the header.
    if signed_bytes > door.artifact_bytes_max
        && claim.challenge.as_str() == slug
        && let Err(refused) = intake::check_declared(&door, Some(signed_bytes))
    {
        return Err(refuse_for_good(app, slug, &facts, &claim, refused).await);
    }
    let bytes = match declared {
        Ok(bytes) => bytes,
        Err(refused) => {
            record(app, slug, &claim.hotkey, &refused.fault).await;
            return Err(refused.into());
        }
    };
    let checked = check_authentic(app, challenge, &door, &facts, claim, (bytes, signed_bytes), named).await;
    if let Err(Turned::Away { hotkey, failure }) = &checked {
        record(app, slug, hotkey, &failure.fault).await;
    }
    checked.map_err(Turned::into_failure)
}

/// A signed size that no artifact may have. When the commitment opens, it binds this very artifact: nothing else can
/// ever be uploaded for it, so that its submission ends here.
async fn refuse_for_good(app: &App, slug: &str, facts: &ChainFacts, claim: &Claim, refused: Refused) -> Failure {
    let text = match field_of(app, slug, facts, claim).await {
        Ok(text) => text,
        Err(error) => return Error::into(error),
    };
    let (wanted, text, hotkey) = (slug.to_owned(), text, claim.hotkey);
    let known = app.pipeline().store().db().read(move |conn| views::look_up(conn, &wanted, &hotkey, &text)).await;
    let known = match known {
        Ok(known) => known,
        Err(error) => return Error::into(error),
    };
    if let Ok(opened) = intake::check_opening(claim, facts, &known)
        && let Err(error) = app.pipeline().reject_awaiting(opened.submission, &refused.fault).await
    {
        warn!(%error, "a submission could not be rejected");
    }
    record(app, slug, &hotkey, &refused.fault).await;
    refused.into()
}

/// Why a request whose sender is known goes no further.
enum Turned {
    /// Refused, which is recorded.
    Away { hotkey: Hotkey, failure: Failure },
    /// We cannot now.
    Back(Failure),
}

impl Turned {
    fn into_failure(self) -> Failure {
        match self {
            Self::Away { failure, .. } | Self::Back(failure) => failure,
        }
    }
}

/// The checks of a request whose sender is known.
async fn check_authentic(
    app: &App,
    challenge: &Challenge,
    door: &Door,
    facts: &ChainFacts,
    claim: Claim,
    (bytes, signed_bytes): (u64, u64),
    named: Option<PaymentName>,
) -> Result<Admitted, Turned> {
    let (hotkey, slug) = (claim.hotkey, challenge.slug.as_str());
    let away = |failure: Failure| Turned::Away { hotkey, failure };
    if claim.challenge.as_str() != slug {
        let detail = format!("signed for `{}`, sent to `{slug}`", claim.challenge);
        return Err(away(Failure::new(CHALLENGE_DIFFERS, StatusCode::BAD_REQUEST, detail)));
    }
    if bytes != signed_bytes {
        let detail = format!("Content-Length is {bytes}, signed is {signed_bytes}");
        return Err(away(Failure::new(BODY_LENGTH, StatusCode::BAD_REQUEST, detail)));
    }
    intake::check_registered(&claim, facts).map_err(|refused| away(refused.into()))?;
    let field = field_of(app, slug, facts, &claim).await.map_err(|error| Turned::Back(error.into()))?;
    let (wanted, text) = (slug.to_owned(), field.clone());
    let known = app.pipeline().store().db().read(move |conn| views::look_up(conn, &wanted, &hotkey, &text)).await;
    let known = known.map_err(|error: Error| Turned::Back(error.into()))?;
    let opened = intake::check_opening(&claim, facts, &known).map_err(|refused| away(refused.into()))?;
    if opened.again {
        return Ok(Admitted::Again(opened.submission));
    }
    if facts.is_behind(app.clock().now_ms()) {
        return Err(Turned::Back(intake::chain_behind(facts).into()));
    }
    let place = Arc::clone(&app.shared.uploads)
        .try_acquire_owned()
        .map_err(|_full| Turned::Back(Failure::busy("too many uploads")))?;
    let key = format!("uploads:{slug}:{hotkey}");
    let hit = hit(app, &key, door.uploads_per_hour).map_err(|error| Turned::Back(error.into()))?;
    intake::check_rate(door, hit).map_err(|refused| away(refused.into()))?;
    let payment = match &challenge.intake.fee {
        Some(fee) => Some(paid(app, slug, fee, facts, hotkey, opened.submission, named).await?),
        None => None,
    };
    Ok(Admitted::New(Box::new(Ticket { claim, field, bytes, payment, _place: place })))
}

/// The commitment's text that a claim opens: the seal that it makes, or, where content is committed to in the open, what
/// the hotkey has committed to it with; no text when there is none.
async fn field_of(app: &App, slug: &str, facts: &ChainFacts, claim: &Claim) -> Result<String, Error> {
    if app.pipeline().challenge(slug)?.intake.form.pattern.is_none() {
        return Ok(claim.field(facts));
    }
    let (slug, hotkey, artifact) = (slug.to_owned(), claim.hotkey, claim.artifact);
    let found = app.pipeline().store().db().read(move |conn| views::field_of(conn, &slug, &hotkey, &artifact)).await?;
    Ok(found.unwrap_or_default())
}

/// The payment of a submission: the one that it has, or the named one, once the chain shows it and it is reserved.
async fn paid(
    app: &App,
    slug: &str,
    fee: &Fee,
    facts: &ChainFacts,
    hotkey: Hotkey,
    submission: SubmissionId,
    named: Option<PaymentName>,
) -> Result<Payment, Turned> {
    let away = |refused: Refused| Turned::Away { hotkey, failure: refused.into() };
    let back = |error: Error| Turned::Back(error.into());
    // Whoever comes again for the same submission has paid already, whatever is named now.
    if let Some(known) = app.pipeline().payment_of(submission).await.map_err(back)? {
        return Ok(known);
    }
    let name = named.ok_or_else(|| away(intake::payment_missing(fee)))?;
    let client = app.shared.state.chain.borrow().clone();
    let client = client.ok_or_else(|| Turned::Back(intake::chain_unread().into()))?;
    let traced = client.trace_payment(&name, &hotkey, fee.within_blocks).await;
    let traced = traced.map_err(|error| Turned::Back(Failure::ours(error.fault())))?;
    let paid = intake::check_payment(fee, &hotkey, &name, &traced, facts.retry_after_s()).map_err(away)?;
    let payment = Payment {
        extrinsic: name.extrinsic,
        challenge: slug.to_owned(),
        hotkey,
        submission,
        block: paid.block,
        amount_rao: paid.amount_rao,
    };
    let by = app.pipeline().reserve_payment(payment.clone()).await.map_err(back)?;
    if by != submission {
        return Err(away(intake::payment_used(by)));
    }
    Ok(payment)
}

/// Gives the payment of a failed upload back, unless the failure was its sender's.
async fn give_back(app: &App, ticket: &Ticket, failure: &Failure) {
    let Some(payment) = ticket.payment.as_ref().filter(|_| failure.fault.class != Class::Miner) else { return };
    if let Err(error) = app.pipeline().release_payment(payment.extrinsic, payment.submission).await {
        // It stays with its submission, which may use it again.
        warn!(%error, "a payment could not be given back");
    }
}

/// The declared length; `None` when there is none or it is no number.
fn declared_bytes(parts: &Parts) -> Option<u64> {
    parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Who sent this, what they claim about the body, its size, and what was paid for it.
fn authenticate(app: &App, parts: &Parts, facts: &ChainFacts) -> Result<(Claim, u64, Option<PaymentName>), Failure> {
    let since_ms = app.shared.state.nonces_since_ms;
    let gate = Gate::new(facts.genesis.0, facts.netuid, since_ms);
    let now_ms = app.clock().now_ms();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let nonces = Nonces { cache: app.pipeline().store().cache(), now_ms };
    let statement = gate
        .read_upload(header)
        .and_then(|unverified| gate.admit(unverified, now_ms, &nonces))
        .map_err(|error| unauthentic(&error, now_ms))?;
    match statement.subject {
        Subject::Upload { challenge, artifact, salt, size_bytes, payment } => {
            Ok((Claim { challenge, hotkey: statement.hotkey, artifact, salt }, size_bytes, payment))
        }
        // The gate reads uploads as uploads.
        Subject::Request { .. } => Err(unauthentic(&auth::Error::Signature, now_ms)),
    }
}

/// The status of each failure of a signature.
fn unauthentic(error: &auth::Error, now_ms: UnixMs) -> Failure {
    use auth::Error as E;
    let failure = |status, retry_after_s| Failure::from(Refused { fault: error.fault(), status, retry_after_s });
    match error {
        E::Missing { .. } | E::Stale { .. } | E::Future { .. } | E::Signature => failure(401, None),
        E::Malformed { .. } => failure(400, None),
        E::BeforeStart { accepted_from_ms, .. } => {
            let wait_ms = u64::try_from(accepted_from_ms.saturating_sub(now_ms)).unwrap_or(0);
            failure(503, Some(wait_ms.div_ceil(1000).max(1)))
        }
        E::Replayed { .. } => failure(409, None),
        E::Memory(fault) => Failure::ours(fault.clone()),
    }
}

/// The cache as the gate's memory.
struct Nonces<'a> {
    cache: &'a Cache,
    now_ms: UnixMs,
}

impl Replay for Nonces<'_> {
    fn is_new(&self, hotkey: &Hotkey, nonce: &Nonce, keep_until_ms: UnixMs) -> Result<bool, Fault> {
        let key = [b"nonce:".as_slice(), &hotkey.0, &nonce.0].concat();
        // The gate takes a stamp up to and with the last millisecond; the cache forgets at the end it is given.
        let end_ms = keep_until_ms.saturating_add(1);
        self.cache.insert_once(&key, end_ms, self.now_ms).map_err(|error| error.fault())
    }
}

fn hit(app: &App, key: &str, limit: u32) -> Result<Hit, store::Error> {
    // What the cache cannot count is no limit that a profile may set higher.
    let limit = limit.min(store::limits::WINDOW_HITS);
    app.pipeline().store().cache().hit(key.as_bytes(), limit, HOUR_MS, app.clock().now_ms())
}

/// Writes a refusal down, unless this hotkey or everybody together had so many that more would say nothing new.
async fn record(app: &App, slug: &str, hotkey: &Hotkey, fault: &Fault) {
    let hotkey = hotkey.to_string();
    let counted =
        [(format!("refusals:{hotkey}"), limits::REFUSALS_OF_HOTKEY), ("refusals".to_owned(), limits::REFUSALS)];
    for (key, limit) in counted {
        match hit(app, &key, limit) {
            Ok(Hit::Allowed { .. }) => {}
            Ok(Hit::Refused { .. }) => return,
            Err(error) => return warn!(%error, "a refusal could not be counted"),
        }
    }
    if let Err(error) = app.pipeline().refused(slug, &hotkey, fault).await {
        warn!(%error, "a refusal could not be recorded");
    }
}

/// Reads the body, keeps it if it is what was announced, and joins it to its commitment.
async fn receive(app: &App, ticket: &Ticket, body: Body) -> Result<Uploaded, Failure> {
    let Ticket { claim, field, bytes, payment, .. } = ticket;
    let slug = claim.challenge.as_str();
    let announced = Announced { digest: claim.artifact, bytes: *bytes };
    let stream = checked(body.into_data_stream(), announced, app.clock().as_ref());
    if let Err(error) = app.pipeline().store().blobs().put_stream(stream, *bytes).await {
        let failure = not_kept(error);
        if failure.fault.class == Class::Miner {
            record(app, slug, &claim.hotkey, &failure.fault).await;
        }
        return Err(failure);
    }
    // The block is read after the body came: an upload counts from when it was complete. It is the newest one, not the
    // newest final one: the hashes of the blocks between them are known to the sender, and a run's seeds may be there.
    let Some(facts) = app.facts() else { return Err(intake::chain_unread().into()) };
    if facts.is_behind(app.clock().now_ms()) {
        return Err(intake::chain_behind(&facts).into());
    }
    let block = facts.head;
    let upload = Upload {
        challenge: slug.to_owned(),
        hotkey: claim.hotkey,
        field: field.clone(),
        artifact: claim.artifact,
        bytes: *bytes,
        salt: hex::encode(claim.salt),
        block,
        payment: payment.clone(),
    };
    match app.pipeline().uploaded(upload).await {
        Ok(admitted) => {
            info!(submission = %admitted.submission, hotkey = %claim.hotkey, bytes, again = admitted.again, "uploaded");
            Ok(Uploaded { submission: admitted.submission, again: admitted.again })
        }
        // Its deadline passed, or a newer one took its place, while the body came.
        Err(error @ Error::Impossible { .. }) => {
            let failure = Failure::new(SUBMISSION_CLOSED, StatusCode::CONFLICT, error.to_string());
            record(app, slug, &claim.hotkey, &failure.fault).await;
            Err(failure)
        }
        Err(Error::PaymentUsed { by }) => {
            let failure = Failure::from(intake::payment_used(by));
            record(app, slug, &claim.hotkey, &failure.fault).await;
            Err(failure)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the body must turn out to be.
#[derive(Debug, Clone, Copy)]
struct Announced {
    digest: Digest,
    bytes: u64,
}

/// Why a body was not taken to its end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("the body is not what was announced")]
    Refused(Refused),
    #[error("nothing came for {0} ms")]
    Idle(u64),
    #[error("it took more than {0} ms")]
    Slow(u64),
    #[error("the connection broke off")]
    Broken(#[source] axum::Error),
}

/// The body with its checks: whoever stores the stream keeps it only if it ends without an error.
fn checked<S>(
    body: S,
    announced: Announced,
    clock: &dyn Clock,
) -> impl Stream<Item = Result<Bytes, Stopped>> + Send + use<'_, S>
where
    S: Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin,
{
    let deadline_ms = clock.now_ms().saturating_add(i64::try_from(limits::UPLOAD_MS).unwrap_or(i64::MAX));
    let start = Some((body, Sha256::new(), 0_u64));
    futures::stream::unfold(start, move |state| async move {
        let (mut body, mut hasher, mut bytes) = state?;
        match next_chunk(&mut body, clock, deadline_ms).await {
            Ok(Some(chunk)) => {
                hasher.update(&chunk);
                bytes += chunk.len() as u64;
                Some((Ok(chunk), Some((body, hasher, bytes))))
            }
            Ok(None) => {
                let body = intake::Body { digest: Digest(hasher.finalize().into()), bytes };
                let refused = body.check(&announced.digest, announced.bytes).err()?;
                Some((Err(Stopped::Refused(refused)), None))
            }
            Err(stopped) => Some((Err(stopped), None)),
        }
    })
}

async fn next_chunk(
    body: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    clock: &dyn Clock,
    deadline_ms: UnixMs,
) -> Result<Option<Bytes>, Stopped> {
    if clock.now_ms() >= deadline_ms {
        return Err(Stopped::Slow(limits::UPLOAD_MS));
    }
    tokio::select! {
        chunk = body.next() => chunk.transpose().map_err(Stopped::Broken),
        () = clock.sleep(Duration::from_millis(limits::UPLOAD_IDLE_MS)) => Err(Stopped::Idle(limits::UPLOAD_IDLE_MS)),
    }
}

/// Why the store kept nothing, as the sender is told.
fn not_kept(error: store::Error) -> Failure {
    let store::Error::CutOff { source } = error else { return error.into() };
    match source.downcast::<Stopped>().map(|stopped| *stopped) {
        Ok(Stopped::Refused(refused)) => refused.into(),
        Ok(slow @ (Stopped::Idle(_) | Stopped::Slow(_))) => {
            Failure::new(UPLOAD_STALLED, StatusCode::REQUEST_TIMEOUT, slow.to_string())
        }
        Ok(Stopped::Broken(source)) => store::Error::CutOff { source: source.into() }.into(),
        Err(source) => store::Error::CutOff { source }.into(),
    }
}

/// Reads a refused body for a while and throws it away. A sender that is still writing when the connection closes
/// would see a broken connection in place of the answer.
pub(super) fn linger(app: &App, parts: &Parts, body: Body) {
    // Whoever asks first has sent nothing yet, and is told not to.
    if parts.headers.contains_key(header::EXPECT) {
        return;
    }
    let (clock, token) = (Arc::clone(app.clock()), app.shared.tasks.token().clone());
    app.shared.tasks.spawn("refused upload", async move {
        let mut stream = body.into_data_stream();
        let drain = async {
            let mut left = limits::LINGER_BYTES;
            while let Some(Ok(chunk)) = stream.next().await {
                left = left.saturating_sub(chunk.len() as u64);
                if left == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = drain => {}
            () = clock.sleep(Duration::from_millis(limits::LINGER_MS)) => {}
            () = token.cancelled() => {}
        }
    });
}

#[cfg(test)]
mod unit {
    use async_trait::async_trait;

    use super::*;

    /// A clock on which every wait is over at once.
    struct Rushing(UnixMs);

    #[async_trait]
    impl Clock for Rushing {
        fn now_ms(&self) -> UnixMs {
            self.0
        }

        async fn sleep(&self, _duration: Duration) {}
    }

    #[tokio::test]
    async fn a_silent_sender_and_an_endless_one_are_given_up() {
        let mut silent = futures::stream::pending();
        let stopped = next_chunk(&mut silent, &Rushing(0), 1).await.expect_err("nothing comes");
        assert!(matches!(stopped, Stopped::Idle(_)), "{stopped}");
        let mut ready = futures::stream::repeat_with(|| Ok(Bytes::from_static(b"x")));
        let stopped = next_chunk(&mut ready, &Rushing(1), 1).await.expect_err("the time is over");
        assert!(matches!(stopped, Stopped::Slow(_)), "{stopped}");
        let failure = not_kept(store::Error::CutOff { source: Box::new(stopped) });
        assert_eq!((failure.fault.code.as_str(), failure.status.as_u16()), ("upload_stalled", 408));
    }
}

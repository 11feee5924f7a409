//! Publishing: checks on this machine, the commitment, the signed upload; each step done once however often it is
//! begun again.

use std::{fs, time::Duration};

use bytes::Bytes;
use serde::Serialize;

use super::{
    ARTIFACT_UNREADABLE, Commit, Committed, Foreign, Means, Step, Watch, commit, commit_foreign, digest_file,
    pay::pay,
    seals::{SEALS_UNUSABLE, Seal, Seals},
    until_opened,
};
use crate::{
    auth::{Nonce, Statement, Subject},
    chain::{self, PaymentName},
    clock::{Clock, UnixMs},
    config::{Profile, profile::Source},
    fault::Fault,
    gym::policy::BackendChoice,
    ids::{Digest, Entropy, Hotkey, SubmissionId},
    intake::{COMMITMENT_NOT_FINAL, Fee, PAYMENT_OLD, PAYMENT_USED},
    server::client,
    stage::{catalog, checks},
};

/// Bytes of the largest artifact that any profile may allow: what is larger need not be read.
const READ_BYTES_MAX: u64 = crate::config::profile::limits::ARTIFACT_BYTES;
/// The longest wait that an appliance is believed.
const RETRY_AFTER_S_MAX: u64 = 60;
/// How long to come again after a payment, which may have used up the patience, in milliseconds: five blocks.
const AFTER_PAYMENT_MS: i64 = 60_000;
/// How often the appliance is asked how far it has read the chain, in milliseconds: a part of any block's time.
const LOOK_MS: u64 = 500;

/// What to publish, and where.
#[derive(Clone, Copy)]
pub struct Publish<'a> {
    /// The artifact, its challenge, and who publishes it.
    pub commit: Commit<'a>,
    /// The appliance.
    pub api: &'a client::Client,
    /// The challenge's profile, whose checks are made here first; `None` sends without looking.
    pub checks: Option<&'a Profile>,
    /// Upload only: what was committed before is not looked for on chain.
    pub skip_commit: bool,
    /// How long to come again when the appliance asks for it, in milliseconds.
    pub patience_ms: u64,
    /// Whether the challenge's commitments are of a form of its own: nothing is sealed then.
    pub foreign_form: bool,
    /// What is committed in that form, unless it was before.
    pub foreign: Option<Foreign<'a>>,
    /// What the upload costs, if anything.
    pub fee: Option<Fee>,
    /// How that is paid.
    pub means: Means<'a>,
}

/// Whether the upload is paid for already, or its transfer is on its way: nobody need be asked then.
///
/// # Errors
/// When the artifact or the salt file cannot be read.
pub fn is_paid(genesis: &[u8; 32], what: &Commit<'_>) -> Result<bool, Fault> {
    let (artifact, _bytes) = digest_file(what.artifact)?;
    let seals = Seals::open(what.artifact)?;
    let seal = seals.find(&what.subject(genesis, artifact));
    Ok(seal.is_some_and(|seal| seal.payment.is_some() || seal.pending_payment().is_some()))
}

/// A published artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The submission's id there.
    pub submission: SubmissionId,
    /// Whether the appliance had the artifact before.
    pub again: bool,
    /// The challenge.
    pub challenge: String,
    /// Who published it.
    pub hotkey: Hotkey,
    /// SHA-256 of the artifact.
    pub artifact: Digest,
    /// Its size.
    pub bytes: u64,
    /// The commitment, unless it was skipped.
    pub committed: Option<Committed>,
    /// What was paid for it, where it cost something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentName>,
}

/// Checks, commits if need be, and uploads. Begun again after any interruption, it goes on where it was.
///
/// # Errors
/// The miner's fault that a check found, or what chain or appliance refused.
pub async fn publish(
    chain: &chain::Client,
    what: &Publish<'_>,
    entropy: &dyn Entropy,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Published, Fault> {
    let artifact = read(what)?;
    if let Some(profile) = what.checks {
        check(profile, &artifact)?;
        watch(&Step::Checked);
    }
    let (committed, counts_from) = commit_once(chain, what, entropy, clock, watch).await?;
    let deadline_ms = clock.now_ms().saturating_add_unsigned(what.patience_ms);
    if let Some(block) = counts_from {
        until_read(what.api, block, deadline_ms, clock, watch).await?;
    }
    let digest = Digest::of(&artifact);
    let genesis = chain.genesis_hash();
    let mut seals = Seals::open(what.commit.artifact)?;
    let subject = what.commit.subject(&genesis, digest);
    let seal = match seals.find(&subject).cloned() {
        Some(seal) => seal,
        // Nothing is sealed; the entry holds the payment.
        None if what.foreign_form => seals.make(&subject, entropy)?,
        None => {
            let path = seals.path().display();
            return Err(SEALS_UNUSABLE.because(format!("`{path}` has no salt for this artifact: commit first")));
        }
    };
    let payment = match &what.fee {
        Some(fee) => Some(pay(chain, fee, what.means, &mut seals, &seal, watch).await?),
        None => None,
    };
    let bytes = artifact.len() as u64;
    let deadline_ms = deadline_ms.max(clock.now_ms().saturating_add(AFTER_PAYMENT_MS));
    let uploaded = upload(what, &seal, payment, artifact, deadline_ms, entropy, clock, watch).await;
    if let Err(fault) = &uploaded
        && [PAYMENT_USED.name, PAYMENT_OLD.name].contains(&fault.code.as_str())
    {
        // Good for nothing any more: the next try may pay anew.
        seals.keep(&Seal { payment: None, paying: None, ..seal })?;
    }
    let uploaded = uploaded?;
    watch(&Step::Accepted { submission: uploaded.submission.to_string() });
    Ok(Published {
        submission: uploaded.submission,
        again: uploaded.again,
        challenge: what.commit.challenge.to_string(),
        hotkey: what.commit.hotkey.account(),
        artifact: digest,
        bytes,
        committed,
        payment,
    })
}

/// Commits, unless that is not wanted. Answers also the block from which it counts: a locked one's is that in which the
/// chain opened it.
async fn commit_once(
    chain: &chain::Client,
    what: &Publish<'_>,
    entropy: &dyn Entropy,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<(Option<Committed>, Option<u64>), Fault> {
    if what.skip_commit {
        return Ok((None, None));
    }
    let Some(foreign) = &what.foreign else {
        let committed = commit(chain, &what.commit, entropy, watch).await?;
        let block = committed.block;
        return Ok((Some(committed), Some(block)));
    };
    let committed = commit_foreign(chain, foreign, clock, watch).await?;
    let block = committed.block;
    if foreign.source != Source::Revealed {
        return Ok((Some(committed), Some(block)));
    }
    let deadline_ms = clock.now_ms().saturating_add_unsigned(what.patience_ms);
    let opened = until_opened(chain, foreign, deadline_ms, clock).await?;
    Ok((Some(committed), opened.or(Some(block))))
}

fn read(what: &Publish<'_>) -> Result<Bytes, Fault> {
    let path = what.commit.artifact;
    let unreadable = |why: String| ARTIFACT_UNREADABLE.because(format!("`{}`: {why}", path.display()));
    let about = fs::metadata(path).map_err(|source| unreadable(source.to_string()))?;
    if about.len() > READ_BYTES_MAX {
        return Err(unreadable(format!("{} bytes; no challenge takes more than {READ_BYTES_MAX}", about.len())));
    }
    fs::read(path).map(Bytes::from).map_err(|source| unreadable(source.to_string()))
}

/// The operator's own checks. The embedded backend stands for whatever the operator has: nothing is run here.
fn check(profile: &Profile, artifact: &[u8]) -> Result<(), Fault> {
    let environments = catalog::rollouts_of(profile).map(|options| options.environments).unwrap_or_default();
    checks::check(artifact, &catalog::limits(profile), &environments, &BackendChoice::Embedded).map(drop)
}

/// Waits until the appliance has read this block. Before that it cannot tell a commitment that is on its way from one
/// that does not open. When patience is at its end the appliance may say itself what it misses.
async fn until_read(
    api: &client::Client,
    block: u64,
    deadline_ms: UnixMs,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<(), Fault> {
    while clock.now_ms() < deadline_ms {
        let read = api.health().await.map_err(|error| error.fault())?.block;
        if read.is_some_and(|read| read >= block) {
            return Ok(());
        }
        watch(&Step::Waiting { code: COMMITMENT_NOT_FINAL.name.to_owned(), after_ms: LOOK_MS });
        clock.sleep(Duration::from_millis(LOOK_MS)).await;
    }
    Ok(())
}

/// Uploads, and comes again while the appliance asks for it and patience lasts. Every try is signed anew.
#[expect(clippy::too_many_arguments, reason = "what is sent, and all that a try may wait for")]
async fn upload(
    what: &Publish<'_>,
    seal: &Seal,
    payment: Option<PaymentName>,
    artifact: Bytes,
    deadline_ms: UnixMs,
    entropy: &dyn Entropy,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<crate::server::views::Uploaded, Fault> {
    let total_bytes = artifact.len() as u64;
    let salt = seal.salt_bytes()?;
    loop {
        watch(&Step::Uploading { sent_bytes: 0, total_bytes });
        let statement = Statement {
            genesis: seal.genesis.0,
            netuid: what.commit.netuid,
            hotkey: what.commit.hotkey.account(),
            timestamp_ms: clock.now_ms(),
            nonce: Nonce::random(entropy),
            subject: Subject::Upload {
                challenge: what.commit.challenge.clone(),
                artifact: seal.artifact,
                salt,
                size_bytes: total_bytes,
                payment,
            },
        };
        let signed = statement.sign(what.commit.hotkey);
        let error = match what.api.upload(what.commit.challenge.as_str(), &signed, artifact.clone()).await {
            Ok(uploaded) => {
                watch(&Step::Uploading { sent_bytes: total_bytes, total_bytes });
                return Ok(uploaded);
            }
            Err(error) => error,
        };
        let Some(after_s) = error.retry_after_s() else { return Err(error.fault()) };
        let after_ms = after_s.clamp(1, RETRY_AFTER_S_MAX) * 1000;
        if clock.now_ms().saturating_add_unsigned(after_ms) > deadline_ms {
            return Err(error.fault());
        }
        watch(&Step::Waiting { code: error.code(), after_ms });
        clock.sleep(Duration::from_millis(after_ms)).await;
    }
}

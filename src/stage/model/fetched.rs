//! Models on this machine: fetched whole, each file what its digest says, and read once for the fingerprint.
//!
//! Owns the way from a source to a fingerprint that is kept. Refuses to judge. Both stages of models call it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};
use tracing::info;

use super::{
    Looked, Prints,
    codes::{BASE_UNAVAILABLE, FINGERPRINT_FAILED, NO_ROOM, REFERENCE_MISSING},
    prints::Printed,
};
use crate::{
    artifact::{
        fetch::{Credentials, Download, Held, Limits, Progress, Source, Sources, download},
        model::{
            ModelCache, Options, Passed, Refused, Reserved, Step, Trouble, Why, cache, codes, safetensors::Header,
        },
    },
    dedup::model::Fingerprint,
    engine::fingerprint::{self, Request, Scanned},
    fault::Fault,
    ids::Digest,
    stage::{Outcome, Work},
};

/// How long one try may wait for room, or for another who fetches the same.
const ROOM_WAIT: Duration = Duration::from_secs(120);
/// Steps in which the log hears of a download.
const TOLD_PERCENT: u64 = 5;

/// What the models of all challenges share.
#[derive(Clone)]
pub struct Parts {
    /// How sources may be spoken to.
    pub fetch: Limits,
    /// Who asks a registry that is not open to everybody.
    pub credentials: Option<Credentials>,
    /// Where models are kept.
    pub cache: ModelCache,
    /// Their fingerprints.
    pub prints: Prints,
    /// One pass over weights at a time: it takes all cores.
    pub passes: Arc<Semaphore>,
}

/// The models of one challenge.
#[derive(Clone)]
pub struct Models {
    /// The challenge's slug.
    pub challenge: String,
    /// Where they come from.
    pub sources: Sources,
    /// What the profile asks of them.
    pub options: Options,
    /// Bytes of one model.
    pub bytes_max: u64,
    /// What they share with those of other challenges.
    pub parts: Parts,
    base: Arc<OnceCell<Arc<Fingerprint>>>,
}

/// Tells a pass to stop when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Models {
    /// The models of a challenge, under its profile's options.
    #[must_use]
    pub fn new(challenge: String, options: Options, bytes_max: u64, parts: Parts) -> Self {
        let sources = Sources::new(options.source.clone(), parts.fetch, parts.credentials.clone());
        Self { challenge, sources, options, bytes_max, parts, base: Arc::default() }
    }

    /// Looks at a model as it was committed, without fetching it.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn look(&self, repo: &str, digest: &str) -> Result<Looked, Refused> {
        super::look(&self.sources, &self.options, self.bytes_max, (repo, digest), &|_: &Step| ()).await
    }

    /// The fingerprint of the base that the profile names, if it names one.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn base(&self) -> Result<Option<Arc<Fingerprint>>, Fault> {
        let named = self.options.base().map_err(|why| BASE_UNAVAILABLE.because(why))?;
        let Some(reference) = named else { return Ok(None) };
        let digest = cache::key_of(&reference);
        let base = self.base.get_or_try_init(|| async {
            if let Some(print) = self.parts.prints.get(digest).await? {
                return Ok(Arc::new(print));
            }
            // The base may be called as it likes; everything else is asked of it too.
            let models = Self { options: Options { naming: None, ..self.options.clone() }, ..self.clone() };
            let made = match models.look(reference.repo(), &reference.revision().to_string()).await {
                Ok(looked) => models.print(digest, &looked).await,
                Err(refused) => Err(refused),
            };
            made.map(Arc::new).map_err(|refused| match *refused.why {
                Why::Rejected(rejection) => BASE_UNAVAILABLE.because(format!("{reference}: {}", rejection.detail)),
                Why::Trouble(fault) => fault,
            })
        });
        base.await.cloned().map(Some)
    }

    /// The fingerprint of a model that passed the first look: the one that is kept, or a new one.
    ///
    /// # Errors
    /// What it could not be made for.
    pub async fn print(&self, artifact: Digest, looked: &Looked) -> Result<Fingerprint, Refused> {
        if let Some(print) = self.parts.prints.get(artifact).await.map_err(trouble)? {
            return Ok(print);
        }
        let print = self.read(looked).await?;
        let printed = Printed {
            artifact,
            reference: &looked.reference.to_string(),
            challenge: &self.challenge,
            weights_bytes: weights_bytes(&looked.passed),
        };
        self.parts.prints.keep(printed, &print).await.map_err(trouble)?;
        Ok(print)
    }

    /// Reads the model once: the one that is kept, or one that is fetched as soon as there is room for it. The same pass
    /// gives the digests of what was fetched, which is kept only when they are those that were committed to.
    async fn read(&self, looked: &Looked) -> Result<Fingerprint, Refused> {
        let bytes = looked.passed.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        let failed = |error: cache::Error| trouble(error.fault());
        let reserved = tokio::select! {
            reserved = self.parts.cache.reserve(&looked.reference, bytes) => reserved.map_err(failed)?,
            // Whoever waits here keeps others from being judged, who may be what has the room.
            () = self.parts.prints.clock().sleep(ROOM_WAIT) => {
                return Err(trouble(NO_ROOM.because(format!("{}: {bytes} bytes", looked.reference))));
            }
        };
        match reserved {
            Reserved::Here(pinned) => {
                let scanned = self.scan(pinned.path(), &looked.passed, false).await.map_err(trouble)?;
                Ok(scanned.fingerprint)
            }
            Reserved::Place(place) => {
                let files = self.fetch(&*looked.source, place.dir()).await?;
                let scanned = self.scan(place.dir(), &looked.passed, true).await.map_err(trouble)?;
                verify(place.dir(), &files, &scanned, &looked.passed).await.map_err(trouble)?;
                place.finish().await.map_err(failed)?;
                Ok(scanned.fingerprint)
            }
        }
    }

    async fn fetch(&self, source: &dyn Source, folder: &Path) -> Result<Vec<Held>, Refused> {
        let how = Download { bytes_max: self.bytes_max, leaves_weights: true, ..Download::default() };
        let (uri, told) = (source.uri(), AtomicU64::new(0));
        let watch = |progress: Progress| {
            let percent = progress.done.saturating_mul(100) / progress.total.max(1);
            if percent >= told.load(Ordering::Relaxed) + TOLD_PERCENT {
                told.store(percent, Ordering::Relaxed);
                info!(uri, percent, bytes = progress.total, "fetching");
            }
        };
        let limit = Duration::from_millis(self.options.fetch_ms);
        let fetched = tokio::select! {
            fetched = download(source, folder, how, &watch) => fetched,
            () = self.parts.prints.clock().sleep(limit) => {
                Err(Trouble::Failed(format!("not whole after {} ms", self.options.fetch_ms)))
            }
        };
        fetched.map_err(|trouble| {
            let why = match &trouble {
                Trouble::Missing(what) => Why::Rejected(rejection(codes::INCOMPLETE_REPO, what, source)),
                Trouble::Malformed(what) => Why::Rejected(rejection(codes::REPO_MALFORMED, what, source)),
                Trouble::Disk(_) => Why::Trouble(codes::MODEL_UNREADABLE.because(trouble.to_string())),
                Trouble::Forbidden(_) => Why::Trouble(codes::FETCH_NOT_ALLOWED.because(trouble.to_string())),
                Trouble::NoRange(_) | Trouble::Damaged(_) | Trouble::Denied(_) | Trouble::Failed(_) => {
                    Why::Trouble(codes::DOWNLOAD_FAILED.because(trouble.to_string()))
                }
            };
            Refused { steps: Vec::new(), why: Box::new(why), read_bytes: 0 }
        })
    }

    /// The one pass over the weights, on all cores.
    async fn scan(&self, folder: &Path, passed: &Passed, sha256: bool) -> Result<Scanned, Fault> {
        let _turn =
            self.parts.passes.acquire().await.map_err(|source| FINGERPRINT_FAILED.because(source.to_string()))?;
        let (prints, shards, folder) = (self.parts.prints.clone(), passed.shards.clone(), folder.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop));
        let scanned = tokio::task::spawn_blocking(move || {
            let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let request = Request { folder: &folder, shards: &shards, key: prints.key(), threads, sha256 };
            fingerprint::scan(&request, &|_bytes| !stop.load(Ordering::Relaxed))
        });
        match scanned.await {
            Ok(Ok(scanned)) => Ok(scanned),
            Ok(Err(error)) => Err(FINGERPRINT_FAILED.because(error.to_string())),
            Err(source) => Err(FINGERPRINT_FAILED.because(format!("the pass ended early: {source}"))),
        }
    }
}

/// What has failed for another reason than the miner's.
fn trouble(fault: Fault) -> Refused {
    Refused { steps: Vec::new(), why: Box::new(Why::Trouble(fault)), read_bytes: 0 }
}

/// Whether the weight files are those that were committed to. One that is not is thrown away, so that it is fetched
/// again.
async fn verify(folder: &Path, files: &[Held], scanned: &Scanned, passed: &Passed) -> Result<(), Fault> {
    let mut damaged = Vec::new();
    for file in files {
        let Some(found) = scanned.sha256.get(&file.name) else { continue };
        // Where the source binds no digest, what was fetched must at least be what was checked.
        let is_same = match file.sha256 {
            Some(expected) => expected == *found,
            None => header(folder.join(&file.name)).await?.as_ref() == passed.shards.get(&file.name),
        };
        if !is_same {
            let path = folder.join(&file.name);
            let removed = tokio::fs::remove_file(&path).await;
            removed.map_err(|error| codes::MODEL_UNREADABLE.because(format!("{}: {error}", path.display())))?;
            damaged.push(file.name.as_str());
        }
    }
    if damaged.is_empty() {
        return Ok(());
    }
    Err(codes::DOWNLOAD_FAILED.because(format!("not what their digests say: {}", damaged.join(", "))))
}

/// The header of a weight file on this machine; none where it is no such file.
async fn header(path: PathBuf) -> Result<Option<Header>, Fault> {
    let read = tokio::task::spawn_blocking(move || fingerprint::header(&path)).await;
    match read {
        Ok(Ok(header)) => Ok(Some(header)),
        Ok(Err(fingerprint::Error::Header { .. })) => Ok(None),
        Ok(Err(error)) => Err(codes::MODEL_UNREADABLE.because(error.to_string())),
        Err(source) => Err(FINGERPRINT_FAILED.because(format!("the reader ended early: {source}"))),
    }
}

fn rejection(code: crate::fault::Code, what: &str, source: &dyn Source) -> crate::artifact::model::Rejection {
    crate::artifact::model::Rejection::new(code, what, json!({ "uri": source.uri() }))
}

/// Bytes of all weight files.
pub(super) fn weights_bytes(passed: &Passed) -> u64 {
    passed.files.iter().filter(|file| passed.shards.contains_key(&file.name)).map(|file| file.bytes).sum()
}

/// Repository and digest as the submission's commitment names them.
pub(super) fn named(work: &Work) -> Result<(&str, &str), Fault> {
    let part = |name: &str| work.parts.get(name).map(String::as_str);
    match (part("repo"), part("digest")) {
        (Some(repo), Some(digest)) => Ok((repo, digest)),
        _ => Err(REFERENCE_MISSING.because(format!("it has {:?}", work.parts.keys().collect::<Vec<_>>()))),
    }
}

/// What a refusal makes of the submission.
pub(super) fn outcome(refused: Refused) -> Outcome {
    let Refused { steps, why, read_bytes } = refused;
    match *why {
        Why::Rejected(rejection) => {
            let evidence = json!({ "checks": steps, "read_bytes": read_bytes, "details": rejection.details });
            Outcome::Reject(rejection.fault(), evidence)
        }
        Why::Trouble(fault) => Outcome::Retry(fault),
    }
}

/// What a model that passed leaves for everybody to see.
pub(super) fn evidence(looked: &Looked, print: &Fingerprint) -> Value {
    let tensors: usize = looked.passed.shards.values().map(|header| header.tensors.len()).sum();
    json!({
        "reference": looked.reference.to_string(), "checks": looked.passed.steps, "files": looked.passed.files.len(),
        "tensors": tensors, "matrices": print.matrices(), "weights_bytes": weights_bytes(&looked.passed),
        "contents": hex::encode(print.contents), "named": hex::encode(print.named),
    })
}

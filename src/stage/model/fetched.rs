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
use tokio::sync::Semaphore;
use tracing::info;

use super::{
    Looked, Prints,
    codes::{FINGERPRINT_FAILED, REFERENCE_MISSING},
    prints::Printed,
};
use crate::{
    artifact::{
        fetch::{Credentials, Download, Limits, Progress, Source, Sources, download},
        model::{ModelCache, Options, Passed, Pinned, Refused, Reserved, Step, Trouble, Why, cache, codes},
    },
    dedup::model::Fingerprint,
    engine::fingerprint::{self, Request},
    fault::Fault,
    ids::Digest,
    stage::{Outcome, Work},
};

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
}

/// Tells a pass to stop when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Models {
    /// Looks at a model as it was committed, without fetching it.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn look(&self, repo: &str, digest: &str) -> Result<Looked, Refused> {
        super::look(&self.sources, &self.options, self.bytes_max, (repo, digest), &|_: &Step| ()).await
    }

    /// The fingerprint of a model that passed the first look: the one that is kept, or a new one.
    ///
    /// # Errors
    /// What it could not be made for.
    pub async fn print(&self, artifact: Digest, looked: &Looked) -> Result<Fingerprint, Refused> {
        let trouble = |fault| Refused { steps: Vec::new(), why: Box::new(Why::Trouble(fault)), read_bytes: 0 };
        if let Some(print) = self.parts.prints.get(artifact).await.map_err(trouble)? {
            return Ok(print);
        }
        let kept = self.kept(looked).await?;
        let print = self.scan(kept.path().to_owned(), &looked.passed).await.map_err(trouble)?;
        drop(kept);
        let printed = Printed {
            artifact,
            reference: &looked.reference.to_string(),
            challenge: &self.challenge,
            weights_bytes: weights_bytes(&looked.passed),
        };
        self.parts.prints.keep(printed, &print).await.map_err(trouble)?;
        Ok(print)
    }

    /// The model on this machine: the one that is kept, or fetched once there is room for it. It stays while the answer
    /// lives.
    async fn kept(&self, looked: &Looked) -> Result<Pinned, Refused> {
        let bytes = looked.passed.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        let trouble = |error: cache::Error| Refused {
            steps: Vec::new(),
            why: Box::new(Why::Trouble(error.fault())),
            read_bytes: 0,
        };
        match self.parts.cache.reserve(&looked.reference, bytes).await.map_err(trouble)? {
            Reserved::Here(pinned) => Ok(pinned),
            Reserved::Place(place) => {
                self.fetch(&*looked.source, place.dir()).await?;
                place.finish().await.map_err(trouble)
            }
        }
    }

    async fn fetch(&self, source: &dyn Source, folder: &Path) -> Result<(), Refused> {
        let how = Download { bytes_max: self.bytes_max, ..Download::default() };
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
    async fn scan(&self, folder: PathBuf, passed: &Passed) -> Result<Fingerprint, Fault> {
        let _turn =
            self.parts.passes.acquire().await.map_err(|source| FINGERPRINT_FAILED.because(source.to_string()))?;
        let (prints, shards) = (self.parts.prints.clone(), passed.shards.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop));
        let scanned = tokio::task::spawn_blocking(move || {
            let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let request = Request { folder: &folder, shards: &shards, key: prints.key(), threads, sha256: false };
            fingerprint::scan(&request, &|_bytes| !stop.load(Ordering::Relaxed))
        });
        match scanned.await {
            Ok(Ok(scanned)) => Ok(scanned.fingerprint),
            Ok(Err(error)) => Err(FINGERPRINT_FAILED.because(error.to_string())),
            Err(source) => Err(FINGERPRINT_FAILED.because(format!("the pass ended early: {source}"))),
        }
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

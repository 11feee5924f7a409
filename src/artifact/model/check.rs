//! The checks of a model in their order, by its small files and the headers of its weights alone.
//!
//! Owns the order and what is read for it. Refuses to know any one rule: each has a module of its own. The stage
//! `checks` runs it against the committed source, the miner verbs against a folder or that source.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Rejection, Repo, Trouble, architecture, codes,
    files::{FileEntry, FileRules, matches},
    index,
    safetensors::{Dtype, Header, LENGTH_BYTES, Malformed},
};
use crate::fault::{Code, Fault};

/// Which files hold weights.
pub const WEIGHTS: &str = "*.safetensors";
/// Bytes of each weight file that are asked for at once: the length and, mostly, all of the header, in one round trip.
const FIRST_BYTES: u64 = 16 * 1024;
/// Bytes of all headers of a model together: what one check may hold in memory.
const HEADERS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Reads of one source at a time.
const READS_AT_ONCE: usize = 32;

/// What a challenge asks of a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Which files.
    pub files: FileRules,
    /// Which types of tensors, by their names in the format.
    pub dtypes: Vec<String>,
    /// Which architecture; any without it.
    #[serde(default)]
    pub architecture: Option<architecture::Spec>,
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The code that its failure has.
    pub name: &'static str,
    /// Whether it passed.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// A model that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    /// What was looked at.
    pub steps: Vec<Step>,
    /// All files.
    pub files: Vec<FileEntry>,
    /// The header of each weight file.
    pub shards: BTreeMap<String, Header>,
    /// Bytes that were read.
    pub read_bytes: u64,
}

/// A model that did not pass, or could not be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What was looked at, the last of it in vain.
    pub steps: Vec<Step>,
    /// Why.
    pub why: Box<Why>,
    /// Bytes that were read.
    pub read_bytes: u64,
}

/// Why a model did not pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// The model breaks a rule.
    Rejected(Rejection),
    /// The source could not be read.
    Trouble(Fault),
}

impl Refused {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.why.as_ref() {
            Why::Rejected(rejection) => rejection.fault(),
            Why::Trouble(fault) => fault.clone(),
        }
    }
}

/// Checks a model by its files' names and sizes, the headers of its weights, its index and its configuration.
/// `watch` hears of each check as it ends.
///
/// # Errors
/// The first check that fails.
pub async fn preflight(repo: &dyn Repo, rules: &Rules, watch: &(dyn Fn(&Step) + Sync)) -> Result<Passed, Refused> {
    let mut looking = Looking { repo, watch, steps: Vec::new(), read_bytes: 0 };
    let files = repo.list().await;
    let files = looking.source(codes::FILE_MANIFEST, codes::LIST_FILES_FAILED, files)?;
    let passed = rules.files.check(&files).map(|()| format!("{} files", files.len()));
    looking.step(codes::FILE_MANIFEST, passed)?;

    let shards = looking.headers(&files, &rules.dtypes).await?;
    looking.step(codes::WEIGHT_DTYPE, Ok(format!("{} headers", shards.len())))?;

    let index = looking.small(&files, index::FILE, index::BYTES_MAX, codes::PREFLIGHT_FAILED).await?;
    let tensors: usize = shards.values().map(|header| header.tensors.len()).sum();
    let told = format!("{tensors} tensors in {} weight files", shards.len());
    looking.step(codes::SAFETENSORS_INDEX, index::check(index.as_deref(), &shards).map(|()| told))?;

    if let Some(spec) = &rules.architecture {
        let config =
            looking.small(&files, architecture::FILE, architecture::BYTES_MAX, codes::PREFLIGHT_FAILED).await?;
        let missing = || Rejection::new(codes::ARCHITECTURE, "there is no `config.json`", json!({}));
        let checked = config.ok_or_else(missing).and_then(|config| spec.check(&config));
        looking.step(codes::ARCHITECTURE, checked.map(|()| format!("{} values as fixed", spec.expected.len())))?;
    }
    Ok(Passed { steps: looking.steps, files, shards, read_bytes: looking.read_bytes })
}

/// A look at one model.
struct Looking<'a> {
    repo: &'a dyn Repo,
    watch: &'a (dyn Fn(&Step) + Sync),
    steps: Vec<Step>,
    read_bytes: u64,
}

impl Looking<'_> {
    /// Records how a check ended.
    fn step(&mut self, code: Code, ended: Result<String, Rejection>) -> Result<(), Refused> {
        match ended {
            Ok(detail) => {
                self.record(code.name, true, detail);
                Ok(())
            }
            Err(rejection) => Err(self.rejected(rejection)),
        }
    }

    fn record(&mut self, name: &'static str, ok: bool, detail: String) {
        let step = Step { name, ok, detail };
        (self.watch)(&step);
        self.steps.push(step);
    }

    fn rejected(&mut self, rejection: Rejection) -> Refused {
        self.record(rejection.code.name, false, rejection.detail.clone());
        Refused { steps: self.steps.clone(), why: Box::new(Why::Rejected(rejection)), read_bytes: self.read_bytes }
    }

    /// What the source answered; where it did not, the code that its trouble has.
    fn source<T>(&mut self, check: Code, failed: Code, answer: Result<T, Trouble>) -> Result<T, Refused> {
        let trouble = match answer {
            Ok(answer) => return Ok(answer),
            Err(trouble) => trouble,
        };
        if let Trouble::Missing(what) = trouble {
            let code = if self.steps.is_empty() { codes::REPO_NOT_FOUND } else { codes::INCOMPLETE_REPO };
            return Err(self.rejected(Rejection::new(code, what, json!({"uri": self.repo.uri()}))));
        }
        if let Trouble::Malformed(what) = trouble {
            return Err(self.rejected(Rejection::new(codes::REPO_MALFORMED, what, json!({"uri": self.repo.uri()}))));
        }
        let code = match &trouble {
            Trouble::Disk(_) => codes::MODEL_UNREADABLE,
            Trouble::Forbidden(_) => codes::FETCH_NOT_ALLOWED,
            _ => failed,
        };
        let fault = code.because(trouble.to_string());
        self.record(check.name, false, fault.detail.clone());
        Err(Refused { steps: self.steps.clone(), why: Box::new(Why::Trouble(fault)), read_bytes: self.read_bytes })
    }

    /// A small file as a whole; `None` when it is not listed. Of a larger one, a byte more than the limit.
    async fn small(
        &mut self,
        files: &[FileEntry],
        name: &str,
        limit: u64,
        failed: Code,
    ) -> Result<Option<Bytes>, Refused> {
        let Some(file) = files.iter().find(|file| file.name == name) else { return Ok(None) };
        let wanted = file.bytes.min(limit + 1);
        let answer = if wanted == 0 { Ok(Bytes::new()) } else { self.repo.read(name, 0, wanted).await };
        let bytes = self.source(codes::INCOMPLETE_REPO, failed, answer)?;
        self.read_bytes += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The header of every weight file, with types that are taken. The verdict is that of looking at one file after the
    /// other by name, whichever answers first; what is behind the first that is wrong is not waited for.
    async fn headers(&mut self, files: &[FileEntry], dtypes: &[String]) -> Result<BTreeMap<String, Header>, Refused> {
        let mut shards: Vec<&FileEntry> = files.iter().filter(|file| matches(WEIGHTS, &file.name)).collect();
        shards.sort_by(|one, other| one.name.cmp(&other.name));
        let Beginnings { begun, stop } = self.beginnings(&shards).await;
        let rests = begun.iter().map(|one| (one.shard, one.first.len() as u64, one.missing_bytes()));
        let mut rests = in_order(self.repo, rests);
        let mut headers = BTreeMap::new();
        for Begun { shard, header_bytes, first } in &begun {
            let Some(rest) = rests.next().await else { break };
            let rest = self.source(codes::WEIGHT_DTYPE, codes::PREFLIGHT_FAILED, rest)?;
            self.read_bytes += rest.len() as u64;
            let mut json = first.slice(LENGTH_BYTES as usize..).to_vec();
            json.extend_from_slice(&rest);
            json.truncate(usize::try_from(*header_bytes).unwrap_or(usize::MAX));
            let parsed = Header::parse(&json, shard.bytes).map_err(|why| malformed(shard, &why.to_string()));
            let checked = parsed.and_then(|header| check_dtypes(&shard.name, header, dtypes));
            headers.insert(shard.name.clone(), checked.map_err(|rejection| self.rejected(rejection))?);
        }
        match stop {
            None => Ok(headers),
            Some(Stop::Rejected(rejection)) => Err(self.rejected(rejection)),
            Some(Stop::Trouble(trouble)) => self.source(codes::WEIGHT_DTYPE, codes::PREFLIGHT_FAILED, Err(trouble)),
        }
    }

    /// The beginning of each weight file, up to the first that is wrong.
    async fn beginnings<'f>(&mut self, shards: &[&'f FileEntry]) -> Beginnings<'f> {
        let firsts = shards.iter().map(|shard| (*shard, 0, shard.bytes.min(FIRST_BYTES)));
        let mut firsts = in_order(self.repo, firsts);
        let (mut begun, mut total_bytes) = (Vec::new(), 0_u64);
        for shard in shards {
            let Some(first) = firsts.next().await else { break };
            let first = match first {
                Ok(first) => first,
                Err(trouble) => return Beginnings { begun, stop: Some(Stop::Trouble(trouble)) },
            };
            self.read_bytes += first.len() as u64;
            let length = match first.first_chunk() {
                Some(bytes) => Header::length(*bytes, shard.bytes),
                None => Err(Malformed::Short { bytes: shard.bytes, needed: LENGTH_BYTES + 2 }),
            };
            let header_bytes = match length {
                Ok(header_bytes) => header_bytes,
                Err(why) => {
                    let stop = Stop::Rejected(malformed(shard, &why.to_string()));
                    return Beginnings { begun, stop: Some(stop) };
                }
            };
            total_bytes += header_bytes;
            if total_bytes > HEADERS_BYTES_MAX {
                let why = format!(
                    "up to `{}` the headers have {total_bytes} bytes; the limit is {HEADERS_BYTES_MAX}",
                    shard.name
                );
                let rejection = Rejection::new(codes::SAFETENSORS_HEADER, why, json!({"bytes": total_bytes}));
                return Beginnings { begun, stop: Some(Stop::Rejected(rejection)) };
            }
            begun.push(Begun { shard, header_bytes, first });
        }
        Beginnings { begun, stop: None }
    }
}

/// The beginning of a weight file.
struct Begun<'f> {
    shard: &'f FileEntry,
    /// Bytes of its header without the length.
    header_bytes: u64,
    first: Bytes,
}

impl Begun<'_> {
    /// Bytes of its header that are not here.
    fn missing_bytes(&self) -> u64 {
        (LENGTH_BYTES + self.header_bytes).saturating_sub(self.first.len() as u64)
    }
}

/// The weight files up to the first that is wrong.
struct Beginnings<'f> {
    begun: Vec<Begun<'f>>,
    stop: Option<Stop>,
}

/// What is wrong with the next.
enum Stop {
    Rejected(Rejection),
    Trouble(Trouble),
}

/// Parts of files, read at once and answered in the order asked. What is empty is not asked for.
fn in_order<'f>(
    repo: &'f dyn Repo,
    parts: impl Iterator<Item = (&'f FileEntry, u64, u64)>,
) -> impl Stream<Item = Result<Bytes, Trouble>> + Unpin + 'f {
    let mut reads: Vec<BoxFuture<'f, Result<Bytes, Trouble>>> = Vec::new();
    for (file, begin, bytes) in parts {
        reads.push(Box::pin(async move {
            if bytes == 0 {
                return Ok(Bytes::new());
            }
            let read = repo.read(&file.name, begin, bytes).await?;
            if read.len() as u64 != bytes {
                return Err(Trouble::Failed(format!("`{}`: {} of {bytes} bytes", file.name, read.len())));
            }
            Ok(read)
        }));
    }
    stream::iter(reads).buffered(READS_AT_ONCE)
}

fn malformed(shard: &FileEntry, why: &str) -> Rejection {
    let detail = format!("`{}`: {why}", shard.name);
    let details = json!({"file": shard.name, "bytes": shard.bytes, "why": why});
    Rejection::new(codes::SAFETENSORS_HEADER, detail, details)
}

/// The header, when no type in it is one that is not taken.
fn check_dtypes(name: &str, header: Header, allowed: &[String]) -> Result<Header, Rejection> {
    let mut wrong: Vec<Dtype> = header
        .tensors
        .iter()
        .map(|tensor| tensor.dtype)
        .filter(|dtype| !allowed.iter().any(|one| one == dtype.as_str()))
        .collect();
    wrong.sort_unstable();
    wrong.dedup();
    if wrong.is_empty() {
        return Ok(header);
    }
    let names: Vec<&str> = wrong.iter().map(|dtype| dtype.as_str()).collect();
    let why = format!("`{name}` has {}; taken are {}", names.join(", "), allowed.join(", "));
    let details = json!({"file": name, "dtypes": names, "allowed": allowed});
    Err(Rejection::new(codes::WEIGHT_DTYPE, why, details))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

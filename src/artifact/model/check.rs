//! The checks of a model in their order, by its small files and the headers of its weights alone.
//!
//! Owns the order and what is read for it. Refuses to know any one rule: each has a module of its own. The stage
//! `checks` runs it against the committed source, the miner verbs against a folder or that source.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Rejection, Repo, Trouble, architecture, codes,
    files::{FileEntry, FileRules, matches},
    index,
    safetensors::{Dtype, Header, LENGTH_BYTES},
};
use crate::fault::{Code, Fault};

/// Which files hold weights.
const WEIGHTS: &str = "*.safetensors";
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

    let shards = looking.headers(&files).await?;
    looking.step(codes::WEIGHT_DTYPE, check_dtypes(&shards, &rules.dtypes))?;

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

    /// The header of every weight file: the beginnings of all together, then what of the headers is longer.
    async fn headers(&mut self, files: &[FileEntry]) -> Result<BTreeMap<String, Header>, Refused> {
        let shards: Vec<&FileEntry> = files.iter().filter(|file| matches(WEIGHTS, &file.name)).collect();
        let firsts = self.read_all(shards.iter().map(|shard| (*shard, 0, shard.bytes.min(FIRST_BYTES)))).await?;
        let mut lengths = Vec::new();
        for (shard, first) in shards.iter().zip(&firsts) {
            let length = match first.first_chunk() {
                Some(bytes) => Header::length(*bytes, shard.bytes),
                None => Err(super::safetensors::Malformed::Short { bytes: shard.bytes, needed: LENGTH_BYTES + 2 }),
            };
            lengths.push(length.map_err(|why| self.malformed(shard, &why.to_string()))?);
        }
        let total: u64 = lengths.iter().sum();
        if total > HEADERS_BYTES_MAX {
            let why = format!("the headers have {total} bytes; the limit is {HEADERS_BYTES_MAX}");
            return Err(self.rejected(Rejection::new(codes::SAFETENSORS_HEADER, why, json!({"bytes": total}))));
        }
        let have: Vec<u64> = firsts.iter().map(|first| first.len() as u64).collect();
        let rests = shards.iter().zip(&lengths).zip(&have);
        let rests = rests.map(|((shard, length), have)| (*shard, *have, (LENGTH_BYTES + length).saturating_sub(*have)));
        let rests = self.read_all(rests.collect::<Vec<_>>()).await?;
        let mut headers = BTreeMap::new();
        for (((shard, length), first), rest) in shards.iter().zip(&lengths).zip(firsts).zip(rests) {
            let mut json = first.slice(LENGTH_BYTES as usize..).to_vec();
            json.extend_from_slice(&rest);
            json.truncate(usize::try_from(*length).unwrap_or(usize::MAX));
            let header = Header::parse(&json, shard.bytes).map_err(|why| self.malformed(shard, &why.to_string()))?;
            headers.insert(shard.name.clone(), header);
        }
        Ok(headers)
    }

    fn malformed(&mut self, shard: &FileEntry, why: &str) -> Refused {
        let detail = format!("`{}`: {why}", shard.name);
        let details = json!({"file": shard.name, "bytes": shard.bytes, "why": why});
        self.rejected(Rejection::new(codes::SAFETENSORS_HEADER, detail, details))
    }

    /// Parts of files, in the order asked. What is empty is not asked for.
    async fn read_all<'f>(
        &mut self,
        parts: impl IntoIterator<Item = (&'f FileEntry, u64, u64)>,
    ) -> Result<Vec<Bytes>, Refused> {
        let repo = self.repo;
        let mut reads: Vec<futures::future::BoxFuture<'_, Result<Bytes, Trouble>>> = Vec::new();
        for (file, begin, bytes) in parts {
            reads.push(Box::pin(async move {
                if bytes == 0 {
                    return Ok(Bytes::new());
                }
                let read = repo.read(&file.name, begin, bytes).await?;
                if read.len() as u64 != bytes {
                    let told = format!("`{}`: {} of {bytes} bytes", file.name, read.len());
                    return Err(Trouble::Failed(told));
                }
                Ok(read)
            }));
        }
        let answers: Vec<Result<Bytes, Trouble>> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        let mut parts = Vec::new();
        for answer in answers {
            let part = self.source(codes::WEIGHT_DTYPE, codes::PREFLIGHT_FAILED, answer)?;
            self.read_bytes += part.len() as u64;
            parts.push(part);
        }
        Ok(parts)
    }
}

/// The first weight file, by name, with a type that is not taken.
fn check_dtypes(shards: &BTreeMap<String, Header>, allowed: &[String]) -> Result<String, Rejection> {
    for (name, header) in shards {
        let mut wrong: Vec<Dtype> = header
            .tensors
            .iter()
            .map(|tensor| tensor.dtype)
            .filter(|dtype| !allowed.iter().any(|one| one == dtype.as_str()))
            .collect();
        wrong.sort_unstable();
        wrong.dedup();
        if !wrong.is_empty() {
            let names: Vec<&str> = wrong.iter().map(|dtype| dtype.as_str()).collect();
            let why = format!("`{name}` has {}; taken are {}", names.join(", "), allowed.join(", "));
            let details = json!({"file": name, "dtypes": names, "allowed": allowed});
            return Err(Rejection::new(codes::WEIGHT_DTYPE, why, details));
        }
    }
    Ok(format!("{} headers", shards.len()))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

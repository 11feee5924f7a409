//! Hubs in the way of Hugging Face: repositories of git, files by revision over HTTP.
//!
//! Owns the two requests that are needed: what a revision holds, and a file of it. Refuses branches and tags: a
//! revision is a commit. Large files carry their SHA-256; small ones are bound by the commit alone.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    download::{Held, Source},
    http::{Ask, Came, Http, body, is_range},
};
use crate::artifact::model::{
    Reference, Repo, Trouble,
    files::{FILES_MAX, FileEntry},
    reference::Revision,
};

/// Bytes of the description of a revision.
const ABOUT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// One model on a hub.
#[derive(Debug)]
pub struct Hub {
    http: Http,
    base: Url,
    reference: Reference,
    commit: String,
    files: OnceCell<BTreeMap<String, Sibling>>,
}

#[derive(Deserialize)]
struct About {
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file.
#[derive(Debug, Clone, Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

impl Hub {
    /// The model with this reference on the hub at this address.
    ///
    /// # Errors
    /// When the address may not be spoken to, or the reference is none of a hub.
    pub fn new(http: Http, base: &str, reference: Reference) -> Result<Self, Trouble> {
        let base = http.url(base)?;
        let Revision::Commit(commit) = reference.revision().clone() else {
            return Err(Trouble::Malformed(format!("{reference} is a digest of a registry, not a commit of a hub")));
        };
        Ok(Self { http, base, reference, commit, files: OnceCell::new() })
    }

    fn at(&self, parts: &[&str]) -> Result<Url, Trouble> {
        let mut url = self.base.clone();
        let told = || Trouble::Failed(format!("{}: an address without a path", self.base));
        url.path_segments_mut()
            .map_err(|()| told())?
            .pop_if_empty()
            .extend(parts.iter().flat_map(|part| part.split('/')));
        Ok(url)
    }

    async fn files(&self) -> Result<&BTreeMap<String, Sibling>, Trouble> {
        self.files
            .get_or_try_init(|| async {
                let mut url = self.at(&["api/models", self.reference.repo(), "revision", &self.commit])?;
                url.query_pairs_mut().append_pair("blobs", "true");
                let bytes = self.http.read(&url, &Ask::default(), ABOUT_BYTES_MAX).await?;
                let about: About = serde_json::from_slice(&bytes)
                    .map_err(|source| Trouble::Failed(format!("{url}: not a description of a model: {source}")))?;
                if about.sha != self.commit {
                    return Err(Trouble::Damaged(format!("{}: the hub answers for another commit", self.reference)));
                }
                if about.siblings.len() > FILES_MAX {
                    return Err(Trouble::Malformed(format!("{} files", about.siblings.len())));
                }
                let by_name = |file: Sibling| (file.rfilename.clone(), file);
                Ok(about.siblings.into_iter().map(by_name).collect())
            })
            .await
    }

    async fn file(&self, name: &str) -> Result<&Sibling, Trouble> {
        self.files().await?.get(name).ok_or_else(|| Trouble::Missing(format!("{}: {name}", self.reference)))
    }
}

impl Sibling {
    fn bytes(&self) -> u64 {
        self.lfs.as_ref().map(|lfs| lfs.size).or(self.size).unwrap_or_default()
    }
}

#[async_trait]
impl Repo for Hub {
    fn uri(&self) -> String {
        format!("{}/{}", self.base.host_str().unwrap_or_default(), self.reference)
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Trouble> {
        let files = self.files().await?.values();
        Ok(files
            .map(|file| FileEntry { name: file.rfilename.clone(), bytes: file.bytes(), is_regular: true })
            .collect())
    }

    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
        let end = begin.saturating_add(bytes).min(self.file(name).await?.bytes());
        if begin >= end {
            return Ok(Bytes::new());
        }
        body(self.open(name, begin, end).await?, end - begin).await
    }
}

#[async_trait]
impl Source for Hub {
    async fn held(&self) -> Result<Vec<Held>, Trouble> {
        let files = self.files().await?.values();
        let digest = |file: &Sibling| hex::decode(&file.lfs.as_ref()?.sha256).ok()?.try_into().ok();
        Ok(files.map(|file| Held { name: file.rfilename.clone(), bytes: file.bytes(), sha256: digest(file) }).collect())
    }

    async fn open(&self, name: &str, begin: u64, end: u64) -> Result<Response, Trouble> {
        let url = self.at(&[self.reference.repo(), "resolve", &self.commit, name])?;
        match self.http.ask(&url, &Ask { range: Some((begin, end - 1)), ..Ask::default() }).await? {
            Came::Answer(answer) => is_range(&answer, begin, end - 1).map(|()| answer),
            Came::Unauthorized(_challenge) => Err(Trouble::Failed(format!("{url}: not public"))),
        }
    }
}

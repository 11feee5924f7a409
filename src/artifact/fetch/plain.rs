//! Plain servers: a folder over HTTPS with a `SHA256SUMS` that names its files.
//!
//! Owns that form, which `sha256sum` writes: the digest that is committed is the SHA-256 of that file. Refuses to list
//! a folder by any other means.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use reqwest::{Response, Url, header::CONTENT_LENGTH};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::{
    download::{Held, Source},
    http::{Ask, Came, Http, body, cut, is_range},
};
use crate::artifact::model::{
    Repo, Trouble,
    files::{FILES_MAX, FileEntry},
};

/// The list of files.
pub const SUMS: &str = "SHA256SUMS";
/// Bytes of it.
const SUMS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Sizes that are asked for at a time.
const HEADS_AT_ONCE: usize = 32;

/// One model in a folder of a server.
#[derive(Debug)]
pub struct Plain {
    http: Http,
    folder: Url,
    digest: [u8; 32],
    files: OnceCell<BTreeMap<String, Held>>,
}

impl Plain {
    /// The folder at this address whose list of files has this digest.
    ///
    /// # Errors
    /// When the address may not be spoken to.
    pub fn new(http: Http, folder: &str, digest: [u8; 32]) -> Result<Self, Trouble> {
        let folder = http.url(&format!("{}/", folder.trim_end_matches('/')))?;
        Ok(Self { http, folder, digest, files: OnceCell::new() })
    }

    fn at(&self, name: &str) -> Result<Url, Trouble> {
        let mut url = self.folder.clone();
        let told = || Trouble::Failed(format!("{}: an address without a path", self.folder));
        url.path_segments_mut().map_err(|()| told())?.pop_if_empty().extend(name.split('/'));
        Ok(url)
    }

    async fn files(&self) -> Result<&BTreeMap<String, Held>, Trouble> {
        self.files
            .get_or_try_init(|| async {
                let bytes = self.http.read(&self.at(SUMS)?, &Ask::default(), SUMS_BYTES_MAX).await?;
                if Sha256::digest(&bytes)[..] != self.digest {
                    return Err(Trouble::Missing(format!("{}{SUMS} is not the one that was committed", self.folder)));
                }
                let sums = sums(&bytes)?;
                let sizes: Vec<_> = sums.keys().map(|name| self.size(name.clone())).collect();
                let sizes: Vec<Result<u64, Trouble>> = stream::iter(sizes).buffered(HEADS_AT_ONCE).collect().await;
                let mut files = BTreeMap::new();
                for ((name, sha256), bytes) in sums.into_iter().zip(sizes) {
                    files.insert(name.clone(), Held { name, bytes: bytes?, sha256: Some(sha256) });
                }
                Ok(files)
            })
            .await
    }

    async fn size(&self, name: String) -> Result<u64, Trouble> {
        let url = self.at(&name)?;
        match self.http.ask(&url, &Ask { head: true, ..Ask::default() }).await? {
            Came::Answer(answer) => {
                let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
                length.ok_or_else(|| Trouble::Failed(format!("{url}: no length is said")))
            }
            Came::Unauthorized(_challenge) => Err(Trouble::Failed(format!("{url}: not public"))),
        }
    }

    async fn file(&self, name: &str) -> Result<&Held, Trouble> {
        self.files().await?.get(name).ok_or_else(|| Trouble::Missing(format!("{}{name}", self.folder)))
    }
}

/// The lines of the list: 64 hex digits, a space, a space or a star, the name.
fn sums(bytes: &[u8]) -> Result<BTreeMap<String, [u8; 32]>, Trouble> {
    let malformed = |why: String| Trouble::Malformed(format!("{SUMS}: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|source| malformed(source.to_string()))?;
    let mut files = BTreeMap::new();
    for line in text.lines() {
        let parsed = line.split_at_checked(64).and_then(|(digits, rest)| {
            let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
            let digest: [u8; 32] = hex::decode(digits).ok()?.try_into().ok()?;
            Some((name.strip_prefix("./").unwrap_or(name), digest))
        });
        let (name, digest) = parsed.ok_or_else(|| malformed(format!("the line `{}`", cut(line))))?;
        if files.len() == FILES_MAX || files.insert(name.to_owned(), digest).is_some() {
            return Err(malformed(format!("`{}` is one too many", cut(name))));
        }
    }
    Ok(files)
}

#[async_trait]
impl Repo for Plain {
    fn uri(&self) -> String {
        self.folder.to_string()
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Trouble> {
        let files = self.files().await?.values();
        Ok(files.map(|file| FileEntry { name: file.name.clone(), bytes: file.bytes, is_regular: true }).collect())
    }

    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
        let end = begin.saturating_add(bytes).min(self.file(name).await?.bytes);
        if begin >= end {
            return Ok(Bytes::new());
        }
        body(self.open(name, begin, end).await?, end - begin).await
    }
}

#[async_trait]
impl Source for Plain {
    async fn held(&self) -> Result<Vec<Held>, Trouble> {
        Ok(self.files().await?.values().cloned().collect())
    }

    async fn open(&self, name: &str, begin: u64, end: u64) -> Result<Response, Trouble> {
        let url = self.at(&self.file(name).await?.name)?;
        match self.http.ask(&url, &Ask { range: Some((begin, end - 1)), ..Ask::default() }).await? {
            Came::Answer(answer) => is_range(&answer, begin, end - 1).map(|()| answer),
            Came::Unauthorized(_challenge) => Err(Trouble::Failed(format!("{url}: not public"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sha256sum_are_read() {
        let (one, other) = ("1a".repeat(32), "2b".repeat(32));
        let found = sums(format!("{one}  ./config.json\n{other} *sub/model.safetensors\n").as_bytes()).unwrap();
        assert_eq!(found["config.json"], [0x1a; 32]);
        assert_eq!(found["sub/model.safetensors"], [0x2b; 32]);
        for wrong in ["x  y", &format!("{one} y"), &format!("{one}  a\n{one}  a"), &one, &format!("é{one}  a")] {
            assert!(matches!(sums(wrong.as_bytes()), Err(Trouble::Malformed(_))), "{wrong}");
        }
    }
}

//! Where a stranger's copies of artifacts come from: a folder, in which they are told by their digest and not by their
//! name, or an address.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::miner::digest_file,
    fault::{Class, Code, Fault},
    ids::Digest,
};

/// Files looked at in a folder: a data directory of years has fewer.
const FILES_MAX: usize = 200_000;

/// The artifacts are not where they should be.
pub const ARTIFACTS_UNREADABLE: Code = Code::new(
    Class::Operator,
    "artifacts_unreadable",
    "the artifacts to replay cannot be read",
    "name a folder that holds them, such as an appliance's data directory, or an address that serves them",
);

/// A place of artifacts.
pub enum Artifacts {
    /// Files by what they hash to.
    Folder(BTreeMap<Digest, PathBuf>),
    /// An address that answers `/DIGEST`.
    Address(String),
}

impl Artifacts {
    /// The place that was named. Of a folder only files that may be wanted, by their size, are hashed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(named: &str, wanted: &BTreeSet<Digest>, bytes_max: u64) -> Result<Self, Fault> {
        if named.starts_with("http://") || named.starts_with("https://") {
            return Ok(Self::Address(named.trim_end_matches('/').to_owned()));
        }
        let mut found = BTreeMap::new();
        let mut folders = vec![PathBuf::from(named)];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            let unreadable = |source| ARTIFACTS_UNREADABLE.because(format!("`{}`: {source}", folder.display()));
            for entry in fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let kind = entry.file_type().map_err(unreadable)?;
                files += 1;
                if files > FILES_MAX {
                    return Err(ARTIFACTS_UNREADABLE.because(format!("`{named}` has more than {FILES_MAX} files")));
                }
                // Links are not followed: they may lead round in a circle.
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && entry.metadata().is_ok_and(|about| about.len() <= bytes_max) {
                    note(&entry.path(), wanted, &mut found);
                }
            }
        }
        Ok(Self::Folder(found))
    }

    /// The artifact's bytes; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is another.
    pub async fn get(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Vec<u8>>, Fault> {
        let bytes = match self {
            Self::Folder(files) => {
                let Some(path) = files.get(digest) else { return Ok(None) };
                fs::read(path)
                    .map_err(|source| ARTIFACTS_UNREADABLE.because(format!("`{}`: {source}", path.display())))?
            }
            Self::Address(base) => match fetch(&format!("{base}/{digest}"), bytes_max).await? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(Some(bytes))
        } else {
            Err(ARTIFACTS_UNREADABLE.because(format!("what is there for {digest} hashes to {found}")))
        }
    }
}

/// Notes a file that is one of the wanted. One that cannot be read is as good as absent.
fn note(path: &Path, wanted: &BTreeSet<Digest>, found: &mut BTreeMap<Digest, PathBuf>) {
    if let Ok((digest, _bytes)) = digest_file(path)
        && wanted.contains(&digest)
    {
        found.insert(digest, path.to_owned());
    }
}

/// One artifact over a slow line.
const FETCH_TIMEOUT: Duration = Duration::from_mins(10);

async fn fetch(url: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Fault> {
    let failed = |source: reqwest::Error| ARTIFACTS_UNREADABLE.because(format!("{url}: {source}"));
    let client = reqwest::Client::builder().no_proxy().timeout(FETCH_TIMEOUT).build().map_err(failed)?;
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !response.status().is_success() {
        return Err(ARTIFACTS_UNREADABLE.because(format!("{url} answered {}", response.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > bytes_max {
            return Err(ARTIFACTS_UNREADABLE.because(format!("{url} has more than {bytes_max} bytes")));
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folders_files_are_told_by_their_digest() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/anything"), b"one").unwrap();
        fs::write(dir.path().join("large"), b"larger").unwrap();
        let (one, large) = (Digest::of(b"one"), Digest::of(b"larger"));
        let wanted = BTreeSet::from([one, large]);
        let artifacts = Artifacts::open(dir.path().to_str().unwrap(), &wanted, 5).unwrap();
        assert_eq!(artifacts.get(&one, 5).await, Ok(Some(b"one".to_vec())));
        assert_eq!(artifacts.get(&large, 5).await, Ok(None), "beyond the limit it cannot be one");
        fs::write(dir.path().join("deep/anything"), b"two").unwrap();
        assert_eq!(artifacts.get(&one, 5).await.unwrap_err().code, "artifacts_unreadable");
        assert!(Artifacts::open("no-such-folder", &wanted, 5).is_err());
    }
}

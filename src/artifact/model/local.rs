//! A folder as a repository: what a miner checks before sending, and what an operator has fetched.
//!
//! Owns reading below one folder without following a link out of it. Refuses to check anything.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Repo, Trouble,
    files::{FILES_MAX, FOLDERS_MAX, FileEntry},
};

/// Folders that tools leave beside a model and no upload takes along.
const LEFT_BEHIND: &[&str] = &[".cache", ".git", ".huggingface"];

/// A folder on this machine.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at this path.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

#[async_trait]
impl Repo for Folder {
    fn uri(&self) -> String {
        self.root.display().to_string()
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Trouble> {
        let root = self.root.clone();
        waited(tokio::task::spawn_blocking(move || list(&root)).await)
    }

    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
        let path = self.path(name);
        waited(tokio::task::spawn_blocking(move || read(&path, begin, bytes)).await)
    }
}

fn waited<T>(done: Result<Result<T, Trouble>, tokio::task::JoinError>) -> Result<T, Trouble> {
    done.unwrap_or_else(|source| Err(Trouble::Failed(format!("the reader ended early: {source}"))))
}

fn trouble(path: &Path, source: &io::Error) -> Trouble {
    let told = format!("{}: {source}", path.display());
    if source.kind() == io::ErrorKind::NotFound { Trouble::Missing(told) } else { Trouble::Disk(told) }
}

fn list(root: &Path) -> Result<Vec<FileEntry>, Trouble> {
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|source| trouble(&folder, &source))? {
            let entry = entry.map_err(|source| trouble(&folder, &source))?;
            let about = entry.metadata().map_err(|source| trouble(&entry.path(), &source))?;
            let name = entry.file_name().into_string().map_err(|name| {
                Trouble::Malformed(format!("{}: a name that is not UTF-8", folder.join(name).display()))
            })?;
            if about.is_dir() && depth < FOLDERS_MAX && !LEFT_BEHIND.contains(&name.as_str()) {
                folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
            } else if !about.is_dir() {
                let is_regular = about.is_file();
                files.push(FileEntry { name: format!("{prefix}{name}"), bytes: about.len(), is_regular });
            }
            if files.len() > FILES_MAX {
                return Err(Trouble::Malformed(format!("{}: more than {FILES_MAX} files", root.display())));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn read(path: &Path, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
    let told = |source: io::Error| trouble(path, &source);
    let about = fs::symlink_metadata(path).map_err(told)?;
    if !about.is_file() {
        return Err(Trouble::Malformed(format!("{}: not a regular file", path.display())));
    }
    let mut file = fs::File::open(path).map_err(told)?;
    file.seek(SeekFrom::Start(begin)).map_err(told)?;
    let mut buffer = Vec::new();
    file.take(bytes).read_to_end(&mut buffer).map_err(told)?;
    Ok(buffer.into())
}

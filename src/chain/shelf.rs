//! What one process learned of a chain and the next one may use: a runtime's metadata, and who was in a subnet.
//!
//! Owns a folder of small files, each with its own checksum, any of which may be gone or wrong at any time without
//! harm. Refuses to believe them: metadata is found by the hash of the code that it describes, as the chain names it
//! now, and hotkeys only say what is worth asking for together with what names them. Only `client` uses it.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use tracing::debug;

use super::client::blake2_256;
use crate::ids::{Digest, Hotkey};

/// Bytes of one file: metadata of today is below half a megabyte.
const FILE_BYTES: usize = 8 * 1024 * 1024;
/// Files that are kept, the newest ones: a chain has one runtime at a time, and every new devnet is a chain.
const FILES_MAX: usize = 16;
/// Bytes of the checksum at the beginning of a file.
const SUM_BYTES: usize = 32;

/// Makes names of unfinished files differ within this process.
static UNFINISHED: AtomicU64 = AtomicU64::new(0);

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The metadata of the runtime with this code, if it was kept.
    pub(super) fn metadata(&self, genesis: Digest, spec_version: u32, code: Digest) -> Option<Vec<u8>> {
        self.read(&metadata_name(genesis, spec_version, code))
    }

    /// Keeps the metadata of the runtime with this code.
    pub(super) fn keep_metadata(&self, genesis: Digest, spec_version: u32, code: Digest, metadata: &[u8]) {
        self.keep(&metadata_name(genesis, spec_version, code), metadata);
    }

    /// Who was in a subnet when it was last read.
    pub(super) fn hotkeys(&self, genesis: Digest, netuid: u16) -> Vec<Hotkey> {
        let bytes = self.read(&hotkeys_name(genesis, netuid)).unwrap_or_default();
        bytes.as_chunks::<32>().0.iter().map(|hotkey| Hotkey(*hotkey)).collect()
    }

    /// Keeps who is in a subnet.
    pub(super) fn keep_hotkeys<'a>(&self, genesis: Digest, netuid: u16, hotkeys: impl Iterator<Item = &'a Hotkey>) {
        let bytes: Vec<u8> = hotkeys.flat_map(|hotkey| hotkey.0).collect();
        self.keep(&hotkeys_name(genesis, netuid), &bytes);
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut file = fs::File::open(self.folder.join(name)).ok()?.take((SUM_BYTES + FILE_BYTES) as u64 + 1);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        if bytes.len() > SUM_BYTES + FILE_BYTES {
            return None;
        }
        let (sum, content) = bytes.split_at_checked(SUM_BYTES)?;
        (blake2_256(content).0 == sum).then(|| content.to_vec())
    }

    /// A file that cannot be kept costs the next process a request, and nobody else anything.
    fn keep(&self, name: &str, content: &[u8]) {
        if content.len() > FILE_BYTES {
            return;
        }
        if let Err(error) = self.write(name, content) {
            debug!(folder = %self.folder.display(), name, %error, "nothing is kept for the next start");
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder)?;
        let turn = UNFINISHED.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{}-{turn}.part", std::process::id()));
        let whole = [&blake2_256(content).0[..], content].concat();
        let written = fs::write(&unfinished, whole).and_then(|()| fs::rename(&unfinished, self.folder.join(name)));
        if written.is_err() {
            let _gone = fs::remove_file(&unfinished);
        }
        written?;
        forget_oldest(&self.folder)
    }
}

fn metadata_name(genesis: Digest, spec_version: u32, code: Digest) -> String {
    format!("{genesis}-{spec_version}-{code}.metadata")
}

fn hotkeys_name(genesis: Digest, netuid: u16) -> String {
    format!("{genesis}-{netuid}.hotkeys")
}

/// Removes what was kept longest ago, so that the folder does not grow.
fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    let surplus = files.len().saturating_sub(FILES_MAX);
    files[..surplus].iter().try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: Digest = Digest([1; 32]);

    #[test]
    fn only_what_was_kept_whole_and_for_that_code_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().join("deep").join("folder"));
        let code = Digest([2; 32]);
        assert_eq!(shelf.metadata(GENESIS, 439, code), None);
        shelf.keep_metadata(GENESIS, 439, code, b"types");
        assert_eq!(shelf.metadata(GENESIS, 439, code).as_deref(), Some(&b"types"[..]));
        assert_eq!(shelf.metadata(GENESIS, 440, code), None);
        assert_eq!(shelf.metadata(GENESIS, 439, Digest([3; 32])), None);
        assert_eq!(shelf.metadata(Digest([9; 32]), 439, code), None);
        let path = shelf.folder.join(metadata_name(GENESIS, 439, code));
        for wrong in [b"".to_vec(), vec![0; SUM_BYTES], [&fs::read(&path).unwrap()[..], b"!"].concat()] {
            fs::write(&path, wrong).unwrap();
            assert_eq!(shelf.metadata(GENESIS, 439, code), None);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&shelf.folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_neither_kept_nor_read() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().to_owned());
        let code = Digest([2; 32]);
        shelf.keep_metadata(GENESIS, 1, code, &vec![7; FILE_BYTES]);
        assert_eq!(shelf.metadata(GENESIS, 1, code).map(|bytes| bytes.len()), Some(FILE_BYTES));
        shelf.keep_metadata(GENESIS, 2, code, &vec![7; FILE_BYTES + 1]);
        assert_eq!(shelf.metadata(GENESIS, 2, code), None);
        let larger = vec![7; FILE_BYTES + 1];
        fs::write(dir.path().join(metadata_name(GENESIS, 3, code)), [&blake2_256(&larger).0[..], &larger].concat())
            .unwrap();
        assert_eq!(shelf.metadata(GENESIS, 3, code), None);
    }

    #[test]
    fn the_folder_keeps_a_few_files() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().to_owned());
        for netuid in 0..FILES_MAX as u16 + 5 {
            shelf.keep_hotkeys(GENESIS, netuid, [Hotkey([3; 32]), Hotkey([4; 32])].iter());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), FILES_MAX);
        assert_eq!(shelf.hotkeys(GENESIS, 7), [Hotkey([3; 32]), Hotkey([4; 32])]);
        assert_eq!(shelf.hotkeys(Digest([9; 32]), 7), []);
        // Where nothing can be written, nothing is found and nothing breaks.
        let nowhere = Shelf::new(dir.path().join(hotkeys_name(GENESIS, 20)));
        nowhere.keep_hotkeys(GENESIS, 1, [Hotkey([3; 32])].iter());
        assert_eq!(nowhere.hotkeys(GENESIS, 1), []);
    }
}

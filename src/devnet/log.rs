//! The block log: every block in one append-only file, on disk before anybody hears of it.
//!
//! Owns the file's format, its checksums, and what a torn end and a damaged middle look like. Refuses to know what a
//! record says. Only the chain uses it.
//!
//! The file is a magic word and records. A record is its length, the same length inverted (so that a torn length is
//! told from a damaged one), the first 8 bytes of the blake2-256 of its bytes, and the bytes. Records are written one
//! at a time and synchronised; therefore only the last one can be incomplete, and only it is ever cut off.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{hashing::blake2, limits};

/// The first bytes of a log: the format and its version.
const MAGIC: &[u8; 8] = b"waagdev1";
/// Length, inverted length, checksum.
const HEAD_BYTES: usize = 4 + 4 + 8;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or made.
    #[error("opening the devnet's state {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("the devnet's state {0} is in use by another process")]
    Locked(PathBuf),
    /// It is not a log at all.
    #[error("{0} is not the state of a devnet of this version")]
    Foreign(PathBuf),
    /// A record in the middle is not what was written.
    #[error("the devnet's state {path} is damaged at byte {at}; what follows is intact, so this is not a torn end")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the record begins.
        at: u64,
    },
    /// Reading failed.
    #[error("reading the devnet's state")]
    Read(#[source] io::Error),
    /// Writing or synchronising failed.
    #[error("writing the devnet's state")]
    Write(#[source] io::Error),
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl Log {
    /// Opens or makes a log; gives every record to `replay` in order and cuts off a torn end.
    ///
    /// Returns the log and how many bytes were cut off.
    pub fn open(
        path: &Path,
        mut replay: impl FnMut(&[u8]) -> Result<(), ReplayError>,
    ) -> Result<(Self, u64), OpenError> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(open)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(path.to_owned()).into()),
            Err(TryLockError::Error(source)) => return Err(open(source).into()),
        }
        let total = file.metadata().map_err(open)?.len();
        let mut reader = BufReader::new(&file);
        if !check_magic(&mut reader, total).map_err(Error::Read)? {
            return Err(Error::Foreign(path.to_owned()).into());
        }
        let mut good = MAGIC.len() as u64;
        while good < total {
            match read_record(&mut reader, total - good).map_err(Error::Read)? {
                Record::Whole(bytes) => {
                    replay(&bytes).map_err(OpenError::Replay)?;
                    good += (HEAD_BYTES + bytes.len()) as u64;
                }
                Record::Torn => break,
                Record::Damaged => return Err(Error::Damaged { path: path.to_owned(), at: good }.into()),
            }
        }
        drop(reader);
        // A file that ends within the magic word holds nothing.
        let cut = if total < MAGIC.len() as u64 { total } else { total - good };
        let log = Self { file };
        log.restart_at(good, path)?;
        Ok((log, cut))
    }

    /// Puts the end of the file behind the last whole record, writing the magic word where there was none.
    fn restart_at(&self, good: u64, path: &Path) -> Result<(), Error> {
        let prepare = || -> io::Result<()> {
            let mut file = &self.file;
            file.set_len(good)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(MAGIC)?;
            file.seek(SeekFrom::Start(good))?;
            file.sync_all()?;
            // The name of a new file must survive as well as its bytes.
            match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        prepare().map_err(Error::Write)
    }

    /// Appends records; none is on disk for sure before [`sync`](Self::sync).
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= limits::RECORD_BYTES);
        let length = length.ok_or_else(|| Error::Write(io::Error::other("a record is too long")))?;
        let mut record = Vec::with_capacity(HEAD_BYTES + bytes.len());
        record.extend(length.to_le_bytes());
        record.extend((!length).to_le_bytes());
        record.extend(&blake2(bytes)[..8]);
        record.extend(bytes);
        self.file.write_all(&record).map_err(Error::Write)
    }

    /// Waits until everything appended is on disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::Write)
    }
}

/// Why opening failed: the file, or what its records say.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error(transparent)]
    Log(#[from] Error),
    /// A record.
    #[error(transparent)]
    Replay(ReplayError),
}

/// Why a whole record is not a block of this chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The first record names another chain.
    #[error("the state belongs to another devnet: its seed or its runtime differs")]
    Genesis,
    /// A record does not decode.
    #[error("block {0} of the state cannot be decoded")]
    Decode(u32),
    /// A block does not follow from the one before.
    #[error("block {0} of the state does not follow from the block before it")]
    Broken(u32),
}

enum Record {
    Whole(Vec<u8>),
    Torn,
    Damaged,
}

/// Whether the file begins like a log; a file shorter than the magic word is a torn beginning, hence an empty log.
fn check_magic(reader: &mut impl io::Read, total: u64) -> io::Result<bool> {
    let mut found = [0; MAGIC.len()];
    let bytes = usize::try_from(total).unwrap_or(usize::MAX).min(found.len());
    reader.read_exact(&mut found[..bytes])?;
    let torn_zeros = bytes < found.len() || found == [0; MAGIC.len()] && total == found.len() as u64;
    Ok(found == *MAGIC
        || torn_zeros && (MAGIC.starts_with(&found[..bytes]) || found[..bytes].iter().all(|byte| *byte == 0)))
}

fn read_record(reader: &mut impl io::Read, left: u64) -> io::Result<Record> {
    if left < HEAD_BYTES as u64 {
        return Ok(Record::Torn);
    }
    let mut head = [0; HEAD_BYTES];
    reader.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, inverted) = (word(0), word(4));
    let after_head = left - HEAD_BYTES as u64;
    if length != !inverted || length > limits::RECORD_BYTES {
        // A file system may have reserved the space of a write that never happened: then only zeros follow.
        let torn = head == [0; HEAD_BYTES] && only_zeros(reader, after_head)?;
        return Ok(if torn { Record::Torn } else { Record::Damaged });
    }
    if u64::from(length) > after_head {
        return Ok(Record::Torn);
    }
    let mut bytes = vec![0; length as usize];
    reader.read_exact(&mut bytes)?;
    if blake2(&bytes)[..8] == head[8..] {
        return Ok(Record::Whole(bytes));
    }
    let is_last = u64::from(length) == after_head;
    Ok(if is_last { Record::Torn } else { Record::Damaged })
}

fn only_zeros(reader: &mut impl io::Read, left: u64) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let mut left = left;
    while left > 0 {
        let bytes = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        reader.read_exact(&mut buffer[..bytes])?;
        if buffer[..bytes].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        left -= bytes as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &Path) -> Result<(Vec<Vec<u8>>, u64), OpenError> {
        let mut found = Vec::new();
        let (_log, cut) = Log::open(path, |bytes| {
            found.push(bytes.to_vec());
            Ok(())
        })?;
        Ok((found, cut))
    }

    fn written(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("chain");
        let (mut log, cut) = Log::open(&path, |_record| Ok(())).unwrap();
        assert_eq!(cut, 0);
        for record in [&b"one"[..], b"", b"three"] {
            log.append(record).unwrap();
        }
        log.sync().unwrap();
        path
    }

    #[test]
    fn a_log_cut_anywhere_keeps_its_whole_records_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder);
        let whole = std::fs::read(&path).unwrap();
        let all = [b"one".to_vec(), Vec::new(), b"three".to_vec()];
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (found, cut) = records(&path).unwrap();
            assert_eq!(found, all[..found.len()], "cut at {length}");
            assert_eq!(cut == 0, [0, 8, 27, 43, 64].contains(&length), "cut at {length}: {cut} bytes");
            let (mut log, _) = Log::open(&path, |_record| Ok(())).unwrap();
            log.append(b"next").unwrap();
            log.sync().unwrap();
            drop(log);
            let (again, cut) = records(&path).unwrap();
            assert_eq!((again.len(), cut), (found.len() + 1, 0), "cut at {length}");
        }
    }

    #[test]
    fn a_torn_end_of_garbage_or_zeros_is_cut_and_a_damaged_middle_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder);
        let whole = std::fs::read(&path).unwrap();
        let mut last = whole.clone();
        *last.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &last).unwrap();
        assert_eq!(records(&path).unwrap().0.len(), 2);
        std::fs::write(&path, [&whole[..], &[0; 5000]].concat()).unwrap();
        assert_eq!(records(&path).unwrap(), (vec![b"one".to_vec(), Vec::new(), b"three".to_vec()], 5000));
        for at in 8..27 {
            let mut middle = whole.clone();
            middle[at] ^= 1;
            std::fs::write(&path, &middle).unwrap();
            assert!(matches!(records(&path), Err(OpenError::Log(Error::Damaged { at: 8, .. }))), "byte {at}");
            assert_eq!(std::fs::read(&path).unwrap(), middle, "a damaged log is left as it is");
        }
    }

    #[test]
    fn other_files_and_other_processes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder);
        let (_held, _) = Log::open(&path, |_record| Ok(())).unwrap();
        assert!(matches!(records(&path), Err(OpenError::Log(Error::Locked(_)))));
        let other = folder.path().join("other");
        std::fs::write(&other, b"a letter to somebody").unwrap();
        assert!(matches!(records(&other), Err(OpenError::Log(Error::Foreign(_)))));
    }
}

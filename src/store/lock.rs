//! One instance for one data directory.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use super::Error;

/// The lock on a data directory, held as long as this value lives. The system gives it back when the process ends,
/// however it ends; the file itself stays.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

/// The longest process id of any system, with room to spare.
const HOLDER_BYTES: u64 = 32;

impl DirLock {
    /// Makes the directory if it is not there and takes its lock, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self, Error> {
        make_private_dir(dir)?;
        let path = dir.join("lock");
        let failed = |act| {
            let path = path.clone();
            move |source| Error::File { act, path, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        file.set_len(0).map_err(failed("write"))?;
        write!(file, "{}", std::process::id()).map_err(failed("write"))?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(HOLDER_BYTES).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

/// Makes a directory that only its owner can look into: it will hold keys and unpublished artifacts.
pub(super) fn make_private_dir(dir: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| Error::File { act: "make", path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = DirLock::take(dir.path()).expect("nobody holds it");
        let refusal = DirLock::take(dir.path()).expect_err("the first holds it");
        assert_eq!(refusal.code().name, "data_dir_locked");
        let pid = format!("process {}", std::process::id());
        assert!(refusal.to_string().contains(&pid), "{refusal}");
        drop(first);
        DirLock::take(dir.path()).expect("it was given back");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_directory_that_cannot_be_written_has_its_code() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        // Nobody, not even root, makes folders below a file or in sysfs.
        for dir in [file.path().join("data"), "/sys/waag-data".into()] {
            let refusal = DirLock::take(&dir).expect_err("it cannot be made");
            assert_eq!(refusal.code().name, "data_dir_unwritable", "{refusal}");
        }
    }
}

//! `waag bench fingerprint`: the one pass over a model's weight files, beside a plain read of them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rustix::fs::{Advice, fadvise};
use serde_json::json;

use super::{Context, Outcome, resident_kib, stopwatch};
use crate::{
    cli::{
        Failure,
        exit::{FILE_FAILED, answer},
    },
    dedup::model::Key,
    engine::fingerprint::{Error, Request, Scanned, headers, scan},
    ids::Digest,
};

/// Bytes of one plain read, as many as the pass reads at a time.
const READ_BYTES: usize = 256 * 1024;
/// Files of a generated model.
const FILES: u64 = 4;
/// Sides of its matrices: those of a model of some billions of elements.
const SIDES: [u64; 2] = [4096, 4096];
/// Least bytes of a generated model: one matrix in each file.
const GENERATED_MIN: u64 = FILES * SIDES[0] * SIDES[1] * 2;
/// Passes of each kind; the fastest counts, because whatever else the machine does only slows one down.
const ROUNDS: usize = 3;

/// Arguments of `waag bench fingerprint`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench fingerprint my-model
  waag bench fingerprint my-model --sha256 --threads 2 --json   with the SHA-256 of every file, in the same pass
  waag bench fingerprint /dev/shm --generate 4294967296         on a model of 4 GiB that is made there and removed
  waag bench fingerprint my-model --cold                        from the disk, not from memory

The last lines are `ratio <number> <what against what>`: the pass against a plain read of the same files by as many \
threads, in pieces of the same size.")]
pub struct Args {
    /// The folder of the model; with --generate, the folder in which one is made
    dir: PathBuf,
    /// Compute the SHA-256 of every weight file too
    #[arg(long)]
    sha256: bool,
    /// Ask the system to forget the files before each pass
    #[arg(long)]
    cold: bool,
    /// Make a bf16 model of this many bytes in four files, and remove it afterwards
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(GENERATED_MIN..))]
    generate: Option<u64>,
    /// Keep what was generated
    #[arg(long, requires = "generate")]
    keep: bool,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// A generated model's folder, removed in the end.
struct Generated {
    folder: PathBuf,
    keep: bool,
}

impl Drop for Generated {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is still there to be seen; the figures are right all the same.
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When a weight file cannot be made or read.
pub fn run(context: &Context, args: &Args) -> Outcome {
    Failure::unless_there(&args.dir)?;
    let generated = args.generate.map(|bytes| generate(&args.dir, bytes, args.keep)).transpose();
    let generated = generated.map_err(|source| FILE_FAILED.because(source.to_string()))?;
    let folder = generated.as_ref().map_or(args.dir.as_path(), |generated| &generated.folder);
    let unreadable = |source: Error| {
        let why = std::error::Error::source(&source).map(ToString::to_string).unwrap_or_default();
        Failure::usage(format!("{source}: {why}"))
    };
    let shards = headers(folder).map_err(unreadable)?;
    let threads = args.threads.map(usize::from).or_else(|| thread::available_parallelism().ok().map(usize::from));
    let threads = threads.unwrap_or(1);
    let files: Vec<PathBuf> = shards.keys().map(|name| folder.join(name)).collect();
    let bytes: u64 = shards.values().map(|header| header.data_begin() + header.data_bytes()).sum();
    let key = Key::new([0; 32]);
    let request = Request { folder, shards: &shards, key: &key, threads, sha256: args.sha256 };
    let before_kib = resident_kib("self", "VmRSS");
    let (mut pass_ns, mut read_ns) = (u64::MAX, u64::MAX);
    let mut scanned = None;
    let clock = stopwatch();
    let timed = |least: &mut u64, work: &mut dyn FnMut() -> Result<(), Failure>| -> Outcome {
        if args.cold {
            forget(&files).map_err(|source| FILE_FAILED.because(source.to_string()))?;
        }
        let begun = clock();
        work()?;
        *least = clock().saturating_sub(begun).max(1).min(*least);
        Ok(())
    };
    for _ in 0..ROUNDS {
        // By turns, so that whatever else runs meanwhile slows both.
        let plain = || plain_read(&files, threads).map_err(|source| FILE_FAILED.because(source.to_string()));
        timed(&mut read_ns, &mut || Ok(plain()?))?;
        timed(&mut pass_ns, &mut || {
            scanned = Some(scan(&request, &|_bytes| true).map_err(unreadable)?);
            Ok(())
        })?;
    }
    let Some(scanned) = scanned else { return Ok(()) };
    let peak_kib = resident_kib("self", "VmHWM").zip(before_kib).map(|(peak, before)| peak.saturating_sub(before));
    let measured = Measured { bytes, files: shards.len(), threads, pass_ns, read_ns, peak_kib };
    measured.tell(context, args, folder, &scanned);
    Ok(())
}

/// What was measured.
struct Measured {
    bytes: u64,
    files: usize,
    threads: usize,
    pass_ns: u64,
    read_ns: u64,
    peak_kib: Option<u64>,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "bytes and nanoseconds of one model are far below 2^53")]
    fn tell(&self, context: &Context, args: &Args, folder: &Path, scanned: &Scanned) {
        let gb_per_s = self.bytes as f64 / self.pass_ns as f64;
        let plain_gb_per_s = self.bytes as f64 / self.read_ns as f64;
        let ratio = self.read_ns as f64 / self.pass_ns as f64;
        let matrices = scanned.fingerprint.matrices();
        let sha256: Vec<_> =
            scanned.sha256.iter().map(|(name, digest)| json!({"file": name, "sha256": Digest(*digest)})).collect();
        let document = json!({
            "folder": folder,
            "bytes": self.bytes,
            "files": self.files,
            "matrices": matrices,
            "threads": self.threads,
            "cold": args.cold,
            "gb_per_s": gb_per_s,
            "plain_read_gb_per_s": plain_gb_per_s,
            "ratio": ratio,
            "peak_added_kib": self.peak_kib,
            "named": Digest(scanned.fingerprint.named),
            "contents": Digest(scanned.fingerprint.contents),
            "sha256": sha256,
        });
        let kind = if args.cold { "cold" } else { "warm" };
        let work = if args.sha256 { "fingerprint, sketches and SHA-256" } else { "fingerprint and sketches" };
        answer(context.json(), &document, || {
            let peak = self.peak_kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{} MiB", kib / 1024));
            format!(
                "{} bytes in {} files, {matrices} matrices, {} threads, {kind}\n{work}: {gb_per_s:.2} GB/s\nplain \
                 read: {plain_gb_per_s:.2} GB/s\npeak memory added: {peak}\nratio {ratio:.2} {work} against a plain \
                 {kind} read",
                self.bytes, self.files, self.threads
            )
        });
    }
}

/// Reads every file once, on as many threads as there are, and does nothing with the bytes.
fn plain_read(files: &[PathBuf], threads: usize) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let read = || -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let file = File::open(path)?;
            let mut at = 0;
            loop {
                match file.read_at(&mut buffer, at)? {
                    0 => break,
                    count => at += count as u64,
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads.clamp(1, files.len().max(1))).map(|_| scope.spawn(read)).collect();
        readers.into_iter().try_for_each(|reader| reader.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
    })
}

/// Asks the system to drop the files from memory.
fn forget(files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        let file = File::open(path)?;
        // Only what is on the disk can be dropped.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Makes a model of at least this many bytes.
fn generate(dir: &Path, bytes: u64, keep: bool) -> io::Result<Generated> {
    let folder = dir.join(format!("waag-bench-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let generated = Generated { folder, keep };
    let [rows, cols] = SIDES;
    let matrix_bytes = rows * cols * 2;
    let count = bytes.div_ceil(matrix_bytes * FILES);
    let mut state = 1u64;
    for file in 0..FILES {
        let mut members = serde_json::Map::new();
        for at in 0..count {
            let name = format!("model.layers.{}.mlp.up_proj.weight", file * count + at);
            let span = [at * matrix_bytes, (at + 1) * matrix_bytes];
            members.insert(name, json!({"dtype": "BF16", "shape": SIDES, "data_offsets": span}));
        }
        write(&generated.folder.join(format!("model-{file}.safetensors")), &members, count * matrix_bytes, &mut state)?;
    }
    Ok(generated)
}

/// Writes a weight file of moderate bf16 numbers.
fn write(
    path: &Path,
    members: &serde_json::Map<String, serde_json::Value>,
    bytes: u64,
    state: &mut u64,
) -> io::Result<()> {
    let header = serde_json::to_vec(members)?;
    let mut file = File::create_new(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut piece = vec![0u8; READ_BYTES];
    let mut left = bytes;
    while left > 0 {
        for word in piece.as_chunks_mut::<8>().0 {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Between 2^-7 and 2^-3: numbers so small that their powers are denormal take eight times as long.
            *word = ((*state >> 8) & 0x81ff_81ff_81ff_81ff | 0x3c00_3c00_3c00_3c00).to_le_bytes();
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        file.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::model::safetensors::Header;

    #[test]
    fn a_generated_model_is_well_formed_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let generated = generate(dir.path(), GENERATED_MIN, false).unwrap();
        let folder = generated.folder.clone();
        let shards = headers(&folder).unwrap();
        assert_eq!(shards.len() as u64, FILES);
        assert_eq!(shards.values().map(Header::data_bytes).sum::<u64>(), GENERATED_MIN);
        let files: Vec<PathBuf> = shards.keys().map(|name| folder.join(name)).collect();
        plain_read(&files, 2).unwrap();
        forget(&files).unwrap();
        drop(generated);
        assert!(!folder.exists());
        assert!(plain_read(&files, 2).is_err());
    }
}

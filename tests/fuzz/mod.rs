//! Hostile bytes for the readers of models: what was once found, the seeds, and a bounded number of mutations of them.
//!
//! The loop is the same on every machine: it follows from a seed, and stops after a number of tries. What makes it fail
//! is printed in hex and belongs into `found/`, each file of which is tried first from then on. To look for longer:
//! `WAAG_FUZZ_SEED=7 WAAG_FUZZ_TRIES=10000000 cargo test --release --test main fuzz`, or, with a nightly compiler and
//! `cargo-fuzz`, `cargo +nightly fuzz run --fuzz-dir tests/fuzz/libfuzzer model tests/fuzz/corpus tests/fuzz/found`.

mod target;

use std::{fs, panic, path::Path};

use super::fuzz::target::look;

/// Tries of one ordinary run: some seconds.
const TRIES: u64 = 30_000;
/// The seed of an ordinary run.
const SEED: u64 = 0x5eed_0001;
/// Mutations of one input.
const MUTATIONS: u64 = 6;
/// Bytes of one input.
const BYTES_MAX: usize = 16 * 1024;

/// What breaks readers of such texts.
const TOKENS: &[&str] = &[
    "\"__metadata__\":{}",
    "\"dtype\":\"F4\"",
    "\"dtype\":\"F64\"",
    "\"data_offsets\":[0,0]",
    "\"shape\":[0,7]",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e3",
    "0.0",
    "null",
    "{}",
    "[]",
    "\"\"",
    "\\u0000",
    "\\ud800",
    ",",
    ":",
    "\"a\"",
    "\"weight_map\"",
    "\"auto_map\"",
    "\"text_config\"",
    "[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    " ",
    "\n",
    "\u{feff}",
    "\"data_offsets\":[2,0]",
    "\"shape\":[4294967296,4294967296]",
    "\"architectures\":null",
];

/// A small generator whose numbers follow from its seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).expect("48 bits") % limit.max(1)
    }
}

fn inputs(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder);
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("readable").path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "bin")).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read(path).expect("readable"))).collect()
}

fn mutated(random: &mut Random, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].1.clone();
    for _mutation in 0..=random.next() % MUTATIONS {
        let at = random.below(bytes.len() + 1);
        match random.next() % 7 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (random.next() % 8),
            1 if at < bytes.len() => bytes[at] = (random.next() >> 8) as u8,
            2 => {
                let end = (at + random.below(32)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => {
                let other = &seeds[random.below(seeds.len())].1;
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                let end = (at + random.below(12)).min(bytes.len());
                bytes.splice(at..end, token.bytes());
            }
        }
        bytes.truncate(BYTES_MAX);
    }
    // A header whose length does not fit its text is refused at once: most are mended, so that the text is read.
    if bytes.first().is_some_and(|kind| kind % 3 == 0) && bytes.len() > 9 && !random.next().is_multiple_of(8) {
        let text = &bytes[9..];
        let end = text.iter().rposition(|byte| *byte == b'}').map_or(text.len(), |at| at + 1) as u64;
        bytes[1..9].copy_from_slice(&end.to_le_bytes());
    }
    bytes
}

fn try_one(name: &str, bytes: &[u8]) {
    let ended = panic::catch_unwind(|| look(bytes));
    assert!(ended.is_ok(), "{name} breaks a reader; keep it in tests/fuzz/found: {}", hex::encode(bytes));
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::vars().find(|(known, _)| known == name).map_or(usual, |(_, value)| value.parse().expect("a number"))
}

#[test]
fn what_was_found_and_the_seeds_break_nothing() {
    for (name, bytes) in inputs("found").iter().chain(&inputs("corpus")) {
        try_one(name, bytes);
    }
}

/// Without seeds that are taken, the loop would only ever see refusals.
#[test]
fn the_seeds_reach_behind_every_reader() {
    use waag::artifact::model::{architecture::Spec, safetensors::Header};

    let corpus = inputs("corpus");
    let taken = |kind: u8, take: &dyn Fn(&[u8]) -> bool| {
        corpus
            .iter()
            .filter(|(_, bytes)| bytes.first().is_some_and(|first| first % 3 == kind) && take(&bytes[1..]))
            .count()
    };
    let header = |file: &[u8]| {
        let Some(first) = file.first_chunk::<8>() else { return false };
        let Ok(length) = Header::length(*first, file.len() as u64) else { return false };
        Header::parse(&file[8..8 + length as usize], file.len() as u64).is_ok()
    };
    assert!(taken(0, &header) >= 4);
    assert!(taken(1, &|bytes| bytes.starts_with(b"{\"metadata\"")) >= 1);
    assert!(taken(2, &|bytes| Spec::of(bytes).is_ok()) >= 2);
}

#[test]
fn no_mutation_breaks_a_reader() {
    let (seed, tries) = (variable("WAAG_FUZZ_SEED", SEED), variable("WAAG_FUZZ_TRIES", TRIES));
    let seeds = [inputs("corpus"), inputs("found")].concat();
    let mut random = Random(seed.max(1));
    for number in 0..tries {
        let bytes = mutated(&mut random, &seeds);
        try_one(&format!("try {number} of seed {seed}"), &bytes);
    }
}

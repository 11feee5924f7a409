//! Tests of the archive reader, beside it because they are longer than it.

use std::io::Write as _;

use super::*;

fn entry(name: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(BLOCK + padded(content.len()), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, EntryType::Regular, content)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 2 * BLOCK]);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let record = |length: usize| format!("{length} {key}={value}\n");
    let length = (0..200).find(|length| record(*length).len() == *length).expect("a length");
    entry("PaxHeader", EntryType::XHeader, record(length).as_bytes())
}

fn code(bytes: &[u8]) -> String {
    read(bytes, &Limits::default()).expect_err("a fault").code
}

#[test]
fn plain_and_gzip_read_alike() {
    let bytes = archive(&[file("policy.toml", b"x"), file("./a.onnx", &[7; 600])]);
    let plain = read(&bytes, &Limits::default()).expect("plain");
    assert_eq!(plain.len(), 2);
    assert_eq!(plain["a.onnx"], vec![7; 600]);
    assert_eq!(read(&gzip(&bytes), &Limits::default()).expect("gzip"), plain);
}

#[test]
fn harmless_extended_headers_pass_and_others_do_not() {
    let good = archive(&[pax("mtime", "1.5"), file("a", b"x")]);
    assert_eq!(read(&good, &Limits::default()).expect("times only").len(), 1);
    for key in ["path", "size", "linkpath", "GNU.sparse.name", "SCHILY.realsize", "hdrcharset"] {
        assert_eq!(code(&archive(&[pax(key, "b"), file("a", b"x")])), "archive_entry_kind", "{key}");
    }
    assert_eq!(code(&archive(&[pax("mtime", "1")])), "archive_malformed");
    assert_eq!(code(&archive(&[pax("mtime", "1"), pax("mtime", "1"), file("a", b"x")])), "archive_entry_kind");
    let damaged = entry("PaxHeader", EntryType::XHeader, b"99 mtime=1\n");
    assert_eq!(code(&archive(&[damaged, file("a", b"x")])), "archive_malformed");
}

#[test]
fn only_regular_files() {
    for kind in [
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XGlobalHeader,
        EntryType::new(b'V'),
    ] {
        assert_eq!(code(&archive(&[entry("a", kind, b"")])), "archive_entry_kind", "{kind:?}");
    }
}

#[test]
fn only_plain_names() {
    let long = "a".repeat(limits::NAME_CHARS + 1);
    for name in ["/a", "../a", "a/b", "./../a", "././a", ".a", "-a", "a b", "ä", "", "a\\b", "a:b", "a.", "./", &long]
    {
        assert_eq!(code(&archive(&[file(name, b"")])), "archive_name", "{name:?}");
    }
    let longest = "a".repeat(limits::NAME_CHARS);
    assert!(read(&archive(&[file(&longest, b"")]), &Limits::default()).is_ok());
    assert_eq!(code(&archive(&[file("a", b""), file("a", b"")])), "archive_name");
    assert_eq!(code(&archive(&[file("a", b""), file("./A", b"")])), "archive_name");
}

#[test]
fn limits_hold_at_the_edge() {
    let named: Vec<_> = (0..=limits::ARCHIVE_FILES).map(|i| file(&format!("f{i}"), b"")).collect();
    assert!(read(&archive(&named[1..]), &Limits::default()).is_ok());
    assert_eq!(code(&archive(&named)), "archive_too_many_files");

    let bytes = archive(&[file("a", &[1; 1000])]);
    let exact = Limits { archive_bytes: bytes.len() as u64, unpacked_bytes: 1000, ..Limits::default() };
    assert!(read(&bytes, &exact).is_ok());
    for tight in [
        Limits { archive_bytes: bytes.len() as u64 - 1, ..exact.clone() },
        Limits { unpacked_bytes: 999, ..exact.clone() },
    ] {
        assert_eq!(read(&bytes, &tight).expect_err("too large").code, "archive_too_large");
    }
}

#[test]
fn bombs_are_refused_before_they_unfold() {
    let zeros = archive(&[file("a", &vec![0; 3 * 1024 * 1024])]);
    assert_eq!(code(&gzip(&zeros)), "archive_ratio");
    let noise: Vec<u8> = (0..300_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    let bytes = gzip(&archive(&[file("a", &noise)]));
    let tight = Limits { unpacked_bytes: 1000, ..Limits::default() };
    assert_eq!(read(&bytes, &tight).expect_err("too large").code, "archive_too_large");
}

#[test]
fn nothing_may_follow_the_end() {
    let good = archive(&[file("a", b"x")]);
    let mut padded_to_10k = good.clone();
    padded_to_10k.resize(10_240, 0);
    assert!(read(&padded_to_10k, &Limits::default()).is_ok());

    let with = |tail: &[u8]| [good.as_slice(), tail].concat();
    assert_eq!(code(&with(&file("b", b"y"))), "archive_trailing");
    assert_eq!(code(&with(&[0; 7])), "archive_trailing");
    assert_eq!(code(&with(&vec![0; limits::ARCHIVE_PADDING_BYTES])), "archive_trailing");
    let zipped = gzip(&good);
    assert_eq!(code(&[zipped.as_slice(), b"x"].concat()), "archive_trailing");
    assert_eq!(code(&[zipped.as_slice(), &zipped].concat()), "archive_trailing");
    // One lone zero block hides what follows from some readers and not from others.
    let hidden = [file("a", b"x"), vec![0; BLOCK], file("b", b"y"), vec![0; 2 * BLOCK]].concat();
    assert_eq!(code(&hidden), "archive_trailing");
}

#[test]
fn damage_is_named() {
    let good = archive(&[file("a", &[5; 700])]);
    let zipped = gzip(&good);
    for cut in [0, 1, 100, 511, 512, 900, 1400, 1600, good.len() - 1] {
        assert_eq!(code(&good[..cut]), "archive_malformed", "tar cut at {cut}");
    }
    for cut in 2..zipped.len() {
        assert_eq!(code(&zipped[..cut]), "archive_malformed", "gzip cut at {cut}");
    }
    let mut flipped = good;
    flipped[3] ^= 1;
    assert_eq!(code(&flipped), "archive_malformed");
    assert_eq!(code(b"PK\x03\x04 a zip file"), "archive_malformed");
}

#[test]
fn a_huge_size_is_not_believed() {
    let mut header = Header::new_gnu();
    header.set_path("a").expect("short");
    header.set_size(u64::MAX - 100);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let bytes = [header.as_bytes().as_slice(), &[0; 2 * BLOCK]].concat();
    assert_eq!(code(&bytes), "archive_malformed");
}

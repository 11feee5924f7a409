//! The archive reader: `policy.tar`, plain or gzip, as a short list of named byte strings.
//!
//! Owns what an archive may be: regular files at the top level under plain names, and nothing else. Refuses to write to
//! a disk, to skip what it does not like, or to know what the files mean. `artifact::policy` and `artifact::pack` call it.
//!
//! Extended headers are accepted only where they cannot change what a reader sees: Python's `tarfile` and the tar of
//! the BSDs write times and owners with fractions that way. A header that renames, resizes or links is refused, as are
//! the long names of GNU tar and all sparse forms. A leading `./` is dropped; a folder is refused, even `./` itself.

use std::{collections::BTreeMap, io::Read as _};

use tar::{EntryType, Header};

use super::{codes, codes::quoted, limits, limits::Limits};
use crate::fault::Fault;

/// Bytes of a tar block.
const BLOCK: usize = 512;
/// Records of an extended header that say nothing of name, size, kind or content.
const PAX_HARMLESS: [&str; 9] = ["mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "charset"];
/// Families of vendor records that describe the file on the sender's disk and never its bytes.
const PAX_HARMLESS_PREFIXES: [&str; 3] = ["LIBARCHIVE.", "SCHILY.", "SUN."];

/// The files of an archive by name. Nothing of the archive's own order, times, modes or owners is kept.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Reads the whole archive, or refuses it whole.
///
/// # Errors
/// A miner's fault that names the entry, the measured value and the limit.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Files, Fault> {
    let sent = bytes.len() as u64;
    if sent > limits.archive_bytes {
        return Err(codes::ARCHIVE_TOO_LARGE.because(format!("{sent} bytes; the limit is {}", limits.archive_bytes)));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let plain = gunzip(bytes, limits)?;
        return read_tar(&plain, limits);
    }
    read_tar(bytes, limits)
}

/// One gzip member, all of it, with nothing behind it.
fn gunzip(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, Fault> {
    let sent = bytes.len() as u64;
    // Headers and padding come on top of the files' own bytes.
    let most = limits.unpacked_bytes + limits::ARCHIVE_PADDING_BYTES as u64 + 64 * 1024;
    let allowed = (sent.saturating_mul(limits::ARCHIVE_RATIO)).max(limits::ARCHIVE_RATIO_FROM_BYTES).min(most);
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut plain = Vec::new();
    let read = decoder.by_ref().take(allowed + 1).read_to_end(&mut plain);
    if plain.len() as u64 > allowed {
        let code = if allowed == most { codes::ARCHIVE_TOO_LARGE } else { codes::ARCHIVE_RATIO };
        return Err(code.because(format!("{sent} bytes unpack to more than {allowed}")));
    }
    read.map_err(|source| codes::ARCHIVE_MALFORMED.because(format!("gzip: {source}")))?;
    let rest = decoder.into_inner().len();
    if rest > 0 {
        return Err(codes::ARCHIVE_TRAILING.because(format!("{rest} bytes follow the gzip stream")));
    }
    Ok(plain)
}

/// Walks the blocks one by one. The crate's own iterator is not used, because it skips and joins entries silently.
fn read_tar(bytes: &[u8], limits: &Limits) -> Result<Files, Fault> {
    let mut files = Files::new();
    let mut folded_names = BTreeMap::new();
    let mut unpacked_bytes = 0_u64;
    let mut extended = false;
    let mut at = 0;
    loop {
        let Some(block) = bytes.get(at..at + BLOCK) else {
            return Err(
                codes::ARCHIVE_MALFORMED.because(format!("it ends at byte {} without an end mark", bytes.len()))
            );
        };
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = checked_header(block, at)?;
        let size = header
            .entry_size()
            .map_err(|source| codes::ARCHIVE_MALFORMED.because(format!("the header at byte {at}: {source}")))?;
        let content = content(bytes, at + BLOCK, size)?;
        at += BLOCK + padded(content.len());
        match header.entry_type() {
            EntryType::XHeader if !extended => {
                check_extended(content)?;
                extended = true;
                continue;
            }
            EntryType::Regular => extended = false,
            other => return Err(refused_kind(other, header)),
        }
        let name = checked_name(header)?;
        if let Some(earlier) = folded_names.insert(name.to_ascii_lowercase(), name.clone()) {
            return Err(codes::ARCHIVE_NAME.because(format!("{} and {} collide", quoted(&earlier), quoted(&name))));
        }
        if files.len() == limits::ARCHIVE_FILES {
            return Err(codes::ARCHIVE_TOO_MANY_FILES.because(format!("more than {}", limits::ARCHIVE_FILES)));
        }
        unpacked_bytes += size;
        if unpacked_bytes > limits.unpacked_bytes {
            let limit = limits.unpacked_bytes;
            return Err(
                codes::ARCHIVE_TOO_LARGE.because(format!("{unpacked_bytes} bytes unpacked; the limit is {limit}"))
            );
        }
        files.insert(name, content.to_vec());
    }
    if extended {
        return Err(codes::ARCHIVE_MALFORMED.because("an extended header without its file"));
    }
    check_end(&bytes[at..])?;
    Ok(files)
}

/// The header in this block, if its sum is right and it is of a kind we know.
fn checked_header(block: &[u8], at: usize) -> Result<&Header, Fault> {
    let header = Header::from_byte_slice(block);
    let written = header.cksum().map_err(|source| {
        codes::ARCHIVE_MALFORMED.because(format!("neither gzip nor a tar header at byte {at}: {source}"))
    })?;
    // The sum is taken with the eight bytes of the sum itself read as spaces.
    let counted: u32 =
        block.iter().enumerate().map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u32::from(*byte) }).sum();
    if written != counted {
        return Err(codes::ARCHIVE_MALFORMED.because(format!("neither gzip nor a tar header at byte {at}")));
    }
    Ok(header)
}

fn content(bytes: &[u8], from: usize, size: u64) -> Result<&[u8], Fault> {
    usize::try_from(size)
        .ok()
        .and_then(|size| from.checked_add(size))
        .filter(|end| from + padded(end - from) <= bytes.len())
        .map(|end| &bytes[from..end])
        .ok_or_else(|| codes::ARCHIVE_MALFORMED.because(format!("an entry of {size} bytes is cut off")))
}

/// Bytes an entry takes in whole blocks. The caller has checked that `len` is at most the archive's own length.
const fn padded(len: usize) -> usize {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn refused_kind(kind: EntryType, header: &Header) -> Fault {
    let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let words = match kind {
        EntryType::Directory => "a folder",
        EntryType::Symlink | EntryType::Link => "a link",
        EntryType::GNULongName | EntryType::GNULongLink => "a GNU long name",
        EntryType::GNUSparse => "a sparse file",
        EntryType::XGlobalHeader | EntryType::XHeader => "an extended header",
        _ => "of a kind that is not allowed",
    };
    codes::ARCHIVE_ENTRY_KIND.because(format!("{} is {words}", quoted(&name)))
}

/// `length key=value\n` records, each of a key that cannot change what a reader sees.
fn check_extended(content: &[u8]) -> Result<(), Fault> {
    let malformed = || codes::ARCHIVE_MALFORMED.because("an extended header is damaged");
    if content.len() as u64 > limits::PAX_BYTES {
        let (size, limit) = (content.len(), limits::PAX_BYTES);
        return Err(
            codes::ARCHIVE_ENTRY_KIND.because(format!("an extended header of {size} bytes; the limit is {limit}"))
        );
    }
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest.iter().take(8).position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length: usize =
            std::str::from_utf8(&rest[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(malformed)?;
        let record = rest.get(space + 1..length).ok_or_else(malformed)?;
        let (b'\n', record) = record.split_last().ok_or_else(malformed)? else { return Err(malformed()) };
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let key = String::from_utf8_lossy(&record[..equals]);
        let harmless = PAX_HARMLESS.contains(&&*key) || PAX_HARMLESS_PREFIXES.iter().any(|p| key.starts_with(p));
        // Of the vendor families only `realsize` and its like rename or resize; no honest small file carries them.
        if !harmless || key.contains("size") || key.contains("sparse") {
            return Err(codes::ARCHIVE_ENTRY_KIND.because(format!("an extended header sets {}", quoted(&key))));
        }
        rest = &rest[length..];
    }
    Ok(())
}

fn checked_name(header: &Header) -> Result<String, Fault> {
    let bytes = header.path_bytes();
    let refuse = |why: &str| {
        let shown = quoted(&String::from_utf8_lossy(&bytes));
        Err(codes::ARCHIVE_NAME.because(format!("{shown} {why}")))
    };
    let Ok(text) = std::str::from_utf8(&bytes) else { return refuse("is not text") };
    let name = text.strip_prefix("./").unwrap_or(text);
    if !is_plain_name(name) {
        return refuse("is not a plain name at the top level");
    }
    if header.link_name_bytes().is_some() {
        return refuse("carries a link");
    }
    Ok(name.to_owned())
}

/// Whether a name is relative, of one level, ASCII and harmless on every file system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=limits::NAME_CHARS).contains(&name.len())
        && name.bytes().all(allowed)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && !name.ends_with('.')
}

/// After the first zero block comes at least one more and nothing but zeros.
fn check_end(rest: &[u8]) -> Result<(), Fault> {
    if rest.len() < 2 * BLOCK {
        return Err(codes::ARCHIVE_MALFORMED.because("the end mark is cut off"));
    }
    if let Some(at) = rest.iter().position(|byte| *byte != 0) {
        return Err(codes::ARCHIVE_TRAILING.because(format!("something stands {at} bytes after the end mark")));
    }
    if rest.len() > limits::ARCHIVE_PADDING_BYTES || !rest.len().is_multiple_of(BLOCK) {
        return Err(codes::ARCHIVE_TRAILING.because(format!("{} bytes of padding", rest.len())));
    }
    Ok(())
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;

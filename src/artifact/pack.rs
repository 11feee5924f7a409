//! The packer: ONNX files on a miner's disk made into one `policy.tar`.
//!
//! Owns the one place of this room that reads and writes files, the inlining of weights that lie beside an ONNX file,
//! and the archive's exact bytes. Refuses data outside of the ONNX file's own folder. The miner verbs call it.
//!
//! The same files give the same bytes on every machine: sorted names, no times, no owners.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use prost::Message as _;

use super::{
    Limits, codes,
    codes::quoted,
    manifest::{FILE, FORMAT, Manifest},
    onnx::{
        proto::{LOCATION_EXTERNAL, ModelProto, TensorProto},
        wire,
    },
    policy::Bundle,
};
use crate::fault::Fault;

/// What the manifest says besides the environments.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// What the miner calls the policy.
    pub name: Option<String>,
    /// Prose.
    pub description: Option<String>,
}

/// Packs these files, each for its environment, into `out`, and reads the result as an operator would.
///
/// # Errors
/// A miner's fault for files that no operator would take, an operator's fault for a disk that does not do its part.
/// Nothing is left at `out` then.
pub fn pack(files: &[(String, PathBuf)], words: &Words, out: &Path, limits: &Limits) -> Result<Bundle, Fault> {
    let bytes = pack_bytes(files, words, limits)?;
    let bundle = Bundle::read(&bytes, limits)?;
    let partial = partial_path(out);
    let written = fs::write(&partial, &bytes).and_then(|()| fs::rename(&partial, out));
    if let Err(source) = written {
        // What cannot be removed either is named in the fault.
        let _ = fs::remove_file(&partial);
        return Err(io_fault(out, &source));
    }
    Ok(bundle)
}

/// The archive's bytes, unchecked but for their parts.
///
/// # Errors
/// As [`pack`].
pub fn pack_bytes(files: &[(String, PathBuf)], words: &Words, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let mut entries = BTreeMap::new();
    let mut environments = BTreeMap::new();
    for (environment, path) in files {
        let file = format!("{}.onnx", environment.to_ascii_lowercase());
        let model = inlined(path, limits)?;
        if environments.insert(environment.clone(), file.clone()).is_some() || entries.insert(file, model).is_some() {
            return Err(codes::PACK_INPUT.because(format!("{} is named twice", quoted(environment))));
        }
    }
    if environments.is_empty() {
        return Err(codes::PACK_INPUT.because("no file was named"));
    }
    let manifest =
        Manifest { format: FORMAT, name: words.name.clone(), description: words.description.clone(), environments };
    let text = toml::to_string(&manifest).map_err(|source| codes::PACK_INPUT.because(source.to_string()))?;
    entries.insert(FILE.to_owned(), text.into_bytes());
    archive(&entries).map_err(|source| codes::PACK_INPUT.because(source.to_string()))
}

/// A tar file of these entries: the same bytes for the same entries, whoever writes it and when.
fn archive(entries: &BTreeMap<String, Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, content.as_slice())?;
    }
    builder.into_inner()
}

/// The ONNX file at `path` with every weight inside.
fn inlined(path: &Path, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let bytes = read_limited(path, limits.model_bytes, 0)?;
    let named = |fault: Fault| Fault { detail: format!("{}: {}", path.display(), fault.detail), ..fault };
    wire::scan(&bytes).map_err(named)?;
    let mut model =
        ModelProto::decode(&bytes[..]).map_err(|source| named(codes::ONNX_MALFORMED.because(source.to_string())))?;
    let folder = Folder::of(path)?;
    let mut changed = false;
    let mut left_bytes = limits.model_bytes;
    // Only initialisers: exporters put large weights nowhere else, and the check refuses what is left.
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if tensor.data_location == Some(LOCATION_EXTERNAL) || !tensor.external_data.is_empty() {
            let content = folder.read(tensor, left_bytes).map_err(named)?;
            left_bytes = left_bytes.saturating_sub(content.len() as u64);
            tensor.raw_data = Some(content);
            tensor.external_data.clear();
            tensor.data_location = None;
            changed = true;
        }
    }
    // A file that needs nothing keeps its own bytes.
    Ok(if changed { model.encode_to_vec() } else { bytes })
}

/// The folder of an ONNX file, beyond which nothing is read.
struct Folder(PathBuf);

impl Folder {
    fn of(file: &Path) -> Result<Self, Fault> {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        parent.canonicalize().map(Self).map_err(|source| io_fault(parent, &source))
    }

    /// The bytes that a tensor refers to.
    fn read(&self, tensor: &TensorProto, left_bytes: u64) -> Result<Vec<u8>, Fault> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            found.and_then(|entry| entry.value.as_deref())
        };
        let name = quoted(tensor.name.as_deref().unwrap_or(""));
        let location = entry("location").unwrap_or("");
        let refuse = |why: &str| {
            codes::PACK_EXTERNAL_PATH.because(format!("the constant {name} refers to {}, {why}", quoted(location)))
        };
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_source| refuse("with a wrong offset or length")),
        };
        let plain = Path::new(location);
        let is_plain_file = plain.file_name() == Some(plain.as_os_str()) && !location.contains(['/', '\\', '\0']);
        if !is_plain_file {
            return Err(refuse("which is not a plain name in its folder"));
        }
        // A link may lead anywhere; what it leads to must lie in the folder.
        let path = self.0.join(plain);
        let real = path.canonicalize().map_err(|source| io_fault(&path, &source))?;
        if real.parent() != Some(&self.0) || !real.is_file() {
            return Err(refuse("which is not a file in its folder"));
        }
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        if length.is_some_and(|length| length > left_bytes) {
            return Err(
                codes::ONNX_TOO_LARGE.because(format!("the constant {name} exceeds the {left_bytes} bytes left"))
            );
        }
        let content = match length {
            Some(length) => read_part(&real, offset, length).map_err(|source| io_fault(&real, &source))?,
            None => read_limited(&real, left_bytes, offset)?,
        };
        if length.is_some_and(|length| content.len() as u64 != length) {
            return Err(refuse("which is shorter than it should be"));
        }
        Ok(content)
    }
}

fn read_part(path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    use io::Seek as _;
    let mut file = fs::File::open(path)?;
    file.seek(io::SeekFrom::Start(offset))?;
    let mut content = Vec::new();
    file.take(length).read_to_end(&mut content)?;
    Ok(content)
}

fn read_limited(path: &Path, limit: u64, offset: u64) -> Result<Vec<u8>, Fault> {
    let content = read_part(path, offset, limit.saturating_add(1)).map_err(|source| io_fault(path, &source))?;
    if content.len() as u64 > limit {
        return Err(codes::ONNX_TOO_LARGE.because(format!("{}: more than {limit} bytes", path.display())));
    }
    Ok(content)
}

fn partial_path(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    out.with_file_name(name)
}

fn io_fault(path: &Path, source: &io::Error) -> Fault {
    codes::PACK_IO.because(format!("{}: {source}", path.display()))
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;

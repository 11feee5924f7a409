use serde_json::json;

use super::*;

/// A weight file of square bf16 matrices with these names, filled from their names.
fn weights(names: &[&str]) -> Vec<u8> {
    const SIDE: usize = 96;
    let bytes = SIDE * SIDE * 2;
    let mut members = serde_json::Map::new();
    let mut data = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let offsets = [at * bytes, (at + 1) * bytes];
        members.insert((*name).to_owned(), json!({"dtype": "BF16", "shape": [SIDE, SIDE], "data_offsets": offsets}));
        let mut state = Sha256::digest(name.as_bytes());
        while data.len() < offsets[1] {
            // Finite values of moderate size.
            data.extend(
                state.iter().enumerate().map(|(at, byte)| if at % 2 == 0 { *byte } else { 0x3c | byte & 0x81 }),
            );
            state = Sha256::digest(state);
        }
        data.truncate(offsets[1]);
    }
    let header = serde_json::to_vec(&members).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn folder(files: &[(&str, &[&str])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, tensors) in files {
        fs::write(dir.path().join(name), weights(tensors)).unwrap();
    }
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    dir
}

fn scanned(folder: &Path, threads: usize, sha256: bool) -> Scanned {
    let shards = headers(folder).unwrap();
    let key = Key::new([7; 32]);
    scan(&Request { folder, shards: &shards, key: &key, threads, sha256 }, &|_bytes| true).unwrap()
}

#[test]
fn threads_files_and_digests_change_nothing() {
    let one = folder(&[("model.safetensors", &["a", "b", "c", "d"])]);
    let two = folder(&[("model-1.safetensors", &["d", "b"]), ("model-2.safetensors", &["a", "c"])]);
    let first = scanned(one.path(), 1, false);
    for (folder, threads, sha256) in [(&one, 4, false), (&one, 2, true)] {
        assert_eq!(scanned(folder.path(), threads, sha256).fingerprint, first.fingerprint);
    }
    let other = scanned(two.path(), 2, true);
    assert_eq!(
        (other.fingerprint.named, other.fingerprint.contents),
        (first.fingerprint.named, first.fingerprint.contents)
    );
    let digest = |name: &str| -> [u8; 32] { Sha256::digest(fs::read(two.path().join(name)).unwrap()).into() };
    let expected = ["model-1.safetensors", "model-2.safetensors"].map(|name| (name.to_owned(), digest(name)));
    assert_eq!(other.sha256, BTreeMap::from(expected));
    let renamed = folder(&[("model.safetensors", &["a", "b", "c", "e"])]);
    assert_ne!(scanned(renamed.path(), 2, false).fingerprint.contents, first.fingerprint.contents);
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = folder(&[("model.safetensors", &["a", "b"])]);
    let shards = headers(dir.path()).unwrap();
    let key = Key::new([7; 32]);
    let request = Request { folder: dir.path(), shards: &shards, key: &key, threads: 2, sha256: false };
    assert!(matches!(scan(&request, &|_bytes| false), Err(Error::Stopped)));
    // Shorter than its header said, after that was read.
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(scan(&request, &|_bytes| true), Err(Error::Read { .. })));
    assert!(matches!(headers(dir.path()), Err(Error::Header { source: Malformed::End { .. }, .. })));
    for short in [&b""[..], b"1234567", &u64::MAX.to_le_bytes()] {
        fs::write(&path, short).unwrap();
        assert!(matches!(headers(dir.path()), Err(Error::Header { .. })), "{short:?}");
    }
    assert!(matches!(headers(&dir.path().join("nowhere")), Err(Error::Read { .. })));
}

//! Tests of the packer, on files in a folder that goes away.

use super::*;
use crate::artifact::onnx::proto::StringStringEntryProto;

fn model_file() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/onnx/same/gemm.onnx");
    fs::read(path).expect("a stored file")
}

/// The stored network with its first weight moved to `location`, from `offset` on.
fn outside(location: &str, offset: Option<&str>, length: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let mut model = ModelProto::decode(&model_file()[..]).expect("good");
    let tensor = &mut model.graph.as_mut().expect("a graph").initializer[0];
    let content = tensor.raw_data.take().expect("raw");
    tensor.data_location = Some(LOCATION_EXTERNAL);
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    tensor.external_data.push(entry("location", location));
    tensor.external_data.extend(offset.map(|offset| entry("offset", offset)));
    tensor.external_data.extend(length.map(|length| entry("length", length)));
    (model.encode_to_vec(), content)
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    fn pack(&self, files: &[(&str, &Path)]) -> Result<Bundle, Fault> {
        let files: Vec<_> = files.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf())).collect();
        pack(&files, &Words::default(), &self.folder.path().join("policy.tar"), &Limits::default())
    }

    fn code(&self, path: &Path) -> String {
        let fault = self.pack(&[("CartPole-v1", path)]).expect_err("a fault");
        assert!(!self.folder.path().join("policy.tar").exists());
        fault.code
    }
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let place = Place::new();
    let path = place.write("a.onnx", &model_file());
    let first = place.pack(&[("B-v0", &path), ("A-v0", &path)]).expect("packed");
    let second = place.pack(&[("A-v0", &path), ("B-v0", &path)]).expect("packed");
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.models.keys().collect::<Vec<_>>(), ["A-v0", "B-v0"]);
    let written = fs::read(place.folder.path().join("policy.tar")).expect("written");
    assert_eq!(crate::ids::Digest::of(&written), first.digest);
    let files: Vec<_> = fs::read_dir(place.folder.path()).expect("a folder").collect();
    assert_eq!(files.len(), 2, "nothing else is left");
}

#[test]
fn weights_beside_the_file_are_put_in() {
    let place = Place::new();
    let (model, content) = outside("net.onnx.data", Some("16"), Some(&content_len()));
    let path = place.write("net.onnx", &model);
    place.write("net.onnx.data", &[[9; 16].as_slice(), &content, &[9; 5]].concat());
    let packed = place.pack(&[("CartPole-v1", &path)]).expect("packed");
    let inside = place.write("inside.onnx", &model_file());
    let wanted = place.pack(&[("CartPole-v1", &inside)]).expect("packed");
    assert_eq!(packed.content_digest, wanted.content_digest);

    // The whole file, when neither offset nor length is said.
    let (model, content) = outside("plain.bin", None, None);
    let path = place.write("plain.onnx", &model);
    place.write("plain.bin", &content);
    assert_eq!(place.pack(&[("CartPole-v1", &path)]).expect("packed").content_digest, wanted.content_digest);
}

fn content_len() -> String {
    outside("x", None, None).1.len().to_string()
}

#[test]
fn nothing_outside_of_the_folder_is_read() {
    let place = Place::new();
    let secret = place.write("secret.bin", &outside("x", None, None).1);
    let absolute = secret.to_string_lossy().into_owned();
    for location in [absolute.as_str(), "../secret.bin", "./../secret.bin", "sub/secret.bin", "..", ".", "", "a\\b"] {
        let path = place.write("in/net.onnx", &outside(location, None, None).0);
        assert_eq!(place.code(&path), "pack_external_path", "{location:?}");
    }
    #[cfg(unix)]
    {
        let link = place.folder.path().join("in/link.bin");
        std::os::unix::fs::symlink(&secret, &link).expect("a link");
        let path = place.write("in/net.onnx", &outside("link.bin", None, None).0);
        assert_eq!(place.code(&path), "pack_external_path");
        fs::create_dir(place.folder.path().join("in/folder.bin")).expect("a folder");
        let path = place.write("in/net.onnx", &outside("folder.bin", None, None).0);
        assert_eq!(place.code(&path), "pack_external_path");
    }
}

#[test]
fn offsets_and_lengths_are_not_believed() {
    let place = Place::new();
    place.write("w.bin", &[0; 100]);
    for (offset, length, code) in [
        (Some("-1"), None, "pack_external_path"),
        (None, Some("x"), "pack_external_path"),
        (Some("50"), Some("60"), "pack_external_path"),
        (Some("18446744073709551615"), Some("4"), "pack_io"),
        (None, Some("99999999999999"), "onnx_too_large"),
        (None, Some("100"), "onnx_tensor"),
    ] {
        let path = place.write("net.onnx", &outside("w.bin", offset, length).0);
        assert_eq!(place.code(&path), code, "{offset:?} {length:?}");
    }
    let path = place.write("net.onnx", &outside("missing.bin", None, None).0);
    assert_eq!(place.code(&path), "pack_io");
}

#[test]
fn a_file_too_large_is_not_read_whole() {
    let place = Place::new();
    let limits = Limits { model_bytes: 100, ..Limits::default() };
    let path = place.write("net.onnx", &model_file());
    let files = [("A".to_owned(), path)];
    let fault = pack_bytes(&files, &Words::default(), &limits).expect_err("a fault");
    assert_eq!(fault.code, "onnx_too_large");
}

#[test]
fn what_no_operator_would_take_is_not_written() {
    let place = Place::new();
    let path = place.write("a.onnx", &model_file());
    assert_eq!(place.pack(&[]).expect_err("none").code, "pack_input");
    assert_eq!(place.pack(&[("A", &path), ("A", &path)]).expect_err("twice").code, "pack_input");
    assert_eq!(place.pack(&[("a", &path), ("A", &path)]).expect_err("by case").code, "pack_input");
    assert_eq!(place.pack(&[("../A", &path)]).expect_err("a path").code, "pack_input");
    let broken = place.write("b.onnx", b"nothing");
    assert_eq!(place.code(&broken), "onnx_malformed");
    assert_eq!(place.code(&place.folder.path().join("none.onnx")), "pack_io");
}

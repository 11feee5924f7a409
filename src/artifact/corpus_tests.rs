//! Tests over the stored files: honest exports pass, hostile files are refused with the code in their name.

use std::{fs, path::PathBuf};

use super::{
    Limits,
    policy::{Model, Output},
};

fn folder(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/onnx").join(name);
    let mut files: Vec<_> = fs::read_dir(&path)
        .expect("stored files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .map(|path| {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (stem, fs::read(&path).expect("a readable file"))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {name}");
    files
}

fn read(name: &str, bytes: &[u8]) -> Result<Model, crate::fault::Fault> {
    Model::read(&format!("{name}.onnx"), bytes, &Limits::default())
}

#[test]
fn what_the_exporters_of_pytorch_write_passes() {
    let mut wrong = Vec::new();
    for (name, bytes) in folder("honest") {
        match read(&name, &bytes) {
            Ok(model) => {
                let expected = if name.contains("chooser") {
                    Output::Choice
                } else if name.contains("actor") {
                    Output::Floats { width: 1, is_matrix: true }
                } else if name.contains("mlp") || name.contains("tokens") {
                    Output::Floats { width: 2, is_matrix: true }
                } else {
                    Output::Floats { width: 3, is_matrix: true }
                };
                assert_eq!(model.summary.output, expected, "{name}");
                // What was checked is what runs: the plain file reads as the same policy.
                let again = read(&name, &model.plain).expect("a plain file");
                assert_eq!(again.summary.content, model.summary.content, "{name}");
                assert!(again.plain == model.plain, "{name}");
            }
            Err(fault) => wrong.push(format!("{name}: {fault}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_allowed_operator_has_a_stored_policy() {
    let mut wrong = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (name, bytes) in folder("operators") {
        match super::onnx::Graph::read(&bytes, &Limits::default()) {
            Ok(graph) => seen.extend(graph.nodes.iter().map(super::onnx::graph::Node::op)),
            Err(fault) => wrong.push(format!("{name}: {fault}")),
        }
        if let Err(fault) = read(&name, &bytes) {
            wrong.push(format!("{name}: {fault}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = super::onnx::ops::allowed().filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no stored policy uses {missing:?}");
}

#[test]
fn hostile_files_are_refused_with_their_code() {
    let mut wrong = Vec::new();
    for (name, bytes) in folder("hostile") {
        let (code, _) = name.split_once("--").expect("a code in the name");
        match read(&name, &bytes) {
            Ok(_) => wrong.push(format!("{name}: accepted")),
            Err(fault) if fault.code != code => wrong.push(format!("{name}: {fault}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_network_in_many_forms_has_one_content_digest() {
    let contents: Vec<_> = folder("same")
        .iter()
        .map(|(name, bytes)| (name.clone(), read(name, bytes).expect(name).summary.content))
        .collect();
    for (name, content) in &contents {
        assert_eq!(content, &contents[0].1, "{name} and {}", contents[0].0);
    }
    for (name, bytes) in folder("different") {
        let other = read(&name, &bytes).expect(&name).summary.content;
        assert!(contents.iter().all(|(_, content)| *content != other), "{name}");
    }
}

#[test]
fn both_exporters_write_one_content() {
    let files = folder("honest");
    let content = |name: &str| {
        let (name, bytes) = files.iter().find(|(stem, _)| stem == name).expect("stored");
        read(name, bytes).expect("good").summary.content
    };
    assert_eq!(content("torch-old-mlp-12"), content("torch-new-mlp-20"));
    assert_eq!(content("torch-old-mlp-17"), content("torch-old-mlp-20"));
}

#[test]
fn work_and_size_hold_at_the_edge() {
    let (name, bytes) = folder("same").swap_remove(0);
    let model = read(&name, &bytes).expect("good");
    let with = |limits: Limits| Model::read(&name, &bytes, &limits).map(|_| ()).map_err(|fault| fault.code);
    let exact =
        Limits { work_per_row: model.summary.work_per_row, model_bytes: bytes.len() as u64, ..Limits::default() };
    assert_eq!(with(exact.clone()), Ok(()));
    assert_eq!(with(Limits { work_per_row: exact.work_per_row - 1, ..exact.clone() }), Err("onnx_work".to_owned()));
    assert_eq!(with(Limits { model_bytes: exact.model_bytes - 1, ..exact }), Err("onnx_too_large".to_owned()));
}

/// What was checked is what runs. `tests/interop/onnx/parity.py`, which plays each file against its plain form, names a
/// folder in `WAAG_PLAIN_FILES` to get them.
#[test]
fn the_plain_form_of_every_stored_file_is_the_same_policy_and_its_own_plain_form() {
    let out = std::env::var_os("WAAG_PLAIN_FILES").map(PathBuf::from);
    for name in ["honest", "same", "different", "operators"] {
        for (stem, bytes) in folder(name) {
            let model = read(&stem, &bytes).expect("good");
            let again = read(&stem, &model.plain).expect("a plain file");
            assert_eq!(again.summary.content, model.summary.content, "{stem}");
            assert!(again.plain == model.plain, "{stem}");
            if let Some(out) = &out {
                fs::write(out.join(format!("{stem}.onnx")), &model.plain).expect("written");
            }
        }
    }
}

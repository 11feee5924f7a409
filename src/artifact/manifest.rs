//! The manifest: `policy.toml`, which says which file plays which environment.
//!
//! Owns the form of that file. Refuses to know which environments exist or what an ONNX file is.
//! `artifact::policy` reads it, `artifact::pack` writes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    archive::{Files, is_plain_name},
    codes,
    codes::quoted,
    limits,
};
use crate::fault::Fault;

/// The name of the manifest in the archive.
pub const FILE: &str = "policy.toml";
/// The one format there is.
pub const FORMAT: u32 = 1;

/// What `policy.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form, 1.
    pub format: u32,
    /// What the miner calls the policy. Shown, never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Prose. Shown, never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Environment → ONNX file in the archive. Each file once.
    pub environments: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads the manifest among these files and checks it against the others.
    ///
    /// # Errors
    /// A miner's fault: missing, unreadable, or not matching the files.
    pub fn read(files: &Files) -> Result<Self, Fault> {
        let bytes = files.get(FILE).ok_or_else(|| {
            let present: Vec<_> = files.keys().map(|name| quoted(name)).collect();
            codes::MANIFEST_MISSING.because(format!("the archive holds {}", present.join(", ")))
        })?;
        let malformed = |why: String| codes::MANIFEST_MALFORMED.because(why);
        if bytes.len() > limits::MANIFEST_BYTES {
            return Err(malformed(format!("{} bytes; the limit is {}", bytes.len(), limits::MANIFEST_BYTES)));
        }
        let text = std::str::from_utf8(bytes).map_err(|source| malformed(source.to_string()))?;
        let manifest: Self = toml::from_str(text).map_err(|source| malformed(one_line(&source.to_string())))?;
        manifest.check_form()?;
        manifest.check_files(files)?;
        Ok(manifest)
    }

    fn check_form(&self) -> Result<(), Fault> {
        let malformed = |why: String| Err(codes::MANIFEST_MALFORMED.because(why));
        if self.format != FORMAT {
            return malformed(format!("`format` is {}; this program reads {FORMAT}", self.format));
        }
        if self.environments.is_empty() {
            return malformed("`[environments]` is empty".to_owned());
        }
        if let Some(name) = self.environments.keys().find(|name| !is_plain_name(name)) {
            return malformed(format!("{} is not the name of an environment", quoted(name)));
        }
        for (field, text, limit) in [
            ("name", &self.name, limits::MANIFEST_NAME_CHARS),
            ("description", &self.description, limits::MANIFEST_DESCRIPTION_CHARS),
        ] {
            let chars = text.as_deref().map_or(0, |text| text.chars().count());
            if chars > limit {
                return malformed(format!("`{field}` has {chars} characters; the limit is {limit}"));
            }
        }
        Ok(())
    }

    /// Every file is named exactly once, and every name is a file.
    fn check_files(&self, files: &Files) -> Result<(), Fault> {
        let mut unnamed: BTreeSet<&str> = files.keys().map(String::as_str).filter(|name| *name != FILE).collect();
        for (environment, file) in &self.environments {
            if !unnamed.remove(file.as_str()) {
                let why = if files.contains_key(file) { "is named twice" } else { "is not in the archive" };
                return Err(codes::MANIFEST_FILES.because(format!("{environment}: {} {why}", quoted(file))));
            }
        }
        match unnamed.first() {
            Some(file) => Err(codes::MANIFEST_FILES.because(format!("{} is not named in {FILE}", quoted(file)))),
            None => Ok(()),
        }
    }
}

/// A parser's message as one bounded line.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(manifest: &str, others: &[&str]) -> Files {
        let others = others.iter().map(|name| ((*name).to_owned(), Vec::new()));
        others.chain([(FILE.to_owned(), manifest.as_bytes().to_vec())]).collect()
    }

    fn code(manifest: &str, others: &[&str]) -> String {
        Manifest::read(&files(manifest, others)).expect_err("a fault").code
    }

    #[test]
    fn a_manifest_names_each_file_once() {
        let good = "format = 1\nname = \"x\"\n[environments]\n\"CartPole-v1\" = \"a.onnx\"\n";
        let manifest = Manifest::read(&files(good, &["a.onnx"])).expect("good");
        assert_eq!(manifest.environments["CartPole-v1"], "a.onnx");
        assert_eq!(code(good, &[]), "manifest_files");
        assert_eq!(code(good, &["a.onnx", "b.onnx"]), "manifest_files");
        let twice = "format = 1\n[environments]\nA = \"a.onnx\"\nB = \"a.onnx\"\n";
        assert_eq!(code(twice, &["a.onnx"]), "manifest_files");
        let itself = "format = 1\n[environments]\nA = \"policy.toml\"\n";
        assert_eq!(code(itself, &[]), "manifest_files");
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [
            "",
            "format = 2\n[environments]\nA = \"a.onnx\"",
            "format = 1\n[environments]\n",
            "format = 1\nextra = 1\n[environments]\nA = \"a.onnx\"",
            "format = 1\n[environments]\nA = \"a.onnx\"\nA = \"a.onnx\"",
            "format = 1\n[environments]\n\"../A\" = \"a.onnx\"",
            "format = 1\nenvironments = 3",
            "\u{0}",
        ] {
            assert_eq!(code(wrong, &["a.onnx"]), "manifest_malformed", "{wrong}");
        }
        let long = format!("format = 1\nname = \"{}\"\n[environments]\nA = \"a.onnx\"", "x".repeat(101));
        assert_eq!(code(&long, &["a.onnx"]), "manifest_malformed");
        assert_eq!(Manifest::read(&Files::new()).expect_err("none").code, "manifest_missing");
    }
}

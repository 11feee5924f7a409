//! What a profile says of its models.
//!
//! Owns the form of `[artifact.options]` for artifacts of kind `model`. Refuses to apply it: the checks do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Naming, Reference, Rules, architecture, files::FileRules, safetensors::Dtype};

/// Milliseconds that one try at fetching a model may be given: a second to two days.
const FETCH_MS: std::ops::RangeInclusive<u64> = 1_000..=172_800_000;

/// `[artifact.options]` of a profile whose artifacts are models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where the repositories are.
    pub source: Place,
    /// A regular expression that a repository's whole name must match.
    #[serde(default)]
    pub naming: Option<String>,
    /// Types that tensors may have, by their names in the format.
    pub dtypes: Vec<String>,
    /// The files.
    pub files: FileRules,
    /// What of the configuration is fixed.
    #[serde(default)]
    pub architecture: Option<architecture::Spec>,
    /// How long one try at fetching a model may take, in milliseconds.
    #[serde(default = "fetch_ms")]
    pub fetch_ms: u64,
    /// The model that all others are made from, `namespace/name@digest`.
    #[serde(default)]
    pub base: Option<String>,
}

/// A hundred gigabytes at seven megabytes a second. What came stays for the next try.
const fn fetch_ms() -> u64 {
    4 * 60 * 60 * 1000
}

/// Where repositories are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The address of an OCI registry.
    Registry(String),
    /// The address of a hub in the way of Hugging Face.
    Hub(String),
    /// The address under which each repository is a folder with a `SHA256SUMS`.
    Plain(String),
}

impl Default for Place {
    fn default() -> Self {
        Self::Registry(String::new())
    }
}

impl Options {
    /// Reads and checks the options.
    ///
    /// # Errors
    /// What is wrong with them, with the key in backticks.
    pub fn parse(options: &Value) -> Result<Self, String> {
        let options: Self = serde_json::from_value(options.clone()).map_err(|source| source.to_string())?;
        options.naming()?;
        if !FETCH_MS.contains(&options.fetch_ms) {
            let (least, most) = FETCH_MS.into_inner();
            return Err(format!("`fetch_ms` is {}, it must be {least} to {most}", options.fetch_ms));
        }
        options.base()?;
        if options.dtypes.is_empty() {
            return Err("`dtypes` names no type".to_owned());
        }
        if let Some(unknown) = options.dtypes.iter().find(|name| Dtype::parse(name).is_none()) {
            return Err(format!("`dtypes`: safetensors has no type {unknown}"));
        }
        Ok(options)
    }

    /// The pattern of names.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub fn naming(&self) -> Result<Option<Naming>, String> {
        self.naming.as_deref().map(str::parse).transpose().map_err(|why: String| format!("`naming`: {why}"))
    }

    /// The model that all others are made from.
    ///
    /// # Errors
    /// When it is no reference.
    pub fn base(&self) -> Result<Option<Reference>, String> {
        let Some(base) = &self.base else { return Ok(None) };
        let (repo, digest) = base.split_once('@').unwrap_or((base, ""));
        Reference::new(repo, digest).map(Some).map_err(|refused| format!("`base`: {}", refused.detail))
    }

    /// The rules by which a model is checked, all of its files together within this size.
    #[must_use]
    pub fn rules(&self, bytes_max: u64) -> Rules {
        Rules {
            files: FileRules { bytes_max: Some(bytes_max), ..self.files.clone() },
            dtypes: self.dtypes.clone(),
            architecture: self.architecture.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options() -> Value {
        json!({
            "source": {"registry": "https://registry.example"},
            "naming": "[^/]+/model-.+",
            "dtypes": ["BF16"],
            "files": {"required": ["config.json"], "required_any": ["*.safetensors"]},
            "architecture": {"architectures": ["Moe"], "expected": {"vocab_size": 10}},
            "base": format!("alice/base@sha256:{}", "a1".repeat(32)),
        })
    }

    #[test]
    fn options_become_rules() {
        let options = Options::parse(&options()).unwrap();
        assert_eq!(options.source, Place::Registry("https://registry.example".to_owned()));
        assert_eq!(options.rules(7).files.bytes_max, Some(7));
        assert!(options.naming().unwrap().is_some());
        assert_eq!(options.base().unwrap().unwrap().repo(), "alice/base");
    }

    #[test]
    fn mistakes_name_their_key() {
        for (key, value) in [
            ("naming", json!("(")),
            ("dtypes", json!([])),
            ("dtypes", json!(["bfloat16"])),
            ("source", json!({"ftp": "x"})),
            ("base", json!("alice/base")),
            ("unknown", json!(1)),
        ] {
            let mut wrong = options();
            wrong[key] = value;
            assert!(Options::parse(&wrong).is_err(), "{key}");
        }
        assert!(Options::parse(&json!({})).is_err());
    }
}

//! The files of a repository: which must, may and must not be there.
//!
//! Owns names and kinds. Refuses to open anything. The first check of every model, before a byte of it is fetched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use unicode_normalization::UnicodeNormalization as _;

use super::{Rejection, codes};

/// Files of one repository: the largest published ones have some hundred shards.
pub const FILES_MAX: usize = 4096;
/// Bytes of a file's name with its folders: what file systems take of one part.
pub const NAME_BYTES_MAX: usize = 255;
/// Folders above a file.
pub const FOLDERS_MAX: usize = 8;
/// Names that a refusal lists of each kind.
const LISTED: usize = 10;
/// Names that a refusal lists of what is there.
const SHOWN: usize = 50;

/// A file as its source lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Its name with its folders, separated by `/`.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is a regular file: not a link, not a device.
    pub is_regular: bool,
}

/// Which files a challenge takes. Patterns are those of a shell, in which `*` spans folders too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileRules {
    /// Each of these must be there, whole names.
    pub required: Vec<String>,
    /// At least one file for each of these patterns must be there.
    pub required_any: Vec<String>,
    /// These patterns may be there besides what is required.
    pub allowed: Vec<String>,
    /// These patterns must not be there, whatever else is said.
    pub forbidden: Vec<String>,
    /// Bytes of all files together.
    pub bytes_max: Option<u64>,
}

impl FileRules {
    /// Checks a list of files.
    ///
    /// # Errors
    /// [`codes::EMPTY_REPO`], [`codes::FILE_MANIFEST`] or [`codes::MODEL_TOO_LARGE`].
    pub fn check(&self, files: &[FileEntry]) -> Result<(), Rejection> {
        if files.is_empty() {
            return Err(Rejection::new(codes::EMPTY_REPO, "no files", json!({})));
        }
        let mut names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        let refused = |why: String| {
            let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
            Rejection::new(codes::FILE_MANIFEST, why, json!({"files": shown, "count": names.len()}))
        };
        if files.len() > FILES_MAX {
            return Err(refused(format!("{} files; the limit is {FILES_MAX}", files.len())));
        }
        if let Some(wrong) = files.iter().find_map(|file| name_trouble(&file.name)) {
            return Err(refused(wrong));
        }
        if let Some(link) = files.iter().find(|file| !file.is_regular) {
            return Err(refused(format!("`{}` is not a regular file", link.name)));
        }
        if let Some((one, other)) = collision(&names) {
            return Err(refused(format!("`{one}` and `{other}` are one name on some machines")));
        }
        self.check_names(&names).map_err(refused)?;
        self.check_size(files)
    }

    fn check_names(&self, names: &[&str]) -> Result<(), String> {
        let any = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        let mut missing: Vec<&str> =
            self.required.iter().map(String::as_str).filter(|name| names.binary_search(name).is_err()).collect();
        let absent = |pattern: &&String| !names.iter().any(|name| matches(pattern, name));
        missing.extend(self.required_any.iter().filter(absent).map(String::as_str));
        let forbidden: Vec<&str> = names.iter().copied().filter(|name| any(&self.forbidden, name)).collect();
        let is_extra = |name: &&str| {
            let is_required = self.required.iter().any(|required| required == name);
            !(is_required || any(&self.required_any, name) || any(&self.allowed, name) || any(&self.forbidden, name))
        };
        let extra: Vec<&str> = names.iter().copied().filter(is_extra).collect();
        let told = |what: &str, list: &[&str], limit: usize| {
            let shown: Vec<String> = list.iter().take(limit).map(|name| format!("`{name}`")).collect();
            let more = if list.len() > limit { format!(" and {} more", list.len() - limit) } else { String::new() };
            if list.is_empty() { None } else { Some(format!("{what} {}{more}", shown.join(", "))) }
        };
        let parts = [
            told("missing", &missing, usize::MAX),
            told("forbidden", &forbidden, LISTED),
            told("not taken", &extra, LISTED),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { Ok(()) } else { Err(parts.join("; ")) }
    }

    fn check_size(&self, files: &[FileEntry]) -> Result<(), Rejection> {
        let bytes = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        match self.bytes_max {
            Some(limit) if bytes > limit => {
                let why = format!("{bytes} bytes; the limit is {limit}");
                Err(Rejection::new(codes::MODEL_TOO_LARGE, why, json!({"bytes": bytes, "limit": limit})))
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with a name, if anything: whoever writes a file under it asks first.
#[must_use]
pub fn name_trouble(name: &str) -> Option<String> {
    let told = |why: &str| Some(format!("the name `{}` {why}", name.escape_debug().take(80).collect::<String>()));
    if name.len() > NAME_BYTES_MAX {
        return told("is too long");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return told("holds a character that is not taken");
    }
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > FOLDERS_MAX + 1 {
        return told("lies too deep");
    }
    if parts.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
        return told("does not stay in its folder");
    }
    None
}

/// Two names that a file system without case, or with another form of Unicode, takes for one.
fn collision<'a>(names: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let folded: String = name.nfkc().flat_map(char::to_lowercase).nfkc().collect();
        if let Some(earlier) = seen.insert(folded, name) {
            return Some((earlier, name));
        }
    }
    None
}

/// Whether a name matches a shell pattern of `*` and `?`; both match `/` too.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> FileRules {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        FileRules {
            required: list(&["config.json", "tokenizer.json"]),
            required_any: list(&["*.safetensors"]),
            allowed: list(&[
                "model.safetensors.index.json",
                "model-*-of-*.safetensors",
                "model.safetensors",
                "README.md",
            ]),
            forbidden: list(&["*.py"]),
            bytes_max: Some(1000),
        }
    }

    fn files(names: &[&str]) -> Vec<FileEntry> {
        names.iter().map(|name| FileEntry { name: (*name).to_owned(), bytes: 10, is_regular: true }).collect()
    }

    fn refusal(names: &[&str]) -> String {
        let refused = rules().check(&files(names)).unwrap_err();
        assert_eq!(refused.code.name, "file_manifest");
        refused.detail
    }

    const GOOD: &[&str] = &["config.json", "tokenizer.json", "model.safetensors"];

    #[test]
    fn a_complete_list_passes() {
        assert_eq!(rules().check(&files(GOOD)), Ok(()));
        let sharded =
            [&GOOD[..2], &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "README.md"]]
                .concat();
        assert_eq!(rules().check(&files(&sharded)), Ok(()));
        assert_eq!(rules().check(&[]).unwrap_err().code.name, "empty_repo");
    }

    #[test]
    fn what_is_missing_forbidden_and_extra_is_listed() {
        let told = refusal(&["config.json", "modeling.py", "sub/x.py", "notes.txt"]);
        assert_eq!(
            told,
            "missing `tokenizer.json`, `*.safetensors`; forbidden `modeling.py`, `sub/x.py`; not taken `notes.txt`"
        );
        let many: Vec<String> = (0..12).map(|i| format!("x{i:02}.txt")).collect();
        let names: Vec<&str> = GOOD.iter().copied().chain(many.iter().map(String::as_str)).collect();
        assert!(refusal(&names).ends_with("`x09.txt` and 2 more"));
    }

    #[test]
    fn names_that_could_do_harm_are_refused() {
        for name in [
            "../config.json",
            "/etc/passwd",
            "a//b",
            "a/./b",
            "a\\b",
            "a\nb",
            "",
            &"x".repeat(256),
            "1/2/3/4/5/6/7/8/9/10",
        ] {
            let names = [GOOD, &[name]].concat();
            assert!(refusal(&names).starts_with("the name"), "{name}");
        }
        for other in ["CONFIG.json", "Config.JSON", "\u{ff43}onfig.json"] {
            assert!(refusal(&[GOOD, &[other]].concat()).contains("are one name"), "{other}");
        }
        let mut linked = files(GOOD);
        linked[2].is_regular = false;
        assert!(rules().check(&linked).unwrap_err().detail.contains("not a regular file"));
    }

    #[test]
    fn sizes_and_counts_have_limits() {
        let mut large = files(GOOD);
        large[2].bytes = 980;
        assert_eq!(rules().check(&large), Ok(()));
        large[2].bytes = 981;
        assert_eq!(rules().check(&large).unwrap_err().code.name, "model_too_large");
        large[2].bytes = u64::MAX;
        assert_eq!(rules().check(&large).unwrap_err().code.name, "model_too_large");
        let many: Vec<String> = (0..=FILES_MAX).map(|i| format!("{i}")).collect();
        assert!(refusal(&many.iter().map(String::as_str).collect::<Vec<_>>()).contains("the limit is"));
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, expected) in [
            ("*.py", "a/b.py", true),
            ("*.py", "b.pyc", false),
            ("model-*-of-*.safetensors", "model-1-of-2.safetensors", true),
            ("model-*-of-*.safetensors", "model-1of2.safetensors", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**a**", "bab", true),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        // No pattern takes more than the product of the lengths.
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    }
}

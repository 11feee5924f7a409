//! Patterns: how the text of a foreign commitment is taken apart, and put together.
//!
//! Owns the grammar and its bounds. Refuses to know what a part means, except `digest`, by which content is told apart.
//! Profiles are checked with it, intake reads with it, and miners write with it.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// Characters of a pattern: one line of a profile.
pub const PATTERN_CHARS: usize = 256;
/// Parts of a pattern: twice those of any known form.
pub const PARTS: usize = 8;
/// Characters of a part's name.
pub const NAME_CHARS: usize = 31;
/// Bytes of a text that is read: no field of the chain holds more.
pub const TEXT_BYTES: usize = 1024;
/// The part that is the digest of the content.
pub const DIGEST: &str = "digest";
/// What a pattern of JSON begins with.
const JSON: &str = "json ";
/// What may stand before a digest.
const DIGEST_MARK: &str = "sha256:";

/// What the text of a part may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Letters, digits, `.`, `_` and `-`.
    Word,
    /// The same and `/`.
    Path,
    /// Decimal digits.
    Number,
    /// 64 lower-case hex digits, with or without `sha256:` before them.
    Sha256,
    /// Anything but control characters.
    Any,
}

impl Class {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "word" => Self::Word,
            "path" => Self::Path,
            "number" => Self::Number,
            "sha256" => Self::Sha256,
            "any" => Self::Any,
            _ => return None,
        })
    }

    /// What a text of this class is, for people.
    const fn says(self) -> &'static str {
        match self {
            Self::Word => "letters, digits, `.`, `_` and `-`",
            Self::Path => "letters, digits, `.`, `_`, `-` and `/`",
            Self::Number => "decimal digits",
            Self::Sha256 => "64 lower-case hex digits, with or without `sha256:` before them",
            Self::Any => "a text without control characters",
        }
    }

    fn takes(self, text: &str) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !text.is_empty()
            && match self {
                Self::Word => text.chars().all(is_word),
                Self::Path => text.chars().all(|c| is_word(c) || c == '/'),
                Self::Number => text.bytes().all(|byte| byte.is_ascii_digit()),
                Self::Sha256 => digest_of(text).is_some(),
                Self::Any => !text.chars().any(char::is_control),
            }
    }
}

fn digest_of(text: &str) -> Option<Digest> {
    text.strip_prefix(DIGEST_MARK).unwrap_or(text).parse().ok()
}

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Part { name: String, class: Class },
}

/// How a text is taken apart: `v7|{repo:path}|{digest:sha256}`, or `json {repo:path} {digest:sha256}` for an object with
/// these members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern {
    text: String,
    is_json: bool,
    pieces: Vec<Piece>,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Too long.
    #[error("a pattern has at most {PATTERN_CHARS} characters")]
    Long,
    /// A brace without its other one, or a part that is no `{name}` or `{name:class}`.
    #[error(
        "`{{{0}}}` is not `{{name:class}}`, with a name of letters, digits and `_`, and word, path, number, sha256 or any"
    )]
    Part(String),
    /// A brace is left open, or closed and never opened.
    #[error("the braces of the pattern do not fit")]
    Braces,
    /// Nothing stands between two parts, so that nobody could tell where the first ends.
    #[error("nothing stands between two parts of the pattern")]
    Touching,
    /// Text between the members of a JSON pattern.
    #[error("a pattern of JSON has nothing but parts with spaces between them")]
    Between,
    /// Two parts of one name.
    #[error("two parts of the pattern are called `{0}`")]
    Twice(String),
    /// More parts than anybody needs.
    #[error("a pattern has at most {PARTS} parts")]
    Many,
    /// Without it nobody could tell what was committed to.
    #[error("the pattern has no part `{{digest:sha256}}`")]
    Digest,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.chars().count() > PATTERN_CHARS {
            return Err(PatternError::Long);
        }
        let is_json = text.starts_with(JSON);
        let pieces = pieces(text.strip_prefix(JSON).unwrap_or(text))?;
        let mut names = Vec::new();
        for piece in &pieces {
            match piece {
                Piece::Literal(literal) if is_json && !literal.trim().is_empty() => return Err(PatternError::Between),
                Piece::Part { name, .. } if names.contains(&name) => return Err(PatternError::Twice(name.clone())),
                Piece::Part { name, .. } => names.push(name),
                Piece::Literal(_) => {}
            }
        }
        if names.len() > PARTS {
            return Err(PatternError::Many);
        }
        let touching = |pair: &[Piece]| matches!(pair, [Piece::Part { .. }, Piece::Part { .. }]);
        if !is_json && pieces.windows(2).any(touching) {
            return Err(PatternError::Touching);
        }
        let is_digest = |piece: &Piece| matches!(piece, Piece::Part { name, class: Class::Sha256 } if name == DIGEST);
        if !pieces.iter().any(is_digest) {
            return Err(PatternError::Digest);
        }
        Ok(Self { text: text.to_owned(), is_json, pieces })
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, PatternError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(['{', '}']).unwrap_or(rest.len());
        let (literal, after) = rest.split_at(at);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
        let inner = rest.strip_prefix('{').ok_or(PatternError::Braces)?;
        let (inner, after) = inner.split_once('}').ok_or(PatternError::Braces)?;
        pieces.push(part(inner)?);
        rest = after;
    }
    Ok(pieces)
}

fn part(inner: &str) -> Result<Piece, PatternError> {
    let wrong = || PatternError::Part(inner.chars().take(NAME_CHARS).collect());
    let (name, class) = inner.split_once(':').unwrap_or((inner, "any"));
    let is_name = (1..=NAME_CHARS).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let class = Class::named(class).filter(|_| is_name).ok_or_else(wrong)?;
    Ok(Piece::Part { name: name.to_owned(), class })
}

/// Parts that cannot be written in this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A part was not given.
    #[error("the part `{0}` is missing")]
    Missing(String),
    /// The pattern has no such part.
    #[error("the pattern has no part `{0}`")]
    Unknown(String),
    /// A part is made of something else.
    #[error("the part `{name}` is not {says}")]
    Misfit {
        /// The part.
        name: String,
        /// What it must be.
        says: &'static str,
    },
    /// Longer than what is read.
    #[error("the text has more than {TEXT_BYTES} bytes")]
    Long,
    /// A part holds what stands between the parts, so that nobody would find the same ones again.
    #[error("the text would be read as other parts: one of them holds what stands between them")]
    Ambiguous,
}

/// What a text was taken apart into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The content's digest.
    pub digest: Digest,
    /// The parts by name, as they stood there.
    pub parts: BTreeMap<String, String>,
}

impl Pattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has a part of this name.
    #[must_use]
    pub fn has_part(&self, part: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Part { name, .. } if name == part))
    }

    /// Takes a text apart; `None` when it is not of this form. The time is linear in the text: each part ends at the
    /// first place where the literal after it stands.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<Taken> {
        if text.len() > TEXT_BYTES {
            return None;
        }
        let parts = if self.is_json { self.members(text)? } else { self.split(text)? };
        let digest = digest_of(parts.get(DIGEST)?)?;
        Some(Taken { digest, parts })
    }

    /// The names of the parts, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part { name, .. } => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// A digest as its part stands there: with `sha256:` before it, unless the pattern itself says so.
    #[must_use]
    pub fn digest_text(&self, digest: Digest) -> String {
        let mut before = "";
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => before = literal,
                Piece::Part { name, .. } if name == DIGEST => break,
                Piece::Part { .. } => before = "",
            }
        }
        if !self.is_json && before.ends_with(DIGEST_MARK) {
            digest.to_string()
        } else {
            format!("{DIGEST_MARK}{digest}")
        }
    }

    /// Puts a text together. What is written reads back as the same parts.
    ///
    /// # Errors
    /// When a part is missing, unknown or of another class, or the text would not read back.
    pub fn write(&self, parts: &BTreeMap<String, String>) -> Result<String, WriteError> {
        if let Some(unknown) = parts.keys().find(|name| self.names().all(|known| known != name.as_str())) {
            return Err(WriteError::Unknown(unknown.clone()));
        }
        let (mut text, mut members) = (String::new(), serde_json::Map::new());
        for piece in &self.pieces {
            let (name, class) = match piece {
                Piece::Literal(literal) => {
                    text.push_str(literal);
                    continue;
                }
                Piece::Part { name, class } => (name, *class),
            };
            let value = parts.get(name).ok_or_else(|| WriteError::Missing(name.clone()))?;
            if !class.takes(value) {
                return Err(WriteError::Misfit { name: name.clone(), says: class.says() });
            }
            text.push_str(value);
            members.insert(name.clone(), member(class, value));
        }
        if self.is_json {
            text = serde_json::Value::Object(members).to_string();
        }
        if text.len() > TEXT_BYTES {
            return Err(WriteError::Long);
        }
        match self.read(&text) {
            Some(taken) if taken.parts == *parts => Ok(text),
            _ => Err(WriteError::Ambiguous),
        }
    }

    fn split(&self, text: &str) -> Option<BTreeMap<String, String>> {
        let mut parts = BTreeMap::new();
        let mut rest = text;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Piece::Part { name, class } => {
                    let end = match pieces.peek() {
                        Some(Piece::Literal(literal)) => rest.find(literal.as_str())?,
                        _ => rest.len(),
                    };
                    let (value, after) = rest.split_at(end);
                    if !class.takes(value) {
                        return None;
                    }
                    parts.insert(name.clone(), value.to_owned());
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(parts)
    }

    /// The named members of an object, which must be texts or whole numbers. Other members are nobody's business.
    fn members(&self, text: &str) -> Option<BTreeMap<String, String>> {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        let mut parts = BTreeMap::new();
        for piece in &self.pieces {
            let Piece::Part { name, class } = piece else { continue };
            let value = match object.get(name)? {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Number(number) => number.as_u64()?.to_string(),
                _ => return None,
            };
            if !class.takes(&value) {
                return None;
            }
            parts.insert(name.clone(), value);
        }
        Some(parts)
    }
}

/// A part as the member of an object: a number where it is one and reads back as the same digits.
fn member(class: Class, value: &str) -> serde_json::Value {
    match value.parse::<u64>() {
        Ok(number) if class == Class::Number && number.to_string() == value => number.into(),
        _ => value.into(),
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_examples_of_the_handbook_are_written() {
        let split = pattern("v7|{repo:path}|{digest:sha256}");
        let digest = split.digest_text(Digest([0xaa; 32]));
        let text = format!("v7|alice/model-1|sha256:{}", hash('a'));
        assert_eq!(split.write(&parts(&[("repo", "alice/model-1"), ("digest", &digest)])), Ok(text));
        assert_eq!(split.names().collect::<Vec<_>>(), ["repo", "digest"]);

        let marked = pattern("{repo:path}@sha256:{digest:sha256}");
        let digest = marked.digest_text(Digest([0xbb; 32]));
        let text = format!("a/b@sha256:{}", hash('b'));
        assert_eq!(marked.write(&parts(&[("repo", "a/b"), ("digest", &digest)])), Ok(text));

        let json = pattern("json {repo:path} {digest:sha256} {size:number}");
        let text = format!(r#"{{"digest":"{}","repo":"a/b","size":7}}"#, hash('b'));
        assert_eq!(json.write(&parts(&[("repo", "a/b"), ("digest", &hash('b')), ("size", "7")])), Ok(text));
    }

    #[test]
    fn parts_that_do_not_fit_are_not_written() {
        let split = pattern("v7|{repo:path}|{note}|{digest:sha256}");
        let good = [("repo", "a/b"), ("note", "x"), ("digest", &*hash('a'))];
        assert!(split.write(&parts(&good)).is_ok());
        let with = |name: &str, value: &str| {
            let mut changed = parts(&good);
            changed.insert(name.to_owned(), value.to_owned());
            split.write(&changed).expect_err(value)
        };
        assert_eq!(split.write(&parts(&good[1..])), Err(WriteError::Missing("repo".to_owned())));
        assert_eq!(with("more", "x"), WriteError::Unknown("more".to_owned()));
        assert!(matches!(with("repo", "a b"), WriteError::Misfit { .. }));
        assert!(matches!(with("repo", ""), WriteError::Misfit { .. }));
        assert!(matches!(with("digest", "sha256:1234"), WriteError::Misfit { .. }));
        assert!(matches!(with("note", "a\u{1b}"), WriteError::Misfit { .. }));
        assert_eq!(with("note", "a|b"), WriteError::Ambiguous);
        let room = TEXT_BYTES - (split.write(&parts(&good)).expect("fits").len() - 1);
        assert_eq!(with("note", &"x".repeat(room + 1)), WriteError::Long);
        let mut fits = parts(&good);
        fits.insert("note".to_owned(), "x".repeat(room));
        assert_eq!(split.write(&fits).map(|text| text.len()), Ok(TEXT_BYTES));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            form in 0_usize..5,
            repo in "[a-zA-Z0-9._/-]{1,20}",
            note in "\\PC{1,20}",
            size in "[0-9]{1,24}",
            hash in "(sha256:)?[0-9a-f]{64}",
        ) {
            let forms = [
                "v7|{repo:path}|{note}|{size:number}|{digest:sha256}",
                "json {repo:path} {digest:sha256} {note} {size:number}",
                "{note} {digest:sha256}, {repo:path} {size:number}",
                "{size:number}/{digest:sha256}",
                "{digest:sha256}-{repo:path}-{size:number}-{note}",
            ];
            let pattern: Pattern = forms[form].parse().expect("a pattern");
            let all = parts(&[("repo", &repo), ("note", &note), ("size", &size), ("digest", &hash)]);
            let wanted: BTreeMap<_, _> =
                all.into_iter().filter(|(name, _)| pattern.names().any(|known| known == name)).collect();
            match pattern.write(&wanted) {
                Ok(text) => prop_assert_eq!(pattern.read(&text).map(|taken| taken.parts), Some(wanted)),
                // Every part is of its class, so that only what stands between them can be in the way.
                Err(error) => prop_assert_eq!(error, WriteError::Ambiguous),
            }
        }

        #[test]
        fn a_json_form_takes_every_part_of_its_class(note in "\\PC{1,40}", size in "[0-9]{1,24}") {
            let pattern: Pattern = "json {digest:sha256} {note} {size:number}".parse().expect("a pattern");
            let wanted = parts(&[("note", &note), ("size", &size), ("digest", &hash('c'))]);
            let text = pattern.write(&wanted).expect("nothing stands between members");
            prop_assert_eq!(pattern.read(&text).map(|taken| taken.parts), Some(wanted));
        }
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("a pattern")
    }

    fn hash(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn the_examples_of_the_handbook_are_read() {
        let split = pattern("v7|{repo:path}|{digest:sha256}");
        let taken = split.read(&format!("v7|alice/model-1|sha256:{}", hash('a'))).expect("it is of this form");
        assert_eq!(taken.digest, Digest([0xaa; 32]));
        assert_eq!(taken.parts["repo"], "alice/model-1");
        assert_eq!(
            split.read(&format!("v7|alice/model-1|{}", hash('a'))).map(|taken| taken.digest),
            Some(taken.digest)
        );

        let json = pattern("json {repo:path} {digest:sha256} {size:number}");
        let text = format!(r#"{{"size": 7, "digest": "{}", "repo": "a/b", "more": [1]}}"#, hash('b'));
        let taken = json.read(&text).expect("it is of this form");
        assert_eq!((taken.parts["size"].as_str(), taken.parts["repo"].as_str()), ("7", "a/b"));
    }

    #[test]
    fn whatever_is_of_another_form_is_not_read() {
        let split = pattern("v7|{repo:path}|{digest:sha256}");
        for text in [
            format!("v6|a/b|{}", hash('a')),
            format!("v7|a/b|{}|x", hash('a')),
            format!("v7|a|b|{}", hash('a')),
            format!("v7||{}", hash('a')),
            format!("v7|a/b|{}", &hash('a')[1..]),
            format!("v7|a/b|{}", hash('A')),
            format!("v7|a b|{}", hash('a')),
            format!(" v7|a/b|{}", hash('a')),
            "v7|a/b".to_owned(),
            String::new(),
        ] {
            assert_eq!(split.read(&text), None, "{text}");
        }
        let json = pattern("json {digest:sha256}");
        for text in ["", "[]", "{}", "{\"digest\":null}", "{\"digest\":\"x\"}", &"[".repeat(1000), "{\"digest\""] {
            assert_eq!(json.read(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_is_read_up_to_its_limit() {
        let any = pattern("{note} {digest:sha256}");
        let of = |chars: usize| format!("{} {}", "x".repeat(chars - 65), hash('a'));
        assert!(any.read(&of(TEXT_BYTES)).is_some());
        assert_eq!(any.read(&of(TEXT_BYTES + 1)), None);
        assert_eq!(any.read(&format!("a\u{1b}b {}", hash('a'))), None, "control characters stay outside");
    }

    #[test]
    fn patterns_that_cannot_work_are_refused() {
        let refused = |text: &str| text.parse::<Pattern>().expect_err(text);
        assert_eq!(refused("v7|{repo}"), PatternError::Digest);
        assert_eq!(refused("v7|{digest}"), PatternError::Digest, "any text is no digest");
        assert_eq!(refused("{repo}{digest:sha256}"), PatternError::Touching);
        assert_eq!(refused("{a}|{a}|{digest:sha256}"), PatternError::Twice("a".into()));
        assert_eq!(refused("{digest:sha256"), PatternError::Braces);
        assert_eq!(refused("digest:sha256}"), PatternError::Braces);
        assert_eq!(refused("{Digest:sha256}"), PatternError::Part("Digest:sha256".into()));
        assert_eq!(refused("{x:regex}|{digest:sha256}"), PatternError::Part("x:regex".into()));
        assert_eq!(refused("json {digest:sha256}, {repo}"), PatternError::Between);
        let parts = |count: usize| (0..count).map(|n| format!("{{p{n}}}|")).collect::<String>() + "{digest:sha256}";
        assert!(parts(PARTS - 1).parse::<Pattern>().is_ok());
        assert_eq!(refused(&parts(PARTS)), PatternError::Many);
        let long = |chars: usize| format!("{}{{digest:sha256}}", "v".repeat(chars - 15));
        assert!(long(PATTERN_CHARS).parse::<Pattern>().is_ok());
        assert_eq!(refused(&long(PATTERN_CHARS + 1)), PatternError::Long);
    }
}

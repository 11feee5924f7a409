//! Where something stands in a TOML text, and what was probably meant.

use std::{fmt, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A place in a text: `waag.toml:12:3`, counted from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or what else the text is called.
    pub origin: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.origin, self.line, self.column)
    }
}

/// One step on the way to a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// Into a table.
    Key(&'a str),
    /// Into an array.
    Index(usize),
}

/// A TOML text and its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    pub(super) origin: &'a str,
    pub(super) text: &'a str,
}

impl Document<'_> {
    /// The place of a byte.
    pub(super) fn place(&self, byte: usize) -> Place {
        let end = self.text.floor_char_boundary(byte);
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            origin: self.origin.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The place of a key, or of the deepest part of the way to it that is there.
    pub(super) fn locate(&self, way: &[Step<'_>]) -> Place {
        self.place(self.find(way).0.start)
    }

    /// Whether the way leads to something.
    pub(super) fn has(&self, way: &[Step<'_>]) -> bool {
        self.find(way).1
    }

    fn find(&self, way: &[Step<'_>]) -> (Range<usize>, bool) {
        let Ok(root) = DeTable::parse(self.text) else { return (0..0, false) };
        let mut at = 0..0;
        let mut here = Here::Table(root.get_ref());
        for step in way {
            let found = match (*step, here) {
                (Step::Key(name), Here::Table(table)) => entry(table, name),
                (Step::Index(index), Here::Value(DeValue::Array(array))) => {
                    array.get(index).map(|value| (value.span(), value.get_ref()))
                }
                _ => None,
            };
            let Some((span, value)) = found else { return (at, false) };
            at = span;
            here = value.as_table().map_or(Here::Value(value), Here::Table);
        }
        (at, true)
    }
}

#[derive(Clone, Copy)]
enum Here<'a, 'i> {
    Table(&'a DeTable<'i>),
    Value(&'a DeValue<'i>),
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<(Range<usize>, &'a DeValue<'i>)> {
    let (key, value): (&Spanned<_>, &Spanned<_>) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    Some((key.span(), value.get_ref()))
}

/// The candidate that is most like what was given, if any is.
pub(super) fn suggest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Bounded: the comparison is quadratic, and nothing longer is a slip of the finger.
    let given: String = given.chars().take(64).collect();
    let slips_max = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&given.to_lowercase(), candidate), candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min()
        .map(|(_slips, candidate)| candidate)
}

/// `; did you mean …?`, or what could stand there, or nothing.
pub(super) fn hint<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all: Vec<_> = candidates.clone().into_iter().collect();
    match suggest(given, candidates) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None if all.is_empty() => String::new(),
        None => format!("; known are {}", all.join(", ")),
    }
}

/// What `serde` says about an unknown field or variant, taken apart: the name that was given and those that are known.
pub(super) fn unknown_in(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (given, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((given, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[b]\n  \"ü\" = 2\n[[c]]\nd = 3\n[[c]]\nd = { e = 4 }\n";

    #[test]
    fn keys_are_found_where_they_stand() {
        use Step::{Index, Key};
        let document = Document { origin: "t", text: TEXT };
        let at = |way: &[Step<'_>]| {
            let place = document.locate(way);
            (place.line, place.column, document.has(way))
        };
        assert_eq!(at(&[Key("a")]), (1, 1, true));
        assert_eq!(at(&[Key("b"), Key("ü")]), (3, 3, true));
        assert_eq!(at(&[Key("c"), Index(0), Key("d")]), (5, 1, true));
        assert_eq!(at(&[Key("c"), Index(1), Key("d"), Key("e")]), (7, 7, true));
        assert_eq!(at(&[Key("b"), Key("x")]), (2, 2, false));
        assert_eq!(at(&[Key("x")]), (1, 1, false));
        assert_eq!(at(&[Key("c"), Index(1)]).0, 6);
        assert!(!at(&[Key("c"), Index(9)]).2);
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(suggest("contestant_max", ["contestants_max", "every_blocks"]), Some("contestants_max"));
        assert_eq!(suggest("Opens", ["opens"]), Some("opens"));
        assert_eq!(suggest("zzz", ["opens"]), None);
        assert_eq!(suggest("", ["opens"]), None);
    }
}

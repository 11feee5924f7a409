//! How a verb ends: what is said on the terminal, and the exit code.
//!
//! Owns stdout, stderr and the numbers a shell sees. Refuses to know what a verb does. Only `cli/` uses it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use serde::Serialize;

use crate::fault::{Class, Code, Fault};

/// Printed by `waag help exit-codes`.
pub const EXIT_CODES: &str = "\
0    done
1    the check that was asked for failed (verify found a difference, the read-back is not what was computed)
2    the command line, or a file named on it, cannot be used
3    the miner's artifact or act breaks a rule; the fault says which
4    the appliance or the wallet is configured or funded wrongly; only its owner can mend it
5    an outside service (such as a chain endpoint) failed
6    this machine, its disk or its network failed
70   a bug in this program
134  a bug in this program that it stopped itself for";

/// Why a verb did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// What is said, with code and hint.
    pub fault: Fault,
    /// Whether the document on stdout tells it already: there is only one document.
    pub told: bool,
}

/// What a verb answers.
pub type Outcome = Result<(), Failure>;

/// A check that was asked for found a difference.
pub const MISMATCH: Code = Code::new(
    Class::Bug,
    "mismatch",
    "what was computed and what was found differ",
    "the lines above name each difference",
);
/// An argument cannot be used.
pub const USAGE: Code =
    Code::new(Class::Operator, "usage", "an argument cannot be used", "look at the verb's examples with `--help`");
/// A question was answered with no, or nobody was there to answer it.
pub const NOT_CONFIRMED: Code = Code::new(
    Class::Operator,
    "not_confirmed",
    "nothing was done, because the question was not answered with yes",
    "give `--yes` to answer it in advance",
);
/// A file on this machine cannot be read or written.
pub const FILE_FAILED: Code = Code::new(
    Class::Infra,
    "file_failed",
    "a file on this machine cannot be read or written",
    "look at its folder, its mode and the free space",
);
/// A check of the doctor failed.
pub const UNHEALTHY: Code = Code::new(
    Class::Operator,
    "unhealthy",
    "something that this appliance needs is not as it should be",
    "each line marked `fail` says what to do",
);
/// Something that should have gone on has ended.
pub const ENDED: Code = Code::new(
    Class::Infra,
    "process_ended",
    "a part of this process ended by itself",
    "look at the lines before; starting again continues the work",
);

/// The codes of this room's own; the verbs add theirs.
pub const CODES: &[Code] = &[MISMATCH, USAGE, NOT_CONFIRMED, FILE_FAILED, UNHEALTHY, ENDED];

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = match fault.class {
            Class::Miner => 3,
            Class::Operator => 4,
            Class::Provider => 5,
            Class::Infra => 6,
            Class::Bug => 70,
        };
        Self { exit, fault, told: false }
    }
}

impl From<crate::chain::Error> for Failure {
    fn from(source: crate::chain::Error) -> Self {
        source.fault().into()
    }
}

impl From<crate::chain::WalletError> for Failure {
    fn from(source: crate::chain::WalletError) -> Self {
        source.fault().into()
    }
}

impl From<crate::store::Error> for Failure {
    fn from(source: crate::store::Error) -> Self {
        source.fault().into()
    }
}

impl From<crate::pipeline::Error> for Failure {
    fn from(source: crate::pipeline::Error) -> Self {
        source.fault().into()
    }
}

impl Failure {
    /// An argument cannot be used.
    pub fn usage(detail: impl Into<String>) -> Self {
        Self { exit: 2, fault: USAGE.because(detail), told: false }
    }

    /// A file that was named on the command line cannot be used.
    pub fn named_file(fault: Fault) -> Self {
        Self { exit: 2, fault, told: false }
    }

    /// A check found a difference.
    pub fn mismatch(detail: impl Into<String>) -> Self {
        Self { exit: 1, fault: MISMATCH.because(detail), told: false }
    }

    /// A check that was asked for failed.
    pub fn check(fault: Fault) -> Self {
        Self { exit: 1, fault, told: false }
    }

    /// The same failure, which the document on stdout has told already.
    #[must_use]
    pub fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// A file cannot be read or written.
    pub fn file(act: &str, path: &std::path::Path, source: &io::Error) -> Self {
        FILE_FAILED.because(format!("cannot {act} `{}`: {source}", path.display())).into()
    }

    /// What the system knows of a file that was named on the command line.
    ///
    /// # Errors
    /// Exit code 2, when it is not there or cannot be looked at.
    pub fn unless_there(path: &std::path::Path) -> Result<std::fs::Metadata, Self> {
        std::fs::metadata(path).map_err(|source| Self { exit: 2, ..Self::file("read", path, &source) })
    }

    /// Says it: words on stderr, or one JSON document on stdout.
    pub fn report(&self, json: bool) -> ExitCode {
        if json && self.told {
            // One document is the whole of stdout.
        } else if json {
            print_json(&serde_json::json!({ "error": self.fault, "exit": self.exit }));
        } else {
            note(format_args!("error: {}", self.fault.detail));
            note(format_args!("  code: {} ({})", self.fault.code, self.fault.class));
            if !self.fault.hint.is_empty() {
                note(format_args!("  hint: {}", self.fault.hint));
            }
        }
        ExitCode::from(self.exit)
    }
}

/// Prints one JSON document, the whole of stdout.
pub fn print_json(value: &impl Serialize) {
    // Everything we print is made of maps, texts and numbers.
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|source| format!("{{\"error\":\"{source}\"}}"));
    say(text);
}

/// Prints the result as one JSON document, or as words.
pub fn answer(json: bool, value: &impl Serialize, words: impl FnOnce() -> String) {
    if json { print_json(value) } else { say(words()) }
}

/// Prints a line of data.
pub fn say(line: impl std::fmt::Display) {
    // A reader that has gone away (`| head`) is no failure of ours.
    drop(writeln!(io::stdout().lock(), "{line}"));
}

/// Prints a line of conversation.
pub fn note(line: impl std::fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Asks on the terminal; anything but `y` or `yes` is a no. Without a terminal nobody can answer, which is a no too.
///
/// # Errors
/// `not_confirmed`.
pub fn confirm(question: &str) -> Outcome {
    let mut answer = String::new();
    if io::stdin().is_terminal() {
        drop(write!(io::stderr().lock(), "{question} [y/N] "));
        drop(io::stdin().read_line(&mut answer));
    }
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(NOT_CONFIRMED.because(question.to_owned()).into()),
    }
}

/// A table with left-aligned columns, as wide as their widest cell.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([title.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = header.iter().enumerate().map(|(column, title)| width(column, title)).collect();
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.trim_end().to_owned()
    };
    let titles: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    [titles, rules].iter().chain(rows).map(|cells| line(cells)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_decides_the_exit_code() {
        let exit = |class| Failure::from(Code::new(class, "x", "x", "x").because("x")).exit;
        assert_eq!(
            [Class::Miner, Class::Operator, Class::Provider, Class::Infra, Class::Bug].map(exit),
            [3, 4, 5, 6, 70]
        );
        for number in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "70 ", "134 "] {
            assert!(EXIT_CODES.lines().any(|line| line.starts_with(number)), "{number}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["1".to_owned(), "ümlaut".to_owned(), "x".to_owned()], vec!["22".to_owned()]];
        assert_eq!(table(&["n", "w", "end"], &rows), "n   w       end\n──  ──────  ───\n1   ümlaut  x\n22");
    }
}

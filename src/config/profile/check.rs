//! What no single field shows: parts that exist, options that they take, values that make sense together.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Opens, Pattern, Profile, REPO_PART, Source, fields::no_options, limits};
use crate::config::{
    Error,
    error::{PROFILE_INVALID, PROFILE_PART},
    place::{Step, hint, unknown_in},
};

/// The kinds of parts that a profile picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is handed in.
    Artifact,
    /// How it is handed in.
    Door,
    /// A stage.
    Stage,
    /// A ranking rule.
    Rule,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Artifact => "artifact kind",
            Self::Door => "door",
            Self::Stage => "stage kind",
            Self::Rule => "ranking rule",
        }
    }
}

/// What parts there are. The rooms that own the parts are behind it.
pub trait Catalog {
    /// The names of this kind of part.
    fn names(&self, part: Part) -> Vec<&'static str>;

    /// Whether the part takes these options, in a challenge whose artifacts are of this kind.
    ///
    /// # Errors
    /// Why not. A message that names a key in backticks is shown at that key's line.
    fn check(&self, part: Part, name: &str, artifact: &str, options: &Value) -> Result<(), String>;
}

impl Profile {
    /// Checks that every part it picks exists and takes its options.
    ///
    /// # Errors
    /// The first part that does not, with its line.
    pub fn check(&self, catalog: &dyn Catalog) -> Result<(), Error> {
        use Step::{Index, Key};
        let empty = no_options();
        let (kind, intake) = (&self.artifact, Key("intake"));
        self.check_part(catalog, Part::Artifact, &kind.kind, &kind.options, &[Key("artifact")], "kind")?;
        self.check_part(catalog, Part::Door, &self.intake.door, &empty, &[intake], "door")?;
        for (index, stage) in self.stages.iter().enumerate() {
            let at = [Key("stage"), Index(index)];
            self.check_part(catalog, Part::Stage, &stage.kind, &stage.options, &at, "kind")?;
        }
        let ranking = &self.ranking;
        self.check_part(catalog, Part::Rule, &ranking.rule, &ranking.options, &[Key("ranking")], "rule")
    }

    fn check_part(
        &self,
        catalog: &dyn Catalog,
        part: Part,
        name: &str,
        options: &Value,
        table: &[Step<'_>],
        key: &str,
    ) -> Result<(), Error> {
        let names = catalog.names(part);
        if !names.contains(&name) {
            let what = format!("unknown {} `{name}`{}", part.as_str(), hint(name, names.iter().copied()));
            return Err(self.mistake(PROFILE_PART, &[table, &[Step::Key(key)]].concat(), what));
        }
        catalog.check(part, name, &self.artifact.kind, options).map_err(|why| {
            let named = named_key(&why, options);
            let mut way = [table, &[Step::Key("options")]].concat();
            if !self.document().has(&way) {
                // Nothing is given, so what is missing belongs to the choice of the part.
                way = [table, &[Step::Key(key)]].concat();
            }
            way.extend(named.iter().map(|key| Step::Key(key)));
            let what = unknown_in(&why).map_or_else(
                || why.clone(),
                |(given, known)| format!("unknown option `{given}` of `{name}`{}", hint(given, known)),
            );
            self.mistake(PROFILE_PART, &way, what)
        })
    }

    /// What no single value shows.
    pub(super) fn check_sense(&self) -> Result<(), Error> {
        use Step::{Index, Key};
        let intake = &self.intake;
        if intake.artifact_within_blocks < intake.reveal_within_blocks {
            let what = format!(
                "artifact_within_blocks is {}, less than reveal_within_blocks {}",
                intake.artifact_within_blocks, intake.reveal_within_blocks
            );
            return Err(self.mistake(PROFILE_INVALID, &[Key("intake"), Key("artifact_within_blocks")], what));
        }
        self.check_intake()?;
        let every = [Key("run"), Key("every_blocks")];
        if self.run.opens != Opens::Blocks && self.document().has(&every) {
            let what = "every_blocks only counts with opens = \"blocks\"".to_owned();
            return Err(self.mistake(PROFILE_INVALID, &every, what));
        }
        if self.stages.len() > limits::STAGES {
            let what = format!("more than {} stages", limits::STAGES);
            return Err(self.mistake(PROFILE_INVALID, &[Key("stage"), Index(limits::STAGES)], what));
        }
        let mut names = BTreeSet::new();
        for (index, stage) in self.stages.iter().enumerate() {
            if !names.insert(&stage.name) {
                let what = format!("a second stage is called `{}`", stage.name);
                return Err(self.mistake(PROFILE_INVALID, &[Key("stage"), Index(index), Key("name")], what));
            }
            let retries = &stage.retries;
            if retries.backoff_ms_max < retries.backoff_ms_min {
                let what = format!(
                    "backoff_ms_max is {}, less than backoff_ms_min {}",
                    retries.backoff_ms_max, retries.backoff_ms_min
                );
                let way = [Key("stage"), Index(index), Key("retries"), Key("backoff_ms_max")];
                return Err(self.mistake(PROFILE_INVALID, &way, what));
            }
        }
        Ok(())
    }
}

impl Profile {
    /// What the keys of `[intake]` need of one another.
    fn check_intake(&self) -> Result<(), Error> {
        let intake = &self.intake;
        let wrong = |key, what: &str| {
            let way = [Step::Key("intake"), Step::Key(key)];
            Err(self.mistake(PROFILE_INVALID, &way, what.to_owned()))
        };
        match (intake.source, &intake.pattern) {
            (Source::Sealed, Some(_)) => {
                return wrong("pattern", "pattern only counts with a source other than sealed");
            }
            (Source::Plain | Source::Revealed, None) => {
                return wrong("source", "a source other than sealed needs a pattern");
            }
            _ => {}
        }
        if self.artifact.is_fetched() {
            let names_it = |pattern: &Pattern| pattern.has_part(REPO_PART);
            if !intake.pattern.as_ref().is_some_and(names_it) {
                let what = "models are fetched from where their commitments say: it needs source = \"plain\" or \
                            \"revealed\", and a pattern with {repo:path} and {digest:sha256}";
                return wrong(if intake.pattern.is_some() { "pattern" } else { "source" }, what);
            }
            if intake.fee_rao > 0 {
                return wrong("fee_rao", "nothing is uploaded, so that nobody could pay for an upload");
            }
        }
        if intake.ledger_from_block > 0 && !intake.one_per_hotkey {
            return wrong("ledger_from_block", "ledger_from_block only counts with one_per_hotkey = true");
        }
        match (intake.fee_rao, intake.fee_to) {
            (1.., None) => wrong("fee_rao", "a fee needs fee_to, who is paid"),
            (0, Some(_)) => wrong("fee_to", "fee_to only counts with a fee_rao above 0"),
            _ => Ok(()),
        }
    }
}

/// The first word in backticks that is a key of the options.
fn named_key(why: &str, options: &Value) -> Option<String> {
    why.split('`').skip(1).step_by(2).find(|word| options.get(word).is_some()).map(ToOwned::to_owned)
}

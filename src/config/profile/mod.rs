//! Profiles: a challenge as a file.
//!
//! Owns the schema, its bounds and the embedded profiles. Refuses to know what the parts do: a [`Catalog`] says which
//! exist and checks their options. `cli/` loads profiles; the pipeline assembles a challenge from one.

mod check;
mod fields;
pub mod limits;
pub mod pattern;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    check::{Catalog, Part},
    pattern::{Pattern, WriteError},
};
use super::{
    Error, Place,
    error::{PROFILE_INVALID, PROFILE_SYNTAX, PROFILE_UNKNOWN_KEY},
    layers::check_profile,
    place::{Document, Step, hint, unknown_in},
    read_text,
};
use crate::{
    fault::Code,
    ids::{Digest, Hotkey},
    limits::CONFIG_FILE_BYTES,
};

/// The profile that is served when no other is named.
pub const EMBEDDED_DEFAULT: &str = "quickstart";

/// The kind of artifacts that are fetched from where their commitments say.
const FETCHED_KIND: &str = "model";
/// The part of a commitment that says where.
const REPO_PART: &str = "repo";

/// The profiles in the binary, by name.
const EMBEDDED: &[(&str, &str)] = &[
    ("quickstart", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/quickstart.toml"))),
    ("albedo", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/albedo.toml"))),
];

/// A challenge as its profile describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of this schema: 1.
    #[serde(deserialize_with = "fields::bounded_u32::<_, 1, 1>")]
    pub format: u32,
    /// Its name in commitments, paths and tables.
    pub slug: Slug,
    /// Its name for people.
    #[serde(deserialize_with = "fields::title")]
    pub title: String,
    /// Its part of the subnet's emission, 0 to 1.
    #[serde(deserialize_with = "fields::share")]
    pub share: f64,
    /// What is handed in.
    pub artifact: Artifact,
    /// How it is handed in.
    pub intake: Intake,
    /// What opens and closes runs.
    #[serde(default)]
    pub run: Run,
    /// The stages in order.
    #[serde(default, rename = "stage")]
    pub stages: Vec<Stage>,
    /// Who is paid.
    pub ranking: Ranking,
    /// Settings that this challenge wants unless the operator says otherwise: keys of the sections in
    /// [`PROFILE_SECTIONS`](super::PROFILE_SECTIONS).
    #[serde(default)]
    pub settings: toml::Table,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    origin: String,
}

/// What is handed in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Name of the artifact kind.
    pub kind: String,
    /// Bytes of one artifact as uploaded or fetched.
    #[serde(deserialize_with = "fields::bounded::<_, 1, { limits::ARTIFACT_BYTES }>")]
    pub bytes_max: u64,
    /// Options of the kind.
    #[serde(default = "fields::no_options", deserialize_with = "fields::options")]
    pub options: Value,
}

impl Artifact {
    /// Whether artifacts are fetched from where their commitments say, and not uploaded.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.kind == FETCHED_KIND
    }
}

/// How it is handed in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intake {
    /// Name of the door.
    pub door: String,
    /// An upload that is later than this after its commitment counts from its upload block.
    #[serde(
        default = "fields::default_reveal_within",
        deserialize_with = "fields::bounded::<_, 0, { limits::BLOCKS }>"
    )]
    pub reveal_within_blocks: u64,
    /// A commitment that has no upload by then is rejected.
    #[serde(
        default = "fields::default_artifact_within",
        deserialize_with = "fields::bounded::<_, 1, { limits::BLOCKS }>"
    )]
    pub artifact_within_blocks: u64,
    /// Uploads by one hotkey in an hour.
    #[serde(
        default = "fields::default_uploads",
        deserialize_with = "fields::bounded_u32::<_, 1, { limits::UPLOADS_PER_HOUR }>"
    )]
    pub uploads_per_hour: u32,
    /// Where a commitment's text stands.
    #[serde(default)]
    pub source: Source,
    /// How that text is taken apart; only where it is not our sealed form.
    pub pattern: Option<Pattern>,
    /// Whether a hotkey is done with once a submission of it was evaluated.
    #[serde(default)]
    pub one_per_hotkey: bool,
    /// With `one_per_hotkey`: whoever committed up to this block is done with too; 0 for nobody.
    #[serde(default, deserialize_with = "fields::bounded::<_, 0, { limits::BLOCK_NUMBER }>")]
    pub ledger_from_block: u64,
    /// What an upload costs, in rao; 0 for nothing.
    #[serde(default, deserialize_with = "fields::bounded::<_, 0, { limits::FEE_RAO }>")]
    pub fee_rao: u64,
    /// Who is paid.
    pub fee_to: Option<Hotkey>,
    /// How many blocks ago a payment may have been made.
    #[serde(default = "fields::default_fee_within", deserialize_with = "fields::bounded::<_, 1, { limits::BLOCKS }>")]
    pub fee_within_blocks: u64,
}

/// Where the text of a commitment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In a plain field, as a seal of ours that the upload opens.
    #[default]
    Sealed,
    /// In a plain field, in the open.
    Plain,
    /// Behind a time lock that the chain opens; it counts from the block in which it did.
    Revealed,
}

impl Source {
    /// The word in profiles, tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Plain => "plain",
            Self::Revealed => "revealed",
        }
    }
}

/// What closes a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opens {
    /// Every arrival has a run of its own.
    #[default]
    Arrival,
    /// A run closes at the blocks that `every_blocks` divides, when anything waits for it.
    Blocks,
    /// The operator closes it.
    Operator,
}

/// Which finished submissions play again in a new run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Incumbents {
    /// None.
    #[default]
    None,
    /// Those in the ranking.
    Ranked,
    /// Those in the ranking and those that lost.
    Finished,
}

/// What must be unchanged between a run's freeze and its fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// The challenge's ranking.
    Ranking,
}

/// What opens and closes runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// What closes a run.
    pub opens: Opens,
    /// With `opens = "blocks"`: a run closes at the blocks that this divides.
    #[serde(deserialize_with = "fields::bounded::<_, 1, { limits::BLOCKS }>")]
    pub every_blocks: u64,
    /// The most contestants of one run.
    #[serde(deserialize_with = "fields::bounded_u32::<_, 1, { limits::CONTESTANTS }>")]
    pub contestants_max: u32,
    /// Which finished submissions play again.
    pub incumbents: Incumbents,
    /// The seeds come from the hash of the block this much after the closing one; 0 for no seeds.
    #[serde(deserialize_with = "fields::bounded::<_, 0, { limits::SEED_DELAY_BLOCKS }>")]
    pub seed_delay_blocks: u64,
    /// Runs without new contestants that follow one with some.
    #[serde(deserialize_with = "fields::bounded_u32::<_, 0, { limits::ROUNDS }>")]
    pub rounds_after_arrival: u32,
    /// What voids the run when it changed since the freeze.
    pub guard: Option<Guard>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            opens: Opens::Arrival,
            every_blocks: 30,
            contestants_max: 256,
            incumbents: Incumbents::None,
            seed_delay_blocks: 0,
            rounds_after_arrival: 0,
            guard: None,
        }
    }
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name in tables and records; of the form of a slug, unique in the profile.
    pub name: Slug,
    /// Name of the stage kind.
    pub kind: String,
    /// Options of the kind.
    #[serde(default = "fields::no_options", deserialize_with = "fields::options")]
    pub options: Value,
    /// How it is tried again.
    #[serde(default)]
    pub retries: Retries,
    /// Milliseconds that an attempt may be silent.
    #[serde(
        default = "fields::default_lease",
        deserialize_with = "fields::bounded::<_, { limits::LEASE_MS_MIN }, { limits::WAIT_MS }>"
    )]
    pub lease_ms: u64,
}

/// How often a stage is tried again after a fault of each class, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// After faults of class `infra`.
    #[serde(deserialize_with = "fields::bounded_u32::<_, 0, { limits::RETRIES }>")]
    pub infra: u32,
    /// After faults of class `provider`.
    #[serde(deserialize_with = "fields::bounded_u32::<_, 0, { limits::RETRIES }>")]
    pub provider: u32,
    /// After faults of class `bug`.
    #[serde(deserialize_with = "fields::bounded_u32::<_, 0, { limits::RETRIES }>")]
    pub bug: u32,
    /// The first wait; each following one is twice as long.
    #[serde(deserialize_with = "fields::bounded::<_, 1, { limits::WAIT_MS }>")]
    pub backoff_ms_min: u64,
    /// The longest wait.
    #[serde(deserialize_with = "fields::bounded::<_, 1, { limits::WAIT_MS }>")]
    pub backoff_ms_max: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { infra: 5, provider: 8, bug: 2, backoff_ms_min: 1_000, backoff_ms_max: 300_000 }
    }
}

/// Who is paid.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    /// Name of the ranking rule.
    pub rule: String,
    /// Options of the rule.
    #[serde(default = "fields::no_options", deserialize_with = "fields::options")]
    pub options: Value,
}

/// A name of lower-case letters, digits and hyphens that begins with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Slug(String);

impl Slug {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for Slug {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that is no slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not a name of up to 31 lower-case letters, digits and hyphens that begins with a letter or digit"
)]
pub struct NotASlug {
    given: String,
}

impl FromStr for Slug {
    type Err = NotASlug;

    fn from_str(text: &str) -> Result<Self, NotASlug> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = text.len() <= limits::SLUG_CHARS && !text.is_empty() && !text.starts_with('-');
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotASlug { given: text.chars().take(40).collect() })
        }
    }
}

impl TryFrom<String> for Slug {
    type Error = NotASlug;

    fn try_from(text: String) -> Result<Self, NotASlug> {
        text.parse()
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl Profile {
    /// Reads a profile. `origin` is its file, for error messages.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let bytes = text.len() as u64;
        if bytes > CONFIG_FILE_BYTES {
            return Err(Error::TooLarge { origin: origin.to_owned(), bytes, limit: CONFIG_FILE_BYTES });
        }
        let document = Document { origin, text };
        let mut profile: Self = toml::from_str(text).map_err(|error| read_mistake(&document, &error))?;
        text.clone_into(&mut profile.text);
        origin.clone_into(&mut profile.origin);
        profile.check_sense()?;
        check_profile(&profile)?;
        Ok(profile)
    }

    /// Reads a profile by its embedded name or its path.
    ///
    /// # Errors
    /// When there is none of that name, or it has a mistake.
    pub fn load(name_or_path: &str) -> Result<Self, Error> {
        if let Some(text) = embedded(name_or_path) {
            return Self::parse(text, name_or_path);
        }
        let path = Path::new(name_or_path);
        let is_path = name_or_path.contains(std::path::MAIN_SEPARATOR) || path.extension().is_some();
        if !is_path && !path.exists() {
            let name = name_or_path.to_owned();
            return Err(Error::ProfileMissing { name, embedded: embedded_names().collect::<Vec<_>>().join(", ") });
        }
        Self::parse(&read_text(path)?, name_or_path)
    }

    /// The text that was read, word for word.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What error messages call it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The digest of the text: names this exact profile in evidence.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    fn document(&self) -> Document<'_> {
        Document { origin: &self.origin, text: &self.text }
    }

    /// Where a default of a setting stands.
    pub(super) fn place_of_setting(&self, key: &str) -> Place {
        let way: Vec<_> = std::iter::once("settings").chain(key.split('.')).map(Step::Key).collect();
        self.document().locate(&way)
    }

    fn mistake(&self, code: Code, way: &[Step<'_>], what: String) -> Error {
        Error::Profile { code, place: self.document().locate(way), what }
    }
}

/// The text of an embedded profile.
#[must_use]
pub fn embedded(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(embedded, _)| *embedded == name).map(|(_, text)| *text)
}

/// The names of the embedded profiles.
pub fn embedded_names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// Checks that profiles can be served by one subnet: different slugs, and no more emission than there is.
///
/// # Errors
/// Which ones clash.
pub fn check_together(profiles: &[Profile]) -> Result<(), Error> {
    let mut slugs = BTreeSet::new();
    if let Some(second) = profiles.iter().find(|profile| !slugs.insert(&profile.slug)) {
        return Err(Error::Clash { why: format!("two profiles have the slug `{}`", second.slug) });
    }
    let total: f64 = profiles.iter().map(|profile| profile.share).sum();
    // Shares such as 0.1 have no exact binary form; a sum of them may be off in the last digits.
    if total > 1.0 + 1e-9 {
        return Err(Error::Clash { why: format!("the shares of the profiles add up to {total}, more than 1") });
    }
    Ok(())
}

fn read_mistake(document: &Document<'_>, error: &toml::de::Error) -> Error {
    let place = document.place(error.span().map_or(0, |span| span.start));
    let message = error.message();
    if let Some((given, known)) = unknown_in(message) {
        let thing = if message.starts_with("unknown variant") { "word" } else { "key" };
        let what = format!("unknown {thing} `{given}`{}", hint(given, known));
        return Error::Profile { code: PROFILE_UNKNOWN_KEY, place, what };
    }
    let is_toml = toml::de::DeTable::parse(document.text).is_ok();
    let code = if is_toml { PROFILE_INVALID } else { PROFILE_SYNTAX };
    Error::Profile { code, place, what: message.to_owned() }
}

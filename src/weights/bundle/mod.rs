//! Evidence: everything from which a ranking and its weights follow, in one document that a stranger can check.
//!
//! Owns the form of the bundle, its limits and its hashes; [`verify`] recomputes what can be recomputed. Refuses to
//! store, to play episodes or to ask a chain: the report lists what is left for those who can. The pipeline writes
//! bundles, `waag verify` reads them.
//!
//! Hashes are SHA-256 of the JSON of a part as `serde_json` writes it: fields in the order of the types here, keys of
//! free objects sorted, no white space.

mod follow_up;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Limits, Neuron, Part, Vector, aggregate, aggregate::Error as AggregateError};
use crate::{
    config::profile,
    fault::{Class, Code, Fault},
    ids::{Digest, Hotkey, Priority, SubmissionId},
    limits::CONFIG_FILE_BYTES,
    score::{Input, Ranking, Row},
};

pub use self::{
    follow_up::{ChainFact, Replay},
    verify::{Check, Finding, Report, sealed_hash, verify},
};

/// What every bundle of this form says it is.
pub const FORMAT: &str = "waag-evidence-1";
/// Bytes of a bundle: a hundred times one with 256 contestants, eight environments and 1000 episodes each.
pub const BUNDLE_BYTES: u64 = 64 * 1024 * 1024;
/// Challenges of one subnet.
pub const CHALLENGES_MAX: usize = 64;
/// Contestants of one challenge: as many as a profile may ask for.
pub const CONTESTANTS_MAX: usize = profile::limits::CONTESTANTS as usize;
/// Registered hotkeys: sixteen times the largest subnet.
pub const NEURONS_MAX: usize = 4096;
/// Bytes of one field of a commitment: the largest that the chain takes.
pub const COMMITMENT_BYTES: usize = 512;

/// A bundle that cannot be read.
pub const EVIDENCE_UNREADABLE: Code = Code::new(
    Class::Operator,
    "evidence_unreadable",
    "the file is not an evidence bundle that this program can read",
    "give the file that the appliance wrote, or a newer program if its format is newer",
);

/// All inputs and results of one weight vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: String,
    /// Which program wrote it.
    pub program: Program,
    /// The chain's genesis hash.
    pub genesis: Digest,
    /// The subnet.
    pub netuid: u16,
    /// Who was registered when the weights were computed.
    pub snapshot: Snapshot,
    /// Every challenge of the subnet, in order of its slug.
    pub challenges: Vec<Evidence>,
    /// Where unpaid share goes.
    pub burn_uid: u16,
    /// The chain's limits at the snapshot.
    pub limits: Limits,
    /// The vector; `None` when the limits allowed none.
    pub vector: Option<Vector>,
    /// Hashes of the parts, by name. `all` is over everything but this.
    pub hashes: BTreeMap<String, Digest>,
}

/// The program and what it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The C library, by name and version: single-precision sine and cosine come from it in some environments.
    pub libc: String,
}

/// The metagraph as far as pay needs it, at one finalized block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The block's number.
    pub block: u64,
    /// The block's hash.
    pub hash: Digest,
    /// Everybody registered, in order of uid.
    pub neurons: Vec<Registration>,
}

/// One registered hotkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Its place in the subnet.
    pub uid: u16,
    /// Who holds it.
    pub hotkey: Hotkey,
    /// The block at which it was registered. A commitment from before does not count.
    pub since_block: u64,
    /// Whether the operator lets it be paid.
    pub eligible: bool,
}

impl Registration {
    /// As aggregation sees it.
    #[must_use]
    pub const fn neuron(&self) -> Neuron {
        Neuron { uid: self.uid, hotkey: self.hotkey, eligible: self.eligible }
    }
}

/// One challenge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Its slug.
    pub challenge: String,
    /// Its share of the emission.
    pub share: f64,
    /// The profile's text when the weights were computed, to the byte: it gives the share.
    pub profile: String,
    /// Its ranking and all that went into it; `None` before the first, when the share burns.
    pub ranked: Option<Ranked>,
}

/// One ranking and all that went into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranked {
    /// The text of the profile that it was ranked under, where that is not the one of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The run whose evidence was ranked; `None` for a challenge without runs.
    pub run: Option<RunEvidence>,
    /// Where each entry's priority comes from, in the order of the entries.
    pub contestants: Vec<Claim>,
    /// What the rule saw: previous ranking, entries with the outcome of every episode, reports, decisions.
    pub input: Input,
    /// What the rule said.
    pub ranking: Ranking,
}

/// The facts of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEvidence {
    /// Its number within the challenge. Seeds are derived from this.
    pub number: u64,
    /// The block at which its contestants were frozen.
    pub closing_block: u64,
    /// The block whose hash the seeds are derived from; `None` when the profile asks for none.
    pub seed: Option<SeedBlock>,
    /// What ran the artifacts.
    pub backend: Option<Backend>,
}

/// A block that did not exist when the run was frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedBlock {
    /// Its number.
    pub block: u64,
    /// Its hash.
    pub hash: Digest,
}

/// What ran the artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Its name, as profiles spell it.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Where an entry's priority comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The entry's submission.
    pub submission: SubmissionId,
    /// Its row of the ledger; `None` where the door is none with commitments.
    pub ledger: Option<LedgerRow>,
}

/// A commitment and its opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRow {
    /// The first block in which the field was seen, and the index of the extrinsic in it.
    pub committed: Priority,
    /// The field's text.
    pub text: String,
    /// The salt, 32 bytes.
    pub salt: Digest,
    /// The block at which the upload was complete.
    pub upload_block: u64,
}

/// Why a file is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too large.
    #[error("the bundle has {bytes} bytes, more than {BUNDLE_BYTES}")]
    Large {
        /// Its size.
        bytes: u64,
    },
    /// Not of the form.
    #[error("the bundle is not of the form {FORMAT}")]
    Form(#[source] serde_json::Error),
    /// Of another form.
    #[error("the bundle has format `{0}`, and this program reads {FORMAT}")]
    Format(String),
    /// Too many or too much of something.
    #[error("the bundle has {count} {what}, more than {most}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

impl Error {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let source = std::error::Error::source(self).map(|source| format!(": {source}")).unwrap_or_default();
        EVIDENCE_UNREADABLE.because(format!("{self}{source}"))
    }
}

impl Bundle {
    /// Reads a bundle, within all limits. Nothing in it is believed yet.
    ///
    /// # Errors
    /// When it is too large or not of the form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        if size > BUNDLE_BYTES {
            return Err(Error::Large { bytes: size });
        }
        let bundle: Self = serde_json::from_slice(bytes).map_err(Error::Form)?;
        if bundle.format != FORMAT {
            return Err(Error::Format(bundle.format.chars().take(80).collect()));
        }
        bundle.check_limits()?;
        Ok(bundle)
    }

    /// Its bytes as they are stored, within the limits of what [`Bundle::parse`] reads.
    ///
    /// # Errors
    /// When there is more of something than a bundle may hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.check_limits()?;
        let bytes = serde_json::to_vec(self).map_err(Error::Form)?;
        let size = bytes.len() as u64;
        if size > BUNDLE_BYTES { Err(Error::Large { bytes: size }) } else { Ok(bytes) }
    }

    /// The weights by uid that the rankings give to those who are registered, before quantisation.
    ///
    /// A row burns when its hotkey is not registered, not eligible, or registered anew since it committed: what it
    /// committed before does not count. It is asked here, at the snapshot of the weights, because the ranking may be
    /// older than the registration.
    ///
    /// # Errors
    /// When shares, rankings or registrations cannot be.
    pub fn weights(&self) -> Result<Vec<(u16, f64)>, AggregateError> {
        let neurons: Vec<Neuron> = self.snapshot.neurons.iter().map(Registration::neuron).collect();
        let rows: Vec<Option<Vec<Row>>> = self
            .challenges
            .iter()
            .map(|evidence| evidence.ranked.as_ref().map(|ranked| self.rows_that_count(ranked)))
            .collect();
        let parts: Vec<Part<'_>> = self
            .challenges
            .iter()
            .zip(&rows)
            .map(|(evidence, rows)| Part {
                challenge: &evidence.challenge,
                share: evidence.share,
                rows: rows.as_deref(),
            })
            .collect();
        aggregate(&parts, &neurons, self.burn_uid)
    }

    fn rows_that_count(&self, ranked: &Ranked) -> Vec<Row> {
        let since: BTreeMap<Hotkey, u64> =
            self.snapshot.neurons.iter().map(|neuron| (neuron.hotkey, neuron.since_block)).collect();
        let committed: BTreeMap<SubmissionId, u64> = ranked
            .contestants
            .iter()
            .filter_map(|claim| Some((claim.submission, claim.ledger.as_ref()?.committed.block)))
            .collect();
        let is_older = |row: &&Row| {
            let committed = row.submission.and_then(|submission| committed.get(&submission));
            committed.zip(since.get(&row.hotkey)).is_some_and(|(committed, since)| since > committed)
        };
        ranked.ranking.rows.iter().filter(|row| !is_older(row)).cloned().collect()
    }

    fn check_limits(&self) -> Result<(), Error> {
        let within = |what, count, most| if count > most { Err(Error::Many { what, count, most }) } else { Ok(()) };
        within("challenges", self.challenges.len(), CHALLENGES_MAX)?;
        within("registered hotkeys", self.snapshot.neurons.len(), NEURONS_MAX)?;
        for evidence in &self.challenges {
            let profile_bytes = usize::try_from(CONFIG_FILE_BYTES).unwrap_or(usize::MAX);
            within("bytes of profile", evidence.profile.len(), profile_bytes)?;
            let Some(ranked) = &evidence.ranked else { continue };
            within("bytes of profile", ranked.profile.as_ref().map_or(0, String::len), profile_bytes)?;
            within("contestants", ranked.input.entries.len(), CONTESTANTS_MAX)?;
            within("claims", ranked.contestants.len(), CONTESTANTS_MAX)?;
            for row in ranked.contestants.iter().filter_map(|claim| claim.ledger.as_ref()) {
                within("bytes of commitment", row.text.len(), COMMITMENT_BYTES)?;
            }
        }
        Ok(())
    }

    /// The bundle with the hashes of its parts.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.hashes = self.compute_hashes();
        self
    }

    /// The hash over all of its content but the hashes, which stands among them as `all`. A weight vector names its
    /// evidence by the digest of the stored bytes instead, as every blob.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let bare = Self { hashes: BTreeMap::new(), ..self.clone() };
        hash(&bare)
    }

    fn compute_hashes(&self) -> BTreeMap<String, Digest> {
        let mut hashes = BTreeMap::new();
        for evidence in &self.challenges {
            let slug = &evidence.challenge;
            hashes.insert(format!("{slug}/profile"), Digest::of(evidence.profile.as_bytes()));
            if let Some(ranked) = &evidence.ranked {
                if let Some(profile) = &ranked.profile {
                    hashes.insert(format!("{slug}/ranking profile"), Digest::of(profile.as_bytes()));
                }
                hashes.insert(format!("{slug}/run"), hash(&ranked.run));
                hashes.insert(format!("{slug}/input"), hash(&ranked.input));
                hashes.insert(format!("{slug}/claims"), hash(&ranked.contestants));
                hashes.insert(format!("{slug}/ranking"), hash(&ranked.ranking));
            }
        }
        hashes.insert("snapshot".to_owned(), hash(&self.snapshot));
        hashes.insert("vector".to_owned(), hash(&self.vector));
        hashes.insert("all".to_owned(), self.digest());
        hashes
    }
}

fn hash(part: &impl Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(part).expect("the bundle's types are JSON"))
}

//! The check of a bundle by itself: hashes, profiles, commitments, priorities, ranking and vector, item by item.
//!
//! Owns what "verified offline" means. Refuses to believe any result that it can compute; what it cannot is listed as
//! not checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Bundle, ChainFact, Claim, Evidence, LedgerRow, Ranked, Replay, follow_up, hash};
use crate::{
    ids::{Digest, Hotkey, Priority},
    score::{self, Entry},
    weights::quantise,
};

/// What sealed commitments begin with.
const SEALED_TAG: &str = "waag1";

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It was recomputed and is as recorded.
    Passed,
    /// It was recomputed and is not as recorded, or cannot be.
    Failed,
    /// The bundle alone cannot tell.
    NotChecked,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub subject: String,
    /// What became of it.
    pub finding: Finding,
    /// What was seen.
    pub detail: String,
}

/// What a bundle's check found, and what it leaves to others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Item by item.
    pub checks: Vec<Check>,
    /// Episodes that may be played again.
    pub replays: Vec<Replay>,
    /// Facts that a chain may confirm.
    pub chain_facts: Vec<ChainFact>,
}

impl Report {
    /// Whether nothing failed. What was not checked is no failure: the report says so.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.checks.iter().all(|check| check.finding != Finding::Failed)
    }

    fn add(&mut self, subject: impl Into<String>, finding: Finding, detail: impl Into<String>) {
        self.checks.push(Check { subject: subject.into(), finding, detail: detail.into() });
    }

    /// `Passed` without a complaint, `Failed` with one.
    fn judge(&mut self, subject: impl Into<String>, complaint: Option<String>, passed: impl Into<String>) {
        match complaint {
            Some(complaint) => self.add(subject, Finding::Failed, complaint),
            None => self.add(subject, Finding::Passed, passed),
        }
    }
}

/// What of a profile decides money. The rest of it was checked when it was loaded.
#[derive(Debug, Deserialize)]
struct Profile {
    slug: String,
    share: f64,
    #[serde(default)]
    intake: Intake,
    #[serde(default)]
    run: Run,
    #[serde(default)]
    stage: Vec<Stage>,
    ranking: Ranking,
}

#[derive(Debug, Deserialize)]
struct Stage {
    #[serde(default)]
    options: Value,
}

impl Profile {
    /// The backend of record that a stage names.
    fn backend(&self) -> Option<&str> {
        self.stage.iter().find_map(|stage| stage.options.get("backend")?.as_str())
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Intake {
    reveal_within_blocks: u64,
}

impl Default for Intake {
    fn default() -> Self {
        // The profile schema's default.
        Self { reveal_within_blocks: 300 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Run {
    seed_delay_blocks: u64,
}

#[derive(Debug, Deserialize)]
struct Ranking {
    rule: String,
    #[serde(default)]
    options: Value,
}

/// The hash inside a sealed commitment: `"waag1"` ‖ genesis ‖ netuid (u16, little-endian) ‖ length of the challenge
/// (u8) ‖ challenge ‖ hotkey ‖ artifact digest ‖ salt.
#[must_use]
pub fn sealed_hash(
    genesis: &Digest,
    netuid: u16,
    challenge: &str,
    hotkey: &Hotkey,
    artifact: &Digest,
    salt: &Digest,
) -> Digest {
    let length = u8::try_from(challenge.len()).unwrap_or(u8::MAX);
    let hasher = Sha256::new()
        .chain_update(SEALED_TAG)
        .chain_update(genesis.0)
        .chain_update(netuid.to_le_bytes())
        .chain_update([length])
        .chain_update(challenge)
        .chain_update(hotkey.0)
        .chain_update(artifact.0)
        .chain_update(salt.0);
    Digest(hasher.finalize().into())
}

/// Recomputes everything that follows from the bundle alone. What is left to others stands in the report's two lists.
#[must_use]
pub fn verify(bundle: &Bundle) -> Report {
    let mut report =
        Report { checks: Vec::new(), replays: follow_up::replays(bundle), chain_facts: follow_up::chain_facts(bundle) };
    check_hashes(&mut report, bundle);
    for evidence in &bundle.challenges {
        check_challenge(&mut report, bundle, evidence);
    }
    check_vector(&mut report, bundle);
    report
}

fn check_hashes(report: &mut Report, bundle: &Bundle) {
    let computed = bundle.compute_hashes();
    let names: std::collections::BTreeSet<&String> = computed.keys().chain(bundle.hashes.keys()).collect();
    let wrong: Vec<&str> =
        names.into_iter().filter(|name| computed.get(*name) != bundle.hashes.get(*name)).map(String::as_str).collect();
    let complaint = (!wrong.is_empty()).then(|| format!("differ: {}", wrong.join(", ")));
    report.judge("hashes", complaint, format!("{} hashes are those of their parts", computed.len()));
}

fn check_challenge(report: &mut Report, bundle: &Bundle, evidence: &Evidence) {
    let slug = &evidence.challenge;
    let profile: Profile = match toml::from_str(&evidence.profile) {
        Ok(profile) => profile,
        Err(source) => {
            return report.add(format!("{slug}: profile"), Finding::Failed, source.message().to_owned());
        }
    };
    let complaint = if profile.slug != *slug {
        Some(format!("is the profile of `{}`", profile.slug))
    } else if profile.share.to_bits() != evidence.share.to_bits() {
        Some(format!("has share {}, and {} was used", profile.share, evidence.share))
    } else {
        None
    };
    report.judge(format!("{slug}: profile"), complaint, format!("share {}", evidence.share));
    let Some(ranked) = &evidence.ranked else {
        return report.add(format!("{slug}: ranking"), Finding::Passed, "none yet, the share burns");
    };
    let profile = match ranked.profile.as_ref().map(|text| toml::from_str::<Profile>(text)) {
        None => profile,
        Some(Ok(older)) if older.slug == *slug => older,
        Some(Ok(older)) => {
            let detail = format!("is the profile of `{}`", older.slug);
            return report.add(format!("{slug}: profile of the ranking"), Finding::Failed, detail);
        }
        Some(Err(source)) => {
            let detail = source.message().to_owned();
            return report.add(format!("{slug}: profile of the ranking"), Finding::Failed, detail);
        }
    };
    check_input(report, slug, &profile, ranked);
    check_run(report, slug, &profile, ranked);
    check_backend(report, bundle, &profile, ranked);
    check_claims(report, bundle, &profile, ranked);
    check_trust(report, bundle, slug, ranked);
    check_ranking(report, slug, &profile, ranked);
}

/// What the bundle alone cannot show of its contestants, said aloud: an operator could harm a rival by it.
fn check_trust(report: &mut Report, bundle: &Bundle, slug: &str, ranked: &Ranked) {
    let entries = &ranked.input.entries;
    if ranked.input.block != bundle.snapshot.block && !entries.is_empty() {
        let refused: Vec<String> =
            entries.iter().filter(|entry| !entry.eligible).map(|entry| entry.submission.to_string()).collect();
        let refused = if refused.is_empty() { "nobody".to_owned() } else { refused.join(", ") };
        let detail = format!(
            "who was registered at block {} is taken as given; not eligible: {refused}. The bundle of the ranking itself, or a chain, tells",
            ranked.input.block
        );
        report.add(format!("{slug}: eligibility"), Finding::NotChecked, detail);
    }
    for entry in entries {
        if let Some(fault) = &entry.fault {
            let detail = format!("taken as given: {} ({}), {}", fault.code, fault.class, fault.detail);
            report.add(format!("{slug}: {} is accused", entry.submission), Finding::NotChecked, detail);
        }
    }
}

fn check_input(report: &mut Report, slug: &str, profile: &Profile, ranked: &Ranked) {
    let or_empty =
        |options: &Value| if options.is_null() { Value::Object(serde_json::Map::new()) } else { options.clone() };
    let input = &ranked.input;
    let complaint = if input.challenge != slug {
        Some(format!("is of challenge `{}`", input.challenge))
    } else if or_empty(&input.options) != or_empty(&profile.ranking.options) {
        Some("the rule's options are not the profile's".to_owned())
    } else {
        None
    };
    report.judge(format!("{slug}: options"), complaint, "are the profile's");
    if let Some(previous) = &input.previous {
        let detail = format!("taken as given, hash {}: compare with the bundle before", hash(previous));
        report.add(format!("{slug}: previous ranking"), Finding::NotChecked, detail);
    }
    if !input.reports.is_empty() || !input.decisions.is_empty() {
        let (reports, decisions) = (input.reports.len(), input.decisions.len());
        let detail = format!("{reports} reports and {decisions} decisions are taken as given");
        report.add(format!("{slug}: reports and decisions"), Finding::NotChecked, detail);
    }
}

fn check_run(report: &mut Report, slug: &str, profile: &Profile, ranked: &Ranked) {
    let subject = format!("{slug}: run");
    let Some(run) = &ranked.run else {
        return report.add(subject, Finding::NotChecked, "the ranking came from no run of its own");
    };
    let wanted = run.closing_block.checked_add(profile.run.seed_delay_blocks);
    let complaint = if run.number != ranked.input.run {
        Some(format!("is run {}, and run {} was ranked", run.number, ranked.input.run))
    } else {
        match (&run.seed, profile.run.seed_delay_blocks) {
            (None, 0) => None,
            (None, delay) => Some(format!("has no seed, and the profile asks for one {delay} blocks after closing")),
            (Some(seed), delay) if delay == 0 || Some(seed.block) != wanted => Some(format!(
                "seeds come from block {}, closing block is {}, delay {delay}",
                seed.block, run.closing_block
            )),
            (Some(_), _) => None,
        }
    };
    report.judge(subject, complaint, format!("number {}, closed at block {}", run.number, run.closing_block));
}

/// What ran the artifacts must be what the profile names; that it did is for a replay to confirm.
fn check_backend(report: &mut Report, bundle: &Bundle, profile: &Profile, ranked: &Ranked) {
    let subject = format!("{}: backend", profile.slug);
    let recorded = ranked.run.as_ref().and_then(|run| run.backend.as_ref());
    match (profile.backend(), recorded) {
        (None, None) => {}
        (Some(named), None) => {
            report.add(subject, Finding::Failed, format!("the profile names `{named}`, and none is recorded"));
        }
        (named, Some(backend)) => {
            let complaint = named
                .filter(|named| *named != backend.name)
                .map(|named| format!("the profile names `{named}`, and `{}` is recorded", backend.name));
            let passed = format!("{} {}, on {}", backend.name, backend.version, bundle.program.libc);
            report.judge(subject, complaint, passed);
        }
    }
}

fn check_claims(report: &mut Report, bundle: &Bundle, profile: &Profile, ranked: &Ranked) {
    let slug = &profile.slug;
    let claimed = ranked.contestants.iter().map(|claim| claim.submission);
    let complaint = (!claimed.eq(ranked.input.entries.iter().map(|entry| entry.submission)))
        .then(|| "are not one for each entry, in order".to_owned());
    let is_matched = complaint.is_none();
    report.judge(
        format!("{slug}: claims"),
        complaint,
        format!("{} claims, one for each entry", ranked.contestants.len()),
    );
    if !is_matched {
        return;
    }
    for (entry, claim) in ranked.input.entries.iter().zip(&ranked.contestants) {
        check_claim(report, bundle, profile, ranked, entry, claim);
    }
}

fn check_claim(report: &mut Report, bundle: &Bundle, profile: &Profile, ranked: &Ranked, entry: &Entry, claim: &Claim) {
    let subject = format!("{}: {}", profile.slug, entry.submission);
    let Some(row) = &claim.ledger else {
        return report.add(subject, Finding::NotChecked, "has no row in the ledger of commitments");
    };
    let priority = priority(row, profile.intake.reveal_within_blocks);
    let mut complaint = None;
    if entry.priority != priority {
        let (seen, wanted) = (entry.priority, priority);
        complaint = Some(format!(
            "has priority {}/{}, its ledger row {}/{}",
            seen.block, seen.index, wanted.block, wanted.index
        ));
    }
    if ranked.input.block == bundle.snapshot.block && entry.eligible != is_eligible(bundle, entry, row) {
        complaint = Some(format!("is marked eligible: {}, which the snapshot contradicts", entry.eligible));
    }
    match row.text.strip_prefix(SEALED_TAG).and_then(|rest| rest.strip_prefix(':')) {
        Some(rest) => {
            let hash =
                sealed_hash(&bundle.genesis, bundle.netuid, &profile.slug, &entry.hotkey, &entry.artifact, &row.salt);
            if rest != format!("{}:{hash}", profile.slug) {
                complaint = Some("digest and salt do not open the commitment".to_owned());
            }
        }
        None if complaint.is_none() => {
            return report.add(subject, Finding::NotChecked, "is not committed to in a form that hides the artifact");
        }
        None => {}
    }
    report.judge(subject, complaint, format!("opens its commitment of block {}", row.committed.block));
}

/// A late upload counts from its own block.
fn priority(row: &LedgerRow, reveal_within_blocks: u64) -> Priority {
    let is_late = row.upload_block > row.committed.block.saturating_add(reveal_within_blocks);
    if is_late { Priority { block: row.upload_block, index: u32::MAX } } else { row.committed }
}

fn is_eligible(bundle: &Bundle, entry: &Entry, row: &LedgerRow) -> bool {
    let registration = bundle.snapshot.neurons.iter().find(|neuron| neuron.hotkey == entry.hotkey);
    registration.is_some_and(|neuron| neuron.eligible && neuron.since_block <= row.committed.block)
}

fn check_ranking(report: &mut Report, slug: &str, profile: &Profile, ranked: &Ranked) {
    let subject = format!("{slug}: ranking");
    let Some(rule) = score::rule(&profile.ranking.rule) else {
        let detail = format!("this program has no rule `{}`", profile.ranking.rule);
        return report.add(subject, Finding::Failed, detail);
    };
    let computed = rule.rank(&ranked.input);
    let complaint = (computed != ranked.ranking).then(|| {
        let recorded: BTreeMap<_, _> = ranked.ranking.rows.iter().map(|row| (row.hotkey, row.share)).collect();
        let differing = computed.rows.iter().find(|row| recorded.get(&row.hotkey) != Some(&row.share));
        match differing {
            Some(row) => format!("gives {} a share of {}, which is not recorded", row.hotkey, row.share),
            None => "shares are as recorded, but rows, reasons, burn or memory are not".to_owned(),
        }
    });
    report.judge(subject, complaint, format!("rule `{}` gives the recorded ranking", rule.name()));
}

fn check_vector(report: &mut Report, bundle: &Bundle) {
    let weights = match bundle.weights() {
        Ok(weights) => weights,
        Err(error) => return report.add("weights", Finding::Failed, error.to_string()),
    };
    match (quantise(&weights, &bundle.limits, bundle.burn_uid), &bundle.vector) {
        (Ok(computed), Some(recorded)) => {
            let differing = bundle.snapshot.neurons.iter().find(|it| computed.get(it.uid) != recorded.get(it.uid));
            let complaint = (computed != *recorded).then(|| match differing {
                Some(neuron) => {
                    let (ours, theirs) = (computed.get(neuron.uid), recorded.get(neuron.uid));
                    format!("uid {} has {ours}, and {theirs} is recorded", neuron.uid)
                }
                None => "the values are as recorded, the entries are not".to_owned(),
            });
            report.judge("weights", complaint, format!("{} entries as recorded", recorded.uids.len()));
        }
        (Err(_), None) => report.add("weights", Finding::Passed, "the limits allow no vector, and none is recorded"),
        (Ok(_), None) => report.add("weights", Finding::Failed, "there is a vector, and none is recorded"),
        (Err(error), Some(_)) => report.add("weights", Finding::Failed, error.to_string()),
    }
}

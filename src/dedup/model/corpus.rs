//! A model among all earlier ones.
//!
//! Owns who may be blamed for whom: the elder by priority, never one of the same owner; the choice among several; and
//! the reference where no base is given. Refuses to keep fingerprints. The duplicates stage calls it with what it has.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    aligned::Aligned,
    evidence::{figures_at, median, summary_of},
    mixture,
    print::{Fingerprint, SlicePrint},
    summary::Summary,
    verdict::{self, Finding, Kind, Relation},
};

/// Models of one shape from which their middle can stand for an unknown base.
pub const MIDDLE_MIN: usize = 8;
/// Models that must share a matrix for it to be taken for the base's: two may be a victim and a copy.
const COMMON_MIN: usize = 3;
/// Matrices looked at when a large corpus is narrowed down.
const COARSE_MATRICES: usize = 256;
/// Elders that are compared in full.
const FULL_MAX: usize = 64;
/// What a copy may leave unexplained, over the elder's change, to be believed before a mixture is looked for.
const CLEAR: f64 = 0.1;
/// Elders that are tried as parts of a mixture.
pub(super) const MIXED_MAX: usize = 16;

/// A model with what decides about ownership.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What names it.
    pub id: &'a str,
    /// Whose it is: models of one owner are never held against each other.
    pub owner: &'a str,
    /// Order of commitment: the smaller is the elder, whenever it was indexed.
    pub priority: u64,
    /// Its fingerprint.
    pub print: &'a Fingerprint,
}

/// The verdict on a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The elder that it was made from, if any.
    pub victim: Option<String>,
    /// The other model of a mixture.
    pub mixed_with: Option<String>,
    /// What it is, and by what figures.
    #[serde(flatten)]
    pub finding: Finding,
    /// Matrices that its base lacks.
    pub added: usize,
    /// Groups of experts in another order than the base's.
    pub reordered: usize,
    /// Elders that were compared.
    pub compared: usize,
}

/// A model laid beside the base, with who it is.
pub(super) struct Placed<'a> {
    pub entry: Entry<'a>,
    pub aligned: Aligned<'a>,
}

/// A base with the models that were made of it.
pub struct Corpus<'a> {
    base: &'a Fingerprint,
    placed: Vec<Placed<'a>>,
}

impl<'a> Corpus<'a> {
    /// Lays the models beside their base, once for all judgements. Models under another key, and the base itself, are
    /// left out.
    #[must_use]
    pub fn new(base: &'a Fingerprint, entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let is_fit = |entry: &Entry<'_>| entry.print.key == base.key && entry.print.contents != base.contents;
        let fit = entries.into_iter().filter(is_fit);
        let mut placed: Vec<_> = fit.map(|entry| Placed { entry, aligned: Aligned::of(entry.print, base) }).collect();
        placed.sort_by_key(|placed| placed.entry.priority);
        Self { base, placed }
    }

    /// Judges a model, in the corpus or not, against its elders of other owners.
    #[must_use]
    pub fn judge(&self, model: &Entry<'_>) -> Verdict {
        let is_elder = |placed: &&Placed<'_>| {
            let elder = &placed.entry;
            elder.priority < model.priority && elder.owner != model.owner && elder.print.key == model.print.key
        };
        let elders: Vec<&Placed<'_>> = self.placed.iter().filter(is_elder).collect();
        let aligned = Aligned::of(model.print, self.base);
        let blank = Verdict {
            victim: None,
            mixed_with: None,
            finding: verdict::find(&Summary::default(), false),
            added: aligned.added,
            reordered: aligned.reordered,
            compared: elders.len(),
        };
        if let Some(elder) = elders.iter().find(|elder| elder.entry.print.contents == model.print.contents) {
            return Verdict { victim: Some(elder.entry.id.to_owned()), finding: exact(elder.entry.print), ..blank };
        }
        let elders = self.narrowed(&aligned, elders);
        let findings: Vec<Finding> = elders.iter().map(|elder| self.compare(&aligned, &elder.aligned)).collect();
        let Some(best) = strongest(&findings) else { return blank };
        let named = |at: usize| Some(elders[at].entry.id.to_owned());
        let is_clear = findings[best].relation == Relation::Copy && unexplained(&findings[best]) <= CLEAR;
        if is_clear {
            return Verdict { victim: named(best), finding: findings[best], ..blank };
        }
        if let Some(mixed) = mixture::find(&aligned, &elders, &findings, self.base) {
            let finding = Finding {
                relation: Relation::Derivative,
                kind: Kind::MergedWithOther,
                probability: 0.95,
                summary: findings[mixed.victim].summary,
            };
            return Verdict { victim: named(mixed.victim), mixed_with: named(mixed.other), finding, ..blank };
        }
        let victim = if findings[best].relation == Relation::Independent { None } else { named(best) };
        Verdict { victim, finding: findings[best], ..blank }
    }

    fn compare(&self, younger: &Aligned<'_>, elder: &Aligned<'_>) -> Finding {
        verdict::find(&summary_of(younger, elder, self.base), younger.reordered > elder.reordered)
    }

    /// The elders that a coarse look finds nearest, in any way; all where they are few.
    fn narrowed<'b>(&self, model: &Aligned<'_>, elders: Vec<&'b Placed<'a>>) -> Vec<&'b Placed<'a>> {
        if elders.len() <= FULL_MAX {
            return elders;
        }
        let stride = self.base.slices.len().div_ceil(COARSE_MATRICES);
        let nearness = |elder: &Placed<'_>| {
            let figures = figures_at(model, &elder.aligned, self.base, stride);
            let of = |figures: &super::evidence::Figures| {
                let free = figures.free.iter().copied().fold(figures.distance, f64::min);
                figures.cosine.max(1.0 - free)
            };
            median(figures.iter().map(|(_, figures)| of(figures)).collect())
        };
        let mut scored: Vec<_> = elders.into_iter().map(|elder| (nearness(elder), elder)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.truncate(FULL_MAX);
        let mut elders: Vec<_> = scored.into_iter().map(|(_, elder)| elder).collect();
        elders.sort_by_key(|elder| elder.entry.priority);
        elders
    }
}

fn exact(elder: &Fingerprint) -> Finding {
    let matrices = elder.matrices();
    let one = Summary { matrices, same: 1.0, near: 1.0, matched: 1.0, cosine: 1.0, share: 1.0, ..Summary::default() };
    Finding { relation: Relation::Copy, kind: Kind::Repacked, probability: 1.0, summary: one }
}

/// Place of the finding that names its victim most surely; of equals the first, which is the eldest's.
fn strongest(findings: &[Finding]) -> Option<usize> {
    let mut best = 0;
    for at in 1..findings.len() {
        if is_stronger(&findings[at], &findings[best]) {
            best = at;
        }
    }
    (!findings.is_empty()).then_some(best)
}

/// Whether one finding names its victim more surely than another does its own: by how little is left unexplained,
/// whatever the relation. Elders come first, so that of equals the eldest stays.
fn is_stronger(finding: &Finding, best: &Finding) -> bool {
    let is_found = |finding: &Finding| finding.relation != Relation::Independent;
    match (is_found(finding), is_found(best)) {
        (true, true) => unexplained(finding) < unexplained(best) - 1e-9,
        (false, false) => finding.summary.cosine > best.summary.cosine,
        (found, _) => found,
    }
}

/// What a finding leaves unexplained, over the elder's change.
fn unexplained(finding: &Finding) -> f64 {
    let summary = &finding.summary;
    match finding.kind {
        Kind::Reordered | Kind::Rescaled | Kind::ExpertsReordered => summary.free.min(summary.distance),
        _ => summary.distance,
    }
}

/// The middle of models of one shape, as a reference where their base is unknown; none of too few.
///
/// Every figure is the median over the models that have the matrix: fine-tunes of one base scatter around it, and a
/// minority of copies of one victim cannot move a median far.
#[must_use]
pub fn middle(models: &[&Fingerprint]) -> Option<Fingerprint> {
    let first = models.first()?;
    if models.len() < MIDDLE_MIN {
        return None;
    }
    let mut middle = (*first).clone();
    middle.slices.retain(|slice| {
        let like = models.iter().filter(|model| {
            model
                .slice(&slice.family, slice.member)
                .is_some_and(|other| (other.rows, other.cols) == (slice.rows, slice.cols))
        });
        like.count() * 2 > models.len()
    });
    for slice in &mut middle.slices {
        if let Some(common) = commonest(models, slice) {
            *slice = common.clone();
            continue;
        }
        let like: Vec<_> = models
            .iter()
            .filter_map(|model| model.slice(&slice.family, slice.member))
            .filter(|other| {
                (other.rows, other.cols, other.sketch.len()) == (slice.rows, slice.cols, slice.sketch.len())
            })
            .collect();
        let of = |value: &dyn Fn(&SlicePrint) -> f32| {
            median(like.iter().map(|slice| f64::from(value(slice))).collect()) as f32
        };
        for at in 0..slice.sketch.len() {
            slice.sketch[at] = of(&|slice| slice.sketch[at]);
        }
        for at in 0..slice.samples.len() {
            slice.samples[at] = of(&|slice| slice.samples[at]);
        }
        for at in 0..slice.shape.row_norms.len() {
            slice.shape.row_norms[at] = of(&|slice| slice.shape.row_norms[at]);
            slice.shape.column_norms[at] = of(&|slice| slice.shape.column_norms[at]);
            slice.shape.row_kurtosis[at] = of(&|slice| slice.shape.row_kurtosis[at]);
            slice.shape.column_kurtosis[at] = of(&|slice| slice.shape.column_kurtosis[at]);
        }
        slice.energy = median(like.iter().map(|slice| slice.energy).collect());
        slice.digest = [0; 2];
    }
    (middle.named, middle.contents) = ([0; 32], [0; 32]);
    Some(middle)
}

/// The content of a matrix that several models share: they all left the base's alone.
fn commonest<'a>(models: &[&'a Fingerprint], slice: &SlicePrint) -> Option<&'a SlicePrint> {
    let mut counts: BTreeMap<[u64; 2], (usize, &SlicePrint)> = BTreeMap::new();
    for other in models.iter().filter_map(|model| model.slice(&slice.family, slice.member)) {
        counts.entry(other.digest).or_insert((0, other)).0 += 1;
    }
    counts
        .into_values()
        .filter(|(count, _)| *count >= COMMON_MIN)
        .max_by_key(|(count, _)| *count)
        .map(|(_, slice)| slice)
}

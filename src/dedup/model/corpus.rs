//! A model among all earlier ones.
//!
//! Owns who may be blamed for whom: the elder by priority, never one of the same owner; the choice among several; and
//! the reference where no base is given. Refuses to keep fingerprints. The duplicates stage calls it with what it has.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    aligned::Aligned,
    evidence::{median, summary_of},
    index::{EXACT_MAX, Index, Vectors},
    joint::{self, Own},
    mixture,
    print::{Fingerprint, SlicePrint},
    summary::Summary,
    verdict::{self, Finding, Kind, Relation},
};

/// Models of one shape from which their middle can stand for an unknown base.
pub const MIDDLE_MIN: usize = 8;
/// Models that must share a matrix for it to be taken for the base's: two may be a victim and a copy.
const COMMON_MIN: usize = 3;
/// Elders that are compared in full.
const FULL_MAX: usize = 64;
/// What a copy may leave unexplained, over the elder's change, to be believed before a mixture is looked for.
const CLEAR: f64 = 0.1;
/// Elders whose own part is looked for in a model that no elder explains.
const CANDIDATES_MAX: usize = 12;
/// How much surer a younger candidate's own part must be found than an elder's: copies of one victim are nearly alike.
const SURER: f64 = 0.8;
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
    /// Share of what is the victim's alone among its elders in the model, where that was looked at, and its error.
    pub own: Option<(f64, f64)>,
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
    index: Index,
}

impl<'a> Corpus<'a> {
    /// Lays the models beside their base, once for all judgements. Models under another key, and the base itself, are
    /// left out.
    #[must_use]
    pub fn new(base: &'a Fingerprint, entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        Self::indexed(base, entries, EXACT_MAX)
    }

    /// The same with a graph of neighbours from this number of models on.
    pub(super) fn indexed(
        base: &'a Fingerprint,
        entries: impl IntoIterator<Item = Entry<'a>>,
        exact_max: usize,
    ) -> Self {
        let is_fit = |entry: &Entry<'_>| entry.print.key == base.key && entry.print.contents != base.contents;
        let fit = entries.into_iter().filter(is_fit);
        let mut placed: Vec<_> = fit.map(|entry| Placed { entry, aligned: Aligned::of(entry.print, base) }).collect();
        placed.sort_by_key(|placed| placed.entry.priority);
        // Few models are compared in full anyway.
        let is_few = placed.len() <= FULL_MAX;
        let vectors = placed.iter().filter(|_| !is_few).map(|placed| Vectors::of(&placed.aligned.slices, base));
        let index = Index::of(vectors.collect(), exact_max);
        Self { base, placed, index }
    }

    /// Judges a model, in the corpus or not, against its elders of other owners.
    #[must_use]
    pub fn judge(&self, model: &Entry<'_>) -> Verdict {
        let is_elder = |placed: &&Placed<'_>| {
            let elder = &placed.entry;
            elder.priority < model.priority && elder.owner != model.owner && elder.print.key == model.print.key
        };
        let allowed: Vec<usize> = (0..self.placed.len()).filter(|at| is_elder(&&self.placed[*at])).collect();
        let mut elders = allowed.iter().map(|at| &self.placed[*at]);
        let aligned = Aligned::of(model.print, self.base);
        let blank = Verdict {
            victim: None,
            mixed_with: None,
            finding: verdict::find(&Summary::default(), false),
            added: aligned.added,
            reordered: aligned.reordered,
            compared: allowed.len(),
            own: None,
        };
        if let Some(elder) = elders.find(|elder| elder.entry.print.contents == model.print.contents) {
            return Verdict { victim: Some(elder.entry.id.to_owned()), finding: exact(elder.entry.print), ..blank };
        }
        let elders = self.narrowed(&aligned, &allowed);
        let findings: Vec<Finding> = elders.iter().map(|elder| self.compare(&aligned, &elder.aligned)).collect();
        let Some(best) = strongest(&findings) else { return blank };
        let best = self.origin(&elders, &findings, best);
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
        let (at, finding, own) = self.by_own_parts(&aligned, &elders, &findings, best);
        let victim = if finding.relation == Relation::Independent { None } else { named(at) };
        Verdict { victim, finding, own: own.map(|own| (own.share, own.error)), ..blank }
    }

    /// The finding after what is each candidate's alone was looked for in the model: it takes back what many models
    /// have in common, and finds a further training that went far.
    fn by_own_parts(
        &self,
        model: &Aligned<'_>,
        elders: &[&Placed<'_>],
        findings: &[Finding],
        best: usize,
    ) -> (usize, Finding, Option<Own>) {
        let own =
            |at: usize| joint::own(&model.slices, elders[at], elders, self.base, &|one, of| self.is_made_of(one, of));
        let is_found = findings[best].relation != Relation::Independent;
        let first = if verdict::rests_on_share(&findings[best]) { own(best) } else { None };
        if is_found && !first.is_some_and(|own| verdict::is_foreign(&own)) {
            return (best, findings[best], first);
        }
        let mut ranked: Vec<usize> = (0..elders.len()).filter(|at| verdict::may_be_built_on(&findings[*at])).collect();
        ranked.sort_by(|a, b| findings[*b].summary.cosine.total_cmp(&findings[*a].summary.cosine));
        let mut found: Option<(usize, Own, Finding)> = None;
        ranked.truncate(CANDIDATES_MAX);
        ranked.sort_unstable();
        for at in ranked {
            let Some(own) = own(at) else { continue };
            let Some(finding) = verdict::built_on(&findings[at], &own) else { continue };
            if found.is_none_or(|(_, best, _)| own.error < SURER * best.error) {
                found = Some((at, own, finding));
            }
        }
        let Some((at, own, finding)) = found else { return (best, findings[best].independent(), first) };
        (at, finding, Some(own))
    }

    /// The eldest of whom the found elder is a copy, and whom the model is found to be made of as well: copies of one
    /// victim are nearly alike, and which of them is nearest is luck.
    fn origin(&self, elders: &[&Placed<'_>], findings: &[Finding], found: usize) -> usize {
        let is_found = |at: usize| findings[at].relation != Relation::Independent;
        if !is_found(found) {
            return found;
        }
        let is_origin = |at: &usize| {
            is_found(*at) && self.compare(&elders[found].aligned, &elders[*at].aligned).relation == Relation::Copy
        };
        (0..found).find(is_origin).unwrap_or(found)
    }

    /// Whether the one came later and is found to be made of the other.
    fn is_made_of(&self, one: &Placed<'_>, other: &Placed<'_>) -> bool {
        one.entry.priority > other.entry.priority
            && self.compare(&one.aligned, &other.aligned).relation != Relation::Independent
    }

    fn compare(&self, younger: &Aligned<'_>, elder: &Aligned<'_>) -> Finding {
        verdict::find(&summary_of(younger, elder, self.base), younger.reordered > elder.reordered)
    }

    /// The elders that are nearest in any likeness; all where they are few. The eldest come first.
    fn narrowed(&self, model: &Aligned<'_>, allowed: &[usize]) -> Vec<&Placed<'a>> {
        if allowed.len() <= FULL_MAX {
            return allowed.iter().map(|at| &self.placed[*at]).collect();
        }
        let mut nearest = self.index.nearest(&Vectors::of(&model.slices, self.base), allowed, FULL_MAX);
        nearest.sort_unstable();
        nearest.into_iter().map(|at| &self.placed[at]).collect()
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

//! How many copies are found, and whether anybody is blamed wrongly.
//!
//! Owns the count over a labelled corpus, beside the compatible rule's. Refuses to print. The bench calls it.

use serde::Serialize;

use super::{Model, disguise::Disguise, rng::Rng};
use crate::dedup::model::{
    Fingerprint, Key, compat,
    corpus::{Corpus, Entry},
    evidence, scan,
    verdict::Relation,
};

/// Order of a model that came after all others.
const LAST: u64 = u64::MAX;

/// One disguise over all victims.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The disguise.
    pub disguise: String,
    /// Victims so disguised.
    pub total: usize,
    /// Those whose victim was named.
    pub named: usize,
    /// Those that were called copy or derivative rightly as well.
    pub right: usize,
    /// Those that the compatible rule found.
    pub compatible: usize,
}

/// The whole count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Disguises in their order.
    pub rows: Vec<Row>,
    /// Ordered pairs of honest fine-tunes.
    pub honest_pairs: usize,
    /// Those called a copy.
    pub blamed_copy: usize,
    /// Those called a derivative.
    pub blamed_derivative: usize,
    /// Those that the compatible rule called a duplicate.
    pub blamed_compatible: usize,
    /// Least distance of an honest pair, over the elder's change: the margin to what counts as near.
    pub nearest_honest: f64,
}

/// Counts over the fine-tunes of a base: all ordered pairs of them, and all disguises of every `stride`-th.
pub fn of(
    base: &Model,
    honest: &[(String, Model)],
    key: &Key,
    stride: usize,
    seed: u64,
) -> Result<Report, scan::Error> {
    let base_print = base.fingerprint(key)?;
    let mut prints = Vec::with_capacity(honest.len());
    for (name, model) in honest {
        prints.push((name.as_str(), model.fingerprint(key)?));
    }
    let mut report = pairs(&prints, &base_print);
    let entries = prints.iter().map(|(name, print)| Entry { id: name, owner: name, priority: 0, print });
    let corpus = Corpus::new(&base_print, entries);
    let mut rng = Rng::new(seed);
    for disguise in Disguise::ALL {
        let mut row = Row { disguise: format!("{disguise:?}"), total: 0, named: 0, right: 0, compatible: 0 };
        for (at, (name, victim)) in honest.iter().enumerate().step_by(stride.max(1)) {
            let other = &honest[(at + 1 + rng.below(honest.len() - 1)) % honest.len()].1;
            let print = disguise.apply(victim, base, other, &mut rng).fingerprint(key)?;
            let verdict = corpus.judge(&Entry { id: "late", owner: "late", priority: LAST, print: &print });
            let expected = if disguise.is_derivative() { Relation::Derivative } else { Relation::Copy };
            // Of an even mixture either is the victim.
            let is_even = matches!(disguise, Disguise::MergeOther(share) if *share <= 0.5);
            let is_named =
                verdict.victim.as_ref() == Some(name) || (is_even && verdict.mixed_with.as_ref() == Some(name));
            row.total += 1;
            row.named += usize::from(is_named);
            row.right += usize::from(is_named && verdict.finding.relation == expected);
            row.compatible += usize::from(compat::is_duplicate(&print.layer_norms, &prints[at].1.layer_norms));
        }
        report.rows.push(row);
    }
    Ok(report)
}

fn pairs(prints: &[(&str, Fingerprint)], base: &Fingerprint) -> Report {
    let mut report = Report {
        rows: Vec::new(),
        honest_pairs: 0,
        blamed_copy: 0,
        blamed_derivative: 0,
        blamed_compatible: 0,
        nearest_honest: f64::INFINITY,
    };
    for (elder, v) in prints {
        let corpus = Corpus::new(base, [Entry { id: elder, owner: elder, priority: 0, print: v }]);
        for (younger, x) in prints.iter().filter(|(younger, _)| younger != elder) {
            let verdict = corpus.judge(&Entry { id: younger, owner: younger, priority: LAST, print: x });
            report.honest_pairs += 1;
            match verdict.finding.relation {
                Relation::Copy => report.blamed_copy += 1,
                Relation::Derivative => report.blamed_derivative += 1,
                Relation::Independent => {}
            }
            report.blamed_compatible += usize::from(compat::is_duplicate(&x.layer_norms, &v.layer_norms));
            let summary = evidence::summary(x, v, base);
            if summary.matrices > 0 {
                report.nearest_honest = report.nearest_honest.min(summary.distance);
            }
        }
    }
    report
}

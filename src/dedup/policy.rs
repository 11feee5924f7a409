//! Copies among policies: who sent what an earlier contestant had sent, changed or not.
//!
//! Owns the comparison of two contestants and the walk over all of them in order of priority. Refuses to make the
//! outputs or to know hotkeys: the caller gives both. The duplicates stage calls it; nothing here is random or slow.
//!
//! To blame an honest miner would be worse than to miss a copy, which ties and so earns nothing anyway. So a near copy
//! must agree twice: in its answers as numbers (not merely in the actions, on which good policies agree) and in its
//! weights, layer by layer; and the difference of the weights must be such as noise makes, not such as training does,
//! because honest policies that began with the same weights are near one another too. Networks of different form must
//! agree in their answers to the last digits. The smaller a network, the nearer two honest ones may come, so the
//! thresholds shrink with the number of weights.
//!
//! What a copier gains by a change that looks like training is little: the copy ties, and ties go to the earlier.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    DUPLICATE_BYTES, DUPLICATE_CONTENT, NEAR_COPY, align,
    outputs::{Outputs, apart},
    pattern::Pattern,
    sketch::WeightSketch,
};
use crate::{
    fault::{Code, Fault},
    ids::Digest,
};

/// Most that the weights of a near copy may be apart, if the difference has no pattern. Noise of 1 % of each weight
/// leaves 0.01, of each layer's spread 0.01 to 0.06, real policies of one form trained apart by one teacher 1.0 to 1.6
/// (measured on five environments and in the tests).
const WEIGHT_THRESHOLD: f64 = 0.2;
/// The same if it has one, or if nobody can tell: policies that began with the same weights are 0.015 to 0.38 apart
/// after training, and 0.003 after as little as three steps.
const PATTERN_THRESHOLD: f64 = 1e-3;
/// Standard deviations beyond chance from which a difference has a pattern; [`Pattern`] says what was measured.
const PATTERN_DEVIATIONS: f64 = 5.0;
/// Most that the answers of a near copy may be apart, given that its weights agree: noise of 1 % grows up to 0.32 on
/// the way through a trained network. Honest policies of one teacher come as near as 0.03, so answers alone blame
/// nobody.
const OUTPUT_THRESHOLD: f64 = 0.8;
/// Most that the answers of a network of another form may be apart: what is left after the rounding of another order
/// of sums.
const EXACT_THRESHOLD: f64 = 1e-5;
/// Weights from which the full thresholds hold: half of a network with one hidden layer of 64 for four observations.
const MANY_WEIGHTS: f64 = 512.0;
/// Weights up to which only the last digits may differ: honest training of so few comes to one and the same result.
const FEW_WEIGHTS: f64 = 64.0;
/// Rows of answers that must tell something before answers prove anything.
const TELLING_ROWS: usize = 32;

/// One contestant's model for one environment.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The model's content digest.
    pub content: Digest,
    /// Its weights.
    pub weights: Arc<WeightSketch>,
    /// Its answers to the run's common observations. The observations must be the same for every contestant of a run,
    /// chosen by the run's seed, and come from the run itself.
    pub outputs: Outputs,
}

/// One contestant.
#[derive(Debug, Clone)]
pub struct Contestant {
    /// What the verdict calls it.
    pub name: String,
    /// Contestants of one owner are not compared: a replacement is no copy. The caller decides what an owner is.
    pub owner: String,
    /// SHA-256 of the upload.
    pub bytes: Digest,
    /// The content digest of the whole policy.
    pub content: Digest,
    /// Models by environment.
    pub models: BTreeMap<String, Evidence>,
}

/// What two models or policies are to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Different.
    Distinct,
    /// Nearer than honest work comes.
    NearCopy,
    /// The same computation from the same weights.
    SameContent,
    /// The same bytes.
    SameBytes,
}

/// How like two models are, with everything that decided it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// The decision.
    pub kind: Kind,
    /// How far the answers are apart; absent if they cannot be compared.
    pub output_distance: Option<f64>,
    /// The most that may be for a near copy: less where the weights do not agree.
    pub output_threshold: f64,
    /// How far the weights are apart; absent for networks of different form, and where the answers had decided before.
    pub weight_distance: Option<f64>,
    /// The most that may be for a near copy: less where the difference has a pattern. Absent as above.
    pub weight_threshold: Option<f64>,
    /// How far signs of the difference agree beyond chance, in standard deviations, as they do after training; absent
    /// where it was not asked, and where nothing can tell.
    #[serde(default)]
    pub pattern: Option<f64>,
    /// Whether the answers were compared as actions, because one model answers with nothing else.
    pub by_actions: bool,
    /// Weights of the smaller model.
    pub parameters: u64,
    /// Answers compared.
    pub rows: u64,
}

/// One contestant found to be a copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyVerdict {
    /// The later one.
    pub copy: String,
    /// The earliest one whose policy it is.
    pub victim: String,
    /// What kind of copy.
    pub kind: Kind,
    /// Each environment in which it is a copy, with the numbers.
    pub environments: BTreeMap<String, Similarity>,
}

impl CopyVerdict {
    /// The code of this kind of copy.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self.kind {
            Kind::SameBytes => DUPLICATE_BYTES,
            Kind::SameContent => DUPLICATE_CONTENT,
            Kind::NearCopy | Kind::Distinct => NEAR_COPY,
        }
    }

    /// The fault of the copy, with distances and thresholds.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let number = |distance: Option<f64>| distance.map_or("-".to_owned(), |distance| format!("{distance:.2e}"));
        let each = self.environments.iter().map(|(environment, found)| {
            let (answers, weights) = (number(found.output_distance), number(found.weight_distance));
            let (most_answers, most_weights) = (number(Some(found.output_threshold)), number(found.weight_threshold));
            let pattern =
                found.pattern.map_or(String::new(), |it| format!(", pattern {it:.1} (below {PATTERN_DEVIATIONS})"));
            format!(
                "{environment}: answers {answers} apart (copy up to {most_answers}), weights {weights} (up to \
                 {most_weights}){pattern}"
            )
        });
        let each: Vec<_> = each.collect();
        let detail =
            if each.is_empty() { self.victim.clone() } else { format!("{}; {}", self.victim, each.join("; ")) };
        self.code().because(detail)
    }
}

/// Finds the copies. `contestants` stand in order of priority, the earliest first; of equal ones the earlier owns.
/// Each later contestant is held against every earlier one that is no copy itself.
#[must_use]
pub fn find_copies(contestants: &[Contestant]) -> Vec<CopyVerdict> {
    let mut originals: Vec<&Contestant> = Vec::new();
    let mut verdicts = Vec::new();
    for later in contestants {
        let found =
            originals.iter().filter(|earlier| earlier.owner != later.owner).find_map(|earlier| verdict(earlier, later));
        match found {
            Some(verdict) => verdicts.push(verdict),
            None => originals.push(later),
        }
    }
    verdicts
}

/// Whether the later contestant is a copy of the earlier one.
///
/// One copied model is enough, except among models so small that honest miners may send the same textbook rule: those
/// make a copy only where they are all the later contestant has.
#[must_use]
pub fn verdict(earlier: &Contestant, later: &Contestant) -> Option<CopyVerdict> {
    let whole = |kind| CopyVerdict {
        copy: later.name.clone(),
        victim: earlier.name.clone(),
        kind,
        environments: BTreeMap::new(),
    };
    if earlier.bytes == later.bytes {
        return Some(whole(Kind::SameBytes));
    }
    if earlier.content == later.content {
        return Some(whole(Kind::SameContent));
    }
    let mut environments = BTreeMap::new();
    for (environment, model) in &later.models {
        if let Some(other) = earlier.models.get(environment) {
            let found = compare(other, model);
            if found.kind > Kind::Distinct {
                environments.insert(environment.clone(), found);
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "weights are counted in thousands")]
    let telling = environments.values().any(|found| found.parameters as f64 > FEW_WEIGHTS);
    if environments.is_empty() || !(telling || environments.len() == later.models.len()) {
        return None;
    }
    let kind = environments.values().map(|found| found.kind).min()?;
    Some(CopyVerdict { environments, ..whole(kind) })
}

/// Compares two models of one environment.
#[must_use]
pub fn compare(earlier: &Evidence, later: &Evidence) -> Similarity {
    let parameters = earlier.weights.parameters().min(later.weights.parameters());
    let share = share_of_threshold(parameters);
    let rows = earlier.outputs.rows().min(later.outputs.rows());
    let mut found = Similarity {
        kind: Kind::Distinct,
        output_distance: None,
        output_threshold: OUTPUT_THRESHOLD * share,
        weight_distance: None,
        weight_threshold: None,
        pattern: None,
        by_actions: false,
        parameters: parameters as u64,
        rows: rows as u64,
    };
    let answers = apart(&earlier.outputs, &later.outputs);
    found.output_distance = answers.map(|answers| answers.distance);
    found.by_actions = answers.is_some_and(|answers| answers.by_actions);
    if earlier.content == later.content {
        found.kind = Kind::SameContent;
        return found;
    }
    let Some(answers) = answers.filter(|answers| answers.distance <= found.output_threshold) else { return found };
    if let Some(aligned) = align::align(&earlier.weights, &later.weights, PATTERN_THRESHOLD * share) {
        let mut threshold = PATTERN_THRESHOLD * share;
        if aligned.distance > threshold && aligned.distance <= WEIGHT_THRESHOLD * share {
            let pattern = Pattern::of(&earlier.weights, &later.weights, &aligned);
            found.pattern = pattern.map(|pattern| pattern.additive);
            if pattern.is_some_and(looks_like_noise) {
                threshold = WEIGHT_THRESHOLD * share;
            }
        }
        found.weight_distance = Some(aligned.distance);
        found.weight_threshold = Some(threshold);
        if aligned.distance <= threshold {
            found.kind = Kind::NearCopy;
            return found;
        }
    }
    // Networks of another form, or with parts that no answer depends on: the answers alone must prove it.
    found.output_threshold = EXACT_THRESHOLD;
    #[expect(clippy::cast_precision_loss, reason = "weights are counted in thousands")]
    let is_small = parameters as f64 <= FEW_WEIGHTS;
    let proves = !answers.by_actions && !is_small && answers.telling_rows >= TELLING_ROWS;
    if proves && answers.distance <= EXACT_THRESHOLD {
        found.kind = Kind::NearCopy;
    }
    found
}

/// No pattern, or that of factors, which nobody trains.
fn looks_like_noise(pattern: Pattern) -> bool {
    pattern.additive < PATTERN_DEVIATIONS || pattern.scaling > pattern.additive
}

/// From a ten-thousandth for few weights to 1 for many, evenly on a logarithmic scale in between.
fn share_of_threshold(parameters: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "weights are counted in thousands")]
    let weights = (parameters as f64).clamp(FEW_WEIGHTS, MANY_WEIGHTS);
    let progress = libm::log(weights / FEW_WEIGHTS) / libm::log(MANY_WEIGHTS / FEW_WEIGHTS);
    libm::pow(10.0, -4.0 * (1.0 - progress))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod calibration;

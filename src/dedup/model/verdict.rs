//! What the figures of a pair mean.
//!
//! Owns the thresholds, each with what it was found on, the kinds of disguise and the probability. Refuses to know who
//! owns a model and which came first: `corpus` does.
//!
//! A copy with noise is X = V + n: its change regressed on the victim's gives a share of one, whatever the size of the
//! noise, and what is left fills all directions. Two honest runs on the same data are V = B + c + a and X = B + c + b:
//! the share is less than one by what is V's own, and what is left fills few directions, as training does.
//!
//! "Seen" in this file: 5 100 ordered pairs of honest fine-tunes of four tiny bases (experts fused and not, dense),
//! most of them on the same data, with other orders, rates, optimisers, adapters and parts trained.

use serde::Serialize;

use super::{
    joint::Own,
    summary::{NEAR, Summary},
};

/// Share of the elder's changed matrices that must be found for the victim to be named: honest pairs 0.05.
pub const MATCHED_MIN: f64 = 0.4;
/// Share of matrices that lets a part of a model be named.
pub const PART_MIN: f64 = 0.15;
/// Matrices needed where figures of many are put together; with fewer, luck can pass for a law.
pub const MATRICES_MIN: usize = 3;
/// Share of found matrices from which a model is another as a whole, and not a graft.
const WHOLE_MIN: f64 = 0.8;
/// Share of matrices left as the base's from which the others were grafted.
const LEFT_MIN: f64 = 0.2;
/// Error of the directions up to which a difference in few matrices counts as noise: noise was seen in many others too.
/// In one matrix alone, two honest runs on rare words looked like noise.
const FEW_SPREAD_ERROR: f64 = 0.015;
/// Directions, relative to noise's, from which a difference is noise. Copies with noise on more than one element in
/// ten: 0.97 and more; honest pairs with a share near one: 0.91 and less, 0.96 where only nine matrices counted.
pub const NOISE_SPREAD: f64 = 0.97;
/// Standard errors by which the directions may be fewer than noise's.
const SPREAD_ERRORS: f64 = 2.5;
/// The same where the matrices themselves are near, so that only further training is the alternative: that came to
/// 0.93 at most; rounding in matrices of 24 rows to 0.94.
pub const NEAR_NOISE_SPREAD: f64 = 0.93;
/// Standard errors by which a share of one may be missed.
pub const SHARE_ERRORS: f64 = 4.0;
/// What is allowed beside, for rounding: copies 0.002, honest pairs with as much noise 0.03.
pub const SHARE_SLACK: f64 = 0.006;
/// How many times more than noise makes them the shares may differ between matrices: copies 1.2, and more where few
/// matrices let it be known badly; full-batch runs of Adam and of plain descent, whose rest is as even as noise: 6.
pub const UNEVENNESS_MAX: f64 = 2.5;
/// Standard errors by which the share must differ from none.
pub const SHARE_CERTAIN: f64 = 8.0;
/// Distance over the elder's change up to which noise is looked through.
pub const NOISE_DISTANCE_MAX: f64 = 8.0;
/// Share of elements touched up to which last-bit changes are sparse, with few directions of their own.
pub const SPARSE_TOUCHED: f64 = 0.5;
/// Share of touched elements within one step, from which the changes are of the last bit.
pub const LAST_BIT_MIN: f64 = 0.98;
/// Distance over the elder's change of a further training that is still recognised. Honest pairs on the same data in
/// another order: 0.227 and more. Only the same data in the same order with the same sum of rates came to 0.14.
pub const TAIL_DISTANCE_MAX: f64 = 0.21;
/// Deviation of the share from one allowed for a further training: seen 0.015; honest pairs 0.024 and more.
pub const TAIL_SHARE_SLACK: f64 = 0.02;
/// Elders taken out from which an own part is believed.
const OTHERS_MIN: usize = 4;
/// Size of the own part, over the elder's change, below which it says nothing.
const OWN_MIN: f64 = 0.05;
/// The same above which the others explain nothing, so that two runs on one data cannot be told from a further training.
const OWN_ALONE: f64 = 0.9;
/// Standard error of the own part's share up to which it is believed.
const OWN_ERROR_MAX: f64 = 0.07;
/// Deviation of that share from one for a further training, beside two errors: seen 0.05.
const OWN_SLACK: f64 = 0.06;
/// Deviation of the whole share from one for a further training: seen 0.11. Runs on the same data in the same order at
/// other rates have nearly no part of their own, but shares of 0.8 and 1.2.
const FURTHER_SHARE_SLACK: f64 = 0.13;
/// The same where the others explain nothing.
const ALONE_SLACK: f64 = 0.04;
/// The least cosine of the whole changes for a further training.
const FURTHER_COSINE_MIN: f64 = 0.2;
/// Distance over the elder's change from which noise in few matrices is believed: two honest runs of equal length that
/// are as far from each other hold a share of 0.95 at most in each other.
const FEW_DISTANCE_MIN: f64 = 0.3;
/// Distance up to which an adapter on few matrices is believed, and the directions up to which it is one: honest runs
/// of one matrix 0.8 of noise's.
const FEW_ADAPTER_DISTANCE: f64 = 0.5;
/// The directions of an adapter.
const ADAPTER_SPREAD: f64 = 0.5;
/// Standard errors by which the own part in few matrices may miss one, and must differ from nothing.
const FEW_ERRORS: [f64; 2] = [3.0, 5.0];
/// Deviation of the own part's share from one, beside four errors, that takes a finding back.
const FOREIGN_SLACK: f64 = 0.1;
/// Cosine from which a mixture with the base is recognised.
pub const MERGE_COSINE_MIN: f64 = 0.94;
/// Share of the elder's change in a mixture with the base; above one the change was stretched.
pub const MERGE_SHARE: std::ops::Range<f64> = 0.1..4.0;
/// What a mixture with the base leaves unexplained, over what rounding does: seen 1.1.
pub const MERGE_ROUNDING: f64 = 1.6;
/// The same over the elder's change, for one that rounding explains: full-batch runs of two rates came to 0.12.
pub const MERGE_REST_MAX: f64 = 0.25;
/// Relative evenness from which noise is relative to the weights: normal noise 0.64, one step in every element 0.96;
/// honest pairs: 0.54.
pub const RELATIVE_EVENNESS: f64 = 0.58;
/// The same from which it is a step in every element.
pub const STEP_EVENNESS: f64 = 0.9;

/// What a younger model is to an elder one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Nothing but the base in common, or too little to say.
    Independent,
    /// Built from the elder: trained further, or mixed with another.
    Derivative,
    /// The elder in disguise.
    Copy,
}

/// How a copy was disguised, or a derivative made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// None.
    None,
    /// The same contents, stored anew or under other names.
    Repacked,
    /// The same contents with tensors added or taken away.
    Padded,
    /// Converted to another type and, perhaps, back.
    Cast,
    /// Steps of the last bit.
    LastBit,
    /// Noise relative to the weights, or a rounding to few bits of fraction.
    RelativeNoise,
    /// Noise of even size, or a rounding to even steps.
    EvenNoise,
    /// Experts in another order.
    ExpertsReordered,
    /// Heads, neurons or the residual stream in another order, or rotated.
    Reordered,
    /// Scales moved between matrices.
    Rescaled,
    /// Trained further.
    TrainedFurther,
    /// Mixed with its base.
    MergedWithBase,
    /// Mixed with another model.
    MergedWithOther,
    /// Some of its matrices taken over.
    Grafted,
}

/// What the figures mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Finding {
    /// What the younger is to the elder.
    pub relation: Relation,
    /// How it was made.
    pub kind: Kind,
    /// How sure that is, from 0 to 1: calibrated in steps, not measured to the digit.
    pub probability: f64,
    /// The figures.
    pub summary: Summary,
}

/// Whether what is left beside the elder's change is noise rather than training.
pub(super) fn is_noise(summary: &Summary) -> bool {
    summary.spread >= NOISE_SPREAD
        || summary.spread + SPREAD_ERRORS * summary.spread_error >= 1.0
        || summary.evenness >= RELATIVE_EVENNESS
}

/// Whether only a few elements were touched, by one step.
fn is_sparse(summary: &Summary) -> bool {
    summary.touched <= SPARSE_TOUCHED && summary.last_bit >= LAST_BIT_MIN
}

/// Whether the elder's change is in the younger's as a whole.
fn is_whole(summary: &Summary) -> bool {
    let slack = SHARE_ERRORS * summary.share_error + SHARE_SLACK;
    (summary.share - 1.0).abs() <= slack && summary.share >= SHARE_CERTAIN * summary.share_error
}

impl Finding {
    /// The same figures, found to mean nothing.
    #[must_use]
    pub const fn independent(self) -> Self {
        Self { relation: Relation::Independent, kind: Kind::None, probability: 0.0, ..self }
    }

    /// The same figures, found to be a further training.
    #[must_use]
    pub const fn further(self) -> Self {
        Self { relation: Relation::Derivative, kind: Kind::TrainedFurther, probability: 0.9, ..self }
    }
}

/// Whether a finding rests on the share of the whole change, which runs on the same data have in each other too.
pub(super) fn rests_on_share(finding: &Finding) -> bool {
    finding.summary.matched < MATCHED_MIN
        && matches!(finding.kind, Kind::EvenNoise | Kind::RelativeNoise | Kind::LastBit | Kind::TrainedFurther)
}

/// Whether the elder's own part is missing.
pub(super) fn is_foreign(own: &Own) -> bool {
    own.others >= OTHERS_MIN
        && own.size >= OWN_MIN
        && (own.share - 1.0).abs() > FOREIGN_SLACK + SHARE_ERRORS * own.error
}

/// Whether it is worth looking for the elder's own part.
pub(super) fn may_be_built_on(finding: &Finding) -> bool {
    let summary = &finding.summary;
    summary.cosine >= FURTHER_COSINE_MIN
        && ((summary.share - 1.0).abs() <= FURTHER_SHARE_SLACK || (1..MATRICES_MIN).contains(&summary.matrices))
}

/// Whether the model has the elder's own part in a share of one.
fn is_built_on(finding: &Finding, own: &Own) -> bool {
    let slack = if own.size >= OWN_ALONE { ALONE_SLACK } else { OWN_SLACK };
    own.others >= OTHERS_MIN
        && own.size >= OWN_MIN
        && own.error <= OWN_ERROR_MAX
        && (own.share - 1.0).abs() <= slack + 2.0 * own.error
        && (finding.summary.share - 1.0).abs() <= FURTHER_SHARE_SLACK
        && finding.summary.matrices >= MATRICES_MIN
        && finding.summary.cosine >= FURTHER_COSINE_MIN
}

/// What a model is that holds the elder's own part, if anything.
pub(super) fn built_on(finding: &Finding, own: &Own) -> Option<Finding> {
    if is_built_on(finding, own) { Some(finding.further()) } else { built_on_few(finding, own) }
}

/// What a model is that holds the own part of an elder who changed too few matrices for a law, if anything.
fn built_on_few(finding: &Finding, own: &Own) -> Option<Finding> {
    let summary = &finding.summary;
    let [near, far] = FEW_ERRORS;
    let is_own = own.others >= OTHERS_MIN
        && own.size >= OWN_MIN
        && (own.share - 1.0).abs() <= FOREIGN_SLACK + near * own.error
        && own.share >= far * own.error
        && (summary.share - 1.0).abs() <= near * summary.share_error.max(SHARE_SLACK)
        && summary.spread_error.is_finite();
    if summary.matrices == 0 || summary.matrices >= MATRICES_MIN || !is_own {
        return None;
    }
    if (FEW_DISTANCE_MIN..=NOISE_DISTANCE_MAX).contains(&summary.distance) && is_noise(summary) {
        return Some(Finding { relation: Relation::Copy, kind: noise_kind(summary), probability: 0.9, ..*finding });
    }
    let is_adapter = summary.spread <= ADAPTER_SPREAD && summary.distance <= FEW_ADAPTER_DISTANCE;
    is_adapter.then(|| finding.further())
}

/// Judges a pair by its figures; `reordered` says whether experts stood in another order.
#[must_use]
pub fn find(summary: &Summary, reordered: bool) -> Finding {
    let finding = |relation, kind, probability| Finding { relation, kind, probability, summary: *summary };
    if summary.matrices == 0 {
        return finding(Relation::Independent, Kind::None, 0.0);
    }
    if summary.matched >= MATCHED_MIN {
        return near(summary, reordered);
    }
    if is_noisy_copy(summary) {
        return finding(Relation::Copy, noise_kind(summary), 0.99);
    }
    if is_blurred_disguise(summary) {
        return finding(Relation::Copy, disguise_kind(summary, reordered), 0.95);
    }
    if is_merged_with_base(summary) {
        return finding(Relation::Derivative, Kind::MergedWithBase, 0.95);
    }
    let slack = TAIL_SHARE_SLACK.max(2.0 * summary.share_error).min(2.0 * TAIL_SHARE_SLACK);
    let is_further = summary.distance <= TAIL_DISTANCE_MAX && (summary.share - 1.0).abs() <= slack;
    if is_further && summary.matrices >= MATRICES_MIN {
        return finding(Relation::Derivative, Kind::TrainedFurther, 0.9);
    }
    let found = summary.matched * summary.matrices as f64;
    if summary.matched >= PART_MIN && summary.disguised >= MATCHED_MIN && found >= 2.0 {
        // The other matrices were disguised too; what hides them says nothing for the younger.
        return finding(Relation::Copy, disguise_kind(summary, reordered), 0.9);
    }
    if summary.matched >= PART_MIN && found >= MATRICES_MIN as f64 {
        return finding(Relation::Derivative, Kind::Grafted, 0.8);
    }
    finding(Relation::Independent, Kind::None, 0.0)
}

/// Enough of the elder's matrices were found.
fn near(summary: &Summary, reordered: bool) -> Finding {
    let finding = |relation, kind, probability| Finding { relation, kind, probability, summary: *summary };
    let is_hidden = summary.matched > summary.near || reordered;
    if is_hidden && summary.matched - summary.near >= summary.near {
        return finding(Relation::Copy, disguise_kind(summary, reordered), 0.99);
    }
    // Where most is the same, what differs elsewhere tells training from padding; a last bit here and there is a cast.
    let is_trained = summary.spread_error.is_finite()
        && summary.spread < NEAR_NOISE_SPREAD
        && (summary.touched == 0.0 || summary.last_bit < LAST_BIT_MIN);
    let is_graft = summary.left >= LEFT_MIN || (summary.matched < WHOLE_MIN && !is_noise(summary));
    if !is_hidden && summary.same >= 0.5 * summary.matched && is_graft {
        return finding(Relation::Derivative, Kind::Grafted, 0.95);
    }
    if summary.same >= 0.5 * summary.matched {
        return if is_hidden {
            finding(Relation::Copy, disguise_kind(summary, reordered), 0.999)
        } else if is_trained {
            finding(Relation::Derivative, Kind::TrainedFurther, 0.95)
        } else {
            finding(Relation::Copy, Kind::Padded, 0.999)
        };
    }
    let is_rounding = summary.distance <= MERGE_ROUNDING * summary.rounding;
    let is_noise = is_noise(summary) || summary.spread >= NEAR_NOISE_SPREAD;
    if is_noise || is_sparse(summary) || is_rounding || summary.distance < 1e-4 {
        let kind = if is_hidden { disguise_kind(summary, reordered) } else { noise_kind(summary) };
        return finding(Relation::Copy, kind, 0.999);
    }
    finding(Relation::Derivative, Kind::TrainedFurther, 0.97)
}

/// Noise larger than what makes matrices near.
fn is_noisy_copy(summary: &Summary) -> bool {
    let is_known = summary.matrices >= MATRICES_MIN
        || (summary.spread_error <= FEW_SPREAD_ERROR && summary.spread >= NOISE_SPREAD);
    is_known
        && summary.distance <= NOISE_DISTANCE_MAX
        && is_whole(summary)
        && (summary.unevenness <= UNEVENNESS_MAX || summary.share_error <= SHARE_SLACK / 4.0)
        && (is_noise(summary) || is_sparse(summary))
}

/// Disguised matrices whose free figures follow the elder's through the rounding that the disguise cost.
fn is_blurred_disguise(summary: &Summary) -> bool {
    let slack = SHARE_ERRORS * summary.free_share_error + 0.1;
    summary.disguised >= MATCHED_MIN
        && summary.matrices >= MATRICES_MIN
        && summary.free <= 4.0 * summary.rounding
        && (summary.free_share - 1.0).abs() <= slack
        && summary.free_share >= 0.5_f64.max(6.0 * summary.free_share_error)
}

fn is_merged_with_base(summary: &Summary) -> bool {
    let is_left_by_rounding = summary.rest <= MERGE_ROUNDING * summary.rounding && summary.rest <= MERGE_REST_MAX;
    summary.cosine >= MERGE_COSINE_MIN && is_left_by_rounding && MERGE_SHARE.contains(&summary.share)
}

fn noise_kind(summary: &Summary) -> Kind {
    if summary.distance < 1e-4 {
        Kind::Cast
    } else if summary.last_bit >= LAST_BIT_MIN
        && (summary.touched < SPARSE_TOUCHED || summary.evenness >= STEP_EVENNESS)
    {
        Kind::LastBit
    } else if summary.evenness >= RELATIVE_EVENNESS || (summary.distance <= NEAR && summary.touched < SPARSE_TOUCHED) {
        Kind::RelativeNoise
    } else {
        Kind::EvenNoise
    }
}

fn disguise_kind(summary: &Summary, reordered: bool) -> Kind {
    if summary.rescaled > 0.5 * summary.disguised && summary.rescaled > 0.0 {
        Kind::Rescaled
    } else if reordered && summary.near + 0.1 >= summary.matched {
        Kind::ExpertsReordered
    } else {
        Kind::Reordered
    }
}

//! The figures of a pair of models, summed up so that no single matrix decides.
//!
//! Owns medians, shares and their errors. Refuses to judge them: `verdict` does.

use serde::Serialize;

use super::evidence::{FREE, Figures, median};

/// Distance over the elder's change below which a matrix counts as the elder's. Two honest runs came no nearer than
/// 0.093 in any matrix's median (last layer alone, same data, other order), 0.14 when more than one was trained.
pub const NEAR: f64 = 0.08;
/// The same for figures free of order and scale; honest pairs: 0.056 for the last layer alone, 0.14 otherwise.
pub const NEAR_FREE: f64 = 0.08;
/// What rounding after a rescale does to the free figures, over what it does to the weights: seen up to 3.
const ROUNDING_FREE: f64 = 4.0;
/// How many times nearer than as it stands a matrix must be in free figures for a disguise to be the reason; honest
/// pairs: 2.5.
const FREE_RATIO: f64 = 6.0;
/// The most that rounding may excuse.
const NEAR_FREE_MAX: f64 = 0.8;
/// Own change from which a matrix cannot be a fine-tune's any more if its norms are still the base's: an unrelated
/// order gives √2.
const STRANGE_CHANGE: f64 = 0.9;
/// Change of the free figures up to which they are still the base's.
const STRANGE_MOVED: f64 = 0.15;
/// Change of norms from which a matrix counts as rescaled if its kurtosis hardly changed.
const RESCALED_MOVED: f64 = 0.1;
/// How many times less the kurtosis then changed.
const RESCALED_RATIO: f64 = 5.0;
/// How a pair of models compares, over the matrices that the elder changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Matrices that the elder changed and both have.
    pub matrices: usize,
    /// Share of them with the same content.
    pub same: f64,
    /// Share of them that are the base's, unchanged.
    pub left: f64,
    /// Share of them that are near as they stand.
    pub near: f64,
    /// Share of them that are near as they stand or in figures free of order and scale.
    pub matched: f64,
    /// Share of them that the younger reordered or rescaled.
    pub disguised: f64,
    /// Share of them that were rescaled.
    pub rescaled: f64,
    /// Median size of the elder's change, relative to the base.
    pub change: f64,
    /// Median cosine of the two changes.
    pub cosine: f64,
    /// Median share of the elder's change in the younger's.
    pub share: f64,
    /// Its standard error.
    pub share_error: f64,
    /// That error over the one that noise of the unexplained part's size would give: 1 for noise.
    pub unevenness: f64,
    /// Median distance over the elder's change.
    pub distance: f64,
    /// Median of what the elder's change does not explain, over it.
    pub rest: f64,
    /// Median of what rounding alone does, over the elder's change.
    pub rounding: f64,
    /// Median distance in the best of the free figures.
    pub free: f64,
    /// Median share of the elder's change in the younger's, in the best of the free figures of disguised matrices.
    pub free_share: f64,
    /// Its standard error.
    pub free_share_error: f64,
    /// Share of sampled elements that differ.
    pub touched: f64,
    /// Share of these that differ by one step of the stored type at most.
    pub last_bit: f64,
    /// Directions that the unexplained part fills, over those of noise: 1 for noise, less for training.
    pub spread: f64,
    /// Its standard error.
    pub spread_error: f64,
    /// Median evenness of the difference relative to the weights.
    pub evenness: f64,
}

/// Whether a matrix was reordered (or rotated), judged by the younger's own change alone: as it stands it is no longer
/// the base's, in figures free of order it is.
fn is_strange(own: f64, moved: &[f64; FREE]) -> bool {
    own >= STRANGE_CHANGE && least(moved) <= STRANGE_MOVED
}

/// Whether a matrix was rescaled, judged likewise.
fn is_rescaled(moved: &[f64; FREE]) -> bool {
    let norms = moved[0].max(moved[1]);
    norms >= RESCALED_MOVED && norms.is_finite() && least(moved) * RESCALED_RATIO <= norms
}

/// Whether a change of this size, and this size in free figures, is a disguise rather than training.
pub(super) fn is_disguise(own: f64, moved: &[f64; FREE]) -> bool {
    is_strange(own, moved) || is_rescaled(moved)
}

fn least(values: &[f64; FREE]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Whether a matrix is the elder's in figures free of order and scale.
fn is_near_free(figures: &Figures) -> bool {
    let excused = (ROUNDING_FREE * figures.rounding).min(NEAR_FREE_MAX);
    let limit = if is_disguised(figures) { excused.max(NEAR_FREE) } else { NEAR_FREE };
    let free = least(&figures.free);
    free <= limit && (is_disguised(figures) || figures.distance >= FREE_RATIO * free)
}

fn is_disguised(figures: &Figures) -> bool {
    is_disguise(figures.own, &figures.moved)
}

fn standard_error(values: &[f64], middle: f64) -> f64 {
    let deviation = median(values.iter().map(|value| (value - middle).abs()).collect());
    // A median's error under normal noise: 1.2533 σ/√n, with σ from the median deviation.
    1.2533 * 1.4826 * deviation / (values.len().max(1) as f64).sqrt()
}

impl Summary {
    /// Sums up; `beyond` are the directions that the younger's change fills where the elder changed nothing.
    #[must_use]
    pub fn of(figures: &[Figures], beyond: &[(f64, usize)]) -> Self {
        if figures.is_empty() {
            return Self::default();
        }
        let count = figures.len() as f64;
        let part = |is: &dyn Fn(&Figures) -> bool| figures.iter().filter(|figures| is(figures)).count() as f64 / count;
        let middle = |of: &dyn Fn(&Figures) -> f64| median(figures.iter().map(of).collect());
        let shares: Vec<f64> = figures.iter().map(|figures| figures.share).collect();
        let share = median(shares.clone());
        let own_spreads = figures.iter().filter_map(|figures| Some((figures.spread?, figures.numbers)));
        let (mut spread, mut spread_numbers) = (0.0, 0.0);
        for (value, numbers) in own_spreads.chain(beyond.iter().copied()) {
            spread += value * numbers as f64;
            spread_numbers += numbers as f64;
        }
        let free_shares: Vec<f64> =
            figures.iter().filter(|figures| is_disguised(figures)).map(|figures| figures.free_share).collect();
        let free_share = median(free_shares.clone());
        let touched: f64 = figures.iter().map(|figures| figures.touched).sum();
        let last_bit: f64 = figures.iter().map(|figures| figures.touched * figures.last_bit).sum();
        let rest = middle(&|figures| figures.rest);
        let expected = 1.2533 * rest / (middle(&|figures| figures.numbers as f64) * count).sqrt();
        let scatter = standard_error(&shares, share);
        Self {
            matrices: figures.len(),
            same: part(&|figures| figures.same),
            left: part(&|figures| figures.own == 0.0),
            near: part(&|figures| figures.distance <= NEAR),
            matched: part(&|figures| figures.distance <= NEAR || is_near_free(figures)),
            disguised: part(&is_disguised),
            rescaled: part(&|figures| is_rescaled(&figures.moved)),
            change: middle(&|figures| figures.change),
            cosine: middle(&|figures| figures.cosine),
            share,
            // Few matrices can agree by luck.
            share_error: scatter.max(expected),
            unevenness: if expected > 0.0 { scatter / expected } else { 0.0 },
            distance: middle(&|figures| figures.distance),
            rest,
            rounding: middle(&|figures| figures.rounding),
            free: middle(&|figures| least(&figures.free)),
            free_share,
            free_share_error: standard_error(&free_shares, free_share),
            touched: touched / count,
            last_bit: if touched > 0.0 { last_bit / touched } else { 1.0 },
            spread: if spread_numbers > 0.0 { spread / spread_numbers } else { 0.0 },
            // The number of directions of noise's sketch deviates by one over its side, relative to its mean.
            spread_error: spread_numbers.sqrt().recip(),
            evenness: middle(&|figures| figures.evenness),
        }
    }
}

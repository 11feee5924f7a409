//! Mixtures of two models of the corpus.
//!
//! Owns the search for two elders whose changes, weighted, are the model's. Refuses to judge pairs. `corpus` calls it
//! when no elder alone explains the model.

use super::{
    aligned::Aligned,
    corpus::{MIXED_MAX, Placed},
    evidence::{dot, median, minus},
    print::{Fingerprint, SlicePrint},
    verdict::{Finding, MATRICES_MIN},
};

/// Least share of the victim in a mixture.
const SHARE_MIN: f64 = 0.3;
/// Least share of the other model: below it the mixture is the victim with noise.
const OTHER_MIN: f64 = 0.02;
/// What two elders may leave unexplained, over what rounding does: seen 1.2 for mixtures. Three honest runs on the
/// same data leave 8 and more.
const ROUNDING: f64 = 2.0;
/// The same over the victim's change, where rounding excuses more.
const REST_MAX: f64 = 0.3;
/// The most that both shares may add up to: one, and what rounding of small changes adds.
const SUM_MAX: f64 = 1.2;
/// Squared sine of the angle of two changes below which they count as parallel.
const PARALLEL: f64 = 1e-4;
/// Median deviation over matrices that the victim's share may have: a mixture has the same everywhere.
const UNEVEN_MAX: f64 = 0.1;

/// Numbers from which fewer matrices do: two shares that leave a thousand numbers to rounding are no luck.
const NUMBERS_MIN: usize = 1024;
/// Matrices looked at.
const MATRICES_MAX: usize = 256;

/// A mixture found: the places of the elder with the larger share and of the other.
pub(super) struct Mixture {
    pub victim: usize,
    pub other: usize,
}

/// Shares of two elders in the model and what they leave, matrix by matrix, in medians.
struct Fit {
    shares: [f64; 2],
    uneven: f64,
    rest: f64,
    rounding: f64,
}

/// A model's changes, one for each matrix looked at.
type Changes = Vec<Option<Vec<f64>>>;

/// The best mixture of two elders, if one explains the model up to rounding. The findings are the elders' own.
pub(super) fn find(
    model: &Aligned<'_>,
    elders: &[&Placed<'_>],
    findings: &[Finding],
    base: &Fingerprint,
) -> Option<Mixture> {
    let stride = base.slices.len().div_ceil(MATRICES_MAX).max(1);
    let changes = |aligned: &Aligned<'_>| -> Changes {
        let places = base.slices.iter().zip(&aligned.slices).step_by(stride);
        let is_matrix = |b: &SlicePrint| b.rows > 1 && b.cols > 1;
        places.map(|(b, slice)| slice.filter(|_| is_matrix(b)).map(|slice| minus(&slice.sketch, &b.sketch))).collect()
    };
    let own = changes(model);
    let theirs: Vec<Changes> = elders.iter().map(|elder| changes(&elder.aligned)).collect();
    let slices = model.slices.iter().step_by(stride);
    let rounding: Vec<f64> =
        slices.map(|slice| slice.map_or(0.0, |slice| slice.dtype.rounding() * slice.energy.sqrt())).collect();
    let mut ranked: Vec<usize> = (0..elders.len()).collect();
    ranked.sort_by(|a, b| findings[*b].summary.cosine.total_cmp(&findings[*a].summary.cosine));
    let mut best: Option<(f64, Mixture)> = None;
    for victim in ranked.into_iter().take(MIXED_MAX) {
        for other in (0..elders.len()).filter(|other| *other != victim) {
            let Some(fit) = fit(&own, &theirs[victim], &theirs[other], &rounding) else { continue };
            if fit.is_mixture() && best.as_ref().is_none_or(|(rest, _)| fit.rest < *rest) {
                best = Some((fit.rest, Mixture { victim, other }));
            }
        }
    }
    best.map(|(_, mixture)| mixture)
}

impl Fit {
    fn is_mixture(&self) -> bool {
        let [victim, other] = self.shares;
        victim >= SHARE_MIN.max(other)
            && other >= OTHER_MIN
            && victim + other <= SUM_MAX
            && self.uneven <= UNEVEN_MAX
            && self.rest <= (ROUNDING * self.rounding).min(REST_MAX)
    }
}

/// Least squares over each matrix that both elders changed.
fn fit(own: &Changes, victim: &Changes, other: &Changes, rounding: &[f64]) -> Option<Fit> {
    let (mut ones, mut twos, mut rests, mut roundings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut numbers = 0;
    for (((x, v), m), rounding) in own.iter().zip(victim).zip(other).zip(rounding) {
        let (Some(x), Some(v), Some(m)) = (x, v, m) else { continue };
        let (vv, mm, vm) = (dot(v, v), dot(m, m), dot(v, m));
        let size = vv * mm - vm * vm;
        // Parallel changes cannot be told apart, and a matrix that one of the two left alone says nothing of its share.
        if size.is_nan() || size <= PARALLEL * vv * mm {
            continue;
        }
        let (xv, xm) = (dot(x, v), dot(x, m));
        let (one, two) = ((xv * mm - xm * vm) / size, (xm * vv - xv * vm) / size);
        let rest: f64 = x.iter().zip(v).zip(m).map(|((x, v), m)| (x - one * v - two * m).powi(2)).sum();
        numbers += v.len();
        ones.push(one);
        twos.push(two);
        rests.push((rest / vv).sqrt());
        roundings.push(rounding / vv.sqrt());
    }
    if ones.is_empty() || (ones.len() < MATRICES_MIN && numbers < NUMBERS_MIN) {
        return None;
    }
    let shares = [median(ones.clone()), median(twos)];
    let uneven = median(ones.iter().map(|share| (share - shares[0]).abs()).collect());
    Some(Fit { shares, uneven, rest: median(rests), rounding: median(roundings) })
}

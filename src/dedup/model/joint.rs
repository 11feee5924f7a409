//! What is an elder's alone in a model, when every other model of the corpus had its say.
//!
//! Owns the regression of a model's change on the changes of many elders at once. Refuses to judge: `corpus` does.
//!
//! Runs on the same data share much of their change, so the share of one elder alone says little: two honest runs may
//! hold a share of one in each other by luck. What a run owes to its own order of data no other run has. A model that
//! was built from an elder has that part of it as well, in a share of one, however far it was trained on; an honest
//! one has none of it.

use super::{
    corpus::Placed,
    evidence::{dot, minus},
    print::{Fingerprint, SlicePrint},
};

/// Matrices looked at: more than these add precision that is not needed.
const MATRICES_MAX: usize = 48;
/// Elders whose changes are taken out: the nearest to the candidate. Each takes one number of thousands.
const OTHERS_MAX: usize = 24;
/// Cosine of two elders' changes from which one may be made of the other, if its share is near one as well: it would
/// take the candidate's own part away. Seen of further trainings: 0.974 and more.
const TWIN_COSINE: f64 = 0.965;
/// Deviation of that share from one.
const TWIN_SHARE: f64 = 0.1;
/// Cosine from which one is the other's change stretched: honest runs 0.993.
const PARALLEL_COSINE: f64 = 0.995;
/// Cosine from which a share of nearly one is that of a further training or of noise.
const MADE_COSINE: f64 = 0.5;
/// Deviation of that share.
const MADE_SHARE: f64 = 0.03;
/// Part of a change below which nothing is left that could be looked at.
const NOTHING: f64 = 1e-9;

/// An elder's own part in a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Own {
    /// Share of the part that no other elder explains in the model: one for what was made of the elder.
    pub share: f64,
    /// Its standard error, from how it scatters over matrices.
    pub error: f64,
    /// Size of that part, over the elder's change.
    pub size: f64,
    /// Elders that were taken out.
    pub others: usize,
}

/// A model's changes in the matrices that were looked at, each divided by the size of the candidate's there.
type Change = Vec<f64>;

/// The candidate's own part in the model. None where the candidate changed nothing that both have. Elders that are
/// `made_of` the candidate have no say: they would take its own part away.
pub(super) fn own(
    model: &[Option<&SlicePrint>],
    candidate: &Placed<'_>,
    elders: &[&Placed<'_>],
    base: &Fingerprint,
    made_of: &dyn Fn(&Placed<'_>, &Placed<'_>) -> bool,
) -> Option<Own> {
    let places = places(model, &candidate.aligned.slices, base);
    let ends = ends(&places, base);
    let scale: Vec<f64> = places.iter().map(|at| size(candidate.aligned.slices[*at], &base.slices[*at])).collect();
    let change = |slices: &[Option<&SlicePrint>]| -> Change {
        let of = |(at, scale): (&usize, &f64)| {
            let (slice, b) = (slices[*at], &base.slices[*at]);
            let numbers = slice.map_or_else(|| vec![0.0; b.sketch.len()], |slice| minus(&slice.sketch, &b.sketch));
            numbers.into_iter().map(|value| value / scale).collect::<Vec<f64>>()
        };
        places.iter().zip(&scale).flat_map(of).collect()
    };
    let (x, v) = (change(model), change(&candidate.aligned.slices));
    let whole = dot(&v, &v);
    if whole.is_nan() || whole <= 0.0 {
        return None;
    }
    let others = elders.iter().filter(|elder| !std::ptr::eq(**elder, candidate));
    let regressors = others.filter_map(|elder| {
        let (likeness, change) = regressor(change(&elder.aligned.slices), &v)?;
        Some((likeness, *elder, change))
    });
    let mut near: Vec<_> = regressors.collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near = near.into_iter().filter(|(_, elder, _)| !made_of(elder, candidate)).take(OTHERS_MAX);
    let directions = orthonormal(near.map(|(_, _, change)| change));
    let (left, rest) = (without(v, &directions), without(x, &directions));
    let size = dot(&left, &left);
    if size <= NOTHING * whole {
        return None;
    }
    let share = dot(&rest, &left) / size;
    let mut squares = 0.0;
    let mut begin = 0;
    for end in ends {
        let part: f64 = (begin..end).map(|at| left[at] * (rest[at] - share * left[at])).sum();
        squares += part * part;
        begin = end;
    }
    // Few matrices scatter too little to tell: what is left counts as noise at least.
    let left_over: f64 = rest.iter().zip(&left).map(|(rest, left)| (rest - share * left).powi(2)).sum();
    let error = (squares.sqrt() / size).max((left_over / rest.len() as f64 / size).sqrt());
    Some(Own { share, error, size: (size / whole).sqrt(), others: directions.len() })
}

/// Places of matrices that the candidate changed and the model has.
fn places(model: &[Option<&SlicePrint>], candidate: &[Option<&SlicePrint>], base: &Fingerprint) -> Vec<usize> {
    let is_changed = |at: &usize| {
        let b = &base.slices[*at];
        let is_finite = |slice: &SlicePrint| slice.sketch.iter().all(|value| value.is_finite());
        b.rows > 1
            && b.cols > 1
            && model[*at].is_some_and(is_finite)
            && candidate[*at].is_some_and(|slice| slice.digest != b.digest && is_finite(slice))
            && size(candidate[*at], b) > 0.0
    };
    let all: Vec<usize> = (0..base.slices.len()).filter(is_changed).collect();
    let stride = all.len().div_ceil(MATRICES_MAX).max(1);
    all.into_iter().step_by(stride).collect()
}

/// Where each matrix's numbers end.
fn ends(places: &[usize], base: &Fingerprint) -> Vec<usize> {
    let mut sum = 0;
    let end = |at: &usize| {
        sum += base.slices[*at].sketch.len();
        sum
    };
    places.iter().map(end).collect()
}

fn size(slice: Option<&SlicePrint>, base: &SlicePrint) -> f64 {
    let change = slice.map(|slice| minus(&slice.sketch, &base.sketch)).unwrap_or_default();
    dot(&change, &change).sqrt()
}

/// An elder's change with its likeness to the candidate's, if it may be taken out.
fn regressor(change: Change, v: &Change) -> Option<(f64, Change)> {
    let (oo, vv, ov) = (dot(&change, &change), dot(v, v), dot(&change, v));
    if !oo.is_finite() || oo <= 0.0 {
        return None;
    }
    let (cosine, share) = (ov / (oo * vv).sqrt(), ov / vv);
    let is_twin = cosine >= TWIN_COSINE && (share - 1.0).abs() <= TWIN_SHARE;
    let is_made = cosine >= MADE_COSINE && (share - 1.0).abs() <= MADE_SHARE;
    (!is_twin && !is_made && cosine < PARALLEL_COSINE).then(|| (cosine.abs(), change))
}

/// Directions that span the changes, orthogonal and of size one; those that others span already are left out.
fn orthonormal(changes: impl Iterator<Item = Change>) -> Vec<Change> {
    let mut directions: Vec<Change> = Vec::new();
    for change in changes {
        let whole = dot(&change, &change);
        let mut left = without(change, &directions);
        let size = dot(&left, &left);
        if size > NOTHING * whole {
            let scale = size.sqrt().recip();
            left.iter_mut().for_each(|value| *value *= scale);
            directions.push(left);
        }
    }
    directions
}

/// What of a change the directions do not span.
fn without(mut change: Change, directions: &[Change]) -> Change {
    for direction in directions {
        let part = dot(&change, direction);
        change.iter_mut().zip(direction).for_each(|(value, direction)| *value -= part * direction);
    }
    change
}

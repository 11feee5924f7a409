//! What two models have in common beyond their base.
//!
//! Owns the figures of a pair, matrix by matrix, and their robust summary. Refuses to judge them: `verdict` does.

use super::{
    aligned::Aligned,
    kernel::Dtype,
    print::{BINS, Fingerprint, SIDE, SlicePrint},
    summary::{Summary, is_disguise},
};

/// Rows and columns from which a difference's spread over directions says anything.
const SPREAD_SIDE_MIN: u64 = 24;
/// Share of the elder's change in energy, and relative size of a change of its own, below which a difference is a trace
/// of some conversion and its directions say nothing.
const TRACE: f64 = 1e-6;
/// Number of kinds of figures that are free of order or scale.
pub const FREE: usize = 4;

/// Figures of one matrix that the elder model changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Elements.
    pub elements: u64,
    /// Numbers in its sketch that its rows and columns fill.
    pub numbers: usize,
    /// Size of the elder's change, relative to the base.
    pub change: f64,
    /// Size of the younger's change, relative to the base.
    pub own: f64,
    /// Cosine of the two changes.
    pub cosine: f64,
    /// Share of the elder's change in the younger's: its regression on the elder's.
    pub share: f64,
    /// Distance of the two models over the size of the elder's change.
    pub distance: f64,
    /// What of the younger's change the elder's does not explain, over the size of the elder's change.
    pub rest: f64,
    /// What rounding to the younger's type does, over the size of the elder's change.
    pub rounding: f64,
    /// Distance over the size of the elder's change in figures free of order or scale: row norms, column norms, row
    /// kurtosis, column kurtosis.
    pub free: [f64; FREE],
    /// Share of the elder's change in the younger's in the nearest of those figures.
    pub free_share: f64,
    /// Size of the younger's change in those figures, relative to the base.
    pub moved: [f64; FREE],
    /// Share of sampled elements that differ.
    pub touched: f64,
    /// Share of these that differ by one step of the stored type at most.
    pub last_bit: f64,
    /// Evenness of the difference relative to the weights: 0.64 for normal noise of one relative size.
    pub evenness: f64,
    /// Number of directions that the unexplained difference fills, over what noise fills; none where it is too small.
    pub spread: Option<f64>,
    /// Whether the contents are the same.
    pub same: bool,
}

/// Directions that normal noise fills in a sketch: the mean of tr(G)²/tr(G²) for G = SSᵀ of a 32 × 32 (8 × 8) normal
/// matrix S, by simulation of 20 000 each (a test repeats it).
const NOISE_DIRECTIONS: [(usize, f64); 2] = [(1024, 15.80), (64, 3.95)];

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub(super) fn minus(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) - f64::from(*y)).collect()
}

/// tr(G)²/tr(G²) for G = SSᵀ: how many directions a square sketch fills.
pub(super) fn directions(sketch: &[f64]) -> f64 {
    let side = sketch.len().isqrt();
    let rows: Vec<&[f64]> = sketch.chunks_exact(side.max(1)).collect();
    let trace: f64 = rows.iter().map(|row| dot(row, row)).sum();
    // G is symmetric: each pair of rows counts twice.
    let pairs = |at: usize| rows[at + 1..].iter().map(|other| 2.0 * dot(rows[at], other).powi(2)).sum::<f64>();
    let square: f64 = (0..rows.len()).map(|at| dot(rows[at], rows[at]).powi(2) + pairs(at)).sum();
    if square > 0.0 { trace * trace / square } else { 0.0 }
}

/// Directions that even noise fills in the sketch of a matrix of these sides: fewer where the sketch's rows and columns
/// stand for unequal numbers of the matrix's.
fn noise_directions(numbers: usize, rows: u64, cols: u64) -> f64 {
    let Some((_, mean)) = NOISE_DIRECTIONS.iter().find(|(count, _)| *count == numbers) else { return f64::INFINITY };
    let side = numbers.isqrt();
    let ((row, row_squares), (col, col_squares)) = (shares(rows, side), shares(cols, side));
    let even = (side as f64, side as f64);
    mean * expected(row, row_squares, col, col_squares) / expected(even.0, even.1, even.0, even.1)
}

/// Numbers of a sketch that a matrix of these sides fills.
fn numbers(sketch: usize, rows: u64, cols: u64) -> usize {
    let side = sketch.isqrt();
    side.min(rows as usize) * side.min(cols as usize)
}

/// How many of a matrix's rows (or columns) fall on each of the sketch's: their sum and their sum of squares.
fn shares(count: u64, side: usize) -> (f64, f64) {
    let per_place = SIDE / side;
    let of = |place: u64| (count / SIDE as u64 + u64::from(place < count % SIDE as u64)) as f64;
    let sums = (0..side).map(|at| (at * per_place..(at + 1) * per_place).map(|place| of(place as u64)).sum::<f64>());
    sums.fold((0.0, 0.0), |(sum, squares), value| (sum + value, squares + value * value))
}

/// E tr(G)² / E tr(G²) for G = SSᵀ and independent normal entries of variance rᵢcⱼ, from the sums and sums of squares
/// of r and c.
pub(super) fn expected(row: f64, row_squares: f64, col: f64, col_squares: f64) -> f64 {
    let (row_two, col_two) = (row * row, col * col);
    let both = row_squares * col_squares;
    (row_two * col_two + 2.0 * both) / (row_two * col_squares + row_squares * col_two + both)
}

const fn lists(slice: &SlicePrint) -> [&[f32; BINS]; FREE] {
    let shape = &slice.shape;
    [&shape.row_norms, &shape.column_norms, &shape.row_kurtosis, &shape.column_kurtosis]
}

/// Distances in the free figures over the elder's change, the share of that change in the nearest of them, and the
/// younger's own change.
fn free(x: &SlicePrint, v: &SlicePrint, b: &SlicePrint) -> ([f64; FREE], f64, [f64; FREE]) {
    let (mut apart, mut moved) = ([f64::INFINITY; FREE], [f64::INFINITY; FREE]);
    let (mut nearest, mut share) = (f64::INFINITY, 0.0);
    for (at, ((x, v), b)) in lists(x).into_iter().zip(lists(v)).zip(lists(b)).enumerate() {
        let (change, gap, own) = (minus(v, b), minus(x, v), minus(x, b));
        let common = dot(&change, &own);
        let size: f64 = b.iter().map(|value| f64::from(*value).powi(2)).sum();
        let (change, gap, own) = (dot(&change, &change), dot(&gap, &gap), dot(&own, &own));
        // Below that the figures' own rounding is what changed.
        if change > size * 1e-12 && gap.is_finite() {
            apart[at] = (gap / change).sqrt();
            if apart[at] < nearest {
                (nearest, share) = (apart[at], common / change);
            }
        }
        if size > 0.0 && own.is_finite() {
            moved[at] = (own / size).sqrt();
        }
    }
    (apart, share, moved)
}

/// Share of samples that differ, and share of these within one step of the elder's type.
fn touched(x: &SlicePrint, v: &SlicePrint) -> (f64, f64) {
    let fraction_bits = match v.dtype {
        Dtype::Bf16 => 7,
        Dtype::F16 => 10,
        _ => 23,
    };
    // The step at a value: its power of two, moved by the bits of the fraction.
    let step = |value: f32| f32::from_bits(value.to_bits() & 0x7f80_0000) * 2f32.powi(-fraction_bits);
    let differing: Vec<_> = x.samples.iter().zip(&v.samples).filter(|(x, v)| x != v).collect();
    let close = differing.iter().filter(|(x, v)| (**x - **v).abs() <= step(x.abs().max(v.abs()))).count();
    let count = differing.len();
    (count as f64 / x.samples.len() as f64, if count > 0 { close as f64 / count as f64 } else { 1.0 })
}

fn evenness(x: &SlicePrint, v: &SlicePrint) -> f64 {
    let pairs = x.samples.iter().zip(&v.samples).filter(|(_, v)| **v != 0.0);
    let relative: Vec<f64> = pairs.map(|(x, v)| f64::from(x - v) / f64::from(*v)).collect();
    let count = relative.len().max(1) as f64;
    let (mean, square) = (relative.iter().map(|r| r.abs()).sum::<f64>() / count, dot(&relative, &relative) / count);
    if square > 0.0 { mean * mean / square } else { 0.0 }
}

/// Figures of one matrix, if the elder changed it.
pub(super) fn matrix(x: &SlicePrint, v: &SlicePrint, b: &SlicePrint) -> Option<Figures> {
    if v.rows < 2 || v.cols < 2 {
        return None;
    }
    let (dv, dx, gap) = (minus(&v.sketch, &b.sketch), minus(&x.sketch, &b.sketch), minus(&x.sketch, &v.sketch));
    let (vv, xx, rr, vx) = (dot(&dv, &dv), dot(&dx, &dx), dot(&gap, &gap), dot(&dv, &dx));
    if !(vv > 0.0 && vv.is_finite() && xx.is_finite()) || v.digest == b.digest {
        return None;
    }
    let share = vx / vv;
    let rest: Vec<f64> = dx.iter().zip(&dv).map(|(x, v)| x - share * v).collect();
    let unexplained = dot(&rest, &rest);
    let is_spread_known = v.rows.min(v.cols) >= SPREAD_SIDE_MIN && unexplained > TRACE * vv;
    let (free, free_share, moved) = free(x, v, b);
    let (touched, last_bit) = touched(x, v);
    Some(Figures {
        elements: v.rows * v.cols,
        numbers: numbers(v.sketch.len(), v.rows, v.cols),
        change: (vv / b.energy).sqrt(),
        own: (xx / b.energy).sqrt(),
        cosine: if xx > 0.0 { vx / (vv * xx).sqrt() } else { 0.0 },
        share,
        distance: (rr / vv).sqrt(),
        rest: (unexplained / vv).sqrt(),
        rounding: x.dtype.rounding() * (x.energy / vv).sqrt(),
        free,
        free_share,
        moved,
        touched,
        last_bit,
        evenness: evenness(x, v),
        spread: is_spread_known.then(|| directions(&rest) / noise_directions(rest.len(), v.rows, v.cols)),
        same: x.digest == v.digest && x.dtype == v.dtype,
    })
}

/// The figures of all matrices that the elder changed and that both have, with their places in the base.
pub(super) fn figures_at(x: &Aligned<'_>, v: &Aligned<'_>, base: &Fingerprint, stride: usize) -> Vec<(usize, Figures)> {
    let places = base.slices.iter().enumerate().step_by(stride.max(1));
    places.filter_map(|(at, b)| Some((at, matrix(x.slices[at]?, v.slices[at]?, b)?))).collect()
}

/// Directions that the younger's own change fills, over those of noise, in each matrix that the elder left as in the
/// base, with the numbers that say so: a copier's noise is noise there too.
pub(super) fn beyond(x: &Aligned<'_>, v: &Aligned<'_>, base: &Fingerprint, stride: usize) -> Vec<(f64, usize)> {
    let spread = |at: usize, b: &SlicePrint| {
        let (x, v) = (x.slices[at]?, v.slices[at]?);
        let is_left = v.digest == b.digest && x.digest != b.digest && b.rows.min(b.cols) >= SPREAD_SIDE_MIN;
        let change = minus(&x.sketch, &b.sketch);
        let size = dot(&change, &change);
        if !is_left || size <= TRACE * TRACE * b.energy || is_disguise((size / b.energy).sqrt(), &free(x, v, b).2) {
            return None;
        }
        let spread = directions(&change) / noise_directions(change.len(), b.rows, b.cols);
        Some((spread, numbers(change.len(), b.rows, b.cols)))
    };
    base.slices.iter().enumerate().step_by(stride.max(1)).filter_map(|(at, b)| spread(at, b)).collect()
}

/// The figures of a pair.
#[must_use]
pub fn figures(younger: &Fingerprint, elder: &Fingerprint, base: &Fingerprint) -> Vec<Figures> {
    let (x, v) = (Aligned::of(younger, base), Aligned::of(elder, base));
    figures_at(&x, &v, base, 1).into_iter().map(|(_, figures)| figures).collect()
}

/// The summary of a pair.
#[must_use]
pub fn summary(younger: &Fingerprint, elder: &Fingerprint, base: &Fingerprint) -> Summary {
    summary_of(&Aligned::of(younger, base), &Aligned::of(elder, base), base)
}

/// The summary of a pair that is laid beside its base.
pub(super) fn summary_of(x: &Aligned<'_>, v: &Aligned<'_>, base: &Fingerprint) -> Summary {
    let figures: Vec<_> = figures_at(x, v, base, 1).into_iter().map(|(_, figures)| figures).collect();
    Summary::of(&figures, &beyond(x, v, base, 1))
}

/// The middle of a list; zero of an empty one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::generate::rng::Rng;

    #[test]
    fn noise_fills_as_many_directions_as_the_table_says() {
        let mut rng = Rng::new(1);
        for (count, expected) in NOISE_DIRECTIONS {
            let rounds = 2000;
            let sum: f64 =
                (0..rounds).map(|_| directions(&(0..count).map(|_| f64::from(rng.normal())).collect::<Vec<_>>())).sum();
            let mean = sum / f64::from(rounds);
            assert!((mean / expected - 1.0).abs() < 0.01, "{count}: {mean}");
        }
    }

    #[test]
    fn noise_in_odd_sides_fills_fewer_directions() {
        assert!((noise_directions(1024, 64, 128) - 15.80).abs() < 1e-9);
        let mut rng = Rng::new(2);
        let rounds = 1000;
        let mut sum = 0.0;
        for _ in 0..rounds {
            let mut sketch = vec![0.0; 1024];
            for row in 0..24 {
                for col in 0..40 {
                    sketch[row % 32 * 32 + col % 32] += f64::from(rng.normal());
                }
            }
            sum += directions(&sketch);
        }
        let mean = sum / f64::from(rounds);
        assert!((mean / noise_directions(1024, 24, 40) - 1.0).abs() < 0.015, "{mean}");
    }
}

//! Patterns: whether two aligned networks differ as noise does, or as training does.
//!
//! Owns that one question. Refuses to know thresholds and to align: `align` has done it. `dedup::policy` asks when two
//! networks are nearer than strangers come.
//!
//! Who leaves the seed of a published script as it is begins with the same weights as others, and after little
//! training they are as near to one another as a copy with much noise is to its victim. But every step of training
//! adds products of a layer's inputs and the errors behind it, so that neurons change alike: the signs of the
//! difference repeat from row to row. Signs of noise are independent, whatever its size. So the agreement of signs
//! between rows is held against chance, whose mean and variance are exact: over `n` places where both rows have a sign,
//! the squared sum of products has mean `n` and variance `2 n (n - 1)`, and different pairs are uncorrelated.
//!
//! Who scales another's neurons leaves a pattern too, but one of the factors: the signs of difference times weight. So
//! does the balancing of scales in the sketch, a little, wherever there is noise.

use super::{
    align::{Alignment, Layer},
    sketch::WeightSketch,
};

/// The shorter side of a layer that can tell training from noise. Layers beside few observations or few actions show
/// too little of it: measured on networks of one hidden layer, in which both look the same.
const TELLING_SIDE: usize = 24;
/// A difference below this fraction of the layer's typical weight is rounding and has no sign.
const ROUNDING: f64 = 1e-6;

/// How far signs agree beyond chance, in standard deviations. Noise on the stored policies leaves less than 5, or up to
/// 9 with four times as much of factors; training of two hidden layers from one start 10 at least, and hundreds where
/// they are 64 wide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pattern {
    /// Of the differences themselves, as training leaves it.
    pub additive: f64,
    /// Of the differences as factors, as scaling leaves it.
    pub scaling: f64,
}

impl Pattern {
    /// The pattern of the difference of two aligned networks; `None` where no layer can tell. The last layer does not
    /// count: what is free in its answers was taken out, which leaves a pattern of its own.
    pub(super) fn of(a: &WeightSketch, b: &WeightSketch, alignment: &Alignment) -> Option<Self> {
        let (mut additive, mut scaling) = (Chance::default(), Chance::default());
        let mut can_tell = false;
        for at in (0..a.weights.len()).filter(|at| Some(*at) != a.last) {
            let Some(layer) = alignment.layer(a, b, at) else { continue };
            can_tell |= layer.rows.min(layer.columns) >= TELLING_SIDE;
            additive.add(&layer, |_own, difference| difference);
            scaling.add(&layer, |own, difference| difference * own);
        }
        can_tell.then(|| Self { additive: additive.deviations(), scaling: scaling.deviations() })
    }
}

/// Sums over pairs of rows.
#[derive(Debug, Default)]
struct Chance {
    excess: f64,
    variance: f64,
}

/// The signs of one row, as bits.
#[derive(Clone)]
struct Signs {
    positive: Vec<u64>,
    negative: Vec<u64>,
}

impl Chance {
    fn add(&mut self, layer: &Layer, value: impl Fn(f64, f64) -> f64) {
        let rows = signs(layer, value);
        for (at, row) in rows.iter().enumerate() {
            for other in &rows[..at] {
                let (agree, differ) = row.against(other);
                let (places, sum) = (agree + differ, agree - differ);
                self.excess += sum * sum - places;
                self.variance += 2.0 * places * (places - 1.0);
            }
        }
    }

    fn deviations(&self) -> f64 {
        if self.variance > 0.0 { self.excess / self.variance.sqrt() } else { 0.0 }
    }
}

impl Signs {
    /// In how many places two rows have the same sign, and in how many opposite ones.
    fn against(&self, other: &Self) -> (f64, f64) {
        let count = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(x, y)| (x & y).count_ones()).sum::<u32>();
        let agree = count(&self.positive, &other.positive) + count(&self.negative, &other.negative);
        let differ = count(&self.positive, &other.negative) + count(&self.negative, &other.positive);
        (f64::from(agree), f64::from(differ))
    }
}

/// The signs of a layer, the shorter side as rows.
fn signs(layer: &Layer, value: impl Fn(f64, f64) -> f64) -> Vec<Signs> {
    let (count, length) = (layer.rows.min(layer.columns), layer.rows.max(layer.columns));
    let words = vec![0; length.div_ceil(64)];
    let mut rows = vec![Signs { positive: words.clone(), negative: words }; count];
    let typical = (layer.own.iter().map(|own| own * own).sum::<f64>() / layer.own.len().max(1) as f64).sqrt();
    for (at, (own, other)) in layer.own.iter().zip(&layer.other).enumerate() {
        let (row, column) = (at / layer.columns, at % layer.columns);
        let (row, place) = if layer.rows <= layer.columns { (row, column) } else { (column, row) };
        if (other - own).abs() <= ROUNDING * typical {
            continue;
        }
        let value = value(*own, other - own);
        let bit = 1 << (place % 64);
        if value > 0.0 {
            rows[row].positive[place / 64] |= bit;
        } else if value < 0.0 {
            rows[row].negative[place / 64] |= bit;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 without a pattern.
    fn noise(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn deviations(rows: usize, columns: usize, own: &[f64], change: impl Fn(usize, f64) -> f64) -> (f64, f64) {
        let other = own.iter().enumerate().map(|(at, own)| own + change(at, *own)).collect();
        let layer = Layer { rows, columns, own: own.to_vec(), other };
        let (mut additive, mut scaling) = (Chance::default(), Chance::default());
        additive.add(&layer, |_own, difference| difference);
        scaling.add(&layer, |own, difference| difference * own);
        (additive.deviations(), scaling.deviations())
    }

    #[test]
    fn noise_has_no_pattern_whatever_its_size_and_form() {
        for (rows, columns) in [(24, 24), (65, 64), (33, 96)] {
            for seed in 1..200 {
                let (own, random) = (noise(rows * columns, seed), noise(rows * columns, seed + 1000));
                for size in [1e-5, 1e-2] {
                    let plain = deviations(rows, columns, &own, |at, _own| size * random[at]);
                    let relative = deviations(rows, columns, &own, |at, own| size * random[at] * own);
                    for (additive, scaling) in [plain, relative] {
                        assert!(
                            additive < 5.0 && scaling < 5.0,
                            "{rows}x{columns}, seed {seed}: {additive}, {scaling}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_of_inputs_and_errors_is_a_pattern_under_any_noise_of_its_size() {
        let (rows, columns) = (32, 32);
        for seed in 1..50 {
            let own = noise(rows * columns, seed);
            let (inputs, errors) = (noise(rows, seed + 100), noise(columns, seed + 200));
            let random = noise(rows * columns, seed + 300);
            let step = |at: usize, _own: f64| 0.01 * (inputs[at / columns] * errors[at % columns] + 0.3 * random[at]);
            let (additive, scaling) = deviations(rows, columns, &own, step);
            assert!(additive > 20.0 && scaling < 5.0, "seed {seed}: {additive}, {scaling}");
        }
    }

    #[test]
    fn factors_are_a_pattern_of_their_own() {
        let (rows, columns) = (32, 48);
        let (own, factors) = (noise(rows * columns, 1), noise(columns, 2));
        let (additive, scaling) = deviations(rows, columns, &own, |at, own| 0.01 * factors[at % columns] * own);
        assert!(scaling > 100.0 && additive < 5.0, "{additive}, {scaling}");
    }

    #[test]
    fn rounding_and_equality_have_no_sign() {
        let own = noise(32 * 32, 5);
        assert_eq!(deviations(32, 32, &own, |_at, _own| 0.0), (0.0, 0.0));
        assert_eq!(deviations(32, 32, &own, |_at, own| 1e-8 * own), (0.0, 0.0));
    }
}

//! Alignment: the order of neurons in which two networks of one skeleton agree best, and how far apart they then are.
//!
//! Owns the matching of neurons and the distance of weights. Refuses networks of different skeletons and to know
//! thresholds. `dedup::policy` calls it.
//!
//! The distance is that of the layer that agrees worst, as a fraction of its own size: a copy agrees everywhere, while
//! twins that were trained apart disagree somewhere, whatever else they share.

use super::sketch::{WeightSketch, Weights};

/// Widest layer whose neurons are matched, as the time grows with the cube of it. Wider ones are compared in the order
/// in which they stand.
const MATCHED_NEURONS: usize = 512;
/// Distance of the product of all layers beyond which no order of neurons brings two networks together. Noise of 1 %
/// leaves a few hundredths; it spares most pairs the matching.
const PATH_CUT: f64 = 0.7;
/// Distance beyond which a third round is not worth its time: a copy is all but matched after two.
const ROUND_CUT: f64 = 0.7;
/// Rounds of matching: each uses the order that the last one found for the neighbouring layers.
const ROUNDS: usize = 4;

/// Where a neuron of the first network stands in the second, and with which sign.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    at: usize,
    sign: f64,
}

/// Two networks side by side.
#[derive(Debug, Clone)]
pub(super) struct Alignment {
    /// How far they are apart.
    pub distance: f64,
    places: Vec<Vec<Place>>,
}

/// A linear layer of both networks, the biases as its last row.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Inputs and one.
    pub rows: usize,
    /// Neurons.
    pub columns: usize,
    /// The first network's weights, row by row.
    pub own: Vec<f64>,
    /// Those of the second that stand in their places.
    pub other: Vec<f64>,
}

impl Alignment {
    /// The linear layer at this place of the weights, in the order that was found; `None` for other weights.
    pub(super) fn layer(&self, a: &WeightSketch, b: &WeightSketch, at: usize) -> Option<Layer> {
        let (Weights::Linear { from, to, matrix, bias }, Weights::Linear { matrix: matrix_b, bias: bias_b, .. }) =
            (a.weights.get(at)?, b.weights.get(at)?)
        else {
            return None;
        };
        let (from, to) = (&self.places[*from], &self.places[*to]);
        let columns = to.len();
        let mut other = Vec::with_capacity(matrix.len() + bias.len());
        for row in from {
            other.extend(to.iter().map(|column| row.sign * column.sign * matrix_b[row.at * columns + column.at]));
        }
        other.extend(to.iter().map(|column| column.sign * bias_b[column.at]));
        let own = matrix.iter().chain(bias).copied().collect();
        Some(Layer { rows: from.len() + 1, columns, own, other })
    }
}

/// Aligns two networks; `None` for different skeletons. When it is clear that they are apart, the distance is what was
/// reached until then. The search for a better order ends at a distance of `enough`.
pub(super) fn align(a: &WeightSketch, b: &WeightSketch, enough: f64) -> Option<Alignment> {
    if a.skeleton != b.skeleton || a.groups.len() != b.groups.len() || a.weights.len() != b.weights.len() {
        return None;
    }
    let pair = Pair { a, b };
    if !pair.fits() {
        return None;
    }
    let mut places = pair.unmoved();
    let mut best = Alignment { distance: pair.measure(&places), places: places.clone() };
    if path_distance(a, b).is_some_and(|distance| distance > PATH_CUT) {
        return Some(best);
    }
    for round in 0..ROUNDS {
        if best.distance <= enough || (round >= 2 && best.distance > ROUND_CUT) {
            break;
        }
        for group in 0..a.groups.len() {
            if a.groups[group].is_free && b.groups[group].is_free && a.groups[group].size <= MATCHED_NEURONS {
                places[group] = pair.matched(group, &places, round == 0);
            }
        }
        let distance = pair.measure(&places);
        if distance < best.distance {
            best = Alignment { distance, places: places.clone() };
        }
    }
    Some(best)
}

/// How far the products of all layers are apart, each scaled to length one.
fn path_distance(a: &WeightSketch, b: &WeightSketch) -> Option<f64> {
    let (a, b) = (a.path.as_ref()?, b.path.as_ref()?);
    let norm = |path: &[f64]| path.iter().map(|value| value * value).sum::<f64>().sqrt();
    let (norm_a, norm_b) = (norm(a), norm(b));
    let distance = a.iter().zip(b).map(|(x, y)| (x / norm_a - y / norm_b).powi(2)).sum::<f64>().sqrt();
    distance.is_finite().then_some(distance)
}

struct Pair<'a> {
    a: &'a WeightSketch,
    b: &'a WeightSketch,
}

impl Pair<'_> {
    /// One skeleton should mean one form; a sketch that disagrees is not compared.
    fn fits(&self) -> bool {
        let groups = self.a.groups.iter().zip(&self.b.groups).all(|(a, b)| a.size == b.size);
        let weights = self.a.weights.iter().zip(&self.b.weights).all(|(a, b)| match (a, b) {
            (
                Weights::Linear { from, to, matrix, bias },
                Weights::Linear { from: from_b, to: to_b, matrix: matrix_b, bias: bias_b },
            ) => (from, to, matrix.len(), bias.len()) == (from_b, to_b, matrix_b.len(), bias_b.len()),
            (Weights::Row { group, values }, Weights::Row { group: group_b, values: values_b }) => {
                (group, values.len()) == (group_b, values_b.len())
            }
            (Weights::Plain(values), Weights::Plain(values_b)) => values.len() == values_b.len(),
            _ => false,
        });
        groups && weights
    }

    fn unmoved(&self) -> Vec<Vec<Place>> {
        let own = |size: usize| (0..size).map(|at| Place { at, sign: 1.0 }).collect();
        self.a.groups.iter().map(|group| own(group.size)).collect()
    }

    /// The distance of the worst layer under these places.
    fn measure(&self, places: &[Vec<Place>]) -> f64 {
        let mut worst = 0.0_f64;
        for (a, b) in self.a.weights.iter().zip(&self.b.weights) {
            let mut layer = Sums::default();
            match (a, b) {
                (
                    Weights::Linear { from, to, matrix, bias },
                    Weights::Linear { matrix: matrix_b, bias: bias_b, .. },
                ) => {
                    let (from, to) = (&places[*from], &places[*to]);
                    let width = to.len();
                    for (i, row) in from.iter().enumerate() {
                        for (j, column) in to.iter().enumerate() {
                            let other = row.sign * column.sign * matrix_b[row.at * width + column.at];
                            layer.add(matrix[i * width + j], other);
                        }
                    }
                    for (j, column) in to.iter().enumerate() {
                        layer.add(bias[j], column.sign * bias_b[column.at]);
                    }
                }
                (Weights::Row { group, values }, Weights::Row { values: values_b, .. }) => {
                    for (j, place) in places[*group].iter().enumerate() {
                        layer.add(values[j], values_b[place.at]);
                    }
                }
                (Weights::Plain(values), Weights::Plain(values_b)) => {
                    values.iter().zip(values_b).for_each(|(a, b)| layer.add(*a, *b));
                }
                _ => return f64::INFINITY,
            }
            worst = worst.max(layer.distance());
        }
        worst
    }

    /// The order of one layer's neurons that fits its neighbours best. In the first round the neighbours after it have
    /// no order yet, so only those with a fixed order count.
    fn matched(&self, group: usize, places: &[Vec<Place>], is_first: bool) -> Vec<Place> {
        let size = self.a.groups[group].size;
        let features = Features::of(self, group, places, is_first);
        let is_odd = self.a.groups[group].is_odd && self.b.groups[group].is_odd;
        let mut pairs = Vec::with_capacity(size * size);
        for i in 0..size {
            for j in 0..size {
                let (same, flipped) = features.apart(i, j);
                let (apart, sign) = if is_odd && flipped < same { (flipped, -1.0) } else { (same, 1.0) };
                pairs.push((apart, i, Place { at: j, sign }));
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut found: Vec<Option<Place>> = vec![None; size];
        let mut taken = vec![false; size];
        for (_, i, place) in pairs {
            if found[i].is_none() && !taken[place.at] {
                found[i] = Some(place);
                taken[place.at] = true;
            }
        }
        // Every neuron was paired with every other, so each has found one.
        found.into_iter().enumerate().map(|(at, place)| place.unwrap_or(Place { at, sign: 1.0 })).collect()
    }
}

/// What each neuron of a layer has to do with its neighbours, in both networks, in one order.
struct Features {
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
    /// How much of a neuron turns with its sign.
    signed: usize,
}

impl Features {
    fn of(pair: &Pair<'_>, group: usize, places: &[Vec<Place>], is_first: bool) -> Self {
        let size = pair.a.groups[group].size;
        let mut features = Self { a: vec![Vec::new(); size], b: vec![Vec::new(); size], signed: 0 };
        for (a, b) in pair.a.weights.iter().zip(&pair.b.weights) {
            let (Weights::Linear { from, to, matrix, bias }, Weights::Linear { matrix: matrix_b, bias: bias_b, .. }) =
                (a, b)
            else {
                continue;
            };
            let width = bias.len();
            let known = |other: usize| !is_first || other < group || !pair.a.groups[other].is_free;
            // Both directions weigh the same, whatever the scale of their weights.
            let scale = |matrix: &[f64]| {
                let norm = matrix.iter().map(|value| value * value).sum::<f64>();
                if norm > 0.0 { norm.sqrt().recip() } else { 0.0 }
            };
            let (scale_a, scale_b) = (scale(matrix), scale(matrix_b));
            if *to == group && known(*from) {
                for j in 0..size {
                    let rows = places[*from].iter();
                    features.a[j].extend((0..places[*from].len()).map(|i| scale_a * matrix[i * width + j]));
                    features.a[j].push(scale_a * bias[j]);
                    features.b[j].extend(rows.map(|row| scale_b * row.sign * matrix_b[row.at * width + j]));
                    features.b[j].push(scale_b * bias_b[j]);
                }
            }
            if *from == group && known(*to) {
                for i in 0..size {
                    let columns = places[*to].iter();
                    features.a[i].extend((0..columns.len()).map(|j| scale_a * matrix[i * width + j]));
                    features.b[i].extend(columns.map(|column| scale_b * column.sign * matrix_b[i * width + column.at]));
                }
            }
        }
        features.signed = features.a.first().map_or(0, Vec::len);
        features.add_rows(pair, group);
        features
    }

    fn add_rows(&mut self, pair: &Pair<'_>, group: usize) {
        for (a, b) in pair.a.weights.iter().zip(&pair.b.weights) {
            let (Weights::Row { group: of, values }, Weights::Row { values: values_b, .. }) = (a, b) else { continue };
            if *of == group {
                self.a.iter_mut().zip(values).for_each(|(features, value)| features.push(*value));
                self.b.iter_mut().zip(values_b).for_each(|(features, value)| features.push(*value));
            }
        }
    }

    /// Squared distance of two neurons, as they are and with the sign of the second turned.
    fn apart(&self, i: usize, j: usize) -> (f64, f64) {
        let (mut same, mut flipped) = (0.0, 0.0);
        for (at, (x, y)) in self.a[i].iter().zip(&self.b[j]).enumerate() {
            same += (x - y) * (x - y);
            let turned = if at < self.signed { x + y } else { x - y };
            flipped += turned * turned;
        }
        (same, flipped)
    }
}

/// Sums of one layer.
#[derive(Debug, Default)]
struct Sums {
    difference: f64,
    norms: f64,
}

impl Sums {
    fn add(&mut self, a: f64, b: f64) {
        // Two equal infinities agree.
        if a.to_bits() != b.to_bits() {
            self.difference += (a - b) * (a - b);
        }
        self.norms += (a * a + b * b).min(f64::MAX);
    }

    fn distance(&self) -> f64 {
        if self.difference == 0.0 {
            return 0.0;
        }
        let distance = (2.0 * self.difference / self.norms).sqrt();
        if distance.is_finite() { distance } else { f64::INFINITY }
    }
}

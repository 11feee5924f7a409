//! Candidates among many models: the few that are worth a comparison in full.
//!
//! Owns one short vector in each of three likenesses for every model, and the search among them. Refuses to judge, and
//! to keep anything on disk: it is made anew from the fingerprints, which are the truth. `corpus` calls it.
//!
//! A vector is a projection of what a model adds to its base, over the base's own matrices: it has the same length for
//! every model, so an added tensor or another shape here or there hides nothing.

use hnsw_rs::prelude::{DistL2, Hnsw};

use super::{
    aligned::Aligned,
    key::word_at,
    print::{Fingerprint, SlicePrint},
};

/// Numbers of a vector: tells a cosine within 0.05.
const NUMBERS: usize = 512;
/// Likenesses: by the changes themselves, by norms and by kurtosis of rows and columns. Whatever a disguise moves, one
/// of them keeps.
const LIKENESSES: usize = 3;
/// Change of a matrix, relative to its size, from which it is a disguise rather than training, and says nothing here.
const STRANGE: f64 = 0.9;
/// The same of figures of its rows and columns.
const STRANGE_FREE: f64 = 0.3;
/// Models up to which all are looked at: a scan of as many takes under two milliseconds, and misses none.
pub(super) const EXACT_MAX: usize = 2048;
/// How many more are asked for than wanted: some are younger than the model, or its owner's.
const EXTRA: usize = 4;
/// Links of a point, and the breadth of the searches that set them: recall 1.0 on 100 000 vectors of 128 numbers.
const LINKS: usize = 16;
const BREADTH_BUILT: usize = 200;
/// Layers: one in sixteen points reaches the next.
const LAYERS: usize = 16;

/// A model's vectors, each of size one or nothing.
pub(super) struct Vectors([Vec<f32>; LIKENESSES]);

impl Vectors {
    /// Of a model's matrices in their base's order.
    pub(super) fn of(slices: &[Option<&SlicePrint>], base: &Fingerprint) -> Self {
        let mut sums = [(); LIKENESSES].map(|()| vec![0.0f64; NUMBERS]);
        for (at, (slice, b)) in slices.iter().zip(&base.slices).enumerate() {
            let Some(slice) = slice.filter(|slice| slice.digest != b.digest && b.rows > 1 && b.cols > 1) else {
                continue;
            };
            let (shape, of_base) = (&slice.shape, &b.shape);
            add(&mut sums[0], at as u64, &slice.sketch, &b.sketch, b.energy, STRANGE);
            let lists = [
                (&shape.row_norms, &of_base.row_norms, 1),
                (&shape.column_norms, &of_base.column_norms, 1),
                (&shape.row_kurtosis, &of_base.row_kurtosis, 2),
                (&shape.column_kurtosis, &of_base.column_kurtosis, 2),
            ];
            for (list, (have, had, likeness)) in (1..).zip(lists) {
                let size = had.iter().map(|value| f64::from(*value).powi(2)).sum();
                add(&mut sums[likeness], list << 32 | at as u64, have, had, size, STRANGE_FREE);
            }
        }
        Self(sums.map(|sum| {
            let size = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
            let scale = if size > 0.0 && size.is_finite() { size.recip() } else { 0.0 };
            sum.iter().map(|value| if scale > 0.0 { (value * scale) as f32 } else { 0.0 }).collect()
        }))
    }

    /// The largest cosine in any likeness.
    fn likeness(&self, other: &Self) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        self.0.iter().zip(&other.0).map(|(a, b)| dot(a, b)).fold(f32::NEG_INFINITY, f32::max)
    }
}

/// How a model looks from afar: enough to tell which others are worth a comparison.
pub struct Likeness(Vectors);

impl Likeness {
    /// Of a model beside its base.
    #[must_use]
    pub fn of(model: &Fingerprint, base: &Fingerprint) -> Self {
        Self(Vectors::of(&Aligned::of(model, base).slices, base))
    }

    /// How near another is, at most 1: the largest cosine in any likeness.
    #[must_use]
    pub fn to(&self, other: &Self) -> f32 {
        self.0.likeness(&other.0)
    }
}

/// Adds a change, relative to the size of what it changes, to a sum, each number in a place and with a sign of its own.
fn add(sum: &mut [f64], seed: u64, have: &[f32], had: &[f32], size: f64, strange: f64) {
    let change: Vec<f64> = have.iter().zip(had).map(|(have, had)| f64::from(*have) - f64::from(*had)).collect();
    let squares: f64 = change.iter().map(|value| value * value).sum();
    let relative = squares / size;
    if !relative.is_finite() || relative.sqrt() >= strange {
        return;
    }
    let scale = size.sqrt().recip();
    for (at, value) in change.iter().enumerate() {
        let word = word_at(seed, at as u64);
        let signed = if word >> 63 == 1 { -value } else { *value };
        sum[word as usize % NUMBERS] += signed * scale;
    }
}

/// An index of models by their numbers.
pub(super) struct Index {
    vectors: Vec<Vectors>,
    graphs: Option<[Hnsw<'static, f32, DistL2>; LIKENESSES]>,
}

impl Index {
    /// Of these models; up to `exact_max` of them without a graph.
    pub(super) fn of(vectors: Vec<Vectors>, exact_max: usize) -> Self {
        let is_large = vectors.len() > exact_max;
        let graphs = is_large.then(|| {
            [0, 1, 2].map(|likeness| {
                let graph = Hnsw::new(LINKS, vectors.len(), LAYERS, BREADTH_BUILT, DistL2);
                for (at, vectors) in vectors.iter().enumerate() {
                    graph.insert((vectors.0[likeness].as_slice(), at));
                }
                graph
            })
        });
        Self { vectors, graphs }
    }

    /// The nearest of the allowed, at most as many as wanted, by their numbers. The graph is asked first; where it
    /// answers with too few that are allowed, all allowed are looked at.
    pub(super) fn nearest(&self, model: &Vectors, allowed: &[usize], wanted: usize) -> Vec<usize> {
        let mut found = self.by_graph(model, allowed, wanted).unwrap_or_else(|| allowed.to_vec());
        let mut ranked: Vec<(f32, usize)> = found.drain(..).map(|at| (model.likeness(&self.vectors[at]), at)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.truncate(wanted);
        ranked.into_iter().map(|(_, at)| at).collect()
    }

    fn by_graph(&self, model: &Vectors, allowed: &[usize], wanted: usize) -> Option<Vec<usize>> {
        let graphs = self.graphs.as_ref()?;
        // A search for few allowed among many is slower than a look at each.
        if allowed.len() * EXTRA < self.vectors.len() {
            return None;
        }
        let asked = wanted * EXTRA;
        let near = graphs.iter().zip(&model.0).flat_map(|(graph, vector)| graph.search(vector, asked, 2 * asked));
        let mut found: Vec<usize> = near.map(|near| near.d_id).collect();
        found.sort_unstable();
        found.dedup();
        found.retain(|at| allowed.binary_search(at).is_ok());
        (found.len() >= wanted).then_some(found)
    }
}

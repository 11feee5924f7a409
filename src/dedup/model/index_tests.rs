//! Tests of the index: what the graph finds is what a look at every model finds.

use super::{
    Fingerprint, Key,
    corpus::{Corpus, Entry},
    kernel::Dtype,
    print::{BINS, Part, SAMPLES, SIDE, Shape, SlicePrint},
    verdict::Relation,
};
use crate::dedup::generate::rng::Rng;

const MODELS: usize = 1200;
const MATRICES: usize = 4;
/// Change of a fine-tune, relative to its base.
const CHANGE: f32 = 0.1;

fn numbers<const N: usize>(rng: &mut Rng) -> [f32; N] {
    [(); N].map(|()| rng.normal())
}

/// A matrix's figures at random.
fn slice(at: usize, rng: &mut Rng) -> SlicePrint {
    let sketch: Vec<f32> = (0..SIDE * SIDE).map(|_| rng.normal()).collect();
    SlicePrint {
        family: format!("layers.{at}.weight"),
        member: None,
        dtype: Dtype::F32,
        rows: 512,
        cols: 512,
        digest: [rng.word(), rng.word()],
        energy: f64::from(sketch.iter().map(|value| value * value).sum::<f32>()),
        sketch,
        samples: numbers::<SAMPLES>(rng),
        shape: Shape {
            row_norms: numbers::<BINS>(rng),
            column_norms: numbers::<BINS>(rng),
            row_kurtosis: numbers::<BINS>(rng),
            column_kurtosis: numbers::<BINS>(rng),
        },
    }
}

fn plus(a: &mut [f32], b: &[f32], size: f32) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += size * b);
}

/// Another model, moved by noise of this size.
fn moved(from: &[SlicePrint], size: f32, rng: &mut Rng) -> Vec<SlicePrint> {
    let mut slices = from.to_vec();
    for (at, one) in slices.iter_mut().enumerate() {
        let noise = slice(at, rng);
        one.digest = noise.digest;
        plus(&mut one.sketch, &noise.sketch, size);
        plus(&mut one.samples, &noise.samples, size);
        let (shape, by) = (&mut one.shape, &noise.shape);
        plus(&mut shape.row_norms, &by.row_norms, size);
        plus(&mut shape.column_norms, &by.column_norms, size);
        plus(&mut shape.row_kurtosis, &by.row_kurtosis, size);
        plus(&mut shape.column_kurtosis, &by.column_kurtosis, size);
    }
    slices
}

fn print(slices: Vec<SlicePrint>) -> Fingerprint {
    let key = Key::new([1; 32]).id();
    Fingerprint::of(vec![Part { key, slices, ..Part::default() }]).unwrap()
}

#[test]
fn the_graph_names_whom_a_look_at_every_model_names() {
    let mut rng = Rng::new(17);
    let base: Vec<SlicePrint> = (0..MATRICES).map(|at| slice(at, &mut rng)).collect();
    let tuned: Vec<Vec<SlicePrint>> = (0..MODELS).map(|_| moved(&base, CHANGE, &mut rng)).collect();
    let base = print(base);
    let prints: Vec<Fingerprint> = tuned.iter().cloned().map(print).collect();
    let names: Vec<String> = (0..MODELS).map(|at| format!("m{at}")).collect();
    // Thirteen owners: an owner's own models never take the victims' places among the candidates.
    let owners: Vec<String> = (0..13).map(|at| format!("o{at}")).collect();
    let entries = || {
        prints.iter().enumerate().map(|(at, print)| {
            let (id, owner) = (names[at].as_str(), owners[at % owners.len()].as_str());
            Entry { id, owner, priority: at as u64, print }
        })
    };
    let (graph, scan) = (Corpus::indexed(&base, entries(), 0), Corpus::indexed(&base, entries(), usize::MAX));
    for round in 0..60 {
        let victim = rng.below(MODELS);
        // From a trace of noise to as much as the victim's own change; one is another's honest work.
        let size = CHANGE * [0.0, 0.01, 0.3, 1.0, 3.0][round % 5];
        let mut copy =
            if size > CHANGE { moved(&tuned[victim], 5.0, &mut rng) } else { moved(&tuned[victim], size, &mut rng) };
        // A tensor that the base lacks, larger than all others, in every second.
        if round % 2 == 1 {
            copy.push(SlicePrint { family: "spare".into(), rows: 1 << 20, energy: 1e12, ..slice(9, &mut rng) });
        }
        let copy = print(copy);
        let owner = owners[(victim + 1) % owners.len()].as_str();
        let entry = Entry { id: "late", owner, priority: u64::MAX, print: &copy };
        let (found, looked) = (graph.judge(&entry), scan.judge(&entry));
        assert_eq!((&found.victim, found.finding.relation), (&looked.victim, looked.finding.relation), "{round}");
        if size <= CHANGE {
            assert_eq!(found.victim.as_deref(), Some(names[victim].as_str()), "{round} {:?}", found.finding);
            // In four matrices, noise as large as the change itself may pass for training.
            if size < CHANGE {
                assert_eq!(found.finding.relation, Relation::Copy, "{round}");
            }
        }
    }
    // Few elders among many: all of them are looked at.
    let early = Entry { id: "early", owner: "other", priority: 100, print: &prints[5] };
    assert_eq!(graph.judge(&early).victim.as_deref(), Some("m5"));
}

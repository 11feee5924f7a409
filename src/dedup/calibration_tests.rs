//! Calibration on trained files: how near honest policies of one recipe come, how far copies of them go, and that the
//! thresholds stand between with room on both sides.

use std::path::Path;

use super::*;
use crate::{
    artifact::{Limits, Model},
    cli::demo::disguise::{Dice, add_noise, edit, floats, set_floats},
    dedup::outputs::Reading,
    gym::{
        env::{Actions, Environment},
        policy::{BackendChoice, Policy},
        rollouts::{ObservationSample, Request, Verdict, rollout},
    },
};

/// One recipe and form. The last two began with the same weights.
const TWINS: [&str; 6] = [
    "assets/cast/generalist",
    "testdata/cast/twin-a",
    "testdata/cast/twin-b",
    "testdata/cast/twin-c",
    "testdata/cast/twin-d",
    "testdata/cast/twin-e",
];
/// Other recipes and forms.
const OTHERS: [&str; 3] = ["assets/cast/specialist", "assets/cast/later", "assets/cast/mediocre"];

fn file(folder: &str, environment: Environment) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{environment}.onnx"));
    std::fs::read(path).ok()
}

fn policy(bytes: &[u8], environment: Environment) -> Policy {
    Policy::load(bytes, environment, &BackendChoice::Embedded).expect("keeps the contract")
}

/// What players meet in the same few episodes, as a run's contestants would.
fn observations(environment: Environment, players: &[Vec<u8>]) -> Vec<f32> {
    let sample = ObservationSample { key: [7; 32], count: 256_usize.div_ceil(players.len()) };
    let request = Request { seeds: &[1, 2, 3, 4], threads: 1, sample: Some(&sample), watch: &|_steps| Verdict::Go };
    let met = players.iter().flat_map(|bytes| {
        rollout(&policy(bytes, environment), &request)
            .expect("plays")
            .sample
            .into_iter()
            .flat_map(|one| one.observation)
    });
    met.collect()
}

fn evidence(bytes: &[u8], environment: Environment, observations: &[f32]) -> Evidence {
    let model = Model::read("policy.onnx", bytes, &Limits::default()).expect("a good file");
    let reading = match environment.actions() {
        Actions::Discrete(_) => Reading::Logits,
        Actions::Continuous(_) => Reading::Continuous,
    };
    let values = policy(bytes, environment).outputs(observations).expect("runs");
    let rows = observations.len() / environment.obs_dim();
    let outputs = Outputs { reading, width: values.len() / rows, values };
    Evidence { content: model.summary.content, weights: Arc::new(WeightSketch::of(&model, reading)), outputs }
}

/// Two models as the thresholds see them.
struct Measured {
    /// Distance of answers, as a fraction of its threshold.
    answers: f64,
    /// Distance of weights, as a fraction of the larger threshold.
    weights: f64,
    /// Deviations of the two patterns.
    pattern: Option<Pattern>,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (additive, scaling) = self.pattern.map_or((f64::NAN, f64::NAN), |it| (it.additive, it.scaling));
        let Self { answers, weights, .. } = self;
        write!(f, "answers {answers:.3}, weights {weights:.4}, pattern {additive:.1}, of factors {scaling:.1}")
    }
}

/// `None` for networks of different form.
fn measured(earlier: &Evidence, later: &Evidence) -> Option<Measured> {
    let share = share_of_threshold(earlier.weights.parameters().min(later.weights.parameters()));
    let answers = apart(&earlier.outputs, &later.outputs)?.distance / (OUTPUT_THRESHOLD * share);
    let aligned = align::align(&earlier.weights, &later.weights, 0.0)?;
    let pattern = Pattern::of(&earlier.weights, &later.weights, &aligned);
    Some(Measured { answers, weights: aligned.distance / (WEIGHT_THRESHOLD * share), pattern })
}

/// Normal noise of this fraction of each tensor's spread: more than the same fraction of each weight.
fn add_spread(model: &[u8], fraction: f32, dice: &mut Dice) -> Vec<u8> {
    edit(model, |model| {
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let Some(mut values) = floats(tensor) else { continue };
            let spread = (values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32).sqrt();
            // Twelve uniform numbers make a normal one.
            let mut normal = || (0..12).map(|_| dice.unit()).sum::<f32>() - 6.0;
            values.iter_mut().for_each(|value| *value += fraction * spread * normal());
            set_floats(tensor, &values);
        }
    })
}

/// Honest pairs stay apart by twice the larger threshold, or show a pattern four times beyond what must be taken for
/// one, and come no nearer than ten times the smaller threshold.
#[test]
fn honest_policies_of_one_recipe_are_far_enough_apart() {
    let mut lines = Vec::new();
    let mut near_pairs = 0;
    for environment in Environment::ALL {
        let players: Vec<(&str, Vec<u8>)> = TWINS
            .iter()
            .chain(&OTHERS)
            .filter_map(|folder| file(folder, environment).map(|bytes| (*folder, bytes)))
            .collect();
        let files: Vec<Vec<u8>> = players.iter().map(|(_, bytes)| bytes.clone()).collect();
        let met = observations(environment, &files);
        let all: Vec<Evidence> = files.iter().map(|bytes| evidence(bytes, environment, &met)).collect();
        for (at, later) in all.iter().enumerate() {
            for (before, earlier) in all[..at].iter().enumerate() {
                let Some(found) = measured(earlier, later) else { continue };
                let line = format!("{environment}: {} and {}: {found}", players[before].0, players[at].0);
                assert_eq!(compare(earlier, later).kind, Kind::Distinct, "{line}");
                let shows = |pattern: Pattern| {
                    pattern.additive > 4.0 * PATTERN_DEVIATIONS && pattern.additive > 2.0 * pattern.scaling
                };
                assert!(found.weights > 2.0 || found.pattern.is_some_and(shows), "{line}");
                assert!(found.weights * WEIGHT_THRESHOLD > 10.0 * PATTERN_THRESHOLD, "{line}");
                near_pairs += usize::from(found.weights < 1.0);
                lines.push(line);
            }
        }
    }
    assert!(near_pairs >= 4, "policies from one start are near one another:\n{}", lines.join("\n"));
}

/// Copies with the most noise keep half of each threshold, and show no pattern but that of factors.
#[test]
fn copies_with_the_most_noise_are_near_enough() {
    let mut lines = Vec::new();
    for environment in Environment::ALL {
        for folder in TWINS.iter().chain(&OTHERS) {
            let Some(original) = file(folder, environment) else { continue };
            let met = observations(environment, std::slice::from_ref(&original));
            let victim = evidence(&original, environment, &met);
            for seed in 0..4 {
                let dice = &mut Dice::new(seed);
                for (what, noisy) in [
                    ("of each weight", add_noise(&original, 1e-2, dice)),
                    ("of each layer", add_spread(&original, 1e-2, dice)),
                ] {
                    let copy = evidence(&noisy, environment, &met);
                    let found = measured(&victim, &copy).expect("one form");
                    let line = format!("{environment}: {folder}, noise {what}: {found}");
                    assert_eq!(compare(&victim, &copy).kind, Kind::NearCopy, "{line}");
                    let is_noise =
                        |it: Pattern| it.additive < PATTERN_DEVIATIONS - 0.5 || it.scaling > 2.0 * it.additive;
                    if found.answers > 0.5 || found.weights > 0.5 || !found.pattern.is_some_and(is_noise) {
                        lines.push(line);
                    }
                }
            }
        }
    }
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

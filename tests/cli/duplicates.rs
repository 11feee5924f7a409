//! Copies of models on a labelled corpus, through the real verb.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{folder, run};

const SIDE: usize = 128;
const MATRICES: usize = 6;

/// Numbers that follow from a seed, between -1 and 1.
fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

/// Writes a model of square matrices, in this many files.
fn write(dir: &Path, matrices: &[Vec<f32>], files: usize) {
    fs::create_dir_all(dir).unwrap();
    for file in 0..files {
        let mut members = serde_json::Map::new();
        let mut data = Vec::new();
        for (at, matrix) in matrices.iter().enumerate().filter(|(at, _)| at % files == file) {
            let begin = data.len();
            data.extend(matrix.iter().flat_map(|value| value.to_le_bytes()));
            let name = format!("model.layers.{at}.mlp.up_proj.weight");
            members.insert(name, json!({"dtype": "F32", "shape": [SIDE, SIDE], "data_offsets": [begin, data.len()]}));
        }
        let header = serde_json::to_vec(&members).unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        fs::write(dir.join(format!("model-{file}.safetensors")), bytes).unwrap();
    }
}

fn matrices(seed: u64, size: f32) -> Vec<Vec<f32>> {
    let matrix = |at: usize| noise(seed + at as u64 * 1000).take(SIDE * SIDE).map(|value| value * size).collect();
    (0..MATRICES).map(matrix).collect()
}

/// A change such as training makes: of few directions.
fn trained(base: &[Vec<f32>], seed: u64) -> Vec<Vec<f32>> {
    base.iter()
        .enumerate()
        .map(|(at, matrix)| {
            let numbers: Vec<f32> = noise(seed * 77 + at as u64).take(2 * SIDE).collect();
            let change = |place: usize| 0.02 * numbers[place / SIDE] * numbers[SIDE + place % SIDE];
            matrix.iter().enumerate().map(|(place, value)| value + change(place)).collect()
        })
        .collect()
}

fn plus(model: &[Vec<f32>], other: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let sum = |(one, other): (&Vec<f32>, &Vec<f32>)| one.iter().zip(other).map(|(a, b)| a + b).collect();
    model.iter().zip(other).map(sum).collect()
}

#[test]
fn copies_of_a_labelled_corpus_are_found_and_nobody_else() {
    let dir = folder();
    let base = matrices(1, 0.5);
    let (victim, honest) = (trained(&base, 2), trained(&base, 3));
    write(&dir.path().join("base"), &base, 1);
    write(&dir.path().join("victim"), &victim, 1);
    write(&dir.path().join("honest"), &honest, 1);
    write(&dir.path().join("repacked"), &victim, 3);
    write(&dir.path().join("noisy"), &plus(&victim, &matrices(9, 0.0005)), 2);
    let model = |name: &str, priority: u32, relation: &str, victim: Option<&str>| json!({"dir": name, "owner": name, "priority": priority, "relation": relation, "victim": victim});
    let corpus = json!({"base": "base", "models": [
        model("victim", 1, "independent", None),
        model("honest", 2, "independent", None),
        model("repacked", 3, "copy", Some("victim")),
        model("noisy", 4, "copy", Some("victim")),
    ]});
    fs::write(dir.path().join("corpus.json"), corpus.to_string()).unwrap();
    let said = run(dir.path(), &["bench", "duplicates", "--corpus", "corpus.json", "--json"]);
    assert_eq!(said.exit, 0, "{}", said.stderr);
    for one in said.json()["models"].as_array().unwrap() {
        assert_eq!((&one["named"], &one["right"]), (&Value::Bool(true), &Value::Bool(true)), "{one}");
    }
    let words = run(dir.path(), &["bench", "duplicates", "--corpus", "corpus.json"]).stdout;
    assert!(words.contains("copy") && !words.contains("blamed wrongly"), "{words}");

    let measured = run(dir.path(), &["bench", "fingerprint", "victim", "--sha256", "--json"]).json();
    assert_eq!((&measured["matrices"], measured["sha256"].as_array().unwrap().len()), (&json!(MATRICES), 1));
    for wrong in ["{}", "{\"models\":[]}", "{\"models\":[{\"dir\":\"nowhere\"}]}", "["] {
        fs::write(dir.path().join("corpus.json"), wrong).unwrap();
        assert_eq!(run(dir.path(), &["bench", "duplicates", "--corpus", "corpus.json"]).exit, 2, "{wrong}");
    }
}

//! Tests of policies, and a storm of damaged ones.

use super::*;
use crate::artifact::pack::{Words, pack_bytes};

fn stored(name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/onnx").join(name)
}

fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let files: Vec<_> = files.iter().map(|(name, file)| ((*name).to_owned(), stored(file))).collect();
    pack_bytes(&files, &Words::default(), &Limits::default()).expect("packed")
}

const CART_POLE: Wanted<'_> = Wanted { environment: "CartPole-v1", obs_dim: 4, actions: Actions::Discrete(2) };
const PENDULUM: Wanted<'_> = Wanted { environment: "Pendulum-v1", obs_dim: 3, actions: Actions::Continuous(1) };

fn checked(files: &[(&str, &str)], wanted: &[Wanted<'_>]) -> Result<(), String> {
    let bundle = Bundle::read(&packed(files), &Limits::default()).expect("a good bundle");
    check(&bundle, wanted).map_err(|fault| fault.code)
}

#[test]
fn a_specialist_may_leave_environments_out_but_not_invent_them() {
    let both = [CART_POLE, PENDULUM];
    assert_eq!(checked(&[("CartPole-v1", "same/gemm.onnx")], &both), Ok(()));
    assert_eq!(
        checked(&[("CartPole-v1", "same/gemm.onnx"), ("Pendulum-v1", "honest/torch-old-actor-14.onnx")], &both),
        Ok(())
    );
    let unknown = Err("environment_unknown".to_owned());
    assert_eq!(checked(&[("CartPole-v0", "same/gemm.onnx")], &both), unknown);
    assert_eq!(checked(&[("CartPole-v1", "same/gemm.onnx"), ("Go", "same/gemm.onnx")], &both), unknown);
}

#[test]
fn form_must_fit_the_environment() {
    let cart_pole = |file: &str| checked(&[("CartPole-v1", file)], &[CART_POLE]);
    assert_eq!(cart_pole("honest/torch-old-chooser-11.onnx"), Ok(()));
    assert_eq!(cart_pole("honest/torch-old-actor-14.onnx"), Err("onnx_input".to_owned()));
    let three = Wanted { actions: Actions::Discrete(3), ..CART_POLE };
    assert_eq!(checked(&[("CartPole-v1", "same/gemm.onnx")], &[three]), Err("onnx_output".to_owned()));
    let two_floats = Wanted { actions: Actions::Continuous(2), ..CART_POLE };
    assert_eq!(checked(&[("CartPole-v1", "same/gemm.onnx")], &[two_floats]), Ok(()));
    let chooser = checked(&[("CartPole-v1", "honest/torch-old-chooser-11.onnx")], &[two_floats]);
    assert_eq!(chooser, Err("onnx_output".to_owned()));
}

#[test]
fn nodes_and_elements_cost_besides_their_arithmetic() {
    use crate::artifact::limits::{ONNX_ELEMENT_WORK, ONNX_NODE_WORK};
    let bundle =
        Bundle::read(&packed(&[("CartPole-v1", "same/gemm.onnx")]), &Limits::default()).expect("a good bundle");
    let summary = &bundle.models["CartPole-v1"].summary;
    // Each weight is used once; every node writes one element at least, the two scores among them.
    let least = summary.nodes * (ONNX_NODE_WORK + ONNX_ELEMENT_WORK);
    assert!(summary.work_per_row > least + ONNX_ELEMENT_WORK, "{summary:?}");
}

#[test]
fn digests_follow_bytes_and_content() {
    let read = |file: &str| Bundle::read(&packed(&[("CartPole-v1", file)]), &Limits::default()).expect("a good bundle");
    let (one, renamed, other) = (read("same/gemm.onnx"), read("same/renamed.onnx"), read("different/moved.onnx"));
    assert_ne!(one.digest, renamed.digest);
    assert_eq!(one.content_digest, renamed.content_digest);
    assert_ne!(one.content_digest, other.content_digest);
}

#[test]
fn external_data_tells_the_way_out() {
    let file = std::fs::read(stored("hostile/onnx_external_data--initialiser.onnx")).expect("stored");
    let fault = Model::read("a.onnx", &file, &Limits::default()).expect_err("a fault");
    assert_eq!(fault.code, "onnx_external_data");
    assert!(fault.hint.contains("external_data=False") && fault.hint.contains("waag pack"), "{}", fault.hint);
    assert!(fault.detail.starts_with("a.onnx: the constant `w1`"), "{}", fault.detail);
}

/// Damages good archives and models in every small way: each is read or refused with a miner's fault, none panics, and
/// whatever is still accepted writes a plain file that reads as itself.
#[test]
fn damage_is_refused_or_harmless() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (below.max(1) as u64)).expect("small")
    };
    let seeds =
        ["same/gemm.onnx", "same/functions.onnx", "honest/torch-new-tokens-18.onnx", "honest/torch-old-mlp-12.onnx"];
    let mut accepted = 0;
    for file in seeds {
        let good = std::fs::read(stored(file)).expect("stored");
        for _round in 0..3000 {
            let damaged = damaged(&good, &mut random);
            match Model::read(file, &damaged, &Limits::default()) {
                Ok(model) => {
                    accepted += 1;
                    let again = Model::read(file, &model.plain, &Limits::default()).expect("its own plain file");
                    assert_eq!(again.summary.content, model.summary.content, "{file}");
                }
                Err(fault) => assert_eq!(fault.class, crate::fault::Class::Miner),
            }
        }
    }
    // Names and weights may change without harm; that some files pass shows that the damage is small enough to tell.
    assert!(accepted > 100, "only {accepted} damaged files were accepted");

    let good = packed(&[("CartPole-v1", "same/gemm.onnx")]);
    for _round in 0..3000 {
        if let Err(fault) = Bundle::read(&damaged(&good, &mut random), &Limits::default()) {
            assert_eq!(fault.class, crate::fault::Class::Miner);
        }
    }
}

/// A few bytes flipped, cut out, doubled or set to numbers that break sums.
fn damaged(good: &[u8], random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _change in 0..=random(3) {
        let at = random(bytes.len());
        let Some(byte) = bytes.get_mut(at) else { continue };
        match random(6) {
            0 => *byte ^= 1 << random(8),
            1 => *byte = [0, 1, 0x7f, 0x80, 0xff][random(5)],
            2 => {
                let to = (at + 1 + random(8)).min(bytes.len());
                bytes.drain(at..to);
            }
            3 => {
                let piece: Vec<u8> = bytes[at..(at + 1 + random(16)).min(bytes.len())].to_vec();
                let to = random(bytes.len());
                bytes.splice(to..to, piece);
            }
            4 => {
                let to = (at + 9).min(bytes.len());
                bytes[at..to].fill(0xff);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

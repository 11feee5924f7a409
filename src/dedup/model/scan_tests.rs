//! Tests of the pass over the tensors and of stored fingerprints.

use super::{Dtype, Fingerprint, Key, Scan, bytes, compat, scan};
use crate::dedup::generate::{disguise::Disguise, rng::Rng, synthetic};

fn key() -> Key {
    Key::new([7; 32])
}

fn floats(count: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..count).flat_map(|_| rng.normal().to_le_bytes()).collect()
}

#[test]
fn pieces_of_any_size_give_the_same_fingerprint() {
    let data = floats(37 * 129, 1);
    let of = |seed: Option<u64>| {
        let key = key();
        let mut scan = Scan::new(&key);
        scan.begin("w", Dtype::F32, &[37, 129]).unwrap();
        let mut rng = Rng::new(seed.unwrap_or(0));
        let mut rest = &data[..];
        while !rest.is_empty() {
            let count = if seed.is_some() { 1 + rng.below(3000) } else { rest.len() }.min(rest.len());
            scan.push(&rest[..count]).unwrap();
            rest = &rest[count..];
        }
        scan.end().unwrap();
        Fingerprint::of(vec![scan.finish().unwrap()]).unwrap()
    };
    let whole = of(None);
    for seed in 1..20 {
        assert_eq!(of(Some(seed)), whole, "seed {seed}");
    }
}

#[test]
fn norms_and_samples_are_those_of_the_rule() {
    let data = floats(1000, 2);
    let key = key();
    let mut scan = Scan::new(&key);
    scan.begin("some.weight", Dtype::F32, &[10, 100]).unwrap();
    scan.push(&data).unwrap();
    scan.end().unwrap();
    let print = Fingerprint::of(vec![scan.finish().unwrap()]).unwrap();
    let values: Vec<f64> = data.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    assert!((print.layer_norms.norm_vector[0] / norm - 1.0).abs() < 1e-14);
    let expected: Vec<f64> = compat::positions("some.weight", 1000).iter().map(|at| values[*at as usize]).collect();
    assert_eq!(print.layer_norms.tensor_samples[0], expected);
}

#[test]
fn shards_order_and_layout_leave_the_digests_alone() {
    let base = synthetic::base(4, 1);
    let (key, mut rng) = (key(), Rng::new(1));
    let print = base.fingerprint(&key).unwrap();
    let mut parts = Vec::new();
    for (name, tensor) in base.tensors.iter().rev() {
        let mut scan = Scan::new(&key);
        scan.begin(name, Dtype::Bf16, &tensor.shape).unwrap();
        scan.push(&base.store.bytes(&tensor.data)).unwrap();
        scan.end().unwrap();
        parts.push(scan.finish().unwrap());
    }
    assert_eq!(Fingerprint::of(parts).unwrap(), print);
    let other = Disguise::Layout.apply(&base, &base, &base, &mut rng).fingerprint(&key).unwrap();
    assert_eq!((other.named, other.contents), (print.named, print.contents));
    let mut renamed = base.clone();
    let tensor = renamed.tensors.remove("lm_head.weight").unwrap();
    renamed.tensors.insert("head.weight".into(), tensor);
    let renamed = renamed.fingerprint(&key).unwrap();
    assert!(renamed.named != print.named && renamed.contents == print.contents);
}

#[test]
fn another_key_sees_other_sketches_and_is_not_mixed() {
    let base = synthetic::base(0, 1);
    let (one, two) = (Key::new([1; 32]), Key::new([2; 32]));
    let (a, b) = (base.fingerprint(&one).unwrap(), base.fingerprint(&two).unwrap());
    assert_ne!(a.slices[0].sketch, b.slices[0].sketch);
    assert_eq!(a.layer_norms, b.layer_norms);
    let parts = vec![Scan::new(&one).finish().unwrap(), Scan::new(&two).finish().unwrap()];
    assert_eq!(Fingerprint::of(parts), Err(super::print::Error::Keys));
}

#[test]
fn bytes_that_do_not_fit_are_refused() {
    let key = key();
    let mut scan = Scan::new(&key);
    assert_eq!(scan.push(&[0]), Err(scan::Error::Order));
    assert_eq!(scan.end(), Err(scan::Error::Order));
    assert!(matches!(scan.begin("w", Dtype::F32, &[u64::MAX, 2]), Err(scan::Error::TooLarge(_))));
    assert!(matches!(scan.begin("w", Dtype::F64, &[u64::MAX / 4]), Err(scan::Error::TooLarge(_))));
    scan.begin("w", Dtype::F32, &[2, 2]).unwrap();
    assert_eq!(scan.begin("v", Dtype::F32, &[1]), Err(scan::Error::Order));
    scan.push(&[0; 15]).unwrap();
    assert!(matches!(scan.push(&[0; 2]), Err(scan::Error::Length { expected: 16, got: 17, .. })));
    let mut scan = Scan::new(&key);
    scan.begin("w", Dtype::F32, &[2, 2]).unwrap();
    scan.push(&[0; 15]).unwrap();
    assert!(matches!(scan.end(), Err(scan::Error::Length { expected: 16, got: 15, .. })));
}

#[test]
fn odd_shapes_and_values_are_taken() {
    let key = key();
    let mut scan = Scan::new(&key);
    let shapes: [&[u64]; 6] = [&[], &[0], &[3, 0], &[1], &[5000], &[2, 3, 4, 5]];
    for (at, shape) in shapes.iter().enumerate() {
        let count = shape.iter().product::<u64>() as usize;
        scan.begin(&format!("t{at}"), Dtype::F32, shape).unwrap();
        scan.push(&f32::NAN.to_le_bytes().repeat(count)).unwrap();
        scan.end().unwrap();
    }
    scan.begin("ids", Dtype::Other(8), &[10]).unwrap();
    scan.push(&[1; 80]).unwrap();
    scan.end().unwrap();
    let print = Fingerprint::of(vec![scan.finish().unwrap()]).unwrap();
    assert_eq!(print.layer_norms.layer_keys.len(), shapes.len());
    let again = super::evidence::figures(&print, &print, &print);
    assert!(again.is_empty());
}

#[test]
fn stored_fingerprints_come_back() {
    let key = key();
    for experts in [0, 4, 40] {
        let print = synthetic::base(experts, 3).fingerprint(&key).unwrap();
        let stored = bytes::write(&print);
        assert_eq!(bytes::read(&stored).unwrap(), print);
        assert!(stored.len() <= print.matrices() * 4900, "{} for {}", stored.len(), print.matrices());
        for length in [0, 7, 20, stored.len() / 2, stored.len() - 1] {
            assert!(bytes::read(&stored[..length]).is_err(), "{length}");
        }
        assert_eq!(bytes::read(&[&stored[..], &[0]].concat()), Err(bytes::Error::Length));
    }
    let mut rng = Rng::new(9);
    let stored = bytes::write(&synthetic::base(0, 3).fingerprint(&key).unwrap());
    for _ in 0..200 {
        let mut broken = stored.clone();
        let at = rng.below(stored.len());
        broken[at] ^= 1 << rng.below(8);
        // Whatever it says, it says it without a panic.
        let _ = bytes::read(&broken).is_ok();
    }
}

//! Tests of timelock encryption against what others made: real signatures, and the public tool's ciphertexts.

use parity_scale_codec::Compact;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../testdata/chain/timelock.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Round and real signature, twice.
fn pulses() -> Vec<(u64, Vec<u8>)> {
    let recorded = recorded();
    let sealed = recorded["sealed"].as_array().unwrap();
    sealed.iter().map(|sealed| (number(&sealed["round"]), bytes(&sealed["signature"]))).collect()
}

#[test]
fn real_signatures_are_quicknets_for_their_round_alone() {
    let quicknet = Beacon::quicknet();
    assert_eq!(Beacon::new(quicknet.key(), quicknet.genesis_s(), quicknet.period_s()), Ok(quicknet));
    for (round, signature) in pulses() {
        assert!(quicknet.verify(round, &signature), "round {round}");
        assert!(!quicknet.verify(round + 1, &signature));
        let mut changed = signature.clone();
        changed[20] ^= 1;
        assert!(!quicknet.verify(round, &changed));
        assert!(!quicknet.verify(round, &signature[..47]) && !quicknet.verify(round, &[]));
    }
}

#[test]
fn the_public_tools_ciphertexts_open_with_real_signatures() {
    let recorded = recorded();
    for sealed in recorded["sealed"].as_array().unwrap() {
        // The tool's general helper wraps: bytes behind their length, then the round.
        let wrapped = bytes(&sealed["wrapped_ciphertext"]);
        let (ciphertext, round) = <(Vec<u8>, u64)>::decode(&mut &*wrapped).unwrap();
        assert_eq!(round, number(&sealed["round"]));
        let plaintext = bytes(&sealed["plaintext"]);
        assert_eq!(ciphertext.len(), plaintext.len() + OVERHEAD_BYTES);
        assert_eq!(open(&ciphertext, &bytes(&sealed["signature"])), Ok(plaintext.clone()));
        let followed = [&ciphertext[..], b"more"].concat();
        assert_eq!(open(&followed, &bytes(&sealed["signature"])), Ok(plaintext));
    }
}

#[test]
fn what_is_sealed_opens_with_its_round_and_no_other() {
    let [(first, signature), (_, other)] = pulses().try_into().unwrap();
    for plaintext in [&b""[..], b"x", &[7; 4000]] {
        let sealed = Beacon::quicknet().seal(first, plaintext, [3; 32]).unwrap();
        assert_eq!(sealed.len(), plaintext.len() + OVERHEAD_BYTES);
        assert_eq!(open(&sealed, &signature).as_deref(), Ok(plaintext));
        assert_eq!(open(&sealed, &other), Err(Error::Opening));
    }
    let sealed = |entropy| Beacon::quicknet().seal(first, b"x", [entropy; 32]).unwrap();
    assert_eq!(sealed(1), sealed(1));
    assert_ne!(sealed(1), sealed(2));
}

/// The public tool opens the same file with the real signatures (`tests/interop/timelock/open.py`). Sealing is a function
/// of what is handed in, so these very bytes are what this program makes.
#[test]
fn what_is_sealed_here_is_what_the_public_tool_is_given_to_open() {
    let plaintexts: [Vec<u8>; 4] = [
        commitment_plaintext(b"a sealed word"),
        Weights { hotkey: Some([7; 32]), uids: vec![0, 1, 5], values: vec![1, 65_535, 300], version_key: 9 }.encode(),
        vec![0xff],
        (0..=u8::MAX).cycle().take(700).collect(),
    ];
    let mut sealed = Vec::new();
    for (round, signature) in pulses() {
        for (entropy, plaintext) in (1_u8..).zip(&plaintexts) {
            let ciphertext = Beacon::quicknet().seal(round, plaintext, [entropy; 32]).unwrap();
            sealed.push(serde_json::json!({
                "round": round,
                "signature": hex::encode(&signature),
                "plaintext": hex::encode(plaintext),
                "ciphertext": hex::encode(ciphertext),
            }));
        }
    }
    let made = Value::Array(sealed);
    let kept: Value = serde_json::from_str(include_str!("../../testdata/chain/timelock-ours.json")).unwrap();
    assert!(made == kept["sealed"], "sealing changed; what it makes now:\n{made}");
}

#[test]
fn hostile_ciphertexts_are_errors() {
    let (round, signature) = pulses().swap_remove(0);
    let good = Beacon::quicknet().seal(round, b"a secret", [3; 32]).unwrap();
    for cut in 0..good.len() {
        assert_eq!(open(&good[..cut], &signature), Err(Error::Ciphertext), "cut at {cut}");
    }
    // Each of the six lengths, claiming too much, nothing, or one byte of another field.
    for at in [96, 136, 176, 184, 184 + 8 + 24, good.len() - 16] {
        for length in [u64::MAX, 1 << 40, 0, 31, 33] {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&length.to_le_bytes());
            let _any_error_and_no_panic = open(&bad, &signature);
        }
    }
    let mut changed = good.clone();
    changed[200] ^= 1;
    assert_eq!(open(&changed, &signature), Err(Error::Opening));
    assert_eq!(open(&good, &[0; 48]), Err(Error::Signature));
    assert_eq!(Beacon::new(&[0; 96], 0, 3), Err(Error::Key));
    assert_eq!(Beacon::new(Beacon::quicknet().key(), 0, 0), Err(Error::Period));
}

#[test]
fn rounds_and_times_belong_together() {
    let quicknet = Beacon::quicknet();
    let genesis_s = quicknet.genesis_s();
    assert_eq!((quicknet.last_round(genesis_s - 1), quicknet.last_round(genesis_s)), (0, 1));
    assert_eq!((quicknet.last_round(genesis_s + 2), quicknet.last_round(genesis_s + 3)), (1, 2));
    assert_eq!(quicknet.published_s(1), genesis_s);
    assert_eq!(quicknet.published_s(1000), genesis_s + 2997);
    // As the public tool: floor((now + 10 blocks of 12 s - genesis) / 3).
    assert_eq!(quicknet.round_for(genesis_s + 7 + 120), 42);
    assert_eq!(quicknet.round_for(0), 0);
    assert_eq!(quicknet.round_for_weights(genesis_s * 1000, 105, 460, 12_000), (460 + 3 - 105) * 4);
}

#[test]
fn reveal_blocks_are_those_of_the_public_tool() {
    let recorded = recorded();
    let cases = recorded["schedules"].as_array().unwrap();
    assert_eq!(cases.len(), 31);
    for case in cases {
        let schedule = Schedule {
            tempo: number(&case["tempo"]),
            last_epoch_block: number(&case["last_epoch_block"]),
            pending_epoch_at: number(&case["pending_epoch_at"]),
            epoch_index: number(&case["epoch_index"]),
            blocks_since_last_step: number(&case["blocks_since_last_step"]),
        };
        let reveal = schedule.reveal_block(number(&case["block"]), number(&case["period"]));
        assert_eq!(reveal, Some(number(&case["reveal_block"])), "{case}");
    }
}

#[test]
fn without_epochs_nothing_is_revealed() {
    let never =
        Schedule { tempo: 0, last_epoch_block: 1, pending_epoch_at: 9, epoch_index: 0, blocks_since_last_step: 0 };
    assert_eq!(never.reveal_block(5, 1), None);
    let some = Schedule { tempo: 10, ..never };
    assert_eq!((some.reveal_block(5, 0), some.reveal_block(5, 1001)), (None, None));
    assert_eq!(some.reveal_block(5, 1000), Some(9 + 999 * 10));
}

#[test]
fn weights_are_written_as_the_chain_reads_them() {
    let weights = Weights { hotkey: Some([9; 32]), uids: vec![0, 3], values: vec![65_535, 7], version_key: 42 };
    let mut expected = vec![32 << 2];
    expected.extend([9; 32]);
    expected.extend([8, 0, 0, 3, 0, 8, 255, 255, 7, 0]);
    expected.extend(42_u64.to_le_bytes());
    assert_eq!(weights.encode(), expected);
    assert_eq!(Weights::decode(&expected), Some(weights.clone()));
    let old = Weights { hotkey: None, ..weights };
    assert_eq!(Weights::decode(&old.encode()), Some(old));
    assert_eq!(Weights::decode(&expected[..40]), None);
    let long = Weights { hotkey: Some([9; 32]), uids: vec![1; ENTRIES_MAX + 1], values: vec![], version_key: 0 };
    assert_eq!(Weights::decode(&long.encode()), None);
}

#[test]
fn commitments_carry_their_length() {
    assert_eq!(commitment_plaintext(b"hello"), b"\x14hello");
    assert_eq!(commitment_content(b"\x14hello").as_deref(), Some(&b"hello"[..]));
    for bad in [&b""[..], b"\x14hell", b"\x14hello!"] {
        assert_eq!(commitment_content(bad), None);
    }
    let long = vec![1; 100];
    assert_eq!(commitment_plaintext(&long)[..2], Compact(100_u32).encode());
    assert_eq!(randomness(b""), *sp_crypto_hashing::sha2_256(b"").as_slice());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_weights_survive(
        hotkey in proptest::option::of(any::<[u8; 32]>()),
        entries in proptest::collection::vec(any::<(u16, u16)>(), 0..300),
        version_key in any::<u64>(),
    ) {
        let (uids, values) = entries.into_iter().unzip();
        let weights = Weights { hotkey, uids, values, version_key };
        let decoded = Weights::decode(&weights.encode());
        // The old form may read as the new one when its uids look like a hotkey; the new form never changes.
        prop_assert!(decoded.is_some());
        if hotkey.is_some() {
            prop_assert_eq!(decoded, Some(weights));
        }
    }

    #[test]
    fn no_bytes_break_the_readers(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (_, signature) = pulses().swap_remove(0);
        prop_assert!(open(&noise, &signature).is_err());
        let _either = Weights::decode(&noise);
        let _either = commitment_content(&noise);
    }
}

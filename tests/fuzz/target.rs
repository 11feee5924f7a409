//! What is fuzzed: the readers of a model's headers, index and configuration, and what must hold of whatever they take.
//!
//! The first byte says which reader the rest is for. The loop in `mod.rs` and the libFuzzer target both call [`look`].

use std::collections::{BTreeMap, BTreeSet};

use waag::artifact::model::{
    architecture::Spec,
    codes, index,
    safetensors::{HEADER_BYTES_MAX, Header, LENGTH_BYTES, RANK_MAX, TENSORS_MAX},
};

/// Bytes that the shortest tensor takes in a header. With it, what a header costs in memory is bounded by its length.
const TENSOR_BYTES_MIN: usize = 40;

/// Reads the bytes as one of the three; panics where a promise is broken.
pub fn look(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => header(rest),
        1 => index(rest),
        _ => config(rest),
    }
}

fn header(file: &[u8]) {
    let bytes = file.len() as u64;
    let Some(first) = file.first_chunk::<8>() else { return };
    let Ok(length) = Header::length(*first, bytes) else { return };
    assert!(length <= HEADER_BYTES_MAX && LENGTH_BYTES + length <= bytes, "a length of {length} in {bytes} bytes");
    let begin = LENGTH_BYTES as usize;
    let json = &file[begin..begin + usize::try_from(length).expect("it is within the file")];
    let Ok(header) = Header::parse(json, bytes) else { return };

    assert!(header.tensors.len() <= TENSORS_MAX && header.tensors.len() * TENSOR_BYTES_MIN <= json.len());
    let mut at = 0;
    let mut names = BTreeSet::new();
    for tensor in &header.tensors {
        assert_eq!(tensor.begin, at, "a hole or an overlap before `{}`", tensor.name);
        assert!(tensor.shape.len() <= RANK_MAX && tensor.end >= tensor.begin);
        let bits = u128::from(tensor.elements()) * u128::from(tensor.dtype.bits());
        assert_eq!(bits, u128::from(tensor.bytes()) * 8, "the span of `{}`", tensor.name);
        assert!(names.insert(&tensor.name), "`{}` is there twice", tensor.name);
        at = tensor.end;
    }
    assert_eq!(header.data_begin() + at, bytes, "the tensors fill the file");
    assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok(), "what is taken is JSON");
    assert_eq!(Header::parse(json, bytes).ok().as_ref(), Some(&header), "the same twice");
}

/// Two shards of one tensor each, to which an index may belong.
fn shards() -> BTreeMap<String, Header> {
    let shard = |tensor: &str| {
        let json = format!(r#"{{"{tensor}":{{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}}}"#);
        Header::parse(json.as_bytes(), LENGTH_BYTES + json.len() as u64 + 2).expect("it is well formed")
    };
    let name = |number| format!("model-{number:05}-of-00002.safetensors");
    BTreeMap::from([(name(1), shard("a")), (name(2), shard("b"))])
}

fn index(bytes: &[u8]) {
    let shards = shards();
    if index::check(Some(bytes), &shards).is_err() {
        return;
    }
    let read: serde_json::Value = serde_json::from_slice(bytes).expect("what is taken is JSON");
    let map = read["weight_map"].as_object().expect("it has a map");
    assert_eq!(map.len(), shards.len(), "a tensor is named that is not there");
    for (file, header) in &shards {
        for tensor in &header.tensors {
            assert_eq!(map[&tensor.name], file.as_str());
        }
    }
}

fn config(bytes: &[u8]) {
    let Ok(spec) = Spec::of(bytes) else { return };
    assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "what is taken is JSON");
    // A model has the architecture that was made from it, unless it has what none may have.
    if let Err(refused) = spec.check(bytes) {
        assert_eq!(refused.code.name, codes::ARCHITECTURE.name);
        let text = String::from_utf8_lossy(bytes);
        let is_forbidden = spec.forbidden_keys.iter().any(|key| text.contains(key.as_str()) || text.contains("\\u"));
        assert!(is_forbidden, "it does not fit itself: {}", refused.detail);
    }
}

//! Shards and index: every tensor is named once and is where the index says.
//!
//! Owns the comparison. Refuses to read files: it is given the index's bytes and the shards' headers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Rejection, codes, json as strict, safetensors::Header};

/// The index's name.
pub const FILE: &str = "model.safetensors.index.json";
/// The one weight file of a model without an index.
pub const SINGLE: &str = "model.safetensors";
/// Bytes of an index: thirty thousand tensors with long names take 4 MiB.
pub const BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Names that a refusal lists.
const LISTED: usize = 10;

/// Compares the index with what the shards hold.
///
/// # Errors
/// [`codes::SAFETENSORS_INDEX`].
pub fn check(index: Option<&[u8]>, shards: &BTreeMap<String, Header>) -> Result<(), Rejection> {
    let Some(bytes) = index else {
        return if shards.len() == 1 && shards.contains_key(SINGLE) {
            Ok(())
        } else {
            Err(refuse("there is no index, and the weights are not one file `model.safetensors`", shards.keys()))
        };
    };
    let named = weight_map(bytes)?;
    let by_shard = by_shard(&named);
    let (there, asked): (BTreeSet<&str>, BTreeSet<&str>) =
        (shards.keys().map(String::as_str).collect(), by_shard.keys().copied().collect());
    differ("weight files that the index does not name", &there, &asked)?;
    differ("weight files that the index names and that are not there", &asked, &there)?;
    for (shard, named) in &by_shard {
        let held: BTreeSet<&str> = shards[*shard].tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        differ(&format!("tensors of `{shard}` that the index does not name there"), &held, named)?;
        differ(&format!("tensors that the index names in `{shard}` and that are not there"), named, &held)?;
    }
    Ok(())
}

/// Tensor → shard, as the index says.
fn weight_map(bytes: &[u8]) -> Result<BTreeMap<String, String>, Rejection> {
    let wrong = |why: String| Rejection::new(codes::SAFETENSORS_INDEX, why, json!({}));
    let index = strict::read(bytes, BYTES_MAX).map_err(|why| wrong(format!("the index cannot be read: {why}")))?;
    let members = index.as_object().ok_or_else(|| wrong("the index is no object".to_owned()))?;
    if let Some(other) = members.keys().find(|key| *key != "metadata" && *key != "weight_map") {
        return Err(wrong(format!("the index has a member `{}`", other.chars().take(64).collect::<String>())));
    }
    let map = members.get("weight_map").and_then(Value::as_object).filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| wrong("the index has no `weight_map`, or an empty one".to_owned()))?;
    let mut named = BTreeMap::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().ok_or_else(|| wrong(format!("the shard of `{tensor}` is no name")))?;
        named.insert(tensor.clone(), shard.to_owned());
    }
    Ok(named)
}

fn by_shard(named: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, shard) in named {
        shards.entry(shard).or_default().insert(tensor);
    }
    shards
}

/// Refuses what is in the first and not in the second.
fn differ(what: &str, first: &BTreeSet<&str>, second: &BTreeSet<&str>) -> Result<(), Rejection> {
    let only: Vec<&str> = first.difference(second).copied().collect();
    if only.is_empty() { Ok(()) } else { Err(refuse(what, &only)) }
}

fn refuse<T: AsRef<str>>(what: &str, names: impl IntoIterator<Item = T>) -> Rejection {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    let detail = format!("{what}: {} ({})", shown.join(", "), names.len());
    Rejection::new(codes::SAFETENSORS_INDEX, detail, json!({"names": shown, "count": names.len()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(tensors: &[&str]) -> Header {
        let json: serde_json::Map<String, Value> = tensors
            .iter()
            .map(|name| ((*name).to_owned(), json!({"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})))
            .collect();
        let bytes = serde_json::to_vec(&json).unwrap();
        Header::parse(&bytes, 8 + bytes.len() as u64).unwrap()
    }

    fn model(shards: &[(&str, &[&str])]) -> BTreeMap<String, Header> {
        shards.iter().map(|(name, tensors)| ((*name).to_owned(), shard(tensors))).collect()
    }

    fn refusal(index: Option<&str>, shards: &BTreeMap<String, Header>) -> String {
        let refused = check(index.map(str::as_bytes), shards).unwrap_err();
        assert_eq!(refused.code.name, "safetensors_index");
        refused.detail
    }

    const INDEX: &str = r#"{"metadata":{"total_size":1},"weight_map":{"a":"s1","b":"s2","c":"s2"}}"#;

    #[test]
    fn index_and_shards_agree() {
        assert_eq!(check(Some(INDEX.as_bytes()), &model(&[("s1", &["a"]), ("s2", &["b", "c"])])), Ok(()));
        assert_eq!(check(None, &model(&[(SINGLE, &["a"])])), Ok(()));
    }

    #[test]
    fn every_disagreement_is_named() {
        let told = |shards| refusal(Some(INDEX), &model(shards));
        assert!(
            told(&[("s1", &["a"]), ("s2", &["b", "c"]), ("s3", &[])])
                .starts_with("weight files that the index does not")
        );
        assert!(told(&[("s1", &["a"])]).contains("not there: s2"));
        assert!(told(&[("s1", &["a", "dead"]), ("s2", &["b", "c"])]).contains("does not name there: dead"));
        assert!(told(&[("s1", &["a"]), ("s2", &["b"])]).contains("not there: c"));
        // The same tensor in both shards: the index names one of them.
        assert!(told(&[("s1", &["a", "b"]), ("s2", &["b", "c"])]).contains("does not name there: b"));
        assert!(refusal(None, &model(&[("model-1.safetensors", &["a"])])).contains("no index"));
        assert!(refusal(None, &model(&[(SINGLE, &["a"]), ("other", &["b"])])).contains("no index"));
    }

    #[test]
    fn a_hostile_index_is_refused() {
        let shards = model(&[(SINGLE, &["a"])]);
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"weight_map":{}}"#,
            r#"{"weight_map":[]}"#,
            r#"{"weight_map":{"a":1}}"#,
            r#"{"weight_map":{"a":"model.safetensors"},"extra":1}"#,
            r#"{"weight_map":{"a":"model.safetensors","a":"model.safetensors"}}"#,
        ] {
            refusal(Some(wrong), &shards);
        }
    }
}

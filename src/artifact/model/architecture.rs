//! The architecture: what of `config.json` a challenge fixes.
//!
//! Owns the specification and its comparison with a configuration. Refuses to know any particular architecture: the
//! specification is a file of the challenge, made from its own first model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Rejection, codes, json as strict};

/// The configuration's name.
pub const FILE: &str = "config.json";
/// Bytes of a configuration: published ones are below 100 kB.
pub const BYTES_MAX: u64 = 1024 * 1024;
/// The member under which models of several modes keep what concerns text.
const TEXT: &str = "text_config";

/// What is fixed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The list `architectures` as a whole; nothing is fixed without it.
    #[serde(default)]
    pub architectures: Option<Vec<String>>,
    /// Values by key, looked for at the top and then in `text_config`.
    #[serde(default)]
    pub expected: BTreeMap<String, Value>,
    /// Keys that may stand nowhere, at no level.
    #[serde(default)]
    pub forbidden_keys: Vec<String>,
}

/// What a specification made from a model fixes, where the model has it: that it is the same network, of the same
/// size, with the same words.
pub const LOCKED_KEYS: &[&str] = &[
    "vocab_size",
    "model_type",
    "max_position_embeddings",
    "tie_word_embeddings",
    "rope_theta",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "head_dim",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "num_experts",
    "num_experts_per_tok",
];
/// What such a specification forbids: code of the miner's own, and weights of a form that hides others.
pub const FORBIDDEN_KEYS: &[&str] = &["auto_map", "quantization_config"];

impl Spec {
    /// The specification that a model's own configuration gives.
    ///
    /// # Errors
    /// When the configuration cannot be read, in words.
    pub fn of(config: &[u8]) -> Result<Self, String> {
        let config = strict::read(config, BYTES_MAX)?;
        if !config.is_object() {
            return Err(format!("`{FILE}` is no object"));
        }
        let architectures = match config.get("architectures") {
            None => None,
            Some(list) => Some(serde_json::from_value(list.clone()).map_err(|source| source.to_string())?),
        };
        let value = |key: &str| find(&config, key).cloned().map(|value| (key.to_owned(), value));
        let expected = LOCKED_KEYS.iter().filter_map(|key| value(key)).collect();
        let forbidden_keys = FORBIDDEN_KEYS.iter().map(|key| (*key).to_owned()).collect();
        Ok(Self { architectures, expected, forbidden_keys })
    }

    /// Compares a configuration with this.
    ///
    /// # Errors
    /// [`codes::ARCHITECTURE`].
    pub fn check(&self, config: &[u8]) -> Result<(), Rejection> {
        let refused = |why: String, details: Value| Rejection::new(codes::ARCHITECTURE, why, details);
        let config = strict::read(config, BYTES_MAX)
            .map_err(|why| refused(format!("`{FILE}` cannot be read: {why}"), json!({})))?;
        if !config.is_object() {
            return Err(refused(format!("`{FILE}` is no object"), json!({})));
        }
        if let Some(path) = self.forbidden_in(&config, "") {
            return Err(refused(format!("`{path}` is forbidden"), json!({"key": path})));
        }
        if let Some(expected) = &self.architectures {
            let found = config.get("architectures").cloned().unwrap_or(Value::Null);
            if found != json!(expected) {
                let why = format!("`architectures` is {}, not {}", short(&found), json!(expected));
                return Err(refused(why, json!({"key": "architectures", "expected": expected, "found": found})));
            }
        }
        for (key, expected) in &self.expected {
            let found = find(&config, key);
            if !found.is_some_and(|found| strict::same(found, expected)) {
                let found = found.cloned().unwrap_or(Value::Null);
                let why = format!("`{key}` is {}, not {}", short(&found), short(expected));
                return Err(refused(why, json!({"key": key, "expected": expected, "found": found})));
            }
        }
        Ok(())
    }

    /// The path of the first forbidden key, at any level.
    fn forbidden_in(&self, value: &Value, path: &str) -> Option<String> {
        match value {
            Value::Object(members) => members.iter().find_map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if self.forbidden_keys.contains(key) { Some(path) } else { self.forbidden_in(value, &path) }
            }),
            Value::Array(list) => {
                list.iter().enumerate().find_map(|(i, value)| self.forbidden_in(value, &format!("{path}[{i}]")))
            }
            _ => None,
        }
    }
}

/// The value of a key at the top, else in the part for text.
fn find<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    config.get(key).or_else(|| config.get(TEXT)?.get(key))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 { text } else { text.chars().take(77).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: &str = r#"{"architectures":["SomeMoe"],"model_type":"some_moe","vocab_size":100,
        "text_config":{"hidden_size":8,"num_experts":4},"rope_parameters":{"rope_theta":1e7},"dropout":0.1}"#;

    fn refusal(config: &str) -> String {
        let refused = Spec::of(GENESIS.as_bytes()).unwrap().check(config.as_bytes()).unwrap_err();
        assert_eq!(refused.code.name, "architecture");
        refused.detail
    }

    #[test]
    fn a_model_fixes_what_it_has() {
        let spec = Spec::of(GENESIS.as_bytes()).unwrap();
        let keys: Vec<&str> = spec.expected.keys().map(String::as_str).collect();
        assert_eq!(keys, ["hidden_size", "model_type", "num_experts", "vocab_size"]);
        assert_eq!(spec.check(GENESIS.as_bytes()), Ok(()));
        // What is not fixed may differ, and a value may stand at the top.
        let other = r#"{"architectures":["SomeMoe"],"model_type":"some_moe","vocab_size":100.0,"hidden_size":8,
            "text_config":{"num_experts":4},"dropout":0.5}"#;
        assert_eq!(spec.check(other.as_bytes()), Ok(()));
        assert_eq!(serde_json::from_value::<Spec>(serde_json::to_value(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn differences_are_named() {
        assert!(refusal(&GENESIS.replace("SomeMoe", "Other")).contains("`architectures` is [\"Other\"]"));
        assert_eq!(
            refusal(&GENESIS.replace("\"vocab_size\":100", "\"vocab_size\":101")),
            "`vocab_size` is 101, not 100"
        );
        assert_eq!(refusal(&GENESIS.replace("\"num_experts\":4", "\"x\":4")), "`num_experts` is null, not 4");
        // The top counts before the part for text.
        assert!(refusal(&GENESIS.replace("\"dropout\":0.1", "\"hidden_size\":9")).contains("`hidden_size` is 9"));
    }

    #[test]
    fn forbidden_keys_are_found_at_every_level() {
        for (config, path) in [
            (GENESIS.replace("\"dropout\":0.1", "\"auto_map\":{}"), "auto_map"),
            (
                GENESIS.replace("\"hidden_size\":8", "\"hidden_size\":8,\"quantization_config\":null"),
                "text_config.quantization_config",
            ),
            (GENESIS.replace("\"dropout\":0.1", "\"a\":[{\"b\":{\"auto_map\":1}}]"), "a[0].b.auto_map"),
        ] {
            assert_eq!(refusal(&config), format!("`{path}` is forbidden"));
        }
    }

    #[test]
    fn nothing_is_made_of_what_is_no_configuration() {
        for wrong in ["[]", "7", "null", "\"architectures\""] {
            assert!(Spec::of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hostile_configuration_is_refused() {
        for wrong in ["", "[]", "null", "{\"a\":1,\"a\":1}"] {
            refusal(wrong);
        }
        assert!(refusal(&format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024))).contains("the limit is"));
    }
}

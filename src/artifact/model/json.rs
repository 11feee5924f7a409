//! JSON files of a model, read so that every reader sees the same.
//!
//! Owns size, depth and the rule that no key stands twice: readers differ in which of two they take. Refuses to know
//! what the files mean. `index` and `architecture` read through it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Levels of nesting: published configurations have below ten.
pub const DEPTH_MAX: usize = 64;

/// Reads a document of at most `bytes_max` bytes.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(bytes: &[u8], bytes_max: u64) -> Result<Value, String> {
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} bytes; the limit is {bytes_max}", bytes.len()));
    }
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(|source| source.to_string())
}

/// A value in which no key stands twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(0).deserialize(deserializer).map(Strict)
    }
}

/// How deep the value to be read lies.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.0 == DEPTH_MAX {
            Err(E::custom(format!("nested deeper than {DEPTH_MAX}")))
        } else {
            Ok(Self(self.0 + 1))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(below)?;
            if members.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
        }
        Ok(Value::Object(members))
    }
}

/// Whether two values are equal as configurations: numbers by what they are, not by how they are written.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() != b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_whole() {
        let text = br#"{"a":[1,-2,2.5,true,null,"x"],"b":{"c":{}}}"#;
        assert_eq!(read(text, 1000), Ok(json!({"a": [1, -2, 2.5, true, null, "x"], "b": {"c": {}}})));
        assert!(read(text, text.len() as u64).is_ok());
        assert!(read(text, text.len() as u64 - 1).unwrap_err().contains("the limit is"));
    }

    #[test]
    fn no_key_stands_twice_at_any_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":[{"a":1,"a":2}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(read(text.as_bytes(), 1000).unwrap_err().contains("stands twice"), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(DEPTH_MAX).as_bytes(), 1000).is_ok());
        assert!(read(nested(DEPTH_MAX + 1).as_bytes(), 1000).is_err());
        assert!(read("[".repeat(1_000_000).as_bytes(), 10_000_000).is_err());
        for wrong in ["", "{", "1e999", "{\"a\":NaN}", "1 2", "\u{feff}{}"] {
            assert!(read(wrong.as_bytes(), 1000).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_compared_by_value() {
        assert!(same(&json!(10_000_000), &json!(1e7)));
        assert!(same(&json!({"a": [1.0]}), &json!({"a": [1]})));
        for (a, b) in [(json!(1), json!(true)), (json!(1), json!(1.5)), (json!("1"), json!(1)), (json!([1]), json!([]))]
        {
            assert!(!same(&a, &b), "{a} {b}");
        }
    }
}

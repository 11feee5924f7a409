//! Whether a decoded value is what a recording says in JSON, where accounts are addresses and bytes are hex.

use scale_value::{Composite, Primitive, Value, ValueDef};
use serde_json::Value as Json;

use crate::ids::Hotkey;

/// Says where the two differ first; nothing when they are the same in every field.
pub fn difference(value: &Value, json: &Json) -> Option<String> {
    same(value, json).err()
}

fn same(value: &Value, json: &Json) -> Result<(), String> {
    let differ = || Err(format!("{value} is not {json}"));
    match json {
        Json::Null => match inner(value).map_or(&value.value, |inner| &inner.value) {
            ValueDef::Variant(variant) if variant.name == "None" => Ok(()),
            _ => differ(),
        },
        Json::Bool(expected) => match plain(value) {
            Some(Primitive::Bool(found)) if found == expected => Ok(()),
            _ => differ(),
        },
        Json::Number(expected) => match plain(value) {
            Some(Primitive::U128(found)) if is_number(*found, expected) => Ok(()),
            _ => differ(),
        },
        Json::String(text) => {
            if is_text(value, text) {
                Ok(())
            } else {
                differ()
            }
        }
        Json::Array(items) => match list(value, items.len()) {
            Some(found) => found.iter().zip(items).try_for_each(|(found, item)| same(found, item)),
            None => differ(),
        },
        Json::Object(fields) => match named(value) {
            Some(found) if found.len() == fields.len() => found.iter().try_for_each(|(name, found)| {
                let expected = fields.get(name).ok_or(format!("{json} has no {name}"))?;
                same(found, expected)
            }),
            _ => differ(),
        },
    }
}

/// The only value within a structure, a list or a variant of one.
fn inner(value: &Value) -> Option<&Value> {
    let values = match &value.value {
        ValueDef::Composite(values) => values,
        ValueDef::Variant(variant) => &variant.values,
        _ => return None,
    };
    let mut values = values.values();
    values.next().filter(|_| values.next().is_none())
}

/// A plain value, however many structures of one field lie around it.
fn plain(value: &Value) -> Option<&Primitive> {
    match &value.value {
        ValueDef::Primitive(primitive) => Some(primitive),
        _ => plain(inner(value)?),
    }
}

/// What is above 64 bits was recorded as the nearest floating number.
#[expect(clippy::cast_precision_loss, reason = "the recording lost it already")]
fn is_number(found: u128, expected: &serde_json::Number) -> bool {
    match expected.as_u64() {
        Some(expected) => found == u128::from(expected),
        None => expected.as_f64().is_some_and(|expected| (found as f64).total_cmp(&expected).is_eq()),
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    if let Ok(account) = text.parse::<Hotkey>() {
        return bytes(value).is_some_and(|found| found == account.0);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return bytes(value).is_some_and(|found| hex::encode(found) == digits);
    }
    match &value.value {
        ValueDef::Variant(variant) => variant.name == text && variant.values.is_empty(),
        _ => bytes(value).is_some_and(|found| found == text.as_bytes()),
    }
}

/// The bytes of a list of bytes, or of what has nothing but one in it.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    let values = match &value.value {
        ValueDef::Composite(values) => values,
        ValueDef::Variant(variant) => &variant.values,
        _ => return None,
    };
    let each = values.values().map(|value| match &value.value {
        ValueDef::Primitive(Primitive::U128(byte)) => u8::try_from(*byte).ok(),
        _ => None,
    });
    each.collect::<Option<Vec<u8>>>().or_else(|| bytes(inner(value)?))
}

/// The values of a list of this length, or of what has nothing but one in it.
fn list(value: &Value, length: usize) -> Option<Vec<&Value>> {
    match &value.value {
        ValueDef::Composite(values) if values.len() == length => Some(values.values().collect()),
        _ => list(inner(value)?, length),
    }
}

/// The fields of a structure, or of what has nothing but one in it.
fn named(value: &Value) -> Option<&[(String, Value)]> {
    match &value.value {
        ValueDef::Composite(Composite::Named(fields)) => Some(fields),
        _ => named(inner(value)?),
    }
}

#[test]
fn a_difference_anywhere_is_found() {
    let value = Value::named_composite([
        ("who", Value::unnamed_composite([Value::from_bytes([7; 32])])),
        ("count", Value::u128(1 << 127)),
        ("kind", Value::unnamed_variant("Yes", [])),
        ("maybe", Value::unnamed_variant("None", [])),
        ("list", Value::unnamed_composite([Value::u128(1), Value::bool(true)])),
    ]);
    let who = Hotkey([7; 32]).to_string();
    let right = serde_json::json!({
        "who": who, "count": 170_141_183_460_469_231_731_687_303_715_884_105_728_f64, "kind": "Yes", "maybe": null,
        "list": [1, true],
    });
    assert_eq!(difference(&value, &right), None);
    for (field, wrong) in [
        ("who", serde_json::json!(Hotkey([8; 32]).to_string())),
        ("count", serde_json::json!(5)),
        ("kind", serde_json::json!("No")),
        ("maybe", serde_json::json!(0)),
        ("list", serde_json::json!([1, false])),
        ("list", serde_json::json!([1])),
        ("more", serde_json::json!(1)),
    ] {
        let mut changed = right.clone();
        changed[field] = wrong;
        assert!(difference(&value, &changed).is_some(), "{field}");
    }
}

//! How single fields are read: bounds, defaults and options.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::limits;

pub(super) fn bounded<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(from: D) -> Result<u64, D::Error> {
    let value = i64::deserialize(from)?;
    u64::try_from(value)
        .ok()
        .filter(|value| (MIN..=MAX).contains(value))
        .ok_or_else(|| de::Error::custom(format!("{value} is not within {MIN} and {MAX}")))
}

pub(super) fn bounded_u32<'de, D: Deserializer<'de>, const MIN: u32, const MAX: u32>(from: D) -> Result<u32, D::Error> {
    let value = i64::deserialize(from)?;
    u32::try_from(value)
        .ok()
        .filter(|value| (MIN..=MAX).contains(value))
        .ok_or_else(|| de::Error::custom(format!("{value} is not within {MIN} and {MAX}")))
}

pub(super) fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(de::Error::custom(format!("{value} is not within 0 and 1")))
    }
}

pub(super) fn title<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let title = String::deserialize(from)?;
    let chars = title.chars().count();
    if chars == 0 || chars > limits::TITLE_CHARS || title.chars().any(char::is_control) {
        let most = limits::TITLE_CHARS;
        return Err(de::Error::custom(format!("a title has 1 to {most} characters and no control characters")));
    }
    Ok(title)
}

pub(super) fn options<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    let table = toml::Table::deserialize(from)?;
    json(toml::Value::Table(table)).map_err(de::Error::custom)
}

/// TOML as JSON, without what JSON cannot say.
pub(super) fn json(value: toml::Value) -> Result<Value, &'static str> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => {
            serde_json::Number::from_f64(number).ok_or("options take finite numbers only")?.into()
        }
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(_) => return Err("options take no dates: write them as text"),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(entries) => {
            let entries = entries.into_iter().map(|(key, value)| json(value).map(|value| (key, value)));
            Value::Object(entries.collect::<Result<_, _>>()?)
        }
    })
}

pub(super) fn no_options() -> Value {
    Value::Object(serde_json::Map::new())
}

pub(super) const fn default_reveal_within() -> u64 {
    300
}

pub(super) const fn default_artifact_within() -> u64 {
    600
}

pub(super) const fn default_uploads() -> u32 {
    12
}

/// A day of the real chain.
pub(super) const fn default_fee_within() -> u64 {
    7_200
}

pub(super) const fn default_lease() -> u64 {
    60_000
}

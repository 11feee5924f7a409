//! The ranking rule `reported`: a service says who earned what, and its shares are paid as they are.
//!
//! Owns the reading of a report and what an expired one means. Refuses to ask the service. The pipeline and
//! `waag verify` call it.
//!
//! A report's body is `{"weights": {"<hotkey>": <number>, …}}`. Weights that sum to more than 1 are scaled down to 1;
//! what they leave below 1 burns. A hotkey that is no address, and a weight that is negative or no number, burns
//! nothing of the others': it is left out before the sum.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Input, Ranking, Report, Row, Rule, nobody, options, ranked};
use crate::ids::Hotkey;

/// Hotkeys of one report: sixteen subnets full of miners.
pub const HOTKEYS_MAX: usize = 4096;

/// What an expired or missing report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expired {
    /// The share burns until the service reports again.
    #[default]
    Burn,
    /// The ranking before stays as it is.
    Hold,
}

/// The rule's options in a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The service that reports; without it, the only one there is.
    pub service: Option<String>,
    /// What an expired or missing report means.
    pub expired: Expired,
}

/// The rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reported;

impl Rule for Reported {
    fn name(&self) -> &'static str {
        "reported"
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        options::<Options>(value).map(drop)
    }

    fn rank(&self, input: &Input) -> Ranking {
        ranked(input, options(&input.options), rank)
    }
}

fn rank(input: &Input, options: &Options) -> Ranking {
    let named = |report: &&Report| options.service.as_ref().is_none_or(|service| report.service == *service);
    let weights = input.reports.iter().find(named).filter(|report| !report.expired).and_then(read);
    match (weights, options.expired, &input.previous) {
        (Some(weights), _, _) => pay(&weights),
        (None, Expired::Hold, Some(previous)) => previous.clone(),
        (None, _, _) => nobody(input, "the service has no valid report"),
    }
}

/// The valid weights of a report by hotkey; `None` when it is not a report at all.
fn read(report: &Report) -> Option<BTreeMap<Hotkey, f64>> {
    let weights = report.body.get("weights")?.as_object().filter(|weights| weights.len() <= HOTKEYS_MAX)?;
    let valid = weights.iter().filter_map(|(hotkey, weight)| {
        let weight = weight.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
        Some((hotkey.parse().ok()?, weight))
    });
    Some(valid.collect())
}

fn pay(weights: &BTreeMap<Hotkey, f64>) -> Ranking {
    let largest = weights.values().copied().fold(1.0, f64::max);
    // Divided by the largest first, so that the sum is finite whatever a service says.
    let sum: f64 = weights.values().map(|weight| weight / largest).sum();
    let scale = (1.0 / largest).max(sum);
    let mut rows: Vec<Row> = weights
        .iter()
        .map(|(hotkey, weight)| Row {
            hotkey: *hotkey,
            submission: None,
            points: *weight,
            share: weight / largest / scale,
            reason: "reported by the service".to_owned(),
            results: BTreeMap::new(),
        })
        .collect();
    rows.sort_by(|left, right| right.share.total_cmp(&left.share));
    let paid: f64 = rows.iter().map(|row| row.share).sum();
    Ranking { rows, burned: (1.0 - paid).max(0.0), memory: Value::Null }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input(body: Value, expired: bool, options: Value, previous: Option<Ranking>) -> Input {
        Input {
            challenge: "c".to_owned(),
            run: 0,
            options,
            previous,
            entries: Vec::new(),
            reports: vec![Report { service: "s".to_owned(), body, expired }],
            decisions: Vec::new(),
            block: 9,
        }
    }

    fn address(id: u8) -> String {
        Hotkey([id; 32]).to_string()
    }

    #[test]
    fn shares_are_paid_as_reported_and_scaled_only_down() {
        let body = json!({ "weights": { address(1): 0.25, address(2): 0.5, "nobody": 9.0, address(3): -1.0 } });
        let ranking = Reported.rank(&input(body, false, Value::Null, None));
        let shares: Vec<f64> = ranking.rows.iter().map(|row| row.share).collect();
        assert_eq!((shares, ranking.burned), (vec![0.5, 0.25], 0.25));
        let body = json!({ "weights": { address(1): 30, address(2): 10 } });
        let ranking = Reported.rank(&input(body, false, Value::Null, None));
        let shares: Vec<f64> = ranking.rows.iter().map(|row| row.share).collect();
        assert_eq!((shares, ranking.burned), (vec![0.75, 0.25], 0.0));
        let body = json!({ "weights": { address(1): 1e308, address(2): 1e308 } });
        let ranking = Reported.rank(&input(body, false, Value::Null, None));
        assert!(ranking.rows.iter().all(|row| row.share == 0.5), "{ranking:?}");
    }

    #[test]
    fn an_expired_report_burns_or_holds() {
        let body = json!({ "weights": { address(1): 1.0 } });
        let paid = Reported.rank(&input(body.clone(), false, Value::Null, None));
        let burned = Reported.rank(&input(body.clone(), true, Value::Null, Some(paid.clone())));
        assert_eq!((burned.rows.len(), burned.burned), (0, 1.0));
        let hold = json!({ "expired": "hold" });
        assert_eq!(Reported.rank(&input(body, true, hold.clone(), Some(paid.clone()))), paid);
        assert_eq!(Reported.rank(&input(json!("nonsense"), false, hold, Some(paid.clone()))), paid);
        let other = json!({ "service": "other" });
        assert_eq!(Reported.rank(&input(Value::Null, false, other, Some(paid))).burned, 1.0);
    }
}

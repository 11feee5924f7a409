//! Outputs side by side: how far two policies answer apart on the same observations.
//!
//! Owns the distance of two tables of answers, freed of what an action does not depend on. Refuses to know weights and
//! to choose the observations. `dedup::policy` calls it.

use serde::{Deserialize, Serialize};

/// How the answers of a policy are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The largest number of a row is the action: what is added to a whole row, or multiplies everything, is nothing.
    Logits,
    /// The numbers are the action.
    Continuous,
    /// One number a row, the action itself.
    Choice,
}

/// A policy's answers to a common list of observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// How they are read.
    pub reading: Reading,
    /// Numbers a row.
    pub width: usize,
    /// Rows one after another. Not a number where the policy failed.
    pub values: Vec<f32>,
}

/// A distance between 0 (the same) and about 1.4 (opposite), and what it was taken on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Apart {
    /// The distance.
    pub distance: f64,
    /// Whether it compares numbers, or only the actions they lead to.
    pub by_actions: bool,
    /// Rows that tell something, because no earlier row is like them.
    pub telling_rows: usize,
}

impl Outputs {
    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    fn finite(&self) -> bool {
        !self.values.is_empty() && self.values.iter().all(|value| value.is_finite())
    }

    /// The action each row leads to.
    fn actions(&self) -> Vec<i64> {
        let largest = |row: &[f32]| {
            // The first of equal numbers wins, as in every argmax.
            let best = row.iter().enumerate().fold(0, |best, (at, value)| if *value > row[best] { at } else { best });
            i64::try_from(best).unwrap_or(i64::MAX)
        };
        #[expect(clippy::cast_possible_truncation, reason = "actions are small whole numbers")]
        let whole = |row: &[f32]| row[0].round() as i64;
        let rows = self.values.chunks_exact(self.width.max(1));
        if self.reading == Reading::Choice { rows.map(whole).collect() } else { rows.map(largest).collect() }
    }

    /// The numbers without what no action depends on but the common scale.
    fn centred(&self) -> Vec<f64> {
        let mut centred = Vec::with_capacity(self.values.len());
        for row in self.values.chunks_exact(self.width.max(1)) {
            let mean = match self.reading {
                Reading::Logits => row.iter().map(|value| f64::from(*value)).sum::<f64>() / row.len() as f64,
                Reading::Continuous | Reading::Choice => 0.0,
            };
            centred.extend(row.iter().map(|value| f64::from(*value) - mean));
        }
        centred
    }
}

/// How far apart two policies answer; `None` if the tables cannot be compared.
pub(super) fn apart(a: &Outputs, b: &Outputs) -> Option<Apart> {
    if a.rows() != b.rows() || !a.finite() || !b.finite() {
        return None;
    }
    let (continuous_a, continuous_b) = (a.reading == Reading::Continuous, b.reading == Reading::Continuous);
    if continuous_a != continuous_b {
        return None;
    }
    if a.reading == Reading::Choice || b.reading == Reading::Choice {
        let (left, right) = (a.actions(), b.actions());
        let differ = left.iter().zip(&right).filter(|(left, right)| left != right).count();
        // Actions say little: the telling rows of a choice are those that leave the most frequent action.
        let telling_rows = left.len() - most_frequent(&left);
        return Some(Apart { distance: differ as f64 / left.len() as f64, by_actions: true, telling_rows });
    }
    if a.width != b.width {
        return None;
    }
    let (left, right) = (a.centred(), b.centred());
    let (mut norm_left, mut norm_right, mut product, mut difference) = (0.0, 0.0, 0.0, 0.0);
    for (x, y) in left.iter().zip(&right) {
        norm_left += x * x;
        norm_right += y * y;
        product += x * y;
        difference += (x - y) * (x - y);
    }
    if norm_left == 0.0 || norm_right == 0.0 {
        return None;
    }
    let distance = if a.reading == Reading::Logits {
        // Both scaled to length one: the chord between them. Taken from the difference, as 1 - cos loses half the digits.
        let (scale_left, scale_right) = (norm_left.sqrt().recip(), norm_right.sqrt().recip());
        let chord = left.iter().zip(&right).map(|(x, y)| (x * scale_left - y * scale_right).powi(2));
        if product > 0.0 { chord.sum::<f64>().sqrt() } else { std::f64::consts::SQRT_2 }
    } else {
        (2.0 * difference / (norm_left + norm_right)).sqrt()
    };
    Some(Apart { distance, by_actions: false, telling_rows: telling(&left, a.width) })
}

fn most_frequent(actions: &[i64]) -> usize {
    let mut sorted = actions.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(<[i64]>::len).max().unwrap_or(0)
}

/// Rows that differ from one another by more than a thousandth of the largest number: a policy that always answers the
/// same, or one of few answers, proves nothing.
fn telling(centred: &[f64], width: usize) -> usize {
    let largest = centred.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let grid = |value: &f64| {
        #[expect(clippy::cast_possible_truncation, reason = "within plus and minus a thousand")]
        let cell = (value / largest * 1000.0).round() as i64;
        cell
    };
    let mut rows: Vec<Vec<i64>> =
        centred.chunks_exact(width.max(1)).map(|row| row.iter().map(grid).collect()).collect();
    rows.sort_unstable();
    rows.dedup();
    rows.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(values: &[f32]) -> Outputs {
        Outputs { reading: Reading::Logits, width: 2, values: values.to_vec() }
    }

    #[test]
    fn what_an_action_does_not_depend_on_is_nothing() {
        let a = logits(&[1.0, 2.0, 3.0, -1.0, 0.5, 0.25]);
        let shifted = logits(&[11.0, 12.0, 0.0, -4.0, 0.25, 0.0]);
        let scaled = logits(&[2.0, 4.0, 6.0, -2.0, 1.0, 0.5]);
        let turned = logits(&[2.0, 1.0, -1.0, 3.0, 0.25, 0.5]);
        assert!(apart(&a, &shifted).expect("comparable").distance < 1e-12);
        assert!(apart(&a, &scaled).expect("comparable").distance < 1e-12);
        assert!(apart(&a, &turned).expect("comparable").distance > 1.0);
        let continuous = |o: &Outputs| Outputs { reading: Reading::Continuous, ..o.clone() };
        assert!(apart(&continuous(&a), &continuous(&scaled)).expect("comparable").distance > 0.5);
    }

    #[test]
    fn tables_that_cannot_be_compared_say_so() {
        let a = logits(&[1.0, 2.0]);
        assert_eq!(apart(&a, &logits(&[1.0, 2.0, 3.0, 4.0])), None);
        assert_eq!(apart(&a, &logits(&[1.0, f32::NAN])), None);
        assert_eq!(apart(&a, &logits(&[1.0, 1.0])), None);
        assert_eq!(apart(&a, &Outputs { reading: Reading::Continuous, ..a.clone() }), None);
        assert_eq!(apart(&logits(&[]), &logits(&[])), None);
    }

    #[test]
    fn choices_are_compared_with_what_logits_choose() {
        let a = logits(&[1.0, 2.0, 3.0, -1.0, 0.0, 1.0, 0.0, 1.0]);
        let choice = Outputs { reading: Reading::Choice, width: 1, values: vec![1.0, 0.0, 1.0, 0.0] };
        let apart = apart(&a, &choice).expect("comparable");
        assert_eq!((apart.distance, apart.by_actions, apart.telling_rows), (0.25, true, 1));
    }

    #[test]
    fn a_constant_policy_tells_nothing() {
        let constant = logits(&[0.0, 1.0].repeat(50));
        assert_eq!(apart(&constant, &constant).expect("comparable").telling_rows, 1);
    }
}

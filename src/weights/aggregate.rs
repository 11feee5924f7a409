//! Aggregation: the rankings of all challenges, by their shares of the emission, become one weight a uid.
//!
//! Owns the sums and where unpaid share goes: to the burn uid, never to another challenge. Refuses to know how a
//! ranking was made. The weight setter and `waag verify` call it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    fault::{Class, Code, Fault},
    ids::Hotkey,
    score::Row,
};

/// What shares may exceed 1 by: the rounding of a few hundred additions.
const SLACK: f64 = 1e-9;

/// Something that goes into the weights cannot be.
pub const WEIGHTS_INPUT_WRONG: Code = Code::new(
    Class::Operator,
    "weights_input_wrong",
    "the weights cannot be computed from the shares, rankings and registrations given",
    "check the shares of the profiles and the burn uid; the detail names what is wrong",
);

/// One challenge's part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part<'a> {
    /// The challenge's slug.
    pub challenge: &'a str,
    /// Its share of the emission, 0 to 1.
    pub share: f64,
    /// The rows of its ranking. `None` when there is none, and its share burns; a profile that holds instead gives
    /// the ranking that it held.
    pub rows: Option<&'a [Row]>,
}

/// One registered hotkey at the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neuron {
    /// Its place in the subnet.
    pub uid: u16,
    /// Who holds it.
    pub hotkey: Hotkey,
    /// Whether it may be paid.
    pub eligible: bool,
}

/// What cannot be aggregated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A challenge's share is no share.
    #[error("share of challenge `{challenge}` is {share}, and must be from 0 to 1")]
    Share {
        /// The challenge.
        challenge: String,
        /// What was given.
        share: f64,
    },
    /// The challenges ask for more than there is.
    #[error("the shares of all challenges sum to {sum}, which is more than 1")]
    Shares {
        /// The sum.
        sum: f64,
    },
    /// One challenge is given twice.
    #[error("challenge `{0}` is given twice")]
    Twice(String),
    /// A ranking's rows are no shares, or sum to more than 1.
    #[error("the ranking of challenge `{challenge}` has shares that sum to {sum}")]
    Ranking {
        /// The challenge.
        challenge: String,
        /// The sum, or the row that is no share.
        sum: f64,
    },
    /// One uid or hotkey is given twice.
    #[error("uid {0} or its hotkey is registered twice")]
    Neuron(u16),
    /// The burn uid does not exist.
    #[error("burn uid {0} is not registered")]
    BurnUid(u16),
}

impl Error {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        WEIGHTS_INPUT_WRONG.because(self.to_string())
    }
}

/// The weights by uid, positive ones only, in order of uid. They sum to 1 up to rounding.
///
/// A row whose hotkey is not registered, or not eligible, burns. The burn uid is paid whatever its eligibility.
///
/// # Errors
/// When shares, rankings or registrations cannot be.
pub fn aggregate(parts: &[Part<'_>], neurons: &[Neuron], burn_uid: u16) -> Result<Vec<(u16, f64)>, Error> {
    let uids = uids(neurons, burn_uid)?;
    check_shares(parts)?;
    // In order of the slug: the sum of floats depends on the order, so the order must not depend on the caller.
    let mut ordered: Vec<&Part<'_>> = parts.iter().collect();
    ordered.sort_by_key(|part| part.challenge);
    let mut weights: BTreeMap<u16, f64> = BTreeMap::new();
    let mut paid = 0.0;
    for part in ordered {
        let rows = part.rows.unwrap_or_default();
        check_ranking(part.challenge, rows)?;
        for row in rows {
            let weight = part.share * row.share;
            if let Some(uid) = uids.get(&row.hotkey).filter(|_| weight > 0.0) {
                *weights.entry(*uid).or_insert(0.0) += weight;
                paid += weight;
            }
        }
    }
    let unpaid = 1.0 - paid;
    // What rounding leaves is nobody's: burning it would add an entry to a vector that is paid out in full.
    if unpaid > SLACK {
        *weights.entry(burn_uid).or_insert(0.0) += unpaid;
    }
    Ok(weights.into_iter().collect())
}

/// The uids of those who may be paid.
fn uids(neurons: &[Neuron], burn_uid: u16) -> Result<BTreeMap<Hotkey, u16>, Error> {
    let (mut seen, mut hotkeys) = (BTreeSet::new(), BTreeSet::new());
    if let Some(twice) = neurons.iter().find(|it| !seen.insert(it.uid) || !hotkeys.insert(it.hotkey)) {
        return Err(Error::Neuron(twice.uid));
    }
    if !seen.contains(&burn_uid) {
        return Err(Error::BurnUid(burn_uid));
    }
    let eligible = neurons.iter().filter(|neuron| neuron.eligible);
    Ok(eligible.map(|neuron| (neuron.hotkey, neuron.uid)).collect())
}

fn check_shares(parts: &[Part<'_>]) -> Result<(), Error> {
    let mut slugs = BTreeSet::new();
    for part in parts {
        if !(0.0..=1.0).contains(&part.share) {
            return Err(Error::Share { challenge: part.challenge.to_owned(), share: part.share });
        }
        if !slugs.insert(part.challenge) {
            return Err(Error::Twice(part.challenge.to_owned()));
        }
    }
    let sum: f64 = parts.iter().map(|part| part.share).sum();
    if sum > 1.0 + SLACK { Err(Error::Shares { sum }) } else { Ok(()) }
}

fn check_ranking(challenge: &str, rows: &[Row]) -> Result<(), Error> {
    let wrong = |sum| Err(Error::Ranking { challenge: challenge.to_owned(), sum });
    if let Some(row) = rows.iter().find(|row| !(0.0..=1.0).contains(&row.share)) {
        return wrong(row.share);
    }
    let sum: f64 = rows.iter().map(|row| row.share).sum();
    if sum > 1.0 + SLACK { wrong(sum) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn row(hotkey: u8, share: f64) -> Row {
        let results = BTreeMap::new();
        Row { hotkey: Hotkey([hotkey; 32]), submission: None, points: 0.0, share, reason: String::new(), results }
    }

    fn neurons(count: u8) -> Vec<Neuron> {
        (0..count).map(|uid| Neuron { uid: uid.into(), hotkey: Hotkey([uid; 32]), eligible: uid != 9 }).collect()
    }

    #[test]
    fn two_challenges_add_up_and_the_rest_burns() {
        let (one, two) = ([row(1, 0.5), row(2, 0.25)], [row(2, 1.0)]);
        let parts = [
            Part { challenge: "b", share: 0.5, rows: Some(&one) },
            Part { challenge: "a", share: 0.25, rows: Some(&two) },
        ];
        let weights = aggregate(&parts, &neurons(4), 0).unwrap();
        // 2 has 0.5 * 0.25 and 0.25 * 1; a quarter of the first challenge and the unallocated quarter burn.
        assert_eq!(weights, [(0, 0.375), (1, 0.25), (2, 0.375)]);
    }

    #[test]
    fn a_missing_ranking_burns_its_own_share_only() {
        let one = [row(1, 1.0)];
        let parts =
            [Part { challenge: "a", share: 0.5, rows: Some(&one) }, Part { challenge: "b", share: 0.5, rows: None }];
        assert_eq!(aggregate(&parts, &neurons(3), 2).unwrap(), [(1, 0.5), (2, 0.5)]);
        assert_eq!(aggregate(&[], &neurons(3), 2).unwrap(), [(2, 1.0)]);
    }

    #[test]
    fn the_unregistered_and_the_ineligible_burn() {
        let rows = [row(200, 0.5), row(9, 0.25), row(1, 0.25)];
        let parts = [Part { challenge: "a", share: 1.0, rows: Some(&rows) }];
        assert_eq!(aggregate(&parts, &neurons(12), 9).unwrap(), [(1, 0.25), (9, 0.75)]);
    }

    #[test]
    fn impossible_inputs_are_refused() {
        let part = |share| Part { challenge: "a", share, rows: None };
        for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(aggregate(&[part(share)], &neurons(1), 0), Err(Error::Share { .. })), "{share}");
        }
        let other = Part { challenge: "b", share: 0.6, rows: None };
        assert!(matches!(aggregate(&[part(0.6), other], &neurons(1), 0), Err(Error::Shares { .. })));
        assert!(matches!(aggregate(&[part(0.1), part(0.1)], &neurons(1), 0), Err(Error::Twice(_))));
        assert_eq!(aggregate(&[], &neurons(1), 1), Err(Error::BurnUid(1)));
        for wrong in [[row(1, f64::NAN), row(2, 0.0)], [row(1, -0.5), row(2, 0.5)], [row(1, 0.6), row(2, 0.6)]] {
            let parts = [Part { challenge: "a", share: 1.0, rows: Some(&wrong) }];
            assert!(matches!(aggregate(&parts, &neurons(3), 0), Err(Error::Ranking { .. })), "{wrong:?}");
        }
        let mut twice = neurons(3);
        twice[2].hotkey = twice[1].hotkey;
        assert_eq!(aggregate(&[], &twice, 0), Err(Error::Neuron(2)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn everything_is_paid_or_burned_in_any_order(
            shares in prop::collection::vec((0_u32..100, prop::collection::vec((0_u8..20, 0_u32..100), 0..8)), 1..5),
        ) {
            let all: u32 = shares.iter().map(|(share, _)| share).sum::<u32>().max(1);
            let rankings: Vec<(String, f64, Vec<Row>)> = shares.iter().enumerate().map(|(at, (share, rows))| {
                let sum: u32 = rows.iter().map(|(_, points)| points).sum::<u32>().max(1) + 7;
                let rows = rows.iter().map(|(to, points)| row(*to, f64::from(*points) / f64::from(sum)));
                (format!("c{at}"), f64::from(*share) / f64::from(all), rows.collect())
            }).collect();
            let parts: Vec<Part<'_>> = rankings.iter()
                .map(|(challenge, share, rows)| Part { challenge, share: *share, rows: Some(rows) }).collect();
            let mut turned = parts.clone();
            turned.reverse();
            let weights = aggregate(&parts, &neurons(16), 0).unwrap();
            prop_assert_eq!(&weights, &aggregate(&turned, &neurons(16), 0).unwrap());
            let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
            prop_assert!((sum - 1.0).abs() < 1e-8);
            prop_assert!(weights.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(weights.iter().all(|(uid, weight)| *weight > 0.0 && *uid != 9));
        }
    }
}

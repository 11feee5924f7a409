//! Quantisation: weights by uid become the u16 vector that the chain stores unchanged.
//!
//! Owns the chain's own arithmetic (signed fixed point with 32 bits of fraction, which scales the largest value to
//! 65535) and its limits on a vector. Refuses to talk to a chain. The weight setter and `waag verify` call it.
//!
//! # Limits
//!
//! `max_limit` bounds the part of the sum that one entry may have, of 65535. What an earner would have above it goes
//! to the burn uid, never to another earner. When the burn uid itself would be above the limit, every vector that the
//! chain takes would pay somebody more than it earned: [`Error::Unsettable`], and nothing is set.
//! `min_allowed` bounds the number of entries; missing ones are added with weight 0, lowest uids first.

use serde::{Deserialize, Serialize};

use crate::fault::{Class, Code, Fault};

/// What the largest weight becomes.
pub const TOP: u16 = u16::MAX;
/// Fraction bits of the chain's fixed-point numbers.
const FRACTION_BITS: u32 = 32;
/// Above this largest value the chain divides before it multiplies, to stay within 31 bits.
const DIVIDES_FIRST_ABOVE: u16 = 32_768;

/// The chain's limits allow no honest vector.
pub const WEIGHTS_UNSETTABLE: Code = Code::new(
    Class::Operator,
    "weights_unsettable",
    "the chain's limits on weights allow no vector that pays nobody more than it earned",
    "raise the subnet's MaxWeightsLimit, or choose a burn uid that exists",
);

/// The chain's limits on a vector, at the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many uids there are.
    pub n: u16,
    /// How many entries a vector needs (at most `n` are asked for).
    pub min_allowed: u16,
    /// The largest part of the sum that one entry may have, of 65535; 65535 is no limit.
    pub max_limit: u16,
    /// The version key that the call carries.
    pub version_key: u64,
}

/// A vector as it is signed and as the chain stores it, in order of uid.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The destinations.
    pub uids: Vec<u16>,
    /// Their weights; the largest is 65535.
    pub values: Vec<u16>,
}

impl Vector {
    /// The weight of a uid; one that is absent has none.
    #[must_use]
    pub fn get(&self, uid: u16) -> u16 {
        self.uids.binary_search(&uid).ok().and_then(|at| self.values.get(at)).copied().unwrap_or(0)
    }
}

/// Why there is no vector.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A weight is no weight, or a uid is given twice or does not exist.
    #[error("uid {uid} has weight {weight} in a subnet of {n}")]
    Weight {
        /// The uid.
        uid: u16,
        /// Its weight.
        weight: f64,
        /// How many uids there are.
        n: u16,
    },
    /// There is nothing to set.
    #[error("all weights are zero")]
    Nothing,
    /// No vector within the limit pays nobody more than it earned.
    #[error("with the burn uid {burn_uid} a part of {part:.6} would be above the limit of {max_limit} of 65535")]
    Unsettable {
        /// Where the rest would go.
        burn_uid: u16,
        /// The part that is too large.
        part: f64,
        /// The limit.
        max_limit: u16,
    },
}

impl Error {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        WEIGHTS_UNSETTABLE.because(self.to_string())
    }
}

/// Scales a vector as the chain does before it stores it: the largest value becomes 65535, to the last bit as the
/// chain's fixed point rounds. All zeros stay zeros.
#[must_use]
pub fn upscale(values: &[u16]) -> Vec<u16> {
    let largest = values.iter().copied().max().unwrap_or(0);
    if largest == 0 {
        return values.to_vec();
    }
    let (top, wide) = (u64::from(TOP) << FRACTION_BITS, u64::from(largest));
    let scaled = |value: u16| {
        let value = u64::from(value);
        // The chain's division drops what lies below 2^-32, so where it stands decides the last bit.
        let fixed = if largest > DIVIDES_FIRST_ABOVE { value * (top / wide) } else { value * top / wide };
        let rounded = (fixed + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS;
        u16::try_from(rounded).unwrap_or(TOP)
    };
    values.iter().map(|value| scaled(*value)).collect()
}

/// Whether no entry has a larger part of the sum than the limit, as the chain computes it on the scaled vector.
#[must_use]
pub fn is_within(values: &[u16], max_limit: u16) -> bool {
    let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
    let largest = u64::from(values.iter().copied().max().unwrap_or(0));
    max_limit == TOP
        || sum == 0
        || (largest << FRACTION_BITS) / sum <= (u64::from(max_limit) << FRACTION_BITS) / u64::from(TOP)
}

/// The vector of these weights: what the chain stores when it is set is exactly what is returned.
///
/// # Errors
/// When the weights are none, or the chain's limits allow no vector.
pub fn quantise(weights: &[(u16, f64)], limits: &Limits, burn_uid: u16) -> Result<Vector, Error> {
    let mut weights = normalised(weights, limits, burn_uid)?;
    if limits.max_limit < TOP {
        clip(&mut weights, limits, burn_uid)?;
    }
    let largest = weights.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
    let scaled = |round: fn(f64) -> f64| -> Vec<u16> {
        let top = f64::from(TOP);
        // The cast saturates, and the quotient lies between 0 and 1.
        weights.iter().map(|(_, weight)| round(weight / largest * top) as u16).collect()
    };
    let mut values = scaled(libm::round);
    if !is_within(&values, limits.max_limit) {
        // Rounding down made the sum, and with it the largest part, wrong by a hair: rounding up cannot.
        values = scaled(libm::ceil);
    }
    if !is_within(&values, limits.max_limit) {
        let sum: f64 = weights.iter().map(|(_, weight)| *weight).sum();
        return Err(Error::Unsettable { burn_uid, part: largest / sum, max_limit: limits.max_limit });
    }
    let entries = weights.iter().map(|(uid, _)| *uid).zip(values).filter(|(_, value)| *value > 0).collect();
    let vector = pad(entries, limits);
    assert_eq!(upscale(&vector.values), vector.values, "what is set is what is stored");
    Ok(vector)
}

/// The weights with sum 1, in order of uid, with an entry for the burn uid.
fn normalised(weights: &[(u16, f64)], limits: &Limits, burn_uid: u16) -> Result<Vec<(u16, f64)>, Error> {
    let mut ordered = weights.to_vec();
    ordered.sort_by_key(|(uid, _)| *uid);
    let wrong = ordered.iter().enumerate().find(|(at, (uid, weight))| {
        let twice = *at > 0 && ordered[at - 1].0 == *uid;
        twice || *uid >= limits.n || !weight.is_finite() || *weight < 0.0
    });
    if let Some((_, (uid, weight))) = wrong {
        return Err(Error::Weight { uid: *uid, weight: *weight, n: limits.n });
    }
    if burn_uid >= limits.n {
        return Err(Error::Weight { uid: burn_uid, weight: 0.0, n: limits.n });
    }
    let sum: f64 = ordered.iter().map(|(_, weight)| *weight).sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return Err(Error::Nothing);
    }
    if let Err(at) = ordered.binary_search_by_key(&burn_uid, |(uid, _)| *uid) {
        ordered.insert(at, (burn_uid, 0.0));
    }
    Ok(ordered.into_iter().map(|(uid, weight)| (uid, weight / sum)).collect())
}

/// Nobody above the limit; what is above it goes to the burn uid.
fn clip(weights: &mut [(u16, f64)], limits: &Limits, burn_uid: u16) -> Result<(), Error> {
    let cap = f64::from(limits.max_limit) / f64::from(TOP);
    let mut excess = 0.0;
    for (_, weight) in weights.iter_mut().filter(|(uid, _)| *uid != burn_uid) {
        if *weight > cap {
            excess += *weight - cap;
            *weight = cap;
        }
    }
    for (_, weight) in weights.iter_mut().filter(|(uid, _)| *uid == burn_uid) {
        *weight += excess;
        // Sums of parts may be above the limit by their rounding alone.
        if *weight > cap * (1.0 + 1e-12) {
            return Err(Error::Unsettable { burn_uid, part: *weight, max_limit: limits.max_limit });
        }
        *weight = weight.min(cap);
    }
    Ok(())
}

/// At least as many entries as the chain asks for, with zeros for the lowest uids that are missing.
fn pad(mut entries: Vec<(u16, u16)>, limits: &Limits) -> Vector {
    let wanted = usize::from(limits.min_allowed.min(limits.n));
    let missing: Vec<u16> =
        (0..limits.n).filter(|uid| entries.binary_search_by_key(uid, |(known, _)| *known).is_err()).collect();
    let count = wanted.saturating_sub(entries.len());
    entries.extend(missing.into_iter().take(count).map(|uid| (uid, 0)));
    entries.sort_unstable();
    let (uids, values) = entries.into_iter().unzip();
    Vector { uids, values }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(n: u16) -> Limits {
        Limits { n, min_allowed: 0, max_limit: TOP, version_key: 0 }
    }

    // The first rows are recorded from the chain's own tests and from a real runtime.
    #[test]
    fn upscaling_has_known_answers() {
        for (given, stored) in [
            (vec![], vec![]),
            (vec![0, 0], vec![0, 0]),
            (vec![5], vec![65535]),
            (vec![0, 1], vec![0, 65535]),
            (vec![65534], vec![65535]),
            (vec![0, 1, 2, 3, 4, 32768], vec![0, 2, 4, 6, 8, 65535]),
            (vec![32768, 32769], vec![65533, 65535]),
            (vec![65535, 1, 32767], vec![65535, 1, 32767]),
        ] {
            assert_eq!(upscale(&given), stored, "{given:?}");
        }
    }

    #[test]
    fn dividing_first_loses_a_tie() {
        // 65535 * 32767 / 65534 is exactly 32767.5, which would round up; the factor was rounded down before.
        assert_eq!(upscale(&[32767, 65534]), [32767, 65535]);
        // Up to 32768 the chain multiplies first, and the tie rounds up: 65535 * 1 / 2 = 32767.5.
        assert_eq!(upscale(&[1, 2]), [32768, 65535]);
    }

    #[test]
    fn the_largest_becomes_65535_and_the_rest_in_proportion() {
        let vector = quantise(&[(3, 0.5), (1, 0.25), (2, 0.25)], &limits(5), 0).unwrap();
        assert_eq!(vector, Vector { uids: vec![1, 2, 3], values: vec![32768, 32768, 65535] });
        assert_eq!((vector.get(3), vector.get(0)), (65535, 0));
    }

    #[test]
    fn missing_entries_are_padded_with_zeros() {
        let padded = quantise(&[(3, 1.0)], &Limits { min_allowed: 3, ..limits(5) }, 3).unwrap();
        assert_eq!(padded, Vector { uids: vec![0, 1, 3], values: vec![0, 0, 65535] });
        let few = quantise(&[(1, 1.0)], &Limits { min_allowed: 9, ..limits(2) }, 0).unwrap();
        assert_eq!(few, Vector { uids: vec![0, 1], values: vec![0, 65535] });
    }

    #[test]
    fn what_is_above_the_limit_burns() {
        // 40 % at most: 0.7 becomes 0.4, and the burn uid has 0.3 and its own 0.05.
        let limits = Limits { max_limit: 26214, ..limits(4) };
        let vector = quantise(&[(0, 0.05), (1, 0.7), (2, 0.25)], &limits, 0).unwrap();
        assert!(is_within(&vector.values, limits.max_limit));
        assert_eq!(vector.get(1), 65535);
        assert!((f64::from(vector.get(0)) / 65535.0 - 0.35 / 0.4).abs() < 1e-4, "{vector:?}");
        assert!((f64::from(vector.get(2)) / 65535.0 - 0.25 / 0.4).abs() < 1e-4, "{vector:?}");
    }

    #[test]
    fn a_limit_that_even_the_burn_uid_exceeds_sets_nothing() {
        let limits = Limits { max_limit: 19661, ..limits(4) };
        let refused = quantise(&[(1, 1.0)], &limits, 0);
        assert!(matches!(refused, Err(Error::Unsettable { burn_uid: 0, .. })), "{refused:?}");
        assert_eq!(refused.unwrap_err().fault().code, "weights_unsettable");
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        for wrong in [&[(1, f64::NAN)][..], &[(1, -0.5)], &[(1, f64::INFINITY)], &[(4, 1.0)], &[(1, 0.5), (1, 0.5)]] {
            assert!(matches!(quantise(wrong, &limits(4), 0), Err(Error::Weight { .. })), "{wrong:?}");
        }
        assert_eq!(quantise(&[], &limits(4), 0), Err(Error::Nothing));
        assert_eq!(quantise(&[(1, 0.0)], &limits(4), 0), Err(Error::Nothing));
        assert!(matches!(quantise(&[(1, 1.0)], &limits(4), 4), Err(Error::Weight { uid: 4, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn upscaling_twice_is_upscaling_once(values in prop::collection::vec(any::<u16>(), 0..20)) {
            let once = upscale(&values);
            prop_assert_eq!(upscale(&once), once.clone());
            if values.iter().any(|value| *value > 0) {
                prop_assert_eq!(once.iter().copied().max(), Some(TOP));
            }
        }

        #[test]
        fn what_is_computed_is_what_is_stored(
            raw in prop::collection::btree_map(0_u16..256, 1_u32..1_000_000, 1..64),
            burn_uid in 0_u16..256, min_allowed in 0_u16..300, max_limit in 1000_u16..=TOP,
        ) {
            let sum: f64 = raw.values().map(|weight| f64::from(*weight)).sum();
            let weights: Vec<(u16, f64)> = raw.iter().map(|(uid, weight)| (*uid, f64::from(*weight) / sum)).collect();
            let limits = Limits { n: 256, min_allowed, max_limit, version_key: 0 };
            match quantise(&weights, &limits, burn_uid) {
                Ok(vector) => {
                    prop_assert_eq!(upscale(&vector.values), vector.values.clone());
                    prop_assert!(is_within(&vector.values, max_limit));
                    prop_assert!(vector.uids.len() >= usize::from(min_allowed.min(256)));
                    prop_assert!(vector.uids.windows(2).all(|pair| pair[0] < pair[1]));
                    // Nobody but the burn uid has a larger part than it earned, up to the step of a u16.
                    let all: f64 = vector.values.iter().map(|value| f64::from(*value)).sum();
                    for (uid, earned) in &weights {
                        let part = f64::from(vector.get(*uid)) / all;
                        prop_assert!(*uid == burn_uid || part <= earned + 1.0 / 65535.0, "{uid}: {part} of {earned}");
                    }
                }
                Err(error) => {
                    // Only a limit may prevent a vector, and only when the burn uid would be above it.
                    let cap = f64::from(max_limit) / 65535.0;
                    let above = |(uid, weight): &(u16, f64)| if *uid == burn_uid { *weight } else { (weight - cap).max(0.0) };
                    let burned: f64 = weights.iter().map(above).sum();
                    prop_assert!(burned > cap, "{error}");
                }
            }
        }
    }
}

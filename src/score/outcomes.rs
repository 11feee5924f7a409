//! The evidence of rollouts: which episodes of a run each contestant solved.
//!
//! Owns the JSON form that the rollouts stage writes and the ranking reads. Refuses to know environments or seeds:
//! episode `i` of an environment has the same seed for everybody in the run, and that is all a rule needs.
//!
//! ```json
//! {"run": 3, "environments": {"CartPole-v1": {"successes": "5:f8", "mean_return": 500.0, "records": null}}}
//! ```

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// Episodes of one contestant in one environment: a hundred times what decides any difference worth paying for.
pub const EPISODES_MAX: u32 = 100_000;

/// What the rollouts stage passes on for one contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutEvidence {
    /// The run's number within its challenge. Evidence of another run is never compared with this one's.
    pub run: u64,
    /// Every environment of the run, by name. One that is missing counts as failed in every episode.
    pub environments: BTreeMap<String, EnvironmentResult>,
}

/// One contestant in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentResult {
    /// Which episodes it solved, in the order of the run's seeds. Whatever went wrong in an episode, it is not solved.
    pub successes: Successes,
    /// Mean of the episodes' returns, for tables; pays nothing.
    #[serde(default)]
    pub mean_return: Option<f64>,
    /// Content address of the full episode records (returns, lengths), when they are kept.
    #[serde(default)]
    pub records: Option<Digest>,
}

/// One bit an episode, written as `episodes:hex` with the first episode in the highest bit of the first byte.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Successes {
    episodes: u32,
    /// Bits beyond `episodes` are zero.
    bytes: Vec<u8>,
}

/// Successes that are not written as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not `episodes:hex`, or not the one way to write it.
    #[error("successes are written as the number of episodes, a colon, and one bit an episode in lower-case hex")]
    Form,
    /// Too many.
    #[error("more than {EPISODES_MAX} episodes")]
    Many,
}

impl Successes {
    /// From one flag an episode.
    ///
    /// # Errors
    /// When there are more than [`EPISODES_MAX`].
    pub fn new(flags: &[bool]) -> Result<Self, ParseError> {
        let episodes =
            u32::try_from(flags.len()).ok().filter(|count| *count <= EPISODES_MAX).ok_or(ParseError::Many)?;
        let bytes = flags
            .chunks(8)
            .map(|chunk| chunk.iter().enumerate().fold(0, |byte, (bit, flag)| byte | (u8::from(*flag) << (7 - bit))))
            .collect();
        Ok(Self { episodes, bytes })
    }

    /// How many episodes were played.
    #[must_use]
    pub const fn episodes(&self) -> u32 {
        self.episodes
    }

    /// How many were solved.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.bytes.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether this episode was solved; one that was not played is not.
    #[must_use]
    pub fn get(&self, episode: u32) -> bool {
        let byte = usize::try_from(episode / 8).ok().and_then(|at| self.bytes.get(at));
        byte.is_some_and(|byte| byte & (0x80 >> (episode % 8)) != 0)
    }

    /// How many episodes only this one solved, and how many only the other.
    #[must_use]
    pub fn discordant(&self, other: &Self) -> (u64, u64) {
        let (mut ours, mut theirs) = (0, 0);
        for at in 0..self.bytes.len().max(other.bytes.len()) {
            let left = self.bytes.get(at).copied().unwrap_or(0);
            let right = other.bytes.get(at).copied().unwrap_or(0);
            ours += u64::from((left & !right).count_ones());
            theirs += u64::from((right & !left).count_ones());
        }
        (ours, theirs)
    }
}

impl fmt::Display for Successes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.episodes, hex::encode(&self.bytes))
    }
}

impl fmt::Debug for Successes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Successes({self})")
    }
}

impl FromStr for Successes {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (count, bits) = text.split_once(':').ok_or(ParseError::Form)?;
        let episodes: u32 = count.parse().map_err(|_source| ParseError::Form)?;
        if episodes > EPISODES_MAX {
            return Err(ParseError::Many);
        }
        if u64::try_from(bits.len()).ok() != Some(u64::from(episodes.div_ceil(8)) * 2) {
            return Err(ParseError::Form);
        }
        let parsed = Self { episodes, bytes: hex::decode(bits).map_err(|_source| ParseError::Form)? };
        let spare_bits = (8 - episodes % 8) % 8;
        let is_clean = parsed.bytes.last().is_none_or(|last| u32::from(*last) & ((1 << spare_bits) - 1) == 0);
        // Written back it must be the same text: one value has one form, so that a digest of it means something.
        if is_clean && parsed.to_string() == text { Ok(parsed) } else { Err(ParseError::Form) }
    }
}

impl From<Successes> for String {
    fn from(successes: Successes) -> Self {
        successes.to_string()
    }
}

impl TryFrom<String> for Successes {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn successes_have_one_form() {
        let five = Successes::new(&[true; 5]).unwrap();
        assert_eq!(five.to_string(), "5:f8");
        assert_eq!("5:f8".parse(), Ok(five));
        assert_eq!("0:".parse(), Ok(Successes::default()));
        for wrong in ["", ":", "5", "5:", "5:f9", "5:F8", "05:f8", "+5:f8", "5:f800", "9:f8", "5:g8", "-1:", "5:ü"] {
            assert_eq!(wrong.parse::<Successes>(), Err(ParseError::Form), "{wrong}");
        }
    }

    #[test]
    fn the_limit_of_episodes_holds_at_its_edge() {
        let most = usize::try_from(EPISODES_MAX).unwrap();
        let full = Successes::new(&vec![true; most]).unwrap();
        assert_eq!(full.to_string().parse(), Ok(full));
        assert_eq!(Successes::new(&vec![true; most + 1]), Err(ParseError::Many));
        assert_eq!(format!("{}:", EPISODES_MAX + 1).parse::<Successes>(), Err(ParseError::Many));
    }

    #[test]
    fn evidence_reads_what_it_writes() {
        let text = r#"{"run":3,"environments":{"A-v0":{"successes":"3:a0","mean_return":1.5,"records":null}}}"#;
        let evidence: RolloutEvidence = serde_json::from_str(text).unwrap();
        assert!(evidence.environments["A-v0"].successes.get(0) && !evidence.environments["A-v0"].successes.get(1));
        assert_eq!(serde_json::to_string(&evidence).unwrap(), text);
        assert!(serde_json::from_str::<RolloutEvidence>(&text.replace("\"run\"", "\"runs\"")).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bits_count_what_flags_count(left in prop::collection::vec(any::<bool>(), 0..70),
                                       right in prop::collection::vec(any::<bool>(), 0..70)) {
            let (a, b) = (Successes::new(&left).unwrap(), Successes::new(&right).unwrap());
            prop_assert_eq!(a.to_string().parse::<Successes>(), Ok(a.clone()));
            prop_assert_eq!(usize::try_from(a.count()).unwrap(), left.iter().filter(|flag| **flag).count());
            let at = |flags: &[bool], i: usize| flags.get(i).copied().unwrap_or(false);
            let only = |x: &[bool], y: &[bool]| (0..70).filter(|i| at(x, *i) && !at(y, *i)).count() as u64;
            prop_assert_eq!(a.discordant(&b), (only(&left, &right), only(&right, &left)));
            for (i, flag) in left.iter().enumerate() {
                prop_assert_eq!(a.get(u32::try_from(i).unwrap()), *flag);
            }
        }
    }
}

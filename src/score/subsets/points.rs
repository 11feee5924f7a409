//! What a subset is worth by its size.
//!
//! Owns the three scales. Refuses to know who wins; both forms of the rule use it.

use serde::Deserialize;

/// The points of a subset of `k` environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Points {
    /// `k`: being good at many things is worth more, in proportion.
    #[default]
    Linear,
    /// `2^(k-1)`: being good at everything is worth most.
    Exponential,
    /// 1: every subset is worth the same.
    Equal,
}

impl Points {
    /// The points of a subset of this many environments, at least one and at most sixteen.
    #[must_use]
    pub fn of(self, environments: u32) -> f64 {
        match self {
            Self::Linear => f64::from(environments),
            Self::Exponential => f64::from(1_u32 << environments.clamp(1, 16) >> 1),
            Self::Equal => 1.0,
        }
    }
}

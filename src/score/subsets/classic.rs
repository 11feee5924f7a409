//! The subset rule in its first form: unpaired success rates, margins by sample size, softmax of the points.
//!
//! Owns the arithmetic and nothing else; kept so that vectors of systems that pay by it can be checked. Refuses to be
//! a ranking rule here: it pays the early and the idle more than it should (see the handbook), which
//! [`Subsets`](super::Subsets) repairs. Comparisons and tests call it.

use super::Points;

/// How wide a margin is: `clip(z √(q(1−q)/n), gap_min, gap_max)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// Standard errors.
    pub z: f64,
    /// The least margin.
    pub gap_min: f64,
    /// The largest margin, also used when there are no episodes.
    pub gap_max: f64,
}

impl Default for Margin {
    fn default() -> Self {
        Self { z: 1.5, gap_min: 0.02, gap_max: 0.10 }
    }
}

/// One contestant: its block and its success rate in each environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Miner {
    /// Its uid; orders miners of one block.
    pub uid: u16,
    /// The block of its commitment; `None` counts as later than any.
    pub block: Option<u32>,
    /// Success rates, 0 to 1, in the order of the environments.
    pub rates: Vec<f64>,
}

impl Miner {
    fn priority(&self) -> u64 {
        self.block.map_or(1 << 32, u64::from)
    }
}

impl Margin {
    /// How much better than `rate` a later miner must be after this many episodes.
    #[must_use]
    pub fn gap(self, rate: f64, episodes: u32) -> f64 {
        if episodes == 0 {
            return self.gap_max;
        }
        let q = rate.clamp(0.01, 0.99);
        let error = libm::sqrt(q * (1.0 - q) / f64::from(episodes));
        (self.z * error).clamp(self.gap_min, self.gap_max)
    }

    /// What a later miner's rate must exceed.
    #[must_use]
    pub fn threshold(self, rate: f64, episodes: u32) -> f64 {
        (rate + self.gap(rate, episodes)).min(1.0)
    }
}

/// Whether `candidate` beats `other` on the environments of the mask. Of one block, the candidate counts as earlier.
fn beats(candidate: &Miner, other: &Miner, mask: u16, margin: Margin, episodes: u32) -> bool {
    let exceeds_everywhere = |later: &Miner, earlier: &Miner| {
        let rates = later.rates.iter().zip(&earlier.rates).enumerate();
        rates
            .filter(|(environment, _)| mask >> environment & 1 == 1)
            .all(|(_, (later, earlier))| *later > margin.threshold(*earlier, episodes))
    };
    if candidate.priority() <= other.priority() {
        !exceeds_everywhere(other, candidate)
    } else {
        exceeds_everywhere(candidate, other)
    }
}

/// Who wins the environments of the mask: the first by block and uid that beats all others. There may be none.
#[must_use]
pub fn winner(miners: &[Miner], mask: u16, margin: Margin, episodes: u32) -> Option<usize> {
    let mut order: Vec<usize> = (0..miners.len()).collect();
    order.sort_by_key(|at| (miners[*at].priority(), miners[*at].uid));
    order.into_iter().find(|at| {
        let others = (0..miners.len()).filter(|other| other != at);
        others.into_iter().all(|other| beats(&miners[*at], &miners[other], mask, margin, episodes))
    })
}

/// The points of each miner over all non-empty subsets of the environments.
#[must_use]
pub fn points(miners: &[Miner], environments: u32, points: Points, margin: Margin, episodes: u32) -> Vec<f64> {
    let mut won = vec![0.0; miners.len()];
    for mask in 1..1_u16 << environments {
        if let Some(winner) = winner(miners, mask, margin, episodes) {
            won[winner] += points.of(mask.count_ones());
        }
    }
    won
}

/// Softmax of the points at this temperature; uniform when nobody has any.
#[must_use]
pub fn weights(points: &[f64], temperature: f64) -> Vec<f64> {
    let largest = points.iter().copied().fold(0.0, f64::max);
    let count = points.len() as f64;
    if largest <= 0.0 {
        return points.iter().map(|_| 1.0 / count).collect();
    }
    let raised: Vec<f64> = points.iter().map(|own| libm::exp((own - largest) / temperature)).collect();
    let sum: f64 = raised.iter().sum();
    raised.into_iter().map(|own| own / sum).collect()
}

/// Weights of 65535, rounded down.
#[must_use]
pub fn to_u16(weights: &[f64]) -> Vec<u16> {
    // The cast saturates, and the weights lie between 0 and 1.
    weights.iter().map(|weight| libm::floor(weight * 65535.0) as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn miner(uid: u16, block: u32, percent: &[u32]) -> Miner {
        let rates = percent.iter().map(|rate| f64::from(*rate) / 100.0).collect();
        Miner { uid, block: Some(block), rates }
    }

    #[test]
    fn gaps_are_the_published_ones() {
        let margin = Margin::default();
        for (episodes, rate, gap) in [(50, 0.5, 0.10), (100, 0.5, 0.075), (500, 0.5, 0.034), (50, 0.0, 0.021)] {
            let seen = margin.gap(rate, episodes);
            assert!((seen - gap).abs() < 0.0005, "{episodes} {rate}: {seen}");
        }
        assert_eq!(margin.gap(0.5, 0), 0.10);
        assert_eq!(margin.gap(0.5, 1_000_000), 0.02);
        // At 96 % of 50 episodes nothing can be enough.
        assert_eq!(margin.threshold(0.98, 50), 1.0);
    }

    #[test]
    fn an_early_specialist_keeps_what_it_is_not_beaten_on_everywhere() {
        let miners = [miner(0, 1, &[95, 40, 40]), miner(1, 2, &[70, 70, 70])];
        assert_eq!(points(&miners, 3, Points::Linear, Margin::default(), 50), [8.0, 4.0]);
        let paid = weights(&[8.0, 4.0], 1.0);
        assert!((paid[0] - 0.982).abs() < 0.0005, "{paid:?}");
        assert_eq!(to_u16(&paid), [64356, 1178]);
    }

    #[test]
    fn points_scale_as_the_profile_says() {
        let lone = [miner(3, 1, &[10; 9])];
        let total = |scale| points(&lone, 9, scale, Margin::default(), 50)[0];
        assert_eq!(total(Points::Linear), 2304.0);
        assert_eq!(total(Points::Exponential), (3_u32.pow(9) - 1) as f64 / 2.0);
        assert_eq!(total(Points::Equal), 511.0);
    }

    #[test]
    fn an_early_miner_without_any_success_holds_its_subsets() {
        let miners = [miner(0, 1, &[0]), miner(1, 2, &[2])];
        assert_eq!(winner(&miners, 1, Margin::default(), 50), Some(0));
        let better = [miner(0, 1, &[0]), miner(1, 2, &[3])];
        assert_eq!(winner(&better, 1, Margin::default(), 50), Some(1));
    }

    #[test]
    fn a_cycle_has_no_winner() {
        // The second does not clear the first, the third clears the first and not the second.
        let miners = [miner(0, 1, &[50]), miner(1, 2, &[58]), miner(2, 3, &[65])];
        assert_eq!(winner(&miners, 1, Margin::default(), 50), None);
    }

    #[test]
    fn without_points_all_are_paid_alike() {
        assert_eq!(weights(&[0.0, 0.0], 1.0), [0.5, 0.5]);
        assert!(weights(&[], 1.0).is_empty());
        let nothing = Miner { uid: 0, block: None, rates: vec![0.5] };
        let known = miner(9, u32::MAX, &[50]);
        assert_eq!(winner(&[nothing, known], 1, Margin::default(), 50), Some(1));
    }
}

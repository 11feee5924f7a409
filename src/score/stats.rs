//! Statistics of paired successes: the exact test and the bounds that decide who beats whom.
//!
//! Owns the arithmetic, in a fixed order of operations and with the software functions of `libm`, so that every
//! machine gets the same bits. Refuses to know what a success is worth. The rules call it.
//!
//! # The paired test
//!
//! Two contestants play the same episodes. An episode in which both succeed or both fail says nothing about their
//! difference. Of the others, the *discordant* ones, let `wins` be those in which only the first succeeded and
//! `losses` those in which only the second did. If the first is not better, each discordant episode is at most a fair
//! coin, so `wins` is at most as large as the heads of `wins + losses` fair coins. The first is better at level α iff
//! the chance of so many heads is below α. This is McNemar's test in its exact, one-sided form.
//!
//! The same as a bound: let `low` be the exact (Clopper-Pearson) lower confidence limit, at level α, of the chance
//! that a discordant episode is a win. The lower bound of the difference in mean success is
//! `(2 low − 1) (wins + losses) / episodes`, and it exceeds 0 exactly when the test says "better".
//!
//! Over several environments with the same number of episodes each, the mean over the environments of the mean
//! differences is `(wins − losses) / episodes` with everything counted over all of them, and the same test is used.
//! Where the two are equal in every environment it is exact. Where one is better here and worse there with mean zero,
//! the true spread is at most the coin's: enumerated exactly over such cases, for levels from 0.01 to 0.00004 and up to
//! 150 episodes an environment, the chance of a wrong "better" stayed below 0.85 α. A test keeps some of those cases.

use super::Rate;

/// The normal quantile of a two-sided confidence of 95 %.
const Z_95: f64 = 1.959_963_984_540_054;
/// Halvings of the interval when a limit is sought: more than the bits of a fraction.
const HALVINGS: u32 = 60;
/// A term below this part of the sum so far, beyond the mode, changes nothing that a f64 can hold.
const NEGLIGIBLE: f64 = 1e-18;

/// The chance of at least `at_least` heads among `trials` coins that fall heads with chance `heads`.
#[must_use]
pub fn binomial_tail(trials: u64, at_least: u64, heads: f64) -> f64 {
    if at_least == 0 || heads >= 1.0 {
        return if at_least > trials { 0.0 } else { 1.0 };
    }
    if at_least > trials || heads <= 0.0 {
        return 0.0;
    }
    let (n, k) = (trials as f64, at_least as f64);
    let ways = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    let mut term = libm::exp(ways + k * libm::log(heads) + (n - k) * libm::log1p(-heads));
    let mut sum = 0.0;
    let odds = heads / (1.0 - heads);
    let mean = n * heads;
    for count in at_least..=trials {
        sum += term;
        let at = count as f64;
        if at > mean && term < sum * NEGLIGIBLE {
            break;
        }
        term *= (n - at) / (at + 1.0) * odds;
    }
    sum.min(1.0)
}

/// Whether the first of two contestants is better at level `alpha`: see the module's text.
#[must_use]
pub fn is_better(wins: u64, losses: u64, alpha: f64) -> bool {
    // No level below one half lets the worse or equal record win, so most pairs need no sum at all.
    wins > losses && binomial_tail(wins + losses, wins, 0.5) < alpha
}

/// The one-sided lower confidence bound, at level `alpha`, of the difference in mean success over `episodes` paired
/// episodes: above 0 exactly when [`is_better`].
#[must_use]
pub fn lower_bound(wins: u64, losses: u64, episodes: u64, alpha: f64) -> f64 {
    let discordant = wins + losses;
    if episodes == 0 || discordant == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, wins as f64 / discordant as f64);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if binomial_tail(discordant, wins, middle) < alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    (2.0 * low - 1.0) * discordant as f64 / episodes as f64
}

/// A success rate with its 95 % confidence interval by Wilson's formula.
#[must_use]
pub fn rate(successes: u64, episodes: u64) -> Rate {
    if episodes == 0 {
        return Rate { successes, episodes, rate: 0.0, low: 0.0, high: 1.0 };
    }
    let n = episodes as f64;
    let p = successes as f64 / n;
    let z2 = Z_95 * Z_95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * libm::sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n));
    // At the ends the formula is exact and only its rounding is not.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == episodes { 1.0 } else { (centre + half).min(1.0) };
    Rate { successes, episodes, rate: p, low, high }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_near(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-9 * right.abs().max(1e-300)
    }

    // Known answers by hand: 2^-7; (120+45+10+1)/1024; 1 - 0.7^3.
    #[test]
    fn the_tail_has_known_answers() {
        assert!(is_near(binomial_tail(7, 7, 0.5), 1.0 / 128.0));
        assert!(is_near(binomial_tail(10, 7, 0.5), 176.0 / 1024.0));
        assert!(is_near(binomial_tail(3, 1, 0.3), 1.0 - 0.343));
        assert_eq!(binomial_tail(5, 6, 0.5), 0.0);
        assert_eq!(binomial_tail(5, 0, 0.5), 1.0);
        assert_eq!(binomial_tail(0, 0, 0.5), 1.0);
    }

    #[test]
    fn the_tail_agrees_with_whole_numbers() {
        // Pascal's triangle in u128: exact up to 120 coins.
        let mut row: Vec<u128> = vec![1];
        for trials in 1..=120_u64 {
            let mut next = vec![1_u128];
            next.extend(row.windows(2).map(|pair| pair[0] + pair[1]));
            next.push(1);
            row = next;
            let all = 2.0_f64.powi(i32::try_from(trials).unwrap());
            for at_least in [trials / 2, trials * 2 / 3, trials - 1] {
                let ways: u128 = row[usize::try_from(at_least).unwrap()..].iter().sum();
                assert!(is_near(binomial_tail(trials, at_least, 0.5), ways as f64 / all), "{trials} {at_least}");
            }
        }
    }

    #[test]
    fn seven_wins_without_a_loss_are_the_least_that_beat_at_one_in_a_hundred() {
        assert!(!is_better(6, 0, 0.01));
        assert!(is_better(7, 0, 0.01));
        // 60 to 40 has a chance of 2.84 %, 62 to 38 of 1.05 %, 63 to 37 of 0.60 %.
        assert!(!is_better(62, 38, 0.01));
        assert!(is_better(63, 37, 0.01));
        assert!(!is_better(0, 0, 0.01));
    }

    #[test]
    fn a_rate_has_wilsons_interval() {
        let half = rate(50, 100);
        assert!((half.low - 0.403_831_5).abs() < 1e-6 && (half.high - 0.596_168_5).abs() < 1e-6, "{half:?}");
        let none = rate(0, 200);
        assert_eq!(none.low, 0.0);
        assert!((none.high - 0.018_845_2).abs() < 1e-6, "{none:?}");
        assert_eq!(rate(200, 200).high, 1.0);
        assert_eq!((rate(0, 0).low, rate(0, 0).high), (0.0, 1.0));
    }

    /// The chance that the test says "better" when the first gains `gain` here and loses it there, by enumeration.
    fn size(episodes: u64, noise: f64, gain: f64, alpha: f64) -> f64 {
        // Environment one: win with `noise + gain`, loss with `noise`. Environment two: loss with `gain`.
        let pmf = |n: u64, k: u64, p: f64| binomial_tail(n, k, p) - binomial_tail(n, k + 1, p);
        let mut chance = 0.0;
        for discordant in 0..=episodes {
            let here = pmf(episodes, discordant, 2.0 * noise + gain);
            if here < 1e-12 {
                continue;
            }
            for wins in 0..=discordant {
                let split = pmf(discordant, wins, (noise + gain) / (2.0 * noise + gain));
                if here * split < 1e-12 {
                    continue;
                }
                for lost_there in 0..=episodes {
                    if !is_better(wins, discordant - wins + lost_there, alpha) {
                        break;
                    }
                    chance += here * split * pmf(episodes, lost_there, gain);
                }
            }
        }
        chance
    }

    #[test]
    fn the_size_is_kept_when_strengths_cancel() {
        for (alpha, noise, gain) in
            [(0.01, 0.45, 0.02), (0.01, 0.2, 0.1), (0.01, 0.0, 0.3), (0.001, 0.48, 0.03), (0.001, 0.1, 0.02)]
        {
            let size = size(60, noise, gain, alpha);
            assert!(size <= alpha, "size {size} at alpha {alpha}, noise {noise}, gain {gain}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_bound_exceeds_zero_exactly_when_better(wins in 0_u64..300, losses in 0_u64..300, level in 1_u32..5) {
            let alpha = libm::pow(10.0, -f64::from(level));
            let bound = lower_bound(wins, losses, 1000, alpha);
            prop_assert_eq!(bound > 0.0, is_better(wins, losses, alpha));
            prop_assert!(bound <= (wins as f64 - losses as f64) / 1000.0 + 1e-12);
        }

        #[test]
        fn more_wins_never_hurt_and_a_stricter_level_never_helps(wins in 0_u64..200, losses in 0_u64..200) {
            if is_better(wins, losses, 0.01) {
                prop_assert!(is_better(wins + 1, losses, 0.01));
            }
            if is_better(wins, losses, 0.001) {
                prop_assert!(is_better(wins, losses, 0.01));
            }
        }

        #[test]
        fn the_interval_holds_the_rate(successes in 0_u64..500, more in 0_u64..500) {
            let rate = rate(successes, successes + more);
            prop_assert!(0.0 <= rate.low && rate.low <= rate.rate && rate.rate <= rate.high && rate.high <= 1.0);
        }
    }
}

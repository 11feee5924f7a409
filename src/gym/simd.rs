//! Lanes: the layout in which many rows are computed side by side, and the instruction sets that can do it.
//!
//! Owns the layout and what this CPU has. Refuses to compute anything. Policies and rollouts use it.

/// Rows that are computed side by side. Two AVX-512 registers: the measured best on CPUs with and without them.
pub(super) const LANES: usize = 32;

/// One value for each row of a block.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

impl Lanes {
    /// Zero in every row.
    pub(super) const ZERO: Self = Self([0.0; LANES]);
}

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What every CPU of the target has.
    Baseline,
    /// 256-bit registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Whether this CPU (and its operating system) has it. The standard library remembers the answer.
    pub(super) fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl")
            }
        }
    }

    /// The best one here.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        for level in [Self::Avx512, Self::Avx2] {
            if level.is_available() {
                return level;
            }
        }
        Self::Baseline
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every level this CPU has.
    pub(in crate::gym) fn levels() -> Vec<Level> {
        let mut levels = vec![Level::Baseline];
        #[cfg(target_arch = "x86_64")]
        levels.extend([Level::Avx2, Level::Avx512].into_iter().filter(|level| level.is_available()));
        levels
    }

    #[test]
    fn the_best_level_is_available() {
        assert!(levels().contains(&Level::best()));
    }
}

//! numpy's default random generator, bit for bit: `SeedSequence` and `PCG64`, and the few draws that resets need.
//!
//! Owns the arithmetic that turns a seed into the numbers gymnasium's `reset(seed=k)` draws. Refuses to be a general
//! source of randomness: nothing here is unpredictable. The environments call it, and nobody else.

/// Words of the pool in which `SeedSequence` mixes its entropy.
const POOL_WORDS: usize = 4;
// The multipliers below are numpy's (`bit_generator.pyx`, after Melissa O'Neill's `seed_seq_fe`).
const INIT_A: u32 = 0x43b0_d7e5;
const MULT_A: u32 = 0x931e_8875;
const INIT_B: u32 = 0x8b51_f9dd;
const MULT_B: u32 = 0x58f3_8ded;
const MIX_LEFT: u32 = 0xca01_f9dd;
const MIX_RIGHT: u32 = 0x4973_f715;
const XSHIFT: u32 = 16;
/// The multiplier of the 128-bit linear congruential generator under PCG64.
const PCG_MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;

/// A hash whose constant changes with every word hashed.
struct WordHash {
    constant: u32,
    multiplier: u32,
}

impl WordHash {
    const fn new(constant: u32, multiplier: u32) -> Self {
        Self { constant, multiplier }
    }

    const fn hash(&mut self, word: u32) -> u32 {
        let seasoned = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let mixed = seasoned.wrapping_mul(self.constant);
        mixed ^ (mixed >> XSHIFT)
    }
}

const fn mix(left: u32, right: u32) -> u32 {
    let mixed = MIX_LEFT.wrapping_mul(left).wrapping_sub(MIX_RIGHT.wrapping_mul(right));
    mixed ^ (mixed >> XSHIFT)
}

/// `SeedSequence(seed).generate_state(4, uint64)`. A seed of 64 bits fills at most two of the pool's four words, so
/// numpy's treatment of longer entropy is not needed here.
fn seed_words(seed: u64) -> [u64; 4] {
    let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut hash = WordHash::new(INIT_A, MULT_A);
    let mut pool = entropy.map(|word| hash.hash(word));
    for source in 0..POOL_WORDS {
        for target in 0..POOL_WORDS {
            if source != target {
                pool[target] = mix(pool[target], hash.hash(pool[source]));
            }
        }
    }
    let mut output = WordHash::new(INIT_B, MULT_B);
    let mut next = |word: usize| u64::from(output.hash(pool[word % POOL_WORDS]));
    std::array::from_fn(|index| next(2 * index) | (next(2 * index + 1) << 32))
}

/// `numpy.random.Generator(PCG64(SeedSequence(seed)))`: what gymnasium calls `np_random` after `reset(seed=seed)`.
#[derive(Debug, Clone)]
pub struct Generator {
    state: u128,
    increment: u128,
}

impl Generator {
    /// The generator of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] = seed_words(seed);
        let join = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        let increment = (join(stream_high, stream_low) << 1) | 1;
        // The reference seeding: step from zero, add the seed, step again.
        let mut generator = Self { state: increment.wrapping_add(join(state_high, state_low)), increment };
        generator.advance();
        generator
    }

    const fn advance(&mut self) {
        self.state = self.state.wrapping_mul(PCG_MULTIPLIER).wrapping_add(self.increment);
    }

    /// Sixty-four bits: the XSL-RR output of PCG64.
    pub const fn next_u64(&mut self) -> u64 {
        self.advance();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// `random()`: 53 bits in `[0, 1)`.
    pub fn random(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// One draw of `uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: numpy 2.4, `np.random.SeedSequence(k).generate_state(4, np.uint64)`.
    #[test]
    fn seed_words_are_numpys() {
        let zero = [0xdb2c_d7e7_b0f4_78be, 0xabf4_641a_2c71_ba49, 0x20c6_ed6d_9d7b_8d41, 0x2c40_99de_223c_39d4];
        assert_eq!(seed_words(0), zero);
        let two_words = [0x50ff_846c_ec53_f444, 0x7a49_18db_e827_8562, 0x3bff_9f6c_362e_2b19, 0xbdb1_7753_9a06_54e3];
        assert_eq!(seed_words(1 << 32), two_words);
        let largest = [0xaebc_a151_928c_ad0d, 0x119c_3044_8638_dc7a, 0x1bbb_1556_59e6_42a7, 0xa76b_11e3_e8c4_a8f6];
        assert_eq!(seed_words(u64::MAX), largest);
    }

    // Expected values: `np.random.PCG64(np.random.SeedSequence(k)).random_raw(2)`.
    #[test]
    fn raw_words_are_numpys() {
        let raw = |seed: u64| {
            let mut generator = Generator::new(seed);
            [generator.next_u64(), generator.next_u64()]
        };
        assert_eq!(raw(0), [0xa30f_ebcf_d9c2_825f, 0x4510_bdf8_82d9_d721]);
        assert_eq!(raw(1), [0x8306_bdf3_7922_e4ff, 0xf351_96bb_c152_a866]);
        assert_eq!(raw(u64::MAX), [0xae16_3a7a_8c47_568f, 0xd866_59f5_f338_2359]);
    }

    // Expected values: `np.random.default_rng(k).random()` and `.uniform(-0.1, 0.1)`, exactly.
    #[test]
    fn draws_are_numpys() {
        assert_eq!(Generator::new(1).random().to_bits(), 0x3fe0_60d7_be6f_245c);
        assert_eq!(Generator::new(1).uniform(-0.1, 0.1).to_bits(), 0x3f63_5e59_496d_ac00);
        assert_eq!(Generator::new(2_147_483_647).uniform(-0.1, 0.1).to_bits(), 0xbfa7_76ec_1c12_dc80);
    }
}

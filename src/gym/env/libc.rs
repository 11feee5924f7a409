//! The C library's sine, cosine and power, which gymnasium's results depend on to the last bit.
//!
//! Owns the choice of which functions the environments use and the argument why. Refuses to approximate. Only the
//! environments call it.
//!
//! numpy's and Python's scalar functions are the C library's. An upright pole and an acrobot amplify a difference of
//! one last bit by more than 10^15 within an episode, so a library that rounds one sine in thirty differently (as the
//! portable `libm` crate does) plays visibly other episodes than gymnasium on the same machine. Therefore we call the
//! same C library as gymnasium does. glibc's functions have given the same bits since 2.28 on CPUs with fused
//! multiply-add; evidence names the library, and [`probe`] says whether it is one that agrees with our recordings.

/// The exponent of every square. Hidden from the compiler, which would fold `powf(2.0)` to a product.
fn two() -> f64 {
    std::hint::black_box(2.0)
}

/// `math.cos`, `np.cos` on float64.
pub(super) fn cos(x: f64) -> f64 {
    x.cos()
}

/// `math.sin`, `np.sin` on float64.
pub(super) fn sin(x: f64) -> f64 {
    x.sin()
}

/// `v**2` on a numpy float64 scalar, and `math.pow(v, 2)`: the C library's `pow`, which rounds about one square in a
/// thousand differently from the product `v * v`.
pub(super) fn square(x: f64) -> f64 {
    if product_is_certain(x) { x * x } else { x.powf(two()) }
}

/// `v**2` on a numpy float32 scalar: the C library's `powf`.
pub(super) fn square_f32(x: f32) -> f32 {
    x.powf(two() as f32)
}

/// Whether `pow(x, 2)` must equal the rounded product: the exact square is further than 1/16 of a last place from the
/// middle between two neighbours, and `pow` errs by less than 0.54 of a last place (glibc's and musl's own bound), so
/// by less than 0.04 before rounding. This spares nine calls of ten.
fn product_is_certain(x: f64) -> bool {
    const MANTISSA_BITS: u32 = 52;
    let bits = x.to_bits();
    let exponent = (bits >> MANTISSA_BITS) & 0x7ff;
    // Squares that may be subnormal or overflow, and zero, go the long way: 2^-400 < |x| < 2^400 stay.
    if !(623..=1423).contains(&exponent) {
        return false;
    }
    let mantissa = (bits & ((1 << MANTISSA_BITS) - 1)) | (1 << MANTISSA_BITS);
    let product = u128::from(mantissa) * u128::from(mantissa);
    // The product has 105 or 106 bits, of which the result keeps 53; `rest` is what rounding drops, scaled to 64 bits.
    let dropped = if product >> 105 == 0 { MANTISSA_BITS } else { MANTISSA_BITS + 1 };
    let rest = (product << (128 - dropped) >> 64) as u64;
    const HALF: u64 = 1 << 63;
    rest.abs_diff(HALF) > HALF / 8
}

/// The C library, as evidence names it: what it was built for, and whether it gives the recorded results here.
#[must_use]
pub fn name() -> String {
    let kind = if cfg!(target_env = "gnu") { "glibc" } else { "another C library" };
    let agrees = if probe() { "agrees with the recordings" } else { "differs from the recordings" };
    format!("{kind} on {}, {agrees}", std::env::consts::ARCH)
}
/// A function, an argument and its result, both by their bits.
type KnownAnswer = (fn(f64) -> f64, u64, u64);

/// Arguments on which glibc differs from the portable `libm` crate (sine, cosine) or from the product (square), with
/// glibc's results.
const KNOWN_ANSWERS: [KnownAnswer; 18] = [
    (sin, 0x3fc3_8379_f282_692c, 0x3fc3_7026_1db2_56fe),
    (sin, 0xbfbf_2a25_cbab_5710, 0xbfbf_1674_d5ed_6583),
    (sin, 0x3fb3_8dee_a6fc_a1ca, 0x3fb3_8910_d3c6_d848),
    (sin, 0xc00e_dabd_93b7_3310, 0x3fe4_fc24_9dfa_4925),
    (sin, 0x3fef_b764_95c5_b898, 0x3fea_c5d4_8dda_1973),
    (sin, 0xc00f_f002_160d_b857, 0x3fe8_0db9_bf36_9dea),
    (cos, 0x3fad_ceb3_076f_6e2d, 0x3fef_f21f_131e_c413),
    (cos, 0xbfc7_ab3f_33f3_ceef, 0x3fef_7458_11b8_e155),
    (cos, 0x3fae_fb98_9ef1_4c6d, 0x3fef_f101_6fc4_7a0c),
    (cos, 0x4016_2412_ec36_3efc, 0x3fe7_7564_3873_c9ac),
    (cos, 0x4005_2cd4_f57f_89db, 0xbfec_29dc_d69a_5e9f),
    (cos, 0xc015_6b9f_b460_4fae, 0x3fe3_2e07_a0dc_a978),
    (square, 0x3faf_36dc_9ebb_655a, 0x3f6e_72a9_8213_d678),
    (square, 0x3fc2_d017_0541_75b2, 0x3f96_1ec6_227d_0de2),
    (square, 0xbfc2_9985_e0f4_3da2, 0x3f95_9f2e_4ef4_01fe),
    (square, 0xbfa0_2fad_1acf_0740, 0x3f50_5fe8_45ec_62b4),
    (square, 0xc012_72bb_65f9_4656, 0x4035_455c_5c70_e099),
    (square, 0xbffb_88d3_0d5b_bd74, 0x4007_b12d_2dec_53ae),
];

/// Whether this machine's C library gives the bits that our recordings of gymnasium were made with. Where it does not,
/// episodes are still exactly those that gymnasium plays on this machine, but not those of other machines.
#[must_use]
pub fn probe() -> bool {
    KNOWN_ANSWERS
        .iter()
        .all(|(function, x, expected)| function(f64::from_bits(std::hint::black_box(*x))).to_bits() == *expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gym::numpy::Generator;

    #[test]
    fn squares_are_the_librarys() {
        let mut generator = Generator::new(11);
        let mut differing = 0;
        for round in 0..400_000 {
            let x = generator.uniform(-30.0, 30.0) * [1.0, 1e-3, 1e-170, 1e180][round % 4];
            assert_eq!(square(x).to_bits(), x.powf(two()).to_bits(), "{x:e}");
            differing += u32::from(square(x) != x * x);
        }
        // Otherwise the exponent was folded, and the test compares a product with itself.
        assert!(differing > 0);
        for x in [0.0, -0.0, 1.0, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            assert_eq!(square(x).to_bits(), x.powf(two()).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn the_recordings_library_is_recognised() {
        assert!(probe());
    }
}

//! The arithmetic of plain networks, many rows at a time, the same bits on every machine.
//!
//! Owns matrix products and activation functions over blocks of rows. Refuses to know graphs and files. Only programs
//! call it.
//!
//! Every function treats each row alone and adds in one fixed order (inputs first to last, then the bias), so that
//! neither the batch nor the CPU can change an answer. Activations are polynomials instead of library calls: those
//! would neither vectorise nor agree between machines.
//!
//! Each function is compiled once for each instruction set. Wider registers only compute more rows at once: neither
//! Rust nor the instructions used reorder additions or fuse a multiplication with an addition, and a test compares all
//! levels bit by bit. This is the one module in the program with `unsafe` code, for two reasons only: a function
//! compiled for a CPU feature may be called only where the feature exists, and the compiler cannot see that it was just
//! detected; and moving a register to or from memory goes through a pointer. The matrix product is written with
//! registers because the compiler vectorises the same loop over arrays in one place and not in another, a factor of 30.

use crate::gym::simd::{LANES, Lanes, Level};

/// Outputs that one pass over the inputs computes together; weights are stored in blocks of this many.
pub(super) const BLOCK: usize = 4;

/// Defines a function that runs its body as compiled for the given instruction set. The body and all it calls are
/// `#[inline(always)]`.
macro_rules! for_each_level {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) = $body:ident) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// When the CPU does not have the instruction set.
        pub(super) fn $name(level: Level, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) {
                $body($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl")]
            fn avx512($($argument: $type),*) {
                $body($($argument),*);
            }
            assert!(level.is_available(), "{level:?} must be checked before it is used");
            match level {
                Level::Baseline => $body($($argument),*),
                // SAFETY: a safe function but for its need of AVX2, which the assertion has just established.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Level::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: a safe function but for its need of AVX-512 F and VL, which the assertion has just
                // established.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Level::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
}

for_each_level! {
    /// [`tanh`] of every value.
    fn map_tanh(columns: &mut [Lanes]) = tanh_body
}

for_each_level! {
    /// [`sigmoid`] of every value.
    fn map_sigmoid(columns: &mut [Lanes]) = sigmoid_body
}

/// A matrix product with bias. `weights` holds, for each block of outputs, for each input, the block's weights; outputs
/// beyond the last whole block are padded with zero weights.
///
/// # Panics
/// When the CPU does not have the instruction set.
pub(super) fn dense(level: Level, weights: &[f32], bias: &[f32], inputs: &[Lanes], outputs: &mut [Lanes]) {
    assert!(level.is_available(), "{level:?} must be checked before it is used");
    match level {
        #[cfg(not(target_arch = "x86_64"))]
        Level::Baseline => dense_plain(weights, bias, inputs, outputs),
        // SAFETY: a safe function but for its need of SSE2, which every x86-64 CPU has.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Baseline => unsafe { dense_sse2::run(weights, bias, inputs, outputs) },
        // SAFETY: a safe function but for its need of AVX2, which the assertion has just established.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx2 => unsafe { dense_avx2::run(weights, bias, inputs, outputs) },
        // SAFETY: a safe function but for its need of AVX-512 F and VL, which the assertion has just established.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 => unsafe { dense_avx512::run(weights, bias, inputs, outputs) },
    }
}

/// The matrix product as every other version computes it.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn dense_plain(weights: &[f32], bias: &[f32], inputs: &[Lanes], outputs: &mut [Lanes]) {
    let blocks = weights.chunks_exact(BLOCK * inputs.len().max(1));
    for ((block, outputs), bias) in blocks.zip(outputs.chunks_exact_mut(BLOCK)).zip(bias.chunks_exact(BLOCK)) {
        for (index, (output, bias)) in outputs.iter_mut().zip(bias).enumerate() {
            let mut sums = [0.0_f32; LANES];
            for (weights, input) in block.chunks_exact(BLOCK).zip(inputs) {
                for (sum, value) in sums.iter_mut().zip(input.0) {
                    *sum += weights[index] * value;
                }
            }
            output.0 = sums.map(|sum| sum + bias);
        }
    }
}

/// Defines the matrix product for one kind of register. Eight registers of sums (a block of outputs, two registers of
/// lanes each) leave room for what they are computed from, and are enough to hide the latency of an addition.
#[cfg(target_arch = "x86_64")]
macro_rules! dense_with {
    ($name:ident, $feature:literal, $register:ident, $floats:literal, $load:ident, $store:ident, $spread:ident,
     $multiply:ident, $add:ident) => {
        mod $name {
            use std::arch::x86_64::{$add, $load, $multiply, $register, $spread, $store};

            use super::{BLOCK, LANES, Lanes};

            const FLOATS: usize = $floats;

            #[inline]
            #[target_feature(enable = $feature)]
            #[allow(unsafe_code)]
            fn load(floats: &[f32; FLOATS]) -> $register {
                // SAFETY: the instruction reads exactly the array, at any alignment.
                unsafe { $load(floats.as_ptr()) }
            }

            #[inline]
            #[target_feature(enable = $feature)]
            #[allow(unsafe_code)]
            fn store(floats: &mut [f32; FLOATS], register: $register) {
                // SAFETY: the instruction writes exactly the array, at any alignment.
                unsafe { $store(floats.as_mut_ptr(), register) }
            }

            #[target_feature(enable = $feature)]
            pub(super) fn run(weights: &[f32], bias: &[f32], inputs: &[Lanes], outputs: &mut [Lanes]) {
                let blocks = weights.chunks_exact(BLOCK * inputs.len().max(1));
                for ((block, outputs), bias) in
                    blocks.zip(outputs.chunks_exact_mut(BLOCK)).zip(bias.chunks_exact(BLOCK))
                {
                    for part in 0..LANES / (2 * FLOATS) {
                        let mut sums = [[$spread(0.0); 2]; BLOCK];
                        for (weights, input) in block.as_chunks::<BLOCK>().0.iter().zip(inputs) {
                            let registers = &input.0.as_chunks::<FLOATS>().0[2 * part..2 * part + 2];
                            let (left, right) = (load(&registers[0]), load(&registers[1]));
                            for (sums, weight) in sums.iter_mut().zip(weights) {
                                let weight = $spread(*weight);
                                sums[0] = $add(sums[0], $multiply(weight, left));
                                sums[1] = $add(sums[1], $multiply(weight, right));
                            }
                        }
                        for ((output, sums), bias) in outputs.iter_mut().zip(sums).zip(bias) {
                            let registers = &mut output.0.as_chunks_mut::<FLOATS>().0[2 * part..2 * part + 2];
                            let bias = $spread(*bias);
                            store(&mut registers[0], $add(sums[0], bias));
                            store(&mut registers[1], $add(sums[1], bias));
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
dense_with! { dense_sse2, "sse2", __m128, 4, _mm_loadu_ps, _mm_storeu_ps, _mm_set1_ps, _mm_mul_ps, _mm_add_ps }
#[cfg(target_arch = "x86_64")]
dense_with! {
    dense_avx2, "avx2", __m256, 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_mul_ps, _mm256_add_ps
}
#[cfg(target_arch = "x86_64")]
dense_with! {
    dense_avx512, "avx512f,avx512vl", __m512, 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_mul_ps,
    _mm512_add_ps
}

#[inline(always)]
fn tanh_body(columns: &mut [Lanes]) {
    map(columns, tanh);
}

#[inline(always)]
fn sigmoid_body(columns: &mut [Lanes]) {
    map(columns, sigmoid);
}

/// Applies a function to every value of some columns.
#[inline(always)]
pub(super) fn map(columns: &mut [Lanes], function: impl Fn(f32) -> f32) {
    for column in columns {
        for value in &mut column.0 {
            *value = function(*value);
        }
    }
}

/// Limits a value, keeping NaN.
#[inline(always)]
pub(super) fn clip(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Zero below zero, keeping NaN.
#[inline(always)]
pub(super) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The hyperbolic tangent within 6 units in the last place: the rational approximation that Eigen and onnxruntime use,
/// so that answers stay close to theirs.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let x = clip(x, -9.0, 9.0);
    let square = x * x;
    let top = -2.760_768_4e-16_f32;
    let top = top * square + 2.000_188e-13;
    let top = top * square + -8.604_672e-11;
    let top = top * square + 5.122_297_3e-8;
    let top = top * square + 1.485_722_35e-5;
    let top = top * square + 6.372_619_5e-4;
    let top = top * square + 4.893_524_6e-3;
    let bottom = 1.198_258_4e-6_f32;
    let bottom = bottom * square + 1.185_347_1e-4;
    let bottom = bottom * square + 2.268_434_7e-3;
    let bottom = bottom * square + 4.893_525e-3;
    // The quotient exceeds one by a last place here and there.
    clip(top * x / bottom, -1.0, 1.0)
}

/// The logistic function within 1e-6: the rational approximation that onnxruntime uses.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let x = clip(x, -18.0, 18.0);
    let square = x * x;
    let top = 4.370_31e-11_f32;
    let top = top * square + 1.156_273_2e-7;
    let top = top * square + 6.085_749e-5;
    let top = top * square + 8.513_771e-3;
    let top = top * square + 2.482_879_5e-1;
    let bottom = 6.102_473_7e-13_f32;
    let bottom = bottom * square + 5.761_021_5e-9;
    let bottom = bottom * square + 6.291_068e-6;
    let bottom = bottom * square + 1.701_988_2e-3;
    let bottom = bottom * square + 1.168_176_5e-1;
    let bottom = bottom * square + 9.931_519e-1;
    clip(top * x / bottom + 0.5, 0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 101st float, of both signs, by their bits.
    fn floats() -> impl Iterator<Item = f32> {
        (0..0x7f80_0000_u32).step_by(101).flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
    }

    #[test]
    fn tanh_is_accurate_odd_and_bounded() {
        let mut worst = 0.0_f64;
        for x in floats() {
            let (got, exact) = (tanh(x), f64::from(x).tanh());
            assert_eq!(got.to_bits(), (-tanh(-x)).to_bits(), "{x:e}");
            assert!(got.abs() <= 1.0, "{x:e} gives {got:e}");
            // The products of the tiniest arguments are subnormal and lose digits, which no sum of others can notice.
            if x.abs() < 1e-34 {
                assert!((f64::from(got) - exact).abs() < 1e-40, "{x:e} gives {got:e}");
                continue;
            }
            let unit = f64::from((exact as f32).abs().next_up()) - f64::from((exact as f32).abs());
            worst = worst.max((f64::from(got) - exact).abs() / unit);
        }
        assert!(worst < 6.0, "{worst} units in the last place");
        assert!(tanh(f32::NAN).is_nan());
        assert!(tanh(f32::INFINITY) > 0.999_999);
    }

    #[test]
    fn sigmoid_is_accurate_and_bounded() {
        for x in floats() {
            let (got, exact) = (sigmoid(x), 1.0 / (1.0 + (-f64::from(x)).exp()));
            assert!((f64::from(got) - exact).abs() < 1e-6, "{x:e}: {got:e} for {exact:e}");
            assert!((0.0..=1.0).contains(&got));
        }
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn every_matrix_product_is_the_plain_one_bit_by_bit() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        for (width, blocks) in [(1, 1), (4, 16), (64, 3), (7, 2)] {
            let weights: Vec<f32> = (0..width * blocks * BLOCK).map(|_index| random()).collect();
            let bias: Vec<f32> = (0..blocks * BLOCK).map(|_index| random()).collect();
            let inputs: Vec<Lanes> = (0..width).map(|_index| Lanes([0.0; LANES].map(|_zero| random()))).collect();
            let mut expected = vec![Lanes::ZERO; blocks * BLOCK];
            dense_plain(&weights, &bias, &inputs, &mut expected);
            for level in crate::gym::simd::tests::levels() {
                let mut outputs = vec![Lanes::ZERO; blocks * BLOCK];
                dense(level, &weights, &bias, &inputs, &mut outputs);
                for (output, expected) in outputs.iter().zip(&expected) {
                    assert_eq!(output.0.map(f32::to_bits), expected.0.map(f32::to_bits), "{level:?}");
                }
            }
        }
    }

    #[test]
    fn clip_and_relu_keep_nan() {
        assert!(clip(f32::NAN, -1.0, 1.0).is_nan() && relu(f32::NAN).is_nan());
        assert_eq!((clip(-3.0, -1.0, 1.0), clip(3.0, -1.0, 1.0), clip(0.5, -1.0, 1.0)), (-1.0, 1.0, 0.5));
        assert_eq!((relu(-2.0), relu(2.0)), (0.0, 2.0));
    }
}

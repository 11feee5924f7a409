//! `Acrobot-v1`: two links, one motor in the joint between them, integrated by Runge-Kutta of fourth order.

use std::f64::consts::{FRAC_PI_2, PI};

use super::{Dynamics, Transition, libc};
use crate::gym::numpy::Generator;

const GRAVITY: f64 = 9.8;
/// Seconds between two states.
const DT: f64 = 0.2;
const SPEED_1_MAX: f64 = 4.0 * PI;
const SPEED_2_MAX: f64 = 9.0 * PI;

/// Two angles and two angular velocities in float64.
#[derive(Debug, Clone, Copy)]
pub(in crate::gym) struct Acrobot([f64; 4]);

/// The derivative of the state under a torque. Masses, lengths and moments of inertia are 1 and centres of mass lie at
/// 0.5; products with 1 are left out, every other product keeps gymnasium's order.
fn derivative([angle_1, angle_2, speed_1, speed_2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sine_2, cosine_2) = (libc::sin(angle_2), libc::cos(angle_2));
    let d1 = 0.25 + (1.25 + cosine_2) + 1.0 + 1.0;
    let d2 = (0.25 + 0.5 * cosine_2) + 1.0;
    let phi2 = 0.5 * GRAVITY * libc::cos(angle_1 + angle_2 - FRAC_PI_2);
    let phi1 = -0.5 * libc::square(speed_2) * sine_2 - speed_2 * speed_1 * sine_2
        + 1.5 * GRAVITY * libc::cos(angle_1 - FRAC_PI_2)
        + phi2;
    let change_2 =
        (torque + d2 / d1 * phi1 - 0.5 * libc::square(speed_1) * sine_2 - phi2) / (0.25 + 1.0 - libc::square(d2) / d1);
    let change_1 = -(d2 * change_2 + phi1) / d1;
    [speed_1, speed_2, change_1, change_2]
}

fn runge_kutta(state: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |step: f64, slope: &[f64; 4]| std::array::from_fn(|index| state[index] + step * slope[index]);
    let k1 = derivative(state, torque);
    let k2 = derivative(along(DT / 2.0, &k1), torque);
    let k3 = derivative(along(DT / 2.0, &k2), torque);
    let k4 = derivative(along(DT, &k3), torque);
    std::array::from_fn(|index| state[index] + DT / 6.0 * (k1[index] + 2.0 * k2[index] + 2.0 * k3[index] + k4[index]))
}

/// Subtracts or adds whole turns until the angle lies in `[-pi, pi]`. The speeds are bounded, so a step turns a link
/// by less than a few turns and the loops end.
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

/// numpy's own float32 cosine and sine for arguments of a fresh state (at most 0.1, so no range reduction): its
/// polynomials with fused multiply-add. After the first step the state is float64 and the C library's turn.
fn numpy_cos_sin_f32(x: f32) -> (f32, f32) {
    // 0x1.98e616p-16, -0x1.6c06dcp-10, 0x1.55553cp-5, -0.5, 1 and 0x1.7d3bbcp-19, -0x1.a06bbap-13, 0x1.11119ap-7,
    // -0x1.555556p-3, by their bits.
    const COSINE: [u32; 5] = [0x37cc_730b, 0xbab6_036e, 0x3d2a_aa9e, 0xbf00_0000, 0x3f80_0000];
    const SINE: [u32; 5] = [0x363e_9dde, 0xb950_35dd, 0x3c08_88cd, 0xbe2a_aaab, 0x0000_0000];
    let square = x * x;
    let horner = |terms: [u32; 5]| {
        terms.into_iter().map(f32::from_bits).reduce(|sum, term| sum.mul_add(square, term)).unwrap_or_default()
    };
    (horner(COSINE), horner(SINE).mul_add(x, x))
}

impl Dynamics for Acrobot {
    type Action = u32;
    type Observation = [f32; 6];
    const STEPS_MAX: u32 = 500;

    fn reset(random: &mut Generator) -> (Self, [f32; 6]) {
        let state: [f32; 4] = std::array::from_fn(|_index| random.uniform(-0.1, 0.1) as f32);
        let ((cosine_1, sine_1), (cosine_2, sine_2)) = (numpy_cos_sin_f32(state[0]), numpy_cos_sin_f32(state[1]));
        (Self(state.map(f64::from)), [cosine_1, sine_1, cosine_2, sine_2, state[2], state[3]])
    }

    fn step(&mut self, action: u32) -> Transition<[f32; 6]> {
        let torque = f64::from(action) - 1.0;
        let [angle_1, angle_2, speed_1, speed_2] = runge_kutta(self.0, torque);
        let (angle_1, angle_2) = (wrap(angle_1), wrap(angle_2));
        let speed_1 = speed_1.clamp(-SPEED_1_MAX, SPEED_1_MAX);
        let speed_2 = speed_2.clamp(-SPEED_2_MAX, SPEED_2_MAX);
        self.0 = [angle_1, angle_2, speed_1, speed_2];
        let cosine_1 = libc::cos(angle_1);
        let raised = -cosine_1 - libc::cos(angle_2 + angle_1) > 1.0;
        let observation = [cosine_1, libc::sin(angle_1), libc::cos(angle_2), libc::sin(angle_2), speed_1, speed_2];
        Transition {
            observation: observation.map(|value| value as f32),
            reward: if raised { 0.0 } else { -1.0 },
            terminated: raised,
        }
    }

    fn is_success(_length: u32, _return: f64, terminated: bool) -> bool {
        terminated
    }
}

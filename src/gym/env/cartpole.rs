//! `CartPole-v1`: a pole on a cart that is pushed left or right.

use super::{Dynamics, Transition, libc};
use crate::gym::numpy::Generator;

const GRAVITY: f64 = 9.8;
const MASS_POLE: f64 = 0.1;
const MASS_TOTAL: f64 = MASS_POLE + 1.0;
/// Half the pole's length.
const LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = MASS_POLE * LENGTH;
const FORCE: f64 = 10.0;
/// Seconds between two states.
const TAU: f64 = 0.02;
const ANGLE_MAX: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
const POSITION_MAX: f64 = 2.4;

/// Position, velocity, angle, angular velocity, all in float64.
#[derive(Debug, Clone, Copy)]
pub(in crate::gym) struct CartPole([f64; 4]);

impl CartPole {
    fn observation(&self) -> [f32; 4] {
        self.0.map(|value| value as f32)
    }
}

impl Dynamics for CartPole {
    type Action = u32;
    type Observation = [f32; 4];
    const STEPS_MAX: u32 = 500;

    fn reset(random: &mut Generator) -> (Self, [f32; 4]) {
        let state = Self(std::array::from_fn(|_index| random.uniform(-0.05, 0.05)));
        (state, state.observation())
    }

    fn step(&mut self, action: u32) -> Transition<[f32; 4]> {
        let [position, velocity, angle, spin] = self.0;
        let force = if action == 1 { FORCE } else { -FORCE };
        let (sine, cosine) = (libc::sin(angle), libc::cos(angle));
        let pull = (force + POLE_MASS_LENGTH * (spin * spin) * sine) / MASS_TOTAL;
        let spin_change =
            (GRAVITY * sine - cosine * pull) / (LENGTH * (4.0 / 3.0 - MASS_POLE * (cosine * cosine) / MASS_TOTAL));
        let velocity_change = pull - POLE_MASS_LENGTH * spin_change * cosine / MASS_TOTAL;
        // Explicit Euler: the old velocities move the cart and the pole.
        let position = position + TAU * velocity;
        let velocity = velocity + TAU * velocity_change;
        let angle = angle + TAU * spin;
        let spin = spin + TAU * spin_change;
        self.0 = [position, velocity, angle, spin];
        let fallen = position.abs() > POSITION_MAX || angle.abs() > ANGLE_MAX;
        Transition { observation: self.observation(), reward: 1.0, terminated: fallen }
    }

    fn is_success(length: u32, _return: f64, _terminated: bool) -> bool {
        length == Self::STEPS_MAX
    }
}

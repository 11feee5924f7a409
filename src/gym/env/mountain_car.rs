//! `MountainCar-v0`: a car too weak for its hill, with three throttle positions.

use super::{Dynamics, Transition, libc};
use crate::gym::numpy::Generator;

const POSITION_MIN: f64 = -1.2;
const POSITION_MAX: f64 = 0.6;
const SPEED_MAX: f64 = 0.07;
const GOAL: f64 = 0.5;
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;

/// Position and velocity in float64.
#[derive(Debug, Clone, Copy)]
pub(in crate::gym) struct MountainCar {
    position: f64,
    velocity: f64,
}

impl MountainCar {
    fn observation(&self) -> [f32; 2] {
        [self.position as f32, self.velocity as f32]
    }
}

impl Dynamics for MountainCar {
    type Action = u32;
    type Observation = [f32; 2];
    const STEPS_MAX: u32 = 200;

    fn reset(random: &mut Generator) -> (Self, [f32; 2]) {
        let state = Self { position: random.uniform(-0.6, -0.4), velocity: 0.0 };
        (state, state.observation())
    }

    fn step(&mut self, action: u32) -> Transition<[f32; 2]> {
        let push = (f64::from(action) - 1.0) * FORCE;
        let velocity = self.velocity + (push + libc::cos(3.0 * self.position) * -GRAVITY);
        self.velocity = velocity.clamp(-SPEED_MAX, SPEED_MAX);
        self.position = (self.position + self.velocity).clamp(POSITION_MIN, POSITION_MAX);
        if self.position == POSITION_MIN && self.velocity < 0.0 {
            self.velocity = 0.0;
        }
        let arrived = self.position >= GOAL && self.velocity >= 0.0;
        Transition { observation: self.observation(), reward: -1.0, terminated: arrived }
    }

    fn is_success(_length: u32, _return: f64, terminated: bool) -> bool {
        terminated
    }
}

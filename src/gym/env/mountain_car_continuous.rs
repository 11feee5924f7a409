//! `MountainCarContinuous-v0`: the same hill with a continuous throttle that costs energy.
//!
//! gymnasium mixes Python floats with numpy scalars here. Its rule: a Python float takes the type of the numpy scalar
//! it meets; two numpy scalars take the wider type. The state is float64 after a reset and float32 after every step.

use super::{Dynamics, Transition, libc};
use crate::gym::numpy::Generator;

const POSITION_MIN: f64 = -1.2;
const POSITION_MAX: f64 = 0.6;
const SPEED_MAX: f64 = 0.07;
const GOAL: f64 = 0.45;
const POWER: f64 = 0.0015;

/// Position and velocity as gymnasium holds them.
#[derive(Debug, Clone, Copy)]
pub(in crate::gym) enum MountainCarContinuous {
    /// After a reset; the velocity is zero.
    Fresh(f64),
    /// After a step.
    Moving(f32, f32),
}

impl MountainCarContinuous {
    /// The change of velocity by throttle and slope, given `cos(3 * position)`.
    fn push(action: f32, cosine: f64) -> Push {
        let slope = 0.0025 * cosine;
        // `min(max(action, -1.0), 1.0)` yields the Python float only where it is strictly beyond.
        if action < -1.0 {
            Push::Python(-POWER - slope)
        } else if action > 1.0 {
            Push::Python(POWER - slope)
        } else {
            Push::Numpy(action * POWER as f32 - slope as f32)
        }
    }
}

/// A change of velocity: a Python float, or a numpy float32.
#[derive(Clone, Copy)]
enum Push {
    Python(f64),
    Numpy(f32),
}

/// The rest of a step in float64, as after a reset.
fn move_f64(position: f64, push: Push) -> (f32, f32, bool) {
    let push = match push {
        Push::Python(push) => push,
        Push::Numpy(push) => f64::from(push),
    };
    let velocity = (0.0 + push).clamp(-SPEED_MAX, SPEED_MAX);
    let position = (position + velocity).clamp(POSITION_MIN, POSITION_MAX);
    let velocity = if position == POSITION_MIN && velocity < 0.0 { 0.0 } else { velocity };
    (position as f32, velocity as f32, position >= GOAL && velocity >= 0.0)
}

/// The rest of a step in float32, as after a step.
fn move_f32(position: f32, velocity: f32, push: Push) -> (f32, f32, bool) {
    let push = match push {
        Push::Python(push) => push as f32,
        Push::Numpy(push) => push,
    };
    let velocity = (velocity + push).clamp(-SPEED_MAX as f32, SPEED_MAX as f32);
    let position = (position + velocity).clamp(POSITION_MIN as f32, POSITION_MAX as f32);
    let velocity = if position == POSITION_MIN as f32 && velocity < 0.0 { 0.0 } else { velocity };
    (position, velocity, position >= GOAL as f32 && velocity >= 0.0)
}

impl Dynamics for MountainCarContinuous {
    type Action = f32;
    type Observation = [f32; 2];
    const STEPS_MAX: u32 = 999;

    fn reset(random: &mut Generator) -> (Self, [f32; 2]) {
        let position = random.uniform(-0.6, -0.4);
        (Self::Fresh(position), [position as f32, 0.0])
    }

    fn step(&mut self, action: f32) -> Transition<[f32; 2]> {
        let (position, velocity, arrived) = match *self {
            Self::Fresh(position) => move_f64(position, Self::push(action, libc::cos(3.0 * position))),
            Self::Moving(position, velocity) => {
                let cosine = libc::cos(f64::from(3.0 * position));
                move_f32(position, velocity, Self::push(action, cosine))
            }
        };
        *self = Self::Moving(position, velocity);
        // The reward charges the action as given, not as clipped.
        let prize = if arrived { 100.0 } else { 0.0 };
        let reward = prize - libc::square(f64::from(action)) * 0.1;
        Transition { observation: [position, velocity], reward, terminated: arrived }
    }

    fn is_success(_length: u32, _return: f64, terminated: bool) -> bool {
        terminated
    }
}

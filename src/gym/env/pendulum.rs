//! `Pendulum-v1`: swing a pendulum up with a motor too weak to lift it at once.

use std::f64::consts::PI;

use super::{Dynamics, Transition, libc};
use crate::gym::numpy::Generator;

const SPEED_MAX: f64 = 8.0;
const TORQUE_MAX: f32 = 2.0;
/// Seconds between two states.
const DT: f64 = 0.05;
/// Least return of an episode that counts as a success.
const RETURN_MIN: f64 = -200.0;

/// Angle and angular velocity in float64. The sine was computed for the observation and moves the next step.
#[derive(Debug, Clone, Copy)]
pub(in crate::gym) struct Pendulum {
    angle: f64,
    speed: f64,
    sine: f64,
}

impl Pendulum {
    fn new(angle: f64, speed: f64) -> (Self, [f32; 3]) {
        let sine = libc::sin(angle);
        (Self { angle, speed, sine }, [libc::cos(angle) as f32, sine as f32, speed as f32])
    }
}

/// `((x + pi) % (2 * pi)) - pi` with Python's modulo, whose sign is the divisor's.
fn angle_normalize(x: f64) -> f64 {
    const TURN: f64 = 2.0 * PI;
    let shifted = x + PI;
    // `fmod` returns a dividend of [0, TURN) as it is; most steps need no division.
    let rest = if (0.0..TURN).contains(&shifted) { shifted } else { shifted % TURN };
    let wrapped = if rest < 0.0 { rest + TURN } else { rest };
    wrapped - PI
}

impl Dynamics for Pendulum {
    type Action = f32;
    type Observation = [f32; 3];
    const STEPS_MAX: u32 = 200;

    fn reset(random: &mut Generator) -> (Self, [f32; 3]) {
        let angle = random.uniform(-PI, PI);
        let speed = random.uniform(-1.0, 1.0);
        Self::new(angle, speed)
    }

    fn step(&mut self, action: f32) -> Transition<[f32; 3]> {
        let torque = action.clamp(-TORQUE_MAX, TORQUE_MAX);
        // The torque is a numpy float32: its square and its products with Python floats stay float32.
        let effort = 0.001_f32 * libc::square_f32(torque);
        let cost = libc::square(angle_normalize(self.angle)) + 0.1 * libc::square(self.speed) + f64::from(effort);
        let push = 15.0 * self.sine + f64::from(3.0_f32 * torque);
        let speed = (self.speed + push * DT).clamp(-SPEED_MAX, SPEED_MAX);
        let angle = self.angle + speed * DT;
        let (state, observation) = Self::new(angle, speed);
        *self = state;
        Transition { observation, reward: -cost, terminated: false }
    }

    fn is_success(_length: u32, total: f64, _terminated: bool) -> bool {
        total >= RETURN_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: Python's `((x + math.pi) % (2 * math.pi)) - math.pi`.
    #[test]
    fn angles_wrap_as_in_python() {
        assert_eq!(angle_normalize(0.0), 0.0);
        assert_eq!(angle_normalize(PI), -PI);
        assert_eq!(angle_normalize(-PI), -PI);
        assert_eq!(angle_normalize(7.0), 0.716_814_692_820_413_8);
        assert_eq!(angle_normalize(-7.0), -0.716_814_692_820_413_8);
    }
}

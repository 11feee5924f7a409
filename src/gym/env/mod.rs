//! Environments: gymnasium's five classic control tasks, exactly.
//!
//! Owns dynamics, reset distributions, rewards, ends of episodes and what counts as a success. Refuses to know
//! policies: it is given actions. Rollouts call it; anything it computes can be replayed in gymnasium.

mod acrobot;
mod cartpole;
mod libc;
mod mountain_car;
mod mountain_car_continuous;
mod pendulum;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::numpy::Generator;

pub use self::libc::{name as libc_name, probe as libc_agrees};
pub(super) use self::{
    acrobot::Acrobot, cartpole::CartPole, mountain_car::MountainCar, mountain_car_continuous::MountainCarContinuous,
    pendulum::Pendulum,
};

/// What one step leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transition<O> {
    /// What the policy sees next.
    pub(super) observation: O,
    /// What the step earned.
    pub(super) reward: f64,
    /// Whether the task itself ended the episode.
    pub(super) terminated: bool,
}

/// One environment's rules. The state is plain data, so that thousands of episodes run side by side.
pub(super) trait Dynamics: Copy + Send {
    /// `u32` for a choice, `f32` for a force.
    type Action: Copy;
    /// A fixed number of float32 values.
    type Observation: AsRef<[f32]> + Copy;
    /// Steps after which an episode is cut off.
    const STEPS_MAX: u32;

    /// A fresh state and its observation.
    fn reset(random: &mut Generator) -> (Self, Self::Observation);

    /// One step. The action is finite and within the action space.
    fn step(&mut self, action: Self::Action) -> Transition<Self::Observation>;

    /// Whether an episode of this length, return and end is a success.
    fn is_success(length: u32, total: f64, terminated: bool) -> bool;
}

/// What a policy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actions {
    /// One of this many choices.
    Discrete(usize),
    /// This many float32 values, passed on as they are; the environment clips where gymnasium does.
    Continuous(usize),
}

impl Actions {
    /// Values in a policy's raw output: one score for each choice, or one value for each dimension.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Discrete(choices) => choices,
            Self::Continuous(dimensions) => dimensions,
        }
    }
}

/// A task with gymnasium's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Environment {
    /// `CartPole-v1`.
    CartPole,
    /// `Acrobot-v1`.
    Acrobot,
    /// `MountainCar-v0`.
    MountainCar,
    /// `MountainCarContinuous-v0`.
    MountainCarContinuous,
    /// `Pendulum-v1`.
    Pendulum,
}

/// Evaluates an expression with a type alias bound to the environment's dynamics.
macro_rules! with_dynamics {
    ($environment:expr, $dynamics:ident => $body:expr) => {
        match $environment {
            $crate::gym::env::Environment::CartPole => {
                type $dynamics = $crate::gym::env::CartPole;
                $body
            }
            $crate::gym::env::Environment::Acrobot => {
                type $dynamics = $crate::gym::env::Acrobot;
                $body
            }
            $crate::gym::env::Environment::MountainCar => {
                type $dynamics = $crate::gym::env::MountainCar;
                $body
            }
            $crate::gym::env::Environment::MountainCarContinuous => {
                type $dynamics = $crate::gym::env::MountainCarContinuous;
                $body
            }
            $crate::gym::env::Environment::Pendulum => {
                type $dynamics = $crate::gym::env::Pendulum;
                $body
            }
        }
    };
}

pub(super) use with_dynamics;

impl Environment {
    /// All of them, in the order in which they are listed everywhere.
    pub const ALL: [Self; 5] =
        [Self::CartPole, Self::Acrobot, Self::MountainCar, Self::MountainCarContinuous, Self::Pendulum];

    /// gymnasium's id.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::CartPole => "CartPole-v1",
            Self::Acrobot => "Acrobot-v1",
            Self::MountainCar => "MountainCar-v0",
            Self::MountainCarContinuous => "MountainCarContinuous-v0",
            Self::Pendulum => "Pendulum-v1",
        }
    }

    /// The environment with this id.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|environment| environment.id() == id)
    }

    /// Values in one observation.
    #[must_use]
    pub const fn obs_dim(self) -> usize {
        match self {
            Self::CartPole => 4,
            Self::Acrobot => 6,
            Self::MountainCar | Self::MountainCarContinuous => 2,
            Self::Pendulum => 3,
        }
    }

    /// What a policy may do here.
    #[must_use]
    pub const fn actions(self) -> Actions {
        match self {
            Self::CartPole => Actions::Discrete(2),
            Self::Acrobot | Self::MountainCar => Actions::Discrete(3),
            Self::MountainCarContinuous | Self::Pendulum => Actions::Continuous(1),
        }
    }

    /// Steps after which an episode is cut off.
    #[must_use]
    pub const fn steps_max(self) -> u32 {
        with_dynamics!(self, D => <D as Dynamics>::STEPS_MAX)
    }

    /// What counts as a success, in words.
    #[must_use]
    pub const fn success_rule(self) -> &'static str {
        match self {
            Self::CartPole => "the pole stands for all 500 steps",
            Self::Acrobot => "the tip rises above the line before 500 steps are over",
            Self::MountainCar => "the car reaches the goal within 200 steps",
            Self::MountainCarContinuous => "the car reaches the goal within 999 steps",
            Self::Pendulum => "the return is at least -200",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A name that is no environment of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an environment; known are {}", Environment::ALL.map(Environment::id).join(", "))]
pub struct UnknownEnvironment {
    given: String,
}

impl FromStr for Environment {
    type Err = UnknownEnvironment;

    fn from_str(id: &str) -> Result<Self, UnknownEnvironment> {
        // Bounded: the name comes from a bundle or a profile and is printed.
        Self::parse(id).ok_or_else(|| UnknownEnvironment { given: id.chars().take(80).collect() })
    }
}

impl From<Environment> for String {
    fn from(environment: Environment) -> Self {
        environment.id().to_owned()
    }
}

impl TryFrom<String> for Environment {
    type Error = UnknownEnvironment;

    fn try_from(id: String) -> Result<Self, UnknownEnvironment> {
        id.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A recording of gymnasium, made by `tests/interop/gym/record.py`.
    #[derive(Deserialize)]
    struct Golden {
        resets: BTreeMap<u64, String>,
        episodes: Vec<Recording>,
    }

    #[derive(Deserialize)]
    struct Recording {
        seed: u64,
        actions: String,
        observations: String,
        rewards: Option<String>,
        #[serde(rename = "return")]
        total: f64,
        length: u32,
        terminated: bool,
        truncated: bool,
    }

    fn golden(environment: Environment) -> Golden {
        let path = format!("{}/testdata/gym/{environment}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).expect("a recording")).expect("well formed")
    }

    fn floats(hexadecimal: &str) -> Vec<f32> {
        let bytes = hex::decode(hexadecimal).expect("hex");
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn doubles(hexadecimal: &str) -> Vec<f64> {
        let bytes = hex::decode(hexadecimal).expect("hex");
        bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    trait Decode: Sized {
        fn decode(actions: &str) -> Vec<Self>;
    }

    impl Decode for u32 {
        fn decode(actions: &str) -> Vec<Self> {
            actions.chars().map(|digit| digit.to_digit(10).expect("a digit")).collect()
        }
    }

    impl Decode for f32 {
        fn decode(actions: &str) -> Vec<Self> {
            floats(actions)
        }
    }

    /// Plays a recording and asserts bit-equality of every observation, reward and end.
    fn replay<D: Dynamics<Action: Decode>>(name: Environment, recording: &Recording) {
        let actions = D::Action::decode(&recording.actions);
        let expected = floats(&recording.observations);
        let mut expected = expected.chunks_exact(name.obs_dim());
        let rewards = recording.rewards.as_deref().map(doubles);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let (mut state, first) = D::reset(&mut Generator::new(recording.seed));
        assert_eq!(bits(first.as_ref()), bits(expected.next().expect("the reset")), "{name} reset");
        let (mut total, mut terminated) = (0.0, false);
        for (step, action) in actions.iter().enumerate() {
            assert!(!terminated, "{name} ended before step {step}");
            let transition = state.step(*action);
            let wanted = expected.next().expect("an observation a step");
            assert_eq!(bits(transition.observation.as_ref()), bits(wanted), "{name} step {step}");
            if let Some(rewards) = &rewards {
                assert_eq!(transition.reward.to_bits(), rewards[step].to_bits(), "{name} reward of step {step}");
            }
            total += transition.reward;
            terminated = transition.terminated;
        }
        assert_eq!(total, recording.total, "{name} return");
        assert_eq!(actions.len(), recording.length as usize);
        assert_eq!(terminated, recording.terminated);
        assert_eq!(recording.length == D::STEPS_MAX, recording.truncated);
    }

    #[test]
    fn full_episodes_are_gymnasiums_bit_for_bit() {
        for environment in Environment::ALL {
            let recordings = golden(environment).episodes;
            assert!(recordings.len() >= 4);
            for recording in &recordings {
                with_dynamics!(environment, D => replay::<D>(environment, recording));
            }
        }
    }

    #[test]
    fn resets_are_gymnasiums_bit_for_bit() {
        for environment in Environment::ALL {
            let resets = golden(environment).resets;
            assert!(resets.len() >= 40);
            for (seed, expected) in resets {
                let mut random = Generator::new(seed);
                let first = with_dynamics!(environment, D => D::reset(&mut random).1.as_ref().to_vec());
                assert_eq!(first, floats(&expected), "{environment} seed {seed}");
            }
        }
    }

    #[test]
    fn ids_round_trip_and_strangers_are_refused() {
        for environment in Environment::ALL {
            assert_eq!(environment.id().parse(), Ok(environment));
            let observation = with_dynamics!(environment, D => D::reset(&mut Generator::new(0)).1.as_ref().len());
            assert_eq!(observation, environment.obs_dim());
        }
        for stranger in ["", "CartPole-v0", "cartpole-v1", "CartPole-v1 "] {
            assert!(stranger.parse::<Environment>().is_err(), "{stranger}");
        }
    }

    #[test]
    fn successes_are_as_published() {
        assert!(CartPole::is_success(500, 500.0, false) && CartPole::is_success(500, 500.0, true));
        assert!(!CartPole::is_success(499, 499.0, true));
        assert!(Acrobot::is_success(80, -79.0, true) && !Acrobot::is_success(500, -500.0, false));
        assert!(MountainCar::is_success(120, -120.0, true) && !MountainCar::is_success(200, -200.0, false));
        assert!(MountainCarContinuous::is_success(90, 90.0, true));
        assert!(!MountainCarContinuous::is_success(999, -1.0, false));
        assert!(Pendulum::is_success(200, -200.0, false) && !Pendulum::is_success(200, -200.1, false));
    }
}

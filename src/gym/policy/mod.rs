//! Policies: a miner's ONNX file as a function from observations to actions.
//!
//! Owns the contract between file and environment, the fused fast path and the general backends, and the guarantee
//! that an answer depends on its own observation alone: not on the batch, the thread or the CPU. Refuses to know
//! submissions, seeds and rewards. Rollouts and the comparison of outputs call it; the artifact room's checks come first.

mod backend;
pub mod codes;
mod graph;
mod kernel;
mod program;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::backend::{Backend, BackendChoice};
use self::{
    graph::{Answer, Batch, Contract},
    program::Program,
};
use super::{
    env::{Actions, Environment},
    simd::{LANES, Lanes, Level},
};
use crate::fault::Fault;

/// What a step may cost here in multiply-adds, whatever a profile allows: four hundred times a 64×64 network. At this
/// cost a core plays about ten thousand steps a second fused, and some five hundred in a general backend. The artifact
/// room counts every operator and element and refuses earlier.
pub const STEP_COST_MAX: u64 = 2_000_000;
/// Processor time a step may take on average, in microseconds: several times what the costliest policy that passes the
/// checks takes, so that only one whose time its file does not show meets it.
pub const STEP_CPU_US_MAX: u64 = 10_000;
/// Processor time that loading may take.
pub const LOAD_CPU_MS_MAX: u64 = 30_000;
/// Wall time of a call besides twice its processor time: for a machine that has other work too.
const WALL_SLACK_MS: u64 = 60_000;

/// Processor time that so many rows may take, in milliseconds. Rows are computed in whole blocks.
#[must_use]
pub const fn cpu_ms_max(rows: u64) -> u64 {
    let rows = rows.saturating_add(LANES as u64);
    LOAD_CPU_MS_MAX.saturating_add(rows.saturating_mul(STEP_CPU_US_MAX) / 1_000)
}

/// The most rows that so many episodes can ask for: lanes without an episode are computed too.
#[must_use]
pub const fn rows_max(environment: Environment, episodes: u64) -> u64 {
    episodes.saturating_add(LANES as u64).saturating_mul(environment.steps_max() as u64)
}

/// Wall time for a job that computes so many rows: more than any policy may take, so that only a machine in trouble
/// meets it.
#[must_use]
pub const fn wall_ms_max(rows: u64) -> u64 {
    cpu_ms_max(rows).saturating_mul(2).saturating_add(WALL_SLACK_MS)
}

/// Version of the fused programs' arithmetic: changes whenever an answer may change by a last bit.
pub const FUSED_VERSION: &str = "1";

/// What runs a policy, as evidence names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// `fused`, `embedded` or `onnxruntime`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Why the policy is not fused, in words; empty if it is.
    pub unfused_because: String,
}

#[derive(Debug, Clone)]
enum Engine {
    Fused { program: Arc<Program>, level: Level },
    General { backend: BackendChoice, bytes: Arc<[u8]>, contract: Contract, rows: usize },
}

/// A loaded policy. Cheap to clone; threads share it and each makes its own means of running it.
#[derive(Debug, Clone)]
pub struct Policy {
    environment: Environment,
    engine: Engine,
    cost: u64,
    unfused_because: String,
}

impl Policy {
    /// Loads a file for an environment: fused if it is a plain network, else for the backend. Only reads the file: no
    /// foreign code runs before the policy does.
    ///
    /// # Errors
    /// A miner fault if the file breaks the contract or costs too much.
    pub fn load(bytes: &[u8], environment: Environment, backend: &BackendChoice) -> Result<Self, Fault> {
        match Self::load_fused(bytes, environment)? {
            Ok(policy) => Ok(policy),
            Err(reason) => Self::load_general(bytes, environment, backend, reason),
        }
    }

    /// Loads a file as a fused program, or says in words why it is not a plain network. Needs no backend.
    ///
    /// # Errors
    /// A miner fault if the file breaks the contract or costs too much.
    pub fn load_fused(bytes: &[u8], environment: Environment) -> Result<Result<Self, String>, Fault> {
        let model = graph::decode(bytes)?;
        let graph = model.graph.as_ref().ok_or_else(|| codes::UNREADABLE.because("the file holds no graph"))?;
        let contract = graph::contract(graph, environment)?;
        let program = match Program::fuse(graph, &contract, environment) {
            Ok(program) => program,
            Err(reason) => return Ok(Err(reason)),
        };
        let cost = check_cost(program.cost())?;
        let engine = Engine::Fused { program: Arc::new(program), level: Level::best() };
        Ok(Ok(Self { environment, engine, cost, unfused_because: String::new() }))
    }

    /// Loads a file for the backend even if it could be fused; `reason` stands in the evidence.
    ///
    /// # Errors
    /// A miner fault if the file breaks the contract or costs too much.
    pub fn load_general(
        bytes: &[u8],
        environment: Environment,
        backend: &BackendChoice,
        reason: impl Into<String>,
    ) -> Result<Self, Fault> {
        let model = graph::decode(bytes)?;
        let graph = model.graph.as_ref().ok_or_else(|| codes::UNREADABLE.because("the file holds no graph"))?;
        let contract = graph::contract(graph, environment)?;
        let together = contract.batch == Batch::Any && graph::rows_stay_apart(graph);
        let cost = check_cost(graph::cost_estimate(graph, together))?;
        let rows = if together { LANES } else { 1 };
        let engine = Engine::General { backend: backend.clone(), bytes: bytes.into(), contract, rows };
        Ok(Self { environment, engine, cost, unfused_because: reason.into() })
    }

    /// The environment it was loaded for.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// Multiply-adds of one step: exact for a fused policy, a lower bound for any other.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether it runs as a fused program, without any foreign code.
    #[must_use]
    pub const fn is_fused(&self) -> bool {
        matches!(self.engine, Engine::Fused { .. })
    }

    /// What runs it.
    ///
    /// # Errors
    /// An operator fault if the backend cannot be set up in this process.
    pub fn runtime(&self) -> Result<Runtime, Fault> {
        let (name, version) = match &self.engine {
            Engine::Fused { .. } => ("fused", FUSED_VERSION.to_owned()),
            Engine::General { backend, .. } => (backend.name(), Backend::init(backend)?.version().to_owned()),
        };
        Ok(Runtime { name: name.to_owned(), version, unfused_because: self.unfused_because.clone() })
    }

    /// The file, the backend and the reason why it is not fused, if it is not.
    pub(super) fn general(&self) -> Option<(&[u8], &BackendChoice, &str)> {
        match &self.engine {
            Engine::Fused { .. } => None,
            Engine::General { backend, bytes, .. } => Some((bytes, backend, &self.unfused_because)),
        }
    }

    /// One thread's means of running it.
    pub(super) fn runner(&self) -> Result<Runner, Fault> {
        let widths = (self.environment.obs_dim(), self.environment.actions().width());
        let (inner, is_index) = match &self.engine {
            Engine::Fused { program, level } => {
                let scratch = vec![Lanes::ZERO; program.columns()];
                (Inner::Fused { program: Arc::clone(program), level: *level, scratch }, false)
            }
            Engine::General { backend, bytes, contract, rows } => {
                let runner = backend::Runner::new(&Backend::init(backend)?, bytes, contract, *rows, widths)?;
                (Inner::General(Box::new(runner)), contract.answer == Answer::Index)
            }
        };
        Ok(Runner { inner, actions: self.environment.actions(), is_index })
    }

    /// The raw outputs for observations in rows: scores, action values, or one choice a row where only the choice can
    /// be seen. A fused policy whose file ends in ArgMax answers with the scores before it.
    ///
    /// # Errors
    /// A miner fault if the run fails.
    ///
    /// # Panics
    /// When the observations are not whole rows.
    pub fn outputs(&self, observations: &[f32]) -> Result<Vec<f32>, Fault> {
        let width = self.environment.obs_dim();
        assert!(observations.len().is_multiple_of(width), "whole rows");
        let mut runner = self.runner()?;
        let mut outputs = Vec::new();
        for block in observations.chunks(width * LANES) {
            for (lane, row) in block.chunks_exact(width).enumerate() {
                runner.observe(lane, row);
            }
            let live = block.len() / width;
            runner.run(|lane| lane < live)?;
            for lane in 0..live {
                outputs.extend(runner.outputs().iter().map(|column| column.0[lane]));
            }
        }
        Ok(outputs)
    }
}

/// The limit on arithmetic is the first guard against slow policies, because it blames nobody for a busy machine: it
/// depends on the file alone.
fn check_cost(cost: u64) -> Result<u64, Fault> {
    if cost > STEP_COST_MAX {
        return Err(codes::TOO_COSTLY.because(format!("{cost} multiply-adds a step, the limit is {STEP_COST_MAX}")));
    }
    Ok(cost)
}

enum Inner {
    Fused { program: Arc<Program>, level: Level, scratch: Vec<Lanes> },
    General(Box<backend::Runner>),
}

/// One thread's block of rows through one policy.
pub(super) struct Runner {
    inner: Inner,
    actions: Actions,
    is_index: bool,
}

impl Runner {
    /// Puts an observation into a lane.
    #[inline]
    pub(super) fn observe(&mut self, lane: usize, observation: &[f32]) {
        let columns = match &mut self.inner {
            Inner::Fused { program, scratch, .. } => program.inputs(scratch),
            Inner::General(runner) => runner.inputs(),
        };
        for (column, value) in columns.iter_mut().zip(observation) {
            column.0[lane] = *value;
        }
    }

    /// Runs the lanes that hold an observation; of the others nothing may be read.
    pub(super) fn run(&mut self, is_live: impl Fn(usize) -> bool) -> Result<(), Fault> {
        match &mut self.inner {
            Inner::Fused { program, level, scratch } => {
                program.run(*level, scratch);
                Ok(())
            }
            Inner::General(runner) => runner.run(is_live),
        }
    }

    /// The raw outputs, one column each.
    pub(super) fn outputs(&self) -> &[Lanes] {
        match &self.inner {
            Inner::Fused { program, scratch, .. } => program.outputs(scratch),
            Inner::General(runner) => runner.outputs(),
        }
    }

    /// Whether a call is so cheap that it need not be watched each time.
    pub(super) const fn is_fused(&self) -> bool {
        matches!(self.inner, Inner::Fused { .. })
    }

    /// The choice of a lane: the first largest score, or the number the file gives.
    #[inline]
    pub(super) fn choice(&self, lane: usize) -> Result<u32, Fault> {
        let outputs = self.outputs();
        if self.is_index {
            return self.stated_choice(outputs[0].0[lane]);
        }
        let (mut best, mut choice) = (f32::NEG_INFINITY, 0);
        for (index, column) in (0_u32..).zip(outputs) {
            let score = column.0[lane];
            if score.is_nan() {
                return Err(codes::NOT_FINITE.because(format!("score {index} is not a number")));
            }
            if score > best {
                (best, choice) = (score, index);
            }
        }
        Ok(choice)
    }

    fn stated_choice(&self, choice: f32) -> Result<u32, Fault> {
        let choices = self.actions.width() as f32;
        if choice >= 0.0 && choice < choices {
            Ok(choice as u32)
        } else {
            Err(codes::OUT_OF_RANGE.because(format!("choice {choice} of {choices}")))
        }
    }

    /// The value of a lane's one continuous action.
    #[inline]
    pub(super) fn force(&self, lane: usize) -> Result<f32, Fault> {
        let force = self.outputs()[0].0[lane];
        if force.is_finite() { Ok(force) } else { Err(codes::NOT_FINITE.because(format!("the action is {force}"))) }
    }
}

//! The general ONNX backend behind `ort`: the embedded one, or a configured libonnxruntime.
//!
//! Owns the process's one choice of backend, and sessions. Refuses to know environments and to judge graphs. Policies
//! that are not fused run here; `waag doctor` asks what is in use.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    session::{Session, builder::GraphOptimizationLevel},
    value::{Tensor, TensorElementType},
};
use serde::{Deserialize, Serialize};

use super::{
    codes,
    graph::{Answer, Contract},
};
use crate::{
    fault::Fault,
    gym::simd::{LANES, Lanes},
    ids::Digest,
};

/// Which backend a process uses. A profile names the backend of record; a library is never used merely because it is
/// installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendChoice {
    /// Compiled into the program: needs nothing, runs the common operators.
    Embedded,
    /// This libonnxruntime.
    Onnxruntime(PathBuf),
}

impl BackendChoice {
    /// `embedded` or `onnxruntime`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Onnxruntime(_) => "onnxruntime",
        }
    }
}

/// The backend in use, named as evidence names it.
#[derive(Clone)]
pub struct Backend {
    choice: BackendChoice,
    version: String,
    environment: Environment,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("choice", &self.choice).field("version", &self.version).finish()
    }
}

/// What this process chose. `ort` can be set up once in a process, so the choice is the process's too.
static CHOSEN: Mutex<Option<Backend>> = Mutex::new(None);

impl Backend {
    /// Sets the process's backend, or returns it if it is the same.
    ///
    /// # Errors
    /// `onnx_backend_unavailable` if the library cannot be loaded or is too old, `onnx_backend_fixed` if the process
    /// uses another one.
    pub fn init(choice: &BackendChoice) -> Result<Self, Fault> {
        let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = chosen.as_ref() {
            return if backend.choice == *choice {
                Ok(backend.clone())
            } else {
                Err(codes::BACKEND_FIXED.because(format!("in use is {}", backend.name())))
            };
        }
        let builder = match choice {
            BackendChoice::Embedded => {
                if !ort::set_api(ort_tract::api()) {
                    return Err(codes::BACKEND_FIXED.because("another library was loaded before"));
                }
                ort::init()
            }
            BackendChoice::Onnxruntime(library) => load(library)?,
        };
        let environment = builder
            .with_name("waag")
            .with_telemetry(false)
            .build()
            .map_err(|source| codes::BACKEND_UNAVAILABLE.because(source.to_string()))?;
        let version = match choice {
            BackendChoice::Embedded => build_info(),
            BackendChoice::Onnxruntime(library) => format!("{} {}", identity(library)?, build_info()),
        };
        let backend = Self { choice: choice.clone(), version, environment };
        *chosen = Some(backend.clone());
        Ok(backend)
    }

    /// The backend this process uses, if it has chosen one.
    #[must_use]
    pub fn current() -> Option<Self> {
        CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `embedded` or `onnxruntime`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.choice.name()
    }

    /// What the library says of itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Loads a file. Optimisation is off: only then does a row's answer not depend on the rows beside it.
    fn session(&self, bytes: &[u8]) -> Result<Session, Fault> {
        let refused = |source: &dyn fmt::Display| codes::UNREADABLE.because(first_line(source));
        let builder = Session::builder(&self.environment).map_err(|source| refused(&source))?;
        let builder = match self.choice {
            // The embedded backend runs every session in the calling thread and knows no settings but the next one.
            BackendChoice::Embedded => builder,
            BackendChoice::Onnxruntime(_) => {
                let builder = builder.with_intra_threads(1).map_err(|source| refused(&source))?;
                builder.with_inter_threads(1).map_err(|source| refused(&source))?
            }
        };
        let mut builder =
            builder.with_optimization_level(GraphOptimizationLevel::Disable).map_err(|source| refused(&source))?;
        builder.commit_from_memory(bytes).map_err(|source| refused(&source))
    }
}

fn load(library: &Path) -> Result<ort::environment::EnvironmentBuilder, Fault> {
    let loaded = ort::init_from(library);
    loaded.map_err(|source| codes::BACKEND_UNAVAILABLE.because(first_line(&source)))
}

/// What the library says of its build: `key=value, key=value, …`, bounded. A release number is not part of it.
fn build_info() -> String {
    let info = ort::info().trim_start_matches("ORT Build Info: ");
    info.chars().filter(|letter| !letter.is_control()).take(160).collect()
}

/// A library's file name and the head of its digest, which name the release more surely than any number.
fn identity(library: &Path) -> Result<String, Fault> {
    let bytes = std::fs::read(library).map_err(|source| codes::BACKEND_UNAVAILABLE.because(first_line(&source)))?;
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} sha256:{}", Digest::of(&bytes).short()))
}

/// A foreign message fit for a fault: one line, bounded.
fn first_line(message: &dyn fmt::Display) -> String {
    message.to_string().lines().next().unwrap_or_default().chars().take(240).collect()
}

/// One thread's session of one policy.
pub(super) struct Runner {
    session: Session,
    contract: Contract,
    /// Rows that are handed over in one call: all lanes, or one.
    rows: usize,
    width: usize,
    inputs: Vec<Lanes>,
    outputs: Vec<Lanes>,
}

impl Runner {
    pub(super) fn new(
        backend: &Backend,
        bytes: &[u8],
        contract: &Contract,
        rows: usize,
        widths: (usize, usize),
    ) -> Result<Self, Fault> {
        let outputs = if contract.answer == Answer::Index { 1 } else { widths.1 };
        Ok(Self {
            session: backend.session(bytes)?,
            contract: contract.clone(),
            rows,
            width: widths.0,
            inputs: vec![Lanes::ZERO; widths.0],
            outputs: vec![Lanes::ZERO; outputs],
        })
    }

    pub(super) fn inputs(&mut self) -> &mut [Lanes] {
        &mut self.inputs
    }

    pub(super) fn outputs(&self) -> &[Lanes] {
        &self.outputs
    }

    /// Runs the live lanes, in calls of always the same number of rows: another number might round otherwise. A call
    /// without a live lane is left out.
    pub(super) fn run(&mut self, is_live: impl Fn(usize) -> bool) -> Result<(), Fault> {
        for first in (0..LANES).step_by(self.rows) {
            let lanes = first..first + self.rows;
            if !lanes.clone().any(&is_live) {
                continue;
            }
            let rows = lanes.clone().flat_map(|lane| self.inputs.iter().map(move |column| column.0[lane]));
            let values = self.call(rows.collect())?;
            for (lane, row) in lanes.zip(values.chunks_exact(self.outputs.len())) {
                for (column, value) in self.outputs.iter_mut().zip(row) {
                    column.0[lane] = *value;
                }
            }
        }
        Ok(())
    }

    /// One call: rows in, as many rows out, integers as floats.
    fn call(&mut self, rows: Vec<f32>) -> Result<Vec<f32>, Fault> {
        let failed = |source: ort::Error| codes::RUN_FAILED.because(first_line(&source));
        let tensor = Tensor::from_array(([self.rows, self.width], rows)).map_err(failed)?;
        let input = Cow::Borrowed(self.contract.input.as_str());
        let answers = self.session.run(vec![(input, tensor)]).map_err(failed)?;
        let Some(answer) = answers.get(&self.contract.output) else {
            return Err(codes::OUTPUT_SHAPE.because("the output is missing"));
        };
        let element = answer.dtype().tensor_type();
        let values: Vec<f32> = match (self.contract.answer, element) {
            (Answer::Values, Some(TensorElementType::Float32)) => {
                answer.try_extract_tensor::<f32>().map_err(failed)?.1.to_vec()
            }
            (Answer::Index, Some(TensorElementType::Int64)) => {
                answer.try_extract_tensor::<i64>().map_err(failed)?.1.iter().map(|choice| *choice as f32).collect()
            }
            (Answer::Index, Some(TensorElementType::Int32)) => {
                answer.try_extract_tensor::<i32>().map_err(failed)?.1.iter().map(|choice| *choice as f32).collect()
            }
            _other => return Err(codes::OUTPUT_SHAPE.because("the output has another type than declared")),
        };
        let wanted = self.rows * self.outputs.len();
        if values.len() == wanted {
            Ok(values)
        } else {
            let detail = format!("{} values for {} rows, {wanted} are wanted", values.len(), self.rows);
            Err(codes::OUTPUT_SHAPE.because(detail))
        }
    }
}

//! Policies: an archive read, checked and summed up, ready for environments and for the search for copies.
//!
//! Owns what a bundle and each of its models are, and the comparison with what a challenge asks for. Refuses to run a
//! model and to know where the bytes came from. The stages, intake, `artifact::pack` and the miner verbs call it.
//!
//! A policy may cover some of a challenge's environments: a specialist does, and has no success in the others. It must
//! cover at least one, and none that the challenge does not have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Limits, archive, codes,
    codes::quoted,
    manifest::Manifest,
    onnx::{
        Canon, Graph, Shapes,
        proto::elem,
        shape::{Dim, Value},
        tensor::is_float,
    },
};
use crate::{fault::Fault, ids::Digest};

/// What a model answers for one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Output {
    /// Float32 numbers: one for each discrete action (the largest is taken), or one for each continuous dimension.
    Floats {
        /// How many for one observation.
        width: u64,
        /// Whether the shape is `[N, width]`; a width of 1 may also be `[N]`.
        is_matrix: bool,
    },
    /// The number of a discrete action, int32 or int64, of shape `[N]` or `[N, 1]`.
    Choice,
}

/// What can be said of a model by looking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The file in the archive.
    pub file: String,
    /// SHA-256 of the file.
    pub file_digest: Digest,
    /// What it computes, freed of how an exporter wrote it.
    pub content: Digest,
    /// The exporter, as the file says.
    pub producer: String,
    /// Version of the standard operator set.
    pub opset: i64,
    /// Width of an observation.
    pub obs_dim: u64,
    /// What it answers.
    pub output: Output,
    /// Nodes of use.
    pub nodes: u64,
    /// Constant floats of use.
    pub parameters: u64,
    /// What one observation costs, in multiply-adds: arithmetic, nodes and elements.
    pub work_per_row: u64,
}

/// One environment's model.
#[derive(Debug, Clone)]
pub struct Model {
    /// What can be said of it.
    pub summary: Summary,
    /// The plain ONNX file that a runtime is given: input `observation` `[N, obs_dim]`, output `action`, standard
    /// operators alone. Nothing else of the miner's file reaches a runtime.
    pub plain: Vec<u8>,
    /// Its canonical form, for the search for copies.
    pub canon: Canon,
}

/// A whole policy.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// SHA-256 of the uploaded bytes.
    pub digest: Digest,
    /// Over the content digests of all models: equal for a policy that is only packed or exported anew.
    pub content_digest: Digest,
    /// What `policy.toml` says.
    pub manifest: Manifest,
    /// Models by environment.
    pub models: BTreeMap<String, Model>,
}

impl Bundle {
    /// Reads and checks an upload. Nothing of it runs.
    ///
    /// # Errors
    /// A miner's fault that names the file, the measured value and the limit.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Fault> {
        let files = archive::read(bytes, limits)?;
        let manifest = Manifest::read(&files)?;
        let mut models = BTreeMap::new();
        let mut content = Sha256::new_with_prefix(b"waag-policy-content-1");
        for (environment, file) in &manifest.environments {
            // The manifest has checked that every name is a file.
            let bytes = files.get(file).map(Vec::as_slice).unwrap_or_default();
            let model = Model::read(file, bytes, limits)?;
            content.update((environment.len() as u64).to_le_bytes());
            content.update(environment);
            content.update(model.summary.content.0);
            models.insert(environment.clone(), model);
        }
        let content_digest = Digest(content.finalize().into());
        Ok(Self { digest: Digest::of(bytes), content_digest, manifest, models })
    }
}

impl Model {
    /// Reads and checks one ONNX file.
    ///
    /// # Errors
    /// A miner's fault that names the file.
    pub fn read(file: &str, bytes: &[u8], limits: &Limits) -> Result<Self, Fault> {
        let named = |fault: Fault| Fault { detail: format!("{file}: {}", fault.detail), ..fault };
        let graph = Graph::read(bytes, limits).map_err(named)?;
        let shapes = Shapes::of(&graph, limits).map_err(named)?;
        let graph = graph.folded(&shapes);
        let shapes = Shapes::of(&graph, limits).map_err(named)?;
        let output = output(&shapes.output).map_err(named)?;
        let canon = Canon::of(&graph, &shapes);
        let floats = graph.constants.values().filter(|tensor| is_float(tensor.elem));
        let summary = Summary {
            file: file.to_owned(),
            file_digest: Digest::of(bytes),
            content: canon.digest(),
            producer: graph.producer.clone(),
            opset: graph.opset,
            obs_dim: graph.obs_dim,
            output,
            nodes: graph.nodes.len() as u64,
            parameters: floats.map(super::onnx::tensor::Tensor::len).sum(),
            work_per_row: shapes.work_per_row,
        };
        Ok(Self { summary, plain: graph.to_plain(&shapes), canon })
    }
}

fn output(value: &Value) -> Result<Output, Fault> {
    match (value.elem, &value.shape[..]) {
        (elem::FLOAT, [Dim::Batch, Dim::Fixed(width)]) => Ok(Output::Floats { width: *width, is_matrix: true }),
        (elem::FLOAT, [Dim::Batch]) => Ok(Output::Floats { width: 1, is_matrix: false }),
        (elem::INT32 | elem::INT64, [Dim::Batch] | [Dim::Batch, Dim::Fixed(1)]) => Ok(Output::Choice),
        (elem_type, shape) => {
            let extent = |dim: &Dim| match dim {
                Dim::Batch => "N".to_owned(),
                Dim::Fixed(extent) => extent.to_string(),
            };
            let shape: Vec<_> = shape.iter().map(extent).collect();
            let why = format!("elements of type {elem_type} and shape [{}]", shape.join(", "));
            Err(codes::ONNX_OUTPUT.because(why))
        }
    }
}

/// What an environment takes from a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actions {
    /// One of this many.
    Discrete(u64),
    /// This many floats.
    Continuous(u64),
}

/// An environment as far as a policy's form goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name.
    pub environment: &'a str,
    /// Width of its observations.
    pub obs_dim: u64,
    /// What it takes.
    pub actions: Actions,
}

/// Checks a policy against a challenge's environments.
///
/// # Errors
/// A miner's fault for an environment that is not among them, or a model of the wrong form for its own.
pub fn check(bundle: &Bundle, wanted: &[Wanted<'_>]) -> Result<(), Fault> {
    for (environment, model) in &bundle.models {
        let Some(wanted) = wanted.iter().find(|wanted| wanted.environment == environment) else {
            let known: Vec<_> = wanted.iter().map(|wanted| wanted.environment).collect();
            let why = format!("{}; the challenge has {}", quoted(environment), known.join(", "));
            return Err(codes::ENVIRONMENT_UNKNOWN.because(why));
        };
        check_form(environment, &model.summary, wanted)?;
    }
    Ok(())
}

fn check_form(environment: &str, summary: &Summary, wanted: &Wanted<'_>) -> Result<(), Fault> {
    if summary.obs_dim != wanted.obs_dim {
        let (given, wanted) = (summary.obs_dim, wanted.obs_dim);
        let why = format!("{}: it takes {given} numbers; {environment} gives {wanted}", summary.file);
        return Err(codes::ONNX_INPUT.because(why));
    }
    let wrong = |given: String| {
        let asked = match wanted.actions {
            Actions::Discrete(count) => format!("{count} logits or the number of an action"),
            Actions::Continuous(dims) => format!("{dims} floats"),
        };
        Err(codes::ONNX_OUTPUT
            .because(format!("{}: it answers with {given}; {environment} takes {asked}", summary.file)))
    };
    match (summary.output, wanted.actions) {
        (Output::Choice, Actions::Discrete(_)) => Ok(()),
        (Output::Choice, Actions::Continuous(_)) => wrong("an integer".to_owned()),
        // One number cannot be the logits of several actions, but it can be one dimension.
        (Output::Floats { width, .. }, Actions::Discrete(count)) if width == count => Ok(()),
        (Output::Floats { width, .. }, Actions::Continuous(dims)) if width == dims => Ok(()),
        (Output::Floats { width, .. }, _) => wrong(format!("{width} floats")),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

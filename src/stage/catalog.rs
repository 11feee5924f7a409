//! The catalogue: which parts a profile may name, and how each stage is made from its options.

use std::sync::Arc;

use serde_json::Value;

use super::{Stage, checks::Checks, duplicates, rollouts};
use crate::{
    artifact,
    config::profile::{Catalog, Part, Profile},
    engine::{InProcess, compare, rollouts as play},
    fault::Fault,
    gym::{
        isolation::Host,
        policy::{BackendChoice, codes},
    },
    score,
    store::Blobs,
};

/// What stages are made of.
#[derive(Clone)]
pub struct Parts {
    /// Where artifacts are.
    pub blobs: Blobs,
    /// The secret from which observations for comparing policies are chosen.
    pub observation_key: [u8; 32],
    /// Where policies are played.
    pub host: Host,
    /// The configured libonnxruntime, if any.
    pub onnx_library: Option<std::path::PathBuf>,
}

/// The parts of this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn;

impl Catalog for BuiltIn {
    fn names(&self, part: Part) -> Vec<&'static str> {
        match part {
            Part::Artifact => vec!["policy", "model"],
            Part::Door => vec!["commitment"],
            Part::Stage => vec!["checks", "duplicates", "rollouts"],
            Part::Rule => score::rules().iter().map(|rule| rule.name()).collect(),
        }
    }

    fn check(&self, part: Part, name: &str, options: &Value) -> Result<(), String> {
        match (part, name) {
            (Part::Artifact, "model") => artifact::model::Options::parse(options).map(drop),
            (Part::Stage, "duplicates") => duplicates::Options::parse(options).map(drop),
            (Part::Stage, "rollouts") => rollouts::Options::parse(options).map(drop),
            (Part::Rule, name) => score::rule(name).map_or(Ok(()), |rule| rule.check(options)),
            _ if options.as_object().is_none_or(serde_json::Map::is_empty) => Ok(()),
            _ => Err(format!("`{name}` takes no options")),
        }
    }
}

/// The backend that a profile names.
///
/// # Errors
/// An operator fault when it names one that is not configured here.
pub fn backend(profile: &Profile, parts: &Parts) -> Result<BackendChoice, Fault> {
    let named = rollouts_of(profile).map_or_else(|| "embedded".to_owned(), |options| options.backend);
    match (named.as_str(), &parts.onnx_library) {
        ("embedded", _) => Ok(BackendChoice::Embedded),
        (_, Some(library)) => Ok(BackendChoice::Onnxruntime(library.clone())),
        (_, None) => Err(codes::BACKEND_UNAVAILABLE.because(format!(
            "profile `{}` names `{named}` as its backend, and `onnx.library` is not set",
            profile.slug
        ))),
    }
}

/// The options of the profile's rollouts, from which the other stages take environments and backend.
#[must_use]
pub fn rollouts_of(profile: &Profile) -> Option<rollouts::Options> {
    let entry = profile.stages.iter().find(|entry| entry.kind == "rollouts")?;
    rollouts::Options::parse(&entry.options).ok()
}

/// The limits on this profile's artifacts.
#[must_use]
pub fn limits(profile: &Profile) -> artifact::Limits {
    artifact::Limits::with_archive_bytes(profile.artifact.bytes_max)
}

/// Makes the profile's stages. The profile has been checked against [`BuiltIn`].
///
/// # Errors
/// An operator fault when a part needs something that is not configured here.
pub fn stages(profile: &Profile, parts: &Parts) -> Result<Vec<Arc<dyn Stage>>, Fault> {
    if profile.artifact.kind == "model" {
        return Err(artifact::model::codes::MODELS_NOT_SERVED.because(format!("profile `{}`", profile.slug)));
    }
    let backend = backend(profile, parts)?;
    let environments = rollouts_of(profile).map(|options| options.environments).unwrap_or_default();
    let mut stages: Vec<Arc<dyn Stage>> = Vec::new();
    for entry in &profile.stages {
        let refused = |why: String| codes::BACKEND_UNAVAILABLE.because(format!("stage `{}`: {why}", entry.name));
        let stage: Arc<dyn Stage> = match entry.kind.as_str() {
            "duplicates" => {
                let options = duplicates::Options::parse(&entry.options).map_err(refused)?;
                Arc::new(duplicates::Duplicates::new(options, environments.clone()))
            }
            "rollouts" => {
                let options = rollouts::Options::parse(&entry.options).map_err(refused)?;
                Arc::new(rollouts::Rollouts::new(options, backend.clone(), parts.host.clone()))
            }
            _ => Arc::new(Checks::new(parts.blobs.clone(), limits(profile), environments.clone(), backend.clone())),
        };
        stages.push(stage);
    }
    Ok(stages)
}

/// The engine that runs the jobs of these profiles in this process.
///
/// # Errors
/// An operator fault when profiles name different backends: a process has one.
pub fn engine(profiles: &[Profile], parts: &Parts) -> Result<InProcess, Fault> {
    let mut chosen: Option<BackendChoice> = None;
    let mut largest = artifact::Limits::with_archive_bytes(0);
    for profile in profiles {
        let backend = backend(profile, parts)?;
        if chosen.as_ref().is_some_and(|chosen| *chosen != backend) {
            return Err(codes::BACKEND_FIXED.because("the profiles name different ONNX backends"));
        }
        chosen = Some(backend);
        if profile.artifact.bytes_max > largest.archive_bytes {
            largest = limits(profile);
        }
    }
    let backend = chosen.unwrap_or(BackendChoice::Embedded);
    let rollouts = play::Rollouts::new(parts.blobs.clone(), largest.clone(), backend.clone(), parts.host.clone());
    let key = parts.observation_key;
    let compare = compare::Compare::new(parts.blobs.clone(), largest, backend, parts.host.clone(), key);
    Ok(InProcess::new().with(play::KIND, Arc::new(rollouts)).with(compare::KIND, Arc::new(compare)))
}

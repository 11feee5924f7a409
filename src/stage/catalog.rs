//! The catalogue: which parts a profile may name, and how each stage is made from its options.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Stage,
    checks::Checks,
    duplicates,
    model::{self, Models},
    rollouts,
};
use crate::{
    artifact,
    config::profile::{Catalog, Part, Profile},
    engine::{InProcess, compare, rollouts as play},
    fault::{Class, Code, Fault},
    gym::{
        isolation::Host,
        policy::{BackendChoice, codes},
    },
    score,
    store::Blobs,
};

/// The kind of artifacts that are models.
const MODEL: &str = "model";

/// A profile names a part whose options it does not take.
pub const PART_UNUSABLE: Code = Code::new(
    Class::Operator,
    "part_unusable",
    "a part of a profile cannot be made with its options",
    "check the profile with `waag profile check FILE`",
);

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
    /// What models need besides.
    pub models: model::Parts,
}

/// The parts of this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn;

impl Catalog for BuiltIn {
    fn names(&self, part: Part) -> Vec<&'static str> {
        match part {
            Part::Artifact => vec!["policy", MODEL],
            Part::Door => vec!["commitment"],
            Part::Stage => vec!["checks", "duplicates", "rollouts"],
            Part::Rule => score::rules().iter().map(|rule| rule.name()).collect(),
        }
    }

    fn check(&self, part: Part, name: &str, artifact: &str, options: &Value) -> Result<(), String> {
        match (part, name) {
            (Part::Artifact, MODEL) => artifact::model::Options::parse(options).map(drop),
            (Part::Stage, "duplicates") if artifact == MODEL => model::Options::parse(options).map(drop),
            (Part::Stage, "rollouts") if artifact == MODEL => Err("`rollouts` plays policies, not models".to_owned()),
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
    if profile.artifact.kind == MODEL {
        return model_stages(profile, parts);
    }
    let backend = backend(profile, parts)?;
    let environments = rollouts_of(profile).map(|options| options.environments).unwrap_or_default();
    let mut stages: Vec<Arc<dyn Stage>> = Vec::new();
    for entry in &profile.stages {
        let refused = |why: String| PART_UNUSABLE.because(format!("stage `{}`: {why}", entry.name));
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

/// The stages of a challenge of models.
fn model_stages(profile: &Profile, parts: &Parts) -> Result<Vec<Arc<dyn Stage>>, Fault> {
    let refused = |why: String| PART_UNUSABLE.because(format!("profile `{}`: {why}", profile.slug));
    let options = artifact::model::Options::parse(&profile.artifact.options).map_err(refused)?;
    let slug = profile.slug.to_string();
    let models = Models::new(slug, options, profile.artifact.bytes_max, parts.models.clone());
    let mut stages: Vec<Arc<dyn Stage>> = Vec::new();
    for entry in &profile.stages {
        stages.push(match entry.kind.as_str() {
            "duplicates" => {
                let options = model::Options::parse(&entry.options).map_err(refused)?;
                Arc::new(model::Duplicates::new(models.clone(), options))
            }
            _ => Arc::new(model::Checks::new(models.clone())),
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::profile::embedded_names;

    #[test]
    fn the_shipped_profiles_name_parts_that_there_are() {
        for name in embedded_names() {
            let profile = Profile::load(name).unwrap_or_else(|error| panic!("{error}"));
            profile.check(&BuiltIn).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn options_belong_to_what_is_handed_in() {
        let check = |artifact: &str, options| BuiltIn.check(Part::Stage, "duplicates", artifact, &options);
        assert_eq!(check("policy", serde_json::json!({ "observations": 64 })), Ok(()));
        assert!(check("policy", serde_json::json!({ "verdict": "added" })).is_err());
        assert_eq!(check(MODEL, serde_json::json!({ "verdict": "norms", "similarity": 0.9 })), Ok(()));
        for wrong in [
            serde_json::json!({ "observations": 64 }),
            serde_json::json!({ "similarity": 0 }),
            serde_json::json!({ "wait_ms": WAIT_TOO_LONG_MS }),
        ] {
            assert!(check(MODEL, wrong.clone()).is_err(), "{wrong}");
        }
        assert!(BuiltIn.check(Part::Stage, "rollouts", MODEL, &serde_json::json!({})).is_err());
    }

    /// A millisecond more than a day.
    const WAIT_TOO_LONG_MS: u64 = 86_400_001;
}

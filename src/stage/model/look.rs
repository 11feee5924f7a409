//! The first look at a published model: its reference, its name, and everything that can be seen without fetching it.
//!
//! Owns the order of these checks. Refuses to fetch weights. The stage `checks` and `waag check --repo` run the same.

use serde_json::json;

use super::codes::{FINGERPRINT_TOO_LARGE, FOREIGN_TENSORS};
use crate::{
    artifact::{
        fetch::{Source, Sources},
        model::{Options, Passed, Reference, Refused, Rejection, Repo, Step, Trouble, Why, codes, preflight},
    },
    dedup::model::{matrices_of, twice},
};

/// Matrices of one model that a fingerprint keeps apart: four times those of the largest mixtures in use, some 200 MB.
const MATRICES_MAX: u64 = 131_072;

/// A model that passed the first look.
pub struct Looked {
    /// Which model.
    pub reference: Reference,
    /// Where it is, still open.
    pub source: Box<dyn Source>,
    /// What was seen.
    pub passed: Passed,
}

/// Looks at a model as it was committed. `watch` hears of each check as it ends.
///
/// # Errors
/// The first check that fails, with all that were made.
pub async fn look(
    sources: &Sources,
    options: &Options,
    bytes_max: u64,
    (repo, digest): (&str, &str),
    watch: &(dyn Fn(&Step) + Sync),
) -> Result<Looked, Refused> {
    let mut steps = Vec::new();
    let reference = Reference::new(repo, digest);
    let named = reference.as_ref().map(ToString::to_string).map_err(Clone::clone);
    step(&mut steps, watch, codes::INVALID_REF.name, named)?;
    let reference = reference.map_err(|why| refused(steps.clone(), Why::Rejected(why)))?;
    if let Ok(Some(naming)) = options.naming() {
        let checked = naming.check(&reference).map(|()| reference.repo().to_owned());
        step(&mut steps, watch, codes::REPO_NAMING.name, checked)?;
    }
    let source = sources.open(&reference).map_err(|trouble| refused(steps.clone(), unusable(&trouble)))?;
    match preview(&*source, options, bytes_max, watch).await {
        Ok(mut passed) => {
            passed.steps.splice(0..0, steps);
            Ok(Looked { reference, source, passed })
        }
        Err(mut refused) => {
            refused.steps.splice(0..0, steps);
            Err(refused)
        }
    }
}

/// Looks at a model wherever it is, without its name. `watch` hears of each check as it ends.
///
/// # Errors
/// The first check that fails, with all that were made.
pub async fn preview(
    repo: &dyn Repo,
    options: &Options,
    bytes_max: u64,
    watch: &(dyn Fn(&Step) + Sync),
) -> Result<Passed, Refused> {
    let mut passed = preflight(repo, &options.rules(bytes_max), watch).await?;
    let tensors = passed.shards.values().flat_map(|header| &header.tensors);
    let matrices = tensors.fold(0_u64, |sum, tensor| sum.saturating_add(matrices_of(&tensor.name, &tensor.shape)));
    let checked = if matrices <= MATRICES_MAX {
        Ok(format!("{matrices} matrices"))
    } else {
        let why = format!("{matrices} matrices; the limit is {MATRICES_MAX}");
        let details = json!({ "fingerprint_dim": matrices, "max_dim": MATRICES_MAX });
        Err(Rejection::new(FINGERPRINT_TOO_LARGE, why, details))
    };
    step(&mut passed.steps, watch, FINGERPRINT_TOO_LARGE.name, checked)
        .and_then(|()| {
            let tensors = passed.shards.values().flat_map(|header| &header.tensors);
            let hidden = twice(tensors.map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())));
            let Some(name) = hidden else { return Ok(()) };
            let why = format!("`{name}` is a matrix that another tensor is already");
            let rejection = Rejection::new(FOREIGN_TENSORS, why, json!({ "tensor": name }));
            step(&mut passed.steps, watch, FOREIGN_TENSORS.name, Err(rejection))
        })
        .map_err(|refused| Refused { read_bytes: passed.read_bytes, ..refused })?;
    Ok(passed)
}

fn step(
    steps: &mut Vec<Step>,
    watch: &(dyn Fn(&Step) + Sync),
    name: &'static str,
    ended: Result<String, Rejection>,
) -> Result<(), Refused> {
    let detail = ended.as_ref().map_or_else(|why| why.detail.clone(), Clone::clone);
    let step = Step { name, ok: ended.is_ok(), detail };
    watch(&step);
    steps.push(step);
    ended.map(drop).map_err(|why| refused(steps.clone(), Why::Rejected(why)))
}

fn refused(steps: Vec<Step>, why: Why) -> Refused {
    Refused { steps, why: Box::new(why), read_bytes: 0 }
}

/// A source that cannot be asked at all: of another kind than the reference, or where this program may not go.
fn unusable(trouble: &Trouble) -> Why {
    match trouble {
        Trouble::Malformed(why) => Why::Rejected(Rejection::new(codes::INVALID_REF, why.clone(), json!(null))),
        Trouble::Forbidden(_) => Why::Trouble(codes::FETCH_NOT_ALLOWED.because(trouble.to_string())),
        _ => Why::Trouble(codes::LIST_FILES_FAILED.because(trouble.to_string())),
    }
}

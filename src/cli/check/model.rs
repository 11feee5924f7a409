//! `waag check` for models: the operator's own checks, of a folder here or of what is published.

use std::path::Path;

use serde::Serialize;

use crate::{
    artifact::{
        fetch::{Http, Hub, Limits, Plain, Registry},
        model::{
            FaultRecord, Folder, Options, Passed, Place, Reference, Refused, Rejection, Repo, Step, Trouble, Why,
            codes, preflight, reference::Revision,
        },
    },
    cli::{
        Context, Failure, Outcome,
        exit::{answer, note, print_json},
    },
    config::{Profile, Settings},
    fault::Fault,
};

/// What is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What<'a> {
    /// A folder on this machine.
    Path(&'a Path),
    /// A repository and its digest, as they are committed.
    Published(&'a str, &'a str),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Checked {
    /// What was looked at.
    uri: String,
    /// Whether the operator's appliance would go on with it.
    valid: bool,
    /// Every check that was made.
    checks: Vec<Step>,
    /// Bytes that were read for it.
    read_bytes: u64,
    /// Its tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<usize>,
    /// Why it is not valid: the public record of a rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultRecord>,
}

/// Runs the checks.
///
/// # Errors
/// The first rule that the model breaks, or what could not be read.
pub async fn run(context: &Context, profile: &Profile, settings: &Settings, what: What<'_>) -> Outcome {
    let options = Options::parse(&profile.artifact.options).map_err(Failure::usage)?;
    let json = context.json();
    let watch = |step: &Step| {
        if !json {
            note(format_args!("[{}] {} — {}", if step.ok { "PASS" } else { "FAIL" }, step.name, step.detail));
        }
    };
    let (repo, mut first) = match what {
        What::Path(path) => {
            Failure::unless_there(path)?;
            (Box::new(Folder::new(path)) as Box<dyn Repo>, Vec::new())
        }
        What::Published(repo, digest) => match published(&options, settings, repo, digest, &watch) {
            Ok(found) => found,
            Err(refused) => return end(json, format!("{repo}@{digest}"), Err(*refused)),
        },
    };
    let rules = options.rules(profile.artifact.bytes_max);
    let mut looked = preflight(&*repo, &rules, &watch).await;
    let steps = match &mut looked {
        Ok(passed) => &mut passed.steps,
        Err(refused) => &mut refused.steps,
    };
    first.append(steps);
    *steps = first;
    end(json, repo.uri(), looked)
}

/// What a miner publishes and where it is, with the checks of its name.
type Found = (Box<dyn Repo>, Vec<Step>);

fn published(
    options: &Options,
    settings: &Settings,
    repo: &str,
    digest: &str,
    watch: &dyn Fn(&Step),
) -> Result<Found, Box<Refused>> {
    let mut steps = Vec::new();
    let mut step = |name: &'static str, ended: Result<String, Rejection>| {
        let detail = ended.as_ref().map_or_else(|why| why.detail.clone(), Clone::clone);
        let step = Step { name, ok: ended.is_ok(), detail };
        watch(&step);
        steps.push(step);
        let refused = |why| Refused { steps: steps.clone(), why: Box::new(Why::Rejected(why)), read_bytes: 0 };
        ended.map_err(refused)
    };
    let reference = Reference::new(repo, digest);
    step(codes::INVALID_REF.name, reference.clone().map(|reference| reference.to_string()))?;
    let reference = match reference {
        Ok(reference) => reference,
        Err(why) => return Err(Box::new(Refused { steps, why: Box::new(Why::Rejected(why)), read_bytes: 0 })),
    };
    if let Ok(Some(naming)) = options.naming() {
        step(codes::REPO_NAMING.name, naming.check(&reference).map(|()| reference.repo().to_owned()))?;
    }
    match source(options, settings, reference) {
        Ok(source) => Ok((source, steps)),
        Err(trouble) => Err(Box::new(unusable(steps, &trouble))),
    }
}

/// A source that cannot be asked at all: of another kind than the reference, or where this program may not go.
fn unusable(steps: Vec<Step>, trouble: &Trouble) -> Refused {
    let why = match trouble {
        Trouble::Malformed(why) => {
            Why::Rejected(Rejection::new(codes::INVALID_REF, why.clone(), serde_json::Value::Null))
        }
        Trouble::Forbidden(_) => Why::Trouble(codes::FETCH_NOT_ALLOWED.because(trouble.to_string())),
        _ => Why::Trouble(codes::LIST_FILES_FAILED.because(trouble.to_string())),
    };
    Refused { steps, why: Box::new(why), read_bytes: 0 }
}

/// The source of the profile, for this model.
fn source(options: &Options, settings: &Settings, reference: Reference) -> Result<Box<dyn Repo>, Trouble> {
    let limits = Limits { allow_private: settings.fetch.addresses.allows_private(), ..Limits::default() };
    let http = Http::new(limits)?;
    Ok(match &options.source {
        Place::Registry(base) => Box::new(Registry::new(http, base, reference, None)?),
        Place::Hub(base) => Box::new(Hub::new(http, base, reference)?),
        Place::Plain(base) => {
            let Revision::Sha256(digest) = *reference.revision() else {
                return Err(Trouble::Malformed(format!("{reference} has no SHA-256")));
            };
            Box::new(Plain::new(http, &format!("{}/{}", base.trim_end_matches('/'), reference.repo()), digest)?)
        }
    })
}

fn end(json: bool, uri: String, looked: Result<Passed, Refused>) -> Outcome {
    match looked {
        Ok(Passed { steps: checks, shards, read_bytes, .. }) => {
            let tensors = shards.values().map(|header| header.tensors.len()).sum();
            let found = Checked { uri, valid: true, checks, read_bytes, tensors: Some(tensors), fault: None };
            answer(json, &found, || "VALID".to_owned());
            Ok(())
        }
        Err(refused) => {
            let fault: Fault = refused.fault();
            let Refused { steps: checks, why, read_bytes } = refused;
            let record = match *why {
                Why::Rejected(rejection) => Some(rejection.record()),
                Why::Trouble(_fault) => None,
            };
            let failure = Failure::from(fault);
            if json && record.is_some() {
                print_json(&Checked { uri, valid: false, checks, read_bytes, tensors: None, fault: record });
                return Err(failure.told());
            }
            Err(failure)
        }
    }
}

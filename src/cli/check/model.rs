//! `waag check` for models: the operator's own checks, of a folder here or of what is published.

use std::path::Path;

use serde::Serialize;

use crate::{
    artifact::{
        fetch::{Credentials, Http, Limits, Sources},
        model::{FaultRecord, Folder, Options, Passed, Refused, Repo as _, Step, Trouble, Why},
    },
    cli::{
        Context, Failure, Outcome,
        exit::{answer, note, print_json},
    },
    config::{Profile, Secret, Settings},
    fault::Fault,
    stage::model,
};

/// The variable with a registry's password.
const PASSWORD: &str = "WAAG_REGISTRY_PASSWORD";

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

/// How published models are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// Where the challenge's models are, and its rules.
    pub options: &'a Options,
    /// Which machines may be spoken to.
    pub settings: &'a Settings,
    /// Who asks.
    pub credentials: Option<&'a Credentials>,
}

/// A model that was looked at.
#[derive(Debug)]
pub struct Looked {
    /// What was looked at.
    pub uri: String,
    /// How the checks ended.
    pub ended: Result<Passed, Refused>,
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
            note(line(step));
        }
    };
    let credentials = credentials(context, settings)?;
    let reach = Reach { options: &options, settings, credentials: credentials.as_ref() };
    let Looked { uri, ended } = look(&reach, profile.artifact.bytes_max, what, &watch).await?;
    end(json, uri, ended)
}

/// A check that has ended, for people.
pub fn line(step: &Step) -> String {
    format!("[{}] {} — {}", if step.ok { "PASS" } else { "FAIL" }, step.name, step.detail)
}

/// Who asks the registry, as the settings say; the password may also stand in the environment.
///
/// # Errors
/// When the file with the password cannot be used, or there is none.
pub fn credentials(context: &Context, settings: &Settings) -> Result<Option<Credentials>, Failure> {
    let Some(username) = settings.fetch.username.clone() else { return Ok(None) };
    let password = match &settings.fetch.password_file {
        Some(path) => Secret::read(path).map_err(|error| Failure::named_file(error.fault()))?.reveal().to_owned(),
        None => context.env.get(PASSWORD).cloned().ok_or_else(|| {
            Failure::usage(format!(
                "`{username}` has no password: name its file in `fetch.password_file`, or set {PASSWORD}"
            ))
        })?,
    };
    Ok(Some(Credentials { username, password }))
}

/// Looks at a model with the checks that the operator makes.
///
/// # Errors
/// When the folder is not there.
pub async fn look(
    reach: &Reach<'_>,
    bytes_max: u64,
    what: What<'_>,
    watch: &(dyn Fn(&Step) + Sync),
) -> Result<Looked, Failure> {
    match what {
        What::Path(path) => {
            Failure::unless_there(path)?;
            let repo = Folder::new(path);
            let ended = model::preview(&repo, reach.options, bytes_max, watch).await;
            Ok(Looked { uri: repo.uri(), ended })
        }
        What::Published(repo, digest) => {
            let place = reach.options.source.clone();
            let sources = Sources::new(place, limits(reach.settings), reach.credentials.cloned());
            let looked = model::look(&sources, reach.options, bytes_max, (repo, digest), watch).await;
            Ok(Looked { uri: format!("{repo}@{digest}"), ended: looked.map(|looked| looked.passed) })
        }
    }
}

/// A client that goes where the settings let it.
pub fn http(settings: &Settings) -> Result<Http, Trouble> {
    Http::new(limits(settings))
}

/// How sources may be spoken to, as the settings say.
pub fn limits(settings: &Settings) -> Limits {
    Limits { allow_private: settings.fetch.addresses.allows_private(), ..Limits::default() }
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

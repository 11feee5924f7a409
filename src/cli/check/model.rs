//! `waag check` for models: the operator's own checks, of a folder here or of what is published.

use std::path::Path;

use serde::Serialize;

use crate::{
    artifact::{
        fetch::{Limits, Sources},
        model::{FaultRecord, Folder, Options, Passed, Refused, Repo as _, Step, Why, preflight},
    },
    cli::{
        Context, Failure, Outcome,
        exit::{answer, note, print_json},
    },
    config::{Profile, Settings},
    fault::Fault,
    stage::model::look,
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
    match what {
        What::Path(path) => {
            Failure::unless_there(path)?;
            let repo = Folder::new(path);
            let looked = preflight(&repo, &options.rules(profile.artifact.bytes_max), &watch).await;
            end(json, repo.uri(), looked)
        }
        What::Published(repo, digest) => {
            let limits = Limits { allow_private: settings.fetch.addresses.allows_private(), ..Limits::default() };
            let sources = Sources::new(options.source.clone(), limits, None);
            let looked = look(&sources, &options, profile.artifact.bytes_max, (repo, digest), &watch).await;
            end(json, format!("{repo}@{digest}"), looked.map(|looked| looked.passed))
        }
    }
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

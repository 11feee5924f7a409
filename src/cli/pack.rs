//! `waag pack`: ONNX files made into one policy archive.

use std::path::PathBuf;

use serde_json::json;

use super::{
    Context, Failure, Outcome,
    exit::{answer, table},
};
use crate::{
    artifact::{
        Limits,
        pack::{Words, pack},
    },
    gym::env::Environment,
    stage::catalog,
};

/// Arguments of `waag pack`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag pack CartPole-v1=cartpole.onnx
  waag pack CartPole-v1=a.onnx Pendulum-v1=b.onnx --out my-policy.tar --name \"first try\"

Weights that an exporter wrote beside an ONNX file are put into the archive. The same files give the same bytes.")]
pub struct Args {
    /// An environment and the ONNX file that plays it
    #[arg(required = true, value_name = "ENV=FILE")]
    files: Vec<String>,
    /// The archive to write
    #[arg(long, short, value_name = "FILE", default_value = "policy.tar")]
    out: PathBuf,
    /// What you call the policy; shown, never used
    #[arg(long)]
    name: Option<String>,
    /// Some words on it; shown, never used
    #[arg(long)]
    description: Option<String>,
}

/// What the most generous of the served challenges takes: which one the archive is for is not said here.
fn limits(context: &Context) -> Result<Limits, Failure> {
    let configured = context.configured()?;
    let taken = configured.profiles.iter().map(catalog::limits).max_by_key(|limits| limits.archive_bytes);
    Ok(taken.unwrap_or_default())
}

/// Runs the verb.
///
/// # Errors
/// When a file is no policy that an operator would take, or cannot be read or written.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let files = args.files.iter().map(|pair| split(pair)).collect::<Result<Vec<_>, _>>()?;
    for (_environment, path) in &files {
        Failure::unless_there(path)?;
    }
    let words = Words { name: args.name.clone(), description: args.description.clone() };
    let bundle = pack(&files, &words, &args.out, &limits(context)?)?;
    let models: serde_json::Map<String, serde_json::Value> =
        bundle.models.iter().map(|(id, model)| (id.clone(), json!(model.summary))).collect();
    let document = json!({
        "archive": args.out,
        "digest": bundle.digest,
        "content_digest": bundle.content_digest,
        "environments": models,
    });
    answer(context.json(), &document, || {
        let rows: Vec<Vec<String>> = bundle
            .models
            .iter()
            .map(|(id, model)| {
                let summary = &model.summary;
                vec![
                    id.clone(),
                    summary.parameters.to_string(),
                    summary.nodes.to_string(),
                    summary.opset.to_string(),
                    summary.producer.clone(),
                ]
            })
            .collect();
        let models = table(&["environment", "parameters", "nodes", "opset", "exporter"], &rows);
        format!("{}\n{}  {}", models, bundle.digest, args.out.display())
    });
    Ok(())
}

fn split(pair: &str) -> Result<(String, PathBuf), Failure> {
    let known = || Environment::ALL.map(Environment::id).join(", ");
    let (environment, file) = pair
        .split_once('=')
        .ok_or_else(|| Failure::usage(format!("`{pair}` is not ENV=FILE; environments are {}", known())))?;
    if Environment::parse(environment).is_none() {
        return Err(Failure::usage(format!("there is no environment `{environment}`; there are {}", known())));
    }
    Ok((environment.to_owned(), PathBuf::from(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_names_a_known_environment() {
        assert_eq!(split("CartPole-v1=a=b.onnx").unwrap(), ("CartPole-v1".to_owned(), PathBuf::from("a=b.onnx")));
        assert!(split("CartPole-v1").unwrap_err().fault.detail.contains("ENV=FILE"));
        assert!(split("CartPole-v0=a.onnx").unwrap_err().fault.detail.contains("CartPole-v1"));
    }
}

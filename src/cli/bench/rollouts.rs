//! `waag bench rollouts`.

use std::{fs, path::PathBuf};

use super::{Context, Outcome, stopwatch};
use crate::{
    cli::{
        Failure,
        exit::{answer, table},
    },
    gym::{
        bench::{Measured, Options, run as measure},
        env::Environment,
        policy::BackendChoice,
    },
};

/// Arguments of `waag bench rollouts`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench rollouts
  waag bench rollouts --threads 4 --policy CartPole-v1=mine.onnx --json")]
pub struct Args {
    /// Play this ONNX file instead of our own networks
    #[arg(long, value_name = "ENV=FILE")]
    policy: Vec<String>,
    /// Episodes in each environment
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    episodes: u32,
    /// Threads to use
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How often to play them; the fastest counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
}

/// Runs the verb.
///
/// # Errors
/// When a policy cannot be read or played.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let library = configured.settings().onnx.library.clone();
    let mut options = Options {
        episodes: args.episodes,
        threads: usize::from(args.threads),
        repeats: args.repeats,
        backend: library.map_or(BackendChoice::Embedded, BackendChoice::Onnxruntime),
        ..Options::standard()
    };
    if !args.policy.is_empty() {
        options.policies = args.policy.iter().map(|pair| policy(pair)).collect::<Result<_, _>>()?;
    }
    let report = measure(&options, &context.host()?, &stopwatch())?;
    answer(context.json(), &serde_json::json!({ "rollouts": report }), || in_words(&report));
    Ok(())
}

fn policy(pair: &str) -> Result<(Environment, Vec<u8>), Failure> {
    let unknown = || Failure::usage(format!("`{pair}` is not ENV=FILE, such as CartPole-v1=mine.onnx"));
    let (environment, file) = pair.split_once('=').ok_or_else(unknown)?;
    let environment = Environment::parse(environment).ok_or_else(unknown)?;
    let path = PathBuf::from(file);
    let bytes = fs::read(&path).map_err(|source| Failure::file("read", &path, &source))?;
    Ok((environment, bytes))
}

fn in_words(report: &[Measured]) -> String {
    let rows: Vec<Vec<String>> = report
        .iter()
        .map(|one| {
            vec![
                one.environment.to_string(),
                one.runtime.name.clone(),
                one.threads.to_string(),
                one.steps.to_string(),
                format!("{:.0}", one.steps_per_second),
                format!("{:.2}", one.mean_return),
            ]
        })
        .collect();
    table(&["environment", "runtime", "threads", "steps", "steps/s", "mean return"], &rows)
}

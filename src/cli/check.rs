//! `waag check`: the operator's own checks and rollouts, on the miner's machine.

pub(super) mod model;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
};

use serde::Serialize;

use super::{
    Configured, Context, Failure, Outcome,
    commit::challenge,
    context::refused,
    exit::{answer, table},
};
use crate::{
    artifact::policy::Bundle,
    config::Profile,
    fault::Fault,
    gym::{
        env::Environment,
        isolation::Host,
        policy::{BackendChoice, Policy, Runtime},
        rollouts::{EPISODES_MAX, Episode, Request, Verdict},
    },
    ids::Digest,
    stage::{catalog, checks},
};

/// Arguments of `waag check`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag check my-policy.tar
  waag check my-policy.tar --seeds 0..999 --env CartPole-v1
  waag check my-policy.tar --seeds 7,11,13 --json       return, length and outcome of every episode
  waag check --path my-model                            a model in a folder, before it is published
  waag check --repo alice/model-1 --digest sha256:…     what was published, as the operator will see it

The checks and the rollouts are the operator's own functions. The seeds of a real run come from a block that does not \
exist yet, so that nobody can choose them; seed k is gymnasium's `reset(seed=k)`. Of a model only names, sizes, the \
headers of its weights, index and configuration are read.")]
pub struct Args {
    /// The archive of a policy
    #[arg(required_unless_present_any = ["path", "repo"], conflicts_with_all = ["path", "repo"])]
    bundle: Option<PathBuf>,
    /// The folder of a model
    #[arg(long, value_name = "DIR", conflicts_with = "repo")]
    path: Option<PathBuf>,
    /// The repository of a published model
    #[arg(long, value_name = "NAME", requires = "digest")]
    repo: Option<String>,
    /// The digest of a published model, as it is committed
    #[arg(long, value_name = "DIGEST", requires = "repo")]
    digest: Option<String>,
    /// First and last seed, or a list: 0..99, or 3,5,8
    #[arg(long, default_value = "0..99", value_parser = seeds)]
    seeds: Seeds,
    /// Only this environment; may be repeated [default: all that the archive plays]
    #[arg(long = "env", value_name = "ENV")]
    environments: Vec<String>,
    /// The challenge by whose profile to check [default: the only one of the settings]
    #[arg(long, value_name = "NAME")]
    challenge: Option<String>,
    /// Threads to use [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Seeds as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seeds(Vec<u64>);

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// SHA-256 of the archive.
    pub bundle: Digest,
    /// What it computes, freed of how it was packed and exported.
    pub content: Digest,
    /// What ran it: the backend where any environment needs one, else the fused networks.
    pub backend: Runtime,
    /// Every environment that was played.
    pub environments: BTreeMap<String, Played>,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Played {
    /// One record a seed.
    pub episodes: Vec<Episode>,
    /// How many count as solved.
    pub successes: usize,
    /// Mean of their returns.
    pub mean_return: f64,
    /// What ran it here.
    pub runtime: Runtime,
}

/// Runs the verb.
///
/// # Errors
/// The first rule that the archive breaks, or what cannot be used of the arguments.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let profile = profile_of(&configured, args.challenge.as_deref())?;
    profile.check(&catalog::BuiltIn).map_err(refused)?;
    let what = match (&args.bundle, &args.path, &args.repo, &args.digest) {
        (Some(bundle), ..) if profile.artifact.kind == "policy" => return policy(context, args, profile, bundle),
        (None, Some(path), ..) if profile.artifact.kind == "model" => model::What::Path(path),
        (None, None, Some(repo), Some(digest)) if profile.artifact.kind == "model" => {
            model::What::Published(repo, digest)
        }
        _ => {
            let (slug, kind) = (&profile.slug, &profile.artifact.kind);
            return Err(Failure::usage(format!("the challenge `{slug}` takes artifacts of kind `{kind}`")));
        }
    };
    model::run(context, profile, configured.settings(), what).await
}

/// Checks and plays a policy.
fn policy(context: &Context, args: &Args, profile: &Profile, archive: &Path) -> Outcome {
    let configured = context.configured()?;
    let limits = catalog::limits(profile);
    let environments = catalog::rollouts_of(profile).map(|options| options.environments).unwrap_or_default();
    let about = Failure::unless_there(archive)?;
    if about.len() > limits.archive_bytes {
        let (bytes, limit) = (about.len(), limits.archive_bytes);
        return Err(crate::artifact::codes::ARCHIVE_TOO_LARGE
            .because(format!("{bytes} bytes; the limit is {limit}"))
            .into());
    }
    let bytes = fs::read(archive).map_err(|source| Failure::file("read", archive, &source))?;
    let library = configured.settings().onnx.library.clone();
    let backend = library.map_or(BackendChoice::Embedded, BackendChoice::Onnxruntime);
    let bundle = checks::check(&bytes, &limits, &environments, &backend)?;
    let wanted = wanted(&bundle, &args.environments)?;
    let threads = args.threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let checked = play(&bundle, &wanted, &args.seeds.0, &backend, &context.host()?, threads)?;
    answer(context.json(), &checked, || in_words(&checked));
    Ok(())
}

/// The profile of the settings by which to check.
fn profile_of<'a>(configured: &'a Configured, named: Option<&str>) -> Result<&'a Profile, Failure> {
    let slug = challenge(configured, named)?;
    let found = configured.profiles.iter().find(|profile| profile.slug.as_str() == slug.as_str());
    found.ok_or_else(|| Failure::usage(format!("the settings serve no challenge `{slug}`")))
}

/// The environments to play: those of the archive, or the named ones of them.
fn wanted(bundle: &Bundle, named: &[String]) -> Result<Vec<Environment>, Failure> {
    let has = |environment: &Environment| bundle.models.contains_key(environment.id());
    if let Some(missing) = named.iter().find(|name| !bundle.models.contains_key(*name)) {
        let known: Vec<&str> = bundle.models.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("the archive plays no `{missing}`; it plays {}", known.join(", "))));
    }
    let is_named = |environment: &Environment| named.is_empty() || named.iter().any(|name| name == environment.id());
    Ok(Environment::ALL.into_iter().filter(|environment| has(environment) && is_named(environment)).collect())
}

/// Plays these seeds in these environments.
///
/// # Errors
/// The miner's fault that playing shows, or a fault of the backend.
pub fn play(
    bundle: &Bundle,
    environments: &[Environment],
    seeds: &[u64],
    backend: &BackendChoice,
    host: &Host,
    threads: usize,
) -> Result<Checked, Fault> {
    let watch = |_steps| Verdict::Go;
    let request = Request { seeds, threads, sample: None, watch: &watch };
    let mut played = BTreeMap::new();
    for environment in environments {
        let Some(model) = bundle.models.get(environment.id()) else { continue };
        let policy = Policy::load(&model.plain, *environment, backend)?;
        let rollout = host.rollout(&policy, &request)?;
        let total: f64 = rollout.episodes.iter().map(|episode| episode.return_).sum();
        #[expect(clippy::cast_precision_loss, reason = "at most a hundred thousand episodes")]
        let mean_return = total / rollout.episodes.len().max(1) as f64;
        let successes = rollout.episodes.iter().filter(|episode| episode.success).count();
        let one = Played { episodes: rollout.episodes, successes, mean_return, runtime: rollout.runtime };
        played.insert(environment.id().to_owned(), one);
    }
    let runtimes = || played.values().map(|one| &one.runtime);
    let of_backend = runtimes().find(|runtime| !runtime.unfused_because.is_empty());
    let backend = of_backend.or_else(|| runtimes().next()).cloned().unwrap_or_default();
    Ok(Checked { bundle: bundle.digest, content: bundle.content_digest, backend, environments: played })
}

fn in_words(checked: &Checked) -> String {
    let rows: Vec<Vec<String>> = checked
        .environments
        .iter()
        .map(|(environment, one)| {
            let runtime = if one.runtime.unfused_because.is_empty() {
                one.runtime.name.clone()
            } else {
                format!("{} ({})", one.runtime.name, one.runtime.unfused_because)
            };
            vec![
                environment.clone(),
                one.episodes.len().to_string(),
                one.successes.to_string(),
                format!("{:.3}", one.mean_return),
                runtime,
            ]
        })
        .collect();
    let played = table(&["environment", "episodes", "solved", "mean return", "runs as"], &rows);
    format!("{played}\n{} passes the checks", checked.bundle)
}

/// `A..B`, both included, or a list.
fn seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_source| format!("`{text}` is not a seed"));
    let wanted = match text.split_once("..") {
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
            if last < first || last - first >= EPISODES_MAX as u64 {
                return Err(format!("`{text}` is not a range of 1 to {EPISODES_MAX} seeds"));
            }
            (first..=last).collect()
        }
        None => text.split(',').map(number).collect::<Result<Vec<_>, _>>()?,
    };
    if wanted.len() > EPISODES_MAX { Err(format!("more than {EPISODES_MAX} seeds")) } else { Ok(Seeds(wanted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_or_a_list() {
        assert_eq!(seeds("0..3"), Ok(Seeds(vec![0, 1, 2, 3])));
        assert_eq!(seeds("7"), Ok(Seeds(vec![7])));
        assert_eq!(seeds("3, 1,3"), Ok(Seeds(vec![3, 1, 3])));
        assert_eq!(seeds("0..99999").map(|seeds| seeds.0.len()), Ok(EPISODES_MAX));
        for wrong in ["", "a", "3..1", "0..100000", "0..18446744073709551615", "-1", "1,,2"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}

//! The recorded episodes, played again from the artifacts.

use std::collections::{BTreeMap, BTreeSet};

use super::{artifacts::Artifacts, check};
use crate::{
    artifact::{self, policy::Bundle as Policies},
    cli::{Context, Failure},
    config::{Profile, profile::limits::ARTIFACT_BYTES},
    fault::{Class, Fault},
    gym::{
        env::Environment,
        isolation::Host,
        policy::{BackendChoice, Policy},
        rollouts::{Request, Rollout, Verdict},
        seeds,
    },
    ids::Digest,
    score::outcomes::Successes,
    weights::bundle::{Bundle, Check, Finding, Replay},
};

/// Plays every episode again and compares its outcome with the recorded one.
///
/// # Errors
/// When the artifacts cannot be read, or the backend cannot be used.
pub async fn run(
    context: &Context,
    bundle: &Bundle,
    replays: &[Replay],
    artifacts: &str,
) -> Result<Vec<Check>, Failure> {
    let wanted: BTreeSet<Digest> = replays.iter().map(|replay| replay.artifact).collect();
    let artifacts = Artifacts::open(artifacts, &wanted, ARTIFACT_BYTES)?;
    let player = Player {
        host: context.host()?,
        library: context.configured()?.settings().onnx.library.clone(),
        limits: limits(bundle)?,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut checks = Vec::new();
    for replay in replays {
        let subject = format!("{} {} {}", replay.challenge, replay.submission, replay.environment);
        let (finding, detail) = match artifacts.get(&replay.artifact, ARTIFACT_BYTES).await? {
            None => (Finding::NotChecked, format!("artifact {} is not there", replay.artifact)),
            Some(bytes) => match player.play(&bytes, replay) {
                Ok(found) => compare(replay, &found),
                Err(fault) => {
                    // Our own trouble says nothing of the bundle.
                    let finding = if fault.class == Class::Miner { Finding::Failed } else { Finding::NotChecked };
                    (finding, format!("{}: {}", fault.code, fault.detail))
                }
            },
        };
        checks.push(check(subject, finding, detail));
    }
    Ok(checks)
}

/// The limits of each challenge's profile.
fn limits(bundle: &Bundle) -> Result<BTreeMap<String, artifact::Limits>, Failure> {
    let mut limits = BTreeMap::new();
    for evidence in &bundle.challenges {
        let profile = Profile::parse(&evidence.profile, &evidence.challenge).map_err(crate::cli::context::refused)?;
        limits.insert(evidence.challenge.clone(), crate::stage::catalog::limits(&profile));
    }
    Ok(limits)
}

struct Player {
    host: Host,
    library: Option<std::path::PathBuf>,
    limits: BTreeMap<String, artifact::Limits>,
    threads: usize,
}

/// What was played, and why it may differ; `None` where nothing can be played.
type Found = Result<Rollout, &'static str>;

impl Player {
    fn play(&self, bytes: &[u8], replay: &Replay) -> Result<Found, Fault> {
        let Some(seed) = replay.seed else { return Ok(Err("the bundle names no seed block for it")) };
        let Some(environment) = Environment::parse(&replay.environment) else {
            return Ok(Err("this program does not know the environment"));
        };
        let Some(limits) = self.limits.get(&replay.challenge) else { return Ok(Err("its challenge is not there")) };
        let named = replay.backend.as_ref().map_or("embedded", |backend| backend.name.as_str());
        let backend = match (named, &self.library) {
            ("onnxruntime", Some(library)) => BackendChoice::Onnxruntime(library.clone()),
            ("onnxruntime", None) => return Ok(Err("it ran on onnxruntime; set `onnx.library` to play it there")),
            _ => BackendChoice::Embedded,
        };
        let policies = Policies::read(bytes, limits)?;
        let Some(model) = policies.models.get(&replay.environment) else {
            return Ok(Err("the artifact plays another environment"));
        };
        let episodes = replay.successes.episodes();
        let seeds = seeds::seeds(&replay.challenge, replay.run, environment, episodes, &seed.hash);
        let policy = Policy::load(&model.plain, environment, &backend)?;
        let watch = |_steps| Verdict::Go;
        let request = Request { seeds: &seeds, threads: self.threads, sample: None, watch: &watch };
        self.host.rollout(&policy, &request).map(Ok)
    }
}

fn compare(replay: &Replay, found: &Found) -> (Finding, String) {
    let rollout = match found {
        Ok(rollout) => rollout,
        Err(why) => return (Finding::NotChecked, (*why).to_owned()),
    };
    let flags: Vec<bool> = rollout.episodes.iter().map(|episode| episode.success).collect();
    let runtime = format!("{} {}", rollout.runtime.name, rollout.runtime.version);
    match Successes::new(&flags) {
        Ok(successes) if successes == replay.successes => (
            Finding::Passed,
            format!("{} of {} episodes solved, as recorded ({runtime})", successes.count(), flags.len()),
        ),
        Ok(successes) => {
            let (ours, theirs) = successes.discordant(&replay.successes);
            let recorded = replay.backend.as_ref().map_or("nothing", |backend| backend.name.as_str());
            let detail = format!(
                "{ours} episodes are solved here and not as recorded, {theirs} the other way round; played by {runtime}, recorded by {recorded}"
            );
            (Finding::Failed, detail)
        }
        Err(source) => (Finding::Failed, source.to_string()),
    }
}

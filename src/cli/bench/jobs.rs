//! `waag bench jobs`: claim and finish of no-op jobs, through the real pipeline on the real store, beside what the
//! disk and SQLite allow at all: transactions that insert one row each, into a table of their own, equally durable.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Context, Outcome, stopwatch};
use crate::{
    cli::{
        Failure,
        exit::{answer, table},
    },
    config::Profile,
    engine::{Engine as _, InProcess, Job, Needs, Permit, Progress, Records, Task},
    fault::Fault,
    ids::{Digest, Entropy as _, Hotkey, Priority, SubmissionId},
    pipeline::{Challenge, Pipeline, Seen, Upload, points::Points},
    score::{Input, Ranking, Rule},
    stage::{JobResult, JobSpec, Outcome as Decided, Plan, Scope, Stage, Work},
    store::{self, Durability, Options, Store},
};

/// Jobs that one plan of the bench has.
const JOBS_PER_PLAN: u32 = 1000;
/// The challenge that is measured: one stage of no-op jobs.
const PROFILE: &str = r#"
format = 1
slug = "bench"
title = "no-op jobs"
share = 1.0
[artifact]
kind = "nothing"
bytes_max = 1
[intake]
door = "none"
[[stage]]
name = "noop"
kind = "noop"
[ranking]
rule = "nobody"
"#;
/// The one kind of job.
const KIND: &str = "noop";

/// Arguments of `waag bench jobs`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench jobs
  waag bench jobs --jobs 20000 --dir /var/lib/waag     on the disk that matters

Beside it plain SQLite inserts as many rows, each in a transaction of its own that is as durable. The last lines are \
`ratio <number> <what against what>`.")]
pub struct Args {
    /// Jobs at each setting
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    jobs: u32,
    /// Where the data directory of the bench is made, and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// What was measured at one setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    durability: &'static str,
    jobs: u32,
    ns: u64,
    jobs_per_second: f64,
    /// Of plain SQLite, as many transactions as jobs.
    inserts_per_second: f64,
    /// Jobs for each such transaction.
    ratio: f64,
}

/// Runs the verb.
///
/// # Errors
/// When the disk fails.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let mut report = Vec::new();
    for (durability, name) in [(Durability::Full, "full"), (Durability::Normal, "normal")] {
        let mut random = [0; 8];
        context.entropy.fill(&mut random);
        let dir = args.dir.join(format!("waag-bench-{}", hex::encode(random)));
        let measured = measure_both(context, &dir, durability, args.jobs).await;
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(|source| Failure::file("remove", &dir, &source))?;
        }
        let (ns, rival_ns) = measured?;
        #[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
        let per_second = |ns: u64| f64::from(args.jobs) * 1e9 / ns as f64;
        let (jobs_per_second, inserts_per_second) = (per_second(ns), per_second(rival_ns));
        let ratio = jobs_per_second / inserts_per_second;
        report.push(Measured { durability: name, jobs: args.jobs, ns, jobs_per_second, inserts_per_second, ratio });
    }
    answer(context.json(), &json!({ "jobs": report }), || in_words(&report));
    Ok(())
}

fn in_words(report: &[Measured]) -> String {
    let rows: Vec<Vec<String>> = report
        .iter()
        .map(|one| {
            let rates = [one.jobs_per_second, one.inserts_per_second].map(|rate| format!("{rate:.0}"));
            [vec![one.durability.to_owned(), one.jobs.to_string()], rates.to_vec()].concat()
        })
        .collect();
    let mut text = table(&["durability", "jobs", "jobs/s", "plain inserts/s"], &rows);
    for Measured { durability, ratio, .. } in report {
        text.push_str(&format!(
            "\nratio {ratio:.2} jobs claimed and finished against single-row insert transactions of plain SQLite, \
             durability {durability}"
        ));
    }
    text
}

/// Nanoseconds of the jobs and of the rival, in the same folder.
async fn measure_both(context: &Context, dir: &Path, durability: Durability, jobs: u32) -> Result<(u64, u64), Failure> {
    let ns = measure(context, dir, durability, jobs).await?;
    let rival_ns = insert(&dir.join("rival.sqlite"), durability, jobs).map_err(store::Error::from)?;
    Ok((ns, rival_ns))
}

/// Nanoseconds of as many transactions, each of which inserts one row and is as durable.
fn insert(path: &Path, durability: Durability, count: u32) -> Result<u64, rusqlite::Error> {
    let synchronous = match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    let rival = rusqlite::Connection::open(path)?;
    rival.pragma_update(None, "journal_mode", "wal")?;
    rival.pragma_update(None, "synchronous", synchronous)?;
    rival.execute_batch("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT NOT NULL) STRICT")?;
    let mut statement = rival.prepare("INSERT INTO jobs (state) VALUES ('done')")?;
    let now_ns = stopwatch();
    for _ in 0..count {
        statement.execute([])?;
    }
    Ok(now_ns().max(1))
}

/// Nanoseconds from the first claim to the last answer.
async fn measure(context: &Context, dir: &Path, durability: Durability, jobs: u32) -> Result<u64, Failure> {
    let store = Store::open(dir, Options { durability, ..Options::default() }).await?;
    let profile = Profile::parse(PROFILE, "bench").map_err(super::super::context::refused)?;
    let challenge = Challenge::assemble(&profile, vec![Arc::new(Noop { jobs })], Arc::new(Nobody));
    let challenges = [(challenge.slug.clone(), Arc::new(challenge))].into();
    let pipeline = Pipeline::open(store, Arc::clone(&context.clock), challenges, Points::default()).await?;
    for plan in 0..jobs.div_ceil(JOBS_PER_PLAN) {
        admit(&pipeline, plan).await?;
    }
    while let Some(attempt) = pipeline.claim().await? {
        let outcome = Noop { jobs }.run(&attempt.work).await;
        pipeline.finish(&attempt, outcome).await?;
    }
    let engine = InProcess::new().with(KIND, Arc::new(Nothing));
    let now_ns = stopwatch();
    let mut done = 0;
    while let Some(claim) = pipeline.claim_replica("bench").await? {
        let permit = Permit::new(claim.job.needs, Vec::new(), || {});
        let records = engine.run(&claim.job, permit, Progress::unwatched(), CancellationToken::new()).await;
        pipeline.finish_replica(&claim, records).await?;
        done += 1;
    }
    let ns = now_ns().max(1);
    if done != jobs {
        return Err(Failure::mismatch(format!("{done} jobs were done of {jobs}")));
    }
    Ok(ns)
}

/// One submission, whose stage plans the jobs.
async fn admit(pipeline: &Pipeline, plan: u32) -> Result<(), Failure> {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&plan.to_be_bytes());
    let hotkey = Hotkey(key);
    let (challenge, field) = ("bench".to_owned(), format!("waag1:bench:{plan}"));
    let at = Priority { block: 1, index: plan };
    let seen = Seen { challenge: challenge.clone(), hotkey, coldkey: hotkey, field: field.clone(), digest: None, at };
    pipeline.commitments_seen(vec![seen]).await?;
    let artifact = Digest::of(&key);
    let upload = Upload { challenge, hotkey, field, artifact, bytes: 1, salt: String::new(), block: 1, payment: None };
    pipeline.uploaded(upload).await?;
    Ok(())
}

/// Plans no-op jobs.
struct Noop {
    jobs: u32,
}

#[async_trait]
impl Stage for Noop {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    async fn run(&self, work: &Work) -> Decided {
        let contestants: Vec<SubmissionId> = work.contestants.iter().map(|one| one.submission).collect();
        // The first plans are full, the last takes what is left; each submission has one plan.
        let number = contestants.first().map_or(0, |id| id.0 - 1);
        let before = u32::try_from(number).unwrap_or(u32::MAX).saturating_mul(JOBS_PER_PLAN);
        let count = self.jobs.saturating_sub(before).min(JOBS_PER_PLAN);
        let job = |n: u32| JobSpec {
            kind: KIND.to_owned(),
            contestants: contestants.clone(),
            spec: json!({ "n": n }),
            needs: Needs::ONE_CPU,
            replicas: 1,
            quorum: 1,
            retries: 0,
            timeout_ms: 60_000,
        };
        Decided::Jobs(Plan { jobs: (0..count).map(job).collect(), deadline_ms: 3_600_000, data: Value::Null })
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<SubmissionId, Decided> {
        BTreeMap::new()
    }
}

/// Does nothing.
struct Nothing;

#[async_trait]
impl Task for Nothing {
    async fn run(&self, _: &Job, _: &Progress, _: &CancellationToken) -> Result<Records, Fault> {
        Ok(Value::Null)
    }
}

/// Pays nobody.
struct Nobody;

impl Rule for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    fn check(&self, _options: &Value) -> Result<(), String> {
        Ok(())
    }

    fn rank(&self, _input: &Input) -> Ranking {
        Ranking { rows: Vec::new(), burned: 1.0, memory: Value::Null }
    }
}

//! A pipeline with a hand-driven clock and small engines, stepped until nothing moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waag::{
    clock::Clock,
    config::profile::Profile,
    engine::{Engine, InProcess, Job, Needs, Permit, Progress, Records, Task},
    fault::{Class, Code, Fault},
    ids::{Digest, Hotkey, Priority, SubmissionId},
    pipeline::{Challenge, Error, Pipeline, Registered, Seen, Snapshot, Upload, life::Status, points::Points},
    score::{self, Input, Ranking, Rule},
    stage::{JobResult, JobSpec, Outcome, Plan, RunSeed, Scope, Stage, Work},
    store::{Options, Store},
};

/// A clock that moves only when told to.
pub struct HandClock(AtomicI64, Notify, AtomicUsize);

impl HandClock {
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now_ms), Notify::new(), AtomicUsize::new(0)))
    }

    /// How many have gone to sleep by it.
    pub fn sleepers(&self) -> usize {
        self.2.load(Ordering::SeqCst)
    }

    pub fn advance_ms(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
        self.1.notify_waiters();
    }
}

#[async_trait]
impl Clock for HandClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn sleep(&self, duration: Duration) {
        let due_ms = self.now_ms() + i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
        self.2.fetch_add(1, Ordering::SeqCst);
        loop {
            let moved = self.1.notified();
            if self.now_ms() >= due_ms {
                return;
            }
            moved.await;
        }
    }
}

/// What the small engines answer, by artifact.
#[derive(Default)]
pub struct Script {
    pub scores: BTreeMap<Digest, f64>,
    /// Faults to answer with instead, used up one at a time.
    pub faults: BTreeMap<Digest, Vec<Fault>>,
    /// Workers that answer something else.
    pub liars: Vec<String>,
    /// Happens once, while a rule thinks.
    pub meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

pub type SharedScript = Arc<Mutex<Script>>;

struct Weighing(SharedScript);

#[async_trait]
impl Task for Weighing {
    async fn run(&self, job: &Job, _progress: &Progress, _cancel: &CancellationToken) -> Result<Records, Fault> {
        let mut script = self.0.lock().expect("no test panics while it holds the script");
        let mut scores = BTreeMap::new();
        for contestant in &job.contestants {
            if let Some(fault) = script.faults.get_mut(&contestant.artifact).and_then(Vec::pop) {
                return Err(fault);
            }
            let score = script.scores.get(&contestant.artifact).copied().unwrap_or(0.0);
            scores.insert(contestant.submission.to_string(), score);
        }
        Ok(json!(scores))
    }
}

pub const BROKEN: Code = Code::new(Class::Miner, "broken", "broken", "mend it");
pub const NO_DISK: Code = Code::new(Class::Infra, "no_disk", "no disk", "buy one");

/// Passes everything.
struct Glance;

#[async_trait]
impl Stage for Glance {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    async fn run(&self, _work: &Work) -> Outcome {
        Outcome::Pass(json!({ "looked": true }))
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        BTreeMap::new()
    }
}

/// Asks a person.
struct Ask;

#[async_trait]
impl Stage for Ask {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    async fn run(&self, _work: &Work) -> Outcome {
        Outcome::Hold("is it good?".to_owned())
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        BTreeMap::new()
    }
}

/// Weighs contestants by jobs: all in one, or each alone.
struct Scale {
    scope: Scope,
    together: bool,
    replicas: u32,
    quorum: u32,
    jobs_each: usize,
}

#[async_trait]
impl Stage for Scale {
    fn scope(&self) -> Scope {
        self.scope
    }

    async fn run(&self, work: &Work) -> Outcome {
        let ids: Vec<SubmissionId> = work.contestants.iter().map(|one| one.submission).collect();
        let groups: Vec<Vec<SubmissionId>> =
            if self.together { vec![ids] } else { ids.into_iter().map(|id| vec![id]).collect() };
        let mut jobs = Vec::new();
        for group in groups {
            for part in 0..self.jobs_each {
                jobs.push(JobSpec {
                    kind: "weigh".to_owned(),
                    contestants: group.clone(),
                    spec: json!({ "part": part }),
                    needs: Needs::ONE_CPU,
                    replicas: self.replicas,
                    quorum: self.quorum,
                    retries: 2,
                    timeout_ms: 1_000,
                });
            }
        }
        Outcome::Jobs(Plan { jobs, deadline_ms: 600_000, data: Value::Null })
    }

    fn fold(&self, work: &Work, plan: &Plan, results: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        let mut outcomes = BTreeMap::new();
        for contestant in &work.contestants {
            let mut total = 0.0;
            let mut failed = None;
            for (job, result) in plan.jobs.iter().zip(results) {
                if !job.contestants.contains(&contestant.submission) {
                    continue;
                }
                match &result.outcome {
                    Ok(records) => total += records[contestant.submission.to_string()].as_f64().unwrap_or(0.0),
                    Err(fault) => failed = Some(fault.clone()),
                }
            }
            let outcome = match failed {
                Some(fault) if fault.class == Class::Miner => Outcome::Reject(fault, Value::Null),
                Some(fault) => Outcome::Retry(fault),
                None => Outcome::Pass(json!({ "score": total })),
            };
            outcomes.insert(contestant.submission, outcome);
        }
        outcomes
    }
}

/// A stage of a test profile by its kind.
fn stage(kind: &str, options: &Value) -> Arc<dyn Stage> {
    let number = |key: &str, default: u64| options[key].as_u64().unwrap_or(default);
    match kind {
        "glance" => Arc::new(Glance),
        "ask" => Arc::new(Ask),
        "scale" => Arc::new(Scale {
            scope: if options["scope"] == "submission" { Scope::Submission } else { Scope::Run },
            together: options["together"].as_bool().unwrap_or(false),
            replicas: u32::try_from(number("replicas", 1)).expect("small"),
            quorum: u32::try_from(number("quorum", 1)).expect("small"),
            jobs_each: usize::try_from(number("jobs_each", 1)).expect("small"),
        }),
        other => panic!("no test stage `{other}`"),
    }
}

/// A rule of the program, during whose thinking something may happen.
struct Interrupted {
    rule: Arc<dyn Rule>,
    script: SharedScript,
}

impl Rule for Interrupted {
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn check(&self, options: &Value) -> Result<(), String> {
        self.rule.check(options)
    }

    fn rank(&self, input: &Input) -> Ranking {
        let meanwhile = self.script.lock().expect("no test panics while it holds the script").meanwhile.take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        self.rule.rank(input)
    }
}

pub fn challenge(profile: &str) -> Challenge {
    changed_challenge(profile, |text| text)
}

/// A challenge whose profile is not word for word the skeleton.
pub fn changed_challenge(profile: &str, change: impl FnOnce(String) -> String) -> Challenge {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles").join(format!("{profile}.toml"));
    let text = change(std::fs::read_to_string(&path).expect("the skeleton profile is there"));
    let profile = Profile::parse(&text, &path.display().to_string()).expect("the skeleton profile is valid");
    let stages = profile.stages.iter().map(|entry| stage(&entry.kind, &entry.options)).collect();
    let rule = score::rule(&profile.ranking.rule).expect("the skeletons name rules of the program");
    rule.check(&profile.ranking.options).expect("the skeletons' options are valid");
    Challenge::assemble(&profile, stages, rule)
}

async fn pipeline(store: Store, clock: &Arc<HandClock>, script: &SharedScript, challenges: Vec<Challenge>) -> Pipeline {
    let challenges = challenges
        .into_iter()
        .map(|challenge| {
            let rule = Arc::new(Interrupted { rule: challenge.rule, script: Arc::clone(script) });
            (challenge.slug.clone(), Arc::new(Challenge { rule, ..challenge }))
        })
        .collect();
    let shared: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
    Pipeline::open(store, shared, challenges, Points::default()).await.expect("the pipeline opens")
}

/// A pipeline in a directory of its own.
pub struct World {
    pub pipeline: Pipeline,
    pub clock: Arc<HandClock>,
    pub script: SharedScript,
    pub slug: String,
    pub block: u64,
    /// Miners whose hotkeys are not registered any more.
    pub gone: BTreeSet<u8>,
    /// Whether jobs are left lying.
    pub idle: bool,
    engine: InProcess,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn open(profile: &str) -> Self {
        Self::with(vec![challenge(profile)]).await
    }

    /// A world of several challenges; miners submit to the first unless told otherwise.
    pub async fn with(challenges: Vec<Challenge>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let store = Store::open(&data, Options::default()).await.expect("a fresh store opens");
        let clock = HandClock::at(1_000_000);
        let script = SharedScript::default();
        let slug = challenges[0].slug.clone();
        let pipeline = pipeline(store, &clock, &script, challenges).await;
        let engine = InProcess::new().with("weigh", Arc::new(Weighing(Arc::clone(&script))));
        Self { pipeline, clock, script, slug, block: 1, gone: BTreeSet::new(), idle: false, engine, _dir: dir }
    }

    /// Starts again on the same data, with these challenges.
    pub async fn restart(&mut self, challenges: Vec<Challenge>) {
        let store = self.pipeline.store().clone();
        self.pipeline = pipeline(store, &self.clock, &self.script, challenges).await;
    }

    pub fn advance_ms(&self, by: i64) {
        self.clock.advance_ms(by);
    }

    /// One miner commits and uploads, with this score.
    pub async fn submit(&mut self, miner: u8, score: f64) -> SubmissionId {
        self.submit_version(miner, 0, score).await
    }

    pub async fn submit_version(&mut self, miner: u8, version: u8, score: f64) -> SubmissionId {
        let hotkey = Hotkey([miner; 32]);
        let field = format!("waag1:{}:{miner}-{version}", self.slug);
        let at = Priority { block: self.block, index: u32::from(miner) };
        let seen =
            Seen { challenge: self.slug.clone(), hotkey, coldkey: hotkey, field: field.clone(), digest: None, at };
        let new = self.pipeline.commitments_seen(vec![seen]).await.expect("the commitment is taken");
        let artifact = Digest::of(&[miner, version]);
        self.script.lock().expect("free").scores.insert(artifact, score);
        let upload = Upload {
            challenge: self.slug.clone(),
            hotkey,
            field,
            artifact,
            bytes: 2,
            salt: String::new(),
            block: self.block,
            payment: None,
        };
        let admitted = self.pipeline.uploaded(upload).await.expect("the upload is taken");
        assert_eq!(new, vec![admitted.submission]);
        admitted.submission
    }

    pub fn snapshot(&self) -> Snapshot {
        let registered = (0..200)
            .filter(|miner| !self.gone.contains(miner))
            .map(|uid: u8| {
                let hotkey = Hotkey([uid; 32]);
                (hotkey, Registered { uid: u16::from(uid), since_block: 0, coldkey: hotkey })
            })
            .collect();
        Snapshot { block: self.block, hash: Digest::of(&self.block.to_le_bytes()), registered }
    }

    /// One step of everything, as the actors would take it. Answers whether anything moved.
    pub async fn step(&mut self) -> bool {
        self.pipeline.members(&self.snapshot()).await.expect("records");
        let mut moved = self.pipeline.sweep(Some(self.block)).await.expect("sweeps").any();
        while let Some(attempt) = self.pipeline.claim().await.expect("claims") {
            let challenge = self.pipeline.challenge(&attempt.submission.challenge).expect("known");
            let outcome = challenge.steps[attempt.submission.stage].stage.run(&attempt.work).await;
            self.pipeline.finish(&attempt, outcome).await.expect("finishes");
            moved = true;
        }
        moved |= !self.pipeline.close_runs(self.block).await.expect("closes").is_empty();
        moved |= !self.pipeline.freeze_closed().await.expect("freezes").is_empty();
        for (run, block) in self.pipeline.awaited_seeds(self.block).await.expect("reads") {
            let seed = RunSeed { block, hash: Digest::of(&block.to_le_bytes()) };
            self.pipeline.seed_run(run, seed).await.expect("seeds");
            moved = true;
        }
        for due in self.pipeline.unplanned().await.expect("reads") {
            let challenge = self.pipeline.challenge(&due.work.challenge).expect("known");
            let outcome = challenge.steps[due.stage].stage.run(&due.work).await;
            self.pipeline.planned(&due, outcome).await.expect("plans");
            moved = true;
        }
        for worker in ["w0", "w1", "w2"] {
            moved |= !self.idle && self.work(worker).await;
        }
        moved |= !self.pipeline.fold().await.expect("folds").is_empty();
        moved |= !self.pipeline.rank(&self.snapshot()).await.expect("ranks").is_empty();
        moved
    }

    /// One worker takes and does everything it can.
    pub async fn work(&self, worker: &str) -> bool {
        let mut moved = false;
        while self.work_once(worker).await {
            moved = true;
        }
        moved
    }

    /// One worker takes one replica and does it.
    pub async fn work_once(&self, worker: &str) -> bool {
        let Some(claim) = self.pipeline.claim_replica(worker).await.expect("claims") else { return false };
        let permit = Permit::new(claim.job.needs, Vec::new(), || {});
        let mut answer = self.engine.run(&claim.job, permit, Progress::unwatched(), CancellationToken::new()).await;
        if self.script.lock().expect("free").liars.iter().any(|liar| liar == worker) {
            answer = Ok(json!({ "lie": worker }));
        }
        self.pipeline.finish_replica(&claim, answer).await.expect("finishes");
        true
    }

    /// The next so many jobs of the miner's first artifact fail for want of a disk.
    pub fn fail(&self, miner: u8, times: usize) {
        let faults = vec![NO_DISK.because("full"); times];
        self.script.lock().expect("free").faults.insert(Digest::of(&[miner, 0]), faults);
    }

    /// One number from the database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let count = move |conn: &rusqlite::Connection| Ok::<_, Error>(conn.query_row(sql, [], |row| row.get(0))?);
        self.pipeline.store().db().read(count).await.expect("reads")
    }

    /// Steps within one block until nothing moves.
    pub async fn rest(&mut self) {
        // A bound on one block's work: a pipeline that never rests is stuck.
        for turn in 0.. {
            assert!(turn < 1_000, "the pipeline does not come to rest");
            if !self.step().await {
                break;
            }
        }
    }

    /// Steps through blocks until nothing moves for a while.
    pub async fn settle(&mut self) {
        for _ in 0..12 {
            self.rest().await;
            self.block += 1;
            self.advance_ms(12_000);
        }
    }

    pub async fn status(&self, id: SubmissionId) -> Status {
        self.pipeline.story(id).await.expect("the submission is there").submission.status
    }

    pub async fn statuses(&self, ids: &[SubmissionId]) -> Vec<Status> {
        let mut found = Vec::new();
        for id in ids {
            found.push(self.status(*id).await);
        }
        found
    }

    pub async fn ranking(&self) -> Ranking {
        self.pipeline.ranking(&self.slug).await.expect("reads").expect("there is a ranking").ranking
    }

    pub async fn shares(&self) -> Vec<(Hotkey, f64)> {
        let mut shares: Vec<_> = self.ranking().await.rows.iter().map(|row| (row.hotkey, row.share)).collect();
        shares.retain(|(_, share)| *share > 0.0);
        shares
    }
}

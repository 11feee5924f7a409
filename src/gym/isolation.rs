//! Policies that need a foreign ONNX backend run in a child process, because such a backend can crash or hang on a file
//! that passed every check, and must not take the appliance with it.
//!
//! Owns the child: its two lines of conversation, its end, and the reading of how it ended. Refuses to decide when time
//! is over (a watch does) and to run fused policies elsewhere: those are our own bounded code. The rollouts stage, the
//! comparison of outputs and `waag check` call [`Host`]; the program's hidden verb calls [`serve`] in the child.
//!
//! The parent writes one JSON line and the file's bytes, and keeps the pipe open; the child answers with lines that
//! begin with a mark (a library may print others) and dies when the pipe closes before it has finished. Numbers
//! travel by their bits, so that nothing is lost in printing.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

mod budget;
#[cfg(test)]
mod budget_tests;

use budget::Budget;

use super::{
    env::Environment,
    policy::{self, Backend, BackendChoice, Policy, Runtime, codes, cpu_ms_max},
    rollouts::{self, Episode, ObservationSample, Outcome, Request, Rollout, Sampled, Verdict},
};
use crate::fault::{Class, Code, Fault};

/// What the child's answers begin with.
const MARK: &str = "waag-play ";
/// Bytes of one line of either side: the records of the most episodes one call may play, with room.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a policy the child accepts: the artifact room's limit is far below.
const POLICY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Steps between two progress lines.
const STEPS_BETWEEN_LINES: u64 = 2048;
/// How long the parent waits for a line before it asks watch and budget again.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of the child's last words that are kept.
const LAST_WORDS_BYTES: u64 = 64 * 1024;

/// The child cannot be started or spoken with.
pub const CHILD_UNAVAILABLE: Code = Code::new(
    Class::Infra,
    "policy_child_unavailable",
    "the process that runs the ONNX backend could not be used",
    "nothing to do: it is tried again; if it repeats, look for a full process table or memory",
);
/// The child was killed from outside, or found no memory.
pub const CHILD_KILLED: Code = Code::new(
    Class::Infra,
    "policy_child_killed",
    "the process that runs the ONNX backend was killed or found no memory",
    "nothing to do: it is tried again; if it repeats, give the machine more memory or fewer slots",
);

#[derive(Debug, Serialize, Deserialize)]
struct Task {
    environment: Environment,
    backend: BackendChoice,
    unfused_because: String,
    policy_bytes: u64,
    ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    Describe,
    Rollout { seeds: Vec<u64>, threads: usize, sample: Option<([u8; 32], usize)> },
    Outputs { observations: Vec<u32> },
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Steps(u64),
    Described(Runtime),
    Played { episodes: Vec<WireEpisode>, sample: Vec<WireSampled>, runtime: Runtime },
    Outputs(Vec<u32>),
    Failed(Fault),
}

/// Seed, return by its bits, length, outcome, success.
type WireEpisode = (u64, u64, u32, Outcome, bool);
/// Seed, step, observation by its bits.
type WireSampled = (u64, u32, Vec<u32>);

impl Ask {
    /// The most rows that the policy can be asked for.
    fn rows_max(&self, environment: Environment) -> u64 {
        match self {
            Self::Describe => 0,
            Self::Rollout { seeds, .. } => policy::rows_max(environment, seeds.len() as u64),
            Self::Outputs { observations } => (observations.len() / environment.obs_dim().max(1)) as u64,
        }
    }
}

fn to_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn from_bits(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|bits| f32::from_bits(*bits)).collect()
}

impl Reply {
    fn played(rollout: &Rollout) -> Self {
        let episode =
            |played: &Episode| (played.seed, played.return_.to_bits(), played.length, played.outcome, played.success);
        Self::Played {
            episodes: rollout.episodes.iter().map(episode).collect(),
            sample: rollout.sample.iter().map(|kept| (kept.seed, kept.step, to_bits(&kept.observation))).collect(),
            runtime: rollout.runtime.clone(),
        }
    }
}

/// The child's whole life: reads one task, answers it, and waits for the parent to hang up.
///
/// # Errors
/// When the parent cannot be understood or has gone.
pub fn serve(input: impl Read + Send, output: impl Write + Send) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    let task: Task = serde_json::from_slice(&line)?;
    if task.policy_bytes > POLICY_BYTES_MAX {
        return Err(io::Error::other("the policy is longer than any may be"));
    }
    let mut policy = Vec::new();
    input.by_ref().take(task.policy_bytes).read_to_end(&mut policy)?;
    let finished = AtomicBool::new(false);
    let output = Mutex::new(output);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whatever comes after the policy is ignored; its end is the parent's.
            let _end = io::copy(&mut input, &mut io::sink());
            if !finished.load(Ordering::SeqCst) {
                // Nobody wants the answer any more, and the backend may never return.
                std::process::abort();
            }
        });
        let reply = answer(&task, &policy, &output);
        finished.store(true, Ordering::SeqCst);
        say(&output, &reply)
    })
}

fn say(output: &Mutex<impl Write>, reply: &Reply) -> io::Result<()> {
    let mut line = MARK.as_bytes().to_vec();
    serde_json::to_writer(&mut line, reply)?;
    line.push(b'\n');
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    output.write_all(&line)?;
    output.flush()
}

fn answer(task: &Task, policy: &[u8], output: &Mutex<impl Write + Send>) -> Reply {
    let told = AtomicU64::new(0);
    let watch = |steps: u64| {
        if steps < told.load(Ordering::Relaxed) + STEPS_BETWEEN_LINES {
            return Verdict::Go;
        }
        told.store(steps, Ordering::Relaxed);
        if say(output, &Reply::Steps(steps)).is_ok() { Verdict::Go } else { Verdict::Cancelled }
    };
    let load = || Policy::load_general(policy, task.environment, &task.backend, task.unfused_because.clone());
    let result = match &task.ask {
        Ask::Describe => Backend::init(&task.backend).map(|backend| {
            let (name, version) = (backend.name().to_owned(), backend.version().to_owned());
            Reply::Described(Runtime { name, version, unfused_because: String::new() })
        }),
        Ask::Rollout { seeds, threads, sample } => load().and_then(|policy| {
            let sample = sample.map(|(key, count)| ObservationSample { key, count });
            let request = Request { seeds, threads: *threads, sample: sample.as_ref(), watch: &watch };
            rollouts::rollout(&policy, &request).map(|rollout| Reply::played(&rollout))
        }),
        Ask::Outputs { observations } => load()
            .and_then(|policy| policy.outputs(&from_bits(observations)))
            .map(|outputs| Reply::Outputs(to_bits(&outputs))),
    };
    result.unwrap_or_else(Reply::Failed)
}

/// Where policies are played: fused ones here, all others in a child process.
#[derive(Debug, Clone)]
pub struct Host {
    /// The program to start as a child.
    pub program: PathBuf,
    /// Its arguments: the hidden verb that calls [`serve`] with standard input and output.
    pub args: Vec<OsString>,
}

/// How a child ended that gave no answer.
enum End {
    /// By itself: a panic, a signal of its own making.
    Crashed(String),
    /// By somebody else.
    Fault(Fault),
}

impl Host {
    /// Plays one episode for each seed, as [`rollouts::rollout`] does.
    ///
    /// # Errors
    /// As [`rollouts::rollout`]; `policy_crashes_backend` if the child died of the policy twice; an infra fault if it
    /// was killed or could not be used.
    pub fn rollout(&self, policy: &Policy, request: &Request<'_>) -> Result<Rollout, Fault> {
        let Some((bytes, backend, reason)) = policy.general() else { return rollouts::rollout(policy, request) };
        rollouts::check(request)?;
        let sample = request.sample.map(|sample| (sample.key, sample.count));
        let ask = Ask::Rollout { seeds: request.seeds.to_vec(), threads: request.threads, sample };
        let task = task(policy.environment(), backend, reason, bytes, ask);
        let Reply::Played { episodes, sample, runtime } = self.ask(&task, bytes, request.watch)? else {
            return Err(misunderstood("another answer than records"));
        };
        let matches = episodes.iter().map(|episode| episode.0).eq(request.seeds.iter().copied());
        if !matches {
            return Err(misunderstood("records of other seeds"));
        }
        let episode = |(seed, bits, length, outcome, success): WireEpisode| Episode {
            seed,
            return_: f64::from_bits(bits),
            length,
            outcome,
            success,
        };
        let sampled = |(seed, step, bits): WireSampled| Sampled { seed, step, observation: from_bits(&bits) };
        Ok(Rollout {
            episodes: episodes.into_iter().map(episode).collect(),
            sample: sample.into_iter().map(sampled).collect(),
            runtime,
        })
    }

    /// The raw outputs for observations in rows, as [`Policy::outputs`].
    ///
    /// # Errors
    /// As [`Host::rollout`].
    pub fn outputs(
        &self,
        policy: &Policy,
        observations: &[f32],
        watch: &(dyn Fn(u64) -> Verdict + Sync),
    ) -> Result<Vec<f32>, Fault> {
        let Some((bytes, backend, reason)) = policy.general() else { return policy.outputs(observations) };
        let ask = Ask::Outputs { observations: to_bits(observations) };
        match self.ask(&task(policy.environment(), backend, reason, bytes, ask), bytes, watch)? {
            Reply::Outputs(bits) => Ok(from_bits(&bits)),
            _other => Err(misunderstood("another answer than outputs")),
        }
    }

    /// The general backend as it would be used: for `doctor`, and to refuse a wrong setting at start.
    ///
    /// # Errors
    /// `onnx_backend_unavailable`, or an infra fault if the child could not be used.
    pub fn describe(&self, backend: &BackendChoice, watch: &(dyn Fn(u64) -> Verdict + Sync)) -> Result<Runtime, Fault> {
        match self.ask(&task(Environment::CartPole, backend, "", &[], Ask::Describe), &[], watch)? {
            Reply::Described(runtime) => Ok(runtime),
            _other => Err(misunderstood("another answer than its backend")),
        }
    }

    /// One conversation. A crash is tried once more before the policy is blamed for it.
    fn ask(&self, task: &Task, policy: &[u8], watch: &(dyn Fn(u64) -> Verdict + Sync)) -> Result<Reply, Fault> {
        let cpu_ms_max = cpu_ms_max(task.ask.rows_max(task.environment));
        let converse = || self.converse(task, policy, watch, cpu_ms_max);
        let first = converse();
        let last = if matches!(first, Err(End::Crashed(_))) { converse() } else { first };
        match last {
            Ok(Reply::Failed(fault)) | Err(End::Fault(fault)) => Err(fault),
            Ok(reply) => Ok(reply),
            Err(End::Crashed(words)) => Err(codes::CRASHES.because(words)),
        }
    }

    fn converse(
        &self,
        task: &Task,
        policy: &[u8],
        watch: &(dyn Fn(u64) -> Verdict + Sync),
        cpu_ms_max: u64,
    ) -> Result<Reply, End> {
        let unusable = |source: io::Error| End::Fault(CHILD_UNAVAILABLE.because(source.to_string()));
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Guard(command.spawn().map_err(unusable)?);
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take())
        else {
            return Err(unusable(io::Error::other("the child has no pipes")));
        };
        // A child that died early breaks the pipe; how it ended says more than that.
        let _told = tell(&stdin, task, policy);
        std::thread::scope(|scope| {
            let (sender, replies) = mpsc::channel();
            scope.spawn(move || read_replies(stdout, &sender));
            let words = scope.spawn(move || last_words(stderr));
            let reply = await_reply(&replies, watch, Budget::new(child.0.id(), cpu_ms_max));
            if !matches!(reply, Ok(Some(_))) {
                child.end();
            }
            drop(stdin);
            let status = child.0.wait().map_err(unusable)?;
            let words = words.join().unwrap_or_default();
            match reply {
                Ok(Some(reply)) => Ok(reply),
                Ok(None) => Err(read_end(status, &words)),
                Err(fault) => Err(End::Fault(fault)),
            }
        })
    }
}

fn task(environment: Environment, backend: &BackendChoice, reason: &str, bytes: &[u8], ask: Ask) -> Task {
    let (backend, unfused_because) = (backend.clone(), reason.to_owned());
    Task { environment, backend, unfused_because, policy_bytes: bytes.len() as u64, ask }
}

fn misunderstood(what: &str) -> Fault {
    CHILD_UNAVAILABLE.because(format!("the child answered with {what}"))
}

/// Ends the child whatever happens in the parent.
struct Guard(Child);

impl Guard {
    fn end(&mut self) {
        // Either it runs and is killed, or it has ended and there is nothing to do.
        let _killed = self.0.kill();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
        let _status = self.0.wait();
    }
}

fn tell(mut stdin: &ChildStdin, task: &Task, policy: &[u8]) -> io::Result<()> {
    let mut line = serde_json::to_vec(task)?;
    line.push(b'\n');
    stdin.write_all(&line)?;
    stdin.write_all(policy)?;
    stdin.flush()
}

/// Passes on the child's replies until it hangs up, says something that is none, or has given its answer.
fn read_replies(stdout: impl Read, sender: &mpsc::Sender<Reply>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match stdout.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_bytes) => {}
        }
        let Some(json) = line.strip_prefix(MARK.as_bytes()) else { continue };
        let Ok(reply) = serde_json::from_slice(json) else { return };
        if sender.send(reply).is_err() {
            return;
        }
    }
}

/// The child's last line on standard error, bounded.
fn last_words(stderr: impl Read) -> String {
    let mut words = Vec::new();
    let mut stderr = BufReader::new(stderr);
    let _read = stderr.by_ref().take(LAST_WORDS_BYTES).read_to_end(&mut words);
    // What is longer is drained, so that the child does not block on a full pipe.
    let _drained = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

/// Waits for the answer, asking the watch and the budget at every tick and line. `None` means that the child hung up without one.
fn await_reply(
    replies: &mpsc::Receiver<Reply>,
    watch: &(dyn Fn(u64) -> Verdict + Sync),
    mut budget: Budget,
) -> Result<Option<Reply>, Fault> {
    let mut steps = 0;
    loop {
        match replies.recv_timeout(TICK) {
            Ok(Reply::Steps(played)) => {
                steps = played;
                budget.check()?;
            }
            Ok(answer) => return Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => budget.check()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
        rollouts::judge(watch(steps), steps)?;
    }
}

/// Whose fault it is that a child ended without an answer.
fn read_end(status: ExitStatus, words: &str) -> End {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    const SIGKILL: i32 = 9;
    if signal == Some(SIGKILL) || words.contains("memory allocation of") {
        return End::Fault(CHILD_KILLED.because(status.to_string()));
    }
    // A panic names its place in the first line and its reason in the second.
    let said: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).take(2).collect();
    End::Crashed(format!("{status}: {}", said.join(" ")).chars().take(240).collect())
}

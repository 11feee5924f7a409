//! Rollouts: a policy plays one episode for each seed; what comes back is one record an episode.
//!
//! Owns stepping many episodes side by side, the records, and the classification of what goes wrong. Refuses to know
//! clocks: a watch function says whether to go on. The rollouts stage, `waag check`, `waag verify` and the benchmark
//! call it.
//!
//! A record depends on policy, environment and seed alone. Episodes are played in lanes, thirty-two at a time on each
//! thread, and a lane that finishes takes the next seed; no lane can see another, so threads and order do not matter.
//!
//! **Who is to blame for a slow run.** What a policy may cost is limited by counting its arithmetic, nodes and elements
//! when it is checked ([`super::policy::STEP_COST_MAX`]); that limit depends on the file alone and blames nobody for a
//! busy machine, and whatever keeps it fits into its job's wall time many times over. A policy that takes more
//! *processor* time than any file of that cost could ([`super::policy::cpu_ms_max`]) is itself to blame
//! ([`Verdict::TooSlow`]). A run that is cut off by the clock is our trouble ([`Verdict::OutOfTime`], tried again).

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    env::{Dynamics, with_dynamics},
    numpy::Generator,
    policy::{Policy, Runner, Runtime, codes},
    simd::LANES,
};
use crate::fault::{Class, Code, Fault};

/// Episodes of one call: a hundred times what a run plays in one environment; a record is 40 bytes.
pub const EPISODES_MAX: usize = 100_000;
/// Observations one call may keep.
pub const SAMPLE_MAX: usize = 4096;
/// Threads of one call.
pub const THREADS_MAX: usize = 256;
/// Steps of all lanes between two questions to the watch when a step is cheap: about every millisecond.
const STEPS_BETWEEN_WATCHES: u64 = 64;

/// The rollouts ran out of wall time without the policy being to blame.
pub const OUT_OF_TIME: Code = Code::new(
    Class::Infra,
    "rollouts_out_of_time",
    "the rollouts did not finish in their time on this machine",
    "nothing to do: they are tried again; if it repeats, give the machine fewer slots",
);
/// Somebody asked the rollouts to stop.
pub const CANCELLED: Code = Code::new(
    Class::Infra,
    "rollouts_cancelled",
    "the rollouts were stopped before they finished",
    "nothing to do: they are tried again",
);
/// The request is larger than the limits.
pub const REQUEST_TOO_LARGE: Code = Code::new(
    Class::Operator,
    "rollouts_too_large",
    "more episodes or samples were asked for than one call may play",
    "ask for fewer episodes",
);

/// How an episode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The task ended it (on the last allowed step too).
    Terminated,
    /// It was cut off at the environment's number of steps.
    Truncated,
}

/// The record of one episode.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The seed of its reset.
    pub seed: u64,
    /// The sum of its rewards, added in order.
    #[serde(rename = "return")]
    pub return_: f64,
    /// Its steps.
    pub length: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it counts as a success in its environment.
    pub success: bool,
}

/// Which observations to keep: those whose keyed rank is smallest, so that nobody without the key knows which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservationSample {
    /// The key.
    pub key: [u8; 32],
    /// How many to keep, at most [`SAMPLE_MAX`].
    pub count: usize,
}

/// An observation that the policy met and the sample kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The episode's seed.
    pub seed: u64,
    /// Steps before it: 0 is the reset's observation.
    pub step: u32,
    /// What the policy saw.
    pub observation: Vec<f32>,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Go,
    /// The policy is to blame for the time this takes.
    TooSlow,
    /// Time is over; the policy is not to blame.
    OutOfTime,
    /// Somebody asked to stop.
    Cancelled,
}

/// What to play.
#[derive(Clone, Copy)]
pub struct Request<'request> {
    /// One episode each, at most [`EPISODES_MAX`].
    pub seeds: &'request [u64],
    /// Threads to use, the calling one included; 0 counts as 1.
    pub threads: usize,
    /// Observations to keep.
    pub sample: Option<&'request ObservationSample>,
    /// Asked about every millisecond (after each call, if the policy is not fused) with the steps played so far.
    pub watch: &'request (dyn Fn(u64) -> Verdict + Sync),
}

/// What was played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// One record a seed, in the order of the seeds.
    pub episodes: Vec<Episode>,
    /// The kept observations, smallest rank first.
    pub sample: Vec<Sampled>,
    /// What ran the policy.
    pub runtime: Runtime,
}

/// Plays one episode for each seed.
///
/// # Errors
/// A miner fault if the policy answers with something that is no action (of several such episodes the first in the
/// order of the seeds), an infra fault if the watch stopped the run for another reason than the policy.
pub fn rollout(policy: &Policy, request: &Request<'_>) -> Result<Rollout, Fault> {
    check(request)?;
    with_dynamics!(policy.environment(), D => play::<D>(policy, request))
}

/// Refuses what is larger than the limits.
pub(super) fn check(request: &Request<'_>) -> Result<(), Fault> {
    let samples = request.sample.map_or(0, |sample| sample.count);
    if request.seeds.len() > EPISODES_MAX || samples > SAMPLE_MAX {
        let detail = format!(
            "{} episodes and {samples} samples, the limits are {EPISODES_MAX} and {SAMPLE_MAX}",
            request.seeds.len()
        );
        return Err(REQUEST_TOO_LARGE.because(detail));
    }
    Ok(())
}

/// The fault of a verdict other than to go on.
pub(super) fn judge(verdict: Verdict, steps: u64) -> Result<(), Fault> {
    let detail = format!("stopped after {steps} steps");
    match verdict {
        Verdict::Go => Ok(()),
        Verdict::TooSlow => Err(codes::TOO_SLOW.because(detail)),
        Verdict::OutOfTime => Err(OUT_OF_TIME.because(detail)),
        Verdict::Cancelled => Err(CANCELLED.because(detail)),
    }
}

/// What the threads of one call share.
struct Shared<'request> {
    request: &'request Request<'request>,
    /// The next seed that nobody plays yet.
    next: AtomicUsize,
    /// Steps played.
    steps: AtomicU64,
    /// The first episode that failed; later ones need not be played.
    failed: AtomicUsize,
    fault: Mutex<Option<(usize, Fault)>>,
}

impl Shared<'_> {
    /// Keeps the fault of the first failing episode. A fault that concerns no episode comes before all (index 0 is
    /// taken too, which ends everything).
    fn fail(&self, index: usize, fault: Fault) {
        let mut kept = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(first, _fault)| index < *first) {
            *kept = Some((index, fault));
            self.failed.fetch_min(index, Ordering::Relaxed);
        }
    }

    fn still_wanted(&self, index: usize) -> bool {
        index < self.failed.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<usize> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.request.seeds.len() && self.still_wanted(index)).then_some(index)
    }
}

fn play<D: Dynamics<Action: Act>>(policy: &Policy, request: &Request<'_>) -> Result<Rollout, Fault> {
    let shared = Shared {
        request,
        next: AtomicUsize::new(0),
        steps: AtomicU64::new(0),
        failed: AtomicUsize::new(usize::MAX),
        fault: Mutex::new(None),
    };
    // More threads than full blocks of lanes would only share the same work.
    let blocks = request.seeds.len().div_ceil(LANES).max(1);
    let threads = request.threads.clamp(1, THREADS_MAX).min(blocks);
    let mut runners = Vec::with_capacity(threads);
    for _thread in 0..threads {
        runners.push(policy.runner()?);
    }
    let mine = runners.pop();
    let mut played = std::thread::scope(|scope| {
        let others: Vec<_> =
            runners.into_iter().map(|runner| scope.spawn(|| Block::<D>::new(runner, &shared).play())).collect();
        let mut played: Vec<Played> = mine.map(|runner| Block::<D>::new(runner, &shared).play()).into_iter().collect();
        for other in others {
            // A panic in a thread is a bug of ours and goes on as one.
            played.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        played
    });
    if let Some((_index, fault)) = shared.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(fault);
    }
    let mut episodes: Vec<(usize, Episode)> = played.iter_mut().flat_map(|played| played.episodes.drain(..)).collect();
    episodes.sort_unstable_by_key(|(index, _episode)| *index);
    assert_eq!(episodes.len(), request.seeds.len(), "every seed was played once");
    let mut kept: Vec<Kept> = played.into_iter().flat_map(|played| played.kept).collect();
    kept.sort_unstable();
    kept.truncate(request.sample.map_or(0, |sample| sample.count));
    Ok(Rollout {
        runtime: policy.runtime()?,
        episodes: episodes.into_iter().map(|(_index, episode)| episode).collect(),
        sample: kept.into_iter().map(|kept| kept.into_sampled(request.seeds)).collect(),
    })
}

/// An action as it is read from a lane.
trait Act: Copy {
    fn read(runner: &Runner, lane: usize) -> Result<Self, Fault>;
}

impl Act for u32 {
    #[inline]
    fn read(runner: &Runner, lane: usize) -> Result<Self, Fault> {
        runner.choice(lane)
    }
}

impl Act for f32 {
    #[inline]
    fn read(runner: &Runner, lane: usize) -> Result<Self, Fault> {
        runner.force(lane)
    }
}

/// One episode in the making.
#[derive(Debug, Clone, Copy)]
struct Lane<D> {
    state: D,
    index: usize,
    length: u32,
    total: f64,
    /// The episode's key for ranking its observations; 0 without a sample.
    key: u64,
}

/// A kept observation, ordered by rank; ties (of two equal seeds) by the episode's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    rank: u64,
    index: usize,
    step: u32,
    /// By their bits, which have an order.
    observation: Vec<u32>,
}

impl Kept {
    fn into_sampled(self, seeds: &[u64]) -> Sampled {
        let observation = self.observation.into_iter().map(f32::from_bits).collect();
        Sampled { seed: seeds[self.index], step: self.step, observation }
    }
}

/// What one thread played.
struct Played {
    episodes: Vec<(usize, Episode)>,
    kept: BTreeSet<Kept>,
}

/// One thread's lanes.
struct Block<'shared, D> {
    runner: Runner,
    shared: &'shared Shared<'shared>,
    lanes: [Option<Lane<D>>; LANES],
    played: Played,
}

impl<'shared, D: Dynamics<Action: Act>> Block<'shared, D> {
    fn new(runner: Runner, shared: &'shared Shared<'shared>) -> Self {
        let played = Played { episodes: Vec::new(), kept: BTreeSet::new() };
        Self { runner, shared, lanes: [const { None }; LANES], played }
    }

    fn play(mut self) -> Played {
        for lane in 0..LANES {
            self.start(lane);
        }
        let between = if self.runner.is_fused() { STEPS_BETWEEN_WATCHES } else { 1 };
        let (mut round, mut steps) = (0_u64, 0_u64);
        while let Some(first) = self.lanes.iter().flatten().map(|lane| lane.index).min() {
            let lanes = &self.lanes;
            if let Err(fault) = self.runner.run(|lane| lanes[lane].is_some()) {
                self.shared.fail(first, fault);
                break;
            }
            for lane in 0..LANES {
                steps += u64::from(self.step(lane));
            }
            round += 1;
            if round.is_multiple_of(between) && !self.may_go_on(std::mem::take(&mut steps)) {
                break;
            }
        }
        self.played
    }

    /// Gives a lane the next seed, or leaves it empty.
    fn start(&mut self, lane: usize) {
        self.lanes[lane] = None;
        let Some(index) = self.shared.take() else { return };
        let seed = self.shared.request.seeds[index];
        let (state, observation) = D::reset(&mut Generator::new(seed));
        let key = self.shared.request.sample.map_or(0, |sample| episode_key(&sample.key, seed));
        self.lanes[lane] = Some(Lane { state, index, length: 0, total: 0.0, key });
        self.show(lane, &observation);
    }

    /// Puts an observation before the policy, and keeps it if its rank is small.
    #[inline]
    fn show(&mut self, lane: usize, observation: &D::Observation) {
        self.runner.observe(lane, observation.as_ref());
        let (Some(sample), Some(playing)) = (self.shared.request.sample, &self.lanes[lane]) else { return };
        let rank = mix(playing.key ^ u64::from(playing.length));
        let kept = &mut self.played.kept;
        let is_full = kept.len() >= sample.count;
        if is_full && kept.last().is_none_or(|last| rank > last.rank) {
            return;
        }
        let observation = observation.as_ref().iter().map(|value| value.to_bits()).collect();
        kept.insert(Kept { rank, index: playing.index, step: playing.length, observation });
        if is_full {
            kept.pop_last();
        }
    }

    /// Plays one step of a lane; false if it is empty.
    #[inline]
    fn step(&mut self, lane: usize) -> bool {
        let Some(playing) = &mut self.lanes[lane] else { return false };
        let action = match D::Action::read(&self.runner, lane) {
            Ok(action) => action,
            Err(mut fault) => {
                let seed = self.shared.request.seeds[playing.index];
                fault.detail = format!("{} (seed {seed}, step {})", fault.detail, playing.length);
                self.shared.fail(playing.index, fault);
                self.lanes[lane] = None;
                return true;
            }
        };
        let transition = playing.state.step(action);
        playing.length += 1;
        playing.total += transition.reward;
        if transition.terminated || playing.length == D::STEPS_MAX {
            self.finish(lane, transition.terminated);
        } else {
            self.show(lane, &transition.observation);
        }
        true
    }

    /// Records a finished episode and starts the next one.
    fn finish(&mut self, lane: usize, terminated: bool) {
        let Some(Lane { index, length, total, .. }) = self.lanes[lane] else { return };
        let episode = Episode {
            seed: self.shared.request.seeds[index],
            return_: total,
            length,
            outcome: if terminated { Outcome::Terminated } else { Outcome::Truncated },
            success: D::is_success(length, total, terminated),
        };
        self.played.episodes.push((index, episode));
        self.start(lane);
    }

    /// Reports progress, drops lanes that are no longer wanted, and asks the watch.
    fn may_go_on(&mut self, steps: u64) -> bool {
        let total = self.shared.steps.fetch_add(steps, Ordering::Relaxed) + steps;
        for lane in &mut self.lanes {
            if lane.as_ref().is_some_and(|playing| !self.shared.still_wanted(playing.index)) {
                *lane = None;
            }
        }
        let Err(fault) = judge((self.shared.request.watch)(total), total) else { return true };
        self.shared.fail(0, fault);
        false
    }
}

/// What makes the ranks of an episode's observations its own.
fn episode_key(key: &[u8; 32], seed: u64) -> u64 {
    let digest = Sha256::new().chain_update(key).chain_update(seed.to_le_bytes()).finalize();
    digest.iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// The finaliser of SplitMix64: every input bit moves every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;

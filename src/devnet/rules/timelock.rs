//! Timelocked weights: committed as a ciphertext, opened by the chain itself when the beacon allows.
//!
//! Owns the commits by epoch and what happens to each when its epoch has come. Refuses to know the beacon's key: it
//! asks for the pulse of a round. Dispatch, the pool and block start use it.

use super::{Done, Failure, Faults, World, commit_reveal, drand, epochs as schedule, subnets, weights};
use crate::{
    chain::timelock::{self, Weights},
    devnet::{
        datum::Datum,
        hashing::blake2,
        items::Item,
        state::{State, key},
    },
};

/// A stored commit: who, in which block, the ciphertext, the round.
pub type Stored = ([u8; 32], u64, Vec<u8>, u64);

/// `commit_timelocked_weights`, `commit_timelocked_mechanism_weights` and the older call of the same meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub netuid: u16,
    pub mecid: u8,
    pub ciphertext: Vec<u8>,
    pub round: u64,
    /// The version of commit-reveal that the committer means; the oldest call does not say.
    pub version: Option<u16>,
}

/// Commits to a ciphertext; the checks are in the chain's order.
pub fn commit(world: &mut World<'_>, hotkey: [u8; 32], commit: &Commit) -> Done {
    let Commit { netuid, mecid, round, .. } = *commit;
    commit_reveal::check_mechanism(&world.state, netuid, mecid)?;
    let version: u16 = world.state.get(Item::CommitRevealVersion, &[]);
    if commit.version.is_some_and(|given| given != version) {
        return Err(Failure::subtensor("IncorrectCommitRevealVersion"));
    }
    let (index, uid) = commit_reveal::check_commit(world, &hotkey, netuid, mecid)?;
    let now = world.now();
    let epoch = schedule::current(&world.state, netuid, now);
    let mut commits = stored(&world.state, index, epoch);
    if commits.iter().filter(|(who, ..)| *who == hotkey).count() >= commit_reveal::OPEN_COMMITS {
        return Err(Failure::subtensor("TooManyUnrevealedCommits"));
    }
    let hash = blake2(&commit.ciphertext);
    commits.push((hotkey, now, commit.ciphertext.clone(), round));
    put(world, index, epoch, commits);
    let fields =
        vec![Datum::account(&hotkey), Datum::Num(index.into()), Datum::account(&hash), Datum::Num(round.into())];
    world.emit_tuple("SubtensorModule", "TimelockedWeightsCommitted", fields);
    subnets::set_at(&mut world.state, Item::LastUpdate, index, uid, now);
    Ok(())
}

/// What the pool refuses: a round that everybody can open already.
pub fn guard(world: &World<'_>, round: u64) -> Result<(), &'static str> {
    let last: u64 = world.state.get(Item::LastStoredRound, &[]);
    if round < last { Err("InvalidRevealRound") } else { Ok(()) }
}

/// The commits of an epoch, in the order in which they came.
pub fn stored(state: &State<'_>, index: u16, epoch: u64) -> Vec<Stored> {
    state.get(Item::TimelockedWeightCommits, key![index, epoch])
}

/// The epochs of which commits are stored.
pub fn epochs(state: &State<'_>, index: u16) -> Vec<u64> {
    let keys = state.keys(&state.prefix(Item::TimelockedWeightCommits, key![index]));
    keys.iter().filter_map(|key| key.last_chunk().copied().map(u64::from_le_bytes)).collect()
}

fn put(world: &mut World<'_>, index: u16, epoch: u64, commits: Vec<Stored>) {
    let commit = |(who, block, ciphertext, round): Stored| {
        Datum::Tuple(vec![
            Datum::account(&who),
            Datum::Num(block.into()),
            Datum::Bytes(ciphertext),
            Datum::Num(round.into()),
        ])
    };
    let commits = Datum::List(commits.into_iter().map(commit).collect());
    world.state.put(Item::TimelockedWeightCommits, key![index, epoch], &commits);
}

/// Opens what is due in a subnet. A commit whose round is not there yet waits; one that cannot be opened, is not the
/// committer's or breaks a rule of weights is dropped without a word, as on chain.
pub fn reveal(world: &mut World<'_>, netuid: u16) {
    let period: u64 = world.state.get(Item::RevealPeriodEpochs, key![netuid]);
    let current = schedule::current(&world.state, netuid, world.now());
    let due = current.saturating_sub(period);
    for mecid in 0..subnets::mechanisms(&world.state, netuid) {
        let index = weights::storage_index(netuid, mecid);
        for expired in epochs(&world.state, index).into_iter().filter(|epoch| *epoch < due) {
            world.state.remove(Item::TimelockedWeightCommits, key![index, expired]);
        }
        if current < period {
            return;
        }
        let commits = stored(&world.state, index, due);
        if commits.is_empty() {
            continue;
        }
        let count = commits.len();
        let waiting: Vec<Stored> = commits.into_iter().filter(|commit| !settle(world, netuid, mecid, commit)).collect();
        if waiting.is_empty() {
            world.state.remove(Item::TimelockedWeightCommits, key![index, due]);
        } else if waiting.len() < count {
            put(world, index, due, waiting);
        }
    }
}

/// Whether a commit is dealt with: opened or dropped.
fn settle(world: &mut World<'_>, netuid: u16, mecid: u8, commit: &Stored) -> bool {
    let (who, block, ciphertext, round) = commit;
    let Some(signature) = drand::signature(&world.state, *round) else { return false };
    let index = weights::storage_index(netuid, mecid);
    if Faults::take(&mut world.faults.reveals) {
        return true;
    }
    match opened(who, ciphertext, &signature) {
        Err(reason) => tracing::debug!(index, block, round, reason, "the devnet drops committed weights"),
        Ok(Weights { uids, values, version_key, .. }) => {
            let request = weights::Request { netuid, mecid, dests: &uids, weights: &values, version_key };
            match world.transact(|world| weights::set(world, *who, &request)) {
                Err(failure) => tracing::debug!(index, block, round, ?failure, "the devnet drops committed weights"),
                Ok(()) => {
                    let fields = vec![Datum::Num(index.into()), Datum::account(who)];
                    world.emit_tuple("SubtensorModule", "TimelockedWeightsRevealed", fields);
                }
            }
        }
    }
    true
}

fn opened(who: &[u8; 32], ciphertext: &[u8], signature: &[u8]) -> Result<Weights, String> {
    let plaintext = timelock::open(ciphertext, signature).map_err(|error| error.to_string())?;
    let weights = Weights::decode(&plaintext).ok_or("the plaintext is not weights")?;
    match weights.hotkey {
        Some(hotkey) if hotkey != *who => Err("the weights are another hotkey's".to_owned()),
        _ => Ok(weights),
    }
}

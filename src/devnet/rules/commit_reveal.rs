//! Commit-reveal by hash: weights that are promised first and shown an epoch or more later.
//!
//! Owns the queue of commits of a hotkey, when a commit may be revealed and when it has expired. Refuses to know what
//! weights must look like: a reveal ends in [`super::weights::set`]. Dispatch and the pool use it.

use parity_scale_codec::Encode as _;

use super::{Done, Failure, World, epochs, subnets, weights};
use crate::devnet::{
    datum::Datum,
    hashing::{Hash, blake2},
    items::Item,
    state::{State, key},
};

/// The most commits of one hotkey that wait to be revealed.
pub const OPEN_COMMITS: usize = 10;

/// A stored commit: hash, epoch, block, and a field that the chain no longer uses.
pub type Stored = (Hash, u64, u64, u64);

/// `commit_weights` and `commit_mechanism_weights`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub netuid: u16,
    pub mecid: u8,
    pub hash: Hash,
}

/// `reveal_weights` and `reveal_mechanism_weights`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reveal {
    pub netuid: u16,
    pub mecid: u8,
    pub shown: Shown,
}

/// What a reveal shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub uids: Vec<u16>,
    pub values: Vec<u16>,
    pub salt: Vec<u16>,
    pub version_key: u64,
}

impl Shown {
    /// The hash that a hotkey committed to for this.
    pub fn hash(&self, hotkey: &[u8; 32], index: u16) -> Hash {
        blake2(&(hotkey, index, &self.uids, &self.values, &self.salt, self.version_key).encode())
    }
}

/// `batch_reveal_weights`: the lists as they came, of any lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReveal {
    pub netuid: u16,
    pub uids: Vec<Vec<u16>>,
    pub values: Vec<Vec<u16>>,
    pub salts: Vec<Vec<u16>>,
    pub version_keys: Vec<u64>,
}

impl BatchReveal {
    /// Whether all lists have one length.
    pub fn is_even(&self) -> bool {
        let count = self.uids.len();
        [self.values.len(), self.salts.len(), self.version_keys.len()].iter().all(|other| *other == count)
    }

    fn shown(&self) -> Vec<Shown> {
        let lists = self.uids.iter().zip(&self.values).zip(&self.salts).zip(&self.version_keys);
        lists
            .map(|(((uids, values), salt), version_key)| Shown {
                uids: uids.clone(),
                values: values.clone(),
                salt: salt.clone(),
                version_key: *version_key,
            })
            .collect()
    }
}

/// What both kinds of commits need, in the chain's order; gives the storage index and the uid.
pub fn check_commit(world: &World<'_>, hotkey: &[u8; 32], netuid: u16, mecid: u8) -> Result<(u16, u16), Failure> {
    let state = &world.state;
    let index = weights::storage_index(netuid, mecid);
    let Some(uid) = state.find::<u16>(Item::Uids, key![netuid, hotkey]) else {
        return Err(Failure::subtensor("HotKeyNotRegisteredInSubNet"));
    };
    if weights::is_too_fast(world, netuid, index, uid) {
        return Err(Failure::subtensor("CommittingWeightsTooFast"));
    }
    Ok((index, uid))
}

/// A subnet's mechanism exists and takes commits.
pub fn check_mechanism(state: &State<'_>, netuid: u16, mecid: u8) -> Done {
    if !subnets::has_mechanism(state, netuid, mecid) {
        return Err(Failure::subtensor("MechanismDoesNotExist"));
    }
    check_enabled(state, netuid)
}

fn check_enabled(state: &State<'_>, netuid: u16) -> Done {
    if state.get(Item::CommitRevealEnabled, key![netuid]) {
        Ok(())
    } else {
        Err(Failure::subtensor("CommitRevealDisabled"))
    }
}

/// Commits to a hash.
pub fn commit(world: &mut World<'_>, hotkey: [u8; 32], commit: &Commit) -> Done {
    let Commit { netuid, mecid, hash } = *commit;
    check_mechanism(&world.state, netuid, mecid)?;
    let (index, uid) = check_commit(world, &hotkey, netuid, mecid)?;
    let epoch = epochs::current(&world.state, netuid, world.now());
    let mut commits: Vec<Stored> = world.state.get_or_default(Item::WeightCommits, key![index, &hotkey]);
    drop_expired(world, netuid, &mut commits);
    if commits.len() >= OPEN_COMMITS {
        return Err(Failure::subtensor("TooManyUnrevealedCommits"));
    }
    let now = world.now();
    commits.push((hash, epoch, now, 0));
    world.state.put(Item::WeightCommits, key![index, &hotkey], &commits);
    let fields = vec![Datum::account(&hotkey), Datum::Num(index.into()), Datum::account(&hash)];
    world.emit_tuple("SubtensorModule", "WeightsCommitted", fields);
    subnets::set_at(&mut world.state, Item::LastUpdate, index, uid, now);
    Ok(())
}

/// Removes the commits at the front that nobody can reveal any more, and gives their hashes.
fn drop_expired(world: &World<'_>, netuid: u16, commits: &mut Vec<Stored>) -> Vec<Hash> {
    let open = commits.iter().position(|(_, epoch, _, _)| !is_expired(&world.state, netuid, *epoch, world.now()));
    commits.drain(..open.unwrap_or(commits.len())).map(|(hash, ..)| hash).collect()
}

/// Whether the epoch in which a commit is revealed is over.
pub fn is_expired(state: &State<'_>, netuid: u16, commit_epoch: u64, now: u64) -> bool {
    let period: u64 = state.get(Item::RevealPeriodEpochs, key![netuid]);
    epochs::current(state, netuid, now) > commit_epoch.saturating_add(period)
}

fn is_revealable(state: &State<'_>, netuid: u16, commit_epoch: u64, now: u64) -> bool {
    let period: u64 = state.get(Item::RevealPeriodEpochs, key![netuid]);
    epochs::current(state, netuid, now) == commit_epoch.saturating_add(period)
}

/// Shows what was committed; it becomes the hotkey's row of weights, and every older commit is gone.
pub fn reveal(world: &mut World<'_>, hotkey: [u8; 32], reveal: &Reveal) -> Done {
    let Reveal { netuid, mecid, ref shown } = *reveal;
    let index = weights::storage_index(netuid, mecid);
    check_enabled(&world.state, netuid)?;
    let Some(mut commits) = world.state.find::<Vec<Stored>>(Item::WeightCommits, key![index, &hotkey]) else {
        return Err(Failure::subtensor("NoWeightsCommitFound"));
    };
    let expired = drop_expired(world, netuid, &mut commits);
    let hash = shown.hash(&hotkey, index);
    let Some(at) = commits.iter().position(|(committed, ..)| *committed == hash) else {
        return Err(Failure::subtensor(match (expired.contains(&hash), commits.is_empty()) {
            (true, _) => "ExpiredWeightCommit",
            (false, true) => "NoWeightsCommitFound",
            (false, false) => "InvalidRevealCommitHashNotMatch",
        }));
    };
    if !is_revealable(&world.state, netuid, commits[at].1, world.now()) {
        return Err(Failure::subtensor("RevealTooEarly"));
    }
    commits.drain(..=at);
    put(world, index, &hotkey, &commits);
    weights::set(world, hotkey, &request(netuid, mecid, shown))?;
    let fields = vec![Datum::account(&hotkey), Datum::Num(index.into()), Datum::account(&hash)];
    world.emit_tuple("SubtensorModule", "WeightsRevealed", fields);
    Ok(())
}

const fn request(netuid: u16, mecid: u8, shown: &Shown) -> weights::Request<'_> {
    let Shown { uids, values, version_key, .. } = shown;
    weights::Request { netuid, mecid, dests: uids.as_slice(), weights: values.as_slice(), version_key: *version_key }
}

/// Keeps the commits that are left.
fn put(world: &mut World<'_>, index: u16, hotkey: &[u8; 32], commits: &Vec<Stored>) {
    if commits.is_empty() {
        world.state.remove(Item::WeightCommits, key![index, hotkey]);
    } else {
        world.state.put(Item::WeightCommits, key![index, hotkey], commits);
    }
}

/// `batch_reveal_weights`: several reveals in mechanism 0, all or none.
pub fn batch_reveal(world: &mut World<'_>, hotkey: [u8; 32], batch: &BatchReveal) -> Done {
    let netuid = batch.netuid;
    let index = weights::storage_index(netuid, 0);
    if !batch.is_even() {
        return Err(Failure::subtensor("InputLengthsUnequal"));
    }
    check_enabled(&world.state, netuid)?;
    let Some(mut commits) = world.state.find::<Vec<Stored>>(Item::WeightCommits, key![index, &hotkey]) else {
        return Err(Failure::subtensor("NoWeightsCommitFound"));
    };
    let expired = drop_expired(world, netuid, &mut commits);
    let missing = |hash: &Hash| {
        let known = expired.contains(hash);
        Failure::subtensor(if known { "ExpiredWeightCommit" } else { "InvalidRevealCommitHashNotMatch" })
    };
    let shown: Vec<(Hash, Shown)> =
        batch.shown().into_iter().map(|shown| (shown.hash(&hotkey, index), shown)).collect();
    for (hash, _) in &shown {
        let found = commits.iter().find(|(committed, ..)| committed == hash);
        let (_, epoch, ..) = *found.ok_or_else(|| missing(hash))?;
        if !is_revealable(&world.state, netuid, epoch, world.now()) {
            return Err(Failure::subtensor("RevealTooEarly"));
        }
    }
    for (hash, shown) in &shown {
        let at = commits.iter().position(|(committed, ..)| committed == hash).ok_or_else(|| missing(hash))?;
        commits.remove(at);
        weights::set(world, hotkey, &request(netuid, 0, shown))?;
    }
    put(world, index, &hotkey, &commits);
    let hashes = Datum::List(shown.iter().map(|(hash, _)| Datum::account(hash)).collect());
    let fields = vec![Datum::account(&hotkey), Datum::Num(netuid.into()), hashes];
    world.emit_tuple("SubtensorModule", "WeightsBatchRevealed", fields);
    Ok(())
}

/// `batch_commit_weights`: one commit for each subnet; those that fail are named in events.
pub fn batch_commit(world: &mut World<'_>, hotkey: [u8; 32], netuids: &[u16], hashes: &[Hash]) -> Done {
    if netuids.len() != hashes.len() {
        return Err(Failure::subtensor("InputLengthsUnequal"));
    }
    let one = |world: &mut World<'_>, at: usize| {
        commit(world, hotkey, &Commit { netuid: netuids[at], mecid: 0, hash: hashes[at] })
    };
    weights::each(world, hotkey, netuids, one);
    Ok(())
}

/// What the pool refuses about a reveal.
pub fn guard(world: &World<'_>, hotkey: &[u8; 32], netuid: u16, mecid: u8, shown: &Shown) -> Result<(), &'static str> {
    let index = weights::storage_index(netuid, mecid);
    let commits: Option<Vec<Stored>> = world.state.find(Item::WeightCommits, key![index, hotkey]);
    let hash = shown.hash(hotkey, index);
    let found = commits.unwrap_or_default().into_iter().find(|(committed, ..)| *committed == hash);
    let (_, epoch, ..) = found.ok_or("NoWeightsCommitFound")?;
    if is_revealable(&world.state, netuid, epoch, world.now()) { Ok(()) } else { Err("RevealTooEarly") }
}

/// What the pool refuses about several reveals.
pub fn guard_batch(world: &World<'_>, hotkey: &[u8; 32], batch: &BatchReveal) -> Result<(), &'static str> {
    batch.shown().iter().try_for_each(|shown| guard(world, hotkey, batch.netuid, 0, shown))
}

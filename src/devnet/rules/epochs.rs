//! Epochs: when a subnet's runs, and what it leaves in the per-neuron vectors.
//!
//! Owns the schedule by state, exactly as the chain keeps it, and an approximation of the consensus: permits, masks,
//! median, clipping, incentive and dividends follow the chain's steps in floating point, bonds have no memory between
//! epochs, and emission is computed but not credited to anybody. Refuses to know calls. Block start uses it.

use super::{World, commit_reveal, opening, registration, subnets, timelock, weights::storage_index};
use crate::{
    chain::timelock::STEP_BLOCKS_MAX,
    devnet::{
        datum::Datum,
        items::Item,
        state::{State, key},
    },
};

/// What happens before a block's extrinsics, in the chain's order.
pub fn start_block(world: &mut World<'_>) {
    let mut netuids = subnets::all(&world.state);
    netuids.retain(|netuid| *netuid != subnets::ROOT);
    for netuid in &netuids {
        registration::start_block(world, *netuid);
    }
    reveal(world, &netuids);
    let mut left: u8 = world.state.get(Item::MaxEpochsPerBlock, &[]);
    for netuid in netuids {
        let since: u64 = world.state.get(Item::BlocksSinceLastStep, key![netuid]);
        world.state.put(Item::BlocksSinceLastStep, key![netuid], &since.saturating_add(1));
        if !is_due(&world.state, netuid, world.now()) {
            continue;
        }
        if left == 0 {
            defer(world, netuid);
            continue;
        }
        left -= 1;
        run(world, netuid);
        finish(world, netuid);
    }
    opening::start_block(world);
}

/// Opens the committed weights of every subnet whose epoch is not put off in this block.
fn reveal(world: &mut World<'_>, netuids: &[u16]) {
    let most: u8 = world.state.get(Item::MaxEpochsPerBlock, &[]);
    let mut due = 0;
    let mut open = netuids.to_vec();
    open.retain(|netuid| {
        due += u32::from(is_due(&world.state, *netuid, world.now()));
        !is_due(&world.state, *netuid, world.now()) || due <= u32::from(most)
    });
    for netuid in open {
        timelock::reveal(world, netuid);
    }
}

/// Too many epochs in one block: this one comes a block later.
fn defer(world: &mut World<'_>, netuid: u16) {
    let (now, next) = (world.now(), world.now() + 1);
    world.state.put(Item::PendingEpochAt, key![netuid], &next);
    let fields = vec![
        ("netuid", Datum::Num(netuid.into())),
        ("from_block", Datum::Num(now.into())),
        ("to_block", Datum::Num(next.into())),
    ];
    world.emit("SubtensorModule", "EpochDeferred", fields);
}

/// Whether a subnet's epoch runs at a block.
pub fn is_due(state: &State<'_>, netuid: u16, now: u64) -> bool {
    let tempo: u16 = state.get(Item::Tempo, key![netuid]);
    let pending: u64 = state.get(Item::PendingEpochAt, key![netuid]);
    let last: u64 = state.get(Item::LastEpochBlock, key![netuid]);
    let since: u64 = state.get(Item::BlocksSinceLastStep, key![netuid]);
    let by_trigger = pending > 0 && now >= pending;
    let by_tempo = now.saturating_sub(last) >= u64::from(tempo);
    tempo > 0 && (by_trigger || by_tempo || since > STEP_BLOCKS_MAX)
}

/// The epoch that something done now belongs to: the next one already, when it is due in this block and has not run.
pub fn current(state: &State<'_>, netuid: u16, now: u64) -> u64 {
    let index: u64 = state.get(Item::SubnetEpochIndex, key![netuid]);
    index.saturating_add(u64::from(is_due(state, netuid, now)))
}

/// The block at which a subnet's next epoch runs, if nothing changes; `None` for a tempo of 0.
pub fn next(state: &State<'_>, netuid: u16) -> Option<u64> {
    let tempo: u16 = state.get(Item::Tempo, key![netuid]);
    let pending: u64 = state.get(Item::PendingEpochAt, key![netuid]);
    let last: u64 = state.get(Item::LastEpochBlock, key![netuid]);
    let regular = last + u64::from(tempo);
    (tempo > 0).then(|| if pending > 0 { regular.min(pending) } else { regular })
}

/// For how many blocks a neuron counts as active after its last update.
pub fn activity_cutoff(state: &State<'_>, netuid: u16) -> u64 {
    let tempo: u16 = state.get(Item::Tempo, key![netuid]);
    let factor: u32 = state.get(Item::ActivityCutoffFactor, key![netuid]);
    (u64::from(factor) * u64::from(tempo) / 1000).max(1)
}

fn finish(world: &mut World<'_>, netuid: u16) {
    let now = world.now();
    let state = &mut world.state;
    let index: u64 = state.get(Item::SubnetEpochIndex, key![netuid]);
    state.put(Item::LastEpochBlock, key![netuid], &now);
    state.put(Item::LastStepBlock, key![netuid], &now);
    state.put(Item::PendingEpochAt, key![netuid], &0_u64);
    state.put(Item::SubnetEpochIndex, key![netuid], &(index + 1));
    state.put(Item::BlocksSinceLastStep, key![netuid], &0_u64);
}

/// What an epoch knows about one neuron.
#[derive(Debug, Clone)]
struct Neuron {
    hotkey: [u8; 32],
    stake: f64,
    active: bool,
    /// Whether it may validate in this epoch.
    permit: bool,
    /// Whether it may in the next.
    next_permit: bool,
    owner: bool,
    last_update: u64,
    /// The block of its first commit that is still open; the largest number for none.
    committed: u64,
    registered: u64,
    /// Weights by uid, normalised, after the masks.
    row: Vec<f64>,
}

/// Runs an epoch over every mechanism; the vectors that exist once per subnet come from mechanism 0.
fn run(world: &mut World<'_>, netuid: u16) {
    for mecid in (0..subnets::mechanisms(&world.state, netuid)).rev() {
        let mut neurons = load(world, netuid, mecid);
        normalise_stake(&mut neurons);
        let outcome = consensus(&neurons, kappa(&world.state, netuid));
        store(world, netuid, mecid, &neurons, &outcome);
    }
}

fn kappa(state: &State<'_>, netuid: u16) -> f64 {
    let kappa: u16 = state.get(Item::Kappa, key![netuid]);
    f64::from(kappa) / f64::from(u16::MAX)
}

/// Reads the neurons and their weights, masked as the chain masks them.
fn load(world: &World<'_>, netuid: u16, mecid: u8) -> Vec<Neuron> {
    let state = &world.state;
    let index = storage_index(netuid, mecid);
    let cutoff = activity_cutoff(state, netuid);
    let threshold: u64 = state.get(Item::StakeThreshold, &[]);
    let updates: Vec<u64> = state.get(Item::LastUpdate, key![index]);
    let permits: Vec<bool> = state.get(Item::ValidatorPermit, key![netuid]);
    let mut neurons: Vec<Neuron> = Vec::new();
    for (uid, hotkey) in (0_u16..).zip(subnets::hotkeys(state, netuid)) {
        let owner = subnets::is_owner_hotkey(state, netuid, &hotkey);
        let stake = subnets::stake(state, netuid, &hotkey);
        let last_update = updates.get(usize::from(uid)).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "an approximation, as the module says")]
        let stake = if stake < threshold && !owner { 0.0 } else { stake as f64 };
        neurons.push(Neuron {
            hotkey,
            stake,
            active: last_update.saturating_add(cutoff) >= world.now(),
            permit: owner || permits.get(usize::from(uid)).copied().unwrap_or(false),
            next_permit: owner,
            owner,
            last_update,
            committed: u64::MAX,
            registered: state.get(Item::BlockAtRegistration, key![netuid, uid]),
            row: Vec::new(),
        });
    }
    give_permits(state, netuid, &mut neurons);
    if state.get(Item::CommitRevealEnabled, key![netuid]) {
        find_open_commits(world, netuid, index, &mut neurons);
    }
    load_rows(state, index, &mut neurons);
    neurons
}

/// The next epoch's permits go to the largest stakes above zero, and always to the owner.
fn give_permits(state: &State<'_>, netuid: u16, neurons: &mut [Neuron]) {
    let most: u16 = state.get(Item::MaxAllowedValidators, key![netuid]);
    let mut order: Vec<usize> = (0..neurons.len()).filter(|uid| neurons[*uid].stake > 0.0).collect();
    order.sort_by(|left, right| neurons[*right].stake.total_cmp(&neurons[*left].stake).then(left.cmp(right)));
    for uid in order.into_iter().take(usize::from(most)) {
        neurons[uid].next_permit = true;
    }
}

/// With commit-reveal, who has committed before a neuron came cannot have meant it.
fn find_open_commits(world: &World<'_>, netuid: u16, index: u16, neurons: &mut [Neuron]) {
    let (state, now) = (&world.state, world.now());
    for neuron in &mut *neurons {
        let hashed: Vec<commit_reveal::Stored> = state.get_or_default(Item::WeightCommits, key![index, &neuron.hotkey]);
        let open = hashed.iter().find(|(_, epoch, ..)| !commit_reveal::is_expired(state, netuid, *epoch, now));
        neuron.committed = open.map_or(u64::MAX, |(_, _, block, _)| *block);
    }
    for epoch in timelock::epochs(state, index) {
        if commit_reveal::is_expired(state, netuid, epoch, now) {
            continue;
        }
        for (who, block, ..) in timelock::stored(state, index, epoch) {
            if let Some(neuron) = neurons.iter_mut().find(|neuron| neuron.hotkey == who) {
                neuron.committed = neuron.committed.min(block);
            }
        }
    }
}

/// Rows of permitted, active neurons; no weight for oneself except the owner's, none older than its target.
fn load_rows(state: &State<'_>, index: u16, neurons: &mut [Neuron]) {
    let registered: Vec<u64> = neurons.iter().map(|neuron| neuron.registered).collect();
    for (uid, neuron) in (0_u16..).zip(neurons.iter_mut()) {
        let mut row = vec![0.0; registered.len()];
        if neuron.permit {
            let stored: Vec<(u16, u16)> = state.get(Item::Weights, key![index, uid]);
            for (to, weight) in stored {
                let Some(target) = registered.get(usize::from(to)) else { continue };
                let for_oneself = to == uid && !neuron.owner;
                if !for_oneself && neuron.last_update > *target && neuron.committed >= *target {
                    row[usize::from(to)] = f64::from(weight);
                }
            }
        }
        normalise(&mut row);
        neuron.row = row;
    }
}

fn normalise(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|value| *value /= sum);
    }
}

/// Only active, permitted neurons count.
fn normalise_stake(neurons: &mut [Neuron]) {
    let counted = |neuron: &Neuron| if neuron.active && neuron.permit { neuron.stake } else { 0.0 };
    let mut stakes: Vec<f64> = neurons.iter().map(counted).collect();
    normalise(&mut stakes);
    for (neuron, stake) in neurons.iter_mut().zip(stakes) {
        neuron.stake = stake;
    }
}

/// What comes out of an epoch, by uid.
struct Outcome {
    consensus: Vec<f64>,
    incentive: Vec<f64>,
    dividends: Vec<f64>,
    trust: Vec<f64>,
    bonds: Vec<Vec<f64>>,
}

/// Median, clipping, ranks, bonds and dividends.
fn consensus(neurons: &[Neuron], kappa: f64) -> Outcome {
    let count = neurons.len();
    let consensus: Vec<f64> = (0..count).map(|uid| weighted_median(neurons, uid, kappa)).collect();
    let clipped: Vec<Vec<f64>> = neurons
        .iter()
        .map(|neuron| neuron.row.iter().zip(&consensus).map(|(weight, limit)| weight.min(*limit)).collect())
        .collect();
    let stakes: Vec<f64> = neurons.iter().map(|neuron| neuron.stake).collect();
    let column = |uid: usize| -> f64 { stakes.iter().zip(&clipped).map(|(stake, row)| stake * row[uid]).sum() };
    let ranks: Vec<f64> = (0..count).map(column).collect();
    let mut incentive = ranks.clone();
    normalise(&mut incentive);
    // The share of a column that a validator holds.
    let share = |stake: f64, weight: f64, rank: f64| if rank > 0.0 { stake * weight / rank } else { 0.0 };
    let bonds: Vec<Vec<f64>> = stakes
        .iter()
        .zip(&clipped)
        .map(|(stake, row)| row.iter().zip(&ranks).map(|(weight, rank)| share(*stake, *weight, *rank)).collect())
        .collect();
    let earned = |row: &Vec<f64>| row.iter().zip(&incentive).map(|(bond, incentive)| bond * incentive).sum();
    let mut dividends: Vec<f64> = bonds.iter().map(earned).collect();
    normalise(&mut dividends);
    let trust = clipped.iter().map(|row| row.iter().sum()).collect();
    Outcome { consensus, incentive, dividends, trust, bonds }
}

/// The largest weight that at least `kappa` of the stake gives a neuron.
fn weighted_median(neurons: &[Neuron], uid: usize, kappa: f64) -> f64 {
    let voters = neurons.iter().filter(|neuron| neuron.stake > 0.0);
    let mut votes: Vec<(f64, f64)> = voters.map(|neuron| (neuron.row[uid], neuron.stake)).collect();
    votes.sort_by(|left, right| right.0.total_cmp(&left.0));
    let mut sum = 0.0;
    for (weight, stake) in votes {
        sum += stake;
        if sum > kappa {
            return weight;
        }
    }
    0.0
}

/// Writes the vectors.
fn store(world: &mut World<'_>, netuid: u16, mecid: u8, neurons: &[Neuron], outcome: &Outcome) {
    let index = storage_index(netuid, mecid);
    let state = &mut world.state;
    state.put(Item::Incentive, key![index], &proportions(&outcome.incentive));
    for (uid, row) in (0_u16..).zip(&outcome.bonds) {
        let bonds: Vec<(u16, u16)> = (0_u16..).zip(proportions(row)).filter(|(_, bond)| *bond > 0).collect();
        let had_bonds = state.has(Item::Bonds, key![index, uid]);
        if !bonds.is_empty() || had_bonds {
            state.put(Item::Bonds, key![index, uid], &bonds);
        }
    }
    if mecid != 0 {
        return;
    }
    state.put(Item::Consensus, key![netuid], &proportions(&outcome.consensus));
    state.put(Item::Dividends, key![netuid], &proportions(&outcome.dividends));
    state.put(Item::ValidatorTrust, key![netuid], &proportions(&outcome.trust));
    state.put(Item::Active, key![netuid], &neurons.iter().map(|neuron| neuron.active).collect::<Vec<_>>());
    state.put(
        Item::ValidatorPermit,
        key![netuid],
        &neurons.iter().map(|neuron| neuron.next_permit).collect::<Vec<_>>(),
    );
    let emission = emission(state, netuid, outcome);
    state.put(Item::Emission, key![netuid], &emission);
}

/// An epoch's alpha: less the owner's cut, half of the rest to each side.
fn emission(state: &State<'_>, netuid: u16, outcome: &Outcome) -> Vec<u64> {
    const SHARE_OF_EACH_SIDE: f64 = 0.41;
    let per_block: u64 = state.get(Item::AlphaOutEmission, key![netuid]);
    let tempo: u16 = state.get(Item::Tempo, key![netuid]);
    #[expect(clippy::cast_precision_loss, reason = "an approximation, as the module says")]
    let side = per_block.saturating_mul(u64::from(tempo)) as f64 * SHARE_OF_EACH_SIDE;
    let parts = outcome.incentive.iter().zip(&outcome.dividends);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a positive amount")]
    parts.map(|(incentive, dividend)| ((incentive + dividend) * side) as u64).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of u16")]
fn proportions(values: &[f64]) -> Vec<u16> {
    values.iter().map(|value| (value.clamp(0.0, 1.0) * f64::from(u16::MAX)) as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neuron(stake: f64, row: &[f64]) -> Neuron {
        Neuron {
            hotkey: [0; 32],
            stake,
            active: true,
            permit: stake > 0.0,
            next_permit: stake > 0.0,
            owner: false,
            last_update: 1,
            committed: u64::MAX,
            registered: 0,
            row: row.to_vec(),
        }
    }

    #[test]
    fn one_validator_decides_and_a_minority_is_clipped() {
        let alone = [neuron(1.0, &[0.0, 0.25, 0.75]), neuron(0.0, &[0.0; 3]), neuron(0.0, &[0.0; 3])];
        let outcome = consensus(&alone, 0.5);
        assert_eq!(proportions(&outcome.incentive), [0, 16_383, 49_151]);
        assert_eq!(proportions(&outcome.dividends), [u16::MAX, 0, 0]);
        let split = [neuron(0.7, &[0.0, 0.0, 1.0]), neuron(0.3, &[1.0, 0.0, 0.0]), neuron(0.0, &[0.0; 3])];
        let outcome = consensus(&split, 0.5);
        assert_eq!(proportions(&outcome.incentive), [0, 0, u16::MAX]);
        assert_eq!(proportions(&outcome.dividends), [u16::MAX, 0, 0]);
    }
}

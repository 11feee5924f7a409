//! Epochs: when a subnet's runs, and what it leaves in the per-neuron vectors.
//!
//! Owns the schedule by state, exactly as the chain keeps it, and the consensus: permits, masks, median, clipping,
//! incentive, bonds and dividends follow the chain's steps, in floating point where the chain has fixed point, and
//! without liquid alpha. Emission is computed and not credited to anybody. Refuses to know calls. Block start uses it.

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
    /// The part of the stake that decides: its own among that of all who are active and permitted.
    stake: f64,
    /// What it has, whether it is active or not.
    whole_stake: f64,
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
        let terms = Terms::of(&world.state, netuid, storage_index(netuid, mecid), world.now(), &neurons);
        let outcome = consensus(&neurons, &terms);
        store(world, netuid, mecid, &neurons, &outcome);
    }
}

/// What the consensus of a subnet goes by besides its neurons.
struct Terms {
    kappa: f64,
    /// Whether bonds are a validator's own, to be weighed by its stake only when dividends are paid.
    yuma3: bool,
    /// How much of the new bonds an epoch takes on.
    alpha: f64,
    /// How much of what is above the consensus earns no bonds.
    penalty: f64,
    /// The bonds of the last epoch, none of them on who came since.
    bonds: Vec<Vec<f64>>,
}

impl Terms {
    fn of(state: &State<'_>, netuid: u16, index: u16, now: u64, neurons: &[Neuron]) -> Self {
        let part = |value: u16| f64::from(value) / f64::from(u16::MAX);
        let average: u64 = state.get(Item::BondsMovingAverage, key![netuid]);
        #[expect(clippy::cast_precision_loss, reason = "a number of millionths")]
        let alpha = 1.0 - average as f64 / 1e6;
        let (last_step, tempo): (u64, u16) =
            (state.get(Item::LastStepBlock, key![netuid]), state.get(Item::Tempo, key![netuid]));
        let since = if last_step == 0 { now.saturating_sub(tempo.into()) } else { last_step.saturating_add(1) };
        let mut bonds = Vec::new();
        for uid in (0_u16..).take(neurons.len()) {
            let mut row = vec![0.0; neurons.len()];
            let stored: Vec<(u16, u16)> = state.get(Item::Bonds, key![index, uid]);
            for (to, bond) in stored {
                let is_old = neurons.get(usize::from(to)).is_some_and(|target| since > target.registered);
                if is_old {
                    row[usize::from(to)] = part(bond);
                }
            }
            bonds.push(row);
        }
        Self {
            kappa: part(state.get(Item::Kappa, key![netuid])),
            yuma3: state.get(Item::Yuma3, key![netuid]),
            alpha,
            penalty: part(state.get(Item::BondsPenalty, key![netuid])),
            bonds,
        }
    }
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
            whole_stake: stake,
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
    // Of two equal ones the chain takes the later one.
    order.sort_by(|left, right| neurons[*right].stake.total_cmp(&neurons[*left].stake).then(right.cmp(left)));
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

/// Makes every column of a matrix sum to 1, or leaves it empty.
fn normalise_columns(rows: &mut [Vec<f64>]) {
    divide_columns(rows, |column, value| column + value);
}

/// Divides every column by what its values fold to.
fn divide_columns(rows: &mut [Vec<f64>], fold: impl Fn(f64, f64) -> f64) {
    for uid in 0..rows.len() {
        let by = rows.iter().fold(0.0, |so_far, row| fold(so_far, row[uid]));
        if by > 0.0 {
            rows.iter_mut().for_each(|row| row[uid] /= by);
        }
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
fn consensus(neurons: &[Neuron], terms: &Terms) -> Outcome {
    let count = neurons.len();
    let consensus: Vec<f64> = (0..count).map(|uid| weighted_median(neurons, uid, terms.kappa)).collect();
    let clipped: Vec<Vec<f64>> = neurons
        .iter()
        .map(|neuron| neuron.row.iter().zip(&consensus).map(|(weight, limit)| weight.min(*limit)).collect())
        .collect();
    let stakes: Vec<f64> = neurons.iter().map(|neuron| neuron.stake).collect();
    let column = |uid: usize| -> f64 { stakes.iter().zip(&clipped).map(|(stake, row)| stake * row[uid]).sum() };
    let ranks: Vec<f64> = (0..count).map(column).collect();
    let mut incentive = ranks;
    normalise(&mut incentive);
    let (bonds, dividends) = bonds_and_dividends(neurons, terms, &clipped, &incentive);
    let trust = clipped.iter().map(|row| row.iter().sum()).collect();
    Outcome { consensus, incentive, dividends, trust, bonds }
}

/// The bonds that go on from the last epoch's, as they are stored, and what they earn.
fn bonds_and_dividends(
    neurons: &[Neuron],
    terms: &Terms,
    clipped: &[Vec<f64>],
    incentive: &[f64],
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let (mut new, mut old) = (Vec::new(), terms.bonds.clone());
    for (neuron, clipped) in neurons.iter().zip(clipped) {
        let between = |(weight, clipped): (&f64, &f64)| weight + (clipped - weight) * terms.penalty;
        let by = if terms.yuma3 { 1.0 } else { neuron.stake };
        new.push(neuron.row.iter().zip(clipped).map(|pair| between(pair) * by).collect::<Vec<f64>>());
    }
    if !terms.yuma3 {
        normalise_columns(&mut old);
        normalise_columns(&mut new);
    }
    let mut bonds: Vec<Vec<f64>> = new
        .iter()
        .zip(&old)
        .map(|(new, old)| new.iter().zip(old).map(|(new, old)| terms.alpha * new + (1.0 - terms.alpha) * old).collect())
        .collect();
    let mut shares = bonds.clone();
    normalise_columns(&mut shares);
    let earned = |row: &Vec<f64>| -> f64 { row.iter().zip(incentive).map(|(bond, incentive)| bond * incentive).sum() };
    let mut dividends: Vec<f64> = shares
        .iter()
        .zip(neurons)
        .map(|(row, neuron)| earned(row) * if terms.yuma3 { neuron.stake } else { 1.0 })
        .collect();
    normalise(&mut dividends);
    if !terms.yuma3 {
        divide_columns(&mut shares, f64::max);
        bonds = shares;
    }
    (bonds, dividends)
}

/// The largest weight that at least `kappa` of the stake gives a neuron.
fn weighted_median(neurons: &[Neuron], uid: usize, kappa: f64) -> f64 {
    let voters = neurons.iter().filter(|neuron| neuron.stake > 0.0);
    let mut votes: Vec<(f64, f64)> = voters.map(|neuron| (neuron.row[uid], neuron.stake)).collect();
    votes.sort_by(|left, right| right.0.total_cmp(&left.0));
    let mut sum = 0.0;
    for (weight, stake) in votes {
        sum += stake;
        if sum >= kappa {
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
    for ((uid, row), neuron) in (0_u16..).zip(&outcome.bonds).zip(neurons) {
        // Only who may validate on has bonds.
        let kept = if neuron.next_permit { proportions(row) } else { Vec::new() };
        let bonds: Vec<(u16, u16)> = (0_u16..).zip(kept).filter(|(_, bond)| *bond > 0).collect();
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
    let emission = emission(state, netuid, neurons, outcome);
    state.put(Item::Emission, key![netuid], &emission);
}

/// The alpha of the blocks since the last epoch, less the owner's cut, by incentive and dividends; by stake, where
/// nobody earned anything.
fn emission(state: &State<'_>, netuid: u16, neurons: &[Neuron], outcome: &Outcome) -> Vec<u64> {
    let cut: u16 = state.get(Item::SubnetOwnerCut, &[]);
    let takes_cut: bool = state.get(Item::OwnerCutEnabled, key![netuid]);
    let left = if takes_cut { 1.0 - f64::from(cut) / f64::from(u16::MAX) } else { 1.0 };
    let per_block: u64 = state.get(Item::AlphaOutEmission, key![netuid]);
    let blocks: u64 = state.get(Item::BlocksSinceLastStep, key![netuid]);
    #[expect(clippy::cast_precision_loss, reason = "floating point, as the module says")]
    let alpha = per_block.saturating_mul(blocks) as f64 * left;
    let mut parts: Vec<f64> =
        outcome.incentive.iter().zip(&outcome.dividends).map(|(one, other)| one + other).collect();
    if parts.iter().sum::<f64>() <= 0.0 {
        // Whoever is active and permitted, or everybody where nobody is.
        parts = neurons.iter().map(|neuron| neuron.stake).collect();
        if parts.iter().sum::<f64>() <= 0.0 {
            parts = neurons.iter().map(|neuron| neuron.whole_stake).collect();
        }
    }
    normalise(&mut parts);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a positive amount")]
    parts.iter().map(|part| (part * alpha) as u64).collect()
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
            whole_stake: stake,
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

    fn terms(yuma3: bool, bonds: &[&[f64]]) -> Terms {
        Terms { kappa: 0.5, yuma3, alpha: 0.1, penalty: 0.0, bonds: bonds.iter().map(|row| row.to_vec()).collect() }
    }

    const NONE: &[&[f64]] = &[&[0.0; 3], &[0.0; 3], &[0.0; 3]];

    #[test]
    fn one_validator_decides_and_a_minority_is_clipped() {
        for yuma3 in [false, true] {
            let alone = [neuron(1.0, &[0.0, 0.25, 0.75]), neuron(0.0, &[0.0; 3]), neuron(0.0, &[0.0; 3])];
            let outcome = consensus(&alone, &terms(yuma3, NONE));
            assert_eq!(proportions(&outcome.incentive), [0, 16_383, 49_151]);
            assert_eq!(proportions(&outcome.dividends), [u16::MAX, 0, 0]);
            let split = [neuron(0.7, &[0.0, 0.0, 1.0]), neuron(0.3, &[1.0, 0.0, 0.0]), neuron(0.0, &[0.0; 3])];
            let outcome = consensus(&split, &terms(yuma3, NONE));
            assert_eq!(proportions(&outcome.incentive), [0, 0, u16::MAX]);
            assert_eq!(proportions(&outcome.dividends), [u16::MAX, 0, 0]);
        }
    }

    #[test]
    fn bonds_grow_by_a_part_of_each_epoch_and_are_earned_with() {
        // Two validators of one mind, of whom the first has had bonds for long.
        let both = [neuron(0.5, &[0.0, 0.0, 1.0]), neuron(0.5, &[0.0, 0.0, 1.0]), neuron(0.0, &[0.0; 3])];
        let before: &[&[f64]] = &[&[0.0, 0.0, 0.4], &[0.0; 3], &[0.0; 3]];
        let outcome = consensus(&both, &terms(true, before));
        // 0.1 · 1 + 0.9 · 0.4, and 0.1 · 1.
        assert!((outcome.bonds[0][2] - 0.46).abs() < 1e-12 && (outcome.bonds[1][2] - 0.1).abs() < 1e-12);
        assert!((outcome.dividends[0] - 0.46 / 0.56).abs() < 1e-12, "{:?}", outcome.dividends);
        // The older way: shares of a column, the largest of them stored as 1.
        let outcome = consensus(&both, &terms(false, before));
        let shares = (0.1 * 0.5 + 0.9, 0.1 * 0.5);
        assert!((outcome.dividends[0] - shares.0).abs() < 1e-12 && (outcome.dividends[1] - shares.1).abs() < 1e-12);
        assert!((outcome.bonds[0][2] - 1.0).abs() < 1e-12);
        assert!((outcome.bonds[1][2] - shares.1 / shares.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_above_the_consensus_earns_bonds_unless_there_is_a_penalty() {
        let split = [neuron(0.6, &[0.0, 0.5, 0.5]), neuron(0.4, &[0.0, 0.0, 1.0]), neuron(0.0, &[0.0; 3])];
        let bond = |penalty| consensus(&split, &Terms { penalty, ..terms(true, NONE) }).bonds[1][2];
        assert!((bond(0.0) - 0.1).abs() < 1e-12 && (bond(1.0) - 0.05).abs() < 1e-12);
    }
}

//! Setting weights: the chain's rules as a pure function, and whether what was set is what stands.
//!
//! Owns the pre-flight of the chain's plain checks, in the chain's order and with the chain's names. Refuses to know
//! how weights were computed. The weight setter calls it just before signing.

use super::{Account, Metagraph, codes};
use crate::fault::{Class, Fault};

/// Blocks without an epoch after which the chain runs one whatever the schedule says.
const STEP_BLOCKS_MAX: u64 = 50_400;
/// Fraction bits of the chain's fixed-point numbers.
const FRACTION_BITS: u32 = 32;
/// Differences that a read-back lists: enough to see a pattern.
const DIFFERENCES_LISTED: usize = 8;

/// A subnet's rules for weights at one block.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WeightRules {
    /// The subnet.
    pub netuid: u16,
    /// The block of these values.
    pub block: u64,
    /// How many uids there are.
    pub n: u16,
    /// How many entries a vector needs.
    pub min_allowed: u16,
    /// The largest part of the sum that one entry may have, of 65535.
    pub max_limit: u16,
    /// Blocks between two weights of one validator.
    pub rate_limit_blocks: u64,
    /// The least version key, unless it is 0.
    pub version_key: u64,
    /// Whether weights are hidden until revealed. The plain call must not be relied on then.
    pub commit_reveal: bool,
    /// Blocks between two epochs; 0 means never.
    pub tempo_blocks: u16,
    /// The block of the last epoch.
    pub last_epoch_block: u64,
    /// The block for which an epoch is asked; 0 when none is.
    pub pending_epoch_block: u64,
    /// Blocks since the last epoch as the chain counts them.
    pub blocks_since_step: u64,
    /// The owner's hotkey, which is exempt from permit and stake.
    pub owner_hotkey: Option<Account>,
    /// The present price of a registration, in rao.
    pub burn_rao: u64,
    /// The least stake for setting weights, in rao; 0 means none. The transaction pool checks it.
    pub stake_threshold_rao: u64,
    /// Whether the runtime has the newer call, which names a mechanism.
    pub has_mechanisms: bool,
}

impl WeightRules {
    /// The block of the next epoch by the present schedule; `None` when the subnet runs none.
    #[must_use]
    pub fn next_epoch_block(&self) -> Option<u64> {
        if self.tempo_blocks == 0 {
            return None;
        }
        let scheduled = self.last_epoch_block.saturating_add(u64::from(self.tempo_blocks));
        let overdue = self.block.saturating_add(STEP_BLOCKS_MAX.saturating_sub(self.blocks_since_step));
        let asked = if self.pending_epoch_block > 0 { self.pending_epoch_block } else { u64::MAX };
        Some(scheduled.min(overdue).min(asked).max(self.block.saturating_add(1)))
    }

    /// Blocks until the next epoch.
    #[must_use]
    pub fn blocks_until_epoch(&self) -> Option<u64> {
        self.next_epoch_block().map(|next| next - self.block)
    }

    /// The first block in which weights may be set again after `last_update`: one later than the chain asks for, to
    /// be clear of clients and chain counting differently.
    #[must_use]
    pub const fn next_set_block(&self, last_update: u64) -> u64 {
        if last_update == 0 || self.commit_reveal {
            return 0;
        }
        last_update.saturating_add(self.rate_limit_blocks).saturating_add(1)
    }
}

/// Why the chain would not take a weight vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {detail}")]
pub struct Refusal {
    /// The chain's own name for the error, or ours where the chain would take it and ignore it.
    pub name: &'static str,
    /// The measured value and the limit.
    pub detail: String,
}

impl Refusal {
    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let code = if self.name == COMMIT_REVEAL { codes::COMMIT_REVEAL_ON } else { codes::code_of(self.name) };
        code.because(self.to_string())
    }

    /// Whether waiting may help.
    #[must_use]
    pub fn is_retried(&self) -> bool {
        self.fault().class == Class::Infra
    }
}

/// Our name for a refusal that the chain does not make: it would store the weights and then ignore them.
const COMMIT_REVEAL: &str = "CommitRevealEnabled";

fn refuse(name: &'static str, detail: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { name, detail: detail.into() })
}

/// Checks a weight vector exactly as the chain's plain call does at `metagraph`'s block, in the chain's order, for
/// inclusion in block `now`. `weights` are upscaled already (largest 65535, or all zero), so that what is checked is
/// what will be stored.
///
/// # Errors
/// The first rule that is broken, by the chain's name.
pub fn preflight(
    metagraph: &Metagraph,
    rules: &WeightRules,
    hotkey: &Account,
    uids: &[u16],
    weights: &[u16],
    version_key: u64,
    now: u64,
) -> Result<(), Refusal> {
    if rules.commit_reveal {
        return refuse(COMMIT_REVEAL, format!("subnet {} has commit-reveal on", rules.netuid));
    }
    check_shape(rules, uids, weights)?;
    check_caller(metagraph, rules, hotkey, uids, version_key, now)?;
    check_entries(metagraph, rules, hotkey, uids, weights)
}

fn check_shape(rules: &WeightRules, uids: &[u16], weights: &[u16]) -> Result<(), Refusal> {
    if rules.netuid == 0 {
        return refuse("CanNotSetRootNetworkWeights", "netuid 0");
    }
    if uids.len() != weights.len() {
        return refuse("WeightVecNotEqualSize", format!("{} uids, {} weights", uids.len(), weights.len()));
    }
    if uids.len() > usize::from(rules.n) {
        return refuse("UidsLengthExceedUidsInSubNet", format!("{} uids, {} in the subnet", uids.len(), rules.n));
    }
    Ok(())
}

fn check_caller(
    metagraph: &Metagraph,
    rules: &WeightRules,
    hotkey: &Account,
    uids: &[u16],
    version_key: u64,
    now: u64,
) -> Result<(), Refusal> {
    let Some(caller) = metagraph.neuron(hotkey) else {
        return refuse("HotKeyNotRegisteredInSubNet", hotkey.to_string());
    };
    if rules.version_key != 0 && version_key < rules.version_key {
        return refuse("IncorrectWeightVersionKey", format!("{version_key}, at least {}", rules.version_key));
    }
    let since = now.saturating_sub(caller.last_update);
    if caller.last_update != 0 && since < rules.rate_limit_blocks {
        return refuse(
            "SettingWeightsTooFast",
            format!("{since} blocks since the last, of {}", rules.rate_limit_blocks),
        );
    }
    let exempt = is_self_weight(caller.uid, uids) || rules.owner_hotkey == Some(*hotkey);
    if !exempt && !caller.permit {
        return refuse("NeuronNoValidatorPermit", format!("uid {}", caller.uid));
    }
    Ok(())
}

fn check_entries(
    metagraph: &Metagraph,
    rules: &WeightRules,
    hotkey: &Account,
    uids: &[u16],
    weights: &[u16],
) -> Result<(), Refusal> {
    let mut sorted = uids.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse("DuplicateUids", format!("uid {} twice", pair[0]));
    }
    if let Some(beyond) = sorted.last().filter(|uid| **uid >= rules.n) {
        return refuse("UidVecContainInvalidOne", format!("uid {beyond} of {}", rules.n));
    }
    if metagraph.uid_of(hotkey).is_some_and(|uid| is_self_weight(uid, uids)) {
        return Ok(());
    }
    let needed = rules.min_allowed.min(rules.n);
    if uids.len() < usize::from(needed) {
        return refuse("WeightVecLengthIsLow", format!("{} entries, at least {needed}", uids.len()));
    }
    let largest = weights.iter().copied().max().unwrap_or_default();
    if largest != 0 && largest != u16::MAX {
        return refuse("WeightsNotUpscaled", format!("the largest weight is {largest}, not 65535"));
    }
    if !within_limit(weights, rules.max_limit) {
        return refuse("MaxWeightExceeded", format!("the largest part is more than {} of 65535", rules.max_limit));
    }
    Ok(())
}

/// The chain's exemption: a vector that weights the caller alone.
fn is_self_weight(uid: u16, uids: &[u16]) -> bool {
    uids == [uid]
}

/// The chain's comparison, in its fixed-point arithmetic with 32 fraction bits, rounded down.
fn within_limit(weights: &[u16], max_limit: u16) -> bool {
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    if max_limit == u16::MAX || sum == 0 {
        return true;
    }
    let fixed = |numerator: u16, denominator: u64| (u64::from(numerator) << FRACTION_BITS) / denominator;
    let largest = weights.iter().copied().max().unwrap_or_default();
    fixed(largest, sum) <= fixed(max_limit, u64::from(u16::MAX))
}

/// What stands on chain, compared with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadBack {
    /// Every entry is there with its value, and no other.
    Equal,
    /// They differ.
    Different {
        /// The first differences: uid, what was sent, what stands.
        differences: Vec<(u16, Option<u16>, Option<u16>)>,
    },
}

/// Compares a stored row with the one that was sent. The order does not matter; a zero is an entry like any other.
#[must_use]
pub fn read_back(sent: &[(u16, u16)], stored: &[(u16, u16)]) -> ReadBack {
    use std::collections::BTreeMap;

    let sent_by_uid: BTreeMap<u16, u16> = sent.iter().copied().collect();
    let stored_by_uid: BTreeMap<u16, u16> = stored.iter().copied().collect();
    let mut uids: Vec<u16> = sent_by_uid.keys().chain(stored_by_uid.keys()).copied().collect();
    uids.sort_unstable();
    uids.dedup();
    let differences: Vec<_> = uids
        .into_iter()
        .map(|uid| (uid, sent_by_uid.get(&uid).copied(), stored_by_uid.get(&uid).copied()))
        .filter(|(_, sent, stored)| sent != stored)
        .take(DIFFERENCES_LISTED)
        .collect();
    if differences.is_empty() && sent.len() == stored.len() {
        ReadBack::Equal
    } else {
        ReadBack::Different { differences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::Neuron,
        ids::{Digest, Hotkey},
    };

    fn rules() -> WeightRules {
        WeightRules {
            netuid: 2,
            block: 1000,
            n: 4,
            min_allowed: 2,
            max_limit: u16::MAX,
            rate_limit_blocks: 100,
            version_key: 7,
            commit_reveal: false,
            tempo_blocks: 360,
            last_epoch_block: 900,
            pending_epoch_block: 0,
            blocks_since_step: 100,
            owner_hotkey: Some(Hotkey([3; 32])),
            burn_rao: 1,
            stake_threshold_rao: 0,
            has_mechanisms: true,
        }
    }

    fn metagraph() -> Metagraph {
        let neuron = |uid: u16| Neuron {
            uid,
            hotkey: Hotkey([u8::try_from(uid).unwrap(); 32]),
            coldkey: Hotkey([9; 32]),
            registered_at: 1,
            last_update: 900,
            permit: uid == 0,
            active: true,
            stake: 0,
            incentive: 0,
            dividends: 0,
            emission: 0,
            consensus: 0,
            validator_trust: 0,
            axon: None,
        };
        Metagraph { netuid: 2, block: 1000, hash: Digest([0; 32]), neurons: (0..4).map(neuron).collect() }
    }

    /// The name of the first broken rule when the hotkey of `uid` sets these weights in block 1001.
    fn verdict(rules: &WeightRules, uid: u8, uids: &[u16], weights: &[u16], key: u64) -> &'static str {
        let outcome = preflight(&metagraph(), rules, &Hotkey([uid; 32]), uids, weights, key, 1001);
        outcome.err().map_or("ok", |refusal| refusal.name)
    }

    #[test]
    fn a_proper_vector_passes() {
        assert_eq!(verdict(&rules(), 0, &[1, 2], &[65535, 3], 7), "ok");
        assert_eq!(verdict(&rules(), 0, &[1, 2], &[0, 0], 8), "ok");
    }

    #[test]
    fn each_rule_has_the_chains_name_and_order() {
        let base = rules();
        let root = WeightRules { netuid: 0, ..rules() };
        assert_eq!(verdict(&root, 0, &[1], &[1, 2], 7), "CanNotSetRootNetworkWeights");
        assert_eq!(verdict(&base, 0, &[1], &[1, 2], 7), "WeightVecNotEqualSize");
        // Before the rate limit, as it was measured on a real runtime.
        assert_eq!(verdict(&base, 77, &[0, 1, 2, 3, 4], &[1; 5], 7), "UidsLengthExceedUidsInSubNet");
        assert_eq!(verdict(&base, 77, &[1, 2], &[1, 1], 0), "HotKeyNotRegisteredInSubNet");
        assert_eq!(verdict(&base, 1, &[1, 2], &[65535, 1], 6), "IncorrectWeightVersionKey");
        let any_key = WeightRules { version_key: 0, ..rules() };
        assert_eq!(verdict(&any_key, 0, &[1, 2], &[65535, 1], 0), "ok");
        let slow = WeightRules { rate_limit_blocks: 102, ..rules() };
        assert_eq!(verdict(&slow, 0, &[1, 1], &[65535, 1], 7), "SettingWeightsTooFast");
        assert_eq!(verdict(&WeightRules { rate_limit_blocks: 101, ..rules() }, 0, &[1, 2], &[65535, 1], 7), "ok");
        assert_eq!(verdict(&base, 1, &[1, 1], &[65535, 1], 7), "NeuronNoValidatorPermit");
        // The owner's hotkey needs no permit; neither does a vector on oneself alone.
        assert_eq!(verdict(&base, 3, &[1, 2], &[65535, 1], 7), "ok");
        assert_eq!(verdict(&base, 1, &[1], &[5], 7), "ok");
        assert_eq!(verdict(&base, 0, &[1, 1], &[65535, 1], 7), "DuplicateUids");
        assert_eq!(verdict(&base, 0, &[1, 4], &[65535, 1], 7), "UidVecContainInvalidOne");
        assert_eq!(verdict(&base, 0, &[1], &[65535], 7), "WeightVecLengthIsLow");
        assert_eq!(verdict(&base, 0, &[1, 2], &[9, 1], 7), "WeightsNotUpscaled");
        let capped = WeightRules { max_limit: 32767, ..rules() };
        assert_eq!(verdict(&capped, 0, &[1, 2], &[65535, 65535], 7), "MaxWeightExceeded");
        assert_eq!(verdict(&WeightRules { max_limit: 32768, ..rules() }, 0, &[1, 2], &[65535, 65535], 7), "ok");
        let hidden = WeightRules { commit_reveal: true, ..rules() };
        let refusal = preflight(&metagraph(), &hidden, &Hotkey([0; 32]), &[1, 2], &[65535, 1], 7, 1001).unwrap_err();
        assert_eq!(refusal.fault().code, "chain_commit_reveal_on");
    }

    #[test]
    fn a_needed_length_is_never_more_than_the_subnet_has() {
        let many = WeightRules { min_allowed: 1024, ..rules() };
        assert_eq!(verdict(&many, 0, &[0, 1, 2, 3], &[0, 65535, 0, 0], 7), "ok");
        assert_eq!(verdict(&many, 0, &[0, 1, 2], &[0, 65535, 0], 7), "WeightVecLengthIsLow");
    }

    #[test]
    fn refusals_say_whether_waiting_helps() {
        let refusal = |name| Refusal { name, detail: String::new() };
        assert!(refusal("SettingWeightsTooFast").is_retried());
        assert!(!refusal("NeuronNoValidatorPermit").is_retried());
        assert_eq!(refusal("WeightsNotUpscaled").fault().class, Class::Bug);
    }

    #[test]
    fn the_schedule_is_state_not_a_modulus() {
        assert_eq!((rules().next_epoch_block(), rules().blocks_until_epoch()), (Some(1260), Some(260)));
        assert_eq!(WeightRules { pending_epoch_block: 1010, ..rules() }.next_epoch_block(), Some(1010));
        assert_eq!(WeightRules { tempo_blocks: 0, ..rules() }.next_epoch_block(), None);
        assert_eq!(WeightRules { blocks_since_step: 50_390, ..rules() }.next_epoch_block(), Some(1010));
        // Deferred: due already, so the next block may run it.
        assert_eq!(WeightRules { last_epoch_block: 1, ..rules() }.next_epoch_block(), Some(1001));
        assert_eq!((rules().next_set_block(900), rules().next_set_block(0)), (1001, 0));
    }

    #[test]
    fn a_read_back_is_exact() {
        assert_eq!(read_back(&[(1, 5), (2, 0)], &[(2, 0), (1, 5)]), ReadBack::Equal);
        assert_eq!(
            read_back(&[(1, 5), (2, 0)], &[(1, 6), (3, 1)]),
            ReadBack::Different { differences: vec![(1, Some(5), Some(6)), (2, Some(0), None), (3, None, Some(1))] }
        );
        assert_ne!(read_back(&[(1, 5)], &[(1, 5), (1, 5)]), ReadBack::Equal);
        assert_ne!(read_back(&[(1, 5)], &[]), ReadBack::Equal);
    }
}

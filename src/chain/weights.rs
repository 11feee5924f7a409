//! Setting weights: the chain's rules as a pure function, and whether what was set is what stands.
//!
//! Owns the pre-flight of the chain's checks, in the chain's order and with the chain's names, and which of the ways
//! to set weights a subnet takes. Refuses to know how weights were computed. The weight setter calls it just before
//! signing.

use serde::{Deserialize, Serialize};

use super::{
    Account, Validator, codes,
    timelock::{STEP_BLOCKS_MAX, Schedule},
    validator::CommitForm,
};
use crate::fault::{Class, Fault};

/// The most commits of one hotkey that wait: by hash at any time, timelocked in one epoch.
const OPEN_COMMITS: usize = 10;
/// The version of commit-reveal in which the chain opens weights by itself.
pub const TIMELOCK_VERSION: u16 = 4;
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
    /// How many mechanisms there are; 0 is the first.
    pub mechanisms: u8,
    /// The version of commit-reveal that the chain takes.
    pub commit_version: u16,
    /// Epochs after which committed weights are revealed.
    pub reveal_period_epochs: u64,
    /// How many epochs have run.
    pub epoch_index: u64,
    /// Whether the runtime opens committed weights by itself.
    pub has_timelock: bool,
}

/// How weights reach the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// At once and for everybody to see.
    Plain,
    /// Sealed; the chain opens them in a later epoch.
    Timelocked,
    /// By their hash; whoever committed reveals them in a later epoch.
    Hash,
}

impl Way {
    /// The word by which it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Timelocked => "timelocked",
            Self::Hash => "hash",
        }
    }
}

/// Which of the two hidden ways is wanted where weights are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hiding {
    /// The one that the chain's version of commit-reveal is made for.
    #[default]
    Auto,
    /// Sealed for the chain to open.
    Timelocked,
    /// By hash.
    Hash,
}

impl WeightRules {
    /// How weights are set in this subnet.
    #[must_use]
    pub const fn way(&self, hiding: Hiding) -> Way {
        match (self.commit_reveal, hiding) {
            (false, _) => Way::Plain,
            (true, Hiding::Timelocked) => Way::Timelocked,
            (true, Hiding::Hash) => Way::Hash,
            (true, Hiding::Auto) if self.has_timelock && self.commit_version == TIMELOCK_VERSION => Way::Timelocked,
            (true, Hiding::Auto) => Way::Hash,
        }
    }

    /// When epochs run, as the chain keeps it.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            tempo: u64::from(self.tempo_blocks),
            last_epoch_block: self.last_epoch_block,
            pending_epoch_at: self.pending_epoch_block,
            epoch_index: self.epoch_index,
            blocks_since_last_step: self.blocks_since_step,
        }
    }

    /// The epoch that a call in the next block belongs to: an epoch that is due there runs before it.
    #[must_use]
    pub fn next_call_epoch(&self) -> u64 {
        let runs_first = self.blocks_until_epoch() == Some(1);
        self.epoch_index.saturating_add(u64::from(runs_first))
    }

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
        if last_update == 0 {
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
        codes::code_of(self.name).because(self.to_string())
    }

    /// Whether waiting may help.
    #[must_use]
    pub fn is_retried(&self) -> bool {
        self.fault().class == Class::Infra
    }
}

/// Our name for a refusal that the chain does not make: it would store the weights and then ignore them.
pub(super) const COMMIT_REVEAL: &str = "CommitRevealEnabled";

fn refuse(name: &'static str, detail: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { name, detail: detail.into() })
}

/// Weights that somebody wants to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// How they would reach the chain.
    pub way: Way,
    /// Who is weighted.
    pub uids: &'a [u16],
    /// The weight of each, upscaled already (the largest is 65535, or all are zero), so that what is checked is what
    /// will be stored.
    pub weights: &'a [u16],
    /// The version that the validator claims to run.
    pub version_key: u64,
    /// The block in which they would be included.
    pub now: u64,
}

/// Checks weights exactly as the chain does, in its order: the transaction pool's guard, the commit where they are
/// hidden, then what they must look like. What is hidden is checked as it will be at its reveal, because there the
/// chain discards what it does not like without a word.
///
/// # Errors
/// The first rule that is broken, by the chain's name.
pub fn preflight(rules: &WeightRules, caller: &Validator, proposal: &Proposal<'_>) -> Result<(), Refusal> {
    if proposal.way == Way::Plain && rules.commit_reveal {
        return refuse(COMMIT_REVEAL, format!("subnet {} has commit-reveal on", rules.netuid));
    }
    let is_owner = rules.owner_hotkey == Some(caller.hotkey);
    if let Some(stake_rao) = caller.stake_rao.filter(|stake_rao| !is_owner && *stake_rao < rules.stake_threshold_rao) {
        let detail = format!("{stake_rao} rao, at least {}", rules.stake_threshold_rao);
        return refuse("NotEnoughStakeToSetWeights", detail);
    }
    if proposal.way != Way::Plain {
        check_commit(rules, caller, proposal)?;
    }
    check_shape(rules, caller, proposal)?;
    check_caller(rules, caller, proposal, is_owner)?;
    check_entries(rules, caller, proposal)
}

fn check_mechanism(rules: &WeightRules, caller: &Validator) -> Result<(), Refusal> {
    if caller.mechanism >= rules.mechanisms {
        return refuse("MechanismDoesNotExist", format!("mechanism {} of {}", caller.mechanism, rules.mechanisms));
    }
    Ok(())
}

fn check_commit(rules: &WeightRules, caller: &Validator, proposal: &Proposal<'_>) -> Result<(), Refusal> {
    check_mechanism(rules, caller)?;
    if !rules.commit_reveal {
        return refuse("CommitRevealDisabled", format!("subnet {}", rules.netuid));
    }
    if proposal.way == Way::Timelocked && rules.commit_version != TIMELOCK_VERSION {
        return refuse("IncorrectCommitRevealVersion", format!("{TIMELOCK_VERSION}, not {}", rules.commit_version));
    }
    if caller.uid.is_none() {
        return refuse("HotKeyNotRegisteredInSubNet", caller.hotkey.to_string());
    }
    check_rate(rules, caller, proposal.now, "CommittingWeightsTooFast")?;
    let epoch = rules.next_call_epoch();
    let is_open = |form: &CommitForm, of: u64| match (proposal.way, form) {
        (Way::Hash, CommitForm::Hash { .. }) => of.saturating_add(rules.reveal_period_epochs) >= epoch,
        (Way::Timelocked, CommitForm::Timelocked { .. }) => of == epoch,
        _ => false,
    };
    let open = caller.commits.iter().filter(|commit| is_open(&commit.form, commit.epoch)).count();
    if open >= OPEN_COMMITS {
        return refuse("TooManyUnrevealedCommits", format!("{open} wait to be revealed"));
    }
    Ok(())
}

fn check_shape(rules: &WeightRules, caller: &Validator, proposal: &Proposal<'_>) -> Result<(), Refusal> {
    let Proposal { uids, weights, .. } = *proposal;
    if rules.netuid == 0 {
        return refuse("CanNotSetRootNetworkWeights", "netuid 0");
    }
    if uids.len() != weights.len() {
        return refuse("WeightVecNotEqualSize", format!("{} uids, {} weights", uids.len(), weights.len()));
    }
    check_mechanism(rules, caller)?;
    if uids.len() > usize::from(rules.n) {
        return refuse("UidsLengthExceedUidsInSubNet", format!("{} uids, {} in the subnet", uids.len(), rules.n));
    }
    Ok(())
}

fn check_rate(rules: &WeightRules, caller: &Validator, now: u64, name: &'static str) -> Result<(), Refusal> {
    let since = now.saturating_sub(caller.last_update);
    if caller.last_update != 0 && since < rules.rate_limit_blocks {
        return refuse(name, format!("{since} blocks since the last, of {}", rules.rate_limit_blocks));
    }
    Ok(())
}

fn check_caller(
    rules: &WeightRules,
    caller: &Validator,
    proposal: &Proposal<'_>,
    is_owner: bool,
) -> Result<(), Refusal> {
    let Some(uid) = caller.uid else {
        return refuse("HotKeyNotRegisteredInSubNet", caller.hotkey.to_string());
    };
    let version_key = proposal.version_key;
    if rules.version_key != 0 && version_key < rules.version_key {
        return refuse("IncorrectWeightVersionKey", format!("{version_key}, at least {}", rules.version_key));
    }
    if proposal.way == Way::Plain {
        check_rate(rules, caller, proposal.now, "SettingWeightsTooFast")?;
    }
    if !is_self_weight(uid, proposal.uids) && !is_owner && !caller.permit {
        return refuse("NeuronNoValidatorPermit", format!("uid {uid}"));
    }
    Ok(())
}

fn check_entries(rules: &WeightRules, caller: &Validator, proposal: &Proposal<'_>) -> Result<(), Refusal> {
    let Proposal { uids, weights, .. } = *proposal;
    let mut sorted = uids.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse("DuplicateUids", format!("uid {} twice", pair[0]));
    }
    if let Some(beyond) = sorted.last().filter(|uid| **uid >= rules.n) {
        return refuse("UidVecContainInvalidOne", format!("uid {beyond} of {}", rules.n));
    }
    if caller.uid.is_some_and(|uid| is_self_weight(uid, uids)) {
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
        chain::OpenCommit,
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
            mechanisms: 2,
            commit_version: TIMELOCK_VERSION,
            reveal_period_epochs: 2,
            epoch_index: 8,
            has_timelock: true,
        }
    }

    /// Uid 0 has a permit; 0 to 3 are registered.
    fn caller(uid: u8) -> Validator {
        Validator {
            netuid: 2,
            mechanism: 0,
            hotkey: Hotkey([uid; 32]),
            uid: (uid < 4).then_some(u16::from(uid)),
            permit: uid == 0,
            last_update: 900,
            stake_rao: Some(50),
            row: Vec::new(),
            commits: Vec::new(),
        }
    }

    const fn plain<'a>(uids: &'a [u16], weights: &'a [u16], version_key: u64) -> Proposal<'a> {
        Proposal { way: Way::Plain, uids, weights, version_key, now: 1001 }
    }

    fn name(outcome: Result<(), Refusal>) -> &'static str {
        outcome.err().map_or("ok", |refusal| refusal.name)
    }

    /// The name of the first broken rule when the hotkey of `uid` sets these weights in block 1001.
    fn verdict(rules: &WeightRules, uid: u8, uids: &[u16], weights: &[u16], key: u64) -> &'static str {
        name(preflight(rules, &caller(uid), &plain(uids, weights, key)))
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
        let refusal = preflight(&hidden, &caller(0), &plain(&[1, 2], &[65535, 1], 7)).unwrap_err();
        assert_eq!(refusal.fault().code, "chain_commit_reveal_on");
        let dear = WeightRules { stake_threshold_rao: 51, ..rules() };
        assert_eq!(verdict(&dear, 0, &[1, 2], &[65535, 1], 7), "NotEnoughStakeToSetWeights");
        assert_eq!(verdict(&dear, 3, &[1, 2], &[65535, 1], 7), "ok", "the owner is exempt");
        assert_eq!(verdict(&WeightRules { stake_threshold_rao: 50, ..rules() }, 0, &[1, 2], &[65535, 1], 7), "ok");
        // What children and parents add is the chain's to count.
        let related = Validator { stake_rao: None, ..caller(0) };
        assert_eq!(name(preflight(&dear, &related, &plain(&[1, 2], &[65535, 1], 7))), "ok");
        let second = |mechanism| Validator { mechanism, ..caller(0) };
        assert_eq!(name(preflight(&rules(), &second(1), &plain(&[1, 2], &[65535, 1], 7))), "ok");
        assert_eq!(name(preflight(&rules(), &second(2), &plain(&[1, 2], &[65535, 1], 7))), "MechanismDoesNotExist");
    }

    /// Uid 0 with so many commits of one form in an epoch.
    fn with_commits(form: &CommitForm, epoch: u64, count: usize) -> Validator {
        let commit = OpenCommit { form: form.clone(), epoch, block: 990 };
        Validator { commits: vec![commit; count], ..caller(0) }
    }

    #[test]
    fn a_commit_has_rules_of_its_own_and_then_those_of_its_weights() {
        let hidden = WeightRules { commit_reveal: true, ..rules() };
        let check = |rules: &WeightRules, caller: &Validator, way| {
            name(preflight(rules, caller, &Proposal { way, ..plain(&[1, 2], &[65535, 1], 7) }))
        };
        for (way, other) in [(Way::Timelocked, Way::Hash), (Way::Hash, Way::Timelocked)] {
            assert_eq!(check(&hidden, &caller(0), way), "ok");
            assert_eq!(check(&rules(), &caller(0), way), "CommitRevealDisabled");
            assert_eq!(check(&hidden, &Validator { mechanism: 2, ..caller(0) }, way), "MechanismDoesNotExist");
            assert_eq!(check(&hidden, &caller(77), way), "HotKeyNotRegisteredInSubNet");
            assert_eq!(check(&hidden, &caller(1), way), "NeuronNoValidatorPermit", "at the reveal");
            let slow = WeightRules { rate_limit_blocks: 102, ..hidden.clone() };
            assert_eq!(check(&slow, &caller(0), way), "CommittingWeightsTooFast");
            assert_eq!(check(&WeightRules { rate_limit_blocks: 101, ..hidden.clone() }, &caller(0), way), "ok");
            let form = match way {
                Way::Hash => CommitForm::Hash { hash: Digest([1; 32]) },
                _ => CommitForm::Timelocked { round: 7 },
            };
            assert_eq!(check(&hidden, &with_commits(&form, 8, 10), way), "TooManyUnrevealedCommits");
            assert_eq!(check(&hidden, &with_commits(&form, 8, 9), way), "ok");
            assert_eq!(check(&hidden, &with_commits(&form, 5, 10), way), "ok", "they have expired");
            assert_eq!(check(&hidden, &with_commits(&form, 8, 10), other), "ok", "each form counts for itself");
        }
        // By hash, those of older epochs that can still be revealed are open too.
        let form = CommitForm::Hash { hash: Digest([1; 32]) };
        assert_eq!(check(&hidden, &with_commits(&form, 6, 10), Way::Hash), "TooManyUnrevealedCommits");
        let newer = WeightRules { commit_version: 5, ..hidden };
        assert_eq!(check(&newer, &caller(0), Way::Timelocked), "IncorrectCommitRevealVersion");
        assert_eq!(check(&newer, &caller(0), Way::Hash), "ok");
    }

    #[test]
    fn the_subnet_says_which_way_and_the_setting_which_hiding() {
        let hidden = WeightRules { commit_reveal: true, ..rules() };
        assert_eq!(rules().way(Hiding::Hash), Way::Plain);
        assert_eq!(hidden.way(Hiding::Auto), Way::Timelocked);
        assert_eq!(hidden.way(Hiding::Hash), Way::Hash);
        for old in [WeightRules { commit_version: 3, ..hidden.clone() }, WeightRules { has_timelock: false, ..hidden }]
        {
            assert_eq!((old.way(Hiding::Auto), old.way(Hiding::Timelocked)), (Way::Hash, Way::Timelocked));
        }
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
        let hidden = WeightRules { commit_reveal: true, ..rules() };
        assert_eq!(hidden.next_set_block(900), 1001, "a commit counts as well");
        assert_eq!(rules().next_call_epoch(), 8);
        assert_eq!(WeightRules { pending_epoch_block: 1001, ..rules() }.next_call_epoch(), 9);
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

//! Guards: what the chain refuses before a call is tried.
//!
//! Owns which checks come before which call, and the numbers by which the pool tells them. Refuses to know the checks
//! themselves. The pool uses it, and dispatch for calls within calls.

use super::{World, axons, commit_reveal, timelock, weights};
use crate::devnet::call::Call;

/// The error of the subtensor pallet by which a call is refused.
pub fn check(world: &World<'_>, signer: &[u8; 32], call: &Call) -> Result<(), &'static str> {
    let stake = |netuid: u16| weights::guard_stake(world, signer, netuid);
    let rate = |netuid: u16, mecid: u8, error| weights::guard_rate(world, signer, netuid, mecid).map_err(|()| error);
    match call {
        Call::SetWeights { netuid, mecid, .. } => {
            stake(*netuid)?;
            weights::guard_plain_rate(world, signer, *netuid, *mecid)
        }
        Call::BatchSetWeights(batch) => {
            even(batch.is_even())?;
            batch.netuids.iter().try_for_each(|netuid| stake(*netuid))
        }
        Call::CommitWeights(commit) => {
            stake(commit.netuid)?;
            rate(commit.netuid, commit.mecid, "CommittingWeightsTooFast")
        }
        Call::BatchCommitWeights { netuids, hashes } => {
            even(netuids.len() == hashes.len())?;
            netuids.iter().try_for_each(|netuid| stake(*netuid))
        }
        Call::RevealWeights(reveal) => {
            stake(reveal.netuid)?;
            commit_reveal::guard(world, signer, reveal.netuid, reveal.mecid, &reveal.shown)
        }
        Call::BatchRevealWeights(batch) => {
            even(batch.is_even())?;
            stake(batch.netuid)?;
            commit_reveal::guard_batch(world, signer, batch)
        }
        Call::CommitTimelocked(commit) => {
            stake(commit.netuid)?;
            timelock::guard(world, commit.round)
        }
        Call::ServeAxon(axon) => axons::guard(world, signer, axon),
        Call::ServePrometheus(given) => axons::guard_prometheus(world, signer, given),
        _ => Ok(()),
    }
}

const fn even(is_even: bool) -> Result<(), &'static str> {
    if is_even { Ok(()) } else { Err("InputLengthsUnequal") }
}

/// The number behind `Custom error` that stands for an error of the subtensor pallet.
pub fn number(error: &str) -> u8 {
    const ANYTHING_ELSE: u8 = 255;
    match error {
        "NotEnoughStakeToSetWeights" | "AmountTooLow" => 1,
        "NotEnoughBalanceToStake" => 2,
        "SubnetNotExists" => 3,
        "HotKeyAccountNotExists" => 4,
        "NotEnoughStakeToWithdraw" => 5,
        "CommittingWeightsTooFast" | "SettingWeightsTooFast" | "NetworkTxRateLimitExceeded" => 6,
        "HotKeyNotRegisteredInNetwork" => 10,
        "InvalidIpAddress" => 11,
        "ServingRateLimitExceeded" => 12,
        "InvalidPort" => 13,
        "InvalidRevealRound" => 15,
        "NoWeightsCommitFound" => 16,
        "RevealTooEarly" => 17,
        "InputLengthsUnequal" => 18,
        "HotKeyNotRegisteredInSubNet" => 19,
        "NonAssociatedColdKey" => 25,
        _ => ANYTHING_ELSE,
    }
}

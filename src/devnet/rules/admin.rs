//! Hyperparameters: which exist, where they lie, who may set them.
//!
//! Owns one table for the `AdminUtils` setters and for the control of the same purpose. Refuses to know what a
//! hyperparameter does. Decoding, dispatch and the controls use it. Simplified: no rate limit on owners and no freeze
//! window before an epoch.

use super::{Done, Failure, Origin, World, subnets};
use crate::devnet::{datum::Datum, items::Item, runtime::Runtime, state::key};

/// One hyperparameter of a subnet.
#[derive(Debug, PartialEq, Eq)]
pub struct Setter {
    /// The name without `sudo_set_`.
    pub name: &'static str,
    /// Where the value lies, under the netuid.
    pub item: Item,
    /// Whether the subnet's owner may set it, not only the root.
    pub owner: bool,
}

/// Every hyperparameter that can be set. Its call's argument has the very type of the stored value (a test checks).
pub const SETTERS: &[Setter] = &[
    Setter { name: "serving_rate_limit", item: Item::ServingRateLimit, owner: true },
    Setter { name: "min_difficulty", item: Item::MinDifficulty, owner: false },
    Setter { name: "max_difficulty", item: Item::MaxDifficulty, owner: true },
    Setter { name: "weights_version_key", item: Item::WeightsVersionKey, owner: true },
    Setter { name: "weights_set_rate_limit", item: Item::WeightsSetRateLimit, owner: false },
    Setter { name: "adjustment_interval", item: Item::AdjustmentInterval, owner: false },
    Setter { name: "adjustment_alpha", item: Item::AdjustmentAlpha, owner: true },
    Setter { name: "immunity_period", item: Item::ImmunityPeriod, owner: true },
    Setter { name: "min_allowed_weights", item: Item::MinAllowedWeights, owner: true },
    Setter { name: "max_allowed_uids", item: Item::MaxAllowedUids, owner: true },
    Setter { name: "kappa", item: Item::Kappa, owner: false },
    Setter { name: "rho", item: Item::Rho, owner: true },
    Setter { name: "activity_cutoff_factor", item: Item::ActivityCutoffFactor, owner: true },
    Setter { name: "network_registration_allowed", item: Item::RegistrationAllowed, owner: false },
    Setter { name: "network_pow_registration_allowed", item: Item::PowRegistrationAllowed, owner: true },
    Setter { name: "target_registrations_per_interval", item: Item::TargetRegistrations, owner: false },
    Setter { name: "min_burn", item: Item::MinBurn, owner: true },
    Setter { name: "max_burn", item: Item::MaxBurn, owner: true },
    Setter { name: "difficulty", item: Item::Difficulty, owner: false },
    Setter { name: "max_allowed_validators", item: Item::MaxAllowedValidators, owner: false },
    Setter { name: "bonds_moving_average", item: Item::BondsMovingAverage, owner: true },
    Setter { name: "max_registrations_per_block", item: Item::MaxRegistrationsPerBlock, owner: false },
    Setter { name: "tempo", item: Item::Tempo, owner: false },
    Setter { name: "commit_reveal_weights_enabled", item: Item::CommitRevealEnabled, owner: true },
    Setter { name: "commit_reveal_weights_interval", item: Item::RevealPeriodEpochs, owner: true },
    Setter { name: "liquid_alpha_enabled", item: Item::LiquidAlpha, owner: true },
    Setter { name: "toggle_transfer", item: Item::TransferToggle, owner: true },
    Setter { name: "yuma3_enabled", item: Item::Yuma3, owner: true },
    Setter { name: "bonds_reset_enabled", item: Item::BondsReset, owner: true },
    Setter { name: "sn_owner_hotkey", item: Item::SubnetOwnerHotkey, owner: true },
    Setter { name: "owner_immune_neuron_limit", item: Item::ImmuneOwnerUids, owner: true },
    Setter { name: "min_allowed_uids", item: Item::MinAllowedUids, owner: false },
    Setter { name: "min_non_immune_uids", item: Item::MinNonImmuneUids, owner: false },
    Setter { name: "burn_half_life", item: Item::BurnHalfLife, owner: true },
    Setter { name: "burn_increase_mult", item: Item::BurnIncreaseMult, owner: true },
    Setter { name: "mechanism_count", item: Item::MechanismCount, owner: true },
];

/// Hyperparameters that only the control can set: the runtime has no setter for them, or has dropped it.
const CONTROLLED: &[Setter] = &[
    Setter { name: "burn", item: Item::Burn, owner: false },
    Setter { name: "max_weights_limit", item: Item::MaxWeightsLimit, owner: false },
    Setter { name: "pending_epoch_at", item: Item::PendingEpochAt, owner: false },
];

/// The setter behind a call's name.
pub fn setter(call: &str) -> Option<&'static Setter> {
    let name = call.strip_prefix("sudo_set_")?;
    SETTERS.iter().find(|setter| setter.name == name)
}

/// Sets a hyperparameter by a call.
pub fn set(world: &mut World<'_>, origin: Origin, setter: &Setter, netuid: u16, value: &[u8]) -> Done {
    if let Some(signer) = origin.account() {
        let owner: Option<[u8; 32]> = world.state.find(Item::SubnetOwner, key![netuid]);
        if !setter.owner || owner != Some(signer) {
            return Err(Failure::BadOrigin);
        }
    }
    if !subnets::exists(&world.state, netuid) {
        return Err(Failure::Module("AdminUtils", "SubnetDoesNotExist"));
    }
    if setter.item == Item::RevealPeriodEpochs {
        check_reveal_period(value)?;
    }
    let storage_key = world.state.key(setter.item, key![netuid]);
    world.state.put_raw(storage_key, Some(value.into()));
    Ok(())
}

/// Weights are revealed one to a hundred epochs after their commit.
fn check_reveal_period(value: &[u8]) -> Done {
    const EPOCHS_MAX: u64 = 100;
    match value.try_into().map(u64::from_le_bytes) {
        Ok(0) => Err(Failure::subtensor("RevealPeriodTooSmall")),
        Ok(1..=EPOCHS_MAX) => Ok(()),
        _ => Err(Failure::subtensor("RevealPeriodTooLarge")),
    }
}

/// Sets a hyperparameter by its name, as the control does.
pub fn control(world: &mut World<'_>, netuid: u16, name: &str, value: &serde_json::Value) -> Result<(), String> {
    let setter = SETTERS.iter().chain(CONTROLLED).find(|setter| setter.name == name);
    let setter = setter.ok_or_else(|| {
        let names: Vec<_> = SETTERS.iter().chain(CONTROLLED).map(|setter| setter.name).collect();
        format!("there is no such hyperparameter; there are {}", names.join(", "))
    })?;
    if !subnets::exists(&world.state, netuid) {
        return Err(format!("there is no subnet {netuid}"));
    }
    let encoded =
        encode(world.state.runtime(), setter.item, value).ok_or("the value does not fit the hyperparameter")?;
    let storage_key = world.state.key(setter.item, key![netuid]);
    world.state.put_raw(storage_key, Some(encoded.into()));
    Ok(())
}

fn encode(runtime: &Runtime, item: Item, value: &serde_json::Value) -> Option<Vec<u8>> {
    use scale_encode::EncodeAsType as _;
    let datum = match value {
        serde_json::Value::Bool(value) => Datum::Bool(*value),
        serde_json::Value::Number(value) => Datum::Num(value.as_u64()?.into()),
        serde_json::Value::String(text) => Datum::Bytes(text.parse::<crate::ids::Hotkey>().ok()?.0.to_vec()),
        _ => return None,
    };
    datum.encode_as_type(runtime.entry(item).value, runtime.types()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setter_is_a_call_whose_argument_is_the_stored_type() {
        let runtime = Runtime::embedded().unwrap();
        const ADMIN_UTILS: u8 = 19;
        let calls: Vec<_> =
            (0..=255).filter_map(|index| runtime.call(ADMIN_UTILS, index)).map(|(_, call)| call).collect();
        for setter in SETTERS {
            let name = format!("sudo_set_{}", setter.name);
            let call = calls.iter().find(|call| call.name == name).unwrap_or_else(|| panic!("{name}"));
            let types: Vec<_> = call.fields.iter().map(|field| field.ty.id).collect();
            let stored = runtime.entry(setter.item);
            assert_eq!(types, [stored.keys[0].1, stored.value], "{name}");
        }
    }
}

//! `SubnetInfoRuntimeApi`: subnets from several sides, all of them the same facts by the same names.
//!
//! Owns these answers. Refuses to know how facts come about. The table of APIs uses it.

use std::collections::BTreeSet;

use parity_scale_codec::Decode as _;

use super::{Query, filled, neurons};
use crate::devnet::{
    datum::Datum,
    items::Item,
    rules::{epochs, subnets, weights::storage_index},
    state::{State, key},
};

/// The answer to one of this API's methods; see [`super::answer`].
pub fn answer(query: &Query<'_>, method: &str, arguments: &[u8], output: u32) -> Option<Option<Datum>> {
    let inner = query.state.runtime().inner(output);
    let mut rest = arguments;
    match method.strip_prefix("SubnetInfoRuntimeApi_")? {
        "get_subnet_info"
        | "get_subnet_info_v2"
        | "get_subnet_hyperparams"
        | "get_subnet_hyperparams_v2"
        | "get_metagraph"
        | "get_dynamic_info"
        | "get_subnet_state" => Some(super::netuid(arguments).map(|netuid| optional(query, netuid, 0, inner))),
        "get_mechagraph" => {
            let given = <(u16, u8)>::decode(&mut rest).ok();
            Some(given.map(|(netuid, mecid)| optional(query, netuid, mecid, inner)))
        }
        "get_subnets_info" | "get_subnets_info_v2" | "get_all_metagraphs" | "get_all_dynamic_info" => {
            let one = query.state.runtime().inner(inner);
            let all = subnets::all(&query.state);
            Some(Some(Datum::List(all.into_iter().map(|netuid| optional(query, netuid, 0, one)).collect())))
        }
        "get_all_mechagraphs" => {
            let one = query.state.runtime().inner(inner);
            let all = subnets::all(&query.state).into_iter();
            let of = |netuid| (0..subnets::mechanisms(&query.state, netuid)).map(move |mecid| (netuid, mecid));
            let all = all.flat_map(of);
            Some(Some(Datum::List(all.map(|(netuid, mecid)| optional(query, netuid, mecid, one)).collect())))
        }
        "get_selective_metagraph" => {
            let given = <(u16, Vec<u16>)>::decode(&mut rest).ok();
            Some(given.map(|(netuid, wanted)| selective(query, netuid, 0, &wanted, inner)))
        }
        "get_selective_mechagraph" => {
            let given = <(u16, u8, Vec<u16>)>::decode(&mut rest).ok();
            Some(given.map(|(netuid, mecid, wanted)| selective(query, netuid, mecid, &wanted, inner)))
        }
        "get_subnet_hyperparams_v3" => Some(super::netuid(arguments).map(|netuid| {
            let known = subnets::exists(&query.state, netuid);
            Datum::option(known.then(|| hyperparameters(query, netuid)))
        })),
        "get_subnet_to_prune" | "get_coldkey_auto_stake_hotkey" => Some(Some(Datum::option(None))),
        "get_block_emission" => Some(Some(Datum::Num(query.state.get::<u64>(Item::BlockEmission, &[]).into()))),
        _ => None,
    }
}

/// A structure about a mechanism of a subnet, or none.
fn optional(query: &Query<'_>, netuid: u16, mecid: u8, id: u32) -> Datum {
    let known = subnets::has_mechanism(&query.state, netuid, mecid);
    Datum::option(known.then(|| {
        let is_dynamic_info = query.state.runtime().type_name(id) == "DynamicInfo";
        filled(query, id, |name| match name {
            // There it is the sum of a subnet, everywhere else the list by neuron.
            "emission" if is_dynamic_info => None,
            _ => fact(query, netuid, mecid, name),
        })
    }))
}

/// The structure in which only the asked for fields are there, by their position.
fn selective(query: &Query<'_>, netuid: u16, mecid: u8, wanted: &[u16], id: u32) -> Datum {
    if !subnets::has_mechanism(&query.state, netuid, mecid) {
        return Datum::option(None);
    }
    let runtime = query.state.runtime();
    let wanted: BTreeSet<usize> = wanted.iter().map(|index| usize::from(*index)).collect();
    let mut bytes = Vec::new();
    for (position, (name, field)) in runtime.fields(id).into_iter().enumerate() {
        if name == "netuid" {
            bytes.extend(runtime.encode(&Datum::Num(netuid.into()), field));
        } else if wanted.contains(&position) {
            let value = fact(query, netuid, mecid, &name);
            let value = value.unwrap_or_else(|| Datum::Encoded(runtime.zero(runtime.inner(field))));
            bytes.extend(runtime.encode(&Datum::option(Some(value)), field));
        } else {
            bytes.extend(runtime.encode(&Datum::option(None), field));
        }
    }
    Datum::option(Some(Datum::Encoded(bytes)))
}

/// The hyperparameters that the newest form of the answer lists, in the chain's order, with the kind of each.
const HYPERPARAMETERS: [(&str, &str); 33] = [
    ("kappa", "U16"),
    ("immunity_period", "U16"),
    ("min_allowed_weights", "U16"),
    ("max_weights_limit", "U16"),
    ("tempo", "U16"),
    ("weights_version", "U64"),
    ("weights_rate_limit", "U64"),
    ("activity_cutoff", "U64"),
    ("activity_cutoff_factor", "U32"),
    ("registration_allowed", "Bool"),
    ("target_regs_per_interval", "U16"),
    ("min_burn", "TaoBalance"),
    ("max_burn", "TaoBalance"),
    ("burn_half_life", "U16"),
    ("burn_increase_mult", "U64F64"),
    ("bonds_moving_avg", "U64"),
    ("max_regs_per_block", "U16"),
    ("serving_rate_limit", "U64"),
    ("max_validators", "U16"),
    ("commit_reveal_period", "U64"),
    ("commit_reveal_weights_enabled", "Bool"),
    ("alpha_high", "U16"),
    ("alpha_low", "U16"),
    ("liquid_alpha_enabled", "Bool"),
    ("alpha_sigmoid_steepness", "I32F32"),
    ("yuma_version", "U16"),
    ("subnet_is_active", "Bool"),
    ("transfers_enabled", "Bool"),
    ("bonds_reset_enabled", "Bool"),
    ("user_liquidity_enabled", "Bool"),
    ("owner_cut_enabled", "Bool"),
    ("owner_cut_auto_lock_enabled", "Bool"),
    ("min_childkey_take", "U16"),
];

/// Every hyperparameter by its name.
fn hyperparameters(query: &Query<'_>, netuid: u16) -> Datum {
    let entry = |(name, kind): (&str, &str)| {
        let value = fact(query, netuid, 0, name)?;
        let name = Datum::Bytes(name.as_bytes().to_vec());
        Some(Datum::Struct(vec![("name", name), ("value", Datum::tuple(kind, vec![value]))]))
    };
    Datum::List(HYPERPARAMETERS.into_iter().filter_map(entry).collect())
}

/// The stored bytes of an item under a netuid, or those of its default.
fn encoded(state: &State<'_>, item: Item, netuid: u16) -> Datum {
    let stored = state.raw(&state.key(item, key![netuid])).map(|value| value.to_vec());
    let default = || state.runtime().entry(item).default.clone().unwrap_or_default();
    Datum::Encoded(stored.unwrap_or_else(default))
}

/// A fact about a subnet by its name; nothing for names that are always zero or empty here.
fn fact(query: &Query<'_>, netuid: u16, mecid: u8, name: &str) -> Option<Datum> {
    let state = &query.state;
    number_item(name)
        .map(|item| Datum::Num(state.get::<u128>(item, key![netuid])))
        .or_else(|| flag_item(name).map(|item| Datum::Bool(state.get(item, key![netuid]))))
        .or_else(|| derived(query, netuid, name))
        .or_else(|| vector(state, netuid, storage_index(netuid, mecid), name))
}

/// Facts that are one stored number.
fn number_item(name: &str) -> Option<Item> {
    Some(match name {
        "rho" => Item::Rho,
        "kappa" => Item::Kappa,
        "difficulty" => Item::Difficulty,
        "immunity_period" => Item::ImmunityPeriod,
        "max_allowed_validators" | "max_validators" => Item::MaxAllowedValidators,
        "min_allowed_weights" => Item::MinAllowedWeights,
        "max_weights_limit" => Item::MaxWeightsLimit,
        "scaling_law_power" => Item::ScalingLawPower,
        "subnetwork_n" | "num_uids" => Item::SubnetworkN,
        "max_allowed_uids" | "max_uids" => Item::MaxAllowedUids,
        "blocks_since_last_step" => Item::BlocksSinceLastStep,
        "tempo" => Item::Tempo,
        "burn" => Item::Burn,
        "min_difficulty" => Item::MinDifficulty,
        "max_difficulty" => Item::MaxDifficulty,
        "weights_version" => Item::WeightsVersionKey,
        "weights_rate_limit" => Item::WeightsSetRateLimit,
        "adjustment_interval" => Item::AdjustmentInterval,
        "adjustment_alpha" => Item::AdjustmentAlpha,
        "target_regs_per_interval" => Item::TargetRegistrations,
        "min_burn" => Item::MinBurn,
        "max_burn" => Item::MaxBurn,
        "bonds_moving_avg" => Item::BondsMovingAverage,
        "max_regs_per_block" => Item::MaxRegistrationsPerBlock,
        "serving_rate_limit" => Item::ServingRateLimit,
        "commit_reveal_period" => Item::RevealPeriodEpochs,
        "activity_cutoff_factor" => Item::ActivityCutoffFactor,
        "burn_half_life" => Item::BurnHalfLife,
        "network_registered_at" => Item::NetworkRegisteredAt,
        "last_step" => Item::LastStepBlock,
        "alpha_in" => Item::SubnetAlphaIn,
        "alpha_out" => Item::SubnetAlphaOut,
        "tao_in" => Item::SubnetTao,
        "alpha_out_emission" => Item::AlphaOutEmission,
        "alpha_in_emission" => Item::AlphaInEmission,
        "tao_in_emission" => Item::TaoInEmission,
        "subnet_volume" => Item::SubnetVolume,
        _ => return None,
    })
}

/// Facts that are one stored truth value.
fn flag_item(name: &str) -> Option<Item> {
    Some(match name {
        "registration_allowed" => Item::RegistrationAllowed,
        "pow_registration_allowed" => Item::PowRegistrationAllowed,
        "commit_reveal_weights_enabled" => Item::CommitRevealEnabled,
        "liquid_alpha_enabled" => Item::LiquidAlpha,
        "transfers_enabled" => Item::TransferToggle,
        "bonds_reset_enabled" => Item::BondsReset,
        "subnet_is_active" => Item::SubtokenEnabled,
        "owner_cut_enabled" => Item::OwnerCutEnabled,
        "owner_cut_auto_lock_enabled" => Item::OwnerCutAutoLock,
        _ => return None,
    })
}

/// Facts that come from more than one stored value, or are stored otherwise.
fn derived(query: &Query<'_>, netuid: u16, name: &str) -> Option<Datum> {
    let state = &query.state;
    Some(match name {
        "netuid" => Datum::Num(netuid.into()),
        "block" => Datum::Num(query.block.into()),
        "name" | "subnet_name" => text(format!("devnet {netuid}").as_bytes()),
        "symbol" | "token_symbol" => text(&state.get::<Vec<u8>>(Item::TokenSymbol, key![netuid])),
        "identity" | "subnet_identity" => {
            let stored = state.raw(&state.key(Item::SubnetIdentity, key![netuid]))?;
            Datum::option(Some(Datum::Encoded(stored.to_vec())))
        }
        "owner" | "owner_coldkey" => Datum::account(&state.find::<[u8; 32]>(Item::SubnetOwner, key![netuid])?),
        "owner_hotkey" => Datum::account(&state.find::<[u8; 32]>(Item::SubnetOwnerHotkey, key![netuid])?),
        "network_modality" => Datum::Num(0),
        "activity_cutoff" => Datum::Num(epochs::activity_cutoff(state, netuid).into()),
        "alpha_low" => Datum::Num(state.get::<(u16, u16)>(Item::AlphaValues, key![netuid]).0.into()),
        "alpha_high" => Datum::Num(state.get::<(u16, u16)>(Item::AlphaValues, key![netuid]).1.into()),
        "alpha_sigmoid_steepness" => {
            const FRACTION_BITS: u32 = 32;
            let whole: i16 = state.get(Item::AlphaSteepness, key![netuid]);
            Datum::Num(u128::try_from(whole).unwrap_or(0) << FRACTION_BITS)
        }
        "yuma_version" => Datum::Num(if state.get::<bool>(Item::Yuma3, key![netuid]) { 3 } else { 2 }),
        "burn_increase_mult" => encoded(state, Item::BurnIncreaseMult, netuid),
        // The chain answers this one by itself.
        "user_liquidity_enabled" => Datum::Bool(false),
        "min_childkey_take" => {
            let everywhere: u16 = state.get(Item::MinChildkeyTake, &[]);
            let here: u16 = state.get(Item::MinChildkeyTakePerSubnet, key![netuid]);
            Datum::Num(everywhere.max(here).into())
        }
        "moving_price" => encoded(state, Item::MovingPrice, netuid),
        _ => return None,
    })
}

/// Text as a list of compact bytes, which is how these structures carry it.
fn text(bytes: &[u8]) -> Datum {
    Datum::numbers(bytes.iter().copied())
}

/// Facts with one place per neuron.
fn vector(state: &State<'_>, netuid: u16, index: u16, name: &str) -> Option<Datum> {
    let size = subnets::size(state, netuid);
    let each = |fact: &dyn Fn(u16) -> Datum| Datum::List((0..size).map(fact).collect());
    let hotkeys = subnets::hotkeys(state, netuid);
    let hotkey = |uid: u16| hotkeys[usize::from(uid)];
    let numbers = |item, index: u16| {
        let values: Vec<u64> = state.get(item, key![index]);
        each(&|uid| Datum::Num(values.get(usize::from(uid)).copied().unwrap_or(0).into()))
    };
    let flags = |item| {
        let values: Vec<bool> = state.get(item, key![netuid]);
        each(&|uid| Datum::Bool(values.get(usize::from(uid)).copied().unwrap_or(false)))
    };
    let nothing_for_each = || each(&|uid| Datum::Tuple(vec![Datum::account(&hotkey(uid)), Datum::Num(0)]));
    Some(match name {
        "hotkeys" => each(&|uid| Datum::account(&hotkey(uid))),
        "coldkeys" => each(&|uid| Datum::account(&state.get(Item::Owner, key![&hotkey(uid)]))),
        "identities" => each(&|_uid| Datum::option(None)),
        "axons" => {
            let axon = state.runtime().entry(Item::Axons).value;
            let none = state.runtime().zero(axon);
            let of = |uid| neurons::stored(state, Item::Axons, netuid, &hotkey(uid));
            each(&|uid| of(uid).unwrap_or_else(|| Datum::Encoded(none.clone())))
        }
        "active" => flags(Item::Active),
        "validator_permit" => flags(Item::ValidatorPermit),
        "last_update" => numbers(Item::LastUpdate, index),
        "incentives" => numbers(Item::Incentive, index),
        "emission" => numbers(Item::Emission, netuid),
        "dividends" => numbers(Item::Dividends, netuid),
        "consensus" => numbers(Item::Consensus, netuid),
        "pruning_score" | "trust" | "rank" | "collateral_locked" | "collateral_min" | "collateral_earned" => {
            each(&|_uid| Datum::Num(0))
        }
        "block_at_registration" => {
            each(&|uid| Datum::Num(state.get::<u64>(Item::BlockAtRegistration, key![netuid, uid]).into()))
        }
        "alpha_stake" => {
            each(&|uid| Datum::Num(state.get::<u64>(Item::TotalHotkeyAlpha, key![&hotkey(uid), netuid]).into()))
        }
        "tao_stake" => each(&|uid| Datum::Num(subnets::root_stake(state, &hotkey(uid)).into())),
        "total_stake" => each(&|uid| Datum::Num(subnets::stake(state, netuid, &hotkey(uid)).into())),
        "tao_dividends_per_hotkey" | "alpha_dividends_per_hotkey" => nothing_for_each(),
        "validators" => {
            let permits: Vec<bool> = state.get(Item::ValidatorPermit, key![netuid]);
            Datum::numbers((0..size).zip(permits).filter(|(_, permit)| *permit).map(|(uid, _)| uid))
        }
        _ => return None,
    })
}

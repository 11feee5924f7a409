//! `StakeInfoRuntimeApi` and `SwapRuntimeApi`: who has staked what, and what alpha costs.
//!
//! Owns these answers. Refuses to know how stake is moved. The table of APIs uses it. Simplified: alpha costs one TAO.

use parity_scale_codec::Decode as _;

use super::{Query, filled};
use crate::devnet::{
    datum::Datum,
    items::Item,
    rules::{stake, subnets},
    state::key,
};

/// The answer to one of these APIs' methods; see [`super::answer`].
pub fn answer(query: &Query<'_>, method: &str, arguments: &[u8], output: u32) -> Option<Option<Datum>> {
    let runtime = query.state.runtime();
    let mut rest = arguments;
    match method {
        "StakeInfoRuntimeApi_get_stake_info_for_coldkey" => {
            let coldkey = <[u8; 32]>::decode(&mut rest).ok();
            Some(coldkey.map(|coldkey| Datum::List(of_coldkey(query, &coldkey, runtime.inner(output)))))
        }
        "StakeInfoRuntimeApi_get_stake_info_for_coldkeys" => {
            let coldkeys = Vec::<[u8; 32]>::decode(&mut rest).ok();
            // The answer pairs each coldkey with its list, whose element type stands behind the tuple.
            let (_, single) = runtime.api("StakeInfoRuntimeApi_get_stake_info_for_coldkey")?;
            let one = |coldkey: &[u8; 32]| {
                let stakes = of_coldkey(query, coldkey, runtime.inner(single));
                Datum::Tuple(vec![Datum::account(coldkey), Datum::List(stakes)])
            };
            Some(coldkeys.map(|coldkeys| Datum::List(coldkeys.iter().map(one).collect())))
        }
        "StakeInfoRuntimeApi_get_stake_info_for_hotkey_coldkey_netuid" => {
            let given = <([u8; 32], [u8; 32], u16)>::decode(&mut rest).ok();
            Some(given.map(|(hotkey, coldkey, netuid)| {
                Datum::option(Some(one(query, &hotkey, &coldkey, netuid, runtime.inner(output))))
            }))
        }
        "SwapRuntimeApi_current_alpha_price" => Some(Some(Datum::Num(stake::PRICE_RAO.into()))),
        "SwapRuntimeApi_current_alpha_price_all" => {
            let price = |netuid: u16| {
                Datum::Struct(vec![
                    ("netuid", Datum::Num(netuid.into())),
                    ("price", Datum::Num(stake::PRICE_RAO.into())),
                ])
            };
            Some(Some(Datum::List(subnets::all(&query.state).into_iter().map(price).collect())))
        }
        // Neither the price moves with the amount, nor does a pool take a fee.
        "SwapRuntimeApi_sim_swap_tao_for_alpha" | "SwapRuntimeApi_sim_swap_alpha_for_tao" => {
            let given = <(u16, u64)>::decode(&mut rest).ok();
            Some(given.map(|(_netuid, amount)| {
                filled(query, output, |name| match name {
                    "tao_amount" | "alpha_amount" => Some(Datum::Num(amount.into())),
                    _ => None,
                })
            }))
        }
        "StakeInfoRuntimeApi_get_stake_fee" => Some(Some(Datum::Num(0))),
        // Nothing is ever locked here.
        "StakeInfoRuntimeApi_get_coldkey_lock" | "StakeInfoRuntimeApi_get_most_convicted_hotkey_on_subnet" => {
            Some(Some(Datum::option(None)))
        }
        "StakeInfoRuntimeApi_get_hotkey_conviction" => Some(Some(Datum::Encoded(runtime.zero(output)))),
        _ => None,
    }
}

/// Every stake of a coldkey that is not zero.
fn of_coldkey(query: &Query<'_>, coldkey: &[u8; 32], id: u32) -> Vec<Datum> {
    let state = &query.state;
    let hotkeys: Vec<[u8; 32]> = state.get(Item::StakingHotkeys, key![coldkey]);
    let mut stakes = Vec::new();
    for hotkey in hotkeys {
        for netuid in subnets::all(state) {
            if stake::of(state, &hotkey, coldkey, netuid) > 0 {
                stakes.push(one(query, &hotkey, coldkey, netuid, id));
            }
        }
    }
    stakes
}

fn one(query: &Query<'_>, hotkey: &[u8; 32], coldkey: &[u8; 32], netuid: u16, id: u32) -> Datum {
    let state = &query.state;
    filled(query, id, |name| match name {
        "hotkey" => Some(Datum::account(hotkey)),
        "coldkey" => Some(Datum::account(coldkey)),
        "netuid" => Some(Datum::Num(netuid.into())),
        "stake" => Some(Datum::Num(stake::of(state, hotkey, coldkey, netuid).into())),
        "is_registered" => Some(Datum::Bool(state.has(Item::Uids, key![netuid, hotkey]))),
        _ => None,
    })
}

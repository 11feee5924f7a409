//! `NeuronInfoRuntimeApi`: one structure per neuron.
//!
//! Owns these answers. Refuses to know subnets as a whole. The table of APIs uses it.

use parity_scale_codec::Decode as _;

use super::{Query, filled};
use crate::devnet::{
    datum::Datum,
    items::Item,
    rules::subnets,
    state::{State, key},
};

/// The answer to one of this API's methods; see [`super::answer`].
pub fn answer(query: &Query<'_>, method: &str, arguments: &[u8], output: u32) -> Option<Option<Datum>> {
    let inner = query.state.runtime().inner(output);
    let method = method.strip_prefix("NeuronInfoRuntimeApi_")?;
    match method {
        "get_neurons" | "get_neurons_lite" => Some(super::netuid(arguments).map(|netuid| {
            let subnet = Subnet::load(&query.state, netuid);
            let uids = 0..subnets::size(&query.state, netuid);
            Datum::List(uids.map(|uid| subnet.neuron(query, uid, inner)).collect())
        })),
        "get_neuron" | "get_neuron_lite" => Some(<(u16, u16)>::decode(&mut &*arguments).ok().map(|(netuid, uid)| {
            let known = uid < subnets::size(&query.state, netuid);
            Datum::option(known.then(|| Subnet::load(&query.state, netuid).neuron(query, uid, inner)))
        })),
        _ => None,
    }
}

/// The vectors of a subnet that have one place per neuron.
struct Subnet {
    netuid: u16,
    active: Vec<bool>,
    permit: Vec<bool>,
    emission: Vec<u64>,
    incentive: Vec<u16>,
    consensus: Vec<u16>,
    trust: Vec<u16>,
    dividends: Vec<u16>,
    last_update: Vec<u64>,
}

impl Subnet {
    fn load(state: &State<'_>, netuid: u16) -> Self {
        Self {
            netuid,
            active: state.get(Item::Active, key![netuid]),
            permit: state.get(Item::ValidatorPermit, key![netuid]),
            emission: state.get(Item::Emission, key![netuid]),
            incentive: state.get(Item::Incentive, key![netuid]),
            consensus: state.get(Item::Consensus, key![netuid]),
            trust: state.get(Item::ValidatorTrust, key![netuid]),
            dividends: state.get(Item::Dividends, key![netuid]),
            last_update: state.get(Item::LastUpdate, key![netuid]),
        }
    }

    fn neuron(&self, query: &Query<'_>, uid: u16, id: u32) -> Datum {
        let state = &query.state;
        let netuid = self.netuid;
        let hotkey: [u8; 32] = state.get(Item::Keys, key![netuid, uid]);
        let coldkey: [u8; 32] = state.get(Item::Owner, key![&hotkey]);
        let at = usize::from(uid);
        let number = |values: &[u16]| Datum::Num(values.get(at).copied().unwrap_or(0).into());
        let long = |values: &[u64]| Datum::Num(values.get(at).copied().unwrap_or(0).into());
        let flag = |values: &[bool]| Datum::Bool(values.get(at).copied().unwrap_or(false));
        filled(query, id, |name| match name {
            "hotkey" => Some(Datum::account(&hotkey)),
            "coldkey" => Some(Datum::account(&coldkey)),
            "uid" => Some(Datum::Num(uid.into())),
            "netuid" => Some(Datum::Num(netuid.into())),
            "active" => Some(flag(&self.active)),
            "axon_info" => stored(state, Item::Axons, netuid, &hotkey),
            "prometheus_info" => stored(state, Item::Prometheus, netuid, &hotkey),
            "stake" => {
                let stake = subnets::stake(state, netuid, &hotkey);
                Some(Datum::List(vec![Datum::Tuple(vec![Datum::account(&coldkey), Datum::Num(stake.into())])]))
            }
            "emission" => Some(long(&self.emission)),
            "incentive" => Some(number(&self.incentive)),
            "consensus" => Some(number(&self.consensus)),
            "validator_trust" => Some(number(&self.trust)),
            "dividends" => Some(number(&self.dividends)),
            "last_update" => Some(long(&self.last_update)),
            "validator_permit" => Some(flag(&self.permit)),
            "weights" => Some(pairs(state, Item::Weights, netuid, uid)),
            "bonds" => Some(pairs(state, Item::Bonds, netuid, uid)),
            _ => None,
        })
    }
}

/// A stored structure as it is; nothing when there is none.
pub fn stored(state: &State<'_>, item: Item, netuid: u16, hotkey: &[u8; 32]) -> Option<Datum> {
    let bytes = state.raw(&state.key(item, key![netuid, hotkey]))?;
    Some(Datum::Encoded(bytes.to_vec()))
}

fn pairs(state: &State<'_>, item: Item, index: u16, uid: u16) -> Datum {
    let row: Vec<(u16, u16)> = state.get(item, key![index, uid]);
    let pair = |(to, value): (u16, u16)| Datum::Tuple(vec![Datum::Num(to.into()), Datum::Num(value.into())]);
    Datum::List(row.into_iter().map(pair).collect())
}

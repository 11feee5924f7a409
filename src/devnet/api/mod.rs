//! Runtime APIs: what `state_call` answers, encoded by the metadata's own output types.
//!
//! Owns which APIs exist here. Refuses to know JSON. The RPC of `devnet/` uses it. Anything else answers as a node
//! does for a function that its runtime does not export.

mod neurons;
mod stakes;
mod subnets;

use parity_scale_codec::{Decode as _, Encode as _};

use super::{
    chain::Chain,
    datum::Datum,
    extrinsic::take_opaque,
    limits,
    rules::{self, balances, epochs},
    state::State,
};

/// Why an API cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The runtime, or this devnet, does not have it.
    #[error("Execution failed: Other: Exported method {0} is not found")]
    NotFound(String),
    /// The arguments are not what the metadata says.
    #[error("Execution failed: Bad input data provided to {0}")]
    BadInput(String),
}

/// What an API reads from.
struct Query<'a> {
    chain: &'a Chain,
    state: State<'a>,
    block: u32,
}

/// A structure whose fields are known by name; what nobody knows is zero, empty or none.
fn filled(query: &Query<'_>, id: u32, value: impl Fn(&str) -> Option<Datum>) -> Datum {
    let runtime = query.state.runtime();
    let mut bytes = Vec::new();
    for (name, field) in runtime.fields(id) {
        match value(&name) {
            Some(value) => bytes.extend(runtime.encode(&value, field)),
            None => bytes.extend(runtime.zero(field)),
        }
    }
    Datum::Encoded(bytes)
}

/// Calls an API at a block.
pub fn call(chain: &Chain, number: u32, method: &str, arguments: &[u8]) -> Result<Vec<u8>, Error> {
    let name = || method.chars().take(limits::NAME_CHARS).collect::<String>();
    let query = Query { chain, state: chain.state(number), block: number };
    let runtime = query.state.runtime();
    let (inputs, output) = runtime.api(method).ok_or_else(|| Error::NotFound(name()))?;
    let mut rest = arguments;
    if !method.starts_with("TransactionPayment") {
        // The extrinsic of the payment API has no type that could check it.
        for input in inputs {
            runtime.take_raw(&mut rest, input).ok_or_else(|| Error::BadInput(name()))?;
        }
        if !rest.is_empty() {
            return Err(Error::BadInput(name()));
        }
    }
    let answer = answer(&query, method, arguments, output).ok_or_else(|| Error::NotFound(name()))?;
    answer.ok_or_else(|| Error::BadInput(name()))
}

/// The answer's bytes; the outer `None` is an unknown method, the inner one a bad argument.
fn answer(query: &Query<'_>, method: &str, arguments: &[u8], output: u32) -> Option<Option<Vec<u8>>> {
    let runtime = query.state.runtime();
    let encoded = |datum: Datum| Some(Some(runtime.encode(&datum, output)));
    match method {
        "Core_version" => Some(Some(runtime.version_bytes().to_vec())),
        "Metadata_metadata" => Some(Some(runtime.v14().to_vec().encode())),
        "Metadata_metadata_versions" => encoded(Datum::numbers([14_u32, 15])),
        "Metadata_metadata_at_version" => Some(u32::decode(&mut &*arguments).ok().map(|version| {
            match version {
                14 => Some(runtime.v14().to_vec()),
                15 => Some(runtime.v15().to_vec()),
                _ => None,
            }
            .encode()
        })),
        "AccountNonceApi_account_nonce" => {
            let account = arguments.try_into().ok()?;
            encoded(Datum::Num(balances::account(&query.state, account).nonce.into()))
        }
        "TransactionPaymentApi_query_info" => Some(fee(query, arguments).map(|fee| runtime.encode(&fee, output))),
        "SubnetInfoRuntimeApi_get_next_epoch_start_block" => Some(netuid(arguments).map(|netuid| {
            let known = rules::subnets::exists(&query.state, netuid);
            let next = known.then(|| epochs::next(&query.state, netuid)).flatten();
            runtime.encode(&Datum::option(next.map(|block| Datum::Num(block.into()))), output)
        })),
        "SubnetRegistrationRuntimeApi_get_network_registration_cost" => {
            encoded(Datum::Num(rules::network::cost(&query.state, u64::from(query.block) + 1).into()))
        }
        _ => neurons::answer(query, method, arguments, output)
            .or_else(|| subnets::answer(query, method, arguments, output))
            .or_else(|| stakes::answer(query, method, arguments, output))
            .map(|answer| answer.map(|datum| runtime.encode(&datum, output))),
    }
}

fn netuid(arguments: &[u8]) -> Option<u16> {
    u16::decode(&mut &*arguments).ok()
}

/// `query_info(extrinsic, length)`.
fn fee(query: &Query<'_>, arguments: &[u8]) -> Option<Datum> {
    let mut rest = arguments;
    let extrinsic = take_opaque(&mut rest)?;
    u32::decode(&mut rest).ok().filter(|_| rest.is_empty())?;
    let fee = query.chain.fee_of(extrinsic)?;
    let weight = Datum::Struct(vec![
        ("ref_time", Datum::Num(balances::REF_TIME.into())),
        ("proof_size", Datum::Num(balances::PROOF_BYTES.into())),
    ]);
    let fields = vec![("weight", weight), ("class", Datum::unit("Normal")), ("partial_fee", Datum::Num(fee.into()))];
    Some(Datum::Struct(fields))
}

#[cfg(test)]
mod tests;

//! `system_*` and `payment_*`: what the node says about itself, accounts' next nonces, fees.
//!
//! Owns these methods. Refuses to know blocks. The module of methods registers it.

use jsonrpsee::{server::RegisterMethodError, types::Params};
use serde_json::json;

use super::{
    Answer, Module,
    params::{account, bytes, client, hash},
};
use crate::devnet::{chain::Chain, rules::balances};

/// What the chain calls itself: nobody should take it for another.
pub const CHAIN: &str = "Waag devnet (not Bittensor)";

/// Registers the methods.
pub fn register(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("system_chain", |_params, _node, _| CHAIN)?;
    module.register_method("system_chainType", |_params, _node, _| "Development")?;
    module.register_method("system_name", |_params, _node, _| "Waag devnet node")?;
    module.register_method("system_version", |_params, _node, _| env!("CARGO_PKG_VERSION"))?;
    module.register_method(
        "system_properties",
        |_params, _node, _| json!({ "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO", "isEthereum": false }),
    )?;
    module.register_method(
        "system_health",
        |_params, _node, _| json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }),
    )?;
    module.register_method("system_peers", |_params, _node, _| json!([]))?;
    module.register_method("system_nodeRoles", |_params, _node, _| json!(["Authority"]))?;
    module.register_method("system_localPeerId", |_params, _node, _| "devnet")?;
    module.register_method("system_localListenAddresses", |_params, _node, _| json!([]))?;
    module.register_method("system_syncState", |_params, node, _| {
        let best = node.chain().best();
        json!({ "startingBlock": 0, "currentBlock": best, "highestBlock": best })
    })?;
    module.register_method("system_accountNextIndex", |params, node, _| next_index(&params, &node.chain()))?;
    module.register_alias("account_nextIndex", "system_accountNextIndex")?;
    module.register_method("payment_queryInfo", |params, node, _| fee(&params, &node.chain()))?;
    Ok(())
}

fn next_index(params: &Params<'_>, chain: &Chain) -> Answer {
    let text: std::borrow::Cow<'_, str> = params.sequence().next()?;
    Ok(json!(chain.next_nonce(&account(&text)?)))
}

fn fee(params: &Params<'_>, chain: &Chain) -> Answer {
    let mut params = params.sequence();
    let extrinsic = bytes(&mut params)?;
    let _at_any_block = hash(&mut params)?;
    let fee = chain.fee_of(&extrinsic).ok_or_else(|| client("Unable to query dispatch info."))?;
    Ok(json!({
        "weight": { "ref_time": balances::REF_TIME, "proof_size": balances::PROOF_BYTES },
        "class": "normal",
        "partialFee": fee.to_string(),
    }))
}

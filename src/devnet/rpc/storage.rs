//! `state_*`: values, keys, runtime APIs, and those who watch them.
//!
//! Owns these methods. Refuses to know what values mean. The module of methods registers it.

use std::{collections::BTreeSet, sync::Arc};

use jsonrpsee::{
    PendingSubscriptionSink,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{
    Answer, Module,
    blocks::send,
    params::{bytes, client, decode_hex, hash, invalid, optional_bytes, readable},
};
use crate::devnet::{
    api,
    chain::Chain,
    hashing::{Hash, blake2, hex0x},
    limits,
    node::Node,
    runtime::Runtime,
};

/// Registers the methods.
pub fn register(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("state_getStorage", |params, node, _| {
        value_of(&params, &node.chain(), |value| json!(hex0x(value)))
    })?;
    module.register_alias("state_getStorageAt", "state_getStorage")?;
    module.register_method("state_getStorageHash", |params, node, _| {
        value_of(&params, &node.chain(), |value| json!(hex0x(&blake2(value))))
    })?;
    module.register_alias("state_getStorageHashAt", "state_getStorageHash")?;
    module.register_method("state_getStorageSize", |params, node, _| {
        value_of(&params, &node.chain(), |value| json!(value.len()))
    })?;
    module.register_alias("state_getStorageSizeAt", "state_getStorageSize")?;
    module.register_method("state_getKeys", |params, node, _| keys(&params, &node.chain()))?;
    module.register_method("state_getKeysPaged", |params, node, _| keys_paged(&params, &node.chain()))?;
    module.register_alias("state_getKeysPagedAt", "state_getKeysPaged")?;
    module
        .register_method("state_getPairs", |_params, _node, _| -> Answer { Err(client("use state_getKeysPaged")) })?;
    module.register_method("state_queryStorageAt", |params, node, _| query(&params, &node.chain()))?;
    module.register_method("state_getMetadata", |_params, node, _| hex0x(node.chain().runtime().v14()))?;
    module.register_method("state_getRuntimeVersion", |params, node, _| runtime_version(&params, &node.chain()))?;
    module.register_alias("chain_getRuntimeVersion", "state_getRuntimeVersion")?;
    module.register_method("state_call", |params, node, _| call(&params, &node.chain()))?;
    module.register_alias("state_callAt", "state_call")?;
    let names = ("state_subscribeStorage", "state_storage", "state_unsubscribeStorage");
    module.register_subscription(names.0, names.1, names.2, |params, pending, node, _| {
        watch_storage(params, pending, Arc::clone(&node))
    })?;
    let names = ("state_subscribeRuntimeVersion", "state_runtimeVersion", "state_unsubscribeRuntimeVersion");
    module.register_subscription(names.0, names.1, names.2, |_params, pending, node, _| {
        watch_version(pending, Arc::clone(&node))
    })?;
    module.register_alias("chain_subscribeRuntimeVersion", "state_subscribeRuntimeVersion")?;
    module.register_alias("chain_unsubscribeRuntimeVersion", "state_unsubscribeRuntimeVersion")
}

fn value_of(params: &Params<'_>, chain: &Chain, answer: impl Fn(&[u8]) -> Value) -> Answer {
    let mut params = params.sequence();
    let key = bytes(&mut params)?;
    let block = readable(chain, hash(&mut params)?.as_ref())?;
    Ok(chain.store().read(&key, block).map_or(Value::Null, |value| answer(value)))
}

fn keys(params: &Params<'_>, chain: &Chain) -> Answer {
    let mut params = params.sequence();
    let prefix = bytes(&mut params)?;
    let block = readable(chain, hash(&mut params)?.as_ref())?;
    let keys = chain.store().range(&prefix, None, block).take(limits::KEYS_QUERY);
    Ok(Value::Array(keys.map(|(key, _)| json!(hex0x(key))).collect()))
}

fn keys_paged(params: &Params<'_>, chain: &Chain) -> Answer {
    let mut params = params.sequence();
    let prefix = optional_bytes(&mut params)?.unwrap_or_default();
    let count: u32 = params.next()?;
    let after = optional_bytes(&mut params)?;
    let block = readable(chain, hash(&mut params)?.as_ref())?;
    if count as usize > limits::KEYS_PAGE {
        return Err(invalid(format!("count exceeds maximum value. value: {count}, max: {}", limits::KEYS_PAGE)));
    }
    let keys = chain.store().range(&prefix, after.as_deref(), block).take(count as usize);
    Ok(Value::Array(keys.map(|(key, _)| json!(hex0x(key))).collect()))
}

/// Reads a list of keys from JSON.
fn key_list(given: &[String]) -> Result<Vec<Vec<u8>>, ErrorObjectOwned> {
    if given.len() > limits::KEYS_QUERY {
        return Err(invalid(format!("at most {} keys at once", limits::KEYS_QUERY)));
    }
    given.iter().map(|key| decode_hex(key)).collect()
}

fn change_set<'a>(chain: &Chain, block: u32, keys: impl IntoIterator<Item = &'a Vec<u8>>) -> Value {
    let pair = |key: &Vec<u8>| json!([hex0x(key), chain.store().read(key, block).map(|value| hex0x(value))]);
    let changes: Vec<Value> = keys.into_iter().map(pair).collect();
    json!({ "block": chain.block(block).map(|block| hex0x(&block.hash)), "changes": changes })
}

fn query(params: &Params<'_>, chain: &Chain) -> Answer {
    let mut params = params.sequence();
    let given: Vec<String> = params.next()?;
    let keys = key_list(&given)?;
    let block = readable(chain, hash(&mut params)?.as_ref())?;
    Ok(json!([change_set(chain, block, &keys)]))
}

fn runtime_version(params: &Params<'_>, chain: &Chain) -> Answer {
    let hash: Option<Hash> = hash(&mut params.sequence())?;
    match chain.block_by_hash(hash.as_ref()) {
        Some(block) => Ok(version_json(chain.runtime_of(block.header.number))),
        None => Err(client("UnknownBlock: Header was not found in the database")),
    }
}

fn version_json(runtime: &Runtime) -> Value {
    let version = runtime.version();
    let apis: Vec<Value> = version.apis.iter().map(|(name, number)| json!([hex0x(name), number])).collect();
    json!({
        "specName": version.spec_name,
        "implName": version.impl_name,
        "authoringVersion": version.authoring_version,
        "specVersion": version.spec_version,
        "implVersion": version.impl_version,
        "apis": apis,
        "transactionVersion": version.transaction_version,
        "systemVersion": version.system_version,
        "stateVersion": version.system_version,
    })
}

fn call(params: &Params<'_>, chain: &Chain) -> Answer {
    let mut params = params.sequence();
    let method: std::borrow::Cow<'_, str> = params.next()?;
    let arguments = optional_bytes(&mut params)?.unwrap_or_default();
    let block = readable(chain, hash(&mut params)?.as_ref())?;
    api::call(chain, block, &method, &arguments).map(|answer| json!(hex0x(&answer))).map_err(|error| client(error))
}

/// Sends the present values of some keys, and then each block's changes of them.
async fn watch_storage(params: Params<'static>, pending: PendingSubscriptionSink, node: Arc<Node>) {
    let given = params.sequence().optional_next::<Vec<String>>();
    let keys = given.and_then(|given| key_list(&given.unwrap_or_default()));
    let keys: BTreeSet<Vec<u8>> = match keys {
        Ok(keys) => keys.into_iter().collect(),
        Err(error) => return pending.reject(error).await,
    };
    let mut notices = node.heads();
    let Ok(sink) = pending.accept().await else { return };
    let first = {
        let chain = node.chain();
        change_set(&chain, chain.best(), &keys)
    };
    if !send(&sink, &first).await {
        return;
    }
    let mut told = 0;
    loop {
        let notice = tokio::select! {
            () = sink.closed() => return,
            () = node.token().cancelled() => return,
            notice = notices.recv() => notice,
        };
        let changes = match notice {
            Ok(notice) => {
                let chain = node.chain();
                let number = notice.header.number;
                // On another branch, what was told before may hold no longer.
                let other_branch = number <= std::mem::replace(&mut told, number);
                let changed = chain.store().changed_in(number).iter().filter(|key| keys.contains(*key));
                let changed: Vec<_> = if other_branch { keys.iter().collect() } else { changed.collect() };
                (!changed.is_empty()).then(|| change_set(&chain, number, changed))
            }
            // Who missed blocks gets all values anew.
            Err(RecvError::Lagged(_missed)) => {
                let chain = node.chain();
                Some(change_set(&chain, chain.best(), &keys))
            }
            Err(RecvError::Closed) => return,
        };
        match changes {
            Some(changes) if !send(&sink, &changes).await => return,
            _ => {}
        }
    }
}

/// Sends the runtime's version, and again whenever it changes.
async fn watch_version(pending: PendingSubscriptionSink, node: Arc<Node>) {
    let mut notices = node.heads();
    let Ok(sink) = pending.accept().await else { return };
    let mut told = None;
    loop {
        let (version, spec_version) = {
            let chain = node.chain();
            (version_json(chain.runtime()), chain.runtime().version().spec_version)
        };
        if told.replace(spec_version) != Some(spec_version) && !send(&sink, &version).await {
            return;
        }
        tokio::select! {
            () = sink.closed() => return,
            () = node.token().cancelled() => return,
            notice = notices.recv() => if matches!(notice, Err(RecvError::Closed)) { return },
        }
    }
}

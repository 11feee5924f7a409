//! `dev_*`: what a real node does not let anybody do.
//!
//! Owns the controls. Each one that changes the state makes a block of its own and answers that block's hash, so the
//! change has a place in the chain's history and is on disk when the answer comes. The module of methods registers it.

use std::sync::Arc;

use jsonrpsee::{
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use serde_json::{Value, json};

use super::{
    Answer, Module,
    params::{account, bytes, invalid, not_made, optional_bytes},
};
use crate::devnet::{
    Blocks, Spec,
    failures::{Failures, Kind},
    genesis,
    hashing::hex0x,
    limits,
    node::Node,
    rules::{World, admin, balances, drand, registration, subnets},
    runtime::Runtime,
};

/// The stake that a permitted validator gets when none is named: a thousand.
const VALIDATOR_STAKE_RAO: u64 = 1_000_000_000_000;

/// Registers the methods.
pub fn register(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_blocking_method("dev_newBlock", |params, node: Arc<Arc<Node>>, _| new_block(&params, &node))?;
    module.register_blocking_method("dev_fund", |params, node: Arc<Arc<Node>>, _| fund(&params, &node))?;
    module.register_blocking_method("dev_createSubnet", |params, node: Arc<Arc<Node>>, _| {
        create_subnet(&params, &node)
    })?;
    module
        .register_blocking_method("dev_register", |params, node: Arc<Arc<Node>>, _| register_hotkey(&params, &node))?;
    module.register_blocking_method("dev_setPermit", |params, node: Arc<Arc<Node>>, _| set_permit(&params, &node))?;
    module.register_blocking_method("dev_setHyperparameter", |params, node: Arc<Arc<Node>>, _| {
        set_hyperparameter(&params, &node)
    })?;
    module.register_blocking_method("dev_setStorage", |params, node: Arc<Arc<Node>>, _| set_storage(&params, &node))?;
    module
        .register_blocking_method("dev_injectPulse", |params, node: Arc<Arc<Node>>, _| inject_pulse(&params, &node))?;
    module.register_method("dev_setTime", |params, node, _| set_time(&params, node))?;
    module.register_method("dev_dropConnections", |_params, node, _| {
        node.drop_connections();
        Value::Bool(true)
    })?;
    module.register_method("dev_stall", |params, node, _| -> Answer {
        node.stall(params.sequence().next()?);
        Ok(Value::Bool(true))
    })?;
    module.register_blocking_method("dev_reorg", |params, node: Arc<Arc<Node>>, _| reorganise(&params, &node))?;
    module.register_blocking_method("dev_upgrade", |params, node: Arc<Arc<Node>>, _| upgrade(&params, &node))?;
    module.register_method("dev_failNext", |params, node, _| fail_next(&params, node))?;
    module.register_method("dev_setInterval", |params, node, _| set_interval(&params, node))?;
    Ok(())
}

/// Does something in a block of its own.
fn act<T>(node: &Node, act: impl FnOnce(&mut World<'_>) -> Result<T, String>) -> Result<(Value, T), ErrorObjectOwned> {
    let (hash, outcome) = node.act(act).map_err(|error| not_made(&error))?;
    Ok((json!(hex0x(&hash)), outcome))
}

/// `dev_newBlock(count = 1)` → the last block's hash.
fn new_block(params: &Params<'_>, node: &Node) -> Answer {
    let count: u32 = params.sequence().optional_next()?.unwrap_or(1);
    if count == 0 || count > limits::NEW_BLOCKS {
        return Err(invalid(format!("1 to {} blocks at once", limits::NEW_BLOCKS)));
    }
    node.make_blocks(count).map(|hash| json!(hex0x(&hash))).map_err(|error| not_made(&error))
}

/// `dev_fund(account, rao)` gives; → the block's hash.
fn fund(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let who = account(&params.next::<std::borrow::Cow<'_, str>>()?)?;
    let rao = super::params::number(&params.next()?)?;
    let given = act(node, |world| {
        balances::deposit(world, &who, rao);
        balances::issue(world, rao);
        Ok(())
    })?;
    Ok(given.0)
}

/// `dev_createSubnet({…})` → `{netuid, block}`; see [`subnets::Wanted`].
fn create_subnet(params: &Params<'_>, node: &Node) -> Answer {
    let given: Value = params.sequence().next()?;
    let wanted: subnets::Wanted = serde_json::from_value(given).map_err(|error| invalid(error.to_string()))?;
    let owner = account(&wanted.owner)?;
    let owner_hotkey = wanted.owner_hotkey.as_deref().map_or(Ok(owner), account)?;
    let (block, netuid) = act(node, |world| subnets::create(world, &wanted, owner, owner_hotkey))?;
    Ok(json!({ "netuid": netuid, "block": block }))
}

/// `dev_register(netuid, hotkey, coldkey)` registers for nothing; → `{uid, block}`.
fn register_hotkey(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let netuid: u16 = params.next()?;
    let hotkey = account(&params.next::<std::borrow::Cow<'_, str>>()?)?;
    let coldkey = account(&params.next::<std::borrow::Cow<'_, str>>()?)?;
    let (block, uid) = act(node, |world| {
        use crate::devnet::{items::Item, state::key};
        if !subnets::exists(&world.state, netuid) {
            return Err(format!("there is no subnet {netuid}"));
        }
        if world.state.has(Item::Uids, key![netuid, &hotkey]) {
            return Err("the hotkey is registered already".to_owned());
        }
        registration::grant(world, netuid, &hotkey, &coldkey).map_err(|failure| format!("{failure:?}"))?;
        Ok(world.state.find::<u16>(Item::Uids, key![netuid, &hotkey]))
    })?;
    Ok(json!({ "uid": uid, "block": block }))
}

/// `dev_setPermit(netuid, hotkey, permit, stake_rao?)` → the block's hash.
fn set_permit(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let netuid: u16 = params.next()?;
    let hotkey = account(&params.next::<std::borrow::Cow<'_, str>>()?)?;
    let permit: bool = params.next()?;
    let stake: Option<Value> = params.optional_next()?;
    let stake_rao = stake.map_or(Ok(VALIDATOR_STAKE_RAO), |stake| super::params::number(&stake))?;
    Ok(act(node, |world| subnets::set_permit(world, netuid, &hotkey, permit, stake_rao))?.0)
}

/// `dev_setHyperparameter(netuid, name, value)` → the block's hash.
fn set_hyperparameter(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let netuid: u16 = params.next()?;
    let name: std::borrow::Cow<'_, str> = params.next()?;
    let value: Value = params.next()?;
    Ok(act(node, |world| admin::control(world, netuid, &name, &value))?.0)
}

/// `dev_setStorage(key, value?)` writes or removes raw bytes that the metadata accepts; → the block's hash.
fn set_storage(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let key = bytes(&mut params)?;
    let value = optional_bytes(&mut params)?;
    let set = act(node, |world| {
        world.state.runtime().check_pair(&key, value.as_deref())?;
        world.state.put_raw(key, value.map(Into::into));
        Ok(())
    })?;
    Ok(set.0)
}

/// `dev_injectPulse(round, signature)` stores a real pulse of quicknet, once it is found to be one; → the block's hash.
fn inject_pulse(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let round = super::params::number(&params.next()?)?;
    let signature = bytes(&mut params)?;
    Ok(act(node, |world| drand::inject(world, round, &signature))?.0)
}

/// `dev_setTime(ms)`: the chain time of the next block.
fn set_time(params: &Params<'_>, node: &Node) -> Answer {
    let ms = super::params::number(&params.sequence().next()?)?;
    node.chain_mut().set_next_time(ms).map_err(invalid)?;
    Ok(Value::Bool(true))
}

/// `dev_reorg(depth, keep = true)` replaces the last blocks by one more; → the last one's hash. Their extrinsics go into
/// the new ones, or are lost.
fn reorganise(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let depth: u32 = params.next()?;
    let keep: bool = params.optional_next()?.unwrap_or(true);
    node.reorganise(depth, keep).map(|hash| json!(hex0x(&hash))).map_err(|error| not_made(&error))
}

/// `dev_upgrade(spec)`: after the block that this makes, the state belongs to another recorded runtime; → that block's
/// hash.
fn upgrade(params: &Params<'_>, node: &Node) -> Answer {
    let spec_version: u32 = params.sequence().next()?;
    let Some(Ok(runtime)) = Spec::of_version(spec_version).map(Runtime::of) else {
        return Err(invalid(format!("there is no recorded runtime of spec version {spec_version}")));
    };
    Ok(act(node, |world| {
        if world.state.runtime().version().spec_version == spec_version {
            return Err(format!("the runtime is of spec version {spec_version} already"));
        }
        genesis::name_runtime(&mut world.state, &runtime);
        world.emit("System", "CodeUpdated", Vec::new());
        Ok(())
    })?
    .0)
}

/// `dev_failNext(kind, count = 1)` makes the next so many fail, see [`Kind`]; 0 makes none fail.
fn fail_next(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let kind = Failures::kind(&params.next::<std::borrow::Cow<'_, str>>()?).map_err(invalid)?;
    let count: u32 = params.optional_next()?.unwrap_or(1);
    match kind {
        Kind::CallFailed => node.chain_mut().faults_mut().calls = count,
        Kind::RevealDropped => node.chain_mut().faults_mut().reveals = count,
        other => node.failures().set(other, count),
    }
    Ok(Value::Bool(true))
}

/// `dev_setInterval(ms)`: a block every so often; 0 makes blocks only on demand, null on each extrinsic.
fn set_interval(params: &Params<'_>, node: &Node) -> Answer {
    node.set_mode(match params.sequence().optional_next::<u64>()? {
        Some(0) => Blocks::Manual,
        Some(ms) => Blocks::Interval { ms },
        None => Blocks::Instant,
    });
    node.wake();
    Ok(Value::Bool(true))
}

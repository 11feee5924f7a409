//! `chain_*`: hashes, headers, blocks, and those who follow them.
//!
//! Owns these methods. Refuses to know the state. The module of methods registers it.

use std::sync::Arc;

use jsonrpsee::{
    PendingSubscriptionSink, SubscriptionSink,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use serde_json::{Value, json, value::to_raw_value};
use tokio::sync::broadcast::error::RecvError;

use super::{
    Answer, Module,
    params::{hash, invalid, number},
};
use crate::devnet::{chain::Chain, hashing::hex0x, limits, node::Node};

/// Registers the methods.
pub fn register(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("chain_getBlockHash", |params, node, _| block_hash(&params, &node.chain()))?;
    module.register_alias("chain_getHead", "chain_getBlockHash")?;
    module.register_method("chain_getFinalizedHead", |_params, node, _| finalized_head(&node.chain()))?;
    module.register_alias("chain_getFinalisedHead", "chain_getFinalizedHead")?;
    module.register_method("chain_getHeader", |params, node, _| header(&params, &node.chain()))?;
    module.register_method("chain_getBlock", |params, node, _| block(&params, &node.chain()))?;
    module.register_method("chainSpec_v1_genesisHash", |_params, node, _| hex0x(&node.chain().genesis()))?;
    module.register_method("chainSpec_v1_chainName", |_params, _node, _| super::system::CHAIN)?;
    heads(module, "chain_subscribeNewHeads", "chain_newHead", "chain_unsubscribeNewHeads", Follow::Best)?;
    module.register_alias("chain_subscribeNewHead", "chain_subscribeNewHeads")?;
    module.register_alias("chain_unsubscribeNewHead", "chain_unsubscribeNewHeads")?;
    heads(module, "chain_subscribeAllHeads", "chain_allHead", "chain_unsubscribeAllHeads", Follow::Best)?;
    let final_names = ("chain_subscribeFinalizedHeads", "chain_finalizedHead", "chain_unsubscribeFinalizedHeads");
    heads(module, final_names.0, final_names.1, final_names.2, Follow::Final)?;
    module.register_alias("chain_subscribeFinalisedHeads", "chain_subscribeFinalizedHeads")?;
    module.register_alias("chain_unsubscribeFinalisedHeads", "chain_unsubscribeFinalizedHeads")
}

fn block_hash(params: &Params<'_>, chain: &Chain) -> Answer {
    let one = |height: &Value| -> Answer {
        let height = u32::try_from(number(height)?).ok();
        Ok(json!(height.and_then(|height| chain.hash_of(height)).map(|hash| hex0x(&hash))))
    };
    match params.sequence().optional_next::<Value>()? {
        None => Ok(json!(chain.block_by_hash(None).map(|block| hex0x(&block.hash)))),
        Some(Value::Array(heights)) if heights.len() <= limits::KEYS_PAGE => {
            heights.iter().map(one).collect::<Result<Vec<_>, ErrorObjectOwned>>().map(Value::Array)
        }
        Some(Value::Array(_)) => Err(invalid("too many heights")),
        Some(height) => one(&height),
    }
}

fn finalized_head(chain: &Chain) -> Value {
    json!(chain.block(chain.finalized()).map(|block| hex0x(&block.hash)))
}

fn header(params: &Params<'_>, chain: &Chain) -> Answer {
    let hash = hash(&mut params.sequence())?;
    Ok(json!(chain.block_by_hash(hash.as_ref()).map(|block| block.header.json())))
}

fn block(params: &Params<'_>, chain: &Chain) -> Answer {
    let hash = hash(&mut params.sequence())?;
    Ok(json!(chain.block_by_hash(hash.as_ref()).and_then(crate::devnet::block::Block::json)))
}

/// Which heads somebody follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    Best,
    Final,
}

fn heads(
    module: &mut Module,
    subscribe: &'static str,
    notification: &'static str,
    unsubscribe: &'static str,
    follow: Follow,
) -> Result<(), RegisterMethodError> {
    module.register_subscription(subscribe, notification, unsubscribe, move |_params, pending, node, _| {
        let node: Arc<Node> = Arc::clone(&node);
        follow_heads(pending, node, follow)
    })?;
    Ok(())
}

/// Sends the present head and then each new one. Who is too slow skips to the newest.
async fn follow_heads(pending: PendingSubscriptionSink, node: Arc<Node>, follow: Follow) {
    let mut notices = node.heads();
    let Ok(sink) = pending.accept().await else { return };
    let mut next = {
        let chain = node.chain();
        match follow {
            Follow::Best => chain.best(),
            Follow::Final => chain.finalized(),
        }
    };
    loop {
        let last = {
            let chain = node.chain();
            match follow {
                Follow::Best => chain.best(),
                Follow::Final => chain.finalized(),
            }
        };
        while next <= last {
            let header = node.chain().block(next).map(|block| block.header.json());
            if !send(&sink, &header).await {
                return;
            }
            next += 1;
        }
        tokio::select! {
            () = sink.closed() => return,
            () = node.token().cancelled() => return,
            notice = notices.recv() => match notice {
                // Another branch: its blocks have heights that were told already.
                Ok(notice) if follow == Follow::Best => next = next.min(notice.header.number),
                Ok(_notice) => {}
                Err(RecvError::Lagged(_missed)) => next = next.max(last),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// Sends one notification; false when nobody is there any more.
pub async fn send(sink: &SubscriptionSink, value: &impl serde::Serialize) -> bool {
    match to_raw_value(value) {
        Ok(message) => sink.send(message).await.is_ok(),
        Err(_unserializable) => false,
    }
}

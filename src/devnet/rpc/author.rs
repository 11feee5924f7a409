//! `author_*`: extrinsics on their way into a block.
//!
//! Owns these methods. Refuses to know what makes an extrinsic valid. The module of methods registers it.

use std::sync::Arc;

use jsonrpsee::{PendingSubscriptionSink, server::RegisterMethodError, types::Params};
use serde_json::json;

use super::{
    Answer, Module,
    blocks::send,
    params::{bytes, refused},
};
use crate::devnet::{
    chain::Invalid,
    failures::Kind,
    hashing::hex0x,
    node::Node,
    pool::{self, Watcher},
};

/// Registers the methods.
pub fn register(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("author_submitExtrinsic", |params, node, _| submit(&params, node, None))?;
    module.register_method("author_pendingExtrinsics", |_params, node, _| {
        node.chain().pool().pending().iter().map(|extrinsic| hex0x(extrinsic)).collect::<Vec<_>>()
    })?;
    let names = ("author_submitAndWatchExtrinsic", "author_extrinsicUpdate", "author_unwatchExtrinsic");
    module.register_subscription(names.0, names.1, names.2, |params, pending, node, _| {
        submit_and_watch(params, pending, Arc::clone(&node))
    })?;
    Ok(())
}

fn submit(params: &Params<'_>, node: &Node, watcher: Option<Watcher>) -> Answer {
    let extrinsic = bytes(&mut params.sequence())?;
    if node.failures().take(Kind::SubmitRefused) {
        return Err(refused(&Invalid::Custom(u8::MAX)));
    }
    let hash = {
        let mut chain = node.chain_mut();
        let hash = chain.submit(&extrinsic, watcher).map_err(|invalid| refused(&invalid))?;
        if node.failures().take(Kind::SubmitLost) {
            chain.pool_mut().lose(&hash);
        }
        chain.announce();
        hash
    };
    if node.failures().take(Kind::SubmitUnanswered) {
        node.drop_connections();
    }
    node.wake();
    Ok(json!(hex0x(&hash)))
}

/// Submits, and tells what happens until it is final or cannot happen.
async fn submit_and_watch(params: Params<'static>, pending: PendingSubscriptionSink, node: Arc<Node>) {
    let (watcher, mut statuses) = pool::watch();
    if let Err(error) = submit(&params, &node, Some(watcher)) {
        return pending.reject(error).await;
    }
    let Ok(sink) = pending.accept().await else { return };
    loop {
        let status = tokio::select! {
            () = sink.closed() => return,
            () = node.token().cancelled() => return,
            status = statuses.recv() => status,
        };
        let Some(status) = status else { return };
        if !send(&sink, &status.json()).await || status.is_last() {
            return;
        }
    }
}

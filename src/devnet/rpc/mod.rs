//! The JSON-RPC of the devnet: the methods of a Substrate node, and the controls.
//!
//! Owns names, parameters and errors of the methods. Refuses to know the rules. `devnet/` registers it once.

mod author;
mod blocks;
mod controls;
mod params;
mod saboteur;
pub mod server;
mod storage;
mod system;

use std::sync::Arc;

use jsonrpsee::{
    RpcModule,
    server::{Methods, RegisterMethodError},
    types::ErrorObjectOwned,
};

use super::node::Node;

/// What a method answers.
type Answer = Result<serde_json::Value, ErrorObjectOwned>;
/// The methods with the node they ask.
type Module = RpcModule<Arc<Node>>;

/// Every method.
pub fn methods(node: &Arc<Node>) -> Result<Methods, RegisterMethodError> {
    let mut module = RpcModule::new(Arc::clone(node));
    blocks::register(&mut module)?;
    storage::register(&mut module)?;
    author::register(&mut module)?;
    system::register(&mut module)?;
    controls::register(&mut module)?;
    let mut names: Vec<&str> = module.method_names().chain(["rpc_methods"]).collect();
    names.sort_unstable();
    let listed = serde_json::json!({ "methods": names });
    module.register_method("rpc_methods", move |_params, _node, _extensions| listed.clone())?;
    Ok(module.into())
}

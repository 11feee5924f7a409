//! Requests that fail on request: between the connection and the methods.
//!
//! Owns how such a failure looks to a client. Refuses to know who asked for it. The server puts it in front of every
//! method; the controls themselves never fail by it.

use std::sync::Arc;

use jsonrpsee::{
    server::{
        MethodResponse,
        middleware::rpc::{Batch, Notification, RpcServiceT},
    },
    types::{ErrorObjectOwned, Id, Request},
};

use super::params::client;
use crate::devnet::{failures::Kind, node::Node};

/// A node's own number for too many requests.
const RATE_LIMITED: i32 = -32999;
/// JSON-RPC's number for an error of the server.
const INTERNAL: i32 = -32603;

/// A service that fails when the node is told to.
#[derive(Debug, Clone)]
pub struct Saboteur<S> {
    service: S,
    node: Arc<Node>,
}

impl<S> Saboteur<S> {
    /// Stands before a service.
    pub const fn new(service: S, node: Arc<Node>) -> Self {
        Self { service, node }
    }
}

/// What happens to a request.
enum Fate {
    Answered,
    Refused(ErrorObjectOwned),
    Forgotten,
}

fn fate(node: &Node, method: &str) -> Fate {
    if method.starts_with("dev_") {
        return Fate::Answered;
    }
    let failures = node.failures();
    if failures.take(Kind::RequestUnanswered) {
        return Fate::Forgotten;
    }
    if failures.take(Kind::RateLimited) {
        return Fate::Refused(ErrorObjectOwned::owned(RATE_LIMITED, "RPC rate limit exceeded", None::<()>));
    }
    if failures.take(Kind::RequestFailed) {
        return Fate::Refused(ErrorObjectOwned::owned(INTERNAL, "Internal error", None::<()>));
    }
    if reads_state(method) && failures.take(Kind::StateDiscarded) {
        let text = "Api called for an unknown Block: State already discarded for the asked block";
        return Fate::Refused(client(text));
    }
    Fate::Answered
}

fn reads_state(method: &str) -> bool {
    let about_runtime = method.contains("Version") || method.contains("Metadata") || method.contains("ubscribe");
    method.starts_with("state_") && !about_runtime
}

impl<S> RpcServiceT for Saboteur<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let (service, node) = (self.service.clone(), Arc::clone(&self.node));
        async move {
            match fate(&node, request.method_name()) {
                Fate::Answered => service.call(request).await,
                Fate::Refused(error) => MethodResponse::error(request.id, error),
                Fate::Forgotten => forgotten(&node).await,
            }
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let (service, node) = (self.service.clone(), Arc::clone(&self.node));
        async move {
            // A batch fails as a whole.
            match fate(&node, "a batch") {
                Fate::Answered => service.batch(batch).await,
                Fate::Refused(error) => MethodResponse::error(Id::Null, error),
                Fate::Forgotten => forgotten(&node).await,
            }
        }
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.service.notification(notification)
    }
}

/// Waits as long as the connection lasts, or the node.
async fn forgotten(node: &Node) -> MethodResponse {
    node.connection_token().cancelled().await;
    MethodResponse::error(Id::Null, ErrorObjectOwned::owned(INTERNAL, "the connection was cut", None::<()>))
}

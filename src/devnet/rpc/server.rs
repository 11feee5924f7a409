//! The port: WebSocket and HTTP POST on one listener.
//!
//! Owns connections and their limits, and can cut them all at once. Refuses to know the methods. The node starts it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use jsonrpsee::server::{
    BatchRequestConfig, Methods, RandomStringIdProvider, Server, ServerConfig, middleware::rpc::RpcServiceBuilder,
    serve_with_graceful_shutdown, stop_channel,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::saboteur::Saboteur;
use crate::{
    actors::Tasks,
    devnet::{limits, node::Node},
};

/// Characters of a subscription's id.
const SUBSCRIPTION_ID_CHARS: usize = 16;

/// Accepts connections until the node stops.
pub async fn serve(node: Arc<Node>, tasks: Tasks, listener: TcpListener, methods: Methods) {
    let config = ServerConfig::builder()
        .max_request_body_size(limits::REQUEST_BYTES)
        .max_response_body_size(limits::RESPONSE_BYTES)
        .max_connections(u32::try_from(limits::CONNECTIONS).unwrap_or(u32::MAX))
        .max_subscriptions_per_connection(limits::SUBSCRIPTIONS_PER_CONNECTION)
        .set_batch_request_config(BatchRequestConfig::Limit(limits::BATCH_REQUESTS))
        .set_message_buffer_capacity(limits::MESSAGES_PER_CONNECTION)
        .set_id_provider(RandomStringIdProvider::new(SUBSCRIPTION_ID_CHARS))
        .build();
    let sabotaged = Arc::clone(&node);
    let layers = RpcServiceBuilder::new().layer_fn(move |service| Saboteur::new(service, Arc::clone(&sabotaged)));
    let services = Server::builder().set_config(config).set_rpc_middleware(layers).to_service_builder();
    let (stop, _stopper) = stop_channel();
    let room = Arc::new(Semaphore::new(limits::CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = node.token().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _peer)) = accepted else {
            // Out of file descriptors, mostly: others must close before anybody can come in.
            tokio::task::yield_now().await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::debug!("the devnet has as many connections as it takes; one was closed");
            continue;
        };
        let _either = stream.set_nodelay(true);
        let token = node.connection_token();
        let service = services.clone().build(methods.clone(), stop.clone());
        let cut = token.clone();
        tasks.spawn("devnet-connection", async move {
            let _place = place;
            let stream = Severable::new(stream, token);
            let served = serve_with_graceful_shutdown(stream, service, cut.cancelled_owned());
            if let Err(error) = served.await {
                tracing::debug!(error, "a connection to the devnet ended");
            }
        });
    }
}

/// A connection that can be cut from outside, in the middle of whatever it carries.
struct Severable {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Severable {
    fn new(stream: TcpStream, token: CancellationToken) -> Self {
        Self { stream, cut: Box::pin(token.cancelled_owned()) }
    }

    /// An error once the connection was cut.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

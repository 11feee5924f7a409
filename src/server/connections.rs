//! Connections: accepting them, bounding them, and ending them politely.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::{
    Request,
    body::Incoming,
    rt,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{App, limits, rate::Peer, routes};
use crate::{actors::Tasks, clock::Clock};

/// How long accepting rests after it failed: the usual reason is that the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

type Sleeping = Pin<Box<dyn Future<Output = ()> + Send>>;

fn sleep(clock: &Arc<dyn Clock>, duration: Duration) -> Sleeping {
    let clock = Arc::clone(clock);
    Box::pin(async move { clock.sleep(duration).await })
}

/// Accepts connections until the tree is told to stop.
pub(super) fn serve(listener: TcpListener, connections_max: usize, app: App, tasks: &Tasks) {
    let tree = tasks.clone();
    tasks.spawn_essential("server", async move {
        accept(&listener, connections_max, &app, &tree).await;
        Ok::<(), std::convert::Infallible>(())
    });
}

async fn accept(listener: &TcpListener, connections_max: usize, app: &App, tasks: &Tasks) {
    let places = Arc::new(Semaphore::new(connections_max));
    let service = TowerToHyperService::new(routes::router(app.clone()));
    let token = tasks.token();
    loop {
        // A place first: whoever comes when there is none waits in the system's queue.
        let place = tokio::select! {
            () = token.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        // Never closed, so there always is one.
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let guest = Guest { socket, peer: Peer(peer.ip()), place };
                tasks.spawn("connection", converse(guest, service.clone(), Arc::clone(app.clock()), token.clone()));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                app.clock().sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who was let in.
struct Guest {
    socket: TcpStream,
    peer: Peer,
    place: OwnedSemaphorePermit,
}

/// One connection, to its end.
async fn converse(
    guest: Guest,
    service: TowerToHyperService<axum::Router>,
    clock: Arc<dyn Clock>,
    token: CancellationToken,
) {
    let Guest { socket, peer, place } = guest;
    // Every request says where it came from.
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    // Answers are small and written whole; waiting to fill a packet only delays them.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "cannot switch off the delay of small packets");
    }
    let io = TokioIo::new(Patient { socket, clock: Arc::clone(&clock), stalled: None });
    let connection = http1::Builder::new()
        .timer(ClockTimer(Arc::clone(&clock)))
        .header_read_timeout(Duration::from_millis(limits::HEAD_MS))
        .max_buf_size(limits::HEAD_BYTES)
        .max_headers(limits::HEADERS)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = clock.sleep(Duration::from_millis(limits::DRAIN_MS)) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
    drop(place);
}

/// hyper's waiting, by our clock.
struct ClockTimer(Arc<dyn Clock>);

impl rt::Timer for ClockTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(ClockSleep(Mutex::new(sleep(&self.0, duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}

/// In a mutex because hyper asks for `Sync`; it is never locked, only reached through `&mut`.
struct ClockSleep(Mutex<Sleeping>);

impl Future for ClockSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}

impl rt::Sleep for ClockSleep {}

/// A socket whose reader may be slow, but not for ever.
struct Patient {
    socket: TcpStream,
    clock: Arc<dyn Clock>,
    /// Runs while nothing can be written.
    stalled: Option<Sleeping>,
}

impl Patient {
    /// Passes on what writing came to, unless it has waited for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = Duration::from_millis(limits::WRITE_STALL_MS);
        let stalled = self.stalled.get_or_insert_with(|| sleep(&self.clock, limit));
        stalled.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod unit {
    use async_trait::async_trait;

    use super::*;

    /// A clock on which every wait is over at once.
    struct Rushing;

    #[async_trait]
    impl Clock for Rushing {
        fn now_ms(&self) -> i64 {
            0
        }

        async fn sleep(&self, _duration: Duration) {}
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (socket, reader) = futures::join!(TcpStream::connect(address), listener.accept());
        let (socket, _reader) = (socket.expect("connected"), reader.expect("accepted"));
        let mut patient = Patient { socket, clock: Arc::new(Rushing), stalled: None };
        let bytes = vec![0; 1024 * 1024];
        let writing = async {
            loop {
                if let Err(error) = tokio::io::AsyncWriteExt::write_all(&mut patient, &bytes).await {
                    return error.kind();
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), writing).await;
        assert_eq!(ended.expect("it does not wait for ever"), io::ErrorKind::TimedOut);
    }
}

//! The server: the appliance's HTTP face, for miners, operators and anybody who wants to check.
//!
//! Owns the sockets, the routes, the shapes of the answers and the client that reads them. Refuses to decide what is
//! let in (`intake` does) or what becomes of it (`pipeline` does). `cli/` starts it and the verbs use its client.

pub mod client;
mod connections;
mod door;
mod layers;
mod problem;
mod rate;
mod routes;
mod stream;
#[cfg(test)]
mod tests;
pub mod views;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

pub use crate::intake::{ChainFacts, Registration};
pub use client::Client;
pub use problem::{CODES, Problem};

use self::rate::Rate;
use crate::{
    actors::Tasks,
    chain,
    clock::{Clock, UnixMs},
    config::settings,
    fault::Fault,
    ids::Digest,
    pipeline::{Pipeline, scheduler::Scheduler},
};

/// Limits of this room on what comes from outside, each with its reason.
pub mod limits {
    /// Connections at the same time: a subnet has 256 hotkeys, and everybody else may wait in line.
    pub const CONNECTIONS: usize = 512;
    /// Event streams at the same time: each looks into the database twice a second.
    pub const STREAMS: usize = 64;
    /// Uploads that are received at the same time: each holds a few megabytes of buffers.
    pub const UPLOADS: usize = 16;
    /// Evidence bundles that are sent at the same time: each is held in memory. Places of their own, because anybody may
    /// ask for one, and whoever reads slowly must not close the door for miners.
    pub const DOWNLOADS: usize = 8;
    /// Bytes of a request's line and headers together: a signed upload has about a thousand.
    pub const HEAD_BYTES: usize = 16 * 1024;
    /// Headers of a request: browsers and proxies send about thirty.
    pub const HEADERS: usize = 64;
    /// Milliseconds for a request's headers to arrive, and for which a connection may be idle.
    pub const HEAD_MS: u64 = 15_000;
    /// Milliseconds for an answer to be found, unless the settings say otherwise: a page of a list takes a few.
    pub const ANSWER_MS: u64 = 20_000;
    /// Requests of one address in a minute, unless the settings say otherwise: a page that looks ten times a second.
    pub const REQUESTS_PER_MINUTE: u32 = 600;
    /// By how much this machine may ask more often: its own programs look twenty times a second and wait for nothing
    /// else, and whoever is on it can do worse than ask.
    pub const LOOPBACK_FACTOR: u32 = 20;
    /// Addresses whose requests are counted at the same time: a hundred times those of a full subnet, in a few
    /// megabytes.
    pub const ADDRESSES: usize = 32_768;
    /// Milliseconds without a byte after which an upload is given up.
    pub const UPLOAD_IDLE_MS: u64 = 15_000;
    /// Milliseconds for a whole upload: eight megabytes over a very slow line.
    pub const UPLOAD_MS: u64 = 300_000;
    /// Milliseconds for which a reader may take nothing of its answer.
    pub const WRITE_STALL_MS: u64 = 30_000;
    /// Milliseconds for open requests to end after the server was told to stop.
    pub const DRAIN_MS: u64 = 5_000;
    /// Bytes of a refused body that are read and thrown away, so that the sender sees the refusal and not a broken
    /// connection.
    pub const LINGER_BYTES: u64 = 64 * 1024 * 1024;
    /// Milliseconds for which a refused body is read and thrown away.
    pub const LINGER_MS: u64 = 5_000;
    /// Rows of a page when the request does not say.
    pub const PAGE_ROWS_DEFAULT: u32 = 100;
    /// Jobs of a run that are listed: a run of a whole subnet with a job each per environment.
    pub const JOBS: u32 = 5_000;
    /// Bytes of an evidence bundle: ten times that of a run of a whole subnet.
    pub const EVIDENCE_BYTES: u64 = 64 * 1024 * 1024;
    /// Refusals of one hotkey that are recorded in an hour: more say nothing new, and keys are free.
    pub const REFUSALS_OF_HOTKEY: u32 = 24;
    /// Refusals that are recorded in an hour in all: what a flood by many keys may cost in disk.
    pub const REFUSALS: u32 = 2_000;
}

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Event streams at the same time.
    pub streams_max: usize,
    /// Uploads received at the same time.
    pub uploads_max: usize,
    /// Milliseconds after which a request is given up; the body of an upload has its own time.
    pub request_timeout_ms: u64,
    /// Requests of one address in a minute.
    pub requests_per_minute: u32,
    /// The address under which miners reach it, when another server stands in front.
    pub public_url: Option<String>,
}

impl Options {
    /// The defaults, at this address.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            connections_max: limits::CONNECTIONS,
            streams_max: limits::STREAMS,
            uploads_max: limits::UPLOADS,
            request_timeout_ms: limits::ANSWER_MS,
            requests_per_minute: limits::REQUESTS_PER_MINUTE,
            public_url: None,
        }
    }

    /// What the settings say.
    #[must_use]
    pub fn from_settings(settings: &settings::Server) -> Self {
        Self {
            connections_max: usize::try_from(settings.connections_max).unwrap_or(usize::MAX),
            request_timeout_ms: settings.request_timeout_ms,
            requests_per_minute: settings.requests_per_minute,
            public_url: settings.public_url.clone(),
            ..Self::new(settings.listen)
        }
    }
}

/// What the server shows and whom it hands uploads to.
#[derive(Clone)]
pub struct State {
    /// Where submissions go.
    pub pipeline: Pipeline,
    /// The chain as the follower last saw it; `None` until it has.
    pub facts: watch::Receiver<Option<ChainFacts>>,
    /// Whose slots the status shows.
    pub scheduler: Scheduler,
    /// By which requests are timed.
    pub clock: Arc<dyn Clock>,
    /// Since when used nonces are remembered without a gap: the start of the process, or 0 with a new data directory,
    /// for which nothing was ever signed.
    pub nonces_since_ms: UnixMs,
    /// The chain, for looking at payments; `None` until there is a connection.
    pub chain: watch::Receiver<Option<chain::Client>>,
}

/// What the server can fail at when it starts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there.
    #[error("cannot listen on {listen}: the port is in use")]
    PortInUse {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// The failure as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::PortInUse { .. } => problem::PORT_IN_USE.because(self.to_string()),
            Self::Listen { .. } => problem::LISTEN_FAILED.because(self.to_string()),
        }
    }
}

/// A bound port that does not answer yet: bound first of all, so that a port in use is known before any heavy work.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
    options: Options,
}

/// A running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Handle {
    /// The address as the client takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// Takes the port.
///
/// # Errors
/// When somebody else has it or the address is not ours.
pub async fn bind(options: Options) -> Result<Bound, Error> {
    let listen = options.listen;
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => Error::PortInUse { listen, source },
        _ => Error::Listen { listen, source },
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, addr, options })
}

impl Bound {
    /// Begins to answer, in tasks of this tree, until the tree is told to stop.
    #[must_use]
    pub fn start(self, state: State, tasks: &Tasks) -> Handle {
        let Self { listener, addr, options } = self;
        let app = App {
            shared: Arc::new(Shared {
                uploads: Arc::new(Semaphore::new(options.uploads_max)),
                downloads: Arc::new(Semaphore::new(limits::DOWNLOADS)),
                streams: Arc::new(Semaphore::new(options.streams_max)),
                rate: Rate::new(options.requests_per_minute),
                request_timeout: Duration::from_millis(options.request_timeout_ms),
                public_url: options.public_url,
                state,
                tasks: tasks.clone(),
            }),
        };
        connections::serve(listener, options.connections_max, app, tasks);
        Handle { addr }
    }
}

/// Takes the port and begins to answer.
///
/// # Errors
/// When the port cannot be taken.
pub async fn start(options: Options, state: State, tasks: &Tasks) -> Result<Handle, Error> {
    Ok(bind(options).await?.start(state, tasks))
}

/// What every request sees. Cheap to clone.
#[derive(Clone)]
struct App {
    shared: Arc<Shared>,
}

struct Shared {
    state: State,
    tasks: Tasks,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    rate: Rate,
    request_timeout: Duration,
    public_url: Option<String>,
}

impl App {
    fn pipeline(&self) -> &Pipeline {
        &self.shared.state.pipeline
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.state.clock
    }

    /// The chain as it was last seen. A copy: nobody holds the channel while it waits for something else.
    fn facts(&self) -> Option<ChainFacts> {
        self.shared.state.facts.borrow().clone()
    }

    /// The finalized block that was last seen.
    fn finalized(&self) -> Option<(u64, Digest)> {
        self.shared.state.facts.borrow().as_ref().map(|facts| (facts.finalized, facts.finalized_hash))
    }
}

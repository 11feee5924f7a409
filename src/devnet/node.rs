//! The node: one chain behind one lock, the task that makes its blocks, and those who want to hear of them.
//!
//! Owns when blocks are made, in which order they are announced, and the switch that stops everything. Refuses to
//! know what is in a block. The RPC of `devnet/` talks to it.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonrpsee::server::Methods;
use tokio::{
    net::TcpListener,
    sync::{Notify, broadcast, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Blocks, Error,
    block::Block,
    chain::{Chain, MakeError},
    failures::Failures,
    hashing::Hash,
    limits,
    rpc::server,
    rules::World,
};
use crate::{actors::Tasks, clock::Clock};

/// A running chain.
pub struct Node {
    chain: RwLock<Chain>,
    heads: broadcast::Sender<Arc<Block>>,
    /// An extrinsic came, or the chain halted.
    wake: Notify,
    mode: watch::Sender<Blocks>,
    stalled: AtomicBool,
    /// The last block that is made by itself; more come only when they are asked for.
    last_wanted: AtomicU64,
    /// Why no more blocks are made: the last one may not be on disk.
    halted: Mutex<Option<String>>,
    /// Cancelled to cut every connection that is open; replaced at once.
    connections: Mutex<CancellationToken>,
    failures: Failures,
    clock: Arc<dyn Clock>,
    token: CancellationToken,
    running: TaskTracker,
}

impl Node {
    /// A node that is not yet running.
    pub fn new(chain: Chain, blocks: Blocks, clock: Arc<dyn Clock>, token: CancellationToken) -> Self {
        Self {
            chain: RwLock::new(chain),
            heads: broadcast::Sender::new(limits::HEADS_PER_SUBSCRIBER),
            wake: Notify::new(),
            mode: watch::Sender::new(blocks),
            stalled: AtomicBool::new(false),
            last_wanted: AtomicU64::new(u64::MAX),
            halted: Mutex::new(None),
            connections: Mutex::new(token.child_token()),
            failures: Failures::default(),
            clock,
            token,
            running: TaskTracker::new(),
        }
    }

    /// Starts the maker of blocks and the listener.
    pub fn spawn(self: &Arc<Self>, tasks: &Tasks, listener: TcpListener, methods: Methods) {
        let maker = self.running.track_future(Arc::clone(self).make_for_ever());
        let tree = tasks.token().clone();
        tasks.spawn_essential("devnet-blocks", async move {
            let ended = maker.await;
            if ended.is_ok() {
                // Stopped on purpose, perhaps alone: that is no reason for the rest of the process to stop.
                tree.cancelled().await;
            }
            ended
        });
        let listening = self.running.track_future(server::serve(Arc::clone(self), tasks.clone(), listener, methods));
        tasks.spawn("devnet-listener", listening);
        self.running.close();
    }

    /// Tells everything to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Waits until everything has stopped.
    pub async fn stopped(&self) {
        self.running.wait().await;
    }

    /// What tells the node's own tasks to stop.
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// What cuts a connection that is opened now.
    pub fn connection_token(&self) -> CancellationToken {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to fail.
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Cuts every connection that is open now.
    pub fn drop_connections(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *connections, self.token.child_token()).cancel();
    }

    /// The chain, to read. A panic while it was written leaves nobody anything to read.
    pub fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().expect("the chain's writer did not panic")
    }

    /// The chain, to submit to it.
    pub fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().expect("the chain's writer did not panic")
    }

    /// Those blocks that come from now on.
    pub fn heads(&self) -> broadcast::Receiver<Arc<Block>> {
        self.heads.subscribe()
    }

    /// An extrinsic came.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Stops or restarts the making of blocks by itself.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
        self.wake();
    }

    /// Makes no block above this number by itself.
    pub fn hold_at(&self, number: u64) {
        self.last_wanted.store(number, Ordering::Relaxed);
        self.wake();
    }

    fn is_held(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
            || u64::from(self.chain().best()) >= self.last_wanted.load(Ordering::Relaxed)
    }

    /// Changes when blocks are made.
    pub fn set_mode(&self, blocks: Blocks) {
        self.mode.send_replace(blocks);
    }

    /// Makes empty or full blocks, many under one lock. Blocks the thread while the disk works.
    pub fn make_blocks(&self, count: u32) -> Result<Hash, MakeError> {
        let mut left = count.max(1);
        loop {
            let turn = left.min(limits::BLOCKS_PER_TURN);
            let hash = self.turn(turn, |_chain| Ok(()), |_world| Ok(()))?.0;
            left -= turn;
            if left == 0 {
                return Ok(hash);
            }
        }
    }

    /// Makes one block in which `act` changes the state first.
    pub fn act<T>(&self, act: impl FnOnce(&mut World<'_>) -> Result<T, String>) -> Result<(Hash, T), MakeError> {
        self.turn(1, |_chain| Ok(()), act)
    }

    /// Replaces the last blocks, none of which is final, by one block more.
    pub fn reorganise(&self, depth: u32, keep: bool) -> Result<Hash, MakeError> {
        let made = self.turn(depth.saturating_add(1), |chain| chain.retract(depth, keep), |_world| Ok(()))?;
        Ok(made.0)
    }

    /// Makes blocks, puts them on disk, then tells everybody; `before` comes before the first of them, `act` in it.
    fn turn<T>(
        &self,
        count: u32,
        before: impl FnOnce(&mut Chain) -> Result<(), String>,
        act: impl FnOnce(&mut World<'_>) -> Result<T, String>,
    ) -> Result<(Hash, T), MakeError> {
        let wall_ms = u64::try_from(self.clock.now_ms()).unwrap_or(0);
        let mut chain = self.chain_mut();
        if let Some(reason) = self.halted() {
            return Err(MakeError::Refused(reason));
        }
        before(&mut chain).map_err(MakeError::Refused)?;
        let (first, outcome) = chain.make(wall_ms, act).map_err(|error| self.halt(error))?;
        let mut made = vec![first];
        for _ in 1..count {
            made.push(chain.make(wall_ms, |_world| Ok(())).map_err(|error| self.halt(error))?.0);
        }
        chain.sync().map_err(|error| self.halt(MakeError::Log(error)))?;
        chain.announce();
        let hash = made.last().expect("at least one block was made").hash;
        for block in made {
            // Nobody listens: nobody is told.
            let _nobody = self.heads.send(Arc::new(block));
        }
        Ok((hash, outcome))
    }

    /// After a failed write nothing more is made: what is in memory may be ahead of what is on disk.
    fn halt(&self, error: MakeError) -> MakeError {
        if let MakeError::Log(source) = &error {
            use std::error::Error as _;
            let cause = source.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{source}{cause}"));
            self.wake();
        }
        error
    }

    fn halted(&self) -> Option<String> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes blocks as the mode says, until told to stop.
    async fn make_for_ever(self: Arc<Self>) -> Result<(), Error> {
        let mut mode = self.mode.subscribe();
        loop {
            let now = *mode.borrow_and_update();
            let pause = async {
                match now {
                    Blocks::Interval { ms } => self.clock.sleep(Duration::from_millis(ms.max(1))).await,
                    Blocks::Manual | Blocks::Instant => std::future::pending().await,
                }
            };
            let due = tokio::select! {
                biased;
                () = self.token.cancelled() => return Ok(()),
                _changed = mode.changed() => continue,
                () = self.wake.notified(), if !matches!(now, Blocks::Interval { .. }) => 0,
                () = pause => 1,
            };
            if let Some(reason) = self.halted() {
                return Err(Error::Halted(reason));
            }
            let count = if now == Blocks::Instant { self.wanted_at_once() } else { due };
            if count > 0 && !self.is_held() {
                let node = Arc::clone(&self);
                let made = tokio::task::spawn_blocking(move || node.make_blocks(count)).await;
                match made {
                    Ok(Ok(_hash)) => {}
                    Ok(Err(error)) => return Err(Error::Halted(error.to_string())),
                    Err(panic) => return Err(Error::Halted(panic.to_string())),
                }
            }
        }
    }

    /// In instant mode: one block for what is ready and as many as make it final.
    fn wanted_at_once(&self) -> u32 {
        let chain = self.chain();
        if chain.has_ready() { chain.finality_lag().saturating_add(1) } else { 0 }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("mode", &*self.mode.borrow()).finish_non_exhaustive()
    }
}

//! A line between a client and a node that can go dead without being cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use waag::actors::Tasks;

/// A relay to one node.
pub struct Line {
    address: SocketAddr,
    dead: watch::Sender<bool>,
    /// Bytes that went to the node.
    carried: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Line {
    pub async fn to(url: &str) -> Self {
        let node: SocketAddr = url.trim_start_matches("ws://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (dead, is_dead) = watch::channel(false);
        let (carried, tasks) = (Arc::new(AtomicUsize::new(0)), Tasks::new());
        let (count, more) = (Arc::clone(&carried), tasks.clone());
        tasks.spawn("line", async move {
            loop {
                let accepted = tokio::select! {
                    () = more.token().cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (client, _from) = accepted.expect("it can accept");
                let node = TcpStream::connect(node).await.expect("the node listens");
                let ((from_client, to_client), (from_node, to_node)) = (client.into_split(), node.into_split());
                more.spawn("up", carry(from_client, to_node, is_dead.clone(), Arc::clone(&count), more.clone()));
                more.spawn("down", carry(from_node, to_client, is_dead.clone(), Arc::default(), more.clone()));
            }
        });
        Self { address, dead, carried, tasks }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// From now on nothing is carried, and nobody is told: every connection stays open, new ones too.
    pub fn go_dead(&self) {
        self.dead.send_replace(true);
    }

    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::Relaxed)
    }

    pub fn end(self) {
        self.tasks.token().cancel();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut dead: watch::Receiver<bool>,
    carried: Arc<AtomicUsize>,
    tasks: Tasks,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            () = tasks.token().cancelled() => return,
            _dead = dead.wait_for(|dead| *dead) => break,
            read = from.read(&mut buffer) => read,
        };
        let Ok(bytes) = read else { return };
        if bytes == 0 || to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
        carried.fetch_add(bytes, Ordering::Relaxed);
    }
    // Both halves are held, so that neither side learns anything.
    tasks.token().cancelled().await;
}

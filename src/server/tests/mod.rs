//! The server on a real socket, over a real store.

mod bounds;
mod door;
mod fees;
mod pages;

use std::{
    collections::BTreeMap,
    sync::{Arc, Once},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use super::{ChainFacts, Client, Handle, Options, Registration, State, client::Error, views::Uploaded};
use crate::{
    actors::Tasks,
    auth::{Nonce, Statement, Subject},
    chain::{Keypair, Sealed, Slug},
    clock::{Clock as _, SystemClock},
    config::profile::{Incumbents, Opens},
    ids::{self, Digest, Hotkey, Priority, SystemEntropy},
    pipeline::{
        Challenge, Challenges, IntakePolicy, Pipeline, RetryPolicy, RunPolicy, Seen, Step,
        points::Points,
        scheduler::{Scheduler, Slots},
    },
    score::{Input, Ranking, Rule},
    stage::{JobResult, Outcome, Plan, Scope, Stage, Work},
    store::Store,
};

const GENESIS: [u8; 32] = [0x11; 32];
const NETUID: u16 = 7;
const SLUG: &str = "gym";
const SALT: [u8; 32] = [0x33; 32];
/// What the tests' challenge takes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
const UPLOADS_PER_HOUR: u32 = 20;

/// Passes everything.
struct Glance;

#[async_trait]
impl Stage for Glance {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    async fn run(&self, _work: &Work) -> Outcome {
        Outcome::Pass(Value::Null)
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<ids::SubmissionId, Outcome> {
        BTreeMap::new()
    }
}

/// Pays nobody.
struct Nobody;

impl Rule for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    fn check(&self, _options: &Value) -> Result<(), String> {
        Ok(())
    }

    fn rank(&self, _input: &Input) -> Ranking {
        Ranking { rows: Vec::new(), burned: 1.0, memory: Value::Null }
    }
}

fn challenge() -> Challenge {
    let retries = RetryPolicy { infra: 1, provider: 1, bug: 1, backoff_ms_min: 1, backoff_ms_max: 1 };
    Challenge {
        slug: SLUG.to_owned(),
        share: 1.0,
        profile_text: "slug = \"gym\"".to_owned(),
        steps: vec![Step { name: "glance".to_owned(), stage: Arc::new(Glance), retries, lease_ms: 60_000 }],
        run: RunPolicy {
            opens: Opens::Operator,
            every_blocks: 30,
            contestants_max: 256,
            incumbents: Incumbents::None,
            seed_delay_blocks: 0,
            rounds_after_arrival: 0,
            guarded: false,
        },
        intake: IntakePolicy {
            reveal_within_blocks: 300,
            artifact_within_blocks: 600,
            uploads_per_hour: UPLOADS_PER_HOUR,
            artifact_bytes_max: BYTES_MAX,
            ..IntakePolicy::default()
        },
        rule: Arc::new(Nobody),
        rule_options: json!({}),
    }
}

/// A running server over a store that goes away.
struct World {
    pipeline: Pipeline,
    facts: watch::Sender<Option<ChainFacts>>,
    handle: Handle,
    client: Client,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl World {
    /// A server that has seen the chain; Alice is registered since block 10.
    async fn new() -> Self {
        Self::with(Options::new(loopback())).await
    }

    async fn with(options: Options) -> Self {
        Self::serving(options, challenge(), watch::channel(None).1).await
    }

    async fn serving(
        options: Options,
        challenge: Challenge,
        chain: watch::Receiver<Option<crate::chain::Client>>,
    ) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path(), crate::store::Options::default()).await.expect("a store");
        let challenges = Challenges::from([(SLUG.to_owned(), Arc::new(challenge))]);
        let clock = SystemClock::shared();
        let pipeline =
            Pipeline::open(store, Arc::clone(&clock), challenges, Points::default()).await.expect("a pipeline");
        let (facts, seen) = watch::channel(Some(self::chain()));
        let tasks = Tasks::new();
        let state = State {
            pipeline: pipeline.clone(),
            facts: seen,
            trouble: watch::channel(None).1,
            scheduler: Scheduler::new(Slots { cpus: 2, memory_mib: 1024, gpus: Vec::new(), disk_bytes: 1 << 30 }),
            clock,
            nonces_since_ms: 0,
            chain,
        };
        let handle = super::start(options, state, &tasks).await.expect("a free port");
        let client = Client::new(&handle.url()).expect("an address");
        Self { pipeline, facts, handle, client, tasks, _dir: dir }
    }

    /// Alice's commitment to these bytes is seen in a finalized block.
    async fn commit(&self, bytes: &[u8], block: u64) {
        let field = Sealed::new(&GENESIS, NETUID, &slug(), &alice().account(), &Digest::of(bytes), &SALT).to_string();
        let at = Priority { block, index: 2 };
        let seen = Seen {
            challenge: SLUG.to_owned(),
            hotkey: alice().account(),
            coldkey: Hotkey([9; 32]),
            field,
            digest: None,
            at,
        };
        self.pipeline.commitments_seen(vec![seen]).await.expect("recorded");
    }

    async fn send(&self, statement: &Statement, bytes: &[u8]) -> Result<Uploaded, Error> {
        let signed = statement.sign(&alice());
        self.client.upload(SLUG, &signed, Bytes::copy_from_slice(bytes)).await
    }

    /// Alice's upload of these bytes, as `waag publish` sends it.
    async fn publish(&self, bytes: &[u8]) -> Result<Uploaded, Error> {
        self.send(&statement(bytes), bytes).await
    }

    /// The codes that were recorded, oldest first.
    async fn recorded(&self) -> Vec<String> {
        let page = self.client.refusals(None).await.expect("a page");
        page.items.into_iter().map(|refusal| refusal.fault.code).collect()
    }

    /// Writes raw bytes to the server.
    async fn raw(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.handle.addr).await.expect("a connection");
        socket.write_all(request.as_bytes()).await.expect("written");
        socket
    }
}

fn loopback() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn alice() -> Keypair {
    Keypair::from_uri("//Alice").expect("a development key")
}

fn slug() -> Slug {
    SLUG.parse().expect("a slug")
}

fn chain() -> ChainFacts {
    let registration = Registration { uid: 4, since_block: 10, coldkey: Hotkey([9; 32]) };
    ChainFacts {
        netuid: NETUID,
        genesis: Digest(GENESIS),
        head: 33,
        catching_up: false,
        stored: false,
        finalized: 30,
        finalized_hash: Digest([6; 32]),
        tempo: 360,
        next_epoch_block: Some(40),
        block_ms: 250,
        seen_ms: SystemClock::shared().now_ms(),
        registered: BTreeMap::from([(alice().account(), registration)]),
    }
}

fn statement(bytes: &[u8]) -> Statement {
    Statement {
        genesis: GENESIS,
        netuid: NETUID,
        hotkey: alice().account(),
        timestamp_ms: SystemClock.now_ms(),
        nonce: Nonce::random(&SystemEntropy),
        subject: Subject::Upload {
            challenge: slug(),
            artifact: Digest::of(bytes),
            salt: SALT,
            size_bytes: bytes.len() as u64,
            payment: None,
        },
    }
}

/// The head of a raw request for this upload.
fn raw_head(statement: &Statement, content_length: usize, more: &str) -> String {
    raw_framed(statement, &format!("{more}content-length: {content_length}\r\n"))
}

/// The same with other words about the body than its length, or none.
fn raw_framed(statement: &Statement, framing: &str) -> String {
    use std::fmt::Write as _;
    let mut head = format!("POST /v1/challenges/{SLUG}/submissions HTTP/1.1\r\nhost: x\r\n{framing}");
    for (name, value) in statement.sign(&alice()) {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head
}

/// Reads until the wanted text has come, or the end, or a bound that only a broken server reaches.
async fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            let count = socket.read(&mut buffer).await.unwrap_or(0);
            text.extend_from_slice(&buffer[..count]);
            if count == 0 || String::from_utf8_lossy(&text).contains(wanted) {
                return;
            }
        }
    };
    let _bounded = tokio::time::timeout(Duration::from_secs(10), reading).await;
    String::from_utf8_lossy(&text).into_owned()
}

fn code(outcome: Result<Uploaded, Error>) -> (String, u16) {
    match outcome.expect_err("it is refused") {
        Error::Refused(problem) => {
            assert_eq!(problem.kind, format!("urn:waag:error:{}", problem.title));
            assert!(!problem.hint.is_empty() && problem.request_id.len() == 16, "{problem:?}");
            (problem.title, problem.status)
        }
        other => panic!("no problem document: {other}"),
    }
}

fn said(code: &str, status: u16) -> (String, u16) {
    (code.to_owned(), status)
}

//! The appliance: everything that `waag up` runs, put together and started in one tree.
//!
//! Owns the order of starting and stopping. Refuses to parse arguments and to print. `up` and `demo` start it, and
//! both start exactly the same.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Configured, Context, Failure, check, devnet as chain_verb, exit::ENDED};
use crate::{
    actors::{
        self, Beacon, Facts, Filler, Follower, Tasks, Weigher, WeightPolicy, Workers,
        snapshots::{self, Pinned},
    },
    artifact::model::{ModelCache, Options as ModelOptions, disk},
    chain::{self, Account, Client, Hiding, Keypair},
    clock::Clock,
    config::{Profile, Settings, settings},
    dedup::model::Key,
    devnet::{self, Blocks},
    engine::Engine,
    fault::{Class, Code},
    ids::{Digest, Entropy as _, SystemEntropy},
    pipeline::{
        Challenge, Challenges, Pipeline, Released,
        collection::Keep,
        points::{Point, Points},
        scheduler::{Scheduler, Slots},
    },
    score,
    server::{self, ChainFacts, ChainTrouble},
    stage::{
        catalog::{self, BuiltIn, Parts},
        model,
    },
    store::{self, Store},
};

/// How long the tasks may take to end.
const DRAIN: Duration = Duration::from_secs(10);
/// First wait after the chain could not be reached.
const CONNECT_MS: u64 = 500;
/// Longest such wait.
const CONNECT_MS_MAX: u64 = 15_000;
/// Milliseconds of a block on every chain but our own.
const BLOCK_MS: u64 = 12_000;
/// Bytes of a key of our own: the one by which observations are chosen, the seed of the own chain's validator.
const KEY_BYTES: usize = 32;
/// The network whose beacon is the chain's own.
const DEVNET: &str = "devnet";
/// Submissions at their stages at a time, where artifacts are fetched: one slow source must not keep all others waiting.
const FETCHING_RUNNERS: usize = 4;
/// The name of this machine's workers.
const MACHINE: &str = "local";
/// Unfinalized blocks apart, how far the own chain may be ahead of what the appliance took in: within what counts as
/// having caught up.
const AHEAD_BLOCKS: u64 = 8;

/// A key file cannot be read or written.
pub const KEY_UNUSABLE: Code = Code::new(
    Class::Operator,
    "appliance_key_unusable",
    "the appliance's own key file cannot be read or written",
    "look at the permissions and the contents of `keys/` in the data directory",
);
/// The profile's parts do not exist.
pub const PROFILE_UNUSABLE: Code = Code::new(
    Class::Operator,
    "profile_unusable",
    "a profile names a part that this program does not have",
    "check it with `waag profile check FILE`",
);

/// The data directory follows another chain or subnet.
pub const OTHER_CHAIN: Code = Code::new(
    Class::Operator,
    "appliance_other_chain",
    "this data directory follows another chain or another subnet than the settings name",
    "name the network and the netuid that it belongs to, or give the other one a `data_dir` of its own",
);

/// The codes of this room.
pub const CODES: &[Code] = &[KEY_UNUSABLE, PROFILE_UNUSABLE, OTHER_CHAIN];

/// How an appliance is started beyond its settings.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Bring the chain along.
    pub dev: bool,
    /// Where a crash test wants it to stop.
    pub stop_at: Option<(Point, u32, PathBuf)>,
}

/// A running appliance.
pub struct Appliance {
    /// Its tasks.
    pub tasks: Tasks,
    /// Where it answers.
    pub server: server::Handle,
    /// The address of the chain it uses.
    pub chain_url: String,
    /// Whose weights it sets.
    pub validator: Option<Account>,
    own_chain: Option<OwnChain>,
}

/// A chain that is brought along. Its tasks are a tree of their own, because it must outlive those who use it.
struct OwnChain {
    node: Arc<devnet::Handle>,
    tasks: Tasks,
    validator: Arc<Keypair>,
}

impl Appliance {
    /// Starts everything. The port is bound and the data directory locked before anything heavy; the chain is
    /// connected to in the background, so that the appliance answers at once and outlives its chain.
    ///
    /// # Errors
    /// When the data directory, the port, a profile, a key or the own chain cannot be used.
    pub async fn start(context: &Context, configured: &Configured, start: Start) -> Result<Self, Failure> {
        let settings = configured.settings();
        // First of all, because a password may be asked for.
        let own_hotkey = if start.dev { None } else { validator(context, settings)? };
        let tasks = Tasks::new();
        let bound =
            server::bind(server::Options::from_settings(&settings.server)).await.map_err(|error| error.fault())?;
        let is_new = !settings.data_dir.join("db").exists();
        let kept = store::Options::from_settings(&settings.store).map_err(super::context::refused)?;
        let store = Store::open(&settings.data_dir, kept).await.map_err(|error| error.fault())?;
        let scheduler = Scheduler::new(slots(settings)?);
        let parts = parts(context, settings, &store, &scheduler)?;
        let models = parts.models.cache.clone();
        let challenges = assemble(&configured.profiles, &parts)?;
        let engine = catalog::engine(&configured.profiles, &parts)?;
        let points =
            start.stop_at.map_or_else(Points::default, |(point, passes, marker)| Points::armed(point, passes, marker));
        let pipeline = Pipeline::open(store, Arc::clone(&context.clock), challenges, points)
            .await
            .map_err(|error| error.fault())?;
        let pinned = check_pinned(&pipeline, settings).await?;
        let begun_ms = context.clock.now_ms();
        let (facts, seen) = watch::channel(restored(&pipeline, settings, pinned).await);
        if let Some(facts) = &*seen.borrow() {
            let (block, neurons) = (facts.finalized.number, facts.metagraph.neurons.len());
            let took_ms = context.clock.now_ms().saturating_sub(begun_ms);
            info!(block, neurons, took_ms, "the subnet as last known; the chain has yet to confirm it");
        }
        let (doors, door_facts) = watch::channel(None);
        let (trouble, door_trouble) = watch::channel(None);
        let (connection, connected) = watch::channel(None);
        let state = server::State {
            pipeline: pipeline.clone(),
            facts: door_facts,
            trouble: door_trouble,
            scheduler: scheduler.clone(),
            clock: Arc::clone(&context.clock),
            nonces_since_ms: if is_new { 0 } else { context.clock.now_ms() },
            chain: connected,
        };
        let server = bound.start(state, &tasks);
        let own_chain = if start.dev { Some(OwnChain::start(context, settings).await?) } else { None };
        let chain_url = own_chain.as_ref().map_or_else(|| settings.endpoints().join(","), |own| own.node.url());
        let genesis = match &own_chain {
            Some(own) => Some(check_own(pinned, own.node.genesis_hash())?),
            None => pinned.map(|pinned| pinned.genesis.0).or(settings.genesis().map(|genesis| genesis.0)),
        };
        let hotkey = own_chain.as_ref().map(|own| Arc::clone(&own.validator)).or(own_hotkey);
        let validator = hotkey.as_ref().map(|hotkey| hotkey.account());
        let appliance = Self { tasks, server, chain_url, validator, own_chain };
        let block_ms = if appliance.own_chain.is_some() { settings.devnet.block_ms } else { BLOCK_MS };
        let held = pipeline.release_held(MACHINE).await.map_err(|error| error.fault())?;
        if held != Released::default() {
            info!(held.attempts, held.replicas, "what the process before this one was at work on is begun again");
        }
        appliance.run_pipeline(&pipeline, scheduler, Arc::new(engine), &seen, settings.weights.burn_uid);
        appliance.collect(context, configured, &pipeline, models);
        appliance.tell_doors(context, doors, seen.clone(), block_ms);
        appliance.keep_pace(settings, seen.clone());
        let watched = Watched { genesis, connection, facts, seen, trouble };
        appliance.follow(context, settings, &pipeline, hotkey, watched);
        Ok(appliance)
    }

    /// Starts the actors that need no chain.
    fn run_pipeline(
        &self,
        pipeline: &Pipeline,
        scheduler: Scheduler,
        engine: Arc<dyn Engine>,
        facts: &watch::Receiver<Option<Facts>>,
        burn_uid: u16,
    ) {
        let token = self.tasks.token();
        let fetches = pipeline.challenges().values().any(|challenge| challenge.intake.is_fetched);
        for _ in 0..if fetches { FETCHING_RUNNERS } else { 1 } {
            self.tasks.spawn("stage runner", actors::run_stages(pipeline.clone(), token.clone()));
        }
        self.tasks.spawn("run keeper", actors::keep_runs(pipeline.clone(), facts.clone(), token.clone()));
        self.tasks.spawn("ranker", actors::rank(pipeline.clone(), facts.clone(), burn_uid, token.clone()));
        let workers = Workers { pipeline: pipeline.clone(), scheduler, engine, name: MACHINE.to_owned() };
        actors::run_workers(&workers, &self.tasks);
    }

    /// Starts what deletes models.
    fn collect(&self, context: &Context, configured: &Configured, pipeline: &Pipeline, models: ModelCache) {
        let (store, clock) = (pipeline.store().clone(), Arc::clone(&context.clock));
        let actor = actors::collect_models(models, store, clock, keep(configured), self.tasks.token().clone());
        self.tasks.spawn("collector", actor);
    }

    /// Hands the doors their part of what the follower sees.
    fn tell_doors(
        &self,
        context: &Context,
        doors: watch::Sender<Option<ChainFacts>>,
        mut facts: watch::Receiver<Option<Facts>>,
        block_ms: u64,
    ) {
        let (clock, token) = (Arc::clone(&context.clock), self.tasks.token().clone());
        self.tasks.spawn("door facts", async move {
            loop {
                let now_ms = clock.now_ms();
                doors.send_replace(facts.borrow_and_update().as_ref().map(|one| one.for_doors(block_ms, now_ms)));
                tokio::select! {
                    () = token.cancelled() => return,
                    changed = facts.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Lets the own chain wait for its appliance: on a busy machine it would otherwise run away from it, and what is
    /// signed would be too old before it is sent.
    fn keep_pace(&self, settings: &Settings, mut facts: watch::Receiver<Option<Facts>>) {
        let Some(node) = self.own_chain.as_ref().map(|own| Arc::clone(&own.node)) else { return };
        let ahead_blocks = settings.devnet.finality_lag_blocks.saturating_add(AHEAD_BLOCKS);
        let token = self.tasks.token().clone();
        self.tasks.spawn("chain pace", async move {
            loop {
                // What was stored may be long past: a chain that waits there waits for blocks that were taken in before.
                let present = |facts: &&Facts| facts.stored_at_ms.is_none();
                let taken = facts.borrow_and_update().as_ref().filter(present).map(|facts| facts.finalized.number);
                if let Some(taken) = taken {
                    node.hold_at(taken.saturating_add(ahead_blocks));
                }
                tokio::select! {
                    () = token.cancelled() => return,
                    changed = facts.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Connects to the chain, however long it takes, then follows it and sets weights.
    fn follow(
        &self,
        context: &Context,
        settings: &Settings,
        pipeline: &Pipeline,
        hotkey: Option<Arc<Keypair>>,
        watched: Watched,
    ) {
        let Watched { genesis, connection, facts, seen, trouble } = watched;
        let recheck_ms = if self.own_chain.is_some() { settings.devnet.block_ms } else { settings.weights.recheck_ms };
        let policy = WeightPolicy { recheck_ms, ..weight_policy(settings, self.own_chain.is_some()) };
        let options = chain::Options {
            request_timeout_ms: settings.network.request_timeout_ms,
            clock: Arc::clone(&context.clock),
            // A chain that is brought along keeps what it has.
            archive: if self.own_chain.is_some() { Vec::new() } else { settings.archive_endpoints() },
            genesis,
            ..chain::Options::new(self.chain_url.split(',').map(str::to_owned).collect())
        };
        let (netuid, pipeline, tasks) = (settings.network.netuid, pipeline.clone(), self.tasks.clone());
        let (token, clock) = (self.tasks.token().clone(), Arc::clone(&context.clock));
        self.tasks.spawn_essential("chain follower", async move {
            let Some(client) = connect(options, clock, &trouble, token.clone()).await else { return Ok(()) };
            let pinned = Pinned { genesis: Digest(client.genesis_hash()), netuid };
            snapshots::pin(&pipeline, pinned).await.map_err(|error| error.to_string())?;
            connection.send_replace(Some(client.clone()));
            match hotkey {
                Some(hotkey) => {
                    let (client, pipeline) = (client.clone(), pipeline.clone());
                    let entropy = Arc::new(SystemEntropy);
                    let weigher = Weigher { client, hotkey, pipeline, facts: seen, policy, entropy };
                    tasks.spawn("weight setter", weigher.run(token.clone()));
                }
                None => warn!("no hotkey: everything is ranked, and no weights are set"),
            }
            if client.has_archive() {
                let filler = Filler { client: client.clone(), netuid, pipeline: pipeline.clone() };
                tasks.spawn("gap filler", filler.run(token.clone()));
            }
            Follower::new(client, netuid, pipeline, facts).telling(trouble).run(token).await;
            Ok::<_, String>(())
        });
    }

    /// Waits until the appliance is told to stop or stops by itself, then stops it in order.
    ///
    /// # Errors
    /// When it stopped by itself.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let own_chain_ended = async {
            match &self.own_chain {
                Some(own) => own.tasks.token().cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => info!("stopping; a second signal ends the process at once"),
            () = self.tasks.token().cancelled() => {}
            () = own_chain_ended => {}
        }
        self.stop().await
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// When it had stopped by itself before.
    pub async fn stop(self) -> Result<(), Failure> {
        let left = self.tasks.drain(DRAIN).await;
        if !left.is_empty() {
            warn!(?left, "these tasks did not end in time; what they held is taken up again at the next start");
        }
        let mut failure = self.tasks.failure();
        if let Some(own) = self.own_chain {
            failure = failure.or_else(|| own.tasks.failure());
            own.tasks.drain(DRAIN).await;
        }
        failure.map_or(Ok(()), |failure| Err(ENDED.because(failure).into()))
    }
}

/// What the follower needs to begin, and where it puts what it sees.
struct Watched {
    genesis: Option<[u8; 32]>,
    connection: watch::Sender<Option<Client>>,
    facts: watch::Sender<Option<Facts>>,
    seen: watch::Receiver<Option<Facts>>,
    trouble: watch::Sender<Option<ChainTrouble>>,
}

/// The chain and the subnet that the data directory follows must be those of the settings.
async fn check_pinned(pipeline: &Pipeline, settings: &Settings) -> Result<Option<Pinned>, Failure> {
    let pinned = snapshots::pinned(pipeline).await.map_err(|error| error.fault())?;
    let Some(Pinned { genesis, netuid }) = pinned else { return Ok(None) };
    if netuid != settings.network.netuid {
        let asked = settings.network.netuid;
        return Err(OTHER_CHAIN
            .because(format!("it follows subnet {netuid}, the settings name subnet {asked}"))
            .into());
    }
    match settings.genesis() {
        Some(asked) if asked != genesis => Err(other_chain(genesis, asked)),
        _ => Ok(pinned),
    }
}

/// The same for a chain that is brought along.
fn check_own(pinned: Option<Pinned>, own: [u8; 32]) -> Result<[u8; 32], Failure> {
    match pinned {
        Some(Pinned { genesis, .. }) if genesis.0 != own => Err(other_chain(genesis, Digest(own))),
        _ => Ok(own),
    }
}

fn other_chain(pinned: Digest, found: Digest) -> Failure {
    OTHER_CHAIN.because(format!("it follows the chain with the first block {pinned}, not {found}")).into()
}

/// What was last known of the subnet, so that pages need not wait for the chain. Without it they wait.
async fn restored(pipeline: &Pipeline, settings: &Settings, pinned: Option<Pinned>) -> Option<Facts> {
    let restored = snapshots::restore(pipeline, settings.network.netuid, pinned.map(|pinned| pinned.genesis)).await;
    restored.unwrap_or_else(|error| {
        warn!(%error, "what was last known of the subnet cannot be read");
        None
    })
}

/// The pipeline alone, over the settings' data directory, which no appliance may be using.
///
/// # Errors
/// When the data directory or a profile cannot be used.
pub async fn pipeline(context: &Context, configured: &Configured) -> Result<Pipeline, Failure> {
    let settings = configured.settings();
    let kept = store::Options::from_settings(&settings.store).map_err(super::context::refused)?;
    let store = Store::open(&settings.data_dir, kept).await.map_err(|error| error.fault())?;
    let scheduler = Scheduler::new(slots(settings)?);
    let challenges = assemble(&configured.profiles, &parts(context, settings, &store, &scheduler)?)?;
    let opened = Pipeline::open(store, Arc::clone(&context.clock), challenges, Points::default()).await;
    opened.map_err(|error| error.fault().into())
}

async fn connect(
    options: chain::Options,
    clock: Arc<dyn Clock>,
    trouble: &watch::Sender<Option<ChainTrouble>>,
    token: CancellationToken,
) -> Option<Client> {
    let mut wait_ms = CONNECT_MS;
    loop {
        let tried = tokio::select! {
            () = token.cancelled() => return None,
            tried = Client::connect(options.clone()) => tried,
        };
        match tried {
            Ok(client) => {
                trouble.send_replace(None);
                return Some(client);
            }
            Err(error) => {
                let fault = error.fault();
                warn!(error = %fault, wait_ms, "the chain cannot be reached; trying again");
                let since_ms = trouble.borrow().as_ref().map_or_else(|| clock.now_ms(), |known| known.since_ms);
                trouble.send_replace(Some(ChainTrouble { fault, since_ms }));
            }
        }
        tokio::select! {
            () = token.cancelled() => return None,
            () = clock.sleep(Duration::from_millis(wait_ms)) => {}
        }
        wait_ms = (wait_ms * 2).min(CONNECT_MS_MAX);
    }
}

impl OwnChain {
    /// Starts it, with a subnet and a validator; its state stays in the data directory. When this returns, both stand
    /// in finalized blocks.
    async fn start(context: &Context, settings: &Settings) -> Result<Self, Failure> {
        let folder = settings.data_dir.join("chain");
        std::fs::create_dir_all(&folder)
            .map_err(|source| KEY_UNUSABLE.because(format!("cannot create {}: {source}", folder.display())))?;
        let options = devnet::Options {
            listen: settings.devnet.listen,
            blocks: Blocks::Interval { ms: settings.devnet.block_ms },
            finality_lag: u32::try_from(settings.devnet.finality_lag_blocks).unwrap_or(u32::MAX),
            state: Some(folder.join("devnet.state")),
            seed: chain_verb::fresh_seed(context),
            keeps_seed: true,
            ..devnet::Options::default()
        };
        let tasks = Tasks::new();
        let node = chain_verb::start(options, &tasks, context).await?;
        let owner = Keypair::from_uri("//Alice").map_err(|error| error.fault())?.account();
        // A key of this data directory and of nothing else. The wallet is the miners' here: whoever registers with it
        // must not find himself a validator at the next start.
        let seed = own_key(context, settings, "dev-validator.key")?;
        let validator = Arc::new(Keypair::from_seed(&seed).map_err(|error| error.fault())?);
        chain_verb::prepare(&node.url(), settings.network.netuid, &owner, &validator.account()).await?;
        Ok(Self { node: Arc::new(node), tasks, validator })
    }
}

/// How weights are set under these settings; on a devnet they are sealed for the chain's own beacon.
pub fn weight_policy(settings: &Settings, is_own_chain: bool) -> WeightPolicy {
    let weights = settings.weights;
    WeightPolicy {
        burn_uid: weights.burn_uid,
        interval_blocks: weights.interval_blocks,
        recheck_ms: weights.recheck_ms,
        mechanism: weights.mechanism,
        version_key: weights.version_key,
        hiding: match weights.commit {
            settings::Commit::Auto => Hiding::Auto,
            settings::Commit::Timelocked => Hiding::Timelocked,
            settings::Commit::Hash => Hiding::Hash,
        },
        beacon: beacon_of(settings, is_own_chain),
    }
}

/// The beacon for which something is locked.
pub fn beacon_of(settings: &Settings, is_own_chain: bool) -> Beacon {
    let is_devnet = is_own_chain || settings.network.name == DEVNET;
    match settings.network.beacon {
        settings::Beacon::Auto if is_devnet => Beacon::Chain,
        settings::Beacon::Chain => Beacon::Chain,
        settings::Beacon::Auto | settings::Beacon::Quicknet => Beacon::Quicknet,
    }
}

/// Whose weights are set: the settings' hotkey; nobody's, without one.
fn validator(context: &Context, settings: &Settings) -> Result<Option<Arc<Keypair>>, Failure> {
    let wallet = context.wallet(settings)?;
    if wallet.hotkey_path().exists() {
        return Ok(Some(Arc::new(wallet.validator()?)));
    }
    Ok(None)
}

/// What stages are made of. The key for observations is made at the first start and kept.
fn parts(context: &Context, settings: &Settings, store: &Store, scheduler: &Scheduler) -> Result<Parts, Failure> {
    Ok(Parts {
        blobs: store.blobs().clone(),
        observation_key: own_key(context, settings, "observations.key")?,
        host: context.host()?,
        onnx_library: settings.onnx.library.clone(),
        models: models(context, settings, store, scheduler)?,
    })
}

/// What the stages of models share. The key of fingerprints is made at the first start and kept.
fn models(
    context: &Context,
    settings: &Settings,
    store: &Store,
    scheduler: &Scheduler,
) -> Result<model::Parts, Failure> {
    let key = Key::new(own_key(context, settings, "fingerprints.key")?);
    let (clock, disk) = (Arc::clone(&context.clock), scheduler.disk().clone());
    let cache = ModelCache::open(&settings.data_dir, clock, disk).map_err(|error| error.fault())?;
    Ok(model::Parts {
        fetch: check::model::limits(settings),
        credentials: check::model::credentials(context, settings)?,
        cache,
        prints: model::Prints::new(store.clone(), Arc::clone(&context.clock), key),
        passes: Arc::new(Semaphore::new(1)),
    })
}

/// A secret of this data directory, made when it is first asked for and kept.
fn own_key(context: &Context, settings: &Settings, name: &str) -> Result<[u8; KEY_BYTES], Failure> {
    use std::{
        fs,
        io::{ErrorKind, Write as _},
        os::unix::fs::OpenOptionsExt as _,
    };

    let folder = settings.data_dir.join("keys");
    let path = folder.join(name);
    let failed = |source: std::io::Error| KEY_UNUSABLE.because(format!("{}: {source}", path.display()));
    match fs::read(&path) {
        Ok(bytes) => {
            let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice());
            key.map_err(|_source| KEY_UNUSABLE.because(format!("{} has not 32 bytes", path.display())).into())
        }
        Err(source) if source.kind() == ErrorKind::NotFound => {
            let mut key = [0; KEY_BYTES];
            context.entropy.fill(&mut key);
            fs::create_dir_all(&folder).map_err(failed)?;
            // Written beside and renamed: a crash leaves no half key.
            let beside = folder.join(format!("{name}.new"));
            drop(fs::remove_file(&beside));
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
            file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&beside, &path).map_err(failed)?;
            Ok(key)
        }
        Err(source) => Err(failed(source).into()),
    }
}

fn assemble(profiles: &[Profile], parts: &Parts) -> Result<Challenges, Failure> {
    let mut challenges = Challenges::new();
    for profile in profiles {
        profile.check(&BuiltIn).map_err(super::context::refused)?;
        let rule = score::rule(&profile.ranking.rule)
            .ok_or_else(|| PROFILE_UNUSABLE.because(format!("rule `{}`", profile.ranking.rule)))?;
        let challenge = Challenge::assemble(profile, catalog::stages(profile, parts)?, rule);
        challenges.insert(challenge.slug.clone(), Arc::new(challenge));
    }
    Ok(challenges)
}

/// Which models are never deleted, and for how long those of failed submissions are kept.
pub fn keep(configured: &Configured) -> Keep {
    let models = configured.profiles.iter().filter(|profile| profile.artifact.kind == "model");
    let options = models.filter_map(|profile| ModelOptions::parse(&profile.artifact.options).ok());
    let bases = options.filter_map(|options| Some(options.base().ok()??.repo().to_owned())).collect();
    Keep { bases, grace_ms: configured.settings().models.grace_ms }
}

fn slots(settings: &Settings) -> Result<Slots, Failure> {
    let machine = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let cpus = if settings.slots.cpus == 0 { machine } else { settings.slots.cpus };
    // Without a limit of its own, memory is not what jobs wait for.
    let memory_mib = if settings.slots.memory_mib == 0 { u64::MAX / 2 } else { settings.slots.memory_mib };
    let disk_bytes = disk::budget_bytes(&settings.data_dir, settings.slots.disk_mib);
    let disk_bytes = disk_bytes.map_err(|error| error.fault())?;
    Ok(Slots { cpus, memory_mib, gpus: Vec::new(), disk_bytes })
}

//! Miners that do not give up: they commit and upload by the functions behind the miner verbs, and begin again for as
//! long as nobody is there to take what they send.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use waag::{
    chain::{Keypair, Wallet},
    cli::{
        demo::{
            cast::{Act, Member, cast},
            play::Stage,
        },
        devnet::{Controls, GIFT_RAO},
        miner::{self, Commit, Means, Publish},
    },
    clock::{Clock, SystemClock, UnixMs},
    fault::{Class, Fault},
    ids::SystemEntropy,
};

/// The longest that these miners wait, whatever they are told: a kill does not.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How far the miners' clocks are ahead. After a start the door takes only what is stamped five seconds later, in case
/// the memory of what was sent before is lost, and it takes what is stamped up to five seconds ahead: these miners need
/// not wait for it.
const AHEAD_MS: UnixMs = 4_900;

pub struct Ahead(SystemClock);

/// The miners' clock.
pub const CLOCK: Ahead = Ahead(SystemClock);

#[async_trait]
impl Clock for Ahead {
    fn now_ms(&self) -> UnixMs {
        self.0.now_ms() + AHEAD_MS
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration.min(WAIT_MAX)).await;
    }
}

/// One of the demo's cast, with keys.
pub struct Miner {
    pub member: Member,
    pub hotkey: Keypair,
    coldkey: Keypair,
    artifact: PathBuf,
}

/// The members of these names, in this order, each with keys and a file.
pub fn prepare(stage: &Stage, names: &[&str]) -> Vec<Miner> {
    let cast = cast();
    let member = |name: &&str| cast.iter().find(|member| member.name == *name).expect("it is in the cast").clone();
    names.iter().map(member).map(|member| Miner::new(stage, member)).collect()
}

impl Miner {
    fn new(stage: &Stage, member: Member) -> Self {
        let wallet = Wallet::new(&stage.folder.join("wallets"), member.name, "default").expect("a plain name");
        let coldkey = wallet.create_plain_coldkey(&SystemEntropy).expect("it is written").keypair;
        let hotkey = wallet.create_hotkey(&SystemEntropy).expect("it is written").keypair;
        let artifact = stage.folder.join(format!("{}.tar", member.name));
        fs::write(&artifact, &member.artifact).expect("it is written");
        Self { member, hotkey, coldkey, artifact }
    }

    pub async fn register(&self, stage: &Stage, controls: &Controls) {
        controls.fund(&self.coldkey.account(), GIFT_RAO).await.expect("funds");
        let hotkey = self.hotkey.account();
        self.insist(stage, async || miner::register(&stage.chain, stage.netuid, &self.coldkey, &hotkey, &|_| {}).await)
            .await;
    }

    /// Begins again whatever failed for a reason that passes: nobody answers, or what was signed got too old. Every act
    /// of a miner may be begun again.
    async fn insist<T>(&self, stage: &Stage, mut act: impl AsyncFnMut() -> Result<T, Fault>) -> T {
        let mut done = None;
        let tried = async || match act().await {
            Ok(value) => {
                done = Some(value);
                Ok(true)
            }
            Err(fault) if matches!(fault.class, Class::Infra | Class::Provider) => Ok(false),
            Err(fault) => Err(fault),
        };
        stage.until(tried).await.unwrap_or_else(|fault| panic!("{}: {fault}", self.member.name));
        done.expect("it was done")
    }

    pub fn what<'a>(&'a self, stage: &'a Stage) -> Commit<'a> {
        Commit {
            netuid: stage.netuid,
            challenge: &stage.challenge,
            hotkey: &self.hotkey,
            artifact: &self.artifact,
            again: false,
        }
    }

    /// Commits; answers the block.
    pub async fn commit(&self, stage: &Stage) -> u64 {
        let commit = async || miner::commit(&stage.chain, &self.what(stage), &SystemEntropy, &|_| {}).await;
        self.insist(stage, commit).await.block
    }

    /// Commits, and uploads if it ever does.
    pub async fn enter(&self, stage: &Stage) {
        self.commit(stage).await;
        if self.member.act == Act::NeverUploads {
            return;
        }
        let what = Publish {
            commit: self.what(stage),
            api: &stage.api,
            checks: None,
            skip_commit: true,
            patience_ms: 600_000,
            foreign_form: false,
            foreign: None,
            fee: None,
            means: Means::Stored,
        };
        self.insist(stage, async || miner::publish(&stage.chain, &what, &SystemEntropy, &CLOCK, &|_| {}).await).await;
    }
}

/// Who enters at which kill.
pub struct Entries {
    cues: Vec<(usize, Miner)>,
    /// The kill that is being waited for.
    kill: AtomicUsize,
    entered: AtomicUsize,
}

impl Entries {
    pub fn new(cues: Vec<(usize, Miner)>) -> Self {
        Self { cues, kill: AtomicUsize::new(0), entered: AtomicUsize::new(0) }
    }

    pub fn miners(&self) -> impl Iterator<Item = &Miner> {
        self.cues.iter().map(|(_, miner)| miner)
    }

    /// Says which kill is next.
    pub fn come_to(&self, kill: usize) {
        self.kill.fetch_max(kill, Ordering::SeqCst);
    }

    /// Lets the next one enter before its kill.
    pub fn hurry(&self) {
        let entered = self.entered.load(Ordering::SeqCst);
        if let Some((cue, _)) = self.cues.get(entered) {
            self.come_to(*cue);
        }
    }

    /// Whether everybody who was to enter until now is in.
    pub fn are_in(&self) -> bool {
        let kill = self.kill.load(Ordering::SeqCst);
        let due = self.cues.iter().filter(|(cue, _)| *cue <= kill).count();
        self.entered.load(Ordering::SeqCst) >= due
    }

    /// Lets everybody enter, one after the other, each when its kill comes.
    pub async fn play(&self, stage: &Stage) {
        for (cue, miner) in &self.cues {
            stage.until(async || Ok(self.kill.load(Ordering::SeqCst) >= *cue)).await.expect("the kills go on");
            miner.enter(stage).await;
            self.entered.fetch_add(1, Ordering::SeqCst);
        }
    }
}

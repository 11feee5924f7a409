//! The play: the cast acts through the chain's RPC and the appliance's HTTP, by the functions behind the miner verbs.
//!
//! Owns who acts when. Refuses to look inside the appliance: everything it knows it asked for. The demo plays it
//! against an appliance of its own, and a test against one in another process.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::try_join_all;
use serde::Serialize;
use subxt_rpcs::{RpcClient, client::rpc_params};
use tokio::sync::Mutex;

use super::cast::{Act, Member, Refused};
use crate::{
    auth::{Nonce, Statement, Subject},
    chain::{self, Account, Client, Keypair, Sealed, Slug, Wallet},
    cli::{
        devnet::{Controls, GIFT_RAO},
        miner::{self, Commit, Means, Publish, Seals, Step},
    },
    clock::Clock,
    fault::{Class, Code, Fault},
    ids::{Digest, Entropy, SubmissionId},
    server,
};

/// The play cannot go on.
pub const STUCK: Code = Code::new(
    Class::Bug,
    "demo_stuck",
    "the demo waited longer than anything in it can take",
    "report it with the lines above; on a very slow machine try --fast",
);

/// The codes of this room.
pub const CODES: &[Code] = &[STUCK];

/// How long an upload may be asked to come again.
const PATIENCE_MS: u64 = 60_000;
/// How often the world is looked at while something is awaited, in milliseconds.
const LOOK_MS: u64 = 50;
/// Looks before the play gives up: ten minutes.
const LOOKS_MAX: u32 = 12_000;

/// Who holds a chain's blocks back has this, so that stages on one chain do not let go what another holds.
static BLOCKS: Mutex<()> = Mutex::const_new(());

/// Where the play takes place.
pub struct Stage {
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: Slug,
    /// The chain.
    pub chain: Client,
    /// The chain's address, for its controls.
    pub chain_url: String,
    /// Wall milliseconds between two blocks of the chain.
    pub block_ms: u64,
    /// The appliance.
    pub api: server::Client,
    /// Where wallets and artifacts are kept.
    pub folder: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What one member did and was told.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Its hotkey.
    pub hotkey: Account,
    /// Its place, if it has one.
    pub uid: Option<u16>,
    /// The block of its commitment.
    pub commit_block: Option<u64>,
    /// What the appliance called its submission, when it was told.
    pub submission: Option<SubmissionId>,
    /// What the chain refused it.
    pub chain_refused: Option<Fault>,
    /// What the door refused it.
    pub door_refused: Option<Fault>,
}

impl Part {
    /// Whether chain and door refused it by these codes, and by no other.
    #[must_use]
    pub fn is_refused_as(&self, refused: Refused) -> bool {
        let by_chain = self.chain_refused.as_ref().map(|fault| fault.code.as_str());
        let by_door = self.door_refused.as_ref().map(|fault| fault.code.as_str());
        (by_chain, by_door) == (refused.by_chain, refused.by_door)
    }
}

/// Who is told what happens, in words.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A member on its stage.
pub struct Actor<'a> {
    member: &'a Member,
    coldkey: Keypair,
    hotkey: Keypair,
    artifact: PathBuf,
    /// What it did and was told so far.
    pub part: Part,
}

impl Actor<'_> {
    /// Who it is.
    #[must_use]
    pub const fn member(&self) -> &Member {
        self.member
    }
}

fn quiet(_step: &Step) {}

impl Stage {
    /// Plays the whole cast: registrations, commitments in order, uploads, and what the liars try.
    ///
    /// # Errors
    /// When something fails that should not.
    pub async fn play(&self, cast: &[Member], entropy: &dyn Entropy, tell: Tell<'_>) -> Result<Vec<Part>, Fault> {
        let mut actors = self.enter(cast, entropy, tell).await?;
        let taken = self.upload(&mut actors, |_member| true, entropy).await?;
        tell(&format!("{taken} artifacts uploaded over HTTP; the others were refused or never came"));
        Ok(actors.into_iter().map(|actor| actor.part).collect())
    }

    /// The first half of the play: registrations, and commitments in order.
    ///
    /// # Errors
    /// When something fails that should not.
    pub async fn enter<'a>(
        &self,
        cast: &'a [Member],
        entropy: &dyn Entropy,
        tell: Tell<'_>,
    ) -> Result<Vec<Actor<'a>>, Fault> {
        let controls = Controls::connect(&self.chain_url).await?;
        let mut actors = Vec::new();
        for member in cast {
            actors.push(self.prepare(member, entropy)?);
        }
        self.register(&controls, &mut actors, tell).await?;
        self.commit(&mut actors, entropy, tell).await?;
        Ok(actors)
    }

    fn prepare<'a>(&self, member: &'a Member, entropy: &dyn Entropy) -> Result<Actor<'a>, Fault> {
        let wallet =
            Wallet::new(&self.folder.join("wallets"), member.name, "default").map_err(|error| error.fault())?;
        let coldkey = wallet.create_plain_coldkey(entropy).map_err(|error| error.fault())?.keypair;
        let hotkey = wallet.create_hotkey(entropy).map_err(|error| error.fault())?.keypair;
        let artifact = write(&self.folder.join("artifacts"), member.name, &member.artifact)?;
        let part = Part {
            name: member.name,
            hotkey: hotkey.account(),
            uid: None,
            commit_block: None,
            submission: None,
            chain_refused: None,
            door_refused: None,
        };
        Ok(Actor { member, coldkey, hotkey, artifact, part })
    }

    async fn register(&self, controls: &Controls, actors: &mut [Actor<'_>], tell: Tell<'_>) -> Result<(), Fault> {
        for actor in actors.iter() {
            controls.fund(&actor.coldkey.account(), GIFT_RAO).await?;
        }
        let registering = actors.iter_mut().filter(|actor| actor.member.act != Act::Unregistered).map(|actor| async {
            let hotkey = actor.hotkey.account();
            let registered = miner::register(&self.chain, self.netuid, &actor.coldkey, &hotkey, &quiet).await?;
            actor.part.uid = Some(registered.uid);
            Ok::<_, Fault>(())
        });
        let count = try_join_all(registering).await?.len();
        tell(&format!("{count} miners registered by burned_register"));
        Ok(())
    }

    /// One after another, so that the order on chain is the cast's; who copies a commitment does it in the same block.
    async fn commit(&self, actors: &mut [Actor<'_>], entropy: &dyn Entropy, tell: Tell<'_>) -> Result<(), Fault> {
        for at in 0..actors.len() {
            match actors[at].member.act {
                Act::CopiesCommitmentOf(_) => {}
                Act::Unregistered => {
                    let committed = self.commit_one(&actors[at], entropy).await;
                    actors[at].part.chain_refused = committed.err();
                }
                Act::Plays | Act::NeverUploads => {
                    let name = actors[at].member.name;
                    let echo = actors.iter().position(|actor| actor.member.act == Act::CopiesCommitmentOf(name));
                    let block = match echo {
                        Some(echo) => self.commit_both(&actors[at], &actors[echo], entropy).await?,
                        None => self.commit_one(&actors[at], entropy).await?,
                    };
                    actors[at].part.commit_block = Some(block);
                    if let Some(echo) = echo {
                        actors[echo].part.commit_block = Some(block);
                    }
                }
            }
        }
        tell("commitments sealed on chain, in order");
        Ok(())
    }

    fn commit_of<'a>(&'a self, actor: &'a Actor<'_>) -> Commit<'a> {
        Commit {
            netuid: self.netuid,
            challenge: &self.challenge,
            hotkey: &actor.hotkey,
            artifact: &actor.artifact,
            again: false,
        }
    }

    async fn commit_one(&self, actor: &Actor<'_>, entropy: &dyn Entropy) -> Result<u64, Fault> {
        Ok(miner::commit(&self.chain, &self.commit_of(actor), entropy, &quiet).await?.block)
    }

    /// Holds the blocks until both commitments wait in the pool, then lets them go.
    async fn commit_both(&self, honest: &Actor<'_>, echo: &Actor<'_>, entropy: &dyn Entropy) -> Result<u64, Fault> {
        let rpc = RpcClient::from_url(&self.chain_url)
            .await
            .map_err(|source| STUCK.because(format!("the chain's controls: {source}")))?;
        let _held = BLOCKS.lock().await;
        self.set_interval(&rpc, 0).await?;
        let together = async {
            let field = self.pending_field(honest, entropy)?;
            let sealed: Sealed = field.parse().map_err(|error: chain::SealError| error.fault())?;
            let copied = miner::commit_sealed(&self.chain, self.netuid, &echo.hotkey, &sealed, &quiet);
            let within = hex::encode(&field);
            let release = async {
                self.until(async || {
                    let pending: Vec<String> = rpc
                        .request("author_pendingExtrinsics", rpc_params![])
                        .await
                        .map_err(|source| STUCK.because(source.to_string()))?;
                    Ok(pending.iter().filter(|extrinsic| extrinsic.contains(&within)).count() == 2)
                })
                .await?;
                self.set_interval(&rpc, self.block_ms).await
            };
            let (block, _copied, ()) = futures::try_join!(self.commit_one(honest, entropy), copied, release)?;
            Ok(block)
        };
        let block = together.await;
        if block.is_err() {
            self.set_interval(&rpc, self.block_ms).await?;
        }
        block
    }

    /// The field that this actor is about to commit: a copier reads it from the transaction pool.
    fn pending_field(&self, actor: &Actor<'_>, entropy: &dyn Entropy) -> Result<String, Fault> {
        let commit = self.commit_of(actor);
        let genesis = self.chain.genesis_hash();
        let (artifact, _bytes) = miner::digest_file(&actor.artifact)?;
        let mut seals = Seals::open(&actor.artifact)?;
        let seal = seals.find_or_make(&commit.subject(&genesis, artifact), entropy)?;
        Ok(commit.sealed(&seal)?.to_string())
    }

    async fn set_interval(&self, rpc: &RpcClient, ms: u64) -> Result<(), Fault> {
        let answer: Result<serde_json::Value, _> = rpc.request("dev_setInterval", rpc_params![ms]).await;
        answer.map(drop).map_err(|source| STUCK.because(format!("dev_setInterval: {source}")))
    }

    /// The second half: those members upload of whom it is asked, one after another. Answers how many artifacts were
    /// taken.
    ///
    /// # Errors
    /// When something fails that is not the miner's fault.
    pub async fn upload(
        &self,
        actors: &mut [Actor<'_>],
        is_asked: impl Fn(&Member) -> bool,
        entropy: &dyn Entropy,
    ) -> Result<usize, Fault> {
        let mut taken = 0;
        for at in 0..actors.len() {
            if !is_asked(actors[at].member) {
                continue;
            }
            let uploaded = match actors[at].member.act {
                Act::NeverUploads => continue,
                Act::Plays => self.publish(&actors[at], entropy).await,
                Act::CopiesCommitmentOf(name) => {
                    // It knows by now what the copied commitment hides, and tries to open it as its own.
                    let honest = actors.iter().find(|actor| actor.member.name == name);
                    let Some(honest) = honest else { continue };
                    self.upload_as(&actors[at], honest, entropy).await
                }
                Act::Unregistered => self.upload_as(&actors[at], &actors[at], entropy).await,
            };
            match uploaded {
                Ok(submission) => {
                    actors[at].part.submission = Some(submission);
                    taken += 1;
                }
                Err(fault) if fault.class == Class::Miner => actors[at].part.door_refused = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
        Ok(taken)
    }

    /// As `waag publish` does, but for the checks on the miner's side: this cast would not pass them.
    async fn publish(&self, actor: &Actor<'_>, entropy: &dyn Entropy) -> Result<SubmissionId, Fault> {
        let what = Publish {
            commit: self.commit_of(actor),
            api: &self.api,
            checks: None,
            skip_commit: true,
            patience_ms: PATIENCE_MS,
            foreign_form: false,
            foreign: None,
            fee: None,
            means: Means::Stored,
        };
        Ok(miner::publish(&self.chain, &what, entropy, &*self.clock, &quiet).await?.submission)
    }

    /// Uploads another's artifact, or one without a commitment, under the actor's own signature.
    async fn upload_as(
        &self,
        actor: &Actor<'_>,
        source: &Actor<'_>,
        entropy: &dyn Entropy,
    ) -> Result<SubmissionId, Fault> {
        let genesis = self.chain.genesis_hash();
        let artifact = Digest::of(&source.member.artifact);
        let commit = self.commit_of(source);
        let seals = Seals::open(&source.artifact)?;
        let salt = match seals.find(&commit.subject(&genesis, artifact)) {
            Some(seal) => seal.salt_bytes()?,
            None => [0; 32],
        };
        let statement = Statement {
            genesis,
            netuid: self.netuid,
            hotkey: actor.hotkey.account(),
            timestamp_ms: self.clock.now_ms(),
            nonce: Nonce::random(entropy),
            subject: Subject::Upload {
                challenge: self.challenge.clone(),
                artifact,
                salt,
                size_bytes: source.member.artifact.len() as u64,
                payment: None,
            },
        };
        let signed = statement.sign(&actor.hotkey);
        let body = source.member.artifact.clone().into();
        let uploaded = self.api.upload(self.challenge.as_str(), &signed, body).await;
        uploaded.map(|uploaded| uploaded.submission).map_err(|error| error.fault())
    }

    /// Lets chain time pass.
    ///
    /// # Errors
    /// When the node is no devnet.
    pub async fn pass_blocks(&self, count: u32) -> Result<(), Fault> {
        Controls::connect(&self.chain_url).await?.new_blocks(count).await
    }

    /// Looks until something is so, with a bound.
    ///
    /// # Errors
    /// When looking fails, or it is never so.
    pub async fn until(&self, mut is_so: impl AsyncFnMut() -> Result<bool, Fault>) -> Result<(), Fault> {
        for _ in 0..LOOKS_MAX {
            if is_so().await? {
                return Ok(());
            }
            self.clock.sleep(Duration::from_millis(LOOK_MS)).await;
        }
        Err(STUCK.because(format!("after {} seconds", u64::from(LOOKS_MAX) * LOOK_MS / 1000)))
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Fault> {
    let path = folder.join(format!("{name}.tar"));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
    written
        .map_err(|source| miner::ARTIFACT_UNREADABLE.because(format!("cannot write `{}`: {source}", path.display())))?;
    Ok(path)
}

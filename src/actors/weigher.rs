//! The weight setter: rankings become a vector, the vector a signed extrinsic, and the extrinsic a fact that is read
//! back.
//!
//! Owns the order of these steps and what a restart does with each. Refuses to rank, to aggregate and to quantise; how
//! weights are hidden and revealed is `hidden`'s. Weights count as set when they are read back from finalized state,
//! never before. The appliance runs it; `waag weights set` takes the same steps by hand.

#[path = "weigher_hidden.rs"]
mod hidden;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Facts, reconcile, side_of};
use crate::{
    chain::{
        self, BlockRef, Client, Found, Hiding, Keypair, Outcome, Proposal, ReadBack, Signed, Validator, Way,
        WeightRules, preflight, read_back, storage_index,
    },
    fault::{Class, Code, Fault},
    ids::{Digest, Entropy},
    pipeline::{self, Decision, Letter, Pipeline, REVEAL_LETTER, StoredVector, WEIGHTS_LETTER, points::Point},
    store,
    weights::{Vector, bundle, bundle::Bundle, quantise},
};

/// The stored letter is not a signed call of this program.
pub const LETTER_DAMAGED: Code = Code::new(
    Class::Bug,
    "outbox_letter_damaged",
    "a stored extrinsic cannot be read",
    "report it; a new one is signed",
);
/// What stands on chain is not what was sent.
pub const READ_BACK_DIFFERS: Code = Code::new(
    Class::Provider,
    "weights_read_back_differs",
    "the chain holds other weights than those that were set",
    "look whether another program uses the same hotkey; the weights are set again",
);
/// The extrinsic died in no block.
pub const EXTRINSIC_DEAD: Code = Code::new(
    Class::Provider,
    "weights_extrinsic_dead",
    "the signed weights came into no block while they could",
    "nothing to do: they are signed anew; if it repeats, use another endpoint",
);
/// Our hotkey is not in the subnet.
pub const VALIDATOR_UNREGISTERED: Code = Code::new(
    Class::Operator,
    "validator_unregistered",
    "the configured hotkey is not registered in the subnet",
    "register it, or configure the hotkey that is",
);
/// Commit-reveal was switched on or off between decision and effect.
pub const WAY_CHANGED: Code = Code::new(
    Class::Infra,
    "weights_way_changed",
    "the subnet switched the hiding of weights on or off while these were on their way",
    "nothing to do: they are decided anew and sent as the subnet wants it now",
);

/// The codes of this room.
pub const CODES: &[Code] = &[
    LETTER_DAMAGED,
    READ_BACK_DIFFERS,
    EXTRINSIC_DEAD,
    VALIDATOR_UNREGISTERED,
    WAY_CHANGED,
    hidden::REVEAL_DROPPED,
    hidden::REVEAL_MISSED,
    hidden::NEVER_REVEALED,
    hidden::NOT_SEALABLE,
    hidden::BEACON_DIFFERS,
];

/// What setting weights can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chain.
    #[error("the chain could not be used")]
    Chain(#[from] chain::Error),
    /// The pipeline.
    #[error("the pipeline failed")]
    Pipeline(#[from] pipeline::Error),
    /// The store.
    #[error("the evidence could not be stored")]
    Store(#[from] store::Error),
    /// The evidence is more than a bundle holds.
    #[error("the evidence cannot be written")]
    Evidence(#[from] bundle::Error),
    /// A rule forbids it now.
    #[error("{0}")]
    Refused(Fault),
}

/// How weights are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Receives what nobody earned.
    pub burn_uid: u16,
    /// Blocks after which unchanged weights are set again; 0 for once an epoch.
    pub interval_blocks: u64,
    /// How often to look.
    pub recheck_ms: u64,
    /// The mechanism whose weights are set.
    pub mechanism: u8,
    /// The least version that we claim to run; the subnet's own, where that is more.
    pub version_key: u64,
    /// How weights are hidden where they must be.
    pub hiding: Hiding,
    /// The beacon for which they are sealed.
    pub beacon: Beacon,
}

/// For which beacon, and by which clock, weights are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beacon {
    /// The one that the chain names, by the chain's time: on a devnet.
    Chain,
    /// drand's quicknet, by this machine's clock: everywhere else.
    Quicknet,
}

/// The weight setter.
#[derive(Clone)]
pub struct Weigher {
    /// The chain.
    pub client: Client,
    /// Whose weights are set.
    pub hotkey: Arc<Keypair>,
    /// Where rankings and the outbox are.
    pub pipeline: Pipeline,
    /// The chain as last seen.
    pub facts: watch::Receiver<Option<Facts>>,
    /// How.
    pub policy: Policy,
    /// Salts and seals.
    pub entropy: Arc<dyn Entropy>,
}

/// What a decision stands on, all of it at one finalized block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The block.
    pub head: BlockRef,
    /// The subnet's rules.
    pub rules: WeightRules,
    /// What the chain holds of us.
    pub caller: Validator,
    /// How weights would be sent.
    pub way: Way,
    /// The version that we would claim to run.
    pub version_key: u64,
}

impl Ground {
    /// The first block from which on weights may be decided; 0 when nothing holds them up.
    #[must_use]
    pub const fn next_block(&self) -> u64 {
        self.rules.next_set_block(self.caller.last_update)
    }

    /// What the chain would say to these weights in the next block.
    ///
    /// # Errors
    /// The first rule that they break.
    pub fn check(&self, vector: &Vector) -> Result<(), Fault> {
        let proposal = Proposal {
            way: self.way,
            uids: &vector.uids,
            weights: &vector.values,
            version_key: self.version_key,
            now: self.head.number + 1,
        };
        preflight(&self.rules, &self.caller, &proposal).map_err(|refusal| refusal.fault())
    }
}

impl Weigher {
    /// Sets weights until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        let period = Duration::from_millis(self.policy.recheck_ms.max(50));
        reconcile("weight setter", &self.pipeline, period, &token, || self.look_and_tell()).await;
    }

    /// Looks, and keeps the reason where weights are refused: whoever asks for the status is told.
    async fn look_and_tell(&self) -> Result<bool, Error> {
        let looked = self.look().await;
        let refused = match &looked {
            Err(Error::Refused(fault)) => Some(fault.clone()),
            Err(Error::Chain(error @ chain::Error::Pool { .. })) => Some(error.fault()),
            Err(Error::Evidence(error)) => Some(error.fault()),
            _ => None,
        };
        let netuid = self.facts.borrow().as_ref().map(|facts| facts.netuid);
        if let (Some(fault), Some(netuid)) = (refused, netuid) {
            self.pipeline.weights_refused(netuid, &fault).await?;
        }
        looked
    }

    /// Carries on what is open, or decides whether a new vector is due. Answers whether to look again at once.
    async fn look(&self) -> Result<bool, Error> {
        if let Some(again) = self.carry_on().await? {
            return Ok(again);
        }
        let Some(facts) = self.facts.borrow().clone() else { return Ok(false) };
        if !self.is_due(&facts).await? {
            return Ok(false);
        }
        self.decide(&facts).await
    }

    /// Takes the next step with the vector that is under way, of which there is never more than one: hidden weights
    /// are not followed by others before their end is known, so that what is read back is always the answer to what
    /// was sent, and the rate limit is never spent on weights that others overtake. `None` when none is under way,
    /// otherwise whether to look again at once.
    ///
    /// # Errors
    /// When the chain or the store fails, or the pool refuses what is sent.
    pub async fn carry_on(&self) -> Result<Option<bool>, Error> {
        if let Some(letter) = self.pipeline.open_letter(WEIGHTS_LETTER).await? {
            return self.deliver(&letter).await.map(Some);
        }
        if let Some(letter) = self.pipeline.open_letter(REVEAL_LETTER).await? {
            return self.deliver_reveal(&letter).await.map(Some);
        }
        match self.pipeline.committed_vector().await? {
            Some(vector) => self.follow(&vector).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether a new vector is due: a ranking changed, or the old one is to be refreshed; and the chain allows one.
    async fn is_due(&self, facts: &Facts) -> Result<bool, Error> {
        let us = self.hotkey.account();
        // While old blocks are caught up with, what they say of us is history; and so is what was only stored.
        if facts.catching_up || facts.stored_at_ms.is_some() {
            return Ok(false);
        }
        let Some(neuron) = facts.metagraph.neuron(&us) else {
            self.expect_registered(facts).await?;
            return Ok(false);
        };
        let versions = self.pipeline.ranking_versions().await?;
        if let Some(last) = self.pipeline.last_vector().await? {
            let refresh_blocks = match self.policy.interval_blocks {
                0 => u64::from(facts.rules.tempo_blocks).max(1),
                blocks => blocks,
            };
            let is_old = facts.finalized.number >= last.block.saturating_add(refresh_blocks);
            if last.rankings == versions && !is_old {
                return Ok(false);
            }
        }
        // Each mechanism has a rate limit of its own; the metagraph tells that of the first.
        let last_update = match self.policy.mechanism {
            0 => neuron.last_update,
            other => {
                let index = storage_index(facts.netuid, other);
                self.client.last_update(index, neuron.uid, facts.finalized.hash).await?
            }
        };
        Ok(facts.finalized.number >= facts.rules.next_set_block(last_update))
    }

    /// Fails when we are not registered now. The facts may be of a block before our registration: then nothing is
    /// wrong, and weights are due when the follower comes to it.
    async fn expect_registered(&self, facts: &Facts) -> Result<(), Error> {
        let us = self.hotkey.account();
        let head = self.client.finalized_head().await?;
        match self.client.uid_of(facts.netuid, &us, head.hash).await? {
            Some(_uid) => Ok(()),
            None => Err(Error::Refused(VALIDATOR_UNREGISTERED.because(us.to_string()))),
        }
    }

    /// What a decision would stand on now.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn ground(&self, netuid: u16) -> Result<Ground, Error> {
        let head = self.client.finalized_head().await?;
        let rules = self.client.weight_rules(netuid, head.hash).await?;
        let us = self.hotkey.account();
        let caller = self.client.validator(netuid, self.policy.mechanism, &us, head.hash).await?;
        let way = rules.way(self.policy.hiding);
        let version_key = rules.version_key.max(self.policy.version_key);
        Ok(Ground { head, rules, caller, way, version_key })
    }

    /// Computes, proves, signs and writes down the next vector. Everything is read at one finalized block, just
    /// before signing.
    async fn decide(&self, facts: &Facts) -> Result<bool, Error> {
        let ground = self.ground(facts.netuid).await?;
        if ground.head.number < ground.next_block() {
            return Ok(false);
        }
        let metagraph = self.client.metagraph(facts.netuid, ground.head.hash).await?;
        let side = side_of(facts.genesis, &metagraph, &ground.rules, self.policy.burn_uid);
        let Some((mut bundle, rankings)) = self.pipeline.evidence(side).await? else { return Ok(false) };
        let vector = vector_of(&bundle).map_err(Error::Refused)?;
        ground.check(&vector).map_err(Error::Refused)?;
        bundle.vector = Some(vector.clone());
        let evidence = self.keep(bundle.sealed()).await?;
        self.write_down(&ground, vector, rankings, evidence).await?;
        Ok(true)
    }

    /// Writes down weights that somebody chose, for [`Weigher::carry_on`] to send. Their evidence says so.
    ///
    /// # Errors
    /// When the chain would not take them, or cannot be read, or the store fails.
    pub async fn set_by_hand(&self, ground: &Ground, vector: Vector) -> Result<i64, Error> {
        ground.check(&vector).map_err(Error::Refused)?;
        let evidence = json!({
            "by_hand": true,
            "genesis": Digest(self.client.genesis_hash()),
            "netuid": ground.rules.netuid,
            "mechanism": ground.caller.mechanism,
            "block": ground.head.number,
            "hotkey": ground.caller.hotkey,
            "uids": vector.uids,
            "weights": vector.values,
        });
        let evidence = self.pipeline.store().blobs().put(evidence.to_string().into_bytes()).await?;
        self.write_down(ground, vector, json!({}), evidence).await
    }

    /// Signs and writes down, in one transaction, what will be sent.
    async fn write_down(
        &self,
        ground: &Ground,
        vector: Vector,
        rankings: Value,
        evidence: Digest,
    ) -> Result<i64, Error> {
        let (call, sending) = self.call_for(ground, &vector).await?;
        let signed = self.client.sign(&self.hotkey, call, None).await?;
        self.pipeline.reach(Point::VectorDecided);
        let (netuid, block, way) = (ground.rules.netuid, ground.head.number, ground.way);
        let (bytes, key) = (signed.encode(), signed.hash.to_string());
        let decision = Decision { netuid, block, vector, rankings, evidence, sending, signed: bytes, key };
        let id = self.pipeline.decide_vector(decision).await?;
        self.pipeline.reach(Point::VectorRecorded);
        info!(block, way = way.as_str(), %evidence, extrinsic = %signed.hash.short(), "weights decided");
        Ok(id)
    }

    async fn keep(&self, bundle: Bundle) -> Result<Digest, Error> {
        Ok(self.pipeline.store().blobs().put(bundle.to_bytes()?).await?)
    }

    /// Sends the stored bytes until they are in a finalized block or can never be, then reads back.
    async fn deliver(&self, letter: &Letter) -> Result<bool, Error> {
        let vector = match letter.subject {
            Some(id) => self.pipeline.vector(Some(id)).await?,
            None => None,
        };
        let (Some(vector), Some(signed)) = (vector, Signed::decode(&letter.payload)) else {
            let fault = LETTER_DAMAGED.because(format!("letter {}", letter.id));
            self.pipeline.vector_failed(letter.id, letter.subject.unwrap_or_default(), &fault).await?;
            return Ok(true);
        };
        match self.client.find(&signed).await? {
            Found::Included { finalized: true, outcome: Outcome::Ok, block, .. } => {
                match vector.sending.way {
                    Way::Plain => self.read_back(letter, &vector).await?,
                    Way::Timelocked | Way::Hash => self.take_commit(letter, &vector, &block).await?,
                }
                Ok(true)
            }
            Found::Included { finalized: true, outcome: Outcome::Failed { name }, .. } => {
                let fault = chain::Error::Dispatch { name }.fault();
                warn!(%fault, "the chain refused the weights");
                self.pipeline.vector_failed(letter.id, vector.id, &fault).await?;
                Ok(true)
            }
            Found::Included { .. } => Ok(false),
            Found::NotYet => {
                if let (false, Some(fault)) = (letter.sent, self.changed_way(&vector).await?) {
                    warn!(%fault, "the weights are not sent");
                    self.pipeline.vector_failed(letter.id, vector.id, &fault).await?;
                    return Ok(true);
                }
                self.send(letter, &signed).await?;
                Ok(false)
            }
            Found::Dead => self.bury(letter, &vector).await,
        }
    }

    /// Why what was signed is not what the subnet takes now, if it is so: plain weights would be stored and ignored
    /// where they must be hidden, and hidden ones refused where they must not.
    async fn changed_way(&self, vector: &StoredVector) -> Result<Option<Fault>, Error> {
        let best = self.client.best_head().await?;
        let rules = self.client.weight_rules(vector.netuid, best.hash).await?;
        let is_hidden = vector.sending.way != Way::Plain;
        Ok((is_hidden != rules.commit_reveal).then(|| {
            let now = if rules.commit_reveal { "on" } else { "off" };
            WAY_CHANGED.because(format!("commit-reveal is {now} at block {}", best.number))
        }))
    }

    /// Hands the bytes over. A pool that refuses them decides nothing: they may be in a block that this node does not
    /// show yet, and then a second set of weights would follow the first. They are given up when they are dead.
    async fn send(&self, letter: &Letter, signed: &Signed) -> Result<(), Error> {
        match self.client.submit(signed).await {
            Ok(()) => {}
            // Handed over before: the pool may say so in several ways; the blocks decide.
            Err(chain::Error::Pool { name }) if letter.sent => {
                debug!(letter = letter.id, name, "the pool has seen it");
            }
            Err(other) => return Err(other.into()),
        }
        self.pipeline.reach(Point::ExtrinsicSent);
        self.pipeline.letter_sent(letter.id).await?;
        self.pipeline.reach(Point::ExtrinsicRecorded);
        Ok(())
    }

    /// The extrinsic can never come into a block. When its effect stands on chain all the same, it is confirmed;
    /// otherwise it is given up and a new one will be signed.
    async fn bury(&self, letter: &Letter, vector: &StoredVector) -> Result<bool, Error> {
        match self.standing(vector).await? {
            // Of a commit, equal weights are no effect: they are older ones.
            Standing::Read { block, found: ReadBack::Equal } if vector.sending.way == Way::Plain => {
                self.pipeline.vector_confirmed(Some(letter.id), vector.id, block).await?;
            }
            Standing::Read { .. } | Standing::Unregistered => {
                let fault = EXTRINSIC_DEAD.because(format!("vector {}", vector.id));
                warn!(%fault, "signing anew");
                self.pipeline.vector_failed(letter.id, vector.id, &fault).await?;
            }
        }
        Ok(true)
    }

    async fn read_back(&self, letter: &Letter, vector: &StoredVector) -> Result<(), Error> {
        if vector.sending.way == Way::Plain
            && let Some(fault) = self.changed_way(vector).await?
        {
            warn!(%fault, "the weights stand and do not count");
            return Ok(self.pipeline.vector_failed(letter.id, vector.id, &fault).await?);
        }
        let fault = match self.standing(vector).await? {
            Standing::Read { block, found: ReadBack::Equal } => {
                self.pipeline.reach(Point::ReadBack);
                self.pipeline.vector_confirmed(Some(letter.id), vector.id, block).await?;
                self.pipeline.reach(Point::Confirmed);
                info!(block, vector = vector.id, "weights read back equal");
                return Ok(());
            }
            Standing::Read { block, found: ReadBack::Different { differences } } => {
                READ_BACK_DIFFERS.because(format!("at block {block}, as uid, sent, found: {differences:?}"))
            }
            Standing::Unregistered => VALIDATOR_UNREGISTERED.because(self.hotkey.account().to_string()),
        };
        warn!(%fault, "the weights do not stand");
        Ok(self.pipeline.vector_failed(letter.id, vector.id, &fault).await?)
    }

    /// What stands on chain at the finalized head, compared with the vector. It needs no facts from the follower: a
    /// letter may be older than this process.
    async fn standing(&self, vector: &StoredVector) -> Result<Standing, Error> {
        let head = self.client.finalized_head().await?;
        let Some(uid) = self.client.uid_of(vector.netuid, &self.hotkey.account(), head.hash).await? else {
            return Ok(Standing::Unregistered);
        };
        let index = storage_index(vector.netuid, vector.sending.mechanism);
        let stored = self.client.weights(index, uid, head.hash).await?;
        let sent: Vec<(u16, u16)> =
            vector.vector.uids.iter().copied().zip(vector.vector.values.iter().copied()).collect();
        Ok(Standing::Read { block: head.number, found: read_back(&sent, &stored) })
    }
}

/// What the chain holds of us.
enum Standing {
    /// Our weights, compared with what was sent.
    Read { block: u64, found: ReadBack },
    /// We are not in the subnet.
    Unregistered,
}

/// Aggregates and quantises what the bundle holds: the same functions that `waag verify` calls.
pub(super) fn vector_of(bundle: &Bundle) -> Result<Vector, Fault> {
    let shares = bundle.weights().map_err(|source| source.fault())?;
    quantise(&shares, &bundle.limits, bundle.burn_uid).map_err(|source| source.fault())
}

#[cfg(test)]
#[path = "weigher_hidden_tests.rs"]
mod hidden_tests;
#[cfg(test)]
#[path = "weigher_tests.rs"]
mod tests;

//! The weight setter: rankings become a vector, the vector a signed extrinsic, and the extrinsic a fact that is read
//! back.
//!
//! Owns the order of these steps and what a restart does with each. Refuses to rank, to aggregate and to quantise.
//! Weights count as set when they are read back from finalized state, never before.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Facts, reconcile, side_of};
use crate::{
    chain::{self, BlockRef, Call, Client, Found, Keypair, Outcome, ReadBack, Signed, preflight, read_back},
    fault::{Class, Code, Fault},
    ids::Digest,
    pipeline::{self, Letter, Pipeline, StoredVector, WEIGHTS_LETTER, points::Point},
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

/// The codes of this room.
pub const CODES: &[Code] = &[LETTER_DAMAGED, READ_BACK_DIFFERS, EXTRINSIC_DEAD, VALIDATOR_UNREGISTERED];

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
}

/// The weight setter.
#[derive(Clone)]
pub struct Weigher {
    /// The chain.
    pub client: Client,
    /// Whose weights are set.
    pub hotkey: std::sync::Arc<Keypair>,
    /// Where rankings and the outbox are.
    pub pipeline: Pipeline,
    /// The chain as last seen.
    pub facts: watch::Receiver<Option<Facts>>,
    /// How.
    pub policy: Policy,
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

    /// Carries the open letter on, or decides whether a new vector is due. Answers whether to look again at once.
    async fn look(&self) -> Result<bool, Error> {
        if let Some(letter) = self.pipeline.open_letter(WEIGHTS_LETTER).await? {
            return self.deliver(&letter).await;
        }
        let Some(facts) = self.facts.borrow().clone() else { return Ok(false) };
        if !self.is_due(&facts).await? {
            return Ok(false);
        }
        self.decide(&facts).await
    }

    /// Whether a new vector is due: a ranking changed, or the old one is to be refreshed; and the chain allows one.
    async fn is_due(&self, facts: &Facts) -> Result<bool, Error> {
        let us = self.hotkey.account();
        // While old blocks are caught up with, what they say of us is history.
        if facts.catching_up {
            return Ok(false);
        }
        let Some(neuron) = facts.metagraph.neuron(&us) else {
            self.expect_registered(facts).await?;
            return Ok(false);
        };
        if facts.finalized.number < facts.rules.next_set_block(neuron.last_update) {
            return Ok(false);
        }
        let versions = self.pipeline.ranking_versions().await?;
        let Some(last) = self.pipeline.last_vector().await? else { return Ok(true) };
        let refresh_blocks = match self.policy.interval_blocks {
            0 => u64::from(facts.rules.tempo_blocks).max(1),
            blocks => blocks,
        };
        Ok(last.rankings != versions || facts.finalized.number >= last.block.saturating_add(refresh_blocks))
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

    /// Computes, proves, signs and writes down the next vector. Everything is read at one finalized block, just
    /// before signing.
    async fn decide(&self, facts: &Facts) -> Result<bool, Error> {
        let head = self.client.finalized_head().await?;
        let metagraph = self.client.metagraph(facts.netuid, head.hash).await?;
        let rules = self.client.weight_rules(facts.netuid, head.hash).await?;
        let side = side_of(facts.genesis, &metagraph, &rules, self.policy.burn_uid);
        let Some((mut bundle, rankings)) = self.pipeline.evidence(side).await? else { return Ok(false) };
        let vector = vector_of(&bundle).map_err(Error::Refused)?;
        let us = self.hotkey.account();
        preflight(&metagraph, &rules, &us, &vector.uids, &vector.values, rules.version_key, head.number + 1)
            .map_err(|refusal| Error::Refused(refusal.fault()))?;
        bundle.vector = Some(vector.clone());
        let evidence = self.keep(bundle.sealed()).await?;
        let call = Call::SetWeights {
            netuid: facts.netuid,
            uids: vector.uids.clone(),
            values: vector.values.clone(),
            version_key: rules.version_key,
        };
        let signed = self.client.sign(&self.hotkey, call, None).await?;
        self.write_down(&head, &vector, rankings, evidence, &signed, facts.netuid).await?;
        Ok(true)
    }

    async fn write_down(
        &self,
        head: &BlockRef,
        vector: &Vector,
        rankings: Value,
        evidence: Digest,
        signed: &Signed,
        netuid: u16,
    ) -> Result<(), Error> {
        self.pipeline.reach(Point::VectorDecided);
        let key = signed.hash.to_string();
        self.pipeline.decide_vector(netuid, head.number, vector, rankings, evidence, signed.encode(), key).await?;
        self.pipeline.reach(Point::VectorRecorded);
        info!(block = head.number, %evidence, extrinsic = %signed.hash.short(), "weights decided");
        Ok(())
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
            Found::Included { finalized: true, outcome: Outcome::Ok, .. } => {
                self.read_back(letter, &vector).await?;
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
                self.send(letter, &signed).await?;
                Ok(false)
            }
            Found::Dead => self.bury(letter, &vector).await,
        }
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
            Standing::Read { block, found: ReadBack::Equal } => {
                self.pipeline.vector_confirmed(letter.id, vector.id, block).await?;
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
        let fault = match self.standing(vector).await? {
            Standing::Read { block, found: ReadBack::Equal } => {
                self.pipeline.reach(Point::ReadBack);
                self.pipeline.vector_confirmed(letter.id, vector.id, block).await?;
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
        let stored = self.client.weights(vector.netuid, uid, head.hash).await?;
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
#[path = "weigher_tests.rs"]
mod tests;

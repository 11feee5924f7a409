//! Hidden weights: sealed or promised by hash, found on chain, revealed, and read back after that.
//!
//! Owns the steps between a commit and its end. Refuses to know how a vector came about. Only the weight setter uses
//! it. The chain discards a sealed vector that it cannot open, or does not like, without a word: so what counts is
//! that the commit is gone and what the row of weights then holds.

use tracing::{debug, info, warn};

use super::{Beacon, EXTRINSIC_DEAD, Error, Ground, LETTER_DAMAGED, Standing, VALIDATOR_UNREGISTERED, Weigher};
use crate::{
    chain::{
        self, BlockRef, Call, CommitForm, Found, OpenCommit, Outcome, ReadBack, Signed, TIMELOCK_VERSION, Way,
        WeightRules, commit_hash, storage_index,
        timelock::{self, WEIGHTS_BYTES_MAX},
    },
    fault::{Class, Code, Fault},
    ids::random_32,
    pipeline::{Letter, Sending, StoredVector, points::Point},
    weights::Vector,
};

/// Numbers of a salt: 128 bits, which nobody guesses.
const SALT_LENGTH: usize = 8;
/// Reveals of one vector that are signed: each lives for 32 blocks, and an epoch for 360.
pub(super) const REVEALS_MAX: u32 = 16;

/// The commit is gone, and its weights do not stand.
pub(super) const REVEAL_DROPPED: Code = Code::new(
    Class::Provider,
    "weights_reveal_dropped",
    "the chain discarded committed weights when they were to be revealed",
    "look whether permit, stake and version key held until the reveal; new weights are committed after the rate limit",
);
/// Nobody revealed in time.
pub(super) const REVEAL_MISSED: Code = Code::new(
    Class::Infra,
    "weights_reveal_missed",
    "committed weights were not revealed within their epoch",
    "keep the appliance running and its endpoint reachable; new weights are committed after the rate limit",
);
/// The subnet has no epochs.
pub(super) const NEVER_REVEALED: Code = Code::new(
    Class::Operator,
    "weights_never_revealed",
    "the subnet hides weights and runs no epoch in which they would be revealed",
    "ask the subnet's owner for a tempo above 0",
);
/// More entries than the chain takes as one ciphertext.
pub(super) const NOT_SEALABLE: Code = Code::new(
    Class::Operator,
    "weights_not_sealable",
    "the weights cannot be sealed for the chain",
    "set `weights.commit` to \"hash\", or `network.beacon` to the beacon that the chain uses",
);

/// The chain would never open what is sealed.
pub(super) const BEACON_DIFFERS: Code = Code::new(
    Class::Operator,
    "weights_beacon_differs",
    "the chain opens sealed weights with another beacon than the configured one",
    "set `network.beacon` to \"chain\", or name the network that you mean; nothing was sent",
);

impl Weigher {
    /// The call that sets or commits these weights, and what must be known of it later.
    pub(super) async fn call_for(&self, ground: &Ground, vector: &Vector) -> Result<(Call, Sending), Error> {
        let (netuid, mechanism, version_key) = (ground.rules.netuid, ground.caller.mechanism, ground.version_key);
        if ground.way != Way::Plain && ground.rules.tempo_blocks == 0 {
            return Err(Error::Refused(never_revealed(&ground.rules)));
        }
        let sending = Sending { way: ground.way, mechanism, version_key, round: None, hash: None, salt: Vec::new() };
        match ground.way {
            Way::Plain => {
                let (uids, values) = (vector.uids.clone(), vector.values.clone());
                Ok((Call::SetWeights { netuid, mechanism, uids, values, version_key }, sending))
            }
            Way::Timelocked => {
                let (ciphertext, round) = self.seal(netuid, version_key, vector).await?;
                let version = TIMELOCK_VERSION;
                let call = Call::CommitTimelocked { netuid, mechanism, ciphertext, round, version };
                Ok((call, Sending { round: Some(round), ..sending }))
            }
            Way::Hash => {
                let random = random_32(&*self.entropy);
                let salt: Vec<u16> = random
                    .chunks_exact(2)
                    .take(SALT_LENGTH)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                    .collect();
                let index = storage_index(netuid, mechanism);
                let row = (vector.uids.as_slice(), vector.values.as_slice());
                let hash = commit_hash(&self.hotkey.account(), index, row, &salt, version_key);
                Ok((Call::CommitWeights { netuid, mechanism, hash }, Sending { hash: Some(hash), salt, ..sending }))
            }
        }
    }

    /// Seals weights until the epoch in which a commit of the next block is revealed. The schedule is that of the best
    /// block: an epoch since the last finalized one would otherwise let everybody read them too early.
    async fn seal(&self, netuid: u16, version_key: u64, vector: &Vector) -> Result<(Vec<u8>, u64), Error> {
        let best = self.client.best_head().await?;
        let rules = self.client.weight_rules(netuid, best.hash).await?;
        let reveal_block = rules
            .schedule()
            .reveal_block(best.number, rules.reveal_period_epochs)
            .ok_or_else(|| Error::Refused(never_revealed(&rules)))?;
        let beacon = self.client.beacon(best.hash).await?;
        let (now_ms, block_ms) = match self.policy.beacon {
            Beacon::Chain => self.client.pace_ms(&best).await?,
            // What is sealed for one beacon is never opened by another: the chain would drop it without a word.
            Beacon::Quicknet if beacon != timelock::Beacon::quicknet() => {
                return Err(Error::Refused(beacon_differs(&beacon)));
            }
            Beacon::Quicknet => {
                let now_ms = u64::try_from(self.pipeline.clock().now_ms()).unwrap_or_default();
                (now_ms, self.client.slot_ms(best.hash).await?)
            }
        };
        let round = beacon.round_for_weights(now_ms, best.number, reveal_block, block_ms);
        let plaintext = timelock::Weights {
            hotkey: Some(self.hotkey.account().0),
            uids: vector.uids.clone(),
            values: vector.values.clone(),
            version_key,
        };
        let unsealable = |detail: String| Error::Refused(NOT_SEALABLE.because(detail));
        let sealed = beacon.seal(round, &plaintext.encode(), random_32(&*self.entropy));
        let sealed = sealed.map_err(|source| unsealable(source.to_string()))?;
        if sealed.len() > WEIGHTS_BYTES_MAX {
            return Err(unsealable(format!("{} bytes sealed, at most {WEIGHTS_BYTES_MAX}", sealed.len())));
        }
        debug!(round, reveal_block, bytes = sealed.len(), "weights sealed");
        Ok((sealed, round))
    }

    /// The commit's extrinsic is in a finalized block: finds what it left there. A commit that is gone already, because
    /// this process was away for long, is at its end.
    pub(super) async fn take_commit(
        &self,
        letter: &Letter,
        vector: &StoredVector,
        block: &BlockRef,
    ) -> Result<(), Error> {
        let head = self.client.finalized_head().await?;
        let index = storage_index(vector.netuid, vector.sending.mechanism);
        let commits = self.client.open_commits(index, &self.hotkey.account(), head.hash).await?;
        let Some(commit) = commits.iter().find(|commit| commit.block == block.number && is_of(commit, &vector.sending))
        else {
            return self.settle(Some(letter), vector, &head).await;
        };
        self.pipeline.reach(Point::CommitFound);
        self.pipeline.vector_committed(letter.id, vector.id, block.number, commit.epoch).await?;
        self.pipeline.reach(Point::CommitRecorded);
        info!(block = block.number, epoch = commit.epoch, vector = vector.id, "hidden weights committed");
        Ok(())
    }

    /// Looks what became of a committed vector.
    pub(super) async fn follow(&self, vector: &StoredVector) -> Result<bool, Error> {
        let head = self.client.finalized_head().await?;
        let rules = self.client.weight_rules(vector.netuid, head.hash).await?;
        let due = vector.commit_epoch.unwrap_or_default().saturating_add(rules.reveal_period_epochs);
        // By hash nothing happens at the head that is final without us: the head that is not is looked at as well.
        if vector.sending.way == Way::Hash {
            return self.follow_hash(vector, &head, &rules, due).await;
        }
        if rules.epoch_index < due {
            return waits(&rules);
        }
        if self.is_open(vector, &head).await? {
            // The beacon is late: the chain tries again with every block of the epoch.
            return Ok(false);
        }
        self.settle(None, vector, &head).await?;
        Ok(true)
    }

    async fn is_open(&self, vector: &StoredVector, at: &BlockRef) -> Result<bool, Error> {
        let index = storage_index(vector.netuid, vector.sending.mechanism);
        let commits = self.client.open_commits(index, &self.hotkey.account(), at.hash).await?;
        Ok(commits.iter().any(|one| Some(one.block) == vector.commit_block && is_of(one, &vector.sending)))
    }

    /// Signs the reveal when its epoch has come.
    async fn follow_hash(
        &self,
        vector: &StoredVector,
        head: &BlockRef,
        rules: &WeightRules,
        due: u64,
    ) -> Result<bool, Error> {
        let best = self.client.best_head().await?;
        let at_best = self.client.weight_rules(vector.netuid, best.hash).await?;
        if at_best.epoch_index < due {
            return waits(&at_best);
        }
        if !self.is_open(vector, head).await? {
            self.settle(None, vector, head).await?;
            return Ok(true);
        }
        if rules.epoch_index > due {
            let detail = format!("vector {}, epoch {due}, now {}", vector.id, rules.epoch_index);
            self.drop_vector(None, vector, &REVEAL_MISSED.because(detail)).await?;
            return Ok(true);
        }
        // Included next: an epoch that is due there runs first and closes the window.
        if at_best.next_call_epoch() != due {
            return Ok(false);
        }
        if self.pipeline.reveals_of(vector.id).await? >= REVEALS_MAX {
            let detail = format!("vector {}: {REVEALS_MAX} reveals had no effect", vector.id);
            self.drop_vector(None, vector, &REVEAL_MISSED.because(detail)).await?;
            return Ok(true);
        }
        self.sign_reveal(vector).await?;
        Ok(true)
    }

    async fn sign_reveal(&self, vector: &StoredVector) -> Result<(), Error> {
        let Sending { mechanism, version_key, ref salt, .. } = vector.sending;
        let call = Call::RevealWeights {
            netuid: vector.netuid,
            mechanism,
            uids: vector.vector.uids.clone(),
            values: vector.vector.values.clone(),
            salt: salt.clone(),
            version_key,
        };
        let signed = self.client.sign(&self.hotkey, call, None).await?;
        self.pipeline.reach(Point::RevealDecided);
        self.pipeline.post_reveal(vector.id, signed.encode(), signed.hash.to_string()).await?;
        self.pipeline.reach(Point::RevealRecorded);
        info!(vector = vector.id, extrinsic = %signed.hash.short(), "reveal signed");
        Ok(())
    }

    /// Sends the stored reveal until it is in a finalized block or can never be. Without effect its vector stays
    /// committed, and another reveal is signed while the epoch lasts.
    pub(super) async fn deliver_reveal(&self, letter: &Letter) -> Result<bool, Error> {
        let vector = match letter.subject {
            Some(id) => self.pipeline.vector(Some(id)).await?,
            None => None,
        };
        let (Some(vector), Some(signed)) = (vector, Signed::decode(&letter.payload)) else {
            let fault = LETTER_DAMAGED.because(format!("letter {}", letter.id));
            self.pipeline.reveal_failed(letter.id, letter.subject.unwrap_or_default(), &fault).await?;
            return Ok(true);
        };
        let fault = match self.client.find(&signed).await? {
            Found::Included { finalized: true, outcome: Outcome::Ok, .. } => {
                self.read_back(letter, &vector).await?;
                return Ok(true);
            }
            Found::Included { finalized: true, outcome: Outcome::Failed { name }, .. } => {
                chain::Error::Dispatch { name }.fault()
            }
            Found::Included { .. } => return Ok(false),
            Found::NotYet => {
                self.send(letter, &signed).await?;
                return Ok(false);
            }
            Found::Dead => EXTRINSIC_DEAD.because(format!("the reveal of vector {}", vector.id)),
        };
        warn!(%fault, "the reveal had no effect");
        self.pipeline.reveal_failed(letter.id, vector.id, &fault).await?;
        Ok(true)
    }

    /// The commit is gone: the weights stand, or the chain has discarded them.
    async fn settle(&self, letter: Option<&Letter>, vector: &StoredVector, head: &BlockRef) -> Result<(), Error> {
        let fault = match self.standing(vector).await? {
            Standing::Read { block, found: ReadBack::Equal } => {
                self.pipeline.reach(Point::ReadBack);
                self.pipeline.vector_confirmed(letter.map(|letter| letter.id), vector.id, block).await?;
                self.pipeline.reach(Point::Confirmed);
                info!(block, vector = vector.id, "hidden weights were revealed and read back equal");
                return Ok(());
            }
            Standing::Read { block, found: ReadBack::Different { differences } } => REVEAL_DROPPED.because(format!(
                "vector {}, gone at block {}; at block {block}, as uid, sent, found: {differences:?}",
                vector.id, head.number
            )),
            Standing::Unregistered => VALIDATOR_UNREGISTERED.because(self.hotkey.account().to_string()),
        };
        self.drop_vector(letter, vector, &fault).await
    }

    async fn drop_vector(&self, letter: Option<&Letter>, vector: &StoredVector, fault: &Fault) -> Result<(), Error> {
        warn!(%fault, vector = vector.id, "hidden weights came to nothing");
        self.pipeline.reach(Point::DropFound);
        self.pipeline.vector_dropped(letter.map(|letter| letter.id), vector, fault).await?;
        self.pipeline.reach(Point::DropRecorded);
        Ok(())
    }
}

/// Whether this commit is the one that was sent so.
fn is_of(commit: &OpenCommit, sending: &Sending) -> bool {
    match &commit.form {
        CommitForm::Hash { hash } => sending.hash == Some(*hash),
        CommitForm::Timelocked { round } => sending.round == Some(*round),
    }
}

/// The epoch of the reveal is still to come, if any comes.
fn waits(rules: &WeightRules) -> Result<bool, Error> {
    if rules.tempo_blocks == 0 { Err(Error::Refused(never_revealed(rules))) } else { Ok(false) }
}

fn beacon_differs(chains: &timelock::Beacon) -> Fault {
    let (key, period_s, genesis_s) = (hex::encode(&chains.key()[..8]), chains.period_s(), chains.genesis_s());
    BEACON_DIFFERS.because(format!(
        "`network.beacon` means quicknet; the chain names the key {key}…, every {period_s} s since {genesis_s}"
    ))
}

fn never_revealed(rules: &WeightRules) -> Fault {
    NEVER_REVEALED.because(format!("subnet {}, tempo {}", rules.netuid, rules.tempo_blocks))
}

//! Writing to the chain: sign first, so that the exact bytes can be stored; send them any number of times; find out
//! from the blocks what became of them.
//!
//! Owns the life of one signed call. Refuses to decide whether a dead call is worth signing again: the outbox does.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use parity_scale_codec::{Decode, Encode};
use subxt::{config::DefaultExtrinsicParamsBuilder, events::Phase, utils::AccountId32, utils::H256};
use tracing::{debug, warn};

use super::{
    Account, Keypair,
    call::Call,
    client::{BlockRef, Client, blake2_256},
    error::{ALREADY_IMPORTED, Error},
    runtime::{Runtime, Subtensor},
};
use crate::{
    fault::Class,
    ids::{Digest, Hotkey},
};

/// Blocks for which a signed call can be included: long enough for a busy chain, short enough that one that was
/// never included is known to be dead within minutes.
pub const ERA_BLOCKS: u64 = 32;
/// First byte of a stored call, for later forms.
const STORED_VERSION: u8 = 1;
/// Bytes of a stored call: a weight vector of 4096 entries stays below 20 KiB.
const STORED_BYTES: usize = 64 * 1024;
/// First wait between two looks at the chain, doubled up to [`POLL_MS_MAX`].
const POLL_MS: u64 = 100;
/// Longest wait between two looks at the chain: a quarter of a block.
const POLL_MS_MAX: u64 = 3_000;
/// Looks after which the bytes are sent again: the node may have lost its pool.
const POLLS_PER_SUBMIT: u32 = 8;
/// Failed looks in a row before waiting is given up; the stored bytes stay good.
const FAILED_POLLS_MAX: u32 = 20;
/// Looks at the pool before a call of the same key is waited for no longer: three blocks of the real chain.
const SETTLE_LOOKS: u32 = 17;
/// Block bodies that are fetched together.
const BODIES_TOGETHER: usize = 4;

/// A signed call: exactly the bytes that will be sent, and what is needed to find them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The extrinsic, length prefix included.
    pub bytes: Vec<u8>,
    /// Its hash, by which blocks are searched.
    pub hash: Digest,
    /// Who signed.
    pub signer: Account,
    /// The signer's nonce that it uses up.
    pub nonce: u32,
    /// The block that it is bound to; it can be included in later ones only.
    pub era_birth: u64,
    /// The first block in which it can no longer be included.
    pub era_death: u64,
}

#[derive(Encode, Decode)]
struct Stored {
    version: u8,
    bytes: Vec<u8>,
    signer: [u8; 32],
    nonce: u32,
    era_birth: u64,
    era_death: u64,
}

impl Signed {
    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { bytes, hash: _, signer, nonce, era_birth, era_death } = self;
        let stored = Stored {
            version: STORED_VERSION,
            bytes: bytes.clone(),
            signer: signer.0,
            nonce: *nonce,
            era_birth: *era_birth,
            era_death: *era_death,
        };
        stored.encode()
    }

    /// Reads stored bytes; `None` when they are not what [`Signed::encode`] wrote.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > STORED_BYTES {
            return None;
        }
        let mut rest = bytes;
        let stored = Stored::decode(&mut rest).ok()?;
        if stored.version != STORED_VERSION || !rest.is_empty() {
            return None;
        }
        Some(Self {
            hash: blake2_256(&stored.bytes),
            bytes: stored.bytes,
            signer: Hotkey(stored.signer),
            nonce: stored.nonce,
            era_birth: stored.era_birth,
            era_death: stored.era_death,
        })
    }
}

/// What an included call did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It failed; its effects were rolled back, its nonce and fee are spent.
    Failed {
        /// The chain's own name for the error.
        name: String,
    },
}

/// What became of a signed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is in a block.
    Included {
        /// The block.
        block: BlockRef,
        /// Its place there.
        index: u32,
        /// Whether the block can no longer be replaced.
        finalized: bool,
        /// What it did.
        outcome: Outcome,
    },
    /// It is in no block and may still come into one.
    NotYet,
    /// It is in no block and can never come into one.
    Dead,
}

impl Runtime {
    /// Builds and signs a call for this runtime.
    pub(super) fn sign(&self, signer: &Keypair, call: &Call, nonce: u32, birth: &BlockRef) -> Result<Signed, Error> {
        let payload = self.payload(call)?;
        let params = DefaultExtrinsicParamsBuilder::<Subtensor>::new()
            .nonce(u64::from(nonce))
            .mortal_from_unchecked(ERA_BLOCKS, birth.number, H256(birth.hash.0))
            .build();
        let changed = |source: subxt::error::ExtrinsicError| Error::Changed {
            item: call.name().to_owned(),
            spec_version: self.spec_version,
            detail: source.to_string().chars().take(200).collect(),
        };
        let mut signable = self.client().tx().create_v4_signable_offline(&payload, params).map_err(changed)?;
        let bytes = signable.sign(signer).map_err(changed)?.into_encoded();
        Ok(Signed {
            hash: blake2_256(&bytes),
            bytes,
            signer: signer.account(),
            nonce,
            era_birth: birth.number,
            era_death: birth.number.saturating_add(ERA_BLOCKS),
        })
    }

    /// What the extrinsic at this place of a block did, from the block's events.
    pub(super) fn outcome(&self, events: Vec<u8>, index: u32) -> Result<Outcome, Error> {
        for event in self.events(events).iter() {
            let event = event.map_err(|source| Error::answer("the events of a block", source))?;
            if event.phase() != Phase::ApplyExtrinsic(index) || event.pallet_name() != "System" {
                continue;
            }
            match event.event_name() {
                "ExtrinsicSuccess" => return Ok(Outcome::Ok),
                "ExtrinsicFailed" => {
                    return Ok(Outcome::Failed { name: self.dispatch_error_name(event.field_bytes())? });
                }
                _ => {}
            }
        }
        Err(Error::answer("the events of a block", format!("there is no result of extrinsic {index}")))
    }
}

impl Client {
    /// Signs a call. It is bound to the newest finalized block and lives for [`ERA_BLOCKS`] from there. Without a
    /// `nonce` the node's next one is taken; a caller with several calls under way counts for itself.
    ///
    /// # Errors
    /// When the chain cannot be read, or its runtime lacks the call.
    pub async fn sign(&self, signer: &Keypair, call: Call, nonce: Option<u32>) -> Result<Signed, Error> {
        let (birth, best) = futures::try_join!(self.finalized_head(), self.best_head())?;
        // Included next: what counts is the runtime after the best block.
        let runtime = self.runtime_at(best.hash).await?;
        let nonce = match nonce {
            Some(nonce) => nonce,
            None => self.next_nonce(&signer.account()).await?,
        };
        runtime.sign(signer, &call, nonce, &birth)
    }

    /// The nonce after all that the account has in blocks and in the node's pool.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn next_nonce(&self, account: &Account) -> Result<u32, Error> {
        let answer = self.methods().system_account_next_index(&AccountId32(account.0)).await;
        let nonce = answer.map_err(|source| Error::from_rpc("system_accountNextIndex", source))?;
        u32::try_from(nonce).map_err(|source| Error::answer("a nonce", source))
    }

    /// The newest block once nothing that the account has signed waits in the node's pool any more: what is read there is
    /// what the account's next call meets.
    ///
    /// # Errors
    /// When the chain cannot be read, or something waits for longer than a few blocks.
    pub async fn settled_head(&self, account: &Account) -> Result<BlockRef, Error> {
        let mut wait_ms = POLL_MS;
        let mut waited_ms = 0;
        for _look in 0..SETTLE_LOOKS {
            let best = self.best_head().await?;
            let (next, there) = futures::try_join!(self.next_nonce(account), self.account(account, best.hash))?;
            if next <= there.nonce {
                return Ok(best);
            }
            self.clock().sleep(Duration::from_millis(wait_ms)).await;
            waited_ms += wait_ms;
            wait_ms = (wait_ms * 2).min(POLL_MS_MAX);
        }
        Err(Error::Timeout { method: "an earlier call of this key".to_owned(), after_ms: waited_ms })
    }

    /// Hands the bytes to the node. That they are in its pool already is success.
    ///
    /// # Errors
    /// When the node cannot be reached or its pool refuses the call. A refusal as `Stale` may mean that it is in a
    /// block already: ask [`Client::find`].
    pub async fn submit(&self, signed: &Signed) -> Result<(), Error> {
        let method = "author_submitExtrinsic";
        let answer = self.methods().author_submit_extrinsic(&signed.bytes).await;
        match answer.map_err(|source| Error::from_rpc(method, source)) {
            Ok(hash) if hash.0 == signed.hash.0 => Ok(()),
            Ok(hash) => Err(Error::answer("a submitted call", format!("the node gave it the hash {hash:?}"))),
            Err(Error::Pool { name }) if name == ALREADY_IMPORTED => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Looks for the call in the blocks of its era.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn find(&self, signed: &Signed) -> Result<Found, Error> {
        let (finalized, best) = futures::try_join!(self.finalized_head(), self.best_head())?;
        let (at_best, at_finalized) =
            futures::try_join!(self.account(&signed.signer, best.hash), self.account(&signed.signer, finalized.hash))?;
        let era_is_over = finalized.number.saturating_add(1) >= signed.era_death;
        // An unused nonce is the cheap sign that it is nowhere yet. It is not trusted for the last word, because an
        // account that was emptied and came back counts from 0 again.
        if at_best.nonce <= signed.nonce && !era_is_over {
            return Ok(Found::NotYet);
        }
        if let Some((block, index)) = self.search(signed, finalized.number, best.number).await? {
            let events = self.events_of(&block).await?;
            let outcome = events.runtime.outcome(events.bytes, index)?;
            let is_final = block.number <= finalized.number;
            return Ok(Found::Included { block, index, finalized: is_final, outcome });
        }
        let nonce_is_gone = at_finalized.nonce > signed.nonce;
        Ok(if era_is_over || nonce_is_gone { Found::Dead } else { Found::NotYet })
    }

    /// The block of the best chain that holds the call, and its place there.
    async fn search(&self, signed: &Signed, finalized: u64, best: u64) -> Result<Option<(BlockRef, u32)>, Error> {
        let last = best.min(signed.era_death.saturating_sub(1));
        let numbers = signed.era_birth.saturating_add(1)..=last;
        let blocks = numbers.map(|number| self.place_in(number, number <= finalized, signed.hash));
        let mut looking = stream::iter(blocks).buffered(BODIES_TOGETHER);
        let mut found = None;
        while let Some(place) = looking.try_next().await? {
            if place.is_some() {
                found = place;
                break;
            }
        }
        // Requests that nobody polls any more would keep their places on the socket, and many searches at once would
        // wait for one another's.
        drop(looking);
        let Some((hash, index)) = found else { return Ok(None) };
        Ok(Some((self.block(hash).await?, index)))
    }

    /// A finalized block that the node does not know says nothing about what is in it: another endpoint behind the same
    /// address may lag.
    async fn place_in(&self, number: u64, is_final: bool, extrinsic: Digest) -> Result<Option<(Digest, u32)>, Error> {
        let hash = match self.block_hash(number).await? {
            Some(hash) => hash,
            None if is_final => return Err(Error::UnknownBlock { block: number.to_string() }),
            None => return Ok(None),
        };
        let body = self.body(hash).await?;
        let place = body.iter().position(|bytes| blake2_256(bytes) == extrinsic);
        Ok(place.and_then(|place| u32::try_from(place).ok()).map(|index| (hash, index)))
    }

    /// Sends the bytes and waits until they stand in a finalized block. A lost connection, a node that forgets its
    /// pool and a replaced block are survived. The wait may be dropped at any time and begun again.
    ///
    /// # Errors
    /// `Dispatch` when the call was included and failed, `Expired` when it can no longer be included, the pool's
    /// refusal when it is in no block, or the connection's failure when it lasts.
    pub async fn submit_and_wait(&self, signed: &Signed) -> Result<BlockRef, Error> {
        let mut refusal = None;
        let mut wait_ms = POLL_MS;
        let mut failed_polls = 0;
        for poll in 0_u32.. {
            if poll % POLLS_PER_SUBMIT == 0 {
                refusal = self.submit(signed).await.err().filter(|error| matches!(error, Error::Pool { .. }));
            }
            match self.find(signed).await {
                Ok(Found::Included { block, finalized: true, outcome: Outcome::Ok, .. }) => return Ok(block),
                Ok(Found::Included { finalized: true, outcome: Outcome::Failed { name }, .. }) => {
                    return Err(Error::Dispatch { name });
                }
                Ok(Found::Included { block, .. }) => {
                    debug!(hash = %signed.hash.short(), block = block.number, "included; waiting for finality");
                    failed_polls = 0;
                }
                Ok(Found::Dead) => break,
                Ok(Found::NotYet) => match refusal.take() {
                    // Refused at the first try and in no block: nothing to wait for.
                    Some(refusal) if poll == 0 => return Err(refusal),
                    _ => failed_polls = 0,
                },
                Err(error) if error.code().class == Class::Provider && failed_polls < FAILED_POLLS_MAX => {
                    warn!(hash = %signed.hash.short(), %error, "cannot look for the call; trying again");
                    failed_polls += 1;
                }
                Err(error) => return Err(error),
            }
            self.clock().sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(POLL_MS_MAX);
        }
        Err(Error::Expired { era_death: signed.era_death })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_call_is_read_back_whole() {
        let signed = Signed {
            bytes: vec![1, 2, 3],
            hash: blake2_256(&[1, 2, 3]),
            signer: Hotkey([7; 32]),
            nonce: 9,
            era_birth: 100,
            era_death: 132,
        };
        let stored = signed.encode();
        assert_eq!(Signed::decode(&stored), Some(signed));
        assert_eq!(Signed::decode(&stored[..stored.len() - 1]), None);
        assert_eq!(Signed::decode(&[&stored[..], &[0]].concat()), None);
        assert_eq!(Signed::decode(&[&[2], &stored[1..]].concat()), None);
        assert_eq!(Signed::decode(&vec![0; STORED_BYTES + 1]), None);
    }
}

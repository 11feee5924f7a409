//! What the chain holds of one validator: its row of weights, when it was set, and what it has committed to.
//!
//! Owns which storage entries that is in, and where those of a mechanism lie. Refuses to judge it: `weights` does.
//! The weight setter and `cli/` ask for it.

use scale_decode::DecodeAsType;

use super::{
    Account,
    client::{Batch, BlockRef, Client, blake2_256},
    error::Error,
    runtime::Item,
    timelock::Beacon,
};
use crate::ids::Digest;

/// How far apart the storage indices of two mechanisms of a subnet lie.
const MECHANISM_STRIDE: u16 = 4096;
/// Milliseconds of a block where the runtime does not say.
const BLOCK_MS: u64 = 12_000;

const BEACON: Item = Item { pallet: "Drand", name: "BeaconConfig" };
const TIMELOCKED: Item = Item::subnet("TimelockedWeightCommits");
const BY_HASH: Item = Item::subnet("WeightCommits");

/// A stored commit by hash: hash, epoch, block, and a number without a meaning.
type StoredHash = ([u8; 32], u64, u64, u64);
/// A stored timelocked commit: who, in which block, the ciphertext, the round.
type StoredTimelocked = ([u8; 32], u64, Vec<u8>, u64);

#[derive(DecodeAsType)]
struct BeaconEntry {
    public_key: Vec<u8>,
    period: u32,
    genesis_time: u32,
}

/// Where the weights of a mechanism of a subnet are stored; for mechanism 0 it is the netuid itself.
#[must_use]
pub const fn storage_index(netuid: u16, mechanism: u8) -> u16 {
    (mechanism as u16).wrapping_mul(MECHANISM_STRIDE).wrapping_add(netuid)
}

/// How weights are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitForm {
    /// By this hash.
    Hash {
        /// The hash.
        hash: Digest,
    },
    /// By a ciphertext.
    Timelocked {
        /// The round that opens it.
        round: u64,
    },
}

/// A commit that stands on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCommit {
    /// What was committed.
    pub form: CommitForm,
    /// The epoch of the commit.
    pub epoch: u64,
    /// Its block.
    pub block: u64,
}

/// One hotkey in one mechanism of a subnet, at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// The subnet.
    pub netuid: u16,
    /// The mechanism.
    pub mechanism: u8,
    /// The hotkey.
    pub hotkey: Account,
    /// Its place in the subnet, when it is registered.
    pub uid: Option<u16>,
    /// Whether it may weight others.
    pub permit: bool,
    /// The block of its last weights or commit; registration counts as such, and 0 means never.
    pub last_update: u64,
    /// The stake that the chain's threshold is compared with, in rao; `None` when children or parents count in it,
    /// which is the chain's to add up.
    pub stake_rao: Option<u64>,
    /// Its row of weights: uid and value.
    pub row: Vec<(u16, u16)>,
    /// What it committed to and is not revealed, the oldest first.
    pub commits: Vec<OpenCommit>,
}

/// The hash by which weights are committed, and revealed with the same salt.
#[must_use]
pub fn commit_hash(
    hotkey: &Account,
    index: u16,
    (uids, values): (&[u16], &[u16]),
    salt: &[u16],
    version_key: u64,
) -> Digest {
    use parity_scale_codec::Encode as _;

    blake2_256(&(hotkey.0, index, uids, values, salt, version_key).encode())
}

impl Client {
    /// What the chain holds of a hotkey in a mechanism of a subnet.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn validator(
        &self,
        netuid: u16,
        mechanism: u8,
        hotkey: &Account,
        at: Digest,
    ) -> Result<Validator, Error> {
        let index = storage_index(netuid, mechanism);
        let uid = self.uid_of(netuid, hotkey, at).await?;
        let mut batch = Batch::new(self, at).await?;
        let permits = batch.add(Item::subnet("ValidatorPermit"), (netuid,))?;
        let updates = batch.add(Item::subnet("LastUpdate"), (index,))?;
        let row = uid.map(|uid| batch.add(Item::subnet("Weights"), (index, uid))).transpose()?;
        let alpha = batch.add(Item::subnet("TotalHotkeyAlpha"), (hotkey.0, netuid))?;
        let root = batch.add(Item::subnet("TotalHotkeyAlpha"), (hotkey.0, 0_u16))?;
        let weight = batch.add(Item::subnet("TaoWeight"), ())?;
        let mut relations = Vec::new();
        for of in [netuid, 0] {
            relations.push(batch.add(Item::subnet("ParentKeys"), (hotkey.0, of))?);
            relations.push(batch.add(Item::subnet("ChildKeys"), (hotkey.0, of))?);
        }
        let values = batch.read(self).await?;
        let of_uid = |list: &[u64]| uid.and_then(|uid| list.get(usize::from(uid)).copied()).unwrap_or_default();
        let permits: Vec<bool> = values.need(permits)?;
        let tao_rao = u128::from(values.need::<u64>(root)?) * u128::from(values.need::<u64>(weight)?);
        let tao_rao = u64::try_from(tao_rao / u128::from(u64::MAX)).unwrap_or(u64::MAX);
        // An entry that is there may be an empty list; that is rare, and the pool still has the last word.
        let is_alone = relations.iter().all(|place| values.raw(*place).is_none());
        let stake_rao = values.need::<u64>(alpha)?.saturating_add(tao_rao);
        Ok(Validator {
            netuid,
            mechanism,
            hotkey: *hotkey,
            uid,
            permit: uid.and_then(|uid| permits.get(usize::from(uid)).copied()).unwrap_or_default(),
            last_update: of_uid(&values.need::<Vec<u64>>(updates)?),
            stake_rao: is_alone.then_some(stake_rao),
            row: row.map(|row| values.stored(row)).transpose()?.flatten().unwrap_or_default(),
            commits: self.open_commits(index, hotkey, at).await?,
        })
    }

    /// What a hotkey has committed to under a storage index and is not revealed, the oldest first.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn open_commits(&self, index: u16, hotkey: &Account, at: Digest) -> Result<Vec<OpenCommit>, Error> {
        let mut batch = Batch::new(self, at).await?;
        let by_hash = batch.add(BY_HASH, (index, hotkey.0))?;
        let prefix = batch.runtime().prefix(TIMELOCKED, (index,))?;
        let mut epochs = Vec::new();
        for key in self.list_keys(&prefix, at).await? {
            // The hasher keeps the epoch itself at the end of the key.
            let epoch = key.last_chunk::<8>().filter(|_| key.len() >= prefix.len() + 8);
            let epoch = epoch.ok_or_else(|| Error::answer("a storage key", "it is too short"))?;
            epochs.push((u64::from_le_bytes(*epoch), batch.add_key(TIMELOCKED, key)));
        }
        let values = batch.read(self).await?;
        let mut found = Vec::new();
        for (hash, epoch, block, _) in values.stored::<Vec<StoredHash>>(by_hash)?.unwrap_or_default() {
            found.push(OpenCommit { form: CommitForm::Hash { hash: Digest(hash) }, epoch, block });
        }
        for (epoch, place) in epochs {
            for (who, block, _, round) in values.stored::<Vec<StoredTimelocked>>(place)?.unwrap_or_default() {
                if who == hotkey.0 {
                    found.push(OpenCommit { form: CommitForm::Timelocked { round }, epoch, block });
                }
            }
        }
        found.sort_by_key(|commit| (commit.block, commit.epoch));
        Ok(found)
    }

    /// The beacon that the chain verifies its pulses with.
    ///
    /// # Errors
    /// When the chain cannot be read, or what it keeps is no beacon.
    pub async fn beacon(&self, at: Digest) -> Result<Beacon, Error> {
        let mut batch = Batch::new(self, at).await?;
        let place = batch.add(BEACON, ())?;
        let entry: BeaconEntry = batch.read(self).await?.need(place)?;
        Beacon::new(&entry.public_key, entry.genesis_time.into(), entry.period.into())
            .map_err(|source| Error::answer("the chain's beacon", source))
    }

    /// The chain's own time at a block, and by how much it goes on from block to block: the smaller of the last two
    /// steps, because a single one may be a jump, and no less than the runtime means.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn pace_ms(&self, at: &BlockRef) -> Result<(u64, u64), Error> {
        let parent = self.block(at.parent).await?;
        let (now_ms, before_ms) = (self.time_ms(at.hash).await?, self.time_ms(parent.hash).await?);
        let slot_ms = self.slot_ms(at.hash).await?;
        let last_ms = now_ms.saturating_sub(before_ms);
        if parent.number == 0 {
            return Ok((now_ms, slot_ms));
        }
        let earlier_ms = before_ms.saturating_sub(self.time_ms(parent.parent).await?);
        Ok((now_ms, last_ms.min(earlier_ms).max(slot_ms)))
    }

    /// Milliseconds between two blocks, as the runtime means it.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn slot_ms(&self, at: Digest) -> Result<u64, Error> {
        Ok(self.runtime_at(at).await?.constant_u64("Aura", "SlotDuration").unwrap_or(BLOCK_MS))
    }
}

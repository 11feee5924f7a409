//! What the rest of the program asks the chain for, besides blocks and the metagraph.
//!
//! Owns which storage entries answer which question. Refuses to interpret a commitment's text. Everything here is read
//! at one explicit block.

use scale_decode::DecodeAsType;
use scale_value::Value;
use subxt::{events::Phase, ext::frame_decode::storage::IntoEncodableValues};

use super::{
    Account,
    client::{Batch, BlockRef, Client, Place, Values},
    commitment::{Field, RevealedCommitment, SeenCommitment, StoredCommitment},
    error::Error,
    revealed::opened_for,
    runtime::{Item, Runtime},
    weights::WeightRules,
};
use crate::ids::{Digest, Hotkey};

const COMMITMENT_OF: Item = Item { pallet: "Commitments", name: "CommitmentOf" };
pub(super) const EVENTS: Item = Item { pallet: "System", name: "Events" };
const ACCOUNT: Item = Item { pallet: "System", name: "Account" };
const NOW: Item = Item { pallet: "Timestamp", name: "Now" };

#[derive(DecodeAsType)]
struct Registration {
    block: u64,
    info: Info,
}

#[derive(DecodeAsType)]
struct Info {
    fields: Vec<Value>,
}

#[derive(DecodeAsType)]
pub(super) struct CommittedEvent {
    pub(super) netuid: u16,
    pub(super) who: [u8; 32],
}

#[derive(DecodeAsType)]
struct AccountEntry {
    nonce: u32,
    data: AccountFunds,
}

#[derive(DecodeAsType)]
struct AccountFunds {
    free: u64,
}

/// An account's funds and its next nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AccountState {
    pub(super) nonce: u32,
    pub(super) free_rao: u64,
}

impl Client {
    /// The commitments that were made in this block, in the order of their extrinsics. They are found by the chain's
    /// own events, so that one wrapped in a batch or a proxy call counts for the hotkey that it was made for.
    ///
    /// # Errors
    /// When the chain cannot be read, or the node has discarded the block's state.
    pub async fn block_commitments(&self, netuid: u16, at: &BlockRef) -> Result<Vec<SeenCommitment>, Error> {
        Ok(self.block_news(netuid, at).await?.commitments)
    }

    /// The same, with what the chain opened at its beginning, and whether anybody came into a subnet in it.
    ///
    /// # Errors
    /// When the chain cannot be read, or the node has discarded the block's state.
    pub async fn block_news(&self, netuid: u16, at: &BlockRef) -> Result<BlockNews, Error> {
        let events = self.events_of(at).await?;
        let registrations = somebody_registered(&events.runtime, events.bytes.clone())?;
        let opened = opened_for(&events.runtime, netuid, events.bytes.clone())?;
        let made = committed(&events.runtime, netuid, events.bytes)?;
        let commitments = if made.is_empty() { Vec::new() } else { self.commitments_made(netuid, at, made).await? };
        let reveals = if opened.is_empty() { Vec::new() } else { self.opened_at(netuid, at, &opened).await? };
        Ok(BlockNews { commitments, reveals, registrations })
    }

    async fn commitments_made(
        &self,
        netuid: u16,
        at: &BlockRef,
        made: Vec<(Account, u32)>,
    ) -> Result<Vec<SeenCommitment>, Error> {
        let mut batch = Batch::new(self, at.hash).await?;
        let mut places = Vec::new();
        for (hotkey, extrinsic_index) in made {
            places.push((hotkey, extrinsic_index, batch.add(COMMITMENT_OF, (netuid, hotkey.0))?));
        }
        let values = batch.read(self).await?;
        let mut seen = Vec::new();
        for (hotkey, extrinsic_index, place) in places {
            // Absent when the subnet was removed later in the block: nothing stands, so nothing is reported.
            let Some((block, fields)) = decode_commitment(values.runtime(), values.raw(place))? else { continue };
            if block != at.number {
                let detail = format!("made in block {}, stored for block {block}", at.number);
                return Err(Error::answer(format!("the commitment of {hotkey}"), detail));
            }
            seen.push(SeenCommitment { hotkey, block, extrinsic_index, fields });
        }
        Ok(seen)
    }

    /// The events of a block and the runtime that wrote them: the one of the parent's state, because a block that
    /// upgrades the runtime was still executed by the old one.
    pub(super) async fn events_of(&self, at: &BlockRef) -> Result<BlockEvents, Error> {
        let writer = if at.number == 0 { at.hash } else { at.parent };
        let runtime = self.runtime_at(writer).await?;
        let key = runtime.key(EVENTS, ())?;
        let mut values = self.read_many(&[key], at.hash).await?;
        Ok(BlockEvents { runtime, bytes: values.pop().flatten().unwrap_or_default() })
    }

    /// All commitments of a subnet as they stand at a block, also those of hotkeys that are no longer registered.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn commitments(&self, netuid: u16, at: Digest) -> Result<Vec<StoredCommitment>, Error> {
        let mut batch = Batch::new(self, at).await?;
        let prefix = batch.runtime().prefix(COMMITMENT_OF, (netuid,))?;
        let mut places = Vec::new();
        for key in self.list_keys(&prefix, at).await? {
            // The hasher keeps the account itself at the end of the key.
            let hotkey = key.last_chunk::<32>().filter(|_| key.len() >= prefix.len() + 32);
            let hotkey = Hotkey(*hotkey.ok_or_else(|| Error::answer("a storage key", "it is too short"))?);
            places.push((hotkey, batch.add_key(COMMITMENT_OF, key)));
        }
        let values = batch.read(self).await?;
        let mut found = Vec::new();
        for (hotkey, place) in places {
            if let Some((block, fields)) = decode_commitment(values.runtime(), values.raw(place))? {
                found.push(StoredCommitment { hotkey, block, fields });
            }
        }
        Ok(found)
    }

    /// The commitment of one hotkey as it stands at a block.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn commitment_of(
        &self,
        netuid: u16,
        hotkey: &Account,
        at: Digest,
    ) -> Result<Option<StoredCommitment>, Error> {
        let (values, place) = self.one(COMMITMENT_OF, (netuid, hotkey.0), at).await?;
        let decoded = decode_commitment(values.runtime(), values.raw(place))?;
        Ok(decoded.map(|(block, fields)| StoredCommitment { hotkey: *hotkey, block, fields }))
    }

    /// The subnet's rules for weights at a block.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn weight_rules(&self, netuid: u16, at: Digest) -> Result<WeightRules, Error> {
        let mut batch = Batch::new(self, at).await?;
        let mut of = |name| batch.add(Item::subnet(name), (netuid,));
        let added = of("NetworksAdded")?;
        let count = of("SubnetworkN")?;
        let min_allowed = of("MinAllowedWeights")?;
        let max_limit = of("MaxWeightsLimit")?;
        let rate_limit = of("WeightsSetRateLimit")?;
        let version_key = of("WeightsVersionKey")?;
        let commit_reveal = of("CommitRevealWeightsEnabled")?;
        let tempo = of("Tempo")?;
        let last_epoch = of("LastEpochBlock")?;
        let pending_epoch = of("PendingEpochAt")?;
        let since_step = of("BlocksSinceLastStep")?;
        let owner = of("SubnetOwnerHotkey")?;
        let burn = of("Burn")?;
        let threshold = batch.add(Item::subnet("StakeThreshold"), ())?;
        let number = batch.add(Item { pallet: "System", name: "Number" }, ())?;
        let has_mechanisms = batch.runtime().has_call("SubtensorModule", "set_mechanism_weights");
        let values = batch.read(self).await?;
        if !values.need::<bool>(added)? {
            return Err(Error::SubnetMissing { netuid, block: at });
        }
        Ok(WeightRules {
            netuid,
            block: values.need(number)?,
            n: values.need(count)?,
            min_allowed: values.need(min_allowed)?,
            max_limit: values.need(max_limit)?,
            rate_limit_blocks: values.need(rate_limit)?,
            version_key: values.need(version_key)?,
            commit_reveal: values.need(commit_reveal)?,
            tempo_blocks: values.need(tempo)?,
            last_epoch_block: values.need(last_epoch)?,
            pending_epoch_block: values.need(pending_epoch)?,
            blocks_since_step: values.need(since_step)?,
            owner_hotkey: values.get::<[u8; 32]>(owner)?.map(Hotkey),
            burn_rao: values.need(burn)?,
            stake_threshold_rao: values.need(threshold)?,
            has_mechanisms,
        })
    }

    /// The weights that a validator has set, as the chain stores them: uid and value.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn weights(&self, netuid: u16, uid: u16, at: Digest) -> Result<Vec<(u16, u16)>, Error> {
        Ok(self.stored(Item::subnet("Weights"), (netuid, uid), at).await?.unwrap_or_default())
    }

    /// The block of a neuron's last weights; 0 when it has none.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn last_update(&self, netuid: u16, uid: u16, at: Digest) -> Result<u64, Error> {
        let all: Vec<u64> = self.stored(Item::subnet("LastUpdate"), (netuid,), at).await?.unwrap_or_default();
        Ok(all.get(usize::from(uid)).copied().unwrap_or_default())
    }

    /// The uid of a hotkey; `None` when it is not registered.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn uid_of(&self, netuid: u16, hotkey: &Account, at: Digest) -> Result<Option<u16>, Error> {
        self.stored(Item::subnet("Uids"), (netuid, hotkey.0), at).await
    }

    /// What an account can spend, in rao.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn balance(&self, account: &Account, at: Digest) -> Result<u64, Error> {
        Ok(self.account(account, at).await?.free_rao)
    }

    pub(super) async fn account(&self, account: &Account, at: Digest) -> Result<AccountState, Error> {
        let (values, place) = self.one(ACCOUNT, (account.0,), at).await?;
        decode_account(values.runtime(), values.raw(place))
    }

    /// The chain's own time at a block: milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn time_ms(&self, at: Digest) -> Result<u64, Error> {
        Ok(self.stored(NOW, (), at).await?.unwrap_or_default())
    }

    /// What registering a hotkey in the subnet costs at a block, in rao.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn burn_cost(&self, netuid: u16, at: Digest) -> Result<u64, Error> {
        Ok(self.weight_rules(netuid, at).await?.burn_rao)
    }

    pub(super) async fn stored<T: DecodeAsType>(
        &self,
        item: Item,
        parts: impl IntoEncodableValues,
        at: Digest,
    ) -> Result<Option<T>, Error> {
        let (values, place) = self.one(item, parts, at).await?;
        values.stored(place)
    }

    /// One entry.
    async fn one(&self, item: Item, parts: impl IntoEncodableValues, at: Digest) -> Result<(Values, Place), Error> {
        let mut batch = Batch::new(self, at).await?;
        let place = batch.add(item, parts)?;
        Ok((batch.read(self).await?, place))
    }
}

/// What a block changed of a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNews {
    /// The commitments that were made, in the order of their extrinsics.
    pub commitments: Vec<SeenCommitment>,
    /// What the chain opened at the beginning of the block, in the chain's own order: by hotkey.
    pub reveals: Vec<RevealedCommitment>,
    /// Whether anybody was registered, in this subnet or in another.
    pub registrations: bool,
}

impl BlockNews {
    /// Whether anybody committed or anything was opened.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        !self.commitments.is_empty() || !self.reveals.is_empty()
    }
}

/// The raw events of a block with the runtime that wrote them.
pub(super) struct BlockEvents {
    pub(super) runtime: std::sync::Arc<Runtime>,
    pub(super) bytes: Vec<u8>,
}

/// Whether these are the events of a block in which anybody was registered.
fn somebody_registered(runtime: &Runtime, events: Vec<u8>) -> Result<bool, Error> {
    for event in runtime.events(events).iter() {
        let event = event.map_err(|source| Error::answer("the events of a block", source))?;
        let names = ["NeuronRegistered", "BulkNeuronsRegistered"];
        if event.pallet_name() == "SubtensorModule" && names.contains(&event.event_name()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who committed in the subnet, each with the last extrinsic that did it, in the order of these.
pub(super) fn committed(runtime: &Runtime, netuid: u16, events: Vec<u8>) -> Result<Vec<(Account, u32)>, Error> {
    let mut made: Vec<(Account, u32)> = Vec::new();
    for event in runtime.events(events).iter() {
        let event = event.map_err(|source| Error::answer("the events of a block", source))?;
        let is_commitment =
            event.pallet_name() == "Commitments" && ["Commitment", "TimelockCommitment"].contains(&event.event_name());
        let Phase::ApplyExtrinsic(index) = event.phase() else { continue };
        if !is_commitment {
            continue;
        }
        let fields: CommittedEvent = runtime.event_fields(&event)?;
        if fields.netuid != netuid {
            continue;
        }
        let hotkey = Hotkey(fields.who);
        made.retain(|(earlier, _)| *earlier != hotkey);
        made.push((hotkey, index));
    }
    Ok(made)
}

/// Block and fields of a stored commitment.
pub(super) fn decode_commitment(runtime: &Runtime, stored: Option<&[u8]>) -> Result<Option<(u64, Vec<Field>)>, Error> {
    if stored.is_none() {
        return Ok(None);
    }
    let Some(entry) = runtime.value::<Registration>(COMMITMENT_OF, stored)? else { return Ok(None) };
    let fields = entry.info.fields.iter().map(|value| {
        Field::from_value(value).ok_or_else(|| Error::answer("a commitment", "a field is not what its kind says"))
    });
    Ok(Some((entry.block, fields.collect::<Result<_, _>>()?)))
}

/// Nonce and funds of an account; an absent one has neither.
pub(super) fn decode_account(runtime: &Runtime, stored: Option<&[u8]>) -> Result<AccountState, Error> {
    let entry: Option<AccountEntry> = runtime.value(ACCOUNT, stored)?;
    Ok(entry.map_or(AccountState { nonce: 0, free_rao: 0 }, |entry| AccountState {
        nonce: entry.nonce,
        free_rao: entry.data.free,
    }))
}

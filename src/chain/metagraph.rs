//! The metagraph: who is registered in a subnet at one block.
//!
//! Owns reading it in a few batches. Refuses to judge who is eligible for what. Intake, ranking and the weight setter
//! ask for it.

use super::{
    Account,
    client::{Batch, Client},
    error::Error,
    runtime::Item,
};
use crate::ids::Digest;

/// Uids of one subnet that we are prepared to read: 16 times what the chain allows today.
const UIDS_MAX: u16 = 4096;

/// One registered hotkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neuron {
    /// Its place in the subnet.
    pub uid: u16,
    /// The hotkey.
    pub hotkey: Account,
    /// The coldkey that owns it.
    pub coldkey: Account,
    /// The block of its registration. What it committed before does not count.
    pub registered_at: u64,
    /// The block of its last weights; registration counts as such.
    pub last_update: u64,
    /// Whether it may set weights as a validator.
    pub permit: bool,
    /// Whether it set weights recently enough to count.
    pub active: bool,
    /// Alpha staked to the hotkey in this subnet, in rao. The chain's own stake weight also counts TAO and parents.
    pub stake: u64,
    /// Its part of the miners' emission, of 65535.
    pub incentive: u16,
}

/// A subnet's neurons at one block, in order of their uids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metagraph {
    /// The subnet.
    pub netuid: u16,
    /// The block's number.
    pub block: u64,
    /// The block's hash.
    pub hash: Digest,
    /// The neurons: uid is position.
    pub neurons: Vec<Neuron>,
}

impl Metagraph {
    /// The neuron of a hotkey.
    #[must_use]
    pub fn neuron(&self, hotkey: &Account) -> Option<&Neuron> {
        self.neurons.iter().find(|neuron| neuron.hotkey == *hotkey)
    }

    /// The uid of a hotkey.
    #[must_use]
    pub fn uid_of(&self, hotkey: &Account) -> Option<u16> {
        self.neuron(hotkey).map(|neuron| neuron.uid)
    }
}

impl Client {
    /// The metagraph at a block: three batched reads, whatever the number of neurons.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn metagraph(&self, netuid: u16, at: Digest) -> Result<Metagraph, Error> {
        let (block, lists) = futures::try_join!(self.block(at), self.lists(netuid, at))?;
        let uids = 0..lists.count;

        let mut batch = Batch::new(self, at).await?;
        let mut places = Vec::new();
        for uid in uids.clone() {
            let key = batch.add(Item::subnet("Keys"), (netuid, uid))?;
            let registered = batch.add(Item::subnet("BlockAtRegistration"), (netuid, uid))?;
            places.push((key, registered));
        }
        let values = batch.read(self).await?;
        let mut keys = Vec::new();
        for (key, registered) in places {
            let hotkey: [u8; 32] = values.stored(key)?.ok_or_else(|| {
                Error::answer(format!("the keys of subnet {netuid}"), "a uid below the count has none")
            })?;
            keys.push((hotkey, values.need::<u64>(registered)?));
        }

        let mut batch = Batch::new(self, at).await?;
        let mut places = Vec::new();
        for (hotkey, _) in &keys {
            let owner = batch.add(Item::subnet("Owner"), (*hotkey,))?;
            let stake = batch.add(Item::subnet("TotalHotkeyAlpha"), (*hotkey, netuid))?;
            places.push((owner, stake));
        }
        let values = batch.read(self).await?;
        let mut neurons = Vec::new();
        for ((uid, (hotkey, registered_at)), (owner, stake)) in uids.zip(keys).zip(places) {
            let place = usize::from(uid);
            neurons.push(Neuron {
                uid,
                hotkey: crate::ids::Hotkey(hotkey),
                coldkey: crate::ids::Hotkey(values.need(owner)?),
                registered_at,
                last_update: lists.last_update.get(place).copied().unwrap_or_default(),
                permit: lists.permit.get(place).copied().unwrap_or_default(),
                active: lists.active.get(place).copied().unwrap_or_default(),
                stake: values.need(stake)?,
                incentive: lists.incentive.get(place).copied().unwrap_or_default(),
            });
        }
        Ok(Metagraph { netuid, block: block.number, hash: at, neurons })
    }

    async fn lists(&self, netuid: u16, at: Digest) -> Result<Lists, Error> {
        let mut batch = Batch::new(self, at).await?;
        let added = batch.add(Item::subnet("NetworksAdded"), (netuid,))?;
        let count = batch.add(Item::subnet("SubnetworkN"), (netuid,))?;
        let active = batch.add(Item::subnet("Active"), (netuid,))?;
        let permit = batch.add(Item::subnet("ValidatorPermit"), (netuid,))?;
        // Mechanism 0: its storage index is the netuid itself.
        let incentive = batch.add(Item::subnet("Incentive"), (netuid,))?;
        let last_update = batch.add(Item::subnet("LastUpdate"), (netuid,))?;
        let values = batch.read(self).await?;
        if !values.need::<bool>(added)? {
            return Err(Error::SubnetMissing { netuid, block: at });
        }
        let count: u16 = values.need(count)?;
        if count > UIDS_MAX {
            return Err(Error::answer(format!("the size of subnet {netuid}"), format!("{count} uids")));
        }
        Ok(Lists {
            count,
            active: values.need(active)?,
            permit: values.need(permit)?,
            incentive: values.need(incentive)?,
            last_update: values.need(last_update)?,
        })
    }
}

/// The per-subnet vectors, each indexed by uid.
struct Lists {
    count: u16,
    active: Vec<bool>,
    permit: Vec<bool>,
    incentive: Vec<u16>,
    last_update: Vec<u64>,
}

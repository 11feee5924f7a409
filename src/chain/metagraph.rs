//! The metagraph: who is registered in a subnet at one block.
//!
//! Owns reading it in a few batches, whole or as what has changed since an earlier block. Refuses to judge who is
//! eligible for what. Intake, ranking and the weight setter ask for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use scale_decode::DecodeAsType;
use serde::{Deserialize, Serialize};

use super::{
    Account,
    client::{Batch, BlockRef, Client, Place, Values},
    error::Error,
    runtime::{Item, Runtime},
    touched::Touched,
};
use crate::ids::{Digest, Hotkey};

/// Uids of one subnet that we are prepared to read: 16 times what the chain allows today.
const UIDS_MAX: u16 = 4096;

/// Uids that are asked for before their number is known, which saves a round trip: what most subnets allow.
const UIDS_EXPECTED: u16 = 256;

/// Where a neuron says that it can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axon {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// The protocol that it names.
    pub protocol: u8,
    /// The version of its software, as it says.
    pub version: u32,
    /// The block in which it said so.
    pub block: u64,
}

/// One registered hotkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Its part of the validators' emission, of 65535.
    pub dividends: u16,
    /// What it was given at the last epoch, in rao of alpha.
    pub emission: u64,
    /// What the validators agree on about it, of 65535.
    pub consensus: u16,
    /// How far its weights agree with the consensus, of 65535.
    pub validator_trust: u16,
    /// Where it can be reached, if it says so.
    pub axon: Option<Axon>,
}

/// A subnet's neurons at one block, in order of their uids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The metagraph at the newest finalized block. Straight after connecting that takes no further round trip to find
    /// the block, and none for the runtime where an earlier process has kept it.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn newest_metagraph(&self, netuid: u16) -> Result<Metagraph, Error> {
        let opening = self.opening().await;
        let head = match &opening {
            Some(opening) => opening.head,
            None => self.finalized_hash().await?,
        };
        let Some(likely) = self.likely_runtime(opening.as_ref()) else { return self.metagraph(netuid, head).await };
        // The block may have another runtime than the one that is likely: it is asked in the same flight, and what was
        // read counts only if it has not.
        let code = async { if likely.code.is_some() { self.code_at(head).await } else { None } };
        let (read, runtime, code) =
            futures::join!(self.metagraph_by(&likely, netuid, head), self.runtime_at(head), code);
        let runtime = runtime?;
        if !Arc::ptr_eq(&runtime, &likely) {
            return self.metagraph_by(&runtime, netuid, head).await;
        }
        if likely.code != code {
            let what = format!("the runtime of block {head}");
            return Err(Error::answer(what, "its code is another one of the same version"));
        }
        read
    }

    /// The metagraph at a block: one batched read of what can be asked at once, a second one of what hangs from hotkeys
    /// that were not there when the subnet was last read, and a third one in a subnet of more than 256 uids.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn metagraph(&self, netuid: u16, at: Digest) -> Result<Metagraph, Error> {
        let runtime = self.runtime_at(at).await?;
        self.metagraph_by(&runtime, netuid, at).await
    }

    async fn metagraph_by(&self, runtime: &Arc<Runtime>, netuid: u16, at: Digest) -> Result<Metagraph, Error> {
        let expected: BTreeSet<u16> = (0..UIDS_EXPECTED).collect();
        let before = self.members(netuid);
        // A guess that cannot be read is no failure: whoever is there is asked for below.
        let guessed = async { Ok(self.holdings(runtime, netuid, &before, at).await.unwrap_or_default()) };
        let asked = futures::try_join!(
            self.block(at),
            self.lists(runtime, netuid, at),
            self.held_uids(runtime, netuid, &expected, at),
            guessed
        );
        let (block, lists, mut keys, mut holdings) = asked?;
        keys.retain(|uid, _| *uid < lists.count);
        if lists.count > UIDS_EXPECTED {
            let others: BTreeSet<u16> = (UIDS_EXPECTED..lists.count).collect();
            keys.extend(self.held_uids(runtime, netuid, &others, at).await?);
        }
        let hotkeys: BTreeSet<Hotkey> = keys.values().map(|key| key.hotkey).collect();
        let unknown = hotkeys.iter().filter(|hotkey| !holdings.contains_key(*hotkey)).copied().collect();
        holdings.extend(self.holdings(runtime, netuid, &unknown, at).await?);
        self.remember_members(netuid, hotkeys, &before);
        assemble(netuid, &block, &lists, &keys, &holdings)
    }

    /// The metagraph at a block, from the one at an earlier block and what the events in between name. One batched
    /// read where nobody came, left, staked or moved; the same result as [`Client::metagraph`], as long as no epoch
    /// was in between, which changes everybody.
    ///
    /// # Errors
    /// When the subnet does not exist or the chain cannot be read.
    pub async fn metagraph_since(
        &self,
        before: &Metagraph,
        touched: &Touched,
        at: &BlockRef,
    ) -> Result<Metagraph, Error> {
        let netuid = before.netuid;
        let runtime = &self.runtime_at(at.hash).await?;
        let lists = self.lists(runtime, netuid, at.hash).await?;
        let grew_unseen = (before.neurons.len()..usize::from(lists.count))
            .any(|uid| u16::try_from(uid).is_ok_and(|uid| !touched.uids.contains(&uid)));
        let permits = before.neurons.iter().map(|neuron| neuron.permit);
        let permits_changed = permits.zip(&lists.permit).any(|(before, now)| before != *now);
        let shrank = usize::from(lists.count) < before.neurons.len();
        if touched.all || grew_unseen || permits_changed || shrank {
            return self.metagraph_by(runtime, netuid, at.hash).await;
        }
        let uids = touched.uids.iter().copied().filter(|uid| *uid < lists.count).collect();
        let known = before
            .neurons
            .iter()
            .map(|neuron| (neuron.uid, Key { hotkey: neuron.hotkey, registered_at: neuron.registered_at }));
        let mut keys: BTreeMap<u16, Key> = known.collect();
        let new = self.held_uids(runtime, netuid, &uids, at.hash).await?;
        let named = keys.values().map(|key| key.hotkey).filter(|hotkey| touched.accounts.contains(hotkey));
        let changed: BTreeSet<Hotkey> = named.chain(new.values().map(|key| key.hotkey)).collect();
        keys.extend(new);
        let unchanged = before
            .neurons
            .iter()
            .map(|neuron| (neuron.hotkey, Holding { coldkey: neuron.coldkey, stake: neuron.stake, axon: neuron.axon }));
        let mut holdings: BTreeMap<Hotkey, Holding> = unchanged.collect();
        holdings.extend(self.holdings(runtime, netuid, &changed, at.hash).await?);
        assemble(netuid, at, &lists, &keys, &holdings)
    }

    /// Who holds these uids; those that nobody holds are left out.
    async fn held_uids(
        &self,
        runtime: &Arc<Runtime>,
        netuid: u16,
        uids: &BTreeSet<u16>,
        at: Digest,
    ) -> Result<BTreeMap<u16, Key>, Error> {
        let mut batch = Batch::of(Arc::clone(runtime), at);
        let mut places = Vec::new();
        for uid in uids {
            let key = batch.add(Item::subnet("Keys"), (netuid, *uid))?;
            let registered = batch.add(Item::subnet("BlockAtRegistration"), (netuid, *uid))?;
            places.push((*uid, key, registered));
        }
        let values = batch.read(self).await?;
        let mut keys = BTreeMap::new();
        for (uid, key, registered) in places {
            let Some(hotkey) = values.stored::<[u8; 32]>(key)? else { continue };
            keys.insert(uid, Key { hotkey: Hotkey(hotkey), registered_at: values.need(registered)? });
        }
        Ok(keys)
    }

    /// What hangs from these hotkeys.
    async fn holdings(
        &self,
        runtime: &Arc<Runtime>,
        netuid: u16,
        hotkeys: &BTreeSet<Hotkey>,
        at: Digest,
    ) -> Result<BTreeMap<Hotkey, Holding>, Error> {
        let mut batch = Batch::of(Arc::clone(runtime), at);
        let mut places = Vec::new();
        for hotkey in hotkeys {
            let owner = batch.add(Item::subnet("Owner"), (hotkey.0,))?;
            let stake = batch.add(Item::subnet("TotalHotkeyAlpha"), (hotkey.0, netuid))?;
            let axon = batch.add(Item::subnet("Axons"), (netuid, hotkey.0))?;
            places.push((*hotkey, owner, stake, axon));
        }
        let values = batch.read(self).await?;
        let mut holdings = BTreeMap::new();
        for (hotkey, owner, stake, axon) in places {
            let axon: Option<AxonEntry> = values.stored(axon)?;
            let holding = Holding {
                coldkey: Hotkey(values.need(owner)?),
                stake: values.need(stake)?,
                axon: axon.and_then(AxonEntry::said),
            };
            holdings.insert(hotkey, holding);
        }
        Ok(holdings)
    }

    async fn lists(&self, runtime: &Arc<Runtime>, netuid: u16, at: Digest) -> Result<Lists, Error> {
        let mut batch = Batch::of(Arc::clone(runtime), at);
        let added = batch.add(Item::subnet("NetworksAdded"), (netuid,))?;
        let count = batch.add(Item::subnet("SubnetworkN"), (netuid,))?;
        let active = batch.add(Item::subnet("Active"), (netuid,))?;
        let permit = batch.add(Item::subnet("ValidatorPermit"), (netuid,))?;
        // Mechanism 0: its storage index is the netuid itself.
        let incentive = batch.add(Item::subnet("Incentive"), (netuid,))?;
        let last_update = batch.add(Item::subnet("LastUpdate"), (netuid,))?;
        // Only shown: a runtime without one of these is no reason to stop.
        let dividends = batch.add(Item::subnet("Dividends"), (netuid,)).ok();
        let emission = batch.add(Item::subnet("Emission"), (netuid,)).ok();
        let consensus = batch.add(Item::subnet("Consensus"), (netuid,)).ok();
        let validator_trust = batch.add(Item::subnet("ValidatorTrust"), (netuid,)).ok();
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
            dividends: shown(&values, dividends)?,
            emission: shown(&values, emission)?,
            consensus: shown(&values, consensus)?,
            validator_trust: shown(&values, validator_trust)?,
        })
    }
}

fn shown<T: DecodeAsType>(values: &Values, place: Option<Place>) -> Result<Vec<T>, Error> {
    place.map_or(Ok(Vec::new()), |place| values.need(place))
}

fn assemble(
    netuid: u16,
    block: &BlockRef,
    lists: &Lists,
    keys: &BTreeMap<u16, Key>,
    holdings: &BTreeMap<Hotkey, Holding>,
) -> Result<Metagraph, Error> {
    let missing = || Error::answer(format!("the keys of subnet {netuid}"), "a uid below the count has none");
    let mut neurons = Vec::with_capacity(lists.count.into());
    for uid in 0..lists.count {
        let key = keys.get(&uid).ok_or_else(missing)?;
        let holding = holdings.get(&key.hotkey).ok_or_else(missing)?;
        neurons.push(Neuron {
            uid,
            hotkey: key.hotkey,
            coldkey: holding.coldkey,
            registered_at: key.registered_at,
            last_update: of(&lists.last_update, uid),
            permit: of(&lists.permit, uid),
            active: of(&lists.active, uid),
            stake: holding.stake,
            incentive: of(&lists.incentive, uid),
            dividends: of(&lists.dividends, uid),
            emission: of(&lists.emission, uid),
            consensus: of(&lists.consensus, uid),
            validator_trust: of(&lists.validator_trust, uid),
            axon: holding.axon,
        });
    }
    Ok(Metagraph { netuid, block: block.number, hash: block.hash, neurons })
}

/// A uid's place in a per-subnet vector, which may be shorter than the subnet.
fn of<T: Copy + Default>(list: &[T], uid: u16) -> T {
    list.get(usize::from(uid)).copied().unwrap_or_default()
}

/// The per-subnet vectors, each indexed by uid.
struct Lists {
    count: u16,
    active: Vec<bool>,
    permit: Vec<bool>,
    incentive: Vec<u16>,
    last_update: Vec<u64>,
    dividends: Vec<u16>,
    emission: Vec<u64>,
    consensus: Vec<u16>,
    validator_trust: Vec<u16>,
}

/// Who holds a uid.
struct Key {
    hotkey: Hotkey,
    registered_at: u64,
}

/// What hangs from a hotkey.
struct Holding {
    coldkey: Hotkey,
    stake: u64,
    axon: Option<Axon>,
}

/// An axon as the chain stores it.
#[derive(DecodeAsType)]
struct AxonEntry {
    block: u64,
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
}

impl AxonEntry {
    /// The axon; `None` where the entry names no address.
    fn said(self) -> Option<Axon> {
        let v4 = u32::try_from(self.ip).ok().filter(|_| self.ip_type == 4);
        let ip = v4.map_or_else(|| Ipv6Addr::from(self.ip).into(), |ip| IpAddr::from(Ipv4Addr::from(ip)));
        let Self { port, protocol, version, block, .. } = self;
        (self.ip != 0).then_some(Axon { ip, port, protocol, version, block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axon_has_the_address_that_its_kind_says() {
        let entry = |ip, ip_type| AxonEntry { block: 5, version: 1, ip, port: 8091, ip_type, protocol: 4 };
        let address = |ip, ip_type| entry(ip, ip_type).said().map(|axon| axon.ip.to_string());
        assert_eq!(address(0x0102_0304, 4).as_deref(), Some("1.2.3.4"));
        assert_eq!(address(1, 6).as_deref(), Some("::1"));
        // A kind that does not fit its address.
        assert_eq!(address(u128::MAX, 4).as_deref(), Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert_eq!(address(0, 4), None);
    }
}

//! Revealed commitments: what was committed behind a time lock and the chain has opened since.
//!
//! Owns where they stand in state and in the events of a block. Refuses to interpret what was locked. The follower
//! takes them block by block; whoever reads a whole subnet takes them from state.

use super::{
    Account,
    client::{Batch, BlockRef, Client},
    commitment::RevealedCommitment,
    error::Error,
    reads::CommittedEvent,
    runtime::{Item, Runtime},
};
use crate::ids::{Digest, Hotkey};

const REVEALED: Item = Item { pallet: "Commitments", name: "RevealedCommitments" };

/// Bytes of one entry: what was locked is shorter than its ciphertext, which the chain holds to 1024.
const ENTRY_BYTES: usize = 1024;

impl Client {
    /// What was revealed in a subnet, as state holds it at a block: the last ten of each hotkey, also of those that are
    /// no longer registered. A runtime from before there were time locks has none.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn revealed(&self, netuid: u16, at: Digest) -> Result<Vec<RevealedCommitment>, Error> {
        let mut batch = Batch::new(self, at).await?;
        let prefix = match batch.runtime().prefix(REVEALED, (netuid,)) {
            Err(Error::Missing { .. }) => return Ok(Vec::new()),
            prefix => prefix?,
        };
        let mut places = Vec::new();
        for key in self.list_keys(&prefix, at).await? {
            // The hasher keeps the account itself at the end of the key.
            let hotkey = key.last_chunk::<32>().filter(|_| key.len() >= prefix.len() + 32);
            let hotkey = Hotkey(*hotkey.ok_or_else(|| Error::answer("a storage key", "it is too short"))?);
            places.push((hotkey, batch.add_key(REVEALED, key)));
        }
        let values = batch.read(self).await?;
        let mut found = Vec::new();
        for (hotkey, place) in places {
            found.extend(decode(values.runtime(), hotkey, values.raw(place))?);
        }
        Ok(found)
    }

    /// What was revealed of one hotkey: the last ten, oldest first.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn revealed_of(
        &self,
        netuid: u16,
        hotkey: &Account,
        at: Digest,
    ) -> Result<Vec<RevealedCommitment>, Error> {
        let mut batch = Batch::new(self, at).await?;
        let place = match batch.add(REVEALED, (netuid, hotkey.0)) {
            Err(Error::Missing { .. }) => return Ok(Vec::new()),
            place => place?,
        };
        let values = batch.read(self).await?;
        decode(values.runtime(), *hotkey, values.raw(place))
    }

    /// What the chain opened for these hotkeys in this block.
    pub(super) async fn opened_at(
        &self,
        netuid: u16,
        at: &BlockRef,
        hotkeys: &[Account],
    ) -> Result<Vec<RevealedCommitment>, Error> {
        let mut batch = Batch::new(self, at.hash).await?;
        let mut places = Vec::new();
        for hotkey in hotkeys {
            places.push((*hotkey, batch.add(REVEALED, (netuid, hotkey.0))?));
        }
        let values = batch.read(self).await?;
        let mut found = Vec::new();
        for (hotkey, place) in places {
            found.extend(decode(values.runtime(), hotkey, values.raw(place))?);
        }
        found.retain(|revealed| revealed.block == at.number);
        Ok(found)
    }
}

/// For whom the chain opened something in the subnet, each once, in the order of the events.
pub(super) fn opened_for(runtime: &Runtime, netuid: u16, events: Vec<u8>) -> Result<Vec<Account>, Error> {
    let mut opened: Vec<Account> = Vec::new();
    for event in runtime.events(events).iter() {
        let event = event.map_err(|source| Error::answer("the events of a block", source))?;
        if event.pallet_name() != "Commitments" || event.event_name() != "CommitmentRevealed" {
            continue;
        }
        let fields: CommittedEvent = runtime.event_fields(&event)?;
        if fields.netuid == netuid && !opened.contains(&Hotkey(fields.who)) {
            opened.push(Hotkey(fields.who));
        }
    }
    Ok(opened)
}

/// The entries of one hotkey, oldest first.
fn decode(runtime: &Runtime, hotkey: Account, stored: Option<&[u8]>) -> Result<Vec<RevealedCommitment>, Error> {
    if stored.is_none() {
        return Ok(Vec::new());
    }
    let entries: Vec<(Vec<u8>, u64)> = runtime.value(REVEALED, stored)?.unwrap_or_default();
    if let Some((bytes, _)) = entries.iter().find(|(bytes, _)| bytes.len() > ENTRY_BYTES) {
        let detail = format!("{} bytes, of at most {ENTRY_BYTES}", bytes.len());
        return Err(Error::answer(format!("a revealed commitment of {hotkey}"), detail));
    }
    Ok(entries.into_iter().map(|(bytes, block)| RevealedCommitment { hotkey, block, bytes }).collect())
}

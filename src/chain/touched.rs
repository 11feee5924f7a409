//! Whom the events of a block touch in a metagraph.
//!
//! Owns which events change what. Refuses to read anything but events. `reads` makes one of each block's events, and
//! the metagraph is read anew where it says so.

use std::collections::BTreeSet;

use scale_decode::DecodeAsType;
use scale_value::{Composite, Primitive, Value, ValueDef};

use super::{
    error::Error,
    runtime::{Runtime, Subtensor},
};
use crate::ids::Hotkey;

/// Levels of values within values that are looked through for accounts.
const DEPTH_MAX: usize = 16;

/// Events that change nothing but the per-subnet vectors and the rules, which are read at every look anyway.
const ONLY_LISTS: &[&str] = &[
    "WeightsSet",
    "WeightsCommitted",
    "WeightsRevealed",
    "WeightsBatchRevealed",
    "CRV3WeightsCommitted",
    "CRV3WeightsRevealed",
    "TimelockedWeightsCommitted",
    "TimelockedWeightsRevealed",
    "BatchWeightsCompleted",
    "BatchCompletedWithErrors",
    "BatchWeightItemFailed",
    "PrometheusServed",
];

/// What has to be read anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Everything.
    pub(super) all: bool,
    /// Uids that somebody was registered for.
    pub(super) uids: BTreeSet<u16>,
    /// Accounts that events name.
    pub(super) accounts: BTreeSet<Hotkey>,
}

#[derive(DecodeAsType)]
struct Registered(u16, u16, [u8; 32]);

impl Touched {
    /// Whether nothing has to be read anew but the per-subnet vectors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.uids.is_empty() && self.accounts.is_empty()
    }

    /// What the events of a block touch in a subnet.
    pub(super) fn by(runtime: &Runtime, netuid: u16, events: Vec<u8>) -> Result<Self, Error> {
        let mut touched = Self::default();
        for event in runtime.events(events).iter() {
            let event = event.map_err(|source| Error::answer("the events of a block", source))?;
            if event.pallet_name() == "SubtensorModule" && !ONLY_LISTS.contains(&event.event_name()) {
                touched.add(runtime, netuid, &event)?;
            }
        }
        Ok(touched)
    }

    fn add(
        &mut self,
        runtime: &Runtime,
        netuid: u16,
        event: &subxt::events::Event<'_, Subtensor>,
    ) -> Result<(), Error> {
        let name = event.event_name();
        if name == "NeuronRegistered" {
            let Registered(subnet, uid, hotkey) = runtime.event_fields(event)?;
            if subnet == netuid {
                self.uids.insert(uid);
                self.accounts.insert(Hotkey(hotkey));
            }
            return Ok(());
        }
        // Keys that change hands, subnets that come and go, and many at once: rare, and each is a story of its own.
        if ["Swap", "Network", "Bulk", "Deregistered", "Pruned"].iter().any(|part| name.contains(part)) {
            self.all = true;
            return Ok(());
        }
        let fields: Composite<()> = runtime.event_fields(event)?;
        for value in fields.values() {
            self.collect(value, 0);
        }
        Ok(())
    }

    /// Takes every account in a value: 32 bytes are an account, or do no harm.
    fn collect(&mut self, value: &Value<()>, depth: usize) {
        if depth > DEPTH_MAX {
            self.all = true;
            return;
        }
        let inner = match &value.value {
            ValueDef::Composite(inner) => inner,
            ValueDef::Variant(variant) => &variant.values,
            _ => return,
        };
        if let Some(account) = account(inner) {
            self.accounts.insert(account);
            return;
        }
        for value in inner.values() {
            self.collect(value, depth + 1);
        }
    }
}

fn account(bytes: &Composite<()>) -> Option<Hotkey> {
    if bytes.len() != 32 {
        return None;
    }
    let mut account = [0; 32];
    for (to, value) in account.iter_mut().zip(bytes.values()) {
        let ValueDef::Primitive(Primitive::U128(byte)) = &value.value else { return None };
        *to = u8::try_from(*byte).ok()?;
    }
    Some(Hotkey(account))
}

//! One runtime of the chain: how keys, values, calls and events are written, read from its own metadata.
//!
//! Owns encoding and decoding. Refuses to know where the bytes come from, so everything here is pure and is tested
//! against recordings of real nodes. Only this room uses it.

use scale_decode::DecodeAsType;
use subxt::{
    Metadata, OfflineClient, OfflineClientAtBlock,
    config::{
        Config, DefaultTransactionExtensions, HashFor,
        substrate::{BlakeTwo256, SubstrateHeader},
    },
    events::Events,
    ext::frame_decode::{self, storage::IntoEncodableValues},
    metadata::ArcMetadata,
    utils::{AccountId32, H256, MultiAddress, MultiSignature},
};

use super::{call::Call, error::Error};
use crate::ids::Digest;

/// Blocks' header as the chain writes it.
pub(super) type Header = SubstrateHeader<H256>;

/// The chain as subxt wants it described. The values are those of one runtime.
#[derive(Debug, Clone)]
pub(super) struct Subtensor {
    genesis: H256,
    spec_version: u32,
    transaction_version: u32,
    metadata: ArcMetadata,
}

impl Config for Subtensor {
    type AccountId = AccountId32;
    type Address = MultiAddress<AccountId32, ()>;
    type Signature = MultiSignature;
    type Header = Header;
    type TransactionExtensions = DefaultTransactionExtensions<Self>;
    type AssetId = u32;
    type Hasher = BlakeTwo256;

    fn genesis_hash(&self) -> Option<HashFor<Self>> {
        Some(self.genesis)
    }

    fn spec_and_transaction_version_for_block_number(&self, _block_number: u64) -> Option<(u32, u32)> {
        Some((self.spec_version, self.transaction_version))
    }

    fn metadata_for_spec_version(&self, _spec_version: u32) -> Option<ArcMetadata> {
        Some(ArcMetadata::clone(&self.metadata))
    }
}

/// What the storage of the chain is asked for: a pallet's item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) pallet: &'static str,
    pub(super) name: &'static str,
}

impl Item {
    /// An item of the subnet pallet, where most of them are.
    pub(super) const fn subnet(name: &'static str) -> Self {
        Self { pallet: "SubtensorModule", name }
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.pallet, self.name)
    }
}

/// One runtime.
pub(super) struct Runtime {
    pub(super) spec_version: u32,
    /// The hash of its code, where its metadata was found by that.
    pub(super) code: Option<Digest>,
    metadata: ArcMetadata,
    client: OfflineClientAtBlock<Subtensor>,
}

impl Runtime {
    /// Reads a runtime's metadata.
    pub(super) fn new(
        metadata: &[u8],
        genesis: Digest,
        spec_version: u32,
        transaction_version: u32,
    ) -> Result<Self, Error> {
        let metadata = Metadata::decode_from(metadata).map_err(|source| Error::answer("the metadata", source))?.arc();
        let config = Subtensor {
            genesis: H256(genesis.0),
            spec_version,
            transaction_version,
            metadata: ArcMetadata::clone(&metadata),
        };
        // The block number only selects a runtime, and this configuration knows a single one.
        let client = OfflineClient::new_with_config(config)
            .at_block(0_u64)
            .map_err(|source| Error::answer("the metadata", source))?;
        Ok(Self { spec_version, code: None, metadata, client })
    }

    /// The same, found by the hash of its code.
    pub(super) const fn of_code(mut self, code: Digest) -> Self {
        self.code = Some(code);
        self
    }

    fn missing(&self, item: impl ToString) -> Error {
        Error::Missing { item: item.to_string(), spec_version: self.spec_version }
    }

    fn changed(&self, item: impl ToString, detail: impl ToString) -> Error {
        let detail = detail.to_string().chars().take(200).collect();
        Error::Changed { item: item.to_string(), spec_version: self.spec_version, detail }
    }

    /// The storage key of one entry.
    pub(super) fn key(&self, item: Item, parts: impl IntoEncodableValues) -> Result<Vec<u8>, Error> {
        let wanted = self.entry(item)?.keys().len();
        let given = parts.num_encodable_values();
        if wanted != given {
            return Err(self.changed(item, format!("it has {wanted} keys, not {given}")));
        }
        self.prefix(item, parts)
    }

    /// The beginning that the storage keys of several entries share.
    pub(super) fn prefix(&self, item: Item, parts: impl IntoEncodableValues) -> Result<Vec<u8>, Error> {
        self.entry(item)?;
        let types = self.metadata.types();
        frame_decode::storage::encode_storage_key(item.pallet, item.name, parts, &*self.metadata, types)
            .map_err(|source| self.changed(item, source))
    }

    fn entry(&self, item: Item) -> Result<&subxt::metadata::StorageEntryMetadata, Error> {
        let pallet = self.metadata.pallet_by_name(item.pallet).ok_or_else(|| self.missing(item))?;
        let storage = pallet.storage().ok_or_else(|| self.missing(item))?;
        storage.entry_by_name(item.name).ok_or_else(|| self.missing(item))
    }

    /// The bytes that an absent entry stands for.
    #[cfg(test)]
    pub(super) fn default_bytes(&self, item: Item) -> Vec<u8> {
        self.entry(item).unwrap().default_value().unwrap().to_vec()
    }

    /// The value of one entry. An absent entry has the default that the chain itself uses, where there is one.
    pub(super) fn value<T: DecodeAsType>(&self, item: Item, stored: Option<&[u8]>) -> Result<Option<T>, Error> {
        let entry = self.entry(item)?;
        let Some(bytes) = stored.or_else(|| entry.default_value()) else { return Ok(None) };
        let mut rest = bytes;
        let value = T::decode_as_type(&mut rest, entry.value_ty(), self.metadata.types())
            .map_err(|source| self.changed(item, source))?;
        if !rest.is_empty() {
            return Err(self.changed(item, "the value is longer than its type"));
        }
        Ok(Some(value))
    }

    /// Whether the runtime has a call.
    pub(super) fn has_call(&self, pallet: &str, name: &str) -> bool {
        self.metadata.pallet_by_name(pallet).is_some_and(|pallet| pallet.call_variant_by_name(name).is_some())
    }

    /// A constant that is a number of eight bytes; `None` where the runtime has no such one.
    pub(super) fn constant_u64(&self, pallet: &str, name: &str) -> Option<u64> {
        let bytes = self.metadata.pallet_by_name(pallet)?.constant_by_name(name)?.value();
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    /// The call as subxt encodes it, in the newest of the forms that this runtime has.
    pub(super) fn payload(&self, call: &Call) -> Result<subxt::tx::DynamicPayload<scale_value::Composite<()>>, Error> {
        for (pallet, name, arguments) in call.forms() {
            if self.has_call(pallet, name) {
                return Ok(subxt::tx::dynamic(pallet, name, arguments));
            }
        }
        Err(self.missing(call.name()))
    }

    /// The runtime as subxt's offline client, for building transactions.
    pub(super) const fn client(&self) -> &OfflineClientAtBlock<Subtensor> {
        &self.client
    }

    /// The events of a block, from the value of `System.Events`.
    pub(super) fn events(&self, bytes: Vec<u8>) -> Events<Subtensor> {
        self.client.events().from_bytes(bytes)
    }

    /// The chain's own name of a dispatch error, without its pallet.
    pub(super) fn dispatch_error_name(&self, bytes: &[u8]) -> Result<String, Error> {
        use subxt::error::DispatchError;

        let error = DispatchError::decode_from(bytes, ArcMetadata::clone(&self.metadata))
            .map_err(|source| self.changed("System.ExtrinsicFailed", source))?;
        Ok(match &error {
            DispatchError::Module(module) => {
                let details = module.details().map_err(|source| self.changed("a module error", source))?;
                details.variant.name.clone()
            }
            DispatchError::Token(token) => format!("{token:?}"),
            DispatchError::Arithmetic(arithmetic) => format!("{arithmetic:?}"),
            DispatchError::Transactional(transactional) => format!("{transactional:?}"),
            other => format!("{other:?}"),
        })
    }

    /// The fields of an event, by the names that the metadata gives them.
    pub(super) fn event_fields<T: scale_decode::DecodeAsFields>(
        &self,
        event: &subxt::events::Event<'_, Subtensor>,
    ) -> Result<T, Error> {
        event
            .decode_fields_unchecked_as()
            .map_err(|source| self.changed(format!("{}.{}", event.pallet_name(), event.event_name()), source))
    }
}

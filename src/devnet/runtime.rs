//! The runtime as its metadata describes it: where storage lies, what calls, events, errors and answers look like.
//!
//! Owns the decoded metadata and every lookup in it. Refuses to know what anything means. Only `devnet/` uses it.

use std::collections::HashMap;

use frame_metadata::{
    RuntimeMetadata, RuntimeMetadataPrefixed,
    v14::{self, StorageEntryModifier, StorageEntryType, StorageHasher},
    v15::RuntimeMetadataV15,
};
use parity_scale_codec::{Decode as _, Encode as _};
use scale_decode::{DecodeAsType, visitor::IgnoreVisitor};
use scale_encode::EncodeAsType;
use scale_info::{PortableRegistry, TypeDef, TypeDefPrimitive, Variant, form::PortableForm};

use super::{
    Spec,
    hashing::{append_key, name_hash, readable_prefix},
    items::Item,
};

/// The recorded metadata of the production runtime, spec 439.
const METADATA_439: &[u8] = include_bytes!("../../assets/chain/subtensor-metadata-v439.scale");
/// The recorded metadata of spec 461, of a profile for fast blocks; packed, because few ask for it.
const METADATA_461_GZ: &[u8] = include_bytes!("../../assets/chain/subtensor-metadata-v461.scale.gz");

/// Why bytes are not a runtime's metadata.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be decoded at all.
    #[error("decoding the runtime's metadata")]
    Decode(#[source] parity_scale_codec::Error),
    /// Another version than 15.
    #[error("the runtime's metadata has version {0}, wanted 15")]
    Version(u32),
    /// The packed bytes are damaged.
    #[error("unpacking the runtime's metadata")]
    Unpack(#[source] std::io::Error),
    /// Something that the rules need is not in it.
    #[error("the runtime's metadata lacks {0}")]
    Missing(String),
}

/// One storage item as the metadata describes it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The first 32 bytes of each of its keys.
    pub prefix: [u8; 32],
    /// How each key of a map is hashed, and its type.
    pub keys: Vec<(StorageHasher, u32)>,
    /// The type of the value.
    pub value: u32,
    /// The value of an absent entry, for items that have one.
    pub default: Option<Vec<u8>>,
}

/// What a node says about its runtime.
#[derive(Debug, Clone)]
pub struct Version {
    /// For example `node-subtensor`.
    pub spec_name: String,
    /// For example `node-subtensor`.
    pub impl_name: String,
    /// As `Core_version` has it.
    pub authoring_version: u32,
    /// Changes with every release.
    pub spec_version: u32,
    /// As `Core_version` has it.
    pub impl_version: u32,
    /// The runtime APIs by the hash of their name.
    pub apis: Vec<([u8; 8], u32)>,
    /// Changes when extrinsics do.
    pub transaction_version: u32,
    /// The trie's version.
    pub system_version: u8,
}

/// The runtime.
pub struct Runtime {
    bytes: Vec<u8>,
    v14: Vec<u8>,
    metadata: RuntimeMetadataV15,
    items: Vec<Entry>,
    by_prefix: HashMap<[u8; 32], Entry>,
    version: Version,
    version_bytes: Vec<u8>,
    slot_ms: u64,
}

impl Runtime {
    /// The runtime that the devnet imitates by itself.
    #[cfg(test)]
    pub fn embedded() -> Result<Self, Error> {
        Self::of(Spec::V439)
    }

    /// A recorded runtime.
    pub fn of(spec: Spec) -> Result<Self, Error> {
        match spec {
            Spec::V439 => Self::decode(METADATA_439),
            Spec::V461 => {
                let mut bytes = Vec::new();
                let mut packed = flate2::read::GzDecoder::new(METADATA_461_GZ);
                std::io::Read::read_to_end(&mut packed, &mut bytes).map_err(Error::Unpack)?;
                Self::decode(&bytes)
            }
        }
    }

    /// The runtime of these metadata bytes (version 15, beginning with `meta`).
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let prefixed = RuntimeMetadataPrefixed::decode(&mut &*bytes).map_err(Error::Decode)?;
        let metadata = match prefixed.1 {
            RuntimeMetadata::V15(metadata) => metadata,
            other => return Err(Error::Version(other.version())),
        };
        let mut by_name = HashMap::new();
        let mut by_prefix = HashMap::new();
        for pallet in &metadata.pallets {
            let Some(storage) = &pallet.storage else { continue };
            for item in &storage.entries {
                let entry = entry_of(&storage.prefix, item, &metadata.types);
                by_prefix.insert(entry.prefix, entry.clone());
                by_name.insert((pallet.name.as_str(), item.name.as_str()), entry);
            }
        }
        let mut items = Vec::with_capacity(Item::ALL.len());
        for (_, pallet, item) in Item::ALL {
            let entry = by_name.get(&(*pallet, *item));
            items.push(entry.ok_or_else(|| Error::Missing(format!("storage {pallet}.{item}")))?.clone());
        }
        let version_bytes = constant(&metadata, "System", "Version")?.to_vec();
        let version = version_of(&version_bytes)?;
        let v14 = downgraded(&metadata)?;
        let slot_ms = u64::decode(&mut constant(&metadata, "Aura", "SlotDuration")?).map_err(Error::Decode)?.max(1);
        Ok(Self { bytes: bytes.to_vec(), v14, metadata, items, by_prefix, version, version_bytes, slot_ms })
    }

    /// The metadata bytes of version 15.
    pub fn v15(&self) -> &[u8] {
        &self.bytes
    }

    /// The metadata bytes of version 14.
    pub fn v14(&self) -> &[u8] {
        &self.v14
    }

    /// The runtime's version.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The runtime's version in SCALE.
    pub fn version_bytes(&self) -> &[u8] {
        &self.version_bytes
    }

    /// Milliseconds of a slot of its block authoring.
    pub const fn slot_ms(&self) -> u64 {
        self.slot_ms
    }

    /// The types.
    pub const fn types(&self) -> &PortableRegistry {
        &self.metadata.types
    }

    /// A storage item.
    pub fn entry(&self, item: Item) -> &Entry {
        &self.items[item as usize]
    }

    /// A constant's bytes.
    #[cfg(test)]
    pub fn constant(&self, pallet: &str, name: &str) -> Result<&[u8], Error> {
        constant(&self.metadata, pallet, name)
    }

    /// Names and arguments of a call; `None` for indices that no call has.
    pub fn call(&self, pallet: u8, call: u8) -> Option<(&str, &Variant<PortableForm>)> {
        let pallet = self.metadata.pallets.iter().find(|candidate| candidate.index == pallet)?;
        let variants = self.variants(pallet.calls.as_ref()?.ty.id);
        Some((&pallet.name, variants.iter().find(|candidate| candidate.index == call)?))
    }

    /// The numbers of a pallet's error.
    pub fn error(&self, pallet: &str, name: &str) -> Option<(u8, u8)> {
        let pallet = self.metadata.pallets.iter().find(|candidate| candidate.name == pallet)?;
        let variants = self.variants(pallet.error.as_ref()?.ty.id);
        Some((pallet.index, variants.iter().find(|candidate| candidate.name == name)?.index))
    }

    /// The type of all events.
    pub fn event_type(&self) -> u32 {
        self.metadata.outer_enums.event_enum_ty.id
    }

    /// The type of all calls.
    #[cfg(test)]
    pub fn call_type(&self) -> u32 {
        self.metadata.outer_enums.call_enum_ty.id
    }

    /// The names of all methods of all runtime APIs.
    #[cfg(test)]
    pub fn api_methods(&self) -> Vec<String> {
        let apis = self.metadata.apis.iter();
        apis.flat_map(|api| api.methods.iter().map(|method| format!("{}_{}", api.name, method.name))).collect()
    }

    /// The argument and answer types of a runtime API's method, by its joined name.
    pub fn api(&self, joined: &str) -> Option<(Vec<u32>, u32)> {
        let (api, method) = joined.split_once('_')?;
        let api = self.metadata.apis.iter().find(|candidate| candidate.name == api)?;
        let method = api.methods.iter().find(|candidate| candidate.name == method)?;
        Some((method.inputs.iter().map(|input| input.ty.id).collect(), method.output.id))
    }

    /// The names of the transaction extensions with the sizes-deciding type of each.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, u32)> {
        let extensions = &self.metadata.extrinsic.signed_extensions;
        extensions.iter().map(|extension| (extension.identifier.as_str(), extension.ty.id))
    }

    /// A value in SCALE.
    ///
    /// # Panics
    /// When the value does not fit the type: the devnet chooses both, so that is an error of the devnet.
    pub fn encode<T: EncodeAsType + ?Sized>(&self, value: &T, id: u32) -> Vec<u8> {
        let encoded = value.encode_as_type(id, self.types());
        encoded.unwrap_or_else(|error| panic!("a value of the devnet does not fit type {id}: {error}"))
    }

    /// A value from SCALE; `None` when the bytes are not exactly one such value.
    pub fn decode_value<T: DecodeAsType>(&self, mut bytes: &[u8], id: u32) -> Option<T> {
        let value = T::decode_as_type(&mut bytes, id, self.types()).ok()?;
        bytes.is_empty().then_some(value)
    }

    /// Takes one value from the front of the bytes; `None` when they do not begin with one.
    pub fn take<T: DecodeAsType>(&self, bytes: &mut &[u8], id: u32) -> Option<T> {
        T::decode_as_type(bytes, id, self.types()).ok()
    }

    /// Takes the bytes of one value from the front; `None` when they do not begin with one.
    pub fn take_raw<'a>(&self, bytes: &mut &'a [u8], id: u32) -> Option<&'a [u8]> {
        let whole = *bytes;
        let visitor = IgnoreVisitor::<PortableRegistry>::new();
        scale_decode::visitor::decode_with_visitor(bytes, id, self.types(), visitor).ok()?;
        whole.get(..whole.len() - bytes.len())
    }

    /// Checks a key and a value from outside against the item whose key it is.
    pub fn check_pair(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let prefix = key.first_chunk::<32>().ok_or("a storage key has at least 32 bytes")?;
        let entry = self.by_prefix.get(prefix).ok_or("no storage item of the runtime has this prefix")?;
        let mut rest = &key[32..];
        for (hasher, id) in &entry.keys {
            let skipped = readable_prefix(hasher).ok_or("keys of this item cannot be read back")?;
            let hashed = rest;
            rest = rest.get(skipped..).ok_or("the storage key is too short")?;
            let plain = self.take_raw(&mut rest, *id).ok_or("the storage key does not decode")?;
            let mut again = Vec::new();
            append_key(hasher, plain, &mut again);
            if !hashed.starts_with(&again) {
                return Err("the hash within the storage key is wrong".to_owned());
            }
        }
        if !rest.is_empty() {
            return Err("the storage key is too long".to_owned());
        }
        let Some(mut value) = value else { return Ok(()) };
        match self.take_raw(&mut value, entry.value) {
            Some(_) if value.is_empty() => Ok(()),
            _ => Err("the value does not decode as the item's type".to_owned()),
        }
    }

    /// The variants of an enum; empty for other types.
    fn variants(&self, id: u32) -> &[Variant<PortableForm>] {
        match self.types().resolve(id).map(|found| &found.type_def) {
            Some(TypeDef::Variant(variants)) => &variants.variants,
            _ => &[],
        }
    }

    /// The fields of a structure with their types; empty for other types.
    pub fn fields(&self, id: u32) -> Vec<(String, u32)> {
        match self.types().resolve(id).map(|found| &found.type_def) {
            Some(TypeDef::Composite(composite)) => {
                let named = composite.fields.iter();
                named.map(|field| (field.name.clone().unwrap_or_default(), field.ty.id)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The type within an `Option` or a list; the type itself for others.
    pub fn inner(&self, id: u32) -> u32 {
        match self.types().resolve(id).map(|found| &found.type_def) {
            Some(TypeDef::Sequence(sequence)) => sequence.type_param.id,
            Some(TypeDef::Compact(compact)) => compact.type_param.id,
            Some(TypeDef::Variant(variants)) => {
                let some = variants.variants.iter().find(|variant| variant.name == "Some");
                some.and_then(|some| some.fields.first()).map_or(id, |field| field.ty.id)
            }
            _ => id,
        }
    }

    /// The last word of a type's name, or of its primitive.
    pub fn type_name(&self, id: u32) -> String {
        let Some(found) = self.types().resolve(id) else { return String::new() };
        match &found.type_def {
            TypeDef::Primitive(primitive) => format!("{primitive:?}"),
            _ => found.path.segments.last().cloned().unwrap_or_default(),
        }
    }

    /// The bytes of the smallest value of a type: zero, false, empty, none, the first variant.
    pub fn zero(&self, id: u32) -> Vec<u8> {
        let Some(found) = self.types().resolve(id) else { return Vec::new() };
        match &found.type_def {
            TypeDef::Composite(composite) => composite.fields.iter().flat_map(|field| self.zero(field.ty.id)).collect(),
            TypeDef::Tuple(tuple) => tuple.fields.iter().flat_map(|field| self.zero(field.id)).collect(),
            TypeDef::Array(array) => self.zero(array.type_param.id).repeat(array.len as usize),
            TypeDef::Primitive(primitive) => vec![0; width(primitive)],
            TypeDef::Variant(variants) => {
                let Some(first) = variants.variants.iter().min_by_key(|variant| variant.index) else {
                    return Vec::new();
                };
                let fields = first.fields.iter().flat_map(|field| self.zero(field.ty.id));
                std::iter::once(first.index).chain(fields).collect()
            }
            TypeDef::Sequence(_) | TypeDef::Compact(_) | TypeDef::BitSequence(_) => vec![0],
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("version", &self.version.spec_version).finish_non_exhaustive()
    }
}

const fn width(primitive: &TypeDefPrimitive) -> usize {
    match primitive {
        TypeDefPrimitive::Bool | TypeDefPrimitive::U8 | TypeDefPrimitive::I8 | TypeDefPrimitive::Str => 1,
        TypeDefPrimitive::U16 | TypeDefPrimitive::I16 => 2,
        TypeDefPrimitive::U32 | TypeDefPrimitive::I32 | TypeDefPrimitive::Char => 4,
        TypeDefPrimitive::U64 | TypeDefPrimitive::I64 => 8,
        TypeDefPrimitive::U128 | TypeDefPrimitive::I128 => 16,
        TypeDefPrimitive::U256 | TypeDefPrimitive::I256 => 32,
    }
}

fn entry_of(pallet: &str, item: &v14::StorageEntryMetadata<PortableForm>, types: &PortableRegistry) -> Entry {
    let mut prefix = [0; 32];
    prefix[..16].copy_from_slice(&name_hash(pallet));
    prefix[16..].copy_from_slice(&name_hash(&item.name));
    let default = matches!(item.modifier, StorageEntryModifier::Default).then(|| item.default.clone());
    match &item.ty {
        StorageEntryType::Plain(value) => Entry { prefix, keys: Vec::new(), value: value.id, default },
        StorageEntryType::Map { hashers, key, value } => {
            let ids = match types.resolve(key.id).map(|found| &found.type_def) {
                Some(TypeDef::Tuple(tuple)) if hashers.len() > 1 => tuple.fields.iter().map(|field| field.id).collect(),
                _ => vec![key.id],
            };
            Entry { prefix, keys: hashers.iter().cloned().zip(ids).collect(), value: value.id, default }
        }
    }
}

fn constant<'a>(metadata: &'a RuntimeMetadataV15, pallet: &str, name: &str) -> Result<&'a [u8], Error> {
    let found = metadata.pallets.iter().find(|candidate| candidate.name == pallet);
    let found = found.and_then(|pallet| pallet.constants.iter().find(|constant| constant.name == name));
    found.map(|constant| &*constant.value).ok_or_else(|| Error::Missing(format!("constant {pallet}.{name}")))
}

fn version_of(bytes: &[u8]) -> Result<Version, Error> {
    type Wire = (String, String, u32, u32, u32, Vec<([u8; 8], u32)>, u32, u8);
    let (
        spec_name,
        impl_name,
        authoring_version,
        spec_version,
        impl_version,
        apis,
        transaction_version,
        system_version,
    ) = Wire::decode(&mut &*bytes).map_err(Error::Decode)?;
    Ok(Version {
        spec_name,
        impl_name,
        authoring_version,
        spec_version,
        impl_version,
        apis,
        transaction_version,
        system_version,
    })
}

/// The same metadata in version 14, which lacks runtime APIs and wants the extrinsic's own type.
fn downgraded(metadata: &RuntimeMetadataV15) -> Result<Vec<u8>, Error> {
    let wanted = ["fp_self_contained", "unchecked_extrinsic", "UncheckedExtrinsic"];
    let extrinsic = metadata.types.types.iter().find(|candidate| candidate.ty.path.segments == wanted);
    let extrinsic = extrinsic.ok_or_else(|| Error::Missing(format!("type {}", wanted.join("::"))))?.id;
    let old = v14::RuntimeMetadataV14 {
        types: metadata.types.clone(),
        pallets: metadata
            .pallets
            .iter()
            .map(|pallet| v14::PalletMetadata {
                name: pallet.name.clone(),
                storage: pallet.storage.clone(),
                calls: pallet.calls.clone(),
                event: pallet.event.clone(),
                constants: pallet.constants.clone(),
                error: pallet.error.clone(),
                index: pallet.index,
            })
            .collect(),
        extrinsic: v14::ExtrinsicMetadata {
            ty: extrinsic.into(),
            version: metadata.extrinsic.version,
            signed_extensions: metadata
                .extrinsic
                .signed_extensions
                .iter()
                .map(|extension| v14::SignedExtensionMetadata {
                    identifier: extension.identifier.clone(),
                    ty: extension.ty,
                    additional_signed: extension.additional_signed,
                })
                .collect(),
        },
        ty: metadata.ty,
    };
    Ok(RuntimeMetadataPrefixed(u32::from_le_bytes(*b"meta"), RuntimeMetadata::V14(old)).encode())
}

//! Commitments: what a hotkey writes on chain for everybody to read.
//!
//! Owns the field encoding, the space a hotkey may use per epoch, and `set_commitment`. Refuses to know what a
//! commitment says, and how a timelocked field is opened. Dispatch and [`super::opening`] use it.

use parity_scale_codec::{Compact, Decode as _, Encode as _};
use scale_decode::DecodeAsType;
use scale_encode::EncodeAsType;

use super::{Done, Failure, Origin, World};
use crate::{
    chain::timelock::COMMITMENT_BYTES_MAX,
    devnet::{datum::Datum, items::Item, state::key},
};

/// The most fields of one commitment; the runtime's constant, checked by a test.
pub const FIELDS: usize = 3;
/// A commitment counts as at least this many bytes of space.
const SPACE_LEAST: u64 = 100;
/// The kind of a field that is opened later.
const TIMELOCKED: u8 = 134;
/// The kind of the mark that later runtimes leave where they could not open one.
const FAILED: u8 = 137;
/// Bytes of a large plain field.
const BIG_RAW_BYTES: usize = 512;

/// What kind of field one is, as far as the chain looks into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Bytes or a hash.
    Plain,
    /// Encrypted until a round of the beacon.
    Timelocked { ciphertext: Vec<u8>, round: u64 },
    /// Asks to reset the neuron's bonds.
    ResetBonds,
    /// What the chain leaves where it could not open one. Nobody may write it.
    Failed,
}

/// One field of a commitment: its bytes as they came, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    bytes: Vec<u8>,
    space: u64,
    /// What it is.
    pub kind: Kind,
}

impl Field {
    /// The mark of a field that could not be opened.
    pub fn failed(ciphertext: &[u8], round: u64) -> Self {
        let bytes = (FAILED, ciphertext, round).encode();
        Self { bytes, space: ciphertext.len() as u64, kind: Kind::Failed }
    }
}

/// A commitment's content, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its fields in their order.
    pub fields: Vec<Field>,
}

impl Info {
    /// Checks the bytes of a `CommitmentInfo`; `None` when they are not one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let count = Compact::<u32>::decode(&mut rest).ok()?.0;
        if count as usize > FIELDS {
            return None;
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            fields.push(take_field(&mut rest)?);
        }
        rest.is_empty().then_some(Self { fields })
    }

    /// The bytes of a `CommitmentInfo`.
    pub fn bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.fields.len()).expect("a commitment has few fields");
        let mut bytes = Compact(count).encode();
        self.fields.iter().for_each(|field| bytes.extend(&field.bytes));
        bytes
    }

    /// The space that the chain charges.
    fn space(&self) -> u64 {
        let sum: u64 = self.fields.iter().map(|field| field.space).sum();
        sum.max(SPACE_LEAST)
    }
}

/// Reads one field by its kind, the first byte.
fn take_field(rest: &mut &[u8]) -> Option<Field> {
    let whole = *rest;
    let number = u8::decode(rest).ok()?;
    let (kind, space) = match number {
        0 => (Kind::Plain, 0),
        1..=129 => (Kind::Plain, take(rest, usize::from(number) - 1)?.len()),
        130..=133 => (Kind::Plain, take(rest, 32)?.len()),
        TIMELOCKED | FAILED => {
            let ciphertext = take_counted(rest, COMMITMENT_BYTES_MAX)?.to_vec();
            let (space, round) = (ciphertext.len(), u64::decode(rest).ok()?);
            let kind = if number == FAILED { Kind::Failed } else { Kind::Timelocked { ciphertext, round } };
            (kind, space)
        }
        135 => (Kind::ResetBonds, 0),
        136 => (Kind::Plain, take_counted(rest, BIG_RAW_BYTES)?.len()),
        _ => return None,
    };
    let bytes = whole[..whole.len() - rest.len()].to_vec();
    Some(Field { bytes, space: space as u64, kind })
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

fn take_counted<'a>(rest: &mut &'a [u8], most: usize) -> Option<&'a [u8]> {
    let bytes = Compact::<u32>::decode(rest).ok()?.0 as usize;
    if bytes > most {
        return None;
    }
    take(rest, bytes)
}

/// How much space a hotkey has used in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DecodeAsType, EncodeAsType)]
struct Usage {
    last_epoch: u64,
    used_space: u64,
}

/// Writes a commitment of a registered hotkey.
pub fn set(world: &mut World<'_>, hotkey: [u8; 32], netuid: u16, info: &Info) -> Done {
    if !world.state.has(Item::Uids, key![netuid, &hotkey]) {
        return Err(Failure::Module("Commitments", "AccountNotAllowedCommit"));
    }
    if info.fields.iter().any(|field| field.kind == Kind::Failed) {
        return Err(Failure::Module("Commitments", "TimelockRevealFailedNotAllowed"));
    }
    use_space(world, netuid, &hotkey, info.space())?;
    let block = world.block;
    put(world, netuid, &hotkey, block, info);
    world.state.put(Item::LastCommitment, key![netuid, &hotkey], &block);
    if info.fields.iter().any(|field| field.kind == Kind::ResetBonds) {
        reset_bonds(world, netuid, &hotkey);
    }
    let round = info.fields.iter().find_map(|field| match field.kind {
        Kind::Timelocked { round, .. } => Some(round),
        _ => None,
    });
    index(world, netuid, hotkey, round.is_some());
    let mut fields = vec![("netuid", Datum::Num(netuid.into())), ("who", Datum::account(&hotkey))];
    match round {
        None => world.emit("Commitments", "Commitment", fields),
        Some(round) => {
            fields.push(("reveal_round", Datum::Num(round.into())));
            world.emit("Commitments", "TimelockCommitment", fields);
        }
    }
    Ok(())
}

/// Stores a commitment as one of a block.
pub fn put(world: &mut World<'_>, netuid: u16, hotkey: &[u8; 32], block: u32, info: &Info) {
    let registration = Datum::Struct(vec![
        ("deposit", Datum::Num(0)),
        ("block", Datum::Num(block.into())),
        ("info", Datum::Encoded(info.bytes())),
    ]);
    world.state.put(Item::CommitmentOf, key![netuid, hotkey], &registration);
}

/// A stored commitment and its block.
pub fn stored(world: &World<'_>, netuid: u16, hotkey: &[u8; 32]) -> Option<(u32, Info)> {
    let runtime = world.state.runtime();
    let bytes = world.state.raw(&world.state.key(Item::CommitmentOf, key![netuid, hotkey]))?;
    let mut rest = &*bytes;
    let (mut block, mut info) = (None, None);
    for (name, field) in runtime.fields(runtime.entry(Item::CommitmentOf).value) {
        let value = runtime.take_raw(&mut rest, field)?;
        match name.as_str() {
            "block" => block = runtime.decode_value(value, field),
            "info" => info = Info::read(value),
            _ => {}
        }
    }
    Some((block?, info?))
}

/// Charges space; the count starts anew with each epoch.
fn use_space(world: &mut World<'_>, netuid: u16, hotkey: &[u8; 32], need: u64) -> Done {
    let epoch: u64 = world.state.get(Item::SubnetEpochIndex, key![netuid]);
    let most: u32 = world.state.get(Item::MaxSpace, &[]);
    let usage: Option<Usage> = world.state.find(Item::UsedSpaceOf, key![netuid, hotkey]);
    let used = usage.filter(|usage| usage.last_epoch == epoch).map_or(0, |usage| usage.used_space);
    let used_space = used.saturating_add(need);
    if used_space > u64::from(most) {
        return Err(Failure::Module("Commitments", "SpaceLimitExceeded"));
    }
    world.state.put(Item::UsedSpaceOf, key![netuid, hotkey], &Usage { last_epoch: epoch, used_space });
    Ok(())
}

/// Adds a hotkey to the set of those with something to open, or removes it.
pub fn index(world: &mut World<'_>, netuid: u16, hotkey: [u8; 32], timelocked: bool) {
    let mut waiting: Vec<(u16, [u8; 32])> = world.state.get(Item::TimelockedIndex, &[]);
    let found = waiting.binary_search(&(netuid, hotkey));
    match (found, timelocked) {
        (Err(at), true) => waiting.insert(at, (netuid, hotkey)),
        (Ok(at), false) => drop(waiting.remove(at)),
        _ => return,
    }
    world.state.put(Item::TimelockedIndex, &[], &waiting);
}

/// Forgets the bonds towards a neuron in every mechanism.
fn reset_bonds(world: &mut World<'_>, netuid: u16, hotkey: &[u8; 32]) {
    let Some(uid) = world.state.find::<u16>(Item::Uids, key![netuid, hotkey]) else { return };
    for index in super::subnets::indices(&world.state, netuid) {
        for other in 0..super::subnets::size(&world.state, netuid) {
            let mut bonds: Vec<(u16, u16)> = world.state.get(Item::Bonds, key![index, other]);
            let before = bonds.len();
            bonds.retain(|(to, _)| *to != uid);
            if bonds.len() != before {
                world.state.put(Item::Bonds, key![index, other], &bonds);
            }
        }
    }
    let block = world.block;
    world.state.put(Item::LastBondsReset, key![netuid, hotkey], &block);
}

/// `set_max_space`.
pub fn set_max_space(world: &mut World<'_>, origin: Origin, bytes: u32) -> Done {
    if origin != Origin::Root {
        return Err(Failure::BadOrigin);
    }
    world.state.put(Item::MaxSpace, &[], &bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_the_sheet_says() {
        let read = |bytes: &[u8]| {
            let info = Info::read(bytes)?;
            assert_eq!(info.bytes(), bytes);
            Some(info.fields.into_iter().map(|field| (field.kind, field.space)).collect::<Vec<_>>())
        };
        assert_eq!(read(&[4, 3, 7, 7]).unwrap(), [(Kind::Plain, 2)]);
        let hash = [&[4, 131][..], &[9; 32]].concat();
        assert_eq!(read(&hash).unwrap(), [(Kind::Plain, 32)]);
        let sealed = [&[4, 134, 8, 1, 2][..], &5_u64.to_le_bytes()].concat();
        assert_eq!(read(&sealed).unwrap(), [(Kind::Timelocked { ciphertext: vec![1, 2], round: 5 }, 2)]);
        let failed = [&[4][..], &Field::failed(&[1, 2], 5).bytes].concat();
        assert_eq!(read(&failed).unwrap(), [(Kind::Failed, 2)]);
        let three = [(Kind::Plain, 0), (Kind::ResetBonds, 0), (Kind::Plain, 0)];
        assert_eq!(read(&[12, 0, 135, 1]).unwrap(), three);
        assert_eq!(Info::read(&[0]).unwrap().space(), 100);
        // Four fields, a kind that no runtime has, bytes missing, bytes left over.
        for bad in [&[16, 0, 0, 0, 0][..], &[4, 138], &[4, 3, 7], &[4, 0, 0]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_kind_of_field_is_one_of_the_metadata() {
        for spec in [439, 461] {
            let runtime = crate::devnet::testkit::runtime(spec);
            let constant = runtime.constant("Commitments", "MaxFields").unwrap();
            assert_eq!(constant, u32::try_from(FIELDS).unwrap().to_le_bytes());
            const COMMITMENTS: u8 = 18;
            let (_, call) = runtime.call(COMMITMENTS, 0).unwrap();
            let id = call.fields[1].ty.id;
            for kind in 0..=255_u8 {
                // Enough bytes for any field; the two readers must take the same ones and refuse the same kinds.
                let mut bytes = vec![4, kind];
                bytes.extend([8, 1, 2]);
                bytes.extend([0; 128]);
                let mut rest = &*bytes;
                let theirs = runtime.take_raw(&mut rest, id).map(<[u8]>::len);
                let mut rest = &bytes[1..];
                let ours = take_field(&mut rest).map(|_field| bytes.len() - rest.len());
                let only_later = kind == FAILED && spec == 439;
                assert_eq!(ours.filter(|_| !only_later), theirs, "kind {kind} of {spec}");
            }
        }
    }
}

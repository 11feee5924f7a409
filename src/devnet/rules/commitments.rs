//! Commitments: what a hotkey writes on chain for everybody to read.
//!
//! Owns the field encoding, the space a hotkey may use per epoch, and `set_commitment`. Refuses to know what a
//! commitment says. Dispatch and the answers use it. Not here yet: opening timelocked fields; they are stored and
//! indexed.

use scale_decode::DecodeAsType;
use scale_encode::EncodeAsType;

use super::{Done, Failure, Origin, World};
use crate::devnet::{datum::Datum, items::Item, state::key};

/// The most fields of one commitment; the runtime's constant, checked by a test.
pub const FIELDS: usize = 3;
/// A commitment counts as at least this many bytes of space.
const SPACE_LEAST: u64 = 100;
/// Bytes of a field that is opened later.
const TIMELOCKED_BYTES: usize = 1024;
/// Bytes of a large plain field.
const BIG_RAW_BYTES: usize = 512;

/// One field of a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    /// Bytes or a hash: how many bytes of space they take.
    Plain(u64),
    /// Encrypted until a round of the beacon.
    Timelocked { bytes: u64, round: u64 },
    /// Asks to reset the neuron's bonds.
    ResetBonds,
}

/// A commitment's content: the bytes as they came, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Info {
    /// Checks the bytes of a `CommitmentInfo`; `None` when they are not one.
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        use parity_scale_codec::{Compact, Decode as _};
        let mut rest = &*bytes;
        let count = Compact::<u32>::decode(&mut rest).ok()?.0;
        if count as usize > FIELDS {
            return None;
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            fields.push(take_field(&mut rest)?);
        }
        rest.is_empty().then_some(())?;
        Some(Self { bytes, fields })
    }

    /// The space that the chain charges.
    fn space(&self) -> u64 {
        let sum: u64 = self
            .fields
            .iter()
            .map(|field| match field {
                Field::Plain(bytes) | Field::Timelocked { bytes, .. } => *bytes,
                Field::ResetBonds => 0,
            })
            .sum();
        sum.max(SPACE_LEAST)
    }
}

/// Reads one field by its kind, the first byte.
fn take_field(rest: &mut &[u8]) -> Option<Field> {
    use parity_scale_codec::Decode as _;
    let kind = u8::decode(rest).ok()?;
    match kind {
        0 => Some(Field::Plain(0)),
        1..=129 => skip(rest, usize::from(kind) - 1),
        130..=133 => skip(rest, 32),
        134 => {
            let bytes = take_bytes(rest, TIMELOCKED_BYTES)?;
            Some(Field::Timelocked { bytes, round: u64::decode(rest).ok()? })
        }
        135 => Some(Field::ResetBonds),
        136 => Some(Field::Plain(take_bytes(rest, BIG_RAW_BYTES)?)),
        _ => None,
    }
}

fn skip(rest: &mut &[u8], bytes: usize) -> Option<Field> {
    *rest = rest.get(bytes..)?;
    Some(Field::Plain(bytes as u64))
}

fn take_bytes(rest: &mut &[u8], most: usize) -> Option<u64> {
    use parity_scale_codec::{Compact, Decode as _};
    let bytes = Compact::<u32>::decode(rest).ok()?.0 as usize;
    if bytes > most {
        return None;
    }
    skip(rest, bytes)?;
    Some(bytes as u64)
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
    use_space(world, netuid, &hotkey, info.space())?;
    let registration = Datum::Struct(vec![
        ("deposit", Datum::Num(0)),
        ("block", Datum::Num(world.block.into())),
        ("info", Datum::Encoded(info.bytes.clone())),
    ]);
    let block = world.block;
    world.state.put(Item::CommitmentOf, key![netuid, &hotkey], &registration);
    world.state.put(Item::LastCommitment, key![netuid, &hotkey], &block);
    if info.fields.contains(&Field::ResetBonds) {
        reset_bonds(world, netuid, &hotkey);
    }
    let round = info.fields.iter().find_map(|field| match field {
        Field::Timelocked { round, .. } => Some(*round),
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
fn index(world: &mut World<'_>, netuid: u16, hotkey: [u8; 32], timelocked: bool) {
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
        let read = |bytes: &[u8]| Info::read(bytes.to_vec());
        assert_eq!(read(&[4, 3, 7, 7]).unwrap().fields, [Field::Plain(2)]);
        let hash = [&[4, 131][..], &[9; 32]].concat();
        assert_eq!(read(&hash).unwrap().fields, [Field::Plain(32)]);
        let sealed = [&[4, 134, 8, 1, 2][..], &5_u64.to_le_bytes()].concat();
        assert_eq!(read(&sealed).unwrap().fields, [Field::Timelocked { bytes: 2, round: 5 }]);
        assert_eq!(read(&[12, 0, 135, 1]).unwrap().fields, [Field::Plain(0), Field::ResetBonds, Field::Plain(0)]);
        assert_eq!(read(&[0]).unwrap().space(), 100);
        // Four fields, a kind of a later runtime, bytes missing, bytes left over.
        for bad in [&[16, 0, 0, 0, 0][..], &[4, 137], &[4, 3, 7], &[4, 0, 0]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_kind_of_field_is_one_of_the_metadata() {
        let runtime = crate::devnet::runtime::Runtime::embedded().unwrap();
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
            assert_eq!(ours, theirs, "kind {kind}");
        }
    }
}

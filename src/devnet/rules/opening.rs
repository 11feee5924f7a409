//! Timelocked commitments: what a hotkey wrote for later, opened when the beacon allows.
//!
//! Owns which commitments wait, and what is kept of those that were opened or cannot be. Refuses to know what they
//! say. Block start uses it, after the epochs.

use super::{
    World,
    commitments::{self, Field, Info, Kind},
    drand,
};
use crate::{
    chain::timelock,
    devnet::{datum::Datum, items::Item, state::key},
};

/// How many opened commitments of a hotkey are kept.
const REVEALED: usize = 10;

/// Opens every commitment whose round is known.
pub fn start_block(world: &mut World<'_>) {
    let waiting: Vec<(u16, [u8; 32])> = world.state.get(Item::TimelockedIndex, &[]);
    for (netuid, hotkey) in waiting {
        match commitments::stored(world, netuid, &hotkey) {
            Some((block, info)) => open(world, netuid, hotkey, block, info),
            None => commitments::index(world, netuid, hotkey, false),
        }
    }
}

/// Opens the fields of one commitment; the plain ones stay.
fn open(world: &mut World<'_>, netuid: u16, hotkey: [u8; 32], block: u32, info: Info) {
    let (mut kept, mut opened, mut settled) = (Vec::new(), Vec::new(), 0);
    for field in info.fields {
        let Kind::Timelocked { ciphertext, round } = &field.kind else {
            kept.push(field);
            continue;
        };
        match outcome(world, ciphertext, *round) {
            Outcome::Waits => kept.push(field),
            Outcome::Opened(plaintext) => {
                settled += 1;
                opened.push(plaintext);
            }
            Outcome::Failed(failure) => {
                settled += 1;
                tracing::debug!(netuid, round, failure, "a timelocked commitment cannot be opened");
                kept.extend(mark(world, netuid, &hotkey, ciphertext, *round, failure));
            }
        }
    }
    if settled == 0 {
        return;
    }
    reveal(world, netuid, &hotkey, opened);
    let waits = kept.iter().any(|field| matches!(field.kind, Kind::Timelocked { .. }));
    if kept.is_empty() {
        world.state.remove(Item::CommitmentOf, key![netuid, &hotkey]);
    } else {
        commitments::put(world, netuid, &hotkey, block, &Info { fields: kept });
    }
    commitments::index(world, netuid, hotkey, waits);
}

/// What becomes of one field now.
enum Outcome {
    Waits,
    Opened(Vec<u8>),
    /// Why not, as later runtimes name it.
    Failed(&'static str),
}

fn outcome(world: &World<'_>, ciphertext: &[u8], round: u64) -> Outcome {
    let Some(signature) = drand::signature(&world.state, round) else {
        let oldest: u64 = world.state.get(Item::OldestStoredRound, &[]);
        return if marks_failures(world) && round < oldest { Outcome::Failed("PulseExpired") } else { Outcome::Waits };
    };
    match timelock::open(ciphertext, &signature) {
        Ok(plaintext) if plaintext.is_empty() => Outcome::Failed("EmptyPlaintext"),
        Ok(plaintext) => Outcome::Opened(plaintext),
        Err(timelock::Error::Signature) => Outcome::Failed("SignatureDeserialize"),
        Err(timelock::Error::Ciphertext) => Outcome::Failed("CiphertextDeserialize"),
        Err(_) => Outcome::Failed("Decrypt"),
    }
}

/// Whether the runtime keeps a mark where it could not open something; earlier ones drop it without a word.
fn marks_failures(world: &World<'_>) -> bool {
    world.state.runtime().error("Commitments", "TimelockRevealFailedNotAllowed").is_some()
}

/// The mark of a failure, for runtimes that keep one.
fn mark(
    world: &mut World<'_>,
    netuid: u16,
    hotkey: &[u8; 32],
    ciphertext: &[u8],
    round: u64,
    failure: &str,
) -> Option<Field> {
    if !marks_failures(world) {
        return None;
    }
    let fields = vec![
        ("netuid", Datum::Num(netuid.into())),
        ("who", Datum::account(hotkey)),
        ("reveal_round", Datum::Num(round.into())),
        ("error", Datum::unit(failure)),
    ];
    world.emit("Commitments", "CommitmentRevealFailed", fields);
    Some(Field::failed(ciphertext, round))
}

/// Appends what was opened, keeping the newest.
fn reveal(world: &mut World<'_>, netuid: u16, hotkey: &[u8; 32], opened: Vec<Vec<u8>>) {
    if opened.is_empty() {
        return;
    }
    let mut revealed: Vec<(Vec<u8>, u64)> = world.state.get_or_default(Item::RevealedCommitments, key![netuid, hotkey]);
    for plaintext in opened {
        revealed.push((plaintext, world.now()));
        let fields = vec![("netuid", Datum::Num(netuid.into())), ("who", Datum::account(hotkey))];
        world.emit("Commitments", "CommitmentRevealed", fields);
    }
    let old = revealed.len().saturating_sub(REVEALED);
    let kept = revealed
        .drain(old..)
        .map(|(plaintext, block)| Datum::Tuple(vec![Datum::Bytes(plaintext), Datum::Num(block.into())]));
    let kept = Datum::List(kept.collect());
    world.state.put(Item::RevealedCommitments, key![netuid, hotkey], &kept);
}

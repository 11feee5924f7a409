//! Commitments seen on chain: which of their fields count, and why the others do not.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    codes::{
        COMMITMENT_CHALLENGE_UNKNOWN, COMMITMENT_DUPLICATE, COMMITMENT_MALFORMED, COMMITMENT_TOO_OLD,
        HOTKEY_UNREGISTERED,
    },
    facts::Registration,
};
use crate::{
    chain::{SealError, Sealed, SeenCommitment},
    fault::{Code, Fault},
    ids::{Hotkey, Priority},
};

/// What our fields begin with. Texts that begin otherwise are other people's business.
const PREFIX: &str = "waag1:";
/// Characters of a refused field that are repeated in the refusal: enough to recognise it.
const SHOWN_CHARS: usize = 80;

/// A field that counts: one half of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The challenge's slug.
    pub challenge: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// Who owns the hotkey.
    pub coldkey: Hotkey,
    /// The field's text.
    pub field: String,
    /// The block and extrinsic in which the commitment stands.
    pub at: Priority,
}

/// A field that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The challenge it names; empty when it names none.
    pub challenge: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// Why it does not count.
    pub fault: Fault,
}

/// What a block's commitments come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Fields that count, in the order of the chain.
    pub sightings: Vec<Sighting>,
    /// Fields that look like ours and do not count.
    pub refusals: Vec<Refusal>,
}

/// Reads the commitments of one block. A field that was seen in an earlier block is reported again: the ledger keeps
/// the first.
#[must_use]
pub fn read_commitments(
    commitments: &[SeenCommitment],
    challenges: &BTreeSet<String>,
    registered: &BTreeMap<Hotkey, Registration>,
) -> Reading {
    let mut reading = Reading::default();
    for commitment in commitments {
        let mut taken = BTreeSet::new();
        for text in commitment.fields.iter().filter_map(|field| field.as_text()) {
            if !text.starts_with(PREFIX) {
                continue;
            }
            match read_field(commitment, text, challenges, registered, &mut taken) {
                Ok(sighting) => reading.sightings.push(sighting),
                Err(refusal) => reading.refusals.push(refusal),
            }
        }
    }
    reading
}

#[expect(clippy::result_large_err, reason = "a refusal is recorded, not thrown far")]
fn read_field(
    commitment: &SeenCommitment,
    text: &str,
    challenges: &BTreeSet<String>,
    registered: &BTreeMap<Hotkey, Registration>,
    taken: &mut BTreeSet<String>,
) -> Result<Sighting, Refusal> {
    let refuse = |challenge: &str, code: Code, detail: String| Refusal {
        challenge: challenge.to_owned(),
        hotkey: commitment.hotkey,
        fault: code.because(detail),
    };
    let sealed: Sealed = text
        .parse()
        .map_err(|source: SealError| refuse("", COMMITMENT_MALFORMED, format!("`{}`: {source}", shown(text))))?;
    let challenge = sealed.challenge.as_str();
    if !challenges.contains(challenge) {
        return Err(refuse(challenge, COMMITMENT_CHALLENGE_UNKNOWN, format!("`{challenge}`")));
    }
    if !taken.insert(challenge.to_owned()) {
        return Err(refuse(
            challenge,
            COMMITMENT_DUPLICATE,
            format!("`{}` in block {}", shown(text), commitment.block),
        ));
    }
    let Some(registration) = registered.get(&commitment.hotkey) else {
        let detail = format!("it committed in block {} and is not registered", commitment.block);
        return Err(refuse(challenge, HOTKEY_UNREGISTERED, detail));
    };
    check_age(commitment.block, registration).map_err(|detail| refuse(challenge, COMMITMENT_TOO_OLD, detail))?;
    Ok(Sighting {
        challenge: challenge.to_owned(),
        hotkey: commitment.hotkey,
        coldkey: registration.coldkey,
        field: text.to_owned(),
        at: Priority { block: commitment.block, index: commitment.extrinsic_index },
    })
}

/// A commitment counts from the block of the registration on.
pub(super) fn check_age(committed_block: u64, registration: &Registration) -> Result<(), String> {
    if committed_block < registration.since_block {
        return Err(format!("committed in block {committed_block}, registered in block {}", registration.since_block));
    }
    Ok(())
}

/// The beginning of a text from outside, without control characters.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Field;

    const MINER: Hotkey = Hotkey([1; 32]);
    const OWNER: Hotkey = Hotkey([2; 32]);

    fn field(challenge: &str, digit: char) -> String {
        format!("waag1:{challenge}:{}", digit.to_string().repeat(64))
    }

    fn read(fields: Vec<Field>) -> Reading {
        let commitment = SeenCommitment { hotkey: MINER, block: 20, extrinsic_index: 3, fields };
        let registration = Registration { uid: 4, since_block: 20, coldkey: OWNER };
        read_commitments(
            &[commitment],
            &BTreeSet::from(["gym".to_owned(), "duel".to_owned()]),
            &BTreeMap::from([(MINER, registration)]),
        )
    }

    fn raw(text: &str) -> Field {
        Field::Raw(text.as_bytes().to_vec())
    }

    fn codes(reading: &Reading) -> Vec<&str> {
        reading.refusals.iter().map(|refusal| refusal.fault.code.as_str()).collect()
    }

    #[test]
    fn one_field_counts_for_each_challenge() {
        let reading = read(vec![raw(&field("gym", 'a')), Field::BigRaw(field("duel", 'b').into_bytes())]);
        assert_eq!(codes(&reading), [] as [&str; 0]);
        let first = Sighting {
            challenge: "gym".to_owned(),
            hotkey: MINER,
            coldkey: OWNER,
            field: field("gym", 'a'),
            at: Priority { block: 20, index: 3 },
        };
        assert_eq!(reading.sightings[0], first);
        assert_eq!(reading.sightings[1].challenge, "duel");
        assert_eq!(reading.sightings.len(), 2);
    }

    #[test]
    fn other_peoples_fields_are_passed_over_in_silence() {
        let reading = read(vec![
            raw("v7|repo|digest"),
            raw("waag2:gym:aa"),
            raw("waag1"),
            Field::Raw(vec![0xff, 0xfe]),
            Field::Sha256([7; 32]),
            Field::None,
        ]);
        assert_eq!(reading, Reading::default());
    }

    #[test]
    fn a_broken_field_is_recorded_and_does_not_hide_a_good_one() {
        let upper = format!("waag1:gym:{}", "A".repeat(64));
        let reading = read(vec![raw("waag1:gym:1234"), raw(&upper), raw(&field("gym", 'a'))]);
        assert_eq!(codes(&reading), ["commitment_unreadable", "commitment_unreadable"]);
        assert_eq!(reading.sightings.len(), 1);
        // Control characters from outside do not reach a terminal.
        let hostile = read(vec![raw("waag1:\u{1b}[2J")]);
        assert!(!hostile.refusals[0].fault.detail.contains('\u{1b}'), "{:?}", hostile.refusals);
    }

    #[test]
    fn an_unknown_challenge_and_a_second_field_are_recorded() {
        let reading = read(vec![raw(&field("chess", 'a')), raw(&field("gym", 'a')), raw(&field("gym", 'b'))]);
        assert_eq!(codes(&reading), ["commitment_challenge_unknown", "commitment_duplicate"]);
        assert_eq!(reading.refusals[0].challenge, "chess");
        assert_eq!(reading.sightings[0].field, field("gym", 'a'));
    }

    #[test]
    fn a_commitment_counts_from_the_block_of_the_registration_on() {
        let at = |since_block| {
            let commitment =
                SeenCommitment { hotkey: MINER, block: 20, extrinsic_index: 0, fields: vec![raw(&field("gym", 'a'))] };
            let registration = Registration { uid: 0, since_block, coldkey: OWNER };
            read_commitments(
                &[commitment],
                &BTreeSet::from(["gym".to_owned()]),
                &BTreeMap::from([(MINER, registration)]),
            )
        };
        assert_eq!(at(20).sightings.len(), 1);
        assert_eq!(codes(&at(21)), ["commitment_before_registration"]);
        assert!(at(21).sightings.is_empty());
    }

    #[test]
    fn an_unregistered_hotkey_commits_to_nothing() {
        let commitment =
            SeenCommitment { hotkey: MINER, block: 20, extrinsic_index: 0, fields: vec![raw(&field("gym", 'a'))] };
        let reading = read_commitments(&[commitment], &BTreeSet::from(["gym".to_owned()]), &BTreeMap::new());
        assert_eq!(codes(&reading), ["hotkey_unregistered"]);
    }

    #[test]
    fn the_prefix_is_that_of_sealed_commitments() {
        assert!(field("gym", 'a').parse::<Sealed>().expect("well formed").to_string().starts_with(PREFIX));
    }
}

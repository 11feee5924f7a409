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
    chain::{Field, RevealedCommitment, SealError, Sealed, SeenCommitment, lossless_text, readings},
    config::profile::{Pattern, Source},
    fault::{Code, Fault},
    ids::{Digest, Hotkey, Priority},
};

/// The place within its block of what the chain opened: before every extrinsic, the first of which is the block's time.
/// Several hotkeys' are told apart by the hotkeys, as the chain itself takes them up.
const REVEAL_INDEX: u32 = 0;

/// How a challenge's commitments are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Form {
    /// Where the text stands.
    pub source: Source,
    /// How it is taken apart; `None` for our sealed form.
    pub pattern: Option<Pattern>,
}

/// The forms of the challenges that are served, by slug.
pub type Forms = BTreeMap<String, Form>;

/// What stands on chain for a challenge, whoever wrote it: a fact that no registration changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The challenge's slug.
    pub challenge: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// The text, from which its bytes can be had again.
    pub field: String,
    /// Where it stands.
    pub source: Source,
    /// SHA-256 of the content; `None` while it is sealed.
    pub digest: Option<Digest>,
    /// The parts of the text by name.
    pub parts: BTreeMap<String, String>,
    /// The block and extrinsic in which it stands.
    pub at: Priority,
}

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
    /// SHA-256 of the content; `None` while it is sealed.
    pub digest: Option<Digest>,
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
    /// What stands there for the challenges, in the order of the chain.
    pub facts: Vec<Fact>,
    /// Fields that count, in the order of the chain.
    pub sightings: Vec<Sighting>,
    /// Fields that look like ours and do not count.
    pub refusals: Vec<Refusal>,
}

/// Reads the commitments of one block, and what the chain opened in it. A field that was seen in an earlier block is
/// reported again: the ledger keeps the first.
#[must_use]
pub fn read_commitments(
    commitments: &[SeenCommitment],
    reveals: &[RevealedCommitment],
    forms: &Forms,
    registered: &BTreeMap<Hotkey, Registration>,
) -> Reading {
    let mut reader = Reader { forms, registered, reading: Reading::default() };
    for revealed in reveals {
        let at = Priority { block: revealed.block, index: REVEAL_INDEX };
        reader.foreign(Source::Revealed, revealed.hotkey, revealed.payload(), at, &mut BTreeSet::new());
    }
    for commitment in commitments {
        let mut taken = BTreeSet::new();
        let at = Priority { block: commitment.block, index: commitment.extrinsic_index };
        for field in &commitment.fields {
            match (field.as_text(), field) {
                (Some(text), _) if text.starts_with(PREFIX) => reader.sealed(commitment.hotkey, text, at, &mut taken),
                (_, Field::Raw(bytes) | Field::BigRaw(bytes)) => {
                    reader.foreign(Source::Plain, commitment.hotkey, bytes, at, &mut taken);
                }
                _ => {}
            }
        }
    }
    reader.reading
}

struct Reader<'a> {
    forms: &'a Forms,
    registered: &'a BTreeMap<Hotkey, Registration>,
    reading: Reading,
}

impl Reader<'_> {
    fn refuse(&mut self, challenge: &str, hotkey: Hotkey, code: Code, detail: String) {
        let fault = code.because(detail);
        self.reading.refusals.push(Refusal { challenge: challenge.to_owned(), hotkey, fault });
    }

    /// A field of our own form.
    fn sealed(&mut self, hotkey: Hotkey, text: &str, at: Priority, taken: &mut BTreeSet<String>) {
        let sealed: Sealed = match text.parse() {
            Ok(sealed) => sealed,
            Err(source) => {
                let source: SealError = source;
                return self.refuse("", hotkey, COMMITMENT_MALFORMED, format!("`{}`: {source}", shown(text)));
            }
        };
        let challenge = sealed.challenge.as_str();
        if self.forms.get(challenge).is_none_or(|form| form.source != Source::Sealed) {
            return self.refuse(challenge, hotkey, COMMITMENT_CHALLENGE_UNKNOWN, format!("`{challenge}`"));
        }
        let fact = Fact {
            challenge: challenge.to_owned(),
            hotkey,
            field: text.to_owned(),
            source: Source::Sealed,
            digest: None,
            parts: BTreeMap::new(),
            at,
        };
        self.take(fact, taken);
    }

    /// Any other payload, which counts for the challenges whose pattern it fits.
    fn foreign(&mut self, source: Source, hotkey: Hotkey, payload: &[u8], at: Priority, taken: &mut BTreeSet<String>) {
        let forms = self.forms;
        let patterns = forms.iter().filter(|(_, form)| form.source == source);
        for (challenge, pattern) in patterns.filter_map(|(slug, form)| Some((slug, form.pattern.as_ref()?))) {
            let Some(read) = readings(payload).iter().find_map(|text| pattern.read(text)) else { continue };
            let fact = Fact {
                challenge: challenge.clone(),
                hotkey,
                field: lossless_text(payload),
                source,
                digest: Some(read.digest),
                parts: read.parts,
                at,
            };
            self.take(fact, taken);
        }
    }

    /// A field for a challenge of ours: does it count?
    fn take(&mut self, fact: Fact, taken: &mut BTreeSet<String>) {
        let (hotkey, at, registered) = (fact.hotkey, fact.at, self.registered);
        let challenge = fact.challenge.clone();
        if !taken.insert(challenge.clone()) {
            let detail = format!("`{}` in block {}", shown(&fact.field), at.block);
            return self.refuse(&challenge, hotkey, COMMITMENT_DUPLICATE, detail);
        }
        let (field, digest) = (fact.field.clone(), fact.digest);
        self.reading.facts.push(fact);
        let Some(registration) = registered.get(&hotkey) else {
            let detail = format!("it committed in block {} and is not registered", at.block);
            return self.refuse(&challenge, hotkey, HOTKEY_UNREGISTERED, detail);
        };
        if let Err(detail) = check_age(at.block, registration) {
            return self.refuse(&challenge, hotkey, COMMITMENT_TOO_OLD, detail);
        }
        self.reading.sightings.push(Sighting { challenge, hotkey, coldkey: registration.coldkey, field, digest, at });
    }
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

    const MINER: Hotkey = Hotkey([1; 32]);
    const OWNER: Hotkey = Hotkey([2; 32]);

    fn field(challenge: &str, digit: char) -> String {
        format!("waag1:{challenge}:{}", digit.to_string().repeat(64))
    }

    /// Two challenges of our own form, one that reads plain fields, and one that reads what was revealed.
    fn forms() -> Forms {
        let pattern = || Some("v7|{repo:path}|{digest:sha256}".parse().expect("a pattern"));
        Forms::from([
            ("gym".to_owned(), Form::default()),
            ("duel".to_owned(), Form::default()),
            ("models".to_owned(), Form { source: Source::Plain, pattern: pattern() }),
            ("locked".to_owned(), Form { source: Source::Revealed, pattern: pattern() }),
        ])
    }

    #[test]
    fn foreign_payloads_are_read_by_the_pattern_of_their_challenge() {
        let text = format!("v7|a/b|sha256:{}", "c".repeat(64));
        let fields = vec![Field::Raw(vec![0xff]), Field::BigRaw(text.clone().into_bytes()), raw(&field("gym", 'a'))];
        let plain = read(fields);
        let fact = &plain.facts[0];
        assert_eq!(
            (fact.challenge.as_str(), fact.source, fact.digest),
            ("models", Source::Plain, Some(Digest([0xcc; 32])))
        );
        assert_eq!((fact.field.as_str(), fact.parts["repo"].as_str()), (text.as_str(), "a/b"));
        let challenges: Vec<_> = plain.sightings.iter().map(|one| one.challenge.as_str()).collect();
        assert_eq!(challenges, ["models", "gym"]);

        let registered = BTreeMap::from([(MINER, Registration { uid: 4, since_block: 20, coldkey: OWNER })]);
        let of = |bytes: Vec<u8>| RevealedCommitment { hotkey: MINER, block: 21, bytes };
        let with_length = of(parity_scale_codec::Encode::encode(&text));
        let as_hex = of(format!("0x{}", hex::encode(&text)).into_bytes());
        let reading = read_commitments(&[], &[with_length, of(vec![0xff, 1]), as_hex.clone()], &forms(), &registered);
        assert_eq!(reading.facts.len(), 2);
        assert_eq!(
            (reading.facts[0].field.as_str(), reading.facts[0].at),
            (text.as_str(), Priority { block: 21, index: 0 })
        );
        // Kept so that its very bytes can be had again.
        assert_eq!(reading.facts[1].field, format!("0x{}", hex::encode(&as_hex.bytes)));
        assert_eq!(reading.facts[1].digest, Some(Digest([0xcc; 32])));
        assert!(reading.facts.iter().all(|fact| fact.challenge == "locked"));
    }

    #[test]
    fn a_seal_for_a_challenge_of_another_form_is_refused() {
        let reading = read(vec![raw(&field("models", 'a'))]);
        assert_eq!(codes(&reading), ["commitment_challenge_unknown"]);
        assert_eq!(reading.facts, []);
    }

    fn read(fields: Vec<Field>) -> Reading {
        let commitment = SeenCommitment { hotkey: MINER, block: 20, extrinsic_index: 3, fields };
        let registration = Registration { uid: 4, since_block: 20, coldkey: OWNER };
        read_commitments(&[commitment], &[], &forms(), &BTreeMap::from([(MINER, registration)]))
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
            digest: None,
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
            read_commitments(&[commitment], &[], &forms(), &BTreeMap::from([(MINER, registration)]))
        };
        assert_eq!(at(20).sightings.len(), 1);
        assert_eq!(codes(&at(21)), ["commitment_before_registration"]);
        assert!(at(21).sightings.is_empty());
    }

    #[test]
    fn an_unregistered_hotkey_commits_to_nothing() {
        let commitment =
            SeenCommitment { hotkey: MINER, block: 20, extrinsic_index: 0, fields: vec![raw(&field("gym", 'a'))] };
        let reading = read_commitments(&[commitment], &[], &forms(), &BTreeMap::new());
        assert_eq!(reading.facts.len(), 1, "it stands there all the same");
        assert_eq!(codes(&reading), ["hotkey_unregistered"]);
    }

    #[test]
    fn the_prefix_is_that_of_sealed_commitments() {
        assert!(field("gym", 'a').parse::<Sealed>().expect("well formed").to_string().starts_with(PREFIX));
    }
}

//! Committing in a challenge's own form: a text in the open, or behind a time lock that the chain itself opens.
//!
//! Owns when such a commitment is made, and when it stands already. Keeps nothing on disk: what stands on chain says what
//! was done, because the same hotkey locks the same text for the same round into the same bytes. Refuses to judge parts:
//! the pattern does. The verbs `commit` and `publish` call it.

use std::{collections::BTreeMap, time::Duration};

use tracing::debug;

use super::{Committed, Step, WRITE_LOST, Watch};
use crate::{
    actors::Beacon,
    chain::{
        BlockRef, Call, Client, Error, Field, Keypair, RevealedCommitment, Sealed, SeenCommitment, Slug, merge_field,
        readings,
        timelock::{self, COMMITMENT_BYTES_MAX, commitment_plaintext},
    },
    clock::Clock,
    config::profile::{Pattern, Source},
    fault::{Class, Code, Fault},
    ids::Digest,
    intake::{Form, Forms, HOTKEY_UNREGISTERED, read_commitments},
};

/// How often a call that expired is signed anew: an era is minutes long, and a chain that stands still that often has
/// trouble that signing does not mend.
const SIGNINGS_MAX: u32 = 3;
/// How often the chain is looked at while a block becomes final, in milliseconds: a part of any block's time.
const LOOK_MS: u64 = 500;
/// Looks for a block to become final: ten minutes. A chain that finalizes nothing for so long has trouble of its own.
const LOOKS_MAX: u32 = 1_200;
/// Blocks until a lock opens, where nothing else is asked for: what the public tools of miners take.
pub const REVEAL_BLOCKS: u64 = 1;
/// What a lock's randomness is derived for.
const LOCK_PURPOSE: &[u8] = b"commitment lock";

/// What was given does not make a commitment of the challenge's form.
pub const PARTS_WRONG: Code = Code::new(
    Class::Operator,
    "commitment_parts_wrong",
    "what was given does not make a commitment of the challenge's form",
    "`waag profile show` prints the `pattern`; give its parts with `--repo`, `--digest` and `--part NAME=VALUE`",
);
/// The chain would not open the lock.
pub const LOCK_UNUSABLE: Code = Code::new(
    Class::Operator,
    "commitment_not_lockable",
    "the commitment cannot be locked so that the chain opens it",
    "set `network.beacon` to the beacon that the chain uses; a text that is too long needs shorter parts",
);

/// What to commit to, in the challenge's own words.
#[derive(Clone, Copy)]
pub struct Foreign<'a> {
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: &'a Slug,
    /// Who commits, and signs.
    pub hotkey: &'a Keypair,
    /// Where the text is to stand.
    pub source: Source,
    /// The challenge's pattern, by which fields that are replaced are known.
    pub pattern: &'a Pattern,
    /// The text.
    pub payload: &'a str,
    /// The beacon for which it is locked, where it is.
    pub beacon: Beacon,
    /// In how many blocks the lock opens.
    pub reveal_blocks: u64,
    /// Whether to commit anew although the same text stands.
    pub again: bool,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the open, since this block.
    Plain(u64),
    /// Locked, since this block, until this round.
    Locked(u64, u64),
    /// Opened by the chain in this block.
    Opened(u64),
}

impl Standing {
    /// The block that it is of.
    #[must_use]
    pub const fn block(self) -> u64 {
        match self {
            Self::Plain(block) | Self::Locked(block, _) | Self::Opened(block) => block,
        }
    }

    const fn round(self) -> Option<u64> {
        match self {
            Self::Locked(_, round) => Some(round),
            Self::Plain(_) | Self::Opened(_) => None,
        }
    }
}

/// The text of a commitment, of these parts. Its own reader must take it for one of this challenge.
///
/// # Errors
/// `commitment_parts_wrong`.
pub fn payload_of(
    challenge: &Slug,
    source: Source,
    pattern: &Pattern,
    parts: &BTreeMap<String, String>,
) -> Result<String, Fault> {
    let wrong = |why: &dyn std::fmt::Display| PARTS_WRONG.because(format!("`{}`: {why}", pattern.as_str()));
    let payload = pattern.write(parts).map_err(|source| wrong(&source))?;
    let form = Form { source, pattern: Some(pattern.clone()) };
    let forms = Forms::from([(challenge.to_string(), form)]);
    let hotkey = crate::ids::Hotkey([0; 32]);
    let reading = if source == Source::Revealed {
        let bytes = commitment_plaintext(payload.as_bytes());
        read_commitments(&[], &[RevealedCommitment { hotkey, block: 0, bytes }], &forms, &BTreeMap::new())
    } else {
        let fields = vec![Field::text(&payload).map_err(|source| wrong(&source))?];
        let seen = SeenCommitment { hotkey, block: 0, extrinsic_index: 0, fields };
        read_commitments(&[seen], &[], &forms, &BTreeMap::new())
    };
    if reading.facts.iter().any(|fact| fact.parts == *parts) {
        return Ok(payload);
    }
    Err(wrong(&"the text would be taken for another kind of commitment"))
}

impl Foreign<'_> {
    /// Where the text stands at a block; an older one than the hotkey's registration does not count.
    ///
    /// # Errors
    /// `hotkey_unregistered`, or when the chain cannot be read.
    pub async fn standing(&self, client: &Client, at: &BlockRef) -> Result<Option<Standing>, Fault> {
        let account = self.hotkey.account();
        let metagraph = client.metagraph(self.netuid, at.hash).await.map_err(|error| error.fault())?;
        let Some(neuron) = metagraph.neuron(&account) else {
            let detail = format!("{account} has no place in subnet {} at block {}", self.netuid, at.number);
            return Err(HOTKEY_UNREGISTERED.because(detail));
        };
        let found = self.found(client, at).await?;
        Ok(found.into_iter().find(|standing| standing.block() >= neuron.registered_at))
    }

    /// Every place where the text stands.
    async fn found(&self, client: &Client, at: &BlockRef) -> Result<Vec<Standing>, Fault> {
        let account = self.hotkey.account();
        let read = async {
            let stored = client.commitment_of(self.netuid, &account, at.hash).await?;
            let opened = match self.source {
                Source::Revealed => client.revealed_of(self.netuid, &account, at.hash).await?,
                Source::Sealed | Source::Plain => Vec::new(),
            };
            Ok((stored, opened))
        };
        let (stored, opened) = read.await.map_err(|error: Error| error.fault())?;
        let beacon = self.beacon_at(client, at).await?;
        let is_ours = |payload: &[u8]| payload == self.payload.as_bytes();
        let mut found: Vec<Standing> = opened
            .iter()
            .filter(|revealed| is_ours(revealed.payload()))
            .map(|revealed| Standing::Opened(revealed.block))
            .collect();
        for (field, block) in stored.iter().flat_map(|stored| stored.fields.iter().map(|field| (field, stored.block))) {
            match (self.source, field) {
                (Source::Plain, Field::Raw(bytes) | Field::BigRaw(bytes)) if is_ours(bytes) => {
                    found.push(Standing::Plain(block));
                }
                (Source::Revealed, Field::TimelockEncrypted { reveal_round, .. })
                    if *field == self.locked(client, &beacon, *reveal_round)? =>
                {
                    found.push(Standing::Locked(block, *reveal_round));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The beacon that opens what is locked: the chain's own, which must be the one that is meant.
    async fn beacon_at(&self, client: &Client, at: &BlockRef) -> Result<timelock::Beacon, Fault> {
        let quicknet = timelock::Beacon::quicknet();
        if self.source != Source::Revealed {
            return Ok(quicknet);
        }
        let of_chain = client.beacon(at.hash).await.map_err(|error| error.fault())?;
        if self.beacon == Beacon::Quicknet && of_chain != quicknet {
            return Err(LOCK_UNUSABLE.because("the chain opens locks of another beacon than drand's quicknet"));
        }
        Ok(of_chain)
    }

    /// The text locked until a round.
    fn locked(&self, client: &Client, beacon: &timelock::Beacon, round: u64) -> Result<Field, Fault> {
        let unusable = |why: String| LOCK_UNUSABLE.because(why);
        let purpose = [
            LOCK_PURPOSE,
            &client.genesis_hash(),
            &self.netuid.to_le_bytes(),
            beacon.key(),
            &round.to_le_bytes(),
            self.payload.as_bytes(),
        ]
        .concat();
        let plaintext = commitment_plaintext(self.payload.as_bytes());
        // Of one use: another chain, subnet, beacon, round or text has other randomness.
        let encrypted = beacon.seal(round, &plaintext, self.hotkey.derive(&purpose));
        let encrypted = encrypted.map_err(|source| unusable(source.to_string()))?;
        if encrypted.len() > COMMITMENT_BYTES_MAX {
            return Err(unusable(format!("{} bytes locked, at most {COMMITMENT_BYTES_MAX}", encrypted.len())));
        }
        Ok(Field::TimelockEncrypted { encrypted, reveal_round: round })
    }

    /// The field that is written in the next block, and the round that opens it.
    ///
    /// # Errors
    /// When the text is too long, the beacon is another, or the chain cannot be read.
    pub async fn field(
        &self,
        client: &Client,
        clock: &dyn Clock,
        at: &BlockRef,
    ) -> Result<(Field, Option<u64>), Fault> {
        if self.source != Source::Revealed {
            let field = Field::text(self.payload).map_err(|source| PARTS_WRONG.because(source.to_string()))?;
            return Ok((field, None));
        }
        let beacon = self.beacon_at(client, at).await?;
        let times = match self.beacon {
            Beacon::Chain => client.pace_ms(at).await,
            Beacon::Quicknet => {
                let now_ms = u64::try_from(clock.now_ms()).unwrap_or_default();
                client.slot_ms(at.hash).await.map(|slot_ms| (now_ms, slot_ms))
            }
        };
        let (now_ms, block_ms) = times.map_err(|error| error.fault())?;
        let round = beacon.round_for_commitment(now_ms, self.reveal_blocks, block_ms);
        Ok((self.locked(client, &beacon, round)?, Some(round)))
    }

    /// Whether the new field takes the place of this one: what was committed for the same challenge before.
    fn replaces(&self, field: &Field, new: &Field) -> bool {
        let is_plain = self.source == Source::Plain && Sealed::from_field(field).is_none();
        match field {
            Field::Raw(bytes) | Field::BigRaw(bytes) if is_plain => {
                readings(bytes).iter().any(|text| self.pattern.read(text).is_some())
            }
            other => other == new,
        }
    }

    pub(super) async fn sign(
        &self,
        client: &Client,
        clock: &dyn Clock,
        head: &BlockRef,
    ) -> Result<(crate::chain::Signed, Option<u64>), Fault> {
        let stored = client.commitment_of(self.netuid, &self.hotkey.account(), head.hash).await;
        let existing = stored.map_err(|error| error.fault())?.map(|stored| stored.fields).unwrap_or_default();
        let (new, round) = self.field(client, clock, head).await?;
        let fields =
            merge_field(&existing, &new, &|field| self.replaces(field, &new)).map_err(|error| error.fault())?;
        let call = Call::SetCommitment { netuid: self.netuid, fields };
        let signed = client.sign(self.hotkey, call, None).await.map_err(|error| error.fault())?;
        Ok((signed, round))
    }

    fn committed(&self, digest: Digest, standing: Standing, again: bool) -> Committed {
        Committed {
            netuid: self.netuid,
            challenge: self.challenge.to_string(),
            hotkey: self.hotkey.account(),
            artifact: digest,
            field: self.payload.to_owned(),
            block: standing.block(),
            again,
            salt_file: None,
            opens_round: standing.round(),
        }
    }
}

/// Commits in the challenge's own form and waits until that is final. Fields of other challenges are kept. A text that
/// stands there already, or is on its way, is not committed again.
///
/// # Errors
/// When the hotkey is not registered, the text cannot be locked, or the chain refuses or cannot be reached.
pub async fn commit_foreign(
    client: &Client,
    what: &Foreign<'_>,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Committed, Fault> {
    let taken = what.pattern.read(what.payload);
    let digest = taken.map(|taken| taken.digest).ok_or_else(|| PARTS_WRONG.because(what.payload.to_owned()))?;
    let mut signings = 0;
    loop {
        // Not before what this hotkey has sent is in a block, so that an interrupted commitment is found there.
        let head = client.settled_head(&what.hotkey.account()).await.map_err(|error| error.fault())?;
        let standing = if what.again { None } else { what.standing(client, &head).await? };
        if let Some(standing) = standing {
            if let Some(standing) = until_final(client, what, standing, clock).await? {
                watch(&Step::Already { what: format!("committed in block {}", standing.block()) });
                return Ok(what.committed(digest, standing, true));
            }
            continue;
        }
        signings += 1;
        let (signed, round) = what.sign(client, clock, &head).await?;
        watch(&Step::Sent { extrinsic: signed.hash });
        match client.submit_and_wait(&signed).await {
            Ok(block) => {
                watch(&Step::Final { block: block.number });
                if what.standing(client, &block).await?.is_none() {
                    return Err(WRITE_LOST.because(format!("block {} does not hold the commitment", block.number)));
                }
                let standing =
                    round.map_or(Standing::Plain(block.number), |round| Standing::Locked(block.number, round));
                return Ok(what.committed(digest, standing, false));
            }
            Err(Error::Expired { .. }) if signings < SIGNINGS_MAX => debug!(signings, "the call expired; signing anew"),
            Err(error) => return Err(error.fault()),
        }
    }
}

/// Waits until the block of what stands is final. `None` when it is gone by then: the block was replaced.
async fn until_final(
    client: &Client,
    what: &Foreign<'_>,
    standing: Standing,
    clock: &dyn Clock,
) -> Result<Option<Standing>, Fault> {
    for _look in 0..LOOKS_MAX {
        let head = client.finalized_head().await.map_err(|error| error.fault())?;
        if head.number >= standing.block() {
            return what.standing(client, &head).await;
        }
        clock.sleep(Duration::from_millis(LOOK_MS)).await;
    }
    Err(Error::Timeout { method: "finality".to_owned(), after_ms: LOOK_MS * u64::from(LOOKS_MAX) }.fault())
}

/// Waits until the chain has opened the lock of this text, at most until the deadline. Answers the block.
///
/// # Errors
/// When the chain cannot be read.
pub async fn until_opened(
    client: &Client,
    what: &Foreign<'_>,
    deadline_ms: crate::clock::UnixMs,
    clock: &dyn Clock,
) -> Result<Option<u64>, Fault> {
    loop {
        let head = client.finalized_head().await.map_err(|error| error.fault())?;
        if let Some(Standing::Opened(block)) = what.standing(client, &head).await? {
            return Ok(Some(block));
        }
        if clock.now_ms() >= deadline_ms {
            return Ok(None);
        }
        clock.sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

//! Payments: what one extrinsic of the finalized chain paid, to whom, and on whose behalf.
//!
//! Owns how a payment is named and what is read of it. Refuses to know prices: `intake` compares. Everything is read at
//! the payment's own block, which must be final and on the one chain there is.

use std::{fmt, str::FromStr};

use scale_decode::DecodeAsType;
use serde::{Deserialize, Serialize};
use subxt::events::Phase;

use super::{
    Account,
    client::{BlockRef, Client, blake2_256},
    error::Error,
    runtime::{Item, Runtime},
    sign::Outcome,
};
use crate::ids::{Digest, Hotkey};

/// Characters of the longest name of a payment: two hashes with their marks and a colon.
const NAME_CHARS: usize = 2 + 64 + 1 + 2 + 64;
/// What may stand before hexadecimal digits.
const HEX_MARK: &str = "0x";
/// The version byte of a signed extrinsic.
const SIGNED_V4: u8 = 0x84;
/// The byte before an account that is named by its key.
const ADDRESS_ID: u8 = 0;

/// A block, by its number or its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockName {
    /// By its number.
    Number(u64),
    /// By its hash.
    Hash(Digest),
}

/// Where a payment stands: the block and the hash of its extrinsic. Written `BLOCK:HASH`; every spelling of the same
/// payment is read as the same, and written in one way: lower case, the extrinsic without `0x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PaymentName {
    /// The block that holds it.
    pub block: BlockName,
    /// The extrinsic's hash.
    pub extrinsic: Digest,
}

/// A text that names no payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a payment is named by BLOCK:HASH, the block's number or hash and the extrinsic's hash in hex")]
pub struct NotAPayment;

fn hash_of(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix(HEX_MARK).or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).ok().map(|()| Digest(bytes))
}

impl FromStr for PaymentName {
    type Err = NotAPayment;

    fn from_str(text: &str) -> Result<Self, NotAPayment> {
        if text.len() > NAME_CHARS {
            return Err(NotAPayment);
        }
        let (block, extrinsic) = text.split_once(':').ok_or(NotAPayment)?;
        let is_number = !block.is_empty() && block.bytes().all(|byte| byte.is_ascii_digit());
        let block = match block.parse() {
            // A hash may be made of decimal digits alone; no block has a number of 64 of them.
            Ok(number) if is_number => BlockName::Number(number),
            _ => BlockName::Hash(hash_of(block).ok_or(NotAPayment)?),
        };
        Ok(Self { block, extrinsic: hash_of(extrinsic).ok_or(NotAPayment)? })
    }
}

impl fmt::Display for PaymentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            BlockName::Number(number) => write!(f, "{number}:{}", self.extrinsic),
            BlockName::Hash(hash) => write!(f, "{HEX_MARK}{hash}:{}", self.extrinsic),
        }
    }
}

impl TryFrom<String> for PaymentName {
    type Error = NotAPayment;

    fn try_from(text: String) -> Result<Self, NotAPayment> {
        text.parse()
    }
}

impl From<PaymentName> for String {
    fn from(name: PaymentName) -> Self {
        name.to_string()
    }
}

/// One transfer of funds, as the chain reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Who paid.
    pub from: Account,
    /// Who was paid.
    pub to: Account,
    /// How much, in rao.
    pub amount_rao: u64,
}

/// What an extrinsic did that is said to be a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its block, final and on the one chain.
    pub block: BlockRef,
    /// Its place there.
    pub index: u32,
    /// Who signed it; `None` for what nobody signs.
    pub signer: Option<Account>,
    /// Whether it succeeded.
    pub outcome: Outcome,
    /// The coldkey that owned the hotkey at that block.
    pub owner: Option<Account>,
    /// Its own transfers, and nobody else's in that block.
    pub transfers: Vec<Transfer>,
}

/// What was found where a payment is said to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// The extrinsic, with what it did.
    Found(Receipt),
    /// The block is not final yet.
    NotFinal {
        /// Its number.
        block: u64,
        /// The newest final block.
        finalized: u64,
    },
    /// A block with that hash is known, and another one stands at its height.
    NotCanonical {
        /// Its number.
        block: u64,
        /// What stands there.
        canonical: Option<Digest>,
    },
    /// No block with that hash is known.
    NoBlock,
    /// The block is older than was asked for; nothing in it was read.
    Old {
        /// Its number.
        block: u64,
        /// The newest final block.
        finalized: u64,
    },
    /// The block holds no extrinsic with that hash.
    NoExtrinsic {
        /// Its number.
        block: u64,
    },
}

#[derive(DecodeAsType)]
struct TransferEvent {
    from: [u8; 32],
    to: [u8; 32],
    amount: u64,
}

impl Client {
    /// Looks at a payment on behalf of a hotkey. Blocks more than `within_blocks` before the newest final one are not
    /// read.
    ///
    /// # Errors
    /// When the chain cannot be read, or the node has discarded the block's state.
    pub async fn trace_payment(
        &self,
        payment: &PaymentName,
        hotkey: &Account,
        within_blocks: u64,
    ) -> Result<Traced, Error> {
        let finalized = self.finalized_head().await?.number;
        let block = match self.placed(payment.block, finalized).await? {
            Ok(block) => block,
            Err(elsewhere) => return Ok(elsewhere),
        };
        if block.number.saturating_add(within_blocks) < finalized {
            return Ok(Traced::Old { block: block.number, finalized });
        }
        let body = self.body(block.hash).await?;
        let place = body.iter().position(|bytes| blake2_256(bytes) == payment.extrinsic);
        let Some((place, index)) = place.and_then(|place| Some((place, u32::try_from(place).ok()?))) else {
            return Ok(Traced::NoExtrinsic { block: block.number });
        };
        let events = self.events_of(&block).await?;
        let outcome = events.runtime.outcome(events.bytes.clone(), index)?;
        let transfers = transfers_of(&events.runtime, events.bytes, index)?;
        let owner: Option<[u8; 32]> = self.stored(Item::subnet("Owner"), (hotkey.0,), block.hash).await?;
        let signer = signer_of(&body[place]);
        Ok(Traced::Found(Receipt { block, index, signer, outcome, owner: owner.map(Hotkey), transfers }))
    }

    /// The block on the finalized chain, or what is there instead.
    async fn placed(&self, name: BlockName, finalized: u64) -> Result<Result<BlockRef, Traced>, Error> {
        let hash = match name {
            BlockName::Number(number) if number > finalized => {
                return Ok(Err(Traced::NotFinal { block: number, finalized }));
            }
            BlockName::Number(number) => self.block_hash(number).await?,
            BlockName::Hash(hash) => Some(hash),
        };
        // A final block that a node does not know: it lags, and says nothing about the payment.
        let hash = hash.ok_or_else(|| Error::UnknownBlock { block: format!("{name:?}") })?;
        let block = match self.block(hash).await {
            Ok(block) => block,
            Err(Error::UnknownBlock { .. }) if matches!(name, BlockName::Hash(_)) => return Ok(Err(Traced::NoBlock)),
            Err(error) => return Err(error),
        };
        let canonical = self.block_hash(block.number).await?;
        if canonical.is_some_and(|canonical| canonical != hash) {
            return Ok(Err(Traced::NotCanonical { block: block.number, canonical }));
        }
        if block.number > finalized {
            return Ok(Err(Traced::NotFinal { block: block.number, finalized }));
        }
        // Final, so that the number has a hash on every node that is as far.
        Ok(if canonical.is_some() { Ok(block) } else { Err(Traced::NotCanonical { block: block.number, canonical }) })
    }
}

/// The transfers that one extrinsic of a block made, from the block's events.
fn transfers_of(runtime: &Runtime, events: Vec<u8>, index: u32) -> Result<Vec<Transfer>, Error> {
    let mut transfers = Vec::new();
    for event in runtime.events(events).iter() {
        let event = event.map_err(|source| Error::answer("the events of a block", source))?;
        let is_transfer = event.pallet_name() == "Balances" && event.event_name() == "Transfer";
        if event.phase() != Phase::ApplyExtrinsic(index) || !is_transfer {
            continue;
        }
        let TransferEvent { from, to, amount } = runtime.event_fields(&event)?;
        transfers.push(Transfer { from: Hotkey(from), to: Hotkey(to), amount_rao: amount });
    }
    Ok(transfers)
}

/// Who signed an extrinsic, from its bytes with their length prefix.
fn signer_of(bytes: &[u8]) -> Option<Account> {
    let mut rest = bytes;
    let _length = <parity_scale_codec::Compact<u32> as parity_scale_codec::Decode>::decode(&mut rest).ok()?;
    let rest = rest.strip_prefix(&[SIGNED_V4, ADDRESS_ID])?;
    rest.first_chunk::<32>().map(|account| Hotkey(*account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_payment_is_the_same_payment() {
        let (hash, block) = ("aB".repeat(32), "0f".repeat(32));
        let number: PaymentName = format!("17:{hash}").parse().unwrap();
        assert_eq!(number.block, BlockName::Number(17));
        assert_eq!(number.to_string(), format!("17:{}", hash.to_lowercase()));
        for spelling in [format!("17:0x{hash}"), format!("017:0X{}", hash.to_uppercase()), number.to_string()] {
            assert_eq!(spelling.parse(), Ok(number), "{spelling}");
        }
        let by_hash: PaymentName = format!("0x{block}:{hash}").parse().unwrap();
        assert_eq!(by_hash.to_string(), format!("0x{block}:{}", hash.to_lowercase()));
        assert_eq!(by_hash.to_string().len(), NAME_CHARS - 2);
        // 64 decimal digits are a hash.
        let digits = "1".repeat(64);
        assert!(matches!(format!("{digits}:{hash}").parse(), Ok(PaymentName { block: BlockName::Hash(_), .. })));
        for wrong in
            ["", ":", "17", "17:", "-1:00", "17:00", &format!("x:{hash}"), &format!("17:{hash}:"), &"1".repeat(1 << 20)]
        {
            assert_eq!(wrong.parse::<PaymentName>(), Err(NotAPayment), "{wrong:.80}");
        }
    }

    #[test]
    fn only_a_signed_extrinsic_has_a_signer() {
        let signed = [&[4 * 42][..], &[SIGNED_V4, ADDRESS_ID], &[7; 40]].concat();
        assert_eq!(signer_of(&signed), Some(Hotkey([7; 32])));
        for bytes in [&[][..], &[4], &[8, 5, 0], &[4 * 3, 0x84, 0, 1], &[8, 0x84, 1]] {
            assert_eq!(signer_of(bytes), None, "{bytes:?}");
        }
    }
}

//! Payments for uploads: is this what the challenge asks for?
//!
//! The chain was read before; here nothing is but the comparison, each failure with what was measured.

use super::{
    codes::{
        PAYMENT_ELSEWHERE, PAYMENT_FAILED, PAYMENT_MISSING, PAYMENT_NOT_CANONICAL, PAYMENT_NOT_FINAL,
        PAYMENT_NOT_FOUND, PAYMENT_OLD, PAYMENT_SIGNER, PAYMENT_SMALL, PAYMENT_USED,
    },
    upload::Refused,
};
use crate::{
    chain::{Outcome, PaymentName, Receipt, Traced},
    ids::{Hotkey, SubmissionId},
};

/// What an upload costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fee {
    /// The amount in rao, at least.
    pub rao: u64,
    /// Who is paid.
    pub to: Hotkey,
    /// How many blocks ago it may have been paid.
    pub within_blocks: u64,
}

/// A payment that was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// Where it stands.
    pub name: PaymentName,
    /// Its block.
    pub block: u64,
    /// How much, in rao.
    pub amount_rao: u64,
}

/// The refusal of an upload that names no payment.
#[must_use]
pub fn payment_missing(fee: &Fee) -> Refused {
    Refused::new(PAYMENT_MISSING, 402, format!("{} rao to {}", fee.rao, fee.to))
}

/// The refusal of a payment that another submission was paid with.
#[must_use]
pub fn payment_used(by: SubmissionId) -> Refused {
    Refused::new(PAYMENT_USED, 409, format!("submission {by} was paid with it"))
}

/// Whether what was found pays the fee of an upload by this hotkey.
///
/// # Errors
/// 402 when it does not, 409 with a time to come again while its block is not final.
pub fn check_payment(
    fee: &Fee,
    hotkey: &Hotkey,
    name: &PaymentName,
    traced: &Traced,
    retry_after_s: u64,
) -> Result<Paid, Refused> {
    let refuse = |code, detail: String| Err(Refused::new(code, 402, detail));
    let receipt: &Receipt = match traced {
        Traced::Found(receipt) => receipt,
        Traced::NotFinal { block, finalized } => {
            let detail = format!("block {block}; the newest final one is {finalized}");
            return Err(Refused::new(PAYMENT_NOT_FINAL, 409, detail).after(retry_after_s));
        }
        Traced::NotCanonical { block, canonical } => {
            let there = canonical.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
            return refuse(PAYMENT_NOT_CANONICAL, format!("at height {block} stands {there}"));
        }
        Traced::NoBlock => return refuse(PAYMENT_NOT_FOUND, format!("{name}: no such block")),
        Traced::NoExtrinsic { block } => {
            return refuse(PAYMENT_NOT_FOUND, format!("block {block} has no extrinsic {}", name.extrinsic));
        }
        Traced::Old { block, finalized } => {
            let (age, within) = (finalized.saturating_sub(*block), fee.within_blocks);
            return refuse(PAYMENT_OLD, format!("block {block} is {age} blocks old, of {within}"));
        }
    };
    if let Outcome::Failed { name } = &receipt.outcome {
        return refuse(PAYMENT_FAILED, format!("{name} in block {}", receipt.block.number));
    }
    let word = |account: Option<Hotkey>| account.map_or_else(|| "nobody".to_owned(), |account| account.to_string());
    let (Some(owner), true) = (receipt.owner, receipt.signer == receipt.owner) else {
        let (signer, owner) = (word(receipt.signer), word(receipt.owner));
        return refuse(PAYMENT_SIGNER, format!("signed by {signer}; {hotkey} is owned by {owner}"));
    };
    let counted = receipt.transfers.iter().filter(|transfer| transfer.from == owner && transfer.to == fee.to);
    let amounts: Vec<u64> = counted.map(|transfer| transfer.amount_rao).collect();
    let transfers = receipt.transfers.len();
    if amounts.is_empty() {
        return refuse(PAYMENT_ELSEWHERE, format!("none of its {transfers} transfers goes from {owner} to {}", fee.to));
    }
    let amount_rao = amounts.iter().fold(0_u64, |sum, amount| sum.saturating_add(*amount));
    if amount_rao < fee.rao {
        return refuse(PAYMENT_SMALL, format!("{amount_rao} rao, of {}", fee.rao));
    }
    Ok(Paid { name: *name, block: receipt.block.number, amount_rao })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{BlockRef, Transfer},
        fault::Class,
        ids::Digest,
    };

    const MINER: Hotkey = Hotkey([1; 32]);
    const OWNER: Hotkey = Hotkey([2; 32]);
    const TREASURY: Hotkey = Hotkey([3; 32]);
    const OTHER: Hotkey = Hotkey([4; 32]);
    const FEE: Fee = Fee { rao: 100, to: TREASURY, within_blocks: 10 };

    fn receipt() -> Receipt {
        Receipt {
            block: BlockRef { number: 50, hash: Digest([5; 32]), parent: Digest([6; 32]) },
            index: 2,
            signer: Some(OWNER),
            outcome: Outcome::Ok,
            owner: Some(OWNER),
            transfers: vec![Transfer { from: OWNER, to: TREASURY, amount_rao: 100 }],
        }
    }

    fn check(traced: Traced) -> Result<u64, (String, u16, Class)> {
        let name: PaymentName = format!("50:{}", "aa".repeat(32)).parse().expect("a name");
        let checked = check_payment(&FEE, &MINER, &name, &traced, 12);
        checked.map(|paid| paid.amount_rao).map_err(|refused| {
            assert!(!refused.fault.detail.is_empty());
            (refused.fault.code, refused.status, refused.fault.class)
        })
    }

    fn refused(code: &str) -> Result<u64, (String, u16, Class)> {
        Err((code.to_owned(), 402, Class::Miner))
    }

    #[test]
    fn exactly_the_fee_is_enough() {
        assert_eq!(check(Traced::Found(receipt())), Ok(100));
        let halves = |half| Receipt {
            transfers: vec![Transfer { from: OWNER, to: TREASURY, amount_rao: half }; 2],
            ..receipt()
        };
        assert_eq!(check(Traced::Found(halves(50))), Ok(100));
        assert_eq!(check(Traced::Found(halves(49))), refused("payment_too_small"));
        assert_eq!(check(Traced::Found(halves(u64::MAX))), Ok(u64::MAX));
    }

    #[test]
    fn every_failure_has_a_code_of_its_own() {
        let failed = Receipt { outcome: Outcome::Failed { name: "FundsUnavailable".into() }, ..receipt() };
        assert_eq!(check(Traced::Found(failed)), refused("payment_failed"));
        for (signer, owner) in [(Some(OTHER), Some(OWNER)), (None, Some(OWNER)), (Some(OWNER), None), (None, None)] {
            let foreign = Receipt { signer, owner, ..receipt() };
            assert_eq!(check(Traced::Found(foreign)), refused("payment_signer"));
        }
        for (from, to) in [(OTHER, TREASURY), (OWNER, OTHER), (TREASURY, OWNER)] {
            let transfers = vec![Transfer { from, to, amount_rao: 1_000 }];
            assert_eq!(check(Traced::Found(Receipt { transfers, ..receipt() })), refused("payment_elsewhere"));
        }
        assert_eq!(check(Traced::Found(Receipt { transfers: vec![], ..receipt() })), refused("payment_elsewhere"));
        assert_eq!(check(Traced::NoBlock), refused("payment_not_found"));
        assert_eq!(check(Traced::NoExtrinsic { block: 50 }), refused("payment_not_found"));
        assert_eq!(check(Traced::NotCanonical { block: 50, canonical: None }), refused("payment_not_canonical"));
        assert_eq!(check(Traced::Old { block: 50, finalized: 61 }), refused("payment_too_old"));
        let early = check(Traced::NotFinal { block: 50, finalized: 49 });
        assert_eq!(early, Err(("payment_not_final".to_owned(), 409, Class::Miner)));
        assert_eq!((payment_missing(&FEE).status, payment_used(SubmissionId(7)).status), (402, 409));
    }
}

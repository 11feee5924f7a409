//! Payments: which submission each one paid for.
//!
//! Owns the table in which a payment stands once, under the hash of its extrinsic, whatever spelling it was named by.
//! Refuses to look at the chain: the door has found the payment good. The door reserves before it reads an upload;
//! admission binds in the transaction that takes the upload in.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Error, Pipeline};
use crate::{
    ids::{Digest, Hotkey, SubmissionId},
    store::events,
};

/// A payment for a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The hash of its extrinsic.
    pub extrinsic: Digest,
    /// The challenge's slug.
    pub challenge: String,
    /// For whom it was paid.
    pub hotkey: Hotkey,
    /// For what.
    pub submission: SubmissionId,
    /// Its block.
    pub block: u64,
    /// How much, in rao.
    pub amount_rao: u64,
}

impl Pipeline {
    /// Reserves a payment for its submission, in one step. Answers whose it is: its own submission's, also when that had
    /// it before, or another's, which was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reserve_payment(&self, payment: Payment) -> Result<SubmissionId, Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("reserve payment", move |tx| {
                put(tx, now_ms, &payment, "reserved")?;
                owner_of(tx, &payment.extrinsic)
            })
            .await
    }

    /// Gives a reserved payment back, because an upload failed and not by its sender's mistake. A bound one stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release_payment(&self, extrinsic: Digest, submission: SubmissionId) -> Result<(), Error> {
        self.store()
            .db()
            .write("release payment", move |tx| {
                tx.prepare_cached(
                    "DELETE FROM payments WHERE extrinsic = ?1 AND submission = ?2 AND state = 'reserved'",
                )?
                .execute(params![extrinsic.to_string(), submission.0])?;
                Ok(())
            })
            .await
    }

    /// The payment of a submission, reserved or bound.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn payment_of(&self, submission: SubmissionId) -> Result<Option<Payment>, Error> {
        self.store()
            .db()
            .read(move |conn| {
                let sql = "SELECT extrinsic, challenge, hotkey, block, amount_rao FROM payments WHERE submission = ?1
                           ORDER BY state, extrinsic LIMIT 1";
                let row: Option<(String, String, String, u64, u64)> = conn
                    .prepare_cached(sql)?
                    .query_row([submission.0], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                    })
                    .optional()?;
                row.map(|(extrinsic, challenge, hotkey, block, amount_rao)| {
                    let extrinsic = super::submissions::parsed("extrinsic", extrinsic)?;
                    let hotkey = super::submissions::parsed("hotkey", hotkey)?;
                    Ok(Payment { extrinsic, challenge, hotkey, submission, block, amount_rao })
                })
                .transpose()
            })
            .await
    }
}

/// Puts a payment there unless it is there, whoever's it is.
fn put(tx: &Transaction<'_>, now_ms: i64, payment: &Payment, state: &str) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO payments (extrinsic, challenge, hotkey, submission, block, amount_rao, state, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (extrinsic) DO NOTHING",
    )?
    .execute(params![
        payment.extrinsic.to_string(),
        payment.challenge,
        payment.hotkey.to_string(),
        payment.submission.0,
        payment.block,
        payment.amount_rao,
        state,
        now_ms
    ])?;
    Ok(())
}

fn owner_of(conn: &Connection, extrinsic: &Digest) -> Result<SubmissionId, Error> {
    let owner = conn
        .prepare_cached("SELECT submission FROM payments WHERE extrinsic = ?1")?
        .query_row([extrinsic.to_string()], |row| row.get(0))?;
    Ok(SubmissionId(owner))
}

/// Binds the payment to its submission for good. That it was reserved is not relied on: a second upload that failed at
/// the same time may have given it back.
///
/// # Errors
/// `PaymentUsed` when it is another submission's.
pub(super) fn bind(tx: &Transaction<'_>, now_ms: i64, payment: &Payment) -> Result<(), Error> {
    put(tx, now_ms, payment, "bound")?;
    let owner = owner_of(tx, &payment.extrinsic)?;
    if owner != payment.submission {
        return Err(Error::PaymentUsed { by: owner });
    }
    tx.prepare_cached("UPDATE payments SET state = 'bound' WHERE extrinsic = ?1")?
        .execute([payment.extrinsic.to_string()])?;
    let data = serde_json::json!({
        "extrinsic": payment.extrinsic, "block": payment.block, "amount_rao": payment.amount_rao,
    });
    events::append(tx, now_ms, "paid", &payment.submission.to_string(), &data)?;
    Ok(())
}

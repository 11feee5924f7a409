//! The outbox: what must leave the process, written in the transaction that decided it.
//!
//! Owns the rows, their idempotency keys and when each is tried again. Refuses to know how anything is sent. For a
//! chain write the payload is the signed extrinsic itself, so that a restart sends the same bytes.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Error, Pipeline};
use crate::clock::UnixMs;

/// One thing that must leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its row.
    pub id: i64,
    /// What it is.
    pub kind: String,
    /// The exact bytes.
    pub payload: Vec<u8>,
    /// The row it acts for.
    pub subject: Option<i64>,
    /// Whether it was handed over at least once.
    pub sent: bool,
    /// How often it was tried.
    pub tries: u32,
}

/// Puts a letter into the outbox. A key that is there already changes nothing.
pub(super) fn post(
    tx: &Transaction<'_>,
    now_ms: UnixMs,
    kind: &str,
    key: &str,
    payload: &[u8],
    subject: Option<i64>,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO outbox (kind, key, payload, subject, state, created_ms) VALUES (?1, ?2, ?3, ?4, 'unsent', ?5)
         ON CONFLICT (key) DO NOTHING",
    )?
    .execute(params![kind, key, payload, subject, now_ms])?;
    Ok(())
}

impl Pipeline {
    /// The oldest letter of this kind that is not at its end, whether or not it is due.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_letter(&self, kind: &'static str) -> Result<Option<Letter>, Error> {
        self.store()
            .db()
            .read(move |conn| {
                Ok(conn
                    .prepare_cached(
                        "SELECT id, kind, payload, subject, state, tries FROM outbox
                         WHERE kind = ?1 AND state IN ('unsent', 'sent') ORDER BY id LIMIT 1",
                    )?
                    .query_row([kind], |row| {
                        Ok(Letter {
                            id: row.get(0)?,
                            kind: row.get(1)?,
                            payload: row.get(2)?,
                            subject: row.get(3)?,
                            sent: row.get::<_, String>(4)? == "sent",
                            tries: row.get(5)?,
                        })
                    })
                    .optional()?)
            })
            .await
    }

    /// Records that a letter was handed over (again).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn letter_sent(&self, letter: i64) -> Result<(), Error> {
        self.store()
            .db()
            .write("letter sent", move |tx| {
                tx.execute(
                    "UPDATE outbox SET state = 'sent', tries = tries + 1 WHERE id = ?1 AND state IN ('unsent', 'sent')",
                    [letter],
                )?;
                Ok(())
            })
            .await
    }

    /// Records that a letter had its effect (`done`) or never will (`dead`).
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn end_letter(
        tx: &Transaction<'_>,
        now_ms: UnixMs,
        letter: i64,
        done: bool,
        detail: &str,
    ) -> Result<(), Error> {
        tx.execute(
            "UPDATE outbox SET state = ?1, detail = ?2, ended_ms = ?3 WHERE id = ?4 AND state IN ('unsent', 'sent')",
            params![if done { "done" } else { "dead" }, detail, now_ms, letter],
        )?;
        Ok(())
    }
}

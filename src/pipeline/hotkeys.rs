//! Hotkeys that are done with: in a challenge that says so, one evaluated submission is all that a hotkey has.
//!
//! Owns the list, with how each came onto it, and the swaps by which a hotkey hands its past to another. Refuses to
//! judge a submission. The life of a submission writes here in the transaction that finishes it; admission asks.
//!
//! Evaluations are listed in every challenge, also where the profile does not ask: a profile that begins to ask later
//! finds them. Whatever ended without an evaluation, by the miner's mistake or by ours, lists nobody.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Challenge, Error, Pipeline,
    life::Event,
    submissions::{self, Because, Submission},
};
use crate::{
    fault::Fault,
    ids::{Hotkey, SubmissionId},
    intake::HOTKEY_REUSED,
    store::events,
};

/// How a hotkey came to be done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Who was listed: the hotkey itself, or the one whose place it took.
    pub hotkey: Hotkey,
    /// `history`, `evaluated`, or `swap` when it took a listed one's place.
    pub source: String,
    /// The block of the commitment that used it up.
    pub block: u64,
    /// The submission that did.
    pub submission: Option<SubmissionId>,
}

impl Used {
    /// The miner's mistake of committing again, with its evidence.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let first = self.submission.map_or_else(String::new, |id| format!(", submission {id}"));
        let (source, hotkey, block) = (&self.source, &self.hotkey, self.block);
        HOTKEY_REUSED.because(format!("{source}: {hotkey} was used up by its commitment in block {block}{first}"))
    }
}

impl Pipeline {
    /// The challenges whose history was not listed yet, with the block up to which it counts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unseeded(&self) -> Result<Vec<(String, u64)>, Error> {
        let wanted: Vec<(String, u64)> = self
            .challenges()
            .values()
            .filter(|challenge| challenge.intake.one_per_hotkey && challenge.intake.ledger_from_block > 0)
            .map(|challenge| (challenge.slug.clone(), challenge.intake.ledger_from_block))
            .collect();
        self.store()
            .db()
            .read(move |conn| {
                let mut left = Vec::new();
                for (challenge, up_to) in wanted {
                    if seeded_to(conn, &challenge)? != Some(up_to) {
                        left.push((challenge, up_to));
                    }
                }
                Ok(left)
            })
            .await
    }

    /// Lists hotkeys that committed up to a block, each with the earliest block known. `state` is the block whose state
    /// told so; only that of the block itself is the whole truth, and a lesser one is asked again another time.
    /// Returns how many were new.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn seeded(
        &self,
        challenge: &str,
        up_to: u64,
        state: u64,
        hotkeys: Vec<(Hotkey, u64)>,
        is_whole: bool,
    ) -> Result<u64, Error> {
        let challenge = challenge.to_owned();
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("hotkeys of history", move |tx| {
                let mut new = 0;
                for (hotkey, block) in &hotkeys {
                    new += list(tx, now_ms, &challenge, hotkey, "history", *block, None)?;
                }
                if is_whole {
                    tx.execute(
                        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                        params![seed_key(&challenge), up_to.to_string()],
                    )?;
                }
                if new > 0 || is_whole {
                    let data = json!({ "up_to": up_to, "state": state, "hotkeys": new, "whole": is_whole });
                    events::append(tx, now_ms, "hotkeys_seeded", &challenge, &data)?;
                }
                Ok(new)
            })
            .await
    }

    /// Whether a hotkey is done with in a challenge that asks for it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn used(&self, challenge: &str, hotkey: Hotkey) -> Result<Option<Used>, Error> {
        if !self.challenge(challenge)?.intake.one_per_hotkey {
            return Ok(None);
        }
        let challenge = challenge.to_owned();
        self.store().db().read(move |conn| used_in(conn, &challenge, &hotkey)).await
    }

    /// The same inside a transaction.
    pub(super) fn used_by(&self, conn: &Connection, challenge: &str, hotkey: &Hotkey) -> Result<Option<Used>, Error> {
        if self.challenge(challenge)?.intake.one_per_hotkey { used_in(conn, challenge, hotkey) } else { Ok(None) }
    }
}

fn seed_key(challenge: &str) -> String {
    format!("hotkeys_seeded:{challenge}")
}

fn seeded_to(conn: &Connection, challenge: &str) -> Result<Option<u64>, Error> {
    let value: Option<String> = conn
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([seed_key(challenge)], |row| row.get(0))
        .optional()?;
    Ok(value.and_then(|value| value.parse().ok()))
}

/// Whether a hotkey, or one whose place it took, however often, is listed. The list is as long as there are hotkeys; the
/// way back through swaps visits each once.
///
/// # Errors
/// When the store fails.
pub fn used_in(conn: &Connection, challenge: &str, hotkey: &Hotkey) -> Result<Option<Used>, Error> {
    let own = hotkey.to_string();
    let row: Option<(String, String, u64, Option<i64>)> = conn
        .prepare_cached(
            "WITH RECURSIVE line (hotkey) AS (
               SELECT ?2 UNION SELECT swaps.old FROM swaps JOIN line ON swaps.new = line.hotkey)
             SELECT hotkey, source, block, submission FROM used_hotkeys
             WHERE challenge = ?1 AND hotkey IN (SELECT hotkey FROM line) ORDER BY hotkey <> ?2, block LIMIT 1",
        )?
        .query_row(params![challenge, own], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    row.map(|(listed, source, block, submission)| {
        let source = if listed == own { source } else { "swap".to_owned() };
        let hotkey = submissions::parsed("hotkey", listed)?;
        Ok(Used { hotkey, source, block, submission: submission.map(SubmissionId) })
    })
    .transpose()
}

fn list(
    tx: &Transaction<'_>,
    now_ms: i64,
    challenge: &str,
    hotkey: &Hotkey,
    source: &str,
    block: u64,
    submission: Option<SubmissionId>,
) -> Result<u64, Error> {
    let new = tx
        .prepare_cached(
            "INSERT INTO used_hotkeys (challenge, hotkey, source, block, submission, at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (challenge, hotkey) DO NOTHING",
        )?
        .execute(params![challenge, hotkey.to_string(), source, block, submission.map(|id| id.0), now_ms])?;
    Ok(new as u64)
}

/// A submission was evaluated to its end: its hotkey is listed, in the transaction that says so.
pub(super) fn evaluated(tx: &Transaction<'_>, now_ms: i64, submission: &Submission) -> Result<(), Error> {
    let Submission { id, challenge, hotkey, committed, .. } = submission;
    if list(tx, now_ms, challenge, hotkey, "evaluated", committed.block, Some(*id))? > 0 {
        let data = json!({ "challenge": challenge, "submission": id, "source": "evaluated" });
        events::append(tx, now_ms, "hotkey_used", &hotkey.to_string(), &data)?;
    }
    Ok(())
}

/// Ends what a hotkey that is done with has under way besides the submission that used it up, as far as it takes no part
/// in a run. Called with every block before its runs close, and with every ranking, so that none of it is evaluated.
pub(super) fn end_reused(tx: &Transaction<'_>, now_ms: i64, challenge: &Challenge) -> Result<(), Error> {
    if !challenge.intake.one_per_hotkey {
        return Ok(());
    }
    let sql = format!(
        "SELECT {} FROM submissions WHERE challenge = ?1 AND status IN ('awaiting', 'queued', 'retry', 'held')
         ORDER BY id",
        Submission::COLUMNS
    );
    for submission in submissions::select(tx, &sql, params![challenge.slug])? {
        let used = used_in(tx, &challenge.slug, &submission.hotkey)?;
        // The very submission that used its hotkey up may be tried again.
        if let Some(used) = used.filter(|used| used.submission != Some(submission.id)) {
            submissions::apply(tx, now_ms, &submission, Event::MinerFault, Because::fault(&used.fault()))?;
        }
    }
    Ok(())
}

//! The event log: append-only, each row hashed together with the one before it.
//!
//! Owns the order and the hash chain. Refuses to know what the kinds mean.
//! Whoever changes a row of the truth appends its event in the same transaction.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{Error, limits};
use crate::{clock::UnixMs, ids::Digest};

/// The hash before the first event.
const FIRST: Digest = Digest([0; 32]);

/// One event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// When it happened.
    pub at_ms: UnixMs,
    /// What happened: one word.
    pub kind: String,
    /// To what: an id such as `s12`, or a name.
    pub subject: String,
    /// The particulars.
    pub data: serde_json::Value,
    /// The hash of the event before it.
    pub prev: Digest,
    /// SHA-256 over `prev` and this event.
    pub hash: Digest,
}

/// What a look at the whole log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many events there are.
    pub events: i64,
    /// The hash of the last one: who remembers it can prove later that nothing before it was changed.
    pub head: Digest,
}

impl Report {
    /// A log in which nothing was written yet.
    pub const EMPTY: Self = Self { events: 0, head: FIRST };
}

/// Appends an event and returns its number. It becomes visible when the transaction commits.
///
/// # Errors
/// When it exceeds its limits or the statement fails.
pub fn append(
    tx: &Transaction<'_>,
    at_ms: UnixMs,
    kind: &str,
    subject: &str,
    data: &serde_json::Value,
) -> Result<i64, Error> {
    let data = data.to_string();
    check_size("kind", kind, limits::EVENT_NAME_BYTES)?;
    check_size("subject", subject, limits::EVENT_NAME_BYTES)?;
    check_size("data", &data, limits::EVENT_DATA_BYTES)?;
    let (last, prev) = head(tx)?;
    let seq = last + 1;
    let hash = hash(&prev, seq, at_ms, kind, subject, &data);
    let mut insert = tx.prepare_cached(
        "INSERT INTO events (seq, at_ms, kind, subject, data, prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![seq, at_ms, kind, subject, data, prev.0, hash.0])?;
    Ok(seq)
}

fn check_size(what: &'static str, text: &str, limit: usize) -> Result<(), Error> {
    if text.len() > limit {
        return Err(Error::EventTooLarge { what, bytes: text.len(), limit });
    }
    Ok(())
}

/// The number and hash of the last event; 0 and zeros when there is none.
///
/// # Errors
/// When the statement fails.
pub fn head(conn: &Connection) -> Result<(i64, Digest), Error> {
    let mut newest = conn.prepare_cached("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1")?;
    let found = newest.query_row([], |row| Ok((row.get(0)?, Digest(row.get(1)?)))).optional()?;
    Ok(found.unwrap_or((0, FIRST)))
}

/// Up to `limit` events after the number `after`, oldest first.
///
/// # Errors
/// When the statement fails.
pub fn page(conn: &Connection, after: i64, limit: u32) -> Result<Vec<Event>, Error> {
    let mut select = conn.prepare_cached(
        "SELECT seq, at_ms, kind, subject, data, prev, hash FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let rows = select.query_map(params![after, limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Up to `limit` events of one subject after the number `after`, oldest first.
///
/// # Errors
/// When the statement fails.
pub fn page_of(conn: &Connection, subject: &str, after: i64, limit: u32) -> Result<Vec<Event>, Error> {
    let mut select = conn.prepare_cached(
        "SELECT seq, at_ms, kind, subject, data, prev, hash FROM events
         WHERE subject = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let rows = select.query_map(params![subject, after, limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn from_row(row: &Row<'_>) -> Result<Event, rusqlite::Error> {
    let data: String = row.get(4)?;
    Ok(Event {
        seq: row.get(0)?,
        at_ms: row.get(1)?,
        kind: row.get(2)?,
        subject: row.get(3)?,
        data: serde_json::from_str(&data).map_err(|source| {
            rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(source))
        })?,
        prev: Digest(row.get(5)?),
        hash: Digest(row.get(6)?),
    })
}

/// SHA-256 over the hash before (32 bytes) and the JSON array `[seq,at_ms,kind,subject,data]` without spaces, with the
/// data exactly as it is stored. Any JSON library can recompute it.
fn hash(prev: &Digest, seq: i64, at_ms: UnixMs, kind: &str, subject: &str, data: &str) -> Digest {
    let row = RawValue::from_string(data.to_owned())
        .and_then(|data| serde_json::to_vec(&(seq, at_ms, kind, subject, data)))
        // Altered data that is no JSON must not hash to anything that a real event could hash to.
        .unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(prev.0);
    hasher.update(row);
    Digest(hasher.finalize().into())
}

/// Reads the whole log and recomputes every hash.
///
/// # Errors
/// [`Error::ChainBroken`] with the first event that is wrong.
pub fn verify_chain(conn: &Connection) -> Result<Report, Error> {
    let mut select = conn.prepare("SELECT seq, at_ms, kind, subject, data, prev, hash FROM events ORDER BY seq")?;
    let mut rows = select.query([])?;
    let mut report = Report::EMPTY;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let broken = |why| Err(Error::ChainBroken { seq, why });
        let (kind, subject, data): (String, String, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let (prev, stored) = (Digest(row.get(5)?), Digest(row.get(6)?));
        if seq != report.events + 1 {
            return broken("events before it are missing");
        }
        if prev != report.head {
            return broken("it does not follow the event before it");
        }
        if stored != hash(&prev, seq, row.get(1)?, &kind, &subject, &data) {
            return broken("its content does not hash to its hash");
        }
        report = Report { events: seq, head: stored };
    }
    let ever: Option<i64> =
        conn.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [], |row| row.get(0)).optional()?;
    if ever.unwrap_or(0) > report.events {
        return Err(Error::ChainBroken { seq: report.events + 1, why: "events were cut off at the end" });
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(events: i64) -> Connection {
        let mut connection = Connection::open_in_memory().expect("a database");
        super::super::migrate::run(&mut connection, std::path::Path::new("t.sqlite")).expect("the tables");
        let tx = connection.transaction().expect("a transaction");
        for seq in 1..=events {
            let subject = if seq % 2 == 0 { "s2" } else { "s1" };
            let number = append(&tx, 1_000 + seq, "queued", subject, &json!({ "n": seq })).expect("an event");
            assert_eq!(number, seq);
        }
        tx.commit().expect("a commit");
        connection
    }

    /// Does what a hand in the file could do, past the triggers.
    fn tamper(connection: &Connection, sql: &str) {
        let lift = "DROP TRIGGER events_are_final; DROP TRIGGER events_are_kept; DROP TRIGGER events_are_appended;";
        connection.execute_batch(lift).expect("the triggers are there");
        connection.execute_batch(sql).expect("a statement");
    }

    #[test]
    fn a_stranger_can_recompute_the_chain() {
        let connection = log(1);
        let event = page(&connection, 0, 10).expect("a page").remove(0);
        let mut bytes = vec![0; 32];
        bytes.extend_from_slice(br#"[1,1001,"queued","s1",{"n":1}]"#);
        assert_eq!(event.hash, Digest::of(&bytes));
        assert_eq!(event.prev, FIRST);
    }

    #[test]
    fn pages_follow_one_another() {
        let connection = log(5);
        let seqs = |events: Vec<Event>| events.into_iter().map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!(seqs(page(&connection, 0, 2).expect("a page")), [1, 2]);
        assert_eq!(seqs(page(&connection, 2, 10).expect("a page")), [3, 4, 5]);
        assert_eq!(seqs(page_of(&connection, "s1", 1, 10).expect("a page")), [3, 5]);
        assert_eq!(seqs(page(&connection, 5, 10).expect("a page")), [] as [i64; 0]);
    }

    #[test]
    fn events_are_only_appended() {
        let connection = log(2);
        for sql in [
            "UPDATE events SET kind = 'x' WHERE seq = 1",
            "DELETE FROM events WHERE seq = 2",
            "REPLACE INTO events SELECT * FROM events WHERE seq = 2",
            "INSERT INTO events SELECT seq + 7, at_ms, kind, subject, data, prev, hash FROM events WHERE seq = 1",
        ] {
            let refused = connection.execute(sql, []).expect_err(sql).to_string();
            assert!(refused.contains("events are"), "{sql}: {refused}");
        }
        assert_eq!(verify_chain(&connection).expect("it is whole").events, 2);
    }

    #[test]
    fn every_alteration_is_found_at_its_place() {
        for (sql, at) in [
            ("UPDATE events SET data = '{\"n\":9}' WHERE seq = 3", 3),
            ("UPDATE events SET at_ms = 0 WHERE seq = 1", 1),
            ("UPDATE events SET subject = 's9' WHERE seq = 5", 5),
            ("UPDATE events SET prev = zeroblob(32) WHERE seq = 2", 2),
            ("DELETE FROM events WHERE seq = 4", 5),
            ("DELETE FROM events WHERE seq = 5", 5),
            ("DELETE FROM events", 1),
        ] {
            let connection = log(5);
            let whole = verify_chain(&connection).expect("it is whole");
            assert_eq!((whole.events, whole.head), head(&connection).expect("a head"));
            tamper(&connection, sql);
            match verify_chain(&connection) {
                Err(Error::ChainBroken { seq, .. }) => assert_eq!(seq, at, "{sql}"),
                other => panic!("{sql}: {other:?}"),
            }
        }
    }

    #[test]
    fn limits_hold_at_the_edge() {
        let mut connection = log(0);
        let tx = connection.transaction().expect("a transaction");
        // A JSON string has two quotes around it.
        let fits = json!("x".repeat(limits::EVENT_DATA_BYTES - 2));
        append(&tx, 0, &"k".repeat(limits::EVENT_NAME_BYTES), "s1", &fits).expect("it fits");
        let over = json!("x".repeat(limits::EVENT_DATA_BYTES - 1));
        for (kind, data) in [("k", over), (&*"k".repeat(limits::EVENT_NAME_BYTES + 1), json!({}))] {
            let refused = append(&tx, 0, kind, "s1", &data).expect_err("it does not");
            assert_eq!(refused.code().name, "event_too_large");
        }
    }
}

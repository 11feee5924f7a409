//! What the database says, read from outside.

use rusqlite::{Connection, OpenFlags, Row};
use waag::pipeline::Upload;

use super::{ROUNDS, appliance::Place};

/// What a kill left unfinished.
#[derive(Debug)]
pub struct Left {
    pub open_attempts: u32,
    pub leased_replicas: u32,
    /// Signed extrinsics of which it is not recorded that they were sent.
    pub unsent: u32,
    /// Weights that were sent, and not recorded as read back.
    pub not_read_back: u32,
    /// The version of the ranking that it had come to.
    #[expect(dead_code, reason = "it is there to be printed")]
    pub ranking: u32,
}

/// A weight vector with its letter.
#[derive(Debug)]
pub struct Seen {
    pub rankings: String,
    pub state: String,
    pub key: String,
    pub letter: String,
    #[expect(dead_code, reason = "it is there to be printed")]
    pub detail: Option<String>,
}

fn open(place: &Place) -> Connection {
    Connection::open_with_flags(place.data().join("db/waag.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("it is there")
}

fn number(conn: &Connection, sql: &str) -> u32 {
    conn.query_row(sql, [], |row| row.get(0)).expect(sql)
}

pub fn left(place: &Place) -> Left {
    let conn = open(place);
    let count = |from: &str| number(&conn, &format!("SELECT count(*) FROM {from}"));
    Left {
        open_attempts: count("attempts WHERE ended_ms IS NULL"),
        leased_replicas: count("replicas WHERE state = 'leased'"),
        unsent: count("outbox WHERE kind = 'weights' AND state = 'unsent'"),
        not_read_back: count("outbox WHERE kind = 'weights' AND state = 'sent'"),
        ranking: number(&conn, "SELECT max(ranking_version) FROM challenges"),
    }
}

/// How many runs are in this state.
pub fn runs(place: &Place, state: &str) -> u32 {
    number(&open(place), &format!("SELECT count(*) FROM runs WHERE state = '{state}'"))
}

/// The finalized block up to which the chain was taken in; `None` before the first start.
pub fn followed_to(place: &Place) -> Option<u64> {
    let path = place.data().join("db/waag.sqlite");
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    conn.query_row("SELECT coalesce(max(block), 0) FROM follower", [], |row| row.get(0)).ok()
}

/// Nothing is under way, no further run is due, and the last vector was made from the last ranking and has an end.
pub fn is_idle(place: &Place) -> bool {
    let conn = open(place);
    let busy = number(
        &conn,
        "SELECT (SELECT count(*) FROM runs WHERE state IN ('frozen', 'running', 'folded'))
              + (SELECT count(*) FROM submissions WHERE status IN ('queued', 'running', 'waiting', 'retry'))
              + (SELECT count(*) FROM challenges WHERE dirty = 1 OR closing_block IS NOT NULL)
              + (SELECT count(*) FROM outbox WHERE state IN ('unsent', 'sent'))",
    );
    let rounds = number(
        &conn,
        "SELECT count(*) FROM runs WHERE state = 'ranked' AND number >
           (SELECT max(number) FROM runs WHERE state = 'ranked' AND arrivals > 0)",
    );
    let current = number(
        &conn,
        "SELECT count(*) FROM challenges WHERE ranking_version = (
           SELECT json_extract(rankings, '$.' || challenges.slug) FROM vectors WHERE state = 'confirmed'
           ORDER BY id DESC LIMIT 1)",
    );
    busy == 0 && rounds == ROUNDS && current == 1
}

/// It is idle, and nobody is waited for.
pub fn is_at_rest(place: &Place) -> bool {
    is_idle(place)
        && number(
            &open(place),
            "SELECT count(*) FROM submissions WHERE status NOT IN ('ranked', 'lost', 'rejected', 'failed')",
        ) == 0
}

/// Every ranking that there was, with where its run and its seeds came from: all that money depends on.
pub fn rankings(place: &Place) -> Vec<String> {
    let conn = open(place);
    let mut select = conn
        .prepare(
            "SELECT json_array(version, runs.number, closed_block, arrivals, seed_block, seed_hash, json(ranking),
               (SELECT json_group_array(json_array(submission, artifact, priority_block, incumbent, fault IS NULL))
                FROM (SELECT * FROM contestants WHERE run = runs.id ORDER BY submission)))
             FROM rankings JOIN runs ON runs.id = rankings.run ORDER BY version",
        )
        .expect("a statement");
    select.query_map([], |row| row.get(0)).expect("it runs").collect::<Result<_, _>>().expect("text")
}

/// Where every submission ended.
pub fn ends(place: &Place) -> Vec<String> {
    let conn = open(place);
    let mut select = conn
        .prepare(
            "SELECT json_array(id, hotkey, status, json_extract(fault, '$.code'), commit_block, priority_block,
               upload_block) FROM submissions ORDER BY id",
        )
        .expect("a statement");
    select.query_map([], |row| row.get(0)).expect("it runs").collect::<Result<_, _>>().expect("text")
}

/// The uids and weights that were confirmed last.
pub fn last_vector(place: &Place) -> (String, String) {
    let sql = "SELECT uids, weights FROM vectors WHERE state = 'confirmed' ORDER BY id DESC LIMIT 1";
    open(place).query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("one was confirmed")
}

/// What intake recorded of every upload, oldest first.
pub fn uploads(place: &Place) -> Vec<Upload> {
    let conn = open(place);
    let mut select = conn
        .prepare(
            "SELECT challenge, hotkey, field, artifact, artifact_bytes, salt, upload_block FROM submissions
             WHERE artifact IS NOT NULL ORDER BY upload_block, id",
        )
        .expect("a statement");
    let upload = |row: &Row<'_>| {
        let text = |at| row.get::<_, String>(at);
        Ok(Upload {
            challenge: text(0)?,
            hotkey: text(1)?.parse().expect("an address"),
            field: text(2)?,
            artifact: text(3)?.parse().expect("a digest"),
            bytes: row.get(4)?,
            salt: text(5)?,
            block: row.get(6)?,
            payment: None,
        })
    };
    select.query_map([], upload).expect("it runs").collect::<Result<_, _>>().expect("every upload is whole")
}

pub fn vectors(place: &Place) -> Vec<Seen> {
    let conn = open(place);
    let mut select = conn
        .prepare(
            "SELECT rankings, vectors.state, key, outbox.state, outbox.detail FROM vectors
             LEFT JOIN outbox ON outbox.kind = 'weights' AND outbox.subject = vectors.id ORDER BY vectors.id",
        )
        .expect("a statement");
    let seen = |row: &Row<'_>| {
        Ok(Seen {
            rankings: row.get(0)?,
            state: row.get(1)?,
            key: row.get(2)?,
            letter: row.get(3)?,
            detail: row.get(4)?,
        })
    };
    let rows = select.query_map([], seen).expect("it runs");
    rows.collect::<Result<_, _>>().expect("every vector has a letter")
}

/// One settled result a job, one fold a plan, one verdict a contestant, one ranking a run.
pub fn nothing_was_folded_twice(place: &Place) {
    let conn = open(place);
    assert!(number(&conn, "SELECT count(*) FROM plans WHERE state = 'folded'") > 0);
    for (what, sql) in [
        (
            "a folded plan with an unsettled job",
            "SELECT count(*) FROM jobs JOIN plans ON plans.id = jobs.plan
            WHERE plans.state = 'folded' AND (jobs.state NOT IN ('done', 'failed') OR jobs.result IS NULL)",
        ),
        (
            "a job with more answers than replicas",
            "SELECT count(*) FROM jobs WHERE jobs.replicas <
            (SELECT count(*) FROM replicas WHERE job = jobs.id AND state = 'done')",
        ),
        (
            "a settled job with a replica that is out",
            "SELECT count(*) FROM replicas JOIN jobs ON jobs.id = replicas.job
            WHERE jobs.state <> 'open' AND replicas.state IN ('queued', 'leased')",
        ),
        (
            "a stage folded twice",
            "SELECT count(*) FROM (SELECT 1 FROM plans WHERE state = 'folded'
            GROUP BY run, stage HAVING count(*) > 1)",
        ),
        (
            "a verdict given twice",
            "SELECT count(*) FROM (SELECT 1 FROM verdicts WHERE run IS NOT NULL
            GROUP BY run, stage, submission HAVING count(*) > 1)",
        ),
        (
            "a run recorded twice",
            "SELECT count(*) FROM (SELECT 1 FROM events
            WHERE kind IN ('seeded', 'run_folded', 'run_ranked') GROUP BY kind, subject HAVING count(*) > 1)",
        ),
        (
            "a run ranked twice",
            "SELECT count(*) FROM (SELECT 1 FROM rankings WHERE run IS NOT NULL
            GROUP BY run HAVING count(*) > 1)",
        ),
        (
            "a run number given twice",
            "SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 'ranked'
            GROUP BY challenge, number HAVING count(*) > 1)",
        ),
        ("a run lost", "SELECT count(*) FROM runs WHERE state NOT IN ('ranked', 'void')"),
        ("a block skipped", "SELECT count(*) FROM gaps"),
    ] {
        assert_eq!(number(&conn, sql), 0, "{what}");
    }
}

//! Weight vectors: what was decided, sent, committed and read back.
//!
//! Owns the evidence of a vector, its row and its letters in the outbox, written in one transaction. Refuses to speak
//! to the chain: the weight setter, an actor, signs, sends and reads back, and tells the outcome.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Challenge, Error, Pipeline, Snapshot, outbox, ranker,
    submissions::{self, parsed},
};
use crate::{
    chain::{Sealed, Way},
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, RunId, SubmissionId},
    store::events,
    weights::{
        Limits, Vector,
        bundle::{
            self, Backend, Bundle, Claim, Evidence, LedgerRow, Program, Ranked, Registration, RunEvidence, SeedBlock,
        },
    },
};

/// The kind of letter that carries a signed weight extrinsic.
pub const LETTER: &str = "weights";
/// Vectors of one listing.
pub const VECTORS_MAX: u32 = 1000;

/// How a vector goes to the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// Plainly or hidden.
    pub way: Way,
    /// The mechanism it is for.
    pub mechanism: u8,
    /// The version that the validator claims to run.
    pub version_key: u64,
    /// The beacon's round that opens it, where it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u64>,
    /// The hash that was committed, where it is hidden by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Digest>,
    /// The salt of that hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub salt: Vec<u16>,
}

/// A vector to be written down, with the signed extrinsic that sets or commits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The subnet.
    pub netuid: u16,
    /// The block of the snapshot it was made at.
    pub block: u64,
    /// The vector.
    pub vector: Vector,
    /// The versions of the rankings it was made from; empty for one that was made by hand.
    pub rankings: Value,
    /// The digest of its evidence.
    pub evidence: Digest,
    /// How it goes to the chain.
    pub sending: Sending,
    /// The signed extrinsic.
    pub signed: Vec<u8>,
    /// The extrinsic's hash.
    pub key: String,
}

/// One stored vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredVector {
    /// Its row.
    pub id: i64,
    /// The subnet it is for.
    pub netuid: u16,
    /// The block of the snapshot it was made at.
    pub block: u64,
    /// What was sent.
    pub vector: Vector,
    /// The version of each challenge's ranking it was made from.
    pub rankings: Value,
    /// The bundle it was made from.
    pub evidence: Digest,
    /// `decided`, `committed`, `confirmed`, `dropped`, `failed` or `superseded`.
    pub state: String,
    /// Why it ended, where it had no effect.
    pub detail: Option<String>,
    /// How it goes to the chain.
    pub sending: Sending,
    /// The block of its commit, where it is hidden.
    pub commit_block: Option<u64>,
    /// The epoch of that commit.
    pub commit_epoch: Option<u64>,
    /// The block at which it was read back.
    pub confirmed_block: Option<u64>,
    /// When it was decided.
    pub at_ms: UnixMs,
    /// The hash of the extrinsic that sets or commits it.
    pub extrinsic: Option<String>,
}

/// What the chain contributes to a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSide {
    /// The chain's genesis hash.
    pub genesis: Digest,
    /// The subnet.
    pub netuid: u16,
    /// Who is registered.
    pub snapshot: Snapshot,
    /// The chain's limits on weights.
    pub limits: Limits,
    /// Receives what nobody earned.
    pub burn_uid: u16,
}

impl Pipeline {
    /// Gathers everything that the next vector follows from; `None` before the first ranking. The vector is not
    /// computed yet. Also answers the versions of the rankings.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn evidence(&self, side: ChainSide) -> Result<Option<(Bundle, Value)>, Error> {
        let pipeline = self.clone();
        self.store()
            .db()
            .read(move |conn| {
                let mut challenges = Vec::new();
                let mut versions = serde_json::Map::new();
                for challenge in pipeline.challenges().values() {
                    let stored = ranker::newest(conn, &challenge.slug)?;
                    versions.insert(challenge.slug.clone(), json!(stored.as_ref().map_or(0, |one| one.version)));
                    challenges.push(evidence_of(conn, challenge, stored)?);
                }
                if challenges.iter().all(|evidence| evidence.ranked.is_none()) {
                    return Ok(None);
                }
                Ok::<_, Error>(Some((bundle_of(side, challenges), Value::Object(versions))))
            })
            .await
    }

    /// Whether a challenge has a newest ranking whose bundle is not stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_unproven_ranking(&self) -> Result<bool, Error> {
        let slugs: Vec<String> = self.challenges().keys().cloned().collect();
        self.store()
            .db()
            .read(move |conn| {
                for slug in slugs {
                    let unproven: Option<bool> = conn
                        .prepare_cached(
                            "SELECT evidence IS NULL FROM rankings WHERE challenge = ?1 ORDER BY version DESC LIMIT 1",
                        )?
                        .query_row([slug], |row| row.get(0))
                        .optional()?;
                    if unproven == Some(true) {
                        return Ok(true);
                    }
                }
                Ok(false)
            })
            .await
    }

    /// Records the bundle of these rankings; those that have one keep it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rankings_proven(&self, rankings: Value, evidence: Digest) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("rankings proven", move |tx| {
                for (slug, version) in rankings.as_object().into_iter().flatten() {
                    tx.execute(
                        "UPDATE rankings SET evidence = ?1 WHERE challenge = ?2 AND version = ?3 AND evidence IS NULL",
                        params![evidence.to_string(), slug, version.as_i64()],
                    )?;
                }
                let data = json!({ "rankings": rankings, "evidence": evidence });
                events::append(tx, now_ms, "evidence_stored", &evidence.to_string(), &data)?;
                Ok(())
            })
            .await
    }

    /// Records why weights cannot be set now: an event when it is another reason than before, and a count.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn weights_refused(&self, netuid: u16, fault: &Fault) -> Result<(), Error> {
        let (now_ms, fault) = (self.clock().now_ms(), fault.clone());
        self.store().db().write("weights refused", move |tx| note_refusal(tx, now_ms, netuid, &fault)).await
    }

    /// Writes a vector down together with the signed extrinsic that will set it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn decide_vector(&self, decision: Decision) -> Result<i64, Error> {
        let now_ms = self.clock().now_ms();
        let Decision { netuid, block, vector, rankings, evidence, sending, signed, key } = decision;
        let (uids, weights) = (serde_json::to_string(&vector.uids)?, serde_json::to_string(&vector.values)?);
        let (way, sending) = (sending.way, serde_json::to_string(&sending)?);
        self.store()
            .db()
            .write("decide vector", move |tx| {
                tx.execute(
                    "INSERT INTO vectors (netuid, block, uids, weights, rankings, evidence, sending, state, at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'decided', ?8)",
                    params![netuid, block, uids, weights, rankings.to_string(), evidence.to_string(), sending, now_ms],
                )?;
                let id = tx.last_insert_rowid();
                outbox::post(tx, now_ms, LETTER, &key, &signed, Some(id))?;
                tx.execute("DELETE FROM weight_refusals WHERE netuid = ?1", [netuid])?;
                let data =
                    json!({ "vector": id, "rankings": rankings, "evidence": evidence, "extrinsic": key, "way": way });
                events::append(tx, now_ms, "weights_decided", &netuid.to_string(), &data)?;
                Ok(id)
            })
            .await
    }

    /// Ends a vector and its letter, if one is open: it stands on chain as sent since this block.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn vector_confirmed(&self, letter: Option<i64>, vector: i64, block: u64) -> Result<(), Error> {
        let now_ms = self.clock().now_ms();
        self.store()
            .db()
            .write("confirm vector", move |tx| {
                tx.execute(
                    "UPDATE vectors SET state = 'confirmed', confirmed_block = ?1 WHERE id = ?2",
                    params![block, vector],
                )?;
                if let Some(letter) = letter {
                    Self::end_letter(tx, now_ms, letter, true, "read back")?;
                }
                let data = json!({ "vector": vector, "block": block });
                events::append(tx, now_ms, "weights_confirmed", &format!("vector {vector}"), &data)?;
                Ok(())
            })
            .await
    }

    /// Ends a vector and its letter without effect: a new one will be decided.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn vector_failed(&self, letter: i64, vector: i64, fault: &Fault) -> Result<(), Error> {
        let (now_ms, fault) = (self.clock().now_ms(), fault.clone());
        self.store()
            .db()
            .write("fail vector", move |tx| {
                tx.execute(
                    "UPDATE vectors SET state = 'failed', detail = ?1 WHERE id = ?2",
                    params![fault.to_string(), vector],
                )?;
                Self::end_letter(tx, now_ms, letter, false, &fault.to_string())?;
                let data = json!({ "vector": vector, "fault": fault });
                events::append(tx, now_ms, "weights_failed", &format!("vector {vector}"), &data)?;
                Ok(())
            })
            .await
    }

    /// One vector, or the newest.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn vector(&self, id: Option<i64>) -> Result<Option<StoredVector>, Error> {
        self.store().db().read(move |conn| Ok(stored_vectors(conn, WANTED, id, 1)?.pop())).await
    }
}

/// One vector, or all, the newest first.
const WANTED: &str = "?1 IS NULL OR id = ?1 ORDER BY id DESC";

/// The newest vectors of a database, the newest first.
///
/// # Errors
/// When it cannot be read.
pub fn vectors(conn: &Connection, limit: u32) -> Result<Vec<StoredVector>, Error> {
    stored_vectors(conn, WANTED, None, limit.min(VECTORS_MAX))
}

/// A vector's columns as they are read.
struct VectorRow {
    stored: StoredVector,
    uids: String,
    weights: String,
    rankings: String,
    evidence: String,
    sending: String,
}

fn vector_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<VectorRow> {
    let plain = Sending { way: Way::Plain, mechanism: 0, version_key: 0, round: None, hash: None, salt: Vec::new() };
    Ok(VectorRow {
        stored: StoredVector {
            id: row.get(0)?,
            netuid: row.get(1)?,
            block: row.get(2)?,
            vector: Vector { uids: Vec::new(), values: Vec::new() },
            rankings: Value::Null,
            evidence: Digest([0; 32]),
            state: row.get(7)?,
            detail: row.get(8)?,
            sending: plain,
            commit_block: row.get(10)?,
            commit_epoch: row.get(11)?,
            confirmed_block: row.get(12)?,
            at_ms: row.get(13)?,
            extrinsic: row.get(14)?,
        },
        uids: row.get(3)?,
        weights: row.get(4)?,
        rankings: row.get(5)?,
        evidence: row.get(6)?,
        sending: row.get(9)?,
    })
}

pub(super) fn stored_vectors(
    conn: &Connection,
    wanted: &str,
    id: Option<i64>,
    limit: u32,
) -> Result<Vec<StoredVector>, Error> {
    let sql = format!(
        "SELECT id, netuid, block, uids, weights, rankings, evidence, state, detail, sending, commit_block,
                commit_epoch, confirmed_block, at_ms,
                (SELECT key FROM outbox WHERE subject = vectors.id AND kind = '{LETTER}' ORDER BY outbox.id LIMIT 1)
         FROM vectors WHERE {wanted} LIMIT ?2"
    );
    let rows: Vec<VectorRow> =
        conn.prepare_cached(&sql)?.query_map(params![id, limit], vector_row)?.collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|row| {
            Ok(StoredVector {
                vector: Vector { uids: serde_json::from_str(&row.uids)?, values: serde_json::from_str(&row.weights)? },
                rankings: serde_json::from_str(&row.rankings)?,
                evidence: parsed("evidence", row.evidence)?,
                sending: serde_json::from_str(&row.sending)?,
                ..row.stored
            })
        })
        .collect()
}

/// Keeps the reason that stands in the way of weights: an event when it is another one than before, and a count.
pub(super) fn note_refusal(
    tx: &rusqlite::Transaction<'_>,
    now_ms: UnixMs,
    netuid: u16,
    fault: &Fault,
) -> Result<(), Error> {
    let known: Option<String> = tx
        .prepare_cached("SELECT fault FROM weight_refusals WHERE netuid = ?1")?
        .query_row([netuid], |row| row.get(0))
        .optional()?;
    let known: Option<Fault> = known.map(|text| serde_json::from_str(&text)).transpose()?;
    if known.is_some_and(|known| known.code == fault.code) {
        tx.execute(
            "UPDATE weight_refusals SET last_ms = ?1, times = times + 1, fault = ?2 WHERE netuid = ?3",
            params![now_ms, serde_json::to_string(fault)?, netuid],
        )?;
        return Ok(());
    }
    tx.execute(
        "INSERT OR REPLACE INTO weight_refusals (netuid, fault, since_ms, last_ms, times) VALUES (?1, ?2, ?3, ?3, 1)",
        params![netuid, serde_json::to_string(fault)?, now_ms],
    )?;
    events::append(tx, now_ms, "weights_refused", &netuid.to_string(), &json!({ "fault": fault }))?;
    Ok(())
}

fn bundle_of(side: ChainSide, challenges: Vec<Evidence>) -> Bundle {
    let mut neurons: Vec<Registration> = side
        .snapshot
        .registered
        .iter()
        .map(|(hotkey, registered)| Registration {
            uid: registered.uid,
            hotkey: *hotkey,
            since_block: registered.since_block,
            eligible: true,
        })
        .collect();
    neurons.sort_by_key(|neuron| neuron.uid);
    Bundle {
        format: bundle::FORMAT.to_owned(),
        program: Program { version: env!("CARGO_PKG_VERSION").to_owned(), libc: crate::gym::env::libc_name() },
        genesis: side.genesis,
        netuid: side.netuid,
        snapshot: bundle::Snapshot { block: side.snapshot.block, hash: side.snapshot.hash, neurons },
        challenges,
        burn_uid: side.burn_uid,
        limits: side.limits,
        vector: None,
        hashes: std::collections::BTreeMap::new(),
    }
}

fn evidence_of(conn: &Connection, challenge: &Challenge, stored: Option<ranker::Stored>) -> Result<Evidence, Error> {
    let ranked = stored
        .map(|stored| {
            let contestants =
                stored.input.entries.iter().map(|entry| claim_of(conn, entry.submission)).collect::<Result<_, _>>()?;
            let run = stored.run.map(|run| run_of(conn, run)).transpose()?;
            // Rankings from before it was kept were made under a profile that nobody can tell now.
            let profile = stored.profile.filter(|profile| *profile != challenge.profile_text);
            Ok::<_, Error>(Ranked { profile, run, contestants, input: stored.input, ranking: stored.ranking })
        })
        .transpose()?;
    Ok(Evidence {
        challenge: challenge.slug.clone(),
        share: challenge.share,
        profile: challenge.profile_text.clone(),
        ranked,
    })
}

/// Where a submission's priority comes from.
fn claim_of(conn: &Connection, id: SubmissionId) -> Result<Claim, Error> {
    let submission = submissions::load(conn, id)?;
    let salt: Option<Digest> = submission.salt.as_ref().and_then(|salt| salt.parse().ok());
    // What was committed in the open binds its content by itself; there is nothing to be opened again.
    let is_sealed = submission.field.parse::<Sealed>().is_ok();
    let ledger = salt.filter(|_| is_sealed).zip(submission.upload_block).map(|(salt, upload_block)| LedgerRow {
        committed: submission.committed,
        text: submission.field.clone(),
        salt,
        upload_block,
    });
    Ok(Claim { submission: id, ledger })
}

fn run_of(conn: &Connection, run: RunId) -> Result<RunEvidence, Error> {
    let (number, closing_block, seed_block, seed_hash): (u64, u64, Option<u64>, Option<String>) = conn
        .prepare_cached("SELECT number, closed_block, seed_block, seed_hash FROM runs WHERE id = ?1")?
        .query_row([run.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let hash: Option<Digest> = seed_hash.map(|text| parsed("seed hash", text)).transpose()?;
    // The stage that names a backend says so in its plan's data; a challenge without such a stage has none.
    let plans: Vec<String> = conn
        .prepare_cached("SELECT plan FROM plans WHERE run = ?1 AND state = 'folded' ORDER BY stage DESC")?
        .query_map([run.0], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let backend = plans.iter().find_map(|plan| {
        let plan: Value = serde_json::from_str(plan).ok()?;
        serde_json::from_value::<Backend>(plan.get("data")?.get("backend")?.clone()).ok()
    });
    Ok(RunEvidence {
        number,
        closing_block,
        seed: seed_block.zip(hash).map(|(block, hash)| SeedBlock { block, hash }),
        backend,
    })
}

/// When a vector was last confirmed or decided, for what is due next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastVector {
    /// The versions of the rankings it was made from.
    pub rankings: Value,
    /// The block of its snapshot.
    pub block: u64,
    /// When it was written.
    pub at_ms: UnixMs,
}

impl Pipeline {
    /// The newest vector that stands on chain or is on its way there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_vector(&self) -> Result<Option<LastVector>, Error> {
        self.store()
            .db()
            .read(|conn| {
                let row: Option<(String, u64, UnixMs)> = conn
                    .prepare_cached(
                        "SELECT rankings, block, at_ms FROM vectors WHERE state IN ('decided', 'committed', 'confirmed')
                         ORDER BY id DESC LIMIT 1",
                    )?
                    .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()?;
                row.map(|(rankings, block, at_ms)| {
                    Ok(LastVector { rankings: serde_json::from_str(&rankings)?, block, at_ms })
                })
                .transpose()
            })
            .await
    }

    /// The versions of the present rankings.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ranking_versions(&self) -> Result<Value, Error> {
        let slugs: Vec<String> = self.challenges().keys().cloned().collect();
        self.store()
            .db()
            .read(move |conn| {
                let mut versions = serde_json::Map::new();
                for slug in slugs {
                    let version: i64 = conn
                        .prepare_cached("SELECT ranking_version FROM challenges WHERE slug = ?1")?
                        .query_row([&slug], |row| row.get(0))?;
                    versions.insert(slug, json!(version));
                }
                Ok(Value::Object(versions))
            })
            .await
    }
}

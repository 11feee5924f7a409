//! Models: why one was refused, and the public corpus of fingerprints.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Page, Window, fault, parsed, rows};
use crate::{
    clock::UnixMs,
    ids::{Digest, Hotkey, SubmissionId},
    pipeline::Error,
};

/// Why a submission was rejected, with everything that its miner needs to see it for himself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultFile {
    /// The submission.
    pub submission: SubmissionId,
    /// The text of its commitment.
    pub commitment: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// In which block.
    pub block_number: u64,
    /// The stage that refused it; empty when none did.
    pub stage: String,
    /// Whose trouble it is.
    pub fault_class: String,
    /// The stable code.
    pub fault_code: String,
    /// What was seen, in words.
    pub fault_message: String,
    /// What to do next.
    pub hint: String,
    /// What was seen, for programs: of a copy, the elder that it is one of.
    pub details: Value,
}

/// The fault file of a submission; `None` when it was not rejected.
pub(in crate::server) fn fault_file(conn: &Connection, id: SubmissionId) -> Result<Option<FaultFile>, Error> {
    let found: Option<(String, String, u64, Option<String>)> = conn
        .prepare_cached(
            "SELECT field, hotkey, commit_block, fault FROM submissions WHERE id = ?1 AND status = 'rejected'",
        )?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((commitment, hotkey, block_number, text)) = found else { return Ok(None) };
    let Some(fault) = fault(text)? else { return Ok(None) };
    let verdict: Option<(String, String)> = conn
        .prepare_cached(
            "SELECT stage_name, evidence FROM verdicts WHERE submission = ?1 AND outcome = 'reject'
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (stage, evidence) = verdict.unwrap_or_default();
    let details = if evidence.is_empty() { Value::Null } else { serde_json::from_str(&evidence)? };
    Ok(Some(FaultFile {
        submission: id,
        commitment,
        hotkey: parsed("hotkey", hotkey)?,
        block_number,
        stage,
        fault_class: fault.class.as_str().to_owned(),
        fault_code: fault.code,
        fault_message: fault.detail,
        hint: fault.hint,
        details,
    }))
}

/// One model of the corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusEntry {
    /// Its place: the corpus is only appended to.
    pub seq: i64,
    /// What was committed.
    pub artifact: Digest,
    /// Digest of its tensors, whatever they are called and however they are sharded.
    pub contents: Digest,
    /// SHA-256 of its object, to be had from `/v1/corpus/{object}`.
    pub object: Digest,
    /// When it was appended.
    pub at_ms: UnixMs,
}

/// A page of a challenge's corpus, oldest first.
pub(in crate::server) fn corpus(
    conn: &Connection,
    challenge: &str,
    window: Window,
) -> Result<Page<CorpusEntry>, Error> {
    let found = rows(
        conn,
        "SELECT seq, artifact, contents, object, at_ms FROM corpus WHERE challenge = ?1 AND seq > ?2
         ORDER BY seq LIMIT ?3",
        params![challenge, window.after, window.probe()],
        |row| {
            Ok(CorpusEntry {
                seq: row.get(0)?,
                artifact: parsed("artifact", row.get(1)?)?,
                contents: parsed("contents", row.get(2)?)?,
                object: parsed("object", row.get(3)?)?,
                at_ms: row.get(4)?,
            })
        },
    )?;
    Ok(Page::new(found, window.limit, |entry| entry.seq))
}

/// Whether this digest is that of an object of the corpus.
pub(in crate::server) fn is_in_corpus(conn: &Connection, object: &Digest) -> Result<bool, Error> {
    let found: Option<i64> = conn
        .prepare_cached("SELECT 1 FROM corpus WHERE object = ?1 LIMIT 1")?
        .query_row([object.to_string()], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

//! Collection: which models on this machine are kept, and why.
//!
//! Owns the rules, what they look at, and the event that a deletion leaves. Refuses to know when to look and how a model
//! is kept. The rules are pure. The collector calls it, and `waag collect`.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    life::{Event, Status, words},
    submissions::parsed,
};
use crate::{
    artifact::model::{
        ModelCache, Reference,
        cache::{self, Entry, Trash},
    },
    clock::UnixMs,
    fault::Fault,
    ids::{Digest, SubmissionId},
    store::{self, Store, events},
};

/// The kind of the event that a deletion leaves.
pub const DELETED: &str = "model_deleted";

/// What collecting models can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder of models failed.
    #[error("the models on this machine")]
    Cache(#[from] cache::Error),
    /// The pipeline's tables failed, or hold what they should not.
    #[error("what the submissions say of models")]
    Facts(#[from] super::Error),
    /// The thread at work on the disk ended early.
    #[error("the work on the disk ended early")]
    Ended(#[from] tokio::task::JoinError),
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        Self::Facts(source.into())
    }
}

impl Error {
    /// The failure as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Cache(source) => source.fault(),
            Self::Facts(source) => source.fault(),
            Self::Ended(source) => super::PROCESS_DIED.because(format!("{self}: {source}")),
        }
    }
}

/// What the operator and the profiles say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// Repositories that every model of a challenge is made from.
    pub bases: BTreeSet<String>,
    /// For how long parts that nobody goes on with, and models of submissions that failed, are kept.
    pub grace_ms: u64,
}

words! {
    /// Why a model is kept or deleted: the first of these that holds.
    Reason {
        /// Somebody is at work on it.
        InUse = "in_use",
        /// Not whole, and nobody has gone on with it for the grace.
        PartsIdle = "parts_idle",
        /// Not whole, and lately asked for.
        PartsRecent = "parts_recent",
        /// A profile's base.
        Base = "base",
        /// In the present ranking, or a contestant of an open run.
        Ranked = "ranked",
        /// No submission names it.
        Unknown = "unknown",
        /// A submission that names it is under way.
        UnderWay = "under_way",
        /// Every submission that names it failed or was rejected, the last of them within the grace.
        EndedRecently = "ended_recently",
        /// A submission that names it was not good enough.
        Lost = "lost",
        /// A submission that names it was in a ranking, and is no more.
        Formerly = "formerly_ranked",
        /// Every submission that names it failed, was rejected or withdrawn.
        Ended = "ended",
    }
}

impl Reason {
    /// Whether the model is deleted.
    #[must_use]
    pub const fn is_delete(self) -> bool {
        matches!(self, Self::PartsIdle | Self::Lost | Self::Formerly | Self::Ended)
    }

    /// In words.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::InUse => "it is in use",
            Self::PartsIdle => "it is not whole, and nobody has gone on with it",
            Self::PartsRecent => "it is not whole, and was asked for lately",
            Self::Base => "it is the base of a challenge",
            Self::Ranked => "it is in the ranking, or in a run",
            Self::Unknown => "no submission names it",
            Self::UnderWay => "a submission that names it is under way",
            Self::EndedRecently => "its submission failed or was rejected a short while ago",
            Self::Lost => "its submission lost",
            Self::Formerly => "its submission was in a ranking, and is no more",
            Self::Ended => "its submission failed, was rejected or withdrawn",
        }
    }
}

/// What the submissions that name a model are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// One is in the present ranking, or a contestant of an open run.
    pub ranked: bool,
    /// One is neither finished nor ended.
    pub under_way: bool,
    /// One was not good enough, and never was.
    pub lost: bool,
    /// One was good enough once.
    pub formerly: bool,
    /// When the last of them moved.
    pub moved_ms: UnixMs,
}

/// What is known of the models on this machine, by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts(pub BTreeMap<Digest, Standing>);

/// Why this model is kept or deleted. The first rule that holds decides.
#[must_use]
pub fn decide(entry: &Entry, facts: &Facts, keep: &Keep, now_ms: UnixMs) -> Reason {
    let grace_ms = i64::try_from(keep.grace_ms).unwrap_or(i64::MAX);
    let is_past = |at_ms: UnixMs| now_ms >= at_ms.saturating_add(grace_ms);
    if entry.is_pinned {
        return Reason::InUse;
    }
    if entry.is_partial {
        return if is_past(entry.used_ms) { Reason::PartsIdle } else { Reason::PartsRecent };
    }
    if entry.repo.as_ref().is_some_and(|repo| keep.bases.contains(repo)) {
        return Reason::Base;
    }
    match facts.0.get(&entry.key) {
        Some(standing) if standing.ranked => Reason::Ranked,
        None => Reason::Unknown,
        Some(standing) if standing.under_way => Reason::UnderWay,
        Some(standing) if !standing.lost && !standing.formerly && !is_past(standing.moved_ms) => Reason::EndedRecently,
        Some(standing) if standing.lost => Reason::Lost,
        Some(standing) if standing.formerly => Reason::Formerly,
        Some(_) => Reason::Ended,
    }
}

impl Facts {
    /// What one moment of the database says of these models.
    ///
    /// # Errors
    /// When the store fails.
    pub fn read(conn: &Connection, keys: &BTreeSet<Digest>) -> Result<Self, super::Error> {
        let mut facts: BTreeMap<Digest, Standing> = BTreeMap::new();
        let paid = paid(conn)?;
        let mut statement = conn.prepare_cached(
            "SELECT s.id, s.status, s.updated_ms, coalesce(s.artifact, g.digest), g.parts
             FROM submissions AS s LEFT JOIN first_sightings AS g
               ON g.challenge = s.challenge AND g.hotkey = s.hotkey AND g.field = s.field",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key = key_in(row.get(3)?, row.get(4)?).filter(|key| keys.contains(key));
            let Some(key) = key else { continue };
            let (id, word): (i64, String) = (row.get(0)?, row.get(1)?);
            let status = Status::parse(&word).ok_or(super::Error::Foreign { what: "status", value: word })?;
            let standing = facts.entry(key).or_default();
            standing.moved_ms = standing.moved_ms.max(row.get(2)?);
            standing.add(conn, SubmissionId(id), status, &paid)?;
        }
        Ok(Self(facts))
    }
}

/// The key under which a submission's model is kept: that of the reference as it was committed, where it is one.
fn key_in(digest: Option<String>, parts: Option<String>) -> Option<Digest> {
    let parts: BTreeMap<String, String> = parts.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let reference = parts.get("repo").zip(parts.get("digest"));
    let reference = reference.and_then(|(repo, digest)| Reference::new(repo, digest).ok());
    reference.as_ref().map(cache::key_of).or_else(|| digest?.parse().ok())
}

impl Standing {
    fn add(
        &mut self,
        conn: &Connection,
        id: SubmissionId,
        status: Status,
        paid: &BTreeSet<SubmissionId>,
    ) -> Result<(), super::Error> {
        self.ranked |= status == Status::Ranked || paid.contains(&id) || is_contestant(conn, id)?;
        let was_ranked = conn
            .prepare_cached("SELECT 1 FROM events WHERE subject = ?1 AND kind = ?2 LIMIT 1")?
            .exists(params![id.to_string(), Event::Ranked.as_str()])?;
        match status {
            Status::Ranked => {}
            Status::Lost | Status::Withdrawn if was_ranked => self.formerly = true,
            Status::Lost => self.lost = true,
            Status::Rejected | Status::Failed | Status::Withdrawn => {}
            Status::Awaiting | Status::Queued | Status::Running | Status::Waiting | Status::Retry | Status::Held => {
                self.under_way = true;
            }
        }
        Ok(())
    }
}

/// Whether a run that is not decided counts with it: as an incumbent, whatever its status.
fn is_contestant(conn: &Connection, id: SubmissionId) -> Result<bool, super::Error> {
    let found: Option<i64> = conn
        .prepare_cached(
            "SELECT 1 FROM contestants AS c JOIN runs AS r ON r.id = c.run
             WHERE c.submission = ?1 AND c.gone = 0 AND r.state IN ('frozen', 'running', 'folded') LIMIT 1",
        )?
        .query_row(params![id.0], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Whom the newest ranking of each challenge pays.
fn paid(conn: &Connection) -> Result<BTreeSet<SubmissionId>, super::Error> {
    let mut statement = conn.prepare_cached(
        "SELECT json_extract(row.value, '$.submission') FROM rankings AS r, json_each(r.ranking, '$.rows') AS row
         WHERE r.version = (SELECT max(version) FROM rankings WHERE challenge = r.challenge)
           AND json_extract(row.value, '$.share') > 0 AND json_extract(row.value, '$.submission') IS NOT NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut paid = BTreeSet::new();
    while let Some(row) = rows.next()? {
        paid.insert(parsed("submission", row.get(0)?)?);
    }
    Ok(paid)
}

/// A model with what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// The model.
    #[serde(flatten)]
    pub entry: Entry,
    /// Whether it is deleted.
    pub delete: bool,
    /// Why.
    pub reason: Reason,
}

impl Decided {
    /// The decision on each of these models.
    #[must_use]
    pub fn all(entries: Vec<Entry>, facts: &Facts, keep: &Keep, now_ms: UnixMs) -> Vec<Self> {
        let decided = |entry: Entry| {
            let reason = decide(&entry, facts, keep, now_ms);
            Self { entry, delete: reason.is_delete(), reason }
        };
        entries.into_iter().map(decided).collect()
    }
}

/// Deletes every model with which nobody counts any more. Answers what was decided on each; one that somebody asked for
/// in the meantime is kept.
///
/// # Errors
/// When the store or the disk fails; what was begun is ended by the next call.
pub async fn collect(models: &ModelCache, store: &Store, keep: &Keep, now_ms: UnixMs) -> Result<Vec<Decided>, Error> {
    let cache = models.clone();
    let (left, entries) =
        tokio::task::spawn_blocking(move || -> Result<_, cache::Error> { Ok((cache.left_over()?, cache.entries()?)) })
            .await??;
    for trash in left {
        end(store, trash, json!({ "reason": "begun before a stop" })).await?;
    }
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let keys: BTreeSet<Digest> = entries.iter().map(|entry| entry.key).collect();
    let facts = store.db().read(move |conn| Facts::read(conn, &keys)).await?;
    let mut decided = Decided::all(entries, &facts, keep, now_ms);
    for one in decided.iter_mut().filter(|one| one.delete) {
        let (cache, key) = (models.clone(), one.entry.key);
        let trash = tokio::task::spawn_blocking(move || cache.remove(&key, now_ms)).await??;
        let Some(trash) = trash else {
            (one.delete, one.reason) = (false, Reason::InUse);
            continue;
        };
        let Entry { repo, revision, disk_bytes, .. } = &one.entry;
        let data = json!({ "repo": repo, "revision": revision, "bytes": disk_bytes, "reason": one.reason.as_str() });
        end(store, trash, data).await?;
    }
    Ok(decided)
}

/// Records a deletion, once, and ends it.
async fn end(store: &Store, trash: Trash, data: Value) -> Result<(), Error> {
    let (subject, at_ms) = (trash.key.to_string(), trash.at_ms);
    store
        .db()
        .write("model deleted", move |tx| {
            let is_told = tx
                .prepare_cached("SELECT 1 FROM events WHERE subject = ?1 AND kind = ?2 AND at_ms = ?3")?
                .exists(params![subject, DELETED, at_ms])?;
            if !is_told {
                events::append(tx, at_ms, DELETED, &subject, &data)?;
            }
            Ok::<_, store::Error>(())
        })
        .await?;
    tokio::task::spawn_blocking(move || trash.delete()).await??;
    Ok(())
}

#[cfg(test)]
#[path = "collection_tests.rs"]
mod tests;

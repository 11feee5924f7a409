//! The status page: the whole appliance on one screen.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{
    Ranking, Run, Vector, Window,
    records::{ranking, vectors},
    rows,
    runs::open_runs,
};
use crate::{
    clock::UnixMs,
    fault::Fault,
    ids::Digest,
    intake::{ChainFacts, ChainTrouble},
    pipeline::{Challenges, DroppedWeights, Error, Gap, dropped_weights, life, scheduler::Scheduler},
    store::events,
};

/// Open runs that are shown; a challenge has one at a time, except for runs of one.
const OPEN_RUNS_MAX: u32 = 100;

/// Gaps that are shown: more are told by their number of blocks.
const GAPS_MAX: u32 = 16;

/// Whether the appliance answers, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok` once the chain has been read, `starting` before.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// The newest finalized block that was read.
    pub block: Option<u64>,
}

/// The whole appliance on one screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// When this was said.
    pub now_ms: UnixMs,
    /// The chain; `None` until it has been read.
    pub subnet: Option<Subnet>,
    /// What stands between the appliance and the chain; `None` when nothing does.
    #[serde(default)]
    pub chain_trouble: Option<ChainTrouble>,
    /// How many tasks of each name are running.
    pub tasks: BTreeMap<String, usize>,
    /// The machine's slots.
    pub slots: SlotStatus,
    /// The challenges, by slug.
    pub challenges: Vec<ChallengeStatus>,
    /// Runs that are not decided yet.
    pub runs: Vec<Run>,
    /// The newest weight vector.
    pub vector: Option<Vector>,
    /// Why weights cannot be set; `None` when nothing stands in the way.
    pub weights_refused: Option<WeightsRefused>,
    /// Hidden weights that came to nothing, until later ones of their mechanism are confirmed.
    #[serde(default)]
    pub weights_dropped: Vec<DroppedWeights>,
    /// Blocks of the chain that could not be read.
    pub gap_blocks: u64,
    /// Which ones, the first of them.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// How many uploads and commitments were turned away.
    pub refusals: u64,
    /// The number of the newest event.
    pub last_event: i64,
}

/// Why weights cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsRefused {
    /// The reason.
    pub fault: Fault,
    /// Since when.
    pub since_ms: UnixMs,
    /// How often it was tried.
    pub times: u64,
}

/// The subnet as the chain shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its number.
    pub netuid: u16,
    /// The chain's genesis hash.
    pub genesis: Digest,
    /// The newest block.
    pub head: u64,
    /// The newest finalized block.
    pub finalized: u64,
    /// When the finalized block was read.
    pub seen_ms: UnixMs,
    /// Whether this is what was known before a restart and the chain has not confirmed it yet.
    #[serde(default)]
    pub stored: bool,
    /// Blocks of one epoch.
    pub tempo: u64,
    /// The block at which the next epoch ends.
    pub next_epoch_block: Option<u64>,
    /// Blocks until then.
    pub blocks_to_epoch: Option<u64>,
    /// How long a block takes, in milliseconds.
    pub block_ms: u64,
    /// How many hotkeys are registered.
    pub registered: usize,
}

impl From<&ChainFacts> for Subnet {
    fn from(facts: &ChainFacts) -> Self {
        Self {
            netuid: facts.netuid,
            genesis: facts.genesis,
            head: facts.head,
            finalized: facts.finalized,
            seen_ms: facts.seen_ms,
            stored: facts.stored,
            tempo: facts.tempo,
            next_epoch_block: facts.next_epoch_block,
            blocks_to_epoch: facts.blocks_to_epoch(),
            block_ms: facts.block_ms,
            registered: facts.registered.len(),
        }
    }
}

/// What the machine has and what of it is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// CPU slots.
    pub cpus: u32,
    /// CPU slots that are free.
    pub cpus_free: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Memory that is free, in MiB.
    pub memory_mib_free: u64,
    /// GPUs.
    pub gpus: usize,
    /// GPUs that are free.
    pub gpus_free: usize,
    /// Bytes of the disk that models may take.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Bytes of them that are free.
    #[serde(default)]
    pub disk_bytes_free: u64,
    /// Models that wait for some.
    #[serde(default)]
    pub disk_waiting_models: u32,
    /// Bytes of these models.
    #[serde(default)]
    pub disk_waiting_bytes: u64,
}

impl From<&Scheduler> for SlotStatus {
    fn from(scheduler: &Scheduler) -> Self {
        let (all, free, waits) = (scheduler.slots(), scheduler.free(), scheduler.disk().waits());
        Self {
            cpus: all.cpus,
            cpus_free: free.cpus,
            memory_mib: all.memory_mib,
            memory_mib_free: free.memory_mib,
            gpus: all.gpus.len(),
            gpus_free: free.gpus.len(),
            disk_bytes: all.disk_bytes,
            disk_bytes_free: free.disk_bytes,
            disk_waiting_models: waits.models,
            disk_waiting_bytes: waits.bytes,
        }
    }
}

/// One challenge in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChallengeStatus {
    /// Its slug.
    pub slug: String,
    /// Its part of the subnet's emission, 0 to 1.
    pub share: f64,
    /// How many submissions stand where, by stage and status.
    pub submissions: Vec<Count>,
    /// The newest ranking.
    pub ranking: Option<Ranking>,
}

/// How many submissions stand at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Name of the stage.
    pub stage: String,
    /// Their status.
    pub status: life::Status,
    /// How many.
    pub count: u64,
}

/// What the status page is made from besides the database.
pub(in crate::server) struct Sources<'a> {
    pub(in crate::server) version: &'a str,
    pub(in crate::server) now_ms: UnixMs,
    pub(in crate::server) facts: Option<&'a ChainFacts>,
    pub(in crate::server) trouble: Option<ChainTrouble>,
    pub(in crate::server) tasks: BTreeMap<&'static str, usize>,
    pub(in crate::server) slots: SlotStatus,
    pub(in crate::server) challenges: &'a Challenges,
}

/// The whole appliance on one screen, as of one moment of the database.
pub(in crate::server) fn status(conn: &Connection, sources: Sources<'_>) -> Result<Status, Error> {
    let mut challenges = Vec::new();
    for challenge in sources.challenges.values() {
        challenges.push(ChallengeStatus {
            slug: challenge.slug.clone(),
            share: challenge.share,
            submissions: counts(conn, sources.challenges, &challenge.slug)?,
            ranking: ranking(conn, &challenge.slug, None)?,
        });
    }
    let newest = Window { after: i64::MAX, limit: 1 };
    let number = |sql: &str| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, u64>(0));
    Ok(Status {
        version: sources.version.to_owned(),
        now_ms: sources.now_ms,
        subnet: sources.facts.map(Subnet::from),
        chain_trouble: sources.trouble,
        tasks: sources.tasks.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        slots: sources.slots,
        challenges,
        runs: open_runs(conn, sources.challenges, OPEN_RUNS_MAX)?,
        vector: vectors(conn, newest)?.items.pop(),
        weights_refused: weights_refused(conn)?,
        weights_dropped: dropped_weights(conn)?,
        gap_blocks: number("SELECT coalesce(sum(to_block - from_block + 1), 0) FROM gaps")?,
        gaps: gaps(conn)?,
        refusals: number("SELECT count(*) FROM refusals")?,
        last_event: events::head(conn)?.0,
    })
}

fn gaps(conn: &Connection) -> Result<Vec<Gap>, Error> {
    rows(conn, "SELECT from_block, to_block FROM gaps ORDER BY from_block LIMIT ?1", params![GAPS_MAX], |row| {
        Ok(Gap { from: row.get(0)?, to: row.get(1)? })
    })
}

fn weights_refused(conn: &Connection) -> Result<Option<WeightsRefused>, Error> {
    let row: Option<(String, UnixMs, u64)> = conn
        .prepare_cached("SELECT fault, since_ms, times FROM weight_refusals ORDER BY last_ms DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    row.map(|(fault, since_ms, times)| Ok(WeightsRefused { fault: serde_json::from_str(&fault)?, since_ms, times }))
        .transpose()
}

fn counts(conn: &Connection, challenges: &Challenges, slug: &str) -> Result<Vec<Count>, Error> {
    rows(
        conn,
        "SELECT stage, status, count(*) FROM submissions WHERE challenge = ?1 GROUP BY stage, status
         ORDER BY stage, status",
        params![slug],
        |row| {
            let stage: usize = row.get(0)?;
            let status: String = row.get(1)?;
            let step = challenges.get(slug).and_then(|challenge| challenge.step(stage));
            Ok(Count {
                stage: step.map(|step| step.name.clone()).unwrap_or_default(),
                status: life::Status::parse(&status).ok_or(Error::Foreign { what: "status", value: status })?,
                count: row.get(2)?,
            })
        },
    )
}

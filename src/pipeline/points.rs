//! Breakpoints: the named moments between decision, commit, effect and record at which a crash test stops the process.
//!
//! Owns their names and the stop itself. Refuses to do anything unless a point was armed in the settings, which only
//! tests do. The pipeline and the actors call [`Points::reach`].

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use super::life::words;
use serde::{Deserialize, Serialize};

words! {
    /// A moment at which a crash must lose nothing and repeat nothing that can be seen.
    Point {
        /// An upload's bytes are kept; it is not joined to its commitment.
        UploadKept = "upload_kept",
        /// An upload is joined; its sender was not told.
        UploadRecorded = "upload_recorded",
        /// An attempt is committed; its stage has not begun.
        AttemptClaimed = "attempt_claimed",
        /// A stage has decided; nothing is committed.
        StageDecided = "stage_decided",
        /// A stage's outcome is committed; nobody was told.
        StageRecorded = "stage_recorded",
        /// A replica is claimed; its engine has not begun.
        ReplicaClaimed = "replica_claimed",
        /// An engine has answered; nothing is committed.
        ReplicaDone = "replica_done",
        /// A replica's answer is committed.
        ReplicaRecorded = "replica_recorded",
        /// A finalized block is read; nothing of it is committed.
        BlockRead = "block_read",
        /// A finalized block is committed; nobody was told.
        BlockRecorded = "block_recorded",
        /// A fold has decided inside its transaction; nothing is committed.
        FoldDecided = "fold_decided",
        /// A fold is committed.
        FoldRecorded = "fold_recorded",
        /// A rule has ranked; nothing is committed.
        RankingDecided = "ranking_decided",
        /// A ranking is committed.
        RankingRecorded = "ranking_recorded",
        /// A weight vector is decided and signed; nothing is committed.
        VectorDecided = "vector_decided",
        /// A weight vector and its signed extrinsic are committed; nothing was sent.
        VectorRecorded = "vector_recorded",
        /// The extrinsic was sent; that is not recorded.
        ExtrinsicSent = "extrinsic_sent",
        /// The extrinsic's sending is recorded; its effect was not read back.
        ExtrinsicRecorded = "extrinsic_recorded",
        /// The weights were read back equal; that is not recorded.
        ReadBack = "read_back",
        /// The confirmation is recorded.
        Confirmed = "confirmed",
    }
}

/// The armed point, if any.
#[derive(Debug, Default)]
pub struct Points {
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    point: Point,
    /// How many times the point may be passed first.
    passes: AtomicU32,
    marker: PathBuf,
}

impl Points {
    /// Stops the process for good at this point, the `passes`-th next time it is reached, after writing the marker
    /// file. Whoever armed it then kills the process.
    #[must_use]
    pub const fn armed(point: Point, passes: u32, marker: PathBuf) -> Self {
        Self { armed: Some(Armed { point, passes: AtomicU32::new(passes), marker }) }
    }

    /// Passes the point, or stops there for good.
    pub fn reach(&self, point: Point) {
        let Some(armed) = &self.armed else { return };
        if armed.point != point {
            return;
        }
        let left = armed.passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |passes| passes.checked_sub(1));
        if left.is_ok() {
            return;
        }
        tracing::warn!(point = point.as_str(), "stopping at an armed breakpoint");
        // The test waits for this file; without it the test fails by its own bound.
        drop(std::fs::write(&armed.marker, point.as_str()));
        loop {
            std::thread::park();
        }
    }
}

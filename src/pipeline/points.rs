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
        /// A commit of hidden weights was found on chain; that is not recorded.
        CommitFound = "commit_found",
        /// A commit of hidden weights is recorded.
        CommitRecorded = "commit_recorded",
        /// The reveal of hidden weights is signed; nothing is committed.
        RevealDecided = "reveal_decided",
        /// The reveal of hidden weights is committed; nothing was sent.
        RevealRecorded = "reveal_recorded",
        /// Hidden weights were found to be gone without effect; that is not recorded.
        DropFound = "drop_found",
        /// That hidden weights had no effect is recorded.
        DropRecorded = "drop_recorded",
        /// The weights were read back equal; that is not recorded.
        ReadBack = "read_back",
        /// The confirmation is recorded.
        Confirmed = "confirmed",
    }
}

impl Point {
    /// Whether it comes only where weights are hidden before they count.
    #[must_use]
    pub const fn is_of_hidden_weights(self) -> bool {
        matches!(
            self,
            Self::CommitFound
                | Self::CommitRecorded
                | Self::RevealDecided
                | Self::RevealRecorded
                | Self::DropFound
                | Self::DropRecorded
        )
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
    stop: Stop,
}

#[derive(Debug)]
enum Stop {
    /// For good, after writing this file.
    Marked(PathBuf),
    /// By unwinding, so that a test in this process can go on from there.
    #[cfg(test)]
    Unwound,
}

impl Points {
    /// Stops the process for good at this point, the `passes`-th next time it is reached, after writing the marker
    /// file. Whoever armed it then kills the process.
    #[must_use]
    pub const fn armed(point: Point, passes: u32, marker: PathBuf) -> Self {
        Self { armed: Some(Armed { point, passes: AtomicU32::new(passes), stop: Stop::Marked(marker) }) }
    }

    /// Unwinds from this point, the first time it is reached.
    #[cfg(test)]
    pub const fn unwinding(point: Point) -> Self {
        Self { armed: Some(Armed { point, passes: AtomicU32::new(0), stop: Stop::Unwound }) }
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
        match &armed.stop {
            // The test waits for this file; without it the test fails by its own bound.
            Stop::Marked(marker) => drop(std::fs::write(marker, point.as_str())),
            #[cfg(test)]
            Stop::Unwound => std::panic::resume_unwind(Box::new(point)),
        }
        loop {
            std::thread::park();
        }
    }
}

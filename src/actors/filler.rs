//! The gap filler: reads blocks again that could not be read when it was their turn, once an archive has them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    follower::Error,
    reading::{Rescanned, rescan},
    reconcile::chain_of,
};
use crate::{chain::Client, pipeline::Pipeline};

/// How often it looks whether there is something to fill, in milliseconds.
const LOOK_MS: u64 = 60_000;
/// Longest wait after an archive did not answer, or did not have the blocks either.
const LOOK_MS_MAX: u64 = 3_600_000;

/// The gap filler. It stands beside the follower, which goes on without it: whatever it finds takes the place that the
/// chain's own order gives it, however late it is found.
pub struct Filler {
    /// The chain, with an archive.
    pub client: Client,
    /// The subnet.
    pub netuid: u16,
    /// Where what is found goes.
    pub pipeline: Pipeline,
}

impl Filler {
    /// Fills gaps until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        let mut wait_ms = LOOK_MS;
        loop {
            let filled = async {
                self.pipeline.clock().sleep(Duration::from_millis(wait_ms)).await;
                self.fill().await
            };
            let filled = tokio::select! {
                () = token.cancelled() => return,
                filled = filled => filled,
            };
            wait_ms = match filled {
                Ok(0) => LOOK_MS,
                Ok(_left) => (wait_ms * 2).min(LOOK_MS_MAX),
                Err(error) => {
                    warn!(error = %chain_of(&error), "gaps in what was read of the chain stay open");
                    (wait_ms * 2).min(LOOK_MS_MAX)
                }
            };
        }
    }

    /// Reads what is missing; returns how many gaps are left.
    ///
    /// # Errors
    /// When no archive answers, or the store fails. What was read until then is kept.
    pub async fn fill(&self) -> Result<usize, Error> {
        let gaps = self.pipeline.gaps(self.netuid).await?;
        if gaps.is_empty() && self.client.archive_trouble().is_none() {
            return Ok(0);
        }
        self.client.ask_archive().await?;
        for gap in gaps {
            let done = rescan(&self.client, self.netuid, &self.pipeline, gap.from, gap.to, &|_block| {}).await?;
            let Rescanned { blocks_read, submissions, sighted, .. } = done;
            let (new, earlier) = (sighted.new, sighted.earlier);
            info!(from = gap.from, to = gap.to, blocks_read, new, earlier, submissions, "blocks of a gap were read");
        }
        Ok(self.pipeline.gaps(self.netuid).await?.len())
    }
}

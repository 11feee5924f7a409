//! Bounds of what a profile may say, each with its reason.

/// Characters of a slug: it stands in commitments of at most 128 bytes.
pub const SLUG_CHARS: usize = 31;
/// Characters of a title: one line of a terminal.
pub const TITLE_CHARS: usize = 120;
/// Stages of one challenge: three times the longest that is known.
pub const STAGES: usize = 16;
/// Bytes of one artifact: twice the largest model in use.
pub const ARTIFACT_BYTES: u64 = 4 * 1024 * 1024 * 1024 * 1024;
/// Blocks of any window: about four months.
pub const BLOCKS: u64 = 1_000_000;
/// The number of any block: what SQLite and JSON hold exactly.
pub const BLOCK_NUMBER: u64 = 1 << 52;
/// Rao of a fee: a thousand units of the chain's currency, far beyond what anybody would pay to hand something in.
pub const FEE_RAO: u64 = 1_000_000_000_000;
/// Blocks that a run waits for its seed: nodes forget the state of older blocks.
pub const SEED_DELAY_BLOCKS: u64 = 200;
/// Uploads of one hotkey in an hour: one a second.
pub const UPLOADS_PER_HOUR: u32 = 3600;
/// Contestants of one run: four for every uid of a subnet. Their evidence must fit into one bundle.
pub const CONTESTANTS: u32 = 1024;
/// Runs that follow without new contestants.
pub const ROUNDS: u32 = 100;
/// Retries of one class at one stage: beyond this nothing is gained.
pub const RETRIES: u32 = 100;
/// Milliseconds of any lease or back-off: one day.
pub const WAIT_MS: u64 = 24 * 60 * 60 * 1000;
/// Milliseconds of the shortest lease: three heartbeats of a busy worker.
pub const LEASE_MS_MIN: u64 = 100;

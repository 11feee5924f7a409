//! The devnet's public numbers: what one client may ask of it.
//!
//! Owns every bound of this room. Refuses to enforce them: the file that reads the input does.
//! Only `devnet/` uses it.

/// Bytes of one JSON-RPC request: above the 16 MiB that a node must accept, far below what hurts.
pub const REQUEST_BYTES: u32 = 32 * 1024 * 1024;
/// Bytes of one JSON-RPC answer: the metadata is 0.7 MB of hex; a page of 1000 large values stays below.
pub const RESPONSE_BYTES: u32 = 64 * 1024 * 1024;
/// Connections at once: a test with a thousand clients fits.
pub const CONNECTIONS: usize = 1024;
/// Subscriptions of one connection, a node's own default.
pub const SUBSCRIPTIONS_PER_CONNECTION: u32 = 1024;
/// Requests of one batch; the rest of the world sends a handful.
pub const BATCH_REQUESTS: u32 = 10_000;
/// Messages waiting for one slow client before it feels back-pressure.
pub const MESSAGES_PER_CONNECTION: u32 = 1024;
/// Bytes of one extrinsic: a runtime upgrade does not fit and is not wanted.
pub const EXTRINSIC_BYTES: usize = 256 * 1024;
/// Levels of calls within calls (batch, sudo). The runtime's decoder stops at 256; nobody needs more than a few.
pub const CALL_DEPTH: usize = 8;
/// Calls of one batch.
pub const BATCH_CALLS: usize = 1024;
/// Extrinsics waiting in the pool, as a node has it by default.
pub const POOL_EXTRINSICS: usize = 8192;
/// Extrinsics of one account waiting in the pool, so that one account cannot fill it.
pub const POOL_EXTRINSICS_PER_ACCOUNT: usize = 256;
/// Signed extrinsics of one block.
pub const BLOCK_EXTRINSICS: usize = 2048;
/// Hashes of extrinsics that may not come back soon.
pub const BANNED_EXTRINSICS: usize = 4096;
/// Blocks for which such an extrinsic stays out (a node says 30 minutes).
pub const BAN_BLOCKS: u32 = 150;
/// Watchers of one extrinsic.
pub const WATCHERS_PER_EXTRINSIC: usize = 16;
/// Blocks whose state stays readable. A light mainnet node keeps about 300, an hour; blocks come faster here, and a
/// slow reader needs minutes.
pub const STATE_BLOCKS: u32 = 4096;
/// Blocks whose bodies stay readable.
pub const BODY_BLOCKS: u32 = 16_384;
/// Blocks whose headers stay readable; of older ones only the hashes stay, so that a chain of any length fits into
/// memory.
pub const HEADER_BLOCKS: u32 = 65_536;
/// Pulses of the devnet's own beacon that stay readable. The chain keeps a week, 216000; here a round comes with each
/// block, and this many blocks are the longest time between a commit and its reveal that anybody tries out.
pub const PULSES_KEPT: u64 = 21_600;
/// Pulses made or forgotten in one block, so that a jump of the chain's time costs no block more than a moment.
pub const PULSES_PER_BLOCK: u64 = 256;
/// Storage keys in one page.
pub const KEYS_PAGE: usize = 1000;
/// Storage keys in one unpaged answer, in one query and in one storage subscription.
pub const KEYS_QUERY: usize = 65_536;
/// Blocks that one `dev_newBlock` makes.
pub const NEW_BLOCKS: u32 = 100_000;
/// Blocks made under one lock and one disk synchronisation.
pub const BLOCKS_PER_TURN: u32 = 64;
/// Heads waiting for one subscriber before it skips to the newest.
pub const HEADS_PER_SUBSCRIBER: usize = 4096;
/// Bytes of one record of the block log; a full block is smaller.
pub const RECORD_BYTES: u32 = 256 * 1024 * 1024;
/// Bytes of a method's name that is repeated in an answer.
pub const NAME_CHARS: usize = 120;
/// Subnets, as the chain's own limit.
pub const SUBNETS: usize = 128;
/// Uids in one subnet.
pub const UIDS: u16 = 4096;

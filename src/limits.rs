//! Public numbers: every limit on what comes from outside, with its reason.
//!
//! Owns the constants that no profile may raise. Refuses to enforce them: the room that reads the input does,
//! and tests it at the edge. Every room may use it.

/// Bytes of one HTTP request body other than an artifact: the largest JSON a client has reason to send.
pub const JSON_BODY_BYTES: u64 = 256 * 1024;
/// Bytes of a profile or settings file: a thousand times the largest we ship.
pub const CONFIG_FILE_BYTES: u64 = 1024 * 1024;
/// Characters of an SS58 address accepted before decoding: base58 decoding is quadratic in its input.
pub const SS58_CHARS: usize = 64;
/// Rows of one page of a list.
pub const PAGE_ROWS: u32 = 1000;

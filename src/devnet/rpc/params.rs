//! Parameters and errors, as Substrate spells them.
//!
//! Owns the reading of hashes, bytes, numbers and addresses from JSON and the numbers of errors. Refuses to know the
//! methods. Only the methods use it.

use jsonrpsee::types::{ErrorObjectOwned, ParamsSequence};
use serde_json::Value;

use crate::devnet::{
    chain::{Chain, Invalid, MakeError, Unreadable},
    hashing::{Hash, hex0x},
    pool::Refusal,
};

/// JSON-RPC's own number for wrong parameters.
const INVALID_PARAMS: i32 = -32602;
/// A node's number for errors of state queries.
const CLIENT: i32 = 4003;

/// An error that the parameters caused.
pub fn invalid(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS, message, None::<()>)
}

/// An error of a query, in the node's wording.
pub fn client(message: impl std::fmt::Display) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(CLIENT, format!("Client error: {message}"), None::<()>)
}

/// The next parameter, bytes in hex with or without `0x`.
pub fn bytes(params: &mut ParamsSequence<'_>) -> Result<Vec<u8>, ErrorObjectOwned> {
    let text: std::borrow::Cow<'_, str> = params.next()?;
    decode_hex(&text)
}

/// The next parameter, bytes in hex, or nothing.
pub fn optional_bytes(params: &mut ParamsSequence<'_>) -> Result<Option<Vec<u8>>, ErrorObjectOwned> {
    let text: Option<std::borrow::Cow<'_, str>> = params.optional_next()?;
    text.map(|text| decode_hex(&text)).transpose()
}

/// Bytes from hex with or without `0x`.
pub fn decode_hex(text: &str) -> Result<Vec<u8>, ErrorObjectOwned> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|error| invalid(format!("bytes are not hex: {error}")))
}

/// The next parameter, a block's hash, or nothing for the best block.
pub fn hash(params: &mut ParamsSequence<'_>) -> Result<Option<Hash>, ErrorObjectOwned> {
    let given = optional_bytes(params)?;
    given.map(|bytes| bytes.try_into().map_err(|_bytes| invalid("a block hash has 32 bytes"))).transpose()
}

/// The height whose state is asked for, or the node's error.
pub fn readable(chain: &Chain, hash: Option<&Hash>) -> Result<u32, ErrorObjectOwned> {
    chain.readable(hash).map_err(|unreadable| match unreadable {
        Unreadable::Unknown(hash) => {
            client(format!("UnknownBlock: Header was not found in the database: {}", hex0x(&hash)))
        }
        Unreadable::Discarded(hash) => {
            client(format!("Api called for an unknown Block: State already discarded for {}", hex0x(&hash)))
        }
    })
}

/// A number that may be written as one, or as text in decimal or hex.
pub fn number(value: &Value) -> Result<u64, ErrorObjectOwned> {
    let wrong = || invalid("not a number");
    match value {
        Value::Number(number) => number.as_u64().ok_or_else(wrong),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map_err(|_source| wrong()),
            None => text.parse().map_err(|_source| wrong()),
        },
        _ => Err(wrong()),
    }
}

/// An account: SS58, or 32 bytes in hex.
pub fn account(text: &str) -> Result<[u8; 32], ErrorObjectOwned> {
    let wrong = || invalid("not an account: an SS58 address or 32 bytes in hex");
    if let Some(digits) = text.strip_prefix("0x") {
        let mut account = [0; 32];
        return hex::decode_to_slice(digits, &mut account).map(|()| account).map_err(|_source| wrong());
    }
    text.parse::<crate::ids::Hotkey>().map(|hotkey| hotkey.0).map_err(|_source| wrong())
}

/// The pool's refusal as a node words it.
pub fn refused(invalid: &Invalid) -> ErrorObjectOwned {
    let owned = |code, message: &str, data: Option<String>| ErrorObjectOwned::owned(code, message, data);
    match invalid {
        Invalid::Format(_) => owned(1001, &invalid.to_string(), None),
        Invalid::Pool(Refusal::Banned) => owned(1012, "Transaction is temporarily banned", None),
        Invalid::Pool(Refusal::AlreadyImported) => owned(1013, "Transaction Already Imported", None),
        Invalid::Pool(Refusal::LowPriority) => {
            let text = "The transaction has too low priority to replace another transaction already in the pool.";
            owned(1014, "Priority is too low", Some(text.to_owned()))
        }
        Invalid::Pool(Refusal::Full) => owned(1016, "Immediately Dropped", Some("the pool is full".to_owned())),
        _ => owned(1010, "Invalid Transaction", Some(invalid.to_string())),
    }
}

/// Why a control did nothing.
pub fn not_made(error: &MakeError) -> ErrorObjectOwned {
    match error {
        MakeError::Refused(reason) => invalid(reason.clone()),
        MakeError::Log(_) => client(error),
    }
}

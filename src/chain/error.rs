//! What can go wrong between us and the chain, classified once.
//!
//! Owns the reading of a node's error texts. Refuses to decide what to do about them: the class in the code does.
//! The whole room returns it.

use std::error::Error as _;

use subxt_rpcs::Error as RpcError;

use super::{codes, keypair::KeyError};
use crate::{
    fault::{Code, Fault},
    ids::Digest,
};

/// Characters of a node's message that are kept: enough to tell errors apart, too few to fill a log.
const MESSAGE_CHARS: usize = 300;

/// A failed act of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint's address is unusable.
    #[error("`{endpoint}` is not a usable endpoint")]
    Endpoint {
        /// The address as it was given.
        endpoint: String,
    },
    /// No endpoint could be reached.
    #[error("no endpoint of {endpoints} answered `{method}`")]
    Unreachable {
        /// The addresses that were tried.
        endpoints: String,
        /// The method that was asked.
        method: String,
        /// The last failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request got no answer in time.
    #[error("`{method}` was not answered within {after_ms} ms")]
    Timeout {
        /// The method that was asked.
        method: String,
        /// How long was waited.
        after_ms: u64,
    },
    /// The node answered with an RPC error.
    #[error("the node refused `{method}`: {message} ({code})")]
    Refused {
        /// The method that was asked.
        method: String,
        /// The JSON-RPC error code.
        code: i32,
        /// The node's text.
        message: String,
    },
    /// The node, or what stands in front of it, was asked too often.
    #[error("the node refused `{method}` because it was asked too often: {message}")]
    RateLimited {
        /// The method that was asked.
        method: String,
        /// The node's text.
        message: String,
    },
    /// An endpoint's certificate is not one that this machine trusts.
    #[error("the certificate of {endpoint} is not trusted: {detail}")]
    Certificate {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An answer that cannot be right.
    #[error("the answer about {what} is not valid: {detail}")]
    Answer {
        /// What was asked for.
        what: String,
        /// Why it cannot be right.
        detail: String,
    },
    /// The node does not know the block.
    #[error("block {block} is not known to the node")]
    UnknownBlock {
        /// The block's hash or number.
        block: String,
    },
    /// The node has discarded the state of the block.
    #[error("the node no longer keeps the state of block {block}")]
    StatePruned {
        /// The block's hash or number.
        block: String,
    },
    /// The node has discarded the state of the block, and no archive could be asked.
    #[error("the node no longer keeps that state, and no archive could be asked for it: {detail}")]
    Archive {
        /// Whether every archive serves another chain.
        is_foreign: bool,
        /// What is wrong with the last archive that was tried.
        detail: String,
    },
    /// The endpoint serves another chain.
    #[error("the endpoint serves the chain with genesis {found}, not {expected}")]
    WrongNetwork {
        /// The genesis hash that was expected.
        expected: Digest,
        /// The genesis hash that the endpoint has.
        found: Digest,
    },
    /// The runtime lacks something.
    #[error("runtime {spec_version} has no {item}")]
    Missing {
        /// The pallet item, such as `SubtensorModule.Keys`.
        item: String,
        /// The runtime's version.
        spec_version: u32,
    },
    /// The runtime has something in another form than this binary knows.
    #[error("runtime {spec_version} has {item} in an unknown form: {detail}")]
    Changed {
        /// The pallet item.
        item: String,
        /// The runtime's version.
        spec_version: u32,
        /// What did not fit.
        detail: String,
    },
    /// The subnet does not exist.
    #[error("subnet {netuid} does not exist at block {block}")]
    SubnetMissing {
        /// The subnet.
        netuid: u16,
        /// The block's hash.
        block: Digest,
    },
    /// The transaction pool refused the call.
    #[error("the transaction pool refused the call: {name}")]
    Pool {
        /// The chain's own name for the reason, or the node's text.
        name: String,
    },
    /// The call was included and failed.
    #[error("the call was included and failed: {name}")]
    Dispatch {
        /// The chain's own name for the error, without its pallet.
        name: String,
    },
    /// The call expired without being included.
    #[error("the call was in no block before it expired at block {era_death}")]
    Expired {
        /// The first block in which it can no longer be included.
        era_death: u64,
    },
    /// A key could not be used.
    #[error("the key is not usable")]
    Key(#[from] KeyError),
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Endpoint { .. } => codes::ENDPOINT_INVALID,
            Self::Unreachable { .. } => codes::UNREACHABLE,
            Self::Timeout { .. } => codes::TIMEOUT,
            Self::Refused { .. } => codes::RPC_REFUSED,
            Self::RateLimited { .. } => codes::RATE_LIMITED,
            Self::Certificate { .. } => codes::CERTIFICATE,
            Self::Answer { .. } => codes::ANSWER_INVALID,
            Self::UnknownBlock { .. } => codes::BLOCK_UNKNOWN,
            Self::StatePruned { .. } => codes::STATE_PRUNED,
            Self::Archive { is_foreign: false, .. } => codes::ARCHIVE_UNREACHABLE,
            Self::WrongNetwork { .. } | Self::Archive { .. } => codes::WRONG_NETWORK,
            Self::Missing { .. } | Self::Changed { .. } => codes::RUNTIME_UNKNOWN,
            Self::SubnetMissing { .. } => codes::SUBNET_MISSING,
            Self::Dispatch { name } => codes::code_of(name),
            Self::Pool { name } => match codes::code_of(name) {
                other if other == codes::CALL_FAILED => codes::POOL_REFUSED,
                known => known,
            },
            Self::Expired { .. } => codes::EXTRINSIC_EXPIRED,
            Self::Key(_) => codes::KEY_INVALID,
        }
    }

    /// The failure as it is recorded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let mut detail = self.to_string();
        let mut next = self.source();
        while let Some(source) = next {
            detail.push_str(": ");
            detail.push_str(&source.to_string());
            next = source.source();
        }
        self.code().because(bounded(&detail))
    }

    /// The chain's own name for the failure, when the chain refused or failed a call.
    #[must_use]
    pub fn chain_name(&self) -> Option<&str> {
        match self {
            Self::Pool { name } | Self::Dispatch { name } => Some(name),
            _ => None,
        }
    }

    /// Whether the state of the block is gone, as far as can be told now.
    #[must_use]
    pub const fn is_state_gone(&self) -> bool {
        matches!(self, Self::StatePruned { .. } | Self::Archive { .. })
    }

    pub(super) fn answer(what: impl Into<String>, detail: impl ToString) -> Self {
        Self::Answer { what: what.into(), detail: bounded(&detail.to_string()) }
    }

    /// Classifies what the RPC layer reported about one request.
    pub(super) fn from_rpc(method: &str, error: RpcError) -> Self {
        match error {
            RpcError::User(user) => Self::from_node(method, user.code, &user.message, user.data.as_deref()),
            RpcError::Client(source) => match source.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(source) => Self::Unreachable { endpoints: "the node".into(), method: method.into(), source },
            },
            RpcError::Deserialization(source) => Self::answer(format!("`{method}`"), source),
            RpcError::Decode(source) => Self::answer(format!("`{method}`"), source),
            other => Self::Unreachable { endpoints: "the node".into(), method: method.into(), source: other.into() },
        }
    }

    fn from_node(method: &str, code: i32, message: &str, data: Option<&serde_json::value::RawValue>) -> Self {
        let data_text = data.map(|raw| raw_text(raw.get())).unwrap_or_default();
        let whole = if data_text.is_empty() { message.to_owned() } else { format!("{message}: {data_text}") };
        let whole = bounded(&whole);
        if is_rate_limit(code, &whole) {
            return Self::RateLimited { method: method.to_owned(), message: whole };
        }
        if whole.contains(DISCARDED) {
            return Self::StatePruned { block: whole.rsplit(' ').next().unwrap_or_default().to_owned() };
        }
        if whole.contains("UnknownBlock") || whole.contains("unknown Block") || whole.contains("Unknown block") {
            return Self::UnknownBlock { block: whole };
        }
        match (method.starts_with("author_"), code) {
            (true, POOL_INVALID..=POOL_LAST) => Self::Pool { name: pool_name(code, &data_text, &whole) },
            _ => Self::Refused { method: method.to_owned(), code, message: whole },
        }
    }
}

/// What a node says of a block whose state it no longer keeps.
pub(super) const DISCARDED: &str = "State already discarded";
/// JSON-RPC's number for an error of the server.
pub(super) const INTERNAL: i32 = -32603;

/// Whether a node, or a proxy in front of it, says that it was asked too often. There is no number that all use.
pub(super) fn is_rate_limit(code: i32, message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    matches!(code, -32999 | 429 | -32429) || text.contains("rate limit") || text.contains("too many requests")
}

/// First JSON-RPC code of the transaction pool: the transaction is invalid.
const POOL_INVALID: i32 = 1010;
/// The transaction is in the pool already.
const POOL_IMPORTED: i32 = 1013;
/// Another transaction with the same nonce and at least this priority is in the pool.
const POOL_PRIORITY: i32 = 1014;
/// Last JSON-RPC code of the transaction pool that we classify.
const POOL_LAST: i32 = 1018;
/// Our name for [`POOL_IMPORTED`]: success, seen from here.
pub(super) const ALREADY_IMPORTED: &str = "AlreadyImported";

fn pool_name(code: i32, data: &str, whole: &str) -> String {
    let text = if data.is_empty() { whole } else { data };
    let custom = text
        .split_once("Custom error: ")
        .and_then(|(_, number)| number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    let name = match (code, custom) {
        (_, Some(number)) => codes::custom_name(number),
        (POOL_IMPORTED, None) => ALREADY_IMPORTED,
        (POOL_PRIORITY, None) => "PriorityTooLow",
        _ if text.contains("outdated") => "Stale",
        _ if text.contains("bad signature") => "BadProof",
        _ if text.contains("Inability to pay") => "Payment",
        _ if text.contains("ancient birth block") => "AncientBirthBlock",
        _ => return text.to_owned(),
    };
    name.to_owned()
}

/// The text of a JSON value: a string without its quotes, anything else as it is.
fn raw_text(raw: &str) -> String {
    serde_json::from_str::<String>(raw).unwrap_or_else(|_not_a_string| raw.to_owned())
}

fn bounded(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Class;

    fn node(method: &str, code: i32, message: &str, data: Option<&str>) -> Error {
        let raw = data.map(|text| serde_json::value::to_raw_value(text).unwrap());
        Error::from_node(method, code, message, raw.as_deref())
    }

    #[test]
    fn a_pool_refusal_carries_the_chains_name() {
        let error = node("author_submitExtrinsic", 1010, "Invalid Transaction", Some("Custom error: 19"));
        assert_eq!(error.chain_name(), Some("HotKeyNotRegisteredInSubNet"));
        assert_eq!(error.fault().code, "chain_hotkey_not_registered");
        let error = node(
            "author_submitExtrinsic",
            1010,
            "Invalid Transaction",
            Some("Inability to pay some fees (e.g. account balance too low)"),
        );
        assert_eq!((error.chain_name(), error.code().name), (Some("Payment"), "chain_balance_too_low"));
        let error = node("author_submitExtrinsic", 1010, "Invalid Transaction", Some("Transaction is outdated"));
        assert_eq!((error.chain_name(), error.code().name), (Some("Stale"), "chain_pool_refused"));
        let error = node("author_submitExtrinsic", 1013, "Transaction Already Imported", None);
        assert_eq!(error.chain_name(), Some(ALREADY_IMPORTED));
    }

    #[test]
    fn a_nodes_trouble_is_the_providers() {
        let pruned = node(
            "state_getStorage",
            4003,
            "Client error: Api called for an unknown Block: State already discarded for 0xab",
            None,
        );
        assert!(matches!(&pruned, Error::StatePruned { block } if block == "0xab"), "{pruned:?}");
        assert_eq!(pruned.fault().class, Class::Provider);
        assert!(matches!(node("state_call", 4003, "UnknownBlock: header not found", None), Error::UnknownBlock { .. }));
        assert_eq!(node("state_call", -32601, "Method not found", None).fault().code, "chain_rpc_refused");
        let missing = Error::Missing { item: "SubtensorModule.Keys".into(), spec_version: 999 };
        assert_eq!((missing.fault().class, missing.fault().code.as_str()), (Class::Operator, "chain_runtime_unknown"));
    }

    #[test]
    fn a_nodes_text_cannot_fill_the_log() {
        let error = node("state_call", 1, &"x\n".repeat(100_000), None);
        assert!(error.fault().detail.len() < 1000);
        assert!(!error.fault().detail.contains('\n'));
    }
}

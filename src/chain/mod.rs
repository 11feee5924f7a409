//! The chain: the only code that talks to a Bittensor chain.
//!
//! Owns the connection, what is read at which block, how a call is encoded, signed and found again, and the wallet
//! files. Refuses to know what a submission is worth or when weights are due: it reads facts and carries out writes.
//! `intake`, `pipeline` and `cli` call it; it is built on subxt, with the legacy RPC methods and types taken from the
//! chain's own metadata, so that a runtime upgrade that does not touch what we use needs no new binary.

mod call;
mod client;
mod codes;
mod commitment;
mod error;
mod follow;
mod keypair;
mod metagraph;
mod payment;
mod reads;
mod revealed;
mod rpc;
mod runtime;
mod sealed;
mod shelf;
mod sign;
pub mod timelock;
mod touched;
mod validator;
pub mod wallet;
mod weights;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod devnet_tests;
#[cfg(test)]
mod flight_tests;
#[cfg(test)]
mod payment_tests;
#[cfg(test)]
mod scripted;
#[cfg(test)]
pub mod testkit;
#[cfg(test)]
mod vectors;

pub use call::Call;
pub use client::{BlockRef, Client, Options};
pub use codes::CODES;
pub use commitment::{
    FIELDS_MAX, Field, FieldError, RevealedCommitment, SeenCommitment, StoredCommitment, lossless_text, readings,
    without_length,
};
pub use error::Error;
pub use follow::{Followed, Follower};
pub use keypair::{KeyError, Keypair, verify};
pub use metagraph::{Axon, Metagraph, Neuron};
pub use payment::{BlockName, NotAPayment, PaymentName, Receipt, Traced, Transfer};
pub use reads::BlockNews;
pub use sealed::{SealError, Sealed, Slug, merge_field, merge_fields};
pub use sign::{ERA_BLOCKS, Found, Outcome, Signed};
pub use touched::Touched;
pub use validator::{CommitForm, OpenCommit, Validator, commit_hash, storage_index};
pub use wallet::{Wallet, WalletError};
pub use weights::{Hiding, Proposal, ReadBack, Refusal, TIMELOCK_VERSION, Way, WeightRules, preflight, read_back};

/// An account of the chain: hotkeys and coldkeys are the same kind of key and are written the same way.
pub type Account = crate::ids::Hotkey;

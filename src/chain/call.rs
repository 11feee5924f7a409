//! The calls that Waag makes, as values.
//!
//! Owns which call and which arguments. Refuses to know bytes: `runtime` writes them by the metadata's types.
//! Callers build one and have it signed.

use scale_value::{Composite, Value};

use super::{Account, commitment::Field};
use crate::ids::Digest;

/// A call of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Registers a hotkey in a subnet for the present burn price. Signed by the coldkey, which pays.
    BurnedRegister {
        /// The subnet.
        netuid: u16,
        /// The hotkey to register.
        hotkey: Account,
    },
    /// Replaces the hotkey's commitment in a subnet. Signed by the hotkey; free.
    SetCommitment {
        /// The subnet.
        netuid: u16,
        /// All fields of the new commitment: the old ones are gone afterwards.
        fields: Vec<Field>,
    },
    /// Replaces the validator's weights in a mechanism of a subnet. Signed by the hotkey; free.
    SetWeights {
        /// The subnet.
        netuid: u16,
        /// The mechanism; 0 is the one that every subnet has.
        mechanism: u8,
        /// Who is weighted.
        uids: Vec<u16>,
        /// The weight of each.
        values: Vec<u16>,
        /// The version that the validator claims to run.
        version_key: u64,
    },
    /// Promises weights by their hash, to be revealed in a later epoch. Signed by the hotkey; free.
    CommitWeights {
        /// The subnet.
        netuid: u16,
        /// The mechanism.
        mechanism: u8,
        /// The hash of the weights, of who sets them, and of a salt.
        hash: Digest,
    },
    /// Shows weights that were promised by their hash. Signed by the hotkey; free.
    RevealWeights {
        /// The subnet.
        netuid: u16,
        /// The mechanism.
        mechanism: u8,
        /// Who is weighted.
        uids: Vec<u16>,
        /// The weight of each.
        values: Vec<u16>,
        /// The salt of the hash.
        salt: Vec<u16>,
        /// The version that the validator claims to run.
        version_key: u64,
    },
    /// Promises weights as a ciphertext, which the chain itself opens in a later epoch. Signed by the hotkey; free.
    CommitTimelocked {
        /// The subnet.
        netuid: u16,
        /// The mechanism.
        mechanism: u8,
        /// The sealed weights.
        ciphertext: Vec<u8>,
        /// The beacon's round that opens them.
        round: u64,
        /// The version of commit-reveal that is meant.
        version: u16,
    },
    /// Sends funds and keeps the sender's account alive. Signed by the sender, who pays.
    Transfer {
        /// The receiver.
        to: Account,
        /// The amount in rao.
        amount_rao: u64,
    },
}

/// Pallet, call and arguments of one way to make a call.
pub(super) type Form = (&'static str, &'static str, Composite<()>);

impl Call {
    /// The call's name, for messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BurnedRegister { .. } => "SubtensorModule.burned_register",
            Self::SetCommitment { .. } => "Commitments.set_commitment",
            Self::SetWeights { .. } => "SubtensorModule.set_weights",
            Self::CommitWeights { .. } => "SubtensorModule.commit_weights",
            Self::RevealWeights { .. } => "SubtensorModule.reveal_weights",
            Self::CommitTimelocked { .. } => "SubtensorModule.commit_timelocked_weights",
            Self::Transfer { .. } => "Balances.transfer_keep_alive",
        }
    }

    /// The ways to make this call, the preferred one first; the runtime has at least one of them.
    pub(super) fn forms(&self) -> Vec<Form> {
        match self {
            Self::BurnedRegister { netuid, hotkey } => vec![(
                "SubtensorModule",
                "burned_register",
                Composite::named([("netuid", number(*netuid)), ("hotkey", Value::from_bytes(hotkey.0))]),
            )],
            Self::SetCommitment { netuid, fields } => {
                let fields = Value::unnamed_composite(fields.iter().map(Field::to_value));
                let info = Value::named_composite([("fields", fields)]);
                vec![("Commitments", "set_commitment", Composite::named([("netuid", number(*netuid)), ("info", info)]))]
            }
            Self::SetWeights { netuid, mechanism, uids, values, version_key } => {
                let arguments = vec![
                    ("netuid", number(*netuid)),
                    ("dests", list(uids)),
                    ("weights", list(values)),
                    ("version_key", number(*version_key)),
                ];
                in_mechanism(*mechanism, ["set_mechanism_weights", "set_weights"], arguments)
            }
            Self::CommitWeights { netuid, mechanism, hash } => {
                let arguments = vec![("netuid", number(*netuid)), ("commit_hash", Value::from_bytes(hash.0))];
                in_mechanism(*mechanism, ["commit_mechanism_weights", "commit_weights"], arguments)
            }
            Self::RevealWeights { netuid, mechanism, uids, values, salt, version_key } => {
                let arguments = vec![
                    ("netuid", number(*netuid)),
                    ("uids", list(uids)),
                    ("values", list(values)),
                    ("salt", list(salt)),
                    ("version_key", number(*version_key)),
                ];
                in_mechanism(*mechanism, ["reveal_mechanism_weights", "reveal_weights"], arguments)
            }
            Self::CommitTimelocked { netuid, mechanism, ciphertext, round, version } => {
                let arguments = vec![
                    ("netuid", number(*netuid)),
                    ("commit", Value::from_bytes(ciphertext)),
                    ("reveal_round", number(*round)),
                    ("commit_reveal_version", number(*version)),
                ];
                let names = ["commit_timelocked_mechanism_weights", "commit_timelocked_weights"];
                in_mechanism(*mechanism, names, arguments)
            }
            Self::Transfer { to, amount_rao } => vec![(
                "Balances",
                "transfer_keep_alive",
                Composite::named([
                    ("dest", Value::unnamed_variant("Id", [Value::from_bytes(to.0)])),
                    ("value", number(*amount_rao)),
                ]),
            )],
        }
    }
}

/// A call of the subnet pallet in its form that names a mechanism, and in the older one, which means mechanism 0.
fn in_mechanism(mechanism: u8, [newer, older]: [&'static str; 2], arguments: Vec<(&'static str, Value)>) -> Vec<Form> {
    let named = arguments.clone().into_iter().chain([("mecid", number(mechanism))]);
    let mut forms = vec![("SubtensorModule", newer, Composite::named(named))];
    if mechanism == 0 {
        forms.push(("SubtensorModule", older, Composite::named(arguments)));
    }
    forms
}

fn list(numbers: &[u16]) -> Value {
    Value::unnamed_composite(numbers.iter().copied().map(number))
}

fn number(value: impl Into<u128>) -> Value {
    Value::u128(value.into())
}

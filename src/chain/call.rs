//! The calls that Waag makes, as values.
//!
//! Owns which call and which arguments. Refuses to know bytes: `runtime` writes them by the metadata's types.
//! Callers build one and have it signed.

use scale_value::{Composite, Value};

use super::{Account, commitment::Field};

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
    /// Replaces the validator's weights in a subnet. Signed by the hotkey; free.
    SetWeights {
        /// The subnet.
        netuid: u16,
        /// Who is weighted.
        uids: Vec<u16>,
        /// The weight of each.
        values: Vec<u16>,
        /// The version that the validator claims to run.
        version_key: u64,
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
            Self::SetWeights { netuid, uids, values, version_key } => {
                let list = |numbers: &[u16]| Value::unnamed_composite(numbers.iter().copied().map(number));
                let plain = [
                    ("netuid", number(*netuid)),
                    ("dests", list(uids)),
                    ("weights", list(values)),
                    ("version_key", number(*version_key)),
                ];
                let with_mechanism = plain.clone().into_iter().chain([("mecid", number(0_u8))]);
                vec![
                    ("SubtensorModule", "set_mechanism_weights", Composite::named(with_mechanism)),
                    ("SubtensorModule", "set_weights", Composite::named(plain)),
                ]
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

fn number(value: impl Into<u128>) -> Value {
    Value::u128(value.into())
}

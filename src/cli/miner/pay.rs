//! Paying for an upload: one transfer, whose signed bytes are on disk before they are sent, and whose name stays beside
//! the seal until an upload with it was taken.

use super::{
    Step, Watch,
    seals::{Seal, Seals},
};
use crate::{
    chain::{BlockName, Call, Client, Error, Keypair, PaymentName},
    fault::Fault,
    intake::{Fee, payment_missing},
};

/// How an upload that costs something is paid for.
#[derive(Clone, Copy, Default)]
pub enum Means<'a> {
    /// Only with a payment that was made before.
    #[default]
    Stored,
    /// With this payment.
    Named(PaymentName),
    /// By a transfer of this coldkey, unless a payment was made before.
    Coldkey(&'a Keypair),
}

/// The payment for the upload of a seal's artifact, made if need be. Interrupted at any point and begun again, it pays
/// once.
///
/// # Errors
/// `payment_missing` when there is none and nobody may make one, or what the chain refused.
pub async fn pay(
    client: &Client,
    fee: &Fee,
    means: Means<'_>,
    seals: &mut Seals,
    seal: &Seal,
    watch: Watch<'_>,
) -> Result<PaymentName, Fault> {
    if let Means::Named(name) = means {
        seals.keep(&Seal { payment: Some(name), ..seal.clone() })?;
        return Ok(name);
    }
    if let Some(name) = seal.payment {
        watch(&Step::Already { what: format!("paid with {name}") });
        return Ok(name);
    }
    let signed = match (seal.pending_payment(), means) {
        (Some(pending), _) => pending,
        (None, Means::Coldkey(coldkey)) => {
            let call = Call::Transfer { to: fee.to, amount_rao: fee.rao };
            let signed = client.sign(coldkey, call, None).await.map_err(|error| error.fault())?;
            seals.keep(&Seal { paying: Some(hex::encode(signed.encode())), ..seal.clone() })?;
            signed
        }
        (None, _) => return Err(payment_missing(fee).fault),
    };
    watch(&Step::Sent { extrinsic: signed.hash });
    match client.submit_and_wait(&signed).await {
        Ok(block) => {
            watch(&Step::Final { block: block.number });
            let name = PaymentName { block: BlockName::Number(block.number), extrinsic: signed.hash };
            seals.keep(&Seal { paying: None, payment: Some(name), ..seal.clone() })?;
            Ok(name)
        }
        Err(error) => {
            // Only a transfer of which the chain has said the last word is forgotten.
            if matches!(error, Error::Expired { .. } | Error::Dispatch { .. } | Error::Pool { .. }) {
                seals.keep(&Seal { paying: None, ..seal.clone() })?;
            }
            Err(error.fault())
        }
    }
}

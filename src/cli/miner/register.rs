//! Registering a hotkey in a subnet: what it costs, and doing it.

use serde::Serialize;

use super::{Step, Watch};
use crate::{
    chain::{Account, Call, Client, Keypair},
    fault::Fault,
};

/// What a registration would cost now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// The subnet.
    pub netuid: u16,
    /// Who would be registered.
    pub hotkey: Account,
    /// Who would pay.
    pub coldkey: Account,
    /// The present price in rao. It moves with every registration.
    pub cost_rao: u64,
    /// What the coldkey can spend, in rao.
    pub balance_rao: u64,
    /// The block that these numbers are of.
    pub block: u64,
    /// The hotkey's uid, when it is registered already.
    pub uid: Option<u16>,
}

/// A registered hotkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// The subnet.
    pub netuid: u16,
    /// Who.
    pub hotkey: Account,
    /// Its place.
    pub uid: u16,
    /// The finalized block in which it was seen registered.
    pub block: u64,
    /// Whether it was registered before and nothing was paid.
    pub again: bool,
}

/// Asks the chain what a registration costs, and whether it is needed.
///
/// # Errors
/// When the subnet does not exist or the chain cannot be read.
pub async fn quote(client: &Client, netuid: u16, coldkey: &Account, hotkey: &Account) -> Result<Quote, Fault> {
    let read = async {
        let head = client.finalized_head().await?;
        let rules = client.weight_rules(netuid, head.hash).await?;
        let balance_rao = client.balance(coldkey, head.hash).await?;
        let uid = client.uid_of(netuid, hotkey, head.hash).await?;
        Ok(Quote {
            netuid,
            hotkey: *hotkey,
            coldkey: *coldkey,
            cost_rao: rules.burn_rao,
            balance_rao,
            block: head.number,
            uid,
        })
    };
    read.await.map_err(|error: crate::chain::Error| error.fault())
}

/// Registers the hotkey, paid by the coldkey, and waits until that is final. A registered hotkey is left as it is.
///
/// # Errors
/// When the chain refuses, or cannot be reached.
pub async fn register(
    client: &Client,
    netuid: u16,
    coldkey: &Keypair,
    hotkey: &Account,
    watch: Watch<'_>,
) -> Result<Registered, Fault> {
    let before = quote(client, netuid, &coldkey.account(), hotkey).await?;
    if let Some(uid) = before.uid {
        watch(&Step::Already { what: format!("registered as uid {uid}") });
        return Ok(Registered { netuid, hotkey: *hotkey, uid, block: before.block, again: true });
    }
    let write = async {
        let signed = client.sign(coldkey, Call::BurnedRegister { netuid, hotkey: *hotkey }, None).await?;
        watch(&Step::Sent { extrinsic: signed.hash });
        let block = client.submit_and_wait(&signed).await?;
        watch(&Step::Final { block: block.number });
        let uid = client.uid_of(netuid, hotkey, block.hash).await?;
        Ok((block, uid))
    };
    let (block, uid) = write.await.map_err(|error: crate::chain::Error| error.fault())?;
    // Succeeded and yet not there: pushed out again in the same block, by a full subnet.
    let uid = uid.ok_or_else(|| {
        super::WRITE_LOST.because(format!("the registration of {hotkey} did not outlast block {}", block.number))
    })?;
    Ok(Registered { netuid, hotkey: *hotkey, uid, block: block.number, again: false })
}

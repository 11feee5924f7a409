//! What tests of this room and of its users need: any call signed, also one that the product does not make, and a
//! devnet's controls.

use scale_value::{Composite, Value};
use serde_json::Value as Json;
use subxt::{config::DefaultExtrinsicParamsBuilder, utils::H256};
use subxt_rpcs::{RpcClient, client::RpcParams};

use super::{BlockRef, Call, Client, Error, Keypair, Signed, client::blake2_256, runtime::Item};

/// Asks a node for anything, on a connection of its own, and answers what it said.
pub async fn control(url: &str, method: &str, params: Json) -> Json {
    let mut given = RpcParams::new();
    params.as_array().unwrap().iter().for_each(|param| given.push(param).unwrap());
    let rpc = RpcClient::from_url(url).await.unwrap();
    rpc.request(method, given).await.unwrap_or_else(|error| panic!("{method}: {error}"))
}

/// The key of a single entry and the bytes that it stands for while it is absent, as a devnet's control takes them.
pub async fn default_entry(client: &Client, pallet: &'static str, name: &'static str) -> (String, String) {
    let runtime = client.runtime_at(client.finalized_head().await.unwrap().hash).await.unwrap();
    let item = Item { pallet, name };
    let text = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    (text(&runtime.key(item, ()).unwrap()), text(&runtime.default_bytes(item)))
}

/// A call by its names, signed with the signer's next nonce.
pub async fn sign_any(client: &Client, signer: &Keypair, pallet: &str, call: &str, arguments: Composite<()>) -> Signed {
    let (head, nonce) = (client.finalized_head().await.unwrap(), client.next_nonce(&signer.account()).await.unwrap());
    let runtime = client.runtime_at(head.hash).await.unwrap();
    let payload = subxt::tx::dynamic(pallet, call, arguments);
    let params = DefaultExtrinsicParamsBuilder::new().nonce(u64::from(nonce));
    let params = params.mortal_from_unchecked(32, head.number, H256(head.hash.0)).build();
    let mut signable = runtime.client().tx().create_v4_signable_offline(&payload, params).unwrap();
    let bytes = signable.sign(signer).unwrap().into_encoded();
    let (era_birth, era_death) = (head.number, head.number + 32);
    Signed { hash: blake2_256(&bytes), bytes, signer: signer.account(), nonce, era_birth, era_death }
}

/// The calls in one batch that goes on after a failure of one, or does not.
pub async fn batched(client: &Client, signer: &Keypair, name: &str, calls: &[Call]) -> Signed {
    let runtime = client.runtime_at(client.finalized_head().await.unwrap().hash).await.unwrap();
    let calls: Vec<Value> = calls.iter().map(|call| runtime.payload(call).unwrap().into_value()).collect();
    sign_any(client, signer, "Utility", name, Composite::named([("calls", Value::unnamed_composite(calls))])).await
}

/// `SubtensorModule.swap_hotkey` in all subnets.
pub async fn swap_hotkey(client: &Client, coldkey: &Keypair, old: [u8; 32], new: [u8; 32]) -> Result<BlockRef, Error> {
    let arguments = Composite::named([
        ("hotkey", Value::from_bytes(old)),
        ("new_hotkey", Value::from_bytes(new)),
        ("netuid", Value::unnamed_variant("None", [])),
    ]);
    let signed = sign_any(client, coldkey, "SubtensorModule", "swap_hotkey", arguments).await;
    client.submit(&signed).await?;
    client.finalized_head().await
}

//! Payments against the embedded devnet: what a receipt says, and what is no payment.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{
    BlockName, Call, Client, Keypair, Options, Outcome, PaymentName, Receipt, Signed, Traced, Transfer, testkit,
};
use crate::{
    actors::Tasks,
    clock::SystemClock,
    devnet::{self, Blocks},
    ids::{Digest, Hotkey},
};

const PATIENCE: Duration = Duration::from_secs(60);
const TREASURY: Hotkey = Hotkey([0x77; 32]);
const FEE_RAO: u64 = 100_000_000;

fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

/// A devnet on which //Bob owns the hotkey //Miner; blocks are final two later.
struct Net {
    tasks: Tasks,
    handle: devnet::Handle,
    client: Client,
}

impl Net {
    async fn start() -> Self {
        let tasks = Tasks::new();
        let options = devnet::Options { blocks: Blocks::Manual, finality_lag: 2, ..devnet::Options::default() };
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.unwrap();
        let client = Client::connect(Options::new(vec![handle.url()])).await.unwrap();
        let net = Self { tasks, handle, client };
        let subnet = net.control("dev_createSubnet", json!([{ "owner": key("//Alice").account() }])).await;
        let (hotkey, coldkey) = (key("//Miner").account(), key("//Bob").account());
        net.control("dev_register", json!([subnet["netuid"], hotkey, coldkey])).await;
        net
    }

    async fn control(&self, method: &str, params: Json) -> Json {
        testkit::control(&self.handle.url(), method, params).await
    }

    async fn blocks(&self, count: u32) {
        self.control("dev_newBlock", json!([count])).await;
    }

    /// Sends it, makes the block that holds it, and names it there.
    async fn include(&self, signed: &Signed) -> PaymentName {
        self.client.submit(signed).await.unwrap();
        self.blocks(1).await;
        let block = self.client.best_head().await.unwrap().number;
        PaymentName { block: BlockName::Number(block), extrinsic: signed.hash }
    }

    async fn trace(&self, name: &PaymentName) -> Traced {
        self.client.trace_payment(name, &key("//Miner").account(), 10).await.unwrap()
    }

    async fn found(&self, name: &PaymentName) -> Receipt {
        match self.trace(name).await {
            Traced::Found(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    }

    async fn end(self) {
        let Self { tasks, handle, client } = self;
        drop(client);
        handle.stop().await;
        assert_eq!(tasks.drain(PATIENCE).await, Vec::<&str>::new());
    }
}

fn transfer(to: Hotkey, amount_rao: u64) -> Call {
    Call::Transfer { to, amount_rao }
}

#[tokio::test]
async fn a_payment_is_found_once_it_is_final_and_while_it_is_young() {
    let net = Net::start().await;
    let signed = net.client.sign(&key("//Bob"), transfer(TREASURY, FEE_RAO), None).await.unwrap();
    let name = net.include(&signed).await;
    let BlockName::Number(number) = name.block else { panic!("{name}") };
    assert!(matches!(net.trace(&name).await, Traced::NotFinal { block, .. } if block == number));
    let hash = net.client.block_hash(number).await.unwrap().unwrap();
    let by_hash = PaymentName { block: BlockName::Hash(hash), ..name };
    assert!(matches!(net.trace(&by_hash).await, Traced::NotFinal { .. }));
    net.blocks(2).await;
    let receipt = net.found(&name).await;
    assert_eq!(net.found(&by_hash).await, receipt);
    let bob = key("//Bob").account();
    assert_eq!((receipt.signer, receipt.owner, receipt.outcome), (Some(bob), Some(bob), Outcome::Ok));
    assert_eq!(receipt.transfers, [Transfer { from: bob, to: TREASURY, amount_rao: FEE_RAO }]);
    assert_eq!((receipt.block.number, receipt.block.hash), (number, hash));

    let nowhere = PaymentName { extrinsic: Digest([1; 32]), ..name };
    assert_eq!(net.trace(&nowhere).await, Traced::NoExtrinsic { block: number });
    let unknown = PaymentName { block: BlockName::Hash(Digest([9; 32])), ..name };
    assert_eq!(net.trace(&unknown).await, Traced::NoBlock);
    // The inherent of the block's time is signed by nobody.
    let body = net.client.body(hash).await.unwrap();
    let inherent = PaymentName { extrinsic: super::client::blake2_256(&body[0]), ..name };
    assert_eq!(net.found(&inherent).await.signer, None);
    // Ten blocks are young enough, eleven are not.
    let finalized = net.client.finalized_head().await.unwrap().number;
    net.blocks(u32::try_from(number + 10 - finalized).unwrap()).await;
    assert!(matches!(net.trace(&name).await, Traced::Found(_)));
    net.blocks(1).await;
    assert_eq!(net.trace(&name).await, Traced::Old { block: number, finalized: number + 11 });
    net.end().await;
}

#[tokio::test]
async fn a_replaced_block_pays_nothing() {
    let net = Net::start().await;
    let signed = net.client.sign(&key("//Bob"), transfer(TREASURY, FEE_RAO), None).await.unwrap();
    let name = net.include(&signed).await;
    let BlockName::Number(number) = name.block else { panic!("{name}") };
    let hash = net.client.block_hash(number).await.unwrap().unwrap();
    net.control("dev_reorg", json!([1])).await;
    net.blocks(4).await;
    let by_hash = PaymentName { block: BlockName::Hash(hash), ..name };
    let traced = net.trace(&by_hash).await;
    assert!(matches!(traced, Traced::NotCanonical { .. } | Traced::NoBlock), "{traced:?}");
    net.end().await;
}

#[tokio::test]
async fn a_batch_counts_for_its_own_transfers_only() {
    let net = Net::start().await;
    let (bob, carol) = (key("//Bob"), key("//Charlie"));
    // In one block: somebody else pays the treasury, and Bob's batch pays in two halves and fails at a third.
    let other = net.client.sign(&carol, transfer(TREASURY, 7 * FEE_RAO), None).await.unwrap();
    net.client.submit(&other).await.unwrap();
    let calls = [transfer(TREASURY, FEE_RAO / 2), transfer(TREASURY, FEE_RAO / 2), transfer(TREASURY, u64::MAX / 2)];
    let name = net.include(&testkit::batched(&net.client, &bob, "batch", &calls).await).await;
    net.blocks(2).await;
    let receipt = net.found(&name).await;
    assert_eq!(receipt.outcome, Outcome::Ok, "a batch that was cut short still succeeded");
    assert_eq!(receipt.transfers.len(), 2);
    assert!(receipt.transfers.iter().all(|one| (one.from, one.amount_rao) == (bob.account(), FEE_RAO / 2)));
    // All or nothing: nothing.
    let name = net.include(&testkit::batched(&net.client, &bob, "batch_all", &calls).await).await;
    net.blocks(2).await;
    let receipt = net.found(&name).await;
    assert!(matches!(receipt.outcome, Outcome::Failed { .. }), "{receipt:?}");
    assert_eq!(receipt.transfers, []);
    net.end().await;
}

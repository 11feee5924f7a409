//! Uploads that cost something, against a devnet on which the payments are real.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::*;
use crate::{
    chain::{self, BlockName, Call, PaymentName, testkit},
    devnet::{self, Blocks},
    intake::Fee,
};

const TREASURY: Hotkey = Hotkey([0x77; 32]);
const FEE_RAO: u64 = 100_000_000;

/// A server whose challenge takes a fee, and a devnet on which //Alice owns the hotkey //Alice, and //Bob nobody.
struct Toll {
    world: World,
    node: devnet::Handle,
    chain: chain::Client,
    _reading: watch::Sender<Option<chain::Client>>,
}

impl Toll {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let options = devnet::Options { blocks: Blocks::Manual, finality_lag: 0, ..devnet::Options::default() };
        let node = devnet::start(options, &tasks, SystemClock::shared()).await.expect("a devnet");
        let chain = chain::Client::connect(chain::Options::new(vec![node.url()])).await.expect("connected");
        let (reading, seen) = watch::channel(Some(chain.clone()));
        let mut challenge = challenge();
        challenge.intake.fee = Some(Fee { rao: FEE_RAO, to: TREASURY, within_blocks: 20 });
        let world = World::serving(Options::new(loopback()), challenge, seen).await;
        let toll = Self { world, node, chain, _reading: reading };
        let subnet = toll.control("dev_createSubnet", json!([{ "owner": alice().account() }])).await;
        drop(subnet);
        toll
    }

    async fn control(&self, method: &str, params: Json) -> Json {
        testkit::control(&self.node.url(), method, params).await
    }

    /// A transfer in a final block.
    async fn pay(&self, uri: &str, amount_rao: u64) -> PaymentName {
        let key = Keypair::from_uri(uri).expect("a development key");
        let signed = self.chain.sign(&key, Call::Transfer { to: TREASURY, amount_rao }, None).await.expect("signed");
        self.chain.submit(&signed).await.expect("sent");
        self.control("dev_newBlock", json!([1])).await;
        let block = self.chain.finalized_head().await.expect("a head").number;
        PaymentName { block: BlockName::Number(block), extrinsic: signed.hash }
    }

    async fn publish(&self, bytes: &[u8], payment: Option<PaymentName>) -> Result<Uploaded, Error> {
        self.world.send(&paid(bytes, payment), bytes).await
    }
}

fn paid(bytes: &[u8], named: Option<PaymentName>) -> Statement {
    let mut statement = statement(bytes);
    if let Subject::Upload { payment, .. } = &mut statement.subject {
        *payment = named;
    }
    statement
}

fn code(outcome: Result<Uploaded, Error>) -> String {
    outcome.expect_err("it is refused").code()
}

#[tokio::test]
async fn one_payment_pays_for_one_submission() {
    let toll = Toll::new().await;
    toll.world.commit(b"first", 20).await;
    toll.world.commit(b"second", 21).await;
    assert_eq!(code(toll.publish(b"first", None).await), "payment_missing");
    let small = toll.pay("//Alice", FEE_RAO - 1).await;
    assert_eq!(code(toll.publish(b"first", Some(small)).await), "payment_too_small");
    let foreign = toll.pay("//Bob", FEE_RAO).await;
    assert_eq!(code(toll.publish(b"first", Some(foreign)).await), "payment_signer");
    let early = PaymentName { block: BlockName::Number(1_000), ..small };
    assert_eq!(code(toll.publish(b"first", Some(early)).await), "payment_not_final");

    let good = toll.pay("//Alice", FEE_RAO).await;
    let first = toll.publish(b"first", Some(good)).await.expect("it is paid");
    // Again it is the same upload, with or without the payment.
    assert!(toll.publish(b"first", None).await.expect("here already").again);
    // The same payment under its block's hash.
    let BlockName::Number(number) = good.block else { panic!("{good}") };
    let hash = toll.chain.block_hash(number).await.expect("read").expect("it is there");
    let disguised = PaymentName { block: BlockName::Hash(hash), ..good };
    for payment in [good, disguised] {
        assert_eq!(code(toll.publish(b"second", Some(payment)).await), "payment_used");
    }
    let another = toll.pay("//Alice", 2 * FEE_RAO).await;
    assert_ne!(toll.publish(b"second", Some(another)).await.expect("paid anew").submission, first.submission);
    let kept = toll.world.pipeline.payment_of(first.submission).await.expect("read").expect("bound");
    assert_eq!((kept.extrinsic, kept.amount_rao, kept.block), (good.extrinsic, FEE_RAO, number));
    // Nobody releases what is bound.
    toll.world.pipeline.release_payment(good.extrinsic, first.submission).await.expect("no failure");
    assert!(toll.world.pipeline.payment_of(first.submission).await.expect("read").is_some());
    assert_eq!(
        toll.world.recorded().await,
        ["payment_missing", "payment_too_small", "payment_signer", "payment_not_final", "payment_used", "payment_used"]
    );
}

#[tokio::test]
async fn a_payment_outlives_an_upload_that_failed() {
    let toll = Toll::new().await;
    toll.world.commit(b"artifact", 20).await;
    toll.world.commit(b"other", 21).await;
    let good = toll.pay("//Alice", FEE_RAO).await;
    // Other bytes of the announced length: the sender's mistake. The payment stays with its submission.
    let statement = paid(b"artifact", Some(good));
    assert_eq!(code(toll.world.send(&statement, b"tcafitra").await), "upload_digest_mismatch");
    assert_eq!(code(toll.publish(b"other", Some(good)).await), "payment_used");
    // It need not even be named again.
    let uploaded = toll.publish(b"artifact", None).await.expect("it was paid");
    let kept = toll.world.pipeline.payment_of(uploaded.submission).await.expect("read").expect("bound");
    assert_eq!(kept.extrinsic, good.extrinsic);

    // Released by a failure of ours, it is free for whatever it is named for next.
    let free = toll.pay("//Alice", FEE_RAO).await;
    let known =
        toll.world.pipeline.committed(SLUG, alice().account(), &other_field()).await.expect("read").expect("seen");
    let payment =
        crate::pipeline::Payment { extrinsic: free.extrinsic, submission: uploaded.submission, ..kept.clone() };
    toll.world.pipeline.reserve_payment(payment).await.expect("reserved");
    assert_eq!(code(toll.publish(b"other", Some(free)).await), "payment_used");
    toll.world.pipeline.release_payment(free.extrinsic, uploaded.submission).await.expect("released");
    assert_eq!(toll.publish(b"other", Some(free)).await.expect("free again").submission, known.id);
}

fn other_field() -> String {
    Sealed::new(&GENESIS, NETUID, &slug(), &alice().account(), &Digest::of(b"other"), &SALT).to_string()
}

#[tokio::test]
async fn without_the_chain_nobody_is_blamed() {
    let toll = Toll::new().await;
    toll.world.commit(b"artifact", 20).await;
    let good = toll.pay("//Alice", FEE_RAO).await;
    let Toll { world, node, chain, _reading } = toll;
    node.stop().await;
    let statement = paid(b"artifact", Some(good));
    let refused = tokio::time::timeout(Duration::from_secs(60), world.send(&statement, b"artifact"));
    let refused = refused.await.expect("an answer").expect_err("nobody can look");
    assert_ne!(refused.fault().class, crate::fault::Class::Miner, "{refused:?}");
    assert_eq!(world.recorded().await, [] as [&str; 0], "nothing is held against the miner");
    drop(chain);
}

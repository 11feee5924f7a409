//! A chain whose runtime is upgraded while it is read and written.

use serde_json::{Value, json};
use waag::{
    chain::{Call, Field, Followed, Found, Keypair, Outcome},
    ids::Digest,
};

use super::{Node, account, connect, soon};

async fn spec_version(node: &Node, at: Digest) -> Value {
    node.control("state_getRuntimeVersion", json!([format!("0x{at}")])).await["specVersion"].clone()
}

#[tokio::test]
async fn an_upgrade_is_followed_and_what_was_signed_before_it_is_dead() {
    let node = Node::new(1).await;
    let netuid = node.subnet().await;
    node.control("dev_register", json!([netuid, account("//Bob"), account("//Bob")])).await;
    node.blocks(3).await;
    let client = connect(&[node.url()]).await;
    let bob = Keypair::from_uri("//Bob").expect("a key");
    let commit = |text: &str| Call::SetCommitment { netuid, fields: vec![Field::Raw(text.as_bytes().to_vec())] };

    let early = client.sign(&bob, commit("early"), None).await.expect("it can be signed");
    client.submit(&early).await.expect("it is taken");
    node.blocks(1).await;
    let before = client.best_head().await.expect("a head");
    let known = client.metagraph(netuid, before.hash).await.expect("read");
    let mut follower = client.follow_finalized(Some(1));
    let late = client.sign(&bob, commit("late"), None).await.expect("it can be signed");

    node.control("dev_upgrade", json!([461])).await;
    let after = client.best_head().await.expect("a head");
    assert_eq!(
        (spec_version(&node, before.hash).await, spec_version(&node, after.hash).await),
        (json!(439), json!(461))
    );
    // Its signature says 439.
    let refused = client.submit(&late).await.expect_err("it is of the old runtime");
    assert_eq!((refused.code().name, refused.chain_name()), ("chain_pool_refused", Some("BadProof")));
    assert_eq!(client.find(&late).await.expect("read"), Found::NotYet);

    // Both sides of it are read, each in its own form; the block of the upgrade has the events of the old one.
    node.blocks(3).await;
    for number in 1..=after.number + 1 {
        let Followed::Block(block) = soon(follower.next()).await else { panic!("block {number} is not there") };
        assert_eq!(block.number, number);
        let news = client.block_news(netuid, &block).await.expect("its events are read");
        assert_eq!(news.commitments.len(), usize::from(number == before.number), "block {number}");
    }
    let same = client.metagraph(netuid, after.hash).await.expect("read");
    assert_eq!(same.neurons, known.neurons);
    assert_eq!(client.metagraph(netuid, before.hash).await.expect("read"), known);

    // Signed anew once it can never come.
    node.blocks(u32::try_from(late.era_death - after.number).expect("few")).await;
    assert_eq!(client.find(&late).await.expect("read"), Found::Dead);
    let anew = client.sign(&bob, commit("late"), None).await.expect("it can be signed");
    assert_eq!(anew.nonce, late.nonce);
    client.submit(&anew).await.expect("it is taken");
    node.blocks(3).await;
    let found = client.find(&anew).await.expect("read");
    assert!(matches!(found, Found::Included { finalized: true, outcome: Outcome::Ok, .. }), "{found:?}");
    let head = client.finalized_head().await.expect("a head");
    let stored = client.commitment_of(netuid, &bob.account(), head.hash).await.expect("read").expect("it is there");
    assert_eq!(stored.fields, [Field::Raw(b"late".to_vec())]);
    node.end().await;
}

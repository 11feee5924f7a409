//! State that the nodes no longer keep, and an archive that does.

use waag::{
    chain::{Call, Client, Followed, Keypair, Options},
    ids::Hotkey,
};

use super::{Node, connect, options, soon};

/// Far enough behind the head that a follower looks for discarded state.
const BLOCKS: u32 = 260;

async fn with_archive(node: &Node, archive: &Node) -> Client {
    let archive = vec![archive.url()];
    Client::connect(Options { archive, ..options(&[node.url()]) }).await.expect("it connects")
}

#[tokio::test]
async fn discarded_state_is_read_from_the_archive_and_only_that() {
    let (node, archive) = (Node::new(1).await, Node::new(1).await);
    for one in [&node, &archive] {
        one.subnet().await;
        one.blocks(BLOCKS).await;
    }
    node.fail("state_discarded", u32::MAX).await;

    let alone = connect(&[node.url()]).await;
    let Followed::Gap { from: 1, to } = soon(alone.follow_finalized(Some(1)).next()).await else { panic!("no gap") };
    assert!(to > 200, "{to}");
    let refused = alone.metagraph(1, alone.best_head().await.expect("a head").hash).await.expect_err("it is discarded");
    assert_eq!(refused.code().name, "chain_state_pruned");

    let client = with_archive(&node, &archive).await;
    let mut follower = client.follow_finalized(Some(1));
    for number in 1..=30 {
        let Followed::Block(block) = soon(follower.next()).await else { panic!("block {number} is not there") };
        assert_eq!(block.number, number);
        assert!(client.block_news(1, &block).await.is_ok());
    }
    let head = client.best_head().await.expect("a head");
    assert_eq!(client.metagraph(1, head.hash).await.expect("the archive has it").neurons.len(), 1);

    // What is signed goes to the node alone.
    node.fail("state_discarded", 0).await;
    let key = Keypair::from_uri("//Alice").expect("a key");
    let call = Call::Transfer { to: Hotkey([7; 32]), amount_rao: 1_000_000 };
    let signed = client.sign(&key, call, None).await.expect("it can be signed");
    node.fail("state_discarded", u32::MAX).await;
    client.submit(&signed).await.expect("the node takes it");
    let waiting = |one: &serde_json::Value| one.as_array().map_or(0, Vec::len);
    let none = serde_json::json!([]);
    assert_eq!(waiting(&node.control("author_pendingExtrinsics", none.clone()).await), 1);
    assert_eq!(waiting(&archive.control("author_pendingExtrinsics", none).await), 0);
    node.end().await;
    archive.end().await;
}

#[tokio::test]
async fn an_archive_of_another_chain_is_not_believed() {
    let (node, other) = (Node::new(1).await, Node::new(2).await);
    node.blocks(3).await;
    let client = with_archive(&node, &other).await;
    let head = client.best_head().await.expect("a head");
    assert!(client.time_ms(head.hash).await.is_ok(), "the node itself has it");
    node.fail("state_discarded", 1).await;
    let refused = client.time_ms(head.hash).await.expect_err("nobody of this chain has it");
    assert_eq!(refused.code().name, "chain_wrong_network");
    node.end().await;
    other.end().await;
}

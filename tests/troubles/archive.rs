//! State that the nodes no longer keep, and an archive that does.

use waag::{
    chain::{Call, Client, Followed, Keypair, Options},
    ids::Hotkey,
};

use super::{Node, connect, line::Line, options, soon};

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

#[tokio::test]
async fn an_archive_that_is_down_holds_nobody_up() {
    let (node, archive) = (Node::keeping(1, 30).await, Node::new(1).await);
    for one in [&node, &archive] {
        one.subnet().await;
        one.blocks(BLOCKS).await;
    }
    let line = Line::to(&archive.url()).await;
    let archives = vec![line.url()];
    line.go_dead();
    let client = Client::connect(Options { archive: archives, ..options(&[node.url()]) }).await.expect("it connects");
    assert!(client.has_archive() && client.archive_trouble().is_none(), "it was not needed yet");

    let mut follower = client.follow_finalized(Some(1));
    let Followed::Gap { from: 1, to } = soon(follower.next()).await else { panic!("it waits for the archive") };
    let head = client.best_head().await.expect("a head").number;
    assert_eq!(to, head - 31, "what the node itself has is no gap");
    assert!(matches!(soon(follower.next()).await, Followed::Block(block) if block.number == to + 1));
    assert_eq!(client.archive_trouble().map(|fault| fault.code).as_deref(), Some("chain_archive_unreachable"));
    let old = client.block(client.block_hash(5).await.expect("it answers").expect("it is there")).await.expect("known");
    let refused = client.block_news(1, &old).await.expect_err("nobody has it");
    assert_eq!((refused.code().name, refused.is_state_gone()), ("chain_archive_unreachable", true));
    assert!(client.ask_archive().await.is_err(), "a sign of life can be asked for at any time");
    line.end();
    node.end().await;
    archive.end().await;
}

#[tokio::test]
async fn an_archive_that_comes_back_is_asked_again() {
    let (node, archive) = (Node::keeping(1, 30).await, Node::new(1).await);
    for one in [&node, &archive] {
        one.subnet().await;
        one.blocks(BLOCKS).await;
    }
    let client = with_archive(&node, &archive).await;
    let old = client.block_hash(5).await.expect("it answers").expect("it is there");
    archive.fail("request_failed", u32::MAX).await;
    assert_eq!(client.time_ms(old).await.expect_err("it fails").code().name, "chain_archive_unreachable");
    archive.fail("request_failed", 0).await;
    client.ask_archive().await.expect("it is back");
    assert!(client.archive_trouble().is_none() && client.time_ms(old).await.is_ok());
    node.end().await;
    archive.end().await;
}

/// The verb itself, with and without the archive.
#[tokio::test(flavor = "multi_thread")]
async fn a_rescan_names_the_gaps_that_only_an_archive_could_close() {
    let (node, archive) = (Node::keeping(1, 30).await, Node::new(1).await);
    for one in [&node, &archive] {
        one.subnet().await;
        one.blocks(90).await;
    }
    let dir = crate::cli::folder();
    let rescan = |archive: &str| {
        let (url, archive) = (node.url(), archive.to_owned());
        let settings =
            format!("[network]\nname = \"{url}\"\nrequest_timeout_ms = 2000\narchive_endpoints = [{archive}]\n");
        std::fs::write(dir.path().join("waag.toml"), settings).expect("it is written");
        let said = crate::cli::run(dir.path(), &["commitments", "--rescan", "--from", "1", "--json"]);
        assert_eq!(said.exit, 0, "{said:?}");
        said.json()
    };
    let head = connect(&[node.url()]).await.finalized_head().await.expect("a head").number;
    let oldest = head + 2 - 30;
    let gap = serde_json::json!([{ "from": 1, "to": oldest - 1 }]);
    let alone = rescan("");
    assert_eq!((&alone["gaps"], &alone["archive"]), (&gap, &serde_json::Value::Null), "{alone}");
    assert_eq!(alone["blocks_read"], head + 1 - oldest);
    let down = rescan("\"ws://127.0.0.1:1\"");
    assert_eq!((&down["gaps"], &down["archive"]["code"]), (&gap, &"chain_archive_unreachable".into()), "{down}");
    let whole = rescan(&format!("\"{}\"", archive.url()));
    assert_eq!((&whole["gaps"], &whole["blocks_read"]), (&serde_json::json!([]), &head.into()), "{whole}");
    node.end().await;
    archive.end().await;
}

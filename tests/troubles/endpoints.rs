//! Several endpoints of one chain, of which one is ill.

use waag::chain::Followed;

use super::{Node, connect, line::Line, options, soon};

#[tokio::test]
async fn a_node_that_answers_no_more_is_left_for_another_and_named_when_there_is_none() {
    let (first, second) = (Node::new(1).await, Node::new(1).await);
    let client = connect(&[first.url(), second.url()]).await;
    for (kind, code) in [
        ("rate_limited", "chain_rate_limited"),
        ("request_failed", "chain_rpc_refused"),
        ("request_unanswered", "chain_timeout"),
    ] {
        first.fail(kind, u32::MAX).await;
        assert!(soon(client.finalized_head()).await.is_ok(), "{kind}: the second answers");
        second.fail(kind, u32::MAX).await;
        let error = soon(client.finalized_head()).await.expect_err("neither answers");
        assert_eq!(error.code().name, code, "{error}");
        first.fail(kind, 0).await;
        second.fail(kind, 0).await;
        assert!(soon(client.finalized_head()).await.is_ok(), "{kind}: it is over");
    }
    // A single endpoint is asked again, with growing waits.
    let alone = connect(&[first.url()]).await;
    for kind in ["rate_limited", "request_failed"] {
        first.fail(kind, 3).await;
        assert!(soon(alone.best_head()).await.is_ok(), "{kind}");
    }
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_line_that_is_dead_and_does_not_say_so_is_found_dead() {
    let (first, second) = (Node::new(1).await, Node::new(1).await);
    let line = Line::to(&first.url()).await;
    let client = connect(&[line.url(), second.url()]).await;
    let mut follower = client.follow_finalized(None);
    assert!(matches!(soon(follower.next()).await, Followed::Block(block) if block.number == 0));
    for node in [&first, &second] {
        node.blocks(3).await;
    }
    assert!(matches!(soon(follower.next()).await, Followed::Block(block) if block.number == 1));
    assert!(line.carried() > 0, "the first one was used");
    line.go_dead();
    // Only the second one goes on.
    second.blocks(2).await;
    for number in 2..=3 {
        let next = soon(follower.next()).await;
        assert!(matches!(next, Followed::Block(block) if block.number == number), "{number}: {next:?}");
    }
    line.end();
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_head_that_stands_still_is_left_for_a_newer_one_and_named_when_there_is_none() {
    let (stale, fresh) = (Node::new(1).await, Node::new(1).await);
    let lines = (Line::to(&stale.url()).await, Line::to(&fresh.url()).await);
    let client = connect(&[lines.0.url(), lines.1.url()]).await;
    let mut follower = client.follow_finalized(None);
    assert!(matches!(soon(follower.next()).await, Followed::Block(block) if block.number == 0));
    assert_eq!(lines.1.carried(), 0, "there is no reason to ask the second one");
    // The clock jumps: a minute passes while nobody has a new block.
    let stalled = soon(follower.next()).await;
    assert_eq!(stalled, Followed::Stalled { head: Some(0) });
    assert_eq!(stalled.fault().map(|fault| fault.code), Some("chain_stalled".to_owned()));
    assert!(lines.1.carried() > 0, "the second one was asked whether it knows more");

    fresh.blocks(4).await;
    for number in 1..=2 {
        let next = soon(follower.next()).await;
        assert!(matches!(next, Followed::Block(block) if block.number == number), "{number}: {next:?}");
    }
    lines.0.end();
    lines.1.end();
    stale.end().await;
    fresh.end().await;
}

#[tokio::test]
async fn a_node_that_refuses_for_long_is_told_of_once() {
    let node = Node::new(1).await;
    let client = connect(&[node.url()]).await;
    let mut follower = client.follow_finalized(None);
    assert!(matches!(soon(follower.next()).await, Followed::Block(_)));
    node.fail("rate_limited", u32::MAX).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(soon(follower.next()).await.fault().expect("nothing but trouble").code);
    }
    // In whichever order: the requests fail, and no head has come.
    told.sort();
    assert_eq!(told, ["chain_rate_limited", "chain_stalled"]);
    node.fail("rate_limited", 0).await;
    node.blocks(3).await;
    assert!(matches!(soon(follower.next()).await, Followed::Block(block) if block.number == 1));
    node.end().await;
}

#[tokio::test]
async fn another_chain_is_refused_whatever_its_place_in_the_list() {
    let (ours, other) = (Node::new(1).await, Node::new(2).await);
    let pinned =
        |endpoints: &[String]| waag::chain::Options { genesis: Some(ours.handle.genesis_hash()), ..options(endpoints) };
    let client = waag::chain::Client::connect(pinned(&[other.url(), ours.url()])).await.expect("ours answers");
    assert_eq!(client.genesis_hash(), ours.handle.genesis_hash());
    let refused = waag::chain::Client::connect(pinned(&[other.url()])).await.expect_err("it is another chain");
    assert_eq!(refused.code().name, "chain_wrong_network");
    ours.end().await;
    other.end().await;
}

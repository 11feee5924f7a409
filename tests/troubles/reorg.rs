//! Blocks that are replaced before they are final.

use serde_json::json;
use waag::{
    chain::{Call, Followed, Found, Keypair, Outcome},
    ids::Hotkey,
};

use super::{Node, connect, soon};

#[tokio::test]
async fn blocks_that_are_replaced_before_finality_are_never_followed_and_lose_no_call() {
    let node = Node::new(1).await;
    let client = connect(&[node.url()]).await;
    node.blocks(4).await;
    let mut follower = client.follow_finalized(Some(1));
    let mut followed = Vec::new();
    for keep in [true, false] {
        let key = Keypair::from_uri("//Alice").expect("a key");
        let call = Call::Transfer { to: Hotkey([7; 32]), amount_rao: 1_000_000 };
        let signed = client.sign(&key, call, None).await.expect("it can be signed");
        client.submit(&signed).await.expect("it is taken");
        node.blocks(1).await;
        let Found::Included { block: before, finalized: false, .. } = client.find(&signed).await.expect("read") else {
            panic!("it is in the newest block")
        };
        node.control("dev_reorg", json!([1, keep])).await;
        let found = client.find(&signed).await.expect("read");
        match (keep, found) {
            (true, Found::Included { block, outcome: Outcome::Ok, .. }) => assert_ne!(block.hash, before.hash),
            (false, Found::NotYet) => {
                // Thrown out of its block and out of the pool: the same bytes are sent again.
                client.submit(&signed).await.expect("it is taken again");
                node.blocks(1).await;
                assert!(matches!(client.find(&signed).await, Ok(Found::Included { .. })));
            }
            (keep, found) => panic!("keep {keep}: {found:?}"),
        }
        node.blocks(3).await;
        let head = client.finalized_head().await.expect("a head").number;
        while followed.len() < usize::try_from(head).expect("few") {
            let Followed::Block(block) = soon(follower.next()).await else { panic!("it only reads final blocks") };
            followed.push(block);
        }
        let landed = client.find(&signed).await.expect("read");
        assert!(matches!(landed, Found::Included { finalized: true, outcome: Outcome::Ok, .. }), "{landed:?}");
    }
    for block in followed {
        assert_eq!(client.block_hash(block.number).await.expect("read"), Some(block.hash), "block {}", block.number);
    }
    node.end().await;
}

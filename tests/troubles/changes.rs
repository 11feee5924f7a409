//! A metagraph that is read as what has changed, beside one that is read whole.

use serde_json::json;
use waag::chain::{Call, Keypair, Metagraph};

use super::{Node, account, connect};

/// Blocks that are looked at: a dozen epochs.
const BLOCKS: u64 = 130;

/// What happens before some blocks: newcomers, newcomers in the place of others, permits, stake, axons by extrinsic.
async fn happen(node: &Node, netuid: u16, number: u64) {
    let key = |at: u64| account(&format!("//miner{at}"));
    match number % 3 {
        // From the sixteenth on each takes the place of another.
        1 => drop(node.control("dev_register", json!([netuid, key(number), key(number / 2)])).await),
        2 if number > 9 => {
            let stake = json!([netuid, key(number - 1), number.is_multiple_of(2), number * 1_000_000_000]);
            drop(node.control("dev_setPermit", stake).await);
        }
        _ => node.blocks(1).await,
    }
}

#[tokio::test]
async fn what_events_name_is_all_that_has_changed() {
    let node = Node::new(1).await;
    let wanted = json!([{
        "owner": account("//Alice"), "tempo": 10, "commit_reveal": false, "max_allowed_uids": 16, "immunity_period": 2,
        "weights_set_rate_limit": 0, "min_allowed_weights": 1,
    }]);
    let netuid = 1;
    node.control("dev_createSubnet", wanted).await;
    let client = connect(&[node.url()]).await;
    let alice = Keypair::from_uri("//Alice").expect("a key");
    node.blocks(3).await;

    let head = client.best_head().await.expect("a head");
    let mut known = client.metagraph(netuid, head.hash).await.expect("read");
    let mut epoch = client.weight_rules(netuid, head.hash).await.expect("read").last_epoch_block;
    let mut hotkeys = std::collections::BTreeSet::new();
    let (mut epochs, mut quiet) = (0, 0);
    for number in head.number + 1..=head.number + BLOCKS {
        if number % 9 == 7 {
            // Weights of the owner, who needs no permit.
            let count = u16::try_from(known.neurons.len()).expect("few");
            let call = Call::SetWeights {
                netuid,
                mechanism: 0,
                uids: (0..count).collect(),
                values: vec![9; count.into()],
                version_key: 0,
            };
            let signed = client.sign(&alice, call, None).await.expect("it can be signed");
            client.submit(&signed).await.expect("it is taken");
        }
        happen(&node, netuid, number).await;
        let block = client.best_head().await.expect("a head");
        assert_eq!(block.number, number);
        let news = client.block_news(netuid, &block).await.expect("its events are read");
        let rules = client.weight_rules(netuid, block.hash).await.expect("read");
        let whole = client.metagraph(netuid, block.hash).await.expect("read");
        let is_epoch = std::mem::replace(&mut epoch, rules.last_epoch_block) != rules.last_epoch_block;
        if is_epoch {
            epochs += 1;
            known = whole;
            continue;
        }
        quiet += u32::from(news.touched.is_empty());
        let changed: Metagraph = client.metagraph_since(&known, &news.touched, &block).await.expect("read");
        assert_eq!(changed, whole, "block {number}, which touches {:?}", news.touched);
        hotkeys.extend(whole.neurons.iter().map(|neuron| neuron.hotkey));
        known = changed;
    }
    assert!(
        epochs >= 10 && quiet >= 40 && hotkeys.len() > 30,
        "{epochs} epochs, {quiet} quiet, {} hotkeys",
        hotkeys.len()
    );
    node.end().await;
}

//! The client against the embedded devnet, over its real socket: what the chain's rules make of what we send.

use std::time::Duration;

use serde_json::{Value as Json, json};
use subxt_rpcs::client::RpcParams;

use super::{
    BlockRef, Call, Client, Error, Field, Followed, Found, Keypair, Options, Outcome, Proposal, ReadBack, Sealed,
    Signed, Way, merge_fields, preflight, read_back, testkit,
};
use crate::{
    actors::Tasks,
    clock::SystemClock,
    devnet::{self, Blocks},
    ids::{Digest, Hotkey},
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

struct Net {
    tasks: Tasks,
    handle: devnet::Handle,
    client: Client,
}

impl Net {
    async fn start(options: devnet::Options) -> Self {
        let tasks = Tasks::new();
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.unwrap();
        let client = Client::connect(Options::new(vec![handle.url()])).await.unwrap();
        assert_eq!(client.genesis_hash(), handle.genesis_hash());
        Self { tasks, handle, client }
    }

    async fn with(blocks: Blocks) -> Self {
        Self::start(devnet::Options { blocks, ..devnet::Options::default() }).await
    }

    async fn control(&self, method: &str, params: Json) -> Json {
        testkit::control(&self.handle.url(), method, params).await
    }

    /// A subnet of //Alice without commit-reveal and rate limit.
    async fn subnet(&self) -> u16 {
        let wanted = json!([{
            "owner": key("//Alice").account(), "tempo": 20, "weights_set_rate_limit": 0, "commit_reveal": false,
            "min_allowed_weights": 1, "burn": 1_000_000_000_u64,
        }]);
        u16::try_from(self.control("dev_createSubnet", wanted).await["netuid"].as_u64().unwrap()).unwrap()
    }

    async fn send(&self, signer: &Keypair, call: Call) -> Result<BlockRef, Error> {
        let signed = self.client.sign(signer, call, None).await?;
        tokio::time::timeout(PATIENCE, self.client.submit_and_wait(&signed)).await.expect("an end")
    }

    async fn end(self) {
        let Self { tasks, handle, client } = self;
        drop(client);
        handle.stop().await;
        assert_eq!(tasks.drain(PATIENCE).await, Vec::<&str>::new());
    }
}

fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

fn register(netuid: u16, hotkey: &Keypair) -> Call {
    Call::BurnedRegister { netuid, hotkey: hotkey.account() }
}

fn commit(netuid: u16, fields: &[Field]) -> Call {
    Call::SetCommitment { netuid, fields: fields.to_vec() }
}

#[tokio::test]
async fn a_miner_registers_and_commits_and_is_seen() {
    let net = Net::with(Blocks::Instant).await;
    let (client, netuid) = (&net.client, net.subnet().await);
    let (coldkey, hotkey) = (key("//Bob"), key("//Miner"));
    let before = client.best_head().await.unwrap();
    let price_rao = client.burn_cost(netuid, before.hash).await.unwrap();
    let funds_rao = client.balance(&coldkey.account(), before.hash).await.unwrap();
    assert_eq!(client.uid_of(netuid, &hotkey.account(), before.hash).await.unwrap(), None);

    let block = net.send(&coldkey, register(netuid, &hotkey)).await.unwrap();
    assert_eq!(client.uid_of(netuid, &hotkey.account(), block.hash).await.unwrap(), Some(1));
    let spent_rao = funds_rao - client.balance(&coldkey.account(), block.hash).await.unwrap();
    // The price falls a little with every block, and there is a fee.
    assert!(spent_rao > price_rao / 10 * 9 && spent_rao < price_rao / 10 * 11, "{spent_rao} of {price_rao}");
    let metagraph = client.metagraph(netuid, block.hash).await.unwrap();
    let miner = metagraph.neuron(&hotkey.account()).unwrap();
    assert_eq!((miner.uid, miner.coldkey, miner.registered_at), (1, coldkey.account(), block.number));
    assert_eq!((metagraph.neurons.len(), metagraph.block), (2, block.number));

    let seal = |challenge: &str, salt: u8| {
        let challenge = challenge.parse().unwrap();
        Sealed::new(&client.genesis_hash(), netuid, &challenge, &hotkey.account(), &Digest([1; 32]), &[salt; 32])
    };
    let first = merge_fields(&[], &seal("one", 1)).unwrap();
    let block = net.send(&hotkey, commit(netuid, &first)).await.unwrap();
    let seen = client.block_commitments(netuid, &block).await.unwrap();
    assert_eq!((seen.len(), seen[0].hotkey, seen[0].block), (1, hotkey.account(), block.number));
    assert!(seen[0].extrinsic_index >= 1, "extrinsic 0 is the block's time");
    assert_eq!(Sealed::from_field(&seen[0].fields[0]), Some(seal("one", 1)));

    // A second challenge keeps the first one's field.
    let stands = client.commitment_of(netuid, &hotkey.account(), block.hash).await.unwrap().unwrap();
    let both = merge_fields(&stands.fields, &seal("two", 2)).unwrap();
    let block = net.send(&hotkey, commit(netuid, &both)).await.unwrap();
    let all = client.commitments(netuid, block.hash).await.unwrap();
    assert_eq!((all.len(), all[0].block, &all[0].fields), (1, block.number, &both));
    let sealed: Vec<_> = all[0].fields.iter().map(|field| Sealed::from_field(field).unwrap()).collect();
    assert_eq!(sealed, [seal("one", 1), seal("two", 2)]);
    let parent = client.block(block.parent).await.unwrap();
    assert_eq!(client.block_commitments(netuid, &parent).await.unwrap(), vec![]);
    net.end().await;
}

#[tokio::test]
async fn refusals_carry_the_chains_own_names() {
    let net = Net::with(Blocks::Instant).await;
    let netuid = net.subnet().await;
    let (coldkey, hotkey, stranger) = (key("//Bob"), key("//Miner"), key("//Charlie"));
    net.send(&coldkey, register(netuid, &hotkey)).await.unwrap();
    let refused = |result: Result<BlockRef, Error>| {
        let error = result.unwrap_err();
        (error.chain_name().unwrap_or_default().to_owned(), error.code().name)
    };
    let name = |name: &str, code| (name.to_owned(), code);
    let twice = refused(net.send(&coldkey, register(netuid, &hotkey)).await);
    assert_eq!(twice, name("HotKeyAlreadyRegisteredInSubNet", "chain_already_registered"));
    let nowhere = refused(net.send(&coldkey, register(99, &stranger)).await);
    assert_eq!(nowhere.1, "chain_subnet_missing", "{nowhere:?}");
    let other = refused(net.send(&stranger, register(net.subnet().await, &hotkey)).await);
    assert_eq!(other, name("NonAssociatedColdKey", "chain_wrong_coldkey"));
    let uninvited = refused(net.send(&stranger, commit(netuid, &[Field::Raw(vec![1])])).await);
    assert_eq!(uninvited, name("AccountNotAllowedCommit", "chain_commit_not_allowed"));
    let poor = refused(net.send(&key("//Nobody"), Call::Transfer { to: stranger.account(), amount_rao: 1000 }).await);
    assert_eq!(poor.1, "chain_balance_too_low", "{poor:?}");
    net.end().await;
}

/// Sets weights as `hotkey` and compares the chain's verdict with the pre-flight's.
async fn both_verdicts(net: &Net, netuid: u16, hotkey: &Keypair, uids: &[u16], values: &[u16], version_key: u64) {
    let head = net.client.best_head().await.unwrap();
    let rules = net.client.weight_rules(netuid, head.hash).await.unwrap();
    let caller = net.client.validator(netuid, 0, &hotkey.account(), head.hash).await.unwrap();
    let proposal = Proposal { way: Way::Plain, uids, weights: values, version_key, now: head.number + 1 };
    let ours = preflight(&rules, &caller, &proposal);
    let call = Call::SetWeights { netuid, mechanism: 0, uids: uids.to_vec(), values: values.to_vec(), version_key };
    let chains = net.send(hotkey, call).await;
    match (ours, chains) {
        (Ok(()), Ok(_)) => {}
        (Err(ours), Err(chains)) => {
            let named = chains.chain_name().unwrap_or_default().to_owned();
            // The pool's own guards come first, under names of their own.
            let same = named == ours.name || chains.code() == super::codes::code_of(ours.name);
            assert!(same, "{uids:?} {values:?}: we say {ours}, the chain says {named}");
        }
        (ours, chains) => panic!("{uids:?} {values:?}: we say {ours:?}, the chain says {chains:?}"),
    }
}

#[tokio::test]
async fn the_preflight_says_what_the_chain_says() {
    let net = Net::with(Blocks::Instant).await;
    let netuid = net.subnet().await;
    let (validator, miner) = (key("//Validator"), key("//Miner"));
    net.send(&key("//Bob"), register(netuid, &validator)).await.unwrap();
    net.send(&key("//Bob"), register(netuid, &miner)).await.unwrap();
    net.control("dev_setPermit", json!([netuid, validator.account(), true])).await;

    both_verdicts(&net, netuid, &validator, &[0, 2], &[65535, 7], 0).await;
    both_verdicts(&net, netuid, &validator, &[0, 2], &[65535], 0).await;
    both_verdicts(&net, netuid, &validator, &[0, 1, 2, 3], &[65535; 4], 0).await;
    both_verdicts(&net, netuid, &key("//Charlie"), &[0, 2], &[65535, 7], 0).await;
    both_verdicts(&net, netuid, &miner, &[0, 1], &[65535, 7], 0).await;
    both_verdicts(&net, netuid, &miner, &[2], &[65535], 0).await;
    both_verdicts(&net, netuid, &validator, &[2, 2], &[65535, 7], 0).await;
    both_verdicts(&net, netuid, &validator, &[0, 3], &[65535, 7], 0).await;
    both_verdicts(&net, netuid, &validator, &[0, 2], &[0, 0], 0).await;
    for (name, value) in [("min_allowed_weights", 2), ("max_weights_limit", 40_000), ("weights_version_key", 5)] {
        net.control("dev_setHyperparameter", json!([netuid, name, value])).await;
        both_verdicts(&net, netuid, &validator, &[2], &[65535], 9).await;
        both_verdicts(&net, netuid, &validator, &[0, 2], &[65535, 65535], 9).await;
        both_verdicts(&net, netuid, &validator, &[0, 2], &[65535, 100], 9).await;
        both_verdicts(&net, netuid, &validator, &[0, 2], &[65535, 65535], 4).await;
    }
    net.control("dev_setHyperparameter", json!([netuid, "weights_set_rate_limit", 50])).await;
    both_verdicts(&net, netuid, &validator, &[0, 2], &[65535, 65535], 9).await;
    net.control("dev_newBlock", json!([60])).await;
    both_verdicts(&net, netuid, &validator, &[0, 2], &[65535, 65535], 9).await;
    net.end().await;
}

/// Commits as `hotkey` and compares the chain's verdict with the pre-flight's. Answers the name that both say.
async fn both_commit(net: &Net, netuid: u16, mechanism: u8, hotkey: &Keypair, way: Way) -> String {
    let head = net.client.best_head().await.unwrap();
    let rules = net.client.weight_rules(netuid, head.hash).await.unwrap();
    let caller = net.client.validator(netuid, mechanism, &hotkey.account(), head.hash).await.unwrap();
    let proposal = Proposal { way, uids: &[0], weights: &[65535], version_key: 0, now: head.number + 1 };
    let ours = preflight(&rules, &caller, &proposal);
    let call = match way {
        Way::Hash => Call::CommitWeights { netuid, mechanism, hash: Digest([7; 32]) },
        // What is in it shows at the reveal only.
        _ => Call::CommitTimelocked { netuid, mechanism, ciphertext: vec![1; 300], round: 1 << 40, version: 4 },
    };
    match (ours, net.send(hotkey, call).await) {
        (Ok(()), Ok(_)) => "ok".to_owned(),
        (Err(ours), Err(chains)) => {
            let named = chains.chain_name().unwrap_or_default().to_owned();
            let same = named == ours.name || chains.code() == super::codes::code_of(ours.name);
            assert!(same, "we say {ours}, the chain says {named}");
            ours.name.to_owned()
        }
        (ours, chains) => panic!("{way:?}: we say {ours:?}, the chain says {chains:?}"),
    }
}

#[tokio::test]
async fn the_preflight_of_a_commit_says_what_the_chain_says() {
    for way in [Way::Hash, Way::Timelocked] {
        let net = Net::with(Blocks::Instant).await;
        let netuid = net.subnet().await;
        let validator = key("//Validator");
        net.send(&key("//Bob"), register(netuid, &validator)).await.unwrap();
        net.control("dev_setPermit", json!([netuid, validator.account(), true])).await;
        let set = async |name: &str, value: Json| {
            net.control("dev_setHyperparameter", json!([netuid, name, value])).await;
        };
        assert_eq!(both_commit(&net, netuid, 0, &validator, way).await, "CommitRevealDisabled");
        set("commit_reveal_weights_enabled", json!(true)).await;
        set("tempo", json!(200)).await;
        assert_eq!(both_commit(&net, netuid, 1, &validator, way).await, "MechanismDoesNotExist");
        assert_eq!(both_commit(&net, netuid, 0, &key("//Charlie"), way).await, "HotKeyNotRegisteredInSubNet");
        assert_eq!(both_commit(&net, netuid, 0, &validator, way).await, "ok");
        set("weights_set_rate_limit", json!(50)).await;
        assert_eq!(both_commit(&net, netuid, 0, &validator, way).await, "CommittingWeightsTooFast");
        set("weights_set_rate_limit", json!(0)).await;
        for _ in 1..10 {
            assert_eq!(both_commit(&net, netuid, 0, &validator, way).await, "ok");
        }
        assert_eq!(both_commit(&net, netuid, 0, &validator, way).await, "TooManyUnrevealedCommits");
        let head = net.client.best_head().await.unwrap();
        let found = net.client.validator(netuid, 0, &validator.account(), head.hash).await.unwrap();
        assert_eq!(found.commits.len(), 10);
        for _ in 0..6 {
            net.control("dev_newBlock", json!([70])).await;
        }
        assert_eq!(both_commit(&net, netuid, 0, &validator, way).await, "ok", "they have expired");
        net.end().await;
    }
}

#[tokio::test]
async fn weights_are_read_back_as_they_were_sent() {
    let net = Net::with(Blocks::Instant).await;
    let (client, netuid) = (&net.client, net.subnet().await);
    let validator = key("//Validator");
    net.send(&key("//Bob"), register(netuid, &validator)).await.unwrap();
    net.control("dev_setPermit", json!([netuid, validator.account(), true])).await;
    let (uids, values) = (vec![0, 1], vec![65535, 12345]);
    let sent: Vec<(u16, u16)> = uids.iter().copied().zip(values.iter().copied()).collect();
    let block =
        net.send(&validator, Call::SetWeights { netuid, mechanism: 0, uids, values, version_key: 0 }).await.unwrap();
    let uid = client.uid_of(netuid, &validator.account(), block.hash).await.unwrap().unwrap();
    let stored = client.weights(netuid, uid, block.hash).await.unwrap();
    assert_eq!(read_back(&sent, &stored), ReadBack::Equal);
    assert_eq!(client.last_update(netuid, uid, block.hash).await.unwrap(), block.number);
    let rules = client.weight_rules(netuid, block.hash).await.unwrap();
    assert_eq!((rules.block, rules.n, rules.commit_reveal, rules.tempo_blocks), (block.number, 2, false, 20));
    assert_eq!(rules.owner_hotkey, Some(key("//Alice").account()));
    let next = rules.next_epoch_block().unwrap();
    assert!(next > block.number && next <= block.number + 20, "{next}");
    let hidden = json!([netuid, "commit_reveal_weights_enabled", true]);
    net.control("dev_setHyperparameter", hidden).await;
    let head = client.best_head().await.unwrap();
    assert!(client.weight_rules(netuid, head.hash).await.unwrap().commit_reveal);
    net.end().await;
}

#[tokio::test]
async fn commitments_inside_a_batch_are_seen() {
    let net = Net::with(Blocks::Instant).await;
    let (client, netuid) = (&net.client, net.subnet().await);
    let hotkey = key("//Charlie");
    net.send(&key("//Bob"), register(netuid, &hotkey)).await.unwrap();
    let calls = [commit(netuid, &[Field::Raw(vec![1])]), commit(netuid, &[Field::Raw(vec![2]), Field::None])];
    let signed = super::testkit::batched(client, &hotkey, "batch", &calls).await;
    let block = tokio::time::timeout(PATIENCE, client.submit_and_wait(&signed)).await.unwrap().unwrap();
    let seen = client.block_commitments(netuid, &block).await.unwrap();
    assert_eq!((seen.len(), seen[0].hotkey), (1, hotkey.account()));
    assert_eq!(seen[0].fields, [Field::Raw(vec![2]), Field::None]);
    net.end().await;
}

#[tokio::test]
async fn a_call_is_followed_from_the_pool_to_finality_or_death() {
    let net = Net::with(Blocks::Manual).await;
    let (client, netuid) = (&net.client, net.subnet().await);
    let hotkey = key("//Alice");
    let call = commit(netuid, &[Field::Raw(vec![1])]);
    net.control("dev_newBlock", json!([3])).await;
    let first = client.sign(&hotkey, call.clone(), None).await.unwrap();
    client.submit(&first).await.unwrap();
    client.submit(&first).await.unwrap();
    assert_eq!(client.find(&first).await.unwrap(), Found::NotYet);
    // The node counts what is in its pool.
    assert_eq!(client.next_nonce(&hotkey.account()).await.unwrap(), first.nonce + 1);
    net.control("dev_newBlock", json!([1])).await;
    let found = client.find(&first).await.unwrap();
    assert!(matches!(&found, Found::Included { finalized: false, outcome: Outcome::Ok, .. }), "{found:?}");
    net.control("dev_newBlock", json!([4])).await;
    let found = client.find(&first).await.unwrap();
    assert!(matches!(&found, Found::Included { finalized: true, .. }), "{found:?}");
    // The very same bytes, read back from storage, are refused by the pool and still found.
    let stored = Signed::decode(&first.encode()).unwrap();
    assert_eq!(client.submit(&stored).await.unwrap_err().code().name, "chain_pool_refused");
    assert!(client.submit_and_wait(&stored).await.is_ok());

    // Never sent: dead after its era, and only then.
    let unsent = client.sign(&hotkey, call, None).await.unwrap();
    net.control("dev_newBlock", json!([30])).await;
    assert_eq!(client.find(&unsent).await.unwrap(), Found::NotYet);
    net.control("dev_newBlock", json!([4])).await;
    assert_eq!(client.find(&unsent).await.unwrap(), Found::Dead);
    assert!(client.submit(&unsent).await.is_err());
    net.end().await;
}

#[tokio::test]
async fn following_survives_dropped_connections() {
    // Slow enough that the node still has the state when a socket is found dead only by the next poll.
    let net = Net::with(Blocks::Interval { ms: 60 }).await;
    let mut follower = net.client.follow_finalized(Some(0));
    for number in 0..60 {
        let next = tokio::time::timeout(PATIENCE, follower.next()).await.expect("a block");
        assert!(matches!(next, Followed::Block(block) if block.number == number), "{number}: {next:?}");
        if number % 25 == 10 {
            // By a connection of its own, which asks once: ours would try again, and cut everything again.
            let once = subxt_rpcs::RpcClient::from_insecure_url(net.handle.url()).await.unwrap();
            let _lost_with_its_connection = once.request::<bool>("dev_dropConnections", RpcParams::new()).await;
        }
    }
    net.end().await;
}

#[tokio::test]
async fn discarded_state_is_named_and_reported_as_a_gap() {
    let forgets = devnet::Options { state_blocks: 300, ..devnet::Options::default() };
    let net = Net::start(devnet::Options { blocks: Blocks::Manual, ..forgets }).await;
    for _ in 0..7 {
        net.control("dev_newBlock", json!([100])).await;
    }
    let client = &net.client;
    let old = client.block_hash(5).await.unwrap().unwrap();
    let error = client.balance(&key("//Alice").account(), old).await.unwrap_err();
    assert_eq!(error.code().name, "chain_state_pruned", "{error}");
    assert_eq!(client.block_hash(701).await.unwrap(), None);
    assert!(matches!(client.block(Digest([7; 32])).await, Err(Error::UnknownBlock { .. })));
    let mut follower = client.follow_finalized(Some(5));
    let Followed::Gap { from: 5, to } = follower.next().await else { panic!("no gap") };
    let Followed::Block(block) = follower.next().await else { panic!("no block") };
    assert_eq!(block.number, to + 1);
    assert!(client.balance(&key("//Alice").account(), block.hash).await.unwrap() > 0);
    assert_eq!(client.balance(&Hotkey([1; 32]), block.hash).await.unwrap(), 0);
    net.end().await;
}

#[tokio::test]
async fn a_node_that_comes_back_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = devnet::Options {
        blocks: Blocks::Interval { ms: 20 },
        state: Some(folder.path().join("chain")),
        ..devnet::Options::default()
    };
    let Net { tasks, handle, client } = Net::start(options.clone()).await;
    let listen = handle.url().trim_start_matches("ws://").parse().unwrap();
    let head = client.finalized_head().await.unwrap();
    handle.stop().await;
    tasks.drain(PATIENCE).await;
    let error = client.finalized_head().await.unwrap_err();
    assert_eq!(error.code().name, "chain_unreachable", "{error}");

    let tasks = Tasks::new();
    let again = devnet::Options { listen, ..options };
    let handle = devnet::start(again, &tasks, SystemClock::shared()).await.unwrap();
    assert!(client.finalized_head().await.unwrap().number >= head.number);
    handle.stop().await;
    tasks.drain(PATIENCE).await;

    // Another chain behind the same address: nothing is read from it, nothing is signed for it.
    let tasks = Tasks::new();
    let other = devnet::Options { listen, seed: [9; 32], ..devnet::Options::default() };
    let handle = devnet::start(other, &tasks, SystemClock::shared()).await.unwrap();
    let call = Call::Transfer { to: Hotkey([1; 32]), amount_rao: 1000 };
    let error = client.sign(&key("//Alice"), call, Some(0)).await.unwrap_err();
    assert_eq!(error.code().name, "chain_wrong_network", "{error}");
    handle.stop().await;
    tasks.drain(PATIENCE).await;
}

//! Commitments in a challenge's own form, against the embedded devnet, seen by our own reader.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde_json::json;

use super::{
    Foreign, Standing, commit_foreign,
    commit_tests::{Net, key, quiet},
    payload_of,
};
use crate::{
    actors::Beacon,
    chain::{Call, Field, Keypair, RevealedCommitment, Slug, timelock},
    clock::{Clock, SystemClock, UnixMs},
    config::profile::{Pattern, Source},
    devnet::Blocks,
    fault::Fault,
    ids::Digest,
    intake::{Form, Forms, Registration, read_commitments},
};

const ROUND: u64 = 1000;
/// quicknet's own signature of that round.
const SIGNATURE: &str =
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39";

fn pattern() -> Pattern {
    "v7|{repo:path}|{digest:sha256}".parse().unwrap()
}

fn slug() -> Slug {
    "models".parse().unwrap()
}

fn parts(repo: &str, digit: char) -> BTreeMap<String, String> {
    let digest = format!("sha256:{}", digit.to_string().repeat(64));
    BTreeMap::from([("repo".to_owned(), repo.to_owned()), ("digest".to_owned(), digest)])
}

fn text(source: Source, repo: &str, digit: char) -> String {
    payload_of(&slug(), source, &pattern(), &parts(repo, digit)).unwrap()
}

struct Miner {
    hotkey: Keypair,
    challenge: Slug,
    pattern: Pattern,
}

impl Miner {
    fn new() -> Self {
        Self { hotkey: key("//Miner"), challenge: slug(), pattern: pattern() }
    }

    fn what<'a>(&'a self, net: &Net, source: Source, payload: &'a str) -> Foreign<'a> {
        Foreign {
            netuid: net.netuid,
            challenge: &self.challenge,
            hotkey: &self.hotkey,
            source,
            pattern: &self.pattern,
            payload,
            beacon: Beacon::Chain,
            reveal_blocks: 1,
            again: false,
        }
    }
}

/// Commits while blocks are made.
async fn done(net: &Net, what: &Foreign<'_>) -> Result<super::Committed, Fault> {
    net.with_blocks(commit_foreign(&net.client, what, &SystemClock, &quiet)).await
}

/// What the operator's reader makes of what was opened.
fn read(source: Source, reveals: &[RevealedCommitment]) -> Vec<(String, Option<Digest>, BTreeMap<String, String>)> {
    let forms = Forms::from([("models".to_owned(), Form { source, pattern: Some(pattern()) })]);
    let registration = Registration { uid: 1, since_block: 0, coldkey: key("//Bob").account() };
    let registered = BTreeMap::from([(key("//Miner").account(), registration)]);
    let reading = read_commitments(&[], reveals, &forms, &registered);
    assert_eq!(reading.sightings.len(), reading.facts.len());
    reading.facts.into_iter().map(|fact| (fact.field, fact.digest, fact.parts)).collect()
}

#[tokio::test]
async fn a_text_in_the_open_takes_the_place_of_its_challenge_alone() {
    let net = Net::start(Blocks::Manual).await;
    let miner = Miner::new();
    let seal = Field::Raw(format!("waag1:gym:{}", "e".repeat(64)).into_bytes());
    let own = Field::Raw(b"my own".to_vec());
    let call = Call::SetCommitment { netuid: net.netuid, fields: vec![seal.clone(), own.clone()] };
    let sent = net.client.sign(&miner.hotkey, call, None).await.unwrap();
    net.client.submit(&sent).await.unwrap();

    let first = text(Source::Plain, "a/b", 'a');
    let committed = done(&net, &miner.what(&net, Source::Plain, &first)).await.unwrap();
    assert_eq!((committed.field.as_str(), committed.again, committed.artifact), (&*first, false, Digest([0xaa; 32])));
    let of = |text: &str| Field::text(text).unwrap();
    assert_eq!(net.fields().await, [seal.clone(), own.clone(), of(&first)]);
    // The same once more is nothing, and another takes its place.
    let again = done(&net, &miner.what(&net, Source::Plain, &first)).await.unwrap();
    assert_eq!((again.again, again.block), (true, committed.block));
    let second = text(Source::Plain, "a/b", 'b');
    let replaced = done(&net, &miner.what(&net, Source::Plain, &second)).await.unwrap();
    assert!(!replaced.again && replaced.block > committed.block);
    assert_eq!(net.fields().await, [seal, own, of(&second)]);
    net.end().await;
}

#[tokio::test]
async fn what_was_sent_before_an_interruption_is_found() {
    let net = Net::start(Blocks::Manual).await;
    let miner = Miner::new();
    for (source, digit) in [(Source::Plain, 'a'), (Source::Revealed, 'b')] {
        let payload = text(source, "a/b", digit);
        let what = miner.what(&net, source, &payload);
        // Sent, and the process dies before it is in a block.
        let head = net.client.best_head().await.unwrap();
        let (signed, _round) = what.sign(&net.client, &SystemClock, &head).await.unwrap();
        net.client.submit(&signed).await.unwrap();
        let found = done(&net, &what).await.unwrap();
        assert!(found.again, "{found:?}");
        let nonce = net.client.next_nonce(&miner.hotkey.account()).await.unwrap();
        assert_eq!(nonce, signed.nonce + 1, "nothing else was signed");
    }
    net.end().await;
}

#[tokio::test]
async fn the_chain_opens_what_was_locked_and_our_reader_sees_its_parts() {
    let net = Net::start(Blocks::Instant).await;
    let miner = Miner::new();
    let own = Field::Raw(b"my own".to_vec());
    let call = Call::SetCommitment { netuid: net.netuid, fields: vec![own.clone()] };
    let sent = net.client.sign(&miner.hotkey, call, None).await.unwrap();
    net.client.submit(&sent).await.unwrap();

    let payload = text(Source::Revealed, "alice/model-1", 'c');
    let what = Foreign { reveal_blocks: 20, ..miner.what(&net, Source::Revealed, &payload) };
    let committed = commit_foreign(&net.client, &what, &SystemClock, &quiet).await.unwrap();
    let round = committed.opens_round.expect("it is locked");
    let lock = net.fields().await.into_iter().find(|field| field.kind() == "TimelockEncrypted").expect("a lock");
    assert!(!lock.content().windows(8).any(|bytes| payload.as_bytes().windows(8).any(|other| other == bytes)));
    // While it is locked, nobody reads it, and the same is not committed twice.
    let again = commit_foreign(&net.client, &what, &SystemClock, &quiet).await.unwrap();
    assert_eq!((again.again, again.block, again.opens_round), (true, committed.block, Some(round)));

    let best = net.client.best_head().await.unwrap();
    net.control("dev_newBlock", json!([40])).await;
    let head = net.client.finalized_head().await.unwrap();
    let standing = what.standing(&net.client, &head).await.unwrap();
    let Some(Standing::Opened(block)) = standing else { panic!("{standing:?}") };
    assert!(block > best.number && block <= committed.block + 25, "{block} of {committed:?}");
    assert_eq!(net.fields().await, [own], "the other field is whole");
    let reveals = net.client.revealed(net.netuid, head.hash).await.unwrap();
    let seen = (payload.clone(), Some(Digest([0xcc; 32])), parts("alice/model-1", 'c'));
    assert_eq!(read(Source::Revealed, &reveals), [seen]);
    let again = commit_foreign(&net.client, &what, &SystemClock, &quiet).await.unwrap();
    assert_eq!((again.again, again.block, again.opens_round), (true, block, None));
    // Asked for by name, it is committed anew.
    let anew = commit_foreign(&net.client, &Foreign { again: true, ..what }, &SystemClock, &quiet).await.unwrap();
    assert!(!anew.again && anew.block > block, "{anew:?}");
    net.end().await;
}

/// The machine's clock, at a time of its own.
struct At(UnixMs);

#[async_trait]
impl Clock for At {
    fn now_ms(&self) -> UnixMs {
        self.0
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

#[tokio::test]
async fn for_the_real_beacon_it_is_locked_by_the_wall_clock() {
    let net = Net::start(Blocks::Manual).await;
    let miner = Miner::new();
    let payload = text(Source::Revealed, "a/b", 'd');
    let what = Foreign { beacon: Beacon::Quicknet, ..miner.what(&net, Source::Revealed, &payload) };
    let refused = done(&net, &what).await.unwrap_err();
    assert_eq!(refused.code, "commitment_not_lockable", "the devnet has a beacon of its own");

    // The devnet with the real chains' beacon.
    let quicknet = timelock::Beacon::quicknet();
    let names = ["Drand", "BeaconConfig"].map(|name| hex::encode(sp_crypto_hashing::twox_128(name.as_bytes())));
    let key = format!("0x{}", names.concat());
    let stored = net.control("state_getStorage", json!([key])).await;
    let mut config = hex::decode(&stored.as_str().unwrap()[2..]).unwrap();
    config[2..98].copy_from_slice(quicknet.key());
    config[98..102].copy_from_slice(&u32::try_from(quicknet.period_s()).unwrap().to_le_bytes());
    config[102..106].copy_from_slice(&u32::try_from(quicknet.genesis_s()).unwrap().to_le_bytes());
    net.control("dev_setStorage", json!([key, format!("0x{}", hex::encode(config))])).await;
    let clock = At(i64::try_from((quicknet.genesis_s() + 3 * ROUND - 12) * 1000).unwrap());
    let committed = net.with_blocks(commit_foreign(&net.client, &what, &clock, &quiet)).await.unwrap();
    assert_eq!(committed.opens_round, Some(ROUND), "one block of twelve seconds from now");
    net.control("dev_injectPulse", json!([ROUND, SIGNATURE])).await;
    net.control("dev_newBlock", json!([4])).await;
    let head = net.client.finalized_head().await.unwrap();
    let reveals = net.client.revealed(net.netuid, head.hash).await.unwrap();
    assert_eq!(read(Source::Revealed, &reveals), [(payload.clone(), Some(Digest([0xdd; 32])), parts("a/b", 'd'))]);
    net.end().await;
}

#[tokio::test]
async fn what_cannot_be_committed_is_refused_before_anything_is_sent() {
    let net = Net::start(Blocks::Instant).await;
    let miner = Miner::new();
    let payload = text(Source::Plain, "a/b", 'a');
    let stranger = Miner { hotkey: key("//Stranger"), ..Miner::new() };
    let refused = done(&net, &stranger.what(&net, Source::Plain, &payload)).await.unwrap_err();
    assert_eq!(refused.code, "hotkey_unregistered");

    // The longest that a lock takes, and a byte more.
    let room = timelock::COMMITMENT_BYTES_MAX - timelock::OVERHEAD_BYTES - 2;
    let of = |bytes: usize| {
        let repo = "r".repeat(bytes - "v7||sha256:".len() - 64);
        text(Source::Revealed, &repo, 'a')
    };
    let head = net.client.best_head().await.unwrap();
    let longest = of(room);
    let what = miner.what(&net, Source::Revealed, &longest);
    let (field, _round) = what.field(&net.client, &SystemClock, &head).await.unwrap();
    assert_eq!(field.content().len(), timelock::COMMITMENT_BYTES_MAX);
    let longer = of(room + 1);
    let refused = done(&net, &miner.what(&net, Source::Revealed, &longer)).await.unwrap_err();
    assert_eq!(refused.code, "commitment_not_lockable");
    net.end().await;
}

#[test]
fn parts_must_make_a_text_that_our_reader_takes_for_the_challenges() {
    let of = |source, pattern: &str, parts: &[(&str, &str)]| {
        let parts = parts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        payload_of(&slug(), source, &pattern.parse().unwrap(), &parts).map_err(|fault| fault.code)
    };
    let hash = "a".repeat(64);
    let wrong = Err("commitment_parts_wrong".to_owned());
    let note = "{note}:{digest:sha256}";
    assert_eq!(of(Source::Plain, note, &[("note", "x"), ("digest", &hash)]), Ok(format!("x:{hash}")));
    assert_eq!(of(Source::Plain, note, &[("digest", &hash)]), wrong);
    // A seal of ours, whatever its pattern says.
    assert_eq!(of(Source::Plain, "{a}:{b}:{digest:sha256}", &[("a", "waag1"), ("b", "gym"), ("digest", &hash)]), wrong);
    // As long as the chain's largest plain field, and a byte more.
    let of_bytes = |bytes: usize| of(Source::Plain, note, &[("note", &"x".repeat(bytes - 65)), ("digest", &hash)]);
    assert!(of_bytes(512).is_ok());
    assert_eq!(of_bytes(513), wrong);
}

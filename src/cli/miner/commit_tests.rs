//! Commitments and payments by the miner's own acts, against the embedded devnet.

use std::{path::Path, time::Duration};

use serde_json::{Value as Json, json};

use super::{Commit, Means, Seals, Step, commit, is_paid, pay::pay};
use crate::{
    actors::Tasks,
    chain::{self, BlockName, Call, Client, Field, Keypair, Sealed, testkit},
    clock::SystemClock,
    devnet::{self, Blocks},
    fault::Fault,
    ids::{Hotkey, SystemEntropy},
    intake::Fee,
};

const PATIENCE: Duration = Duration::from_secs(120);
const TREASURY: Hotkey = Hotkey([0x77; 32]);

pub(super) fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

pub(super) struct Net {
    tasks: Tasks,
    handle: devnet::Handle,
    pub(super) client: Client,
    pub(super) netuid: u16,
}

impl Net {
    pub(super) async fn start(blocks: Blocks) -> Self {
        let tasks = Tasks::new();
        let options = devnet::Options { blocks, ..devnet::Options::default() };
        let handle = devnet::start(options, &tasks, SystemClock::shared()).await.unwrap();
        let client = Client::connect(chain::Options::new(vec![handle.url()])).await.unwrap();
        let mut net = Self { tasks, handle, client, netuid: 0 };
        let made = net.control("dev_createSubnet", json!([{ "owner": key("//Alice").account() }])).await;
        net.netuid = u16::try_from(made["netuid"].as_u64().unwrap()).unwrap();
        net.control("dev_register", json!([net.netuid, key("//Miner").account(), key("//Bob").account()])).await;
        net
    }

    pub(super) async fn control(&self, method: &str, params: Json) -> Json {
        testkit::control(&self.handle.url(), method, params).await
    }

    /// The act, while blocks are made.
    pub(super) async fn with_blocks<T>(&self, act: impl Future<Output = T>) -> T {
        let make = async {
            loop {
                self.control("dev_newBlock", json!([1])).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = act => done,
            () = make => unreachable!("blocks are made for ever"),
        }
    }

    pub(super) async fn fields(&self) -> Vec<Field> {
        let head = self.client.best_head().await.unwrap();
        let stored = self.client.commitment_of(self.netuid, &key("//Miner").account(), head.hash).await.unwrap();
        stored.unwrap().fields
    }

    async fn balance(&self, account: &Hotkey) -> u64 {
        let head = self.client.best_head().await.unwrap();
        self.client.balance(account, head.hash).await.unwrap()
    }

    pub(super) async fn end(self) {
        let Self { tasks, handle, client, .. } = self;
        drop(client);
        handle.stop().await;
        assert_eq!(tasks.drain(PATIENCE).await, Vec::<&str>::new());
    }
}

pub(super) fn quiet(_step: &Step) {}

async fn commit_to(net: &Net, artifact: &Path, slug: &str, hotkey: &Keypair) -> Result<String, Fault> {
    let challenge = slug.parse().unwrap();
    let what = Commit { netuid: net.netuid, challenge: &challenge, hotkey, artifact, again: false };
    commit(&net.client, &what, &SystemEntropy, &quiet).await.map(|committed| committed.field)
}

#[tokio::test]
async fn a_commitment_on_its_way_is_kept_by_the_next() {
    let net = Net::start(Blocks::Manual).await;
    let (hotkey, dir) = (key("//Miner"), tempfile::tempdir().unwrap());
    let artifact = dir.path().join("policy.tar");
    std::fs::write(&artifact, b"policy").unwrap();
    // Another program of the same miner: a time lock and a field of its own, sent and in no block yet.
    let lock = Field::TimelockEncrypted { encrypted: vec![5; 40], reveal_round: 1 << 40 };
    let own = Field::Raw(b"my own".to_vec());
    let call = Call::SetCommitment { netuid: net.netuid, fields: vec![lock.clone(), own.clone()] };
    let sent = net.client.sign(&hotkey, call, None).await.unwrap();
    net.client.submit(&sent).await.unwrap();

    let first = net.with_blocks(commit_to(&net, &artifact, "one", &hotkey)).await.unwrap();
    let sealed: Sealed = first.parse().unwrap();
    assert_eq!(net.fields().await, [lock.clone(), own.clone(), sealed.field()]);
    // A fourth has no place, and nothing is lost by trying.
    let refused = net.with_blocks(commit_to(&net, &artifact, "two", &hotkey)).await.unwrap_err();
    assert_eq!(refused.code, "commitment_full", "{refused}");
    assert_eq!(net.fields().await, [lock, own, sealed.field()]);
    net.end().await;
}

#[tokio::test]
async fn two_challenges_one_after_the_other_stand_side_by_side() {
    let net = Net::start(Blocks::Instant).await;
    let (hotkey, dir) = (key("//Miner"), tempfile::tempdir().unwrap());
    let artifact = dir.path().join("policy.tar");
    std::fs::write(&artifact, b"policy").unwrap();
    let mut fields = Vec::new();
    for slug in ["one", "two", "three"] {
        fields.push(commit_to(&net, &artifact, slug, &hotkey).await.unwrap());
    }
    let texts = |fields: Vec<Field>| fields.iter().map(|field| field.as_text().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(net.fields().await), fields);
    assert_eq!(commit_to(&net, &artifact, "two", &hotkey).await.unwrap(), fields[1], "it stands already");
    assert_eq!(commit_to(&net, &artifact, "four", &hotkey).await.unwrap_err().code, "commitment_full");
    assert_eq!(texts(net.fields().await), fields);
    net.end().await;
}

#[tokio::test]
async fn an_upload_is_paid_for_once_however_often_it_is_begun() {
    let net = Net::start(Blocks::Instant).await;
    let (hotkey, coldkey, dir) = (key("//Miner"), key("//Bob"), tempfile::tempdir().unwrap());
    let artifact = dir.path().join("policy.tar");
    std::fs::write(&artifact, b"policy").unwrap();
    let (genesis, challenge) = (net.client.genesis_hash(), "one".parse().unwrap());
    let what = Commit { netuid: net.netuid, challenge: &challenge, hotkey: &hotkey, artifact: &artifact, again: false };
    let (digest, _) = super::digest_file(&artifact).unwrap();
    let mut seals = Seals::open(&artifact).unwrap();
    let seal = seals.find_or_make(&what.subject(&genesis, digest), &SystemEntropy).unwrap();
    let fee = Fee { rao: 100_000_000, to: TREASURY, within_blocks: 100 };

    let nobody = pay(&net.client, &fee, Means::Stored, &mut seals, &seal, &quiet).await.unwrap_err();
    assert_eq!(nobody.code, "payment_missing");
    assert!(!is_paid(&genesis, &what).unwrap());
    // Signed and written down; the process dies before anything is sent.
    let call = Call::Transfer { to: TREASURY, amount_rao: fee.rao };
    let signed = net.client.sign(&coldkey, call, None).await.unwrap();
    let dying = super::Seal { paying: Some(hex::encode(signed.encode())), ..seal.clone() };
    seals.keep(&dying).unwrap();
    assert!(is_paid(&genesis, &what).unwrap(), "nobody is asked again");

    let mut seals = Seals::open(&artifact).unwrap();
    let mut names = Vec::new();
    for _try in 0..3 {
        let seal = seals.find(&what.subject(&genesis, digest)).unwrap().clone();
        names.push(pay(&net.client, &fee, Means::Coldkey(&coldkey), &mut seals, &seal, &quiet).await.unwrap());
    }
    assert!(names.iter().all(|name| *name == names[0] && name.extrinsic == signed.hash), "{names:?}");
    assert_eq!(net.balance(&TREASURY).await, fee.rao, "once");
    let BlockName::Number(block) = names[0].block else { panic!("{names:?}") };
    let hash = net.client.block_hash(block).await.unwrap().unwrap();
    let traced = net.client.trace_payment(&names[0], &hotkey.account(), fee.within_blocks).await.unwrap();
    let chain::Traced::Found(receipt) = traced else { panic!("{traced:?}") };
    assert_eq!((receipt.block.hash, receipt.signer), (hash, Some(coldkey.account())));
    net.end().await;
}

//! What a crash may do to the appliance: nothing may be lost, and nothing may be repeated that can be seen. And what
//! the world may do to it: it says why it does not start, and goes on when the world is well again.

#![allow(clippy::print_stdout, reason = "the counts of kills are for whoever reads the test's output")]

pub mod appliance;
mod disk;
mod hidden;
mod kills;
mod ledger;
mod miners;
mod outage;
mod pace;
mod refusals;
mod replay;
mod validator;
mod whole;

use waag::{
    chain::{self, Account, Client, Wallet},
    cli::{
        demo::play::Stage,
        devnet::{Controls, GIFT_RAO},
    },
    clock::SystemClock,
    config::profile::{EMBEDDED_DEFAULT, embedded},
    ids::SystemEntropy,
    server,
    store::{Options, Store, events},
};

use self::appliance::{Devnet, Place};

const NETUID: u16 = 7;
const BLOCK_MS: u64 = 60;
/// Runs that follow one with arrivals.
const ROUNDS: u32 = 3;
/// Blocks after which a commitment without an upload has run out.
const ARTIFACT_WITHIN_BLOCKS: u32 = 150;

/// The embedded profile, smaller. A submission may be tried again more often than this test kills at its stage.
pub fn profile() -> String {
    let text = embedded(EMBEDDED_DEFAULT).expect("it is embedded");
    let patient = "[stage.retries]\ninfra = 40\nbackoff_ms_min = 50\nbackoff_ms_max = 200\n";
    let changes = [
        ("episodes = 200", "episodes = 40".to_owned()),
        ("every_blocks = 30", "every_blocks = 10".to_owned()),
        ("rounds_after_arrival = 3", format!("rounds_after_arrival = {ROUNDS}")),
        ("reveal_within_blocks = 300", format!("reveal_within_blocks = {ARTIFACT_WITHIN_BLOCKS}")),
        ("artifact_within_blocks = 600", format!("artifact_within_blocks = {ARTIFACT_WITHIN_BLOCKS}")),
        ("uploads_per_hour = 12", "uploads_per_hour = 100".to_owned()),
        ("kind = \"checks\"\n", format!("kind = \"checks\"\n{patient}")),
        ("kind = \"duplicates\"\n", format!("kind = \"duplicates\"\n{patient}")),
    ];
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "the profile has changed: {from}");
        text.replace(from, to)
    })
}

/// A folder for an appliance that brings its chain along.
fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS);
    place.write(&profile());
    (dir, place)
}

/// A chain in a process of its own, on which the appliance of this place has a validator.
async fn ground(place: &Place) -> (Devnet, Stage, Account) {
    // Two providers of TLS are linked; the first test that connects chooses.
    drop(rustls::crypto::ring::default_provider().install_default());
    let wallet = Wallet::new(&place.wallets(), place.wallet, "validator").expect("plain names");
    let coldkey = wallet.create_plain_coldkey(&SystemEntropy).expect("it is written").keypair.account();
    let validator = wallet.create_hotkey(&SystemEntropy).expect("it is written").keypair.account();
    let chain = place.start_devnet();
    let stage = stage(place, &chain.url).await;
    let controls = Controls::connect(&chain.url).await.expect("a devnet");
    controls.fund(&coldkey, GIFT_RAO).await.expect("funds");
    controls.fund(&validator, GIFT_RAO).await.expect("funds");
    (chain, stage, validator)
}

async fn stage(place: &Place, chain_url: &str) -> Stage {
    drop(rustls::crypto::ring::default_provider().install_default());
    Stage {
        netuid: NETUID,
        challenge: EMBEDDED_DEFAULT.parse().expect("a slug"),
        chain: Client::connect(chain::Options::new(vec![chain_url.to_owned()])).await.expect("the chain answers"),
        chain_url: chain_url.to_owned(),
        block_ms: BLOCK_MS,
        api: server::Client::new(&place.api()).expect("an address"),
        folder: place.dir.clone(),
        clock: SystemClock::shared(),
    }
}

async fn the_events_are_intact(place: &Place) {
    let store = Store::open(place.data(), Options::default()).await.expect("nobody holds it");
    let report = store.db().read(events::verify_chain).await.expect("the chain is intact");
    assert!(report.events > 0);
}

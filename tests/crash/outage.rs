//! The chain goes away in the middle of a run, and comes back where it was.

use waag::{
    chain::Keypair,
    cli::{demo::play::Stage, devnet::Controls},
};

use super::{
    BLOCK_MS, NETUID,
    appliance::{Place, Process},
    ground, ledger,
    miners::{self, Miner},
    pace, profile, stage,
};

/// Registers everybody, lets them enter, and waits until a run is under way.
async fn begin(stage: &Stage, place: &Place, process: &mut Process, miners: &[Miner]) {
    let controls = Controls::connect(&stage.chain_url).await.expect("a devnet");
    for miner in miners {
        miner.register(stage, &controls).await;
        miner.enter(stage).await;
    }
    let waited = stage.until(async || {
        process.assert_runs();
        Ok(ledger::runs(place, "running") > 0 || ledger::runs(place, "ranked") > 0)
    });
    waited.await.expect("a run closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_goes_away_in_mid_run_is_waited_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS);
    place.write(&profile());
    let (chain, stage, _validator) = ground(&place).await;
    let mut process = Process::up(&place, None);
    let miners = miners::prepare(&stage, &["specialist", "mediocre"]);
    pace::during(&place, &stage, begin(&stage, &place, &mut process, &miners)).await;

    chain.process.kill();
    // What needs no chain goes on without it.
    let ranked = stage.until(async || {
        process.assert_runs();
        Ok(ledger::runs(&place, "ranked") > 0)
    });
    ranked.await.expect("the run is ranked");
    stage.api.health().await.expect("it answers");

    let again = place.start_devnet();
    assert_eq!(again.url, stage.chain_url);
    let rested = async {
        let rested = stage.until(async || {
            process.assert_runs();
            Ok(ledger::is_at_rest(&place))
        });
        assert!(rested.await.is_ok(), "it never comes to rest: {:?}", ledger::left(&place));
    };
    pace::during(&place, &stage, rested).await;
    ledger::nothing_was_folded_twice(&place);
    assert_eq!(process.stop(), Some(0));
}

/// The first blocks that an appliance reads may be older than its subnet.
#[tokio::test(flavor = "multi_thread")]
async fn a_subnet_that_is_made_later_is_waited_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS);
    place.write(&profile());
    let chain = place.start_bare_devnet();
    let stage = stage(&place, &chain.url).await;
    let controls = Controls::connect(&chain.url).await.expect("a devnet");
    controls.new_blocks(5).await.expect("blocks");
    let mut process = Process::up(&place, None);
    let followed = stage.until(async || {
        process.assert_runs();
        Ok(ledger::followed_to(&place).is_some_and(|block| block >= 3))
    });
    followed.await.expect("blocks without the subnet are passed");

    let owner = Keypair::from_uri("//Alice").expect("a dev key").account();
    controls.create_subnet(NETUID, &owner).await.expect("the number is free");
    controls.new_blocks(4).await.expect("it is final");
    let miners = miners::prepare(&stage, &["specialist"]);
    pace::during(&place, &stage, begin(&stage, &place, &mut process, &miners)).await;
    assert_eq!(process.stop(), Some(0));
}

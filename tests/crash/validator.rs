//! Who sets the weights on an own chain.

use waag::{
    chain::Wallet,
    cli::devnet::{Controls, GIFT_RAO},
    cli::miner,
    ids::SystemEntropy,
};

use super::{NETUID, appliance::Process, place, stage};

/// A miner's first steps are with the default wallet, which is also the one that the settings name.
#[tokio::test(flavor = "multi_thread")]
async fn a_miner_with_the_settings_wallet_stays_a_miner() {
    let (_dir, place) = place();
    let (process, said) = Process::start(&place, &["up", "--dev"]);
    let validator = said["validator"].as_str().expect("it has one").to_owned();
    let wallet = Wallet::new(&place.wallets(), place.wallet, "validator").expect("plain names");
    let coldkey = wallet.create_plain_coldkey(&SystemEntropy).expect("it is written").keypair;
    let hotkey = wallet.create_hotkey(&SystemEntropy).expect("it is written").keypair.account();
    let first = stage(&place, said["chain"].as_str().expect("an address")).await;
    let controls = Controls::connect(&first.chain_url).await.expect("a devnet");
    controls.fund(&coldkey.account(), GIFT_RAO).await.expect("funds");
    miner::register(&first.chain, NETUID, &coldkey, &hotkey, &|_| {}).await.expect("there is a place");
    assert_eq!(process.stop(), Some(0));

    let (process, said) = Process::start(&place, &["up", "--dev"]);
    assert_eq!(said["validator"].as_str(), Some(&*validator), "the validator is another one");
    let again = stage(&place, said["chain"].as_str().expect("an address")).await;
    let head = again.chain.finalized_head().await.expect("the chain answers");
    let metagraph = again.chain.metagraph(NETUID, head.hash).await.expect("the chain answers");
    let permitted: Vec<String> =
        metagraph.neurons.iter().filter(|neuron| neuron.permit).map(|neuron| neuron.hotkey.to_string()).collect();
    assert_eq!(permitted, [validator]);
    assert!(metagraph.neuron(&hotkey).is_some_and(|neuron| !neuron.permit), "the miner has a place of its own");
    assert_eq!(process.stop(), Some(0));
}

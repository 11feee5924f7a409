//! A subnet that hides weights until they are revealed.

use subxt_rpcs::{RpcClient, rpc_params};
use waag::{
    cli::demo::{cast::cast, play::Stage},
    ids::SystemEntropy,
};

use super::{NETUID, appliance::Process, place, stage, the_events_are_intact};

/// The state of the newest vector.
async fn state(stage: &Stage) -> Option<String> {
    stage.api.status().await.ok()?.vector.map(|vector| vector.state)
}

async fn comes_to(stage: &Stage, process: &mut Process, wanted: &str) {
    let waited = stage.until(async || {
        process.assert_runs();
        Ok(state(stage).await.as_deref() == Some(wanted))
    });
    let came = waited.await.is_ok();
    assert!(came, "{wanted} never comes: {:?}", stage.api.status().await.expect("it answers"));
}

/// Killed while its weights are sealed, the appliance finds them opened by the chain, and what stands is what the
/// evidence gives.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_weights_outlast_a_kill_and_are_confirmed_after_their_reveal() {
    let (_dir, place) = place();
    let (process, said) = Process::start(&place, &["up", "--dev"]);
    let first = stage(&place, said["chain"].as_str().expect("an address")).await;
    let rpc = RpcClient::from_url(&first.chain_url).await.expect("a devnet");
    let hide = rpc_params![NETUID, "commit_reveal_weights_enabled", true];
    rpc.request::<serde_json::Value>("dev_setHyperparameter", hide).await.expect("there is such a parameter");
    let members: Vec<_> = cast().into_iter().filter(|member| member.name == "specialist").collect();
    first.play(&members, &SystemEntropy, &|_| {}).await.expect("the cast plays");
    let mut process = process;
    comes_to(&first, &mut process, "committed").await;
    process.kill();
    let (again, said) = Process::start(&place, &["up", "--dev"]);
    process = again;
    let stage = stage(&place, said["chain"].as_str().expect("an address")).await;
    comes_to(&stage, &mut process, "confirmed").await;
    let vector = stage.api.status().await.expect("it answers").vector.expect("it was decided");
    let head = stage.chain.finalized_head().await.expect("the chain answers");
    let validator = said["validator"].as_str().expect("it has one").parse().expect("an address");
    let uid = stage.chain.uid_of(NETUID, &validator, head.hash).await.expect("it answers").expect("registered");
    let mut stored = stage.chain.weights(NETUID, uid, head.hash).await.expect("it answers");
    stored.sort_unstable();
    let sent: Vec<(u16, u16)> = vector.uids.into_iter().zip(vector.weights).collect();
    assert_eq!(stored, sent);
    assert_eq!(process.stop(), Some(0));
    the_events_are_intact(&place).await;
}

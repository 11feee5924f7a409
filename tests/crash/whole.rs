//! Appliance and chain in one process, killed together.

use waag::{
    cli::demo::cast::{Member, cast},
    ids::SystemEntropy,
    server::views::Filter,
};

use super::{appliance::Process, ledger, place, stage, the_events_are_intact};

const KILLS: u32 = 2;

fn members() -> Vec<Member> {
    let wanted = ["specialist", "generalist", "later", "parrot"];
    cast().into_iter().filter(|member| wanted.contains(&member.name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn appliance_and_chain_killed_together_come_back_together() {
    let (_dir, place) = place();
    let (mut process, said) = Process::start(&place, &["up", "--dev"]);
    let first = stage(&place, said["chain"].as_str().expect("an address")).await;
    let parts = first.play(&members(), &SystemEntropy, &|_| {}).await.expect("the cast plays");
    assert!(parts.iter().all(|part| part.submission.is_some()), "{parts:?}");
    for _ in 0..KILLS {
        let followed = ledger::followed_to(&place).expect("it was started");
        process.kill();
        let (again, said) = Process::start(&place, &["up", "--dev"]);
        process = again;
        let stage = stage(&place, said["chain"].as_str().expect("an address")).await;
        assert_eq!(stage.chain.genesis_hash(), first.chain.genesis_hash(), "it is another chain");
        let now = stage.chain.finalized_head().await.expect("the chain answers").number;
        assert!(now >= followed, "finalized {followed} before the kill and {now} after it");
        let submissions = stage.api.all_submissions(&Filter::default()).await.expect("it answers");
        assert_eq!(submissions.len(), members().len(), "a submission was lost");
    }
    let waited = first.until(async || {
        process.assert_runs();
        Ok(ledger::is_at_rest(&place))
    });
    assert!(waited.await.is_ok(), "it never comes to rest: {:?}", ledger::left(&place));
    ledger::nothing_was_folded_twice(&place);
    assert_eq!(process.stop(), Some(0));
    the_events_are_intact(&place).await;
}

/// What is only the order of things is no reason for a warning.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_stop_warn_of_nothing() {
    let (dir, mut place) = place();
    let log = dir.path().join("stderr");
    place.log = ("warn", Some(log.clone()));
    for start in 1..=2 {
        let (mut process, said) = Process::start(&place, &["up", "--dev"]);
        let stage = stage(&place, said["chain"].as_str().expect("an address")).await;
        // The weight setter has looked by then.
        let followed = stage.until(async || {
            process.assert_runs();
            Ok(ledger::followed_to(&place).is_some_and(|block| block >= 15 * start))
        });
        followed.await.expect("the chain goes on");
        assert_eq!(process.stop(), Some(0));
    }
    assert_eq!(std::fs::read_to_string(log).expect("it is text"), "");
}

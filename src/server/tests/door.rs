//! Every way in which an upload is refused, and the one in which it is not.

use super::*;
use crate::{fault::Class, pipeline::life::Status, server::views::Filter};

#[tokio::test]
async fn an_upload_that_opens_its_commitment_is_taken_in_once() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    let first = world.publish(b"policy").await.expect("it opens");
    assert!(!first.again);
    let again = world.publish(b"policy").await.expect("it is here already");
    assert_eq!(again, Uploaded { submission: first.submission, again: true });

    let submission = world.client.submission(first.submission).await.expect("it is there");
    assert_eq!(submission.status, Status::Queued);
    assert_eq!((submission.artifact, submission.artifact_bytes), (Some(Digest::of(b"policy")), Some(6)));
    assert_eq!((submission.upload_block, submission.uid), (Some(33), Some(4)));
    let kept = world.pipeline.store().blobs().get(&Digest::of(b"policy"), 6).await.expect("it is kept");
    assert_eq!(kept, "policy");
    assert_eq!(world.recorded().await, [] as [&str; 0]);
}

#[tokio::test]
async fn identical_uploads_at_once_are_one_submission() {
    let world = World::new().await;
    let bytes = vec![7; 300_000];
    world.commit(&bytes, 20).await;
    let outcomes = futures::future::join_all((0..8).map(|_| world.publish(&bytes))).await;
    let taken: Vec<Uploaded> = outcomes.into_iter().map(|outcome| outcome.expect("it opens")).collect();
    assert!(taken.iter().all(|one| one.submission == taken[0].submission));
    assert_eq!(taken.iter().filter(|one| !one.again).count(), 1, "{taken:?}");
    let all = world.client.all_submissions(&Filter::default()).await.expect("a list");
    assert_eq!(all.len(), 1);
    let story = world.client.story(taken[0].submission).await.expect("a story");
    let kinds: Vec<&str> = story.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["committed", "matched"]);
}

#[tokio::test]
async fn what_the_address_or_the_length_rules_out_needs_no_signature() {
    let world = World::new().await;
    let unsigned = |slug: &'static str, bytes: Vec<u8>| world.client.upload(slug, &[], bytes.into());
    assert_eq!(code(unsigned("chess", vec![1]).await), said("challenge_unknown", 404));
    let large = vec![0; usize::try_from(BYTES_MAX).expect("small") + 1];
    assert_eq!(code(unsigned(SLUG, large).await), said("upload_too_large", 413));
    assert_eq!(code(unsigned(SLUG, vec![1]).await), said("auth_header_missing", 401));
    for (length, body, status, code) in [
        ("content-length: 0", "", "HTTP/1.1 400", "upload_empty"),
        ("transfer-encoding: chunked", "1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 411", "upload_length_required"),
    ] {
        let request = format!("POST /v1/challenges/{SLUG}/submissions HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n{body}");
        let answer = read_until(&mut world.raw(&request).await, "request_id").await;
        assert!(answer.starts_with(status) && answer.contains(code), "{answer}");
    }
    assert_eq!(world.recorded().await, [] as [&str; 0], "nobody is known to have been refused");
}

#[tokio::test]
async fn a_request_that_is_not_authentic_is_refused_and_not_recorded() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    let now_ms = SystemClock.now_ms();
    let at = |timestamp_ms| Statement { timestamp_ms, ..statement(b"policy") };
    assert_eq!(code(world.send(&at(now_ms - 301_000), b"policy").await), said("auth_stale", 401));
    assert_eq!(code(world.send(&at(now_ms + 20_000), b"policy").await), said("auth_future", 401));
    let forged = Statement { hotkey: Hotkey([1; 32]), ..statement(b"policy") };
    assert_eq!(code(world.send(&forged, b"policy").await), said("auth_signature_invalid", 401));
    let elsewhere = Statement { netuid: 8, ..statement(b"policy") };
    assert_eq!(code(world.send(&elsewhere, b"policy").await), said("auth_signature_invalid", 401));

    let used = statement(b"policy");
    world.send(&used, b"policy").await.expect("the first time");
    assert_eq!(code(world.send(&used, b"policy").await), said("auth_replayed", 409));
    let mut malformed = statement(b"policy").sign(&alice());
    malformed.iter_mut().filter(|(name, _)| *name == "waag-nonce").for_each(|(_, value)| "xyz".clone_into(value));
    let outcome = world.client.upload(SLUG, &malformed, Bytes::from_static(b"policy")).await;
    assert_eq!(code(outcome), said("auth_header_malformed", 400));
    assert_eq!(world.recorded().await, [] as [&str; 0]);
}

#[tokio::test]
async fn what_does_not_open_is_refused_with_its_reason_and_recorded() {
    let world = World::new().await;
    let refused = world.publish(b"policy").await.expect_err("nothing was committed");
    assert_eq!((refused.code().as_str(), refused.retry_after_s()), ("commitment_not_final", Some(1)));

    world.commit(b"policy", 20).await;
    let refused = world.publish(b"another").await.expect_err("it does not open");
    assert_eq!((refused.code().as_str(), refused.retry_after_s()), ("commitment_mismatch", None));
    let mut salted = statement(b"policy");
    if let Subject::Upload { salt, .. } = &mut salted.subject {
        *salt = [0; 32];
    }
    assert_eq!(code(world.send(&salted, b"policy").await), said("commitment_mismatch", 409));

    world.commit(b"old", 9).await;
    assert_eq!(code(world.publish(b"old").await), said("commitment_before_registration", 409));

    // With nothing left that waits, the commitment of the next artifact may be on its way.
    world.publish(b"policy").await.expect("it opens");
    world.pipeline.sweep(Some(20 + 601)).await.expect("swept");
    let refused = world.publish(b"next").await.expect_err("nothing waits for it");
    assert_eq!((refused.code().as_str(), refused.retry_after_s()), ("commitment_not_final", Some(1)));

    let mut facts = chain();
    facts.registered.clear();
    world.facts.send_replace(Some(facts));
    assert_eq!(code(world.publish(b"policy").await), said("hotkey_unregistered", 403));
    world.facts.send_replace(None);
    assert_eq!(code(world.publish(b"policy").await), said("chain_unread", 503));

    let expected = [
        "commitment_not_final",
        "commitment_mismatch",
        "commitment_mismatch",
        "commitment_before_registration",
        "commitment_not_final",
        "hotkey_unregistered",
    ];
    assert_eq!(world.recorded().await, expected);
}

#[tokio::test]
async fn what_is_signed_must_be_what_is_sent() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    let mut other = statement(b"policy");
    if let Subject::Upload { challenge, .. } = &mut other.subject {
        *challenge = "duel".parse().expect("a slug");
    }
    assert_eq!(code(world.send(&other, b"policy").await), said("upload_challenge_mismatch", 400));
    let shorter = world.send(&statement(b"policy"), b"polic").await;
    assert_eq!(code(shorter), said("upload_length_mismatch", 400));

    let forged = world.send(&statement(b"policy"), b"p0licy").await;
    assert_eq!(code(forged), said("upload_digest_mismatch", 422));
    let kept = world.pipeline.store().blobs().has(&Digest::of(b"p0licy")).await.expect("looked");
    assert!(!kept, "bytes that nobody committed to are not kept");
    assert!(world.publish(b"policy").await.is_ok(), "a mistake closes nothing");
}

/// What became of Alice's only submission.
async fn outcome(world: &World) -> (Status, Option<String>) {
    let mut all = world.client.all_submissions(&Filter::default()).await.expect("a list");
    assert_eq!(all.len(), 1);
    let only = all.remove(0);
    (only.status, only.fault.map(|fault| fault.code))
}

/// Anybody on the way can change how a body is framed, and cut it off; that must cost its sender nothing.
#[tokio::test]
async fn a_frame_that_is_not_signed_ends_no_submission() {
    let beyond = BYTES_MAX + 1;
    for (framing, body, status, code) in [
        ("transfer-encoding: chunked\r\n".to_owned(), "6\r\npolicy\r\n0\r\n\r\n", 411, "upload_length_required"),
        ("transfer-encoding: chunked\r\n".to_owned(), "0\r\n\r\n", 411, "upload_length_required"),
        (String::new(), "", 411, "upload_length_required"),
        ("content-length: 0\r\n".to_owned(), "", 400, "upload_empty"),
        ("content-length: 5\r\n".to_owned(), "polic", 400, "upload_length_mismatch"),
        ("content-length: 7\r\n".to_owned(), "policy!", 400, "upload_length_mismatch"),
        (format!("content-length: {beyond}\r\n"), "policy", 413, "upload_too_large"),
    ] {
        let world = World::new().await;
        world.commit(b"policy", 20).await;
        let request = raw_framed(&statement(b"policy"), &framing) + body;
        let answer = read_until(&mut world.raw(&request).await, "request_id").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code), "{framing}: {answer}");
        assert_eq!(outcome(&world).await, (Status::Awaiting, None), "{framing}{body}");
        assert_eq!(world.recorded().await, [code], "who signed it is told");
        let taken = world.publish(b"policy").await.expect("the right upload is taken all the same");
        assert!(!taken.again);
        assert_eq!(outcome(&world).await, (Status::Queued, None));
    }
}

/// A size that the sender signed belongs to the one artifact that the commitment binds: nothing else can ever come.
#[tokio::test]
async fn a_signed_size_that_no_artifact_may_have_ends_its_submission() {
    let large = vec![3; usize::try_from(BYTES_MAX).expect("small") + 1];
    let framings = [
        format!("content-length: {}\r\n", large.len()),
        "content-length: 6\r\n".to_owned(),
        "transfer-encoding: chunked\r\n".to_owned(),
    ];
    for framing in framings {
        let world = World::new().await;
        world.commit(&large, 20).await;
        let answer = read_until(&mut world.raw(&raw_framed(&statement(&large), &framing)).await, "request_id").await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("upload_too_large"), "{framing}: {answer}");
        assert_eq!(outcome(&world).await, (Status::Rejected, Some("upload_too_large".to_owned())), "{framing}");
        assert_eq!(world.recorded().await, ["upload_too_large"]);
    }
    let world = World::new().await;
    world.commit(&large, 20).await;
    assert_eq!(code(world.publish(&large).await), said("upload_too_large", 413));
    assert_eq!(outcome(&world).await.0, Status::Rejected);
    assert_eq!(code(world.publish(&large).await), said("upload_too_large", 413));
}

#[tokio::test]
async fn a_signed_size_ends_nothing_that_it_does_not_open() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    let large = vec![3; usize::try_from(BYTES_MAX).expect("small") + 1];
    assert_eq!(code(world.publish(&large).await), said("upload_too_large", 413));
    let mut elsewhere = statement(b"policy");
    if let Subject::Upload { challenge, size_bytes, .. } = &mut elsewhere.subject {
        *challenge = "duel".parse().expect("a slug");
        *size_bytes = BYTES_MAX + 1;
    }
    assert_eq!(code(world.send(&elsewhere, b"policy").await), said("upload_challenge_mismatch", 400));
    assert_eq!(outcome(&world).await, (Status::Awaiting, None));
    assert!(world.publish(b"policy").await.is_ok());
}

#[tokio::test]
async fn an_hour_takes_so_many_uploads_and_no_more() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    for _ in 0..UPLOADS_PER_HOUR {
        assert_eq!(code(world.send(&statement(b"policy"), b"p0licy").await), said("upload_digest_mismatch", 422));
    }
    let refused = world.publish(b"policy").await.expect_err("the hour is full");
    assert_eq!(refused.code(), "uploads_too_many");
    assert!(refused.retry_after_s().is_some_and(|seconds| (3_500..=3_600).contains(&seconds)), "{refused:?}");
}

#[tokio::test]
async fn a_flood_of_refusals_does_not_fill_the_disk() {
    let world = World::new().await;
    let limit = usize::try_from(crate::server::limits::REFUSALS_OF_HOTKEY).expect("small");
    for _ in 0..limit + 3 {
        assert_eq!(code(world.publish(b"policy").await), said("commitment_not_final", 409));
    }
    assert_eq!(world.recorded().await.len(), limit);
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_is_read() {
    let world = World::new().await;
    let bytes = vec![1; 1_000_000];
    // Nothing of the body is ever sent, with and without asking first.
    for more in ["", "expect: 100-continue\r\n"] {
        let head = raw_head(&statement(&bytes), bytes.len(), more);
        let answer = read_until(&mut world.raw(&head).await, "request_id").await;
        assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
        assert!(answer.contains("commitment_not_final") && answer.contains("retry-after: 1"), "{answer}");
    }
}

#[tokio::test]
async fn a_sender_in_full_flow_reads_the_refusal_and_not_a_broken_connection() {
    let world = World::new().await;
    let bytes = vec![1; usize::try_from(BYTES_MAX).expect("small")];
    for _ in 0..5 {
        assert_eq!(code(world.publish(&bytes).await), said("commitment_not_final", 409));
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new().await;
    // More than the store keeps in memory before it writes.
    let bytes = vec![5; 12_000_000];
    world.commit(&bytes, 20).await;
    let mut socket = world.raw(&raw_head(&statement(&bytes), bytes.len(), "")).await;
    socket.write_all(&bytes[..11_000_000]).await.expect("written");
    drop(socket);
    let ended = async {
        while world.tasks.running().contains_key("upload") || world.tasks.running().contains_key("connection") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the server notices");
    let arriving = world.pipeline.store().dir().join("blobs/tmp");
    let left = std::fs::read_dir(arriving).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing half-written stays");
    assert!(!world.publish(&bytes).await.expect("it may come again").again);
}

/// A stamp of the past would put an artifact into a run whose seeds its miner has seen.
#[tokio::test]
async fn an_upload_counts_from_the_newest_block_and_waits_while_that_is_unknown() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    for behind in [ChainFacts { catching_up: true, ..chain() }, ChainFacts { seen_ms: 1, ..chain() }] {
        world.facts.send_replace(Some(behind));
        let refused = world.publish(b"policy").await.expect_err("the present block is unknown");
        assert_eq!((refused.code().as_str(), refused.fault().class), ("chain_behind", Class::Provider));
        assert!(refused.retry_after_s().is_some());
    }
    assert_eq!(world.recorded().await, Vec::<String>::new(), "nobody is blamed");
    world.facts.send_replace(Some(chain()));
    let taken = world.publish(b"policy").await.expect("it is seen again");
    let submission = world.client.submission(taken.submission).await.expect("it is there");
    assert_eq!((submission.upload_block, chain().finalized), (Some(33), 30));
}

#[tokio::test]
async fn a_deadline_waits_while_nothing_could_be_uploaded() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    let hash = |block: u64| Digest([u8::try_from(block).expect("small"); 32]);
    for block in 21..=30 {
        world.pipeline.advance(NETUID, block, hash(block), Vec::new(), block <= 25).await.expect("taken in");
    }
    world.pipeline.sweep(Some(20 + 600 + 5)).await.expect("swept");
    assert!(world.publish(b"policy").await.is_ok(), "five blocks were taken in late");
    world.commit(b"other", 31).await;
    world.pipeline.sweep(Some(31 + 601)).await.expect("swept");
    assert_eq!(code(world.publish(b"other").await), said("submission_closed", 409));
}

#[tokio::test]
async fn uploads_beyond_the_places_wait_outside() {
    let world = World::with(Options { uploads_max: 1, ..Options::new(loopback()) }).await;
    let slow = vec![1; 1000];
    world.commit(&slow, 20).await;
    world.commit(b"quick", 21).await;
    let mut socket = world.raw(&raw_head(&statement(&slow), slow.len(), "expect: 100-continue\r\n")).await;
    // The server asks for the body, so that this upload has the place.
    let asked = read_until(&mut socket, "100 Continue\r\n\r\n").await;
    assert!(asked.starts_with("HTTP/1.1 100"), "{asked}");
    let refused = world.publish(b"quick").await.expect_err("there is one place");
    assert_eq!((refused.code().as_str(), refused.fault().class), ("server_busy", Class::Infra));
    socket.write_all(&slow).await.expect("written");
    let answer = read_until(&mut socket, "submission").await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(world.publish(b"quick").await.is_ok(), "the place is free again");
}

#[tokio::test]
async fn after_its_deadline_a_commitment_takes_nothing() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    world.pipeline.sweep(Some(20 + 601)).await.expect("swept");
    assert_eq!(code(world.publish(b"policy").await), said("submission_closed", 409));
}

#[tokio::test]
async fn requests_from_before_the_nonces_are_remembered_are_asked_for_again() {
    let world = World::new().await;
    let state = State {
        pipeline: world.pipeline.clone(),
        facts: world.facts.subscribe(),
        trouble: tokio::sync::watch::channel(None).1,
        scheduler: Scheduler::new(Slots { cpus: 1, memory_mib: 1, gpus: Vec::new(), disk_bytes: 1 << 30 }),
        clock: SystemClock::shared(),
        nonces_since_ms: SystemClock.now_ms(),
        chain: tokio::sync::watch::channel(None).1,
    };
    let restarted = crate::server::start(Options::new(loopback()), state, &world.tasks).await.expect("a free port");
    let client = Client::new(&restarted.url()).expect("an address");
    let signed = statement(b"policy").sign(&alice());
    let refused = client.upload(SLUG, &signed, Bytes::from_static(b"policy")).await.expect_err("too early");
    assert_eq!(refused.code(), "auth_before_start");
    assert!(refused.retry_after_s().is_some_and(|seconds| (1..=5).contains(&seconds)), "{refused:?}");
}

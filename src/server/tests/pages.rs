//! What the server shows, and how it says that it cannot.

use super::*;
use crate::{
    fault::{Class, Code},
    pipeline::life::Status,
    server::{limits, views::Filter},
};

#[tokio::test]
async fn health_answers_before_the_chain_is_read() {
    let world = World::new().await;
    world.facts.send_replace(None);
    let health = world.client.health().await.expect("it answers");
    assert_eq!((health.status.as_str(), health.block), ("starting", None));
    world.facts.send_replace(Some(chain()));
    let health = world.client.health().await.expect("it answers");
    assert_eq!((health.status.as_str(), health.block), ("ok", Some(30)));
}

#[tokio::test]
async fn the_status_shows_the_whole_appliance() {
    let world = World::new().await;
    world.commit(b"one", 20).await;
    world.commit(b"two", 21).await;
    world.publish(b"two").await.expect("it opens");
    world.pipeline.gap(NETUID, 3, 5).await.expect("recorded");
    let status = world.client.status().await.expect("it answers");
    let subnet = status.subnet.expect("the chain is known");
    assert_eq!((subnet.netuid, subnet.registered, subnet.blocks_to_epoch), (NETUID, 1, Some(7)));
    assert_eq!((status.slots.cpus, status.slots.cpus_free), (2, 2));
    assert_eq!((status.gap_blocks, status.refusals), (3, 0));
    assert_eq!(status.gaps, [crate::pipeline::Gap { from: 3, to: 5 }]);
    assert_eq!(status.tasks.get("server"), Some(&1));
    let counts: Vec<_> =
        status.challenges[0].submissions.iter().map(|one| (one.stage.as_str(), one.status, one.count)).collect();
    // The older commitment of the same hotkey gave way to the newer.
    assert_eq!(counts, [("glance", Status::Queued, 1), ("glance", Status::Withdrawn, 1)]);
    assert_eq!((status.challenges[0].ranking.as_ref(), status.vector, status.runs.len()), (None, None, 0));
    assert!(status.last_event > 0);
}

#[tokio::test]
async fn a_challenge_says_what_a_miner_must_send() {
    let world = World::new().await;
    let challenges = world.client.challenges().await.expect("it answers");
    let gym = &challenges[0];
    assert_eq!(
        (gym.slug.as_str(), gym.rule.as_str(), gym.stages.as_slice()),
        (SLUG, "nobody", &["glance".to_owned()][..])
    );
    assert_eq!(gym.profile_digest, Digest::of(gym.profile.as_bytes()));
    let mut sent: Vec<String> =
        statement(b"x").sign(&alice()).into_iter().map(|(name, _value)| name.to_owned()).collect();
    let mut told = gym.how_to.headers.clone();
    sent.sort();
    told.sort();
    assert_eq!(sent, told, "the headers that are told are those that are sent");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let world = World::new().await;
    for number in 0..5_u8 {
        world.commit(&[number], 20).await;
    }
    let page = world.client.submissions(&Filter::default(), None, Some(2)).await.expect("a page");
    assert_eq!((page.items.len(), page.next), (2, Some(2)));
    let all = world.client.all_submissions(&Filter::default()).await.expect("all");
    assert_eq!(all.iter().map(|one| one.id.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let of = async |filter: Filter| world.client.all_submissions(&filter).await.expect("a list").len();
    assert_eq!(of(Filter { hotkey: Some(alice().account()), ..Filter::default() }).await, 5);
    assert_eq!(of(Filter { hotkey: Some(Hotkey([1; 32])), ..Filter::default() }).await, 0);
    assert_eq!(of(Filter { status: Some(Status::Awaiting), ..Filter::default() }).await, 5);
    assert_eq!(of(Filter { status: Some(Status::Ranked), ..Filter::default() }).await, 0);
    assert_eq!(of(Filter { challenge: Some("duel".to_owned()), ..Filter::default() }).await, 0);

    let events = world.client.events(Some(1)).await.expect("a page");
    assert_eq!(events.items.first().map(|event| event.seq), Some(2));
    assert_eq!(events.next, None);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document() {
    let world = World::new().await;
    let said = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = read_until(&mut world.raw(&request).await, "request_id").await;
        assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let problem: crate::server::Problem = serde_json::from_str(body).expect("a document");
        assert!(head.contains(&format!("x-request-id: {}", problem.request_id)), "{head}");
        (problem.title, problem.status)
    };
    assert_eq!(said("/").await, super::said("route_unknown", 404));
    assert_eq!(said("/v1/submissions/s9").await, super::said("not_found", 404));
    assert_eq!(said("/v1/submissions/s9/story").await, super::said("not_found", 404));
    assert_eq!(said("/v1/submissions/r9").await, super::said("query_malformed", 400));
    assert_eq!(said("/v1/submissions/%ff").await, super::said("query_malformed", 400));
    assert_eq!(said("/v1/submissions?colour=red").await, super::said("query_malformed", 400));
    assert_eq!(said("/v1/submissions?limit=-1").await, super::said("query_malformed", 400));
    assert_eq!(said("/v1/submissions?status=lazy").await, super::said("query_malformed", 400));
    assert_eq!(said("/v1/rankings/gym").await, super::said("not_found", 404));
    assert_eq!(said("/v1/rankings/duel").await, super::said("not_found", 404));
    assert_eq!(said("/v1/runs/r1").await, super::said("not_found", 404));
    assert_eq!(said("/v1/challenges/gym/submissions").await, super::said("method_unknown", 405));
}

/// Rows as the ranker and the weigher write them.
async fn decide(world: &World, evidence: Digest) {
    let ranking = serde_json::to_string(&Ranking { rows: Vec::new(), burned: 1.0, memory: Value::Null });
    let ranking = ranking.expect("it is JSON");
    world
        .pipeline
        .store()
        .db()
        .write("decide", move |tx| {
            for version in 1..=2 {
                tx.execute(
                    "INSERT INTO rankings (challenge, version, run, block, input, ranking, at_ms)
                     VALUES ('gym', ?1, NULL, 30, '{}', ?2, 5)",
                    rusqlite::params![version, ranking],
                )?;
            }
            tx.execute(
                "INSERT INTO vectors (netuid, block, uids, weights, rankings, evidence, state, at_ms)
                 VALUES (7, 30, '[0,4]', '[65535,1]', '{\"gym\":2}', ?1, 'decided', 6)",
                [evidence.to_string()],
            )?;
            Ok::<_, crate::pipeline::Error>(())
        })
        .await
        .expect("written");
}

#[tokio::test]
async fn rankings_vectors_and_their_evidence_are_for_everybody() {
    let world = World::new().await;
    let bundle: Vec<u8> = (0..600_000_u32).map(|number| u8::try_from(number % 251).expect("small")).collect();
    let digest = world.pipeline.store().blobs().put(bundle.clone()).await.expect("stored");
    decide(&world, digest).await;
    let newest = world.client.ranking(SLUG, None).await.expect("there is one");
    assert_eq!((newest.version, newest.block, newest.ranking.burned), (2, 30, 1.0));
    assert_eq!(world.client.ranking(SLUG, Some(1)).await.expect("there is one").version, 1);
    let vectors = world.client.weights(None).await.expect("a page").items;
    assert_eq!((vectors[0].uids.as_slice(), vectors[0].weights.as_slice()), (&[0, 4][..], &[65535, 1][..]));
    assert_eq!(world.client.evidence(&vectors[0].evidence).await.expect("it is there"), bundle);
    assert_eq!(world.client.status().await.expect("it answers").vector, Some(vectors[0].clone()));
}

#[tokio::test]
async fn a_miners_artifact_is_not_handed_out_as_evidence() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    world.publish(b"policy").await.expect("it opens");
    let refused = world.client.evidence(&Digest::of(b"policy")).await.expect_err("it is not for everybody");
    assert_eq!(refused.code(), "not_found");
}

#[tokio::test]
async fn evidence_that_cannot_be_read_is_our_trouble() {
    let world = World::new().await;
    decide(&world, Digest::of(b"lost")).await;
    let refused = world.client.evidence(&Digest::of(b"lost")).await.expect_err("it is lost");
    assert_eq!((refused.code().as_str(), refused.fault().class), ("blob_missing", Class::Infra));
    assert!(!refused.fault().detail.contains("blob"), "the particulars are in the log: {refused}");
}

#[tokio::test]
async fn runs_show_who_and_how_far() {
    let world = World::new().await;
    world.commit(b"policy", 20).await;
    world.publish(b"policy").await.expect("it opens");
    world
        .pipeline
        .store()
        .db()
        .write("a run", |tx| {
            tx.execute_batch(
                "INSERT INTO runs (id, challenge, number, state, stage, closed_block, arrivals, created_ms)
                   VALUES (1, 'gym', 1, 'running', 0, 30, 1, 5);
                 INSERT INTO contestants (run, submission, artifact, priority_block, priority_index, incumbent)
                   SELECT 1, id, artifact, priority_block, priority_index, 0 FROM submissions;
                 INSERT INTO plans (id, run, stage, work, plan, state, deadline_ms, created_ms)
                   VALUES (1, 1, 0, '{}', '{}', 'open', 9, 5);
                 INSERT INTO jobs (id, plan, run, challenge, owner, position, job, replicas, quorum, retries, state,
                     created_ms)
                   VALUES (1, 1, 1, 'gym', '', 0, '{}', 1, 1, 0, 'done', 5),
                          (2, 1, 1, 'gym', '', 1, '{}', 1, 1, 0, 'open', 5);
                 INSERT INTO replicas (job, n, challenge, turn, state) VALUES (1, 0, 'gym', 0, 'done'),
                   (2, 0, 'gym', 0, 'leased');",
            )?;
            Ok::<_, crate::pipeline::Error>(())
        })
        .await
        .expect("written");
    let runs = world.client.runs(Some(SLUG), None).await.expect("a page").items;
    let run = &runs[0];
    assert_eq!((run.jobs_done, run.jobs_total, run.contestants, run.stage_name.as_str()), (1, 2, 1, "glance"));
    assert_eq!(world.client.status().await.expect("it answers").runs, runs);
    let detail = world.client.run(run.id).await.expect("it is there");
    assert_eq!(detail.contestants[0].artifact, Digest::of(b"policy"));
    let jobs: Vec<_> = detail.jobs.iter().map(|job| (job.replicas_done, job.replicas_leased)).collect();
    assert_eq!(jobs, [(1, 0), (0, 1)]);
}

#[tokio::test]
async fn the_event_stream_resumes_where_it_broke_off() {
    let world = World::new().await;
    world.commit(b"one", 20).await;
    world.commit(b"two", 20).await;
    let head = world.client.status().await.expect("it answers").last_event;
    let listen = |more: String| format!("GET /events?after=0 HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    let mut socket = world.raw(&listen(String::new())).await;
    let all = read_until(&mut socket, &format!("id: {head}\n")).await;
    assert!(all.contains("id: 1\n") && all.contains("text/event-stream"), "{all}");
    let mut socket = world.raw(&listen(format!("last-event-id: {}\r\n", head - 1))).await;
    let rest = read_until(&mut socket, &format!("id: {head}\n")).await;
    assert!(!rest.contains(&format!("id: {}\n", head - 1)), "{rest}");
    // What happens while somebody listens is told too.
    world.commit(b"three", 21).await;
    let news = read_until(&mut socket, "event: committed").await;
    assert!(news.contains(&format!("id: {}\n", head + 1)), "{news}");
}

#[tokio::test]
async fn event_streams_have_their_places() {
    let world = World::with(Options { streams_max: 1, ..Options::new(loopback()) }).await;
    let request = "GET /events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = world.raw(request).await;
    assert!(read_until(&mut first, "id: 1\n").await.starts_with("HTTP/1.1 200"));
    let second = read_until(&mut world.raw(request).await, "request_id").await;
    assert!(second.starts_with("HTTP/1.1 503") && second.contains("server_busy"), "{second}");
}

#[tokio::test]
async fn heads_are_bounded() {
    let world = World::new().await;
    let long = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(limits::HEAD_BYTES));
    let answer = read_until(&mut world.raw(&long).await, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let headers = |count: usize| "a: b\r\n".repeat(count);
    for (count, status) in [(limits::HEADERS, "HTTP/1.1 200"), (limits::HEADERS + 1, "HTTP/1.1 431")] {
        let request = format!("GET /v1/health HTTP/1.1\r\n{}\r\n", headers(count));
        let answer = read_until(&mut world.raw(&request).await, "\r\n\r\n").await;
        assert!(answer.starts_with(status), "{count}: {answer}");
    }
}

#[tokio::test]
async fn a_port_in_use_has_its_own_code() {
    let world = World::new().await;
    let refused = crate::server::bind(Options::new(world.handle.addr)).await.expect_err("it is taken");
    assert_eq!(refused.fault().code, "port_in_use");
    let elsewhere = Options::new(([192, 0, 2, 1], 80).into());
    assert_eq!(crate::server::bind(elsewhere).await.expect_err("not ours").fault().code, "listen_failed");
}

#[tokio::test]
async fn the_server_ends_when_it_is_told_to_even_with_listeners() {
    let world = World::new().await;
    let mut socket = world.raw("GET /events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut socket, "id: 1\n").await;
    world.client.health().await.expect("a kept connection");
    assert_eq!(world.tasks.drain(Duration::from_secs(10)).await, [] as [&str; 0]);
    assert!(TcpStream::connect(world.handle.addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_client_knows_what_is_no_appliance() {
    World::new().await;
    for wrong in ["", "localhost:80", "ftp://x", "http://", "http://x?y=z"] {
        assert_eq!(
            Client::new(wrong).err().map(|error| error.code()).as_deref(),
            Some("server_url_invalid"),
            "{wrong}"
        );
    }
    let nobody = tokio::net::TcpListener::bind(loopback()).await.expect("a port");
    let url = format!("http://{}", nobody.local_addr().expect("an address"));
    let client = Client::new(&url).expect("an address");
    let answering = async {
        let (mut socket, _peer) = nobody.accept().await.expect("a connection");
        let mut buffer = [0; 1024];
        let _asked = socket.read(&mut buffer).await;
        let answer = b"HTTP/1.1 502 Bad\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops";
        socket.write_all(answer).await.expect("written");
    };
    let (answer, ()) = futures::join!(client.health(), answering);
    assert_eq!(answer.expect_err("not ours").code(), "server_answer_invalid");
    drop(nobody);
    assert_eq!(client.health().await.expect_err("nobody").code(), "server_unreachable");
}

#[test]
fn codes_are_unique_and_well_formed() {
    let all: Vec<Code> = [crate::server::CODES, crate::intake::CODES, crate::auth::CODES].concat();
    for (place, code) in all.iter().enumerate() {
        assert!(code.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", code.name);
        assert!(!code.says.ends_with('.') && !code.hint.ends_with('.'), "{}", code.name);
        assert!(!all[..place].iter().any(|other| other.name == code.name), "{} twice", code.name);
    }
}

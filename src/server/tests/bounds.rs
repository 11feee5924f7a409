//! How long and how often: time-outs and the rate of requests, over a socket.

use super::*;
use crate::server::limits;

#[test]
fn the_settings_begin_with_the_limits_of_this_room() {
    let loaded = crate::config::load(&crate::config::Sources::default()).expect("the defaults are right");
    let options = Options::from_settings(&loaded.settings.server);
    assert_eq!(options.connections_max, limits::CONNECTIONS);
    assert_eq!(options.request_timeout_ms, limits::ANSWER_MS);
    assert_eq!(options.requests_per_minute, limits::REQUESTS_PER_MINUTE);
    assert_eq!(options.public_url, None);
}

/// Asks for the health page and reads the answer's head and body.
async fn health(world: &World, more: &str) -> String {
    let request = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    read_until(&mut world.raw(&request).await, "\"never\"").await
}

#[tokio::test]
async fn an_answer_that_is_not_found_in_time_is_given_up_with_a_problem() {
    let world = World::with(Options { request_timeout_ms: 100, ..Options::new(loopback()) }).await;
    let readers = crate::store::Options::default().read_connections;
    let (gates, closed): (Vec<_>, Vec<_>) = (0..readers).map(|_| std::sync::mpsc::channel::<()>()).unzip();
    let db = world.pipeline.store().db();
    let hold = |closed: std::sync::mpsc::Receiver<()>| {
        db.read(move |_conn| Ok::<_, crate::store::Error>(closed.recv().is_err()))
    };
    let held = futures::future::join_all(closed.into_iter().map(hold));
    let asking = async {
        let refused = world.client.status().await.expect_err("nobody can read");
        assert_eq!((refused.code().as_str(), refused.retry_after_s()), ("server_timeout", Some(1)));
        let Error::Refused(problem) = refused else { panic!("a problem document") };
        assert_eq!((problem.status, problem.detail.as_str()), (503, "more than 100 ms"));
        assert!(world.client.health().await.is_ok(), "what needs no database answers");
        // Of an upload only the body has more time: whether it may come at all is found out within the same.
        assert_eq!(code(world.publish(b"policy").await), said("server_timeout", 503));
        drop(gates);
    };
    let (held, ()) = futures::join!(held, asking);
    assert!(held.into_iter().all(|read| read.expect("it reads")));
    assert!(world.client.status().await.is_ok());
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let options = Options { requests_per_minute: 1, ..Options::new(loopback()) };
    let world = World::with(options).await;
    for _ in 0..limits::LOOPBACK_FACTOR {
        assert!(world.client.health().await.is_ok());
    }
    let answer = health(&world, "x-forwarded-for: 203.0.113.9\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 429"), "nobody stands in front, so that nobody is believed: {answer}");
    for part in ["retry-after: 3", "application/problem+json", "requests_too_many", "20 requests a minute"] {
        assert!(answer.contains(part), "`{part}` is missing in {answer}");
    }
    let refused = world.client.status().await.expect_err("the minute is full");
    assert_eq!((refused.code().as_str(), refused.retry_after_s()), ("requests_too_many", Some(3)));
    // A sender in full flow reads it too.
    let bytes = vec![1; usize::try_from(BYTES_MAX).expect("small")];
    assert_eq!(code(world.publish(&bytes).await), said("requests_too_many", 429));
}

#[tokio::test]
async fn behind_a_server_in_front_everybody_has_their_own_count() {
    let public_url = Some("https://subnet.example/".to_owned());
    let world = World::with(Options { requests_per_minute: 2, public_url, ..Options::new(loopback()) }).await;
    let of = async |address: &str| {
        let answer = health(&world, &format!("x-forwarded-for: 198.51.100.1, {address}\r\n")).await;
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    assert_eq!(of("203.0.113.9").await, "200");
    assert_eq!(of("203.0.113.9").await, "200");
    assert_eq!(of("203.0.113.9").await, "429");
    assert_eq!(of("203.0.113.10").await, "200");
    let challenges = world.client.challenges().await.expect("this machine has its own");
    assert_eq!(challenges[0].how_to.upload, "POST https://subnet.example/v1/challenges/gym/submissions");
}

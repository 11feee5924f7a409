//! The event stream: every event as it is written, resumable at any number.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::{
    App,
    problem::Failure,
    routes::asked,
    views::{self, Event, Window},
};
use crate::{pipeline, store::events as log};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// After so many quiet looks a comment is sent, so that proxies do not take the connection for dead.
const QUIET_LOOKS: u32 = 30;
/// Events read at once.
const BATCH: u32 = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    after: Option<i64>,
}

/// Server-sent events. Begins after the `Last-Event-ID` header or the query's `after`, else with what comes next.
pub(super) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let place =
        Arc::clone(&app.shared.streams).try_acquire_owned().map_err(|_full| Failure::busy("too many event streams"))?;
    // A browser that reconnects says what it saw last, which is newer than the address it was first given.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let after = match last.or(asked(query)?.after) {
        Some(after) => after,
        None => {
            let head = |conn: &rusqlite::Connection| Ok::<_, pipeline::Error>(log::head(conn)?.0);
            app.pipeline().store().db().read(head).await?
        }
    };
    let tail = Tail { app, after, waiting: VecDeque::new(), _place: place };
    let chunks = futures::stream::unfold(tail, async |mut tail| {
        let chunk = tail.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), tail))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// The end of the log as one listener sees it.
struct Tail {
    app: App,
    after: i64,
    waiting: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    /// The next piece of the stream; `None` when the server stops or the log cannot be read.
    async fn next(&mut self) -> Option<Bytes> {
        let token = self.app.shared.tasks.token().clone();
        let mut quiet = 0;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.seq;
                return Some(text_of(&event));
            }
            let window = Window { after: self.after, limit: BATCH };
            let read = self.app.pipeline().store().db().read(move |conn| views::events(conn, window)).await;
            match read {
                Ok(page) => self.waiting = page.items.into(),
                Err(error) => {
                    // The listener connects again and says where it was.
                    warn!(%error, "the event log cannot be read");
                    return None;
                }
            }
            if !self.waiting.is_empty() {
                continue;
            }
            quiet += 1;
            if quiet > QUIET_LOOKS {
                return Some(Bytes::from_static(b": nothing new\n\n"));
            }
            tokio::select! {
                () = token.cancelled() => return None,
                () = self.app.clock().sleep(LOOK) => {}
            }
        }
    }
}

/// An event in the form of the stream. JSON has no line breaks, so that one `data` line holds it.
fn text_of(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    // Kinds are our own words; nothing from outside could add a line.
    let kind: String = event.kind.chars().filter(|letter| !letter.is_control()).collect();
    Bytes::from(format!("id: {}\nevent: {kind}\ndata: {data}\n\n", event.seq))
}

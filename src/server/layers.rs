//! What happens around every request: an id, a count, a deadline, a line in the log, and the form of errors.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{debug, warn};

use super::{
    App, door,
    problem::{Failure, REQUESTS_TOO_MANY, TIMED_OUT},
    rate::{self, Peer},
};
use crate::{
    clock::UnixMs,
    fault::Class,
    ids::{self, SystemEntropy},
};

/// The header that carries a request's id back.
const REQUEST_ID: &str = "x-request-id";

/// The outermost layer.
pub(super) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let request_id = hex::encode(&ids::random_32(&SystemEntropy)[..8]);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started_ms = app.clock().now_ms();
    let response = match count(&app, &request, started_ms) {
        Ok(()) => answer(&app, request, next).await,
        Err(failure) => refuse(&app, request, failure),
    };
    let took_ms = app.clock().now_ms().saturating_sub(started_ms);
    let status = response.status().as_u16();
    let mut response = match response.extensions().get::<Failure>() {
        Some(failure) => {
            let (code, detail) = (failure.fault.code.as_str(), failure.fault.detail.as_str());
            if failure.fault.class == Class::Miner {
                debug!(request_id, %method, path, status, took_ms, code, detail, "refused");
            } else {
                warn!(request_id, %method, path, status, took_ms, code, detail, "failed");
            }
            keep_headers(&response, failure.answer(&request_id))
        }
        None => {
            debug!(request_id, %method, path, status, took_ms, "answered");
            response
        }
    };
    let headers = response.headers_mut();
    // Sixteen hex digits are always a header.
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Counts the request for whoever asks.
fn count(app: &App, request: &Request, now_ms: UnixMs) -> Result<(), Failure> {
    // Every connection names its peer.
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let from = rate::asker(peer, request.headers(), app.shared.public_url.is_some());
    let rate = &app.shared.rate;
    rate.count(from, now_ms).map_err(|after_s| {
        let detail = format!("{} requests a minute", rate.per_minute(from));
        Failure::new(REQUESTS_TOO_MANY, StatusCode::TOO_MANY_REQUESTS, detail).after(after_s)
    })
}

/// Refuses a request that nobody has looked at; whoever is sending an upload must be able to read that.
fn refuse(app: &App, request: Request, failure: Failure) -> Response {
    if request.method() == Method::POST {
        let (parts, body) = request.into_parts();
        door::linger(app, &parts, body);
    }
    failure.into_response()
}

/// The answer within its time. Uploads keep their own time: they wait for a body.
async fn answer(app: &App, request: Request, next: Next) -> Response {
    if request.method() == Method::POST {
        return next.run(request).await;
    }
    within(app, next.run(request)).await.unwrap_or_else(IntoResponse::into_response)
}

/// What comes of this within the time that an answer may take.
pub(super) async fn within<T>(app: &App, finding: impl Future<Output = T>) -> Result<T, Failure> {
    let timeout = app.shared.request_timeout;
    tokio::select! {
        found = finding => Ok(found),
        () = app.clock().sleep(timeout) => {
            let detail = format!("more than {} ms", timeout.as_millis());
            Err(Failure::new(TIMED_OUT, StatusCode::SERVICE_UNAVAILABLE, detail).after(1))
        }
    }
}

/// Headers that the routing set, such as `Allow`, stay.
fn keep_headers(from: &Response, mut to: Response) -> Response {
    if let Some(allow) = from.headers().get(header::ALLOW) {
        to.headers_mut().insert(header::ALLOW, allow.clone());
    }
    to
}

//! What happens around every request: an id, a deadline, a line in the log, and the form of errors.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{debug, warn};

use super::{
    App, limits,
    problem::{Failure, TIMED_OUT},
};
use crate::{
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
    let response = answer(&app, request, next).await;
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

/// The answer within its time. Uploads keep their own time: they wait for a body.
async fn answer(app: &App, request: Request, next: Next) -> Response {
    if request.method() == Method::POST {
        return next.run(request).await;
    }
    within(app, next.run(request)).await.unwrap_or_else(IntoResponse::into_response)
}

/// What comes of this within the time that an answer may take.
pub(super) async fn within<T>(app: &App, finding: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        found = finding => Ok(found),
        () = app.clock().sleep(Duration::from_millis(limits::ANSWER_MS)) => {
            let detail = format!("more than {} ms", limits::ANSWER_MS);
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

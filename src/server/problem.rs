//! Problems: how an error looks to whoever asked, and how it looks in the log.
//!
//! The answer says what the asker can do something about; what only the operator can repair is in the log, and both
//! carry the same request id.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::{
    fault::{Class, Code, Fault},
    intake::Refused,
    pipeline,
};

/// The port is taken.
pub const PORT_IN_USE: Code = Code::new(
    Class::Operator,
    "port_in_use",
    "another process listens on this port",
    "stop that process, or choose another address with `--listen`",
);
/// The address is not usable.
pub const LISTEN_FAILED: Code = Code::new(
    Class::Operator,
    "listen_failed",
    "this address cannot be listened on",
    "choose an address of this machine with `--listen`, and a port that this user may take",
);
pub(super) const ROUTE_UNKNOWN: Code = Code::new(
    Class::Miner,
    "route_unknown",
    "there is nothing at this path",
    "the paths begin with /v1; see the handbook's page on HTTP",
);
pub(super) const METHOD_UNKNOWN: Code = Code::new(
    Class::Miner,
    "method_unknown",
    "this path does not take this method",
    "the Allow header names the methods that it takes",
);
pub(super) const QUERY_MALFORMED: Code = Code::new(
    Class::Miner,
    "query_malformed",
    "a part of the address is not of the form it should have",
    "the detail names the part",
);
pub(super) const NOT_FOUND: Code = Code::new(
    Class::Miner,
    "not_found",
    "there is no such thing",
    "the lists at /v1/submissions, /v1/runs and /v1/weights name what there is",
);
pub(super) const BUSY: Code = Code::new(
    Class::Infra,
    "server_busy",
    "the server does as much of this at once as it may",
    "try again after the time that Retry-After names",
);
pub(super) const TIMED_OUT: Code = Code::new(
    Class::Infra,
    "server_timeout",
    "the server did not find the answer in time",
    "try again; if it persists, the operator should look at the machine's load",
);
pub(super) const REQUESTS_TOO_MANY: Code = Code::new(
    Class::Miner,
    "requests_too_many",
    "this address has used up its requests of this minute",
    "try again after the time that Retry-After names, and ask less often; `/events` tells what is new by itself",
);
pub(super) const UPLOAD_STALLED: Code = Code::new(
    Class::Infra,
    "upload_stalled",
    "the bytes of the upload came too slowly",
    "send it again, over a better line if there is one; nothing was kept",
);
pub(super) const CHALLENGE_DIFFERS: Code = Code::new(
    Class::Miner,
    "upload_challenge_mismatch",
    "the upload is signed for another challenge than the one it is sent to",
    "send it to the challenge that it is signed for",
);
/// The client cannot reach the server.
pub const UNREACHABLE: Code = Code::new(
    Class::Provider,
    "server_unreachable",
    "the appliance does not answer",
    "check the address and the network, and whether `waag up` is running there",
);
/// The client got an answer that no server of ours gives.
pub const ANSWER_INVALID: Code = Code::new(
    Class::Provider,
    "server_answer_invalid",
    "what answered is not an appliance that this version understands",
    "check the address; `waag status` shows the version of the appliance",
);
/// The client was given an address that is none.
pub const URL_INVALID: Code = Code::new(
    Class::Operator,
    "server_url_invalid",
    "the appliance's address is not usable",
    "write it as http://host:port or https://host",
);

/// The codes of this room.
pub const CODES: &[Code] = &[
    PORT_IN_USE,
    LISTEN_FAILED,
    ROUTE_UNKNOWN,
    METHOD_UNKNOWN,
    QUERY_MALFORMED,
    NOT_FOUND,
    BUSY,
    TIMED_OUT,
    REQUESTS_TOO_MANY,
    UPLOAD_STALLED,
    CHALLENGE_DIFFERS,
    UNREACHABLE,
    ANSWER_INVALID,
    URL_INVALID,
];

/// An error as it is answered: a problem document after RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A name for this kind of problem: `urn:waag:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The stable code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Whose trouble it is.
    pub class: Class,
    /// What was seen this time.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// Seconds after which the same request may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// Names this request in the server's log.
    pub request_id: String,
}

impl Problem {
    /// The media type of the document.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// The problem as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault { class: self.class, code: self.title.clone(), detail: self.detail.clone(), hint: self.hint.clone() }
    }
}

/// A request that failed, before it has an id.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) status: StatusCode,
    pub(super) retry_after_s: Option<u64>,
    /// What the asker may read in place of the fault's detail.
    public: Option<&'static str>,
}

impl Failure {
    pub(super) fn new(code: Code, status: StatusCode, detail: impl Into<String>) -> Self {
        Self { fault: code.because(detail), status, retry_after_s: None, public: None }
    }

    pub(super) const fn after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A failure of ours: the asker reads only that it happened.
    pub(super) fn ours(fault: Fault) -> Self {
        let status = match fault.class {
            Class::Miner => StatusCode::BAD_REQUEST,
            Class::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            Class::Infra | Class::Provider | Class::Operator => StatusCode::SERVICE_UNAVAILABLE,
        };
        let public = (fault.class != Class::Miner).then_some("the server failed; its log has the particulars");
        Self { fault, status, retry_after_s: None, public }
    }

    pub(super) fn busy(what: &str) -> Self {
        Self::new(BUSY, StatusCode::SERVICE_UNAVAILABLE, what).after(1)
    }

    /// The document, once the request has its id.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        let problem = Problem {
            kind: format!("urn:waag:error:{}", self.fault.code),
            title: self.fault.code.clone(),
            status: self.status.as_u16(),
            class: self.fault.class,
            detail: self.public.map_or_else(|| self.fault.detail.clone(), str::to_owned),
            hint: self.fault.hint.clone(),
            retry_after_s: self.retry_after_s,
            request_id: request_id.to_owned(),
        };
        let mut answer = (self.status, axum::Json(problem)).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl IntoResponse for Failure {
    /// An empty answer that carries the failure: the outermost layer knows the request's id and writes the document.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let Refused { fault, status, retry_after_s } = refused;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { fault, status, retry_after_s, public: None }
    }
}

impl From<pipeline::Error> for Failure {
    fn from(error: pipeline::Error) -> Self {
        match &error {
            pipeline::Error::Missing { .. } => Self::new(NOT_FOUND, StatusCode::NOT_FOUND, error.to_string()),
            _ => Self::ours(error.fault()),
        }
    }
}

impl From<crate::store::Error> for Failure {
    fn from(error: crate::store::Error) -> Self {
        Self::ours(error.fault())
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_only_the_operator_can_repair_is_not_told_to_everybody() {
        let fault = Code::new(Class::Infra, "disk", "says", "hint").because("/var/secret is full");
        let failure = Failure::ours(fault);
        assert_eq!(failure.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(failure.public, Some("the server failed; its log has the particulars"));
        let missing = Failure::from(pipeline::Error::Missing { what: "submission s9".to_owned() });
        assert_eq!((missing.status, missing.public), (StatusCode::NOT_FOUND, None));
    }
}

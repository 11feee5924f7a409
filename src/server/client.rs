//! The client: how the miner verbs and `waag status` speak to an appliance.
//!
//! Owns the addresses, the bounds on what an answer may be, and the reading of problem documents. Refuses to sign or
//! to decide whether to try again: the verbs do.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde::de::DeserializeOwned;

use super::{
    limits,
    problem::{ANSWER_INVALID, Problem, UNREACHABLE, URL_INVALID},
    views,
};
use crate::{
    fault::Fault,
    ids::{Digest, RunId, SubmissionId},
};

/// Bytes of the longest JSON answer: a page of a thousand stories' worth of rows.
const JSON_BYTES: u64 = 32 * 1024 * 1024;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: longer than the server gives itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest transfer of an artifact or a bundle.
const TRANSFER_TIMEOUT: Duration = Duration::from_millis(limits::UPLOAD_MS).saturating_add(ANSWER_TIMEOUT);

/// What asking an appliance can fail at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("`{url}` is not the address of an appliance")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answers there, or not in time.
    #[error("{url} does not answer: {source}")]
    Unreachable {
        /// The address.
        url: Url,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// It refused, and said why.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
    /// The answer is not one of ours.
    #[error("{url} answered {status} with {why}")]
    Answer {
        /// The address.
        url: Url,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        why: String,
    },
}

impl Error {
    /// The failure as a fault: the server's own when it gave one.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Url { .. } => URL_INVALID.because(self.to_string()),
            Self::Unreachable { .. } => UNREACHABLE.because(self.to_string()),
            Self::Refused(problem) => problem.fault(),
            Self::Answer { .. } => ANSWER_INVALID.because(self.to_string()),
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> String {
        self.fault().code
    }

    /// Seconds after which the server says that the same request may succeed.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Refused(problem) => problem.retry_after_s,
            _ => None,
        }
    }
}

/// A client of one appliance. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// A client of the appliance at this address. Connects when it is first asked something. The process's TLS
    /// provider must be installed.
    ///
    /// # Errors
    /// When the address is not `http://…` or `https://…`.
    pub fn new(base_url: &str) -> Result<Self, Error> {
        let wrong = || Error::Url { url: base_url.chars().take(200).collect() };
        let base: Url = format!("{}/", base_url.trim_end_matches('/')).parse().map_err(|_source| wrong())?;
        let usable = matches!(base.scheme(), "http" | "https") && base.has_host() && base.query().is_none();
        if !usable {
            return Err(wrong());
        }
        let http = reqwest::Client::builder()
            // The library reads no environment, and nobody redirects signed requests.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("waag/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| Error::Unreachable { url: base.clone(), source })?;
        Ok(Self { http, base })
    }

    /// Whether the appliance answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn health(&self) -> Result<views::Health, Error> {
        self.get("v1/health", &[]).await
    }

    /// The whole appliance on one screen.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn status(&self) -> Result<views::Status, Error> {
        self.get("v1/status", &[]).await
    }

    /// What is played and what a miner must send.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn challenges(&self) -> Result<Vec<views::Challenge>, Error> {
        self.get("v1/challenges", &[]).await
    }

    /// A page of submissions, oldest first, after this one.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn submissions(
        &self,
        filter: &views::Filter,
        after: Option<SubmissionId>,
        limit: Option<u32>,
    ) -> Result<views::Page<views::Submission>, Error> {
        let query = [
            ("challenge", filter.challenge.clone()),
            ("hotkey", filter.hotkey.map(|hotkey| hotkey.to_string())),
            ("status", filter.status.map(|status| status.to_string())),
            ("after", after.map(|id| id.to_string())),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        self.get("v1/submissions", &query).await
    }

    /// All submissions, oldest first, page by page.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn all_submissions(&self, filter: &views::Filter) -> Result<Vec<views::Submission>, Error> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.submissions(filter, after, Some(crate::limits::PAGE_ROWS)).await?;
            all.extend(page.items);
            // A page that does not advance would be asked for for ever.
            match page.next.map(SubmissionId).filter(|next| Some(*next) > after) {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// One submission.
    ///
    /// # Errors
    /// When there is none, or the appliance does not answer.
    pub async fn submission(&self, id: SubmissionId) -> Result<views::Submission, Error> {
        self.get(&format!("v1/submissions/{id}"), &[]).await
    }

    /// The whole story of one submission.
    ///
    /// # Errors
    /// When there is no such submission, or the appliance does not answer.
    pub async fn story(&self, id: SubmissionId) -> Result<views::Story, Error> {
        self.get(&format!("v1/submissions/{id}/story"), &[]).await
    }

    /// A ranking: the newest, or this version.
    ///
    /// # Errors
    /// When there is none, or the appliance does not answer.
    pub async fn ranking(&self, challenge: &str, version: Option<i64>) -> Result<views::Ranking, Error> {
        let path = format!("v1/rankings/{challenge}");
        self.get(&path, &[("version", version.map(|version| version.to_string()))]).await
    }

    /// A page of runs, newest first.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn runs(&self, challenge: Option<&str>, after: Option<RunId>) -> Result<views::Page<views::Run>, Error> {
        let query = [("challenge", challenge.map(str::to_owned)), ("after", after.map(|id| id.to_string()))];
        self.get("v1/runs", &query).await
    }

    /// One run in detail.
    ///
    /// # Errors
    /// When there is none, or the appliance does not answer.
    pub async fn run(&self, id: RunId) -> Result<views::RunDetail, Error> {
        self.get(&format!("v1/runs/{id}"), &[]).await
    }

    /// A page of weight vectors, newest first.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn weights(&self, after: Option<i64>) -> Result<views::Page<views::Vector>, Error> {
        self.get("v1/weights", &[("after", after.map(|id| id.to_string()))]).await
    }

    /// A page of refusals, oldest first.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn refusals(&self, after: Option<i64>) -> Result<views::Page<views::Refusal>, Error> {
        self.get("v1/refusals", &[("after", after.map(|id| id.to_string()))]).await
    }

    /// A page of events, oldest first.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn events(&self, after: Option<i64>) -> Result<views::Page<views::Event>, Error> {
        self.get("v1/events", &[("after", after.map(|seq| seq.to_string()))]).await
    }

    /// The bytes of an evidence bundle, which hash to its digest.
    ///
    /// # Errors
    /// When there is none, what came hashes to something else, or the appliance does not answer.
    pub async fn evidence(&self, digest: &Digest) -> Result<Bytes, Error> {
        let path = format!("v1/evidence/{digest}");
        let (status, bytes) =
            self.ask(self.request(Method::GET, &path).timeout(TRANSFER_TIMEOUT), limits::EVIDENCE_BYTES).await?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(self.answer(&path, status, format!("bytes that hash to {found}")));
        }
        Ok(bytes)
    }

    /// Sends an artifact. `signed` are the headers of the signed statement.
    ///
    /// # Errors
    /// When it is refused, or the appliance does not answer.
    pub async fn upload(
        &self,
        challenge: &str,
        signed: &[(&'static str, String)],
        artifact: Bytes,
    ) -> Result<views::Uploaded, Error> {
        let path = format!("v1/challenges/{challenge}/submissions");
        let mut request = self
            .request(Method::POST, &path)
            .timeout(TRANSFER_TIMEOUT)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(artifact);
        for (name, value) in signed {
            request = request.header(*name, value);
        }
        let (status, bytes) = self.ask(request, JSON_BYTES).await?;
        self.parse(&path, status, &bytes)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, Option<String>)]) -> Result<T, Error> {
        let given: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        let request = self.request(Method::GET, path).query(&given).timeout(ANSWER_TIMEOUT);
        let (status, bytes) = self.ask(request, JSON_BYTES).await?;
        self.parse(path, status, &bytes)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// The address of a path. Paths are made here from ids and names; one that is no path leads to the base.
    fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_source| self.base.clone())
    }

    fn answer(&self, path: &str, status: StatusCode, why: String) -> Error {
        Error::Answer { url: self.url(path), status: status.as_u16(), why }
    }

    fn parse<T: DeserializeOwned>(&self, path: &str, status: StatusCode, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|source| self.answer(path, status, source.to_string()))
    }

    /// Sends a request and reads at most `limit` bytes of its answer.
    async fn ask(&self, request: RequestBuilder, limit: u64) -> Result<(StatusCode, Bytes), Error> {
        let unreachable = |source| Error::Unreachable { url: self.base.clone(), source };
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, url) = (response.status(), response.url().clone());
        let invalid = |why: String| Error::Answer { url, status: status.as_u16(), why };
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(invalid(format!("more than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((status, body.freeze()));
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_source) => Err(invalid("no problem document".to_owned())),
        }
    }
}

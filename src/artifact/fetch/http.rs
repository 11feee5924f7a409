//! Requests: with limits on time, redirects and bytes, to allowed addresses only.
//!
//! Owns the client and what is never done: following a redirect that was not looked at, carrying credentials to another
//! host, believing a length. Refuses to know what is fetched. The sources in this room call it.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE, WWW_AUTHENTICATE,
    },
    redirect::Policy,
};

use super::address::{Refusal, Resolver, Shared};
use crate::artifact::model::Trouble;

/// Redirects of one request: a registry sends to its store, a store to a region.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a URL that is followed.
const URL_BYTES_MAX: usize = 8192;
/// Characters of a refusal's text that are repeated.
const TOLD_CHARS: usize = 200;

/// How long and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long connecting may take.
    pub connect_ms: u64,
    /// How long a source may be silent.
    pub silence_ms: u64,
    /// Whether private, loopback and link-local addresses may be spoken to, and without TLS.
    pub allow_private: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect_ms: 10_000, silence_ms: 30_000, allow_private: false }
    }
}

/// A client for the fetches of one model.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    resolver: Arc<Resolver>,
    limits: Limits,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    /// The value of `Authorization`, sent to the first host alone.
    pub authorization: Option<HeaderValue>,
    /// The value of `Accept`.
    pub accept: Option<&'static str>,
    /// First and last byte.
    pub range: Option<(u64, u64)>,
    /// Whether the headers alone are wanted.
    pub head: bool,
    /// What is written, and how; nothing is read then but the answer.
    pub write: Option<Write>,
}

/// Something that is written.
#[derive(Debug, Clone)]
pub(super) struct Write {
    /// How.
    pub method: Method,
    /// What it is.
    pub content_type: &'static str,
    /// The bytes.
    pub bytes: Bytes,
    /// First and last byte of the whole, where this is a part.
    pub part: Option<(u64, u64)>,
}

/// What came.
pub(super) enum Came {
    /// The answer, its body unread.
    Answer(Response),
    /// The first host wants to know who asks: the challenge.
    Unauthorized(String),
}

impl Http {
    /// A client within these limits.
    ///
    /// # Errors
    /// When the system gives no client, in words.
    pub fn new(limits: Limits) -> Result<Self, Trouble> {
        let resolver = Resolver::new(limits.allow_private);
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            .read_timeout(Duration::from_millis(limits.silence_ms))
            .dns_resolver(Arc::new(Shared(Arc::clone(&resolver))))
            // What the environment says of proxies would go around the rule on addresses.
            .no_proxy()
            .user_agent(concat!("waag/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| Trouble::Failed(told(&source)))?;
        Ok(Self { client, resolver, limits })
    }

    /// Reads an address that a person or a source gave.
    pub(super) fn url(&self, text: &str) -> Result<Url, Trouble> {
        if text.len() > URL_BYTES_MAX {
            return Err(Trouble::Failed(format!("an address of {} bytes", text.len())));
        }
        let url = Url::parse(text).map_err(|source| Trouble::Failed(format!("`{}`: {source}", cut(text))))?;
        self.allowed(&url)?;
        Ok(url)
    }

    /// Whether a URL may be asked.
    fn allowed(&self, url: &Url) -> Result<(), Trouble> {
        let refused = |why: &str| Err(Trouble::Forbidden(format!("`{}`: {why}", cut(url.as_str()))));
        match url.scheme() {
            "https" => {}
            "http" if self.limits.allow_private => {}
            _ => return refused("only https is spoken to"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("an address with credentials in it");
        }
        let literal = match url.host() {
            Some(host) => host.to_string().trim_matches(['[', ']']).parse().ok(),
            None => return refused("an address without a host"),
        };
        if let Some(address) = literal {
            let host = url.host_str().unwrap_or_default();
            self.resolver.check(host, address).map_err(|refusal| Trouble::Forbidden(refusal.to_string()))?;
        }
        Ok(())
    }

    /// Asks, following redirects that are allowed. Statuses of failure are trouble, but the challenge of the first host.
    pub(super) async fn ask(&self, url: &Url, ask: &Ask) -> Result<Came, Trouble> {
        let mut at = url.clone();
        for hop in 0..=REDIRECTS_MAX {
            let is_home = at.origin() == url.origin();
            // Where a source sends us is its own doing, and nobody can mend it in the settings.
            let blamed = |trouble| match trouble {
                Trouble::Forbidden(why) if !is_home => Trouble::Failed(why),
                other => other,
            };
            self.allowed(&at).map_err(blamed)?;
            let answer = self.send(&at, ask, is_home).await.map_err(blamed)?;
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && is_home {
                let challenge = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
                return Ok(Came::Unauthorized(challenge.unwrap_or_default().to_owned()));
            }
            // What is written goes where it was meant to go, or nowhere.
            if !status.is_redirection() || ask.write.is_some() {
                if status == StatusCode::FORBIDDEN && ask.write.is_some() {
                    return Err(Trouble::Denied(format!("{at}: {status}")));
                }
                return Ok(Came::Answer(checked(answer, &at)?));
            }
            if hop == REDIRECTS_MAX {
                break;
            }
            let next = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if next.len() > URL_BYTES_MAX {
                return Err(Trouble::Failed(format!("{url} redirects to an address of {} bytes", next.len())));
            }
            let joined = at.join(next);
            at = joined.map_err(|source| Trouble::Failed(format!("{url} redirects to `{}`: {source}", cut(next))))?;
        }
        Err(Trouble::Failed(format!("{url} redirects more than {REDIRECTS_MAX} times")))
    }

    async fn send(&self, url: &Url, ask: &Ask, is_home: bool) -> Result<Response, Trouble> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = ask.authorization.as_ref().filter(|_value| is_home) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(accept) = ask.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some((first, last)) = ask.range {
            // Digits and a dash are a header's value.
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={first}-{last}")) {
                headers.insert(RANGE, range);
            }
        }
        let request = match &ask.write {
            Some(write) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(write.content_type));
                if let Some((first, last)) = write.part
                    && let Ok(range) = HeaderValue::from_str(&format!("{first}-{last}"))
                {
                    headers.insert(CONTENT_RANGE, range);
                }
                self.client.request(write.method.clone(), url.clone()).body(write.bytes.clone())
            }
            None if ask.head => self.client.head(url.clone()),
            None => self.client.get(url.clone()),
        };
        request.headers(headers).send().await.map_err(|source| unsent(&source))
    }

    /// Asks and reads a body of at most `limit` bytes.
    pub(super) async fn read(&self, url: &Url, ask: &Ask, limit: u64) -> Result<Bytes, Trouble> {
        match self.ask(url, ask).await? {
            Came::Answer(answer) => body(answer, limit).await,
            Came::Unauthorized(_challenge) => Err(Trouble::Failed(format!("{url}: not public"))),
        }
    }
}

/// Why a request could not be sent: a name that leads to one of our own machines is told apart.
fn unsent(error: &reqwest::Error) -> Trouble {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return Trouble::Forbidden(refusal.to_string());
        }
        source = cause.source();
    }
    Trouble::Failed(told(error))
}

/// The answer, when its status is one of success.
fn checked(answer: Response, url: &Url) -> Result<Response, Trouble> {
    let status = answer.status();
    match status {
        _ if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Trouble::Missing(format!("{url}: {status}"))),
        // 401 and 403 among them: a private repository, an expired address and a tired proxy look alike.
        _ => Err(Trouble::Failed(format!("{url}: {status}"))),
    }
}

/// A body as a whole, within a limit that the answer's own length cannot lift.
pub(super) async fn body(answer: Response, limit: u64) -> Result<Bytes, Trouble> {
    let url = answer.url().clone();
    if answer.content_length().is_some_and(|bytes| bytes > limit) {
        return Err(Trouble::Failed(format!("{url}: more than {limit} bytes")));
    }
    let mut stream = answer.bytes_stream();
    let mut bytes = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|source| Trouble::Failed(told(&source)))?;
        if bytes.len() as u64 + part.len() as u64 > limit {
            return Err(Trouble::Failed(format!("{url}: more than {limit} bytes")));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// Whether an answer holds exactly these bytes of the file; what else it may be is said.
pub(super) fn is_range(answer: &Response, first: u64, last: u64) -> Result<(), Trouble> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Trouble::NoRange(format!("{} answered {}", answer.url(), answer.status())));
    }
    let told = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let begun = told.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).map(|(range, _)| range);
    if begun == Some(&format!("{first}-{last}")) {
        Ok(())
    } else {
        Err(Trouble::NoRange(format!("{} answered the range `{}`", answer.url(), cut(told))))
    }
}

/// An error with what caused it, on one line.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    cut(&told)
}

/// What is repeated of a text that somebody else wrote.
pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TOLD_CHARS).collect()
}

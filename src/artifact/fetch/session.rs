//! A registry's door: who may do what, by the challenge that it sends.
//!
//! Owns tokens and credentials of one repository in one registry. Refuses to know what is asked for. Pulling and
//! pushing go through it. Source: the distribution specification's token authentication, and RFC 9110.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use reqwest::{Response, Url, header::HeaderValue};
use serde::Deserialize;

use super::http::{Ask, Came, Http, body, cut};
use crate::artifact::model::Trouble;

/// Bytes of the answer of a token service.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Who asks, where a registry is not open to everybody.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password or token. Never shown.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read.
    Pull,
    /// Write.
    Push,
}

impl Access {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// One repository in one registry.
#[derive(Debug)]
pub(super) struct Session {
    http: Http,
    base: Url,
    repo: String,
    access: Access,
    credentials: Option<Credentials>,
    /// The present `Authorization`.
    token: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Session {
    pub(super) fn new(
        http: Http,
        base: &str,
        repo: &str,
        access: Access,
        credentials: Option<Credentials>,
    ) -> Result<Self, Trouble> {
        let base = http.url(base)?;
        Ok(Self { http, base, repo: repo.to_owned(), access, credentials, token: Mutex::new(None) })
    }

    /// The registry's host.
    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The address of something in the repository.
    pub(super) fn at(&self, kind: &str, what: &str) -> Result<Url, Trouble> {
        self.join(&format!("/v2/{}/{kind}/{what}", self.repo))
    }

    /// An address that the registry gave, relative or whole.
    pub(super) fn join(&self, location: &str) -> Result<Url, Trouble> {
        let joined = self.base.join(location);
        joined.map_err(|source| Trouble::Failed(format!("{}: {source}", cut(location))))
    }

    /// Asks, and once more with a token when the registry wants one.
    pub(super) async fn ask(&self, url: &Url, mut ask: Ask) -> Result<Response, Trouble> {
        ask.authorization = self.token();
        let challenge = match self.http.ask(url, &ask).await? {
            Came::Answer(answer) => return Ok(answer),
            Came::Unauthorized(challenge) => challenge,
        };
        ask.authorization = Some(self.authorize(&challenge).await?);
        match self.http.ask(url, &ask).await? {
            Came::Answer(answer) => Ok(answer),
            Came::Unauthorized(_challenge) => Err(Trouble::Denied(format!("{url}: not public"))),
        }
    }

    fn token(&self) -> Option<HeaderValue> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What answers the challenge: a token of the service that it names, or name and password.
    async fn authorize(&self, challenge: &str) -> Result<HeaderValue, Trouble> {
        let basic = self.credentials.as_ref().map(basic).transpose()?;
        let value = match Challenge::parse(challenge) {
            Some(Challenge::Basic) => basic.ok_or_else(|| Trouble::Denied(format!("{}: not public", self.repo)))?,
            Some(Challenge::Bearer { realm, service, scope }) => {
                let url = self.token_url(&realm, service.as_deref(), scope.as_deref())?;
                // The registry that the operator trusts with name and password says where they are to be shown.
                let ask = Ask { authorization: basic, ..Ask::default() };
                let answer = match self.http.ask(&url, &ask).await? {
                    Came::Answer(answer) => body(answer, TOKEN_BYTES_MAX).await?,
                    Came::Unauthorized(_challenge) => {
                        return Err(Trouble::Denied(format!("{url}: name or password are wrong")));
                    }
                };
                let token: Token = serde_json::from_slice(&answer)
                    .map_err(|source| Trouble::Failed(format!("{url} gave no token: {source}")))?;
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.token))
                    .map_err(|_source| Trouble::Failed(format!("{url} gave a token that is none")))?;
                value.set_sensitive(true);
                value
            }
            None => return Err(Trouble::Failed(format!("{} asks for `{}`", self.base, cut(challenge)))),
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone());
        Ok(value)
    }

    fn token_url(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Url, Trouble> {
        let mut url = self.http.url(realm)?;
        let own = format!("repository:{}:{}", self.repo, self.access.as_str());
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.unwrap_or(&own));
        drop(query);
        Ok(url)
    }
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, Trouble> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let text = format!("{}:{}", credentials.username, credentials.password);
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text)))
        .map_err(|_source| Trouble::Failed("the registry's credentials cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a registry wants before it answers.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads `WWW-Authenticate` (RFC 9110, 11.6.1), its first challenge.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut members = BTreeMap::new();
        let mut rest = rest;
        while let Some((key, after)) = rest.split_once('=') {
            let (value, left) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            members.insert(key.trim_matches([' ', ',']).to_ascii_lowercase(), value.to_owned());
            rest = left;
        }
        let realm = members.remove("realm")?;
        Some(Self::Bearer { realm, service: members.remove("service"), scope: members.remove("scope") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
        };
        assert_eq!(
            Challenge::parse(r#"Bearer realm="https://a/token",service="reg",scope="repository:a/b:pull,push""#),
            bearer("https://a/token", Some("reg"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(Challenge::parse("bearer realm=https://a, service=b"), bearer("https://a", Some("b"), None));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for wrong in ["", "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let credentials = Credentials { username: "me".to_owned(), password: "hunter2".to_owned() };
        assert_eq!(format!("{credentials:?}"), "Credentials(me)");
        assert!(!format!("{:?}", basic(&credentials).unwrap()).contains("aHVudGVyMg"));
    }
}

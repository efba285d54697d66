//! Introspection of opaque tokens (RFC 7662): the authorization server says whether a token is active, and whose it is.

use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::task::AbortHandle;

use super::TokenKey;
use super::claims::{numeric_date, revocable_claims};
use super::issuer::authority_of;
use super::readers::Readers;
use super::revocations::{Revocable, Revocations, unix_ms};
use super::service::{
    Asked, Challenges, Failure, Granted, Interpret, Kind, Question, ServiceError, ServiceSettings, Settings, Verdict,
    asked, kept,
};
use super::ticket::Tickets;
use super::token_error::{TOKEN_BYTES_MAX, TokenError};
use crate::access::{Authentication, Authority, NotAuthenticated, Principal, Verifying, Waiter};
use crate::http_client::Response;

/// The endpoint of the authorization server, and what its answers must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionSettings {
    pub service: ServiceSettings,
    /// The name and secret of this client (RFC 6749 section 2.3.1). The secret is absent if its file was not read.
    pub client_id: Box<str>,
    pub client_secret: Option<TokenKey>,
    /// The required `aud`, or an element of it. `None` accepts any.
    pub audience: Option<Box<str>>,
    /// The tolerated clock skew for `nbf`.
    pub leeway: Duration,
}

impl IntrospectionSettings {
    /// What identifies the authority, in this process and on other replicas.
    fn identity(&self) -> impl Hash + Serialize {
        ("introspection", self.service.uri.to_string(), &self.client_id, &self.audience)
    }
}

impl Settings for IntrospectionSettings {
    fn service(&self) -> &ServiceSettings {
        &self.service
    }

    fn kind(&self) -> Kind {
        Kind { name: "auth.introspection", authority: authority_of(&self.identity()), is_for_one_target: false }
    }

    fn interpret(&self, readers: Arc<Readers>) -> Interpret {
        let (audience, leeway) = (self.audience.clone(), self.leeway);
        Box::new(move |response| read(response, audience.as_deref(), leeway, &readers))
    }

    /// Both parts are form-encoded before they are joined (RFC 6749 section 2.3.1).
    fn credentials(&self) -> Option<HeaderValue> {
        let pair = format!("{}:{}", escaped(self.client_id.as_bytes()), escaped(&self.client_secret.as_ref()?.0));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Asks the authorization server.
pub type Introspection = Asked<IntrospectionSettings>;

impl Introspection {
    pub fn new(settings: IntrospectionSettings, readers: Arc<Readers>) -> Self {
        asked(settings, readers)
    }

    /// The principal of a token, unless it is revoked, and how long ago the server was asked about it.
    ///
    /// # Errors
    ///
    /// The token is not accepted, or the server does not respond.
    pub(super) async fn verify(
        &self,
        token: &str,
        revocations: Option<&Arc<Revocations>>,
    ) -> Result<(Principal, Duration), TokenError> {
        if token.is_empty() {
            return Err(TokenError::Malformed);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let identified = self.service.identify(self.question(token)).await;
        let (principal, age) = identified.map_err(|error| match error {
            ServiceError::Unavailable => TokenError::NoAnswer,
            ServiceError::Unauthorized(_) | ServiceError::Forbidden => TokenError::Inactive,
        })?;
        let principal = match revocations {
            Some(revocations) => Revocable::new(revocations, &principal.claims).joined_to(principal)?,
            None => principal,
        };
        Ok((principal, age))
    }

    /// How long an answer of this age holds without another one, in milliseconds since the Unix epoch.
    pub(super) fn holds_until(&self, expires_at: Option<i64>, age: Duration, now_unix_ms: i64) -> Option<i64> {
        let left = self.settings.service.interval.saturating_sub(age);
        let until = now_unix_ms.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
        Some(expires_at.map_or(until, |end| end.min(until)))
    }

    /// The authority with its fingerprint, which is the same on all replicas.
    pub(super) fn fingerprint(&self, tickets: &Tickets) -> Option<(Authority, String)> {
        Some((self.authority(), tickets.fingerprint(&self.settings.identity()).ok()?))
    }

    /// Verifies a token in a task, for a session that must not wait.
    pub(super) fn start_verifying(
        self: &Arc<Self>,
        token: &str,
        revocations: Option<&Arc<Revocations>>,
        waiter: Waiter,
    ) -> Authentication {
        let Some((runtime, hooks)) = self.service.running() else {
            return Authentication::Done(Err(TokenError::NoAnswer.into()));
        };
        let result = Arc::<Outcome>::default();
        let (asked, token, revocations) = (self.clone(), token.to_owned(), revocations.cloned());
        let (on_verified, set) = (hooks.on_verified.clone(), result.clone());
        let task = runtime.spawn(async move {
            let verified = asked.verify(&token, revocations.as_ref()).await;
            let _ = set.set(verified.map(|(principal, _)| principal).map_err(NotAuthenticated::from));
            on_verified(waiter);
        });
        Authentication::Pending(Box::new(Pending { result, task: task.abort_handle() }))
    }

    fn question(&self, token: &str) -> Question {
        let escaped = escaped(token.as_bytes());
        let body = Bytes::from(format!("token={escaped}&token_type_hint=access_token"));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let mut key = Sha256::new();
        key.update(&body);
        Question::new(Method::POST, headers, body, key)
    }
}

type Outcome = OnceLock<Result<Principal, NotAuthenticated>>;

/// A verification in a task, which ends with it.
#[derive(Debug)]
struct Pending {
    result: Arc<Outcome>,
    task: AbortHandle,
}

impl Verifying for Pending {
    fn result(&self) -> Option<Result<Principal, NotAuthenticated>> {
        self.result.get().cloned()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As a value of `application/x-www-form-urlencoded`.
fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

/// Only 200 with a JSON object and `active` is an answer. A 401 means that the server does not accept sidestream's own
/// credentials, which says nothing about the token.
fn read(response: &Response, audience: Option<&str>, leeway: Duration, readers: &Readers) -> Result<Verdict, Failure> {
    if response.status != StatusCode::OK {
        return Err(Failure::Status(response.status.as_u16()));
    }
    let claims: Map<String, Value> = serde_json::from_slice(&response.body).map_err(|_| Failure::Body)?;
    let is_active = claims.get("active").and_then(Value::as_bool).ok_or(Failure::Body)?;
    let date = |name| numeric_date(&claims, name).map_err(|_| Failure::Body);
    let (expires_at, begins_at) = (date("exp")?, date("nbf")?);
    let leeway = i64::try_from(leeway.as_millis()).unwrap_or(i64::MAX);
    let is_early = begins_at.is_some_and(|begin| begin > unix_ms().saturating_add(leeway));
    if !is_active || is_early || !audience.is_none_or(|audience| is_for(&claims, audience)) {
        return Ok(Verdict::Unauthorized(Challenges::default()));
    }
    let revocable_by = revocable_claims(&claims);
    let names: Vec<&str> = revocable_by.keys().map(String::as_str).collect();
    Ok(Verdict::Allowed(Granted { claims: kept(claims, readers, &names), expires_at }))
}

/// `aud` is a text or a list of texts (RFC 7519 section 4.1.3).
fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => several.iter().any(|one| one == audience),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use serde_json::json;

    use super::*;
    use crate::access::Source;
    use crate::testing::binding;

    const NOW_S: i64 = 1_800_000_000;

    fn answer(status: u16, body: &str) -> Response {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Response { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body }
    }

    /// The claims of an accepted token; `null` of a refused one; `false` without a decision.
    fn said(status: u16, body: &Value, audience: Option<&str>) -> Value {
        let bindings = [binding("k", Source::Claim(["tenant".into()].into()))].into();
        let readers = Readers { bindings, ..Readers::default() };
        match read(&answer(status, &body.to_string()), audience, Duration::from_secs(60), &readers) {
            Ok(Verdict::Allowed(granted)) => Value::Object((**granted.claims).clone()),
            Ok(_) => Value::Null,
            Err(_) => json!(false),
        }
    }

    #[test]
    fn an_active_token_gives_the_claims_that_are_used() {
        let body = json!({"active": true, "sub": "u1", "iss": "i", "jti": "t", "tenant": "a", "scope": "x", "iat": 7});
        let kept = json!({"sub": "u1", "iss": "i", "jti": "t", "tenant": "a", "iat": 7});
        assert_eq!(said(200, &body, None), kept);
        assert_eq!(said(200, &json!({"active": false, "sub": "u1"}), None), Value::Null);
        assert_eq!(said(200, &json!({"active": true, "nbf": NOW_S * 10}), None), Value::Null);
        let early = |seconds: i64| json!({"active": true, "sub": "u1", "nbf": unix_ms() / 1000 + seconds});
        assert_eq!(said(200, &early(30), None), json!({"sub": "u1"}), "within the leeway");
        assert_eq!(said(200, &early(90), None), Value::Null);
    }

    #[test]
    fn what_is_no_answer_decides_nothing() {
        let active = json!({"active": true, "sub": "u1"});
        for status in [201, 204, 302, 400, 401, 403, 404, 500, 503] {
            assert_eq!(said(status, &active, None), json!(false), "{status}");
        }
        for body in [json!({}), json!([]), json!({"active": "true"}), json!({"active": 1}), json!({"active": null})] {
            assert_eq!(said(200, &body, None), json!(false), "{body}");
        }
        assert_eq!(said(200, &json!({"active": true, "exp": "soon"}), None), json!(false));
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let for_ = |audience: Value| said(200, &json!({"active": true, "sub": "u1", "aud": audience}), Some("api"));
        let accepted = json!({"sub": "u1"});
        assert_eq!((for_(json!("api")), for_(json!(["x", "api"]))), (accepted.clone(), accepted));
        for other in [json!("ap"), json!("api2"), json!(["x"]), json!([]), json!({"api": 1}), Value::Null] {
            assert_eq!(for_(other.clone()), Value::Null, "{other}");
        }
    }

    #[test]
    fn the_token_and_the_credentials_are_escaped() {
        let settings = IntrospectionSettings {
            service: ServiceSettings {
                uri: "http://127.0.0.1:1/".parse().unwrap(),
                is_direct: false,
                roots: None,
                cache: Duration::ZERO,
                interval: Duration::from_secs(60),
                timeout: Duration::from_secs(5),
            },
            client_id: "side:stream".into(),
            client_secret: Some(TokenKey(b"a+b c".to_vec())),
            audience: None,
            leeway: Duration::ZERO,
        };
        let credentials = settings.credentials().unwrap();
        assert_eq!(credentials, format!("Basic {}", STANDARD.encode("side%3Astream:a%2Bb%20c")));
        assert!(credentials.is_sensitive());
        let question = Introspection::new(settings, Arc::default()).question("a&active=true");
        assert_eq!(question.body(), "token=a%26active%3Dtrue&token_type_hint=access_token");
        assert!(!question.headers().contains_key(AUTHORIZATION), "the configuration of now has the credentials");
    }
}

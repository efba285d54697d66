//! Verification of API keys, of JWTs (RFC 7519), and of the tickets that replace both: their [issuer](super::issuer)
//! verifies the signature; `exp`, `nbf` and revocations are checked here. The time is an argument.
//!
//! It never blocks: keys are given, or requested in the background.

mod tickets;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::Issuer;
use super::api_keys::ApiKeys;
use super::claims::numeric_date;
use super::client_certificates::ClientCertificates;
use super::forward::Forward;
use super::introspection::Introspection;
use super::issuer::TrustedIssuer;
use super::presented::CredentialFields;
use super::remote::{self, OnFetch, RemoteKeys};
use super::revocations::{Revocable, Revocations, unix_ms};
use super::ticket::Tickets;
use super::token_error::{TOKEN_BYTES_MAX, TokenError, refusal};
use crate::access::{Authentication, Authenticator, Authority, NotAuthenticated, Principal, Standing, Waiter};

/// Verifies tokens. Created once per configuration.
pub struct Verifier {
    issuers: Vec<TrustedIssuer>,
    cookie: Option<String>,
    leeway: Duration,
    tickets: Option<Tickets>,
    api_keys: Option<ApiKeys>,
    client_certificates: Option<ClientCertificates>,
    /// Of every authority, once a ticket needs one.
    fingerprints: OnceLock<Vec<(Authority, String)>>,
    introspection: Option<Arc<Introspection>>,
    forward: Option<Arc<Forward>>,
    /// Absent if revocation is not configured.
    revocations: OnceLock<Arc<Revocations>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.iter().map(TrustedIssuer::settings).collect();
        f.debug_struct("Verifier").field("issuers", &issuers).field("forward", &self.forward).finish_non_exhaustive()
    }
}

/// Verifiers are equal if they accept the same tokens from the same sources.
impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        let issuers = |verifier: &'_ Self| verifier.issuers.iter().map(|trusted| trusted.settings().clone()).collect();
        let (ours, theirs): (Vec<Issuer>, Vec<Issuer>) = (issuers(self), issuers(other));
        let others = |verifier: &'_ Self| (verifier.cookie.clone(), verifier.leeway, verifier.tickets.clone());
        ours == theirs
            && others(self) == others(other)
            && self.api_keys == other.api_keys
            && self.client_certificates == other.client_certificates
            && self.introspection == other.introspection
            && self.forward == other.forward
    }
}

impl Verifier {
    /// Several issuers must have distinct names. `cookie` names the cookie that may contain the token, in addition to
    /// `Authorization: Bearer`. `leeway` is the tolerated clock skew for `exp` and `nbf`.
    pub fn new(issuers: Vec<TrustedIssuer>, cookie: Option<String>, leeway: Duration) -> Self {
        Self {
            issuers,
            cookie,
            leeway,
            tickets: None,
            api_keys: None,
            client_certificates: None,
            fingerprints: OnceLock::new(),
            introspection: None,
            forward: None,
            revocations: OnceLock::new(),
        }
    }

    /// The same, which asks a service about requests without a token of its issuers.
    pub fn with_forward(self, forward: Option<Forward>) -> Self {
        Self { forward: forward.map(Arc::new), ..self }
    }

    pub fn forward(&self) -> Option<&Arc<Forward>> {
        self.forward.as_ref()
    }

    /// The same, which asks an authorization server about tokens that nothing here can verify.
    pub fn with_introspection(self, introspection: Option<Introspection>) -> Self {
        Self { introspection: introspection.map(Arc::new), ..self }
    }

    pub fn introspection(&self) -> Option<&Arc<Introspection>> {
        self.introspection.as_ref()
    }

    /// Whether an authorization server is asked about this token: nothing here can verify it. With issuers, a JWT is
    /// theirs to verify, and a refused one is refused.
    pub fn introspects(&self, token: &str) -> Option<&Arc<Introspection>> {
        let is_known = || self.api_keys.as_ref().is_some_and(|keys| keys.find(token).is_some());
        let is_jwt = || !self.issuers.is_empty() && jsonwebtoken::decode_header(token).is_ok();
        self.introspection.as_ref().filter(|_| !is_known() && !is_jwt())
    }

    /// The principal of a token that nothing here can verify, according to the authorization server, and how long ago it
    /// was asked. `None` if [`Self::verify`] is responsible.
    pub async fn introspect(&self, token: &str) -> Option<Result<(Principal, Duration), TokenError>> {
        let introspection = self.introspects(token)?;
        Some(introspection.verify(token, self.revocations.get()).await)
    }

    /// Refuses revoked tokens from now on. Only the first call has an effect.
    pub fn revoke_by(&self, revocations: &Arc<Revocations>) {
        self.revocations.get_or_init(|| revocations.clone());
    }

    /// The identifiers by which a principal with these claims can be revoked, if revocation is configured. Fails if it
    /// is revoked already.
    fn revocable(&self, claims: &Map<String, Value>) -> Result<Option<Revocable>, TokenError> {
        let Some(revocations) = self.revocations.get() else { return Ok(None) };
        let revocable = Revocable::new(revocations, claims);
        if revocable.is_revoked() { Err(TokenError::Revoked) } else { Ok(Some(revocable)) }
    }

    /// Makes a principal that forward auth identified revocable. It counts as issued when the service was asked, which
    /// was `age` ago: the response may come from the cache.
    ///
    /// # Errors
    ///
    /// The principal is revoked.
    pub fn identified(&self, principal: Principal, age: Duration) -> Result<Principal, TokenError> {
        let Some(revocations) = self.revocations.get() else { return Ok(principal) };
        let asked = unix_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        Revocable::new(revocations, &principal.claims).issued_at(asked).joined_to(principal)
    }

    /// The same, which also accepts these API keys.
    pub fn with_api_keys(self, api_keys: Option<ApiKeys>) -> Self {
        Self { api_keys, ..self }
    }

    /// The API keys, if they are configured.
    pub fn api_keys(&self) -> Option<&ApiKeys> {
        self.api_keys.as_ref()
    }

    /// The same, which also accepts client certificates that proxies in front have verified.
    pub fn with_client_certificates(self, client_certificates: Option<ClientCertificates>) -> Self {
        Self { client_certificates, ..self }
    }

    pub fn client_certificates(&self) -> Option<&ClientCertificates> {
        self.client_certificates.as_ref()
    }

    /// The principal of the client certificate that a request from this peer describes. `None` if there is none.
    pub fn identify_certificate(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        now_unix_ms: i64,
    ) -> Option<Result<Principal, TokenError>> {
        let certificates = self.client_certificates.as_ref()?;
        let claims = certificates.claims(headers, peer)?;
        Some(claims.and_then(|claims| self.principal(claims, certificates.authority(), now_unix_ms)))
    }

    /// Whether tokens or API keys are accepted at all, in contrast to credentials of the forward auth service.
    pub fn takes_tokens(&self) -> bool {
        !self.issuers.is_empty() || self.api_keys.is_some() || self.introspection.is_some()
    }

    /// The fields of requests that may contain credentials.
    pub fn fields(&self) -> CredentialFields<'_> {
        CredentialFields { cookie: self.cookie.as_deref(), api_key: self.api_keys.as_ref().map(ApiKeys::header) }
    }

    /// Also issues and accepts tickets.
    pub fn with_tickets(self, tickets: Option<Tickets>) -> Self {
        Self { tickets, ..self }
    }

    pub fn tickets(&self) -> Option<&Tickets> {
        self.tickets.as_ref()
    }

    /// The issuers whose keys are at a URL, each with its name or else the URL.
    pub fn remote_keys(&self) -> impl Iterator<Item = (String, &Arc<RemoteKeys>)> {
        self.issuers.iter().filter_map(|trusted| {
            let keys = trusted.remote()?;
            Some((trusted.settings().name.clone().unwrap_or_else(|| keys.location()), keys))
        })
    }

    /// Keeps keys from URLs up to date in tasks, while this is in use.
    pub fn follow_keys(&self, on_fetch: &OnFetch) {
        self.remote_keys().for_each(|(issuer, keys)| remote::follow(keys, &issuer, on_fetch));
    }

    /// Takes over the keys that the previous configuration has from the same URLs.
    pub fn inherit_keys(&self, before: &Self) {
        if let Some(revocations) = before.revocations.get() {
            self.revoke_by(revocations);
        }
        if let (Some(forward), Some(before)) = (&self.forward, &before.forward) {
            forward.inherit(before);
        }
        if let (Some(introspection), Some(before)) = (&self.introspection, &before.introspection) {
            introspection.inherit(before);
        }
        for (_, keys) in self.remote_keys() {
            before.remote_keys().for_each(|(_, known)| keys.inherit(known));
        }
    }

    /// Waits for key requests in progress, for at most `patience` each.
    pub async fn keys_settled(&self, patience: Duration) {
        for (_, keys) in self.remote_keys() {
            keys.settled(patience).await;
        }
    }

    /// The authorities of all tokens that may be accepted.
    pub fn authorities(&self) -> impl Iterator<Item = Authority> {
        let keys = self.api_keys.iter().flat_map(ApiKeys::authorities);
        let forward = self.forward.as_ref().map(|forward| forward.authority());
        let services = forward.into_iter().chain(self.introspection.as_ref().map(|asked| asked.authority()));
        let certificates = self.client_certificates.as_ref().map(ClientCertificates::authority);
        self.issuers.iter().flat_map(TrustedIssuer::authorities).chain(keys).chain(services).chain(certificates)
    }

    /// Verifies a token that the client itself set: an API key, or a token of an issuer.
    ///
    /// # Errors
    ///
    /// Why the token is rejected.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<Principal, TokenError> {
        match self.verify_api_key(token, now_unix_ms) {
            Err(TokenError::ApiKey) if !self.issuers.is_empty() => self.verify_token(token, now_unix_ms),
            verified => verified,
        }
    }

    /// Verifies an API key. `exp` and `nbf` among its claims count as in a token.
    ///
    /// # Errors
    ///
    /// Why the key is rejected.
    pub fn verify_api_key(&self, secret: &str, now_unix_ms: i64) -> Result<Principal, TokenError> {
        if secret.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let key = self.api_keys.as_ref().and_then(|keys| keys.find(secret)).ok_or(TokenError::ApiKey)?;
        tracing::debug!(key = &*key.id, "found an API key");
        self.principal(key.claims.clone(), key.authority, now_unix_ms)
    }

    /// Verifies the signature, `exp`, `nbf` and, if configured, `iss` and `aud`. `exp` and `nbf` may be absent: a token
    /// without `exp` does not limit its stream.
    ///
    /// # Errors
    ///
    /// Why the token is rejected.
    pub fn verify_token(&self, token: &str, now_unix_ms: i64) -> Result<Principal, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (data, authority) = self.issuer_of(token)?.decode(token)?;
        if data.header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        self.principal(data.claims, authority, now_unix_ms)
    }

    /// The principal with these claims, unless they are outside of their time, or revoked.
    fn principal(
        &self,
        claims: Map<String, Value>,
        authority: Authority,
        now_unix_ms: i64,
    ) -> Result<Principal, TokenError> {
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(i64::MAX);
        let expires_at = numeric_date(&claims, "exp")?;
        if expires_at.is_some_and(|exp| now_unix_ms >= exp.saturating_add(leeway)) {
            return Err(TokenError::Expired);
        }
        if numeric_date(&claims, "nbf")?.is_some_and(|nbf| now_unix_ms.saturating_add(leeway) < nbf) {
            return Err(TokenError::NotYetValid);
        }
        let standing = standing(self.revocable(&claims)?);
        Ok(Principal { claims: Arc::new(claims.into()), expires_at, authority, standing })
    }

    /// The issuer whose keys verify a token. If there are several, the token's own `iss` selects one, and that issuer's
    /// key decides whether it is true.
    fn issuer_of(&self, token: &str) -> Result<&TrustedIssuer, TokenError> {
        if let [only] = &self.issuers[..] {
            return Ok(only);
        }
        let claims = jsonwebtoken::decode_header(token)
            .and_then(|_| jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(token))
            .map_err(|error| refusal(error.kind(), token))?;
        let name = claims.get("iss").and_then(Value::as_str).ok_or(TokenError::Issuer)?;
        let named = |trusted: &&TrustedIssuer| trusted.settings().name.as_deref() == Some(name);
        self.issuers.iter().find(named).ok_or(TokenError::Issuer)
    }
}

fn standing(revocable: Option<Revocable>) -> Option<Arc<dyn Standing>> {
    revocable.map(|revocable| Arc::new(revocable) as Arc<dyn Standing>)
}

impl Authenticator for Verifier {
    fn authenticate(&self, token: &str, now_unix_ms: i64, waiter: Waiter) -> Authentication {
        match self.introspects(token) {
            Some(introspection) => introspection.start_verifying(token, self.revocations.get(), waiter),
            None => Authentication::Done(self.verify(token, now_unix_ms).map_err(NotAuthenticated::from)),
        }
    }
}

impl From<TokenError> for NotAuthenticated {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unavailable | TokenError::NoAnswer => Self::Unavailable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;

//! Verification of JWTs (RFC 7519) with the keys of their issuer and its allow-list of algorithms. The time is an
//! argument.
//!
//! It never blocks: keys are given, or requested in the background.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::forward::Forward;
use super::keys::{BadKey, Keys, material};
use super::remote::{self, OnFetch, RemoteKeys};
use super::revocations::{Revocable, Revocations, unix_ms};
use super::ticket::{Ticket, Tickets, text_of};
use super::{Issuer, KeyFile, SignError};
use crate::access::{Authenticator, Authority, Binding, NotAuthenticated, Principal, Standing, Withdrawn};

/// The longest accepted token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// A shorter HMAC secret causes a warning, in bytes: RFC 7518 section 3.2 requires the size of the hash.
pub const SECRET_BYTES_MIN: usize = 32;

/// Why a token is rejected. No message contains the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    #[error("the token's signature is not valid")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    /// No key has its `kid`, or it has none and several keys match.
    #[error("the token's key is not known")]
    Key,
    /// The issuer's keys are being requested, or have been unavailable for too long.
    #[error("the issuer's keys are not available")]
    Unavailable,
    #[error("the token was revoked")]
    Revoked,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    /// It lists header parameters that must be understood, and none are (RFC 7515 section 4.1.11).
    #[error("the token needs an extension that is not supported")]
    Critical,
}

impl TokenError {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Key => "key",
            Self::Unavailable => "unavailable",
            Self::Revoked => "revoked",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Critical => "critical",
        }
    }
}

/// An issuer whose keys match its algorithms.
pub struct TrustedIssuer {
    issuer: Issuer,
    keys: KeySet,
    validation: Validation,
}

enum KeySet {
    Fixed(Keys),
    Remote(Arc<RemoteKeys>),
}

impl KeySet {
    fn new(issuer: &Issuer) -> Result<Self, BadKey> {
        let keys = Keys::new(&issuer.key_file, &issuer.algorithms)?;
        let is_hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        match &issuer.key_file {
            KeyFile::Remote(_) if issuer.algorithms.iter().any(is_hmac) => Err(BadKey::PublicSecret),
            KeyFile::Remote(source) => {
                Ok(Self::Remote(Arc::new(RemoteKeys::new(source.clone(), issuer.algorithms.clone()))))
            }
            _ => Ok(Self::Fixed(keys)),
        }
    }

    fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match self {
            Self::Remote(keys) => Some(keys),
            Self::Fixed(_) => None,
        }
    }
}

impl TrustedIssuer {
    /// Prepares the keys.
    ///
    /// # Errors
    ///
    /// The keys do not match the algorithms.
    pub fn new(issuer: Issuer) -> Result<Self, BadKey> {
        let keys = KeySet::new(&issuer)?;
        let mut validation = Validation::default();
        validation.required_spec_claims.clear();
        // The verifier checks `exp` and `nbf` against its time argument.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = issuer.audience.is_some();
        if let Some(name) = &issuer.name {
            validation.set_issuer(&[name]);
            validation.required_spec_claims.insert("iss".into());
        }
        if let Some(audience) = &issuer.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        Ok(Self { issuer, keys, validation })
    }

    /// The length of its shortest HMAC secret in bytes, if it has one. See [`SECRET_BYTES_MIN`].
    pub fn shortest_secret(&self) -> Option<usize> {
        match &self.keys {
            KeySet::Fixed(keys) => keys.shortest_secret(),
            KeySet::Remote(_) => None,
        }
    }

    fn decode(&self, token: &str) -> Result<Decoded, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| refusal(error.kind(), token))?;
        if !self.issuer.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        match &self.keys {
            KeySet::Fixed(keys) => self.decode_with(keys, token, &header),
            KeySet::Remote(remote) => {
                let Some(known) = remote.current() else {
                    remote.ask();
                    return Err(TokenError::Unavailable);
                };
                match self.decode_with(&known.keys, token, &header) {
                    // The issuer may have a new key.
                    Err(TokenError::Key) if remote.ask() => Err(TokenError::Unavailable),
                    decoded => decoded,
                }
            }
        }
    }

    fn decode_with(&self, keys: &Keys, token: &str, header: &Header) -> Result<Decoded, TokenError> {
        let key = keys.find(header.kid.as_deref(), header.alg).ok_or(TokenError::Key)?;
        // The library requires that all algorithms are of the key's family.
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let data = jsonwebtoken::decode(token, key, &validation).map_err(|error| refusal(error.kind(), token))?;
        let material = self.keys.remote().map_or_else(|| Material::of(key), |remote| Material::at(remote));
        Ok((data, self.authority(&material, header.alg)))
    }

    /// All key material that its tokens may be verified with.
    fn materials(&self) -> Vec<(Material, Algorithm)> {
        match &self.keys {
            KeySet::Fixed(keys) => keys.all().map(|(key, algorithm)| (Material::of(key), algorithm)).collect(),
            KeySet::Remote(remote) => {
                self.issuer.algorithms.iter().map(|algorithm| (Material::at(remote), *algorithm)).collect()
            }
        }
    }

    fn authority(&self, material: &Material, algorithm: Algorithm) -> Authority {
        let Issuer { name, audience, .. } = &self.issuer;
        authority_of(&(name, audience, algorithm, material))
    }
}

/// Hashed with a secret of the process, so that it reveals nothing about a key.
pub(super) fn authority_of(basis: &impl Hash) -> Authority {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    Authority(SECRET.hash_one(basis))
}

type Decoded = (jsonwebtoken::TokenData<Map<String, Value>>, Authority);

/// What verifies an algorithm's signatures: a key, or the URL that publishes the keys.
#[derive(Hash)]
struct Material(Vec<u8>, Vec<u8>);

impl Material {
    fn of(key: &DecodingKey) -> Self {
        let (one, other) = material(key);
        Self(one.to_vec(), other.to_vec())
    }

    fn at(remote: &RemoteKeys) -> Self {
        Self(remote.location().into_bytes(), Vec::new())
    }
}

/// Verifies tokens. Created once per configuration.
pub struct Verifier {
    issuers: Vec<TrustedIssuer>,
    cookie: Option<String>,
    leeway: Duration,
    tickets: Option<Tickets>,
    forward: Option<Arc<Forward>>,
    /// Absent if revocation is not configured.
    revocations: OnceLock<Arc<Revocations>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.iter().map(|trusted| &trusted.issuer).collect();
        f.debug_struct("Verifier").field("issuers", &issuers).field("forward", &self.forward).finish_non_exhaustive()
    }
}

/// Verifiers are equal if they accept the same tokens from the same sources.
impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        let issuers = |verifier: &'_ Self| verifier.issuers.iter().map(|trusted| trusted.issuer.clone()).collect();
        let (ours, theirs): (Vec<Issuer>, Vec<Issuer>) = (issuers(self), issuers(other));
        let others = |verifier: &'_ Self| (verifier.cookie.clone(), verifier.leeway, verifier.tickets.clone());
        ours == theirs && others(self) == others(other) && self.forward == other.forward
    }
}

impl Verifier {
    /// Several issuers must have distinct names. `cookie` names the cookie that may contain the token, in addition to
    /// `Authorization: Bearer`. `leeway` is the tolerated clock skew for `exp` and `nbf`.
    pub fn new(issuers: Vec<TrustedIssuer>, cookie: Option<String>, leeway: Duration) -> Self {
        Self { issuers, cookie, leeway, tickets: None, forward: None, revocations: OnceLock::new() }
    }

    /// The same, which asks a service about requests without a token of its issuers.
    pub fn with_forward(self, forward: Option<Forward>) -> Self {
        Self { forward: forward.map(Arc::new), ..self }
    }

    pub fn forward(&self) -> Option<&Arc<Forward>> {
        self.forward.as_ref()
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
        let revocable = Revocable::new(revocations, &principal.claims).issued_at(asked);
        if revocable.is_revoked() {
            return Err(TokenError::Revoked);
        }
        let both = Both(principal.standing, revocable);
        Ok(Principal { standing: Some(Arc::new(both)), ..principal })
    }

    /// Whether tokens are accepted at all.
    pub fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// Also issues and accepts tickets.
    pub fn with_tickets(self, tickets: Option<Tickets>) -> Self {
        Self { tickets, ..self }
    }

    pub fn tickets(&self) -> Option<&Tickets> {
        self.tickets.as_ref()
    }

    /// A ticket for the token of this principal on one route and path, and its expiry in milliseconds since the Unix
    /// epoch. It contains the claims of `bindings` and no others.
    ///
    /// # Errors
    ///
    /// It cannot be signed.
    pub fn issue_ticket(
        &self,
        principal: &Principal,
        route: &str,
        path: &str,
        bindings: &[Binding],
        now_unix_ms: i64,
    ) -> Result<(String, i64), SignError> {
        let unknown = || SignError(ErrorKind::InvalidKeyFormat.into());
        let tickets = self.tickets.as_ref().ok_or_else(unknown)?;
        let (_, authority) =
            self.fingerprints(tickets).find(|(known, _)| *known == principal.authority).ok_or_else(unknown)?;
        let until = tickets.until(principal.expires_at, now_unix_ms);
        let ticket = Ticket {
            route: route.into(),
            path: path.into(),
            until,
            token_until: principal.expires_at,
            authority,
            claims: principal.claims_for(bindings.iter()),
            revocable_by: self.revocations.get().map(|_| revocable_claims(&principal.claims)),
        };
        Ok((tickets.sign(&ticket)?, until))
    }

    /// The principal of a ticket's token, if the ticket is valid for this route and path, and the token would still be
    /// accepted.
    ///
    /// # Errors
    ///
    /// Why the ticket is rejected.
    pub fn redeem_ticket(
        &self,
        text: &str,
        route: &str,
        path: &str,
        now_unix_ms: i64,
    ) -> Result<Principal, TokenError> {
        let tickets = self.tickets.as_ref().ok_or(TokenError::Key)?;
        let ticket = tickets.read(text)?;
        if (&*ticket.route, &*ticket.path) != (route, path) {
            return Err(TokenError::Audience);
        }
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(i64::MAX);
        let is_over = |until: i64| now_unix_ms >= until.saturating_add(leeway);
        if is_over(ticket.until) || ticket.token_until.is_some_and(is_over) {
            return Err(TokenError::Expired);
        }
        let trusted = self.fingerprints(tickets).find(|(_, known)| *known == ticket.authority);
        let (authority, _) = trusted.ok_or(TokenError::Key)?;
        let revocable = match &ticket.revocable_by {
            Some(claims) => self.revocable(claims)?,
            // The ticket was issued before revocation was configured.
            None => self.revocable(&ticket.claims)?,
        };
        Ok(Principal {
            claims: Arc::new(ticket.claims),
            expires_at: ticket.token_until,
            authority,
            standing: standing(revocable),
        })
    }

    /// Every authority with its fingerprint, which is the same on all replicas.
    fn fingerprints<'a>(&'a self, tickets: &'a Tickets) -> impl Iterator<Item = (Authority, String)> {
        self.issuers.iter().flat_map(move |trusted| {
            trusted.materials().into_iter().filter_map(move |(material, algorithm)| {
                let Issuer { name, audience, .. } = &trusted.issuer;
                let Material(one, other) = &material;
                let of = (name, audience, format!("{algorithm:?}"), text_of(one), text_of(other));
                Some((trusted.authority(&material, algorithm), tickets.fingerprint(&of).ok()?))
            })
        })
    }

    /// The issuers whose keys are at a URL, each with its name or else the URL.
    pub fn remote_keys(&self) -> impl Iterator<Item = (String, &Arc<RemoteKeys>)> {
        self.issuers.iter().filter_map(|trusted| {
            let keys = trusted.keys.remote()?;
            Some((trusted.issuer.name.clone().unwrap_or_else(|| keys.location()), keys))
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

    /// The name of the cookie that may contain the token.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// The authorities of all tokens that may be accepted.
    pub fn authorities(&self) -> impl Iterator<Item = Authority> {
        let of = |trusted: &TrustedIssuer| {
            trusted.materials().iter().map(|(key, algorithm)| trusted.authority(key, *algorithm)).collect::<Vec<_>>()
        };
        self.issuers.iter().flat_map(of).chain(self.forward.as_ref().map(|forward| forward.authority()))
    }

    /// Verifies the signature, `exp`, `nbf` and, if configured, `iss` and `aud`. `exp` and `nbf` may be absent: a token
    /// without `exp` does not limit its stream.
    ///
    /// # Errors
    ///
    /// Why the token is rejected.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<Principal, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (data, authority) = self.issuer_of(token)?.decode(token)?;
        if data.header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(i64::MAX);
        let expires_at = numeric_date(&data.claims, "exp")?;
        if expires_at.is_some_and(|exp| now_unix_ms >= exp.saturating_add(leeway)) {
            return Err(TokenError::Expired);
        }
        if numeric_date(&data.claims, "nbf")?.is_some_and(|nbf| now_unix_ms.saturating_add(leeway) < nbf) {
            return Err(TokenError::NotYetValid);
        }
        let standing = standing(self.revocable(&data.claims)?);
        Ok(Principal { claims: Arc::new(data.claims), expires_at, authority, standing })
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
        let named = |trusted: &&TrustedIssuer| trusted.issuer.name.as_deref() == Some(name);
        self.issuers.iter().find(named).ok_or(TokenError::Issuer)
    }
}

/// Combines two conditions: the principal is withdrawn once either is.
#[derive(Debug)]
struct Both(Option<Arc<dyn Standing>>, Revocable);

impl Standing for Both {
    fn withdrawn(&self) -> Option<Withdrawn> {
        self.0.as_ref().and_then(|standing| standing.withdrawn()).or_else(|| self.1.withdrawn())
    }

    fn is_for_one_target(&self) -> bool {
        self.0.as_ref().is_some_and(|standing| standing.is_for_one_target())
    }
}

fn standing(revocable: Option<Revocable>) -> Option<Arc<dyn Standing>> {
    revocable.map(|revocable| Arc::new(revocable) as Arc<dyn Standing>)
}

impl Authenticator for Verifier {
    fn authenticate(&self, token: &str, now_unix_ms: i64) -> Result<Principal, NotAuthenticated> {
        self.verify(token, now_unix_ms).map_err(|error| match error {
            TokenError::Unavailable => NotAuthenticated::Unavailable(error.to_string()),
            _ => NotAuthenticated::Refused(error.to_string()),
        })
    }
}

/// The claims by which a token can be revoked.
fn revocable_claims(claims: &Map<String, Value>) -> Map<String, Value> {
    let named = ["iss", "sub", "sid", "jti", "iat"].into_iter();
    named.filter_map(|name| Some((name.to_owned(), claims.get(name)?.clone()))).collect()
}

pub(super) fn refusal(kind: &ErrorKind, token: &str) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(_) => TokenError::Audience,
        // `none` and unknown names are not parsed as an algorithm.
        _ if names_unknown_algorithm(token) => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

/// Whether the token has a readable header with a string `alg` that the library does not know.
fn names_unknown_algorithm(token: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = token.split('.').next().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let header: Option<Value> = header.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let name = header.as_ref().and_then(|header| header.get("alg")?.as_str());
    name.is_some_and(|name| name.parse::<jsonwebtoken::Algorithm>().is_err())
}

/// A `NumericDate` (RFC 7519 section 2), possibly with a fraction, in milliseconds since the Unix epoch.
pub(super) fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(TokenError::Malformed)?;
    // `as` saturates, as intended for dates outside of the range.
    Ok(Some((seconds * 1000.0) as i64))
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;

//! Tickets: short-lived replacements of a token in a URL. They are signed, so that every replica with the key can
//! verify them without storage.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::access::ClaimPath;

use super::token_error::{TOKEN_BYTES_MAX, TokenError, refusal};
use super::{SignError, TokenKey, crypto};

/// The `typ` of a ticket's header (RFC 7519 section 5.1).
const TYPE: &str = "sidestream-ticket";
/// A prefix of the secret, so that a file that also verifies access tokens signs no valid ticket, and vice versa.
const PURPOSE: &[u8] = b"sidestream ticket\0";

/// The signature, lifetime and path of tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    /// `None` if the file was not read: no ticket is issued or accepted.
    key: Option<TokenKey>,
    lifetime: Duration,
    path: String,
}

/// The content of a ticket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ticket {
    /// The pattern of the route.
    pub(super) route: String,
    /// The path, as spelled in a request.
    pub(super) path: String,
    /// The expiry of the ticket, in milliseconds since the Unix epoch.
    pub(super) until: i64,
    /// The expiry of the replaced token: the stream ends then.
    pub(super) token_until: Option<i64>,
    /// The authority of that token; see [`Tickets::fingerprint`].
    pub(super) authority: String,
    pub(super) claims: Map<String, Value>,
    /// The paths of claims that are known to rules.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub(super) known: Box<[ClaimPath]>,
    /// The claims by which the token can be revoked, if revocation is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revocable_by: Option<Map<String, Value>>,
}

impl Tickets {
    /// `path` is where they are requested.
    pub fn new(secret: Option<&[u8]>, lifetime: Duration, path: String) -> Self {
        crypto::install();
        let key = secret.map(|secret| TokenKey([PURPOSE, secret].concat()));
        Self { key, lifetime, path }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The expiry of a ticket that is issued now for a token with this expiry, in milliseconds since the Unix epoch.
    pub(super) fn until(&self, token_until: Option<i64>, now_unix_ms: i64) -> i64 {
        let until = now_unix_ms.saturating_add(i64::try_from(self.lifetime.as_millis()).unwrap_or(i64::MAX));
        token_until.map_or(until, |token| token.min(until))
    }

    pub(super) fn sign(&self, ticket: &Ticket) -> Result<String, SignError> {
        let header = Header { typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) };
        Ok(jsonwebtoken::encode(&header, ticket, &EncodingKey::from_secret(self.secret()?))?)
    }

    /// Verifies the signature of a ticket. The caller checks its expiry and bindings.
    pub(super) fn read(&self, text: &str) -> Result<Ticket, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(self.secret().map_err(|_| TokenError::Key)?);
        let data =
            jsonwebtoken::decode::<Ticket>(text, &key, &validation).map_err(|error| refusal(error.kind(), text))?;
        let is_ticket = data.header.typ.as_deref() == Some(TYPE) && data.header.crit.is_none();
        is_ticket.then_some(data.claims).ok_or(TokenError::Malformed)
    }

    /// An HMAC that is the same on every replica with the same key, and does not reveal the key.
    pub(super) fn fingerprint(&self, of: &impl Serialize) -> Result<String, SignError> {
        let bytes = serde_json::to_vec(of).map_err(jsonwebtoken::errors::Error::from)?;
        Ok(jsonwebtoken::crypto::sign(&bytes, &EncodingKey::from_secret(self.secret()?), Algorithm::HS256)?)
    }

    fn secret(&self) -> Result<&[u8], SignError> {
        let unread = || SignError(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat.into());
        self.key.as_ref().map(|key| &*key.0).ok_or_else(unread)
    }
}

pub(super) fn text_of(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

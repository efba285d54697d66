//! Tickets: what stands for a token in a URL, for seconds. They are signed, so that every replica with the key verifies
//! them and none has to store them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::verifier::{TOKEN_BYTES_MAX, TokenError};
use super::{SignError, TokenKey};

/// The `typ` of a ticket's header (RFC 7519 section 5.1).
const TYPE: &str = "sidestream-ticket";
/// Stands before the secret: a file that verifies access tokens as well then signs no ticket, and the reverse.
const PURPOSE: &[u8] = b"sidestream ticket\0";

/// How tickets are signed, for how long they are good and where they are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    /// Nothing where the file was not read: no ticket is issued or accepted.
    key: Option<TokenKey>,
    lifetime: Duration,
    path: String,
}

/// What a ticket says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ticket {
    /// The pattern of the route.
    pub(super) route: String,
    /// The path as a request spells it.
    pub(super) path: String,
    /// When the ticket expires, in milliseconds since the Unix epoch.
    pub(super) until: i64,
    /// When the token expires, for which it stands: the stream ends then.
    pub(super) token_until: Option<i64>,
    /// What the acceptance of that token rests on, see [`Tickets::fingerprint`].
    pub(super) authority: String,
    pub(super) claims: Map<String, Value>,
}

impl Tickets {
    /// `path` is where they are issued.
    pub fn new(secret: Option<&[u8]>, lifetime: Duration, path: String) -> Self {
        let key = secret.map(|secret| TokenKey([PURPOSE, secret].concat()));
        Self { key, lifetime, path }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// When a ticket expires that is issued now for a token with this expiry, in milliseconds since the Unix epoch.
    pub(super) fn until(&self, token_until: Option<i64>, now_unix_ms: i64) -> i64 {
        let until = now_unix_ms.saturating_add(i64::try_from(self.lifetime.as_millis()).unwrap_or(i64::MAX));
        token_until.map_or(until, |token| token.min(until))
    }

    pub(super) fn sign(&self, ticket: &Ticket) -> Result<String, SignError> {
        let header = Header { typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) };
        Ok(jsonwebtoken::encode(&header, ticket, &EncodingKey::from_secret(self.secret()?))?)
    }

    /// What a ticket says whose signature is good; its times and what it is bound to are left to the caller.
    pub(super) fn read(&self, text: &str) -> Result<Ticket, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(self.secret().map_err(|_| TokenError::Key)?);
        let data = jsonwebtoken::decode::<Ticket>(text, &key, &validation)
            .map_err(|error| super::verifier::refusal(error.kind(), text))?;
        let is_ticket = data.header.typ.as_deref() == Some(TYPE) && data.header.crit.is_none();
        is_ticket.then_some(data.claims).ok_or(TokenError::Malformed)
    }

    /// The same text on every replica for the same key material, which it tells nobody: an HMAC.
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

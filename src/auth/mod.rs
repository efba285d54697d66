//! Credentials to principals: takes a JWT out of a request's headers and verifies it, or asks a service (`forward`).
//!
//! It decides who somebody is, never what they may see (that is `access`), and it never logs a token or a key.

mod forward;
mod keys;
mod presented;
mod remote;
mod ticket;
mod verifier;

use serde_json::{Map, Value};

pub use forward::{
    Forward, ForwardError, ForwardHooks, ForwardOutcome, ForwardSettings, QUESTION_BYTES_MAX, Question,
    QuestionTooLong, is_forwardable,
};
pub use jsonwebtoken::Algorithm;
pub use keys::{BadKey, JWKS_KEYS_MAX};
pub use presented::{TOKEN_SUBPROTOCOL, TokenOrigin, presented, subprotocol_token};
pub use remote::{FetchError, KeyLocation, KeySource, OnFetch, RemoteKeys};
pub use ticket::Tickets;
pub use verifier::{SECRET_BYTES_MIN, TOKEN_BYTES_MAX, TokenError, TrustedIssuer, Verifier};

/// Whose tokens are accepted, and how they are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What `iss` must be. Where absent, `iss` is not looked at.
    pub name: Option<String>,
    /// What `aud` must be or contain. Where absent, `aud` is not looked at.
    pub audience: Option<String>,
    pub key_file: KeyFile,
    /// The allow-list; of a single key all of one family, which is the key's.
    pub algorithms: Vec<Algorithm>,
}

/// The content of a file with keys, or where they are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// An HMAC secret, or a PEM public key.
    Single(TokenKey),
    /// A JWKS (RFC 7517 section 5).
    Set(TokenKey),
    /// A JWKS at a URL.
    Remote(KeySource),
    /// It was not read: no token is accepted.
    Unread,
}

/// Key material, kept out of debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey(pub Vec<u8>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(redacted)")
    }
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed: {0}")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

/// Signs a token with HS256, for those who play the identity provider (the demo, tests).
pub fn sign_hs256(claims: &Map<String, Value>, secret: &[u8]) -> Result<String, SignError> {
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key)?)
}

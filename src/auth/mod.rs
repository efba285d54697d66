//! Tokens to principals: takes a JWT out of a request's headers and verifies it.
//!
//! It decides who somebody is, never what they may see (that is `access`), and it never logs a token or a key.

mod presented;
mod verifier;

use std::time::Duration;

use serde_json::{Map, Value};

pub use jsonwebtoken::Algorithm;
pub use presented::{TokenOrigin, presented};
pub use verifier::{BadKey, SECRET_BYTES_MIN, TOKEN_BYTES_MAX, TokenError, Verifier};

/// How tokens are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub key: TokenKey,
    /// The allow-list; all of one family, which is the key's.
    pub algorithms: Vec<Algorithm>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or contain. Where absent, `aud` is not looked at.
    pub audience: Option<String>,
    /// The cookie that may carry the token beside `Authorization: Bearer`.
    pub cookie: Option<String>,
    /// Clock skew tolerated for `exp` and `nbf`.
    pub leeway: Duration,
}

/// Key material, an HMAC secret or a PEM public key, kept out of debug output.
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

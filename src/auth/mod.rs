//! Authentication: extracts a JWT or an API key from a request's headers and verifies it, or calls an authentication
//! service (`forward`).
//!
//! It determines the principal, and `access` what the principal may receive. It never logs a token or a key.

mod api_keys;
mod claims;
mod client_certificates;
mod crypto;
mod forward;
mod introspection;
mod issuer;
mod keys;
mod presented;
mod readers;
mod remote;
mod revocations;
mod service;
mod ticket;
mod token_error;
mod verifier;

use serde_json::{Map, Value};

pub use api_keys::{API_KEYS_MAX, ApiKeys, BadApiKeys};
pub use client_certificates::{CertificateForm, ClientCertificates};
pub use forward::{Forward, ForwardSettings, QUESTION_BYTES_MAX, QuestionTooLong, is_forwardable};
pub use introspection::{Introspection, IntrospectionSettings};
pub use issuer::{SECRET_BYTES_MIN, TrustedIssuer};
pub use jsonwebtoken::Algorithm;
pub use keys::{BadKey, JWKS_KEYS_MAX};
pub use presented::{CredentialFields, TOKEN_SUBPROTOCOL, TokenOrigin, presented, subprotocol_token};
pub use readers::Readers;
pub use remote::{FetchError, KeyLocation, KeySource, OnFetch, RemoteKeys};
pub use revocations::{BadRevocation, Revocations, Revoked};
pub use service::{Challenges, Question, ServiceError, ServiceHooks, ServiceOutcome, ServiceSettings};
pub use ticket::Tickets;
pub use token_error::{TOKEN_BYTES_MAX, TokenError};
pub use verifier::Verifier;

/// An accepted issuer, and how its tokens are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The required `iss`. `None` accepts any.
    pub name: Option<String>,
    /// The required `aud`, or an element of it. `None` accepts any.
    pub audience: Option<String>,
    pub key_file: KeyFile,
    /// The allow-list. With a single key, all algorithms are of the key's family.
    pub algorithms: Vec<Algorithm>,
}

/// The content of a key file, or where keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// An HMAC secret, or a PEM public key.
    Single(TokenKey),
    /// A JWKS (RFC 7517 section 5).
    Set(TokenKey),
    /// A JWKS at a URL.
    Remote(KeySource),
    /// The file was not read: no token is accepted.
    Unread,
}

/// Key material, redacted in debug output.
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

/// Signs a token with HS256, for the demo and tests, which act as the identity provider.
///
/// # Errors
///
/// The claims cannot be encoded.
pub fn sign_hs256(claims: &Map<String, Value>, secret: &[u8]) -> Result<String, SignError> {
    crypto::install();
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key)?)
}

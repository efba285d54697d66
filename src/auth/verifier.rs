//! Verification of JWTs (RFC 7519) against one key and an allow-list of algorithms. The time is an argument.
//!
//! It fetches nothing: no JWKS, no introspection.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::Tokens;
use crate::access::Principal;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// An HMAC secret shorter than this many bytes is warned of: RFC 7518 section 3.2 wants the size of the hash.
pub const SECRET_BYTES_MIN: usize = 32;

/// Why a token is refused. The token itself is in no message.
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
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    /// It names header parameters that must be understood, and none are (RFC 7515 section 4.1.11).
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
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Critical => "critical",
        }
    }
}

/// Why a key and its algorithms don't fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("no algorithm is allowed")]
    NoAlgorithm,
    #[error("the algorithms are of several families, which no key serves")]
    MixedFamilies,
    #[error("the secret is empty")]
    EmptySecret,
    #[error("the key is no PEM public key for these algorithms")]
    WrongKey,
}

/// Verifies tokens. Made once per configuration.
pub struct Verifier {
    tokens: Tokens,
    key: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Prepares the key. Fails where it does not fit the algorithms.
    pub fn new(tokens: Tokens) -> Result<Self, BadKey> {
        let key = decoding_key(&tokens)?;
        if tokens.key.0.len() < SECRET_BYTES_MIN {
            tracing::warn!(
                bytes = tokens.key.0.len(),
                "the secret of tokens is short: {SECRET_BYTES_MIN} bytes are safe"
            );
        }
        let mut validation = Validation::default();
        validation.algorithms.clone_from(&tokens.algorithms);
        validation.required_spec_claims.clear();
        // `exp` and `nbf` are checked below, against the time we are told.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = tokens.audience.is_some();
        if let Some(issuer) = &tokens.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        if let Some(audience) = &tokens.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        Ok(Self { tokens, key, validation })
    }

    /// The name of the cookie that may carry the token.
    pub fn cookie(&self) -> Option<&str> {
        self.tokens.cookie.as_deref()
    }

    /// How tokens are verified, as configured.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Verifies signature, `exp`, `nbf` and, where configured, `iss` and `aud`. `exp` and `nbf` may be absent: a token
    /// without `exp` opens streams that end for other reasons only.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<Principal, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let data = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation)
            .map_err(|error| refusal(error.kind(), token))?;
        if data.header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let leeway = i64::try_from(self.tokens.leeway.as_millis()).unwrap_or(i64::MAX);
        let expires_at = numeric_date(&data.claims, "exp")?;
        if expires_at.is_some_and(|exp| now_unix_ms >= exp.saturating_add(leeway)) {
            return Err(TokenError::Expired);
        }
        if numeric_date(&data.claims, "nbf")?.is_some_and(|nbf| now_unix_ms.saturating_add(leeway) < nbf) {
            return Err(TokenError::NotYetValid);
        }
        Ok(Principal { claims: Arc::new(data.claims), expires_at })
    }
}

fn decoding_key(tokens: &Tokens) -> Result<DecodingKey, BadKey> {
    let family = tokens.algorithms.first().ok_or(BadKey::NoAlgorithm)?.family();
    if tokens.algorithms.iter().any(|algorithm| algorithm.family() != family) {
        return Err(BadKey::MixedFamilies);
    }
    let bytes = &tokens.key.0[..];
    let key = match family {
        AlgorithmFamily::Hmac if bytes.is_empty() => return Err(BadKey::EmptySecret),
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(bytes)),
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(bytes),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(bytes),
    };
    let key = key.map_err(|_| BadKey::WrongKey)?;
    // A key of another curve is found only when it is used; an empty signature is refused by every fitting key.
    let fits = |algorithm| jsonwebtoken::crypto::verify("", b"", &key, algorithm).is_ok();
    tokens.algorithms.iter().all(|&algorithm| fits(algorithm)).then_some(key).ok_or(BadKey::WrongKey)
}

fn refusal(kind: &ErrorKind, token: &str) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(_) => TokenError::Audience,
        // `none`, and names nobody knows, fail to parse as an algorithm.
        _ if names_unknown_algorithm(token) => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

/// Whether the token has a readable header whose `alg` is a text (that the library did not accept).
fn names_unknown_algorithm(token: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = token.split('.').next().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let header: Option<Value> = header.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let name = header.as_ref().and_then(|header| header.get("alg")?.as_str());
    name.is_some_and(|name| name.parse::<jsonwebtoken::Algorithm>().is_err())
}

/// A `NumericDate` (RFC 7519 section 2), which may have a fraction, in milliseconds since the Unix epoch.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(TokenError::Malformed)?;
    // `as` saturates, which is what a date beyond all times should do.
    Ok(Some((seconds * 1000.0) as i64))
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;

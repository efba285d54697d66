//! Why tokens are rejected: one reason for each failure of verification.

use jsonwebtoken::errors::ErrorKind;
use serde_json::Value;

/// The longest accepted token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
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
    #[error("the API key is not known")]
    ApiKey,
    #[error("the token is not active")]
    Inactive,
    /// Of the service that is asked.
    #[error("the authentication service is not available")]
    NoAnswer,
    /// The proxy did not verify it, or does not describe it well.
    #[error("the client certificate is not accepted")]
    Certificate,
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
            Self::ApiKey => "api-key",
            Self::Inactive => "inactive",
            Self::NoAnswer => "no-answer",
            Self::Certificate => "certificate",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Critical => "critical",
        }
    }
}

/// The reason for an error of the library.
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

//! Claims that have a meaning of their own (RFC 7519 section 4.1).

use serde_json::{Map, Value};

use super::token_error::TokenError;

/// The claims by which a token can be revoked.
pub(super) fn revocable_claims(claims: &Map<String, Value>) -> Map<String, Value> {
    let named = ["iss", "sub", "sid", "jti", "iat"].into_iter();
    named.filter_map(|name| Some((name.to_owned(), claims.get(name)?.clone()))).collect()
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

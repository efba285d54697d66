//! Tokens as an issuer creates them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::jose;

/// The content of the configuration's `key_file`.
pub const SECRET: &str = "a secret of the tests, thirty-two bytes and more";

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    now_ms() / 1000
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A valid token of this user, for an hour.
pub fn of(user: &str) -> String {
    with(json!({"sub": user, "exp": now() + 3600}))
}

/// A token with these claims and a valid signature.
pub fn with(claims: Value) -> String {
    signed("HS256", SECRET, &claims)
}

pub fn signed(algorithm: &str, secret: &str, claims: &Value) -> String {
    jose::token(&json!({ "typ": "JWT", "alg": algorithm }), claims, &jose::secret(secret.as_bytes()))
}

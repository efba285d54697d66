//! The demo's tokens: a random secret, in a file in memory until the configuration has read it, and a JWT per user.
//!
//! Only the demo signs tokens: the sidecar itself verifies them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Map, Value};

use crate::auth::sign_hs256;

/// The lifetime of the demo's tokens, in seconds.
const LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// HS256 requires a secret at least as long as its digest (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;

/// The users with their tokens.
pub(super) type Tokens = Vec<(&'static str, String)>;

/// The secret in a file without a name, so that the demo needs no writable folder. Dropping it frees the memory.
pub(super) struct Secret(File);

/// Creates a secret, and signs a token for each user.
///
/// # Errors
///
/// No random bytes, or no memory for the file.
pub(super) fn issue(users: &[&'static str]) -> io::Result<(Tokens, Secret)> {
    let text = random_text()?;
    let secret = Secret::write(&text)?;
    // Seconds since the Unix epoch (RFC 7519 section 4.1.4).
    let exp = jsonwebtoken::get_current_timestamp() + LIFETIME_SECONDS;
    let token = |user: &&'static str| {
        let claims = Map::from_iter([("sub".into(), Value::from(*user)), ("exp".into(), Value::from(exp))]);
        Ok((*user, sign_hs256(&claims, text.as_bytes()).map_err(io::Error::other)?))
    };
    Ok((users.iter().map(token).collect::<io::Result<_>>()?, secret))
}

impl Secret {
    /// The path at which this process can open the file.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    fn write(text: &str) -> io::Result<Self> {
        let mut file = File::from(memfd_create("sidestream-demo", MemfdFlags::CLOEXEC)?);
        file.write_all(text.as_bytes())?;
        Ok(Self(file))
    }
}

fn random_text() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn tokens_verify_with_the_secret_that_the_configuration_reads() {
        let (tokens, secret) = issue(&["u123"]).unwrap();
        let key = DecodingKey::from_secret(&std::fs::read(secret.path()).unwrap());
        let (user, token) = &tokens[0];
        let claims = decode::<serde_json::Value>(token, &key, &Validation::default()).unwrap().claims;
        assert_eq!((*user, claims["sub"].as_str()), ("u123", Some("u123")));
    }
}

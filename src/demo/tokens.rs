//! The demo's tokens: a random secret, stored in a private file until the configuration has read it, and a JWT per
//! user.
//!
//! Only the demo signs tokens: the sidecar itself verifies them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::auth::sign_hs256;

/// The name of the key file, as in `demo.yaml`.
pub(super) const KEY_FILE: &str = "jwt.key";

/// The lifetime of the demo's tokens, in seconds.
const LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// HS256 requires a secret at least as long as its digest (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;

/// The users with their tokens.
pub(super) type Tokens = Vec<(&'static str, String)>;

/// The secret on disk, in a directory that only this user can enter. Dropping it deletes the directory.
pub(super) struct Secret {
    folder: PathBuf,
}

/// Creates a secret, and signs a token for each user.
///
/// # Errors
///
/// No random bytes, or the file cannot be written.
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
    /// The directory that contains [`KEY_FILE`].
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(text: &str) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("sidestream-demo-{}", random_text()?));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let secret = Self { folder };
        let path = secret.folder.join(KEY_FILE);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())?;
        Ok(secret)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "the demo's secret could not be removed");
        }
    }
}

fn random_text() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn tokens_verify_with_the_secret_on_disk_which_is_private_and_goes_away() {
        let (tokens, secret) = issue(&["u123"]).unwrap();
        let file = secret.folder().join(KEY_FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let key = DecodingKey::from_secret(&fs::read(&file).unwrap());
        let (user, token) = &tokens[0];
        let claims = decode::<serde_json::Value>(token, &key, &Validation::default()).unwrap().claims;
        assert_eq!((*user, claims["sub"].as_str()), ("u123", Some("u123")));
        drop(secret);
        assert!(!file.exists());
    }
}

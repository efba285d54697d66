//! API keys: random secrets of programs, of which only the SHA-256 is known here.
//!
//! A fast hash suffices for a random secret: it cannot be guessed, so neither can it be found by its hash. It would not
//! for a password. Logs and messages name a key by its id.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::issuer::authority_of;
use super::ticket::Tickets;
use crate::access::Authority;

/// The most keys of a file.
pub const API_KEYS_MAX: usize = 5_000;
/// The longest id of a key, in bytes.
const ID_BYTES_MAX: usize = 64;

/// Why a file has no valid list of keys. No message contains a part of the file, which could be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadApiKeys {
    #[error("line {0}: it is not a list of keys with `id`, `sha256` and perhaps `claims`")]
    Malformed(u64),
    #[error("it has more than {API_KEYS_MAX} keys")]
    TooMany,
    #[error("key {0}: `id` has 1 to {ID_BYTES_MAX} letters, digits, dots, hyphens or underscores")]
    Id(usize),
    #[error("key {0}: its `id` is used twice")]
    RepeatedId(usize),
    #[error("key {0}: `sha256` is the SHA-256 of the key, in 64 hexadecimal digits")]
    Hash(usize),
    #[error("key {0}: it is the hash of an empty key")]
    EmptyKey(usize),
    #[error("key {0}: its `sha256` is used twice")]
    RepeatedHash(usize),
}

/// The accepted keys, and the field of requests that may contain one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    header: HeaderName,
    keys: HashMap<Digest, ApiKey>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiKey {
    pub(super) id: Box<str>,
    /// `sub` and `jti` are the id unless the file has others.
    pub(super) claims: Map<String, Value>,
    /// A key with other claims is another authority, so that its streams end.
    pub(super) authority: Authority,
}

/// A SHA-256.
#[derive(Clone, Copy, Debug, Eq)]
struct Digest([u8; 32]);

/// In constant time.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        openssl::memcmp::eq(&self.0, &other.0)
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    sha256: String,
    #[serde(default)]
    claims: Map<String, Value>,
}

impl ApiKeys {
    /// No keys: their file was not read.
    pub fn unread(header: HeaderName) -> Self {
        Self { header, keys: HashMap::new() }
    }

    /// Reads the keys from YAML or JSON. Keys count from 1 in messages.
    ///
    /// # Errors
    ///
    /// Why they are not valid.
    pub fn read(header: HeaderName, text: &[u8]) -> Result<Self, BadApiKeys> {
        let malformed = |line| BadApiKeys::Malformed(line);
        let text = std::str::from_utf8(text).map_err(|_| malformed(1))?;
        let written: Vec<Written> = serde_saphyr::from_str(text)
            .map_err(|error| malformed(error.location().map_or(1, |location| location.line())))?;
        if written.len() > API_KEYS_MAX {
            return Err(BadApiKeys::TooMany);
        }
        let (mut keys, mut ids) = (HashMap::new(), HashSet::new());
        for (number, key) in (1..).zip(written) {
            let digest = digest_of_hex(&key.sha256).ok_or(BadApiKeys::Hash(number))?;
            if digest == Digest::of(b"") {
                return Err(BadApiKeys::EmptyKey(number));
            }
            let id: Box<str> = key.id.into();
            if !is_id(&id) {
                return Err(BadApiKeys::Id(number));
            }
            if !ids.insert(id.clone()) {
                return Err(BadApiKeys::RepeatedId(number));
            }
            if keys.insert(digest, ApiKey::new(id, key.claims, &digest)).is_some() {
                return Err(BadApiKeys::RepeatedHash(number));
            }
        }
        Ok(Self { header, keys })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The key with this secret.
    pub(super) fn find(&self, secret: &str) -> Option<&ApiKey> {
        self.keys.get(&Digest::of(secret.as_bytes()))
    }

    pub(super) fn authorities(&self) -> impl Iterator<Item = Authority> {
        self.keys.values().map(|key| key.authority)
    }

    /// Each authority with its fingerprint, which is the same on all replicas.
    pub(super) fn fingerprints(&self, tickets: &Tickets) -> impl Iterator<Item = (Authority, String)> {
        self.keys.iter().filter_map(|(digest, key)| {
            let of = ("api-key", &digest.0, &key.claims);
            Some((key.authority, tickets.fingerprint(&of).ok()?))
        })
    }
}

impl ApiKey {
    fn new(id: Box<str>, mut claims: Map<String, Value>, digest: &Digest) -> Self {
        for name in ["sub", "jti"] {
            claims.entry(name).or_insert_with(|| (*id).into());
        }
        let authority = authority_of(&("api-key", digest, Value::Object(claims.clone()).to_string()));
        Self { id, claims, authority }
    }
}

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

fn is_id(id: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_valid)
}

fn digest_of_hex(text: &str) -> Option<Digest> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(pair).collect();
    bytes.filter(|_| text.len() == 64)?.try_into().ok().map(Digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of no key.
    const HASH: &str = "f1f5e0d4f56e7cbc8a1b12d4b84d9b2d0c3c3b2e6a6a2f1bd1d2f4b44c0e2c11";

    fn hash(secret: &str) -> String {
        Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(text: &str) -> Result<ApiKeys, BadApiKeys> {
        ApiKeys::read(HeaderName::from_static("x-api-key"), text.as_bytes())
    }

    fn refused(text: &str) -> BadApiKeys {
        read(text).unwrap_err()
    }

    #[test]
    fn a_key_is_found_by_its_secret() {
        let text = format!(
            "# reports\n- {{ id: reports, sha256: {} }}\n- {{ id: r2, sha256: {}, claims: {{ sub: u2, org: {{ id: 7 }} }} }}\n",
            hash("one").to_uppercase(),
            hash("two")
        );
        let keys = read(&text).unwrap();
        assert_eq!(keys.len(), 2);
        let claims = |secret| Value::Object(keys.find(secret).unwrap().claims.clone());
        assert_eq!(claims("one"), json!({"sub": "reports", "jti": "reports"}));
        assert_eq!(claims("two"), json!({"sub": "u2", "jti": "r2", "org": {"id": 7}}));
        for unknown in ["", "on", "one ", "ONE", &hash("one")] {
            assert!(keys.find(unknown).is_none(), "{unknown}");
        }
        let again = read(&text).unwrap();
        assert_eq!(keys.find("one").unwrap().authority, again.find("one").unwrap().authority);
        let changed = read(&text.replace("id: 7", "id: 8")).unwrap();
        assert_ne!(keys.find("two").unwrap().authority, changed.find("two").unwrap().authority);
    }

    #[test]
    fn json_is_read_as_well() {
        let text = json!([{"id": "a", "sha256": hash("one")}]).to_string();
        assert!(read(&text).unwrap().find("one").is_some());
        assert!(read("[]").unwrap().is_empty());
    }

    #[test]
    fn a_file_with_errors_is_refused_without_a_quotation() {
        let key = |id: &str, sha256: &str| format!("- {{ id: '{id}', sha256: '{sha256}' }}\n");
        let good = key("a", &hash("one"));
        assert_eq!(refused("a: b"), BadApiKeys::Malformed(1));
        assert_eq!(refused(&format!("{good}- {{ id: b }}\n")), BadApiKeys::Malformed(2));
        assert_eq!(refused(&format!("{good}- secret-key\n")), BadApiKeys::Malformed(2));
        assert_eq!(refused(&format!("- {{ id: a, sha256: '{HASH}', subject: u1 }}\n")), BadApiKeys::Malformed(1));
        assert_eq!(refused("- { id: a, sha256: '\u{e9}' }"), BadApiKeys::Hash(1));
        assert_eq!(refused(&key("", HASH)), BadApiKeys::Id(1));
        assert_eq!(refused(&key("a b", HASH)), BadApiKeys::Id(1));
        assert_eq!(refused(&key(&"a".repeat(65), HASH)), BadApiKeys::Id(1));
        assert_eq!(refused(&format!("{good}{}", key("a", HASH))), BadApiKeys::RepeatedId(2));
        assert_eq!(refused(&format!("{good}{}", key("b", &hash("one")))), BadApiKeys::RepeatedHash(2));
        assert_eq!(refused(&key("a", &hash(""))), BadApiKeys::EmptyKey(1));
        for bad in ["secret", &HASH[1..], &format!("{HASH}0"), &HASH.replace('f', "g")] {
            assert_eq!(refused(&key("a", bad)), BadApiKeys::Hash(1), "{bad}");
        }
    }
}

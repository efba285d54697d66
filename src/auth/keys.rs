//! The keys of one issuer: a single one from a file, or a JWKS (RFC 7517). They are checked against the algorithms at
//! once.
//!
//! It sends no requests; `remote` does.

use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde::Deserialize;

use super::{KeyFile, TokenKey, crypto};

/// The most keys of a JWKS.
pub const JWKS_KEYS_MAX: usize = 64;

/// Why keys and algorithms do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("no algorithm is allowed")]
    NoAlgorithm,
    #[error("the algorithms are of several families, which no key serves")]
    MixedFamilies,
    #[error("the secret is empty")]
    EmptySecret,
    #[error("the key is not a PEM public key for these algorithms")]
    WrongKey,
    #[error("the file is not a JWKS, an object with a list of `keys`")]
    NoSet,
    #[error("the JWKS has more than {JWKS_KEYS_MAX} keys")]
    TooManyKeys,
    #[error("an HMAC algorithm needs a secret, which no URL publishes")]
    PublicSecret,
    #[error("none of the keys in the JWKS serves these algorithms")]
    NoUsableKey,
}

/// Keys that support at least one of their issuer's algorithms.
pub(super) struct Keys(Vec<Key>);

struct Key {
    /// The `kid`.
    id: Option<String>,
    key: DecodingKey,
    /// The algorithms of the allow-list that it supports.
    algorithms: Vec<Algorithm>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    pub(super) fn new(file: &KeyFile, allowed: &[Algorithm]) -> Result<Self, BadKey> {
        crypto::install();
        match file {
            KeyFile::Single(key) => Self::single(key, allowed),
            KeyFile::Set(set) => Self::set(set, allowed),
            KeyFile::Unread | KeyFile::Remote(_) if allowed.is_empty() => Err(BadKey::NoAlgorithm),
            KeyFile::Unread | KeyFile::Remote(_) => Ok(Self(Vec::new())),
        }
    }

    fn single(TokenKey(bytes): &TokenKey, allowed: &[Algorithm]) -> Result<Self, BadKey> {
        let family = allowed.first().ok_or(BadKey::NoAlgorithm)?.family();
        if allowed.iter().any(|algorithm| algorithm.family() != family) {
            return Err(BadKey::MixedFamilies);
        }
        let key = match family {
            AlgorithmFamily::Hmac if bytes.is_empty() => return Err(BadKey::EmptySecret),
            AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(bytes)),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(bytes),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(bytes),
        };
        let key = key.map_err(|_| BadKey::WrongKey)?;
        let algorithms = served(&key, allowed);
        let serves_all = algorithms.len() == allowed.len();
        serves_all.then(|| Self(vec![Key { id: None, key, algorithms }])).ok_or(BadKey::WrongKey)
    }

    pub(super) fn set(TokenKey(bytes): &TokenKey, allowed: &[Algorithm]) -> Result<Self, BadKey> {
        if allowed.is_empty() {
            return Err(BadKey::NoAlgorithm);
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|_| BadKey::NoSet)?;
        if set.keys.len() > JWKS_KEYS_MAX {
            return Err(BadKey::TooManyKeys);
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(|jwk| Key::of_set(jwk, allowed)).collect();
        if keys.is_empty() { Err(BadKey::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// The key for a token's header: the one with its `kid`. If the token has none, or no key has one, the only key
    /// that supports the algorithm.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let serving = || self.0.iter().filter(|key| key.algorithms.contains(&algorithm));
        let named = serving().find(|key| kid.is_some() && key.id.as_deref() == kid);
        let found = named.or_else(|| {
            let mut unnamed = serving().filter(|key| kid.is_none() || key.id.is_none());
            unnamed.next().filter(|_| unnamed.next().is_none())
        });
        found.map(|key| &key.key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every key with each algorithm that it supports.
    pub(super) fn all(&self) -> impl Iterator<Item = (&DecodingKey, Algorithm)> {
        self.0.iter().flat_map(|key| key.algorithms.iter().map(move |algorithm| (&key.key, *algorithm)))
    }

    /// The length of the shortest HMAC secret, in bytes.
    pub(super) fn shortest_secret(&self) -> Option<usize> {
        let secrets = self.0.iter().filter(|key| key.key.family() == AlgorithmFamily::Hmac);
        secrets.filter_map(|key| Some(key.key.try_get_as_bytes().ok()?.len())).min()
    }
}

impl Key {
    /// A key that is not understood, or has another purpose, is ignored (RFC 7517 section 5).
    fn of_set(jwk: serde_json::Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let is_to_verify = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| is_to_verify)?;
        if key.try_get_as_bytes().is_ok_and(<[u8]>::is_empty) {
            return None;
        }
        let mut algorithms = served(&key, allowed);
        if let Some(own) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == own);
        }
        (!algorithms.is_empty()).then_some(Self { id: jwk.common.key_id, key, algorithms })
    }
}

/// The key material, regardless of its name.
pub(super) fn material(key: &DecodingKey) -> (&[u8], &[u8]) {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => (bytes, &[]),
        DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
    }
}

/// A key of another curve is detected only when it is used: every matching key rejects an empty signature.
fn served(key: &DecodingKey, allowed: &[Algorithm]) -> Vec<Algorithm> {
    let fits = |algorithm: &Algorithm| {
        algorithm.family() == key.family() && jsonwebtoken::crypto::verify("", b"", key, *algorithm).is_ok()
    };
    allowed.iter().copied().filter(fits).collect()
}

//! An issuer, and the keys that it is trusted for: fixed ones, or those that it publishes.
//!
//! It verifies what a key decides: the signature, `iss` and `aud`. The times are the [verifier](super::verifier)'s.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock};

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::keys::{BadKey, Keys, material};
use super::remote::RemoteKeys;
use super::ticket::{Tickets, text_of};
use super::token_error::{TokenError, refusal};
use super::{Issuer, KeyFile};
use crate::access::Authority;

/// A shorter HMAC secret causes a warning, in bytes: RFC 7518 section 3.2 requires the size of the hash.
pub const SECRET_BYTES_MIN: usize = 32;

/// An issuer whose keys match its algorithms.
pub struct TrustedIssuer {
    issuer: Issuer,
    keys: KeySet,
    validation: Validation,
}

enum KeySet {
    Fixed(Keys),
    Remote(Arc<RemoteKeys>),
}

impl KeySet {
    fn new(issuer: &Issuer) -> Result<Self, BadKey> {
        let keys = Keys::new(&issuer.key_file, &issuer.algorithms)?;
        let is_hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        match &issuer.key_file {
            KeyFile::Remote(_) if issuer.algorithms.iter().any(is_hmac) => Err(BadKey::PublicSecret),
            KeyFile::Remote(source) => {
                Ok(Self::Remote(Arc::new(RemoteKeys::new(source.clone(), issuer.algorithms.clone()))))
            }
            _ => Ok(Self::Fixed(keys)),
        }
    }

    fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match self {
            Self::Remote(keys) => Some(keys),
            Self::Fixed(_) => None,
        }
    }
}

impl TrustedIssuer {
    /// Prepares the keys.
    ///
    /// # Errors
    ///
    /// The keys do not match the algorithms.
    pub fn new(issuer: Issuer) -> Result<Self, BadKey> {
        let keys = KeySet::new(&issuer)?;
        let mut validation = Validation::default();
        validation.required_spec_claims.clear();
        // The verifier checks `exp` and `nbf` against its time argument.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = issuer.audience.is_some();
        if let Some(name) = &issuer.name {
            validation.set_issuer(&[name]);
            validation.required_spec_claims.insert("iss".into());
        }
        if let Some(audience) = &issuer.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        Ok(Self { issuer, keys, validation })
    }

    /// The length of its shortest HMAC secret in bytes, if it has one. See [`SECRET_BYTES_MIN`].
    pub fn shortest_secret(&self) -> Option<usize> {
        match &self.keys {
            KeySet::Fixed(keys) => keys.shortest_secret(),
            KeySet::Remote(_) => None,
        }
    }

    /// The claims of a token that one of the keys verifies.
    pub(super) fn decode(&self, token: &str) -> Result<Decoded, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| refusal(error.kind(), token))?;
        if !self.issuer.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        match &self.keys {
            KeySet::Fixed(keys) => self.decode_with(keys, token, &header),
            KeySet::Remote(remote) => {
                let Some(known) = remote.current() else {
                    remote.ask();
                    return Err(TokenError::Unavailable);
                };
                match self.decode_with(&known.keys, token, &header) {
                    // The issuer may have a new key.
                    Err(TokenError::Key) if remote.ask() => Err(TokenError::Unavailable),
                    decoded => decoded,
                }
            }
        }
    }

    fn decode_with(&self, keys: &Keys, token: &str, header: &Header) -> Result<Decoded, TokenError> {
        let key = keys.find(header.kid.as_deref(), header.alg).ok_or(TokenError::Key)?;
        // The library requires that all algorithms are of the key's family.
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let data = jsonwebtoken::decode(token, key, &validation).map_err(|error| refusal(error.kind(), token))?;
        let material = self.keys.remote().map_or_else(|| Material::of(key), |remote| Material::at(remote));
        Ok((data, self.authority(&material, header.alg)))
    }

    /// What `iss` must be, and how its tokens are verified.
    pub(super) fn settings(&self) -> &Issuer {
        &self.issuer
    }

    /// Its keys, if it publishes them.
    pub(super) fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        self.keys.remote()
    }

    /// The authorities of its tokens.
    pub(super) fn authorities(&self) -> impl Iterator<Item = Authority> {
        self.materials().into_iter().map(|(material, algorithm)| self.authority(&material, algorithm))
    }

    /// Each authority with its fingerprint, which is the same on all replicas.
    pub(super) fn fingerprints(&self, tickets: &Tickets) -> impl Iterator<Item = (Authority, String)> {
        let Issuer { name, audience, .. } = &self.issuer;
        self.materials().into_iter().filter_map(move |(material, algorithm)| {
            let Material(one, other) = &material;
            let of = (name, audience, format!("{algorithm:?}"), text_of(one), text_of(other));
            Some((self.authority(&material, algorithm), tickets.fingerprint(&of).ok()?))
        })
    }

    /// All key material that its tokens may be verified with.
    fn materials(&self) -> Vec<(Material, Algorithm)> {
        match &self.keys {
            KeySet::Fixed(keys) => keys.all().map(|(key, algorithm)| (Material::of(key), algorithm)).collect(),
            KeySet::Remote(remote) => {
                self.issuer.algorithms.iter().map(|algorithm| (Material::at(remote), *algorithm)).collect()
            }
        }
    }

    fn authority(&self, material: &Material, algorithm: Algorithm) -> Authority {
        let Issuer { name, audience, .. } = &self.issuer;
        authority_of(&(name, audience, algorithm, material))
    }
}

/// Hashed with a secret of the process, so that it reveals nothing about a key.
pub(super) fn authority_of(basis: &impl Hash) -> Authority {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    Authority(SECRET.hash_one(basis))
}

pub(super) type Decoded = (jsonwebtoken::TokenData<Map<String, Value>>, Authority);

/// What verifies an algorithm's signatures: a key, or the URL that publishes the keys.
#[derive(Hash)]
struct Material(Vec<u8>, Vec<u8>);

impl Material {
    fn of(key: &DecodingKey) -> Self {
        let (one, other) = material(key);
        Self(one.to_vec(), other.to_vec())
    }

    fn at(remote: &RemoteKeys) -> Self {
        Self(remote.location().into_bytes(), Vec::new())
    }
}

//! Revocations of subjects, sessions and tokens. Each is kept until the last token that it can apply to has expired.
//!
//! A revocation of a subject or session applies to tokens that were issued before it. Identifiers are kept as keyed
//! hashes.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::numeric_date;
use super::token_error::TokenError;
use crate::access::{Principal, Standing, Withdrawn, scalar_text};

/// The most revocations that are kept. Beyond, the one that expires first is dropped.
const REVOCATIONS_MAX: usize = 100_000;

/// The claims by which a revocation identifies tokens. If it contains several, the first in this order applies.
const NAMES: [&str; 3] = ["jti", "sid", "sub"];

/// Why a record is not a revocation. The messages contain nothing of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRevocation {
    #[error("a revocation is a JSON object with `sub`, `sid` or `jti`, and perhaps `iss`, `iat` and `exp`")]
    Malformed,
    #[error("a revocation has a `sub`, `sid` or `jti`, as text or an integer")]
    NamesNothing,
}

/// The outcome of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    Added,
    /// It was added, and evicted one that had not expired.
    AddedForOther,
    /// Every token that it applies to has expired.
    Expired,
}

#[derive(Deserialize)]
struct Written {
    jti: Option<Value>,
    sid: Option<Value>,
    sub: Option<Value>,
    iss: Option<String>,
    iat: Option<f64>,
    exp: Option<f64>,
}

/// The set of revocations. It is shared by the verifiers of all configurations.
#[derive(Debug)]
pub struct Revocations {
    keep: Duration,
    secret: RandomState,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<u64, Entry>,
    by_expiry: BTreeSet<(i64, u64)>,
}

/// Times in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The revocation applies to tokens that were issued until then.
    issued_until: i64,
    /// The revocation is removed then.
    expires: i64,
}

impl Revocations {
    /// `keep` is how long a revocation without `exp` is kept. It must be at least the lifetime of a token.
    pub fn new(keep: Duration) -> Self {
        Self { keep, secret: RandomState::new(), known: RwLock::default() }
    }

    /// Adds a revocation that was made at this time, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// The record is not a JSON object that names a subject, session or token.
    pub fn add(&self, record: &[u8], made_at: i64) -> Result<Revoked, BadRevocation> {
        self.add_at(record, made_at, unix_ms(), REVOCATIONS_MAX)
    }

    fn add_at(&self, record: &[u8], made_at: i64, now: i64, max: usize) -> Result<Revoked, BadRevocation> {
        let written: Written = serde_json::from_slice(record).map_err(|_| BadRevocation::Malformed)?;
        let values = [&written.jti, &written.sid, &written.sub].into_iter();
        let named = NAMES.into_iter().zip(values).find_map(|(name, value)| Some((name, value.as_ref()?)));
        let named = named.and_then(|(name, value)| Some((name, scalar_text(value)?)));
        let (name, value) = named.ok_or(BadRevocation::NamesNothing)?;
        let ms = |seconds: f64| (seconds * 1000.0) as i64;
        let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        let entry = Entry {
            issued_until: if name == "jti" { i64::MAX } else { written.iat.map_or(made_at, ms) },
            expires: written.exp.map_or_else(|| made_at.saturating_add(keep), ms),
        };
        if entry.expires <= now {
            return Ok(Revoked::Expired);
        }
        let id = self.id(name, written.iss.as_deref(), &value);
        Ok(self.known.write().unwrap_or_else(PoisonError::into_inner).add(id, entry, now, max))
    }

    /// The number of revocations, including expired ones that have not been removed yet.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn id(&self, name: &str, issuer: Option<&str>, value: &str) -> u64 {
        self.secret.hash_one((name, issuer, value))
    }
}

impl Known {
    fn add(&mut self, id: u64, entry: Entry, now: i64, max: usize) -> Revoked {
        while let Some((expires, other)) = self.by_expiry.first().copied().filter(|(expires, _)| *expires <= now) {
            self.remove(other, expires);
        }
        let mut entry = entry;
        if let Some(before) = self.by_id.get(&id).copied() {
            self.remove(id, before.expires);
            entry.issued_until = entry.issued_until.max(before.issued_until);
            entry.expires = entry.expires.max(before.expires);
        }
        let mut added = Revoked::Added;
        if self.by_id.len() >= max
            && let Some((expires, other)) = self.by_expiry.first().copied()
        {
            self.remove(other, expires);
            added = Revoked::AddedForOther;
        }
        self.by_id.insert(id, entry);
        self.by_expiry.insert((entry.expires, id));
        added
    }

    fn remove(&mut self, id: u64, expires: i64) {
        self.by_id.remove(&id);
        self.by_expiry.remove(&(expires, id));
    }
}

/// The identifiers by which a principal can be revoked. They are kept while its stream is open.
#[derive(Debug)]
pub(super) struct Revocable {
    revocations: Arc<Revocations>,
    /// The hash of each identifier, with the principal's issuer and without an issuer.
    ids: Box<[u64]>,
    /// In milliseconds since the Unix epoch. If absent, revocations of any time apply.
    issued_at: Option<i64>,
}

impl Revocable {
    pub(super) fn new(revocations: &Arc<Revocations>, claims: &Map<String, Value>) -> Self {
        let issuers = [None, claims.get("iss").and_then(Value::as_str)];
        let issuers = &issuers[..if issuers[1].is_some() { 2 } else { 1 }];
        let named = NAMES.into_iter().filter_map(|name| Some((name, scalar_text(claims.get(name)?)?)));
        let ids = |(name, value): (&str, Box<str>)| {
            issuers.iter().map(|issuer| revocations.id(name, *issuer, &value)).collect::<Vec<_>>()
        };
        Self {
            revocations: revocations.clone(),
            ids: named.flat_map(ids).collect(),
            issued_at: numeric_date(claims, "iat").ok().flatten(),
        }
    }

    /// Replaces the time of issue, in milliseconds since the Unix epoch.
    pub(super) fn issued_at(self, unix_ms: i64) -> Self {
        Self { issued_at: Some(unix_ms), ..self }
    }

    /// Makes the principal revocable, in addition to its own conditions. Fails if it is revoked.
    pub(super) fn joined_to(self, principal: Principal) -> Result<Principal, TokenError> {
        if self.is_revoked() {
            return Err(TokenError::Revoked);
        }
        let both = Both(principal.standing, self);
        Ok(Principal { standing: Some(Arc::new(both)), ..principal })
    }

    pub(super) fn is_revoked(&self) -> bool {
        let known = self.revocations.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.by_id.is_empty() {
            return false;
        }
        let now = unix_ms();
        // Most issuers truncate `iat` to seconds: a token that is issued within the second of the revocation is
        // refused.
        let concerns = |entry: &Entry| self.issued_at.is_none_or(|at| at <= entry.issued_until) && entry.expires > now;
        self.ids.iter().any(|id| known.by_id.get(id).is_some_and(concerns))
    }
}

impl Standing for Revocable {
    fn withdrawn(&self) -> Option<Withdrawn> {
        self.is_revoked().then_some(Withdrawn::Revoked)
    }
}

/// Combines two conditions: the principal is withdrawn once either is.
#[derive(Debug)]
struct Both(Option<Arc<dyn Standing>>, Revocable);

impl Standing for Both {
    fn withdrawn(&self) -> Option<Withdrawn> {
        self.0.as_ref().and_then(|standing| standing.withdrawn()).or_else(|| self.1.withdrawn())
    }

    fn is_for_one_target(&self) -> bool {
        self.0.as_ref().is_some_and(|standing| standing.is_for_one_target())
    }
}

pub(super) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;

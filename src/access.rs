//! Access rules of a stream route: a principal's claims and the path's parameters become a selector over keys.
//!
//! Live events and replay pass the same selector, so they cannot disagree. `auth` verifies tokens.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use crate::event::Event;

/// The longest value of a key in a selector, in bytes. The selector and the index keep it while the stream is open.
pub const VALUE_BYTES_MAX: usize = 512;

/// The verified claims of a token.
#[derive(Clone, Debug)]
pub struct Principal {
    pub claims: Arc<Map<String, Value>>,
    /// The token's `exp`, in milliseconds since the Unix epoch; the stream ends then.
    pub expires_at: Option<i64>,
    pub authority: Authority,
}

/// Verifies tokens. The core does not depend on token formats; `auth` implements this.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Verifies the token at this time, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Why the token is rejected, without any part of the token.
    fn authenticate(&self, token: &str, now_unix_ms: i64) -> Result<Principal, String>;
}

/// What a token was accepted by: its issuer with the expected audience, its algorithm and the key. After a reload, a
/// token stays valid if its authority is still configured. The number has no meaning outside of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Authority(pub u64);

/// The origin of a bound key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A claim, by its path: `claims.sub`, `claims.org.id`.
    Claim(Box<[Box<str>]>),
    /// A parameter of the route's pattern: `path.orderId`.
    Path(Box<str>),
}

/// A key that a route binds: only events with the source's value are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub key: Arc<str>,
    pub source: Source,
}

/// The events that a subscription receives: those that have all of these keys with these values. Sorted by name. Empty:
/// all events of the stream. Shared between a request and its subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector(pub Arc<[(Arc<str>, Box<str>)]>);

/// Why there is no selector: 400 if a value is too long, otherwise 403.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the route needs a token")]
    NoPrincipal,
    #[error("the token has no usable claim `{0}`")]
    MissingClaim(String),
    #[error("the path has no parameter `{0}`")]
    MissingParameter(String),
    #[error("the value of `{0}` is longer than {VALUE_BYTES_MAX} bytes")]
    LongValue(Box<str>),
}

impl Principal {
    /// Whether both tokens are of the same subject of the same issuer, with the same values for these bindings. A token
    /// without `sub` equals no other.
    pub fn is_same_as<'a>(&self, other: &Self, mut bindings: impl Iterator<Item = &'a Binding>) -> bool {
        let has_same = |name: &str| self.claims.get(name) == other.claims.get(name);
        self.claims.contains_key("sub")
            && has_same("sub")
            && has_same("iss")
            && bindings.all(|binding| match &binding.source {
                Source::Claim(path) => claim(self, path) == claim(other, path),
                Source::Path(_) => true,
            })
    }

    /// The claims of the subject and of these bindings.
    pub fn claims_for<'a>(&self, bindings: impl Iterator<Item = &'a Binding>) -> Map<String, Value> {
        let mut kept = Map::new();
        for name in ["iss", "sub"] {
            copy_scalar(&self.claims, &mut kept, &[name.into()]);
        }
        for binding in bindings {
            if let Source::Claim(path) = &binding.source {
                copy_scalar(&self.claims, &mut kept, path);
            }
        }
        kept
    }

    /// Drops the claims that [`Self::claims_for`] does not return, because the issuer determines their size.
    pub fn keep_claims<'a>(&mut self, bindings: impl Iterator<Item = &'a Binding>) {
        self.claims = Arc::new(self.claims_for(bindings));
    }

    /// Drops all claims, for a stream without bindings.
    pub fn forget_claims(&mut self) {
        static NONE: LazyLock<Arc<Map<String, Value>>> = LazyLock::new(Arc::default);
        self.claims = NONE.clone();
    }
}

impl Selector {
    /// Evaluates a route's bindings with the path's parameters (percent-decoded) and the principal.
    ///
    /// Claims may be strings of at most [`VALUE_BYTES_MAX`], numbers or booleans; other values, and an empty string,
    /// count as missing.
    ///
    /// # Errors
    ///
    /// A value is missing or too long, or the route needs a token.
    pub fn bind(
        bindings: &[Binding],
        params: &[(Box<str>, Box<str>)],
        principal: Option<&Principal>,
    ) -> Result<Self, Denied> {
        let mut keys = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let value = match &binding.source {
                Source::Path(name) => {
                    let value = params.iter().find(|(n, _)| n == name).map(|(_, value)| value);
                    let value = value.ok_or_else(|| Denied::MissingParameter(name.to_string()))?;
                    bounded(name, value)?
                }
                Source::Claim(path) => {
                    let principal = principal.ok_or(Denied::NoPrincipal)?;
                    claim(principal, path).ok_or_else(|| Denied::MissingClaim(path.join(".")))?
                }
            };
            keys.push((binding.key.clone(), value));
        }
        keys.sort();
        Ok(Self(keys.into()))
    }

    /// The same selector with one key replaced or added.
    ///
    /// # Errors
    ///
    /// The value is too long.
    pub fn with(&self, key: &Arc<str>, value: &str) -> Result<Self, Denied> {
        let value = bounded(key, value)?;
        let mut keys: Vec<_> = self.0.iter().filter(|(name, _)| name != key).cloned().collect();
        keys.push((key.clone(), value));
        keys.sort();
        Ok(Self(keys.into()))
    }

    /// Whether every event that this selector matches is matched by the other one.
    pub fn is_within(&self, other: &Self) -> bool {
        other.0.iter().all(|key| self.0.contains(key))
    }

    /// Whether one of its keys has this value.
    pub fn has_value(&self, value: &str) -> bool {
        self.0.iter().any(|(_, bound)| **bound == *value)
    }

    /// Whether the event has every key with the selected value.
    pub fn matches(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, value)| event.key(key) == Some(value))
    }
}

/// The value of a key or parameter that the client chose.
fn bounded(name: &str, value: &str) -> Result<Box<str>, Denied> {
    if value.len() > VALUE_BYTES_MAX { Err(Denied::LongValue(name.into())) } else { Ok(value.into()) }
}

fn claim(principal: &Principal, path: &[Box<str>]) -> Option<Box<str>> {
    let (last, parents) = path.split_last()?;
    let mut object = &*principal.claims;
    for name in parents {
        object = object.get(&**name)?.as_object()?;
    }
    usable(object.get(&**last)?)
}

/// The value of a claim, if a key can be bound to it.
fn usable(claim: &Value) -> Option<Box<str>> {
    scalar_text(claim).filter(|text| text.len() <= VALUE_BYTES_MAX)
}

fn copy_scalar(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &[Box<str>]) {
    let Some((name, rest)) = path.split_first() else { return };
    match from.get(&**name) {
        Some(Value::Object(inner)) if !rest.is_empty() => {
            if let Value::Object(inner_to) = to.entry(&**name).or_insert_with(|| Value::Object(Map::new())) {
                copy_scalar(inner, inner_to, rest);
            }
        }
        Some(value) if rest.is_empty() && usable(value).is_some() => drop(to.insert((**name).into(), value.clone())),
        _ => {}
    }
}

/// The text by which a scalar JSON value is compared as a key; `None` for objects, arrays, null and `""`, and for
/// numbers that are not 64-bit integers, because rounding could make two of them equal.
pub fn scalar_text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string().into()),
        Value::Bool(flag) => Some(if *flag { "true" } else { "false" }.into()),
        _ => None,
    }
}

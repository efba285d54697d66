//! Access rules of a stream route: a principal's claims and the path's parameters become a selector over keys.
//!
//! Live events and replay pass the same selector, so they cannot disagree. `auth` verifies tokens.

mod claims;
mod selector;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

pub use claims::{ClaimPath, Claims, Looked};
pub use selector::{Criterion, Selector, Wanted};

/// The longest value of a key in a selector, in bytes. The selector and the index keep it while the stream is open.
pub const VALUE_BYTES_MAX: usize = 512;

/// The most combinations of values in one selector: the index has an entry for each.
pub const COMBINATIONS_MAX: usize = 256;

/// The most bytes of all values of one selector.
pub const SELECTOR_BYTES_MAX: usize = 8 * 1024;

/// The verified claims of a token.
#[derive(Clone, Debug)]
pub struct Principal {
    pub claims: Arc<Claims>,
    /// The token's `exp`, in milliseconds since the Unix epoch; the stream ends then.
    pub expires_at: Option<i64>,
    pub authority: Authority,
    /// Reports whether the principal is still accepted, if that can change before `expires_at`.
    pub standing: Option<Arc<dyn Standing>>,
}

/// Whether a principal is still accepted. The core checks it for each open stream; `auth` implements it.
pub trait Standing: Send + Sync + fmt::Debug {
    /// Why the streams of the principal have to end; `None` while it is accepted.
    fn withdrawn(&self) -> Option<Withdrawn>;

    /// Whether the principal was accepted for the target of its request, so that it does not count for other paths.
    fn is_for_one_target(&self) -> bool {
        false
    }
}

/// Why a principal is no longer accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// Its access was revoked.
    Revoked,
    /// It could not be verified again in time.
    Unverified,
}

/// Verifies tokens. The core does not depend on token formats; `auth` implements this.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Verifies the token at this time, in milliseconds since the Unix epoch. If that takes longer, the waiter is
    /// called once there is a result.
    fn authenticate(&self, token: &str, now_unix_ms: i64, waiter: Waiter) -> Authentication;
}

/// The session that waits for a verification, and the writer that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub writer: u32,
    pub session: u32,
}

/// The result of a verification, or what will have it. Messages contain no part of the token.
#[derive(Debug)]
pub enum Authentication {
    Done(Result<Principal, NotAuthenticated>),
    /// A service is asked.
    Pending(Box<dyn Verifying>),
}

/// A verification in progress. Dropping it abandons it.
pub trait Verifying: Send + fmt::Debug {
    /// The result, once there is one.
    fn result(&self) -> Option<Result<Principal, NotAuthenticated>>;
}

/// Why a token is not accepted. The messages contain no part of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAuthenticated {
    Refused(String),
    /// The token cannot be verified now. A later attempt may succeed.
    Unavailable(String),
}

/// What a token was accepted by: its issuer with the expected audience, its algorithm and the key. After a reload, a
/// token stays valid if its authority is still configured. The number has no meaning outside of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Authority(pub u64);

/// The origin of the values of a bound key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A claim, by its path: `claims.sub`, `claims.org.id`.
    Claim(Box<[Box<str>]>),
    /// A parameter of the route's pattern: `path.orderId`.
    Path(Box<str>),
}

/// A claim that a route reads, by its path.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    /// To bind a key: the texts of a value or an array count.
    Bound(&'a [Box<str>]),
    /// In a rule: any value counts, of at most [`SELECTOR_BYTES_MAX`] as JSON.
    Read(&'a [Box<str>]),
}

/// A key that a route binds: only events with a value that its rule selects are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub key: Arc<str>,
    /// At least one. A claim that is an array gives several values.
    pub sources: Box<[Source]>,
    pub rule: Rule,
}

/// Which events the values of a binding's sources select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The key has any value of any source. A source without a value adds none; one of them must have a value.
    Any,
    /// The key has a value that every source has.
    All,
    /// The key has a value of any source as its prefix.
    Prefix,
}

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
    #[error("the token does not allow this value of `{0}`")]
    Value(Arc<str>),
    #[error(
        "the token selects more than {COMBINATIONS_MAX} combinations of values, or more than {SELECTOR_BYTES_MAX} bytes"
    )]
    TooManyValues,
}

impl Principal {
    /// Why its streams have to end; `None` while it is accepted.
    pub fn withdrawn(&self) -> Option<Withdrawn> {
        self.standing.as_ref()?.withdrawn()
    }

    /// Whether it was accepted for the target of its request alone.
    pub fn is_for_one_target(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.is_for_one_target())
    }

    /// Whether both tokens are of the same subject of the same issuer, with the same values of these claims. A token
    /// without `sub` equals no other.
    pub fn is_same_as<'a>(&self, other: &Self, mut claims: impl Iterator<Item = Claim<'a>>) -> bool {
        let has_same = |name: &str| self.claims.get(name) == other.claims.get(name);
        self.claims.contains_key("sub")
            && has_same("sub")
            && has_same("iss")
            && claims.all(|read| match read {
                Claim::Bound(path) => claim(self, path) == claim(other, path),
                Claim::Read(path) => self.claims.look(path) == other.claims.look(path),
            })
    }

    /// The subject, and those of these claims that can be used. A claim for a rule that is too long is unknown.
    pub fn claims_for<'a>(&self, claims: impl Iterator<Item = Claim<'a>>) -> Claims {
        let (mut kept, mut known) = (Map::new(), Vec::<ClaimPath>::new());
        for name in ["iss", "sub"] {
            copy_claim(&self.claims, &mut kept, &[name.into()], is_usable);
        }
        for read in claims {
            match read {
                Claim::Bound(path) => copy_claim(&self.claims, &mut kept, path, is_usable),
                Claim::Read(path) if known.iter().any(|known| **known == *path) => {}
                Claim::Read(path) => {
                    let is_kept = match self.claims.look(path) {
                        Looked::Found(value) => is_short(value),
                        Looked::Missing | Looked::NoObject => true,
                        Looked::Unknown => false,
                    };
                    if is_kept {
                        copy_claim(&self.claims, &mut kept, path, is_short);
                        known.push(path.into());
                    }
                }
            }
        }
        Claims::of_known(kept, known)
    }

    /// Drops the claims that [`Self::claims_for`] does not return, because the issuer determines their size.
    pub fn keep_claims<'a>(&mut self, claims: impl Iterator<Item = Claim<'a>>) {
        self.claims = Arc::new(self.claims_for(claims));
    }

    /// The text of a claim that has one value of at most [`VALUE_BYTES_MAX`].
    pub fn claim_text(&self, path: &[Box<str>]) -> Option<Box<str>> {
        let values = claim(self, path)?;
        if values.len() == 1 { values.into_iter().next() } else { None }
    }

    /// Drops all claims, for a stream that reads none later.
    pub fn forget_claims(&mut self) {
        static NONE: LazyLock<Arc<Claims>> = LazyLock::new(|| Arc::new(Claims::of_known(Map::new(), [])));
        self.claims = NONE.clone();
    }
}

impl Binding {
    /// The values that this binding selects, sorted and distinct; at least one.
    ///
    /// # Errors
    ///
    /// [`Denied`] where a source has no usable value, or where no value meets the rule.
    pub fn values(
        &self,
        params: &[(Box<str>, Box<str>)],
        principal: Option<&Principal>,
    ) -> Result<Vec<Box<str>>, Denied> {
        let mut all = self.sources.iter().map(|source| source.values(params, principal));
        let values: BTreeSet<_> = match self.rule {
            Rule::Any | Rule::Prefix => union(all)?,
            Rule::All => {
                let first = all.next().unwrap_or(Ok(BTreeSet::new()))?;
                all.try_fold(first, |common, next| Ok::<_, Denied>(common.intersection(&next?).cloned().collect()))?
            }
        };
        if values.is_empty() { Err(Denied::Value(self.key.clone())) } else { Ok(values.into_iter().collect()) }
    }

    /// The path parameter that this binding reads.
    pub fn parameter(&self) -> Option<&str> {
        self.sources.iter().find_map(|source| match source {
            Source::Path(name) => Some(&**name),
            Source::Claim(_) => None,
        })
    }

    /// The claims that it reads.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        self.sources.iter().filter_map(|source| match source {
            Source::Claim(path) => Some(Claim::Bound(path)),
            Source::Path(_) => None,
        })
    }
}

impl Source {
    fn values(
        &self,
        params: &[(Box<str>, Box<str>)],
        principal: Option<&Principal>,
    ) -> Result<BTreeSet<Box<str>>, Denied> {
        match self {
            Self::Path(name) => {
                let value = params.iter().find(|(n, _)| n == name).map(|(_, value)| value);
                let value = value.ok_or_else(|| Denied::MissingParameter(name.to_string()))?;
                Ok([bounded(name, value)?].into())
            }
            Self::Claim(path) => {
                let principal = principal.ok_or(Denied::NoPrincipal)?;
                claim(principal, path).ok_or_else(|| Denied::MissingClaim(path.join(".")))
            }
        }
    }
}

/// The values of all sources. A source without a value adds none, unless all are without.
fn union(sources: impl Iterator<Item = Result<BTreeSet<Box<str>>, Denied>>) -> Result<BTreeSet<Box<str>>, Denied> {
    let mut missing = None;
    let mut values = BTreeSet::new();
    for source in sources {
        match source {
            Ok(more) => values.extend(more),
            Err(why @ Denied::MissingClaim(_)) => drop(missing.get_or_insert(why)),
            Err(why) => return Err(why),
        }
    }
    match missing {
        Some(why) if values.is_empty() => Err(why),
        _ => Ok(values),
    }
}

/// The value of a key or parameter that the client chose.
fn bounded(name: &str, value: &str) -> Result<Box<str>, Denied> {
    if value.len() > VALUE_BYTES_MAX { Err(Denied::LongValue(name.into())) } else { Ok(value.into()) }
}

/// The values of a claim: its text, or those of an array's elements. Nothing if one of them is unusable.
fn claim(principal: &Principal, path: &[Box<str>]) -> Option<BTreeSet<Box<str>>> {
    usable(raw_claim(&principal.claims, path)?)
}

fn raw_claim<'a>(claims: &'a Map<String, Value>, path: &[Box<str>]) -> Option<&'a Value> {
    let (last, parents) = path.split_last()?;
    let mut object = claims;
    for name in parents {
        object = object.get(&**name)?.as_object()?;
    }
    object.get(&**last)
}

fn is_usable(claim: &Value) -> bool {
    usable(claim).is_some()
}

fn is_short(claim: &Value) -> bool {
    claim.to_string().len() <= SELECTOR_BYTES_MAX
}

/// The texts that a key may be bound to: at least one, each of at most [`VALUE_BYTES_MAX`], no more than a selector may
/// have.
fn usable(claim: &Value) -> Option<BTreeSet<Box<str>>> {
    let short = |value: &Value| scalar_text(value).filter(|text| text.len() <= VALUE_BYTES_MAX);
    match claim {
        Value::Array(elements) => {
            let texts = elements.iter().map(short).collect::<Option<BTreeSet<_>>>()?;
            let is_bounded = (1..=COMBINATIONS_MAX).contains(&texts.len()) && bytes(&texts) <= SELECTOR_BYTES_MAX;
            is_bounded.then_some(texts)
        }
        scalar => short(scalar).map(|text| [text].into()),
    }
}

/// The bytes of values together.
fn bytes<'a>(values: impl IntoIterator<Item = &'a Box<str>>) -> usize {
    values.into_iter().map(|value| value.len()).sum()
}

fn copy_claim(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &[Box<str>], is_kept: fn(&Value) -> bool) {
    let Some((name, rest)) = path.split_first() else { return };
    match from.get(&**name) {
        Some(Value::Object(inner)) if !rest.is_empty() => {
            if let Value::Object(inner_to) = to.entry(&**name).or_insert_with(|| Value::Object(Map::new())) {
                copy_claim(inner, inner_to, rest, is_kept);
            }
        }
        Some(value) if rest.is_empty() && is_kept(value) => drop(to.insert((**name).into(), value.clone())),
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

//! Selectors: the events of a stream that a subscription receives.

use std::fmt;
use std::sync::Arc;

use super::{Binding, COMBINATIONS_MAX, Denied, Principal, Rule, SELECTOR_BYTES_MAX, bounded, bytes};
use crate::event::Event;

/// The events that a subscription receives: those that meet every criterion. Sorted by key, with each key at most once.
/// Empty: all events of the stream. At most [`COMBINATIONS_MAX`] combinations of values, and [`SELECTOR_BYTES_MAX`]
/// bytes. Shared between a request and its subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector(pub Arc<[Criterion]>);

/// The required value of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Criterion {
    pub key: Arc<str>,
    pub wanted: Wanted,
}

/// The values of a key that a subscription receives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    Value(Box<str>),
    /// Several values, sorted and distinct.
    AnyOf(Box<[Box<str>]>),
    /// Prefixes of values, sorted. None is a prefix of another one, so a value has at most one of them.
    Prefixes(Box<[Box<str>]>),
}

impl Selector {
    /// Evaluates a route's bindings with the path's parameters (percent-decoded) and the principal.
    ///
    /// Claims may be strings of at most [`super::VALUE_BYTES_MAX`], numbers, booleans, or arrays of these; anything
    /// else, an empty string and an empty array count as missing.
    ///
    /// # Errors
    ///
    /// [`Denied`] where a binding has no value, or where there are too many.
    pub fn bind(
        bindings: &[Binding],
        params: &[(Box<str>, Box<str>)],
        principal: Option<&Principal>,
    ) -> Result<Self, Denied> {
        let criterion = |binding: &Binding| Criterion::of(binding, params, principal);
        Self::of(bindings.iter().map(criterion).collect::<Result<_, _>>()?)
    }

    /// The same selector with another value of one key: the key of `binding`, if the route binds it.
    ///
    /// # Errors
    ///
    /// [`Denied`] where the value is too long, or where `binding` does not allow it.
    pub fn with(
        &self,
        key: &Arc<str>,
        value: &str,
        binding: Option<&Binding>,
        principal: Option<&Principal>,
    ) -> Result<Self, Denied> {
        let chosen = match binding.and_then(|binding| Some((binding, binding.parameter()?))) {
            Some((binding, parameter)) => Criterion::of(binding, &[(parameter.into(), value.into())], principal)?,
            None => Criterion { key: key.clone(), wanted: Wanted::Value(bounded(key, value)?) },
        };
        let others = self.0.iter().filter(|criterion| criterion.key != *key).cloned();
        Self::of(others.chain([chosen]).collect())
    }

    fn of(mut criteria: Vec<Criterion>) -> Result<Self, Denied> {
        criteria.sort_by(|a, b| a.key.cmp(&b.key));
        let values = |criterion: &Criterion| criterion.wanted.values().len();
        let combinations = criteria.iter().map(values).fold(1, usize::saturating_mul);
        let bytes = bytes(criteria.iter().flat_map(|criterion| criterion.wanted.values()));
        if combinations > COMBINATIONS_MAX || bytes > SELECTOR_BYTES_MAX {
            return Err(Denied::TooManyValues);
        }
        Ok(Self(criteria.into()))
    }

    /// Whether every event that it selects is selected by `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        let is_met =
            |wide: &Criterion| self.0.iter().any(|own| own.key == wide.key && own.wanted.is_within(&wide.wanted));
        other.0.iter().all(is_met)
    }

    /// The values that a key may have, sorted; `None` if there are others as well.
    pub fn values(&self, key: &str) -> Option<&[Box<str>]> {
        let wanted = self.0.iter().find(|criterion| *criterion.key == *key).map(|criterion| &criterion.wanted)?;
        (!wanted.is_prefix()).then(|| wanted.values())
    }

    /// Whether one of its keys may have this value.
    pub fn has_value(&self, value: &str) -> bool {
        self.0.iter().any(|criterion| criterion.wanted.admits(value))
    }

    /// Whether the event is reported as a gap because it lacks one of the keys. Its other keys meet their criteria:
    /// otherwise it is certainly for other clients, and must not show them to these.
    pub fn misses(&self, event: &Event) -> bool {
        let value = |criterion: &Criterion| event.key(&criterion.key);
        event.is_gap_without_key
            && self.0.iter().any(|criterion| value(criterion).is_none())
            && self.0.iter().all(|criterion| value(criterion).is_none_or(|value| criterion.wanted.admits(value)))
    }

    /// Whether the event meets every criterion.
    pub fn matches(&self, event: &Event) -> bool {
        self.0.iter().all(|criterion| event.key(&criterion.key).is_some_and(|value| criterion.wanted.admits(value)))
    }
}

impl Criterion {
    fn of(binding: &Binding, params: &[(Box<str>, Box<str>)], principal: Option<&Principal>) -> Result<Self, Denied> {
        let mut values = binding.values(params, principal)?;
        let wanted = match binding.rule {
            Rule::Prefix => Wanted::prefixes(values),
            Rule::Any | Rule::All if values.len() == 1 => Wanted::Value(values.remove(0)),
            Rule::Any | Rule::All => Wanted::AnyOf(values.into()),
        };
        Ok(Self { key: binding.key.clone(), wanted })
    }
}

impl Wanted {
    /// `values` are sorted: a prefix precedes the values that it is a prefix of.
    fn prefixes(mut values: Vec<Box<str>>) -> Self {
        values.dedup_by(|later, earlier| later.starts_with(&**earlier));
        Self::Prefixes(values.into())
    }

    /// The values or prefixes.
    pub fn values(&self) -> &[Box<str>] {
        match self {
            Self::Value(value) => std::slice::from_ref(value),
            Self::AnyOf(values) | Self::Prefixes(values) => values,
        }
    }

    pub fn is_prefix(&self) -> bool {
        matches!(self, Self::Prefixes(_))
    }

    fn admits(&self, value: &str) -> bool {
        match self {
            Self::Value(wanted) => **wanted == *value,
            Self::AnyOf(values) => values.binary_search_by(|wanted| (**wanted).cmp(value)).is_ok(),
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| value.starts_with(&**prefix)),
        }
    }

    /// Whether each value that this admits is one that `other` admits.
    fn is_within(&self, other: &Self) -> bool {
        (!self.is_prefix() || other.is_prefix()) && self.values().iter().all(|value| other.admits(value))
    }
}

/// For diagnostics: `7`, `7|8`, `eu/*`.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_prefix() { "*" } else { "" };
        for (n, value) in self.values().iter().enumerate() {
            write!(f, "{}{value}{end}", if n > 0 { "|" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::access::{Source, VALUE_BYTES_MAX};
    use crate::testing::{event, holder};

    fn claim(name: &str) -> Source {
        Source::Claim([name.into()].into())
    }

    fn path() -> Source {
        Source::Path("id".into())
    }

    type Case<'a> = (Rule, &'a [Source], Value, Result<&'a str, Denied>);

    /// The selector of a route that binds `k`, for a token with these claims and the path parameter `id`, as text.
    fn bound(rule: Rule, sources: &[Source], claims: &Value, id: &str) -> Result<String, Denied> {
        let binding = Binding { key: "k".into(), sources: sources.into(), rule };
        let selector = Selector::bind(&[binding], &[("id".into(), id.into())], Some(&holder(claims)))?;
        Ok(selector.0[0].wanted.to_string())
    }

    #[test]
    fn a_binding_selects_the_values_of_its_sources() {
        let both = [claim("a"), claim("b")];
        let all = [path(), claim("a")];
        let cases: &[Case<'_>] = &[
            (Rule::Any, &both[..1], json!({ "a": "x" }), Ok("x")),
            (Rule::Any, &both[..1], json!({ "a": ["y", "x", "y", 7, true] }), Ok("7|true|x|y")),
            (Rule::Any, &both, json!({ "a": ["x"], "b": "y" }), Ok("x|y")),
            (Rule::Any, &both, json!({ "b": "y" }), Ok("y")),
            (Rule::Any, &both, json!({ "c": "y" }), Err(Denied::MissingClaim("a".into()))),
            (Rule::Any, &both[..1], json!({ "a": [] }), Err(Denied::MissingClaim("a".into()))),
            (Rule::Any, &both[..1], json!({ "a": ["x", null] }), Err(Denied::MissingClaim("a".into()))),
            (Rule::Any, &both[..1], json!({ "a": ["x", ["y"]] }), Err(Denied::MissingClaim("a".into()))),
            (Rule::Any, &both[..1], json!({ "a": ["x", ""] }), Err(Denied::MissingClaim("a".into()))),
            (Rule::Any, &both[..1], json!({ "a": ["x".repeat(513)] }), Err(Denied::MissingClaim("a".into()))),
            (Rule::All, &all, json!({ "a": ["x", "y"] }), Ok("x")),
            (Rule::All, &all, json!({ "a": "x" }), Ok("x")),
            (Rule::All, &all, json!({ "a": ["y"] }), Err(Denied::Value("k".into()))),
            (Rule::All, &all, json!({}), Err(Denied::MissingClaim("a".into()))),
            (Rule::Prefix, &both[..1], json!({ "a": ["eu/", "eu/de", "us/"] }), Ok("eu/*|us/*")),
        ];
        for (rule, sources, claims, expected) in cases {
            let expected = expected.clone().map(str::to_owned);
            assert_eq!(bound(*rule, sources, claims, "x"), expected, "{rule:?} {sources:?} {claims}");
        }
    }

    #[test]
    fn a_selector_is_bounded() {
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        let of = |values: Vec<String>| bound(Rule::Any, &[claim("a")], &json!({ "a": values }), "x");
        assert!(of(many(COMBINATIONS_MAX)).is_ok());
        assert_eq!(of(many(COMBINATIONS_MAX + 1)), Err(Denied::MissingClaim("a".into())));
        let wide = (0..=SELECTOR_BYTES_MAX / VALUE_BYTES_MAX).map(|n| format!("{n:0VALUE_BYTES_MAX$}")).collect();
        assert_eq!(of(wide), Err(Denied::MissingClaim("a".into())));
        let binding = |key: &str| Binding { key: key.into(), sources: [claim("a")].into(), rule: Rule::Any };
        let selector =
            |count| Selector::bind(&[binding("a"), binding("b")], &[], Some(&holder(&json!({ "a": many(count) }))));
        assert!(selector(16).is_ok());
        assert_eq!(selector(17), Err(Denied::TooManyValues));
    }

    #[test]
    fn a_part_of_a_selector_is_within_it() {
        let selector = |rule, values: &[&str]| {
            let binding = Binding { key: "k".into(), sources: [claim("a")].into(), rule };
            Selector::bind(&[binding], &[], Some(&holder(&json!({ "a": values })))).unwrap()
        };
        let cases = [
            (Rule::Any, &["x"][..], Rule::Any, &["x", "y"][..], true),
            (Rule::Any, &["x", "z"], Rule::Any, &["x", "y"], false),
            (Rule::Any, &["xa", "xb"], Rule::Prefix, &["x"], true),
            (Rule::Any, &["xa", "y"], Rule::Prefix, &["x"], false),
            (Rule::Prefix, &["xa"], Rule::Prefix, &["x"], true),
            (Rule::Prefix, &["x"], Rule::Prefix, &["xa"], false),
            (Rule::Prefix, &["x"], Rule::Any, &["x"], false),
        ];
        for (rule, values, wide_rule, wide, expected) in cases {
            let is_within = selector(rule, values).is_within(&selector(wide_rule, wide));
            assert_eq!(is_within, expected, "{rule:?} {values:?} within {wide_rule:?} {wide:?}");
        }
        assert!(selector(Rule::Any, &["x"]).is_within(&Selector::default()));
        assert!(!Selector::default().is_within(&selector(Rule::Any, &["x"])));
    }

    #[test]
    fn an_event_without_the_key_meets_no_criterion() {
        for rule in [Rule::Any, Rule::Prefix] {
            let binding = Binding { key: "k".into(), sources: [claim("a")].into(), rule };
            let selector = Selector::bind(&[binding], &[], Some(&holder(&json!({ "a": "x" })))).unwrap();
            assert!(!selector.matches(&event("orders", 0, 1, &[("other", "x")])));
            assert!(selector.matches(&event("orders", 0, 1, &[("k", "x")])));
            assert_eq!(selector.matches(&event("orders", 0, 1, &[("k", "xy")])), rule == Rule::Prefix);
            let reported = |keys| {
                let mut event = Arc::into_inner(event("orders", 0, 1, keys)).unwrap();
                event.is_gap_without_key = true;
                event
            };
            assert!(selector.misses(&reported(&[("other", "x")])));
            assert!(!selector.misses(&event("orders", 0, 1, &[("other", "x")])), "it is only counted");
            assert!(!selector.misses(&reported(&[("k", "y")])), "it is for other clients");
            let both = selector.with(&"tenant".into(), "a", None, None).unwrap();
            assert!(both.misses(&reported(&[("tenant", "a")])));
            assert!(both.misses(&reported(&[])));
            assert!(!both.misses(&reported(&[("tenant", "b")])), "another tenant's");
        }
    }
}

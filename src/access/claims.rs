//! The claims of a principal, and which of them are known.

use std::ops::Deref;

use serde_json::{Map, Value};

/// The path of a claim: `claims.org.id` is `["org", "id"]`.
pub type ClaimPath = Box<[Box<str>]>;

/// The claims of a principal: all of them, or those that were kept.
///
/// Of claims that were not all kept, rules know only the paths that were kept for rules: a claim that was dropped is
/// not one that the principal does not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    map: Map<String, Value>,
    /// The paths of which the value or the absence is known; `None` if nothing was dropped.
    known: Option<Box<[ClaimPath]>>,
}

/// What rules find at the path of a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Looked<'a> {
    Found(&'a Value),
    /// The object has no such member.
    Missing,
    /// There is no object that could have it.
    NoObject,
    /// It may have been dropped.
    Unknown,
}

impl Claims {
    /// Claims of which only these paths are known to rules.
    pub fn of_known(map: Map<String, Value>, known: impl Into<Box<[ClaimPath]>>) -> Self {
        Self { map, known: Some(known.into()) }
    }

    /// The paths that are known to rules; `None` if all are.
    pub fn known(&self) -> Option<&[ClaimPath]> {
        self.known.as_deref()
    }

    /// Adds claims that only bindings and revocations read.
    pub fn extend(&mut self, claims: impl IntoIterator<Item = (String, Value)>) {
        self.map.extend(claims);
    }

    /// What a rule finds at this path.
    pub fn look(&self, path: &[Box<str>]) -> Looked<'_> {
        if self.known.as_ref().is_some_and(|known| !known.iter().any(|kept| path.starts_with(kept))) {
            return Looked::Unknown;
        }
        let Some((last, parents)) = path.split_last() else { return Looked::NoObject };
        let mut object = &self.map;
        for name in parents {
            match object.get(&**name) {
                Some(Value::Object(inner)) => object = inner,
                _ => return Looked::NoObject,
            }
        }
        object.get(&**last).map_or(Looked::Missing, Looked::Found)
    }
}

impl Deref for Claims {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(map: Map<String, Value>) -> Self {
        Self { map, known: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> ClaimPath {
        text.split('.').map(Box::from).collect()
    }

    #[test]
    fn a_dropped_claim_is_unknown_and_an_absent_one_is_missing() {
        let map = json!({ "org": { "id": 7 }, "blocked": { "by": "u2" } }).as_object().unwrap().clone();
        let whole = Claims::from(map.clone());
        let kept = Claims::of_known(map, [path("org.id"), path("blocked"), path("suspended")]);
        for (asked, of_whole, of_kept) in [
            ("org.id", Looked::Found(&json!(7)), Looked::Found(&json!(7))),
            ("org.name", Looked::Missing, Looked::Unknown),
            ("org.id.x", Looked::NoObject, Looked::NoObject),
            ("org", Looked::Found(&json!({ "id": 7 })), Looked::Unknown),
            ("blocked.by", Looked::Found(&json!("u2")), Looked::Found(&json!("u2"))),
            ("suspended", Looked::Missing, Looked::Missing),
            ("absent", Looked::Missing, Looked::Unknown),
        ] {
            assert_eq!((whole.look(&path(asked)), kept.look(&path(asked))), (of_whole, of_kept), "{asked}");
        }
    }

    #[test]
    fn a_claim_that_is_too_long_for_rules_is_unknown() {
        let long = "x".repeat(crate::access::SELECTOR_BYTES_MAX);
        let holder = crate::testing::holder(&json!({ "sub": "a", "blocked": [long], "org": { "id": 7 } }));
        let paths = ["blocked", "org.id", "suspended"].map(path);
        let kept = holder.claims_for(paths.iter().map(|path| crate::access::Claim::Read(path)));
        let looked = paths.each_ref().map(|path| kept.look(path));
        assert_eq!(looked, [Looked::Unknown, Looked::Found(&json!(7)), Looked::Missing]);
        assert_eq!(kept.look(&path("sub")), Looked::Unknown, "no rule reads it");
    }
}

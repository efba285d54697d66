//! What reads the claims of a service's responses. Others are dropped.

use std::sync::Arc;

use crate::access::{Binding, Claim};
use crate::rule::Rule;

/// The bindings and the rules of routes, and quotas.
#[derive(Debug, Default, PartialEq)]
pub struct Readers {
    pub bindings: Box<[Binding]>,
    pub rules: Box<[Arc<Rule>]>,
}

impl Readers {
    pub(super) fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let by_rules = self.rules.iter().flat_map(|rule| rule.claims()).map(Claim::Read);
        self.bindings.iter().flat_map(Binding::claims).chain(by_rules)
    }
}

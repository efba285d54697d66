//! Applies rules to events: one evaluation for all clients with the same bound rule.

use std::cell::RefCell;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{BoundRule, Decision, Facts, Failure, Rule};
use crate::event::Event;

/// Decides on events for the sessions of one writer.
#[derive(Debug, Default)]
pub struct Judge {
    current: RefCell<Option<Current>>,
    failures: RefCell<FxHashMap<Arc<str>, Failures>>,
}

/// The failures of the rule of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    pub count: u64,
    /// The cause of the last one.
    pub last: Failure,
}

/// What is known of the event that was looked at last.
#[derive(Debug)]
struct Current {
    event: Arc<Event>,
    /// The facts for each rule: there are few.
    facts: Vec<(Arc<Rule>, Facts)>,
    /// By the id of the bound rule.
    verdicts: FxHashMap<u64, bool>,
}

impl Judge {
    /// Whether a client with this rule may receive the event. A failure denies it, and is counted.
    pub fn allows(&self, rule: Option<&Arc<BoundRule>>, event: &Arc<Event>) -> bool {
        let Some(rule) = rule else { return true };
        if rule.decision() == Decision::Allowed {
            return true;
        }
        let mut current = self.current.borrow_mut();
        if current.as_ref().is_none_or(|current| !Arc::ptr_eq(&current.event, event)) {
            *current = Some(Current { event: event.clone(), facts: Vec::new(), verdicts: FxHashMap::default() });
        }
        let Some(Current { facts, verdicts, .. }) = &mut *current else { return false };
        if let Some(verdict) = verdicts.get(&rule.id) {
            return *verdict;
        }
        let at = facts.iter().position(|(known, _)| Arc::ptr_eq(known, &rule.rule)).unwrap_or_else(|| {
            facts.push((rule.rule.clone(), rule.rule.facts(event)));
            facts.len() - 1
        });
        let verdict = rule.allows(&facts[at].1).unwrap_or_else(|last| {
            let mut failures = self.failures.borrow_mut();
            let of_route = failures.entry(rule.rule.route().clone()).or_insert(Failures { count: 0, last });
            *of_route = Failures { count: of_route.count + 1, last };
            false
        });
        verdicts.insert(rule.id, verdict);
        verdict
    }

    /// The failures since the last call, by route. Releases the last event.
    pub fn take_failures(&self) -> FxHashMap<Arc<str>, Failures> {
        self.current.take();
        self.failures.take()
    }
}

//! Rules: expressions of routes over claims, path and event, which decide who receives which events.
//!
//! A rule is bound to the claims and the path of a client when its stream is opened. What this decides is decided then,
//! once. Otherwise each event is looked at, once for all clients with the same rule and the same values in it
//! ([`Judge`]). An error denies. The configuration parses expressions (CEL); this module only evaluates them.

mod evaluate;
mod expression;
mod failure;
mod input;
mod judge;
mod operators;
mod pattern;
mod steps;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::json;

use crate::access::Claims;
use crate::contain::contain;
use crate::event::Event;

pub use expression::{Arithmetic, Compared, Expression, TextTest};
pub use failure::Failure;
pub use input::{Input, Root, VALUE_BYTES_MAX};
pub use judge::{Failures, Judge};
pub use pattern::{MATCHED_BYTES_MAX, Pattern};
pub use steps::STEPS_MAX;

use evaluate::Evaluation;
use failure::Stop;
use input::Slot;

/// The least number of bound rules that are kept before those of closed streams are removed.
const BOUND_KEPT: usize = 64;

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// The pattern of its route.
    route: Arc<str>,
    /// As written. Equal sources are equal rules.
    source: Box<str>,
    expression: Expression,
    /// The values that the expression reads, by number.
    inputs: Box<[Input]>,
    /// The bound rules of open streams, by their values.
    bound: Mutex<HashMap<String, Weak<BoundRule>>>,
}

/// A rule with the claims and the path of a client. Clients with the same values share one.
#[derive(Debug)]
pub struct BoundRule {
    /// Identifies it among all of this process.
    id: u64,
    rule: Arc<Rule>,
    /// The claims and parameters by the number of the input; `None` for values of events.
    known: Box<[Option<Slot>]>,
    decision: Decision,
}

/// What a rule says of the events of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It allows all of them.
    Allowed,
    /// It allows none of them; because of a failure, if there was one.
    Denied(Option<Failure>),
    /// Each event decides.
    ByEvent,
}

/// The values of an event that a rule reads, by the number of the input.
#[derive(Debug)]
pub struct Facts(Box<[Option<Slot>]>);

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Equal bound rules allow the same events.
impl PartialEq for BoundRule {
    fn eq(&self, other: &Self) -> bool {
        (&self.rule, &self.known) == (&other.rule, &other.known)
    }
}

/// The same for the same rule and values, in every process.
impl Hash for BoundRule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.rule.route, &self.rule.source, json!(self.known).to_string()).hash(state);
    }
}

impl Rule {
    /// `inputs` are those that the expression reads by number.
    pub fn new(route: Arc<str>, source: &str, expression: Expression, inputs: Vec<Input>) -> Self {
        let bound = Mutex::default();
        Self { route, source: source.into(), expression, inputs: inputs.into(), bound }
    }

    /// The pattern of its route.
    pub fn route(&self) -> &Arc<str> {
        &self.route
    }

    /// The paths of the claims that it reads.
    pub fn claims(&self) -> impl Iterator<Item = &[Box<str>]> {
        self.inputs.iter().filter(|input| input.root == Root::Claims).map(|input| &*input.path)
    }

    /// Binds the rule to a client: its claims, if it has a token, and the parameters of its path.
    pub fn bind(self: &Arc<Self>, claims: Option<&Claims>, params: &[(Box<str>, Box<str>)]) -> Arc<BoundRule> {
        self.interned(self.inputs.iter().map(|input| input.of_client(claims, params)).collect())
    }

    /// The values of an event that it reads.
    pub fn facts(&self, event: &Event) -> Facts {
        Facts(self.inputs.iter().map(|input| input.of_event(event)).collect())
    }

    /// The bound rule with these values, which all clients with them share.
    fn interned(self: &Arc<Self>, known: Box<[Option<Slot>]>) -> Arc<BoundRule> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let name = json!(known).to_string();
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = bound.get(&name).and_then(Weak::upgrade) {
            return shared;
        }
        if bound.len() >= BOUND_KEPT && bound.len() == bound.capacity() {
            bound.retain(|_, rule| rule.strong_count() > 0);
        }
        let decision = match self.evaluate(&known, None) {
            Ok(true) => Decision::Allowed,
            Ok(false) => Decision::Denied(None),
            Err(Stop::Failed(failure)) => Decision::Denied(Some(failure)),
            Err(Stop::Unknown) => Decision::ByEvent,
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let rule = Arc::new(BoundRule { id, rule: self.clone(), known, decision });
        bound.insert(name, Arc::downgrade(&rule));
        rule
    }

    fn evaluate(&self, known: &[Option<Slot>], facts: Option<&Facts>) -> Result<bool, Stop> {
        let evaluation = Evaluation::new(known, facts.map(|facts| &*facts.0));
        contain(|| evaluation.decide(&self.expression)).unwrap_or(Err(Stop::Failed(Failure::Panicked)))
    }
}

impl BoundRule {
    pub fn decision(&self) -> Decision {
        self.decision
    }

    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// The same rule with another value of a parameter of the path.
    pub fn with_parameter(&self, name: &str, value: &str) -> Arc<Self> {
        let of = |(input, known): (&Input, &Option<Slot>)| {
            if input.is_parameter(name) { Some(Slot::Found(value.into())) } else { known.clone() }
        };
        self.rule.interned(self.rule.inputs.iter().zip(&self.known).map(of).collect())
    }

    /// Whether the rule allows an event with these facts.
    ///
    /// # Errors
    ///
    /// The rule failed, which denies the event.
    pub fn allows(&self, facts: &Facts) -> Result<bool, Failure> {
        match self.decision {
            Decision::Allowed => Ok(true),
            Decision::Denied(None) => Ok(false),
            Decision::Denied(Some(failure)) => Err(failure),
            Decision::ByEvent => self.rule.evaluate(&self.known, Some(facts)).map_err(|stop| match stop {
                Stop::Failed(failure) => failure,
                // Unreachable: all facts are known.
                Stop::Unknown => Failure::Panicked,
            }),
        }
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;

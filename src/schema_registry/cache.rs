//! The schemas of a registry, and how long records wait for those that are missing. Pure: time is an argument.
//!
//! Records wait for a schema once, for a limited time: then they are not decodable until it is obtained, and it is
//! requested again at intervals. While the registry has not responded for longer than that, records with other unknown
//! schemas do not wait at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::decode::registered::{Lookup, SchemaFormat, SchemaId, WriterSchema};

/// The most schemas, known or not. The least recently used one is dropped, and requested again where it is needed.
const SCHEMAS_MAX: usize = 1024;
/// The most bytes of their texts.
const SCHEMA_TEXTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long records wait for a schema that the registry does not know: it may be behind the one that registered it.
const UNKNOWN_WAIT: Duration = Duration::from_secs(2);
/// The pause between two requests for a schema that records wait for.
const PAUSE: Duration = Duration::from_millis(500);
/// How long nothing is requested for a schema that records do not wait for.
const MISSING_AGAIN: Duration = Duration::from_secs(10);

/// A schema in the format that a topic expects.
pub(super) type Key = (SchemaId, SchemaFormat);

#[derive(Debug)]
pub(super) struct Cache {
    wait: Duration,
    entries: FxHashMap<Key, Entry>,
    /// Of all texts.
    bytes: usize,
    /// Since when no request was answered.
    down_since: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    used: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Known {
        schema: Arc<dyn WriterSchema>,
        bytes: usize,
    },
    /// The registry has it, but it cannot be used.
    Unusable(Arc<str>),
    /// Records wait.
    Awaited {
        since: Instant,
        until: Instant,
        failure: Option<Arc<str>>,
    },
    /// Records do not wait.
    Missing {
        reason: Arc<str>,
        again_at: Instant,
        is_requested: bool,
    },
}

impl State {
    fn bytes(&self) -> usize {
        if let Self::Known { bytes, .. } = self { *bytes } else { 0 }
    }

    fn is_requested(&self) -> bool {
        matches!(self, Self::Awaited { .. } | Self::Missing { is_requested: true, .. })
    }
}

/// What follows a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// `None`: not until a record needs it.
    pub(super) again_in: Option<Duration>,
    /// The first failure since the registry responded.
    pub(super) is_first: bool,
}

impl Cache {
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, entries: FxHashMap::default(), bytes: 0, down_since: None }
    }

    /// Changes how long records wait. What failed is requested again; if ids have other schemas, all are.
    pub(super) fn reconfigure(&mut self, wait: Duration, are_ids_the_same: bool) {
        self.wait = wait;
        self.down_since = None;
        self.entries.retain(|_, entry| {
            entry.state.is_requested() || are_ids_the_same && matches!(entry.state, State::Known { .. })
        });
        self.bytes = self.entries.values().map(|entry| entry.state.bytes()).sum();
    }

    /// The number of known schemas.
    pub(super) fn len(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.state, State::Known { .. })).count()
    }

    /// Looks a schema up. Returns also whether it has to be requested.
    pub(super) fn find(&mut self, key: Key, now: Instant) -> (Lookup, bool) {
        let Some(entry) = self.entries.get_mut(&key) else { return self.find_first(key, now) };
        entry.used = now;
        match &mut entry.state {
            State::Known { schema, .. } => (Lookup::Known(schema.clone()), false),
            State::Unusable(reason) => (Lookup::Unavailable(reason.clone()), false),
            State::Awaited { until, .. } if now < *until => (Lookup::Awaited, false),
            State::Awaited { failure, .. } => {
                let reason = failure.take().unwrap_or_else(|| no_answer(self.wait));
                entry.state = State::Missing { reason: reason.clone(), again_at: now, is_requested: true };
                (Lookup::Unavailable(reason), false)
            }
            State::Missing { reason, again_at, is_requested } => {
                let is_due = !*is_requested && now >= *again_at;
                *is_requested |= is_due;
                (Lookup::Unavailable(reason.clone()), is_due)
            }
        }
    }

    fn find_first(&mut self, key: Key, now: Instant) -> (Lookup, bool) {
        if !self.make_room() {
            return (Lookup::Unavailable("too many other schemas are being requested".into()), false);
        }
        let until = self.down_since.map_or(now, |since| since.min(now)) + self.wait;
        let (lookup, state) = if now < until {
            (Lookup::Awaited, State::Awaited { since: now, until, failure: None })
        } else {
            let reason = no_answer(self.wait);
            let state = State::Missing { reason: reason.clone(), again_at: now, is_requested: true };
            (Lookup::Unavailable(reason), state)
        };
        self.entries.insert(key, Entry { used: now, state });
        (lookup, true)
    }

    /// A request has succeeded. Returns whether the registry had not responded before.
    pub(super) fn obtained(
        &mut self,
        key: Key,
        compiled: Result<Arc<dyn WriterSchema>, String>,
        bytes: usize,
        now: Instant,
    ) -> bool {
        let state = match compiled {
            Ok(schema) => State::Known { schema, bytes },
            Err(reason) => State::Unusable(reason.into()),
        };
        self.bytes += state.bytes();
        if let Some(before) = self.entries.insert(key, Entry { used: now, state }) {
            self.bytes -= before.state.bytes();
        }
        while self.bytes > SCHEMA_TEXTS_BYTES_MAX && self.entries.len() > 1 && self.drop_oldest() {}
        self.down_since.take().is_some()
    }

    /// A request has failed; `is_unknown` if the registry does not know the schema.
    pub(super) fn failed(&mut self, key: Key, reason: &str, is_unknown: bool, now: Instant) -> Failed {
        let is_first = !is_unknown && self.down_since.is_none();
        match is_unknown {
            true => self.down_since = None,
            false => {
                self.down_since.get_or_insert(now);
            }
        }
        let none = Failed { again_in: None, is_first };
        let Some(entry) = self.entries.get_mut(&key) else { return none };
        let reason: Arc<str> = reason.into();
        if let State::Awaited { since, until, failure } = &mut entry.state {
            if is_unknown {
                *until = (*until).min(*since + UNKNOWN_WAIT);
            }
            if now + PAUSE < *until {
                *failure = Some(reason);
                return Failed { again_in: Some(PAUSE), is_first };
            }
        }
        entry.state = State::Missing { reason, again_at: now + MISSING_AGAIN, is_requested: false };
        none
    }

    /// Whether there is room for another entry.
    fn make_room(&mut self) -> bool {
        self.entries.len() < SCHEMAS_MAX || self.drop_oldest()
    }

    /// Drops the least recently used entry that is not being requested.
    fn drop_oldest(&mut self) -> bool {
        let settled = self.entries.iter().filter(|(_, entry)| !entry.state.is_requested());
        let oldest = settled.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
        let dropped = oldest.and_then(|key| self.entries.remove(&key));
        self.bytes -= dropped.as_ref().map_or(0, |entry| entry.state.bytes());
        dropped.is_some()
    }
}

fn no_answer(wait: Duration) -> Arc<str> {
    format!("the registry has not provided it within {wait:?}").into()
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

//! Counts the events of a topic that lack a declared key, and logs the first one for each key: clients that are bound to
//! the key do not receive these events.

use std::sync::Arc;

use prometheus::IntCounter;

use crate::event::Event;
use crate::metrics::Metrics;

/// One counter for each declared key.
#[derive(Debug)]
pub(super) struct MissingKeys(Vec<MissingKey>);

#[derive(Debug)]
struct MissingKey {
    key: Arc<str>,
    count: IntCounter,
    is_logged: bool,
}

impl MissingKeys {
    pub(super) fn new(topic: &str, keys: &[Arc<str>], metrics: &Metrics) -> Self {
        let of = |key: &Arc<str>| {
            let count = metrics.missing_keys.with_label_values(&[topic, &**key]);
            MissingKey { key: key.clone(), count, is_logged: false }
        };
        Self(keys.iter().map(of).collect())
    }

    /// Counts an event that lacks the keys with these indexes.
    pub(super) fn count(&mut self, event: &Event, missing: impl Iterator<Item = usize>) {
        for index in missing {
            let Some(missing) = self.0.get_mut(index) else { continue };
            missing.count.inc();
            if !missing.is_logged {
                missing.is_logged = true;
                let hint = "clients that are bound to the key do not receive such events; check `topics.*.map.keys`";
                tracing::warn!(place = %event.id, key = &*missing.key, hint, "event lacks a key");
            }
        }
    }
}

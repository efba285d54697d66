//! The command `get-status`: the newest event that a client may receive.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::admission::Rights;
use crate::codec::json;

use super::super::message::Command;
use super::super::{Request, Session, WriterContext};
use super::{Answer, internal, result};

/// The most events that `get-status` evaluates a rule for, and of the bytes of those before the last one.
const STATUS_EVENTS_MAX: usize = 256;
const STATUS_BYTES_MAX: usize = 1024 * 1024;

impl Session {
    /// The newest event in the window for the route's key, or for the resource.
    pub(super) fn status(&self, command: &Command, context: &WriterContext<'_>) -> Answer {
        let (route, Rights { selector, rule }) = match &command.resource {
            Some(resource) => self.resolve(resource)?,
            None => {
                let Request { route, selector, rule, .. } = &*self.request;
                (route.clone(), Rights { selector: selector.clone(), rule: rule.clone() })
            }
        };
        let selected = context.hub.newest_first(&route.stream).filter(|event| selector.matches(event));
        let mut looked_at = selected.take(STATUS_EVENTS_MAX).scan(0, |read, event| {
            let is_next = *read <= STATUS_BYTES_MAX;
            *read += event.envelope.len();
            is_next.then_some(event)
        });
        let newest = looked_at.find(|event| context.judge.allows(rule.as_ref(), event));
        let shown = match (newest, &route.fields) {
            (Some(event), Some(fields)) => fields.of(event).map(Arc::new),
            (newest, _) => newest.cloned(),
        };
        let body = shown.as_ref().map(|event| serde_json::from_slice::<&RawValue>(json::body(event, route.data)));
        result(&body.transpose().map_err(internal)?)
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

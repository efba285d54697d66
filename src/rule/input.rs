//! The values that rules read: claims, parameters of the path, and fields of events.

use serde::Serialize;
use serde_json::Value;

use crate::access::{Claims, Looked};
use crate::event::Event;
use crate::pointer::member;

/// The longest value that a rule reads, as JSON in bytes. A longer one is a failure, so that an event costs a bounded
/// time.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A value that a rule reads: `claims.org.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub root: Root,
    /// At least one name.
    pub path: Box<[Box<str>]>,
}

/// The variables of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The claims of the token.
    Claims,
    /// The parameters of the path.
    Path,
    /// The envelope.
    Event,
}

/// What was found at an input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Slot {
    Found(Value),
    /// The object has no such member.
    Missing,
    /// There is no object that could have it.
    NoObject,
    /// The value is longer than [`VALUE_BYTES_MAX`], cannot be read, or is a claim that was dropped.
    Unusable,
}

impl Slot {
    fn of(looked: Looked<'_>) -> Self {
        match looked {
            Looked::Found(value) => Self::Found(value.clone()),
            Looked::Missing => Self::Missing,
            Looked::NoObject => Self::NoObject,
            Looked::Unknown => Self::Unusable,
        }
    }
}

impl Input {
    pub(super) fn is_parameter(&self, name: &str) -> bool {
        self.root == Root::Path && matches!(&*self.path, [only] if **only == *name)
    }

    /// Its value, if it is one of the client.
    pub(super) fn of_client(&self, claims: Option<&Claims>, params: &[(Box<str>, Box<str>)]) -> Option<Slot> {
        match self.root {
            Root::Claims => Some(claims.map_or(Slot::NoObject, |claims| Slot::of(claims.look(&self.path)))),
            Root::Path => {
                let value = params.iter().find(|(name, _)| self.is_parameter(name)).map(|(_, value)| value);
                Some(value.map_or(Slot::Missing, |value| Slot::Found((**value).into())))
            }
            Root::Event => None,
        }
    }

    /// Its value, if it is one of the event.
    pub(super) fn of_event(&self, event: &Event) -> Option<Slot> {
        if self.root != Root::Event {
            return None;
        }
        let found = |value: Value| Some(Slot::Found(value));
        match &*self.path {
            [only] if **only == *"id" => found(event.id.to_string().into()),
            [only] if **only == *"ts" => found(event.ts.into()),
            [only] if **only == *"type" => found((*event.kind).into()),
            [first, rest @ ..] if **first == *"data" => Some(in_text(event.data(), rest)),
            path => Some(in_text(&event.envelope, path)),
        }
    }
}

/// Of a repeated name, the last one counts, as for readers of the event.
fn in_text(json: &[u8], path: &[Box<str>]) -> Slot {
    let Ok(mut text) = std::str::from_utf8(json) else { return Slot::Unusable };
    for (n, name) in path.iter().enumerate() {
        if !text.starts_with('{') {
            return Slot::NoObject;
        }
        match member(text, name) {
            Ok(Some(value)) => text = value.get(),
            Ok(None) if n + 1 == path.len() => return Slot::Missing,
            Ok(None) => return Slot::NoObject,
            Err(_) => return Slot::Unusable,
        }
    }
    if text.len() > VALUE_BYTES_MAX {
        return Slot::Unusable;
    }
    serde_json::from_str(text).map_or(Slot::Unusable, Slot::Found)
}

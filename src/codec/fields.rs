//! The fields of events that a route shows: those that a list keeps, or all except for those that a list drops.
//!
//! Fields are JSON pointers into the envelope. In an array, the token `*` stands for every element. `id`, `ts`, `type`
//! and `encoding` are always shown. `data` is always there: `null` if it is not shown.

use serde_json::value::RawValue;

use crate::event::Event;
use crate::pointer::{Pointer, elements, members};

/// The members of the envelope that are always shown, because the protocol depends on them.
pub const ALWAYS_SHOWN: [&str; 4] = ["id", "ts", "type", "encoding"];

/// The token that stands for every element of an array.
const ANY_ELEMENT: &str = "*";

/// Whether the listed fields are kept or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    Keep,
    Drop,
}

/// The shown fields of a route.
#[derive(Debug)]
pub struct Fields {
    /// Distinguishes encodings; not 0. Fields are equal exactly if their ids are.
    id: u32,
    choice: Choice,
    listed: Node,
}

/// The listed pointers that begin with the same tokens.
#[derive(Debug, Default)]
struct Node {
    /// Whether one of them ends here.
    is_listed: bool,
    next: Vec<(Box<str>, Node)>,
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Fields {
    /// `id` is not 0, and identifies the choice and the pointers.
    pub fn new(id: u32, choice: Choice, pointers: impl IntoIterator<Item = Pointer>) -> Self {
        let mut listed = Node::default();
        pointers.into_iter().for_each(|pointer| listed.add(&pointer));
        Self { id, choice, listed }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// The event with the shown fields only. `None` if its names cannot be compared, because one is not Unicode: then
    /// nothing of it may be shown.
    pub fn of(&self, event: &Event) -> Option<Event> {
        let envelope = std::str::from_utf8(&event.envelope).ok()?;
        let mut writer = Writer { choice: self.choice, out: Vec::with_capacity(envelope.len()), is_failed: false };
        let mut payload = 0..0;
        writer.out.push(b'{');
        let read = members(envelope, |name, value| {
            let nodes = self.listed.member(&name);
            let is_shown = ALWAYS_SHOWN.contains(&&*name) || writer.shows(value, &nodes);
            let is_data = *name == *"data";
            if !is_shown && !is_data {
                return;
            }
            writer.name(&name);
            let start = writer.out.len();
            match is_shown {
                true => writer.value(value, &nodes),
                false => writer.out.extend_from_slice(b"null"),
            }
            if is_data {
                payload = start..writer.out.len();
            }
        });
        writer.out.push(b'}');
        (read.is_ok() && !writer.is_failed).then(|| event.with_envelope(writer.out.into(), payload))
    }
}

impl Node {
    fn add(&mut self, tokens: &[Box<str>]) {
        let Some((token, rest)) = tokens.split_first() else {
            self.is_listed = true;
            return;
        };
        let at = self.next.iter().position(|(known, _)| known == token).unwrap_or_else(|| {
            self.next.push((token.clone(), Self::default()));
            self.next.len() - 1
        });
        self.next[at].1.add(rest);
    }

    /// The nodes of a member: none or one.
    fn member(&self, name: &str) -> Vec<&Self> {
        self.next.iter().filter(|(token, _)| **token == *name).map(|(_, node)| node).collect()
    }

    /// The nodes of an element: those of its index, and of any element.
    fn element(&self, index: usize) -> impl Iterator<Item = &Self> {
        let is_its = move |token: &str| token == ANY_ELEMENT || token == index.to_string();
        self.next.iter().filter(move |(token, _)| is_its(token)).map(|(_, node)| node)
    }
}

/// Writes the shown parts of a value. The nodes of a value are those that its pointer leads to.
struct Writer {
    choice: Choice,
    out: Vec<u8>,
    is_failed: bool,
}

impl Writer {
    /// Whether anything of the value is shown.
    fn shows(&self, value: &RawValue, nodes: &[&Node]) -> bool {
        let is_listed = nodes.iter().any(|node| node.is_listed);
        let has_parts = !nodes.is_empty() && value.get().starts_with(['{', '[']);
        match self.choice {
            Choice::Keep => is_listed || has_parts,
            Choice::Drop => !is_listed,
        }
    }

    fn value(&mut self, value: &RawValue, nodes: &[&Node]) {
        let is_listed = nodes.iter().any(|node| node.is_listed);
        let text = value.get();
        let read = if nodes.is_empty() || is_listed {
            self.out.extend_from_slice(text.as_bytes());
            Ok(())
        } else if text.starts_with('{') {
            self.object(text, nodes)
        } else if text.starts_with('[') {
            self.array(text, nodes)
        } else {
            self.out.extend_from_slice(text.as_bytes());
            Ok(())
        };
        self.is_failed |= read.is_err();
    }

    fn object(&mut self, text: &str, nodes: &[&Node]) -> serde_json::Result<()> {
        self.out.push(b'{');
        members(text, |name, value| {
            let nodes: Vec<&Node> = nodes.iter().flat_map(|node| node.member(&name)).collect();
            if self.shows(value, &nodes) {
                self.name(&name);
                self.value(value, &nodes);
            }
        })?;
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, text: &str, nodes: &[&Node]) -> serde_json::Result<()> {
        self.out.push(b'[');
        let mut index = 0;
        elements(text, |value| {
            let nodes: Vec<&Node> = nodes.iter().flat_map(|node| node.element(index)).collect();
            if self.shows(value, &nodes) {
                self.separate();
                self.value(value, &nodes);
            }
            index += 1;
        })?;
        self.out.push(b']');
        Ok(())
    }

    fn name(&mut self, name: &str) {
        self.separate();
        // Writing a string to a vector cannot fail.
        let _ = serde_json::to_writer(&mut self.out, name);
        self.out.push(b':');
    }

    /// A comma, unless this is the first part of its object or array.
    fn separate(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;

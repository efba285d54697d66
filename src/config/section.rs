//! Reads the keys of one mapping, each by name and type, and reports invalid values with their position.
//!
//! An error does not stop the compiler: it is reported, and the key counts as absent. When a section is dropped, it
//! reports the keys that were not read.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::{Diagnostics, alternatives, did_you_mean};
use super::file::{Name, Node, Place, Value};
use super::units::{parse_duration, parse_size, write_duration, write_size};

/// A mapping, and which of its keys have been read.
pub(super) struct Section<'a> {
    /// The path for messages, without list indexes: `routes.queue`. Empty for the whole file.
    path: String,
    entries: &'a [(Name, Node)],
    place: Place,
    /// The node is not a mapping, which was reported: no key counts as missing.
    is_mistaken: bool,
    asked: RefCell<Vec<&'static str>>,
    diagnostics: &'a Diagnostics,
}

impl<'a> Section<'a> {
    /// The section in this node; empty if the node is empty or not a mapping.
    pub(super) fn open(path: &str, node: &'a Node, diagnostics: &'a Diagnostics) -> Self {
        let mut section = Self::empty(path, node.place, diagnostics);
        match &node.value {
            Value::Map(entries) => section.entries = entries,
            Value::Nothing => {}
            _ => {
                let subject = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
                diagnostics.expected(node.place, format!("{subject}found {}", node.describe()), "a mapping of keys");
                section.is_mistaken = true;
            }
        }
        section.report_repetitions(section.entries);
        section
    }

    /// The section under this key; empty if it is absent.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let path = self.path_of(key);
        match self.get(key) {
            Some(node) => Self::open(&path, node, self.diagnostics),
            None => Self::empty(&path, self.place, self.diagnostics),
        }
    }

    fn empty(path: &str, place: Place, diagnostics: &'a Diagnostics) -> Self {
        let asked = RefCell::default();
        Self { path: path.into(), entries: &[], place, is_mistaken: false, asked, diagnostics }
    }

    /// The position of the key's value, or of the section if it is absent.
    pub(super) fn place_of(&self, key: &'static str) -> Place {
        self.get(key).map_or(self.place, |node| node.place)
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Reports a required key that is absent.
    pub(super) fn require(&self, key: &'static str, meaning: &str) {
        if !self.has(key) && !self.is_mistaken {
            self.diagnostics.wrong(self.place, format!("`{}` is missing: {meaning}", self.path_of(key)));
        }
    }

    /// The value of a key as written. `key:` without a value counts as absent.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        let node = self.entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| node);
        node.filter(|node| !matches!(node.value, Value::Nothing))
    }

    /// The value of a key, converted by `read`.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        expected: impl Display,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        let value = read(&node.value);
        // Placeholders have been reported.
        if value.is_none() && !node.is_placeholder() {
            self.reject(key, node, expected);
        }
        value
    }

    /// Reports that the value of a key, or an element of it, is invalid.
    pub(super) fn reject(&self, key: &str, node: &Node, expected: impl Display) {
        let message = format!("`{}`: found {}", self.path_of(key), node.describe());
        self.diagnostics.expected(node.place, message, expected.to_string());
    }

    /// The elements of a list; none if it is absent.
    pub(super) fn list(&self, key: &'static str) -> &'a [Node] {
        let list = self.read(key, "a list", |value| match value {
            Value::List(list) => Some(&list[..]),
            _ => None,
        });
        list.unwrap_or_default()
    }

    /// The entries of a mapping with user-defined keys.
    pub(super) fn entries(&self, key: &'static str) -> &'a [(Name, Node)] {
        let entries = self.read(key, "a mapping", |value| match value {
            Value::Map(entries) => Some(&entries[..]),
            _ => None,
        });
        let entries = entries.unwrap_or_default();
        self.report_repetitions(entries);
        entries
    }

    pub(super) fn text(&self, key: &'static str, expected: &str) -> Option<&'a str> {
        self.read(key, expected, text)
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        self.read(key, "`true` or `false`", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// An address to listen on; port 0 selects a free one.
    pub(super) fn address(&self, key: &'static str) -> Option<SocketAddr> {
        self.read(key, "an IP address and a port such as `0.0.0.0:8080`", |value| text(value)?.parse().ok())
    }

    /// A value from a fixed set.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.read(key, alternatives(choices.iter().map(|(name, _)| *name)), |value| {
            let written = text(value)?;
            choices.iter().find(|(name, _)| *name == written).map(|(_, choice)| *choice)
        })
    }

    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let [low, high] = [*range.start(), *range.end()].map(write_duration);
        let expected = format!("a duration with its unit (ms, s, m, h) between {low} and {high}");
        self.read(key, expected, |value| parse_duration(text(value)?).filter(|duration| range.contains(duration)))
    }

    /// A size in bytes.
    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        let [low, high] = [*range.start(), *range.end()].map(write_size);
        let expected = format!("a size (bytes, or with KiB, MiB, GiB, KB, MB, GB) between {low} and {high}");
        self.read(key, expected, |value| {
            let bytes = match value {
                Value::Integer(number) => u64::try_from(*number).ok()?,
                _ => parse_size(text(value)?)?,
            };
            usize::try_from(bytes).ok().filter(|_| range.contains(&bytes))
        })
    }

    /// A plain number.
    pub(super) fn count(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("a whole number between {} and {}", range.start(), range.end());
        self.read(key, expected, |value| match value {
            Value::Integer(number) => u32::try_from(*number).ok().filter(|number| range.contains(number)),
            _ => None,
        })
    }

    /// A number between 0 and 1.
    pub(super) fn share(&self, key: &'static str) -> Option<f64> {
        self.read(key, "a number between 0 and 1", |value| match value {
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::Fraction(share) => Some(*share).filter(|share| (0.0..=1.0).contains(share)),
            _ => None,
        })
    }

    /// The key with the section's path, for messages.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    fn report_repetitions(&self, entries: &[(Name, Node)]) {
        for (index, (name, _)) in entries.iter().enumerate() {
            if entries[..index].iter().any(|(earlier, _)| earlier.text == name.text) {
                self.diagnostics.wrong(name.place, format!("`{}` is given twice", name.text));
            }
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let mut known = std::mem::take(&mut *self.asked.borrow_mut());
        known.sort_unstable();
        known.dedup();
        #[cfg(test)]
        for key in &known {
            let is_there = self.entries.iter().any(|(name, _)| name.text == *key);
            *self.diagnostics.asked.borrow_mut().entry(self.path_of(key)).or_default() |= is_there;
        }
        for (name, _) in self.entries.iter().filter(|(name, _)| !known.contains(&name.text.as_str())) {
            let written = self.path_of(&name.text);
            let hint = did_you_mean(&name.text, known.iter().copied());
            let expected = alternatives(known.iter().copied());
            self.diagnostics.expected(name.place, format!("unknown key `{written}`{hint}"), expected);
        }
    }
}

/// A string. Numbers and booleans are not accepted: YAML may have changed their spelling.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

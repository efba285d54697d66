//! Reads the keys of one mapping, each by its description in `keys/`, and reports invalid values with their position.
//!
//! An error does not stop the compiler: it is reported, and the key counts as absent. When a section is dropped, it
//! reports the keys that were not read.

use std::cell::RefCell;
use std::fmt::Display;

use super::diagnostic::{Diagnostics, alternatives, did_you_mean};
use super::file::{Name, Node, Place, Value};
use super::keys::{Entry, Key, Kind, List, Mixed, Required, Scalar, Sub, Text, Valued};

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

    /// The section under this key; empty if it is absent. Open each section once: when the value is dropped, keys that it
    /// did not read are reported as unknown.
    pub(super) fn section<D>(&self, key: &Key<Sub, D>) -> Self
    where
        Key<Sub, D>: Entry,
    {
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
    pub(super) fn place_of(&self, key: &dyn Entry) -> Place {
        self.get(key).map_or(self.place, |node| node.place)
    }

    pub(super) fn has(&self, key: &dyn Entry) -> bool {
        self.get(key).is_some()
    }

    /// Reports a required key that is absent.
    pub(super) fn require<K: Kind>(&self, key: &Key<K, Required>) {
        self.require_as(key, key.default.0);
    }

    /// Reports an absent key that is required here.
    pub(super) fn require_as(&self, key: &dyn Entry, meaning: &str) {
        if !self.has(key) && !self.is_mistaken {
            self.diagnostics.wrong(self.place, format!("`{}` is missing: {meaning}", self.path_of(key)));
        }
    }

    /// The value of a key as written. `key:` without a value counts as absent.
    pub(super) fn get(&self, key: &dyn Entry) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key.name());
        let node = self.entries.iter().find(|(name, _)| name.text == key.name()).map(|(_, node)| node);
        node.filter(|node| !matches!(node.value, Value::Nothing))
    }

    /// The value of a key, or its default.
    pub(super) fn value<K: Scalar, D: Valued<K::Value>>(&self, key: &Key<K, D>) -> K::Value
    where
        Key<K, D>: Entry,
    {
        self.written(key).unwrap_or_else(|| key.default.value())
    }

    /// The value of a key, if it is present.
    pub(super) fn written<K: Scalar, D>(&self, key: &Key<K, D>) -> Option<K::Value>
    where
        Key<K, D>: Entry,
    {
        self.read(key, key.kind.expected(), |value| key.kind.read(value))
    }

    /// The text of a key, if it is present.
    pub(super) fn text<D>(&self, key: &Key<Text, D>) -> Option<&'a str>
    where
        Key<Text, D>: Entry,
    {
        self.parse(key, Some)
    }

    /// The text of a key, converted by `parse`.
    pub(super) fn parse<T, D>(&self, key: &Key<Text, D>, parse: impl Fn(&'a str) -> Option<T>) -> Option<T>
    where
        Key<Text, D>: Entry,
    {
        self.parse_as(key, key.kind.expected, parse)
    }

    /// The text of a key where something else is expected than its description says.
    pub(super) fn parse_as<T>(
        &self,
        key: &dyn Entry,
        expected: &str,
        parse: impl Fn(&'a str) -> Option<T>,
    ) -> Option<T> {
        self.read(key, expected, |value| parse(text(value)?))
    }

    /// A value of several types, converted by `read`.
    pub(super) fn mixed<T, D>(&self, key: &Key<Mixed, D>, read: impl Fn(&'a Value) -> Option<T>) -> Option<T>
    where
        Key<Mixed, D>: Entry,
    {
        self.read(key, key.kind.expected, read)
    }

    fn read<T>(&self, key: &dyn Entry, expected: impl Display, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let node = self.get(key)?;
        let value = read(&node.value);
        if value.is_none() {
            self.reject(key, node, expected);
        }
        value
    }

    /// Reports that the value of a key, or an element of it, is invalid. Placeholders have been reported.
    pub(super) fn reject(&self, key: &dyn Entry, node: &Node, expected: impl Display) {
        if node.is_placeholder() {
            return;
        }
        let message = format!("`{}`: found {}", self.path_of(key), node.describe());
        self.diagnostics.expected(node.place, message, expected.to_string());
    }

    /// The elements of a list; none if it is absent.
    pub(super) fn list(&self, key: &dyn Entry) -> &'a [Node] {
        let list = self.read(key, "a list", |value| match value {
            Value::List(list) => Some(&list[..]),
            _ => None,
        });
        list.unwrap_or_default()
    }

    /// A list of distinct texts that satisfy `is_good`. `reason` may explain an invalid one.
    pub(super) fn texts<D>(
        &self,
        key: &Key<List, D>,
        is_good: fn(&str) -> bool,
        reason: fn(&str) -> Option<&'static str>,
    ) -> Box<[Box<str>]>
    where
        Key<List, D>: Entry,
    {
        let mut good: Vec<Box<str>> = Vec::new();
        for node in self.list(key) {
            let written = text(&node.value).unwrap_or_default();
            if !is_good(written) {
                match reason(written) {
                    Some(reason) => self.diagnostics.expected(node.place, reason, key.kind.expected),
                    None => self.reject(key, node, key.kind.expected),
                }
            } else if good.iter().any(|earlier| **earlier == *written) {
                self.diagnostics.wrong(node.place, format!("`{written}` is listed twice"));
            } else {
                good.push(written.into());
            }
        }
        good.into()
    }

    /// The entries of a mapping with user-defined keys.
    pub(super) fn entries(&self, key: &dyn Entry) -> &'a [(Name, Node)] {
        let entries = self.read(key, "a mapping", |value| match value {
            Value::Map(entries) => Some(&entries[..]),
            _ => None,
        });
        let entries = entries.unwrap_or_default();
        self.report_repetitions(entries);
        entries
    }

    /// The key with the section's path, for messages.
    pub(super) fn path_of(&self, key: &dyn Entry) -> String {
        self.path_below(key.name())
    }

    fn path_below(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
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
            *self.diagnostics.asked.borrow_mut().entry(self.path_below(key)).or_default() |= is_there;
        }
        for (name, _) in self.entries.iter().filter(|(name, _)| !known.contains(&name.text.as_str())) {
            let written = self.path_below(&name.text);
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

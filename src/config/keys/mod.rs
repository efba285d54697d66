//! Every key of the configuration, described once: its name, its kind with the valid range, its default, whether a
//! reload applies a change of it, and its meaning.
//!
//! The compiler reads values through these descriptions. The JSON Schema, the tables of docs/configuration.md, what
//! needs a restart, and which values may be secrets follow from them, as does a line of the example. A new key is one entry here and its use in
//! `compile/`; tests name what is missing.
//!
//! A limit of one part belongs to the section of this part, those of clients and of the process to `limits`. A range ends
//! with the largest value for which `budget.rs` is still right.

mod auth;
mod collections;
mod kafka;
mod kind;
mod limits;
mod process;
mod registry;
mod root;
mod routes;
#[cfg(test)]
mod tests;
mod tls;
mod topics;

pub(super) use auth::*;
pub(super) use collections::*;
pub(super) use kafka::*;
pub(super) use kind::*;
pub(super) use limits::*;
pub(super) use process::*;
pub(super) use registry::*;
pub(super) use root::*;
pub(super) use routes::*;
pub(super) use tls::*;
pub(super) use topics::*;

use serde_json::{Value as Json, json};

/// A key: how it is written, what holds without it, and its meaning.
pub(super) struct Key<K, D> {
    name: &'static str,
    pub(super) kind: K,
    pub(super) default: D,
    change: Change,
    meaning: &'static str,
}

/// A key whose default is a value.
pub(super) type Defaulted<K> = Key<K, Is<<K as Kind>::Value>>;
/// A key without a default value.
pub(super) type Optional<K> = Key<K, Absent>;

impl<K, D> Key<K, D> {
    /// `meaning` is Markdown, a phrase or sentences without the last full stop. Links are relative to `docs/`.
    pub(super) const fn new(name: &'static str, kind: K, default: D, change: Change, meaning: &'static str) -> Self {
        Self { name, kind, default, change, meaning }
    }
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A reload applies it: each request, connection or stream reads it from its snapshot.
    Live,
    /// It is read once, at start.
    Restart,
}

/// The key must be present; the text says what it is.
pub(super) struct Required(pub(super) &'static str);
/// The key may be absent; the text says what holds then.
pub(super) struct Absent(pub(super) &'static str);
/// The value of an absent key.
pub(super) struct Is<V>(pub(super) V);
/// The value of an absent key, which depends on other keys or is valid only beside others: it is not written out. The
/// text says when it holds.
pub(super) struct Usually<V>(pub(super) V, pub(super) &'static str);

/// What holds if a key is absent.
pub(super) trait Default<K: Kind>: Sync {
    /// The value to write out.
    fn written(&self, _kind: &K) -> Option<Json> {
        None
    }

    /// What the reference says.
    fn description(&self, kind: &K) -> String;

    fn is_required(&self) -> bool {
        false
    }
}

/// A default that the compiler can use as a value.
pub(super) trait Valued<V> {
    fn value(&self) -> V;
}

impl<K: Kind> Default<K> for Required {
    fn description(&self, _kind: &K) -> String {
        "required".into()
    }

    fn is_required(&self) -> bool {
        true
    }
}

impl<K: Kind> Default<K> for Absent {
    fn description(&self, _kind: &K) -> String {
        self.0.into()
    }
}

impl<K: Kind> Default<K> for Is<K::Value>
where
    K::Value: Sync,
{
    fn written(&self, kind: &K) -> Option<Json> {
        Some(kind.write(&self.0))
    }

    fn description(&self, kind: &K) -> String {
        shown(&kind.write(&self.0))
    }
}

impl<K: Kind> Default<K> for Usually<K::Value>
where
    K::Value: Sync,
{
    fn description(&self, kind: &K) -> String {
        format!("{}{}", shown(&kind.write(&self.0)), self.1)
    }
}

impl<V: Copy> Valued<V> for Is<V> {
    fn value(&self) -> V {
        self.0
    }
}

impl<V: Copy> Valued<V> for Usually<V> {
    fn value(&self) -> V {
        self.0
    }
}

/// A key, whatever its type.
pub(super) trait Entry: Sync {
    fn name(&self) -> &'static str;
    /// The type in the reference, with the range.
    fn type_name(&self) -> String;
    fn change(&self) -> Change;
    fn meaning(&self) -> &'static str;
    fn secrecy(&self) -> Secrecy;
    fn is_required(&self) -> bool;
    /// What the reference says of an absent key.
    fn default(&self) -> String;
    /// The value that is written out for an absent key.
    fn written_default(&self) -> Option<Json>;
    /// The keys below.
    fn table(&self) -> Option<&'static Table>;
    /// The JSON Schema of its value, without annotations.
    fn value_schema(&self) -> Json;
}

impl<K: Kind, D: Default<K>> Entry for Key<K, D> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn type_name(&self) -> String {
        self.kind.type_name()
    }

    fn change(&self) -> Change {
        self.change
    }

    fn meaning(&self) -> &'static str {
        self.meaning
    }

    fn secrecy(&self) -> Secrecy {
        self.kind.secrecy()
    }

    fn is_required(&self) -> bool {
        self.default.is_required()
    }

    fn default(&self) -> String {
        self.default.description(&self.kind)
    }

    fn written_default(&self) -> Option<Json> {
        self.default.written(&self.kind)
    }

    fn table(&self) -> Option<&'static Table> {
        self.kind.table()
    }

    fn value_schema(&self) -> Json {
        self.kind.schema()
    }
}

/// The JSON Schema of a key.
fn schema(key: &dyn Entry) -> Json {
    let mut schema = or_variable(key.value_schema());
    let mut description = format!("{} Type: {}.", sentence(key.meaning()), key.type_name());
    match key.written_default() {
        Some(default) => schema["default"] = default,
        None if key.is_required() => {}
        None => description += &format!(" Default: {}.", plain(&key.default())),
    }
    if key.change() == Change::Restart {
        description += " A change needs a restart.";
    }
    schema["description"] = json!(description);
    schema
}

/// The schema of a single value, in whose place the file may have environment variables.
fn or_variable(schema: Json) -> Json {
    let is_collection = ["array", "object"].iter().any(|name| schema["type"] == *name);
    if is_collection || schema == json!({ "type": "string" }) {
        return schema;
    }
    json!({ "anyOf": [schema, { "$ref": "#/$defs/variable" }] })
}

/// The keys of a section.
pub(super) struct Table {
    pub(super) keys: &'static [&'static dyn Entry],
    /// A section whose keys may be written here, too.
    pub(super) includes: Option<&'static Table>,
    /// What a JSON Schema adds about keys that depend on each other.
    pub(super) rules: fn() -> Json,
}

impl Table {
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static dyn Entry> {
        let included = self.includes.map_or(&[][..], |table| table.keys);
        included.iter().chain(self.keys).copied()
    }

    /// The JSON Schema of a section with these keys.
    pub(super) fn schema(&self) -> Json {
        let properties: serde_json::Map<_, _> = self.keys().map(|key| (key.name().to_owned(), schema(key))).collect();
        let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
        let required: Vec<&str> = self.keys().filter(|key| key.is_required()).map(|key| key.name()).collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if let Json::Object(rules) = (self.rules)() {
            rules.into_iter().for_each(|(name, rule)| schema[name] = rule);
        }
        schema
    }
}

/// Declares the keys of a section and their table.
macro_rules! table {
    ($table:ident $(includes $included:ident)? $(rules $rules:ident)? {
        $($name:ident: $type:ty = ($($part:expr),+ $(,)?);)+
    }) => {
        $(pub(in crate::config) static $name: $type = <$type>::new($($part),+);)+

        pub(in crate::config) static $table: $crate::config::keys::Table = $crate::config::keys::Table {
            keys: &[$(&$name),+],
            includes: table!(@included $($included)?),
            rules: table!(@rules $($rules)?),
        };
    };
    (@included $included:ident) => { Some(&$included) };
    (@included) => { None };
    (@rules $rules:ident) => { $rules };
    (@rules) => { || serde_json::Value::Null };
}
use table;

/// The key at this path without the names of users, such as `limits.streams` and `topics.replay`.
pub(super) fn find(path: &str) -> Option<&'static dyn Entry> {
    let (mut table, mut found) = (Some(&ROOT), None);
    for name in path.split('.') {
        let key = table?.keys().find(|key| key.name() == name)?;
        (table, found) = (key.table(), Some(key));
    }
    found
}

/// The names of keys whose values are secrets, or where a secret could replace the name of its file.
pub(super) fn secret_names() -> Vec<&'static str> {
    fn add(table: &Table, names: &mut Vec<&'static str>) {
        for key in table.keys() {
            if key.secrecy() != Secrecy::Open {
                names.push(key.name());
            }
            key.table().into_iter().for_each(|inner| add(inner, names));
        }
    }
    let mut names = Vec::new();
    add(&ROOT, &mut names);
    names
}

/// A default in the reference.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => format!("`{text}`"),
        Json::Array(items) if items.is_empty() => "none".into(),
        Json::Object(entries) if entries.is_empty() => "none".into(),
        Json::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Json::as_str).collect();
            format!("`[{}]`", items.join(", "))
        }
        value => format!("`{value}`"),
    }
}

/// Markdown as plain text with a capital letter and a full stop.
fn sentence(markdown: &str) -> String {
    let text = plain(markdown);
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    let end = if text.ends_with('.') { "" } else { "." };
    first.into_iter().chain(chars).chain(end.chars()).collect()
}

/// Markdown without its links.
fn plain(markdown: &str) -> String {
    let Some((before, link)) = markdown.split_once("](") else { return markdown.into() };
    let (before, label) = before.rsplit_once('[').unwrap_or(("", before));
    let (_, behind) = link.split_once(')').unwrap_or_default();
    format!("{before}{label}{}", plain(behind))
}

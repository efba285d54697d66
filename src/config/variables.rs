//! Environment variables in values: `${NAME}`, and `${NAME:-default}` where the variable is unset or empty. `$${` stands
//! for `${`.
//!
//! They replace text within values of the parsed tree, so that a variable cannot add keys, end a value or open a
//! comment. Keys and comments have none. A replacement is not examined again.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;

use super::diagnostic::Diagnostics;
use super::file::{Node, Place, Value};
use super::secrets::mentions_secret;

/// The most bytes of all values of a configuration in which variables were replaced.
const REPLACED_BYTES_MAX: usize = super::CONFIG_BYTES_MAX as usize;

const FORMS: &str = "`${NAME}` or `${NAME:-default}`, or `$${` for the text `${`";

/// A variable in a value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// The place of its `$`: 1-based, the column in characters.
    pub line: u64,
    pub column: u64,
    /// Whether it is set; otherwise its default is used.
    pub is_set: bool,
    /// `None` if the value may be a secret.
    pub value: Option<String>,
}

impl Variable {
    pub(super) fn mentions_secret(&self) -> bool {
        mentions_secret(&self.name)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, line, column, is_set, value } = self;
        write!(f, "{line}:{column}: ${{{name}}} is ")?;
        match value {
            Some(value) => write!(f, "{value:?}")?,
            None => f.write_str("(redacted)")?,
        }
        f.write_str(if *is_set { ", from the environment" } else { ", the default" })
    }
}

/// Replaces the variables in all values. `text` is the file, and `environment` looks a variable up.
pub(super) fn replace(
    root: &mut Node,
    text: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
    diagnostics: &Diagnostics,
) {
    let mut replacer = Replacer { text, environment, diagnostics, bytes_left: REPLACED_BYTES_MAX };
    replacer.node(root);
}

/// The variables of all values, in the order of the file. Those of an anchor are listed once.
pub(super) fn list(root: &Node) -> Vec<Variable> {
    fn collect(node: &Node, found: &mut Vec<Variable>) {
        match &node.value {
            Value::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, found)),
            Value::List(items) => items.iter().for_each(|item| collect(item, found)),
            _ => found.extend(node.variables.iter().map(|variable| Variable {
                value: variable.value.clone().filter(|_| !node.is_secret),
                ..variable.clone()
            })),
        }
    }
    let mut found = Vec::new();
    collect(root, &mut found);
    found.sort_by_key(|variable| (variable.line, variable.column));
    found.dedup_by_key(|variable| (variable.line, variable.column));
    found
}

struct Replacer<'a> {
    text: &'a str,
    environment: &'a dyn Fn(&str) -> Option<OsString>,
    diagnostics: &'a Diagnostics,
    bytes_left: usize,
}

impl Replacer<'_> {
    /// The depth is limited, because that of the tree is.
    fn node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Map(entries) => {
                for (name, value) in entries {
                    if name.text.contains("${") {
                        self.diagnostics.wrong(name.place, "a key cannot contain a variable");
                    }
                    self.node(value);
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.node(item)),
            Value::Text(written) if written.contains("${") => {
                let written = std::mem::take(written);
                node.value = Value::Text(self.scalar(node, &written));
                let is_quoted = self.text.get(node.bytes.start..).is_some_and(|text| text.starts_with(['"', '\'']));
                if !node.variables.is_empty() && !is_quoted {
                    resolve(&mut node.value);
                }
            }
            _ => {}
        }
    }

    /// The text with its variables replaced. An invalid variable is reported and left out.
    fn scalar(&mut self, node: &mut Node, written: &str) -> String {
        let (mut out, mut rest) = (String::new(), written);
        let mut places = self.places(node);
        while let Some((before, behind)) = rest.split_once("${") {
            let place = places.next().unwrap_or(node.defined);
            if let Some(before) = before.strip_suffix('$') {
                out += before;
                out += "${";
                rest = behind;
                continue;
            }
            out += before;
            let Some((reference, after)) = behind.split_once('}') else {
                self.diagnostics.expected(place, "`${` without `}`", FORMS);
                return out;
            };
            rest = after;
            if let Some(variable) = self.variable(reference, place) {
                out += variable.value.as_deref().unwrap_or_default();
                node.variables.push(variable);
            }
        }
        out += rest;
        out
    }

    fn variable(&mut self, reference: &str, place: Place) -> Option<Variable> {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) || default.is_some_and(|default| default.contains("${")) {
            self.diagnostics.expected(place, "this is not a variable", FORMS);
            return None;
        }
        let set = (self.environment)(name).filter(|value| default.is_none() || !value.is_empty());
        let is_set = set.is_some();
        let value: Cow<'_, str> = match (&set, default) {
            (Some(value), None) if value.is_empty() => {
                let message = format!("the environment variable `{name}` is empty");
                self.diagnostics.expected(place, message, format!("a value, or an empty default: `${{{name}:-}}`"));
                return None;
            }
            (Some(value), _) => match value.to_str() {
                Some(value) => value.into(),
                None => {
                    self.diagnostics.wrong(place, format!("the environment variable `{name}` is not UTF-8"));
                    return None;
                }
            },
            (None, Some(default)) => default.into(),
            (None, None) => {
                let message = format!("the environment variable `{name}` is not set");
                self.diagnostics.expected(place, message, format!("a value, or a default: `${{{name}:-...}}`"));
                return None;
            }
        };
        if value.len() > self.bytes_left {
            self.diagnostics.wrong(place, format!("variables have more than {REPLACED_BYTES_MAX} bytes in total"));
            return None;
        }
        self.bytes_left -= value.len();
        let Place { line, column } = place;
        Some(Variable { name: name.into(), line, column, is_set, value: Some(value.into()) })
    }

    /// The places of `${` in a value as it is written.
    fn places(&self, node: &Node) -> impl Iterator<Item = Place> + use<> {
        let written = self.text.get(node.bytes.clone()).unwrap_or_default();
        let places: Vec<Place> =
            written.match_indices("${").map(|(at, _)| below(node.defined, &written[..at])).collect();
        places.into_iter()
    }
}

/// The place behind this text, which begins at `start`.
fn below(start: Place, text: &str) -> Place {
    let chars = |text: &str| text.chars().count() as u64;
    match text.rsplit_once('\n') {
        Some((before, last)) => {
            Place { line: start.line + before.matches('\n').count() as u64 + 1, column: chars(last) + 1 }
        }
        None => Place { line: start.line, column: start.column + chars(text) },
    }
}

/// Gives a value without quotes its type: a flag or a decimal number. Everything else is text, because a name such as
/// `12e4567` should not depend on its digits.
fn resolve(value: &mut Value) {
    let Value::Text(text) = &value else { return };
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_canonical = is_decimal && (!digits.starts_with('0') || digits == "0" || digits.starts_with("0."));
    *value = match text.as_str() {
        "" => Value::Nothing,
        "true" => Value::Flag(true),
        "false" => Value::Flag(false),
        _ if !is_canonical => return,
        text => match (text.parse(), text.parse()) {
            (Ok(number), _) => Value::Integer(number),
            (_, Ok(number)) => Value::Fraction(number),
            _ => return,
        },
    };
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;

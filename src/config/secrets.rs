//! Which values of a configuration may be secrets, wherever they are written: no message and no excerpt shows one.
//!
//! A value may be a secret below a key that holds secrets or names their files, below an unknown key (unless it is a
//! typo of a harmless one), and in place of a section. The decision depends on names and positions, never on the value
//! itself, except for texts that contain such a name.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value as Json;

use super::file::{Node, Place, Value};
use super::keys::secret_names;
use super::nearest::nearest;
use super::schema::{PARSED, resolve};
use super::variables::Variable;

/// Parts of names that indicate a secret, in lower case.
const PARTS: [&str; 9] = ["pass", "pwd", "secret", "token", "credential", "jaas", "apikey", "privatekey", "sasl"];
/// Whole words of names that mean one.
const WORDS: [&str; 4] = ["pw", "pem", "ssl", "key_file"];
/// Words whose typos are recognized, up to an edit distance of [`EDITS_MAX`].
const MISSPELLED: [&str; 5] = ["password", "passphrase", "secret", "credentials", "properties"];
const EDITS_MAX: usize = 2;
/// Keys whose values are secrets, or where a secret could replace the name of its file.
static HOLDERS: LazyLock<Vec<&'static str>> = LazyLock::new(secret_names);

/// Whether a text contains the name of a secret, a typo of one, or a URL with credentials (RFC 3986 section 3.2.1).
pub(super) fn mentions_secret(text: &str) -> bool {
    if text.split_once("://").is_some_and(|(_, rest)| rest.contains('@')) {
        return true;
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).any(|word| {
        let plain: String = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let lower = word.to_lowercase();
        PARTS.iter().any(|part| plain.contains(part))
            || WORDS.contains(&&*lower)
            || lower.split(['_', '-']).any(|word| WORDS.contains(&word))
            || MISSPELLED.iter().any(|name| strsim::damerau_levenshtein(name, &plain) <= EDITS_MAX)
    })
}

/// Removes from a key what may be a value without a space before it (`{ password:x }`). No valid key has such a name,
/// so that valid configurations stay unchanged.
fn cut(name: &mut String) {
    let is_sound = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(end) = name.find(|c| !is_sound(c)).filter(|_| mentions_secret(name)) {
        name.replace_range(end.., "...");
    }
}

/// Marks the values of a configuration that may be secrets, and removes them from keys.
pub(super) fn mark(root: &mut Node) {
    mark_below(root, &PARSED, false);
    let mut anchored = BTreeSet::new();
    collect(root, &mut |node| {
        anchored.insert((node.defined.line, node.defined.column));
    });
    mark_anchored(root, &anchored);
}

/// The lines of `text` with values that may be secrets.
pub(super) fn lines(root: &Node, text: &str) -> BTreeSet<u64> {
    let mut lines = BTreeSet::new();
    collect(root, &mut |node| {
        let breaks = text.get(node.bytes.clone()).map_or(0, |written| written.matches('\n').count() as u64);
        lines.insert(node.place.line);
        // A block scalar begins after its indicator, and its last line break is not always part of it.
        lines.extend(node.defined.line..=node.defined.line + breaks + 1);
    });
    lines
}

/// The depth is limited, because that of the tree is.
fn mark_below(node: &mut Node, schema: &Json, is_secret: bool) {
    let schema = resolve(schema);
    let is_section = schema["properties"].is_object() || schema["additionalProperties"].is_object();
    let is_suspect = |text: &str| is_section || mentions_secret(text);
    node.is_secret = is_secret
        || node.variables.iter().any(Variable::mentions_secret)
        || matches!(&node.value, Value::Text(text) if is_suspect(text));
    match &mut node.value {
        Value::Map(entries) => {
            for (name, value) in entries {
                cut(&mut name.text);
                let (below, is_secret_below) = below(schema, &name.text);
                mark_below(value, below, is_secret || is_secret_below);
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| mark_below(item, &schema["items"], is_secret)),
        _ => {}
    }
}

/// The schema of the values under a key, and whether they may be secrets.
fn below<'a>(schema: &'a Json, name: &str) -> (&'a Json, bool) {
    let declared = schema["properties"].as_object();
    let known = declared.and_then(|declared| declared.get(name));
    let others = &schema["additionalProperties"];
    match (known, declared) {
        (Some(inner), _) => (inner, HOLDERS.contains(&name)),
        (None, _) if others.is_object() => (others, mentions_secret(name)),
        (None, Some(declared)) if !mentions_secret(name) => {
            match nearest(name, declared.keys().map(String::as_str)).filter(|meant| !HOLDERS.contains(meant)) {
                Some(meant) => (&declared[meant], false),
                None => (&Json::Null, true),
            }
        }
        _ => (&Json::Null, true),
    }
}

/// Marks the anchors of marked aliases.
fn mark_anchored(node: &mut Node, anchored: &BTreeSet<(u64, u64)>) {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| mark_anchored(value, anchored)),
        Value::List(items) => items.iter_mut().for_each(|item| mark_anchored(item, anchored)),
        _ => {
            let Place { line, column } = node.defined;
            node.is_secret |= anchored.contains(&(line, column));
        }
    }
}

/// Calls `take` with every scalar that may be a secret.
fn collect(node: &Node, take: &mut impl FnMut(&Node)) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, take)),
        Value::List(items) => items.iter().for_each(|item| collect(item, take)),
        _ if node.is_secret => take(node),
        _ => {}
    }
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;

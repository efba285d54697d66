//! Compares what users read with the descriptions of the keys.
//!
//! `SIDESTREAM_UPDATE=1 cargo test --lib config` rewrites the JSON Schema and the tables of docs/configuration.md, and adds
//! lines to conf/sidestream.yaml for keys that it lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::*;
use crate::config::diagnostic::Diagnostics;
use crate::config::file::{self, Name, Node, Place, Value};
use crate::config::schema;
use crate::config::units::parse_duration;

const REFERENCE: &str = "docs/configuration.md";
const EXAMPLE: &str = "conf/sidestream.yaml";
/// Keys with the same keys below as another one, which the reference describes there.
const DESCRIBED_ELSEWHERE: [&dyn Entry; 3] = [&ROUTE_CORS, &ISSUERS, &ROUTE_QUOTAS];
const RESTART: &str = "<!-- keys that need a restart -->";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[track_caller]
fn assert_current(file: &str, text: &str) {
    let path = path(file);
    if env::var_os("SIDESTREAM_UPDATE").is_some() {
        fs::write(&path, text).unwrap();
    }
    let is_current = fs::read_to_string(&path).unwrap() == text;
    assert!(is_current, "{file} differs from the keys: run SIDESTREAM_UPDATE=1 cargo test --lib config");
}

#[test]
fn the_published_schema_is_current() {
    assert_current("conf/sidestream.schema.json", &(schema::schema() + "\n"));
}

#[test]
fn the_reference_is_current_and_has_every_key() {
    let written = fs::read_to_string(path(REFERENCE)).unwrap();
    let mut documented = BTreeSet::new();
    let text = reference(&written, &mut documented);
    assert_current(REFERENCE, &text);
    let mut every = BTreeSet::new();
    for key in ROOT.keys() {
        rows(key, key.name(), &mut |path, key| {
            every.extend(key.table().is_none().then(|| path.to_owned()));
        });
    }
    let missing: Vec<_> = every.difference(&documented).collect();
    assert!(every.len() > 100 && missing.is_empty(), "no table of {REFERENCE} has {missing:?}");
}

/// The document with the tables below its markers written again: `<!-- keys: a, b -->` has the keys with their whole
/// paths, `<!-- keys of auth: a, b -->` and `<!-- keys of auth except a -->` those below a section.
fn reference(document: &str, documented: &mut BTreeSet<String>) -> String {
    let mut text = String::new();
    let mut is_generated = false;
    for line in document.lines() {
        is_generated &= !line.is_empty();
        if is_generated {
            continue;
        }
        text += line;
        text.push('\n');
        if line == RESTART {
            is_generated = true;
            text += &format!("{}\n", restart_keys(&ROOT, "").join(", "));
        } else if let Some(marker) = line.strip_prefix("<!-- keys").and_then(|rest| rest.strip_suffix(" -->")) {
            is_generated = true;
            text += "| key | type | default | meaning |\n|---|---|---|---|\n";
            for row in block(marker, documented) {
                text += &row;
            }
        }
    }
    text
}

/// The rows below a marker.
fn block(marker: &str, documented: &mut BTreeSet<String>) -> Vec<String> {
    let (of, named) = match marker.strip_prefix(" of ") {
        None => ("", marker.strip_prefix(": ")),
        Some(rest) => rest.split_once(": ").map_or((rest, None), |(of, named)| (of, Some(named))),
    };
    let (of, except) = of.split_once(" except ").unwrap_or((of, ""));
    let list = |names: &str| names.split(", ").map(str::to_owned).collect::<Vec<_>>();
    let table = if of.is_empty() { &ROOT } else { find(of).and_then(Entry::table).expect(of) };
    let (named, except) = (named.map(list), list(except));
    let mut out = Vec::new();
    for key in table.keys() {
        let is_here = named.as_ref().is_none_or(|named| named.iter().any(|name| name == key.name()));
        if !is_here || except.iter().any(|name| name == key.name()) {
            continue;
        }
        rows(key, key.name(), &mut |path, key| {
            let (kind, default, meaning) = (key.type_name(), key.default(), key.meaning());
            // A section that is always there has no default of its own.
            if kind != "section" || !(key.is_required() || key.written_default().is_some()) {
                out.push(format!("| `{path}` | {kind} | {default} | {meaning} |\n"));
            }
            documented.insert(if of.is_empty() { path.into() } else { format!("{of}.{path}") });
        });
    }
    out
}

/// Calls `take` with a key and those below it, each with its path.
fn rows(key: &'static dyn Entry, path: &str, take: &mut impl FnMut(&str, &'static dyn Entry)) {
    take(path, key);
    let is_elsewhere = DESCRIBED_ELSEWHERE.iter().any(|other| std::ptr::addr_eq(key, *other));
    for inner in key.table().filter(|_| !is_elsewhere).into_iter().flat_map(Table::keys) {
        rows(inner, &format!("{path}.{}", inner.name()), take);
    }
}

/// The keys that are read at start. A section is named instead of its keys if all of them are.
fn restart_keys(table: &Table, prefix: &str) -> Vec<String> {
    fn is_all(key: &dyn Entry) -> bool {
        key.table().map_or_else(|| key.change() == Change::Restart, |table| table.keys().all(is_all))
    }
    let mut paths = Vec::new();
    for key in table.keys() {
        let path = format!("{prefix}{}", key.name());
        match key.table() {
            _ if is_all(key) => paths.push(format!("`{path}`")),
            Some(table) => paths.extend(restart_keys(table, &format!("{path}."))),
            None => {}
        }
    }
    paths
}

/// The example contains every key (another test compares that), and its value is the default, or its comment names the
/// default.
#[test]
fn the_example_has_the_defaults() {
    let written = fs::read_to_string(path(EXAMPLE)).unwrap();
    let text = completed(&written);
    assert_current(EXAMPLE, &text);
    let example = Example::of(&text);
    assert!(example.seen.len() > 100, "{:?}", example.seen);
    assert!(example.wrong.is_empty(), "{EXAMPLE}:\n{}", example.wrong.join("\n"));
}

#[test]
fn a_key_that_the_example_lacks_is_added() {
    let text = fs::read_to_string(path(EXAMPLE)).unwrap();
    assert_eq!(completed(&text), text);
    let without: String = text.split_inclusive('\n').filter(|line| !line.starts_with("  retries: ")).collect();
    let again = completed(&without);
    let (_, upstream) = again.split_once("\nupstream:\n").unwrap();
    let line = upstream.split("\n\n").next().unwrap().lines().find(|line| line.starts_with("  retries: 1 # "));
    assert!(line.is_some_and(|line| line.contains(RETRIES.meaning())), "{upstream}");
}

/// The example with a line for each key that it lacks: the default, and the meaning as a comment. A key without a
/// default needs a value to show, and is written by hand.
fn completed(text: &str) -> String {
    let example = Example::of(text);
    let mut added: Vec<(u64, String)> = Vec::new();
    for key in ROOT.keys() {
        rows(key, key.name(), &mut |path, key| {
            let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
            let (default, place) = (key.written_default(), example.first_keys.get(section));
            if let (false, None, Some(default), Some(place)) =
                (example.seen.contains(path), key.table(), default, place)
            {
                let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                let indent = " ".repeat(place.column as usize - 1);
                added.push((place.line, format!("{indent}{name}: {default} # {}", plain(key.meaning()))));
            }
        });
    }
    let mut lines: Vec<&str> = text.lines().collect();
    added.sort_unstable();
    added.iter().rev().for_each(|(line, text)| lines.insert(*line as usize, text));
    lines.join("\n") + "\n"
}

struct Example<'a> {
    lines: Vec<&'a str>,
    seen: BTreeSet<String>,
    /// The first key of each section that has a line of its own.
    first_keys: BTreeMap<String, Place>,
    wrong: Vec<String>,
}

impl<'a> Example<'a> {
    fn of(text: &'a str) -> Self {
        let root = file::read(text, &Diagnostics::new("")).unwrap();
        let lines = text.lines().collect();
        let mut example = Self { lines, seen: BTreeSet::new(), first_keys: BTreeMap::new(), wrong: Vec::new() };
        example.compare(&ROOT, &root, "");
        example
    }

    /// Compares the first occurrence of each key.
    fn compare(&mut self, table: &Table, node: &Node, prefix: &str) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.compare(table, item, prefix)),
            Value::Map(entries) => {
                for (name, node) in entries {
                    match table.keys().find(|key| key.name() == name.text) {
                        Some(key) => {
                            self.note_first(prefix, name, node);
                            self.key(key, node, name.place.line, &format!("{prefix}{}", name.text));
                        }
                        None => self.compare(table, node, prefix),
                    }
                }
            }
            _ => {}
        }
    }

    fn note_first(&mut self, prefix: &str, name: &Name, node: &Node) {
        let is_scalar = !matches!(node.value, Value::List(_) | Value::Map(_));
        let line = self.lines[name.place.line as usize - 1].trim_start().trim_start_matches("- ");
        if is_scalar && line.starts_with(&format!("{}:", name.text)) {
            self.first_keys.entry(prefix.trim_end_matches('.').to_owned()).or_insert(name.place);
        }
    }

    fn key(&mut self, key: &dyn Entry, node: &Node, line: u64, path: &str) {
        let is_first = self.seen.insert(path.to_owned());
        match (key.table(), key.written_default()) {
            (Some(table), _) => self.compare(table, node, &format!("{path}.")),
            (None, Some(default)) if is_first && !is_value(node, &default) && !self.names_default(line, &default) => {
                self.wrong.push(format!("{line}: `{path}`: neither value nor comment is the default, {default}"));
            }
            _ => {}
        }
    }

    /// Whether a comment in this line, or in those directly above it, names the default.
    fn names_default(&self, line: u64, default: &Json) -> bool {
        let index = line as usize - 1;
        let above = self.lines[..index].iter().rev().take_while(|line| line.trim_start().starts_with('#'));
        let comments: Vec<String> = above.chain([&self.lines[index]]).map(|line| line.to_lowercase()).collect();
        let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let text = if matches!(&*text, "[]" | "{}") { "none".to_owned() } else { text };
        comments.iter().any(|comment| comment.contains(&format!("default: {text}")))
    }
}

/// Whether a written value is this one. Durations are equal in any unit.
fn is_value(node: &Node, value: &Json) -> bool {
    match (&node.value, value) {
        (Value::Flag(flag), _) => *value == json!(flag),
        (Value::Integer(number), _) => value.as_i64().map(i128::from) == Some(*number),
        (Value::Fraction(number), _) => *value == json!(number),
        (Value::Text(text), Json::String(other)) => {
            text == other || parse_duration(text).is_some_and(|duration| parse_duration(other) == Some(duration))
        }
        (Value::List(items), Json::Array(others)) => {
            items.len() == others.len() && items.iter().zip(others).all(|(item, other)| is_value(item, other))
        }
        (Value::Map(entries), Json::Object(others)) => entries.is_empty() && others.is_empty(),
        _ => false,
    }
}

//! `routes.fields`: the fields of events that a route shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::{ALWAYS_SHOWN, Choice, Fields};
use crate::config::diagnostic::Diagnostics;
use crate::config::file::Node;
use crate::config::keys::{self, List, Optional};
use crate::config::section::{Section, text};
use crate::pointer::{self, Pointer};
use crate::reserved::HEADERS;
use crate::route::Stream;

/// Members of envelopes that the producer does not name, in addition to the declared keys.
const OF_SIDESTREAM: [&str; 4] = ["data", HEADERS, "ce", "key"];

/// `None` without the section, or if it is invalid, which is reported.
pub(super) fn compile(route: &Section<'_>, stream: Option<&Stream>, diagnostics: &Diagnostics) -> Option<Arc<Fields>> {
    let section = route.section(&keys::FIELDS);
    let lists = [(Choice::Keep, &keys::KEEP), (Choice::Drop, &keys::DROP)].map(|(choice, key)| {
        let pointers = pointers(&section, key, stream, diagnostics);
        section.has(key).then_some((choice, pointers))
    });
    match lists {
        [None, None] if route.has(&keys::FIELDS) => {
            diagnostics.expected(route.place_of(&keys::FIELDS), "`routes.fields` lists no fields", "`keep` or `drop`");
            None
        }
        [None, None] => None,
        [Some(_), Some(_)] => {
            let message = "`keep` and `drop` exclude each other: what is not kept is dropped";
            diagnostics.wrong(section.place_of(&keys::DROP), message);
            None
        }
        [Some((choice, pointers)), None] | [None, Some((choice, pointers))] => {
            warn_of_copies(&section, choice, &pointers, stream, diagnostics);
            Some(Arc::new(Fields::new(id_of(choice, &pointers), choice, pointers)))
        }
    }
}

fn pointers(
    section: &Section<'_>,
    key: &Optional<List>,
    stream: Option<&Stream>,
    diagnostics: &Diagnostics,
) -> Vec<Pointer> {
    let nodes = section.list(key);
    if nodes.len() > key.kind.max {
        diagnostics.wrong(section.place_of(key), format!("more than {} fields", key.kind.max));
    }
    let mut found: Vec<Pointer> = Vec::new();
    for node in nodes {
        let Some(pointer) = text(&node.value).and_then(pointer::parse) else {
            section.reject(key, node, key.kind.expected);
            continue;
        };
        if found.contains(&pointer) {
            diagnostics.wrong(node.place, format!("{} is listed twice", node.describe()));
        }
        check_start(node, &pointer, stream, diagnostics);
        found.push(pointer);
    }
    found
}

/// Reports a pointer that begins with a member that is always shown, or that only the records of some producers have.
fn check_start(node: &Node, pointer: &Pointer, stream: Option<&Stream>, diagnostics: &Diagnostics) {
    let Some(first) = pointer.first() else { return };
    if ALWAYS_SHOWN.contains(&&**first) {
        let message = format!("{}: `{first}` of an event is always sent", node.describe());
        return diagnostics.wrong(node.place, message);
    }
    let is_key = stream.is_none_or(|stream| stream.keys.iter().any(|key| **key == **first));
    if !is_key && !OF_SIDESTREAM.contains(&&**first) {
        let written = text(&node.value).unwrap_or_default();
        diagnostics.warn(
            node.place,
            format!("`{written}` is a field of events only if records have an envelope of their own; the field of the data is `/data{written}`"),
        );
    }
}

/// Warns if a declared key is dropped from the data, but not from the envelope, which has a copy of it.
fn warn_of_copies(
    section: &Section<'_>,
    choice: Choice,
    pointers: &[Pointer],
    stream: Option<&Stream>,
    diagnostics: &Diagnostics,
) {
    if choice == Choice::Keep {
        return;
    }
    for key in stream.iter().flat_map(|stream| &stream.keys) {
        let is_dropped = |path: &[&str]| {
            pointers.iter().any(|pointer| pointer.iter().map(|token| &**token).eq(path.iter().copied()))
        };
        if is_dropped(&["data", key]) && !is_dropped(&[key]) {
            let message = format!("`{key}` is a key of the stream: the envelope has a copy of it, `/{key}`");
            diagnostics.warn(section.place_of(&keys::DROP), message);
        }
    }
}

/// The id of a choice. It is the same whenever the same choice is compiled in this process, so that encodings stay
/// shared across reloads; no other choice ever has it.
fn id_of(choice: Choice, pointers: &[Pointer]) -> u32 {
    static IDS: Mutex<BTreeMap<(bool, Vec<Pointer>), u32>> = Mutex::new(BTreeMap::new());
    let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sorted = pointers.to_vec();
    sorted.sort();
    let next = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
    *ids.entry((choice == Choice::Keep, sorted)).or_insert(next)
}

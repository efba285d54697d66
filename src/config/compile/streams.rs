//! `streams`: the topics of each stream, and the keys by which its events are selected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Name, Node, Value};
use crate::config::keys;
use crate::config::section::{Section, text};
use crate::event::{Topic, is_topic_name};
use crate::reserved::{FIELDS, HEADERS, is_taken};
use crate::route::{State, Stream};

/// Fields of the envelope that sidestream sets, which cannot be keys.
const ENVELOPE: [&str; 4] = ["id", "ts", "type", "data"];
/// The longest name of a key, in bytes.
const KEY_NAME_BYTES_MAX: usize = 64;

/// Streams by name. A stream with an error is included, so that its routes cause no further errors.
pub(super) type Streams = BTreeMap<Arc<str>, Arc<Stream>>;

pub(super) fn compile(root: &Section<'_>, diagnostics: &Diagnostics) -> Streams {
    root.entries(&keys::STREAMS_SECTION)
        .iter()
        .map(|(name, node)| {
            let stream = stream(name, node, diagnostics);
            (stream.name.clone(), Arc::new(stream))
        })
        .collect()
}

fn stream(name: &Name, node: &Node, diagnostics: &Diagnostics) -> Stream {
    if !is_topic_name(&name.text) {
        diagnostics.expected(name.place, format!("`{}` is not a valid stream name", name.text), "`[A-Za-z0-9._-]+`");
    }
    let section = Section::open(&format!("streams.{}", name.text), node, diagnostics);
    section.require(&keys::STREAM_TOPICS);
    let mut topics: Vec<Topic> = Vec::new();
    for node in section.list(&keys::STREAM_TOPICS) {
        let Some(topic) = text(&node.value).filter(|text| is_topic_name(text)) else {
            section.reject(&keys::STREAM_TOPICS, node, keys::STREAM_TOPICS.kind.expected);
            continue;
        };
        if topics.iter().any(|earlier| **earlier == *topic) {
            diagnostics.wrong(node.place, format!("the topic `{topic}` is listed twice"));
        }
        topics.push(topic.into());
    }
    if section.get(&keys::STREAM_TOPICS).is_some_and(|node| matches!(&node.value, Value::List(list) if list.is_empty()))
    {
        let message = format!("`topics` of the stream `{}` is empty: it carries one at least", name.text);
        diagnostics.wrong(section.place_of(&keys::STREAM_TOPICS), message);
    }
    topics.sort();
    let keys = keys(&section, diagnostics);
    let state = state(&section, &topics, &keys, diagnostics);
    let id = id_of(&name.text, &topics, &keys);
    Stream { id, name: name.text.as_str().into(), topics: topics.into(), keys, state }
}

fn state(stream: &Section<'_>, topics: &[Topic], keys: &[Arc<str>], diagnostics: &Diagnostics) -> Option<State> {
    let section = stream.section(&keys::STREAM_STATE);
    let bytes = section.value(&keys::STATE_BYTES);
    let key = section.text(&keys::STATE_KEY);
    if !stream.has(&keys::STREAM_STATE) {
        return None;
    }
    section.require(&keys::STATE_KEY);
    let known = keys.iter().find(|known| Some(&***known) == key);
    if known.is_none() && key.is_some() {
        let names = || keys.iter().map(|key| &**key);
        let hint = did_you_mean(key.unwrap_or_default(), names());
        let message = format!("the stream has no key `{}`{hint}", key.unwrap_or_default());
        diagnostics.expected(section.place_of(&keys::STATE_KEY), message, alternatives(names()));
    }
    if topics.len() > 1 {
        let message = "a state is that of one topic: offsets of several topics have no order";
        diagnostics.wrong(stream.place_of(&keys::STREAM_STATE), message);
    }
    Some(State { key: known?.clone(), bytes })
}

fn keys(section: &Section<'_>, diagnostics: &Diagnostics) -> Box<[Arc<str>]> {
    let mut keys: Vec<Arc<str>> = Vec::new();
    for node in section.list(&keys::STREAM_KEYS) {
        let Some(key) = text(&node.value).filter(|text| is_key_name(text)) else {
            section.reject(&keys::STREAM_KEYS, node, keys::STREAM_KEYS.kind.expected);
            continue;
        };
        if ENVELOPE.contains(&key) || is_taken(key, &FIELDS) || is_taken(key, &[HEADERS]) {
            diagnostics.wrong(node.place, format!("`{key}` is a field of events and can't be a key"));
        } else if keys.iter().any(|earlier| **earlier == *key) {
            diagnostics.wrong(node.place, format!("the key `{key}` is listed twice"));
        }
        keys.push(key.into());
    }
    keys.into()
}

fn is_key_name(text: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The id of a stream. It is the same whenever the same stream is compiled in this process, so that encodings stay
/// shared across reloads. Ids are reused after 65,536 different streams, long after the events that refer to them are
/// gone.
fn id_of(name: &str, topics: &[Topic], keys: &[Arc<str>]) -> u16 {
    static IDS: Mutex<BTreeMap<String, u16>> = Mutex::new(BTreeMap::new());
    let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
    // Names contain no commas.
    let identity = format!("{name}|{}|{}", topics.join(","), keys.join(","));
    if ids.len() > usize::from(u16::MAX) {
        ids.clear();
    }
    let next = ids.len() as u16;
    *ids.entry(identity).or_insert(next)
}

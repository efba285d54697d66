//! `kafka` and `topics`: the brokers, properties passed on to librdkafka, and what of each topic is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::secret_file;
use super::streams::Streams;
use crate::config::diagnostic::{Diagnostics, did_you_mean};
use crate::config::file::{Name, Place, Value};
use crate::config::section::{Section, text};
use crate::config::snapshot::{Kafka, TopicConfig};
use crate::event::Topic;
use crate::kafka::{PropertyError, check_properties};

const WARM_UP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 60);
const REPLAY_EVENTS: u32 = 500;
const REPLAY_EVENTS_RANGE: RangeInclusive<u32> = 1..=10_000_000;
/// In bytes.
const REPLAY_BYTES: usize = 16 * 1024 * 1024;
const REPLAY_BYTES_RANGE: RangeInclusive<u64> = 1024..=64 * 1024 * 1024 * 1024;

pub(super) fn compile(root: &Section<'_>, streams: &Streams, base_dir: &Path, diagnostics: &Diagnostics) -> Kafka {
    let section = root.section("kafka");
    section.require("brokers", "the `host:port` of one or more brokers, with commas between");
    let brokers = section.read("brokers", "`host:port`, or several with commas between", |value| {
        text(value).filter(|text| text.split(',').all(|broker| is_broker(broker.trim())))
    });
    let required_for_readiness = section.flag("required_for_readiness").unwrap_or_default();
    if required_for_readiness {
        let message = "while no broker answers, `/readyz` fails and takes the service's own traffic with it";
        diagnostics.warn(section.place_of("required_for_readiness"), message);
    }
    Kafka {
        brokers: brokers.unwrap_or_default().into(),
        properties: properties(&section, base_dir, diagnostics),
        topics: topics(root, streams, diagnostics),
        warm_up: section.duration("warm_up", WARM_UP).unwrap_or(Duration::from_secs(10)),
        required_for_readiness,
    }
}

/// `host`, `host:port` or `PROTOCOL://host:port`, as librdkafka takes them.
fn is_broker(text: &str) -> bool {
    let host = text.split_once("://").map_or(text, |(_, host)| host);
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

/// Values are in no message: they may be secrets.
fn properties(section: &Section<'_>, base_dir: &Path, diagnostics: &Diagnostics) -> Vec<(String, String)> {
    let written = section.entries("properties");
    let in_files = section.entries("property_files");
    let mut properties = Vec::new();
    for (name, node) in written {
        match property_value(&node.value) {
            Some(value) => properties.push(property(name, value, node.place, diagnostics)),
            None => diagnostics.expected(
                node.place,
                format!("the value of `{}` is no text, whole number or flag", name.text),
                "one of these, in quotes where its spelling matters",
            ),
        }
    }
    for (name, node) in in_files {
        if written.iter().any(|(other, _)| other.text == name.text) {
            diagnostics.wrong(name.place, format!("`{}` is given in `kafka.properties` too", name.text));
        }
        let bytes = secret_file(section, "property_files", node, base_dir, diagnostics);
        match bytes.map(String::from_utf8) {
            Some(Ok(value)) => properties.push(property(name, value, node.place, diagnostics)),
            Some(Err(_)) => diagnostics.wrong(node.place, "the file is not UTF-8"),
            None => {}
        }
    }
    properties
}

/// The property, tried on the Kafka client.
fn property(name: &Name, value: String, place: Place, diagnostics: &Diagnostics) -> (String, String) {
    let property = [(name.text.clone(), value)];
    match check_properties(&property) {
        Ok(()) => {}
        Err(error @ PropertyError::Value(_)) => diagnostics.wrong(place, error.to_string()),
        Err(error @ PropertyError::Owned(_)) => diagnostics.wrong(name.place, error.to_string()),
        Err(error @ PropertyError::Unknown(_)) => {
            diagnostics.expected(name.place, error.to_string(), "a name such as `security.protocol`");
        }
    }
    let [property] = property;
    property
}

fn property_value(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Flag(flag) => Some(flag.to_string()),
        Value::Nothing | Value::Fraction(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// The topics that streams carry, sorted by name; `topics` says how much of them is kept.
fn topics(root: &Section<'_>, streams: &Streams, diagnostics: &Diagnostics) -> Vec<TopicConfig> {
    let mut keys: BTreeMap<Topic, BTreeSet<Arc<str>>> = BTreeMap::new();
    for stream in streams.values() {
        for topic in &stream.topics {
            keys.entry(topic.clone()).or_default().extend(stream.keys.iter().cloned());
        }
    }
    let mut replay: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, node) in root.entries("topics") {
        let section = Section::open(&format!("topics.{}", name.text), node, diagnostics);
        let limits = section.section("replay");
        let events = limits.count("events", REPLAY_EVENTS_RANGE).unwrap_or(REPLAY_EVENTS) as usize;
        let bytes = limits.size("bytes", REPLAY_BYTES_RANGE).unwrap_or(REPLAY_BYTES);
        replay.insert(&name.text, (events, bytes));
        if !keys.contains_key(&*name.text) {
            let hint = did_you_mean(&name.text, keys.keys().map(|topic| &**topic));
            diagnostics.wrong(name.place, format!("no stream carries the topic `{}`{hint}", name.text));
        }
    }
    keys.into_iter()
        .map(|(name, keys)| {
            let (replay_events, replay_bytes) =
                replay.get(&*name).copied().unwrap_or((REPLAY_EVENTS as usize, REPLAY_BYTES));
            TopicConfig { name, keys: keys.into_iter().collect(), replay_events, replay_bytes }
        })
        .collect()
}

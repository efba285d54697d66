//! `topics`: the format of each topic's records, their origin, and the size of the replay window.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::streams::Streams;
use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Name, Node, Place, Value};
use crate::config::section::{Section, text};
use crate::config::snapshot::{DEFAULT_CLUSTER, TopicConfig};
use crate::decode::mapping::{Mapping, Origin, POINTER_TOKENS_MAX};
use crate::decode::{Format, ShownHeaders};
use crate::event::{TOPIC_NAME_BYTES_MAX, Topic, is_topic_name};

const REPLAY_EVENTS_RANGE: RangeInclusive<u32> = 1..=10_000_000;
/// In bytes.
const REPLAY_BYTES_RANGE: RangeInclusive<u64> = 1024..=64 * 1024 * 1024 * 1024;

const FORMATS: [(&str, Format); 3] = [("json", Format::Json), ("text", Format::Text), ("binary", Format::Binary)];
const ORIGINS: &str = "a JSON pointer such as `/user/id`, `key`, `header:<name>` or `const:<text>`";

type Keys = BTreeSet<Arc<str>>;

/// A topic, and the name of its cluster.
pub(super) struct Placed {
    pub(super) cluster: Arc<str>,
    pub(super) topic: TopicConfig,
}

/// The topics of all streams, sorted by name. The section `topics` has settings of some of them.
pub(super) fn compile(
    root: &Section<'_>,
    streams: &Streams,
    clusters: &[&str],
    diagnostics: &Diagnostics,
) -> Vec<Placed> {
    let mut carried: BTreeMap<Topic, Keys> = BTreeMap::new();
    for stream in streams.values() {
        for topic in &stream.topics {
            carried.entry(topic.clone()).or_default().extend(stream.keys.iter().cloned());
        }
    }
    let mut compiler = Compiler { clusters, diagnostics, read: BTreeMap::new() };
    let listed = root.entries("topics");
    let mut topics = Vec::new();
    // Unlisted topics first, so that a conflict is reported where the user wrote something.
    for (name, keys) in &carried {
        if !listed.iter().any(|(listed, _)| *listed.text == **name) {
            compiler.claim(root.place_of("streams"), DEFAULT_CLUSTER, name, name);
            let topic = TopicConfig::new(name.clone(), keys.iter().cloned());
            topics.push(Placed { cluster: DEFAULT_CLUSTER.into(), topic });
        }
    }
    topics.extend(listed.iter().filter_map(|(name, node)| compiler.topic(name, node, &carried)));
    topics.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
    topics
}

struct Compiler<'a> {
    clusters: &'a [&'a str],
    diagnostics: &'a Diagnostics,
    /// The topics by cluster and by their name in it.
    read: BTreeMap<(Arc<str>, Topic), Topic>,
}

impl Compiler<'_> {
    /// Compiles every part, regardless of errors; `None` if no stream carries the topic.
    fn topic(&mut self, name: &Name, node: &Node, carried: &BTreeMap<Topic, Keys>) -> Option<Placed> {
        let section = Section::open(&format!("topics.{}", name.text), node, self.diagnostics);
        let found = carried.get_key_value(&*name.text);
        if found.is_none() {
            let hint = did_you_mean(&name.text, carried.keys().map(|topic| &**topic));
            self.diagnostics.wrong(name.place, format!("no stream carries the topic `{}`{hint}", name.text));
        }
        let (none, unnamed) = (Keys::new(), name.text.as_str().into());
        let (name_of, keys) = found.unwrap_or((&unnamed, &none));
        let mut topic = TopicConfig::new(name_of.clone(), keys.iter().cloned());
        let limits = section.section("replay");
        let events = limits.count("events", REPLAY_EVENTS_RANGE).map(|events| events as usize);
        topic.replay_events = events.unwrap_or(topic.replay_events);
        topic.replay_bytes = limits.size("bytes", REPLAY_BYTES_RANGE).unwrap_or(topic.replay_bytes);
        topic.shape.format = section.choice("format", &FORMATS).unwrap_or(Format::Json);
        topic.shape.headers = headers(&section).unwrap_or(topic.shape.headers);
        if section.has("map") {
            topic.shape.mapping = Some(Arc::new(self.mapping(&section.section("map"), keys, topic.shape.format)));
        }
        let expected = format!("a topic's name: 1 to {TOPIC_NAME_BYTES_MAX} characters of `[A-Za-z0-9._-]`");
        let source = section.read("topic", expected, |value| text(value).filter(|text| is_topic_name(text)));
        topic.source = source.map_or(topic.source, Arc::from);
        let cluster = self.cluster(&section);
        let place = if section.has("topic") { section.place_of("topic") } else { name.place };
        self.claim(place, cluster, &topic.source, &topic.name);
        found.map(|_| Placed { cluster: cluster.into(), topic })
    }

    fn cluster<'s>(&self, section: &Section<'s>) -> &'s str {
        let Some(name) = section.text("cluster", "the name of a cluster") else { return DEFAULT_CLUSTER };
        if !self.clusters.contains(&name) {
            let hint = did_you_mean(name, self.clusters.iter().copied());
            let message = format!("there is no cluster `{name}`{hint}");
            self.diagnostics.expected(
                section.place_of("cluster"),
                message,
                alternatives(self.clusters.iter().copied()),
            );
            return DEFAULT_CLUSTER;
        }
        name
    }

    /// A topic of a cluster may have only one name: two would be two positions in one assignment.
    fn claim(&mut self, place: Place, cluster: &str, source: &Topic, name: &Topic) {
        if let Some(other) = self.read.insert((cluster.into(), source.clone()), name.clone()) {
            let message = format!("the topic `{source}` of the cluster `{cluster}` is read as `{other}` already");
            self.diagnostics.wrong(place, message);
        }
    }

    /// Parts without a mapping are top-level fields of the value.
    fn mapping(&self, section: &Section<'_>, declared: &Keys, format: Format) -> Mapping {
        let written = section.entries("keys");
        for (name, node) in written {
            if !declared.contains(&*name.text) {
                let names = || declared.iter().map(|key| &**key);
                let hint = did_you_mean(&name.text, names());
                let message = format!("no stream of this topic declares the key `{}`{hint}", name.text);
                self.diagnostics.expected(name.place, message, alternatives(names()));
            }
            self.key_origin(section, node, format);
        }
        let key = |name: &Arc<str>| {
            let node = written.iter().find(|(written, _)| *written.text == **name).map(|(_, node)| node);
            let origin = node.and_then(|node| Origin::parse(text(&node.value)?));
            (name.clone(), origin.unwrap_or_else(|| Origin::field(name)))
        };
        let ts = self.origin(section, "ts", format);
        if matches!(ts, Some(Origin::Constant(_))) {
            self.diagnostics.wrong(section.place_of("ts"), "the time of every event can't be one constant");
        }
        Mapping {
            kind: self.origin(section, "type", format).unwrap_or_else(|| Origin::field("type")),
            ts: ts.unwrap_or_else(|| Origin::field("ts")),
            keys: declared.iter().map(key).collect(),
        }
    }

    fn key_origin(&self, section: &Section<'_>, node: &Node, format: Format) {
        match text(&node.value).and_then(Origin::parse) {
            Some(origin) => self.check_format(node.place, &origin, format),
            None => section.reject("keys", node, expected_origin()),
        }
    }

    fn origin(&self, section: &Section<'_>, key: &'static str, format: Format) -> Option<Origin> {
        let origin = section.read(key, expected_origin(), |value| Origin::parse(text(value)?))?;
        self.check_format(section.place_of(key), &origin, format);
        Some(origin)
    }

    fn check_format(&self, place: Place, origin: &Origin, format: Format) {
        if matches!(origin, Origin::Pointer(_)) && format != Format::Json {
            let message = "a JSON pointer points at nothing in text or bytes";
            self.diagnostics.expected(place, message, "`format: json`, or another origin");
        }
    }
}

fn expected_origin() -> String {
    format!("{ORIGINS}; pointers have at most {POINTER_TOKENS_MAX} steps")
}

fn headers(section: &Section<'_>) -> Option<ShownHeaders> {
    section.read("headers", "`true`, `false` or a list of names", |value| match value {
        Value::Flag(true) => Some(ShownHeaders::All),
        Value::Flag(false) => Some(ShownHeaders::Named([].into())),
        Value::List(names) => {
            names.iter().map(|node| text(&node.value).map(Box::from)).collect::<Option<_>>().map(ShownHeaders::Named)
        }
        _ => None,
    })
}

//! `topics`: the format of each topic's records, where they come from, and the size of the replay window.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::map;
use super::streams::Streams;
use super::{Files, named_file};
use crate::bounded;
use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Name, Node, Place, Value};
use crate::config::keys::{self, Entry};
use crate::config::section::{Section, text};
use crate::config::snapshot::{DEFAULT_CLUSTER, TopicConfig};
use crate::decode::registered::{SchemaFormat, Schemas as _, SharedSchemas};
use crate::decode::schema::Schema;
use crate::decode::{Format, Shape, ShownHeaders};
use crate::event::{Topic, is_topic_name};
use crate::json_schema::{self, SCHEMA_BYTES_MAX};
use crate::schema_registry::Registry;

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
    (clusters, registries): (&[&str], &[Arc<Registry>]),
    files: Files<'_>,
    diagnostics: &Diagnostics,
) -> Vec<Placed> {
    let mut carried: BTreeMap<Topic, Keys> = BTreeMap::new();
    for stream in streams.values() {
        for topic in &stream.topics {
            carried.entry(topic.clone()).or_default().extend(stream.keys.iter().cloned());
        }
    }
    let mut compiler = Compiler { clusters, registries, files, diagnostics, read: BTreeMap::new() };
    let listed = root.entries(&keys::TOPICS);
    let mut topics = Vec::new();
    // Unlisted topics first, so that a conflict is reported where the user wrote something.
    for (name, keys) in &carried {
        if !listed.iter().any(|(listed, _)| *listed.text == **name) {
            compiler.claim(root.place_of(&keys::STREAMS_SECTION), DEFAULT_CLUSTER, name, name);
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
    registries: &'a [Arc<Registry>],
    files: Files<'a>,
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
        let limits = section.section(&keys::TOPIC_REPLAY);
        topic.replay_events = limits.value(&keys::WINDOW_EVENTS) as usize;
        topic.replay_bytes = limits.value(&keys::WINDOW_BYTES);
        topic.shape.format = section.value(&keys::TOPIC_FORMAT);
        topic.shape.key_format = section.written(&keys::TOPIC_KEY_FORMAT);
        topic.shape.schemas = self.schemas(&section, &topic.shape);
        topic.shape.missing_key = section.value(&keys::TOPIC_MISSING_KEY);
        topic.shape.headers = headers(&section).unwrap_or(topic.shape.headers);
        topic.shape.mapping = map::compile(&section, keys, topic.shape.format, self.diagnostics).map(Arc::new);
        topic.shape.schema = self.schema(&section, topic.shape.format);
        let source = section.parse(&keys::TOPIC_SOURCE, |text| is_topic_name(text).then_some(text));
        topic.source = source.map_or(topic.source, Arc::from);
        let cluster = self.cluster(&section);
        let place = if section.has(&keys::TOPIC_SOURCE) { section.place_of(&keys::TOPIC_SOURCE) } else { name.place };
        self.claim(place, cluster, &topic.source, &topic.name);
        found.map(|_| Placed { cluster: cluster.into(), topic })
    }

    /// The registry of a topic that needs one.
    fn schemas(&self, section: &Section<'_>, shape: &Shape) -> Option<SharedSchemas> {
        let name = section.text(&keys::TOPIC_REGISTRY).unwrap_or(keys::TOPIC_REGISTRY.default.0);
        let value = if let Format::Registered(format) = shape.format { Some(format) } else { None };
        let formats = value.into_iter().chain(shape.key_format);
        let is_needed = formats.into_iter().any(|format| format != SchemaFormat::JsonSchema);
        let found = self.registries.iter().find(|registry| registry.name() == name);
        if found.is_none() && (is_needed || name != keys::TOPIC_REGISTRY.default.0) {
            let names = self.registries.iter().map(|registry| registry.name());
            let hint = did_you_mean(name, names);
            let is_written = section.has(&keys::TOPIC_REGISTRY);
            let key: &dyn Entry = if is_written { &keys::TOPIC_REGISTRY } else { &keys::TOPIC_FORMAT };
            let message = format!("there is no registry `{name}`{hint}");
            self.diagnostics.expected(
                section.place_of(key),
                message,
                "a section `registry` or an entry of `registries`",
            );
        }
        found.filter(|_| is_needed).map(|registry| SharedSchemas(registry.clone()))
    }

    fn schema(&self, topic: &Section<'_>, format: Format) -> Option<Schema> {
        let section = topic.section(&keys::TOPIC_SCHEMA);
        let nonconforming = section.value(&keys::SCHEMA_INVALID);
        let node = section.get(&keys::SCHEMA_FILE);
        if !topic.has(&keys::TOPIC_SCHEMA) {
            return None;
        }
        if !format.is_json() {
            let message = "a schema describes JSON, not text or bytes";
            self.diagnostics.expected(topic.place_of(&keys::TOPIC_SCHEMA), message, "`format: json`");
        }
        section.require(&keys::SCHEMA_FILE);
        let source = named_file(&section, &keys::SCHEMA_FILE, node?, self.files, SCHEMA_BYTES_MAX, self.diagnostics)?;
        let text = source.clone();
        let compiled = bounded::run("compiling the schema", move || json_schema::compile(&text));
        match compiled.and_then(|compiled| compiled.map_err(|error| error.to_string())) {
            Ok(validator) => Some(Schema::new(&source, validator, nonconforming)),
            Err(error) => {
                let message = format!("`{}`: {error}", section.path_of(&keys::SCHEMA_FILE));
                self.diagnostics.wrong(section.place_of(&keys::SCHEMA_FILE), message);
                None
            }
        }
    }

    fn cluster<'s>(&self, section: &Section<'s>) -> &'s str {
        let name = section.text(&keys::TOPIC_CLUSTER).unwrap_or(keys::TOPIC_CLUSTER.default.0);
        if !self.clusters.contains(&name) {
            let hint = did_you_mean(name, self.clusters.iter().copied());
            let message = format!("there is no cluster `{name}`{hint}");
            self.diagnostics.expected(
                section.place_of(&keys::TOPIC_CLUSTER),
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
}

fn headers(section: &Section<'_>) -> Option<ShownHeaders> {
    section.mixed(&keys::TOPIC_HEADERS, |value| match value {
        Value::Flag(true) => Some(ShownHeaders::All),
        Value::Flag(false) => Some(ShownHeaders::Named([].into())),
        Value::List(names) => {
            names.iter().map(|node| text(&node.value).map(Box::from)).collect::<Option<_>>().map(ShownHeaders::Named)
        }
        _ => None,
    })
}

//! `kafka` and `clusters`: the brokers of each cluster, properties passed on to librdkafka, and its topics.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::streams::Streams;
use super::{secret_file, topics};
use crate::config::diagnostic::Diagnostics;
use crate::config::file::{Name, Place, Value};
use crate::config::section::{Section, text};
use crate::config::snapshot::{DEFAULT_CLUSTER, Kafka};
use crate::kafka::{PropertyError, check_properties};

/// Each is a client with threads and buffers of its own.
const CLUSTERS_MAX: usize = 16;

const WARM_UP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 60);

/// The clusters that topics are read from: that of the section `kafka` first, whatever it has, then the others.
pub(super) fn compile(root: &Section<'_>, streams: &Streams, base_dir: &Path, diagnostics: &Diagnostics) -> Vec<Kafka> {
    let section = root.section("kafka");
    let mut clusters = vec![cluster(DEFAULT_CLUSTER, &section, base_dir, diagnostics)];
    clusters[0].warm_up = section.duration("warm_up", WARM_UP).unwrap_or(Duration::from_secs(10));
    clusters[0].required_for_readiness = required_for_readiness(&section, diagnostics);
    for (name, node) in root.entries("clusters") {
        check_cluster_name(name, diagnostics);
        let section = Section::open(&format!("clusters.{}", name.text), node, diagnostics);
        let Kafka { warm_up, required_for_readiness, .. } = clusters[0];
        let other = cluster(&name.text, &section, base_dir, diagnostics);
        clusters.push(Kafka { warm_up, required_for_readiness, ..other });
    }
    if clusters.len() > CLUSTERS_MAX {
        diagnostics.wrong(root.place_of("clusters"), format!("more than {CLUSTERS_MAX} clusters"));
    }
    let names: Vec<_> = clusters.iter().map(|cluster| cluster.cluster.clone()).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    for placed in topics::compile(root, streams, &names, diagnostics) {
        let cluster = clusters.iter_mut().find(|cluster| cluster.cluster == placed.cluster);
        cluster.into_iter().for_each(|cluster| cluster.topics.push(placed.topic.clone()));
    }
    // Nothing is read from a cluster that no topic names.
    let mut index = 0..;
    clusters.retain(|cluster| index.next() == Some(0) || !cluster.topics.is_empty());
    clusters
}

fn required_for_readiness(section: &Section<'_>, diagnostics: &Diagnostics) -> bool {
    let required = section.flag("required_for_readiness").unwrap_or_default();
    if required {
        let message = "while no broker answers, `/readyz` fails and takes the service's own traffic with it";
        diagnostics.warn(section.place_of("required_for_readiness"), message);
    }
    required
}

fn check_cluster_name(name: &Name, diagnostics: &Diagnostics) {
    if name.text == DEFAULT_CLUSTER {
        let message = format!("`{DEFAULT_CLUSTER}` is the cluster of the section `kafka`");
        diagnostics.expected(name.place, message, "another name");
    }
}

fn cluster(name: &str, section: &Section<'_>, base_dir: &Path, diagnostics: &Diagnostics) -> Kafka {
    section.require("brokers", "the `host:port` of one or more brokers, with commas between");
    let brokers = section.read("brokers", "`host:port`, or several with commas between", |value| {
        text(value).filter(|text| text.split(',').all(|broker| is_broker(broker.trim())))
    });
    Kafka {
        cluster: name.into(),
        brokers: brokers.unwrap_or_default().into(),
        properties: properties(section, diagnostics),
        property_files: property_files(section, base_dir, diagnostics),
        topics: Vec::new(),
        warm_up: Duration::ZERO,
        required_for_readiness: false,
        finds_times: true,
    }
}

/// `host`, `host:port` or `PROTOCOL://host:port`, as librdkafka takes them.
fn is_broker(text: &str) -> bool {
    let host = text.split_once("://").map_or(text, |(_, host)| host);
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

/// Values are in no message: they may be secrets.
fn properties(section: &Section<'_>, diagnostics: &Diagnostics) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    for (name, node) in section.entries("properties") {
        match property_value(&node.value) {
            Some(value) => properties.push(property(name, value, node.place, diagnostics)),
            None => diagnostics.expected(
                node.place,
                format!("the value of `{}` is no text, whole number or flag", name.text),
                "one of these, in quotes where its spelling matters",
            ),
        }
    }
    properties
}

/// Those in files: the values are checked, and left where they are.
fn property_files(section: &Section<'_>, base_dir: &Path, diagnostics: &Diagnostics) -> Vec<(String, PathBuf)> {
    let written = section.entries("properties");
    let mut files = Vec::new();
    for (name, node) in section.entries("property_files") {
        if written.iter().any(|(other, _)| other.text == name.text) {
            diagnostics.wrong(name.place, format!("`{}` is given in `properties` too", name.text));
        }
        let bytes = secret_file(section, "property_files", node, base_dir, diagnostics);
        match bytes.map(String::from_utf8) {
            Some(Ok(value)) => drop(property(name, value, node.place, diagnostics)),
            Some(Err(_)) => diagnostics.wrong(node.place, "the file is not UTF-8"),
            None => {}
        }
        files.push((name.text.clone(), base_dir.join(text(&node.value).unwrap_or_default())));
    }
    files
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

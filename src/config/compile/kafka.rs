//! `kafka` and `clusters`: the brokers of each cluster, the properties for librdkafka, and the topics.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::streams::Streams;
use super::{Files, is_host, is_host_port, secret_file, topics};
use crate::config::diagnostic::Diagnostics;
use crate::config::file::{Name, Node, Place, Value};
use crate::config::keys;
use crate::config::section::{Section, text};
use crate::config::snapshot::{DEFAULT_CLUSTER, Kafka};
use crate::config::source::check_file;
use crate::kafka_properties::{FILE_PROPERTIES, PROBE, PropertyError, Remark, check_property, try_client};
use crate::schema_registry::Registry;

/// Each cluster has clients with their own threads and buffers.
const CLUSTERS_MAX: usize = 16;

/// The clusters with topics: that of the section `kafka` first, even without topics, then the others.
pub(super) fn compile(
    root: &Section<'_>,
    streams: &Streams,
    registries: &[Arc<Registry>],
    files: Files<'_>,
    diagnostics: &Diagnostics,
) -> Vec<Kafka> {
    let section = root.section(&keys::KAFKA_SECTION);
    let mut clusters = vec![cluster(DEFAULT_CLUSTER, &section, files, diagnostics)];
    clusters[0].warm_up = section.value(&keys::WARM_UP);
    clusters[0].required_for_readiness = required_for_readiness(&section, diagnostics);
    for (name, node) in root.entries(&keys::CLUSTERS) {
        check_cluster_name(name, diagnostics);
        let section = Section::open(&format!("clusters.{}", name.text), node, diagnostics);
        let Kafka { warm_up, required_for_readiness, .. } = clusters[0];
        let other = cluster(&name.text, &section, files, diagnostics);
        clusters.push(Kafka { warm_up, required_for_readiness, ..other });
    }
    if clusters.len() > CLUSTERS_MAX {
        diagnostics.wrong(root.place_of(&keys::CLUSTERS), format!("more than {CLUSTERS_MAX} clusters"));
    }
    let names: Vec<_> = clusters.iter().map(|cluster| cluster.cluster.clone()).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    for placed in topics::compile(root, streams, (&names, registries), files, diagnostics) {
        let cluster = clusters.iter_mut().find(|cluster| cluster.cluster == placed.cluster);
        cluster.into_iter().for_each(|cluster| cluster.topics.push(placed.topic.clone()));
    }
    clusters
}

/// Drops the clusters that no topic names, except that of the section `kafka`.
pub(super) fn keep_read(clusters: &mut Vec<Kafka>) {
    let mut index = 0..;
    clusters.retain(|cluster| index.next() == Some(0) || !cluster.topics.is_empty());
}

fn required_for_readiness(section: &Section<'_>, diagnostics: &Diagnostics) -> bool {
    let required = section.value(&keys::REQUIRED_FOR_READINESS);
    if required {
        let message = "while no broker answers, `/readyz` fails and takes the service's own traffic with it";
        diagnostics.warn(section.place_of(&keys::REQUIRED_FOR_READINESS), message);
    }
    required
}

fn check_cluster_name(name: &Name, diagnostics: &Diagnostics) {
    if name.text == DEFAULT_CLUSTER {
        let message = format!("`{DEFAULT_CLUSTER}` is the cluster of the section `kafka`");
        diagnostics.expected(name.place, message, "another name");
    }
}

fn cluster(name: &str, section: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Kafka {
    section.require(&keys::BROKERS);
    let brokers =
        section.parse(&keys::BROKERS, |text| text.split(',').all(|broker| is_broker(broker.trim())).then_some(text));
    let before = diagnostics.count();
    let properties = properties(section, files, diagnostics);
    let (property_files, secrets) = property_files(section, files, diagnostics);
    if diagnostics.count() == before {
        let known = properties.iter().chain(&secrets).cloned();
        try_properties(section, known.collect(), files, diagnostics);
    }
    let brokers = brokers.unwrap_or_default();
    check_protocols(section, brokers, &properties, diagnostics);
    Kafka {
        cluster: name.into(),
        brokers: brokers.into(),
        properties,
        property_files,
        topics: Vec::new(),
        warm_up: Duration::ZERO,
        required_for_readiness: false,
        finds_times: true,
    }
}

/// librdkafka's names of broker protocols.
const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
const PROTOCOL: &str = "security.protocol";

/// `host`, `host:port` or `PROTOCOL://host:port`, as librdkafka accepts them.
fn is_broker(text: &str) -> bool {
    let (protocol, address) = text.split_once("://").unwrap_or((PROTOCOLS[0], text));
    PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol)) && (is_host(address) || is_host_port(address))
}

/// librdkafka ignores brokers with another protocol than its own.
fn check_protocols(section: &Section<'_>, brokers: &str, properties: &[(String, String)], diagnostics: &Diagnostics) {
    let written = properties.iter().find(|(name, _)| name == PROTOCOL).map_or(PROTOCOLS[0], |(_, value)| value);
    let protocols = brokers.split(',').filter_map(|broker| Some(broker.trim().split_once("://")?.0));
    for other in protocols.filter(|protocol| !protocol.eq_ignore_ascii_case(written)) {
        let message =
            format!("`{other}://` is another protocol than that of `{PROTOCOL}`: these brokers are passed over");
        diagnostics.expected(section.place_of(&keys::BROKERS), message, "`host:port` alone");
    }
}

/// Messages contain no values, which may be secrets.
fn properties(section: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    for (name, node) in section.entries(&keys::PROPERTIES) {
        match property_value(&node.value) {
            Some(value) => {
                report_variable(name, node, diagnostics);
                check(name, &value, node.place, diagnostics);
                let value = file_named(name, value, node, files, diagnostics);
                properties.push((name.text.clone(), value));
            }
            None => diagnostics.expected(
                node.place,
                format!("the value of `{}` is not a text, whole number or flag", name.text),
                "one of these, in quotes where its spelling matters",
            ),
        }
    }
    properties
}

/// The parts of names of properties whose values are secrets.
const SECRET_PARTS: [&str; 4] = ["password", "secret", "pem", "jaas"];

/// Secrets come from files: other processes and tools see the environment, and it cannot change without a restart.
fn report_variable(name: &Name, node: &Node, diagnostics: &Diagnostics) {
    if !node.variables.is_empty() && SECRET_PARTS.iter().any(|part| name.text.contains(part)) {
        let message = format!("`{}` is a secret and cannot come from an environment variable", name.text);
        diagnostics.expected(node.place, message, "the name of its file, under `property_files`");
    }
}

/// The value of a property. A file name is relative to the directory of the configuration.
fn file_named(name: &Name, value: String, node: &Node, files: Files<'_>, diagnostics: &Diagnostics) -> String {
    let Some((_, takes_folder)) = FILE_PROPERTIES.iter().find(|(property, _)| *property == name.text) else {
        return value;
    };
    if value.is_empty() || value == PROBE {
        return value;
    }
    let path = files.base_dir.join(value);
    let checked = if files.is_read { check_file(&path, *takes_folder) } else { Ok(()) };
    if let Err(error) = checked {
        // A variable may contain the secret instead of the name of its file.
        let what = if node.variables.is_empty() { format!("`{}`", path.display()) } else { "the file".to_owned() };
        report(files, node.place, format!("`{}`: {what} cannot be read: {error}", name.text), diagnostics);
    }
    path.to_string_lossy().into_owned()
}

/// Properties in files: the names of the files, which are reread later, and the current values.
type InFiles = (Vec<(String, PathBuf)>, Vec<(String, String)>);

fn property_files(section: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> InFiles {
    let written = section.entries(&keys::PROPERTIES);
    let (mut named, mut values) = (Vec::new(), Vec::new());
    for (name, node) in section.entries(&keys::PROPERTY_FILES) {
        if written.iter().any(|(other, _)| other.text == name.text) {
            diagnostics.wrong(name.place, format!("`{}` is given in `properties` too", name.text));
        }
        let bytes = secret_file(section, &keys::PROPERTY_FILES, node, files, diagnostics);
        match bytes.map(String::from_utf8) {
            Some(Ok(value)) => {
                check(name, &value, node.place, diagnostics);
                values.push((name.text.clone(), value));
            }
            Some(Err(_)) => diagnostics.wrong(node.place, "the file is not UTF-8"),
            None if CREDENTIALS.contains(&name.text.as_str()) => values.push((name.text.clone(), UNREAD.into())),
            None => {}
        }
        named.push((name.text.clone(), files.base_dir.join(text(&node.value).unwrap_or_default())));
    }
    (named, values)
}

/// Replaces credentials in files that are not read: any value suffices to create a client.
const UNREAD: &str = "unread";
const CREDENTIALS: [&str; 2] = ["sasl.username", "sasl.password"];

/// Validates a property with the Kafka client.
fn check(name: &Name, value: &str, place: Place, diagnostics: &Diagnostics) {
    match check_property(&name.text, value) {
        Ok(()) => {}
        Err(error @ PropertyError::Value { .. }) => diagnostics.wrong(place, error.to_string()),
        Err(error @ (PropertyError::Owned(_) | PropertyError::Group(_))) => {
            diagnostics.wrong(name.place, error.to_string());
        }
        Err(error @ PropertyError::Unknown(_)) => {
            diagnostics.expected(name.place, error.to_string(), "a name such as `security.protocol`");
        }
    }
}

/// Validates all properties together, with the Kafka client, like `run`. If files are not read, properties that name
/// files are left out, and so are those that require them.
fn try_properties(
    section: &Section<'_>,
    mut properties: Vec<(String, String)>,
    files: Files<'_>,
    diagnostics: &Diagnostics,
) {
    if !files.is_read {
        let needs_file = |name: &str| ["ssl.", "https."].iter().any(|start| name.starts_with(start));
        properties.retain(|(name, _)| !needs_file(name));
    }
    let place = |property: Option<String>| {
        let entries = [section.entries(&keys::PROPERTIES), section.entries(&keys::PROPERTY_FILES)];
        let named = entries.iter().copied().flatten().find(|(name, _)| Some(&name.text) == property.as_ref());
        named.map_or_else(|| section.place_of(&keys::PROPERTIES), |(_, node)| node.place)
    };
    match try_client(&properties) {
        Ok(warnings) => warnings.into_iter().for_each(|Remark { property, reason }| {
            diagnostics.warn(place(property), format!("the Kafka client says: {reason}"));
        }),
        Err(Remark { property, reason }) => {
            let subject = property.as_ref().map(|name| format!("`{name}`: ")).unwrap_or_default();
            let message = format!("{subject}no Kafka client can be made: {reason}");
            report(files, place(property), message, diagnostics);
        }
    }
}

/// Reports why a client cannot be created. For `run`, it is a warning.
fn report(files: Files<'_>, place: Place, message: String, diagnostics: &Diagnostics) {
    if files.is_run { diagnostics.warn(place, message) } else { diagnostics.wrong(place, message) }
}

fn property_value(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Flag(flag) => Some(flag.to_string()),
        Value::Nothing | Value::Fraction(_) | Value::List(_) | Value::Map(_) => None,
    }
}

//! librdkafka's properties: the defaults, the properties that a configuration may set, and their validation by
//! librdkafka itself, without a connection.
//!
//! Errors contain librdkafka's message, but never a value, which may be a secret.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

/// Defaults that differ from librdkafka's. The properties of the configuration override them.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "sidestream"),
    // librdkafka assigns partitions only with a group id. The group is never joined, and no offset is committed.
    ("group.id", "sidestream"),
    // The prefetch buffer: 16 MiB and 10,000 records instead of 64 MiB and 100,000.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "10000"),
    ("fetch.max.bytes", "16777216"),
    // The pause after the local queue was full. The default is a second, but the queue is drained in much less.
    ("fetch.queue.backoff.ms", "10"),
    // Added partitions are discovered after half a minute instead of five.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("reconnect.backoff.max.ms", "5000"),
];

/// A batch is decompressed into at most this many bytes: a small batch must not exhaust the memory of the process.
/// librdkafka 2.12 has no such limit for gzip and LZ4 (see `src/decompressors.rs`), and triples its buffer for a zstd
/// frame without a content size, so that such a frame may be refused from 11 MiB on. Not set together with [`FETCH`],
/// which may exceed it.
const RECEIVE: (&str, &str) = ("receive.message.max.bytes", "33554432");
const FETCH: &str = "fetch.max.bytes";

/// The defaults beside these properties of a configuration, which override them.
pub(crate) fn defaults(properties: &[(String, String)]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let has_fetch = properties.iter().any(|(name, _)| name == FETCH);
    DEFAULTS.iter().copied().chain((!has_fetch).then_some(RECEIVE))
}

/// Properties that the consumer depends on. A configuration must not set them.
pub(crate) const OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    // A position outside of the log is an error, which becomes a gap, instead of being skipped silently.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
    // The lag in the statistics is relative to the stored offset.
    ("enable.auto.offset.store", "true"),
    // Reading a topic must not create it.
    ("allow.auto.create.topics", "false"),
    ("statistics.interval.ms", "2000"),
];

/// Properties whose value is the name of a file that librdkafka reads (or a directory, if `true`).
pub const FILE_PROPERTIES: [(&str, bool); 9] = [
    ("ssl.ca.location", true),
    ("https.ca.location", true),
    ("ssl.certificate.location", false),
    ("ssl.key.location", false),
    ("ssl.crl.location", true),
    ("ssl.keystore.location", false),
    ("sasl.kerberos.keytab", false),
    ("sasl.oauthbearer.assertion.private.key.file", false),
    ("sasl.oauthbearer.assertion.jwt.template.file", false),
];
/// A value of such a property that is not a file name: librdkafka's "search the usual places".
pub const PROBE: &str = "probe";

/// The addresses of brokers are a key of their own.
const BROKERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];
/// Properties of consumer groups and committed offsets.
const OF_GROUPS: [&str; 13] = [
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "coordinator.query.interval.ms",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "offset.store.method",
    "offset.store.path",
];
/// Required to assign partitions; a client that is only created does not need it.
const GROUP: &str = "group.id";
/// librdkafka's log facility for properties that are inconsistent or have no effect.
const WARNINGS: &str = "CONFWARN";
/// The most log events that are read from a client without brokers.
const EVENTS_MAX: usize = 32;
/// Shorter values occur in many words, and are not redacted.
const REDACTED_BYTES_MIN: usize = 4;

/// Why a property of the configuration cannot be used. Never contains a value, which may be a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    #[error("`{0}` is not a librdkafka property")]
    Unknown(String),
    #[error("`{name}`: {reason}")]
    Value { name: String, reason: String },
    #[error("`{0}` is set by sidestream itself")]
    Owned(String),
    #[error("`{0}` concerns consumer groups, and sidestream joins none: every replica reads all partitions")]
    Group(String),
}

/// Validates a property by name and value, without a connection.
///
/// # Errors
///
/// librdkafka rejects it, or sidestream does not allow it.
pub fn check_property(name: &str, value: &str) -> Result<(), PropertyError> {
    if BROKERS.contains(&name) || OWNED.iter().any(|(owned, _)| *owned == name) {
        return Err(PropertyError::Owned(name.into()));
    }
    if OF_GROUPS.contains(&name) {
        return Err(PropertyError::Group(name.into()));
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(PropertyError::Unknown(name.into()))
        }
        Err(error) => Err(PropertyError::Value { name: name.into(), reason: without(&said(&error), value) }),
    }
}

/// librdkafka's message about a combination of properties.
#[derive(Debug, PartialEq, Eq)]
pub struct Remark {
    /// The property in question, if it is one of those given.
    pub property: Option<String>,
    pub reason: String,
}

/// Creates a client with individually valid properties, and closes it. It has no brokers, and connects to nothing.
/// Returns warnings.
///
/// # Errors
///
/// Why the client cannot be created.
pub fn try_client(properties: &[(String, String)]) -> Result<Vec<Remark>, Remark> {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in defaults(properties).filter(|(name, _)| *name != GROUP) {
        client.set(name, value);
    }
    for (name, value) in properties {
        client.set(name, value);
    }
    let remark = |reason: &str| Remark {
        property: meant(reason, properties).map(String::from),
        reason: without_secrets(reason, properties),
    };
    let client: BaseConsumer<Listener> =
        client.create_with_context(Listener::default()).map_err(|error| remark(&said(&error)))?;
    // Fetches the log events one at a time.
    (0..EVENTS_MAX).for_each(|_| drop(client.poll(Duration::ZERO)));
    let warnings = client.context().warnings.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(warnings.iter().map(|warning| remark(warning)).collect())
}

/// The message of a librdkafka error about these properties, without secrets.
pub(crate) fn reason(error: &KafkaError, properties: &[(String, String)]) -> String {
    without_secrets(&said(error), properties)
}

/// librdkafka's own message. rdkafka's would repeat the value.
fn said(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            if reason.is_empty() {
                format!("`{name}` does not take its value")
            } else {
                without(reason, value)
            }
        }
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// The property that a text mentions: the longest one, if one name is a prefix of another.
fn meant<'a>(text: &str, properties: &'a [(String, String)]) -> Option<&'a str> {
    let names = || properties.iter().map(|(name, _)| name.as_str());
    let named = names().filter(|name| text.contains(name)).max_by_key(|name| name.len());
    let begins = |start: &str| names().find(|name| name.starts_with(start));
    let of_sasl = || begins("sasl.mechanism").or_else(|| begins("security.protocol"));
    named.or_else(|| if text.contains("SASL") { of_sasl() } else { None })
}

fn without_secrets(text: &str, properties: &[(String, String)]) -> String {
    const MEANT: [&str; 6] = ["password", "secret", "pem", "config", "username", "token"];
    let is_secret = |name: &str| MEANT.iter().any(|part| name.contains(part));
    let secrets = properties.iter().filter(|(name, _)| is_secret(name));
    secrets.fold(text.to_owned(), |text, (_, value)| {
        value.split_whitespace().fold(without(&text, value), |text, word| without(&text, word))
    })
}

fn without(text: &str, value: &str) -> String {
    match value.len() {
        0 => text.into(),
        REDACTED_BYTES_MIN.. => text.replace(value, "..."),
        _ => text.replace(&format!("\"{value}\""), "\"...\""),
    }
}

/// Collects messages about properties.
#[derive(Default)]
struct Listener {
    warnings: Mutex<Vec<String>>,
}

impl ConsumerContext for Listener {}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == WARNINGS && level as i32 <= RDKafkaLogLevel::Warning as i32 {
            // Each message begins with the name of the client.
            let said = message.split_once(": ").map_or(message, |(_, said)| said);
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(said.into());
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(properties: &[(&str, &str)]) -> Result<Vec<Remark>, Remark> {
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (name, value) in &properties {
            check_property(name, value).unwrap();
        }
        try_client(&properties)
    }

    #[test]
    fn properties_are_checked_by_name_and_value() {
        let check = check_property;
        assert_eq!(check("security.protocol", "SASL_SSL"), Ok(()));
        assert_eq!(check("sasl.password", "secret"), Ok(()));
        assert_eq!(check("no.such.property", "1"), Err(PropertyError::Unknown("no.such.property".into())));
        let refused = check("security.protocol", "s3cret").unwrap_err();
        assert!(matches!(&refused, PropertyError::Value { name, .. } if name == "security.protocol"));
        assert!(!refused.to_string().contains("s3cret"));
        assert_eq!(check("auto.offset.reset", "latest"), Err(PropertyError::Owned("auto.offset.reset".into())));
    }

    #[test]
    fn errors_contain_librdkafkas_reason_without_the_value() {
        for (name, value, part) in [
            ("ssl.truststore.location", "/hunter2.jks", "use `ssl.ca.location`"),
            ("sasl.jaas.config", "hunter2", "not supported"),
            ("sasl.oauthbearer.method", "oidc", "not supported in this build"),
            ("security.protocol", "hunter2", "security.protocol"),
            ("fetch.wait.max.ms", "hunter2", "fetch.wait.max.ms"),
            ("fetch.wait.max.ms", "-5", "fetch.wait.max.ms"),
        ] {
            let said = check_property(name, value).unwrap_err().to_string();
            assert!(said.contains(part) && !said.contains("hunter2"), "{said}");
        }
        assert!(matches!(check_property("group.id", "mine"), Err(PropertyError::Group(_))));
    }

    #[test]
    fn inconsistent_properties_are_detected() {
        assert_eq!(trial(&[]), Ok(Vec::new()));
        let scram = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "SCRAM-SHA-512")];
        let with_credentials = [scram[0], scram[1], ("sasl.username", "u"), ("sasl.password", "hunter2")];
        assert_eq!(trial(&with_credentials), Ok(Vec::new()));
        for (properties, property) in [
            (&[("security.protocol", "SASL_SSL")][..], "security.protocol"),
            (&[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "nonsense")], "sasl.mechanism"),
            (&[("security.protocol", "SSL"), ("ssl.ca.pem", "hunter2")], "ssl.ca.pem"),
            (&[("security.protocol", "SSL"), ("ssl.key.pem", "hunter2")], "ssl.key.pem"),
        ] {
            let remark = trial(properties).unwrap_err();
            assert_eq!(remark.property.as_deref(), Some(property), "{remark:?}");
            assert!(!remark.reason.contains("hunter2"), "{remark:?}");
        }
    }

    #[test]
    fn properties_without_effect_cause_a_warning() {
        let warnings = trial(&[("batch.size", "5"), ("sasl.mechanism", "PLAIN")]).unwrap();
        let said: Vec<_> = warnings.iter().map(|warning| warning.reason.as_str()).collect();
        assert!(said.iter().any(|said| said.contains("batch.size is a producer property")), "{said:?}");
        assert!(said.iter().any(|said| said.contains("`security.protocol` is not configured for SASL")), "{said:?}");
        assert!(warnings.iter().any(|warning| warning.property.as_deref() == Some("batch.size")), "{warnings:?}");
    }
}

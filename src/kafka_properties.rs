//! librdkafka's properties: the defaults, the properties that a configuration may set, and their check by librdkafka itself,
//! without a connection.
//!
//! Errors pass on what librdkafka reports, but never a value: it may be a secret.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

/// Defaults that differ from librdkafka's. The properties of the configuration override them.
pub(crate) const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "sidestream"),
    // librdkafka assigns partitions only where a group is named; it is never joined and nothing is committed to it.
    ("group.id", "sidestream"),
    // Fetched and not yet decoded: 16 MiB and 10,000 records instead of 64 MiB and 100,000.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "10000"),
    ("fetch.max.bytes", "16777216"),
    // The pause after the local queue was full. The default is a second, but the queue is drained in much less.
    ("fetch.queue.backoff.ms", "10"),
    // Added partitions are seen after half a minute instead of five.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("reconnect.backoff.max.ms", "5000"),
];

/// Properties that the consumer depends on. A configuration that sets one of these is refused.
pub(crate) const OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    // A position outside the log is an error that becomes a gap, not something to skip silently.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
    // The lag in the statistics is measured from the stored position.
    ("enable.auto.offset.store", "true"),
    // Reading a topic must not create it.
    ("allow.auto.create.topics", "false"),
    ("statistics.interval.ms", "2000"),
];

/// Properties whose value names a file (or, where `true`, a folder as well) that librdkafka reads.
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
/// A value of one of these that names no file: librdkafka's word for "look in the usual places".
pub const PROBE: &str = "probe";

/// Where brokers are is a key of its own.
const BROKERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];
/// What concerns consumer groups, and positions that are committed to them.
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
/// Needed to assign partitions, of no use to a client that is only made.
const GROUP: &str = "group.id";
/// What librdkafka logs of properties that make no sense together, or do nothing.
const WARNINGS: &str = "CONFWARN";
/// Events of a client without brokers that are looked at.
const EVENTS_MAX: usize = 32;
/// Values shorter than this are in many a word.
const REDACTED_BYTES_MIN: usize = 4;

/// Why a property of the configuration cannot be used. Never shows a value: it may be a secret.
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

/// Checks a property by name and value, without connecting to anything.
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

/// What librdkafka says of properties together.
#[derive(Debug, PartialEq, Eq)]
pub struct Remark {
    /// The property that is meant, of those that were given.
    pub property: Option<String>,
    pub reason: String,
}

/// Makes a client of properties that are sound one by one, and lets it go. It has no brokers, so that it connects to
/// nothing. Gives the warnings, or why there is no client.
pub fn try_client(properties: &[(String, String)]) -> Result<Vec<Remark>, Remark> {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in DEFAULTS.iter().filter(|(name, _)| *name != GROUP) {
        client.set(*name, *value);
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
    // Hands over what was logged, one event at a time.
    (0..EVENTS_MAX).for_each(|_| drop(client.poll(Duration::ZERO)));
    let warnings = client.context().warnings.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(warnings.iter().map(|warning| remark(warning)).collect())
}

/// What an error of librdkafka says of these properties, without their secrets.
pub(crate) fn reason(error: &KafkaError, properties: &[(String, String)]) -> String {
    without_secrets(&said(error), properties)
}

/// librdkafka's own words. rdkafka's would repeat the value.
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

/// The property that a text names, the longest where one's name begins another's.
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

/// Keeps what is said of properties.
#[derive(Default)]
struct Listener {
    warnings: Mutex<Vec<String>>,
}

impl ConsumerContext for Listener {}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == WARNINGS && level as i32 <= RDKafkaLogLevel::Warning as i32 {
            // Each begins with the name of the client.
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
    fn librdkafkas_reason_is_passed_on_and_the_value_is_not() {
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
    fn what_makes_no_client_together_is_found() {
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
    fn what_does_nothing_is_warned_of() {
        let warnings = trial(&[("batch.size", "5"), ("sasl.mechanism", "PLAIN")]).unwrap();
        let said: Vec<_> = warnings.iter().map(|warning| warning.reason.as_str()).collect();
        assert!(said.iter().any(|said| said.contains("batch.size is a producer property")), "{said:?}");
        assert!(said.iter().any(|said| said.contains("`security.protocol` is not configured for SASL")), "{said:?}");
        assert!(warnings.iter().any(|warning| warning.property.as_deref() == Some("batch.size")), "{warnings:?}");
    }
}

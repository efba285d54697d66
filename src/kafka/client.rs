//! The Kafka client: its configuration, and its reports (connection, errors, statistics).
//!
//! Its own log is mostly suppressed: [`Link`] logs an outage once, however often the client retries.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Deserialize;

use super::probe::is_unreadable;
use super::watch::Standing;
use super::{decompression, leaders};
use crate::config::snapshot::Kafka;
use crate::config::{check_file, read_secret_text};
use crate::kafka_properties::{FILE_PROPERTIES, OWNED, PROBE, defaults, reason};
use crate::metrics::Metrics;

pub(super) type Client = BaseConsumer<Context>;

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{reason}")]
    Client { reason: String, code: Option<RDKafkaErrorCode> },
    #[error("the file of `{property}` cannot be read: {error}")]
    File { property: String, error: io::Error },
}

impl ConnectError {
    pub(super) fn code(&self) -> Option<RDKafkaErrorCode> {
        match self {
            Self::Client { code, .. } => *code,
            Self::File { .. } => None,
        }
    }
}

/// The properties of a client that only sends requests and fetches nothing.
const QUESTIONS: &[(&str, &str)] = &[
    ("statistics.interval.ms", "0"),
    // Limits how long requests go to a former leader.
    ("topic.metadata.refresh.interval.ms", "5000"),
];
/// Without a group, librdkafka looks up no coordinator, and cannot assign partitions.
const GROUP: &str = "group.id";

/// The client's `isolation.level`, by default `Committed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    Committed,
    Uncommitted,
}

impl Isolation {
    /// The isolation level in this configuration.
    pub(super) fn of(config: &Kafka) -> Self {
        match config.properties.iter().rfind(|(name, _)| name == "isolation.level") {
            Some((_, level)) if level == "read_uncommitted" => Self::Uncommitted,
            _ => Self::Committed,
        }
    }
}

/// Creates a client for [`super::ask`] that fetches nothing, so that no fetch delays its requests. Fails like
/// [`connect`].
pub(super) fn connect_for_questions(config: &Kafka, context: Context) -> Result<Client, ConnectError> {
    let properties = properties(config)?;
    let mut client = settings(config, QUESTIONS, &properties);
    client.remove(GROUP);
    create(&client, &properties, context)
}

/// Creates the consumer, which looks up the leaders of the topics' partitions at once. Fails if a property is invalid
/// (for example, if a certificate does not exist yet). Files of properties are read now, by librdkafka or here. `own`
/// overrides all other properties.
pub(super) fn connect(config: &Kafka, own: &[(&str, &str)], context: Context) -> Result<Client, ConnectError> {
    let properties = properties(config)?;
    let client = create(&settings(config, own, &properties), &properties, context)?;
    leaders::look_up(client.client(), config.topics.iter().map(|topic| &topic.source));
    Ok(client)
}

fn settings(config: &Kafka, own: &[(&str, &str)], properties: &[(String, String)]) -> ClientConfig {
    let mut client = ClientConfig::new();
    // librdkafka applies the log level; `Context::log` filters further.
    client.set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in defaults(properties) {
        client.set(name, value);
    }
    for (name, value) in properties {
        client.set(name, value);
    }
    for (name, value) in OWNED.iter().chain(own) {
        client.set(*name, *value);
    }
    client.set("bootstrap.servers", &config.brokers);
    client
}

fn create(client: &ClientConfig, properties: &[(String, String)], context: Context) -> Result<Client, ConnectError> {
    decompression::allow(client.get("receive.message.max.bytes"));
    let failed = |error: KafkaError| ConnectError::Client {
        reason: reason(&error, properties),
        code: error.rdkafka_error_code(),
    };
    client.create_with_context(context).map_err(failed)
}

/// The properties, with the contents of files. librdkafka opens files of properties itself and would block on a pipe,
/// so they are checked first.
fn properties(config: &Kafka) -> Result<Vec<(String, String)>, ConnectError> {
    let mut properties = config.properties.clone();
    for (name, value) in &config.properties {
        if let Some((_, takes_folder)) = FILE_PROPERTIES.iter().find(|(file, _)| file == name) {
            let checked = if value == PROBE { Ok(()) } else { check_file(Path::new(value), *takes_folder) };
            checked.map_err(|error| ConnectError::File { property: name.clone(), error })?;
        }
    }
    for (name, path) in &config.property_files {
        let value = read_secret_text(path).map_err(|error| ConnectError::File { property: name.clone(), error })?;
        properties.push((name.clone(), value));
    }
    Ok(properties)
}

/// Whether Kafka responds, shared with the status.
#[derive(Debug)]
pub(super) struct Link {
    cluster: Arc<str>,
    connected: AtomicBool,
    metrics: Arc<Metrics>,
    /// What has been logged since the connection last changed: one line per kind.
    logged: Mutex<HashSet<Cow<'static, str>>>,
}

impl Link {
    pub(super) fn new(cluster: Arc<str>, metrics: Arc<Metrics>) -> Self {
        Self { cluster, connected: AtomicBool::new(false), metrics, logged: Mutex::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn up(&self) {
        if !self.connected.swap(true, Ordering::Relaxed) {
            self.metrics.kafka_connected.inc();
            self.logged().clear();
            tracing::info!(cluster = &*self.cluster, "connected to Kafka");
        }
    }

    pub(super) fn down(&self, reason: &str) {
        if self.connected.swap(false, Ordering::Relaxed) {
            self.metrics.kafka_connected.dec();
            self.logged().clear();
        }
        if self.logged().insert("down".into()) {
            tracing::warn!(cluster = &*self.cluster, reason, "Kafka does not answer; retrying");
        }
    }

    /// Counts an error of the client, and logs the first of its kind since the connection changed.
    pub(super) fn error(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        let kind = kind_of(code);
        self.metrics.kafka_errors.with_label_values(&[kind]).inc();
        match kind {
            "transport" if code == Some(RDKafkaErrorCode::AllBrokersDown) => self.down(reason),
            // One of several brokers: not an outage, which is logged separately.
            "transport" => tracing::debug!(cluster = &*self.cluster, reason, "Kafka connection error"),
            _ if self.logged().insert(kind.into()) => {
                tracing::warn!(cluster = &*self.cluster, kind, reason, "Kafka error");
            }
            _ => tracing::debug!(cluster = &*self.cluster, kind, reason, "Kafka error"),
        }
    }

    /// A topic does not exist, or is not readable. Logged once per topic, until the connection changes.
    pub(super) fn missing_topic(&self, topic: &str, code: RDKafkaErrorCode) {
        self.metrics.kafka_errors.with_label_values(&[kind_of(Some(code))]).inc();
        if self.logged().insert(format!("topic {topic}").into()) {
            tracing::warn!(cluster = &*self.cluster, topic, %code, "topic not found; retrying");
        }
    }

    fn logged(&self) -> std::sync::MutexGuard<'_, HashSet<Cow<'static, str>>> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.is_up() {
            self.metrics.kafka_connected.dec();
        }
    }
}

/// The label value in metrics, from a small set.
fn kind_of(code: Option<RDKafkaErrorCode>) -> &'static str {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::NetworkException) => "transport",
        Some(Code::Resolve) => "resolve",
        Some(Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue) => "timeout",
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => "authentication",
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            "authorization"
        }
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => "topic",
        Some(Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange) => "offset",
        _ => "other",
    }
}

/// Called on a thread of librdkafka when a response may have arrived. Must not block.
pub(super) type OnAnswer = Box<dyn Fn() + Send + Sync>;

/// Receives the client's reports, on the thread that polls it.
pub(super) struct Context {
    link: Arc<Link>,
    /// The latest statistics, until they are taken.
    pub(super) statistics: Mutex<Option<Statistics>>,
    /// A broker has rejected the credentials since this was last read.
    pub(super) refused: AtomicBool,
    /// The client has met a batch that may be unreadable since this was last read.
    pub(super) unreadable: AtomicBool,
    /// The client is closing: its reports are ignored.
    pub(super) retired: AtomicBool,
    pub(super) on_answer: Option<OnAnswer>,
}

impl Context {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (statistics, refused, unreadable, retired) = Default::default();
        Self { link, statistics, refused, unreadable, retired, on_answer: None }
    }

    /// For a client that only sends requests. Its errors are not reported, because the consumer reports the same ones.
    pub(super) fn for_questions(link: Arc<Link>, on_answer: Option<OnAnswer>) -> Self {
        Self { retired: true.into(), on_answer, ..Self::new(link) }
    }
}

impl ConsumerContext for Context {}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // These repeat with every connection attempt, and are also passed to `error`.
        let retried = matches!(facility, "FAIL" | "ERROR" | "REQTMOUT" | "APIVERSION");
        match level {
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", facility, message);
            }
            _ if retried => tracing::debug!(target: "librdkafka", facility, message),
            _ => tracing::warn!(target: "librdkafka", facility, message),
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        match serde_json::from_slice(json) {
            Ok(statistics) => {
                *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics);
            }
            Err(error) => tracing::debug!(%error, "unreadable librdkafka statistics"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        let code = error.rdkafka_error_code();
        if kind_of(code) == "authentication" {
            self.refused.store(true, Ordering::Relaxed);
        }
        if code.is_some_and(is_unreadable) {
            self.unreadable.store(true, Ordering::Relaxed);
        }
        self.link.error(code, reason);
    }
}

/// The part of librdkafka's statistics that is used (its STATISTICS.md).
#[derive(Debug, Deserialize)]
pub(super) struct Statistics {
    brokers: BTreeMap<String, BrokerStatistics>,
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Debug, Deserialize)]
struct BrokerStatistics {
    /// Negative for an address whose broker id is unknown.
    nodeid: i32,
    state: String,
}

#[derive(Debug, Deserialize)]
struct TopicStatistics {
    partitions: BTreeMap<i32, PartitionStatistics>,
}

/// One partition. Unknown offsets are negative.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PartitionStatistics {
    unknown: bool,
    fetchq_cnt: i64,
    /// The next offset to fetch.
    next_offset: i64,
    /// The offset after the last record that the application received.
    app_offset: i64,
    eof_offset: i64,
    hi_offset: i64,
    ls_offset: i64,
}

impl Statistics {
    /// Whether a broker responds.
    pub(super) fn connected(&self) -> bool {
        self.brokers.values().any(|broker| broker.state == "UP")
    }

    /// The brokers that respond and whose ids are known.
    pub(super) fn brokers(&self) -> Vec<i32> {
        let up = self.brokers.values().filter(|broker| broker.state == "UP" && broker.nodeid >= 0);
        up.map(|broker| broker.nodeid).collect()
    }

    /// The number of known partitions of the topic.
    pub(super) fn partitions(&self, topic: &str) -> usize {
        let partitions = self.topics.get(topic).map(|topic| &topic.partitions);
        partitions.map_or(0, |all| all.iter().filter(|(id, partition)| **id >= 0 && !partition.unknown).count())
    }

    pub(super) fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionStatistics> {
        self.topics.get(topic)?.partitions.get(&partition)
    }
}

impl PartitionStatistics {
    /// The state of the partition, where `next` is the offset after the last received record.
    pub(super) fn standing(&self, next: i64) -> Standing {
        let stable = if self.ls_offset >= 0 { self.ls_offset } else { self.hi_offset };
        // If the fetch queue is empty, the offsets up to the fetch position contain no more records.
        let passed = if self.fetchq_cnt == 0 { self.next_offset } else { self.app_offset };
        let next = next.max(self.app_offset).max(passed);
        Standing { next, fetched: self.next_offset, stable, end: self.hi_offset }
    }

    /// Whether the readable end has been reached since the assignment, and all records before it were received. Also
    /// true if the log ends with offsets without readable records (compacted, aborted or uncommitted), which the
    /// position never passes.
    pub(super) fn reached_end(&self) -> bool {
        self.eof_offset >= 0 && self.fetchq_cnt == 0
    }
}

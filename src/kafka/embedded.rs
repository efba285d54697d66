//! The broker of the demo and of tests: librdkafka's mock cluster, in this process, on a free port of 127.0.0.1.
//!
//! It keeps the newest 5 MiB of each partition in memory. It differs from Kafka: it has no transactions, no compaction
//! and no retention by time, and topics are created here instead of by clients.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

/// Properties for its clients. The mock cluster does not complete a waiting fetch when data arrives, so that the
/// default wait of half a second would be the latency. Apache Kafka does, and does not need this.
///
/// After an outage, the default reconnect backoff of ten seconds would be too long.
pub const PROPERTIES: &[(&str, &str)] = &[("fetch.wait.max.ms", "10"), RECONNECT];

const RECONNECT: (&str, &str) = ("reconnect.backoff.max.ms", "500");
/// The mock cluster's id for "all brokers".
const ALL_BROKERS: i32 = -1;

/// The largest record of the producer, in bytes.
const RECORD_BYTES_MAX: &str = "20000000";
/// How long a drop waits for undelivered records.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// A running broker with a producer; dropping it stops both.
pub struct Embedded {
    /// Owns the cluster. The producer's bootstrap servers are the cluster's.
    pub(super) producer: ThreadedProducer<Quiet>,
}

/// Why the broker did not start, or rejected a record.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("the embedded broker: {0}")]
    Kafka(#[from] KafkaError),
    #[error("the embedded broker did not start")]
    NoCluster,
}

impl Embedded {
    /// Starts one broker with these topics and their numbers of partitions.
    ///
    /// # Errors
    ///
    /// The broker or its producer cannot be created.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let producer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("linger.ms", "0")
            .set("message.max.bytes", RECORD_BYTES_MAX)
            // After an outage, undelivered records are sent again: once, and in order.
            .set("enable.idempotence", "true")
            .set(RECONNECT.0, RECONNECT.1)
            .create_with_context(Quiet)?;
        let embedded = Self { producer };
        for (topic, partitions) in topics {
            embedded.cluster()?.create_topic(topic, *partitions, 1)?;
        }
        Ok(embedded)
    }

    /// `127.0.0.1:port`.
    ///
    /// # Errors
    ///
    /// The mock cluster is gone.
    pub fn bootstrap_servers(&self) -> Result<String, EmbeddedError> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    /// Sends a record through the producer; the key determines the partition. Does not block.
    ///
    /// # Errors
    ///
    /// The producer rejects the record.
    pub fn produce(&self, topic: &str, key: &str, payload: Option<&[u8]>) -> Result<(), EmbeddedError> {
        let record = BaseRecord::<str, [u8]> { payload, ..BaseRecord::to(topic).key(key) };
        self.producer.send(record).map_err(|(error, _)| error.into())
    }

    /// Disconnects the broker from the network and closes its connections, or connects it again. The broker keeps its
    /// records, and new ones wait in the producer. Does not block.
    ///
    /// # Errors
    ///
    /// The mock cluster rejects the change.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), EmbeddedError> {
        let cluster = self.cluster()?;
        let outcome = if reachable { cluster.broker_up(ALL_BROKERS) } else { cluster.broker_down(ALL_BROKERS) };
        Ok(outcome?)
    }

    pub(super) fn cluster(&self) -> Result<MockCluster<'_, Quiet>, EmbeddedError> {
        self.producer.client().mock_cluster().ok_or(EmbeddedError::NoCluster)
    }
}

/// The producer's log of an outage would only repeat the source's.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the embedded broker's producer");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the embedded broker's producer");
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Err(error) = self.producer.flush(FLUSH_WAIT) {
            tracing::debug!(%error, "records were lost with the embedded broker");
        }
    }
}

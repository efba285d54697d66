//! A producer that reports the ids of its records, and its broker: librdkafka's mock cluster in the test's own process,
//! or an external one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext};
use serde_json::{Value, json};

use super::eventually;

/// The mock cluster's id for "all brokers".
const ALL_BROKERS: i32 = -1;
/// Larger than any record a test sends, in bytes.
const RECORD_BYTES_MAX: &str = "33554432";
const POLL: Duration = Duration::from_millis(5);

pub struct Broker {
    producer: Sender,
    address: String,
    /// `None` if the broker is external.
    cluster: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Broker {
    /// Starts a broker with these topics and their numbers of partitions.
    pub fn start(topics: &[(&str, i32)]) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for (name, partitions) in topics {
            cluster.create_topic(name, *partitions, 1).unwrap();
        }
        let address = cluster.bootstrap_servers();
        Self { cluster: Some(cluster), ..Self::at(&address) }
    }

    /// Uses a running broker.
    pub fn at(address: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .set("linger.ms", "0")
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .set("reconnect.backoff.max.ms", "200")
            .create_with_context(Receipts)
            .unwrap();
        Self { producer: Sender(producer), address: address.to_owned(), cluster: None }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Appends a record, and returns its event id, `topic:partition:offset`, once the broker has it.
    pub fn produce(&self, topic: &str, partition: i32, key: Option<&str>, value: Option<&[u8]>) -> String {
        let receipt = self.send(topic, partition, key, value);
        self.await_receipt(&receipt)
    }

    /// Appends a record with headers; a header may have no value.
    pub fn produce_with_headers<'a>(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&str>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> String {
        let receipt = Receipt::default();
        let mut record =
            BaseRecord::<str, [u8], _>::with_opaque_to(topic, Box::new(receipt.clone())).partition(partition);
        (record.key, record.payload) = (key, value);
        let headers = headers.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value }));
        self.producer.0.send(record.headers(headers)).map_err(|(error, _)| error).unwrap();
        self.await_receipt(&receipt)
    }

    /// Appends a record with this time, in milliseconds since the Unix epoch.
    pub fn produce_at(&self, topic: &str, partition: i32, ms: i64, value: &[u8]) -> String {
        let receipt = Receipt::default();
        let record = BaseRecord::<str, [u8], _>::with_opaque_to(topic, Box::new(receipt.clone()));
        let record = record.partition(partition).payload(value).timestamp(ms);
        self.producer.0.send(record).map_err(|(error, _)| error).unwrap();
        self.await_receipt(&receipt)
    }

    /// Appends records without waiting in between, in order.
    pub fn produce_all<'a>(&self, topic: &str, partition: i32, values: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        let receipts: Vec<_> = values.map(|value| self.send(topic, partition, None, Some(value))).collect();
        receipts.iter().map(|receipt| self.await_receipt(receipt)).collect()
    }

    /// Produces an event on topic `orders` with the key `orderId`.
    pub fn order(&self, order_id: &str) -> String {
        self.event("orders", 0, json!({"type": "order-updated", "orderId": order_id, "data": {"orderId": order_id}}))
    }

    /// Produces `count` events of one order on topic `orders`.
    pub fn orders(&self, order_id: &str, count: usize) -> Vec<String> {
        let values: Vec<String> = (0..count)
            .map(|n| json!({"type": "order-updated", "orderId": order_id, "data": {"n": n}}).to_string())
            .collect();
        self.produce_all("orders", 0, values.iter().map(String::as_bytes))
    }

    /// Produces an event on topic `notices` with the key `userId`.
    pub fn notice(&self, user_id: &str) -> String {
        self.event("notices", 0, json!({"type": "notice", "userId": user_id, "data": {"for": user_id}}))
    }

    /// Produces a record with this JSON as its value.
    pub fn event(&self, topic: &str, partition: i32, envelope: Value) -> String {
        self.produce(topic, partition, None, Some(envelope.to_string().as_bytes()))
    }

    /// Produces a record on partition 0 with this `traceparent` header.
    pub fn produce_in_trace(&self, topic: &str, value: &str, traceparent: &str) -> String {
        let receipt = Receipt::default();
        let header = Header { key: "traceparent", value: Some(traceparent) };
        let record = BaseRecord::<str, str, _>::with_opaque_to(topic, Box::new(receipt.clone()));
        let record = record.partition(0).payload(value).headers(OwnedHeaders::new().insert(header));
        self.producer.0.send(record).map_err(|(error, _)| error).unwrap();
        self.await_receipt(&receipt)
    }

    /// Closes every connection, and rejects new ones.
    pub fn down(&self) {
        self.mock().broker_down(ALL_BROKERS).unwrap();
    }

    pub fn up(&self) {
        self.mock().broker_up(ALL_BROKERS).unwrap();
    }

    fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        self.cluster.as_ref().expect("a broker of the test's own")
    }

    fn send(&self, topic: &str, partition: i32, key: Option<&str>, value: Option<&[u8]>) -> Receipt {
        let receipt = Receipt::default();
        let mut record =
            BaseRecord::<str, [u8], _>::with_opaque_to(topic, Box::new(receipt.clone())).partition(partition);
        record.key = key;
        record.payload = value;
        self.producer.0.send(record).map_err(|(error, _)| error).unwrap();
        receipt
    }

    fn await_receipt(&self, receipt: &Receipt) -> String {
        eventually("the broker's receipt of a record", || {
            self.producer.0.poll(POLL);
            receipt.lock().unwrap().take()
        })
    }
}

/// Dropped before the cluster.
struct Sender(BaseProducer<Receipts>);

impl Drop for Sender {
    fn drop(&mut self) {
        // Undelivered records of a failed test must not delay the end of the producer.
        self.0.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

type Receipt = Arc<Mutex<Option<String>>>;

/// Records the id of each record.
struct Receipts;

impl ClientContext for Receipts {}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<Receipt>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Box<Receipt>) {
        if let Ok(record) = result {
            let id = format!("{}:{}:{}", record.topic(), record.partition(), record.offset());
            *receipt.lock().unwrap() = Some(id);
        }
    }
}

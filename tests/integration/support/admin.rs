//! Operations that need a real broker: creating, extending and truncating topics, and transactions.

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::{DEADLINE, eventually_true};

/// Sends administrative requests to a broker, and waits for them.
pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    address: String,
}

impl Admin {
    pub fn of(address: &str) -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client, runtime, address: address.to_owned() }
    }

    /// Creates a topic with these settings.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic.config = config.to_vec();
        let made = self.runtime.block_on(self.client.create_topics([&topic], &options())).unwrap();
        assert_eq!(made, [Ok(name.to_owned())]);
        self.await_partitions(name, usize::try_from(partitions).unwrap());
    }

    /// Creates a topic with a partition for each of these lists of node ids, which place its replicas.
    pub fn create_topic_on(&self, name: &str, replicas: &[&[i32]]) {
        let topic = NewTopic::new(name, replicas.len() as i32, TopicReplication::Variable(replicas));
        let made = self.runtime.block_on(self.client.create_topics([&topic], &options())).unwrap();
        assert_eq!(made, [Ok(name.to_owned())]);
        self.await_partitions(name, replicas.len());
    }

    /// Extends a topic to this number of partitions.
    pub fn grow(&self, name: &str, partitions: usize) {
        let wanted = NewPartitions::new(name, partitions);
        let grown = self.runtime.block_on(self.client.create_partitions([&wanted], &options())).unwrap();
        assert_eq!(grown, [Ok(name.to_owned())]);
        self.await_partitions(name, partitions);
    }

    /// The controller responds before the brokers know of a change: waits until each of them reports leaders for this
    /// many partitions.
    fn await_partitions(&self, name: &str, partitions: usize) {
        for address in self.address.split(',') {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
            eventually_true("the partitions of a topic", || {
                let metadata = client.fetch_metadata(Some(name), DEADLINE).unwrap();
                let known = metadata.topics()[0].partitions();
                known.len() >= partitions && known.iter().all(|partition| partition.leader() >= 0)
            });
        }
    }

    /// Tries the same, for which the brokers may not be ready. Whether the topic has the partitions now.
    #[allow(dead_code)] // For the soak test.
    pub fn try_grow(&self, name: &str, partitions: usize) -> bool {
        let wanted = NewPartitions::new(name, partitions);
        let grown = self.runtime.block_on(self.client.create_partitions([&wanted], &options()));
        matches!(grown.as_deref(), Ok([Ok(_)]))
    }

    /// Deletes the records before this offset of partition 0.
    pub fn delete_before(&self, name: &str, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, 0, Offset::Offset(offset)).unwrap();
        let left = self.runtime.block_on(self.client.delete_records(&list, &options())).unwrap();
        assert_eq!(left.elements()[0].offset(), Offset::Offset(offset), "{left:?}");
    }

    /// The first offset of partition 0.
    pub fn start_of(&self, topic: &str) -> i64 {
        self.client.inner().fetch_watermarks(topic, 0, DEADLINE).unwrap().0
    }

    /// Replaces the settings of a topic.
    pub fn configure(&self, topic: &str, config: &[(&str, &str)]) {
        let wanted = config
            .iter()
            .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |wanted, (name, value)| wanted.set(name, value));
        let done = self.runtime.block_on(self.client.alter_configs([&wanted], &options())).unwrap();
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    pub fn delete_topic(&self, name: &str) {
        let deleted = self.runtime.block_on(self.client.delete_topics(&[name], &options())).unwrap();
        assert_eq!(deleted, [Ok(name.to_owned())]);
    }

    /// Appends these values to partition 0 in a transaction that stays open: as long as the producer exists, and until
    /// Kafka's transaction timeout.
    pub fn open_transaction(&self, topic: &str, values: &[String]) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("transactional.id", format!("of-{topic}"))
            .create()
            .unwrap();
        producer.init_transactions(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        for value in values {
            let record = BaseRecord::<(), _>::to(topic).partition(0).payload(value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        // Aborted records must be in the log as well: aborting would purge those that are still queued.
        producer.flush(DEADLINE).unwrap();
        producer
    }

    /// Appends these values to partition 0 in one transaction, which is committed or aborted. Returns when its marker
    /// is in the log: the coordinator responds before it writes the markers, so that a record sent at once could
    /// precede it.
    pub fn transaction(&self, topic: &str, values: &[String], commit: bool) {
        let producer = self.open_transaction(topic, values);
        if commit {
            producer.commit_transaction(DEADLINE).unwrap();
        } else {
            producer.abort_transaction(DEADLINE).unwrap();
        }
        let [stable, all] = ["read_committed", "read_uncommitted"].map(|isolation| self.reader(isolation));
        let end = |reader: &BaseConsumer| reader.fetch_watermarks(topic, 0, DEADLINE).unwrap().1;
        eventually_true("the marker of a transaction", || end(&stable) == end(&all));
    }

    fn reader(&self, isolation: &str) -> BaseConsumer {
        ClientConfig::new().set("bootstrap.servers", &self.address).set("isolation.level", isolation).create().unwrap()
    }
}

/// Appends records with this value to partition 0, as one batch with this compression.
pub fn produce_batch(address: &str, topic: &str, codec: &str, count: usize, value: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("compression.codec", codec)
        .set("linger.ms", "60000")
        .set("message.max.bytes", "1000000000")
        .set("batch.size", "1000000000")
        .create()
        .unwrap();
    for _ in 0..count {
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(Duration::from_secs(30)))
}

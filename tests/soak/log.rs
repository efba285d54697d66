//! Reads the committed log from its start to its end with an independent consumer.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::history::{Op, Place, Recorder};
use crate::plan::TOPICS;
use crate::producer::Partitions;

const ANSWER: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// For all of it.
const READ: Duration = Duration::from_secs(120);

/// Records every record in the log.
pub fn read(brokers: &str, partitions: &Partitions, recorder: &Recorder) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "soak")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for (topic, partitions) in TOPICS.iter().zip(partitions) {
        for partition in 0..partitions.load(Ordering::Relaxed) {
            let (low, high) = consumer.fetch_watermarks(topic.name, partition, ANSWER).unwrap();
            list.add_partition_offset(topic.name, partition, Offset::Offset(low)).unwrap();
            if low < high {
                ends.insert((topic.name.to_owned(), partition), high);
            }
        }
    }
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + READ;
    while !is_at(&consumer, &ends) {
        assert!(Instant::now() < deadline, "the log is not read within {READ:?}");
        while let Some(record) = consumer.poll(POLL) {
            let Ok(record) = record else { continue };
            let value: Value = serde_json::from_slice(record.payload().expect("a value")).unwrap();
            let text = |name: &str| value[name].as_str().unwrap_or_default();
            let place = Place { topic: record.topic().into(), part: record.partition(), off: record.offset() };
            let uid = value["data"]["uid"].as_str().expect("a uid").into();
            recorder.note(Op::Log { place, uid, acl: format!("{}/{}", text("tenant"), text("user")).into() });
        }
    }
}

/// Whether the consumer's position is at these ends. It passes control records, which are not returned.
fn is_at(consumer: &BaseConsumer, ends: &HashMap<(String, i32), i64>) -> bool {
    let positions = consumer.position().unwrap().to_topic_map();
    ends.iter().all(|(log, end)| matches!(positions.get(log), Some(Offset::Offset(at)) if at >= end))
}

//! What is asked of the brokers. Every question waits for its answer, at most [`QUERY_WAIT`], and may fail.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::client::Client;

/// How long one question may take. Nothing is read meanwhile.
const QUERY_WAIT: Duration = Duration::from_secs(1);

/// How many partitions a topic has, or the code the cluster answered instead.
pub(super) fn partition_count(client: &Client, topic: &str) -> Result<Result<i32, RDKafkaErrorCode>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), QUERY_WAIT)?;
    let unknown = RDKafkaErrorCode::UnknownTopicOrPartition;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Err(unknown));
    };
    if let Some(code) = found.error() {
        return Ok(Err(code.into()));
    }
    Ok(found.partitions().iter().map(|partition| partition.id() + 1).max().ok_or(unknown))
}

/// The first offset of each log and the one after its last.
pub(super) fn logs(client: &Client, topic: &str, partitions: Range<i32>) -> Result<Vec<(i64, i64)>, KafkaError> {
    partitions.map(|partition| client.fetch_watermarks(topic, partition, QUERY_WAIT)).collect()
}

/// The client's positions: behind the last offset it passed, whether that held a record or not.
pub(super) struct Positions(HashMap<(String, i32), Offset>);

impl Positions {
    /// Asks the client, not a broker.
    pub(super) fn of(client: &Client) -> Result<Self, KafkaError> {
        Ok(Self(client.position()?.to_topic_map()))
    }

    /// Nothing where no offset was passed since the partition was assigned.
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        match self.0.get(&(topic.to_owned(), partition)) {
            Some(Offset::Offset(offset)) => Some(*offset),
            _ => None,
        }
    }
}

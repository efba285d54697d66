//! Where the client stands, which may be beyond the last record: behind the last offset it passed, whether that held
//! one or not.

use std::collections::HashMap;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::client::Client;

#[derive(Default)]
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

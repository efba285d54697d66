//! Where the client stands, which may be beyond the last record it gave: control records are passed as well.
//!
//! rdkafka's safe interface asks for all partitions that are assigned, with copies of their names: too much for every
//! batch. So librdkafka is asked itself (`rd_kafka_position`).
#![allow(unsafe_code)]

use std::collections::HashMap;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
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

    /// The same of these alone.
    pub(super) fn of_these<'a>(
        client: &Client,
        partitions: impl IntoIterator<Item = (&'a str, i32)>,
    ) -> Result<Self, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, partition);
        }
        if list.count() > 0 {
            // SAFETY: client and list are alive; librdkafka fills in the list's offsets, and keeps nothing of it.
            let error = unsafe { sys::rd_kafka_position(client.client().native_ptr(), list.ptr()) };
            if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::OffsetFetch(error.into()));
            }
        }
        Ok(Self(list.to_topic_map()))
    }

    /// Nothing where no offset was passed since the partition was assigned.
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        match self.0.get(&(topic.to_owned(), partition)) {
            Some(Offset::Offset(offset)) => Some(*offset),
            _ => None,
        }
    }
}

//! The client's positions, which may be beyond the last received record: control records also advance them.
//!
//! rdkafka's safe interface queries all assigned partitions and copies their names, which is too expensive per batch.
//! This module calls librdkafka directly (`rd_kafka_position`).
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
    /// The positions of all assigned partitions, from the client without a request to a broker.
    pub(super) fn of(client: &Client) -> Result<Self, KafkaError> {
        Ok(Self(client.position()?.to_topic_map()))
    }

    /// The positions of these partitions only.
    pub(super) fn of_these<'a>(
        client: &Client,
        partitions: impl IntoIterator<Item = (&'a str, i32)>,
    ) -> Result<Self, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, partition);
        }
        if list.count() > 0 {
            // SAFETY: client and list are alive; librdkafka fills in the list's offsets, and does not retain it.
            let error = unsafe { sys::rd_kafka_position(client.client().native_ptr(), list.ptr()) };
            if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::OffsetFetch(error.into()));
            }
        }
        Ok(Self(list.to_topic_map()))
    }

    /// `None` if no offset has been passed since the partition was assigned.
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        match self.0.get(&(topic.to_owned(), partition)) {
            Some(Offset::Offset(offset)) => Some(*offset),
            _ => None,
        }
    }
}

//! The client does not read a partition whose next record waits for its schema.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;

use super::Reading;
use crate::kafka::topic::TopicReader;

impl Reading {
    /// Whether a record waits for its schema.
    pub(super) fn holds(&self) -> bool {
        self.topics.iter().any(TopicReader::holds)
    }

    /// Stops reading these partitions, each with the index of its topic.
    pub(super) fn stop_reading(&mut self, partitions: &[(usize, i32)]) {
        let mut list = TopicPartitionList::new();
        for (index, partition) in partitions {
            self.topics[*index].count_held();
            list.add_partition(self.topics[*index].source(), *partition);
        }
        if list.count() > 0
            && let Err(error) = self.client.incremental_unassign(&list)
        {
            self.base.link.error(error.rdkafka_error_code(), &error.to_string());
            self.needs_renewal = true;
        }
    }

    /// Passes on records that no longer wait, and continues after them.
    pub(super) fn release(&mut self) {
        if !self.holds() {
            return;
        }
        let (mut batch, mut list) = (Vec::new(), TopicPartitionList::new());
        for topic in &mut self.topics {
            for (partition, next) in topic.release(&mut batch) {
                if let Err(error) = list.add_partition_offset(topic.source(), partition, Offset::Offset(next)) {
                    self.base.link.error(error.rdkafka_error_code(), &error.to_string());
                    self.needs_renewal = true;
                }
            }
        }
        self.topics.iter_mut().for_each(TopicReader::end_batch);
        self.hand_on(batch);
        if list.count() > 0
            && let Err(error) = self.client.incremental_assign(&list)
        {
            self.base.link.error(error.rdkafka_error_code(), &error.to_string());
            self.needs_renewal = true;
        }
    }
}

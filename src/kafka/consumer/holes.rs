//! Positions advance over offsets without records for consumers, such as control records: librdkafka's position is the
//! offset after them.

use super::Reading;
use crate::event::Entry;
use crate::kafka::positions::Positions;
use crate::kafka::topic::TopicReader;

impl Reading {
    /// Advances positions over the control records that follow the batch's last records, so that a cursor stays valid
    /// without a gap when they are deleted.
    pub(super) fn pass_holes(&mut self, batch: &mut Vec<Entry>) {
        let touched = |topic: &TopicReader| topic.touched().to_vec();
        let partitions: Vec<_> = self.topics.iter().map(touched).collect();
        self.pass(partitions, batch);
        self.topics.iter_mut().for_each(TopicReader::end_batch);
    }

    /// The same for these partitions, one list per topic, even if only control records were received.
    fn pass(&mut self, partitions: Vec<Vec<i32>>, batch: &mut Vec<Entry>) {
        if self.needs_renewal {
            // The client's position may still be that of a deleted log.
            return;
        }
        let named = self.topics.iter().zip(&partitions);
        let named = named.flat_map(|(topic, ids)| ids.iter().map(|id| (&**topic.source(), *id)));
        let Ok(positions) = Positions::of_these(&self.client, named) else { return };
        for (topic, ids) in self.topics.iter_mut().zip(partitions) {
            for id in ids {
                if let Some(position) = positions.get(topic.source(), id) {
                    topic.pass(id, position, batch);
                }
            }
        }
    }

    /// The same for all partitions.
    pub(super) fn pass_all(&mut self) {
        let all = |topic: &TopicReader| topic.reads().map(|(id, _)| id).collect();
        let (partitions, mut batch) = (self.topics.iter().map(all).collect(), Vec::new());
        self.pass(partitions, &mut batch);
        self.hand_on(batch);
    }
}

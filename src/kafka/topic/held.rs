//! Records that wait for their schemas, at most one of each partition. The client stops reading the partition at such a
//! record, and continues after it: the order of a partition holds, and other partitions do not wait.

use super::TopicReader;
use crate::event::Entry;

impl TopicReader {
    /// Whether a partition waits: asked for each batch, so that it does not look at the partitions.
    pub(in crate::kafka) fn holds(&self) -> bool {
        self.held > 0
    }

    /// Adds the entries of records whose schemas have been obtained, or are not waited for any longer. Returns the
    /// partitions to continue with, and their next offsets.
    pub(in crate::kafka) fn release(&mut self, batch: &mut Vec<Entry>) -> Vec<(i32, i64)> {
        let mut released = Vec::new();
        for (id, index) in (0..).zip(0..self.partitions.len()) {
            let Some(held) = self.partitions[index].held.take() else { continue };
            // A position that was lost meanwhile is after it.
            if !held.with(|record| self.take(record, batch)) {
                released.push((id, self.partitions[index].next));
            }
        }
        self.count_held();
        released
    }

    /// Counts the partitions that wait, once some began to wait or were released.
    pub(in crate::kafka) fn count_held(&mut self) {
        self.held = self.partitions.iter().filter(|partition| partition.held.is_some()).count();
        self.awaiting_schema.set(i64::try_from(self.held).unwrap_or(i64::MAX));
    }
}

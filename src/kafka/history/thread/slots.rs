//! Limits the number of partitions that are read concurrently. A partition with an unresponsive leader releases its
//! slot if other partitions wait for one.

use std::time::Instant;

use super::{LINGER, PARTITIONS_MAX, Work};
use crate::kafka::history::draft::Draft;
use crate::kafka::history::reading::{Reading, Start};
use crate::kafka::history::requests::TopicPartition;
use crate::kafka::history::store::Job;

impl Work {
    /// The number of free slots.
    pub(super) fn room(&self) -> usize {
        self.open.as_ref().map_or(0, |open| PARTITIONS_MAX.saturating_sub(open.readings.len()))
    }

    /// The partitions with the oldest requests, at most `max`, without those that are being read, paused or probed.
    pub(super) fn others(&self, max: usize, now: Instant) -> Vec<TopicPartition> {
        let Some(open) = &self.open else { return Vec::new() };
        let but = |asked: TopicPartition| {
            let is_paused = self.paused.get(&asked).is_some_and(|pause| now < pause.until);
            let is_probed = self.probes.contains_key(&asked);
            is_paused || is_probed || open.readings.contains_key(&asked) || open.questions.is_asked(asked)
        };
        self.base.store.oldest(self.base.cluster, max, but)
    }

    /// Starts reading waiting partitions in the free slots.
    pub(super) fn start_others(&mut self, now: Instant) {
        if self.is_down(now) {
            return;
        }
        let others = self.others(PARTITIONS_MAX, now);
        self.make_room(others.len().saturating_sub(self.room()), now);
        let mut starts = Vec::new();
        for partition in others.into_iter().take(self.room()) {
            if self.paused.remove(&partition).is_some_and(|pause| pause.is_down) {
                self.ask(partition, None, now);
            } else {
                starts.extend(self.oldest(partition).map(|start| (partition, start)));
            }
        }
        self.start(starts, now);
    }

    /// The start of the oldest request for a chunk of the partition.
    fn oldest(&mut self, partition: TopicPartition) -> Option<Start> {
        let log_end = self.suspended.remove(&partition).flatten();
        let topic = self.base.topics.get(&partition.topic)?;
        let job = self.base.store.job(self.base.cluster, partition, topic.record_bytes)?;
        let Job { wanted, start, stop, until } = job;
        let epoch = self.base.store.epoch(partition.topic);
        Some(Start { draft: Draft::new(wanted, start, stop), epoch, log_end, until })
    }

    /// Stops reading up to `count` partitions that have been idle for [`LINGER`], the longest idle first.
    fn make_room(&mut self, count: usize, now: Instant) {
        let Some(open) = self.open.as_ref().filter(|_| count > 0) else { return };
        let is_over = |reading: &Reading| reading.is_idle() && now.duration_since(reading.quiet_since) >= LINGER;
        let mut idle: Vec<_> = open.readings.iter().filter(|(_, reading)| is_over(reading)).collect();
        idle.sort_unstable_by_key(|(_, reading)| reading.quiet_since);
        let leaving: Vec<_> = idle.into_iter().take(count).map(|(partition, _)| *partition).collect();
        self.stop(&leaving);
    }

    /// Releases the slot of a partition with an unresponsive leader. Its requests remain, and are continued once the
    /// leader has responded.
    pub(super) fn suspend(&mut self, partition: TopicPartition) {
        self.stop(&[partition]);
        self.suspended.insert(partition, None);
    }

    /// Records the log's end, with which the leader responded. The partition is not suspended again before it is read.
    pub(super) fn note_log_end(&mut self, partition: TopicPartition, log_end: i64) {
        if let Some(reading) = self.open.as_mut().and_then(|open| open.readings.get_mut(&partition)) {
            reading.is_proven = true;
        }
        if let Some(suspended) = self.suspended.get_mut(&partition) {
            *suspended = Some(log_end);
        }
    }
}

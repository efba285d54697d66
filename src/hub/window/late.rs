//! Partitions that are read later than the others of their topic: their leaders did not respond, or they were added.

use super::TopicWindow;
use crate::cursor::TopicPosition;
use crate::event::{CLOCK_SKEW_MS, Event, GapRange, PARTITION_KNOWN_MS, UNKNOWN_POSITION, is_offset, unread_since};

#[derive(Debug)]
pub(in crate::hub) struct Late {
    partition: usize,
    /// When its first position was known, in milliseconds since the Unix epoch.
    pub(in crate::hub) at_ms: i64,
    /// What streams that were open before may lack of it.
    pub(in crate::hub) unseen: Option<GapRange>,
}

impl TopicWindow {
    /// Adds partitions, and those that become known.
    pub(super) fn add(&mut self, next: &[i64], at_ms: i64, unseen: &[GapRange]) {
        if self.next.is_empty() {
            self.since_ms = at_ms;
        } else {
            let is_known = |partition: usize| self.next.get(partition).copied().is_some_and(is_offset);
            let is_late = |(partition, next): &(usize, &i64)| is_offset(**next) && !is_known(*partition);
            let late = |(partition, _)| {
                let unseen = unseen.iter().find(|range| range.partition as usize == partition).cloned();
                Late { partition, at_ms, unseen }
            };
            self.late.extend(next.iter().enumerate().filter(is_late).map(late));
        }
        for ends in [&mut self.base, &mut self.next, &mut self.from, &mut self.live] {
            ends.resize(next.len(), UNKNOWN_POSITION);
            let unknown = ends.iter_mut().zip(next).filter(|(end, _)| **end == UNKNOWN_POSITION);
            unknown.for_each(|(end, next)| *end = *next);
        }
    }

    /// The position of a client that has received everything.
    pub(super) fn position(&self) -> TopicPosition {
        self.position_at(&self.next)
    }

    /// The position of a client that is to receive the whole window.
    pub(in crate::hub) fn start(&self) -> TopicPosition {
        self.position_at(&self.base)
    }

    fn position_at(&self, offsets: &[i64]) -> TopicPosition {
        let next = offsets.iter().map(|offset| if is_offset(*offset) { *offset } else { self.unread() });
        TopicPosition { epoch: self.epoch, next: next.collect() }
    }

    /// The position of live streams in a partition that is not read.
    pub(in crate::hub) fn unread(&self) -> i64 {
        unread_since((self.since_ms - CLOCK_SKEW_MS).max(0))
    }

    /// Whether a client stood where live streams of this process stood before they began to receive the partition.
    pub(in crate::hub) fn continues(&self, partition: usize, position: i64) -> bool {
        position == self.unread() && self.late(partition).is_some()
    }

    /// The position of a partition when it went live, if its position was known before a time: what precedes it is
    /// older than that time.
    pub(in crate::hub) fn live_before(&self, partition: usize, ms: i64) -> Option<i64> {
        let known_ms = self.late(partition).map_or(self.since_ms, |late| late.at_ms);
        self.live.get(partition).copied().filter(|live| is_offset(*live) && known_ms < ms)
    }

    /// Whether another replica may have sent an event before it knew of all partitions.
    pub(in crate::hub) fn may_be_whole_elsewhere(&self, event: &Event) -> bool {
        let known_ms = self.late.iter().map(|late| late.at_ms).fold(self.since_ms, i64::max);
        event.received_ms.saturating_sub(PARTITION_KNOWN_MS) <= known_ms
    }

    /// The partition, if it is read later than the others.
    pub(in crate::hub) fn late(&self, partition: usize) -> Option<&Late> {
        self.late.iter().find(|late| late.partition == partition)
    }
}

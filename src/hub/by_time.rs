//! Replay from a time, in partitions whose brokers did not respond when replay began. Their start positions are looked
//! up later, while the other partitions advance.

use std::sync::Arc;

use crate::cursor::Positions;
use crate::event::{Topic, UNKNOWN_POSITION, is_offset};
use crate::route::Stream;

use super::log::NO_OFFSET;
use super::standing::Lane;
use super::window::Hub;

/// The partitions whose start positions are unknown.
#[derive(Debug)]
pub(super) struct ByTime {
    pub(super) ms: i64,
    /// Whether the replay includes everything that was read, whatever the times of its events.
    pub(super) has_window: bool,
    /// Whether the partitions were not read while the client's stream was open. What precedes the time in their logs
    /// may have come later than it says.
    pub(super) is_unread: bool,
    /// The stream's positions before the offsets were requested. Replay starts from them if a log has no such offset.
    pub(super) ends: Positions,
    pub(super) lanes: Vec<Lane>,
    /// How many ends were recorded since, each before another request.
    pub(super) recorded: i64,
}

impl ByTime {
    /// `None` without partitions.
    pub(super) fn of(ms: i64, lanes: Vec<Lane>, ends: Positions) -> Option<Self> {
        let by_time = Self { ms, has_window: false, is_unread: false, ends, lanes, recorded: 0 };
        (!by_time.lanes.is_empty()).then_some(by_time)
    }

    /// The topics whose offsets are needed next, by their indexes in the stream: those with a partition that the hub
    /// has begun to read.
    pub(super) fn topics(&mut self, hub: &Hub, stream: &Stream) -> Vec<usize> {
        let mut topics = Vec::new();
        for (topic, n) in &self.lanes {
            let Some(next) = hub.next_of(stream, (*topic, *n)).filter(|next| is_offset(*next)) else {
                continue;
            };
            // The end is recorded before the request is sent, so that records that are appended later are beyond it.
            if let Some(end) = self.ends.0.get_mut(*topic).and_then(|topic| topic.next.get_mut(*n))
                && !is_offset(*end)
            {
                *end = next;
                self.recorded += 1;
            }
            if !topics.contains(topic) {
                topics.push(*topic);
            }
        }
        topics
    }

    /// The time to request. It differs from the times of earlier requests, whose cached responses may say "no offset"
    /// as of a moment before an end was recorded.
    pub(super) fn ms(&self) -> i64 {
        self.ms.saturating_sub(1).saturating_sub(self.recorded)
    }

    /// Processes the offsets of a topic. Returns the positions that they determine.
    pub(super) fn resolve(&mut self, hub: &Hub, stream: &Stream, topic: usize, offsets: &[i64]) -> Vec<(Lane, i64)> {
        let mut known = Vec::new();
        let Self { lanes, ends, has_window, .. } = self;
        lanes.retain(|lane| {
            if lane.0 != topic {
                return true;
            }
            let end = ends.0.get(topic).and_then(|topic| topic.next.get(lane.1)).copied().unwrap_or(UNKNOWN_POSITION);
            let Some(position) = position(offsets.get(lane.1).copied(), end) else { return true };
            let first = hub.first_of(stream, *lane).filter(|first| *has_window && is_offset(*first));
            known.push((*lane, first.map_or(position, |first| first.min(position))));
            false
        });
        known
    }
}

impl Hub {
    /// Adds what the logs have deleted to partitions that have no record from before a time: the deleted records may be
    /// as late, unless the partition had them when it went live here before that time. The client then receives them as
    /// a gap. `firsts` are the first offsets of the logs.
    pub fn with_deleted(
        &self,
        stream: &Stream,
        ms: i64,
        offsets: &[Arc<[i64]>],
        firsts: &[Arc<[i64]>],
    ) -> Vec<Arc<[i64]>> {
        let topics = stream.topics.iter().zip(offsets.iter().zip(firsts));
        let added = topics.map(|(topic, (offsets, firsts))| {
            let partitions = offsets.iter().zip(&**firsts).enumerate();
            let starts = partitions.map(|(n, (offset, first))| match offset == first && *offset != UNKNOWN_POSITION {
                true => self.live_before(topic, n, ms).map_or(0, |live| live.min(*offset)),
                false => *offset,
            });
            starts.collect()
        });
        added.collect()
    }

    /// The position of a partition when it went live here, if that was before a time.
    pub(super) fn live_before(&self, topic: &Topic, partition: usize, ms: i64) -> Option<i64> {
        self.topic(topic)?.live_before(partition, ms)
    }
}

/// The start position, given the offset of the time and the log's end before the offset was requested. `None` while it
/// is unknown.
pub(super) fn position(offset: Option<i64>, end: i64) -> Option<i64> {
    match (offset, Some(end).filter(|end| is_offset(*end))) {
        (Some(UNKNOWN_POSITION), _) | (None | Some(NO_OFFSET), None) => None,
        (Some(offset), end) => Some(end.map_or(offset, |end| offset.min(end))),
        (None, end) => end,
    }
}

//! Positions that a time determines, in partitions whose brokers did not answer when replay began: they are found later,
//! while the other partitions advance.

use crate::cursor::Positions;
use crate::event::UNKNOWN_POSITION;
use crate::route::Stream;

use super::log::NO_OFFSET;
use super::standing::Lane;
use super::window::Hub;

/// Partitions whose positions are not known yet.
#[derive(Debug)]
pub(super) struct ByTime {
    pub(super) ms: i64,
    /// Everything in the windows is sent, whatever its time.
    pub(super) has_window: bool,
    /// Where the stream stood before the offsets of the time were asked for. Where a log has none, replay begins there.
    pub(super) ends: Positions,
    pub(super) lanes: Vec<Lane>,
}

impl ByTime {
    /// The topics whose offsets are to be asked for, by their indexes in the stream: those with partitions that are read here.
    pub(super) fn topics(&mut self, hub: &Hub, stream: &Stream) -> Vec<usize> {
        let mut topics = Vec::new();
        for (topic, n) in &self.lanes {
            let Some(next) = hub.next_of(stream, (*topic, *n)).filter(|next| *next != UNKNOWN_POSITION) else {
                continue;
            };
            // Before the question, so that what is added after its answer lies behind.
            if let Some(end) = self.ends.0.get_mut(*topic).and_then(|topic| topic.next.get_mut(*n))
                && *end == UNKNOWN_POSITION
            {
                *end = next;
            }
            if !topics.contains(topic) {
                topics.push(*topic);
            }
        }
        topics
    }

    /// The time to ask for. An answer to the question of before may say that there is no offset, of a moment before the ends
    /// are known: so it is another one.
    pub(super) fn ms(&self) -> i64 {
        self.ms.saturating_sub(1)
    }

    /// Takes the offsets of a topic, and gives the positions that are known by that.
    pub(super) fn resolve(&mut self, hub: &Hub, stream: &Stream, topic: usize, offsets: &[i64]) -> Vec<(Lane, i64)> {
        let mut known = Vec::new();
        let Self { lanes, ends, has_window, .. } = self;
        lanes.retain(|lane| {
            if lane.0 != topic {
                return true;
            }
            let end = ends.0.get(topic).and_then(|topic| topic.next.get(lane.1)).copied().unwrap_or(UNKNOWN_POSITION);
            let Some(position) = position(offsets.get(lane.1).copied(), end) else { return true };
            let base = hub.base_of(stream, *lane).filter(|base| *has_window && *base != UNKNOWN_POSITION);
            known.push((*lane, base.map_or(position, |base| base.min(position))));
            false
        });
        known
    }
}

/// The position that the offset of a time gives, where the log ended at `end` before it was asked for.
pub(super) fn position(offset: Option<i64>, end: i64) -> Option<i64> {
    match (offset, end) {
        (Some(UNKNOWN_POSITION), _) | (None | Some(NO_OFFSET), UNKNOWN_POSITION) => None,
        (Some(offset), UNKNOWN_POSITION) => Some(offset),
        (Some(offset), end) => Some(offset.min(end)),
        (None, end) => Some(end),
    }
}

//! Resuming: from a client's cursor to the start of its replay, and the gaps that it must receive first.
//!
//! A cursor with all positions is exact on every replica. A bare event id is exact on a stream with one partition. It
//! is also exact if this process read the event live and sent it on this stream, because hub order then equals the
//! client's order, unless another replica may have sent it before it knew of a partition. Otherwise events of the other
//! partitions are sent again from before it: at least once.

use std::sync::Arc;

use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{EventId, Gap, GapCause, GapRange, Topic, UNKNOWN_POSITION, is_offset, unread_since};
use crate::route::Stream;

use super::by_time::{self, ByTime};
use super::ends::{Ahead, Ends, LogEnd, OtherEpoch};
use super::log::{Place, ReplayLimits};
use super::replay::Replay;
use super::window::{Hub, Seq, TopicWindow, is_other, rest_of_log};

/// How a client resumes.
#[derive(Debug)]
pub struct Plan {
    /// The events that are no longer available: at most one gap per cause.
    pub gaps: Vec<Gap>,
    pub replay: Replay,
}

/// Where a replay from a time starts.
#[derive(Clone, Copy, Debug)]
pub struct TimeStart<'a> {
    /// In milliseconds since the Unix epoch.
    pub ms: i64,
    /// The offsets of the time, one list per topic of the stream; see [`super::Log::offsets_at`].
    pub offsets: &'a [Arc<[i64]>],
    /// The stream's positions before the offsets were requested. Replay starts from them if a log has no such offset.
    pub ends: &'a Positions,
    /// The last received event, if the client named one. The whole window is included then, whatever the times of its
    /// events.
    pub id: Option<&'a EventId>,
}

impl Hub {
    /// Plans how to resume from `cursor`. The stream must be ready.
    pub fn plan(&self, stream: &Stream, cursor: &Cursor, limits: &ReplayLimits) -> Plan {
        self.plan_before(stream, cursor, Ends::default(), limits)
    }

    /// Like [`Self::plan`], where logs may end before the client's position.
    pub fn plan_before(&self, stream: &Stream, cursor: &Cursor, ends: Ends<'_>, limits: &ReplayLimits) -> Plan {
        let full = cursor.opaque.as_ref().and_then(|opaque| Positions::decode(opaque, &stream.topics));
        let mut plan = match full {
            Some(mut seen) => {
                self.pass_markers_again(stream, &mut seen, &cursor.id, ends.known);
                self.plan_exact(stream, seen, ends, limits)
            }
            None => self.plan_from_id(stream, &cursor.id, ends, limits),
        };
        let topic = stream.topics.iter().position(|topic| *topic == cursor.id.topic);
        ends.known.iter().for_each(|end| plan.replay.note_end(stream, end));
        plan.replay.last = topic.map(|topic| ((topic, cursor.id.partition as usize), cursor.id.offset + 1));
        plan
    }

    /// Moves the position of a partition back to the last event that the client received of it, if the log ends between
    /// the two: the log lost offsets without events, such as transaction markers. Records that replaced them are new to
    /// the client.
    fn pass_markers_again(&self, stream: &Stream, seen: &mut Positions, last: &EventId, ends: &[LogEnd]) {
        let Some(n) = stream.topics.iter().position(|topic| *topic == last.topic) else { return };
        let epoch = self.epoch(&last.topic);
        let Some(next) = seen.0[n].next.get_mut(last.partition as usize) else { return };
        let is_between = |end: &LogEnd| {
            let is_same = (&end.topic, end.partition) == (&last.topic, last.partition) && !is_other(end.epoch, epoch);
            is_same && (last.offset + 1..*next).contains(&end.end)
        };
        if ends.iter().any(is_between) {
            *next = last.offset + 1;
        }
    }

    /// Whether the log was read here up to this end.
    pub fn is_read(&self, end: &LogEnd) -> bool {
        let window = self.topic(&end.topic).filter(|window| !is_other(window.epoch, end.epoch));
        window.and_then(|window| window.next.get(end.partition as usize)).is_none_or(|next| *next >= end.end)
    }

    /// The positions of the cursor that are ahead of this process: the client comes from a writer or replica that has
    /// read more, or the log was deleted or truncated.
    pub fn ahead(&self, stream: &Stream, cursor: &Cursor) -> Ahead {
        let mut ahead = Ahead::default();
        match cursor.opaque.as_ref().and_then(|opaque| Positions::decode(opaque, &stream.topics)) {
            Some(seen) => {
                for (topic, seen) in stream.topics.iter().zip(&seen.0) {
                    let here = self.epoch(topic);
                    if !is_other(seen.epoch, here) {
                        let positions = seen.next.iter().enumerate();
                        positions.for_each(|(n, position)| ahead.look(topic, self.topic(topic), n, *position));
                    } else if !self.topic(topic).is_some_and(|window| window.replaced(seen.epoch)) {
                        ahead.others.push(OtherEpoch { topic: topic.clone(), here });
                    }
                }
            }
            None if stream.topics.contains(&cursor.id.topic) => {
                let EventId { topic, partition, offset } = &cursor.id;
                ahead.look(topic, self.topic(topic), *partition as usize, offset + 1);
            }
            None => {}
        }
        ahead
    }

    /// The place in the log of an event whose time is needed to resume from its bare id: the event was not sent on the
    /// stream here, or is too old, so that only its time determines the positions in the other partitions.
    pub fn is_time_needed(&self, stream: &Stream, cursor: &Cursor, limits: &ReplayLimits) -> Option<Place> {
        let id = &cursor.id;
        let is_full = cursor.opaque.as_ref().is_some_and(|o| Positions::decode(o, &stream.topics).is_some());
        let window = self.topic(&id.topic).filter(|_| stream.topics.contains(&id.topic))?;
        let next = *window.next.get(id.partition as usize)?;
        let is_exact = is_full || self.positions(stream).is_single() || self.sent_here(stream, id).is_some();
        // Whether the log of a partition that is not read yet contains the event is unknown until it is read.
        let until = if next == UNKNOWN_POSITION { id.offset + 1 } else { next };
        (!is_exact && limits.events > 0 && (0..until).contains(&id.offset)).then(|| Place {
            topic: id.topic.clone(),
            partition: id.partition,
            epoch: window.epoch,
            offset: id.offset,
            until,
        })
    }

    /// Plans a replay from a time. Partitions whose leaders did not respond follow once they do.
    pub fn plan_at(&self, stream: &Stream, start: &TimeStart<'_>, limits: &ReplayLimits) -> Plan {
        let TimeStart { ms, offsets, ends, id } = *start;
        let (mut positions, mut lanes) = (ends.clone(), Vec::new());
        for (n, ((topic, offsets), seen)) in stream.topics.iter().zip(offsets).zip(&mut positions.0).enumerate() {
            let window = id.and_then(|_| self.topic(topic));
            for (partition, next) in seen.next.iter_mut().enumerate() {
                let start = window.and_then(|window| window.start_after(partition, ms));
                let of_id = id.filter(|id| id.topic == *topic && id.partition as usize == partition);
                *next = match (of_id, by_time::position(offsets.get(partition).copied(), *next)) {
                    (Some(id), _) => id.offset + 1,
                    (None, Some(at)) => start.map_or(at, |start| start.min(at)),
                    (None, None) => {
                        lanes.push((n, partition));
                        unread_since(ms)
                    }
                };
            }
        }
        let mut plan = self.plan_exact(stream, positions, Ends::default(), limits);
        plan.replay.by_time =
            ByTime::of(ms, lanes, ends.clone()).map(|by_time| Box::new(ByTime { has_window: id.is_some(), ..by_time }));
        plan
    }

    /// Plans a replay of the whole window, for a client whose position has no meaning here.
    pub fn plan_unknown(&self, stream: &Stream) -> Plan {
        let gap = Gap { cause: GapCause::Truncated, ranges: Vec::new(), missed: None, cursor: None };
        Plan { gaps: vec![gap], replay: self.replay_from_base(stream) }
    }

    fn plan_exact(&self, stream: &Stream, mut seen: Positions, ends: Ends<'_>, limits: &ReplayLimits) -> Plan {
        let (are_ends_open, has_unknown) = (ends.may_follow, ends.has_unknown);
        let mut losses = Losses { are_ends_open, has_unknown, ..Losses::default() };
        for (topic, seen) in stream.topics.iter().zip(&mut seen.0) {
            match self.topic(topic) {
                Some(window) => {
                    losses.go_back(
                        window,
                        seen,
                        ends.known.iter().filter(|end| end.topic == *topic && self.is_read(end)),
                    );
                    losses.enter(window, topic, seen, limits.events > 0);
                }
                None if has_unknown => {}
                None => {
                    let all = std::mem::take(&mut seen.next);
                    all.iter().enumerate().for_each(|(n, position)| losses.truncated(topic, n, 0, *position));
                }
            }
        }
        let mut replay = Replay::new(self, seen, self.base(stream));
        replay.note_unread(self, stream);
        losses.over_limit = replay.keep_newest(self, stream, limits.events);
        losses.plan(replay)
    }

    fn plan_from_id(&self, stream: &Stream, id: &EventId, ends: Ends<'_>, limits: &ReplayLimits) -> Plan {
        let known = stream.topics.iter().position(|topic| *topic == id.topic);
        let Some((topic_index, window)) = known.zip(self.topic(&id.topic)) else { return self.plan_unknown(stream) };
        let partition = id.partition as usize;
        if partition >= window.next.len() {
            return self.plan_unknown(stream);
        }
        let replay = self.replay_from_base(stream);
        if !replay.positions.is_single()
            && let Some(seq) = self.sent_here(stream, id)
        {
            return Plan { gaps: Vec::new(), replay: self.replay_after(stream, seq) };
        }
        let mut positions = replay.positions.into_positions();
        let seen = &mut positions.0[topic_index].next;
        if is_whole(stream, id) || window.base[partition] > id.offset + 1 {
            // What has left the window of another partition may be new to the client.
            let unseen = seen.iter_mut().enumerate().filter(|(_, next)| is_offset(**next));
            unseen.for_each(|(n, next)| *next = window.first_unseen(n));
        }
        seen[partition] = id.offset + 1;
        self.plan_exact(stream, positions, ends, limits)
    }

    /// The sequence number of an event that was read live and sent on the stream, if the windows still determine what
    /// preceded it: its recipients received everything before it in hub order. For an event that was read at start, or
    /// was not sent here, the client received it elsewhere; it may have if another replica may have sent it alone.
    fn sent_here(&self, stream: &Stream, id: &EventId) -> Option<Seq> {
        let window = self.topic(&id.topic)?;
        let (seq, event) = window.find(id).filter(|(_, event)| event.frames.is_sent_on(stream.id))?;
        let is_foreign = is_whole(stream, id) && window.may_be_whole_elsewhere(event);
        (!is_foreign && window.is_live(seq) && self.is_order_known(stream, seq)).then_some(seq)
    }

    /// When an event was received, if the window has it, in milliseconds since the Unix epoch.
    pub fn received_ms(&self, id: &EventId) -> Option<i64> {
        Some(self.topic(&id.topic)?.find(id)?.1.received_ms)
    }

    fn replay_from_base(&self, stream: &Stream) -> Replay {
        Replay::new(self, self.base(stream), self.base(stream))
    }

    /// The positions at the start of the window.
    pub(super) fn base(&self, stream: &Stream) -> Positions {
        let start = |topic| self.topic(topic).map_or_else(TopicPosition::default, TopicWindow::start);
        Positions(stream.topics.iter().map(start).collect())
    }

    fn replay_after(&self, stream: &Stream, seq: Seq) -> Replay {
        let mut replay = self.replay_from_base(stream);
        while replay.next <= seq && replay.step(self, stream).is_some() {}
        replay
    }
}

/// Whether an event id alone may be a whole position: the stream may have had one partition when it was sent.
pub fn is_whole(stream: &Stream, id: &EventId) -> bool {
    stream.topics.len() == 1 && id.partition == 0
}

impl TopicWindow {
    /// The first offset of a partition that a client may lack that received nothing of it: streams began with the first
    /// one that was read if the partition was added meanwhile.
    fn first_unseen(&self, partition: usize) -> i64 {
        if self.late(partition).is_some() { self.from[partition] } else { 0 }
    }

    /// Where replay starts in a partition, at the latest, after an event that is not older than a time. If the
    /// partition may have been read later than the event, it starts where it was read first: streams that had sent the
    /// event were open then.
    fn start_after(&self, partition: usize, ms: i64) -> Option<i64> {
        let is_later = self.late(partition).is_some_and(|late| ms <= late.at_ms);
        let start = if is_later { &self.from } else { &self.base };
        start.get(partition).copied().filter(|start| is_offset(*start))
    }
}

/// Collects the events that are not available.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) recreated: Vec<GapRange>,
    pub(super) retention: Vec<GapRange>,
    pub(super) truncated: Vec<GapRange>,
    pub(super) overflow: Vec<GapRange>,
    pub(super) over_limit: Vec<GapRange>,
    pub(super) unavailable: Vec<GapRange>,
    /// Whether positions that are ahead of the window may be reached.
    pub(super) are_ends_open: bool,
    /// Whether partitions that are unknown here may exist.
    pub(super) has_unknown: bool,
}

impl Losses {
    /// Moves a position back to the end of its log, and records the offsets beyond it as lost.
    fn go_back<'a>(&mut self, window: &TopicWindow, seen: &mut TopicPosition, ends: impl Iterator<Item = &'a LogEnd>) {
        for LogEnd { topic, partition, epoch, end } in ends {
            let is_same = !is_other(*epoch, seen.epoch) && !is_other(*epoch, window.epoch);
            let next = seen.next.get_mut(*partition as usize).filter(|next| is_same && **next > *end);
            if let Some(next) = next {
                self.truncated(topic, *partition as usize, *end, *next);
                *next = *end;
            }
        }
    }

    /// Moves the position in a topic to where the client resumes, and records what it misses. Offsets before the window
    /// are left to the log, if it can be read.
    fn enter(&mut self, window: &TopicWindow, topic: &Topic, seen: &mut TopicPosition, has_log: bool) {
        if is_other(window.epoch, seen.epoch) {
            self.recreated.extend(rest_of_log(topic, &seen.next));
            *seen = TopicPosition { epoch: window.epoch, next: self.unseen(window, topic, 0, has_log) };
            return;
        }
        let partitions = window.next.len();
        if !self.has_unknown {
            self.missing(topic, seen, partitions);
        }
        if window.epoch != 0 {
            seen.epoch = window.epoch;
        }
        for (partition, position) in seen.next.iter_mut().enumerate().take(partitions) {
            let (base, next) = (window.base[partition], window.next[partition]);
            if next == UNKNOWN_POSITION {
                continue;
            }
            if !is_offset(*position) && !has_log && !window.continues(partition, *position) {
                *position = 0;
            }
            let cut = window.last_cut(partition, *position);
            if *position > next && !(self.are_ends_open && cut.is_none()) {
                // If the log is known to be truncated, records that replaced its end are new to the client.
                let end = cut.map_or(next, |cut| cut.end.min(next));
                if cut.is_none_or(|cut| cut.is_loss) {
                    self.truncated(topic, partition, end, *position);
                }
                *position = end;
            }
            // A time precedes every offset; replay determines what the client lacks since then.
            if (0..base).contains(position) && !has_log {
                self.retention.push(range(topic, partition, *position, base - 1));
                *position = base;
            }
        }
        seen.next.extend(self.unseen(window, topic, seen.next.len(), has_log));
    }

    /// The positions in partitions of which the client has received nothing, because they were created after its
    /// cursor: these, and all after them. What has left the window is missing if there is no log.
    fn unseen(&mut self, window: &TopicWindow, topic: &Topic, from: usize, has_log: bool) -> Vec<i64> {
        if has_log {
            return vec![0; window.base.len().saturating_sub(from)];
        }
        let bases = window.base.iter().copied().enumerate().skip(from);
        self.retention
            .extend(bases.clone().filter(|(_, base)| *base > 0).map(|(n, base)| range(topic, n, 0, base - 1)));
        bases.map(|(_, base)| base).collect()
    }

    /// Records that the client may lack some of `from..next`.
    pub(super) fn unavailable(&mut self, topic: &Topic, partition: usize, from: i64, next: i64) {
        if next > from {
            self.unavailable.push(range(topic, partition, from, next - 1));
        }
    }

    /// Records that the topic has only this many partitions.
    pub(super) fn missing(&mut self, topic: &Topic, seen: &mut TopicPosition, partitions: usize) {
        for (partition, position) in seen.next.iter().enumerate().skip(partitions) {
            self.truncated(topic, partition, 0, *position);
        }
        seen.next.truncate(partitions);
        seen.next.shrink_to_fit();
    }

    pub(super) fn truncated(&mut self, topic: &Topic, partition: usize, next: i64, position: i64) {
        if position > next {
            self.truncated.push(range(topic, partition, next, position - 1));
        }
    }

    /// At most one gap per cause.
    pub(super) fn into_gaps(self) -> Vec<Gap> {
        let causes = [
            (GapCause::TopicRecreated, self.recreated),
            (GapCause::Retention, self.retention),
            (GapCause::Truncated, self.truncated),
            (GapCause::Overflow, self.overflow),
            (GapCause::ReplayLimit, self.over_limit),
            (GapCause::Unavailable, self.unavailable),
        ];
        let gaps = causes.into_iter().filter(|(_, ranges)| !ranges.is_empty());
        gaps.map(|(cause, ranges)| Gap { cause, ranges, missed: None, cursor: None }).collect()
    }

    fn plan(self, replay: Replay) -> Plan {
        Plan { gaps: self.into_gaps(), replay }
    }
}

pub(super) fn range(topic: &Topic, partition: usize, from: i64, to: i64) -> GapRange {
    GapRange { topic: topic.clone(), partition: partition as i32, from, to }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;

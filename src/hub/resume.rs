//! Resuming: from a client's cursor to where its replay starts, and the losses it must be told of.
//!
//! A cursor with all positions is exact on every replica. A bare event id is exact on a stream with one partition, and
//! where this process read the event live and sent it on this stream, since then hub order is what the client saw.
//! Otherwise the other partitions' events are sent again from before it, at least once.

use std::sync::Arc;

use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{Entry, EventId, FrameKey, GapCause, GapRange, Topic};
use crate::route::Stream;

use super::log::{Place, ReplayLimits};
use super::queue::Gap;
use super::replay::Replay;
use super::window::{Hub, Seq, TopicWindow, is_other, rest_of_log};

/// How a client goes on.
#[derive(Debug)]
pub struct Plan {
    /// What it can't get any more: at most one loss a cause.
    pub gaps: Vec<Gap>,
    pub replay: Replay,
}

impl Hub {
    /// Works out how to resume from `cursor`. The stream must be ready.
    pub fn plan(&self, stream: &Stream, cursor: &Cursor, limits: &ReplayLimits) -> Plan {
        let full = cursor.opaque.as_ref().and_then(|opaque| Positions::decode(opaque, &stream.topics));
        match full {
            Some(seen) => self.plan_exact(stream, seen, limits),
            None => self.plan_from_id(stream, &cursor.id, limits),
        }
    }

    /// Whether a client has seen more than was read here so far: it comes from a writer or replica that is a moment
    /// ahead, or from a log that is gone. Only waiting can tell.
    pub fn is_behind_of(&self, stream: &Stream, cursor: &Cursor) -> bool {
        let next = |topic: &Topic, partition: usize| self.topic(topic).and_then(|w| w.next.get(partition)).copied();
        let is_beyond = |topic: &Topic, partition: usize, position: i64| match next(topic, partition) {
            Some(next) => position > next,
            None => position > 0,
        };
        match cursor.opaque.as_ref().and_then(|opaque| Positions::decode(opaque, &stream.topics)) {
            Some(seen) => stream.topics.iter().zip(&seen.0).any(|(topic, seen)| {
                let is_anew = is_other(seen.epoch, self.topic(topic).map_or(0, |window| window.epoch));
                !is_anew && seen.next.iter().enumerate().any(|(n, position)| is_beyond(topic, n, *position))
            }),
            None => {
                let id = &cursor.id;
                stream.topics.contains(&id.topic) && is_beyond(&id.topic, id.partition as usize, id.offset + 1)
            }
        }
    }

    /// Where in the log an event stands whose time must be known to resume from its id alone: it left the window, and
    /// where the client stands in the other partitions can only be told by the time.
    pub fn is_time_needed(&self, stream: &Stream, cursor: &Cursor, limits: &ReplayLimits) -> Option<Place> {
        let id = &cursor.id;
        let is_full = cursor.opaque.as_ref().is_some_and(|o| Positions::decode(o, &stream.topics).is_some());
        let window = self.topic(&id.topic).filter(|_| stream.topics.contains(&id.topic))?;
        let base = *window.base.get(id.partition as usize)?;
        let is_single = self.positions(stream).is_single();
        (!is_full && !is_single && limits.events > 0 && id.offset >= 0 && id.offset < base).then(|| Place {
            topic: id.topic.clone(),
            partition: id.partition,
            epoch: window.epoch,
            offset: id.offset,
            until: base,
        })
    }

    /// Everything from these offsets on, one list a topic of the stream; `i64::MAX`: nothing that was read so far.
    /// `id` was seen last, if anything was.
    pub fn plan_at(
        &self,
        stream: &Stream,
        offsets: &[Arc<[i64]>],
        id: Option<&EventId>,
        limits: &ReplayLimits,
    ) -> Plan {
        let position = |(topic, offsets): (&Topic, &Arc<[i64]>)| {
            let Some(window) = self.topic(topic) else { return TopicPosition::default() };
            let mut next: Vec<i64> = offsets.iter().zip(&window.next).map(|(at, next)| *at.min(next)).collect();
            if let Some(id) = id.filter(|id| id.topic == *topic)
                && let Some(next) = next.get_mut(id.partition as usize)
            {
                *next = id.offset + 1;
            }
            TopicPosition { epoch: window.epoch, next }
        };
        let positions = Positions(stream.topics.iter().zip(offsets).map(position).collect());
        self.plan_exact(stream, positions, limits)
    }

    /// The whole window, for a client whose position means nothing here.
    pub fn plan_unknown(&self, stream: &Stream) -> Plan {
        let gap = Gap { cause: GapCause::Truncated, ranges: Vec::new(), missed: None, cursor: None };
        Plan { gaps: vec![gap], replay: self.replay_from_base(stream) }
    }

    fn plan_exact(&self, stream: &Stream, mut seen: Positions, limits: &ReplayLimits) -> Plan {
        let mut losses = Losses::default();
        for (topic, seen) in stream.topics.iter().zip(&mut seen.0) {
            match self.topic(topic) {
                Some(window) => losses.enter(window, topic, seen, limits.events > 0),
                None => {
                    let all = std::mem::take(&mut seen.next);
                    all.iter().enumerate().for_each(|(n, position)| losses.truncated(topic, n, 0, *position));
                }
            }
        }
        let mut replay = Replay::new(seen, self.base(stream));
        losses.over_limit = replay.keep_newest(self, stream, limits.events);
        losses.plan(replay)
    }

    fn plan_from_id(&self, stream: &Stream, id: &EventId, limits: &ReplayLimits) -> Plan {
        let known = stream.topics.iter().position(|topic| *topic == id.topic);
        let Some((topic_index, window)) = known.zip(self.topic(&id.topic)) else { return self.plan_unknown(stream) };
        let partition = id.partition as usize;
        if partition >= window.next.len() {
            return self.plan_unknown(stream);
        }
        let mut replay = self.replay_from_base(stream);
        if !replay.positions.is_single()
            && let Some(seq) = window.sent_here(stream, id)
        {
            return Plan { gaps: Vec::new(), replay: self.replay_after(stream, seq) };
        }
        replay.positions.0[topic_index].next[partition] = id.offset + 1;
        self.plan_exact(stream, replay.positions, limits)
    }

    fn replay_from_base(&self, stream: &Stream) -> Replay {
        Replay::new(self.base(stream), self.base(stream))
    }

    /// Where the window starts.
    fn base(&self, stream: &Stream) -> Positions {
        let start = |topic| self.topic(topic).map_or_else(TopicPosition::default, TopicWindow::start);
        Positions(stream.topics.iter().map(start).collect())
    }

    fn replay_after(&self, stream: &Stream, seq: Seq) -> Replay {
        let mut replay = self.replay_from_base(stream);
        while replay.next <= seq && replay.step(self, stream).is_some() {}
        replay
    }
}

impl TopicWindow {
    /// The position of a client that is to see all of the window.
    pub(super) fn start(&self) -> TopicPosition {
        TopicPosition { epoch: self.epoch, next: self.base.clone() }
    }

    /// Where an event stands in the window, if somebody on the stream got it when it was read: hub order up to there is
    /// what they saw. Of one that was read at start, or that nobody here was sent, the client saw it elsewhere.
    fn sent_here(&self, stream: &Stream, id: &EventId) -> Option<Seq> {
        let is_it = |entry: &Entry| match entry {
            Entry::Event(event) => event.id == *id && event.frames.get(FrameKey::cursor(stream.id)).is_some(),
            Entry::Gap { .. } => false,
        };
        let (seq, _) = self.entries.iter().rev().find(|(_, entry)| is_it(entry))?;
        self.is_live(*seq).then_some(*seq)
    }
}

/// Collects what can't be served.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) recreated: Vec<GapRange>,
    pub(super) retention: Vec<GapRange>,
    pub(super) truncated: Vec<GapRange>,
    pub(super) overflow: Vec<GapRange>,
    pub(super) over_limit: Vec<GapRange>,
}

impl Losses {
    /// Makes the position in a topic that of a client that goes on here, noting what it can't get. What lies before
    /// the window is left to the log, if it can be read.
    fn enter(&mut self, window: &TopicWindow, topic: &Topic, seen: &mut TopicPosition, has_log: bool) {
        // Nothing of a log was seen that was made, or got its partitions, since the cursor was made.
        let unseen = |from: usize| window.base.iter().skip(from).map(|base| if has_log { 0 } else { *base });
        if is_other(window.epoch, seen.epoch) {
            self.recreated.extend(rest_of_log(topic, &seen.next));
            *seen = TopicPosition { epoch: window.epoch, next: unseen(0).collect() };
            return;
        }
        let partitions = window.next.len();
        for (partition, position) in seen.next.iter().enumerate().skip(partitions) {
            self.truncated(topic, partition, 0, *position);
        }
        seen.next.truncate(partitions);
        seen.epoch = window.epoch;
        for (partition, position) in seen.next.iter_mut().enumerate() {
            let (base, next) = (window.base[partition], window.next[partition]);
            self.truncated(topic, partition, next, *position);
            if *position < base && !has_log {
                self.retention.push(range(topic, partition, *position, base - 1));
                *position = base;
            }
            *position = (*position).min(next);
        }
        seen.next.extend(unseen(seen.next.len()));
    }

    pub(super) fn truncated(&mut self, topic: &Topic, partition: usize, next: i64, position: i64) {
        if position > next {
            self.truncated.push(range(topic, partition, next, position - 1));
        }
    }

    /// At most one a cause.
    pub(super) fn into_gaps(self) -> Vec<Gap> {
        let causes = [
            (GapCause::TopicRecreated, self.recreated),
            (GapCause::Retention, self.retention),
            (GapCause::Truncated, self.truncated),
            (GapCause::Overflow, self.overflow),
            (GapCause::ReplayLimit, self.over_limit),
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

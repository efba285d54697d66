//! Replay in partitions that are not read yet, or not up to the client's position. They delay no other partition.

use super::by_time::ByTime;
use super::ends::{LogEnd, OtherEpoch};
use super::log::Place;
use super::replay::Replay;
use super::resume::Losses;
use super::standing::Lane;
use super::window::{Hub, is_other, rest_of_log};
use crate::cursor::TopicPosition;
use crate::event::{Gap, UNKNOWN_POSITION, is_offset, time_of};
use crate::route::Stream;

impl Replay {
    /// Notes the partitions that are not read up to the client's position, and those in which a time determines it.
    pub(super) fn note_unread(&mut self, hub: &Hub, stream: &Stream) {
        let (mut lanes, mut times) = (Vec::new(), Vec::new());
        for (n, (topic, seen)) in stream.topics.iter().zip(&self.positions.0).enumerate() {
            let window = hub.topic(topic);
            let known = window.map_or(0, |window| window.next.len());
            self.unread.extend((known..seen.next.len()).map(|partition| (n, partition)));
            let Some(window) = window else { continue };
            for (partition, (position, next)) in seen.next.iter().zip(&window.next).enumerate() {
                match time_of(*position) {
                    // It stands where live streams stand, or stood.
                    Some(_) if *next == UNKNOWN_POSITION && *position >= window.unread() => {}
                    Some(_) if window.continues(partition, *position) => {}
                    Some(ms) => {
                        lanes.push((n, partition));
                        times.push(ms);
                    }
                    None if *next == UNKNOWN_POSITION || position > next => drop(self.unread.insert((n, partition))),
                    None => {}
                }
            }
        }
        let by_time = times.into_iter().min().and_then(|ms| ByTime::of(ms, lanes, hub.positions(stream)));
        self.by_time = by_time.map(|by_time| Box::new(ByTime { is_unread: true, ..by_time }));
    }

    /// Whether the client's position is one in another topic than the one that is read here.
    pub(super) fn is_of_other(&self, hub: &Hub, stream: &Stream, topic: usize) -> bool {
        let seen = self.positions.0.get(topic).zip(stream.topics.get(topic));
        seen.is_some_and(|(seen, name)| is_other(hub.epoch(name), seen.epoch))
    }

    /// The topics with another epoch in the client's position than the one that is read here, by their indexes in the
    /// stream. Which of the two replaced the other is not known.
    pub fn others(&self, hub: &Hub, stream: &Stream) -> Vec<(usize, OtherEpoch)> {
        let others = (0..stream.topics.len()).filter(|n| self.is_of_other(hub, stream, *n));
        let other = |n: usize| {
            let topic = stream.topics[n].clone();
            (n, OtherEpoch { here: hub.epoch(&topic), topic })
        };
        others.map(other).collect()
    }

    /// Notes that the topic that is read here replaced the one of the client's position. Returns the gap.
    pub fn end_other(&mut self, hub: &Hub, stream: &Stream, topic: usize) -> Vec<Gap> {
        let mut losses = Losses::default();
        self.start_over(hub, stream, topic, &mut losses);
        losses.into_gaps()
    }

    /// Moves the position to the start of the topic that replaced the client's. Nothing of the new log was received;
    /// entries that have left the window come from the log, or become gaps.
    pub(super) fn start_over(&mut self, hub: &Hub, stream: &Stream, n: usize, losses: &mut Losses) {
        let Some((topic, seen)) = stream.topics.get(n).zip(self.positions.change().0.get_mut(n)) else { return };
        let Some(window) = hub.topic(topic) else { return };
        losses.recreated.extend(rest_of_log(topic, &seen.next));
        *seen = TopicPosition { epoch: window.epoch, next: vec![0; window.next.len()] };
        self.unread.retain(|lane| lane.0 != n);
        self.ends.retain(|lane, _| lane.0 != n);
        if let Some(by_time) = &mut self.by_time {
            by_time.lanes.retain(|(topic, _)| *topic != n);
        }
    }

    /// The positions of the client that are ahead of partitions that are read. Whether their logs still have them is
    /// not known.
    pub fn ahead(&self, hub: &Hub, stream: &Stream) -> Vec<Place> {
        let place = |lane: &Lane| {
            let (window, position) = (hub.topic(&stream.topics[lane.0])?, self.positions.next(*lane)?);
            let (topic, partition, epoch) = (stream.topics[lane.0].clone(), lane.1 as i32, window.epoch);
            let place = Place { topic, partition, epoch, offset: position - 1, until: position };
            window.next.get(lane.1).filter(|next| is_offset(**next) && position > **next).map(|_| place)
        };
        let lanes = self.unread.iter().filter(|lane| !self.is_of_other(hub, stream, lane.0));
        lanes.filter_map(place).collect()
    }

    /// The topics with partitions in the client's position that are unknown here, by their indexes in the stream, and
    /// their least number of partitions. Whether they exist is not known.
    pub fn unknown(&self, hub: &Hub, stream: &Stream) -> Vec<(usize, usize)> {
        let topics = stream.topics.iter().zip(&self.positions.0).enumerate();
        let unknown = topics.filter_map(|(n, (topic, seen))| {
            let known = hub.topic(topic).map_or(0, |window| window.next.len());
            let last = seen.next.iter().rposition(|position| *position > 0)?;
            (last >= known && !self.is_of_other(hub, stream, n)).then_some((n, last + 1))
        });
        unknown.collect()
    }

    /// Notes that a topic has only this many partitions. Returns a gap for what the client has received of others.
    pub fn end_unknown(&mut self, hub: &Hub, stream: &Stream, topic: usize, partitions: usize) -> Vec<Gap> {
        let mut losses = Losses::default();
        let known = hub.topic(&stream.topics[topic]).map_or(0, |window| window.next.len());
        if let Some(seen) = self.positions.change().0.get_mut(topic) {
            losses.missing(&stream.topics[topic], seen, partitions.max(known));
        }
        self.unread.retain(|lane| lane.0 != topic || lane.1 < partitions.max(known));
        losses.into_gaps()
    }

    /// Notes that a log ends before the client's position. The position moves to the end once the log is read up to it.
    pub fn note_end(&mut self, stream: &Stream, end: &LogEnd) {
        let topic = stream.topics.iter().position(|topic| *topic == end.topic);
        let lane = topic.map(|topic| (topic, end.partition as usize)).filter(|lane| self.unread.contains(lane));
        self.ends.extend(lane.map(|lane| (lane, end.end)));
    }

    /// Moves the positions back to the ends of the logs that are read up to them. Offsets without events, those after
    /// the last event that the client received, are no loss.
    pub(super) fn end(&mut self, hub: &Hub, stream: &Stream, losses: &mut Losses) {
        let is_read = |(lane, end): (&Lane, &i64)| {
            let is_reached = hub.next_of(stream, *lane).is_some_and(|next| next >= *end);
            (is_reached && !self.is_of_other(hub, stream, lane.0)).then_some((*lane, *end))
        };
        for (lane, end) in self.ends.iter().filter_map(is_read).collect::<Vec<_>>() {
            self.ends.remove(&lane);
            let Some(position) = self.positions.next(lane).filter(|_| self.unread.remove(&lane)) else { continue };
            match self.last.filter(|(of, next)| *of == lane && *next <= end) {
                Some((_, next)) => self.positions.pass(lane, next.min(position)),
                None => {
                    losses.truncated(&stream.topics[lane.0], lane.1, end, position);
                    self.positions.pass(lane, position.min(end));
                }
            }
        }
    }

    /// The topics, by their indexes in the stream, and the time of which the offsets are to be asked for.
    pub fn times(&mut self, hub: &Hub, stream: &Stream) -> Vec<(usize, i64)> {
        let Some(by_time) = &mut self.by_time else { return Vec::new() };
        let (topics, ms) = (by_time.topics(hub, stream), by_time.ms());
        let topics = topics.into_iter().filter(|topic| !self.is_of_other(hub, stream, *topic));
        topics.map(|topic| (topic, ms)).collect()
    }

    /// Takes the offsets of the time that [`Self::times`] named, and the first offsets of the logs. Returns a gap for
    /// what the client may lack before the offsets of the time.
    pub fn resolve(&mut self, hub: &Hub, stream: &Stream, topic: usize, offsets: &[i64], firsts: &[i64]) -> Vec<Gap> {
        let mut losses = Losses::default();
        let Some(by_time) = &mut self.by_time else { return Vec::new() };
        for (lane, position) in by_time.resolve(hub, stream, topic, offsets) {
            if by_time.is_unread {
                // Without a record from before the time, the deleted ones may be as late.
                let first = firsts.get(lane.1).copied().filter(|first| is_offset(*first) && *first < position);
                let live = hub.live_before(&stream.topics[topic], lane.1, by_time.ms);
                losses.unavailable(&stream.topics[topic], lane.1, live.max(first).unwrap_or(0), position);
            }
            self.positions.pass(lane, position);
        }
        self.by_time.take_if(|by_time| by_time.lanes.is_empty());
        losses.into_gaps()
    }

    /// Whether the position of the client in a partition is not that of live streams, although the window has nothing
    /// that is new to the client: the partition is not read yet, or its position is not known.
    pub fn is_waiting(&self, hub: &Hub, stream: &Stream) -> bool {
        let windows =
            stream.topics.iter().zip(&self.positions.0).filter_map(|(topic, seen)| Some((hub.topic(topic)?, seen)));
        let mut lanes = windows.flat_map(|(window, seen)| {
            let unread = window.unread();
            window.next.iter().zip(&seen.next).map(move |(next, position)| (*next, *position, unread))
        });
        self.by_time.is_some()
            || !self.ahead(hub, stream).is_empty()
            || !self.unknown(hub, stream).is_empty()
            || !self.others(hub, stream).is_empty()
            || lanes.any(|(next, position, unread)| {
                next == UNKNOWN_POSITION && !(unread..=UNKNOWN_POSITION).contains(&position)
            })
    }
}

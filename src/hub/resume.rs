//! Resuming: from a client's cursor to the entries it has not seen, and the losses it must be told of.
//!
//! A cursor with all positions is exact on every replica. A bare event id is exact where this process read the event
//! live, since then hub order is what the client saw; otherwise everything of the other partitions in the window is
//! sent again, at least once. That this process sent such an event since says nothing: it may have been to another
//! client than the one that comes back from elsewhere.

use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{Entry, EventId, GapCause, GapRange, Topic};
use crate::route::Stream;

use super::queue::Gap;
use super::window::{Hub, Seq, TopicWindow, is_other, place, rest_of_log};

/// How a client goes on.
#[derive(Debug)]
pub struct Plan {
    /// What it can't get any more: at most one loss a cause.
    pub gaps: Vec<Gap>,
    pub replay: Replay,
}

/// A walk through the window, from where a client stands to the newest entry.
#[derive(Debug)]
pub struct Replay {
    next: Seq,
    /// Where the client stands.
    positions: Positions,
    /// Where a client stands that saw the window in hub order and nothing else: what shared encodings may say.
    order: Positions,
}

impl Hub {
    /// Works out how to resume from `cursor`. The stream must be ready.
    pub fn plan(&self, stream: &Stream, cursor: &Cursor) -> Plan {
        let full = cursor.opaque.as_ref().and_then(|opaque| Positions::decode(opaque, &stream.topics));
        match full {
            Some(seen) => self.plan_exact(stream, seen),
            None => self.plan_from_id(stream, &cursor.id),
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

    /// The whole window, for a client whose position means nothing here.
    pub fn plan_unknown(&self, stream: &Stream) -> Plan {
        let gap = Gap { cause: GapCause::Truncated, ranges: Vec::new(), missed: None, cursor: None };
        Plan { gaps: vec![gap], replay: self.replay_from_base(stream) }
    }

    fn plan_exact(&self, stream: &Stream, mut seen: Positions) -> Plan {
        let mut losses = Losses::default();
        for (topic, seen) in stream.topics.iter().zip(&mut seen.0) {
            let window = self.topic(topic);
            if let Some(window) = window.filter(|window| is_other(window.epoch, seen.epoch)) {
                losses.recreated.extend(rest_of_log(topic, &seen.next));
                *seen = window.start();
                continue;
            }
            let partitions = window.map_or(0, |window| window.next.len());
            for (partition, position) in seen.next.iter().enumerate().skip(partitions) {
                losses.truncated(topic, partition, 0, *position);
            }
            seen.next.truncate(partitions);
            let Some(window) = window else { continue };
            seen.epoch = window.epoch;
            for (partition, position) in seen.next.iter_mut().enumerate() {
                *position = losses.clamp(window, topic, partition, *position);
            }
            // Partitions that were added since the cursor was made.
            let known = seen.next.len();
            seen.next.extend_from_slice(&window.base[known..]);
        }
        losses.plan(Replay { positions: seen, ..self.replay_from_base(stream) })
    }

    fn plan_from_id(&self, stream: &Stream, id: &EventId) -> Plan {
        let known = stream.topics.iter().position(|topic| *topic == id.topic);
        let Some((topic_index, window)) = known.zip(self.topic(&id.topic)) else { return self.plan_unknown(stream) };
        let partition = id.partition as usize;
        if partition >= window.next.len() {
            return self.plan_unknown(stream);
        }
        if let Some(seq) = window.seen_here(id) {
            return Plan { gaps: Vec::new(), replay: self.replay_after(stream, seq) };
        }
        let mut losses = Losses::default();
        let mut replay = self.replay_from_base(stream);
        replay.positions.0[topic_index].next[partition] = losses.clamp(window, &id.topic, partition, id.offset + 1);
        losses.plan(replay)
    }

    fn replay_from_base(&self, stream: &Stream) -> Replay {
        let start = |topic| self.topic(topic).map_or_else(TopicPosition::default, TopicWindow::start);
        let positions = Positions(stream.topics.iter().map(start).collect());
        Replay { next: 0, order: positions.clone(), positions }
    }

    fn replay_after(&self, stream: &Stream, seq: Seq) -> Replay {
        let mut replay = self.replay_from_base(stream);
        while replay.next <= seq && replay.step(self, stream).is_some() {}
        replay
    }
}

impl Replay {
    /// The next entry the client has not seen; nothing where it has caught up.
    pub fn step<'hub>(&mut self, hub: &'hub Hub, stream: &Stream) -> Option<&'hub Entry> {
        loop {
            let (seq, entry) = hub.next_entry(stream, self.next)?;
            self.next = seq + 1;
            let (topic, partition, last) = place(entry);
            let topic_index = stream.topics.iter().position(|known| known == topic)?;
            self.order.pass(topic_index, partition, last);
            let next = self.positions.0.get(topic_index).and_then(|topic| topic.next.get(partition as usize));
            if next.is_none_or(|next| last >= *next) {
                self.positions.pass(topic_index, partition, last);
                return Some(entry);
            }
        }
    }

    /// What fell out of the window before this walk came to it, since the client reads slowly, or went with a log that
    /// is gone.
    pub fn lost(&mut self, hub: &Hub, stream: &Stream) -> Vec<Gap> {
        let mut losses = Losses::default();
        for ((topic, seen), order) in stream.topics.iter().zip(&mut self.positions.0).zip(&mut self.order.0) {
            let Some(window) = hub.topic(topic) else { continue };
            if is_other(window.epoch, seen.epoch) {
                losses.recreated.extend(rest_of_log(topic, &seen.next));
                (*seen, *order) = (window.start(), window.start());
                continue;
            }
            order.next.iter_mut().zip(&window.base).for_each(|(order, base)| *order = (*order).max(*base));
            for (partition, next) in seen.next.iter_mut().enumerate().take(window.next.len()) {
                let (low, high) = (window.base[partition], window.next[partition]);
                if *next > high {
                    losses.truncated(topic, partition, low, *next);
                    *next = low;
                } else if *next < low {
                    losses.overflow.push(range(topic, partition, *next, low - 1));
                    *next = low;
                }
            }
        }
        losses.into_gaps()
    }

    /// The cursor of a client that has everything up to here, `id` last.
    pub fn cursor(&self, stream: &Stream, id: &EventId) -> Cursor {
        self.positions.cursor(&stream.topics, id.clone())
    }

    /// Whether the client stands where hub order has it stand, so that what is shared fits it.
    pub fn is_in_order(&self) -> bool {
        self.positions == self.order
    }

    /// The client's cursor where no event is at hand: some partition's last offset stands for the id.
    pub fn cursor_now(&self, stream: &Stream) -> Option<Cursor> {
        let mut firsts = stream.topics.iter().zip(self.positions.0.iter().map(|seen| seen.next.first()));
        let (topic, next) = firsts.find_map(|(topic, next)| Some((topic, next?)))?;
        Some(self.cursor(stream, &EventId { topic: topic.clone(), partition: 0, offset: next - 1 }))
    }
}

impl TopicWindow {
    /// The position of a client that is to see all of the window.
    fn start(&self) -> TopicPosition {
        TopicPosition { epoch: self.epoch, next: self.base.clone() }
    }

    /// Where an event stands in the window, if hub order up to there is what its reader saw.
    fn seen_here(&self, id: &EventId) -> Option<Seq> {
        let is_it = |entry: &Entry| match entry {
            Entry::Event(event) => event.id == *id,
            Entry::Gap { .. } => false,
        };
        let (seq, _) = self.entries.iter().rev().find(|(_, entry)| is_it(entry))?;
        self.is_live(*seq).then_some(*seq)
    }
}

/// Collects what can't be served while a plan is made.
#[derive(Default)]
struct Losses {
    recreated: Vec<GapRange>,
    retention: Vec<GapRange>,
    truncated: Vec<GapRange>,
    overflow: Vec<GapRange>,
}

impl Losses {
    /// The position to go on from: what was asked for, or the nearest that can be served.
    fn clamp(&mut self, window: &TopicWindow, topic: &Topic, partition: usize, position: i64) -> i64 {
        let (base, next) = (window.base[partition], window.next[partition]);
        if position < base {
            self.retention.push(range(topic, partition, position, base - 1));
        } else if position > next {
            self.truncated(topic, partition, next, position);
        }
        position.clamp(base, next)
    }

    fn truncated(&mut self, topic: &Topic, partition: usize, next: i64, position: i64) {
        if position > next {
            self.truncated.push(range(topic, partition, next, position - 1));
        }
    }

    /// At most one a cause.
    fn into_gaps(self) -> Vec<Gap> {
        let causes = [
            (GapCause::TopicRecreated, self.recreated),
            (GapCause::Retention, self.retention),
            (GapCause::Truncated, self.truncated),
            (GapCause::Overflow, self.overflow),
        ];
        let gaps = causes.into_iter().filter(|(_, ranges)| !ranges.is_empty());
        gaps.map(|(cause, ranges)| Gap { cause, ranges, missed: None, cursor: None }).collect()
    }

    fn plan(self, replay: Replay) -> Plan {
        Plan { gaps: self.into_gaps(), replay }
    }
}

fn range(topic: &Topic, partition: usize, from: i64, to: i64) -> GapRange {
    GapRange { topic: topic.clone(), partition: partition as i32, from, to }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::FrameKey;
    use crate::hub::WindowLimits;
    use crate::testing::{event, stream};

    const TOPICS: [&str; 2] = ["a", "b"];
    const PARTITIONS: usize = 3;

    fn hub(events: usize) -> Hub {
        let limits = WindowLimits { events, bytes: usize::MAX };
        let mut hub = Hub::new(TOPICS.map(|topic| (topic.into(), limits)));
        for topic in TOPICS {
            hub.assign(&topic.into(), 0, &[0; PARTITIONS]);
        }
        hub.go_live(&TOPICS.map(Into::into));
        hub
    }

    /// Reads (topic, partition) choices as a log; each partition counts its own offsets.
    fn log(choices: &[(usize, usize)]) -> Vec<Entry> {
        let mut next = [[0; PARTITIONS]; 2];
        let mut take = |(topic, partition): (usize, usize)| {
            next[topic][partition] += 1;
            Entry::Event(event(TOPICS[topic], partition as i32, next[topic][partition] - 1, &[]))
        };
        choices.iter().map(|choice| take(*choice)).collect()
    }

    fn ids(hub: &Hub, stream: &Stream, mut plan: Plan) -> Vec<String> {
        let steps = std::iter::from_fn(|| plan.replay.step(hub, stream).map(|e| super::super::last_id(e).to_string()));
        steps.collect()
    }

    fn resume(hub: &Hub, stream: &Stream, cursor: &str) -> (Vec<GapCause>, Vec<String>) {
        let plan = hub.plan(stream, &cursor.parse().unwrap());
        (plan.gaps.iter().map(|gap| gap.cause).collect(), ids(hub, stream, plan))
    }

    #[test]
    fn losses_are_told_with_their_place() {
        let stream = stream(1, &["a"]);
        let mut hub = hub(2);
        for entry in log(&[(0, 0), (0, 0), (0, 0), (0, 0)]) {
            hub.append(&entry);
        }
        assert_eq!(resume(&hub, &stream, "a:0:1"), (vec![], vec!["a:0:2".into(), "a:0:3".into()]));
        let plan = hub.plan(&stream, &"a:0:0".parse().unwrap());
        assert_eq!(plan.gaps[0].cause, GapCause::Retention);
        assert_eq!(plan.gaps[0].ranges, [GapRange { topic: "a".into(), partition: 0, from: 1, to: 1 }]);
        assert_eq!(resume(&hub, &stream, "a:0:99").0, [GapCause::Truncated]);
        assert_eq!(resume(&hub, &stream, "a:7:0").0, [GapCause::Truncated]);
        assert_eq!(resume(&hub, &stream, "other:0:0").0, [GapCause::Truncated]);
        assert_eq!(resume(&hub, &stream, "a:0:3"), (vec![], vec![]), "caught up");
    }

    #[test]
    fn a_client_that_is_ahead_is_told_from_one_that_is_not() {
        let stream = stream(1, &["a"]);
        let mut here = hub(9);
        let mut there = hub(9);
        let entries = log(&[(0, 0), (0, 1)]);
        here.append(&entries[0]);
        there.append(&entries[0]);
        let even = there.cursor_at(&stream, &super::super::last_id(&entries[0]));
        there.append(&entries[1]);
        let ahead = there.cursor_at(&stream, &super::super::last_id(&entries[1]));
        assert!(!here.is_behind_of(&stream, &even) && here.is_behind_of(&stream, &ahead));
        assert!(!here.is_behind_of(&stream, &even.id.clone().into()) && here.is_behind_of(&stream, &ahead.id.into()));
        assert!(!here.is_behind_of(&stream, &"other:0:99".parse().unwrap()), "waiting would not help");
    }

    #[test]
    fn an_id_read_from_the_log_at_start_resumes_at_least_once() {
        let stream = stream(1, &["a"]);
        let mut hub = Hub::new([("a".into(), WindowLimits { events: 9, bytes: 999 })]);
        hub.assign(&"a".into(), 0, &[0, 0]);
        for entry in log(&[(0, 0), (0, 1), (0, 0)]) {
            hub.append(&entry);
        }
        assert!(!hub.is_ready(&stream));
        hub.go_live(&["a".into()]);
        // That somebody was sent it since says nothing of who asks now.
        for (_, entry) in &hub.topic(&"a".into()).unwrap().entries {
            let Entry::Event(event) = entry else { continue };
            event.frames.get_or_encode(FrameKey::cursor(stream.id), || "cursor".into());
        }
        assert_eq!(resume(&hub, &stream, "a:0:0").1, ["a:1:0", "a:0:1"]);
        assert_eq!(resume(&hub, &stream, "a:1:0").1, ["a:0:0", "a:0:1"], "a:0:0 may not have been seen elsewhere");
    }

    #[test]
    fn a_stream_waits_for_every_topic_that_somebody_still_looks_for() {
        let (both, of_a) = (stream(1, &["a", "b"]), stream(2, &["a"]));
        let mut hub = Hub::new([]);
        hub.assign(&"a".into(), 0, &[0]);
        hub.go_live(&["a".into()]);
        assert!(hub.is_ready(&of_a) && !hub.is_ready(&both), "the source of `b` has said nothing yet");
        hub.assign(&"b".into(), 0, &[0]);
        hub.go_live(&["a".into()]);
        assert!(!hub.is_ready(&both), "`b` is being read, whatever another source says");
        hub.go_live(&["b".into()]);
        assert!(hub.is_ready(&both));

        let mut hub = Hub::new([]);
        hub.go_live(&["b".into()]);
        assert!(!hub.is_ready(&both), "there is nothing to resume from");
        hub.assign(&"a".into(), 0, &[0]);
        hub.go_live(&["a".into()]);
        assert!(hub.is_ready(&both), "`b` is not there, and its source said so");
    }

    #[test]
    fn a_topic_that_was_made_anew_is_told_and_read_from_its_start() {
        let stream = stream(1, &["a"]);
        let mut hub = hub(9);
        hub.assign(&"a".into(), 1, &[0; PARTITIONS]);
        let entries = log(&[(0, 0), (0, 1), (0, 0)]);
        entries.iter().for_each(|entry| {
            hub.append(entry);
        });
        let cursor = hub.cursor_at(&stream, &super::super::last_id(&entries[2])).to_string();
        let mut walk = hub.plan(&stream, &cursor.parse().unwrap()).replay;
        let rest = [(0, 2), (1, 1), (2, 0)].map(|(n, from)| range(&"a".into(), n, from, GapRange::OPEN));
        assert_eq!(hub.assign(&"a".into(), 2, &[0]), rest);
        // The new log is already longer than where the client stood.
        for offset in 0..5 {
            hub.append(&Entry::Event(event("a", 0, offset, &[])));
        }
        let plan = hub.plan(&stream, &cursor.parse().unwrap());
        assert_eq!((plan.gaps[0].cause, &plan.gaps[0].ranges[..]), (GapCause::TopicRecreated, &rest[..]));
        assert_eq!(ids(&hub, &stream, plan), ["a:0:0", "a:0:1", "a:0:2", "a:0:3", "a:0:4"]);
        assert_eq!(walk.lost(&hub, &stream)[0].ranges, rest);
        assert_eq!(ids(&hub, &stream, Plan { gaps: Vec::new(), replay: walk }).len(), 5);
        assert!(hub.assign(&"a".into(), 0, &[5]).is_empty(), "an epoch that is not known says nothing");
        assert!(hub.assign(&"a".into(), 2, &[5, 0]).is_empty());
    }

    #[test]
    fn a_walk_that_is_too_slow_tells_what_it_lost() {
        let stream = stream(1, &["a"]);
        let mut hub = hub(2);
        let entries = log(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]);
        hub.append(&entries[0]);
        hub.append(&entries[1]);
        let mut replay = hub.plan(&stream, &"a:0:-1".parse().unwrap()).replay;
        replay.step(&hub, &stream);
        entries[2..].iter().for_each(|entry| {
            hub.append(entry);
        });
        let lost = replay.lost(&hub, &stream);
        assert_eq!((lost.len(), lost[0].cause), (1, GapCause::Overflow));
        assert_eq!(lost[0].ranges, [GapRange { topic: "a".into(), partition: 0, from: 1, to: 2 }]);
        assert_eq!(replay.lost(&hub, &stream), []);
    }

    proptest! {
        /// A client cut anywhere and resumed with its full cursor, on this replica or on one that read the partitions
        /// in another order, gets every event once, or is told which it can't get.
        #[test]
        fn a_full_cursor_is_exact_everywhere(
            choices in prop::collection::vec((0..2usize, 0..PARTITIONS), 1..60),
            order in prop::collection::vec(any::<u32>(), 60),
            cut in any::<prop::sample::Index>(),
            window in 1..80usize,
        ) {
            let stream = stream(1, &TOPICS);
            let entries = log(&choices);
            let cut = cut.index(entries.len());
            let mut here = hub(window);
            let mut cursor = String::new();
            for (n, entry) in entries.iter().enumerate() {
                here.append(entry);
                if n == cut {
                    cursor = here.cursor_at(&stream, &super::super::last_id(entry)).to_string();
                }
            }
            // Another replica: the same partitions, interleaved otherwise.
            let mut there = hub(window);
            let mut queues: Vec<Vec<&Entry>> = vec![Vec::new(); 2 * PARTITIONS];
            for (entry, (topic, partition)) in entries.iter().zip(&choices).rev() {
                queues[topic * PARTITIONS + partition].push(entry);
            }
            let mut order = order.into_iter().cycle();
            while queues.iter().any(|queue| !queue.is_empty()) {
                let at = order.next().unwrap() as usize % queues.len();
                let at = (0..queues.len()).map(|n| (at + n) % queues.len()).find(|n| !queues[*n].is_empty()).unwrap();
                there.append(queues[at].pop().unwrap());
            }
            for hub in [&here, &there] {
                let plan = hub.plan(&stream, &cursor.parse().unwrap());
                let lost: Vec<String> = plan.gaps.iter().flat_map(|gap| &gap.ranges).flat_map(|range| {
                    (range.from..=range.to).map(|offset| format!("{}:{}:{offset}", range.topic, range.partition))
                }).collect();
                let mut got = ids(hub, &stream, plan);
                got.extend(lost);
                got.sort();
                let mut expected: Vec<String> =
                    entries[cut + 1..].iter().map(|e| super::super::last_id(e).to_string()).collect();
                expected.sort();
                prop_assert_eq!(got, expected);
            }
        }

        /// A bare id of an event that was read live resumes exactly on the replica that sent it.
        #[test]
        fn a_bare_id_is_exact_on_the_same_replica(
            choices in prop::collection::vec((0..2usize, 0..PARTITIONS), 1..60),
            cut in any::<prop::sample::Index>(),
        ) {
            let stream = stream(1, &TOPICS);
            let entries = log(&choices);
            let mut hub = hub(100);
            entries.iter().for_each(|entry| { hub.append(entry); });
            let cut = cut.index(entries.len());
            let id = super::super::last_id(&entries[cut]).to_string();
            let expected: Vec<String> =
                entries[cut + 1..].iter().map(|e| super::super::last_id(e).to_string()).collect();
            prop_assert_eq!(resume(&hub, &stream, &id), (vec![], expected));
        }
    }
}

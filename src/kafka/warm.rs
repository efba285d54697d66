//! The buffer of the warm-up: entries that were read before the first one is passed on. They are merged by the records'
//! times, and stay in order per partition. Bounded like the replay window that they will fill. Pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::event::Entry;

/// The overhead of an entry in bytes, so that a million empty ones are not free.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// The entries of one topic.
#[derive(Debug)]
pub(super) struct Warm {
    events_max: usize,
    bytes_max: usize,
    /// The bytes of all entries: at most `bytes_max`, except for a single entry.
    bytes: usize,
    /// The number of all entries: at most `events_max`.
    len: usize,
    /// By partition.
    lanes: Vec<Lane>,
    /// The time of the first entry of every non-empty lane.
    fronts: BinaryHeap<Reverse<(i64, usize)>>,
}

/// One partition.
#[derive(Debug)]
struct Lane {
    /// No entry before this offset is held or will be added.
    floor: i64,
    held: VecDeque<Held>,
    /// Everything before this was received, or contains no records.
    next: i64,
}

#[derive(Debug)]
struct Held {
    ts: i64,
    offset: i64,
    entry: Entry,
}

impl Warm {
    /// `events_max` and `bytes_max` are those of the topic's replay window.
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { events_max, bytes_max, bytes: 0, len: 0, lanes: Vec::new(), fronts: BinaryHeap::new() }
    }

    /// Adds the next partition, to be read from `start`.
    pub(super) fn add_partition(&mut self, start: i64) {
        self.lanes.push(Lane { floor: start, held: VecDeque::new(), next: start });
    }

    /// The partition is read from `start` on: earlier records are deleted.
    pub(super) fn raise_floor(&mut self, partition: usize, start: i64) {
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.floor = lane.floor.max(start);
            lane.next = lane.next.max(start);
        }
    }

    /// The offsets between the partition's last record and `next` contain no records. Returns whether a hole has to
    /// report that, because no event can.
    pub(super) fn pass(&mut self, partition: usize, next: i64) -> bool {
        let Some(lane) = self.lanes.get_mut(partition).filter(|lane| lane.next < next) else { return false };
        lane.next = next;
        !lane.held.back_mut().is_some_and(|last| last.entry.go_on_at(next))
    }

    /// Adds an entry with the time of its record, and drops the oldest entries beyond the limits.
    pub(super) fn push(&mut self, partition: usize, offset: i64, ts: i64, entry: Entry) {
        self.pass(partition, entry.first_offset());
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        lane.next = offset + 1;
        if lane.held.is_empty() {
            self.fronts.push(Reverse((ts, partition)));
        }
        self.len += 1;
        self.bytes += bytes_of(&entry);
        lane.held.push_back(Held { ts, offset, entry });
        while self.len > self.events_max || (self.bytes > self.bytes_max && self.len > 1) {
            if let Some((partition, dropped)) = self.pop() {
                self.raise_floor(partition, dropped.offset + 1);
            }
        }
    }

    /// The offset of each partition from which all entries are held or will be added.
    pub(super) fn floors(&self) -> Vec<i64> {
        self.lanes.iter().map(|lane| lane.floor).collect()
    }

    fn next_ts(&self) -> Option<i64> {
        self.fronts.peek().map(|Reverse((ts, _))| *ts)
    }

    /// Removes the oldest of the lanes' first entries.
    fn pop(&mut self) -> Option<(usize, Held)> {
        let Reverse((_, partition)) = self.fronts.pop()?;
        let lane = self.lanes.get_mut(partition)?;
        let held = lane.held.pop_front()?;
        if let Some(front) = lane.held.front() {
            self.fronts.push(Reverse((front.ts, partition)));
        }
        self.len -= 1;
        self.bytes -= bytes_of(&held.entry);
        Some((partition, held))
    }
}

/// All entries of all topics in the order of their times.
pub(super) fn merge(mut topics: Vec<Warm>) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(topics.iter().map(|warm| warm.len).sum());
    loop {
        let oldest = topics.iter_mut().filter(|warm| warm.len > 0).min_by_key(|warm| warm.next_ts());
        let Some((_, held)) = oldest.and_then(Warm::pop) else { return merged };
        merged.push(held.entry);
    }
}

fn bytes_of(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match entry {
            Entry::Event(event) => event.envelope.len(),
            Entry::Gap { .. } | Entry::Hole { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{GapCause, GapRange};

    fn entry(topic: &str, partition: i32, offset: i64) -> Entry {
        let range = GapRange { topic: topic.into(), partition, from: offset, to: offset };
        Entry::Gap { cause: GapCause::Undecodable, range }
    }

    fn places(entries: &[Entry]) -> Vec<String> {
        let place = |entry: &Entry| match entry {
            Entry::Gap { range, .. } => format!("{}{}:{}", range.topic, range.partition, range.from),
            Entry::Event(event) => event.id.to_string(),
            Entry::Hole { .. } => panic!("a hole"),
        };
        entries.iter().map(place).collect()
    }

    fn warm(events_max: usize, starts: &[i64]) -> Warm {
        let mut warm = Warm::new(events_max, usize::MAX);
        starts.iter().for_each(|start| warm.add_partition(*start));
        warm
    }

    fn push(warm: &mut Warm, topic: &str, partition: i32, offset: i64, ts: i64) {
        warm.push(partition as usize, offset, ts, entry(topic, partition, offset));
    }

    #[test]
    fn topics_and_partitions_are_merged_by_time_in_their_own_order() {
        let (mut a, mut b) = (warm(9, &[0, 0]), warm(9, &[0]));
        push(&mut a, "a", 0, 0, 10);
        push(&mut a, "a", 0, 1, 40);
        // A clock that was set back does not reorder a partition.
        push(&mut a, "a", 0, 2, 5);
        push(&mut a, "a", 1, 0, 20);
        push(&mut b, "b", 0, 0, 15);
        push(&mut b, "b", 0, 1, 50);
        assert_eq!(places(&merge(vec![a, b])), ["a0:0", "b0:0", "a1:0", "a0:1", "a0:2", "b0:1"]);
    }

    #[test]
    fn the_newest_entries_stay_and_floors_report_dropped_ones() {
        let mut warm = warm(3, &[100, 200]);
        for i in 0..4 {
            push(&mut warm, "a", 0, 100 + i, 10 * i);
        }
        push(&mut warm, "a", 1, 205, 15);
        push(&mut warm, "a", 1, 206, 25);
        // 100 is dropped first, then 101 (10), then 205 (15).
        assert_eq!(warm.floors(), [102, 206]);
        assert_eq!(places(&merge(vec![warm])), ["a0:102", "a1:206", "a0:103"]);
    }

    #[test]
    fn the_position_after_an_event_is_before_the_gap_that_follows() {
        let mut warm = warm(9, &[0]);
        warm.push(0, 2, 1, Entry::Event(crate::testing::event("a", 0, 2, &[])));
        let range = GapRange { topic: "a".into(), partition: 0, from: 5, to: 9 };
        warm.push(0, 9, 1, Entry::Gap { cause: GapCause::Unreadable, range });
        assert!(warm.pass(0, 12), "the hole after a gap is an entry of its own");
        assert_eq!(merge(vec![warm]).iter().map(crate::hub::after).collect::<Vec<_>>(), [5, 10]);
    }

    #[test]
    fn bytes_are_bounded_and_the_last_entry_stays() {
        let mut warm = Warm::new(usize::MAX, 2 * ENTRY_OVERHEAD_BYTES);
        warm.add_partition(0);
        (0..5).for_each(|i| push(&mut warm, "a", 0, i, i));
        assert_eq!((warm.len, warm.floors()), (2, vec![3]));

        let mut tiny = Warm::new(usize::MAX, 1);
        tiny.add_partition(0);
        (0..5).for_each(|i| push(&mut tiny, "a", 0, i, i));
        assert_eq!(places(&merge(vec![tiny])), ["a0:4"]);
    }

    #[test]
    fn a_window_of_nothing_holds_nothing() {
        let mut warm = warm(0, &[7]);
        push(&mut warm, "a", 0, 7, 1);
        assert_eq!(warm.floors(), [8]);
        assert!(merge(vec![warm]).is_empty());
    }
}

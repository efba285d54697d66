//! The pending requests of one cluster: which sessions wait for which chunk. Pure.
//!
//! Places that one chunk will contain are one request; requests are served in order of arrival. A session is called
//! when the chunk is available, and every [`CALL_AGAIN`] regardless; a session that does not repeat its request then is
//! dropped.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::hub::Asker;

/// The most pending requests.
const PLACES_MAX: usize = 16_384;
/// The most waiting sessions: a stream requests a chunk of each of its partitions.
const ASKERS_MAX: usize = 262_144;
/// The interval at which waiting sessions are called, so that they can check their own limits.
pub(super) const CALL_AGAIN: Duration = Duration::from_secs(2);
/// Places in the same block of this many offsets are one request, and chunks begin at its start if possible, so that
/// readers at nearby positions share them. A power of two.
pub(super) const BLOCK_OFFSETS: i64 = 128;

/// A partition, with the index of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicPartition {
    pub(super) topic: usize,
    pub(super) partition: i32,
}

/// The needed offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) offset: i64,
    /// The end of the needed offsets.
    pub(super) until: i64,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    /// By block. No map is empty.
    partitions: BTreeMap<TopicPartition, BTreeMap<i64, Request>>,
    /// The number of requests in `partitions`: at most [`PLACES_MAX`].
    places: usize,
    /// The number of sessions in all requests: at most [`ASKERS_MAX`].
    askers: usize,
    /// A counter of requests.
    made: u64,
}

#[derive(Debug)]
struct Request {
    number: u64,
    /// From the lowest requested offset.
    wanted: Wanted,
    /// When it was created, or its sessions were called last.
    since: Instant,
    askers: FxHashSet<(Asker, i64)>,
}

impl Requests {
    /// Adds a request. False if there are too many.
    #[must_use]
    pub(super) fn add(&mut self, partition: TopicPartition, wanted: Wanted, asker: Asker, now: Instant) -> bool {
        let blocks = self.partitions.get_mut(&partition);
        let known = blocks.and_then(|blocks| blocks.get_mut(&block(wanted.offset)));
        if let Some(request) = known {
            request.wanted.offset = request.wanted.offset.min(wanted.offset);
            request.wanted.until = request.wanted.until.max(wanted.until);
            if self.askers < ASKERS_MAX && request.askers.insert((asker, wanted.offset)) {
                self.askers += 1;
            }
            return request.askers.contains(&(asker, wanted.offset));
        }
        if self.places >= PLACES_MAX || self.askers >= ASKERS_MAX {
            return false;
        }
        (self.places, self.askers, self.made) = (self.places + 1, self.askers + 1, self.made + 1);
        let askers = FxHashSet::from_iter([(asker, wanted.offset)]);
        let request = Request { number: self.made, wanted, since: now, askers };
        self.partitions.entry(partition).or_default().insert(block(wanted.offset), request);
        true
    }

    /// A chunk with these offsets is available: returns the sessions that waited for it, which no longer wait.
    pub(super) fn answer(&mut self, partition: TopicPartition, offsets: &Range<i64>) -> Vec<Asker> {
        let mut answered = Vec::new();
        let Some(blocks) = self.partitions.get_mut(&partition) else { return answered };
        let touched: Vec<i64> = blocks.range(block(offsets.start)..offsets.end).map(|(block, _)| *block).collect();
        for block in touched {
            let Some(request) = blocks.get_mut(&block) else { continue };
            let served = request.askers.extract_if(|(_, offset)| offsets.contains(offset));
            answered.extend(served.map(|(asker, _)| asker));
            match request.askers.iter().map(|(_, offset)| *offset).min() {
                Some(lowest) => request.wanted.offset = lowest,
                None => {
                    blocks.remove(&block);
                    self.places -= 1;
                }
            }
        }
        if blocks.is_empty() {
            self.partitions.remove(&partition);
        }
        self.askers -= answered.len();
        answered
    }

    /// The sessions that have waited for too long and should request again. A request that no session has repeated is
    /// dropped.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Asker> {
        self.call(now, |request| now.duration_since(request.since) >= CALL_AGAIN)
    }

    /// All waiting sessions.
    pub(super) fn everybody(&mut self, now: Instant) -> Vec<Asker> {
        self.call(now, |request| !request.askers.is_empty())
    }

    fn call(&mut self, now: Instant, is_due: impl Fn(&Request) -> bool) -> Vec<Asker> {
        let mut called = Vec::new();
        for blocks in self.partitions.values_mut() {
            blocks.retain(|_, request| {
                let is_due = is_due(request);
                let is_forgotten = is_due && request.askers.is_empty();
                if is_due {
                    called.extend(request.askers.drain().map(|(asker, _)| asker));
                    request.since = now;
                }
                self.places -= usize::from(is_forgotten);
                !is_forgotten
            });
        }
        self.partitions.retain(|_, blocks| !blocks.is_empty());
        self.askers -= called.len();
        called
    }

    /// The partitions with the oldest requests, except for these, at most this many, the oldest first.
    pub(super) fn oldest(&self, max: usize, but: impl Fn(TopicPartition) -> bool) -> Vec<TopicPartition> {
        let others = self.partitions.iter().filter(|(partition, _)| !but(**partition));
        let number = |blocks: &BTreeMap<i64, Request>| blocks.values().map(|request| request.number).min();
        let mut found: Vec<_> = others.map(|(partition, blocks)| (number(blocks), *partition)).collect();
        found.sort_unstable();
        found.into_iter().take(max).map(|(_, partition)| partition).collect()
    }

    /// The oldest request of a partition.
    pub(super) fn oldest_of(&self, partition: TopicPartition) -> Option<Wanted> {
        let requests = self.partitions.get(&partition)?.values();
        requests.min_by_key(|request| request.number).map(|request| request.wanted)
    }

    /// The request of a partition that a reader at this offset reaches by reading on.
    pub(super) fn at(&self, partition: TopicPartition, offset: i64) -> Option<Wanted> {
        let ahead = offset..offset.saturating_add(BLOCK_OFFSETS);
        let mut requests = self.partitions.get(&partition)?.range(block(offset)..ahead.end);
        requests.find(|(_, request)| ahead.contains(&request.wanted.offset)).map(|(_, request)| request.wanted)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places == 0
    }
}

/// The first offset of this offset's block.
fn block(offset: i64) -> i64 {
    offset & !(BLOCK_OFFSETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P0: TopicPartition = TopicPartition { topic: 0, partition: 0 };
    const P1: TopicPartition = TopicPartition { topic: 0, partition: 1 };

    fn asker(session: u32) -> Asker {
        Asker { writer: 0, session }
    }

    fn wanted(offset: i64, until: i64) -> Wanted {
        Wanted { offset, until }
    }

    /// Requests for offsets of partition 0 until 1000, each by another session: 0, 1, ...
    fn asked(offsets: &[i64]) -> (Requests, Instant) {
        let (mut requests, now) = (Requests::default(), Instant::now());
        for (session, offset) in (0..).zip(offsets) {
            assert!(requests.add(P0, wanted(*offset, 1000), asker(session), now));
        }
        (requests, now)
    }

    fn sessions(askers: Vec<Asker>) -> Vec<u32> {
        let mut sessions: Vec<_> = askers.into_iter().map(|asker| asker.session).collect();
        sessions.sort_unstable();
        sessions
    }

    #[test]
    fn places_of_one_block_are_one_request() {
        let (mut requests, now) = asked(&[130, 129, 255, 256]);
        assert_eq!((requests.places, requests.askers), (2, 4));
        assert!(requests.add(P0, wanted(200, 2000), asker(9), now));
        assert_eq!(requests.oldest_of(P0), Some(wanted(129, 2000)), "the lowest offset, the highest end");
    }

    #[test]
    fn a_page_calls_the_sessions_whose_place_it_contains() {
        let (mut requests, _) = asked(&[129, 200, 256, 700]);
        assert_eq!(sessions(requests.answer(P0, &(129..200))), [0]);
        assert_eq!(requests.oldest_of(P0), Some(wanted(200, 1000)));
        assert!(requests.answer(P1, &(0..1000)).is_empty());
        assert_eq!(sessions(requests.answer(P0, &(200..640))), [1, 2]);
        assert_eq!((requests.places, requests.askers), (1, 1));
        assert_eq!(sessions(requests.answer(P0, &(640..10_000))), [3]);
        assert!(requests.is_empty() && requests.partitions.is_empty());
    }

    #[test]
    fn a_repeated_request_is_called_once() {
        let (mut requests, now) = asked(&[5]);
        assert!(requests.add(P0, wanted(5, 1000), asker(0), now));
        assert_eq!(sessions(requests.answer(P0, &(0..10))), [0]);
    }

    #[test]
    fn requests_are_served_in_order() {
        let (mut requests, now) = asked(&[900, 10]);
        assert!(requests.add(P1, wanted(0, 10), asker(7), now));
        assert_eq!(requests.oldest_of(P0), Some(wanted(900, 1000)));
        assert_eq!(requests.oldest(9, |_| false), [P0, P1]);
        assert_eq!(requests.oldest(1, |_| false), [P0]);
        assert_eq!(requests.oldest(1, |partition| partition == P0), [P1]);
        requests.answer(P0, &(900..901));
        assert_eq!(requests.oldest_of(P0), Some(wanted(10, 1000)));
    }

    #[test]
    fn a_reader_reaches_the_next_request_by_reading_on() {
        let (requests, _) = asked(&[100, 300]);
        assert_eq!(requests.at(P0, 100), Some(wanted(100, 1000)));
        assert_eq!(requests.at(P0, 101), None, "that lies behind, and the other too far ahead");
        assert_eq!(requests.at(P0, 173), Some(wanted(300, 1000)));
        assert_eq!(requests.at(P1, 100), None);
    }

    #[test]
    fn waiting_sessions_are_called_repeatedly_and_dropped_without_a_new_request() {
        let (mut requests, now) = asked(&[5, 500]);
        assert!(requests.overdue(now + CALL_AGAIN / 2).is_empty());
        let later = now + CALL_AGAIN;
        assert_eq!(sessions(requests.overdue(later)), [0, 1]);
        assert!(requests.add(P0, wanted(5, 1000), asker(0), later));
        assert!(requests.overdue(later).is_empty());
        assert_eq!(sessions(requests.overdue(later + CALL_AGAIN)), [0]);
        assert_eq!(requests.places, 1, "the other was not asked for again");
        assert!(requests.overdue(later + 2 * CALL_AGAIN).is_empty());
        assert!(requests.is_empty());
    }

    #[test]
    fn calling_all_sessions_keeps_the_order() {
        let (mut requests, now) = asked(&[900, 10]);
        assert_eq!(sessions(requests.everybody(now)), [0, 1]);
        assert!(requests.add(P0, wanted(10, 1000), asker(1), now));
        assert!(requests.add(P0, wanted(900, 1000), asker(0), now));
        assert_eq!(requests.oldest_of(P0), Some(wanted(900, 1000)));
    }

    #[test]
    fn requests_are_bounded() {
        let (mut requests, now) = asked(&[]);
        for block in 0..PLACES_MAX as i64 {
            assert!(requests.add(P0, wanted(block * BLOCK_OFFSETS, i64::MAX), asker(0), now));
        }
        let beyond = PLACES_MAX as i64 * BLOCK_OFFSETS;
        assert!(!requests.add(P0, wanted(beyond, i64::MAX), asker(1), now));
        assert!(requests.add(P0, wanted(1, i64::MAX), asker(1), now), "a place that is asked for already");
        requests.answer(P0, &(0..BLOCK_OFFSETS));
        assert!(requests.add(P0, wanted(beyond, i64::MAX), asker(1), now));
    }
}

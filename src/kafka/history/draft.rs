//! A chunk under construction: which records it contains, where it ends, and how it reports a log that does not contain
//! the requested records. Pure.

use std::collections::VecDeque;
use std::ops::Range;

use crate::event::{Entry, Epoch, GapCause, GapRange, Topic};
use crate::hub::Page;

/// A chunk is complete with this many records,
const RECORDS_MAX: usize = 512;
/// or this many bytes of memory, whichever comes first. A record is never split.
const BYTES_MAX: usize = 384 * 1024;

/// A record that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) offset: i64,
    /// Its time in milliseconds since the Unix epoch.
    pub(super) ms: Option<i64>,
    pub(super) entry: Entry,
}

#[derive(Debug)]
pub(super) struct Draft {
    /// The offset that the chunk must contain. Earlier ones are optional.
    wanted: i64,
    /// The start of the chunk.
    start: i64,
    /// The end of what was read.
    next: i64,
    /// The limit of the chunk's end.
    stop: i64,
    gap: Option<(GapCause, Range<i64>)>,
    records: VecDeque<Read>,
    bytes: usize,
}

/// The result of adding a record.
#[derive(Debug)]
pub(super) enum Taken {
    /// The chunk is not complete.
    More,
    /// The chunk is complete.
    Full,
    /// The chunk is complete without this record, which is after it.
    Behind(Read),
}

/// The next step for a chunk, given the range of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Reading continues at [`Draft::next`].
    Read,
    /// The chunk is complete.
    Done,
}

impl Draft {
    /// A chunk that contains `wanted`, begins at `start` (at most `wanted`) if possible, and ends before `stop`
    /// (greater than `wanted`).
    pub(super) fn new(wanted: i64, start: i64, stop: i64) -> Self {
        Self { wanted, start, next: start, stop, gap: None, records: VecDeque::new(), bytes: 0 }
    }

    /// The next offset to read.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// The limit of the chunk's end.
    pub(super) fn stop(&self) -> i64 {
        self.stop
    }

    /// Whether the chunk reports that the log ends before the requested offset. The log may have grown by the next
    /// request.
    pub(super) fn is_truncated(&self) -> bool {
        matches!(self.gap, Some((GapCause::Truncated, _)))
    }

    /// Compares the chunk with the log of offsets `low..high` before it is read.
    pub(super) fn fit(&mut self, low: i64, high: i64) -> Fit {
        if self.next < low {
            if self.next > self.wanted {
                // A later loss begins the next chunk.
                return Fit::Done;
            }
            self.begin_again(low.min(self.stop));
        }
        if self.next < self.stop && high < self.stop {
            if high > self.wanted {
                self.stop = high.max(self.next);
            } else if self.next <= self.wanted {
                self.begin_again(self.wanted);
                self.gap = Some((GapCause::Truncated, high..self.stop));
                self.next = self.stop;
            } else {
                self.stop = self.next;
            }
        }
        if self.next < self.stop { Fit::Read } else { Fit::Done }
    }

    /// Restarts at `low`: earlier records are not needed or deleted.
    fn begin_again(&mut self, low: i64) {
        self.records.clear();
        (self.bytes, self.gap) = (0, None);
        if low > self.wanted {
            self.gap = Some((GapCause::Retention, self.wanted..low));
        }
        (self.start, self.next) = (low.min(self.wanted), low);
    }

    pub(super) fn take(&mut self, read: Read) -> Taken {
        if read.offset < self.next {
            return Taken::More;
        }
        if read.offset >= self.stop {
            self.reach_stop();
            return Taken::Behind(read);
        }
        let is_before_or_at = self.next <= self.wanted;
        self.close_hole(read.entry.first_offset());
        self.next = read.offset + 1;
        self.bytes += read.entry.weight();
        self.records.push_back(read);
        if is_before_or_at {
            self.make_room();
        }
        let is_full = self.next >= self.stop || (self.is_large() && self.next > self.wanted);
        if is_full { Taken::Full } else { Taken::More }
    }

    /// The part of these unreadable offsets that a gap in this chunk reports; `None` if it is empty.
    pub(super) fn unreadable(&self, offsets: &Range<i64>) -> Option<Range<i64>> {
        let part = offsets.start.max(self.next)..offsets.end.min(self.stop);
        (!part.is_empty()).then_some(part)
    }

    /// There is no record between the last one and this offset.
    fn close_hole(&mut self, offset: i64) {
        // A gap of an undecodable record covers that record only.
        let _ = self.records.back_mut().is_none_or(|last| last.entry.go_on_at(offset));
    }

    /// There are no more records up to the chunk's limit.
    pub(super) fn reach_stop(&mut self) {
        self.next = self.stop;
    }

    fn is_large(&self) -> bool {
        self.bytes >= BYTES_MAX || self.records.len() >= RECORDS_MAX
    }

    /// Drops records before the requested offset while the chunk is too large with them.
    fn make_room(&mut self) {
        while self.is_large() {
            let Some(first) = self.records.front().filter(|first| first.offset < self.wanted) else { return };
            self.bytes -= first.entry.weight();
            self.start = first.offset + 1;
            self.records.pop_front();
        }
    }

    /// The chunk, as far as it was read.
    pub(super) fn finish(mut self, topic: &Topic, partition: i32, epoch: Epoch) -> Page {
        self.close_hole(self.next);
        let first_ms = self.records.front().and_then(|read| read.ms);
        let gap = self.gap.map(|(cause, offsets)| {
            let range = GapRange { topic: topic.clone(), partition, from: offsets.start, to: offsets.end - 1 };
            Entry::Gap { cause, range }
        });
        let entries = gap.into_iter().chain(self.records.into_iter().map(|read| read.entry)).collect();
        let (topic, offsets, bytes) = (topic.clone(), self.start..self.next, self.bytes);
        Page { topic, partition, epoch, offsets, entries, first_ms, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    const LOG: (i64, i64) = (0, 10_000);

    fn read(offset: i64) -> Read {
        Read { offset, ms: Some(10 * offset), entry: Entry::Event(event("a", 0, offset, &[])) }
    }

    /// An event with slightly more than these bytes twice: in its envelope, and as a key.
    fn large(offset: i64, bytes: usize) -> Read {
        let text = "x".repeat(bytes);
        Read { offset, ms: None, entry: Entry::Event(event("a", 0, offset, &[("k", &text)])) }
    }

    /// Adds these offsets; the chunk is complete with the last one.
    #[track_caller]
    fn take(draft: &mut Draft, offsets: impl IntoIterator<Item = i64>) -> Taken {
        let mut last = Taken::More;
        for offset in offsets {
            assert!(matches!(last, Taken::More), "complete before {offset}");
            last = draft.take(read(offset));
        }
        last
    }

    /// The offsets of the chunk and of its entries; for a gap, the first and last one with the cause.
    fn finish(draft: Draft) -> (Range<i64>, Vec<String>) {
        let page = draft.finish(&"a".into(), 0, 0);
        let text = |entry: &Entry| match entry {
            Entry::Event(event) => event.id.offset.to_string(),
            Entry::Gap { cause, range } => format!("{} {}-{}", cause.as_str(), range.from, range.to),
            Entry::Hole { .. } => panic!("a hole"),
        };
        (page.offsets, page.entries.iter().map(text).collect())
    }

    #[test]
    fn it_is_full_after_so_many_records() {
        let mut draft = Draft::new(100, 0, 10_000);
        assert!(matches!(take(&mut draft, 0..512), Taken::Full));
        let page = draft.finish(&"a".into(), 0, 7);
        assert_eq!((page.offsets, page.entries.len(), page.first_ms, page.epoch), (0..512, 512, Some(0), 7));
    }

    #[test]
    fn records_before_the_wanted_offset_are_dropped_for_it() {
        let mut draft = Draft::new(3, 0, 10_000);
        for offset in 0..3 {
            assert!(matches!(draft.take(large(offset, 200_000)), Taken::More));
        }
        assert!(matches!(draft.take(large(3, 300_000)), Taken::Full));
        assert_eq!(finish(draft), (3..4, vec!["3".into()]));
        let mut draft = Draft::new(1, 0, 10_000);
        assert!(matches!(draft.take(large(0, 66_000)), Taken::More));
        assert!(matches!(draft.take(large(1, 66_000)), Taken::More));
        assert!(matches!(draft.take(large(2, 66_000)), Taken::Full));
        assert_eq!(finish(draft), (0..3, vec!["0".into(), "1".into(), "2".into()]));
    }

    #[test]
    fn it_ends_at_its_limit_and_returns_the_next_record() {
        let mut draft = Draft::new(0, 0, 3);
        assert!(matches!(take(&mut draft, 0..3), Taken::Full));
        assert_eq!(finish(draft).0, 0..3);
        // A hole of a million offsets around the end.
        let mut draft = Draft::new(0, 0, 500_000);
        assert!(matches!(take(&mut draft, [0, 1_000_000]), Taken::Behind(Read { offset: 1_000_000, .. })));
        assert_eq!(finish(draft), (0..500_000, vec!["0".into()]));
    }

    #[test]
    fn a_hole_is_covered() {
        let mut draft = Draft::new(5, 0, 4_000_000);
        assert!(matches!(take(&mut draft, [3_000_000]), Taken::More));
        draft.reach_stop();
        let page = draft.finish(&"a".into(), 0, 0);
        let nexts = page.entries.iter().map(crate::hub::after).collect::<Vec<_>>();
        assert_eq!((page.offsets, nexts), (0..4_000_000, vec![4_000_000]), "who got the record goes on behind it");
    }

    #[test]
    fn the_position_after_an_event_is_before_the_gap_that_follows() {
        let mut draft = Draft::new(0, 0, 100);
        assert!(matches!(draft.take(read(2)), Taken::More));
        let range = GapRange { topic: "a".into(), partition: 0, from: 5, to: 9 };
        let entry = Entry::Gap { cause: GapCause::Unreadable, range };
        assert!(matches!(draft.take(Read { offset: 9, ms: None, entry }), Taken::More));
        let nexts: Vec<_> = draft.finish(&"a".into(), 0, 0).entries.iter().map(crate::hub::after).collect();
        assert_eq!(nexts, [5, 10]);
    }

    #[test]
    fn records_come_once() {
        let mut draft = Draft::new(5, 5, 10);
        take(&mut draft, [4, 5, 5, 6, 5]);
        assert_eq!(finish(draft), (5..7, vec!["5".into(), "6".into()]));
    }

    #[test]
    fn a_log_that_holds_it_all_is_read() {
        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!(draft.fit(LOG.0, LOG.1), Fit::Read);
        assert_eq!((draft.next(), draft.stop()), (128, 1000));
    }

    #[test]
    fn a_log_that_lost_its_start_begins_with_a_gap() {
        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!((draft.fit(129, 5000), draft.next()), (Fit::Read, 129));
        take(&mut draft, [129, 130]);
        assert_eq!(finish(draft), (129..131, vec!["129".into(), "130".into()]));

        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!((draft.fit(200, 5000), draft.next()), (Fit::Read, 200));
        take(&mut draft, [201]);
        assert_eq!(finish(draft), (130..202, vec!["retention 130-199".into(), "201".into()]));

        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!(draft.fit(2000, 5000), Fit::Done);
        assert_eq!(finish(draft), (130..1000, vec!["retention 130-999".into()]));
    }

    #[test]
    fn concurrent_retention_ends_or_restarts_the_page() {
        let mut draft = Draft::new(130, 128, 1000);
        take(&mut draft, 128..132);
        assert_eq!(draft.fit(500, 5000), Fit::Done);
        assert_eq!(finish(draft).0, 128..132);

        let mut draft = Draft::new(140, 128, 1000);
        take(&mut draft, 128..132);
        assert_eq!((draft.fit(135, 5000), draft.next()), (Fit::Read, 135));
        take(&mut draft, [140]);
        assert_eq!(finish(draft), (135..141, vec!["140".into()]));
    }

    #[test]
    fn a_log_that_ends_before_causes_a_gap() {
        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!((draft.fit(0, 57), draft.is_truncated()), (Fit::Done, true));
        assert_eq!(finish(draft), (130..1000, vec!["truncated 57-999".into()]), "from where it ends");

        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!((draft.fit(0, 130), draft.is_truncated()), (Fit::Done, true));
        assert_eq!(finish(draft), (130..1000, vec!["truncated 130-999".into()]));

        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!((draft.fit(0, 500), draft.stop(), draft.is_truncated()), (Fit::Read, 500, false));

        // All records are deleted, and there were fewer.
        let mut draft = Draft::new(130, 128, 1000);
        assert_eq!(draft.fit(500, 500), Fit::Done);
        assert_eq!(finish(draft), (130..500, vec!["retention 130-499".into()]));
    }

    #[test]
    fn a_log_that_is_truncated_while_it_is_read_ends_the_page() {
        let mut draft = Draft::new(130, 128, 1000);
        take(&mut draft, 128..140);
        assert_eq!(draft.fit(0, 135), Fit::Done);
        assert_eq!(finish(draft).0, 128..140);
        let mut draft = Draft::new(130, 128, 1000);
        take(&mut draft, 128..140);
        assert_eq!(draft.fit(0, 120), Fit::Done);
        assert_eq!(finish(draft).0, 128..140);
    }
}

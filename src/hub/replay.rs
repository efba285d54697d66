//! Replay from a client's positions to the present: through chunks of the log for positions before the window, and then
//! through the window.
//!
//! The transition from the log to the window is exact, because both go by position: the window skips what the log has
//! delivered. While the window advances faster than the client reads, the replay continues in the log.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cursor::{Cursor, Positions};
use crate::encoding::OtherPositions;
use crate::event::{Entry, EventId, Gap, GapRange, UNKNOWN_POSITION, is_offset};
use crate::route::Stream;

use super::by_time::ByTime;
use super::entry::{after, place};
use super::log::{Page, Place};
use super::resume::{Losses, range};
use super::standing::{Lane, Standing};
use super::window::{Hub, Seq, is_other};

/// The replay of one subscription.
#[derive(Debug)]
pub struct Replay {
    pub(super) next: Seq,
    /// Where the client stands.
    pub(super) positions: Standing,
    /// The position of a client that has read the window in hub order only: the one that shared encodings contain.
    order: Positions,
    /// Truncations from this position in hub order on have not been processed.
    cuts_from: Seq,
    /// The times of the last chunks: the oldest partition is read next, so that partitions stay in step.
    times: FxHashMap<Lane, i64>,
    /// Partitions that were skipped in the window because their position is before it.
    skipped: FxHashSet<Lane>,
    /// Partitions that have not been read here up to the client's position since replay began.
    pub(super) unread: FxHashSet<Lane>,
    /// The ends of logs that are before the client's position, and not read up to there.
    pub(super) ends: FxHashMap<Lane, i64>,
    /// The position after the last event that the client received, in its partition.
    pub(super) last: Option<(Lane, i64)>,
    /// Partitions whose positions a time determines, and are not known yet.
    pub(super) by_time: Option<Box<ByTime>>,
}

/// The part of an entry in `from..until`.
pub fn cut(entry: &Entry, from: i64, until: i64) -> Option<Cow<'_, Entry>> {
    match entry {
        Entry::Event(event) => (from..until).contains(&event.id.offset).then_some(Cow::Borrowed(entry)),
        Entry::Gap { cause, range } => {
            let part = GapRange { from: range.from.max(from), to: range.to.min(until - 1), ..range.clone() };
            (part.from <= part.to).then(|| Cow::Owned(Entry::Gap { cause: *cause, range: part }))
        }
        Entry::Hole { .. } => None,
    }
}

impl Replay {
    /// From the client's current position; `order` is the start of the window.
    pub(super) fn new(hub: &Hub, positions: Positions, order: Positions) -> Self {
        Self {
            next: 0,
            order,
            positions: Standing::new(positions),
            cuts_from: hub.next_seq(),
            times: FxHashMap::default(),
            skipped: FxHashSet::default(),
            unread: FxHashSet::default(),
            ends: FxHashMap::default(),
            last: None,
            by_time: None,
        }
    }

    /// The next entry of the window that the client has not received, without the part of a gap that it has; `None` if
    /// it has caught up. Skips partitions whose position is before the window. Once their log has been read up to the
    /// window, it passes the window again.
    pub fn step<'hub>(&mut self, hub: &'hub Hub, stream: &Stream) -> Option<Cow<'hub, Entry>> {
        self.return_to_skipped(hub, stream);
        loop {
            let (seq, entry) = hub.next_entry(stream, self.next)?;
            self.next = seq + 1;
            let (topic, partition, _) = place(entry);
            let topic_index = stream.topics.iter().position(|known| known == topic)?;
            self.order.pass(topic_index, partition, after(entry));
            let lane = (topic_index, partition as usize);
            if self.is_behind(hub, stream, lane) {
                self.skipped.insert(lane);
                continue;
            }
            if let Some(unseen) = cut(entry, self.positions.next(lane).unwrap_or(0), i64::MAX) {
                self.positions.pass(lane, after(entry));
                return Some(unseen);
            }
        }
    }

    /// Restarts in the window once the log of a skipped partition has been read up to it. Positions identify the
    /// entries that the client has received.
    fn return_to_skipped(&mut self, hub: &Hub, stream: &Stream) {
        if self.skipped.iter().any(|lane| !self.is_behind(hub, stream, *lane)) {
            self.skipped.clear();
            (self.next, self.order) = (0, hub.base(stream));
        }
    }

    fn is_behind(&self, hub: &Hub, stream: &Stream, lane: Lane) -> bool {
        let places = self.positions.next(lane).zip(hub.base_of(stream, lane));
        is_by_time(self.by_time.as_deref(), lane)
            || places.is_some_and(|(next, base)| next < base)
            || self.is_of_other(hub, stream, lane.0)
    }

    /// The next place to read in the log of each partition whose position is before the window, those with the oldest
    /// chunks first; empty if the window contains the rest.
    pub fn places(&self, hub: &Hub, stream: &Stream) -> Vec<Place> {
        let time = |lane: &Lane| self.times.get(lane).copied();
        let mut behind: Vec<_> = self.behind(hub, stream).map(|(lane, place)| (time(&lane), lane, place)).collect();
        behind.sort_unstable_by_key(|(time, lane, _)| (*time, *lane));
        behind.into_iter().map(|(_, _, place)| place).collect()
    }

    /// Whether the window lacks some of the entries that the client has not received.
    pub fn needs_log(&self, hub: &Hub, stream: &Stream) -> bool {
        self.behind(hub, stream).next().is_some()
    }

    /// The entries of a chunk that the client has not received, before the offset `until`: later ones may not have been
    /// read here yet. Gaps are cut to this range. Each entry must be [passed](Self::pass), and the chunk
    /// [ended](Self::end_page).
    pub fn unseen<'page>(
        &self,
        stream: &Stream,
        page: &'page Page,
        until: i64,
    ) -> impl Iterator<Item = Cow<'page, Entry>> + use<'page> {
        let next = self.lane(stream, page).and_then(|lane| self.positions.next(lane)).unwrap_or(until);
        let entries = &page.entries[page.entries.partition_point(|entry| place(entry).2 < next)..];
        entries.iter().map_while(move |entry| cut(entry, next, until))
    }

    /// The offset up to which a chunk is needed. `None` if it does not contain the next offset of its partition, if
    /// that is in the window, or if the chunk belongs to another topic of that name.
    pub fn wanted_of(&self, hub: &Hub, stream: &Stream, page: &Page) -> Option<i64> {
        let lane = self.lane(stream, page)?;
        let (next, base) = (self.positions.next(lane)?, hub.topic(&page.topic)?.base.get(lane.1).copied()?);
        let is_same = !is_other(self.positions.0[lane.0].epoch, page.epoch);
        (is_same && (0..base).contains(&next) && page.offsets.contains(&next)).then_some(base)
    }

    pub fn pass(&mut self, stream: &Stream, entry: &Entry) {
        if let Some(lane) = entry_lane(stream, entry) {
            self.positions.pass(lane, after(entry));
        }
    }

    /// The client's positions after an entry, and those in all partitions except the entry's, which other clients may
    /// share.
    pub fn split_at(&mut self, stream: &Stream, entry: &Entry) -> Option<(&Positions, &mut Arc<OtherPositions>)> {
        Some(self.positions.split(entry_lane(stream, entry)?))
    }

    /// Records that everything in a chunk before `until` was passed, including offsets without records.
    pub fn end_page(&mut self, stream: &Stream, page: &Page, until: i64) {
        let Some(lane) = self.lane(stream, page) else { return };
        if let Some(next) = self.positions.next(lane) {
            self.positions.pass(lane, next.max(page.offsets.end.min(until)));
        }
        if let Some(time) = page.first_ms {
            self.times.insert(lane, time);
        }
    }

    /// Skips the entries before the window, except in these partitions. Returns the skipped ranges.
    pub fn leave_out(&mut self, hub: &Hub, stream: &Stream, but: &[Place]) -> Vec<GapRange> {
        let is_kept =
            |place: &Place| but.iter().any(|kept| (&kept.topic, kept.partition) == (&place.topic, place.partition));
        let behind: Vec<_> = self.behind(hub, stream).filter(|(_, place)| !is_kept(place)).collect();
        let mut left_out = Vec::new();
        for ((topic, n), place) in behind {
            left_out.push(range(&place.topic, n, place.offset, place.until - 1));
            self.positions.change().0[topic].next[n] = place.until;
        }
        left_out
    }

    /// Skips the oldest entries before the window, so that at most `records` remain to be read of the log, with an
    /// equal share per partition. Returns the skipped ranges.
    pub fn keep_newest(&mut self, hub: &Hub, stream: &Stream, records: u64) -> Vec<GapRange> {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        let behind: Vec<_> = self.behind(hub, stream).collect();
        let distance = |place: &Place| place.until.saturating_sub(place.offset);
        if behind.iter().map(|(_, place)| distance(place)).fold(0, i64::saturating_add) <= records {
            return Vec::new();
        }
        let share = records / i64::try_from(behind.len()).unwrap_or(1).max(1);
        let mut left_out = Vec::new();
        for ((topic, n), place) in behind.into_iter().filter(|(_, place)| distance(place) > share) {
            let start = place.until - share;
            left_out.push(range(&place.topic, n, place.offset, start - 1));
            self.positions.change().0[topic].next[n] = start;
        }
        left_out
    }

    /// The losses with a deleted or truncated log. Added partitions join the replay.
    pub fn lost(&mut self, hub: &Hub, stream: &Stream) -> Vec<Gap> {
        let (mut losses, mut recreated) = (Losses::default(), Vec::new());
        self.end(hub, stream, &mut losses);
        for (n, (topic, order)) in stream.topics.iter().zip(&mut self.order.0).enumerate() {
            let Some((window, seen)) = hub.topic(topic).zip(self.positions.0.get(n)) else { continue };
            if is_other(window.epoch, seen.epoch) {
                if window.replaced(seen.epoch) {
                    *order = window.start();
                    recreated.push(n);
                }
                continue;
            }
            if window.epoch != 0 && window.epoch != seen.epoch {
                self.positions.change().0[n].epoch = window.epoch;
            }
            for cut in window.cuts_since(self.cuts_from) {
                if let Some(next) = self.positions.next((n, cut.partition)).filter(|next| *next > cut.end) {
                    if cut.is_loss {
                        losses.truncated(topic, cut.partition, cut.end, next);
                    }
                    self.positions.pass((n, cut.partition), cut.end);
                }
                if let Some(order) = order.next.get_mut(cut.partition) {
                    *order = (*order).min(cut.end);
                }
            }
            let start = window.start().next;
            if self.positions.0[n].next.len() < start.len() {
                self.positions.change().0[n].next.resize(start.len(), 0);
            }
            order.next.extend(start.iter().skip(order.next.len()).collect::<Vec<_>>());
            order.next.iter_mut().zip(&start).for_each(|(order, base)| *order = (*order).max(*base));
            for (partition, end) in window.next.iter().enumerate() {
                let lane = (n, partition);
                match self.positions.next(lane) {
                    Some(_) if *end == UNKNOWN_POSITION => {}
                    Some(next) if !is_offset(next) && !is_by_time(self.by_time.as_deref(), lane) => {
                        losses.unavailable.extend(window.late(partition).and_then(|late| late.unseen.clone()));
                        self.positions.pass(lane, window.from[partition]);
                    }
                    // Reading begins before the position, and will come to it unless the log ends before.
                    Some(next) if next > *end && self.unread.contains(&lane) => {}
                    Some(next) if next > *end => {
                        losses.truncated(topic, partition, window.base[partition], next);
                        self.positions.pass(lane, window.base[partition]);
                    }
                    Some(_) | None => drop(self.unread.remove(&lane)),
                }
            }
        }
        recreated.into_iter().for_each(|n| self.start_over(hub, stream, n, &mut losses));
        self.by_time.take_if(|by_time| by_time.lanes.is_empty());
        self.cuts_from = hub.next_seq();
        losses.into_gaps()
    }

    /// The entries that left the window before this replay reached them, if there is no log.
    pub fn fell_out(&mut self, hub: &Hub, stream: &Stream) -> Vec<Gap> {
        let overflow = self.leave_out(hub, stream, &[]);
        Losses { overflow, ..Losses::default() }.into_gaps()
    }

    /// The client's position.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The cursor of a client that has received everything up to here, `id` last.
    pub fn cursor(&self, stream: &Stream, id: &EventId) -> Cursor {
        self.positions.cursor(&stream.topics, id.clone())
    }

    /// Whether the client's position equals that of all recipients of its last entry in hub order, so that shared
    /// encodings fit. Windows of different lengths lose the positions at older entries of other topics.
    pub fn is_in_order(&self, hub: &Hub, stream: &Stream) -> bool {
        *self.positions == self.order && hub.is_order_known(stream, self.next.saturating_sub(1))
    }

    /// The client's cursor without an event: the last offset of some partition is the id.
    pub fn cursor_now(&self, stream: &Stream) -> Option<Cursor> {
        let mut firsts = stream.topics.iter().zip(self.positions.0.iter().map(|seen| seen.next.first()));
        let (topic, next) = firsts.find_map(|(topic, next)| Some((topic, next?)))?;
        Some(self.cursor(stream, &EventId { topic: topic.clone(), partition: 0, offset: (next - 1).max(-1) }))
    }

    /// The partitions whose position is before the window.
    fn behind<'a>(&'a self, hub: &'a Hub, stream: &'a Stream) -> impl Iterator<Item = (Lane, Place)> + 'a {
        let topics = stream.topics.iter().zip(&self.positions.0).enumerate();
        let windows = topics.filter_map(|(n, (topic, seen))| Some((n, topic, seen, hub.topic(topic)?)));
        windows.flat_map(|(topic_index, topic, seen, window)| {
            let lanes = seen.next.iter().zip(&window.base).enumerate();
            let is_other = is_other(window.epoch, seen.epoch);
            let lanes = lanes.filter(move |(_, (next, base))| !is_other && (0..**base).contains(*next));
            lanes.map(move |(n, (next, base))| {
                let (epoch, partition) = (window.epoch, n as i32);
                let place = Place { topic: topic.clone(), partition, epoch, offset: *next, until: *base };
                ((topic_index, n), place)
            })
        })
    }

    /// The topic and partition of a chunk, as positions count them.
    fn lane(&self, stream: &Stream, page: &Page) -> Option<Lane> {
        let topic = stream.topics.iter().position(|topic| *topic == page.topic)?;
        Some((topic, usize::try_from(page.partition).ok()?))
    }
}

/// The topic and partition of an entry, as positions count them.
fn entry_lane(stream: &Stream, entry: &Entry) -> Option<Lane> {
    let (topic, partition, _) = place(entry);
    let topic = stream.topics.iter().position(|known| known == topic)?;
    Some((topic, usize::try_from(partition).ok()?))
}

pub(super) fn is_by_time(by_time: Option<&ByTime>, lane: Lane) -> bool {
    by_time.is_some_and(|by_time| by_time.lanes.contains(&lane))
}

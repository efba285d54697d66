//! The replay window: the newest entries of every topic in the order of reading, and the position of every partition at
//! both of its ends.

mod cut;
mod late;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{
    Assigned, Entry, Epoch, Event, EventId, GapCause, GapRange, Topic, TopicChange, UNKNOWN_POSITION, WindowLimits,
};
use crate::route::Stream;

use self::cut::Cut;
use self::late::Late;
use super::entry::{after, event_of, last_id, place};
use super::standing::Lane;

/// The position of an entry in hub order: a counter across all topics.
pub type Seq = u64;

/// The most remembered predecessors of a topic. The position of a client of an older one is examined like one of an
/// unknown topic.
const FORMER_MAX: usize = 16;

/// All windows of one writer.
#[derive(Debug, Default)]
pub struct Hub {
    topics: FxHashMap<Topic, TopicWindow>,
    limits: FxHashMap<Topic, WindowLimits>,
    /// Topics whose source has finished its warm-up, whether they exist or not.
    settled: FxHashSet<Topic>,
    next_seq: Seq,
    /// The limit of all windows together under memory pressure, in bytes.
    bytes_max: Option<usize>,
}

/// The window of one topic.
#[derive(Debug)]
pub(super) struct TopicWindow {
    /// In hub order. The offsets of each partition ascend within `base..next`. At most `limits.events`.
    pub(super) entries: VecDeque<(Seq, Entry)>,
    /// The weight of `entries`: at most `limits.bytes`.
    bytes: usize,
    limits: WindowLimits,
    /// The epoch of the topic that the entries belong to.
    pub(super) epoch: Epoch,
    /// The epochs of its deleted predecessors, the newest first. At most [`FORMER_MAX`].
    former: VecDeque<Epoch>,
    /// Per partition: the next offset before the window's first entry, and the one after its last entry, or
    /// [`UNKNOWN_POSITION`] while the partition is not read.
    pub(super) base: Vec<i64>,
    pub(super) next: Vec<i64>,
    /// Per partition: the first offset that was read, or [`UNKNOWN_POSITION`].
    pub(super) from: Vec<i64>,
    /// When the topic's first positions were known, in milliseconds since the Unix epoch.
    since_ms: i64,
    /// Per partition: the position when it went live, or [`UNKNOWN_POSITION`].
    live: Vec<i64>,
    /// The partitions that are read later than the others: at most one entry each.
    late: Vec<Late>,
    /// Entries before this one were read from the log at start instead of live. `None` during the warm-up.
    live_from: Option<Seq>,
    /// At entries of any topic before this one, the topic's position is unknown.
    order_from: Seq,
    /// Truncations of logs, the oldest first. At most [`cut::CUTS_MAX`].
    cuts: VecDeque<Cut>,
    /// The last entry in hub order that moved a position.
    moved: Option<Seq>,
}

impl Hub {
    pub fn new(limits: impl IntoIterator<Item = (Topic, WindowLimits)>) -> Self {
        Self { limits: limits.into_iter().collect(), ..Self::default() }
    }

    /// Records a topic's partitions. A partition whose position is unchanged keeps its window; the window is cleared if
    /// a known position changed or the topic was recreated. Returns the ranges that every client of a recreated topic
    /// loses: the rest of its old log.
    pub fn assign(&mut self, assigned: &Assigned) -> Vec<GapRange> {
        let Assigned { topic, epoch, next, at_ms, unseen } = assigned;
        let (epoch, next) = (*epoch, &**next);
        let limits = self.limits.get(topic).copied().unwrap_or(WindowLimits { events: 0, bytes: 0 });
        let window = self.topics.entry(topic.clone()).or_insert_with(|| TopicWindow::new(limits));
        if window.next.len() != next.len() || !next.starts_with(&window.next) {
            window.order_from = self.next_seq;
        }
        let is_recreated = is_other(window.epoch, epoch);
        let lost = if is_recreated { rest_of_log(topic, &window.next) } else { Vec::new() };
        if !is_recreated && window.is_continued_by(next) {
            window.add(next, *at_ms, unseen);
        } else {
            let mut former = std::mem::take(&mut window.former);
            if is_recreated {
                former.retain(|known| *known != epoch);
                former.truncate(FORMER_MAX - 1);
                former.push_front(window.epoch);
            }
            *window = TopicWindow {
                former,
                base: next.to_vec(),
                next: next.to_vec(),
                from: next.to_vec(),
                live: next.to_vec(),
                since_ms: *at_ms,
                live_from: window.live_from,
                order_from: self.next_seq,
                // These belong to a deleted log.
                cuts: if is_recreated { VecDeque::new() } else { std::mem::take(&mut window.cuts) },
                ..TopicWindow::new(limits)
            };
        }
        window.epoch = if epoch == 0 { window.epoch } else { epoch };
        lost
    }

    /// Applies a change of a topic's configuration. A window keeps its positions, whatever it forgets: clients resume
    /// from the log instead.
    pub fn change(&mut self, change: &TopicChange) {
        let Some(limits) = change.window else {
            self.topics.remove(&change.topic);
            self.limits.remove(&change.topic);
            self.settled.remove(&change.topic);
            return;
        };
        self.limits.insert(change.topic.clone(), limits);
        let Some(window) = self.topics.get_mut(&change.topic) else { return };
        window.limits = if change.is_reshaped { WindowLimits { events: 0, bytes: 0 } } else { limits };
        window.make_room();
        window.limits = limits;
        window.entries.shrink_to_fit();
    }

    /// Limits the bytes of all windows together, in addition to the limit of each; `None` removes the limit.
    pub fn limit(&mut self, bytes_max: Option<usize>) {
        self.bytes_max = bytes_max;
        self.make_room();
        self.topics.values_mut().for_each(|window| window.entries.shrink_to_fit());
    }

    /// Removes the oldest entries of any topic until all windows together are within the limit.
    fn make_room(&mut self) {
        let Some(bytes_max) = self.bytes_max else { return };
        let mut bytes = self.bytes();
        while bytes > bytes_max {
            let windows = self.topics.values_mut().filter(|window| !window.entries.is_empty());
            let Some(oldest) = windows.min_by_key(|window| window.entries.front().map(|(seq, _)| *seq)) else { return };
            bytes -= oldest.bytes;
            oldest.forget_oldest();
            bytes += oldest.bytes;
        }
    }

    /// The bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.topics.values().map(|window| window.bytes).sum()
    }

    /// Ends the warm-up of these topics: entries are live from now on.
    pub fn go_live(&mut self, topics: &[Topic]) {
        for topic in topics {
            self.settled.insert(topic.clone());
            if let Some(window) = self.topics.get_mut(topic).filter(|window| window.live_from.is_none()) {
                window.live_from = Some(self.next_seq);
                window.live.clone_from(&window.next);
            }
        }
    }

    /// Appends the next entry in hub order. Entries of unassigned topics or partitions are not kept.
    pub fn append(&mut self, entry: &Entry) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(window) = self.topics.get_mut(place(entry).0) {
            window.append(seq, entry.clone());
        }
        self.make_room();
        seq
    }

    /// Whether the newest part of the log has been read, so that clients can resume. A topic that does not exist (yet),
    /// or whose cluster did not respond in time, does not delay the others.
    pub fn is_ready(&self, stream: &Stream) -> bool {
        let is_read = |topic| self.topics.get(topic).map(|window: &TopicWindow| window.live_from.is_some());
        stream.topics.iter().any(|topic| self.topics.contains_key(topic))
            && stream.topics.iter().all(|topic| is_read(topic).unwrap_or_else(|| self.settled.contains(topic)))
    }

    /// The current positions of the stream. Topics that have not been read have no partitions.
    pub fn positions(&self, stream: &Stream) -> Positions {
        let position = |topic| self.topics.get(topic).map_or_else(TopicPosition::default, TopicWindow::position);
        Positions(stream.topics.iter().map(position).collect())
    }

    /// The cursor of a client that has just received the newest entry, `id`.
    pub fn cursor_at(&self, stream: &Stream, id: &EventId) -> Cursor {
        self.positions(stream).cursor(&stream.topics, id.clone())
    }

    /// The cursor of a client that has received everything so far; `None` before the stream's topics are read.
    pub fn cursor_now(&self, stream: &Stream) -> Option<Cursor> {
        if !self.is_ready(stream) {
            return None;
        }
        let newest =
            stream.topics.iter().filter_map(|t| self.topics.get(t)?.entries.back()).max_by_key(|(seq, _)| *seq);
        let id = match newest {
            Some((_, entry)) => last_id(entry),
            None => self.id_before(&stream.topics[0]),
        };
        Some(self.cursor_at(stream, &id))
    }

    /// Whether the stream's positions fit into its cursors.
    pub fn has_full_cursors(&self, stream: &Stream) -> bool {
        self.positions(stream).fit(&stream.topics)
    }

    /// The last position in hub order at which the stream advanced.
    pub fn newest_seq(&self, stream: &Stream) -> Option<Seq> {
        stream.topics.iter().filter_map(|topic| self.topics.get(topic)?.moved).max()
    }

    /// The first entry of the stream at or after `from` in hub order.
    pub fn next_entry(&self, stream: &Stream, from: Seq) -> Option<(Seq, &Entry)> {
        let firsts = stream.topics.iter().filter_map(|topic| {
            let entries = &self.topics.get(topic)?.entries;
            entries.get(entries.partition_point(|(seq, _)| *seq < from)).map(|(seq, entry)| (*seq, entry))
        });
        firsts.min_by_key(|(seq, _)| *seq)
    }

    /// The events of the stream in the window, the newest first.
    pub fn newest_first<'a>(&'a self, stream: &Stream) -> impl Iterator<Item = &'a Arc<Event>> {
        let topics = stream.topics.iter().filter_map(|topic| self.topics.get(topic));
        let mut topics: Vec<_> = topics
            .map(|topic| {
                let entries = topic.entries.iter().rev();
                let mut events = entries.filter_map(|(seq, entry)| Some((*seq, event_of(entry)?)));
                (events.next(), events)
            })
            .collect();
        std::iter::from_fn(move || {
            let (next, others) = topics.iter_mut().max_by_key(|(next, _)| next.map(|(seq, _)| seq))?;
            std::mem::replace(next, others.next()).map(|(_, event)| event)
        })
    }

    /// Whether the windows determine the position of every topic at this entry: only earlier entries have been removed
    /// from each.
    pub(super) fn is_order_known(&self, stream: &Stream, seq: Seq) -> bool {
        stream.topics.iter().filter_map(|topic| self.topics.get(topic)).all(|window| window.order_from <= seq)
    }

    /// Whether clients that have received everything need the gap that was appended at this place.
    pub fn is_loss(&self, topic: &Topic, seq: Seq) -> bool {
        let window = self.topics.get(topic);
        window.and_then(|window| window.cuts_since(seq).next()).is_none_or(|cut| cut.is_loss)
    }

    /// The sequence number of the next entry.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    pub(super) fn topic(&self, topic: &Topic) -> Option<&TopicWindow> {
        self.topics.get(topic)
    }

    /// The epoch of a topic that is read; 0 if unknown.
    pub fn epoch(&self, topic: &Topic) -> Epoch {
        self.topic(topic).map_or(0, |window| window.epoch)
    }

    /// The position of a partition before the window's first entry.
    pub(super) fn base_of(&self, stream: &Stream, (topic, n): Lane) -> Option<i64> {
        self.topic(stream.topics.get(topic)?)?.base.get(n).copied()
    }

    /// The first offset that was read of a partition.
    pub(super) fn first_of(&self, stream: &Stream, (topic, n): Lane) -> Option<i64> {
        self.topic(stream.topics.get(topic)?)?.from.get(n).copied()
    }

    /// The position of a partition after the window's last entry.
    pub(super) fn next_of(&self, stream: &Stream, (topic, n): Lane) -> Option<i64> {
        self.topic(stream.topics.get(topic)?)?.next.get(n).copied()
    }

    /// An id for the position before a topic's first record.
    pub fn id_before(&self, topic: &Topic) -> EventId {
        let offset = self.topics.get(topic).and_then(|w| w.next.first()).map_or(-1, |next| (next - 1).max(-1));
        EventId { topic: topic.clone(), partition: 0, offset }
    }
}

impl TopicWindow {
    fn new(limits: WindowLimits) -> Self {
        let (base, next, from, live, late) = Default::default();
        let (entries, former, cuts) = Default::default();
        Self {
            entries,
            former,
            bytes: 0,
            limits,
            epoch: 0,
            base,
            next,
            from,
            live,
            since_ms: 0,
            late,
            live_from: None,
            order_from: 0,
            cuts,
            moved: None,
        }
    }

    /// Whether the topic replaced one with this epoch.
    pub(super) fn replaced(&self, epoch: Epoch) -> bool {
        self.former.contains(&epoch)
    }

    /// Whether these positions are those of this window, with partitions that are added or become known.
    fn is_continued_by(&self, next: &[i64]) -> bool {
        let is_same = |(known, next): (&i64, &i64)| known == next || *known == UNKNOWN_POSITION;
        next.len() >= self.next.len() && self.next.iter().zip(next).all(is_same)
    }

    /// The event with this id, if it is in the window.
    pub(super) fn find(&self, id: &EventId) -> Option<(Seq, &Event)> {
        let mut events = self.entries.iter().rev().filter_map(|(seq, entry)| Some((*seq, &**event_of(entry)?)));
        events.find(|(_, event)| event.id == *id)
    }

    pub(super) fn is_live(&self, seq: Seq) -> bool {
        self.live_from.is_some_and(|live_from| seq >= live_from)
    }

    fn append(&mut self, seq: Seq, entry: Entry) {
        let (_, partition, _) = place(&entry);
        let Some(next) = self.next.get_mut(partition as usize) else { return };
        self.moved = Some(seq);
        if let Entry::Hole { end, .. } = &entry {
            *next = (*next).max(*end);
            return;
        }
        if let Entry::Gap { cause: GapCause::Truncated, range } = &entry {
            let was = *next;
            let (n, end) = (partition as usize, range.from);
            return self.cut(Cut { seq, partition: n, end, was, is_loss: self.may_hold_events(n, end) });
        }
        if matches!(entry, Entry::Gap { cause: GapCause::Overflow, .. }) {
            return self.skip(seq, partition, after(&entry));
        }
        *next = after(&entry);
        self.bytes += entry.weight();
        self.entries.push_back((seq, entry));
        self.make_room();
    }

    /// Removes the oldest entries until the limits are met.
    fn make_room(&mut self) {
        while self.entries.len() > self.limits.events || self.bytes > self.limits.bytes {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((seq, oldest)) = self.entries.pop_front() else { return };
        self.order_from = self.order_from.max(seq + 1);
        self.bytes -= oldest.weight();
        let (_, partition, last) = place(&oldest);
        // The window answers for offsets without records after it; the log may no longer contain them.
        self.base[partition as usize] = last + 1;
    }
}

/// Whether two epochs identify two topics of one name; unknown epochs do not.
pub(super) fn is_other(one: Epoch, other: Epoch) -> bool {
    one != 0 && other != 0 && one != other
}

/// What a client at `next` misses of a deleted log.
pub(super) fn rest_of_log(topic: &Topic, next: &[i64]) -> Vec<GapRange> {
    let range = |(partition, from): (i32, &i64)| GapRange {
        topic: topic.clone(),
        partition,
        from: (*from).max(0),
        to: GapRange::OPEN,
    };
    (0..).zip(next).map(range).collect()
}

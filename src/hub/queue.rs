//! What waits to be written to one client: bounded in events and bytes, and told where something was dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Event, FrameKey, GapCause, GapRange};
use crate::route::{Overflow, QueueLimits};

/// Bytes of answers, heartbeats and other control data that may wait; beyond, the client is a slow consumer.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;
/// What keeping one piece of control data costs beside its bytes: thousands of two-byte pongs are not small.
const CONTROL_ITEM_BYTES: usize = 128;

/// Room that an empty queue keeps, in items, some 16 bytes each: the next event needs none of the allocator.
const ITEMS_KEPT: usize = 4;

/// The queue of one session. Empty, it owns next to no memory.
#[derive(Debug, Default)]
pub struct Queue {
    items: VecDeque<Item>,
    events: usize,
    event_bytes: usize,
    control_bytes: usize,
    /// How much of the front item has been written.
    written: usize,
}

/// One thing to write.
#[derive(Debug)]
pub enum Item {
    /// An event; its bytes are kept with the event under this key.
    Event(Arc<Event>, FrameKey),
    /// A loss, encoded when its turn comes, so that later losses still join it.
    Gap(Box<Gap>),
    /// Anything that belongs to this session alone.
    Control(Box<Bytes>),
}

/// Events a client does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub cause: GapCause,
    /// At most one range a partition.
    pub ranges: Vec<GapRange>,
    /// How many of the client's events are missing, where that is known.
    pub missed: Option<u64>,
    /// Where the client stands after the loss.
    pub cursor: Option<Bytes>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Queued,
    /// Queued, or dropped, and this many events were dropped in all.
    Dropped(u64),
    /// The policy is to end the session.
    Full,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Events that wait.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Bytes of events that wait.
    pub fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Whether nothing but events waits, fewer than `events` and than `bytes`, and none of them is on its way.
    pub fn is_open_batch(&self, events: usize, bytes: usize) -> bool {
        let is_pure = self.written == 0 && self.events == self.items.len();
        is_pure && (1..events).contains(&self.events) && self.event_bytes < bytes
    }

    /// Appends an event whose encoding under `frame` is made; `cursor` is the client's position after it.
    ///
    /// One event alone may be larger than the limit in bytes: it would never get through otherwise.
    pub fn push_event(&mut self, event: Arc<Event>, frame: FrameKey, cursor: &Bytes, limits: &QueueLimits) -> Pushed {
        let bytes = frame_len(&event, frame);
        let mut dropped = 0;
        while self.is_over(bytes, limits) {
            match limits.overflow {
                Overflow::Disconnect => return Pushed::Full,
                Overflow::DropOldest if self.drop_oldest() => dropped += 1,
                Overflow::DropOldest | Overflow::DropNewest => {
                    self.push_gap(Gap::of_event(&event, Some(cursor.clone())));
                    return Pushed::Dropped(dropped + 1);
                }
            }
        }
        self.events += 1;
        self.event_bytes += bytes;
        self.items.push_back(Item::Event(event, frame));
        if dropped == 0 { Pushed::Queued } else { Pushed::Dropped(dropped) }
    }

    /// Appends a loss, joining it to those that are last in the queue.
    pub fn push_gap(&mut self, gap: Gap) {
        self.put_gap(self.items.len(), gap);
    }

    /// Appends bytes of the session's own. False where too much of that waits already: nothing was appended.
    #[must_use]
    pub fn push_control(&mut self, bytes: Bytes) -> bool {
        if self.control_bytes + control_cost(&bytes) > CONTROL_BYTES_MAX {
            return false;
        }
        self.control_bytes += control_cost(&bytes);
        self.items.push_back(Item::Control(Box::new(bytes)));
        true
    }

    /// Drops everything that is not yet on its way; the front item is kept if part of it was written. Gives the
    /// number of events dropped.
    pub fn clear_unsent(&mut self) -> usize {
        let keep = usize::from(self.written > 0);
        let mut dropped = 0;
        while self.items.len() > keep {
            let Some(item) = self.items.pop_back() else { break };
            dropped += usize::from(matches!(item, Item::Event(..)));
            self.forget(&item);
        }
        dropped
    }

    /// Encodes the losses among the first `items` items: their turn has come.
    pub fn settle_gaps(&mut self, items: usize, mut encode: impl FnMut(&Gap) -> Bytes) {
        for item in self.items.iter_mut().take(items) {
            if let Item::Gap(gap) = item {
                let bytes = encode(gap);
                self.control_bytes += control_cost(&bytes);
                *item = Item::Control(Box::new(bytes));
            }
        }
    }

    /// What is to be written next, in order; losses that are not settled yet end it.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = self.items.iter().map_while(Item::bytes);
        chunks.enumerate().map(|(n, bytes)| if n == 0 { &bytes[self.written..] } else { bytes })
    }

    /// Takes note that `bytes` more were written, and calls `sent` with each event that is complete now.
    pub fn advance(&mut self, mut bytes: usize, mut sent: impl FnMut(&Event)) {
        while let Some(left) = self.items.front().and_then(Item::bytes).map(|front| front.len() - self.written) {
            if left > bytes {
                self.written += bytes;
                return;
            }
            bytes -= left;
            self.written = 0;
            let Some(item) = self.items.pop_front() else { return };
            self.forget(&item);
            if let Item::Event(event, _) = &item {
                sent(event);
            }
        }
        if self.items.is_empty() && self.items.capacity() > ITEMS_KEPT {
            self.items = VecDeque::new();
        }
    }

    fn is_over(&self, bytes: usize, limits: &QueueLimits) -> bool {
        self.events > 0 && (self.events >= limits.events || self.event_bytes + bytes > limits.bytes)
    }

    /// Turns the oldest event that is not on its way into a loss told in its place. False where there is none.
    fn drop_oldest(&mut self) -> bool {
        let first = usize::from(self.written > 0);
        let Some(at) = (first..self.items.len()).find(|at| matches!(self.items[*at], Item::Event(..))) else {
            return false;
        };
        let Some(item) = self.items.remove(at) else { return false };
        self.forget(&item);
        let Item::Event(event, frame) = item else { return false };
        let gap = Gap::of_event(&event, event.frames.get(frame.its_cursor()).cloned());
        let mut end = self.put_gap(at, gap);
        // The losses before and after the event are neighbours now.
        while matches!(self.items.get(end), Some(Item::Gap(_))) {
            let Some(Item::Gap(next)) = self.items.remove(end) else { break };
            end = self.put_gap(end, *next);
        }
        true
    }

    /// Puts a loss behind the losses that end before `at`, joined to the one of its cause: a run of losses holds each
    /// cause once, or a client that reads nothing would collect them without end. Gives where the run ends then.
    ///
    /// The last of a run says where the client stands after it. Those before keep their own, earlier position: a
    /// client that is cut off between them must still be told of the rest.
    fn put_gap(&mut self, at: usize, mut gap: Gap) -> usize {
        let run = self.items.range(..at).rev().take_while(|item| matches!(item, Item::Gap(_))).count();
        let is_kin = |item: &Item| matches!(item, Item::Gap(known) if known.cause == gap.cause);
        let Some(kin) = (at - run..at).find(|n| is_kin(&self.items[*n])) else {
            self.items.insert(at, Item::Gap(Box::new(gap)));
            return at + 1;
        };
        if let (Some(cursor), Some(Item::Gap(last))) = (gap.cursor.take(), self.items.get_mut(at - 1)) {
            last.cursor = Some(cursor);
        }
        if let Some(Item::Gap(known)) = self.items.get_mut(kin) {
            known.join(gap);
        }
        at
    }

    fn forget(&mut self, item: &Item) {
        match item {
            Item::Event(event, frame) => {
                self.events -= 1;
                self.event_bytes -= frame_len(event, *frame);
            }
            Item::Control(bytes) => self.control_bytes -= control_cost(bytes),
            Item::Gap(_) => {}
        }
    }
}

impl Item {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Event(event, frame) => event.frames.get(*frame).map(|bytes| &bytes[..]),
            Self::Control(bytes) => Some(bytes),
            Self::Gap(_) => None,
        }
    }
}

impl Gap {
    /// A loss at the source, which says nothing of whose events they were.
    pub fn at_source(cause: GapCause, range: GapRange, cursor: Bytes) -> Self {
        Self { cause, ranges: vec![range], missed: None, cursor: Some(cursor) }
    }

    fn of_event(event: &Event, cursor: Option<Bytes>) -> Self {
        let offset = event.id.offset;
        let range = GapRange { topic: event.id.topic.clone(), partition: event.id.partition, from: offset, to: offset };
        Self { cause: GapCause::Overflow, ranges: vec![range], missed: Some(1), cursor }
    }

    /// Takes a later loss of the same cause in; where the client stands then is not this gap's to say.
    fn join(&mut self, later: Self) {
        for range in later.ranges {
            match self.ranges.iter_mut().find(|known| known.topic == range.topic && known.partition == range.partition)
            {
                Some(known) => known.to = known.to.max(range.to),
                None => self.ranges.push(range),
            }
        }
        self.missed = self.missed.zip(later.missed).map(|(a, b)| a + b);
    }
}

fn frame_len(event: &Event, frame: FrameKey) -> usize {
    event.frames.get(frame).map_or(0, Bytes::len)
}

fn control_cost(bytes: &Bytes) -> usize {
    bytes.len() + CONTROL_ITEM_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::event;

    fn frame() -> FrameKey {
        FrameKey::new(1, 0)
    }

    fn framed(offset: i64, len: usize) -> Arc<Event> {
        let event = event("t", 0, offset, &[]);
        event.frames.get_or_encode(frame().its_cursor(), || format!("t:0:{offset}").into());
        event.frames.get_or_encode(frame(), || vec![b'x'; len].into());
        event
    }

    fn push(queue: &mut Queue, offset: i64, len: usize, limits: &QueueLimits) -> Pushed {
        queue.push_event(framed(offset, len), frame(), &format!("t:0:{offset}").into(), limits)
    }

    /// Writes everything, at most `step` bytes at a time; what arrived, as offsets, and what was told as lost.
    fn write_all(queue: &mut Queue, step: usize) -> (Vec<i64>, u64) {
        let (mut sent, mut missed) = (Vec::new(), 0);
        while !queue.is_empty() {
            queue.settle_gaps(8, |gap| {
                missed += gap.missed.unwrap_or(0);
                "gap".into()
            });
            let ready = queue.chunks().map(<[u8]>::len).sum::<usize>().min(step);
            queue.advance(ready, |event| sent.push(event.id.offset));
        }
        (sent, missed)
    }

    #[test]
    fn what_is_dropped_is_told_where_it_is_missing() {
        let limits = |overflow| QueueLimits { events: 2, bytes: 999, overflow };
        let mut oldest = Queue::default();
        let mut newest = Queue::default();
        for offset in 0..5 {
            push(&mut oldest, offset, 1, &limits(Overflow::DropOldest));
            push(&mut newest, offset, 1, &limits(Overflow::DropNewest));
        }
        assert!(matches!(&oldest.items[0], Item::Gap(gap) if gap.missed == Some(3)
            && gap.ranges[0].from == 0 && gap.ranges[0].to == 2 && gap.cursor.as_deref() == Some(b"t:0:2")));
        assert!(matches!(&newest.items[2], Item::Gap(gap) if gap.missed == Some(3)
            && gap.ranges[0].from == 2 && gap.ranges[0].to == 4 && gap.cursor.as_deref() == Some(b"t:0:4")));
        assert_eq!(write_all(&mut oldest, 1), (vec![3, 4], 3));
        assert_eq!(write_all(&mut newest, 1), (vec![0, 1], 3));
    }

    #[test]
    fn an_event_larger_than_the_queue_passes_alone() {
        let limits = QueueLimits { events: 9, bytes: 10, overflow: Overflow::DropOldest };
        let mut queue = Queue::default();
        assert_eq!(push(&mut queue, 0, 100, &limits), Pushed::Queued);
        assert_eq!(push(&mut queue, 1, 5, &limits), Pushed::Dropped(1));
        assert_eq!(write_all(&mut queue, 7), (vec![1], 1));
    }

    #[test]
    fn disconnect_takes_nothing_more() {
        let limits = QueueLimits { events: 1, bytes: 10, overflow: Overflow::Disconnect };
        let mut queue = Queue::default();
        assert_eq!(push(&mut queue, 0, 1, &limits), Pushed::Queued);
        assert_eq!(push(&mut queue, 1, 1, &limits), Pushed::Full);
    }

    fn at_source(offset: i64) -> Gap {
        let range = GapRange { topic: "t".into(), partition: 0, from: offset, to: offset };
        Gap::at_source(GapCause::Undecodable, range, format!("t:0:{offset}").into())
    }

    #[test]
    fn losses_of_two_causes_do_not_pile_up() {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
            let limits = QueueLimits { events: 4, bytes: 999, overflow };
            let mut queue = Queue::default();
            for offset in 0..1000 {
                push(&mut queue, 2 * offset, 1, &limits);
                queue.push_gap(at_source(2 * offset + 1));
            }
            assert!(queue.items.len() <= 3 * (limits.events + 1), "{overflow:?}: {} items", queue.items.len());
            let gaps = queue.items.iter().filter_map(|item| match item {
                Item::Gap(gap) => Some(gap),
                _ => None,
            });
            let missed = gaps.clone().filter(|gap| gap.cause == GapCause::Overflow).filter_map(|gap| gap.missed);
            assert_eq!(missed.sum::<u64>(), 996);
            // Nobody is said to stand behind what the next record tells.
            let stands: Vec<i64> = gaps.map(|gap| stand(gap)).collect();
            assert!(stands.is_sorted(), "{overflow:?}: {stands:?}");
            assert_eq!(stands.last(), Some(&1999));
        }
    }

    /// The offset of a gap's cursor.
    fn stand(gap: &Gap) -> i64 {
        let cursor = std::str::from_utf8(gap.cursor.as_ref().unwrap()).unwrap();
        cursor.rsplit(':').next().unwrap().parse().unwrap()
    }

    #[test]
    fn many_small_answers_are_not_small() {
        let mut queue = Queue::default();
        let taken = (0..100_000).take_while(|_| queue.push_control(Bytes::from_static(b"ok"))).count();
        assert!((100..CONTROL_BYTES_MAX / 100).contains(&taken), "{taken}");
        queue.advance(2 * taken, |_| {});
        assert_eq!((queue.items.len(), queue.control_bytes), (0, 0));
    }

    #[test]
    fn an_empty_queue_gives_back_what_a_burst_took() {
        let limits = QueueLimits { events: 9, bytes: 10, overflow: Overflow::DropOldest };
        let mut queue = Queue::default();
        for offset in 0..9 {
            push(&mut queue, offset, 1, &limits);
        }
        write_all(&mut queue, 9);
        assert_eq!(queue.items.capacity(), 0);
        push(&mut queue, 9, 1, &limits);
        write_all(&mut queue, 9);
        assert_eq!((queue.items.capacity(), size_of::<Item>()), (ITEMS_KEPT, 16));
    }

    proptest! {
        /// However writes and events alternate: order is kept, limits hold, and every event arrives or is told.
        #[test]
        fn nothing_is_lost_silently(
            drop_oldest in any::<bool>(),
            steps in prop::collection::vec((1..6usize, 0..12usize), 1..80),
            events in 1..5usize,
        ) {
            let overflow = if drop_oldest { Overflow::DropOldest } else { Overflow::DropNewest };
            let limits = QueueLimits { events, bytes: 12, overflow };
            let mut queue = Queue::default();
            let (mut sent, mut missed) = (Vec::new(), 0);
            for (offset, (len, written)) in steps.iter().enumerate() {
                push(&mut queue, offset as i64, *len, &limits);
                prop_assert!(queue.events() <= events && (queue.event_bytes() <= 12 || queue.events() == 1));
                queue.settle_gaps(8, |gap| { missed += gap.missed.unwrap_or(0); "gap".into() });
                let ready = queue.chunks().map(<[u8]>::len).sum::<usize>().min(*written);
                queue.advance(ready, |event| sent.push(event.id.offset));
            }
            let (rest, told) = write_all(&mut queue, 3);
            sent.extend(rest);
            prop_assert!(sent.is_sorted());
            prop_assert_eq!(sent.len() as u64 + missed + told, steps.len() as u64);
        }
    }
}

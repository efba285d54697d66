//! The outgoing queue of one client: bounded in events and bytes, with a gap in place of dropped events.

mod coalesce;
mod item;

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Parts, TransferCoding};
use crate::event::{Encoding, Event, Gap};
use crate::route::{Overflow, QueueLimits};

pub use coalesce::COALESCED_EVENTS_MAX;
use coalesce::Mark;
use item::{Item, control_cost, rest, without};

/// The most bytes of queued control data (command responses, heartbeats). Beyond it, the client is a slow consumer.
pub const CONTROL_BYTES_MAX: u32 = 256 * 1024;

/// The capacity that an empty queue keeps, in items of some 24 bytes: the next event then needs no allocation.
const ITEMS_KEPT: usize = 4;

/// The queue of one session. An empty queue holds almost no memory.
#[derive(Debug, Default)]
pub struct Queue {
    /// In the order of writing. No two adjacent gaps have the same cause, and only the last gap of a run states the
    /// client's position after the run.
    items: VecDeque<Item>,
    /// The number of events in `items`: at most the limit of the route, except for replayed events.
    events: usize,
    /// The bytes of their encodings: at most the limit of the route, except for a single event and replayed events.
    event_bytes: usize,
    /// The bytes of control items with their overhead: at most [`CONTROL_BYTES_MAX`].
    control_bytes: u32,
    /// The bytes of the front item, with its transfer coding, that have been written. If this is not 0, the front item
    /// is never dropped.
    written: usize,
    /// How the connection delimits items.
    coding: TransferCoding,
    /// The first byte of each record, until the first one is written, which goes without; then absent. Which record is
    /// the first is known only when it is written, because queued ones may still be dropped.
    separator: Option<NonZeroU8>,
    /// Whether a byte was ever written: the first control item is the head of the response, without which nothing can
    /// follow.
    has_begun: bool,
    /// Coalesced mode: at most one event per state is queued; see `coalesce`.
    is_coalesced: bool,
}

/// The result of queueing an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Queued,
    /// The event was queued or dropped; the total number of dropped events.
    Dropped(u64),
    /// The policy is to end the session.
    Full,
}

impl Queue {
    /// An empty queue. `separator` begins each record, and is omitted from the first one that is written.
    pub fn new(coding: TransferCoding, separator: Option<NonZeroU8>) -> Self {
        Self { coding, separator, ..Self::default() }
    }

    pub fn coding(&self) -> TransferCoding {
        self.coding
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of queued events.
    pub fn events(&self) -> usize {
        self.events
    }

    /// The bytes of queued events.
    pub fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// The number of queued items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The bytes of each queued event.
    pub fn event_sizes(&self) -> impl Iterator<Item = usize> {
        self.items.iter().filter_map(|item| match item {
            Item::Event(_, encoding, ..) => Some(encoding.bytes.len()),
            Item::Gap(_) | Item::Control(_) | Item::Raw(_) => None,
        })
    }

    /// Whether the front item is an event that is partly written.
    pub fn has_begun_event(&self) -> bool {
        self.written > 0 && matches!(self.items.front(), Some(Item::Event(..)))
    }

    /// The number of items up to the first `events` events, without the gaps before the next event: later losses are
    /// merged into them.
    pub fn items_within(&self, events: usize) -> usize {
        let (mut passed, mut end) = (0, 0);
        for (n, item) in self.items.iter().enumerate() {
            match item {
                Item::Event(..) if passed == events => return end,
                Item::Event(..) => (passed, end) = (passed + 1, n + 1),
                Item::Control(_) | Item::Raw(_) => end = n + 1,
                Item::Gap(_) => {}
            }
        }
        self.items.len()
    }

    /// Whether an event of this many bytes fits without dropping another one.
    pub fn has_room_for(&self, bytes: usize, limits: &QueueLimits) -> bool {
        !self.is_over(bytes, limits)
    }

    /// Whether the queue contains only live events, fewer than `events` and than `bytes`, and none has been partly
    /// written.
    pub fn is_open_batch(&self, events: usize, bytes: usize) -> bool {
        // Replayed events precede all live ones.
        let is_live = matches!(self.items.front(), Some(Item::Event(.., true)));
        let is_pure = is_live && self.written == 0 && self.events == self.items.len();
        is_pure && (1..events).contains(&self.events) && self.event_bytes < bytes
    }

    /// Appends an event in this encoding.
    ///
    /// A single event may exceed the limit in bytes, since it could never be sent otherwise. If others are queued, it
    /// is dropped instead of them; under the policy `disconnect` the session ends, and the client resumes.
    pub fn push_event(&mut self, event: Arc<Event>, encoding: Arc<Encoding>, limits: &QueueLimits) -> Pushed {
        let bytes = encoding.bytes.len();
        if self.events > 0 && bytes > limits.bytes && limits.overflow != Overflow::Disconnect {
            self.push_gap(Gap::of_event(&event, &encoding));
            return Pushed::Dropped(1);
        }
        let mut dropped = match limits.overflow {
            Overflow::Coalesce => self.coalesce(&event, bytes, limits),
            Overflow::DropOldest | Overflow::DropNewest | Overflow::Disconnect => 0,
        };
        while self.is_over(bytes, limits) {
            match limits.overflow {
                Overflow::Disconnect => return Pushed::Full,
                Overflow::DropOldest | Overflow::Coalesce if self.drop_oldest() => dropped += 1,
                Overflow::DropOldest | Overflow::Coalesce | Overflow::DropNewest => {
                    self.push_gap(Gap::of_event(&event, &encoding));
                    return Pushed::Dropped(dropped + 1);
                }
            }
        }
        self.append(event, encoding, true);
        if dropped == 0 { Pushed::Queued } else { Pushed::Dropped(dropped) }
    }

    /// Appends a replayed event without limits: replay limits what it queues.
    pub fn push_replayed(&mut self, event: Arc<Event>, encoding: Arc<Encoding>) {
        self.append(event, encoding, false);
    }

    /// Appends a gap, merging it into the gaps at the end of the queue.
    pub fn push_gap(&mut self, gap: Gap) {
        self.put_gap(self.items.len(), gap);
    }

    /// Inserts control data after this many items. False if too much of it is queued already: nothing was inserted.
    #[must_use]
    pub fn push_control(&mut self, items: usize, bytes: Bytes) -> bool {
        self.push_own(items, Item::Control(Box::new(bytes)))
    }

    /// Inserts control data that is sent without the transfer coding; see [`Self::push_control`].
    #[must_use]
    pub fn push_raw(&mut self, items: usize, bytes: Bytes) -> bool {
        self.push_own(items, Item::Raw(Box::new(bytes)))
    }

    fn push_own(&mut self, items: usize, item: Item) -> bool {
        let cost = item.bytes().map_or(0, control_cost);
        if self.control_bytes.saturating_add(cost) > CONTROL_BYTES_MAX {
            return false;
        }
        self.control_bytes += cost;
        self.items.insert(items.max(self.on_its_way()).min(self.items.len()), item);
        true
    }

    /// Drops all items that have not been started; a partly written front item stays, and so does a head. Returns the
    /// number of dropped events.
    pub fn clear_unsent(&mut self) -> usize {
        let is_head = !self.has_begun && matches!(self.items.front(), Some(Item::Raw(_)));
        let keep = self.on_its_way().max(is_head.into());
        self.truncate(keep)
    }

    /// Drops all items after this many. Returns the number of dropped events.
    pub fn truncate(&mut self, keep: usize) -> usize {
        let mut dropped = 0;
        while self.items.len() > keep {
            let Some(item) = self.items.pop_back() else { break };
            dropped += usize::from(matches!(item, Item::Event(..)));
            self.forget(&item);
        }
        dropped
    }

    /// Encodes the gaps among the first `items` items, which are about to be written.
    pub fn settle_gaps(&mut self, items: usize, mut encode: impl FnMut(&Gap) -> Bytes) {
        for item in self.items.iter_mut().take(items) {
            if let Item::Gap(gap) = item {
                let bytes = encode(gap);
                self.control_bytes += control_cost(&bytes);
                *item = Item::Control(Box::new(bytes));
            }
        }
    }

    /// The number of items that are partly written and must stay.
    pub fn on_its_way(&self) -> usize {
        usize::from(self.written > 0)
    }

    /// Adds the first `items` items to a write, in order and with the transfer coding, up to the first gap that is not
    /// encoded, or until the write is full.
    pub fn write<'q>(&'q self, items: usize, parts: &mut Parts<'_, 'q>) {
        let (mut written, mut separator) = (self.written, self.separator);
        for item in self.items.iter().take(items) {
            let Some(bytes) = item.bytes() else { return };
            let bytes = without(&mut separator, bytes);
            let coding = item.coding(self.coding);
            parts.copy(rest(coding.before(bytes.len()).as_ref(), &mut written));
            parts.put(rest(bytes, &mut written));
            parts.copy(rest(coding.after(bytes.len()), &mut written));
            if parts.is_full() {
                return;
            }
        }
    }

    /// Records that `bytes` more were written. Calls `sent` for each event that is complete now, with whether it was
    /// live.
    pub fn advance(&mut self, mut bytes: usize, mut sent: impl FnMut(&Event, bool)) {
        self.has_begun |= bytes > 0;
        while let Some(front) = self.items.front()
            && let Some(part) = front.bytes()
        {
            let mut separator = self.separator;
            let part = without(&mut separator, part);
            let left = front.coding(self.coding).len(part.len()) - self.written;
            if left > bytes {
                self.written += bytes;
                return;
            }
            bytes -= left;
            self.written = 0;
            self.separator = separator;
            let Some(item) = self.items.pop_front() else { return };
            self.forget(&item);
            if let Item::Event(event, _, _, is_live) = &item {
                sent(event, *is_live);
            }
        }
        if self.items.is_empty() {
            self.is_coalesced = false;
            if self.items.capacity() > ITEMS_KEPT {
                self.items = VecDeque::new();
            }
        }
    }

    fn append(&mut self, event: Arc<Event>, encoding: Arc<Encoding>, is_live: bool) {
        self.events += 1;
        self.event_bytes += encoding.bytes.len();
        let mark = if self.is_coalesced { Mark::of(&event) } else { Mark::NONE };
        self.items.push_back(Item::Event(event, encoding, mark, is_live));
    }

    fn is_over(&self, bytes: usize, limits: &QueueLimits) -> bool {
        self.events > 0 && (self.events >= limits.events || self.event_bytes + bytes > limits.bytes)
    }

    /// Replaces the oldest unstarted event by a gap. False if there is none.
    fn drop_oldest(&mut self) -> bool {
        let first = self.on_its_way();
        let Some(at) = (first..self.items.len()).find(|at| matches!(self.items[*at], Item::Event(..))) else {
            return false;
        };
        self.lose(at);
        true
    }

    /// Replaces every unstarted event by a gap. Returns the number of events.
    pub fn lose_all(&mut self) -> u64 {
        let mut lost = 0;
        while self.drop_oldest() {
            lost += 1;
        }
        lost
    }

    /// Replaces the event at this index by a gap.
    fn lose(&mut self, at: usize) {
        let Some(item) = self.items.remove(at) else { return };
        self.forget(&item);
        let Item::Event(event, encoding, ..) = item else { return };
        let gap = Gap::of_event(&event, &encoding);
        let mut end = self.put_gap(at, gap);
        // The gaps before and after the event are adjacent now.
        while matches!(self.items.get(end), Some(Item::Gap(_))) {
            let Some(Item::Gap(next)) = self.items.remove(end) else { break };
            end = self.put_gap(end, *next);
        }
    }

    /// Inserts a gap after the gaps that end before `at`, and merges it into the one of the same cause. A run of
    /// adjacent gaps contains each cause once; otherwise the queue of a client that does not read would grow without
    /// bound. Returns the end of the run.
    ///
    /// The last gap of a run states the client's position after it. The preceding ones keep their earlier positions, so
    /// that a client that is disconnected in between still receives the rest.
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
            Item::Event(_, encoding, ..) => {
                self.events -= 1;
                self.event_bytes -= encoding.bytes.len();
            }
            Item::Control(bytes) | Item::Raw(bytes) => self.control_bytes -= control_cost(bytes),
            Item::Gap(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

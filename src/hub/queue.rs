//! What waits to be written to one client: bounded in events and bytes, and told where something was dropped.

mod coalesce;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Encoding, Event, GapCause, GapRange};
use crate::route::{Overflow, QueueLimits};

pub use coalesce::COALESCED_EVENTS_MAX;
use coalesce::Mark;

/// Bytes of answers, heartbeats and other control data that may wait; beyond, the client is a slow consumer.
pub const CONTROL_BYTES_MAX: u32 = 256 * 1024;
/// What keeping one piece of control data costs beside its bytes: thousands of two-byte pongs are not small.
const CONTROL_ITEM_BYTES: u32 = 128;

/// Room that an empty queue keeps, in items, some 24 bytes each: the next event needs none of the allocator.
const ITEMS_KEPT: usize = 4;

/// The queue of one session. Empty, it owns next to no memory.
#[derive(Debug, Default)]
pub struct Queue {
    items: VecDeque<Item>,
    events: usize,
    event_bytes: usize,
    control_bytes: u32,
    /// How much of the front item has been written.
    written: usize,
    /// Whether each waiting event is the only one of its state; see `coalesce`.
    is_coalesced: bool,
}

/// One thing to write.
#[derive(Debug)]
enum Item {
    /// An event, what is written of it, and whether it came live.
    Event(Arc<Event>, Arc<Encoding>, Mark, bool),
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

    /// Whether an event of so many bytes would be taken without dropping another.
    pub fn has_room_for(&self, bytes: usize, limits: &QueueLimits) -> bool {
        !self.is_over(bytes, limits)
    }

    /// Whether nothing but live events waits, fewer than `events` and than `bytes`, and none of them is on its way.
    pub fn is_open_batch(&self, events: usize, bytes: usize) -> bool {
        // What was replayed stands before all that is live.
        let is_live = matches!(self.items.front(), Some(Item::Event(.., true)));
        let is_pure = is_live && self.written == 0 && self.events == self.items.len();
        is_pure && (1..events).contains(&self.events) && self.event_bytes < bytes
    }

    /// Appends an event as this encoding.
    ///
    /// One event alone may be larger than the limit in bytes: it would never get through otherwise. Where others wait,
    /// it is dropped in their place; a session that loses nothing ends, and resumes.
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

    /// Appends an event of a replay, whatever waits already: how much that may be is up to who replays.
    pub fn push_replayed(&mut self, event: Arc<Event>, encoding: Arc<Encoding>) {
        self.append(event, encoding, false);
    }

    /// Appends a loss, joining it to those that are last in the queue.
    pub fn push_gap(&mut self, gap: Gap) {
        self.put_gap(self.items.len(), gap);
    }

    /// Appends bytes of the session's own. False where too much of that waits already: nothing was appended.
    #[must_use]
    pub fn push_control(&mut self, bytes: Bytes) -> bool {
        if self.control_bytes.saturating_add(control_cost(&bytes)) > CONTROL_BYTES_MAX {
            return false;
        }
        self.control_bytes += control_cost(&bytes);
        self.items.push_back(Item::Control(Box::new(bytes)));
        true
    }

    /// Drops everything that is not yet on its way; the front item is kept if part of it was written. Gives the
    /// number of events dropped.
    pub fn clear_unsent(&mut self) -> usize {
        let keep = self.on_its_way();
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

    /// Takes note that `bytes` more were written, and calls `sent` with each event that is complete now, and whether it
    /// came live rather than of a replay.
    pub fn advance(&mut self, mut bytes: usize, mut sent: impl FnMut(&Event, bool)) {
        while let Some(left) = self.items.front().and_then(Item::bytes).map(|front| front.len() - self.written) {
            if left > bytes {
                self.written += bytes;
                return;
            }
            bytes -= left;
            self.written = 0;
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

    /// Turns the oldest event that is not on its way into a loss told in its place. False where there is none.
    fn drop_oldest(&mut self) -> bool {
        let first = self.on_its_way();
        let Some(at) = (first..self.items.len()).find(|at| matches!(self.items[*at], Item::Event(..))) else {
            return false;
        };
        self.lose(at);
        true
    }

    /// Turns every event that is not on its way into a loss told in its place. Gives how many that were.
    pub fn lose_all(&mut self) -> u64 {
        let mut lost = 0;
        while self.drop_oldest() {
            lost += 1;
        }
        lost
    }

    /// Turns the event at this place into a loss told there.
    fn lose(&mut self, at: usize) {
        let Some(item) = self.items.remove(at) else { return };
        self.forget(&item);
        let Item::Event(event, encoding, ..) = item else { return };
        let gap = Gap::of_event(&event, &encoding);
        let mut end = self.put_gap(at, gap);
        // The losses before and after the event are neighbours now.
        while matches!(self.items.get(end), Some(Item::Gap(_))) {
            let Some(Item::Gap(next)) = self.items.remove(end) else { break };
            end = self.put_gap(end, *next);
        }
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
            Item::Event(_, encoding, ..) => {
                self.events -= 1;
                self.event_bytes -= encoding.bytes.len();
            }
            Item::Control(bytes) => self.control_bytes -= control_cost(bytes),
            Item::Gap(_) => {}
        }
    }
}

impl Item {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Event(_, encoding, ..) => Some(&encoding.bytes),
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

    fn of_event(event: &Event, encoding: &Encoding) -> Self {
        let ranges = vec![event.range()];
        Self { cause: GapCause::Overflow, ranges, missed: Some(1), cursor: Some(encoding.cursor.clone()) }
    }

    /// Takes a later loss of the same cause in; where the client stands then is not this gap's to say.
    fn join(&mut self, later: Self) {
        for range in later.ranges {
            match self.ranges.iter_mut().find(|known| known.topic == range.topic && known.partition == range.partition)
            {
                Some(known) => {
                    known.from = known.from.min(range.from);
                    known.to = known.to.max(range.to);
                }
                None => self.ranges.push(range),
            }
        }
        self.missed = self.missed.zip(later.missed).map(|(a, b)| a + b);
    }
}

fn control_cost(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(CONTROL_ITEM_BYTES)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

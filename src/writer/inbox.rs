//! What waits for the writers. Sources never wait for one writer: what a slow writer does not take in time becomes gaps
//! in its own inbox, so that its streams are told, and no other writer and no source depends on it.
//!
//! Sources do wait, for a bounded time, while all writers are behind: then Kafka's log is the better buffer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::event::{Entry, Feed, GapCause, GapRange, Topic};

/// How much may wait, in each of three measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) feeds: usize,
    pub(super) entries: usize,
    /// Of envelopes.
    pub(super) bytes: usize,
}

/// A writer is behind from here on: sources wait while all are.
pub(super) const AHEAD: Amount = Amount { feeds: 64, entries: 8192, bytes: 4 << 20 };
/// What may wait for one writer while others are not behind; beyond, what waits becomes gaps. Events are shared with the
/// replay windows, which mostly hold them anyway.
pub(super) const INBOX_MAX: Amount = Amount { feeds: 4096, entries: 65_536, bytes: 16 << 20 };
/// How long a source waits for any of the writers to take something. After that it waits no more until one did.
pub(super) const FEED_WAIT: Duration = Duration::from_secs(1);
/// Orders that may wait for one writer; more are not taken.
const ORDERS_MAX: usize = 256;

/// The inboxes of all writers, which sources fill in one order. `Order` is what else a writer is told.
#[derive(Debug)]
pub(super) struct Inboxes<Order> {
    inboxes: Vec<Mutex<Inbox<Order>>>,
    /// Held while a feed goes into all inboxes: several sources feed at once, and all writers see one order.
    feeding: Mutex<Feeding>,
    /// Held by a source while it looks whether to wait, and by a writer that made room.
    room: Mutex<()>,
    made_room: Condvar,
    ahead: Amount,
    most: Amount,
}

#[derive(Debug, Default)]
struct Feeding {
    /// Whether waiting for all writers was in vain, and none of them took anything since.
    gave_up: bool,
}

/// What waits for one writer.
#[derive(Debug)]
struct Inbox<Order> {
    feeds: VecDeque<Feed>,
    waiting: Amount,
    /// Sessions that asked for what may be there now.
    calls: FxHashSet<u32>,
    orders: VecDeque<Order>,
    is_closed: bool,
}

/// What is next for a writer.
#[derive(Debug)]
pub(super) enum Next<Order> {
    Order(Order),
    /// What these sessions asked of the log may be there.
    Calls(FxHashSet<u32>),
    Feed(Feed),
}

impl<Order> Inboxes<Order> {
    pub(super) fn new(writers: usize, ahead: Amount, most: Amount) -> Self {
        let inboxes = (0..writers).map(|_| Mutex::new(Inbox::default())).collect();
        let (feeding, room, made_room) = (Mutex::new(Feeding::default()), Mutex::new(()), Condvar::new());
        Self { inboxes, feeding, room, made_room, ahead, most }
    }

    /// Puts a feed into all inboxes, in the same order whichever source it comes from. Gives the number of events that
    /// became gaps, for each writer where there are any.
    pub(super) fn feed(&self, feed: &Feed) -> Vec<(usize, u64)> {
        let mut feeding = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        self.wait_for_room(&mut feeding);
        let pushed = (0..self.inboxes.len()).map(|writer| (writer, self.inbox(writer).push(feed, self.most)));
        pushed.filter(|(_, lost)| *lost > 0).collect()
    }

    /// Says that what these sessions of a writer asked of the log may be there.
    pub(super) fn call(&self, writer: usize, sessions: Vec<u32>) {
        if writer < self.inboxes.len() {
            let mut inbox = self.inbox(writer);
            if !inbox.is_closed {
                inbox.calls.extend(sessions);
            }
        }
    }

    /// False where the writer is gone, or too many orders wait for it.
    pub(super) fn order(&self, writer: usize, order: Order) -> bool {
        let mut inbox = self.inbox(writer);
        let is_taken = !inbox.is_closed && inbox.orders.len() < ORDERS_MAX;
        if is_taken {
            inbox.orders.push_back(order);
        }
        is_taken
    }

    /// What a writer is to do next. Orders do not wait for feeds.
    pub(super) fn next(&self, writer: usize) -> Option<Next<Order>> {
        let mut inbox = self.inbox(writer);
        if let Some(order) = inbox.orders.pop_front() {
            return Some(Next::Order(order));
        }
        if !inbox.calls.is_empty() {
            return Some(Next::Calls(std::mem::take(&mut inbox.calls)));
        }
        let was_behind = inbox.waiting.is_at(self.ahead);
        let feed = inbox.feeds.pop_front()?;
        inbox.waiting.less(&feed);
        let has_room = was_behind && !inbox.waiting.is_at(self.ahead);
        drop(inbox);
        if has_room {
            self.tell_room();
        }
        Some(Next::Feed(feed))
    }

    /// Nothing more is put into a writer's inbox, and nobody waits for it.
    pub(super) fn close(&self, writer: usize) {
        *self.inbox(writer) = Inbox { is_closed: true, ..Inbox::default() };
        self.tell_room();
    }

    fn wait_for_room(&self, feeding: &mut Feeding) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        while self.are_all_behind() {
            if feeding.gave_up {
                return;
            }
            let waited = self.made_room.wait_timeout(room, FEED_WAIT).unwrap_or_else(PoisonError::into_inner);
            feeding.gave_up = waited.1.timed_out();
            room = waited.0;
        }
        feeding.gave_up = false;
    }

    fn are_all_behind(&self) -> bool {
        let mut open = (0..self.inboxes.len()).map(|writer| self.inbox(writer)).filter(|inbox| !inbox.is_closed);
        let is_behind = |inbox: MutexGuard<'_, Inbox<Order>>| inbox.waiting.is_at(self.ahead);
        open.next().is_some_and(is_behind) && open.all(is_behind)
    }

    fn tell_room(&self) {
        drop(self.room.lock().unwrap_or_else(PoisonError::into_inner));
        self.made_room.notify_all();
    }

    fn inbox(&self, writer: usize) -> MutexGuard<'_, Inbox<Order>> {
        self.inboxes[writer].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Order> Default for Inbox<Order> {
    fn default() -> Self {
        let waiting = Amount { feeds: 0, entries: 0, bytes: 0 };
        let (feeds, calls, orders) = (VecDeque::new(), FxHashSet::default(), VecDeque::new());
        Self { feeds, waiting, calls, orders, is_closed: false }
    }
}

impl<Order> Inbox<Order> {
    /// Appends a feed. Where there is no room for it, what waits already becomes gaps; gives the number of events that
    /// were lost so. The feed itself is kept, whatever its size.
    fn push(&mut self, feed: &Feed, most: Amount) -> u64 {
        if self.is_closed {
            return 0;
        }
        let mut lost = 0;
        let mut after = self.waiting;
        after.more(feed);
        if after.is_at(most) && self.waiting.feeds > 0 {
            lost = self.skip();
        }
        self.waiting.more(feed);
        self.feeds.push_back(feed.clone());
        lost
    }

    /// Turns the events that wait into gaps. What else waits, and its order, stay.
    fn skip(&mut self) -> u64 {
        let mut skipped = Skipped::default();
        std::mem::take(&mut self.feeds).into_iter().for_each(|feed| skipped.take(feed));
        skipped.end_batch();
        self.feeds = skipped.feeds;
        self.waiting = Inbox::<Order>::default().waiting;
        for feed in &self.feeds {
            self.waiting.more(feed);
        }
        skipped.lost
    }
}

impl Amount {
    /// Whether one of the measures is reached.
    fn is_at(self, most: Self) -> bool {
        self.feeds >= most.feeds || self.entries >= most.entries || self.bytes >= most.bytes
    }

    fn more(&mut self, feed: &Feed) {
        self.feeds += 1;
        self.entries += feed.entries();
        self.bytes += bytes(feed);
    }

    fn less(&mut self, feed: &Feed) {
        self.feeds -= 1;
        self.entries -= feed.entries();
        self.bytes -= bytes(feed);
    }
}

fn bytes(feed: &Feed) -> usize {
    let of = |entry: &Entry| match entry {
        Entry::Event(event) => event.envelope.len(),
        Entry::Gap { .. } | Entry::Hole { .. } => 0,
    };
    match feed {
        Feed::Batch(entries) => entries.iter().map(of).sum(),
        Feed::Assigned { .. } | Feed::Live { .. } => 0,
    }
}

/// Feeds without their events.
#[derive(Default)]
struct Skipped {
    feeds: VecDeque<Feed>,
    batch: Vec<Entry>,
    /// Where in the batch the loss of a partition stands that what follows joins.
    joined: HashMap<(Topic, i32), usize>,
    lost: u64,
}

impl Skipped {
    fn take(&mut self, feed: Feed) {
        let Feed::Batch(entries) = feed else {
            self.end_batch();
            return self.feeds.push_back(feed);
        };
        for entry in entries.iter() {
            match entry {
                Entry::Event(event) => {
                    let (topic, partition) = (event.id.topic.clone(), event.id.partition);
                    self.lost += 1;
                    self.join(GapRange { topic, partition, from: event.id.offset, to: event.next - 1 });
                }
                // The log goes on before it: nothing after it belongs to a loss before it.
                Entry::Gap { cause: GapCause::Truncated, .. } => {
                    self.joined.clear();
                    self.batch.push(entry.clone());
                }
                Entry::Gap { range, .. } => self.join(range.clone()),
                Entry::Hole { topic, partition, end } => self.pass(topic, *partition, *end),
            }
        }
    }

    fn join(&mut self, range: GapRange) {
        match self.joined_to(&range.topic, range.partition) {
            Some(Entry::Gap { range: earlier, .. }) => earlier.to = range.to,
            _ => {
                self.joined.insert((range.topic.clone(), range.partition), self.batch.len());
                self.batch.push(Entry::Gap { cause: GapCause::Overflow, range });
            }
        }
    }

    /// Joins offsets without records to the gap or the hole before them, so that what waits stays bounded.
    fn pass(&mut self, topic: &Topic, partition: i32, end: i64) {
        match self.joined_to(topic, partition) {
            Some(Entry::Gap { range: earlier, .. }) => earlier.to = end - 1,
            Some(Entry::Hole { end: earlier, .. }) => *earlier = end,
            _ => {
                self.joined.insert((topic.clone(), partition), self.batch.len());
                self.batch.push(Entry::Hole { topic: topic.clone(), partition, end });
            }
        }
    }

    fn joined_to(&mut self, topic: &Topic, partition: i32) -> Option<&mut Entry> {
        let known = *self.joined.get(&(topic.clone(), partition))?;
        self.batch.get_mut(known)
    }

    fn end_batch(&mut self) {
        self.joined.clear();
        if !self.batch.is_empty() {
            self.feeds.push_back(Feed::Batch(Arc::from(std::mem::take(&mut self.batch))));
        }
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;

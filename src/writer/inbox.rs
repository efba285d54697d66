//! The inboxes of the writers. A source never waits for a single writer: entries that a slow writer does not take in
//! time become gaps in its inbox, which its streams receive. No other writer and no source depends on it.
//!
//! Sources do wait, for a bounded time, while all writers are behind: then Kafka's log is the better buffer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::event::{Entry, Feed, GapCause, GapRange, Topic};

/// An amount of queued data in three measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) feeds: usize,
    pub(super) entries: usize,
    /// Of memory: the weight of the entries.
    pub(super) bytes: usize,
}

/// A writer with this much is behind: sources wait while all are.
pub(super) const AHEAD: Amount = Amount { feeds: 64, entries: 8192, bytes: 4 << 20 };
/// The most data in the inbox of one writer while others are not behind; beyond it, queued entries become gaps. All
/// inboxes share their events, so that this is also the limit of all together (`config/budget.rs`).
pub(super) const INBOX_MAX: Amount = Amount { feeds: 4096, entries: 65_536, bytes: 16 << 20 };
/// How long a source waits for a writer to take something. Afterwards it does not wait again until one did.
pub(super) const FEED_WAIT: Duration = Duration::from_secs(1);
/// The most queued orders of one writer; further ones are rejected.
const ORDERS_MAX: usize = 256;

/// The inboxes of all writers, which sources fill in one order. `Order` is a control message.
#[derive(Debug)]
pub(super) struct Inboxes<Order> {
    inboxes: Vec<Mutex<Inbox<Order>>>,
    /// Held while a feed is added to all inboxes, so that all writers receive the feeds of several sources in one
    /// order.
    feeding: Mutex<Feeding>,
    /// Held by a source while it checks whether to wait, and by a writer that made room.
    room: Mutex<()>,
    made_room: Condvar,
    ahead: Amount,
    most: Amount,
}

#[derive(Debug, Default)]
struct Feeding {
    /// Whether the last wait for the writers timed out, and none has taken anything since.
    gave_up: bool,
}

/// The inbox of one writer.
#[derive(Debug)]
struct Inbox<Order> {
    /// In the order of all inboxes.
    feeds: VecDeque<Feed>,
    /// The amount of `feeds`: at most [`INBOX_MAX`], except for a single feed and for messages that are not events.
    waiting: Amount,
    /// Sessions whose requested data may be available.
    calls: FxHashSet<u32>,
    /// At most [`ORDERS_MAX`].
    orders: VecDeque<Order>,
    /// Set once the writer has ended: nothing more is queued.
    is_closed: bool,
}

/// The next message of a writer.
#[derive(Debug)]
pub(super) enum Next<Order> {
    Order(Order),
    /// Data that these sessions requested from the log may be available.
    Calls(FxHashSet<u32>),
    Feed(Feed),
}

impl<Order> Inboxes<Order> {
    pub(super) fn new(writers: usize, ahead: Amount, most: Amount) -> Self {
        let inboxes = (0..writers).map(|_| Mutex::new(Inbox::default())).collect();
        let (feeding, room, made_room) = (Mutex::new(Feeding::default()), Mutex::new(()), Condvar::new());
        Self { inboxes, feeding, room, made_room, ahead, most }
    }

    /// Adds a feed to all inboxes, in the same order for all writers. Returns the number of events that became gaps,
    /// for each affected writer.
    pub(super) fn feed(&self, feed: &Feed) -> Vec<(usize, u64)> {
        let mut feeding = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        self.wait_for_room(&mut feeding);
        let pushed = (0..self.inboxes.len()).map(|writer| (writer, self.inbox(writer).push(feed, self.most)));
        pushed.filter(|(_, lost)| *lost > 0).collect()
    }

    /// Reports that data which these sessions requested from the log may be available.
    pub(super) fn call(&self, writer: usize, sessions: Vec<u32>) {
        if writer < self.inboxes.len() {
            let mut inbox = self.inbox(writer);
            if !inbox.is_closed {
                inbox.calls.extend(sessions);
            }
        }
    }

    /// False if the writer has ended, or if too many orders are queued.
    pub(super) fn order(&self, writer: usize, order: Order) -> bool {
        let mut inbox = self.inbox(writer);
        let is_taken = !inbox.is_closed && inbox.orders.len() < ORDERS_MAX;
        if is_taken {
            inbox.orders.push_back(order);
        }
        is_taken
    }

    /// The next message of a writer. Orders precede feeds.
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
            self.notify_room();
        }
        Some(Next::Feed(feed))
    }

    /// Rejects further messages for a writer, and stops waiting for it.
    pub(super) fn close(&self, writer: usize) {
        *self.inbox(writer) = Inbox { is_closed: true, ..Inbox::default() };
        self.notify_room();
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

    fn notify_room(&self) {
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
    /// Appends a feed. If there is no room for it, the queued entries become gaps; returns the number of lost events.
    /// The feed itself is kept, whatever its size.
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

    /// Replaces the queued events by gaps. Other messages, and their order, stay.
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
    /// Whether one of the measures has reached the limit.
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
    match feed {
        Feed::Batch(entries) => entries.iter().map(Entry::weight).sum(),
        Feed::Assigned(_) | Feed::Topic(_) | Feed::Live { .. } => 0,
    }
}

/// Feeds without their events.
#[derive(Default)]
struct Skipped {
    feeds: VecDeque<Feed>,
    batch: Vec<Entry>,
    /// The index in the batch of each partition's gap, into which further losses are merged.
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
                // The log continues before its range: later losses must not be merged with earlier ones.
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

    /// Merges offsets without records into the preceding gap or hole, so that the inbox stays bounded.
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

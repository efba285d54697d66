//! An eviction queue of connections that wait for their clients, ordered by how long they have waited.
//!
//! A client that neither sends nor reads loses its connection when another one needs it. A client that makes progress
//! moves to the end of the queue. Waiting for anything else (the upstream, a drain) does not count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGauge;
use tokio::sync::Notify;

/// The queue.
#[derive(Debug)]
pub struct Waiting {
    /// The most connections that may wait at a time.
    limit: usize,
    /// The number of connections that wait, in this and in other queues.
    gauge: Option<IntGauge>,
    queue: Mutex<Queue>,
    /// Notified when a connection without a permit no longer waits for one. One task may wait for it.
    moved: Notify,
}

/// Invariants: `by_age` holds at most `limit` entries, and `wanted <= pending`.
#[derive(Debug, Default)]
struct Queue {
    /// The key of the next connection that begins to wait. Keys only grow, so that the first entry has waited longest.
    next: u64,
    /// The connections that wait, and how to evict them.
    by_age: BTreeMap<u64, Arc<Notify>>,
    /// Connections without a permit, which wait for an eviction.
    pending: usize,
    /// How many of them have evicted no connection yet. The next connections that begin to wait are evicted for them.
    wanted: usize,
}

/// A connection's place in the queue; dropping it removes the connection.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Waiting>,
    evicted: Arc<Notify>,
    since: Option<u64>,
}

impl Waiting {
    /// Creates a queue of at most `limit` connections; one more evicts the first.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), gauge: None, queue: Mutex::default(), moved: Notify::new() }
    }

    /// The same, shown by a metric.
    pub fn shown(limit: usize, gauge: IntGauge) -> Self {
        Self { gauge: Some(gauge), ..Self::new(limit) }
    }

    /// A place for a connection that does not wait yet. `evicted` is notified when the connection must close.
    pub fn place(self: &Arc<Self>, evicted: Arc<Notify>) -> Place {
        Place { waiting: self.clone(), evicted, since: None }
    }

    /// Evicts the connection that has waited longest. False if none waits.
    pub fn evict(&self) -> bool {
        self.evict_from(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Evicts a connection for one without a permit: the one that has waited longest, or the next one that begins to
    /// wait. `None` if `pending_max` connections wait for a permit already.
    pub fn make_room(self: &Arc<Self>, pending_max: usize) -> Option<Pending> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.pending >= pending_max {
            return None;
        }
        queue.pending += 1;
        if !self.evict_from(&mut queue) {
            queue.wanted += 1;
        }
        Some(Pending(self.clone()))
    }

    /// Whether connections wait for a permit.
    pub fn has_pending(&self) -> bool {
        self.pending() > 0
    }

    /// Whether a connection waits for a permit that no eviction frees.
    pub fn is_wanted(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).wanted > 0
    }

    /// Waits until fewer than `pending_max` connections wait for a permit.
    pub async fn await_pending_below(&self, pending_max: usize) {
        while self.pending() >= pending_max {
            self.moved.notified().await;
        }
    }

    fn evict_from(&self, queue: &mut Queue) -> bool {
        let Some((_, evicted)) = queue.by_age.pop_first() else { return false };
        evicted.notify_one();
        self.show(-1);
        true
    }

    fn show(&self, change: i64) {
        if let Some(gauge) = &self.gauge {
            gauge.add(change);
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pending
    }
}

/// A connection that waits for a permit, until this is dropped.
#[derive(Debug)]
pub struct Pending(Arc<Waiting>);

impl Drop for Pending {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pending -= 1;
        // A permit may have become free in another way.
        queue.wanted = queue.wanted.min(queue.pending);
        drop(queue);
        self.0.moved.notify_one();
    }
}

impl Place {
    /// Another place of the same connection, which does not wait yet.
    pub fn another(&self) -> Self {
        self.waiting.place(self.evicted.clone())
    }

    /// The connection waits for its client. A connection that waits already keeps its position.
    pub fn wait(&mut self) {
        if self.since.is_some() {
            return;
        }
        let mut queue = self.waiting.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.by_age.len() >= self.waiting.limit {
            self.waiting.evict_from(&mut queue);
        }
        let now = queue.next;
        queue.next += 1;
        queue.by_age.insert(now, self.evicted.clone());
        self.waiting.show(1);
        if queue.wanted > 0 {
            queue.wanted -= 1;
            self.waiting.evict_from(&mut queue);
        }
        self.since = Some(now);
    }

    /// The client made progress.
    pub fn progress(&mut self) {
        let Some(since) = self.since.take() else { return };
        if self.waiting.queue.lock().unwrap_or_else(PoisonError::into_inner).by_age.remove(&since).is_some() {
            self.waiting.show(-1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.progress();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(evicted: &Notify) -> bool {
        use std::future::Future as _;
        let mut notified = std::pin::pin!(evicted.notified());
        notified.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn the_next_connection_that_waits_is_evicted() {
        let waiting = Arc::new(Waiting::new(8));
        let evicted = Arc::new(Notify::new());
        let mut place = waiting.place(evicted.clone());
        let served_otherwise = waiting.make_room(1).unwrap();
        assert!(waiting.make_room(1).is_none(), "the line is full");
        drop(served_otherwise);
        place.wait();
        assert!(!is_evicted(&evicted));
        place.progress();
        let pending = waiting.make_room(1).unwrap();
        assert!(waiting.is_wanted());
        place.wait();
        assert!(is_evicted(&evicted) && waiting.has_pending() && !waiting.is_wanted());
        drop(pending);
    }

    #[test]
    fn an_eviction_ends_one_connection() {
        let waiting = Arc::new(Waiting::new(8));
        let evicted = Arc::new(Notify::new());
        let mut place = waiting.place(evicted.clone());
        place.wait();
        let pending = waiting.make_room(1).unwrap();
        assert!(is_evicted(&evicted) && waiting.has_pending());
        assert!(!waiting.is_wanted(), "connections that end a request meanwhile stay");
        drop(pending);
    }

    #[test]
    fn the_connection_that_has_waited_longest_is_evicted_first() {
        let gauge = IntGauge::new("waiting", "waiting").unwrap();
        let waiting = Arc::new(Waiting::shown(3, gauge.clone()));
        let heard: Vec<Arc<Notify>> = std::iter::repeat_with(Arc::default).take(4).collect();
        let mut places: Vec<_> = heard.iter().map(|evicted| waiting.place(evicted.clone())).collect();
        assert!(!waiting.evict(), "none waits");
        places[..3].iter_mut().for_each(Place::wait);
        places[0].progress();
        places[0].wait();
        places[1].wait();
        assert!(waiting.evict());
        assert_eq!(heard.iter().map(|evicted| is_evicted(evicted)).collect::<Vec<_>>(), [false, true, false, false]);
        places[1].progress();
        places[1].wait();
        places[3].wait();
        assert_eq!((waiting.queue.lock().unwrap().by_age.len(), gauge.get()), (3, 3), "the limit holds");
        assert_eq!(heard.iter().map(|evicted| is_evicted(evicted)).collect::<Vec<_>>(), [false, false, true, false]);
        drop(places);
        assert_eq!((waiting.queue.lock().unwrap().by_age.len(), gauge.get()), (0, 0));
    }
}

//! Connections that wait for their clients, the longest first. Where there is no place for one more, the longest goes.
//!
//! A client that sends nothing, or takes nothing, loses what others need. Whoever makes progress comes last again. What a
//! connection waits for other than its client (the upstream, a drain) does not count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The connections that wait, in the order in which they began to.
#[derive(Debug)]
pub struct Waiting {
    /// How many may wait at a time.
    limit: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
    /// Connections that have no place yet.
    newcomers: usize,
    /// How many of these nobody has gone for: the next ones that begin to wait do.
    wanted: usize,
}

/// One connection's place in the queue; it leaves when this is dropped.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Waiting>,
    evicted: Arc<Notify>,
    since: Option<u64>,
}

impl Waiting {
    /// A queue for so many; one more takes the place of the first.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), queue: Mutex::default() }
    }

    /// A place for a connection that does not wait yet. `evicted` hears that it has to go.
    pub fn place(self: &Arc<Self>, evicted: Arc<Notify>) -> Place {
        Place { waiting: self.clone(), evicted, since: None }
    }

    /// Lets the connection go that has waited longest. False where none waits.
    pub fn evict(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).evict()
    }

    /// Makes room for a connection that has no place: by the one that has waited longest, or the next one that waits. Nothing
    /// where `newcomers_max` stand in line already.
    pub fn make_room(self: &Arc<Self>, newcomers_max: usize) -> Option<Newcomer> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.newcomers >= newcomers_max {
            return None;
        }
        queue.newcomers += 1;
        if !queue.evict() {
            queue.wanted += 1;
        }
        Some(Newcomer(self.clone()))
    }

    /// Whether connections stand in line for a place.
    pub fn has_newcomers(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).newcomers > 0
    }
}

/// A connection that has no place yet, as long as this lives.
#[derive(Debug)]
pub struct Newcomer(Arc<Waiting>);

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.newcomers -= 1;
        // A place may have become free in another way.
        queue.wanted = queue.wanted.min(queue.newcomers);
    }
}

impl Queue {
    fn evict(&mut self) -> bool {
        let first = self.by_age.pop_first();
        first.is_some_and(|(_, evicted)| {
            evicted.notify_one();
            true
        })
    }
}

impl Place {
    /// The connection waits for its client; as long as it has, if it did already.
    pub fn wait(&mut self) {
        if self.since.is_some() {
            return;
        }
        let mut queue = self.waiting.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.by_age.len() >= self.waiting.limit {
            queue.evict();
        }
        let now = queue.next;
        queue.next += 1;
        queue.by_age.insert(now, self.evicted.clone());
        if queue.wanted > 0 {
            queue.wanted -= 1;
            queue.evict();
        }
        self.since = Some(now);
    }

    /// The client did something.
    pub fn progress(&mut self) {
        if let Some(since) = self.since.take() {
            self.waiting.queue.lock().unwrap_or_else(PoisonError::into_inner).by_age.remove(&since);
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
    fn whoever_waits_next_goes_for_a_newcomer() {
        let waiting = Arc::new(Waiting::new(8));
        let evicted = Arc::new(Notify::new());
        let mut place = waiting.place(evicted.clone());
        let served_otherwise = waiting.make_room(1).unwrap();
        assert!(waiting.make_room(1).is_none(), "the line is full");
        drop(served_otherwise);
        place.wait();
        assert!(!is_evicted(&evicted));
        place.progress();
        let newcomer = waiting.make_room(1).unwrap();
        place.wait();
        assert!(is_evicted(&evicted));
        drop(newcomer);
    }

    #[test]
    fn the_longest_without_progress_goes_first() {
        let waiting = Arc::new(Waiting::new(3));
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
        assert_eq!(waiting.queue.lock().unwrap().by_age.len(), 3, "the limit holds");
        assert_eq!(heard.iter().map(|evicted| is_evicted(evicted)).collect::<Vec<_>>(), [false, false, true, false]);
        drop(places);
        assert_eq!(waiting.queue.lock().unwrap().by_age.len(), 0);
    }
}

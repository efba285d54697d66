//! The responses of the service by question: a bounded cache. One request at a time renews an entry.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::lease::Lease;
use super::{Claims, Key, Verdict};

/// The most responses in each of the two generations of the cache.
const ANSWERS_PER_GENERATION: usize = 8192;

/// The cache, with two generations. Entries that are used move into the younger one. When it is full, it becomes the
/// older one, whose entries are dropped.
#[derive(Default)]
pub(super) struct Answers(std::sync::Mutex<Generations>);

#[derive(Default)]
struct Generations {
    younger: HashMap<Key, Arc<Entry>>,
    older: HashMap<Key, Arc<Entry>>,
}

/// The state of one question.
#[derive(Default)]
pub(super) struct Entry {
    /// Held while a request is pending.
    known: tokio::sync::Mutex<Option<Known>>,
    /// For the streams that were opened with this question.
    lease: std::sync::Mutex<Weak<Lease>>,
}

/// A response.
pub(super) struct Known {
    pub(super) verdict: Verdict,
    /// When its request began.
    pub(super) asked: Instant,
    /// When it arrived.
    pub(super) at: Instant,
    /// How long other requests may use it.
    pub(super) until: Instant,
}

impl Answers {
    pub(super) fn entry(&self, key: Key) -> Arc<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key, ANSWERS_PER_GENERATION)
    }
}

impl Generations {
    fn entry(&mut self, key: Key, max: usize) -> Arc<Entry> {
        if let Some(entry) = self.younger.get(&key) {
            return entry.clone();
        }
        if self.younger.len() >= max {
            self.older = std::mem::take(&mut self.younger);
        }
        let entry = self.older.remove(&key).unwrap_or_default();
        self.younger.insert(key, entry.clone());
        entry
    }
}

impl Entry {
    /// The response, once no request is pending.
    pub(super) async fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().await
    }

    /// The lease of streams with these claims: the existing one, or a new one.
    pub(super) fn lease(&self, claims: &Claims, start: impl FnOnce() -> Arc<Lease>) -> Arc<Lease> {
        let mut current = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = current.upgrade().filter(|lease| lease.is_good_for(claims)) {
            return lease;
        }
        let lease = start();
        *current = Arc::downgrade(&lease);
        lease
    }

    /// Withdraws the access of open streams. False if there are none.
    pub(super) fn withdraw_lease(&self) -> bool {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        lease.is_some_and(|lease| lease.revoke())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut answers = Generations::default();
        let key = |n: u8| [n; 32];
        let first = answers.entry(key(0), 4);
        for n in 1..4 {
            answers.entry(key(n), 4);
        }
        assert!(Arc::ptr_eq(&first, &answers.entry(key(0), 4)));
        for n in 10..100 {
            assert!(answers.younger.len() <= 4 && answers.older.len() <= 4);
            assert!(Arc::ptr_eq(&first, &answers.entry(key(0), 4)), "it is used");
            answers.entry(key(n), 4);
        }
        for n in 100..120 {
            answers.entry(key(n), 4);
        }
        assert!(!Arc::ptr_eq(&first, &answers.entry(key(0), 4)), "it was not used");
    }
}

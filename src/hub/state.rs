//! The state of a topic: the newest event of each key, folded from its log.
//!
//! There is one table per topic and key in a process, which all writers share. A source that reads the log from its
//! first record feeds it. A [`Cut`] is the state at one position of every partition: it does not change, whatever the
//! table does meanwhile. Cuts share what they have in common, so that taking one takes constant time.
//!
//! What would be wrong is refused: a table answers only once its log was read up to its end, and not any more once it
//! has exceeded its limit.

mod fold;
#[cfg(test)]
mod fold_tests;

use std::collections::VecDeque;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rpds::RedBlackTreeMapSync;

use self::fold::Fold;
use crate::cursor::TopicPosition;
use crate::event::{Event, Feed, Topic};

/// How long a cut is given to further clients. They receive what came since as changes.
const CUT_SHARED: Duration = Duration::from_secs(2);
/// The most cuts that are kept for clients that are reading them.
const CUTS_MAX: usize = 256;
/// How long a cut is kept.
const CUT_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// The longest key of a state, in bytes: cursors contain it.
const KEY_BYTES_MAX: usize = 1024;

type Entries = RedBlackTreeMapSync<Arc<str>, Arc<Event>>;

/// What a table is folded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    pub topic: Topic,
    /// The declared key by which events are folded.
    pub key: Arc<str>,
    /// The types of the events that delete their key.
    pub deletes: Box<[Box<str>]>,
    /// The most bytes of its events, including those that only its cuts still have.
    pub bytes: usize,
}

/// The state of one topic.
#[derive(Debug)]
pub struct Table {
    config: TableConfig,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    fold: Fold,
    /// The oldest first: at most [`CUTS_MAX`].
    cuts: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    cut: Arc<Cut>,
    taken: Instant,
    /// The bytes that had been replaced when it was taken.
    replaced: u64,
}

/// The state at one position of every partition.
#[derive(Debug)]
pub struct Cut {
    pub position: TopicPosition,
    entries: Entries,
    /// The next offset of each partition after its last change; at least that at the end of reading.
    changed: Vec<i64>,
    /// Records before it that are not events, so that the keys that they changed are unknown.
    pub unreadable: u64,
}

/// Why a table does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoState {
    #[error("the state is still being read from the log")]
    NotRead,
    #[error("the state is larger than its limit, `state.bytes`")]
    TooLarge,
}

/// The size of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub keys: usize,
    /// Without those that only cuts have.
    pub bytes: usize,
    /// Whether it answers.
    pub answers: Result<(), NoState>,
}

impl Table {
    pub fn new(config: TableConfig) -> Self {
        Self { config, inner: Mutex::default() }
    }

    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Applies the output of a source that reads the topic from its first record. `now` limits the age of cuts.
    pub fn feed(&self, feed: &Feed, now: Instant) {
        let mut inner = self.inner();
        inner.fold.feed(feed, &self.config);
        let gone = inner.forget_cuts(self.config.bytes, now);
        drop(inner);
        drop(gone);
    }

    /// The current state, or one of a moment ago.
    ///
    /// # Errors
    ///
    /// The log was not read yet, or the state is too large.
    pub fn cut(&self, now: Instant) -> Result<Arc<Cut>, NoState> {
        let mut inner = self.inner();
        inner.fold.answers()?;
        if let Some(newest) = inner.cuts.back().filter(|kept| inner.gives(kept, now)) {
            return Ok(newest.cut.clone());
        }
        let cut = Arc::new(inner.fold.cut());
        let replaced = inner.fold.replaced;
        inner.cuts.push_back(Kept { cut: cut.clone(), taken: now, replaced });
        let gone = inner.forget_cuts(self.config.bytes, now);
        drop(inner);
        drop(gone);
        Ok(cut)
    }

    /// The current state, which is not kept for clients that continue later.
    ///
    /// # Errors
    ///
    /// The log was not read yet, or the state is too large.
    pub fn current(&self) -> Result<Arc<Cut>, NoState> {
        let inner = self.inner();
        inner.fold.answers().map(|()| Arc::new(inner.fold.cut()))
    }

    /// The cut at these positions, if it is kept.
    pub fn kept(&self, position: &TopicPosition) -> Option<Arc<Cut>> {
        self.inner().cuts.iter().rev().map(|kept| &kept.cut).find(|cut| cut.position == *position).cloned()
    }

    pub fn size(&self) -> Size {
        let inner = self.inner();
        let Fold { entries, bytes, .. } = &inner.fold;
        Size { keys: entries.size(), bytes: *bytes, answers: inner.fold.answers() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether further clients get this cut: it is new, or nothing came since.
    fn gives(&self, kept: &Kept, now: Instant) -> bool {
        now.saturating_duration_since(kept.taken) < CUT_SHARED || kept.cut.position == self.fold.position()
    }

    /// Removes the oldest cuts that are too many, too old, or keep too much that has been replaced. The result is to be
    /// freed without the lock.
    fn forget_cuts(&mut self, bytes_max: usize, now: Instant) -> Vec<Kept> {
        let mut gone = Vec::new();
        while let Some(oldest) = self.cuts.front() {
            let only_here = self.fold.replaced - oldest.replaced;
            let is_too_large = (self.fold.bytes as u64).saturating_add(only_here) > bytes_max as u64 && only_here > 0;
            let is_old = now.saturating_duration_since(oldest.taken) >= CUT_TIME_MAX;
            let is_outdated = oldest.cut.position.epoch != self.fold.position().epoch;
            if !is_too_large && !is_old && !is_outdated && self.cuts.len() <= CUTS_MAX {
                break;
            }
            gone.extend(self.cuts.pop_front());
        }
        gone
    }
}

impl Cut {
    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.size()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest event of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Event>> {
        self.entries.get(key)
    }

    /// Whether a client that has the state at this position has this one.
    pub fn is_unchanged_since(&self, known: &TopicPosition) -> bool {
        let has = |(n, changed): (usize, &i64)| known.next.get(n).is_some_and(|next| next >= changed);
        known.epoch == self.position.epoch && self.changed.iter().enumerate().all(has)
    }

    /// The newest event of each key after this one, in the order of the keys; of these keys alone, which are sorted, if
    /// there are any.
    pub fn after<'a>(
        &'a self,
        key: Option<&'a Arc<str>>,
        only: Option<&'a [Box<str>]>,
    ) -> Box<dyn Iterator<Item = (&'a Arc<str>, &'a Arc<Event>)> + 'a> {
        match only {
            Some(only) => {
                let rest = only.iter().filter(move |one| key.is_none_or(|key| ***one > **key));
                Box::new(rest.filter_map(|one| self.entries.get_key_value(&**one)))
            }
            None => Box::new(self.entries.range((key.map_or(Unbounded, |key| Excluded(key.clone())), Unbounded))),
        }
    }
}

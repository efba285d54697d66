//! The fold: entries of one topic in, the newest event of each key out.
//!
//! Within a partition, the later offset is newer. Compaction requires that a key has one partition, and events of one
//! key are in several only if partitions were added. While the log is read, partitions arrive in no order, so that the
//! times of events decide between them; afterwards the order of arrival does, as for streams.

use std::sync::Arc;

use super::{Cut, Entries, KEY_BYTES_MAX, NoState, TableConfig};
use crate::cursor::TopicPosition;
use crate::event::{Assigned, Entry, Epoch, Event, Feed, GapCause, UNKNOWN_POSITION};
use crate::hub::entry::{after, place};

/// The memory of a key in the tree, in addition to its text and its event.
const KEY_BYTES: usize = 160;
/// The memory of the parts of the tree that a change replaces, while cuts have the earlier ones.
const PATH_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Fold {
    epoch: Epoch,
    /// The next offset of each partition.
    next: Vec<i64>,
    /// The next offset of each partition after the last change of the state; at least that at the end of reading.
    changed: Vec<i64>,
    /// While the log is read, the events that delete their key as well: older ones may follow, from another partition.
    pub(super) entries: Entries,
    /// The memory of the entries: at most the limit.
    pub(super) bytes: usize,
    /// The memory of all entries that were ever replaced.
    pub(super) replaced: u64,
    unreadable: u64,
    is_read: bool,
    is_too_large: bool,
}

impl Fold {
    pub(super) fn feed(&mut self, feed: &Feed, config: &TableConfig) {
        match feed {
            Feed::Assigned(assigned) if assigned.topic == config.topic => self.assign(assigned),
            Feed::Batch(entries) => entries.iter().for_each(|entry| self.take(entry, config)),
            Feed::Live { topics } if topics.contains(&config.topic) && !self.next.is_empty() => {
                self.end_reading(config)
            }
            Feed::Assigned(_) | Feed::Live { .. } | Feed::Topic(_) => {}
        }
    }

    /// # Errors
    ///
    /// The log was not read yet, or the state is too large.
    pub(super) fn answers(&self) -> Result<(), NoState> {
        match (self.is_too_large, self.is_read) {
            (true, _) => Err(NoState::TooLarge),
            (false, false) => Err(NoState::NotRead),
            (false, true) => Ok(()),
        }
    }

    pub(super) fn position(&self) -> TopicPosition {
        TopicPosition { epoch: self.epoch, next: self.next.clone() }
    }

    pub(super) fn cut(&self) -> Cut {
        Cut {
            position: self.position(),
            entries: self.entries.clone(),
            changed: self.changed.clone(),
            unreadable: self.unreadable,
        }
    }

    /// A log that is another one, or is read again, is folded from its start.
    fn assign(&mut self, assigned: &Assigned) {
        let is_other = self.epoch != 0 && assigned.epoch != 0 && self.epoch != assigned.epoch;
        let is_back = |(known, next): (&i64, &i64)| *next != UNKNOWN_POSITION && next < known;
        let is_again = assigned.next.len() < self.next.len() || self.next.iter().zip(&*assigned.next).any(is_back);
        if is_other || is_again {
            *self = Self { replaced: self.replaced, ..Self::default() };
        }
        self.epoch = if assigned.epoch == 0 { self.epoch } else { assigned.epoch };
        for (n, next) in assigned.next.iter().enumerate() {
            self.advance(n, *next);
        }
    }

    fn advance(&mut self, partition: usize, next: i64) {
        if self.next.len() <= partition {
            self.next.resize(partition + 1, UNKNOWN_POSITION);
        }
        self.next[partition] = self.next[partition].max(next);
    }

    fn take(&mut self, entry: &Entry, config: &TableConfig) {
        let (topic, partition, _) = place(entry);
        let Some(n) = usize::try_from(partition).ok().filter(|_| *topic == config.topic) else { return };
        let is_change = match entry {
            Entry::Event(event) => {
                self.fold(event, config);
                event.key(&config.key).is_some()
            }
            Entry::Gap { cause: GapCause::Undecodable | GapCause::Invalid | GapCause::Unreadable, .. } => {
                self.unreadable += 1;
                true
            }
            // The source reads a truncated log again.
            Entry::Gap { cause: GapCause::Truncated, .. } => return,
            Entry::Gap { .. } | Entry::Hole { .. } => false,
        };
        self.advance(n, after(entry));
        if is_change {
            self.changed.resize(self.next.len(), 0);
            self.changed[n] = self.next[n];
        }
    }

    fn fold(&mut self, event: &Arc<Event>, config: &TableConfig) {
        let Some(key) = event.key(&config.key).filter(|_| !self.is_too_large) else { return };
        if key.len() > KEY_BYTES_MAX {
            self.unreadable += 1;
            return;
        }
        if self.entries.get(key).is_some_and(|held| !self.is_newer(event, held)) {
            return;
        }
        if self.is_read && is_delete(event, config) {
            return self.remove(key);
        }
        let key: Arc<str> = key.into();
        self.remove(&key);
        self.bytes += weight(&key, event);
        self.entries.insert_mut(key, event.clone());
        if self.bytes > config.bytes {
            (self.entries, self.bytes, self.is_too_large) = (Entries::default(), 0, true);
        }
    }

    fn is_newer(&self, event: &Event, held: &Event) -> bool {
        event.id.partition == held.id.partition || self.is_read || event.ts >= held.ts
    }

    fn remove(&mut self, key: &str) {
        let Some(bytes) = self.entries.get(key).map(|held| weight(key, held)) else { return };
        self.bytes -= bytes;
        self.replaced += (bytes + PATH_BYTES) as u64;
        self.entries.remove_mut(key);
    }

    fn end_reading(&mut self, config: &TableConfig) {
        let deleted = self.entries.iter().filter(|(_, event)| is_delete(event, config));
        let deleted: Vec<_> = deleted.map(|(key, _)| key.clone()).collect();
        deleted.iter().for_each(|key| self.remove(key));
        // Compaction may have removed deletions: what was known before may have keys that the log does not name any more.
        self.changed.clone_from(&self.next);
        self.is_read = true;
    }
}

fn is_delete(event: &Event, config: &TableConfig) -> bool {
    config.deletes.iter().any(|kind| **kind == *event.kind)
}

fn weight(key: &str, event: &Event) -> usize {
    KEY_BYTES + key.len() + event.weight()
}

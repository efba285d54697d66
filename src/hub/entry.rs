//! Places of entries in a log.

use std::sync::Arc;

use crate::event::{Entry, Event, EventId, GapCause, Topic};

/// The event of an entry, if it is one.
pub(super) fn event_of(entry: &Entry) -> Option<&Arc<Event>> {
    match entry {
        Entry::Event(event) => Some(event),
        Entry::Gap { .. } | Entry::Hole { .. } => None,
    }
}

/// The topic, the partition and the last offset of an entry; for a truncation, the offset before the lost range.
pub fn place(entry: &Entry) -> (&Topic, i32, i64) {
    match entry {
        Entry::Event(event) => (&event.id.topic, event.id.partition, event.id.offset),
        Entry::Gap { cause: GapCause::Truncated, range } => (&range.topic, range.partition, range.from - 1),
        Entry::Gap { range, .. } => (&range.topic, range.partition, range.to),
        Entry::Hole { topic, partition, end } => (topic, *partition, end - 1),
    }
}

/// The position of a client after an entry, in its partition.
pub fn after(entry: &Entry) -> i64 {
    match entry {
        Entry::Event(event) => event.next,
        Entry::Gap { .. } | Entry::Hole { .. } => place(entry).2 + 1,
    }
}

/// The id of the last record that an entry covers.
pub fn last_id(entry: &Entry) -> EventId {
    let (topic, partition, offset) = place(entry);
    EventId { topic: topic.clone(), partition, offset }
}

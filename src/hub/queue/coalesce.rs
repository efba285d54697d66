//! The policy `coalesce`, for streams of states (conflation): of the events of one state, only the newest stays queued.
//! A superseded event is reported as missing, like a dropped one.
//!
//! The state of an event is its topic with the values of its declared keys. Events without keys have no state. A queue
//! that exceeds its limit is coalesced as a whole, and then for every further event, until it is half empty. The whole
//! queue is therefore scanned at most once per half a queue of events.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::mem;
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::event::{Event, Gap, Topic};
use crate::route::QueueLimits;

use super::{Item, Queue};

/// The longest queue that can be coalesced, in events: an event for a full queue is compared with all marks.
pub const COALESCED_EVENTS_MAX: usize = 4096;

/// A short hash of an event's state, which avoids most comparisons of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u16);

/// The state of an event.
type State<'a> = (&'a Topic, &'a [(Arc<str>, Box<str>)]);

impl Mark {
    /// The event has no state, or its mark has not been computed.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of(event: &Event) -> Self {
        let Some(state) = state(event) else { return Self::NONE };
        let mut hasher = FxHasher::default();
        state.hash(&mut hasher);
        Self(hasher.finish() as u16 | 1)
    }
}

impl Queue {
    /// Makes room for an event of this many bytes by removing superseded events, if the queue exceeds its limit or is
    /// in coalesced mode. Returns their number.
    pub(super) fn coalesce(&mut self, event: &Event, bytes: usize, limits: &QueueLimits) -> u64 {
        let is_half_empty = self.events <= limits.events / 2 && self.event_bytes <= limits.bytes / 2;
        self.is_coalesced &= !is_half_empty;
        if self.is_coalesced {
            return self.supersede(event);
        }
        if !self.is_over(bytes, limits) {
            return 0;
        }
        self.is_coalesced = true;
        self.keep_newest(event)
    }

    /// Removes the one queued event of the same state.
    fn supersede(&mut self, newest: &Event) -> u64 {
        let mark = Mark::of(newest);
        let is_it = |item: &Item| match item {
            Item::Event(event, _, its, _) => *its == mark && state(event) == state(newest),
            Item::Gap(_) | Item::Control(_) | Item::Raw(_) => false,
        };
        let Some(found) = self.items.iter().skip(self.on_its_way()).position(is_it).filter(|_| mark != Mark::NONE)
        else {
            return 0;
        };
        self.lose(self.on_its_way() + found);
        1
    }

    /// Removes every queued event that a later one supersedes, and marks the others.
    fn keep_newest(&mut self, newest: &Event) -> u64 {
        let keeps = self.newest_of_each(newest);
        let before = self.events;
        for (item, keep) in mem::take(&mut self.items).into_iter().zip(keeps) {
            match item {
                Item::Event(event, encoding, _, is_live) if keep => {
                    let mark = Mark::of(&event);
                    self.items.push_back(Item::Event(event, encoding, mark, is_live));
                }
                Item::Event(ref event, ref encoding, ..) => {
                    self.forget(&item);
                    self.push_gap(Gap::of_event(event, encoding));
                }
                // Gaps may have become adjacent.
                Item::Gap(gap) => self.push_gap(*gap),
                Item::Control(_) | Item::Raw(_) => self.items.push_back(item),
            }
        }
        (before - self.events) as u64
    }

    /// Whether each item stays: all do, except for events that a later one or the new one supersedes.
    fn newest_of_each(&self, to_come: &Event) -> Vec<bool> {
        // A keyed hash, because users choose the values of keys.
        let mut known: HashSet<State<'_>> = state(to_come).into_iter().collect();
        let first = self.on_its_way();
        let mut keeps = vec![true; self.items.len()];
        for at in (first..self.items.len()).rev() {
            if let Item::Event(event, ..) = &self.items[at] {
                keeps[at] = state(event).is_none_or(|state| known.insert(state));
            }
        }
        keeps
    }
}

fn state(event: &Event) -> Option<State<'_>> {
    (!event.keys.is_empty()).then_some((&event.id.topic, &event.keys))
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;

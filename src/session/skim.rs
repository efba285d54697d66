//! Counts the events of a replay that has more offsets than the limit allows events. Control records and compacted
//! records occupy offsets and are not events.
//!
//! The counted chunks stay in the cache for the replay. Counting stops as soon as the extrapolated total exceeds the
//! limit.

use rustc_hash::FxHashMap;

use crate::event::{Entry, Topic};
use crate::hub::{Lookup, Page, Place, Replay};
use crate::route::Stream;

use super::WriterContext;
use super::log_reading::PARTITIONS_AHEAD;

/// The most chunks that are counted before other tasks run.
const PAGES_PER_TURN: usize = 64;

/// The counts so far, by partition.
#[derive(Debug, Default)]
pub(super) struct Skim(FxHashMap<(Topic, i32), Counted>);

/// The number of events at the offsets `from..next`.
#[derive(Clone, Copy, Debug)]
struct Counted {
    from: i64,
    next: i64,
    events: u64,
}

/// The totals of all partitions.
#[derive(Default)]
struct Sum {
    events: u64,
    /// The number of offsets that were counted, and of those that were not (`left`).
    counted: u64,
    left: u64,
}

impl Skim {
    /// Whether this replay reads at most `limit` events from the log. `None` if chunks had to be requested, or if the
    /// turn has ended.
    pub(super) fn fits(
        &mut self,
        replay: &Replay,
        stream: &Stream,
        limit: u64,
        context: &WriterContext<'_>,
    ) -> Option<bool> {
        let places = replay.places(context.hub, stream);
        for _ in 0..PAGES_PER_TURN {
            match self.sum(&places).judge(limit) {
                Some(fits) => return Some(fits),
                None if !self.count_more(&places, context) => return None,
                None => {}
            }
        }
        None
    }

    /// Counts the next chunk of each partition, and requests those that are not cached. Returns whether any was
    /// counted.
    fn count_more(&mut self, places: &[Place], context: &WriterContext<'_>) -> bool {
        let mut has_counted = false;
        let open = places.iter().filter_map(|place| {
            let next = self.counted(place).next;
            (next < place.until).then(|| Place { offset: next, ..place.clone() })
        });
        let open: Vec<Place> = open.take(PARTITIONS_AHEAD).collect();
        for place in open {
            match context.log.page(&place, context.asker()) {
                Lookup::Found(page) if place.is_in(&page) => {
                    let counted =
                        self.0.entry((place.topic.clone(), place.partition)).or_insert_with(|| Counted::at(&place));
                    counted.take(&page, place.until);
                    has_counted = true;
                }
                Lookup::Found(_) | Lookup::Asked | Lookup::Down | Lookup::Busy => {}
            }
        }
        has_counted
    }

    fn counted(&self, place: &Place) -> Counted {
        let known = self.0.get(&(place.topic.clone(), place.partition));
        known.copied().filter(|known| known.next >= place.offset).unwrap_or_else(|| Counted::at(place))
    }

    fn sum(&self, places: &[Place]) -> Sum {
        places.iter().map(|place| (place, self.counted(place))).fold(Sum::default(), |sum, (place, counted)| Sum {
            events: sum.events + counted.events,
            counted: sum.counted + counted.next.abs_diff(counted.from),
            left: sum.left + u64::try_from(place.until - counted.next).unwrap_or(0),
        })
    }
}

impl Counted {
    fn at(place: &Place) -> Self {
        Self { from: place.offset, next: place.offset, events: 0 }
    }

    fn take(&mut self, page: &Page, until: i64) {
        let offsets = self.next..until;
        let is_new = |entry: &&Entry| matches!(entry, Entry::Event(event) if offsets.contains(&event.id.offset));
        self.events += page.entries.iter().filter(is_new).count() as u64;
        self.next = page.offsets.end.min(until);
    }
}

impl Sum {
    /// Whether the total is within the limit. `None` if this is neither certain nor can be extrapolated.
    fn judge(&self, limit: u64) -> Option<bool> {
        if self.events.saturating_add(self.left) <= limit {
            return Some(true);
        }
        let expected = u128::from(self.left) * u128::from(self.events) / u128::from(self.counted.max(1));
        (self.counted > 0 && u128::from(self.events) + expected > u128::from(limit)).then_some(false)
    }
}

//! Reading the log for a replay: which chunks, and how many of their events.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::event::{Entry, GapCause};
use crate::hub::{Hub, Lookup, Page, Place, Replay, ReplayLimits};
use crate::route::Stream;

use super::WriterContext;

/// The number of partitions whose chunks are requested in advance, so that they are read in parallel, and a late one
/// delays no other. Partitions of unresponsive brokers do not count.
pub(super) const PARTITIONS_AHEAD: usize = 64;
/// How long to wait for the chunk of the oldest partition while others have theirs: partitions stay in step, so that
/// clients with the same start position take the same path and share encodings, unless a partition's leader does not
/// respond.
pub(super) const STEP_WAIT: Duration = Duration::from_millis(250);

/// The remaining budget for reading the log.
#[derive(Debug)]
pub(super) struct Reading {
    events: u64,
    bytes: u64,
    pub(super) until: Instant,
    /// Since when the oldest partition's chunk has been missing.
    waits_since: Option<Instant>,
    /// The chunk in which the last turn ended. The cache may drop it meanwhile.
    pub(super) page: Weak<Page>,
}

impl Reading {
    pub(super) fn new(limits: &ReplayLimits, now: Instant) -> Self {
        Self {
            // Exceeded by the first event beyond the limit: the last one within it may be followed by markers alone.
            events: limits.events.saturating_add(1),
            bytes: limits.bytes,
            until: now + limits.time,
            waits_since: None,
            page: Weak::new(),
        }
    }

    /// The chunk in which the last turn ended, and the offset up to which it is wanted. Until its end, no other is
    /// looked up: a turn takes few of its events.
    pub(super) fn page(&self, hub: &Hub, stream: &Stream, replay: &Replay, now: Instant) -> Option<(Arc<Page>, i64)> {
        let page = self.page.upgrade().filter(|_| now < self.until && !self.is_used_up())?;
        let until = replay.wanted_of(hub, stream, &page)?;
        Some((page, until))
    }

    /// Whether the replay limits of a client are used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.events == 0 || self.bytes == 0
    }

    /// Whether an available chunk may be read now, given the oldest one.
    pub(super) fn may_read(&mut self, place: &Place, first: Option<&Place>, now: Instant) -> bool {
        if first == Some(place) {
            self.waits_since = None;
            return true;
        }
        now.duration_since(*self.waits_since.get_or_insert(now)) >= STEP_WAIT
    }

    /// Counts an entry that was read. Returns its bytes.
    pub(super) fn count(&mut self, entry: &Entry) -> usize {
        let Entry::Event(event) = entry else { return 0 };
        let bytes = event.envelope.len();
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        bytes
    }
}

/// The lookups of the places to read.
pub(super) struct Looked<'a> {
    /// The first one whose chunk is available.
    pub(super) found: Option<(&'a Place, Arc<Page>)>,
    /// The first one whose broker responds.
    pub(super) first: Option<&'a Place>,
    /// Those whose brokers do not respond.
    pub(super) down: Vec<Place>,
}

/// Looks up these places, and requests missing chunks of up to [`PARTITIONS_AHEAD`] partitions; if that has been done,
/// only up to the first available one.
pub(super) fn look_up<'a>(
    places: &'a [Place],
    stream: &Stream,
    replay: &Replay,
    is_asked: bool,
    context: &WriterContext<'_>,
) -> Looked<'a> {
    let (mut looked, mut ahead) = (Looked { found: None, first: None, down: Vec::new() }, 0);
    for place in places {
        let page = context.log.page(place, context.asker());
        if matches!(page, Lookup::Down) {
            looked.down.push(place.clone());
            continue;
        }
        ahead += 1;
        looked.first.get_or_insert(place);
        match page {
            // Otherwise it belongs to another topic of this name, or to a log that ends before what was read here: the
            // hub will be notified of that.
            Lookup::Found(page) if replay.wanted_of(context.hub, stream, &page).is_some() && !is_cut_short(&page) => {
                looked.found.get_or_insert((place, page));
            }
            Lookup::Found(_) | Lookup::Asked | Lookup::Down | Lookup::Busy => {}
        }
        if ahead == PARTITIONS_AHEAD || (is_asked && looked.found.is_some()) {
            break;
        }
    }
    looked
}

/// Whether a chunk reports that its log ended before it.
fn is_cut_short(page: &Page) -> bool {
    matches!(page.entries.first(), Some(Entry::Gap { cause: GapCause::Truncated, .. }))
}
